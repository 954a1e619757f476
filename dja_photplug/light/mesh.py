"""The sky of an image as the cells of a mesh, from which its level is made where it is needed, and never kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import sep
from astropy.nddata import NDData
from astropy.stats import mad_std
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median_filter
from scipy.spatial import KDTree

from dja_photplug.errors import PhotplugError
from dja_photplug.light.planes import LEAST_SKY, Floats
from dja_photplug.mosaic.blocks import Planes, cached_rows, native_pixels, null_pixels
from dja_photplug.options.stages import BackgroundOptions
from dja_photplug.parallel.scratch import share_plane
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import Window, pixel_scale

__all__ = ["NO_SKY", "Background", "Mesh", "cell_size", "center_mesh", "measure_mesh", "mesh_cells"]

NO_SKY = (
    "no pixel of the image is left for its background: all weights are null or masked; use another image or cut-out"
)

# Part of a cell that must be left for it to tell the sky, and cells that are measured in one piece of work.
GOOD_CELL, CELLS_AT_A_TIME = 0.5, 2000

# The mean of the sky: pixels within so many sigma, of the scatter that so many of them have.
CLIP, MOST_SCATTER = 2.5, 10**6

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
    shift : ndarray or None
        (rows, columns), what is added in the middles of cells, linear between them; see :func:`center_mesh`.
    window : pair of slices
        The pixels of that image that this is the sky of; all by default.
    bends : tuple of ndarray
        A sixth of the second derivatives along x, along y, and along both, (rows, columns), which the nodes give.

    Notes
    -----
    Without a shift `draw` gives what `sep.Background.back` does, to the rounding of float32, its ways included: nodes
    lie half a pixel below the middles of cells, and the second derivatives of its splines are not quite those of a
    natural spline.
    """

    nodes: Nodes
    cells: tuple[int, int]
    grid: tuple[int, int]
    shift: Nodes | None = None
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
        (rows, columns), width = self._spans(), self.cells[1]
        level = np.empty(self.shape, np.float32) if out is None else out
        begins = self._begin_curves()
        # Whole curves are drawn, and what of them is in the window is kept.
        first = int(np.searchsorted(begins[1:-1], columns.start, side="right"))
        last = int(np.searchsorted(begins[1:], columns.stop, side="left"))
        inside = slice(columns.start - begins[first], columns.stop - begins[first])
        for part in cached_rows(level.shape):
            nodes, bend = self._cross(np.array(rows[part]), slice(first, last + 2))
            drawn = np.empty((len(nodes), begins[last + 1] - begins[first]), np.float32)
            _draw_curves(nodes, bend, begins, first, width, drawn)
            level[part] = drawn[:, inside]
        if self.shift is not None:
            self._add_shift(level, *(np.array(span) for span in self._spans()))
        return level

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
        rows, columns = (np.array(span)[some] for span, some in zip(self._spans(), (rows, columns), strict=True))
        nodes, bend = self._cross(rows)
        level = _go_between((columns + 0.5) / self.cells[1] - 0.5, nodes.T, bend.T).T.astype(np.float32)
        if self.shift is not None:
            self._add_shift(level, rows, columns)
        return level

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

    def _add_shift(self, level: NDArray[np.float32], rows: Index, columns: Index) -> None:
        """Add what is linear between the middles of cells to the level of some rows and columns of the grid."""
        assert self.shift is not None
        y, x = (
            np.minimum(edge + size, n) / 2 + edge / 2 - 0.5
            for n, size in zip(self.grid, self.cells, strict=True)
            for edge in [np.arange(0, n, size)]
        )
        place = np.interp(rows, y, np.arange(len(y)))
        low = np.minimum(place.astype(int), max(len(y) - 2, 0))
        high = np.minimum(low + 1, len(y) - 1)
        lines = np.union1d(low, high).tolist()
        across = {i: np.interp(columns, x, self.shift[i]).astype(np.float32) for i in lines}
        for row, at, below, above in zip(level, place, low.tolist(), high.tolist(), strict=True):
            row += across[below] + np.float32(at - below) * (across[above] - across[below])


class Background:
    """Sky level of an image.

    Parameters
    ----------
    level : ndarray or Mesh
        (ny, nx) float32, in the unit of the image; a mesh is drawn where the level is asked for.
    """

    def __init__(self, level: NDArray[np.float32] | Mesh) -> None:
        self._level = level

    @property
    def level(self) -> NDArray[np.float32]:
        """(ny, nx) float32, in the unit of the image."""
        if isinstance(self._level, Mesh):
            self._level = self._level.draw()
        return self._level

    def __getitem__(self, box: slice | tuple[slice, slice]) -> Background:
        """Return that of a part of the image."""
        return Background(level=self._level[box])

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
        return self._level.at(rows, columns) if isinstance(self._level, Mesh) else self._level[np.ix_(rows, columns)]

    def share(self) -> Background:
        """Return the same for other processes.

        Returns
        -------
        Background
        """
        return self if isinstance(self._level, Mesh) else Background(level=share_plane(self._level))


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


