"""All that a plugin imports, and a stable interface: what is here stays, and changes are announced in CHANGES.md.

Hooks are documented in ``docs/hooks.md``, and ``docs/example_plugin`` is a whole plugin to start from. Names are loaded
when they are first used, so that a plugin does not slow the command line down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.lazy import defer

if TYPE_CHECKING:
    from dja_photplug.calibration.curve import NoiseCalibration as NoiseCalibration
    from dja_photplug.calibration.curve import combine_variance as combine_variance
    from dja_photplug.calibration.measure import ApertureSums as ApertureSums
    from dja_photplug.calibration.measure import calibrate as calibrate
    from dja_photplug.catalog.flags import SourceFlag as SourceFlag
    from dja_photplug.cli.shared import add_command as add_command
    from dja_photplug.cli.shared import check_outputs as check_outputs
    from dja_photplug.cli.shared import find_mosaics as find_mosaics
    from dja_photplug.cli.shared import make_options as make_options
    from dja_photplug.cli.shared import say as say
    from dja_photplug.engines.photutils_engine import PHOTUTILS as PHOTUTILS
    from dja_photplug.engines.sep_engine import SEP as SEP
    from dja_photplug.engines.sep_engine import detect_sep as detect_sep
    from dja_photplug.engines.sep_engine import mesh_background as mesh_background
    from dja_photplug.epochs.log import ExposureLog as ExposureLog
    from dja_photplug.errors import PhotplugError as PhotplugError
    from dja_photplug.errors import PhotplugWarning as PhotplugWarning
    from dja_photplug.files.names import MosaicFiles as MosaicFiles
    from dja_photplug.files.names import Source as Source
    from dja_photplug.fitting.field import FitSources as FitSources
    from dja_photplug.fitting.stamps import Stamp as Stamp
    from dja_photplug.fitting.stamps import cut_stamps as cut_stamps
    from dja_photplug.foreign.schema import CatalogSchema as CatalogSchema
    from dja_photplug.foreign.schema import ShapeColumns as ShapeColumns
    from dja_photplug.hookspecs import hookimpl as hookimpl
    from dja_photplug.light.mesh import Background as Background
    from dja_photplug.light.planes import Shapes as Shapes
    from dja_photplug.mosaic.image import MosaicImage as MosaicImage
    from dja_photplug.mosaic.models.electrons import Header as Header
    from dja_photplug.mosaic.models.exposure import ExposureMap as ExposureMap
    from dja_photplug.mosaic.models.fullweight import NoiseModel as NoiseModel
    from dja_photplug.mosaic.models.fullweight import make_noise_model as make_noise_model
    from dja_photplug.options.commands import GalfitOptions as GalfitOptions
    from dja_photplug.options.declare import Stage as Stage
    from dja_photplug.options.declare import option as option
    from dja_photplug.options.run import Options as Options
    from dja_photplug.outputs.whole import whole_file as whole_file
    from dja_photplug.pipeline.images import load_source as load_source
    from dja_photplug.psf.model import PSF as PSF
    from dja_photplug.psf.regions import PSFModel as PSFModel
    from dja_photplug.sky.grid import Grid as Grid
    from dja_photplug.sky.grid import pixel_scale as pixel_scale
    from dja_photplug.sources.detection import Detection as Detection
    from dja_photplug.sources.empty import calibrate_with as calibrate_with
    from dja_photplug.sources.photometry import measure_with as measure_with
    from dja_photplug.sources.sums.apertures import Engine as Engine
    from dja_photplug.sources.sums.planes import Pixels as Pixels
    from dja_photplug.sources.sums.planes import Sums as Sums
else:
    __getattr__, __dir__, __all__ = defer(__name__)
