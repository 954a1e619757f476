"""Forced photometry and epochs at the positions of a catalogue that exists already."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pluggy
from astropy import units as u
from astropy.table import Column, QTable, Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from tqdm import tqdm

from dja_photplug.catalog.columns import column_values, describe_missing, express_flux
from dja_photplug.catalog.metadata import record_options
from dja_photplug.catalog.schema import MASK_COLUMNS, TOTAL_COLUMNS, describe_apertures, describe_removed, epoch_columns
from dja_photplug.epochs.log import exposure_log
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.tables.columns import add_columns, check_new
from dja_photplug.foreign.columns import CatalogColumns, aperture_diameters, read_position, resolve_columns
from dja_photplug.foreign.known import OURS, PLAIN
from dja_photplug.foreign.recognise import choose_schema, describe_motion
from dja_photplug.foreign.schema import CatalogSchema
from dja_photplug.matching.kernels import choose_reference, find_target
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.commands import EXTENSIONS, ExtendOptions
from dja_photplug.options.run import Options
from dja_photplug.options.stages import FLUX_UNITS
from dja_photplug.pipeline.images import Products
from dja_photplug.pipeline.many_bands import (
    KRON_COLUMNS,
    SEGMENT_COLUMNS,
    Bands,
    describe_bands,
    describe_matched,
    find_bands,
    measure_bands,
    name_columns,
    read_psfs,
)
from dja_photplug.pipeline.one_band import find_epochs
from dja_photplug.pipeline.rows import read_rows
from dja_photplug.pipeline.steps.sharing import share_work
from dja_photplug.plugins.calls import ask_all, ask_some
from dja_photplug.plugins.manager import KNOWN_SCHEMAS, get_plugin_manager
from dja_photplug.plugins.options import complete_options
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sources.totals import add_matched_totals, add_totals, compare_apertures, kron_radii
from dja_photplug.units import convert, read_unit

__all__ = ["catalog_options", "extend_catalog", "find_columns", "find_schema", "measure_columns"]


def find_schema(table: Table, name: str | None, manager: pluggy.PluginManager) -> CatalogSchema:
    """Return the kind of a catalogue, through ``photplug_schema``.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str or None
        Of the schema that it has, whatever else would fit.
    manager : PluginManager

    Returns
    -------
    CatalogSchema
        ``plain`` where nobody knows it.

    Raises
    ------
    PhotplugError
        Where there is no schema of that name, the table is none such, or several fit.
    """
    if name is None:
        return next(iter(ask_all(manager, "photplug_schema", CatalogSchema, table=table)), PLAIN)
    # Ours may find that several fit, which the name decides.
    others = [plugin for plugin, _ in manager.list_name_plugin() if plugin != KNOWN_SCHEMAS]
    purpose, hook = f"schema {name!r}", "photplug_schema"
    claimed = ask_some(manager, others, hook, purpose, CatalogSchema, table=table)
    return choose_schema(table, name, [] if claimed is None else [claimed])


def find_columns(table: Table, extend: ExtendOptions, manager: pluggy.PluginManager) -> CatalogColumns:
    """Return which columns of a catalogue say where its sources are and what they are like.

    Parameters
    ----------
    table : `~astropy.table.Table`
    extend : ExtendOptions
        With the names of schema and columns that were given.
    manager : PluginManager

    Returns
    -------
    CatalogColumns

    Raises
    ------
    PhotplugError
        As :func:`find_schema`.
    """
    schema = find_schema(table, extend.schema, manager)
    return resolve_columns(table, schema, ra=extend.ra, dec=extend.dec, id_column=extend.id_column)


def catalog_options(table: Table, options: Options | None = None, schema: CatalogSchema = OURS) -> Options:
    """Return options with the apertures of a catalogue.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Whose metadata tell diameters in arcsec, in ours ``ASEC_0``, ``ASEC_1`` ...
    options : Options, optional
        The defaults without them.
    schema : CatalogSchema, optional
        That of the catalogue.

    Returns
    -------
    Options
        As given where the metadata tell no apertures, or their numbers have gaps.

    Raises
    ------
    PhotplugError
        Where one of the diameters is no number.
    """
    options, known = options or Options(), aperture_diameters(table, schema)
    if list(known) != list(range(len(known))) or not known:
        return options
    return replace(options, measure=replace(options.measure, apertures=tuple(known.values())))


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
        With positions, as its schema says (`ExtendOptions.schema`). Its shapes make the Kron apertures, those of ours
        are ``a b theta kron_radius``; without them they are the circle of ``kron_circle``. Angles that are not counted
        from north are on the grid of ``extend.like`` or of the segmentation, of the image in ``INPUT``, or the one on
        which positions are at ``x y``; where nothing tells, a warning says that north is taken to be up. The table is
        not changed.
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
    check: Callable[[Sequence[str]], object] = lambda names: None,
    own: WCS | None = None,
) -> tuple[dict[str, Column], dict[str, object]]:
    """Return the columns and the metadata that a catalogue gets.

    Parameters
    ----------
    table, sources, options, extend, manager, progress
        As for :func:`extend_catalog`.
    check : callable, optional
        Called with the names of the new columns before the work begins; it raises where they cannot be written.
    own : WCS, optional
        The grid of the image that the catalogue was made on, where its file keeps it.

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
    given = find_columns(table, extend, manager)
    options = complete_options(options or catalog_options(table, schema=given.schema), manager)
    bands = find_bands(sources, options, manager, named=True)
    if options.bands.detect or options.bands.stack or options.background.rescale_weights == "yes":
        told = "leave out --detect, --stack and --rescale-weights"
        raise PhotplugError(f"the catalogue gives the sources, so nothing is detected; {told}")
    options = settle_bands(options, list(bands)).for_bands()
    # Positions are those that the catalogue has.
    options = replace(options, measure=replace(options.measure, positions="auto"))
    work = _Extension(
        table=table, given=given, bands=bands, options=options, extend=extend, manager=manager, check=check
    )
    columns, meta = work.find_epochs() if set(extend.columns) == {"epochs"} else work.measure(own, progress=progress)
    return columns, {key: value for key, value in meta.items() if key not in table.meta}


