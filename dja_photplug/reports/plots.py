"""The plots of a report, by bokeh: what they show follows the chosen source and band, by the script of the page.

Their colours of text, axes and ground are CSS variables of the page, so that they are dark where the page is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dja_photplug.figures.style import BLUE, ORANGE
from dja_photplug.reports.summaries import Counts

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource, DataTable
    from bokeh.plotting import figure as Figure

__all__ = [
    "Data",
    "completeness_plot",
    "counts_plot",
    "depth_plot",
    "epochs_plot",
    "errors_plot",
    "factor_plot",
    "field_plot",
    "growth_plot",
    "matching_plot",
    "source_table",
    "spectrum_plot",
]

Data = Mapping[str, Sequence[object] | NDArray[np.generic]]

MANY = 3000  # ellipses that are drawn at ease; of more, circles
TOOLS = "pan,box_zoom,wheel_zoom,reset,save"


def _figure(name: str, x: str, y: str, tools: str = TOOLS, **options: object) -> Figure:
    """Return an empty plot as wide as its place, with labelled axes."""
    from bokeh.plotting import figure

    options = {"height": 320, "sizing_mode": "stretch_width", "toolbar_location": "above"} | options
    plot = figure(name=name, x_axis_label=x, y_axis_label=y, tools=tools, **options)
    plot.toolbar.logo = None
    plot.toolbar.autohide = False
    return plot


def _source(name: str, data: Data) -> ColumnDataSource:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(dict(data), name=name)


def field_plot(sources: ColumnDataSource, url: str | None, box: tuple[float, float], *, east: bool) -> Figure:
    """Return the picture of the field with its sources.

    Parameters
    ----------
    sources : `~bokeh.models.ColumnDataSource`
    url : str or None
        Of the picture; without it there are the sources alone.
    box : tuple of float
        Width and height in arcmin, around 0.
    east : bool
        East is left, so that the ticks of x change sign.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    from bokeh.models import CustomJSTickFormatter, HoverTool, Range1d, TapTool, WheelZoomTool

    width, height = box
    words = ("east", "north") if east else ("along x", "along y")
    plot = _figure(
        "field",
        f"{words[0]} of the centre (arcmin)",
        f"{words[1]} of the centre (arcmin)",
        tools="pan,box_zoom,reset,save",
        x_range=Range1d(-width / 2, width / 2),
        y_range=Range1d(-height / 2, height / 2),
        height=None,
        sizing_mode="scale_width",
        aspect_ratio=float(np.clip(width / height, 0.7, 2)),
        match_aspect=True,
    )
    if url is not None:
        picture = _source("picture", {"url": [url]})
        plot.image_url("url", x=-width / 2, y=height / 2, w=width, h=height, source=picture, level="image")
    if east:
        plot.xaxis.formatter = CustomJSTickFormatter(
            code="return String(Number((-tick).toPrecision(6))).replace('-', '\u2212')"
        )
    # The picture is dark on a light page too.
    colour = ORANGE if url is None else "white"
    style = {"fill_alpha": 0, "line_color": colour, "line_alpha": 0.55, "source": sources}
    style |= {"nonselection_line_alpha": 0.55, "nonselection_fill_alpha": 0, "selection_fill_alpha": 0}
    style |= {"selection_line_alpha": 0, "name": "outlines"}
    if len(sources.data["id"]) > MANY:
        outlines = plot.circle("fx", "fy", radius="fr", line_width=0.6, **style)
    else:
        outlines = plot.ellipse("fx", "fy", width="fw", height="fh", angle="angle", **style)
    # Seen at every zoom.
    chosen = _source("chosen", {"x": [], "y": []})
    plot.scatter("x", "y", size=16, fill_alpha=0, line_color="#56B4E9", line_width=2.5, source=chosen)
    tips = [("source", "@id"), ("AB mag", "@mag{0.00}"), ("S/N", "@snr{0.0}")]
    plot.add_tools(HoverTool(renderers=[outlines], tooltips=tips), TapTool(renderers=[outlines]))
    wheel = WheelZoomTool()
    plot.add_tools(wheel)
    plot.toolbar.active_scroll = None
    plot.grid.visible = False
    return plot


