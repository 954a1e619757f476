"""The command ``dja-photplug``: its parser, and what becomes of errors."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pluggy

from dja_photplug import __version__
from dja_photplug.cli.shared import (
    run_catalog,
    run_demonstration,
    run_epochs,
    run_extend,
    run_galfit,
    run_info,
    run_inject,
    run_plugins,
    run_weight,
)
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import EXTENDED_FORMATS, TABLE_FORMATS
from dja_photplug.mosaic.image import WEIGHT_KINDS
from dja_photplug.options.arguments import add_flags
from dja_photplug.options.stages import PIXEL_DEFAULTS, Options
from dja_photplug.pipeline.plugins import ask_all, get_plugin_manager

__all__ = ["main"]


def _add_cutout(command: argparse.ArgumentParser) -> None:
    names, help = ("RA", "DEC", "ARCSEC"), "only a square around this position (deg) with this side"
    command.add_argument("--cutout", nargs=3, type=float, metavar=names, help=help)


def _add_command(
    subparsers: Any,
    name: str,
    function: Callable[[argparse.Namespace], None],
    help: str,
    *stages: str,
    catalog: bool = False,
    mosaic: bool | str = True,
    engine: bool = False,
    defaults: Options | None = None,
) -> argparse.ArgumentParser:
    """Add a command with the flags that all have, and those of its stages."""
    command: argparse.ArgumentParser = subparsers.add_parser(name, help=help, description=help)
    command.set_defaults(run=function, defaults=defaults)
    if catalog:
        command.add_argument("catalog", type=Path, metavar="CATALOG", help=f"of {', '.join(TABLE_FORMATS)}")
    help = "prefix of a mosaic, or any member file"
    if mosaic == "many":
        command.add_argument("mosaics", metavar="PREFIX", nargs="+", help=f"{help}; one for each band")
    elif mosaic:
        command.add_argument("mosaic", metavar="PREFIX", help=help)
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
    help = "detect the sources of mosaics, and measure them in every band"
    several = (*ANALYSIS, "epochs", "bands", "output")
    catalog = add("catalog", run_catalog, help, *several, mosaic="many", engine=True)
    catalog.add_argument("-o", "--output", type=Path, required=True, metavar="CAT.fits", help="also .ecsv or .parquet")
    catalog.add_argument("--segmentation", type=Path, metavar="OUT.fits", help="write the segmentation image")
    catalog.add_argument("--regions", type=Path, metavar="OUT.reg", help="write the Kron ellipses for DS9")
    catalog.add_argument("--plot", type=Path, metavar="OUT.png", help="draw planes, sources and errors")
    _add_cutout(catalog)

    help = "measure the sources of a catalogue in more bands"
    extend = add("extend", run_extend, help, *several, "extend", catalog=True, mosaic="many", engine=True)
    help = f"the extended catalogue: {', '.join(EXTENDED_FORMATS)}"
    extend.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=help)

    help = "inject sources of known flux: completeness, flux bias, and whether the errors are right"
    injection = add("inject", run_inject, help, *ANALYSIS, "injection", engine=True)
    help = "bins of magnitude; also .ecsv, .parquet"
    injection.add_argument("-o", "--output", type=Path, required=True, metavar="TABLE.fits", help=help)
    injection.add_argument("--sources", type=Path, metavar="OUT.fits", help="write each injected source")
    injection.add_argument("--plot", type=Path, metavar="OUT.png", help="draw completeness, bias and scatter")
    injection.add_argument("--psf", type=Path, metavar="PSF.fits", help="PSF on the mosaic's pixel scale, for points")
    _add_cutout(injection)


def _add_fit_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    help = "write sigma images, masks, PSFs and starting values for fitting codes, galfit first"
    fit = add("galfit", run_galfit, help, "variance", "galfit", defaults=PIXEL_DEFAULTS)
    source = fit.add_mutually_exclusive_group(required=True)
    source.add_argument("--position", nargs=2, type=float, metavar=("RA", "DEC"), help="around this position, in deg")
    source.add_argument("--catalog", type=Path, metavar="CAT", help="of sources of this catalogue, made by `catalog`")
    fit.add_argument("--id", nargs="+", type=int, metavar="N", help="those of the catalogue; all without it")
    help = "segments of the catalogue, whose labels are its ids; Kron ellipses without it"
    fit.add_argument("--use-segmentation", type=Path, metavar="SEG.fits", help=help)
    fit.add_argument("--psf", type=Path, metavar="PSF.fits", help="PSF of odd size")
    fit.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the files")
    help = "draw science, sigma, mask and starting model of each; .html or .png, several where they are many"
    fit.add_argument("--plot", type=Path, metavar="OUT.png", help=help)


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
    _add_fit_command(add)
    demo = add(
        "demo", run_demonstration, "simulate two bands with known truth and run everything on them", mosaic=False
    )
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
