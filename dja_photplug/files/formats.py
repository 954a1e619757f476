"""The formats of files by the suffixes of their names, and text in FITS headers.

These hold printable ASCII alone: other text is kept in them as JSON, as lists are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

__all__ = [
    "CATALOG_FORMATS",
    "EAZY_FORMATS",
    "EXTENDED_FORMATS",
    "IMAGE_SUFFIXES",
    "LEPHARE_SUFFIXES",
    "PLOT_SUFFIXES",
    "REGION_SUFFIXES",
    "REPORT_SUFFIXES",
    "SHEET_SUFFIXES",
    "TABLE_SUFFIXES",
    "WEIGHT_KINDS",
    "decode_text",
    "encode_cards",
    "encode_text",
    "encode_values",
]

T = TypeVar("T")

IMAGE_SUFFIXES = (".fits", ".fits.gz")
"""Suffixes of images: planes of a mosaic, segmentation, exposure maps."""
REGION_SUFFIXES = (".reg",)
"""Suffixes of DS9 regions: Kron apertures of sources, footprints of exposures."""
PLOT_SUFFIXES = (".png", ".pdf")
"""Suffixes of figures."""
SHEET_SUFFIXES = (".png", ".html")
"""Suffixes of contact sheets of stamps."""
CATALOG_FORMATS = {
    ".fits": "fits",
    ".ecsv": "ascii.ecsv",
    ".parquet": "parquet",
    ".h5": "hdf5",
    ".vot": "votable",
}
"""Formats, as astropy names them, of catalogues with units, descriptions and metadata, by suffix."""
EXTENDED_FORMATS = {**CATALOG_FORMATS, ".csv": "ascii.csv"}
"""Formats of extended catalogues by suffix; CSV holds no units, descriptions or metadata."""
REPORT_SUFFIXES = (".html",)
"""Suffixes of reports."""
TABLE_SUFFIXES = (*(*EXTENDED_FORMATS, ".fit", ".cat", ".ldac", ".dat", ".txt", ".tsv", ".mrt", ".xml", ".hdf5"),)
"""Suffixes of catalogues that can be extended, also with .gz behind them; what they hold tells their format."""
EAZY_FORMATS = {".fits": "fits", ".cat": "ascii.commented_header"}
"""Formats of catalogues for EAZY by suffix."""
LEPHARE_SUFFIXES = (".in", ".cat", ".txt")
"""Suffixes of catalogues for LePhare, which are text."""
WEIGHT_KINDS = {"weight": -2, "sigma": 1, "variance": 2}
"""The planes that a weight is written as, each with its power of the image's unit."""


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


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
