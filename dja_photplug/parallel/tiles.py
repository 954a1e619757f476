"""Tiles of an image: what is theirs, and the wider window that they see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from dja_photplug.sky.grid import Window

__all__ = ["Tile", "cut_tiles", "find_tiles", "join_boxes", "make_window", "widen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    core : pair of slices
        Rows and columns that belong to this tile alone.
    window : pair of slices
        With those around them.
    """

    core: Window
    window: Window


def widen(window: Window, by: int, shape: tuple[int, ...]) -> Window:
    """Return a window with more pixels on each side, as far as the image goes.

    Parameters
    ----------
    window : pair of slices
    by : int
        Pixels.
    shape : tuple of int
        Of the image, (ny, nx).

    Returns
    -------
    pair of slices
    """
    rows, columns = (
        slice(max(part.start - by, 0), min(part.stop + by, n)) for part, n in zip(window, shape, strict=True)
    )
    return rows, columns


def make_window(low: Sequence[int] | NDArray[np.intp], high: Sequence[int] | NDArray[np.intp]) -> Window:
    """Return a window between two corners.

    Parameters
    ----------
    low, high : sequence of int
        First row and column, and those after the last ones.

    Returns
    -------
    pair of slices
    """
    rows, columns = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return rows, columns


def join_boxes(boxes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return groups of boxes that overlap, also by way of others.

    Parameters
    ----------
    boxes : ndarray
        First row and column, and those after the last ones, (n, 4).

    Returns
    -------
    list of ndarray
        Their numbers.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    overlap = ((low < boxes[:, 2:]) & (boxes[:, :2] < high)).all(axis=-1)
    _, group = connected_components(overlap, directed=False)
    return [np.flatnonzero(group == i) for i in range(int(group.max(initial=-1)) + 1)]


def cut_tiles(shape: tuple[int, ...], size: int, overlap: int) -> list[Tile]:
    """Divide an image into tiles of much the same size, row by row.

    Parameters
    ----------
    shape : tuple of int
        Of the image, (ny, nx).
    size : int
        Most pixels of a core on a side.
    overlap : int
        Pixels around the core on each side.

    Returns
    -------
    list of Tile
        One where the image is no larger than a tile.
    """
    edges = [np.linspace(0, n, max(1, -(-n // size)) + 1).astype(int).tolist() for n in shape]
    rows, columns = ([slice(*pair) for pair in pairwise(edge)] for edge in edges)
    return [Tile(core=core, window=widen(core, overlap, shape)) for core in product(rows, columns)]


def find_tiles(tiles: Sequence[Tile], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of the tile that each position is in; of those off the image the nearest one.

    Parameters
    ----------
    tiles : sequence of Tile
        From :func:`cut_tiles`.
    x, y : ndarray
        In pixels, 0-based, (n,); what is NaN counts as 0.

    Returns
    -------
    ndarray
        (n,).
    """
    rows, columns = (np.unique([tile.core[axis].stop for tile in tiles])[:-1] - 0.5 for axis in (0, 1))
    row, column = (
        np.searchsorted(edges, np.nan_to_num(values), side="right") for edges, values in ((rows, y), (columns, x))
    )
    return row * (len(columns) + 1) + column
