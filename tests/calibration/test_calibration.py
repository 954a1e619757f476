"""a(r) from empty apertures: places, known noise, depth zones, metadata, and apertures it was not measured in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from numpy.typing import ArrayLike
from photutils.aperture import CircularAperture
from scipy.ndimage import convolve
from scipy.signal import correlate2d
from scipy.spatial.distance import pdist
from scipy.stats import chisquare, median_abs_deviation

import dja_photplug as dp
from dja_photplug.calibration import places as places_module
from dja_photplug.calibration.curve import NoiseCalibration, combine_variance
from dja_photplug.calibration.measure import ApertureSums, SumCircles, calibrate
from dja_photplug.calibration.places import STEPS, Blocked, count_independent
from dja_photplug.calibration.zones import find_zones
from dja_photplug.catalog.metadata import encode_metadata, make_metadata
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.engines.photutils_engine import PHOTUTILS
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.light.cells import median_mesh
from dja_photplug.light.planes import mask_sources
from dja_photplug.mosaic.blocks import native_pixels, null_pixels, variance_map
from dja_photplug.options.run import Options
from dja_photplug.options.stages import CalibrationOptions, MeasureOptions
from dja_photplug.sources import empty
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.empty import calibrate_with
from dja_photplug.sources.photometry import measure_with
from dja_photplug.sources.sums.planes import Removed, Sums
from tests.helpers import (
    AS_IS,
    SCALE,
    by_pickles,
    gaussian,
    make_calibration,
    make_detection,
    make_image,
    robust_scatter,
    uds_prefix,
)

# Convolving with it correlates neighbours by 2/3 in x and in y.
KERNEL = np.outer([1, 2, 1], [1, 2, 1]) / 16
NONE = np.empty(0)


# --- places


def distance_to_squares(x: np.ndarray, y: np.ndarray, blocked: np.ndarray) -> np.ndarray:
    """Distance of each place to the nearest blocked pixel, which is a square."""
    rows, columns = np.nonzero(blocked)
    dx, dy = (np.maximum(np.abs(v[:, None] - w) - 0.5, 0) for v, w in ((x, columns), (y, rows)))
    return np.hypot(dx, dy).min(axis=1, initial=np.inf)


@pytest.mark.parametrize("margin", [0.0, 2.2])
@pytest.mark.parametrize("shape", [(210, 150), (60, 401)])
def test_places_touch_no_blocked_pixel_nor_edge(shape: tuple[int, int], margin: float) -> None:
    blocked = np.random.default_rng(3).random(shape) < 0.002
    x, y, _ = place_apertures(blocked, 3.3, margin, 5000, np.random.default_rng(1))
    assert len(x) > 100
    # sep and this sum the same squares; 1e-9 is their rounding.
    assert distance_to_squares(x, y, blocked).min() >= 3.3 + margin - 1e-9
    for values, n in ((x, shape[1]), (y, shape[0])):
        assert values.min() - 3.3 - margin >= -0.5
        assert values.max() + 3.3 + margin <= n - 0.5


def test_places_do_not_overlap_where_the_area_allows() -> None:
    x, y, n_effective = place_apertures(np.zeros((300, 400), bool), 4, 2, 500, np.random.default_rng(1))
    assert len(x) == len(y) == n_effective == 500
    assert pdist(np.column_stack([x, y])).min() >= 8


def test_overlapping_places_count_as_fewer() -> None:
    """By the pixels that apertures share, with photutils: 10 pixels of radius resolve a circle to 2 %."""
    x, y, n_effective = place_apertures(np.zeros((130, 110), bool), 10, 0, 4000, np.random.default_rng(1))
    masks = CircularAperture(np.column_stack([x, y]), 10).to_mask()
    images = np.array([mask.to_image((130, 110)).ravel() for mask in masks])
    shared = images @ images.T / (np.pi * 100)
    np.fill_diagonal(shared, 1)
    assert n_effective == pytest.approx(len(x) ** 2 / np.sum(shared**2), rel=0.02)
    # Four grids of 5 x 4 to 6 x 5 places; a grid alone has as many as it counts, four 0.53 +- 0.06 of them (40 seeds).
    assert len(x) >= 80
    assert 20 < n_effective < 0.7 * len(x)


@pytest.mark.parametrize(("count", "least", "most"), [(100, 0.88, 1.12), (4000, 0.7, 1.04)])
def test_sampling_error_is_that_of_the_effective_number(count: int, least: float, most: float) -> None:
    """Robust scatter in 300 white images: good to 1.17/sqrt(n), and with overlaps not worse than that says.

    300 values know their standard deviation to 4 %.
    """
    rng = np.random.default_rng(1)
    x, y, n_effective = place_apertures(np.zeros((300, 300), bool), 10, 0, count, rng)
    assert n_effective == 100 if count == 100 else n_effective < 0.7 * len(x)
    images = (rng.normal(size=(300, 300)) for _ in range(300))
    scatter = [median_abs_deviation(sep.sum_circle(image, x, y, 10.0, subpix=1)[0]) for image in images]
    assert least < np.std(scatter) / np.mean(scatter) / (SCATTER_ERROR / np.sqrt(n_effective)) < most


def test_places_fill_an_empty_image() -> None:
    x, _, _ = place_apertures(np.zeros((500, 400), bool), 4, 1, 10**6, np.random.default_rng(1))
    # Four grids, 9 pixels apart, in the 489 x 389 pixels that centres may have.
    assert len(x) >= 4 * (489 // 9) * (389 // 9)


def test_places_are_the_same_for_the_same_seed_and_at_each_part_of_a_pixel() -> None:
    blocked = np.zeros((700, 700), bool)
    first, again, other = (place_apertures(blocked, 2, 0, 3000, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for values, same, different in zip(first[:2], again[:2], other[:2], strict=True):
        np.testing.assert_array_equal(values, same)
        assert not np.array_equal(values, different)
        steps = values % 1 * STEPS
        assert chisquare(np.bincount(steps.astype(int), minlength=STEPS)).pvalue > 0.01
        np.testing.assert_array_equal(steps, np.rint(steps))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 300), (300, 7)])
def test_no_place_in_tiny_images(shape: tuple[int, int]) -> None:
    x, y, n_effective = place_apertures(np.zeros(shape, bool), 4, 0, 100, np.random.default_rng(1))
    assert len(x) == len(y) == n_effective == 0


@pytest.mark.parametrize(("shape", "reach"), [((60, 61), 3.3), ((80, 130), 21.7), ((150, 170), 64.2), ((31, 8), 2.0)])
def test_places_are_clear_exactly_where_no_pixel_of_their_circle_is_blocked(
    shape: tuple[int, int], reach: float
) -> None:
    """Single blocked pixels at any column, for circles narrower and wider than the pixels that are looked at in one."""
    rng = np.random.default_rng(4)
    for density in (0.3, 0.03, 0.001):
        blocked = rng.random(shape) < density * 10 / reach**2
        places = rng.uniform(reach - 0.5, np.array(shape[::-1]) - 0.5 - reach, (300, 2))
        found = places_module._find_clear(Blocked.pack(blocked), places, reach)
        # A pixel is a square.
        expected = np.flatnonzero(distance_to_squares(*places.T, blocked) >= reach).tolist()
        assert sorted(found.tolist()) == expected
    assert len(expected) > 10


@pytest.mark.parametrize("reach", [20.3, 40.2, 90.1])
def test_one_blocked_pixel_is_seen_in_any_column(reach: float) -> None:
    place = np.array([[97.4, 95.8]])
    for column in range(195):
        blocked = np.zeros((192, 195), bool)
        blocked[96, column] = True
        found = places_module._find_clear(Blocked.pack(blocked), place, reach)
        assert len(found) == (distance_to_squares(*place.T, blocked)[0] >= reach)


@pytest.mark.parametrize("sky", ["none", "annulus"])
def test_sums_of_empty_apertures_do_not_depend_on_the_blocks_that_they_are_in(sky: str, monkeypatch) -> None:
    """They are in the order of their places; circles and annuli reach into the blocks beside their own."""
    data, places = correlated((260, 300)), np.rint(np.random.default_rng(2).uniform(45, 215, (2, 40)) * STEPS) / STEPS
    image, segmentation = make_noisy(data, 1.0), np.zeros(data.shape, np.int32)
    segmentation[130:135, 100:140] = 1
    options = Options(measure=MeasureOptions(background=sky, annulus=(0.4, 0.8), neighbours="keep"))
    asked = [(*places, 3.0), (*places[:, ::-1], 5.5)]
    work = partial(empty._sum_block, SEP, image, segmentation, Removed(), options)
    found = []
    for block in (1800, 110, 13):
        monkeypatch.setattr(empty, "BLOCK", block)
        found.append(empty._sum_places(work, map, data.shape, 0.8 / SCALE + 1, asked))
    for parts in zip(*found, strict=True):
        for name in ApertureSums.__slots__:
            for part in parts[1:]:
                np.testing.assert_allclose(getattr(part, name), getattr(parts[0], name), rtol=1e-6, atol=1e-6)
    if sky == "none":
        for (x, y, radius), sums in zip(asked, found[-1], strict=True):
            np.testing.assert_allclose(sums.flux, sep.sum_circle(data, x, y, radius, subpix=0)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", [SEP, PHOTUTILS])
def test_engines_of_others_have_their_own_sums(engine) -> None:
    """Ours sum over empty circles in a faster way, which is taken for no other primitive."""
    image = make_noisy(correlated((400, 420)), 1.0)
    options = Options(
        measure=MeasureOptions(background="none"),
        calibration=CalibrationOptions(radius_max=0.3, n_radii=3, n_apertures=300),
    )

    def sum_twice(*asked: object) -> Sums:
        return replace(engine.sum_ellipses(*asked), flux=2 * engine.sum_ellipses(*asked).flux)

    ours, same, twice = (
        calibrate_with(one, image, nothing((400, 420)), options).measured
        for one in (
            engine,
            replace(engine, sum_ellipses=lambda *asked: engine.sum_ellipses(*asked)),
            replace(engine, sum_ellipses=sum_twice),
        )
    )
    np.testing.assert_allclose(same, ours, rtol=1e-6)
    np.testing.assert_allclose(twice, 2 * ours, rtol=1e-6)


def test_sums_by_processes_give_the_same_curve(monkeypatch) -> None:
    """Each band of rows by itself, pickled."""
    image = make_noisy(correlated((400, 420)), 1.0)
    detection = nothing((400, 420))
    options = Options(
        measure=MeasureOptions(background="none"), calibration=CalibrationOptions(radius_max=0.3, n_radii=3)
    )
    monkeypatch.setattr(empty, "BAND", 420 * 50)
    monkeypatch.setattr(empty, "BLOCK", 150)
    here, there = (calibrate_with(SEP, image, detection, options, parallel=parallel) for parallel in (map, by_pickles))
    np.testing.assert_array_equal(there.measured, here.measured)
    np.testing.assert_array_equal(there.n_effective, here.n_effective)


def test_no_place_where_all_is_blocked() -> None:
    x, y, n_effective = place_apertures(np.ones((50, 60), bool), 2, 0, 100, np.random.default_rng(1))
    assert len(x) == len(y) == n_effective == 0


def test_half_overlapping_circles() -> None:
    # Centres one radius apart share 2/3 - sqrt(3)/(2 pi) of their area.
    shared = 2 / 3 - np.sqrt(3) / (2 * np.pi)
    assert count_independent([0, 5], [0, 0], 5) == pytest.approx(4 / (2 + 2 * shared**2), rel=1e-12)


# --- a(r) of known noise


def white(shape: tuple[int, int] = (900, 1000), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def correlated(shape: tuple[int, int] = (900, 1000), seed: int = 1) -> np.ndarray:
    """Noise of the kernel, with unit variance in a pixel."""
    return convolve(white(shape, seed), KERNEL, mode="wrap") / np.sqrt(np.sum(KERNEL**2))


def whole_pixels(data: np.ndarray, variance: float | np.ndarray = 1.0, photons: float = 0.0) -> SumCircles:
    """An engine that sums the pixels whose centres lie in the circle; photons as a fraction of the background."""
    plane = np.broadcast_to(np.float32(variance), data.shape).copy()

    def sum_circles(x: np.ndarray, y: np.ndarray, radius: float) -> ApertureSums:
        flux, error, _ = sep.sum_circle(data, x, y, radius, var=plane, subpix=1)
        return ApertureSums(flux=flux, background=error**2, total=(1 + photons) * error**2)

    return at_each_radius(sum_circles)


def at_each_radius(sum_circles: Callable[[np.ndarray, np.ndarray, float], ApertureSums]) -> SumCircles:
    """An engine that does one radius after the other."""
    return lambda places: [sum_circles(*one) for one in places]


def place_apertures(blocked: np.ndarray, *arguments) -> tuple[np.ndarray, np.ndarray, float]:
    return places_module.place_apertures(Blocked.pack(blocked), *arguments)


def expect_factor(radius: float, kernel: np.ndarray, method: str) -> float:
    """Root of the variance of a sum of correlated pixels over the sum of variances, from the autocorrelations."""
    noise = correlate2d(kernel, kernel)
    noise /= noise.max()
    ratios = []
    for x, y in np.random.default_rng(2).uniform(-0.5, 0.5, (200, 2)):
        weight = CircularAperture((x, y), radius).to_mask(method=method).data
        reach = noise.shape[0] // 2
        shared = correlate2d(np.pad(weight, reach), weight, mode="valid")
        ratios.append(np.sum(shared * noise) / np.sum(weight))
    return float(np.sqrt(np.mean(ratios)))


def calibrate_noise(
    sums: SumCircles, shape: tuple[int, int] = (900, 1000), variance: float | np.ndarray = 1.0, **options
) -> NoiseCalibration:
    settings = CalibrationOptions(**{"radius_max": 0.7, "n_radii": 8} | options)
    return calibrate(
        Blocked.pack(np.zeros(shape, bool)), SCALE, sums, settings, np.broadcast_to(np.float32(variance), shape)
    )


@pytest.mark.parametrize(("noise", "kernel"), [(white, np.ones((1, 1))), (correlated, KERNEL)])
def test_factor_of_known_noise(noise, kernel: np.ndarray) -> None:
    result = calibrate_noise(whole_pixels(noise()))
    expected = np.array([expect_factor(radius / SCALE, kernel, "center") for radius in result.radius])
    np.testing.assert_allclose(result.radius[[0, -1]], [0.08, 0.7])
    assert np.all(np.abs(result.measured[0] - expected) < 3 * result.measured_error[0])
    assert np.all(np.abs(result.factor[0] - expected) < 3 * result.measured_error[0])
    assert np.all(result.n_effective[0] > 1000)
    np.testing.assert_allclose(
        result.measured_error, result.measured * SCATTER_ERROR / np.sqrt(result.n_effective), rtol=1e-12
    )
    if noise is white:
        np.testing.assert_allclose(expected, 1, rtol=1e-12)


def make_noisy(data: np.ndarray, background: float | np.ndarray, photons: float | np.ndarray = 0.0) -> CCDData:
    """An image with variances of the two kinds."""
    return make_image(data, 1 / (background + photons), 1 / background)


def place(x, y, segmentation: np.ndarray, a: float = np.nan, b: float = np.nan) -> Detection:
    """Sources at places, of no shape unless it is given."""
    return make_detection(segmentation.shape, segmentation, x=x, y=y, a=a, b=b)


def nothing(shape: tuple[int, int]) -> Detection:
    return place(NONE, NONE, np.zeros(shape, np.int32))


def test_factor_of_the_engine() -> None:
    """sep weights variances by the overlap, not its square: a(r) holds that, and is below 1 for white noise."""
    options = Options(calibration=CalibrationOptions(radius_max=0.7, n_radii=5))
    for noise, kernel in ((white, np.ones((1, 1))), (correlated, KERNEL)):
        data = noise()
        result = calibrate_with(SEP, make_noisy(3 * data, 9.0), nothing(data.shape), options)
        expected = np.array([expect_factor(radius / SCALE, kernel, "exact") for radius in result.radius])
        assert np.all(np.abs(result.factor[0] - expected) < 3 * result.measured_error[0])
        if noise is white:
            assert result.factor[0, 0] == pytest.approx(0.92, abs=0.03)  # "9 % high at r = 2"


# --- interpolation


def test_interpolation_is_monotone_and_smooth() -> None:
    factor = [0.9, 1.0, 1.5, 1.52, 2.0]
    result = make_calibration(factor)
    np.testing.assert_allclose(result(result.radius), factor, rtol=1e-12)
    radius = np.geomspace(0.05, 3, 4001)
    values = result(radius)
    assert np.all(np.diff(values) >= -1e-12)
    # No corner inside: the slope changes by at most a few steps of the grid (1e-3) times the curvature.
    inside = values[(radius > 0.11) & (radius < 1.59)]
    assert np.abs(np.diff(inside, 2)).max() < 0.02 * np.abs(np.diff(inside)).max()
    assert result(0.14).shape == ()
    assert np.isnan(result([np.nan, 0.2])).tolist() == [True, False]


def test_extrapolation() -> None:
    root = make_calibration(np.sqrt([0.1, 0.2, 0.4, 0.8, 1.6]))
    np.testing.assert_allclose(root([0, 0.01, 0.1]), np.sqrt(0.1))
    np.testing.assert_allclose(root([3.2, 6.4]), np.sqrt([3.2, 6.4]), rtol=1e-12)
    # Fully correlated noise has an error that grows as the area, a(r) ~ r; nothing grows faster.
    steep = make_calibration(np.power([0.1, 0.2, 0.4, 0.8, 1.6], 1.5))
    assert steep(3.2) == pytest.approx(2 * 1.6**1.5, rel=1e-12)
    flat = make_calibration([1.3] * 5)
    np.testing.assert_allclose(flat([0.01, 0.3, 5]), 1.3, rtol=1e-12)
    np.testing.assert_allclose(make_calibration([1.3], radius=[0.1])([0.01, 0.1, 5]), 1.3, rtol=1e-12)
    # The slope is that of the four largest by least squares, with equal weights here: 0.3 for steps of 1, 0, 0 ln 2.
    step = make_calibration([1, 1, 2, 2, 2])
    assert step(3.2) == pytest.approx(2 * 2**0.3, rel=1e-12)


def test_error_is_relative_and_interpolated() -> None:
    result = make_calibration([1, 2, 4], radius=(0.1, 0.2, 0.4))
    result = replace(result, measured_error=np.array([[0.02, 0.08, 0.24]]))
    np.testing.assert_allclose(result.error([0, 0.1, 0.2, 0.4, 2]), [0.02, 0.02, 0.04, 0.06, 0.06], rtol=1e-12)
    assert result.error(np.sqrt(0.1 * 0.2)) == pytest.approx(0.03)


# --- depth zones


def two_halves() -> tuple[np.ndarray, np.ndarray]:
    """Left white with unit variance, right correlated with a variance of 4; both as the weight says."""
    data, variance = white(), np.ones((900, 1000), np.float32)
    data[:, 500:] = 2 * correlated(seed=2)[:, 500:]
    variance[:, 500:] = 4
    return data, variance


def test_each_depth_zone_has_its_own_factor() -> None:
    data, variance = two_halves()
    sums = whole_pixels(data, variance)
    result = calibrate_noise(sums, variance=variance, radius_max=0.4, n_radii=4)
    assert result.edges.shape == (1,)
    assert 1 < result.edges[0] < 4
    assert "depth zone" not in result.note
    for variance, kernel, row in ((0.9, np.ones((1, 1)), 0), (4.2, KERNEL, 1)):
        expected = np.array([expect_factor(radius / SCALE, kernel, "center") for radius in result.radius])
        # Few apertures straddle the line between the halves.
        assert np.all(np.abs(result(result.radius, variance) - expected) < 3 * result.measured_error[row])
    both = result(np.array([[0.1], [0.2]]), [0.9, 4.2])
    np.testing.assert_array_equal(both[:, 1], result([0.1, 0.2], [4.2, 4.2]))
    assert np.all(both[:, 1] > 1.5 * both[:, 0])
    # Each zone has as many apertures as were asked for.
    np.testing.assert_allclose(result.n_effective[:, 0], 4000, rtol=0.01)
    assert result.error(0.1, 4.2) == pytest.approx(SCATTER_ERROR / np.sqrt(4000), rel=0.1)
    one = calibrate_noise(sums, zones=1, radius_max=0.4, n_radii=4)
    assert np.all((one.factor[0] > result.factor[0]) & (one.factor[0] < result.factor[1]))
    for method in (result, result.error):
        with pytest.raises(dp.PhotplugError, match="depth zones needs the background variance"):
            method(0.1)


def stripes(sigmas: list[float], parts: list[float], shape: tuple[int, int] = (900, 1000)) -> np.ndarray:
    """Background variance of vertical stripes of depth."""
    widths = np.rint(np.array(parts) * shape[1]).astype(int)
    return np.repeat(np.square(sigmas), widths).astype(np.float32) * np.ones((shape[0], 1), np.float32)


def find_sigmas(variance: np.ndarray, zones: int | None = None, blocked: np.ndarray | None = None) -> np.ndarray:
    """Return the sigmas between the zones."""
    return np.sqrt(find_zones(variance, np.zeros(variance.shape, bool) if blocked is None else blocked, zones))


@pytest.mark.parametrize(
    ("sigmas", "parts", "expected"),
    [
        ([1, 2], [0.5, 0.5], [0, 1]),
        ([1, 2, 3], [0.5, 0.2, 0.3], [0, 1, 2]),
        ([1, 2, 3], [0.88, 0.06, 0.06], [0, 1, 2]),
        ([1, 10], [0.97, 0.03], [0, 0]),  # a speck
        ([1, 2, 30], [0.6, 0.37, 0.03], [0, 1, 1]),  # a speck beside two zones
        ([0.01, 1, 2], [0.03, 0.5, 0.47], [0, 0, 1]),
        ([1, 1.1], [0.5, 0.5], [0, 0]),  # 0.041 dex
        ([1, 1.15], [0.5, 0.5], [0, 1]),  # 0.061 dex
        ([3], [1.0], [0]),
    ],
)
def test_steps_of_depth_are_found(sigmas: list[float], parts: list[float], expected: list[int]) -> None:
    edges = find_sigmas(stripes(sigmas, parts, (400, 2000)))
    assert len(edges) == max(expected)
    np.testing.assert_array_equal(np.searchsorted(edges, sigmas), expected)


def test_smooth_gradient_is_divided_until_parts_differ_by_less_than_a_twentieth_dex() -> None:
    """Evenly spread over 0.36 dex: halves differ by 0.18, quarters by 0.09, and eighths by 0.045."""
    variance = np.tile(100 ** np.linspace(0, 0.36, 2000), (400, 1))
    np.testing.assert_allclose(np.log10(find_sigmas(variance)), [0.09, 0.18, 0.27], atol=0.003)


def test_scatter_of_single_pixels_is_no_depth() -> None:
    """Of 0.06 dex, as in a shallow place of a real mosaic: two means would differ by 0.1 dex."""
    variance = 100 ** np.random.default_rng(1).normal(0, 0.06, (400, 500))
    assert len(find_sigmas(variance)) == 0


def test_blocked_pixels_are_not_divided() -> None:
    variance = stripes([1, 2, 5], [0.4, 0.3, 0.3])
    [edge] = find_sigmas(variance, blocked=variance > 10)
    assert 1 < edge < 2
    assert len(find_sigmas(variance, blocked=variance < 10)) == 0
    assert len(find_sigmas(variance, blocked=np.ones(variance.shape, bool))) == 0
    # NaN and infinity where there is no data.
    variance[:, :100], variance[:, 100:200] = np.nan, np.inf
    blocked = ~np.isfinite(variance)
    np.testing.assert_array_equal(np.searchsorted(find_sigmas(variance, blocked=blocked), [1, 2, 5]), [0, 1, 2])


def test_zones_of_equal_area() -> None:
    variance = np.tile(np.arange(1.0, 1001), (900, 1))
    np.testing.assert_allclose(find_zones(variance, np.zeros((900, 1000), bool), 4), [250, 500, 750], atol=2)
    assert len(find_zones(variance, np.zeros((900, 1000), bool), 1)) == 0


@pytest.mark.parametrize("sigmas", [[1, 2], [1, 2, 3]])
def test_white_noise_of_several_depths_has_its_factor_in_each(sigmas: list[float]) -> None:
    """Noise of 1.5, 1, and 0.7 times what the weight says; one curve would lie between."""
    true = np.array([1.5, 1, 0.7][: len(sigmas)])
    parts = [0.5, 0.5] if len(sigmas) == 2 else [0.3, 0.3, 0.4]
    variance = stripes(sigmas, parts)
    data = white(seed=21) * np.sqrt(stripes(list(sigmas * true), parts))
    result = calibrate_noise(whole_pixels(data, variance), variance=variance)
    assert result.measured.shape == (len(sigmas), 8)
    # Of 24 values one is beyond three sampling errors in a run of 15; few apertures straddle a step.
    assert np.all(np.abs(result.measured - true[:, None]) < 3.5 * result.measured_error)
    assert np.all(result.n_effective > 300)
    one = calibrate_noise(whole_pixels(data, variance), variance=variance, zones=1)
    assert one.measured.max() < 1.5 - 3 * one.measured_error.max()


def test_zone_with_few_apertures_is_continued_by_its_own_curve() -> None:
    """The deep stripe has room for 100 independent circles up to some radius only."""
    variance = stripes([1, 2], [0.08, 0.92])
    data = white(seed=22) * np.sqrt(variance) * np.where(variance > 2, 1, 1.5).astype(np.float32)
    settings = {"radius_max": 0.8, "n_radii": 8}
    result = calibrate_noise(whole_pixels(data, variance), variance=variance, **settings)
    known = result.n_effective[0] > 0
    n = known.sum()
    assert 3 < n < 8
    assert result.note.endswith(
        f"depth zone 1 of 2 has too few empty apertures beyond {result.radius[n - 1]:.2f} arcsec radius: extrapolated"
    )
    assert np.all(result.n_effective[0, known] >= 100)
    assert np.all(result.n_effective[1] >= 100)
    # By the power law of its last four radii, weighted by their errors, and not by the other zone, which has a(r) = 1.
    last = slice(n - 4, n)
    radius, factor = np.log(result.radius), np.log(result.factor[0])
    slope = np.polyfit(radius[last], factor[last], 1, w=np.sqrt(result.n_effective[0, last]))[0]
    np.testing.assert_allclose(factor[n:], factor[n - 1] + min(slope, 1) * (radius[n:] - radius[n - 1]), atol=1e-12)
    np.testing.assert_allclose(result(result.radius, 1.0), result.factor[0], rtol=1e-12)
    assert result(2.0, 1.0) == pytest.approx(np.exp(factor[n - 1] + slope * (np.log(2) - radius[n - 1])), rel=1e-12)
    np.testing.assert_allclose(result.measured[0, n:], result.factor[0, n:])
    np.testing.assert_allclose(result.error(result.radius[n:], 1.0), result.error(result.radius[n - 1], 1.0))
    assert np.all(result.offset[0, n:] == result.offset[0, n - 1])
    again = NoiseCalibration.from_metadata(result.metadata())
    assert again is not None
    np.testing.assert_allclose(again([0.1, 0.7, 2.0], 1.0), result([0.1, 0.7, 2.0], 1.0), rtol=5e-3)


def test_continued_curve_grows_at_most_as_the_radius() -> None:
    """What is the same all over an aperture: the sum of a plane of noise and a level for each row of 40 pixels."""
    variance = stripes([1, 2], [0.08, 0.92])
    rng = np.random.default_rng(23)
    level = np.kron(rng.normal(size=(23, 25)), np.ones((40, 40)))[:900, :1000]
    data = ((rng.normal(size=(900, 1000)) + level) * np.sqrt(variance)).astype(np.float32)
    result = calibrate_noise(whole_pixels(data, variance), variance=variance, radius_max=0.8, n_radii=8)
    continued = np.flatnonzero(result.n_effective[0] == 0)
    assert len(continued)
    growth = np.diff(np.log(result.factor[0])) / np.diff(np.log(result.radius))
    assert np.all(growth[continued - 1] <= 1 + 1e-9)
    assert np.all(growth[continued - 1] > 0.3)


def test_zone_without_apertures_takes_the_next_one() -> None:
    """A grid of sources leaves no room in the shallow stripe; the pixels between them are as shallow."""
    variance = stripes([1, 2, 3], [0.4, 0.4, 0.2])
    blocked = np.zeros(variance.shape, bool)
    blocked[::6, 800:] = True
    data = white(seed=24) * np.sqrt(variance)
    settings = CalibrationOptions(radius_max=0.4, n_radii=4)
    result = calibrate(Blocked.pack(blocked), SCALE, whole_pixels(data, variance), settings, variance)
    assert result.note.endswith("depth zone 3 of 3 has too few empty apertures: a(r) of zone 2")
    for name in ("factor", "measured", "measured_error", "n_effective", "offset"):
        values = getattr(result, name)
        assert np.all(values[2] == values[1])
        assert np.any(values[1] != values[0])


def test_zones_that_all_lack_apertures_have_one_curve() -> None:
    """At 2 pixels 11 x 16 places of a grid fit in 60 x 80 pixels, half of them in each zone."""
    variance = stripes([1, 2], [0.5, 0.5], (55, 70))
    data = white((55, 70)) * np.sqrt(variance)
    sums, settings = whole_pixels(data, variance), {"radius_min": 0.12, "margin": 0}
    found, one = (calibrate_noise(sums, data.shape, variance, zones=zones, **settings) for zones in (None, 1))
    assert found.note.startswith("none of 2 depth zones has 100 empty apertures: one a(r) for all; ")
    assert len(found.edges) == 0
    np.testing.assert_array_equal(found.factor, one.factor)


def test_zones_are_the_same_for_the_same_seed() -> None:
    data, variance = two_halves()
    first, again, other = (
        calibrate_noise(whole_pixels(data, variance), variance=variance, radius_max=0.3, n_radii=3, seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.measured, again.measured)
    np.testing.assert_array_equal(first.edges, other.edges)
    assert np.all(first.measured != other.measured)


ONE_ZONE = {
    "measured": [1.3880031853781836, 1.4749129834252979, 1.516056725428355, 1.4880340486865173],
    "factor": [1.4130663693767629, 1.4496849459448422, 1.4872524660154574, 1.525793520762144],
    "offset": [0.00861853931980245, -0.0046199778488807495, 0.0019710717050048366, 0.003897499792050194],
}


def test_one_zone_stays_what_it_is() -> None:
    """A seed has its places; the last digits are those of the sums' rounding."""
    data, variance = two_halves()
    result = calibrate_noise(whole_pixels(data, variance), variance=variance, zones=1, radius_max=0.4, n_radii=4)
    for name, values in ONE_ZONE.items():
        np.testing.assert_allclose(getattr(result, name), [values], rtol=1e-9)
    # Without the variance of the pixels there is one too.
    settings = CalibrationOptions(radius_max=0.4, n_radii=4)
    blind = calibrate(Blocked.pack(np.zeros(data.shape, bool)), SCALE, whole_pixels(data, variance), settings)
    np.testing.assert_array_equal(blind.measured, result.measured)
    assert blind.note == f"no background variance of the pixels is known: one depth zone; {result.note}"


