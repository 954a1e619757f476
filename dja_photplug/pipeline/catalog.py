"""From mosaics to a catalogue: sources are detected once, and measured in every band."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pluggy
from astropy.table import QTable
from tqdm import tqdm

from dja_photplug.catalog.kron import kron_circle_radius
from dja_photplug.catalog.metadata import encode_metadata, make_metadata
from dja_photplug.catalog.schema import describe_columns
from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import MosaicFiles, ProductName, find_mosaic
from dja_photplug.files.whole import check_output
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.stack import coarsest_grid, name_stack, stack_images, write_stack
from dja_photplug.options.stages import Options
from dja_photplug.pipeline.many_bands import (
    add_totals,
    compare_apertures,
    describe_bands,
    find_bands,
    measure_bands,
    name_columns,
    read_psfs,
)
from dja_photplug.pipeline.one_band import Result, Source, analyse_image, describe_image, load_source, measure_band
from dja_photplug.pipeline.plugins import get_plugin_manager
from dja_photplug.psf.model import PSF

__all__ = ["run"]

STACK = "stack"
ARCHIVE_STACK = "ir"

Bands = Mapping[str, MosaicFiles | str]


@contextmanager
def _stages(count: int, *, show: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar over stages: call what it yields with the name of the stage that begins."""
    # disable=None: only where stderr is a terminal.
    with tqdm(total=count, disable=None if show else True, bar_format="{desc:<12} {bar} {elapsed}") as bar:
        started = False

        def begin(stage: str) -> None:
            nonlocal started
            bar.update(int(started))
            bar.set_description_str(stage)
            started = True

        yield begin
        bar.update(1)


def run(
    sources: Sequence[Source],
    options: Options | None = None,
    *,
    manager: pluggy.PluginManager | None = None,
    progress: bool = False,
    keep_image: bool = True,
) -> Result:
    """Detect the sources of mosaics, measure them in every band, and find the epochs of each.

    Parameters
    ----------
    sources : sequence of str, Path or MosaicFiles
        One mosaic for each band: its prefix, a member file or its files.
    options : Options, optional
        Its group ``bands`` says which image sources are detected on.
    manager : PluginManager, optional
        All plugins by default.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.
    keep_image : bool, optional
        Keep the detection image for the result. Without it one image at a time is in memory.

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
    options = options or Options()
    manager = manager or get_plugin_manager()
    bands = find_bands(sources, options)
    psfs = read_psfs(bands, options)
    detect = _choose_detection(bands, options)
    if ARCHIVE_STACK in bands and detect != ARCHIVE_STACK:
        raise PhotplugError(
            f"{bands[ARCHIVE_STACK]}: a stack is for detection, not a band; leave it out, or give --detect ir"
        )
    with _stages(4 + len(bands) - (detect == ARCHIVE_STACK), show=progress) as begin:
        if list(bands) == [detect]:
            return _run_alone(bands[detect], psfs.get(detect), options, manager, begin)
        return _run_together(bands, detect, psfs, options, manager, begin, keep_image=keep_image)


def _choose_detection(bands: Bands, options: Options) -> str:
    """Return the band that sources are detected on, or where else to look: `STACK`, or another mosaic's prefix."""
    wanted = options.bands.detect
    if wanted is None:
        wanted = next(iter(bands)) if len(bands) == 1 else ARCHIVE_STACK if ARCHIVE_STACK in bands else STACK
    wanted = wanted.lower()
    if wanted == STACK:
        _check_stack(bands, options)
        return STACK
    if options.bands.stack is not None:
        raise PhotplugError(
            f"option stack: sources are detected on {wanted}, so there is no stack to write; leave it out, or give "
            f"--detect {STACK}"
        )
    for band, source in bands.items():
        if wanted == band or (isinstance(source, MosaicFiles) and wanted == source.filter):
            return band
    first = next(iter(bands.values()))
    if isinstance(first, MosaicFiles):
        for filter in (wanted, f"{wanted}-clear"):
            with suppress(PhotplugError):
                return str(find_mosaic(first.science.parent / f"{first.root}-{filter}"))
    raise PhotplugError(
        f"option detect: {wanted} is none of the bands {', '.join(bands)}, nor is there such a mosaic beside {first}; "
        "give a band, 'ir' or 'stack'"
    )


def _check_stack(bands: Bands, options: Options) -> None:
    """Refuse, before the work, what cannot be stacked or written."""
    for source in bands.values():
        if not isinstance(source, MosaicFiles):
            raise PhotplugError(f"{source}: not a DJA mosaic, and only those are stacked; give --detect FILTER")
    if options.bands.stack is not None:
        for path in name_stack(options.bands.stack, *_stack_name(bands)):
            check_output(path, overwrite=options.overwrite)


