"""``plugins``: who provides which hooks."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dja_photplug.cli.facts import Facts, add_json
from dja_photplug.cli.shared import Subparsers, add_command
from dja_photplug.hookspecs import hookimpl
from dja_photplug.plugins.manager import describe_plugins

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    add_json(add_command(subparsers, "plugins", run, "list the plugins and their hooks"))


def run(arguments: Namespace) -> None:
    """Print each plugin, where it comes from, and its hooks, in the order in which they are asked."""
    facts = Facts()
    for name, origin, hooks in describe_plugins(arguments.manager):
        text = f"{name:<16} {origin:<20} {', '.join(hooks)}"
        facts.tell(text, {"plugins": [{"name": name, "origin": origin, "hooks": hooks}]})
    facts.print(as_json=arguments.json)
