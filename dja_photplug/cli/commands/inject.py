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
    catalog_suffixes,
    check_outputs,
    find_mosaics,
    make_options,
    own_psf,
    say,
)
from dja_photplug.files.formats import PLOT_SUFFIXES
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.arguments import collect_stage
from dja_photplug.options.stages import InjectionOptions

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "inject sources of known flux: completeness, flux bias, and whether the errors are right"
    stages = (*ANALYSIS, "injection")
    command = add_command(subparsers, "inject", run, help, mosaic=True, stages=stages, engine=True)
    help = "bins of magnitude; also .ecsv, .parquet"
    command.add_argument("-o", "--output", type=Path, required=True, metavar="TABLE.fits", help=help)
    command.add_argument("--sources", type=Path, metavar="OUT.fits", help="write each injected source")
    help = "write scatter over error by magnitude, distance to the nearest segment and depth zone"
    command.add_argument("--splits", type=Path, metavar="OUT.fits", help=help)
    command.add_argument("--plot", type=Path, metavar="OUT.png", help="draw completeness, bias and scatter")
    add_psf(command, "PSF of any size and pixel scale, for points")
    add_cutout(command)


def run(arguments: Namespace) -> None:
    """Inject sources of known flux, and write what became of them."""
    import numpy as np

    from dja_photplug.catalog.completeness import describe_clear_sky
    from dja_photplug.figures.injection import plot_injection
    from dja_photplug.pipeline.injection import inject
    from dja_photplug.pipeline.one_band import write_result
    from dja_photplug.pipeline.plugins import complete_options

    manager = arguments.manager
    catalogs = catalog_suffixes(manager)
    outputs = check_outputs(arguments, output=catalogs, sources=catalogs, splits=catalogs, plot=PLOT_SUFFIXES)
    options = complete_options(make_options(arguments), manager)
    injection = collect_stage(InjectionOptions, vars(arguments), arguments.config, arguments.plugin_stages)
    [source] = find_mosaics(arguments)
    given = {"psf": own_psf(arguments, source), "manager": manager, "progress": not arguments.quiet}
    result = inject(source, options, injection, **given)
    write_result(result.table, arguments.output, options, manager)
    if arguments.sources:
        write_result(result.sources, arguments.sources, options, manager)
    if arguments.splits:
        write_result(result.splits, arguments.splits, options, manager)
    if arguments.plot:
        plot_injection(arguments.plot, result.table, overwrite=arguments.overwrite)
    limits = [(f"{100 * level:.0f} %", *result.limit(level)) for level in (0.5, 0.9)]
    words = [f"{level} at {mag:.2f} +- {error:.2f} mag" for level, mag, error in limits if np.isfinite(mag)]
    say(
        arguments,
        f"{', '.join(map(str, outputs))}: {len(result.sources)} {injection.shape} sources injected, complete to "
        f"{', '.join(words) or 'neither 50 nor 90 % within the magnitudes'}, noise preset {options.variance.noise}",
    )
    say(arguments, describe_clear_sky(result.sources))
