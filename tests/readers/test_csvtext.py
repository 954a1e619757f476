"""Text in the dialects that people write: what is read of it, and that it keeps its bytes when it gets columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.readers.csvtext import extend_csv, format_csv, read_csv

ROWS = "id,ra,name\n007,1.5,a b\n012,2.5,c\n"
READ = {"id": ["007", "012"], "ra": [1.5, 2.5], "name": ["a b", "c"]}


def read(path: Path, content: str | bytes) -> Table:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv(path)


def cells(table: Table) -> dict[str, list[object]]:
    return {name: table[name].tolist() for name in table.colnames}


DIALECTS = {
    "commas": ROWS,
    "semicolons": ROWS.replace(",", ";"),
    "tabs": ROWS.replace(",", "\t"),
    "bars": ROWS.replace(",", "|"),
    "bars between blanks": ROWS.replace(",", " | "),
    "commas and blanks": ROWS.replace(",", ", "),
    "blanks": ROWS.replace("a b", '"a b"').replace(",", " "),
    "columns of text": 'id    ra   name\n007   1.5  "a b"\n  012 2.5  c  \n',
    "quotes": 'id,"ra",name\n"007","1.5","a b"\n"012","2.5","c"\n',
    "Windows": ROWS.replace("\n", "\r\n"),
    "old Macintosh": ROWS.replace("\n", "\r"),
    "no last line end": ROWS.removesuffix("\n"),
    "mark of UTF-8": "\ufeff" + ROWS,
    "UTF-16": ROWS.encode("utf-16"),
    "comments": '# by hand, with "quotes\n\n' + ROWS.replace("012", '  # "x, y\n012') + "# the end\n",
    "names in a comment": "# by hand\n# " + ROWS.replace("a b", "1").replace("c\n", "2\n"),
    "blank lines": ROWS.replace("\n", "\n\n"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(tmp_path: Path, dialect: str) -> None:
    """Every one is read as the same table; and, with columns, begins in each line with what it was."""
    content = DIALECTS[dialect]
    content = content if isinstance(content, bytes) else content.encode()
    table = read(tmp_path / "a.csv", content)
    numbers = dialect == "names in a comment"
    assert cells(table) == READ | ({"name": [1, 2]} if numbers else {})
    table["flux"] = [0.1, np.nan] * u.uJy
    table["note"] = MaskedColumn(["x,y;z\t|", ""], mask=[False, True])
    extended = b"".join(extend_csv(tmp_path / "a.csv", table, ["flux", "note"]))
    (tmp_path / "b.csv").write_bytes(extended)
    blank = "" if dialect in ("blanks", "columns of text") else None  # between blanks there are no blank cells
    expected = READ | ({"name": [1, 2]} if numbers else {}) | {"note": ["x,y;z\t|", blank]}
    found = cells(read_csv(tmp_path / "b.csv"))
    assert found.pop("flux")[0] == 0.1
    assert found == expected
    for old, new in zip(content.splitlines(), extended.splitlines(), strict=True):
        assert new.startswith(old.rstrip()) or dialect == "UTF-16"
    assert extended.count(b"\r\n") == content.count(b"\r\n")
    assert extended.endswith(b"\n") == content.endswith(b"\n") or dialect == "UTF-16"


def test_latin_1_is_told_and_kept(tmp_path: Path) -> None:
    with pytest.warns(PhotplugWarning, match="is not UTF-8; reading it as latin-1"):
        table = read(tmp_path / "a.csv", "name,x\n\u00e9t\u00e9,1\n".encode("latin-1"))
    assert table["name"][0] == "\u00e9t\u00e9"
    table["new"] = [2]
    assert extend_csv(tmp_path / "a.csv", table, ["new"]) == ["name,x,new\n\u00e9t\u00e9,1,2\n".encode("latin-1")]


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        (["1", "-2", "+3"], [1, -2, 3], "i"),
        (["0", "10"], [0, 10], "i"),
        (["007", "10"], ["007", "10"], "U"),
        (["00", "01"], ["00", "01"], "U"),
        (["18446744073709551615", "0"], [2**64 - 1, 0], "u"),
        (["123456789012345678901", "1"], ["123456789012345678901", "1"], "U"),
        (["1", "2.5"], [1.0, 2.5], "f"),
        (["-05.25", "1e-3"], [-5.25, 0.001], "f"),
        ([".5", "5."], [0.5, 5.0], "f"),
        (["nan", "-inf"], [np.nan, -np.inf], "f"),
        (["1_000", "2"], ["1_000", "2"], "U"),
        (["1 000", "2"], ["1 000", "2"], "U"),
        (["0x10", "2"], ["0x10", "2"], "U"),
        (["True", "False"], [True, False], "b"),
        (["true", "false"], ["true", "false"], "U"),
        (["1", ""], [1, None], "i"),
        (["1.5", " "], [1.5, None], "f"),
        (['"1.5"', '""'], [1.5, None], "f"),
        (["True", ""], [True, None], "b"),
        (["a", ""], ["a", None], "U"),
        (["a", '""'], ["a", ""], "U"),
        (["", ""], [None, None], "U"),
        (["N/A", "1"], ["N/A", "1"], "U"),
        (["2022-07-01", "2022-07-02"], ["2022-07-01", "2022-07-02"], "U"),
        (['"a ""b"""', "c"], ['a "b"', "c"], "U"),
        (['" a"', "b"], [" a", "b"], "U"),
        (['"a\nb"', "c"], ["a\nb", "c"], "U"),
        (['"a\n# b"', "c"], ["a\n# b", "c"], "U"),
    ],
)
def test_types(tmp_path: Path, column: list[str], values: list[object], kind: str) -> None:
    table = read(tmp_path / "a.csv", "id,x\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(column)))
    np.testing.assert_array_equal(table["x"].tolist(), values)
    assert table["x"].dtype.kind == kind
    again = read(tmp_path / "b.csv", format_csv(table))
    np.testing.assert_array_equal(again["x"].tolist(), values)
    assert again["x"].dtype == table["x"].dtype


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("a,b\n1\n", "line 2 has 1 cells, and there are 2 names of columns"),
        ("# c\na,b\n1,2\n\n1,2,3\n", "line 5 has 3 cells"),
        ("a,a\n1,2\n", "two columns a"),
        ("1,2\n3,4\n", "first line holds no names"),
        ("# a\n1,2\n", "first line holds no names"),
        ("ra;dec\n1,5;2,5\n", "column ra has decimal commas, such as 1,5"),
        ("ra\tdec\n1.5\t-2,5\n", "column dec has decimal commas, such as -2,5"),
        ('a,b\n"1,2\n', "line 2: unexpected end of data"),
        ('a,b\n"1"2,3\n', "line 2: "),
        ("a,b\n1,\x00\n", "it is no text"),
        (b"a,b\n\xff,\x00\n", "it is no text"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "a.csv", content)


def test_lists_of_numbers_are_no_decimal_commas(tmp_path: Path) -> None:
    """A cell in quotes between commas: text, which is refused only where a number is needed."""
    assert read(tmp_path / "a.csv", 'id,near\n1,"2,3"\n2,"1,3"\n')["near"].tolist() == ["2,3", "1,3"]


def test_columns_without_a_name_are_numbered(tmp_path: Path) -> None:
    """As of pandas, which leaves the name of its index blank; the text stays as it is."""
    table = read(tmp_path / "a.csv", ",x,\n0,1,\n1,2,\n")
    assert table.colnames == ["col1", "x", "col3"]
    table["new"] = [5, 6]
    assert extend_csv(tmp_path / "a.csv", table, ["new"]) == [b",x,,new\n0,1,,5\n1,2,,6\n"]


@pytest.mark.parametrize("separator", [",", ";", " "])
def test_replaced_columns_keep_their_place(tmp_path: Path, separator: str) -> None:
    content, expected = (
        text.replace("/", separator)
        for text in (
            '# c\nid/x/name\n1/2.50/"a/ b"\n2/3.50/c\n',
            '# c\nid/x/name/new\n1/7.5/"a/ b"/True\n2/8.5/c/False\n',
        )
    )
    table = read(tmp_path / "a.csv", content)
    table["x"], table["new"] = [7.5, 8.5], [True, False]
    assert extend_csv(tmp_path / "a.csv", table, ["x", "new"]) == [expected.encode()]


def test_a_file_that_has_changed(tmp_path: Path) -> None:
    table = read(tmp_path / "a.csv", ROWS)
    (tmp_path / "a.csv").write_text(ROWS + "9,1,x\n")
    with pytest.raises(PhotplugError, match="has 3 rows, the table read from it 2; read it again"):
        extend_csv(tmp_path / "a.csv", table, [])
