"""Binary tables of FITS files as bytes: columns and cards are added, and all the rest stays as it was."""

from __future__ import annotations

import io
import re
import warnings
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from astropy.io import fits
from astropy.io.misc import yaml
from astropy.table import Table
from astropy.table.meta import get_header_from_yaml
from astropy.utils.exceptions import AstropyWarning
from isal import igzip
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.formats import encode_text
from dja_photplug.files.smallfits import CardValue
from dja_photplug.files.structure import CARD, RECORD, open_fits

__all__ = [
    "ColumnDescriptions",
    "describe_columns",
    "extend_fits",
    "find_table",
    "find_tables",
    "is_ascii_table",
    "merge_descriptions",
    "name_tables",
    "split_name",
]

# Keywords that belong to one column: those of the standard (section 7.3), of TOPCAT and of VizieR.
_COLUMN_KEYWORD = re.compile(
    r"(TTYPE|TFORM|TUNIT|TNULL|TSCAL|TZERO|TDISP|TDIM|TCTYP|TCUNI|TCRPX|TCRVL|TCDLT|TRPOS|TLMIN|TLMAX|TDMIN|TDMAX"
    r"|TCOMM|TUCD|TUTYP|TXTYP)([1-9]\d*)"
)
_BEGIN, _END = "--BEGIN-ASTROPY-SERIALIZED-COLUMNS--", "--END-ASTROPY-SERIALIZED-COLUMNS--"


def split_name(path: Path) -> tuple[Path, str | None]:
    """Return the file, and which of its tables is meant, of a name such as ``cat.fits[LDAC_OBJECTS]``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    path : Path
        Without the brackets.
    wanted : str or None
        Name or number of an HDU; None where none is named.

    Examples
    --------
    >>> [str(part) for part in split_name(Path("cat.fits[2]"))]
    ['cat.fits', '2']
    """
    match = re.fullmatch(r"(.+\.\w+)\[([^\]]+)\]", str(path))
    return (Path(match[1]), match[2]) if match and not path.exists() else (path, None)


def find_table(hdus: fits.HDUList, wanted: str | None = None) -> int:
    """Return the index of a table of a file, ASCII or binary.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
    wanted : str, optional
        Its name, or its index; the first table without it, but never ``LDAC_IMHEAD``, SExtractor's copy of a header.

    Returns
    -------
    int
        Counted from 0, the primary HDU.

    Raises
    ------
    ValueError
        Where there is none.
    """
    tables = {i: hdus[i].name for i in find_tables(hdus)}
    if not tables:
        raise ValueError("it holds no table")
    if wanted is None:
        return next(iter(tables))
    found = [i for i, name in tables.items() if wanted in (str(i), name) or wanted.upper() == name]
    if not found:
        meant = suggest(wanted, list(tables.values()))
        raise ValueError(f"HDU {wanted} is none of its tables, {name_tables(hdus)}{meant}")
    return found[0]


def find_tables(hdus: fits.HDUList) -> list[int]:
    """Return the indices of the tables of a file that may be catalogues.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`

    Returns
    -------
    list of int
        Counted from 0, the primary HDU.
    """
    return [i for i, hdu in enumerate(hdus) if _is_catalog(hdu)]


def name_tables(hdus: fits.HDUList) -> str:
    """Return the tables of a file as text, as they are named in brackets.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`

    Returns
    -------
    str
    """
    return " ".join(f"[{hdus[i].name or i}]" for i in find_tables(hdus))


def _is_catalog(hdu: object) -> bool:
    return isinstance(hdu, fits.TableHDU | fits.BinTableHDU) and hdu.name != "LDAC_IMHEAD"


def is_ascii_table(path: Path) -> bool:
    """Return whether the table of a FITS file is one of text, which takes no columns of bytes.

    Parameters
    ----------
    path : Path
        As for :func:`split_name`.

    Returns
    -------
    bool
    """
    path, wanted = split_name(path)
    with open_fits(path) as hdus:
        return isinstance(hdus[find_table(hdus, wanted)], fits.TableHDU)


