"""Exposure maps from footprints: polygons filled on a grid, with the time of each added up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["fill_polygons"]

Array = npt.NDArray[np.floating]

_BAND = 8_000_000  # pixels added up at once in double precision, 64 MB


def fill_polygons(polygons: Array, values: Array, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the sum of the values of the polygons that each pixel's centre is in.

    Polygons need not be convex. Each edge says at which pixel of a row it is crossed; adding up along the row, as
    often as the centre is circled, fills them all at once.

    Parameters
    ----------
    polygons : ndarray, shape (n, k, 2)
        Corners (x, y) in 0-based pixels; those with one that is not finite are left out.
    values : ndarray, shape (n,)
        In steps of 0.001, as exposure times are; the sums are rounded to that, without the rounding errors of
        sums that go up and down.
    shape : tuple of int
        (ny, nx).

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        In the unit of `values`.

    Examples
    --------
    >>> fill_polygons(np.array([[[0.5, -1], [2.5, -1], [2.5, 1], [0.5, 1]]]), np.array([2.5]), (2, 4))
    array([[0. , 2.5, 2.5, 0. ],
           [0. , 0. , 0. , 0. ]], dtype=float32)
    """
    ny, nx = shape
    filled = np.zeros(shape, dtype=np.float32)
    usable = np.isfinite(polygons).all(axis=(1, 2))
    lowest, highest = polygons[..., 1].min(axis=1, initial=np.inf), polygons[..., 1].max(axis=1, initial=-np.inf)
    height = max(1, _BAND // (nx + 1))
    for first in range(0, ny, height):
        rows = min(height, ny - first)
        here = np.flatnonzero(usable & (highest >= first) & (lowest <= first + rows))
        if not len(here):
            continue
        steps = np.zeros((rows, nx + 1))  # the last column takes what lies to the right
        for polygon, value in zip(polygons[here], values[here], strict=True):
            _add_edges(steps, polygon - [0, first], value)
        np.cumsum(steps, axis=1, out=steps)
        filled[first : first + rows] = np.round(steps[:, :-1], 3, out=steps[:, :-1])
    return filled


def _add_edges(steps: Array, polygon: Array, value: float) -> None:
    """Add `value` where a row enters a polygon (k, 2), and take it off where it leaves it."""
    rows, columns = steps.shape
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    # Rows between the ends of each edge; half-open, so that edges that meet on a row count it once.
    first, stop = (np.clip(np.ceil(end), 0, rows).astype(int) for end in (np.minimum(y0, y1), np.maximum(y0, y1)))
    count = stop - first
    edge = np.repeat(np.arange(len(polygon)), count)
    row = np.arange(len(edge)) + np.repeat(first - np.cumsum(count) + count, count)
    crossing = x0[edge] + (row - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    column = np.clip(np.ceil(crossing), 0, columns - 1).astype(int)
    anticlockwise = np.sum(x0 * y1 - x1 * y0) > 0
    downward = (y1 < y0)[edge]
    np.add.at(steps, (row, column), np.where(downward == anticlockwise, value, -value))
