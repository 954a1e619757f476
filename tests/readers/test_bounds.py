"""Files that are small and say that they are large, or that what they hold is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Column, Table

import dja_photplug as dp
from dja_photplug.errors import PhotplugError
from dja_photplug.files.tables.compare import check_extended

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROW = np.dtype([("ra", "f8"), ("dec", "f8")])
FOREIGN = 77.75


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), ROW)
    layout[:] = h5py.VirtualSource("other.h5", "t", (3,), ROW)
    file.create_virtual_dataset("t", layout)


def described_elsewhere(file: h5py.File) -> None:
    file["t"] = np.zeros(3, ROW)
    file["t.__table_column_meta__"] = h5py.ExternalLink("other.h5", "t.__table_column_meta__")


ELSEWHERE: dict[str, Callable[[h5py.File], object]] = {
    "rows in another file of bytes": lambda file: file.create_dataset("t", (3,), ROW, external=[("raw", 0, 48)]),
    "rows in another table": virtual,
    "units in another table": described_elsewhere,
}
LARGE: dict[str, Callable[[h5py.File], object]] = {
    "rows that nobody wrote": lambda file: file.create_dataset("t", (10**9,), ROW, chunks=(1000,)),
    "a part that is larger than the table": lambda file: file.create_dataset(
        "t", (3,), ROW, chunks=(10**8,), maxshape=(None,), compression="gzip"
    ),
    "wide text": lambda file: file.create_dataset("t", (1000,), [*ROW.descr, ("note", "S999999")], chunks=(9,)),
}


@pytest.mark.parametrize("name", [*ELSEWHERE, "all of it"])
def test_hdf5_that_is_elsewhere(name: str, tmp_path: Path) -> None:
    """Nothing but the file itself is opened: what it points to is not read, and that is said."""
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["t"] = np.full(3, FOREIGN).astype(ROW)
        other["t.__table_column_meta__"] = np.array([b"datatype:", b"- {name: ra, unit: deg, datatype: float64}"])
    (tmp_path / "raw").write_bytes(np.full(6, FOREIGN).tobytes())
    with h5py.File(tmp_path / "cat.h5", "w") as file:
        if name in ELSEWHERE:
            ELSEWHERE[name](file)
        else:
            file["t"] = h5py.ExternalLink("other.h5", "t")
    with pytest.raises(PhotplugError, match="is elsewhere, which is not opened|it holds no table"):
        dp.read_catalog(tmp_path / "cat.h5")


@pytest.mark.parametrize("name", LARGE)
def test_hdf5_that_says_it_is_large(name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cat.h5", "w") as file:
        LARGE[name](file)
    with pytest.raises(PhotplugError, match=r"its \d+ bytes hold a table of [\d.]+ GB"):
        dp.read_catalog(tmp_path / "cat.h5")


def test_hdf5_with_one_text_for_all_rows(tmp_path: Path) -> None:
    """Texts of any length are elsewhere in the file, so that one of 100 kB can be that of each row."""
    rows = np.zeros(10_000, np.dtype([*ROW.descr, ("note", h5py.string_dtype())]))
    rows["note"] = ["x" * 100_000, *["y"] * 9_999]
    path = tmp_path / "cat.h5"
    with h5py.File(path, "w") as file:
        file["t"] = rows
        start, size = file["t"].id.get_offset(), file["t"].id.get_storage_size() // len(rows)
    content = bytearray(path.read_bytes())
    for i in range(1, len(rows)):
        content[start + (i + 1) * size - 16 : start + (i + 1) * size] = content[start + size - 16 : start + size]
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert len(file["t"][-1]["note"]) == 100_000
    with pytest.raises(PhotplugError, match=r"its \d+ bytes hold a table of [\d.]+ GB"):
        dp.read_catalog(path)


def long_runs(path: Path) -> None:
    """20 million rows that are alike."""
    zeros = pa.table({"ra": np.zeros(10**6), "dec": np.zeros(10**6)})
    with parquet.ParquetWriter(path, zeros.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(zeros)


def one_text(path: Path, kind: pa.DataType) -> None:
    """One text of 100 kB, in every row or in every list."""
    many = pa.DictionaryArray.from_arrays(np.zeros(4000, "i4"), ["x" * 100_000])
    if pa.types.is_list(kind):
        many = pa.ListArray.from_arrays(np.arange(4001, dtype="i4"), many)
    parquet.write_table(pa.table({"ra": np.zeros(4000), "note": many}), path)


def long_cell(path: Path, head: str, separator: str) -> None:
    """One text of 100 kB, and 20,000 of a letter."""
    cells = ["x" * 100_000, *["y"] * 20_000]
    rows = "".join(f"{separator.join(('1', '34.4', '-5.1', cell))}\n" for cell in cells)
    path.write_text(f"{head}\n{rows}")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("cat.parquet", long_runs),
        ("cat.parquet", lambda path: one_text(path, pa.string())),
        ("cat.parquet", lambda path: one_text(path, pa.list_(pa.string()))),
        ("cat.csv", lambda path: long_cell(path, "id,ra,dec,note", ",")),
        ("cat.cat", lambda path: long_cell(path, "# 1 NUMBER\n# 2 ALPHA_J2000\n# 3 DELTA_J2000\n# 4 NOTE", " ")),
    ],
)
def test_tables_that_grow_when_they_are_read(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 1 << 21
    with pytest.raises(PhotplugError, match=r"its \d+ bytes hold a table of [\d.]+ GB"):
        dp.read_catalog(tmp_path / name)


@pytest.mark.parametrize("suffix", [".h5", ".parquet", ".csv"])
def test_tables_with_a_long_text(suffix: str, tmp_path: Path) -> None:
    """Those of people, with a note and much that is alike, are read as they are."""
    table = Table({"id": np.arange(20_000), "ra": np.full(20_000, 34.4), "dec": np.zeros(20_000)})
    table["note"] = ["; ".join(["a remark of some length"] * 10), *["y"] * 19_999]
    if suffix == ".h5":
        table["note"] = table["note"].astype("S")
        table.write(tmp_path / "cat.h5", path="t", compression=True)
    elif suffix == ".parquet":
        table.write(tmp_path / "cat.parquet")
    else:
        table.write(tmp_path / "cat.csv", format="ascii.csv")
    read = dp.read_catalog(tmp_path / f"cat{suffix}")
    for name in table.colnames:
        assert np.array_equal(read[name].astype(str), table[name].astype(str)), name


LAUGHS = [
    "a: &a [x, x, x, x, x, x, x, x, x, x]",
    *(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in pairwise("abcdefghi")),
]


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".h5", ".parquet"])
@pytest.mark.parametrize("lines", [LAUGHS, ["a: &a [*a]"]])
def test_aliases_of_yaml(suffix: str, lines: list[str], tmp_path: Path) -> None:
    """A few lines that stand for 10^10 values, or for themselves."""
    path = tmp_path / f"cat{suffix}"
    header = ["datatype:", "- {name: ra, datatype: float64}", "meta:", *(f"  {line}" for line in lines)]
    if suffix == ".ecsv":
        path.write_text("\n".join(["# %ECSV 1.0", "# ---", *(f"# {line}" for line in header), "ra", "34.4", ""]))
    elif suffix == ".fits":
        hdu = fits.BinTableHDU(Table({"ra": [34.4]}))
        # As astropy writes it, in shorter pieces: they cut aliases in two.
        for line in ("--BEGIN-ASTROPY-SERIALIZED-COLUMNS--", *header, "--END-ASTROPY-SERIALIZED-COLUMNS--"):
            pieces = [line[i : i + 37] for i in range(0, len(line), 37)]
            for piece in [*(f"{one}\\" for one in pieces[:-1]), pieces[-1]]:
                hdu.header.add_comment(piece)
        hdu.writeto(path)
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["t"] = np.zeros(3, ROW)
            file["t.__table_column_meta__"] = np.array([line.encode() for line in header])
    else:
        parquet.write_table(pa.table({"ra": [34.4]}, metadata={"table_meta_yaml": "\n".join(header)}), path)
    with pytest.raises(PhotplugError, match="by aliases of YAML"):
        dp.read_catalog(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Of a column of bytes, which ECSV cannot hold."""
    parquet.write_table(pa.table({"ra": [34.4], "key": pa.array([b"\xff\x01"])}), tmp_path / "cat.parquet")
    table = dp.read_catalog(tmp_path / "cat.parquet")
    with pytest.raises(PhotplugError, match="cannot hold column key"):
        check_extended(table, tmp_path / "out.ecsv", original=tmp_path / "cat.parquet")


