"""The light of sources outside of their segments, in rings, so that it can be taken off for their neighbours.

Each source that is bright enough gets a profile: the level in rings of the elliptical radius of equal area, from pixels
that are its own or nobody's. Beyond the radius of its segment the profile never rises, and ends where it no longer
stands out of the noise. What it says outside of the segment is the source's wing: it is taken off for all others, and
stands in for the source's own light in the pixels of neighbours, also of those in a blend, which are nearer than that
radius. Sources are modelled by falling flux, and all of them twice: first roughly.

Those of one step of brightness are all measured on the same image, and then taken off, band of rows by band: the
outcome is the same in whatever order, or by however many processes, that is done. Sources whose stamps do not touch
know nothing of each other, so that most, of whatever brightness, are done at once: the first generation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dja_photplug.light.planes import FLATTEST, Floats, Shapes, weigh_segments
from dja_photplug.mosaic.blocks import Planes
from dja_photplug.neighbours.profiles import (
    GROWTH,
    Profiles,
    evaluate_profiles,
    fill_rings,
    make_rings,
    measure_rings,
    render_wings,
)
from dja_photplug.neighbours.stamps import HALVES, Image, Index, batch_stamps, begin_stamps, cut_stamps, touches
from dja_photplug.parallel.workers import Map, once

__all__ = ["NeighbourLight", "Neighbours", "find_neighbours"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
# Signal to noise of the segment from which on a wing is looked for. Stamps reach so many radii of the segment, by its
# signal to noise, and so many pixels more, but no farther than MOST: such a stamp takes 160 MB and half a second. With
# 8 arcsec at most a galaxy whose segment has a radius of 6 had hardly a wing, and the sources at 8 to 16 arcsec from it
# were too bright by 4 to 10 of their errors.
LEAST_SNR, REACH, MORE, MOST = 15.0, (1.6, 0.5), 5, 1000
# Magnitudes: sources as bright are measured before any of them is taken off. With 1.0 the medians of fluxes in crowded
# fields rise by 0.02 of their errors.
STEP = 0.5
# Half-side of stamps from which on every other row is enough the first time: pixels beside each other are correlated,
# and what is found is measured again in all of them.
THIN = 12
# Pixels of stamps that a process is given at a time: 30 ms of work at most, and 8 ms at least. There are so many parts,
# or a multiple of it, that as many processes have the same to do.
SHARE, EQUAL = 3_000_000, 4
LIGHTER = 3.0  # times less work is a wing that is taken off than one that is measured


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
        clear = np.ascontiguousarray(self.clear)
        wings, brightest = np.zeros((2, *clear.shape), np.float32)
        for _, stamps, lights in render_wings(self.profiles, self.segmentation):
            skies = lights * (stamps.label == 0)
            places = stamps.places(slice(0, len(wings)))
            for (where, part), light, sky in zip(places, lights, skies, strict=True):
                wings[where] += light[part]
                np.maximum(brightest[where], sky[part], out=brightest[where])
        return Neighbours(clear=clear, wings=wings, brightest=brightest, profiles=self.profiles)


def _end_profiles(level: Image, error: Image, radius: Floats, segment: Floats, half: int) -> Image:
    """Return profiles that never rise beyond the radius of the segment (in pixels, (m,)), and end in the noise."""
    level, error = fill_rings(level, error, radius)
    level = np.maximum(level, 0)  # no source takes light from another
    beyond = radius > segment[:, None]
    last = np.maximum(np.argmax(beyond, axis=1) - 1, 0)
    most = np.take_along_axis(level, last[:, None], axis=1)
    falling = np.minimum(np.minimum.accumulate(np.where(beyond, level, np.inf), axis=1), most)
    level = np.where(beyond, falling, level)
    ended = np.logical_or.accumulate(beyond & ((level < error) | (radius > half)), axis=1)
    return np.where(ended, 0, level).astype(np.float32)


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
    reach = np.ceil(np.minimum(far / np.sqrt(axis_ratio), MOST)).astype(np.intp)
    matter = _matter(shapes, reach, targets, extent)
    longest = 1.5 * float(HALVES[np.searchsorted(HALVES, reach[matter].max(initial=8))])
    level = np.zeros((len(reach), len(make_rings(longest).radius)), np.float32)
    profiles = Profiles(owners=shapes, axis_ratio=axis_ratio, level=level, reach=reach, longest=longest)
    return _Sources(profiles=profiles, flux=flux[rows], radius=radius)[matter]


def _matter(shapes: Shapes, reach: Index, targets: Shapes, extent: Floats) -> NDArray[np.bool_]:
    """Return whether the stamp of each source reaches the aperture of any other."""
    somewhere = np.isfinite(targets.x) & np.isfinite(targets.y)
    targets, extent = targets[somewhere], extent[somewhere]
    places, others = (np.column_stack([who.x, who.y]) for who in (shapes, targets))
    row, column = _find_pairs(places, reach, others, extent, 2)
    found = np.zeros(len(reach), bool)
    found[row[shapes.label[row] != targets.label[column]]] = True
    return found


def _find_pairs(
    places: Floats, reach: Floats | Index, others: Floats, extent: Floats, norm: float
) -> tuple[Index, Index]:
    """Return which of the places (m, 2) and others (n, 2) are less far apart than both reach, by a Minkowski norm."""
    first, second = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    # Radii of up to a factor of two at a time: with the largest of all of them there were too many pairs.
    for (i, one, tree), (j, other, others_tree) in product(_plant(places, reach), _plant(others, extent)):
        pairs = tree.sparse_distance_matrix(others_tree, 2.0**i + 2.0**j, p=norm, output_type="ndarray")
        row, column = one[pairs["i"]], other[pairs["j"]]
        touch = pairs["v"] < reach[row] + extent[column]
        first.append(row[touch])
        second.append(column[touch])
    return np.concatenate(first), np.concatenate(second)


def _plant(places: Floats, reach: Floats | Index) -> list[tuple[int, Index, KDTree]]:
    """Return for each power of two below which some reach: it, which places they are (m, 2), and a tree of them."""
    power = np.frexp(np.maximum(reach, 1))[1]
    chosen = [(int(i), np.flatnonzero(power == i)) for i in np.unique(power)]
    return [(i, some, KDTree(places[some])) for i, some in chosen]


def _find_generations(profiles: Profiles, flux: Floats, shape: tuple[int, ...]) -> Index:
    """Return when each source is measured: after the wings of all brighter ones that may reach its stamp.

    What reaches the stamp of one that is brighter, or as bright, is not taken off before that is measured.
    """
    step = np.floor(-2.5 / STEP * np.log10(np.maximum(flux, 1e-30)))
    measured = _place_stamps(profiles.owners, profiles.reach, shape)
    # A profile ends at a ring beyond its stamp at the latest, and is drawn as far as it reaches along its major axis.
    most = (GROWTH * measured[1] + 1) / np.sqrt(profiles.axis_ratio)
    painted = _place_stamps(profiles.owners, np.ceil(most).astype(np.intp) + 1, shape)
    painter, other = _find_pairs(*painted, *measured, np.inf)
    first = step[painter] < step[other]
    before, after = np.where(first, painter, other), np.where(first, other, painter)
    order = np.argsort(step[after], kind="stable")
    generation = np.zeros(len(flux), np.intp)
    for part in np.split(order, np.flatnonzero(np.diff(step[after[order]])) + 1):
        one, two, least = before[part], after[part], first[part].astype(np.intp)
        while (generation[two] < generation[one] + least).any():
            np.maximum.at(generation, two, generation[one] + least)
    return generation


def _place_stamps(owners: Shapes, reach: Index, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return the middles of stamps on an image, (m, 2), and half of their sides, (m,)."""
    half = HALVES[np.searchsorted(HALVES, reach)]
    places = zip((owners.x, owners.y), shape[::-1], strict=True)
    middles = [begin_stamps(place, half, size) + np.minimum(half, (size - 1) / 2) for place, size in places]
    return np.column_stack(middles), half + 0.5


