"""What is made from a log: footprints, maps, MOC, figure, checks of a mosaic, and the command ``epochs``."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS
from regions import Regions

from dja_photplug import PhotplugError, load_mosaic
from dja_photplug.cli.app import main
from dja_photplug.epochs.log import ExposureLog, read_exposure_log
from dja_photplug.epochs.polygons import fill_polygons
from dja_photplug.epochs.products import compare_with_header, describe_log, write_exposure_map, write_footprints
from dja_photplug.figures.epochs import COLOURS, epoch_figure, plan_sky
from dja_photplug.sky.grid import header_wcs
from tests.helpers import edge_points, row_wcs, uds_prefix

BANDS = ("f444w", "f115w")
PREFIX = "sim-test-v7.4-f444w-clear"


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


def test_map_of_other_rules_is_refused(data: Path) -> None:
    log = read_exposure_log(f"{uds_prefix(data)}_wcs.csv")
    with pytest.raises(PhotplugError, match="exposure map by the rule 'dilated'; there are 'footprints' and 'archive'"):
        log.exposure_map(WCS(naxis=2), (10, 10), rule="dilated")


@pytest.mark.parametrize("turned", [False, True])
def test_polygons_need_not_be_convex(turned: bool) -> None:
    letter_c = np.array(
        [[0.5, 0.5], [8.5, 0.5], [8.5, 2.5], [3.5, 2.5], [3.5, 6.5], [8.5, 6.5], [8.5, 9.5], [0.5, 9.5]]
    )
    polygons = np.stack([letter_c, letter_c + np.array([5, 0])])[:, :: -1 if turned else 1]
    expected = np.zeros((12, 12), np.float32)
    for left, value in ((1, 2.25), (6, 0.125)):
        expected[1:10, left : left + 8] += value
        expected[3:7, left + 3 : left + 8] -= value
    np.testing.assert_array_equal(fill_polygons(polygons, np.array([2.25, 0.125]), (12, 12)), expected)


def test_exposure_times_add_up_without_rounding_errors() -> None:
    rng = np.random.default_rng(6)
    corners = rng.uniform(-20, 220, (50, 1, 2)) + np.array([[0, 0], [60, 3], [55, 50], [2, 55]])
    seconds = np.round(rng.uniform(100, 20000, 50), 3)
    filled = fill_polygons(corners, seconds, (200, 200))
    empty = fill_polygons(corners, np.ones(50), (200, 200)) == 0
    assert 0 < empty.sum() < 40000
    assert np.all(filled[empty] == 0)
    assert filled[~empty].min() >= 99.999


@pytest.mark.skipif(find_spec("mocpy") is None, reason="needs mocpy, of the extra moc")
def test_moc_is_the_area_of_the_exposures(data: Path) -> None:
    log = read_exposure_log(f"{uds_prefix(data)}_wcs.csv").select(program=[3990, 6480])
    moc = log.moc(order=18)
    rng = np.random.default_rng(7)
    coords = SkyCoord(rng.uniform(34.1, 34.4, 5000), rng.uniform(-5.25, -5.0, 5000), unit="deg")
    inside = log.coverage(coords).toarray().any(axis=1)
    assert 0.1 < inside.mean() < 0.9
    # Cells of 0.8 arcsec overlap the edges: positions that differ are no farther than a cell's diagonal from one.
    wrong = moc.contains_skycoords(coords) != inside
    assert wrong.mean() < 0.02
    assert not np.any(inside & wrong)


def test_moc_without_mocpy(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dja_photplug.epochs.log.find_spec", lambda name: None)
    log = read_exposure_log(f"{uds_prefix(data)}_wcs.csv")
    with pytest.raises(PhotplugError, match=r"needs mocpy, which is not installed; pip install .dja_photplug\[moc\]"):
        log.moc()


class TestChecks:
    @pytest.mark.parametrize("band", BANDS)
    def test_real_header_and_log_agree(self, data: Path, band: str) -> None:
        prefix = uds_prefix(data, band)
        log = read_exposure_log(f"{prefix}_wcs.csv")
        assert compare_with_header(log, fits.getheader(f"{prefix}_drc_sci.fits.gz")) == []
        assert len(describe_log(log)) == 2

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


@pytest.fixture
def folder(simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds a copy of the simulated products as ``sim``, and is the working directory."""
    for path in simulated.prefix.parent.glob(f"{simulated.prefix.name}_*"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestCommand:
    def test_files(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = f"epochs {PREFIX} --footprints out.reg --exposure-map out.fits --plot out.png"
        assert main(command.split()) == 0
        captured = capsys.readouterr()
        assert captured.out == f"out.reg, out.fits, out.png: 6 exposures of {PREFIX}_wcs.csv\n"
        assert captured.err == ""
        log = read_exposure_log(f"{PREFIX}_wcs.csv")
        assert [region.meta["text"] for region in Regions.read("out.reg")] == list(log.table["file"])
        assert Path("out.reg").read_text().startswith("# Region file format: DS9")
        seconds, header = fits.getdata("out.fits", header=True)
        science = fits.getheader(f"{PREFIX}_drc_sci.fits.gz")
        assert seconds.shape == (science["NAXIS2"], science["NAXIS1"])
        assert header["BUNIT"] == "s"
        place = header_wcs(science).pixel_to_world(12.5, 34.5)
        assert WCS(header).world_to_pixel(place) == pytest.approx((12.5, 34.5), abs=1e-6)
        assert seconds[100, 100] == np.float32(6 * 837.468)
        assert Path("out.png").read_bytes().startswith(b"\x89PNG")
        assert main(command.split()) == 1  # they exist

    def test_map_like_another_image(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        load_mosaic(PREFIX)[50:90, 20:80].write("part.fits")
        shutil.copy(f"{PREFIX}_wcs.csv", "alone_wcs.csv")
        alone = ["epochs", "alone_wcs.csv"]
        assert main([*alone, "--exposure-map", "a.fits", "--like", "part.fits"]) == 0
        assert main(f"epochs {PREFIX} --exposure-map b.fits.gz --quiet".split()) == 0
        np.testing.assert_array_equal(fits.getdata("a.fits"), fits.getdata("b.fits.gz")[50:90, 20:80])
        capsys.readouterr()
        assert main([*alone, "--exposure-map", "c.fits"]) == 1
        assert "alone" in capsys.readouterr().err
        assert main([*alone, "--exposure-map", "c.fits", "--like", PREFIX]) == 0
        assert main([*alone, "--plot", "a.pdf"]) == 0
        assert Path("a.pdf").read_bytes().startswith(b"%PDF")

    def test_details_of_a_position_and_a_catalogue(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        centre = load_mosaic(PREFIX).wcs.pixel_to_world(100, 100)
        place = f"--position {centre.ra.deg} {centre.dec.deg}"
        assert main(f"epochs {PREFIX} {place} --epoch-details visits,angles,barycentric".split()) == 0
        lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert lines["visits"] == "jw09999001001 jw09999001002"
        assert lines["visit_exptime"] == "2512.404 2512.404"
        assert [float(angle) for angle in lines["visit_pa"].split()] == pytest.approx(
            [15, 102], abs=0.5
        )  # the distortion turns
        assert abs(float(lines["bmjd_mean"].split()[0]) - float(lines["mjd_mean"].split()[0])) < 600 / 86400
        QTable({"ra": [centre.ra.deg] * u.deg, "dec": [centre.dec.deg] * u.deg}).write("mine.fits")
        Path("o.toml").write_text('[epochs]\ndetails = ["gap", "edge"]\nvisit_gap = 1000\n')
        assert main(f"epochs {PREFIX} --catalog mine.fits -o out.fits --config o.toml".split()) == 0
        table = QTable.read("out.fits")
        assert table["n_visit"].tolist() == [1]
        assert table["gap_max"][0].to_value(u.d) == pytest.approx(372, abs=0.1)
        assert table["edge_dist"].unit == u.arcsec
        capsys.readouterr()
        assert main(f"epochs {PREFIX} {place} --epoch-details colour".split()) == 1
        assert "option details: 'colour' is not one of none, all, visits" in capsys.readouterr().err

    def test_info_prints_what_differs(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", PREFIX]) == 0
        whole = capsys.readouterr().out
        assert "differs" not in whole
        share = float(whole.split("exp map")[1].split("%")[0])
        assert share > 99
        log = Path(f"{PREFIX}_wcs.csv")
        lines = log.read_text().splitlines()
        log.write_text("\n".join([*lines[:-1], lines[1]]) + "\n")
        assert main(["info", PREFIX]) == 0
        text = capsys.readouterr().out
        assert "differs     1 rows repeat another (file, ext)" in text
        assert "differs     NDRIZIM is 6, but the log has 5 rows of 5 files" in text
        assert "differs     EXPTIME is 5024.808 s, but the log's 5 files sum up to 4187.340 s" in text
        assert "1 FLT cards are not in the log" in text

    def test_log_of_another_field(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        table = Table.read(f"{PREFIX}_wcs.csv")
        table["crval1"] += 5
        table.write(f"{PREFIX}_wcs.csv", overwrite=True)
        assert main(["info", PREFIX]) == 0
        assert "differs     no exposure of the log overlaps the mosaic; is it the log" in capsys.readouterr().out
        Path(f"{PREFIX}_drc_exp.fits.gz").unlink()
        assert main(f"weight {PREFIX} -o x.fits".split()) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "none of the 6 exposures of" in error
        QTable({"ra": [34.3] * u.deg, "dec": [-5.1] * u.deg}).write("mine.fits")
        assert main(f"epochs {PREFIX} --catalog mine.fits -o out.fits".split()) == 0
        warning = capsys.readouterr().err
        assert warning.count("\n") == 1
        assert "none of the 1 positions is in any of its 6 exposures" in warning

    def test_map_from_the_log_is_recorded(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with_map = load_mosaic(PREFIX)
        Path(f"{PREFIX}_drc_exp.fits.gz").unlink()
        without = load_mosaic(PREFIX)
        assert (with_map.meta["EXPFROM"], without.meta["EXPFROM"]) == ("exp file", "WCS log")
        assert main(f"weight {PREFIX} -o x.fits".split()) == 0
        assert "published exposure map made from the WCS log" in capsys.readouterr().out
        assert fits.getheader("x.fits")["EXPFROM"] == "WCS log"
        assert main(["info", PREFIX]) == 0
        assert "exp map     made from the log, by the archive's rule" in capsys.readouterr().out


class TestFigure:
    @staticmethod
    def draw(log: ExposureLog, programs: list[str] | None = None):
        table = log.table.copy()
        if programs:
            table["program"] = programs
        log = replace(log, table=table)
        outlines = log.geometry.outline()
        wcs, shape = plan_sky(outlines)
        polygons = np.stack(
            wcs.world_to_pixel(SkyCoord(*np.moveaxis(outlines, -1, 0), representation_type="cartesian")), -1
        )
        return polygons, shape, epoch_figure(
            "x", wcs, log.exposure_map(wcs, shape), polygons, np.asarray(table["program"]), log.visits()
        )  # fmt: skip

    def test_all_footprints_are_on_the_map(self, data: Path) -> None:
        polygons, shape, figure = self.draw(read_exposure_log(f"{uds_prefix(data)}_wcs.csv"))
        assert polygons.min() > 0
        assert (polygons.max(axis=(0, 1)) < shape[::-1]).all()
        assert polygons.max() > 0.9 * max(shape)
        sky, time = (next(axes for axes in figure.axes if axes.get_label() == name) for name in ("sky", "time"))
        drawn = sum(len(collection.get_paths()) for collection in sky.collections)
        assert drawn == 297
        assert sum(len(line.get_xdata()) for line in time.lines) == 70
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert texts[0] == "1837: 57 visits, 95.5 ks"

    @pytest.mark.parametrize(("ra", "dec"), [(0.0, 10.0), (77.0, -89.99), (200.0, 89.0)])
    def test_seam_and_poles(self, tmp_path: Path, simulated, ra: float, dec: float) -> None:
        table = Table.read(f"{simulated.prefix}_wcs.csv")
        table["crval1"], table["crval2"] = ra, dec
        table.write(tmp_path / "x_wcs.csv")
        polygons, shape, _ = self.draw(read_exposure_log(tmp_path / "x_wcs.csv"))
        assert polygons.min() > 0
        assert (polygons.max(axis=(0, 1)) < shape[::-1]).all()
        assert polygons.max() > 0.9 * max(shape)

    def test_many_programs_and_no_dates(self, tmp_path: Path, simulated) -> None:
        table = Table.read(f"{simulated.prefix}_wcs.csv")
        table = table[[0] * 9]
        table["file"] = [f"jw{1000 + i:05d}001001_02101_00001_nis_rate.fits" for i in range(9)]
        table.remove_columns([name for name in table.colnames if name.startswith(("mjd-", "date-"))])
        table.write(tmp_path / "x_wcs.csv")
        *_, figure = self.draw(read_exposure_log(tmp_path / "x_wcs.csv"))
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert len(texts) == len(COLOURS) + 1
        assert texts[-1] == "3 more programs"
        assert "9 visits without a date" in figure.legends[0].get_title().get_text()
        figure.savefig(tmp_path / "x.png")  # nothing to show in time, and no warning


def test_products_keep_what_exists(data: Path, tmp_path: Path) -> None:
    log = read_exposure_log(f"{uds_prefix(data)}_wcs.csv").select(program=6480)
    write_footprints(log, tmp_path / "x.reg")
    with pytest.raises(PhotplugError, match=r"x.reg: exists already"):
        write_footprints(log, tmp_path / "x.reg")
    with pytest.raises(PhotplugError, match=r"x.txt: this output is written as .reg"):
        write_footprints(log, tmp_path / "x.txt")
    with pytest.raises(PhotplugError, match=r"x.png: this output is written as .fits"):
        write_exposure_map(log, tmp_path / "x.png", plan_sky(log.geometry.outline())[0], (10, 10))