Added = tuple[dict[str, Column], dict[str, object]]
"""Columns by the name with their band, and metadata."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Extension:
    """A catalogue, the bands that it is to have, and what is asked of them."""

    table: Table
    given: CatalogColumns
    bands: Bands
    options: Options
    extend: ExtendOptions
    manager: pluggy.PluginManager
    check: Callable[[Sequence[str]], object]

    def _name(self, names: Sequence[str]) -> list[str]:
        """Return the names that columns get in each band, refused where the catalogue has one of them."""
        added = [f"{self.extend.prefix}{band}_{name}" for band in self.bands for name in names]
        check_new(self.table, added, overwrite=self.extend.overwrite_columns)
        return added

    def _describe(self, tables: Mapping[str, QTable], psfs: Mapping[str, PSFModel]) -> dict[str, str]:
        """Return the metadata of bands, numbered after those that the catalogue has."""
        return describe_bands(tables, psfs, max(_find_numbers("BAND_", self.table.meta), default=-1) + 1)

    def find_epochs(self) -> Added:
        """Return the epochs of the rows in each band, from its log alone: no pixels, no photometric keywords."""
        added = self._name([spec.name for spec in epoch_columns(self.options.epochs.groups)])
        position = read_position(self.table, self.given)
        self.check(added)
        for note in describe_missing(position, "they are covered by no exposure") + describe_motion(self.table):
            warnings.warn(note, PhotplugWarning, stacklevel=3)
        tables, columns = dict[str, QTable](), dict[str, Column]()
        for band, source in self.bands.items():
            log = exposure_log(source)
            if log is None:
                raise PhotplugError(
                    f"{source}: the mosaic has no WCS log, so no epochs; put it next to the mosaic, or leave {band} out"
                )
            table = tables[band] = find_epochs(log, position, self.options, self.manager)
            columns |= {f"{self.extend.prefix}{band}_{name}": column for name, column in table.items()}
            known = {"OPTIONS": record_options(self.options), "INPUT": str(source), "EPOCHS": Path(log.name).name}
            table.meta = known | dict(table.meta)
        return columns, dict(self._describe(tables, {}))

    def measure(self, own: WCS | None, *, progress: bool) -> Added:
        """Return the photometry and the epochs of the rows in each band."""
        table, given, bands, options = self.table, self.given, self.bands, self.options
        psfs = read_psfs(bands, options)
        target = find_target(options.bands.match, bands, psfs, bands)
        numbers = _number_apertures(aperture_diameters(table, given.schema), options.measure.apertures)
        ratios = _compare_apertures(table, given, numbers)
        names = _choose_columns(self.extend, options, numbers, ratios)
        added = self._name(names)
        rows, notes = read_rows(table, given, next(iter(bands.values())), options, self.extend, own, self.manager)
        radius = kron_radii(rows.sources, options)
        self.check(added)
        unit, others = _choose_unit(table, given, options)
        for note in notes + others:  # once nothing is refused any more, as a refusal is one line
            warnings.warn(note, PhotplugWarning, stacklevel=3)
        # Without segments of their own the rows are positions on those that each band has.
        role = "targets" if options.detect.use_segmentation is None else "detection"
        tables, columns = dict[str, QTable](), dict[str, Column]()
        images = list(bands.values())
        with share_work(images, options, self.manager, given=role == "targets") as parallel:
            known = {role: rows}
            measured = measure_bands(images, options, psfs, self.manager, **known, target=target, parallel=parallel)
            for band in tqdm(bands, "bands", disable=None if progress else True):
                tables[band] = next(measured)
        if target is not None:
            reference = choose_reference(str(table.meta.get("DETECT", "")), bands, target, psfs)
            add_matched_totals(tables, reference, radius, psfs[reference])
        for band, each in tables.items():
            each.meta = {"OPTIONS": record_options(options), **each.meta}
            add_totals(each, ratios, radius, psfs.get(band))
            for name, column in name_columns(each, band, numbers).items():
                short = name.removeprefix(f"{band}_")
                # Those of plugins come with all.
                if short in names or ("all" in self.extend.columns and short not in SEGMENT_COLUMNS):
                    columns[self.extend.prefix + name] = express_flux(column, unit)
        diameters = zip(numbers, options.measure.apertures, strict=True)
        return columns, {**{f"ASEC_{i}": each for i, each in diameters}, **self._describe(tables, psfs)}


def _choose_unit(table: Table, given: CatalogColumns, options: Options) -> tuple[str, list[str]]:
    """Return the unit of the fluxes that are added, and what is to be told of it.

    Where none is asked for it is that of our own catalogue; what others count in is theirs.
    """
    name, unit = given.auto or "", options.output.flux_unit
    known = read_unit(getattr(table[name], "unit", None)) if name in table.colnames else None
    there = next((one for one in FLUX_UNITS if known == u.Unit(one)), unit)
    if options.output.unit != "auto" or there == unit:
        return unit, []
    if given.schema == OURS:
        return there, []
    return unit, [f"fluxes are added in {unit}, and {name} is in {there}, in which --unit {there} adds them"]


def _compare_apertures(table: Table, given: CatalogColumns, numbers: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Return flux_auto over flux_aper of the catalogue's detection image, by the aperture's place in the options."""
    there = {k: given.apertures[i] for k, i in enumerate(numbers) if i in given.apertures}
    if not there or given.auto is None:
        return {}
    auto = _flux_unit(table, given.auto, given)
    unit = u.uJy if isinstance(read_unit(auto), u.MagUnit) else auto
    return compare_apertures(
        _to_unit(table, given.auto, unit, given), {k: _to_unit(table, name, unit, given) for k, name in there.items()}
    )


