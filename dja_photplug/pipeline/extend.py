"""Forced photometry and epochs at the positions of a catalogue that exists already."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pluggy
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, QTable, Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from tqdm import tqdm

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import (
    TOTAL_COLUMNS,
    describe_apertures,
    describe_removed,
    dress_table,
    epoch_columns,
)
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import Source
from dja_photplug.files.tables import add_columns, check_new, find_ids, find_positions
from dja_photplug.options.stages import EXTENSIONS, ExtendOptions, Options
from dja_photplug.pipeline.images import Products
from dja_photplug.pipeline.many_bands import (
    add_totals,
    compare_apertures,
    describe_bands,
    find_bands,
    kron_radii,
    measure_bands,
    name_columns,
    read_psfs,
)
from dja_photplug.pipeline.plugins import complete_options, get_plugin_manager
from dja_photplug.sources.detection import DETECTION_COLUMNS, Detection
from dja_photplug.sources.segments import check_segments, read_segmentation

__all__ = ["catalog_options", "extend_catalog", "measure_columns"]

# What a detection says of a source; the other bits are those of its apertures, which every band has of its own.
DETECTION_FLAGS = (
    SourceFlag.DEBLENDED
    | SourceFlag.TRUNCATED
    | SourceFlag.DEBLEND_OVERFLOW
    | SourceFlag.SINGULAR
    | SourceFlag.NOT_DEBLENDED
)

KRON_COLUMNS = ("flux_radius", "flux_auto", "fluxerr_auto", "mag_auto", "magerr_auto", "flag", "mask_frac")
SEGMENT_COLUMNS = ("flux_iso", "fluxerr_iso")


def catalog_options(table: Table, options: Options | None = None) -> Options:
    """Return options with the apertures of a catalogue.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Whose metadata tell diameters in arcsec, ``ASEC_0``, ``ASEC_1`` ...
    options : Options, optional
        The defaults without them.

    Returns
    -------
    Options
        As given where the metadata tell no apertures, or their numbers have gaps.

    Raises
    ------
    PhotplugError
        Where one of the diameters is no number.
    """
    options = options or Options()
    known = _known_apertures(table.meta)
    if list(known) != list(range(len(known))) or not known:
        return options
    return replace(options, measure=replace(options.measure, apertures=tuple(known.values())))


def _known_apertures(meta: Mapping[str, float]) -> dict[int, float]:
    """Return the diameters (arcsec) that metadata tell, by number."""
    numbers = _find_numbers("ASEC_", meta)
    try:
        return {i: float(meta[f"ASEC_{i}"]) for i in numbers}
    except (TypeError, ValueError) as error:
        raise PhotplugError(f"metadata ASEC_i of the catalogue: {error}; give aperture diameters in arcsec") from None


def _find_numbers(prefix: str, meta: Iterable[str]) -> list[int]:
    """Return the numbers of the keys that are `prefix` and a number, sorted."""
    numbers = (key.removeprefix(prefix) for key in meta if key.startswith(prefix))
    return sorted(int(number) for number in numbers if number.isdecimal())


def _number_apertures(known: Mapping[int, float], diameters: Sequence[float]) -> list[int]:
    """Return the number of each aperture in the catalogue: that of the same diameter, or the next one."""
    numbers, following = [], max(known, default=-1) + 1
    for diameter in diameters:
        same = [i for i, other in known.items() if np.isclose(other, diameter, rtol=1e-6, atol=0)]
        numbers.append(same[0] if same else following)
        following += not same
    return numbers


def extend_catalog(
    table: Table,
    sources: Sequence[Products],
    options: Options | None = None,
    *,
    extend: ExtendOptions | None = None,
    manager: pluggy.PluginManager | None = None,
    progress: bool = False,
) -> Table:
    """Measure the sources of a catalogue in more bands, or in more apertures, and add the columns to it.

    Parameters
    ----------
    table : `~astropy.table.Table`
        With positions. The shapes ``a b theta kron_radius`` of our catalogues make the Kron apertures; without them
        they are the circle of ``kron_circle``. It is not changed.
    sources : sequence of str, Path or Source
        One for each band: the prefix of a mosaic, a member file, what a plugin finds, or the source itself.
    options : Options, optional
        As for :func:`dja_photplug.run`; without them the apertures are those of the catalogue (`catalog_options`).
        With ``detect.use_segmentation`` the catalogue's ids are the labels of that segmentation; without it sources
        are detected on each band, for a(r) and for the neighbours.
    extend : ExtendOptions, optional
    manager : PluginManager, optional
        All plugins by default.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.

    Returns
    -------
    `~astropy.table.Table`
        Of the type of `table`: its rows, columns and metadata as they were, then the columns of each band after its
        name, as in a catalogue of several bands. Apertures keep the number of the same diameter in the catalogue
        (``ASEC_i``), others get new ones. Where the catalogue has ``flux_auto`` and ``flux_aper_i`` of its detection
        image, ``corr_i ecorr_i tot_i etot_i`` too. Off a mosaic fluxes are NaN, with the flag NOT_COVERED.

    Raises
    ------
    PhotplugError
        Where positions, ids, segmentation, PSF or mosaics do not allow it, or a column exists already.
    """
    extend = extend or ExtendOptions()
    columns, meta = measure_columns(table, sources, options, extend=extend, manager=manager, progress=progress)
    extended = add_columns(table, columns, overwrite=extend.overwrite_columns)
    extended.meta |= meta
    return extended


def measure_columns(
    table: Table,
    sources: Sequence[Products],
    options: Options | None,
    *,
    extend: ExtendOptions,
    manager: pluggy.PluginManager | None,
    progress: bool,
) -> tuple[dict[str, Column], dict[str, object]]:
    """Return the columns and the metadata that a catalogue gets.

    Parameters
    ----------
    table, sources, options, extend, manager, progress
        As for :func:`extend_catalog`.

    Returns
    -------
    columns : dict of str to `~astropy.table.Column`
        (n,), one value for each row of `table`, by the name with its band.
    meta : dict
        What its metadata lack: ``ASEC_i`` in arcsec, and ``BAND_i`` as JSON text.

    Raises
    ------
    PhotplugError
        As :func:`extend_catalog`.
    """
    manager = manager or get_plugin_manager()
    options = complete_options(options or catalog_options(table), manager)
    bands = find_bands(sources, options, manager, named=True)
    if options.bands.detect is not None or options.bands.stack is not None:
        raise PhotplugError("a catalogue that is extended has its sources already; leave out --detect and --stack")
    psfs = read_psfs(bands, options)
    numbers = _number_apertures(_known_apertures(table.meta), options.measure.apertures)
    ratios = _compare_apertures(table, numbers)
    names = _choose_columns(extend, options, numbers, ratios)
    check_new(table, [f"{band}_{name}" for band in bands for name in names], overwrite=extend.overwrite_columns)
    rows = _read_rows(table, next(iter(bands.values())), options, extend)
    radius = kron_radii(rows.sources, options)
    # Without segments of their own the rows are positions on those that each band has.
    role = "targets" if options.detect.use_segmentation is None else "detection"
    measured = measure_bands(list(bands.values()), options, psfs, manager, **{role: rows})
    tables: dict[str, QTable] = {}
    columns: dict[str, Column] = {}
    for band in tqdm(bands, "bands", disable=None if progress else True):
        tables[band] = next(measured)
        tables[band].meta = {"OPTIONS": options.as_dict(), **tables[band].meta}
        add_totals(tables[band], ratios, radius, psfs.get(band))
        for name, column in name_columns(tables[band], band, numbers).items():
            short = name.removeprefix(f"{band}_")
            # Those of plugins come with all.
            if short in names or ("all" in extend.columns and short not in SEGMENT_COLUMNS):
                columns[name] = column
    diameters = {f"ASEC_{i}": diameter for i, diameter in zip(numbers, options.measure.apertures, strict=True)}
    added = diameters | describe_bands(tables, psfs, max(_find_numbers("BAND_", table.meta), default=-1) + 1)
    return columns, {key: value for key, value in added.items() if key not in table.meta}


def _compare_apertures(table: Table, numbers: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Return flux_auto over flux_aper of the catalogue's detection image, by the aperture's place in the options."""
    there = {k: f"flux_aper_{i}" for k, i in enumerate(numbers) if f"ASEC_{i}" in table.meta}
    there = {k: name for k, name in there.items() if {name, "flux_auto"} <= set(table.colnames)}
    if not there:
        return {}
    return compare_apertures(_to_floats(table, "flux_auto"), {k: _to_floats(table, name) for k, name in there.items()})


