"""Writes stamps for fitting codes: galfit, imfit, pysersic, statmorph, and plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from dja_photplug.fitting.field import FitSources
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.options.commands import GalfitOptions


@hookimpl
def photplug_galfit(image: MosaicImage, sources: FitSources, options: GalfitOptions) -> list[Path] | None:
    """Claim the formats that are built in."""
    from dja_photplug.fitting.formats import FORMATS
    from dja_photplug.fitting.select import write_stamps

    return write_stamps(image, sources, options) if options.format in FORMATS else None
