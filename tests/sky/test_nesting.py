"""Labels on other grids: nested grids exactly, others against the WCS of every pixel."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs.utils import pixel_to_pixel

from dja_photplug.sky.grid import header_wcs
from dja_photplug.sky.nesting import Nesting, find_nesting, regrid_labels
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
