"""From the cards of an image header to its WCS: what is read, what is refused, what is left out."""

from __future__ import annotations

import math
import numbers
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.coordinates import FK4, FK5, ICRS, FK4NoETerms, Galactic
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area, wcs_to_celestial_frame

from dja_photplug.errors import PhotplugError

if TYPE_CHECKING:
    from dja_photplug.sky.grid import Window

__all__ = ["WCS_CARDS", "crop_header", "find_contradiction", "header_wcs"]

# What of a header makes the WCS of its first two axes; the rest is 3,500 cards of exposures, and axes without pixels.
_AXIS = r"(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[12]"
_MATRIX = r"(?:CD|PC)(?:[12]_[12]|00[12]00[12])"
_FRAME = r"PV[12]_\d+|PS[12]_\d+|PROJP\d|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH"
_DISTORTION = r"(?:[AB]P?)_(?:\d+_\d+|ORDER)|(?:CPDIS|CQDIS|D2IMDIS)[12]"
WCS_CARDS = re.compile(f"WCSAXES|WCSNAME|{_AXIS}|{_MATRIX}|{_FRAME}|{_DISTORTION}")
"""Keywords that describe the WCS, which goes stale in a copy of the header when the image is cut."""

_READ = re.compile(f"{_AXIS}|{_MATRIX}|{_FRAME}|NAXIS[12]?")
_TEXT = re.compile(r"CTYPE\d|CUNIT\d|RADE(C)?SYS|PS\d_\d+")
_FOLDED = re.compile(r"(?:[AB]_\d+_\d+)|(?:CPDIS|CQDIS|D2IMDIS)[12]")
_EQUATORIAL = (ICRS, FK5, FK4, FK4NoETerms)


def header_wcs(header: fits.Header | Mapping[str, object]) -> WCS:
    """Return the celestial WCS of an image header, as `astropy.wcs.WCS` reads it.

    Any matrix (CD, PC, CROTA2, and PC001001 of old), order of axes, projection of the FITS standard, and frame of
    ICRS, FK5, FK4 and galactic coordinates. Real headers carry a CD and a PC matrix together, which the FITS standard
    forbids; CD is the one that the drizzling wrote. Reading only the WCS cards also keeps 3,500 exposure cards away
    from the parser.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping

    Returns
    -------
    `~astropy.wcs.WCS`
        With two axes, the longitude first; its pixels are counted from 0. Of a header whose first axis is the latitude
        the pixels keep their places, which `astropy.wcs.utils.skycoord_to_pixel` would get wrong.

    Raises
    ------
    PhotplugError
        Where the header has no celestial WCS, one that is distorted (SIP, look-up tables), not valid, or in a frame
        whose positions are not known.
    """
    cards = _wcs_cards(header)
    if not {"CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"} <= cards.keys():
        raise PhotplugError("the image header has no celestial WCS (CTYPE, CRVAL, CRPIX, CD); use a DJA mosaic")
    if not any(key.startswith(("CD", "PC")) for key in cards):
        raise PhotplugError("the image header does not say how large its pixels are (CD, or CDELT); correct the header")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # of spellings that were mended: what was read is checked
            wcs = WCS(fits.Header(list(cards.items())))
            area = proj_plane_pixel_area(wcs.celestial) if wcs.has_celestial else math.nan
    except (ValueError, TypeError, MemoryError, u.UnitsError) as error:  # of wcslib, on what is no WCS
        reason = " ".join(str(error).split())
        raise PhotplugError(f"the WCS of the image header is not valid ({reason}); correct the header") from None
    if not wcs.has_celestial:
        raise PhotplugError("the image header has no celestial WCS (CTYPE, CRVAL, CRPIX, CD); use a DJA mosaic")
    if not area > 0:
        raise PhotplugError("the matrix of the WCS (CD, PC, CDELT) gives pixels without area; correct the header")
    _check_frame(wcs, str(header.get("RADESYS", "")).strip())
    return wcs if wcs.wcs.lng < wcs.wcs.lat else _swap_axes(wcs)


