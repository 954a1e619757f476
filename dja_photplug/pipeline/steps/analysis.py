"""The order of the steps on one image: background, sources, sky, a(r), neighbours, measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pluggy
from astropy.table import QTable, hstack

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.calibration.zones import find_zones_off
from dja_photplug.engines.sep_engine import measure_error_scale
from dja_photplug.errors import PhotplugError
from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import mask_sources, measure_sky
from dja_photplug.light.significance import measure_significance
from dja_photplug.matching.convolution import Kernels
from dja_photplug.matching.kernels import Target, warn_of_residual
from dja_photplug.mosaic.blocks import has_data
from dja_photplug.mosaic.image import MosaicImage, scale_errors, share_image, take_off
from dja_photplug.options.run import Options
from dja_photplug.parallel.scratch import share_plane
from dja_photplug.parallel.tiles import Tile, cut_tiles
from dja_photplug.parallel.workers import Map
from dja_photplug.pipeline.steps.asking import Ask, ask_stand_in
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.pipeline.tiles import detect_in_tiles, measure_in_tiles
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import (
    Detection,
    add_significance,
    center_detection,
    regrid_detection,
    regrid_sources,
    sample_labels,
    shapes_on_grid,
)
from dja_photplug.sources.matched import copy_matched, measure_matched
from dja_photplug.sources.removal import Mask, measure_profiles, remove_neighbours, remove_sky
from dja_photplug.sources.saturated import HOLE_REACH
from dja_photplug.sources.sums.apertures import find_reach
from dja_photplug.sources.sums.planes import Removed

__all__ = ["UNCALIBRATED", "Begin", "analyse_image"]

UNCALIBRATED = "use a larger cut-out, a smaller margin, or the noise preset 'dja'"
"""What to do where a(r) is not known."""

Begin = Callable[[str], object]
"""Called with the name of each stage as it begins."""


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
        Where these are known, they have NaN for errors where a(r) is not, and for all that is measured where no pixel
        has data.

    Raises
    ------
    PhotplugError
        Where no plugin claims the engine, or one fails; where sources are detected and no pixel has data, or the image
        has too little sky to measure a(r).
    """
    manager, options = manager or get_plugin_manager(), options.settle()
    psf = None if psf is None else PSFModel.of(psf)
    tiles = cut_tiles(image.shape, options.tiles.size, options.tiles.overlap)
    image = share_image(image)
    own = detection is None and targets is None
    blank = not own and not has_data(image)  # a band off whose coverage all known sources are
    begin("background")
    background = _find_background(image, options, manager, later=blank or detection is not None)
    if own and options.background.rescale_weights == "yes":
        image = share_image(scale_errors(image, measure_error_scale(image, options.background)))
    if detection is None:
        begin("detecting")
        nothing = _find_nothing(targets, image) if blank and targets is not None else None
        detection = nothing or _find_sources(image, background, tiles, options, manager, parallel)
    else:
        detection = regrid_detection(detection, image.wcs, image.data.shape)
    detection = replace(detection, segmentation=share_plane(detection.segmentation))
    begin("sky")
    unknown = (detection, Removed(), None)
    detection, removed, left = unknown if blank else _find_sky(image, background, detection, options, parallel)
    work = _Work(background, tiles, options, manager, begin, parallel)
    if calibration is None and calibrated and not blank:
        calibration = work.calibrate(image, removed, detection, needed=own)
    blocked = detection
    if targets is not None:
        detection = _adopt_segments(targets, detection)
    removed = work.take_neighbours(image, removed, detection, calibration)
    begin("measuring")
    detection = work.center(image, removed, detection) if own else detection
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
        sky=left,
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

    def calibrate(
        self, image: MosaicImage, removed: Removed, detection: Detection, *, needed: bool = False
    ) -> NoiseCalibration | None:
        """Return a(r), measured off the segments of a detection; None where nobody measures it."""
        planes = {"image": take_off(image, removed), "background": self.background, "detection": detection}
        found = ask_stand_in(self.manager, "photplug_calibrate", NoiseCalibration, self.options, **planes)
        if needed and found and not found[0].known:
            raise PhotplugError(f"{found[0].note}; {UNCALIBRATED}")
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

    def center(self, image: MosaicImage, removed: Removed, detection: Detection) -> Detection:
        """Return sources at the positions that the options ask for."""
        if self.options.measure.positions != "windowed":
            return detection
        return center_detection(detection, image, removed, self.options.measure.window, parallel=self.parallel)

    def measure(
        self,
        image: MosaicImage,
        removed: Removed,
        detection: Detection,
        calibration: NoiseCalibration | None,
        psf: PSFModel | None,
    ) -> QTable:
        """Return the photometry of sources on an image less what is taken off it."""
        ask = Ask("photplug_measure", QTable, self.options, self.manager, stand_in=False)
        scale = pixel_scale(image.wcs)
        reach = find_reach(shapes_on_grid(detection, scale), scale, self.options.measure, growth=psf is not None)
        reach = np.maximum(reach, HOLE_REACH / scale + 2)
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
        raise PhotplugError("an image to be matched to another PSF has no known PSF of its own; give it (psf)")
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


