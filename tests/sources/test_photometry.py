"""Photometry with sep: against truth, against direct calls of sep, through sep's traps; and point sources."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance
from astropy.table import QTable
from scipy.ndimage import gaussian_filter

import dja_photplug as dp
from dja_photplug.calibration.curve import NoiseCalibration, find_errors
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import describe_columns
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cells import median_mesh
from dja_photplug.mosaic.blocks import variance_map
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BackgroundOptions
from dja_photplug.psf.model import half_light_radius, read_psf
from dja_photplug.simulate.mosaic import MosaicOptions, simulate_mosaic
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.photometry import flag_point_sources, measure_with
from dja_photplug.sources.removal import count_around
from dja_photplug.sources.sums.planes import Sky
from tests.helpers import AS_IS, SCALE, gaussian, isolated_scene, make_detection, make_image, read_uds, uds_prefix

# Diameters of 10 and 20 pixels.
APERTURES = (0.4, 0.8)


def measure(image, detection, **options) -> QTable:
    options = {"apertures": APERTURES} | options
    return measure_with(SEP, image, detection, None, Options(measure=replace(AS_IS, **options)))


def star(shape, x, y, sigma, flux) -> np.ndarray:
    return gaussian(shape, x, y, sigma, flux / (2 * np.pi * sigma**2))


def assert_same(table: QTable, other: QTable, names: tuple[str, ...] = ()) -> None:
    for name in names or table.colnames:
        np.testing.assert_array_equal(np.asarray(table[name]), np.asarray(other[name]), err_msg=name)


# --- against truth


@pytest.mark.parametrize("position", [(50.0, 50.0), (50.37, 49.81)])
def test_fluxes_of_a_gaussian(position) -> None:
    sigma, flux = 3.0, 1000.0
    # Pixels hold the light at their centres, as if flat: that widens the profile by the variance of a pixel, 1/12.
    variance = sigma**2 + 1 / 12
    image = make_image(star((101, 101), *position, sigma, flux))
    row = measure(image, make_detection((101, 101), x=[position[0]], y=[position[1]]), kron_min=3.8)[0]
    for i, radius in enumerate((5, 10)):
        truth = 0.01 * flux * (1 - np.exp(-(radius**2) / (2 * variance)))
        # What is left is the pattern of pixels on the rim, largest, 8e-4, for the centred small circle.
        assert row[f"flux_aper_{i}"].to_value(u.uJy) == pytest.approx(truth, rel=1.5e-3)
    assert row["flux_auto"].to_value(u.uJy) == pytest.approx(0.01 * flux * (1 - np.exp(-(3.8**2) / 2)), rel=1e-3)
    assert row["mag_auto"].value == pytest.approx(23.9 - 2.5 * np.log10(10), abs=2e-3)
    # Half of the light is within sigma sqrt(2 ln 2); the growth curve has steps of 0.3 pixels.
    assert row["flux_radius"].to_value(u.arcsec) == pytest.approx(sigma * np.sqrt(2 * np.log(2)) * SCALE, rel=0.01)
    assert row["flag"] == SourceFlag.KRON_LIMITED  # kron_min is kron_max
    assert row["mask_frac"] == 0


def test_kron_radius_of_an_ellipse() -> None:
    """The first moment of a Gaussian is sqrt(pi/2) in units of its rms, at any angle."""
    y, x = np.indices((161, 161)) - 80
    for theta in (-1.2, 0.0, 0.5):
        u_, v = x * np.cos(theta) + y * np.sin(theta), -x * np.sin(theta) + y * np.cos(theta)
        image = make_image(100 * np.exp(-((u_ / 10) ** 2) / 2 - (v / 5) ** 2 / 2))
        shape = {"x": [80.0], "y": [80.0], "a": [10.0], "b": [5.0], "theta": [theta] * u.rad}
        row = measure(image, make_detection(image.shape, **shape), kron_min=0, kron_circle=0.1)[0]
        # Pixels of 1/5 of b; within 6 a, b the moment lacks 1e-7.
        assert row["kron_radius"] == pytest.approx(2.5 * np.sqrt(np.pi / 2), rel=2e-3)
        # An ellipse of k axes holds 1 - exp(-k^2/2) of the light.
        truth = 0.01 * 100 * 2 * np.pi * 50 * (1 - np.exp(-(row["kron_radius"] ** 2) / 2))
        assert row["flux_auto"].to_value(u.uJy) == pytest.approx(truth, rel=2e-3)


def test_errors_of_flat_variance() -> None:
    image = make_image(star((101, 101), 50, 50, 3, 1000), weight=4)
    row = measure(image, make_detection((101, 101), x=[50.2], y=[50.4]))[0]
    for i, radius in enumerate((5, 10)):
        # sep weights variances by the overlap, so that the error is that of the area.
        error = 0.01 * 0.5 * np.sqrt(np.pi) * radius
        assert row[f"fluxerr_aper_{i}"].to_value(u.uJy) == pytest.approx(error, rel=1e-6)  # float32
    area = np.pi * (row["kron_radius"] * 3) ** 2
    assert row["fluxerr_auto"].to_value(u.uJy) == pytest.approx(0.005 * np.sqrt(area), rel=1e-6)
    assert row["magerr_auto"].value == pytest.approx(
        1.085736 * (row["fluxerr_auto"] / row["flux_auto"]).value, rel=1e-5
    )


def test_isophotal_flux_sums_the_segment() -> None:
    rng = np.random.default_rng(1)
    data, weight = rng.normal(size=(40, 50)).astype("f4"), rng.uniform(1, 2, (40, 50)).astype("f4")
    segmentation = rng.integers(0, 4, (40, 50)).astype(np.int32)
    weight[segmentation == 3] = 0
    weight[5] = 0
    image = make_image(data, weight)
    table = measure(image, make_detection(data.shape, segmentation, x=[20.0] * 4, y=[20.0] * 4))
    for i in (1, 2):
        pixels = (segmentation == i) & (weight > 0)
        # Double sums of float32 numbers.
        assert table["flux_iso"][i - 1].value == pytest.approx(0.01 * data[pixels].sum(dtype="f8"), rel=1e-9)
        error = 0.01 * np.sqrt((1 / weight[pixels]).sum(dtype="f8"))
        assert table["fluxerr_iso"][i - 1].value == pytest.approx(error, rel=1e-6)
    # Without a pixel with data, and without a pixel at all.
    assert np.isnan(table["flux_iso"][2:]).all()
    assert np.isnan(table["fluxerr_iso"][2:]).all()


# --- against sep


def check_against_sep(image: CCDData, detection: Detection, table: QTable, options: Options) -> None:
    scale = pixel_scale(image.wcs)
    variance, null = variance_map(image), np.asarray(image.mask)
    x, y = (table[name].value for name in "xy")
    a, b = (table[name].to_value(u.arcsec) / scale for name in "ab")
    theta = np.clip(table["theta"].to_value(u.rad), -np.pi / 2, np.pi / 2)
    masks = {"mask": null, "segmap": detection.segmentation, "seg_id": np.asarray(table["id"], dtype=np.int32)}
    sums = {"var": variance, "subpix": 0, **masks}
    for i, diameter in enumerate(options.measure.apertures):
        flux, error, flag = sep.sum_circle(image.data, x, y, diameter / 2 / scale, **sums)
        # In pixels of neighbours and without data sep has the mean of the aperture.
        clear = (table[f"flag_aper_{i}"] & (SourceFlag.NEIGHBOUR | SourceFlag.NULL_WEIGHT)) == 0
        assert clear.sum() > 0.5 * len(table)
        np.testing.assert_allclose(table[f"flux_aper_{i}"].value[clear], 0.01 * flux[clear], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(table[f"fluxerr_aper_{i}"].value, 0.01 * error, rtol=1e-6)
        np.testing.assert_array_equal(table[f"flag_aper_{i}"] & 511, flag)
    kron, kron_flag = sep.kron_radius(image.data, x, y, a, b, theta, 6.0, **masks)
    kron = np.clip(2.5 * kron, 2.4, 3.8)
    np.testing.assert_allclose(table["kron_radius"], kron, rtol=1e-6)
    flux, error, flag = sep.sum_ellipse(image.data, x, y, kron * a, kron * b, theta, **sums)
    small = kron * np.sqrt(a * b) * scale < 0.35
    flux[small], error[small], flag[small] = sep.sum_circle(
        image.data, x[small], y[small], 0.35 / scale, **{**sums, "seg_id": masks["seg_id"][small]}
    )
    clear = (table["flag"] & (SourceFlag.NEIGHBOUR | SourceFlag.NULL_WEIGHT)) == 0
    np.testing.assert_allclose(table["flux_auto"].value[clear], 0.01 * flux[clear], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(table["fluxerr_auto"].value, 0.01 * error, rtol=1e-6)
    np.testing.assert_array_equal((table["flag"] & SourceFlag.KRON_CIRCLE) > 0, small)
    np.testing.assert_array_equal(table["flag"] & 511, detection.sources["flag"] | kron_flag | flag)
    rmax = np.maximum(6 * a, np.where(small, 0.35 / scale, kron * a))
    radius, _ = sep.flux_radius(image.data, x, y, rmax, 0.5, normflux=flux, subpix=5, **masks)
    radius[(flux <= 0) | (radius >= rmax)] = np.nan
    np.testing.assert_allclose(table["flux_radius"].to_value(u.arcsec)[clear], radius[clear] * scale, rtol=1e-6)


def test_photometry_equals_sep() -> None:
    rng = np.random.default_rng(4)
    shape = (200, 220)
    data = rng.normal(size=shape)
    for _ in range(40):
        data += star(shape, *rng.uniform(0, 200, 2), rng.uniform(1.5, 4), 10 ** rng.uniform(2, 3.5))
    weight = rng.uniform(0.5, 2, shape)
    weight[:, 150:153] = 0
    image = make_image(data, weight)
    options = Options(measure=replace(AS_IS, apertures=APERTURES))
    detection = detect_sep(image, mesh_background(image, options.background), options)
    table = measure_with(SEP, image, detection, None, options)
    assert len(table) > 20
    assert np.isfinite(table["flux_auto"].value).all()
    check_against_sep(image, detection, table, options)


def test_real_photometry_equals_sep(data: Path) -> None:
    image = read_uds(data)
    options = Options(measure=AS_IS)
    detection = detect_sep(image, mesh_background(image, options.background), options)
    table = measure_with(SEP, image, detection, None, options)
    assert table.colnames == [spec.name for spec in describe_columns(4)]
    clean = table["mask_frac"] == 0
    assert clean.sum() > 100
    for i in range(4):
        assert (table[f"fluxerr_aper_{i}"][clean].value > 0).all()
        assert np.isfinite(table[f"flux_aper_{i}"][clean].value).all()
    check_against_sep(image, detection, table, options)


# --- neighbours, null pixels, edges


def blend(neighbour: float) -> tuple[CCDData, Detection]:
    """A source on a lattice of noise-free light, and a neighbour whose segment holds all its light."""
    data = star((80, 80), 40, 40, 3, 1000)
    segmentation = np.zeros((80, 80), dtype=np.int32)
    segmentation[35:46, 35:46] = 1
    segmentation[30:50, 47:60] = 2
    data[segmentation == 2] += neighbour
    return make_image(data), make_detection(data.shape, segmentation, x=[40.0], y=[40.0])


@pytest.mark.parametrize("sky", ["none", "annulus"])
def test_masked_neighbours_do_not_matter_anywhere(sky: str) -> None:
    """Apertures, Kron radius and half-light radius: sep zeroes or fills neighbours, by whether it gets a mask."""
    options = {"background": sky, "annulus": (1.2, 1.5), "kron_max": 6.0}
    tables = [measure(*blend(light), **options) for light in (0, 1000)]
    assert_same(*tables)
    assert tables[0]["flag"][0] & SourceFlag.APER_MASKED


def test_masked_neighbours_are_filled_with_what_is_opposite() -> None:
    masked, whole = measure(*blend(1e5))[0], measure(*blend(0), neighbours="keep")[0]
    # The mean would make it 12 % too bright.
    assert masked["flux_aper_1"].value == pytest.approx(whole["flux_aper_1"].value, rel=1e-6)
    image, detection = blend(1e5)
    image.data[detection.segmentation != 2] = 2
    row = measure(image, detection)[0]
    # 10 pixels of radius reach into the neighbour at 7: a flat image of 2 must sum as if it were whole.
    assert row["flux_aper_1"].value == pytest.approx(0.01 * 2 * np.pi * 100, rel=1e-6)
    assert row["fluxerr_aper_1"].value == pytest.approx(0.01 * np.sqrt(np.pi) * 10, rel=1e-6)
    assert row["flag_aper_1"] == SourceFlag.APER_MASKED + SourceFlag.NEIGHBOUR
    assert row["flag_aper_0"] == 0
    assert row["mask_frac"] == 0


@pytest.mark.parametrize("sky", ["annulus", "masked", "mesh"])
def test_the_sky_that_was_taken_off_is_told(sky: str) -> None:
    """A flat sky of 3: what is measured and what was taken off are what is measured without."""
    rng = np.random.default_rng(1)
    image = make_image(star((120, 120), 60, 60, 3, 1000) + 3 + rng.normal(0, 0.01, (120, 120)))
    segmentation = (star((120, 120), 60, 60, 3, 1000) > 0.1).astype(np.int32)
    detection = make_detection((120, 120), segmentation, x=[60.0], y=[60.0])
    plain, taken = (measure(image, detection, background=how)[0] for how in ("none", sky))
    for i, radius in enumerate((5, 10)):
        assert taken[f"bkg_aper_{i}"].value == pytest.approx(0.01 * 3 * np.pi * radius**2, rel=0.01)
        whole = (taken[f"flux_aper_{i}"] + taken[f"bkg_aper_{i}"]).value
        assert whole == pytest.approx(plain[f"flux_aper_{i}"].value, rel=1e-5)
    assert "bkg_aper_0" not in plain.colnames


def test_kept_neighbours_count() -> None:
    image, detection = blend(10)
    kept, masked = (measure(image, detection, neighbours=how)[0] for how in ("keep", "mask"))
    with_neighbour, _, _ = sep.sum_circle(image.data, [40.0], [40.0], 10.0, subpix=0)
    assert kept["flux_aper_1"].value == pytest.approx(0.01 * with_neighbour[0], rel=1e-6)
    assert kept["flux_aper_1"] > masked["flux_aper_1"]
    assert kept["kron_radius"] >= masked["kron_radius"]
    assert kept["flag_aper_1"] == 0


@pytest.mark.parametrize("how", ["mask", "keep", "subtract"])
@pytest.mark.parametrize("junk", [1e6, np.nan, np.inf])
def test_null_pixels_do_not_matter_anywhere(how: str, junk: float) -> None:
    tables = []
    for value in (0.0, junk):
        data = star((80, 80), 40, 40, 3, 1000)
        weight = np.ones_like(data)
        data[43:46, 38:52], weight[43:46, 38:52] = value, 0
        tables.append(measure(make_image(data, weight), make_detection(data.shape, x=[40.0], y=[40.0]), neighbours=how))
    assert_same(*tables)
    row = tables[1][0]
    assert all(np.isfinite(row[name]) for name in ("flux_auto", "flux_aper_1", "flux_radius"))
    assert row["flag_aper_1"] == SourceFlag.APER_MASKED + SourceFlag.NULL_WEIGHT
    assert 0 < row["mask_frac"] < 42 / (np.pi * 100)


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("how", ["mask", "keep", "subtract"])
def test_pixels_without_data_hold_what_the_source_has_there(how: str, others: bool, owned: bool) -> None:
    """With another source near it has a profile, and without it none; segments of another image hold such pixels."""
    own, other = star((90, 120), 40, 40, 3, 1000), star((90, 120), 75, 40, 3, 1000) * others
    whole, segmentation = own + other, ((own > 1) + 2 * (other > 1)).astype(np.int32)
    data, weight = whole.copy(), np.full(whole.shape, 100.0)
    hole = np.s_[43:46, 38:42]
    data[hole], weight[hole] = 0, 0
    if not owned:
        segmentation[hole] = 0
    places = {"x": [40.0, 75.0][: 1 + others], "y": [40.0, 40.0][: 1 + others]}
    detection = make_detection(data.shape, segmentation, **places)
    row = measure(make_image(data, weight), detection, neighbours=how)[0]
    truth = measure(make_image(whole), detection, neighbours="keep")[0]
    for name in ("flux_aper_0", "flux_aper_1", "flux_auto"):
        # In the hole there are 12 to 20 % of the light. A profile is a line between rings of three pixels.
        near = 0.04 if others and how == "subtract" else 0.002
        assert row[name].value == pytest.approx(truth[name].value, rel=near), name


def test_nan_in_an_aperture_is_a_null_pixel() -> None:
    """By itself sep returns NaN with flag 0."""
    data = star((80, 80), 40, 40, 3, 1000).astype(np.float32)
    data[43, 43] = np.nan
    flux, _, flag = sep.sum_circle(data, [40.0], [40.0], 10.0, subpix=0)
    assert np.isnan(flux[0])
    assert flag[0] == 0
    row = measure(make_image(data), make_detection(data.shape, x=[40.0], y=[40.0]))[0]
    assert row["flux_aper_1"].value == pytest.approx(10, rel=0.02)  # one pixel of 1.1 % of the light, filled
    assert row["flag_aper_1"] == SourceFlag.APER_MASKED + SourceFlag.NULL_WEIGHT


@pytest.mark.parametrize(("sky", "smooth"), [("mesh", 3), ("mesh", 1), ("masked", 3), ("none", 3)])
def test_errors_hold_the_noise_of_the_sky_below_a_source(sky: str, smooth: int) -> None:
    """That of the mean of N pixels: in n of a source it adds n^2 / N, and empty apertures lack as much.

    The mask of a source is 2.5 times as large as its segment, and 0.3 arcsec more, and cuts blocks of 0.3 arcsec. Of N
    a quarter is left at least.
    """
    shape = (400, 500)
    segmentation = np.zeros(shape, np.int32)
    segmentation[gaussian(shape, 250, 200, 10) > np.exp(-0.5)] = 1
    image = make_image(np.random.default_rng(1).normal(size=shape))
    detection = make_detection(shape, segmentation, x=[250.0], y=[200.0])
    options = Options(
        measure=replace(AS_IS, apertures=APERTURES, background=sky), background=BackgroundOptions(mesh_filter=smooth)
    )
    row = measure_with(SEP, image, detection, None, options)[0]
    area = np.pi * np.array([5, 10]) ** 2
    pixels = 2500 * (0.65 * 9 if smooth == 3 else 1)
    hole = 2.5 * np.sqrt(np.count_nonzero(segmentation) / np.pi) + 0.45 / SCALE
    pixels = max(pixels - 0.65 * np.pi * hole**2, pixels / 4)
    ratio = [(row[f"fluxerr_aper_{i}"].value / 0.01) ** 2 / area[i] for i in range(2)]
    expected = 1 + (2 * area / pixels if sky != "none" else 0 * area)
    # The mask, and blocks of pixels that it cuts, take 3 % of the pixels.
    np.testing.assert_allclose(ratio, expected, rtol=0.03 * (expected - 1).max() + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("hole", [1.0, 1.3])
def test_correlated_noise_of_the_sky_is_that_of_the_hole_that_a_source_makes_in_it(hole: float) -> None:
    """Of sums over the same noise, less a sky that was measured with and without it."""
    shape, radius, size = (900, 1000), 12.5, hole / SCALE
    x, y = (axis.ravel().astype(float) for axis in np.meshgrid(np.arange(75, 1000, 150), np.arange(75, 900, 150)))
    whole = np.zeros(shape, bool)
    holed = whole.copy()
    sep.mask_ellipse(holed, x, y, np.full(len(x), size), np.full(len(x), size), np.zeros(len(x)), r=1.0)
    sums: list[list[np.ndarray]] = [[], [], []]
    for seed in range(24):
        rng = np.random.default_rng(seed)
        clouds = gaussian_filter(rng.standard_normal(shape), 6, mode="wrap")
        data = (rng.standard_normal(shape) + 0.9 / np.std(clouds) * clouds).astype(np.float32)
        image = make_image(data)
        for mask, found in zip((whole, holed), sums, strict=False):
            level = median_mesh(image, (50, 50), 3, mask)[0].draw()
            found.append(sep.sum_circle(data - level, x, y, radius, subpix=0)[0])
        sums[2].append(sep.sum_circle(data, x, y, size, subpix=0)[0])
    empty, below, around = (np.square(np.concatenate(part)) for part in sums)
    area = np.pi * np.square([radius, size])
    factor = np.sqrt([np.mean(empty) / area[0], np.mean(around) / area[1]])[None]
    calibration = NoiseCalibration(
        radius=np.array([radius * SCALE, hole]),
        measured=factor,
        measured_error=0.01 * factor,
        factor=factor,
        n_effective=np.full_like(factor, 1000.0),
        offset=np.zeros_like(factor),
        edges=np.empty(0),
        note="",
    )
    sky, one = Sky(pixels=0.65 * 9 * 2500), area[:1]
    pixels = count_around(sky, np.array([hole]), SCALE)
    error, alone = find_errors((one, one, one), SCALE, calibration, sky_pixels=pixels, hole=np.array([hole]))
    sampling = np.std(below - empty) / np.sqrt(len(below))
    assert abs(np.mean(below) - error[0] ** 2) < 3 * sampling
    assert np.mean(below) - alone[0] ** 2 > 3 * sampling


def test_mask_fraction_is_that_of_the_area() -> None:
    data = np.ones((100, 100))
    weight = np.ones_like(data)
    weight[:, :20] = 0
    segmentation = np.full(data.shape, 7, dtype=np.int32)
    # On the rim of the null pixels (x = 19.5), on that of the image, in a corner, clear, and all null.
    rim = 99.4999  # 99.5 is off the image
    x, y = np.array([19.5, rim, rim, 60.3, 5.0]), np.array([50.2, 50.7, -0.5, 50.1, 50.0])
    table = measure(make_image(data, weight), make_detection(data.shape, segmentation, x=x, y=y), kron_circle=0.1)
    np.testing.assert_allclose(table["mask_frac"], [0.5, 0.5, 0.75, 0, 1], atol=1e-5)
    assert table["mask_frac"][3] == 0
    assert np.isnan(table["flux_aper_1"][4])
    assert table["flag"][4] & SourceFlag.NOT_MEASURED
    assert (table["flag"] & SourceFlag.NOT_COVERED > 0).tolist() == [False] * 4 + [True]
    assert table["flag"][1] & SourceFlag.APER_TRUNCATED


def test_mask_fraction_of_a_larger_kron_ellipse() -> None:
    weight = np.ones((100, 100))
    weight[:, :20] = 0
    detection = make_detection(weight.shape, x=[40.0, 40.0], y=[50.0, 50.0], a=[8.0, 3.0], b=[8.0, 3.0])
    table = measure(make_image(np.ones_like(weight), weight), detection, kron_min=3.0, kron_max=3.0)
    # A circle of 24 beyond a chord at 20.5; the largest aperture, 10, ends at 30.
    h = 20.5 / 24
    assert table["mask_frac"][0] == pytest.approx((np.arccos(h) - h * np.sqrt(1 - h**2)) / np.pi, rel=1e-9)
    assert table["mask_frac"][1] == 0


def test_barycentre_inside_a_neighbour_is_measured() -> None:
    segmentation = np.zeros((60, 60), dtype=np.int32)
    segmentation[20:40, 20:40] = 2
    row = measure(make_image(np.ones((60, 60))), make_detection((60, 60), segmentation, x=[30.0], y=[30.0]))[0]
    assert row["flux_aper_0"].value == pytest.approx(0.01 * np.pi * 25, rel=1e-6)
    assert row["fluxerr_aper_0"].value == pytest.approx(0.01 * np.sqrt(np.pi) * 5, rel=1e-6)
    assert row["flag_aper_0"] == SourceFlag.APER_ALL_MASKED + SourceFlag.APER_MASKED + SourceFlag.NEIGHBOUR
    assert row["mask_frac"] == 0


# --- positions and shapes


@pytest.mark.parametrize("sky", ["none", "annulus"])
def test_positions_that_are_none(sky: str) -> None:
    data = star((80, 80), 40, 40, 3, 1000)
    x, y = [np.nan, 40.0, 1e300, -500.0], [40.0, 40.0, 1.0, 40.0]
    table = measure(make_image(data), make_detection(data.shape, x=x, y=y), background=sky)
    assert np.isfinite(table["flux_auto"].value).tolist() == [False, True, False, False]
    for flag in (SourceFlag.NOT_MEASURED, SourceFlag.NOT_COVERED):
        assert (table["flag"] & flag > 0).tolist() == [True, False, True, True]
    for i in range(2):
        assert (table[f"flag_aper_{i}"] == SourceFlag.NOT_COVERED).tolist() == [True, False, True, True]
    assert table["mask_frac"].tolist() == [1, 0, 1, 1]
    for name in ("fluxerr_auto", "mag_auto", "magerr_auto", "flux_radius", "flux_aper_0", "fluxerr_aper_1"):
        assert np.isnan(table[name][[0, 2, 3]]).all(), name


def test_no_position_at_all() -> None:
    table = measure(make_image(np.ones((20, 20))), make_detection((20, 20), x=[np.nan], y=[1.0]), background="annulus")
    assert np.isnan(table["flux_aper_0"]).all()


def test_angles_a_rounding_error_above_a_right_angle() -> None:
    angle = float(np.float32(np.pi / 2))
    data = star((80, 80), 40, 40, 3, 1000).astype(np.float32)
    with pytest.raises(Exception, match="invalid aperture parameters"):
        sep.sum_ellipse(data, [40.0], [40.0], 3.0, 2.0, angle, 1.0)
    shape = {"x": [40.0] * 2, "y": [40.0] * 2, "a": [4.0] * 2, "b": [2.0] * 2, "theta": [angle, -angle] * u.rad}
    table = measure(make_image(data), make_detection(data.shape, **shape))
    assert np.isfinite(table["flux_auto"].value).all()
    assert table["flux_auto"][0].value == pytest.approx(table["flux_auto"][1].value, rel=1e-9)


@pytest.mark.parametrize("shape", [(np.nan, 2.0, 0.0), (3.0, 0.0, 0.0), (2.0, 3.0, 0.0), (3.0, 2.0, np.nan)])
def test_shapes_that_are_none_get_the_circle(shape) -> None:
    data = star((80, 80), 40, 40, 3, 1000)
    a, b, theta = ([value] for value in shape)
    row = measure(make_image(data), make_detection(data.shape, x=[40.0], y=[40.0], a=a, b=b, theta=theta * u.rad))[0]
    assert np.isnan(row["kron_radius"])
    assert row["flag"] == SourceFlag.KRON_CIRCLE
    expected, _, _ = sep.sum_circle(data, [40.0], [40.0], 0.35 / SCALE, subpix=0)
    assert row["flux_auto"].value == pytest.approx(0.01 * expected[0], rel=1e-6)


def test_small_kron_ellipse_is_a_circle() -> None:
    data = star((80, 80), 40, 40, 1.5, 1000)
    table = measure(make_image(data), make_detection(data.shape, x=[40.0], y=[40.0], a=[1.5], b=[1.5]))
    assert 2.4 <= table["kron_radius"][0] <= 3.8
    assert table["flag"][0] == SourceFlag.KRON_CIRCLE
    assert table["fluxerr_auto"][0].value == pytest.approx(0.01 * np.sqrt(np.pi) * 0.35 / SCALE, rel=1e-6)


def test_negative_light_has_no_magnitude() -> None:
    table = measure(make_image(np.full((80, 80), -1.0)), make_detection((80, 80), x=[40.0], y=[40.0]))
    assert table["flux_auto"][0] < 0
    assert np.isnan(table["mag_auto"][0])
    assert np.isnan(table["flux_radius"][0])
    assert table["kron_radius"][0] == 2.4
    assert table["flag"][0] & SourceFlag.APER_NON_POSITIVE


def test_no_source_is_a_valid_table() -> None:
    for sky in ("none", "mesh", "masked", "annulus"):
        table = measure(make_image(np.ones((50, 50))), make_detection((50, 50), x=[], y=[]), background=sky)
        assert len(table) == 0
        taken = [] if sky == "none" else ["bkg_aper_0", "bkg_aper_1"]
        assert table.colnames == [spec.name for spec in describe_columns(2)] + taken
        assert table["flux_auto"].unit == u.uJy


# --- sky


def source_on_sky(level: float, noise: float = 0.0) -> tuple[CCDData, Detection]:
    rng = np.random.default_rng(5)
    data = star((200, 200), 100, 100, 3, 3000) + level + noise * rng.normal(size=(200, 200))
    data[60:70, 60:70] += 50
    segmentation = (star((200, 200), 100, 100, 3, 3000) > 0.5).astype(np.int32)
    segmentation[60:70, 60:70] = 2
    return make_image(data), make_detection(data.shape, segmentation, x=[100.0], y=[100.0])


@pytest.mark.parametrize("sky", ["masked", "annulus"])
def test_sky_is_taken_off_from_all(sky: str) -> None:
    truth = measure(*source_on_sky(0))[0]
    options = {"background": sky, "annulus": (1.0, 2.0)}
    row = measure(*source_on_sky(5), **options)[0]
    for name in ("flux_aper_0", "flux_aper_1", "flux_auto", "flux_radius", "kron_radius", "flux_iso"):
        # The annulus begins at 8 sigma; a constant sky comes off to the rounding of float32.
        assert u.Quantity(row[name]).value == pytest.approx(u.Quantity(truth[name]).value, rel=1e-5), name


def test_annulus_of_no_sky_changes_nothing() -> None:
    """Not even for an ellipse that reaches far: the cut-outs hold all that is summed."""
    image = make_image(gaussian((220, 220), 110, 110, (8, 4), 100))
    detection = make_detection(image.data.shape, x=[110.0], y=[110.0], a=[8.0], b=[4.0])
    # At 7.8 rms the light is below 1e-11 of its peak.
    options = {"kron_min": 6.0, "kron_max": 6.0, "annulus": (2.5, 4.0)}
    plain, local = (measure(image, detection, background=sky, **options) for sky in ("none", "annulus"))
    for name in ("kron_radius", "flux_radius", "flux_auto", "flux_aper_1", "flux_iso", "mask_frac"):
        np.testing.assert_allclose(np.asarray(local[name]), np.asarray(plain[name]), rtol=1e-6, err_msg=name)


def test_annulus_leaves_null_pixels_out() -> None:
    data = np.full((150, 150), 2.0)
    weight = np.ones_like(data)
    data[90:110, 60:90], weight[90:110, 60:90] = 1e6, 0
    detection = make_detection(data.shape, x=[75.0], y=[75.0])
    row = measure(make_image(data, weight), detection, background="annulus", annulus=(1.0, 1.5))[0]
    assert row["flux_aper_0"].value == pytest.approx(0, abs=1e-6)


def test_annulus_adds_its_error() -> None:
    image, detection = source_on_sky(5)
    plain = measure(image, detection)[0]
    row = measure(image, detection, background="annulus", annulus=(1.0, 2.0))[0]
    # Unit variance; the segment of the other source grows by 5 pixels: 55 <= x, y < 75, beyond the annulus or in it.
    y, x = np.indices(image.data.shape)
    sub = np.arange(-0.45, 0.5, 0.1)
    grid = np.zeros(image.data.shape)
    for dy in sub:
        for dx in sub:
            r = np.hypot(x + dx - 100, y + dy - 100)
            grid += ((r > 25) & (r < 50)) / 100
    grid[55:75, 55:75] = 0
    area = np.pi * 100
    expected = 0.01 * np.sqrt(area + area**2 / grid.sum())
    assert row["fluxerr_aper_1"].value == pytest.approx(expected, rel=1e-4)  # the area of 5,900 pixels to 1e-4
    assert row["fluxerr_aper_1"] > plain["fluxerr_aper_1"]
    count = (detection.segmentation == 1).sum()
    expected = 0.01 * np.sqrt(count + count**2 / grid.sum())
    assert row["fluxerr_iso"].value == pytest.approx(expected, rel=1e-4)


def test_annulus_is_the_same_near_an_edge() -> None:
    """The cut-out of a source ends where the image does, so that truncation is told as ever."""
    data = np.full((60, 70), 3.0)
    data[10, 5] += 1000
    image, detection = make_image(data), make_detection(data.shape, x=[5.0, 66.0], y=[10.0, 55.0])
    plain, local = (measure(image, detection, background=sky, kron_max=2.4) for sky in ("none", "annulus"))
    assert_same(plain, local, ("flag_aper_0", "flag_aper_1", "mask_frac"))
    np.testing.assert_allclose(local["flux_aper_1"].value, [10, 0], atol=1e-5)


def test_annulus_without_a_clear_pixel_measures_nothing() -> None:
    segmentation = np.full((150, 150), 9, dtype=np.int32)
    image, detection = make_image(np.ones((150, 150))), make_detection((150, 150), segmentation, x=[75.0], y=[75.0])
    row = measure(image, detection, background="annulus")[0]
    for name in ("flux_aper_0", "fluxerr_aper_0", "flux_auto", "kron_radius", "flux_radius"):
        assert np.isnan(row[name]), name
    assert row["flag"] & SourceFlag.NOT_MEASURED
    assert not row["flag"] & SourceFlag.NOT_COVERED
    assert row["mask_frac"] == 0


# --- inputs, memory


def test_unit_of_the_image_is_converted() -> None:
    data = star((80, 80), 40, 40, 3, 1000)
    detection = make_detection(data.shape, x=[40.0], y=[40.0])
    image, other = make_image(data), make_image(data * 10, 0.01)
    other.unit = u.nJy
    tables = measure(image, detection), measure(other, detection)
    for name in ("flux_auto", "fluxerr_aper_0", "mag_auto"):
        assert tables[0][name].value == pytest.approx(tables[1][name].value, rel=1e-6)  # float32


def test_unit_that_is_no_flux_is_refused() -> None:
    image = make_image(np.ones((20, 20)))
    image.unit = u.MJy / u.sr
    with pytest.raises(PhotplugError, match="unit MJy / sr"):
        measure(image, make_detection((20, 20), x=[1.0], y=[1.0]))


def test_other_grid_is_refused() -> None:
    with pytest.raises(PhotplugError, match=r"\(20, 30\).*\(20, 20\).*differ"):
        measure(make_image(np.ones((20, 30))), make_detection((20, 20), x=[1.0], y=[1.0]))


def test_big_endian_images_give_the_same() -> None:
    data = star((80, 80), 40, 40, 3, 1000).astype(np.float32)
    image, swapped = make_image(data), make_image(data)
    swapped.data = data.astype(">f4")
    swapped.uncertainty = InverseVariance(np.ones(data.shape, dtype=">f4"))
    detection = make_detection(data.shape, x=[40.0], y=[40.0])
    assert_same(measure(image, detection), measure(swapped, detection))


def test_an_ellipse_half_a_turn_on_is_the_same() -> None:
    """Other engines give orientations of 0 to 360 degrees; clipping them would turn the ellipse."""
    image = make_image(star((80, 80), 40, 40, 3, 1000))
    here, on = (
        measure(image, make_detection((80, 80), x=[40.0], y=[40.0], a=[4.0], b=[2.0], theta=[angle] * u.rad))
        for angle in (0.3, 0.3 + np.pi)
    )
    for name in ("flux_auto", "fluxerr_auto", "kron_radius"):
        np.testing.assert_allclose(np.asarray(on[name]), np.asarray(here[name]), rtol=1e-12)


@pytest.mark.parametrize(("sky", "limit"), [("none", 12), ("masked", 24)])
def test_memory_stays_below_a_few_float32_planes(sky: str, limit: float) -> None:
    """Variance (4), its condition (1), null pixels (1 and 2 while made); with a mesh sky level and difference."""
    shape = (1000, 1000)
    image = make_image(np.ones(shape))
    detection = make_detection(shape, x=[500.0], y=[500.0])
    measure(image, detection)
    tracemalloc.start()
    measure(image, detection, background=sky)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < limit * image.data.size  # bytes per pixel; one float64 plane has 8


# --- point sources


def has(table: QTable, flag: SourceFlag, column: str = "flag") -> list[bool]:
    return (table[column] & flag > 0).tolist()


def test_simulated_stars_are_point_like(tmp_path) -> None:
    scene = isolated_scene(shape=(600, 700), n_sources=140, flux_range=(0.3, 50), seed=100)
    options = MosaicOptions(root="sim-test-v7.4", n_exposures=3, seed=1)
    catalog, image = (
        getattr(dp.run([simulate_mosaic(tmp_path, scene, options).prefix]), name) for name in ("catalog", "image")
    )
    x, y = image.wcs.world_to_pixel_values(scene["ra"], scene["dec"])
    apart = np.hypot(catalog["x"].value[:, None] - x, catalog["y"].value[:, None] - y)
    truth, matched = scene[apart.argmin(axis=1)], apart.min(axis=1) < 1.5
    matched &= (catalog["flux_auto"] > 20 * catalog["fluxerr_auto"]) & (catalog["flag"] & SourceFlag.APER_MASKED == 0)
    # A Gaussian widened by the pixels of detector, drop and mosaic, and half of its light within the Kron aperture.
    width = np.sqrt((options.psf_fwhm / 2.3548) ** 2 + (0.063**2 * (1 + 0.75**2) + SCALE**2) / 12)
    kron = catalog["kron_radius"] * np.sqrt(catalog["a"] * catalog["b"]).to_value(u.arcsec)
    kron[np.array(has(catalog, SourceFlag.KRON_CIRCLE))] = 0.35
    half_light = width * np.sqrt(-2 * np.log((1 + np.exp(-(kron**2) / (2 * width**2))) / 2))
    point = flag_point_sources(catalog, half_light) > 0
    star, size = truth["type"] == "star", truth["size"].to_value(u.arcsec) * np.sqrt(truth["axis_ratio"])
    assert (star & matched).sum() > 30
    # 98.4 % of 1,413 stars, masked ones too, and no galaxy above 0.04 arcsec of 1,348, in four larger simulations.
    assert point[star & matched].mean() > 0.94
    large = ~star & matched & (size > 0.04)
    assert large.sum() > 30
    assert not point[large].any()


@pytest.mark.parametrize(
    ("band", "psf"), [("f444w", "nrca5-f444w"), pytest.param("f115w", "nrca3-f115w", marks=pytest.mark.slow)]
)
def test_the_star_of_the_real_field(data: Path, band: str, psf: str) -> None:
    result = dp.run([uds_prefix(data, band)])
    catalog = result.catalog
    kron = catalog["kron_radius"] * np.sqrt(catalog["a"] * catalog["b"]).to_value(u.arcsec)
    kron[np.array(has(catalog, SourceFlag.KRON_CIRCLE))] = 0.35
    expected = half_light_radius(read_psf(data / f"uds/psf-ceers-{psf}.fits"), kron)
    point = catalog[flag_point_sources(catalog, expected) == SourceFlag.POINT_LIKE]
    # 1 of 64 (F444W) and of 38 (F115W) bright enough: a star with spikes, of 21.5 and 20.3 mag.
    assert len(point) == 1
    np.testing.assert_allclose([point["x"][0].value, point["y"][0].value], [862, 332], atol=1)


def test_faint_sources_are_not_judged() -> None:
    table = QTable({"flux_radius": [0.1, 0.1, 0.2, np.nan] * u.arcsec})
    table["flux_auto"], table["fluxerr_auto"] = [21.0, 19.0, 21.0, 21.0] * u.uJy, np.ones(4) * u.uJy
    assert (flag_point_sources(table, np.full(4, 0.095)) > 0).tolist() == [True, False, False, False]
    assert flag_point_sources(table, [0.13, 0.1, 0.2, 0.1]).tolist() == [0, 0, SourceFlag.POINT_LIKE, 0]
