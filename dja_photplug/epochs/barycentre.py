"""When light passed the barycentre of the Solar System: mid-times of exposures in TDB, freed from the Earth's orbit.

Sources: the observatory's place is the Earth's by astropy's built-in ephemeris (ERFA epv00, good to 15 km or 0.05 ms)
plus, for JWST, the vector ``obsgeo-*`` of the log. In spite of its name that is an inertial (GCRS) vector: taken as
fixed to the turning Earth it puts times off by up to 9 s. HST is taken at the geocentre, off by less than 25 ms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy.constants import c as light_speed
from astropy.coordinates import get_body_barycentric
from astropy.table import QTable
from astropy.time import Time

__all__ = ["Barycentre", "barycentre_times", "count_astray", "plain_mjd"]

Array = npt.NDArray[np.floating]

ANTI_SUN_LIMIT = 45.0  # deg; JWST's orbit around L2 takes it 14 to 30 deg from the anti-Sun in the UDS logs
_DAY_LIGHT = light_speed.to_value(u.m / u.d)


class Barycentre(NamedTuple):
    """What the barycentric times of n exposures are made of; NaN for those that have none.

    Attributes
    ----------
    tdb : ndarray, shape (n,)
        Mid-times at the observatory, MJD (TDB).
    light : ndarray, shape (n, 3)
        From the barycentre to the observatory, ICRS, in light days: a source in the direction of a unit vector is
        seen ``light @ vector`` days earlier at the observatory than at the barycentre.
    places : ndarray of str, shape (n,)
        Where the observatory was taken to be, or why there is no time.
    """

    tdb: Array
    light: Array
    places: npt.NDArray[np.str_]

    def describe(self) -> str:
        """Return how many exposures have which place.

        Returns
        -------
        str
            Numbers and places, with commas between.
        """
        return ", ".join(
            f"{count} {name}" for name, count in zip(*np.unique(self.places, return_counts=True), strict=True)
        )


_JWST, _HST = "by obsgeo (GCRS)", "at the geocentre (HST)"
_ASTRAY, _NOWHERE, _UNDATED = "without: obsgeo far from the anti-Sun", "without: no obsgeo", "without: no date"
_UNKNOWN = "without: unknown telescope"


def plain_mjd(time: Time) -> Array:
    """Return times as plain numbers.

    Parameters
    ----------
    time : `~astropy.time.Time`, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
        MJD in the scale of `time`, NaN where it is masked.
    """
    mjd = time.mjd
    return np.asarray(mjd.filled(np.nan) if time.masked else mjd, dtype=np.float64)


def barycentre_times(table: QTable, vectors: Array) -> Barycentre:
    """Return mid-times and places of the exposures of a log.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        With ``mjd_avg`` and ``telescope``, as that of an `ExposureLog`.
    vectors : ndarray, shape (n, 3)
        The log's ``obsgeo`` [m]; NaN where it has none.

    Returns
    -------
    Barycentre
        Of the n rows.
    """
    mjd, telescope = plain_mjd(table["mjd_avg"]), np.asarray(table["telescope"])
    dated, tdb = np.isfinite(mjd), np.full(len(table), np.nan)
    earth, light = np.full((2, len(table), 3), np.nan)
    anti_sun = earth.copy()
    if dated.any():
        time = Time(mjd[dated], format="mjd", scale="utc").tdb
        tdb[dated] = time.mjd
        earth[dated] = (place := get_body_barycentric("earth", time, ephemeris="builtin")).xyz.to_value(u.m).T
        anti_sun[dated] = (place - get_body_barycentric("sun", time, ephemeris="builtin")).xyz.to_value(u.m).T
    jwst, hst = telescope == "JWST", telescope == "HST"
    astray = ~(_separation(vectors, anti_sun) <= ANTI_SUN_LIMIT)
    placed = np.isfinite(vectors).all(axis=1)
    conditions = [~dated, hst, jwst & ~placed, jwst & astray, jwst]
    places = np.select(conditions, [_UNDATED, _HST, _NOWHERE, _ASTRAY, _JWST], _UNKNOWN)
    observatory = np.where(hst[:, None], 0, vectors)
    known = np.isin(places, (_JWST, _HST))
    light[known] = (earth + observatory)[known] / _DAY_LIGHT
    return Barycentre(np.where(known, tdb, np.nan), light, places)


def count_astray(barycentre: Barycentre) -> int:
    """Return how many JWST vectors cannot be right.

    Parameters
    ----------
    barycentre : Barycentre

    Returns
    -------
    int
        Exposures whose vector points more than 45 deg from the anti-Sun.
    """
    return int(np.count_nonzero(barycentre.places == _ASTRAY))


def _separation(one: Array, other: Array) -> Array:
    """Return the angles between vectors (n, 3), deg."""
    across = np.linalg.norm(np.cross(one, other), axis=-1)
    return np.rad2deg(np.arctan2(across, np.sum(one * other, axis=-1)))
