"""The units of images and catalogues: 10 nJy, uJy and AB magnitudes."""

from __future__ import annotations

import contextlib
import re
import warnings

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError

__all__ = [
    "MOSAIC_UNIT",
    "MOSAIC_ZERO_POINT",
    "ZERO_POINT",
    "convert",
    "flux_of",
    "flux_ratio",
    "magnitude",
    "magnitude_of",
    "plain_array",
    "read_unit",
]

MOSAIC_UNIT = u.Unit("10 nJy")

ZERO_POINT = 23.9
"""AB magnitude of 1 uJy."""

MOSAIC_ZERO_POINT = ZERO_POINT + 5
"""AB magnitude of a mosaic's pixel value of 1, which is 10 nJy, a hundredth of 1 uJy."""


def plain_array(
    values: ArrayLike | u.Quantity, unit: u.UnitBase | str, name: str, *, fill: float = np.nan
) -> NDArray[np.floating]:
    """Return the numbers of an array that may have a unit, a mask or both.

    Parameters
    ----------
    values : array_like
        Also a `~astropy.units.Quantity`, a masked array, or a column of a table. Without a unit it is in `unit`.
    unit : unit
        Of the result.
    name : str
        Of the array, for the message.
    fill : float, optional
        Stands for masked values.

    Returns
    -------
    ndarray
        Of the shape of `values`; the same array where it holds floats and there is nothing to convert.

    Raises
    ------
    PhotplugError
        Where the unit is of another kind, or there are no numbers.

    Examples
    --------
    >>> plain_array([0.1, 0.2] * u.uJy, "10 nJy", "science")
    array([10., 20.])
    >>> plain_array(np.ma.array([0.1, 0.2], mask=[False, True]), "10 nJy", "science")
    array([0.1, nan])
    """
    mask, given = getattr(values, "mask", None), getattr(values, "unit", None)
    bare = np.asarray(getattr(getattr(values, "unmasked", values), "value", np.ma.getdata(values)))
    if bare.dtype.kind not in "biuf":
        raise PhotplugError(f"{name} is of type {bare.dtype}, not numbers; give an array of numbers")
    bare = bare if bare.dtype.kind == "f" else bare.astype(np.float64)
    if given is not None and given != unit:
        try:
            bare = u.Quantity(bare, given).to_value(unit)
        except u.UnitConversionError:
            raise PhotplugError(f"{name} is in {given}, not in units of {u.Unit(unit)}; convert it") from None
    if mask is not None and np.any(mask):
        bare = np.where(mask, fill, bare)
    return bare


def flux_ratio(difference: ArrayLike) -> NDArray[np.float64]:
    """Return the ratio of two fluxes from the difference of their magnitudes.

    Parameters
    ----------
    difference : array_like
        Magnitude of the flux below less that of the flux above the line.

    Returns
    -------
    ndarray
        Of the shape of `difference`.

    Examples
    --------
    >>> flux_ratio([5, -2.5])
    array([100. ,   0.1])
    """
    return 10 ** (0.4 * plain_array(difference, u.mag, "difference").astype(np.float64))


def flux_of(magnitude: ArrayLike, zero_point: float = ZERO_POINT) -> NDArray[np.float64]:
    """Return the flux of an AB magnitude.

    Parameters
    ----------
    magnitude : array_like
    zero_point : float, optional
        AB magnitude of a flux of 1.

    Returns
    -------
    ndarray
        Of the shape of `magnitude`, in the unit of the zero point: uJy by default, 10 nJy for `MOSAIC_ZERO_POINT`.

    Examples
    --------
    >>> flux_of([18.9, 23.9])
    array([100.,   1.])
    """
    return flux_ratio(zero_point - plain_array(magnitude, u.mag, "magnitude").astype(np.float64))


