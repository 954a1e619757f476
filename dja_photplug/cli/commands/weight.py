"""``weight``: the full weight of a mosaic, or its sigma or variance, as an image."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from dja_photplug.cli.shared import (
    Subparsers,
    add_command,
    add_cutout,
    begin_reading,
    check_outputs,
    describe_weight,
    find_mosaics,
    make_options,
    say,
)
from dja_photplug.files.formats import IMAGE_SUFFIXES, WEIGHT_KINDS
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.presets import PIXEL_DEFAULTS

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "write the full weight map, or the sigma or variance map"
    command = add_command(subparsers, "weight", run, help, mosaic=True, stages=("variance",), defaults=PIXEL_DEFAULTS)
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.fits", help="output image: .fits or .fits.gz"
    )
    kinds = tuple(WEIGHT_KINDS)
    command.add_argument("--kind", choices=kinds, default=kinds[0], help="map to write (default %(default)s)")
    add_cutout(command)


def run(arguments: Namespace) -> None:
    """Write the full weight, sigma or variance of a mosaic."""
    check_outputs(arguments, output=IMAGE_SUFFIXES)
    with begin_reading(arguments.mosaic):
        _write(arguments)


def _write(arguments: Namespace) -> None:
    """Write it, where the file may be there."""
    from dja_photplug.pipeline.streams import write_source_weight
    from dja_photplug.plugins.options import complete_options

    options = complete_options(make_options(arguments), arguments.manager)
    [source] = find_mosaics(arguments)
    options, progress = settle_bands(options, [source.band]), not arguments.quiet
    meta = write_source_weight(source, options, arguments.manager, arguments.output, arguments.kind, progress=progress)
    say(arguments, f"{arguments.output}: {arguments.kind}, {describe_weight(meta)}")
