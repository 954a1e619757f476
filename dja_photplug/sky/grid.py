"""The grid of a mosaic: positions on it, its pixel scale, and windows on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from astropy.coordinates import ICRS, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area, wcs_to_celestial_frame
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.sky.headers import crop_header, header_wcs

if TYPE_CHECKING:
    pass

__all__ = [
    "BLOCK_PIXELS",
    "Grid",
    "Window",
    "check_pixels",
    "check_same_grid",
    "coarsen_grid",
    "crop_header",
    "cut_window",
    "header_wcs",
    "pixel_positions",
    "pixel_scale",
    "row_blocks",
    "sky_positions",
    "world_axes",
]

Window = tuple[slice, slice]
"""Rows and columns of a mosaic, both with start and stop."""

Scalar = TypeVar("Scalar", bound=np.generic)

# Blocks of this many pixels stay in a core's cache together with their temporaries (1 MB each in float32).
BLOCK_PIXELS = 1 << 18


class Grid(NamedTuple):
    """The pixels of an image: their celestial WCS, and their number (ny, nx)."""

    wcs: WCS
    shape: tuple[int, int]


# Apertures are circles in pixels: sides that differ by this change the flux of a point source by less than 0.3 %.
SQUARE = 0.003
# Pixels that the grids of the products of one mosaic may be off: rounded cards, and nothing that photometry notices.
SAME_GRID = 0.1


def sky_positions(wcs: WCS, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sky positions of pixels, whatever the frame and the order of the axes of their WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial.
    x, y : array_like
        Of one shape, 0-based.

    Returns
    -------
    ra, dec : ndarray
        ICRS, deg; NaN where a pixel is off the projection.
    """
    lon, lat = wcs.pixel_to_world_values(np.asarray(x, float), np.asarray(y, float))
    if wcs.wcs.lng > wcs.wcs.lat:
        lon, lat = lat, lon
    frame = wcs_to_celestial_frame(wcs)
    if not isinstance(frame, ICRS):
        sky = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
        lon, lat = sky.ra.deg, sky.dec.deg
    return np.asarray(lon), np.asarray(lat)


