"""Images convolved block by block: against one transform of the whole, with holes, edges and regions; and weights."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from photutils.aperture import CircularAperture
from scipy.signal import fftconvolve

from dja_photplug.light.mesh import Mesh
from dja_photplug.matching import convolution
from dja_photplug.matching.convolution import Kernels, convolve_image
from dja_photplug.matching.kernels import MatchingKernel
from dja_photplug.matching.weights import Weights, sum_noise
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.grid import pixel_scale
from tests.helpers import gaussian, make_image

HALF = 12
RADII = (4.0, 6.25, 12.5)


def make_kernel(sigma: float) -> MatchingKernel:
    """Return a Gaussian, sigma in pixels, with a lobe on one side, so that its sense is told."""
    side = 2 * HALF + 1
    data = gaussian((side, side), HALF, HALF, sigma) + gaussian((side, side), HALF + 3, HALF, sigma, -0.05)
    psf = PSF(data=data, scale=0.04, centre=(HALF, HALF), name="any")
    return MatchingKernel(data=data / data.sum(), scale=0.04, matched=psf, target=psf)


def draw_psf(sigma: float, side: int) -> PSF:
    """Return a Gaussian PSF, sigma in pixels."""
    middle = side // 2
    data = gaussian((side, side), middle, middle, sigma)
    return PSF(data=data / data.sum(), scale=0.04, centre=(middle, middle), name=f"{sigma:g}")


@pytest.fixture
def image() -> MosaicImage:
    rng = np.random.default_rng(1)
    weight = np.full((220, 260), 4.0)
    weight[:, 130:] = 1
    weight[50:80, 60:95] = weight[150, 150] = 0
    data = rng.normal(size=weight.shape) + gaussian(weight.shape, 200, 100, 2, 500)
    data[60, 70] = np.nan
    full = np.where(weight > 0, 1 / (1 / np.where(weight > 0, weight, 1) + np.maximum(np.nan_to_num(data), 0) / 5), 0)
    return make_image(data, full, weight)


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(convolution, "SIDE", 100)


def test_is_that_of_the_whole(image, small_blocks) -> None:
    """In numpy on the whole: data and variances by K and K^2, over what of the kernel's core is on data."""
    kernel = make_kernel(2.0).data
    level = Mesh(nodes=np.full((1, 1), 0.5, np.float32), cells=image.shape, grid=image.shape)
    matched = convolve_image(image, level, Kernels(kernels=(make_kernel(2.0),)))
    known = ~image.mask
    light = fftconvolve(np.where(known, np.nan_to_num(image.data) - 0.5, 0), kernel, mode="same")
    weight = np.where(known, image.background_weight, 1)
    variance = fftconvolve(np.where(known, 1 / weight, 0), kernel**2, mode="same")
    null = fftconvolve(known.astype(float), kernel, mode="same") < 0.9
    np.testing.assert_array_equal(matched.mask, null)
    assert 0 < null.sum() < known.size / 2
    assert np.all(matched.uncertainty.array[null] == 0)
    far = ~null & (fftconvolve(np.pad(known, 0).astype(float), np.ones_like(kernel), mode="same") > kernel.size - 0.5)
    assert far.any()
    np.testing.assert_allclose(matched.data[far], light[far], atol=1e-4)
    np.testing.assert_allclose(1 / matched.uncertainty.array[far], variance[far], rtol=1e-4)


def test_single_bad_pixel_is_made_good(small_blocks) -> None:
    """Nothing is null around it, and a level stays what it is."""
    weight = np.ones((120, 120))
    weight[60, 60] = 0
    matched = convolve_image(
        make_image(np.full((120, 120), 3.0), weight, weight), None, Kernels(kernels=(make_kernel(2.0),))
    )
    inner = np.s_[2 * HALF : -2 * HALF, 2 * HALF : -2 * HALF]
    assert not matched.mask[inner].any()
    np.testing.assert_allclose(matched.data[inner], 3, rtol=0.01)


def test_source_beside_an_edge_keeps_its_light(small_blocks) -> None:
    """Beyond the reach of the kernel's core nothing is divided: wings that are off the image are those of others."""
    data = gaussian((120, 120), 11, 60, 1.2, 100)
    matched = convolve_image(make_image(data, 1.0, 1.0), None, Kernels(kernels=(make_kernel(2.0),)))
    assert matched.data[40:81, 1:31].sum() == pytest.approx(data.sum(), rel=0.01)


