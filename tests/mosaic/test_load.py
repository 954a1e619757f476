"""Mosaics from files: planes, provenance, cut-outs, and what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, InverseVariance
from regions import CircleSkyRegion

from dja_photplug import MosaicImage, PhotplugError, VarianceOptions, find_mosaic, full_weight, load_mosaic
from dja_photplug.files.written import write_image
from dja_photplug.mosaic.load import Block, open_mosaic
from dja_photplug.mosaic.plan import check_detector_gain, load_exposure
from dja_photplug.simulate.mosaic import MosaicOptions, simulate_mosaic
from tests.helpers import copy_products, uds_prefix


@pytest.fixture
def copy(simulated, tmp_path) -> Path:
    """A copy of the simulated products that a test may spoil; its prefix."""
    return copy_products(simulated.prefix, tmp_path)


def rewrite(prefix: Path, kind: str, change, pixels=None) -> None:
    """Change header or pixels of one product."""
    path = Path(f"{prefix}_drc_{kind}.fits.gz")
    data, header = fits.getdata(path, header=True)
    change(header)
    write_image(path, data if pixels is None else pixels(data), header, overwrite=True)


def test_planes_of_a_real_mosaic(data, image):
    paths = {kind: f"{uds_prefix(data)}_drc_{kind}.fits.gz" for kind in ("sci", "wht", "exp")}
    science, weight, exposure = (fits.getdata(path) for path in paths.values())
    np.testing.assert_array_equal(image.data, science)
    np.testing.assert_array_equal(image.background_weight, weight)
    expected = full_weight(science, weight, exposure, fits.getheader(paths["sci"]))
    np.testing.assert_array_equal(image.uncertainty.array, expected)
    np.testing.assert_array_equal(image.mask, expected == 0)
    assert isinstance(image.uncertainty, InverseVariance)
    assert isinstance(image, CCDData)
    assert image.unit == u.Unit("10 nJy")
    for plane in (image.data, image.uncertainty.array, image.background_weight):
        assert plane.dtype == np.float32
        assert plane.dtype.isnative
        assert plane.flags.c_contiguous


def test_provenance_is_in_the_metadata(data, image):
    assert image.meta["NDRIZIM"] == 297  # the header is there
    assert image.meta["NOISE"] == "dja"
    assert image.meta["GROWTH"] == "published"
    assert image.meta["DETGAIN"] == 1
    assert image.meta["ZEROPNT"] == pytest.approx(28.9)
    # NOISE.md, 3.2: 1,819 pixels with weight but no exposure time by the published growth.
    assert image.meta["NNULL"] == 1819
    # 1e-8 / OPHOTFNU / PHOTMJSR in decimal arithmetic.
    assert image.meta["PHOTSCLE"] == pytest.approx(1e-8 / 8.88250488346685e-08 / 0.387729, rel=1e-12)
    calibrated = load_mosaic(uds_prefix(data), "calibrated").meta
    assert (calibrated["GROWTH"], calibrated["NNULL"]) == ("registered", 0)
    assert 1.88 < calibrated["DETGAIN"] < 1.90  # NRCALONG and NRCBLONG, weighted by the log


def test_astropy_reader(data, image):
    read = CCDData.read(f"{uds_prefix(data)}_drc_sci.fits.gz", format="dja")
    assert isinstance(read, MosaicImage)
    np.testing.assert_array_equal(read.uncertainty.array, image.uncertainty.array)
    part = CCDData.read(uds_prefix(data), format="dja", noise="background", cutout=(slice(0, 5), slice(0, 7)))
    np.testing.assert_array_equal(part.uncertainty.array, image.background_weight[:5, :7])


def test_astropy_reader_needs_only_the_package(simulated):
    """In a fresh interpreter, where nothing of the package has been used yet."""
    text = (
        "import sys, dja_photplug; from astropy.nddata import CCDData; "
        "image = CCDData.read(sys.argv[1], format='dja'); print(type(image).__name__, image.shape)"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", text, str(simulated.prefix)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.stdout.split() == ["MosaicImage", "(401,", "530)"], run.stderr


@pytest.mark.parametrize("noise", ["dja", "calibrated"])
def test_cut_out_equals_the_slice(data, noise):
    whole = load_mosaic(uds_prefix(data), noise)
    centre = whole.wcs.pixel_to_world(301, 202)
    for cutout, rows, columns in (
        ((slice(13, 78), slice(5, 90)), slice(13, 78), slice(5, 90)),
        ((centre, 4.04 * u.arcsec), slice(152, 253), slice(251, 352)),
        ((centre, [1, 2] * u.arcsec), *Cutout2D(whole.data, (301, 202), (25, 50)).slices_original),
        (CircleSkyRegion(centre, 1 * u.arcsec), slice(177, 228), slice(276, 327)),
        ((slice(-30, None), slice(None, 40)), slice(790, 820), slice(0, 40)),
    ):
        part = load_mosaic(uds_prefix(data), noise, cutout=cutout)
        np.testing.assert_array_equal(part.data, whole.data[rows, columns])
        np.testing.assert_array_equal(part.uncertainty.array, whole.uncertainty.array[rows, columns])
        x, y = part.wcs.world_to_pixel(centre)
        assert (float(x) + columns.start, float(y) + rows.start) == pytest.approx((301, 202), abs=1e-6)


@pytest.mark.parametrize("noise", ["dja", "calibrated", "background"])
@pytest.mark.parametrize("cutout", [None, (slice(13, 78), slice(5, 90)), (slice(-30, None), slice(None))])
@pytest.mark.parametrize("odd", [False, True])
def test_blocks_are_the_rows_of_the_image(copy, noise, cutout, odd):
    if odd:
        rewrite(copy, "wht", lambda h: None, spoil_pixels)
        rewrite(copy, "sci", lambda h: None, spoil_pixels)
    image = load_mosaic(copy, noise, cutout)
    assert ("NNEGWHT" in image.meta) == ("NNOTFIN" in image.meta) == odd
    with open_mosaic(copy, noise, cutout) as stream:
        assert stream.shape == image.shape
        blocks = [Block(each[0], *(plane.copy() for plane in each[1:])) for each in stream.blocks()]
        assert repr(stream.meta()) == repr(image.meta)
    assert [row for block in blocks for row in range(block.rows.start, block.rows.stop)] == list(range(len(image.data)))
    for name, plane in (
        ("science", image.data), ("weight", image.background_weight), ("full", image.uncertainty.array)
    ):  # fmt: skip
        np.testing.assert_array_equal(np.concatenate([getattr(block, name) for block in blocks]), plane)
    np.testing.assert_allclose(stream.wcs.wcs.crpix, image.wcs.wcs.crpix)


def spoil_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of which some, also in the last rows, are no numbers, infinite or negative."""
    pixels = pixels.copy()
    for value, where in ((np.nan, np.s_[20:23, 7:9]), (np.inf, np.s_[-3:, 60:70]), (-1, np.s_[30:33, 6:50])):
        pixels[where] = value
    pixels[:, -60:-50] = -1
    pixels[-20, 50] = np.nan
    return pixels


