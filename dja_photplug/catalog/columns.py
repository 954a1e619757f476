"""What the columns of a catalogue say: positions, ids and quantities, however they are named, written or missing."""

from __future__ import annotations

import contextlib
import re

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Column, Table
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.tables.columns import DEC_LIKE, RA_LIKE, name_some
from dja_photplug.units import convert, read_unit

__all__ = [
    "column_values",
    "describe_missing",
    "express_flux",
    "find_ids",
    "find_positions",
    "has_position",
    "name_positions",
]

Floats = NDArray[np.float64]

_POSITION_NAMES = (
    ("ra", "dec"),
    ("RA", "DEC"),
    ("ALPHA_J2000", "DELTA_J2000"),
    ("X_WORLD", "Y_WORLD"),
    ("RAJ2000", "DEJ2000"),
)
_ID_NAMES = ("id", "ID", "NUMBER", "number")
# What stands in tables of text for a value that is not there.
_MISSING = frozenset({"", "nan", "n/a", "na", "null", "none", "-", "--", "...", "masked", "inf", "-inf"})


def column_values(table: Table, name: str, unit: str | u.UnitBase = "") -> Floats:
    """Return the numbers of a column, NaN where masked or missing.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
        Of the column.
    unit : str or unit, optional
        In which they are returned, and in which they are where the column has no unit, or a dimensionless one. Without
        it they are returned in the unit that they have.

    Returns
    -------
    ndarray of float64
        Of the shape of the column.

    Raises
    ------
    PhotplugError
        Where the column holds no numbers, or is in another kind of unit or one that is not known.

    Examples
    --------
    >>> from astropy.table import Column
    >>> column_values(Table({"flux": Column([1500.0, 2.0], unit="nJy")}), "flux", "uJy")
    array([1.5  , 0.002])
    """
    values = _to_numbers(table[name], name)
    given = _column_unit(table, name)
    if not unit or given is None:
        return values
    known = read_unit(given)
    if known is None:
        raise PhotplugError(f"column {name} has the unknown unit {given}; correct it, or convert to {unit}")
    try:
        return convert(values, known, unit)
    except u.UnitsError:
        wanted = str(unit) or "dimensionless"
        raise PhotplugError(f"column {name} is in {known}, not {wanted}; correct its unit, or rename it") from None


def express_flux(column: Column | u.Quantity, unit: str | u.UnitBase) -> Column | u.Quantity:
    """Return a column in another unit of flux densities; one that holds none as it is.

    Parameters
    ----------
    column : `~astropy.table.Column` or `~astropy.units.Quantity`
    unit : str or unit

    Returns
    -------
    `~astropy.table.Column` or `~astropy.units.Quantity`
        With its name and description.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> table = QTable({"flux": [1.5, -0.1] * u.uJy, "snr": [3.0, 1.0]})
    >>> [express_flux(table[name], "nJy") for name in table.colnames]
    [<Quantity [1500., -100.] nJy>, <Column name='snr' dtype='float64' length=2>
    3.0
    1.0]
    """
    if getattr(column, "unit", None) in (None, u.Unit(unit)) or not u.Unit(column.unit).is_equivalent(u.Jy):
        return column
    expressed = column.to(unit)
    expressed.info.name, expressed.info.description = column.info.name, column.info.description
    return expressed


def _column_unit(table: Table, name: str) -> u.UnitBase | None:
    unit = getattr(table[name], "unit", None)
    return None if unit is None or unit == u.dimensionless_unscaled or not str(unit).strip() else unit


def _to_numbers(column: Column | u.Quantity, name: str) -> Floats:
    """Return plain numbers, of text too."""
    values = np.ma.asarray(column)
    try:
        if values.dtype.kind in "SU":
            text = np.char.strip(np.ma.filled(values, "").astype(str))
            return np.where(_is_missing(text), "nan", text).astype(np.float64)
        if values.dtype.kind in "biuf" or values.dtype == object:
            return np.asarray(np.ma.filled(values.astype(np.float64), np.nan), dtype=np.float64)
        raise TypeError(f"it is of type {values.dtype}")
    except (ValueError, TypeError) as error:
        why = str(error)
        if values.dtype.kind in "SU" and any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in text.ravel()[:100]):
            why = "decimal commas; write points"
        raise PhotplugError(f"column {name} holds no numbers ({why}); correct or rename it") from None


