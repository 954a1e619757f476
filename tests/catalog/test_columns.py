"""What columns of catalogues say: positions, ids and numbers, however they are named, written or missing."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

from dja_photplug.catalog.columns import column_values, describe_missing, find_ids, find_positions, has_position
from dja_photplug.errors import PhotplugError


@pytest.mark.parametrize("names", ["ra dec", "RA DEC", "ALPHA_J2000 DELTA_J2000", "X_WORLD Y_WORLD", "Ra Dec"])
def test_positions_under_the_usual_names(names: str) -> None:
    first, second = names.split()
    sky = find_positions(Table({"x": [0.0], first: [34.5], second: [-5.25]}))
    assert (sky.ra.deg[0], sky.dec.deg[0]) == (34.5, -5.25)


def test_positions_by_name_unit_and_text() -> None:
    table = Table({"lon": [2.3] * u.hourangle, "lat": [-300.0] * u.arcmin, "ra": [1.0], "dec": [1.0]})
    sky = find_positions(table, "lon", "lat")
    np.testing.assert_allclose([sky.ra.deg[0], sky.dec.deg[0]], [34.5, -5], rtol=1e-15)  # a product in doubles
    sky = find_positions(Table({"RAJ2000": ["02 18 00.0", "02:20:00"], "DEJ2000": ["-05 15 00", "+05:30:00"]}))
    np.testing.assert_allclose(sky.ra.deg, [34.5, 35], rtol=1e-14)  # sums of sixtieths in doubles
    np.testing.assert_allclose(sky.dec.deg, [-5.25, 5.5], rtol=1e-14)
    assert find_positions(Table({"ra": ["34.5"], "dec": ["-5"]})).ra.deg[0] == 34.5
    assert find_positions(Table({"ra": [-10.0], "dec": [0.0]})).ra.deg[0] == 350


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1.0]}, "no position columns ra/dec, RA/DEC, .*X_WORLD/Y_WORLD.* it has a$"),
        (
            {"ra": [np.nan, np.nan], "dec": [1.0, 2]},
            r"ra is not a valid angle in 2 of 2 rows, first row 0 \(from 0\): nan",
        ),
        ({"ra": MaskedColumn([1, 2], mask=[1, 1]), "dec": [1.0, 2]}, "ra is not a valid angle .* row 0 .*: nan"),
        ({"ra": [1.0, np.nan], "dec": [np.nan, 2]}, "no row of the catalogue has both ra and dec"),
        ({"ra": [1.0, 2, 3], "dec": [1.0, -90.5, 91]}, r"dec is not a valid angle .* row 1 .*: -90.5.*within \+-90"),
        ({"ra": [361.0], "dec": [1.0]}, "ra is not a valid angle .*: 361.0"),
        ({"ra": [1.0] * u.s, "dec": [1.0]}, "column ra holds no angles"),
        ({"ra": ["here"], "dec": [1.0]}, "column ra holds no angles"),
        ({"ra": [[1.0, 2.0]], "dec": [1.0]}, r"column ra holds \(2,\) values per row"),
        ({"ra": [], "dec": []}, "no rows"),
    ],
)
def test_bad_positions_are_named(columns: dict, words: str) -> None:
    with pytest.raises(PhotplugError, match=words) as caught:
        find_positions(Table(columns))
    assert "\n" not in str(caught.value)


def test_position_names_that_are_not_there() -> None:
    with pytest.raises(PhotplugError, match="no position columns lon/dec"):
        find_positions(Table({"ra": [1.0], "dec": [1.0]}), ra="lon")


def test_ids() -> None:
    assert find_ids(Table({"ra": [1.0]})) is None
    assert find_ids(Table({"NUMBER": [2.0, 1.0], "mine": [7, 8]})).tolist() == [2, 1]
    assert find_ids(Table({"NUMBER": [2, 1], "mine": [7, 8]}), "mine").tolist() == [7, 8]
    gaia = [6028843712912345088, 6028843712912345089]
    assert find_ids(Table({"id": gaia})).tolist() == gaia


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, 2, 1], r"row 2 \(from 0\): id 1 is a duplicate"),
        ([1, 0], "row 1 .*: id 0 is no id"),
        ([1.0, 2.5], "id 2.5 is no id"),
        (MaskedColumn([1, 2], mask=[False, True]), "id -- is no id"),
        (["a"], "column id is of type <U1, not ids"),
    ],
)
def test_bad_ids_are_named(values: list, words: str) -> None:
    with pytest.raises(PhotplugError, match=words):
        find_ids(Table({"id": values}))


def test_ids_under_a_name_that_is_not_there() -> None:
    with pytest.raises(PhotplugError, match="no column x of ids; it has a, b"):
        find_ids(Table({"a": [1], "b": [1]}), "x")


# ---- rows without a position


@pytest.mark.parametrize(
    "ra",
    [
        [34.5, np.nan, 34.6],
        MaskedColumn([34.5, 1, 34.6], mask=[False, True, False]),
        [34.5, -999.0, 34.6],
        ["34.5", "N/A", "34.6"],
        ["34.5", "", "34.6"],
        ["34.5", "see notes", "34.6"],
        ["02:18:00", "--", "02:18:24"],
        ["02:18:00", "see notes", "34.6"],
        MaskedColumn(["34.5", "1", "34.6"], mask=[False, True, False]),
        Masked([34.5, 1, 34.6] * u.deg, mask=[False, True, False]),
        Column([np.radians(34.5), np.inf, np.radians(34.6)], unit="rad"),
    ],
)
def test_one_row_without_a_position(ra) -> None:
    table = QTable({"ra": ra, "dec": [-5.25, -5.25, -5.25]})
    where = find_positions(table)
    np.testing.assert_allclose(where.ra.deg[[0, 2]], [34.5, 34.6], rtol=1e-12)
    assert has_position(where).tolist() == [True, False, True]
    assert np.isnan(where.dec.deg[1])
    assert describe_missing(where, "left out") == ["no position in 1 of 3 rows, first row 1 (from 0): left out"]
    assert describe_missing(where[[0, 2]], "left out") == []


def test_a_masked_coordinate() -> None:
    ra, dec = (Masked(values * u.deg, mask=[True, False]) for values in (np.array([1.0, 2]), np.array([3.0, 4])))
    where = find_positions(QTable({"where": SkyCoord(ra, dec)}))
    assert has_position(where).tolist() == [False, True]


@pytest.mark.parametrize(
    ("cells", "unit", "degrees"),
    [
        (["2.3"], "hourangle", 34.5),
        (["02:18:00"], None, 34.5),
        (["02:18:00"], "hourangle", 34.5),
        (["02h18m00s"], None, 34.5),
        (["34:30:00"], "deg", 34.5),
        (["34.5"], "deg", 34.5),
        (["0.5"], "rad", np.degrees(0.5)),
        (["02 18 00"], '"h:m:s"', 34.5),
        ([b"34.5"], None, 34.5),
        ([2.3], "h", 34.5),
        ([2.3], "hours", 34.5),
        ([0.5], "Radians", np.degrees(0.5)),
        ([34.5], "Degrees", 34.5),
        ([124200.0], "arc-seconds", 34.5),
        ([34.5], "", 34.5),
    ],
)
def test_right_ascension_in_its_unit(cells: list, unit: str | None, degrees: float) -> None:
    """Text too is in the unit of its column: decimal radians were taken for degrees."""
    ra = Column(cells, unit=None if unit is None else u.Unit(unit, parse_strict="silent"))
    np.testing.assert_allclose(find_positions(Table({"ra": ra, "dec": [0.0]})).ra.deg, degrees, rtol=1e-12)


def test_declination_is_in_no_hours() -> None:
    with pytest.raises(PhotplugError, match="column dec holds no angles"):
        find_positions(Table({"ra": [1.0], "dec": Column([1.0], unit="h")}))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["RA_ICRS", "DE_ICRS", "flux"], "it has RA_ICRS and DE_ICRS among its 3 columns"),
        (["_RAJ2000", "_DEJ2000"], "_RAJ2000 and _DEJ2000"),
        (["RAdeg", "DEdeg", "radius", "grade"], "RAdeg and DEdeg"),
        (["alpha", "delta"], "alpha and delta"),
        (["wcs.ra", "wcs.dec", "ratio", "declared"], "it has wcs.ra and wcs.dec among its 4 columns"),
        (["radius", "decay"], "it has radius, decay$"),
    ],
)
def test_candidates_for_positions(names: list[str], found: str) -> None:
    with pytest.raises(PhotplugError, match=f"no position columns ra/dec.*--ra, --dec.*{found}"):
        find_positions(Table({name: [1.0] for name in names}))


# ---- numbers


@pytest.mark.parametrize(
    ("values", "unit", "uJy"),
    [
        ([1500.0, 1], "nJy", [1.5, 1e-3]),
        ([1500.0, 1], "njy", [1.5, 1e-3]),
        ([150.0, 1], "10 nJy", [1.5, 0.01]),
        ([1.5e-6, 1], "Jansky", [1.5, 1e6]),
        ([23.9, 18.9], "AB mag", [1, 100]),
        ([1.5, 2], None, [1.5, 2]),
        (["1.5", "N/A"], None, [1.5, np.nan]),
        ([1, 2], "uJy", [1, 2]),
        (MaskedColumn([1, 2], mask=[False, True]), "mJy", [1000, np.nan]),
    ],
)
def test_fluxes_in_a_unit(values: list, unit: str | None, uJy: list[float]) -> None:
    column = MaskedColumn(values) if unit is None else MaskedColumn(values, unit=u.Unit(unit, parse_strict="silent"))
    np.testing.assert_allclose(column_values(Table({"flux": column}), "flux", "uJy"), uJy, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            Column([1.0], unit=u.Unit("flups", parse_strict="silent")),
            "column flux has the unknown unit flups",
        ),
        (Column([1.0], unit="deg"), "column flux is in deg, not uJy"),
        (Column([1.0], unit="mag"), "column flux is in mag, not uJy"),
        (Column(["bright"]), "column flux holds no numbers"),
        (Column(["1,5"]), r"column flux holds no numbers \(decimal commas; write points\)"),
        (Column([1 + 2j]), "column flux holds no numbers"),
    ],
)
def test_what_are_no_fluxes(column: Column, words: str) -> None:
    with pytest.raises(PhotplugError, match=words) as caught:
        column_values(Table({"flux": column}), "flux", "uJy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [["007", "012"], [b"7", b"12"], MaskedColumn(["7", "12"]), np.array([7, 12], "u8")])
def test_ids_as_they_are_written(values: list) -> None:
    assert find_ids(Table({"id": values})).tolist() == [7, 12]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["07", "7"], "row 1 .*: id 7 is a duplicate"),
        (["7", "x"], "row 1 .*: id x is no id"),
        (["7", ""], "row 1 .* is no id"),
        (np.array([7, 2**63], "u8"), "row 1 .*: id 9223372036854775808 is no id"),
        ([7.0, 2.0**63], "row 1 .* is no id"),
        ([True, False], "column id is of type bool, not ids"),
    ],
)
def test_what_are_no_ids(values: list, words: str) -> None:
    with pytest.raises(PhotplugError, match=words):
        find_ids(Table({"id": values}))
