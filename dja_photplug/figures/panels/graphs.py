"""The graphs of a catalogue: errors against fluxes, what photons add to them at each depth, and a(r).

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.columns import column_values
from dja_photplug.errors import PhotplugError
from dja_photplug.figures.style import BLUE, ORANGE, PALETTE
from dja_photplug.units import magnitude

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "CROWDED",
    "Colours",
    "Samples",
    "find_zones",
    "plot_colours",
    "plot_errors",
    "plot_factor",
    "plot_ratio",
    "read_aperture",
    "read_colours",
    "select_samples",
]

CROWDED = 2000  # more outlines than this would hide the whole mosaic; the zoom keeps its own
COLOUR_SNR = 5.0  # of both fluxes of a colour: its errors are then below 0.3 mag
BRIGHT_SNR = 100  # max(science, 0) adds 0.4 sigma a pixel to the flux that is counted: in 123 pixels 4 % at this S/N
LARGE_RATIO = 4  # what neighbours add to some errors would press the rest against the axis

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
    reference : str
        What `background` is: ``without photons`` of the source, or ``on empty sky``, without what neighbours add too.
    left_out : int
        Number of sources below their errors.
    """

    flux: Floats
    error: Floats
    background: Floats
    zone: NDArray[np.intp]
    aperture: str
    reference: str
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Colours:
    """Fluxes of which colours are drawn.

    Attributes
    ----------
    bands : tuple of str
        From the shortest wavelength to the longest, two or more.
    flux, error : ndarray
        uJy, (bands, n).
    what : str
        What the fluxes are.
    """

    bands: tuple[str, ...]
    flux: Floats
    error: Floats
    what: str


class _PointStyle(TypedDict):
    """How the graphs draw one point for each source."""

    linestyle: str
    markersize: int
    rasterized: bool


def read_aperture(catalog: Table, band: str = "") -> tuple[int, Floats, Floats]:
    """Return the number of the aperture that is plotted, and its fluxes and errors.

    Parameters
    ----------
    catalog : `~astropy.table.Table`
    band : str, optional
        What its columns begin with.

    Returns
    -------
    number : int
        1, or 0 where it is alone.
    flux, error : ndarray
        uJy, (n,).
    """
    before = f"{band}_" if band else ""
    number = 1 if f"{before}flux_aper_1" in catalog.colnames else 0
    flux, error = (column_values(catalog, f"{before}{name}_aper_{number}", "uJy") for name in ("flux", "fluxerr"))
    return number, flux, error


def select_samples(
    flux: Floats,
    error: Floats,
    background: Floats | None,
    zone: NDArray[np.intp],
    aperture: str,
    reference: str = "without photons",
) -> Samples:
    """Return the sources above their error, which logarithmic axes show without pages of noise, and count the rest.

    Parameters
    ----------
    flux, error : ndarray
        uJy, (n,).
    background : ndarray or None
        Errors without the photons of the sources, uJy, (n,).
    zone : ndarray of int
        From :func:`find_zones`, (n,).
    aperture, reference : str
        In words.

    Returns
    -------
    Samples

    Raises
    ------
    PhotplugError
        Where `background` has another number of sources.
    """
    if background is None:
        background = np.full_like(error, np.nan)
    if len(background) != len(error):
        raise PhotplugError(
            f"the catalogue without photons has {len(background)} rows and the catalogue {len(error)}; "
            "measure the same sources in both"
        )
    good = (error > 0) & (flux >= error) & np.isfinite(flux)
    return Samples(
        flux=flux[good],
        error=error[good],
        background=np.where(background > 0, background, np.nan)[good],
        zone=zone[good],
        aperture=aperture,
        reference=reference,
        left_out=len(flux) - int(good.sum()),
    )


