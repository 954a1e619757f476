"""Read a catalogue of any format, and one of several tables in a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.fitsbytes import find_table, find_tables, name_tables, split_name
from dja_photplug.files.formats import TABLE_SUFFIXES, decode_text
from dja_photplug.files.parquet import read_parquet
from dja_photplug.files.structure import open_fits
from dja_photplug.files.tables.columns import tells_positions
from dja_photplug.readers.csvtext import read_csv
from dja_photplug.readers.hdf5 import read_hdf5
from dja_photplug.readers.kinds import check_aliases, check_lines, check_numbers, find_kind, read_content
from dja_photplug.readers.votable import read_votable

__all__ = ["choose_table", "read_catalog"]


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
    warnings.warn(f"reading {name}; choose another of the tables {tables} with --hdu", PhotplugWarning, stacklevel=5)


_WITH_TABLES: dict[str, Callable[[Path, str | None], Table]] = {"fits": _read_fits, "hdf5": _read_hdf5}
_READERS: dict[str, Callable[[Path], Table]] = {
    "parquet": read_parquet,
    "text": read_csv,
    "votable": lambda path: _settle_text(read_votable(read_content(path)), path),
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
        raise PhotplugError(f"{path}: {file.name} holds only one table, without the name {wanted}; leave out --hdu")
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
        Names of tables of which the first that there is is taken without it; otherwise the first table with columns
        that look like positions, or the first.

    Returns
    -------
    Path
        With brackets, for :func:`read_catalog`, or as given.

    Warns
    -----
    PhotplugWarning
        Where there are others.
    """
    path = Path(path)
    file, named = split_name(path)
    if wanted is not None:
        return Path(f"{file}[{wanted}]")
    if named is not None or not file.is_file() or find_kind(file) != "fits":
        return path
    with suppress(OSError), open_fits(file) as hdus:  # what is wrong is told where it is read
        there = find_tables(hdus)
        names = [hdus[i].name for i in there]
        first = next((name for name in preferred if name in names), None)
        if first is None and len(there) > 1:
            chosen = next((i for i in there if tells_positions(hdus[i].columns.names)), there[0])
            first = hdus[chosen].name if names.count(hdus[chosen].name) == 1 else str(chosen)
            _tell_tables(f"{file}[{first}]", name_tables(hdus))
        return path if first is None else Path(f"{file}[{first}]")
    return path