def _stack_name(bands: Bands) -> tuple[str, str]:
    """Return root and drizzle of the stack, those of the first mosaic."""
    files = next(iter(bands.values()))
    name = ProductName.parse(files.science.name) if isinstance(files, MosaicFiles) else None
    assert name is not None  # _check_stack has refused others
    return name.root, name.drizzle


def _make_stack(bands: Bands, options: Options, manager: pluggy.PluginManager) -> MosaicImage:
    """Load one mosaic after the other into their stack, and write it where asked."""
    files = [source for source in bands.values() if isinstance(source, MosaicFiles)]
    images = (load_source(source, options, manager) for source in files)
    stack = stack_images(images, *coarsest_grid(files, options.cutout), list(bands))
    if options.bands.stack is not None:
        write_stack(stack, options.bands.stack, *_stack_name(bands), overwrite=options.overwrite)
    return stack


def _run_alone(
    source: MosaicFiles | str,
    psf: PSF | None,
    options: Options,
    manager: pluggy.PluginManager,
    begin: Callable[[str], None],
) -> Result:
    """Detect and measure in one mosaic."""
    result = measure_band(source, options, manager, psf=psf, begin=begin)
    if psf is not None:
        add_totals(result.catalog, *_kron_apertures(result.catalog, options), psf)
    result.catalog.meta = make_metadata(options) | encode_metadata(result.catalog.meta)
    return result


def _run_together(
    bands: Bands,
    detect: str,
    psfs: Mapping[str, PSF],
    options: Options,
    manager: pluggy.PluginManager,
    begin: Callable[[str], None],
    *,
    keep_image: bool,
) -> Result:
    """Detect sources on one image, and measure them in each band."""
    tables: dict[str, QTable] = {}
    if detect in bands and detect != ARCHIVE_STACK:
        result = measure_band(bands[detect], options, manager, psf=psfs.get(detect), begin=begin)
        tables[detect] = result.catalog
        meta = dict(result.catalog.meta)
    else:
        result, meta = _detect_elsewhere(bands, detect, options, manager, begin)
    if not keep_image:
        result = replace(result, planes=None)
    own = [spec.name for spec in describe_columns(len(options.measure.apertures))]
    catalog = result.catalog[own]
    sources = result.detection.sources.copy(copy_data=False)
    sources["kron_radius"] = catalog["kron_radius"]
    others = {band: source for band, source in bands.items() if band != detect}
    measured = measure_bands(
        list(others.values()), options, psfs, manager, detection=replace(result.detection, sources=sources)
    )
    for band in others:
        begin(band)
        tables[band] = next(measured)
    tables = {band: tables[band] for band in bands if band in tables}
    apertures = _kron_apertures(catalog, options)
    for band, table in tables.items():
        add_totals(table, *apertures, psfs.get(band))
        for name, column in name_columns(table, band, range(len(options.measure.apertures))).items():
            catalog[name] = column
    catalog.meta = make_metadata(options) | {"DETECT": detect} | encode_metadata(meta) | describe_bands(tables, psfs)
    return replace(result, catalog=catalog)


def _detect_elsewhere(
    bands: Bands, detect: str, options: Options, manager: pluggy.PluginManager, begin: Callable[[str], None]
) -> tuple[Result, dict[str, Any]]:
    """Detect on a stack, or on a mosaic that is not measured; return its metadata too."""
    begin("loading")
    if detect == STACK:
        source: MosaicFiles | str = f"stack of {', '.join(bands)}"
        image = _make_stack(bands, options, manager)
    else:
        source = bands.get(detect) or find_mosaic(detect)
        # The archive's stacks have neither exposure map nor log: no other preset can be had for them.
        stacked = isinstance(source, MosaicFiles) and source.band == ARCHIVE_STACK
        variance = replace(options.variance, noise="background") if stacked else options.variance
        image = load_source(source, replace(options, variance=variance), manager)
    result = analyse_image(image, options, manager, begin=begin)
    return result, describe_image(result, source)


def _kron_apertures(catalog: QTable, options: Options) -> tuple[dict[int, Any], Any]:
    """Return what the totals of all bands need of the detection image: flux ratios by aperture, and Kron radii."""
    apertures = {i: catalog[f"flux_aper_{i}"] for i in range(len(options.measure.apertures))}
    ratios = compare_apertures(catalog["flux_auto"], apertures)
    return ratios, kron_circle_radius(catalog, options.measure.kron_circle)
