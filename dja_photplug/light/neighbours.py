"""The light of sources beyond their segments, in rings, so that it can be taken off for their neighbours.

Each source that is bright enough gets a profile: the level in rings of the elliptical radius of equal area, from pixels
that are its own or nobody's. Beyond its segment the profile never rises, and ends where it no longer stands out of the
noise. What it says there is the source's wing: it is taken off for all others, and stands in for the source's own light
in the pixels of neighbours. Sources are modelled by falling flux, and all of them twice.

Those of one step of brightness are all measured on the same image, and then taken off, band of rows by band: the
outcome is the same in whatever order, or by however many processes, that is done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise, product
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dja_photplug.light.planes import FLATTEST, Floats, Shapes, sum_overlap, weigh_segments
from dja_photplug.mosaic.blocks import Planes
from dja_photplug.parallel.workers import Map, once

__all__ = [
    "Ellipses",
    "NeighbourLight",
    "Neighbours",
    "OwnLight",
    "Profiles",
    "draw_wings",
    "find_neighbours",
    "sum_opposite",
    "sum_own_light",
]

T = TypeVar("T", bound=np.generic)
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
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
# Magnitudes: sources as bright are measured before any of them is taken off. With 1.0 the medians of fluxes in crowded
# fields rise by 0.02 of their errors.
STEP = 0.5
FINE = 16  # steps of a pixel in which radii are told apart
# Half-sides of stamps: a source takes the next of these.
HALVES = np.unique(np.ceil(6 * 1.12 ** np.arange(120)).astype(np.intp))
BATCH = 200_000  # pixels of stamps at a time, which a cache holds
# Pixels of stamps that a process is given at a time: 30 ms of work at most, and 8 ms at least. There are so many parts,
# or a multiple of it, that as many processes have the same to do.
SHARE, EQUAL = 3_000_000, 4
LOWEST = np.int32(-(2**31))
KEPT = 31 << 20  # bytes of memory that stay with a process


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rings:
    """Rings of elliptical radius: their mean radii (pixels), and by step of radius the number of the ring, and between
    which two mean radii it is, of which the first and how far on.

    Steps are a FINE-th of a pixel, and there is one more than the longest radius has.
    """

    radius: Floats
    number: NDArray[np.int32]
    low: Index
    part: Image

    def last_step(self, count: int) -> int:
        """Return the first step that is beyond the mean radius of ring `count`."""
        return min(int(self.radius[min(count, len(self.radius) - 1)] * FINE) + 1, len(self.number) - 1)


@lru_cache(maxsize=8)
def _make_rings(longest: float) -> _Rings:
    """Return rings that reach so far, in pixels."""
    edges = [0.0, 1.0]
    while edges[-1] < longest:
        edges.append(max(edges[-1] * GROWTH, edges[-1] + 1))
    radius = (np.array(edges[1:]) + edges[:-1]) / 2
    steps = (np.arange(int(longest * FINE) + 2) + 0.5) / FINE
    number = np.minimum(np.searchsorted(edges, steps, side="right") - 1, len(radius) - 1)
    place = np.interp(steps, radius, np.arange(len(radius)))
    low = np.minimum(place.astype(np.intp), len(radius) - 2)
    return _Rings(radius=radius, number=number.astype(np.int32), low=low, part=(place - low).astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profiles:
    """The light of m sources beyond their segments, by falling flux.

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
    def rings(self) -> _Rings:
        """The rings."""
        return _make_rings(self.longest)

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
        near = _touch(y, self.reach, rows) & _touch(x, self.reach, columns)
        owners = self.owners[near]
        return replace(self[near], owners=replace(owners, x=owners.x - columns.start, y=owners.y - rows.start))


