"""``report``: one page to look at a catalogue with."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from dja_photplug.cli.given import add_catalog_flags, read_given
from dja_photplug.cli.shared import Subparsers, add_command, check_outputs, say
from dja_photplug.files.formats import REPORT_SUFFIXES, TABLE_SUFFIXES
from dja_photplug.hookspecs import hookimpl

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "write an HTML report of a catalogue: field, sources, stamps, spectra, errors, depth"
    command = add_command(subparsers, "report", run, help, catalog=TABLE_SUFFIXES, stages=())
    command.set_defaults(config=None)
    add_catalog_flags(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.html", help="output HTML page")
    help = "folder of the mosaics; by default the folder in the catalogue's metadata"
    command.add_argument("--mosaics", type=Path, metavar="FOLDER", help=help)
    help = "segmentation map labelled by id, to outline the sources"
    command.add_argument("--segmentation", type=Path, metavar="SEG.fits", help=help)
    help = "table of magnitude bins from `inject -o`"
    command.add_argument("--completeness", type=Path, metavar="TABLE.fits", help=help)


def run(arguments: Namespace) -> None:
    """Write the report of a catalogue."""
    from dja_photplug.reports.make import report
    from dja_photplug.reports.page import require_bokeh

    require_bokeh()
    check_outputs(arguments, output=REPORT_SUFFIXES)
    given = read_given(arguments)
    given.tell()
    report(
        given.path,
        arguments.output,
        mosaics=arguments.mosaics,
        segmentation=arguments.segmentation,
        completeness=arguments.completeness,
        columns=given.columns,
        manager=arguments.manager,
        progress=not arguments.quiet,
        overwrite=arguments.overwrite,
    )
    say(arguments, f"{arguments.output}: {len(given.table)} sources of {given.path}")
