"""Tables of separated text in the dialects that people write, and more columns in the dialect that a file has."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.readers.kinds import check_lines, read_content

__all__ = ["extend_csv", "format_csv", "read_csv"]

_SEPARATORS = (",", ";", "\t", "|")
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_FLOAT = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|NaN|NAN|[+-]?(?:inf|Inf|INF)"
# What a column is, by all cells of it that are not blank, each with a line end behind it. Digits behind a leading zero
# are a name, as of a source or a tile, unless there is a sign.
_KINDS: dict[str, re.Pattern[str]] = {
    "int": re.compile(r"(?:(?:0|\+?[1-9]\d*|-\d+)\n)+"),
    "text": re.compile(r"(?:\d+\n)+"),
    "float": re.compile(rf"(?:(?:{_FLOAT})\n)+"),
    "bool": re.compile(r"(?:(?:True|False)\n)+"),
}
_DECIMAL_COMMAS = re.compile(r"(?:[+-]?\d*,\d+(?:[eE][+-]?\d+)?\n)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A text file, taken apart so that its lines can be put together again."""

    encoding: str
    separator: str
    names: list[str]
    header: int
    """Where the names are, among `records`."""
    records: list[str]
    """All lines with their ends, those of a cell with line ends in one; joined they are the file."""
    rows: list[int]
    """Which of them are rows."""
    cells: list[list[str | None]]
    """Of each row; None for a blank one that is not quoted."""

    def split(self, record: str) -> list[str]:
        """Return the cells of a record as they stand, with quotes and blanks."""
        if self.separator == " ":
            return re.findall(r'"(?:[^"]|"")*"|\S+', record)
        s = re.escape(self.separator)
        return [match[1] for match in re.finditer(rf'(?:^|{s})(\s*"(?:[^"]|"")*"[^{s}]*|[^{s}]*)', record)]


def _decode(content: bytes, path: Path) -> tuple[str, str]:
    """Return the text of a file and its encoding."""
    encoding = next((name for bom, name in _BOMS.items() if content.startswith(bom)), "utf-8")
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError:
        if b"\0" in content:
            raise ValueError("it is no text") from None
        warnings.warn(f"{path}: is not UTF-8; reading it as latin-1", PhotplugWarning, stacklevel=4)
        return content.decode("latin-1"), "latin-1"


def _parse(content: bytes, path: Path) -> _Text:
    """Take a file apart; ValueError where its rows have not all the cells of the line of names."""
    text, encoding = _decode(content, path)
    if "\0" in text:
        raise ValueError("it is no text")
    # Not str.splitlines, which ends lines at form feeds and other separators of Unicode too.
    lines = list(io.StringIO(text, newline=""))
    plain = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    comments = [i for i, line in enumerate(lines) if line.lstrip().startswith("#")]
    if not plain and not comments:
        raise ValueError("it is empty")
    header = plain[0] if plain else comments[-1]
    separator = _find_separator(lines, header, plain[1:3])
    names = _read_names(lines[header], separator)
    above = [i for i in comments if i < header]
    numbers = [bool(re.fullmatch(_FLOAT, name)) for name in names]
    for i in reversed(above) if any(numbers) else ():  # numpy, TOPCAT and catalogues for EAZY: names in a comment
        commented = _read_names(lines[i].lstrip().removeprefix("#"), separator)
        if len(commented) == len(names) and not any(re.fullmatch(_FLOAT, name) for name in commented):
            names, header, numbers = commented, i, [False]
            break
    if all(number or not name for number, name in zip(numbers, names, strict=False)):
        raise ValueError("its first line holds no names of columns")
    return _read_rows(
        _Text(
            encoding=encoding,
            separator=separator,
            names=_name_all(names),
            header=header,
            records=lines,
            rows=[],
            cells=[],
        )
    )


def _find_separator(lines: Sequence[str], header: int, following: Sequence[int]) -> str:
    """Return what stands between the cells: the separator that the line of names has most, blanks where it has none."""
    bare = re.sub(r'"(?:[^"]|"")*"', "", lines[header])
    found = max(_SEPARATORS, key=bare.count)
    if bare.count(found):
        return found
    words = re.compile(r'"(?:[^"]|"")*"|\S+')
    number = len(words.findall(lines[header]))
    return " " if number > 1 and all(len(words.findall(lines[i])) == number for i in following) else ","


