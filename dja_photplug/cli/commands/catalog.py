"""``catalog``: sources of mosaics, detected once and measured in every band."""

from __future__ import annotations

import argparse
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.shared import (
    ANALYSIS,
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
from dja_photplug.files.formats import CATALOG_FORMATS, IMAGE_SUFFIXES, PLOT_SUFFIXES, REGION_SUFFIXES, REPORT_SUFFIXES
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.presets import LIKE_DJA
from dja_photplug.options.stages import OUTPUT_SCHEMAS

if TYPE_CHECKING:
    import pluggy

    from dja_photplug.files.names import Source
    from dja_photplug.pipeline.steps.result import Result

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "detect sources in mosaics, and measure them in every band"
    stages = (*ANALYSIS, "epochs", "bands", "tiles", "output")
    command = add_command(subparsers, "catalog", run, help, mosaics=True, stages=stages, engine=True)
    help = f"output catalogue: {', '.join(CATALOG_FORMATS)}"
    command.add_argument("-o", "--output", type=Path, required=True, metavar="CAT.fits", help=help)
    help = "same as --write-schema: column names and units"
    command.add_argument("--schema", dest="output.schema", choices=OUTPUT_SCHEMAS, default=argparse.SUPPRESS, help=help)
    help = "use the recipe and columns of the archive's catalogues; other flags override parts of it"
    command.add_argument("--like-dja", action="store_true", help=help)
    command.add_argument("--segmentation", type=Path, metavar="OUT.fits", help="write the segmentation map")
    command.add_argument("--regions", type=Path, metavar="OUT.reg", help="write the Kron ellipses as DS9 regions")
    command.add_argument("--plot", type=Path, metavar="OUT.png", help="plot the image planes, sources and errors")
    help = "write an HTML report of the catalogue"
    command.add_argument("--report", type=Path, metavar="OUT.html", help=help)
    add_cutout(command)


def run(arguments: Namespace) -> None:
    """Detect and measure, and write the catalogue and what else was asked for."""
    with begin_reading(arguments.mosaics[0]):
        _make(arguments)


def _make(arguments: Namespace) -> None:
    """Make it, where the first mosaic may be on its way."""
    from dja_photplug.parallel.early import begin_early

    options = make_options(arguments, LIKE_DJA if arguments.like_dja else None)
    if options.tiles.scheduler is None and options.cutout is None:  # cut-outs of large mosaics are mostly small
        begin_early(arguments.mosaics, options.bands.workers, options.tiles.size)
    from dja_photplug.catalog.photoz import CHECKS
    from dja_photplug.files.tables.columns import check_names
    from dja_photplug.pipeline.catalog import run as make_catalog
    from dja_photplug.pipeline.many_bands import list_columns
    from dja_photplug.pipeline.one_band import write_result
    from dja_photplug.plugins.options import catalog_suffixes, complete_options

    manager, overwrite = arguments.manager, arguments.overwrite
    options = complete_options(options, manager)
    suffixes = catalog_suffixes(manager, options.output.format, options.output.schema)
    beside = {
        "segmentation": IMAGE_SUFFIXES,
        "regions": REGION_SUFFIXES,
        "plot": PLOT_SUFFIXES,
        "report": REPORT_SUFFIXES,
    }
    if arguments.report:
        from dja_photplug.reports.page import require_bokeh

        require_bokeh()
    outputs = check_outputs(arguments, output=suffixes, **beside)
    if options.output.format in CHECKS:
        CHECKS[options.output.format](arguments.output, overwrite=overwrite)
    sources = find_mosaics(arguments)
    named = len(sources) > 1 or options.bands.detect or options.apart
    bands = [source.band for source in sources] if named else []
    check_names(arguments.output, list_columns(options, bands))
    result = make_catalog(
        sources,
        options,
        manager=manager,
        progress=not arguments.quiet,
        keep_image=arguments.plot is not None and not named,
    )
    write_result(result.catalog, arguments.output, options, manager)
    _write_beside(result, sources, arguments)
    meta = result.catalog.meta
    # The noise is that of the bands where the archive's stack, which has no photon noise, is the detection image.
    known = [json.loads(text) for key, text in meta.items() if key.startswith("BAND_")]
    noise = describe_weight(next((band for band in known if "NOISE" in band), meta))
    detected = f" detected on {meta['DETECT']}" if "DETECT" in meta else ""
    detected += f" with errors times {meta['ERRSCALE']:.4g}" if "ERRSCALE" in meta else ""
    say(
        arguments,
        f"{', '.join(map(str, outputs))}: {len(result.catalog)} sources{detected}, engine {options.engine}, {noise}",
    )


def _write_beside(result: Result, sources: Sequence[Source], arguments: Namespace) -> None:
    """Write what was asked for beside the catalogue; what takes 0.4 s to import is imported for it alone."""
    from dja_photplug.files.written import write_image
    from dja_photplug.pipeline.steps.result import fill_columns

    manager, overwrite, wcs = arguments.manager, arguments.overwrite, result.detection.wcs
    if arguments.segmentation:
        write_image(arguments.segmentation, result.detection.segmentation, wcs.to_header(), overwrite=overwrite)
    if arguments.regions:
        from dja_photplug.catalog.regions import write_regions

        write_regions(fill_columns(result), arguments.regions, wcs, overwrite=overwrite)
    if arguments.plot:
        _draw_catalog(result, sources, arguments.plot, manager, overwrite=overwrite)
    if arguments.report:
        from dja_photplug.reports.make import report

        report(result, arguments.report, manager=manager, progress=not arguments.quiet, overwrite=overwrite)


def _draw_catalog(
    result: Result, sources: Sequence[Source], path: Path, manager: pluggy.PluginManager, *, overwrite: bool
) -> None:
    """Draw planes, sources and errors of a run: of its only mosaic, or a row for each band."""
    from dja_photplug.figures.bands import plot_bands
    from dja_photplug.figures.catalog import plot_catalog
    from dja_photplug.mosaic.plan import load_exposure
    from dja_photplug.pipeline.one_band import load_there, measure_background_errors
    from dja_photplug.pipeline.steps.result import fill_columns
    from dja_photplug.sky.grid import Grid

    segments, options = result.detection.segmentation, result.options
    if "BAND_0" in result.catalog.meta:
        images = ((source.band, load_there(source, options, manager)) for source in sources)
        grid = Grid(result.detection.wcs, segments.shape)
        plot_bands(path, fill_columns(result), images, grid, segments, overwrite=overwrite)
        return
    alone = None
    if result.image.background_weight is not None:
        alone = fill_columns(replace(result, catalog=measure_background_errors(result, manager)))
    exposure = None if result.source is None else load_exposure(result.source, options.cutout)
    plot_catalog(path, result.image, exposure, fill_columns(result), alone, segments, overwrite=overwrite)
