"""VOTables, of which nothing is read but the file itself."""

from __future__ import annotations

import io
from xml.parsers import expat

from astropy.table import Table

__all__ = ["read_votable"]


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
    return Table.read(io.BytesIO(content), format="votable", table_id=0, use_names_over_ids=True)


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