def source_table(sources: ColumnDataSource) -> DataTable:
    """Return the table of sources; the filter named ``found`` says which rows are shown.

    Parameters
    ----------
    sources : `~bokeh.models.ColumnDataSource`

    Returns
    -------
    `~bokeh.models.DataTable`
    """
    from bokeh.models import CDSView, DataTable, IndexFilter, NumberFormatter, TableColumn

    def column(field: str, title: str, width: int, format: str | None = None) -> TableColumn:
        style = (
            {} if format is None else {"formatter": NumberFormatter(format=format, nan_format="-", text_align="right")}
        )
        return TableColumn(field=field, title=title, width=width, **style)

    columns = [
        column("id", "id", 56, "0"),
        column("mag", "AB mag", 64, "0.00"),
        column("snr", "S/N", 64, "0.0"),
        column("radius", "r50 (″)", 58, "0.00"),
        column("share", "neigh. (%)", 76, "0.0"),
        column("ra", "RA (deg)", 92, "0.000000"),
        column("dec", "Dec (deg)", 92, "0.000000"),
        column("words", "flags", 360),
    ]
    found = IndexFilter(indices=list(range(len(sources.data["id"]))), name="found")
    return DataTable(
        name="table",
        source=sources,
        view=CDSView(filter=found),
        columns=columns,
        index_position=None,
        reorderable=False,
        autosize_mode="none",
        sizing_mode="stretch_width",
        height=430,
        row_height=26,
        stylesheets=[TABLE_STYLE],
    )


# The colours of the page, which reach into the shadow root of the table as variables.
TABLE_STYLE = """
:host { --bokeh-font-family: inherit; font-size: 13px; }
.slick-header-columns, .slick-header-column { background: var(--raised) !important; color: var(--ink); }
.slick-header-column { border-color: var(--line) !important; font-weight: 600; }
.slick-cell { color: var(--ink); border-color: var(--line) !important; background: transparent; }
.slick-row { background: var(--ground) !important; }
.slick-row.odd { background: var(--raised) !important; }
.slick-row:hover .slick-cell { background: var(--hover); }
.slick-cell.selected, .bk-cell-selected { background: var(--chosen) !important; }
.slick-cell.active { outline: 2px solid var(--accent); outline-offset: -2px; border-color: transparent; }
"""


def spectrum_plot() -> Figure:
    """Return the spectrum of the chosen source: fluxes with errors, and 3-sigma limits.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    from bokeh.models import Whisker

    plot = _figure("spectrum", "wavelength (µm)", "flux (µJy)", x_axis_type="log", y_axis_type="log", height=300)
    points = _source("spectrum points", {"x": [], "y": [], "low": [], "high": [], "band": []})
    limits = _source("spectrum limits", {"x": [], "y": [], "band": []})
    whisker = Whisker(
        base="x", lower="low", upper="high", source=points, line_color=BLUE, line_width=1.5, level="glyph"
    )
    whisker.upper_head.line_color = whisker.lower_head.line_color = BLUE
    plot.add_layout(whisker)
    tips = [("band", "@band"), ("µJy", "@y{0.0000}")]
    plot.scatter("x", "y", size=8, color=BLUE, source=points)
    plot.scatter(
        "x", "y", size=11, marker="inverted_triangle", color=ORANGE, fill_alpha=0, line_width=1.5, source=limits
    )
    _add_hover(plot, tips)
    plot.x_range.range_padding, plot.y_range.range_padding = 0.15, 0.25
    return _plain_ticks(plot)


def growth_plot() -> Figure:
    """Return the curves of growth of the chosen source: flux in its circles over that in the largest.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    plot = _figure("growth", "aperture diameter (″)", "flux in the circle (µJy)", height=300)
    curves = _source("growth curves", {"x": [], "y": [], "colour": [], "band": []})
    points = _source("growth points", {"x": [], "y": [], "x0": [], "low": [], "high": [], "colour": [], "band": []})
    plot.multi_line("x", "y", color="colour", line_width=1.5, source=curves)
    plot.segment("x", "low", "x", "high", color="colour", source=points)
    plot.scatter("x", "y", size=6, color="colour", source=points)
    _add_hover(plot, [("band", "@band"), ("diameter", "@x{0.00}″"), ("µJy", "@y{0.0000}")])
    return plot


