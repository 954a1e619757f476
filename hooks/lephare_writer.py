"""Writes catalogues for LePhare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from astropy.table import QTable

    from dja_photplug.options.run import Options


@hookimpl
def photplug_write(catalog: QTable, path: Path, options: Options) -> Path | None:
    """Claim the format ``lephare``."""
    if options.output.format != "lephare":
        return None
    from dja_photplug.catalog.lephare import write_lephare

    return write_lephare(catalog, path, aperture=options.output.eazy_aperture, overwrite=options.overwrite)[0]
