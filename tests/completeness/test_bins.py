"""Completeness in bins of magnitude, and fluxes by place."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

from dja_photplug.completeness.bins import BIN_COLUMNS, SPLIT_COLUMNS, bin_sources, describe_clear_sky, split_sources
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
    assert first["flux_bias_err"] == pytest.approx(1.2533 * 0.115 / np.sqrt(first["n_flux"]), rel=0.1)
    assert first["scatter_over_error"] == pytest.approx(1.5, rel=3 * 1.17 / np.sqrt(2900))
    assert np.isnan(table["completeness"][1:]).all()
    assert (table["n"][1:] == 0).all()


def test_none_of_few_is_not_known_without_error():
    """Of the beta distribution of 0 + 1 and 5 + 1: variance 6 / (7^2 * 8)."""
    table = bin_sources(make_injected(np.full(5, 24.5), np.zeros(5)), (24, 25), 1)
    assert table["completeness"][0] == 0
    assert table["completeness_err"][0] == pytest.approx(np.sqrt(6 / 49 / 8))


def make_placed(mag, distance, zone, pull, recovered=True):
    """Return injected sources of 2 uJy, forced fluxes off by `pull` errors of 0.1 and detected ones by twice that."""
    mag, distance, zone, pull, recovered = np.broadcast_arrays(mag, distance, zone, pull, recovered)
    sources = make_injected(mag, recovered, None, 2.0, np.where(recovered, 2 + 0.2 * pull, np.nan), 0.1)
    for name, values in (("flux_true", 2.0), ("flux", 2 + 0.1 * pull), ("fluxerr", 0.1)):
        sources[f"{name}_forced"] = np.broadcast_to(values, len(mag)) * u.uJy
    sources["distance"], sources["zone"] = distance * u.arcsec, zone
    return sources


def find_row(table, position, magnitudes, distances, zone=1):
    names = {"position": position, "magnitudes": magnitudes, "distances": distances, "zone": zone}
    [row] = table[np.all([table[name] == value for name, value in names.items()], axis=0)]
    return row


def test_splits_hold_the_classes_of_their_sources():
    """Limits belong to the fainter and the farther class; brighter than 24 mag is in none."""
    mag = [23.9, 24.0, 26.49, 26.5, 31.0, 25.0, 25.0, 25.0, 25.0, 25.0, 25.0, 25.0]
    distance = [9, 9, 9, 9, 9, 0, 0.04, 0.3, 0.6, 1.19, 1.2, np.inf]
    table = split_sources(make_placed(mag, distance, 1, 0.5))
    assert table.colnames == [spec.name for spec in SPLIT_COLUMNS]
    assert len(table) == 2 * 2 * 5
    expected = {"on": 1, "<0.3": 1, "0.3-0.6": 1, "0.6-1.2": 2, ">1.2": 4}
    for position in ("true", "detected"):
        assert {name: find_row(table, position, "bright", name)["n"] for name in expected} == expected
        assert find_row(table, position, "faint", ">1.2")["n"] == 2
        assert find_row(table, position, "faint", "on")["n"] == 0
    assert np.isnan(find_row(table, "true", "faint", "on")["scatter_over_error"])
    one = find_row(table, "true", "bright", "on")
    assert (one["median_pull"], one["flux_bias"]) == pytest.approx((0.5, 0.025))
    assert np.isnan(one["scatter_over_error"])  # of one source nothing is known
    assert find_row(table, "detected", "bright", "on")["median_pull"] == pytest.approx(1.0)


def test_splits_hold_the_scatter_of_their_sources():
    """Pulls of 0.3 +- 1.5 in one zone and -0.2 +- 1 in another, a fifth not detected: within 3 standard errors."""
    rng = np.random.default_rng(4)
    n = 3000
    zone = np.repeat([1, 2], n)
    pull = np.where(zone == 1, rng.normal(0.3, 1.5, 2 * n), rng.normal(-0.2, 1, 2 * n))
    sources = make_placed(25.0, 2.0, zone, pull, np.arange(2 * n) % 5 > 0)
    table = split_sources(sources)
    for number, mean, scatter in ((1, 0.3, 1.5), (2, -0.2, 1.0)):
        for position, factor, size in (("true", 1, n), ("detected", 2, 0.8 * n)):
            row = find_row(table, position, "bright", ">1.2", number)
            assert row["n"] == size
            error = 1.17 / np.sqrt(size)
            assert row["scatter_over_error"] == pytest.approx(factor * scatter, rel=3 * error)
            assert row["scatter_err"] == pytest.approx(error * row["scatter_over_error"])
            assert row["median_pull"] == pytest.approx(factor * mean, abs=3 * 1.2533 * factor * scatter / np.sqrt(size))
            assert row["flux_bias"] == pytest.approx(row["median_pull"] * 0.1 / 2)  # 0.1 of 2 uJy
    whole = find_row(split_sources(sources, zones=False), "true", "bright", ">1.2", zone=0)
    assert whole["n"] == 2 * n
    words = f"bright {whole['scatter_over_error']:.2f} +- 0.02 (median pull {whole['median_pull']:+.2f}, n = 6000)"
    assert describe_clear_sky(sources).endswith(f"scatter over error: {words}")
    assert describe_clear_sky(make_placed([25.0], 0.5, 1, 0.0)).endswith("too few fluxes there")
