"""Flags of quality and coverage, and Kron radii that are given, by both engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.table import QTable

import dja_photplug as dp
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.engines.photutils_engine import PHOTUTILS
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.mosaic.image import replace_planes
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BackgroundOptions
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.photometry import measure_with
from dja_photplug.sources.saturated import HOLE_REACH
from tests.helpers import AS_IS, SCALE, gaussian, make_detection, make_image, make_wcs, uds_prefix

ENGINES = {"sep": SEP, "photutils": PHOTUTILS}
FLUXES = ("flux_auto", "fluxerr_auto", "flux_iso", "fluxerr_iso", "flux_aper_0", "fluxerr_aper_0", "flux_aper_1")


@pytest.fixture(params=ENGINES)
def measure(request):
    """``measure(image, detection, **settings)`` by each engine, in circles of 5 and 10 pixels of 40 mas."""

    def run(image, detection, **settings) -> QTable:
        options = Options(measure=replace(AS_IS, **({"apertures": (0.4, 0.8)} | settings)))
        return measure_with(ENGINES[request.param], image, detection, None, options)

    return run


def place(image, x, y, segmentation=None, rms=3.0, kron=None) -> Detection:
    """Round sources on an image, with given Kron radii."""
    detection = make_detection(image.data.shape, segmentation, x=x, y=y, a=rms, b=rms, wcs=image.wcs)
    if kron is not None:
        detection.sources["kron_radius"] = np.array(kron, dtype=float)
    return detection


def disc(shape, x0, y0, radius) -> np.ndarray:
    y, x = np.indices(shape)
    return np.hypot(x - x0, y - y0) < radius


def has(table: QTable, flag: SourceFlag, column: str = "flag") -> list[bool]:
    return (table[column] & flag > 0).tolist()


# --- Kron radii that are given


@pytest.mark.parametrize("sky", ["none", "annulus"])
def test_given_kron_radius_is_that_of_the_flux(measure, sky) -> None:
    """Neither measured nor clipped: 5 is above kron_max. NaN is the circle."""
    image = make_image(np.ones((120, 120)) if sky == "none" else np.zeros((120, 120)))
    if sky == "annulus":
        image.data[:] = disc((120, 120), 60, 60, 35)  # beyond all apertures, within the annulus
    detection = place(image, [60.0] * 3, [60.0] * 3, kron=[3.0, 5.0, np.nan])
    table = measure(image, detection, background=sky, annulus=(1.6, 2.0))
    np.testing.assert_array_equal(table["kron_radius"], [3, 5, np.nan])
    area = np.pi * np.square([9, 15, 0.35 / SCALE])
    np.testing.assert_allclose(table["flux_auto"].value, 0.01 * area, rtol=1e-6)
    assert has(table, SourceFlag.KRON_CIRCLE) == [False, False, True]
    assert has(table, SourceFlag.KRON_LIMITED) == [False, True, False]


def test_ellipses_of_one_image_in_another(measure) -> None:
    """As in Source Extractor's dual-image mode: what was measured there changes nothing when it is given there."""
    first, second = (make_image(gaussian((90, 90), 45, 45, sigma, 100)) for sigma in (4, 2.5))
    alone = place(first, [45.0], [45.0])
    there, here = measure(first, alone), measure(second, alone)
    assert not np.isclose(there["kron_radius"], here["kron_radius"], rtol=0.1)[0]
    given = place(first, [45.0], [45.0], kron=there["kron_radius"])
    again, dual = measure(first, given), measure(second, given)
    for name in there.colnames:
        np.testing.assert_array_equal(np.asarray(again[name]), np.asarray(there[name]), err_msg=name)
    assert dual["kron_radius"] == there["kron_radius"]
    expected, _, _ = sep.sum_circle(second.data, [45.0], [45.0], 3 * there["kron_radius"], subpix=0)
    assert dual["flux_auto"][0].value == pytest.approx(0.01 * expected[0], rel=1e-6)


def test_limited_kron_radii(measure) -> None:
    """2.5 sqrt(pi/2) = 3.13 for a Gaussian in units of its rms: of a third less and half more it is clipped."""
    image = make_image(gaussian((121, 121), 60, 60, 4, 100))
    detection = place(image, [60.0] * 3, [60.0] * 3, rms=[4.0, 6.0, 3.0])
    table = measure(image, detection)
    np.testing.assert_allclose(table["kron_radius"], [3.13, 2.4, 3.8], rtol=5e-3)  # sampled at 4 pixels
    assert has(table, SourceFlag.KRON_LIMITED) == [False, True, True]


# --- coverage


