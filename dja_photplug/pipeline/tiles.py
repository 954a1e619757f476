"""Detection and photometry of large images in tiles, with the result that the whole image at once would give.

A tile is a `MosaicImage` with an overlap, so whoever detects or measures takes it as any other image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.light.cleaning import Uncleaned, Wings
from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import Floats
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.parallel.islands import Islands, Runs, find_boxes
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.parallel.tiles import Tile, find_tiles, join_boxes, make_window, widen
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import Window
from dja_photplug.sources.detection import Detection

__all__ = ["detect_in_tiles", "measure_in_tiles"]

# Pixels at the edge of a tile in which a filter sees that there is nothing beyond it.
RIM = 8


class Detect(Protocol):
    """What finds the sources of a tile."""

    def __call__(self, *, image: MosaicImage, background: Background) -> Detection:
        """Return them."""


class Measure(Protocol):
    """What measures sources on a tile."""

    def __call__(self, *, image: MosaicImage, background: Background, detection: Detection) -> QTable:
        """Return a row for each."""


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
    runs : Runs
        Pixels of their segments, by their places among these sources.
    wings : Wings or None
        For the cleaning of the image, (n,).
    cut : tuple of ndarray
        Of the islands that were asked for and are cut by the edge of the window: boxes (k, 4), and a pixel of each
        (k, 2).
    """

    sources: QTable
    peak: Index
    box: Index
    runs: Runs
    wings: Wings | None
    cut: tuple[Index, Index]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> _Found:
        """Return some of the sources."""
        if chosen.all():
            return self
        number = np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32)
        return replace(
            self,
            sources=self.sources[chosen],
            peak=self.peak[chosen],
            box=self.box[chosen],
            runs=self.runs.rename(number),
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
        Finds the sources of a tile.
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
    return _join(_clean(_drop_doubles(found)), image, parallel)


def _look(image: MosaicImage, background: Background, detect: Detect, view: _View) -> _Found:
    """Return the sources of a window that are asked for and lie within it, and which islands do not."""
    window, corner = view.window, np.array([part.start for part in view.window])
    part = image[window]
    sky = background[window]
    with _telling_memory(window):
        found = detect(image=part, background=sky)
    before = found.uncleaned
    detection = found if before is None or before.cleaned is not found.sources else before
    labels = detection.segmentation
    islands = Islands.of(labels)
    core = make_window(*(np.array([[s.start, s.stop] for s in view.core]) - corner[:, None]).T)
    asked = islands.reach_into(core) if view.seeds is None else islands.hold(view.seeds - corner)
    cut = islands.reach_beyond(_trusted(window, image.shape))
    members = np.divmod(islands.members, labels.shape[1])
    values = np.asarray(part.data)[members] - sky.level[members]
    peak = islands.brightest(np.nan_to_num(values, nan=-np.inf))
    label = np.asarray(detection.sources["id"], np.intp)
    within = (peak[label] >= [s.start for s in core]) & (peak[label] < [s.stop for s in core])
    chosen = (asked & ~cut)[label] & within.all(axis=1)
    number = np.full(len(islands.number), -1, np.int32)
    number[label] = np.arange(len(label))
    box, pixel = islands.sample(asked & cut, core)
    every = _Found(
        sources=_move(detection.sources, corner),
        peak=peak[label] + corner,
        box=islands.box[label] + np.tile(corner, 2),
        runs=islands.runs(corner, image.shape[1]).rename(number),
        wings=detection.wings.move(int(corner[1]), int(corner[0])) if isinstance(detection, Uncleaned) else None,
        cut=(box + np.tile(corner, 2), pixel + corner),
    )
    return every[chosen]


def _move(sources: QTable, corner: Index) -> QTable:
    """Return sources on the pixels of the whole image, given the first row and column of their window."""
    moved = sources.copy()
    for axis, start in zip("yx", corner.tolist(), strict=True):
        moved[axis] += start * u.pix
        for name in (f"{axis}min", f"{axis}max", f"{axis}peak", f"{axis}cpeak"):
            if name in moved.colnames:
                moved[name] += start
    return moved


@contextmanager
def _telling_memory(window: Window) -> Iterator[None]:
    """Say what to do where there is too little memory for a tile."""
    try:
        yield
    except MemoryError as error:
        ny, nx = (part.stop - part.start for part in window)
        told = f" ({error})" if str(error) else ""  # numpy says how much it wanted
        raise PhotplugError(
            f"there is not enough memory for a tile of {nx} x {ny} pixels{told}; use smaller ones (--tile-size), or "
            "fewer --workers"
        ) from None


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


def _join(found: list[_Found], image: MosaicImage, parallel: Map) -> Detection:
    """Return the sources of all tiles in the order of their brightest pixels, and their segments."""
    peak, box = (np.concatenate([getattr(one, name) for one in found]) for name in ("peak", "box"))
    order = np.lexsort((peak[:, 1], peak[:, 0]))
    ids = np.empty(len(order), np.int32)
    ids[order] = np.arange(1, len(order) + 1)
    segmentation = new_plane(image.shape, np.int32)
    numbers = np.split(ids, np.cumsum([len(one.peak) for one in found])[:-1])
    list(parallel(partial(_paint, segmentation), [(one.runs, each) for one, each in zip(found, numbers, strict=True)]))
    full = [one.sources for one in found if len(one.sources)] or [found[0].sources]
    sources = vstack(full, metadata_conflicts="silent")[order] if len(full) > 1 else full[0][order]
    sources["id"] = np.arange(1, len(order) + 1)
    boxes = np.concatenate([np.zeros((1, 4), np.intp), box[order]])
    return Detection(sources=sources, segmentation=segmentation, wcs=image.wcs, boxes=boxes)


def _paint(labels: NDArray[np.int32], part: tuple[Runs, NDArray[np.int32]]) -> None:
    """Write the segments of a tile."""
    runs, number = part
    runs.paint(labels, number)


def measure_in_tiles(
    image: MosaicImage,
    background: Background,
    detection: Detection,
    reach: Floats,
    tiles: Sequence[Tile],
    measure: Measure,
    parallel: Map,
) -> QTable:
    """Return the photometry of sources, each measured in a tile that holds all that is measured of it.

    Parameters
    ----------
    image : MosaicImage
    background : Background
        With what is taken off the whole image.
    detection : Detection
        Of n sources.
    reach : ndarray
        How far from its position anything is measured of each, in pixels, (n,).
    tiles : sequence of Tile
    measure : callable
        Measures sources on a tile.
    parallel : Map

    Returns
    -------
    `~astropy.table.QTable`
        (n,), in the order of the sources.
    """
    parts = list(_share_out(detection, reach, tiles, image.shape))
    tables = list(parallel(partial(_measure, image, background, detection, measure), parts))
    order = np.argsort(np.concatenate([members for members, _ in parts]), kind="stable")
    table = (vstack(tables, metadata_conflicts="silent") if len(tables) > 1 else tables[0])[order]
    for axis in ("x", "y"):
        if axis in table.colnames:  # those of a tile are counted from its corner
            table[axis][:] = detection.sources[axis]
    return table


def _share_out(
    detection: Detection, reach: Floats, tiles: Sequence[Tile], shape: tuple[int, ...]
) -> Iterator[tuple[Index, Window]]:
    """Yield sources, and the window in which they are measured: those of a tile together, larger ones alone."""
    sources = detection.sources
    place = np.column_stack([sources[axis].value for axis in "yx"])
    box = np.column_stack([np.floor(place - reach[:, None]), np.ceil(place + reach[:, None]) + 1])
    segment = find_boxes(detection.segmentation) if detection.boxes is None else detection.boxes
    label = np.asarray(sources["id"], np.intp)
    own = segment[np.where((label > 0) & (label < len(segment)), label, 0)]
    there = own[:, 2] > 0
    box[there, :2], box[there, 2:] = np.minimum(box, own)[there, :2], np.maximum(box, own)[there, 2:]
    size = np.tile(shape, 2)
    box = np.clip(np.nan_to_num(box), 0, size).astype(np.intp)
    of = find_tiles(tiles, place[:, 1], place[:, 0])
    for i, tile in enumerate(tiles):
        members = np.flatnonzero(of == i)
        core = np.array([part.start for part in tile.core] + [part.stop for part in tile.core])
        half = (core[2:] - core[:2]) // 2
        large = np.any(box[members, :2] < core[:2] - half, axis=1) | np.any(box[members, 2:] > core[2:] + half, axis=1)
        large &= np.all(box[members, :2] < box[members, 2:], axis=1)
        for one in members[large] if len(tiles) > 1 else ():
            yield np.array([one]), make_window(box[one, :2], box[one, 2:])
        together = members[~large] if len(tiles) > 1 else members
        if len(together) or i == 0:
            inside = together[np.all(box[together, :2] < box[together, 2:], axis=1)]
            seen = np.concatenate([core[None, :], box[inside]])
            yield together, make_window(seen[:, :2].min(axis=0), seen[:, 2:].max(axis=0))


def _measure(
    image: MosaicImage, background: Background, detection: Detection, measure: Measure, share: tuple[Index, Window]
) -> QTable:
    """Return the photometry of some sources in a window."""
    members, window = share
    whole = len(members) == len(detection.sources) and _is_whole(window, image.shape)
    with _telling_memory(window):
        if whole:
            return measure(image=image, background=background, detection=detection)
        sources = detection.sources[members]
        for axis, span in zip("yx", window, strict=True):
            sources[axis] -= span.start * u.pix
        tile = image[window]
        segmentation = np.ascontiguousarray(detection.segmentation[window])
        part = Detection(sources=sources, segmentation=segmentation, wcs=tile.wcs)
        return measure(image=tile, background=background[window], detection=part)


def _is_whole(window: Window, shape: tuple[int, ...]) -> bool:
    return all(part.start == 0 and part.stop == n for part, n in zip(window, shape, strict=True))
