"""Catalogues that exist already: read them, add columns, keep all the rest as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from astropy import units as u
from astropy.io import fits
from astropy.table import Column, QTable, Table
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import ArrayLike

from dja_photplug.errors import PhotplugError
from dja_photplug.files.fitsbytes import extend_fits, first_table
from dja_photplug.files.formats import CATALOG_FORMATS, EXTENDED_FORMATS, TABLE_FORMATS
from dja_photplug.files.whole import check_output, whole_file

__all__ = [
    "add_columns",
    "check_new",
    "name_some",
    "read_catalog",
    "write_catalog",
    "write_extended",
]

# What makes these read the first table of many, and keep NaN, which is not the same as masked.
_READ_OPTIONS: dict[str, dict[str, bool | int | str]] = {
    "fits": {"mask_invalid": False, "unit_parse_strict": "silent"},
    "votable": {"table_id": 0, "use_names_over_ids": True},
}


def read_catalog(path: str | Path) -> Table:
    """Read a catalogue; of a file with several tables the first.

    Parameters
    ----------
    path : str or Path
        Ends in one of the suffixes of :data:`TABLE_FORMATS`.

    Returns
    -------
    `~astropy.table.Table`
        Not a QTable, which would turn integers with a unit into floats. Units that astropy does not know are kept.

    Raises
    ------
    PhotplugError
        For another suffix, or a file that cannot be read.
    """
    path = Path(path)
    kind = next((kind for suffix, kind in TABLE_FORMATS.items() if path.name.lower().endswith(suffix)), None)
    if kind is None:
        raise PhotplugError(f"{path}: catalogues are read from {', '.join(TABLE_FORMATS)}; convert it to one of them")
    try:
        with warnings.catch_warnings():
            # Units that astropy does not know and liberties with the format are the file's own, and kept as they are.
            warnings.simplefilter("ignore", AstropyWarning)
            if kind != "fits":
                return Table.read(path, format=kind, **_READ_OPTIONS.get(kind, {}))
            with fits.open(path, memmap=False) as hdus:
                return Table.read(hdus[first_table(hdus)], format=kind, **_READ_OPTIONS[kind])
    except Exception as error:  # each of five parsers has its own
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise PhotplugError(f"{path}: cannot be read as a catalogue ({reason}); check the file") from error


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
            f"the catalogue has {name_some(there, 1)} of the new columns; add --overwrite-columns to replace them, or "
            "--prefix to name the new ones otherwise"
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


def write_extended(
    table: Table, path: str | Path, *, added: Sequence[str], original: str | Path | None = None, overwrite: bool = False
) -> Path:
    """Write an extended catalogue whole or not at all, and the original's part of it as it was.

    Where both files are FITS, every byte of the original's columns, cards and other HDUs is kept: only the cards that
    say how large the table is change, the checksums of the table, which hold no longer, are left out, and the list of
    columns that astropy keeps in COMMENT cards grows. All other pairs of formats go through `table`.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What was read from `original`, with new columns by :func:`add_columns` and new entries of ``meta``.
    path : str or Path
        Ends in one of the suffixes of :data:`EXTENDED_FORMATS`. It may be `original`.
    added : sequence of str
        Names of the columns that are new, or replaced.
    original : str or Path, optional
        The file that was read.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        For another suffix, an existing file, an original that has changed, or what the format cannot hold.
    """
    path = check_output(Path(path), overwrite=overwrite, suffixes=tuple(EXTENDED_FORMATS))
    suffix = path.suffix.lower()
    if suffix == ".fits" and original is not None and str(original).lower().endswith((".fits", ".fits.gz")):
        pieces = extend_fits(Path(original), table, added)
        if pieces is not None:
            with whole_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
                stream.writelines(pieces)
            return path
    try:
        if suffix != ".csv":
            return write_catalog(table, path, overwrite=overwrite)
        with whole_file(path, overwrite=overwrite) as temporary:
            table.write(temporary, format=EXTENDED_FORMATS[suffix])
    except (ValueError, TypeError) as error:
        raise PhotplugError(f"{path}: {suffix} does not hold this catalogue ({error}); write .ecsv") from error
    return path


def write_catalog(table: QTable, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a catalogue whole or not at all; `QTable.read` returns it with units, descriptions and metadata.

    Parameters
    ----------
    table : `~astropy.table.QTable`
    path : str or Path
        Ends in ``.fits``, ``.ecsv`` or ``.parquet``.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        For another suffix, parquet without pyarrow, an existing file, or a folder that does not take it.
    """
    path = Path(path)
    kind = CATALOG_FORMATS.get(path.suffix.lower())
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise PhotplugError(f"{path}: parquet needs pyarrow; pip install 'dja_photplug[parquet]', or write .fits")
    with whole_file(path, overwrite=overwrite, suffixes=tuple(CATALOG_FORMATS)) as temporary:
        table.write(temporary, format=kind)
    return path
