"""Totals of bands: fluxes in apertures, scaled by how much light the detection image has outside of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from dja_photplug.catalog.kron import kron_circle_radius
from dja_photplug.catalog.schema import MATCHED_TOTAL_COLUMNS, TOTAL_COLUMNS, describe_apertures, dress_table
from dja_photplug.options.run import Options
from dja_photplug.psf.regions import PSFModel

__all__ = ["add_matched_totals", "add_totals", "compare_apertures", "kron_radii"]

Floats = NDArray[np.float64]


def compare_apertures(auto: ArrayLike, apertures: Mapping[int, ArrayLike]) -> dict[int, Floats]:
    """Return flux_auto over flux_aper of a detection image: the factors from apertures to the Kron ellipse.

    Parameters
    ----------
    auto : array_like
        Fluxes in Kron apertures, (n,), in any unit.
    apertures : mapping of int to array_like
        Fluxes in circular apertures, (n,), in the same unit, by number.

    Returns
    -------
    dict of int to ndarray
        (n,), by the same numbers; NaN where one of the fluxes is not positive.
    """
    auto = np.asarray(auto, dtype=float)
    ratios = {}
    for i, values in apertures.items():
        flux = np.asarray(values, dtype=float)
        ratios[i] = np.divide(auto, flux, out=np.full_like(flux, np.nan), where=(flux > 0) & (auto > 0))
    return ratios


def kron_radii(table: QTable, options: Options) -> Floats | None:
    """Return the radius of the circle with the area of each Kron aperture.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        (n,), with ``a b kron_radius``.
    options : Options
        Its ``measure.kron_circle`` is the smallest radius.

    Returns
    -------
    ndarray or None
        (n,), in arcsec; None where the table lacks the columns.
    """
    if not {"a", "b", "kron_radius"} <= set(table.colnames):
        return None
    return kron_circle_radius(table, options.measure.kron_circle)


def add_totals(table: QTable, ratios: Mapping[int, Floats], radius: Floats | None, psf: PSFModel | None) -> None:
    """Add ``corr_i ecorr_i tot_i etot_i`` to the table of a band, as far as it has the fluxes they are made of.

    Parameters
    ----------
    table : `~astropy.table.QTable`
    ratios : mapping of int to ndarray
        From :func:`compare_apertures`, for the apertures that get the columns.
    radius : ndarray or None
        From :func:`kron_radii`. Without it there are no totals of a PSF.
    psf : PSFModel or None
        Its encircled energy within `radius` is the share of the light that the Kron aperture holds, at the place of
        each source; where it has none, totals are NaN.
    """
    share: Floats | None = np.ones(len(table))
    if psf is not None:
        share = None if radius is None else psf.encircled_energy_at(SkyCoord(table["ra"], table["dec"]), radius)
    columns = {}
    for i, ratio in ratios.items():
        for e, error in (("", ""), ("e", "err")):
            if (name := f"flux{error}_aper_{i}") in table.colnames:
                columns[f"{e}corr_{i}"] = table[name] * ratio
                if share is not None:
                    columns[f"{e}tot_{i}"] = columns[f"{e}corr_{i}"] / share
    specs = [spec for spec in describe_apertures(ratios, TOTAL_COLUMNS) if spec.name in columns]
    for name, column in dress_table(columns, specs).items():
        table[name] = column


def add_matched_totals(tables: Mapping[str, QTable], reference: str, radius: Floats | None, psf: PSFModel) -> None:
    """Add ``total_i total_err_i`` to the tables of bands that were brought to one PSF.

    Parameters
    ----------
    tables : mapping of str to `~astropy.table.QTable`
        By band, with ``match_aper_i match_err_i``.
    reference : str
        The band whose Kron apertures tell how much light there is: that of the detection image, where it is one.
    radius : ndarray or None
        From :func:`kron_radii`; without it there are no totals.
    psf : PSFModel
        Of that band: its encircled energy within `radius` is the share of the light that the Kron aperture holds.

    Notes
    -----
    In the band `reference` all of them are ``flux_auto`` over that share.
    """
    own = tables[reference]
    names = [name for name in own.colnames if name.startswith("match_aper_")]
    if radius is None or "flux_auto" not in own.colnames:
        return
    apertures = {int(name.removeprefix("match_aper_")): own[name] for name in names}
    share = psf.encircled_energy_at(SkyCoord(own["ra"], own["dec"]), radius)
    factors = {i: ratio / share for i, ratio in compare_apertures(own["flux_auto"], apertures).items()}
    for table in tables.values():
        there = [i for i in factors if f"match_aper_{i}" in table.colnames]
        columns = {f"total_{i}": table[f"match_aper_{i}"] * factors[i] for i in there}
        columns |= {f"total_err_{i}": table[f"match_err_{i}"] * factors[i] for i in there}
        for name, column in dress_table(columns, describe_apertures(there, MATCHED_TOTAL_COLUMNS)).items():
            table[name] = column
