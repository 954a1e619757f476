"""The engine ``sep``: background, detection and photometry by Source Extractor's algorithms."""

from __future__ import annotations

from typing import Any

from astropy.table import QTable

from dja_photplug.detection import Background, Detection, detect_sep, mesh_background
from dja_photplug.hookspecs import hookimpl
from dja_photplug.measurement import measure_sep
from dja_photplug.mosaic import MosaicImage
from dja_photplug.options import Options

ENGINE = "sep"


@hookimpl
def photplug_background(image: MosaicImage, options: Options) -> Background | None:
    """Claim the engine ``sep``."""
    return mesh_background(image, options.background) if options.engine == ENGINE else None


@hookimpl
def photplug_detect(image: MosaicImage, background: Background, options: Options) -> Detection | None:
    """Claim the engine ``sep``."""
    return detect_sep(image, background, options) if options.engine == ENGINE else None


@hookimpl
def photplug_measure(image: MosaicImage, detection: Detection, calibration: Any, options: Options) -> QTable | None:
    """Claim the engine ``sep``."""
    return measure_sep(image, detection, calibration, options) if options.engine == ENGINE else None
