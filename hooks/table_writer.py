"""Writes catalogues as tables, by the suffix of the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from astropy.table import QTable

    from dja_photplug.options.run import Options


@hookimpl
def photplug_write(catalog: QTable, path: Path, options: Options) -> Path | None:
    """Claim the format ``table``; another suffix is an error that lists the formats."""
    if options.output.format != "table":
        return None
    from dja_photplug.foreign.write import write_as

    return write_as(catalog, path, options.output.schema, overwrite=options.overwrite)
