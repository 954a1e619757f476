"""The catalogue that a command was given: which table of a file, what its columns are, and how it is read."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.options.arguments import collect_stage
from dja_photplug.options.commands import ExtendOptions
from dja_photplug.options.declare import declarations
from dja_photplug.outputs.run import protect

if TYPE_CHECKING:
    from astropy.table import Table
    from astropy.wcs import WCS

    from dja_photplug.foreign.columns import CatalogColumns

__all__ = ["GivenCatalog", "add_catalog_flags", "read_given"]

# Which metadata tell the version of somebody's catalogue: that of its programme, where it tells no other.
_VERSION_CARDS = ("CATVER", "RELEASE", "VERSION", "CREATED", "DATE")


def add_catalog_flags(
    command: argparse.ArgumentParser, *, columns: Collection[str] = ("ra", "dec", "id_column", "schema")
) -> None:
    """Give a command of a catalogue the flags that say which table it is in, and what its columns are.

    Parameters
    ----------
    command : ArgumentParser
        For :func:`read_given`.
    columns : collection of str, optional
        Fields of `ExtendOptions` that become flags.
    """
    group = command.add_argument_group("input catalogue")
    help = "name or number of the table in a file of several (also cat.fits[NAME]); by default the first with positions"
    group.add_argument("--hdu", metavar="NAME", help=help)
    for name, meta in declarations(ExtendOptions):
        if name in columns:
            dest, flag = f"extend.{name}", "--" + name.replace("_", "-")
            group.add_argument(flag, dest=dest, default=argparse.SUPPRESS, metavar="NAME", help=meta["help"])


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCatalog:
    """A catalogue that a command was given.

    Attributes
    ----------
    path : Path
        With the name of the table in brackets, where the file has several.
    table : `~astropy.table.Table`
    columns : CatalogColumns
        What its columns are.
    grid : WCS or None
        Of the image that it was made on: the one that ``--like`` names, or that its file keeps.
    tell : callable
        Warns of what was assumed in reading it; called once nothing is refused any more, as a refusal is one line.
    """

    path: Path
    table: Table
    columns: CatalogColumns
    grid: WCS | None
    tell: Callable[[], None]

    def link(self) -> dict[str, str]:
        """Return what the metadata of an extended catalogue say of this one.

        Returns
        -------
        dict of str to str
            File, kind, column of ids and version, as far as they are known and it says nothing itself.
        """
        version = next((self.table.meta[key] for key in _VERSION_CARDS if key in self.table.meta), None)
        known = {"SRCCAT": self.path.name, "SRCKIND": self.columns.schema.name, "SRCIDS": self.columns.ids}
        known["SRCVER"] = None if version is None else str(version)
        return {key: value for key, value in known.items() if value and key not in self.table.meta}

    def describe(self, *, places_alone: bool = False) -> str:
        """Return what it is read as, and what of it is used.

        Parameters
        ----------
        places_alone : bool, optional
            Whether nothing is used but the positions.

        Returns
        -------
        str
            One line.
        """
        from dja_photplug.foreign.columns import read_places, read_position
        from dja_photplug.foreign.grids import find_scale
        from dja_photplug.foreign.recognise import describe_columns

        places, position = read_places(self.table, self.columns), read_position(self.table, self.columns)
        scale = find_scale(self.table, self.columns.schema, position, places, self.grid)
        return f"{self.path}: {describe_columns(self.table, self.columns, scale, places_alone=places_alone)}"


def read_given(arguments: argparse.Namespace) -> GivenCatalog:
    """Read a catalogue that a command was given.

    Parameters
    ----------
    arguments : Namespace
        With ``catalog``, and the flags of :func:`add_catalog_flags`.

    Returns
    -------
    GivenCatalog

    Raises
    ------
    PhotplugError
        Where it cannot be read, or is not of the schema that was named.
    """
    from dja_photplug.files.fitsbytes import split_name
    from dja_photplug.files.pixels import read_grid
    from dja_photplug.files.tables.read import choose_table, read_catalog
    from dja_photplug.foreign.grids import read_own_grid
    from dja_photplug.foreign.recognise import preferred_tables
    from dja_photplug.pipeline.extend import find_columns

    extend = collect_stage(ExtendOptions, vars(arguments), getattr(arguments, "config", None), arguments.plugin_stages)
    with warnings.catch_warnings(record=True) as assumed:
        warnings.simplefilter("always", PhotplugWarning)
        path = choose_table(arguments.catalog, arguments.hdu, preferred_tables())
        protect([split_name(path)[0]], "the catalogue")
        table = read_catalog(path)

    def tell() -> None:
        for warning in assumed:
            warnings.warn(str(warning.message), PhotplugWarning, stacklevel=2)

    try:
        columns = find_columns(table, extend, arguments.manager)
    except PhotplugError as error:
        raise PhotplugError(f"{path}: {error}") from None
    grid = read_own_grid(split_name(path)[0]) if extend.like is None else read_grid(extend.like).wcs
    return GivenCatalog(path=path, table=table, columns=columns, grid=grid, tell=tell)
