"""The units of images and catalogues: 10 nJy, uJy and AB magnitudes."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray

__all__ = ["MOSAIC_UNIT", "MOSAIC_ZERO_POINT", "ZERO_POINT", "magnitude"]


MOSAIC_UNIT = u.Unit("10 nJy")


ZERO_POINT = 23.9
"""AB magnitude of 1 uJy."""


MOSAIC_ZERO_POINT = ZERO_POINT + 5
"""AB magnitude of a mosaic's pixel value of 1, which is 10 nJy, a hundredth of 1 uJy."""


def magnitude(flux: ArrayLike, error: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AB magnitudes and their errors, NaN where the flux is not positive.

    Parameters
    ----------
    flux, error : array_like
        In uJy.

    Examples
    --------
    >>> mag, magerr = magnitude([100.0, -1.0], [1.0, 1.0])
    >>> mag.round(3), magerr.round(4)
    (array([18.9,  nan]), array([0.0109,    nan]))
    """
    flux, error = np.asarray(flux, dtype=np.float64), np.asarray(error, dtype=np.float64)
    # `not >` would keep NaN, `where` drops it: both end as NaN.
    positive = np.where(flux > 0, flux, np.nan)
    return ZERO_POINT - 2.5 * np.log10(positive), 2.5 / np.log(10) * error / positive
