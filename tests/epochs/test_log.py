"""Exposure logs: containment against a plain astropy loop, epochs, maps and MOC against hand-made ones."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from dja_photplug.epochs.log import read_exposure_log
from dja_photplug.errors import PhotplugError
from tests.epochs.shots import FIELDS, field_of_shots, gapped_log, scatter, write_shots
from tests.helpers import BANDS, DETECTOR_PIXEL, contain_plainly, make_row, make_wcs, row_wcs, uds_prefix, write_rows


def sip_terms(order: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return random SIP columns that move the detector's corners by some 10 pixels."""
    terms: dict[str, Any] = {"a_order": order, "b_order": order}
    for letter in "ab":
        for i in range(order + 1):
            for j in range(order + 1 - i):
                if i + j >= min(2, order):
                    terms[f"{letter}_{i}_{j}"] = 10 * rng.normal() / 640 ** (i + j) / order
    return terms


def scatter_positions(row: dict[str, Any], count: int, rng: np.random.Generator, margin: float = 300) -> SkyCoord:
    """Return positions on and around a detector, half of them within 2 pixels of an edge's coordinate."""
    size = np.array([float(row["naxis1"]), float(row["naxis2"])])
    pixels = rng.uniform(-margin, size + margin, (count, 2))
    near = rng.integers(0, 2, (count // 2, 2)) * size - 0.5
    # 0.01 pixel off the edge: astropy stops at 1e-4 pixel, and a tie is not what is tested.
    near += rng.choice([-1, 1], near.shape) * rng.uniform(0.01, 2, near.shape)
    which = rng.integers(0, 2, len(near))
    pixels[np.arange(len(near)), which] = near[np.arange(len(near)), which]
    ra, dec = row_wcs(row).all_pix2world(pixels, 0).T
    return SkyCoord(ra, dec, unit="deg")


class TestReal:
    @staticmethod
    def rows(data: Path, band: str) -> tuple[Path, list[dict[str, Any]]]:
        path = Path(f"{uds_prefix(data, band)}_wcs.csv")
        with path.open() as stream:
            return path, list(csv.DictReader(stream))

    @pytest.mark.parametrize("band", BANDS)
    def test_coverage_is_astropys_near_the_edges_of_some_exposures(self, data: Path, band: str) -> None:
        path, rows = self.rows(data, band)
        log = read_exposure_log(path)
        rng = np.random.default_rng(1)
        for exposure in rng.choice(len(rows), 12, replace=False):
            coords = scatter_positions(rows[exposure], 1000, rng)
            expected = contain_plainly(row_wcs(rows[exposure]), coords)
            assert 200 < expected.sum() < 900
            np.testing.assert_array_equal(log.coverage(coords).toarray()[:, exposure], expected)

    def test_epochs_are_those_of_a_loop_over_a_whole_band(self, data: Path) -> None:
        path, rows = self.rows(data, "f444w")
        rng = np.random.default_rng(2)
        coords = SkyCoord(34.36555 + rng.uniform(-0.05, 0.15, 100), -5.24 + rng.uniform(-0.1, 0.1, 100), unit="deg")
        inside = np.array([contain_plainly(row_wcs(row), coords) for row in rows]).T
        log = read_exposure_log(path)
        np.testing.assert_array_equal(log.coverage(coords).toarray(), inside)
        epochs = log.epochs(coords)
        times = np.array([float(row["exptime"]) for row in rows])
        for covered, epoch in zip(inside, epochs, strict=True):
            seen = [row for row, yes in zip(rows, covered, strict=True) if yes]
            assert epoch["n_exp"] == len(seen)
            assert epoch["n_visit"] == len({row["file"][:13] for row in seen})
            assert epoch["exptime"].value == pytest.approx(times[covered].sum(), rel=1e-12)
            if seen:
                mean = np.average([float(row["mjd-avg"]) for row in seen], weights=times[covered])
                # 1e-8 d (1 ms): the sum of MJD x seconds rounds at 1e-16 of 6e4 d x some hundred terms.
                assert epoch["mjd_mean"].value == pytest.approx(mean, rel=0, abs=1e-8)
                assert epoch["mjd_min"].value == min(float(row["mjd-beg"]) for row in seen)
                assert epoch["mjd_max"].value == max(float(row["mjd-end"]) for row in seen)
            else:
                assert np.isnan([epoch[f"mjd_{part}"].value for part in ("mean", "min", "max")]).all()

    @pytest.mark.parametrize("band", BANDS)
    def test_table(self, data: Path, band: str) -> None:
        path, rows = self.rows(data, band)
        log = read_exposure_log(path)
        header = fits.getheader(str(path).replace("_wcs.csv", "_drc_sci.fits.gz"))
        assert len(log) == header["NDRIZIM"] == len(rows)
        assert log.table["exptime"].sum().value == pytest.approx(header["EXPTIME"], rel=1e-12)
        detectors = {"f444w": {"NRCALONG", "NRCBLONG"}, "f115w": {f"NRC{m}{i}" for m in "AB" for i in (1, 2, 3, 4)}}
        assert set(log.table["detector"]) == detectors[band]

    @pytest.mark.parametrize("band", BANDS)
    def test_exposure_map_is_the_archives(self, data: Path, band: str) -> None:
        prefix = uds_prefix(data, band)
        header = fits.getheader(f"{prefix}_drc_sci.fits.gz")
        for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"):
            header.remove(key, ignore_missing=True)
        log = read_exposure_log(f"{prefix}_wcs.csv")
        ours = log.exposure_map(WCS(header), (header["NAXIS2"], header["NAXIS1"]), sample=4)
        theirs = fits.getdata(f"{prefix}_drc_exp.fits.gz")
        assert ours.shape == theirs.shape
        # Measured 0.99980 and 0.99994: single samples on the sides. Corners at the edges of pixels give 0.988 at most.
        assert np.mean(ours == theirs) >= 0.999


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("ra", "dec"), [(150.0, 2.0), (0.0003, 10.0), (359.9999, -30.0), (77.0, -89.9), (200.0, 89.999)]
)
def test_coverage_is_astropys_everywhere_on_the_sky(tmp_path: Path, order: int, ra: float, dec: float) -> None:
    rng = np.random.default_rng(order)
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = DETECTOR_PIXEL * np.cos(angle), DETECTOR_PIXEL * np.sin(angle)
    turned = {"cd1_1": -cos, "cd1_2": sin, "cd2_1": sin, "cd2_2": cos}
    distorted = make_row(crval1=ra, crval2=dec, **turned, **sip_terms(order, rng))
    plain = make_row(
        ext=2, crval1=ra, crval2=dec + 0.0005, crpix1=-200.0, ctype1="RA---TAN", ctype2="DEC--TAN", **turned
    )
    # A stacked log has the SIP columns of other rows, empty.
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [distorted, plain]))
    for exposure, row in enumerate([distorted, plain]):
        coords = scatter_positions(row, 5000, rng)
        expected = contain_plainly(row_wcs(row), coords)
        assert 1000 < expected.sum() < 4500
        np.testing.assert_array_equal(log.coverage(coords).toarray()[:, exposure], expected)


