"""Errors of sums over apertures, from variances, a(r) and the noise of the sky that was taken off."""

from __future__ import annotations

import numpy as np

from dja_photplug.calibration.curve import NoiseCalibration, combine_variance
from dja_photplug.light.planes import Floats
from dja_photplug.sources.apertures import Sums

__all__ = ["combine_errors"]


def combine_errors(
    sums: Sums, sky_error: Floats, sky_pixels: float, scale: float, calibration: NoiseCalibration | None
) -> tuple[Floats, Floats]:
    """Return the error of each flux, and that of an aperture of the same area on empty sky.

    The sky below a source is that of a mesh around it: with `sky_pixels` in the mean its noise is n^2 / `sky_pixels` of
    the variance of a pixel in an aperture of n. Empty apertures are part of their own sky, and scatter by as much less.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = sums.background / sums.area
    radius = np.sqrt(sums.area / np.pi) * scale
    factor = np.ones_like(radius) if calibration is None else calibration(radius, depth)
    sky = np.square(sums.area * sky_error) + 2 * sums.area / sky_pixels * np.square(factor) * sums.background
    error = np.sqrt(combine_variance(sums.background, sums.total, factor) + sky)
    return error, np.sqrt(combine_variance(sums.background, sums.background, factor) + sky)
