"""Simulated fields: is the light that of the list, is the noise what it is said to be, do the products say the same?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from photutils.psf import CircularGaussianPRF
from scipy.special import gammainc, gammaincinv, j0, j1

import dja_photplug as dp
from dja_photplug.errors import PhotplugError
from dja_photplug.simulate.field import PSF_SHARE, PSF_SIGMA, FieldOptions, SimulatedField, simulate_field, write_field

QUIET = {"sky_level": 0.0, "sky_scatter": 0.0, "stripes": 0.0}  # no noise beyond that of drizzling and `excess`
SCALE, FWHM = 0.04, 0.145  # arcsec


@pytest.fixture(scope="module")
def deep() -> SimulatedField:
    return simulate_field(FieldOptions(shape=(902, 1003)))


def place(field: SimulatedField, **columns: float | bool) -> SimulatedField:
    """Return a field whose first source has other properties; `own_light` draws it."""
    sources = field.sources[:1].copy()
    for name, value in columns.items():
        sources[name][0] = value * (sources[name].unit or 1)
    return replace(field, sources=sources)


def pulls(field: SimulatedField, radius: float, count: int = 20_000) -> np.ndarray:
    """Return flux over error of circles anywhere, by the weight alone."""
    ny, nx = field.options.shape
    rng = np.random.default_rng(1)
    x, y = rng.uniform(radius + 1, [[nx - radius - 2], [ny - radius - 2]], (2, count))
    flux = sep.sum_circle(field.science * np.sqrt(field.weight), x, y, radius, subpix=0)[0]
    return flux / (np.sqrt(np.pi) * radius)


# ---- light


def test_star_is_the_gaussians_of_the_psf_integrated_over_pixels(deep: SimulatedField) -> None:
    star = place(deep, x=300.3, y=400.8, flux=100.0, size=0.0, sersic=0.0)
    window, stamp = star.own_light(0)
    y, x = np.mgrid[window]
    expected = sum(
        # integrated over pixels by photutils, with error functions
        CircularGaussianPRF(flux=1e4 * share, x_0=300.3, y_0=400.8, fwhm=width * FWHM / SCALE * 2.35482)(x, y)
        for share, width in zip(PSF_SHARE, PSF_SIGMA, strict=True)
    )
    # What does not fit the frequencies of 40 mas pixels: 2e-5 of the peak.
    np.testing.assert_allclose(stamp, expected, atol=3e-5 * expected.max())
    assert stamp.sum() == pytest.approx(1e4, rel=1e-6)


def test_psf_has_the_core_and_the_wings_of_f444w() -> None:
    def enclosed(radius: float) -> float:
        return float(np.sum(PSF_SHARE * (1 - np.exp(-((radius / (PSF_SIGMA * FWHM)) ** 2) / 2))))

    assert PSF_SHARE.sum() == pytest.approx(1)
    # grizli's library stamp: 0.49 and 0.93, of a sum of 0.95
    assert enclosed(0.1) == pytest.approx(0.48, abs=0.02)
    assert enclosed(0.6) == pytest.approx(0.91, abs=0.01)
    assert 0.01 < 1 - enclosed(1.5) < 0.03


@pytest.mark.parametrize("index", [0.5, 1.0, 1.5, 2.5, 4.0])
def test_galaxy_is_a_sersic_profile_convolved_with_the_psf(deep: SimulatedField, index: float) -> None:
    galaxy = place(deep, x=500.4, y=450.1, flux=50.0, size=0.4, sersic=index, axis_ratio=1.0)
    window, stamp = galaxy.own_light(0)
    at = [500.4 - window[1].start], [450.1 - window[0].start]
    radii = np.array([0.16, 0.25, 0.35, 0.5, 0.8])
    measured = [sep.sum_circle(np.ascontiguousarray(stamp), *at, r / SCALE, subpix=0)[0][0] / 5000 for r in radii]
    # Light in a circle by Hankel transforms: thin rings of the profile, PSF, and pixel (a Gaussian) twice, because
    # sums take the light of a pixel as evenly spread.
    edges = 0.4 * np.concatenate([[0], np.geomspace(1e-4, 300, 1500)])
    rings = np.diff(gammainc(2 * index, gammaincinv(2 * index, 0.5) * (edges / 0.4) ** (1 / index)))
    k = np.linspace(1e-4, 100, 3000)  # rad/arcsec
    profile = j0(np.outer(k, (edges[1:] + edges[:-1]) / 2)) @ rings
    psf = PSF_SHARE @ np.exp(-((PSF_SIGMA[:, None] * FWHM) ** 2 + SCALE**2 / 6) * k**2 / 2)
    expected = [np.trapezoid(radius * j1(k * radius) * profile * psf, k) for radius in radii]
    np.testing.assert_allclose(measured, expected, rtol=0.003)


def test_axis_ratio_and_angle_are_those_of_the_light(deep: SimulatedField) -> None:
    shape = {"flux": 50.0, "size": 0.4, "sersic": 0.5}
    window, stamp = place(deep, x=500.4, y=450.1, axis_ratio=0.5, theta=30.0, **shape).own_light(0)
    y, x = np.mgrid[window] - np.array([450.1, 500.4])[:, None, None]
    moments = np.array([[np.sum(stamp * p * q) for p in (x, y)] for q in (x, y)]) * SCALE**2 / stamp.sum()
    # A galaxy of index 0.5 is a Gaussian, sigma = size / 1.1774; PSF and pixel add their variance to both axes.
    added = PSF_SHARE @ (PSF_SIGMA * FWHM) ** 2 + SCALE**2 / 12
    (minor, major), axes = np.linalg.eigh(moments)
    assert major == pytest.approx((0.4 / 1.17741) ** 2 + added, rel=0.005)
    assert minor == pytest.approx((0.2 / 1.17741) ** 2 + added, rel=0.005)
    assert np.degrees(np.arctan(axes[1, 1] / axes[0, 1])) == pytest.approx(30, abs=0.2)


def test_light_of_all_sources_is_the_truth(deep: SimulatedField) -> None:
    total, light = np.zeros(deep.truth.shape), 0.0
    for i in range(len(deep.sources)):
        window, stamp = deep.own_light(i)
        total[window] += stamp
        light += stamp.sum()
    assert np.abs(total - deep.truth).max() < 1e-3 * deep.options.sigma
    assert light == pytest.approx(deep.truth.sum(), rel=1e-9)
    # Sources at the edge lose up to half of their light; none gains any.
    assert 0.95 < light / deep.sources["flux"].to_value("10 nJy").sum() < 1


def test_stamps_end_where_light_does_not_matter(deep: SimulatedField) -> None:
    brightest = int(np.argmax(deep.sources["flux"]))
    for i in (0, 1, 2, brightest):
        window, stamp = place(deep, x=500.0, y=450.0, flux=deep.sources["flux"][i].value).own_light(0)
        assert stamp.shape == tuple(part.stop - part.start for part in window)
        edge = np.concatenate([stamp[0], stamp[-1], stamp[:, 0], stamp[:, -1]])
        # 1 % by the profile alone, and as much again by that of the opposite side
        assert np.abs(edge).max() < 0.025 * deep.options.sigma


# ---- sources


def test_counts_are_those_of_a_deep_field() -> None:
    # 9 square arcmin in pixels of 400 mas
    options = FieldOptions(shape=(450, 450), pixel_scale=0.4, psf_fwhm=1.22)
    sources = simulate_field(options).sources
    flux = sources["flux"].value
    above = np.array([np.sum(flux > limit) for limit in (0.002, 0.02, 0.2, 1.0, 10.0)]) / 9
    # N(>F) less that above 100 uJy (0.01 of that above 1 uJy), 300 of it above 20 nJy
    unit = 300 / (0.02**-0.6 - 0.01)
    expected = unit * (np.array([0.002**-0.6, 0.02**-0.6, 0.2**-0.6, 1.0, 0.1]) - 0.01)
    assert np.all(np.abs(above - expected) < 4 * np.sqrt(expected / 9))
    assert above[0] == pytest.approx(expected[0], rel=1e-4)
    assert np.mean(sources["star"]) == pytest.approx(0.1, abs=0.015)
    galaxies = sources[~sources["star"]]
    assert set(galaxies["sersic"]) == {0.5, 1.0, 1.5, 2.5, 4.0}
    assert np.all((galaxies["size"].value >= 0.05) & (galaxies["size"].value <= 1))
    # 0.15 arcsec x (F / 1 uJy)^0.2, so 0.095 arcsec at 0.1 uJy; 300 of them have a median good to 3.5 %
    near = (galaxies["flux"].value > 0.08) & (galaxies["flux"].value < 0.125)
    assert np.median(galaxies["size"][near].value) == pytest.approx(0.095, rel=0.1)


def test_sources_are_where_the_wcs_says(deep: SimulatedField) -> None:
    x, y = deep.wcs.wcs_world2pix(deep.sources["ra"], deep.sources["dec"], 0)
    np.testing.assert_allclose([x, y], [deep.sources["x"].value, deep.sources["y"].value], atol=1e-6)


# ---- noise


def test_empty_sky_scatters_more_in_larger_apertures() -> None:
    field = simulate_field(FieldOptions(density=0, **QUIET))
    assert np.std(field.science * np.sqrt(field.weight)) == pytest.approx(0.62, abs=0.01)
    scatter = [np.std(pulls(field, radius)) for radius in (2, 6.25, 12)]
    # Sampling error 0.5 % of 20,000 circles that do not overlap, and 4 % of the 5,000 that fit without at 12 pixels
    np.testing.assert_allclose(scatter, [0.95, 1.23, 1.31], atol=0.04)


def test_drizzled_noise_alone_is_white_on_large_scales() -> None:
    field = simulate_field(FieldOptions(density=0, excess=1, **QUIET))
    # A trapezoid of drop 1.18 and pixel 1: (1/d - 1/(3 d^2))^(1/2) along each axis
    drop = 0.75 * 63 / 40
    assert np.std(field.science * np.sqrt(field.weight)) == pytest.approx(1 / drop - 1 / (3 * drop**2), rel=0.005)
    assert np.std(pulls(field, 12)) == pytest.approx(0.98, abs=0.03)
    assert np.std(pulls(field, 2)) == pytest.approx(0.83, abs=0.015)  # by drizzled exposures 0.82


def test_sky_and_stripes_are_as_large_as_asked() -> None:
    noisy, clean = (
        simulate_field(FieldOptions(density=0, depths=(1.0,), **options))
        for options in ({"stripes": 0.0, "sky_level": -0.1, "sky_scatter": 0.05}, QUIET)
    )
    sky = (noisy.science - clean.science) / noisy.options.sigma
    assert sky.mean() == pytest.approx(-0.1, abs=1e-4)
    # two scales, whose chance correlation in a field of 60 arcsec is up to 0.2
    assert sky.std() == pytest.approx(0.05, rel=0.15)
    assert np.abs(np.diff(sky, axis=1)).max() < 0.01  # smooth on arcseconds
    striped = simulate_field(FieldOptions(density=0, depths=(1.0,), **QUIET | {"stripes": 0.2}))
    stripes = (striped.science - clean.science) / striped.options.sigma
    for axis in (0, 1):
        assert stripes.mean(axis=axis).std() == pytest.approx(0.2, rel=0.1)  # 1500 values: 2 %
    assert stripes.std() == pytest.approx(0.2 * np.sqrt(2), rel=0.05)


def test_photons_are_those_of_the_electrons(deep: SimulatedField) -> None:
    options = replace(deep.options, sigma=1e-6, exposure_time=500.0, **QUIET)
    field = simulate_field(options)
    bright = field.truth * field.electrons > 20
    electrons = (field.science - field.truth)[bright] * field.electrons[bright]
    # Poisson: variance and mean of the electrons are equal; sampling error sqrt(2 / n)
    n = np.count_nonzero(bright)
    assert n > 4000
    ratio = np.mean(electrons**2 / (field.truth * field.electrons)[bright])
    assert ratio == pytest.approx(1, abs=4 * np.sqrt(2.1 / n))
    # 1.88 e-/DN, 1 / (0.387729 * 8.8825) DN/s per 10 nJy
    assert field.electrons[0, 0] == pytest.approx(1.88 * 0.2903574 * 500, rel=1e-5)


def test_depth_changes_in_steps(deep: SimulatedField) -> None:
    assert set(np.unique(deep.zones)) == {0, 1, 2}
    for zone, depth in enumerate((1, 0.5, 0.25)):
        inside = deep.zones == zone
        assert np.mean(inside) == pytest.approx(1 / 3, abs=0.005)
        assert np.unique(deep.weight[inside]) == pytest.approx(depth / 0.02**2, rel=1e-3)
        # Seconds are whole: 8374, 4187 and 2094 for 2093.5
        assert np.unique(deep.electrons[inside]) == pytest.approx(1.88 * 0.2903574 * 8374 * depth, rel=1e-3)
    quiet = simulate_field(FieldOptions(density=0, shape=(900, 1000), **QUIET))
    scatter = [np.std(quiet.science[quiet.zones == zone]) for zone in range(3)]
    np.testing.assert_allclose(scatter, 0.62 * 0.02 * np.array([1, 2**0.5, 2]), rtol=0.02)


def test_seeds_give_other_fields_and_the_same_again() -> None:
    first, again, other = (simulate_field(FieldOptions(shape=(64, 64), seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.science, again.science)
    assert not np.array_equal(first.science, other.science)


def test_another_image_of_the_same_sources_has_other_noise() -> None:
    first, second = (simulate_field(FieldOptions(shape=(64, 64), noise_seed=seed)) for seed in (None, 2))
    np.testing.assert_array_equal(second.truth, first.truth)
    assert second.truth.any()
    assert abs(np.corrcoef((first.science - first.truth).ravel(), (second.science - second.truth).ravel())[0, 1]) < 0.1


def test_the_same_sources_are_seen_in_another_band() -> None:
    size = {"shape": (200, 200), "density": 900}
    first = simulate_field(FieldOptions(**size))
    sources = first.sources.copy()
    sources["flux"] *= 2
    second = simulate_field(FieldOptions(**size, noise_seed=2), sources)
    np.testing.assert_array_equal(second.sources["flux"], 2 * first.sources["flux"])
    # Brighter sources are drawn on larger stamps, for what is below 1 % of the noise on smaller ones.
    unseen = 0.02 * first.options.sigma
    assert first.truth.max() > 100 * unseen
    np.testing.assert_allclose(second.truth, 2 * first.truth, rtol=1e-9, atol=unseen)


# ---- products


@pytest.mark.parametrize("shape", [(200, 301), (203, 302)])
def test_written_products_have_the_same_full_weight(tmp_path: Path, shape: tuple[int, int]) -> None:
    field = simulate_field(FieldOptions(shape=shape, density=2000))
    prefix = write_field(field, tmp_path / "new", "sim-v1")
    assert prefix == tmp_path / "new" / "sim-v1-f444w-clear"
    image = dp.load_mosaic(prefix, "calibrated")
    np.testing.assert_array_equal(image.data, field.science)
    np.testing.assert_array_equal(image.background_weight, field.weight)
    np.testing.assert_allclose(image.uncertainty.array, field.full, rtol=1e-5)
    np.testing.assert_array_equal(image.mask, field.mask)
    assert image.meta["DETGAIN"] * image.meta["PHOTSCLE"] * 8374 == pytest.approx(field.electrons[0, 0], rel=1e-6)
    assert image.meta["NFILLED"] == image.meta["NNULL"] == 0
    np.testing.assert_allclose(image.wcs.wcs_pix2world([[10, 20]], 0), field.wcs.wcs_pix2world([[10, 20]], 0))


def test_written_products_are_measured(tmp_path: Path) -> None:
    field = simulate_field(FieldOptions(shape=(400, 400), depths=(1.0,)))
    options = dp.Options(variance=dp.VarianceOptions(noise="dja"))
    catalog = dp.run([write_field(field, tmp_path, "sim-v1")], options).catalog
    found = SkyCoord(catalog["ra"], catalog["dec"])
    bright = field.sources[field.sources["flux"] > 0.1 * u.uJy]
    _, separation, _ = SkyCoord(bright["ra"], bright["dec"]).match_to_catalog_sky(found)
    assert len(bright) > 5
    assert np.mean(separation < 0.2 * u.arcsec) > 0.8  # the others are deblended with brighter ones


# ---- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (100, 100, 100)}, "not a height and a width"),
        ({"flux_range": (1.0, 0.1)}, "not a flux and a larger one"),
        ({"counts_slope": (1.0, 2.0, 3.0)}, "not a slope below 1 uJy and one above"),
        ({"pixel_scale": 0.06}, "below three pixels of 0.06 arcsec, which do not sample it"),
        ({"depths": (1.0, 2.0)}, "option depths: 2.0 is above its maximum 1"),
    ],
)
def test_options_that_make_no_field_are_refused(options: dict, message: str) -> None:
    with pytest.raises(PhotplugError, match=message):
        FieldOptions(**options)