def _read_names(line: str, separator: str) -> list[str]:
    cells = next(csv.reader([line.strip("\r\n ")], delimiter=separator, skipinitialspace=True), [])
    return [cell.strip() for cell in cells]


def _name_all(names: list[str]) -> list[str]:
    """Return names for all columns, those without one by their number."""
    named = [name or f"col{i}" for i, name in enumerate(names, start=1)]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ValueError(f"it has two columns {twice[0]}; rename one")
    return named


def _read_rows(text: _Text) -> _Text:
    """Return the text with its rows."""
    after = text.records[text.header + 1 :]
    records, rows, cells = text.records[: text.header + 1], [], []
    position = 0

    def feed() -> Iterator[str]:
        nonlocal position
        while position < len(after):
            position += 1
            line = after[position - 1]
            yield line.strip() + "\n" if text.separator == " " else line

    reader = csv.reader(feed(), delimiter=text.separator, skipinitialspace=True, strict=True)
    while position < len(after):
        start, bare = position, after[position].lstrip()
        if not bare or bare.startswith("#"):
            records.append(after[position])
            position += 1
            continue
        try:
            row = next(reader)
        except csv.Error as error:
            raise ValueError(f"line {text.header + 2 + start}: {error}") from None
        if len(row) != len(text.names):
            line = text.header + 2 + start
            raise ValueError(f"line {line} has {len(row)} cells, and there are {len(text.names)} names of columns")
        rows.append(len(records))
        records.append("".join(after[start:position]))
        cells.append(_mark_blanks(text, records[-1], row))
    return _Text(
        encoding=text.encoding,
        separator=text.separator,
        names=text.names,
        header=text.header,
        records=records,
        rows=rows,
        cells=cells,
    )


def _mark_blanks(text: _Text, record: str, row: list[str]) -> list[str | None]:
    """Return the cells of a row, None for a blank one, which a quoted empty text is not."""
    if '"' not in record:
        return [cell.strip() or None for cell in row]
    raw = text.split(record)
    return [
        cell if mark.lstrip().startswith('"') else cell.strip() or None for cell, mark in zip(row, raw, strict=True)
    ]


def read_csv(path: Path) -> Table:
    """Read a table of separated text.

    Parameters
    ----------
    path : Path
        Commas, semicolons, tabs, bars or blanks between cells; lines that begin with ``#`` are comments, the last of
        them the line of names where no other is; UTF-8 with or without a mark, UTF-16, or, with a warning, latin-1.

    Returns
    -------
    `~astropy.table.Table`
        Columns of integers, floats, True and False, or text, each where all of its cells are such: digits with leading
        zeros are text, and so are integers of more than 64 bits. Blank cells are masked.

    Raises
    ------
    ValueError
        Where it is no such table: rows with other numbers of cells, two columns of a name, decimal commas; or a row is
        far longer than the others.
    """
    text = _parse(read_content(path), path)
    check_lines(path, (text.records[i] for i in text.rows))
    table = Table()
    for i, name in enumerate(text.names):
        table[name] = _make_column([row[i] for row in text.cells], name, text.separator)
    return table


def _make_column(cells: list[str | None], name: str, separator: str) -> Column:
    """Return a column of the type that all of its cells have."""
    there = [cell for cell in cells if cell]
    joined = "\n".join([*there, ""])
    if separator != "," and _DECIMAL_COMMAS.fullmatch(joined):
        raise ValueError(f"column {name} has decimal commas, such as {there[0]}; write points")
    kind = next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(joined)), "text")
    if kind == "text":  # where a quoted blank is an empty text, not a missing number
        there = [cell for cell in cells if cell is not None]
    mask = np.array([cell is None or (kind != "text" and not cell) for cell in cells], dtype=bool)
    values = _convert(there, kind)
    if not mask.any():
        return Column(values)
    spread = np.zeros(len(cells), dtype=values.dtype if len(there) else "U1")
    spread[~mask] = values
    return MaskedColumn(spread, mask=mask)


