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
# With the wings of JWST's pupil, and a level, it is told by what is beyond 0.6 arcsec of stamps of 4: to 0.4 % of
# simulated stars, which have such wings, where the level is up to 3 % of their light, and to 1.1 % (rms 0.7 %) of
# grizli's stamps of NIRCam (0.9 to 4.4 um), which have no level, and whose wings have 1.1 to 1.7 times as much light.
PUPIL_FROM = 0.3
# Of the wavelength: that of wide filters, which smooths rings.
BANDWIDTH = 0.2
RINGS = 30  # radii of the curve of growth that is fitted


def find_total(data: Floats, scale: float, wavelength: float | None = None) -> tuple[float, float]:
    """Return all light of a star in the middle of a stamp, that beyond it too, and the level under it.

    The curve of growth in the outer part of the stamp is all light, less what diffraction sends beyond a radius, and
    more by the area times the level: sky that was left in, or taken off with the wings of stars, and the wings of
    others.

    Parameters
    ----------
    data : ndarray
        (side, side).
    scale : float
        Arcsec per pixel.
    wavelength : float, optional
        In m, of an image by JWST, whose pupil tells how light falls with radius. Without it that is a power of the
        radius, which is not known well enough to tell a level beside it.

    Returns
    -------
    total : float
        No less than the stamp holds above the level.
    level : float
        In each pixel.
    """
    middle = len(data) // 2
    radius = np.linspace((POWER_FROM if wavelength is None else PUPIL_FROM) * middle, middle, RINGS)
    light = grow_light(data, (middle, middle), radius)
    if wavelength is None:
        beyond, areas = radius**-POWER, []
    else:
        beyond, areas = _pupil_wings(wavelength, radius * scale), [np.pi * radius**2]
    columns = np.column_stack([np.ones(RINGS), -beyond, *areas])
    size = columns.max(axis=0, initial=0) - columns.min(axis=0, initial=0)  # areas are thousands of pixels
    total, amplitude, *levels = np.linalg.lstsq(columns / size, light, rcond=None)[0] / size
    if amplitude <= 0:  # no wings: a Gaussian, or noise
        return float(data.sum()), 0.0
    level = float(levels[0]) if levels else 0.0
    return max(float(total), float(data.sum()) - level * data.size), level


def _pupil_wings(wavelength: float, radius: Floats) -> Floats:
    """Return the share of the light beyond radii in arcsec that JWST's pupil sends there."""
    psf = diffract(wavelength, BANDWIDTH, float(radius.max()) + 0.1)
    middle = len(psf.samples) // 2
    return 1 - grow_light(psf.pixels(), (middle, middle), radius / psf.scale)