def find_zones(
    weight: NDArray[np.floating] | None, x: Floats, y: Floats, calibration: NoiseCalibration | None
) -> NDArray[np.intp]:
    """Return the depth zone of each source.

    Parameters
    ----------
    weight : ndarray, shape (ny, nx), or None
        Background weight of the image.
    x, y : ndarray
        Of the sources, 0-based, (n,).
    calibration : NoiseCalibration or None
        With the edges of the zones.

    Returns
    -------
    ndarray of int
        (n,); all 0 where nothing tells zones.
    """
    if calibration is None or weight is None or not len(calibration.edges):
        return np.zeros(len(x), np.intp)
    row, column = (
        np.clip(np.round(np.nan_to_num(place)).astype(int), 0, n - 1)
        for place, n in zip((y, x), weight.shape, strict=True)
    )
    with np.errstate(divide="ignore"):
        return np.searchsorted(calibration.edges, 1 / weight[row, column])


def plot_errors(axes: Axes, samples: Samples, *, small: bool = False) -> None:
    """Plot the errors with and without the sources' photons against flux.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    samples : Samples
    small : bool, optional
        Whether there is little room for words, here and below.
    """
    style = _set_flux_axis(axes, samples)
    axes.set_yscale("log")
    if np.isfinite(samples.background).any():
        background = samples.background
        axes.plot(
            samples.flux, background, marker="v", color=ORANGE, fillstyle="none", label=samples.reference, **style
        )
    axes.plot(samples.flux, samples.error, marker="o", color=BLUE, alpha=0.7, label="full weight", **style)
    if len(samples.flux):
        axes.set_ylim(axes.get_ylim())  # the line must not stretch the axis
        flux = np.array(axes.get_xlim())
        axes.plot(flux, flux / 5, color="0.5", linewidth=1, linestyle=":", label="S/N = 5")
    axes.set_ylabel("1-sigma error (µJy)" if small else f"1-sigma error, {samples.aperture} (µJy)")
    title = f"not shown: {samples.left_out} with S/N below 1" if samples.left_out else None
    _add_legend(axes, title, small=small)
    _label_decades(axes.yaxis)


def plot_ratio(axes: Axes, samples: Samples, *, small: bool = False) -> None:
    """Plot the ratio of the errors with and without photons, and what photon counting predicts for it at each depth.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    samples : Samples
    small : bool, optional
    """
    style = _set_flux_axis(axes, samples)
    ratio = samples.error / samples.background
    axes.axhline(1, color="0.5", linewidth=1)
    logarithmic = bool(np.any(ratio > LARGE_RATIO))
    if logarithmic:
        axes.set_yscale("log")
    zones = np.unique(samples.zone) if len(samples.zone) else np.zeros(1, np.intp)
    colours = {zone: PALETTE[zone % len(PALETTE)] if len(zones) > 1 else BLUE for zone in zones.tolist()}
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
        title = r"$\sqrt{1 + F/F_0}$" + ("" if small else ": photons equal background at $F_0$")
        _add_legend(axes, title, small=small)
    if logarithmic:
        _label_decades(axes.yaxis)
    axes.set_ylabel(f"error / {samples.reference}" if small else f"error: full weight / {samples.reference}")


def plot_factor(axes: Axes, calibration: NoiseCalibration, *, small: bool = False) -> None:
    """Plot a(r) of each depth zone with its sampling error, open where it is continued.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    calibration : NoiseCalibration
    small : bool, optional
    """
    for zone, number in enumerate(calibration.n_effective):
        colour, known = PALETTE[zone % len(PALETTE)], number > 0
        label = f"zone {zone + 1}" if len(calibration.n_effective) > 1 else None
        radius, factor, error = calibration.radius, calibration.factor[zone], calibration.measured_error[zone]
        axes.plot(radius, factor, color=colour, linewidth=1, label=label)
        axes.errorbar(radius[known], factor[known], error[known], fmt="o", color=colour, markersize=4, capsize=2)
        axes.plot(radius[~known], factor[~known], "o", color=colour, markersize=4, fillstyle="none")
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
    axes.set_xlim(calibration.radius[0] / 1.1, calibration.radius[-1] * 1.1)
    axes.minorticks_off()
    axes.set(xlabel="aperture radius (″)", ylabel="a(r)" if small else "a(r): empty apertures / error of the weight")
    axes.grid(alpha=0.25)
    if len(calibration.n_effective) > 1:
        title = "depth, 1 is the deepest" + ("; open: continued" if (calibration.n_effective == 0).any() else "")
        _add_legend(axes, title, small=small)