def measure_mesh(
    image: NDData,
    cells: tuple[int, int],
    size: int,
    mask: NDArray[np.bool_] | None = None,
    *,
    parallel: Map = map,
) -> Mesh:
    """Return the mesh of the sky of an image, each cell by itself.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    cells : tuple of int
        Height and width of the cells in pixels; see :func:`cell_size`.
    size : int
        Cells across the median filter; an even number counts as the next odd one.
    mask : ndarray of bool, optional
        (ny, nx), pixels to leave out beside the null ones.
    parallel : Map, optional
        Does the work of rows of cells.

    Returns
    -------
    Mesh
        A cell of which less than half is left takes the mean of the nearest others.

    Raises
    ------
    PhotplugError
        Where no pixel is left.
    """
    grid = image.data.shape
    found = list(parallel(partial(_measure_cells, Planes.of(image), mask, cells), _bands_of_cells(grid, cells)))
    if not any(clear for _, clear in found):
        raise PhotplugError(NO_SKY)
    nodes = np.concatenate([levels for levels, _ in found])
    return Mesh(nodes=_filter_cells(_fill_cells(nodes), size), cells=cells, grid=grid)


def _bands_of_cells(grid: tuple[int, int], cells: tuple[int, int]) -> list[slice]:
    """Return bands of rows that are whole cells, as many as make one piece of work."""
    (ny, nx), (height, width) = grid, cells
    step = height * max(1, CELLS_AT_A_TIME // (-(-nx // width)))
    return [slice(start, min(start + step, ny)) for start in range(0, ny, step)]


def _measure_cells(
    planes: Planes, mask: NDArray[np.bool_] | None, cells: tuple[int, int], band: slice
) -> tuple[NDArray[np.float32], int]:
    """Return the modes of the cells in a band of rows, NaN where too little is left, and how many pixels are."""
    (height, width), nx = cells, planes.data.shape[1]
    count, last = divmod(nx, width)
    modes, clear = np.full((-(-(band.stop - band.start) // height), count + (last > 0)), np.nan, np.float32), 0
    for row, start in zip(modes, range(band.start, band.stop, height), strict=True):
        part = planes[start : min(start + height, band.stop)]
        null = part.null()
        if mask is not None:
            null |= mask[start : min(start + height, band.stop)]
        data = native_pixels(part.data)
        # Contiguous, as sep takes them; the last cell is narrower where it is cut off.
        for columns in (slice(0, count * width), slice(count * width, nx)):
            if columns.stop > columns.start:
                shape = (len(data), -1, width if columns.start == 0 and count else last)
                pixels, out = (plane[:, columns].reshape(shape).swapaxes(0, 1).copy() for plane in (data, null))
                left = out[0].size - np.count_nonzero(out, axis=(1, 2))
                clear += int(left.sum())
                for i in np.flatnonzero(left >= GOOD_CELL * out[0].size):
                    cell = sep.Background(pixels[i], mask=out[i], bw=shape[2], bh=shape[0], fw=1, fh=1)
                    row[columns.start // width + i] = cell.globalback
    return modes, clear


def _fill_cells(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return levels with the mean of the nearest known ones, of which several may be as near, where they are NaN."""
    known = np.isfinite(levels)
    if known.all() or not known.any():
        return np.nan_to_num(levels)
    tree, values = KDTree(np.argwhere(known)), np.append(levels[known], np.float32(0))
    empty = np.argwhere(~known)
    filled, rest, most = np.empty(len(empty), np.float32), np.arange(len(empty)), 4
    while len(rest):
        apart, index = tree.query(empty[rest], most)
        near = apart <= apart[:, :1] * (1 + 1e-9)
        filled[rest] = np.where(near, values[index], 0).sum(axis=1) / near.sum(axis=1)
        rest, most = rest[near.all(axis=1)], 2 * most
    levels = levels.copy()
    levels[~known] = filled
    return levels


def _filter_cells(levels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the medians of levels in windows, which are smaller at the edges so that each is in the middle of its."""
    filtered = np.empty_like(levels)
    reach = [np.minimum(size // 2, np.minimum(np.arange(n), np.arange(n)[::-1])) for n in levels.shape]
    for y in np.unique(reach[0]).tolist():
        for x in np.unique(reach[1]).tolist():
            rows, columns = np.flatnonzero(reach[0] == y), np.flatnonzero(reach[1] == x)
            windows = sliding_window_view(levels, (2 * y + 1, 2 * x + 1))[np.ix_(rows - y, columns - x)]
            filtered[np.ix_(rows, columns)] = np.median(windows, axis=(2, 3))
    return filtered


def center_mesh(mesh: Mesh, image: NDData, mask: NDArray[np.bool_], smooth: int, *, parallel: Map = map) -> Mesh:
    """Bring a sky to the mean of what is left between the sources, which is what sums over apertures see.

    Meshes estimate the mode of pixels, and faint sources and noise that is no Gaussian hold it off their mean: by 0.2
    sigma of an aperture of 0.7 arcsec in parts of the UDS cut-outs.

    Parameters
    ----------
    mesh : Mesh
        Of the whole image, in its unit.
    image : `~astropy.nddata.NDData`
        Its background weight tells the scatter of pixels.
    mask : ndarray of bool
        (ny, nx), pixels to leave out beside the null ones: those with sources.
    smooth : int
        Cells across the median filter over their means, which leave out the pixels beyond `CLIP` times the scatter.
    parallel : Map, optional
        Does the cells of some rows.

    Returns
    -------
    Mesh
        The same where too little is left.
    """
    (height, width), planes = mesh.cells, Planes.of(image)
    step = max(1, round(np.sqrt(mask.size / MOST_SCATTER))) | 1  # odd, unlike patterns of drizzling
    rows = _bands_of_cells(mesh.grid, mesh.cells)
    scatter = np.concatenate(list(parallel(partial(_sample_scatter, planes, mesh, mask, step), rows)))
    if not len(scatter):
        return mesh
    limit = np.float32(CLIP * mad_std(scatter))
    sums = list(parallel(partial(_sum_clipped, planes, mesh, mask, limit), rows))
    total, count = (np.concatenate(part) for part in zip(*sums, strict=True))
    known = count > LEAST_SKY / 2 * height * width
    if not known.any():
        return mesh
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    mean = median_filter((total / np.maximum(count, 1))[tuple(nearest)], smooth, mode="nearest")
    return replace(mesh, shift=mean)


def _sample_scatter(whole: Planes, mesh: Mesh, mask: NDArray[np.bool_], step: int, rows: slice) -> NDArray[np.floating]:
    """Return some pixels of the sky in some rows, less its level, in units of their sigma."""
    first, nx = -(-rows.start // step) * step, mask.shape[1]
    part = slice(first, rows.stop, step), slice(0, nx, step)
    some = whole[part]
    free = ~(some.null() | mask[part])
    level = mesh.at(np.arange(first, rows.stop, step), np.arange(0, nx, step))
    return ((native_pixels(some.data) - level) / np.sqrt(some.variance("background")))[free]


def _sum_clipped(
    whole: Planes, mesh: Mesh, masked: NDArray[np.bool_], limit: np.float32, rows: slice
) -> tuple[Floats, Floats]:
    """Return the sums and the numbers of the pixels of sky in the cells of some rows."""
    (height, width), nx = mesh.cells, masked.shape[1]
    level, columns = mesh[rows].draw(), np.arange(0, nx, width)
    total, count = np.empty((2, -(-len(level) // height), nx))
    for band, start in enumerate(range(rows.start, rows.stop, height)):
        part = slice(start, min(start + height, rows.stop))
        planes = whole[part]
        left = native_pixels(planes.data) - level[part.start - rows.start : part.stop - rows.start]
        use = ~(planes.null() | masked[part])
        use &= np.abs(left) < limit * np.sqrt(planes.variance("background"))
        total[band] = np.where(use, left, np.float32(0)).sum(axis=0, dtype=float)
        count[band] = use.sum(axis=0)
    return np.add.reduceat(total, columns, axis=1), np.add.reduceat(count, columns, axis=1)


def mesh_cells(
    image: NDData, options: BackgroundOptions, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return what a mesh background leaves out, and the size of its cells.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    options : BackgroundOptions
    mask : ndarray of bool, optional
        (ny, nx), True for pixels to leave out beside the null ones, such as sources.

    Returns
    -------
    null : ndarray of bool
        (ny, nx), the pixels that are left out.
    cells : tuple of int
        Height and width in pixels, at most those of the image.

    Raises
    ------
    PhotplugError
        Where no pixel is left.
    """
    null = null_pixels(image)
    if mask is not None:
        null |= mask
    if null.all():
        raise PhotplugError(NO_SKY)
    return null, cell_size(image, options)


def cell_size(image: NDData, options: BackgroundOptions) -> tuple[int, int]:
    """Return the size of the cells of a mesh background.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    options : BackgroundOptions

    Returns
    -------
    tuple of int
        Height and width in pixels, at most those of the image.
    """
    cell = max(1, round(options.mesh / pixel_scale(image.wcs)))
    height, width = (min(cell, n) for n in image.data.shape)
    return height, width