def describe_columns(content: bytes, table: Table, name: str = "CATALOG") -> bytes:
    """Return a FITS file in which others than astropy see of the columns what it sees: ``TCOMMn``, ``TUCDn``.

    Parameters
    ----------
    content : bytes
        What astropy wrote of `table`, with descriptions in a list in COMMENT cards.
    table : `~astropy.table.Table`
        Columns whose ``info`` has a description, and in its ``meta`` a ``ucd``.
    name : str, optional
        Of the table, ``EXTNAME``.

    Returns
    -------
    bytes
    """
    with fits.open(io.BytesIO(content)) as hdus:
        where = hdus[1].fileinfo()
    # As bytes: astropy takes ten times as long to put cards into a header, and half of what it takes to write a table.
    images = [content[start : start + CARD] for start in range(where["hdrLoc"], where["datLoc"], CARD)]
    end = images.index(b"END".ljust(CARD))
    cards = []
    for image in images[:end]:
        cards.append(image)
        keyword = image[:8].decode("ascii").rstrip()
        if keyword == "TFIELDS":
            cards.append(_make_card("EXTNAME", name, "name of this table"))
        elif keyword.startswith("TTYPE"):
            number, column = _column_number(keyword), str(fits.Card.fromstring(image).value)
            cards += [_make_card(*card) for card in _describe_column(table, column, number).items()]
    header = b"".join([*cards, b"END".ljust(CARD)])
    padding = b" " * (-len(header) % RECORD)
    return b"".join([content[: where["hdrLoc"]], header, padding, content[where["datLoc"] :]])


def _describe_column(table: Table, name: str, number: int) -> dict[str, str]:
    """Return the cards of a column; none for those that astropy adds for the values that are missing."""
    if name not in table.colnames:
        return {}
    info = table[name].info
    described = {f"TCOMM{number}": info.description, f"TUCD{number}": (info.meta or {}).get("ucd")}
    return {key: str(encode_text(" ".join(str(value).split()))) for key, value in described.items() if value}


class ColumnDescriptions(TypedDict):
    """What astropy keeps of a table's columns in YAML: each column, and how those of other classes were taken apart."""

    datatype: list[dict[str, object]]
    meta: dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _RawTable:
    """A binary table of a FITS file, as bytes."""

    before: memoryview
    cards: list[tuple[str, bytes]]
    """Keyword and image of each card, with those that continue it."""
    widths: dict[str, int]
    """Bytes of each column in a row."""
    rows: NDArray[np.uint8]
    tail: memoryview
    """What follows the rows: a gap, which is mostly empty, and the heap of arrays of variable length."""
    gap: int
    after: memoryview

    def value(self, keyword: str) -> CardValue:
        """Return the value of the first card of that keyword, None where there is none."""
        images = (image for key, image in self.cards if key == keyword)
        return next((fits.Card.fromstring(image).value for image in images), None)

    def column_cards(self, number: int, renumbered: int) -> bytes:
        """Return the cards of a column, counted from 1, for a table where it has another number."""
        cards = (fits.Card.fromstring(image) for key, image in self.cards if _column_number(key) == number)
        return b"".join(
            _make_card(card.keyword.rstrip("0123456789") + str(renumbered), card.value, card.comment) for card in cards
        )

    def place(self, name: str) -> slice:
        """Return where a column is in a row."""
        names = list(self.widths)
        start = sum(self.widths[before] for before in names[: names.index(name)])
        return slice(start, start + self.widths[name])


def _column_number(keyword: str) -> int:
    match = _COLUMN_KEYWORD.fullmatch(keyword)
    return int(match[2]) if match else 0


def _parse_table(content: bytes | bytearray, wanted: str | None = None) -> _RawTable:
    """Return a table of a FITS file, which is a binary one; the first, where none is named."""
    view = memoryview(content)
    with fits.open(io.BytesIO(content)) as hdus:
        hdu = hdus[find_table(hdus, wanted)]
        where, header, dtype = hdu.fileinfo(), hdu.header, hdu.columns.dtype
    cards: list[tuple[str, bytes]] = []
    for start in range(where["hdrLoc"], where["datLoc"], CARD):
        image = bytes(view[start : start + CARD])
        if image.startswith(b"CONTINUE") and cards:
            cards[-1] = cards[-1][0], cards[-1][1] + image
        elif image.rstrip() == b"END":
            break
        else:
            cards.append((fits.Card.fromstring(image).keyword, image))
    n_rows, width = header["NAXIS2"], header["NAXIS1"]
    data, size = where["datLoc"], n_rows * width
    return _RawTable(
        before=view[: where["hdrLoc"]],
        cards=cards,
        widths={name: dtype[name].itemsize for name in dtype.names},
        rows=np.frombuffer(view[data : data + size], dtype=np.uint8).reshape(n_rows, width),
        tail=view[data + size : data + size + header["PCOUNT"]],
        gap=header.get("THEAP", size) - size,
        after=view[data + where["datSpan"] :],
    )


