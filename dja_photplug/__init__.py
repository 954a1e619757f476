"""Photometry on DAWN JWST Archive mosaics with the full, Poisson-inclusive weight.

The names of this package are loaded when they are first used, so that a plugin that imports `hookimpl` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from astropy.io.registry import register_reader
from astropy.nddata import CCDData

__version__ = "0.1.0"

_PUBLIC = {
    "BackgroundOptions": "options",
    "BandOptions": "options",
    "CalibrationOptions": "options",
    "DetectOptions": "options",
    "EpochOptions": "options",
    "ExtendOptions": "options",
    "ExposureLog": "exposurelog",
    "ExposureMap": "variance",
    "GalfitOptions": "options",
    "InjectionOptions": "options",
    "InjectionResult": "injection",
    "MeasureOptions": "options",
    "MosaicFiles": "products",
    "MosaicImage": "image",
    "NoiseCalibration": "calibration",
    "NoiseModel": "variance",
    "Options": "options",
    "OutputOptions": "options",
    "PhotplugError": "errors",
    "PhotplugWarning": "errors",
    "ProductName": "products",
    "Result": "pipeline",
    "SourceFlag": "catalog",
    "VarianceOptions": "options",
    "decode_flags": "catalog",
    "extend_catalog": "extend",
    "find_mosaic": "products",
    "full_weight": "variance",
    "get_plugin_manager": "plugins",
    "hookimpl": "hookspecs",
    "inject": "injection",
    "load_mosaic": "mosaic",
    "read_catalog": "tables",
    "read_exposure_log": "exposurelog",
    "run": "multiband",
    "write_catalog": "catalog",
    "write_eazy": "eazy",
    "write_galfit": "galfit",
    "write_weight": "image",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def _read_dja(*args: Any, **kwargs: Any) -> Any:
    """Read a DJA mosaic for ``CCDData.read(path, format="dja")``; the arguments are those of `load_mosaic`."""
    from dja_photplug.mosaic import load_mosaic

    return load_mosaic(*args, **kwargs)


register_reader("dja", CCDData, _read_dja)
