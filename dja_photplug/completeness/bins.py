"""Completeness, flux bias and scatter over error of injected sources: in bins of magnitude, and by their places."""

from __future__ import annotations

from itertools import product

import numpy as np
from astropy import units as u
from astropy.stats import mad_std
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.catalog.schema import ColumnSpec, dress_table

__all__ = [
    "BIN_COLUMNS",
    "DISTANCES",
    "MAGNITUDES",
    "SOURCE_COLUMNS",
    "SPLIT_COLUMNS",
    "bin_sources",
    "describe_clear_sky",
    "split_sources",
]

MAGNITUDES: dict[str, tuple[float, float]] = {"bright": (24.0, 26.5), "faint": (26.5, np.inf)}
"""Classes of total AB magnitude: from the first on, and below the second."""

DISTANCES: dict[str, float] = {"on": 0.0, "<0.3": 0.0, "0.3-0.6": 0.3, "0.6-1.2": 0.6, ">1.2": 1.2}
"""Classes of distance to the nearest segment, and where they begin, in arcsec; 0 itself is ``on`` one."""

# Fluxes that are compared: at the place that was injected, or around what was detected.
POSITIONS = {"true": "_forced", "detected": ""}

# The sampling error of a robust scatter (1.4826 x median absolute deviation) of n values is 1.17 / sqrt(n) of it.
SCATTER_ERROR = 1.17
# That of the median of n normal values is sqrt(pi / 2) / sqrt(n) of their scatter.
MEDIAN_ERROR = 1.2533

SOURCE_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("realisation", "", "number of the realisation, from 0", "i4"),
    ColumnSpec("ra", "deg", "right ascension of the injected source"),
    ColumnSpec("dec", "deg", "declination of the injected source"),
    ColumnSpec("x", "pix", "pixel position of the injected source, 0-based"),
    ColumnSpec("y", "pix", "pixel position of the injected source, 0-based"),
    ColumnSpec("mag", "mag", "total AB magnitude"),
    ColumnSpec("size", "arcsec", "half-light radius along the major axis, before the PSF; 0 for point sources"),
    ColumnSpec("axis_ratio", "", "axis ratio before the PSF"),
    ColumnSpec("pa", "deg", "position angle, east of north"),
    ColumnSpec("blended", "", "lies on the segment of a brighter source", "bool"),
    ColumnSpec("recovered", "", "detected; criterion in dja_photplug.inject", "bool"),
    ColumnSpec(
        "flux_true",
        "uJy",
        "true flux in the aperture around the detection: its light alone, nothing masked, no noise; NaN if not found",
    ),
    ColumnSpec("flux", "uJy", "measured flux in that aperture"),
    ColumnSpec("fluxerr", "uJy", "1-sigma error of flux"),
    ColumnSpec("flux_true_forced", "uJy", "true flux in the aperture around the true position: its light alone"),
    ColumnSpec("flux_forced", "uJy", "flux measured at the true position, detected or not"),
    ColumnSpec("fluxerr_forced", "uJy", "1-sigma error of flux_forced"),
    ColumnSpec("distance", "arcsec", "distance to the nearest segment of the original mosaic; 0 on a segment"),
    ColumnSpec("zone", "", "depth zone of the calibration, by local background variance; 1 is the deepest", "i4"),
    ColumnSpec("depth", "mag", "gain in depth from the local background noise, relative to the median pixel"),
)

BIN_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("mag", "mag", "total AB magnitude, centre of the bin"),
    ColumnSpec("n", "", "number of injected sources, anywhere with data", "i8"),
    ColumnSpec("n_blended", "", "number of injected sources on the segment of a brighter source", "i8"),
    ColumnSpec("n_recovered", "", "number of recovered sources", "i8"),
    ColumnSpec("completeness", "", "n_recovered / n"),
    ColumnSpec("completeness_err", "", "binomial error of completeness (posterior with a flat prior)"),
    ColumnSpec("completeness_clear", "", "completeness of the sources that are not blended"),
    ColumnSpec("completeness_clear_err", "", "binomial error of completeness_clear"),
    ColumnSpec("n_flux", "", "number of recovered, unblended sources whose fluxes are compared", "i8"),
    ColumnSpec("flux_bias", "", "median of (flux - flux_true) / flux_true"),
    ColumnSpec("flux_bias_err", "", "sampling error of flux_bias: 1.25 x robust scatter / sqrt(n_flux)"),
    ColumnSpec("scatter_over_error", "", "robust scatter of (flux - flux_true) / fluxerr; 1 if errors are right"),
)