def _run(parallel: Map, work: Callable[[Item], Outcome], items: list[Item]) -> list[Outcome]:
    """Return what becomes of the items; one alone is not worth the way to another process."""
    return list((parallel if len(items) > 1 else map)(work, items))


def _measure_profiles(data: Image, segmentation: NDArray[np.int32], sources: _Sources, *, roughly: bool) -> Image:
    """Return the levels of the rings of some sources, (m, k), each on the image with its own wing put back."""
    whole, rings = np.zeros_like(sources.profiles.level), sources.profiles.rings
    for half, chosen in batch_stamps(sources.profiles.reach):
        part, segment = sources.profiles[chosen], sources.radius[chosen]
        label = part.owners.label[:, None, None]
        k = min(int(np.searchsorted(rings.radius, max(half, segment.max()), side="right")) + 1, len(rings.radius))
        last = min(int(np.searchsorted(rings.number, k)), len(rings.number) - 1)
        every = 2 if roughly and half >= THIN else 1
        stamps = cut_stamps(part.owners, part.axis_ratio, half, segmentation, last, every)
        values, own = stamps.cut(data), stamps.label == label
        use = stamps.label == 0
        use |= own
        use &= ~np.isnan(values)
        if part.level.any():
            wings = evaluate_profiles(part.level, stamps.step, rings, last)
            wings *= ~own
            values += wings
        use &= stamps.step < last
        levels = measure_rings(values, stamps.step, use, rings, k, every)
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
    count = max(1, min(_count_shares(work.sum() / LIGHTER), int(ny / height)))
    order = np.argsort(y)
    equal = np.searchsorted(np.cumsum(work[order]), work.sum() / count * np.arange(1, count))
    edges = np.unique([0, *np.rint(y[order][equal]).astype(np.intp).tolist(), ny]).tolist()
    rows = [slice(*span) for span in pairwise(edges)]
    return [(span, profiles[touches(y, profiles.reach, span)]) for span in rows]


