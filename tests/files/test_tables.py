"""Files of catalogues: what is read, what is refused, and that nothing of an original changes."""

from __future__ import annotations

import gzip
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.units import UnitsWarning
from astropy.utils.masked import Masked

from dja_photplug.catalog.columns import find_positions
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.tables.columns import add_columns
from dja_photplug.files.tables.compare import check_extended
from dja_photplug.files.tables.read import choose_table, read_catalog
from dja_photplug.files.tables.write import write_catalog, write_extended
from tests.helpers import make_catalog, need_pyarrow

STRUCTURE = {"NAXIS1", "PCOUNT", "TFIELDS", "THEAP"}


def make_nasty_fits(path: Path) -> Path:
    """Write a FITS file with most of what the standard allows in a table."""
    columns = [
        fits.Column("NUMBER", "J", array=[3, 1, 2], null=-99),
        fits.Column("ra", "D", unit="deg", array=[34.1, 34.2, 34.3], disp="F10.6"),
        fits.Column("dec", "D", unit="deg", array=[-5.1, -5.2, -5.3]),
        fits.Column("scaled", "I", array=np.array([0, 2, 4], np.int16)),
        fits.Column("unsigned", "I", array=np.array([1, 65535, 7], np.uint16), bzero=32768),
        fits.Column("flag", "L", array=[True, False, True]),
        fits.Column("name", "8A", array=["a  ", "", "c c"]),
        fits.Column("matrix", "6E", dim="(3,2)", array=np.arange(18, dtype="f4").reshape(3, 2, 3)),
        fits.Column("list", "PE()", array=np.array([[1.0], [2.0, np.nan], []], dtype=object)),
        fits.Column("odd", "E", unit="counts/foo", array=[1.0, np.nan, np.inf]),
        fits.Column("bits", "11X", array=np.arange(33).reshape(3, 11) % 2 == 0),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="SOURCES", ver=2)
    header = table.header
    header["TCOMM2"] = ("position", "of TOPCAT")
    header.insert("TFORM4", ("TNULL4", -1), after=True)
    header.insert("TFORM4", ("TZERO4", 0.5), after=True)
    header.insert("TFORM4", ("TSCAL4", 0.5), after=True)
    header["ZP"] = (25.0, "zero point of somebody")
    header["HIERARCH a long key"] = (1, "hierarch")
    header["LONG"] = ("x" * 100, "goes on in the next card")
    header["ZP2"] = None
    header["HISTORY"] = "made by hand"
    header["COMMENT"] = "do not lose me"
    header[""] = "blank keyword"
    header["HISTORY"] = "twice"
    primary = fits.PrimaryHDU(header=fits.Header({"OBSERVER": "somebody"}))
    second = fits.ImageHDU(np.arange(6.0).reshape(2, 3), name="MAP")
    fits.HDUList([primary, table, second]).writeto(path, checksum=True)
    # A value in free format: astropy would align it, we keep it.
    content = path.read_bytes()
    aligned = b"ZP      =                 25.0"
    assert content.count(aligned) == 1
    path.write_bytes(content.replace(aligned, b"ZP      = 25.00".ljust(len(aligned))))
    return path


def measure(n: int) -> QTable:
    """Return new columns such as forced photometry gives."""
    new = QTable()
    new["f115w_flux_auto"] = np.linspace(1, 2, n) * u.uJy
    new["f115w_flag"] = np.arange(n, dtype="i4")
    new["f115w_visits"] = Column(["a" * i for i in range(n)])
    for name in new.colnames:
        new[name].info.description = f"new {name}: " + "words to fill more than one card of a header " * 3
    return new


def extend(original: Path, path: Path, columns: Table, *, replace: bool = False, meta: dict | None = None) -> Path:
    table = add_columns(read_catalog(original), columns, overwrite=replace)
    table.meta.update(meta or {})
    return write_extended(table, path, added=columns.colnames, original=original)


