"""Completion of commands, flags and values in the shell, by argcomplete, which is an extra.

Choices and names of files complete by themselves; here is what completes the names of mosaics, bands, presets and
engines. argcomplete sets an environment variable where it asks; this module is imported there alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from dja_photplug.files.grammar import ProductName, parse_source
from dja_photplug.options.stages import ENGINES, EPOCH_DETAILS, NOISE_PRESETS

__all__ = ["complete", "complete_bands", "complete_mosaics"]

Completer = Callable[..., Iterable[str]]


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks for completions, and end.

    Parameters
    ----------
    parser : ArgumentParser
        With its commands.
    """
    try:
        import argcomplete
    except ImportError:  # the shell was set up by another environment
        sys.exit(1)
    subparsers = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for command in (command for each in subparsers for command in each.choices.values()):
        for action in command._actions:
            if completer := _COMPLETERS.get(action.dest):
                action.completer = completer
    argcomplete.autocomplete(parser)


def complete_mosaics(prefix: str, **others: object) -> list[str]:
    """Return the prefixes of mosaics that begin so, and the folders; where there are none, the files.

    Parameters
    ----------
    prefix : str
        What stands on the command line.
    **others
        What argcomplete tells too.

    Returns
    -------
    list of str
    """
    before, _, start = prefix.rpartition("/")
    folder = Path(before or ("/" if prefix.startswith("/") else "."))
    try:
        entries = sorted(folder.expanduser().iterdir())
    except OSError:
        return []
    names = {f"{entry.name}/" for entry in entries if entry.is_dir() and not entry.name.startswith(".")}
    products = (ProductName.parse(entry.name) for entry in entries)
    names |= {name.mosaic for name in products if name is not None and name.kind == "sci"}
    found = [name for name in sorted(names) if name.startswith(start)]
    found = found or [entry.name for entry in entries if entry.name.startswith(start)]
    return [f"{before}/{name}" if "/" in prefix else name for name in found]


def complete_bands(prefix: str, parsed_args: argparse.Namespace, **others: object) -> list[str]:
    """Return the bands of the mosaics that stand on the command line, and the stacks.

    Parameters
    ----------
    prefix : str
        What stands there of the band.
    parsed_args : Namespace
        What is known of the line.
    **others
        What argcomplete tells too.

    Returns
    -------
    list of str
    """
    names = [parse_source(Path(name).name) for name in getattr(parsed_args, "mosaics", None) or []]
    bands = [*(name.band for name in names if name is not None), "ir", "stack"]
    return [band for band in bands if band.startswith(prefix)]


def _complete_list(*values: str) -> Completer:
    """Return what completes one of several values between commas."""

    def completer(prefix: str, **others: object) -> list[str]:
        before, comma, _ = prefix.rpartition(",")
        return [f"{before}{comma}{value}" for value in values]

    return completer


_COMPLETERS: dict[str, Completer] = {
    "mosaic": complete_mosaics,
    "mosaics": complete_mosaics,
    "bands.detect": complete_bands,
    "bands.match": complete_bands,
    "options.engine": _complete_list(*ENGINES),
    "variance.noise": _complete_list(*NOISE_PRESETS),
    "galfit.format": _complete_list("galfit", "imfit", "pysersic", "statmorph", "npz"),
    "output.format": _complete_list("table", "eazy", "lephare"),
    "epochs.details": _complete_list("none", "all", *EPOCH_DETAILS),
}
