"""The figure of a catalogue: the planes of the mosaic with the sources outlined, and graphs of its errors.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.stats import mad_std
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.figures.graphs import CROWDED, plot_errors, plot_factor, plot_ratio, read_aperture, select_samples
from dja_photplug.figures.pixels import block_mean
from dja_photplug.figures.style import BLUE, GREEN, NO_DATA, ORANGE, require_matplotlib, save_figure
from dja_photplug.sky.grid import Window, pixel_scale

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec
    from matplotlib.image import AxesImage

__all__ = ["catalog_figure", "plot_catalog"]

DISPLAY = 1000  # samples along the longer side of a panel, which is 305 dots wide
ZOOM = (320, 480)  # pixels (ny, nx) of the second row: 0.5 arcsec are then 8 dots at 40 mas

# Inches. Width of the figure and its margins; gaps between columns, between rows, and above the graphs; graphs.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 15.0, 1.0, 0.3, 1.1, 0.6
GAP, LABELS, BETWEEN, GRAPH = 0.5, 0.4, 1.2, 3.4

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plane:
    """One column of images: its pixels, divided by `divisor`, with the same colours in all rows."""

    label: str
    pixels: NDArray[np.number]
    norm: Normalize
    mask: NDArray[np.bool_] | None = None
    divisor: float = 1.0


def plot_catalog(
    path: str | Path,
    image: CCDData,
    exposure: ArrayLike | None,
    catalog: QTable,
    background_catalog: QTable | None = None,
    segmentation: ArrayLike | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the figure of :func:`catalog_figure` whole or not at all, with 100 dots per inch.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    image, exposure, catalog, background_catalog, segmentation
        As for :func:`catalog_figure`.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        For another suffix, an existing file or a folder that does not take it, and as :func:`catalog_figure`.
    """
    return save_figure(
        path,
        lambda: catalog_figure(image, exposure, catalog, background_catalog, segmentation),
        overwrite=overwrite,
    )


def catalog_figure(
    image: CCDData,
    exposure: ArrayLike | None,
    catalog: QTable,
    background_catalog: QTable | None = None,
    segmentation: ArrayLike | None = None,
) -> Figure:
    """Return the figure of a catalogue of one band.

    First row: science, full weight, wht and exposure time of the whole image, as the archive's description of its
    products shows them. Second row, where the image is larger: 480 x 320 pixels with well measured sources. Below:
    error against flux, the ratio of the errors with and without photons, with a curve for each depth zone, and a(r).

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        With celestial WCS; its uncertainty is the full weight (inverse variance). Without the attribute
        ``background_weight``, or where that is None, there is no panel for the wht.
    exposure : array_like or None
        Exposure time in s, (ny, nx) or coarser, over the area of the image; without it there is no panel.
    catalog : `~astropy.table.QTable`
        With the columns ``x y a b theta kron_radius flux_aper_i fluxerr_aper_i`` and ``ASEC_i``, the diameter in
        arcsec, in its metadata; ``KRONCIRC``, if there, is the radius of the smallest Kron aperture in arcsec.
        Aperture 1 is plotted, or 0 where it is alone.
    background_catalog : `~astropy.table.QTable`, optional
        The same rows, with errors without the sources' photons.
    segmentation : array_like, optional
        Labels (ny, nx), outlined in the last row of images.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Its axes have the labels (``get_label()``) ``science``, ``full weight``, ``wht``, ``exposure``, the same with
        ``zoom`` behind, ``error``, ``ratio`` and ``factor``. The last, a(r), is there where the metadata of `catalog`
        tell it. A plane that is the same everywhere has no panel.

    Raises
    ------
    PhotplugError
        Without matplotlib, or where `background_catalog` has another number of rows.
    """
    require_matplotlib()
    calibration = NoiseCalibration.from_metadata(catalog.meta)
    samples = select_samples(catalog, background_catalog, image, calibration)
    windows = _choose_windows(image.data.shape, catalog)
    figure, images, graphs = _lay_out(windows, 3 if calibration else 2)
    _draw_images(figure, images, windows, image, _make_planes(image, exposure))
    _draw_outlines(figure, windows[-1], pixel_scale(image.wcs), catalog, segmentation)
    error = figure.add_subplot(graphs[0], label="error")
    plot_errors(error, samples)
    if background_catalog is not None:
        plot_ratio(figure.add_subplot(graphs[1], label="ratio", sharex=error), samples)
    if calibration is not None:
        plot_factor(figure.add_subplot(graphs[2], label="factor"), calibration)
    _add_title(figure, image, catalog)
    return figure


