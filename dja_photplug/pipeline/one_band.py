"""One image from its pixels to its table: the order in which the hooks are asked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import pluggy
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, hstack

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.kron import kron_circle_radius
from dja_photplug.catalog.schema import describe_columns, dress_table, epoch_columns
from dja_photplug.epochs.log import ExposureLog
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import decode_text
from dja_photplug.files.names import Source
from dja_photplug.light.planes import mask_sources, measure_sky
from dja_photplug.mosaic.electrons import HeaderValue
from dja_photplug.mosaic.image import MosaicImage, replace_planes, share_image, take_off
from dja_photplug.mosaic.load import exposure_log
from dja_photplug.options.stages import ENGINES, Options
from dja_photplug.outputs.whole import hand_out
from dja_photplug.parallel.scratch import share_plane
from dja_photplug.parallel.tiles import Tile, cut_tiles
from dja_photplug.parallel.workers import Map
from dja_photplug.pipeline.images import load_source
from dja_photplug.pipeline.tiles import detect_in_tiles, measure_in_tiles
from dja_photplug.plugins.calls import ask_all, ask_first
from dja_photplug.plugins.manager import get_plugin_manager, has_plugins
from dja_photplug.psf.convolution import Kernels
from dja_photplug.psf.matching import Target, warn_of_residual
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import PSFModel, warn_of_uncovered
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.apertures import Removed, find_reach
from dja_photplug.sources.detection import (
    Background,
    Detection,
    add_significance,
    measure_significance,
    regrid_detection,
    regrid_sources,
    sample_labels,
    shapes_on_grid,
)
from dja_photplug.sources.matched import copy_matched, measure_matched
from dja_photplug.sources.photometry import flag_point_sources
from dja_photplug.sources.removal import measure_profiles, remove_neighbours, remove_sky
from dja_photplug.sources.stars import check_psf

if TYPE_CHECKING:
    from photutils.segmentation import SegmentationImage

__all__ = [
    "Result",
    "analyse_image",
    "describe_image",
    "describe_noise",
    "fill_columns",
    "find_epochs",
    "measure_background_errors",
    "measure_band",
    "remeasure",
    "write_result",
]

T = TypeVar("T")
# Sky in the largest empty aperture, in sigma of independent pixels, that is told where photometry leaves it in. Real
# mosaics and their cut-outs have -1.1 to 1.0, a cluster in WFC3/IR -7.4, simulated ones up to 5.0.
MOST_SKY = 10.0
Begin = Callable[[str], object]
"""Called with the name of each stage as it begins."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What a run made.

    Attributes
    ----------
    catalog : `~astropy.table.QTable`
        One row for each source; the columns of `dja_photplug.catalog.schema.COLUMNS`.
    planes : tuple of MosaicImage and Background, or None
        Of the image that sources were detected on, (ny, nx) in 10 nJy; None where they were not kept.
    detection : Detection
        Sources, and the segmentation (ny, nx) on the grid of that image.
    calibration : NoiseCalibration or None
        a(r) of that image; None where it was not measured.
    options : Options
        With those of plugins.
    source : Source or None
        What that image was loaded from; None for a stack made of the bands, and for an image from elsewhere.
    psf : PSFModel or None
        Of that image.
    """

    catalog: QTable
    planes: tuple[MosaicImage, Background] | None
    detection: Detection
    calibration: NoiseCalibration | None
    options: Options
    source: Source | None = None
    psf: PSFModel | None = None

    @property
    def image(self) -> MosaicImage:
        """The image that sources were detected on."""
        return self._planes()[0]

    @property
    def background(self) -> Background:
        """Its background."""
        return self._planes()[1]

    @property
    def segmentation(self) -> SegmentationImage:
        """Pixels of each source, labelled by its ``id``."""
        from photutils.segmentation import SegmentationImage  # half a second to import

        return SegmentationImage(self.detection.segmentation)

    def _planes(self) -> tuple[MosaicImage, Background]:
        if self.planes is None:
            raise PhotplugError("the detection image was not kept while the bands were measured; run with keep_image")
        return self.planes


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
            f"{log.name}: none of the {len(epochs)} positions is in any of its {len(log)} exposures; is it the log of "
            "another field?",
            PhotplugWarning,
            stacklevel=2,
        )
    specs = epoch_columns(options.epochs.groups)
    if not len(epochs):  # neither FITS nor Parquet takes an empty column of arrays
        specs = tuple(replace(spec, dtype="f8" if spec.dtype == "O" else spec.dtype) for spec in specs)
    dressed = dress_table(dict(epochs.items()), specs)
    dressed.meta.update(epochs.meta)
    return dressed


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
    image = load_source(source, options, manager)
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
    _tell_sky(result)
    _flag_points(result)
    _check_psf(result)
    begin("epochs")
    return replace(result, catalog=_complete_table(result, source, manager))


def _tell_sky(result: Result) -> None:
    """Warn of sky that was left in a mosaic, and that photometry does not take off."""
    measure = result.options.measure
    if measure.background != "none":
        return
    scale, diameter = pixel_scale(result.image.wcs), max(measure.apertures)
    level, sigma = measure_sky(result.image, result.detection.segmentation, scale)
    offset = level / sigma * math.sqrt(math.pi) / 2 * diameter / scale  # the root of the area, times that of a pixel
    if abs(offset) > MOST_SKY:
        warnings.warn(
            f"{result.source}: the sky between the sources is {10 * level:.3g} nJy a pixel, {offset:.0f} sigma in "
            f"empty apertures of {diameter:g} arcsec, and photometry leaves it in; take it off by --sky mesh",
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
    catalog, options, log, epochs = result.catalog, result.options, exposure_log(source), None
    if log is not None:
        epochs = find_epochs(log, SkyCoord(catalog["ra"], catalog["dec"]), options, manager)
    joined = _join(catalog, epochs, result.image, source.band, options, manager)
    joined.meta = describe_image(result, log) | dict(catalog.meta) | ({} if epochs is None else dict(epochs.meta))
    return joined


def analyse_image(
    image: MosaicImage,
    options: Options,
    manager: pluggy.PluginManager | None = None,
    *,
    psf: PSF | PSFModel | None = None,
    detection: Detection | None = None,
    targets: Detection | None = None,
    calibration: NoiseCalibration | None = None,
    calibrated: bool = True,
    target: Target | None = None,
    begin: Begin = lambda stage: None,
    parallel: Map = map,
) -> Result:
    """Detect and measure the sources of an image that is loaded; no epochs, no columns of other plugins.

    Parameters
    ----------
    image : MosaicImage
    options : Options
    manager : PluginManager, optional
        All plugins by default.
    psf : PSF or PSFModel, optional
        Handed to whoever measures.
    detection : Detection, optional
        Sources and segments that are known, on this or another grid, instead of detecting.
    targets : Detection, optional
        Positions, on any grid, to measure instead of the sources; detection and a(r) are as without.
    calibration : NoiseCalibration, optional
        That of an image with the same noise, which saves measuring it again.
    calibrated : bool, optional
        Without it errors are those of the weight alone, as where an image has too little sky to measure a(r).
    target : Target, optional
        The PSF that the image is brought to for the columns of `dja_photplug.catalog.schema.MATCH_COLUMNS`.
    begin : callable, optional
        Called with the name of each stage as it begins.
    parallel : Map, optional
        Who does the tiles of a large image.

    Returns
    -------
    Result
        Without a source. Its catalogue has the columns that the engine measures, a row for each source or target.

    Raises
    ------
    PhotplugError
        Where no plugin claims the engine, or one fails.
    """
    manager, options = manager or get_plugin_manager(), options.settle()
    psf = None if psf is None else PSFModel.of(psf)
    tiles = cut_tiles(image.shape, options.tiles.size, options.tiles.overlap)
    image = share_image(image)
    begin("background")
    background = _ask_engine(manager, "photplug_background", Background, options, image=image)
    background = background.share()
    if detection is None:
        begin("detecting")
        detection = _find_sources(image, background, tiles, options, manager, parallel)
    else:
        detection = regrid_detection(detection, image.wcs, image.data.shape)
    detection = replace(detection, segmentation=share_plane(detection.segmentation))
    begin("sky")
    detection, removed = _find_sky(image, background, detection, options, parallel)
    work = _Work(background, tiles, options, manager, begin, parallel)
    if calibration is None and calibrated:
        calibration = work.calibrate(image, removed, detection)
    blocked = detection
    if targets is not None:
        detection = _adopt_segments(targets, detection)
    removed = work.take_neighbours(image, removed, detection, calibration)
    begin("measuring")
    catalog = work.measure(image, removed, detection, calibration, psf)
    if target is not None:
        begin("matching")
        found = _match(
            work, image, removed, blocked, detection, catalog, psf, target, calibrated=calibration is not None
        )
        catalog = hstack([catalog, found], metadata_conflicts="silent")
    return Result(
        catalog=catalog,
        planes=(image, background),
        detection=detection,
        calibration=calibration,
        options=options,
        psf=psf,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What the photometry of an image takes, whatever its PSF."""

    background: Background
    tiles: Sequence[Tile]
    options: Options
    manager: pluggy.PluginManager
    begin: Begin
    parallel: Map

    def calibrate(self, image: MosaicImage, removed: Removed, detection: Detection) -> NoiseCalibration | None:
        """Return a(r), measured off the segments of a detection; None where nobody measures it."""
        planes = {"image": take_off(image, removed), "background": self.background, "detection": detection}
        found = _ask_stand_in(self.manager, "photplug_calibrate", NoiseCalibration, self.options, **planes)
        return found[0] if found else None

    def take_neighbours(
        self, image: MosaicImage, removed: Removed, detection: Detection, calibration: NoiseCalibration | None
    ) -> Removed:
        """Return what is taken off an image, with what sources add to each other where that is asked for."""
        if self.options.measure.neighbours != "subtract":
            return removed
        self.begin("neighbours")
        removed = remove_neighbours(removed, image, detection, self.options, parallel=self.parallel)
        return measure_profiles(removed, image, calibration, parallel=self.parallel)

    def measure(
        self,
        image: MosaicImage,
        removed: Removed,
        detection: Detection,
        calibration: NoiseCalibration | None,
        psf: PSFModel | None,
    ) -> QTable:
        """Return the photometry of sources on an image less what is taken off it."""
        ask = _Ask("photplug_measure", QTable, self.options, self.manager, stand_in=False)
        scale = pixel_scale(image.wcs)
        reach = find_reach(shapes_on_grid(detection, scale), scale, self.options.measure, growth=psf is not None)
        measure = partial(_measure, ask, calibration, psf)
        without = take_off(image, removed)
        return measure_in_tiles(without, self.background, detection, reach, self.tiles, measure, self.parallel)