@pytest.mark.parametrize("sky", ["none", "annulus"])
def test_positions_without_coverage(measure, sky) -> None:
    """Off the image by any distance, or farther from data than the largest aperture; 0-based edges at -0.5."""
    null = np.zeros((80, 90), dtype=bool)
    null[:, 60:] = True
    segmentation = np.zeros(null.shape, dtype=np.int32)
    segmentation[10:14, 10:90] = np.arange(1, 81) % 11 + 1
    x = [np.nan, 1e300, -0.51, 40.0, 40.0, 89.4, 75.0, 30.0, -0.5, 40.0, 62.0]
    y = [40.0, 40.0, 40.0, np.inf, -500.0, 40.0, 40.0, 79.5, 40.0, 79.4, 40.0]
    image = make_image(np.where(null, 0, gaussian(null.shape, 40, 40, 3, 100)), ~null)
    table = measure(image, place(image, x, y, segmentation), background=sky)
    bare = np.array([True] * 8 + [False] * 3)
    for name in ("flag", "flag_aper_0", "flag_aper_1"):
        assert has(table, SourceFlag.NOT_COVERED, name) == bare.tolist(), name
    np.testing.assert_array_equal(table["mask_frac"] == 1, bare)
    for name in FLUXES:
        np.testing.assert_array_equal(np.isnan(table[name][bare]), True, err_msg=name)
    assert np.isfinite(table["flux_aper_1"][~bare]).all()
    assert has(table, SourceFlag.NOT_MEASURED)[:8] == [True] * 8


# --- what takes pixels of an aperture


def test_null_pixels_and_neighbours_are_told_apart(measure) -> None:
    """Null pixels 7 to the left, a neighbour 7 above, a rim that touches; circles of 5 and 10."""
    null, segmentation = np.zeros((2, 80, 200), dtype=np.int32)
    null[38:43, 33], segmentation[47, 70:91] = 1, 9
    segmentation[35:46, 75:86] = 2  # its own
    null[40, 131], segmentation[40, 109] = 1, 9  # at 11 pixels: not within 10
    image = make_image(np.ones(null.shape), null == 0)
    detection = place(image, [40.0, 80.0, 120.0], [40.0] * 3, segmentation, rms=1.0)
    table = measure(image, detection, kron_circle=0.24)
    assert (table["flag_aper_0"] == 0).all()
    masked = SourceFlag.APER_MASKED
    assert table["flag_aper_1"].tolist() == [masked | SourceFlag.NULL_WEIGHT, masked | SourceFlag.NEIGHBOUR, 0]
    for flag in (SourceFlag.NULL_WEIGHT, SourceFlag.NEIGHBOUR):
        assert has(table, flag) == [False] * 3  # the Kron aperture is the circle of 6
    wide = measure(image, detection, kron_circle=0.36)
    assert has(wide, SourceFlag.NULL_WEIGHT) == [True, False, False]
    assert has(wide, SourceFlag.NEIGHBOUR) == [False, True, False]


def test_engines_give_the_same_bits() -> None:
    """On a crowded field with holes: new bits agree exactly, as they follow from overlaps of areas alone."""
    rng = np.random.default_rng(8)
    shape, n = (400, 400), 150
    x, y = rng.uniform(-3, 403, (2, n))
    data, segmentation = rng.normal(size=shape), np.zeros(shape, dtype=np.int32)
    for i in range(n):
        data += gaussian(shape, x[i], y[i], 2.5, 100) * rng.uniform(0.1, 1)
        segmentation[disc(shape, x[i], y[i], 9)] = i + 1
    null = rng.random(shape) < 0.002
    for i in range(0, n, 5):
        null |= disc(shape, x[i], y[i], 2)
    image = make_image(np.where(null, np.nan, data), ~null)
    detection = place(image, x, y, segmentation)
    ours, theirs = (measure_with(engine, image, detection, None, Options(measure=AS_IS)) for engine in ENGINES.values())
    new = SourceFlag.NOT_COVERED | SourceFlag.NULL_WEIGHT | SourceFlag.NEIGHBOUR | SourceFlag.KRON_LIMITED
    new |= SourceFlag.SATURATED_CORE | SourceFlag.NOT_MEASURED
    for name in ("flag", *(f"flag_aper_{i}" for i in range(4))):
        np.testing.assert_array_equal(ours[name] & new, theirs[name] & new, err_msg=name)
    for flag in new:
        assert 2 <= sum(has(ours, flag)) < n, flag


def test_circles_a_rounding_error_beside_the_rim_of_a_pixel(measure) -> None:
    """sep.sum_ellipse gives NaN for them; positions come back from the sky like that."""
    image = make_image(np.ones((60, 60)))
    x, y = np.full(9, 30.0), 29.5 + np.geomspace(1e-12, 1e-4, 9)
    bare, _, _ = sep.sum_ellipse(image.data, x, y, 4.5, 4.5, 0.0, 1.0, subpix=0)
    assert np.isnan(bare).sum() > 5
    table = measure(image, place(image, x, y), apertures=(0.36,))
    np.testing.assert_allclose(table["flux_aper_0"].value, 0.01 * np.pi * 4.5**2, rtol=1e-6)
    assert (table["flag_aper_0"] == 0).all()
    assert (table["mask_frac"] == 0).all()


# --- saturated cores


