"""Headers in every form that astropy reads: positions as astropy has them, or a refusal."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from dja_photplug.errors import PhotplugError
from dja_photplug.sky.grid import check_pixels, check_same_grid, pixel_positions, pixel_scale, sky_positions, world_axes
from dja_photplug.sky.headers import crop_header, find_contradiction, header_wcs

SHAPE = (200, 300)
STEP = 0.04 / 3600
COS, SIN = np.cos(np.radians(33)), np.sin(np.radians(33))
CD = {"CD1_1": -STEP, "CD2_2": STEP}
CDELT = {"CDELT1": -STEP, "CDELT2": STEP}
TURNED = {"1_1": COS, "1_2": -SIN, "2_1": SIN, "2_2": COS}


def make_header(kind: tuple[str, str] = ("RA---TAN", "DEC--TAN"), **cards: object) -> fits.Header:
    """Return the header of a mosaic of 300 x 200 pixels in any form."""
    header = fits.Header({"NAXIS": 2, "NAXIS1": SHAPE[1], "NAXIS2": SHAPE[0], "CTYPE1": kind[0], "CTYPE2": kind[1]})
    header.update({"CRVAL1": 34.4, "CRVAL2": -5.2, "CRPIX1": 150.5, "CRPIX2": 90.25})
    header.update(cards)
    return header


def swap(kind: str = "TAN", **cards: object) -> fits.Header:
    """Return a header whose first axis is Dec."""
    return make_header((f"DEC--{kind}", f"RA---{kind}"), CRVAL1=-5.2, CRVAL2=34.4, **cards)


FORMS = {
    "CD": make_header(**CD),
    "CD turned": make_header(**{f"CD{key}": STEP * value for key, value in TURNED.items()}),
    "CD mirrored": make_header(CD1_1=STEP, CD2_2=STEP),
    "CD without its zeros": make_header(CD1_2=STEP, CD2_1=STEP),
    "CD001001": make_header(CD001001=-STEP, CD001002=0.0, CD002001=0.0, CD002002=STEP),
    "CD and CROTA2": make_header(**CD, **CDELT, CROTA2=30.0),
    "CDELT": make_header(**CDELT),
    "CDELT and CROTA2": make_header(**CDELT, CROTA2=30.0),
    "CDELT and CROTA2, mirrored": make_header(CDELT1=STEP, CDELT2=STEP, CROTA2=30.0),
    "CDELT and CROTA1": make_header(**CDELT, CROTA1=30.0),
    "CDELT in arcsec": make_header(
        CDELT1=-0.04, CDELT2=0.04, CRVAL1=34.4 * 3600, CRVAL2=-5.2 * 3600, CUNIT1="arcsec", CUNIT2="arcsec"
    ),
    "PC": make_header(**CDELT, **{f"PC{key}": value for key, value in TURNED.items()}),
    "PC and CROTA2": make_header(**CDELT, **{f"PC{key}": value for key, value in TURNED.items()}, CROTA2=7.0),
    "PC001001": make_header(**CDELT, PC001001=COS, PC001002=-SIN, PC002001=SIN, PC002002=COS),
    "PC of two elements": make_header(**CDELT, PC1_1=0.0, PC1_2=1.0, PC2_1=-1.0, PC2_2=0.0),
    "LONPOLE": make_header(**CD, LONPOLE=140.0),
    "Dec first": swap(CD1_2=STEP, CD2_1=-STEP),
    "Dec first, turned": swap(**{f"CD{key}": STEP * value for key, value in TURNED.items()}),
    "Dec first, CROTA2": swap(**CDELT, CROTA2=30.0),
    "Dec first, PC": swap(**CDELT, **{f"PC{key}": value for key, value in TURNED.items()}),
    "Dec first, PV": swap("SIN", CD1_2=STEP, CD2_1=-STEP, PV1_1=0.01, PV1_2=0.02),
    "three axes": make_header(**CD, WCSAXES=2, CTYPE3="WAVE", CRVAL3=1e-6, CDELT3=1e-7),
    "ICRS": make_header(**CD, RADESYS="ICRS"),
    "FK5": make_header(**CD, RADESYS="FK5", EQUINOX=2000.0),
    "FK5 by its equinox": make_header(**CD, EQUINOX=2000.0),
    "FK5 of 1975": make_header(**CD, RADESYS="FK5", EQUINOX=1975.0),
    "RADECSYS": make_header(**CD, RADECSYS="FK5", EQUINOX=2000.0),
    "FK4": make_header(**CD, RADESYS="FK4", EQUINOX=1950.0),
    "FK4 by its equinox": make_header(**CD, EQUINOX=1950.0),
    "FK4-NO-E": make_header(**CD, RADESYS="FK4-NO-E", EQUINOX=1950.0),
    "EPOCH": make_header(**CD, EPOCH=1950.0),
    "galactic": make_header(("GLON-TAN", "GLAT-TAN"), **CD),
    "galactic, latitude first": make_header(("GLAT-TAN", "GLON-TAN"), CRVAL1=-5.2, CRVAL2=34.4, CD1_2=STEP, CD2_1=STEP),
    **{name: make_header((f"RA---{name}", f"DEC--{name}"), **CD) for name in ("SIN", "ZEA", "STG", "ARC")},
    "CAR on the equator": make_header(("RA---CAR", "DEC--CAR"), **CD, CRVAL2=0.0),
    "slant SIN": make_header(("RA---SIN", "DEC--SIN"), **CD, PV2_1=0.01, PV2_2=0.02),
    "TPV": make_header(("RA---TPV", "DEC--TPV"), **CD, PV1_0=0.0, PV1_1=1.0, PV1_2=0.0, PV2_0=1e-4, PV2_1=1.0),
    "SIP in name alone": make_header(("RA---TAN-SIP", "DEC--TAN-SIP"), **CD),
}


def by_astropy(header: fits.Header) -> WCS:
    """Return the WCS that astropy makes of the whole header, of which it may take another epoch or spelling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header, naxis=2)