def extend_fits(original: Path, table: Table, added: Sequence[str]) -> list[bytes | memoryview]:
    """Return the bytes of a FITS file one of whose tables has more columns and metadata.

    Parameters
    ----------
    original : Path
        A ``.fits`` or ``.fits.gz`` file, as for :func:`split_name`, whose table is binary.
    table : `~astropy.table.Table`
        What was read from it, with new columns, or replaced ones, and new entries of ``meta``, as headers take them.
    added : sequence of str
        Names of those columns.

    Returns
    -------
    list of bytes and memoryview
        To be written one after the other.

    Raises
    ------
    PhotplugError
        Where the file has other rows than `table`.
    """
    file, wanted = split_name(original)
    content = file.read_bytes()
    old = _parse_table(igzip.decompress(content) if content.startswith(b"\x1f\x8b") else content, wanted)
    if len(old.rows) != len(table):
        raise PhotplugError(f"{original}: has {len(old.rows)} rows, the table read from it {len(table)}; read it again")
    addition = table[list(added)] if added else Table()  # an empty list would choose rows
    addition.meta = {
        key: value for key, value in table.meta.items() if not isinstance(value, list) and old.value(key) != value
    }
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Long keywords become HIERARCH cards, and units that FITS does not know stand in COMMENT cards: as meant.
        warnings.simplefilter("ignore", AstropyWarning)
        addition.write(stream, format="fits")
        new = _parse_table(bytearray(describe_columns(stream.getvalue(), addition)))  # whose rows can be changed
        _shift_heap(new, len(old.tail) - old.gap)
        rows, tail = _merge_rows(old, new), [old.tail, new.tail]
        cards = _merge_cards(old, new, {*addition.meta, *map(str.upper, addition.meta)})
    size = rows.nbytes + len(old.tail) + len(new.tail)
    return [old.before, cards, b" " * (-len(cards) % RECORD), rows.data, *tail, bytes(-size % RECORD), old.after]


def _shift_heap(table: _RawTable, offset: int) -> None:
    """Move the arrays of variable length of a table behind `offset` bytes of another heap."""
    for number, name in enumerate(table.widths, start=1):
        match = re.match(r"\d*([PQ])", str(table.value(f"TFORM{number}")))
        if match:
            column = table.rows[:, table.place(name)]
            descriptors = column.copy().view({"P": ">i4", "Q": ">i8"}[match[1]])
            descriptors[:, 1::2] += offset
            column[:] = descriptors.view(np.uint8)


def _merge_rows(old: _RawTable, new: _RawTable) -> NDArray[np.uint8]:
    """Return the rows of both tables, a new column in the place of an old one of its name."""
    pieces, start = [], 0
    for name in (name for name in old.widths if name in new.widths):
        place = old.place(name)
        pieces += [old.rows[:, start : place.start], new.rows[:, new.place(name)]]
        start = place.stop
    pieces.append(old.rows[:, start:])
    pieces += [new.rows[:, new.place(name)] for name in new.widths if name not in old.widths]
    return np.concatenate(pieces, axis=1)