def _match(
    work: _Work,
    image: MosaicImage,
    removed: Removed,
    blocked: Detection,
    detection: Detection,
    catalog: QTable,
    psf: PSFModel | None,
    target: Target,
    *,
    calibrated: bool,
) -> QTable:
    """Return the columns of sources at the PSF of a target; `blocked` are those that are kept off for its a(r)."""
    if psf is None:
        raise PhotplugError("an image is brought to another PSF, and its own is not known; give it (psf)")
    if psf.stamps == (target.psf,):
        found = copy_matched(catalog, work.options)
    else:
        sources = detection.sources.copy(copy_data=False)
        if "kron_radius" in catalog.colnames:
            sources["kron_radius"] = catalog["kron_radius"]  # that of the image as it is
        detection = replace(detection, sources=sources, uncleaned=None)
        options = work.options
        if options.measure.neighbours == "subtract":  # they are, by their models as they are in the image as it is
            options = replace(options, measure=replace(options.measure, neighbours="keep"))
        keeping = replace(work, options=options)

        def measure(matched: MosaicImage, without: Removed) -> tuple[QTable, NoiseCalibration | None]:
            found = keeping.calibrate(matched, without, blocked) if calibrated else None
            return keeping.measure(matched, without, detection, found, None), found

        kernels = Kernels.bring(psf, target.psf, image.wcs)
        warn_of_residual(kernels.kernels)
        found = measure_matched(image, removed, detection, catalog, kernels, options, measure, parallel=work.parallel)
    found.meta["MATCH"] = target.name
    return found


