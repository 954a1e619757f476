"""The hooks: what a plugin may replace or add. Their arguments and results are documented in ``docs/hooks.md``.

A plugin is a module whose functions carry :data:`hookimpl`; it is found through the entry-point group
``dja_photplug``. Arguments that an implementation does not need may be left out of its signature. Of the hooks where
the first result wins, an implementation claims by returning a result, or declines by returning None; plugins from
outside are asked before the built-in ones.
"""

# A specification has a signature and no body.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from argparse import _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    from astropy.coordinates import SkyCoord
    from astropy.io.fits import Header
    from astropy.nddata import NDData
    from astropy.table import Column, QTable

    from dja_photplug.epochs.log import ExposureLog
    from dja_photplug.files.names import MosaicFiles
    from dja_photplug.fitting.stamps import FitSources
    from dja_photplug.mosaic.fullweight import ExposureMap, NoiseModel
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.options.stages import GalfitOptions, Options
    from dja_photplug.sources.calibration import NoiseCalibration
    from dja_photplug.sources.detection import Background, Detection

__all__ = ["PROJECT", "hookimpl"]

PROJECT = "dja_photplug"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of the same name."""


@hookspec(firstresult=True)
def photplug_load(
    source: MosaicFiles | str,
    options: Options,
    variance: Callable[[Header, ExposureMap | None, ExposureLog | None], NoiseModel],
) -> NDData | None:
    """Load a mosaic, with an uncertainty that holds all its noise.

    `source` is a MosaicFiles where the name is a DJA mosaic's, otherwise what the user gave. `variance` asks the
    next hook, so that any loader works with any noise model.

    >>> @hookimpl
    ... def photplug_load(source, options, variance):
    ...     if not str(source).endswith(".asdf"):
    ...         return None
    ...     return read_my_mosaic(source)
    """


@hookspec(firstresult=True)
def photplug_variance(
    header: Header, exposure: ExposureMap | None, log: ExposureLog | None, options: Options
) -> NoiseModel | None:
    """Return the noise model of one image; it is then called for each block of rows.

    >>> class WeightAlone:
    ...     provenance = {"NOISE": ("mine", "the weight alone")}
    ...     def __call__(self, science, weight, rows):
    ...         return weight
    >>> @hookimpl
    ... def photplug_variance(header):
    ...     return WeightAlone() if header.get("TELESCOP") == "HST" else None
    """


@hookspec(firstresult=True)
def photplug_background(image: MosaicImage, options: Options) -> Background | None:
    """Return the background that is taken off for detection.

    >>> @hookimpl
    ... def photplug_background(image, options):
    ...     import numpy as np
    ...     from dja_photplug.sources.detection import Background
    ...     return Background(level=np.zeros_like(image.data))
    """


@hookspec(firstresult=True)
def photplug_detect(image: MosaicImage, background: Background, options: Options) -> Detection | None:
    """Find sources: sky positions and shapes, segmentation, WCS.

    >>> @hookimpl
    ... def photplug_detect(image, background, options):
    ...     if options.engine != "mine":
    ...         return None
    ...     return find_my_sources(image.data - background.level)
    """


@hookspec(firstresult=True)
def photplug_calibrate(
    image: MosaicImage, background: Background, detection: Detection, options: Options
) -> NoiseCalibration | None:
    """Return what scales the background variance of sums over apertures; None for no calibration.

    >>> @hookimpl
    ... def photplug_calibrate(image, background, detection, options):
    ...     return None
    """


@hookspec(firstresult=True)
def photplug_measure(
    image: MosaicImage,
    background: Background,
    detection: Detection,
    calibration: NoiseCalibration | None,
    options: Options,
) -> QTable | None:
    """Measure the detected sources in one image: the photometric columns, a row for each source.

    >>> @hookimpl
    ... def photplug_measure(image, detection, options):
    ...     if options.engine != "mine":
    ...         return None
    ...     return fit_my_profiles(image, detection.sources)
    """


@hookspec(firstresult=True)
def photplug_epochs(log: ExposureLog, coordinates: SkyCoord, options: Options) -> QTable | None:
    """Return the epochs of the exposures that saw each position.

    >>> @hookimpl
    ... def photplug_epochs(log, coordinates):
    ...     return log.epochs(coordinates)
    """


@hookspec(firstresult=True)
def photplug_galfit(image: MosaicImage, sources: FitSources, options: GalfitOptions) -> list[Path] | None:
    """Write what a fitting code needs of the selected sources; asked once for an image.

    `options.format` is the code, `options.directory` the folder.

    >>> @hookimpl
    ... def photplug_galfit(image, sources, options):
    ...     if options.format != "mine":
    ...         return None
    ...     from dja_photplug.fitting.stamps import cut_stamps
    ...     return [write_mine(stamp, options.directory) for stamp in cut_stamps(image, sources, options)]
    """


@hookspec(firstresult=True)
def photplug_write(catalog: QTable, path: Path, options: Options) -> Path | None:
    """Write the catalogue in the format that the name's suffix asks for.

    >>> @hookimpl
    ... def photplug_write(catalog, path, options):
    ...     if path.suffix != ".xml":
    ...         return None
    ...     catalog.write(path, format="votable", overwrite=options.overwrite)
    ...     return path
    """


@hookspec
def photplug_columns(
    catalog: QTable, image: MosaicImage, epochs: QTable | None, band: str, options: Options
) -> dict[str, Column]:
    """Return more columns for the catalogue; asked once for each band, while its image is held.

    All plugins are asked, and their columns join. With several bands the pipeline puts the band before the names.

    >>> @hookimpl
    ... def photplug_columns(catalog):
    ...     return {"snr_auto": catalog["flux_auto"] / catalog["fluxerr_auto"]}
    """


@hookspec
def photplug_register_commands(subparsers: _SubParsersAction) -> None:
    """Add commands to ``dja-photplug``; a command sets ``run``, which takes the parsed arguments.

    >>> @hookimpl
    ... def photplug_register_commands(subparsers):
    ...     parser = subparsers.add_parser("hello", help="greet the mosaic")
    ...     parser.set_defaults(run=lambda arguments: print("hello"))
    """
