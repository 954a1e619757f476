"""Tables in HDF5 files, of astropy and of others."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from astropy import units as u
from astropy.table import Column, Table

from dja_photplug.errors import PhotplugError, suggest

__all__ = ["need_h5py", "read_hdf5", "write_hdf5"]

GROUP = "catalog"
"""What a table is called in the files that are written."""


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
        raise PhotplugError(f"{path}: HDF5 needs h5py; pip install 'dja_photplug[hdf5]', or take .fits")


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
        Where there is no such table.
    """
    need_h5py(path)
    import h5py

    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: names.append(name) if getattr(item, "dtype", None) and item.dtype.names else None
        )
    names = [name for name in names if not name.endswith(".__table_column_meta__")]
    if not names:
        raise ValueError("it holds no table: no data set of several columns")
    name = names[0] if wanted is None else wanted.strip("/")
    if name not in names:
        raise ValueError(f"{wanted} is none of its tables, {' '.join(names)}{suggest(name, names)}")
    table = Table.read(path, path=name, format="hdf5", character_as_bytes=False)
    for column in table.colnames:
        if isinstance(table[column], u.Quantity):  # as a QTable was written
            info = table[column].info
            plain = Column(table[column].value, unit=info.unit, description=info.description, meta=info.meta)
            table.replace_column(column, plain)
    return table, [name, *(other for other in names if other != name)]


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
