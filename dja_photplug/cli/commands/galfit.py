"""``galfit``: stamps with sigma images, masks, PSFs and starting values for fitting codes."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.given import add_catalog_flags, read_given
from dja_photplug.cli.shared import (
    Subparsers,
    add_command,
    add_position,
    add_psf,
    check_outputs,
    describe_weight,
    find_mosaics,
    make_options,
    own_psf,
    place_position,
    say,
)
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import SHEET_SUFFIXES
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.arguments import collect_stage
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.commands import GalfitOptions

if TYPE_CHECKING:
    import pluggy
    from astropy.coordinates import SkyCoord

    from dja_photplug.files.names import Source
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.options.run import Options

__all__ = ["photplug_register_commands", "run"]

# What is said of the part of a mosaic around the sources, which is no wish of the user.
NO_WISH = ".* its loader ignored the cut-out|cut-out .* reaches over the edge"


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "write stamps, sigma images, masks, PSFs and initial values for galfit and other fitting codes"
    stages = ("variance", "detect", "galfit")
    command = add_command(subparsers, "galfit", run, help, mosaic=True, stages=stages, engine=True)
    source = command.add_mutually_exclusive_group(required=True)
    add_position(source, "fit the source detected at this position")
    source.add_argument(
        "--catalog", type=Path, metavar="CAT", help="fit sources of this catalogue, from dja_photplug or elsewhere"
    )
    add_catalog_flags(command, columns=("ra", "dec", "id_column", "schema", "like"))
    command.add_argument("--id", nargs="+", type=int, metavar="N", help="ids in the catalogue; by default all")
    add_psf(command, "FITS image of the PSF, of any size and pixel scale")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="output folder")
    help = "plot science, sigma, mask and initial model of each target; .html or .png, several files for many targets"
    command.add_argument("--plot", type=Path, metavar="OUT.png", help=help)


def run(arguments: Namespace) -> None:
    """Write stamps of the sources of a catalogue, or around a position, for a fitting code."""
    from dja_photplug.figures.stamps import plot_stamps
    from dja_photplug.fitting.select import place_targets, select_sources, settle_psf
    from dja_photplug.fitting.stamps import cut_stamps
    from dja_photplug.foreign.view import view_sources
    from dja_photplug.pipeline.galfit import find_fit_sources, turn_shapes, write_selected
    from dja_photplug.pipeline.many_bands import read_calibration
    from dja_photplug.plugins.options import complete_options
    from dja_photplug.sources.segments import read_labels

    manager = arguments.manager
    if arguments.id is not None and arguments.catalog is None:
        raise PhotplugError("--id selects sources of a catalogue; give --catalog, or --position instead")
    check_outputs(arguments, plot=SHEET_SUFFIXES)
    settings = {"directory": arguments.output, "overwrite": arguments.overwrite, "progress": not arguments.quiet}
    galfit = collect_stage(GalfitOptions, vars(arguments), arguments.config, arguments.plugin_stages)
    galfit = replace(galfit, **settings)
    options = complete_options(make_options(arguments), manager)
    [source] = find_mosaics(arguments)
    options, psf = settle_bands(options, [source.band]), own_psf(arguments, source)
    if arguments.catalog is None:
        table, places = None, place_position(*arguments.position).reshape(1)
    else:
        given = read_given(arguments)
        table, wcs = view_sources(given.table, given.columns, given.grid)
        places = place_targets(table, arguments.id)
        own = f"{source.band}_{galfit.flux}"
        galfit = replace(galfit, flux=own) if own in table.colnames else galfit
    image = _load_around(source, places, options, galfit, manager)
    if table is None:
        model = settle_psf(psf, image, galfit.psf_scale)
        selected = replace(find_fit_sources(image, places, options, manager), psf=model)
    else:
        path, calibration = options.detect.use_segmentation, read_calibration(table.meta, source)
        labels = None if path is None else read_labels(path, image)
        given.tell()
        selected = select_sources(
            image,
            turn_shapes(table, wcs, image.wcs),
            ids=arguments.id,
            segmentation=labels,
            name=path or "the segmentation",
            psf=psf,
            psf_scale=galfit.psf_scale,
            calibration=calibration,
        )
        say(arguments, given.describe())
    written = write_selected(image, selected, galfit, manager)
    stamps = cut_stamps(image, selected, galfit) if arguments.plot else ()
    sheets = plot_stamps(arguments.plot, stamps, name=source.name, overwrite=galfit.overwrite) if arguments.plot else []
    say(
        arguments,
        f"{', '.join(map(str, [arguments.output, *sheets]))}: {len(written)} files of {len(selected.targets)} stamps, "
        f"{describe_weight(image.meta)}",
    )


def _load_around(
    source: Source, places: SkyCoord, options: Options, galfit: GalfitOptions, manager: pluggy.PluginManager
) -> MosaicImage:
    """Return the part of a mosaic that holds the stamps around places."""
    from dja_photplug.fitting.select import surround
    from dja_photplug.pipeline.images import load_source

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", NO_WISH, PhotplugWarning)
        return load_source(source, replace(options, cutout=surround(places, galfit.size)), manager)