def test_regions_have_their_own_kernels(image, small_blocks) -> None:
    pair = make_kernel(1.5), make_kernel(3.0)
    columns = np.arange(image.data.shape[1])
    labels = np.broadcast_to(np.where(columns < 130, 0, np.where(columns < 250, 1, -1)), image.data.shape)
    model = PSFModel(stamps=(pair[0].target,) * 2, name="two", labels=labels.astype(np.int16), wcs=image.wcs)
    kernels = Kernels(kernels=pair, psf=model, wcs=image.wcs)
    both = convolve_image(image, None, kernels)
    for kernel, part in zip(pair, (np.s_[:130], np.s_[130:250]), strict=True):
        alone = convolve_image(image, None, Kernels(kernels=(kernel,)))
        np.testing.assert_array_equal(both.data[:, part], alone.data[:, part])
        np.testing.assert_array_equal(both.mask[:, part], alone.mask[:, part])
    assert both.mask[:, 250:].all()
    x, y = np.array([40.3, 200.2, 255.0]), np.array([150.0, 100.4, 100.0])
    sums = sum_noise(image, kernels, x, y, RADII, "photons")
    for i, kernel in enumerate(pair):
        one = sum_noise(image, Kernels(kernels=(kernel,)), x, y, RADII, "photons")
        np.testing.assert_allclose(sums[i], one[i], rtol=1e-6)
    assert np.all(sums[2] == 0)


def test_kernels_are_those_of_the_regions_of_a_psf(image) -> None:
    """Stamps of two sizes; the second region is brought to the target, the first has its PSF."""
    narrow, wide = draw_psf(1.2, 41), draw_psf(2.0, 61)
    labels = np.zeros((2, 3), np.int16)
    labels[:, 2] = 1
    cells = WCS(naxis=2)
    cells.wcs.ctype, cells.wcs.crval = ["RA---TAN", "DEC--TAN"], image.wcs.wcs.crval
    ny, nx = image.data.shape
    x0, y0 = image.wcs.wcs.crpix - 1
    cells.wcs.cdelt = np.array([-1, 1]) * pixel_scale(image.wcs) / 3600 * nx / 3
    cells.wcs.crpix = np.array([x0, y0]) / (nx / 3) + 1
    model = PSFModel(stamps=(wide, narrow), name="two", labels=labels, wcs=cells)
    kernels = Kernels.bring(model, wide, image.wcs)
    assert {kernel.data.shape for kernel in kernels.kernels} == {kernels.kernels[0].data.shape}
    for kernel in kernels.kernels:
        assert np.abs(kernel.residual).max() < 0.005
        assert kernel.data.sum() == pytest.approx(1, abs=1e-12)
    numbers = kernels.on((slice(0, ny), slice(0, nx)))
    assert set(np.unique(numbers)) <= {-1, 0, 1}
    x, y = (place.ravel().astype(float) for place in np.meshgrid(np.arange(5, nx, 40), np.arange(5, ny, 40)))
    for number, chosen in kernels.of_sources(x, y):
        assert (numbers[y[chosen].astype(int), x[chosen].astype(int)] == number).all()


def test_weights_are_those_of_the_aperture_convolved() -> None:
    kernel = make_kernel(2.0).data
    for radius, nodes, most in ((4.0, 4, 0.02), (6.25, 7, 1e-3), (12.5, 7, 1e-3)):
        weights = Weights.of(kernel, radius, nodes=nodes)
        half = weights.reach
        for dx, dy in ((0.0, 0.0), (0.31, -0.44), (-0.5, 0.5)):
            circle = CircularAperture((half + dx, half + dy), radius).to_mask(method="exact")
            shape = (2 * half + 1, 2 * half + 1)
            expected = fftconvolve(circle.to_image(shape), kernel[::-1, ::-1], mode="same")
            found = weights(np.array([dx]), np.array([dy]))[0]
            np.testing.assert_allclose(found, expected, atol=most)


@pytest.mark.parametrize("kind", ["photons", "full"])
def test_noise_of_sums_is_that_of_realisations(kind) -> None:
    """2,000 draws of independent pixels: the scatter of a convolved sum has an error of 1.6 %."""
    rng = np.random.default_rng(3)
    shape, kernel = (81, 81), make_kernel(2.0)
    light = gaussian(shape, 40.2, 39.7, 1.5, 400)
    background, electrons = 1.0, 2.0
    image = make_image(light, 1 / (background + light / electrons), np.full(shape, 1 / background))
    variance = light / electrons + (background if kind == "full" else 0)
    weight = fftconvolve(CircularAperture((40.2, 39.7), 4).to_mask(method="exact").to_image(shape),
                         kernel.data[::-1, ::-1], mode="same")  # fmt: skip
    sums = [(rng.normal(size=shape) * np.sqrt(variance) * weight).sum() for _ in range(2000)]
    found = sum_noise(image, Kernels(kernels=(kernel,)), np.array([40.2]), np.array([39.7]), (4.0,), kind)
    assert np.sqrt(found[0, 0]) == pytest.approx(np.std(sums), rel=0.06)
    # As pixels have them, the noise of one photon in many pixels is lost.
    single = fftconvolve(variance, kernel.data**2, mode="same")
    alone = (single * CircularAperture((40.2, 39.7), 4).to_mask(method="exact").to_image(shape)).sum()
    assert alone < 0.1 * found[0, 0]
