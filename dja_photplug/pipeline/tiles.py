"""Detection and photometry of large images in tiles, with the result that the whole image at once would give.

A tile is a `MosaicImage` with an overlap, so whoever detects or measures takes it as any other image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack
from numpy.typing import NDArray

from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.parallel.islands import Islands
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.parallel.tiles import Tile, join_boxes, make_window, widen
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import Window
from dja_photplug.sources.cleaning import Wings
from dja_photplug.sources.detection import Background, Detection

__all__ = ["detect_in_tiles"]

# Pixels at the edge of a tile in which a filter sees that there is nothing beyond it.
RIM = 8

Detect = Callable[[MosaicImage, Background], Detection]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _View:
    """What is asked of a window: sources whose brightest pixel is in its core, or those of the islands with `seeds`."""

    window: Window
    core: Window
    seeds: Index | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """Sources of a window, on the pixels of the whole image.

    Attributes
    ----------
    sources : `~astropy.table.QTable`
        Columns of a `Detection`, (n,).
    peak : ndarray
        Row and column of the brightest pixel of each, (n, 2).
    box : ndarray
        First row and column, and those after the last ones, (n, 4).
    pixels : ndarray
        Flat numbers of the pixels of their segments, (m,).
    owner : ndarray of int32
        Which source they are of, (m,).
    wings : Wings or None
        For the cleaning of the image, (n,).
    cut : tuple of ndarray
        Of the islands that were asked for and are cut by the edge of the window: boxes (k, 4), and a pixel of each
        (k, 2).
    """

    sources: QTable
    peak: Index
    box: Index
    pixels: Index
    owner: NDArray[np.int32]
    wings: Wings | None
    cut: tuple[Index, Index]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> _Found:
        """Return some of the sources."""
        if chosen.all():
            return self
        number = np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32)
        owner = number[self.owner]
        return replace(
            self,
            sources=self.sources[chosen],
            peak=self.peak[chosen],
            box=self.box[chosen],
            pixels=self.pixels[owner >= 0],
            owner=owner[owner >= 0],
            wings=None if self.wings is None else self.wings[chosen],
        )


def detect_in_tiles(
    image: MosaicImage, background: Background, tiles: Sequence[Tile], overlap: int, detect: Detect, parallel: Map
) -> Detection:
    """Return the sources of an image, found in its tiles.

    Parameters
    ----------
    image : MosaicImage
    background : Background
    tiles : sequence of Tile
    overlap : int
        Pixels by which windows are widened where sources do not fit into their tile.
    detect : callable
        ``(image, background) -> Detection``, of a tile.
    parallel : Map

    Returns
    -------
    Detection
        A source belongs to the tile with its brightest pixel; one that the edge of a tile cuts, or whose blend it cuts,
        is found again in a larger window. Ids rise by row, then column, of the brightest pixels: the same for any
        tiles.
    """
    look = partial(_look, image, background, detect)
    found: list[_Found] = []
    views = [_View(window=tile.window, core=tile.core) for tile in tiles]
    while views:
        more = list(parallel(look, views))
        found += more
        views = _view_cut([one.cut for one in more], overlap, image.shape)
    return _join(_clean(_drop_doubles(found)), image)


def _look(image: MosaicImage, background: Background, detect: Detect, view: _View) -> _Found:
    """Return the sources of a window that are asked for and lie within it, and which islands do not."""
    window, corner = view.window, np.array([part.start for part in view.window])
    part = image[window]
    level = background.level[window]
    whole = detect(part, Background(level=level))
    detection = whole.uncleaned or whole
    labels = detection.segmentation
    islands = Islands.of(labels)
    core = make_window(*(np.array([[s.start, s.stop] for s in view.core]) - corner[:, None]).T)
    asked = islands.reach_into(core) if view.seeds is None else islands.hold(view.seeds - corner)
    cut = islands.reach_beyond(_trusted(window, image.shape))
    values = (part.data - level).ravel()[islands.members]
    peak = islands.brightest(np.nan_to_num(values, nan=-np.inf))
    label = np.asarray(detection.sources["id"], np.intp)
    within = (peak[label] >= [s.start for s in core]) & (peak[label] < [s.stop for s in core])
    chosen = (asked & ~cut)[label] & within.all(axis=1)
    sources = detection.sources.copy()
    for name, start in zip("yx", corner, strict=True):
        sources[name] += start * u.pix
    number = np.full(len(islands.number), -1, np.int32)
    number[label] = np.arange(len(label))
    owner = number[islands.owner]
    row, column = np.divmod(islands.members[owner >= 0], labels.shape[1])
    box, pixel = islands.sample(asked & cut, core)
    every = _Found(
        sources=sources,
        peak=peak[label] + corner,
        box=islands.box[label] + np.tile(corner, 2),
        pixels=(row + corner[0]) * image.shape[1] + column + corner[1],
        owner=owner[owner >= 0],
        wings=None if whole.uncleaned is None else whole.uncleaned.wings.move(int(corner[1]), int(corner[0])),
        cut=(box + np.tile(corner, 2), pixel + corner),
    )
    return every[chosen]


def _trusted(window: Window, shape: tuple[int, ...]) -> Window:
    """Return the pixels of a window that are as in the whole image, counted from its own corner."""
    rows, columns = (
        slice(RIM if part.start else 0, part.stop - part.start - (RIM if part.stop < n else 0))
        for part, n in zip(window, shape, strict=True)
    )
    return rows, columns


def _view_cut(cut: Sequence[tuple[Index, Index]], overlap: int, shape: tuple[int, ...]) -> list[_View]:
    """Return wider windows for islands that were cut, one for those that overlap."""
    boxes = np.concatenate([box for box, _ in cut])
    seeds = np.concatenate([pixel for _, pixel in cut])
    views = []
    for chosen in join_boxes(boxes):
        low, high = boxes[chosen, :2].min(axis=0), boxes[chosen, 2:].max(axis=0)
        window = widen(make_window(low, high), overlap, shape)
        views.append(_View(window=window, core=window, seeds=seeds[chosen]))
    return views


def _drop_doubles(found: list[_Found]) -> list[_Found]:
    """Return what was found, each source once, by its brightest pixel."""
    peak = np.concatenate([one.peak for one in found])
    _, first = np.unique(peak, axis=0, return_index=True)
    kept = np.zeros(len(peak), bool)
    kept[first] = True
    return _choose(found, kept)


def _clean(found: list[_Found]) -> list[_Found]:
    """Return what was found, cleaned as a whole where that was asked for."""
    wings = [one.wings for one in found if one.wings is not None]
    return _choose(found, Wings.join(wings).stand_out()) if wings else found


def _choose(found: list[_Found], kept: NDArray[np.bool_]) -> list[_Found]:
    parts = np.split(kept, np.cumsum([len(one.peak) for one in found])[:-1])
    return [one[part] for one, part in zip(found, parts, strict=True)]


def _join(found: list[_Found], image: MosaicImage) -> Detection:
    """Return the sources of all tiles in the order of their brightest pixels, and their segments."""
    peak = np.concatenate([one.peak for one in found])
    order = np.lexsort((peak[:, 1], peak[:, 0]))
    ids = np.empty(len(order), np.int32)
    ids[order] = np.arange(1, len(order) + 1)
    segmentation = new_plane(image.shape, np.int32)
    start = 0
    for one in found:
        segmentation.ravel()[one.pixels] = ids[start : start + len(one.peak)][one.owner]
        start += len(one.peak)
    full = [one.sources for one in found if len(one.sources)] or [found[0].sources]
    sources = vstack(full, metadata_conflicts="silent")[order] if len(full) > 1 else full[0][order]
    sources["id"] = np.arange(1, len(order) + 1)
    return Detection(sources=sources, segmentation=segmentation, wcs=image.wcs)
