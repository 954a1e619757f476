"""Catalogues that exist already: read them, add columns, keep all the rest as it was."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.table.column import BaseColumn
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.fitsbytes import (
    describe_columns,
    extend_fits,
    find_table,
    is_ascii_table,
    name_tables,
    split_name,
)
from dja_photplug.files.formats import CATALOG_FORMATS, EXTENDED_FORMATS, TABLE_SUFFIXES, decode_text, encode_values
from dja_photplug.files.parquet import extend_parquet, need_pyarrow, read_parquet
from dja_photplug.files.structure import open_fits
from dja_photplug.outputs.run import follow_links
from dja_photplug.outputs.whole import check_output, whole_file
from dja_photplug.readers.csvtext import extend_csv, format_csv, read_csv
from dja_photplug.readers.hdf5 import read_hdf5, write_hdf5
from dja_photplug.readers.kinds import check_aliases, check_lines, check_numbers, find_kind, read_content
from dja_photplug.readers.votable import read_votable, write_votable

__all__ = [
    "add_columns",
    "check_extended",
    "check_names",
    "check_new",
    "choose_table",
    "name_some",
    "read_catalog",
    "write_catalog",
    "write_extended",
]

MOST_COLUMNS = 999
"""Of a FITS table (FITS standard 4.0, section 7.3)."""


def _read_fits(file: Path, wanted: str | None = None) -> Table:
    """Return a table of a file; NaN is not masked, and what FITS says is a time is one."""
    options: dict[str, bool | str] = {"mask_invalid": False, "unit_parse_strict": "silent"}
    with open_fits(file) as hdus:
        hdu = hdus[find_table(hdus, wanted)]
        tables = name_tables(hdus)
        comments = "\n".join(map(str, hdu.header.get("COMMENT", ()))).replace("\\\n", "")
        check_aliases(comments.partition("--BEGIN-ASTROPY-SERIALIZED-COLUMNS--")[2].partition("--END-ASTROPY")[0])
        if wanted is None and tables.count("[") > 1:
            name = f"{file}[{hdu.name or hdus.index_of(hdu)}]"
            _tell_tables(name, tables)
        try:
            table = Table.read(hdu, format="fits", astropy_native=True, **options)
        except (ValueError, TypeError, KeyError, AttributeError):  # times of a kind that astropy does not know
            table = Table.read(hdu, format="fits", **options)
    table.meta.update({key: decode_text(value) for key, value in table.meta.items()})
    return table


def _settle_text(table: Table, path: Path) -> Table:
    """Make text of columns of objects, as text of any length is read from VOTables; few formats hold objects."""
    for name in table.colnames:
        cells = table[name].tolist() if table[name].dtype == object else []
        if cells and all(isinstance(cell, str) for cell in cells):
            check_lines(path, map(str, cells))
            table.replace_column(name, table[name].astype(str))
    return table


def _read_hdf5(file: Path, wanted: str | None = None) -> Table:
    table, names = read_hdf5(file, wanted)
    if wanted is None and len(names) > 1:
        _tell_tables(f"{file}[{names[0]}]", " ".join(f"[{name}]" for name in names))
    return table


def _tell_tables(name: str, tables: str) -> None:
    warnings.warn(f"{name} is read; name another of the tables {tables} by --hdu", PhotplugWarning, stacklevel=5)


_WITH_TABLES: dict[str, Callable[[Path, str | None], Table]] = {"fits": _read_fits, "hdf5": _read_hdf5}
_READERS: dict[str, Callable[[Path], Table]] = {
    "parquet": read_parquet,
    "text": read_csv,
    "votable": lambda path: _settle_text(read_votable(read_content(path)), path),
}
_WRITERS: dict[str, Callable[[Table, Path], None]] = {".h5": write_hdf5, ".vot": write_votable}
_EXTENDERS: dict[str, Callable[[Path, Table, Sequence[str]], Sequence[bytes | memoryview]]] = {
    ".fits": extend_fits,
    ".csv": extend_csv,
    ".parquet": extend_parquet,
}


def read_catalog(path: str | Path) -> Table:
    """Read a catalogue; of a file with several tables the first, with a warning.

    Parameters
    ----------
    path : str or Path
        Ends in one of :data:`TABLE_SUFFIXES`, with or without ``.gz``; what it holds tells its format. Behind the name
        of FITS or HDF5 brackets may name one of several tables, ``cat.fits[LDAC_OBJECTS]``, by its name or number.

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
    file, wanted = split_name(path)
    if not file.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES):
        raise PhotplugError(f"{path}: catalogues are read from {', '.join(TABLE_SUFFIXES)}; convert it to one of them")
    kind = find_kind(file)
    if wanted is not None and kind not in _WITH_TABLES:
        raise PhotplugError(f"{path}: {file.name} holds one table, so none is named {wanted}; leave out --hdu")
    try:
        with warnings.catch_warnings():
            # Units that astropy does not know and liberties with the format are the file's own, and kept as they are.
            warnings.simplefilter("ignore", AstropyWarning)
            warnings.simplefilter("default", PhotplugWarning)
            if kind in _WITH_TABLES:
                return _WITH_TABLES[kind](file, wanted)
            if kind in _READERS:
                return _READERS[kind](file)
            text = read_content(file).decode("utf-8-sig")
            check_aliases("\n".join(line[2:] for line in text.splitlines() if line.startswith("# ")))
            if kind == "ascii.sextractor":
                check_numbers(text)
            check_lines(file, (line for line in text.splitlines() if not line.startswith("#")))
            return Table.read(text, format=kind)
    except PhotplugError:
        raise
    except Exception as error:  # each of seven parsers has its own
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise PhotplugError(f"{path}: cannot be read as a catalogue ({reason}); check the file") from error


