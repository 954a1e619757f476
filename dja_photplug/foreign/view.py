"""A catalogue of others as one of ours, for what is made from its sources."""

from __future__ import annotations

import warnings

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from astropy.wcs import WCS

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.foreign.columns import (
    CatalogColumns,
    read_flux,
    read_ids,
    read_places,
    read_position,
    read_radius,
    read_shapes,
    tells_flux,
)
from dja_photplug.foreign.grids import find_scale, fit_grid, north_up
from dja_photplug.foreign.known import is_ours

__all__ = ["view_sources"]

# Half of the light of a Gaussian is within this many of its rms.
_HALF_LIGHT = np.sqrt(2 * np.log(2))


def view_sources(table: Table, columns: CatalogColumns, own: WCS | None = None) -> tuple[Table, WCS | None]:
    """Return the sources of a catalogue with our names, units and conventions.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns
    own : WCS, optional
        Of the image that it was made on.

    Returns
    -------
    table : `~astropy.table.Table`
        The same rows with ``id ra dec a b theta kron_radius flux_radius flux_auto`` beside the columns that it has, as
        it is where these are its own; where there is no half-light radius, that of a Gaussian of this rms.
    wcs : WCS or None
        The grid that ``theta`` is on; None where that is not known, or is the image's.

    Warns
    -----
    PhotplugWarning
        Where nothing tells the unit of the fluxes.

    Raises
    ------
    PhotplugError
        Where ids, positions, shapes or fluxes are missing, or cannot be converted.
    """
    if is_ours(columns.schema) and columns.position in (None, ("ra", "dec")) and columns.ids in (None, "id"):
        return table, None
    ids, position, places = read_ids(table, columns), read_position(table, columns), read_places(table, columns)
    if ids is None or columns.axes is None or columns.auto is None:
        what = "ids" if ids is None else "shapes" if columns.axes is None else "fluxes"
        raise PhotplugError(f"the catalogue, read as {columns.schema.name}, has no {what}, which stamps need; add them")
    scale = find_scale(table, columns.schema, position, places, own)
    shapes, notes = read_shapes(table, columns, scale)
    if notes:
        raise PhotplugError(notes[0].replace("so each Kron aperture is the smallest circle", "but stamps need shapes"))
    radius = read_radius(table, columns, scale)
    view = QTable(table, copy=False)
    view["id"], view["kron_radius"] = ids, shapes["kron_radius"]
    view["ra"], view["dec"] = position.icrs.ra.to(u.deg), position.icrs.dec.to(u.deg)
    view["a"], view["b"], view["theta"] = shapes["a"] * u.arcsec, shapes["b"] * u.arcsec, shapes["theta"] * u.deg
    gaussian = _HALF_LIGHT * np.sqrt(shapes["a"] * shapes["b"])
    view["flux_radius"] = np.where(radius > 0, radius, gaussian) * u.arcsec
    if not tells_flux(table, columns.auto, columns):
        text = f"column {columns.auto} has no unit, so starting magnitudes assume uJy; give it its own"
        warnings.warn(text, PhotplugWarning, stacklevel=2)
    view["flux_auto"] = read_flux(table, columns.auto, columns) * u.uJy
    if columns.shape is not None and columns.shape.zero == "north":
        return view, north_up(position)
    return view, own if own is not None else fit_grid(places, position)
