"""What the commands share: their parsers and common flags, options, outputs, and the noise in words.

A command is one module of `dja_photplug.cli.commands`, registered by ``photplug_register_commands`` as plugins do. It
imports what it needs when it runs, so that ``--help`` takes no half second of astropy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.examples import show_example
from dja_photplug.cli.parser import HelpFormatter, PlaceAction
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import decode_text
from dja_photplug.files.names import band_name, find_mosaic, find_owner
from dja_photplug.options.arguments import add_flags, band_value, collect_options
from dja_photplug.options.bands import settle_values
from dja_photplug.options.effects import describe_idle
from dja_photplug.options.run import Options
from dja_photplug.outputs.run import after_outputs, declare, named_files, protect, protect_source, warn_after_outputs
from dja_photplug.outputs.whole import check_output

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

    from dja_photplug.files.names import Source

__all__ = [
    "ANALYSIS",
    "MOSAIC_HELP",
    "Subparsers",
    "add_command",
    "add_cutout",
    "add_position",
    "add_psf",
    "begin_reading",
    "check_outputs",
    "describe_weight",
    "find_mosaics",
    "make_options",
    "own_psf",
    "place_position",
    "say",
]

Subparsers = argparse._SubParsersAction  # argparse has no public name for it

ANALYSIS = ("variance", "background", "detect", "calibration", "measure")
"""The stages whose options every analysis of a mosaic takes."""

MOSAIC_HELP = "mosaic prefix, any of its files, the URL of either, or a name that a plugin resolves"
"""What the commands say of the mosaic that they take."""


def add_command(
    subparsers: Subparsers[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    help: str,
    *,
    mosaic: bool = False,
    mosaics: bool = False,
    catalog: Iterable[str] = (),
    stages: Iterable[str] = (),
    engine: bool = False,
    defaults: Options | None = None,
) -> argparse.ArgumentParser:
    """Add a command with the flags that all have, and those of its stages.

    Parameters
    ----------
    subparsers : argparse action
        From ``photplug_register_commands``.
    name, help : str
    run : callable
        Takes the parsed arguments.
    mosaic, mosaics : bool, optional
        Whether it takes one mosaic, or one for each band.
    catalog : iterable of str, optional
        Suffixes of the catalogue that it takes first, if any.
    stages : iterable of str, optional
        Groups of options that become flags.
    engine : bool, optional
        Whether it has ``--engine``.
    defaults : Options, optional
        Of this command.

    Returns
    -------
    ArgumentParser
        For arguments of its own. Where a plugin has a command of that name it leads nowhere: the plugin's stays.
    """
    taken = name in subparsers.choices
    command = argparse.ArgumentParser() if taken else subparsers.add_parser(name, help=help, description=help)
    command.epilog, command.formatter_class = show_example(name), HelpFormatter
    command.set_defaults(run=run, defaults=defaults)
    suffixes = ", ".join(catalog)
    if suffixes:
        command.add_argument("catalog", type=Path, metavar="CATALOG", help=f"input catalogue: {suffixes}")
    if mosaics:
        command.add_argument("mosaics", metavar="PREFIX", nargs="+", help=f"{MOSAIC_HELP}; one per band")
    elif mosaic:
        command.add_argument("mosaic", metavar="PREFIX", help=MOSAIC_HELP)
    common = command.add_argument_group("common options")
    common.add_argument("--quiet", action="store_true", help="print nothing on success, show no progress")
    common.add_argument("--overwrite", action="store_true", help="replace existing output files")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if stages:
        add_flags(command, stages, engine=engine, defaults=defaults)
    return command


def add_cutout(command: argparse.ArgumentParser) -> None:
    """Give a command the flag ``--cutout RA DEC ARCSEC``.

    Parameters
    ----------
    command : ArgumentParser
        :func:`make_options` makes the cut-out of its options from the flag.
    """
    help = "use only a square with this centre (deg or sexagesimal) and side"
    command.add_argument("--cutout", action=PlaceAction, const=3, metavar="RA DEC ARCSEC", help=help)


def add_position(command: argparse._ActionsContainer, help: str) -> None:
    """Give a command the flag ``--position RA DEC``.

    Parameters
    ----------
    command : ArgumentParser, or a group of one
        Its ``position`` is right ascension and declination in deg, for :func:`place_position`.
    help : str
    """
    help = f"{help} (deg or sexagesimal)"
    command.add_argument("--position", action=PlaceAction, const=2, metavar="RA DEC", help=help)


def place_position(ra: float, dec: float) -> SkyCoord:
    """Return a position that was given.

    Parameters
    ----------
    ra, dec : float
        In deg.

    Returns
    -------
    SkyCoord
        Scalar, ICRS.

    Raises
    ------
    PhotplugError
        Where it is out of range.
    """
    from astropy.coordinates import SkyCoord

    from dja_photplug.sky.position import check_position

    check_position(ra, dec)
    return SkyCoord(ra, dec, unit="deg")


def add_psf(command: argparse.ArgumentParser, help: str) -> None:
    """Give a command of one mosaic the flag ``--psf FILE``, which also takes the ``FILTER=FILE`` of several.

    Parameters
    ----------
    command : ArgumentParser
    help : str
    """
    command.add_argument("--psf", type=band_value(str), action="append", metavar="PSF.fits", help=help)


def own_psf(arguments: argparse.Namespace, source: Source) -> Path | None:
    """Return the file that ``--psf`` names for a source.

    Parameters
    ----------
    arguments : Namespace
    source : Source

    Returns
    -------
    Path or None
        None without the flag.

    Raises
    ------
    PhotplugError
        Where it names the band of another mosaic, or several files.
    """
    given: list[tuple[str, str]] = arguments.psf or []
    if len(given) > 1:
        raise PhotplugError(f"--psf: {len(given)} files for one mosaic; give one")
    values = settle_values("psf", {band_name(band.lower()): path for band, path in given}, [source.band])
    return next((Path(path) for path in values.values()), None)


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print what was done, once the outputs are in their places, unless the user wants quiet.

    Parameters
    ----------
    arguments : Namespace
        With the flag ``quiet``, which all commands have.
    text : str
    """
    if not arguments.quiet:
        after_outputs(text)


