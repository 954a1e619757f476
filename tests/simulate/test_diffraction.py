"""Diffraction PSFs against what optics says of them: angles of spikes, width by wavelength, light by Parseval."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from dja_photplug.errors import PhotplugError
from dja_photplug.files.pixels import read_image
from dja_photplug.simulate.diffraction import (
    DIAMETER,
    DiffractionPSF,
    draw_diffraction,
    filter_wavelength,
    make_psf,
    make_pupil,
)
from dja_photplug.simulate.exposures import DETECTOR_SCALE, draw_light
from dja_photplug.simulate.mosaic import MosaicOptions, simulate_mosaic
from dja_photplug.simulate.scene import SceneOptions, field_grid, simulate_scene, trace_light

FILTERS = ("f115w", "f200w-clear", "f444w-clear")


def polar(side: int, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return radii in arcsec, and angles from +x, 0 to 180 deg, around the middle of a stamp."""
    y, x = np.indices((side, side)) - side // 2
    return np.hypot(x, y) * scale, np.degrees(np.arctan2(y, x)) % 180


def light_within(psf: DiffractionPSF, radius: float) -> float:
    """Return the light in a circle, by exact overlap with pixels."""
    middle = len(psf.samples) // 2
    return float(sep.sum_circle(psf.pixels(), [middle], [middle], radius / psf.scale, subpix=0)[0][0])


def spike_angles(image: NDArray[np.float64], scale: float, count: int = 3) -> list[float]:
    """Return the angles (deg, 0 to 180, from +x) of the brightest directions from 1 to 2.5 arcsec, 20 deg apart."""
    radius, angle = polar(len(image), scale)
    ring = (radius > 1) & (radius < 2.5)
    middles = np.arange(0, 180, 0.5)
    away = np.abs((angle[ring] - middles[:, None] + 90) % 180 - 90)
    weight = np.exp(-(away**2) / 2 / 2.0**2)
    profile = (weight * image[ring]).sum(axis=1) / weight.sum(axis=1)
    found: list[float] = []
    for i in np.argsort(profile)[::-1]:
        if all(abs((middles[i] - other + 90) % 180 - 90) > 20 for other in found):
            found.append(float(middles[i]))
    return sorted(found[:count])


def test_the_pupil_has_18_segments_around_a_hole():
    """Of 3^0.5 / 2 times the squared distance of flats each, less three struts of 0.1 m."""
    pupil = make_pupil()
    area = pupil.sum() * (DIAMETER / len(pupil)) ** 2
    assert 0.955 < area / (18 * np.sqrt(3) / 2 * 1.32**2) < 0.975
    middle = len(pupil) // 2
    assert not pupil[middle - 45 : middle + 45, middle - 45 : middle + 45].any()
    np.testing.assert_array_equal(pupil, pupil[:, ::-1])


@pytest.mark.parametrize("filter", FILTERS)
def test_spikes_are_across_the_edges_of_the_segments(filter):
    """At 30, 90 and 150 deg from +x by the hexagons and the lower struts; that at 0 is the upper strut's."""
    psf = make_psf(filter)
    found = np.array(spike_angles(psf.samples, psf.scale, 4))
    expected = np.array([0, 30, 90, 150])
    assert np.abs((np.sort(found % 175) - expected + 90) % 180 - 90).max() < 2


def test_the_width_scales_with_the_wavelength():
    """The same shares of the light within the same numbers of wavelengths over diameters."""
    for units in (2.0, 3.0, 5.0):
        radii = {name: np.degrees(units * filter_wavelength(name)[0] / DIAMETER) * 3600 for name in FILTERS}
        shares = [light_within(make_psf(name, reach=4.0), radius) for name, radius in radii.items()]
        # The squares around samples, 0.44 to 0.23 of a wavelength over diameter, widen it a little.
        np.testing.assert_allclose(shares, shares[0], rtol=0.02)


