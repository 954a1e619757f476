"""The contact sheet of stamps: each target with its noise, its mask, and the model that a fit starts from.

matplotlib is an extra and is imported where a figure is made; pyplot, with its global state, is not used.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from html import escape
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from astropy.modeling.models import Sersic2D
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from dja_photplug.figures.style import BLUE, NO_DATA, ORANGE, require_matplotlib
from dja_photplug.files.formats import SHEET_SUFFIXES
from dja_photplug.fitting.field import Component
from dja_photplug.fitting.formats import effective_intensity
from dja_photplug.fitting.headers import NULL_SIGMA
from dja_photplug.fitting.stamps import Stamp
from dja_photplug.outputs.whole import check_output, whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

__all__ = ["draw_components", "plot_stamps", "stamp_figure"]

ROWS = 10  # targets on a page of 1300 x 2500 dots
PANELS = ("science", "sigma", "mask", "model start", "science - model")
# Inches: side of a panel, gaps, margins, and the text on the right.
SIDE, GAP, LEFT, TOP, BOTTOM, TEXT = 2.0, 0.12, 0.45, 0.6, 0.3, 2.4

# Cells along a pixel, and more edges of cells around the cusp of a profile: their distances from it in pixels.
FINE, CUSP = 3, np.append(0, np.geomspace(1e-3, 4, 60))

Floats = NDArray[np.float64]


class _Colours(TypedDict, total=False):
    """How `imshow` turns numbers into colours."""

    cmap: str | Colormap
    norm: str | Normalize
    vmin: float
    vmax: float


def draw_components(
    components: Iterable[Component],
    shape: tuple[int, int],
    zero_point: float,
    psf: NDArray[np.floating] | None = None,
) -> Floats:
    """Return the light of Sersic profiles, integrated over pixels and convolved with the PSF.

    Parameters
    ----------
    components : iterable of Component
        Their centres in 0-based pixels of the image, radii in its pixels, magnitudes AB.
    shape : tuple of int
        (ny, nx) of the image.
    zero_point : float
        AB magnitude of one unit of the image.
    psf : ndarray, shape (k, l), optional
        Odd, centred, on the image's pixels.

    Returns
    -------
    ndarray, shape (ny, nx)
        In units of the image. The light is true to 0.5 % for n <= 8; what the PSF would bring in from beyond the
        edges is missing.

    Examples
    --------
    >>> disk = Component(id=1, x=30, y=30, magnitude=23.9, radius=3, index=1, axis_ratio=0.5, theta=30)
    >>> draw_components([disk], (61, 61), 28.9).sum().round()
    np.float64(100.0)
    """
    model = np.zeros(shape)
    for component in components:
        model += _draw_sersic(component, shape, zero_point)
    return model if psf is None else fftconvolve(model, psf, mode="same")


def _draw_sersic(component: Component, shape: tuple[int, int], zero_point: float) -> Floats:
    profile = Sersic2D(
        amplitude=effective_intensity(component, zero_point),
        r_eff=component.radius,
        n=component.index,
        ellip=1 - component.axis_ratio,
        theta=np.deg2rad(component.theta),
    )
    y, x = (_cells(n, centre) for n, centre in zip(shape, (component.y, component.x), strict=True))
    light = profile(*np.meshgrid((x[1:] + x[:-1]) / 2 - component.x, (y[1:] + y[:-1]) / 2 - component.y))
    light *= np.outer(np.diff(y), np.diff(x))
    for axis, edges in enumerate((y, x)):
        light = np.add.reduceat(light, np.searchsorted(edges, np.arange(shape[axis]) - 0.5), axis=axis)
    return light


def _cells(n: int, centre: float) -> Floats:
    """Return edges of cells along `n` pixels, those of the pixels among them, narrower towards the centre."""
    edges = np.concatenate([np.arange(n * FINE + 1) / FINE - 0.5, centre + CUSP, centre - CUSP])
    return np.unique(edges[(edges >= -0.5) & (edges <= n - 0.5)])


def plot_stamps(path: str | Path, stamps: Iterable[Stamp], *, name: str = "", overwrite: bool = False) -> list[Path]:
    """Write the contact sheet of stamps, whole or not at all, with 100 dots per inch; see :func:`stamp_figure`.

    No more than two pages of stamps are held at a time.

    Parameters
    ----------
    path : str or Path
        ``OUT.png``, which becomes ``OUT_1.png``, ``OUT_2.png`` ... for more than 10 stamps; or ``OUT.html``, which
        holds any number and can be searched for their names.
    stamps : iterable of Stamp
        In the order of the sheet.
    name : str, optional
        Of their mosaic, for the title.
    overwrite : bool, optional
        Replace existing files.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    PhotplugError
        Without matplotlib, for another suffix, an existing file or a folder that does not take it.
    """
    require_matplotlib()
    path = check_output(Path(path), overwrite=overwrite, suffixes=SHEET_SUFFIXES)
    if path.suffix.lower() == ".html":
        with whole_file(path, overwrite=overwrite) as temporary:
            _write_html(temporary, path.stem, stamps, name)
        return [path]
    pages = _batches(stamps, ROWS)
    page, following = next(pages, None), next(pages, None)
    numbered, paths = following is not None, list[Path]()
    with ExitStack() as files:
        while page:
            paths.append(path.with_stem(f"{path.stem}_{len(paths) + 1}") if numbered else path)
            stamp_figure(page, name).savefig(files.enter_context(whole_file(paths[-1], overwrite=overwrite)), dpi=100)
            page, following = following, next(pages, None)
    return paths


def _batches(stamps: Iterable[Stamp], size: int) -> Iterator[list[Stamp]]:
    rest = iter(stamps)
    while batch := list(islice(rest, size)):
        yield batch


def _write_html(path: Path, title: str, stamps: Iterable[Stamp], name: str) -> None:
    """Write one page with an image for each stamp, one at a time."""
    with path.open("w", encoding="utf-8") as page:
        page.write(f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n')
        page.write("<style>img {display: block; max-width: 100%} h2 {font: bold 1em sans-serif; margin: 0}</style>\n")
        for stamp in stamps:
            image = BytesIO()
            # A fifth of the size of PNG, which noise fills: 55 MB for 1,000 stamps.
            stamp_figure([stamp], name).savefig(image, dpi=100, format="webp", pil_kwargs={"quality": 80})
            name, data = escape(stamp.name), b64encode(image.getvalue()).decode("ascii")
            page.write(f'<h2 id="{name}">{name}</h2><img loading="lazy" alt="" src="data:image/webp;base64,{data}">\n')


def stamp_figure(stamps: list[Stamp], name: str = "") -> Figure:
    """Return a figure with a row for each stamp: science, sigma, mask, the model that a fit starts from, and the rest.

    Parameters
    ----------
    stamps : list of Stamp
        One or more of the same mosaic; the title is that of the first.
    name : str, optional
        Of the mosaic, for the title.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Its axes have the labels (``get_label()``) of the panels, with the stamp's name behind.

    Raises
    ------
    PhotplugError
        Without matplotlib.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    n = len(stamps)
    width, height = LEFT + 5 * SIDE + 4 * GAP + TEXT, TOP + n * SIDE + (n - 1) * (GAP + BOTTOM) + BOTTOM
    figure = Figure(figsize=(width, height))
    grid = figure.add_gridspec(
        n,
        5,
        left=LEFT / width,
        right=1 - TEXT / width,
        top=1 - TOP / height,
        bottom=BOTTOM / height,
        wspace=GAP / SIDE,
        hspace=(GAP + BOTTOM) / SIDE,
    )
    header = stamps[0].header
    words = [name] * bool(name) + [str(header[key]) for key in ("INSTRUME", "FILTER") if key in header]
    title = (
        f"{' '.join(words)}   noise: {stamps[0].noise}   arcsec; scales in 10 nJy; ellipses of half the light   "
        "orange: target, blue: fitted with it, grey: masked, pale: no data"
    )
    figure.text(LEFT / width, 1 - 0.25 / height, title, fontsize=9)
    for row, stamp in enumerate(stamps):
        panels = {name: figure.add_subplot(grid[row, i], label=f"{name} {stamp.name}") for i, name in enumerate(PANELS)}
        _draw_row(panels, stamp)
        if row == 0:
            for name, axes in panels.items():
                axes.set_title(name, fontsize=9, pad=3)
    return figure