def test_number_of_apertures_is_bounded_where_they_are_large() -> None:
    """10 million pixels at a radius of all zones, 1272 apertures of 50 pixels; but not fewer than of one zone."""
    asked: list[tuple[float, int]] = []

    def sums(x: np.ndarray, y: np.ndarray, radius: float) -> ApertureSums:
        asked.append((radius, len(x)))
        one = np.where(x < 1500, 1.0, 4.0) * np.pi * radius**2
        flux = np.random.default_rng(len(x)).normal(size=len(x)) * np.sqrt(one)
        return ApertureSums(flux=flux, background=one, total=one)

    variance = stripes([1, 2], [0.5, 0.5], (3000, 3000))
    calibrate_noise(
        at_each_radius(sums), variance.shape, variance, radius_min=1.0, radius_max=2.0, n_radii=2, n_apertures=700
    )
    calibrate_noise(
        at_each_radius(sums), variance.shape, variance, radius_min=0.4, radius_max=0.8, n_radii=2, n_apertures=15000
    )
    assert [n for _, n in asked] == [1400, 1272, 30000, 15000]


# --- photons, sky, and what cannot be calibrated


def test_photons_are_not_rescaled() -> None:
    np.testing.assert_allclose(combine_variance([4.0, 4.0], [7.0, 4.0], [3.0, 0.5]), [9 * 4 + 3, 1])
    # Rounding may leave the total a little below the background.
    assert combine_variance(1.0, 1 - 1e-7, 2.0) == 4


