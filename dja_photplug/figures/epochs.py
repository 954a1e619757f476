"""The figure of a WCS log: footprints over the exposure map on the sky, and the visits in time.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel
from numpy.typing import NDArray

from dja_photplug.epochs.log import ExposureLog
from dja_photplug.figures.style import PALETTE, require_matplotlib, save_figure

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["epoch_figure", "plan_sky", "plot_log"]

Floats = NDArray[np.floating]

SKY_PIXELS = 700  # along the longer side of the map, which is shown at about that many dots
OTHERS = "#7F7F7F"  # of programs beyond those that the palette has a colour for
UNIX_EPOCH = 40587.0  # MJD of day 0 of matplotlib's dates


def plan_sky(vectors: Floats) -> tuple[WCS, tuple[int, int]]:
    """Return a grid on the sky, north up, that holds directions with a margin.

    Parameters
    ----------
    vectors : ndarray, shape (..., 3)
        ICRS unit vectors, as from `Footprints.outline`.

    Returns
    -------
    wcs : `~astropy.wcs.WCS`
        TAN, with square pixels.
    shape : tuple of int
        (ny, nx); the longer side has some 700 pixels.
    """
    vectors = vectors.reshape(-1, 3)
    centre = vectors.mean(axis=0)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = np.rad2deg([np.arctan2(centre[1], centre[0]), np.arctan2(centre[2], np.hypot(*centre[:2]))])
    wcs.wcs.cdelt, wcs.wcs.crpix = [-1, 1], [1, 1]  # 0-based pixels are degrees from the centre
    wcs.wcs.set()
    sky = np.rad2deg([np.arctan2(vectors[:, 1], vectors[:, 0]), np.arcsin(vectors[:, 2])])
    plane = wcs.wcs_world2pix(sky.T, 0)
    low, high = np.nanmin(plane, axis=0), np.nanmax(plane, axis=0)
    margin = 0.03 * (high - low).max()
    scale = ((high - low).max() + 2 * margin) / SKY_PIXELS
    nx, ny = (int(np.ceil(side)) for side in (high - low + 2 * margin) / scale)
    wcs.wcs.cdelt = [-scale, scale]
    wcs.wcs.crpix = 0.5 - (low - margin) / scale
    wcs.wcs.set()
    return wcs, (ny, nx)


def epoch_figure(
    log: ExposureLog,
    image: tuple[WCS, tuple[int, int]] | None = None,
    gap: u.Quantity | None = None,
    position: SkyCoord | None = None,
) -> Figure:
    """Return the figure of a log.

    Above, the exposure time on the sky with the outlines of the exposures, coloured by program, and of the mosaic;
    below, the exposure time of each visit at its date.

    Parameters
    ----------
    log : ExposureLog
    image : tuple, optional
        WCS and shape (ny, nx) of a mosaic to be outlined.
    gap : `~astropy.units.Quantity`, optional
        As for `ExposureLog.visits`, which the lower panel shows.
    position : SkyCoord, optional
        A place that is marked.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Its axes have the labels (``get_label()``) ``sky`` and ``time``.

    Raises
    ------
    PhotplugError
        Without matplotlib.
    """
    require_matplotlib()
    outlines = log.geometry.outline()
    wcs, shape = plan_sky(outlines)
    corners = SkyCoord(*np.moveaxis(outlines, -1, 0), representation_type="cartesian")
    footprints, programs = np.stack(skycoord_to_pixel(corners, wcs), axis=-1), np.asarray(log.table["program"])
    visits = log.visits(gap)
    colours = _choose_colours(programs, visits)
    figure, sky, time = _lay_out(wcs, shape)
    title = f"{Path(log.name).name}   {len(log)} exposures, {log.exptime.to_value(u.ks):.1f} ks"
    height = figure.get_figheight()
    figure.suptitle(title, x=0.09, y=1 - 0.25 / height, ha="left", va="top", fontsize=12, weight="bold")
    _draw_sky(sky, log.exposure_map(wcs, shape), footprints, programs, colours)
    if image is not None:
        _draw_frame(sky, *image)
    if position is not None:
        mark = skycoord_to_pixel(position, wcs)
        sky.plot(*mark, "+", color="black", markersize=22, markeredgewidth=4, label="_halo")
        sky.plot(*mark, "+", color="#F0E442", markersize=20, markeredgewidth=2, label="position")
    _draw_time(time, visits, colours)
    _add_legend(figure, visits, colours, 4.5 / height)
    return figure


def _lay_out(wcs: WCS, shape: tuple[int, int]) -> tuple[Figure, WCSAxes, Axes]:
    """Return an empty figure with its axes of the sky and of time."""
    from matplotlib.figure import Figure

    width = 10.0
    tall = float(np.clip((width - 2.6) * shape[0] / shape[1], 3.0, 9.0))
    height = tall + 5.9
    figure = Figure(figsize=(width, height))
    sky = figure.add_gridspec(1, 1, top=1 - 0.75 / height, bottom=5.15 / height, left=0.09, right=0.92)
    time = figure.add_gridspec(1, 1, top=3.3 / height, bottom=0.7 / height, left=0.09, right=0.97)
    axes = figure.add_subplot(sky[0], projection=wcs, label="sky")
    return figure, axes, figure.add_subplot(time[0], label="time")


def _add_legend(figure: Figure, visits: QTable, colours: dict[str, str], top: float) -> None:
    """Name the programs of both panels between them."""
    from matplotlib.lines import Line2D

    handles, others = [], []
    for name, colour in colours.items():
        mine = visits["programs"] == name
        if colour == OTHERS:
            others.append(name)
        else:
            label = (
                f"{name or 'unknown'}: {_count(int(mine.sum()))}, {visits['exptime'][mine].sum().to_value(u.ks):.1f} ks"
            )
            handles.append(Line2D([], [], color=colour, marker="o", label=label))
    if others:
        handles.append(Line2D([], [], color=OTHERS, marker="o", label=f"{len(others)} more programs"))
    missing = np.count_nonzero(np.asarray(visits["mjd_beg"].mask))
    title = "program" + (f" (not below: {_count(int(missing))} without a date)" if missing else "")
    figure.legend(
        handles=handles,
        title=title,
        loc="upper center",
        bbox_to_anchor=(0.53, top),
        ncols=4,
        fontsize=8,
        title_fontsize=9,
    )


def _count(number: int) -> str:
    return f"{number} visit" + ("" if number == 1 else "s")


def _choose_colours(programs: NDArray[np.str_], visits: QTable) -> dict[str, str]:
    """Return the colour of each program, those with the most exposure time of their own, the same in all bands."""
    names = np.unique(programs)
    total = [visits["exptime"][visits["programs"] == name].sum().to_value(u.s) for name in names]
    own = np.sort(np.argsort(total)[::-1][: len(PALETTE)])
    return dict(zip(names[own].tolist(), PALETTE, strict=False)) | dict.fromkeys(np.delete(names, own).tolist(), OTHERS)


def _draw_sky(
    axes: WCSAxes,
    exposure: NDArray[np.float32],
    footprints: Floats,
    programs: NDArray[np.str_],
    colours: dict[str, str],
) -> None:
    """Draw the exposure time with the outlines of the exposures."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import PowerNorm

    ks = np.where(exposure > 0, exposure / 1000, np.nan)
    # Half of the greys are enough: outlines are lost on black.
    most = float(np.nanmax(ks)) if exposure.any() else 1.0
    norm = PowerNorm(0.5, 0, 2.5 * most)
    shown = axes.imshow(ks, origin="lower", cmap="Greys", norm=norm, interpolation="nearest")
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("exposure time (ks)")
    bar.ax.set_ylim(0, most)
    for name, colour in sorted(colours.items(), key=lambda item: -np.count_nonzero(programs == item[0])):
        mine = list(footprints[programs == name])
        # Many outlines on top of each other must leave the map visible, and few be seen over them.
        alpha, width = float(np.clip(150 / max(len(mine), 1), 0.3, 1)), 0.8 if len(mine) > 20 else 1.6
        outlines = PolyCollection(mine, edgecolors=colour, facecolors="none", linewidths=width, alpha=alpha)
        axes.add_collection(outlines, autolim=False)
    axes.set(xlim=(-0.5, exposure.shape[1] - 0.5), ylim=(-0.5, exposure.shape[0] - 0.5))
    axes.coords[0].set_axislabel("RA (ICRS)")
    axes.coords[1].set_axislabel("Dec (ICRS)")
    for coordinate in axes.coords:
        coordinate.set_ticklabel(exclude_overlapping=True)