def _add_legend(axes: Axes, title: str | None, *, small: bool) -> None:
    """Add a legend above the data, and room for its lines there."""
    size = 7 if small else 9
    lines = len(axes.get_legend_handles_labels()[1]) + (title is not None)
    ends = axes.yaxis.get_transform().transform(axes.get_ylim())
    top = ends[0] + (ends[1] - ends[0]) / (1 - min(0.065 * lines + 0.03, 0.6))
    axes.set_ylim(top=float(axes.yaxis.get_transform().inverted().transform(top)))
    axes.legend(
        loc="upper left",
        fontsize=size,
        title=title,
        title_fontsize=size,
        labelspacing=0.25,
        alignment="left",
        framealpha=0.6,
    )


def read_colours(catalog: Table, bands: Sequence[str]) -> Colours:
    """Return the fluxes that colours are made of: those of circles, on images of one PSF where all bands have them.

    Parameters
    ----------
    catalog : `~astropy.table.Table`
    bands : sequence of str
        From the shortest wavelength to the longest.

    Returns
    -------
    Colours
    """
    number = read_aperture(catalog, bands[0])[0]
    names, what = (f"flux_aper_{number}", f"fluxerr_aper_{number}"), "PSFs not matched"
    if all(f"{band}_match_aper_{number}" in catalog.colnames for band in bands):
        names, what = (f"match_aper_{number}", f"match_err_{number}"), "at one PSF"
    flux, error = (np.array([column_values(catalog, f"{band}_{name}", "uJy") for band in bands]) for name in names)
    return Colours(
        bands=tuple(bands), flux=flux, error=error, what=f"{catalog.meta[f'ASEC_{number}']:.2f}″ aperture, {what}"
    )


def plot_colours(axes: Axes, colours: Colours, x: tuple[int, ...], y: tuple[int, int]) -> None:
    """Plot a colour against a magnitude, or another colour, of the sources with S/N of 5 in all bands of these.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    colours : Colours
    x, y : tuple of int
        Numbers of the bands: of one for its magnitude, of two for the first less the second.
    """
    needed = sorted({*x, *y})
    good = np.all(colours.flux[needed] >= COLOUR_SNR * colours.error[needed], axis=0)
    good &= np.all(colours.error[needed] > 0, axis=0)
    (across, width), (up, height) = (_read_colour(colours, numbers, good) for numbers in (x, y))
    many = good.sum() > CROWDED
    if not many:
        axes.errorbar(across, up, height, width, fmt="none", ecolor="0.75", elinewidth=0.7, zorder=1)
    size = 2 if many else 4
    label = f"{good.sum()} of {len(good)} sources, with S/N ≥ {COLOUR_SNR:g}"
    axes.plot(across, up, "o", color=BLUE, markersize=size, alpha=0.7, rasterized=True, label=label)
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    words = [" - ".join(colours.bands[i] for i in numbers) for numbers in (x, y)]
    axes.set(xlabel=f"{words[0]} (AB)", ylabel=f"{words[1]} (AB)")
    axes.margins(0.06)
    axes.grid(alpha=0.25)
    _add_legend(axes, colours.what, small=True)


def _read_colour(colours: Colours, numbers: Sequence[int], good: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the magnitude of a band, or the difference of those of two, and its error."""
    both = [magnitude(colours.flux[i, good], colours.error[i, good]) for i in numbers]
    values, errors = np.array([value for value, _ in both]), np.array([error for _, error in both])
    return (values[0] if len(both) == 1 else values[0] - values[1]), np.sqrt(np.sum(errors**2, axis=0))


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
