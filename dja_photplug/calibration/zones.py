"""Zones of equal depth in a mosaic, and in which one a circle lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from astropy.nddata import NDData
from numpy.typing import NDArray

from dja_photplug.mosaic.blocks import BackgroundVariance, Planes
from dja_photplug.parallel.workers import Map

__all__ = [
    "Blocks",
    "DepthZones",
    "Variance",
    "divide_depths",
    "find_zones",
    "find_zones_off",
    "measure_depths",
    "spread_points",
]

Floats = NDArray[np.float64]
Variance = NDArray[np.floating] | BackgroundVariance
Read = Callable[[slice], tuple[NDArray[np.floating], NDArray[np.bool_]]]


class Blocks(Protocol):
    """Where sources are, and pixels without data."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.bool_]:
        """Return some rows."""


# Points of a circle that tell its depth.
DEPTH_PROBES = 8

# Depth zones: least difference of the means of log10 sigma, and the least part of the area.
ZONE_GAP, ZONE_AREA = 0.05, 0.05

# Depth is that of blocks of this many pixels on a side: single pixels of a shallow place scatter by 0.03 dex, which
# no aperture sees. Where there are more blocks than this, every n-th is enough.
BLOCK, MOST_BLOCKS = 4, 10**6

# Pixels of rows whose blocks are one piece of work.
READ = 2**22

# Bins of log10 sigma.
DEPTH_BIN = 0.002


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthZones:
    """Where which depth zone is.

    Attributes
    ----------
    variance : ndarray or BackgroundVariance
        Of the pixels, (ny, nx).
    edges : ndarray
        Values of it that divide the zones, (zones - 1,), rising.
    """

    variance: Variance
    edges: Floats

    def find(self, places: Floats, radius: float) -> NDArray[np.intp]:
        """Return the zone of each circle, by the mean of points spread over it.

        Parameters
        ----------
        places : ndarray
            Centres, x and y, (n, 2).
        radius : float
            In pixels.

        Returns
        -------
        ndarray
            (n,), 0 for the deepest.
        """
        points = (spread_points(places, radius, i, DEPTH_PROBES, self.variance.shape) for i in range(DEPTH_PROBES))
        depth: Floats = np.mean([self.variance[point] for point in points], axis=0, dtype=float)
        return np.searchsorted(self.edges, depth)


def find_zones(variance: Variance, blocked: Blocks, zones: int | None) -> Floats:
    """Divide the usable pixels of an image into zones of depth.

    Parameters
    ----------
    variance : ndarray or BackgroundVariance
        Of the pixels, (ny, nx).
    blocked : ndarray of bool, or Blocked
        (ny, nx), True for sources and pixels without data.
    zones : int or None
        Number of zones of equal area; None splits by two means as long as the means of log10 sigma differ by more than
        0.05 dex, in parts with at least 5 % of the area. What is less stays in the zone next to it.

    Returns
    -------
    ndarray
        Background variances between the zones, (zones - 1,), rising.
    """
    return divide_depths(measure_depths(partial(_read_blocks, variance, blocked), variance.shape), zones)


def _read_blocks(variance: Variance, blocked: Blocks, rows: slice) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    return variance[rows], blocked[rows]