def choose_table(path: str | Path, wanted: str | None = None, preferred: Sequence[str] = ()) -> Path:
    """Return the name of a catalogue with that of its table, where the file has several.

    Parameters
    ----------
    path : str or Path
    wanted : str, optional
        Name or number of the table.
    preferred : sequence of str, optional
        Names of tables of which the first that there is is taken without it.

    Returns
    -------
    Path
        With brackets, for :func:`read_catalog`, or as given.
    """
    path = Path(path)
    file, named = split_name(path)
    if wanted is not None:
        return Path(f"{file}[{wanted}]")
    if named is None and file.is_file() and find_kind(file) == "fits":
        there = ""
        with suppress(OSError), open_fits(file) as hdus:  # what is wrong is told where it is read
            there = name_tables(hdus)
        wanted = next((name for name in preferred if f"[{name}]" in there), None)
    return path if wanted is None else Path(f"{file}[{wanted}]")


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


def check_extended(
    table: Table, path: str | Path, *, new: Mapping[str, bool] | None = None, original: str | Path | None = None
) -> None:
    """Refuse, before the work, a catalogue that the format of an output would not hold as it is.

    Unless the original's bytes are kept, the catalogue is written to a temporary file and read again, and each column
    compared: values, mask, type, unit and description.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What was read from `original`.
    path : str or Path
        Of the output.
    new : mapping of str to bool, optional
        Names of the columns that will be added, and whether each row of them holds an array.
    original : str or Path, optional
        The file that was read.

    Raises
    ------
    PhotplugError
        With the first column, or the number of them, that the format does not hold.
    """
    path, new = Path(path), new or {}
    suffix = path.suffix.lower()
    arrays = [name for name, is_array in new.items() if is_array]
    if suffix == ".csv" and arrays:
        raise PhotplugError(
            f"{path}: .csv does not hold the arrays of column {arrays[0]}; write .ecsv, or leave it out"
        )
    check_names(path, list(dict.fromkeys([*table.colnames, *new])))
    if not _keeps_bytes(path, original):
        _rehearse(table, path)


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
            f"{path}: FITS holds {MOST_COLUMNS} columns, and there would be {len(names)}; write .ecsv or .parquet, or "
            "choose fewer"
        )
    for name in names:
        if not name.isascii() or not name.isprintable() or len(name) > 68:
            raise PhotplugError(
                f"{path}: FITS holds names of up to 68 characters of ASCII, and column {name!r} is none; rename it, or "
                "write .ecsv"
            )