@once
def _take_off(data: Image, segmentation: NDArray[np.int32], band: Band) -> None:
    """Take wings off some rows of an image."""
    rows, profiles = band
    data = np.asarray(data)
    for _, stamps, wings in render_wings(profiles, segmentation):
        for (where, part), light in zip(stamps.places(rows), wings, strict=True):
            data[where] -= light[part]


def find_neighbours(
    data: Image,
    planes: Planes,
    segmentation: NDArray[np.int32],
    targets: Shapes,
    extent: Floats,
    *,
    parallel: Map = map,
) -> NeighbourLight:
    """Model what sources add to the sky and to the segments around them, and take it off.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky, in the unit of the image, NaN in all pixels without data; it is overwritten, and becomes
        `NeighbourLight.clear`.
    planes : Planes
        Of the image: which pixels have data, and their background variance.
    segmentation : ndarray
        (ny, nx), labels.
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
    sources = _choose_sources(data, planes, segmentation, targets, extent, parallel)
    profiles, ny = sources.profiles, len(data)
    generation = _find_generations(profiles, sources.flux, data.shape)
    take_off = partial(_take_off, data, segmentation)
    for again in (False, True):
        measure = partial(_measure_profiles, data, segmentation, roughly=not again)
        if again:
            profiles = replace(profiles, reach=np.minimum(profiles.reach, profiles.end().reach))
        for group in (np.flatnonzero(generation == number) for number in np.unique(generation)):
            parts = [group[part] for part in _share(profiles.reach[group])]
            now, rows = replace(sources, profiles=profiles), np.concatenate(parts)
            level = np.concatenate(_run(parallel, measure, [now[part] for part in parts]))
            change = replace(profiles[rows], level=level - profiles.level[rows]).end()
            profiles.level[rows] = level
            changed = np.flatnonzero(np.any(change.level != 0, axis=1))
            _run(parallel, take_off, _bands(change[changed], ny))
    return NeighbourLight(clear=data, segmentation=segmentation, profiles=profiles.end())