def find_zones_off(image: NDData, mask: NDArray[np.bool_], *, parallel: Map = map) -> Floats:
    """Divide the pixels of an image off a mask into zones of depth, as many as there are.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    mask : ndarray of bool
        (ny, nx), True where sources are.
    parallel : Map, optional
        Does the work of some rows.

    Returns
    -------
    ndarray
        As of :func:`find_zones`.

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    read = partial(_read_planes, Planes.of(image), mask)
    return divide_depths(measure_depths(read, mask.shape, parallel=parallel), None)


def _read_planes(
    planes: Planes, mask: NDArray[np.bool_], rows: slice
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    return planes[rows].variance("background"), planes[rows].null() | mask[rows]


def measure_depths(read: Read, shape: tuple[int, ...], *, parallel: Map = map) -> Floats:
    """Return the depths of the usable parts of an image, by blocks of pixels over all of it.

    Parameters
    ----------
    read : callable
        Called with some rows: their background variance, and True for the pixels of sources and those without data.
    shape : tuple of int
        Of the image, (ny, nx).
    parallel : Map, optional
        Does the work of some rows, for which `read` must be one that can be pickled.

    Returns
    -------
    ndarray
        Mean background variance of the usable pixels of each block that has some, (n,), row by row.
    """
    step = round(np.sqrt(np.prod(shape) / MOST_BLOCKS)) | 1  # odd: the pattern of drizzling is not
    height, width = (min(BLOCK, n) for n in shape)
    starts = range(0, shape[0] - height + 1, step)
    work = partial(_measure_blocks, read, (height, width), step)
    # Many at a time: the work of one is too little to be shared out.
    together = max(1, READ // (shape[1] * step))
    depth = np.concatenate(list(parallel(work, [starts[i : i + together] for i in range(0, len(starts), together)])))
    return depth[np.isfinite(depth) & (depth > 0)]


def _measure_blocks(read: Read, size: tuple[int, int], step: int, starts: range) -> Floats:
    """Return the depths of the blocks of some rows."""
    # Rows between blocks need not be read; where there are none, all are at once.
    parts = [starts] if step <= size[0] else [starts[i : i + 1] for i in range(len(starts))]
    depths = []
    for part in parts:
        variance, blocked = read(slice(part[0], part[-1] + size[0]))
        rows, columns = (range(0, n - edge + 1, step) for n, edge in zip(blocked.shape, size, strict=True))
        area, total = np.zeros((len(rows), len(columns)), np.int32), np.zeros((len(rows), len(columns)))
        for y, x in np.ndindex(size):  # the same pixel of all blocks: a tenth of the time of sums over each
            place = slice(y, rows[-1] + y + 1, step), slice(x, columns[-1] + x + 1, step)
            usable = ~blocked[place]
            area += usable
            np.add(total, variance[place], out=total, where=usable)
        depths.append(total[area > 0] / area[area > 0])
    return np.concatenate(depths)


def divide_depths(depth: Floats, zones: int | None) -> Floats:
    """Divide depths into zones.

    Parameters
    ----------
    depth : ndarray
        What `measure_depths` gives.
    zones : int or None
        As for :func:`find_zones`.

    Returns
    -------
    ndarray
        As of :func:`find_zones`.
    """
    if len(depth) == 0:
        return np.empty(0)
    if zones is not None:
        return np.quantile(depth, np.arange(1, zones) / zones)
    bins, counts = np.unique(np.rint(0.5 * np.log10(depth) / DEPTH_BIN), return_counts=True)
    return 100.0 ** np.array(_split_depths(DEPTH_BIN * bins, counts.astype(float), ZONE_AREA * len(depth)))


def _split_depths(depth: Floats, area: Floats, least: float) -> list[float]:
    """Return the depths that divide a histogram with area at rising depths into parts of `least` area."""
    if len(depth) < 2:
        return []
    below, total = np.cumsum(area), np.cumsum(area * depth)
    parts = below[:-1], below[-1] - below[:-1]
    gap = (total[-1] - total[:-1]) / parts[1] - total[:-1] / parts[0]
    # The two means whose scatter within is least are those whose scatter between is largest.
    last = int(np.argmax(parts[0] * parts[1] * gap**2))
    if gap[last] <= ZONE_GAP:
        return []
    shallow, deep = (slice(last + 1, None), slice(last + 1))
    if min(part[last] for part in parts) < least:  # a speck: without it the larger part may still fall in two
        larger = deep if parts[0][last] > parts[1][last] else shallow
        return _split_depths(depth[larger], area[larger], least)
    edge = float(depth[last : last + 2].mean())
    first, second = (_split_depths(depth[part], area[part], least) for part in (deep, shallow))
    return [*first, edge, *second]


def spread_points(
    places: Floats, reach: float, i: int, count: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], ...]:
    """Return a point in each circle, of points spread over it by a spiral of golden angles.

    Parameters
    ----------
    places : ndarray
        Centres, x and y, (n, 2), in pixels.
    reach : float
        Radius of the circles.
    i, count : int
        Which of how many points.
    shape : tuple of int
        Of the image.

    Returns
    -------
    tuple of ndarray
        Rows and columns of pixels on the image, (n,) each.
    """
    angle, distance = i * np.pi * (3 - np.sqrt(5)), reach * np.sqrt(i / count)
    offsets = distance * np.sin(angle), distance * np.cos(angle)
    # Axis by axis: as one array of pairs it takes twice as long.
    points = (np.rint(place + offset).astype(int) for place, offset in zip(places.T[::-1], offsets, strict=True))
    return tuple(np.clip(point, 0, n - 1, out=point) for point, n in zip(points, shape, strict=True))
