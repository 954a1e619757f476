"""The planes of an image as detection and photometry take them: pixels, variance, and where there are no data."""

from __future__ import annotations

import numpy as np
from astropy.nddata import InverseVariance, NDData
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError

__all__ = ["NULL_VARIANCE", "native_pixels", "null_pixels", "variance_map"]

# sep's own stand-in for infinity; float32 holds it, and its root and products with weights stay finite.
NULL_VARIANCE = np.float32(1e30)


def native_pixels(array: ArrayLike) -> NDArray[np.float32]:
    """Return the pixels as sep takes them.

    Parameters
    ----------
    array : array_like
        Of any type and byte order.

    Returns
    -------
    ndarray
        Of its shape, native C-contiguous float32; the same array where it is already.
    """
    return np.ascontiguousarray(array, dtype=np.float32)


def _weight(image: NDData, kind: str) -> NDArray[np.float32]:
    background = getattr(image, "background_weight", None)
    if kind == "background" and background is not None:
        return native_pixels(background)
    if image.uncertainty is None:
        raise PhotplugError("the image has no uncertainty; load it with its weight, or set an InverseVariance")
    if isinstance(image.uncertainty, InverseVariance):
        return native_pixels(image.uncertainty.array)
    with np.errstate(divide="ignore"):  # an error of 0 becomes infinite weight, which counts as null
        return native_pixels(image.uncertainty.represent_as(InverseVariance).array)


def null_pixels(image: NDData) -> NDArray[np.bool_]:
    """Return the pixels that hold no data: masked, without positive finite weight, or not finite.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.

    Returns
    -------
    ndarray of bool
        (ny, nx).

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    weight = _weight(image, "full")
    null = ~(weight > 0)
    null |= ~np.isfinite(weight)
    null |= ~np.isfinite(image.data)
    if image.mask is not None:
        null |= image.mask
    return null


def variance_map(image: NDData, kind: str = "full") -> NDArray[np.float32]:
    """Return the variance of each pixel, in the squared unit of the image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight; without the attribute ``background_weight`` all variance is background.
    kind : {'full', 'background'}, optional
        With or without the Poisson noise of the sources.

    Returns
    -------
    ndarray
        (ny, nx) float32; 1e30 where the weight is null, never 0, infinite or NaN.

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    weight = _weight(image, kind)
    variance = np.full(weight.shape, NULL_VARIANCE)
    # The reciprocal of a smaller weight is above NULL_VARIANCE; the comparison also drops NaN.
    usable = (weight > 1 / NULL_VARIANCE) & np.isfinite(weight)
    return np.divide(np.float32(1), weight, out=variance, where=usable)