def _keeps_bytes(path: Path, original: str | Path | None) -> bool:
    """Return whether the original's part of an output is copied, not written."""
    kind = {".fits": "fits", ".csv": "text", ".parquet": "parquet"}.get(path.suffix.lower())
    if original is None or kind is None or find_kind(split_name(Path(original))[0]) != kind:
        return False
    if kind == "text":  # .txt stays apart: its cells may stand between blanks
        return Path(original).suffix.lower() == ".csv"
    return kind != "fits" or not is_ascii_table(Path(original))


def _rehearse(table: Table, path: Path) -> None:
    """Write a table to a temporary file and read it; refuse the first column that is not as it was."""
    suffix = path.suffix.lower()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"copy{suffix}"
        try:
            _write(table, copy)
            after = read_catalog(copy)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # each of six writers has its own
            _find_culprit(table, path, error)
    for name in table.colnames:
        if name not in after.colnames:
            raise _refusal(path, name, "it is lost")
        reason = _find_change(table[name], after[name], suffix)
        if reason:
            raise _refusal(path, name, reason)
    if suffix != ".csv":  # which has none, as is told when it is written
        _compare_metadata(table, after, path)


def _compare_metadata(before: Table, after: Table, path: Path) -> None:
    """Warn of metadata that a file would not give back: FITS holds numbers and text, by keys without case."""
    there = {key.upper(): value for key, value in after.meta.items()}
    lost = [key for key, value in before.meta.items() if repr(there.get(key.upper())) != repr(value)]
    if lost:
        warnings.warn(
            f"{path}: the metadata {name_some(lost, 4)} will be left out or change; write .ecsv to keep them",
            PhotplugWarning,
            stacklevel=4,
        )


def _refusal(path: Path, name: str, reason: str) -> PhotplugError:
    other = ".parquet" if path.suffix == ".ecsv" else ".ecsv"
    return PhotplugError(
        f"{path}: {path.suffix.lower()} does not hold column {name} as it is ({reason}); write {other}, or rename or "
        "remove the column"
    )


