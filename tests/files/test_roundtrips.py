"""Each kind of column through each pair of formats: what comes out is what went in, or was refused by name before."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.tables.columns import add_columns
from dja_photplug.files.tables.compare import check_extended
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.files.tables.write import write_extended
from tests.helpers import need_pyarrow

SUFFIXES = (".fits", ".ecsv", ".parquet", ".csv")
HOLE = [False, True, False, False]


def unit(text: str) -> u.UnitBase:
    return u.Unit(text, parse_strict="silent")


# Four rows of each kind of column that catalogues have, and some that only a format allows.
COLUMNS: dict[str, Column] = {
    "integers": Column([1, -2, 2**62, 0], unit="s", description="a count"),
    "integers with nulls": MaskedColumn([1, 999999, 3, -1], mask=HOLE),
    "integers with nulls beside the fill value": MaskedColumn([1, 7, 999999, 63], mask=HOLE),
    "masked type without a null": MaskedColumn([999999, 63, 3, 4]),
    "short integers with nulls": MaskedColumn(np.array([1, 2, 32767, -32768], "i2"), mask=HOLE),
    "4-byte integers with nulls": MaskedColumn(np.array([1, 2, -(2**31), 5], "i4"), mask=HOLE),
    "bytes with nulls": MaskedColumn(np.array([0, 1, 255, 63], "u1"), mask=HOLE),
    "signed bytes": Column(np.array([-128, 1, 127, 0], "i1")),
    "unsigned integers": Column(np.array([1, 2**64 - 1, 3, 0], "u8")),
    "unsigned integers with nulls": MaskedColumn(np.array([1, 2, 65535, 32768], "u2"), mask=HOLE),
    "floats": Column([1 / 3, np.nan, np.inf, -0.0], unit="uJy", description="a flux"),
    "single floats": Column(np.array([0.1, np.nan, 1e-38, 16777217], "f4"), unit="10 nJy"),
    "half floats": Column(np.array([0.1, np.nan, 3, 0], "f2")),
    "floats with nulls and NaN": MaskedColumn([1.5, 2.5, np.nan, -np.inf], mask=HOLE),
    "single floats with nulls": MaskedColumn(np.array([1.5, 2.5, np.nan, 0], "f4"), mask=HOLE),
    "booleans": Column([True, False, True, False]),
    "booleans with nulls": MaskedColumn([True, True, False, True], mask=HOLE),
    "complex numbers": Column(np.array([1 + 2j, -1j, 0, 1e300])),
    "text": Column(["a", "b,c", 'd"e', "f;g\th"], description="a name"),
    "text with empty cells": Column(["a", "", "c", ""]),
    "text with nulls": MaskedColumn(["a", "x", "", "d"], mask=HOLE),
    "text of many lines": Column(["a\nb", "c", "d", "e"]),
    "text between blanks": Column([" a", "b ", "c", "d"]),
    "text beyond ASCII": Column(["\u00e4", "\u03b1", "c", "d"]),
    "ids with leading zeros": Column(["007", "012", "000", "1234567890"]),
    "long ids": Column(["123456789012345678901234"] * 4),
    "dates": Column(["2022-07-01", "2022-07-02T12:00:00", "", "2024-02-29"]),
    "times": Time(["2022-07-01", "2022-07-02", "2022-07-03", "2022-07-04"], scale="utc"),
    "days of numpy": Column(np.array(["2022-07-01"] * 4, "M8[D]")),
    "coordinates": SkyCoord([1, 2, 3, 4], [5, 6, 7, 8], unit="deg"),
    "vectors": Column(np.arange(8.0).reshape(4, 2), unit="arcsec"),
    "vectors with nulls": MaskedColumn(np.arange(8).reshape(4, 2), mask=[[False, True]] + [[False, False]] * 3),
    "matrices": Column(np.arange(24).reshape(4, 2, 3)),
    "lists": Column([np.array([1.0]), np.array([]), np.array([2.0, 3.0]), np.array([4.0])], dtype=object),
    "magnitudes": Column([24.5, np.nan, 25.5, 0], unit=u.ABmag),
    "unit of somebody": Column([1.0, 2, 3, 4], unit=unit("ujy")),
    "unit that nobody knows": Column([1.0, 2, 3, 4], unit=unit("counts/foo")),
    "scaled unit": Column([1.0, 2, 3, 4], unit="100 uJy", description="words " * 30),
    "format": Column([1.123456789, 2, 3, 4], format=".2f"),
    "notes": Column([1, 2, 3, 4], meta={"ucd": "meta.id", "deep": [1, {"a": 2}]}),
    "Name With Blanks": Column([1, 2, 3, 4]),
    "RA": Column([1.0, 2, 3, 4]),
    "ra": Column([5.0, 6, 7, 8]),
    "name.with.dots-and/signs(1)": Column([1, 2, 3, 4]),
    "n\u00e4me": Column([1, 2, 3, 4]),
    "name that is so long that no card of a FITS header holds it, of 70 letters": Column([1, 2, 3, 4]),
}

MANY = {"vectors", "vectors with nulls", "matrices", "lists", "times", "coordinates"}
# What a format does not hold as it is. All other kinds must come back.
REFUSED = {
    ".fits": {
        *("signed bytes", "half floats", "text beyond ASCII", "text between blanks", "days of numpy", "n\u00e4me"),
        "name that is so long that no card of a FITS header holds it, of 70 letters",
    },
    ".ecsv": {"text between blanks"},
    ".parquet": {"complex numbers", "matrices", "days of numpy"},
    ".csv": MANY,
}


def make_table(names: list[str]) -> Table:
    table = Table([COLUMNS[name] for name in names], names=names, copy=True)
    table.meta = {"ZP": 23.9, "AUTHOR": "somebody", "N": 3, "GOOD": True}
    return table


def write(table: Table, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSV cannot hold", PhotplugWarning)
        return write_extended(table, path, added=[])


def cells(column: Column) -> NDArray[np.object_]:
    """Return each cell as text to all digits, a masked one as None."""
    values = np.ma.asarray(column) if isinstance(column, np.ndarray) else np.ma.asarray([str(cell) for cell in column])
    plain = np.empty(values.shape, object)
    for place in np.ndindex(values.shape):
        hidden = np.ma.getmaskarray(values)[place] if values.dtype != object else False
        cell = values.data[place]
        plain[place] = None if hidden else cell if isinstance(cell, str) else repr(np.asarray(cell).tolist())
    return plain


def assert_same(found: Column, expected: Column, name: str, *, typed: bool) -> None:
    """Cells, masks, type, unit, description, format and notes."""
    if not typed:  # text has no types: the same text means the same value
        plain = np.ma.asarray(found)
        wanted = np.asarray(expected).dtype
        found = np.ma.MaskedArray(np.asarray(plain.data).astype(wanted), mask=np.ma.getmaskarray(plain))
    if isinstance(expected, np.ndarray):
        assert cells(found).tolist() == cells(expected).tolist(), name
    if not typed:
        return
    if not isinstance(expected, np.ndarray):
        assert type(found) is type(expected)
        assert np.all(np.asarray(found == expected)), name
        assert not isinstance(expected, Time) or found.scale == expected.scale
        return
    assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("="), name
    assert str(found.unit or "") == str(expected.unit or ""), name
    assert (found.description or "").strip() == (expected.description or "").strip(), name
    assert dict(found.meta) == dict(expected.meta), name
    # That of FITS has a width and is spelt otherwise.
    assert re.sub(r"[{:}]|\d+(?=\.)", "", found.format or "") == (expected.format or ""), name


@pytest.mark.filterwarnings("ignore:.*CSV cannot hold")
@pytest.mark.parametrize(("source", "target"), list(itertools.product(SUFFIXES, SUFFIXES)))
def test_what_both_formats_hold_comes_out_as_it_went_in(tmp_path: Path, source: str, target: str) -> None:
    need_pyarrow(source)
    need_pyarrow(target)
    names = [name for name in COLUMNS if name not in REFUSED[source] | REFUSED[target]]
    truth = make_table(names)
    original = write(truth, tmp_path / f"in{source}")
    read = read_catalog(original)
    assert read.colnames == names
    for name in names:
        assert_same(read[name], truth[name], name, typed=source != ".csv")
    new = {"flux": [1.5, np.nan, 2.5, 3.5] * u.uJy, "flag": np.arange(4, dtype="i4")}
    output = tmp_path / f"out{target}"
    check_extended(read, output, new=dict.fromkeys(new, False), original=original)
    extended = add_columns(read, new)
    extended.meta["NEW"] = "entry"
    write_extended(extended, output, added=list(new), original=original)
    found = read_catalog(output)
    assert found.colnames == [*names, *new]
    for name in names:
        assert_same(found[name], truth[name], name, typed=".csv" not in (source, target))
    assert found["flux"].tolist()[::2] == [1.5, 2.5]
    assert np.isnan(found["flux"][1])
    assert found["flag"].tolist() == [0, 1, 2, 3]
    if ".csv" not in (source, target):
        assert {key: found.meta[key] for key in truth.meta} == truth.meta
    if target != ".csv":
        assert found.meta["NEW"] == "entry"


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        (".ecsv" if target != ".ecsv" else ".parquet", target, name)
        for target in SUFFIXES
        for name in COLUMNS
        if name in REFUSED[target]
    ],
)
def test_what_a_format_does_not_hold_is_refused_by_name(tmp_path: Path, source: str, target: str, name: str) -> None:
    need_pyarrow(source)
    need_pyarrow(target)
    table = make_table(["integers", name])
    if name in REFUSED[source]:
        read, original = table, None
    else:
        original = write(table, tmp_path / f"in{source}")
        read = read_catalog(original)
    with pytest.raises(PhotplugError) as caught:
        check_extended(read, tmp_path / f"out{target}", original=original)
    assert name in str(caught.value)
    assert "write ." in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("target", SUFFIXES)
def test_each_kind_alone_is_kept_or_refused(tmp_path: Path, target: str) -> None:
    """The table of refusals holds all of them, and no more."""
    need_pyarrow(target)
    refused = set()
    for i, name in enumerate(COLUMNS):
        try:
            check_extended(make_table(["dates", name] if name != "dates" else [name]), tmp_path / f"{i}{target}")
        except PhotplugError:
            refused.add(name)
    assert refused == REFUSED[target]


# ---- files of others


def write_votable(path: Path) -> Table:
    table = Table()
    table["id"] = MaskedColumn([1, 2, 3], mask=[False, True, False])
    table["ra"] = Column([34.1, 34.2, 34.3], unit="deg", description="right ascension")
    table["name"] = MaskedColumn(["a", "b", "c"], mask=[False, False, True])
    table["good"] = MaskedColumn([True, False, True], mask=[True, False, False])
    table["f"] = Column(np.array([1.5, 2.5, -1], "f4"), unit="uJy")
    table["vector"] = np.arange(6.0).reshape(3, 2)
    table.write(path, format="votable")
    return table


@pytest.mark.filterwarnings("ignore:.*CSV cannot hold", "ignore:.*metadata .* will be lost or changed")
@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("suffix", [".vot", ".xml"])
def test_from_votable(tmp_path: Path, suffix: str, target: str) -> None:
    need_pyarrow(target)
    truth = write_votable(tmp_path / f"a{suffix}")
    read = read_catalog(tmp_path / f"a{suffix}")
    names = [name for name in truth.colnames if target != ".csv" or name != "vector"]
    if target == ".csv":
        with pytest.raises(PhotplugError, match="column vector"):
            check_extended(read, tmp_path / "out.csv")
        read = read[names]
    check_extended(read, tmp_path / f"out{target}")
    found = read_catalog(write_extended(read, tmp_path / f"out{target}", added=[]))
    for name in names:
        shown = [None if cell in ("", "None") else cell for cell in cells(found[name]).ravel().tolist()]
        assert shown == cells(truth[name]).ravel().tolist(), name
        if target != ".csv":
            assert str(found[name].unit) == str(truth[name].unit)


def test_from_parquet_of_others(tmp_path: Path) -> None:
    """Nulls of integers, texts and booleans, categories, decimals, times with and without a zone, lists, structures."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "id": pa.array([1, None, 9007199254740993], pa.int64()),
        "name": pa.array(["a", None, ""]),
        "good": pa.array([True, None, False]),
        "kind": pa.array(["x", "y", None]).dictionary_encode(),
        "price": pa.array(["1.10", "2.20", None]).cast(pa.decimal128(5, 2)),
        "when": pa.array([0, None, 10**15], pa.timestamp("us")),
        "zone": pa.array([0, None, 10**15], pa.timestamp("us", tz="UTC")),
        "list": pa.array([[1.0], [], [2.0, 3.0]]),
        "struct": pa.array([{"a": 1}, {"a": 2}, {"a": 3}]),
        "nothing": pa.nulls(3),
    }
    original = tmp_path / "in.parquet"
    parquet.write_table(pa.table(columns, metadata={"of": "others"}), original)
    read = read_catalog(original)
    assert read["id"].tolist() == [1, None, 9007199254740993]
    assert read["name"].tolist() == ["a", None, ""]
    assert read["good"].tolist() == [True, None, False]
    assert read["kind"].tolist() == ["x", "y", None]
    assert read["price"].tolist() == ["1.10", "2.20", None]
    assert read["zone"].tolist()[1] is None
    assert read["nothing"].mask.all()
    extended = add_columns(read, {"new": [1.0, 2.0, 3.0] * u.uJy})
    output = tmp_path / "out.parquet"
    check_extended(read, output, new={"new": False}, original=original)
    write_extended(extended, output, added=["new"], original=original)
    found = parquet.read_table(output)
    assert found.select(list(columns)).equals(pa.table(columns))
    assert found.schema.metadata[b"of"] == b"others"
    assert read_catalog(output)["new"].unit == u.uJy
    check_extended(read, tmp_path / "out.ecsv", original=original)
    for suffix, name in ((".fits", "when"), (".csv", "list")):
        with pytest.raises(PhotplugError, match=f"column {name}"):
            check_extended(read, tmp_path / f"out{suffix}", original=original)


