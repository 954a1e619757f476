"""The schema of catalogues: columns, units and descriptions."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

from dja_photplug.catalog.schema import COLUMNS, EPOCH_COLUMNS, describe_columns, dress_table
from dja_photplug.errors import PhotplugError
from tests.helpers import EPOCH_NAMES, SOURCE_NAMES, make_catalog


def test_columns_are_those_of_the_contract() -> None:
    assert [spec.name for spec in COLUMNS] == SOURCE_NAMES.split()
    assert [spec.name for spec in EPOCH_COLUMNS] == EPOCH_NAMES
    aperture = ["flux_aper_1", "fluxerr_aper_1", "depth5_1", "flag_aper_1"]
    assert [spec.name for spec in describe_columns(2)[-4:]] == aperture
    units = {spec.name: spec.unit for spec in describe_columns(1, epochs=True)}
    expected = {"flux_aper_0": "uJy", "fluxerr_iso": "uJy", "a": "arcsec", "flux_radius": "arcsec", "theta": "deg"}
    expected |= {"ra": "deg", "x": "pix", "mag_auto": "mag", "exptime": "s", "mjd_min": "d", "kron_radius": ""}
    assert {name: units[name] for name in expected} == expected


def test_every_column_says_what_it_is_in_valid_units() -> None:
    for spec in describe_columns(2, epochs=True):
        u.Unit(spec.unit)
        assert spec.description.isascii()
        assert "{" not in spec.description
    table = make_catalog()
    assert all(table[name].info.description for name in table.colnames)


def test_dress_table_converts_quantities_and_types() -> None:
    specs = [spec for spec in COLUMNS if spec.name in ("id", "theta")]
    table = dress_table({"theta": [np.pi / 2] * u.rad, "id": [1.0]}, specs)
    assert table.colnames == ["id", "theta"]
    assert table["theta"][0].to_value(u.deg) == pytest.approx(90)
    assert table["id"].dtype == np.int64


@pytest.mark.parametrize(
    ("columns", "words"), [({"id": [1]}, "misses columns ra"), ({"q": [1]}, "misses columns id, ra")]
)
def test_dress_table_misses_nothing(columns: dict, words: str) -> None:
    with pytest.raises(PhotplugError, match=words):
        dress_table(columns, COLUMNS[:2])


def test_dress_table_refuses_unknown_columns() -> None:
    with pytest.raises(PhotplugError, match="unknown columns extra"):
        dress_table({"id": [1], "extra": [1]}, COLUMNS[:1])
