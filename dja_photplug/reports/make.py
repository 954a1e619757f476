"""From a catalogue to the file of its report: the mosaics are read once, one plane after the other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pluggy
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from tqdm import tqdm

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.figures.panels.pixels import block_mean, choose_colours
from dja_photplug.files.formats import REPORT_SUFFIXES
from dja_photplug.files.grammar import find_wavelength
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.foreign.columns import CatalogColumns
from dja_photplug.options.commands import ExtendOptions
from dja_photplug.outputs.whole import check_output, whole_file
from dja_photplug.pipeline.extend import find_columns
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.reports.mosaics import BandMosaic, Visits, find_mosaics, map_pixels, read_planes, read_visits
from dja_photplug.reports.page import Views, render_page, require_bokeh
from dja_photplug.reports.pictures import FIELD_SIDE, PIXEL_BYTES, Tiles, cut_labels, cut_tiles, draw_field
from dja_photplug.reports.reading import Contents, read_contents
from dja_photplug.reports.summaries import count_sources, describe_origin, map_depth, read_completeness
from dja_photplug.sky.nesting import regrid_labels
from dja_photplug.sources.segments import read_segmentation

__all__ = ["report"]

Labels = tuple[NDArray[np.int32], WCS | None]

MOST_BYTES = 60e6
OTHERS = 3e6  # bytes of the library and the plots
MOST_VISITS = 12e6  # bytes of the visits of sources
SOURCE_BYTES = 120.0  # of a source, and as many of it in each band: a third of them as base64


def report(
    catalog: Result | Table | str | Path,
    path: str | Path,
    *,
    mosaics: str | Path | None = None,
    segmentation: str | Path | None = None,
    completeness: str | Path | None = None,
    columns: CatalogColumns | None = None,
    manager: pluggy.PluginManager | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the report of a catalogue: one page to look at it with, that needs no network.

    Parameters
    ----------
    catalog : Result, Table, str or Path
        What `run` returned, its catalogue, or a file; one of others gives its positions and fluxes.
    path : str or Path
        Ends in ``.html``.
    mosaics : str or Path, optional
        The folder that the mosaics are in now; by default where the metadata of the catalogue say.
    segmentation : str or Path, optional
        Labels by ``id``, whose edges are drawn; by default those of the result of `run`.
    completeness : str or Path, optional
        The table of ``inject -o``.
    columns : CatalogColumns, optional
        Which columns of the catalogue are used; found by default.
    manager : PluginManager, optional
        All plugins by default.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`. Below 60 MB: of too many pixels, stamps show means of 2 x 2 or more. The page says what is not there.

    Warns
    -----
    PhotplugWarning
        For each thing that is missing, such as mosaics that have moved.

    Raises
    ------
    PhotplugError
        Without bokeh; where the catalogue has no sources or positions, or a file cannot be read or written.
    """
    require_bokeh()
    path = check_output(Path(path), overwrite=overwrite, suffixes=REPORT_SUFFIXES)
    given = _read_inputs(catalog, path.stem, segmentation, completeness)
    folder = None if mosaics is None else Path(mosaics)
    page, notes = _make_page(given, columns, folder, manager or get_plugin_manager(), progress=progress)
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, "utf-8")
    for note in notes:
        warnings.warn(f"{path}: {note}", PhotplugWarning, stacklevel=2)
    return path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Given:
    """What a report is made from; `inputs` are files by what they are."""

    table: Table
    title: str
    labels: Labels | None
    bins: Mapping[str, NDArray[np.float64]] | None
    inputs: Mapping[str, str]


def _read_inputs(
    catalog: Result | Table | str | Path,
    title: str,
    segmentation: str | Path | None,
    completeness: str | Path | None,
) -> _Given:
    inputs, bins = dict[str, str](), None
    labels = None if segmentation is None else read_segmentation(segmentation)
    if isinstance(catalog, Result):
        labels = labels or (catalog.detection.segmentation, catalog.detection.wcs)
        catalog = catalog.catalog
    if not isinstance(catalog, Table):
        inputs["catalogue"], title = str(catalog), Path(catalog).name
        catalog = read_catalog(catalog)
    if segmentation is not None:
        inputs["segmentation"] = str(segmentation)
    if completeness is not None:
        bins = read_completeness(read_catalog(completeness), str(completeness))
        inputs["completeness"] = str(completeness)
    return _Given(table=catalog, title=title, labels=labels, bins=bins, inputs=inputs)


def _make_page(
    given: _Given,
    columns: CatalogColumns | None,
    folder: Path | None,
    manager: pluggy.PluginManager,
    *,
    progress: bool,
) -> tuple[str, list[str]]:
    """Return the page, and what is not there."""
    contents = read_contents(given.table, columns or find_columns(given.table, ExtendOptions(), manager))
    found, notes = find_mosaics(contents, folder, manager)
    visits, more = _read_visits(contents, found, manager)
    views = _look(contents, found, given, visits, manager, progress=progress)
    notes = [*contents.notes, *notes, *more]
    origin = describe_origin(contents, views.mosaics, given.inputs)
    completeness = given.inputs.get("completeness", "")
    return render_page(contents, views, title=given.title, notes=notes, origin=origin, injected=completeness), notes


