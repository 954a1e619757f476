"""Injection and recovery: light and its noise by independent numbers, and what counts as recovered."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from scipy.spatial import cKDTree
from scipy.special import erf
from scipy.stats import kstest

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.completeness.bins import BIN_COLUMNS, SPLIT_COLUMNS, describe_clear_sky
from dja_photplug.completeness.limits import fit_completeness
from dja_photplug.files.names import find_mosaic
from dja_photplug.files.written import write_image
from dja_photplug.injection import field as field_module
from dja_photplug.injection import light as light_module
from dja_photplug.injection import recovery as recovery_module
from dja_photplug.mosaic.load import load_mosaic
from dja_photplug.options.arguments import add_flags, collect_options, collect_stage
from dja_photplug.options.commands import InjectionOptions
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.psf.regions import read_psf_model
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, simulate_mosaic, simulate_scene
from tests.helpers import DJA, gaussian, make_calibration, make_injected, make_places, uds_prefix

FEW = InjectionOptions(realisations=3, magnitudes=(24, 30), bin_width=1.5, workers=1)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """Prefix of a mosaic of 300 x 400 pixels without sources, a third of it without data."""
    scene = simulate_scene(SceneOptions(shape=(300, 400), bands=("f444w",), n_sources=0))
    options = MosaicOptions(root="empty-v1", n_exposures=2, detector_size=160, position_angles=(0.0,), bad_fraction=0)
    return simulate_mosaic(tmp_path_factory.mktemp("empty"), scene, options).prefix


def prepare(prefix, injection=FEW, options=DJA, psf=None):
    """Return the field that realisations are made in."""
    job = field_module.Job(
        source=find_mosaic(prefix), options=options, injection=injection, psf=psf and read_psf_model(psf, 0.04)
    )
    return field_module.prepare(job, get_plugin_manager())


def place(field, x, y, mag, size=0.0, axis_ratio=1.0):
    """Return the table of sources at given pixels."""
    x, y, mag = np.broadcast_arrays(*np.atleast_1d(x, y, mag))
    ra, dec = field.before.image.wcs.pixel_to_world_values(x, y)
    n = len(x)
    table = QTable({"ra": ra * u.deg, "dec": dec * u.deg, "x": x, "y": y, "mag": mag})
    table["size"] = np.full(n, size) * u.arcsec
    table["axis_ratio"] = np.full(n, axis_ratio)
    table["pa"] = np.zeros(n) * u.deg
    return table


def test_light_has_the_flux_of_its_magnitude(empty):
    """18.9 mag is 100 uJy, 10000 units; 5e-5 are the light beyond the 5 sigma that are drawn, and the quadrature."""
    field = prepare(empty)
    light = light_module.draw_injected(place(field, 200.3, 150.8, 18.9), field)
    assert light.sum() == pytest.approx(1e4, rel=5e-5)
    y, x = np.indices(light.shape)
    assert ((x * light).sum() / 1e4, (y * light).sum() / 1e4) == pytest.approx((200.3, 150.8), abs=0.001)
    # The variance of the Gaussian and of the pixel add.
    sigma = FEW.psf_fwhm / 2.35482 / 0.04
    assert ((x - 200.3) ** 2 * light).sum() / 1e4 == pytest.approx(sigma**2 + 1 / 12, rel=1e-3)


@pytest.mark.parametrize(("shape", "index"), [("gaussian", 1.0), ("sersic", 1.0), ("sersic", 4.0)])
def test_half_of_the_light_of_a_galaxy_is_within_its_half_light_radius(empty, shape, index):
    """The sum of Gaussians holds the profile to 1 %, the PSF of 0.04 arcsec and the pixels take 1 % more."""
    injection = replace(FEW, shape=shape, sersic_index=index, psf_fwhm=0.04)
    field = prepare(empty, injection)
    light = light_module.draw_injected(place(field, 200.0, 150.0, 18.9, size=0.8), field)
    y, x = np.indices(light.shape)
    inside = np.hypot(x - 200, y - 150) < 0.8 / 0.04
    assert light[inside].sum() / 1e4 == pytest.approx(0.5, abs=0.015)


def test_light_reaches_the_far_end_of_a_wide_mosaic(empty):
    field = prepare(empty, options=replace(DJA, cutout=(slice(100, 160), slice(0, 400))))
    assert light_module.draw_injected(place(field, 370, 30, 18.9), field).sum() == pytest.approx(1e4, rel=5e-5)


def test_electrons_are_those_of_gain_scale_and_time(empty):
    """G * phot_scale * time, whatever the preset of the analysis; 837 whole seconds for each of two exposures."""
    options = MosaicOptions()
    for noise in ("dja", "calibrated", "background"):
        field = prepare(empty, options=dp.Options(variance=dp.VarianceOptions(noise=noise)))
        inner = field.electrons[130:170, 180:220]
        np.testing.assert_allclose(inner, 1.88 * options.phot_scale * 2 * 837, rtol=1e-5)  # float32
        assert (field.electrons[field.weight == 0] == 0).all()
    given = prepare(empty, options=dp.Options(variance=dp.VarianceOptions(noise="dja", detector_gain=4.0)))
    np.testing.assert_allclose(given.electrons[150, 200], 4 * options.phot_scale * 2 * 837, rtol=1e-5)


def test_noise_of_the_light_is_that_of_its_electrons(empty):
    """A flat 0.05 units per pixel, 47 electrons: mean and variance within 4 of their own standard errors."""
    field = prepare(empty)
    light = np.full(field.before.image.data.shape, 0.05)
    image = light_module.add_light(field, light, np.random.default_rng(1))
    good = field.electrons > 0
    electrons = ((image.data - field.before.image.data)[good] * field.electrons[good]).astype(float)
    mean, n = (0.05 * field.electrons[good]).astype(float), good.sum()
    assert n > 5e4
    pull = (electrons - mean) / np.sqrt(mean)
    assert abs(pull.mean()) < 4 / np.sqrt(n)
    assert abs(pull.var() - 1) < 4 * np.sqrt(2.1 / n)
    quiet = replace(field, electrons=None)
    image = light_module.add_light(quiet, light, np.random.default_rng(1))
    np.testing.assert_allclose(image.data, field.before.image.data + np.float32(0.05), atol=1e-7)


@pytest.mark.parametrize("noise", ["dja", "calibrated", "background"])
def test_weight_of_the_injected_image_is_that_of_a_mosaic_with_this_light(empty, tmp_path, noise):
    """Written as the science image of a mosaic and loaded as any other, it has the same full weight."""
    field = prepare(empty, options=dp.Options(variance=dp.VarianceOptions(noise=noise)))
    light = light_module.draw_injected(place(field, [180, 230], [150, 140], [19, 24]), field)
    image = light_module.add_light(field, light, np.random.default_rng(1))
    for path in empty.parent.glob(f"{empty.name}_*"):
        (tmp_path / path.name).symlink_to(path)
    science = tmp_path / f"{empty.name}_drc_sci.fits.gz"
    header = fits.getheader(science)
    science.unlink()
    write_image(science, image.data, header)
    expected = load_mosaic(tmp_path / empty.name, noise)
    np.testing.assert_array_equal(image.uncertainty.array, expected.uncertainty.array)
    assert (image.uncertainty.array < field.before.image.uncertainty.array).any() == (noise != "background")


def test_variance_file_gets_the_photons_of_the_light(tmp_path):
    """The analysis takes ``_var`` as it is; the light adds light / electrons to it, once."""
    scene = simulate_scene(SceneOptions(shape=(200, 200), bands=("f444w",), n_sources=0))
    prefix = simulate_mosaic(tmp_path, scene, MosaicOptions(root="var-v1", n_exposures=2, var=True)).prefix
    field = prepare(prefix)
    assert field.before.image.meta["VARFILE"]
    light = light_module.draw_injected(place(field, 100, 100, 19), field)
    image = light_module.add_light(field, light, np.random.default_rng(1))
    electrons = 1.88 * MosaicOptions().phot_scale * 4 * 837
    good = ~image.mask
    added = 1 / image.uncertainty.array[good] - 1 / field.before.image.uncertainty.array[good]
    # Bad pixels of single exposures make no difference: the exposure map does not know them. Float32 differences.
    np.testing.assert_allclose(added, light[good] / electrons, rtol=1e-3, atol=1e-6)


def test_places_have_data_and_keep_apart(empty):
    mask = prepare(empty).before.image.mask
    assert 0.2 < mask.mean() < 0.8
    drawn = [light_module._draw_positions(mask, 20.0, np.random.default_rng(seed)) for seed in range(60)]
    for x, y in drawn:
        assert not mask[np.rint(y).astype(int), np.rint(x).astype(int)].any()
        distance, _ = cKDTree(np.stack([x, y], axis=-1)).query(np.stack([x, y], axis=-1), k=2)
        assert distance[:, 1].min() >= 10
    # Everywhere alike: the places in the columns that are whole follow the uniform distribution.
    x, y = np.concatenate(drawn, axis=1)
    clear = ~mask[150]
    first, last = np.flatnonzero(clear)[[0, -1]]
    row = np.abs(y - 150) < 20
    assert kstest(x[row], "uniform", (first - 0.5, last - first + 1)).pvalue > 0.001


def test_magnitudes_and_shapes_are_drawn_within_their_ranges(empty):
    field = prepare(empty)
    galaxies = replace(FEW, shape="sersic", half_light=(0.1, 0.4), axis_ratio=(0.5, 0.9), separation=1.0)
    sources = light_module.draw_sources(field.before.image, galaxies, np.random.default_rng(1))
    assert len(sources) > 50
    assert np.histogram(sources["mag"], 6, (24, 30))[0].std() < 1  # one in each of n equal intervals
    for name, low, high in (("size", 0.1, 0.4), ("axis_ratio", 0.5, 0.9), ("pa", 0, 180)):
        values = u.Quantity(sources[name]).value
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    points = light_module.draw_sources(field.before.image, FEW, np.random.default_rng(1))
    assert (points["size"] == 0).all()


def make_result(x, flux, segmentation, before):
    """Return a run that found other sources than `before`, all at y = 50."""
    n = len(x)
    catalog = QTable({"id": np.arange(1, n + 1), "x": x * u.pix, "y": np.full(n, 50.0) * u.pix})
    for name in ("flux_auto", "flux_aper_1", "fluxerr_aper_1"):
        catalog[name] = flux * u.uJy
    return replace(before, catalog=catalog, detection=replace(before.detection, segmentation=segmentation))


def test_what_counts_as_recovered_and_blended(empty):
    """By hand: a known source of 1 uJy at x = 50; 23.9 mag is 1 uJy. The match radius of 0.2 arcsec is 5 pixels."""
    field = prepare(empty)
    segmentation = np.zeros((300, 400), np.int32)
    segmentation[45:56, 45:56] = 1
    before = make_result(np.array([50.0]), np.array([1.0]), segmentation, field.before)
    after = make_result(np.array([51.0, 100.0, 206.0]), np.array([1.4, 0.3, 0.5]), segmentation, field.before)
    cases = [
        # x of the source, magnitude, its light around the nearest detection: recovered, blended
        (50.0, 24.9, 0.4, False, True),  # on a brighter source, whose flux it does not double
        (50.0, 23.8, 1.1, True, False),  # it doubles it, and is itself the brighter one
        (98.0, 25.2, 0.3, True, False),  # a new detection 2 pixels off
        (200.0, 24.6, 0.5, False, False),  # the nearest detection is 6 pixels off
    ]
    for x, mag, light, recovered, blended in cases:
        nearest = recovery_module._match(np.array([x, 50.0]), recovery_module._positions(after), 5)
        columns = recovery_module._recover(place(field, x, 50.0, mag), before, after, nearest, np.array([light]), FEW)
        assert (bool(columns["recovered"][0]), bool(columns["blended"][0])) == (recovered, blended), (x, mag)
        np.testing.assert_equal(columns["flux_true"], [light if recovered else np.nan])
    nothing = make_result(np.empty(0), np.empty(0), np.zeros((300, 400), np.int32), field.before)
    nearest = recovery_module._match(np.array([50.0, 50.0]), recovery_module._positions(nothing), 5)
    columns = recovery_module._recover(place(field, 50.0, 50.0, 24.0), nothing, nothing, nearest, np.ones(1), FEW)
    assert not columns["recovered"].any()
    assert np.isnan(columns["flux"]).all()


@pytest.mark.parametrize(
    ("changes", "share", "tolerance"),
    [
        # Of a Gaussian 1 - exp(-r^2 / 2 sigma^2), with r = 0.18 arcsec. To its variance add the pixels, once for the
        # light in them and once for the aperture that cuts them; for a galaxy its own, half-light radius / 1.1774.
        ({}, 1 - np.exp(-(0.18**2) / 2 / ((0.15 / 2.35482) ** 2 + 0.04**2 / 6)), 5e-4),
        (
            {"shape": "gaussian", "half_light": (0.2, 0.2)},
            1 - np.exp(-(0.18**2) / 2 / ((0.15 / 2.35482) ** 2 + (0.2 / 1.17741) ** 2 + 0.04**2 / 6)),
            0.002,  # a sum of Gaussians too, which holds the profile to 1 %
        ),
        # Half of it by definition; the profile holds to 1 %, and PSF and pixels take 1 % more.
        ({"shape": "sersic", "sersic_index": 1.0, "half_light": (0.18, 0.18), "psf_fwhm": 0.04}, 0.5, 0.015),
        ({"shape": "sersic", "sersic_index": 4.0, "half_light": (0.18, 0.18), "psf_fwhm": 0.04}, 0.5, 0.03),
    ],
)
def test_truth_is_the_light_of_each_source_in_the_whole_aperture(empty, changes, share, tolerance):
    """Also beside pixels without data, and whatever the light of one 10,000 times brighter 1 arcsec away."""
    injection = replace(FEW, magnitudes=(20, 30), aperture=0, axis_ratio=(1, 1), separation=2.0, **changes)
    sources = dp.inject(empty, DJA, injection).sources
    found = sources["recovered"]
    total = 10 ** (0.4 * (23.9 - sources["mag"].value))
    assert 40 < found.sum() < len(sources) - 10
    forced = sources["flux_true_forced"].value / total
    np.testing.assert_allclose(forced, share, atol=tolerance)
    # A circle around the true position holds the most, but for where in its pixel it lies.
    bright = found & (sources["mag"] < 26 * u.mag)
    assert (sources["flux_true"][found] < 1.01 * sources["flux_true_forced"][found]).all()
    assert np.median(sources["flux_true"].value[bright] / total[bright]) == pytest.approx(share, abs=tolerance + 0.005)
    assert np.isnan(sources["flux_true"][~found]).all()
    # Those that were not detected are measured as well.
    assert np.isfinite(sources["flux_forced"]).all()
    assert (sources["fluxerr_forced"] > 0).all()


def test_light_drawn_in_a_box_is_that_of_the_image(empty, tmp_path):
    path = tmp_path / "psf.fits"
    psf = gaussian((41, 41), 20, 20, 2, 1 / (2 * np.pi * 4))
    fits.writeto(path, psf.astype(np.float32))
    box = (slice(140, 160), slice(190, 230))
    for field in (prepare(empty), prepare(empty, replace(FEW, shape="sersic")), prepare(empty, psf=path)):
        sources = place(field, [200.3, 226.6], [150.8, 158.1], 18.9, size=0.1 * (field.psf is None))
        part = light_module.draw_injected(sources, field, box)
        np.testing.assert_allclose(part, light_module.draw_injected(sources, field)[box], atol=1e-4)


def test_truth_does_not_follow_the_fill_of_a_masked_aperture(empty):
    """A neighbour owns the columns from 203 on: they take what lies opposite, where it is alike."""
    field = prepare(empty, replace(FEW, photons="none"))
    segmentation = np.zeros((300, 400), np.int32)
    segmentation[:, 203:] = 7
    sources = place(field, [200.0, 206.0], [150.0, 130.0], 20.0)
    light = light_module.draw_injected(sources, field)
    image = light_module.add_light(field, light, np.random.default_rng(1))
    after = replace(
        field.before,
        planes=(image, field.before.background),
        detection=replace(field.before.detection, segmentation=segmentation),
    )
    radius, total = 0.25 / 0.04, 10 ** (0.4 * 3.9)
    true = light_module.sum_light(sources, np.stack([sources["x"], sources["y"]], axis=-1)[:, None], field)[:, 0]
    variance = (0.15 / 2.35482 / 0.04) ** 2
    np.testing.assert_allclose(true, total * (1 - np.exp(-(radius**2) / 2 / (variance + 1 / 6))), rtol=5e-4)
    # The neighbour begins at the edge of a pixel, so that pixels make no difference to what is clear.
    x, y = (axis.ravel() for axis in np.meshgrid(*2 * [np.arange(-7, 7, 0.02) + 0.01]))
    inside = np.hypot(x, y) < radius
    profile = total / (2 * np.pi * variance) * np.exp(-(x**2 + y**2) / 2 / variance) * 0.02**2
    # The second lies on the neighbour's segment and counts as its light: nothing of it is masked but the sky.
    own = inside & (x > -3.5)
    kept = profile[own].sum() + profile[inside & ~own].sum()
    flux = recovery_module._force(sources, after, field)["flux_forced"]
    np.testing.assert_allclose(flux, [true[0], kept], rtol=0.002)


def test_distance_to_the_nearest_segment(empty):
    """By hand: a segment of pixels 45 to 55 in x and y, 0.04 arcsec each."""
    field = prepare(empty)
    segmentation = np.zeros((300, 400), np.int32)
    segmentation[45:56, 45:56] = 1
    detection = replace(field.before.detection, segmentation=segmentation)
    field = replace(field, before=replace(field.before, detection=detection), rim=field_module._find_rim(segmentation))
    places = np.array([[50, 50], [55.4, 50], [60, 50], [58.5, 59], [50, 40.2]])
    expected = 0.04 * np.array([0, 0, 5, np.hypot(3.5, 4), 4.8])
    np.testing.assert_allclose(field_module.measure_distance(places, field), expected, rtol=1e-4)
    nothing = replace(detection, segmentation=np.zeros_like(segmentation))
    bare = replace(
        field, before=replace(field.before, detection=nothing), rim=field_module._find_rim(nothing.segmentation)
    )
    assert np.isinf(field_module.measure_distance(places, bare)).all()


def test_depth_zone_is_that_of_the_background_variance(empty):
    """Variances 1, 4 and 16 in three stripes, with edges at 2 and 8; the photons of the full weight do not count."""
    field = prepare(empty)
    image = field.before.image
    image.background_weight[:] = np.repeat(np.float32([1, 1 / 4, 1 / 16]), [150, 100, 150])
    calibration = make_calibration(np.ones((3, 5)), edges=(2, 8))
    before = replace(field.before, calibration=calibration)
    sources = place(field, [100, 149.4, 149.6, 249.4, 300], 150.0, 25.0)
    zone, depth = field_module.find_depth(sources, before, 4.0)
    np.testing.assert_array_equal(zone, [0, 0, 1, 1, 2])
    # Twice the noise is 2.5 log10(2) shallower.
    np.testing.assert_allclose(depth, 2.5 * np.log10(2) * np.array([1, 1, 0, 0, -1]), atol=1e-6)
    np.testing.assert_array_equal(field_module.find_depth(sources, field.before, 4.0)[0], 0)  # no calibration


def test_places_are_those_with_data_and_know_their_hosts(empty, monkeypatch):
    """By hand: a source of 1 uJy on 20 x 30 pixels, and one whose flux is not known on 10 x 10."""
    field = prepare(empty)
    segmentation = np.zeros((300, 400), np.int32)
    segmentation[140:160, 180:210], segmentation[170:180, 180:190] = 1, 2
    field = replace(
        field, before=make_result(np.array([195.0, 185.0]), np.array([1.0, np.nan]), segmentation, field.before)
    )
    places, clear = field_module.sample_places(field), ~field.before.image.mask
    assert len(places.x) == clear.sum()  # fewer than PLACES
    assert clear[places.y.astype(int), places.x.astype(int)].all()
    assert [np.sum(places.host == flux) for flux in (1.0, np.inf)] == [600, 100]
    assert np.isneginf(places.host).sum() == clear.sum() - 700
    assert np.median(places.depth) == pytest.approx(0, abs=1e-6)
    monkeypatch.setattr(field_module, "PLACES", 5000)
    some = field_module.sample_places(field)
    assert 3000 < len(some.x) <= 5500
    assert np.mean(some.host == 1) == pytest.approx(600 / clear.sum(), rel=0.15)
    mask = np.ones((40, 40), bool)
    mask[0, 5] = False  # a pixel that the grid of every tenth passes over
    monkeypatch.setattr(field_module, "PLACES", 0.01)
    assert [axis.tolist() for axis in field_module._spread_pixels(mask)] == [[0], [5]]
    # Of an unknown flux it may be brighter than any.
    sources = place(field, [195, 195, 185, 20], [150, 150, 175, 20], [23.8, 24.0, 20.0, 30.0])
    np.testing.assert_array_equal(recovery_module._is_blended(sources, field.before), [False, True, True, False])


@pytest.mark.parametrize("shape", ["point", pytest.param("sersic", marks=pytest.mark.slow)])
def test_errors_on_clean_sky_are_those_of_the_noise(empty, shape):
    """Drizzled noise with its a(r), two depth zones: each known to its sampling error, and a(r) to 5 %."""
    options = dp.Options(
        variance=dp.VarianceOptions(noise="calibrated"), calibration=dp.CalibrationOptions(zones=2, radius_max=0.5)
    )
    injection = InjectionOptions(
        shape=shape, magnitudes=(24, 29), bin_width=1, separation=1.5, realisations=12, workers=1
    )
    result = dp.inject(empty, options, injection)
    splits = result.splits
    assert splits.meta["INJECT"] == result.table.meta["INJECT"]
    true = splits[splits["position"] == "true"]
    assert true["n"].sum() == len(result.sources)
    assert set(true["zone"]) == {1, 2}
    clear = true[true["distances"] == ">1.2"]
    assert (clear["n"] > 40).all()
    for row in clear:
        assert abs(row["scatter_over_error"] - 1) < 3 * row["scatter_err"] + 0.05, dict(row)
        assert abs(row["median_pull"]) < 3 * 1.2533 / np.sqrt(row["n"]) + 0.1, dict(row)


def test_numbers_do_not_depend_on_the_number_of_processes(simulated):
    alone, shared = (dp.inject(simulated.prefix, DJA, replace(FEW, workers=n)) for n in (1, 2))
    assert len(alone.sources) == len(shared.sources) > 30
    assert set(alone.sources["realisation"]) == {0, 1, 2}
    for name in alone.sources.colnames:
        np.testing.assert_array_equal(alone.sources[name], shared.sources[name])
    for name in alone.table.colnames:
        np.testing.assert_array_equal(alone.table[name], shared.table[name])
    assert alone.table.meta == shared.table.meta
    other = dp.inject(simulated.prefix, DJA, replace(FEW, seed=2))
    assert not np.isin(other.sources["x"], alone.sources["x"]).any()


def test_bright_sources_come_back_with_their_flux(simulated):
    """Of a Gaussian 1 - exp(-r^2 / 2 sigma^2) is in the aperture; the pixels widen it by 1/12 of their square."""
    injection = InjectionOptions(magnitudes=(20, 22), bin_width=2, realisations=4, aperture=3, workers=1)
    result = dp.inject(simulated.prefix, DJA, injection)
    sources = result.sources[result.sources["recovered"] & ~result.sources["blended"]]
    assert len(sources) > 0.8 * len(result.sources)
    sigma2 = (0.15 / 2.35482) ** 2 + 0.04**2 / 12
    share = 1 - np.exp(-(0.5**2) / 2 / sigma2)
    total = 10 ** (0.4 * (23.9 - sources["mag"].value))
    # The truth knows no neighbours; only the edge of the image takes some of it.
    x, y = sources["x"].value, sources["y"].value
    inside = (np.minimum(x, 529 - x) > 15) & (np.minimum(y, 400 - y) > 15)
    np.testing.assert_allclose((sources["flux_true"].value / total)[inside], share, atol=2e-6)
    # 15,000 electrons and more: 0.8 % each, of 30. Nearer ones have the light of real sources in their apertures.
    far = sources["distance"] > 0.6 * u.arcsec
    assert far.sum() > 25
    for suffix in ("", "_forced"):
        bias = sources[f"flux{suffix}"] / sources[f"flux_true{suffix}"] - 1
        assert abs(np.median(bias[far])) < 0.002
        assert 0 < np.median(bias[sources["distance"] < 0.3 * u.arcsec]) < 0.03
    assert result.table.meta["INJASEC"] == 1.0
    assert json.loads(result.table.meta["INJECT"])["magnitudes"] == [20, 22]
    assert result.table.meta["NOISE"] == "dja"


def test_a_manager_of_ones_own_is_asked(simulated):
    """A plugin that is registered by hand reaches no other process, so everything runs in this one."""
    asked = []

    class Curious:
        @staticmethod
        @dp.hookimpl
        def photplug_detect(image):
            asked.append(image.data.sum())

    manager = get_plugin_manager()
    manager.register(Curious, "curious")
    dp.inject(simulated.prefix, DJA, replace(FEW, workers=None, realisations=2), manager=manager)
    assert len(set(asked)) == 3  # the image as it is, and two with other sources


def test_psf_image(empty, tmp_path):
    """A shifted spline keeps the sum and moves the centre by the fraction of a pixel; half is cut at the edge."""
    psf = gaussian((41, 41), 20, 20, 2, 1 / (2 * np.pi * 4))
    path = tmp_path / "psf.fits"
    fits.writeto(path, (0.9 * psf).astype(np.float32))
    field = prepare(empty, psf=path)
    light = light_module.draw_injected(place(field, 200.4, 150.7, 18.9), field)
    assert light.sum() == pytest.approx(9000, rel=1e-4)
    y, x = np.indices(light.shape)
    assert ((x * light).sum() / 9000, (y * light).sum() / 9000) == pytest.approx((200.4, 150.7), abs=0.001)
    assert light_module.draw_injected(place(field, 200, -0.5, 18.9), field).sum() == pytest.approx(4500, rel=0.01)
    fits.writeto(path, psf[:-1, 1:].astype(np.float32), overwrite=True)  # even-sized: the peak is off its middle
    even = prepare(empty, psf=path)
    light = light_module.draw_injected(place(even, 200.0, 150.0, 18.9), even)
    assert (x * light).sum() / light.sum() == pytest.approx(200.0, abs=0.005)  # as the centre is measured
    with pytest.raises(dp.PhotplugError, match="leave one out"):
        dp.inject(empty, DJA, replace(FEW, shape="gaussian"), psf=path)


@pytest.mark.parametrize("size", [120, 121])
def test_an_oversampled_psf_is_integrated_over_the_pixels_of_the_mosaic(empty, tmp_path, size):
    """With pixels of 20 mas, of even size too, against the same PSF with those of the mosaic, at any place."""
    fine = fits.Header({"PIXSCL": 0.02})
    middle = (size - 1) / 2
    stamp = 0.9 * pixel_gaussian((size, size), middle, middle, 3.6)
    fits.writeto(tmp_path / "fine.fits", stamp, fine)
    field = prepare(empty, psf=tmp_path / "fine.fits")
    for x, y in ((200.0, 150.0), (200.4, 150.7), (199.5, 150.25)):
        light = light_module.draw_injected(place(field, x, y, 18.9), field)
        truth = 9000 * pixel_gaussian(light.shape, x, y, 1.8)
        np.testing.assert_allclose(light, truth, atol=0.004 * truth.max())
        assert light.sum() == pytest.approx(9000, rel=1e-3)


def pixel_gaussian(shape, x, y, sigma):
    """Return the light of a Gaussian in each pixel."""
    parts = [
        np.diff(erf((np.arange(n + 1) - 0.5 - c) / (sigma * np.sqrt(2)))) / 2
        for n, c in zip(shape, (y, x), strict=True)
    ]
    return np.outer(*parts)


def test_what_is_told_of_a_psf(empty, tmp_path):
    path = tmp_path / "psf.fits"
    psf = gaussian((41, 41), 20, 20, 2, 1 / (2 * np.pi * 4)).astype(np.float32)
    fits.writeto(path, 1.1 * psf)
    short = replace(FEW, realisations=1)
    with pytest.warns(dp.PhotplugWarning) as told:
        result = dp.inject(empty, DJA, short, psf=path)
    assert len(told) == 2
    assert "is assumed, 0.04 arcsec" in str(told[0].message)
    assert "sums to 1.1, which is not a fraction" in str(told[1].message)
    assert (result.table.meta["PSF"], result.table.meta["PSFSCALE"]) == ("psf.fits", pytest.approx(0.04))
    result = dp.inject(empty, DJA, replace(short, psf_scale=0.03, psf_share=0.9), psf=path)
    assert result.table.meta["PSFSCALE"] == 0.03
    for name in ("psf_scale", "psf_share"):
        with pytest.raises(dp.PhotplugError, match=f"option {name}: there is no PSF image"):
            dp.inject(empty, DJA, replace(short, **{name: 0.5}))


def test_what_an_injection_refuses(empty, tmp_path):
    with pytest.raises(dp.PhotplugError, match="option magnitudes: .* not a smaller and a larger"):
        InjectionOptions(magnitudes=(28, 24))
    with pytest.raises(dp.PhotplugError, match="option half_light: .* give two values in order"):
        InjectionOptions(half_light=(0.1,))
    with pytest.raises(dp.PhotplugError, match="none of .* sources of 33 to 34 mag was recovered"):
        dp.inject(empty, DJA, InjectionOptions(magnitudes=(33, 34), realisations=1))
    with pytest.raises(dp.PhotplugError, match="option aperture: 4 is not one of the 4 apertures"):
        dp.inject(empty, DJA, InjectionOptions(aperture=4))
    with pytest.raises(dp.PhotplugError, match="no pixel"):
        dp.inject(empty, replace(DJA, cutout=(slice(0, 20), slice(0, 20))), FEW)
    for path in empty.parent.glob(f"{empty.name}_drc_*"):
        if "_exp" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    bare = dp.Options(variance=dp.VarianceOptions(noise="background"))
    with pytest.raises(dp.PhotplugError, match="electrons of the injected light: .*photons 'none'"):
        dp.inject(tmp_path / empty.name, bare, FEW)
    assert dp.inject(tmp_path / empty.name, bare, replace(FEW, photons="none")).sources["recovered"].any()


def test_options_of_the_command_from_flags_and_toml(tmp_path):
    config = tmp_path / "options.toml"
    config.write_text("[injection]\nmagnitudes = [22, 27]\nseed = 4\n[detect]\nn_sigma = 3\n")
    parser = argparse.ArgumentParser()
    add_flags(parser, ["detect", "injection"])
    arguments = vars(parser.parse_args(["--seed", "9", "--half-light", "0.1,0.2"]))
    injection = collect_stage(InjectionOptions, arguments, config)
    assert injection == InjectionOptions(magnitudes=(22, 27), seed=9, half_light=(0.1, 0.2))
    assert collect_options(arguments, config).detect.n_sigma == 3  # one file serves all commands
    config.write_text("[injection]\nmagnitude = 3\n")
    with pytest.raises(dp.PhotplugError, match=r"\[injection\] magnitude is not an option; known: shape, "):
        collect_stage(InjectionOptions, {}, config)


def test_command(simulated, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = f"inject {simulated.prefix} --noise dja --realisations 2 --magnitudes 22,31 --bin-width 1 --workers 1"
    outputs = "--sources s.ecsv --splits p.fits --limits l.ecsv --curves c.fits --plot t.png"
    assert main([*words.split(), "-o", "t.fits", *outputs.split()]) == 0
    out = capsys.readouterr().out
    assert QTable.read("p.fits").colnames == [spec.name for spec in SPLIT_COLUMNS]
    table, sources = QTable.read("t.fits"), QTable.read("s.ecsv")
    assert f"{len(sources)} point sources injected, complete to 50 % at {table.meta['MAG50']:.2f}" in out
    assert describe_clear_sky(sources) in out
    limits, curves = QTable.read("l.ecsv"), QTable.read("c.fits")
    assert limits[0]["mag"].value == pytest.approx(table.meta["MAG50"], abs=1e-4)
    assert f"complete to 50 % at {limits[0]['mag'].value:.2f} +- {limits[0]['mag_err'].value:.2f} mag" in out
    assert limits.meta["INJECT"] == curves.meta["INJECT"] == table.meta["INJECT"]
    whole = curves[(curves["sources"] == "all") & (curves["zone"] == 0)]
    at = np.interp(table.meta["MAG50"], whole["mag"].value, whole["completeness"])
    assert at == pytest.approx(0.5, abs=0.01)
    assert (whole["completeness_low"] <= whole["completeness_high"]).all()
    assert table["n"].sum() == len(sources)
    assert [table[spec.name].info.description for spec in BIN_COLUMNS] == [spec.description for spec in BIN_COLUMNS]
    assert Path("t.png").read_bytes().startswith(b"\x89PNG")
    before = sorted(Path().iterdir())
    for more, part in (
        ("-o t.fits", "already exists"),
        ("-o x.docx", ".ecsv"),
        ("-o x.fits --aperture 7", "apertures"),
    ):
        assert main([*words.split(), *more.split()]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert part in error
    assert sorted(Path().iterdir()) == before


def test_half_completeness_is_that_of_a_simulations_own_detections(tmp_path, slow):
    """Point sources of known flux in one simulation, and the same kind injected into another that is empty.

    With 50 sources in the bins of 0.25 mag at the limit each value is known to 0.03 mag (full: 0.015).
    """
    side, n = (2400, 2500) if slow else (1000, 400)
    magnitudes, width, options = (27.0, 30.0), 0.25, MosaicOptions(n_exposures=2, compress=False)
    flux = tuple(10 ** (0.4 * (23.9 - mag)) for mag in reversed(magnitudes))
    common = {"shape": (side, side), "bands": ("f444w",), "star_fraction": 1.0, "isolated": True, "flux_slope": 0.0}
    scene = simulate_scene(SceneOptions(n_sources=n, flux_range=flux, seed=1, **common))
    full = simulate_mosaic(tmp_path, scene, replace(options, root="full-v1", seed=2))
    bare = simulate_scene(SceneOptions(n_sources=0, seed=3, **common))
    empty = simulate_mosaic(tmp_path, bare, replace(options, root="empty-v1", seed=4))

    run = dp.run([full.prefix], DJA)
    x, y = run.image.wcs.world_to_pixel_values(scene["ra"].value, scene["dec"].value)
    found = cKDTree(np.stack([run.catalog["x"].value, run.catalog["y"].value], axis=-1))
    distance, _ = found.query(np.stack([x, y], axis=-1))
    sources = make_injected(23.9 - 2.5 * np.log10(scene["f444w_flux"].value), distance < 0.2 / 0.04)
    limit = fit_completeness(sources, make_places(), magnitudes).find().limit(0.5)
    direct, direct_error = limit.mag, limit.error

    # The mosaic's light went through the detector's pixels (63 mas) and drops (0.75 of them), which widen the PSF.
    psf = np.sqrt(options.psf_fwhm**2 + 8 * np.log(2) * 0.063**2 * (1 + options.pixfrac**2) / 12)
    injection = InjectionOptions(
        magnitudes=magnitudes, bin_width=width, psf_fwhm=psf, separation=2.0, realisations=2, workers=1
    )
    injected, error = dp.inject(empty.prefix, DJA, injection).limit(0.5)
    print(f"50 % completeness: direct {direct:.3f} +- {direct_error:.3f}, injected {injected:.3f} +- {error:.3f} mag")
    assert direct_error < 0.06
    assert error < 0.04
    assert abs(injected - direct) < 0.1


def test_real_mosaic(data):
    """Bright sources in the real F444W cut-out come back with their flux, faint ones do not come back."""
    injection = InjectionOptions(realisations=2, magnitudes=(23, 32), bin_width=3, workers=1)
    psf = data / "uds/psf-ceers-nrca5-f444w.fits"
    result = dp.inject(uds_prefix(data), injection=injection, psf=psf)
    table = result.table
    assert table["completeness_clear"][0] > 0.95
    assert table["completeness"][2] < 0.05
    assert abs(table["flux_bias"][0]) < 0.02
    assert 26 < result.limit(0.5)[0] < 30


# From 400 realisations with seed 400400 (docs/injection.md): 50, 80 and 90 % of all sources, 50 % in the deepest zone.
MANY = {"f444w": (28.145, 27.724, 27.545, 29.168), "f115w": (28.447, 27.573, 27.384, 28.638)}


@pytest.mark.parametrize("band", ["f444w", pytest.param("f115w", marks=pytest.mark.slow)])
def test_limits_of_few_realisations_are_those_of_many_within_their_errors(data, band):
    """The shelf of two depths in F444W is where one curve for all, or bins, were 0.6 mag off with errors of 0.1."""
    result = dp.inject(uds_prefix(data, band), injection=InjectionOptions(realisations=2, seed=31, workers=1))
    found = [result.limit(level) for level in (0.5, 0.8, 0.9)] + [result.limit(0.5, zone=1)]
    mag, error = np.transpose(found)
    assert error.max() < 0.25
    pull = (mag - MANY[band]) / error
    assert np.abs(pull).max() < 2.5
    assert np.sqrt(np.mean(np.square(pull))) < 1.5
    with pytest.raises(dp.PhotplugError, match="completeness of 50: it lies between 0 and 1"):
        result.limit(50)
