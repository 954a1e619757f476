"""What engines share in detection: the kernel, and sources taken to another grid."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

from dja_photplug.catalog.schema import dress_table
from dja_photplug.sky.nesting import regrid_labels
from dja_photplug.sources.detection import DETECTION_COLUMNS, Detection, gaussian_kernel, regrid_detection
from tests.helpers import make_wcs


def test_kernel_is_that_of_source_extractor() -> None:
    """Against the quadrant of gauss_3.0_7x7.conv, as distributed with Source Extractor."""
    rows = "0.004963 0.021388 0.051328 0.068707 0.092163 0.221178 0.296069 0.530797 0.710525 0.951108"
    quadrant = np.zeros((4, 4))
    quadrant[np.triu_indices(4)] = [float(value) for value in rows.split()]
    quadrant = np.maximum(quadrant, quadrant.T)
    kernel = gaussian_kernel(3.0)
    full = np.pad(quadrant, ((0, 3), (0, 3)), mode="reflect")
    # Their profile is slightly wider than the pixel-integrated one: by 0.32 % of the peak at most.
    np.testing.assert_allclose(kernel, full / full.sum(), atol=0.004 * kernel.max())
    assert kernel.shape == (7, 7)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)  # float32
    assert gaussian_kernel(0) is None


def random_labels(shape, seed=1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.int32)


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
