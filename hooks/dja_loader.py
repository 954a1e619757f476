"""Loads DJA products: science image, weight, exposure map and WCS log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dja_photplug.files.names import MosaicFiles
from dja_photplug.hookspecs import hookimpl
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.load import load_mosaic
from dja_photplug.options.stages import Options


@hookimpl
def photplug_load(source: Any, options: Options, variance: Callable[..., Any]) -> MosaicImage | None:
    """Claim what has the name of a DJA mosaic."""
    if not isinstance(source, MosaicFiles):
        return None
    return load_mosaic(source, options.variance, options.cutout, variance=variance)
