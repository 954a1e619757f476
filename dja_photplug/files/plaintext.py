"""Text in FITS headers, which hold printable ASCII alone: other text is kept as JSON, as lists are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TypeVar

from dja_photplug.errors import PhotplugError

__all__ = ["check_names", "decode_text", "encode_cards", "encode_text", "encode_values"]

T = TypeVar("T")


def encode_text(value: T) -> T | str:
    """Return a value as a FITS header takes it.

    Parameters
    ----------
    value : object

    Returns
    -------
    object
        Text with other characters than printable ASCII as JSON; everything else as it is.

    Examples
    --------
    >>> encode_text("data/d\u00eda"), encode_text("data")
    ('"data/d\\\\u00eda"', 'data')
    """
    return json.dumps(value) if isinstance(value, str) and not _is_plain(value) else value


def decode_text(value: T) -> T | str:
    """Return what :func:`encode_text` was given.

    Parameters
    ----------
    value : object
        Of a header.

    Returns
    -------
    object
        As it is where it was not encoded.

    Examples
    --------
    >>> decode_text(encode_text("data/d\u00eda")), decode_text('"quoted"')
    ('data/d\u00eda', '"quoted"')
    """
    if not (isinstance(value, str) and value.startswith('"') and value.endswith('"')):
        return value
    try:
        text = json.loads(value)
    except ValueError:
        return value
    return text if isinstance(text, str) and encode_text(text) == value else value


def encode_values(meta: Mapping[str, T]) -> dict[str, T | str]:
    """Return metadata as a FITS header takes them.

    Parameters
    ----------
    meta : mapping

    Returns
    -------
    dict
        The same keys.
    """
    return {key: encode_text(value) for key, value in meta.items()}


def encode_cards(cards: Mapping[str, tuple[T, str]]) -> dict[str, tuple[T | str, str]]:
    """Return values and comments of cards as a FITS header takes them.

    Parameters
    ----------
    cards : mapping of str to tuple
        Value and comment by keyword.

    Returns
    -------
    dict
        The same keywords.
    """
    return {key: (encode_text(value), encode_text(comment)) for key, (value, comment) in cards.items()}


def check_names(names: Iterable[str]) -> None:
    """Refuse names of columns that no FITS table can have.

    Parameters
    ----------
    names : iterable of str

    Raises
    ------
    PhotplugError
        With the first that is no printable ASCII.
    """
    for name in names:
        if not _is_plain(name):
            raise PhotplugError(f"FITS names columns in ASCII, and {name!r} is not; rename it, or write .ecsv")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
