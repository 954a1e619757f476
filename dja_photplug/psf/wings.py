"""All light of a star of which a stamp holds a part, by what diffraction sends beyond it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dja_photplug.psf.model import grow_light
from dja_photplug.simulate.diffraction import diffract

__all__ = ["find_total"]

Floats = NDArray[np.float64]

# Light beyond a radius falls as its inverse for a pupil with a hard edge, a little less steeply with gaps and struts.
# What the stamp holds beyond POWER_FROM of its half-side then tells all of it.
POWER, POWER_FROM = 0.78, 0.5
# With the wings of JWST's pupil it is told by what is beyond 0.5 arcsec of stamps of 4: to 0.2 % of simulated stars,
# which have such wings, and to 0.7 % of grizli's stamps of NIRCam (0.9 to 4.4 um), whose wings have 1.1 to 1.7 times as
# much light. A level of sky as one more unknown makes that 1.2 %.
PUPIL_FROM = 0.25
# Of the wavelength: that of wide filters, which smooths rings.
BANDWIDTH = 0.2
RINGS = 30  # radii of the curve of growth that is fitted


def find_total(data: Floats, scale: float, wavelength: float | None = None) -> float:
    """Return all light of a star in the middle of a stamp, that beyond it too.

    The curve of growth in the outer part of the stamp, against what diffraction sends beyond a radius, is a line to all
    light.

    Parameters
    ----------
    data : ndarray
        (side, side).
    scale : float
        Arcsec per pixel.
    wavelength : float, optional
        In m, of an image by JWST, whose pupil tells how light falls with radius. Without it that is a power of the
        radius.

    Returns
    -------
    float
        No less than the stamp holds.
    """
    middle = len(data) // 2
    start = POWER_FROM if wavelength is None else PUPIL_FROM
    radius = np.linspace(start * middle, middle, RINGS)
    light = grow_light(data, (middle, middle), radius)
    beyond = radius**-POWER if wavelength is None else _pupil_wings(wavelength, radius * scale)
    slope, total = np.polyfit(beyond, light, 1)
    return max(float(total), float(data.sum())) if slope < 0 else float(data.sum())


def _pupil_wings(wavelength: float, radius: Floats) -> Floats:
    """Return the share of the light beyond radii in arcsec that JWST's pupil sends there."""
    psf = diffract(wavelength, BANDWIDTH, float(radius.max()) + 0.1)
    middle = len(psf.samples) // 2
    return 1 - grow_light(psf.pixels(), (middle, middle), radius / psf.scale)
