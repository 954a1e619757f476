"""From mosaics to a catalogue: sources are detected once, and measured in every band."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pluggy
from astropy.table import QTable

from dja_photplug.catalog.columns import express_flux
from dja_photplug.catalog.metadata import encode_metadata, make_metadata
from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.names import MosaicFiles, ProductName, Source
from dja_photplug.light.planes import Floats
from dja_photplug.matching.kernels import Target, choose_reference, find_target
from dja_photplug.mosaic.image import MosaicImage, keep_weight
from dja_photplug.mosaic.stack import coarsest_grid, name_stack, stack_images, write_stack
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.run import Options
from dja_photplug.options.stages import VarianceOptions
from dja_photplug.outputs.whole import check_output
from dja_photplug.parallel.progress import COSTS, show_stages
from dja_photplug.parallel.workers import Map
from dja_photplug.pipeline.images import Products, find_grid
from dja_photplug.pipeline.many_bands import (
    Bands,
    describe_bands,
    describe_own,
    find_bands,
    measure_bands,
    name_columns,
    read_psfs,
)
from dja_photplug.pipeline.one_band import measure_band, naming_image
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.pipeline.steps.result import Result, describe_image
from dja_photplug.pipeline.steps.sharing import count_workers, share_work
from dja_photplug.pipeline.streams import load_unchanged, open_source
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.plugins.options import complete_options
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.cutouts import reaches
from dja_photplug.sources.totals import add_matched_totals, add_totals, compare_apertures, kron_radii

__all__ = ["list_images", "list_stack", "run"]

STACK = "stack"
ARCHIVE_STACK = "ir"


def run(
    sources: Sequence[Products],
    options: Options | None = None,
    *,
    manager: pluggy.PluginManager | None = None,
    progress: bool = False,
    keep_image: bool = True,
    executor: Executor | None = None,
) -> Result:
    """Detect the sources of mosaics, measure them in every band, and find the epochs of each.

    Parameters
    ----------
    sources : sequence of str, Path or Source
        One for each band: the prefix of a mosaic, a member file, what a plugin finds, or the source itself.
    options : Options, optional
        Its group ``bands`` says which image sources are detected on.
    manager : PluginManager, optional
        All plugins by default.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.
    keep_image : bool, optional
        Keep the detection image for the result. Without it one image at a time is in memory.
    executor : `~concurrent.futures.Executor`, optional
        Whose workers do the tiles of large images, which must see the scratch folder; processes that are begun here by
        default.

    Returns
    -------
    Result
        The catalogue of one mosaic, detected on itself, has the columns of `dja_photplug.catalog.schema.COLUMNS`. That
        of several has those of the detection image first, then those of each band after its name,
        ``f444w_flux_auto``, and ``corr_i ecorr_i tot_i etot_i`` of each aperture.

    Raises
    ------
    PhotplugError
        Where the input does not allow it or a plugin fails.
    """
    manager = manager or get_plugin_manager()
    options = complete_options(options or Options(), manager)
    plan, options = _make_plan(sources, options, manager)
    bands, detect, source = plan.bands, plan.detect, plan.source
    with (
        show_stages(_name_stages(options, _list_measured(plan, options)), show=progress) as stages,
        share_work(plan.images, options, manager, executor) as shared,
    ):
        begin, parallel = stages.begin, stages.watch(shared)
        if list(bands) == [detect] and source is not None and not options.apart:
            result = _run_alone(plan, source, options, manager, begin, parallel)
        else:
            result = _run_together(plan, options, manager, begin, parallel, keep_image=keep_image)
        if keep_image and result.planes is not None:  # whose pixels are the user's, who may change them
            image, background = result.planes
            result = replace(result, planes=(keep_weight(image), background))
    for name in result.catalog.colnames:
        result.catalog[name] = express_flux(result.catalog[name], options.output.flux_unit)
    return result


def list_images(sources: Sequence[Products], options: Options, manager: pluggy.PluginManager) -> list[Source]:
    """Return the sources of all images that :func:`run` reads, and refuse what it would refuse before its work.

    Parameters
    ----------
    sources, options, manager
        As for :func:`run`; the options are complete.

    Returns
    -------
    list of Source
        The bands in their order, and what sources are detected on where that is none of them.

    Raises
    ------
    PhotplugError
        Where a band is there twice, or is not that of an option; where the detection image or a PSF is not there.
    """
    return _make_plan(sources, options, manager)[0].images


def list_stack(sources: Sequence[Source], options: Options) -> list[Path]:
    """Return the files of the stack that :func:`run` would write.

    Parameters
    ----------
    sources : sequence of Source
        The bands in their order.
    options : Options

    Returns
    -------
    list of Path
        Science and weight; empty where none is asked for.

    Raises
    ------
    PhotplugError
        Where the first mosaic has no name that a stack could take.
    """
    if options.bands.stack is None:
        return []
    return list(name_stack(options.bands.stack, *_stack_name(sources[0])))


def _name_stages(options: Options, others: Sequence[str]) -> list[str]:
    """Return the stages that there will be: those of the detection image, and the bands that are only measured."""
    names = [*COSTS, *others]
    if options.settle().measure.neighbours != "subtract":
        names.remove("neighbours")
    if options.bands.match is None:
        names.remove("matching")
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The bands, and what sources are detected on: `source` is None for the stack of all."""

    bands: Bands
    detect: str
    source: Source | None
    psfs: Mapping[str, PSFModel]
    target: Target | None

    @property
    def images(self) -> list[Source]:
        """The sources of all images that are read, each once."""
        every = {str(one): one for one in (*self.bands.values(), self.source) if one is not None}
        return list(every.values())


