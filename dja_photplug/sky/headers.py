"""From the cards of an image header to its WCS: what is read, what is refused, what is left out."""

from __future__ import annotations

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
from astropy.wcs.utils import wcs_to_celestial_frame

from dja_photplug.errors import PhotplugError
from dja_photplug.sky.cards import read_card, read_numbers, try_both

if TYPE_CHECKING:
    from dja_photplug.sky.grid import Window

__all__ = ["WCS_ADVICE", "WCS_CARDS", "crop_header", "find_contradiction", "header_wcs"]

# What of a header makes the WCS of its first two axes; the rest is 3,500 cards of exposures, and axes without pixels.
_AXIS = r"(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[12]"
_MATRIX = r"(?:CD|PC)(?:[12]_[12]|00[12]00[12])"
_FRAME = r"PV[12]_\d+|PS[12]_\d+|PROJP\d|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH"
_DISTORTION = r"(?:[AB]P?)_(?:\d+_\d+|ORDER)|(?:CPDIS|CQDIS|D2IMDIS)[12]"
WCS_CARDS = re.compile(f"WCSAXES|WCSNAME|{_AXIS}|{_MATRIX}|{_FRAME}|{_DISTORTION}")
"""Keywords that describe the WCS, which goes stale in a copy of the header when the image is cut."""

WCS_ADVICE = "correct the WCS, or use a DJA mosaic"
"""What to do about cards of the WCS."""