def _lay_out(windows: list[Window], number: int) -> tuple[Figure, GridSpec, GridSpec]:
    """Return an empty figure, the grid of its images (a row for each window, 4 columns) and of its graphs."""
    from matplotlib.figure import Figure

    column = (WIDTH - LEFT - RIGHT - 3 * GAP) / 4
    # Narrow strips of sky would make the figure taller than any screen.
    rows = [column * min((y.stop - y.start) / (x.stop - x.start), 1.5) for y, x in windows]
    below = BETWEEN + GRAPH + BOTTOM
    height = TOP + sum(rows) + LABELS * (len(rows) - 1) + below
    figure = Figure(figsize=(WIDTH, height))
    margins = {"left": LEFT / WIDTH, "right": 1 - RIGHT / WIDTH}
    spacing = {"wspace": GAP / column, "hspace": LABELS * len(rows) / sum(rows)}
    images = figure.add_gridspec(
        len(rows), 4, height_ratios=rows, top=1 - TOP / height, bottom=below / height, **margins, **spacing
    )
    graphs = figure.add_gridspec(
        1, number, top=(GRAPH + BOTTOM) / height, bottom=BOTTOM / height, wspace=0.2, **margins
    )
    return figure, images, graphs


def _add_title(figure: Figure, image: CCDData, catalog: QTable) -> None:
    """Say what the figure shows: mosaic, filter, number of sources and the noise behind weight and errors."""
    band = " ".join(str(image.meta[key]) for key in ("INSTRUME", "FILTER") if key in image.meta)
    name = Path(str(catalog.meta.get("INPUT", ""))).name
    words = [name, band, f"sources: {len(catalog)}", f"noise: {image.meta.get('NOISE', 'as loaded')}"]
    title = "   ".join(word for word in words if word)
    figure.text(LEFT / WIDTH, 1 - 0.32 / figure.get_figheight(), title, fontsize=13, weight="bold")


