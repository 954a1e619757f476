"""Completeness in bins of magnitude, and its limit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from dja_photplug.catalog.completeness import BIN_COLUMNS, bin_sources, describe_limits, find_limit
from tests.helpers import make_injected


def test_bins_hold_the_numbers_of_their_sources():
    rng = np.random.default_rng(3)
    error = rng.uniform(0.1, 0.2, 4000)
    flux = 2 * (1 + 0.05) + error * rng.normal(0, 1.5, 4000)
    sources = make_injected(np.full(4000, 24.2), np.arange(4000) < 3000, None, 2.0, flux, error)
    sources["blended"][:100] = True
    sources["blended"][3900:] = True
    table = bin_sources(sources, (24, 26), 0.5)
    assert table.colnames == [spec.name for spec in BIN_COLUMNS]
    assert all(table[spec.name].info.description for spec in BIN_COLUMNS)
    np.testing.assert_allclose(table["mag"].value, [24.25, 24.75, 25.25, 25.75])
    first = table[0]
    assert [first[name] for name in ("n", "n_blended", "n_recovered", "n_flux")] == [4000, 200, 3000, 2900]
    assert first["completeness"] == 0.75
    assert first["completeness_err"] == pytest.approx(np.sqrt(0.75 * 0.25 / 4000), rel=0.01)
    assert first["completeness_clear"] == pytest.approx(2900 / 3800)
    # Three standard errors: of a median, 1.25 sigma / sqrt(n) with sigma 0.23 of 2; of the scatter, 1.17 / sqrt(n).
    assert first["flux_bias"] == pytest.approx(0.05, abs=3 * 1.25 * 0.115 / np.sqrt(2900))
    assert first["scatter_over_error"] == pytest.approx(1.5, rel=3 * 1.17 / np.sqrt(2900))
    assert np.isnan(table["completeness"][1:]).all()
    assert (table["n"][1:] == 0).all()


def test_none_of_few_is_not_known_without_error():
    """Of the beta distribution of 0 + 1 and 5 + 1: variance 6 / (7^2 * 8)."""
    table = bin_sources(make_injected(np.full(5, 24.5), np.zeros(5)), (24, 25), 1)
    assert table["completeness"][0] == 0
    assert table["completeness_err"][0] == pytest.approx(np.sqrt(6 / 49 / 8))


def test_limit_is_interpolated_where_completeness_falls_last():
    table = QTable({"mag": [24, 25, 26, 27] * u.mag, "completeness": [0.4, 0.9, 0.7, 0.2]})
    table["completeness_err"] = 0.1
    table["completeness_clear"] = [1.0, 1.0, 1.0, 0.95]
    table["completeness_clear_err"] = 0.1
    mag, error = find_limit(table, 0.5)
    assert mag == pytest.approx(26.4)
    assert error == pytest.approx(np.hypot(0.6, 0.4) * 0.1 / 0.5)
    assert find_limit(table, 0.9)[0] == pytest.approx(25.0)
    assert np.isnan(find_limit(table, 0.5, clear=True)).all()
    assert describe_limits(table) == {"MAG50": 26.4, "MAG50E": 0.1442, "MAG90": 25.0, "MAG90E": 0.5}
