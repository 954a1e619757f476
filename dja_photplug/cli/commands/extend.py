"""``extend``: the sources of a catalogue in more bands."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from dja_photplug.cli.given import add_catalog_flags, read_given
from dja_photplug.cli.shared import ANALYSIS, Subparsers, add_command, check_outputs, find_mosaics, make_options, say
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import EXTENDED_FORMATS, TABLE_SUFFIXES
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.arguments import collect_stage
from dja_photplug.options.commands import ExtendOptions

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "measure the sources of a catalogue in more bands"
    stages = (*ANALYSIS, "epochs", "bands", "tiles", "output", "extend")
    command = add_command(
        subparsers, "extend", run, help, mosaics=True, catalog=TABLE_SUFFIXES, stages=stages, engine=True
    )
    help = f"extended catalogue: {', '.join(EXTENDED_FORMATS)}"
    add_catalog_flags(command, columns=())
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=help)


def run(arguments: Namespace) -> None:
    """Add the photometry and epochs of more bands to a catalogue."""
    from astropy.table import QTable

    from dja_photplug.catalog.photoz import CHECKS
    from dja_photplug.catalog.schema import array_columns
    from dja_photplug.files.tables.columns import add_columns
    from dja_photplug.files.tables.compare import check_extended
    from dja_photplug.files.tables.write import write_extended
    from dja_photplug.pipeline.extend import catalog_options, measure_columns
    from dja_photplug.pipeline.one_band import write_result
    from dja_photplug.plugins.options import catalog_suffixes, complete_options

    manager, overwrite = arguments.manager, arguments.overwrite
    given = read_given(arguments)
    table = given.table
    defaults = catalog_options(table, schema=given.columns.schema)
    options = make_options(arguments, defaults)
    if options.measure.positions != "auto":
        raise PhotplugError("option positions: extend measures at the positions of the catalogue; leave it out")
    options = complete_options(options, manager)
    output = options.output
    written_here = output.format == "table" and output.schema == "photplug"
    suffixes = tuple(EXTENDED_FORMATS) if written_here else catalog_suffixes(manager, output.format, output.schema)
    check_outputs(arguments, output=suffixes)
    if output.format in CHECKS:
        CHECKS[output.format](arguments.output, overwrite=overwrite)
    extend = collect_stage(ExtendOptions, vars(arguments), arguments.config, arguments.plugin_stages)

    def check(names: Sequence[str]) -> None:
        if written_here:
            new = array_columns(names, options.epochs.groups)
            check_extended(table, arguments.output, new=new, original=given.path)

    columns, meta = measure_columns(
        table,
        find_mosaics(arguments),
        options,
        extend=extend,
        manager=manager,
        progress=not arguments.quiet,
        check=check,
        own=given.grid,
    )
    given.tell()
    extended = add_columns(table, columns, overwrite=extend.overwrite_columns)
    extended.meta |= given.link() | meta
    if written_here:
        added, original = list(columns), given.path
        write_extended(extended, arguments.output, added=added, original=original, overwrite=overwrite)
    else:
        write_result(QTable(extended), arguments.output, options, manager)
    places_alone = set(extend.columns) == {"epochs"}
    say(arguments, given.describe(places_alone=places_alone))
    noise = "" if places_alone else f", noise preset {options.variance.noise}"
    units = dict.fromkeys(str(column.unit) for name, column in columns.items() if "_flux_a" in name)
    noise += f", fluxes in {', '.join(units)}" if written_here and units else ""
    say(arguments, f"{arguments.output}: {len(extended)} rows, {len(columns)} columns added{noise}")