def read_raw(path: Path) -> tuple[list[str], dict[str, bytes], bytes]:
    """Return cards of the table, bytes of each of its columns, and its heap, read with astropy."""
    with fits.open(path, disable_image_compression=True) as hdus:
        hdu = hdus[1]
        where, header, dtype = hdu.fileinfo(), hdu.header, hdu.columns.dtype
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        content = stream.read()
    block = content[where["hdrLoc"] : where["datLoc"]].decode("ascii")
    cards = [block[i : i + 80] for i in range(0, len(block), 80)]
    start, size = where["datLoc"], header["NAXIS1"] * header["NAXIS2"]
    rows = np.frombuffer(content[start : start + size], dtype=dtype)
    assert rows.dtype.itemsize == header["NAXIS1"]
    columns = {name: rows[name].tobytes() for name in dtype.names}
    return cards, columns, content[start + size : start + size + header["PCOUNT"]]


def assert_kept(original: Path, extended: Path, but: set[str] = frozenset()) -> None:
    """Assert that cards, columns and the other HDUs are the bytes they were."""
    cards, columns, heap = read_raw(original)
    new_cards, new_columns, new_heap = read_raw(extended)
    assert list(new_columns)[: len(columns)] == list(columns)
    assert {name: new_columns[name] for name in columns if name not in but} == {
        name: value for name, value in columns.items() if name not in but
    }
    assert new_heap.startswith(heap)
    volatile = STRUCTURE | {"CHECKSUM", "DATASUM", "END", ""}
    kept = [card for card in cards if card[:8].strip() not in volatile or (card[:8].isspace() and card.strip())]
    rest = iter(new_cards)
    missing = [card for card in kept if card not in rest]  # each searched behind the one before: order is kept too
    assert missing == []
    with fits.open(original) as old, fits.open(extended) as new:
        assert len(old) == len(new)
        assert new[0].header.tostring() == old[0].header.tostring()
        for a, b in zip(old[2:], new[2:], strict=True):
            assert b.header.tostring() == a.header.tostring()
            np.testing.assert_array_equal(b.data, a.data)
        new.verify("exception")


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_fits_keeps_every_byte(tmp_path: Path, suffix: str) -> None:
    original = make_nasty_fits(tmp_path / "a.fits")
    if suffix == ".fits.gz":
        original = tmp_path / "a.fits.gz"
        original.write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    new = measure(3)
    meta = {"F115WZP": 23.9, "OPTIONS": '{"a": "' + "b" * 200 + '"}', "f115w_preset": "dja"}
    extended = extend(original, tmp_path / "b.fits", new, meta=meta)
    assert_kept(original, extended)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)  # counts/foo, on purpose
        read = QTable.read(extended, hdu=1)
    for name in new.colnames:
        np.testing.assert_array_equal(np.asarray(read[name]).astype(new[name].dtype), np.asarray(new[name]))
        assert read[name].info.description == new[name].info.description
        assert read[name].info.unit == new[name].info.unit
    assert {key: read.meta[key] for key in meta} == meta
    assert read.meta["HISTORY"] == ["made by hand", "twice"]
    assert read["ra"].unit == u.deg
    assert [len(row) for row in read["list"]] == [1, 2, 0]
    with fits.open(extended) as hdus:
        assert hdus[1].name == "SOURCES"
        np.testing.assert_array_equal(hdus[1].data["scaled"], [0.5, 1.5, 2.5])


