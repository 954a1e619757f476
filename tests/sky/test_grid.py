"""The grid of a mosaic: WCS, pixel scale, and windows from every form of cut-out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from regions import (
    CirclePixelRegion,
    CircleSkyRegion,
    PixCoord,
    PointSkyRegion,
    PolygonPixelRegion,
    PolygonSkyRegion,
    RectanglePixelRegion,
    RectangleSkyRegion,
)

from dja_photplug.errors import PhotplugError
from dja_photplug.files.pixels import ImageReader
from dja_photplug.sky.cutouts import resolve_cutout
from dja_photplug.sky.grid import crop_header, header_wcs, pixel_scale
from tests.helpers import uds_prefix

SHAPE = (200, 300)
SCALE = 0.04  # arcsec


def make_header(matrix: str = "CD", *, angle: float = 0.0, scale: float = SCALE) -> fits.Header:
    """Return the header of a tangential mosaic of 300 x 200 pixels."""
    header = fits.Header({"NAXIS": 2, "NAXIS1": SHAPE[1], "NAXIS2": SHAPE[0]})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"})
    header.update({"CRVAL1": 34.4, "CRVAL2": -5.2, "CRPIX1": 150.5, "CRPIX2": 100.5, "RADESYS": "ICRS"})
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    rotation = {"1_1": -c, "1_2": s, "2_1": s, "2_2": c}
    step = scale / 3600
    if "CD" in matrix:
        header.update({f"CD{key}": value * step for key, value in rotation.items()})
    if "PC" in matrix:
        header.update({f"PC{key}": value for key, value in rotation.items()})
        header.update({"CDELT1": step, "CDELT2": step})
    return header


GRID = header_wcs(make_header())


def positions(wcs: WCS) -> np.ndarray:
    """Return the sky at some pixels, in mas from the reference point."""
    ra, dec = wcs.all_pix2world([0, 299, 10, 150], [0, 0, 199, 100], 0)
    return np.array([(ra - 34.4) * np.cos(np.radians(-5.2)), dec + 5.2]) * 3.6e6


@pytest.mark.parametrize("angle", [0, 37])
def test_the_matrix_is_read_in_either_form(angle: float) -> None:
    by_astropy = positions(WCS(make_header("CD", angle=angle)))
    for matrix in ("CD", "PC"):
        # 1e-3 mas is float64 rounding of degrees (360 deg * 2e-16 = 3e-7 mas) with a wide margin.
        np.testing.assert_allclose(positions(header_wcs(make_header(matrix, angle=angle))), by_astropy, atol=1e-3)


def test_cd_wins_over_a_pc_matrix_beside_it() -> None:
    header = make_header("CD PC", angle=37)
    header["PC1_1"], header["CDELT1"] = 0.5, 1.0  # real headers: PC holds the CD matrix, CDELT is 1
    np.testing.assert_allclose(positions(header_wcs(header)), positions(WCS(make_header("CD", angle=37))), atol=1e-3)


def test_a_rotation_by_90_degrees_may_leave_out_its_zeros() -> None:
    header = make_header("CD PC", angle=90)
    del header["CD1_1"], header["CD2_2"]
    header["CDELT1"] = 1.0
    assert pixel_scale(header_wcs(header)) == pytest.approx(SCALE, rel=1e-9)  # float64


def test_the_cards_of_the_exposures_are_not_parsed() -> None:
    header = make_header()
    header["SIPCRVL1"] = "no number"
    header["CTYPE3"] = "WAVE"
    header["DATE-OBS"] = "not a date"  # would warn: warnings are errors here
    wcs = header_wcs(header)
    assert wcs.naxis == 2
    assert wcs.array_shape == SHAPE


def test_a_header_without_wcs_is_refused() -> None:
    for header in (fits.Header(), fits.Header({"NAXIS": 2, "CRVAL1": 3.0, "CTYPE1": "LINEAR"})):
        with pytest.raises(PhotplugError, match="no celestial WCS"):
            header_wcs(header)


@pytest.mark.parametrize("scale", [0.02, 0.04, 0.1])
@pytest.mark.parametrize("matrix", ["CD", "PC"])
def test_the_pixel_scale_is_that_of_the_header(matrix: str, scale: float) -> None:
    assert pixel_scale(header_wcs(make_header(matrix, angle=20, scale=scale))) == pytest.approx(scale, rel=1e-9)


def test_real_mosaics_are_on_40_mas(data: Path) -> None:
    for band in ("f444w", "f115w"):
        with ImageReader(f"{uds_prefix(data, band)}_drc_sci.fits.gz") as reader:
            assert {"CD1_1", "PC1_1"} <= set(reader.header)
            wcs = header_wcs(reader.header)
            # 1e-6: the cards hold 40 mas / 3600 to 12 digits or more.
            assert pixel_scale(wcs) == pytest.approx(SCALE, rel=1e-6)
            centre = wcs.pixel_to_world(0, 0)
            assert (wcs.world_to_pixel(centre)) == pytest.approx((0, 0), abs=1e-6)  # the solver's tolerance


def test_a_cropped_header_describes_its_pixels() -> None:
    header = make_header(angle=15)
    window = (slice(20, 50), slice(100, 180))
    cropped = crop_header(header, window)
    assert (cropped["NAXIS1"], cropped["NAXIS2"]) == (80, 30)
    assert (header["NAXIS1"], header["CRPIX1"]) == (300, 150.5)  # untouched
    sky = header_wcs(cropped).pixel_to_world(3, 4)
    assert sky.separation(header_wcs(header).pixel_to_world(103, 24)).mas < 1e-3  # float64 rounding of degrees
    assert header_wcs(cropped).wcs.crpix.tolist() == header_wcs(header)[window].wcs.crpix.tolist()
    assert "CRPIX1" not in crop_header(fits.Header({"NAXIS1": 3, "NAXIS2": 3}), (slice(0, 1), slice(0, 1)))


def bounds(cutout: object, wcs: WCS = GRID) -> tuple[int, int, int, int]:
    rows, columns = resolve_cutout(cutout, wcs, SHAPE)
    assert {type(edge) for edge in (rows.start, rows.stop, columns.start, columns.stop)} == {int}
    return rows.start, rows.stop, columns.start, columns.stop


def arcsec(*pixels: float) -> u.Quantity:
    return pixels * (SCALE * u.arcsec) if len(pixels) > 1 else pixels[0] * SCALE * u.arcsec


def test_nothing_asked_is_everything() -> None:
    assert bounds(None) == (0, 200, 0, 300)


@pytest.mark.parametrize(
    ("x", "y", "size", "expected"),
    [
        (100, 50, arcsec(5), (48, 53, 98, 103)),  # odd: as many pixels on each side
        (100, 50, arcsec(4), (48, 52, 98, 102)),  # even: the extra one before the centre
        (100, 50, arcsec(1), (50, 51, 100, 101)),
        (100, 50, arcsec(0.2), (50, 51, 100, 101)),  # never empty
        (100.4, 49.6, arcsec(5), (48, 53, 98, 103)),  # anywhere in the pixel
        (100, 50, arcsec(11, 21), (45, 56, 90, 111)),  # height and width
        (100, 50, (0.44 * u.arcsec, 0.014 * u.arcmin), (45, 56, 90, 111)),
        (100, 50, "0.2 arcsec", (48, 53, 98, 103)),
        (0, 0, arcsec(5), (0, 3, 0, 3)),  # trimmed at the corner
        (299, 199, arcsec(5), (197, 200, 297, 300)),
        (-3, 50, arcsec(9), (46, 55, 0, 2)),  # the centre itself is off
        (150, 100, 1 * u.deg, (0, 200, 0, 300)),
    ],
)
def test_centre_and_size(x: float, y: float, size: object, expected: tuple[int, ...]) -> None:
    sky = GRID.pixel_to_world(x, y)
    assert bounds((sky, size)) == expected
    assert bounds((sky.galactic, size)) == expected


def test_centre_and_size_are_those_of_cutout2d() -> None:
    rng = np.random.default_rng(1)
    wcs = header_wcs(make_header(angle=33))
    image = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    for _ in range(200):
        sky = wcs.pixel_to_world(rng.uniform(-5, 305), rng.uniform(-5, 205))
        # Not within 1e-3 of a half pixel, where the two may round the 0.04 arcsec differently.
        size = (rng.integers(12, 60, 2) + rng.uniform(-0.499, 0.499, 2)) * SCALE * u.arcsec
        rows, columns = resolve_cutout((sky, size), wcs, SHAPE)
        np.testing.assert_array_equal(image[rows, columns], Cutout2D(image, sky, size, wcs).data)


PIXEL_REGIONS = [
    # A pixel reaches 0.5 from its centre, so radius 5 about pixel 100 touches pixels 95 to 105.
    (CirclePixelRegion(PixCoord(100, 50), 5), (45, 56, 95, 106)),
    (RectanglePixelRegion(PixCoord(100, 50), width=20, height=10), (45, 56, 90, 111)),
    (RectanglePixelRegion(PixCoord(100, 50), width=20, height=10, angle=90 * u.deg), (40, 61, 95, 106)),
    (PolygonPixelRegion(PixCoord([10, 40, 20], [30, 30, 70])), (30, 71, 10, 41)),
    (CirclePixelRegion(PixCoord(0, 199), 5), (194, 200, 0, 6)),
    (CirclePixelRegion(PixCoord(3, 3), 1e4), (0, 200, 0, 300)),
]


@pytest.mark.parametrize(("region", "expected"), PIXEL_REGIONS)
def test_pixel_regions_give_their_box(region: object, expected: tuple[int, ...]) -> None:
    assert bounds(region) == expected


def test_sky_regions_give_their_box() -> None:
    centre = GRID.pixel_to_world(100, 50)
    corners = GRID.pixel_to_world([10.2, 40.2, 20.2], [30.2, 30.2, 70.2])
    # 0.2 inside of pixel edges, because the sky comes back rounded.
    assert bounds(CircleSkyRegion(centre, arcsec(5.2))) == (45, 56, 95, 106)
    assert bounds(RectangleSkyRegion(centre, width=arcsec(20.4), height=arcsec(10.4))) == (45, 56, 90, 111)
    assert bounds(PolygonSkyRegion(corners)) == (30, 71, 10, 41)
    assert bounds(PointSkyRegion(centre)) == (50, 51, 100, 101)
    union = CircleSkyRegion(centre, arcsec(5.2)) | CircleSkyRegion(GRID.pixel_to_world(200, 150), arcsec(5.2))
    assert bounds(union) == (45, 156, 95, 206)


@pytest.mark.parametrize(
    "slices",
    [
        (slice(3, 9), slice(20, 40)),
        (slice(None), slice(None)),
        (slice(-10, None), slice(None, -290)),
        (slice(-10, -5), slice(290, 1000)),
        (slice(None, 5, 1), slice(np.int64(7), np.int32(9))),
        (slice(-1000, 4), slice(299, None)),
    ],
)
def test_slices_mean_what_they_mean_in_numpy(slices: tuple[slice, slice]) -> None:
    y0, y1, x0, x1 = bounds(slices)
    image = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    np.testing.assert_array_equal(image[y0:y1, x0:x1], image[slices])


ON = GRID.pixel_to_world(100, 50)


@pytest.mark.parametrize(
    "cutout",
    [
        (GRID.pixel_to_world(-50, 50), arcsec(10)),
        (GRID.pixel_to_world(100, 400), arcsec(10)),
        CirclePixelRegion(PixCoord(-100, 50), 5),
        CircleSkyRegion(GRID.pixel_to_world(500, 500), 1 * u.arcsec),
        (slice(500, 600), slice(0, 10)),
        (slice(5, 5), slice(0, 10)),
        (slice(0, 10), slice(20, 10)),
    ],
)
def test_a_cutout_without_pixels_is_refused(cutout: object) -> None:
    with pytest.raises(PhotplugError, match="empty or lies off the mosaic of 300 x 200 pixels"):
        resolve_cutout(cutout, GRID, SHAPE)


ANTIPODE = SkyCoord(34.4 + 180, 5.2, unit="deg")


@pytest.mark.parametrize(
    "cutout",
    [
        ON,
        (ON,),
        (ON, 5),  # no unit
        (ON, 5 * u.s),
        (ON, 5 * u.pix),
        (ON, "wide"),
        (ON, None),
        (ON, 0 * u.arcsec),
        (ON, -1 * u.arcsec),
        (ON, np.nan * u.arcsec),
        (ON, np.inf * u.arcsec),
        (ON, [1, 2, 3] * u.arcsec),
        (SkyCoord([34.4, 34.4], [-5.2, -5.2], unit="deg"), 1 * u.arcsec),
        (SkyCoord([34.4], [-5.2], unit="deg"), 1 * u.arcsec),
        (ANTIPODE, 1 * u.arcsec),
        (SkyCoord(np.nan, 0, unit="deg"), 1 * u.arcsec),
        CircleSkyRegion(ANTIPODE, 1 * u.arcsec),
        (slice(0, 10, 2), slice(0, 10)),
        (slice(10, 0, -1), slice(0, 10)),
        (slice(0.5, 3), slice(0, 10)),
        (slice(0, 10), 5),
        slice(0, 10),
        (0, 10, 0, 10),
        "34.4 -5.2 10",
        10,
    ],
    ids=str,
)
def test_other_forms_are_refused_in_one_sentence(cutout: object) -> None:
    with pytest.raises(
        PhotplugError, match=r"give \(SkyCoord, size\), a regions region, or a pair of slices"
    ) as caught:
        resolve_cutout(cutout, GRID, SHAPE)
    assert "\n" not in str(caught.value)
