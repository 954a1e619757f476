"""Which kind of catalogue a table is, by its columns or by name, and what of it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from dja_photplug.catalog.columns import column_values, name_positions
from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.tables.columns import name_some
from dja_photplug.foreign.columns import CatalogColumns, needs_scale, read_shapes
from dja_photplug.foreign.known import PLAIN, SCHEMAS
from dja_photplug.foreign.schema import CatalogSchema

__all__ = ["choose_schema", "describe_columns", "describe_motion", "preferred_tables"]

# Proper motions in any case: of Gaia, of VizieR and of astropy.
_MOTION_NAMES = (("pmra", "pmdec"), ("pmra", "pmde"), ("pm_ra", "pm_dec"), ("pm_ra_cosdec", "pm_dec"))


def choose_schema(table: Table, name: str | None = None, others: Sequence[CatalogSchema] = ()) -> CatalogSchema:
    """Return the kind of a catalogue.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str, optional
        Of the schema that it has, whatever else would fit.
    others : sequence of CatalogSchema, optional
        Beside those that are built in; one of the same name stands for it.

    Returns
    -------
    CatalogSchema
        ``plain`` where none fits.

    Raises
    ------
    PhotplugError
        Where there is no schema of that name or the table is none such, or where several fit.

    Examples
    --------
    >>> choose_schema(Table({"NUMBER": [1], "ALPHA_J2000": [34.5], "DELTA_J2000": [-5.2]})).name
    'sextractor'
    """
    known = {schema.name: schema for schema in (PLAIN, *SCHEMAS, *others)}
    if name is not None:
        if name not in known:
            raise PhotplugError(
                f"option schema: {name!r} is not one of {', '.join(known)}{suggest(name, tuple(known))}"
            )
        lacking = known[name].lacking(table.colnames)
        if lacking:
            raise PhotplugError(
                f"option schema: the catalogue is not one of {name}: {_describe_lacking(lacking, table)}; leave it "
                "out, or name another"
            )
        return known[name]
    fitting = [schema for schema in known.values() if schema.marks and not schema.lacking(table.colnames)]
    if len(fitting) > 1:
        names = " and ".join(schema.name for schema in fitting)
        raise PhotplugError(f"the catalogue has the columns of {names}; choose one with --schema")
    return fitting[0] if fitting else PLAIN


def _describe_lacking(lacking: Sequence[str], table: Table) -> str:
    """Return what a catalogue lacks of a schema, or has that it does not have."""
    there = [name for name in lacking if name in table.colnames]
    missing = [mark for mark in lacking if mark not in there]
    told = [f"it lacks the columns {name_some(missing, 3)}"] if missing else []
    return " and ".join([*told, *([f"it has the columns {name_some(there, 3)}"] if there else [])])


def preferred_tables(others: Sequence[CatalogSchema] = ()) -> tuple[str, ...]:
    """Return the names of the tables of a file with several that schemas are about.

    Parameters
    ----------
    others : sequence of CatalogSchema, optional
        Beside those that are built in.

    Returns
    -------
    tuple of str
    """
    return tuple(schema.hdu for schema in (*others, *SCHEMAS) if schema.hdu)


def describe_columns(
    table: Table, columns: CatalogColumns, scale: float | None = None, *, places_alone: bool = False
) -> str:
    """Return in one line what a catalogue is read as, and what of it is used.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns
    scale : float, optional
        Of a pixel of its own image in arcsec.
    places_alone : bool, optional
        Whether nothing is used but the positions.

    Returns
    -------
    str
    """
    schema, told = columns.schema, []
    used = name_positions(table, *(columns.position or (None, None)))
    told.append(f"positions {' '.join(used)}")
    if not places_alone:
        if columns.axes and read_shapes(table, columns, scale)[1]:  # which are told by a line of their own
            columns = replace(columns, axes=None, shape=None, theta=None, kron=None)
        told += _describe_measured(table, columns, scale)
        used += columns.used
    left = len(set(table.colnames) - set(used))
    return f"read as {schema.name}: {', '.join(told)}; {left} of {len(table.colnames)} columns are kept and not used"


def _describe_measured(table: Table, columns: CatalogColumns, scale: float | None) -> list[str]:
    """Return which ids, shapes and fluxes are used."""
    told = [f"ids {columns.ids}" if columns.ids else "no ids"]
    if columns.axes and columns.shape:
        names = " ".join([*columns.axes, columns.theta or "", columns.kron or ""]).split()
        unit = f" in pixels of {scale:.4f} arcsec" if scale and needs_scale(table, columns) else ""
        told.append(f"shapes {' '.join(names)}{unit}")
    else:
        told.append("no shapes")
    if columns.auto:
        told.append(f"fluxes {' '.join([columns.auto, *columns.apertures.values()])}")
    return told


def describe_motion(table: Table) -> list[str]:
    """Return what is to be told of rows with a proper motion.

    Parameters
    ----------
    table : `~astropy.table.Table`

    Returns
    -------
    list of str
        Empty where there is none.

    Examples
    --------
    >>> table = Table({"ra": [34.3, 34.4], "dec": [-5.1, -5.2], "pmra": [0.0, 12.0], "pmdec": [0.0, 3.0]})
    >>> describe_motion(table)[0][:47]
    '1 of 2 rows have a proper motion (pmra, pmdec),'
    """
    told, moves = _find_motion(table)
    if not np.any(moves):
        return []
    return [
        f"{np.count_nonzero(moves)} of {len(table)} rows have a proper motion ({', '.join(told)}), which is not "
        "applied; bring the positions to the epoch of the mosaic first, as with SkyCoord.apply_space_motion"
    ]


def _find_motion(table: Table) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the columns of proper motions, and which rows have one."""
    lower = {name.lower(): name for name in reversed(table.colnames)}
    for names in _MOTION_NAMES:
        if set(names) <= set(lower):
            told = [lower[name] for name in names]
            return told, np.any([_differs(table, name) for name in told], axis=0)
    for column in table.itercols():
        if isinstance(column, SkyCoord) and "s" in column.data.differentials:
            speed = column.data.differentials["s"].norm(column.data)
            return [column.info.name], np.nan_to_num(np.asarray(speed.value)) != 0
    return [], np.zeros(0, bool)


def _differs(table: Table, name: str) -> NDArray[np.bool_]:
    """Return where a column holds a number other than 0."""
    try:
        return np.nan_to_num(column_values(table, name)) != 0
    except PhotplugError:  # it holds none
        return np.zeros(len(table), bool)
