"""A mosaic as one object: slices, copies, files, and images of other loaders."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import Cutout2D, InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty

from dja_photplug import MosaicImage, PhotplugError, PhotplugWarning, load_mosaic
from dja_photplug.mosaic.image import as_mosaic_image, replace_planes
from dja_photplug.mosaic.weights import write_weight


def test_slicing_slices_all(image):
    part = image[100:140, 30:90]
    assert isinstance(part, MosaicImage)
    for plane, whole in (
        (part.data, image.data),
        (part.background_weight, image.background_weight),
        (part.uncertainty.array, image.uncertainty.array),
        (part.mask, image.mask),
    ):
        np.testing.assert_array_equal(plane, whole[100:140, 30:90])
    assert part.wcs.pixel_to_world(0, 0).separation(image.wcs.pixel_to_world(30, 100)) < 1e-6 * u.arcsec


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_write_and_read_round_trip(image, tmp_path, suffix):
    part = image[100:180, 200:320]
    part.write(tmp_path / f"x{suffix}")
    back = MosaicImage.read(tmp_path / f"x{suffix}")
    for mine, theirs in (
        (back.data, part.data),
        (back.background_weight, part.background_weight),
        (back.uncertainty.array, part.uncertainty.array),
        (back.mask, part.mask),
    ):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
        assert mine.dtype.isnative
    assert isinstance(back.uncertainty, InverseVariance)
    assert back.unit == part.unit
    given = MosaicImage.read(tmp_path / f"x{suffix}", format="fits")  # astropy then hands over the path
    np.testing.assert_array_equal(given.background_weight, part.background_weight)
    assert back.meta["NOISE"] == "dja"
    x, y = np.meshgrid([0, 119], [0, 79])
    assert np.all(back.wcs.pixel_to_world(x, y).separation(part.wcs.pixel_to_world(x, y)) < 1e-6 * u.arcsec)
    with fits.open(tmp_path / f"x{suffix}") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASK", "UNCERT", "BACKWHT"]


def test_copy_and_arithmetic(image):
    part = image[100:110, 100:110]
    copied = part.copy()
    copied.background_weight[:] = 0
    copied.data[:] = 0
    assert part.background_weight.any()
    assert part.data.any()
    weight = part.background_weight
    for changed, expected in (
        (part.multiply(2.0), weight / 4),
        (part.divide(2.0 * u.s), weight * 4),
        (part.add(3 * part.unit), weight),
        (part.subtract(part), weight / 2),
        (part.multiply(np.full(part.shape, 0.5)), 4 * weight),
    ):
        np.testing.assert_allclose(changed.background_weight, expected, rtol=1e-6)
        assert changed.noise_model is None
    with pytest.warns(PhotplugWarning, match="has no background_weight: all of its variance counts as background"):
        assert part.multiply(part).background_weight is None
    with pytest.raises(PhotplugError, match="background_weight of shape"):
        MosaicImage(part.data, unit="10 nJy", background_weight=np.ones((2, 2), np.float32))


@pytest.mark.parametrize("kind", [InverseVariance, StdDevUncertainty, VarianceUncertainty])
def test_another_unit(image, kind):
    part = image[100:180, 200:320]
    with np.errstate(divide="ignore"):
        part.uncertainty = part.uncertainty.represent_as(kind)
    converted = part.convert_unit_to("uJy")
    assert converted.unit == u.uJy
    np.testing.assert_allclose(converted.data, part.data / 100, rtol=1e-6)
    np.testing.assert_allclose(converted.background_weight, part.background_weight * 1e4, rtol=1e-6)
    power = {"std": 1, "var": 2, "ivar": -2}[kind(0.0).uncertainty_type]
    np.testing.assert_allclose(converted.uncertainty.array, part.uncertainty.array / 100.0**power, rtol=1e-6)
    assert converted.uncertainty.unit == u.uJy**power
    planes, rows = (converted.data, converted.background_weight), slice(0, part.shape[0])
    full = image[100:180, 200:320].uncertainty.array
    np.testing.assert_allclose(converted.noise_model(*planes, rows), full * 1e4, rtol=1e-5)
    np.testing.assert_allclose(as_mosaic_image(converted).uncertainty.array, full, rtol=1e-5)
    converted.mask[:] = True
    assert not part.mask.all()


def test_units_that_are_none_of_an_image(image):
    part = image[100:110, 100:110]
    with pytest.raises(PhotplugError, match="mag\\(AB\\) is not 10 nJy times a number"):
        part.convert_unit_to(u.ABmag)
    with pytest.raises(u.UnitConversionError):
        part.convert_unit_to(u.m)


def test_what_takes_it_for_an_array_is_told(image):
    """By astropy's Cutout2D, whose place cuts all planes."""
    with pytest.warns(PhotplugWarning, match="pixels and mask, and no weights; take image.data"):
        cutout = Cutout2D(image, (120, 110), 40)
    part = image[cutout.slices_original]
    np.testing.assert_array_equal(part.data, cutout.data.data)
    assert part.background_weight.shape == part.uncertainty.array.shape == (40, 40)


