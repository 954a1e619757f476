"""Numbers in the cards of a header, and what is said where there is none."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Literal, TypeVar

from astropy.io.fits import Header, VerifyError
from astropy.io.fits.card import Undefined
from astropy.io.fits.verify import VerifyWarning

from dja_photplug.errors import PhotplugError

__all__ = ["read_card", "read_numbers", "try_both"]

S = TypeVar("S")
T = TypeVar("T")

Kind = Literal["number", "positive number", "positive whole number"]


def try_both(first: Callable[[], S], second: Callable[[], T]) -> tuple[S, T]:
    """Return what two steps return, or raise what both of them miss as one error.

    Parameters
    ----------
    first, second : callable
        Without arguments.

    Returns
    -------
    tuple
        Both results.

    Raises
    ------
    PhotplugError
        With the sentence of the step that failed, or of both, if they differ.
    """
    try:
        result = first()
    except PhotplugError as error:
        try:
            second()
        except PhotplugError as other:
            if str(other) != str(error):
                raise PhotplugError(f"{error}; also: {other}") from None
        raise
    return result, second()


def read_card(header: Mapping[str, object], key: str) -> object | None:
    """Return the value of a card: its text where it cannot be parsed, None where it is missing.

    Parameters
    ----------
    header : mapping
        An `~astropy.io.fits.Header` too.
    key : str

    Returns
    -------
    object or None
        A card without a value has the text ``""``.
    """
    if key not in header:
        return None
    try:
        value = header[key]
    except VerifyError:  # of a header that somebody else read
        assert isinstance(header, Header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VerifyWarning)
            text = str(copy(header.cards[key]).image)  # a copy: astropy changes the card to show it
        return text[10:].partition("/")[0].strip(" '")
    return "" if isinstance(value, Undefined) or value is None else value


def read_numbers(
    header: Mapping[str, object],
    needed: Iterable[str],
    advice: str,
    *,
    optional: Iterable[str] = (),
    kind: Kind = "number",
) -> dict[str, float]:
    """Return the numbers of cards, or one error that names all that are missing or no numbers.

    Parameters
    ----------
    header : mapping
    needed : iterable of str
        Keywords that must be there.
    advice : str
        How the sentence ends: what follows from it, and what to do. Nothing where it is empty.
    optional : iterable of str, optional
        Keywords that may be missing.
    kind : {'number', 'positive number', 'positive whole number'}, optional

    Returns
    -------
    dict of str to float
        Finite, by keyword, without those that are missing. Numbers in quotes are numbers.

    Raises
    ------
    PhotplugError
        Where a keyword is missing, is there twice with different values, or holds no such number.

    Examples
    --------
    >>> header = {"PHOTSCAL": 0.0}
    >>> read_numbers(header, ["PHOTFNU", "OPHOTFNU"], "correct it", optional=["PHOTSCAL"], kind="positive number")
    Traceback (most recent call last):
        ...
    dja_photplug.errors.PhotplugError: keywords PHOTFNU, OPHOTFNU are missing, keyword PHOTSCAL is 0.0, not a positive \
number; correct it
    """
    needed = list(needed)
    missing = [key for key in needed if key not in header]
    problems = []
    if missing:
        are = "s {} are" if missing[1:] else " {} is"
        problems.append(f"keyword{are.format(', '.join(missing))} missing")
    numbers = {}
    for key in [key for key in (*needed, *optional) if key in header]:
        value = read_card(header, key)
        numbers[key] = number = _to_number(value)
        if not _is_kind(number, kind):
            problems.append(f"keyword {key} is {'without a value' if value == '' else f'{value!r}'}, not a {kind}")
        elif others := _find_others(header, key, number):
            problems.append(f"keyword {key} appears twice, with {value!r} and {others[0]!r}")
    if problems:
        raise PhotplugError("; ".join([", ".join(problems), *([advice] if advice else [])]))
    return numbers


def _to_number(value: object) -> float:
    """Return a value as a number, NaN where it is none."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _is_kind(number: float, kind: Kind) -> bool:
    finite = math.isfinite(number)
    return finite and (kind == "number" or number > 0) and (kind != "positive whole number" or number.is_integer())


def _find_others(header: Mapping[str, object], key: str, number: float) -> list[object]:
    """Return the values of further cards of that keyword that are other than the first."""
    if not isinstance(header, Header) or header.count(key) < 2:
        return []
    values = [read_card(header, (key, i)) for i in range(header.count(key))]  # type: ignore[arg-type]
    return [value for value in values if _to_number(value) != number]
