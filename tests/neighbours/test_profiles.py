"""Rings of sources: their levels and errors against what is plainly taken of the pixels of each."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dja_photplug.neighbours.profiles import CORE, SIGNIFICANCE, make_rings, measure_rings
from dja_photplug.neighbours.stamps import FINE


def _measure_one(values: NDArray[np.float32], core: bool) -> tuple[float, float]:
    """Return level and error of the pixels of one ring; of the first rings the mean."""
    if len(values) < 3:
        return np.nan, np.nan
    low, middle, high = (np.sort(values)[int(np.rint(share * (len(values) - 1)))] for share in (0.1587, 0.5, 0.8413))
    level = values.mean(dtype=float) if core else middle
    return float(level), float(SIGNIFICANCE * (high - low) / 2 / np.sqrt(len(values)))


@pytest.mark.parametrize(("half", "offset"), [(6, 0.0), (40, -3.0), (160, 1000.0)])
def test_rings_have_median_and_error_of_their_pixels(half: int, offset: float) -> None:
    """Also where all values are below zero, or far from it, and where pixels or whole stamps are left out."""
    rng, m = np.random.default_rng(half), 3
    rings = make_rings(1.5 * half)
    k = len(rings.radius)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(y + rng.uniform(-0.5, 0.5, (m, 1, 1)), x)
    step = (FINE * radius).astype(np.int32)
    values = (offset + rng.normal(0, np.exp(rng.normal(0, 2, step.shape)))).astype(np.float32)
    values[0, :, half] = 0
    values[0, half] = -0.0
    use = rng.random(step.shape) > 0.3
    use[1] = False
    level, error = measure_rings(values, step, use, rings, k)
    assert level.shape == error.shape == (m, k)
    expected = np.array(
        [
            [_measure_one(values[i][use[i] & (rings.number[step[i]] == j)], rings.radius[j] < CORE) for j in range(k)]
            for i in range(m)
        ]
    )
    assert np.isfinite(level[[0, 2]]).any(axis=1).all()
    assert np.isnan(level[1]).all()
    # Of the 32 bits of each value all are kept but those that the number of its ring takes.
    precision = 2.0**-16
    np.testing.assert_allclose(level, expected[..., 0], rtol=precision, atol=1e-12)
    np.testing.assert_allclose(error, expected[..., 1], rtol=precision, atol=precision * max(abs(offset), 0.1))
