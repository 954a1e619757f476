"""What a source itself has beyond its segment and in the pixels of its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dja_photplug.light.planes import FLATTEST, Floats, Shapes, sum_overlap
from dja_photplug.neighbours.models import NeighbourLight, Neighbours
from dja_photplug.neighbours.profiles import evaluate_profiles, fill_rings, make_rings, measure_rings, render_wings
from dja_photplug.neighbours.stamps import HALVES, Image, Index, batch_stamps, cut_stamps

__all__ = ["Ellipse", "Ellipses", "OwnLight", "draw_wings", "sum_opposite", "sum_own_light"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnLight:
    """Sums of the sources' own wings in an aperture.

    Attributes
    ----------
    sky, taken : ndarray
        On the sky, and in the pixels of neighbours or without data, (n,), in the unit of the image.
    """

    sky: Floats
    taken: Floats


Ellipse = tuple[Floats, Floats, Floats]
"""Semi-axes in pixels and angle in radians of apertures around n targets, (n,) each."""
Ellipses = Mapping[str, Ellipse]


def draw_wings(light: NeighbourLight, targets: Shapes, x: Index, y: Index, side: int) -> Image:
    """Return the targets' own wings, outside of their segments, on square windows of the image.

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
    for batch, stamps, wings in render_wings(light.profiles[row], light.segmentation):
        _, height, width = wings.shape
        for i, left, top, wing in zip(pairs[batch], stamps.x, stamps.y, wings, strict=True):
            low, high = max(top, y[i]), min(top + height, y[i] + side)
            first, last = max(left, x[i]), min(left + width, x[i] + side)
            if low < high and first < last:
                part = wing[low - top : high - top, first - left : last - left]
                drawn[i, low - y[i] : high - y[i], first - x[i] : last - x[i]] = part
    return drawn


def sum_own_light(
    neighbours: Neighbours,
    segmentation: NDArray[np.int32],
    null: NDArray[np.bool_],
    targets: Shapes,
    apertures: Ellipses,
) -> dict[str, OwnLight]:
    """Return the sums of the targets' own wings in apertures around them, which `clear` lacks.

    Parameters
    ----------
    neighbours : Neighbours
    segmentation : ndarray
        (ny, nx), labels.
    null : ndarray of bool
        (ny, nx), pixels without data, whosever segment they are in.
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
    if null.any():
        segmentation = np.where(null, np.int32(0), segmentation)
    for batch, stamps, wings in render_wings(part, segmentation):
        on_sky = (stamps.label == 0) & ~stamps.cut(null)
        for i, plane in enumerate((wings * on_sky, wings * ~on_sky)):
            lit = np.flatnonzero(plane.any(axis=(1, 2)))
            chosen = pairs[batch][lit]
            place = targets.x[chosen] - stamps.x[lit], targets.y[chosen] - stamps.y[lit]
            ellipses = {name: (a[chosen], b[chosen], theta[chosen]) for name, (a, b, theta) in apertures.items()}
            for name, total in _sum_stamps(plane[lit], *place, ellipses).items():
                sums[name][i, chosen] = total
    return {name: OwnLight(sky=sky, taken=taken) for name, (sky, taken) in sums.items()}


def _match(labels: NDArray[np.int32], owners: NDArray[np.int32]) -> tuple[Index, Index]:
    """Return which labels are those of owners, and of which."""
    order = np.argsort(owners)
    place = np.searchsorted(owners, labels, sorter=order)
    row = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(labels), np.intp)
    found = np.flatnonzero(owners[row] == labels) if len(order) else np.zeros(0, np.intp)
    return found, row[found]


def sum_opposite(
    data: Image,
    null: NDArray[np.bool_],
    segmentation: NDArray[np.int32] | None,
    targets: Shapes,
    ellipse: Ellipse,
    *,
    segments: bool = True,
) -> Floats:
    """Return what sources have in pixels that neighbours take of apertures, or that have no data, from their others.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky.
    null : ndarray of bool
        (ny, nx), pixels without data.
    segmentation : ndarray or None
        (ny, nx), labels; None where nothing is a neighbour's.
    targets : Shapes
        Of n positions; each is of the source whose label it has.
    ellipse : tuple of ndarray
        Semi-axes in pixels and angle in radians, each (n,).
    segments : bool, optional
        Whether the pixels of neighbours count, and not only those without data.

    Returns
    -------
    ndarray
        (n,). Each pixel has the value of that opposite of the source, or where that is a neighbour's too, or without
        data, the level of the ring around the source that it is in.
    """
    a, b, theta = ellipse
    total, (ny, nx) = np.zeros(len(a)), data.shape
    segmentation = np.broadcast_to(np.int32(0), data.shape) if segmentation is None else segmentation
    ratio = np.clip(np.nan_to_num(targets.b / targets.a, nan=1.0), FLATTEST, 1).astype(np.float32)
    targets = replace(targets, theta=np.nan_to_num(targets.theta))
    reach = np.ceil(np.maximum(a, b)).astype(np.intp) + 1
    rings = make_rings(1.5 * float(HALVES[np.searchsorted(HALVES, reach.max(initial=8))]) / np.sqrt(FLATTEST))
    last = len(rings.number) - 1
    for half, chosen in batch_stamps(reach):
        one = targets[chosen]
        stamps = cut_stamps(one, ratio[chosen], half, segmentation, last)
        label = one.label[:, None, None]
        others, empty = (stamps.label > 0) & (stamps.label != label), stamps.cut(null)
        usable = ~(others | empty)
        known = measure_rings(stamps.cut(data), stamps.step, usable, rings, len(rings.radius))
        levels, _ = fill_rings(*known, rings.radius)
        fill = evaluate_profiles(levels, stamps.step, rings, last)
        _, height, width = stamps.step.shape
        column = (np.rint(2 * one.x).astype(np.intp) - stamps.x)[:, None, None] - np.arange(width)
        row = (np.rint(2 * one.y).astype(np.intp) - stamps.y)[:, None, None] - np.arange(height)[:, None]
        inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
        opposite = np.where(inside, row, 0), np.where(inside, column, 0)
        theirs = segmentation[opposite]
        good = inside & ((theirs == 0) | (theirs == label)) & ~null[opposite]
        fill = np.where(good, data[opposite], fill)
        fill = np.where(others & segments | empty, fill, np.float32(0))
        place = one.x - stamps.x, one.y - stamps.y
        ellipses = {"": (a[chosen], b[chosen], theta[chosen])}
        total[chosen] = _sum_stamps(fill, *place, ellipses)[""]
    return total


def _sum_stamps(plane: Image, x: Floats, y: Floats, ellipses: Ellipses) -> dict[str, Floats]:
    """Return sums over ellipses on each stamp of (m, sy, sx), from the place of the source on it; 0 beyond it."""
    m, height, width = plane.shape
    # One below the other they are an image, on which each is the segment of its source: without a mask sep zeroes the
    # others.
    label = np.arange(1, m + 1, dtype=np.int32)
    places = Shapes(label=label, x=x, y=y + height * np.arange(m), a=x, b=x, theta=x)
    stacked, labels = plane.reshape(-1, width), np.repeat(label, height * width).reshape(-1, width)
    segments = {"segmap": labels, "seg_id": label}
    return {name: sum_overlap(stacked, places, *where, **segments)[0] for name, where in ellipses.items()}
