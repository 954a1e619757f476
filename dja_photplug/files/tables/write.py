"""Write a catalogue, and one with new columns whose other bytes stay as they were."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.exceptions import AstropyWarning

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.fitsbytes import describe_columns, extend_fits, is_ascii_table, split_name
from dja_photplug.files.formats import CATALOG_FORMATS, EXTENDED_FORMATS, encode_values
from dja_photplug.files.parquet import extend_parquet, need_pyarrow
from dja_photplug.files.tables.columns import check_names, name_some
from dja_photplug.outputs.run import follow_links
from dja_photplug.outputs.whole import check_output, whole_file
from dja_photplug.readers.csvtext import extend_csv, format_csv
from dja_photplug.readers.hdf5 import write_hdf5
from dja_photplug.readers.kinds import find_kind
from dja_photplug.readers.votable import write_votable

__all__ = ["keeps_bytes", "write_catalog", "write_extended", "write_table"]

_WRITERS: dict[str, Callable[[Table, Path], None]] = {".h5": write_hdf5, ".vot": write_votable}
_EXTENDERS: dict[str, Callable[[Path, Table, Sequence[str]], Sequence[bytes | memoryview]]] = {
    ".fits": extend_fits,
    ".csv": extend_csv,
    ".parquet": extend_parquet,
}


def keeps_bytes(path: Path, original: str | Path | None) -> bool:
    """Return whether the original's part of an output is copied, not written.

    Parameters
    ----------
    path : Path
        Of the output.
    original : str or Path or None
        The file that was read.

    Returns
    -------
    bool
    """
    kind = {".fits": "fits", ".csv": "text", ".parquet": "parquet"}.get(path.suffix.lower())
    if original is None or kind is None or find_kind(split_name(Path(original))[0]) != kind:
        return False
    if kind == "text":  # .txt stays apart: its cells may stand between blanks
        return Path(original).suffix.lower() == ".csv"
    return kind != "fits" or not is_ascii_table(Path(original))


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
        if isinstance(column, Column) and (fit := _dress_column(column, suffix)) is not column:
            dressed.replace_column(name, fit)
    return dressed


def _dress_column(column: Column, suffix: str) -> Column:
    """Return a column whose missing values, empty texts and unit the format gives back."""
    text = column.dtype.kind in "SU"
    masked = isinstance(column, MaskedColumn) and bool(np.any(column.mask))
    blank = suffix == ".ecsv" and text and bool(np.any(np.asarray(column) == np.array("").astype(column.dtype)))
    if masked or blank:
        column = MaskedColumn(column, copy=False)
        null = _unused_value(column) if suffix == ".fits" else None
        if null is not None:
            column.fill_value = null
        elif suffix == ".fits" or text:
            column.info.serialize_method = dict.fromkeys(column.info.serialize_method, "data_mask")
    elif isinstance(column, MaskedColumn):
        column = Column(column, copy=False)  # FITS would call one of its values missing
    if suffix == ".fits" and column.unit is not None:
        column.unit = _fits_unit(column.unit)
    return column


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


def write_table(table: Table, path: Path) -> None:
    """Write a table in the format of a suffix.

    Parameters
    ----------
    table : `~astropy.table.Table`
    path : Path
        Whose suffix tells the format.
    """
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
        raise PhotplugError(f"{path}: is the input catalogue; name another output")
    path = check_output(Path(path), overwrite=overwrite, suffixes=tuple(EXTENDED_FORMATS))
    suffix = path.suffix.lower()
    if keeps_bytes(path, original):
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
            write_table(table, temporary)
    except (ValueError, TypeError, AssertionError) as error:
        raise PhotplugError(
            f"{path}: {suffix} cannot hold this catalogue ({' '.join(str(error).split())}); write .ecsv"
        ) from error
    _tell_left_out(path, table)
    return path


def _tell_left_out(path: Path, table: Table) -> None:
    """Warn of what CSV has no place for."""
    named = [name for name in table.colnames if getattr(table[name].info, "unit", None) or table[name].info.description]
    if path.suffix.lower() == ".csv" and (named or table.meta):
        lost = f"units and descriptions of {name_some(named, 3)}" if named else "metadata"
        warnings.warn(
            f"{path}: CSV cannot hold {lost}{' and metadata' if named and table.meta else ''}; write .ecsv to keep "
            "them",
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
        write_table(table, temporary)
    return path
