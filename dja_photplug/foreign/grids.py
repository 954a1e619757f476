"""The grid of a catalogue's own image, and its pixel scale, by what the catalogue tells of them."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dja_photplug.catalog.columns import has_position
from dja_photplug.errors import PhotplugError
from dja_photplug.files.structure import open_fits
from dja_photplug.foreign.schema import CatalogSchema
from dja_photplug.readers.kinds import find_kind
from dja_photplug.sky.grid import header_wcs, pixel_positions, pixel_scale, sky_positions

__all__ = ["GRID_PRECISION", "find_scale", "fit_grid", "north_angles", "north_up", "read_own_grid"]

GRID_PRECISION = 0.5
"""Pixels to which positions fit a grid, so that none of the angles on it is off by 0.1 deg."""


def north_up(position: SkyCoord) -> WCS:
    """Return a tangent plane in the midst of positions, with north up as in the mosaics of the archive.

    Parameters
    ----------
    position : SkyCoord
        (n,), one of which there is.

    Returns
    -------
    WCS
    """
    there = position[has_position(position)]
    middle = SkyCoord(there.cartesian.mean(), frame=there.frame).spherical
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = middle.lon.deg, middle.lat.deg
    wcs.wcs.cdelt = -1e-5, 1e-5
    return wcs


def fit_grid(places: NDArray[np.float64] | None, position: SkyCoord) -> WCS | None:
    """Return the tangent plane on which positions have given pixels.

    Parameters
    ----------
    places : ndarray or None
        x and y, counted from 0, (2, n).
    position : SkyCoord
        (n,).

    Returns
    -------
    WCS or None
        None where they do not fit one, or are too few to tell.
    """
    if places is None:
        return None
    flat = north_up(position)
    sky = np.stack(pixel_positions(flat, position.icrs.ra.deg, position.icrs.dec.deg))
    known = np.isfinite(places).all(axis=0) & np.isfinite(sky).all(axis=0)
    if known.sum() < 3:
        return None
    terms = np.vstack([sky[:, known], np.ones(known.sum())])
    solution, *_ = np.linalg.lstsq(terms.T, places[:, known].T)
    off = np.abs(solution.T @ terms - places[:, known])
    narrow = np.sqrt(np.linalg.eigvalsh(np.cov(places[:, known]))[0])
    # On a line, or with errors as large as the field, turned and mirrored grids fit alike.
    if not (np.median(off) < GRID_PRECISION and narrow > 30 * max(np.median(off), 0.1)):
        return None
    turn = solution[:2].T
    wcs = flat.deepcopy()
    wcs.wcs.crpix = turn @ (flat.wcs.crpix - 1) + solution[2] + 1
    wcs.wcs.cdelt = 1, 1
    wcs.wcs.pc = np.diag(flat.wcs.cdelt) @ np.linalg.inv(turn)
    return wcs


def north_angles(wcs: WCS, x: ArrayLike, y: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
    """Return angles on a grid as position angles.

    Parameters
    ----------
    wcs : WCS
    x, y : array_like
        Pixels counted from 0.
    theta : array_like
        In deg, counter-clockwise from +x.

    Returns
    -------
    ndarray
        In deg from north to east, -90 to 90.
    """
    angle = np.radians(theta)
    ends = [SkyCoord(*sky_positions(wcs, x + i * np.cos(angle), y + i * np.sin(angle)), unit="deg") for i in (0, 1)]
    return np.asarray((ends[0].position_angle(ends[1]).deg + 90) % 180 - 90)


def read_own_grid(path: Path) -> WCS | None:
    """Return the grid of the image that a FITS catalogue was made on, where the file keeps it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    WCS or None
        That of an extension ``WCS``, as grizli has it, or of the header in ``LDAC_IMHEAD``; None where there is none.
    """
    if find_kind(path) != "fits":
        return None
    failures = (OSError, ValueError, KeyError, PhotplugError)
    with warnings.catch_warnings(), contextlib.suppress(*failures), open_fits(path) as hdus:
        warnings.simplefilter("ignore", AstropyWarning)  # of a header that is none
        for hdu in hdus:
            if hdu.name == "WCS":
                return header_wcs(hdu.header)
            if hdu.name == "LDAC_IMHEAD":
                cards = np.ravel(hdu.data[0][0])
                return header_wcs(fits.Header.fromstring("".join(f"{card:80}" for card in cards)))
    return None


def find_scale(
    table: Table,
    schema: CatalogSchema,
    position: SkyCoord,
    places: NDArray[np.float64] | None,
    grid: WCS | None = None,
    segments: WCS | None = None,
) -> float | None:
    """Return the scale of the pixels that a catalogue counts in.

    Parameters
    ----------
    table : `~astropy.table.Table`
    schema : CatalogSchema
    position : SkyCoord
        (n,).
    places : ndarray or None
        x and y of the rows, (2, n).
    grid : WCS, optional
        Of its own image, where that is known.
    segments : WCS, optional
        Of its segmentation.

    Returns
    -------
    float or None
        In arcsec: of `grid`, otherwise of the metadata, of the grid on which positions are at `places`, or of
        `segments`.
    """
    if grid is not None:
        return pixel_scale(grid)
    for key in schema.scales:
        with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
            above, _, below = key.partition("/")
            scale = float(table.meta[above]) / (float(table.meta[below]) if below else 1)
            if 0 < scale < np.inf:
                return scale
    fitted = fit_grid(places, position)
    known = fitted if fitted is not None else segments
    return None if known is None else pixel_scale(known)
