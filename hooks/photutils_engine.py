"""The engine ``photutils``: background, detection and photometry by photutils."""

from __future__ import annotations

from astropy.table import QTable

from dja_photplug.hookspecs import hookimpl
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.stages import Options
from dja_photplug.sources.calibration import NoiseCalibration
from dja_photplug.sources.detection import Background, Detection
from dja_photplug.sources.photutils_engine import (
    calibrate_photutils,
    detect_photutils,
    measure_photutils,
    mesh_background_2d,
)

ENGINE = "photutils"


@hookimpl
def photplug_background(image: MosaicImage, options: Options) -> Background | None:
    """Claim the engine ``photutils``."""
    return mesh_background_2d(image, options.background) if options.engine == ENGINE else None


@hookimpl
def photplug_detect(image: MosaicImage, background: Background, options: Options) -> Detection | None:
    """Claim the engine ``photutils``."""
    return detect_photutils(image, background, options) if options.engine == ENGINE else None


@hookimpl
def photplug_calibrate(image: MosaicImage, detection: Detection, options: Options) -> NoiseCalibration | None:
    """Claim the engine ``photutils`` and the noise preset ``calibrated``."""
    if options.engine != ENGINE or options.variance.noise != "calibrated":
        return None
    return calibrate_photutils(image, detection, options)


@hookimpl
def photplug_measure(
    image: MosaicImage, detection: Detection, calibration: NoiseCalibration | None, options: Options
) -> QTable | None:
    """Claim the engine ``photutils``."""
    return measure_photutils(image, detection, calibration, options) if options.engine == ENGINE else None
