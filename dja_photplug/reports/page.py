"""The page of a report: its data, its plots and its template in one file that needs no network."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError
from dja_photplug.figures.panels.pixels import name_colours
from dja_photplug.figures.style import PALETTE
from dja_photplug.files.grammar import find_wavelength, name_field
from dja_photplug.reports import plots
from dja_photplug.reports.mosaics import BandMosaic, Visits, map_pixels
from dja_photplug.reports.pictures import Picture, Tiles
from dja_photplug.reports.reading import BandData, Contents
from dja_photplug.reports.summaries import Counts, list_zones

if TYPE_CHECKING:
    from bokeh.model import Model
    from bokeh.models import ColumnDataSource

__all__ = ["Views", "render_page", "require_bokeh"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """What is seen of the mosaics; all of it may be missing.

    Attributes
    ----------
    field : BandMosaic or None
        The mosaic on whose pixels the field is drawn.
    mosaics : mapping of str to BandMosaic
        By band.
    tiles : mapping of str to Tiles
        By band.
    depths : mapping of str to ndarray
        Maps of depth, AB, by band.
    visits : mapping of str to Visits
        By band.
    picture : Picture or None
    labels : Tiles or None
        On the pixels of `field`.
    counts : Counts or None
    completeness : dict or None
    area : str
        In words.
    """

    mosaics: Mapping[str, BandMosaic]
    tiles: Mapping[str, Tiles]
    depths: Mapping[str, NDArray[np.float32]]
    visits: Mapping[str, Visits]
    field: BandMosaic | None = None
    picture: Picture | None = None
    labels: Tiles | None = None
    counts: Counts | None = None
    completeness: Mapping[str, Floats] | None = None
    area: str = ""


def require_bokeh() -> None:
    """Refuse to go on without bokeh, and tell how to install it.

    Raises
    ------
    PhotplugError
        Where it is missing.
    """
    if find_spec("bokeh") is None:
        raise PhotplugError('reports need bokeh, which is not installed; pip install "dja_photplug[report]"')


def render_page(
    contents: Contents,
    views: Views,
    *,
    title: str,
    notes: Sequence[str],
    origin: Sequence[tuple[str, list[tuple[str, str]]]],
    injected: str,
) -> str:
    """Return the page.

    Parameters
    ----------
    contents : Contents
    views : Views
    title : str
    notes : sequence of str
        What is not there, shown at the top.
    origin : sequence of tuple
        As from `dja_photplug.reports.summaries.describe_origin`.
    injected : str
        Where the completeness is from.

    Returns
    -------
    str
        HTML.
    """
    from bokeh.document import Document
    from bokeh.embed import file_html
    from bokeh.resources import Resources
    from jinja2 import Environment

    place = _place_sources(contents, views)
    roots = _make_plots(contents, views, _fill_sources(contents, place), place)
    document = Document(title=title)
    for plot in roots.values():
        document.add_root(plot)
    told = {"notes": list(notes), "origin": list(origin), "injected": injected, "roots_by_name": list(roots)}
    variables = _fill_template(contents, views) | told
    template = Environment(trim_blocks=True).from_string(_read_part("report.html"))
    return file_html(
        document, Resources(mode="inline", log_level="error"), title, template=template, template_variables=variables
    )


def _read_part(name: str) -> str:
    return (files("dja_photplug.reports") / "template" / name).read_text("utf-8")


def _fill_template(contents: Contents, views: Views) -> dict[str, object]:
    """Return what the template takes of catalogue and mosaics."""
    return {
        "css": _read_part("report.css"),
        "script": _read_part("report.js"),
        "data": json.dumps(_describe(contents, views), allow_nan=False).replace("</", "<\\/"),
        "subtitle": _subtitle(contents, views),
        "picture": _describe_picture(views),
        "has_tiles": bool(views.tiles),
        "outline": "Kron aperture" if contents.bands else "circle of 0.5″ radius",
        "has_labels": views.labels is not None,
        "has_bands": bool(contents.bands),
        "has_visits": bool(views.visits),
        "spectrum": contents.spectrum[:1].upper() + contents.spectrum[1:],
        "circle": f"{contents.diameters[contents.reference]:.2f}" if len(contents.diameters) else "",
        "area": views.area,
        "limits": _describe_limits(views),
        "licence": _read_licence(),
    }


def _place_sources(contents: Contents, views: Views) -> tuple[Floats, Floats, float, tuple[float, float]]:
    """Return x and y of the sources in pixels of the field, arcsec of a pixel, and the size of the field in arcmin.

    Without a mosaic the pixels are 0.1 arcsec, north up.
    """
    if views.field is not None:
        x, y = views.field.place(contents.ra, contents.dec)
        scale, (ny, nx) = views.field.scale, views.field.shape
    else:
        scale = 0.1
        ra = (contents.ra - np.nanmedian(contents.ra) + 180) % 360 - 180
        x = -ra * np.cos(np.radians(contents.dec)) * 3600 / scale
        y = contents.dec * 3600 / scale
        x, y = x - np.nanmin(x) + 60, y - np.nanmin(y) + 60
        nx, ny = round(np.nanmax(x)) + 60, round(np.nanmax(y)) + 60
    return x, y, scale, (nx * scale / 60, ny * scale / 60)


def _is_north_up(views: Views) -> bool:
    """Return whether north is up and east left to a degree, so that the axes may say so."""
    if views.field is None:
        return True
    matrix = views.field.grid.wcs.pixel_scale_matrix
    scale = np.sqrt(abs(np.linalg.det(matrix)))
    return bool(np.allclose(matrix / scale, [[-1, 0], [0, 1]], atol=0.02))


def _fill_sources(contents: Contents, place: tuple[Floats, Floats, float, tuple[float, float]]) -> ColumnDataSource:
    """Return all that is known of each source; the columns of a band begin with its number."""
    from bokeh.models import ColumnDataSource

    x, y, scale, box = place
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = contents.flux / contents.error
    share = _choose_share(contents)
    kinds, first = np.unique(contents.flag, return_inverse=True)
    words = np.array([", ".join(_flag_words(int(kind))) for kind in kinds], object)[first]
    data = {
        "id": contents.ids.astype(np.int32),
        "ra": contents.ra,
        "dec": contents.dec,
        "flag": contents.flag.astype(np.int32),
        "words": list(words),
        "fx": (x + 0.5) * scale / 60 - box[0] / 2,
        "fy": (y + 0.5) * scale / 60 - box[1] / 2,
        "fw": _single(2 * contents.major / 60),
        "fh": _single(2 * contents.minor / 60),
        "fr": _single(np.sqrt(contents.major * contents.minor) / 60),
        "angle": _single(np.radians(contents.theta)),
        "share": _single(100 * share),
    }
    singles = {"x": x, "y": y, "snr": snr, "mag": contents.mag, "radius": contents.radius}
    singles |= {"major": contents.major, "minor": contents.minor, "theta": contents.theta}
    data |= {name: _single(values) for name, values in singles.items()}
    for i, band in enumerate(contents.bands):
        data |= {f"{i}.{name}": _single(values) for name, values in _band_columns(band).items()}
    return ColumnDataSource(data, name="sources")


def _choose_share(contents: Contents) -> Floats:
    """Return the share of neighbours' light in the reference circle of the band that each source is brightest in."""
    rows = [(band.share[contents.reference], band.flux / band.error) for band in contents.bands if len(band.share)]
    if not rows:
        return np.full(len(contents.ids), np.nan)
    shares, significance = (np.array(each) for each in zip(*rows, strict=True))
    best = np.argmax(np.nan_to_num(significance, nan=-np.inf), axis=0)
    return np.asarray(shares[best, np.arange(len(best))], dtype=np.float64)


