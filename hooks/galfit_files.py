"""Writes stamps for fitting codes: galfit, imfit, pysersic, statmorph, and plain arrays."""

from __future__ import annotations

from pathlib import Path

from dja_photplug.fitting.formats import FORMATS
from dja_photplug.fitting.select import write_stamps
from dja_photplug.fitting.stamps import FitSources
from dja_photplug.hookspecs import hookimpl
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.stages import GalfitOptions


@hookimpl
def photplug_galfit(image: MosaicImage, sources: FitSources, options: GalfitOptions) -> list[Path] | None:
    """Claim the formats that are built in."""
    return write_stamps(image, sources, options) if options.format in FORMATS else None
