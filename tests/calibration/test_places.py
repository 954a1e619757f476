"""In which order places for empty apertures are tried."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from dja_photplug.calibration.places import _draw_numbers


@pytest.mark.parametrize(("count", "size"), [(0, 5), (3, 5), (100, 7), (1000, 7), (1000, 125)])
def test_each_number_is_drawn_once(count: int, size: int) -> None:
    parts = list(_draw_numbers(count, size, np.random.default_rng(1)))
    drawn = np.concatenate([np.empty(0, int), *parts])
    np.testing.assert_array_equal(np.sort(drawn), np.arange(count))
    assert all(0 < len(part) <= size for part in parts)


def test_numbers_are_drawn_from_all_alike() -> None:
    """In the first piece, and in those after the first ones, where all that are left are mixed."""
    for piece in (0, 20):
        drawn = [next(islice(_draw_numbers(1000, 25, np.random.default_rng(seed)), piece, None)) for seed in range(400)]
        counts = np.bincount(np.concatenate(drawn).astype(int), minlength=1000).reshape(10, 100).sum(axis=1)
        assert np.abs(counts - 1000).max() < 4 * np.sqrt(900)  # a tenth of 10000 in each, by chance
