"""Stamps: planes, masks, WCS, header and factors, on small images with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

from dja_photplug.errors import PhotplugError
from dja_photplug.fitting.field import FitSources
from dja_photplug.fitting.headers import NULL_SIGMA
from dja_photplug.fitting.stamps import Stamp, cut_stamps
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.commands import GalfitOptions
from tests.helpers import make_calibration, make_image, make_wcs

SHAPE = (160, 200)
TARGET = (90.3, 70.8)  # x, y


GRID = make_wcs(crpix=(1000.5, -300.0), angle=-20.0, crval=(34.4, -5.2))


def make_mosaic(**planes: Any) -> MosaicImage:
    noise = np.random.default_rng(3).normal(0, 0.3, SHAPE)  # 0.6 of the sigma of 0.5
    weight = planes.get("weight", 4.0)
    meta = fits.Header({"EXPTIME": 5000.0, "FILTER": "F444W", "NOISE": "dja", "FLT00001": "a.fits"})
    return make_image(planes.get("data", noise), weight, planes.get("background", weight), GRID, meta)


def make_table(wcs: WCS, *sources: tuple[float, float, float]) -> QTable:
    """Sources at x, y with a flux in uJy; all with a Kron ellipse of 15 x 7.5 pixels at 30 deg."""
    x, y, flux = np.array(sources).T
    ra, dec = wcs.pixel_to_world_values(x, y)
    n = len(x)
    return QTable(
        {
            "id": np.arange(1, n + 1) * 10,
            "ra": ra * u.deg,
            "dec": dec * u.deg,
            "a": np.full(n, 0.2) * u.arcsec,
            "b": np.full(n, 0.1) * u.arcsec,
            "theta": np.full(n, 30.0) * u.deg,
            "kron_radius": np.full(n, 3.0),
            "flux_radius": np.full(n, 0.12) * u.arcsec,
            "flux_auto": flux * u.uJy,
        }
    )


def cut(image: MosaicImage, table: QTable, number: int = 10, **settings: Any) -> Stamp:
    given = {key: settings.pop(key) for key in ("segmentation", "calibration") if key in settings}
    joint = settings.pop("joint_fit", True)
    sources = FitSources(table=table, targets={str(number): number}, **given)
    (stamp,) = cut_stamps(image, sources, GalfitOptions(**settings), joint=joint)
    return stamp


def test_the_targets_pixel_is_in_the_middle_of_an_odd_stamp() -> None:
    image = make_mosaic()
    stamp = cut(image, make_table(image.wcs, (*TARGET, 1.0)), size=2.0)
    assert stamp.data.shape == (51, 51)
    np.testing.assert_array_equal(stamp.data, image.data[71 - 25 : 71 + 26, 90 - 25 : 90 + 26])
    target = stamp.components[0]
    # Through the sky and back: 1e-6 pixels of rounding.
    assert (target.x, target.y) == pytest.approx((25.3, 24.8), abs=1e-6)


def test_the_wcs_is_that_of_the_stamp() -> None:
    image = make_mosaic()
    stamp = cut(image, make_table(image.wcs, (*TARGET, 1.0)), size=2.0)
    sky = image.wcs.pixel_to_world([70.0, 110.0], [60.0, 90.0])
    x, y = WCS(stamp.header).world_to_pixel(sky)
    np.testing.assert_allclose(x, [70 - 65, 110 - 65], atol=1e-6)
    np.testing.assert_allclose(y, [60 - 46, 90 - 46], atol=1e-6)
    assert stamp.wcs.world_to_pixel_values(sky[0].ra, sky[0].dec)[0] == pytest.approx(x[0])


def test_starting_values_are_those_of_the_catalogue() -> None:
    image = make_mosaic()
    start = cut(image, make_table(image.wcs, (*TARGET, 1.0)), index=1.5).components[0]
    assert start.magnitude == pytest.approx(23.9)  # 1 uJy
    assert start.axis_ratio == pytest.approx(0.5)
    assert start.radius == pytest.approx(3 / np.sqrt(0.5))  # 0.12 arcsec are 3 pixels, of the circle of equal area
    assert (start.index, start.position_angle) == (1.5, pytest.approx(-60))


def test_a_source_without_light_starts_at_the_noise_of_its_kron_ellipse() -> None:
    image = make_mosaic()
    start = cut(image, make_table(image.wcs, (*TARGET, -1.0))).components[0]
    # 353 pixels of sigma 0.5 in the ellipse of 15 x 7.5 pixels, 3 % of which are its rim.
    assert 10 ** (0.4 * (28.9 - start.magnitude)) == pytest.approx(0.5 * np.sqrt(353), rel=0.03)


def test_pixels_without_data_are_masked_with_a_huge_finite_sigma() -> None:
    weight = np.full(SHAPE, 4.0, np.float32)
    weight[60:65], weight[65] = 0, 1e-30  # whose sigma says nothing
    data = np.ones(SHAPE, np.float32)
    data[60:64], data[80, 90] = np.nan, np.nan
    stamp = cut(make_mosaic(data=data, weight=weight), make_table(GRID, (*TARGET, 1.0)), size=2.0)
    bad = np.zeros((51, 51), bool)
    bad[60 - 46 : 66 - 46] = True
    bad[80 - 46, 25] = True
    np.testing.assert_array_equal(stamp.mask, bad)
    np.testing.assert_array_equal(stamp.data, np.where(bad, 0, 1))
    np.testing.assert_array_equal(stamp.sigma, np.where(bad, np.float32(NULL_SIGMA), np.float32(0.5)))
    assert np.isfinite(stamp.sigma**2).all()
    assert stamp.sigma.dtype == stamp.data.dtype == np.float32


@pytest.mark.parametrize(("x", "y"), [(0.4, 0.4), (199.3, 0.0), (100.0, 159.4)])
def test_a_stamp_reaches_over_the_edge(x: float, y: float) -> None:
    image = make_mosaic()
    stamp = cut(image, make_table(image.wcs, (x, y, 1.0)), size=2.0)
    rows, columns = round(y) - 25 + np.arange(51), round(x) - 25 + np.arange(51)
    off = ~(((rows >= 0) & (rows < 160))[:, None] & ((columns >= 0) & (columns < 200)))
    np.testing.assert_array_equal(stamp.mask, off)
    assert (stamp.sigma[off] == NULL_SIGMA).all()
    assert (stamp.data[off] == 0).all()
    assert (
        stamp.data[~off].tolist()
        == image.data[np.ix_(rows[rows % 160 == rows], columns[columns % 200 == columns])].ravel().tolist()
    )


def test_neighbours_are_masked_with_a_margin_and_the_target_never() -> None:
    image = make_mosaic()
    segmentation = np.zeros(SHAPE, np.int32)
    segmentation[60:80, 80:101] = 10
    segmentation[60:80, 101:103] = 20  # touches the target, without a row in the catalogue
    stamp = cut(image, make_table(image.wcs, (*TARGET, 1.0)), segmentation=segmentation, size=2.0, margin=0.08)
    part = segmentation[46:97, 65:116]
    assert not stamp.mask[part == 10].any()
    assert stamp.mask[part == 20].all()
    row = np.flatnonzero(stamp.mask[70 - 46]) + 65
    assert row.tolist() == [101, 102, 103, 104]  # the segment and 2 pixels, but none of the target's


@pytest.mark.parametrize(
    ("x", "flux", "masked"),
    [
        (112.0, 0.5, False),  # its segment reaches the target's Kron ellipse
        (112.0, 0.01, True),  # 5 mag fainter
        (112.0, np.nan, True),
        (118.0, 5.0, True),  # too far
    ],
)
def test_bright_neighbours_that_overlap_are_fitted(x: float, flux: float, masked: bool) -> None:
    image = make_mosaic()
    table = make_table(image.wcs, (*TARGET, 1.0), (x, 78.0, flux))
    segmentation = np.zeros(SHAPE, np.int32)
    segmentation[66:76, 85:96] = 10
    left = round(x) - 8  # the Kron ellipse ends at x = 103.5
    segmentation[70:88, left : left + 16] = 20
    stamp = cut(image, table, segmentation=segmentation, size=3.0)
    assert [start.id for start in stamp.components] == ([10] if masked else [10, 20])
    assert stamp.header["NCOMP"] == len(stamp.components)
    assert stamp.mask[stamp.segmentation == 20].all() == masked
    assert stamp.mask.any() == masked
    alone = cut(image, table, segmentation=segmentation, size=3.0, joint_fit=False)
    assert [start.id for start in alone.components] == [10]
    assert alone.mask[alone.segmentation == 20].all()


def test_kron_ellipses_stand_in_for_a_segmentation() -> None:
    image = make_mosaic()
    stamp = cut(image, make_table(image.wcs, (*TARGET, 1.0), (120.0, 70.0, 0.001)), size=4.0)
    area = np.pi * 15 * 7.5
    assert (stamp.segmentation == 10).sum() == pytest.approx(area, rel=0.03)  # its rim
    assert stamp.mask.sum() > area  # the neighbour and its margin
    assert not stamp.mask[stamp.segmentation == 10].any()


def test_the_automatic_size_follows_the_kron_radius() -> None:
    image = make_mosaic()
    table = make_table(image.wcs, (*TARGET, 1.0))
    # 5 x 0.6 + 1 = 4 arcsec: 100 pixels, the next odd number.
    assert cut(image, table).data.shape == (101, 101)
    table["a"] *= 0.1
    table["b"] *= 0.1  # the circle of 0.35 arcsec: 2.75, below the least of 3 arcsec
    assert cut(image, table).data.shape == (75, 75)
    table["a"] *= 1000
    assert cut(image, table).data.shape == (501, 501)  # at most 20 arcsec


def test_pixel_scatter_is_that_of_empty_sky_and_sigma_is_not_rescaled() -> None:
    image = make_mosaic()
    image.data[60:80, 80:100] = 50
    segmentation = np.zeros(SHAPE, np.int32)
    segmentation[60:80, 80:100] = 10
    stamp = cut(image, make_table(image.wcs, (*TARGET, 1.0)), segmentation=segmentation, size=4.0)
    # 0.3 / 0.5; 1.17 / sqrt(9000 pixels) = 1.2 %, and three of that.
    assert stamp.pixel_scatter == pytest.approx(0.6, rel=0.04)
    assert stamp.header["PIXSCAT"] == round(stamp.pixel_scatter, 4)
    assert stamp.header["CHI2EXP"] == round(stamp.pixel_scatter**2, 4)
    assert (stamp.sigma == 0.5).all()
    # A stamp of 51 x 51 pixels has fewer than 2000 empty ones: that of the mosaic.
    small = cut(image, make_table(image.wcs, (*TARGET, 1.0)), segmentation=segmentation, size=2.0)
    assert small.pixel_scatter == pytest.approx(0.6, rel=0.03)
    assert small.pixel_scatter != stamp.pixel_scatter


def test_the_error_factor_scales_the_background_alone() -> None:
    table = make_table(GRID, (*TARGET, 1.0))
    calibration = make_calibration([2.0, 2.0], (0.1, 1.0), error=0.01)
    sky = cut(make_mosaic(), table, calibration=calibration)
    assert sky.background_factor == sky.error_factor == pytest.approx(2)
    # Photons make three quarters of the variance: sqrt((4 x 1 + 3) / 4).
    bright = cut(make_mosaic(background=np.full(SHAPE, 16.0, np.float32)), table, calibration=calibration)
    assert bright.error_factor == pytest.approx(np.sqrt(7 / 4))
    assert (bright.header["AR_KRON"], bright.header["ERRFACT"]) == (2.0, round(np.sqrt(7 / 4), 4))
    assert cut(make_mosaic(), table).error_factor is None
    assert "ERRFACT" not in cut(make_mosaic(), table).header


def test_the_header_says_what_galfit_reads_and_keeps_the_originals() -> None:
    image = make_mosaic()
    header = cut(image, make_table(image.wcs, (*TARGET, 1.0))).header
    assert (header["EXPTIME"], header["GAIN"], header["NCOMBINE"]) == (1, 1, 1)
    assert header["OEXPTIME"] == 5000
    assert "OGAIN" not in header  # the mosaic says none
    assert "OEXPTIME" in header.comments["EXPTIME"]
    assert (header["ZEROPNT"], header["FILTER"], header["NOISE"]) == (28.9, "F444W", "dja")
    assert "FLT00001" not in header


def test_a_target_off_the_mosaic_or_without_data_is_refused() -> None:
    image = make_mosaic()
    with pytest.raises(PhotplugError, match=r"^10 lies at x, y = 199.6, 5.0, off the mosaic of 200 x 160 pixels"):
        cut(image, make_table(image.wcs, (199.6, 5.0, 1.0)))
    empty = make_mosaic(weight=np.zeros(SHAPE, np.float32))
    with pytest.raises(PhotplugError, match="10 has no pixel with data in its Kron ellipse"):
        cut(empty, make_table(image.wcs, (*TARGET, 1.0)))


def test_a_missing_column_is_named() -> None:
    image = make_mosaic()
    table = make_table(image.wcs, (*TARGET, 1.0))
    with pytest.raises(PhotplugError, match="no column f444w_tot_1"):
        cut(image, table, flux="f444w_tot_1")
    table.remove_column("kron_radius")
    with pytest.raises(PhotplugError, match="no column kron_radius"):
        cut(image, table)


@pytest.mark.parametrize("size", [0, -1.0, float("nan")])
def test_a_stamp_of_no_size_is_refused(size: float) -> None:
    with pytest.raises(PhotplugError, match="option size"):
        GalfitOptions(size=size)
