"""Kernels that bring a PSF to another: their sums, centres and curves of growth, and what they are refused for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.wcs import WCS
from scipy.signal import fftconvolve
from scipy.special import ndtr

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.matching.kernels import (
    check_narrower,
    choose_broadest,
    choose_reference,
    find_target,
    make_kernel,
    measure_widths,
    warn_of_residual,
)
from dja_photplug.psf.model import PSF, encircled_energy, read_psf
from dja_photplug.psf.regions import PSFModel
from tests.helpers import SCALE, gaussian, write_psf

WIDTH = np.sqrt(8 * np.log(2))  # FWHM over sigma


def make_psf(
    sigma: float | tuple[float, float], offset: tuple[float, float] = (0, 0), side: int = 101, share: float = 1.0
) -> PSF:
    """Return a Gaussian, sigma in arcsec (x, y), beside the middle of its stamp by so many pixels (y, x)."""
    y, x = ((side - 1) / 2 + away for away in offset)
    pixels = gaussian((side, side), x, y, tuple(np.broadcast_to(sigma, 2) / SCALE))
    return PSF(data=share * pixels / pixels.sum(), scale=SCALE, centre=(y, x), name=f"sigma {sigma}")


def read_pair(data: Path) -> tuple[PSF, PSF]:
    return tuple(read_psf(data / "uds" / f"psf-ceers-nrca{name}.fits", SCALE) for name in ("3-f115w", "5-f444w"))


def test_kernel_of_gaussians_is_a_gaussian() -> None:
    kernel = make_kernel(make_psf(0.06), make_psf(0.10), SCALE)
    assert kernel.data.sum() == pytest.approx(1, abs=1e-12)
    assert kernel.data.shape == (101, 101)
    wanted = make_psf(0.08).data
    np.testing.assert_allclose(kernel.data, wanted, atol=0.02 * wanted.max())
    np.testing.assert_allclose(kernel.residual, 0, atol=1e-3)


def test_off_centre_stamps_make_a_centred_kernel() -> None:
    """Stamps of the archive are centred beside their middle pixel; a source must not move."""
    kernel = make_kernel(make_psf(0.06, (0.3, -0.4)), make_psf(0.10, (-0.2, 0.1)), SCALE)
    middle = np.indices(kernel.data.shape) - 50
    assert [(axis * kernel.data).sum() for axis in middle] == pytest.approx([0, 0], abs=1e-4)
    # Circles around other places in a pixel hold 0.2 % more or less.
    np.testing.assert_allclose(kernel.residual, 0, atol=4e-3)


def test_even_stamps_of_unlike_sizes() -> None:
    kernel = make_kernel(make_psf(0.06, side=80), make_psf(0.10, side=121), SCALE)
    assert kernel.data.shape == (79, 79)
    np.testing.assert_allclose(kernel.residual, 0, atol=4e-3)


def test_light_beyond_the_stamps_is_brought_too() -> None:
    """A band whose stamp holds 0.98 of the light comes to 0.95 of it in the apertures of a target with that share."""
    source, target = make_psf(0.06, share=0.98), make_psf(0.10, share=0.95)
    kernel = make_kernel(source, target, SCALE)
    assert kernel.data.sum() == pytest.approx(1, abs=1e-12)
    matched = fftconvolve(np.pad(source.data, 50), kernel.data, mode="same")
    image = PSF(data=matched, scale=SCALE, centre=(100, 100), name="matched")
    radius = np.array([0.16, 0.35, 0.7, 1.4])
    np.testing.assert_allclose(encircled_energy(image, radius), encircled_energy(target, radius), rtol=1e-3)


def test_unknown_shares_are_taken_to_be_equal() -> None:
    source = make_psf(0.08)
    source = PSF(data=source.data, scale=SCALE, centre=source.centre, name="ACS", original_sum=1.0125)
    kernel = make_kernel(source, make_psf(0.10, share=0.95), SCALE)
    inner = kernel.data[20:-20, 20:-20].sum()
    assert inner == pytest.approx(1, abs=1e-4)


def test_kernel_on_finer_pixels() -> None:
    kernel = make_kernel(make_psf(0.08), make_psf(0.12), SCALE / 2)
    assert kernel.scale == SCALE / 2
    assert kernel.data.shape[0] > 190
    # Apertures on the target's coarser pixels hold 1 % less in the smallest circle.
    np.testing.assert_allclose(kernel.residual, 0, atol=0.012)


def test_sums_on_finer_pixels_are_those_on_the_pixels_of_the_target() -> None:
    """The mean over places of a star in its pixel; Gaussians within pixels of 40 and 20 mas."""
    target = PSF(data=draw_star(0.10, SCALE, 50, 50, 101), scale=SCALE, centre=(50, 50), name="target")
    fine = PSF(data=draw_star(0.05, SCALE / 2, 100, 100, 201), scale=SCALE / 2, centre=(100, 100), name="fine")
    known, unknown = (make_kernel(fine, target, SCALE / 2, pixels).data for pixels in (SCALE, None))
    ratio = []
    for dy, dx in np.random.default_rng(1).uniform(-0.5, 0.5, (12, 2)):
        coarse = draw_star(0.10, SCALE, 50 + dx, 50 + dy, 101)
        narrow = draw_star(0.05, SCALE / 2, 100 + 2 * dx, 100 + 2 * dy, 201)
        wanted = sum_circle(coarse, 50 + dx, 50 + dy, 4)
        found = [
            sum_circle(fftconvolve(narrow, k, mode="same"), 100 + 2 * dx, 100 + 2 * dy, 8) for k in (known, unknown)
        ]
        ratio.append(np.array(found) / wanted - 1)
    known_off, unknown_off = np.mean(ratio, axis=0)
    assert abs(known_off) < 0.0005
    assert unknown_off > 0.004


def draw_star(sigma: float, scale: float, x: float, y: float, side: int) -> np.ndarray:
    """Return the light of a Gaussian within each pixel; sigma in arcsec."""
    edges = (np.arange(side + 1) - 0.5 - np.array([[x], [y]])) * scale / sigma
    across, down = np.diff(ndtr(edges), axis=1)
    return np.outer(down, across)


def sum_circle(image: np.ndarray, x: float, y: float, radius: float) -> float:
    return float(sep.sum_circle(np.ascontiguousarray(image), [x], [y], radius, subpix=0)[0][0])


def test_real_psfs_are_matched_to_a_thousandth(data) -> None:
    """The curve of growth of matched F115W is that of F444W within 0.1 % from 0.32 to 1.4 arcsec; before it is not."""
    source, target = read_pair(data)
    kernel = make_kernel(source, target, SCALE)
    far = kernel.radius >= 0.16
    assert np.abs(kernel.residual[far]).max() < 1e-3
    assert kernel.radius[[0, -1]] == pytest.approx([0.16, 1.4])
    assert kernel.data.sum() == pytest.approx(1, abs=1e-12)
    before = encircled_energy(source, kernel.radius) / encircled_energy(target, kernel.radius)
    assert before[kernel.radius < 0.2] > 1.2


def test_kernel_that_fails_is_told() -> None:
    psf, target = make_psf(0.06), make_psf(0.10)
    kernel = make_kernel(psf, target, SCALE)
    warn_of_residual([kernel])
    with pytest.warns(PhotplugWarning, match=r"the matched light within 0\.16 arcsec is \+\d+\.\d % off"):
        warn_of_residual([replace(kernel, matched=psf)])


def test_widths_by_direction() -> None:
    widths = measure_widths(make_psf((0.10, 0.08)))
    np.testing.assert_allclose(widths[[0, 18]], [0.10 * WIDTH, 0.08 * WIDTH], rtol=0.01)
    assert np.argmax(widths) == 0


def test_target_that_is_narrower_in_one_direction_is_refused() -> None:
    """Broader on the whole, and narrower along y."""
    with pytest.raises(PhotplugError, match=r"at 90 deg .* PSF of wide is 0\.188 arcsec .* round 0\.235.*broadest"):
        check_narrower("round", make_psf(0.10), "wide", make_psf((0.16, 0.08)))
    check_narrower("round", make_psf(0.10), "wide", make_psf(0.10))


def test_broadest() -> None:
    psfs = {"a": PSFModel.of(make_psf(0.08)), "b": PSFModel.of(make_psf(0.12)), "c": PSFModel.of(make_psf(0.10))}
    assert choose_broadest(psfs) == "b"
    target = find_target("broadest", psfs, psfs)
    assert target is not None
    assert target.name == "b"
    with pytest.raises(PhotplugError, match=r"sharpened"):
        find_target("c", psfs, psfs)


def test_target_of_a_file(tmp_path) -> None:
    psfs = {"a": PSFModel.of(make_psf(0.08))}
    path = write_psf(tmp_path / "wide.fits", 0.12, 101)
    target = find_target(str(path), psfs, psfs)
    assert target is not None
    assert (target.name, target.psf.scale) == ("wide.fits", SCALE)
    assert choose_reference("stack", ["a"], target, psfs) == "a"


@pytest.mark.parametrize(
    ("wanted", "bands", "message"),
    [
        ("a", ["a", "b"], r"option match: b has no PSF.*give one"),
        ("f44w", ["a"], r"f44w is neither one of the bands a nor a file"),
    ],
)
def test_target_refused(wanted, bands, message) -> None:
    with pytest.raises(PhotplugError, match=message):
        find_target(wanted, bands, {"a": PSFModel.of(make_psf(0.08))})


def test_reference_is_the_detection_band_or_the_target() -> None:
    psfs = {"a": PSFModel.of(make_psf(0.08)), "b": PSFModel.of(make_psf(0.12))}
    target = find_target("b", psfs, psfs)
    assert target is not None
    assert [choose_reference(detect, psfs, target, psfs) for detect in ("a", "stack", None)] == ["a", "b", "b"]


def test_target_of_several_regions_is_the_broadest() -> None:
    """To which the other regions of its band are brought too; a band that is broader in any region is refused."""
    labels, cells = np.array([[0, 1]], np.int16), WCS(naxis=2)
    cells.wcs.ctype = ["RA---TAN", "DEC--TAN"]

    def two(*sigmas: float) -> PSFModel:
        return PSFModel(stamps=tuple(map(make_psf, sigmas)), name="two", labels=labels, wcs=cells)

    psfs = {"a": two(0.06, 0.08), "b": two(0.11, 0.12)}
    target = find_target("b", psfs, psfs)
    assert target is not None
    assert target.psf is psfs["b"].stamps[1]
    with pytest.raises(PhotplugError, match=r"PSF of b .* and that of a .*sharpened"):
        find_target("b", psfs, {**psfs, "a": two(0.06, 0.16)})
