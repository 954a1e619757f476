"""The Kron aperture of a source, and the circle that stands in for one that is small or unknown."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable
from numpy.typing import NDArray

__all__ = ["kron_circle_radius"]


def kron_circle_radius(table: QTable, least: float) -> NDArray[np.float64]:
    """Return the radius of the circle with the area of each Kron aperture, arcsec; `least` where that is larger."""
    size = np.sqrt(table["a"].to_value(u.arcsec) * table["b"].to_value(u.arcsec))
    return np.fmax(table["kron_radius"] * size, least)
