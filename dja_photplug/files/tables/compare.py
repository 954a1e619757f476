"""What the format of an output would change of a catalogue, found before the work."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
from astropy import units as u
from astropy.coordinates import BaseRepresentationOrDifferential, SkyCoord
from astropy.table import Column, Table
from astropy.table.column import BaseColumn
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.tables.columns import check_names, name_some
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.files.tables.write import keeps_bytes, write_table

__all__ = ["check_extended"]


def check_extended(
    table: Table, path: str | Path, *, new: Mapping[str, bool] | None = None, original: str | Path | None = None
) -> None:
    """Refuse, before the work, a catalogue that the format of an output would not hold as it is.

    Unless the original's bytes are kept, the catalogue is written to a temporary file and read again, and each column
    compared: values, mask, type, unit and description.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What was read from `original`.
    path : str or Path
        Of the output.
    new : mapping of str to bool, optional
        Names of the columns that will be added, and whether each row of them holds an array.
    original : str or Path, optional
        The file that was read.

    Raises
    ------
    PhotplugError
        With the first column, or the number of them, that the format does not hold.
    """
    path, new = Path(path), new or {}
    suffix = path.suffix.lower()
    arrays = [name for name, is_array in new.items() if is_array]
    if suffix == ".csv" and arrays:
        raise PhotplugError(f"{path}: .csv cannot hold the arrays of column {arrays[0]}; write .ecsv, or leave it out")
    check_names(path, list(dict.fromkeys([*table.colnames, *new])))
    if not keeps_bytes(path, original):
        _rehearse(table, path)


def _rehearse(table: Table, path: Path) -> None:
    """Write a table to a temporary file and read it; refuse the first column that is not as it was."""
    suffix = path.suffix.lower()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"copy{suffix}"
        try:
            write_table(table, copy)
            after = read_catalog(copy)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # each of six writers has its own
            _find_culprit(table, path, error)
    for name in table.colnames:
        if name not in after.colnames:
            raise _refusal(path, name, "it is lost")
        reason = _find_change(table[name], after[name], suffix)
        if reason:
            raise _refusal(path, name, reason)
    if suffix != ".csv":  # which has none, as is told when it is written
        _compare_metadata(table, after, path)


def _compare_metadata(before: Table, after: Table, path: Path) -> None:
    """Warn of metadata that a file would not give back: FITS holds numbers and text, by keys without case."""
    there = {key.upper(): value for key, value in after.meta.items()}
    lost = [key for key, value in before.meta.items() if repr(there.get(key.upper())) != repr(value)]
    if lost:
        warnings.warn(
            f"{path}: the metadata {name_some(lost, 4)} will be lost or changed; write .ecsv to keep them",
            PhotplugWarning,
            stacklevel=4,
        )


def _refusal(path: Path, name: str, reason: str) -> PhotplugError:
    other = ".parquet" if path.suffix == ".ecsv" else ".ecsv"
    return PhotplugError(
        f"{path}: {path.suffix.lower()} cannot hold column {name} unchanged ({reason}); write {other}, or rename or "
        "remove the column"
    )


def _find_culprit(table: Table, path: Path, error: Exception) -> NoReturn:
    """Refuse the first column that alone cannot be written, after the whole table could not."""
    for name in table.colnames:
        alone = table[[name]]
        alone.meta = {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                write_table(alone, Path(folder) / f"copy{path.suffix.lower()}")
                read_catalog(Path(folder) / f"copy{path.suffix.lower()}")
            except Exception as reason:  # of five writers and readers
                raise _refusal(path, name, " ".join(str(reason).split())) from None
    raise PhotplugError(
        f"{path}: {path.suffix.lower()} cannot hold this catalogue ({' '.join(str(error).split())}); write .ecsv"
    ) from error


def _find_change(before: Column, after: Column, suffix: str) -> str:
    """Return how a column has changed in a file; empty where it has not."""
    if isinstance(before, BaseColumn | u.Quantity) != isinstance(after, BaseColumn | u.Quantity):
        return f"it is no longer {type(before).__name__}"
    if not isinstance(before, BaseColumn | u.Quantity):
        return "" if type(before) is type(after) and _same_values(before, after) else "its values differ"
    if suffix != ".csv":
        if _spell(before.info.unit) != _spell(after.info.unit):
            return f"its unit {before.info.unit} would be {after.info.unit}"
        if (before.info.description or "") != (after.info.description or ""):
            return "its description would differ"
    ours, theirs = (np.ma.asarray(getattr(each, "value", each)) for each in (before, after))
    return _find_changed_values(ours, theirs, suffix)


def _same_values(before: object, after: object) -> bool:
    """Return whether columns of objects of astropy, as times or coordinates, are the same; NaN is itself."""
    if not (isinstance(before, SkyCoord) and isinstance(after, SkyCoord)):
        return bool(np.all(np.asarray(before == after)))
    ours, theirs = ([each.data, *each.data.differentials.values()] for each in (before, after))
    return before.is_equivalent_frame(after) and len(ours) == len(theirs) and all(map(_same_vectors, ours, theirs))


def _same_vectors(before: BaseRepresentationOrDifferential, after: BaseRepresentationOrDifferential) -> bool:
    """Return whether places or velocities are the same, but for the last digits.

    Velocities go to a file by way of Cartesian ones.
    """
    if type(before) is not type(after):
        return False
    pairs = [(getattr(before, name), getattr(after, name)) for name in before.components]
    planes = [(_fill(ours, ours.unit), _fill(theirs, ours.unit)) for ours, theirs in pairs]
    most = max((float(np.max(np.abs(ours), where=np.isfinite(ours), initial=0)) for ours, _ in planes), default=0.0)
    return all(np.allclose(ours, theirs, rtol=1e-14, atol=1e-14 * most, equal_nan=True) for ours, theirs in planes)


def _fill(values: u.Quantity, unit: u.UnitBase) -> NDArray[np.float64]:
    """Return plain numbers; a masked one is infinite, which no place on the sky is."""
    mask, plain = getattr(values, "mask", False), getattr(values, "unmasked", values)
    return np.where(mask, np.inf, plain.to_value(unit))


def _spell(unit: u.UnitBase | None) -> str:
    """Return a unit as text; FITS keeps what it does not know as text too."""
    return "" if unit is None else str(unit if isinstance(unit, u.UnrecognizedUnit) else u.Unit(unit))


def _find_changed_values(before: np.ma.MaskedArray, after: np.ma.MaskedArray, suffix: str) -> str:
    if len(before) != len(after):
        return f"its {len(before)} rows would be {len(after)}, as blank lines are none"
    if before.shape != after.shape:
        return f"its rows of shape {before.shape[1:]} would be of {after.shape[1:]}"
    if suffix == ".vot" and before.dtype.kind == "f":  # in which NaN is what is missing
        before, after = np.ma.masked_invalid(before), np.ma.masked_invalid(after)
    if not np.array_equal(np.ma.getmaskarray(before), np.ma.getmaskarray(after)):
        return "its missing values would differ"
    same_type = _take_type(before, after, suffix)
    if same_type is None:
        return f"its {before.dtype} would be {after.dtype}"
    there = ~np.ma.getmaskarray(before)
    ours, theirs = np.asarray(before.data)[there], np.asarray(same_type.data)[there]
    if before.dtype.kind == "O":
        return "" if all(map(_same_object, ours, theirs)) else "its values would differ"
    if before.dtype.kind in "SU":
        ours, theirs = _decode(ours), _decode(theirs)
    same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
    if same.all():
        return ""
    wrong = np.flatnonzero(~same)[0]
    return f"{ours.ravel()[wrong].item()!r} would be {theirs.ravel()[wrong].item()!r}"


def _take_type(before: np.ma.MaskedArray, after: np.ma.MaskedArray, suffix: str) -> np.ma.MaskedArray | None:
    """Return the values that were read in the type of those that were written; None where theirs is another."""
    text = before.dtype.kind in "SU"
    if suffix == ".csv" and before.dtype.kind != "O":  # CSV holds no types: the same text makes the same value
        try:
            plain = np.asarray(after.data).astype(str if text else before.dtype)
        except (ValueError, TypeError):
            return None
        return np.ma.MaskedArray(plain, mask=np.ma.getmaskarray(after))
    if text:
        return after if after.dtype.kind in "SU" else None
    return after if before.dtype.newbyteorder("=") == after.dtype.newbyteorder("=") else None


def _decode(cells: NDArray[np.generic]) -> NDArray[np.str_]:
    """Return text, with bytes that are none kept apart."""
    return (
        np.char.decode(cells.astype(bytes), "utf-8", "surrogateescape")
        if cells.dtype.kind == "S"
        else cells.astype(str)
    )


def _same_object(one: object, two: object) -> bool:
    equal_nan = isinstance(one, np.ndarray) and one.dtype.kind in "fc"
    return bool(np.array_equal(np.asarray(one), np.asarray(two), equal_nan=equal_nan))