SPLIT_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("position", "", "true: fluxes at the injected positions; detected: fluxes of recovered sources", "U"),
    ColumnSpec("magnitudes", "", "class of total AB magnitude: bright (24 to 26.5) or faint (from 26.5 on)", "U"),
    ColumnSpec("distances", "", "class of distance to the nearest segment, arcsec; 'on' if on a segment", "U"),
    ColumnSpec("zone", "", "depth zone; 1 is the deepest", "i4"),
    ColumnSpec("n", "", "number of sources whose fluxes are compared", "i8"),
    ColumnSpec("scatter_over_error", "", "robust scatter of (flux - true) / error; 1 if errors are right"),
    ColumnSpec("scatter_err", "", "sampling error of scatter_over_error: 1.17 / sqrt(n) of it"),
    ColumnSpec("median_pull", "", "median of (flux - true) / error; 0 if there is no bias"),
    ColumnSpec("flux_bias", "", "median of (flux - true) / true"),
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
        "flux_bias_err": np.nan,
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
        relative = np.asarray(offset / sources["flux_true"][use])
        row["flux_bias"] = np.median(relative)
        row["flux_bias_err"] = MEDIAN_ERROR * mad_std(relative) / np.sqrt(len(relative))
        row["scatter_over_error"] = mad_std(offset / sources["fluxerr"][use])
    return row


def split_sources(sources: QTable, *, zones: bool = True) -> QTable:
    """Return how fluxes compare with the truth, by magnitude, distance to the nearest segment and depth zone.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        Injected sources: ``mag recovered distance zone``, and ``flux_true flux fluxerr`` and the same ``_forced``.
    zones : bool, optional
        Without it all zones count as one, which is called 0.

    Returns
    -------
    `~astropy.table.QTable`
        Columns of :data:`SPLIT_COLUMNS`; a row for each class, also where nothing is in it. Blended sources count:
        they are on a segment.
    """
    zone = np.asarray(sources["zone"]) if zones else np.zeros(len(sources), int)
    numbers = range(1, zone.max(initial=1) + 1) if zones else (0,)
    distance, mag = sources["distance"].to_value(u.arcsec), sources["mag"].value
    # The first class, on a segment, begins and ends at 0.
    place = np.where(distance > 0, np.searchsorted(list(DISTANCES.values())[2:], distance, side="right") + 1, 0)
    rows = []
    for position, magnitudes, (i, distances), number in product(POSITIONS, MAGNITUDES, enumerate(DISTANCES), numbers):
        low, high = MAGNITUDES[magnitudes]
        use = (mag >= low) & (mag < high) & (place == i) & (zone == number)
        if position == "detected":
            use &= sources["recovered"]
        names = {"position": position, "magnitudes": magnitudes, "distances": distances, "zone": number}
        rows.append(names | _compare(sources[use], POSITIONS[position]))
    return dress_table({name: np.array([row[name] for row in rows]) for name in rows[0]}, SPLIT_COLUMNS)


def _compare(sources: QTable, suffix: str) -> dict[str, float]:
    """Return how the fluxes of columns with a suffix compare with the truth; NaN where there are none."""
    true, flux, error = (sources[f"{name}{suffix}"].value for name in ("flux_true", "flux", "fluxerr"))
    use: NDArray[np.bool_] = np.isfinite(flux) & (true > 0) & (error > 0)
    n, offset = int(use.sum()), (flux - true)[use]
    if n == 0:
        return {"n": 0} | dict.fromkeys(("scatter_over_error", "scatter_err", "median_pull", "flux_bias"), np.nan)
    pull = offset / error[use]
    scatter = float(mad_std(pull)) if n > 1 else np.nan  # of one it is 0
    return {
        "n": n,
        "scatter_over_error": scatter,
        "scatter_err": scatter * SCATTER_ERROR / np.sqrt(n),
        "median_pull": float(np.median(pull)),
        "flux_bias": float(np.median(offset / true[use])),
    }


def describe_clear_sky(sources: QTable) -> str:
    """Return a line on the fluxes at the true places more than 1.2 arcsec from any segment, all depth zones together.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        As for :func:`split_sources`.

    Returns
    -------
    str
        With scatter over error and median pull of each class of magnitude that has sources there.
    """
    table = split_sources(sources, zones=False)
    clear = table[(table["position"] == "true") & (table["distances"] == ">1.2") & (table["n"] > 1)]
    parts = [
        f"{row['magnitudes']} {row['scatter_over_error']:.2f} +- {row['scatter_err']:.2f} "
        f"(median pull {row['median_pull']:+.2f}, n = {row['n']})"
        for row in clear
    ]
    return f"clean sky (> 1.2 arcsec from segments), scatter over error: {', '.join(parts) or 'too few fluxes there'}"
