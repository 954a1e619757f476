"""The planes of an image as engines take them: variance, null pixels, pixels."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from astropy.nddata import NDData, StdDevUncertainty

from dja_photplug.errors import PhotplugError
from dja_photplug.sources.planes import native_pixels, null_pixels, variance_map
from tests.helpers import make_image


def test_variance_is_finite_and_positive_everywhere() -> None:
    weight = np.array([[0, 4, np.nan], [np.inf, -1, 1e-38]], dtype=np.float32)
    variance = variance_map(make_image(np.zeros((2, 3)), weight))
    assert variance.dtype == np.float32
    np.testing.assert_array_equal(variance, np.float32([[1e30, 0.25, 1e30], [1e30, 1e30, 1e30]]))


def test_variance_with_and_without_poisson_noise() -> None:
    image = make_image(np.zeros((2, 2)), weight=2.0, background=8.0)
    assert (variance_map(image, "full") == 0.5).all()
    assert (variance_map(image, "background") == 0.125).all()
    image.background_weight = None
    assert (variance_map(image, "background") == 0.5).all()


def test_other_uncertainties_are_converted() -> None:
    image = NDData(np.zeros((1, 3)), uncertainty=StdDevUncertainty([[0.0, 2.0, np.nan]]))
    np.testing.assert_array_equal(variance_map(image), np.float32([[1e30, 4, 1e30]]))
    assert null_pixels(image).tolist() == [[True, False, True]]


def test_image_without_uncertainty_is_refused() -> None:
    with pytest.raises(PhotplugError, match="no uncertainty"):
        variance_map(NDData(np.zeros((2, 2))))


def test_null_pixels_are_all_without_data() -> None:
    image = make_image([[1.0, np.nan, 1.0, 1.0]], [[1, 1, 0, 1]])
    image.mask = np.array([[False, False, False, True]])
    assert null_pixels(image).tolist() == [[False, True, True, True]]
    image.mask = None
    assert null_pixels(image).tolist() == [[False, True, True, False]]


def test_native_pixels_copy_only_what_sep_refuses() -> None:
    native = np.ones((3, 3), dtype=np.float32)
    assert native_pixels(native) is native
    with pytest.raises(ValueError, match="byte order"):
        sep.Background(native.astype(">f4"))
    assert native_pixels(native.astype(">f4")).dtype.isnative