def _to_floats(table: Table, name: str, unit: str = "") -> NDArray[np.float64]:
    """Return the numbers of a column, NaN where masked, in `unit`, which they have where they have no other."""
    column = table[name]
    try:
        values: NDArray[np.float64] = np.ma.filled(np.ma.asarray(column, dtype=float), np.nan)
        return u.Quantity(values, getattr(column, "unit", None) or unit).to_value(unit) if unit else values
    except (ValueError, TypeError) as error:  # units that do not fit are of both kinds
        raise PhotplugError(f"column {name} holds no {unit or 'numbers'} ({error}); correct or rename it") from None


def _choose_columns(
    extend: ExtendOptions, options: Options, numbers: Sequence[int], ratios: Collection[int]
) -> list[str]:
    """Return the names of the columns that each band gets, without those of plugins."""
    has_segments = options.detect.use_segmentation is not None
    if "iso" in extend.columns and not has_segments:
        raise PhotplugError("option columns: iso needs the segments of the catalogue; give --use-segmentation")
    totals = describe_apertures([numbers[k] for k in ratios], TOTAL_COLUMNS)
    measure = options.measure
    off = describe_removed(numbers, sky=measure.background != "none", neighbours=measure.neighbours == "subtract")
    groups = {
        "auto": KRON_COLUMNS,
        "iso": SEGMENT_COLUMNS if has_segments else (),
        "aper": [spec.name for spec in describe_apertures(numbers) + off + totals],
        "epochs": [spec.name for spec in epoch_columns(options.epochs.groups)],
    }
    wanted = EXTENSIONS if "all" in extend.columns else extend.columns
    return [name for group in wanted for name in groups[group]]


