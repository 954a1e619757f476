"""``survey``: many fields from a list, a catalogue of each."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

from dja_photplug.cli.shared import ANALYSIS, Subparsers, add_command, say
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import CATALOG_FORMATS
from dja_photplug.hookspecs import hookimpl

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "make a catalogue of each of many fields, as `catalog` does; complete fields are skipped"
    stages = (*ANALYSIS, "epochs", "bands", "tiles", "output")
    command = add_command(subparsers, "survey", run, help, stages=stages, engine=True)
    help = (
        "list of fields, with their bands and options; flags override the options of a field, which override those of "
    )
    help += "the whole list, which override --config"
    command.add_argument("fields", type=Path, metavar="FIELDS.toml", help=help)
    help = "output folder for the catalogues and summary.ecsv"
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=help)
    help = f"suffix of the catalogues: {', '.join(CATALOG_FORMATS)} (default %(default)s)"
    command.add_argument("--suffix", default=next(iter(CATALOG_FORMATS)), metavar=".SUFFIX", help=help)
    command.add_argument("--segmentations", action="store_true", help="also write the segmentation maps")
    command.add_argument("--redo", action="store_true", help="redo all fields, even complete ones")


def run(arguments: Namespace) -> None:
    """Make the catalogues of the fields that are not complete, and sum up."""
    from dja_photplug.surveys.check import SUMMARY
    from dja_photplug.surveys.plan import read_fields
    from dja_photplug.surveys.run import run_fields
    from dja_photplug.surveys.state import SurveyOutput

    manager, directory = arguments.manager, arguments.output
    fields = read_fields(arguments.fields, manager, flags=vars(arguments), config=arguments.config)
    output = SurveyOutput(
        directory=directory,
        suffix=arguments.suffix,
        segmentations=arguments.segmentations,
        redo=arguments.redo,
        overwrite=arguments.overwrite,
    )
    summary = run_fields(fields, output, manager, progress=not arguments.quiet, debug=arguments.debug)
    lines = summary.pformat(max_lines=-1, max_width=-1, align=["<", "<", ">", "<", ">", "<"])
    say(arguments, "\n".join(line.rstrip() for line in lines))
    count = Counter(summary["status"])
    say(arguments, f"{directory / SUMMARY}: {', '.join(f'{number} {status}' for status, number in count.items())}")
    failed = list(summary["field"][summary["status"] == "failed"])
    if failed:
        raise PhotplugError(
            f"{len(failed)} of {len(summary)} fields failed: {', '.join(failed)}; {directory / SUMMARY} says why"
        )
