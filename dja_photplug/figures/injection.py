"""The figure of an injection: completeness, flux bias and scatter over error against magnitude.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import QTable

from dja_photplug.figures.style import BLUE, ORANGE, require_matplotlib, save_figure
from dja_photplug.sources.calibration import SCATTER_ERROR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["injection_figure", "plot_injection"]

# Fewer sources than these say nothing of a robust scatter (26 % error).
FEWEST = 20


def plot_injection(path: str | Path, table: QTable, *, overwrite: bool = False) -> Path:
    """Write the figure of :func:`injection_figure` whole or not at all, with 100 dots per inch.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    table : `~astropy.table.QTable`
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
    return save_figure(path, lambda: injection_figure(table), overwrite=overwrite)


def injection_figure(table: QTable) -> Figure:
    """Return the figure of the bins of magnitude of an injection.

    Three panels above each other: completeness with the magnitudes where it is 50 and 90 %, flux bias in percent, and
    the scatter of the fluxes over their errors.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Columns of `dja_photplug.catalog.completeness.BIN_COLUMNS`; ``INJASEC``, the diameter of the aperture in
        arcsec, and where they are reached ``MAG50`` and ``MAG90`` in the metadata.

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

    figure = Figure(figsize=(8, 9), layout="constrained")
    completeness, bias, scatter = figure.subplots(3, sharex=True, height_ratios=(1.4, 1, 1))
    _plot_completeness(completeness, table)
    enough = table["n_flux"] >= FEWEST
    mag, n = table["mag"].value[enough], table["n_flux"][enough]
    aperture = f"{table.meta['INJASEC']:.2f}″ aperture"
    bias.axhline(0, color="0.5", linewidth=1)
    bias.plot(mag, 100 * table["flux_bias"][enough], marker="o", color=BLUE)
    bias.set_ylabel(f"flux bias, {aperture} (%)")
    ratio = table["scatter_over_error"][enough]
    scatter.axhline(1, color="0.5", linewidth=1)
    scatter.errorbar(mag, ratio, ratio * SCATTER_ERROR / np.sqrt(n), marker="o", color=BLUE, capsize=2)
    scatter.set_ylim(bottom=0)
    scatter.set(ylabel="scatter / error", xlabel="injected AB magnitude (total)")
    for axes, name in zip((completeness, bias, scatter), ("completeness", "bias", "scatter"), strict=True):
        axes.set_label(name)
        axes.grid(alpha=0.25)
    figure.suptitle(f"{int(table['n'].sum())} injected sources   noise: {table.meta.get('NOISE', 'as loaded')}")
    return figure


def _plot_completeness(axes: Axes, table: QTable) -> None:
    """Plot both kinds of completeness, with the limits that are reached."""
    for name, colour, marker, label in (
        ("completeness_clear", ORANGE, "v", "not on a brighter source"),
        ("completeness", BLUE, "o", "all"),
    ):
        axes.errorbar(
            table["mag"].value, table[name], table[f"{name}_err"], color=colour, marker=marker, label=label, capsize=2
        )
    for level in (50, 90):
        if f"MAG{level}" in table.meta:
            mag = table.meta[f"MAG{level}"]
            axes.plot([mag, mag], [0, level / 100], color="0.5", linestyle=":")
            axes.annotate(
                f"{level} %: {mag:.2f}", (mag, 0), (-3, 4), textcoords="offset points", ha="right", rotation=90
            )
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("completeness")
    axes.legend(loc="lower left", fontsize=9)