def test_all_of_the_light_is_known():
    """By Parseval's theorem it is 1, and what lies beyond falls nearly as the radius, as for any hard edge."""
    psf = make_psf("f444w", reach=9.0)
    beyond = [1 - light_within(psf, radius) for radius in (2.0, 4.0, 8.0)]
    np.testing.assert_allclose(np.divide(beyond[:-1], beyond[1:]), 2, rtol=0.15)
    assert light_within(psf, 3.0) < make_psf("f444w").samples.sum() < light_within(psf, 3.0 * np.sqrt(2))


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.31, -0.44)])
def test_a_star_is_the_psf_integrated_over_pixels(filter, offset):
    """Against sums of a spline through the samples, at any place in a pixel."""
    scene = simulate_scene(SceneOptions(n_sources=1, star_fraction=1.0, bands=("f444w",), seed=3))
    detector = field_grid(34.4, -5.2, (201, 201), DETECTOR_SCALE)
    ra, dec = detector.wcs_pix2world(100 + offset[0], 100 + offset[1], 0)
    scene["ra"], scene["dec"] = [ra] * scene["ra"].unit, [dec] * scene["dec"].unit
    psf = make_psf(filter)
    image = draw_diffraction(trace_light(scene, "f444w_flux", 0.0), detector, psf)
    flux = scene["f444w_flux"][0].to_value("10 nJy")
    np.testing.assert_allclose(image.sum(), flux * psf.samples.sum(), rtol=1e-6)
    half = len(psf.samples) // 2
    axis = np.arange(-half, half + 1) / psf.oversampling
    spline = RectBivariateSpline(axis, axis, psf.samples * psf.oversampling**2, kx=5, ky=5)
    for dy, dx in ((0, 0), (1, 0), (-2, 1), (3, 3)):
        low_y, low_x = dy - offset[1] - 0.5, dx - offset[0] - 0.5
        expected = flux * spline.integral(low_y, low_y + 1, low_x, low_x + 1)
        np.testing.assert_allclose(image[100 + dy, 100 + dx], expected, rtol=0.01, atol=2e-5 * flux)


def test_galaxies_are_convolved_with_it():
    """A Gaussian of a wide source hides the PSF: its image is that of the Gaussian PSF's code, but for the share."""
    scene = simulate_scene(SceneOptions(n_sources=1, star_fraction=0.0, bands=("f444w",), seed=3))
    scene["size"], scene["sersic"], scene["axis_ratio"] = [1.0] * scene["size"].unit, [0.5], [0.5]
    detector = field_grid(34.4, -5.2, (201, 201), DETECTOR_SCALE)
    ra, dec = detector.wcs_pix2world(100.2, 99.7, 0)
    scene["ra"], scene["dec"] = [ra] * scene["ra"].unit, [dec] * scene["dec"].unit
    ours = draw_diffraction(trace_light(scene, "f444w_flux", 0.0), detector, make_psf("f115w"))
    theirs = draw_light(trace_light(scene, "f444w_flux", 0.02), detector)
    np.testing.assert_allclose(ours.sum(), theirs.sum() * make_psf("f115w").samples.sum(), rtol=2e-3)
    np.testing.assert_allclose(ours, theirs, atol=0.06 * theirs.max())
    y, x = np.indices(ours.shape)
    axes = [np.average((y - 99.7) * (x - 100.2), weights=image) for image in (ours, theirs)]
    np.testing.assert_allclose(*axes, rtol=0.1)


def test_wavelengths_are_those_of_names():
    assert filter_wavelength("clearp-f356w")[0] == pytest.approx(3.56e-6)
    assert filter_wavelength("f1000w")[0] == pytest.approx(10e-6)
    assert filter_wavelength("f250m")[1] < filter_wavelength("f277w")[1]
    with pytest.raises(PhotplugError, match="tells no wavelength"):
        filter_wavelength("clear")


def test_a_mosaic_has_the_spikes_of_its_roll(tmp_path):
    """A detector's y axis 20 deg east of north turns them by 20 deg, counter-clockwise where east is left."""
    scene = simulate_scene(SceneOptions(shape=(161, 161), n_sources=1, star_fraction=1.0, bands=("f444w",), seed=1))
    scene["ra"], scene["dec"] = [34.4] * scene["ra"].unit, [-5.2] * scene["dec"].unit
    options = MosaicOptions(psf="diffraction", n_exposures=4, position_angles=(20.0,), compress=False)
    truth, _ = read_image(simulate_mosaic(tmp_path, scene, options).truth_image)
    np.testing.assert_allclose(truth.sum(), scene["f444w_flux"][0].to_value("10 nJy") * 0.967, rtol=0.01)
    found = spike_angles(truth.astype(float), 0.04, 4)
    np.testing.assert_allclose(found, [20, 50, 110, 170], atol=2.5)
