"""Rings of sources: their levels and errors against what is plainly taken of the pixels of each."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dja_photplug.neighbours.profiles import CORE, FALL, SIGNIFICANCE, fill_rings, make_rings, measure_rings
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
    rough = measure_rings(values, step, use, rings, k, every=2)
    np.testing.assert_array_equal(rough[0], level)
    np.testing.assert_allclose(rough[1], error / np.sqrt(2), rtol=1e-6)  # as if all pixels were there
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


def test_rings_that_nobody_sees_are_filled_from_those_around_them() -> None:
    """On a power law between two, with noise counting as its error; a steep one beyond the last; flat in the middle."""
    radius = make_rings(40.0).radius
    law = (100 * radius**-2.0).astype(np.float32)
    error, unknown = np.full(len(radius), 0.01, np.float32), np.nan
    level = np.tile(law, (6, 1))
    level[0, 4:9] = unknown
    level[1, 6:] = unknown
    level[2, :3] = unknown
    level[3, 4:9], level[3, 9:] = unknown, -1.0  # below the error, and none beyond
    level[4] = unknown
    level[5, 2], level[5, 3:6] = -5.0, unknown
    errors = np.where(np.isfinite(level), error, np.float32(np.nan))
    filled, spread = fill_rings(level, errors, radius)
    np.testing.assert_allclose(filled[0], law, rtol=1e-4)
    np.testing.assert_allclose(filled[1, 6:], law[5] * (radius[6:] / radius[5]) ** FALL, rtol=1e-4)
    np.testing.assert_array_equal(filled[2, :3], law[3])
    slope = np.log(0.01 / law[3]) / np.log(radius[9] / radius[3])
    np.testing.assert_allclose(filled[3, 4:9], law[3] * (radius[4:9] / radius[3]) ** slope, rtol=1e-4)
    np.testing.assert_array_equal(filled[3, 9:], -1.0)
    assert not filled[4].any()
    np.testing.assert_array_equal(filled[5, 3:6], -5.0)
    np.testing.assert_allclose(spread[[0, 1, 2, 3, 5]], np.tile(error, (5, 1)))
    known = level[:1, 9:], errors[:1, 9:]
    assert fill_rings(*known, radius[9:]) == known
