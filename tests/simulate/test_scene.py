"""Scenes: the same sources in all bands, their counts, distances and profiles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammainc, gammaincinv

from dja_photplug.simulate.mosaic import SceneOptions, simulate_scene
from dja_photplug.simulate.scene import SERSIC_INDICES, expand_sersic, field_grid


def test_scene_is_reproducible_and_shared_by_bands() -> None:
    options = SceneOptions(n_sources=50, bands=("f444w", "f277w", "f115w"), colour_scatter=0.3)
    first, second = simulate_scene(options), simulate_scene(options)
    assert all(np.all(first[name] == second[name]) for name in first.colnames)
    assert not np.all(first["ra"] == simulate_scene(SceneOptions(n_sources=50, seed=2))["ra"])
    colour = np.log10(first["f277w_flux"] / first["f444w_flux"])
    np.testing.assert_allclose(np.log10(first["f115w_flux"] / first["f277w_flux"]), colour, atol=1e-12)
    assert 0.2 < np.std(2.5 * colour) < 0.4  # 0.3 mag, sampling error 0.03 with 50 sources


def test_fluxes_follow_the_counts() -> None:
    flux = simulate_scene(SceneOptions(n_sources=20_000, flux_range=(0.02, 50), flux_slope=0.5))["f444w_flux"]
    assert 0.02 <= flux.value.min() < 0.021
    assert flux.value.max() <= 50
    # N(>F) ~ F^-0.5 truncated at 50: share above 2 uJy is (0.1 - 0.02) / (1 - 0.02); binomial error 0.0019.
    assert np.mean(flux.value > 2) == pytest.approx(0.08163, abs=0.006)


def test_isolated_sources_keep_apart() -> None:
    scene = simulate_scene(SceneOptions(n_sources=100, shape=(1000, 1000), isolated=True))
    grid = field_grid(scene.meta["RA"], scene.meta["DEC"], scene.meta["SHAPE"], scene.meta["PIXSCALE"])
    x, y = grid.wcs_world2pix(scene["ra"], scene["dec"], 0)
    distance = np.hypot(x - x[:, None], y - y[:, None]) + 1e9 * np.eye(100)
    assert distance.min() >= 70 - 1e-6  # cells of 100 pixels, jitter 15 each way
    assert min(x.min(), y.min()) > 30


@pytest.mark.parametrize("index", SERSIC_INDICES)
def test_sersic_expansion_is_a_sersic(index: float) -> None:
    flux, sigma = expand_sersic(index)
    assert flux.sum() == pytest.approx(1, abs=1e-12)
    radius = np.array([0.3, 1, 2, 4, 8])
    growth = 1 - np.exp(-((radius[:, None] / sigma) ** 2) / 2) @ flux
    exact = gammainc(2 * index, gammaincinv(2 * index, 0.5) * radius ** (1 / index))
    # Index 4 has 6 % of its light beyond the 8 half-light radii of the fit; the others agree to 0.004.
    np.testing.assert_allclose(growth, exact, atol=0.025 if index == 4 else 0.004)
    assert growth[1] == pytest.approx(0.5, abs=1e-9)
