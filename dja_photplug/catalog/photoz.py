"""The codes for photometric redshifts that catalogues are written for."""

from __future__ import annotations

from dja_photplug.catalog.eazy import check_eazy
from dja_photplug.catalog.lephare import check_lephare

__all__ = ["CHECKS"]

CHECKS = {"eazy": check_eazy, "lephare": check_lephare}
"""By format, what refuses files before the work: several are written, side by side."""