def _read_rows(table: Table, first: Source, options: Options, extend: ExtendOptions) -> Detection:
    """Return the rows of a catalogue as sources, with their segments where these are given."""
    position = find_positions(table, extend.ra, extend.dec)
    path = options.detect.use_segmentation
    if path is None:
        sources = _make_sources(table, position, np.arange(1, len(table) + 1), _north_up(position))
        return Detection(sources=sources, segmentation=np.zeros((1, 1), np.int32), wcs=_north_up(position))
    labels, wcs = read_segmentation(path)
    ids = find_ids(table, extend.id_column)
    if ids is None:
        raise PhotplugError(f"{path}: the catalogue has no ids to find its segments by; name them by --id-column")
    wcs = wcs or _take_wcs(first, labels.shape, path)
    sources = _make_sources(table, position, ids, wcs)
    check_segments(sources, labels, path)
    return Detection(sources=sources, segmentation=labels, wcs=wcs)


def _make_sources(table: Table, position: SkyCoord, ids: NDArray[np.int64], wcs: WCS) -> QTable:
    """Return what a `Detection` says of sources; NaN for shapes that the catalogue does not tell."""
    x, y = wcs.world_to_pixel_values(position.icrs.ra.deg, position.icrs.dec.deg)
    shapes = {name: np.full(len(table), np.nan) for name in ("a", "b", "theta", "kron_radius")}
    if {"a", "b"} <= set(table.colnames):
        known = [getattr(table[name], "unit", None) for name in "ab"]
        # Axes in pixels, as others have them, are in a unit that is no angle, or in none.
        if all(unit is not None and unit.is_equivalent(u.arcsec) for unit in known):
            units = {"a": "arcsec", "b": "arcsec", "theta": "deg", "kron_radius": ""}
            shapes |= {name: _to_floats(table, name, unit) for name, unit in units.items() if name in table.colnames}
        else:
            warnings.warn(
                "columns a and b are in no unit of angle, so each Kron aperture is the smallest circle; give them one, "
                "such as arcsec, in a format that holds units",
                PhotplugWarning,
                stacklevel=2,
            )
    ours = "flag" in table.colnames and "KRONCIRC" in table.meta
    columns = {
        "id": ids,
        "ra": position.icrs.ra.deg,
        "dec": position.icrs.dec.deg,
        "x": x,
        "y": y,
        **{name: shapes[name] for name in ("a", "b", "theta")},
        "npix": np.zeros(len(table), dtype=int),
        "flag": np.asarray(table["flag"]) & DETECTION_FLAGS if ours else np.zeros(len(table), dtype=int),
    }
    sources = dress_table(columns, DETECTION_COLUMNS)
    sources["kron_radius"] = shapes["kron_radius"]
    return sources


def _north_up(position: SkyCoord) -> WCS:
    """Return a tangent plane in the midst of positions, with north up as in the mosaics of the archive."""
    middle = SkyCoord(position.cartesian.mean(), frame=position.frame).spherical
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = middle.lon.deg, middle.lat.deg
    wcs.wcs.cdelt = -1e-5, 1e-5
    return wcs


def _take_wcs(first: Source, shape: tuple[int, ...], path: str) -> WCS:
    """Return the WCS of the first source for a segmentation of its shape that has none."""
    grid = first.grid()
    if grid is not None and grid.shape == shape:
        return grid.wcs
    found = f"{first} has {grid.shape}" if grid else f"that of {first} is not known before it is loaded"
    raise PhotplugError(
        f"{path}: the segmentation image of {shape} pixels (y, x) has no WCS, and {found}; give one with a WCS"
    )
