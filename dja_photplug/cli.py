"""The command ``dja-photplug``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

from dja_photplug import __version__
from dja_photplug.blocks import IMAGE_SUFFIXES, ImageReader, read_image, write_image
from dja_photplug.catalog import CATALOG_FORMATS, REGION_SUFFIXES, epoch_columns, write_regions
from dja_photplug.configuration import add_flags, collect_options, collect_stage
from dja_photplug.demo import run_demo
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.exposurelog import ExposureLog, read_exposure_log
from dja_photplug.geometry import header_wcs, pixel_scale
from dja_photplug.image import WEIGHT_KINDS, write_weight
from dja_photplug.injection import inject
from dja_photplug.injectionplot import plot_injection
from dja_photplug.logproducts import (
    FOOTPRINT_SUFFIXES,
    agreement_with_map,
    compare_with_header,
    describe_log,
    find_overlap,
    plot_log,
    write_exposure_map,
    write_footprints,
)
from dja_photplug.mosaic import check_detector_gain, exposure_log, load_exposure
from dja_photplug.options import PIXEL_DEFAULTS, Options
from dja_photplug.outputs import check_output
from dja_photplug.pipeline import find_epochs, load_source, measure_background_errors, run, write_result
from dja_photplug.plots import PLOT_SUFFIXES, plot_catalog
from dja_photplug.plugins import ask_all, describe_plugins, get_plugin_manager
from dja_photplug.products import MosaicFiles, find_mosaic
from dja_photplug.units import detector_gain, phot_scale

__all__ = ["main"]


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text)


def _options(arguments: argparse.Namespace) -> Options:
    """Build the options of a command from its flags and its TOML file."""
    options = collect_options(vars(arguments), arguments.config, arguments.defaults)
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


def _catalog_suffixes(manager: pluggy.PluginManager) -> tuple[str, ...]:
    """Return the suffixes of catalogues; any, where a plugin writes others than the built-in one."""
    alone = len(manager.hook.photplug_write.get_hookimpls()) == 1
    return tuple(CATALOG_FORMATS) if alone else ()


def _describe_noise(image: Any) -> str:
    """Return the choice of noise in words, from the metadata that every output holds."""
    meta = image.meta
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
    _say(arguments, f"{arguments.output}: {arguments.kind}, {_describe_noise(image)}")


def run_catalog(arguments: argparse.Namespace) -> None:
    """Detect and measure, and write the catalogue and what else was asked for."""
    manager = arguments.manager
    outputs = _check_outputs(
        arguments,
        output=_catalog_suffixes(manager),
        segmentation=IMAGE_SUFFIXES,
        regions=REGION_SUFFIXES,
        plot=PLOT_SUFFIXES,
    )
    options = _options(arguments)
    result = run([arguments.mosaic], options, manager=manager, progress=not arguments.quiet)
    write_result(result.catalog, arguments.output, options, manager)
    wcs, overwrite = result.image.wcs, arguments.overwrite
    if arguments.segmentation:
        write_image(arguments.segmentation, result.detection.segmentation, wcs.to_header(), overwrite=overwrite)
    if arguments.regions:
        write_regions(result.catalog, arguments.regions, wcs, overwrite=overwrite)
    if arguments.plot:
        draw_catalog(arguments.mosaic, result, arguments.plot, manager, overwrite=overwrite)
    _say(
        arguments,
        f"{', '.join(map(str, outputs))}: {len(result.catalog)} sources, engine {options.engine}, "
        f"{_describe_noise(result.image)}",
    )


def draw_catalog(mosaic: str, result: Any, path: Path, manager: pluggy.PluginManager, *, overwrite: bool) -> None:
    """Draw planes, sources and errors of a run."""
    alone = None if result.image.background_weight is None else measure_background_errors(result, manager)
    plot_catalog(
        path,
        result.image,
        load_exposure(mosaic, result.options.cutout),
        result.catalog,
        alone,
        result.detection.segmentation,
        overwrite=overwrite,
    )


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


def run_epochs(arguments: argparse.Namespace) -> None:
    """Print the epochs of a log, or of one position, or add those of each source to a catalogue."""
    if (arguments.catalog is None) != (arguments.output is None):
        raise PhotplugError("--catalog and -o belong together; give the catalogue to read and the one to write")
    manager, overwrite = arguments.manager, arguments.overwrite
    outputs = _check_outputs(
        arguments,
        output=_catalog_suffixes(manager),
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
        table = _add_epochs(arguments.catalog, log, options, manager)
        write_result(table, arguments.output, options, manager)
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


def _add_epochs(path: Path, log: ExposureLog, options: Options, manager: pluggy.PluginManager) -> QTable:
    """Return the catalogue of `path` with the epochs of its positions."""
    try:
        table = QTable.read(path)
    except Exception as error:  # each format has its own
        raise PhotplugError(
            f"{path}: not a catalogue that astropy reads ({error}); give FITS, ECSV or Parquet"
        ) from error
    missing = {"ra", "dec"} - set(table.colnames)
    specs = epoch_columns(options.epochs.groups)
    present = [spec.name for spec in specs if spec.name in table.colnames]
    if missing:
        raise PhotplugError(f"{path}: has no column {' and '.join(sorted(missing))}; name the positions so, in deg")
    if present and not options.overwrite:
        raise PhotplugError(f"{path}: has the column {present[0]} already; add --overwrite to replace it")
    position = SkyCoord(u.Quantity(table["ra"], u.deg), u.Quantity(table["dec"], u.deg))
    epochs = find_epochs(log, position, options, manager)
    for name, column in epochs.items():
        table[name] = column
    table.meta.update(epochs.meta)
    return table


def run_plugins(arguments: argparse.Namespace) -> None:
    """Print each plugin, where it comes from, and its hooks, in the order in which they are asked."""
    for name, origin, hooks in describe_plugins(arguments.manager):
        print(f"{name:<14} {origin:<20} {', '.join(hooks)}")


def _demo(arguments: argparse.Namespace) -> None:
    run_demo(arguments.output, arguments.manager, quiet=arguments.quiet, overwrite=arguments.overwrite)


def _add_cutout(command: argparse.ArgumentParser) -> None:
    names, help = ("RA", "DEC", "ARCSEC"), "only a square around this position (deg) with this side"
    command.add_argument("--cutout", nargs=3, type=float, metavar=names, help=help)


def _add_command(
    subparsers: Any,
    name: str,
    function: Callable[[argparse.Namespace], None],
    help: str,
    *stages: str,
    mosaic: bool = True,
    engine: bool = False,
    defaults: Options | None = None,
) -> argparse.ArgumentParser:
    """Add a command with the flags that all have, and those of its stages."""
    command: argparse.ArgumentParser = subparsers.add_parser(name, help=help, description=help)
    command.set_defaults(run=function, defaults=defaults)
    if mosaic:
        command.add_argument("mosaic", metavar="PREFIX", help="prefix of a mosaic, or any member file")
    command.add_argument("--quiet", action="store_true", help="say nothing on success, show no progress")
    command.add_argument("--overwrite", action="store_true", help="replace existing output files")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if stages:
        add_flags(command, stages, engine=engine, defaults=defaults)
    return command


ANALYSIS = ("variance", "background", "detect", "calibration", "measure")
"""The stages whose options every analysis of a mosaic takes."""


def _add_pixel_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    add("info", run_info, "what a mosaic is made of")
    help = "write the full weight, or its sigma or variance"
    weight = add("weight", run_weight, help, "variance", defaults=PIXEL_DEFAULTS)
    weight.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.fits", help=".fits or .fits.gz")
    kinds = tuple(WEIGHT_KINDS)
    weight.add_argument("--kind", choices=kinds, default=kinds[0], help="what to write (default %(default)s)")
    _add_cutout(weight)


def _add_source_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    help = "detect and measure the sources of a mosaic"
    catalog = add("catalog", run_catalog, help, *ANALYSIS, "epochs", engine=True)
    catalog.add_argument("-o", "--output", type=Path, required=True, metavar="CAT.fits", help="also .ecsv or .parquet")
    catalog.add_argument("--segmentation", type=Path, metavar="OUT.fits", help="write the segmentation image")
    catalog.add_argument("--regions", type=Path, metavar="OUT.reg", help="write the Kron ellipses for DS9")
    catalog.add_argument("--plot", type=Path, metavar="OUT.png", help="draw planes, sources and errors")
    _add_cutout(catalog)

    help = "inject sources of known flux: completeness, flux bias, and whether the errors are right"
    injection = add("inject", run_inject, help, *ANALYSIS, "injection", engine=True)
    help = "bins of magnitude; also .ecsv, .parquet"
    injection.add_argument("-o", "--output", type=Path, required=True, metavar="TABLE.fits", help=help)
    injection.add_argument("--sources", type=Path, metavar="OUT.fits", help="write each injected source")
    injection.add_argument("--plot", type=Path, metavar="OUT.png", help="draw completeness, bias and scatter")
    injection.add_argument("--psf", type=Path, metavar="PSF.fits", help="PSF on the mosaic's pixel scale, for points")
    _add_cutout(injection)


def _add_epoch_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    epochs = add("epochs", run_epochs, "the epochs of the exposures, of a position or of each source", "epochs")
    epochs.add_argument("--position", nargs=2, type=float, metavar=("RA", "DEC"), help="of this position, in deg")
    epochs.add_argument("--catalog", type=Path, metavar="CAT", help="of each row of this catalogue (ra, dec)")
    epochs.add_argument("-o", "--output", type=Path, metavar="OUT", help="the catalogue with the epochs")
    epochs.add_argument("--footprints", type=Path, metavar="OUT.reg", help="write the footprints for DS9")
    epochs.add_argument("--exposure-map", type=Path, metavar="OUT.fits", help="write the exposure time of each pixel")
    epochs.add_argument("--like", metavar="FILE", help="image or mosaic with the pixels of --exposure-map")
    epochs.add_argument("--plot", type=Path, metavar="OUT.png", help="draw footprints, exposure time and visits")


def _build_parser(manager: pluggy.PluginManager) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dja-photplug",
        description="Photometry on DAWN JWST Archive mosaics with the full, Poisson-inclusive weight.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = partial(_add_command, subparsers)
    _add_pixel_commands(add)
    _add_source_commands(add)
    _add_epoch_command(add)
    demo = add("demo", _demo, "simulate two bands with known truth and run everything on them", mosaic=False)
    folder, help = Path("dja-photplug-demo"), "a new or empty folder (default %(default)s)"
    demo.add_argument("-o", "--output", type=Path, default=folder, metavar="DIR", help=help)
    add("plugins", run_plugins, "the plugins and their hooks", mosaic=False)
    ask_all(manager, "photplug_register_commands", subparsers=subparsers)
    return parser


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    print(f"dja-photplug: warning: {' '.join(str(message).split())}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    0 on success, 1 on bad input (one line on stderr), 2 on a usage error, 130 on Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", PhotplugWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]  # takes the place as *place
            manager = get_plugin_manager()
            arguments = _build_parser(manager).parse_args(argv)
            arguments.manager = manager
            arguments.run(arguments)
        sys.stdout.flush()
    except PhotplugError as error:
        if "--debug" in argv:
            raise
        print(f"dja-photplug: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `dja-photplug plugins | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("dja-photplug: interrupted", file=sys.stderr)
        return 130
    return 0