def world_axes(wcs: WCS, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    """Return sky positions as a WCS counts them: in its frame, and the order of its axes.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial.
    ra, dec : array_like
        (n,), ICRS, deg.

    Returns
    -------
    ndarray
        (n, 2), deg.
    """
    lon, lat = np.asarray(ra, float), np.asarray(dec, float)
    frame = wcs_to_celestial_frame(wcs)
    if not isinstance(frame, ICRS):
        sky = SkyCoord(lon, lat, unit="deg").transform_to(frame).spherical
        lon, lat = sky.lon.deg, sky.lat.deg
    return np.stack([lon, lat] if wcs.wcs.lng < wcs.wcs.lat else [lat, lon], axis=-1)


def pixel_positions(wcs: WCS, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where sky positions are on a grid: the inverse of :func:`sky_positions`.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial.
    ra, dec : array_like
        (n,), ICRS, deg.

    Returns
    -------
    x, y : ndarray
        0-based; NaN where the projection cannot hold a position.
    """
    x, y = wcs.all_world2pix(world_axes(wcs, ra, dec), 0, quiet=True).T if np.size(ra) else (np.empty(0), np.empty(0))
    return x, y


def check_pixels(wcs: WCS, shape: tuple[int, int]) -> None:
    """Refuse an image whose pixels are not square and alike on the sky: circles in its pixels are no circles there.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial.
    shape : tuple of int
        Of the image, (ny, nx).

    Raises
    ------
    PhotplugError
        Where the longest or shortest step of a pixel, in any direction, is 0.3 % off what :func:`pixel_scale` says.
    """
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n - 1, 5) for n in shape), indexing="ij"))
    steps = []
    for dx, dy in ((0.5, 0.0), (0.0, 0.5)):
        first, last = (
            SkyCoord(*sky_positions(wcs, x + sign * dx, y + sign * dy), unit="deg").cartesian.xyz.value
            for sign in (-1, 1)
        )
        steps.append(last - first)
    metric = np.einsum("ikn,jkn->nij", steps, steps)
    metric = metric[np.isfinite(metric).all(axis=(1, 2))]  # corners may be off the projection
    if not len(metric):
        raise PhotplugError("no pixel of the image has a position on the sky; correct its WCS")
    sides = np.rad2deg(np.sqrt(np.linalg.eigvalsh(metric))) * 3600
    off = np.abs(sides / pixel_scale(wcs) - 1).max(axis=1)
    if off.max() > SQUARE:
        short, long = sides[off.argmax()]
        raise PhotplugError(
            f"its pixels are {short:.4g} x {long:.4g} arcsec on the sky where its WCS says {pixel_scale(wcs):.4g}; "
            f"apertures need square ones, alike to {SQUARE:.1%}: resample the image"
        )


def check_same_grid(
    wcs: WCS, other: WCS, shape: tuple[int, int], scale: int = 1, first: tuple[int, int] = (0, 0)
) -> None:
    """Refuse pixels that another image has elsewhere on the sky.

    Parameters
    ----------
    wcs, other : `~astropy.wcs.WCS`
        Celestial.
    shape : tuple of int
        Of the first image, (ny, nx).
    scale : int, optional
        Pixels of it in one of the other.
    first : tuple of int, optional
        Its pixel (y, x) that is the other's (0, 0): pixel p should be at ``(p - first) / scale`` there.

    Raises
    ------
    PhotplugError
        Where a corner or the middle is off by more than a tenth of a pixel.
    """
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n - 1, 3) for n in shape), indexing="ij"))
    found = np.array(pixel_positions(other, *sky_positions(wcs, x, y)))
    off = np.hypot(scale * found[0] + first[1] - x, scale * found[1] + first[0] - y)
    if not off.max() <= SAME_GRID:  # NaN is nowhere near
        where = f"up to {off.max():.1f} pixels" if np.isfinite(off).all() else "a part of the sky"
        raise PhotplugError(f"its WCS is {where} off that of the science image; give products of one mosaic")


def pixel_scale(wcs: WCS) -> float:
    """Return the side of a pixel, the square root of its area at the reference point.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial.

    Returns
    -------
    float
        Arcsec.
    """
    return float(np.sqrt(proj_plane_pixel_area(wcs.celestial)) * 3600)


def coarsen_grid(grid: Grid, step: int) -> Grid:
    """Return the grid of squares of pixels, which also covers what is left at its end.

    Parameters
    ----------
    grid : Grid
        Undistorted.
    step : int
        Pixels along the side of a square.

    Returns
    -------
    Grid

    Examples
    --------
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.crpix, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (3, 1), (-0.01, 0.01)
    >>> coarse = coarsen_grid(Grid(wcs, (10, 7)), 4)
    >>> coarse.shape, coarse.wcs.wcs.crpix.tolist()
    ((3, 2), [1.125, 0.625])
    """
    wcs = grid.wcs.deepcopy()
    matrix = wcs.pixel_scale_matrix
    wcs.wcs.crpix = (wcs.wcs.crpix - 0.5) / step + 0.5
    if wcs.wcs.has_cd():
        wcs.wcs.cd = matrix * step
    else:
        wcs.wcs.cdelt = wcs.wcs.cdelt * step
    wcs.wcs.set()
    ny, nx = grid.shape
    wcs.array_shape = (-(-ny // step), -(-nx // step))
    return Grid(wcs, wcs.array_shape)


def cut_window(plane: NDArray[Scalar], corner: tuple[int, int], shape: tuple[int, int], fill: float) -> NDArray[Scalar]:
    """Return a copy of the pixels of a window that may reach over the edges of a plane, or lie beside it.

    Parameters
    ----------
    plane : ndarray
        (ny, nx).
    corner : tuple of int
        Row and column of the plane where the window begins, also negative.
    shape : tuple of int
        Of the window, (ny, nx).
    fill : float
        Value of pixels off the plane, in its type.

    Returns
    -------
    ndarray
        Of the window's shape, in the plane's type.

    Examples
    --------
    >>> cut_window(np.arange(1, 7).reshape(2, 3), (-1, 1), (2, 4), 0)
    array([[0, 0, 0, 0],
           [2, 3, 0, 0]])
    """
    from astropy.nddata import NoOverlapError, extract_array  # 0.1 s to import, and few who need a grid cut windows

    # astropy begins at ceil(position - n / 2), which is the corner for a whole position half a window on, n // 2.
    position = tuple(start + n // 2 for start, n in zip(corner, shape, strict=True))
    try:
        window = extract_array(plane, shape, position, fill_value=fill)
    except NoOverlapError:
        return np.full(shape, fill, plane.dtype)
    return window.copy() if window.base is not None else window  # all on the plane it is a view


def row_blocks(shape: tuple[int, ...], pixels: int = BLOCK_PIXELS) -> Iterator[slice]:
    """Yield the rows of an image block by block.

    Parameters
    ----------
    shape : tuple of int
        Of the image, (ny, nx).
    pixels : int, optional
        Most pixels of a block that has more than one row.

    Yields
    ------
    slice
        With start and stop.

    Examples
    --------
    >>> list(row_blocks((5, 100), 250))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    height = max(1, pixels // max(1, shape[1]))
    for start in range(0, shape[0], height):
        yield slice(start, min(start + height, shape[0]))
