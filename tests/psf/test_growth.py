"""Curves of growth of Sersic profiles behind a PSF, and the light beyond an aperture that they tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import gammainc, gammaincinv

from dja_photplug.psf.growth import SIZES, GrowthModels, model_growth, scale_to_total
from dja_photplug.psf.model import PSF, encircled_energy, half_light_radius, read_psf
from dja_photplug.simulate.scene import SERSIC_INDICES
from tests.helpers import gaussian

RINGS = np.array([0.09, 0.14, 0.21, 0.28, 0.35, 0.53])  # arcsec
KRON = 4  # of them


def make_psf(sigma: float, side: int = 151, scale: float = 0.02) -> PSF:
    """A Gaussian, sigma in arcsec; its pixels are small."""
    pixels = gaussian((side, side), side // 2, side // 2, sigma / scale)
    return PSF(data=pixels / pixels.sum(), scale=scale, centre=(side // 2, side // 2), name="Gaussian")


@pytest.fixture(scope="module")
def models() -> GrowthModels:
    return model_growth(make_psf(0.1))


def row(index: float, size: int) -> int:
    """The place of a Sersic profile, the size by its place in SIZES, among the models."""
    return 1 + SERSIC_INDICES.index(index) * len(SIZES) + size


def rings(models: GrowthModels, model: int, n: int = 1) -> np.ndarray:
    """The light of a model of unit flux in the rings of n sources."""
    return np.diff(np.tile(models(RINGS)[:, model], (n, 1)), axis=1, prepend=0)


def test_point_has_the_curve_of_growth_of_the_psf(models) -> None:
    # Exact overlaps with pixels of 0.2 sigma: 1e-3.
    np.testing.assert_allclose(models(RINGS)[:, 0], 1 - np.exp(-((RINGS / 0.1) ** 2) / 2), atol=2e-3)


def test_gaussian_galaxy_is_a_wider_gaussian(models) -> None:
    half = 0.1 * np.sqrt(2 * np.log(2))
    for i in (3, 8, 12):
        sigma = np.hypot(0.1, SIZES[i] * half / np.sqrt(2 * np.log(2)))
        # The Gaussians fitted to the PSF have its curve to 1e-3.
        np.testing.assert_allclose(models(RINGS)[:, row(0.5, i)], 1 - np.exp(-((RINGS / sigma) ** 2) / 2), atol=3e-3)


@pytest.mark.parametrize("index", [1.0, 4.0])
def test_large_galaxy_is_a_sersic_profile(models, index) -> None:
    """The incomplete gamma function, where the PSF is small (Graham & Driver 2005, PASA 22, 118)."""
    i = 15
    size = SIZES[i] * 0.1 * np.sqrt(2 * np.log(2))
    assert size > 12 * 0.1
    radius = size * np.array([0.5, 1, 2, 4])
    light = gammainc(2 * index, gammaincinv(2 * index, 0.5) * (radius / size) ** (1 / index))
    np.testing.assert_allclose(models(radius)[:, row(index, i)], light, atol=0.01)


def test_curves_rise_to_one_and_never_fall(models) -> None:
    assert (np.diff(models.light, axis=1) >= 0).all()
    assert (models.light <= 1 + 1e-9).all()
    assert models.light[0, -1] == pytest.approx(1)


@pytest.mark.parametrize("model", [0, row(1.0, 7), row(1.5, 9), row(4.0, 8)])
def test_bright_source_tells_its_own_light_beyond(models, model) -> None:
    light = 500 * rings(models, model)
    factor, error = scale_to_total(models, RINGS[None], light, np.full_like(light, 0.05), KRON)
    truth = 1 / models(RINGS)[KRON, model]
    assert factor[0] == pytest.approx(truth, abs=3 * error[0])
    assert error[0] < 0.06
    assert factor[0] == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("snr", [10, 30, 100])
def test_errors_hold_the_truth_as_often_as_they_say(models, snr) -> None:
    """Sources of any profile of which most is in the aperture, with noise."""
    rng = np.random.default_rng(2)
    inside = models(RINGS)[KRON]
    model = rng.choice(np.flatnonzero(inside > 0.6), 2000)
    light = np.diff(models(RINGS)[:, model].T, axis=1, prepend=0)
    # As on the sky, where the noise of a ring goes with its area.
    error = np.sqrt(np.diff(RINGS**2, prepend=0)) / RINGS[KRON] * inside[model][:, None] / snr
    factor, spread = scale_to_total(models, np.tile(RINGS, (2000, 1)), rng.normal(light, error), error, KRON)
    pull = (factor - 1 / inside[model]) / spread
    # 0.68 were the errors normal and those of the noise alone; that of the models is for what a real source is.
    assert 0.68 < np.mean(np.abs(pull) < 1) < 0.95
    assert abs(np.median(pull)) < 0.5
    assert np.median(spread / factor) < 0.04 + 1 / snr


def test_less_is_known_of_a_faint_source(models) -> None:
    light = np.repeat(rings(models, row(1.0, 7)), 3, axis=0)
    error = np.array([[0.001], [0.03], [10.0]]) * np.ones_like(light)
    factor, spread = scale_to_total(models, np.tile(RINGS, (3, 1)), light, error, KRON)
    assert (np.diff(spread) > 0).all()
    assert spread[2] > 0.3 * factor[2]


def test_rings_that_are_not_measured_do_not_count(models) -> None:
    light = 100 * np.repeat(rings(models, 0), 3, axis=0)
    error = np.full_like(light, 0.1)
    light[1, 5], error[2] = np.nan, np.nan
    whole, most, none = scale_to_total(models, np.tile(RINGS, (3, 1)), light, error, KRON)[0]
    assert most == pytest.approx(whole, rel=0.01)
    assert np.isnan(none)
    assert scale_to_total(models, np.empty((0, 6)), np.empty((0, 6)), np.empty((0, 6)), KRON)[0].shape == (0,)


def test_real_psfs_have_sums_of_gaussians(data: Path) -> None:
    """A point counts as the image itself; for galaxies the PSF is Gaussians, to 1.3 % of the light, MIRI 2.1 %."""
    names = "psf/psf-ceers-f160w.fits.gz psf/psf-smacs0723-mirim-f770w.fits.gz uds/psf-ceers-nrca5-f444w.fits"
    for path in (data / name for name in names.split()):
        psf = read_psf(path, 0.04)
        half = float(half_light_radius(psf, 9))
        models, radius = model_growth(psf), half * np.array([1, 1.5, 2, 3, 4, 6])
        light = encircled_energy(psf, radius) / max(psf.data.sum(), 1)
        np.testing.assert_allclose(models(radius)[:, 0], light, atol=2e-3)
        # The smallest galaxy is 0.2 of the PSF, which widens it by 2 %.
        np.testing.assert_allclose(models(radius)[:, row(0.5, 0)], light, atol=0.035)