def _touch(centre: Floats, reach: Index, span: slice) -> NDArray[np.bool_]:
    """Return whether stamps reach pixels from the start of a span to its end, along one axis."""
    return (centre + reach + 1 >= span.start) & (centre - reach - 1 < span.stop)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """What the sources of an image, or of a part of it, take from each other.

    Attributes
    ----------
    clear : ndarray
        (ny, nx) float32, the image less the wings of all sources, each outside of its own segment.
    wings : ndarray
        (ny, nx) float32, what was taken off.
    brightest : ndarray
        (ny, nx) float32, of the wings the brightest one in each pixel of the sky; 0 in segments.
    profiles : Profiles
        Of the sources that have a wing.
    """

    clear: Image
    wings: Image
    brightest: Image
    profiles: Profiles

    @property
    def alone(self) -> Image:
        """(ny, nx), the image less all wings but the brightest one in each pixel of the sky, for what is no sum."""
        return np.add(self.clear, self.brightest)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeighbourLight:
    """An image without the wings of its sources, and their profiles, of which the wings are drawn where needed.

    Attributes
    ----------
    clear : ndarray
        (ny, nx) float32, the image less the wings of all sources, each outside of its own segment.
    segmentation : ndarray
        (ny, nx), labels.
    profiles : Profiles
        Of the sources that have a wing.
    """

    clear: Image
    segmentation: NDArray[np.int32]
    profiles: Profiles

    def __getitem__(self, box: tuple[slice, slice]) -> NeighbourLight:
        """Return what is in some rows and columns of the image: views of its planes, and the sources that reach there.

        Sums over apertures inside of them are the same.
        """
        spans = [slice(*part.indices(size)[:2]) for part, size in zip(box, self.clear.shape, strict=True)]
        return NeighbourLight(
            clear=self.clear[box], segmentation=self.segmentation[box], profiles=self.profiles.cut(*spans)
        )

    def draw(self) -> Neighbours:
        """Return it with its wings drawn, in contiguous planes as sep takes them.

        Returns
        -------
        Neighbours
        """
        clear, segmentation = np.ascontiguousarray(self.clear), np.ascontiguousarray(self.segmentation)
        wings, brightest = np.zeros((2, *clear.shape), np.float32)
        for _, stamps, lights in _render(self.profiles, segmentation):
            skies = lights * (stamps.label == 0)
            places = stamps.places(slice(0, len(wings)))
            for (where, part), light, sky in zip(places, lights, skies, strict=True):
                wings[where] += light[part]
                np.maximum(brightest[where], sky[part], out=brightest[where])
        return Neighbours(clear=clear, wings=wings, brightest=brightest, profiles=self.profiles)


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

    step: NDArray[np.int32]
    label: NDArray[np.int32]
    x: Index
    y: Index

    def cut(self, plane: NDArray[T]) -> NDArray[T]:
        """Return the pixels of an image."""
        return _windows(plane, self.step.shape[1:], self.x, self.y)

    def places(self, rows: slice) -> Iterator[tuple[tuple[slice, slice], slice]]:
        """Yield rows and columns of each in the image, the rows only of those given, and which of its own they are."""
        _, height, width = self.step.shape
        for y, x in zip(self.y.tolist(), self.x.tolist(), strict=True):
            low = max(y, rows.start)
            high = max(min(y + height, rows.stop), low)
            yield (slice(low, high), slice(x, x + width)), slice(low - y, high - y)


def _windows(plane: NDArray[T], shape: tuple[int, ...], x: Index, y: Index) -> NDArray[T]:
    return sliding_window_view(np.asarray(plane), shape)[y, x]  # no subclass, which takes longer to cut


