"""Fewer pixels than a mosaic has, for what is shown of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["block_mean"]


def block_mean(pixels: NDArray[np.number], step: int, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the means of step x step pixels that are finite and not masked, NaN where there are none.

    One band of blocks at a time, so that a mosaic is never copied; the last blocks may be smaller.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
    step : int
    mask : ndarray of bool, optional
        Of the same shape, True for pixels that do not count.

    Returns
    -------
    ndarray
        (ceil(ny / step), ceil(nx / step)).

    Examples
    --------
    >>> block_mean(np.array([[1.0, 3.0, 5.0], [1.0, np.nan, np.nan]]), 2)
    array([[1.66666667, 5.        ]])
    """
    tops, lefts = (np.arange(0, n, step) for n in pixels.shape)
    means = np.full((len(tops), len(lefts)), np.nan)
    for mean, top in zip(means, tops, strict=True):
        band = pixels[top : top + step]
        good = np.isfinite(band)
        if mask is not None:
            good &= ~mask[top : top + step]
        count = np.add.reduceat(good.sum(axis=0), lefts)
        total = np.add.reduceat(np.where(good, band, 0).sum(axis=0, dtype=np.float64), lefts)
        np.divide(total, count, out=mean, where=count > 0)
    return means
