"""VOTables, of which nothing is read but the file itself."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.parsers import expat

from astropy.io.votable import from_table, parse
from astropy.io.votable.tree import Info
from astropy.table import Table

__all__ = ["read_votable", "write_votable"]


def read_votable(content: bytes) -> Table:
    """Return the first table of a VOTable.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    `~astropy.table.Table`

    Raises
    ------
    ValueError
        Where it is none, or its rows are elsewhere: astropy would open any name that the file gives, on the network
        too.
    """
    _refuse_links(content)
    element = parse(io.BytesIO(content)).get_first_table()
    table = element.to_table(use_names_over_ids=True)
    table.meta |= {info.name: _decode(info.value) for info in element.infos}
    for column in table.itercols():
        column.info.description = (
            " ".join((column.info.description or "").split()) or None
        )  # it may be on several lines
    return table


def write_votable(table: Table, path: Path) -> None:
    """Write a table with units, descriptions, UCDs, and metadata as INFO elements.

    Parameters
    ----------
    table : `~astropy.table.Table`
    path : Path
    """
    plain = Table(table)
    for column in plain.itercols():
        column.meta = column.info.meta or {}
    votable = from_table(plain)
    votable.get_first_table().infos.extend(Info(name=key, value=_encode(value)) for key, value in table.meta.items())
    votable.to_xml(str(path))


def _encode(value: object) -> str:
    """Return a value of metadata as text: what is not text, or looks like something else, as JSON."""
    return value if isinstance(value, str) and _decode(value) == value else json.dumps(value, default=str)


def _decode(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refuse_links(content: bytes) -> None:
    """Refuse streams by reference; the parser that reads the encoding and the entities of XML finds them all."""

    def start(name: str, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            if name.rpartition(":")[2].upper() == "STREAM" and key.rpartition(":")[2].lower() == "href":
                raise ValueError(f"its rows are at {value}, which is not opened; give a file that holds them")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no XML: {error}") from None
