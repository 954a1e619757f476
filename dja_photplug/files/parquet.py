"""Tables of Parquet files, of astropy and of others, with their nulls."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from astropy.io.misc import yaml
from astropy.table import Column, MaskedColumn, Table
from astropy.table.meta import get_header_from_yaml
from astropy.table.serialize import _construct_mixins_from_columns  # as astropy's own readers do
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.files.fitsbytes import ColumnDescriptions, merge_descriptions
from dja_photplug.readers.kinds import check_aliases, check_held

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["extend_parquet", "need_pyarrow", "read_parquet"]

_DESCRIPTION = b"table_meta_yaml"  # where astropy keeps what Parquet has no place for
_WIDTH = 8  # bytes of a number
_ROWS = 64  # that are looked at together where their sizes are not known before


def need_pyarrow(path: Path) -> None:
    """Refuse a file of Parquet where the library for it is missing.

    Parameters
    ----------
    path : Path

    Raises
    ------
    PhotplugError
        With the extra that installs it.
    """
    if find_spec("pyarrow") is None:
        raise PhotplugError(f"{path}: parquet needs pyarrow; pip install 'dja_photplug[parquet]', or use .fits")


def read_parquet(path: Path) -> Table:
    """Read a table with its nulls, which become masked; astropy's reader makes numbers of them.

    Parameters
    ----------
    path : Path

    Returns
    -------
    `~astropy.table.Table`
        With units, descriptions and metadata where astropy wrote the file. Categories are text; decimals and times with
        a zone too, to all of their digits.

    Raises
    ------
    PhotplugError
        Without pyarrow.
    ValueError
        Where it is far larger than the file.
    """
    need_pyarrow(path)
    arrow = _read_held(path)
    header = _read_description(arrow)
    table = Table(meta=header["meta"])
    for name in arrow.column_names:
        table[name] = _make_column(arrow[name], path)
    for entry in header["datatype"]:
        column = table[str(entry["name"])]
        for attribute in ("description", "format", "unit", "meta"):
            if attribute in entry:
                setattr(column, attribute, entry[attribute])
    return _construct_mixins_from_columns(table)


def _read_held(path: Path) -> pa.Table:
    """Read a file, unless that takes far more memory than its size: values that are alike are written once."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        counts = [group.column(i).num_values for group in groups for i in range(file.metadata.num_columns)]
        check_held(path, _WIDTH * sum(counts))
        fields = list(file.schema_arrow)
        nested = [field.name for field in fields if pa.types.is_nested(field.type)]
        held = 0
        for batch in file.iter_batches(_ROWS, columns=nested) if nested else ():
            held += batch.nbytes
            check_held(path, held)
    texts = [field.name for field in fields if _is_text(field.type)]
    with parquet.ParquetFile(path, read_dictionary=texts) as file:  # as it is written, each text once
        return file.read()


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _check_text(path: Path, values: pa.ChunkedArray) -> None:
    """Refuse text that is far longer in one row than in the others: an array gives that room to all of them."""
    from pyarrow import compute

    lengths = [compute.max(compute.binary_length(chunk.dictionary)).as_py() or 0 for chunk in values.chunks]
    check_held(path, 4 * len(values) * max(lengths, default=0))


def _read_description(arrow: pa.Table) -> ColumnDescriptions:
    """Return what astropy has written of columns; of those of others only the names."""
    described = (arrow.schema.metadata or {}).get(_DESCRIPTION)
    check_aliases(described.decode() if described else "")
    found = get_header_from_yaml(described.decode().split("\n")) if described else {}
    names = [{"name": name} for name in arrow.column_names]
    return cast(ColumnDescriptions, {"datatype": names, "meta": {}} | found)


def extend_parquet(original: Path, table: Table, added: Sequence[str]) -> list[bytes]:
    """Return the bytes of a Parquet file with more columns and metadata; the others are copied as they are.

    Parameters
    ----------
    original : Path
    table : `~astropy.table.Table`
        What was read from it, with new columns, or replaced ones, and new entries of ``meta``.
    added : sequence of str
        Names of those columns.

    Returns
    -------
    list of bytes
        To be written one after the other.

    Raises
    ------
    PhotplugError
        Where the file has other rows than `table`.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(original) as file:
        old = file.read()
    if old.num_rows != len(table):
        raise PhotplugError(f"{original}: has {old.num_rows} rows, the table read from it {len(table)}; read it again")
    description = _read_description(old)
    addition = table[list(added)] if added else Table()  # an empty list would choose rows
    addition.meta = {
        key: value for key, value in table.meta.items() if repr(description["meta"].get(key)) != repr(value)
    }
    with tempfile.TemporaryDirectory() as folder:
        addition.write(Path(folder) / "new.parquet", format="parquet")
        new = parquet.read_table(Path(folder) / "new.parquet")
    merged = merge_descriptions(description, _read_description(new), added)
    extended = old
    for name in new.column_names:
        place = extended.column_names.index(name) if name in extended.column_names else extended.num_columns
        if place < extended.num_columns:
            extended = extended.remove_column(place)
        extended = extended.add_column(place, new.schema.field(name), new[name])
    metadata = (old.schema.metadata or {}) | (new.schema.metadata or {})
    metadata[_DESCRIPTION] = yaml.dump(merged, default_flow_style=None, sort_keys=False).encode()
    stream = pa.BufferOutputStream()
    parquet.write_table(extended.replace_schema_metadata(metadata), stream)
    return [stream.getvalue().to_pybytes()]


def _make_column(values: pa.ChunkedArray, path: Path) -> Column:
    """Return a column of the values, masked where they are null."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_dictionary(kind):
        if _is_text(kind.value_type):
            _check_text(path, values)
        values = values.cast(kind.value_type)
        kind = values.type
    null = np.asarray(values.is_null())
    plain = _to_array(values, null, path)
    return MaskedColumn(plain, mask=null) if null.any() and plain.dtype != object else Column(plain)


def _to_array(values: pa.ChunkedArray, null: NDArray[np.bool_], path: Path) -> NDArray[np.generic]:
    """Return an array of the values, with something in place of nulls."""
    import pyarrow as pa

    kind = values.type
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    dates = pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None)
    if numbers or dates:
        plain = np.zeros(len(values), dtype=kind.to_pandas_dtype() if numbers else f"M8[{_time_unit(kind)}]")
        plain[~null] = values.drop_null().to_numpy().astype(plain.dtype)
        return plain
    if pa.types.is_null(kind):
        return np.zeros(len(values), dtype="U1")
    nested = pa.types.is_nested(kind)
    if (
        pa.types.is_fixed_size_list(kind)
        and not null.any()
        and len(values)
        and not values.combine_chunks().flatten().null_count
    ):
        return np.stack(values.to_numpy())
    if nested:
        return _to_objects(values, path)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    text = (values if binary else values.cast(pa.string())).to_pylist()
    return np.array(
        [cell if cell is not None else b"" if binary else "" for cell in text], dtype="S" if binary else str
    )


def _time_unit(kind: pa.DataType) -> str:
    import pyarrow as pa

    return str(kind.unit) if pa.types.is_timestamp(kind) else "D"


def _to_objects(values: pa.ChunkedArray, path: Path) -> NDArray[np.object_]:
    """Return an array of objects: an array for each list of numbers or text."""
    plain = np.empty(len(values), dtype=object)
    held = 0
    for i, each in enumerate(values):
        value = each.as_py()
        plain[i] = np.array(value) if isinstance(value, list) else value
        held += getattr(plain[i], "nbytes", 0)
        check_held(path, held)
    return plain