def _make_planes(image: CCDData, exposure: ArrayLike | None) -> dict[str, _Plane]:
    """Return the columns of images; full weight and wht share one scale, so that sources are dark in the first."""
    from matplotlib.colors import AsinhNorm, PowerNorm

    # Every n-th pixel, a million of them, is enough for the scales and no copy of a mosaic.
    sample = (slice(None, None, -(-max(image.data.shape) // DISPLAY)),) * 2
    null = ~np.isfinite(image.data) if image.mask is None else image.mask
    sky = image.data[sample][~null[sample] & np.isfinite(image.data[sample])]
    level, noise = (np.median(sky), mad_std(sky) or 1.0) if sky.size else (0.0, 1.0)
    norm: Normalize = AsinhNorm(linear_width=2 * noise, vmin=level - 3 * noise, vmax=level + 300 * noise)
    planes = {"science": _Plane(label=f"science ({image.unit})", pixels=image.data, norm=norm, mask=null)}
    weights = {"full weight": image.uncertainty.array, "wht": getattr(image, "background_weight", None)}
    weights = {name: weight for name, weight in weights.items() if weight is not None}
    # The square root of a weight is depth: shallow parts stay visible beside those with 16 times their weight.
    norm = PowerNorm(0.5, 0, max(_upper_end(weight[sample]) for weight in weights.values()))
    for name, weight in weights.items():
        planes[name] = _Plane(label=f"{name} ({image.unit})$^{{-2}}$", pixels=weight, norm=norm)
    if exposure is not None:
        seconds = np.asarray(exposure)
        norm = PowerNorm(0.5, 0, _upper_end(seconds) / 1000)
        planes["exposure"] = _Plane(label="exposure time (ks)", pixels=seconds, norm=norm, divisor=1000)
    return {name: plane for name, plane in planes.items() if name == "science" or not _is_flat(plane.pixels)}


def _is_flat(pixels: NDArray[np.number]) -> bool:
    """Return whether all pixels are the same to 1 per mille, so that there is nothing to see."""
    step = -(-max(pixels.shape) // DISPLAY)
    sample = pixels[::step, ::step]
    return bool(sample.size and np.ptp(sample) <= 1e-3 * np.abs(sample).max())


def _upper_end(values: NDArray[np.number]) -> float:
    """Return the 99th percentile of the positive values."""
    positive = values[(values > 0) & np.isfinite(values)]
    return float(np.percentile(positive, 99)) if positive.size else 1.0


def _choose_windows(shape: tuple[int, ...], catalog: QTable) -> list[Window]:
    """Return the whole image and, where that is larger than ZOOM, the part with the best measured sources."""
    sides = [min(side, n) for side, n in zip(ZOOM, shape, strict=True)]
    whole = slice(0, shape[0]), slice(0, shape[1])
    if sides == list(shape):
        return [whole]
    cells = [-(-n // side) for n, side in zip(shape, sides, strict=True)]
    _, flux, error = read_aperture(catalog)
    # A source counts by its signal-to-noise ratio up to 100, or one bright star would decide.
    merit = np.nan_to_num(np.clip(np.divide(flux, error, out=np.zeros_like(flux), where=error > 0), 0, 100))
    y, x = (catalog[axis].value for axis in "yx")
    score, *edges = np.histogram2d(y, x, bins=cells, range=[(0, n) for n in shape], weights=merit)
    best = np.unravel_index(score.argmax() if score.any() else score.size // 2, score.shape)
    starts = [int(min(edge[i], n - side)) for edge, i, n, side in zip(edges, best, shape, sides, strict=True)]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return [whole, (rows, columns)]


def _sample_plane(plane: _Plane, window: Window, shape: tuple[int, ...]) -> tuple[Floats, list[float]]:
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


def _draw_images(
    figure: Figure, grid: GridSpec, windows: list[Window], image: CCDData, planes: dict[str, _Plane]
) -> None:
    """Draw every plane in every window on the sky, with one colour bar for a column."""
    from matplotlib.patches import Rectangle

    for (i, window), (j, (name, plane)) in product(enumerate(windows), enumerate(planes.items())):
        axes = figure.add_subplot(grid[i, j], projection=image.wcs, label=f"{name} zoom" if i else name)
        values, extent = _sample_plane(plane, window, image.data.shape)
        style = {"cmap": "gray_r" if name == "science" else "magma", "interpolation": "nearest", "origin": "lower"}
        shown = axes.imshow(values, extent=extent, norm=plane.norm, **style)
        axes.set_facecolor(NO_DATA)
        axes.set(**{f"{axis}lim": (s.start - 0.5, s.stop - 0.5) for axis, s in zip("yx", window, strict=True)})
        _label_sky(axes, first=j == 0, last=window is windows[-1])
        if i == 0:
            _add_colour_bar(axes, shown, plane)
            for y, x in windows[1:]:
                corner = x.start - 0.5, y.start - 0.5
                axes.add_patch(Rectangle(corner, x.stop - x.start, y.stop - y.start, fill=False, color=GREEN, lw=1.5))


def _add_colour_bar(axes: WCSAxes, shown: AxesImage, plane: _Plane) -> None:
    """Add a colour bar above a panel, as wide as it, with the name of the plane."""
    from matplotlib.colors import AsinhNorm
    from matplotlib.ticker import MaxNLocator

    bar = axes.figure.colorbar(shown, cax=axes.inset_axes([0, 1.02, 1, 0.035]), orientation="horizontal")
    if isinstance(plane.norm, AsinhNorm):  # the ticks that matplotlib chooses overlap around 0
        steps = np.outer(10.0 ** np.arange(-9, 9), (1, 3)).ravel()
        ticks = [0, *steps[(steps > 4 * plane.norm.linear_width) & (steps < plane.norm.vmax)]]
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.set_ticks([], minor=True)
    else:
        bar.set_ticks(MaxNLocator(3))
    bar.ax.xaxis.set_ticks_position("top")
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_title(plane.label, fontsize=10)


def _label_sky(axes: WCSAxes, *, first: bool, last: bool) -> None:
    """Label right ascension below, with its name in the last row, and declination left of the first column."""
    for coordinate, side, name, named in zip(axes.coords, "bl", ("RA", "Dec"), (last, first), strict=True):
        coordinate.set_ticks(number=4)
        coordinate.set_ticks_position(side)
        coordinate.set_ticklabel(size=8, exclude_overlapping=True)
        coordinate.set_auto_axislabel(False)
        coordinate.set_axislabel(name if named else "", size=9)
    axes.coords[1].set_ticklabel_visible(first)


def _draw_outlines(figure: Figure, last: Window, scale: float, catalog: QTable, segmentation: ArrayLike | None) -> None:
    """Outline the Kron apertures on the science image, and the segments on its last row."""
    from matplotlib.collections import EllipseCollection, LineCollection
    from matplotlib.lines import Line2D

    science = [axes for axes in figure.axes if str(axes.get_label()).startswith("science")]
    ellipses = _kron_apertures(catalog, scale)
    for axes, thickness in zip(science, (0.5, 1.0), strict=False):
        if axes is science[-1] or len(ellipses) <= CROWDED:
            outlines = EllipseCollection(
                *ellipses[:, 2:].T, units="xy", offsets=ellipses[:, :2], offset_transform=axes.transData
            )
            outlines.set(facecolor="none", edgecolor=ORANGE, linewidth=thickness)
            axes.add_collection(outlines, autolim=False)
    legend = [Line2D([], [], color=ORANGE, label="Kron aperture")]
    if segmentation is not None:
        lines = _segment_edges(np.asarray(segmentation), last)
        science[-1].add_collection(LineCollection(lines, colors=BLUE, linewidths=0.7), autolim=False)
        legend.append(Line2D([], [], color=BLUE, label="segment"))
    if len(science) > 1:
        legend.append(Line2D([], [], color=GREEN, label="row below"))
    figure.legend(handles=legend, loc="upper right", ncols=3, frameon=False, fontsize=10)


def _kron_apertures(catalog: QTable, scale: float) -> Floats:
    """Return the Kron apertures that are known, (n, 5): x, y, full axes in pixels, angle in degrees."""
    a, b = (catalog[axis].to_value(u.arcsec) for axis in "ab")
    theta, kron = catalog["theta"].to_value(u.deg), np.asarray(catalog["kron_radius"])
    major, minor, angle, _ = kron_apertures(a, b, theta, kron, catalog.meta.get("KRONCIRC", 0.0))
    ellipses = np.stack([catalog["x"].value, catalog["y"].value, 2 / scale * major, 2 / scale * minor, angle], axis=-1)
    return ellipses[np.isfinite(ellipses).all(axis=1) & (minor > 0)]


def _segment_edges(labels: NDArray[np.generic], window: Window) -> list[Floats]:
    """Return the sides of pixels between different labels, lines (2, 2) of x, y in pixels of the image."""
    cut = labels[window]
    y, x = np.nonzero(cut[:, 1:] != cut[:, :-1])
    upright = np.stack([x + 0.5, y - 0.5, x + 0.5, y + 0.5], axis=-1)
    y, x = np.nonzero(cut[1:] != cut[:-1])
    level = np.stack([x - 0.5, y + 0.5, x + 0.5, y + 0.5], axis=-1)
    return list(np.concatenate([upright, level]).reshape(-1, 2, 2) + np.array([window[1].start, window[0].start]))
