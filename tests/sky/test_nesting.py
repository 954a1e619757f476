"""Labels and sources on other grids: nested grids exactly, others against the WCS of every pixel."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs.utils import pixel_to_pixel

from dja_photplug.catalog.schema import dress_table
from dja_photplug.sky.grid import header_wcs
from dja_photplug.sky.nesting import Nesting, find_nesting, regrid_labels
from dja_photplug.sources.detection import DETECTION_COLUMNS, Detection, regrid_detection
from tests.helpers import make_wcs


def random_labels(shape, seed=1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.int32)


# --- nesting


@pytest.mark.parametrize(
    ("fine", "coarse", "expected"),
    [
        # A coarse pixel from 0.5 to 2.5 (FITS) has its centre at 1.5: CRPIX 50.5 there is 50.5 * 2 - 0.5 here.
        ((0.02, (100.5, 60.5)), (0.04, (50.5, 30.5)), Nesting(ratio=2, y=0, x=0)),
        ((0.02, (103.5, 56.5)), (0.04, (50.5, 30.5)), Nesting(ratio=2, y=-4, x=3)),
        ((0.02, (92, 92)), (0.06, (31, 31)), Nesting(ratio=3, y=0, x=0)),
        ((0.04, (50.5, 50.5)), (0.04, (40.5, 57.5)), Nesting(ratio=1, y=-7, x=10)),
        ((0.04, (50.504, 50.5)), (0.04, (50.5, 50.5)), Nesting(ratio=1, y=0, x=0)),
        ((0.04, (50.52, 50.5)), (0.04, (50.5, 50.5)), None),
        ((0.02, (101, 61)), (0.04, (50.5, 30.5)), None),
        ((0.03, (50.5, 50.5)), (0.04, (50.5, 50.5)), None),
        ((0.04, (50.5, 50.5), 0.05), (0.04, (50.5, 50.5)), None),  # 0.04 pixels off in the corners
        ((0.04, (50.5, 50.5), 0, (34.3, -5.1), True), (0.04, (50.5, 50.5)), None),
        ((0.04, (50.5, 50.5), 0, (214.3, 5.1)), (0.04, (50.5, 50.5)), None),
    ],
)
def test_nesting(fine, coarse, expected) -> None:
    assert find_nesting(make_wcs(*fine), make_wcs(*coarse), (100, 100)) == expected


def test_real_bands_share_a_grid(data) -> None:
    names = ("f444w-clear_drc_sci", "f115w-clear_drc_sci", "lw_seg")
    grids = [header_wcs(fits.getheader(data / f"uds/uds-test-v7.4-{name}.fits.gz")) for name in names]
    for grid in grids[1:]:
        assert find_nesting(grids[0], grid, (820, 1000)) == Nesting(ratio=1, y=0, x=0)


# --- labels


def test_same_grid_is_not_copied() -> None:
    labels = random_labels((30, 40))
    assert regrid_labels(labels, make_wcs(), make_wcs(), labels.shape) is labels


def test_cut_outs_of_one_mosaic() -> None:
    labels = random_labels((100, 120))
    cut = regrid_labels(labels, make_wcs(), make_wcs(crpix=(40.5, 30.5)), (60, 70))
    np.testing.assert_array_equal(cut, labels[20:80, 10:80])
    back = regrid_labels(cut, make_wcs(crpix=(40.5, 30.5)), make_wcs(), labels.shape)
    outside = np.ones(labels.shape, dtype=bool)
    outside[20:80, 10:80] = False
    np.testing.assert_array_equal(back, np.where(outside, 0, labels))


@pytest.mark.parametrize("ratio", [2, 3])
@pytest.mark.parametrize("start", [(0, 0), (5, 3), (-7, -2)])
def test_nested_grids(ratio, start) -> None:
    labels, coarse = random_labels((600, 700)), make_wcs()
    crpix = [ratio * (50.5 - 0.5) + 0.5 + offset for offset in start[::-1]]
    fine = make_wcs(0.04 / ratio, crpix)
    shape = (600 * ratio + start[0] + 5, 700 * ratio + start[1] + 1)
    y, x = ((np.arange(n) - offset) // ratio for n, offset in zip(shape, start, strict=True))
    padded = np.pad(labels, 10)  # sky around
    repeated = regrid_labels(labels, coarse, fine, shape)
    assert repeated.dtype == np.int32
    np.testing.assert_array_equal(repeated, padded[np.ix_(y + 10, x + 10)])
    back = regrid_labels(repeated, fine, coarse, labels.shape)
    kept = labels.copy()
    for axis, offset in enumerate(start):
        if offset < 0:  # what the fine image cuts off is sky there
            whole, part = divmod(-offset, ratio)
            lost = whole + (part * 2 > ratio)
            np.moveaxis(kept, axis, 0)[:lost] = 0
            np.moveaxis(kept, axis, 0)[lost : whole + 1] = np.moveaxis(back, axis, 0)[lost : whole + 1]
    np.testing.assert_array_equal(back, kept)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([0, 0, 0, 0], 0),
        ([0, 7, 0, 0], 0),
        ([0, 7, 7, 0], 7),
        ([7, 0, 7, 7], 7),
        ([7, 9, 9, 7], 9),
        ([0, 7, 0, 9], 7),  # half of it is sources
        ([0, 3, 5, 9], 5),
        ([3, 5, 7, 9], 7),
        ([9, 3, 3, 3], 3),
    ],
)
def test_majority_takes_a_coarse_pixel(pixels, expected) -> None:
    labels = np.array(pixels, dtype=np.int32).reshape(2, 2)
    assert regrid_labels(labels, make_wcs(0.02, (1.5, 1.5)), make_wcs(crpix=(1, 1)), (1, 1)).tolist() == [[expected]]


@pytest.mark.parametrize("target", [(0.04, (400.3, 280.1), 30), (0.031, (450, 350), -100, (34.301, -5.101))])
def test_nearest_pixels_of_a_turned_grid(target) -> None:
    shape, result_shape = (600, 700), (500, 800)
    labels = np.arange(1, 600 * 700 + 1, dtype=np.int32).reshape(shape)  # each pixel is told from all others
    source, turned = make_wcs(crpix=(350, 300)), make_wcs(*target)
    result = regrid_labels(labels, source, turned, result_shape)
    x, y = pixel_to_pixel(turned, source, *np.indices(result_shape)[::-1])
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (row >= 0) & (row < 600) & (column >= 0) & (column < 700)
    expected = np.where(inside, labels[row.clip(0, 599), column.clip(0, 699)], 0)
    # Splines are exact to 1e-8 pixels; nearer than that to the rim of a pixel either side is right.
    rim = np.minimum(np.abs(x % 1 - 0.5), np.abs(y % 1 - 0.5)) < 1e-6
    assert 0.3 < inside.mean() < 1
    assert rim.mean() < 1e-4
    np.testing.assert_array_equal(result[~rim], expected[~rim])


def test_nothing_of_another_field() -> None:
    labels = np.ones((50, 50), dtype=np.int32)
    for place in ((34.5, -5.1), (214.3, 5.1)):  # beside, and on the other side of the sky
        assert not regrid_labels(labels, make_wcs(), make_wcs(crval=place), (60, 70)).any()
    assert not regrid_labels(labels, make_wcs(), make_wcs(crpix=(9000.5, 50.5)), (60, 70)).any()
    assert not regrid_labels(labels, make_wcs(), make_wcs(crpix=(50.5, -9000.5)), (60, 70)).any()


@pytest.mark.parametrize("target", [(0.02, (100.5, 100.5)), (0.08, (25.5, 25.5)), (0.04, (50.5, 50.5), 10)])
def test_memory_beside_the_result(target) -> None:
    labels = random_labels((2000, 2000))
    wcs = make_wcs(*target)
    shape = (round(2000 * 0.04 / target[0]),) * 2
    tracemalloc.start()
    try:
        result = regrid_labels(labels, make_wcs(), wcs, shape)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Blocks of 2^18 pixels, with a few float64 and integers for each.
    assert peak - result.nbytes < 16e6


# --- sources


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
