"""The light of sources beyond their segments, in rings, so that it can be taken off for their neighbours.

Each source that is bright enough gets a profile: the level in rings of the elliptical radius of equal area, from pixels
that are its own or nobody's. Beyond its segment the profile never rises, and ends where it no longer stands out of the
noise. What it says there is the source's wing: it is taken off for all others, and stands in for the source's own light
in the pixels of neighbours. Sources are modelled by falling flux, and all of them twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dja_photplug.sources.planes import FLATTEST, Floats, Shapes, measure_segments, sum_overlap

__all__ = [
    "Ellipses",
    "Neighbours",
    "OwnLight",
    "find_neighbours",
    "sum_opposite",
    "sum_own_light",
]

T = TypeVar("T", np.float32, np.bool_)
Image = NDArray[np.float32]
Index = NDArray[np.intp]

# Edges of the rings grow by this factor, and by a pixel at least.
GROWTH = 1.13
# Rings within so many pixels have their mean, as a profile is too steep there for a median.
CORE = 2.5
# A ring counts that is above so many times its error: of a median, of correlated pixels.
SIGNIFICANCE = 1.5 * 1.5 * 1.2533
# Signal to noise of the segment from which on a wing is looked for. Stamps reach so many radii of the segment, by its
# signal to noise, and so many pixels more, but no farther than LONGEST arcsec.
LEAST_SNR, REACH, MORE, LONGEST = 15.0, (1.6, 0.5), 5, 8.0
STEP = 1.0  # magnitudes: sources as bright are modelled at a time
BATCH = 300_000  # pixels of stamps at a time: 15 MB
FINE = 16  # steps of a pixel in which radii are told apart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rings:
    """Rings of elliptical radius: their mean radii (pixels); number of the ring and place among them by step of radius.

    Steps are a FINE-th of a pixel, and there is one more than the longest radius has.
    """

    radius: Floats
    number: NDArray[np.int16]
    place: Image

    @classmethod
    def up_to(cls, longest: float) -> _Rings:
        """Return rings that reach so far, in pixels."""
        edges = [0.0, 1.0]
        while edges[-1] < longest:
            edges.append(max(edges[-1] * GROWTH, edges[-1] + 1))
        radius = (np.array(edges[1:]) + edges[:-1]) / 2
        steps = (np.arange(int(longest * FINE) + 2) + 0.5) / FINE
        number = np.minimum(np.searchsorted(edges, steps, side="right") - 1, len(radius) - 1)
        place = np.interp(steps, radius, np.arange(len(radius)))
        return cls(radius=radius, number=number.astype(np.int16), place=place.astype(np.float32))

    def step(self, radius: Image) -> Index:
        """Return the step of each radius."""
        return np.minimum((radius * np.float32(FINE)).astype(np.intp), len(self.number) - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """What the sources of an image take from each other.

    Attributes
    ----------
    clear : ndarray
        (ny, nx) float32, the image less the wings of all sources, each outside of its own segment.
    wings : ndarray
        (ny, nx) float32, what was taken off.
    alone : ndarray
        (ny, nx) float32, the image less all wings but the brightest one in each pixel of the sky, for what is no sum.
    owners : Shapes
        The sources that have a wing, (m,), by falling flux.
    axis_ratio : ndarray
        As the profiles have it, (m,).
    profile : ndarray
        Level of each ring, 0 where it has ended, in the unit of the image, (m, k).
    reach : ndarray
        Half the side of the stamps that hold the profiles, in pixels, (m,).
    rings : _Rings
    """

    clear: Image
    wings: Image
    alone: Image
    owners: Shapes
    axis_ratio: Image
    profile: Image
    reach: Index
    rings: _Rings

    def __getitem__(self, box: tuple[slice, slice]) -> Neighbours:
        """Return those of a part of the image."""
        rows, columns = box
        owners = replace(self.owners, x=self.owners.x - columns.start, y=self.owners.y - rows.start)
        clear, wings, alone = (np.ascontiguousarray(plane[box]) for plane in (self.clear, self.wings, self.alone))
        return replace(self, clear=clear, wings=wings, alone=alone, owners=owners)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnLight:
    """Sums of the sources' own wings in an aperture.

    Attributes
    ----------
    sky, taken : ndarray
        On the sky, and in the pixels of neighbours, (n,), in the unit of the image.
    """

    sky: Floats
    taken: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stamps:
    """Pixels around m sources, (m, sy, sx): step of the elliptical radius, and label there.

    `x y` (m,) are the pixels of the image at their first column and row. Stamps end at the edges of the image: near
    them they are moved.
    """

    step: Index
    label: NDArray[np.int32]
    x: Index
    y: Index

    def cut(self, plane: NDArray[T]) -> NDArray[T]:
        """Return the pixels of an image."""
        return sliding_window_view(plane, self.step.shape[1:])[self.y, self.x]

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """Yield rows and columns of each in the image."""
        _, height, width = self.step.shape
        for y, x in zip(self.y.tolist(), self.x.tolist(), strict=True):
            yield slice(y, y + height), slice(x, x + width)


def _cut(owners: Shapes, axis_ratio: Image, half: int, segmentation: NDArray[np.int32], rings: _Rings) -> _Stamps:
    """Return the stamps of sources on the image, `half` pixels to each side."""

    def span(centre: Floats, size: int) -> Index:
        side = min(2 * half + 1, size)
        return np.clip(np.rint(centre).astype(np.intp) - half, 0, size - side)[:, None] + np.arange(side)

    py, px = (span(*place) for place in zip((owners.y, owners.x), segmentation.shape, strict=True))
    dx, dy = (px - owners.x[:, None]).astype(np.float32), (py - owners.y[:, None]).astype(np.float32)
    theta, q = np.nan_to_num(owners.theta).astype(np.float32)[:, None], axis_ratio[:, None]
    cos, sin = np.cos(theta), np.sin(theta)
    # u^2 q + v^2 / q with u along the major axis, written as a quadratic form.
    xx, yy, xy = cos**2 * q + sin**2 / q, sin**2 * q + cos**2 / q, 2 * sin * cos * (q - 1 / q)
    square = (xx * dx**2)[:, None, :] + (yy * dy**2)[:, :, None] + (xy * dx)[:, None, :] * dy[:, :, None]
    label = sliding_window_view(segmentation, (py.shape[1], px.shape[1]))[py[:, 0], px[:, 0]]
    return _Stamps(step=rings.step(np.sqrt(square)), label=label, x=px[:, 0], y=py[:, 0])


def _evaluate(profile: Image, stamps: _Stamps, rings: _Rings, outside: NDArray[np.bool_]) -> Image:
    """Return wings: profiles (m, k), linear between the rings, in the pixels that are outside of their segments."""
    place = rings.place[: stamps.step.max(initial=0) + 1]
    low = np.minimum(place.astype(np.intp), len(rings.radius) - 2)
    left = profile[:, low]
    table = left + (place - low.astype(np.float32)) * (profile[:, low + 1] - left)
    wing = table.ravel()[stamps.step + (table.shape[1] * np.arange(len(table)))[:, None, None]]
    return np.where(outside, wing, np.float32(0))


def _sort_rings(values: Image, key: NDArray[np.int32]) -> tuple[NDArray[np.int64], Image]:
    """Return keys and values, sorted by key and then value: 64 bits of both are sorted as one number."""
    bits = values.view(np.int32).astype(np.int64) & 0xFFFFFFFF
    ordered = np.where(bits >> 31, bits ^ 0xFFFFFFFF, bits | 0x80000000)
    both = (key.astype(np.int64) << 32) | ordered
    both.sort()
    key_sorted, ordered = both >> 32, both & 0xFFFFFFFF
    bits = np.where(ordered >> 31, ordered & 0x7FFFFFFF, ordered ^ 0xFFFFFFFF)
    return key_sorted, bits.astype(np.uint32).view(np.float32)


def _measure_rings(
    values: Image, ring: NDArray[np.int16], use: NDArray[np.bool_], rings: _Rings
) -> tuple[Image, Image]:
    """Return level and error of the rings of each stamp, (m, k); NaN where fewer than 3 pixels are used."""
    m, k = len(values), len(rings.radius)
    key = (ring + (k * np.arange(m, dtype=np.int32))[:, None, None])[use]
    key_sorted, flat = _sort_rings(values[use], key)
    count = np.bincount(key_sorted, minlength=m * k)
    start, last = np.cumsum(count) - count, max(len(flat) - 1, 0)
    if not len(flat):
        return np.full((2, m, k), np.nan, np.float32)[0], np.full((m, k), np.nan, np.float32)

    def quantile(share: float) -> Image:
        return flat[np.clip(start + np.rint(share * (count - 1)).astype(np.intp), 0, last)]

    scatter = (quantile(0.8413) - quantile(0.1587)) / 2
    mean = np.bincount(key_sorted, weights=flat, minlength=m * k) / np.maximum(count, 1)
    core = np.tile(rings.radius < CORE, m)
    level = np.where(count < 3, np.nan, np.where(core, mean, quantile(0.5)))
    error = SIGNIFICANCE * scatter / np.sqrt(np.maximum(count, 1))
    return level.reshape(m, k).astype(np.float32), error.reshape(m, k).astype(np.float32)


def _nearest_known(known: NDArray[np.bool_]) -> Index:
    """Return for each ring, (m, k), that within it or itself which is known; the first where there is none."""
    return np.maximum.accumulate(np.where(known, np.arange(known.shape[1]), 0), axis=1)


def _end_profiles(level: Image, error: Image, rings: _Rings, segment: Floats, half: int) -> Image:
    """Return profiles that never rise beyond the segment (its radius in pixels, (m,)) and end in the noise."""
    nearest = _nearest_known(np.isfinite(level))
    level, error = (np.nan_to_num(np.take_along_axis(plane, nearest, axis=1)) for plane in (level, error))
    beyond = rings.radius > segment[:, None]
    last = np.maximum(np.argmax(beyond, axis=1) - 1, 0)
    most = np.maximum(np.take_along_axis(level, last[:, None], axis=1), 0)
    falling = np.minimum(np.minimum.accumulate(np.where(beyond, level, np.inf), axis=1), most)
    level = np.where(beyond, falling, level)
    ended = np.logical_or.accumulate(beyond & ((level < error) | (rings.radius > half)), axis=1)
    return np.where(ended, 0, level).astype(np.float32)


def _end(profile: Image, rings: _Rings, axis_ratio: Image) -> Index:
    """Return the half-sides of the stamps that profiles end in."""
    ended = len(rings.radius) - np.argmax(profile[:, ::-1] > 0, axis=1)
    end = np.where(np.any(profile > 0, axis=1), rings.radius[np.minimum(ended, len(rings.radius) - 1)], 0)
    return np.ceil(end / np.sqrt(axis_ratio)).astype(np.intp) + 1


def _batches(reach: Index) -> Iterator[tuple[int, Index]]:
    """Yield half-sides of stamps, and which sources have them, so many as fit into a batch."""
    sizes = np.unique(np.ceil(np.geomspace(6, max(reach.max(initial=6), 7), 12)).astype(int))
    size_of = np.searchsorted(sizes, reach)
    for k in np.unique(size_of):
        chosen, half = np.flatnonzero(size_of == k), int(sizes[k])
        step = max(1, BATCH // (2 * half + 1) ** 2)
        for start in range(0, len(chosen), step):
            yield half, chosen[start : start + step]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Owners:
    """Sources that are modelled, by falling flux, all (m,): with flux and radius of segments, and reach of stamps."""

    shapes: Shapes
    flux: Floats
    radius: Floats
    axis_ratio: Image
    reach: Index

    def __getitem__(self, index: NDArray[np.bool_ | np.intp]) -> _Owners:
        return _Owners(**{name: getattr(self, name)[index] for name in self.__slots__})


def _choose_owners(
    data: Image, variance: Image, null: NDArray[np.bool_], segmentation: NDArray[np.int32], scale: float
) -> _Owners:
    """Return the sources that are bright enough."""
    shapes, npix = measure_segments(data, null, segmentation)
    members = np.flatnonzero(segmentation)
    members = members[~null.ravel()[members]]
    owner, size = segmentation.ravel()[members], int(segmentation.max(initial=0)) + 1

    def add(plane: Image) -> Floats:
        return np.bincount(owner, plane.ravel()[members], size)[shapes.label].astype(float)

    flux = add(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.nan_to_num(flux / np.sqrt(add(variance)))
    rows = np.flatnonzero(snr > LEAST_SNR)
    rows = rows[np.argsort(-flux[rows], kind="stable")]
    shapes, radius = shapes[rows], np.sqrt(npix[rows] / np.pi)
    axis_ratio = np.clip(np.nan_to_num(shapes.b / shapes.a, nan=1.0), FLATTEST, 1).astype(np.float32)
    far = radius * (REACH[0] + REACH[1] * np.log10(snr[rows])) + MORE
    reach = np.ceil(np.minimum(far, LONGEST / scale) / np.sqrt(axis_ratio)).astype(np.intp)
    return _Owners(shapes=shapes, flux=flux[rows], radius=radius, axis_ratio=axis_ratio, reach=reach)


def _matter(owners: _Owners, targets: Shapes, extent: Floats) -> NDArray[np.bool_]:
    """Return whether the stamp of each source reaches the aperture of any other."""
    found = np.zeros(len(owners.reach), bool)
    somewhere = np.isfinite(targets.x) & np.isfinite(targets.y)
    targets, extent = targets[somewhere], extent[somewhere]
    near, far = (np.frexp(np.maximum(size, 1))[1] for size in (owners.reach, extent))
    # Radii of up to a factor of two at a time: with the largest of all of them there were too many pairs.
    for i, j in product(np.unique(near), np.unique(far)):
        one, other = np.flatnonzero(near == i), np.flatnonzero(far == j)
        trees = [KDTree(np.column_stack([who.x, who.y])) for who in (owners.shapes[one], targets[other])]
        pairs = trees[0].sparse_distance_matrix(trees[1], 2.0**i + 2.0**j, output_type="ndarray")
        row, column = one[pairs["i"]], other[pairs["j"]]
        touch = pairs["v"] < owners.reach[row] + extent[column]
        found[row[touch & (owners.shapes.label[row] != targets.label[column])]] = True
    return found


def _lay_out(
    clear: Image,
    segmentation: NDArray[np.int32],
    shapes: Shapes,
    axis_ratio: Image,
    profile: Image,
    reach: Index,
    rings: _Rings,
) -> tuple[Image, Image]:
    """Return the planes `wings` and `alone` of `Neighbours`, given its `clear`."""
    # Not zeros_like, which writes its zeros: most pixels are never touched.
    wings, largest = (np.zeros(clear.shape, np.float32) for _ in range(2))
    for half, chosen in _batches(reach):
        stamps = _cut(shapes[chosen], axis_ratio[chosen], half, segmentation, rings)
        outside = stamps.label != shapes.label[chosen][:, None, None]
        light = _evaluate(profile[chosen], stamps, rings, outside)
        on_sky = np.where(stamps.label == 0, light, np.float32(0))
        for window, one, sky in zip(stamps.windows(), light, on_sky, strict=True):
            wings[window] += one
            np.maximum(largest[window], sky, out=largest[window])
    return wings, np.add(clear, largest, out=largest)


def find_neighbours(
    data: Image,
    variance: Image,
    null: NDArray[np.bool_],
    segmentation: NDArray[np.int32],
    scale: float,
    targets: Shapes,
    extent: Floats,
) -> Neighbours:
    """Model what sources add to the sky and to the segments around them, and take it off.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky, in the unit of the image; it is overwritten, and becomes `Neighbours.clear`.
    variance : ndarray
        (ny, nx), that of the background, in the squared unit of the image.
    null : ndarray of bool
        (ny, nx), pixels without data.
    segmentation : ndarray
        (ny, nx), labels.
    scale : float
        Of the pixels, arcsec.
    targets : Shapes
        Of n positions that are measured, with the label of the source of each. Sources without another's near have no
        light to take off, and no profile.
    extent : ndarray
        How far the apertures around them reach, in pixels, (n,).

    Returns
    -------
    Neighbours
    """
    owners = _choose_owners(data, variance, null, segmentation, scale)
    owners = owners[_matter(owners, targets, extent)]
    shapes, q, reach = owners.shapes, owners.axis_ratio, owners.reach
    rings = _Rings.up_to(1.5 * reach.max(initial=8))
    profile = np.zeros((len(reach), len(rings.radius)), np.float32)
    inner = np.searchsorted(rings.radius, owners.radius).astype(np.int16) - 2
    level = np.floor(-2.5 / STEP * np.log10(np.maximum(owners.flux, 1e-30)))
    for again in (False, True):
        if again:
            reach = np.minimum(reach, _end(profile, rings, q))
        for group in (np.flatnonzero(level == value) for value in np.unique(level)):
            for half, part in _batches(reach[group]):
                chosen = group[part]
                stamps = _cut(shapes[chosen], q[chosen], half, segmentation, rings)
                own = stamps.label == shapes.label[chosen][:, None, None]
                old = _evaluate(profile[chosen], stamps, rings, ~own)
                values = stamps.cut(data) + old
                number = rings.number[stamps.step]
                # Within the segment nothing is asked of a profile; its last rings there are the most that follows.
                use = (own | (stamps.label == 0)) & (number >= inner[chosen][:, None, None]) & ~stamps.cut(null)
                levels = _measure_rings(values, number, use, rings)
                profile[chosen] = _end_profiles(*levels, rings, owners.radius[chosen], half)
                change = _evaluate(profile[chosen], stamps, rings, ~own) - old
                for window, light in zip(stamps.windows(), change, strict=True):
                    data[window] -= light
    reach = _end(profile, rings, q)
    wings, alone = _lay_out(data, segmentation, shapes, q, profile, reach, rings)
    planes = {"clear": data, "wings": wings, "alone": alone}
    return Neighbours(**planes, owners=shapes, axis_ratio=q, profile=profile, reach=reach, rings=rings)


Ellipse = tuple[Floats, Floats, Floats]
"""Semi-axes in pixels and angle in radians of apertures around n targets, (n,) each."""
Ellipses = Mapping[str, Ellipse]


def sum_own_light(
    neighbours: Neighbours, segmentation: NDArray[np.int32], targets: Shapes, apertures: Ellipses
) -> dict[str, OwnLight]:
    """Return the sums of the targets' own wings in apertures around them, which `clear` lacks.

    Parameters
    ----------
    neighbours : Neighbours
    segmentation : ndarray
        (ny, nx), labels.
    targets : Shapes
        Of n positions; each is of the source whose label it has.
    apertures : mapping of str to tuple of ndarray
        Semi-axes in pixels and angle in radians, each (n,).

    Returns
    -------
    dict of str to OwnLight
        By exact overlap.
    """
    sums = {name: np.zeros((2, len(targets.x))) for name in apertures}
    owners = neighbours.owners
    largest = max(segmentation.max(initial=0), targets.label.max(initial=0), owners.label.max(initial=0))
    row_of = np.full(int(largest) + 1, -1, np.intp)
    row_of[owners.label] = np.arange(len(owners.label))
    row = np.where(targets.label > 0, row_of[targets.label], -1)
    pairs = np.flatnonzero(row >= 0)
    for half, part in _batches(neighbours.reach[row[pairs]]):
        chosen = pairs[part]
        source = owners[row[chosen]]
        stamps = _cut(source, neighbours.axis_ratio[row[chosen]], half, segmentation, neighbours.rings)
        outside = stamps.label != source.label[:, None, None]
        wing = _evaluate(neighbours.profile[row[chosen]], stamps, neighbours.rings, outside)
        on_sky = stamps.label == 0
        place = targets.x[chosen] - stamps.x, targets.y[chosen] - stamps.y
        parts = [np.where(on, wing, np.float32(0)) for on in (on_sky, ~on_sky)]
        for name, (a, b, theta) in apertures.items():
            one = (a[chosen], b[chosen], theta[chosen])
            sums[name][:, chosen] = [_sum_stamps(plane, *place, one) for plane in parts]
    return {name: OwnLight(sky=sky, taken=taken) for name, (sky, taken) in sums.items()}


def sum_opposite(
    data: Image, null: NDArray[np.bool_], segmentation: NDArray[np.int32], targets: Shapes, ellipse: Ellipse
) -> Floats:
    """Return what sources have in the pixels that neighbours take of apertures, from their other pixels.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky.
    null : ndarray of bool
        (ny, nx), pixels without data.
    segmentation : ndarray
        (ny, nx), labels.
    targets : Shapes
        Of n positions; each is of the source whose label it has.
    ellipse : tuple of ndarray
        Semi-axes in pixels and angle in radians, each (n,).

    Returns
    -------
    ndarray
        (n,). Each pixel has the value of that opposite of the source, or where that is a neighbour's too, or without
        data, the level of the ring around the source that it is in.
    """
    a, b, theta = ellipse
    total, (ny, nx) = np.zeros(len(a)), data.shape
    ratio = np.clip(np.nan_to_num(targets.b / targets.a, nan=1.0), FLATTEST, 1).astype(np.float32)
    reach = np.ceil(np.maximum(a, b)).astype(np.intp) + 1
    rings = _Rings.up_to(1.5 * reach.max(initial=8) / np.sqrt(FLATTEST))
    for half, chosen in _batches(reach):
        one = targets[chosen]
        stamps = _cut(one, ratio[chosen], half, segmentation, rings)
        label = one.label[:, None, None]
        usable = ((stamps.label == 0) | (stamps.label == label)) & ~stamps.cut(null)
        levels, _ = _measure_rings(stamps.cut(data), rings.number[stamps.step], usable, rings)
        levels = np.nan_to_num(np.take_along_axis(levels, _nearest_known(np.isfinite(levels)), axis=1))
        fill = _evaluate(levels, stamps, rings, np.array(True))
        _, height, width = stamps.step.shape
        column = (np.rint(2 * one.x).astype(np.intp) - stamps.x)[:, None, None] - np.arange(width)
        row = (np.rint(2 * one.y).astype(np.intp) - stamps.y)[:, None, None] - np.arange(height)[:, None]
        inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
        opposite = np.where(inside, row * nx + column, 0)
        theirs = segmentation.ravel()[opposite]
        good = inside & ((theirs == 0) | (theirs == label)) & ~null.ravel()[opposite]
        fill = np.where(good, data.ravel()[opposite], fill)
        fill = np.where((stamps.label > 0) & (stamps.label != label), fill, np.float32(0))
        place = one.x - stamps.x, one.y - stamps.y
        total[chosen] = _sum_stamps(fill, *place, (a[chosen], b[chosen], theta[chosen]))
    return total


def _sum_stamps(plane: Image, x: Floats, y: Floats, ellipse: Ellipse) -> Floats:
    """Return the sum over an ellipse on each stamp of (m, sy, sx), from the place of the source on it; 0 beyond it."""
    m, height, width = plane.shape
    # One below the other they are an image, on which each is the segment of its source: without a mask sep zeroes the
    # others.
    label = np.arange(1, m + 1, dtype=np.int32)
    places = Shapes(label=label, x=x, y=y + height * np.arange(m), a=x, b=x, theta=x)
    stacked, labels = plane.reshape(-1, width), np.repeat(label, height * width).reshape(-1, width)
    return sum_overlap(np.ascontiguousarray(stacked), places, *ellipse, segmap=labels, seg_id=label)[0]
