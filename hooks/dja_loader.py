"""Finds and loads DJA products: science image, weight, exposure map and WCS log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.files.names import MosaicFiles, Source, find_mosaic, is_mosaic_name
from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.mosaic.plan import VarianceHook
    from dja_photplug.options.run import Options


@hookimpl
def photplug_find(text: str) -> MosaicFiles | None:
    """Claim what has the name of a DJA mosaic."""
    return find_mosaic(text) if is_mosaic_name(text) else None


@hookimpl
def photplug_load(source: Source, options: Options, variance: VarianceHook) -> MosaicImage | None:
    """Claim the files of DJA mosaics."""
    if not isinstance(source, MosaicFiles):
        return None
    from dja_photplug.mosaic.load import load_mosaic

    return load_mosaic(source, options.variance, options.cutout, variance=variance)
