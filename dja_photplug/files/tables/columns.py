"""Columns of a catalogue: their names, and those that are added."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from astropy import units as u
from astropy.table import Column, Table
from numpy.typing import ArrayLike

from dja_photplug.errors import PhotplugError

__all__ = ["DEC_LIKE", "RA_LIKE", "add_columns", "check_names", "check_new", "name_some", "tells_positions"]

MOST_COLUMNS = 999
"""Of a FITS table (FITS standard 4.0, section 7.3)."""


# Names that look like one of an angle on the sky.
RA_LIKE = re.compile(r"(^|[^a-z])r\.?a\.?($|[^a-z]|j2000|deg)|alpha|right.?asc|^lon", re.IGNORECASE)
DEC_LIKE = re.compile(r"(^|[^a-z])dec?\.?($|[^a-z]|j2000|deg)|delta|declination|^lat", re.IGNORECASE)


def tells_positions(names: Iterable[str]) -> bool:
    """Return whether columns look like those of positions on the sky.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    bool

    Examples
    --------
    >>> tells_positions(["ID", "RA_MODEL", "DEC_MODEL"]), tells_positions(["filter", "depth"])
    (True, False)
    """
    names = list(names)
    return all(any(kind.search(name) for name in names) for kind in (RA_LIKE, DEC_LIKE))


def name_some(names: Sequence[str], most: int = 8) -> str:
    """Return the first names of a list as text, and how many there are beside them.

    Parameters
    ----------
    names : sequence of str
    most : int, optional
        How many are named.

    Returns
    -------
    str

    Examples
    --------
    >>> name_some(["ra", "dec", "mag"], 2)
    'ra, dec and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_new(table: Table, names: Iterable[str], *, overwrite: bool = False) -> None:
    """Refuse columns that a table has already, unless they are to be replaced.

    Parameters
    ----------
    table : `~astropy.table.Table`
    names : iterable of str
        Of the columns that are to be added.
    overwrite : bool, optional
        They replace those of the table.

    Raises
    ------
    PhotplugError
        With the first of them.
    """
    there = [name for name in names if name in table.colnames]
    if there and not overwrite:
        raise PhotplugError(
            f"the catalogue already has {name_some(there, 1)} of the new columns; add --overwrite-columns to replace "
            "them, or --prefix to rename the new ones"
        )


def add_columns(
    table: Table, columns: Mapping[str, Column | u.Quantity | ArrayLike] | Table, *, overwrite: bool = False
) -> Table:
    """Return a table with columns appended; `table` is not changed, its data are shared.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : mapping of str to `~astropy.table.Column`, `~astropy.units.Quantity` or array
        For all rows of `table`; a table will do.
    overwrite : bool, optional
        Replace columns that exist, in their place.

    Returns
    -------
    `~astropy.table.Table`
        Of the class of `table`.

    Raises
    ------
    PhotplugError
        Where one exists and `overwrite` is False.
    """
    names = list(columns.keys())  # a table iterates over rows
    check_new(table, names, overwrite=overwrite)
    there = set(names) & set(table.colnames)
    extended = table.copy(copy_data=False)
    for name, column in columns.items():
        if name in there:
            extended.replace_column(name, column)
        else:
            extended.add_column(column, name=name, copy=False)
    return extended


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse, before the work, what FITS does not hold of the names of columns.

    Parameters
    ----------
    path : Path
        Of the output, in any format.
    names : sequence of str
        Of all its columns.

    Raises
    ------
    PhotplugError
        For a name that is not in ASCII or too long; for more names than FITS has columns.
    """
    if path.suffix.lower() != ".fits":
        return
    if len(names) > MOST_COLUMNS:
        raise PhotplugError(
            f"{path}: FITS holds at most {MOST_COLUMNS} columns, not {len(names)}; write .ecsv or .parquet, or choose "
            "fewer"
        )
    for name in names:
        if not name.isascii() or not name.isprintable() or len(name) > 68:
            raise PhotplugError(
                f"{path}: FITS column names have at most 68 ASCII characters, and column {name!r} does not fit; "
                "rename it, or write .ecsv"
            )