def test_pc_with_cdelt_and_a_default_matrix_element(tmp_path: Path) -> None:
    row = {key: cell for key, cell in make_row().items() if not key.startswith("cd")}
    row |= {
        "cdelt1": -DETECTOR_PIXEL,
        "cdelt2": DETECTOR_PIXEL,
        "pc1_1": 0.8,
        "pc1_2": 0.6,
        "pc2_1": -0.6,
        "pc2_2": 0.8,
    }
    sheared = row | {"ext": 2, "pc1_2": "", "pc2_1": ""}
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [row, sheared, make_row(ext=3, cdelt1=1, cdelt2=1)]))
    rng = np.random.default_rng(3)
    for exposure, plain in enumerate([row, sheared, make_row()]):
        coords = scatter_positions(plain, 1000, rng)
        expected = contain_plainly(row_wcs(plain), coords)
        np.testing.assert_array_equal(log.coverage(coords).toarray()[:, exposure], expected)


def test_the_edges_are_half_open(tmp_path: Path) -> None:
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [make_row(crval1=0, crval2=0)]))
    # 0-based pixels of the lower left edge, and of just inside and outside it; x grows to the west.
    x = np.array([-0.5 + 1e-6, -0.5 - 1e-6, 999.5 - 1e-6, 999.5 + 1e-6])
    coords = SkyCoord(np.rad2deg(np.arctan(np.deg2rad(-(x - 499.5) * DETECTOR_PIXEL))), 0, unit="deg")
    np.testing.assert_array_equal(log.coverage(coords).toarray()[:, 0], [True, False, True, False])


def test_two_chips_and_repeated_rows(tmp_path: Path) -> None:
    file = "jbhm51d3q_flc.fits"
    one = make_row(file=file, ext=1)
    two = make_row(file=file, ext=2, crval2=2.0 + 850 * DETECTOR_PIXEL)
    path = write_rows(tmp_path / "x_wcs.csv", [one, two, one, make_row(file="jbhm52d4q_flc.fits", ext=1)])
    log = read_exposure_log(path)
    assert len(log) == 3
    assert log.duplicates == 1
    assert list(log.table["ext"]) == [1, 2, 1]
    assert list(log.table["visit"]) == ["jbhm51", "jbhm51", "jbhm52"]
    assert list(log.table["detector"]) == ["WFC"] * 3
    # On chip 1, in the gap of 50 pixels, on chip 2.
    epochs = log.epochs(SkyCoord([150] * 3, 2 + np.array([0, 425, 850]) * DETECTOR_PIXEL, unit="deg"))
    assert list(epochs["n_exp"]) == [2, 0, 1]
    assert list(epochs["n_visit"]) == [2, 0, 1]
    without_ext = [{key: cell for key, cell in row.items() if key != "ext"} for row in (one, two, one)]
    assert len(read_exposure_log(write_rows(tmp_path / "y_wcs.csv", without_ext))) == 2


