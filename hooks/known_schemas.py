"""Recognises the catalogues that people have: the archive's, SExtractor's, photutils', and others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from astropy.table import Table

    from dja_photplug.foreign.schema import CatalogSchema


@hookimpl
def photplug_schema(table: Table) -> CatalogSchema | None:
    """Claim the kinds that are built in."""
    from dja_photplug.foreign.known import PLAIN
    from dja_photplug.foreign.recognise import choose_schema

    schema = choose_schema(table)
    return None if schema is PLAIN else schema
