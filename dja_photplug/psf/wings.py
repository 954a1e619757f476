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
# With the wings of JWST's pupil, and a level of sky, beyond 0.7 arcsec of stamps of 4. Of simulated stars the light is
# then that of the truth to 0.2 %, of grizli's stamps of NIRCam (0.9 to 4.4 um) to 1.2 %, rms 0.6 %, which are not the
# perfect pupil's: wings of F115W have 1.7 times as much light.
PUPIL_FROM = 0.35
# Of the wavelength: that of wide filters, which smooths rings.
BANDWIDTH = 0.2
RINGS = 30  # radii of the curve of growth that is fitted


def find_total(data: Floats, scale: float, wavelength: float | None = None) -> tuple[float, float]:
    """Return all light of a star in the middle of a stamp, that beyond it too, and the level under it.

    The curve of growth in the outer part of the stamp is all light, less what diffraction sends beyond a radius, and
    more by the area times the level: sky that was not taken off, and the wings of others.

    Parameters
    ----------
    data : ndarray
        (side, side).
    scale : float
        Arcsec per pixel.
    wavelength : float, optional
        In m, of an image by JWST, whose pupil tells how light falls with radius. Without it that is a power of the
        radius, and no level is told, of which a power knows too little.

    Returns
    -------
    total : float
        No less than the stamp holds above the level.
    level : float
        In each pixel.
    """
    middle = len(data) // 2
    start = POWER_FROM if wavelength is None else PUPIL_FROM
    radius = np.linspace(start * middle, middle, RINGS)
    light = grow_light(data, (middle, middle), radius)
    if wavelength is None:
        beyond, area = radius**-POWER, np.empty((RINGS, 0))
    else:
        beyond, area = _pupil_wings(wavelength, radius * scale), np.pi * radius[:, None] ** 2
    columns = np.column_stack([np.ones(RINGS), -beyond, area])
    # Scaled, because areas are thousands of pixels.
    size = np.abs(columns).max(axis=0)
    (total, amplitude, *levels), *_ = np.linalg.lstsq(columns / size, light, rcond=None)
    if amplitude <= 0:  # no wings: a Gaussian, or noise
        return float(data.sum()), 0.0
    level = float(levels[0] / size[-1]) if levels else 0.0
    return max(float(total / size[0]), float(data.sum() - level * data.size)), level


def _pupil_wings(wavelength: float, radius: Floats) -> Floats:
    """Return the share of the light beyond radii in arcsec that JWST's pupil sends there."""
    psf = diffract(wavelength, BANDWIDTH, float(radius.max()) + 0.1)
    middle = len(psf.samples) // 2
    return 1 - grow_light(psf.pixels(), (middle, middle), radius / psf.scale)