def magnitude_of(flux: ArrayLike, zero_point: float = ZERO_POINT) -> NDArray[np.float64]:
    """Return the AB magnitude of a flux, NaN where it is not positive.

    Parameters
    ----------
    flux : array_like
    zero_point : float, optional
        AB magnitude of a flux of 1: uJy by default, 10 nJy for `MOSAIC_ZERO_POINT`.

    Returns
    -------
    ndarray
        Of the shape of `flux`.
    """
    one = u.Unit(10 ** (0.4 * (ZERO_POINT - zero_point)) * u.uJy)
    flux = plain_array(flux, one, "flux").astype(np.float64)
    # `not >` would keep NaN, `where` drops it: both end as NaN.
    return zero_point - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def magnitude(flux: ArrayLike, error: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AB magnitudes and their errors, NaN where the flux is not positive.

    Parameters
    ----------
    flux, error : array_like
        In uJy, of one shape.

    Returns
    -------
    mag, magerr : ndarray
        Of that shape; the error is that of small errors, ``2.5 / ln(10) error / flux``.

    Examples
    --------
    >>> mag, magerr = magnitude([100.0, -1.0], [1.0, 1.0])
    >>> mag.round(3), magerr.round(4)
    (array([18.9,  nan]), array([0.0109,    nan]))
    """
    flux, error = (plain_array(each, u.uJy, "flux").astype(np.float64) for each in (flux, error))
    return magnitude_of(flux), 2.5 / np.log(10) * error / np.where(flux > 0, flux, np.nan)


# What people write, less blanks, hyphens, dots, brackets and the plural: for those that astropy does not read.
_SPELLINGS = {
    **dict.fromkeys(("abmag", "magab", "abmagnitude", "magnitudeab", "mab"), u.ABmag),
    **dict.fromkeys(("mag", "magnitude"), u.mag),
    **dict.fromkeys(("deg", "degree"), u.deg),
    **dict.fromkeys(("arcmin", "arcminute", "amin"), u.arcmin),
    **dict.fromkeys(("arcsec", "arcsecond", "asec"), u.arcsec),
    **dict.fromkeys(("mas", "milliarcsec", "milliarcsecond"), u.mas),
    **dict.fromkeys(("rad", "radian"), u.rad),
    **dict.fromkeys(("h", "hr", "hour", "hourangle", "h:m:", "hm", "hh:mm:s"), u.hourangle),
    **dict.fromkeys(("d:m:", "dm", "dd:mm:s"), u.deg),
    **dict.fromkeys(("pix", "pixel", "px"), u.pix),
}
_JANSKY = re.compile(r"(|n|nano|u|micro|\u00b5|\u03bc|m|milli)(jy|jansky)")


def read_unit(unit: u.UnitBase | u.FunctionUnitBase | str | None) -> u.UnitBase | u.FunctionUnitBase | None:
    """Return the unit that is meant, as astropy reads it or as people spell it.

    Parameters
    ----------
    unit : unit or str or None
        Text, or what a reader made of text that it does not know.

    Returns
    -------
    unit or None
        None where it is not known. ``MJy`` in other cases is none, as it may be milli or mega.

    Examples
    --------
    >>> [str(read_unit(text)) for text in ("ujy", "micro-Jansky", "10 nJy", "AB mag", "degrees", "Pixels", "MJY")]
    ['uJy', 'uJy', '10 nJy', 'mag(AB)', 'deg', 'pix', 'None']
    """
    if unit is None or not isinstance(unit, str | u.UnrecognizedUnit):
        return u.ABmag if unit == u.AB * u.mag else unit
    text = str(unit).strip()
    number = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*\*?\s*(.*\D.*)", text)
    squeezed = re.sub(r"[\s_.()\[\]\"'-]", "", text).lower()
    squeezed = squeezed.removesuffix("s") if len(squeezed) > 1 else squeezed
    jansky = _JANSKY.fullmatch(squeezed)
    if squeezed in _SPELLINGS and squeezed != "h":
        return _SPELLINGS[squeezed]
    with contextlib.suppress(ValueError, TypeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)  # such as of two slashes
        return u.Unit(text)
    if number and (rest := read_unit(number[2])) is not None and not isinstance(rest, u.FunctionUnitBase):
        return u.Unit(float(number[1]) * rest)
    # A capital M is mega or milli, by who wrote it.
    if jansky and not (jansky[1] == "m" and "M" in text):
        prefix = {"nano": "n", "micro": "u", "milli": "m", "\u00b5": "u", "\u03bc": "u"}.get(jansky[1], jansky[1])
        return u.Unit(f"{prefix}Jy")
    return _SPELLINGS.get(squeezed)


def convert(
    values: ArrayLike, unit: u.UnitBase | u.FunctionUnitBase, to: u.UnitBase | u.FunctionUnitBase | str
) -> NDArray[np.float64]:
    """Return values in another unit, AB magnitudes as fluxes too.

    Parameters
    ----------
    values : array_like
    unit, to : unit
        In which they are, and in which they shall be.

    Returns
    -------
    ndarray of float64
        Of the shape of `values`.

    Raises
    ------
    UnitConversionError
        Where the units are of different kinds.

    Examples
    --------
    >>> convert([23.9, 18.9], u.ABmag, "uJy").round(6)
    array([  1., 100.])
    """
    values = np.asarray(values, dtype=np.float64)
    quantity = u.Magnitude(values, unit) if isinstance(unit, u.MagUnit) else u.Quantity(values, unit)
    return np.asarray(quantity.to(to).value, dtype=np.float64)
