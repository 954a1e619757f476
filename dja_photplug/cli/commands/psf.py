"""``psf``: the PSF of a mosaic, from its stars, or from its log and the PSFs of detectors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.shared import (
    Subparsers,
    add_command,
    check_outputs,
    find_mosaics,
    make_options,
    say,
)
from dja_photplug.files.formats import IMAGE_SUFFIXES, PLOT_SUFFIXES
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.arguments import collect_stage
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.stages import PSFOptions

if TYPE_CHECKING:
    from dja_photplug.files.names import Source
    from dja_photplug.options.stages import Options

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "make the PSF of a mosaic, from its stars or from its log"
    stages = ("variance", "background", "detect", "psf")
    command = add_command(subparsers, "psf", run, help, stages=stages, engine=True)
    command.add_argument("how", choices=("stars", "log"), help="from its stars, or its log and PSFs of detectors")
    command.add_argument("mosaic", metavar="PREFIX", help="prefix of a mosaic, any member file, or what a plugin finds")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="PSF.fits", help=".fits or .fits.gz")
    help = "draw the PSF, its curve of growth and what it was made of"
    command.add_argument("--plot", type=Path, metavar="OUT.png", help=help)


def run(arguments: Namespace) -> None:
    """Write the PSF of a mosaic."""
    from dja_photplug.pipeline.plugins import complete_options

    check_outputs(arguments, output=IMAGE_SUFFIXES, plot=PLOT_SUFFIXES)
    options = complete_options(make_options(arguments), arguments.manager)
    stage = collect_stage(PSFOptions, vars(arguments), arguments.config, arguments.plugin_stages)
    [source] = find_mosaics(arguments)
    options = settle_bands(options, [source.band])
    _from_stars(arguments, source, options, stage)


def _from_stars(arguments: Namespace, source: Source, options: Options, stage: PSFOptions) -> None:
    """Write the PSF that the stars of a mosaic show."""
    from dja_photplug.figures.psf import plot_stars
    from dja_photplug.pipeline.images import load_source
    from dja_photplug.pipeline.one_band import analyse_image
    from dja_photplug.psf.regions import PSFModel, write_psf_model
    from dja_photplug.sources.stars import psf_from_stars

    image = load_source(source, options, arguments.manager)
    found = analyse_image(image, options, arguments.manager, calibrated=False)
    stack = psf_from_stars(image, found.detection, found.catalog, options, psf=stage, name=str(source))
    cards = {"INPUT": str(source), "FILTER": source.band} | stack.cards()
    model = PSFModel(stamps=(stack.psf,), name=arguments.output.name, meta=cards)
    write_psf_model(model, arguments.output, overwrite=arguments.overwrite)
    if arguments.plot:
        plot_stars(arguments.plot, stack, overwrite=arguments.overwrite)
    outputs = ", ".join(str(path) for path in (arguments.output, arguments.plot) if path)
    side, share = len(stack.psf.data), stack.psf.data.sum()
    say(
        arguments,
        f"{outputs}: the PSF of {len(stack.stars)} stars, {side} x {side} pixels of {stack.psf.scale:.4g} arcsec that "
        f"hold {share:.1%} of the light",
    )
