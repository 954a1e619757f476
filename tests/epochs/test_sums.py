"""Sums over exposures, visits and their details against plain loops over astropy's own WCS objects."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from tests.epochs.shots import FIELDS, Shot, field_of_shots, gapped_log, jwst_name, make_detector, scatter, write_shots
from tests.helpers import contain_plainly, edge_points


@pytest.mark.parametrize(("ra", "dec", "order"), FIELDS)
def test_details_are_those_of_the_plain_loop(tmp_path: Path, ra: float, dec: float, order: int) -> None:
    shots = field_of_shots(ra, dec, order)
    coords = scatter(ra, dec, 60, np.random.default_rng(8))
    epochs = write_shots(tmp_path / "x_wcs.csv", shots).epochs(coords, "all")
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
    log = write_shots(tmp_path / "x_wcs.csv", [Shot(jwst_name(i), make_detector(150, 2), begin=None) for i in (1, 2)])
    assert log.table["mjd_avg"].mask.all()
    for gap in (None, 1 * u.d):
        epochs = log.epochs(SkyCoord([150, 10], [2, 2], unit="deg"), "all", gap)
        assert epochs["n_visit"].tolist() == [2, 0]
        assert np.isnan(epochs["gap_max"].value).all()
        assert np.isnan(epochs["visit_mjd"][0]).all()
    assert len(log.visits()) == 2
