"""Cells of a mesh: the sky that the pixels in each of them tell."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import sep
from astropy.nddata import NDData
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from dja_photplug.errors import PhotplugError
from dja_photplug.light.mesh import Mesh
from dja_photplug.light.planes import SKY_BLOCK
from dja_photplug.mosaic.blocks import Planes, native_pixels, null_pixels
from dja_photplug.options.stages import BackgroundOptions
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import pixel_scale

__all__ = ["NO_SKY", "cell_size", "measure_mesh", "median_mesh", "mesh_cells"]

NO_SKY = (
    "no pixel of the image is left for its background: all weights are null or masked; use another image or cut-out"
)

# Part of a cell that must be left for it to tell the sky, and cells that are measured in one piece of work.
GOOD_CELL, CELLS_AT_A_TIME = 0.5, 2000
ROWS_AT_A_TIME = 32  # of cells, whose medians are found in one piece of work

# Blocks of pixels that tell the level of the sky as empty apertures do: their least side in pixels, and how many a
# window must have.
LEAST_SIDE, LEAST_BLOCKS = 5, 9

Index = NDArray[np.intp]


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
                good = left >= GOOD_CELL * out[0].size
                if good.any():
                    some = slice(None) if good.all() else good
                    masked = out[some] if left.min() < out[0].size else None  # which sep looks at in 1/5 of its time
                    row[columns.start // width + np.flatnonzero(good)] = _find_modes(pixels[some], masked)
    return modes, clear


def _find_modes(cells: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Return the modes of cells, (n, height, width), by sep.

    Of a mesh sep tells no more than the level drawn through what it found in its cells. That is a cell's own where its
    middle is the middle of a pixel, such as the second of two rows; and what it finds does not depend on how the pixels
    are laid out in a cell.
    """
    count, size = len(cells), cells[0].size
    if size % 2:  # no even number of rows
        masks = [None] * count if mask is None else list(mask)
        shape = {"bw": cells.shape[2], "bh": cells.shape[1], "fw": 1, "fh": 1}
        modes = [sep.Background(cell, mask=own, **shape).globalback for cell, own in zip(cells, masks, strict=True)]
        return np.array(modes, np.float32)
    plane = None if mask is None else mask.reshape(2 * count, -1)
    mesh = sep.Background(cells.reshape(2 * count, -1), mask=plane, bw=size // 2, bh=2, fw=1, fh=1)
    return mesh.back(dtype=np.float32)[1::2, 0]


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


def _reach(counts: tuple[int, ...], smooth: int) -> list[Index]:
    """Return how far windows of cells reach along each axis: less at the edges, so that each cell is in its middle."""
    return [np.minimum(smooth // 2, np.minimum(np.arange(n), np.arange(n)[::-1])) for n in counts]


def _filter_cells(levels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the medians of levels in windows."""
    filtered = np.empty_like(levels)
    reach = _reach(levels.shape, size)
    for y in np.unique(reach[0]).tolist():
        for x in np.unique(reach[1]).tolist():
            rows, columns = np.flatnonzero(reach[0] == y), np.flatnonzero(reach[1] == x)
            windows = sliding_window_view(levels, (2 * y + 1, 2 * x + 1))[np.ix_(rows - y, columns - x)]
            filtered[np.ix_(rows, columns)] = np.median(windows, axis=(2, 3))
    return filtered


def median_mesh(
    image: NDData, cells: tuple[int, int], smooth: int, mask: NDArray[np.bool_], *, parallel: Map = map
) -> tuple[Mesh, int] | None:
    """Return the sky that as many empty apertures are above as below.

    Meshes estimate the mode of pixels, and faint sources and noise that is no Gaussian hold it off what apertures sum:
    by 0.2 sigma of one of 0.7 arcsec in parts of the UDS cut-outs. So do pixels beside a mask, where light of its
    source is left and no empty aperture lies: by 0.09 sigma of one of 1 arcsec in simulated fields. Hence the level is
    that of blocks of `SKY_BLOCK` without a masked pixel; and where a slope beside a mask has drawn a median to one
    side, that of what is then left of the blocks is added.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    cells : tuple of int
        Height and width of the cells in pixels; see :func:`cell_size`.
    smooth : int
        Cells across the windows whose blocks the level is the median of.
    mask : ndarray of bool
        (ny, nx), pixels to leave out beside the null ones: those with sources.
    parallel : Map, optional
        Does the cells of some rows.

    Returns
    -------
    tuple of Mesh and int, or None
        The sky, and how many pixels the blocks have. A cell whose window has fewer than `LEAST_BLOCKS` takes the level
        of the nearest other; None where no window has as many.
    """
    grid, side = image.data.shape, min(cells)  # images may be narrower than a cell
    across = max(1, min(round(side * pixel_scale(image.wcs) / SKY_BLOCK), side // LEAST_SIDE))
    average = partial(_average_blocks, Planes.of(image), mask, cells, across)
    found = list(parallel(average, _bands_of_cells(grid, cells)))
    blocks, number = np.concatenate([means for means, _ in found]), sum(count for _, count in found)
    level = _find_levels(blocks, across, smooth, parallel)
    if level is None:
        return None
    middles = (_find_middles(n, size, across) for n, size in zip(grid, cells, strict=True))
    left = blocks - Mesh(nodes=level, cells=cells, grid=grid).at(*middles)
    rest = _find_levels(left, across, smooth, parallel)
    assert rest is not None  # of the same blocks
    return Mesh(nodes=level + rest, cells=cells, grid=grid), number


def _find_levels(blocks: NDArray[np.float32], across: int, smooth: int, parallel: Map) -> NDArray[np.float32] | None:
    """Return the medians of the blocks in windows around cells, the nearest where these are too few; None of none."""
    counts = tuple(n // across for n in blocks.shape)
    up, side = _reach(counts, smooth)
    begin, end = np.arange(counts[0]) - up, np.arange(counts[0]) + up + 1
    bands = [slice(start, min(start + ROWS_AT_A_TIME, counts[0])) for start in range(0, counts[0], ROWS_AT_A_TIME)]
    # Each with the blocks of its windows alone, which are sent to whoever does it.
    parts = [
        (blocks[begin[band][0] * across : end[band][-1] * across], across * (begin[band] - begin[band][0]), up[band])
        for band in bands
    ]
    level = np.concatenate(list(parallel(partial(_find_medians_of_rows, across, side), parts)))
    known = np.isfinite(level)
    if not known.any():
        return None
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return level[tuple(nearest)]


def _find_medians_of_rows(
    across: int, side: Index, part: tuple[NDArray[np.float32], Index, Index]
) -> NDArray[np.float32]:
    """Return the medians of the blocks in the windows of some rows of cells, (rows, columns).

    The windows reach so many cells to either `side` of each column; of the rows there are the blocks, where the window
    of each begins, and how far it reaches up.
    """
    blocks, begin, up = part
    level = np.empty((len(up), len(side)), np.float32)
    for x in np.unique(side).tolist():
        columns = np.flatnonzero(side == x)
        for row, (start, y) in enumerate(zip(begin.tolist(), up.tolist(), strict=True)):
            band = blocks[start : start + (2 * y + 1) * across]
            windows = sliding_window_view(band, (2 * x + 1) * across, axis=1)[:, (columns - x) * across]
            level[row, columns] = _find_medians(windows.swapaxes(0, 1).reshape(len(columns), -1))
    return level


def _average_blocks(
    whole: Planes, masked: NDArray[np.bool_], cells: tuple[int, int], across: int, rows: slice
) -> tuple[NDArray[np.float32], int]:
    """Return the means of blocks of the cells in some rows, NaN where that does not tell, and of how many pixels.

    The blocks are (rows of cells * across, columns of cells * across); those beyond an edge are NaN too.
    """
    (height, width), nx = cells, masked.shape[1]
    tall, wide = _find_edges(rows.stop - rows.start, height, across), _find_edges(nx, width, across)
    begins = wide[:-1][wide[:-1] < nx]
    sums = np.zeros((3, len(tall) - 1, len(wide) - 1))
    for i, (start, stop) in enumerate(pairwise(tall.tolist())):
        if start == stop:
            continue
        part = slice(rows.start + start, rows.start + stop)
        planes = whole[part]
        null = planes.null()
        light = np.where(null, np.float32(0), planes.data)
        for total, plane in zip(sums[:, i], (light, ~null, masked[part]), strict=True):
            total[: len(begins)] = np.add.reduceat(plane.sum(axis=0, dtype=float), begins)
    light, clear, covered = sums
    tell = (covered == 0) & (clear > GOOD_CELL * height * width / across**2)
    means = np.divide(light, clear, out=np.full(light.shape, np.nan), where=tell)
    return means.astype(np.float32), int(clear[tell].sum())


def _find_edges(length: int, size: int, across: int) -> Index:
    """Return where the blocks of the cells along an axis begin, and where the last one ends."""
    begins = np.add.outer(np.arange(0, length, size), np.arange(across) * size // across)
    return np.minimum(np.append(begins, length), length)


def _find_middles(length: int, size: int, across: int) -> Index:
    """Return the pixels in the middle of the blocks along an axis; the last one for those beyond the edge."""
    edges = _find_edges(length, size, across)
    return np.minimum((edges[:-1] + edges[1:]) // 2, length - 1)


def _find_medians(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each row, of the values that are known; NaN where these are too few."""
    ordered = np.sort(values, axis=1)  # NaN comes last
    count = np.isfinite(ordered).sum(axis=1)
    line = np.arange(len(ordered))
    medians = (ordered[line, (count - 1) // 2] + ordered[line, count // 2]) / 2
    return np.where(count < LEAST_BLOCKS, np.float32(np.nan), medians)


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
