"""Membership, visits, angles, edges and barycentric times against plain loops over astropy's own WCS objects."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import erfa
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, get_sun
from astropy.table import QTable
from astropy.time import Time
from astropy.wcs import WCS, Sip

from dja_photplug import Options, PhotplugError, PhotplugWarning, write_catalog
from dja_photplug.catalog.schema import EPOCH_DETAIL_COLUMNS
from dja_photplug.epochs.barycentre import barycentre_times
from dja_photplug.epochs.log import ExposureLog, read_exposure_log
from dja_photplug.options.stages import EPOCH_DETAILS, EpochOptions
from dja_photplug.pipeline.one_band import find_epochs
from dja_photplug.pipeline.plugins import get_plugin_manager
from tests.helpers import contain_plainly, edge_points, uds_prefix, write_rows

SCALE = 0.063 / 3600  # deg
L2 = 1.5e9  # m


@dataclass
class Shot:
    """One row of a log, with the WCS that it is written from."""

    file: str
    wcs: WCS
    ext: int = 1
    exptime: float = 100.0
    begin: float | None = 60000.0
    obsgeo: np.ndarray | None = None
    more: dict = field(default_factory=dict)

    def row(self) -> dict[str, object]:
        wcs = self.wcs
        (nx, ny), order = wcs.pixel_shape, wcs.sip.a_order if wcs.sip else 0
        row: dict[str, object] = {"file": self.file, "ext": self.ext, "exptime": self.exptime}
        row |= {"naxis1": nx, "naxis2": ny, "ctype1": wcs.wcs.ctype[0], "ctype2": wcs.wcs.ctype[1]}
        row |= {f"crpix{i + 1}": wcs.wcs.crpix[i] for i in (0, 1)} | {f"crval{i + 1}": wcs.wcs.crval[i] for i in (0, 1)}
        row |= {f"cd{i + 1}_{j + 1}": wcs.wcs.cd[i, j] for i, j in np.ndindex(2, 2)}
        if order:
            row |= {"a_order": order, "b_order": order}
            for name, terms in (("a", wcs.sip.a), ("b", wcs.sip.b)):
                row |= {f"{name}_{i}_{j}": terms[i, j] for i, j in np.ndindex(terms.shape) if i + j <= order}
        if self.begin is not None:
            days = self.exptime / 86400
            row |= {f"mjd-{part}": self.begin + days * f for part, f in (("beg", 0), ("avg", 0.5), ("end", 1))}
        if self.obsgeo is not None:
            row |= dict(zip(("obsgeo-x", "obsgeo-y", "obsgeo-z"), self.obsgeo, strict=True))
        return row | self.more


def make_wcs(
    ra: float, dec: float, angle: float = 0.0, order: int = 0, seed: int = 0, size=(1000, 800), crpix=None
) -> WCS:
    """Return a detector whose y axis points `angle` deg east of north at its reference pixel."""
    wcs = WCS(naxis=2)
    suffix = "-SIP" if order > 1 else ""
    wcs.wcs.ctype = [f"RA---TAN{suffix}", f"DEC--TAN{suffix}"]
    wcs.wcs.crval = [ra % 360, dec]
    wcs.wcs.crpix = crpix or [size[0] / 2 + 0.5, size[1] / 2 + 0.5]
    cos, sin = SCALE * np.cos(np.radians(angle)), SCALE * np.sin(np.radians(angle))
    wcs.wcs.cd = [[-cos, sin], [sin, cos]]
    if order > 1:
        rng = np.random.default_rng(seed)
        terms = np.zeros((2, order + 1, order + 1))
        for i, j in np.ndindex(order + 1, order + 1):
            if 2 <= i + j <= order:
                terms[:, i, j] = 5 * rng.normal(size=2) / 640 ** (i + j) / (i + j)
        wcs.sip = Sip(*terms, None, None, wcs.wcs.crpix)
    wcs.pixel_shape = size
    wcs.wcs.set()
    return wcs


def write_log(path: Path, shots: list[Shot]) -> ExposureLog:
    return read_exposure_log(write_rows(path, [shot.row() for shot in shots]))


def jwst_vector(mjd: float) -> np.ndarray:
    """Return a point near L2, 20 deg off the line from the Sun, m."""
    away = -get_sun(Time(mjd, format="mjd", scale="utc")).cartesian.xyz.value
    away /= np.linalg.norm(away)
    side = np.cross(away, [0, 0, 1])
    return L2 * (np.cos(np.radians(20)) * away + np.sin(np.radians(20)) * side / np.linalg.norm(side))


def jwst_name(visit: int = 1, exposure: int = 1, detector: str = "nrcalong", program: int = 1837) -> str:
    return f"jw{program:05d}001{visit:03d}_02101_{exposure:05d}_{detector}_rate.fits"


FIELDS = [(0.0002, 10.0, 1), (359.9999, -30.0, 2), (77.0, -89.9, 3), (150.0, 2.0, 4), (34.4, -5.2, 5)]


def field_of_shots(ra: float, dec: float, order: int) -> list[Shot]:
    """Return 3 exposures of a detector and 3 of one with two chips, which share a distortion and a reference pixel."""
    rng = np.random.default_rng(order)
    shots = []
    for number in range(3):
        east, north = rng.uniform(-20, 20, 2) / 3600
        place = ra + east / np.cos(np.radians(dec)), max(dec + north, -90.0)
        angle = rng.uniform(0, 360)
        begin, vector = 60000.0 + 40 * number, jwst_vector(60000.0 + 40 * number)
        shots.append(Shot(jwst_name(number + 1), make_wcs(*place, angle, order, 1), begin=begin, obsgeo=vector))
        for ext, y in ((1, 430.5), (2, -30.5)):  # the chips are 60 pixels apart
            wcs = make_wcs(*place, angle + 40, order, 2, size=(1000, 400), crpix=[500.5, y])
            shots.append(Shot(f"jbhm{number}1d3q_flc.fits", wcs, ext=ext, exptime=500.0 + number, begin=begin + 10))
    return shots


def scatter(ra: float, dec: float, count: int, rng: np.random.Generator) -> SkyCoord:
    """Return positions within 50 arcsec of a place, on the sphere."""
    centre = SkyCoord(ra, dec, unit="deg")
    return centre.directional_offset_by(rng.uniform(0, 360, count) * u.deg, 50 * np.sqrt(rng.random(count)) * u.arcsec)


@pytest.mark.parametrize(("ra", "dec", "order"), FIELDS)
def test_membership_is_that_of_the_plain_loop(tmp_path: Path, ra: float, dec: float, order: int) -> None:
    shots = field_of_shots(ra, dec, order)
    log = write_log(tmp_path / "x_wcs.csv", shots)
    coords = scatter(ra, dec, 5000, np.random.default_rng(9))
    expected = np.array([contain_plainly(shot.wcs, coords) for shot in shots]).T
    assert 0.1 < expected.mean() < 0.8
    np.testing.assert_array_equal(log.coverage(coords).toarray(), expected)


@pytest.mark.parametrize(("ra", "dec", "order"), FIELDS)
def test_details_are_those_of_the_plain_loop(tmp_path: Path, ra: float, dec: float, order: int) -> None:
    shots = field_of_shots(ra, dec, order)
    coords = scatter(ra, dec, 60, np.random.default_rng(8))
    epochs = write_log(tmp_path / "x_wcs.csv", shots).epochs(coords, "all")
    inside = np.array([contain_plainly(shot.wcs, coords) for shot in shots]).T
    names = [shot.file[:13] if shot.file.startswith("jw") else shot.file[:6] for shot in shots]
    assert inside.any(axis=1).sum() > 25
    for coord, covered, row in zip(coords, inside, epochs, strict=True):
        seen = list(np.flatnonzero(covered))
        visits = sorted(
            {names[i] for i in seen},
            key=lambda name: min(s.begin for s, n in zip(shots, names, strict=True) if n == name),
        )
        assert row["visits"].split() == visits
        assert row["detectors"].split() == sorted({"NRCALONG" if names[i].startswith("jw") else "WFC" for i in seen})
        assert row["programs"].split() == sorted({"1837" if names[i].startswith("jw") else names[i][1:4] for i in seen})
        for k, visit in enumerate(visits):
            mine = [i for i in seen if names[i] == visit]  # one exposure, or one chip
            assert row["visit_exptime"][k] == pytest.approx(sum(shots[i].exptime for i in mine), rel=1e-12)
            middle = shots[mine[0]].begin + shots[mine[0]].exptime / 172800
            assert row["visit_mjd"][k] == pytest.approx(middle, abs=1e-9)
            # 1e-4 deg: a coordinate in degrees rounds at 6e-14, 1e-9 of a pixel, and the pixel is found to 1e-4.
            difference = row["visit_pa"][k] - plain_angle(shots[mine[0]].wcs, coord)
            assert abs((difference + 180) % 360 - 180) < 1e-4
        if seen:
            distance = min(edge_points(shots[i].wcs, 6001).separation(coord).arcsec.min() for i in seen)
            # The plain distance is to points 0.01 arcsec apart.
            assert row["edge_dist"].to_value(u.arcsec) == pytest.approx(distance, abs=0.002)
            ends = sorted((shots[i].begin, shots[i].begin + shots[i].exptime / 86400) for i in seen)
            gaps = [b[0] - a[1] for a, b in pairwise(ends)]
            assert row["gap_max"].to_value(u.d) == pytest.approx(max([0, *gaps]), abs=1e-9)
        else:
            assert np.isnan([row["edge_dist"].value, row["gap_max"].value, row["bmjd_mean"].value]).all()
            assert row["visits"] == ""
            assert len(row["visit_pa"]) == len(row["visit_bmjd"]) == 0


def plain_angle(wcs: WCS, coord: SkyCoord) -> float:
    x, y = wcs.all_world2pix(coord.ra.deg, coord.dec.deg, 0)
    ends = wcs.all_pix2world([x, x], [y - 0.5, y + 0.5], 0)
    below, above = SkyCoord(*ends, unit="deg").cartesian.xyz.value.T
    # Against north at the position itself: meridians converge fast at dec -89.9.
    ra, dec = coord.ra.rad, coord.dec.rad
    north = [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)]
    east = [-np.sin(ra), np.cos(ra), 0]
    return float(np.degrees(np.arctan2((above - below) @ east, (above - below) @ north)))


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
        shot = Shot("jbhm51d3q_flc.fits", make_wcs(150, 2), exptime=1000.0, obsgeo=np.array([1e6, 2e6, 3e6]))
        coord = SkyCoord(150, 2, unit="deg")
        epochs = write_log(tmp_path / "x_wcs.csv", [shot]).epochs(coord, ["barycentric"])
        assert epochs.meta["BARYOBS"] == "1 at the geocentre (HST)"
        expected = self.plain(60000.0 + 500 / 86400, np.zeros(3), coord)
        assert epochs["bmjd_mean"][0].to_value(u.d) == pytest.approx(expected, abs=1e-9)

    def test_a_vector_that_cannot_be_right_is_told(self, tmp_path: Path) -> None:
        good = Shot(jwst_name(1), make_wcs(150, 2), obsgeo=jwst_vector(60000.0))
        wrong = Shot(jwst_name(2), make_wcs(150, 2), obsgeo=-jwst_vector(60000.0))
        log = write_log(tmp_path / "x_wcs.csv", [good, wrong])
        with pytest.warns(PhotplugWarning, match=r"x_wcs.csv: obsgeo of 1 of 2 exposures is more than 45 deg") as told:
            epochs = log.epochs(SkyCoord(150, 2, unit="deg"), ["barycentric"])
        assert "\n" not in str(told[0].message)
        assert np.isfinite(epochs["visit_bmjd"][0]).tolist() == [True, False]
        assert epochs["bmjd_mean"][0].to_value(u.d) == epochs["visit_bmjd"][0][0]
        assert epochs.meta["BARYOBS"] == "1 by obsgeo (GCRS), 1 without: obsgeo far from the anti-Sun"

    def test_reasons_for_no_time_are_recorded(self, tmp_path: Path) -> None:
        wcs = make_wcs(150, 2)
        shots = [
            Shot(jwst_name(1), wcs),
            Shot(jwst_name(2), wcs, begin=None, obsgeo=jwst_vector(60000.0)),
            Shot("spitzer_i1_0001.fits", wcs, obsgeo=jwst_vector(60000.0)),
        ]
        epochs = write_log(tmp_path / "x_wcs.csv", shots).epochs(SkyCoord(150, 2, unit="deg"), ["barycentric"])
        assert np.isnan(epochs["bmjd_mean"][0])
        assert np.isnan(epochs["visit_bmjd"][0]).all()
        text = "1 without: no date, 1 without: no obsgeo, 1 without: unknown telescope"
        assert epochs.meta["BARYOBS"] == text


def gapped_log(tmp_path: Path) -> ExposureLog:
    """Two visits of which the first is in two parts 3 days apart, one undated, and a file with two chips."""
    wcs = make_wcs(150, 2)
    shots = [
        Shot(jwst_name(1, 1), wcs, exptime=8640.0, begin=60003.0),
        Shot(jwst_name(1, 2), wcs, exptime=8640.0, begin=60000.0),
        Shot(jwst_name(2, 1, "nis", 2561), wcs, exptime=8640.0, begin=60000.2),
        Shot(jwst_name(3, 1), wcs, begin=None),
        Shot("jbhm51d3q_flc.fits", wcs, exptime=500.0, begin=60100.0),
        Shot("jbhm51d3q_flc.fits", wcs, ext=2, exptime=500.0, begin=60100.0),
    ]
    return write_log(tmp_path / "x_wcs.csv", shots)


def test_visits_by_name_and_by_gap(tmp_path: Path) -> None:
    log = gapped_log(tmp_path)
    visits = log.visits()
    assert list(visits["visit"]) == ["jw01837001001", "jw02561001002", "jbhm51", "jw01837001003"]
    assert list(visits["n_exp"]) == [2, 1, 2, 1]
    assert visits["exptime"].to_value(u.s).tolist() == [17280, 8640, 500, 100]  # the chips share theirs
    assert [list(rows) for rows in visits["rows"]] == [[0, 1], [2], [4, 5], [3]]
    assert list(visits["programs"]) == ["1837", "2561", "bhm", "1837"]
    assert visits["mjd_beg"][0].isot == "2023-02-25T00:00:00.000"
    assert visits["mjd_end"].mjd.filled(0)[0] == pytest.approx(60003.1)
    assert visits["mjd_beg"].mask.tolist() == [False, False, False, True]
    grouped = log.visits(1 * u.d)
    assert list(grouped["visit"]) == [
        "2023-02-25T00:00:00",
        "2023-02-28T00:00:00",
        "2023-06-05T00:00:00",
        "jw01837001003",
    ]
    assert [list(rows) for rows in grouped["rows"]] == [[1, 2], [0], [4, 5], [3]]
    assert grouped["detectors"][0] == "NIS NRCALONG"
    here = SkyCoord(150, 2, unit="deg")
    assert log.epochs(here)["n_visit"][0] == 4
    grouped = log.epochs(here, ["visits", "gap"], 10 * u.d)
    assert grouped["n_visit"][0] == 3
    np.testing.assert_allclose(grouped["visit_exptime"][0], [3 * 8640, 1000, 100])
    np.testing.assert_allclose(grouped["visit_mjd"][0][:2], [(60003.05 + 60000.05 + 60000.25) / 3, 60100 + 250 / 86400])
    assert np.isnan(grouped["visit_mjd"][0][2])
    assert grouped["gap_max"][0].to_value(u.d) == pytest.approx(60100 - 60003.1)


def test_log_without_any_date(tmp_path: Path) -> None:
    log = write_log(tmp_path / "x_wcs.csv", [Shot(jwst_name(i), make_wcs(150, 2), begin=None) for i in (1, 2)])
    assert log.table["mjd_avg"].mask.all()
    for gap in (None, 1 * u.d):
        epochs = log.epochs(SkyCoord([150, 10], [2, 2], unit="deg"), "all", gap)
        assert epochs["n_visit"].tolist() == [2, 0]
        assert np.isnan(epochs["gap_max"].value).all()
        assert np.isnan(epochs["visit_mjd"][0]).all()
    assert len(log.visits()) == 2


def test_dates_as_text_stand_in_for_missing_numbers(tmp_path: Path) -> None:
    date = {"date-avg": "2023-02-25T12:00:00.0", "mjd-beg": "", "mjd-avg": "", "mjd-end": ""}
    log = write_log(tmp_path / "x_wcs.csv", [Shot(jwst_name(), make_wcs(150, 2), more=date)])
    assert log.table["mjd_avg"][0].mjd == 60000.5
    assert log.epochs(SkyCoord(150, 2, unit="deg"), ["gap"])["gap_max"][0].value == 0
    with pytest.raises(PhotplugError, match=r"row 1 .* has 'yesterday' for date-avg, which is no date"):
        write_log(tmp_path / "x_wcs.csv", [Shot(jwst_name(), make_wcs(150, 2), more=date | {"date-avg": "yesterday"})])


def test_select(tmp_path: Path) -> None:
    log = gapped_log(tmp_path)
    assert list(log.select(program=1837).table["exposure"]) == ["00001", "00002", "00001"]
    assert list(log.select(program=["2561", "BHM"]).table["ext"]) == [1, 1, 2]
    assert list(log.select(detector="nis").table["program"]) == ["2561"]
    early = log.select(time=(None, Time("2023-02-26")))
    assert list(early.table["mjd_beg"].mjd) == [60000.0, 60000.2]
    assert len(log.select(time=(Time(60003, format="mjd"), None))) == 3  # the undated one is in no range
    np.testing.assert_array_equal(early.coverage(SkyCoord(150, 2, unit="deg")).toarray(), [[True, True]])
    with pytest.raises(PhotplugError, match=r"no exposure has program 99; there are programs 1837 2561 bhm, detectors"):
        log.select(program=99)


def test_parts_of_file_names(tmp_path: Path) -> None:
    table = gapped_log(tmp_path).table
    first = table["telescope", "program", "observation", "visit", "exposure", "detector", "module"][0]
    assert list(first) == ["JWST", "1837", "001", "jw01837001001", "00001", "NRCALONG", "A"]
    last = table["telescope", "program", "observation", "visit", "exposure", "detector", "module"][4]
    assert list(last) == ["HST", "bhm", "51", "jbhm51", "d3", "WFC", ""]


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet"])
@pytest.mark.parametrize("count", [3, 0])
def test_columns_of_different_lengths_survive_in_files(tmp_path: Path, suffix: str, count: int) -> None:
    shots = field_of_shots(150.0, 2.0, 2)
    log = write_log(tmp_path / "x_wcs.csv", shots)
    options = Options(epochs=EpochOptions(details=("all",)))
    coords = scatter(150.0, 2.0, 200, np.random.default_rng(3))[:count]
    table = find_epochs(log, coords, options, get_plugin_manager())
    assert table.meta["BARYOBS"] == "6 at the geocentre (HST), 3 by obsgeo (GCRS)"
    write_catalog(table, tmp_path / f"cat{suffix}")
    back = QTable.read(tmp_path / f"cat{suffix}")
    assert back.colnames == table.colnames
    for name in table.colnames:
        for one, other in zip(table[name], back[name], strict=True):
            if not isinstance(one, str):
                np.testing.assert_array_equal(u.Quantity(other).value, u.Quantity(one).value)
        assert back[name].info.description == table[name].info.description


def test_options_and_catalogue_name_the_same_groups() -> None:
    assert tuple(EPOCH_DETAIL_COLUMNS) == EPOCH_DETAILS
    assert EpochOptions(details=("edge", "gap")).groups == ("gap", "edge")
    assert EpochOptions(details=("all",)).groups == EPOCH_DETAILS
    assert EpochOptions().groups == ()
    with pytest.raises(PhotplugError, match="'colour' is not one of none, all, visits"):
        EpochOptions(details=("colour",))


def test_unknown_details_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PhotplugError, match="epochs have no columns colour; there are visits, angles"):
        gapped_log(tmp_path).epochs(SkyCoord(150, 2, unit="deg"), ["colour"])


def test_a_log_of_another_field_is_told(tmp_path: Path) -> None:
    log = gapped_log(tmp_path)
    with pytest.warns(PhotplugWarning, match="none of the 2 positions is in any of its 6 exposures"):
        epochs = find_epochs(log, SkyCoord([10, 11], [2, 2], unit="deg"), Options(), get_plugin_manager())
    assert epochs["n_exp"].tolist() == [0, 0]