def _single(values: Floats) -> NDArray[np.float32]:
    """Return numbers in half of the space; 0.02 pixels and 6 minutes are nothing that is seen."""
    return np.asarray(values, np.float32)


def _flag_words(flag: int) -> list[str]:
    return [str(one.name).lower().replace("_", " ") for one in SourceFlag if one & flag]


def _band_columns(band: BandData) -> dict[str, Floats]:
    """Return the columns of a band, by the short names that the script knows."""
    columns = {"f": band.flux, "e": band.error}
    circles = {"a": band.aperture_flux, "e": band.aperture_error, "m": band.empty_error, "c": band.share}
    for name, rows in circles.items():
        columns |= {f"{name}{k}": row for k, row in enumerate(rows) if np.isfinite(row).any()}
    if band.epochs is not None:
        times = band.epochs
        columns |= {"n": times.n_exp, "s": times.exptime, "t0": times.first, "t1": times.mean, "t2": times.last}
    return columns


def _make_plots(
    contents: Contents,
    views: Views,
    sources: ColumnDataSource,
    place: tuple[Floats, Floats, float, tuple[float, float]],
) -> dict[str, Model]:
    """Return the plots that there are data for, by name."""
    url, box = (None if views.picture is None else views.picture.url), place[3]
    roots: dict[str, Model] = {
        "field": plots.field_plot(sources, url, box, east=_is_north_up(views)),
        "table": plots.source_table(sources),
    }
    bands, circles = contents.bands, len(contents.diameters)
    if sum(np.isfinite(_wavelength(band, views)) for band in bands) > 1:
        roots["spectrum"] = plots.spectrum_plot()
    if bands and circles > 1:
        roots["growth"] = plots.growth_plot()
    ordered = [bands[i] for i in _order(contents, views)]
    if dated := [_label(band, views) for band in ordered if band.epochs is not None]:
        roots["epochs"] = plots.epochs_plot(dated)
    if bands and circles:
        diameter = float(contents.diameters[contents.reference])
        roots["errors"] = plots.errors_plot(diameter)
        if any(band.calibration is not None and band.calibration.known for band in bands):
            roots["factor"] = plots.factor_plot()
        if any("MATCHRES" in band.meta for band in bands):
            roots["matching"] = plots.matching_plot()
        if views.depths:
            roots["depth"] = plots.depth_plot(_fill_maps(views), box)
    if views.counts is not None:
        roots["counts"] = plots.counts_plot(views.counts)
    if views.completeness is not None:
        roots["completeness"] = plots.completeness_plot(views.completeness)
    return roots


