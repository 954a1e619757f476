"""Figures of PSFs: the stars they are made of, and their curves of growth.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dja_photplug.figures.style import BLUE, NO_DATA, ORANGE, require_matplotlib, save_figure
from dja_photplug.psf.from_stars import StarStack
from dja_photplug.psf.model import PSF, encircled_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_stars", "stars_figure"]

Floats = NDArray[np.float64]

MOST_SHOWN = 12  # stars
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
    show_psf(figure.add_subplot(grid[0, :2]), stack.psf, "PSF")
    _draw_growth(figure.add_subplot(grid[0, 2:4]), stack)
    _draw_spread(figure.add_subplot(grid[0, 4:]), stack)
    for i in range(shown):
        axes = figure.add_subplot(grid[1 + i // 6, i % 6])
        show_image(axes, stack.stars.data[i] / stack.stars.data[i].max(), stack.stars.scale)
        axes.set_title(f"source {stack.stars.ids[i]}", fontsize="small")
        axes.set_axis_off()
    more = f", the brightest {shown} below" if len(stack.stars) > shown else ""
    figure.suptitle(f"{stack.psf.name}: PSF of {len(stack.stars)} stars{more}")
    return figure


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
    axes.set_title(f"{title}, log from {DEEPEST:g} of its peak")
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
