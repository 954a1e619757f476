"""What each command of ``dja-photplug`` does with its parsed arguments."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS

from dja_photplug.catalog.eazy import check_eazy
from dja_photplug.catalog.regions import write_regions
from dja_photplug.catalog.schema import epoch_columns
from dja_photplug.cli.commands.demo import run_demo
from dja_photplug.epochs.log import ExposureLog, read_exposure_log
from dja_photplug.epochs.products import (
    agreement_with_map,
    compare_with_header,
    describe_log,
    find_overlap,
    write_exposure_map,
    write_footprints,
)
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.figures.catalog import plot_catalog
from dja_photplug.figures.epochs import plot_log
from dja_photplug.figures.injection import plot_injection
from dja_photplug.figures.stamps import plot_stamps
from dja_photplug.files.formats import (
    CATALOG_FORMATS,
    EAZY_FORMATS,
    EXTENDED_FORMATS,
    FOOTPRINT_SUFFIXES,
    IMAGE_SUFFIXES,
    PLOT_SUFFIXES,
    REGION_SUFFIXES,
    SHEET_SUFFIXES,
)
from dja_photplug.files.names import MosaicFiles, find_mosaic, is_mosaic_name
from dja_photplug.files.pixels import ImageReader, read_image, write_image
from dja_photplug.files.tables import add_columns, find_positions, read_catalog, write_extended
from dja_photplug.files.whole import check_output
from dja_photplug.fitting.select import choose_rows, select_sources, surround
from dja_photplug.fitting.stamps import cut_stamps
from dja_photplug.mosaic.electrons import detector_gain, phot_scale
from dja_photplug.mosaic.image import write_weight
from dja_photplug.mosaic.load import check_detector_gain, exposure_log, load_exposure
from dja_photplug.options.arguments import collect_options, collect_stage
from dja_photplug.options.stages import Options
from dja_photplug.pipeline.catalog import run
from dja_photplug.pipeline.extend import catalog_options, measure_columns
from dja_photplug.pipeline.injection import inject
from dja_photplug.pipeline.many_bands import read_calibration
from dja_photplug.pipeline.one_band import (
    band_of,
    find_epochs,
    find_source,
    load_source,
    measure_background_errors,
    write_result,
)
from dja_photplug.pipeline.plugins import BUILTINS, ask_first, describe_plugins
from dja_photplug.sky.grid import header_wcs, pixel_scale
from dja_photplug.sources.segments import read_labels

__all__ = [
    "run_catalog",
    "run_demonstration",
    "run_epochs",
    "run_extend",
    "run_galfit",
    "run_info",
    "run_inject",
    "run_plugins",
    "run_weight",
]


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text)


def _options(arguments: argparse.Namespace, defaults: Options | None = None) -> Options:
    """Build the options of a command from its flags and its TOML file."""
    options = collect_options(vars(arguments), arguments.config, defaults or arguments.defaults)
    cutout = None
    if getattr(arguments, "cutout", None):
        ra, dec, size = arguments.cutout
        cutout = (SkyCoord(ra, dec, unit="deg"), size * u.arcsec)
    return replace(options, overwrite=arguments.overwrite, cutout=cutout)


def _check_outputs(arguments: argparse.Namespace, **suffixes: tuple[str, ...]) -> list[Path]:
    """Return the outputs that were asked for, or refuse those that cannot be written before any work is done.

    The keywords are the names of the arguments, with the suffixes that each may have.
    """
    given = {name: getattr(arguments, name) for name in suffixes if getattr(arguments, name) is not None}
    for name, path in given.items():
        check_output(path, overwrite=arguments.overwrite, suffixes=suffixes[name])
    if len(set(given.values())) < len(given):
        raise PhotplugError(f"{arguments.output}: two outputs have the same name; give each its own")
    return list(given.values())


def _catalog_suffixes(manager: pluggy.PluginManager, format: str = "table") -> tuple[str, ...]:
    """Return the suffixes of catalogues; any, where a plugin from outside writes too."""
    known = {"table": CATALOG_FORMATS, "eazy": EAZY_FORMATS}
    if not all(each.plugin_name in BUILTINS for each in manager.hook.photplug_write.get_hookimpls()):
        return ()
    if format not in known:
        raise PhotplugError(f"option format: {format!r} is not one of {', '.join(known)}, and no plugin writes others")
    return tuple(known[format])


def _describe_noise(meta: Mapping[str, Any]) -> str:
    """Return the choice of noise in words, from the metadata that every output holds."""
    text = f"noise preset {meta.get('NOISE', 'of the loader')}"
    if "VARFILE" in meta:
        return f"{text}, variance of {meta['VARFILE']} as it is"
    if "DETGAIN" in meta:
        text += f": detector gain {meta['DETGAIN']:.3g} e-/DN ({meta['GAINFROM']}), {meta['GROWTH']} exposure map"
    if meta.get("EXPFROM") == "WCS log":
        text += " made from the WCS log"
    if meta.get("NNULL"):
        text += f", {meta['NNULL']} pixels with weight but without exposure time (the preset calibrated has fewer)"
    return text


def run_info(arguments: argparse.Namespace) -> None:
    """Print what a mosaic is made of, from its headers and its log."""
    files = find_mosaic(arguments.mosaic)
    with ImageReader(files.science) as science:
        header, (ny, nx) = science.header, science.shape
    wcs = header_wcs(header)
    centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2)
    print(f"mosaic      {files.name}   band {files.band}")
    for label, path in _members(files):
        print(f"{label:<11} {path.name if path else 'none'}")
    print(f"size        {nx} x {ny} pixels of {pixel_scale(wcs) * 1000:.1f} mas, unit {header.get('BUNIT', 'missing')}")
    print(f"centre      {centre.to_string('hmsdms', precision=2)}")
    print(f"exposures   {header.get('NDRIZIM', '?')} in the header, {header.get('EXPTIME', 0) / 1e3:.2f} ks")
    log = exposure_log(files)
    if log is not None:
        print("\n".join(describe_log(log) + _compare_log(log, files, header, (ny, nx))))
    try:
        print(f"phot_scale  {phot_scale(header):.6g} DN/s per 10 nJy")
        gain, source = detector_gain(header, log)
        print(f"gain        {gain:.3f} e-/DN ({source}); used by the preset calibrated")
        if files.variance is not None:
            measured, sigma, count = check_detector_gain(files)
            print(f"            {measured:.3f} +- {sigma:.3f} e-/DN in {count} bright pixels of the variance file")
    except PhotplugError as error:
        print(f"noise       {error}")


def _members(files: MosaicFiles) -> list[tuple[str, Path | None]]:
    return [
        ("science", files.science),
        ("weight", files.weight),
        ("exposure", files.exposure),
        ("variance", files.variance),
        ("log", files.wcs_log),
    ]


def _compare_log(log: ExposureLog, files: MosaicFiles, header: fits.Header, shape: tuple[int, int]) -> list[str]:
    """Return in what the log, the header and the exposure map of a mosaic agree or differ, in lines of text."""
    wcs = header_wcs(header)
    lines = [f"differs     {text}" for text in compare_with_header(log, header)]
    if not find_overlap(log, wcs, shape).any():
        return [*lines, "differs     no exposure of the log overlaps the mosaic; is it the log of another field?"]
    if files.exposure is None:
        return [*lines, "exp map     made from the log, by the archive's rule"]
    share = agreement_with_map(log, wcs, *read_image(files.exposure))
    return [*lines, f"exp map     {share:.2%} of its samples equal the log's"]


def run_weight(arguments: argparse.Namespace) -> None:
    """Write the full weight, sigma or variance of a mosaic."""
    _check_outputs(arguments, output=IMAGE_SUFFIXES)
    image = load_source(arguments.mosaic, _options(arguments), arguments.manager)
    write_weight(image, arguments.output, arguments.kind, overwrite=arguments.overwrite)
    _say(arguments, f"{arguments.output}: {arguments.kind}, {_describe_noise(image.meta)}")


def run_catalog(arguments: argparse.Namespace) -> None:
    """Detect and measure, and write the catalogue and what else was asked for."""
    manager, overwrite = arguments.manager, arguments.overwrite
    options = _options(arguments)
    outputs = _check_outputs(
        arguments,
        output=_catalog_suffixes(manager, options.output.format),
        segmentation=IMAGE_SUFFIXES,
        regions=REGION_SUFFIXES,
        plot=PLOT_SUFFIXES,
    )
    if options.output.format == "eazy":
        check_eazy(arguments.output, overwrite=overwrite)
    result = run(
        arguments.mosaics,
        options,
        manager=manager,
        progress=not arguments.quiet,
        keep_image=arguments.plot is not None,
    )
    write_result(result.catalog, arguments.output, options, manager)
    wcs = result.detection.wcs
    if arguments.segmentation:
        write_image(arguments.segmentation, result.detection.segmentation, wcs.to_header(), overwrite=overwrite)
    if arguments.regions:
        write_regions(result.catalog, arguments.regions, wcs, overwrite=overwrite)
    if arguments.plot:
        draw_catalog(result, arguments.plot, manager, overwrite=overwrite)
    meta = result.catalog.meta
    # The noise is that of the bands where the archive's stack, which has no photon noise, is the detection image.
    noise = _describe_noise(json.loads(meta.get("BAND_0", "null")) or meta)
    detected = f" detected on {meta['DETECT']}" if "DETECT" in meta else ""
    _say(
        arguments,
        f"{', '.join(map(str, outputs))}: {len(result.catalog)} sources{detected}, engine {options.engine}, {noise}",
    )


def run_extend(arguments: argparse.Namespace) -> None:
    """Add the photometry and epochs of more bands to a catalogue."""
    manager = arguments.manager
    table = read_catalog(arguments.catalog)
    options = _options(arguments, catalog_options(table))
    written_here = options.output.format == "table"
    suffixes = tuple(EXTENDED_FORMATS) if written_here else _catalog_suffixes(manager, options.output.format)
    _check_outputs(arguments, output=suffixes)
    if options.output.format == "eazy":
        check_eazy(arguments.output, overwrite=arguments.overwrite)
    extend = collect_stage("extend", vars(arguments), arguments.config)
    progress = not arguments.quiet
    columns, meta = measure_columns(
        table, arguments.mosaics, options, extend=extend, manager=manager, progress=progress
    )
    extended = add_columns(table, columns, overwrite=extend.overwrite_columns)
    extended.meta |= meta
    if written_here:
        write_extended(
            extended, arguments.output, added=list(columns), original=arguments.catalog, overwrite=arguments.overwrite
        )
    else:
        write_result(QTable(extended), arguments.output, options, manager)
    noise = options.variance.noise
    _say(arguments, f"{arguments.output}: {len(extended)} rows, {len(columns)} columns added, noise preset {noise}")


def draw_catalog(result: Any, path: Path, manager: pluggy.PluginManager, *, overwrite: bool) -> None:
    """Draw planes, sources and errors of a run."""
    alone = None if result.image.background_weight is None else measure_background_errors(result, manager)
    plot_catalog(
        path,
        result.image,
        _load_exposure(result),
        result.catalog,
        alone,
        result.detection.segmentation,
        overwrite=overwrite,
    )


def _load_exposure(result: Any) -> Any:
    """Return the exposure map of the image that sources were detected on; None of stacks."""
    source = result.catalog.meta["INPUT"]
    return load_exposure(source, result.options.cutout) if is_mosaic_name(source) else None


def run_inject(arguments: argparse.Namespace) -> None:
    """Inject sources of known flux, and write what became of them."""
    manager = arguments.manager
    catalogs = _catalog_suffixes(manager)
    outputs = _check_outputs(arguments, output=catalogs, sources=catalogs, plot=PLOT_SUFFIXES)
    options = _options(arguments)
    injection = collect_stage("injection", vars(arguments), arguments.config)
    result = inject(arguments.mosaic, options, injection, psf=arguments.psf, progress=not arguments.quiet)
    write_result(result.table, arguments.output, options, manager)
    if arguments.sources:
        write_result(result.sources, arguments.sources, options, manager)
    if arguments.plot:
        plot_injection(arguments.plot, result.table, overwrite=arguments.overwrite)
    limits = [(f"{100 * level:.0f} %", *result.limit(level)) for level in (0.5, 0.9)]
    words = [f"{level} at {mag:.2f} +- {error:.2f} mag" for level, mag, error in limits if np.isfinite(mag)]
    _say(
        arguments,
        f"{', '.join(map(str, outputs))}: {len(result.sources)} {injection.shape} sources injected, complete to "
        f"{', '.join(words) or 'neither 50 nor 90 % within the magnitudes'}, noise preset {options.variance.noise}",
    )


def run_galfit(arguments: argparse.Namespace) -> None:
    """Write stamps of the sources of a catalogue, or around a position, for a fitting code."""
    manager, files = arguments.manager, find_source(arguments.mosaic)
    if arguments.id is not None and arguments.catalog is None:
        raise PhotplugError("--id counts the sources of a catalogue; give --catalog, or --position instead")
    settings = {"directory": arguments.output, "overwrite": arguments.overwrite, "progress": not arguments.quiet}
    _check_outputs(arguments, plot=SHEET_SUFFIXES)
    galfit = replace(collect_stage("galfit", vars(arguments), arguments.config), **settings)
    given: dict[str, Any] = {"psf": arguments.psf}
    if arguments.catalog is None:
        sources = places = SkyCoord([arguments.position], unit="deg")
    else:
        sources = read_catalog(arguments.catalog)
        places = find_positions(sources)[choose_rows(sources, arguments.id)]
        given |= {"ids": arguments.id, "calibration": read_calibration(sources.meta, files)}
        own = f"{band_of(files)}_{galfit.flux}"
        galfit = replace(galfit, flux=own) if own in sources.colnames else galfit
    options = replace(_options(arguments), cutout=surround(places, galfit.size))
    image = load_source(files, options, manager)
    if arguments.use_segmentation:
        given["segmentation"] = read_labels(arguments.use_segmentation, image)
    selected = select_sources(image, sources, **given)
    written = ask_first(
        manager, "photplug_galfit", f"format {galfit.format!r}", image=image, sources=selected, options=galfit
    )
    sheets: list[Path] = []
    if arguments.plot:
        sheets = plot_stamps(arguments.plot, cut_stamps(image, selected, galfit), overwrite=arguments.overwrite)
    _say(
        arguments,
        f"{', '.join(map(str, [arguments.output, *sheets]))}: {len(written)} files of {len(selected.targets)} stamps, "
        f"{_describe_noise(image.meta)}",
    )


def run_epochs(arguments: argparse.Namespace) -> None:
    """Print the epochs of a log, or of one position, or add those of each source to a catalogue."""
    if (arguments.catalog is None) != (arguments.output is None):
        raise PhotplugError("--catalog and -o belong together; give the catalogue to read and the one to write")
    manager, overwrite = arguments.manager, arguments.overwrite
    outputs = _check_outputs(
        arguments,
        output=tuple(EXTENDED_FORMATS),
        footprints=FOOTPRINT_SUFFIXES,
        exposure_map=IMAGE_SUFFIXES,
        plot=PLOT_SUFFIXES,
    )
    path = Path(arguments.mosaic)
    log = read_exposure_log(path) if path.suffix == ".csv" else exposure_log(find_mosaic(path))
    if log is None:
        raise PhotplugError(f"{path}: the mosaic has no WCS log ({find_mosaic(path).name}_wcs.csv); put it beside")
    options = _options(arguments)
    if arguments.footprints:
        write_footprints(log, arguments.footprints, overwrite=overwrite)
    if arguments.exposure_map:
        write_exposure_map(log, arguments.exposure_map, *_find_grid(arguments), overwrite=overwrite)
    if arguments.plot:
        frame = None if path.suffix == ".csv" else _find_grid(arguments)
        plot_log(log, arguments.plot, frame, _visit_gap(options), overwrite=overwrite)
    if len(outputs) > (arguments.output is not None):
        named = (arguments.footprints, arguments.exposure_map, arguments.plot)
        _say(arguments, f"{', '.join(str(out) for out in named if out)}: {len(log)} exposures of {log.name}")
    if arguments.position:
        ra, dec = arguments.position
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "none of the", PhotplugWarning)  # the error below says it
            epochs = find_epochs(log, SkyCoord([ra], [dec], unit="deg"), options, manager)
        if not epochs["n_exp"][0]:
            raise PhotplugError(f"{path}: no exposure covers the position {ra} {dec}; give one on the mosaic, in deg")
        width = max(map(len, epochs.colnames))
        print("\n".join(f"{name:<{width}} {_format_epoch(name, epochs[name][0])}" for name in epochs.colnames))
    elif arguments.catalog:
        table, added = _add_epochs(arguments, log, options)
        write_extended(table, arguments.output, added=added, original=arguments.catalog, overwrite=overwrite)
        _say(arguments, f"{arguments.output}: {len(table)} rows, {np.sum(table['n_exp'] > 0)} covered by {log.name}")
    elif not outputs:
        print("\n".join(describe_log(log)))


def _format_epoch(name: str, value: Any) -> str:
    """Return the value of a column, or its values for each visit, as text."""
    if isinstance(value, np.ndarray) and value.ndim and not isinstance(value, u.Quantity):
        return " ".join(_format_epoch(name, each) for each in value)
    # Seven decimals of a day are 0.01 s, the precision of the log's dates.
    return f"{value:{'.7f' if 'mjd' in name else '.3f' if name.startswith('visit_') else ''}}"


def _find_grid(arguments: argparse.Namespace) -> tuple[WCS, tuple[int, int]]:
    """Return WCS and shape of the image that ``--like`` names, or of the mosaic."""
    like = arguments.like or arguments.mosaic
    if not Path(like).is_file() or not str(like).endswith(IMAGE_SUFFIXES):
        like = find_mosaic(like).science
    with ImageReader(like) as image:
        return header_wcs(image.header), image.shape


def _visit_gap(options: Options) -> u.Quantity | None:
    return None if options.epochs.visit_gap is None else options.epochs.visit_gap * u.d


def _add_epochs(arguments: argparse.Namespace, log: ExposureLog, options: Options) -> tuple[Table, list[str]]:
    """Return the catalogue with the epochs of its positions, and the names of their columns."""
    path, table = arguments.catalog, read_catalog(arguments.catalog)
    present = [spec.name for spec in epoch_columns(options.epochs.groups) if spec.name in table.colnames]
    if present and not options.overwrite:
        raise PhotplugError(f"{path}: has the column {present[0]} already; add --overwrite to replace it")
    try:
        position = find_positions(table)
    except PhotplugError as error:
        raise PhotplugError(f"{path}: {error}") from None
    epochs = find_epochs(log, position, options, arguments.manager)
    extended = add_columns(table, epochs, overwrite=True)
    extended.meta.update(epochs.meta)
    return extended, epochs.colnames


def run_plugins(arguments: argparse.Namespace) -> None:
    """Print each plugin, where it comes from, and its hooks, in the order in which they are asked."""
    for name, origin, hooks in describe_plugins(arguments.manager):
        print(f"{name:<14} {origin:<20} {', '.join(hooks)}")


def run_demonstration(arguments: argparse.Namespace) -> None:
    """Simulate two bands, and run everything on them."""
    run_demo(arguments.output, arguments.manager, quiet=arguments.quiet, overwrite=arguments.overwrite)
