"""Filled polygons against drawings by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dja_photplug.epochs.polygons import fill_polygons


@pytest.mark.parametrize("turned", [False, True])
def test_polygons_need_not_be_convex(turned: bool) -> None:
    letter_c = np.array(
        [[0.5, 0.5], [8.5, 0.5], [8.5, 2.5], [3.5, 2.5], [3.5, 6.5], [8.5, 6.5], [8.5, 9.5], [0.5, 9.5]]
    )
    polygons = np.stack([letter_c, letter_c + np.array([5, 0])])[:, :: -1 if turned else 1]
    expected = np.zeros((12, 12), np.float32)
    for left, value in ((1, 2.25), (6, 0.125)):
        expected[1:10, left : left + 8] += value
        expected[3:7, left + 3 : left + 8] -= value
    np.testing.assert_array_equal(fill_polygons(polygons, np.array([2.25, 0.125]), (12, 12)), expected)


def test_exposure_times_add_up_without_rounding_errors() -> None:
    rng = np.random.default_rng(6)
    corners = rng.uniform(-20, 220, (50, 1, 2)) + np.array([[0, 0], [60, 3], [55, 50], [2, 55]])
    seconds = np.round(rng.uniform(100, 20000, 50), 3)
    filled = fill_polygons(corners, seconds, (200, 200))
    empty = fill_polygons(corners, np.ones(50), (200, 200)) == 0
    assert 0 < empty.sum() < 40000
    assert np.all(filled[empty] == 0)
    assert filled[~empty].min() >= 99.999
