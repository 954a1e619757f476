"""``psf``: the PSF of a mosaic, from its stars, or from its log and the PSFs of detectors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.given import add_catalog_flags, read_given
from dja_photplug.cli.shared import (
    MOSAIC_HELP,
    Subparsers,
    add_command,
    add_position,
    check_outputs,
    find_mosaics,
    make_options,
    place_position,
    say,
)
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import IMAGE_SUFFIXES, PLOT_SUFFIXES
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.arguments import collect_stage
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.commands import PSFOptions

if TYPE_CHECKING:
    import numpy as np
    import pluggy
    from astropy.coordinates import SkyCoord
    from numpy.typing import NDArray

    from dja_photplug.files.names import Source
    from dja_photplug.options.run import Options
    from dja_photplug.psf.regions import PSFModel

# Flags of `psf log` alone, and their arguments.
LOG_FLAGS = {"--detector-psf": "detector_psf", "--position": "position", "--catalog": "catalog"}

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "make the PSF of a mosaic, from its stars or its WCS log"
    stages = ("variance", "background", "detect", "psf")
    command = add_command(subparsers, "psf", run, help, stages=stages, engine=True)
    command.add_argument("how", choices=("stars", "log"), help="from its stars, or its WCS log and detector PSFs")
    command.add_argument("mosaic", metavar="PREFIX", help=MOSAIC_HELP)
    help = "detector PSFs: STDPSF, STPSF grids, or oversampled images"
    command.add_argument("--detector-psf", type=Path, nargs="+", metavar="FILE", help=f"for log: {help}")
    places = command.add_mutually_exclusive_group()
    add_position(places, "for log: make the PSF at this position")
    places.add_argument(
        "--catalog", type=Path, metavar="CAT", help="for log: make the PSFs at the positions of this catalogue"
    )
    add_catalog_flags(command)
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PSF.fits", help="output PSF: .fits or .fits.gz"
    )
    help = "plot the PSF, its curve of growth, and the stars or regions behind it"
    command.add_argument("--plot", type=Path, metavar="OUT.png", help=help)


def run(arguments: Namespace) -> None:
    """Write the PSF of a mosaic."""
    from dja_photplug.plugins.options import complete_options

    check_outputs(arguments, output=IMAGE_SUFFIXES, plot=PLOT_SUFFIXES)
    options = complete_options(make_options(arguments), arguments.manager)
    stage = collect_stage(PSFOptions, vars(arguments), arguments.config, arguments.plugin_stages)
    [source] = find_mosaics(arguments)
    options = settle_bands(options, [source.band])
    if arguments.how == "stars":
        if given := [flag for flag, name in LOG_FLAGS.items() if getattr(arguments, name) is not None]:
            raise PhotplugError(f"{given[0]} belongs to `psf log`, not to `psf stars`; leave it out")
        _from_stars(arguments, source, options, stage)
    else:
        _from_log(arguments, source, options, stage)


def _from_stars(arguments: Namespace, source: Source, options: Options, stage: PSFOptions) -> None:
    """Write the PSF that the stars of a mosaic show."""
    from dja_photplug.figures.psf import plot_stars
    from dja_photplug.pipeline.images import load_source
    from dja_photplug.pipeline.steps.analysis import analyse_image
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


def _from_log(arguments: Namespace, source: Source, options: Options, stage: PSFOptions) -> None:
    """Write the PSFs of the exposures that saw places of a mosaic."""
    from tqdm import tqdm

    from dja_photplug.epochs.log import exposure_log
    from dja_photplug.figures.psf import plot_regions
    from dja_photplug.files.names import MosaicFiles
    from dja_photplug.files.pixels import ImageReader, read_grid
    from dja_photplug.psf.detectors import read_detector_psfs
    from dja_photplug.psf.from_log import drizzling_of, psf_from_log
    from dja_photplug.psf.regions import write_psf_model

    if arguments.detector_psf is None:
        raise PhotplugError("`psf log` needs the PSFs of the detectors; give them (--detector-psf)")
    log = exposure_log(source)
    if log is None or not isinstance(source, MosaicFiles):
        raise PhotplugError(f"{source}: the mosaic has no WCS log ({source.name}_wcs.csv); put it next to the mosaic")
    places = _find_places(arguments)
    with ImageReader(source.science) as reader:
        header = reader.header
    quiet = True if arguments.quiet else None
    model = psf_from_log(
        log,
        read_grid(source.science),
        read_detector_psfs(arguments.detector_psf, log, source.filter),
        places,
        drizzling_of(log, header, stage),
        size=stage.size,
        cell=stage.cell,
        name=arguments.output.name,
        bar=lambda regions: tqdm(regions, "regions", disable=quiet),
    )
    model = replace(model, meta={"INPUT": str(source), "FILTER": source.band} | dict(model.meta))
    write_psf_model(model, arguments.output, overwrite=arguments.overwrite)
    if arguments.plot:
        off = _compare_stars(source, options, arguments.manager, model)
        plot_regions(arguments.plot, model, places, off, overwrite=arguments.overwrite)
    outputs = ", ".join(str(path) for path in (arguments.output, arguments.plot) if path)
    say(arguments, f"{outputs}: {len(model.stamps)} PSFs of {len(log)} exposures for {len(places)} places")


def _compare_stars(
    source: Source, options: Options, manager: pluggy.PluginManager, model: PSFModel
) -> NDArray[np.float64]:
    """Return how the stars of a mosaic compare with a PSF."""
    from dja_photplug.figures.psf import STAR_RADII
    from dja_photplug.pipeline.images import load_source
    from dja_photplug.pipeline.steps.analysis import analyse_image
    from dja_photplug.sources.stars import compare_stars

    image = load_source(source, options, manager)
    found = analyse_image(image, options, manager, calibrated=False)
    return compare_stars(model, image, found.detection.segmentation, found.catalog, STAR_RADII)


def _find_places(arguments: Namespace) -> SkyCoord:
    """Return the positions that are asked for."""
    from dja_photplug.catalog.columns import has_position
    from dja_photplug.foreign.columns import read_position

    if arguments.position:
        return place_position(*arguments.position).reshape(1)
    if arguments.catalog is None:
        raise PhotplugError("`psf log` needs positions; give --position or --catalog")
    given = read_given(arguments)
    places = read_position(given.table, given.columns)
    given.tell()
    return places[has_position(places)]
