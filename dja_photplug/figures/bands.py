"""The figure of a catalogue of several bands: the field and its sources in colours, and a row for each band.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.nddata import CCDData
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.columns import column_values
from dja_photplug.catalog.metadata import read_bands
from dja_photplug.errors import PhotplugError
from dja_photplug.figures.panels.graphs import (
    Samples,
    find_zones,
    plot_colours,
    plot_errors,
    plot_factor,
    plot_ratio,
    read_aperture,
    read_colours,
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
from dja_photplug.figures.panels.pixels import choose_colours, mix_colours, name_colours, sample_grid
from dja_photplug.figures.style import BLUE, GREEN, ORANGE, require_matplotlib, save_figure
from dja_photplug.files.grammar import find_wavelength, name_field
from dja_photplug.sky.grid import Grid, Window, coarsen_grid, pixel_positions, pixel_scale
from dja_photplug.units import flux_of

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec, SubplotSpec
    from matplotlib.image import AxesImage

__all__ = ["bands_figure", "plot_bands"]

FIELD = 600  # samples along the longer side of the whole field, which is 330 dots wide

# Inches. Width of the figure and its margins; rows of the field and of the bands, and what is between them.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 17.5, 0.9, 0.3, 1.0, 0.65
BAND, BETWEEN, HIGHEST = 2.7, 1.25, 5.0

Floats = NDArray[np.float64]
Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """The grids that are shown: the whole field on pixels `step` times as large, and a part where it is larger."""

    whole: Grid
    step: int
    window: Window
    zoom: Grid | None

    @property
    def parts(self) -> list[Grid]:
        return [self.whole] if self.zoom is None else [self.whole, self.zoom]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Band:
    """What is shown of a band: its planes on the grids of the figure, and the errors of its sources."""

    name: str
    unit: str
    wavelength: float
    science: tuple[Image, ...]
    weight: Image
    samples: Samples
    calibration: NoiseCalibration | None


def plot_bands(
    path: str | Path,
    catalog: QTable,
    images: Iterable[tuple[str, CCDData]],
    grid: Grid,
    segmentation: ArrayLike | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the figure of :func:`bands_figure` whole or not at all, with 100 dots per inch.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    catalog, images, grid, segmentation
        As for :func:`bands_figure`.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        For another suffix, an existing file or a folder that does not take it, and as :func:`bands_figure`.
    """
    return save_figure(path, lambda: bands_figure(catalog, images, grid, segmentation), overwrite=overwrite)


def bands_figure(
    catalog: QTable, images: Iterable[tuple[str, CCDData]], grid: Grid, segmentation: ArrayLike | None = None
) -> Figure:
    """Return the figure of a catalogue of several bands.

    Above, the field in colours and, where it is larger, 480 x 320 pixels of it with well measured sources; then the
    colours of the sources, where there are bands of two wavelengths. Below, a row for each band, by wavelength:
    science, the full weight of the whole field, errors against flux, the ratio of errors with and without photons with
    a curve for each depth zone, and a(r).

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        As from `run`, with the columns ``x y a b theta kron_radius ra dec`` of the sources and, for each band that its
        metadata describe, ``{band}_flux_aper_i {band}_fluxerr_aper_i {band}_depth5_i``. Aperture 1 is plotted, or 0
        where it is alone.
    images : iterable of (str, `~astropy.nddata.CCDData`)
        Name of the band and its image, whose uncertainty is the full weight; looked at one after the other, so that a
        generator needs the memory of one.
    grid : Grid
        WCS and shape (ny, nx) of the image whose pixels ``x`` and ``y`` of the catalogue are.
    segmentation : array_like, optional
        Labels on that grid, outlined where the field is shown larger.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Its axes have the labels (``get_label()``) ``field``, ``field zoom``, ``colour magnitude``, ``colour colour``,
        and for each band ``{band} science``, ``{band} full weight``, ``{band} error``, ``{band} ratio``, ``{band}
        factor``. What is the same everywhere, or is not known, has no panel.

    Raises
    ------
    PhotplugError
        Without matplotlib, or where the catalogue describes none of the bands.
    """
    require_matplotlib()
    described = read_bands(catalog.meta)
    x, y = (catalog[axis].value for axis in "xy")
    merit = column_values(catalog, "flux_auto", "uJy") / column_values(catalog, "fluxerr_auto", "uJy")
    field = _choose_parts(grid, choose_windows(grid.shape, x, y, merit))
    bands = [_look(name, image, catalog, described[name], field) for name, image in images if name in described]
    if not bands:
        raise PhotplugError(f"the catalogue has none of these bands; give some of its own: {', '.join(described)}")
    bands.sort(key=lambda band: (np.nan_to_num(band.wavelength, nan=np.inf), band.name))
    known = [band.name for band in bands if np.isfinite(band.wavelength)]
    graphs = min(len(known) - 1, 2)
    figure, top, rows = _lay_out(field, len(bands), len(field.parts) + max(graphs, 0))
    _draw_field(figure, top, bands, field)
    _draw_outlines(figure, field, catalog, segmentation)
    if graphs > 0:
        _draw_colours(figure, [top[len(field.parts) + i] for i in range(graphs)], catalog, known)
    for row, band in enumerate(bands):
        _draw_band(figure, [rows[row, column] for column in range(5)], band, field)
    told = [described[band.name] for band in bands]
    name = name_field([str(each.get("INPUT", "")) for each in told])
    detected = f", detected on {catalog.meta['DETECT']}" if "DETECT" in catalog.meta else ""
    words = [name, f"{len(bands)} bands", f"sources: {len(catalog)}{detected}"]
    noise = sorted({str(each["NOISE"]) for each in told if "NOISE" in each})
    _add_title(figure, "   ".join([*words, *([f"noise: {', '.join(noise)}"] if noise else [])]))
    return figure