def test_fits_made_by_astropy_keeps_its_mixins(tmp_path: Path) -> None:
    table = QTable()
    table["id"] = [5, 6]
    table["coord"] = SkyCoord([34.1, 34.2], [-5.1, -5.2], unit="deg")
    table["flux"] = Masked([1.0, 2.0] * u.Jy, mask=[False, True])
    table["when"] = Time([59000.5, 59001.5], format="mjd")
    table["old"] = [1, 2] * u.mJy
    table["old"].info.description = "an old colum\u0144 whose description is long " + "x" * 200
    table["old"].info.meta = {"ucd": "phot.flux", "deep": [{"a": 1}]}
    table.write(tmp_path / "a.fits")
    columns = measure(2)
    columns["more"] = np.ma.MaskedArray([1.5, 2.5], mask=[True, False])
    extended = extend(tmp_path / "a.fits", tmp_path / "b.fits", columns)
    before, after = QTable.read(tmp_path / "a.fits"), QTable.read(extended)
    assert after.colnames == [*before.colnames, *columns.colnames]
    assert isinstance(after["coord"], SkyCoord)
    np.testing.assert_array_equal(after["coord"].ra.deg, table["coord"].ra.deg)
    assert (after["flux"].mask == table["flux"].mask).all()
    assert after["old"].info.description == table["old"].info.description
    assert dict(after["old"].info.meta) == table["old"].info.meta
    assert after["f115w_flux_auto"].info.description == columns["f115w_flux_auto"].info.description
    for name in ("flux", "when", "old"):
        assert str(after[name]) == str(before[name])
        assert after[name].unit == before[name].unit
    native = QTable.read(extended, astropy_native=True)
    np.testing.assert_array_equal(native["when"].mjd, table["when"].mjd)
    assert read_raw(extended)[1]["when"] == read_raw(tmp_path / "a.fits")[1]["when"]
    assert find_positions(read_catalog(extended))[1].dec.deg == -5.2


def test_replaced_columns_keep_their_place(tmp_path: Path) -> None:
    original = make_nasty_fits(tmp_path / "a.fits")
    new = Table({"name": [1.5, 2.5, 3.5], "dec": [1, 2, 3], "tail": ["x", "y", "z"]})
    new["name"].unit = "uJy"
    new["name"].description = "was text"
    extended = extend(original, tmp_path / "b.fits", new, replace=True)
    assert_kept_but = {"name", "dec"}
    names = list(read_raw(original)[1])
    cards, columns, _ = read_raw(extended)
    assert list(columns) == [*names, "tail"]
    for name, value in read_raw(original)[1].items():
        assert (columns[name] == value) == (name not in assert_kept_but)
    assert not [card for card in cards if card.startswith("TUNIT3 ")]
    with fits.open(extended) as hdus:
        hdus.verify("exception")
        assert hdus[1].data["name"].tolist() == [1.5, 2.5, 3.5]
        assert hdus[1].data["dec"].tolist() == [1, 2, 3]
    # Once more on its own result: columns, description and metadata are replaced, not repeated.
    again = Table({"name": [7.5, 8.5, 9.5]})
    again["name"].description = "replaced"
    once, extended = extended, tmp_path / "once_more.fits"
    extend(once, extended, again, replace=True, meta={"ZP": 26.0, "LONG": "short"})
    cards = read_raw(extended)[0]
    assert [card.rstrip() for card in cards if card.startswith("ZP ")] == [
        "ZP      =                 26.0 / zero point of somebody"
    ]
    assert not any(card.startswith("CONTINUE") for card in cards)
    read = read_catalog(extended)
    assert read.colnames == [*names, "tail"]
    assert read["name"].description == "replaced"
    assert read["name"].unit is None


def test_lists_of_new_columns_follow_those_of_the_original(tmp_path: Path) -> None:
    original = make_nasty_fits(tmp_path / "a.fits")
    lists = [np.array([1.0, 2.0]), np.array([]), np.array([3.0])]
    new = Table({"visit_mjd": Column(lists, dtype=object), "visit_pa": Column(lists[::-1], dtype=object)})
    extended = extend(original, tmp_path / "b.fits", new)
    assert_kept(original, extended)
    with fits.open(extended) as hdus:
        data = hdus[1].data
        assert [row.tolist() for row in data["visit_mjd"]] == [[1, 2], [], [3]]
        assert [row.tolist() for row in data["visit_pa"]] == [[3], [], [1, 2]]
        assert [len(row) for row in data["list"]] == [1, 2, 0]


