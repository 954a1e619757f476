"""Tables in HDF5 files, of astropy and of others."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.readers.kinds import check_aliases, check_held

if TYPE_CHECKING:
    import h5py

__all__ = ["need_h5py", "read_hdf5", "write_hdf5"]

GROUP = "catalog"
"""What a table is called in the files that are written."""
_DESCRIBED = ".__table_column_meta__"
"""Behind the name of a table: where astropy keeps what HDF5 has no place for."""
_ROWS = 64
"""That are looked at together where their sizes are not known before."""


def need_h5py(path: Path) -> None:
    """Refuse a file of HDF5 where the library for it is missing.

    Parameters
    ----------
    path : Path

    Raises
    ------
    PhotplugError
        With the extra that installs it.
    """
    if find_spec("h5py") is None:
        raise PhotplugError(f"{path}: HDF5 needs h5py; pip install 'dja_photplug[hdf5]', or use .fits")


def read_hdf5(path: Path, wanted: str | None = None) -> tuple[Table, list[str]]:
    """Return a table of an HDF5 file.

    Parameters
    ----------
    path : Path
    wanted : str, optional
        Its path in the file; the first of them without it.

    Returns
    -------
    table : `~astropy.table.Table`
    names : list of str
        Of all tables, that of this one first.

    Raises
    ------
    PhotplugError
        Without h5py.
    ValueError
        Where there is no such table, it is in another file, or far larger than this one.
    """
    need_h5py(path)
    import h5py

    names: list[str] = []
    with h5py.File(path) as file:
        # Which does not follow links to other files.
        file.visititems(
            lambda name, item: names.append(name) if getattr(item, "dtype", None) and item.dtype.names else None
        )
        names = [name for name in names if not name.endswith(_DESCRIBED)]
        if not names:
            raise ValueError("it holds no table: no data set of several columns")
        name = names[0] if wanted is None else wanted.strip("/")
        if name not in names:
            raise ValueError(f"{wanted} is none of its tables, {' '.join(names)}{suggest(name, names)}")
        for each in (name, f"{name}{_DESCRIBED}"):
            _check_set(file, each, path)
        if (described := file.get(f"{name}{_DESCRIBED}")) is not None:
            lines = np.ravel(described[()]).astype("S").tolist()
            check_aliases("\n".join(str(line, "utf-8", "replace") for line in lines))
    table = Table.read(path, path=name, format="hdf5", character_as_bytes=False)
    for column in table.colnames:
        if isinstance(table[column], u.Quantity):  # as a QTable was written
            info = table[column].info
            plain = Column(table[column].value, unit=info.unit, description=info.description, meta=info.meta)
            table.replace_column(column, plain)
    return table, [name, *(other for other in names if other != name)]


def _check_set(file: h5py.File, name: str, path: Path) -> None:
    """Refuse a data set that is elsewhere, or takes more memory than a table of a file of this size."""
    import h5py

    link = file.get(name, getlink=True)
    if link is None:
        return
    found = file.get(name) if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise ValueError(f"its {name} is elsewhere, which is not opened; give a file that holds it")
    # A part of it is inflated whole, however little of it is used.
    held = _width(found.dtype) * max(found.size or 0, math.prod(found.chunks or ()))
    check_held(path, held)
    if found.shape and _has_lengths(found.dtype):
        for start in range(0, found.shape[0], _ROWS):
            held += sum(_measure(each) for each in found[start : start + _ROWS].ravel())
            check_held(path, held)


def _width(kind: np.dtype) -> int:
    """Return the bytes of a row in memory, where text of bytes becomes text of characters."""
    parts = [_width(kind[name]) for name in kind.names or ()]
    return sum(parts) if parts else kind.itemsize * (4 if kind.base.kind == "S" else 1)


def _has_lengths(kind: np.dtype) -> bool:
    """Return whether values of a type have lengths of their own, and so are elsewhere in the file."""
    return kind.kind == "O" or any(_has_lengths(kind[name].base) for name in kind.names or ())


def _measure(value: object) -> int:
    """Return about how many bytes a value takes."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return value.nbytes
    parts = value.item() if isinstance(value, np.void) else value
    if isinstance(parts, np.ndarray | tuple):
        return sum(map(_measure, parts))
    return len(parts) if isinstance(parts, bytes | str) else 8


def write_hdf5(table: Table, path: Path) -> None:
    """Write a table with units, descriptions and metadata.

    Parameters
    ----------
    table : `~astropy.table.Table`
    path : Path

    Raises
    ------
    PhotplugError
        Without h5py.
    """
    need_h5py(path)
    table.write(path, path=GROUP, format="hdf5", serialize_meta=True)