def test_replaced_planes(simulated):
    image = load_mosaic(simulated.prefix)
    other = replace_planes(image, data=image.data * 2)
    np.testing.assert_array_equal(other.data, image.data * 2)
    assert other.uncertainty.array is not None
    assert np.shares_memory(other.background_weight, image.background_weight)


@pytest.mark.parametrize(("kind", "power"), [("weight", 1), ("sigma", -0.5), ("variance", -1)])
def test_written_weight(image, tmp_path, kind, power):
    path = write_weight(image, tmp_path / "out.fits.gz", kind)
    plane, header = fits.getdata(path, header=True)
    weight = image.uncertainty.array
    usable = weight > 0
    np.testing.assert_allclose(plane[usable], weight[usable] ** power, rtol=1e-6)
    # Without data: no weight, infinite error; never an error of 0.
    assert np.all(plane[~usable] == (0 if kind == "weight" else np.inf))
    assert u.Unit(header["BUNIT"]) == u.Unit("10 nJy") ** {"weight": -2, "sigma": 1, "variance": 2}[kind]
    assert header["NOISE"] == "dja"
    with pytest.raises(PhotplugError, match="already exists"):
        write_weight(image, path, kind)
    with pytest.raises(PhotplugError, match="kind 'error' is not one of weight, sigma, variance"):
        write_weight(image, tmp_path / "x.fits", "error")


def test_image_of_another_loader():
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    data = np.array([[1.0, 2.0, np.nan]], ">f8")
    sigma = np.array([[0.5, 0.0, 1.0]])
    image = as_mosaic_image(NDData(data, unit="uJy", uncertainty=StdDevUncertainty(sigma), wcs=wcs))
    # 1 uJy is 100 units; an error of 0 is no weight, as is NaN.
    np.testing.assert_allclose(image.data[0, :2], [100, 200])
    np.testing.assert_allclose(image.uncertainty.array, [[1 / 50**2, 0, 0]])
    np.testing.assert_array_equal(image.mask, [[False, True, True]])
    assert image.background_weight is None
    assert "all variance counts as background" in image.meta["BACKWHT"]
    for spoiled, message in (
        (NDData(data, unit="m", uncertainty=StdDevUncertainty(sigma), wcs=wcs), "has the unit m"),
        (NDData(data, uncertainty=StdDevUncertainty(sigma), wcs=wcs), "has the unit None"),
        (NDData(data, unit="uJy", wcs=wcs), "no standard deviation, variance or inverse variance"),
        (NDData(data, unit="uJy", uncertainty=StdDevUncertainty(sigma)), "no WCS"),
    ):
        with pytest.raises(PhotplugError, match=message):
            as_mosaic_image(spoiled)