def _find_sources(
    image: MosaicImage,
    background: Background,
    tiles: Sequence[Tile],
    options: Options,
    manager: pluggy.PluginManager,
    parallel: Map,
) -> Detection:
    """Return the sources of an image, in tiles; given segments are those of the whole."""
    find = partial(_detect, _Ask("photplug_detect", Detection, options, manager, stand_in=True))
    if options.detect.use_segmentation is not None:
        return find(image, background)
    return detect_in_tiles(image, background, tiles, options.tiles.overlap, find, parallel)


def _find_sky(
    image: MosaicImage, background: Background, detection: Detection, options: Options, parallel: Map
) -> tuple[Detection, Removed]:
    """Return a detection with its significances, and the image less its sky, by one mask of the sources."""
    mask, note = mask_sources(image, detection.segmentation, pixel_scale(image.wcs))
    mask = share_plane(mask)
    if "snr_detect" not in detection.sources.colnames and len(detection.sources):
        planes = image, background, detection.segmentation, mask
        detection = add_significance(detection, measure_significance(*planes, options.detect, parallel=parallel))
    return detection, remove_sky(image, detection.segmentation, options, (mask, note), parallel=parallel)


class _Ask(Generic[T]):
    """A hook to be asked for tiles of an image; in other processes that of the plugins installed there.

    With `stand_in` what sep's engine does is taken where an engine measures alone.
    """

    def __init__(
        self,
        hook: str,
        expected: type[T],
        options: Options,
        manager: pluggy.PluginManager | None,
        *,
        stand_in: bool,
    ) -> None:
        self.hook, self.expected, self.options, self.manager = hook, expected, options, manager
        self.stand_in = stand_in

    def __getstate__(self) -> dict[str, object]:
        """Return what another process gets: all but the manager."""
        return vars(self) | {"manager": None}

    def __call__(self, **arguments: object) -> T:
        """Return the first plugin's result."""
        self.manager = self.manager or get_plugin_manager()
        if self.stand_in:
            return _ask_engine(self.manager, self.hook, self.expected, self.options, **arguments)
        purpose = f"engine {self.options.engine!r}"
        return ask_first(self.manager, self.hook, purpose, self.expected, ENGINES, options=self.options, **arguments)