_READ = re.compile(f"{_AXIS}|{_MATRIX}|{_FRAME}|NAXIS[12]?")
_LINEAR = re.compile(r"CD\d_\d|PC\d_\d|CDELT\d|CROTA\d")
_PLACES = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_NONE = "the image header has no celestial WCS (CTYPE, CRVAL, CRPIX, CD); use a DJA mosaic"
# Axes that are longitude or latitude, and the pairs that they come in.
_CELESTIAL = re.compile(r"RA--|DEC-|[A-Z]LON|[A-Z]LAT")
_PAIRS = re.compile(r"RA-- DEC-|DEC- RA--|([A-Z])LON \1LAT|([A-Z])LAT \2LON")
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
    folded = [key for key in header if _FOLDED.fullmatch(key) and read_card(header, key) not in (0, "", None)]
    if folded:
        raise PhotplugError(
            f"the WCS of the image is distorted ({folded[0]} and {len(folded) - 1} more cards); resample the image, "
            "or remove these keywords if it was resampled"
        )
    cards = _read_cards(header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # of spellings that were mended: what was read is checked
            wcs = WCS(fits.Header(list(cards.items())))
    except (ValueError, TypeError, MemoryError, u.UnitsError) as error:  # of wcslib, on what is no WCS
        raise PhotplugError(f"the WCS is not valid ({' '.join(str(error).split())}); {WCS_ADVICE}") from None
    if not wcs.has_celestial:
        raise PhotplugError(_NONE)
    _check_frame(wcs, str(cards.get("RADESYS", "")))
    return wcs if wcs.wcs.lng < wcs.wcs.lat else _swap_axes(wcs)


def _read_cards(header: fits.Header | Mapping[str, object]) -> dict[str, str | float]:
    """Return the cards of the WCS with the keywords of the standard, of the matrix that counts."""
    spelled: dict[str, str] = {}
    for key in header:
        if _READ.fullmatch(key):
            modern = "RADESYS" if key == "RADECSYS" else re.sub(r"00(\d)00(\d)", r"\1_\2", key)
            spelled.setdefault(modern, key)
    left_out: tuple[str, ...] = ()
    if any(key.startswith("CD") and "_" in key for key in spelled):
        left_out = ("PC", "CDELT", "CROTA")
    elif any(key.startswith("PC") for key in spelled):
        left_out = ("CROTA",)
    used = {modern: key for modern, key in spelled.items() if not modern.startswith(left_out)}
    texts = {modern: read_card(header, key) for modern, key in used.items() if _TEXT.fullmatch(modern)}
    if not any(_CELESTIAL.match(str(texts.get(key))) for key in ("CTYPE1", "CTYPE2")):
        raise PhotplugError(_NONE)
    rest = [key for modern, key in used.items() if not (modern in texts or _LINEAR.fullmatch(modern))]
    (numbers, matrix), _ = try_both(
        lambda: try_both(
            lambda: read_numbers(header, _PLACES, WCS_ADVICE, optional=[key for key in rest if key not in _PLACES]),
            lambda: _read_matrix(header, used),
        ),
        lambda: _check_texts(texts),
    )
    numbers |= matrix
    cards: dict[str, str | float] = {}
    for modern, key in used.items():
        if modern in texts:
            cards[modern] = str(texts[modern]).strip()
        else:
            cards[modern] = int(numbers[key]) if modern.startswith("NAXIS") else numbers[key]
    return cards


def _read_matrix(header: fits.Header | Mapping[str, object], used: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers of the matrix from pixels to the sky, by the keywords that spell it (values of `used`)."""
    elements = [[(f"{i}_{j}", float(i == j)) for j in (1, 2)] for i in (1, 2)]
    first = next((name for name in ("CD", "PC") for key in used if re.fullmatch(rf"{name}\d_\d", key)), "")
    # Elements may be left out, as far as the others are a matrix; sizes alone are one too.
    sizes = [] if first == "CD" else ["CDELT1", "CDELT2"]
    given = [key for modern, key in used.items() if _LINEAR.fullmatch(modern)]
    needed = [] if first else sizes
    advice = f"they, or a CD matrix, give the pixel scale; {WCS_ADVICE}" if needed else WCS_ADVICE
    numbers = read_numbers(header, needed, advice, optional=[key for key in given if key not in needed])
    ours = {modern: numbers[key] for modern, key in used.items() if key in numbers}
    matrix = [[ours.get(first + key, 0.0 if first == "CD" else unit) for key, unit in row] for row in elements]
    steps = [[ours.get(key, 1.0)] for key in sizes] or 1.0
    if np.linalg.det(np.multiply(matrix, steps)) == 0:
        names = sizes + [first + key for row in elements for key, _ in row if first]
        read_numbers(header, [used.get(name, name) for name in names], WCS_ADVICE)
        raise PhotplugError(f"keywords {', '.join(names)} form a singular matrix; {WCS_ADVICE}")
    return numbers


def _check_texts(texts: Mapping[str, object]) -> None:
    """Refuse text cards that are none, axes that are no pair, and units that are none of angle."""
    for key, value in texts.items():
        if not isinstance(value, str):
            raise PhotplugError(f"keyword {key} is {value!r}, not a text; {WCS_ADVICE}")
    axes = {key: texts.get(key) for key in ("CTYPE1", "CTYPE2")}
    if not _PAIRS.fullmatch(" ".join(str(value)[:4] for value in axes.values())):
        told = " and ".join(f"{key} is {'missing' if value is None else repr(value)}" for key, value in axes.items())
        raise PhotplugError(f"keyword {told}, not right ascension and declination or their like; {WCS_ADVICE}")
    for key in ("CUNIT1", "CUNIT2"):
        try:
            u.Unit(str(texts.get(key) or "deg").strip()).to(u.deg)
        except (ValueError, TypeError):  # of another kind is a ValueError too
            raise PhotplugError(f"keyword {key} is {texts[key]!r}, not a unit of angle; {WCS_ADVICE}") from None


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
        raise PhotplugError(f"the WCS has the axes {', '.join(names)}{beside}, an unknown frame; convert it to ICRS")


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
    cards = {key: read_card(header, key) for key in header if _READ.fullmatch(key)}
    other = {key: value for key, value in cards.items() if not re.fullmatch(r"CD[12]_[12]", key)}
    if len(other) == len(cards) or not any(key.startswith("PC") for key in cards):
        return None
    try:
        ours, theirs = (header_wcs(each).pixel_scale_matrix for each in (cards, other))
    except PhotplugError:  # of the matrix that is not used, and says nothing
        return None
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
        if (key := f"CRPIX{axis}") in cropped:
            cropped[key] = read_numbers(cropped, [key], WCS_ADVICE)[key] - part.start
    return cropped
