"""The grid of a mosaic: its WCS, its pixel scale, and windows on it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area, skycoord_to_pixel

from dja_photplug.errors import PhotplugError

__all__ = ["Window", "crop_header", "header_wcs", "pixel_scale", "resolve_cutout"]

Window = tuple[slice, slice]
"""Rows and columns of a mosaic, both with start and stop."""

_MATRIX = [f"{kind}{i}_{j}" for kind in ("PC", "CD") for i in (1, 2) for j in (1, 2)]


def header_wcs(header: fits.Header) -> WCS:
    """Return the celestial WCS of a mosaic header.

    Real headers carry a CD and a PC matrix together, which the FITS standard forbids; CD is the one that the
    drizzling wrote. Reading only the WCS cards also keeps 3,500 exposure cards away from the parser.

    Raises
    ------
    PhotplugError
        Where the header has no celestial WCS.
    """
    cards = fits.Header()
    has_cd = "CD1_1" in header
    names = ("CTYPE", "CUNIT", "CRVAL", "CRPIX") if has_cd else ("CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT")
    wanted = [f"{name}{axis}" for name in names for axis in (1, 2)]
    wanted += [key for key in _MATRIX if key.startswith("CD" if has_cd else "PC")]
    for key in [*wanted, "LONPOLE", "LATPOLE", "RADESYS", "EQUINOX", "NAXIS", "NAXIS1", "NAXIS2"]:
        if key in header:
            cards[key] = header[key]
    wcs = WCS(cards)
    if not wcs.has_celestial:
        raise PhotplugError("the image header has no celestial WCS (CTYPE, CRVAL, CRPIX, CD); use a DJA mosaic")
    return wcs


def pixel_scale(wcs: WCS) -> float:
    """Return the side of a pixel in arcsec, the square root of its area at the reference point."""
    return float(np.sqrt(proj_plane_pixel_area(wcs.celestial)) * 3600)


def crop_header(header: fits.Header, window: Window) -> fits.Header:
    """Return a copy of a mosaic header that describes the pixels of `window`: size and CRPIX follow."""
    cropped = header.copy()
    for axis, part in ((1, window[1]), (2, window[0])):
        cropped[f"NAXIS{axis}"] = part.stop - part.start
        if f"CRPIX{axis}" in cropped:
            cropped[f"CRPIX{axis}"] -= part.start
    return cropped


def resolve_cutout(cutout: Any, wcs: WCS, shape: tuple[int, int]) -> Window:
    """Return the pixels that a cut-out asks for, trimmed to the mosaic.

    Parameters
    ----------
    cutout : None, tuple or regions.Region
        ``None`` for everything; ``(SkyCoord, size)`` with an angular size (one, or height and width; the centre's
        pixel is in the middle); a sky or pixel region, whose bounding box is taken; or a pair of slices (y, x).
    wcs : `~astropy.wcs.WCS`
        Of the mosaic.
    shape : tuple of int
        Of the mosaic, (ny, nx).

    Raises
    ------
    PhotplugError
        Where the cut-out lies off the mosaic or is of another form.
    """
    if cutout is None:
        return slice(0, shape[0]), slice(0, shape[1])
    if hasattr(cutout, "to_pixel"):
        cutout = cutout.to_pixel(wcs)
    if hasattr(cutout, "bounding_box"):
        box = cutout.bounding_box
        limits = [(box.iymin, box.iymax), (box.ixmin, box.ixmax)]
    elif isinstance(cutout, tuple) and len(cutout) == 2 and isinstance(cutout[0], SkyCoord):
        centre, size = cutout
        x, y = skycoord_to_pixel(centre, wcs)
        sides = np.broadcast_to((u.Quantity(size) / (pixel_scale(wcs) * u.arcsec)).to_value(u.one), 2)
        if not (sides > 0).all():
            raise PhotplugError(f"cut-out of {size}: the size is not positive")
        if not np.isfinite([x, y]).all():  # behind the tangent plane
            raise _off_mosaic(cutout, shape)
        counts = [max(1, round(float(side))) for side in sides]
        # A position read off this WCS comes back with a rounding error that must not move the window.
        lows = [math.ceil(float(c) - count / 2 - 1e-6) for c, count in zip((y, x), counts, strict=True)]
        limits = [(low, low + count) for low, count in zip(lows, counts, strict=True)]
    elif isinstance(cutout, tuple) and len(cutout) == 2 and all(isinstance(part, slice) for part in cutout):
        if any(part.step not in (None, 1) for part in cutout):
            raise PhotplugError(f"cut-out {cutout}: slices must have step 1")
        limits = [part.indices(n)[:2] for part, n in zip(cutout, shape, strict=True)]
    else:
        raise PhotplugError(f"cut-out {cutout!r}: give (SkyCoord, size), a regions region, or a pair of slices (y, x)")
    rows, columns = (slice(max(low, 0), min(high, n)) for (low, high), n in zip(limits, shape, strict=True))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise _off_mosaic(cutout, shape)
    return rows, columns


def _off_mosaic(cutout: Any, shape: tuple[int, int]) -> PhotplugError:
    asked = " ".join(str(cutout).split())
    return PhotplugError(f"cut-out {asked} lies off the mosaic of {shape[1]} x {shape[0]} pixels; choose a place on it")
