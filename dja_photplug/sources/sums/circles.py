"""Sums over many circles of one radius, all of whose pixels count, with exact overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dja_photplug.calibration.measure import Places
from dja_photplug.calibration.places import STEPS
from dja_photplug.light.planes import Floats, Shapes, sum_overlap

__all__ = ["sum_clear_circles"]

Image = NDArray[np.float32]
Index = NDArray[np.intp]

# Pixels of circles that are gathered at a time, which a cache holds.
BATCH = 2**16
WHOLE = 1 - 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class _Kernels:
    """The pixels of circles of one radius whose centres are at each `STEPS`-th of a pixel, k = STEPS^2 of them.

    Attributes
    ----------
    columns : ndarray of int
        Offsets of the n columns that have pixels within a circle as a whole, (n,).
    begin, end : ndarray of int
        Between which rows those are, (k, n).
    row, column : ndarray of int
        Offsets of pixels that are within it in part, (k, m).
    part : ndarray
        How much of them, (k, m); 0 for those that fill up the array.
    """

    columns: Index
    begin: Index
    end: Index
    row: Index
    column: Index
    part: Floats


@lru_cache(maxsize=32)
def _make_kernels(radius: float) -> _Kernels:
    reach = int(radius) + 2
    offsets = np.arange(-reach, reach + 1)
    row, column = (place.ravel() for place in np.meshgrid(offsets, offsets, indexing="ij"))
    # Of an image of one pixel a sum over a circle is the overlap of both.
    pixel = np.ones((1, 1), np.float32)
    steps = np.arange(STEPS) / STEPS
    centres = [Shapes.at(x - column, y - row) for y in steps for x in steps]
    share = np.stack([sum_overlap(pixel, each, *each.circles(radius))[0] for each in centres])
    cut = (share > 0) & (share <= WHOLE)
    order = np.argsort(~cut, axis=1, kind="stable")[:, : cut.sum(axis=1).max()]
    part = np.take_along_axis(np.where(cut, share, 0), order, axis=1)
    whole = (share > WHOLE).reshape(-1, len(offsets), len(offsets))
    inside = whole.any(axis=(0, 1))
    begin = np.argmax(whole[:, :, inside], axis=1) - reach
    return _Kernels(
        columns=offsets[inside],
        begin=begin,
        end=begin + whole[:, :, inside].sum(axis=1),
        row=np.where(part > 0, row[order], 0),
        column=np.where(part > 0, column[order], 0),
        part=part,
    )


def sum_clear_circles(planes: Sequence[Image], null: NDArray[np.bool_], places: Sequence[Places]) -> list[Floats]:
    """Return sums over circles of some radii.

    What is within a circle as a whole is taken from sums down the columns, so that of a large one a tenth of the pixels
    is looked at.

    Parameters
    ----------
    planes : sequence of ndarray
        float32, (ny, nx).
    null : ndarray of bool
        (ny, nx), pixels that are in no circle: they may hold anything.
    places : sequence of (x, y, radius)
        Centres, (n,), at a `STEPS`-th of a pixel, of circles that are on the image as a whole; radius in pixels.

    Returns
    -------
    list of ndarray
        (planes, n), for each radius.
    """
    down = [_sum_down(plane, null) for plane in planes]
    return [_sum_circles(planes, down, x, y, _make_kernels(radius)) for x, y, radius in places]


def _sum_down(plane: Image, null: NDArray[np.bool_]) -> Floats:
    """Return the sums of the first 0, 1, ... rows, (ny + 1, nx): row by row, in a third of the time of `cumsum`."""
    down = np.empty((len(plane) + 1, plane.shape[1]))
    down[0], down[1:] = 0, plane
    np.copyto(down[1:], 0, where=null)
    for above, row in pairwise(down):
        row += above
    return down


def _sum_circles(planes: Sequence[Image], down: Sequence[Floats], x: Floats, y: Floats, kernels: _Kernels) -> Floats:
    (column, right), (row, below) = (np.divmod(np.rint(STEPS * place).astype(np.intp), STEPS) for place in (x, y))
    nx, found = planes[0].shape[1], np.empty((len(planes), len(x)))
    first, kernel = row * nx + column, below * STEPS + right
    begin, end = (kernels.columns + edge * nx for edge in (kernels.begin, kernels.end))
    near = kernels.row * nx + kernels.column
    count = max(1, BATCH // (near.shape[1] + 2 * begin.shape[1]))
    for some in (slice(start, start + count) for start in range(0, len(x), count)):
        there, which = first[some, None], kernel[some]
        tops, ends, cut, part = there + begin[which], there + end[which], there + near[which], kernels.part[which]
        for sums, plane, total in zip(found, planes, down, strict=True):
            whole = total.ravel().take(ends)
            whole -= total.ravel().take(tops)
            sums[some] = whole.sum(axis=1) + np.einsum("ij,ij->i", plane.ravel().take(cut), part)
    return found
