"""Epochs of the exposures that saw a position, by their full SIP WCS."""

from __future__ import annotations

from astropy.coordinates import SkyCoord
from astropy.table import QTable

from dja_photplug.exposurelog import ExposureLog
from dja_photplug.hookspecs import hookimpl


@hookimpl
def photplug_epochs(log: ExposureLog, coordinates: SkyCoord) -> QTable:
    """Claim every log."""
    return log.epochs(coordinates)
