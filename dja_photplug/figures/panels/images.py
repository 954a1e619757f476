"""Planes of a mosaic on the sky: how many of their pixels are shown, in which colours, with which ticks and outlines.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.figures.panels.pixels import DISPLAY, block_mean, measure_sky
from dja_photplug.figures.style import BLUE, NO_DATA, ORANGE
from dja_photplug.sky.grid import Window

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.colors import Normalize
    from matplotlib.image import AxesImage

__all__ = [
    "Plane",
    "add_colour_bar",
    "choose_windows",
    "draw_ellipses",
    "draw_plane",
    "draw_segments",
    "is_flat",
    "label_sky",
    "list_ellipses",
    "scale_science",
    "scale_weight",
]

ZOOM = (320, 480)  # pixels (ny, nx) of a part that is shown larger: 0.5 arcsec are then 8 dots at 40 mas

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """What is shown of an image, in the same colours wherever it is.

    Attributes
    ----------
    label : str
        Its name and unit.
    pixels : ndarray, shape (ny, nx)
        Also of a coarser grid than that of the image, over the same area.
    norm : `~matplotlib.colors.Normalize`
        From values to colours.
    colours : str
        The name of a colour map.
    mask : ndarray of bool, optional
        Pixels without data, of the same shape.
    divisor : float, optional
        What values are divided by.
    """

    label: str
    pixels: NDArray[np.number]
    norm: Normalize
    colours: str
    mask: NDArray[np.bool_] | None = None
    divisor: float = 1.0


def scale_science(pixels: NDArray[np.floating], mask: NDArray[np.bool_] | None = None) -> Normalize:
    """Return the scale of a science image: from 3 sigma of the sky's noise below it to 300 above.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
    mask : ndarray of bool, optional
        Pixels without data.

    Returns
    -------
    `~matplotlib.colors.AsinhNorm`
        Linear within twice the noise.
    """
    from matplotlib.colors import AsinhNorm

    level, noise = measure_sky(pixels, mask)
    return AsinhNorm(linear_width=2 * noise, vmin=level - 3 * noise, vmax=level + 300 * noise)


def scale_weight(*weights: NDArray[np.number], divisor: float = 1.0) -> Normalize:
    """Return one scale of weights or exposure times, from 0 to the 99th percentile of the largest.

    Parameters
    ----------
    *weights : ndarray, shape (ny, nx)
    divisor : float, optional
        What they are divided by where they are shown.

    Returns
    -------
    `~matplotlib.colors.PowerNorm`
        By the square root, which of a weight is depth: shallow parts stay visible beside those with 16 times theirs.
    """
    from matplotlib.colors import PowerNorm

    ends = []
    for weight in weights:
        step = -(-max(weight.shape) // DISPLAY)
        sample = weight[::step, ::step]
        positive = sample[(sample > 0) & np.isfinite(sample)]
        ends.append(float(np.percentile(positive, 99)) / divisor if positive.size else 1.0)
    return PowerNorm(0.5, 0, max(ends))


def is_flat(pixels: NDArray[np.number]) -> bool:
    """Return whether all pixels are the same to 1 per mille, so that there is nothing to see.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)

    Returns
    -------
    bool
    """
    step = -(-max(pixels.shape) // DISPLAY)
    sample = pixels[::step, ::step]
    return bool(sample.size and np.ptp(sample) <= 1e-3 * np.abs(sample).max())


def choose_windows(shape: tuple[int, ...], x: Floats, y: Floats, merit: Floats) -> list[Window]:
    """Return the whole image and, where that is larger than 480 x 320 pixels, such a part with the best sources.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    x, y : ndarray
        Of the sources, 0-based, (n,).
    merit : ndarray
        Signal-to-noise ratio of each, (n,); it counts up to 100, or one bright star would decide.

    Returns
    -------
    list of tuple of slice
        Rows and columns, one or two of them.
    """
    sides = [min(side, n) for side, n in zip(ZOOM, shape, strict=True)]
    whole = slice(0, shape[0]), slice(0, shape[1])
    if sides == list(shape):
        return [whole]
    cells = [-(-n // side) for n, side in zip(shape, sides, strict=True)]
    score, *edges = np.histogram2d(
        y, x, bins=cells, range=[(0, n) for n in shape], weights=np.nan_to_num(np.clip(merit, 0, 100))
    )
    best = np.unravel_index(score.argmax() if score.any() else score.size // 2, score.shape)
    starts = [int(min(edge[i], n - side)) for edge, i, n, side in zip(edges, best, shape, sides, strict=True)]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return [whole, (rows, columns)]


def draw_plane(axes: WCSAxes, plane: Plane, window: Window, shape: tuple[int, ...]) -> AxesImage:
    """Draw a part of a plane on axes of the image's pixels.

    Parameters
    ----------
    axes : `~astropy.visualization.wcsaxes.WCSAxes`
    plane : Plane
    window : tuple of slice
        Rows and columns of the image.
    shape : tuple of int
        (ny, nx) of the image.

    Returns
    -------
    `~matplotlib.image.AxesImage`
    """
    values, extent = _sample_plane(plane, window, shape)
    style = {"cmap": plane.colours, "interpolation": "nearest", "origin": "lower"}
    shown = axes.imshow(values, extent=extent, norm=plane.norm, **style)
    axes.set_facecolor(NO_DATA)
    axes.set(**{f"{axis}lim": (s.start - 0.5, s.stop - 0.5) for axis, s in zip("yx", window, strict=True)})
    return shown


def _sample_plane(plane: Plane, window: Window, shape: tuple[int, ...]) -> tuple[Floats, list[float]]:
    """Return what is shown of a plane, and its extent (left, right, bottom, top) in pixels of the image."""
    scales = [m / n for m, n in zip(plane.pixels.shape, shape, strict=True)]
    part = tuple(slice(int(s.start * f), int(np.ceil(s.stop * f))) for s, f in zip(window, scales, strict=True))
    step = -(-max(side.stop - side.start for side in part) // DISPLAY)
    mask = None if plane.mask is None else plane.mask[part]
    values = block_mean(plane.pixels[part], step, mask) / plane.divisor
    rows, columns = (
        [edge / scale - 0.5 for edge in (side.start, side.start + n * step)]
        for side, n, scale in zip(part, values.shape, scales, strict=True)
    )
    return values, columns + rows


def add_colour_bar(axes: WCSAxes, shown: AxesImage, label: str) -> None:
    """Add a colour bar above a panel, as wide as it, with the name of the plane.

    Parameters
    ----------
    axes : `~astropy.visualization.wcsaxes.WCSAxes`
    shown : `~matplotlib.image.AxesImage`
    label : str
    """
    from matplotlib.colors import AsinhNorm
    from matplotlib.ticker import MaxNLocator

    bar = axes.figure.colorbar(shown, cax=axes.inset_axes([0, 1.02, 1, 0.035]), orientation="horizontal")
    if isinstance(shown.norm, AsinhNorm):  # the ticks that matplotlib chooses overlap around 0
        steps = np.outer(10.0 ** np.arange(-9, 9), (1, 3)).ravel()
        ticks = [0, *steps[(steps > 4 * shown.norm.linear_width) & (steps < shown.norm.vmax)]]
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.set_ticks([], minor=True)
    else:
        bar.set_ticks(MaxNLocator(3))
    bar.ax.xaxis.set_ticks_position("top")
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_title(label, fontsize=10)


def label_sky(axes: WCSAxes, *, first: bool, last: bool, named: bool = True) -> None:
    """Label right ascension below, with its name in the last row, and declination left of the first column.

    Parameters
    ----------
    axes : `~astropy.visualization.wcsaxes.WCSAxes`
    first, last : bool
        Whether it is in the first column, and in the last row.
    named : bool, optional
        Whether the axes have their names there.
    """
    for coordinate, side, name, there in zip(axes.coords, "bl", ("RA", "Dec"), (last, first), strict=True):
        coordinate.set_ticks(number=4)
        coordinate.set_ticks_position(side)
        coordinate.set_ticklabel(size=8, exclude_overlapping=True)
        coordinate.set_auto_axislabel(False)
        coordinate.set_axislabel(name if there and named else "", size=9)
    axes.coords[1].set_ticklabel_visible(first)


def list_ellipses(catalog: Table, scale: float) -> Floats:
    """Return the Kron apertures that are known.

    Parameters
    ----------
    catalog : `~astropy.table.Table`
        With ``x y a b theta kron_radius``; ``KRONCIRC`` of its metadata is the radius of the smallest, arcsec.
    scale : float
        Arcsec of a pixel.

    Returns
    -------
    ndarray, shape (n, 5)
        x, y, full axes in pixels, angle in degrees.
    """
    a, b = (catalog[axis].to_value(u.arcsec) for axis in "ab")
    theta, kron = catalog["theta"].to_value(u.deg), np.asarray(catalog["kron_radius"])
    major, minor, angle, _ = kron_apertures(a, b, theta, kron, catalog.meta.get("KRONCIRC", 0.0))
    ellipses = np.stack([catalog["x"].value, catalog["y"].value, 2 / scale * major, 2 / scale * minor, angle], axis=-1)
    return ellipses[np.isfinite(ellipses).all(axis=1) & (minor > 0)]


def draw_ellipses(axes: WCSAxes, ellipses: Floats, thickness: float, colour: str = ORANGE) -> None:
    """Outline ellipses.

    Parameters
    ----------
    axes : `~astropy.visualization.wcsaxes.WCSAxes`
    ellipses : ndarray, shape (n, 5)
        From :func:`list_ellipses`.
    thickness : float
        Points.
    colour : str, optional
    """
    from matplotlib.collections import EllipseCollection

    outlines = EllipseCollection(
        *ellipses[:, 2:].T, units="xy", offsets=ellipses[:, :2], offset_transform=axes.transData
    )
    outlines.set(facecolor="none", edgecolor=colour, linewidth=thickness)
    axes.add_collection(outlines, autolim=False)


def draw_segments(axes: WCSAxes, segmentation: ArrayLike, window: Window) -> None:
    """Outline segments along the sides of their pixels.

    Parameters
    ----------
    axes : `~astropy.visualization.wcsaxes.WCSAxes`
    segmentation : array_like, shape (ny, nx)
        Labels.
    window : tuple of slice
        Rows and columns in which they are drawn.
    """
    from matplotlib.collections import LineCollection

    lines = _segment_edges(np.asarray(segmentation), window)
    axes.add_collection(LineCollection(lines, colors=BLUE, linewidths=0.7), autolim=False)


def _segment_edges(labels: NDArray[np.generic], window: Window) -> list[Floats]:
    """Return the sides of pixels between different labels, lines (2, 2) of x, y in pixels of the image."""
    cut = labels[window]
    y, x = np.nonzero(cut[:, 1:] != cut[:, :-1])
    upright = np.stack([x + 0.5, y - 0.5, x + 0.5, y + 0.5], axis=-1)
    y, x = np.nonzero(cut[1:] != cut[:-1])
    level = np.stack([x - 0.5, y + 0.5, x + 0.5, y + 0.5], axis=-1)
    return list(np.concatenate([upright, level]).reshape(-1, 2, 2) + np.array([window[1].start, window[0].start]))
