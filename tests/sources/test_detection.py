"""What engines share in detection: the kernel, and sources taken to another grid."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from scipy.ndimage import convolve
from scipy.stats import median_abs_deviation

from dja_photplug.calibration.zones import find_zones_off
from dja_photplug.catalog.schema import dress_table
from dja_photplug.engines.sep_engine import SEP, detect_sep
from dja_photplug.hookspecs import hookimpl
from dja_photplug.light import significance as significance_module
from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import mask_sources
from dja_photplug.light.significance import measure_significance
from dja_photplug.light.smoothing import gaussian_kernel
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.load import load_mosaic
from dja_photplug.options.run import Options
from dja_photplug.options.stages import ENGINES, DetectOptions
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.simulate.field import FieldOptions, SimulatedField, simulate_field, write_field
from dja_photplug.sky.nesting import regrid_labels
from dja_photplug.sources.detection import DETECTION_COLUMNS, Detection, add_significance, regrid_detection
from dja_photplug.sources.photometry import measure_with
from tests.helpers import AS_IS, SCALE, by_pickles, flat_sky, gaussian, make_image, make_wcs, uds_prefix


def test_kernel_is_that_of_source_extractor() -> None:
    """Against the quadrant of gauss_3.0_7x7.conv, as distributed with Source Extractor."""
    rows = "0.004963 0.021388 0.051328 0.068707 0.092163 0.221178 0.296069 0.530797 0.710525 0.951108"
    quadrant = np.zeros((4, 4))
    quadrant[np.triu_indices(4)] = [float(value) for value in rows.split()]
    quadrant = np.maximum(quadrant, quadrant.T)
    kernel = gaussian_kernel(3.0)
    full = np.pad(quadrant, ((0, 3), (0, 3)), mode="reflect")
    # Their profile is slightly wider than the pixel-integrated one: by 0.32 % of the peak at most.
    np.testing.assert_allclose(kernel, full / full.sum(), atol=0.004 * kernel.max())
    assert kernel.shape == (7, 7)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)  # float32
    assert gaussian_kernel(0) is None


def random_labels(shape, seed=1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.int32)


def make_detection(wcs, **columns) -> Detection:
    x, y = np.array([20.3, 70.0, 55.5, 31.2]), np.array([80.1, 12.7, 55.5, 49.9])
    ra, dec = wcs.pixel_to_world_values(x, y)
    values = {"id": [5, 9, 2, 160401], "ra": ra, "dec": dec, "x": x, "y": y, "theta": [-90.0, 0.0, 30.0, 89.0]}
    values |= {"a": [0.3, 0.2, 0.4, 0.1], "b": [0.1, 0.1, 0.2, 0.1], "npix": [9, 10, 11, 12], "flag": [0, 1, 2, 3]}
    labels = random_labels((100, 110))
    return Detection(sources=dress_table(values | columns, DETECTION_COLUMNS), segmentation=labels, wcs=wcs)


def regrid(detection, wcs) -> tuple[np.ndarray, np.ndarray]:
    """Angles before and after."""
    result = regrid_detection(detection, wcs, detection.segmentation.shape)
    assert (np.abs(result.sources["theta"]) <= 90 * u.deg).all()
    return detection.sources["theta"].value, result.sources["theta"].value


def assert_same_axis(theta, expected) -> None:
    # Sky positions are rounded to 7e-15 deg, 1e-9 pixels; so is the end of an axis one pixel long.
    np.testing.assert_allclose(np.sin(np.radians(theta - expected)), 0, atol=1e-8)


def test_positions_go_through_the_sky_and_the_rest_stays() -> None:
    detection = make_detection(make_wcs())
    sources = detection.sources
    sources["kron_radius"] = [2.5, 2.6, np.nan, 3.8]
    before, wcs = sources.copy(), make_wcs(0.02, (130.5, 90.5))
    result = regrid_detection(detection, wcs, (200, 220))
    x, y = wcs.world_to_pixel_values(sources["ra"].value, sources["dec"].value)
    np.testing.assert_array_equal(result.sources["x"].value, x)
    np.testing.assert_array_equal(result.sources["y"].value, y)
    np.testing.assert_allclose(x, 2 * sources["x"].value + 30.5, atol=1e-8)  # CRPIX and half a pixel
    assert result.sources.colnames == sources.colnames
    for name in sources.colnames:
        assert result.sources[name].info.unit == before[name].info.unit
        assert result.sources[name].info.description == before[name].info.description
        np.testing.assert_array_equal(sources[name], before[name])  # not changed in place
        if name not in ("x", "y", "theta"):
            np.testing.assert_array_equal(result.sources[name], before[name])
    assert_same_axis(result.sources["theta"].value, before["theta"].value)
    assert result.wcs is wcs
    np.testing.assert_array_equal(
        result.segmentation, regrid_labels(detection.segmentation, make_wcs(), wcs, (200, 220))
    )


@pytest.mark.parametrize("angle", [30, 90, -135])
def test_axes_turn_with_the_grid(angle) -> None:
    before, after = regrid(make_detection(make_wcs()), make_wcs(angle=angle))
    assert_same_axis(after, before + angle)


def test_axes_turn_on_a_mirrored_grid() -> None:
    before, after = regrid(make_detection(make_wcs()), make_wcs(mirrored=True))
    assert_same_axis(after, -before)


def test_north_turns_across_a_field() -> None:
    """Two tangent planes at declination 60 deg, 1 deg of right ascension apart, are turned by sin(dec) deg."""
    here, there = (make_wcs(crval=(ra, 60)) for ra in (150, 151))
    before, after = regrid(make_detection(here), there)
    # At 0.5 deg from its centre a tangent plane is stretched by 3.8e-5 along one axis: that turns others by 1.1e-3 deg.
    np.testing.assert_allclose((after - before + 90) % 180 - 90, np.sin(np.radians(60)), atol=1.2e-3)


def test_sources_without_position_or_shape() -> None:
    known = make_detection(make_wcs()).sources
    ra = np.where([True, False, False, False], np.nan, known["ra"])
    detection = make_detection(make_wcs(), ra=ra, theta=[10.0, np.nan, 20.0, 30.0])
    result = regrid_detection(detection, make_wcs(angle=10), (60, 60)).sources
    for axis in "xy":
        assert np.isnan(result[axis]).tolist() == [True, False, False, False]
    assert np.isnan(result["ra"][0])
    assert np.isnan(result["theta"]).tolist() == [False, True, False, False]
    detection.sources["x"][0] = np.nan
    assert np.isnan(regrid_detection(detection, make_wcs(angle=10), (60, 60)).sources["theta"][0])


def test_no_sources() -> None:
    detection = make_detection(make_wcs())
    empty = Detection(sources=detection.sources[:0], segmentation=detection.segmentation, wcs=detection.wcs)
    result = regrid_detection(empty, make_wcs(angle=10), (60, 60))
    assert len(result.sources) == 0
    assert result.segmentation.shape == (60, 60)


@pytest.fixture(scope="module")
def stars(tmp_path_factory) -> tuple[SimulatedField, MosaicImage]:
    """Faint stars and noise, with steps of depth, correlated pixels and sky left in."""
    field = simulate_field(FieldOptions(shape=(700, 900), density=150, star_fraction=1, flux_range=(0.01, 0.5), seed=5))
    return field, load_mosaic(write_field(field, tmp_path_factory.mktemp("stars"), "sim-v1"), noise="calibrated")


@pytest.mark.parametrize("engine", ENGINES)
def test_significance_is_that_of_the_light_alone_over_the_true_scatter(stars, engine) -> None:
    field, image = stars
    result = analyse_image(image, Options(engine=engine), calibrated=False)
    kernel, truth = gaussian_kernel(3.0), field.truth.astype(np.float32)
    light, noise = convolve(truth, kernel), convolve(field.science - truth, kernel)
    zone = field.zones[0]
    scatter = np.array([median_abs_deviation(noise[:, zone == i], axis=None, scale="normal") for i in range(3)])
    assert (np.diff(scatter) > 0.25 * scatter[:-1]).all()  # the steps, 1.41 each
    labels, rows = result.detection.segmentation, result.catalog
    x, y = (np.rint(field.sources[axis].value).astype(int) for axis in "xy")
    there = np.flatnonzero(labels[y, x])
    where = y[there], x[there]
    snr = dict(zip(rows["id"], rows["snr_detect"], strict=True))
    deviation = np.array([snr[label] for label in labels[where]]) - light[where] / scatter[zone[x[there]]]
    assert len(deviation) > 30
    for part in (deviation, *(deviation[zone[x[there]] == i] for i in range(3))):
        # The highest of several pixels: +0.2 measured on 547 stars, with a scatter of 1.12.
        assert np.median(part) == pytest.approx(0.2, abs=3 * 1.4 / np.sqrt(len(part)))
    assert median_abs_deviation(deviation, scale="normal") == pytest.approx(1.1, abs=0.35)
    assert rows["snr_detect"].min() > 6


def test_significance_in_the_same_segments_is_that_of_any_engine(stars, tmp_path) -> None:
    _, image = stars
    found = analyse_image(image, Options(), calibrated=False)
    fits.writeto(tmp_path / "seg.fits", 3 * found.detection.segmentation)  # labels with gaps
    options = Options(detect=DetectOptions(use_segmentation=str(tmp_path / "seg.fits")))
    given = analyse_image(image, options, calibrated=False)
    assert given.catalog["id"].tolist() == (3 * found.catalog["id"]).tolist()
    np.testing.assert_array_equal(given.catalog["snr_detect"], found.catalog["snr_detect"])


@pytest.mark.parametrize("band", ["f444w", pytest.param("f115w", marks=pytest.mark.slow)])
def test_least_significance_of_real_sources_and_none_in_the_inverted_image(data, band) -> None:
    """Default detection: 7.0 and 7.3 of the measured smoothed sky."""
    image = load_mosaic(uds_prefix(data, band), noise="calibrated")
    snr = analyse_image(image, Options(), calibrated=False).catalog["snr_detect"]
    assert snr.min() == pytest.approx({"f444w": 6.98, "f115w": 7.28}[band], abs=0.01)
    image.data = -image.data
    assert len(analyse_image(image, Options(), calibrated=False).catalog) == 0


def significance(image, labels, **options) -> list[float]:
    """Of each label, from 1."""
    sky, (mask, _) = flat_sky(image), mask_sources(image, labels, SCALE)
    return measure_significance(image, sky, labels, mask, find_zones_off(image, mask), DetectOptions(**options))[
        1:
    ].tolist()


def test_significance_that_nothing_tells_is_nan() -> None:
    noise = np.random.default_rng(3).normal(size=(80, 80))
    labels = np.zeros((80, 80), np.int32)
    labels[20:24, 20:24], labels[40:44, 40:44] = 1, 3
    weight = np.ones((80, 80))
    weight[20:24, 20:24] = 0
    first, second, third = significance(make_image(noise, weight), labels)
    assert np.isnan([first, second]).all()  # without data, without a pixel
    assert abs(third) < 4
    assert np.isnan(significance(make_image(np.zeros((80, 80))), labels)).all()  # without noise
    assert np.isnan(significance(make_image(noise), np.ones((80, 80), np.int32))).all()  # without sky


def test_significance_without_a_kernel_is_that_of_a_pixel() -> None:
    noise = np.random.default_rng(3).normal(size=(200, 200))
    noise[50, 60] = 30
    labels = np.zeros((200, 200), np.int32)
    labels[49:52, 59:62] = 1
    # 1.17 / sqrt(40000) is the error of the scatter; the weight is too large by a factor of 4, which it makes up for.
    assert significance(make_image(noise, weight=4.0), labels, kernel=0.0) == pytest.approx([30], rel=0.03)


def test_catalogue_of_a_detection_that_tells_no_significance_has_nan() -> None:
    noise = np.random.default_rng(1).normal(size=(60, 60))
    image = make_image(noise + sum(gaussian((60, 60), x, 30, 2.0, 20.0) for x in (12, 30, 48)))
    detection = detect_sep(image, flat_sky(image), Options())
    significant = add_significance(detection, np.array([0.0, 7.0, np.nan, 9.0]))
    told, untold = (
        measure_with(SEP, image, one, None, Options(measure=AS_IS))["snr_detect"] for one in (significant, detection)
    )
    np.testing.assert_array_equal(told, [7, np.nan, 9])
    assert np.isnan(untold).all()


@pytest.mark.parametrize("smoothed", [256, 16, 7])
def test_significance_is_the_same_by_any_blocks_and_in_processes(monkeypatch, smoothed: int) -> None:
    rng = np.random.default_rng(3)
    weight = np.where(np.arange(90) < 45, 1.0, 4.0) * np.ones((80, 1))
    weight[30:33, 20:50] = 0
    data = rng.normal(size=(80, 90)) / np.sqrt(np.maximum(weight, 1))
    labels = np.zeros((80, 90), np.int32)
    labels[28:34, 30:36], labels[14:18, 60:64] = 1, 4
    image, sky = make_image(data, weight), Background(level=np.full((80, 90), 0.25, np.float32))
    mask, _ = mask_sources(image, labels, SCALE)
    clear = ~(mask | (weight == 0))
    kernel, variance = gaussian_kernel(3.0), np.where(weight > 0, 1 / np.maximum(weight, 1), 0)
    smooth = convolve(np.where(weight > 0, image.data - 0.25, 0), kernel, mode="constant")
    noise = np.sqrt(convolve(variance, kernel**2, mode="constant"))
    expected = np.full(5, np.nan)
    for label in (1, 4):
        parts = [(weight == depth, (labels == label) & (weight == depth)) for depth in (1, 4)]
        scatter = [median_abs_deviation((smooth / noise)[zone & clear], scale="normal") for zone, _ in parts]
        expected[label] = max(
            (smooth / noise)[own].max() / one for (_, own), one in zip(parts, scatter, strict=True) if own.any()
        )
    monkeypatch.setattr(significance_module, "SMOOTHED_ROWS", smoothed)
    for parallel in (map, by_pickles):
        found = measure_significance(
            image, sky, labels, mask, find_zones_off(image, mask), DetectOptions(), parallel=parallel
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("most", [2, 10])  # every third pixel; of every third strip of rows every fourth pixel
def test_sampled_sky_does_not_depend_on_blocks(monkeypatch, most: int) -> None:
    image = make_image(np.random.default_rng(3).normal(size=(180, 90)))
    labels = np.zeros((180, 90), np.int32)
    labels[28:34, 30:36] = 1
    monkeypatch.setattr(significance_module, "MOST_SKY", 180 * 90 // most - 1)
    found = []
    for smoothed in (256, 64, 32):
        monkeypatch.setattr(significance_module, "SMOOTHED_ROWS", smoothed)
        found += significance(image, labels)
    assert found[0] == found[1] == found[2]
    whole = found[0]
    monkeypatch.undo()
    assert significance(image, labels) == pytest.approx([whole], rel=0.1)
    assert significance(image, labels) != [whole]


def test_significance_of_an_engine_that_tells_none_is_measured_and_that_of_one_that_does_is_kept() -> None:
    noise = np.random.default_rng(1).normal(size=(60, 60))
    image = make_image(noise + sum(gaussian((60, 60), x, 30, 2.0, 20.0) for x in (12, 30, 48)), background=1.0)
    manager = get_plugin_manager()
    plain = analyse_image(image, Options(), manager, calibrated=False).catalog["snr_detect"]
    assert np.isfinite(plain).all()

    class Known:
        @hookimpl
        def photplug_detect(self, image: MosaicImage, background: Background, options: Options) -> Detection:
            return add_significance(detect_sep(image, background, options), np.arange(4.0))

    manager.register(Known(), "mine")
    told = analyse_image(image, Options(), manager, calibrated=False).catalog["snr_detect"]
    assert sorted(told.tolist()) == [1, 2, 3]  # ids are in another order
