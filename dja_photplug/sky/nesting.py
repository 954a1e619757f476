"""Sources of one image on the grid of another, so that engines never know of two grids.

Labels go by exact repetition or medians where the pixels of one grid nest in those of the other, as the 20 and 40 mas
mosaics of DJA do, and by the nearest pixel through the WCS where not; positions always go through the sky.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from numpy.typing import NDArray

from dja_photplug.sky.grid import BLOCK_PIXELS, cut_window, pixel_scale, row_blocks

__all__ = ["Nesting", "find_nesting", "regrid_labels"]

# Fine pixels that a nested grid may be off: no sky position is known to 0.2 mas, and WCS cards round to 1e-4.
NESTING_PRECISION = 0.01

# Pixels between the points at which the WCS are evaluated. Cubic splines between them are off by 6e-9 pixels at most
# for two tangent planes of 12000 x 12000 pixels of 40 mas, 5 arcmin apart and turned by 30 deg; linear ones by 3e-7.
LATTICE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Nesting:
    """How the pixels of a fine grid fill those of a coarse one.

    Attributes
    ----------
    ratio : int
        Fine pixels in a coarse one along an axis, at least 1.
    y, x : int
        Row and column of the fine grid where the coarse pixel (0, 0) begins, also negative.
    """

    ratio: int
    y: int
    x: int


def find_nesting(fine: WCS, coarse: WCS, shape: tuple[int, int]) -> Nesting | None:
    """Return how two grids nest; None where any pixel of the fine image is off by 0.01 of its size.

    Parameters
    ----------
    fine, coarse : `~astropy.wcs.WCS`
    shape : tuple of int
        Of the fine image, (ny, nx).

    Returns
    -------
    Nesting or None

    Examples
    --------
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (-1e-5, 1e-5)
    >>> find_nesting(wcs, wcs[3::2, 4::2], (100, 100))
    Nesting(ratio=2, y=3, x=4)
    """
    ratio = max(1, round(pixel_scale(coarse) / pixel_scale(fine)))
    y, x = np.meshgrid(*(np.linspace(0, n - 1, 5) for n in shape), indexing="ij")
    ends = pixel_to_pixel(fine, coarse, x, y)
    # Where the first coarse pixel begins, less the centres' half pixels, as each point of the lattice has it.
    starts = [ours - ratio * theirs - (ratio - 1) / 2 for ours, theirs in zip((x, y), ends, strict=True)]
    if not np.isfinite(starts).all():
        return None
    first_x, first_y = (round(float(np.median(start))) for start in starts)
    off = max(np.abs(starts[0] - first_x).max(), np.abs(starts[1] - first_y).max())
    return Nesting(ratio=ratio, y=first_y, x=first_x) if off < NESTING_PRECISION else None


def regrid_labels(labels: NDArray[np.int32], wcs: WCS, target: WCS, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return segmentation labels on another grid, 0 where it reaches beyond theirs.

    Parameters
    ----------
    labels : ndarray
        (ny, nx), on the grid `wcs`; 0 is sky.
    wcs, target : `~astropy.wcs.WCS`
    shape : tuple of int
        Of the result.

    Returns
    -------
    ndarray
        The same array where the grids are the same. Where they nest: repeated on a finer grid; on a coarser one each
        pixel takes the upper median of the labels in it. That is the label of more than half of them, or a source's
        that shares it evenly with sky; of two sources with equal parts the greater, and of more than two labels
        without a majority one of those between the smallest and the greatest. Otherwise the label of the nearest pixel.
    """
    finer = pixel_scale(target) <= pixel_scale(wcs)
    nesting = find_nesting(target, wcs, shape) if finer else find_nesting(wcs, target, labels.shape)
    if nesting is None:
        return _take_nearest(labels, wcs, target, shape)
    if nesting == Nesting(ratio=1, y=0, x=0) and labels.shape == shape:
        return labels
    return (_repeat if finer else _take_medians)(labels, nesting, shape)


def _repeat(labels: NDArray[np.int32], nesting: Nesting, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return for each fine pixel the label of the coarse one around it."""
    ratio, width = nesting.ratio, shape[1]
    result = np.empty(shape, dtype=np.int32)
    # The coarse column around the first pixel, and how many fine ones of it lie before that.
    left, before = divmod(-nesting.x, ratio)
    for rows in row_blocks(shape):
        top, above = divmod(rows.start - nesting.y, ratio)
        height = rows.stop - rows.start
        cells = cut_window(labels, (top, left), (-(-(above + height) // ratio), -(-(before + width) // ratio)), 0)
        repeated = cells.repeat(ratio, axis=1).repeat(ratio, axis=0)
        result[rows] = repeated[above : above + height, before : before + width]
    return result


def _take_medians(labels: NDArray[np.int32], nesting: Nesting, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return the upper median of the fine labels in each coarse pixel."""
    ratio, width = nesting.ratio, shape[1]
    result = np.empty(shape, dtype=np.int32)
    for rows in row_blocks(shape, BLOCK_PIXELS // ratio**2):
        height = rows.stop - rows.start
        corner = nesting.y + ratio * rows.start, nesting.x
        fine = cut_window(labels, corner, (ratio * height, ratio * width), 0)
        cells = fine.reshape(height, ratio, width, ratio).swapaxes(1, 2).reshape(height, width, ratio**2)
        result[rows] = np.sort(cells)[..., ratio**2 // 2]
    return result


def _take_nearest(labels: NDArray[np.int32], wcs: WCS, target: WCS, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return the label of the pixel that is nearest on the sky."""
    from scipy.interpolate import RectBivariateSpline  # 0.3 s to import, and most grids are nested

    # A cubic spline needs four points.
    points = [np.linspace(0, n - 1, max(4, n // LATTICE + 2)) for n in shape]
    y, x = np.meshgrid(*points, indexing="ij")
    # What a tangent plane cannot hold is a quarter of the sky away.
    ends = np.nan_to_num(pixel_to_pixel(target, wcs, x, y)[::-1], nan=-1e9)
    splines = [RectBivariateSpline(*points, end) for end in ends]
    result, columns = np.zeros(shape, dtype=np.int32), np.arange(shape[1])
    for rows in row_blocks(shape):
        lines = np.arange(rows.start, rows.stop)
        y, x = (np.rint(spline(lines, columns)).astype(np.intp) for spline in splines)
        inside = (y >= 0) & (y < labels.shape[0]) & (x >= 0) & (x < labels.shape[1])
        result[rows][inside] = labels[y[inside], x[inside]]
    return result