def test_photons_of_positive_noise_are_taken_off() -> None:
    """A scatter of 1.3 in variance, of which 0.3 is in the weight as photons: a(r) is 1."""
    plain = calibrate_noise(whole_pixels(white()))
    result = calibrate_noise(whole_pixels(np.sqrt(np.float32(1.3)) * white(), photons=0.3))
    np.testing.assert_allclose(result.measured**2, 1.3 * plain.measured**2 - 0.3, rtol=1e-5)  # float32
    np.testing.assert_allclose(result(result.radius), 1, atol=4 * result.measured_error.max())


def test_sky_left_is_reported_and_changes_nothing() -> None:
    plain, result = (calibrate_noise(whole_pixels(white() + np.float32(level))) for level in (0, 0.3))
    # The pixels of a circle by their centres are pi r^2 on average, and the median of n sums has 1.25 / sqrt(n).
    error = 1.25 / np.sqrt(4000) / np.sqrt(np.pi) / (result.radius / SCALE)
    assert np.all(np.abs(result.offset - 0.3) < 3 * error + 0.01)
    assert np.all(np.abs(plain.offset) < 3 * error)
    np.testing.assert_allclose(result.measured[0, 4:], plain.measured[0, 4:], rtol=0.03)


def test_smaller_radii_stand_in_for_those_that_do_not_fit() -> None:
    result = calibrate_noise(whole_pixels(white((300, 300))), (300, 300), radius_max=1.5, n_radii=12)
    assert len(result.radius) < 12
    assert result.radius[-1] < 1
    assert np.all(result.n_effective >= 100)
    assert f"beyond {result.radius[-1]:.2f} arcsec radius (asked: 1.50): extrapolated" in result.note
    assert "overlap from" in result.note
    assert result.metadata()["AR_NOTE"] == result.note
    assert np.isfinite(result(1.5))


