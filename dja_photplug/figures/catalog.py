"""The figure of a catalogue: the planes of the mosaic with the sources outlined, and graphs of its errors.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.nddata import CCDData
from astropy.table import QTable
from numpy.typing import ArrayLike

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.figures.panels.graphs import (
    CROWDED,
    Samples,
    find_zones,
    plot_errors,
    plot_factor,
    plot_ratio,
    read_aperture,
    select_samples,
)
from dja_photplug.figures.panels.images import (
    Plane,
    add_colour_bar,
    choose_windows,
    draw_ellipses,
    draw_plane,
    draw_segments,
    is_flat,
    label_sky,
    list_ellipses,
    scale_science,
    scale_weight,
)
from dja_photplug.figures.style import BLUE, GREEN, ORANGE, require_matplotlib, save_figure
from dja_photplug.sky.grid import Window, pixel_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

__all__ = ["catalog_figure", "plot_catalog"]

# Inches. Width of the figure and its margins; gaps between columns, between rows, and above the graphs; graphs.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 15.0, 1.0, 0.3, 1.1, 0.6
GAP, LABELS, BETWEEN, GRAPH = 0.5, 0.4, 1.2, 3.4


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
    samples, windows = _select(image, catalog, background_catalog, calibration)
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


def _select(
    image: CCDData, catalog: QTable, background_catalog: QTable | None, calibration: NoiseCalibration | None
) -> tuple[Samples, list[Window]]:
    """Return the sources that graphs show, and the parts of the image."""
    number, flux, error = read_aperture(catalog)
    alone = None if background_catalog is None else read_aperture(background_catalog)[2]
    x, y = (catalog[axis].value for axis in "xy")
    zone = find_zones(getattr(image, "background_weight", None), x, y, calibration)
    samples = select_samples(flux, error, alone, zone, f"{catalog.meta[f'ASEC_{number}']:.2f}″ aperture")
    merit = np.divide(flux, error, out=np.zeros_like(flux), where=error > 0)
    return samples, choose_windows(image.data.shape, x, y, merit)


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


def _make_planes(image: CCDData, exposure: ArrayLike | None) -> dict[str, Plane]:
    """Return the columns of images; full weight and wht share one scale, so that sources are dark in the first."""
    null = ~np.isfinite(image.data) if image.mask is None else image.mask
    label, norm = f"science ({image.unit})", scale_science(image.data, null)
    planes = {"science": Plane(label=label, pixels=image.data, mask=null, norm=norm, colours="gray_r")}
    weights = {"full weight": image.uncertainty.array, "wht": getattr(image, "background_weight", None)}
    weights = {name: weight for name, weight in weights.items() if weight is not None}
    norm = scale_weight(*weights.values())
    for name, weight in weights.items():
        label = f"{name} ({image.unit})$^{{-2}}$"
        planes[name] = Plane(label=label, pixels=weight, norm=norm, colours="magma")
    if exposure is not None:
        seconds = np.asarray(exposure)
        norm = scale_weight(seconds, divisor=1000)
        planes["exposure"] = Plane(label="exposure time (ks)", pixels=seconds, norm=norm, colours="magma", divisor=1000)
    return {name: plane for name, plane in planes.items() if name == "science" or not is_flat(plane.pixels)}


def _draw_images(
    figure: Figure, grid: GridSpec, windows: list[Window], image: CCDData, planes: dict[str, Plane]
) -> None:
    """Draw every plane in every window on the sky, with one colour bar for a column."""
    from matplotlib.patches import Rectangle

    for (i, window), (j, (name, plane)) in product(enumerate(windows), enumerate(planes.items())):
        axes = figure.add_subplot(grid[i, j], projection=image.wcs, label=f"{name} zoom" if i else name)
        shown = draw_plane(axes, plane, window, image.data.shape)
        label_sky(axes, first=j == 0, last=window is windows[-1])
        if i == 0:
            add_colour_bar(axes, shown, plane.label)
            for y, x in windows[1:]:
                corner = x.start - 0.5, y.start - 0.5
                axes.add_patch(Rectangle(corner, x.stop - x.start, y.stop - y.start, fill=False, color=GREEN, lw=1.5))


def _draw_outlines(figure: Figure, last: Window, scale: float, catalog: QTable, segmentation: ArrayLike | None) -> None:
    """Outline the Kron apertures on the science image, and the segments on its last row."""
    from matplotlib.lines import Line2D

    science = [axes for axes in figure.axes if str(axes.get_label()).startswith("science")]
    ellipses = list_ellipses(catalog, scale)
    for axes, thickness in zip(science, (0.5, 1.0), strict=False):
        if axes is science[-1] or len(ellipses) <= CROWDED:
            draw_ellipses(axes, ellipses, thickness)
    legend = [Line2D([], [], color=ORANGE, label="Kron aperture")]
    if segmentation is not None:
        draw_segments(science[-1], segmentation, last)
        legend.append(Line2D([], [], color=BLUE, label="segment"))
    if len(science) > 1:
        legend.append(Line2D([], [], color=GREEN, label="row below"))
    figure.legend(handles=legend, loc="upper right", ncols=3, frameon=False, fontsize=10)
