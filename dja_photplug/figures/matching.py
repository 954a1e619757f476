"""How well bands are brought to one PSF: PSFs, kernels, what is left, and curves of growth before and after.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dja_photplug.figures.style import BLUE, GREEN, ORANGE, require_matplotlib
from dja_photplug.matching.kernels import MatchingKernel, Target, make_kernel
from dja_photplug.psf.model import PSF, encircled_energy
from dja_photplug.psf.sampling import sample_psf

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["matching_figure"]

Floats = NDArray[np.float64]

PANELS = ("PSF", "kernel", "matched - target", "curve of growth", "over that of the target")
# Inches: side of a panel, and of the margins around them all.
SIDE, LEFT, TOP, BOTTOM, GAP = 2.3, 0.6, 0.55, 0.5, 0.45
# Arcsec to each side of the images, and where curves begin.
REACH, FIRST = 1.0, 0.06
# Per cent: of the target's peak at most; of its curve at most, and up to which the scale of ratios is linear.
MOST_LEFT, MOST_RATIO, LINEAR = 1.0, 300.0, 0.1
DEEPEST = 1e-4  # of the peak, where the colours of PSFs end


def matching_figure(psfs: Mapping[str, PSF], target: Target, scale: float) -> Figure:
    """Return a figure of how bands come to the PSF of a target, a row for each band with another one.

    Parameters
    ----------
    psfs : mapping of str to PSF
        By band; those that are the target's own are left out.
    target : Target
    scale : float
        Of the mosaic's pixels, in arcsec.

    Returns
    -------
    `~matplotlib.figure.Figure`
        From left to right: the PSF (logarithm, from its peak down to 1e-4 of it), the kernel (of its largest value),
        the matched PSF less the target (per cent of the target's peak), the light within circles of band, matched band
        and target, and by how much the first two are above that of the target (per cent).

    Raises
    ------
    PhotplugError
        Without matplotlib.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    others = {band: psf for band, psf in psfs.items() if psf is not target.psf}
    rows, columns = max(len(others), 1), len(PANELS)
    width = LEFT + columns * SIDE + (columns - 1) * GAP + GAP
    height = TOP + rows * SIDE + (rows - 1) * GAP + BOTTOM
    figure = Figure(figsize=(width, height))
    for i, (band, psf) in enumerate(others.items()):
        bottom = height - TOP - (i + 1) * SIDE - i * GAP
        places = [(LEFT + k * (SIDE + GAP), bottom, SIDE, SIDE) for k in range(columns)]
        scaled = [(x / width, y / height, w / width, h / height) for x, y, w, h in places]
        axes = [figure.add_axes(place) for place in scaled]
        _draw_band(axes, band, psf, make_kernel(psf, target.psf, scale), target)
        for axis, name in zip(axes, PANELS if i == 0 else (), strict=False):
            axis.set_title(name, fontsize=9)
    figure.suptitle(f"brought to the PSF of {target.name}, pixels of {1000 * scale:.3g} mas", fontsize=10, y=0.99)
    return figure


def _draw_band(axes: list[Axes], band: str, psf: PSF, kernel: MatchingKernel, target: Target) -> None:
    """Draw the row of one band."""
    scale, size = kernel.scale, 2 * round(REACH / kernel.scale) + 1
    own, matched, wanted = (sample_psf(one, scale, size=size) for one in (psf, kernel.matched, target.psf))
    _draw_image(axes[0], np.log10(np.maximum(own / own.max(), DEEPEST)), "magma", (np.log10(DEEPEST), 0), scale)
    middle, half = len(kernel.data) // 2, size // 2
    inner = slice(max(middle - half, 0), middle + half + 1)
    part = kernel.data[inner, inner] / kernel.data.max()
    _draw_image(axes[1], np.sign(part) * np.sqrt(np.abs(part)), "RdBu_r", (-1, 1), scale)
    axes[1].text(0.04, 0.04, f"square root, least {part.min():.1%} of the largest".replace("%", " %"), fontsize=6.5,
                 transform=axes[1].transAxes)  # fmt: skip
    side = min(len(matched), len(wanted))
    left = _middle(matched, side) - _middle(wanted, side)
    _draw_image(axes[2], 100 * left / wanted.max(), "RdBu_r", (-MOST_LEFT, MOST_LEFT), scale)
    largest = 100 * np.abs(left).max() / wanted.max()
    axes[2].text(0.04, 0.04, f"+-{MOST_LEFT:g} % of the peak, at most {largest:.2g} %", fontsize=6.5,
                 transform=axes[2].transAxes)  # fmt: skip
    axes[0].set_ylabel(f"{band}\narcsec", fontsize=8)
    _draw_curves(axes[3], axes[4], band, psf, kernel, target)


def _middle(pixels: Floats, side: int) -> Floats:
    """Return the middle of a square of an odd side."""
    edge = (len(pixels) - side) // 2
    return pixels[edge : edge + side, edge : edge + side]


def _draw_image(axis: Axes, pixels: Floats, colours: str, limits: tuple[float, float], scale: float) -> None:
    edge = scale * len(pixels) / 2
    axis.imshow(pixels, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1], extent=(-edge, edge, -edge, edge))
    axis.tick_params(labelsize=7)


def _draw_curves(growth: Axes, ratio: Axes, band: str, psf: PSF, kernel: MatchingKernel, target: Target) -> None:
    """Draw curves of growth, and their ratios to that of the target."""
    radius = np.geomspace(FIRST, kernel.radius[-1], 200)
    wanted = encircled_energy(target.psf, radius)
    for one, colour, name in ((psf, ORANGE, band), (kernel.matched, BLUE, f"{band}, matched")):
        light = encircled_energy(one, radius)
        growth.plot(radius, light, color=colour, lw=1.2, label=name)
        ratio.plot(radius, 100 * (light / wanted - 1), color=colour, lw=1.2)
    growth.plot(radius, wanted, color=GREEN, lw=1, ls="--", label=target.name)
    growth.legend(fontsize=7, loc="lower right", frameon=False)
    growth.set_ylim(0, 1)
    ratio.axhline(0, color="0.6", lw=0.6)
    ratio.set_yscale("symlog", linthresh=LINEAR)
    ratio.set_ylim(-MOST_RATIO, MOST_RATIO)
    ratio.set_yticks([-1, -LINEAR, 0, LINEAR, 1, 10], ["-1", f"-{LINEAR}", "0", f"{LINEAR}", "1", "10"])
    ratio.set_ylabel("per cent", fontsize=7, labelpad=0)
    for axis in (growth, ratio):
        axis.set_xscale("log")
        axis.set_xticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
        axis.minorticks_off()
        axis.set_xlabel("radius, arcsec", fontsize=7)
        axis.tick_params(labelsize=7)