def _convert(cells: list[str], kind: str) -> NDArray[np.generic]:
    if kind == "int":
        numbers = [int(cell) for cell in cells]
        for dtype in (np.int64, np.uint64):
            if np.iinfo(dtype).min <= min(numbers) and max(numbers) <= np.iinfo(dtype).max:
                return np.array(numbers, dtype=dtype)
    if kind == "float":
        return np.fromiter(map(float, cells), np.float64, len(cells))
    if kind == "bool":
        return np.array([cell == "True" for cell in cells], dtype=bool)
    return np.array(cells, dtype=str)


def format_csv(table: Table) -> str:
    """Return a table as text with commas, from which :func:`read_csv` makes the same values.

    Parameters
    ----------
    table : `~astropy.table.Table`

    Returns
    -------
    str
        A line of names, and one for each row. A masked cell is blank, an empty text is quoted.

    Raises
    ------
    ValueError
        For columns of more than one value a row, or of objects, which no line of text holds.
    """
    columns = [_format_cells(table, name, ",") for name in table.colnames]
    lines = [",".join(_quote(name, ",") for name in table.colnames), *map(",".join, zip(*columns, strict=True))]
    return "".join(f"{line}\n" for line in lines)


def _format_cells(table: Table, name: str, separator: str) -> list[str]:
    """Return the text of each cell of a column, to all of its digits."""
    column = table[name]
    values = np.ma.asarray(getattr(column, "value", column)) if hasattr(column, "dtype") else np.ma.empty((0, 0))
    if values.ndim != 1 or values.dtype.kind not in "biufcSUM":
        raise ValueError(f"column {name} holds more than a number or a text in each row")
    data = np.ma.getdata(values)
    plain = list(map(repr, data.tolist())) if data.dtype == np.float64 else data.astype(str).tolist()
    cells = [_quote(cell, separator) for cell in plain] if values.dtype.kind in "SU" else plain
    mask = np.ma.getmaskarray(values)
    blank = '""' if separator == " " else ""
    return [blank if hidden else cell for cell, hidden in zip(cells, mask, strict=True)] if mask.any() else cells


def _quote(cell: str, separator: str) -> str:
    """Return the text of a cell, in quotes where it would be read as something else."""
    special = r'[\s"]' if separator == " " else rf'[{re.escape(separator)}"\r\n]'
    if cell == cell.strip() != "" and not cell.startswith("#") and not re.search(special, cell):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def extend_csv(original: Path, table: Table, added: Sequence[str]) -> list[bytes]:
    """Return the bytes of a text file whose rows have more cells; all that it had stays as it was.

    Parameters
    ----------
    original : Path
    table : `~astropy.table.Table`
        What was read from it, with new columns, or replaced ones.
    added : sequence of str
        Names of those columns.

    Returns
    -------
    list of bytes
        To be written one after the other, in its own encoding, separators and line ends.

    Raises
    ------
    PhotplugError
        Where the file has other rows than `table`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PhotplugWarning)  # told when it was read
        text = _parse(original.read_bytes(), original)
    if len(text.rows) != len(table):
        raise PhotplugError(
            f"{original}: has {len(text.rows)} rows, the table read from it {len(table)}; read it again"
        )
    cells = {name: [_quote(name, text.separator), *_format_cells(table, name, text.separator)] for name in added}
    records = list(text.records)
    for i, place in enumerate([text.header, *text.rows]):
        records[place] = _extend_record(text, records[place], {name: column[i] for name, column in cells.items()})
    return ["".join(records).encode(text.encoding)]


def _extend_record(text: _Text, record: str, new: dict[str, str]) -> str:
    """Return a line with more cells at its end, and others in place of those of the same name."""
    line = record.rstrip("\r\n")
    end = record[len(line) :]
    replaced = [name for name in new if name in text.names]
    if replaced:
        raw = text.split(line)
        for name in replaced:
            raw[text.names.index(name)] = new[name]
        line = text.separator.join(raw)
    return text.separator.join([line, *(cell for name, cell in new.items() if name not in text.names)]) + end