def _cut(
    owners: Shapes, axis_ratio: Image, half: int, segmentation: NDArray[np.int32], last: int | NDArray[np.int32]
) -> _Stamps:
    """Return the stamps of sources on the image, `half` pixels to each side; steps are `last` at most."""

    def span(centre: Floats, size: int) -> Index:
        side = min(2 * half + 1, size)
        return np.clip(np.rint(centre).astype(np.intp) - half, 0, size - side)[:, None] + np.arange(side)

    py, px = (span(*place) for place in zip((owners.y, owners.x), segmentation.shape, strict=True))
    dx, dy = ((pixel - at[:, None]).astype(np.float32) for pixel, at in ((px, owners.x), (py, owners.y)))
    theta, q = owners.theta.astype(np.float32)[:, None], axis_ratio[:, None]
    cos, sin = np.cos(theta), np.sin(theta)
    # u^2 q + v^2 / q with u along the major axis is xx dx^2 + yy dy^2 + 2 xy dx dy, with xx yy - xy^2 = 1.
    root = np.sqrt(cos**2 * q + sin**2 / q)
    xy = sin * cos * (q - 1 / q)
    radius = (FINE * root * dx)[:, None, :] + (FINE * xy / root * dy)[:, :, None]
    radius *= radius
    radius += np.square(FINE / root * dy)[:, :, None]
    np.sqrt(radius, out=radius)
    np.minimum(radius, np.float32(last), out=radius)
    x, y = px[:, 0], py[:, 0]
    label = _windows(segmentation, (py.shape[1], px.shape[1]), x, y)
    return _Stamps(step=radius.astype(np.int32), label=label, x=x, y=y)


def _evaluate(level: Image, step: NDArray[np.int32], rings: _Rings, last: int) -> Image:
    """Return profiles (m, k), linear between the rings, at steps (m, sy, sx) up to the last one."""
    low, part = rings.low[: last + 1], rings.part[: last + 1]
    left = level.take(low, axis=1)
    table = level.take(low + 1, axis=1)
    table -= left
    table *= part
    table += left
    place = step + (table.shape[1] * np.arange(len(table), dtype=np.int32))[:, None, None]
    return table.ravel().take(place, mode="clip")


def _render(profiles: Profiles, segmentation: NDArray[np.int32]) -> Iterator[tuple[Index, _Stamps, Image]]:
    """Yield which profiles are in a batch of stamps, and wings: what they say outside of their segments."""
    for half, chosen in _batches(profiles.reach):
        part = profiles[chosen]
        ended = np.flatnonzero(np.any(part.level != 0, axis=0)).max(initial=-1) + 1
        last = part.rings.last_step(ended)
        stamps = _cut(part.owners, part.axis_ratio, half, segmentation, last)
        wings = _evaluate(part.level, stamps.step, part.rings, last)
        wings *= stamps.label != part.owners.label[:, None, None]
        yield chosen, stamps, wings


def _measure_rings(
    values: Image, step: NDArray[np.int32], use: NDArray[np.bool_], rings: _Rings, k: int
) -> tuple[Image, Image]:
    """Return level and error of the first k rings of each stamp, (m, k); NaN where fewer than 3 pixels are used."""
    m, size = len(values), values[0].size
    chosen = np.flatnonzero(use)  # much faster than values[use]
    if not len(chosen):
        return np.full((m, k), np.nan, np.float32), np.full((m, k), np.nan, np.float32)
    ends = np.searchsorted(chosen, size * np.arange(1, m + 1))
    flat, key = values.ravel().take(chosen), rings.number.take(step.ravel().take(chosen))
    core = np.flatnonzero(key < np.searchsorted(rings.radius, CORE))
    key += np.repeat(k * np.arange(m, dtype=np.int32), np.diff(ends, prepend=0))
    total = np.bincount(key.take(core), flat.take(core), m * k)
    ordered = _sort_values(key, flat, ends)
    rises = np.flatnonzero(ordered[1:, 1] != ordered[:-1, 1])
    first = np.concatenate([[0], rises + 1])
    start, count = np.zeros((2, m * k), np.intp)
    ring = ordered[first, 1]
    start[ring], count[ring] = first, np.diff(first, append=len(chosen))

    def quantile(share: float) -> Image:
        place = np.minimum(start + np.rint(share * np.maximum(count - 1, 0)).astype(np.intp), len(flat) - 1)
        low = ordered[place, 0]
        return np.where(low < 0, low ^ LOWEST, ~low).view(np.float32)

    scatter = (quantile(0.8413) - quantile(0.1587)) / 2
    share = np.maximum(count, 1)
    level = np.where(np.tile(rings.radius[:k] < CORE, m), total / share, quantile(0.5))
    level = np.where(count < 3, np.nan, level).astype(np.float32)
    error = (SIGNIFICANCE * scatter / np.sqrt(share)).astype(np.float32)
    return level.reshape(m, k), error.reshape(m, k)


