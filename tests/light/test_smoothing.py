"""Smoothing of whole images, and of their segments alone."""

import numpy as np
import pytest
from scipy.ndimage import convolve

from dja_photplug.light.smoothing import convolve_pixels, gaussian_kernel, segment_strips


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


@pytest.mark.parametrize("fwhm", [0, 3.0])
@pytest.mark.parametrize("rows", [None, slice(5, 61)])
def test_strips_smooth_segments_as_the_whole_image(fwhm, rows) -> None:
    """Segments at all edges, in neighbouring columns, and across the ends of strips, which are 32 rows high."""
    rng, kernel = np.random.default_rng(5), gaussian_kernel(fwhm)
    data, labels = rng.normal(size=(75, 300)).astype(np.float32), np.zeros((75, 300), np.int32)
    for label, (y, x) in enumerate([(0, 0), (30, 0), (72, 297), (31, 150), (40, 153), (20, 299), (60, 150)], 1):
        labels[y : y + 4, x : x + 3] = label
    smooth = np.full(data.shape, np.nan, np.float32)
    seen = np.zeros_like(labels)
    for strip in segment_strips(labels, kernel, rows):
        own = strip.labels > 0
        row, column = np.nonzero(own)
        place = strip.around.start + strip.inner.start + row, strip.columns[column]
        smooth[place] = convolve_pixels(strip.cut(data), kernel, strip.inner)[own]
        seen[place] = strip.labels[own]
        assert len(strip.columns) < 60
    expected = labels[rows or slice(None)]
    np.testing.assert_array_equal(seen[rows or slice(None)], expected)
    inside = seen > 0
    np.testing.assert_allclose(smooth[inside], convolve_pixels(data, kernel)[inside], atol=1e-6)
    assert np.isnan(smooth[~inside]).all()


def test_no_strip_without_a_segment() -> None:
    assert not list(segment_strips(np.zeros((70, 20), np.int32), gaussian_kernel(3.0)))