def _draw_row(panels: dict[str, Axes], stamp: Stamp) -> None:
    """Draw the panels of one stamp; all but sigma share the scale, that of the sky's noise."""
    from matplotlib.colors import AsinhNorm, ListedColormap

    null = stamp.sigma > NULL_SIGMA / 2  # it is rounded to float32
    data, sigma = (np.where(null, np.nan, plane) for plane in (stamp.data, stamp.sigma))
    model = draw_components(stamp.components, stamp.data.shape, stamp.zero_point, stamp.psf)
    noise = float(np.nanmedian(sigma)) * (stamp.pixel_scatter or 1)
    peak = max(float(stamp.data.max(where=~stamp.mask, initial=0)), 30 * noise)
    scale = partial(AsinhNorm, linear_width=2 * noise, vmax=peak)
    grey: _Colours = {"cmap": "gray_r", "norm": scale(vmin=-3 * noise)}
    kinds: _Colours = {"cmap": ListedColormap(["white", ORANGE, BLUE, "0.6", NO_DATA]), "vmin": 0, "vmax": 4}
    _show(panels["science"], data, stamp, **grey)
    low, high = np.nanpercentile(sigma, (1, 99.5)) if not null.all() else (1.0, 1.0)
    _show(panels["sigma"], sigma, stamp, cmap="magma", vmin=low, vmax=max(high, 1.05 * low))
    _show(panels["mask"], _sort_pixels(stamp, null), stamp, **kinds)
    _show(panels["model start"], model, stamp, **grey)
    _show(panels["science - model"], data - model, stamp, cmap="RdBu_r", norm=scale(vmin=-peak))
    for name, zero in (("science", True), ("sigma", False), ("science - model", True)):
        _add_bar(panels[name], 2 * noise if zero else None)
    _draw_ellipses(panels["science"], stamp)
    _write_text(panels["science - model"], stamp)
    # Five times fewer ticks take half the time; the panels of a row have the same scale.
    for axes in [*panels.values()][1:]:
        axes.set(xticks=[], yticks=[])
    panels["science"].tick_params(labelsize=7, direction="in", pad=2, labelbottom=False)
    panels["science"].locator_params(nbins=5)


