"""The figure of an injection: completeness, flux bias and scatter over error against magnitude.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import QTable

from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.completeness.limits import LEVELS, Completeness, Curve
from dja_photplug.figures.style import BLUE, ORANGE, require_matplotlib, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["injection_figure", "plot_injection"]

# Fewer sources than these say nothing of a robust scatter (26 % error).
FEWEST = 20

WHITE = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}


def plot_injection(path: str | Path, table: QTable, completeness: Completeness, *, overwrite: bool = False) -> Path:
    """Write the figure of :func:`injection_figure` whole or not at all, with 100 dots per inch.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    table, completeness
        As for :func:`injection_figure`.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        For another suffix, an existing file or a folder that does not take it, and where matplotlib is missing.
    """
    return save_figure(path, lambda: injection_figure(table, completeness), overwrite=overwrite)


def injection_figure(table: QTable, completeness: Completeness) -> Figure:
    """Return the figure of the bins of magnitude of an injection.

    Three panels above each other: completeness in bins and as fitted, with the band of 1 sigma and the magnitudes where
    it is 50, 80 and 90 %, and the curves of depth zones; flux bias in percent with its error; scatter of the fluxes
    over their errors. Bins with fewer than 20 sources whose fluxes are compared have no point in the last two.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Columns of `dja_photplug.completeness.bins.BIN_COLUMNS`; ``INJASEC``, the diameter of the aperture in
        arcsec, in the metadata.
    completeness : `~dja_photplug.completeness.limits.Completeness`
        The fitted curves.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Its axes have the labels (``get_label()``) ``completeness``, ``bias`` and ``scatter``.

    Raises
    ------
    PhotplugError
        Where matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 10), layout="constrained")
    found, bias, scatter = figure.subplots(3, sharex=True, height_ratios=(1.8, 1, 1))
    _plot_completeness(found, table, completeness)
    enough = table["n_flux"] >= FEWEST
    # NaN leaves a gap where a bin has too few.
    mag, n = table["mag"].value, np.where(enough, table["n_flux"], np.nan)
    shown = {
        name: np.where(enough, table[name], np.nan) for name in ("flux_bias", "flux_bias_err", "scatter_over_error")
    }
    aperture = f"{table.meta['INJASEC']:.2f}″ aperture"
    bias.axhline(0, color="0.5", linewidth=1)
    bias.errorbar(mag, 100 * shown["flux_bias"], 100 * shown["flux_bias_err"], marker="o", color=BLUE, capsize=2)
    bias.set_ylabel(f"flux bias, {aperture} (%)")
    ratio = shown["scatter_over_error"]
    scatter.axhline(1, color="0.5", linewidth=1)
    scatter.errorbar(mag, ratio, ratio * SCATTER_ERROR / np.sqrt(n), marker="o", color=BLUE, capsize=2)
    scatter.set_ylim(bottom=0)
    scatter.set(ylabel="scatter / error", xlabel="injected AB magnitude (total)")
    if not enough.any():
        for axes in (bias, scatter):
            words = f"no bin has {FEWEST} sources whose fluxes are compared: more realisations or wider bins"
            axes.text(0.5, 0.6, words, transform=axes.transAxes, ha="center", color="0.4")
    elif not enough.all():
        words = f"no point: fewer than {FEWEST} sources whose fluxes are compared"
        scatter.text(0.99, 0.06, words, transform=scatter.transAxes, color="0.4", fontsize=8, ha="right")
    for axes, name in zip((found, bias, scatter), ("completeness", "bias", "scatter"), strict=True):
        axes.set_label(name)
        axes.grid(alpha=0.25)
    figure.suptitle(_describe(table))
    return figure


def _describe(table: QTable) -> str:
    """Return mosaic, number and kind of the sources, and noise preset."""
    kind = json.loads(table.meta.get("INJECT", "{}")).get("shape", "").replace("sersic", "Sersic")
    words = [
        Path(str(table.meta.get("INPUT", ""))).name,
        f"{int(table['n'].sum())} injected {kind} sources".replace("  ", " "),
    ]
    return "   ".join(word for word in [*words, f"noise: {table.meta.get('NOISE', 'as loaded')}"] if word)


def _plot_completeness(axes: Axes, table: QTable, completeness: Completeness) -> None:
    """Plot both kinds of completeness in bins and as fitted, the curves of depth zones, and the limits."""
    zones = [curve for curve in completeness.curves if curve.zone and curve.sources == "all"]
    for curve in zones:
        label = "depth zones, 1 is the deepest" if curve is zones[0] else None
        axes.plot(curve.mag, curve.band[1], color="0.6", linewidth=1, label=label)
        _name_zone(axes, curve)
    for clear, name, colour, marker, label in (
        (True, "completeness_clear", ORANGE, "v", "not on a brighter source"),
        (False, "completeness", BLUE, "o", "all"),
    ):
        curve = completeness.find(clear=clear)
        low, median, high = curve.band
        axes.fill_between(curve.mag, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.plot(curve.mag, median, color=colour, label=f"{label}, fitted")
        # An error of 0 of 8 reaches upwards only; the two kinds stand side by side.
        share, error = np.asarray(table[name]), np.asarray(table[f"{name}_err"])
        axes.errorbar(
            table["mag"].value + (0.1 if clear else -0.1) * (np.ptp(curve.mag) / len(table)),
            share,
            [np.minimum(error, share), np.minimum(error, 1 - share)],
            color=colour,
            marker=marker,
            markersize=4,
            linestyle="none",
            label=f"{label}, in bins",
            capsize=2,
        )
    curve, words = completeness.find(), []
    for level in LEVELS:
        limit = curve.limit(level / 100)
        words.append(f"{level} %: {limit.mag:.2f} ± {limit.error:.2f}" if not limit.note else f"{level} %: not known")
        if not limit.note:
            axes.plot([limit.mag, limit.mag], [0, level / 100], color="0.3", linestyle=":", linewidth=1)
            axes.errorbar(limit.mag, level / 100, xerr=limit.error, color="black", capsize=3, marker="s", markersize=3)
    axes.text(0.985, 0.96, "\n".join(words), transform=axes.transAxes, ha="right", va="top")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("completeness")
    axes.legend(loc="lower left", fontsize=9)


def _name_zone(axes: Axes, curve: Curve) -> None:
    """Write the number of a depth zone on its curve, below the limits of the mosaic."""
    limit = curve.limit(0.25)
    if not limit.note:
        axes.annotate(str(curve.zone), (limit.mag, 0.25), color="0.4", fontsize=8, ha="center", va="center", bbox=WHITE)