def test_gap_before_the_heap_is_kept(tmp_path: Path) -> None:
    original = make_nasty_fits(tmp_path / "a.fits")
    content = original.read_bytes()
    with fits.open(original) as hdus:
        where, size, count = hdus[1].fileinfo(), hdus[1].header["NAXIS1"] * 3, hdus[1].header["PCOUNT"]
    start = where["datLoc"] + size
    header = fits.Header.fromstring(content[where["hdrLoc"] : where["datLoc"]].decode())
    header["PCOUNT"] = count + 5
    header["THEAP"] = (size + 5, "after a gap")
    data = content[where["datLoc"] : start] + b"\xff" * 5 + content[start : start + count]
    data += bytes(-len(data) % 2880)
    original.write_bytes(content[: where["hdrLoc"]] + header.tostring().encode() + data)
    extended = extend(original, tmp_path / "b.fits", measure(3))
    for path in (original, extended):
        with fits.open(path) as hdus:
            assert [len(row) for row in hdus[1].data["list"]] == [1, 2, 0]
            assert hdus[1].data["list"][1][0] == 2
    assert read_raw(extended)[2] == read_raw(original)[2]


def test_ascii_tables_become_binary(tmp_path: Path) -> None:
    columns = [fits.Column(name, "F10.5", array=np.array([1.5, 2.5]), unit="deg") for name in ("ra", "dec")]
    fits.TableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    read = QTable.read(extend(tmp_path / "a.fits", tmp_path / "b.fits", measure(2)))
    assert read["ra"].to_value(u.deg).tolist() == [1.5, 2.5]
    assert read["f115w_flux_auto"].unit == u.uJy


def make_table() -> Table:
    table = Table()
    table["id"] = MaskedColumn([3, 1, 2], mask=[False, True, False], unit="s", description="with a hole")
    table["ra"] = Column([34.1, 34.2, 34.3], unit="deg", description="right")
    table["dec"] = [-5.1, -5.2, 1 / 3]
    table["text"] = ["a", "bb", "c c"]
    table["good"] = [True, False, True]
    table["f"] = Column([1.5, np.nan, -np.inf], dtype="f4", unit="uJy")
    table.meta.update({"A": 1, "TEXT": "q" * 100})
    return table


@pytest.mark.filterwarnings("ignore:.*CSV cannot hold")
@pytest.mark.parametrize("target", [".fits", ".ecsv", ".parquet", ".csv"])
@pytest.mark.parametrize("source", [".fits", ".ecsv", ".parquet", ".csv", ".vot", ".xml"])
def test_all_pairs_of_formats_keep_the_values(tmp_path: Path, source: str, target: str) -> None:
    for suffix in (source, target):
        need_pyarrow(suffix)
    original, table = tmp_path / f"a{source}", make_table()
    if source == ".parquet":
        table["id"] = table["id"].filled(7)  # astropy writes no masks to parquet
    formats = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable"}
    table.write(original, format=formats.get(source, source[1:]))
    new = measure(3)
    before, after = read_catalog(original), read_catalog(extend(original, tmp_path / f"b{target}", new))
    assert after.colnames == [*table.colnames, *new.colnames]
    for name in table.colnames:
        if before[name].dtype.kind == "f":  # of VOTable masked, elsewhere NaN
            np.testing.assert_array_equal(*(np.ma.filled(column, np.nan) for column in (after[name], before[name])))
        else:
            assert after[name].astype(str).tolist() == before[name].astype(str).tolist()
        if target != ".csv":
            assert after[name].unit == before[name].unit
            assert after[name].description == before[name].description
            assert after[name].dtype.kind.replace("S", "U") == before[name].dtype.kind.replace("S", "U")
    for name in new.colnames:
        np.testing.assert_array_equal(np.asarray(after[name]).astype(new[name].dtype), np.asarray(new[name]))
        if target != ".csv":
            assert after[name].unit == new[name].info.unit
            assert after[name].description == new[name].info.description
    if target != ".csv" and source in (".fits", ".ecsv", ".parquet"):
        assert {key: after.meta[key] for key in table.meta} == table.meta