def _add_bar(axes: Axes, linear: float | None) -> None:
    """Add a scale below a panel, in 10 nJy: its ends, or 0 and round numbers where it is not linear beyond `linear`."""
    [shown] = axes.images
    low, high = shown.get_clim()
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes((0.3, -0.055, 0.7, 0.035)), orientation="horizontal")
    ticks = np.array([low, high])
    if linear is not None:
        digit = 10.0 ** np.floor(np.log10(high))
        most = digit * np.floor(high / digit)
        ticks = np.array([0, most / 10, most] if most > 40 * linear else [0, most])
        ticks = np.concatenate([-ticks[:0:-1], ticks]) if low <= -most else ticks
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.3g}" for tick in ticks])
    bar.set_ticks([], minor=True)
    bar.ax.tick_params(labelsize=6.5, length=2, pad=1)


def _sort_pixels(stamp: Stamp, null: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return 0 for pixels of the sky, 1 of the target, 2 of neighbours that are fitted, 3 masked, 4 without data."""
    target, *neighbours = (component.id for component in stamp.components)
    of_target, fitted = stamp.segmentation == target, np.isin(stamp.segmentation, neighbours)
    return np.select([null, stamp.mask, of_target, fitted], np.array([4, 3, 1, 2], np.uint8), np.uint8(0))


def _show(axes: Axes, plane: NDArray[np.generic], stamp: Stamp, **style: Unpack[_Colours]) -> None:
    """Show a plane in arcsec from the middle pixel."""
    half = stamp.data.shape[0] / 2 * stamp.scale
    axes.imshow(plane, origin="lower", extent=(-half, half, -half, half), interpolation="nearest", **style)
    axes.set_facecolor(NO_DATA)


def _draw_ellipses(axes: Axes, stamp: Stamp) -> None:
    """Outline the ellipses that hold half of the light of the components, the target in another colour."""
    from matplotlib.patches import Ellipse

    middle = stamp.data.shape[0] // 2
    for component in stamp.components:
        centre = (component.x - middle) * stamp.scale, (component.y - middle) * stamp.scale
        major = 2 * component.radius * stamp.scale
        colour = ORANGE if component is stamp.components[0] else BLUE
        shape = Ellipse(centre, major, major * component.axis_ratio, angle=component.theta, fill=False, color=colour)
        axes.add_patch(shape)


def _write_text(axes: Axes, stamp: Stamp) -> None:
    """Say beside the last panel what the fit starts from and what its noise means."""
    target, side = stamp.components[0], stamp.data.shape[0]
    lines = [
        f"{side * stamp.scale:.2f}″ ({side} pixels of {stamp.scale:.3g}″)",
        f"mag {target.magnitude:.2f}   radius {target.radius * stamp.scale:.2f}″",
        f"n {target.index:g}   b/a {target.axis_ratio:.2f}   PA {target.position_angle:.0f}°",
        f"fitted neighbours: {len(stamp.components) - 1}",
        "pixel scatter: " + _format(stamp.pixel_scatter),
        "error factor: " + _format(stamp.error_factor),
    ]
    write = partial(axes.text, transform=axes.transAxes, va="top", fontsize=8)
    write(1.05, 1, stamp.name, weight="bold")
    write(1.05, 0.9, "\n".join(lines), linespacing=1.4)


def _format(factor: float | None) -> str:
    return "not known" if factor is None else f"{factor:.2f}"
