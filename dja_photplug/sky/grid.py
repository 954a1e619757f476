"""The grid of a mosaic: its WCS, its pixel scale, and windows on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import NoOverlapError, extract_array
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area, skycoord_to_pixel
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.sky.cards import read_card, read_numbers, try_both

if TYPE_CHECKING:
    from regions import Region

__all__ = [
    "BLOCK_PIXELS",
    "WCS_ADVICE",
    "Cutout",
    "Grid",
    "Window",
    "crop_header",
    "cut_window",
    "header_wcs",
    "pixel_scale",
    "pixel_size",
    "resolve_cutout",
    "row_blocks",
]

Window = tuple[slice, slice]
"""Rows and columns of a mosaic, both with start and stop."""

Cutout: TypeAlias = "Window | tuple[SkyCoord, u.Quantity] | Region | None"
"""What a part of a mosaic is asked for by; see `resolve_cutout`."""

Scalar = TypeVar("Scalar", bound=np.generic)

# Blocks of this many pixels stay in a core's cache together with their temporaries (1 MB each in float32).
BLOCK_PIXELS = 1 << 18


class Grid(NamedTuple):
    """The pixels of an image: their celestial WCS, and their number (ny, nx)."""

    wcs: WCS
    shape: tuple[int, int]


_TYPES = ("CTYPE1", "CTYPE2")
_PLACES = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_TEXTS = ("CUNIT1", "CUNIT2", "RADESYS")
_FRAME = ("LONPOLE", "LATPOLE", "EQUINOX")
_SIZES = ("NAXIS", "NAXIS1", "NAXIS2")
_CD = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
_PC = ("CDELT1", "CDELT2", "PC1_1", "PC1_2", "PC2_1", "PC2_2")
WCS_ADVICE = "correct the WCS, or use a DJA mosaic"
"""What to do about cards of the WCS."""


def header_wcs(header: fits.Header) -> WCS:
    """Return the celestial WCS of a mosaic header.

    Real headers carry a CD and a PC matrix together, which the FITS standard forbids; CD is the one that the
    drizzling wrote. Reading only the WCS cards also keeps 3,500 exposure cards away from the parser.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`

    Returns
    -------
    `~astropy.wcs.WCS`
        With two axes, right ascension first; its pixels are counted from 0.

    Raises
    ------
    PhotplugError
        Where the header has no celestial WCS, or cards of it that are missing, no numbers, or contradict each other;
        the message names all of them.
    """
    texts = {key: str(read_card(header, key)).strip() for key in (*_TYPES, *_TEXTS) if key in header}
    if not any(texts.get(key, "").startswith(("RA--", "DEC-")) for key in _TYPES):
        raise PhotplugError("the image header has no celestial WCS (CTYPE, CRVAL, CRPIX, CD); use a DJA mosaic")
    (numbers, matrix), _ = try_both(
        lambda: try_both(
            lambda: read_numbers(header, _PLACES, WCS_ADVICE, optional=(*_FRAME, *_SIZES)), lambda: _read_matrix(header)
        ),
        lambda: _check_axes(texts, header),
    )
    cards = {key: int(number) if key in _SIZES else number for key, number in numbers.items()}
    try:
        wcs = WCS(fits.Header(list((texts | cards | matrix).items())))
        wcs.wcs.set()
    except ValueError as error:  # all errors of wcslib are of this kind
        raise PhotplugError(f"the WCS is not valid ({' '.join(str(error).split())}); {WCS_ADVICE}") from None
    # A frame of B1950 taken for ICRS is degrees off; FK5 of J2000 is within 0.03 arcsec of it.
    frame, equinox = wcs.wcs.radesys, wcs.wcs.equinox
    if frame not in ("ICRS", "FK5") or (frame == "FK5" and equinox != 2000):
        raise PhotplugError(f"keywords RADESYS, EQUINOX say {frame} {equinox:g}, not ICRS or FK5 of 2000; {WCS_ADVICE}")
    return wcs


def _read_matrix(header: fits.Header) -> dict[str, float]:
    """Return the cards of the matrix from pixels to the sky; CD, otherwise PC and CDELT."""
    kind = _CD if any(key in header for key in _CD) else _PC
    # Elements may be left out, as far as the others are a matrix.
    cards = read_numbers(header, ("CDELT1", "CDELT2") if kind is _PC else (), WCS_ADVICE, optional=kind)
    first = "CD" if kind is _CD else "PC"
    elements = [[cards.get(f"{first}{i}_{j}", float(kind is _PC and i == j)) for j in (1, 2)] for i in (1, 2)]
    steps = [[cards.get(f"CDELT{i}", 1.0)] for i in (1, 2)] if kind is _PC else 1.0
    if np.linalg.det(np.multiply(elements, steps)) == 0:
        cards = read_numbers(header, kind, WCS_ADVICE)
        names = ", ".join(cards)
        raise PhotplugError(f"keywords {names} are a matrix without an inverse; {WCS_ADVICE}")
    return cards


def _check_axes(texts: Mapping[str, str], header: fits.Header) -> None:
    """Refuse axes that are not right ascension and declination of a drizzled mosaic."""
    found = [texts.get(key, "") for key in _TYPES]
    if not all(text.startswith(start) for text, start in zip(found, ("RA--", "DEC-"), strict=True)):
        told = " and ".join(f"{key} is {texts[key]!r}" if key in texts else f"{key} is missing" for key in _TYPES)
        raise PhotplugError(f"keyword {told}, not right ascension and declination; {WCS_ADVICE}")
    if any(text.endswith("-SIP") for text in found) and "A_ORDER" in header:
        raise PhotplugError("keyword CTYPE1 says that the pixels are distorted (SIP); use a drizzled mosaic")
    for key in ("CUNIT1", "CUNIT2"):
        try:
            u.Unit(texts.get(key) or "deg").to(u.deg)
        except (ValueError, TypeError):  # of another kind is a ValueError too
            raise PhotplugError(f"keyword {key} is {texts[key]!r}, no unit of angle; {WCS_ADVICE}") from None


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


def resolve_cutout(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> Window:
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

    Returns
    -------
    tuple of slice
        Rows and columns, at least one of each.

    Raises
    ------
    PhotplugError
        Where the cut-out lies off the mosaic or is of another form.
    """
    if cutout is None:
        return slice(0, shape[0]), slice(0, shape[1])
    asked = " ".join(repr(cutout).split())  # a SkyCoord prints on two lines
    try:
        limits = _find_limits(cutout, wcs, shape)
    except (TypeError, ValueError) as error:  # of astropy and regions, on NaN and on sizes that are no angles
        raise PhotplugError(
            f"cut-out {asked}: {error}; give (SkyCoord, size), a regions region, or a pair of slices (y, x)"
        ) from None
    rows, columns = (slice(max(low, 0), min(high, n)) for (low, high), n in zip(limits, shape, strict=True))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise PhotplugError(
            f"cut-out {asked} is empty or lies off the mosaic of {shape[1]} x {shape[0]} pixels; choose a place on it"
        )
    return rows, columns


def pixel_size(cutout: Cutout) -> tuple[int, int] | None:
    """Return the size of a cut-out that is given in pixels.

    Parameters
    ----------
    cutout : optional
        As for :func:`resolve_cutout`.

    Returns
    -------
    tuple of int or None
        (ny, nx); None where only a WCS tells, or for none.
    """
    if isinstance(cutout, tuple):
        known = [part.stop - (part.start or 0) for part in cutout if isinstance(part, slice) and part.stop is not None]
    else:  # a region of pixels; one of the sky has no box
        known = list(getattr(getattr(cutout, "bounding_box", None), "shape", ()))
    return (known[0], known[1]) if len(known) == 2 else None


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
    # astropy begins at ceil(position - n / 2), which is the corner for a whole position half a window on, n // 2.
    position = tuple(start + n // 2 for start, n in zip(corner, shape, strict=True))
    try:
        window = extract_array(plane, shape, position, fill_value=fill)
    except NoOverlapError:
        return np.full(shape, fill, plane.dtype)
    return window.copy() if window.base is not None else window  # all on the plane it is a view


def _find_limits(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return first and one past the last pixel in y and x, also off the mosaic."""
    if isinstance(cutout, tuple) and len(cutout) == 2:
        if isinstance(cutout[0], SkyCoord):
            return _frame_position(cutout[0], cutout[1], wcs)
        if all(isinstance(part, slice) and part.step in (None, 1) for part in cutout):
            return [part.indices(n)[:2] for part, n in zip(cutout, shape, strict=True)]
    elif not isinstance(cutout, tuple | None) and hasattr(cutout, "contains"):  # a region; a SkyCoord also has to_pixel
        box = (cutout.to_pixel(wcs) if hasattr(cutout, "to_pixel") else cutout).bounding_box
        return [(box.iymin, box.iymax), (box.ixmin, box.ixmax)]
    raise TypeError("not a cut-out")


def _frame_position(centre: SkyCoord, size: u.Quantity, wcs: WCS) -> list[tuple[int, int]]:
    """Return the limits in y and x of a window with the centre's pixel in its middle."""
    x, y = skycoord_to_pixel(centre, wcs)
    sides = np.broadcast_to((u.Quantity(size) / (pixel_scale(wcs) * u.arcsec)).to_value(u.one), 2)
    if np.ndim(x) or not (np.isfinite([x, y, *sides]).all() and (sides > 0).all()):
        raise ValueError("not one position on the mosaic's sky and a positive size")
    counts = [max(1, round(float(side))) for side in sides]
    # A position read off this WCS comes back with a rounding error that must not move the window.
    lows = [math.ceil(float(c) - count / 2 - 1e-6) for c, count in zip((y, x), counts, strict=True)]
    return [(low, low + count) for low, count in zip(lows, counts, strict=True)]


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
