"""Photometry on DAWN JWST Archive mosaics with the full, Poisson-inclusive weight.

The names of this package are loaded when they are first used, so that a plugin that imports `hookimpl` stays light.
Plugins import from `dja_photplug.plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.lazy import defer, when_imported

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dja_photplug.archive.fetch import fetch as fetch
    from dja_photplug.calibration.curve import NoiseCalibration as NoiseCalibration
    from dja_photplug.catalog.eazy import write_eazy as write_eazy
    from dja_photplug.catalog.flags import SourceFlag as SourceFlag
    from dja_photplug.catalog.flags import decode_flags as decode_flags
    from dja_photplug.catalog.lephare import write_lephare as write_lephare
    from dja_photplug.epochs.log import ExposureLog as ExposureLog
    from dja_photplug.epochs.log import read_exposure_log as read_exposure_log
    from dja_photplug.errors import PhotplugError as PhotplugError
    from dja_photplug.errors import PhotplugWarning as PhotplugWarning
    from dja_photplug.files.names import MosaicFiles as MosaicFiles
    from dja_photplug.files.names import ProductName as ProductName
    from dja_photplug.files.names import Source as Source
    from dja_photplug.files.names import find_mosaic as find_mosaic
    from dja_photplug.files.tables.read import read_catalog as read_catalog
    from dja_photplug.files.tables.write import write_catalog as write_catalog
    from dja_photplug.hookspecs import hookimpl as hookimpl
    from dja_photplug.injection.run import InjectionResult as InjectionResult
    from dja_photplug.injection.run import inject as inject
    from dja_photplug.mosaic.image import MosaicImage as MosaicImage
    from dja_photplug.mosaic.models.exposure import ExposureMap as ExposureMap
    from dja_photplug.mosaic.models.fullweight import NoiseModel as NoiseModel
    from dja_photplug.mosaic.weights import write_weight as write_weight
    from dja_photplug.options.commands import ExtendOptions as ExtendOptions
    from dja_photplug.options.commands import GalfitOptions as GalfitOptions
    from dja_photplug.options.commands import InjectionOptions as InjectionOptions
    from dja_photplug.options.commands import PSFOptions as PSFOptions
    from dja_photplug.options.presets import LIKE_DJA as LIKE_DJA
    from dja_photplug.options.run import Options as Options
    from dja_photplug.options.stages import BackgroundOptions as BackgroundOptions
    from dja_photplug.options.stages import BandOptions as BandOptions
    from dja_photplug.options.stages import CalibrationOptions as CalibrationOptions
    from dja_photplug.options.stages import DetectOptions as DetectOptions
    from dja_photplug.options.stages import EpochOptions as EpochOptions
    from dja_photplug.options.stages import MeasureOptions as MeasureOptions
    from dja_photplug.options.stages import OutputOptions as OutputOptions
    from dja_photplug.options.stages import TileOptions as TileOptions
    from dja_photplug.options.stages import VarianceOptions as VarianceOptions
    from dja_photplug.pipeline.catalog import run as run
    from dja_photplug.pipeline.extend import extend_catalog as extend_catalog
    from dja_photplug.pipeline.galfit import write_galfit as write_galfit
    from dja_photplug.pipeline.images import full_weight as full_weight
    from dja_photplug.pipeline.images import load_mosaic as load_mosaic
    from dja_photplug.pipeline.steps.result import Result as Result
    from dja_photplug.plugins.manager import get_plugin_manager as get_plugin_manager
    from dja_photplug.psf.model import PSF as PSF
    from dja_photplug.psf.regions import PSFModel as PSFModel
    from dja_photplug.psf.regions import read_psf_model as read_psf_model
    from dja_photplug.psf.regions import write_psf_model as write_psf_model
    from dja_photplug.reports.make import report as report
    from dja_photplug.sources.stars import psf_from_stars as psf_from_stars
    from dja_photplug.surveys.cutouts import Cutouts as Cutouts
    from dja_photplug.surveys.cutouts import cutouts as cutouts
    from dja_photplug.surveys.run import survey as survey
else:
    __getattr__, __dir__, __all__ = defer(__name__)


def _register_reader() -> None:
    """Let ``CCDData.read(path, format="dja")`` read mosaics; the arguments are those of `load_mosaic`."""
    from astropy.io.registry import register_reader
    from astropy.nddata import CCDData

    def read_mosaic(*args: object, **kwargs: object) -> CCDData:
        from dja_photplug.pipeline.images import load_mosaic

        return load_mosaic(*args, **kwargs)  # type: ignore[arg-type]  # checked there

    register_reader("dja", CCDData, read_mosaic)


# It takes half a second to import CCDData, and the help of the command line does without.
when_imported("astropy.nddata", _register_reader)
