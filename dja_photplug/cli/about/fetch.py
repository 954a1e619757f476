"""``fetch``: mosaics from the archive's server."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from dja_photplug.cli.shared import Subparsers, add_command, say
from dja_photplug.errors import PhotplugError
from dja_photplug.hookspecs import hookimpl

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    from dja_photplug.archive.releases import ARCHIVE_URL, URL_VARIABLE

    command = add_command(subparsers, "fetch", run, "download mosaics from the archive, or list its fields and filters")
    command.add_argument("root", metavar="ROOT", nargs="?", help="field with its version, such as gds-grizli-v7.2")
    command.add_argument("filters", metavar="FILTER", nargs="*", help="filter, such as f444w-clear or f444w")
    command.add_argument("--list", action="store_true", help="only list the fields, or the filters of ROOT")
    help = "output folder (default: the current one)"
    command.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help=help)
    command.add_argument(
        "--base-url", metavar="URL", help=f"URL of the folder to fetch from (default: {URL_VARIABLE}, or {ARCHIVE_URL})"
    )


def run(arguments: Namespace) -> None:
    """Fetch all files of mosaics, or list fields and filters."""
    from dja_photplug.archive.fetch import fetch, list_members

    if arguments.list:
        _list(arguments)
        return
    if arguments.root is None or not arguments.filters:
        raise PhotplugError("fetch: give a field and its filters; fetch --list [ROOT] lists them")
    mosaics = fetch(
        arguments.root,
        arguments.filters,
        arguments.output,
        base_url=arguments.base_url,
        overwrite=arguments.overwrite,
        progress=not arguments.quiet,
    )
    for files in mosaics:
        members = list_members(files)
        size = sum(path.stat().st_size for path in members) / 1e6
        say(arguments, f"{files}: {len(members)} files, {size:.1f} MB")


def _list(arguments: Namespace) -> None:
    from dja_photplug.archive.releases import archive_folder, list_fields, list_filters

    folder = archive_folder(arguments.base_url)
    if arguments.filters:
        raise PhotplugError(f"fetch --list takes at most one field; leave out {' '.join(arguments.filters)}")
    if arguments.root is not None:
        print("\n".join(list_filters(folder, arguments.root)))
        return
    for root, count in list_fields(folder).items():
        print(f"{root:<40} {count} mosaics" if count else root)
