"""The figure of an injection."""

from __future__ import annotations

import numpy as np

from dja_photplug.catalog.completeness import bin_sources, describe_limits
from dja_photplug.figures.injection import injection_figure
from tests.helpers import make_injected


def test_figure_shows_the_numbers_of_the_table():
    n = 30
    mag = np.repeat([24.5, 25.5, 26.5], n)
    recovered = np.arange(3 * n) % n < np.repeat([n, 20, 2], n)
    flux = 1 + np.random.default_rng(1).normal(0, 0.1, 3 * n)
    table = bin_sources(make_injected(mag, recovered, None, 1.0, flux, 0.1), (24, 27), 1)
    table.meta = {"INJASEC": 0.5, **describe_limits(table)}
    axes = {axes.get_label(): axes for axes in injection_figure(table).axes}
    curve = next(line for line in axes["completeness"].get_lines() if line.get_color() == "#0072B2")
    np.testing.assert_allclose(curve.get_xydata(), [[24.5, 1], [25.5, 2 / 3], [26.5, 1 / 15]])
    assert f"50 %: {table.meta['MAG50']:.2f}" in [text.get_text() for text in axes["completeness"].texts]
    # Two sources say nothing of a scatter.
    for name, column, factor in (("bias", "flux_bias", 100), ("scatter", "scatter_over_error", 1)):
        curve = next(line for line in axes[name].get_lines() if line.get_marker() == "o")
        np.testing.assert_allclose(curve.get_ydata(), factor * table[column][:2])
