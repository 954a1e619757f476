"""Text that FITS headers do not take."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Column, QTable

from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import decode_text, encode_cards, encode_text
from dja_photplug.files.tables.columns import add_columns
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.files.tables.write import write_catalog, write_extended

TEXTS = ["data/d\u00eda", "\u6620\u50cf", "two\nlines", "tab\there", "\u00b5Jy " * 60]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_from_a_header(text):
    header = fits.Header()
    header.update(encode_cards({"TEXT": (text, "a d\u00eda")}))
    assert decode_text(fits.Header.fromstring(header.tostring())["TEXT"]) == text


@pytest.mark.parametrize("value", ["plain", "", '"quoted"', '"', "[1, 2]", '"\\u0041"', 3, 2.5, None, True])
def test_what_a_header_takes_is_left_alone(value):
    assert encode_text(value) is value
    assert decode_text(value) is value


def test_metadata_and_descriptions_of_catalogues(tmp_path):
    table = QTable({"id": [1, 2], "x": Column(np.ones(2), description="die Gr\u00f6\u00dfe")})
    table.meta = {f"TEXT{i}": text for i, text in enumerate(TEXTS)} | {"N": 3, "NAME": "plain"}
    for name in ("a.fits", "a.ecsv", "a.parquet"):
        back = read_catalog(write_catalog(table, tmp_path / name))
        expected = table.meta if name == "a.fits" else {**table.meta, "TEXT2": back.meta["TEXT2"]}  # ECSV folds lines
        assert {key: back.meta[key] for key in table.meta} == expected
        assert back["x"].description == "die Gr\u00f6\u00dfe"
    extended = add_columns(read_catalog(tmp_path / "a.fits"), {"y": Column([1.0, 2.0])})
    extended.meta["NEW"] = TEXTS[0]
    write_extended(extended, tmp_path / "b.fits", added=["y"], original=tmp_path / "a.fits")
    meta = read_catalog(tmp_path / "b.fits").meta
    assert {key: meta[key] for key in [*table.meta, "NEW"]} == table.meta | {"NEW": TEXTS[0]}


def test_names_of_columns_are_ascii_in_fits(tmp_path):
    table = QTable({"id": [1, 2], "gr\u00f6\u00dfe": [1.0, 2.0]})
    with pytest.raises(
        PhotplugError,
        match=r"a\.fits: FITS column names have at most 68 ASCII characters, and column 'gr\u00f6\u00dfe' does not fit",
    ):
        write_catalog(table, tmp_path / "a.fits")
    assert read_catalog(write_catalog(table, tmp_path / "a.ecsv")).colnames == table.colnames
    assert not (tmp_path / "a.fits").exists()