@pytest.mark.parametrize("scale", [0.04, 0.02])
def test_saturated_cores(measure, scale) -> None:
    """Holes of 0.08 arcsec in a star, off its centre, of 0.3 arcsec, in faint light, in a neighbour, at the edge."""
    step = round(2 / scale)  # sources are 2 arcsec apart
    shape = (step, 6 * step)
    null, segmentation = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.int32)
    x, y = (np.arange(6) + 0.5) * step, np.full(6, step / 2)
    x[5] = shape[1] - 1 - 0.15 / scale
    for i, (radius, offset) in enumerate([(0.08, 0), (0.08, 0.25), (0.3, 0), (0.08, 0), (0.08, 0), (0.08, 0)]):
        null |= disc(shape, x[i] + offset / scale, y[i], radius / scale)
        if i != 3:
            segmentation[disc(shape, x[i], y[i], 0.5 / scale)] = i + 1
    segmentation[segmentation == 5] = 6
    segmentation[null] = 0  # as detection leaves them
    image = make_image(np.ones(shape), ~null, wcs=make_wcs(scale))
    table = measure(image, place(image, x, y, segmentation))
    assert has(table, SourceFlag.SATURATED_CORE) == [True, False, True, False, False, False]


@pytest.mark.parametrize("scale", [0.04, 0.02])
@pytest.mark.parametrize("hole", [0.08, 0.16, 0.3, 0.6])
def test_what_is_left_around_a_large_saturated_core_is_told(scale, hole) -> None:
    """Detection takes the rim of a hole for several sources; others, with pixels that are bad, are as they were."""
    shape = (round(12 / scale), round(16 / scale))
    rows, columns = np.indices(shape)

    def star(x: float, y: float, peak: float) -> np.ndarray:
        return peak * (1 + ((columns * scale - x) ** 2 + (rows * scale - y) ** 2) / 0.1**2) ** -1.7

    holes = {(4, 6): hole, (9, 3): 0.08, (14.3, 9): 0.6}
    # A saturated star, a galaxy with bad pixels 0.25 arcsec off its centre, and others, of which one is beside a gap.
    data = star(4, 6, 5000 * (1 + hole / 0.1) ** 3.4) + star(9.25, 3, 3000) + star(10, 9.5, 3000) + star(13, 9, 1000)
    clear = ~np.any([disc(shape, x / scale, y / scale, radius / scale) for (x, y), radius in holes.items()], axis=0)
    clear &= columns * scale < 15.5
    image = make_image(data + np.random.default_rng(1).normal(size=shape), clear, wcs=make_wcs(scale))
    found = detect_sep(image, mesh_background(image, BackgroundOptions()), Options())
    table = measure_with(SEP, image, found, None, Options(measure=AS_IS))
    distance = np.hypot(table["x"].value * scale - 4, table["y"].value * scale - 6)
    told = np.array(has(table, SourceFlag.SATURATED_CORE))
    assert told[distance < hole + 0.15].all()
    assert told.any()
    assert not told[distance > hole + 2].any()
    assert np.count_nonzero(distance > hole + 2) > 2


def test_a_hole_is_told_within_reach(measure) -> None:
    """A tile that holds what is measured of a source gives the same flag as the image; of less the hole is no hole."""
    shape, x, y = (200, 200), 100.0, 100.0
    null = disc(shape, x + 15, y, 14)
    light = np.where(disc(shape, x + 15, y, 40), 10.0, 0.0)
    light[100, 100] = 20.0  # the brightest pixel, beside the hole
    image = make_image(light, ~null)
    segmentation = (light > 0).astype(np.int32)
    segmentation[null] = 0
    reach = round(HOLE_REACH / SCALE) + 2
    for half, expected in ((100, True), (reach, True), (25, False)):
        part = np.s_[100 - half : 100 + half + 1, 100 - half : 100 + half + 1] if half < 100 else np.s_[:, :]
        where = 100.0 - part[0].start if half < 100 else 100.0
        tile = image[part]
        table = measure(tile, place(tile, [where], [where], np.ascontiguousarray(segmentation[part])))
        assert has(table, SourceFlag.SATURATED_CORE) == [expected]


def test_no_core_is_saturated_in_real_bands(data: Path) -> None:
    """None of the cut-outs has a null pixel; with the core of the one star null it is found and flagged."""
    image = dp.load_mosaic(uds_prefix(data), dp.VarianceOptions(noise="background"))
    star = (862, 332)  # x, y
    for hole, expected in ((0, 0), (2, 1)):
        clear = ~disc(image.data.shape, *star, hole)
        hollow = replace_planes(image, weight=image.uncertainty.array * clear)
        found = detect_sep(hollow, mesh_background(hollow, BackgroundOptions()), Options())
        table = measure_with(SEP, hollow, found, None, Options(measure=AS_IS))
        saturated = table[np.array(has(table, SourceFlag.SATURATED_CORE))]
        assert len(saturated) == expected
    assert np.hypot(saturated["x"][0].value - star[0], saturated["y"][0].value - star[1]) < 2
