"""Positions as people write them."""

from __future__ import annotations

import pytest

from dja_photplug.errors import PhotplugError
from dja_photplug.sky.position import check_position, is_angle, parse_position, parse_square

RA, DEC = 34.0 + 18 / 60 + 12 / 3600, -(5 + 6 / 60 + 40.5 / 3600)


@pytest.mark.parametrize(
    "text",
    [
        f"{RA!r} {DEC!r}",
        f"{RA!r}deg {DEC!r}deg",
        f"{RA!r} deg {DEC!r} deg",
        f"{RA!r}d {DEC!r}d",
        f"{RA / 15!r}h {DEC!r}",
        "02:17:12.8 -05:06:40.5",
        "02 17 12.8 -05 06 40.5",
        "2h17m12.8s -5d06m40.5s",
        "2h 17m 12.8s -5d 6m 40.5s",
        "2 h 17 m 12.8 s -5 d 6 m 40.5 s",
        "34d18m12s -5d06m40.5s",
        "34\u00b018'12\" -5\u00b006'40.5''",
        "2h17m12.8s \u22125\u00b006\u203240.5\u2033",
        "02:17.21333333333333 -5:6.675",
        f"{RA!r}, {DEC!r}",
        f"{RA!r}DEG {DEC!r}DEG",
        "2H17M12.8S -5D06M40.5S",
    ],
)
def test_every_way_to_write_a_position(text):
    assert parse_position(text) == pytest.approx((RA, DEC), abs=1e-9)
    assert parse_square(f"{text} 4") == pytest.approx((RA, DEC, 4), abs=1e-9)
    assert all(is_angle(word) for word in text.split())


def test_a_declination_without_a_sign():
    assert parse_position("10 00 28.6 02 12 21") == pytest.approx((150.1191666667, 2.2058333333))
    assert parse_position("10:00:28.6 +0:12:21") == pytest.approx((150.1191666667, 0.2058333333))
    assert parse_position("10:00:28.6 -0:12:21") == pytest.approx((150.1191666667, -0.2058333333))


@pytest.mark.parametrize(
    ("side", "arcsec"), [("4", 4), ("4arcsec", 4), ('4"', 4), ("0.1arcmin", 6), ("0.1 arcmin", 6), ("0.001deg", 3.6)]
)
def test_units_of_a_side(side, arcsec):
    assert parse_square(f"34.3 -5.1 {side}") == pytest.approx((34.3, -5.1, arcsec))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("34.3", "is not a position"),
        ("1 2 3", "is not a position"),
        ("34.3 -5.1 +2", "is not a position"),
        ("x y", "'x' is not an angle"),
        ("02:61:12 -05:06:40", "'02:61:12' is not an angle"),
        ("2h -5h", "not a declination"),
        ("nan -5", "finite"),
    ],
)
def test_what_is_no_position(text, says):
    with pytest.raises(PhotplugError, match=says):
        parse_position(text)


def test_limits_of_a_position():
    check_position(-360, 90)
    for ra, dec, name in ((360.1, 0, "right ascension is 360.1"), (0, -90.5, "declination is -90.5")):
        with pytest.raises(PhotplugError, match=name):
            check_position(ra, dec)


def test_names_of_mosaics_are_no_angles():
    assert not any(is_angle(text) for text in ("3dhst-f444w-clear", "f444w", "", "02:17:12-f444w", "sec-f444w"))
