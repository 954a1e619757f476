"""Saturated stars: holes without data where light is brightest, and the sources around them."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label, minimum

from dja_photplug.light.planes import Floats, Shapes
from dja_photplug.mosaic.blocks import Plane
from dja_photplug.sources.sums.apertures import LEAST_OVERLAP

__all__ = ["HOLE_REACH", "find_saturated_cores"]

# A saturated star has no weight in its core: radius of the core and of the ring around it, in arcsec, and the least
# parts of the ring with data and in the star's own segment. A bad pixel in faint light has no segment around it.
CORE, RING, RING_WITH_DATA, RING_OF_SOURCE = 0.1, 0.35, 0.9, 0.5
# Larger holes, up to this far across in arcsec, are in no segment, and what is left of the star around them is taken
# for several sources: those that are brightest beside the hole, where so much of its rim is in segments.
HOLE, RIM_OF_SOURCES = 1.5, 0.9
HOLE_REACH = RING + HOLE
"""How far from a source its hole may reach, arcsec."""


def find_saturated_cores(
    data: NDArray[np.float32],
    null: NDArray[np.bool_],
    segmentation: NDArray[np.int32],
    shapes: Shapes,
    scale: float,
) -> NDArray[np.bool_]:
    """Return the sources that are a saturated star, or a part of one.

    Parameters
    ----------
    data : ndarray
        (ny, nx), whose brightest pixels tell where sources have their peak.
    null : ndarray of bool
        (ny, nx), True for pixels without data, which a saturated core is.
    segmentation : ndarray
        (ny, nx), their labels.
    shapes : Shapes
        Of n sources.
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    ndarray of bool
        (n,). True for null pixels within 0.1 arcsec, and a ring from there to 0.35 arcsec of which 90 % have data and
        half belongs to the source, where it has no label to any one; and beside a hole of up to 1.5 arcsec, see
        :func:`_is_beside_hole`.
    """
    ring, _, _ = sep.sum_circle(null.view(np.uint8), shapes.x, shapes.y, RING / scale, subpix=1)
    near = np.flatnonzero(ring > 0)
    saturated = np.zeros(len(shapes.x), bool)
    if len(near):
        saturated[near] = _are_hollow(null, segmentation, shapes[near], scale)
    for i in np.flatnonzero(~saturated & (ring > np.pi * (CORE / scale) ** 2)):
        x, y, own = (values[i].item() for values in (shapes.x, shapes.y, shapes.label))
        saturated[i] = _is_beside_hole(data, null, segmentation, (x, y), own, scale)
    return saturated


def _are_hollow(
    null: NDArray[np.bool_], segmentation: NDArray[np.int32], shapes: Shapes, scale: float
) -> NDArray[np.bool_]:
    """Return the sources without data at their core, though there are data around it, in their own segment, (n,)."""
    core, _, _ = sep.sum_circle(null.view(np.uint8), shapes.x, shapes.y, CORE / scale, subpix=0)
    hollow = core > LEAST_OVERLAP
    if not hollow.any():
        return hollow
    one, area = shapes[hollow], np.pi * (RING**2 - CORE**2) / scale**2

    def add(plane: Plane, **settings: Plane) -> Floats:
        return sep.sum_circann(plane, one.x, one.y, CORE / scale, RING / scale, subpix=0, **settings)[0]

    clear = add((~null).view(np.uint8))
    # A core without data is in no segment, so that a position on it has no label of its own.
    own_label = np.where(one.label > 0, one.label, _label_around(segmentation, one, RING / scale))
    own = add(segmentation, segmap=segmentation, seg_id=own_label) / np.maximum(own_label, 1)
    hollow[hollow] = (clear > RING_WITH_DATA * area) & (own > RING_OF_SOURCE * area)
    return hollow


def _is_beside_hole(
    data: NDArray[np.float32],
    null: NDArray[np.bool_],
    segmentation: NDArray[np.int32],
    place: tuple[float, float],
    own: int,
    scale: float,
) -> bool:
    """Return whether a hole wider than a core, all of it near and its rim in segments, is where a source is brightest.

    The brightest pixel of its segment is within 0.1 arcsec of the hole, or half of the hole's radius, as a diffraction
    ring may be the brightest. A position in a hole itself counts where half of the rim is in its segment; without a
    label, in any.
    """
    (x, y), half = place, HOLE_REACH / scale
    ny, nx = null.shape
    if min(x, y, nx - 1 - x, ny - 1 - y) < RING / scale:
        return False  # what is beyond the edge is not known
    box = tuple(slice(max(round(v - half), 0), min(round(v + half) + 1, n)) for v, n in ((y, ny), (x, nx)))
    empty, labels = null[box], segmentation[box]
    rows, columns = np.ogrid[box]
    members = (labels == own) & ~empty & (own > 0)
    top = np.unravel_index(np.argmax(np.where(members, data[box], -np.inf)), members.shape)
    apart = np.hypot(columns - columns[0, top[1]], rows - rows[top[0], 0]) if members.any() else np.inf + 0 * labels
    holes, count = label(empty, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    radius = np.sqrt(np.bincount(holes.ravel(), minlength=count + 1)[1:] / np.pi)
    large = radius > CORE / scale  # of bad pixels there are many
    beside = minimum(apart, holes, numbers) <= np.maximum(CORE / scale, radius / 2) + 1
    inside = numbers == holes[round(y) - box[0].start, round(x) - box[1].start]
    open_ended = np.isin(numbers, np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    for i in np.flatnonzero((beside | inside) & large & ~open_ended):
        rim = labels[binary_dilation(holes == numbers[i], np.ones((3, 3))) & ~empty]
        ours = rim == own if own > 0 else rim > 0
        if (beside[i] and np.mean(rim > 0) >= RIM_OF_SOURCES) or (inside[i] and np.mean(ours) >= RING_OF_SOURCE):
            return True
    return False


def _label_around(segmentation: NDArray[np.int32], shapes: Shapes, radius: float) -> NDArray[np.int32]:
    """Return the label of most pixels about each source that are in a segment, 0 where none is."""
    found = np.zeros(len(shapes.x), np.int32)
    for i, (x, y) in enumerate(zip(shapes.x.tolist(), shapes.y.tolist(), strict=True)):
        (y0, y1), (x0, x1) = ((max(0, round(v - radius)), max(0, round(v + radius) + 1)) for v in (y, x))
        labels, counts = np.unique(segmentation[y0:y1, x0:x1], return_counts=True)
        counts[labels == 0] = 0
        found[i] = labels[np.argmax(counts)] if counts.any() else 0
    return found