def _make_plan(sources: Sequence[Products], options: Options, manager: pluggy.PluginManager) -> tuple[_Plan, Options]:
    """Return what is to be done, and the options with the bands that values are of."""
    bands = find_bands(sources, options, manager)
    detect, source = _choose_detection(bands, options)
    elsewhere = [] if source is None or source.band == ARCHIVE_STACK else [source.band]
    options = settle_bands(options, list(dict.fromkeys([*bands, *elsewhere])))
    psfs = read_psfs(bands, options)
    if ARCHIVE_STACK in bands and detect != ARCHIVE_STACK:
        raise PhotplugError(
            f"{bands[ARCHIVE_STACK]}: a stack is for detection, not a band; leave it out, or give --detect ir"
        )
    target = find_target(options.bands.match, [band for band in bands if band != ARCHIVE_STACK], psfs, bands)
    return _Plan(bands=bands, detect=detect, source=source, psfs=psfs, target=target), options


def _choose_detection(bands: Bands, options: Options) -> tuple[str, Source | None]:
    """Return what sources are detected on: a band or another mosaic and its source, or `STACK` and None."""
    wanted = options.bands.detect
    if wanted is None:
        wanted = next(iter(bands)) if len(bands) == 1 else ARCHIVE_STACK if ARCHIVE_STACK in bands else STACK
    wanted = wanted.lower()
    if wanted == STACK:
        _check_stack(bands, options)
        return STACK, None
    if options.bands.stack is not None:
        raise PhotplugError(
            f"option stack: sources are detected on {wanted}, so there is no stack to write; leave it out, or give "
            f"--detect {STACK}"
        )
    for band, source in bands.items():
        if wanted == band or (isinstance(source, MosaicFiles) and wanted == source.filter):
            return band, source
    first = next(iter(bands.values()))
    other = first.beside(wanted)
    if other is not None:
        return str(other), other
    others = [name for name in (*bands, ARCHIVE_STACK, STACK) if name != wanted]
    raise PhotplugError(
        f"option detect: {wanted} is not one of the bands {', '.join(bands)}, and there is no such mosaic next to "
        f"{first}{suggest(wanted, others) or '; give a band, ir or stack'}"
    )


def _check_stack(bands: Bands, options: Options) -> None:
    """Refuse, before the work, what cannot be written."""
    for path in list_stack(list(bands.values()), options):
        check_output(path, overwrite=options.overwrite)


def _stack_name(first: Source) -> tuple[str, str]:
    """Return root and drizzle of the stack, those of the first mosaic."""
    name = ProductName.parse(first.science.name) if isinstance(first, MosaicFiles) else None
    if name is None:
        raise PhotplugError(
            f"{first}: not an archive mosaic, so the stack cannot be named after it; leave out --stack, or give an "
            "archive mosaic first"
        )
    return name.root, name.drizzle


def _make_stack(bands: Bands, options: Options, manager: pluggy.PluginManager) -> MosaicImage:
    """Read the mosaics into their stack, and write it where asked."""
    grids = {band: find_grid(source, options, manager) for band, source in bands.items()}
    # Those that the cut-out lies off are told where they are measured; where it lies off all, the first one refuses it.
    there = {band: source for band, source in bands.items() if reaches(options.cutout, *grids[band])} or bands
    grid = coarsest_grid({str(source): grids[band] for band, source in there.items()}, options.cutout)
    with ExitStack() as opened, ThreadPoolExecutor(count_workers(options)) as pool:
        images = (open_source(source, options, manager, opened) for source in there.values())
        stack = stack_images(images, *grid, list(there), parallel=pool.map)
    if options.bands.stack is not None:
        write_stack(stack, options.bands.stack, *_stack_name(next(iter(bands.values()))), overwrite=options.overwrite)
    return stack