def _wcs_cards(header: fits.Header | Mapping[str, object]) -> dict[str, str | float]:
    """Return the cards of the WCS with the keywords of the standard, of the matrix that counts."""
    folded = [key for key in header if _FOLDED.fullmatch(key) and header[key] not in (0, "", None)]
    if folded:
        raise PhotplugError(
            f"the WCS of the image is distorted ({folded[0]} and {len(folded) - 1} more cards); resample the image, or "
            "take these cards away where it was resampled"
        )
    cards: dict[str, str | float] = {}
    for key in header:
        if _READ.fullmatch(key):
            modern = "RADESYS" if key == "RADECSYS" else re.sub(r"00(\d)00(\d)", r"\1_\2", key)
            cards.setdefault(modern, _read_card(key, header[key]))
    left_out: tuple[str, ...] = ()
    if any(key.startswith("CD") and "_" in key for key in cards):
        left_out = ("PC", "CDELT", "CROTA")
    elif any(key.startswith("PC") for key in cards):
        left_out = ("CROTA",)
    return {key: value for key, value in cards.items() if not key.startswith(left_out)}


def _read_card(key: str, value: object) -> str | float:
    """Return the text or the number that a card of the WCS must hold."""
    if _TEXT.fullmatch(key):
        if isinstance(value, str):
            return value
    elif isinstance(value, bool | np.bool_):
        pass
    elif isinstance(value, numbers.Integral):
        return int(value)
    elif isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    raise PhotplugError(f"{key} of the image header is {value!r}, and its WCS needs it; correct the header")


def _swap_axes(wcs: WCS) -> WCS:
    """Return a WCS whose world axes are in the other order; those of the pixels are as they were."""
    old, new = wcs.wcs, WCS(naxis=2)
    new.wcs.ctype, new.wcs.cunit, new.wcs.crval = (list(axes)[::-1] for axes in (old.ctype, old.cunit, old.crval))
    new.wcs.crpix, new.wcs.cd = old.crpix, wcs.pixel_scale_matrix[::-1]
    new.wcs.set_pv([(3 - axis, number, value) for axis, number, value in old.get_pv()])
    for name in ("lonpole", "latpole", "radesys", "equinox"):
        setattr(new.wcs, name, getattr(old, name))
    new.wcs.set()
    new.pixel_shape = wcs.pixel_shape
    return new


def _check_frame(wcs: WCS, radesys: str) -> None:
    """Refuse a frame that astropy does not know, or one that RADESYS contradicts."""
    names = [wcs.wcs.ctype[axis] for axis in (wcs.wcs.lng, wcs.wcs.lat)]
    galactic = names[0].startswith("GLON")
    try:
        frame = wcs_to_celestial_frame(wcs)
    except (ValueError, NotImplementedError):
        frame = None
    # Of ecliptic axes astropy makes equatorial ones, where wcslib gave them the RADESYS of such.
    known = isinstance(frame, Galactic) if galactic else isinstance(frame, _EQUATORIAL) and names[0].startswith("RA--")
    if not known or (galactic and radesys):
        beside = f" and RADESYS {radesys}" if radesys else ""
        raise PhotplugError(
            f"the WCS has the axes {', '.join(names)}{beside}, a frame that is not known; convert it to ICRS"
        )


def find_contradiction(header: fits.Header) -> str | None:
    """Return in what a header contradicts the WCS that is read from it.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        With a celestial WCS.

    Returns
    -------
    str or None
        Of a CD and a PC matrix that are not the same, where they lie more than a thousandth apart.
    """
    cards = {key: header[key] for key in header if _READ.fullmatch(key)}
    other = {key: value for key, value in cards.items() if not re.fullmatch(r"CD[12]_[12]", key)}
    if len(other) == len(cards) or not any(key.startswith("PC") for key in cards):
        return None
    ours, theirs = (header_wcs(each).pixel_scale_matrix for each in (cards, other))
    off = np.abs(ours - theirs).max() / np.abs(ours).max()
    return f"its CD and PC matrices differ by {off:.2g} of a pixel; CD is used" if off > 1e-3 else None


def crop_header(header: fits.Header, window: Window) -> fits.Header:
    """Return a mosaic header that describes the pixels of a window.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        It is not changed.
    window : tuple of slice
        Rows and columns.

    Returns
    -------
    `~astropy.io.fits.Header`
        A copy, in which size and CRPIX follow.
    """
    cropped = header.copy()
    for axis, part in ((1, window[1]), (2, window[0])):
        cropped[f"NAXIS{axis}"] = part.stop - part.start
        if f"CRPIX{axis}" in cropped:
            cropped[f"CRPIX{axis}"] -= part.start
    return cropped