def _fill_maps(views: Views) -> dict[str, list[object]]:
    """Return the maps of depth with their places in arcmin, a row for each band."""
    maps: dict[str, list[object]] = {name: [] for name in ("image", "x", "y", "dw", "dh")}
    for band, depth in views.depths.items():
        mosaic = views.mosaics[band]
        height, width = (n * mosaic.scale / 60 for n in mosaic.shape)
        row = {"image": depth, "x": -width / 2, "y": -height / 2, "dw": width, "dh": height}
        for name, value in row.items():
            maps[name].append(value)
    return maps


def _label(band: BandData, views: Views) -> str:
    return band.name or (views.mosaics[""].label if "" in views.mosaics else "flux")


def _wavelength(band: BandData, views: Views) -> float:
    mosaic = views.mosaics.get(band.name)
    return find_wavelength(_label(band, views), None if mosaic is None else mosaic.header)


def _order(contents: Contents, views: Views) -> list[int]:
    """Return the numbers of the bands by their wavelengths, unknown ones last."""
    waves = [_wavelength(band, views) for band in contents.bands]
    return sorted(range(len(waves)), key=lambda i: (np.nan_to_num(waves[i], nan=np.inf), i))


def _describe(contents: Contents, views: Views) -> dict[str, object]:
    """Return what the script of the page must know."""
    bands = [_describe_band(i, rank, contents, views) for rank, i in enumerate(_order(contents, views))]
    extra = [name for name in views.tiles if name not in [band.name for band in contents.bands]]
    bands += [
        {"key": None, "label": views.mosaics[name].label, "wavelength": None, **_show(name, views)} for name in extra
    ]
    snr = np.nan_to_num(contents.flux / np.where(contents.error > 0, contents.error, np.inf))
    clean = np.where(contents.flag & (SourceFlag.TRUNCATED | SourceFlag.SATURATED_CORE), -1, snr)
    return {
        "bands": bands,
        "diameters": contents.diameters.tolist(),
        "reference": contents.reference,
        "spectrum": contents.spectrum,
        "scale": None if views.field is None else views.field.scale,
        "labels": None if views.labels is None else _lay_tiles(views.labels),
        "flags": [[int(flag), flag.name, flag.description] for flag in SourceFlag] if contents.bands else [],
        # The one that is shown first is bright, and no star: the 10th of the brightest, of hundreds.
        "first": int(np.argsort(-clean, kind="stable")[min(9, len(clean) - 1)]),
    }


def _describe_band(i: int, rank: int, contents: Contents, views: Views) -> dict[str, object]:
    from bokeh.palettes import turbo

    band = contents.bands[i]
    wavelength, number = _wavelength(band, views), max(len(contents.bands) - 1, 1)
    depth = views.depths.get(band.name)
    return {
        "key": str(i),
        "label": _label(band, views),
        "wavelength": wavelength if np.isfinite(wavelength) else None,
        # The ends of the palette are too dark to be seen on dark ground.
        "colour": turbo(256)[round(30 + 195 * rank / number)],
        "map_row": None if depth is None else list(views.depths).index(band.name),
        "depths": None if depth is None else [float(each) for each in np.nanpercentile(depth, (2, 98))],
        **_draw_factor(band),
        "matching": _draw_matching(band),
        "visits": _lay_visits(views.visits.get(band.name)),
        **_show(band.name, views),
    }