def epochs_plot(bands: Sequence[str]) -> Figure:
    """Return the time line of the chosen source: from its first exposure to its last in each band, visits, their mean.

    Parameters
    ----------
    bands : sequence of str
        From above.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    height = 110 + 30 * len(bands)
    plot = _figure("epochs", "date (UTC)", "", x_axis_type="datetime", y_range=list(reversed(bands)), height=height)
    spans = _source("epochs spans", {"band": [], "first": [], "mean": [], "last": [], "dot": [], "note": []})
    visits = _source("epochs visits", {"band": [], "time": [], "size": [], "note": []})
    plot.segment("first", "band", "last", "band", line_width=4, line_alpha=0.5, color=BLUE, source=spans)
    for end in ("first", "last"):  # a bar as thick as the line where there are visits
        plot.scatter(end, "band", size="dot", color=BLUE, source=spans)
    style = {"marker": "dash", "angle": np.pi / 2, "color": BLUE, "line_width": 2, "line_alpha": 0.8}
    plot.scatter("time", "band", size="size", source=visits, **style)
    plot.scatter("mean", "band", size=9, marker="diamond", color=ORANGE, source=spans)
    _add_hover(plot, [("band", "@band"), ("", "@note")])
    plot.ygrid.visible = False
    plot.xaxis.ticker.desired_num_ticks = 4
    return plot


def counts_plot(counts: Counts) -> Figure:
    """Return number counts with their Poisson errors.

    Parameters
    ----------
    counts : Counts

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    seen = counts.number > 0
    middle, density, error = (each[seen] for each in (counts.edges + 0.25, counts.density, counts.error))
    low = np.maximum(density - error, density / 3)  # of a single source it is 0, which no logarithm has
    # Over less than two decades ticks are at equal steps, and those at the top lie on each other.
    top = 1.3 * float((density + error).max())
    scale = (min(float(low.min()) / 1.3, top / 150), top)
    plot = _figure("counts", "AB mag of the Kron aperture", "sources / mag / arcmin²", y_axis_type="log", y_range=scale)
    data = {"x": middle, "y": density, "low": low, "high": density + error, "n": counts.number[seen]}
    source = _source("counts points", data)
    plot.segment("x", "low", "x", "high", color=BLUE, source=source)
    plot.scatter("x", "y", size=8, color=BLUE, source=source)
    _add_hover(plot, [("mag", "@x{0.00}"), ("sources", "@n")])
    return _plain_ticks(plot, x=False)


def errors_plot(diameter: float) -> Figure:
    """Return errors against fluxes in the chosen band, with the photons of the source and without.

    Parameters
    ----------
    diameter : float
        Of the circle, arcsec.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    circle = f"{diameter:.2f}″ aperture (µJy)"
    plot = _figure("errors", f"flux in the {circle}", f"error in the {circle}", x_axis_type="log", y_axis_type="log")
    source = _source("errors points", {"flux": [], "error": [], "empty": [], "id": []})
    plot.scatter("flux", "empty", size=5, marker="triangle", color=ORANGE, alpha=0.6, source=source)  # fmt: skip
    plot.scatter("flux", "error", size=5, color=BLUE, alpha=0.6, source=source)
    _add_hover(plot, [("source", "@id"), ("flux", "@flux{0.0000}"), ("error", "@error{0.0000}")])
    return _plain_ticks(plot)


def factor_plot() -> Figure:
    """Return a(r) of the depth zones of the chosen band, with sampling errors; open where it is extrapolated.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    plot = _figure("factor", "aperture radius (″)", "a(r)", x_axis_type="log")
    curves = _source("factor curves", {"x": [], "y": [], "colour": [], "zone": []})
    points = _source("factor points", {"x": [], "y": [], "low": [], "high": [], "colour": [], "fill": [], "zone": []})
    plot.multi_line("x", "y", color="colour", line_width=1.5, source=curves)
    plot.segment("x", "low", "x", "high", color="colour", source=points)
    plot.scatter("x", "y", size=7, color="colour", fill_alpha="fill", source=points)
    _add_hover(plot, [("", "@zone"), ("radius", "@x{0.00}″"), ("a(r)", "@y{0.00}")])
    return _mark_radii(plot)


