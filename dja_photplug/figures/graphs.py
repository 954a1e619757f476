"""The graphs of a catalogue: errors against fluxes, what photons add to them at each depth, and a(r).

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.errors import PhotplugError
from dja_photplug.figures.style import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["CROWDED", "Samples", "plot_errors", "plot_factor", "plot_ratio", "read_aperture", "select_samples"]

CROWDED = 2000  # more outlines than this would hide the whole mosaic; the zoom keeps its own
BRIGHT_SNR = 100  # max(science, 0) adds 0.4 sigma a pixel to the flux that is counted: in 123 pixels 4 % at this S/N
ZONES = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")  # of Okabe & Ito, without the yellow

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """What the graphs show.

    Attributes
    ----------
    flux, error, background : ndarray
        Fluxes and their errors with the photons of the sources and without, uJy, (n,); the last NaN where not known.
    zone : ndarray of int
        Depth zone of each, (n,).
    aperture : str
        In words.
    left_out : int
        Number of sources below their errors.
    """

    flux: Floats
    error: Floats
    background: Floats
    zone: NDArray[np.intp]
    aperture: str
    left_out: int


class _PointStyle(TypedDict):
    """How the graphs draw one point for each source."""

    linestyle: str
    markersize: int
    rasterized: bool


def read_aperture(catalog: QTable) -> tuple[int, Floats, Floats]:
    """Return the number of the aperture that is plotted, and its fluxes and errors in uJy, (n,) each.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`

    Returns
    -------
    number : int
    flux, error : ndarray
    """
    number = 1 if "flux_aper_1" in catalog.colnames else 0
    flux, error = (catalog[f"{name}_aper_{number}"].to_value(u.uJy) for name in ("flux", "fluxerr"))
    return number, flux, error


def select_samples(
    catalog: QTable,
    background_catalog: QTable | None,
    image: CCDData,
    calibration: NoiseCalibration | None,
) -> Samples:
    """Return the sources above their error, which logarithmic axes show without pages of noise, and count the rest.

    Parameters
    ----------
    catalog, background_catalog : `~astropy.table.QTable`
        As for `dja_photplug.figures.catalog.catalog_figure`.
    image : `~astropy.nddata.CCDData`
        Its background weight says in which depth zone a source is.
    calibration : NoiseCalibration or None
        With the edges of the zones; without it there is one.

    Returns
    -------
    Samples

    Raises
    ------
    PhotplugError
        Where `background_catalog` has another number of rows.
    """
    number, flux, error = read_aperture(catalog)
    background = np.full_like(error, np.nan)
    if background_catalog is not None:
        if len(background_catalog) != len(catalog):
            raise PhotplugError(
                f"the catalogue without photons has {len(background_catalog)} rows and the catalogue {len(catalog)}; "
                "measure the same sources in both"
            )
        background = read_aperture(background_catalog)[2]
    good = (error > 0) & (flux >= error) & np.isfinite(flux)
    return Samples(
        flux=flux[good],
        error=error[good],
        background=np.where(background > 0, background, np.nan)[good],
        zone=_find_zones(catalog, image, calibration)[good],
        aperture=f"{catalog.meta[f'ASEC_{number}']:.2f}″ aperture",
        left_out=len(catalog) - int(good.sum()),
    )


def _find_zones(catalog: QTable, image: CCDData, calibration: NoiseCalibration | None) -> NDArray[np.intp]:
    """Return the depth zone of each source, (n,), by the background weight at its place."""
    weight = getattr(image, "background_weight", None)
    if calibration is None or weight is None or not len(calibration.edges):
        return np.zeros(len(catalog), np.intp)
    places = (np.nan_to_num(catalog[axis].value) for axis in "yx")
    y, x = (np.clip(np.round(place).astype(int), 0, n - 1) for place, n in zip(places, weight.shape, strict=True))
    with np.errstate(divide="ignore"):
        return np.searchsorted(calibration.edges, 1 / weight[y, x])


def plot_errors(axes: Axes, samples: Samples) -> None:
    """Plot the errors with and without the sources' photons against flux.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    samples : Samples
    """
    style = _set_flux_axis(axes, samples)
    axes.set_yscale("log")
    if np.isfinite(samples.background).any():
        background = samples.background
        axes.plot(
            samples.flux, background, marker="v", color=ORANGE, fillstyle="none", label="without photons", **style
        )
    axes.plot(samples.flux, samples.error, marker="o", color=BLUE, alpha=0.7, label="full weight", **style)
    if len(samples.flux):
        axes.set_ylim(axes.get_ylim())  # the line must not stretch the axis
        flux = np.array(axes.get_xlim())
        axes.plot(flux, flux / 5, color="0.5", linewidth=1, linestyle=":", label="S/N = 5")
    _label_decades(axes.yaxis)
    axes.set_ylabel(f"1-sigma error, {samples.aperture} (µJy)")
    title = f"not shown: {samples.left_out} with S/N below 1" if samples.left_out else None
    axes.legend(loc="upper left", fontsize=9, title=title, title_fontsize=9)


def plot_ratio(axes: Axes, samples: Samples) -> None:
    """Plot the ratio of the errors with and without photons, and what photon counting predicts for it at each depth.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    samples : Samples
    """
    style = _set_flux_axis(axes, samples)
    ratio = samples.error / samples.background
    axes.axhline(1, color="0.5", linewidth=1)
    zones = np.unique(samples.zone) if len(samples.zone) else np.zeros(1, np.intp)
    colours = {zone: ZONES[zone % len(ZONES)] if len(zones) > 1 else BLUE for zone in zones.tolist()}
    for zone, colour in colours.items():
        here = samples.zone == zone
        name = f"_zone {zone + 1}" if len(zones) > 1 else "sources"
        axes.plot(samples.flux[here], ratio[here], marker="o", color=colour, alpha=0.7, label=name, **style)
        bright = here & (samples.flux > BRIGHT_SNR * samples.background) & (ratio > 1)
        if bright.any():
            # Poisson variance is proportional to flux; a(r), which multiplies the background alone, differs by zone.
            equal = float(np.median(samples.flux[bright] / (ratio[bright] ** 2 - 1)))
            flux = np.geomspace(samples.flux.min(), samples.flux.max(), 200)
            label = (f"zone {zone + 1}: " if len(zones) > 1 else "") + rf"$F_0$ = {equal:.3g} µJy"
            curve = ORANGE if len(zones) == 1 else colour
            axes.plot(flux, np.sqrt(1 + flux / equal), color=curve, linewidth=1.5, label=label)
    if any("F_0" in str(line.get_label()) for line in axes.lines):
        title = r"$\sqrt{1 + F/F_0}$: photons equal background at $F_0$"
        axes.legend(loc="upper left", fontsize=9, title=title, title_fontsize=9)
    axes.set_ylabel("error: full weight / without photons")


def plot_factor(axes: Axes, calibration: NoiseCalibration) -> None:
    """Plot a(r) of each depth zone with its sampling error, open where it is continued.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    calibration : NoiseCalibration
    """
    for zone, number in enumerate(calibration.n_effective):
        colour, known = ZONES[zone % len(ZONES)], number > 0
        label = f"zone {zone + 1}" if len(calibration.n_effective) > 1 else None
        radius, factor, error = calibration.radius, calibration.factor[zone], calibration.measured_error[zone]
        axes.plot(radius, factor, color=colour, linewidth=1, label=label)
        axes.errorbar(radius[known], factor[known], error[known], fmt="o", color=colour, markersize=4, capsize=2)
        axes.plot(radius[~known], factor[~known], "o", color=colour, markersize=4, fillstyle="none")
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
    axes.set_xlim(calibration.radius[0] / 1.1, calibration.radius[-1] * 1.1)
    axes.minorticks_off()
    axes.set(xlabel="aperture radius (″)", ylabel="a(r): empty apertures / error of the weight")
    axes.grid(alpha=0.25)
    if len(calibration.n_effective) > 1:
        title = "depth, 1 is the deepest" + ("; open: continued" if (calibration.n_effective == 0).any() else "")
        axes.legend(loc="upper left", fontsize=9, title=title, title_fontsize=9)


def _set_flux_axis(axes: Axes, samples: Samples) -> _PointStyle:
    """Make a logarithmic axis of flux below, with the AB magnitude above; return the style of the points."""
    low, high = (samples.flux.min(), samples.flux.max()) if len(samples.flux) else (0.1, 10.0)
    limits = np.array([low / 1.5, high * 1.5])
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    _label_decades(axes.xaxis)
    axes.set_xlabel(f"flux, {samples.aperture} (µJy)")
    axes.grid(alpha=0.25)
    top = axes.twiny()  # linear in magnitude, because that is linear in log flux
    top.set_xlim((limits * u.uJy).to_value(u.ABmag))
    top.set_xlabel("AB magnitude")
    return {"linestyle": "", "markersize": 4 if len(samples.flux) <= CROWDED else 2, "rasterized": True}


def _label_decades(axis: Axis) -> None:
    """Label the decades in plain numbers, with 2 and 5 between them where there is room; two labels at least."""
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter

    low, high = axis.get_view_interval()
    ticks = LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,), numticks=12)
    axis.set_major_locator(ticks)
    if sum(low <= tick <= high for tick in ticks.tick_values(low, high)) < 2:
        axis.set_major_locator(FixedLocator([*MaxNLocator(4).tick_values(low, high)][1:-1]))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
