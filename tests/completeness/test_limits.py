"""Limits of completeness from sources drawn from known curves: right within their errors, or not known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy import units as u
from scipy.special import erfc, erfcinv

from dja_photplug.completeness.limits import CURVE_COLUMNS, LEVELS, LIMIT_COLUMNS, fit_completeness
from dja_photplug.errors import PhotplugError
from tests.helpers import make_injected, make_places

RANGE = (24.0, 31.0)


def draw(n, seed, curve, **columns):
    """Return n sources of magnitudes evenly over the range, recovered with the probability of ``curve(mag)``."""
    rng = np.random.default_rng(seed)
    mag = rng.uniform(*RANGE, n)
    sources = make_injected(mag, np.zeros(n))
    for axis in "xy":
        sources[axis] = rng.uniform(0, 1000, n) * u.pix
    for name, values in columns.items():
        sources[name] = values
    sources["recovered"] = rng.random(n) < curve(mag)
    return sources


def gaussian_noise(middle, width, asymptote=1.0):
    """Return a completeness curve by Gaussian noise, no logistic, and its inverse."""
    return (
        lambda mag: asymptote * erfc((mag - middle) / width) / 2,
        lambda level: middle + width * erfcinv(2 * level / asymptote),
    )


@pytest.mark.parametrize(
    ("n", "width", "asymptote"), [(60, 0.3, 1.0), (250, 0.3, 1.0), (250, 0.6, 0.95), (4000, 0.6, 0.95)]
)
def test_limits_are_right_within_their_errors(n, width, asymptote):
    """Of 10 samples the scatter over error is known to 22 %; it is below 1, because the model is not known either."""
    curve, invert = gaussian_noise(27.7, width, asymptote)
    found = [fit_completeness(draw(n, seed, curve), make_places(), RANGE).find() for seed in range(10)]
    for level in (0.5, 0.8, 0.9):
        limits = [limit for limit in (curve.limit(level) for curve in found) if not limit.note]
        # 250 sources do not always tell whether 95 % is more than 90.
        assert len(limits) >= (10 if level < 0.9 or n == 4000 else 6)
        pull = np.array([(limit.mag - invert(level)) / limit.error for limit in limits])
        assert 0.4 < np.sqrt(np.mean(pull**2)) < 1.4, level
        assert abs(np.median(pull)) < 0.8, level
        # 1.1 / sqrt of the 9 of 60 sources within half a magnitude is 0.37, of 4000 it is 0.05.
        assert max(limit.error for limit in limits) < (0.5 if n == 60 else 0.4 if n == 250 else 0.1)


def test_a_shelf_between_depth_zones_is_followed():
    """Half of the area is 1.2 mag deeper: half of the sources are found in between, of 45 % more."""
    curve, _ = gaussian_noise(27.7, 0.3)
    rng = np.random.default_rng(5)
    deep = np.arange(10_000) % 100 < 45
    places = make_places(depth=np.where(deep, 1.2, 0.0), zone=np.where(deep, 0, 1))
    here = rng.random(600) < 0.45
    depth = np.where(here, 1.2, 0.0)
    columns = {"depth": depth * u.mag, "zone": np.where(here, 1, 2), "x": np.where(here, 200, 700) * u.pix}
    done = fit_completeness(draw(600, 6, lambda mag: curve(mag - depth), **columns), places, RANGE)
    mag = np.linspace(*RANGE, 7001)
    whole = 0.45 * curve(mag - 1.2) + 0.55 * curve(mag)
    for level in (0.3, 0.5, 0.8):
        limit = done.find().limit(level)
        assert limit.mag == pytest.approx(mag[np.argmax(whole < level)], abs=2 * limit.error)
        assert limit.error < 0.15
    for zone, shift in ((1, 1.2), (2, 0.0)):
        limit = done.find(zone=zone).limit(0.5)
        assert limit.mag == pytest.approx(27.7 + shift, abs=2 * limit.error)
        assert limit.error < 0.12
        assert done.find(zone=zone).area == pytest.approx(0.45 if zone == 1 else 0.55)
    low, median, high = done.find().band
    expected = 0.45 * curve(done.find().mag - 1.2) + 0.55 * curve(done.find().mag)
    assert np.mean((low - 0.01 < expected) & (expected < high + 0.01)) > 0.6
    assert np.abs(median - expected).max() < 0.08
    for zone in (0, 3):
        with pytest.raises(PhotplugError, match=f"depth zone {zone}: this mosaic has zones 1 to 2"):
            done.find(zone=zone)


FAINT, BRIGHT = gaussian_noise(50, 0.3)[0], gaussian_noise(10, 0.3)[0]


@pytest.mark.parametrize(
    ("n", "curve", "level", "words"),
    [
        (500, FAINT, 0.5, "fainter than 31 mag, the faintest injected; inject fainter ones"),
        (8, gaussian_noise(27.5, 0.3)[0], 0.5, "8 injected sources, 5 of them recovered, say too little; inject more"),
        (60, BRIGHT, 0.5, "at 24 mag, the brightest injected"),
        (500, gaussian_noise(27.5, 0.3, 0.7)[0], 0.9, "not reached: completeness 0.7"),
        (500, gaussian_noise(24.0, 0.2)[0], 0.9, "not reached: completeness 0."),  # at the very end of the range
        (2000, gaussian_noise(27.5, 0.3, 0.90)[0], 0.9, "say too little"),  # the asymptote is the level
    ],
)
def test_what_sources_do_not_tell_is_not_known(n, curve, level, words):
    limit = fit_completeness(draw(n, 2, curve), make_places(), RANGE).find().limit(level)
    assert words in limit.note
    assert "\n" not in limit.note
    assert np.isnan([limit.mag, limit.error]).all()


def test_asymptote_below_one_leaves_the_limits_below_it():
    curve, invert = gaussian_noise(27.5, 0.4, 0.7)
    done = fit_completeness(draw(3000, 8, curve), make_places(), RANGE)
    limit = done.find().limit(0.5)
    assert limit.mag == pytest.approx(invert(0.5), abs=2 * limit.error)
    assert limit.error < 0.1
    assert done.find().band[1][0] == pytest.approx(0.7, abs=0.04)
    complete, why = done.describe()
    assert complete == f"complete to 50 % at {limit.mag:.2f} +- {limit.error:.2f} mag"
    assert why.startswith("limit at 80 %, 90 % not known: not reached: completeness 0.7")


def test_errors_hold_what_places_near_each_other_share():
    """20 sources with one fate at each place tell hardly more than one: sqrt(20) smaller errors would be wrong."""
    curve, _ = gaussian_noise(27.7, 0.5)
    once = draw(150, 1, curve)
    again = once[np.repeat(np.arange(150), 20)]
    alone, many = (fit_completeness(sources, make_places(), RANGE) for sources in (once, again))
    assert alone.deff < 2
    assert many.deff > 8
    ratio = many.find().limit(0.5).error / alone.find().limit(0.5).error
    assert 0.6 < ratio < 1.5


def test_errors_hold_how_much_of_other_sky_brighter_sources_cover():
    """A fifth of the area is lost to one bright source, or to many: one of them could as well have been elsewhere."""
    x, y = np.arange(10_000) % 100, np.arange(10_000) // 100
    errors = []
    free, invert = gaussian_noise(27.7, 0.4)
    for covered in ((x + 3 * y) % 5 == 0, (x < 40) & (y < 50)):
        places = make_places(host=np.where(covered, 1e9, -np.inf))
        rng = np.random.default_rng(2)
        column, row = rng.integers(0, 100, (2, 3000))
        blended = covered[row * 100 + column]
        where = {"x": (column * 10.0 + 4.5) * u.pix, "y": (row * 10.0 + 4.5) * u.pix, "blended": blended}
        done = fit_completeness(draw(3000, 4, lambda mag, b=blended: np.where(b, 0, free(mag)), **where), places, RANGE)
        limit, clear = done.find().limit(0.5), done.find(clear=True).limit(0.5)
        assert limit.mag == pytest.approx(invert(0.5 / 0.8), abs=2 * limit.error)
        assert clear.mag == pytest.approx(27.7, abs=2 * clear.error + 0.01)
        assert done.find(clear=True).n == np.sum(~blended)
        errors.append(limit.error)
    assert errors[1] > 1.5 * errors[0]


def test_blended_places_are_those_of_the_mosaic_and_not_of_the_sample():
    """A third of the sources lie on brighter ones by chance, but a tenth of the area does."""
    places = make_places(host=np.where(np.arange(10_000) % 10 == 0, 1e9, -np.inf))
    blended = np.arange(900) % 3 == 0
    curve, invert = gaussian_noise(27.7, 0.4)
    sources = draw(900, 4, lambda mag: np.where(blended, 0, curve(mag)), blended=blended)
    limit = fit_completeness(sources, places, RANGE).find().limit(0.8)
    assert limit.mag == pytest.approx(invert(0.8 / 0.9), abs=2 * limit.error)


def test_limits_are_stored_with_their_zones():
    """The second zone has too few sources to say anything by themselves."""
    zone = 1 + (np.arange(400) % 50 == 0).astype(int)
    curve, _ = gaussian_noise(27.7, 0.4)
    places = make_places(depth=np.repeat([0.5, 0.0], 5000), zone=np.repeat([0, 1], 5000))
    shift = np.where(zone == 1, 0.5, 0.0)
    sources = draw(400, 9, lambda mag: curve(mag - shift), zone=zone, depth=shift * u.mag)
    done = fit_completeness(sources, places, RANGE)
    cards, table = done.metadata(), done.limits
    assert table.colnames == [spec.name for spec in LIMIT_COLUMNS]
    assert done.table.colnames == [spec.name for spec in CURVE_COLUMNS]
    assert len(table) == 2 * 3 * len(LEVELS)
    deep = table[(table["zone"] == 1) & (table["sources"] == "all") & (table["level"] == 0.5)][0]
    assert json.loads(cards["MAG50Z"]) == [pytest.approx(deep["mag"].value, abs=1e-4), None]
    assert json.loads(cards["MAG50ZE"]) == [pytest.approx(deep["mag_err"].value, abs=1e-4), None]
    assert all(len(key) <= 8 for key in cards)
    lines = list(done.describe())
    assert lines[1].startswith(
        f"depth zone 1 (50 % of the area, 392 sources): complete to 50 % at {deep['mag'].value:.2f}"
    )
    assert lines[2] == "depth zone 2 (50 % of the area, 8 sources): complete to no level that is known"
    assert lines[-1].startswith("limit at 50 %, 80 %, 90 % of depth zone 2 not known: 8 injected sources, ")


def test_numbers_are_the_same_for_the_same_sources():
    sources = draw(200, 2, gaussian_noise(27.5, 0.4)[0])
    first, second = (fit_completeness(sources, make_places(), RANGE).limits for _ in range(2))
    np.testing.assert_array_equal(first["mag"].value, second["mag"].value)
