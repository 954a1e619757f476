"""Rows of a catalogue that exists already as sources: places, shapes, segments, and the grid of their angles."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

import numpy as np
import pluggy
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.catalog.columns import column_values, describe_missing
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import dress_table
from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import Source
from dja_photplug.files.pixels import read_grid
from dja_photplug.foreign.columns import CatalogColumns, read_ids, read_places, read_position, read_shapes
from dja_photplug.foreign.grids import GRID_PRECISION, find_scale, fit_grid, north_up
from dja_photplug.foreign.recognise import describe_motion
from dja_photplug.options.commands import ExtendOptions
from dja_photplug.options.run import Options
from dja_photplug.pipeline.images import find_source
from dja_photplug.sky.grid import pixel_positions
from dja_photplug.sources.detection import DETECTION_COLUMNS, Detection, regrid_sources
from dja_photplug.sources.segments import check_segments, read_segmentation

__all__ = ["read_rows"]

# What a detection says of a source; the other bits are those of its apertures, which every band has of its own.
DETECTION_FLAGS = (
    SourceFlag.DEBLENDED
    | SourceFlag.TRUNCATED
    | SourceFlag.DEBLEND_OVERFLOW
    | SourceFlag.SINGULAR
    | SourceFlag.NOT_DEBLENDED
    | SourceFlag.NOT_WINDOWED
)

# Rounder sources have no direction to speak of.
ROUND = 0.98


def read_rows(
    table: Table,
    given: CatalogColumns,
    first: Source,
    options: Options,
    extend: ExtendOptions,
    own: WCS | None,
    manager: pluggy.PluginManager,
) -> tuple[Detection, list[str]]:
    """Return the rows of a catalogue as sources, with their segments where these are given, and what is to be told.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The catalogue.
    given : CatalogColumns
        Which of its columns mean what.
    first : Source
        Whose WCS a segmentation takes that has none.
    options : Options
        ``detect.use_segmentation`` names the segments of its ids.
    extend : ExtendOptions
        ``like`` names an image on the grid of its angles.
    own : WCS or None
        The grid of the image that the catalogue was made on, where its file keeps it.
    manager : `pluggy.PluginManager`
        Asked for the image that its metadata name.

    Returns
    -------
    rows : Detection
        A source for each row, on the grid of the segments or else of the angles.
    notes : list of str
        What is not known of them, to be told as warnings.

    Raises
    ------
    PhotplugError
        For positions, shapes and segments that cannot be used.
    """
    position, places, path = read_position(table, given), read_places(table, given), options.detect.use_segmentation
    notes = describe_missing(position, "their fluxes are NaN, with the flag NOT_COVERED") + describe_motion(table)
    turned = own if extend.like is None else read_grid(extend.like).wcs
    labels, wcs, ids = None, None, np.arange(1, len(table) + 1)
    if path is not None:
        labels, wcs = read_segmentation(path)
        numbers = read_ids(table, given)
        if numbers is None:
            raise PhotplugError(
                f"{path}: the catalogue has no ids to match with segments; name their column with --id-column"
            )
        ids, wcs = numbers, wcs or _take_wcs(first, labels.shape, path)
    scale = find_scale(table, given.schema, position, places, turned, wcs)
    shapes, unknown = read_shapes(table, given, scale)
    notes += unknown
    if given.shape is not None and given.shape.zero == "north":
        turned = north_up(position)
    elif turned is None and wcs is None:
        turned, unknown = _find_grid(table.meta, position, places, shapes, manager)
        notes += unknown
    grid = wcs if turned is None else turned
    assert grid is not None
    sources = _make_sources(table, position, ids, grid, shapes)
    if labels is None or wcs is None:
        return Detection(sources=sources, segmentation=np.zeros((1, 1), np.int32), wcs=grid), notes
    if turned is not None:
        sources = regrid_sources(sources, turned, wcs)
    # Rows without a segment are on none; the labels of others would be cut to 32 bits.
    there, missing = check_segments(sources, labels, str(path))
    sources["id"][~there] = 0
    notes += [f"{missing}: their flux_iso is NaN"] if missing else []
    return Detection(sources=sources, segmentation=labels, wcs=wcs), notes


def _make_sources(
    table: Table, position: SkyCoord, ids: NDArray[np.int64], wcs: WCS, shapes: Mapping[str, NDArray[np.float64]]
) -> QTable:
    """Return what a `Detection` says of sources; NaN for shapes that the catalogue does not tell."""
    x, y = pixel_positions(wcs, position.icrs.ra.deg, position.icrs.dec.deg)
    flag = np.zeros(len(table), dtype=int)
    if "flag" in table.colnames and "KRONCIRC" in table.meta:  # ours
        flag = np.nan_to_num(column_values(table, "flag")).astype(int) & DETECTION_FLAGS
    columns = {
        "id": ids,
        "ra": position.icrs.ra.deg,
        "dec": position.icrs.dec.deg,
        "x": x,
        "y": y,
        **{name: shapes[name] for name in ("a", "b", "theta")},
        "npix": np.zeros(len(table), dtype=int),
        "flag": flag,
    }
    sources = dress_table(columns, DETECTION_COLUMNS)
    sources["kron_radius"] = shapes["kron_radius"]
    return sources


def _find_grid(
    meta: Mapping[str, object],
    position: SkyCoord,
    places: NDArray[np.float64] | None,
    shapes: Mapping[str, NDArray[np.float64]],
    manager: pluggy.PluginManager,
) -> tuple[WCS, list[str]]:
    """Return the grid that the angles of a catalogue are on, and what is told where nothing tells it.

    It is that of its INPUT, or of its x and y, or one with north up.
    """
    if not np.any(np.isfinite(shapes["theta"]) & (shapes["b"] < ROUND * shapes["a"])):
        return north_up(position), []
    source = _find_input(meta, manager)
    if source is not None:
        found = np.array(pixel_positions(source, position.icrs.ra.deg, position.icrs.dec.deg))
        # Of a cut-out the pixels are counted from its own corner.
        off = np.zeros(2) if places is None else found - places - np.nanmedian(found - places, axis=1)[:, None]
        if np.nanmedian(np.abs(off)) < GRID_PRECISION:
            return source, []
    fitted = fit_grid(places, position)
    if fitted is not None:
        return fitted, []
    unknown = (
        "the grid of the catalogue's angles theta is not known, so they are assumed to be counter-clockwise from west "
        "with north up; give an image on that grid with --like"
    )
    return north_up(position), [unknown]


def _find_input(meta: Mapping[str, object], manager: pluggy.PluginManager) -> WCS | None:
    """Return the grid of the image that a catalogue was detected on, where its metadata name one that is there."""
    text = meta.get("INPUT")
    for key, value in meta.items():
        if key.startswith("BAND_") and "DETECT" in meta:
            with contextlib.suppress(ValueError):  # a key of somebody else
                band = json.loads(str(value))
                if isinstance(band, dict) and band.get("band") == meta["DETECT"]:
                    text = band.get("INPUT", text)
    with contextlib.suppress(PhotplugError):  # not there any more
        grid = find_source(str(text), manager).grid() if text else None
        return None if grid is None else grid.wcs
    return None


def _take_wcs(first: Source, shape: tuple[int, ...], path: str) -> WCS:
    """Return the WCS of the first source for a segmentation of its shape that has none."""
    grid = first.grid()
    if grid is not None and grid.shape == shape:
        return grid.wcs
    found = f"{first} has {grid.shape}" if grid else f"that of {first} is not known before it is loaded"
    raise PhotplugError(
        f"{path}: the segmentation map of {shape} pixels (y, x) has no WCS, and {found}; give one with a WCS"
    )
