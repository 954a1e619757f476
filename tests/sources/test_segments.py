"""Given segmentation images: read to the last label, mapped onto the image, and described as sep describes them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import dja_photplug as dp
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.cli.app import main
from dja_photplug.engines.sep_engine import detect_sep, mesh_background
from dja_photplug.files.written import write_image
from dja_photplug.light.mesh import Background
from dja_photplug.light.smoothing import gaussian_kernel
from dja_photplug.options.run import Options
from dja_photplug.options.stages import DetectOptions
from dja_photplug.sources.segments import convolve_pixels, describe_segments, detect_given, read_segmentation
from tests.helpers import AS_IS, SCALE, flat_sky, make_image, make_wcs, uds_prefix

PLAIN = DetectOptions(kernel=0)


def describe(image, labels, options=PLAIN) -> QTable:
    return describe_segments(image, flat_sky(image), np.asarray(labels, dtype=np.int32), options).sources


def given(path, **settings) -> Options:
    return Options(detect=DetectOptions(use_segmentation=str(path), **settings))


def squares(shape=(60, 80)) -> np.ndarray:
    """Two segments with numbers that are not 1 and 2."""
    labels = np.zeros(shape, dtype=np.int32)
    labels[10:20, 10:22], labels[30:44, 40:50] = 160401, 7
    return labels


def write(path, labels, wcs=None) -> str:
    fits.PrimaryHDU(labels, None if wcs is None else wcs.to_header()).writeto(path)
    return str(path)


# --- reading


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_labels_are_read_exactly(tmp_path, kind, suffix) -> None:
    greatest = {"u1": 255, "i2": 32767, "u2": 65535}.get(kind, 16777215)
    labels = squares() % 251
    labels[0, :3] = greatest, greatest - 1, greatest - 2
    read, wcs = read_segmentation(write(tmp_path / f"seg{suffix}", labels.astype(kind)))
    assert wcs is None
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)


def test_wcs_and_extension_are_read(tmp_path) -> None:
    path = tmp_path / "seg.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(squares(), make_wcs().to_header())]).writeto(path)
    labels, wcs = read_segmentation(path)
    np.testing.assert_array_equal(labels, squares())
    assert wcs is not None
    np.testing.assert_allclose(wcs.wcs.crpix, 50.5)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0, 1.5], [2, 3]]), "integer labels from 0 to 16777215, but this has 1.5"),
        (np.array([[0, 1], [np.nan, 3]]), "but this has nan"),
        (np.array([[0, 1], [-2, 3]]), "but this has -2"),
        (np.array([[0, 1], [2, 16777217]]), "but this has 16777216"),
        (np.zeros((2, 2), dtype=np.int32), "no segments, all its pixels are 0"),
        (np.ones(4, dtype=np.int32), "no two-dimensional image"),
        (np.ones((2, 2, 2), dtype=np.int32), "no two-dimensional image"),
    ],
)
def test_pixels_that_are_no_labels(tmp_path, pixels, message) -> None:
    path = write(tmp_path / "seg.fits", pixels)
    with pytest.raises(dp.PhotplugError, match=message) as caught:
        read_segmentation(path)
    assert path in str(caught.value)


def test_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(dp.PhotplugError, match=r"none\.fits: cannot be read"):
        read_segmentation(tmp_path / "none.fits")


# --- positions and shapes


@pytest.mark.parametrize("band", ["f444w", "f115w", "simulated"])
@pytest.mark.parametrize("contrast", [0.001, 1.0])
def test_shapes_of_the_segments_of_sep(request, band, contrast) -> None:
    if band == "simulated":
        prefix = request.getfixturevalue("simulated").prefix
    else:
        prefix = uds_prefix(request.getfixturevalue("data"), band)
    image = dp.load_mosaic(prefix)
    options = Options(detect=DetectOptions(clean=0, contrast=contrast))
    sky = mesh_background(image, options.background)
    # sep 1.4.1 convolves the first 3 rows, half the kernel, without its mask: zeros are the same with and without.
    image.data[image.mask] = sky.level[image.mask]
    expected = detect_sep(image, sky, options)
    ours, theirs = describe_segments(image, sky, expected.segmentation, options.detect).sources, expected.sources
    assert len(ours) > 30
    assert ours.colnames == theirs.colnames
    for name in ("id", "npix"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    # Of a blend sep keeps the barycentre of the pixels above the level of deblending, before it deals out the others:
    # up to 5 pixels from that of the segment.
    alone = (theirs["flag"] & SourceFlag.DEBLENDED) == 0
    assert alone.all() == (contrast == 1)
    assert alone.sum() > 30
    mine, other = ours[alone], theirs[alone]
    for name in "xyab":
        # Float32 convolutions in another order, 1e-6 of the light; the sizes are in arcsec.
        np.testing.assert_allclose(mine[name].value, other[name].value, rtol=0, atol=1e-5, err_msg=name)
    for name in ("ra", "dec"):
        np.testing.assert_allclose(mine[name].value, other[name].value, rtol=0, atol=1e-5 * SCALE / 3600)
    np.testing.assert_allclose(np.sin(mine["theta"] - other["theta"]), 0, atol=1e-3)  # less sure the rounder they are
    np.testing.assert_array_equal(mine["flag"], other["flag"])


def test_moments_of_one_segment() -> None:
    rng = np.random.default_rng(1)
    data, labels = rng.normal(1, 1, (60, 80)), squares()
    row = describe(make_image(data), labels)[1]
    y, x = np.indices(data.shape)
    light = np.where(labels == 160401, data.astype(np.float32), 0).clip(0).astype(float)
    x0, y0 = (np.average(axis, weights=light) for axis in (x, y))
    covariance = np.cov([x.ravel(), y.ravel()], aweights=light.ravel(), ddof=0)
    small, large = np.linalg.eigvalsh(covariance)
    assert (row["id"], row["npix"]) == (160401, 120)
    np.testing.assert_allclose([row["x"].value, row["y"].value], [x0, y0], rtol=1e-12)
    np.testing.assert_allclose([row["a"].value, row["b"].value], SCALE * np.sqrt([large, small]), rtol=1e-10)
    direction = np.array([np.cos(row["theta"]), np.sin(row["theta"])])
    np.testing.assert_allclose(covariance @ direction, large * direction, atol=1e-9)


def test_background_is_taken_off() -> None:
    labels, light = squares(), np.where(squares() > 0, np.indices((60, 80)).sum(axis=0), 0)
    level = Background(level=np.full(light.shape, 50, dtype=np.float32))
    with_sky = describe_segments(make_image(light + 50), level, labels, PLAIN).sources
    np.testing.assert_array_equal(with_sky["x"], describe(make_image(light), labels)["x"])


def test_segments_without_light_or_data() -> None:
    """Kept, in the middle of their pixels, without a shape."""
    labels = squares()
    labels[50, 70], labels[0, 3:6] = 3, 12
    data = np.where(labels == 7, 5, -1).astype(np.float32)
    data[labels == 160401] = np.nan
    weight = np.where(labels == 12, 0, 1)
    table = describe(make_image(data, weight), labels)
    assert table["id"].tolist() == [3, 7, 12, 160401]
    assert table["npix"].tolist() == [1, 140, 3, 120]
    assert table["x"].value.tolist() == [70, 44.5, 4, 15.5]
    assert table["y"].value.tolist() == [50, 36.5, 0, 14.5]
    for name in ("a", "b", "theta"):
        assert np.isfinite(table[name]).tolist() == [False, True, False, False]
    assert table["flag"].tolist() == [0, 0, SourceFlag.TRUNCATED, 0]
    assert np.isfinite(table["ra"]).all()


def test_null_pixels_have_no_say() -> None:
    labels, data, weight = squares(), np.ones((60, 80)), np.ones((60, 80))
    data[:, 45:], weight[:, 45:] = 1e6, 0
    table = describe(make_image(data, weight), labels, DetectOptions())
    # The half with data, whose light the kernel draws over the rim by a fifth of a pixel.
    assert table["x"][0].value == pytest.approx(42, abs=0.2)
    assert table["npix"][0] == 140


def test_kernel_of_unit_sum() -> None:
    data = np.zeros((9, 9), dtype=np.float32)
    data[4, 4] = 8
    np.testing.assert_allclose(convolve_pixels(data, gaussian_kernel(3)).sum(), 8, rtol=1e-6)
    assert convolve_pixels(data, None) is data


# --- on the grid of the image


def test_other_grids_are_mapped(tmp_path) -> None:
    labels = squares()
    image = make_image(np.random.default_rng(2).normal(1, 0.1, labels.shape))
    expected = describe_segments(image, flat_sky(image), labels, PLAIN)
    fine = labels.repeat(2, axis=0).repeat(2, axis=1)
    shifted = np.pad(labels, ((5, 0), (3, 0)))
    grids = {"same": (labels, None), "wcs": (labels, make_wcs()), "fine": (fine, make_wcs(0.02, (100.5, 100.5)))}
    grids["shifted"] = shifted, make_wcs(crpix=(53.5, 55.5))
    for name, (pixels, wcs) in grids.items():
        found = detect_given(image, flat_sky(image), given(write(tmp_path / f"{name}.fits", pixels, wcs), kernel=0))
        np.testing.assert_array_equal(found.segmentation, expected.segmentation)
        for column in found.sources.colnames:
            np.testing.assert_array_equal(found.sources[column], expected.sources[column])


def test_segments_off_a_cut_out_are_left_out(tmp_path) -> None:
    path = write(tmp_path / "seg.fits", squares(), make_wcs())
    image = make_image(np.ones((60, 80)))
    cut = image[:, :30]
    assert detect_given(cut, flat_sky(cut), given(path)).sources["id"].tolist() == [160401]


@pytest.mark.parametrize(
    ("labels", "wcs", "message"),
    [
        (squares((70, 80)), None, r"of \(70, 80\) pixels \(y, x\) has no WCS, and the image has \(60, 80\)"),
        (squares(), make_wcs(crval=(34.4, -5.1)), "none of its segments lies on the image"),
        (squares(), make_wcs(crval=(214, 5)), "none of its segments lies on the image"),
    ],
)
def test_segmentations_of_other_fields(tmp_path, labels, wcs, message) -> None:
    path, image = write(tmp_path / "seg.fits", labels, wcs), make_image(np.ones((60, 80)))
    with pytest.raises(dp.PhotplugError, match=message) as caught:
        detect_given(image, flat_sky(image), given(path))
    assert path in str(caught.value)


def test_image_without_wcs_is_refused(tmp_path) -> None:
    image = make_image(np.ones((60, 80)))
    image.wcs = None
    with pytest.raises(dp.PhotplugError, match="no WCS"):
        detect_given(image, flat_sky(image), given(write(tmp_path / "seg.fits", squares())))


def test_option_must_be_given() -> None:
    image = make_image(np.ones((60, 80)))
    with pytest.raises(dp.PhotplugError, match="use_segmentation"):
        detect_given(image, flat_sky(image), Options())


# --- whole runs


@pytest.mark.parametrize("engine", ["sep", pytest.param("photutils", marks=pytest.mark.slow)])
def test_real_segments_are_measured(data, engine) -> None:
    path = data / "uds/uds-test-v7.4-lw_seg.fits.gz"
    labels = fits.getdata(path)
    options = Options(engine=engine, detect=DetectOptions(use_segmentation=str(path)), measure=AS_IS)
    result = dp.run([uds_prefix(data)], options)
    catalog = result.catalog
    np.testing.assert_array_equal(catalog["id"], np.unique(labels)[1:])
    assert (len(catalog), catalog["id"].max()) == (384, 160401)
    np.testing.assert_array_equal(result.detection.segmentation, labels)
    np.testing.assert_array_equal(catalog["npix"], np.bincount(labels.ravel())[catalog["id"]])
    science = fits.getdata(f"{uds_prefix(data)}_drc_sci.fits.gz").astype(float)
    flux = 0.01 * np.bincount(labels.ravel(), weights=science.ravel())[catalog["id"]]
    np.testing.assert_allclose(catalog["flux_iso"].value, flux, rtol=1e-9)  # sums of the same float32 pixels
    # Positions lie in the segment of the source or, of arcs and rings, in what they enclose.
    own = labels[tuple(np.rint([catalog["y"].value, catalog["x"].value]).astype(int))] == catalog["id"]
    assert own.mean() > 0.97
    assert (catalog["fluxerr_auto"] > 0).all()
    bright = catalog["flux_iso"] > 50 * catalog["fluxerr_iso"]
    ratio = (catalog["flux_auto"] / catalog["flux_iso"])[bright].value
    assert bright.sum() > 30
    assert 0.95 < np.median(ratio) < 1.15  # Kron ellipses hold what segments hold, and their wings


def test_command_measures_given_segments(data, tmp_path) -> None:
    seg, out = data / "uds/uds-test-v7.4-lw_seg.fits.gz", tmp_path / "cat.fits"
    prefix = uds_prefix(data, "f115w")
    assert main(["catalog", str(prefix), "-o", str(out), "--use-segmentation", str(seg), "--quiet"]) == 0
    assert len(QTable.read(out)) == 384


def test_own_segments_give_the_photometry_again(simulated, tmp_path) -> None:
    first = dp.run([simulated.prefix], Options(detect=DetectOptions(clean=0)))
    path = write_image(tmp_path / "seg.fits", first.detection.segmentation, first.image.wcs.to_header())
    options = Options(detect=DetectOptions(use_segmentation=str(path)))
    again = dp.run([simulated.prefix], options)
    assert len(again.catalog) == len(first.catalog) > 30
    alone = (first.catalog["flag"] & SourceFlag.DEBLENDED) == 0  # others have another barycentre
    mine, other = again.catalog[alone], first.catalog[alone]
    assert len(other) > 30
    for name in ("ra", "flux_iso", "flux_auto", "fluxerr_auto", "flux_aper_1", "fluxerr_aper_1"):
        # Shapes to 1e-5, and a(r) of the same empty apertures but for those at the rims of blends.
        rtol = 0.02 if name.startswith("fluxerr") else 1e-4
        np.testing.assert_allclose(mine[name].value, other[name].value, rtol=rtol, err_msg=name)
