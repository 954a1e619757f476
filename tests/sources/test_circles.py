"""Sums over circles from sums down the columns, beside those of sep."""

import numpy as np
import pytest
import sep

from dja_photplug.calibration.places import STEPS
from dja_photplug.sources.sums.circles import sum_clear_circles


@pytest.mark.parametrize("radius", [0.75, 1.0, 2.5, 4.5, 12.5, 37.2])
def test_sums_are_those_of_exact_overlap(radius: float) -> None:
    """At every part of a pixel, over planes of any brightness, with what no circle reaches being anything."""
    rng = np.random.default_rng(3)
    light = rng.normal(size=(201, 187)).astype(np.float32)
    light[60:70, 20:160] += 1e5  # of which no digit may be missing further down
    planes = light, np.full_like(light, 2.5)
    step = np.arange(STEPS) / STEPS
    x, y = (place.ravel() for place in np.meshgrid(90 + step, 130 + step))
    null = np.hypot(*(np.indices(light.shape) - np.array([130.5, 90.5])[:, None, None])) > radius + 3
    light[null & (rng.random(light.shape) < 0.1)] = np.nan
    expected = [sep.sum_circle(np.nan_to_num(plane), x, y, radius, subpix=0)[0] for plane in planes]
    [found] = sum_clear_circles(planes, null, [(x, y, radius)])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1], 2.5 * np.pi * radius**2, rtol=1e-6)


def test_radii_are_apart_and_circles_touch_the_edges() -> None:
    plane = np.arange(30 * 40, dtype=np.float32).reshape(30, 40)
    x, y, radius = np.array([4.5, 34.5, 20.0]), np.array([4.5, 24.5, 15.25]), 5.0
    found = sum_clear_circles([plane], np.zeros(plane.shape, bool), [(x, y, radius), (x[2:], y[2:], 7.0)])
    np.testing.assert_allclose(found[0][0], sep.sum_circle(plane, x, y, radius, subpix=0)[0], rtol=1e-6)
    np.testing.assert_allclose(found[1][0], sep.sum_circle(plane, x[2:], y[2:], 7.0, subpix=0)[0], rtol=1e-6)