def _choose_parts(grid: Grid, windows: Sequence[Window]) -> _Field:
    step = max(1, -(-max(grid.shape) // FIELD))
    rows, columns = windows[-1]
    zoom = Grid(grid.wcs[rows, columns], (rows.stop - rows.start, columns.stop - columns.start))
    whole = coarsen_grid(grid, step)
    return _Field(whole=whole, step=step, window=windows[-1], zoom=zoom if len(windows) > 1 else None)


def _look(name: str, image: CCDData, catalog: QTable, meta: Mapping[str, object], field: _Field) -> _Band:
    """Return what is shown of a band, so that its image is not needed any more."""
    own = Grid(image.wcs, image.data.shape)
    null = ~np.isfinite(image.data) if image.mask is None else image.mask
    science = np.where(null, np.float32(np.nan), image.data)
    calibration = NoiseCalibration.from_metadata(meta)
    number, flux, error = read_aperture(catalog, name)
    limits = f"{name}_depth5_{number}"
    # The 5-sigma limit on empty sky is 5 times the error that has no photons of the source.
    empty = flux_of(column_values(catalog, limits, "mag")) / 5 if limits in catalog.colnames else None
    x, y = pixel_positions(image.wcs, *(catalog[axis].to_value("deg") for axis in ("ra", "dec")))
    zone = find_zones(getattr(image, "background_weight", None), x, y, calibration)
    circle = f"{catalog.meta[f'ASEC_{number}']:.2f}″ aperture"
    return _Band(
        name=name,
        unit=str(image.unit),
        wavelength=find_wavelength(name, image.meta),
        science=tuple(sample_grid(science, own, part) for part in field.parts),
        weight=sample_grid(image.uncertainty.array, own, field.whole),
        samples=select_samples(flux, error, empty, zone, circle, "on empty sky"),
        calibration=calibration,
    )


def _lay_out(field: _Field, number: int, columns: int) -> tuple[Figure, GridSpec, GridSpec]:
    """Return an empty figure, the grid of the field and of the bands (5 columns, a row for each)."""
    from matplotlib.figure import Figure

    inside = WIDTH - LEFT - RIGHT
    tall = [float(np.clip(part.shape[0] / part.shape[1], 0.5, 1.2)) for part in field.parts]
    row = min(0.82 * inside / columns * max(tall), HIGHEST)
    height = TOP + row + number * (BAND + BETWEEN) + BOTTOM
    figure = Figure(figsize=(WIDTH, height))
    margins = {"left": LEFT / WIDTH, "right": 1 - RIGHT / WIDTH}
    below = height - TOP - row
    top = figure.add_gridspec(1, columns, top=1 - TOP / height, bottom=below / height, wspace=0.28, **margins)
    rows = figure.add_gridspec(
        number,
        5,
        top=(below - BETWEEN) / height,
        bottom=BOTTOM / height,
        wspace=0.3,
        hspace=BETWEEN / BAND,
        **margins,
    )
    return figure, top, rows


def _draw_field(figure: Figure, grid: GridSpec, bands: Sequence[_Band], field: _Field) -> None:
    """Draw the field in colours, and a part of it."""
    from matplotlib.patches import Rectangle

    chosen = choose_colours({band.name: band.wavelength for band in bands})
    mixed = [band for name in chosen for band in bands if band.name == name]
    for i, (part, name) in enumerate(zip(field.parts, ("field", "field zoom"), strict=False)):
        axes = figure.add_subplot(grid[i], projection=part.wcs, label=name)
        planes = [band.science[i] for band in mixed]
        if len(planes) > 1:
            axes.imshow(mix_colours(planes), origin="lower", interpolation="nearest")
        else:
            _show(axes, planes[0], scale_science(planes[0]), "gray_r")
        label_sky(axes, first=True, last=True, named=i == 0)
        axes.set_title("the part in the frame" if i else name_colours(chosen), fontsize=10)
    if field.zoom is not None:
        sides = [(side.start / field.step - 0.5, (side.stop - side.start) / field.step) for side in field.window]
        (bottom, height), (left, width) = sides
        frame = Rectangle((left, bottom), width, height, fill=False, color=GREEN, linewidth=1.5)
        _find(figure, "field").add_patch(frame)


def _draw_outlines(figure: Figure, field: _Field, catalog: QTable, segmentation: ArrayLike | None) -> None:
    """Outline Kron apertures and segments where single sources are seen."""
    from matplotlib.lines import Line2D

    rows, columns = field.window
    ellipses = list_ellipses(catalog, pixel_scale(field.parts[-1].wcs))
    ellipses[:, :2] -= columns.start, rows.start
    axes = _find(figure, "field" if field.zoom is None else "field zoom")
    draw_ellipses(axes, ellipses, 0.9)
    legend = [Line2D([], [], color=ORANGE, label="Kron aperture")]
    if segmentation is not None:
        cut = np.asarray(segmentation)[rows, columns]
        draw_segments(axes, cut, (slice(0, cut.shape[0]), slice(0, cut.shape[1])))
        legend.append(Line2D([], [], color=BLUE, label="segment"))
    figure.legend(handles=legend, loc="upper right", ncols=2, frameon=False, fontsize=10)


def _find(figure: Figure, label: str) -> WCSAxes:
    return next(axes for axes in figure.axes if axes.get_label() == label)


def _show(axes: WCSAxes, pixels: Image, norm: Normalize, colours: str) -> AxesImage:
    """Show a plane on its own pixels."""
    plane = Plane(label="", pixels=pixels, norm=norm, colours=colours, mask=~np.isfinite(pixels))
    whole = slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    return draw_plane(axes, plane, whole, pixels.shape)


def _draw_colours(figure: Figure, cells: Sequence[SubplotSpec], catalog: QTable, bands: Sequence[str]) -> None:
    """Draw the colour of the outermost bands against magnitude, and against the middle one where there is one."""
    colours = read_colours(catalog, bands)
    first, middle, last = 0, len(bands) // 2, len(bands) - 1
    plot_colours(figure.add_subplot(cells[0], label="colour magnitude"), colours, (last,), (first, last))
    if len(cells) > 1:
        axes = figure.add_subplot(cells[1], label="colour colour")
        plot_colours(axes, colours, (middle, last), (first, middle))


def _draw_band(figure: Figure, cells: Sequence[SubplotSpec], band: _Band, field: _Field) -> None:
    """Draw the row of a band."""
    science = band.science[-1]
    axes = figure.add_subplot(cells[0], projection=field.parts[-1].wcs, label=f"{band.name} science")
    shown = _show(axes, science, scale_science(science), "gray_r")
    add_colour_bar(axes, shown, f"$\\bf{{{band.name}}}$   science ({band.unit})".replace("_", r"\_"))
    label_sky(axes, first=True, last=True)
    if not is_flat(band.weight):
        axes = figure.add_subplot(cells[1], projection=field.whole.wcs, label=f"{band.name} full weight")
        shown = _show(axes, band.weight, scale_weight(band.weight), "magma")
        add_colour_bar(axes, shown, f"full weight ({band.unit})$^{{-2}}$")
        label_sky(axes, first=True, last=True, named=False)
    error = figure.add_subplot(cells[2], label=f"{band.name} error")
    plot_errors(error, band.samples, small=True)
    with np.errstate(invalid="ignore"):
        ratio = band.samples.error / band.samples.background
    if np.any(np.abs(ratio - 1) > 1e-3):  # where no photons count there is nothing to see
        plot_ratio(figure.add_subplot(cells[3], label=f"{band.name} ratio", sharex=error), band.samples, small=True)
    if band.calibration is not None and band.calibration.known:
        plot_factor(figure.add_subplot(cells[4], label=f"{band.name} factor"), band.calibration, small=True)


def _add_title(figure: Figure, text: str) -> None:
    figure.text(LEFT / WIDTH, 1 - 0.32 / figure.get_figheight(), text, fontsize=13, weight="bold")
