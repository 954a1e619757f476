"""What the headers of a FITS file say of its size, checked before astropy believes them and takes memory for it."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from isal import igzip

from dja_photplug.readers.kinds import MOST_INFLATED, check_inflated, refuse_pipe

__all__ = ["CARD", "MOST_RECORDS", "RECORD", "measure_data", "open_fits"]

MOST_RECORDS = 2000
"""Of a header, 72,000 cards."""
RECORD = 2880
"""Bytes; everything in FITS is padded to it (FITS standard 4.0, section 3.1)."""
CARD = 80
"""Bytes of a line of a header."""
_MOST_AXES = 999  # by the standard, and so are columns
_NUMBER = re.compile(rb"(BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS) *= *([^/]*)")
_INTEGER = re.compile(rb"[+-]?\d{1,20} *")
_DEEP = 1 << 26  # bytes of a gzip file that are inflated for this


def measure_data(bits: int, axes: list[int], extra: int, most: int) -> int:
    """Return the size of the data of an HDU.

    Parameters
    ----------
    bits, axes, extra : int, list of int, int
        BITPIX, NAXIS1 and so on, and PCOUNT.
    most : int
        Bytes that the file can hold.

    Returns
    -------
    int
        In bytes, without what fills the last record.

    Raises
    ------
    ValueError
        Where it cannot be.
    """
    if len(axes) > _MOST_AXES or min((0, *axes, extra)) < 0:
        raise ValueError("its header is not valid: an axis is below 0")
    size = abs(bits) // 8 * ((math.prod(axes) if axes else 0) + extra)
    if size > most:
        raise ValueError(f"it ends too early: its header tells of {min(size, 10**30):.3g} bytes")
    return size


@contextmanager
def open_fits(path: str | Path) -> Iterator[fits.HDUList]:
    """Open a FITS file with astropy, once its headers are known to be those of a file of its size.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    `~astropy.io.fits.HDUList`
        Of which nothing is mapped into memory.

    Raises
    ------
    PhotplugError
        Where it is a pipe.
    OSError
        Where it is no FITS file, or its headers cannot be true.
    """
    path = Path(path)
    refuse_pipe(path)
    check_inflated(path)
    with path.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    size = path.stat().st_size
    try:
        with igzip.open(path) if packed else path.open("rb") as stream:
            _check_headers(stream, MOST_INFLATED * size if packed else size, _DEEP if packed else size)
    except ValueError as error:
        raise OSError(str(error)) from None
    with _open(path) as hdus:
        yield hdus


def _open(path: Path) -> fits.HDUList:
    """Open a file, and read all of its headers now, not when somebody asks for the third."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # told again, where it matters, by what reads the data
            hdus = fits.open(path, memmap=False)
            len(hdus)
    except OSError:
        raise
    except Exception as error:  # whatever a header makes of astropy
        raise OSError(f"its headers cannot be read: {' '.join(str(error).split())}") from error
    return hdus


def _show(value: bytes) -> str:
    """Return what a card says, for a message."""
    return repr(value.decode("ascii", "backslashreplace").strip())


def _check_headers(stream: BinaryIO, most: int, deep: int) -> None:
    """Go through the headers of a stream; data that end early are astropy's to tell."""
    at = 0
    while at <= deep:
        text = stream.read(RECORD)
        if not text.startswith((b"SIMPLE  =", b"XTENSION=")):
            return
        numbers, length = _read_numbers(stream, text)
        at += length
        size = _find_size(numbers, most)
        at += stream.seek(-(-size // RECORD) * RECORD, 1) - at


def _read_numbers(stream: BinaryIO, text: bytes) -> tuple[dict[bytes, int], int]:
    """Return what a header says of its data, and its length in bytes, given its first record."""
    numbers: dict[bytes, int] = {}
    length = 0
    for _ in range(MOST_RECORDS):
        cards = [text[i : i + CARD] for i in range(0, len(text), CARD)]
        for match in filter(None, map(_NUMBER.match, cards)):
            if not _INTEGER.fullmatch(match[2]):
                raise ValueError(f"its header is not valid: keyword {match[1].decode()} is {_show(match[2])}")
            numbers.setdefault(match[1], int(match[2]))
        length += len(text)
        if len(text) < RECORD or b"END".ljust(CARD) in cards:
            return numbers, length
        text = stream.read(RECORD)
    raise ValueError(f"its header has no end in {MOST_RECORDS * RECORD // CARD} cards")


def _find_size(numbers: dict[bytes, int], most: int) -> int:
    """Return how many bytes of data a header tells of, if it can be true."""
    dimensions, groups = numbers.get(b"NAXIS", 0), numbers.get(b"GCOUNT", 1)
    if not (0 <= dimensions <= _MOST_AXES and 0 <= numbers.get(b"TFIELDS", 0) <= _MOST_AXES):
        raise ValueError("its header is not valid: it counts axes or columns below 0 or above 999")
    keys = [b"NAXIS%d" % (i + 1) for i in range(dimensions)]
    if missing := [key for key in keys if key not in numbers]:
        raise ValueError(f"its header is not valid: keyword {missing[0].decode()} is missing")
    if not 0 <= groups <= 1 << 40:
        raise ValueError("its header is not valid: an absurd GCOUNT")
    axes = [numbers[key] for key in keys]
    # Random groups have no first axis.
    if axes[:1] == [0] and groups > 1 and groups * math.prod(axes[1:]) > most:
        raise ValueError("it ends too early: its header tells of more groups than it can hold")
    return measure_data(numbers.get(b"BITPIX", 8), axes, numbers.get(b"PCOUNT", 0), most)
