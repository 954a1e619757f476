"""Reads the WCS log of a mosaic, a DJA ``{root}-{filter}_wcs.csv``: its table and the geometry of its exposures."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from astropy import units as u
from astropy.table import QTable
from astropy.time import Time

from dja_photplug.epochs.footprints import Array, Footprints
from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import list_near
from dja_photplug.readers.kinds import refuse_pipe
from dja_photplug.remote.paths import as_path

__all__ = ["read_log", "split_name"]

_REQUIRED = ("file", "exptime", "crpix1", "crpix2", "crval1", "crval2", "naxis1", "naxis2")
# What no detector or exposure exceeds: an absurd number in one row would make all of the geometry so.
_LIMITS = {
    **{"naxis1": (1, 1e5), "naxis2": (1, 1e5), "crpix1": (-1e6, 1e6), "crpix2": (-1e6, 1e6)},
    **{"crval1": (-360, 360), "crval2": (-90, 90), "exptime": (-np.inf, 1e7)},
}
_DATES = (40000, 100000)  # MJD: HST was launched on 48005
_SCALES = (1e-8, 0.1)  # deg
_MATRIX = ("1_1", "1_2", "2_1", "2_2")
_SIP_COLUMN = re.compile(r"([ab])_(\d)_(\d)")
_JWST_FILE = re.compile(r"(jw(\d{5})(\d{3})\d{3})_[^_]+_([^_]+)_([^_.]+)")
_HST_FILE = re.compile(r"([ijnou]([a-z0-9]{3})([a-z0-9]{2}))([a-z0-9]{2})[a-z0-9]_([a-z0-9]+)")
_HST_DETECTORS = {"j_flc": "WFC", "i_flc": "UVIS"}  # the only two with files corrected for charge transfer
_MODULE = re.compile(r"NRC([AB])")


class ExposureName(NamedTuple):
    """What the name of an exposure's file tells; empty where it does not.

    Attributes
    ----------
    telescope, program, observation, visit, exposure, detector, module : str
        As the columns of `ExposureLog.table`.
    """

    telescope: str = ""
    program: str = ""
    observation: str = ""
    visit: str = ""
    exposure: str = ""
    detector: str = ""
    module: str = ""


def read_log(name: str) -> tuple[QTable, Footprints, Array, int]:
    """Read a WCS log.

    Parameters
    ----------
    name : str
        Path of the CSV file.

    Returns
    -------
    table : `~astropy.table.QTable`
        One row for each of n distinct exposures; see `ExposureLog`.
    geometry : Footprints
    vectors : ndarray, shape (n, 3)
        ``obsgeo`` [m], NaN where the log has none.
    duplicates : int
        Rows of the file that repeated another.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.read_exposure_log`.
    """
    cells = _read_cells(name)
    crval, crpix, naxis = (
        np.stack([cells.require(f"{stem}{axis}") for axis in (1, 2)]) for stem in ("crval", "crpix", "naxis")
    )
    _check_projection(cells)
    gnomonic = _build_gnomonic(crval, _read_matrix(cells))
    geometry = Footprints(gnomonic=gnomonic, sip=_read_sip(cells), crpix=crpix, naxis=naxis)
    vectors = np.stack([cells.numbers(f"obsgeo-{axis}") for axis in "xyz"], axis=-1)
    return _build_table(cells), geometry, vectors, cells.duplicates


def split_name(file: str) -> ExposureName:
    """Return what an exposure's file name tells.

    Parameters
    ----------
    file : str
        Of JWST or HST, with or without a folder.

    Returns
    -------
    ExposureName
        For another name only ``visit`` is known, as its stem.

    Examples
    --------
    >>> split_name("jw01837001001_04201_00001_nrcalong_rate.fits")[1:]
    ('1837', '001', 'jw01837001001', '00001', 'NRCALONG', 'A')
    >>> split_name("jbhm51d3q_flc.fits")[1:]
    ('bhm', '51', 'jbhm51', 'd3', 'WFC', '')
    """
    stem = Path(file).name.lower()
    if match := _JWST_FILE.match(stem):
        visit, program, observation, exposure, detector = match.groups()
        module = _MODULE.match(detector.upper())
        program = f"{int(program)}"
        return ExposureName(
            "JWST", program, observation, visit, exposure, detector.upper(), module[1] if module else ""
        )
    if match := _HST_FILE.match(stem):
        visit, program, observation, exposure, kind = match.groups()
        detector = _HST_DETECTORS.get(f"{stem[0]}_{kind}", "")
        return ExposureName("HST", program, observation, visit, exposure, detector)
    return ExposureName(visit=stem.partition(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """The text of a log: by lower-case column name, one cell per distinct exposure."""

    name: str
    columns: Mapping[str, Sequence[str]]
    numbers_in_file: Sequence[int]
    duplicates: int

    def refuse(self, row: int, problem: str) -> NoReturn:
        where = f"row {self.numbers_in_file[row]} ({self.columns['file'][row]})"
        raise PhotplugError(f"{self.name}: {where} of the WCS log: {problem}; correct or remove this row")

    def numbers(self, column: str, default: float = np.nan) -> Array:
        """Return a column as numbers: NaN for an empty cell, `default` where the log has no such column."""
        values = np.full(len(self.numbers_in_file), default, float)
        for row, cell in enumerate(self.columns.get(column, ())):
            try:
                values[row] = float(cell or "nan")
            except ValueError:
                self.refuse(row, f"{column} is {cell!r}, not a number")
            # Tables write nan where they have nothing.
            if np.isinf(values[row]):
                self.refuse(row, f"{column} is {cell!r}, not a finite number")
        return values

    def numbers_within(self, column: str, low: float, high: float, default: float = np.nan) -> Array:
        """Return a column as numbers, all of which are between two, where they are given."""
        values = self.numbers(column, default)
        for row in np.flatnonzero((values < low) | (values > high)).tolist():
            self.refuse(row, f"{column} is {values[row]:g}, outside {low:g} to {high:g}")
        return values

    def require(self, column: str, *, positive: bool = False) -> Array:
        """Return a column that needs a number in every row."""
        values = self.numbers_within(column, *_LIMITS.get(column, (-np.inf, np.inf)))
        for row in np.flatnonzero(~np.isfinite(values)).tolist():
            self.refuse(row, f"{column} has no value")
        for row in np.flatnonzero(positive & (values <= 0)).tolist():
            self.refuse(row, f"{column} is {values[row]:g}, not a positive number")
        return values

    def times(self, part: str) -> Time:
        """Return the begin, middle or end (beg, avg, end) of the exposures, UTC; masked where the log has none."""
        mjd = self.numbers(f"mjd-{part}")
        for row in np.flatnonzero(mjd <= 0).tolist():
            self.refuse(row, f"mjd-{part} is {mjd[row]:g}, not a date of JWST or HST")
        for row, cell in enumerate(self.columns.get(f"date-{part}", ())):
            if cell and np.isnan(mjd[row]):
                try:
                    mjd[row] = Time(cell, scale="utc").mjd
                except ValueError:
                    self.refuse(row, f"date-{part} is {cell!r}, not a date")
        for row in np.flatnonzero((mjd < _DATES[0]) | (mjd > _DATES[1])).tolist():
            self.refuse(row, f"mjd-{part} is {mjd[row]:g}, not a date of JWST or HST")
        known = np.isfinite(mjd)
        return Time(mjd if known.all() else np.ma.array(mjd, mask=~known), format="mjd", scale="utc")


def _read_cells(name: str) -> _Cells:
    refuse_pipe(Path(name))
    advice = "give a DJA '{root}-{filter}_wcs.csv', or download it again"
    path = as_path(name)
    if not path.exists():
        raise PhotplugError(f"{name}: cannot read the WCS log (No such file); {list_near(path)}")
    try:
        lines = [row for row in csv.reader(StringIO(path.read_text(encoding="utf-8-sig"))) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PhotplugError(f"{name}: cannot read the WCS log as CSV text ({error}); {advice}") from None
    if len(lines) < 2:
        raise PhotplugError(f"{name}: the WCS log holds no exposures; {advice}")
    header, *rows = [[cell.strip() for cell in line] for line in lines]
    header = [title.lower() for title in header]
    missing = [title for title in _REQUIRED if title not in header]
    if not any(f"{kind}{ij}" in header for kind in ("cd", "pc") for ij in _MATRIX):
        missing.append("cd1_1 ... cd2_2 (or pc1_1 ... pc2_2)")
    if missing:
        raise PhotplugError(f"{name}: the WCS log lacks the columns {', '.join(missing)}; {advice}")
    # Without `ext` the chips of one file differ in their other cells.
    keys = [header.index(title) for title in ("file", "ext")] if "ext" in header else range(len(header))
    distinct: dict[tuple[str, ...], tuple[int, list[str]]] = {}
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            found = f"{len(row)} cells for {len(header)} columns"
            raise PhotplugError(f"{name}: row {number} of the WCS log has {found}; {advice}")
        distinct.setdefault(tuple(row[key] for key in keys), (number, row))
    numbers, kept = zip(*distinct.values(), strict=True)
    columns = dict(zip(header, zip(*kept, strict=True), strict=True))
    return _Cells(name=name, columns=columns, numbers_in_file=numbers, duplicates=len(rows) - len(kept))


def _read_matrix(cells: _Cells) -> Array:
    """Return the CD matrices, shape (n, 2, 2): CD where the row has any of it, otherwise PC times CDELT."""
    cd, pc = (np.stack([cells.numbers(kind + ij) for ij in _MATRIX], axis=-1) for kind in ("cd", "pc"))
    cdelt = np.stack([cells.numbers(f"cdelt{axis}") for axis in (1, 1, 2, 2)], axis=-1)
    has_cd, has_pc = np.any(np.isfinite(cd), axis=1), np.any(np.isfinite(pc), axis=1)
    # Defaults of the FITS standard: absent elements are 0 in CD, the identity in PC, 1 in CDELT.
    from_pc = np.where(np.isnan(pc), [1, 0, 0, 1], pc) * np.where(np.isnan(cdelt), 1, cdelt)
    matrix = np.where(has_cd[:, None], np.nan_to_num(cd), from_pc).reshape(-1, 2, 2)
    absurd = np.abs(matrix).max(axis=(1, 2)) > _SCALES[1]
    # Only of those: the determinant of the others may overflow.
    scale = np.sqrt(np.abs(np.linalg.det(np.where(absurd[:, None, None], 0, matrix))))
    for row in np.flatnonzero(~(has_cd | has_pc) | (scale == 0) & ~absurd).tolist():
        cells.refuse(row, "its matrix cd1_1 ... cd2_2 is empty or singular")
    for row in np.flatnonzero(absurd | (scale < _SCALES[0])).tolist():
        cells.refuse(row, f"its matrix cd1_1 ... cd2_2 gives pixels outside {_SCALES[0]:g} to {_SCALES[1]:g} deg")
    return matrix


def _check_projection(cells: _Cells) -> None:
    """Refuse rows that are not plain TAN (with or without SIP), RA before DEC; an empty cell counts as TAN."""
    for column, tangent in (("ctype1", "RA---TAN"), ("ctype2", "DEC--TAN")):
        for row, cell in enumerate(cells.columns.get(column, ())):
            if cell.upper() not in ("", tangent, f"{tangent}-SIP"):
                cells.refuse(row, f"{column} is {cell!r}, but only {tangent} and {tangent}-SIP are supported")
    lonpole = cells.numbers("lonpole", default=180)
    for row in np.flatnonzero(np.isfinite(lonpole) & (lonpole != 180)).tolist():
        cells.refuse(row, f"lonpole is {lonpole[row]:g}, but only 180 is supported")


def _read_sip(cells: _Cells) -> Array:
    """Return the SIP coefficients of all rows, shape (order + 1, order + 1, 2, n); see `Footprints`."""
    terms = [match for match in map(_SIP_COLUMN.fullmatch, cells.columns) if match]
    size = 1 + max((int(index) for term in terms for index in term.groups()[1:]), default=0)
    sip = np.zeros((size, size, 2, len(cells.numbers_in_file)))
    order = np.stack([cells.numbers(f"{letter}_order", default=np.inf) for letter in "ab"])
    blank = np.isnan(order)
    order = np.where(order.min(axis=0) >= 2, order, 0)  # False for NaN, an empty cell
    for term in terms:
        i, j, axis = int(term[2]), int(term[3]), "ab".index(term[1])
        values = np.nan_to_num(cells.numbers_within(term[0], -1, 1))
        for row in np.flatnonzero(blank[axis] & (values != 0)).tolist():
            cells.refuse(row, f"{term[0]} is {values[row]:g}, but {term[1]}_order has no value")
        sip[i, j, axis] = np.where(i + j <= order[axis], values, 0)
    return sip


def _build_gnomonic(crval: Array, cd: Array) -> Array:
    """Return the matrices of `Footprints.gnomonic` from CRVAL, shape (2, n), and CD, shape (n, 2, 2), in deg."""
    (sin_ra, sin_dec), (cos_ra, cos_dec) = np.sin(np.deg2rad(crval)), np.cos(np.deg2rad(crval))
    east = np.stack([-sin_ra, cos_ra, np.zeros_like(sin_ra)], axis=-1)
    north = np.stack([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec], axis=-1)
    axis = np.stack([cos_dec * cos_ra, cos_dec * sin_ra, sin_dec], axis=-1)
    plane = np.linalg.inv(np.deg2rad(cd)) @ np.stack([east, north], axis=1)
    return np.concatenate([plane, axis[:, None]], axis=1)


def _build_table(cells: _Cells) -> QTable:
    names = zip(*map(split_name, cells.columns["file"]), strict=True)
    return QTable(
        {
            "file": list(cells.columns["file"]),
            "ext": np.nan_to_num(cells.numbers_within("ext", 0, 1e6), nan=1).astype(int),
            "exptime": cells.require("exptime", positive=True) * u.s,
            **{f"mjd_{part}": cells.times(part) for part in ("beg", "avg", "end")},
            **{key: list(column) for key, column in zip(ExposureName._fields, names, strict=True)},
        }
    )
