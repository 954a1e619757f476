"""What is made from a log: footprints, maps, and checks of a mosaic."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from dja_photplug import PhotplugError
from dja_photplug.epochs.log import read_exposure_log
from dja_photplug.epochs.products import compare_with_header, describe_log, write_exposure_map, write_footprints
from dja_photplug.figures.epochs import plan_sky
from dja_photplug.sky.grid import header_wcs
from tests.helpers import BANDS, edge_points, row_wcs, uds_prefix


def distance_from_polygon(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the distance of points (k, 2) from the nearest side of a polygon (n, 2)."""
    start, side = corners, np.roll(corners, -1, axis=0) - corners
    along = np.clip(np.sum((points[:, None] - start) * side, axis=-1) / np.sum(side**2, axis=-1), 0, 1)
    return np.linalg.norm(points[:, None] - start - along[..., None] * side, axis=-1).min(axis=1)


@pytest.mark.parametrize("band", BANDS)
def test_footprints_follow_the_distorted_edges(data: Path, band: str) -> None:
    path = f"{uds_prefix(data, band)}_wcs.csv"
    with open(path) as stream:
        rows = list(csv.DictReader(stream))
    footprints = read_exposure_log(path).footprints()
    assert len(footprints) == len(rows)
    for number in np.random.default_rng(4).choice(len(rows), 20, replace=False):
        row, vertices = rows[number], footprints[number].vertices
        edge = edge_points(row_wcs(row), 400)
        frame = SkyCoord(vertices[0].ra, vertices[0].dec).skyoffset_frame()  # flat to 1e-5 arcsec over 130 arcsec
        flat = [
            np.stack([place.lon.wrap_at("180d").arcsec, place.lat.arcsec], axis=-1)
            for place in (edge.transform_to(frame), vertices.transform_to(frame))
        ]
        assert distance_from_polygon(*flat).max() < 0.01
        # The corners alone are 0.1 arcsec and more off, so the polygon has to bend.
        assert distance_from_polygon(flat[0], flat[1][:: len(vertices) // 4]).max() > 0.03
        assert footprints[number].meta["text"] == row["file"]


def test_full_resolution_map_ends_where_the_footprints_do(data: Path) -> None:
    path = f"{uds_prefix(data)}_wcs.csv"
    log = read_exposure_log(path)
    prefix = str(path).replace("_wcs.csv", "")
    wcs, shape = header_wcs(fits.getheader(f"{prefix}_drc_sci.fits.gz")), (820, 1000)
    seconds = log.exposure_map(wcs, shape)
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 1000, 20_000), rng.integers(0, 820, 20_000)
    expected = (log.coverage(wcs.pixel_to_world(x, y)) @ log.table["exptime"].value).astype(np.float32)
    wrong = np.abs(seconds[y, x] - expected) > 1
    # Every pixel that differs has an edge within 0.01 arcsec, a quarter of a pixel.
    assert wrong.sum() < 20
    centres = wcs.pixel_to_world(x[wrong], y[wrong])
    around = [centres.directional_offset_by(angle * u.deg, 0.01 * u.arcsec) for angle in range(0, 360, 15)]
    changed = [(log.coverage(place) != log.coverage(centres)).toarray().any(axis=1) for place in around]
    assert np.all(np.any(changed, axis=0))
    assert len(np.unique(expected)) > 20
    # By the archive's rule edges are up to 3 pixels off.
    assert np.mean(log.exposure_map(wcs, shape, rule="archive")[y, x] != np.floor(expected)) > 0.01


class TestChecks:
    @pytest.mark.parametrize("band", BANDS)
    def test_real_header_and_log_agree(self, data: Path, band: str) -> None:
        prefix = uds_prefix(data, band)
        log = read_exposure_log(f"{prefix}_wcs.csv")
        assert compare_with_header(log, fits.getheader(f"{prefix}_drc_sci.fits.gz")) == []
        assert len(describe_log(log)[0]) == 2

    def test_each_difference_is_named(self, data: Path) -> None:
        prefix = uds_prefix(data)
        log = read_exposure_log(f"{prefix}_wcs.csv")
        header = fits.getheader(f"{prefix}_drc_sci.fits.gz")
        header["NDRIZIM"], header["EXPTIME"] = 300, 1.0
        header["FLT00001"], header["FLT00002"] = header["FLT00002"], header["FLT00001"]
        number, time, order = compare_with_header(log, header)
        assert number == "NDRIZIM is 300, but the log has 297 rows of 297 files"
        assert time == "EXPTIME is 1.000 s, but the log's 297 files sum up to 286156.383 s"
        assert order == "the log's files have another order than the FLT cards, from number 1 on"
        header["FLT00001"] = "jw0_rate.fits"
        first, second = compare_with_header(log, header)[2:]
        assert first == "1 FLT cards are not in the log, such as jw0_rate.fits"
        assert second == "1 files of the log have no FLT card, such as jw01837001001_08201_00001_nrcblong_rate.fits"

    def test_chips_count_once(self, data: Path, tmp_path: Path) -> None:
        table = Table.read(f"{uds_prefix(data)}_wcs.csv")[:4]
        table["file"] = ["jbhm51d3q_flc.fits"] * 2 + ["jbhm51d4q_flc.fits"] * 2
        table["ext"] = [1, 2, 1, 2]
        table.write(tmp_path / "x_wcs.csv")
        log = read_exposure_log(tmp_path / "x_wcs.csv")
        header = {"EXPTIME": 2 * 418.734, "FLT00001": "jbhm51d3q_flc.fits", "FLT00002": "jbhm51d4q_flc.fits"}
        for number in (2, 4):  # files, as the archive counts, or chips
            assert compare_with_header(log, header | {"NDRIZIM": number}) == []
        assert len(compare_with_header(log, header | {"NDRIZIM": 3})) == 1


def test_products_keep_what_exists(data: Path, tmp_path: Path) -> None:
    log = read_exposure_log(f"{uds_prefix(data)}_wcs.csv").select(program=6480)
    write_footprints(log, tmp_path / "x.reg")
    with pytest.raises(PhotplugError, match=r"x.reg: already exists"):
        write_footprints(log, tmp_path / "x.reg")
    with pytest.raises(PhotplugError, match=r"x.txt: the suffix must be one of .reg"):
        write_footprints(log, tmp_path / "x.txt")
    with pytest.raises(PhotplugError, match=r"x.png: the suffix must be one of .fits"):
        write_exposure_map(log, tmp_path / "x.png", plan_sky(log.geometry.outline())[0], (10, 10))
