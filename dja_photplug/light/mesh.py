"""The sky of an image as levels on a mesh, from which it is drawn where it is needed, and never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dja_photplug.light.planes import Floats
from dja_photplug.mosaic.blocks import cached_rows
from dja_photplug.parallel.scratch import share_plane
from dja_photplug.sky.grid import Window

__all__ = ["Background", "Mesh"]

Nodes = NDArray[np.float32]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """A sky as cells of a mesh.

    Attributes
    ----------
    nodes : ndarray
        (rows, columns) of cells, float32: their levels, filtered.
    cells : tuple of int
        Height and width of a cell in pixels.
    grid : tuple of int
        Shape of the image that the cells cover, (ny, nx).
    window : pair of slices
        The pixels of that image that this is the sky of; all by default.
    bends : tuple of ndarray
        A sixth of the second derivatives along x, along y, and along both, (rows, columns), which the nodes give.

    Notes
    -----
    `draw` gives what `sep.Background.back` does, to the rounding of float32, its ways included: nodes
    lie half a pixel below the middles of cells, and the second derivatives of its splines are not quite those of a
    natural spline.
    """

    nodes: Nodes
    cells: tuple[int, int]
    grid: tuple[int, int]
    window: Window = field(default=(slice(0, None), slice(0, None)))
    bends: tuple[Floats, ...] = ()

    def __post_init__(self) -> None:
        if not self.bends:  # else it is a part of another, which has the same
            along_x = _bend(self.nodes.T).T if len(self.nodes) > 1 else np.zeros(self.nodes.shape)
            object.__setattr__(self, "bends", (along_x, _bend(self.nodes), _bend(along_x)))

    def _spans(self) -> tuple[range, range]:
        """Return the rows and columns of its pixels on the grid."""
        rows, columns = (range(n)[part] for n, part in zip(self.grid, self.window, strict=True))
        return rows, columns

    @property
    def shape(self) -> tuple[int, int]:
        """Of the pixels that this is the sky of, (ny, nx)."""
        rows, columns = self._spans()
        return len(rows), len(columns)

    def __getitem__(self, box: slice | tuple[slice, slice]) -> Mesh:
        """Return the sky of some rows, or of some rows and columns, of its pixels."""
        parts = (box, slice(None)) if isinstance(box, slice) else box
        inner = (span[part] for span, part in zip(self._spans(), parts, strict=True))
        rows, columns = (slice(span.start, span.stop) for span in inner)
        return replace(self, window=(rows, columns))

    def draw(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the level of the sky.

        Parameters
        ----------
        out : ndarray, optional
            (ny, nx) float32, where to put it.

        Returns
        -------
        ndarray
            (ny, nx) float32.
        """
        level = np.empty(self.shape, np.float32) if out is None else out
        for rows, drawn in self._draw_rows():
            level[rows] = drawn
        return level

    def take_off(self, data: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return pixels less the level of the sky.

        Parameters
        ----------
        data : ndarray
            (ny, nx) float32.
        out : ndarray, optional
            (ny, nx) float32, where to put it.

        Returns
        -------
        ndarray
            (ny, nx) float32.
        """
        left = np.empty(self.shape, np.float32) if out is None else out
        for rows, drawn in self._draw_rows():
            np.subtract(data[rows], drawn, out=left[rows])
        return left

    def _draw_rows(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the level of the sky from top to bottom, as much at a time as a cache holds."""
        (rows, columns), width = self._spans(), self.cells[1]
        begins = self._begin_curves()
        # Whole curves are drawn, and what of them is in the window is kept.
        first = int(np.searchsorted(begins[1:-1], columns.start, side="right"))
        last = int(np.searchsorted(begins[1:], columns.stop, side="left"))
        inside = slice(columns.start - begins[first], columns.stop - begins[first])
        for some in cached_rows((len(rows), last + 2 - first)):
            nodes, bend = self._cross(rows.start + np.arange(some.start, some.stop), slice(first, last + 2))
            for part in cached_rows((len(nodes), len(columns))):
                drawn = np.empty((part.stop - part.start, begins[last + 1] - begins[first]), np.float32)
                _draw_curves(nodes[part], bend[part], begins, first, width, drawn)
                yield slice(some.start + part.start, some.start + part.stop), drawn[:, inside]

    def at(self, rows: Index, columns: Index) -> NDArray[np.float32]:
        """Return the level where some rows and columns cross, to the rounding of float32.

        Parameters
        ----------
        rows, columns : ndarray of int
            Of its pixels, (m,) and (n,).

        Returns
        -------
        ndarray
            (m, n) float32.
        """
        rows, columns = (span.start + some for span, some in zip(self._spans(), (rows, columns), strict=True))
        nodes, bend = self._cross(rows)
        return _go_between((columns + 0.5) / self.cells[1] - 0.5, nodes.T, bend.T).T.astype(np.float32)

    def _cross(self, rows: Index, some: slice = slice(None)) -> tuple[Nodes, Nodes]:
        """Return the levels of some curves along y at rows of the grid, and how a curve through them bends."""
        at = rows.astype(np.float32) / np.float32(self.cells[0]) - 0.5
        along_x, along_y, along_both = (bend[:, some] for bend in self.bends)
        nodes, bend = _go_between(at, self.nodes[:, some], along_y), _go_between(at, along_x, along_both)
        return nodes.astype(np.float32), bend.astype(np.float32)

    def _begin_curves(self) -> list[int]:
        """Return the columns at which the curve between the next two nodes begins, and the end of the last one.

        The first and the last curve go on to the edges.
        """
        count, width = self.nodes.shape[1], self.cells[1]
        return [0, *range(width + width // 2, (count - 2) * width + width // 2 + 1, width), self.grid[1]]


class Background:
    """Sky level of an image.

    Parameters
    ----------
    level : ndarray, Mesh or callable
        (ny, nx) float32, in the unit of the image; a mesh is drawn where the level is asked for. What is called, with
        nothing, gives a `Background`, and is called when somebody looks at it.
    """

    def __init__(self, level: NDArray[np.float32] | Mesh | Callable[[], Background]) -> None:
        self._level = level

    def _find(self) -> NDArray[np.float32] | Mesh:
        """Return what it is made of."""
        while callable(self._level):
            self._level = self._level()._level
        return self._level

    @property
    def level(self) -> NDArray[np.float32]:
        """(ny, nx) float32, in the unit of the image."""
        found = self._find()
        if isinstance(found, Mesh):
            self._level = found = found.draw()
        return found

    def __getitem__(self, box: slice | tuple[slice, slice]) -> Background:
        """Return that of a part of the image."""
        return Background(level=partial(_cut, self, box) if callable(self._level) else self._level[box])

    def at(self, rows: Index, columns: Index) -> NDArray[np.float32]:
        """Return the level where some rows and columns cross; of a mesh without drawing it.

        Parameters
        ----------
        rows, columns : ndarray of int
            (m,) and (n,).

        Returns
        -------
        ndarray
            (m, n) float32.
        """
        found = self._find()
        return found.at(rows, columns) if isinstance(found, Mesh) else found[np.ix_(rows, columns)]

    def share(self) -> Background:
        """Return the same for other processes.

        Returns
        -------
        Background
        """
        return Background(level=share_plane(self._level)) if isinstance(self._level, np.ndarray) else self


def _cut(background: Background, box: slice | tuple[slice, slice]) -> Background:
    """Return that of a part of the image, of what has to be found first."""
    return Background(level=background._find()[box])


def _draw_curves(
    nodes: Nodes, bend: Nodes, begins: list[int], first: int, width: int, out: NDArray[np.float32]
) -> None:
    """Draw the curves from the first one on through nodes of rows that bend so much there, into (rows, nx)."""
    if nodes.shape[1] == 1:
        out[:] = nodes
        return
    ends = np.stack([nodes[:, :-1], nodes[:, 1:], bend[:, :-1], bend[:, 1:]], axis=-1)
    step, last, final = np.float32(1 / width), first + ends.shape[1] - 1, len(begins) - 2
    at_edge, later = (step - 1) / 2, (width + 1) % 2 * step / 2
    for i, start in [(0, at_edge), (final, later)][: final + 1]:
        if first <= i <= last:
            size, place = begins[i + 1] - begins[i], begins[i] - begins[first]
            np.matmul(ends[:, i - first], _weigh_steps(start, step, size), out=out[:, place : place + size])
    low, high = max(first, 1), min(last, final - 1)
    if high >= low:
        span = slice(begins[low] - begins[first], begins[high + 1] - begins[first])
        between = out[:, span].reshape(len(out), high + 1 - low, width)
        np.matmul(ends[:, low - first : high + 1 - first], _weigh_steps(later, step, width), out=between)


def _go_between(at: NDArray[np.floating], nodes: NDArray[np.floating], bend: NDArray[np.floating]) -> Floats:
    """Return the values at places along the first axis of curves through nodes, 0 at the first; (n, columns)."""
    low = np.clip(at.astype(int), 0, max(len(nodes) - 2, 0))
    high = np.minimum(low + 1, len(nodes) - 1)
    ends = nodes[low], nodes[high], bend[low], bend[high]
    return sum(weight[:, None] * end for weight, end in zip(_weigh_nodes(at - low), ends, strict=True))


def _weigh_nodes(at: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the weights of the level and the bend of both nodes, (4, n), at places between them, 0 to 1."""
    rest = 1 - at
    return np.stack([rest, at, rest**3 - rest, at**3 - at])


def _weigh_steps(start: np.floating, step: np.floating, count: int) -> NDArray[np.float32]:
    """Return the weights at places so far apart, whose rounding errors add up as in sep."""
    places = np.full(count, step, np.float32)
    places[0] = start
    return _weigh_nodes(np.cumsum(places, dtype=np.float32)).astype(np.float32)


def _bend(nodes: NDArray[np.floating]) -> Floats:
    """Return a sixth of the second derivative of a curve through nodes along the first axis, 0 at both ends.

    For a natural spline the last line would not divide what comes from the next node.
    """
    values = nodes.astype(float)
    bend, factor = np.zeros_like(values), 0.0
    factors = [factor]
    for i in range(1, len(values) - 1):
        factor = -1 / (factor + 4)
        factors.append(factor)
        bend[i] = factor * (bend[i - 1] - 6 * (values[i + 1] + values[i - 1] - 2 * values[i]))
    for i in range(len(values) - 2, 0, -1):
        bend[i] = (factors[i] * bend[i + 1] + bend[i]) / 6
    return bend
