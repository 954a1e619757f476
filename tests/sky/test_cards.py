"""Numbers of headers: what counts as one, and what is said where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from dja_photplug.errors import PhotplugError
from dja_photplug.sky.cards import read_card, read_numbers, try_both


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), "0.5", " 5e-1 "])
def test_numbers(value):
    assert read_numbers({"A": value, "B": "text"}, ["A"], "", optional=["C"]) == {"A": 0.5}


@pytest.mark.parametrize("value", [True, "half", "", None, np.nan, np.inf, "NaN", 1j, [1.0]])
def test_no_numbers(value):
    with pytest.raises(PhotplugError, match=r"keyword A is .*, not a number; correct it"):
        read_numbers({"A": value}, ["A"], "correct it")


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("positive number", 0, False),
        ("positive number", 0.1, True),
        ("positive whole number", 1.5, False),
        ("positive whole number", 4, True),
        ("positive whole number", -4, False),
        ("number", -4, True),
    ],
)
def test_kinds(kind, value, fits):
    if fits:
        assert read_numbers({"A": value}, ["A"], "", kind=kind) == {"A": value}
    else:
        with pytest.raises(PhotplugError, match=f"keyword A is {value}, not a {kind}"):
            read_numbers({"A": value}, ["A"], "", kind=kind)


def test_all_that_is_missing_or_wrong_is_named():
    with pytest.raises(PhotplugError) as error:
        read_numbers({"C": 0.0, "D": "x"}, ["A", "B", "C"], "do it", optional=["D", "E"], kind="positive number")
    assert str(error.value) == (
        "keywords A, B are missing, keyword C is 0.0, not a positive number, keyword D is 'x', not a positive number; "
        "do it"
    )


def test_a_card_that_cannot_be_parsed_is_its_text():
    header = fits.Header.fromstring(f"{'A       = 0.3 0.4 / of two':<80}{'B       =':<80}")
    assert [read_card(header, key) for key in "ABC"] == ["0.3 0.4", "", None]
    with pytest.raises(PhotplugError, match=r"keyword A is '0.3 0.4', not a number, keyword B is without a value"):
        read_numbers(header, ["A", "B"], "")


def test_the_same_keyword_twice():
    cards = [fits.Card("A", 1.0), fits.Card("A", 1.0), fits.Card("B", 1.0), fits.Card("B", 2.0)]
    header = fits.Header(cards)
    assert read_numbers(header, ["A"], "") == {"A": 1.0}
    with pytest.raises(PhotplugError, match=r"keyword B appears twice, with 1\.0 and 2\.0"):
        read_numbers(header, ["B"], "")


def test_two_steps_fail_as_one():
    def fail(text):
        raise PhotplugError(text)

    assert try_both(lambda: 1, lambda: "b") == (1, "b")
    for first, second, told in (("a", "b", "a; also: b"), ("a", "a", "a")):
        with pytest.raises(PhotplugError, match=f"^{told}$"):
            try_both(lambda text=first: fail(text), lambda text=second: fail(text))
    with pytest.raises(PhotplugError, match="^a$"):
        try_both(lambda: fail("a"), lambda: 1)
    with pytest.raises(PhotplugError, match="^b$"):
        try_both(lambda: 1, lambda: fail("b"))
