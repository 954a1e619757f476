"""``demo``: two simulated bands through everything, against their truth."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from dja_photplug.cli.shared import Subparsers, add_command
from dja_photplug.hookspecs import hookimpl

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    help = "simulate two bands with known truth, and run everything on them"
    command = add_command(subparsers, "demo", run, help)
    folder, help = Path("dja-photplug-demo"), "new or empty output folder (default %(default)s)"
    command.add_argument("-o", "--output", type=Path, default=folder, metavar="DIR", help=help)


def run(arguments: Namespace) -> None:
    """Simulate two bands, and run everything on them."""
    from dja_photplug.cli.about.demonstration import run_demo

    run_demo(arguments.output, arguments.manager, quiet=arguments.quiet, overwrite=arguments.overwrite)
