"""The engine ``photutils``: background, detection and photometry by photutils."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from astropy.table import QTable

    from dja_photplug.calibration.curve import NoiseCalibration
    from dja_photplug.light.mesh import Background
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.options.run import Options
    from dja_photplug.psf.regions import PSFModel
    from dja_photplug.sources.detection import Detection

ENGINE = "photutils"


@hookimpl
def photplug_background(image: MosaicImage, options: Options) -> Background | None:
    """Claim the engine ``photutils``."""
    if options.engine != ENGINE:
        return None
    from dja_photplug.engines.photutils_engine import mesh_background_2d

    return mesh_background_2d(image, options.background)


@hookimpl
def photplug_detect(image: MosaicImage, background: Background, options: Options) -> Detection | None:
    """Claim the engine ``photutils``."""
    if options.engine != ENGINE:
        return None
    from dja_photplug.engines.photutils_engine import detect_photutils

    return detect_photutils(image, background, options)


@hookimpl
def photplug_calibrate(image: MosaicImage, detection: Detection, options: Options) -> NoiseCalibration | None:
    """Claim the engine ``photutils`` and the noise preset ``calibrated``."""
    if options.engine != ENGINE or options.variance.noise != "calibrated":
        return None
    from dja_photplug.engines.photutils_engine import PHOTUTILS
    from dja_photplug.sources.empty import calibrate_with

    return calibrate_with(PHOTUTILS, image, detection, options)


@hookimpl
def photplug_measure(
    image: MosaicImage,
    detection: Detection,
    calibration: NoiseCalibration | None,
    psf: PSFModel | None,
    options: Options,
) -> QTable | None:
    """Claim the engine ``photutils``."""
    if options.engine != ENGINE:
        return None
    from dja_photplug.engines.photutils_engine import PHOTUTILS
    from dja_photplug.sources.photometry import measure_with

    return measure_with(PHOTUTILS, image, detection, calibration, options, psf)
