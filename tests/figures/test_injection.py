"""The figure of an injection."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from dja_photplug.completeness.bins import bin_sources
from dja_photplug.completeness.limits import fit_completeness
from dja_photplug.figures.injection import injection_figure
from tests.helpers import make_injected, make_places

# The colour of all sources, blended ones too.
BLUE = "#0072B2"


def make_tables(n, faint=26.5, width=1.0):
    """Return bins and curves of n sources at each of 24.5, 25.5 and so on, all, two thirds and none recovered."""
    mag = np.repeat(np.arange(24.5, faint + 0.1), n)
    share = np.clip((26.5 - mag) * 2 / 3, 0, 1)
    recovered = np.arange(len(mag)) % n < np.round(share * n)
    flux = 1 + np.random.default_rng(1).normal(0, 0.1, len(mag))
    sources = make_injected(mag, recovered, None, 1.0, flux, 0.1)
    table = bin_sources(sources, (24, faint + 0.5), width)
    table.meta = {"INJASEC": 0.5, "INPUT": "folder/uds-f444w-clear", "INJECT": '{"shape": "galaxy"}'}
    return table, fit_completeness(sources, make_places(), (24, faint + 0.5))


def test_figure_shows_the_numbers_of_the_table():
    table, completeness = make_tables(60, 28.5)
    figure = injection_figure(table, completeness)
    assert figure.get_suptitle() == "uds-f444w-clear   300 injected galaxy sources   noise: as loaded"
    axes = {axes.get_label(): axes for axes in figure.axes}
    lines = [line for line in axes["completeness"].get_lines() if line.get_color() == BLUE]
    dots = next(line for line in lines if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_ydata(), [1, 2 / 3, 0, 0, 0])
    np.testing.assert_allclose(dots.get_xdata(), table["mag"].value, atol=0.11)
    curve = next(line for line in lines if len(line.get_xdata()) > 50)
    low, median, high = completeness.find().band
    np.testing.assert_array_equal(curve.get_ydata(), median)
    bands = [part for part in axes["completeness"].collections if isinstance(part, PolyCollection)]
    edges = bands[1].get_paths()[0].vertices  # the first is that of the clear ones
    assert to_hex(bands[1].get_facecolor()[0]) == BLUE.lower()
    assert edges[:, 1].max() == pytest.approx(high.max())
    assert np.isin(np.round(low, 12), np.round(edges[:, 1], 12)).all()
    [words] = [text.get_text() for text in axes["completeness"].texts if "%" in text.get_text()]
    limit = completeness.find().limit(0.5)
    assert f"50 %: {limit.mag:.2f} ± {limit.error:.2f}" in words
    # None of the fainter bins has a flux to compare.
    for name, column, factor in (("bias", "flux_bias", 100), ("scatter", "scatter_over_error", 1)):
        curve = next(line for line in axes[name].get_lines() if line.get_marker() == "o")
        np.testing.assert_allclose(curve.get_ydata(), [*(factor * table[column][:2]), *[np.nan] * 3])
    assert "no point: fewer than 20" in axes["scatter"].texts[0].get_text()
    [error] = axes["bias"].containers
    half = np.array([np.ptp(line[:, 1]) / 2 for line in error[2][0].get_segments()[:2]])
    np.testing.assert_allclose(half, 100 * table["flux_bias_err"][:2])


def test_figure_counts_depth_zones_from_1():
    """As the columns and the other figures do; two of them, 1 mag apart."""
    rng = np.random.default_rng(2)
    mag, zone = rng.uniform(24, 28, 2000), np.repeat([1, 2], 1000)
    sources = make_injected(mag, rng.random(2000) < 1 / (1 + np.exp(4 * (mag - np.where(zone == 1, 26.5, 25.5)))))
    sources["zone"], sources["depth"] = zone, np.where(zone == 1, 1.0, 0.0) * u.mag
    places = make_places(np.repeat([1.0, 0.0], 5000), np.repeat([0, 1], 5000))
    table = bin_sources(sources, (24, 28), 1)
    table.meta = {"INJASEC": 0.5, "INJECT": '{"shape": "point"}'}
    axes = injection_figure(table, fit_completeness(sources, places, (24, 28))).axes[0]
    shown = {text.get_text(): text.xy[0] for text in axes.texts if text.get_text().isdigit()}
    assert list(shown) == ["1", "2"]
    assert shown["1"] - shown["2"] == pytest.approx(1, abs=0.2)
    assert "depth zones, 1 is the deepest" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_figure_says_what_is_not_known():
    """Of 3 sources in a bin no scatter, and of 9 in all no limit."""
    axes = {axes.get_label(): axes for axes in injection_figure(*make_tables(3)).axes}
    assert "50 %: not known" in axes["completeness"].texts[-1].get_text()
    for name in ("bias", "scatter"):
        assert "more realisations or wider bins" in axes[name].texts[0].get_text()
