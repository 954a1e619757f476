"""Weights and pixels that agree, and that do not: on noise of known scatter, and on real mosaics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter

import dja_photplug as dp
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.scatter import CellSampler, check_weight, measure_scatter
from dja_photplug.sky.grid import row_blocks
from tests.helpers import gaussian, make_image, uds_prefix

REAL = {
    "f444w": "uds/uds-test-v7.4-f444w-clear",
    "f115w": "uds/uds-test-v7.4-f115w-clear",
    "tile": "tile/tile-2582x30y36-f444w-clear",
    "hst": "hst/abell2744clu-grizli-v7.0-f105w",
}


def make_noise(sigma: float = 1.0, size: int = 200, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, (size, size)).astype(np.float32)


def make_mosaic(data: np.ndarray, weight: object = 1.0) -> MosaicImage:
    return make_image(data, weight, background=weight)


@pytest.mark.parametrize("sigma", [0.1, 1, 40])
def test_white_noise_scatters_as_it_does(sigma: float) -> None:
    scatter = measure_scatter(make_noise(sigma), np.ones((200, 200), np.float32), 8)
    assert len(scatter) == 625
    # The rms of 58 numbers in 625 cells: the median is known to 1.25 * 0.093 / 25 = 0.005, and lies 0.6 % low.
    assert np.median(scatter) == pytest.approx(sigma, rel=0.02)


def test_sky_gradients_sources_and_depth_do_not_count() -> None:
    y, x = np.indices((200, 200))
    weight = np.where(x < 100, 1.0, 16.0) * np.random.default_rng(2).uniform(0.9, 1.1, x.shape)
    data = make_noise() / np.sqrt(weight) + 30 + 0.1 * x + 0.05 * y
    for i in range(9):
        data += gaussian((200, 200), 20 + 20 * i, 100 + 9 * (i % 3), 3, 1000)
    assert np.median(measure_scatter(data, weight, 8)) == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("height", [1, 3, 8, 21, 150])
@pytest.mark.parametrize(("size", "cell"), [(203, 8), (203, 9), (1500, 8), (5, 8)])
def test_blocks_of_rows_scatter_as_the_whole_does(height: int, size: int, cell: int) -> None:
    """To the last bit, also where only some of the cells are looked at: 1500 has 34,969 cells and 20,000 would do."""
    data, weight = make_noise(size=size), np.random.default_rng(3).uniform(1, 2, (size, size)).astype(np.float32)
    weight[:40, :60] = 0
    sampler = CellSampler(data.shape, cell)
    for rows in row_blocks(data.shape, height * size):
        sampler.add(rows, data[rows], weight[rows])
    whole = measure_scatter(data, weight, cell)
    assert (len(whole) > 0) == (size > cell)
    np.testing.assert_array_equal(sampler.scatter(), whole)


def test_cells_without_data_are_left_out() -> None:
    data, weight = make_noise(), np.ones((200, 200), np.float32)
    data[:100] = 0  # padded, with a weight
    data[100:120], weight[120:140], weight[140:160], weight[160:180] = np.nan, 0, -1, np.inf
    scatter = measure_scatter(data, weight, 8)
    assert len(scatter) == 2 * 25  # rows 184 to 199
    assert np.median(scatter) == pytest.approx(1, rel=0.05)
    assert (measure_scatter(np.zeros((80, 80)), np.ones((80, 80)), 8) == 0).all()


@pytest.mark.parametrize(
    ("sigma", "outcome"),
    [
        (0.01, "refused"),
        (0.1, "warned"),
        (0.4, ""),
        (1, ""),
        (1.8, ""),
        (3, "warned"),
        (30, "refused"),
        (1892, "refused"),
    ],
)
def test_contradictions_are_told_or_refused(sigma: float, outcome: str) -> None:
    image = make_mosaic(make_noise(sigma))
    words = "mine: the pixels scatter by .* times the sigma of the weight \\(usually 0.5 to 1\\).* --trust-weights"
    if outcome == "refused":
        with pytest.raises(dp.PhotplugError, match=words):
            check_weight(image, "mine")
    elif outcome == "warned":
        with pytest.warns(dp.PhotplugWarning, match=words):
            check_weight(image, "mine")
    else:
        check_weight(image, "mine")  # a warning would be an error


def test_the_full_variance_is_looked_at_too() -> None:
    image = make_image(make_noise(), 100.0, background=1.0)
    with pytest.warns(dp.PhotplugWarning, match="scatter by 9.* times the sigma of the full weight"):
        check_weight(image, "mine")


def test_small_images_are_refused_by_their_quietest_cell_and_not_warned_of() -> None:
    star = gaussian((32, 32), 15, 16, 2, 500)
    check_weight(make_mosaic(make_noise(size=32) + star), "mine")
    check_weight(make_mosaic(make_noise(5, size=32)), "mine")
    check_weight(make_mosaic(make_noise(1000, size=16)), "mine")  # four cells say nothing
    with pytest.raises(dp.PhotplugError, match="--trust-weights"):
        check_weight(make_mosaic(make_noise(1000, size=32) + star), "mine")


def test_correlated_noise_is_as_usual() -> None:
    """Smoothed by a Gaussian of 0.8 pixels, pixels scatter by 0.35 of what sums of them do: no warning."""
    smooth = gaussian_filter(make_noise(), 0.8)
    assert 0.26 < np.median(measure_scatter(smooth, np.ones((200, 200), np.float32), 8)) < 0.30 < smooth.std()
    check_weight(make_mosaic(smooth), "mine")


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        *((name, "dja") for name in ("f444w", "tile", "hst")),
        ("f444w", "background"),
        pytest.param("f115w", "dja", marks=pytest.mark.slow),
        *(pytest.param(name, "background", marks=pytest.mark.slow) for name in ("f115w", "tile", "hst")),
    ],
)
def test_real_mosaics_and_their_parts_agree_with_their_weights(data, name: str, noise: str) -> None:
    """No warning, which would be an error, for the whole and for cut-outs, also around the brightest peaks."""
    image = dp.load_mosaic(data / REAL[name], noise)
    ratio = np.median(measure_scatter(image.data, image.background_weight, 8))
    assert 0.5 < ratio < 0.85
    light = np.nan_to_num(image.data)
    peaks = np.argwhere(light == maximum_filter(light, 21))
    peaks = peaks[np.argsort(-light[tuple(peaks.T)])][:40]
    anywhere = np.random.default_rng(1).integers(0, light.shape, (100, 2))
    for side in (16, 32, 64, 75, 150):
        for y, x in [*peaks, *anywhere]:
            part = np.s_[max(y - side // 2, 0) : y + side // 2, max(x - side // 2, 0) : x + side // 2]
            check_weight(image[part], f"{side} pixels around {x}, {y}")


def test_a_real_weight_in_other_units(data, tmp_path) -> None:
    """As of a real product of MIRI, off by 1,892 in sigma, that passed with an a(r) of 2153."""
    image = dp.load_mosaic(uds_prefix(data), cutout=(slice(0, 100), slice(0, 100)))
    image.background_weight *= np.float32(1892**2)
    with pytest.raises(dp.PhotplugError, match="scatter by 1.* times the sigma of the weight"):
        check_weight(image, "mine")


def test_weights_are_trusted_on_request(simulated, monkeypatch) -> None:
    monkeypatch.setattr("dja_photplug.mosaic.scatter.LIKELY", (0.9, 1.0))
    with pytest.warns(dp.PhotplugWarning, match="scatter by 0.5"):
        dp.load_mosaic(simulated.prefix)
    dp.load_mosaic(simulated.prefix, dp.VarianceOptions(trust_weights=True))
    assert replace(dp.VarianceOptions(), trust_weights=True).trust_weights