def _run_alone(
    plan: _Plan,
    source: Source,
    options: Options,
    manager: pluggy.PluginManager,
    begin: Callable[[str], None],
    parallel: Map,
) -> Result:
    """Detect and measure in one mosaic."""
    psf = plan.psfs.get(plan.detect)
    result = measure_band(source, options, manager, psf=psf, target=plan.target, begin=begin, parallel=parallel)
    if psf is not None:
        ratios, radius = _kron_apertures(result.catalog, options)
        add_totals(result.catalog, ratios, radius, psf)
        if plan.target is not None:
            add_matched_totals({plan.detect: result.catalog}, plan.detect, radius, psf)
    result.catalog.meta = make_metadata(options) | encode_metadata(result.catalog.meta)
    return result


def _run_together(
    plan: _Plan,
    options: Options,
    manager: pluggy.PluginManager,
    begin: Callable[[str], None],
    parallel: Map,
    *,
    keep_image: bool,
) -> Result:
    """Detect sources on one image, and measure them in each band."""
    bands, detect, psfs = plan.bands, plan.detect, plan.psfs
    tables: dict[str, QTable] = {}
    others = _list_measured(plan, options)
    if detect in bands and detect != ARCHIVE_STACK:
        psf, source = psfs.get(detect), bands[detect]
        result = measure_band(source, options, manager, psf=psf, target=plan.target, begin=begin, parallel=parallel)
        if detect not in others:
            tables[detect] = result.catalog
        meta = dict(result.catalog.meta)
    else:
        result, meta = _detect_elsewhere(plan, options, manager, begin, parallel)
    if not keep_image:
        result = replace(result, planes=None)
    own = [spec.name for spec in describe_own(options)]
    catalog = result.catalog[[name for name in own if name in result.catalog.colnames]]
    sources = result.detection.sources.copy(copy_data=False)
    if "kron_radius" in catalog.colnames:
        sources["kron_radius"] = catalog["kron_radius"]
    known = replace(result.detection, sources=sources, uncleaned=None)
    measured = measure_bands(
        [bands[band] for band in others], options, psfs, manager, detection=known, target=plan.target, parallel=parallel
    )
    for band in others:
        begin(band)
        tables[band] = next(measured)
    tables = {band: tables[band] for band in bands if band in tables}
    ratios, radius = _kron_apertures(catalog, options)
    if plan.target is not None:
        reference = choose_reference(detect, tables, plan.target, psfs)
        add_matched_totals(tables, reference, radius, psfs[reference])
    for band, table in tables.items():
        add_totals(table, ratios, radius, psfs.get(band))
        for name, column in name_columns(table, band, range(len(options.measure.apertures))).items():
            catalog[name] = column
    catalog.meta = make_metadata(options) | {"DETECT": detect} | encode_metadata(meta) | describe_bands(tables, psfs)
    return replace(result, catalog=catalog)


def _list_measured(plan: _Plan, options: Options) -> list[str]:
    """Return the bands in which known sources are measured."""
    apart = options.apart and plan.detect != ARCHIVE_STACK
    return [band for band in plan.bands if band != plan.detect or apart]


def _detect_elsewhere(
    plan: _Plan, options: Options, manager: pluggy.PluginManager, begin: Callable[[str], None], parallel: Map
) -> tuple[Result, dict[str, object]]:
    """Detect on a stack, or on a mosaic that is not measured; return its metadata too."""
    begin("loading")
    if plan.source is None:
        image = _make_stack(plan.bands, options, manager)
    else:
        # The archive's stacks have neither exposure map nor log: no other preset can be had for them.
        stacked = plan.source.band == ARCHIVE_STACK
        variance = VarianceOptions(noise="background") if stacked else options.variance
        image = load_unchanged(plan.source, replace(options, variance=variance), manager)
    name = f"stack of {', '.join(plan.bands)}" if plan.source is None else str(plan.source)
    with naming_image(options, name):
        result = replace(analyse_image(image, options, manager, begin=begin, parallel=parallel), source=plan.source)
    return result, {"INPUT": name} | describe_image(result)


def _kron_apertures(catalog: QTable, options: Options) -> tuple[dict[int, Floats], Floats | None]:
    """Return what the totals of all bands need of the detection image: flux ratios by aperture, and Kron radii."""
    names = {i: f"flux_aper_{i}" for i in range(len(options.measure.apertures))}
    fluxes = {i: catalog[name] for i, name in names.items() if {name, "flux_auto"} <= set(catalog.colnames)}
    return compare_apertures(catalog["flux_auto"], fluxes) if fluxes else {}, kron_radii(catalog, options)