def _read_visits(
    contents: Contents, found: Sequence[BandMosaic], manager: pluggy.PluginManager
) -> tuple[dict[str, Visits], list[str]]:
    """Return the visits of the sources by band, and which bands have too many or none that can be read."""
    visits, notes, size = dict[str, Visits](), list[str](), 0
    with_epochs = {band.name for band in contents.bands if band.epochs is not None}
    for mosaic in found:
        if mosaic.band not in with_epochs:
            continue
        try:
            one = read_visits(mosaic, contents, manager)
        except PhotplugError as error:
            notes.append(f"{mosaic.label} has no visits on its time line: {error}")
            continue
        if one is not None and size + one.size > MOST_VISITS:
            notes.append(
                f"{mosaic.label} has no visits on its time line: with its {len(one.visit)} the page is too large"
            )
        elif one is not None:
            visits[mosaic.band], size = one, size + one.size
    return visits, notes


def _look(
    contents: Contents,
    found: Sequence[BandMosaic],
    given: _Given,
    visits: Mapping[str, Visits],
    manager: pluggy.PluginManager,
    *,
    progress: bool,
) -> Views:
    """Return what is seen of the mosaics, of which one plane is in memory at a time."""
    if not found:
        area = _area_of_box(contents)
        words = f"over the {area:.2f} arcmin² of the box around the sources"
        return Views(
            mosaics={},
            tiles={},
            depths={},
            visits=visits,
            counts=count_sources(contents.mag, area),
            completeness=given.bins,
            area=words,
        )
    field = max(found, key=lambda mosaic: mosaic.scale)
    used = sum(each.size for each in visits.values())
    step, coarse = _choose_step(contents, found, used), -(-max(field.shape) // FIELD_SIDE)
    bands = {band.name: band for band in contents.bands}
    colours = choose_colours({mosaic.band: find_wavelength(mosaic.label, mosaic.header) for mosaic in found})
    tiles, depths, parts = dict[str, Tiles](), {}, {}
    detected = [mosaic for mosaic in found if mosaic.band == contents.meta.get("DETECT")] or found  # or their stack
    covered = np.zeros([-(-n // coarse) for n in field.shape])
    for mosaic in tqdm(found, desc="mosaics", disable=None if progress else True):
        planes = read_planes(mosaic, manager)
        science = next(planes)
        tiles[mosaic.band] = cut_tiles(science, step)
        if mosaic.band in colours:
            parts[mosaic.band] = _sample_field(science, field, mosaic, coarse)
        del science
        band = bands.get(mosaic.band)
        diameter = float(contents.diameters[contents.reference]) if band and len(contents.diameters) else 1.0
        weight = next(planes)
        depth = map_depth(weight, mosaic, band.calibration if band else None, diameter)
        if band is not None and np.isfinite(depth).any():
            depths[mosaic.band] = depth
        if mosaic in detected:
            covered = np.fmax(covered, _sample_field((weight > 0).view(np.uint8), field, mosaic, coarse))
        del weight
    area = float(np.mean(covered)) * np.prod(field.shape) * (field.scale / 60) ** 2
    return Views(
        field=field,
        mosaics={mosaic.band: mosaic for mosaic in found},
        tiles=tiles,
        depths=depths,
        picture=draw_field({band: parts[band] for band in colours}, coarse),
        labels=None if given.labels is None else cut_labels(_cut_field(*given.labels, field), step),
        visits=visits,
        counts=count_sources(contents.mag, area),
        completeness=given.bins,
        area=f"over {area:.2f} arcmin²",
    )


def _area_of_box(contents: Contents) -> float:
    """Return the area of the box around the sources, square arcmin."""
    ra = (contents.ra - np.nanmedian(contents.ra) + 180) % 360 - 180
    width, height = (float(np.nanmax(each) - np.nanmin(each)) for each in (ra, contents.dec))
    return max(width * height * float(np.cos(np.radians(np.nanmedian(contents.dec)))) * 3600, 1e-6)


def _choose_step(contents: Contents, found: Sequence[BandMosaic], used: float) -> int:
    """Return how many pixels along a side are one on the page, so that it stays below `MOST_BYTES`."""
    rest = MOST_BYTES - OTHERS - used - len(contents.ids) * SOURCE_BYTES * (1 + len(contents.bands))
    pixels = sum(float(np.prod(mosaic.shape)) for mosaic in found)
    return int(np.ceil(np.sqrt(PIXEL_BYTES * pixels / max(rest, 5e6))))


def _sample_field(pixels: NDArray[np.number], field: BandMosaic, mosaic: BandMosaic, step: int) -> NDArray[np.float32]:
    """Return a plane of a band on the coarse pixels of the field, the means of step x step; NaN off the band."""
    own = max(1, round(step * field.scale / mosaic.scale))
    means = block_mean(pixels, own).astype(np.float32)
    x0, xx, xy, y0, yx, yy = map_pixels(field, mosaic)
    rows, columns = (np.arange(-(-n // step)) * step + (step - 1) / 2 for n in field.shape)
    x = x0 + xx * columns + xy * rows[:, None]
    y = y0 + yx * columns + yy * rows[:, None]
    place = [np.floor((each + 0.5) / own).astype(int) for each in (y, x)]
    inside = np.all([(each >= 0) & (each < n) for each, n in zip(place, means.shape, strict=True)], axis=0)
    place = [np.clip(each, 0, n - 1) for each, n in zip(place, means.shape, strict=True)]
    return np.where(inside, means[place[0], place[1]], np.float32(np.nan))


def _cut_field(labels: NDArray[np.int32], wcs: WCS | None, field: BandMosaic) -> NDArray[np.int32]:
    """Return the labels of a segmentation on the part of the field that is shown."""
    if wcs is not None:
        labels = regrid_labels(labels, wcs, field.grid.wcs, field.grid.shape)
    elif labels.shape != field.grid.shape:
        raise PhotplugError(
            f"the segmentation map of {labels.shape} pixels (y, x) has no WCS, and {field.source} has "
            f"{field.grid.shape}; give one with a WCS"
        )
    return labels[field.window]