def _draw_frame(axes: WCSAxes, wcs: WCS, shape: tuple[int, int]) -> None:
    """Outline a mosaic."""
    ny, nx = shape
    edge = wcs.pixel_to_world([-0.5, nx - 0.5, nx - 0.5, -0.5], [-0.5, -0.5, ny - 0.5, ny - 0.5])
    frame = np.stack(skycoord_to_pixel(edge, axes.wcs), axis=-1)
    axes.plot(*np.append(frame, frame[:1], axis=0).T, color="black", linewidth=1.8)
    above = frame[:, 0].mean(), frame[:, 1].max()
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
    axes.annotate("mosaic", above, (0, 5), textcoords="offset points", fontsize=9, ha="center", bbox=box)


def _draw_time(axes: Axes, visits: QTable, colours: dict[str, str]) -> None:
    """Draw the exposure time of each visit at its date, coloured by program."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    begin = visits["mjd_beg"]
    dated = ~np.asarray(begin.mask) if begin.masked else np.ones(len(visits), dtype=bool)
    mjd = np.asarray(begin[dated].mjd, dtype=float)
    ks = visits["exptime"][dated].to_value(u.ks)
    program = np.asarray(visits["programs"][dated])
    low, high = (ks[ks > 0].min(), ks.max()) if (ks > 0).any() else (0.1, 1.0)
    for name, colour in colours.items():
        mine = program == name
        axes.vlines(mjd[mine] - UNIX_EPOCH, low / 3, ks[mine], color=colour, linewidth=1)
        axes.plot(mjd[mine] - UNIX_EPOCH, ks[mine], "o", color=colour, markersize=5, alpha=0.8)
    axes.set_yscale("log")
    axes.set_ylim(low / 2, high * 2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("exposure time of a visit,\nall detectors (ks)")
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("date (UTC)")
    if not dated.any():
        axes.text(0.5, 0.5, "no dates", transform=axes.transAxes, ha="center")
        axes.set_axis_off()
        return
    axes.margins(x=0.03)
    axes.grid(axis="y", alpha=0.25)
    top = axes.secondary_xaxis("top", functions=(partial(np.add, UNIX_EPOCH), partial(np.add, -UNIX_EPOCH)))
    top.ticklabel_format(axis="x", useOffset=False)
    top.set_xlabel("MJD")


def plot_log(
    log: ExposureLog,
    path: str | Path,
    image: tuple[WCS, tuple[int, int]] | None = None,
    gap: u.Quantity | None = None,
    position: SkyCoord | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the figure of a log whole or not at all, with 110 dots per inch; see :func:`epoch_figure`.

    Parameters
    ----------
    log : ExposureLog
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    image, gap, position
        As for :func:`epoch_figure`.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        Without matplotlib, for another suffix, an existing file or a folder that does not take it.
    """
    return save_figure(path, lambda: epoch_figure(log, image, gap, position), dpi=110, overwrite=overwrite)
