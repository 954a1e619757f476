"""Positions that somebody else gives, and segments that they lie on: whose those are, and what of others is in them.

A position on a segment need not be its source: faint ones of a deep list lie on the segments of bright galaxies, where
nothing was told apart. And a position beside a segment may be its source, as where a list is off by a tenth of an
arcsec. So a segment belongs to the position that is nearest to its barycentre. Others on it are its guests: for them
the light of its source is taken off by its profile within the segment too, which for them is sky.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dja_photplug.light.planes import Floats, Shapes
from dja_photplug.neighbours.models import NeighbourLight
from dja_photplug.neighbours.profiles import render_wings
from dja_photplug.parallel.scratch import fill_rows, new_plane
from dja_photplug.sky.grid import row_blocks

__all__ = ["find_hosts", "open_segments"]

Labels = NDArray[np.int32]

# How far positions of a source may be from the barycentre of its segment, arcsec, or in rms of the light along each
# axis; and from each other where they are those of one source, arcsec.
NEAR, WITHIN, SAME = 0.2, 1.5, 0.1
BAND = 2**22  # pixels of a band of rows that are copied at a time


def find_hosts(on: NDArray[np.integer], x: Floats, y: Floats, segments: Shapes, scale: float) -> tuple[Labels, Labels]:
    """Return whose segments are those of positions, and which positions are guests on a segment.

    Parameters
    ----------
    on : ndarray of int
        Label of the pixel at each position, (n,); 0 or less on none.
    x, y : ndarray
        Positions in pixels, (n,); NaN where there is none.
    segments : Shapes
        Sources of the segments, (m,).
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    own : ndarray of int
        Label of the segment whose source is at a position, (n,); 0 for none.
    host : ndarray of int
        Label of the segment that it is a guest on, (n,); 0 for none.
    """
    own, host = np.zeros((2, len(x)), np.int32)
    row = np.full(max(np.max(on, initial=0), np.max(segments.label, initial=0)) + 1, -1)
    row[segments.label] = np.arange(len(segments.label))
    own[:] = np.where((on > 0) & (row[np.maximum(on, 0)] < 0), on, 0)  # segments of which nothing is known
    inside = np.flatnonzero((on > 0) & (own == 0))
    label, source, here = on[inside], segments[row[on[inside]]], np.column_stack([x, y])
    dx, dy = x[inside] - source.x, y[inside] - source.y
    away, cos, sin = np.hypot(dx, dy) * scale, np.cos(source.theta), np.sin(source.theta)
    close = (away <= NEAR) | (np.hypot((dx * cos + dy * sin) / source.a, (dy * cos - dx * sin) / source.b) <= WITHIN)
    close &= _find_nearest(label, away, here[inside] * scale)
    own[inside], host[inside] = np.where(close, label, 0), np.where(close, 0, label)
    free = segments[~np.isin(segments.label, own[inside]) & np.isfinite(segments.x) & np.isfinite(segments.y)]
    beside = np.flatnonzero((on <= 0) & np.isfinite(here).all(axis=1))
    if len(free.label) and len(beside):
        away, near = KDTree(np.column_stack([free.x, free.y])).query(here[beside])
        label = free.label[near]
        close = (away * scale <= NEAR) & _find_nearest(label, away, here[beside] * scale)
        own[beside] = np.where(close, label, 0)
    return own, host


def _find_nearest(label: NDArray[np.integer], away: Floats, places: Floats) -> NDArray[np.bool_]:
    """Return which of the places (n, 2) with the same label is the least far away, and those that are the same."""
    order = np.lexsort((away, label))
    first = np.zeros(np.max(label, initial=0) + 1, np.intp)
    first[label[order[::-1]]] = order[::-1]  # the last one that is written is the nearest
    return np.hypot(*(places - places[first[label]]).T) <= SAME


def open_segments(light: NeighbourLight, labels: NDArray[np.integer]) -> tuple[NeighbourLight, Labels]:
    """Return an image whose light is taken off within some segments too, as if they were sky.

    Parameters
    ----------
    light : NeighbourLight
    labels : ndarray of int
        Of the segments; those without a profile stay as they are.

    Returns
    -------
    light : NeighbourLight
        Without these segments, with the same profiles.
    opened : ndarray of int
        Labels of those that were opened.
    """
    profiles, shape = light.profiles, light.clear.shape
    part = profiles[np.isin(profiles.owners.label, labels) & np.any(profiles.level != 0, axis=1)]
    opened = part.owners.label
    clear, segmentation = new_plane(shape, np.float32, blank=False), new_plane(shape, np.int32, blank=False)
    for rows in row_blocks(shape, BAND):
        before = np.asarray(light.segmentation)[rows]
        with fill_rows(clear, rows) as left, fill_rows(segmentation, rows) as closed:
            left[...] = light.clear[rows]
            closed[...] = np.where(np.isin(before, opened), np.int32(0), before)
    for chosen, stamps, wings in render_wings(part, segmentation):
        # Beyond its own segment it was taken off before.
        wings *= stamps.cut(np.asarray(light.segmentation)) == opened[chosen][:, None, None]
        for (where, rows), wing in zip(stamps.places(slice(0, shape[0])), wings, strict=True):
            clear[where] -= wing[rows]
    return replace(light, clear=clear, segmentation=segmentation), opened