def _sort_values(key: NDArray[np.int32], values: Image, ends: Index) -> NDArray[np.int32]:
    """Return values by key and then value, both of which rise from one stretch, up to an end, to the next.

    Of (n, 2) the second is the key, and the first the value, as a number whose unsigned order is that of floats: the 64
    bits of both are sorted as one.
    """
    both = np.empty(len(key), np.uint64)
    halves = both.view(np.int32).reshape(-1, 2)[:, :: 1 if sys.byteorder == "little" else -1]
    bits = values.view(np.int32)
    ordered = bits >> 31
    ordered |= LOWEST
    ordered ^= bits
    halves[:, 0], halves[:, 1] = ordered, key
    for start, end in pairwise([0, *ends.tolist()]):
        both[start:end].sort()
    return halves


def _fill_rings(level: Image, error: Image) -> tuple[Image, Image]:
    """Return levels and errors (m, k), of rings without a level those of the next within; 0 without any."""
    known = np.isfinite(level)
    nearest = np.maximum.accumulate(np.where(known, np.arange(known.shape[1]), 0), axis=1)
    clean = (np.where(known, plane, np.float32(0)) for plane in (level, error))
    level, error = (np.take_along_axis(plane, nearest, axis=1) for plane in clean)
    return level, error


def _end_profiles(level: Image, error: Image, radius: Floats, segment: Floats, half: int) -> Image:
    """Return profiles that never rise beyond the segment (its radius in pixels, (m,)) and end in the noise."""
    level, error = _fill_rings(level, error)
    beyond = radius > segment[:, None]
    last = np.maximum(np.argmax(beyond, axis=1) - 1, 0)
    most = np.maximum(np.take_along_axis(level, last[:, None], axis=1), 0)
    falling = np.minimum(np.minimum.accumulate(np.where(beyond, level, np.inf), axis=1), most)
    level = np.where(beyond, falling, level)
    ended = np.logical_or.accumulate(beyond & ((level < error) | (radius > half)), axis=1)
    return np.where(ended, 0, level).astype(np.float32)


