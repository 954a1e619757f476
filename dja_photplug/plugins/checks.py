"""What is checked of what plugins give: type, length, shape, units, finite values, files that they say they wrote."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from astropy.nddata import NDData
    from astropy.table import Table
    from numpy.typing import NDArray

    from dja_photplug.calibration.curve import NoiseCalibration
    from dja_photplug.files.names import Source
    from dja_photplug.light.mesh import Background
    from dja_photplug.sources.detection import Detection

__all__ = ["find_misfit", "fingerprint", "needs_plane"]

Arguments = Mapping[str, Any]
"""Of a hook, by name: each has a type of its own."""


def fingerprint(value: object) -> object:
    """Return what changes where an image or a table is changed; None for all else.

    Parameters
    ----------
    value : object
        An argument of a hook.

    Returns
    -------
    object
        To be compared with another.
    """
    # Whoever holds an image or a table has imported one of these; the help of the command line does without.
    if sys.modules.keys().isdisjoint(("astropy.nddata", "astropy.table")):
        return None
    from astropy.nddata import NDData
    from astropy.table import Table

    if isinstance(value, NDData):
        planes = (value.data, getattr(value.uncertainty, "array", None), value.mask)
        return [_sum_array(plane) for plane in (*planes, getattr(value, "background_weight", None))]
    if isinstance(value, Table):
        return [(name, str(getattr(value[name], "unit", "")), _sum_array(value[name])) for name in value.colnames]
    return None


def _sum_array(values: object) -> object:
    import numpy as np

    if values is None:
        return None
    plain = np.asarray(getattr(values, "value", values))
    if plain.dtype.hasobject:
        return repr(plain.tolist())
    return plain.shape, zlib.adler32(np.ascontiguousarray(plain).view(np.uint8).data)


def find_misfit(hook: str, result: object, arguments: Arguments) -> str | None:
    """Return what is wrong with a result of the right type: what was found, what is needed.

    Parameters
    ----------
    hook : str
    result : object
    arguments : mapping
        Of the hook.

    Returns
    -------
    str or None
        None where all is well.
    """
    check = _CHECKS.get(hook)
    return None if check is None else check(result, arguments)


def needs_plane(name: str, plane: object, shape: tuple[int, ...], *, finite: bool = False) -> str | None:
    """Return what is wrong with a plane of an image.

    Parameters
    ----------
    name : str
        What it is.
    plane : object
    shape : tuple of int
        That it should have.
    finite : bool, optional
        Whether all of it should be finite.

    Returns
    -------
    str or None
        None where all is well.
    """
    import numpy as np

    if (unit := getattr(plane, "unit", None)) is not None:
        return f"gave a {name} in {unit or 'a unit of its own'} where plain numbers in the image's unit are needed"
    if masked := np.count_nonzero(
        np.ma.getmaskarray(np.ma.asarray(plane))
    ):  # of which arrays would keep what is under the mask
        return f"gave a {name} with {masked} masked values where plain numbers are needed"
    found: NDArray[np.generic] = np.asarray(plane)
    if found.shape != tuple(shape):
        return f"gave a {name} of shape {found.shape} where {tuple(shape)} is needed"
    if found.dtype.kind not in "fiub":
        return f"gave a {name} of {found.dtype} where numbers are needed"
    if finite and not np.isfinite(found).all():
        return f"gave a {name} with {np.count_nonzero(~np.isfinite(found))} values that are not finite"
    return None


def _check_find(result: Source, arguments: Arguments) -> str | None:
    if not (isinstance(result.name, str) and result.name and isinstance(result.band, str)):
        return f"gave a source of name {result.name!r} and band {result.band!r} where texts are needed"
    if not re.fullmatch("[a-z0-9_]*", result.band):
        return f"gave a source of band {result.band!r}; bands have lower-case letters, digits and _"
    if result.log is not None and not (isinstance(result.log, Path) and result.log.is_file()):
        return f"gave the log {result.log!r}, which is not the path of a file"
    return None


def _check_load(result: NDData, arguments: Arguments) -> str | None:
    import numpy as np

    data = np.asarray(result.data)
    if data.ndim != 2 or not data.size or data.dtype.kind not in "fiu":
        return f"gave an image of {data.dtype} and shape {data.shape} where numbers of shape (ny, nx) are needed"
    error = getattr(result.uncertainty, "array", None)
    if error is None:
        return "gave an image without an uncertainty, which holds all its noise"
    values = np.asarray(error)
    fault = needs_plane("uncertainty", values, data.shape)
    if fault is None and np.any(values < 0):
        fault = f"gave an uncertainty with {np.count_nonzero(values < 0)} negative values"
    if fault is None and result.mask is not None:
        fault = needs_plane("mask", result.mask, data.shape)
    return fault


def _check_variance(result: object, arguments: Arguments) -> str | None:
    if not callable(result):
        return f"gave a {type(result).__name__} that cannot be called with science, weight and rows"
    if not isinstance(getattr(result, "provenance", None), Mapping):
        return f"gave a {type(result).__name__} without provenance, a mapping of cards"
    return None


def _check_calibrate(result: NoiseCalibration, arguments: Arguments) -> str | None:
    import numpy as np

    factor = np.asarray(result.factor)
    bad = np.count_nonzero(~(np.isfinite(factor) & (factor > 0)))
    told = "that are not positive numbers; give NoiseCalibration.unknown(why) where it is not known"
    return f"gave an a(r) with {bad} of {factor.size} values {told}" if bad else None


def _check_background(result: Background, arguments: Arguments) -> str | None:
    return needs_plane("level", result.level, arguments["image"].data.shape, finite=True)


def _check_detect(result: Detection, arguments: Arguments) -> str | None:
    import numpy as np

    segments = np.asarray(result.segmentation)
    fault = needs_plane("segmentation", segments, arguments["image"].data.shape)
    if fault is None and segments.dtype.kind not in "iu":
        fault = f"gave a segmentation of {segments.dtype} where whole numbers are needed"
    fault = fault or _check_sources(result)
    if fault is None:
        ids = np.asarray(result.sources["id"])
        if not np.array_equal(ids, np.arange(1, len(ids) + 1)):
            fault = f"gave {len(ids)} sources whose ids are not 1 to {len(ids)}"
        elif segments.size and (segments.min() < 0 or segments.max() > len(ids)):
            fault = f"gave segments up to {segments.max()} of {len(ids)} sources"
    for name in ("ra", "dec", "x", "y") if fault is None else ():
        fault = fault or _needs_finite(result.sources, name)
    return fault


def _check_sources(result: Detection) -> str | None:
    """Find what the table of sources lacks, or holds that is none of it, and a WCS that is none."""
    import numpy as np
    from astropy.table import QTable
    from astropy.wcs import WCS

    if not isinstance(result.wcs, WCS):
        return f"gave a {type(result.wcs).__name__} as the WCS where that of the image is needed"
    if not isinstance(result.sources, QTable):
        return f"gave a {type(result.sources).__name__} of sources where a QTable is needed"
    needed = ("id", "ra", "dec", "x", "y", "a", "b", "theta", "npix", "flag")
    if missing := [name for name in needed if name not in result.sources.colnames]:
        return f"gave sources without the columns {', '.join(missing)}"
    known = (*needed, "snr_detect", "kron_radius")
    if others := [name for name in result.sources.colnames if name not in known]:
        return f"gave sources with the column {others[0]}; add it in photplug_columns"
    fault = _check_units(result.sources)
    for name in ("a", "b") if fault is None else ():
        values = np.asarray(result.sources[name].value)
        if fault is None and np.any(values < 0):
            fault = f"gave a column {name} with {np.count_nonzero(values < 0)} values below 0"
    return fault


def _needs_finite(table: Table, name: str) -> str | None:
    import numpy as np

    values = np.asarray(getattr(table[name], "value", table[name]), dtype=float)
    bad = np.count_nonzero(~np.isfinite(values))
    return f"gave a column {name} with {bad} values that are not finite" if bad else None


def _check_rows(result: Table, rows: int, what: str) -> str | None:
    return f"gave {len(result)} rows for {rows} {what}" if len(result) != rows else None


def _check_measure(result: Table, arguments: Arguments) -> str | None:
    import numpy as np

    sources = arguments["detection"].sources
    fault = _check_rows(result, len(sources), "sources")
    if fault is None and ("id" not in result.colnames or not np.array_equal(result["id"], sources["id"])):
        fault = "gave a table whose column id is not that of the sources"
    if fault is None and (missing := [name for name in ("ra", "dec") if name not in result.colnames]):
        fault = f"gave a table without the columns {', '.join(missing)}"
    return fault or _check_columns(result, sources) or _check_units(result)


def _check_units(table: Table) -> str | None:
    """Find columns of the catalogue in units that are not theirs, what is no number, and errors below 0 or infinite."""
    import numpy as np
    from astropy import units as u

    from dja_photplug.catalog.schema import describe_columns

    known = {spec.name: spec for spec in describe_columns(100, epochs=True)}
    for name in table.colnames:
        unit, spec = getattr(table[name], "unit", None), known.get(name)
        if spec is not None and spec.unit:
            # A magnitude is equivalent to a flux, by its logarithm, and is none.
            log = isinstance(unit, u.function.FunctionUnitBase) and spec.unit != "mag"
            if unit is None or log or not u.Unit(unit).is_equivalent(spec.unit):
                return f"gave the column {name} in {unit or 'no unit'} where {spec.unit} is needed"
        values = np.asarray(getattr(table[name], "value", table[name]))
        if spec is not None and values.dtype.kind not in ("iub" if spec.dtype.startswith("i") else "fiu"):
            what = "whole numbers" if spec.dtype.startswith("i") else "numbers"
            return f"gave the column {name} of {values.dtype} where {what} are needed"
        if spec is not None and values.dtype.kind == "f" and np.isinf(values).any():
            return f"gave infinite values in the column {name}; use NaN for what was not measured"
        if spec is not None and name.startswith("fluxerr") and np.any(values < 0):
            return f"gave negative errors in the column {name}"
    return None


def _check_columns(columns: Mapping[str, Any] | Table, catalog: Table) -> str | None:
    """Find columns that are none of a catalogue: names, lengths, what they hold."""

    names = list(columns.keys() if isinstance(columns, Mapping) else columns.colnames)
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            return f"gave a column named {name!r}; names have letters, digits and _"
        values = columns[name]
        plain = getattr(values, "value", values)
        if not hasattr(values, "__len__") or isinstance(values, str):
            return f"gave the column {name} as a {type(values).__name__} where an array is needed"
        if len(values) != len(catalog):
            return f"gave the column {name} with {len(values)} rows for {len(catalog)} sources"
        if _find_kind(plain) == "O":
            return f"gave the column {name} of objects, which tables cannot hold"
        if names.count(name) < sum(str(other).lower() == name.lower() for other in names):
            return f"gave columns that differ from {name} only in case, which FITS does not distinguish"
    return None


def _find_kind(values: object) -> str:
    """Return the kind of an array's type, that of objects also for lists of several lengths."""
    import numpy as np

    try:
        return np.asarray(values).dtype.kind
    except ValueError:
        return "O"