def lattice() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(-20, 320, 7), np.linspace(-20, 220, 5))
    return x.ravel(), y.ravel()


@pytest.mark.parametrize("form", FORMS)
def test_positions_are_those_of_astropy(form: str) -> None:
    header, (x, y) = FORMS[form], lattice()
    truth = by_astropy(header).pixel_to_world(x, y).icrs
    wcs = header_wcs(header)
    # 0.01 mas: float64 rounding of degrees, and of the rotation from frame to frame.
    assert SkyCoord(*sky_positions(wcs, x, y), unit="deg").separation(truth).mas.max() < 0.01
    assert wcs.pixel_to_world(x, y).icrs.separation(truth).mas.max() < 0.01
    np.testing.assert_allclose(pixel_positions(wcs, truth.ra.deg, truth.dec.deg), [x, y], atol=1e-3)
    assert pixel_scale(wcs) == pytest.approx(0.04, rel=2e-3)  # of the slant projection, 5e-4
    assert wcs.array_shape == SHAPE


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_the_same_grid(form: str) -> None:
    wcs = header_wcs(FORMS[form])
    check_same_grid(wcs, header_wcs(wcs.to_header()), SHAPE)
    cut = header_wcs(crop_header(FORMS[form], (slice(20, 120), slice(50, 200))))
    check_same_grid(cut, wcs[20:120, 50:200], (100, 150))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "slant SIN" and "PV" not in form])
