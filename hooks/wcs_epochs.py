"""Epochs of the exposures that saw a position, by their full SIP WCS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable

    from dja_photplug.epochs.log import ExposureLog
    from dja_photplug.options.run import Options


@hookimpl
def photplug_epochs(log: ExposureLog, coordinates: SkyCoord, options: Options) -> QTable:
    """Claim every log."""
    from astropy import units as u

    gap = options.epochs.visit_gap
    return log.epochs(coordinates, options.epochs.groups, None if gap is None else gap * u.d)
