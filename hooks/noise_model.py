"""The noise presets ``dja``, ``calibrated`` and ``background``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.run import Options
from dja_photplug.options.stages import NOISE_PRESETS

if TYPE_CHECKING:
    from dja_photplug.epochs.log import ExposureLog
    from dja_photplug.mosaic.models.electrons import Header
    from dja_photplug.mosaic.models.exposure import ExposureMap
    from dja_photplug.mosaic.models.fullweight import NoiseModel


@hookimpl
def photplug_variance(
    header: Header, exposure: ExposureMap | None, log: ExposureLog | None, options: Options
) -> NoiseModel | None:
    """Claim the presets that are built in."""
    if options.variance.noise not in NOISE_PRESETS:
        return None
    from dja_photplug.mosaic.models.fullweight import make_noise_model

    return make_noise_model(header, exposure, log, options.variance)
