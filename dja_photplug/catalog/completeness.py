"""Completeness, flux bias and scatter over error of injected sources, in bins of magnitude."""

from __future__ import annotations

from itertools import product

import numpy as np
from astropy.table import QTable
from scipy.stats import median_abs_deviation

from dja_photplug.catalog.schema import ColumnSpec, dress_table

__all__ = ["BIN_COLUMNS", "SOURCE_COLUMNS", "bin_sources", "describe_limits", "find_limit"]

SOURCE_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("realisation", "", "number of the realisation, from 0", "i4"),
    ColumnSpec("ra", "deg", "right ascension of the injected source"),
    ColumnSpec("dec", "deg", "declination of the injected source"),
    ColumnSpec("x", "pix", "its position, 0-based"),
    ColumnSpec("y", "pix", "its position, 0-based"),
    ColumnSpec("mag", "mag", "its total AB magnitude"),
    ColumnSpec("size", "arcsec", "half-light radius along the major axis before the PSF; 0 for point sources"),
    ColumnSpec("axis_ratio", "", "axis ratio before the PSF"),
    ColumnSpec("pa", "deg", "position angle, east of north"),
    ColumnSpec("blended", "", "it lies on the segment of a source that is brighter than itself", "bool"),
    ColumnSpec("recovered", "", "it was detected; see dja_photplug.inject", "bool"),
    ColumnSpec("flux_true", "uJy", "its light in the aperture around the detection, without noise; NaN if not found"),
    ColumnSpec("flux", "uJy", "measured flux in that aperture"),
    ColumnSpec("fluxerr", "uJy", "1-sigma error of flux"),
)

BIN_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("mag", "mag", "total AB magnitude, centre of the bin"),
    ColumnSpec("n", "", "injected sources, anywhere with data", "i8"),
    ColumnSpec("n_blended", "", "those that lie on the segment of a brighter source", "i8"),
    ColumnSpec("n_recovered", "", "recovered sources", "i8"),
    ColumnSpec("completeness", "", "n_recovered / n"),
    ColumnSpec("completeness_err", "", "its binomial error (of the posterior with a flat prior)"),
    ColumnSpec("completeness_clear", "", "the same of the sources that are not blended"),
    ColumnSpec("completeness_clear_err", "", "its binomial error"),
    ColumnSpec("n_flux", "", "recovered sources that are not blended, of which the fluxes are compared", "i8"),
    ColumnSpec("flux_bias", "", "median of (flux - flux_true) / flux_true"),
    ColumnSpec("scatter_over_error", "", "robust scatter of (flux - flux_true) / fluxerr; 1 where errors are right"),
)


def bin_sources(sources: QTable, magnitudes: tuple[float, ...], width: float) -> QTable:
    """Return completeness, flux bias and scatter over error in bins of magnitude.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        Injected sources: ``mag recovered blended flux_true flux fluxerr``.
    magnitudes : tuple of float
        Brightest and faintest.
    width : float
        Of a bin, mag; adjusted so that a whole number of bins fits.

    Returns
    -------
    `~astropy.table.QTable`
        Columns of :data:`BIN_COLUMNS`.
    """
    low, high = magnitudes
    edges = np.linspace(low, high, max(1, round((high - low) / width)) + 1)
    number = np.clip(np.searchsorted(edges, sources["mag"].value, side="right") - 1, 0, len(edges) - 2)
    rows = [_summarise(sources[number == i]) for i in range(len(edges) - 1)]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return dress_table({"mag": (edges[1:] + edges[:-1]) / 2, **columns}, BIN_COLUMNS)


def _summarise(sources: QTable) -> dict[str, float]:
    recovered, clear = sources["recovered"], ~sources["blended"]
    use = recovered & clear & np.isfinite(sources["flux"]) & (sources["flux_true"] > 0)
    offset = (sources["flux"] - sources["flux_true"])[use]
    row: dict[str, float] = {
        "n": len(sources),
        "n_blended": np.sum(~clear),
        "n_recovered": np.sum(recovered),
        "n_flux": np.sum(use),
        "flux_bias": np.nan,
        "scatter_over_error": np.nan,
    }
    for name, k, n in (
        ("completeness", np.sum(recovered), len(sources)),
        ("completeness_clear", np.sum(recovered & clear), np.sum(clear)),
    ):
        row[name] = k / n if n else np.nan
        # Standard deviation of the beta distribution of k + 1 and n - k + 1: not 0 for none or all of few.
        row[f"{name}_err"] = np.sqrt((k + 1) * (n - k + 1) / ((n + 2) ** 2 * (n + 3)))
    if use.any():
        row["flux_bias"] = np.median(offset / sources["flux_true"][use])
        row["scatter_over_error"] = median_abs_deviation(offset / sources["fluxerr"][use], scale="normal")
    return row


def find_limit(table: QTable, level: float, *, clear: bool = False) -> tuple[float, float]:
    """Return the AB magnitude at which the completeness falls below a level, and its error.

    Linear between the centres of the bins, where it falls last.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        From :func:`bin_sources`.
    level : float
        Between 0 and 1.
    clear : bool, optional
        Of the sources that are not blended, instead of all.

    Returns
    -------
    magnitude, error : float
        Both in mag, both NaN where the completeness never falls below the level. The error is that of the
        completeness in the two bins, over the slope between them.
    """
    name = "completeness_clear" if clear else "completeness"
    mag, completeness, error = table["mag"].value, np.asarray(table[name]), np.asarray(table[f"{name}_err"])
    known = np.isfinite(completeness)
    mag, completeness, error = mag[known], completeness[known], error[known]
    falls = np.flatnonzero((completeness[:-1] >= level) & (completeness[1:] < level))
    if len(falls) == 0:
        return np.nan, np.nan
    pair = slice(falls[-1], falls[-1] + 2)
    (bright, faint), (upper, lower) = mag[pair], completeness[pair]
    share = (upper - level) / (upper - lower)
    sigma = np.hypot((1 - share) * error[pair][0], share * error[pair][1])
    width = faint - bright
    return float(bright + share * width), float(sigma * width / (upper - lower))


def describe_limits(table: QTable) -> dict[str, float]:
    """Return the limits that are reached as FITS cards.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        From :func:`bin_sources`.

    Returns
    -------
    dict of str to float
        In AB mag, to 4 decimals: MAG50 for a completeness of 50 %, its error MAG50E; without blends MAG50C and MAG50CE;
        MAG90 alike. A limit that is not reached has no cards.
    """
    cards: dict[str, float] = {}
    for level, clear in product((50, 90), (False, True)):
        mag, error = find_limit(table, level / 100, clear=clear)
        if np.isfinite(mag):
            key = f"MAG{level}{'C' if clear else ''}"
            cards |= {key: round(mag, 4), f"{key}E": round(error, 4)}
    return cards
