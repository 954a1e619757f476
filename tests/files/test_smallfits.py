"""Headers of files: whatever cards they have, they can be read and written."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from dja_photplug.files.smallfits import parse_header


def parse(*cards):
    return parse_header(b"".join((card if isinstance(card, bytes) else card.encode()).ljust(80) for card in cards))


@pytest.mark.parametrize(
    ("card", "key", "value"),
    [
        ("A       =                  0.5 / half", "A", 0.5),
        ("A       = 'it''s / so' / text", "A", "it's / so"),
        ("A       = 1.5D-8", "A", 1.5e-8),
        ("HIERARCH ESO DET GAIN = 2.3 / e-", "ESO DET GAIN", 2.3),
        ("A       = NaN", "A", "NaN"),
        ("A       = 2020-01-01 / a date", "A", "2020-01-01"),
        ("A       = 'open", "A", "open"),
        ("photfnu = 1e-8", "PHOTFNU", "1e-8"),
        (b"A       = 'Jos\xe9'", "A", "Jos?"),
        ("A B     = 3", "COMMENT", "A B     = 3"),
        ("CONTINUE  'of nothing'", "COMMENT", "CONTINUE  'of nothing'"),
        ("spam and eggs", "COMMENT", "spam and eggs"),
    ],
)
def test_cards(tmp_path, card, key, value):
    header = parse("BEFORE  = 1", card, "AFTER   = 2", "END", "LATER   = 3")
    assert header["BEFORE"] == 1
    assert header["AFTER"] == 2
    assert "LATER" not in header
    assert str(header[key]) == str(value)
    fits.PrimaryHDU(np.zeros((2, 2)), header).writeto(tmp_path / "a.fits")
    assert str(fits.getheader(tmp_path / "a.fits")[key]) == str(value)


def test_texts_that_go_on():
    header = parse("A       = 'begins &'", "CONTINUE  'goes on &' / of A", "CONTINUE  'and ends'", "B       = 1")
    assert header["A"] == "begins goes on and ends"
    assert header["B"] == 1


def test_real_headers_are_as_astropy_has_them(data):
    text = (data / "smacs0723/smacs0723-grizli-v7.0-f444w-clear_drc_exp.header.txt").read_text()
    cards = [f"{line:<80}" for line in text.splitlines()]
    assert parse(*cards) == fits.Header.fromstring(text, sep="\n")
