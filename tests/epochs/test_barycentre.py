"""Barycentric times against astropy's own light travel time and what is known of the vectors."""

from __future__ import annotations

import csv
from pathlib import Path

import erfa
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, get_sun
from astropy.time import Time

from dja_photplug import PhotplugWarning
from dja_photplug.epochs.barycentre import barycentre_times
from dja_photplug.epochs.log import read_exposure_log
from tests.epochs.shots import Shot, jwst_name, jwst_vector, make_detector, write_shots
from tests.helpers import uds_prefix


class TestBarycentre:
    @staticmethod
    def earth(tdb: Time) -> np.ndarray:
        """Barycentre to Earth by ERFA, m, without astropy.coordinates."""
        _, barycentric = erfa.epv00(tdb.jd1, tdb.jd2)
        return barycentric["p"] * u.au.to(u.m)

    def plain(self, mjd: float, vector: np.ndarray, coord: SkyCoord) -> float:
        tdb = Time(mjd, format="mjd", scale="utc").tdb
        target = coord.cartesian.xyz.value
        return tdb.mjd + (self.earth(tdb) + vector) @ target / 299792458 / 86400

    def test_real_times_are_the_sum_of_earth_and_vector(self, data: Path) -> None:
        path = Path(f"{uds_prefix(data, 'f115w')}_wcs.csv")
        with path.open() as stream:
            rows = list(csv.DictReader(stream))
        log = read_exposure_log(path)
        middles = [log.footprints()[number].vertices for number in (0, 400, 800, 1100)]
        coords = SkyCoord([[middle.ra.deg.mean(), middle.dec.deg.mean()] for middle in middles], unit="deg")
        covered = log.coverage(coords).toarray()
        epochs = log.epochs(coords, ["barycentric", "visits"])
        assert epochs.meta["BARYOBS"] == f"{len(log)} by obsgeo (GCRS)"
        for coord, inside, epoch in zip(coords, covered, epochs, strict=True):
            seen = [row for row, yes in zip(rows, inside, strict=True) if yes]
            times = [
                self.plain(float(row["mjd-avg"]), np.array([float(row[f"obsgeo-{i}"]) for i in "xyz"]), coord)
                for row in seen
            ]
            assert len(seen) > 1
            weights = [float(row["exptime"]) for row in seen]
            # The issue allows 1 ms; 1e-9 d (0.1 ms) is the rounding of MJD in the log.
            assert epoch["bmjd_mean"].to_value(u.d) == pytest.approx(np.average(times, weights=weights), abs=1e-9)
            for k, visit in enumerate(epoch["visits"].split()):
                mine = [i for i, row in enumerate(seen) if row["file"].startswith(visit)]
                mean = np.average(np.array(times)[mine], weights=np.array(weights)[mine])
                assert epoch["visit_bmjd"][k] == pytest.approx(mean, abs=1e-9)

    def test_real_vectors_point_away_from_the_sun(self, data: Path) -> None:
        for band in ("f444w", "f115w"):
            log = read_exposure_log(f"{uds_prefix(data, band)}_wcs.csv")
            away = -get_sun(log.table["mjd_avg"]).cartesian.xyz.value.T
            cosine = (
                np.sum(away * log.vectors, axis=1) / np.linalg.norm(away, axis=1) / np.linalg.norm(log.vectors, axis=1)
            )
            assert np.degrees(np.arccos(cosine)).max() < 30
            assert set(barycentre_times(log.table, log.vectors).places) == {"by obsgeo (GCRS)"}

    def test_hst_is_at_the_geocentre(self, tmp_path: Path) -> None:
        shot = Shot("jbhm51d3q_flc.fits", make_detector(150, 2), exptime=1000.0, obsgeo=np.array([1e6, 2e6, 3e6]))
        coord = SkyCoord(150, 2, unit="deg")
        epochs = write_shots(tmp_path / "x_wcs.csv", [shot]).epochs(coord, ["barycentric"])
        assert epochs.meta["BARYOBS"] == "1 at the geocentre (HST)"
        expected = self.plain(60000.0 + 500 / 86400, np.zeros(3), coord)
        assert epochs["bmjd_mean"][0].to_value(u.d) == pytest.approx(expected, abs=1e-9)

    def test_a_vector_that_cannot_be_right_is_told(self, tmp_path: Path) -> None:
        good = Shot(jwst_name(1), make_detector(150, 2), obsgeo=jwst_vector(60000.0))
        wrong = Shot(jwst_name(2), make_detector(150, 2), obsgeo=-jwst_vector(60000.0))
        log = write_shots(tmp_path / "x_wcs.csv", [good, wrong])
        with pytest.warns(PhotplugWarning, match=r"x_wcs.csv: obsgeo of 1 of 2 exposures is more than 45 deg") as told:
            epochs = log.epochs(SkyCoord(150, 2, unit="deg"), ["barycentric"])
        assert "\n" not in str(told[0].message)
        assert np.isfinite(epochs["visit_bmjd"][0]).tolist() == [True, False]
        assert epochs["bmjd_mean"][0].to_value(u.d) == epochs["visit_bmjd"][0][0]
        assert epochs.meta["BARYOBS"] == "1 by obsgeo (GCRS), 1 without: obsgeo far from the anti-Sun"

    def test_reasons_for_no_time_are_recorded(self, tmp_path: Path) -> None:
        wcs = make_detector(150, 2)
        shots = [
            Shot(jwst_name(1), wcs),
            Shot(jwst_name(2), wcs, begin=None, obsgeo=jwst_vector(60000.0)),
            Shot("spitzer_i1_0001.fits", wcs, obsgeo=jwst_vector(60000.0)),
        ]
        epochs = write_shots(tmp_path / "x_wcs.csv", shots).epochs(SkyCoord(150, 2, unit="deg"), ["barycentric"])
        assert np.isnan(epochs["bmjd_mean"][0])
        assert np.isnan(epochs["visit_bmjd"][0]).all()
        text = "1 without: no date, 1 without: no obsgeo, 1 without: unknown telescope"
        assert epochs.meta["BARYOBS"] == text
