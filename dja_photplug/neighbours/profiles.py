"""Profiles of sources in rings of elliptical radius, measured and drawn on stamps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dja_photplug.light.planes import Floats, Shapes
from dja_photplug.neighbours.stamps import FINE, Image, Index, Stamps, batch_stamps, cut_stamps, touches

__all__ = [
    "GROWTH",
    "Profiles",
    "evaluate_profiles",
    "fill_rings",
    "make_rings",
    "measure_rings",
    "render_wings",
]

# Edges of the rings grow by this factor, and by a pixel at least.
GROWTH = 1.13
# Rings within so many pixels have their mean, as a profile is too steep there for a median.
CORE = 2.5
# A ring counts that is above so many times its error: of a median, of correlated pixels.
SIGNIFICANCE = 1.5 * 1.5 * 1.2533
# Power by which light falls beyond the last ring that is seen.
FALL = -3.0
LOWEST = np.int32(-(2**31))
# Bits of the number of a ring: 128 rings reach 10 million pixels. A number for all, or values would differ in tiles.
RING_BITS = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rings:
    """Rings of elliptical radius.

    Attributes
    ----------
    radius : ndarray
        Mean radii in pixels, (k,).
    number : ndarray of int
        By step of radius, a FINE-th of a pixel, the number of the ring; there is one step more than the longest radius
        has.
    low, part : ndarray
        By step, between which two mean radii it is: the first of them, and how far on.
    """

    radius: Floats
    number: NDArray[np.int32]
    low: Index
    part: Image

    def last_step(self, count: int) -> int:
        """Return the first step that is beyond the mean radius of ring `count`.

        Parameters
        ----------
        count : int

        Returns
        -------
        int
        """
        return min(int(self.radius[min(count, len(self.radius) - 1)] * FINE) + 1, len(self.number) - 1)


@lru_cache(maxsize=8)
def make_rings(longest: float) -> Rings:
    """Return rings that reach so far, in pixels.

    Parameters
    ----------
    longest : float
        In pixels.

    Returns
    -------
    Rings
    """
    edges = [0.0, 1.0]
    while edges[-1] < longest:
        edges.append(max(edges[-1] * GROWTH, edges[-1] + 1))
    radius = (np.array(edges[1:]) + edges[:-1]) / 2
    steps = (np.arange(int(longest * FINE) + 2) + 0.5) / FINE
    number = np.minimum(np.searchsorted(edges, steps, side="right") - 1, len(radius) - 1)
    place = np.interp(steps, radius, np.arange(len(radius)))
    low = np.minimum(place.astype(np.intp), len(radius) - 2)
    return Rings(radius=radius, number=number.astype(np.int32), low=low, part=(place - low).astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profiles:
    """The light of m sources outside of their segments, by falling flux.

    Attributes
    ----------
    owners : Shapes
        (m,).
    axis_ratio : ndarray
        As the profiles have it, (m,).
    level : ndarray
        Of each ring, 0 where it has ended, in the unit of the image, (m, k).
    reach : ndarray
        Half the side of the stamps that hold the profiles, in pixels, (m,).
    longest : float
        How far rings reach, in pixels.
    """

    owners: Shapes
    axis_ratio: Image
    level: Image
    reach: Index
    longest: float

    @property
    def rings(self) -> Rings:
        """The rings."""
        return make_rings(self.longest)

    def __getitem__(self, index: NDArray[np.bool_ | np.intp] | slice) -> Profiles:
        """Return some of them."""
        parts = {name: getattr(self, name)[index] for name in ("owners", "axis_ratio", "level", "reach")}
        return Profiles(**parts, longest=self.longest)

    def end(self) -> Profiles:
        """Return the same with stamps that end where the profiles do.

        Returns
        -------
        Profiles
            (m,).
        """
        radius, some = self.rings.radius, self.level != 0
        ended = len(radius) - np.argmax(some[:, ::-1], axis=1)
        end = np.where(np.any(some, axis=1), radius[np.minimum(ended, len(radius) - 1)], 0)
        return replace(self, reach=np.ceil(end / np.sqrt(self.axis_ratio)).astype(np.intp) + 1)

    def cut(self, rows: slice, columns: slice) -> Profiles:
        """Return those whose stamps may reach into a cut-out of the image.

        Parameters
        ----------
        rows, columns : slice
            Of the image, with start and stop.

        Returns
        -------
        Profiles
            On the grid of the cut-out.
        """
        x, y = self.owners.x, self.owners.y
        near = touches(y, self.reach, rows) & touches(x, self.reach, columns)
        owners = self.owners[near]
        return replace(self[near], owners=replace(owners, x=owners.x - columns.start, y=owners.y - rows.start))


def evaluate_profiles(level: Image, step: NDArray[np.int32], rings: Rings, last: int) -> Image:
    """Return profiles (m, k), linear between the rings, at steps (m, sy, sx) up to the last one.

    Parameters
    ----------
    level : ndarray
        Of the rings, (m, k).
    step : ndarray of int
        Of the elliptical radius, (m, sy, sx).
    rings : Rings
    last : int
        The greatest step.

    Returns
    -------
    ndarray
        (m, sy, sx), in the unit of the image.
    """
    low, part = rings.low[: last + 1], rings.part[: last + 1]
    left = level.take(low, axis=1)
    table = level.take(low + 1, axis=1)
    table -= left
    table *= part
    table += left
    place = step + (table.shape[1] * np.arange(len(table), dtype=np.int32))[:, None, None]
    return table.ravel().take(place, mode="clip")


def render_wings(profiles: Profiles, segmentation: NDArray[np.int32]) -> Iterator[tuple[Index, Stamps, Image]]:
    """Yield which profiles are in a batch of stamps, and wings: what they say outside of their segments.

    Parameters
    ----------
    profiles : Profiles
    segmentation : ndarray
        (ny, nx), labels.

    Yields
    ------
    chosen : ndarray of int
        Which profiles, (m,).
    stamps : Stamps
    wings : ndarray
        (m, sy, sx), in the unit of the image.
    """
    for half, chosen in batch_stamps(profiles.reach):
        part = profiles[chosen]
        ended = np.flatnonzero(np.any(part.level != 0, axis=0)).max(initial=-1) + 1
        last = part.rings.last_step(ended)
        stamps = cut_stamps(part.owners, part.axis_ratio, half, segmentation, last)
        wings = evaluate_profiles(part.level, stamps.step, part.rings, last)
        wings *= stamps.label != part.owners.label[:, None, None]
        yield chosen, stamps, wings


def measure_rings(
    values: Image, step: NDArray[np.int32], use: NDArray[np.bool_], rings: Rings, k: int, every: int = 1
) -> tuple[Image, Image]:
    """Return level and error of the first k rings of each stamp, (m, k); NaN where fewer than 3 pixels are used.

    Parameters
    ----------
    values : ndarray
        (m, sy, sx).
    step : ndarray of int
        Of the elliptical radius, (m, sy, sx).
    use : ndarray of bool
        (m, sy, sx), which pixels count.
    rings : Rings
    k : int
    every : int, optional
        How many rows of the image are to one of a stamp. Errors are those of all pixels: noise is much the same in rows
        beside each other.

    Returns
    -------
    level, error : ndarray
        (m, k), in the unit of the image.
    """
    m, size = len(values), values[0].size
    chosen = np.flatnonzero(use)  # much faster than values[use]
    if not len(chosen):
        return np.full((m, k), np.nan, np.float32), np.full((m, k), np.nan, np.float32)
    ends = np.searchsorted(chosen, size * np.arange(1, m + 1))
    flat, ring = values.ravel().take(chosen), rings.number.take(step.ravel().take(chosen))
    core = np.flatnonzero(ring < np.searchsorted(rings.radius, CORE))
    owner = np.searchsorted(ends, core, side="right")
    total = np.bincount(ring.take(core) + k * owner, flat.take(core), m * k)
    ordered, first = _sort_values(ring, flat, ends, k)
    start, count = first[:, :-1].ravel(), np.diff(first).ravel()

    def quantile(share: float) -> Image:
        place = np.minimum(start + np.rint(share * np.maximum(count - 1, 0)).astype(np.intp), len(flat) - 1)
        return _read_values(ordered.take(place))

    scatter = (quantile(0.8413) - quantile(0.1587)) / 2
    share = np.maximum(count, 1)
    level = np.where(np.tile(rings.radius[:k] < CORE, m), total / share, quantile(0.5))
    error = SIGNIFICANCE * scatter / np.sqrt(share * every)
    few = count < 3
    known, spread = (np.where(few, np.nan, plane).astype(np.float32).reshape(m, k) for plane in (level, error))
    return known, spread


def _sort_values(ring: NDArray[np.int32], values: Image, ends: Index, k: int) -> tuple[NDArray[np.uint32], Index]:
    """Return ring and value as one number for each pixel, sorted in each of m stretches, and where rings begin in it.

    The first bits are the ring, and the others those of the value, in an order that is that of floats. The last of them
    are left out, one part in 100,000 of it: numbers of 32 bits are sorted three times as fast as those of 64. The
    first k rings are found, and the end of the last one, (m, k + 1).
    """
    bits = values.view(np.int32)
    ordered = bits >> 31
    ordered |= LOWEST
    ordered ^= bits
    both = ordered.view(np.uint32)
    both >>= np.uint32(RING_BITS)
    both |= ring.view(np.uint32) << np.uint32(32 - RING_BITS)
    edges = np.arange(k + 1, dtype=np.uint32) << np.uint32(32 - RING_BITS)
    first = np.empty((len(ends), k + 1), np.intp)
    for i, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        part = both[start:end]
        part.sort()
        first[i] = start + part.searchsorted(edges)
    return both, first


def _read_values(both: NDArray[np.uint32]) -> Image:
    """Return the values of numbers of :func:`_sort_values`, with a half for what was left out."""
    ordered = ((both << np.uint32(RING_BITS)) | np.uint32((1 << RING_BITS) >> 1)).view(np.int32)
    return np.where(ordered < 0, ordered ^ LOWEST, ~ordered).view(np.float32)


def fill_rings(level: Image, error: Image, radius: Floats) -> tuple[Image, Image]:
    """Return levels and errors (m, k) of all rings: of those whose pixels are all others', by the rings around them.

    Parameters
    ----------
    level, error : ndarray
        (m, k), NaN where not known.
    radius : ndarray
        Of the rings, (k,).

    Returns
    -------
    level, error : ndarray
        (m, k). Between two known rings a level is on the power law through them, where one below its error counts as
        that; beyond the last it falls as `FALL`, within the first it is that of the first. 0 without any known ring.
    """
    known, order, x = np.isfinite(level), np.arange(len(radius)), np.log(radius).astype(np.float32)
    if known.all():
        return level, error
    level, error = (np.where(known, plane, np.float32(0)) for plane in (level, error))
    first, last = np.argmax(known, axis=1)[:, None], len(order) - 1 - np.argmax(known[:, ::-1], axis=1)[:, None]
    low = np.maximum(np.maximum.accumulate(np.where(known, order, 0), axis=1), first)
    high = np.minimum.accumulate(np.where(known, order, last)[:, ::-1], axis=1)[:, ::-1]
    start, wide = (np.take_along_axis(plane, low, axis=1) for plane in (level, error))
    end = np.take_along_axis(np.maximum(level, error), high, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # of levels that are 0, or nearly
        slope = np.log(end / start) / (x[high] - x[low])
        slope = np.where(order > last, FALL, np.where(order < first, 0, np.minimum(slope, 0)))
        between = np.where(start > 0, start * np.exp(slope * (x - x[low])), start)
    return np.where(known, level, between).astype(np.float32), np.where(known, error, wide)
