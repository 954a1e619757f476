"""One band from its files to its table: loaded, analysed, with its epochs and the columns of plugins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from traceback import clear_frames

import numpy as np
import pluggy
from astropy.coordinates import SkyCoord
from astropy.nddata import InverseVariance
from astropy.table import QTable

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.kron import kron_circle_radius
from dja_photplug.catalog.schema import dress_table, epoch_columns
from dja_photplug.epochs.log import ExposureLog, exposure_log
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import Source
from dja_photplug.matching.kernels import Target
from dja_photplug.mosaic.blocks import has_data
from dja_photplug.mosaic.image import MosaicImage, replace_planes
from dja_photplug.options.run import Options
from dja_photplug.options.stages import ENGINES
from dja_photplug.outputs.run import named_files
from dja_photplug.outputs.whole import hand_out
from dja_photplug.parallel.workers import Map
from dja_photplug.pipeline.images import find_grid
from dja_photplug.pipeline.steps.analysis import UNCALIBRATED, Begin, analyse_image
from dja_photplug.pipeline.steps.result import Result, describe_image
from dja_photplug.pipeline.streams import load_unchanged
from dja_photplug.plugins.calls import ask_all, ask_first
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.psf.regions import PSFModel, warn_of_uncovered
from dja_photplug.sky.cutouts import reaches
from dja_photplug.sky.grid import Grid, pixel_scale
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.photometry import flag_point_sources
from dja_photplug.sources.stars import check_psf
from dja_photplug.units import MOSAIC_UNIT

__all__ = [
    "find_epochs",
    "load_there",
    "measure_background_errors",
    "measure_band",
    "naming_image",
    "remeasure",
    "write_result",
]

# Sky in the largest empty aperture, in sigma of independent pixels, that is told where photometry leaves it in. Real
# mosaics and their cut-outs have -1.1 to 1.0, a cluster in WFC3/IR -7.4, simulated ones up to 5.0.
MOST_SKY = 10.0


def find_epochs(log: ExposureLog, coordinates: SkyCoord, options: Options, manager: pluggy.PluginManager) -> QTable:
    """Return the epochs of each position through ``photplug_epochs``, with units and descriptions.

    Parameters
    ----------
    log : ExposureLog
    coordinates : SkyCoord
        (n,).
    options : Options
        Its group ``epochs`` says which columns there are.
    manager : PluginManager

    Returns
    -------
    `~astropy.table.QTable`
        (n,), columns of `dja_photplug.catalog.schema.epoch_columns`, and the metadata of the plugin.

    Raises
    ------
    PhotplugError
        Where a plugin fails.
    """
    arguments = {"log": log, "coordinates": coordinates, "options": options}
    epochs = ask_first(manager, "photplug_epochs", "epochs of positions", QTable, **arguments)
    if len(epochs) and not np.any(epochs["n_exp"]):
        warnings.warn(
            f"{log.name}: none of the {len(epochs)} positions is covered by any of its {len(log)} exposures; is it the "
            "log of another field?",
            PhotplugWarning,
            stacklevel=2,
        )
    specs = epoch_columns(options.epochs.groups)
    if not len(epochs):  # neither FITS nor Parquet takes an empty column of arrays
        specs = tuple(replace(spec, dtype="f8" if spec.dtype == "O" else spec.dtype) for spec in specs)
    dressed = dress_table(dict(epochs.items()), specs)
    dressed.meta.update(epochs.meta)
    return dressed


@contextmanager
def naming_image(options: Options, *names: str) -> Iterator[None]:
    """Let errors begin with the name of the image that is worked on: of several it may be any.

    Parameters
    ----------
    options : Options
    *names : str
        The first is put before a message that has none of them, nor a file that the options name.

    Yields
    ------
    None

    Raises
    ------
    PhotplugError
        As it came, with the name.
    """
    try:
        yield
    except PhotplugError as error:
        known = [*names, *map(str, named_files(options))]
        if not any(name in str(error) for name in known):
            error.args = (f"{names[0]}: {error}",)
        raise


def measure_band(
    source: Source,
    options: Options,
    manager: pluggy.PluginManager,
    *,
    psf: PSFModel | None = None,
    detection: Detection | None = None,
    targets: Detection | None = None,
    target: Target | None = None,
    begin: Begin = lambda stage: None,
    parallel: Map = map,
) -> Result:
    """Load and analyse one band, find the epochs of its sources, and add the columns of plugins.

    Parameters
    ----------
    source : Source
    options : Options
    manager : PluginManager
    psf : PSFModel, optional
        Sets the flag POINT_LIKE, and is handed to whoever measures.
    detection, targets, target, begin, parallel
        As for :func:`analyse_image`.

    Returns
    -------
    Result
        The metadata of its catalogue are those of the band: input, noise model, a(r), log.

    Raises
    ------
    PhotplugError
        Where the input does not allow it or a plugin fails.
    """
    begin("loading")
    own = detection is None and targets is None
    image = load_unchanged(source, options, manager) if own else load_there(source, options, manager)
    with naming_image(options, str(source), source.name):
        result = analyse_image(
            image,
            options,
            manager,
            psf=psf,
            detection=detection,
            targets=targets,
            target=target,
            begin=begin,
            parallel=parallel,
        )
    result = replace(result, source=source)
    if not own:
        _tell_lacking(result)
    _tell_sky(result)
    _flag_points(result)
    _check_psf(result)
    begin("epochs")
    return replace(result, catalog=_complete_table(result, source, manager))


def load_there(source: Source, options: Options, manager: pluggy.PluginManager) -> MosaicImage:
    """Return the image of a band in which sources are known, for those who change no pixels of it.

    Parameters
    ----------
    source : Source
    options : Options
    manager : PluginManager

    Returns
    -------
    MosaicImage
        One pixel without data where the cut-out lies off the mosaic. The whole is read to tell only where nothing but
        its loader, a plugin's, knows its grid, and after that refused the cut-out.

    Raises
    ------
    PhotplugError
        As `dja_photplug.pipeline.images.load_source`.
    """
    grid = source.grid()
    if grid is not None and not reaches(options.cutout, *grid):
        return _make_empty(grid)
    try:
        return load_unchanged(source, options, manager)
    except PhotplugError as error:
        if grid is not None or options.cutout is None:
            raise
        clear_frames(error.__traceback__)  # which hold what was loaded
        grid = _find_grid(source, options, manager)
        if grid is None or reaches(options.cutout, *grid):
            raise
    return _make_empty(grid)


def _find_grid(source: Source, options: Options, manager: pluggy.PluginManager) -> Grid | None:
    """Return the grid of a mosaic whose cut-out was refused; None where the whole cannot be loaded either."""
    with suppress(PhotplugError), warnings.catch_warnings():
        warnings.simplefilter("ignore", PhotplugWarning)  # of pixels that are not used
        return find_grid(source, options, manager)
    return None


def _make_empty(grid: Grid) -> MosaicImage:
    none = np.zeros((1, 1), np.float32)
    planes = {"uncertainty": InverseVariance(none), "mask": none == 0, "background_weight": none}
    return MosaicImage(none, unit=MOSAIC_UNIT, wcs=grid.wcs[:1, :1], **planes)


def _tell_lacking(result: Result) -> None:
    """Warn of a band that says nothing of the sources that are known, or whose errors are not known."""
    catalog, calibration, lacking = result.catalog, result.calibration, ""
    if not has_data(result.image):
        where = "" if result.options.cutout is None else " in the cut-out"
        lacking = f"it has no data{where}: its fluxes are NaN, with the flag NOT_COVERED"
    elif len(catalog) and "flag" in catalog.colnames and np.all(catalog["flag"] & SourceFlag.NOT_COVERED):
        lacking = f"none of the {len(catalog)} positions is on it; is it a mosaic of another field?"
    elif calibration is not None and not calibration.known:
        lacking = f"{calibration.note}: the errors of its fluxes are NaN; {UNCALIBRATED}"
    if lacking:
        warnings.warn(f"{result.source}: {lacking}", PhotplugWarning, stacklevel=3)


def _tell_sky(result: Result) -> None:
    """Warn of sky that was left in a mosaic, and that photometry does not take off."""
    if result.sky is None:
        return
    (level, sigma), scale, diameter = result.sky, pixel_scale(result.image.wcs), max(result.options.measure.apertures)
    offset = level / sigma * math.sqrt(math.pi) / 2 * diameter / scale  # the root of the area, times that of a pixel
    if abs(offset) > MOST_SKY:
        warnings.warn(
            f"{result.source}: the sky between the sources is {10 * level:.3g} nJy per pixel, {offset:.0f} sigma in "
            f"empty apertures of {diameter:g} arcsec, and photometry leaves it in; subtract it with --sky mesh",
            PhotplugWarning,
            stacklevel=2,
        )


def _flag_points(result: Result) -> None:
    """Set the flag POINT_LIKE where there is a PSF, and what it is told by was measured; tell where there is none."""
    catalog, psf = result.catalog, result.psf
    if psf is None:
        return
    places = SkyCoord(catalog["ra"], catalog["dec"])
    warn_of_uncovered(psf, places)
    needed = {"a", "b", "kron_radius", "flux_radius", "flux_auto", "fluxerr_auto", "flag"}
    if needed <= set(catalog.colnames):
        expected = psf.half_light_at(places, kron_circle_radius(catalog, result.options.measure.kron_circle))
        catalog["flag"] |= flag_point_sources(catalog, expected)


def _check_psf(result: Result) -> None:
    """Tell where the stars of the image contradict its PSF, and note how they compare."""
    needed = {"id", "ra", "dec", "x", "y", "flux_radius", "flux_auto", "fluxerr_auto", "flag"}
    if result.psf is not None and needed <= set(result.catalog.colnames):
        planes = (result.image, result.detection.segmentation, result.catalog)
        result.catalog.meta.update(check_psf(result.psf, *planes, str(result.source)))


def _complete_table(result: Result, source: Source, manager: pluggy.PluginManager) -> QTable:
    """Return the table of an analysed image with its epochs, the columns of plugins, and the metadata of its band."""
    catalog, log, epochs = result.catalog, exposure_log(source), None
    if log is not None:
        epochs = find_epochs(log, SkyCoord(catalog["ra"], catalog["dec"]), result.options, manager)
    given = {"catalog": catalog, "image": result.image, "epochs": epochs, "band": source.band}
    extra = ask_all(manager, "photplug_columns", dict, **given, options=result.options)
    joined = catalog.copy(copy_data=False)
    for columns in (*([] if epochs is None else [epochs]), *reversed(extra)):
        for name, column in columns.items():
            if name in joined.colnames:
                raise PhotplugError(f"a plugin gives the column {name!r}, which the catalogue already has; rename one")
            joined[name] = column
    joined.meta = describe_image(result, log) | dict(catalog.meta) | ({} if epochs is None else dict(epochs.meta))
    return joined


def remeasure(result: Result, image: MosaicImage, manager: pluggy.PluginManager | None = None) -> QTable:
    """Measure the sources of a run in another image on the same grid, with the same engine and options.

    Parameters
    ----------
    result : Result
        With its image: background, detection, a(r) and PSF are used as they are.
    image : MosaicImage
        On the grid of the run's image.
    manager : PluginManager, optional
        All plugins by default.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each source, without epochs and the columns of other plugins.

    Raises
    ------
    PhotplugError
        Where no plugin claims the engine, or one fails.
    """
    manager, options = manager or get_plugin_manager(), result.options
    arguments = {"image": image, "detection": result.detection, "calibration": result.calibration, "psf": result.psf}
    arguments |= {"background": result.background, "options": options}
    return ask_first(manager, "photplug_measure", f"engine {options.engine!r}", QTable, ENGINES, **arguments)


def measure_background_errors(result: Result, manager: pluggy.PluginManager | None = None) -> QTable:
    """Measure the sources of a run again, with errors that leave out their photons.

    They are those of the background weight alone, times a(r) where the run was calibrated. Comparing them with those of
    ``result.catalog`` shows what the source photons add.

    Parameters
    ----------
    result, manager
        As for :func:`remeasure`.

    Returns
    -------
    `~astropy.table.QTable`
        As of :func:`remeasure`.

    Raises
    ------
    PhotplugError
        Where the image has no background weight, or was not kept.
    """
    image = result.image
    if image.background_weight is None:
        raise PhotplugError("the image has no background weight to compare with; load a DJA mosaic")
    weight = np.where(image.mask, np.float32(0), image.background_weight)
    return remeasure(result, replace_planes(image, weight=weight), manager)


def write_result(catalog: QTable, path: Path, options: Options, manager: pluggy.PluginManager) -> Path:
    """Write a catalogue through ``photplug_write``.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
    path : Path
        Its suffix is that of a format.
    options : Options
        Its group ``output``, and ``overwrite``.
    manager : PluginManager

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PhotplugError
        Where no plugin writes it, or the file cannot be written.
    """
    with hand_out(path, overwrite=options.overwrite) as handed:
        arguments = {"catalog": catalog, "path": handed, "options": options}
        written = ask_first(manager, "photplug_write", f"writing {path}", Path, **arguments)
    return path.with_name(written.name)
