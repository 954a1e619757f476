"""The planes of an image as engines take them: variance, null pixels, pixels."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from astropy.nddata import InverseVariance, NDData, StdDevUncertainty

from dja_photplug.errors import PhotplugError
from dja_photplug.light import planes
from dja_photplug.light.planes import mask_sources, measure_sky, weigh_segments
from dja_photplug.mosaic import blocks
from dja_photplug.mosaic.blocks import Planes, native_pixels, null_pixels, variance_map
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.parallel.scratch import dump_shared
from tests.helpers import make_image


def test_variance_is_finite_and_positive_everywhere() -> None:
    weight = np.array([[0, 4, np.nan], [np.inf, -1, 1e-38]], dtype=np.float32)
    variance = variance_map(make_image(np.zeros((2, 3)), weight))
    assert variance.dtype == np.float32
    np.testing.assert_array_equal(variance, np.float32([[1e30, 0.25, 1e30], [1e30, 1e30, 1e30]]))


def test_variance_with_and_without_poisson_noise() -> None:
    image = make_image(np.zeros((2, 2)), weight=2.0, background=8.0)
    assert (variance_map(image, "full") == 0.5).all()
    assert (variance_map(image, "background") == 0.125).all()
    image.background_weight = None
    assert (variance_map(image, "background") == 0.5).all()


def test_other_uncertainties_are_converted() -> None:
    image = NDData(np.zeros((1, 3)), uncertainty=StdDevUncertainty([[0.0, 2.0, np.nan]]))
    np.testing.assert_array_equal(variance_map(image), np.float32([[1e30, 4, 1e30]]))
    assert null_pixels(image).tolist() == [[True, False, True]]


def test_image_without_uncertainty_is_refused() -> None:
    with pytest.raises(PhotplugError, match="no uncertainty"):
        variance_map(NDData(np.zeros((2, 2))))


def test_null_pixels_are_all_without_data() -> None:
    image = make_image([[1.0, np.nan, 1.0, 1.0]], [[1, 1, 0, 1]])
    image.mask = np.array([[False, False, False, True]])
    assert null_pixels(image).tolist() == [[False, True, True, True]]
    image.mask = None
    assert null_pixels(image).tolist() == [[False, True, True, False]]


def test_native_pixels_copy_only_what_sep_refuses() -> None:
    native = np.ones((3, 3), dtype=np.float32)
    assert native_pixels(native) is native
    with pytest.raises(ValueError, match="byte order"):
        sep.Background(native.astype(">f4"))
    assert native_pixels(native.astype(">f4")).dtype.isnative


def segments(shape: tuple[int, int], seed: int = 4) -> np.ndarray:
    """Discs of up to 12 pixels, whose labels are in no order and have gaps; the last one is dark."""
    rng, labels = np.random.default_rng(seed), np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for label in (9, 2, 31, 4, 17, 5):
        x, y, radius = rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), rng.uniform(2, 12)
        labels[np.hypot(columns - x, rows - y) < radius] = label
    labels[40:43] = 6  # from edge to edge
    return labels


def moments(data: np.ndarray, null: np.ndarray, labels: np.ndarray, label: int) -> list[float]:
    """Position and second moments of the positive light in a segment, summed at once."""
    y, x = np.nonzero(labels == label)
    light = np.where(null[y, x], 0, np.maximum(data[y, x], 0)).astype(float)
    light = light if light.sum() > 0 else np.ones_like(light)
    x0, y0 = np.average(x, weights=light), np.average(y, weights=light)
    covariance = np.cov(np.stack([x, y]), aweights=light, ddof=0)
    return [x0, y0, covariance[0, 0], covariance[1, 1], covariance[0, 1]]


@pytest.mark.parametrize("block", [2**22, 1, 700])
def test_segments_are_measured_in_blocks_as_at_once(monkeypatch, block: int) -> None:
    monkeypatch.setattr(planes, "BLOCK", block)
    labels = segments((90, 130))
    data = np.random.default_rng(5).normal(0.3, 1, labels.shape).astype(np.float32)
    data[labels == 5] = -1
    null = np.random.default_rng(6).random(labels.shape) < 0.1
    shapes, npix, *_ = weigh_segments(data, Planes(data, np.where(null, 0, 1), None, None), labels)
    assert shapes.label.tolist() == np.unique(labels)[1:].tolist()
    assert npix.tolist() == np.bincount(labels.ravel())[shapes.label].tolist()
    for i, label in enumerate(shapes.label):
        cos, sin = np.cos(shapes.theta[i]), np.sin(shapes.theta[i])
        xx, yy = (
            (shapes.a[i] * cos) ** 2 + (shapes.b[i] * sin) ** 2,
            (shapes.a[i] * sin) ** 2 + (shapes.b[i] * cos) ** 2,
        )
        xy = (shapes.a[i] ** 2 - shapes.b[i] ** 2) * cos * sin
        measured = [shapes.x[i], shapes.y[i], xx - 1 / 12, yy - 1 / 12, xy]
        np.testing.assert_allclose(measured, moments(data, null, labels, label), rtol=1e-9, atol=1e-9)


def test_moments_keep_their_digits_far_from_the_origin() -> None:
    labels = np.zeros((40, 40000), np.int32)
    labels[10:14, 39980:39990] = 1
    flat = np.ones(labels.shape, np.float32)
    shapes, *_ = weigh_segments(flat, Planes(flat, flat, None, None), labels)
    assert shapes.a[0] == pytest.approx(np.sqrt(99 / 12 + 1 / 12), rel=1e-13)


def test_the_sky_left_is_the_median_off_the_sources(monkeypatch) -> None:
    rng = np.random.default_rng(7)
    data = rng.normal(size=(60, 50)).astype(np.float32)
    weight = np.where(rng.random(data.shape) < 0.2, 0, rng.random(data.shape)).astype(np.float32)
    image, labels = make_image(data, weight), np.zeros(data.shape, np.int32)
    labels[20:24, 20:24] = 1
    mask, _ = mask_sources(image, labels, 1.0)
    taken, variance = mask | null_pixels(image), variance_map(image)
    expected = float(np.median(data[~taken])), float(np.sqrt(np.median(variance[~taken])))
    assert measure_sky(image, mask) == expected
    assert np.isnan(measure_sky(make_image(data, 0.0), mask)).all()
    # Of a large image every n-th block of rows.
    monkeypatch.setattr(blocks, "CACHED", 100)
    monkeypatch.setattr(planes, "MOST_SKY", 1000)
    some = np.isin(np.arange(60) // 2 % 4, 0)[:, None] & ~taken
    assert measure_sky(image, mask) == (float(np.median(data[some])), float(np.sqrt(np.median(variance[some]))))


def test_planes_are_the_same_in_blocks_and_in_place(monkeypatch) -> None:
    rng = np.random.default_rng(8)
    data, weight = rng.normal(size=(50, 70)), rng.choice([0, 1, 4, np.nan, np.inf], (50, 70))
    data[rng.random(data.shape) < 0.1] = np.nan
    image = make_image(data, weight, background=2 * weight)
    image.mask = rng.random(data.shape) < 0.1
    null, variance = null_pixels(image), variance_map(image, "background")
    assert null.tolist() == (image.mask | ~np.isfinite(data) | ~np.isin(weight, [1, 4])).tolist()
    monkeypatch.setattr(blocks, "CACHED", 100)
    np.testing.assert_array_equal(null_pixels(image), null)
    out = np.empty(data.shape, np.float32)
    assert variance_map(image, "background", out=out) is out
    np.testing.assert_array_equal(out, variance)
    part = Planes.of(image)[10:20]
    np.testing.assert_array_equal(part.null(), null[10:20])
    np.testing.assert_array_equal(part.variance("background"), variance[10:20])


def test_planes_of_a_mapped_image_are_its_maps(tmp_path) -> None:
    """They are pickled by the names of their files."""
    maps = []
    for i, kind in enumerate([np.float32, np.float32, np.float32, bool]):
        plane = np.memmap(tmp_path / f"{i}.bin", kind, "w+", shape=(200, 300))
        plane[:] = np.random.default_rng(i).random((200, 300)) > 0.2
        maps.append(plane)
    data, weight, background, mask = maps
    image = MosaicImage(
        data, unit="10 nJy", uncertainty=InverseVariance(weight, copy=False), mask=mask, background_weight=background
    )
    whole = Planes.of(image)
    for plane, expected in zip((whole.data, whole.weight, whole.background, whole.mask), maps, strict=True):
        assert np.shares_memory(plane, expected)
    assert len(dump_shared(whole)) < 2000
    assert Planes.of(image[2:9]).null().tolist() == whole[2:9].null().tolist() == null_pixels(image)[2:9].tolist()