def make_options(arguments: argparse.Namespace, defaults: Options | None = None) -> Options:
    """Return the options of a command from its flags and its TOML file, those of plugins too.

    Parameters
    ----------
    arguments : Namespace
        Of a command that :func:`add_command` made.
    defaults : Options, optional
        What holds where neither flags nor file say something; those of the command without it.

    Returns
    -------
    Options
        With the square of ``--cutout``, where the command has that flag, and with ``overwrite``.

    Raises
    ------
    PhotplugError
        Where the file cannot be read, or holds what is no option.

    Warns
    -----
    PhotplugWarning
        Of flags that have no effect beside others, once the outputs are in their places.
    """
    options = collect_options(
        vars(arguments), arguments.config, defaults or arguments.defaults, arguments.plugin_stages
    )
    if getattr(arguments, "cutout", None):
        from astropy import units as u

        ra, dec, size = arguments.cutout
        options = replace(options, cutout=(place_position(ra, dec), size * u.arcsec))
    for note in describe_idle(options, vars(arguments)):
        warn_after_outputs(note)
    protect(named_files(options))
    return replace(options, overwrite=arguments.overwrite)


@contextmanager
def begin_reading(name: str) -> Iterator[None]:
    """Let the pixels of a mosaic be inflated while what works on them is imported, in half a second.

    Parameters
    ----------
    name : str
        A prefix, or a member file.

    Yields
    ------
    None
    """
    from dja_photplug.readers.streams import begin_streams
    from dja_photplug.remote.paths import RemotePath, as_path

    paths: tuple[Path, ...] = ()
    with suppress(PhotplugError):  # told by whoever looks for it again
        if not isinstance(as_path(name), RemotePath):
            files = find_mosaic(name)
            paths = (files.science, files.weight)
    with begin_streams(paths):
        yield


def find_mosaics(arguments: argparse.Namespace) -> list[Source]:
    """Return the sources that a command was given, found once, so that their files travel and not their names.

    Parameters
    ----------
    arguments : Namespace
        With ``mosaics``, or with one ``mosaic``.

    Returns
    -------
    list of Source
        In the order given.
    """
    from dja_photplug.pipeline.images import find_source

    names = arguments.mosaics if "mosaics" in arguments else [arguments.mosaic]
    sources = [find_source(name, arguments.manager) for name in names]
    for source in sources:
        protect_source(source)
    return sources


def check_outputs(arguments: argparse.Namespace, **suffixes: tuple[str, ...]) -> list[Path]:
    """Return the outputs that were asked for, or refuse those that cannot be written before any work is done.

    Whatever else the arguments name is an input, which no output may be.

    Parameters
    ----------
    arguments : Namespace
    **suffixes : tuple of str
        The suffixes that each output may have, by the name of its argument; any, where there are none.

    Returns
    -------
    list of Path
        Without those that the user left out.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.outputs.whole.check_output`, and where two are one file.
    """
    given = {name: getattr(arguments, name) for name in suffixes if getattr(arguments, name) is not None}
    others = {name: value for name, value in vars(arguments).items() if name not in suffixes}
    protect(named_files(others))
    for name, path in given.items():
        declare(check_output(path, overwrite=arguments.overwrite, suffixes=suffixes[name]))
        if (mosaic := find_owner(path)) is not None:
            if path.exists():
                raise PhotplugError(f"{path}: is a member of {mosaic}; name another output")
            raise PhotplugError(f"{path}: the next run would take it for a file of {mosaic}; rename it")
    return list(given.values())


_WEIGHT_CARDS = ("NOISE", "VARFILE", "DETGAIN", "GAINFROM", "GROWTH", "EXPFROM", "NNULL", "NNOTFIN", "NNEGWHT")


def describe_weight(meta: Mapping[str, str | float]) -> str:
    """Return the choice of noise in words, from the metadata that every output holds.

    Parameters
    ----------
    meta : mapping
        Cards of the noise model, as far as there are such.

    Returns
    -------
    str
        Without a full stop, to go on with.
    """
    meta = {key: decode_text(meta[key]) for key in _WEIGHT_CARDS if key in meta}
    text = f"noise preset {meta.get('NOISE', 'of the loader')}"
    if "VARFILE" in meta:
        text += f", variance of {meta['VARFILE']} as it is"
    elif "DETGAIN" in meta:
        # The table has three digits, and a user as many as he gave.
        gain = f"{meta['DETGAIN']:{'.10g' if meta['GAINFROM'] == 'option' else '.3g'}}"
        text += f": detector gain {gain} e-/DN ({meta['GAINFROM']}), {meta['GROWTH']} exposure map"
    if meta.get("EXPFROM") == "WCS log":
        text += " made from the WCS log"
    infinite, negative = (int(meta.get(key, 0)) for key in ("NNOTFIN", "NNEGWHT"))
    null = int(meta.get("NNULL", 0)) - infinite
    if null > 0:
        text += f", {null} pixels with weight but without exposure time (the preset calibrated has fewer)"
    if infinite:
        text += f", {infinite} pixels that are not finite"
    if negative:
        text += f", {negative} pixels with a negative weight"
    return text + (", which count as without data" if infinite or negative else "")
