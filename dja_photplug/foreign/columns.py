"""Which columns of a catalogue say what, by its schema, and what they say in our units."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from dja_photplug.catalog.columns import column_values, find_ids, find_positions
from dja_photplug.errors import PhotplugError
from dja_photplug.foreign.known import is_ours
from dja_photplug.foreign.schema import CatalogSchema, Pair, ShapeColumns, find_column, find_pair
from dja_photplug.units import ZERO_POINT, convert, flux_ratio, read_unit

__all__ = [
    "CatalogColumns",
    "aperture_diameters",
    "needs_scale",
    "read_flux",
    "read_ids",
    "read_places",
    "read_position",
    "read_radius",
    "read_shapes",
    "resolve_columns",
    "tells_flux",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogColumns:
    """The columns of one catalogue that are used, by what they say.

    Attributes
    ----------
    schema : CatalogSchema
    position : pair of str, or None
        Of right ascension and declination; None for those of a SkyCoord column, or for the usual names.
    ids : str or None
    places : pair of str, or None
        Of x and y.
    axes : pair of str, or None
        Of a and b; `shape` tells their unit, and the convention of the angle.
    shape : ShapeColumns or None
    theta, kron, radius, auto, auto_error : str or None
    apertures : mapping of int to str
        Fluxes in circles, by number.
    """

    schema: CatalogSchema
    position: Pair | None
    ids: str | None
    places: Pair | None
    axes: Pair | None
    shape: ShapeColumns | None
    theta: str | None
    kron: str | None
    radius: str | None
    auto: str | None
    auto_error: str | None
    apertures: Mapping[int, str]

    @property
    def used(self) -> list[str]:
        """Names of all of them, each once."""
        single = (self.ids, self.theta, self.kron, self.radius, self.auto, self.auto_error)
        pairs = (self.position, self.places, self.axes)
        names = [name for pair in pairs for name in pair or ()] + [name for name in single if name]
        return list(dict.fromkeys([*names, *self.apertures.values()]))


def resolve_columns(
    table: Table,
    schema: CatalogSchema,
    *,
    ra: str | None = None,
    dec: str | None = None,
    id_column: str | None = None,
) -> CatalogColumns:
    """Return the columns of a catalogue that its schema means.

    Parameters
    ----------
    table : `~astropy.table.Table`
    schema : CatalogSchema
        From `dja_photplug.foreign.recognise.choose_schema`.
    ra, dec, id_column : str, optional
        Names that go before those of the schema.

    Returns
    -------
    CatalogColumns
    """
    shape, axes = next(
        ((each, pair) for each in schema.shapes if (pair := find_pair(table, [(each.a, each.b)]))), (None, None)
    )
    position = find_pair(table, schema.position)
    if ra or dec:
        position = (ra or "ra", dec or "dec")

    def find(*names: str) -> str | None:
        return find_column(table, [name for name in names if name])

    return CatalogColumns(
        schema=schema,
        position=position,
        ids=id_column or find(*schema.ids),
        places=find_pair(table, schema.places),
        axes=axes,
        shape=shape,
        theta=find(*shape.theta) if shape else None,
        kron=find(schema.kron) if shape else None,
        radius=find(*schema.radius),
        auto=find(schema.auto),
        auto_error=find(schema.auto_error),
        apertures=_find_apertures(table, schema),
    )


def _find_apertures(table: Table, schema: CatalogSchema) -> dict[int, str]:
    """Return the columns of fluxes in circles of which the metadata tell the diameter."""
    found = {}
    for i in _numbers(table, schema.diameter) if schema.aperture else ():
        name = find_column(table, [schema.aperture.format(i=i)])
        if name is not None:
            found[i] = name
    return found


def _numbers(table: Table, template: str) -> list[int]:
    """Return the numbers of the metadata keys that are made of a template, sorted."""
    before, after = template.split("{i}")
    keys = (
        key[len(before) : len(key) - len(after)] for key in table.meta if key.startswith(before) and key.endswith(after)
    )
    return sorted(int(number) for number in keys if number.isdecimal())


def aperture_diameters(table: Table, schema: CatalogSchema) -> dict[int, float]:
    """Return the diameters of apertures that the metadata of a catalogue tell.

    Parameters
    ----------
    table : `~astropy.table.Table`
    schema : CatalogSchema

    Returns
    -------
    dict of int to float
        In arcsec, by number.

    Raises
    ------
    PhotplugError
        Where one of them is no number.
    """
    keys = {i: schema.diameter.format(i=i) for i in _numbers(table, schema.diameter)}
    try:
        return {i: float(table.meta[key]) for i, key in keys.items()}
    except (TypeError, ValueError) as error:
        wanted = schema.diameter.format(i="i")
        raise PhotplugError(
            f"the metadata {wanted} of the catalogue are not numbers ({error}); give diameters in arcsec"
        ) from None


def read_position(table: Table, columns: CatalogColumns) -> SkyCoord:
    """Return the positions of a catalogue's rows, ICRS, as `dja_photplug.catalog.columns.find_positions`.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns

    Returns
    -------
    SkyCoord
        (n,), NaN where a row has none.

    Raises
    ------
    PhotplugError
        Where there are no such columns, or no positions in them.
    """
    return find_positions(table, *(columns.position or (None, None)))


def read_ids(table: Table, columns: CatalogColumns) -> NDArray[np.int64] | None:
    """Return the source numbers of a catalogue.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns

    Returns
    -------
    ndarray of int64 or None
        (n,); None where there is no column of them.

    Raises
    ------
    PhotplugError
        Where they are not distinct positive integers.
    """
    return None if columns.ids is None else find_ids(table, columns.ids)


def read_places(table: Table, columns: CatalogColumns) -> Floats | None:
    """Return where the rows are on the catalogue's own image.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns

    Returns
    -------
    ndarray or None
        x and y in pixels counted from 0, (2, n); None where there are none, or they are in another unit.
    """
    if columns.places is None:
        return None
    try:
        places = np.stack([_clean(table, name, "pix", columns.schema) for name in columns.places])
    except PhotplugError:
        return None
    return places - columns.schema.origin


def _clean(table: Table, name: str, unit: str | u.UnitBase, schema: CatalogSchema) -> Floats:
    """Return the values of a column in a unit, NaN for what stands for none."""
    values = column_values(table, name, unit)
    return np.where(np.isin(values, schema.missing), np.nan, values) if schema.missing else values


def _known_unit(table: Table, name: str) -> u.UnitBase | None:
    return read_unit(getattr(table[name], "unit", None))


def _is_angle(table: Table, name: str) -> bool:
    unit = _known_unit(table, name)
    return unit is not None and not isinstance(unit, u.FunctionUnitBase) and unit.is_equivalent(u.arcsec)


def needs_scale(table: Table, columns: CatalogColumns) -> bool:
    """Return whether the axes of a catalogue are in pixels.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns

    Returns
    -------
    bool
    """
    shape, axes = columns.shape, columns.axes
    return shape is not None and axes is not None and shape.unit == "pix" and not _is_angle(table, axes[0])


def read_shapes(table: Table, columns: CatalogColumns, scale: float | None) -> tuple[dict[str, Floats], list[str]]:
    """Return the shapes that a catalogue tells.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns
    scale : float or None
        Of a pixel of the catalogue's own image in arcsec, where :func:`needs_scale`.

    Returns
    -------
    shapes : dict of str to ndarray
        ``a b`` (arcsec), ``theta`` (deg, counter-clockwise from +x of the grid that it is on, which has north up where
        the schema counts from north), ``kron_radius`` (scaled), (n,), NaN for what is not told.
    notes : list of str
        What is to be told, where shapes are there and are not used.

    Raises
    ------
    PhotplugError
        Where a column is in a unit of another kind, or holds no numbers.
    """
    shapes = {name: np.full(len(table), np.nan) for name in ("a", "b", "theta", "kron_radius")}
    shape, axes, schema = columns.shape, columns.axes, columns.schema
    if shape is None or axes is None:
        return shapes, []
    pixels = needs_scale(table, columns)
    if pixels and scale is None:
        return shapes, [
            f"columns {axes[0]} and {axes[1]} are in pixels of an unknown scale, so each Kron aperture is the smallest "
            "circle; give the catalogue's own image with --like"
        ]
    if is_ours(schema) and not all(_is_angle(table, name) for name in axes):
        return shapes, [
            f"columns {axes[0]} and {axes[1]} are not in an angular unit, so each Kron aperture is the smallest "
            "circle; give them one, such as arcsec, in a format that keeps units"
        ]
    for name, column in zip("ab", axes, strict=True):
        lengths = _read_length(table, column, schema, shape.unit, scale)
        shapes[name] = np.where(lengths >= 0, lengths, np.nan)  # -99 and its like are no length
    if columns.theta is not None:
        shapes["theta"] = _read_theta(table, columns.theta, shape, schema)
    if columns.kron is not None:
        shapes["kron_radius"] = _read_kron(table, columns.kron, shape, schema)
    return shapes, []


def _read_length(table: Table, name: str, schema: CatalogSchema, unit: str, scale: float | None) -> Floats:
    """Return angles on the sky in arcsec, of a column that is in `unit`, unless it tells another one of angle."""
    if _is_angle(table, name):
        return _clean(table, name, u.arcsec, schema)
    values = _clean(table, name, "", schema)
    if unit == "pix" or _known_unit(table, name) == u.pix:
        return values * (np.nan if scale is None else scale)
    return values * u.Unit(unit).to(u.arcsec)


def _read_theta(table: Table, name: str, shape: ShapeColumns, schema: CatalogSchema) -> Floats:
    """Return angles in deg, from +x of a grid, with north up where they are counted from north."""
    if _known_unit(table, name) in (None, u.dimensionless_unscaled):
        values = _clean(table, name, "", schema) * u.Unit(shape.angle).to(u.deg)
    else:
        values = _clean(table, name, u.deg, schema)
    return values + 90 if shape.zero == "north" else values


def _read_kron(table: Table, name: str, shape: ShapeColumns, schema: CatalogSchema) -> Floats:
    """Return scaled Kron radii in units of the axes; NaN where there is none, or it is not positive."""
    factor = schema.kron_factor
    if schema.kron_key in table.meta:
        with contextlib.suppress(TypeError, ValueError):
            factor = float(np.ravel(np.asarray(table.meta[schema.kron_key], dtype=float))[0])
    # Those of photutils and grizli say that they are in pixels, and are not.
    values = _clean(table, name, "" if shape.unit == "pix" else u.dimensionless_unscaled, schema)
    return np.where(values > 0, factor * values, np.nan)


def read_radius(table: Table, columns: CatalogColumns, scale: float | None) -> Floats:
    """Return half-light radii.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns
    scale : float or None
        As for :func:`read_shapes`.

    Returns
    -------
    ndarray
        (n,), in arcsec; NaN where not told.
    """
    if columns.radius is None:
        return np.full(len(table), np.nan)
    unit = columns.shape.unit if columns.shape else "pix"
    return _read_length(table, columns.radius, columns.schema, unit, scale)


def read_flux(table: Table, name: str, columns: CatalogColumns, unit: u.UnitBase = u.uJy) -> Floats:
    """Return the fluxes of a column.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    columns : CatalogColumns
        Its schema tells the unit where the column does not, and which metadata tell the zero point of counts.
    unit : unit, optional
        Of the result.

    Returns
    -------
    ndarray
        (n,), NaN where missing.

    Raises
    ------
    PhotplugError
        Where they are in no such unit.
    """
    schema, given = columns.schema, _known_unit(table, name)
    bare = given is None or given in (u.dimensionless_unscaled, u.ct, u.adu)
    if bare and schema.zero_point in table.meta:
        one = float(flux_ratio(ZERO_POINT - float(table.meta[schema.zero_point])))
        return convert(one * _clean(table, name, "", schema), u.uJy, unit)
    if given is None and schema.flux_unit:
        return convert(_clean(table, name, "", schema), u.Unit(schema.flux_unit), unit)
    return _clean(table, name, unit, schema)


def tells_flux(table: Table, name: str, columns: CatalogColumns) -> bool:
    """Return whether a catalogue tells in which unit the fluxes of a column are.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    columns : CatalogColumns

    Returns
    -------
    bool
        By the unit of the column, a zero point in the metadata, or the kind of catalogue. photutils writes the unit
        of its image, often none; :func:`read_flux` takes fluxes that tell nothing as they are.
    """
    given = _known_unit(table, name)
    if given is None or given in (u.dimensionless_unscaled, u.ct, u.adu):
        return columns.schema.zero_point in table.meta or (given is None and bool(columns.schema.flux_unit))
    return True