def test_image_smaller_than_the_largest_aperture() -> None:
    """60 pixels, and 75 of diameter: at 2 pixels of radius some 120 places fit."""
    result = calibrate_noise(whole_pixels(white((60, 60))), (60, 60), radius_max=1.5, n_radii=12, margin=0)
    assert 1 <= len(result.radius) < 4
    assert "extrapolated" in result.note


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.zeros((300, 300)), {}, "empty apertures of 0.08 arcsec radius scatter by 0 times their background error"),
        (0.5 * white((300, 300)), {"photons": 0.5}, "their photon noise alone gives 0.71"),
    ],
)
def test_what_cannot_be_calibrated(data: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(dp.PhotplugError, match=message) as caught:
        calibrate_noise(whole_pixels(data, **options), data.shape)
    assert "\n" not in str(caught.value)
    assert "noise preset 'dja'" in str(caught.value)


def test_too_few_places_make_no_calibration() -> None:
    found = calibrate_noise(whole_pixels(white((30, 30))), (30, 30))
    assert not found.known
    assert found.note.startswith("fewer than 100 empty apertures of 0.08 arcsec radius")
    assert np.isnan(found([0.1, 0.5])).all()
    assert np.isnan(found.error(0.1))
    assert found.metadata() == {"AR_NOTE": found.note}
    read = NoiseCalibration.from_metadata(found.metadata())
    assert read is not None
    assert not read.known


def test_no_empty_area_at_all() -> None:
    pixels = whole_pixels(white((300, 300)))
    found = calibrate(Blocked.pack(np.ones((300, 300), bool)), SCALE, pixels, CalibrationOptions())
    assert not found.known


# --- metadata


@pytest.mark.parametrize("suffix", ["fits", "ecsv"])
def test_metadata_survive_a_catalogue(tmp_path: Path, suffix: str) -> None:
    """Warnings are errors here: the keys are FITS keywords, and the text fits."""
    data, variance = two_halves()
    result = calibrate_noise(whole_pixels(data, variance), variance=variance, zones=2, radius_max=1.5, n_radii=12)
    assert result.offset.shape == result.factor.shape == (2, len(result.radius))
    table = QTable({"flux": [1.0] * u.uJy}, meta=make_metadata(Options()) | encode_metadata(result.metadata()))
    back = QTable.read(dp.write_catalog(table, tmp_path / f"cat.{suffix}"))
    expected = {"AR_RAD": result.radius, "AR": result.factor, "AR_ERR": result.measured_error}
    expected |= {"AR_N": result.n_effective, "AR_OFF": result.offset, "AR_EDGES": result.edges}
    for key, values in expected.items():
        shown = np.array(json.loads(back.meta[key]))
        assert shown.shape == values.shape
        # Four digits; the numbers of apertures are rounded to whole ones.
        np.testing.assert_allclose(shown, values, rtol=5e-4, atol=0.5 if key == "AR_N" else 0)
    assert back.meta["AR_NOTE"] == result.note
    again = NoiseCalibration.from_metadata(back.meta)
    assert again is not None
    radius, variance = np.geomspace(0.05, 3, 30), np.tile([0.5, 2], 15)  # both zones, and radii beyond both ends
    np.testing.assert_allclose(again(radius, variance), result(radius, variance), rtol=2e-3)  # of four digits
    assert NoiseCalibration.from_metadata({}) is None
    assert set(result.metadata()) == {*expected, "AR_NOTE"}


def test_metadata_with_one_offset_for_all_zones() -> None:
    """As catalogues had before each zone had its own."""
    meta = make_calibration([[1.0] * 5, [2.0] * 5], edges=[2.0]).metadata() | {"AR_OFF": [0.1, 0.2, 0.3, 0.4, 0.5]}
    calibration = NoiseCalibration.from_metadata(meta)
    assert calibration is not None
    np.testing.assert_array_equal(calibration.offset, [[0.1, 0.2, 0.3, 0.4, 0.5]] * 2)


def test_metadata_without_zones_and_notes() -> None:
    assert set(make_calibration([1.0] * 5).metadata()) == {"AR_RAD", "AR", "AR_ERR", "AR_N", "AR_OFF"}


# --- the errors of the catalogue


def power_law() -> NoiseCalibration:
    """1.5 at 0.4 arcsec, growing with the power 0.3: the interpolation is exact."""
    return make_calibration(1.5 * np.power(np.array([0.1, 0.2, 0.4, 0.8, 1.6]) / 0.4, 0.3))


def test_variance_of_a_flux_is_that_of_the_formula() -> None:
    """a^2 * background + photons with flat planes, a at the radius of the circle of equal area."""
    data = gaussian((120, 120), 60, 60, (8, 4), 500).astype(np.float32)
    segmentation = (data > 5).astype(np.int32)
    detection = place([60.0], [60.0], segmentation, a=8, b=4)
    options = Options(measure=replace(AS_IS, apertures=(0.4, 1.0)))
    row = measure_with(SEP, make_noisy(data, 0.2, 0.7), detection, power_law(), options)[0]

    def expect(area: float, photons: float = 0.7) -> float:
        """In uJy; area in pixels."""
        factor = 1.5 * (np.sqrt(area / np.pi) * SCALE / 0.4) ** 0.3
        return 0.01 * np.sqrt((factor**2 * 0.2 + photons) * area)

    for i, radius in enumerate((5, 12.5)):
        area = np.pi * radius**2
        assert row[f"fluxerr_aper_{i}"].value == pytest.approx(expect(area), rel=1e-6)  # float32 planes
        depth = 23.9 - 2.5 * np.log10(5 * expect(area, photons=0))
        assert row[f"depth5_{i}"].value == pytest.approx(depth, abs=1e-6)
    kron = row["kron_radius"]
    assert row["flag"] == 0
    assert row["fluxerr_auto"].value == pytest.approx(expect(np.pi * kron**2 * 32), rel=1e-6)
    assert row["fluxerr_iso"].value == pytest.approx(expect(segmentation.sum()), rel=1e-6)


def test_isophotes_sum_the_planes_of_their_pixels() -> None:
    rng = np.random.default_rng(1)
    background, photons = rng.uniform(1, 2, (2, 40, 50)).astype(np.float32)
    segmentation = np.zeros((40, 50), np.int32)
    segmentation[10:20, 5:25] = 1
    detection = place([15.0], [15.0], segmentation)
    options = Options(measure=AS_IS)
    row = measure_with(SEP, make_noisy(white((40, 50)), background, photons), detection, power_law(), options)[0]
    inside = segmentation == 1
    factor = 1.5 * (np.sqrt(200 / np.pi) * SCALE / 0.4) ** 0.3
    expected = factor**2 * background[inside].sum(dtype=float) + photons[inside].sum(dtype=float)
    assert row["fluxerr_iso"].value == pytest.approx(0.01 * np.sqrt(expected), rel=1e-6)


def test_without_calibration_the_variance_is_the_full_one() -> None:
    detection = place([25.0], [25.0], np.zeros((50, 50), np.int32))
    row = measure_with(SEP, make_noisy(white((50, 50)), 0.2, 0.7), detection, None, Options(measure=AS_IS))[0]
    assert row["fluxerr_aper_3"].value == pytest.approx(0.01 * np.sqrt(0.9 * np.pi) * 12.5, rel=1e-6)
    assert row["depth5_3"].value == pytest.approx(23.9 - 2.5 * np.log10(0.05 * np.sqrt(0.2 * np.pi) * 12.5), abs=1e-6)


def test_depth_follows_the_weight() -> None:
    """Where the background variance is 4 times larger, sources 2 times brighter are the limit: 0.7526 mag."""
    variance = np.ones((60, 120), np.float32)
    variance[:, 60:] = 4
    detection = place([30.0, 90.0], [30.0, 30.0], np.zeros((60, 120), np.int32))
    table = measure_with(SEP, make_noisy(white((60, 120)), variance), detection, power_law(), Options())
    np.testing.assert_allclose(-np.diff(table["depth5_1"].value), 2.5 * np.log10(2), rtol=1e-6)


def test_zones_choose_by_the_background_at_the_source() -> None:
    variance = np.ones((60, 120), np.float32)
    variance[:, 60:] = 4
    calibration = make_calibration([[1.0] * 5, [2.0] * 5], edges=[2.0])
    detection = place([30.0, 90.0], [30.0, 30.0], np.zeros((60, 120), np.int32))
    table = measure_with(SEP, make_noisy(white((60, 120)), variance), detection, calibration, Options())
    np.testing.assert_allclose(table["fluxerr_aper_1"][1] / table["fluxerr_aper_1"][0], 2 * 2, rtol=1e-6)


# --- held out


def scatter_at(
    image: CCDData, places: tuple, segmentation: np.ndarray, calibration: NoiseCalibration | None, radius: float, **sky
) -> float:
    """Robust scatter of flux/error of catalogue columns, in apertures of a radius in pixels."""
    options = Options(measure=replace(AS_IS, apertures=(2 * radius * SCALE,), **sky))
    table = measure_with(SEP, image, place(*places, segmentation), calibration, options)
    return robust_scatter(table["flux_aper_0"] / table["fluxerr_aper_0"])


@pytest.mark.parametrize("sky", ["none", "masked", pytest.param("annulus", marks=pytest.mark.slow)])
def test_errors_are_true_in_another_image_with_the_same_noise(sky: str) -> None:
    """Correlated noise whose weight says half of its variance, on a sky that is left in the mosaic."""
    shape = (900, 1000)
    images = [make_noisy(correlated(shape, seed) + np.float32(0.1), 0.5, 0.02) for seed in (1, 2)]
    segmentation = np.zeros(shape, np.int32)
    segmentation[200:260, 300:420] = 7
    detection = place(NONE, NONE, segmentation)
    settings = CalibrationOptions(radius_max=0.6, n_radii=5, n_apertures=1500)
    options = Options(measure=MeasureOptions(background=sky), calibration=settings)
    calibration = calibrate_with(SEP, images[0], detection, options)
    for radius in (2, 12):
        *places, n = place_apertures(segmentation > 0, radius, 5, 1000, np.random.default_rng(3))
        # Both have a sampling error.
        error = np.hypot(SCATTER_ERROR / np.sqrt(n), calibration.error(radius * SCALE))
        scatter = scatter_at(images[1], places, segmentation, calibration, radius, background=sky)
        assert scatter == pytest.approx(1, abs=3 * error)
    assert scatter_at(images[1], places, segmentation, None, radius, background=sky) > 1.5


def test_annulus_without_sky_does_not_count() -> None:
    """An image as small as the annulus: most apertures have sky, those without are left out."""
    segmentation = np.zeros((160, 160), np.int32)
    segmentation[:, 45:] = 1
    detection = place(NONE, NONE, segmentation)
    measure = MeasureOptions(background="annulus", annulus=(1.7, 2.5))
    calibration = CalibrationOptions(radius_max=0.12, n_radii=2, margin=0)
    result = calibrate_with(
        SEP, make_noisy(white((160, 160)), 1.0), detection, Options(measure=measure, calibration=calibration)
    )
    assert np.isfinite(result.factor).all()
    measure = replace(measure, annulus=(9.0, 10.0))
    result = calibrate_with(
        SEP, make_noisy(white((160, 160)), 1.0), detection, Options(measure=measure, calibration=calibration)
    )
    assert not result.known


@dataclass
class HeldOut:
    """An engine that hands over a random half of the empty apertures asked for, and keeps the places of the others."""

    sum_circles: Callable[[np.ndarray, np.ndarray, float], ApertureSums]
    seed: int | None = None
    places: dict[float, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __call__(self, x: np.ndarray, y: np.ndarray, radius: float) -> ApertureSums:
        # The places of one zone come in random order; of several, those of the rarest come last.
        order = np.arange(len(x)) if self.seed is None else np.random.default_rng(self.seed).permutation(len(x))
        held = order >= len(x) // 2
        self.places[radius] = x[held], y[held]
        sums = self.sum_circles(x, y, radius)
        return replace(sums, flux=np.where(held, np.nan, sums.flux))


def exact_sums(image: dp.MosaicImage, sky: ArrayLike = 0.0) -> Callable[[np.ndarray, np.ndarray, float], ApertureSums]:
    """Those of the engine: its ellipses with a = b differ by 1e-13."""
    data, full, background = native_pixels(image.data - sky), variance_map(image), variance_map(image, "background")

    def sum_circles(x: np.ndarray, y: np.ndarray, radius: float) -> ApertureSums:
        flux, total, _ = sep.sum_circle(data, x, y, radius, var=full, subpix=0)
        _, error, _ = sep.sum_circle(data, x, y, radius, var=background, subpix=0)
        return ApertureSums(flux=flux, background=error**2, total=total**2)

    return sum_circles


def measure_held_out(prefix: Path) -> list[tuple[float, int, float, float]]:
    """Return radius (pixels), number, and scatter of flux/error with and without a(r), in apertures not calibrated on.

    At each radius a random half of the places of one grid calibrates, and the other half is measured. Places of one
    grid do not overlap, so neither do the halves; both are spread over the whole mosaic, whose noise is not the same
    everywhere.
    """
    settings = CalibrationOptions(radius_min=2 * SCALE, radius_max=17.5 * SCALE, n_radii=8, zones=1)
    image = dp.load_mosaic(prefix, noise="calibrated")
    detection = detect_sep(image, mesh_background(image, Options().background), Options())
    engine = HeldOut(exact_sums(image))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places_module, "GRIDS", 1)
        calibration = calibrate(
            Blocked.pack((detection.segmentation > 0) | image.mask), SCALE, at_each_radius(engine), settings
        )
    rows = []
    for radius, places in engine.places.items():
        assert pdist(np.column_stack(places)).min() >= 2 * radius
        scatter = (scatter_at(image, places, detection.segmentation, each, radius) for each in (calibration, None))
        rows.append((radius, len(places[0]), *scatter))
    return rows


@pytest.mark.parametrize("band", ["f444w", pytest.param("f115w", marks=pytest.mark.slow)])
def test_errors_are_true_in_held_out_apertures_of_real_mosaics(band: str, data: Path) -> None:
    rows = measure_held_out(uds_prefix(data, band))
    np.testing.assert_allclose([row[0] for row in rows], np.geomspace(2, 17.5, 8))
    for radius, n, scatter, without in rows:
        assert n > 100
        assert scatter == pytest.approx(1, abs=max(0.05, 3 * SCATTER_ERROR / np.sqrt(n))), f"at {radius:.1f} pixels"
        # What it corrects: a few per cent at 2 pixels, a factor of 2 at 12.5.
        assert without > (1.8 if radius > 12 else 0.95)


def measure_zones_held_out(prefix: Path, seeds: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return radii (n,), numbers (zones, n), and of flux/error with zones and with one a(r) (seeds, 2, zones, n, 2):

    scatter and median. As above, with mask and sky of the defaults; both curves are measured in the same zones. The
    places of each seed are others.
    """
    image = dp.load_mosaic(prefix, noise="calibrated")
    detection = detect_sep(image, mesh_background(image, Options().background), Options())
    blocked, _ = mask_sources(image, detection.segmentation, SCALE)
    variance = variance_map(image, "background")
    blocked |= null_pixels(image)
    sky = median_mesh(image, (50, 50), 3, blocked)[0].draw()
    sums = exact_sums(image, sky)
    edges = find_zones(variance, blocked, None)
    scatter, numbers = [], []
    for seed in seeds:
        for zones in (None, 1):
            engine = HeldOut(sums, seed)
            settings = CalibrationOptions(radius_max=0.5, n_radii=7, zones=zones, seed=seed)
            calibration = calibrate(Blocked.pack(blocked), SCALE, at_each_radius(engine), settings, variance)
            for radius, (x, y) in engine.places.items():
                part = sums(x, y, radius)
                depth = part.background / (np.pi * radius**2)
                error = np.sqrt(combine_variance(part.background, part.total, calibration(radius * SCALE, depth)))
                zone = np.searchsorted(edges, depth)
                pulls = [(part.flux / error)[zone == i] for i in range(len(edges) + 1)]
                scatter.append([(robust_scatter(pull), np.median(pull)) for pull in pulls])
                numbers.append(np.bincount(zone, minlength=len(edges) + 1))
    shape = (len(seeds), 2, len(engine.places), len(edges) + 1)
    counts = np.reshape(numbers, shape)[:, 0].mean(axis=0).T
    return np.array([*engine.places]) * SCALE, counts, np.swapaxes(np.reshape(scatter, (*shape, 2)), 2, 3)


@pytest.mark.parametrize(("band", "zones"), [("f444w", 4), pytest.param("f115w", 4, marks=pytest.mark.slow)])
def test_errors_are_true_in_each_depth_zone_of_real_mosaics(
    band: str, zones: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over 16 pairs of halves; where the half that calibrates has fewer than 100, the curve is continued.

    Limits are 4 % to 0.2 arcsec, 8 % to 0.3 and 10 % beyond, but never below twice the sampling error of the places
    that a zone has; those of medians are 0.05 sigma and three times it more.
    """
    monkeypatch.setattr(places_module, "GRIDS", 1)
    radius, numbers, results = measure_zones_held_out(uds_prefix(data, band), range(101, 117))
    assert numbers.shape == (zones, 7)
    found, one = np.exp(np.log(results[..., 0]).mean(axis=0))
    median = results[:, 0, :, :, 1].mean(axis=0)
    error = SCATTER_ERROR / np.sqrt(2 * numbers)
    print("\n| zone |", " | ".join(f'{r:.2f}"' for r in radius), "|")
    for zone in range(zones):
        cells = (f"{s:.2f} ({m:+.2f})" for s, m in zip(found[zone], median[zone], strict=True))
        counts = (f"{n:.0f}, {e:.2f}" for n, e in zip(numbers[zone], error[zone], strict=True))
        print(f"| {band.upper()} {zone + 1} |", " | ".join(cells), "|\n| n, sampling error |", " | ".join(counts), "|")
    limit = np.maximum(np.select([radius < 0.22, radius < 0.35], [0.04, 0.08], 0.1), 2 * error)
    assert np.all(np.abs(found - 1) < limit)
    assert np.all(np.abs(median) < 0.05 + 3 * error)
    if band == "f444w":
        assert np.all(one[0] > 1.1)
        assert np.all(one[1:, :4].mean(axis=1) < 0.95)
