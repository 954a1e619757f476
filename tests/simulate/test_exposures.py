"""Exposures: their pixels on the sky, and the light in them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from scipy.special import erf

from dja_photplug.simulate.exposures import draw_light, map_pixels, plan_exposures
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, simulate_scene
from dja_photplug.simulate.scene import field_grid, trace_light


def test_pixel_map_equals_the_full_wcs() -> None:
    grid = field_grid(34.4, -5.2, (700, 900), 0.04)
    options = MosaicOptions(distortion=6.0)
    for exposure in plan_exposures(grid, options, np.random.default_rng(1))[::6]:
        pixels = map_pixels(exposure, grid)
        x, y = np.random.default_rng(2).integers(0, exposure.wcs.array_shape[0], (2, 500))
        expected = np.transpose(grid.wcs_world2pix(*exposure.wcs.all_pix2world(x, y, 0), 0))
        # astropy computes degrees: 1e-8 px of 40 mas is 1e-13 deg, its rounding.
        np.testing.assert_allclose(pixels.position[y, x], expected, atol=1e-7)
        along_x, along_y = (np.gradient(pixels.position, axis=axis) for axis in (1, 0))
        area = np.abs(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])
        # Central differences are off by third derivatives, 1e-8 here.
        np.testing.assert_allclose(pixels.area[1:-1, 1:-1], area[1:-1, 1:-1], rtol=1e-6)
        assert np.ptp(pixels.area) / pixels.area.mean() > 0.01  # the distortion is there


@pytest.mark.parametrize("fwhm", [0.04, 0.08, 0.145, 0.4, 0.8])
def test_light_is_integrated_over_pixels(fwhm: float) -> None:
    """A star on an undistorted detector against the product of error functions; every quadrature is used."""
    scene = simulate_scene(SceneOptions(shape=(200, 200), n_sources=1, star_fraction=1, isolated=True))
    grid = field_grid(scene.meta["RA"], scene.meta["DEC"], (200, 200), 0.04)
    exposure = plan_exposures(grid, MosaicOptions(sip_order=1), np.random.default_rng(1))[0]
    flux = scene["f444w_flux"][0].to_value("10 nJy")
    image = draw_light(trace_light(scene, "f444w_flux", fwhm), exposure.wcs) / flux
    x, y = exposure.wcs.all_world2pix(scene["ra"], scene["dec"], 0)
    root = fwhm / np.sqrt(8 * np.log(2)) / 0.063 * np.sqrt(2)
    edges = np.arange(image.shape[0] + 1) - 0.5
    profile_x, profile_y = (np.diff(erf((edges - c) / root)) / 2 for c in (x, y))
    # 1e-4 of the flux in any pixel: 1e-3 sigma of a star of S/N 10.
    np.testing.assert_allclose(image, np.outer(profile_y, profile_x), atol=1e-4)
    assert image.sum() == pytest.approx(1, abs=2e-5)  # light beyond 5 sigma: 4e-6


def test_galaxy_keeps_flux_position_and_shape_on_distorted_pixels() -> None:
    scene = simulate_scene(SceneOptions(shape=(400, 400), n_sources=1, star_fraction=0, isolated=True))
    scene["size"], scene["pa"] = [0.4] * u.arcsec, [30.0] * u.deg
    scene["axis_ratio"], scene["sersic"] = 0.4, 0.5
    grid = field_grid(scene.meta["RA"], scene.meta["DEC"], (400, 400), 0.04)
    exposure = plan_exposures(grid, MosaicOptions(position_angles=(70.0,)), np.random.default_rng(3))[0]
    image = draw_light(trace_light(scene, "f444w_flux", 0.145), exposure.wcs)
    assert image.sum() == pytest.approx(scene["f444w_flux"][0].value * 100, rel=2e-5)
    image /= image.sum()
    y, x = np.indices(image.shape)
    centre = np.array([np.sum(image * x), np.sum(image * y)])
    true_centre = np.array(exposure.wcs.all_world2pix(scene["ra"], scene["dec"], 0)).ravel()
    np.testing.assert_allclose(centre, true_centre, atol=1e-3)
    # Back on the sky, the second moments give the angle of the major axis east of north.
    dx, dy = x - centre[0], y - centre[1]
    xx, yy, xy = (np.sum(image * a * b) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    major = np.linalg.eigh([[xx, xy], [xy, yy]])[1][:, 1]
    east, north = exposure.wcs.wcs.cd @ major
    # 4 px of distortion over half of this small detector (170 px) shear by some 2 %: a degree.
    angle = np.degrees(np.arctan2(east, north)) % 180
    assert angle == pytest.approx(30, abs=2)
    # Variances: (0.4 / 1.1774)^2 and the PSF's, in detector pixels, and 1/12 of the pixel itself.
    psf = (0.145 / 2.35482) ** 2
    trace = ((0.4 / 1.17741) ** 2 * (1 + 0.4**2) + 2 * psf) / 0.063**2 + 2 / 12
    assert xx + yy == pytest.approx(trace, rel=0.03)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_distortion_has_the_order_and_amplitude_asked_for(order: int) -> None:
    grid = field_grid(34.4, -5.2, (300, 300), 0.04)
    exposure = plan_exposures(grid, MosaicOptions(sip_order=order, distortion=3.5), np.random.default_rng(1))[0]
    size = exposure.wcs.array_shape[0]
    corners = np.array([[0, 0], [0, size], [size, 0], [size, size]]) - 0.5
    if order == 1:
        assert exposure.wcs.sip is None
        return
    assert exposure.wcs.sip.a_order == exposure.wcs.sip.b_order == order
    plain = exposure.wcs.deepcopy()
    plain.sip = None
    shift = exposure.wcs.all_pix2world(corners, 0) - plain.wcs_pix2world(corners, 0)
    arcsec = np.hypot(shift[:, 0] * np.cos(np.radians(-5.2)), shift[:, 1]) * 3600
    # The tangent plane and the declination within the detector change it by 1e-5.
    assert arcsec.max() / 0.063 == pytest.approx(3.5, rel=1e-4)


def test_sources_far_from_a_detector_leave_no_light_on_it() -> None:
    scene = simulate_scene(SceneOptions(shape=(3000, 3000), n_sources=300, isolated=True))
    grid = field_grid(scene.meta["RA"], scene.meta["DEC"], (3000, 3000), 0.04)
    options = MosaicOptions(detector_size=64, distortion=8.0)
    exposure = plan_exposures(grid, options, np.random.default_rng(1))[0]
    image = draw_light(trace_light(scene, "f444w_flux", 0.145), exposure.wcs)
    x, y = (np.abs(c - 31.5) for c in exposure.wcs.wcs_world2pix(scene["ra"], scene["dec"], 0))
    on = np.maximum(x, y) < 31.5 + 8 + 40
    assert image.sum() <= scene["f444w_flux"][on].sum().value * 100 * 1.01 + 1