def test_odd_pixels_are_counted_and_without_data(copy):
    """By plain numpy, pixel by pixel."""
    planes = [fits.getdata(f"{copy}_drc_{kind}.fits.gz") for kind in ("sci", "wht")]
    science, weight = (spoil_pixels(plane) for plane in planes)
    for kind in ("sci", "wht"):
        rewrite(copy, kind, lambda h: None, spoil_pixels)
    image = load_mosaic(copy, "calibrated")
    usable = np.isfinite(science) & np.isfinite(weight) & (weight > 0)
    assert not image.uncertainty.array[~usable].any()
    assert image.uncertainty.array[usable].all()
    assert image.meta["NNOTFIN"] == np.count_nonzero(~(np.isfinite(science) & np.isfinite(weight)) & ~(weight <= 0))
    assert image.meta["NNEGWHT"] == np.count_nonzero(weight < 0)
    assert image.meta["NNULL"] == np.count_nonzero((weight > 0) & ~usable)
    np.testing.assert_array_equal(image.background_weight, np.where(np.isfinite(weight) & (weight > 0), weight, 0))


@pytest.mark.parametrize("noise", ["dja", "calibrated"])
def test_model_of_a_cut_out_holds_its_samples_alone(simulated, noise):
    whole = load_mosaic(simulated.prefix, noise)
    (ny, nx), n_samples = whole.shape, fits.getdata(f"{simulated.prefix}_drc_exp.fits.gz").shape
    corners = [(0, 0), (ny - n_samples[0], nx - n_samples[1]), (173, 201)]
    # As many pixels as the map has samples, which does not make it a map of the cut-out.
    for window in [tuple(slice(low, low + n) for low, n in zip(corner, n_samples, strict=True)) for corner in corners]:
        part = load_mosaic(simulated.prefix, noise, window)
        np.testing.assert_array_equal(part.uncertainty.array, whole.uncertainty.array[window])
        assert part.meta["GROWTH"] == whole.meta["GROWTH"] != "per pixel"
        assert part.noise_model.gains.seconds.size < 0.2 * n_samples[0] * n_samples[1]


def test_cut_out_off_the_mosaic(data):
    with pytest.raises(PhotplugError, match="lies off the mosaic of 1000 x 820"):
        load_mosaic(uds_prefix(data), cutout=(SkyCoord(34.5, -5, unit="deg"), 4 * u.arcsec))


def test_exposure_map_from_the_log_where_exp_is_absent(simulated, copy):
    with_file = load_mosaic(copy, "calibrated")
    Path(f"{copy}_drc_exp.fits.gz").unlink()
    files = find_mosaic(copy)
    assert files.exposure is None
    without = load_mosaic(files, "calibrated")
    seconds = load_exposure(simulated.prefix), load_exposure(files)
    # Both follow the archive's rule; their footprints may differ by rounding on the edges' samples.
    assert np.mean(seconds[0] == seconds[1]) > 0.999
    equal = np.isclose(with_file.uncertainty.array, without.uncertainty.array, rtol=1e-6)
    assert equal.mean() > 0.999