def _lay_visits(visits: Visits | None) -> dict[str, object] | None:
    """Return the visits of all sources as base64 of little-endian numbers."""
    if visits is None:
        return None
    kinds = {"first": "<u4", "visit": "<u2", "day": "<f4", "seconds": "<f4"}
    texts = {
        name: b64encode(getattr(visits, name).astype(kind).tobytes()).decode("ascii") for name, kind in kinds.items()
    }
    return {"names": visits.names, "start": visits.start, **texts}


def _draw_factor(band: BandData) -> dict[str, dict[str, list[object]]]:
    """Return the curves and points of a(r), a colour for each zone."""
    curves: dict[str, list[object]] = {name: [] for name in ("x", "y", "colour", "zone")}
    points: dict[str, list[object]] = {name: [] for name in ("x", "y", "low", "high", "colour", "fill", "zone")}
    if band.calibration is not None:
        for k, (radius, factor, error, measured) in enumerate(list_zones(band.calibration)):
            colour, zone = PALETTE[k % len(PALETTE)], f"zone {k + 1}"
            row = {"x": radius.tolist(), "y": factor.tolist(), "colour": colour, "zone": zone}
            for name, value in row.items():
                curves[name].append(value)
            points["x"] += radius.tolist()
            points["y"] += factor.tolist()
            points["low"] += (factor - error).tolist()
            points["high"] += (factor + error).tolist()
            points["fill"] += measured.astype(float).tolist()
            points["colour"] += [colour] * len(radius)
            points["zone"] += [zone] * len(radius)
    return {"curves": curves, "points": points}


def _draw_matching(band: BandData) -> dict[str, list[object]]:
    """Return what is left of the matching of PSFs, per cent, for each kernel."""
    radius, residuals = band.meta.get("MATCHRAD"), band.meta.get("MATCHRES")
    if not isinstance(radius, list) or not isinstance(residuals, list):
        return {"x": [], "y": []}
    rows = residuals if isinstance(residuals[0], list) else [residuals]
    return {"x": [radius] * len(rows), "y": [[100 * value for value in row] for row in rows]}


def _show(name: str, views: Views) -> dict[str, object]:
    """Return the pixels of a band, and where those of the field are on them."""
    if name not in views.tiles or views.field is None:
        return {"tiles": None}
    mosaic = views.mosaics[name]
    return {"tiles": _lay_tiles(views.tiles[name]), "scale": mosaic.scale, "map": map_pixels(views.field, mosaic)}


def _lay_tiles(tiles: Tiles) -> dict[str, object]:
    return {"step": tiles.step, "shape": list(tiles.shape), "side": tiles.side, "kind": tiles.kind,
            "images": list(tiles.images)}  # fmt: skip


def _subtitle(contents: Contents, views: Views) -> str:
    names = [_label(band, views) for band in contents.bands]
    words = [name_field([str(band.meta.get("INPUT", "")) for band in contents.bands]), f"{len(contents.ids)} sources"]
    if names:
        words.append(f"{len(names)} band{'s' if len(names) > 1 else ''}: {', '.join(names)}")
    told = {"DETECT": "detected on", "NOISE": "noise preset"}
    words += [f"{text} {contents.meta[key]}" for key, text in told.items() if key in contents.meta]
    ra, dec = np.nanmedian(contents.ra), np.nanmedian(contents.dec)
    return " · ".join([*filter(None, words), f"around RA {ra:.4f} Dec {dec:.4f}"])


def _describe_picture(views: Views) -> str:
    if views.picture is None:
        return "No image; sources at their positions."
    text = name_colours([views.mosaics[band].label for band in views.picture.bands])
    fewer = f"; means of {views.picture.step} x {views.picture.step} pixels" if views.picture.step > 1 else ""
    return f"{text}{fewer}. Kron apertures are outlined; click one to see it below."


def _describe_limits(views: Views) -> str:
    """Return what the page does not hold of the pixels."""
    if not views.tiles:
        return ""
    coarse = {views.mosaics[name].label: tiles.step for name, tiles in views.tiles.items() if tiles.step > 1}
    each = set(coarse.values())
    text = "Images on this page are grey levels of 8 bits, compressed: to look at, not to measure."
    if coarse:
        steps = ", ".join(f"{name} {step} x {step}" for name, step in coarse.items())
        if len(coarse) == len(views.tiles) > len(each) == 1:
            steps = "{0} x {0} in all bands".format(*each)
        text += f" So that the page stays small, stamps show means of pixels: {steps}."
    return text


def _read_licence() -> str:
    from importlib.metadata import distribution

    for file in distribution("bokeh").files or []:
        if file.name == "LICENSE.txt":
            return file.read_text("utf-8")
    return "BSD-3-Clause, https://bokeh.org"
