"""The stack of several bands: weights, variance, nested grids, files; truth by simulation."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from dja_photplug import MosaicImage, PhotplugError, find_mosaic, load_mosaic
from dja_photplug.mosaic.load import Block
from dja_photplug.mosaic.stack import coarsest_grid, stack_images, write_stack
from dja_photplug.simulate.mosaic import MosaicOptions, simulate_mosaic
from dja_photplug.simulate.scene import field_grid
from tests.helpers import isolated_scene, make_image

SHAPE = (12, 15)
GRID = field_grid(34.4, -5.2, SHAPE, 0.04)


def draw_image(seed: int, wcs: WCS = GRID, shape: tuple[int, int] = SHAPE) -> MosaicImage:
    """Random planes: a tenth of the pixels are null, half of those NaN, some with weight but no full weight."""
    rng = np.random.default_rng(seed)
    data, weight = rng.normal(3, 2, shape), rng.uniform(0.5, 2, shape)
    full = 1 / (1 / weight + np.maximum(data, 0) / 5)
    null = rng.random(shape)
    full[(null > 0.02) & (null < 0.1)] = 0
    weight[null < 0.07] = 0
    weight[null < 0.02] = np.nan
    data[null < 0.05] = np.nan
    return make_image(data, full, weight, wcs, {"NOISE": "calibrated"})


def stack_literally(bands: list[tuple[MosaicImage, int, int, int]], shape: tuple[int, int]) -> np.ndarray:
    """The definition, pixel by pixel in float64: data, background weight, full weight.

    Each image comes with its ratio, and the row and column where the grid's pixel (0, 0) begins.
    """
    result = np.zeros((3, *shape))
    for j, i in np.ndindex(shape):
        d, w, p = [], [], []
        for image, ratio, y, x in bands:
            cell = np.s_[y + ratio * j : y + ratio * (j + 1), x + ratio * i : x + ratio * (i + 1)]
            if cell[0].start < 0 or cell[1].start < 0:
                continue
            planes = (image.data, image.background_weight, image.uncertainty.array)
            flux, weight, full = (np.asarray(plane[cell], float) for plane in planes)
            if flux.size < ratio**2 or not (np.all(weight > 0) and np.all(full > 0)):
                continue
            d.append(np.sum(flux))
            w.append(1 / np.sum(1 / weight))
            p.append(max(np.sum(1 / full) - np.sum(1 / weight), 0))
        if w:
            d, w, p = np.array(d), np.array(w), np.array(p)
            variance = 1 / np.sum(w) + np.sum(w**2 * p) / np.sum(w) ** 2
            result[:, j, i] = np.sum(w * d) / np.sum(w), np.sum(w), 1 / variance
    return result


def assert_planes(stack: MosaicImage, expected: np.ndarray) -> None:
    planes = (stack.data, stack.background_weight, stack.uncertainty.array)
    for plane, truth in zip(planes, expected, strict=True):
        assert plane.dtype == np.float32
        # float32 sums of three terms; data may cancel to a small part of the terms of size 5.
        np.testing.assert_allclose(plane, truth, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(stack.mask, expected[1] == 0)


# ---- the formula


def test_stack_is_the_formula_of_each_pixel() -> None:
    """Three bands: on the grid itself, shifted and smaller, and of half the pixel size from an odd pixel on."""
    fine = field_grid(34.4, -5.2, (24, 30), 0.02)[3:, 5:28]
    bands = [
        (draw_image(1), 1, 0, 0),
        (draw_image(2, GRID[2:9, 4:20], (7, 11)), 1, -2, -4),
        (draw_image(3, fine, (21, 23)), 2, -3, -5),
    ]
    images = [band[0] for band in bands]
    stack = stack_images(iter(images), GRID, SHAPE, ["f444w", "f277w", "f115w"])
    expected = stack_literally(bands, SHAPE)
    assert np.any(expected[1] == 0)
    assert_planes(stack, expected)
    assert stack.wcs is GRID
    assert stack.unit == u.Unit("10 nJy")
    assert [stack.meta[f"STACK{i}"] for i in (1, 2, 3)] == ["f444w", "f277w", "f115w"]
    assert (stack.meta["NSTACK"], stack.meta["NOISE"], stack.meta["FILTER"]) == (3, "calibrated", "IR")
    assert stack.meta["ZEROPNT"] == pytest.approx(28.9)
    # On a grid larger than all of them.
    larger = GRID.deepcopy()
    larger.wcs.crpix += 6
    assert_planes(
        stack_images(images, larger, (24, 24), ["a", "b", "c"]),
        stack_literally([(image, r, y - 6 * r, x - 6 * r) for image, r, y, x in bands], (24, 24)),
    )


def test_one_missing_fine_pixel_makes_the_sum_null() -> None:
    wcs = field_grid(34.4, -5.2, (24, 30), 0.02)
    ones = np.ones((24, 30))
    weight = ones.copy()
    weight[4, 7] = 0
    stack = stack_images([make_image(ones, weight, weight, wcs)], GRID, SHAPE, ["f115w"])
    expected = np.full(SHAPE, 4.0)  # four pixels of flux 1
    expected[2, 3] = 0
    np.testing.assert_array_equal(stack.data, expected)
    np.testing.assert_array_equal(stack.background_weight, expected / 16)  # four variances of 1
    np.testing.assert_array_equal(stack.mask, expected == 0)


def test_without_background_weight_all_variance_is_background() -> None:
    image = draw_image(4)
    image.background_weight = None
    other = draw_image(5)
    expected = draw_image(4)
    expected.background_weight = image.uncertainty.array
    planes = stack_literally([(expected, 1, 0, 0), (other, 1, 0, 0)], SHAPE)
    assert_planes(stack_images([image, other], GRID, SHAPE, ["a", "b"]), planes)


def test_band_off_the_grid_is_not_named() -> None:
    far = GRID.deepcopy()
    far.wcs.crpix += 100
    stack = stack_images([draw_image(1), draw_image(2, far)], GRID, SHAPE, ["f444w", "f115w"])
    assert_planes(stack, stack_literally([(draw_image(1), 1, 0, 0)], SHAPE))
    assert (stack.meta["NSTACK"], stack.meta["STACK1"], "STACK2" in stack.meta) == (1, "f444w", False)
    with pytest.raises(PhotplugError, match=r"none of the bands to stack \(f115w\) overlaps"):
        stack_images([draw_image(2, far)], GRID, SHAPE, ["f115w"])


@pytest.mark.parametrize(
    ("scale", "offset"), [(0.03, 0.0), (0.08, 0.0), (0.04, 0.3)], ids=["no ratio", "coarser", "half-way"]
)
def test_band_that_does_not_nest_is_named(scale: float, offset: float) -> None:
    wcs = field_grid(34.4, -5.2, SHAPE, scale)
    wcs.wcs.crpix += offset
    with pytest.raises(PhotplugError, match=r"pixels of f770w \(\d+ mas\) do not nest.*\(40 mas\).*--detect FILTER"):
        stack_images([draw_image(1), draw_image(2, wcs)], GRID, SHAPE, ["f444w", "f770w"])


def test_one_image_is_in_memory_at_a_time() -> None:
    alive: list[weakref.ref[MosaicImage]] = []

    def load(seed: int) -> MosaicImage:
        assert not any(reference() is not None for reference in alive)
        image = draw_image(seed)
        alive.append(weakref.ref(image))
        return image

    stack_images((load(seed) for seed in range(4)), GRID, SHAPE, ["a", "b", "c", "d"])
    assert len(alive) == 4


@pytest.mark.parametrize(
    ("flux", "percent"), [((10, 10), -5.0), ((30, 30), -1.7), ((60, 30), -11.9)], ids=["S/N 3", "S/N 5", "two colours"]
)
def test_weights_with_the_sources_photons_make_fluxes_too_faint(flux: tuple[int, int], percent: float) -> None:
    """Two bands of equal depth: a background variance of 1, and photons of variance equal to the flux.

    Weights 1 / (1 + data) make the mean 2ab / (a + b) - 1 with a, b = 1 + data, which falls short by colour, and by
    noise, whose variances a and b make it 2ab / (a + b)^2 less to second order: half an electron without colour.
    """
    rng, shape = np.random.default_rng(1), (600, 700)
    wcs = field_grid(34.4, -5.2, shape, 0.04)
    images = []
    for signal in flux:
        data = rng.normal(0, 1, shape) + rng.poisson(signal, shape)
        images.append(make_image(data, 1 / (1 + np.maximum(data, 0)), 1.0, wcs))
    right = stack_images(images, wcs, shape, ["a", "b"]).data
    for image in images:
        image.background_weight = image.uncertainty.array
    wrong = stack_images(images, wcs, shape, ["a", "b"]).data
    a, b = 1 + np.array(flux)
    expected = 2 * a * b / (a + b) - 2 * a * b / (a + b) ** 2 - 1
    # The mean of 420,000 pixels is good to 0.01 in these units; the third order of the noise is below 0.02.
    assert np.mean(right) == pytest.approx(np.mean(flux), abs=0.03)
    assert np.mean(wrong) == pytest.approx(expected, abs=0.05)
    assert 100 * (np.mean(wrong) / np.mean(flux) - 1) == pytest.approx(percent, abs=0.15)  # as docs/stacks.md says


# ---- truth


@dataclass(frozen=True)
class Bands:
    """F444W at 40 mas and F115W at 20 mas of one scene: images and noise-free images on the 40 mas grid, and stack."""

    prefixes: list[Path]
    images: list[MosaicImage]
    truth: list[np.ndarray]
    stack: MosaicImage
    noise_free: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def sky(self) -> np.ndarray:
        """Pixels with data and hardly any light, 0.05 of the background error, in both bands."""
        pairs = list(zip(self.truth, self.weights, strict=True))
        return np.all([(w > 0) & (light * np.sqrt(w) < 0.05) for light, w in pairs], axis=0)

    @property
    def weights(self) -> list[np.ndarray]:
        return [np.asarray(image.background_weight, float) for image in self.images]


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Bands:
    pytest.importorskip("drizzle", reason="the simulator needs the extra: dja_photplug[demo]")
    folder = tmp_path_factory.mktemp("stack")
    scene = isolated_scene(
        shape=(402, 405), bands=("f444w", "f115w"), n_sources=25, star_fraction=0.6, flux_range=(5, 100), seed=3
    )
    made = [
        simulate_mosaic(folder, scene, MosaicOptions(root="sim", filter=f"{name}-clear", subsample=k, n_exposures=n))
        for name, k, n in (("f444w", 1, 4), ("f115w", 2, 3))
    ]
    wcs, shape = coarsest_grid({str(mosaic.prefix): find_mosaic(mosaic.prefix).grid() for mosaic in made})
    loaded = [load_mosaic(mosaic.prefix, "calibrated") for mosaic in made]
    # One image on the grid is the image itself, rebinned: the formula above is tested on small arrays.
    images = [stack_images([image], wcs, shape, ["band"]) for image in loaded]
    truth = [fits.getdata(mosaic.truth_image).astype(float) for mosaic in made]
    truth[1] = truth[1].reshape(402, 2, 405, 2).sum((1, 3))
    x, y = wcs.wcs_world2pix(scene["ra"], scene["dec"], 0)
    stack = stack_images(iter(loaded), wcs, shape, ["f444w", "f115w"])
    noise_free = np.average(truth, axis=0, weights=[image.background_weight for image in images])
    return Bands([mosaic.prefix for mosaic in made], images, truth, stack, noise_free, x, y)


def test_empty_pixels_scatter_by_the_inverse_variance_combination(bands: Bands) -> None:
    sky = bands.sky
    assert np.count_nonzero(sky) > 50_000
    weights = [weight[sky] for weight in bands.weights]
    # Scatter over error of single pixels is below 1, as drizzling correlates them, and not the same in both bands.
    factors = [np.std(image.data[sky] * np.sqrt(w)) for image, w in zip(bands.images, weights, strict=True)]
    share = np.mean(weights[0] / np.sum(weights, axis=0))
    assert 0.3 < share < 0.7
    # (w1 d1 + w2 d2) / sqrt(w1 + w2) with d_b of variance f_b^2 / w_b.
    expected = np.sqrt(share * factors[0] ** 2 + (1 - share) * factors[1] ** 2)
    pull = bands.stack.data * np.sqrt(bands.stack.background_weight)
    # 1 % is the sampling error of the correlation of two images, 1/sqrt(2 N), for N = 5,000 independent patches.
    assert np.std(pull[sky]) == pytest.approx(expected, rel=0.01)
    for image in bands.images:
        assert np.std(bands.stack.data[sky]) < np.std(image.data[sky])


def test_blocks_of_pixels_scatter_as_the_stack_says(bands: Bands) -> None:
    """Sums over 12 x 12 pixels, large against a drop, around the noise-free stack."""
    residual = bands.stack.data - bands.noise_free
    flux, variance = (
        plane[:396, :396].reshape(33, 12, 33, 12).sum((1, 3)) for plane in (residual, 1 / bands.stack.uncertainty.array)
    )
    # 0.93 to 0.98 by the size of the area, as of one band (tests/simulate); 2 % sampling error of 1,089 blocks.
    assert np.std(flux / np.sqrt(variance)) == pytest.approx(0.95, abs=0.06)


def test_bright_pixels_scatter_as_the_full_variance_says(bands: Bands) -> None:
    """As much as empty ones do; by the background variance alone they scatter three times as much."""
    bright = bands.noise_free * np.sqrt(bands.stack.background_weight) > 30
    residual = bands.stack.data - bands.noise_free
    empty = np.std(residual[bands.sky] * np.sqrt(bands.stack.background_weight[bands.sky]))
    by_full, by_wht = (
        np.std(residual[bright] * np.sqrt(weight[bright]))
        for weight in (bands.stack.uncertainty.array, bands.stack.background_weight)
    )
    # Sampling error 1.5 %: of 8,400 bright pixels, four are worth one for their correlation.
    assert by_full / empty == pytest.approx(1, abs=0.06)
    assert by_wht / empty > 3


def test_bright_fluxes_are_the_weighted_mean_of_the_bands(bands: Bands) -> None:
    """In an aperture the mean of the weights stands for those of the pixels.

    Weights scatter by 12 % from pixel to pixel, and a source has its light in some 20 pixels. So the weighted mean is
    good to 12 % / sqrt(2 x 20), 2 %, of the difference of the bands, half the flux: 1 %, and 0.2 % in the mean.
    """
    fluxes = [sep.sum_circle(image.data, bands.x, bands.y, 12.5)[0] for image in (*bands.images, bands.stack)]
    weights = [sep.sum_circle(weight, bands.x, bands.y, 12.5)[0] for weight in bands.weights]
    assert np.ptp(fluxes[0] / fluxes[1]) > 0.5  # there are colours
    ratio = fluxes[2] / np.average(fluxes[:2], axis=0, weights=weights)
    np.testing.assert_allclose(ratio, 1, atol=0.01)
    assert np.mean(ratio) == pytest.approx(1, abs=0.002)


class Rows:
    """An image whose rows come in blocks of a height, each of which is overwritten by the next."""

    def __init__(self, image: MosaicImage, height: int) -> None:
        self.image, self.height = image, height
        self.wcs, self.shape, self.read = image.wcs, image.shape, 0

    def meta(self) -> fits.Header:
        return self.image.meta

    def blocks(self) -> Iterator[Block]:
        planes = (self.image.data, self.image.background_weight, self.image.uncertainty.array)
        held = np.empty((3, self.height, self.shape[1]), np.float32)
        for rows in (slice(y, min(y + self.height, self.shape[0])) for y in range(0, self.shape[0], self.height)):
            held[:] = np.nan
            for place, plane in zip(held, planes, strict=True):
                place[: rows.stop - rows.start] = plane[rows]
            self.read = rows.stop
            yield Block(rows, *held[:, : rows.stop - rows.start])


@pytest.mark.parametrize("heights", [(1, 2, 3), (7, 5, 100), (24, 24, 24)])
@pytest.mark.parametrize("read", [(0, 1, 2), (1,), (0, 2)], ids=str)
def test_rows_as_they_are_read_make_the_same_stack(
    monkeypatch: pytest.MonkeyPatch, heights: tuple[int, ...], read: tuple[int, ...]
) -> None:
    """Whole images or rows, in whatever blocks these come and the stack is made; each is read to its end."""
    fine = field_grid(34.4, -5.2, (24, 30), 0.02)[3:, 5:28]
    bands = [
        (draw_image(1), 1, 0, 0),
        (draw_image(2, GRID[2:9, 4:20], (7, 11)), 1, -2, -4),
        (draw_image(3, fine, (21, 23)), 2, -3, -5),
    ]
    names = ["f444w", "f277w", "f115w"]
    whole = stack_images([image for image, *_ in bands], GRID, SHAPE, names)
    for pixels in (1, 45, 1 << 18):
        monkeypatch.setattr("dja_photplug.mosaic.stack.BLOCK_PIXELS", pixels)
        rows = {i: Rows(bands[i][0], heights[i]) for i in read}
        images = [rows.get(i, image) for i, (image, *_) in enumerate(bands)]
        with ThreadPoolExecutor(2) as pool:
            stack = stack_images(images, GRID, SHAPE, names, parallel=pool.map)
        assert_planes(stack, stack_literally(bands, SHAPE))
        assert dict(stack.meta) == dict(whole.meta)
        assert [each.read for each in rows.values()] == [each.shape[0] for each in rows.values()]


# ---- the grid


def test_coarsest_grid_is_that_of_the_largest_pixels(bands: Bands) -> None:
    coarse, fine = ((str(prefix), find_mosaic(prefix).grid()) for prefix in bands.prefixes)
    for grids in ([coarse, fine], [fine, coarse]):
        wcs, shape = coarsest_grid(dict(grids))
        assert shape == (402, 405)
        np.testing.assert_array_equal(wcs.wcs.crpix, bands.stack.wcs.wcs.crpix)
    assert coarsest_grid(dict([fine])).shape == (804, 810)


def test_stack_of_cutouts_is_the_cutout_of_the_stack(bands: Bands) -> None:
    files = [find_mosaic(prefix) for prefix in bands.prefixes]
    cutout = (bands.stack.wcs.pixel_to_world(101, 201), (60 * 0.04, 80 * 0.04) * u.arcsec)
    grids = {str(each): each.grid() for each in files}
    wcs, shape = coarsest_grid(grids, cutout)
    assert shape == (60, 80)
    images = (load_mosaic(each, "calibrated", cutout) for each in files)
    part = stack_images(images, wcs, shape, ["f444w", "f115w"])
    whole = bands.stack[171:231, 61:141]
    # An edge may have one band only: the cut-out of 160 x 120 fine pixels begins within a coarse one.
    inner = np.s_[1:-1, 1:-1]
    np.testing.assert_array_equal(part.data[inner], whole.data[inner])
    np.testing.assert_array_equal(part.uncertainty.array[inner], whole.uncertainty.array[inner])
    with pytest.raises(PhotplugError, match=r"f444w-clear: cut-out .* lies off the mosaic"):
        coarsest_grid(grids, (SkyCoord(0 * u.deg, 0 * u.deg), 1 * u.arcsec))


# ---- files


@pytest.mark.parametrize("drizzle", ["drc", "drz"])
def test_written_stack_loads_as_an_ir_mosaic(tmp_path: Path, drizzle: str) -> None:
    stack = stack_images([draw_image(1), draw_image(2)], GRID, SHAPE, ["f444w", "f115w"])
    paths = write_stack(stack, tmp_path, "uds-test-v7.4", drizzle)
    assert [path.name for path in paths] == [f"uds-test-v7.4-ir_{drizzle}_{kind}.fits.gz" for kind in ("sci", "wht")]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    back = load_mosaic(tmp_path / "uds-test-v7.4-ir", "background")
    np.testing.assert_array_equal(back.data, stack.data)
    np.testing.assert_array_equal(back.background_weight, stack.background_weight)
    np.testing.assert_array_equal(back.uncertainty.array, stack.background_weight)
    np.testing.assert_array_equal(back.mask, stack.mask)
    sky = (wcs.pixel_to_world([0, 14], [0, 11]) for wcs in (back.wcs, GRID))
    assert np.all(next(sky).separation(next(sky)) < 1e-6 * u.arcsec)
    assert (back.meta["STACK1"], back.meta["STACK2"], back.meta["FILTER"]) == ("f444w", "f115w", "IR")
    header = fits.getheader(paths[0])
    assert (header["BUNIT"], header["PHOTFNU"]) == ("10.0*nanoJansky", 1e-8)
    assert find_mosaic(tmp_path / "uds-test-v7.4-ir").band == "ir"
    with pytest.raises(PhotplugError, match="uds-test-v7.4-ir_.*neither; use the noise preset 'background'"):
        load_mosaic(tmp_path / "uds-test-v7.4-ir")


def test_stack_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    stack = stack_images([draw_image(1)], GRID, SHAPE, ["f444w"])
    old = tmp_path / "sim-ir_drc_wht.fits.gz"
    old.write_text("mine")
    with pytest.raises(PhotplugError, match=r"sim-ir_drc_wht.fits.gz: already exists"):
        write_stack(stack, tmp_path, "sim")
    assert (list(tmp_path.iterdir()), old.read_text()) == ([old], "mine")
    paths = write_stack(stack, tmp_path, "sim", overwrite=True)
    assert all(path.is_file() for path in paths)
    for root, drizzle in (("", "drc"), ("sim", "drx")):
        with pytest.raises(PhotplugError, match="not the name of a DJA mosaic"):
            write_stack(stack, tmp_path, root, drizzle)
    with pytest.raises(PhotplugError, match="folder .*nowhere does not exist"):
        write_stack(stack, tmp_path / "nowhere", "sim")