def _detect(ask: _Ask[Detection], image: MosaicImage, background: Background) -> Detection:
    return ask(image=image, background=background)


def _measure(
    ask: _Ask[QTable],
    calibration: NoiseCalibration | None,
    psf: PSFModel | None,
    image: MosaicImage,
    background: Background,
    detection: Detection,
) -> QTable:
    return ask(image=image, background=background, detection=detection, calibration=calibration, psf=psf)


def _ask_stand_in(
    manager: pluggy.PluginManager, hook: str, expected: type[T], options: Options, **arguments: object
) -> list[T]:
    """Return the first plugin's result, if any; for an engine that measures alone, what sep's does instead of it."""
    found = ask_all(manager, hook, expected, options=options, **arguments)
    if not found and options.engine not in ENGINES and has_plugins(manager, "photplug_measure"):
        found = ask_all(manager, hook, expected, options=replace(options, engine=ENGINES[0]), **arguments)
    return found


def _ask_engine(
    manager: pluggy.PluginManager, hook: str, expected: type[T], options: Options, **arguments: object
) -> T:
    """Return the first plugin's result; for an engine that measures alone, what sep's does instead of it.

    Raises
    ------
    PhotplugError
        Where nobody claims the engine.
    """
    found = _ask_stand_in(manager, hook, expected, options, **arguments)
    if found:
        return found[0]
    return ask_first(manager, hook, f"engine {options.engine!r}", expected, ENGINES, options=options, **arguments)


