"""The WCS log of a mosaic: which exposures saw a position, when, for how long, at what angle."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.time import Time
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel

from dja_photplug.epochs.barycentre import Barycentre, barycentre_times, count_astray, plain_mjd
from dja_photplug.epochs.footprints import Array, Footprints, as_vectors
from dja_photplug.epochs.polygons import fill_polygons
from dja_photplug.epochs.reader import read_log
from dja_photplug.epochs.sums import Pairs, detail_epochs, group_visits, sum_epochs, tabulate_visits
from dja_photplug.errors import PhotplugError, PhotplugWarning, suggest
from dja_photplug.files.names import Source
from dja_photplug.options.stages import EPOCH_DETAILS

if TYPE_CHECKING:
    from regions import PolygonSkyRegion
    from scipy.sparse import csr_array

__all__ = ["ExposureLog", "exposure_log", "read_exposure_log"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExposureLog:
    """The exposures of one mosaic with their WCS and dates; made by `read_exposure_log`.

    Attributes
    ----------
    name : str
        The log as the user named it, for messages.
    table : `~astropy.table.QTable`
        One row per distinct (file, ext): ``file``, ``ext``, ``exptime`` [s], the times ``mjd_beg``, ``mjd_avg``,
        ``mjd_end`` (UTC; masked where the log has none) and, as far as the file name tells, ``telescope``
        (JWST, HST), ``program`` (JWST's number, HST's three letters), ``observation``, ``visit`` (``jwPPPPPOOOVVV``,
        the first 6 characters of an HST rootname, otherwise the file's stem), ``exposure``, ``detector`` (upper
        case) and ``module`` (A, B).
    geometry : Footprints
        WCS and size of each row.
    vectors : ndarray, shape (n, 3)
        ``obsgeo-x``, ``-y``, ``-z`` [m], NaN where the log has none; inertial (GCRS) for JWST.
    duplicates : int
        Rows of the file that repeated a (file, ext) and were dropped.
    """

    name: str
    table: QTable
    geometry: Footprints
    vectors: Array
    duplicates: int = 0

    def __len__(self) -> int:
        """Return the number of distinct exposures; each chip of a two-chip detector is one."""
        return len(self.table)

    @property
    def exptime(self) -> u.Quantity:
        """Sum of the exposure times of the files; the chips of one repeat it and count once."""
        _, first = np.unique(self.table["file"], return_index=True)
        return self.table["exptime"][first].sum()

    def select(
        self,
        *,
        time: tuple[Time | None, Time | None] = (None, None),
        program: str | int | Iterable[str | int] | None = None,
        detector: str | int | Iterable[str | int] | None = None,
    ) -> ExposureLog:
        """Return the log of some exposures.

        Parameters
        ----------
        time : tuple of `~astropy.time.Time`, optional
            Earliest and latest mid-time; None for no limit. Exposures without a date are in no range.
        program, detector : str, int or iterable of them, optional
            Any of these, in either case.

        Returns
        -------
        ExposureLog
            Of the exposures that meet all conditions, in their order.

        Raises
        ------
        PhotplugError
            Where no exposure is left.
        """
        keep = np.ones(len(self), dtype=bool)
        mjd = plain_mjd(self.table["mjd_avg"])
        for limit, fits in zip(time, (np.greater_equal, np.less_equal), strict=True):
            if limit is not None:
                keep &= fits(mjd, limit.utc.mjd)
        for column, wanted in (("program", program), ("detector", detector)):
            if wanted is not None:
                keep &= np.isin(np.char.lower(np.asarray(self.table[column]).astype(str)), _lower_names(wanted))
        if not keep.any():
            asked = {"time": time, "program": program, "detector": detector}
            text = ", ".join(f"{key} {value}" for key, value in asked.items() if value not in (None, (None, None)))
            names = [str(name) for name in {*self.table["program"], *self.table["detector"]} - {""}]
            given = [*_lower_names(program or ()), *_lower_names(detector or ())]
            meant = next(
                filter(None, (suggest(name, names) for name in given if name not in map(str.lower, names))), ""
            )
            raise PhotplugError(f"{self.name}: no exposure has {text}; {self._describe_choice()}{meant}")
        return replace(
            self, table=self.table[keep], geometry=self.geometry[keep], vectors=self.vectors[keep], duplicates=0
        )

    def _describe_choice(self) -> str:
        programs, detectors = (" ".join(sorted(set(self.table[key]) - {""})) for key in ("program", "detector"))
        mjd = plain_mjd(self.table["mjd_avg"])
        dates = f"MJD {np.nanmin(mjd):.3f} to {np.nanmax(mjd):.3f}" if np.isfinite(mjd).any() else "no dates"
        return f"there are programs {programs or 'unknown'}, detectors {detectors or 'unknown'}, {dates}"

    def visits(self, gap: u.Quantity | None = None) -> QTable:
        """Return the visits, in the order of time.

        Parameters
        ----------
        gap : `~astropy.units.Quantity`, optional
            Group the exposures anew: one begins wherever nothing was exposed for longer than this. Without it, they
            are those of the file names.

        Returns
        -------
        `~astropy.table.QTable`
            ``visit`` (its name, or with `gap` the time of its begin), ``mjd_beg``, ``mjd_end`` (Time), ``n_exp``,
            ``exptime`` (summed over files: the chips of one count once, detectors exposed together each),
            ``programs``, ``detectors`` and ``rows``, the rows of ``table`` that belong to it.
        """
        return tabulate_visits(self.table, group_visits(self.table, _as_days(gap)))

    def footprints(self) -> list[PolygonSkyRegion]:
        """Return the outer edges of the detectors on the sky, distorted, to better than 0.01 arcsec.

        Returns
        -------
        list of `~regions.PolygonSkyRegion`
            In the order of the exposures, with as many corners as their edges need; ``meta["text"]`` is the file (and
            ``ext``, if not 1).
        """
        from regions import PolygonSkyRegion, RegionMeta  # 0.2 s to import

        corners = SkyCoord(*np.moveaxis(self.geometry.outline(), -1, 0), representation_type="cartesian")
        ra, dec = (angle.deg for angle in (corners.spherical.lon, corners.spherical.lat))
        names = [file if ext == 1 else f"{file}[{ext}]" for file, ext in self.table.iterrows("file", "ext")]
        return [
            PolygonSkyRegion(SkyCoord(*places, unit="deg"), meta=RegionMeta({"text": name}))
            for *places, name in zip(ra, dec, names, strict=True)
        ]

    def moc(self, order: int = 17) -> Any:  # mocpy has no types
        """Return the area of all exposures on the sky; needs the extra ``moc``.

        Parameters
        ----------
        order : int, optional
            HEALPix order of its smallest cells: 1.6 arcsec at 17, twice as large for each step down.

        Returns
        -------
        `mocpy.MOC`

        Raises
        ------
        PhotplugError
            Without mocpy.
        """
        if find_spec("mocpy") is None:
            raise PhotplugError('a MOC needs mocpy, which is not installed; pip install "dja_photplug[moc]"')
        moc = import_module("mocpy").MOC
        polygons = [region.vertices for region in self.footprints()]
        first, *others = moc.from_polygons(polygons, max_depth=order)
        return first.union(*others) if others else first

    def coverage(self, coords: SkyCoord) -> csr_array:
        """Return which exposures contain which positions, by the full SIP inverse.

        An exposure contains a position where the pixel that projects onto it lies in ``-0.5 <= x < naxis - 0.5``
        (0-based) on both axes.

        Parameters
        ----------
        coords : `~astropy.coordinates.SkyCoord`
            m positions; those that are not finite are in no exposure.

        Returns
        -------
        scipy.sparse.csr_array of bool, shape (m, n)
            True where the position is in the exposure.
        """
        return self.geometry.find_pairs(as_vectors(coords))

    def epochs(self, coords: SkyCoord, details: Collection[str] = (), gap: u.Quantity | None = None) -> QTable:
        """Return when and for how long each position was observed.

        Parameters
        ----------
        coords : `~astropy.coordinates.SkyCoord`
            m positions.
        details : collection of str, optional
            Groups of more columns, or ``"all"``. Columns that begin with ``visit_`` hold one array for each
            position, with one value for each visit that saw it, in the order of time.

            - ``visits``: their names (``visits``), ``visit_mjd`` [d, UTC] (mean mid-time), ``visit_exptime`` [s].
            - ``angles``: ``visit_pa`` [deg], position angle of the detector's y axis at the position, east of north.
            - ``detectors``, ``programs``: names with spaces between.
            - ``gap``: ``gap_max`` [d], the longest time without an exposure between the first and the last.
            - ``barycentric``: ``bmjd_mean``, ``visit_bmjd`` [d], mean mid-times at the Solar System's barycentre,
              MJD (TDB). ``meta["BARYOBS"]`` says where the observatories were taken to be, and for how many
              exposures that is not known; those are left out.
            - ``edge``: ``edge_dist`` [arcsec], distance to the nearest edge of a detector that saw the position.
        gap : `~astropy.units.Quantity`, optional
            As for `visits`.

        Returns
        -------
        `~astropy.table.QTable`, m rows
            ``n_exp``, ``exptime`` [s] (summed), ``mjd_mean`` [d] (of ``mjd_avg``, weighted by exposure time),
            ``mjd_min`` [d] (earliest begin), ``mjd_max`` [d] (latest end), ``n_visit``. UTC. Without exposures 0, 0,
            NaN, NaN, NaN, 0. Exposures without a date are left out of the dates, not out of the sums.

        Warns
        -----
        PhotplugWarning
            Where barycentric times are asked for and vectors of JWST point more than 45 deg from the anti-Sun.

        Raises
        ------
        PhotplugError
            For a group that does not exist.
        """
        groups = _check_details(details)
        sky = as_vectors(coords)
        covered = self.geometry.find_pairs(sky)
        grouping = group_visits(self.table, _as_days(gap))
        columns = sum_epochs(covered, self.table, grouping)
        barycentre = self._barycentre() if "barycentric" in groups else None
        if groups:
            pairs = Pairs(
                covered=covered,
                sky=sky,
                table=self.table,
                geometry=self.geometry,
                grouping=grouping,
                barycentre=barycentre,
            )
            columns |= detail_epochs(pairs, groups)
        return QTable(columns, meta={"BARYOBS": barycentre.describe()} if barycentre else {})

    def _barycentre(self) -> Barycentre:
        """Return the barycentric times of the exposures, and tell vectors that cannot be right."""
        barycentre = barycentre_times(self.table, self.vectors)
        if astray := count_astray(barycentre):
            warnings.warn(
                f"{self.name}: obsgeo of {astray} of {len(self)} exposures is more than 45 deg from the anti-Sun, "
                "where JWST cannot be; their barycentric times are NaN; download the log again",
                PhotplugWarning,
                stacklevel=3,
            )
        return barycentre

    def exposure_map(
        self, wcs: WCS, shape: tuple[int, int], sample: int = 1, rule: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the exposure time on a mosaic's grid, at the centres of its pixels 0, `sample`, 2 `sample`, ...

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`
            Celestial WCS of the mosaic.
        shape : tuple of int
            Of the mosaic, (ny, nx).
        sample : int, optional
            Step of the samples in mosaic pixels; the archive's files have 4.
        rule : str, optional
            ``"footprints"``: exact times, in the distorted edges of the detectors; what `sample` 1 has by default.
            ``"archive"``: as the archive's ``exp`` files are made, by default for coarser samples. Each exposure is
            the polygon whose sides are straight in mosaic pixels, between the centres of its four corner pixels
            (`astropy.wcs.WCS.calc_footprint`); its time is truncated to whole seconds. Of the samples of the UDS
            cut-outs' files 99.98 % (F444W) and 99.99 % (F115W) come out equal; with corners at the pixels' outer
            edges it is 98.45 and 98.77 %.

        Returns
        -------
        ndarray of float32, shape (ny // sample, nx // sample)
            Exposure time [s]; each chip of a file counts where it is.

        Raises
        ------
        PhotplugError
            For another rule.
        """
        rule = rule or ("footprints" if sample == 1 else "archive")
        if rule not in ("footprints", "archive"):
            raise PhotplugError(f"unknown rule {rule!r} for the exposure map; there are 'footprints' and 'archive'")
        exact = rule == "footprints"
        corners = self.geometry.outline() if exact else self.geometry.archive_corners()
        coords = SkyCoord(*np.moveaxis(corners, -1, 0), representation_type="cartesian")
        polygons = np.stack(skycoord_to_pixel(coords, wcs), axis=-1) / sample  # NaN behind the mosaic's tangent plane
        times = self.table["exptime"].to_value(u.s)
        return fill_polygons(polygons, times if exact else np.floor(times), (shape[0] // sample, shape[1] // sample))


def _lower_names(wanted: str | int | Iterable[str | int]) -> list[str]:
    several = wanted if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    return [str(name).lower() for name in several]


def _as_days(gap: u.Quantity | None) -> float | None:
    return None if gap is None else u.Quantity(gap, u.d).value  # plain numbers are days


def _check_details(details: Collection[str]) -> set[str]:
    """Return the groups of columns that are asked for."""
    groups = {details} if isinstance(details, str) else set(details)
    if unknown := groups - {*EPOCH_DETAILS, "all"}:
        raise PhotplugError(
            f"epochs have no columns {', '.join(sorted(unknown))}; choose from {', '.join(EPOCH_DETAILS)}, all"
        )
    return set(EPOCH_DETAILS) if "all" in groups else groups


def read_exposure_log(path: str | Path) -> ExposureLog:
    """Read the WCS log of a mosaic, a DJA ``{root}-{filter}_wcs.csv`` of any instrument.

    Columns are found by name, in either case, SIP terms of any order too. CD wins over PC and CDELT; an order below
    2 means no distortion, as in `astropy.wcs`. A row that repeats a (file, ext) counts once.

    Parameters
    ----------
    path : str or Path
        The log, or its URL on a server.

    Returns
    -------
    ExposureLog

    Raises
    ------
    PhotplugError
        Where the file is missing, empty or no CSV, a column that the geometry needs is missing, a row lacks a number
        in it, or a row is not TAN with LONPOLE 180.
    """
    table, geometry, vectors, duplicates = read_log(str(path))
    return ExposureLog(name=str(path), table=table, geometry=geometry, vectors=vectors, duplicates=duplicates)


def exposure_log(source: Source) -> ExposureLog | None:
    """Return the WCS log of a source, read once however often it is asked for; None where there is none.

    Parameters
    ----------
    source : Source

    Returns
    -------
    ExposureLog or None
        Shared by all who ask, until the file changes.

    Raises
    ------
    PhotplugError
        As :func:`read_exposure_log`.
    """
    if source.log is None:
        return None
    try:
        status = source.log.stat()
    except OSError as error:
        raise PhotplugError(
            f"{source.log}: cannot read the WCS log of {source} ({error.strerror}); check the file"
        ) from None
    return _read_log_once(source.log, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_log_once(path: Path, _changed: int, _size: int) -> ExposureLog:
    return read_exposure_log(path)