def _is_missing(text: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.isin(np.char.lower(text), list(_MISSING))


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
        One for each row; NaN where it has none: missing, masked, or out of range.

    Raises
    ------
    PhotplugError
        Without such columns or rows; where no row has a position, or most are out of range.

    Examples
    --------
    >>> find_positions(Table({"RA": [34.5], "DEC": [-5.25]})).to_string()
    ['34.5 -5.25']
    """
    if not len(table):
        raise PhotplugError("the catalogue has no rows; give one with sources")
    names = name_positions(table, ra, dec)
    if len(names) == 1:
        column = table[names[0]]
        ra, dec = (f"{axis} of {names[0]}" for axis in ("ra", "dec"))
        return _check_positions(_fill(column.icrs.ra.deg), _fill(column.icrs.dec.deg), ra, dec)
    ra, dec = names
    return _check_positions(_to_degrees(table, ra, u.hourangle), _to_degrees(table, dec, u.deg), ra, dec)


def name_positions(table: Table, ra: str | None = None, dec: str | None = None) -> list[str]:
    """Return the columns that positions are in.

    Parameters
    ----------
    table : `~astropy.table.Table`
    ra, dec : str, optional
        As for :func:`find_positions`.

    Returns
    -------
    list of str
        Those of right ascension and declination, or one with a SkyCoord.

    Raises
    ------
    PhotplugError
        Where there are no such columns.
    """
    if ra is None and dec is None:
        for column in table.itercols():
            if isinstance(column, SkyCoord):
                return [column.info.name]
    return list(_position_names(table, ra, dec))


def _fill(values: Floats) -> Floats:
    """Return values with NaN where they are masked."""
    masked = getattr(values, "mask", None)
    plain = np.array(getattr(values, "unmasked", values), dtype=np.float64)
    return plain if masked is None else np.where(masked, np.nan, plain)


def has_position(positions: SkyCoord) -> NDArray[np.bool_]:
    """Return which positions there are.

    Parameters
    ----------
    positions : SkyCoord
        (n,).

    Returns
    -------
    ndarray of bool
        (n,), False where one is NaN.
    """
    return np.isfinite(positions.ra.deg) & np.isfinite(positions.dec.deg)


def describe_missing(positions: SkyCoord, what: str) -> list[str]:
    """Return what is to be told of rows without a position.

    Parameters
    ----------
    positions : SkyCoord
        (n,), from :func:`find_positions`.
    what : str
        What becomes of them.

    Returns
    -------
    list of str
        Empty where all have one.
    """
    missing = np.flatnonzero(~has_position(positions))
    if not len(missing):
        return []
    return [f"no position in {len(missing)} of {len(positions)} rows, first row {missing[0]} (from 0): {what}"]


def _position_names(table: Table, ra: str | None, dec: str | None) -> tuple[str, str]:
    """Return the names of the two columns."""
    lower = {name.lower(): name for name in reversed(table.colnames)}
    any_case = (lower.get("ra", "ra"), lower.get("dec", "dec"))
    looked_for = ((ra or "ra", dec or "dec"),) if ra or dec else (*_POSITION_NAMES, any_case)
    for names in looked_for:
        if set(names) <= set(table.colnames):
            return names
    asked = ", ".join("/".join(names) for names in looked_for[: len(_POSITION_NAMES)])
    like = [[name for name in table.colnames if kind.search(name)] for kind in (RA_LIKE, DEC_LIKE)]
    missing = next((name for name in (ra, dec) if name and name not in table.colnames), "")
    has = name_some(table.colnames)
    if all(like):
        has = f"{name_some(like[0], 4)} and {name_some(like[1], 4)} among its {len(table.colnames)} columns"
    raise PhotplugError(
        f"the catalogue has no position columns {asked}; name its own with ra and dec (--ra, --dec); it has "
        f"{has}{suggest(missing, table.colnames)}"
    )


def _to_degrees(table: Table, name: str, sexagesimal: u.UnitBase) -> Floats:
    """Return the angles of a column in degrees, NaN where missing; `sexagesimal` is the unit of text with minutes."""
    column, unit = table[name], _column_unit(table, name)
    known = u.deg if unit is None else read_unit(unit)
    if known == u.hour and sexagesimal == u.hourangle:  # hours of right ascension, by the unit of time
        known = u.hourangle
    try:
        if known is None:
            raise u.UnitsError(f"the unit {unit} is not known")
        if np.ma.asarray(column).dtype.kind not in "SU":
            return convert(_to_numbers(column, name), known, u.deg)
        return _read_text(column, sexagesimal if unit is None else known).reshape(column.shape)
    except (ValueError, TypeError, u.UnitsError) as error:
        why = "decimal commas; write points" if re.search(r"\d,\d", str(error)) else " ".join(str(error).split())
        raise PhotplugError(f"column {name} holds no angles ({why}); name another with --ra or --dec") from None
    except PhotplugError as error:
        raise PhotplugError(str(error).replace("no numbers", "no angles")) from None


def _read_text(column: Column, unit: u.UnitBase) -> Floats:
    """Return angles in degrees from text: decimal ones, or sexagesimal ones; NaN where there are none.

    Decimal ones are degrees unless the column has another unit of its own.
    """
    text = np.char.strip(np.ma.filled(np.ma.asarray(column), "").astype(str)).ravel()
    there = ~_is_missing(text)
    values = np.full(len(text), np.nan)
    decimal = u.deg if _column_has_no_unit(column) else unit
    try:
        values[there] = convert(text[there].astype(np.float64), decimal, u.deg)
    except ValueError:
        values[there] = _read_angles(text[there], decimal, unit)
    return values


def _read_angles(text: NDArray[np.str_], decimal: u.UnitBase, sexagesimal: u.UnitBase) -> Floats:
    """Return angles of which not all are decimal, NaN for a few that are none; ValueError where most are none."""
    with contextlib.suppress(ValueError):
        return np.asarray(Angle(text, unit=sexagesimal).to_value(u.deg))
    values, first = np.full(len(text), np.nan), None
    for i, cell in enumerate(text):
        try:
            values[i] = convert(float(cell), decimal, u.deg)
        except ValueError:
            try:
                values[i] = Angle(cell, unit=sexagesimal).to_value(u.deg)
            except ValueError as error:
                first = first or error
    if first is not None and np.isnan(values).sum() > len(values) / 2:
        raise first
    return values


def _column_has_no_unit(column: Column) -> bool:
    return not str(getattr(column, "unit", None) or "").strip()


def _check_positions(ra: Floats, dec: Floats, *names: str) -> SkyCoord:
    """Return the positions of rows, NaN where a row has none, if any row has one."""
    for name, values in zip(names, (ra, dec), strict=True):
        if values.ndim != 1:
            raise PhotplugError(f"column {name} holds {values.shape[1:]} values per row; name one with a single angle")
    there = np.ones(len(ra), dtype=bool)
    for name, values, limit in zip(names, (ra, dec), (360, 90), strict=True):
        within = np.abs(values) <= limit  # False for NaN
        wrong = np.flatnonzero(~within)
        off = np.isfinite(values) & ~within
        if not within.any() or off.sum() > len(values) / 2:
            raise PhotplugError(
                f"{name} is not a valid angle in {len(wrong)} of {len(values)} rows, first row {wrong[0]} (from 0): "
                f"{values[wrong[0]]}; give positions within +-{limit} deg"
            )
        there &= within
    if not there.any():
        raise PhotplugError(f"no row of the catalogue has both {names[0]} and {names[1]}; give one with positions")
    return SkyCoord(np.where(there, ra, np.nan), np.where(there, dec, np.nan), unit=u.deg)


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
    >>> find_ids(Table({"NUMBER": [3, 1]})), find_ids(Table({"id": ["007", "012"]}))
    (array([3, 1]), array([ 7, 12]))
    """
    if name is not None and name not in table.colnames:
        raise PhotplugError(
            f"the catalogue has no column {name} of ids; it has {name_some(table.colnames)}"
            f"{suggest(name, table.colnames)}"
        )
    name = name or next((name for name in _ID_NAMES if name in table.colnames), None)
    if name is None:
        return None
    column = np.ma.asarray(table[name])
    values, whole = _whole_numbers(column) if column.ndim == 1 else (None, None)
    if values is None or whole is None:
        raise PhotplugError(
            f"column {name} is of type {column.dtype}, not ids; name a column of distinct positive integers"
        )
    distinct = np.zeros(len(values), dtype=bool)
    distinct[np.unique(values, return_index=True)[1]] = True
    wrong = np.flatnonzero(~(whole & distinct))
    if len(wrong):
        what = "a duplicate" if whole[wrong[0]] else "no id"
        raise PhotplugError(
            f"row {wrong[0]} (from 0): {name} {column[wrong[0]]} is {what}; ids are distinct positive integers"
        )
    return values


def _whole_numbers(column: NDArray[np.generic]) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_] | None]:
    """Return the positive integers of a column, 0 where it has none, and where it has them; None for other types."""
    if column.dtype.kind in "SU":  # as of ids with leading zeros
        text = np.char.strip(np.ma.filled(column, "").astype(str))
        whole = np.array([re.fullmatch(r"0*[1-9][0-9]{0,17}", cell) is not None for cell in text], dtype=bool)
        if not whole.any():
            return None, None
        return np.where(whole, text, "0").astype(np.int64), whole
    if column.dtype.kind not in "iuf":
        return None, None
    values = np.ma.filled(column, 0)  # not as floats, which round the ids of Gaia
    whole = (values > 0) & (values < 2**63) & (values == np.round(values))
    return np.where(whole, values, 0).astype(np.int64), whole