def test_ecsv_keeps_mixins_and_unknown_units(tmp_path: Path) -> None:
    table = Table()
    table["sky"] = SkyCoord([1, 2], [3, 4], unit="deg", frame="galactic")
    table["when"] = Time(["2022-07-07", "2022-07-08"])
    table["odd"] = Column([1, 2], unit=u.Unit("counts/foo", parse_strict="silent"))
    table["vector"] = np.arange(6).reshape(2, 3)
    table["count"] = Column([1, 2], unit="s")
    table.write(tmp_path / "a.ecsv")
    after = read_catalog(extend(tmp_path / "a.ecsv", tmp_path / "b.ecsv", measure(2)))
    assert (after["when"] == table["when"]).all()
    assert (after["sky"].l == table["sky"].l).all()
    assert str(after["odd"].unit) == "counts/foo"
    assert after["count"].dtype.kind == "i"
    assert after["vector"].tolist() == table["vector"].tolist()
    np.testing.assert_allclose(find_positions(after).galactic.b.deg, [3, 4], rtol=1e-12)  # two rotations in doubles


def test_added_columns_leave_the_table_alone() -> None:
    table = make_table()
    extended = add_columns(table, {"new": [1, 2, 3] * u.uJy, "ra": np.arange(3)}, overwrite=True)
    assert extended.colnames == [*table.colnames, "new"]
    assert extended["new"].unit == u.uJy
    assert extended["ra"].tolist() == [0, 1, 2]
    assert "new" not in table.colnames
    assert table["ra"][0] == 34.1
    assert np.shares_memory(extended["dec"], table["dec"])


def test_existing_columns_are_kept() -> None:
    with pytest.raises(PhotplugError, match="has ra and 1 more of the new columns; add --overwrite-columns"):
        add_columns(make_table(), {"ra": [1, 2, 3], "x": [1, 2, 3], "dec": [1, 2, 3]})


@pytest.mark.parametrize("name", ["cat.doc", "cat"])
def test_unknown_formats_list_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotplugError, match=r"read from \.fits, \.ecsv, \.parquet, \.h5, .*\.hdf5;"):
        read_catalog(tmp_path / name)
    with pytest.raises(PhotplugError, match=r"suffix must be one of \.fits, \.ecsv, \.parquet, \.h5, \.vot, \.csv"):
        write_extended(make_table(), tmp_path / name, added=[])


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".ecsv", ".parquet", ".vot", ".csv"])
def test_damaged_files_are_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cat{suffix}"
    path.write_bytes(b"a,b\n1\n1,2,3\n" if suffix == ".csv" else b"\x00 no table \n at all" * 200)
    for _ in range(2):
        with pytest.raises(PhotplugError, match="cannot be read as a catalogue") as caught:
            read_catalog(path)
        assert "\n" not in str(caught.value)
        path.unlink(missing_ok=True)


def test_fits_cut_short_or_without_a_table(tmp_path: Path) -> None:
    path = make_nasty_fits(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[:8640])
    with pytest.raises(PhotplugError, match="cannot be read as a catalogue"):
        read_catalog(path)
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(path, overwrite=True)
    with pytest.raises(PhotplugError, match="it holds no table"):
        read_catalog(path)


@pytest.mark.parametrize(
    ("card", "by", "message"),
    [
        ("NAXIS2  =", "NOAXIS2 =", "keyword NAXIS2 is missing"),
        ("NAXIS   =                    2", "NAXIS   =                  2.0", "keyword NAXIS is '2.0'"),
        ("PCOUNT  =                    0", "PCOUNT  =                   'x'"[:30], "keyword PCOUNT is"),
        ("TFIELDS =                    2", "TFIELDS =                  1E0", "keyword TFIELDS is '1E0'"),
    ],
)
def test_headers_that_say_no_size_are_refused(tmp_path: Path, card: str, by: str, message: str) -> None:
    """Before astropy believes them: of the table, and of an HDU behind it that nobody asked for."""
    table = Table({"ra": [1.0], "dec": [2.0]})
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table), fits.BinTableHDU(table)])
    hdus.writeto(tmp_path / "cat.fits")
    content = (tmp_path / "cat.fits").read_bytes()
    for place in (content.index(card.encode(), 2880), content.rindex(card.encode())):
        spoilt = content[:place] + by.encode() + content[place + len(by) :]
        (tmp_path / "cat.fits").write_bytes(spoilt)
        assert choose_table(tmp_path / "cat.fits").name == "cat.fits"
        with pytest.raises(PhotplugError, match=message):
            read_catalog(tmp_path / "cat.fits")