def _check_added(result: Mapping[str, Any], arguments: Arguments) -> str | None:
    there = {name.lower() for name in arguments["catalog"].colnames}  # FITS does not tell case apart
    taken = [name for name in result if str(name).lower() in there]
    if taken:
        return f"gave the column {taken[0]}, which the catalogue already has; rename it"
    return _check_columns(result, arguments["catalog"])


def _check_epochs(result: Table, arguments: Arguments) -> str | None:
    from dja_photplug.catalog.schema import epoch_columns

    options = arguments["options"]
    needed = [spec.name for spec in epoch_columns(options.epochs.groups)]
    if missing := [name for name in needed if name not in result.colnames]:
        return f"gave a table without the columns {', '.join(missing)}"
    if others := [name for name in result.colnames if name not in needed]:
        return f"gave the column {others[0]}, which is not a column of epochs; add it in photplug_columns"
    return _check_rows(result, arguments["coordinates"].size, "positions") or _check_units(result)


def _check_written(result: Path, arguments: Arguments) -> str | None:
    return None if result.is_file() else f"reported the file {result.name}, which does not exist"


def _check_files(result: list[Path], arguments: Arguments) -> str | None:
    if odd := [path for path in result if not isinstance(path, Path)]:
        return f"gave a {type(odd[0]).__name__} where paths of files are needed"
    folder = Path(arguments["options"].directory)
    if elsewhere := [path for path in result if folder not in path.parents]:
        return f"wrote {elsewhere[0]}, which is outside the folder that it was given"
    missing = [path.name for path in result if not path.is_file()]
    return f"reported the file {missing[0]}, which does not exist" if missing else None


_CHECKS: dict[str, Callable[[Any, Arguments], str | None]] = {
    "photplug_find": _check_find,
    "photplug_load": _check_load,
    "photplug_variance": _check_variance,
    "photplug_background": _check_background,
    "photplug_calibrate": _check_calibrate,
    "photplug_detect": _check_detect,
    "photplug_measure": _check_measure,
    "photplug_epochs": _check_epochs,
    "photplug_galfit": _check_files,
    "photplug_write": _check_written,
    "photplug_columns": _check_added,
}