def _adopt_segments(targets: Detection, detection: Detection) -> Detection:
    """Return positions as the sources of the segments that they lie on; the label of those on none is 0."""
    sources = regrid_sources(targets.sources, targets.wcs, detection.wcs)
    sources["id"] = np.maximum(sample_labels(detection.segmentation, sources), 0)
    return replace(detection, sources=sources)


def _join(
    catalog: QTable,
    epochs: QTable | None,
    image: MosaicImage,
    band: str,
    options: Options,
    manager: pluggy.PluginManager,
) -> QTable:
    """Return the catalogue with its epochs and the columns of other plugins."""
    arguments = {"catalog": catalog, "image": image, "epochs": epochs, "band": band, "options": options}
    extra = ask_all(manager, "photplug_columns", dict, **arguments)
    joined = catalog.copy(copy_data=False)
    for columns in ([dict(epochs.items())] if epochs is not None else []) + list(reversed(extra)):
        for name, column in columns.items():
            if name in joined.colnames:
                raise PhotplugError(f"a plugin gives the column {name!r}, which the catalogue has; rename one")
            joined[name] = column
    return joined


# What the metadata of a catalogue keep of an image that came without a noise model, such as a stack.
_NOISE_CARDS = (
    "NOISE",
    "VARFILE",
    "DETGAIN",
    "GAINFROM",
    "EXPFROM",
    "GROWTH",
    "PHOTSCLE",
    "PHOTSCL1",
    "NFILLED",
    "NNULL",
    "NNOTFIN",
    "NNEGWHT",
)


def describe_noise(image: MosaicImage) -> dict[str, HeaderValue]:
    """Return the cards that say how the weight of an image was made, whoever made it.

    Parameters
    ----------
    image : MosaicImage

    Returns
    -------
    dict
        Value by keyword, such as NOISE, DETGAIN (e-/DN), PHOTSCLE, NFILLED; empty where nobody tells.
    """
    model = {} if image.noise_model is None else image.noise_model.provenance
    cards = {key: value for key, (value, _) in model.items()}
    # The image's own come last: counts of pixels are those of its loading.
    own = {key: image.meta[key] for key in (*_NOISE_CARDS, *cards, "BACKWHT") if key in image.meta}
    return cards | {key: decode_text(value) for key, value in own.items()}


def describe_image(result: Result, log: ExposureLog | None = None) -> dict[str, object]:
    """Return what the image and its calibration add to the metadata: input, noise model, a(r), log.

    Parameters
    ----------
    result : Result
        With its image.
    log : ExposureLog, optional
        Only its name is used.

    Returns
    -------
    dict
        Value by keyword; radii and factors of a(r) are lists.
    """
    return {
        **({} if result.source is None else {"INPUT": str(result.source)}),
        **describe_noise(result.image),
        "EPOCHS": "no WCS log" if log is None else Path(log.name).name,
        **({} if result.calibration is None else result.calibration.metadata()),
    }


def fill_columns(result: Result) -> QTable:
    """Return the catalogue with all columns of the schema, as regions and figures take it.

    What the engine does not measure has the detection's shapes, or is NaN, and 0 for counts and flags.

    Parameters
    ----------
    result : Result

    Returns
    -------
    `~astropy.table.QTable`
        The data of columns that there were are shared with the catalogue.
    """
    table, sources = result.catalog.copy(copy_data=False), result.detection.sources
    for spec in describe_columns(len(result.options.measure.apertures)):
        if spec.name not in table.colnames and spec.name in sources.colnames:
            table[spec.name] = sources[spec.name]
        elif spec.name not in table.colnames:
            empty = np.full(len(table), np.nan if spec.dtype.startswith("f") else 0, dtype=spec.dtype)
            table[spec.name] = empty << u.Unit(spec.unit) if spec.unit else empty
    return table


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
