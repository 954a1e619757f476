"""``inject``: sources of known flux, to see what is recovered and whether the errors are right."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from dja_photplug.cli.shared import (
    ANALYSIS,
    Subparsers,
    add_command,
    add_cutout,
    add_psf,
    check_outputs,
    find_mosaics,
    make_options,
    own_psf,
    say,
)
from dja_photplug.files.formats import PLOT_SUFFIXES
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.arguments import collect_stage
from dja_photplug.options.commands import InjectionOptions
from dja_photplug.options.effects import describe_idle_injection
from dja_photplug.outputs.run import warn_after_outputs

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "inject sources of known flux, to measure completeness, flux bias and the accuracy of the errors"
    stages = (*ANALYSIS, "injection")
    command = add_command(subparsers, "inject", run, help, mosaic=True, stages=stages, engine=True)
    help = "output table of magnitude bins; also .ecsv, .parquet"
    command.add_argument("-o", "--output", type=Path, required=True, metavar="TABLE.fits", help=help)
    command.add_argument("--sources", type=Path, metavar="OUT.fits", help="write a table of all injected sources")
    help = "write scatter/error by magnitude, distance to the nearest segment and depth zone"
    command.add_argument("--splits", type=Path, metavar="OUT.fits", help=help)
    help = "write the fitted completeness curves with their uncertainty, for the mosaic and each depth zone"
    command.add_argument("--curves", type=Path, metavar="OUT.fits", help=help)
    help = "write the 50, 80 and 90 %% completeness limits with errors, for the mosaic and each depth zone"
    command.add_argument("--limits", type=Path, metavar="OUT.fits", help=help)
    command.add_argument("--plot", type=Path, metavar="OUT.png", help="plot completeness, flux bias and scatter")
    add_psf(command, "FITS image of the PSF, of any size and pixel scale, for point sources")
    add_cutout(command)


def run(arguments: Namespace) -> None:
    """Inject sources of known flux, and write what became of them."""
    from dja_photplug.completeness.bins import describe_clear_sky
    from dja_photplug.figures.injection import plot_injection
    from dja_photplug.injection.run import inject
    from dja_photplug.pipeline.one_band import write_result
    from dja_photplug.plugins.options import catalog_suffixes, complete_options

    manager = arguments.manager
    catalogs = catalog_suffixes(manager)
    tables = ("sources", "splits", "curves", "limits")
    suffixes = {"output": catalogs, **dict.fromkeys(tables, catalogs), "plot": PLOT_SUFFIXES}
    outputs = check_outputs(arguments, **suffixes)
    options = complete_options(make_options(arguments), manager)
    injection = collect_stage(InjectionOptions, vars(arguments), arguments.config, arguments.plugin_stages)
    [source] = find_mosaics(arguments)
    given = {"psf": own_psf(arguments, source), "manager": manager, "progress": not arguments.quiet}
    for note in describe_idle_injection(injection, vars(arguments), psf=given["psf"] is not None):
        warn_after_outputs(note)
    result = inject(source, options, injection, **given)
    write_result(result.table, arguments.output, options, manager)
    for name in tables:
        if path := getattr(arguments, name):
            write_result(getattr(result, name), path, options, manager)
    if arguments.plot:
        plot_injection(arguments.plot, result.table, result.completeness, overwrite=arguments.overwrite)
    limits, *more = result.completeness.describe()
    say(
        arguments,
        f"{', '.join(map(str, outputs))}: {len(result.sources)} {injection.shape} sources injected, {limits}, noise "
        f"preset {options.variance.noise}",
    )
    for line in more:
        say(arguments, line)
    say(arguments, describe_clear_sky(result.sources))
