"""Cells of a mesh: the sky that the pixels in each of them tell."""

from __future__ import annotations

from dataclasses import replace
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
from dja_photplug.light.mesh import Mesh
from dja_photplug.light.planes import LEAST_SKY, Floats
from dja_photplug.mosaic.blocks import Planes, native_pixels, null_pixels
from dja_photplug.options.stages import BackgroundOptions
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import pixel_scale

__all__ = ["NO_SKY", "cell_size", "center_mesh", "measure_mesh", "mesh_cells"]

NO_SKY = (
    "no pixel of the image is left for its background: all weights are null or masked; use another image or cut-out"
)

# Part of a cell that must be left for it to tell the sky, and cells that are measured in one piece of work.
GOOD_CELL, CELLS_AT_A_TIME = 0.5, 2000

# The mean of the sky: pixels within so many sigma, of the scatter that so many of them have.
CLIP, MOST_SCATTER = 2.5, 10**6


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
    cell = max(1, round(min(options.mesh / pixel_scale(image.wcs), max(image.data.shape))))
    height, width = (min(cell, n) for n in image.data.shape)
    return height, width