def matching_plot() -> Figure:
    """Return by how much the curve of growth of the chosen band, brought to the PSF of all, is off the target's.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    plot = _figure("matching", "radius (″)", "matched / target - 1 (%)", x_axis_type="log")
    curves = _source("matching curves", {"x": [], "y": []})
    plot.multi_line("x", "y", color=BLUE, line_width=1.5, source=curves)
    return _mark_radii(plot)


def depth_plot(maps: Data, box: tuple[float, float]) -> Figure:
    """Return the map of depth of the chosen band.

    Parameters
    ----------
    maps : mapping
        ``image x y dw dh``, in arcmin, a row for each band.
    box : tuple of float
        As for :func:`field_plot`.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    from bokeh.models import BasicTicker, CDSView, ColorBar, IndexFilter, LinearColorMapper, Range1d

    width, height = box
    plot = _figure(
        "depth",
        "",
        "",
        x_range=Range1d(-width / 2, width / 2),
        y_range=Range1d(-height / 2, height / 2),
        height=None,
        sizing_mode="scale_width",
        aspect_ratio=float(np.clip(width / height, 0.9, 2.5)),
        match_aspect=True,
    )
    mapper = LinearColorMapper(palette="Viridis256", low=0, high=1, nan_color="rgba(0,0,0,0)", name="depth colours")
    view = CDSView(filter=IndexFilter(indices=[0], name="depth shown"))
    plot.image("image", x="x", y="y", dw="dw", dh="dh", color_mapper=mapper, source=_source("depths", maps), view=view)
    words = {"major_label_text_color": "#828c96", "background_fill_alpha": 0}  # read on light and on dark ground
    words |= {"major_label_text_font_size": "12px", "title": "AB mag", "title_text_color": "#828c96"}
    ticks = BasicTicker(desired_num_ticks=5)
    bar = ColorBar(color_mapper=mapper, height=12, padding=4, ticker=ticks, title_standoff=4, name="depth bar", **words)
    plot.add_layout(bar, "below")
    plot.axis.visible = plot.grid.visible = False
    _add_hover(plot, [("5-sigma limit", "@image{0.00}")])
    return plot


def completeness_plot(bins: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Return the completeness in bins of magnitude.

    Parameters
    ----------
    bins : mapping of str to ndarray
        As from `dja_photplug.reports.summaries.read_completeness`.

    Returns
    -------
    `~bokeh.plotting.figure`
    """
    plot = _figure("completeness", "injected AB mag (total)", "completeness", y_range=(-0.02, 1.05))
    share, error = bins["completeness"], np.nan_to_num(bins["error"])
    ends = {"low": np.maximum(share - error, 0), "high": np.minimum(share + error, 1)}
    source = _source("completeness points", {"x": bins["mag"], "y": share, "n": bins["n"], **ends})
    plot.line("x", "y", color=BLUE, source=source)
    plot.segment("x", "low", "x", "high", color=BLUE, source=source)
    plot.scatter("x", "y", size=8, color=BLUE, source=source)
    _add_hover(plot, [("mag", "@x{0.00}"), ("completeness", "@y{0.00}"), ("injected", "@n")])
    return plot


def _add_hover(plot: Figure, tips: list[tuple[str, str]]) -> None:
    from bokeh.models import HoverTool

    plot.add_tools(HoverTool(tooltips=tips))


def _mark_radii(plot: Figure) -> Figure:
    """Mark few radii, which are told apart in a narrow plot."""
    from bokeh.models import FixedTicker

    _plain_ticks(plot, y=False).xaxis.ticker = FixedTicker(ticks=[0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    return plot


def _plain_ticks(plot: Figure, *, x: bool = True, y: bool = True) -> Figure:
    """Write the ticks of logarithmic axes as plain numbers."""
    from bokeh.models import CustomJSTickFormatter, LogTicker

    for axis in (plot.xaxis,) * x + (plot.yaxis,) * y:
        axis.ticker = LogTicker(mantissas=[1, 2, 5])
        axis.formatter = CustomJSTickFormatter(code="return String(Number(tick.toPrecision(3)))")
    return plot
