"""Our catalogues as those read them who say them in the words of others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray

from dja_photplug.catalog.columns import column_values
from dja_photplug.errors import PhotplugError
from dja_photplug.foreign.columns import read_places, read_position, resolve_columns
from dja_photplug.foreign.grids import find_scale, fit_grid
from dja_photplug.foreign.known import OURS

__all__ = ["Described", "Ours", "fill_table"]

Floats = NDArray[np.float64]
Described = tuple[NDArray[np.generic] | None, str, str]
"""Values, unit and description of a column; no values where there is none."""


class Ours:
    """Plain columns of one of our catalogues, and what its pixels are.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        As `catalog` makes it, of one band or of several.

    Raises
    ------
    PhotplugError
        Where columns are missing, or positions and pixels do not tell the scale of a pixel.
    """

    def __init__(self, catalog: QTable) -> None:
        columns = resolve_columns(catalog, OURS)
        missing = [name for name in ("id", "ra", "dec", "x", "y", "a", "b", "theta") if name not in catalog.colnames]
        if missing:
            raise PhotplugError(
                f"option schema: the catalogue lacks the columns {', '.join(missing)}; write it as photplug"
            )
        position, places = read_position(catalog, columns), read_places(catalog, columns)
        scale = find_scale(catalog, OURS, position, places)
        grid = fit_grid(places, position)
        if scale is None or grid is None:
            raise PhotplugError(
                f"option schema: the {len(catalog)} positions do not give the pixel scale, which sizes in pixels need; "
                "write it as photplug"
            )
        self.catalog, self.scale, self.position = catalog, scale, position
        self.grid = grid
        self.smallest = float(catalog.meta.get("KRONCIRC", 0)) / scale
        ending = "_flag_aper_0"
        self.bands = sorted(name.removesuffix(ending) for name in catalog.colnames if name.endswith(ending))
        self.numbers = [i for i in range(100) if f"flux_aper_{i}" in catalog.colnames]

    def get(self, name: str, unit: str = "") -> Floats | None:
        """Return a column.

        Parameters
        ----------
        name : str
        unit : str, optional

        Returns
        -------
        ndarray or None
            (n,) in the unit; None where there is none.
        """
        return column_values(self.catalog, name, unit) if name in self.catalog.colnames else None

    def need(self, name: str, unit: str = "") -> Floats:
        """Return a column that there must be.

        Parameters
        ----------
        name : str
        unit : str, optional

        Returns
        -------
        ndarray
            (n,), in the unit.

        Raises
        ------
        PhotplugError
            Where there is none.
        """
        return column_values(self.catalog, name, unit)

    def shapes(self, angle: str) -> tuple[Floats, Floats, Floats]:
        """Return the ellipses.

        Parameters
        ----------
        angle : str
            Unit of theta.

        Returns
        -------
        a, b, theta : ndarray
            (n,); a and b in pixels.
        """
        a, b = (self.need(name, "arcsec") / self.scale for name in "ab")
        return a, b, self.need("theta", angle)

    def whole(self, name: str) -> NDArray[np.int64] | None:
        """Return a column of integers.

        Parameters
        ----------
        name : str

        Returns
        -------
        ndarray of int64 or None
            (n,); None where there is no such column.
        """
        return self.bits(name, -1)

    def flags(self, name: str, mask: int) -> NDArray[np.int16] | None:
        """Return some of the lower bits of flags.

        Parameters
        ----------
        name : str
        mask : int

        Returns
        -------
        ndarray of int16 or None
            (n,); None where there is no such column.
        """
        bits = self.bits(name, mask)
        return None if bits is None else bits.astype(np.int16)

    def bits(self, name: str, mask: int) -> NDArray[np.int64] | None:
        """Return some bits of flags.

        Parameters
        ----------
        name : str
        mask : int

        Returns
        -------
        ndarray of int64 or None
            (n,); None where there is no such column.
        """
        values = self.get(name)
        return None if values is None else np.nan_to_num(values).astype(np.int64) & mask


def fill_table(columns: Mapping[str, Described], meta: Mapping[str, object]) -> QTable:
    """Return the table of those columns that there are.

    Parameters
    ----------
    columns : mapping of str to tuple
        Values, or None, unit and description by name.
    meta : mapping

    Returns
    -------
    `~astropy.table.QTable`
    """
    table = Table(meta=dict(meta))
    for name, (values, unit, description) in columns.items():
        if values is not None:
            table[name] = Column(values, unit=unit or None, description=description)
    return QTable(table)
