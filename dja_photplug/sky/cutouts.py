"""Cut-outs of a mosaic: which of its pixels they are, and what of them is on it."""

from __future__ import annotations

import math
import operator
import warnings
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.sky.grid import Window, pixel_scale
from dja_photplug.sky.position import format_position

if TYPE_CHECKING:
    from regions import Region

__all__ = ["Cutout", "describe_edge", "pixel_size", "reaches", "resolve_cutout", "split_item", "tell_edge"]

Cutout: TypeAlias = "Window | tuple[SkyCoord, u.Quantity] | Region | None"
"""What a part of a mosaic is asked for by; see `resolve_cutout`."""


def resolve_cutout(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> Window:
    """Return the pixels that a cut-out asks for, trimmed to the mosaic; :func:`tell_edge` tells that.

    Parameters
    ----------
    cutout : None, tuple or regions.Region
        ``None`` for everything; ``(SkyCoord, size)`` with an angular size (one, or height and width; the centre's
        pixel is in the middle); a sky or pixel region, whose bounding box is taken; or a pair of slices (y, x), without
        steps.
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
    window = _trim(cutout, wcs, shape)
    if window is None:
        raise PhotplugError(
            f"cut-out {_describe_cutout(cutout)} is empty or lies off the mosaic of {shape[1]} x {shape[0]} pixels; "
            "choose a place on it"
        )
    return window


def reaches(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> bool:
    """Return whether a cut-out holds any pixel of a mosaic.

    Parameters
    ----------
    cutout, wcs, shape
        As for :func:`resolve_cutout`.

    Returns
    -------
    bool

    Raises
    ------
    PhotplugError
        Where the cut-out is of another form.
    """
    return cutout is None or _trim(cutout, wcs, shape) is not None


def _trim(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> Window | None:
    """Return the pixels of a mosaic that a cut-out holds; None where it holds none."""
    try:
        limits = _find_limits(cutout, wcs, shape)
    except (TypeError, ValueError) as error:  # of astropy and regions, on NaN and on sizes that are no angles
        raise PhotplugError(
            f"cut-out {_describe_cutout(cutout)}: {error}; give (SkyCoord, size), a regions region, or a pair of "
            "slices (y, x)"
        ) from None
    rows, columns = (slice(max(low, 0), min(high, n)) for (low, high), n in zip(limits, shape, strict=True))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def tell_edge(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> None:
    """Warn of a cut-out that reaches over the edge of a mosaic; of bands with one grid, once.

    Parameters
    ----------
    cutout, wcs, shape
        As for :func:`resolve_cutout`, which trims it.
    """
    if told := describe_edge(cutout, wcs, shape):
        warnings.warn(told, PhotplugWarning, stacklevel=1)


def describe_edge(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> str:
    """Return how much of a cut-out is on a mosaic.

    Parameters
    ----------
    cutout, wcs, shape
        As for :func:`resolve_cutout`.

    Returns
    -------
    str
        Empty where it is all or nothing.
    """
    window = None if cutout is None else _trim(cutout, wcs, shape)
    if window is None:
        return ""
    limits = _find_limits(cutout, wcs, shape)
    asked, there = [high - low for low, high in limits], [part.stop - part.start for part in window]
    if there == asked:
        return ""
    sides, unit = _read_sides(cutout, wcs, asked)
    (height, width), (rows, columns) = sides, (side * n / of for side, n, of in zip(sides, there, asked, strict=True))
    return (
        f"cut-out {_describe_cutout(cutout)} reaches over the edge of the mosaic of {shape[1]} x {shape[0]} pixels: "
        f"{columns:.4g} x {rows:.4g} of its {width:.4g} x {height:.4g} {unit} are on it"
    )


def _read_sides(cutout: Cutout, wcs: WCS, counts: list[int]) -> tuple[list[float], str]:
    """Return height and width of a cut-out of so many pixels, in the unit that it is asked for in."""
    if isinstance(cutout, tuple) and isinstance(cutout[0], SkyCoord):
        size = u.Quantity(cutout[1])
        return [float(side) for side in np.broadcast_to(size.value, 2)], str(size.unit)
    if hasattr(cutout, "to_pixel"):  # a region of the sky
        return [count * pixel_scale(wcs) for count in counts], "arcsec"
    return [float(count) for count in counts], "pixels"


def _describe_cutout(cutout: Cutout) -> str:
    if isinstance(cutout, tuple) and cutout and all(isinstance(part, slice) for part in cutout):
        ends = [[part.start, part.stop, *([] if part.step is None else [part.step])] for part in cutout]
        return f"[{', '.join(':'.join('' if end is None else str(end) for end in part) for part in ends)}]"
    if isinstance(cutout, tuple) and len(cutout) == 2 and isinstance(cutout[0], SkyCoord) and cutout[0].isscalar:
        centre = cutout[0].icrs
        return f"of {cutout[1]} around {format_position(centre.ra.deg, centre.dec.deg)}"
    return " ".join(repr(cutout).split())  # several positions print on several lines


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


def _find_limits(cutout: Cutout, wcs: WCS, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return first and one past the last pixel in y and x, also off the mosaic."""
    if isinstance(cutout, tuple) and len(cutout) == 2:
        if isinstance(cutout[0], SkyCoord):
            return _frame_position(cutout[0], cutout[1], wcs)
        if all(isinstance(part, slice) for part in cutout):
            return [_find_ends(part, n) for part, n in zip(cutout, shape, strict=True)]
    elif not isinstance(cutout, tuple | None) and hasattr(cutout, "contains"):  # a region; a SkyCoord also has to_pixel
        box = (cutout.to_pixel(wcs) if hasattr(cutout, "to_pixel") else cutout).bounding_box
        return [(box.iymin, box.iymax), (box.ixmin, box.ixmax)]
    raise TypeError("not a cut-out")


def split_item(item: object) -> tuple[slice, slice]:
    """Return the rows and columns that ``image[item]`` is, or refuse what is no part of an image.

    Parameters
    ----------
    item : object
        Slices without steps: of rows, or of rows and columns.

    Returns
    -------
    tuple of slice

    Raises
    ------
    PhotplugError
        For anything else.
    """
    rows, columns = item if isinstance(item, tuple) and len(item) == 2 else (item, slice(None))
    try:
        if not (isinstance(rows, slice) and isinstance(columns, slice)):
            raise TypeError("it has rows and columns, and no single ones or lists of them")
        for part in (rows, columns):
            _check_slice(part)
    except (TypeError, ValueError) as error:
        raise PhotplugError(
            f"a part of an image: {error}; take image[rows, columns] with slices, or arrays such as image.data"
        ) from None
    return rows, columns


def _check_slice(part: slice) -> None:
    """Refuse a slice that is none of neighbouring pixels in their order."""
    part.indices(1)
    if part.step not in (None, 1):
        raise ValueError("slices have no step, which turns the image over or leaves light out")


def _find_ends(part: slice, size: int) -> tuple[int, int]:
    """Return first and one past the last of the pixels along an axis that a slice asks for, also off the mosaic."""
    _check_slice(part)
    low = 0 if part.start is None else operator.index(part.start)
    high = size if part.stop is None else operator.index(part.stop)
    return low + size * (low < 0), high + size * (high < 0)


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