def test_square_pixels_pass(form: str) -> None:
    check_pixels(header_wcs(FORMS[form]), SHAPE)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (make_header(CDELT1=-STEP, CDELT2=1.01 * STEP), "0.04 x 0.0404 arcsec"),
        (make_header(CD1_1=-STEP, CD1_2=0.01 * STEP, CD2_2=STEP), "square"),
        (make_header(("RA---CAR", "DEC--CAR"), **CD, CRVAL2=0.0, CRPIX2=-30 / STEP), "square"),
        (make_header(("RA---SIN", "DEC--SIN"), **CD, CRPIX2=-10 / STEP), "square"),
        (make_header(("RA---ARC", "DEC--ARC"), **CD, CRPIX1=-30 / STEP), "square"),
        (make_header(("RA---SIN", "DEC--SIN"), **CD, CRPIX2=-80 / STEP), "no pixel of the image has a position"),
    ],
)
def test_pixels_that_are_not_square_on_the_sky_are_refused(header: fits.Header, words: str) -> None:
    with pytest.raises(PhotplugError, match=words):
        check_pixels(header_wcs(header), SHAPE)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (make_header(), "keywords CDELT1, CDELT2 are missing"),
        (make_header(("ELON-TAN", "ELAT-TAN"), **CD), "ELON-TAN, ELAT-TAN, an unknown frame"),
        (
            make_header(("ELON-TAN", "ELAT-TAN"), **CD, RADESYS="ICRS"),
            "ELON-TAN, ELAT-TAN and RADESYS ICRS, an unknown frame",
        ),
        (
            make_header(("GLON-TAN", "GLAT-TAN"), **CD, RADESYS="FK5"),
            "GLON-TAN, GLAT-TAN and RADESYS FK5, an unknown frame",
        ),
        (make_header(("SLON-TAN", "SLAT-TAN"), **CD), "an unknown frame"),
        (make_header(("TLON-TAN", "TLAT-TAN"), **CD), "an unknown frame"),
        (make_header(**CD, RADESYS="GAPPT"), "an unknown frame"),
        (make_header(("RA---TAN", "DEC--SIN"), **CD), "is not valid"),
        (make_header(("RA---TAN", "LINEAR"), **CD), "CTYPE1 is 'RA---TAN' and CTYPE2 is 'LINEAR', not right ascension"),
        (make_header(("RA---XYZ", "DEC--XYZ"), **CD), "is not valid"),
        (make_header(("RA", "DEC"), **CD), "no celestial WCS"),
        (make_header(("RA---TAN", "WAVE"), **CD), "CTYPE2 is 'WAVE', not right ascension"),
        (make_header(("RA---TAN", "GLAT-TAN"), **CD), "CTYPE2 is 'GLAT-TAN', not right ascension"),
        (
            make_header(CD1_1=STEP, CD1_2=STEP, CD2_1=STEP, CD2_2=STEP),
            "CD1_1, CD1_2, CD2_1, CD2_2 form a singular matrix",
        ),
        (make_header(CD1_1=STEP, CD1_2=STEP), "keywords CD2_1, CD2_2 are missing"),
        (
            make_header(**CD | {"CDELT1": 1.0, "CDELT2": 1.0}, CRPIX1="middle"),
            "keyword CRPIX1 is 'middle', not a number",
        ),
        (make_header(CDELT1=0.0, CDELT2=STEP), "CDELT1, CDELT2 form a singular matrix"),
        (make_header(CDELT1=STEP), "keyword CDELT2 is missing"),
        (make_header(**CD, CUNIT1="parsec"), "keyword CUNIT1 is 'parsec', not a unit of angle"),
        (make_header(CD1_1="x", CRVAL1="y"), "CRVAL1 is 'y', .*; also: keyword CD1_1 is 'x'"),
        (make_header(**CD, CTYPE1=3), "keyword CTYPE1 is 3, not a text|no celestial WCS"),
        (make_header(CD1_1=True, CD2_2=STEP), "keyword CD1_1 is True, not a number"),
        (make_header(**CD, A_ORDER=2, A_2_0=1e-5), "distorted .A_2_0"),
        (make_header(**CD, CPDIS1="LOOKUP"), "distorted .CPDIS1"),
        (make_header(**CD, D2IMDIS2="LOOKUP"), "distorted .D2IMDIS2"),
    ],
)
def test_what_is_no_place_on_the_sky_is_refused(header: fits.Header, words: str) -> None:
    with pytest.raises(PhotplugError, match=words) as caught:
        header_wcs(header)
    assert "\n" not in str(caught.value)


def test_matrices_that_contradict_each_other_are_told() -> None:
    same = {"CDELT1": 1.0, "CDELT2": 1.0, "PC1_1": -STEP, "PC2_2": STEP}
    assert find_contradiction(make_header(**CD)) is None
    assert find_contradiction(make_header(**CDELT)) is None
    assert find_contradiction(make_header(**CD, **same)) is None
    assert "CD is used" in str(find_contradiction(make_header(**CD, **same | {"PC1_2": 0.01 * STEP})))


def test_another_grid_is_refused_with_its_distance() -> None:
    wcs = header_wcs(FORMS["CD"])
    check_same_grid(wcs, header_wcs(make_header(**CD, CRPIX1=150.58)), SHAPE)
    for header, words in (
        (make_header(**CD, CRPIX1=153.5), "up to 3.0 pixels off"),
        (FORMS["CD turned"], "pixels off"),
        (FORMS["CD mirrored"], "pixels off"),
        (make_header(**CD, CRVAL1=214.4, CRVAL2=5.2), "off"),
        (FORMS["FK5 of 1975"], "pixels off"),
    ):
        with pytest.raises(PhotplugError, match=words):
            check_same_grid(wcs, header_wcs(header), SHAPE)


def test_no_positions_are_no_pixels() -> None:
    wcs = header_wcs(FORMS["galactic"])
    assert world_axes(wcs, [], []).shape == (0, 2)
    assert [axis.shape for axis in pixel_positions(wcs, [], [])] == [(0,), (0,)]
    assert np.isnan(pixel_positions(wcs, [np.nan], [np.nan])).all()


def test_numbers_in_quotes_are_numbers_and_what_is_not_used_does_no_harm() -> None:
    quoted = make_header(CD1_1=str(-STEP), CD2_2=str(STEP), CRPIX1="150.5", CRVAL2="-5.2", PC1_1="lost", CDELT1=0.0)
    wcs = header_wcs(FORMS["CD"])
    check_same_grid(wcs, header_wcs(quoted), SHAPE)
    check_same_grid(wcs[20:120, 50:200], header_wcs(crop_header(quoted, (slice(20, 120), slice(50, 200)))), (100, 150))
    assert find_contradiction(quoted) is None
