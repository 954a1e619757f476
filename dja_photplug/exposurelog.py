"""The WCS log of a mosaic: which exposures saw a position, when and for how long.

Every exposure is kept as three things that do the geometry for any number of positions at once: a 3 x 3 matrix from
ICRS unit vectors to undistorted pixel offsets (the gnomonic projection and the inverse CD matrix in one), the SIP
polynomials (Shupe et al. 2005, ASPC 347, 491), and the size. Unit vectors have no seam at RA 0 and no poles.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel
from numpy.polynomial.polynomial import polyder, polyval
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from dja_photplug.errors import PhotplugError

__all__ = ["ExposureLog", "read_exposure_log"]

Array = npt.NDArray[np.floating]

_PAIRS_AT_ONCE = 300_000  # candidates held at once, at about 300 bytes each
_NEWTON_STEPS = 20
_PIXEL_TOLERANCE = 1e-8  # last Newton step: 1e4 below the tolerance of `WCS.all_world2pix`, 1e4 above rounding

_REQUIRED = ("file", "exptime", "crpix1", "crpix2", "crval1", "crval2", "naxis1", "naxis2")
_MATRIX = ("1_1", "1_2", "2_1", "2_2")
_SIP_COLUMN = re.compile(r"([ab])_(\d)_(\d)")
_JWST_FILE = re.compile(r"(jw\d{11})_[^_]+_[^_]+_([^_.]+)")
_HST_FILE = re.compile(r"([ijnou][a-z0-9]{5})[a-z0-9]{3}_([a-z0-9]+)")
_HST_DETECTORS = {"j_flc": "WFC", "i_flc": "UVIS"}  # the only two with files corrected for charge transfer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExposureLog:
    """The exposures of one mosaic with their WCS and dates; made by `read_exposure_log`.

    Attributes
    ----------
    name : str
        The log as the user named it, for messages.
    table : `~astropy.table.QTable`
        One row per distinct (file, ext): ``file``, ``ext``, ``exptime`` [s], ``mjd_beg``, ``mjd_avg``, ``mjd_end``
        [d, UTC; NaN where the log has none], ``detector`` (upper case, empty where the name does not tell) and
        ``visit`` (``jwPPPPPOOOVVV``, the first 6 characters of an HST rootname, otherwise the file's stem).
    gnomonic : ndarray, shape (n, 3, 3)
        ``gnomonic[e] @ unit_vector`` is proportional to (p, q, 1), with p and q the undistorted pixel offset from
        CRPIX on the tangent plane.
    sip : ndarray, shape (order + 1, order + 1, 2, n)
        ``sip[i, j, 0, e]`` is A_i_j and ``sip[i, j, 1, e]`` is B_i_j of exposure e; zero without distortion.
    crpix, naxis : ndarray, shape (2, n)
        Reference pixel (1-based) and size, x before y.
    duplicates : int
        Rows of the file that repeated a (file, ext) and were dropped.
    """

    name: str
    table: QTable
    gnomonic: Array
    sip: Array
    crpix: Array
    naxis: Array
    duplicates: int = 0

    def __len__(self) -> int:
        """Return the number of distinct exposures; each chip of a two-chip detector is one."""
        return len(self.table)

    def coverage(self, coords: SkyCoord) -> csr_array:
        """Return which exposures contain which positions, by the full SIP inverse.

        An exposure contains a position where the pixel that projects onto it lies in ``-0.5 <= x < naxis - 0.5``
        (0-based) on both axes. Only near a detector's edge is the inverse needed: the distortion moves no pixel by
        more than ``sum |A_i_j| |u|^i |v|^j`` over the detector, so deeper positions are in, and farther ones out.

        Parameters
        ----------
        coords : `~astropy.coordinates.SkyCoord`
            m positions; those that are not finite are in no exposure.

        Returns
        -------
        scipy.sparse.csr_array of bool, shape (m, n)
            True where the position is in the exposure.
        """
        sky = coords.icrs.reshape(-1).represent_as("unitspherical").to_cartesian().xyz.value.T
        sky = np.nan_to_num(sky)  # the zero vector is far from every detector
        tree = cKDTree(sky)
        low = 0.5 - self.crpix
        high = low + self.naxis
        shift = _distortion(np.abs(self.sip), np.maximum(np.abs(low), np.abs(high)))
        limits = np.stack([low, high, shift])
        centres, chords = _bounding_caps(self.gnomonic, low - shift, high + shift)
        step = 1 + _PAIRS_AT_ONCE // (1 + len(sky))
        pairs = []
        for first in range(0, len(self), step):
            near = tree.query_ball_point(centres[first : first + step], chords[first : first + step])
            counts = [len(positions) for positions in near]
            position = np.fromiter(chain.from_iterable(near), np.int32, sum(counts))
            exposure = np.repeat(np.arange(first, first + len(near), dtype=np.int32), counts)
            inside = self._contain(exposure, sky[position], limits[..., exposure])
            pairs.append(np.stack([position, exposure])[:, inside])
        rows, columns = np.concatenate(pairs, axis=1)
        return csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(sky), len(self)))

    def _contain(self, exposure: npt.NDArray[np.int32], sky: Array, limits: Array) -> npt.NDArray[np.bool_]:
        """Return for k pairs of an exposure and a unit vector (k, 3) whether the one contains the other.

        `limits` (3, 2, k): lowest and highest pixel offset from CRPIX, and the bound of the distortion.
        """
        low, high, shift = limits
        x, y, scale = np.einsum("kij,kj->ik", self.gnomonic[exposure], sky)
        plane = np.stack([x, y]) / scale
        inside = np.all((plane >= low + shift) & (plane < high - shift), axis=0)
        near = np.all((plane >= low - shift) & (plane <= high + shift), axis=0)
        edge = np.flatnonzero(near & ~inside)
        offset = _remove_distortion(self.sip[..., exposure[edge]], plane[:, edge])
        inside[edge] = np.all((offset >= low[:, edge]) & (offset < high[:, edge]), axis=0)
        return inside

    def epochs(self, coords: SkyCoord) -> QTable:
        """Return when and for how long each position was observed.

        Parameters
        ----------
        coords : `~astropy.coordinates.SkyCoord`
            m positions.

        Returns
        -------
        `~astropy.table.QTable`, m rows
            ``n_exp``, ``exptime`` [s] (summed), ``mjd_mean`` [d] (of ``mjd_avg``, weighted by exposure time),
            ``mjd_min`` [d] (earliest begin), ``mjd_max`` [d] (latest end), ``n_visit``. UTC. Without exposures 0, 0,
            NaN, NaN, NaN, 0. Exposures without a date are left out of the dates, not out of the sums.
        """
        covered = self.coverage(coords)
        exptime = self.table["exptime"].value
        mjd = self.table["mjd_avg"].value
        weight = np.where(np.isfinite(mjd), exptime, 0.0)
        moment, total = covered @ (exptime * np.nan_to_num(mjd)), covered @ weight
        mean = np.divide(moment, total, out=np.full_like(total, np.nan), where=total > 0)
        _, visit = np.unique(self.table["visit"], return_inverse=True)
        visits = csr_array((np.ones(len(self), dtype=bool), (np.arange(len(self)), visit)))
        return QTable(
            {
                "n_exp": np.diff(covered.indptr).astype(np.int32),
                "exptime": (covered @ exptime) * u.s,
                "mjd_mean": mean * u.d,
                "mjd_min": _reduce_rows(np.fmin, covered, self.table["mjd_beg"].value) * u.d,
                "mjd_max": _reduce_rows(np.fmax, covered, self.table["mjd_end"].value) * u.d,
                "n_visit": np.diff((covered @ visits).indptr).astype(np.int32),
            }
        )

    def exposure_map(self, wcs: WCS, shape: tuple[int, int], sample: int = 1) -> npt.NDArray[np.float32]:
        """Return the exposure time on a mosaic's grid, by the archive's rule.

        The rule: samples at the centres of mosaic pixels 0, `sample`, 2 `sample`, ... (0-based); each exposure is
        the polygon whose sides are straight in mosaic pixels, between its four distorted corners at 0-based
        detector pixels (0, 0) and (naxis1, naxis2); its exposure time is truncated to whole seconds; times add up.
        Of the samples of the UDS cut-outs' ``exp`` files, 99.98 % (F444W) and 99.99 % (F115W) come out equal; with
        corners at the pixels' outer edges it is 98.9 and 99.1 %, at their centres 98.4 and 98.8 %.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`
            Celestial WCS of the mosaic.
        shape : tuple of int
            Of the mosaic, (ny, nx).
        sample : int, optional
            Step of the samples in mosaic pixels; the archive's files have 4.

        Returns
        -------
        ndarray of float32, shape (ny // sample, nx // sample)
            Exposure time [s]; exact, being whole seconds below 2**24 (194 days).
        """
        exposure = np.zeros((shape[0] // sample, shape[1] // sample), dtype=np.float32)
        polygons = np.stack(skycoord_to_pixel(self._corners(), wcs), axis=-1) / sample
        for polygon, time in zip(polygons, np.floor(self.table["exptime"].value), strict=True):
            if np.isfinite(polygon).all():  # not behind the mosaic's tangent plane
                _add_edges(exposure, polygon, time)
        return np.cumsum(exposure, axis=1, out=exposure)

    def _corners(self) -> SkyCoord:
        """Return the corners that the archive's footprints have, shape (n, 4): see `exposure_map`."""
        low = 1 - self.crpix  # pixel 0 (0-based) is pixel 1 for CRPIX
        offset = _corners_and_centre(low, low + self.naxis)[..., :4]
        plane = offset + _distortion(self.sip[..., None], offset)
        return SkyCoord(*np.moveaxis(_plane_to_sky(self.gnomonic, plane), -1, 0), representation_type="cartesian")


def read_exposure_log(path: str | Path) -> ExposureLog:
    """Read the WCS log of a mosaic, a DJA ``{root}-{filter}_wcs.csv`` of any instrument.

    Columns are found by name, in either case, SIP terms of any order too. CD wins over PC and CDELT; an order below
    2 means no distortion, as in `astropy.wcs`. A row that repeats a (file, ext) counts once.

    Parameters
    ----------
    path : str or Path
        The log.

    Returns
    -------
    ExposureLog

    Raises
    ------
    PhotplugError
        Where the file is missing, empty or no CSV, a column that the geometry needs is missing, a row lacks a number
        in it, or a row is not TAN with LONPOLE 180.
    """
    cells = _read_cells(str(path))
    crval, crpix, naxis = (
        np.stack([cells.require(f"{stem}{axis}") for axis in (1, 2)]) for stem in ("crval", "crpix", "naxis")
    )
    _check_projection(cells)
    return ExposureLog(
        name=cells.name,
        table=_build_table(cells),
        gnomonic=_build_gnomonic(crval, _read_matrix(cells)),
        sip=_read_sip(cells),
        crpix=crpix,
        naxis=naxis,
        duplicates=cells.duplicates,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """The text of a log: by lower-case column name, one cell per distinct exposure."""

    name: str
    columns: Mapping[str, Sequence[str]]
    numbers_in_file: Sequence[int]
    duplicates: int

    def refuse(self, row: int, problem: str) -> NoReturn:
        where = f"row {self.numbers_in_file[row]} ({self.columns['file'][row]}) of the WCS log {self.name}"
        raise PhotplugError(f"{where} has {problem}; correct or remove that row")

    def numbers(self, column: str, default: float = np.nan) -> Array:
        """Return a column as numbers: NaN for an empty cell, `default` where the log has no such column."""
        values = np.full(len(self.numbers_in_file), default)
        for row, cell in enumerate(self.columns.get(column, ())):
            try:
                values[row] = float(cell or "nan")
            except ValueError:
                self.refuse(row, f"{cell!r} for {column}, which is no number")
        return values

    def require(self, column: str) -> Array:
        """Return a column that needs a number in every row."""
        values = self.numbers(column)
        for row in np.flatnonzero(~np.isfinite(values)).tolist():
            self.refuse(row, f"no number in {column}")
        return values


def _read_cells(name: str) -> _Cells:
    advice = "name a DJA '{root}-{filter}_wcs.csv', or download it again"
    try:
        lines = [row for row in csv.reader(StringIO(Path(name).read_text(encoding="utf-8-sig"))) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PhotplugError(f"cannot read the WCS log {name} as CSV text ({error}); {advice}") from None
    if len(lines) < 2:
        raise PhotplugError(f"the WCS log {name} holds no exposures; {advice}")
    header, *rows = [[cell.strip() for cell in line] for line in lines]
    header = [title.lower() for title in header]
    missing = [title for title in _REQUIRED if title not in header]
    if not any(f"{kind}{ij}" in header for kind in ("cd", "pc") for ij in _MATRIX):
        missing.append("cd1_1 ... cd2_2 (or pc1_1 ... pc2_2)")
    if missing:
        raise PhotplugError(f"the WCS log {name} lacks the columns {', '.join(missing)}; {advice}")
    # Without `ext` the chips of one file differ in their other cells.
    keys = [header.index(title) for title in ("file", "ext")] if "ext" in header else range(len(header))
    distinct: dict[tuple[str, ...], tuple[int, list[str]]] = {}
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            found = f"{len(row)} cells under {len(header)} columns"
            raise PhotplugError(f"row {number} of the WCS log {name} has {found}; {advice}")
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
    for row in np.flatnonzero(~(has_cd | has_pc) | (np.linalg.det(matrix) == 0)).tolist():
        cells.refuse(row, "an empty or singular matrix cd1_1 ... cd2_2")
    return matrix


def _check_projection(cells: _Cells) -> None:
    """Refuse rows that are not plain TAN (with or without SIP), RA before DEC; an empty cell counts as TAN."""
    for column, tangent in (("ctype1", "RA---TAN"), ("ctype2", "DEC--TAN")):
        for row, cell in enumerate(cells.columns.get(column, ())):
            if cell.upper() not in ("", tangent, f"{tangent}-SIP"):
                cells.refuse(row, f"{column} {cell!r} where only {tangent} and {tangent}-SIP are supported")
    lonpole = cells.numbers("lonpole", default=180)
    for row in np.flatnonzero(np.isfinite(lonpole) & (lonpole != 180)).tolist():
        cells.refuse(row, f"lonpole {lonpole[row]:g} where only 180 is supported")


def _read_sip(cells: _Cells) -> Array:
    """Return the SIP coefficients of all rows, shape (order + 1, order + 1, 2, n); see `ExposureLog`."""
    terms = [match for match in map(_SIP_COLUMN.fullmatch, cells.columns) if match]
    size = 1 + max((int(index) for term in terms for index in term.groups()[1:]), default=0)
    sip = np.zeros((size, size, 2, len(cells.numbers_in_file)))
    order = np.stack([cells.numbers(f"{letter}_order", default=np.inf) for letter in "ab"])
    order = np.where(order.min(axis=0) >= 2, order, 0)  # False for NaN, an empty cell
    for term in terms:
        i, j, axis = int(term[2]), int(term[3]), "ab".index(term[1])
        sip[i, j, axis] = np.where(i + j <= order[axis], np.nan_to_num(cells.numbers(term[0])), 0)
    return sip


def _build_gnomonic(crval: Array, cd: Array) -> Array:
    """Return the matrices of `ExposureLog.gnomonic` from CRVAL, shape (2, n), and CD, shape (n, 2, 2), in deg."""
    (sin_ra, sin_dec), (cos_ra, cos_dec) = np.sin(np.deg2rad(crval)), np.cos(np.deg2rad(crval))
    east = np.stack([-sin_ra, cos_ra, np.zeros_like(sin_ra)], axis=-1)
    north = np.stack([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec], axis=-1)
    axis = np.stack([cos_dec * cos_ra, cos_dec * sin_ra, sin_dec], axis=-1)
    plane = np.linalg.inv(np.deg2rad(cd)) @ np.stack([east, north], axis=1)
    return np.concatenate([plane, axis[:, None]], axis=1)


def _build_table(cells: _Cells) -> QTable:
    detectors, visits = zip(*map(_parse_file, cells.columns["file"]), strict=True)
    return QTable(
        {
            "file": list(cells.columns["file"]),
            "ext": np.nan_to_num(cells.numbers("ext"), nan=1).astype(int),
            "exptime": cells.require("exptime") * u.s,
            **{f"mjd_{part}": cells.numbers(f"mjd-{part}") * u.d for part in ("beg", "avg", "end")},
            "detector": list(detectors),
            "visit": list(visits),
        }
    )


def _parse_file(file: str) -> tuple[str, str]:
    """Return detector and visit as far as an exposure's file name tells them.

    Examples
    --------
    >>> _parse_file("jw01837001001_04201_00001_nrcalong_rate.fits")
    ('NRCALONG', 'jw01837001001')
    >>> _parse_file("jbhm51d3q_flc.fits")
    ('WFC', 'jbhm51')
    """
    stem = Path(file).name.lower()
    if match := _JWST_FILE.match(stem):
        return match[2].upper(), match[1]
    if match := _HST_FILE.match(stem):
        return _HST_DETECTORS.get(f"{stem[0]}_{match[2]}", ""), match[1]
    return "", stem.partition(".")[0]


def _plane_to_sky(gnomonic: Array, plane: Array) -> Array:
    """Return unit vectors, shape (n, k, 3), of undistorted offsets from CRPIX, shape (2, n, k)."""
    homogeneous = np.stack([*plane, np.ones_like(plane[0])], axis=-1)
    vectors = homogeneous @ np.linalg.inv(gnomonic).swapaxes(1, 2)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _distortion(sip: Array, offset: Array) -> Array:
    """Evaluate the SIP polynomials A and B; `sip` (i, j, 2, ...) against `offset` (2, ...) from CRPIX."""
    return polyval(offset[1], polyval(offset[0], sip, tensor=False), tensor=False)


def _corners_and_centre(low: Array, high: Array) -> Array:
    """Return the corners, in order around, and the centre of rectangles; from (2, n) to (2, n, 5)."""
    unit_square = np.array([[[0, 0, 1, 1, 0.5]], [[0, 1, 1, 0, 0.5]]])
    return low[..., None] + unit_square * (high - low)[..., None]


def _bounding_caps(gnomonic: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return centre (n, 3) and chord (n,) of a cap around the undistorted rectangle from `low` to `high` (2, n).

    Great circles are straight in the tangent plane, and a cap is convex, so one that holds the corners holds all.
    """
    vectors = _plane_to_sky(gnomonic, _corners_and_centre(low, high))
    chords = np.linalg.norm(vectors[:, :4] - vectors[:, 4:], axis=-1).max(axis=-1)
    return vectors[:, 4], chords * (1 + 1e-9) + 1e-15  # rounding, in units of the sphere's radius


def _remove_distortion(sip: Array, plane: Array) -> Array:
    """Solve ``offset + distortion(offset) = plane`` by Newton's method; NaN where it does not converge."""
    along_x, along_y = polyder(sip, axis=0), polyder(sip, axis=1)
    offset = plane.copy()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what runs away ends as not converged
        for _ in range(_NEWTON_STEPS):
            x, y = offset + _distortion(sip, offset) - plane
            (a_x, b_x), (a_y, b_y) = _distortion(along_x, offset), _distortion(along_y, offset)
            determinant = (1 + a_x) * (1 + b_y) - a_y * b_x
            step = np.stack([(1 + b_y) * x - a_y * y, (1 + a_x) * y - b_x * x]) / determinant
            offset -= step
            converged = np.all(np.abs(step) <= _PIXEL_TOLERANCE, axis=0)
            if converged.all():
                break
    return np.where(converged, offset, np.nan)


def _reduce_rows(reduce: np.ufunc, covered: csr_array, values: Array) -> Array:
    """Reduce the values of each row's exposures, such as to their minimum; NaN for a row without exposures."""
    padded = np.append(values[covered.indices], np.nan)  # so that an empty last row has something to point at
    reduced = reduce.reduceat(padded, covered.indptr[:-1])
    return np.where(np.diff(covered.indptr) > 0, reduced, np.nan)


def _add_edges(rates: npt.NDArray[np.float32], polygon: Array, time: float) -> None:
    """Add `time` where a convex polygon (k, 2) begins in each row, and take it off where the row has left it."""
    ny, nx = rates.shape
    first, last = np.ceil(polygon[:, 1].min()), np.floor(polygon[:, 1].max())
    rows = np.arange(max(int(first), 0), min(int(last), ny - 1) + 1)
    left, right = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            crossing = x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
            crossed = (rows >= min(y0, y1)) & (rows <= max(y0, y1))
            np.minimum(left, crossing, out=left, where=crossed)
            np.maximum(right, crossing, out=right, where=crossed)
    start = np.clip(np.ceil(left), 0, nx).astype(int)
    stop = np.clip(np.floor(right) + 1, start, nx).astype(int)
    rates[rows[start < nx], start[start < nx]] += time
    rates[rows[stop < nx], stop[stop < nx]] -= time
