"""``epochs``: when the exposures of a log saw a position, or each source of a catalogue."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.facts import Facts, Json, add_json
from dja_photplug.cli.given import GivenCatalog, add_catalog_flags, read_given
from dja_photplug.cli.shared import (
    Subparsers,
    add_command,
    add_position,
    check_outputs,
    find_mosaics,
    make_options,
    place_position,
    say,
)
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import EXTENDED_FORMATS, IMAGE_SUFFIXES, PLOT_SUFFIXES, REGION_SUFFIXES
from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from astropy.table import Table
    from astropy.units import Quantity

    from dja_photplug.epochs.log import ExposureLog
    from dja_photplug.options.run import Options
    from dja_photplug.sky.grid import Grid

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "list the exposure epochs of a mosaic, a position, or each source of a catalogue"
    command = add_command(subparsers, "epochs", run, help, mosaic=True, stages=("epochs",))
    add_position(command, "list the epochs of this position")
    add_json(command, "the epochs of --position as ")
    command.add_argument("--catalog", type=Path, metavar="CAT", help="add the epochs to each row of this catalogue")
    add_catalog_flags(command)
    command.add_argument("--prefix", default="", metavar="TEXT", help="prefix of the new columns")
    command.add_argument("-o", "--output", type=Path, metavar="OUT", help="output catalogue with the epochs")
    help = "list the programmes of all exposures, or of those that cover the position or catalogue"
    command.add_argument("--cite", action="store_true", help=help)
    help = "for --cite: table of programmes and principal investigators (program, pi)"
    command.add_argument("--investigators", type=Path, metavar="TABLE", help=help)
    command.add_argument(
        "--footprints", type=Path, metavar="OUT.reg", help="write the exposure footprints as DS9 regions"
    )
    help = "write a map of the exposure time per pixel"
    command.add_argument("--exposure-map", type=Path, metavar="OUT.fits", help=help)
    command.add_argument("--like", metavar="FILE", help="image or mosaic whose pixel grid --exposure-map uses")
    command.add_argument(
        "--plot", type=Path, metavar="OUT.png", help="plot footprints, exposure time, visits and the position"
    )


def run(arguments: Namespace) -> None:
    """Print the epochs of a log, or of one position, or add those of each source to a catalogue."""
    from dja_photplug.epochs.products import describe_log

    if arguments.investigators and not arguments.cite:
        raise PhotplugError("--investigators works only with --cite; add it")
    if arguments.json and (not arguments.position or arguments.cite):
        raise PhotplugError("--json prints the epochs of a --position; give one, without --cite")
    if (arguments.catalog is None) != (arguments.output is None) and not arguments.cite:
        raise PhotplugError("--catalog and -o belong together; give the catalogue to read and the one to write")
    outputs = check_outputs(
        arguments,
        output=tuple(EXTENDED_FORMATS),
        footprints=REGION_SUFFIXES,
        exposure_map=IMAGE_SUFFIXES,
        plot=PLOT_SUFFIXES,
    )
    log, options = _find_log(arguments), make_options(arguments)
    _write_products(arguments, log, options)
    if arguments.cite:
        _cite(arguments, log)
    if arguments.cite and not arguments.output:
        return
    if arguments.position:
        _print_position(arguments, log, options)
    elif arguments.catalog:
        _extend_catalog(arguments, log, options)
    elif not outputs:
        print("\n".join(describe_log(log)[0]))


def _is_log(arguments: Namespace) -> bool:
    return Path(arguments.mosaic).suffix == ".csv"


def _find_log(arguments: Namespace) -> ExposureLog:
    """Return the log that was named, or that of the source."""
    from dja_photplug.epochs.log import exposure_log, read_exposure_log

    if _is_log(arguments):
        return read_exposure_log(arguments.mosaic)
    [source] = find_mosaics(arguments)
    log = exposure_log(source)
    if log is None:
        raise PhotplugError(
            f"{arguments.mosaic}: the mosaic has no WCS log ({source.name}_wcs.csv); put it next to the mosaic"
        )
    return log


def _write_products(arguments: Namespace, log: ExposureLog, options: Options) -> None:
    """Write footprints, exposure map and figure where they are asked for."""
    from dja_photplug.epochs.products import write_exposure_map, write_footprints
    from dja_photplug.figures.epochs import plot_log

    overwrite = arguments.overwrite
    if arguments.footprints:
        write_footprints(log, arguments.footprints, overwrite=overwrite)
    if arguments.exposure_map:
        write_exposure_map(log, arguments.exposure_map, *_find_grid(arguments), overwrite=overwrite)
    if arguments.plot:
        frame = None if _is_log(arguments) else _find_grid(arguments)
        position = place_position(*arguments.position) if arguments.position else None
        plot_log(log, arguments.plot, frame, _visit_gap(options), position, overwrite=overwrite)
    named = [path for path in (arguments.footprints, arguments.exposure_map, arguments.plot) if path]
    if named and not arguments.json:
        say(arguments, f"{', '.join(map(str, named))}: {len(log)} exposures of {log.name}")


def _cite(arguments: Namespace, log: ExposureLog) -> None:
    """Print the programmes of a log, or of the exposures that saw a position or the sources of a catalogue."""
    from dja_photplug.catalog.columns import has_position
    from dja_photplug.epochs.programs import format_programs, list_programs, read_investigators
    from dja_photplug.files.tables.read import read_catalog
    from dja_photplug.foreign.columns import read_position

    coords = None
    if arguments.position:
        coords = place_position(*arguments.position).reshape(1)
    elif arguments.catalog:
        given = read_given(arguments)
        position = read_position(given.table, given.columns)
        coords = position[has_position(position)]
    path = arguments.investigators
    known = None if path is None else read_investigators(read_catalog(path), str(path))
    print("\n".join(format_programs(list_programs(log, coords, known))))


def _print_position(arguments: Namespace, log: ExposureLog, options: Options) -> None:
    """Print the epochs of one position, a line for each column."""
    from dja_photplug.pipeline.one_band import find_epochs
    from dja_photplug.sky.position import format_position

    ra, dec = arguments.position
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*none of the", PhotplugWarning)  # the error below says it
        epochs = find_epochs(log, place_position(ra, dec).reshape(1), options, arguments.manager)
    if not epochs["n_exp"][0]:
        raise PhotplugError(
            f"{arguments.mosaic}: no exposure covers the position {format_position(ra, dec)}; give one on the mosaic"
        )
    width, facts = max(map(len, epochs.colnames)), Facts()
    columns = {name: _describe_epoch(epochs[name][0], epochs[name].info.description) for name in epochs.colnames}
    lines = [f"{name:<{width}} {_format_epoch(name, epochs[name][0])}" for name in epochs.colnames]
    facts.tell(lines, {"log": log.name, "ra_deg": ra, "dec_deg": dec, "epochs": columns})
    facts.print(as_json=arguments.json)


def _describe_epoch(value: object, description: str) -> dict[str, Json]:
    """Return value, unit and meaning of a column at one position."""
    import numpy as np

    unit = str(getattr(value, "unit", None) or "")
    plain = np.asarray(getattr(value, "value", value)).tolist()
    items = plain if isinstance(plain, list) else [plain]
    known = [None if isinstance(each, float) and not np.isfinite(each) else each for each in items]
    return {"value": known if isinstance(plain, list) else known[0], "unit": unit, "description": description}


def _format_epoch(name: str, value: object) -> str:
    """Return the value of a column, or its values for each visit, as text."""
    import numpy as np
    from astropy import units as u

    if isinstance(value, np.ndarray) and value.ndim and not isinstance(value, u.Quantity):
        return " ".join(_format_epoch(name, each) for each in value)
    unit = getattr(value, "unit", None)
    if "mjd" in name or unit == u.d:
        return f"{value:.7f}"  # 0.01 s, the precision of the log's dates
    return f"{value:{'.3f' if unit is not None or name.startswith('visit_') else ''}}"


def _find_grid(arguments: Namespace) -> Grid:
    """Return the grid of the image that ``--like`` names, or of the mosaic."""
    from dja_photplug.files.pixels import read_grid
    from dja_photplug.options.presets import PIXEL_DEFAULTS
    from dja_photplug.pipeline.images import find_grid, find_source

    like = arguments.like or arguments.mosaic
    if Path(like).is_file() and str(like).endswith(IMAGE_SUFFIXES):
        return read_grid(like)
    return find_grid(find_source(like, arguments.manager), PIXEL_DEFAULTS, arguments.manager)


def _visit_gap(options: Options) -> Quantity | None:
    from astropy import units as u

    return None if options.epochs.visit_gap is None else options.epochs.visit_gap * u.d


def _extend_catalog(arguments: Namespace, log: ExposureLog, options: Options) -> None:
    """Write the catalogue with the epochs of its positions."""
    import numpy as np

    from dja_photplug.files.tables.write import write_extended

    given = read_given(arguments)
    table, added = _add_epochs(given, log, options, arguments)
    given.tell()
    write_extended(table, arguments.output, added=added, original=given.path, overwrite=arguments.overwrite)
    say(arguments, given.describe(places_alone=True))
    covered = np.sum(table[f"{arguments.prefix}n_exp"] > 0)
    say(arguments, f"{arguments.output}: {len(table)} rows, {covered} covered by {log.name}")


def _add_epochs(
    given: GivenCatalog, log: ExposureLog, options: Options, arguments: Namespace
) -> tuple[Table, list[str]]:
    """Return the catalogue with the epochs of its positions, and the names of their columns."""
    from dja_photplug.catalog.columns import describe_missing
    from dja_photplug.catalog.schema import array_columns, epoch_columns
    from dja_photplug.files.tables.columns import add_columns
    from dja_photplug.files.tables.compare import check_extended
    from dja_photplug.foreign.columns import read_position
    from dja_photplug.foreign.recognise import describe_motion
    from dja_photplug.pipeline.one_band import find_epochs

    path, table, prefix = given.path, given.table, arguments.prefix
    names = [prefix + spec.name for spec in epoch_columns(options.epochs.groups)]
    present = [name for name in names if name in table.colnames]
    if present and not options.overwrite:
        raise PhotplugError(
            f"{path}: already has the column {present[0]}; add --overwrite to replace it, or --prefix to rename the "
            "new ones"
        )
    try:
        position = read_position(table, given.columns)
    except PhotplugError as error:
        raise PhotplugError(f"{path}: {error}") from None
    check_extended(table, arguments.output, new=array_columns(names, options.epochs.groups), original=path)
    for note in describe_missing(position, "no exposure covers them") + describe_motion(table):
        warnings.warn(note, PhotplugWarning, stacklevel=2)
    epochs = find_epochs(log, position, options, arguments.manager)
    columns = {prefix + name: column for name, column in epochs.items()}
    extended = add_columns(table, columns, overwrite=True)
    extended.meta |= given.link() | dict(epochs.meta)
    return extended, list(columns)