def _batches(reach: Index) -> Iterator[tuple[int, Index]]:
    """Yield half-sides of stamps, and which sources have them, so many as fit into a batch."""
    # glibc gives freed arrays back to the system, and has to clear them each time: that took half of the time. Once an
    # array of up to 32 MB has been freed it keeps as much; this one is never written, and takes no memory.
    np.empty(KEPT, np.uint8)
    size_of = np.searchsorted(HALVES, reach)
    for k in np.unique(size_of):
        chosen, half = np.flatnonzero(size_of == k), int(HALVES[k])
        step = max(1, BATCH // (2 * half + 1) ** 2)
        for start in range(0, len(chosen), step):
            yield half, chosen[start : start + step]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sources:
    """Sources that are modelled, by falling flux, all (m,): with flux and radius of segments."""

    profiles: Profiles
    flux: Floats
    radius: Floats

    def __getitem__(self, index: NDArray[np.bool_ | np.intp]) -> _Sources:
        return _Sources(**{name: getattr(self, name)[index] for name in self.__slots__})


def _choose_sources(
    data: Image,
    planes: Planes,
    segmentation: NDArray[np.int32],
    scale: float,
    targets: Shapes,
    extent: Floats,
    parallel: Map,
) -> _Sources:
    """Return the sources that are bright enough, and near another, without profiles."""
    shapes, npix, flux, noise = weigh_segments(data, planes, segmentation, parallel=parallel)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.nan_to_num(flux / np.sqrt(noise))
    rows = np.flatnonzero(snr > LEAST_SNR)
    rows = rows[np.argsort(-flux[rows], kind="stable")]
    shapes, radius = shapes[rows], np.sqrt(npix[rows] / np.pi)
    axis_ratio = np.clip(np.nan_to_num(shapes.b / shapes.a, nan=1.0), FLATTEST, 1).astype(np.float32)
    far = radius * (REACH[0] + REACH[1] * np.log10(snr[rows])) + MORE
    reach = np.ceil(np.minimum(far, LONGEST / scale) / np.sqrt(axis_ratio)).astype(np.intp)
    matter = _matter(shapes, reach, targets, extent)
    longest = 1.5 * float(HALVES[np.searchsorted(HALVES, reach[matter].max(initial=8))])
    level = np.zeros((len(reach), len(_make_rings(longest).radius)), np.float32)
    profiles = Profiles(owners=shapes, axis_ratio=axis_ratio, level=level, reach=reach, longest=longest)
    return _Sources(profiles=profiles, flux=flux[rows], radius=radius)[matter]


def _matter(shapes: Shapes, reach: Index, targets: Shapes, extent: Floats) -> NDArray[np.bool_]:
    """Return whether the stamp of each source reaches the aperture of any other."""
    found = np.zeros(len(reach), bool)
    somewhere = np.isfinite(targets.x) & np.isfinite(targets.y)
    targets, extent = targets[somewhere], extent[somewhere]
    near, far = (np.frexp(np.maximum(size, 1))[1] for size in (reach, extent))
    # Radii of up to a factor of two at a time: with the largest of all of them there were too many pairs.
    for i, j in product(np.unique(near), np.unique(far)):
        one, other = np.flatnonzero(near == i), np.flatnonzero(far == j)
        trees = [KDTree(np.column_stack([who.x, who.y])) for who in (shapes[one], targets[other])]
        pairs = trees[0].sparse_distance_matrix(trees[1], 2.0**i + 2.0**j, output_type="ndarray")
        row, column = one[pairs["i"]], other[pairs["j"]]
        touch = pairs["v"] < reach[row] + extent[column]
        found[row[touch & (shapes.label[row] != targets.label[column])]] = True
    return found


def _run(parallel: Map, work: Callable[[Item], Outcome], items: list[Item]) -> list[Outcome]:
    """Return what becomes of the items; one alone is not worth the way to another process."""
    return list((parallel if len(items) > 1 else map)(work, items))


def _measure_profiles(data: Image, planes: Planes, segmentation: NDArray[np.int32], sources: _Sources) -> Image:
    """Return the levels of the rings of some sources, (m, k), each on the image with its own wing put back."""
    whole, rings = np.zeros_like(sources.profiles.level), sources.profiles.rings
    for half, chosen in _batches(sources.profiles.reach):
        part, segment = sources.profiles[chosen], sources.radius[chosen]
        label = part.owners.label[:, None, None]
        k = min(int(np.searchsorted(rings.radius, max(half, segment.max()), side="right")) + 1, len(rings.radius))
        last = min(int(np.searchsorted(rings.number, k)), len(rings.number) - 1)
        stamps = _cut(part.owners, part.axis_ratio, half, segmentation, last)
        values, own = stamps.cut(data), stamps.label == label
        if part.level.any():
            wings = _evaluate(part.level, stamps.step, rings, last)
            wings *= ~own
            values += wings
        # Within the segment nothing is asked of a profile; its last rings there are the most that follows.
        inner = np.searchsorted(rings.number, np.searchsorted(rings.radius, segment) - 2).astype(np.int32)
        use = stamps.label == 0
        use |= own
        use &= stamps.step >= inner[:, None, None]
        use &= stamps.step < last
        use &= ~planes.map(stamps.cut).null()
        levels = _measure_rings(values, stamps.step, use, rings, k)
        whole[chosen, :k] = _end_profiles(*levels, rings.radius[:k], segment, half)
    return whole


def _count_shares(work: float) -> int:
    """Return in how many parts so many pixels of stamps are worked on."""
    if work < SHARE:
        return 2 if work > SHARE / 2 else 1
    return EQUAL * int(np.ceil(work / (EQUAL * SHARE)))


def _share(reach: Index) -> list[Index]:
    """Return which sources are measured together, by the size of their stamps, the largest ones first."""
    order = np.argsort(-reach, kind="stable")
    work = (2.0 * reach[order] + 1) ** 2
    share = np.floor((np.cumsum(work) - work / 2) * _count_shares(work.sum()) / work.sum())
    return np.split(order, np.flatnonzero(np.diff(share)) + 1)


Band = tuple[slice, Profiles]


def _bands(profiles: Profiles, ny: int) -> list[Band]:
    """Return bands of rows with as much light to write each, and the profiles that reach there.

    Stamps that reach into two are made in both: bands are several times as high as them.
    """
    y, side = profiles.owners.y, 2.0 * profiles.reach + 1
    work = side**2
    height = 3 * (work * side).sum() / max(work.sum(), 1) + 1
    count = max(1, min(_count_shares(work.sum()), int(ny / height)))
    order = np.argsort(y)
    equal = np.searchsorted(np.cumsum(work[order]), work.sum() / count * np.arange(1, count))
    edges = np.unique([0, *np.rint(y[order][equal]).astype(np.intp).tolist(), ny]).tolist()
    rows = [slice(*span) for span in pairwise(edges)]
    return [(span, profiles[_touch(y, profiles.reach, span)]) for span in rows]


@once
def _take_off(data: Image, segmentation: NDArray[np.int32], band: Band) -> None:
    """Take wings off some rows of an image."""
    rows, profiles = band
    data = np.asarray(data)
    for _, stamps, wings in _render(profiles, segmentation):
        for (where, part), light in zip(stamps.places(rows), wings, strict=True):
            data[where] -= light[part]


def find_neighbours(
    data: Image,
    planes: Planes,
    segmentation: NDArray[np.int32],
    scale: float,
    targets: Shapes,
    extent: Floats,
    *,
    parallel: Map = map,
) -> NeighbourLight:
    """Model what sources add to the sky and to the segments around them, and take it off.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky, in the unit of the image; it is overwritten, and becomes `NeighbourLight.clear`.
    planes : Planes
        Of the image: which pixels have data, and their background variance.
    segmentation : ndarray
        (ny, nx), labels.
    scale : float
        Of the pixels, arcsec.
    targets : Shapes
        Of n positions that are measured, with the label of the source of each. Sources without another's near have no
        light to take off, and no profile.
    extent : ndarray
        How far the apertures around them reach, in pixels, (n,).
    parallel : callable, optional
        As `map`. Where it works in other processes, all planes are in memory or files that these share, and are
        pickled by name: what is written in one call is read in the next.

    Returns
    -------
    NeighbourLight
        The same by whatever `parallel`.
    """
    sources = _choose_sources(data, planes, segmentation, scale, targets, extent, parallel)
    planes = replace(planes, background=None)  # from here on they tell which pixels have data, and nothing else
    profiles, ny = sources.profiles, len(data)
    step = np.floor(-2.5 / STEP * np.log10(np.maximum(sources.flux, 1e-30)))
    measure, take_off = partial(_measure_profiles, data, planes, segmentation), partial(_take_off, data, segmentation)
    for again in (False, True):
        if again:
            profiles = replace(profiles, reach=np.minimum(profiles.reach, profiles.end().reach))
        for group in (np.flatnonzero(step == value) for value in np.unique(step)):
            parts = [group[part] for part in _share(profiles.reach[group])]
            now, rows = replace(sources, profiles=profiles), np.concatenate(parts)
            level = np.concatenate(_run(parallel, measure, [now[part] for part in parts]))
            change = replace(profiles[rows], level=level - profiles.level[rows]).end()
            profiles.level[rows] = level
            changed = np.flatnonzero(np.any(change.level != 0, axis=1))
            _run(parallel, take_off, _bands(change[changed], ny))
    return NeighbourLight(clear=data, segmentation=segmentation, profiles=profiles.end())


Ellipse = tuple[Floats, Floats, Floats]
"""Semi-axes in pixels and angle in radians of apertures around n targets, (n,) each."""
Ellipses = Mapping[str, Ellipse]


def draw_wings(light: NeighbourLight, targets: Shapes, x: Index, y: Index, side: int) -> Image:
    """Return the targets' own wings, beyond their segments, on square windows of the image.

    Parameters
    ----------
    light : NeighbourLight
    targets : Shapes
        Of n positions; each is of the source whose label it has.
    x, y : ndarray of int
        First column and row of the window of each, (n,), which may lie off the image.
    side : int
        Of the windows.

    Returns
    -------
    ndarray
        (n, side, side), in the unit of the image; 0 where a source has no wing.
    """
    drawn = np.zeros((len(targets.x), side, side), np.float32)
    pairs, row = _match(targets.label, light.profiles.owners.label)
    for batch, stamps, wings in _render(light.profiles[row], light.segmentation):
        _, height, width = wings.shape
        for i, left, top, wing in zip(pairs[batch], stamps.x, stamps.y, wings, strict=True):
            low, high = max(top, y[i]), min(top + height, y[i] + side)
            first, last = max(left, x[i]), min(left + width, x[i] + side)
            if low < high and first < last:
                part = wing[low - top : high - top, first - left : last - left]
                drawn[i, low - y[i] : high - y[i], first - x[i] : last - x[i]] = part
    return drawn


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
    profiles = neighbours.profiles
    pairs, row = _match(targets.label, profiles.owners.label)
    part, places = profiles[row], targets[pairs]
    # Stamps need not reach beyond all apertures.
    far = np.max([np.maximum(a, b)[pairs] for a, b, _ in apertures.values()], axis=0, initial=0)
    far += np.maximum(np.abs(places.x - part.owners.x), np.abs(places.y - part.owners.y))
    part = replace(part, reach=np.minimum(part.reach, np.ceil(np.nan_to_num(far)).astype(np.intp) + 1))
    for batch, stamps, wings in _render(part, segmentation):
        chosen, on_sky = pairs[batch], stamps.label == 0
        place = targets.x[chosen] - stamps.x, targets.y[chosen] - stamps.y
        planes = wings * on_sky, wings * ~on_sky
        for name, (a, b, theta) in apertures.items():
            one = (a[chosen], b[chosen], theta[chosen])
            sums[name][:, chosen] = [_sum_stamps(plane, *place, one) for plane in planes]
    return {name: OwnLight(sky=sky, taken=taken) for name, (sky, taken) in sums.items()}


def _match(labels: NDArray[np.int32], owners: NDArray[np.int32]) -> tuple[Index, Index]:
    """Return which labels are those of owners, and of which."""
    order = np.argsort(owners)
    place = np.searchsorted(owners, labels, sorter=order)
    row = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(labels), np.intp)
    found = np.flatnonzero(owners[row] == labels) if len(order) else np.zeros(0, np.intp)
    return found, row[found]


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
    targets = replace(targets, theta=np.nan_to_num(targets.theta))
    reach = np.ceil(np.maximum(a, b)).astype(np.intp) + 1
    rings = _make_rings(1.5 * float(HALVES[np.searchsorted(HALVES, reach.max(initial=8))]) / np.sqrt(FLATTEST))
    last = len(rings.number) - 1
    for half, chosen in _batches(reach):
        one = targets[chosen]
        stamps = _cut(one, ratio[chosen], half, segmentation, last)
        label = one.label[:, None, None]
        usable = ((stamps.label == 0) | (stamps.label == label)) & ~stamps.cut(null)
        levels, _ = _fill_rings(*_measure_rings(stamps.cut(data), stamps.step, usable, rings, len(rings.radius)))
        fill = _evaluate(levels, stamps.step, rings, last)
        _, height, width = stamps.step.shape
        column = (np.rint(2 * one.x).astype(np.intp) - stamps.x)[:, None, None] - np.arange(width)
        row = (np.rint(2 * one.y).astype(np.intp) - stamps.y)[:, None, None] - np.arange(height)[:, None]
        inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
        opposite = np.where(inside, row, 0), np.where(inside, column, 0)
        theirs = segmentation[opposite]
        good = inside & ((theirs == 0) | (theirs == label)) & ~null[opposite]
        fill = np.where(good, data[opposite], fill)
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
