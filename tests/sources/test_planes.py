"""The planes of an image as engines take them: variance, null pixels, pixels."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from astropy.nddata import NDData, StdDevUncertainty
from scipy.ndimage import convolve

from dja_photplug.errors import PhotplugError
from dja_photplug.sources.planes import center_sky, convolve_pixels, native_pixels, null_pixels, variance_map
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


@pytest.mark.parametrize("shape", [(400, 530), (37, 41), (100, 100)])
@pytest.mark.parametrize("skew", [0.0, 2 / 3])
def test_the_sky_is_the_mean_between_sources(shape: tuple[int, int], skew: float) -> None:
    """On a sloping sky with a step of depth; where the noise has a tail, between its median and its mean."""
    rng = np.random.default_rng(1)
    rows, columns = np.indices(shape)
    variance = np.where(columns < shape[1] / 2, 1.0, 4.0).astype(np.float32)
    slope = (0.002 * columns - 0.001 * rows).astype(np.float32)
    unit = (rng.gamma(9.0, size=shape) - 9) / 3 if skew else rng.normal(size=shape)
    mask = rng.random(shape) < 0.3
    data = (slope + np.sqrt(variance) * unit + np.where(mask, 100.0, 0.0)).astype(np.float32)
    data[3, 5], mask[3, 5] = np.nan, True
    sky = slope - np.float32(0.15) * np.sqrt(variance)
    center_sky(sky, data, mask, variance, (50, 50), 3)
    left = ((sky - slope) / np.sqrt(variance)).mean()
    assert sky.dtype == np.float32
    # The clip of 2.5 sigma is around the sky as it was, too low; the median is a sixth of the skewness below the mean.
    error = 3 / np.sqrt(np.count_nonzero(~mask)) + 0.01
    assert -skew / 6 - error < left < error
    assert np.isfinite(sky).all()


def test_cells_without_sky_take_that_of_the_next() -> None:
    data = np.full((150, 200), 2.0, np.float32) + np.random.default_rng(2).normal(0, 0.1, (150, 200)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[:60, :60] = True
    sky = np.full_like(data, 1.95)
    center_sky(sky, data, mask, np.ones_like(data), (50, 50), 1)
    np.testing.assert_allclose(sky, 2, atol=0.02)
    untouched = np.ones_like(data)
    center_sky(untouched, data, np.ones(data.shape, bool), np.ones_like(data), (50, 50), 1)
    assert np.all(untouched == 1)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 200), (131, 40)])  # more and fewer rows than a block has
@pytest.mark.parametrize("sides", [(7, 7), (3, 5), (1, 1)])
def test_convolution_is_that_of_scipy(shape, sides) -> None:
    rng = np.random.default_rng(2)
    data = rng.normal(size=shape).astype(np.float32)
    kernel = np.outer(rng.random(sides[0]), rng.random(sides[1])).astype(np.float32)
    before = data.copy()
    # float32: 1e-6 of the sums of up to 49 products of order 1.
    np.testing.assert_allclose(convolve_pixels(data, kernel), convolve(data, kernel, mode="constant"), atol=3e-5)
    np.testing.assert_array_equal(data, before)
    assert convolve_pixels(data, None) is data