def test_exposure_map_of_a_cut_out(simulated):
    whole = load_exposure(simulated.prefix)
    assert whole.shape == (100, 132)
    part = load_exposure(simulated.prefix, (slice(5, 50), slice(8, 16)))
    np.testing.assert_array_equal(part, whole[1:13, 2:4])


def test_neither_exposure_map_nor_log(copy):
    Path(f"{copy}_drc_exp.fits.gz").unlink()
    Path(f"{copy}_wcs.csv").unlink()
    assert load_exposure(copy) is None
    with pytest.raises(PhotplugError, match=r"f444w-clear_drc_sci.*needs an exposure map or a WCS log.*'background'"):
        load_mosaic(copy)
    image = load_mosaic(copy, "background")
    np.testing.assert_array_equal(image.uncertainty.array, image.background_weight)


def test_variance_file_is_used_as_it_is(copy):
    weight, header = fits.getdata(f"{copy}_drc_wht.fits.gz", header=True)
    variance = np.where(weight > 0, 3 / np.maximum(weight, 1e-9), 0).astype(np.float32)
    write_image(f"{copy}_drc_var.fits.gz", variance, header)
    for noise in ("dja", "calibrated"):
        image = load_mosaic(copy, noise)
        np.testing.assert_allclose(image.uncertainty.array, weight / 3, rtol=1e-6)
        assert image.meta["VARFILE"] == f"{copy.name}_drc_var.fits.gz"
    np.testing.assert_array_equal(load_mosaic(copy, "background").uncertainty.array, weight)


def test_replaced_model_is_called_by_blocks(simulated):
    class Doubled:
        provenance = {"NOISE": ("doubled", "for a test")}
        rows: list[slice] = []

        def __call__(self, science, weight, rows):
            self.rows.append(rows)
            return weight / 2

    seen = []

    def variance(header, exposure, log):
        seen.append((header["NAXIS2"], exposure.data.shape, len(log)))
        return Doubled()

    image = load_mosaic(simulated.prefix, cutout=(slice(3, 100), slice(0, 530)), variance=variance)
    np.testing.assert_array_equal(image.uncertainty.array, image.background_weight / 2)
    assert seen == [(97, (100, 132), 6)]
    assert [(rows.start, rows.stop) for rows in Doubled.rows] == [(0, 97)]
    assert image.meta["NOISE"] == "doubled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.set("BUNIT", "MJy/sr"), "keyword BUNIT gives the unit 'MJy/sr', not 10 nJy; convert"),
        (lambda h: h.remove("PHOTMJSR"), "keyword PHOTMJSR is missing"),
        (lambda h: h.remove("OPHOTFNU"), "keyword OPHOTFNU is missing"),
    ],
)
def test_bad_header_names_the_file(copy, change, message):
    rewrite(copy, "sci", change)
    with pytest.raises(PhotplugError, match=f"sim-test-v7.4-f444w-clear_drc_sci.fits.gz: .*{message}"):
        load_mosaic(copy)


def test_shapes_that_differ_name_both_files(copy):
    rewrite(copy, "wht", lambda h: None, lambda pixels: pixels[:-1])
    with pytest.raises(
        PhotplugError, match=r"drc_wht\.fits\.gz: has 530 x 400 pixels, but .*_drc_sci\.fits\.gz has 530 x 401; give"
    ):
        load_mosaic(copy)


def test_truncated_member_names_the_file(copy):
    path = Path(f"{copy}_drc_wht.fits.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(PhotplugError, match=r"drc_wht\.fits\.gz: the file is truncated or damaged"):
        load_mosaic(copy)


def test_phot_scale_override(copy):
    rewrite(copy, "sci", lambda h: h.remove("PHOTMJSR"))
    image = load_mosaic(copy, VarianceOptions(phot_scale=0.29))
    assert image.meta["PHOTSCLE"] == 0.29


@pytest.mark.parametrize("gain", [1.0, 1.88, 4.0])
def test_detector_gain_from_a_variance_file(gain, simulated, tmp_path):
    options = MosaicOptions(root="sim-test-v7.4", n_exposures=2, detector_gain=gain, var=True, compress=False, seed=6)
    prefix = simulate_mosaic(tmp_path, simulated.scene, options).prefix
    measured, error, count = check_detector_gain(prefix)
    assert count > 1000
    # Two per cent: the counted exposure time is whole seconds, and bad pixels take some of it away.
    assert measured == pytest.approx(gain, rel=0.02)
    assert 0 < error < 0.01 * gain
    from dja_photplug.cli.app import main

    assert main(["info", str(prefix)]) == 0


def test_detector_gain_cannot_be_measured(simulated, copy):
    with pytest.raises(PhotplugError, match="has no _var file"):
        check_detector_gain(copy)
    weight, header = fits.getdata(f"{copy}_drc_wht.fits.gz", header=True)
    write_image(f"{copy}_drc_var.fits.gz", 1 / np.maximum(weight, 1e-3), header)
    rewrite(copy, "sci", lambda h: None, lambda pixels: pixels * 0)
    with pytest.raises(PhotplugError, match="only 0 pixels are dominated by source photons"):
        check_detector_gain(copy)
