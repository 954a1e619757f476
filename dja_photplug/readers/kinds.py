"""What a file holds, by how it begins, whatever its name ends in."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from isal import igzip

from dja_photplug.errors import PhotplugError

__all__ = ["find_kind", "read_content"]

_GZIP = b"\x1f\x8b"
_MARKS = {
    "fits": re.compile(rb"SIMPLE  ="),
    "hdf5": re.compile(rb"\x89HDF\r\n\x1a\n"),
    "parquet": re.compile(rb"PAR1"),
    "votable": re.compile(rb"\s*(<\?xml|<!--|<!DOCTYPE|<(\w+:)?VOTABLE)", re.IGNORECASE),
    "ascii.ecsv": re.compile(rb"# %ECSV"),
    # Of SExtractor: number and name of the first column.
    "ascii.sextractor": re.compile(rb"\s*#\s*1\s+[A-Za-z_]\w*(\s|$)"),
    "ascii.mrt": re.compile(rb"Title:.*\n(.*\n){0,200}?Byte-by-byte Description of file"),
}
_HEAD = 1 << 16


def read_content(path: Path) -> bytes:
    """Return the bytes of a file, without gzip's compression.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        Where it cannot be read, or is cut short.
    """
    content = path.read_bytes()
    try:
        return igzip.decompress(content) if content.startswith(_GZIP) else content
    except (EOFError, igzip.BadGzipFile) as error:
        raise OSError(f"it is no whole gzip file: {error}") from None


def find_kind(path: Path) -> str:
    """Return what a file holds.

    Parameters
    ----------
    path : Path
        Compressed by gzip, or not.

    Returns
    -------
    str
        ``fits``, ``hdf5``, ``parquet``, ``votable``, ``ascii.ecsv``, ``ascii.sextractor``, ``ascii.mrt`` (tables of
        the AAS journals), or ``text`` where it begins as none of them.

    Raises
    ------
    PhotplugError
        Where it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == _GZIP
        with igzip.open(path) if packed else path.open("rb") as stream:
            head = stream.read(_HEAD)
    except (OSError, EOFError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise PhotplugError(f"{path}: cannot be read as a catalogue ({reason}); check the file") from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", "ignore").encode()
    head = head.removeprefix(codecs.BOM_UTF8)
    return next((kind for kind, mark in _MARKS.items() if mark.match(head)), "text")