@pytest.mark.parametrize("suffix", [".ecsv", ".fits"])
def test_aliases_that_astropy_writes(suffix: str, tmp_path: Path) -> None:
    both, path = [1, 2, 3], tmp_path / f"cat{suffix}"
    column = Column([34.4], description="what FITS has no card for", meta={"one": both, "other": both})
    table = Table({"ra": column}, meta={"one": both, "other": both} if suffix == ".ecsv" else {})
    table.write(path)
    assert b"*id" in path.read_bytes()
    assert dp.read_catalog(path)["ra"].meta["other"] == both


@pytest.mark.parametrize("suffix", [".fits", ".parquet", ".h5", ".vot", ".ecsv"])
def test_text_of_any_length_in_votables(suffix: str, tmp_path: Path) -> None:
    """As most tools write it: it is text, and every format holds it."""
    fields = '<FIELD name="ra" datatype="double"/><FIELD name="note" datatype="char" arraysize="*"/>'
    rows = "".join(f"<TR><TD>34.4</TD><TD>{text}</TD></TR>" for text in ("", "a remark"))
    table = f"<TABLE>{fields}<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE>"
    (tmp_path / "cat.vot").write_text(f'<?xml version="1.0"?><VOTABLE><RESOURCE>{table}</RESOURCE></VOTABLE>')
    read = dp.read_catalog(tmp_path / "cat.vot")
    assert (read["note"].dtype.kind, read["note"].tolist()) == ("U", ["", "a remark"])
    check_extended(read, tmp_path / f"out{suffix}", original=tmp_path / "cat.vot")
