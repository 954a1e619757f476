"""A PSF by region: what is found where on turned and mirrored grids, and what a file brings back."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.psf.model import PSF, encircled_energy, half_light_radius, read_psf
from dja_photplug.psf.regions import PSFModel, read_psf_model, warn_of_uncovered, write_psf_model
from tests.helpers import gaussian, make_wcs, write_psf

CELL = 0.5  # arcsec
SIGMAS = (0.06, 0.08, 0.1)
GRIDS = [(0.0, False), (33.0, False), (0.0, True), (-71.0, True)]


def make_stamp(sigma: float, side: int = 81, total: float = 0.95) -> PSF:
    pixels = gaussian((side, side), side // 2, side // 2, sigma / 0.04)
    data = (total * pixels / pixels.sum()).astype(np.float32).astype(float)
    return PSF(data=data, scale=0.04, centre=(side // 2, side // 2), name="made")


def make_model(angle: float = 0.0, mirrored: bool = False) -> PSFModel:
    """Return three strips of 4 columns, the last 2 columns and the top row without a PSF."""
    labels = np.repeat(np.array([[0] * 4 + [1] * 4 + [2] * 4 + [-1] * 2], np.int16), 10, axis=0)
    labels[-1] = -1
    wcs = make_wcs(CELL, (7.5, 5.5), angle, mirrored=mirrored)
    return PSFModel(stamps=tuple(map(make_stamp, SIGMAS)), name="made", labels=labels, wcs=wcs, meta={"HOW": "by hand"})


def places(model: PSFModel, x: list[float], y: float = 4.0) -> SkyCoord:
    return SkyCoord(*model.wcs.all_pix2world(x, [y] * len(x), 0), unit="deg")


@pytest.mark.parametrize(("angle", "mirrored"), GRIDS)
def test_regions_are_found_where_they_are_and_never_the_nearest(angle, mirrored):
    model = make_model(angle, mirrored)
    there = places(model, [-0.6, -0.4, 3.4, 3.6, 7.6, 11.4, 11.6, 13.4, 13.6, 1e4])
    assert model.regions_at(there).tolist() == [-1, 0, 0, 1, 2, 2, -1, -1, -1, -1]
    assert model.regions_at(there.galactic).tolist() == model.regions_at(there).tolist()
    assert model.regions_at(places(model, [1.0], 9.0)).tolist() == [-1]
    opposite = SkyCoord(there.ra[:1] + 180 * u.deg, -there.dec[:1])  # where the projection holds nothing
    assert model.regions_at(opposite).tolist() == [-1]
    assert model.psf_at(there[4]) is model.stamps[2]
    assert model.psf_at(there[0]) is None
    assert model.regions_at(there[:4].reshape(2, 2)).shape == (2, 2)


@pytest.mark.parametrize(("angle", "mirrored"), GRIDS)
@pytest.mark.parametrize("window", [None, (slice(20, 60), slice(40, 150))])
def test_regions_on_a_grid_are_those_of_its_pixels(angle, mirrored, window):
    """Pixels as far as 1e-3 from the edge of a cell may fall on either side."""
    model, grid, shape = make_model(angle, mirrored), make_wcs(0.05, (100.5, 80.5), 12.0), (160, 200)
    found = model.regions_on(grid, shape, window)
    y, x = np.indices(shape)
    expected = model.regions_at(SkyCoord(*grid.all_pix2world(x.ravel(), y.ravel(), 0), unit="deg")).reshape(shape)
    assert set(np.unique(expected)) == {-1, 0, 1, 2}
    expected = expected if window is None else expected[window]
    assert found.dtype == np.int16
    assert found.shape == expected.shape
    assert np.mean(found != expected) < 1e-3


def test_what_a_psf_tells_of_places():
    model = make_model()
    there, radius = places(model, [0, 5, 13, 9]), np.array([0.1, 0.2, 0.2, 0.3])
    for found, function in (
        (model.encircled_energy_at(there, radius), encircled_energy),
        (model.half_light_at(there, radius), half_light_radius),
    ):
        for i, stamp in ((0, 0), (1, 1), (3, 2)):
            assert found[i] == function(model.stamps[stamp], radius[i])
        assert np.isnan(found[2])
    with pytest.warns(PhotplugWarning, match="made: no PSF for 1 of 4 positions"):
        warn_of_uncovered(model, there)


def test_one_stamp_is_that_of_all_places():
    model = PSFModel.of(make_stamp(0.06))
    assert PSFModel.of(model) is model
    there = SkyCoord([34.3, 190.0, np.nan], [-5.1, 89.0, np.nan], unit="deg")
    assert model.regions_at(there).tolist() == [0, 0, 0]
    assert model.psf_at(there[1]) is model.stamps[0]
    assert not model.regions_on(make_wcs(), (5, 6)).any()
    warn_of_uncovered(model, there)  # a warning is an error here


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_a_file_brings_back_regions_and_stamps(tmp_path, suffix):
    model = make_model(33.0, True)
    back = read_psf_model(write_psf_model(model, tmp_path / f"psf{suffix}"))
    assert back.name == f"psf{suffix}"
    assert back.meta == {"HOW": "by hand"}
    np.testing.assert_array_equal(back.labels, model.labels)
    there = places(model, np.linspace(-1, 15, 40).tolist())
    np.testing.assert_array_equal(back.regions_at(there), model.regions_at(there))
    for one, other in zip(back.stamps, model.stamps, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-6)
        np.testing.assert_allclose(one.centre, other.centre, atol=1e-3)
        assert one.scale == other.scale
        assert one.original_sum is None


def test_a_file_of_one_stamp_is_an_image_for_anybody(tmp_path):
    path = write_psf_model(PSFModel.of(make_stamp(0.06)), tmp_path / "one.fits")
    np.testing.assert_allclose(fits.getdata(path).sum(), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(read_psf(path).data, read_psf_model(path).stamps[0].data)
    assert read_psf_model(path).labels is None
    one_region = make_model()
    labels = np.where(one_region.labels == 1, 0, -1).astype(np.int16)
    strip = PSFModel(stamps=one_region.stamps[:1], name="strip", labels=labels, wcs=one_region.wcs)
    back = read_psf_model(write_psf_model(strip, tmp_path / "strip.fits"))
    assert back.regions_at(places(strip, [1, 5, 9])).tolist() == [-1, 0, -1]


def test_a_plain_stamp_is_read_as_before(tmp_path):
    path = write_psf(tmp_path / "plain.fits", 0.06, 81, total=2.0)
    model = read_psf_model(path, share=0.9)
    assert model.name == "plain.fits"
    np.testing.assert_allclose(model.stamps[0].data.sum(), 0.9)
    normalised = read_psf_model(path)
    again = read_psf_model(write_psf_model(normalised, tmp_path / "again.fits"))
    np.testing.assert_allclose([normalised.stamps[0].original_sum, again.stamps[0].original_sum], 2.0, rtol=1e-6)


def test_what_is_refused(tmp_path):
    model = make_model()
    path = write_psf_model(model, tmp_path / "psf.fits")
    with pytest.raises(PhotplugError, match="psf.fits: it holds 3 PSFs by region"):
        read_psf(path)
    with pytest.raises(PhotplugError, match="psf.fits: already exists"):
        write_psf_model(model, path)
    with fits.open(path) as hdus:
        del hdus["PSF", 2]
        hdus.writeto(tmp_path / "lost.fits")
    with pytest.raises(PhotplugError, match="lost.fits: should hold PSFs by region .* missing"):
        read_psf_model(tmp_path / "lost.fits")
    with pytest.raises(PhotplugError, match="2 PSFs without regions"):
        PSFModel(stamps=model.stamps[:2], name="x")
    with pytest.raises(PhotplugError, match="regions -1 to 2 with a WCS for 2 PSFs"):
        PSFModel(stamps=model.stamps[:2], name="x", labels=model.labels, wcs=model.wcs)