def _find_background(image: MosaicImage, options: Options, manager: pluggy.PluginManager, *, later: bool) -> Background:
    """Return the background, or where sources are known what finds it for a plugin that looks at it."""
    find = partial(Ask("photplug_background", Background, options, manager, stand_in=True), image=image)
    return Background(level=find) if later else find().share()


def _find_sources(
    image: MosaicImage,
    background: Background,
    tiles: Sequence[Tile],
    options: Options,
    manager: pluggy.PluginManager,
    parallel: Map,
) -> Detection:
    """Return the sources of an image, in tiles, or in one piece where options ask for that."""
    find = partial(_detect, Ask("photplug_detect", Detection, options, manager, stand_in=True))
    if options.detect.use_segmentation is not None or options.detect.extraction == "whole":
        return find(image, background)
    return detect_in_tiles(image, background, tiles, options.tiles.overlap, find, parallel)


def _find_sky(
    image: MosaicImage,
    background: Background,
    detection: Detection,
    options: Options,
    parallel: Map,
) -> tuple[Detection, Removed, tuple[float, float] | None]:
    """Return a detection with its significances, what is taken off as sky, and the sky that is left in, by one mask."""
    covered = mask_sources(image, detection.segmentation, pixel_scale(image.wcs), parallel=parallel)
    mask = covered[0]
    if "snr_detect" not in detection.sources.colnames and len(detection.sources):
        edges = find_zones_off(image, mask, parallel=parallel)
        planes = image, background, detection.segmentation, mask, edges
        detection = add_significance(detection, measure_significance(*planes, options.detect, parallel=parallel))
    removed = remove_sky(image, detection.segmentation, options, covered, parallel=parallel)
    left = _measure_rest(image, detection, covered, parallel) if options.measure.background == "none" else None
    return detection, removed, left


def _measure_rest(image: MosaicImage, detection: Detection, covered: Mask, parallel: Map) -> tuple[float, float]:
    """Return the level and the sigma of the sky that photometry leaves in."""
    mask, narrow = covered
    if narrow:  # beside which the wings of sources would pass for sky
        mask, _ = mask_sources(image, detection.segmentation, pixel_scale(image.wcs), least=0, parallel=parallel)
    return measure_sky(image, mask)


def _detect(ask: Ask[Detection], image: MosaicImage, background: Background) -> Detection:
    return ask(image=image, background=background)


def _measure(
    ask: Ask[QTable],
    calibration: NoiseCalibration | None,
    psf: PSFModel | None,
    image: MosaicImage,
    background: Background,
    detection: Detection,
) -> QTable:
    return ask(image=image, background=background, detection=detection, calibration=calibration, psf=psf)


def _find_nothing(targets: Detection, image: MosaicImage) -> Detection:
    """Return that an image without data has no sources."""
    return Detection(sources=targets.sources[:0], segmentation=np.zeros(image.shape, np.int32), wcs=image.wcs)


def _adopt_segments(targets: Detection, detection: Detection) -> Detection:
    """Return positions as the sources of the segments that they lie on; the label of those on none is 0."""
    sources = regrid_sources(targets.sources, targets.wcs, detection.wcs)
    sources["id"] = np.maximum(sample_labels(detection.segmentation, sources), 0)
    return replace(detection, sources=sources)
