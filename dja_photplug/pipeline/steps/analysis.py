"""The order of the steps on one image: background, sources, sky, a(r), neighbours, measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

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
from dja_photplug.mosaic.changes import scale_errors, share_image, take_off
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.run import Options
from dja_photplug.parallel.scratch import share_plane
from dja_photplug.parallel.tiles import Tile, cut_tiles
from dja_photplug.parallel.workers import Map
from dja_photplug.pipeline.steps.asking import Ask, ask_stand_in
from dja_photplug.pipeline.steps.forced import adopt_segments, measure_guests
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
    shapes_on_grid,
)
from dja_photplug.sources.matched import copy_matched, measure_matched
from dja_photplug.sources.removal import measure_profiles, remove_neighbours, remove_sky
from dja_photplug.sources.saturated import HOLE_REACH
from dja_photplug.sources.sums.apertures import find_reach
from dja_photplug.sources.sums.planes import Removed

__all__ = ["UNCALIBRATED", "Begin", "analyse_image"]

UNCALIBRATED = "use a larger cut-out, a smaller margin, or the noise preset 'dja'"
"""What to do where a(r) is not known."""

T = TypeVar("T")
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
    work = _Work(options=options, manager=manager, tiles=tiles, begin=begin, parallel=parallel)
    image = share_image(image)
    own = detection is None and targets is None
    blank = not own and not has_data(image)  # a band off whose coverage all known sources are
    begin("background")
    background = work.find_background(image, later=blank or detection is not None)
    if own and options.background.rescale_weights == "yes":
        image = share_image(scale_errors(image, measure_error_scale(image, options.background)))
    if detection is None:
        begin("detecting")
        nothing = _find_nothing(targets, image) if blank and targets is not None else None
        detection = nothing or work.find_sources(image, background)
    else:
        detection = regrid_detection(detection, image.wcs, image.data.shape)
    detection = replace(detection, segmentation=share_plane(detection.segmentation))
    begin("sky")
    unknown = detection, Removed(), None
    detection, removed, left = unknown if blank else work.find_sky(image, background, detection)
    planes = _Planes(image=image, background=background, removed=removed)
    if calibration is None and calibrated and not blank:
        calibration = work.calibrate(planes, detection, needed=own)
    blocked, host = detection if calibration is not None else None, None
    if targets is not None:
        detection, host = adopt_segments(targets, detection)
    planes = work.take_neighbours(planes, detection, calibration)
    begin("measuring")
    detection = work.center(planes, detection) if own else detection
    measure = partial(work.measure_rows, planes, blocked, calibration, psf, target)
    removed = planes.removed
    catalog = measure(removed, detection) if host is None else measure_guests(removed, detection, host, measure)
    return Result(
        catalog=catalog,
        planes=(image, background),
        detection=detection,
        calibration=calibration,
        options=options,
        psf=psf,
        sky=left,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Planes:
    """What photometry looks at: an image, its background as it was detected, and what is taken off it."""

    image: MosaicImage
    background: Background
    removed: Removed

    @property
    def without(self) -> MosaicImage:
        """The image with what is taken off it."""
        return take_off(self.image, self.removed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """How the steps are done: with which options, by which plugins, and in which tiles."""

    options: Options
    manager: pluggy.PluginManager
    tiles: Sequence[Tile]
    begin: Begin
    parallel: Map

    def _ask(self, hook: str, expected: type[T], *, stand_in: bool) -> Ask[T]:
        return Ask(hook, expected, self.options, self.manager, stand_in=stand_in)

    def find_background(self, image: MosaicImage, *, later: bool) -> Background:
        """Return the background, or where sources are known what finds it for a plugin that looks at it."""
        find = partial(self._ask("photplug_background", Background, stand_in=True), image=image)
        return Background(level=find) if later else find().share()

    def find_sources(self, image: MosaicImage, background: Background) -> Detection:
        """Return the sources of an image, in tiles, or in one piece where options ask for that."""
        find, detect = self._ask("photplug_detect", Detection, stand_in=True), self.options.detect
        if detect.use_segmentation is not None or detect.extraction == "whole":
            return find(image=image, background=background)
        return detect_in_tiles(image, background, self.tiles, self.options.tiles.overlap, find, self.parallel)

    def find_sky(
        self, image: MosaicImage, background: Background, detection: Detection
    ) -> tuple[Detection, Removed, tuple[float, float] | None]:
        """Return a detection with its significances, the sky that is taken off, and what is left in where none is.

        All by one mask of the sources. What is left is the level and the sigma of a pixel.
        """
        options, parallel, scale = self.options, self.parallel, pixel_scale(image.wcs)
        labels = detection.segmentation
        mask, narrow = covered = mask_sources(image, labels, scale, parallel=parallel)
        if "snr_detect" not in detection.sources.colnames and len(detection.sources):
            edges = find_zones_off(image, mask, parallel=parallel)
            planes = image, background, labels, mask, edges
            detection = add_significance(detection, measure_significance(*planes, options.detect, parallel=parallel))
        removed = remove_sky(image, labels, options, covered, parallel=parallel)
        if options.measure.background != "none":
            return detection, removed, None
        if narrow:  # beside which the wings of sources would pass for sky
            mask, _ = mask_sources(image, labels, scale, least=0, parallel=parallel)
        return detection, removed, measure_sky(image, mask)

    def calibrate(self, planes: _Planes, detection: Detection, *, needed: bool = False) -> NoiseCalibration | None:
        """Return a(r), measured off the segments of a detection; None where nobody measures it."""
        given = {"image": planes.without, "background": planes.background, "detection": detection}
        found = ask_stand_in(self.manager, "photplug_calibrate", NoiseCalibration, self.options, **given)
        if needed and found and not found[0].known:
            raise PhotplugError(f"{found[0].note}; {UNCALIBRATED}")
        return found[0] if found else None

    def take_neighbours(self, planes: _Planes, detection: Detection, calibration: NoiseCalibration | None) -> _Planes:
        """Return planes off which is taken what sources add to each other too, where that is asked for."""
        if self.options.measure.neighbours != "subtract":
            return planes
        self.begin("neighbours")
        removed = remove_neighbours(planes.removed, planes.image, detection, self.options, parallel=self.parallel)
        return replace(planes, removed=measure_profiles(removed, planes.image, calibration, parallel=self.parallel))

    def center(self, planes: _Planes, detection: Detection) -> Detection:
        """Return sources at the positions that the options ask for."""
        measure = self.options.measure
        if measure.positions != "windowed":
            return detection
        return center_detection(detection, planes.image, planes.removed, measure.window, parallel=self.parallel)

    def measure(
        self, planes: _Planes, detection: Detection, calibration: NoiseCalibration | None, psf: PSFModel | None
    ) -> QTable:
        """Return the photometry of sources on an image less what is taken off it."""
        scale = pixel_scale(planes.image.wcs)
        reach = find_reach(shapes_on_grid(detection, scale), scale, self.options.measure, growth=psf is not None)
        reach = np.maximum(reach, HOLE_REACH / scale + 2)
        ask = self._ask("photplug_measure", QTable, stand_in=False)
        measure = partial(ask, calibration=calibration, psf=psf)
        return measure_in_tiles(planes.without, planes.background, detection, reach, self.tiles, measure, self.parallel)

    def measure_rows(
        self,
        planes: _Planes,
        blocked: Detection | None,
        calibration: NoiseCalibration | None,
        psf: PSFModel | None,
        target: Target | None,
        removed: Removed,
        detection: Detection,
    ) -> QTable:
        """Return the photometry of sources on an image less this, at the PSF of a target too where there is one."""
        planes = replace(planes, removed=removed)
        catalog = self.measure(planes, detection, calibration, psf)
        if target is None:
            return catalog
        self.begin("matching")
        matched = self.match(planes, detection, catalog, psf, target, blocked)
        return hstack([catalog, matched], metadata_conflicts="silent")

    def match(
        self,
        planes: _Planes,
        detection: Detection,
        native: QTable,
        psf: PSFModel | None,
        target: Target,
        blocked: Detection | None,
    ) -> QTable:
        """Return the columns of sources at the PSF of a target.

        With the photometry of the image as it is, and the sources that are kept off for its a(r); None for no a(r).
        """
        if psf is None:
            raise PhotplugError("an image to be matched to another PSF has no known PSF of its own; give it (psf)")
        if psf.stamps == (target.psf,):
            found = copy_matched(native, self.options)
        else:
            sources = detection.sources.copy(copy_data=False)
            if "kron_radius" in native.colnames:
                sources["kron_radius"] = native["kron_radius"]  # that of the image as it is
            detection = replace(detection, sources=sources, uncleaned=None)
            options = self.options
            if options.measure.neighbours == "subtract":  # they are, by their models as they are in the image as it is
                options = replace(options, measure=replace(options.measure, neighbours="keep"))
            keeping = replace(self, options=options)

            def measure(image: MosaicImage, removed: Removed) -> tuple[QTable, NoiseCalibration | None]:
                matched = replace(planes, image=image, removed=removed)
                calibration = None if blocked is None else keeping.calibrate(matched, blocked)
                return keeping.measure(matched, detection, calibration, None), calibration

            kernels = Kernels.bring(psf, target.psf, planes.image.wcs, target.pixels)
            warn_of_residual(kernels.kernels)
            given = planes.image, planes.removed, detection, native, kernels, options, measure
            found = measure_matched(*given, parallel=self.parallel)
        found.meta["MATCH"] = target.name
        return found


def _find_nothing(targets: Detection, image: MosaicImage) -> Detection:
    """Return that an image without data has no sources."""
    return Detection(sources=targets.sources[:0], segmentation=np.zeros(image.shape, np.int32), wcs=image.wcs)
