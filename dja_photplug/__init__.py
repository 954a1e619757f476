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
    "BackgroundOptions": "options.stages",
    "BandOptions": "options.stages",
    "CalibrationOptions": "options.stages",
    "DetectOptions": "options.stages",
    "EpochOptions": "options.stages",
    "ExtendOptions": "options.stages",
    "ExposureLog": "epochs.log",
    "ExposureMap": "mosaic.fullweight",
    "GalfitOptions": "options.stages",
    "InjectionOptions": "options.stages",
    "InjectionResult": "pipeline.injection",
    "MeasureOptions": "options.stages",
    "MosaicFiles": "files.names",
    "MosaicImage": "mosaic.image",
    "NoiseCalibration": "sources.calibration",
    "NoiseModel": "mosaic.fullweight",
    "Options": "options.stages",
    "OutputOptions": "options.stages",
    "PhotplugError": "errors",
    "PhotplugWarning": "errors",
    "ProductName": "files.names",
    "Result": "pipeline.one_band",
    "SourceFlag": "catalog.flags",
    "VarianceOptions": "options.stages",
    "decode_flags": "catalog.flags",
    "extend_catalog": "pipeline.extend",
    "find_mosaic": "files.names",
    "full_weight": "mosaic.fullweight",
    "get_plugin_manager": "pipeline.plugins",
    "hookimpl": "hookspecs",
    "inject": "pipeline.injection",
    "load_mosaic": "mosaic.load",
    "read_catalog": "files.tables",
    "read_exposure_log": "epochs.log",
    "run": "pipeline.catalog",
    "write_catalog": "files.tables",
    "write_eazy": "catalog.eazy",
    "write_galfit": "fitting.select",
    "write_weight": "mosaic.image",
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
    from dja_photplug.mosaic.load import load_mosaic

    return load_mosaic(*args, **kwargs)


register_reader("dja", CCDData, _read_dja)
