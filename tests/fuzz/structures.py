"""Mutations of files of HDF5 and Parquet by the libraries that write them: what these can say, and nobody expects."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from functools import cache

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

__all__ = ["FOREIGN", "OTHER_FILES", "spoil_hdf5", "spoil_parquet"]

FOREIGN = 77.75
"""A declination that only the other files have."""
OTHER_FILES = ("other.h5", "other.raw")
"""Names of files that a link leads to: of tables, and of bytes."""

NAMES = ("", " ", "ra", "RA", "dec", "id", "x" * 5000, "\u00fc\u2028", "a/b", ".", "..", "__x__", "ra.mask", "1", "\t")
_MIXIN = "meta: !!omap\n- {__serialized_columns__: {ra: {__class__: %s, value: !astropy.table.SerializedColumn %s}}}"
_YAML = (
    "- !!python/object/apply:os.system ['true']",
    "- {name: ra, datatype: float64, unit: !!python/name:os.system ''}",
    "- !astropy.units.Unit {unit: deg}",
    "- {name: nowhere, datatype: float64}",
    "- {name: ra, datatype: complex999, unit: 7, description: [1, 2], format: '%n', meta: 3}",
    _MIXIN % ("os.system", "{name: ra}"),
    _MIXIN % ("astropy.time.core.Time", "{}"),
    "&a [*a]",
    "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]",
    "[" * 3000,
    "datatype: 5",
    "{}",
    "\u0085",
)


def _values(rng: random.Random, count: int) -> NDArray[np.float64]:
    odd = (np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0, 91.0, -90.0, 34.4, 5e-324)
    return np.array([rng.choice(odd) if rng.random() < 0.3 else rng.uniform(-5, 35) for _ in range(count)])


def _count(rng: random.Random) -> int:
    return rng.choice((0, 1, 2, 3, 3, 3, 1000))


# HDF5

_TYPES: tuple[Callable[[], np.dtype], ...] = (
    *(lambda code=code: np.dtype(code) for code in ("f2", ">f8", "f4", "i1", "u8", ">i2", "?", "c8", "c16", "g")),
    *(lambda code=code: np.dtype(code) for code in ("S1", "S5000", "V3", "(3,)f8", "(2,0)f4", "(1,1,1)i4")),
    h5py.string_dtype,
    lambda: h5py.string_dtype("ascii", 7),
    lambda: h5py.vlen_dtype(np.int32),
    lambda: h5py.vlen_dtype(h5py.vlen_dtype(np.float64)),
    lambda: h5py.enum_dtype({"RED": 0, "GREEN": 1}, "i"),
    lambda: h5py.ref_dtype,
    lambda: h5py.regionref_dtype,
    lambda: h5py.opaque_dtype(np.dtype("M8[ns]")),
    lambda: np.dtype([("x", "f8"), ("y", [("z", "i4"), ("w", "S3")])]),
)


def _odd_table(rng: random.Random) -> np.dtype:
    """Return the type of a table with columns that are odd, missing or named oddly."""
    fields: dict[str, np.dtype] = {"id": np.dtype("i8"), "ra": np.dtype("f8"), "dec": np.dtype("f8")}
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.random()
        if kind < 0.6:
            fields[rng.choice([*fields, "new"])] = rng.choice(_TYPES)()
        elif kind < 0.8:
            fields.pop(rng.choice([*fields]))
        else:
            fields[rng.choice(NAMES)] = np.dtype("f8")
    return np.dtype([(name or "f", kind) for name, kind in (fields or {"x": np.dtype("f8")}).items()])


def _replace_table(file: h5py.File, rng: random.Random) -> None:
    """Write another table in its place: other types, names, lengths, storage."""
    kind, shape = _odd_table(rng), rng.choice(((_count(rng),), (2, 3), (), (0, 5), (1, 1, 1)))
    options: dict[str, object] = {}
    if shape and 0 not in shape and rng.random() < 0.5:
        options = {"chunks": shape, "maxshape": (None,) * len(shape)}
        options |= rng.choice(
            ({"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True})
        )
    del file["catalog"]
    table = file.create_dataset("catalog", shape, kind, **options)
    for name in kind.names or ():
        if kind[name].kind == "f" and not kind[name].shape and shape:
            table[name] = _values(rng, int(np.prod(shape))).reshape(shape).astype(kind[name])


def _enlarge(file: h5py.File, rng: random.Random) -> None:
    """Say that there are very many rows, none of which the file holds; or that they are none at all."""
    kind = file["catalog"].dtype
    del file["catalog"]
    if rng.random() < 0.2:
        file.create_dataset("catalog", data=h5py.Empty(kind))
        return
    rows = rng.choice((10**7, 10**8, 10**9, 2**40, 2**59))
    filters = {"compression": "gzip"} if rng.random() < 0.5 else {}
    wide = np.dtype([*((name, kind[name]) for name in kind.names), ("text", f"S{rng.choice((1, 10**4, 10**7))}")])
    file.create_dataset("catalog", (rows,), wide if rng.random() < 0.4 else kind, chunks=(1000,), **filters)


def _link(file: h5py.File, rng: random.Random) -> None:
    """Let the table, a group, or what astropy has written of columns be elsewhere: in this file or another one."""
    other, raw = OTHER_FILES
    target = rng.choice(("catalog", "catalog.__table_column_meta__", "more"))
    kind = file["catalog"].dtype
    if target in file:
        del file[target]
    choice = rng.randrange(6)
    if choice == 0:
        file[target] = h5py.ExternalLink(rng.choice((other, "/dev/zero", "nowhere.h5")), target)
    elif choice == 1:
        file[target] = h5py.SoftLink(rng.choice((f"/{target}", "/nowhere", "/loop")))
    elif choice == 2:
        file.create_dataset(target, (3,), kind, external=[(raw, 0, h5py.h5f.UNLIMITED)])
    elif choice == 3:
        layout = h5py.VirtualLayout((3,), kind)
        layout[:] = h5py.VirtualSource(other, "catalog", (3,), kind)
        file.create_virtual_dataset(target, layout)
    elif choice == 4:
        group = file.require_group("group")
        group["again"] = file["/"]  # a group within itself
    else:
        place = file
        for _ in range(rng.choice((5, 300))):
            place = place.create_group("g")
        place.create_dataset("t", data=np.zeros(2, [("ra", "f8"), ("dec", "f8")]))


def _describe(file: h5py.File, rng: random.Random) -> None:
    """Say other things of the columns, or in attributes."""
    name = "catalog.__table_column_meta__"
    if rng.random() < 0.7:
        if name in file:
            del file[name]
        lines = rng.choice(_YAML).split("\n")
        if not lines[0].startswith(("meta", "datatype", "{", "[")) and rng.random() < 0.7:
            lines = ["datatype:", *lines]
        odd = (5, np.arange(3.0), np.array([b"\xff\xfe"]), h5py.Empty("S3"), [])
        data = np.array([line.encode() for line in lines]) if rng.random() < 0.8 else rng.choice(odd)
        file.create_dataset(name, data=data)
    else:
        place = rng.choice((file, file["catalog"]))
        value = rng.choice((file.ref, "x" * 60000, b"\xff", np.arange(9), np.nan, h5py.Empty("f"), True, "[1", "{}"))
        place.attrs[rng.choice(("ZP", "SCHEMA", "CLASS", "__attributes__", "x" * 300))] = value


def spoil_hdf5(content: bytes, rng: random.Random) -> bytes:
    """Return a table in HDF5 that is odd.

    Parameters
    ----------
    content : bytes
        As the package writes one.
    rng : random.Random

    Returns
    -------
    bytes
    """
    while True:
        stream = io.BytesIO(content)
        try:
            with h5py.File(stream, "r+") as file:
                rng.choice((_replace_table, _replace_table, _enlarge, _link, _describe))(file, rng)
                if rng.random() < 0.3:
                    _describe(file, rng)
        except (TypeError, ValueError, KeyError, OSError, RuntimeError):  # what the library does not write
            continue
        return stream.getvalue()


# Parquet

_ARROW_TYPES = (
    *(pa.float16(), pa.float32(), pa.int8(), pa.uint64(), pa.bool_(), pa.null(), pa.string(), pa.large_string()),
    *(pa.binary(), pa.binary(3), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.duration("us")),
    *(pa.timestamp("s"), pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("us", "+77:77"), pa.decimal128(38, 37)),
    *(pa.decimal256(76, 0), pa.list_(pa.float64()), pa.list_(pa.float64(), 3), pa.list_(pa.list_(pa.int8()))),
    *(pa.struct([("a", pa.int8()), ("b", pa.string())]), pa.map_(pa.string(), pa.int8()), pa.large_binary()),
    *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.float64()), pa.string_view()),
    pa.struct([]),
)


def _odd_array(kind: pa.DataType, count: int, rng: random.Random) -> pa.Array:
    """Return values of a type; only nulls where there are no others at hand."""
    samples: dict[str, list[object]] = {
        "list": [[1.0, None], [], [2.0] * 5], "fixed": [[1.0, 2.0, 3.0]], "bool": [True], "string": ["34", "\u2028"],
        "binary": [b"\xff\0"], "struct": [{"a": 1, "b": "x"}, {}], "map": [[("x", 1)], []], "int": [0, 1, 127],
        "float": [np.nan, 34.4, np.inf], "double": [34.4, -np.inf], "date": [0, 10**6],
        "timestamp": [0, 2**62, -(2**62)], "duration": [2**62], "time": [0, 1],
    }  # fmt: skip
    found = next((values for name, values in samples.items() if str(kind).startswith((name, f"u{name}"))), [None])
    values = [None if rng.random() < 0.3 else rng.choice(found) for _ in range(count)]
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.nulls(count, kind)


@cache
def _long() -> bytes:
    """Return a small file of 200 million rows."""
    stream = io.BytesIO()
    zeros = pa.table({name: np.zeros(10**6) for name in ("id", "ra", "dec")})
    with parquet.ParquetWriter(stream, zeros.schema, compression="zstd") as writer:
        for _ in range(200):
            writer.write_table(zeros)
    return stream.getvalue()


def spoil_parquet(content: bytes, rng: random.Random) -> bytes:
    """Return a table in Parquet that is odd.

    Parameters
    ----------
    content : bytes
        As the package writes one.
    rng : random.Random

    Returns
    -------
    bytes
    """
    if rng.random() < 0.02:
        return _long()
    table = parquet.read_table(io.BytesIO(content))
    count = _count(rng) if rng.random() < 0.3 else table.num_rows
    if count != table.num_rows:
        columns = {name: pa.array(_values(rng, count)) for name in table.column_names}
        table = pa.table(columns, metadata=table.schema.metadata)
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind, place = rng.random(), rng.randrange(table.num_columns) if table.num_columns else 0
        metadata = dict(table.schema.metadata or {})
        if kind < 0.5:
            name = rng.choice([*table.column_names, "new", *NAMES])  # at times the second of a name
            odd = _odd_array(rng.choice(_ARROW_TYPES), count, rng)
            if name in table.column_names and rng.random() < 0.8:
                table = table.set_column(table.column_names.index(name), name, odd)
            else:
                table = table.append_column(name, odd)
        elif kind < 0.65 and table.num_columns:
            table = table.remove_column(place)
        elif kind < 0.9:
            key = rng.choice((b"table_meta_yaml", b"table_meta_yaml", b"pandas", b"ARROW:schema", b"x"))
            metadata[key] = rng.choice((*(text.encode() for text in _YAML), b"\xff\xfe", b"", b'{"columns": 5}', b"{}"))
            table = table.replace_schema_metadata(metadata)
        else:
            table = table.replace_schema_metadata(None)
    compression = rng.choice(("none", "snappy", "gzip", "zstd", "brotli", "lz4"))
    options = {"compression": compression, "use_dictionary": rng.random() < 0.5}
    stream = io.BytesIO()
    try:
        parquet.write_table(table, stream, row_group_size=rng.choice((1, 2, 1000)), **options)
    except (pa.ArrowException, TypeError, ValueError):  # what Parquet has no place for
        return content
    return stream.getvalue()
