"""Formats by what a file holds: every one under every suffix, compressed or not, and nothing that a file only names."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, MaskedColumn, Table

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.tables.read import choose_table, read_catalog
from dja_photplug.files.tables.write import write_extended
from dja_photplug.readers.kinds import find_kind


def make_table() -> Table:
    table = Table({"ID": [7, 9, 12], "Ra": [34.5, 34.6, 34.75], "DEC": [-5.25, -5.5, -5.0]})
    table["Ra"].unit = table["DEC"].unit = u.deg
    table["mag"] = MaskedColumn([21.5, 22.25, 23.0], mask=[False, True, False])
    return table


FORMATS = {
    "fits": {"format": "fits"},
    "votable": {"format": "votable"},
    "ascii.ecsv": {"format": "ascii.ecsv"},
    "ascii.mrt": {"format": "ascii.mrt"},
    "hdf5": {"format": "hdf5", "path": "sky/sources", "serialize_meta": True},
    "parquet": {"format": "parquet"},
    "text": {"format": "ascii.commented_header"},
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", [".cat", ".dat", ".txt"])
@pytest.mark.parametrize("kind", FORMATS)
def test_formats_by_what_a_file_holds(kind, suffix, packed, tmp_path):
    path = tmp_path / f"mine{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_table().write(path, **FORMATS[kind])
    if packed:
        if kind in ("hdf5", "parquet"):  # which are compressed in themselves
            return
        packed_path = path.with_name(f"{path.name}.gz")
        packed_path.write_bytes(gzip.compress(path.read_bytes()))
        path = packed_path
    assert find_kind(path) == kind
    table = read_catalog(path)
    assert table.colnames == ["ID", "Ra", "DEC", "mag"]
    np.testing.assert_array_equal(table["ID"], [7, 9, 12])
    np.testing.assert_array_equal(table["Ra"], [34.5, 34.6, 34.75])
    there = np.ma.filled(np.ma.asarray(table["mag"], dtype=object).astype(float), np.nan)
    np.testing.assert_array_equal(there, [21.5, np.nan, 23.0])


@pytest.mark.parametrize("separator", ["\t", ",", ";", " "])
def test_names_in_a_comment_that_others_follow(separator, tmp_path):
    """As catalogues for EAZY have them."""
    path = tmp_path / "mine.cat"
    rows = [["1", "34.5", "-5.25", "-99"], ["2", "34.6", "-5.5", "3.5"]]
    lines = ["# " + separator.join(["id", "ra", "dec", "f_f444w"]), "# fluxes in uJy", *map(separator.join, rows)]
    path.write_text("\n".join(lines))
    table = read_catalog(path)
    assert table.colnames == ["id", "ra", "dec", "f_f444w"]
    assert table["f_f444w"].tolist() == [-99, 3.5]


def test_vectors_and_masked_columns_are_kept(tmp_path):
    table = make_table()
    table["flux"] = Column(np.arange(6.0).reshape(3, 2), unit="uJy")
    table.write(tmp_path / "mine.cat", format="fits")
    back = read_catalog(tmp_path / "mine.cat")
    assert back["flux"].shape == (3, 2)
    np.testing.assert_array_equal(back["flux"], table["flux"])


def test_vectors_of_sextractor_in_text(tmp_path):
    text = "#   1 NUMBER  Running object number\n#   2 FLUX_APER  Flux vector [count]\n#   4 X_IMAGE  Place [pixel]\n"
    (tmp_path / "test.cat").write_text(text + "  1  5.5  6.5  100.25\n  2  7.5  8.5  200.5\n")
    table = read_catalog(tmp_path / "test.cat")
    assert table.colnames == ["NUMBER", "FLUX_APER", "FLUX_APER_1", "X_IMAGE"]
    assert table["FLUX_APER_1"].tolist() == [6.5, 8.5]
    assert (table["FLUX_APER"].unit, table["X_IMAGE"].description) == (u.ct, "Place")


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("where", ["http://127.0.0.1:9/rows", "file://{folder}/rows", "ftp://127.0.0.1/rows"])
def test_rows_elsewhere_are_not_opened(where, hidden, tmp_path, monkeypatch):
    def opened(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"opened {args}")

    monkeypatch.setattr("urllib.request.urlopen", opened)
    make_table()["ID", "Ra", "DEC"].write(tmp_path / "mine.vot", format="votable", tabledata_format="binary2")
    (tmp_path / "rows").write_bytes(b"secret")
    text = (tmp_path / "mine.vot").read_text()
    begin, end = text.index("<STREAM"), text.index("</STREAM>")
    stream = f'<STREAM href="{where.format(folder=tmp_path)}">'
    text = text[:begin] + stream + text[end:]
    encoding = "utf-16" if hidden else "utf-8"  # in which no pattern of bytes finds it
    (tmp_path / "mine.vot").write_text(text.replace("utf-8", encoding), encoding=encoding)
    with pytest.raises(PhotplugError, match=r"mine.vot: cannot .* \(its rows are at .*rows, which is not opened; give"):
        read_catalog(tmp_path / "mine.vot")


def test_tables_of_a_file_of_several(tmp_path):
    path = tmp_path / "mine.h5"
    for name in ("sky/sources", "sky/stars"):
        make_table().write(path, format="hdf5", path=name, serialize_meta=True, append=True)
    with pytest.warns(
        PhotplugWarning, match=r"reading .*mine.h5\[sky/sources\]; .* \[sky/sources\] \[sky/stars\] with --hdu"
    ):
        read_catalog(path)
    assert len(read_catalog(choose_table(path, "sky/stars"))) == 3
    with pytest.raises(PhotplugError, match="nobody is none of its tables, sky/sources sky/stars"):
        read_catalog(choose_table(path, "nobody"))
    make_table().write(tmp_path / "mine.ecsv")
    with pytest.raises(PhotplugError, match="mine.ecsv holds only one table, without the name 2; leave out --hdu"):
        read_catalog(choose_table(tmp_path / "mine.ecsv", "2"))


def test_ecsv_named_csv_is_not_extended_as_csv(tmp_path):
    """Its header names all columns, so cells behind its lines would break it."""
    path, out = tmp_path / "mine.csv", tmp_path / "out.csv"
    make_table().write(path, format="ascii.ecsv")
    table = read_catalog(path)
    assert table["Ra"].unit == u.deg
    table["new"] = [1, 2, 3]
    with pytest.warns(PhotplugWarning, match="CSV cannot hold units"):
        write_extended(table, out, added=["new"], original=path)
    assert out.read_text().splitlines()[0] == "ID,Ra,DEC,mag,new"


def test_a_file_that_is_cut_short(tmp_path):
    whole = gzip.compress(b"id,ra,dec\n" + b"1,2,3\n" * 1000)
    (tmp_path / "mine.csv.gz").write_bytes(whole[:40])
    with pytest.raises(PhotplugError, match=r"mine.csv.gz: cannot be read as a catalogue \("):
        read_catalog(Path(tmp_path / "mine.csv.gz"))


def test_columns_beyond_all_bounds_are_refused(tmp_path: Path) -> None:
    """Of a number in the header that was damaged: astropy would make a column for each number below it."""
    (tmp_path / "cat.cat").write_text("# 1 NUMBER\n# 999999999 X_IMAGE\n1 2.0\n")
    with pytest.raises(PhotplugError, match="its header numbers a column 999999999, and tables have 10000 at most"):
        read_catalog(tmp_path / "cat.cat")