@pytest.mark.parametrize("key", ["[*", "NAX*", "T?", "A..."])
def test_metadata_that_would_match_other_cards_are_left_out_of_fits(tmp_path: Path, key: str) -> None:
    """astropy takes such a key for a pattern, sets all cards that match, and fails on what is no pattern."""
    table = Table({"ra": [1.0, 2.0]}, meta={key: 7, "ZP": 23.9})
    with pytest.warns(PhotplugWarning, match="will be lost or changed"):
        check_extended(table, tmp_path / "cat.fits")
    back = read_catalog(write_extended(table, tmp_path / "cat.fits", added=[]))
    assert dict(back.meta) == {"ZP": 23.9, "EXTNAME": "CATALOG"}
    assert len(back) == 2


def test_nothing_is_written_where_it_cannot_be(tmp_path: Path) -> None:
    original = make_nasty_fits(tmp_path / "a.fits")
    before = original.read_bytes()
    table = read_catalog(original)
    for overwrite in (False, True):
        with pytest.raises(PhotplugError, match=r"a\.fits: is the input catalogue; name another output"):
            write_extended(table, original, added=[], original=original, overwrite=overwrite)
    with pytest.raises(PhotplugError, match="has 3 rows, the table read from it 2; read it again"):
        write_extended(table[:2], tmp_path / "b.fits", added=["ra"], original=original)
    with pytest.raises(PhotplugError, match=r"\.csv cannot hold this catalogue .*; write \.ecsv"):
        write_extended(table, tmp_path / "b.csv", added=[], original=original)
    assert original.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet"])
def test_files_keep_all_of_a_catalog(tmp_path, suffix: str) -> None:
    need_pyarrow(suffix)
    table = make_catalog()
    path = write_catalog(table, tmp_path / f"cat{suffix}")
    read = QTable.read(path)
    assert read.colnames == table.colnames
    for name in table.colnames:
        assert read[name].info.unit == table[name].info.unit
        assert read[name].info.description == table[name].info.description
        assert read[name].dtype.kind == table[name].dtype.kind
        np.testing.assert_array_equal(np.asarray(read[name]), np.asarray(table[name]))
    assert {key: read.meta[key] for key in table.meta} == table.meta


def test_parquet_holds_all_of_a_catalog(tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = make_catalog()
    read = parquet.read_table(write_catalog(table, tmp_path / "cat.parquet"))
    assert read.column_names == table.colnames
    np.testing.assert_array_equal(read["flux_auto"].to_numpy(), table["flux_auto"].value)
    stored = read.schema.metadata[b"table_meta_yaml"].decode()
    for text in ("ZEROPNT: 23.9", "unit: uJy", "isophotal flux: sum over"):
        assert text in stored


def test_empty_catalog_round_trips(tmp_path) -> None:
    table = make_catalog(n=2)[:0]
    for name in ("cat.fits", "cat.ecsv"):
        read = QTable.read(write_catalog(table, tmp_path / name))
        assert len(read) == 0
        assert read["flux_auto"].unit == u.uJy


@pytest.mark.parametrize("name", ["cat.txt", "cat"])
def test_unknown_format_names_the_known(tmp_path, name: str) -> None:
    with pytest.raises(PhotplugError, match=r"suffix must be one of \.fits, \.ecsv, \.parquet, \.h5, \.vot; rename it"):
        write_catalog(make_catalog(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PhotplugError, match=r"dja_photplug\[parquet\]"):
        write_catalog(make_catalog(), tmp_path / "cat.parquet")


def test_existing_catalog_is_kept(tmp_path) -> None:
    path = tmp_path / "cat.ecsv"
    path.write_text("mine")
    with pytest.raises(PhotplugError, match="already exists"):
        write_catalog(make_catalog(), path)
    assert path.read_text() == "mine"
    write_catalog(make_catalog(), path, overwrite=True)
    assert len(QTable.read(path)) == 3