def test_epochs_by_hand(tmp_path: Path) -> None:
    def exposure(visit: str, number: int, exptime: float, begin: float, **more: Any) -> dict[str, Any]:
        file = f"jw01837001{visit}_02101_{number:05d}_mirimage_rate.fits"
        dates = {"mjd-beg": begin, "mjd-avg": begin + 1, "mjd-end": begin + 2}
        return make_row(file=file, exptime=exptime, **dates, **more)

    rows = [
        exposure("001", 1, 100, 60010),
        exposure("001", 2, 300, 60000),
        exposure("002", 1, 100, 60020, crval1=150 + 500 * DETECTOR_PIXEL),  # only over the eastern half of the others
        exposure("003", 1, 900, 60099, crval1=10.0),
    ]
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", rows))
    assert set(log.table["detector"]) == {"MIRIMAGE"}
    epochs = log.epochs(
        SkyCoord(
            [150 + 200 * DETECTOR_PIXEL, 150 - 200 * DETECTOR_PIXEL, 90.0, np.nan], [2.0, 2.0, 2.0, 2.0], unit="deg"
        )
    )
    assert list(epochs["n_exp"]) == [3, 2, 0, 0]
    assert list(epochs["n_visit"]) == [2, 1, 0, 0]
    assert epochs["n_exp"].dtype.kind == epochs["n_visit"].dtype.kind == "i"
    np.testing.assert_array_equal(epochs["exptime"].to_value("s"), [500, 400, 0, 0])
    mean = (100 * 60011 + 300 * 60001 + 100 * 60021) / 500
    np.testing.assert_allclose(epochs["mjd_mean"].to_value("d"), [mean, 60003.5, np.nan, np.nan], rtol=1e-14)
    np.testing.assert_array_equal(epochs["mjd_min"].to_value("d"), [60000, 60000, np.nan, np.nan])
    np.testing.assert_array_equal(epochs["mjd_max"].to_value("d"), [60022, 60012, np.nan, np.nan])
    assert len(log.epochs(SkyCoord([], [], unit="deg"))) == 0
    assert log.epochs(SkyCoord(150, 2, unit="deg"))["n_exp"].tolist() == [3]


def test_missing_dates(tmp_path: Path) -> None:
    here = SkyCoord([150], [2], unit="deg")
    undated = {key: cell for key, cell in make_row(exptime=900).items() if not key.startswith("mjd")}
    only = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [undated])).epochs(here)
    assert only["exptime"][0].value == 900
    assert np.isnan([only[f"mjd_{part}"][0].value for part in ("mean", "min", "max")]).all()
    mixed = read_exposure_log(write_rows(tmp_path / "y_wcs.csv", [make_row(ext=2), undated])).epochs(here)
    assert [mixed[f"mjd_{part}"][0].value for part in ("mean", "min", "max")] == [60000.5, 60000, 60001]
    assert mixed["exptime"][0].value == pytest.approx(1000.9)


def test_column_names_in_capitals(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    row = make_row(**sip_terms(3, rng))
    lower = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [row]))
    upper = read_exposure_log(write_rows(tmp_path / "y_wcs.csv", [{key.upper(): cell for key, cell in row.items()}]))
    np.testing.assert_array_equal(upper.geometry.sip, lower.geometry.sip)
    assert np.count_nonzero(upper.geometry.sip) == 2 * (3 + 4)  # order 3: i + j = 2 and 3
    assert upper.table["mjd_avg"][0].value == 60000.5


def square_mosaic() -> WCS:
    """Return the made-up detector's own grid: 0-based mosaic pixel x is detector pixel x - 10."""
    return make_wcs(DETECTOR_PIXEL * 3600, (510.5, 410.5), crval=(150, 2))


