"""What a file holds, by how it begins, whatever its name ends in."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from isal import igzip

from dja_photplug.errors import PhotplugError

if TYPE_CHECKING:
    import yaml

__all__ = [
    "MOST_INFLATED",
    "check_aliases",
    "check_held",
    "check_inflated",
    "check_lines",
    "check_numbers",
    "find_kind",
    "read_content",
    "refuse_pipe",
]

# Of columns in SExtractor's text: astropy makes one for each number up to the highest, whatever there is.
MOST_COLUMNS = 10_000

# That YAML stands for: of a header with more no table is made in 20 s.
MOST_NODES = 100_000
_ALIAS = re.compile(r"(^|[\s,:\[{-])\*\w", re.MULTILINE)

MOST_INFLATED = 1032
"""Bytes that a byte of gzip can hold, by its format."""
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


# Of gzip: what a table may take, and how many times its size where it takes more. Columns of zeros shrink 100-fold.
_MOST_BYTES, _MOST_TIMES = 1 << 30, 300
# Of a table as arrays: HDF5 and Parquet can say in a few bytes that all rows are alike, and one long text widens all.
_MOST_HELD = 1 << 28


def refuse_pipe(path: Path) -> None:
    """Refuse a pipe or device, which cannot be read twice and may never end.

    Parameters
    ----------
    path : Path
        Which need not exist.

    Raises
    ------
    PhotplugError
        Where it is neither file nor folder.
    """
    if "\0" in str(path):
        raise PhotplugError(f"{str(path)!r}: a file name cannot contain null characters; name another file")
    with suppress(OSError):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise PhotplugError(f"{path}: is a pipe or a device; save its output to a file, and name that")


def check_inflated(path: Path) -> None:
    """Refuse a gzip file that holds far more than a table of its size.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        Where it does, or is cut short.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(2) != _GZIP or MOST_INFLATED * size <= _MOST_BYTES:
            return
    held, most = 0, max(_MOST_BYTES, _MOST_TIMES * size)
    with igzip.open(path) as inflated:
        while piece := inflated.read(1 << 22):
            held += len(piece)
            if held > most:
                raise OSError(f"its {size} bytes hold more than {most / 1e9:.1f} GB, as no catalogue does")


def check_held(path: Path, held: int) -> None:
    """Refuse a file that holds far more than a table of its size, before memory is taken for it.

    Parameters
    ----------
    path : Path
    held : int
        Bytes that its table takes in memory, where each character of text has four.

    Raises
    ------
    ValueError
        Where it does.
    """
    size = path.stat().st_size
    if held > max(_MOST_HELD, _MOST_TIMES * size):
        raise ValueError(f"its {size} bytes hold a table of {held / 1e9:.1f} GB, as no catalogue does")


def check_aliases(text: str) -> None:
    """Refuse YAML in which aliases stand for far more than is written.

    Parameters
    ----------
    text : str

    Raises
    ------
    ValueError
        Where they do, or contain themselves.
    """
    if not _ALIAS.search(text):
        return
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return  # told by whoever reads it
    if _count_nodes(root, {}) > MOST_NODES:
        raise ValueError(f"its header stands for more than {MOST_NODES} values, by aliases of YAML")


def _count_nodes(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Return how many values a node stands for; infinitely many where it contains itself."""
    if node is None or isinstance(node.value, str):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_count_nodes(part, known) for part in parts)
    return known[id(node)]


def check_lines(path: Path, lines: Iterable[str]) -> None:
    """Refuse text of which a row is far longer than the others: an array has room for the longest in each row.

    Parameters
    ----------
    path : Path
    lines : iterable of str
        Its rows.

    Raises
    ------
    ValueError
        Where that is far more than a table of its size takes.
    """
    lengths = [len(line) for line in lines]
    check_held(path, 4 * len(lengths) * max(lengths, default=0))


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
    check_inflated(path)
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
    refuse_pipe(path)
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


def check_numbers(text: str) -> None:
    """Refuse SExtractor's text whose header numbers more columns than any table has.

    Parameters
    ----------
    text : str

    Raises
    ------
    ValueError
        Naming the number.
    """
    for number in re.findall(r"^\s*#\s*(\d+)", text, flags=re.MULTILINE):
        if len(number) > len(str(MOST_COLUMNS)) or int(number) > MOST_COLUMNS:
            raise ValueError(f"its header numbers a column {number}, and tables have {MOST_COLUMNS} at most")
