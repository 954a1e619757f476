"""Catalogues that exist already: read them, find positions and ids, add columns, keep all the rest as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.table import Column, QTable, Table
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.fitsbytes import extend_fits, first_table
from dja_photplug.files.formats import CATALOG_FORMATS, EXTENDED_FORMATS, TABLE_FORMATS
from dja_photplug.files.plaintext import check_names, decode_text, encode_values
from dja_photplug.files.whole import check_output, whole_file

__all__ = [
    "add_columns",
    "check_new",
    "find_ids",
    "find_positions",
    "read_catalog",
    "write_catalog",
    "write_extended",
]

# What makes these read the first table of many, and keep NaN, which is not the same as masked.
_READ_OPTIONS: dict[str, dict[str, bool | int | str]] = {
    "fits": {"mask_invalid": False, "unit_parse_strict": "silent"},
    "votable": {"table_id": 0, "use_names_over_ids": True},
}

_POSITION_NAMES = (
    ("ra", "dec"),
    ("RA", "DEC"),
    ("ALPHA_J2000", "DELTA_J2000"),
    ("X_WORLD", "Y_WORLD"),
    ("RAJ2000", "DEJ2000"),
)
_ID_NAMES = ("id", "ID", "NUMBER", "number")


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
                table = Table.read(hdus[first_table(hdus)], format=kind, **_READ_OPTIONS[kind])
            table.meta.update({key: decode_text(value) for key, value in table.meta.items()})
            return table
    except Exception as error:  # each of five parsers has its own
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise PhotplugError(f"{path}: cannot be read as a catalogue ({reason}); check the file") from error


def find_positions(table: Table, ra: str | None = None, dec: str | None = None) -> SkyCoord:
    """Return the positions of a catalogue's rows, ICRS.

    Parameters
    ----------
    table : `~astropy.table.Table`
    ra, dec : str, optional
        Names of the columns. Without them: the first SkyCoord column, then ``ra dec``, ``RA DEC``,
        ``ALPHA_J2000 DELTA_J2000``, ``X_WORLD Y_WORLD``, ``RAJ2000 DEJ2000``, then ``ra dec`` in any case.
        Numbers without a unit are degrees; text is degrees too, or sexagesimal hours and degrees.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        One for each row, all of them finite.

    Raises
    ------
    PhotplugError
        Without such columns or rows; for a value that is missing or out of range, with its column and row.

    Examples
    --------
    >>> find_positions(Table({"RA": [34.5], "DEC": [-5.25]})).to_string()
    ['34.5 -5.25']
    """
    if not len(table):
        raise PhotplugError("the catalogue has no rows; give one with sources")
    if ra is None and dec is None:
        for column in table.itercols():
            if isinstance(column, SkyCoord):
                ra, dec = (f"{axis} of {column.info.name}" for axis in ("ra", "dec"))
                return _check_positions(column.icrs.ra.deg, column.icrs.dec.deg, ra, dec)
    ra, dec = _position_names(table, ra, dec)
    return _check_positions(_to_degrees(table[ra], u.hourangle), _to_degrees(table[dec], u.deg), ra, dec)


def _position_names(table: Table, ra: str | None, dec: str | None) -> tuple[str, str]:
    """Return the names of the two columns."""
    lower = {name.lower(): name for name in reversed(table.colnames)}
    any_case = (lower.get("ra", "ra"), lower.get("dec", "dec"))
    looked_for = ((ra or "ra", dec or "dec"),) if ra or dec else (*_POSITION_NAMES, any_case)
    for names in looked_for:
        if set(names) <= set(table.colnames):
            return names
    asked = ", ".join("/".join(names) for names in looked_for[: len(_POSITION_NAMES)])
    raise PhotplugError(
        f"the catalogue has no position columns {asked}; name them by ra and dec (--ra, --dec), it has "
        f"{_name_some(table.colnames)}{suggest(ra or dec or '', table.colnames)}"
    )


def _name_some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _to_degrees(column: Column | u.Quantity, sexagesimal: u.UnitBase) -> NDArray[np.float64]:
    """Return the angles of a column in degrees, NaN where masked."""
    name = column.info.name
    values = np.ma.filled(column, "nan") if column.dtype.kind in "SU" else np.ma.filled(column.astype(float), np.nan)
    try:
        if column.dtype.kind not in "SU":
            return u.Quantity(values, column.unit or u.deg).to_value(u.deg)
        try:
            return values.astype(float)
        except ValueError:
            return Angle(values.astype(str), unit=sexagesimal).to_value(u.deg)
    except (ValueError, TypeError, u.UnitsError) as error:
        raise PhotplugError(f"column {name} holds no angles ({error}); name another by --ra or --dec") from None


def _check_positions(ra: NDArray[np.float64], dec: NDArray[np.float64], *names: str) -> SkyCoord:
    """Return positions all of which exist."""
    for name, values, limit in zip(names, (ra, dec), (360, 90), strict=True):
        if values.ndim != 1:
            raise PhotplugError(f"column {name} holds {values.shape[1:]} values a row; name one with a single angle")
        wrong = np.flatnonzero(~(np.abs(values) <= limit))
        if len(wrong):
            raise PhotplugError(
                f"row {wrong[0]} (from 0): {name} is {values[wrong[0]]}, and so in {len(wrong)} of {len(values)} rows; "
                f"give positions within +-{limit} deg"
            )
    return SkyCoord(ra, dec, unit=u.deg)


def find_ids(table: Table, name: str | None = None) -> NDArray[np.int64] | None:
    """Return the source numbers of a catalogue, or None where it has none.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str, optional
        Of the column; without it ``id``, ``ID``, ``NUMBER`` or ``number``.

    Returns
    -------
    ndarray of int64, shape (n,), or None
        One for each row; None only without `name`.

    Raises
    ------
    PhotplugError
        Where they are not distinct positive integers, with the first that is not; where there is no column `name`.

    Examples
    --------
    >>> find_ids(Table({"NUMBER": [3, 1]}))
    array([3, 1])
    """
    if name is not None and name not in table.colnames:
        raise PhotplugError(
            f"the catalogue has no column {name} of ids; it has {_name_some(table.colnames)}"
            f"{suggest(name, table.colnames)}"
        )
    name = name or next((name for name in _ID_NAMES if name in table.colnames), None)
    if name is None:
        return None
    column = table[name]
    if column.dtype.kind not in "iuf" or column.ndim != 1:
        raise PhotplugError(f"column {name} holds no ids but {column.dtype}; name one of distinct positive integers")
    values = np.ma.filled(column, 0)  # not as floats, which round the ids of Gaia
    whole = (values > 0) & (values == np.round(values))
    distinct = np.zeros(len(values), dtype=bool)
    distinct[np.unique(values, return_index=True)[1]] = True
    wrong = np.flatnonzero(~(whole & distinct))
    if len(wrong):
        what = "a duplicate" if whole[wrong[0]] else "no id"
        raise PhotplugError(
            f"row {wrong[0]} (from 0): {name} {column[wrong[0]]} is {what}; ids are distinct positive integers"
        )
    return np.asarray(values, dtype=np.int64)


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
            f"the catalogue has {_name_some(there, 1)} of the new columns; add --overwrite-columns to replace them"
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

    In FITS, whose headers are ASCII, metadata with other characters are JSON text; `read_catalog` returns what it was.

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
    if kind == "fits":
        try:
            check_names(table.colnames)
        except PhotplugError as error:
            raise PhotplugError(f"{path}: {error}") from None
        table = table.copy(copy_data=False)
        table.meta = encode_values(table.meta)
    with whole_file(path, overwrite=overwrite, suffixes=tuple(CATALOG_FORMATS)) as temporary:
        table.write(temporary, format=kind)
    return path