def _find_culprit(table: Table, path: Path, error: Exception) -> NoReturn:
    """Refuse the first column that alone cannot be written, after the whole table could not."""
    for name in table.colnames:
        alone = table[[name]]
        alone.meta = {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                _write(alone, Path(folder) / f"copy{path.suffix.lower()}")
                read_catalog(Path(folder) / f"copy{path.suffix.lower()}")
            except Exception as reason:  # of five writers and readers
                raise _refusal(path, name, " ".join(str(reason).split())) from None
    raise PhotplugError(
        f"{path}: {path.suffix.lower()} does not hold this catalogue ({' '.join(str(error).split())}); write .ecsv"
    ) from error


def _decode(cells: NDArray[np.generic]) -> NDArray[np.str_]:
    """Return text, with bytes that are none kept apart."""
    return (
        np.char.decode(cells.astype(bytes), "utf-8", "surrogateescape")
        if cells.dtype.kind == "S"
        else cells.astype(str)
    )


def _find_change(before: Column, after: Column, suffix: str) -> str:
    """Return how a column has changed in a file; empty where it has not."""
    if isinstance(before, BaseColumn | u.Quantity) != isinstance(after, BaseColumn | u.Quantity):
        return f"it is no longer {type(before).__name__}"
    if not isinstance(before, BaseColumn | u.Quantity):
        same = np.all(np.asarray(before == after))
        return "" if same and type(before) is type(after) else "its values differ"
    if suffix != ".csv":
        if _spell(before.info.unit) != _spell(after.info.unit):
            return f"its unit {before.info.unit} would be {after.info.unit}"
        if (before.info.description or "") != (after.info.description or ""):
            return "its description would differ"
    ours, theirs = (np.ma.asarray(getattr(each, "value", each)) for each in (before, after))
    return _find_changed_values(ours, theirs, suffix)


def _spell(unit: u.UnitBase | None) -> str:
    """Return a unit as text; FITS keeps what it does not know as text too."""
    return "" if unit is None else str(unit if isinstance(unit, u.UnrecognizedUnit) else u.Unit(unit))


def _find_changed_values(before: np.ma.MaskedArray, after: np.ma.MaskedArray, suffix: str) -> str:
    if len(before) != len(after):
        return f"its {len(before)} rows would be {len(after)}, as blank lines are none"
    if before.shape != after.shape:
        return f"its rows of shape {before.shape[1:]} would be of {after.shape[1:]}"
    if suffix == ".vot" and before.dtype.kind == "f":  # in which NaN is what is missing
        before, after = np.ma.masked_invalid(before), np.ma.masked_invalid(after)
    if not np.array_equal(np.ma.getmaskarray(before), np.ma.getmaskarray(after)):
        return "its missing values would differ"
    text = before.dtype.kind in "SU"
    if suffix == ".csv" and before.dtype.kind != "O":  # CSV holds no types: the same text makes the same value
        try:
            plain = np.asarray(after.data).astype(str if text else before.dtype)
            after = np.ma.MaskedArray(plain, mask=np.ma.getmaskarray(after))
        except (ValueError, TypeError):
            return f"its {before.dtype} would be {after.dtype}"
    elif text != (after.dtype.kind in "SU") or (
        not text and before.dtype.newbyteorder("=") != after.dtype.newbyteorder("=")
    ):
        return f"its {before.dtype} would be {after.dtype}"
    there = ~np.ma.getmaskarray(before)
    ours, theirs = np.asarray(before.data)[there], np.asarray(after.data)[there]
    if before.dtype.kind == "O":
        return "" if all(map(_same_object, ours, theirs)) else "its values would differ"
    if text:
        ours, theirs = _decode(ours), _decode(theirs)
    same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
    if same.all():
        return ""
    wrong = np.flatnonzero(~same)[0]
    return f"{ours.ravel()[wrong].item()!r} would be {theirs.ravel()[wrong].item()!r}"


def _same_object(one: object, two: object) -> bool:
    equal_nan = isinstance(one, np.ndarray) and one.dtype.kind in "fc"
    return bool(np.array_equal(np.asarray(one), np.asarray(two), equal_nan=equal_nan))


def _dress(table: Table, suffix: str) -> Table:
    """Return a table whose missing values, empty texts, units and metadata the format gives back."""
    if suffix == ".csv":
        return table
    dressed = table.copy(copy_data=False)
    if suffix == ".fits":
        # A key of these would set the cards of all others that it matches.
        plain = {key: value for key, value in table.meta.items() if not any(text in key for text in ("*", "?", "..."))}
        dressed.meta = encode_values(plain)
    for name in table.colnames:
        column = dressed[name]
        if not isinstance(column, Column):
            continue
        masked = isinstance(column, MaskedColumn) and bool(np.any(column.mask))
        blank = (
            suffix == ".ecsv"
            and column.dtype.kind in "SU"
            and bool(np.any(np.asarray(column) == np.array("").astype(column.dtype)))
        )
        if isinstance(column, MaskedColumn) and not masked:
            column = Column(column, copy=False)  # FITS would call one of its values missing
        if masked or blank:
            column = MaskedColumn(column, copy=False)
            null = _unused_value(column) if suffix == ".fits" else None
            if null is not None:
                column.fill_value = null
            elif suffix == ".fits" or column.dtype.kind in "SU":
                column.info.serialize_method = dict.fromkeys(column.info.serialize_method, "data_mask")
        if suffix == ".fits" and column.unit is not None:
            column.unit = _fits_unit(column.unit)
        if column is not dressed[name]:
            dressed.replace_column(name, column)
    return dressed


def _unused_value(column: MaskedColumn) -> int | None:
    """Return an integer that is none of a column's, for its missing ones; None for types that FITS has none for."""
    if column.dtype.kind != "i" or column.dtype.itemsize == 1:
        return None
    there = np.unique(column.data.data[~column.mask])
    limits = np.iinfo(column.dtype)
    return next((value for value in (limits.min, limits.max) if value not in there), None)


def _fits_unit(unit: u.UnitBase) -> u.UnitBase:
    """Return a unit as FITS takes it: those that it does not know as text."""
    try:
        unit.to_string(format="fits")
    except ValueError:
        return u.Unit(unit.to_string(), format="fits", parse_strict="silent")
    return unit


def _write(table: Table, path: Path) -> None:
    """Write a table in the format of a suffix."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        path.write_text(format_csv(table), encoding="utf-8", newline="")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # what is not kept is found by reading it again
        dressed = _dress(table, suffix)
        if suffix in _WRITERS:
            _WRITERS[suffix](dressed, path)
            return
        dressed.write(path, format=EXTENDED_FORMATS[suffix])
        if suffix == ".fits":
            path.write_bytes(describe_columns(path.read_bytes(), table))


def write_extended(
    table: Table, path: str | Path, *, added: Sequence[str], original: str | Path | None = None, overwrite: bool = False
) -> Path:
    """Write an extended catalogue whole or not at all, and the original's part of it as it was.

    Where both files are FITS, every byte of the original's columns, cards and other HDUs is kept: only the cards that
    say how large the table is change, the checksums of the table, which hold no longer, are left out, and the list of
    columns that astropy keeps in COMMENT cards grows. Where both are CSV, lines keep their text and get cells behind
    it; where both are Parquet, the original's columns are copied. All other pairs of formats go through `table`.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What was read from `original`, with new columns by :func:`add_columns` and new entries of ``meta``.
    path : str or Path
        Ends in one of the suffixes of :data:`EXTENDED_FORMATS`. It is not `original`.
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
        For another suffix, an existing file, an original that has changed or is `path`, or what the format cannot hold.
    """
    if original is not None and follow_links(Path(path)) == follow_links(split_name(Path(original))[0]):
        raise PhotplugError(f"{path}: is the catalogue that is extended; name another output")
    path = check_output(Path(path), overwrite=overwrite, suffixes=tuple(EXTENDED_FORMATS))
    suffix = path.suffix.lower()
    if _keeps_bytes(path, original):
        assert original is not None
        check_names(path, table.colnames)
        pieces = _EXTENDERS[suffix](Path(original), _dress(table, suffix), added)
        with whole_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
            stream.writelines(pieces)
        _tell_left_out(path, table)
        return path
    if suffix == ".parquet":
        need_pyarrow(path)
    try:
        with whole_file(path, overwrite=overwrite) as temporary:
            _write(table, temporary)
    except (ValueError, TypeError, AssertionError) as error:
        raise PhotplugError(
            f"{path}: {suffix} does not hold this catalogue ({' '.join(str(error).split())}); write .ecsv"
        ) from error
    _tell_left_out(path, table)
    return path


def _tell_left_out(path: Path, table: Table) -> None:
    """Warn of what CSV has no place for."""
    named = [name for name in table.colnames if getattr(table[name].info, "unit", None) or table[name].info.description]
    if path.suffix.lower() == ".csv" and (named or table.meta):
        lost = f"units and descriptions of {name_some(named, 3)}" if named else "metadata"
        warnings.warn(
            f"{path}: CSV has no place for {lost}{' and for metadata' if named and table.meta else ''}; write .ecsv to "
            "keep them",
            PhotplugWarning,
            stacklevel=3,
        )


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
    if path.suffix.lower() == ".parquet":
        need_pyarrow(path)
    check_names(path, table.colnames)
    with whole_file(path, overwrite=overwrite, suffixes=tuple(CATALOG_FORMATS)) as temporary:
        _write(table, temporary)
    return path