@pytest.mark.parametrize("shape", [(840, 1040), (841, 1041), (842, 1042), (843, 1043)])
def test_exposure_map_of_a_square_in_every_remainder(tmp_path: Path, shape: tuple[int, int]) -> None:
    # Corners at the centres of detector pixels 0 and naxis - 1, off the samples, where rounding decides nothing.
    wcs = square_mosaic()
    wcs.wcs.crpix += 0.25
    rows = [make_row(), make_row(ext=2), make_row()]
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", rows))
    sampled = log.exposure_map(wcs, shape, sample=4)
    assert sampled.dtype == np.float32
    assert sampled.shape == (shape[0] // 4, shape[1] // 4)
    expected = np.zeros(sampled.shape)
    expected[3:203, 3:253] = 200  # mosaic pixels 10.25 to 809.25 and to 1009.25; 100.9 s count as 100, twice
    np.testing.assert_array_equal(sampled, expected)
    full = log.exposure_map(wcs, shape, rule="archive")
    np.testing.assert_array_equal(full[::4, ::4][: shape[0] // 4, : shape[1] // 4], sampled)
    assert full.sum(dtype=float) == 799 * 999 * 200


def test_exposure_map_of_a_turned_square(tmp_path: Path) -> None:
    half = DETECTOR_PIXEL / np.sqrt(2)
    row = make_row(cd1_1=-half, cd1_2=half, cd2_1=half, cd2_2=half, naxis2=1000, crpix2=500.5, exptime=1)
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [row]))
    filled = log.exposure_map(square_mosaic(), (2000, 2000), rule="archive")
    # A diamond about mosaic pixel (509.5, 409.5), partly off the grid, from the centre of pixel 0 to that of 999.
    y, x = np.indices(filled.shape)
    distance = np.abs(x - 509.5) + np.abs(y - 409.5)
    assert np.all(filled[distance < 499.5 * np.sqrt(2) - 0.1] == 1)
    assert np.all(filled[distance > 499.5 * np.sqrt(2) + 0.1] == 0)


def test_archives_corners_are_astropys_footprint(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [make_row(ext=i, crval1=150 + i, **sip_terms(order, rng)) for i, order in ((1, 2), (2, 5))]
    path = write_rows(tmp_path / "x_wcs.csv", rows)
    corners = read_exposure_log(path).geometry.archive_corners()
    for row, vectors in zip(rows, corners, strict=True):
        cards = {key.upper(): value for key, value in row.items() if key not in ("file", "ext") and key[:3] != "mjd"}
        header = fits.Header(cards)
        ra, dec = np.deg2rad(WCS(header, relax=True).calc_footprint().T)
        expected = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-13)  # 2e-8 arcsec


def test_exposure_map_of_another_field_is_empty(tmp_path: Path) -> None:
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [make_row(crval1=330), make_row(ext=2, crval1=151)]))
    assert not log.exposure_map(square_mosaic(), (840, 1040), sample=4).any()


def test_map_of_other_rules_is_refused(data: Path) -> None:
    log = read_exposure_log(f"{uds_prefix(data)}_wcs.csv")
    with pytest.raises(
        PhotplugError, match="unknown rule 'dilated' for the exposure map; there are 'footprints' and 'archive'"
    ):
        log.exposure_map(WCS(naxis=2), (10, 10), rule="dilated")


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


@pytest.mark.parametrize(("ra", "dec", "order"), FIELDS)
def test_membership_is_that_of_the_plain_loop(tmp_path: Path, ra: float, dec: float, order: int) -> None:
    shots = field_of_shots(ra, dec, order)
    log = write_shots(tmp_path / "x_wcs.csv", shots)
    coords = scatter(ra, dec, 5000, np.random.default_rng(9))
    expected = np.array([contain_plainly(shot.wcs, coords) for shot in shots]).T
    assert 0.1 < expected.mean() < 0.8
    np.testing.assert_array_equal(log.coverage(coords).toarray(), expected)


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


def test_unknown_details_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PhotplugError, match="epochs have no columns colour; choose from visits, angles"):
        gapped_log(tmp_path).epochs(SkyCoord(150, 2, unit="deg"), ["colour"])


@pytest.mark.parametrize("order", [0, 3, 5])
def test_pixels_and_places_are_those_of_astropy(tmp_path, order):
    """In both directions, and the side of a pixel."""
    rng = np.random.default_rng(order)
    terms = sip_terms(order, rng) if order else {}
    rows = [make_row(file=f"{i}.fits", crval1=150.0 + 0.01 * i, **terms) for i in range(2)]
    log = read_exposure_log(write_rows(tmp_path / "log.csv", rows))
    pixels = rng.uniform([[0], [0]], [[999], [799]], (2, 50))
    for i, row in enumerate(rows):
        vectors = log.geometry.find_sky(i, pixels)
        expected = SkyCoord(*row_wcs(row).all_pix2world(*pixels, 0), unit="deg")
        np.testing.assert_allclose(vectors, expected.cartesian.xyz.value.T, atol=1e-12)
        back = log.geometry.find_pixels(np.full(50, i, np.int32), vectors)
        np.testing.assert_allclose(back, pixels, atol=1e-5)
    np.testing.assert_allclose(log.geometry.pixel_scales(), DETECTOR_PIXEL * 3600, rtol=1e-9)