def _flux_unit(table: Table, name: str, columns: CatalogColumns) -> u.UnitBase | str | None:
    return getattr(table[name], "unit", None) or columns.schema.flux_unit or None


def _to_unit(table: Table, name: str, unit: u.UnitBase | None, columns: CatalogColumns) -> NDArray[np.float64]:
    """Return the fluxes of a column in the unit that they are compared in, NaN for what stands for none."""
    values, given = column_values(table, name), _flux_unit(table, name, columns)
    values[np.isin(values, columns.schema.missing)] = np.nan
    known, to = read_unit(given), read_unit(unit)
    if given == unit and known != u.mag:
        return values
    if known is not None and to is not None and known != u.mag:
        with contextlib.suppress(u.UnitsError):
            return convert(values, known, to)
    if known == u.mag:
        raise PhotplugError(
            f"column {name} is in mag without a zero point, which corr_i needs; give a flux, or mag(AB)"
        )
    raise PhotplugError(
        f"column {name} is in {given or 'no unit'} and {columns.auto} in {unit or 'no unit'}, so their ratio, needed "
        "for corr_i, is unknown; correct the units, or rename the column"
    )


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
    more = describe_matched(numbers, options) + describe_apertures(numbers, MASK_COLUMNS if options.details else ())
    groups = {
        "auto": KRON_COLUMNS,
        "iso": SEGMENT_COLUMNS if has_segments else (),
        "aper": [spec.name for spec in describe_apertures(numbers) + off + more + totals],
        "epochs": [spec.name for spec in epoch_columns(options.epochs.groups)],
    }
    wanted = EXTENSIONS if "all" in extend.columns else extend.columns
    return [name for group in wanted for name in groups[group]]