def _merge_cards(old: _RawTable, new: _RawTable, keywords: set[str]) -> bytes:
    """Return the header of the merged table, with those metadata of `new` that have one of `keywords`."""
    names = [*old.widths, *(name for name in new.widths if name not in old.widths)]
    columns = {
        names.index(name) + 1: new.column_cards(i, names.index(name) + 1) for i, name in enumerate(new.widths, 1)
    }
    replaced = set(columns) & set(range(1, len(old.widths) + 1))
    width = sum({**old.widths, **new.widths}.values())
    values = {key: new.value(key) for key, _ in new.cards if key in keywords}
    values |= {"NAXIS1": width, "PCOUNT": len(old.tail) + len(new.tail), "TFIELDS": len(names)}
    if old.value("THEAP") is not None:
        values["THEAP"] = len(old.rows) * width + old.gap
    begin, end = _find_list(old.cards)
    last = max(i for i, (key, _) in enumerate(old.cards) if _column_number(key))
    images: list[bytes] = []
    for i, (key, image) in enumerate([*old.cards[:begin], ("", _merge_lists(old, new)), *old.cards[end:]]):
        number = _column_number(key)
        if number in replaced:
            images.append(columns.pop(number, b""))  # all of the column's cards at the first of the old
        elif key in values:
            images.append(_make_card(key, values.pop(key), fits.Card.fromstring(image).comment))
        elif key not in ("CHECKSUM", "DATASUM"):
            images.append(image)
        if i == last:
            images += [columns[number] for number in sorted(set(columns) - replaced)]
    images += [_make_card(key, value) for key, value in values.items()]
    return b"".join([*images, b"END".ljust(CARD)])


def _make_card(keyword: str, value: CardValue, comment: str = "") -> bytes:
    return str(fits.Card(keyword, value, comment)).encode("ascii")


def _find_list(cards: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
    """Return begin and end, among the cards, of astropy's list of columns in YAML; both the end where it is none."""
    texts = [image[8:].decode("latin-1").rstrip() for _, image in cards]
    return (texts.index(_BEGIN), texts.index(_END) + 1) if _BEGIN in texts else (len(cards), len(cards))


def _read_list(cards: Sequence[tuple[str, bytes]]) -> ColumnDescriptions:
    """Return astropy's list of columns; where a line is cut after 70 characters, a backslash says so."""
    begin, end = _find_list(cards)
    texts = [image[8:].decode("latin-1").rstrip() for _, image in cards[begin + 1 : end - 1]]
    lines = "".join(text[:70] + ("" if len(text) > 70 else "\n") for text in texts).splitlines()
    return cast(ColumnDescriptions, get_header_from_yaml(lines) if lines else {})


def _to_dicts(value: object) -> object:
    """Return the value with dicts for ordered dicts, which the YAML writer does not take; it keeps the order."""
    if isinstance(value, list):
        return [_to_dicts(item) for item in value]
    if isinstance(value, dict) and type(value) in (
        dict,
        OrderedDict,
    ):  # a dict of another type means more than its items
        return {key: _to_dicts(item) for key, item in value.items()}
    return value


def merge_descriptions(
    old: ColumnDescriptions, new: ColumnDescriptions, replaced: Collection[str]
) -> ColumnDescriptions:
    """Return astropy's lists of columns of two tables as one.

    Parameters
    ----------
    old, new : dict
        As of `astropy.table.meta.get_header_from_yaml`.
    replaced : collection of str
        Columns of `old` that are left out.

    Returns
    -------
    dict
    """
    ours, theirs = (cast(ColumnDescriptions, _to_dicts({"datatype": [], "meta": {}} | each)) for each in (new, old))
    key = "__serialized_columns__"
    kept = {name: how for name, how in theirs["meta"].get(key, {}).items() if name not in replaced}
    serialized = kept | ours["meta"].get(key, {})
    return {
        "datatype": [column for column in theirs["datatype"] if column["name"] not in replaced] + ours["datatype"],
        "meta": theirs["meta"] | ours["meta"] | ({key: serialized} if serialized else {}),
    }


def _merge_lists(old: _RawTable, new: _RawTable) -> bytes:
    """Return cards with astropy's two lists of columns in one: it reads only the first, and descriptions from it."""
    merged = merge_descriptions(_read_list(old.cards), _read_list(new.cards), new.widths)
    if not merged["datatype"]:
        return b""
    texts = [_BEGIN]
    for line in yaml.dump(merged, default_flow_style=None, sort_keys=False).splitlines():
        chunks = [line[i : i + 70] for i in range(0, len(line), 70)]
        texts += [chunk + "\\" for chunk in chunks[:-1]] + chunks[-1:]
    return b"".join(b"COMMENT " + text.encode("ascii").ljust(CARD - 8) for text in [*texts, _END])
