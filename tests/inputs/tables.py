"""Files of catalogues: their formats, the dialects of text, columns that a format does not hold, and names."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table

from dja_photplug.files.tables.read import read_catalog
from tests.inputs.cases import Case
from tests.inputs.catalogues import EXTEND, PREFIX, make_catalogue, measured, prepare, set_column

__all__ = ["CASES"]

COLUMN = {"kind": "Columns of a catalogue"}
TEXT = {"kind": "Catalogues of text"}
NAMES = {"kind": "Names of new columns"}
FITS = {"kind": "Catalogues of several tables"}
HOLE = np.arange(6) == 2


def kept(path: str, name: str, cells: list[object]) -> Callable[[Path], None]:
    """Return what asserts that a column has these cells; None where masked."""

    def check(folder: Path) -> None:
        assert read_catalog(folder / path)[name].tolist() == cells

    return check


def column(
    given: str, make: Callable[[], object], source: str, target: str, outcome: str = "obeyed", **more: object
) -> Case:
    """Return a case of a catalogue with one column more, from one format to another."""
    return Case(
        **COLUMN,
        given=given,
        command=f"extend cat{source} {EXTEND} -o out{target}",
        outcome=outcome,
        prepare=prepare(set_column(mine=lambda table: make()), f"cat{source}"),
        **more,
    )


def text(
    given: str,
    spoil: Callable[[str], str | bytes],
    outcome: str = "obeyed",
    says: tuple[str, ...] = (),
    check: Callable[[Path], None] | None = None,
    target: str = "out.ecsv",
) -> Case:
    """Return a case of a catalogue in CSV: positions with names, changed as a text."""

    def write(folder: Path) -> None:
        table = make_catalogue(folder)["id", "ra", "dec"]
        table["id"] = [f"{number:03d}" for number in table["id"]]
        table["name"] = ["M 1", "NGC 5", "x", "y", "z", "w"]
        stream = io.StringIO()
        table.write(stream, format="ascii.csv")
        content = spoil(stream.getvalue().replace("\r\n", "\n"))
        (folder / "cat.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    command = f"extend cat.csv {EXTEND} -o {target}"
    if outcome != "refused" and check is None:
        check = keeps_text
    return Case(**TEXT, given=given, command=command, outcome=outcome, says=says, prepare=write, check=check)


def keeps_text(folder: Path) -> None:
    """Assert that ids and names are what they were, and that all is measured."""
    table = read_catalog(folder / "out.ecsv")
    assert table["id"].tolist() == ["001", "002", "003", "004", "005", "006"]
    assert table["name"].tolist() == ["M 1", "NGC 5", "x", "y", "z", "w"]
    measured()(folder)


def keeps_lines(folder: Path) -> None:
    """Assert that each line begins as it did, in its encoding and with its end."""
    before, after = ((folder / name).read_bytes() for name in ("cat.csv", "out.csv"))
    assert before.count(b"\r\n") == after.count(b"\r\n")
    for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
        assert new.startswith(old)
        assert b"# by hand" in old or new.count(b";") == old.count(b";") + 4


def quote_all(content: str) -> str:
    return "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in content.splitlines()) + "\n"


def decimal_commas(content: str) -> str:
    return content.replace(",", ";").replace(".", ",")


def blank_name(content: str) -> str:
    return content.replace(",NGC 5", ",")


def accented(content: str) -> bytes:
    return content.replace("NGC 5", "N\u00e9b 5").encode("latin-1")


def of_europe(content: str) -> bytes:
    return b"\xef\xbb\xbf# by hand\r\n" + content.replace(",", ";").replace("\n", "\r\n").encode()


def wide(table: Table) -> Table:
    return Table(
        [np.zeros(6, "i2")] * 988 + list(table.itercols()), names=[f"c{i}" for i in range(988)] + table.colnames
    )


def several_tables(folder: Path) -> None:
    """Write a header as a table before that of the sources, as LDAC catalogues have it."""
    head = fits.BinTableHDU(Table({"Field Header Card": ["SIMPLE"]}), name="LDAC_IMHEAD")
    sources = fits.BinTableHDU(make_catalogue(folder), name="LDAC_OBJECTS")
    fits.HDUList([fits.PrimaryHDU(), head, sources]).writeto(folder / "cat.fits")


def sources_first(folder: Path) -> None:
    """Write the sources, then an image and another table."""
    sources = fits.BinTableHDU(make_catalogue(folder), name="SOURCES")
    other = fits.BinTableHDU(Table({"a": [1, 2]}), name="OTHER")
    fits.HDUList([fits.PrimaryHDU(), sources, fits.ImageHDU(np.zeros((2, 2))), other]).writeto(folder / "cat.fits")


def sources_last(folder: Path) -> None:
    """Write what is known of the bands, then the sources, as many surveys do."""
    bands = fits.BinTableHDU(Table({"filter": ["f444w"], "depth": [29.0]}), name="BANDS")
    sources = fits.BinTableHDU(make_catalogue(folder), name="SOURCES")
    fits.HDUList([fits.PrimaryHDU(), bands, sources]).writeto(folder / "cat.fits")


def names_of_tables(names: list[str], extended: str) -> Callable[[Path], None]:
    """Return what asserts that all HDUs are there, and which table has the new columns."""

    def check(folder: Path) -> None:
        with fits.open(folder / "out.fits") as hdus:
            assert [hdu.name for hdu in hdus[1:]] == names
            assert "f444w_flux_aper_0" in hdus[extended].columns.names

    return check


def with_band(table: Table) -> None:
    table["f444w_flux_aper_0"] = -1.0


def has(*names: str, path: str = "out.ecsv") -> Callable[[Path], None]:
    """Return what asserts that a catalogue has columns."""

    def check(folder: Path) -> None:
        assert set(names) <= set(read_catalog(folder / path).colnames)

    return check


CASES = (
    column(
        "booleans with nulls into FITS",
        lambda: MaskedColumn([True, False, True, True, False, True], mask=HOLE),
        ".ecsv",
        ".fits",
        check=kept("out.fits", "mine", [True, False, None, True, False, True]),
    ),
    column(
        "999999 beside nulls into FITS",
        lambda: MaskedColumn([999999, 1, 2, 3, 4, 5], mask=HOLE),
        ".ecsv",
        ".fits",
        check=kept("out.fits", "mine", [999999, 1, None, 3, 4, 5]),
    ),
    column(
        "text with nulls and empty text into FITS",
        lambda: MaskedColumn(["a", "", "b", "c", "d", "e"], mask=HOLE),
        ".parquet",
        ".fits",
        check=kept("out.fits", "mine", ["a", "", None, "c", "d", "e"]),
    ),
    column(
        "empty text into ECSV",
        lambda: ["a", "", "b", "c", "d", "e"],
        ".fits",
        ".ecsv",
        check=kept("out.ecsv", "mine", ["a", "", "b", "c", "d", "e"]),
    ),
    column(
        "a vector in each row into FITS",
        lambda: np.arange(12).reshape(6, 2),
        ".ecsv",
        ".fits",
        check=kept("out.fits", "mine", np.arange(12).reshape(6, 2).tolist()),
    ),
    column(
        "a vector in each row into CSV",
        lambda: np.zeros((6, 2)),
        ".ecsv",
        ".csv",
        "refused",
        says=("column mine", ".ecsv"),
    ),
    column(
        "a matrix in each row into Parquet",
        lambda: np.zeros((6, 2, 2)),
        ".fits",
        ".parquet",
        "refused",
        says=("column mine",),
    ),
    column(
        "signed bytes into FITS",
        lambda: np.arange(6, dtype="i1"),
        ".parquet",
        ".fits",
        "refused",
        says=("column mine", "int8"),
    ),
    column("text beyond ASCII into FITS", lambda: ["\u03b1"] * 6, ".ecsv", ".fits", "refused", says=("column mine",)),
    column(
        "a magnitude's unit into FITS",
        lambda: Column(np.ones(6), unit="mag(AB)"),
        ".ecsv",
        ".fits",
        check=has("mine", path="out.fits"),
    ),
    Case(
        **COLUMN,
        given="a name beyond ASCII into FITS",
        command=f"extend cat.ecsv {EXTEND} -o out.fits",
        outcome="refused",
        says=("'\u03b1'", "write .ecsv"),
        prepare=prepare(set_column(**{"\u03b1": lambda table: np.arange(6)}), "cat.ecsv"),
    ),
    Case(
        **COLUMN,
        given="more columns than FITS holds",
        command=f"extend cat.fits {EXTEND} -o out.fits",
        outcome="refused",
        says=("FITS holds at most 999 columns", "1002"),
        prepare=prepare(wide),
    ),
    Case(
        **COLUMN,
        given="lists of epochs into CSV",
        command=f"epochs {PREFIX} --catalog cat.ecsv --epoch-details visits -o out.csv",
        outcome="refused",
        says=("column visit_mjd", "write .ecsv"),
        prepare=prepare(name="cat.ecsv"),
    ),
    Case(
        **COLUMN,
        given="metadata that FITS does not hold",
        command=f"extend cat.ecsv {EXTEND} -o out.fits",
        outcome="warned",
        says=("metadata deep",),
        prepare=prepare(lambda table: table.meta.update(deep={"a": [1, 2]}), "cat.ecsv"),
        check=has("f444w_flux_aper_0", path="out.fits"),
    ),
    Case(
        **COLUMN,
        given="units into CSV",
        command=f"extend cat.ecsv {EXTEND} -o out.csv",
        outcome="warned",
        says=("CSV cannot hold units and descriptions of ra, dec, a",),
        prepare=prepare(name="cat.ecsv"),
        check=has("f444w_flux_aper_0", path="out.csv"),
    ),
    # ---- text
    text("commas between cells, and ids with leading zeros", lambda content: content),
    text("semicolons between cells", lambda content: content.replace(",", ";")),
    text("tabs between cells", lambda content: content.replace(",", "\t")),
    text("bars between cells", lambda content: content.replace(",", " | ")),
    text(
        "comments before and between the rows",
        lambda content: "# a, b\n\n" + content.replace("003", "# c\n003") + "# d\n",
    ),
    text("quotes around all cells", quote_all),
    text("Windows line ends", lambda content: content.replace("\n", "\r\n")),
    text("a mark of UTF-8", lambda content: b"\xef\xbb\xbf" + content.encode()),
    text("UTF-16", lambda content: content.encode("utf-16")),
    text("a blank cell", blank_name, check=kept("out.ecsv", "name", ["M 1", None, "x", "y", "z", "w"])),
    text(
        "latin-1",
        accented,
        "warned",
        ("cat.csv: is not UTF-8; reading it as latin-1",),
        kept("out.ecsv", "name", ["M 1", "N\u00e9b 5", "x", "y", "z", "w"]),
    ),
    text("all of them, into CSV", of_europe, "warned", ("CSV cannot hold",), keeps_lines, "out.csv"),
    text("decimal commas", decimal_commas, "refused", ("column ra has decimal commas", "write points")),
    text("a row that lacks a cell", lambda content: content + "007,34.5\n", "refused", ("line 8 has 2 cells",)),
    text("a quote that is not closed", lambda content: content + '"007,1,2,3\n', "refused", ("line 8",)),
    text("two columns of a name", lambda content: content.replace("name", "ra", 1), "refused", ("two columns ra",)),
    text("no names of columns", lambda content: "\n".join(["1,2,3,4"] * 3), "refused", ("no names of columns",)),
    text("an empty file", lambda content: "", "refused", ("it is empty",)),
    # ---- names
    Case(
        **NAMES,
        given="a column that exists",
        command=f"extend cat.ecsv {EXTEND} -o out.ecsv",
        outcome="refused",
        says=("f444w_flux_aper_0", "--overwrite-columns", "--prefix"),
        prepare=prepare(with_band, "cat.ecsv"),
    ),
    Case(
        **NAMES,
        given="a column that exists, and a prefix",
        command=f"extend cat.ecsv {EXTEND} --prefix new_ -o out.ecsv",
        outcome="obeyed",
        prepare=prepare(with_band, "cat.ecsv"),
        check=has("f444w_flux_aper_0", "new_f444w_flux_aper_0", "new_f444w_flag_aper_0"),
    ),
    Case(
        **NAMES,
        given="a column that exists, to be replaced",
        command=f"extend cat.ecsv {EXTEND} --overwrite-columns -o out.ecsv",
        outcome="obeyed",
        prepare=prepare(with_band, "cat.ecsv"),
        check=measured(),
    ),
    Case(
        **NAMES,
        given="epochs that exist",
        command=f"epochs {PREFIX} --catalog cat.ecsv -o out.ecsv",
        outcome="refused",
        says=("already has the column n_exp", "--prefix"),
        prepare=prepare(set_column(n_exp=lambda table: np.arange(6)), "cat.ecsv"),
    ),
    Case(
        **NAMES,
        given="epochs that exist, and a prefix",
        command=f"epochs {PREFIX} --catalog cat.ecsv --prefix new_ -o out.ecsv",
        outcome="obeyed",
        prepare=prepare(set_column(n_exp=lambda table: np.arange(6)), "cat.ecsv"),
        check=has("n_exp", "new_n_exp", "new_n_visit"),
    ),
    Case(
        **NAMES,
        given="a prefix beyond ASCII into FITS",
        command=f"extend cat.fits {EXTEND} --prefix \u03b1_ -o out.fits",
        outcome="refused",
        says=("ASCII",),
        prepare=prepare(),
    ),
    # ---- several tables
    Case(
        **FITS,
        given="the sources in a table that is named",
        command=f"extend cat.fits[LDAC_OBJECTS] {EXTEND} -o out.fits",
        outcome="obeyed",
        prepare=several_tables,
        check=names_of_tables(["LDAC_IMHEAD", "LDAC_OBJECTS"], "LDAC_OBJECTS"),
    ),
    Case(
        **FITS,
        given="the sources behind SExtractor's copy of a header",
        command=f"extend cat.fits {EXTEND} -o out.fits",
        outcome="obeyed",
        prepare=several_tables,
        check=names_of_tables(["LDAC_IMHEAD", "LDAC_OBJECTS"], "LDAC_OBJECTS"),
    ),
    Case(
        **FITS,
        given="a table that is not there",
        command=f"extend cat.fits[OBJECTS] {EXTEND} -o out.fits",
        outcome="refused",
        says=("HDU OBJECTS", "[LDAC_OBJECTS]"),
        prepare=several_tables,
    ),
    Case(
        **FITS,
        given="the sources in the first table of two",
        command=f"extend cat.fits {EXTEND} -o out.fits",
        outcome="warned",
        says=("reading cat.fits[SOURCES]", "[SOURCES] [OTHER]"),
        prepare=sources_first,
        check=names_of_tables(["SOURCES", "", "OTHER"], "SOURCES"),
    ),
    Case(
        **FITS,
        given="the sources in the second table of two",
        command=f"extend cat.fits {EXTEND} -o out.fits",
        outcome="warned",
        says=("reading cat.fits[SOURCES]", "[BANDS] [SOURCES]"),
        prepare=sources_last,
        check=names_of_tables(["BANDS", "SOURCES"], "SOURCES"),
    ),
    Case(
        **FITS,
        given="the table without sources, by its name",
        command=f"extend cat.fits {EXTEND} --hdu BANDS -o out.fits",
        outcome="refused",
        says=("no position columns", "it has filter, depth"),
        prepare=sources_last,
    ),
)
