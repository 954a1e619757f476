"""Writes catalogues as FITS, ECSV or Parquet."""

from __future__ import annotations

from pathlib import Path

from astropy.table import QTable

from dja_photplug.files.tables import write_catalog
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.stages import Options


@hookimpl
def photplug_write(catalog: QTable, path: Path, options: Options) -> Path | None:
    """Claim the format ``table``; another suffix is an error that lists the formats."""
    return write_catalog(catalog, path, overwrite=options.overwrite) if options.output.format == "table" else None
