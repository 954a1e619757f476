"""The command ``dja-photplug``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from dja_photplug import __version__
from dja_photplug.blocks import IMAGE_SUFFIXES, ImageReader, write_image
from dja_photplug.catalog import CATALOG_FORMATS, EPOCH_COLUMNS, REGION_SUFFIXES, write_regions
from dja_photplug.demo import run_demo
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.exposurelog import ExposureLog, read_exposure_log
from dja_photplug.geometry import header_wcs, pixel_scale
from dja_photplug.mosaic import WEIGHT_KINDS, exposure_log, load_exposure, write_weight
from dja_photplug.options import Options, add_flags, collect_options
from dja_photplug.outputs import check_output
from dja_photplug.pipeline import find_epochs, load_source, measure_background_errors, run, write_result
from dja_photplug.plots import PLOT_SUFFIXES, plot_catalog
from dja_photplug.plugins import ask_all, describe_plugins, get_plugin_manager
from dja_photplug.products import MosaicFiles, find_mosaic
from dja_photplug.variance import detector_gain, phot_scale

__all__ = ["main"]


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text)


def _options(arguments: argparse.Namespace) -> Options:
    """Build the options of a command from its flags and its TOML file."""
    options = collect_options(vars(arguments), arguments.config)
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
        for line in _describe_log(log):
            print(line)
    try:
        print(f"phot_scale  {phot_scale(header):.6g} DN/s per 10 nJy")
        gain, source = detector_gain(header, log)
        print(f"gain        {gain:.3f} e-/DN ({source}); used by the preset calibrated")
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


def _describe_log(log: ExposureLog) -> list[str]:
    table = log.table
    detectors = sorted(set(table["detector"]))
    lines = [
        f"WCS log     {len(log)} exposures in {len(set(table['visit']))} visits, "
        f"{table['exptime'].to_value(u.ks).sum():.2f} ks, {len(detectors)} detectors ({', '.join(detectors)})"
    ]
    dates = table["mjd_avg"].to_value(u.d)
    if np.isfinite(dates).any():
        lines.append(f"epochs      MJD {np.nanmin(dates):.3f} to {np.nanmax(dates):.3f} (UTC)")
    return lines


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


def run_epochs(arguments: argparse.Namespace) -> None:
    """Print the epochs of a log, or of one position, or add those of each source to a catalogue."""
    if (arguments.catalog is None) != (arguments.output is None):
        raise PhotplugError("--catalog and -o belong together; give the catalogue to read and the one to write")
    _check_outputs(arguments, output=_catalog_suffixes(arguments.manager))
    path = Path(arguments.mosaic)
    log = read_exposure_log(path) if path.suffix == ".csv" else exposure_log(find_mosaic(path))
    if log is None:
        raise PhotplugError(f"{path}: the mosaic has no WCS log ({find_mosaic(path).name}_wcs.csv); put it beside")
    options = replace(Options(), overwrite=arguments.overwrite)
    if arguments.position:
        ra, dec = arguments.position
        epochs = find_epochs(log, SkyCoord([ra], [dec], unit="deg"), options, arguments.manager)
        if not epochs["n_exp"][0]:
            raise PhotplugError(f"{path}: no exposure covers the position {ra} {dec}; give one on the mosaic, in deg")
        # Seven decimals of a day are 0.01 s, the precision of the log's dates.
        print(
            "\n".join(
                f"{name:<9} {epochs[name][0]:{'.7f' if name.startswith('mjd') else ''}}" for name in epochs.colnames
            )
        )
    elif arguments.catalog:
        table = _add_epochs(arguments.catalog, log, options, arguments.manager)
        write_result(table, arguments.output, options, arguments.manager)
        _say(arguments, f"{arguments.output}: {len(table)} rows, {np.sum(table['n_exp'] > 0)} covered by {log.name}")
    else:
        print("\n".join(_describe_log(log)))


def _add_epochs(path: Path, log: ExposureLog, options: Options, manager: pluggy.PluginManager) -> QTable:
    """Return the catalogue of `path` with the epochs of its positions."""
    try:
        table = QTable.read(path)
    except Exception as error:  # each format has its own
        raise PhotplugError(
            f"{path}: not a catalogue that astropy reads ({error}); give FITS, ECSV or Parquet"
        ) from error
    missing = {"ra", "dec"} - set(table.colnames)
    present = [spec.name for spec in EPOCH_COLUMNS if spec.name in table.colnames]
    if missing:
        raise PhotplugError(f"{path}: has no column {' and '.join(sorted(missing))}; name the positions so, in deg")
    if present and not options.overwrite:
        raise PhotplugError(f"{path}: has the column {present[0]} already; add --overwrite to replace it")
    position = SkyCoord(u.Quantity(table["ra"], u.deg), u.Quantity(table["dec"], u.deg))
    for name, column in find_epochs(log, position, options, manager).items():
        table[name] = column
    return table


def run_plugins(arguments: argparse.Namespace) -> None:
    """Print each plugin, where it comes from, and its hooks, in the order in which they are asked."""
    for name, origin, hooks in describe_plugins(arguments.manager):
        print(f"{name:<14} {origin:<20} {', '.join(hooks)}")


def _demo(arguments: argparse.Namespace) -> None:
    run_demo(arguments.output, arguments.manager, quiet=arguments.quiet, overwrite=arguments.overwrite)


_CUTOUT = {
    "nargs": 3,
    "type": float,
    "metavar": ("RA", "DEC", "ARCSEC"),
    "help": "only a square around this position (deg) with this side",
}


def _build_parser(manager: pluggy.PluginManager) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dja-photplug",
        description="Photometry on DAWN JWST Archive mosaics with the full, Poisson-inclusive weight.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, function: Any, help: str, *stages: str, mosaic: bool = True, engine: bool = False) -> Any:
        command = subparsers.add_parser(name, help=help, description=help)
        command.set_defaults(run=function)
        if mosaic:
            command.add_argument("mosaic", metavar="PREFIX", help="prefix of a mosaic, or any member file")
        command.add_argument("--quiet", action="store_true", help="say nothing on success, show no progress")
        command.add_argument("--overwrite", action="store_true", help="replace existing output files")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if stages:
            add_flags(command, stages, engine=engine)
        return command

    add("info", run_info, "what a mosaic is made of")
    weight = add("weight", run_weight, "write the full weight, or its sigma or variance", "variance")
    weight.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.fits", help=".fits or .fits.gz")
    weight.add_argument(
        "--kind", choices=tuple(WEIGHT_KINDS), default="weight", help="what to write (default %(default)s)"
    )
    weight.add_argument("--cutout", **_CUTOUT)

    catalog = add(
        "catalog",
        run_catalog,
        "detect and measure the sources of a mosaic",
        *("variance", "background", "detect", "measure"),
        engine=True,
    )
    catalog.add_argument("-o", "--output", type=Path, required=True, metavar="CAT.fits", help="also .ecsv or .parquet")
    catalog.add_argument("--segmentation", type=Path, metavar="OUT.fits", help="write the segmentation image")
    catalog.add_argument("--regions", type=Path, metavar="OUT.reg", help="write the Kron ellipses for DS9")
    catalog.add_argument("--plot", type=Path, metavar="OUT.png", help="draw planes, sources and errors")
    catalog.add_argument("--cutout", **_CUTOUT)

    epochs = add("epochs", run_epochs, "the epochs of the exposures, of a position or of each source")
    epochs.add_argument("--position", nargs=2, type=float, metavar=("RA", "DEC"), help="of this position, in deg")
    epochs.add_argument("--catalog", type=Path, metavar="CAT", help="of each row of this catalogue (ra, dec)")
    epochs.add_argument("-o", "--output", type=Path, metavar="OUT", help="the catalogue with the epochs")

    demo = add("demo", _demo, "simulate two bands with known truth and run everything on them", mosaic=False)
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("dja-photplug-demo"),
        metavar="DIR",
        help="a new or empty folder (default %(default)s)",
    )
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