def test_columns_of_fits_that_others_wrote(tmp_path: Path) -> None:
    """Nulls and unsigned integers: FITS keeps its bytes, and ECSV gets what they mean."""
    columns = [
        fits.Column("null", "J", array=np.array([1, -99, 999999]), null=-99),
        fits.Column("unsigned", "J", array=np.array([1, 2**32 - 1, 7], np.uint32), bzero=2**31),
        fits.Column("text", "4A", array=["a", "", "b"]),
        fits.Column("unit", "E", unit="ujy", array=[1.0, np.nan, np.inf]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "in.fits")
    read = read_catalog(tmp_path / "in.fits")
    for suffix in (".fits", ".ecsv"):
        output = tmp_path / f"out{suffix}"
        check_extended(read, output, original=tmp_path / "in.fits")
        write_extended(read, output, added=[], original=tmp_path / "in.fits")
        found = read_catalog(output)
        assert found["null"].tolist() == [1, None, 999999]
        assert found["unsigned"].tolist() == [1, 2**32 - 1, 7]
        assert found["text"].tolist() == ["a", "", "b"]
        assert str(found["unit"].unit) == "ujy"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("booleans with nulls", "its missing values would differ"),
        ("masked type without a null", "its missing values would differ"),
        ("text with nulls", "its missing values would differ"),
        ("magnitudes", r"its unit mag\(AB\) would be None"),
    ],
)
def test_what_a_writer_loses_is_found_before_the_work(tmp_path: Path, monkeypatch, name: str, words: str) -> None:
    """astropy's own writer of FITS, without what we tell it."""
    monkeypatch.setattr("dja_photplug.files.tables.write._dress", lambda table, suffix: table)
    with pytest.raises(PhotplugError, match=rf"\.fits cannot hold column {name} unchanged \({words}\); write \.ecsv"):
        check_extended(make_table(["integers", name]), tmp_path / "out.fits")


def test_metadata_that_fits_does_not_hold_are_named(tmp_path: Path) -> None:
    table = make_table(["integers"])
    table.meta |= {"deep": {"a": [1, 2]}, "NAXIS2": 7, "comments": ["one", "two"]}
    with pytest.warns(PhotplugWarning, match="metadata deep, NAXIS2 will be lost or changed"):
        check_extended(table, tmp_path / "out.fits")
    check_extended(table, tmp_path / "out.ecsv")


def test_more_columns_than_fits_holds(tmp_path: Path) -> None:
    table = Table({f"c{i}": [1] for i in range(998)})
    check_extended(table, tmp_path / "out.fits", new={"one": False})
    for suffix in (".fits", ".ecsv"):
        if suffix == ".fits":
            with pytest.raises(PhotplugError, match="FITS holds at most 999 columns, not 1000"):
                check_extended(table, tmp_path / "out.fits", new={"one": False, "two": False})
        else:
            check_extended(table, tmp_path / "out.ecsv", new={"one": False, "two": False})
