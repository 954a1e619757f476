"""The noise presets ``dja``, ``calibrated`` and ``background``."""

from __future__ import annotations

from typing import Any

from dja_photplug.hookspecs import hookimpl
from dja_photplug.mosaic.fullweight import ExposureMap, NoiseModel, make_noise_model
from dja_photplug.options.stages import Options


@hookimpl
def photplug_variance(header: Any, exposure: ExposureMap | None, log: Any, options: Options) -> NoiseModel:
    """Claim every image."""
    return make_noise_model(header, exposure, log, options.variance)
