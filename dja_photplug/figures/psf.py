"""Figures of PSFs: the stars they are made of, and their curves of growth.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from dja_photplug.figures.style import BLUE, NO_DATA, ORANGE, PALETTE, require_matplotlib, save_figure
from dja_photplug.psf.from_stars import StarStack
from dja_photplug.psf.model import PSF, encircled_energy
from dja_photplug.psf.regions import NOT_COVERED, PSFModel
from dja_photplug.sky.grid import pixel_positions, pixel_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["STAR_RADII", "plot_regions", "plot_stars", "regions_figure", "stars_figure"]

Floats = NDArray[np.float64]

STAR_RADII = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Radii at which stars are compared with a PSF, arcsec."""
MOST_SHOWN, REGIONS_SHOWN = 12, 4  # stars, and regions
DEEPEST = 1e-5  # of the peak, the darkest in images


def plot_stars(path: str | Path, stack: StarStack, *, overwrite: bool = False) -> Path:
    """Write the figure of :func:`stars_figure` whole or not at all, with 100 dots per inch.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    stack : StarStack
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
    return save_figure(path, lambda: stars_figure(stack), overwrite=overwrite)


def stars_figure(stack: StarStack) -> Figure:
    """Return the figure of a PSF of stars: its image, its curve of growth and those of the stars, and the stars.

    Parameters
    ----------
    stack : StarStack

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    PhotplugError
        Without matplotlib.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    shown = min(len(stack.stars), MOST_SHOWN)
    figure = Figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(3, 6, height_ratios=(3, 1, 1))
    show_psf(figure.add_subplot(grid[0, :2]), stack.psf, f"PSF, log from {DEEPEST:g} of its peak")
    _draw_growth(figure.add_subplot(grid[0, 2:4]), stack)
    _draw_spread(figure.add_subplot(grid[0, 4:]), stack)
    for i in range(shown):
        axes = figure.add_subplot(grid[1 + i // 6, i % 6])
        show_image(axes, stack.stars.data[i] / stack.stars.data[i].max(), stack.stars.scale)
        axes.set_title(f"source {stack.stars.ids[i]}", fontsize="small")
        axes.set_axis_off()
    more = f", the brightest {shown} below" if len(stack.stars) > shown else ""
    figure.suptitle(f"{Path(stack.psf.name).name}: PSF of {len(stack.stars)} stars{more}")
    return figure


def plot_regions(path: str | Path, model: PSFModel, places: SkyCoord, off: Floats, *, overwrite: bool = False) -> Path:
    """Write the figure of :func:`regions_figure` whole or not at all, with 100 dots per inch.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    model, places, off
        As for :func:`regions_figure`.
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
    return save_figure(path, lambda: regions_figure(model, places, off), overwrite=overwrite)


def regions_figure(model: PSFModel, places: SkyCoord, off: Floats) -> Figure:
    """Return the figure of PSFs by region: the map, those of the most places, and the stars of the field against them.

    Parameters
    ----------
    model : PSFModel
    places : SkyCoord
        (n,), that it was made for.
    off : ndarray
        How much more light stars have within `STAR_RADII` than the PSF of their place, (m, k), by
        `dja_photplug.sources.stars.compare_stars`.

    Returns
    -------
    `~matplotlib.figure.Figure`

    Raises
    ------
    PhotplugError
        Without matplotlib.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    regions = model.regions_at(places)
    number = np.bincount(regions[regions != NOT_COVERED], minlength=len(model.stamps))
    shown = np.argsort(-number, kind="stable")[:REGIONS_SHOWN].tolist()
    alone = len(shown) == 1
    figure = Figure(figsize=(13, 7.5 if alone else 9.5), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=(1, 1.0 if alone else 1.4))
    top, grid = rows[0].subgridspec(1, 3), rows[1].subgridspec(1 if alone else 2, max(len(shown), 2))
    colours = ["0.7"] * len(model.stamps)
    for region, colour in zip(shown, PALETTE, strict=False):
        colours[region] = colour
    _draw_map(figure.add_subplot(top[0]), model, places, colours)
    curves = figure.add_subplot(top[1])
    _draw_stars(figure.add_subplot(top[2]), off)
    first = model.stamps[shown[0]]
    for column, region in enumerate(shown):
        psf = model.stamps[region]
        axes = figure.add_subplot(grid[:] if alone else grid[0, column])
        show_psf(axes, psf, f"region {region}: {_count(int(number[region]), 'place')}")
        _draw_curve(curves, psf, None if alone else first, f"region {region}", colours[region])
        if column:
            _draw_difference(figure.add_subplot(grid[1, column]), psf, first, shown[0])
    curves.set_xlabel("radius [arcsec]")
    curves.set_title("share of the light within" if alone else f"curves of growth against region {shown[0]} [%]")
    if not alone:
        curves.legend()
    more = f", the {len(shown)} of most below" if len(model.stamps) > len(shown) else ""
    name = Path(str(model.meta.get("INPUT", model.name))).name
    figure.suptitle(f"{name}: {_count(len(model.stamps), 'PSF')} of {_count(len(places), 'place')}{more}")
    return figure


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _draw_map(axes: Axes, model: PSFModel, places: SkyCoord, colours: list[str]) -> None:
    """Draw the map of regions, and the places."""
    from matplotlib.colors import ListedColormap

    assert model.labels is not None
    assert model.wcs is not None
    shown = np.ma.masked_less(model.labels, 0)
    last = len(colours) - 0.5
    axes.imshow(shown, origin="lower", cmap=ListedColormap(colours), interpolation="nearest", vmin=-0.5, vmax=last)
    axes.set_facecolor(NO_DATA)
    x, y = pixel_positions(model.wcs, places.icrs.ra.deg, places.icrs.dec.deg)
    axes.plot(x, y, ".", color="black", ms=2)
    axes.set_xlim(-0.5, model.labels.shape[1] - 0.5)
    axes.set_ylim(-0.5, model.labels.shape[0] - 0.5)
    axes.set_title(f"regions, in cells of {pixel_scale(model.wcs):.3g} arcsec; pale: no PSF")


def _draw_stars(axes: Axes, off: Floats) -> None:
    """Draw how far stars are from the PSF of their place, in percent."""
    axes.plot(STAR_RADII, 100 * off.T, color=NO_DATA, lw=0.8)
    axes.axhline(0, color=BLUE, lw=0.8)
    if len(off):
        axes.plot(STAR_RADII, 100 * np.median(off, axis=0), color=ORANGE, label=f"median of {len(off)} stars")
        axes.legend(loc="upper right")
    largest = max(3.0, 120 * float(np.quantile(np.abs(off[:, 2:]), 0.98)) if len(off) else 0.0)
    axes.set_ylim(-largest, largest)
    axes.set_xlabel("radius [arcsec]")
    axes.set_title("stars of the field against their PSF [%]" if len(off) else "no stars to compare with")


def _draw_difference(axes: Axes, psf: PSF, first: PSF, number: int) -> None:
    """Draw a PSF less that of another region."""
    off = (psf.data - first.data) / first.data.max()
    largest = 0.005  # spikes and rings are fainter than the core by so much
    half = len(off) * psf.scale / 2
    axes.imshow(off, origin="lower", cmap="RdBu_r", vmin=-largest, vmax=largest, extent=(-half, half, -half, half))
    axes.set_title(f"less region {number}, to {largest:g} of the peak", fontsize="small")


def _draw_curve(axes: Axes, psf: PSF, first: PSF | None, label: str, colour: str) -> None:
    """Draw a curve of growth, or by how much it is off that of another region, in percent."""
    radius = np.linspace(0.05, len(psf.data) * psf.scale / 2, 200)
    light = encircled_energy(psf, radius)
    shown = light if first is None else 100 * (light / encircled_energy(first, radius) - 1)
    axes.plot(radius, shown, label=label, color=colour, lw=1)
    if first is None:
        axes.set_ylim(0, 1.02)


def show_image(axes: Axes, data: Floats, scale: float) -> None:
    """Draw an image whose peak is 1, from 1e-5 to 1 in its logarithm.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    data : ndarray
        (ny, nx).
    scale : float
        Arcsec per pixel.
    """
    ny, nx = np.array(data.shape) * scale / 2
    level = np.log10(np.maximum(data, DEEPEST))
    image = axes.imshow(level, origin="lower", cmap="magma", vmin=np.log10(DEEPEST), vmax=0, extent=(-nx, nx, -ny, ny))
    image.set_interpolation("nearest")


def show_psf(axes: Axes, psf: PSF, title: str) -> None:
    """Draw the image of a PSF, with axes in arcsec.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
    psf : PSF
    title : str
    """
    show_image(axes, psf.data / psf.data.max(), psf.scale)
    axes.set_title(title)
    axes.set_xlabel("arcsec")


def _draw_growth(axes: Axes, stack: StarStack) -> None:
    """Draw the curve of growth of a PSF and those of its stars."""
    radius = np.linspace(0.02, stack.radius.max(), 200)
    for one in stack.growth:
        axes.plot(stack.radius, one, color=NO_DATA, lw=0.8)
    axes.plot(radius, encircled_energy(stack.psf, radius), color=BLUE, label="PSF")
    axes.plot([], [], color=NO_DATA, label="stars")
    axes.set_xlabel("radius [arcsec]")
    axes.set_title("share of the light within")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right")


def _draw_spread(axes: Axes, stack: StarStack) -> None:
    """Draw how far the curves of growth of stars are from that of the PSF, in percent."""
    off = 100 * (stack.growth / stack.light - 1)
    axes.plot(stack.radius, off.T, color=NO_DATA, lw=0.8)
    axes.plot(stack.radius, np.median(off, axis=0), color=ORANGE, label="median")
    axes.axhline(0, color=BLUE, lw=0.8)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
    axes.set_xlabel("radius [arcsec]")
    axes.set_title("stars against the PSF [%]")
    largest = max(2.0, 1.2 * float(np.quantile(np.abs(off), 0.98)))
    axes.set_ylim(-largest, largest)
    axes.legend(loc="upper right")
