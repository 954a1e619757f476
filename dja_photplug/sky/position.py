"""Positions and angles as people write them: degrees, or sexagesimal with colons, spaces or units."""

from __future__ import annotations

import math
import re

from astropy import units as u
from astropy.coordinates import Angle

from dja_photplug.errors import PhotplugError

__all__ = ["check_position", "format_position", "is_angle", "parse_position", "parse_square"]

EXAMPLES = "such as 34.3033 -5.1113, or 02:17:12.8 -05:06:40.7, or 2h17m12.8s -5d06m40.7s"

_UNIT = r"(?:h|hr|hours?|hourangle|m|min|s|sec|d|deg|degrees?|arcmin|arcsec|°|'{1,2}|\"|\u2032|\u2033)"
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PIECE = re.compile(rf"[+\-\u2212]?{_NUMBER}(?:[:hmsd°'\u2032\u2033]+{_NUMBER})*{_UNIT}?|{_UNIT}", re.IGNORECASE)
_SPELLINGS = {",": " ", "\u2212": "-", "\u2032": "'", "\u2033": '"', "''": '"', "°": "d"}


def is_angle(text: str) -> bool:
    """Return whether a word of a command line is an angle, or some of its parts.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool

    Examples
    --------
    >>> [is_angle(text) for text in ("-05:06:40.7", "02 17 12.8", "34.3deg", "arcsec", "gds-v7-f444w")]
    [True, True, True, True, False]
    """
    pieces = text.replace(",", " ").split()
    return bool(pieces) and all(_PIECE.fullmatch(piece) for piece in pieces)


def parse_position(text: str) -> tuple[float, float]:
    """Return the position that a text says.

    Parameters
    ----------
    text : str
        Right ascension and declination, ICRS. Numbers without a unit are degrees; sexagesimal right ascensions are
        hours unless their unit is degrees.

    Returns
    -------
    tuple of float
        Right ascension and declination in deg, also out of range.

    Raises
    ------
    PhotplugError
        Where it is no position.

    Examples
    --------
    >>> parse_position("02 17 12 -05 06 40.5")
    (34.3, -5.11125)
    """
    return _parse(_split(text), text)


def parse_square(text: str) -> tuple[float, float, float]:
    """Return the square on the sky that a text says.

    Parameters
    ----------
    text : str
        A position as for :func:`parse_position`, and a side: arcsec without a unit.

    Returns
    -------
    tuple of float
        Right ascension and declination in deg, and side in arcsec.

    Raises
    ------
    PhotplugError
        Where it is none.

    Examples
    --------
    >>> parse_square("02:17:12 -05:06:40.5 0.1arcmin")
    (34.3, -5.11125, 6.0)
    """
    words = _split(text)
    if len(words) < 3:
        raise PhotplugError(f"{text!r} is not a position and a side; give RA, DEC and ARCSEC, {EXAMPLES} and 10")
    side = _read_angle(words[-1], u.arcsec)
    return *_parse(words[:-1], " ".join(words[:-1])), float(side.to_value(u.arcsec))


def check_position(ra: float, dec: float) -> None:
    """Refuse a position that is out of range.

    Parameters
    ----------
    ra, dec : float
        In deg.

    Raises
    ------
    PhotplugError
        Beyond +-360 deg in right ascension, or +-90 deg in declination.
    """
    for name, value, limit in (("right ascension", ra, 360), ("declination", dec, 90)):
        if not abs(value) <= limit:
            raise PhotplugError(
                f"position {format_position(ra, dec)}: the {name} is {value:.10g} deg, beyond +-{limit} deg; give RA "
                f"and DEC, {EXAMPLES}"
            )


def format_position(ra: float, dec: float) -> str:
    """Return a position as text.

    Parameters
    ----------
    ra, dec : float
        In deg.

    Returns
    -------
    str
        In deg, to 1e-7 deg, which is 0.36 mas: no position is known better.

    Examples
    --------
    >>> format_position(34.30333333333333, -5.2)
    '34.3033333 -5.2'
    """
    return " ".join(f"{round(angle, 7):.10g}" for angle in (ra, dec))


def _split(text: str) -> list[str]:
    """Return the words of a text, each with the unit that stood behind it."""
    text = text.lower()
    for spelt, plain in _SPELLINGS.items():
        text = text.replace(spelt, plain)
    words: list[str] = []
    for word in text.split():
        if words and re.fullmatch(_UNIT, word, re.IGNORECASE):
            words[-1] += word
        else:
            words.append(word)
    return words


def _parse(words: list[str], text: str) -> tuple[float, float]:
    # A sign tells where the declination begins; without one it has as many parts as the right ascension.
    signed = [i for i, word in enumerate(words) if i and word[0] in "+-"]
    middle = signed[0] if signed else len(words) // 2
    first, second = words[:middle], words[middle:]
    if len(signed) > 1 or not (1 <= len(first) <= 3 and 1 <= len(second) <= 3) or (not signed and len(words) % 2):
        raise PhotplugError(f"{text!r} is not a position; give RA and DEC, {EXAMPLES}")
    if "h" in " ".join(second).lower():
        raise PhotplugError(f"{' '.join(second)!r} is not a declination in degrees; give RA and DEC, {EXAMPLES}")
    ra, dec = (_read_angle(" ".join(part), unit) for part, unit in ((first, u.hourangle), (second, u.deg)))
    return float(ra.to_value(u.deg)), float(dec.to_value(u.deg))


def _read_angle(text: str, sexagesimal: u.UnitBase) -> Angle:
    """Return an angle; parts without units are those of `sexagesimal`, a single number is in degrees or arcsec."""
    unit = u.deg if sexagesimal is u.hourangle else sexagesimal
    try:
        number = float(text)
    except ValueError:
        try:
            return Angle(text, unit=sexagesimal)
        except (ValueError, TypeError, u.UnitsError):
            raise PhotplugError(f"{text!r} is not an angle; give degrees, or parts, {EXAMPLES}") from None
    if not math.isfinite(number):
        raise PhotplugError(f"{text!r} is not an angle; give a finite number")
    return Angle(number, unit=unit)
