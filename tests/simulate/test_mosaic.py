"""Simulated mosaics: is the truth true, is the noise what the weight says, are the products like real ones?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.wcs import WCS

from dja_photplug.errors import PhotplugError
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, SimulatedMosaic, simulate_mosaic, simulate_scene
from tests.helpers import row_wcs, uds_prefix

pytest.importorskip("drizzle", reason="the simulator needs the extra: dja_photplug[demo]")


@dataclass(frozen=True)
class Products:
    """All planes of a simulated mosaic as native arrays."""

    mosaic: SimulatedMosaic
    header: fits.Header
    science: np.ndarray
    weight: np.ndarray
    truth: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def plane(self, kind: str) -> np.ndarray:
        return fits.getdata(f"{self.mosaic.prefix}_drc_{kind}.fits").astype(float)

    def sums(self, image: np.ndarray, radius: float) -> np.ndarray:
        return sep.sum_circle(image, self.x, self.y, radius, subpix=0)[0]


def make(directory: Path, scene: QTable, **options: object) -> Products:
    mosaic = simulate_mosaic(directory, scene, MosaicOptions(compress=False, **options))
    with fits.open(f"{mosaic.prefix}_drc_sci.fits") as hdus:
        header, science = hdus[0].header, hdus[0].data.astype(float)
    x, y = WCS(header).wcs_world2pix(scene["ra"], scene["dec"], 0)
    weight = fits.getdata(f"{mosaic.prefix}_drc_wht.fits").astype(float)
    truth = fits.getdata(mosaic.truth_image).astype(float)
    return Products(mosaic, header, science, weight, truth, x, y)


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Products:
    """256 isolated stars of 10 to 50 uJy, 58 pixels apart on average."""
    scene = simulate_scene(
        SceneOptions(shape=(934, 935), n_sources=256, star_fraction=1, flux_range=(10, 50), flux_slope=0, isolated=True)
    )
    return make(tmp_path_factory.mktemp("stars"), scene, n_exposures=4, var=True)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Products:
    """A field without sources."""
    scene = simulate_scene(SceneOptions(shape=(900, 900), n_sources=0))
    return make(tmp_path_factory.mktemp("empty"), scene, n_exposures=5)


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Products:
    """Two small detectors side by side: footprints end inside the mosaic, whose sides are 2 and 3 modulo 4."""
    scene = simulate_scene(SceneOptions(shape=(502, 607), n_sources=30))
    return make(
        tmp_path_factory.mktemp("partial"),
        scene,
        detectors=("nrcalong", "nrcblong"),
        detector_size=160,
        dither=2.5,
        n_exposures=3,
    )


# ---- fluxes


def test_truth_image_holds_the_fluxes_of_the_list(stars: Products) -> None:
    true = stars.mosaic.scene["f444w_flux"].value * 100
    ratio = stars.sums(stars.truth, 25.0) / true
    # Drizzling shuffles up to 0.3 % of a star between pixels of different weight; the mean stays.
    assert np.median(ratio) == pytest.approx(1, abs=5e-4)
    assert np.abs(ratio - 1).max() < 5e-3
    assert stars.truth.sum() / true.sum() == pytest.approx(1, abs=5e-4)


def test_truth_image_has_the_sources_in_their_places(stars: Products) -> None:
    x, y, _ = sep.winpos(stars.truth, stars.x + 0.3, stars.y - 0.3, 1.6)
    # Uneven dithers move the light of one star by some 0.005 px; the mean by less.
    assert np.abs([x - stars.x, y - stars.y]).max() < 0.03
    assert np.abs([np.mean(x - stars.x), np.mean(y - stars.y)]).max() < 0.002


def test_science_image_is_truth_and_noise(stars: Products) -> None:
    pull = (stars.science - stars.truth) * np.sqrt(stars.weight)
    assert abs(np.median(pull)) < 0.005  # background subtraction; 870,000 pixels


def test_subsampled_mosaic_nests_in_the_coarse_one(tmp_path: Path) -> None:
    scene = simulate_scene(SceneOptions(shape=(151, 202), n_sources=4, star_fraction=1, isolated=True))
    coarse, fine = (make(tmp_path / str(n), scene, n_exposures=4, subsample=n) for n in (1, 2))
    assert fine.science.shape == (302, 404)
    np.testing.assert_allclose(fine.x, 2 * coarse.x + 0.5, atol=1e-6)
    np.testing.assert_allclose(fine.y, 2 * coarse.y + 0.5, atol=1e-6)
    np.testing.assert_allclose(fine.sums(fine.truth, 40), coarse.sums(coarse.truth, 20), rtol=5e-3)


# ---- noise


def test_weight_is_the_variance_of_the_exposures(empty: Products) -> None:
    """By hand: electrons of sky and read noise, to mosaic units, over exposures and pixel areas."""
    options = MosaicOptions()
    electrons = 1.88 * 837.468
    phot_scale = 1 / 0.387729 * 1e-8 / 8.88250488346685e-08
    assert options.phot_scale == pytest.approx(phot_scale, rel=1e-12)
    variance = (12.0**2 + 0.6 * electrons) / (electrons * phot_scale) ** 2  # of a detector pixel, one exposure
    expected = 10 * 0.995 / (variance * (0.04 / 0.063) ** 2)  # 0.5 % of the pixels are bad
    # The SIP changes pixel areas by 2 %, the flat field takes it out to second order.
    assert empty.weight.mean() == pytest.approx(expected, rel=0.01)
    assert np.all(empty.weight > 0)
    # Up to the very edge: sampling error of a row of 900 with a scatter of 12 %, and its neighbours' correlation.
    edges = [empty.weight[0], empty.weight[-1], empty.weight[:, 0], empty.weight[:, -1]]
    np.testing.assert_allclose(np.mean(edges, axis=1), expected, rtol=0.03)


@pytest.mark.parametrize(("radius", "factor"), [(2.0, 0.82), (4.0, 0.92), (12.5, 0.98), (25.0, 1.0)])
def test_empty_apertures_scatter_as_the_weight_says(empty: Products, radius: float, factor: float) -> None:
    """The published a(r): 0.82 at 2 px, 0.92 at 4, 1 beyond 12 (here 0.836, 0.918, 0.975, 0.985 to 0.99)."""
    count = int(900**2 / (np.pi * radius**2))
    x, y = np.random.default_rng(5).uniform(radius + 1, 898 - radius, (2, min(20 * count, 40_000)))
    flux = sep.sum_circle(empty.science, x, y, radius, subpix=0)[0]
    variance = sep.sum_circle(1 / empty.weight, x, y, radius, subpix=0)[0]
    scatter = np.std(flux / np.sqrt(variance))
    # `count` apertures are independent, however many overlap; three times their sampling error, and 0.02.
    assert scatter == pytest.approx(factor, abs=3 * factor / np.sqrt(2 * count) + 0.02)


def test_neighbouring_pixels_are_correlated(empty: Products) -> None:
    pull = empty.science * np.sqrt(empty.weight)
    assert np.std(pull) == pytest.approx(0.59, abs=0.02)  # simulations before these: 0.59; UDS F444W: 0.62
    assert np.mean(pull[:, 1:] * pull[:, :-1]) / np.var(pull) > 0.3


@pytest.mark.parametrize("radius", [6.25, 12.5])
def test_bright_sources_scatter_with_photons_over_gain(stars: Products, radius: float) -> None:
    deviation = stars.sums(stars.science, radius) - (light := stars.sums(stars.truth, radius))
    background = stars.sums(1 / stars.weight, radius)
    scale = MosaicOptions().phot_scale * stars.header["EXPTIME"]
    scatter = {
        name: np.std(deviation / np.sqrt(variance))
        for name, variance in {
            "weight alone": background,
            "detector gain": background + light / (1.88 * scale),
            "as published": background + light / scale,
            "var file": stars.sums(stars.plane("var"), radius),
        }.items()
    }
    # 256 stars: sampling error 0.044; a(r) is 0.95 to 0.98 for the background's part.
    assert scatter["detector gain"] == pytest.approx(0.99, abs=0.13)
    assert scatter["var file"] == pytest.approx(0.99, abs=0.13)
    assert scatter["weight alone"] > 2
    assert scatter["as published"] < 0.88


def test_var_file_is_one_over_weight_in_the_sky(stars: Products) -> None:
    sky = stars.truth < 1e-3
    ratio = (stars.plane("var") * stars.weight)[sky]
    # The pixel areas of the SIP vary by 2 %, which the median of VAR_POISSON does not follow.
    assert np.median(ratio) == pytest.approx(1, abs=0.005)
    assert np.all(np.abs(ratio - 1) < 0.05)


# ---- products


def test_exposure_map_agrees_with_the_log(partial: Products) -> None:
    log = Table.read(f"{partial.mosaic.prefix}_wcs.csv", format="ascii.csv")
    exposure = fits.getdata(f"{partial.mosaic.prefix}_drc_exp.fits")
    assert exposure.dtype == np.uint32
    assert exposure.shape == (125, 151)
    y, x = np.indices(exposure.shape) * 4
    ra, dec = WCS(partial.header).wcs_pix2world(x, y, 0)
    expected, near_edge = np.zeros(exposure.shape), np.zeros(exposure.shape, bool)
    for row in log:
        px, py = row_wcs(dict(zip(row.colnames, row, strict=True))).all_world2pix(ra, dec, 0, quiet=True)
        inside = np.minimum(np.minimum(px, py) + 0.5, row["naxis1"] - 0.5 - np.maximum(px, py))
        expected += int(row["exptime"]) * (inside >= 0)
        near_edge |= np.abs(inside) < 4  # sides are drawn straight, the distortion bows them by up to 4 px
    np.testing.assert_array_equal(exposure[~near_edge], expected[~near_edge])
    assert near_edge.mean() < 0.5
    assert len(np.unique(exposure)) > 5
    # Drizzled weight ends where the exposures do; bad pixels (0.5 %) leave holes where there is one exposure only.
    covered = partial.weight[::4, ::4][:125, :151] > 0
    assert np.all(exposure[covered & ~near_edge] > 0)
    assert np.mean(covered[~near_edge & (exposure > 0)]) > 0.998


def test_log_and_headers_agree(partial: Products) -> None:
    log = Table.read(f"{partial.mosaic.prefix}_wcs.csv", format="ascii.csv")
    header = partial.header
    assert header["NDRIZIM"] == len(log) == 12
    assert header["EXPTIME"] == pytest.approx(log["exptime"].sum(), rel=1e-12)
    assert [header[f"FLT{i:05d}"] for i in range(1, 13)] == list(log["file"])
    assert log["file"][0] == "jw09999001001_02101_00001_nrcalong_rate.fits"
    assert log["file"][-1] == "jw09999001002_02101_00003_nrcblong_rate.fits"
    assert header["EXPSTART"] == log["mjd-beg"][0]
    for key in ("beg", "avg", "end"):
        # Dates are written to the millisecond, 1.2e-8 d.
        np.testing.assert_allclose(Time(list(log[f"date-{key}"]), scale="utc").mjd, log[f"mjd-{key}"], atol=2e-8)
    np.testing.assert_allclose((log["mjd-end"] - log["mjd-beg"]) * 86400, log["exptime"], atol=2e-4)
    visits = log["mjd-avg"][np.char.startswith(log["file"].astype(str), "jw09999001002")]
    assert visits.min() - log["mjd-avg"].min() > 300
    angle = np.degrees(np.arctan2(log["cd1_2"], log["cd2_2"]))
    np.testing.assert_allclose(angle, [15.0] * 6 + [102.0] * 6, atol=1e-9)
    assert np.all(log["cd1_1"] * log["cd2_2"] - log["cd1_2"] * log["cd2_1"] < 0)


def test_exposure_header_is_that_of_the_archive(partial: Products) -> None:
    science = partial.header
    header = fits.getheader(f"{partial.mosaic.prefix}_drc_exp.fits")
    assert (header["BITPIX"], header["BZERO"], header["SAMPLE"]) == (32, 2147483648, 4)
    assert (header["NXORIG"], header["NYORIG"], header["BUNIT"]) == (607, 502, "second")
    assert header["CRPIX1"] == science["CRPIX1"] / 4
    assert header["CD1_1"] == pytest.approx(4 * science["CD1_1"])
    for key in ("PHOTMJSR", "PHOTFNU", "OPHOTFNU", "PHOTSCAL"):
        assert header[key] == science[key]


def test_headers_and_log_are_spelt_like_real_ones(partial: Products, data: Path) -> None:
    real = uds_prefix(data)
    columns = Table.read(f"{real}_wcs.csv", format="ascii.csv").colnames
    assert Table.read(f"{partial.mosaic.prefix}_wcs.csv", format="ascii.csv").colnames == columns
    header = fits.getheader(f"{real}_drc_sci.fits.gz")
    assert set(partial.header) - {""} <= set(header)
    same = "BUNIT CTYPE1 CTYPE2 TELESCOP INSTRUME FILTER PUPIL DETECTOR PHOTFNU PIXFRAC DRIZKERN"
    for key in same.split():
        assert partial.header[key] == header[key]
    for key in ("PHOTMJSR", "OPHOTFNU"):
        assert partial.header[key] == pytest.approx(header[key], rel=1e-12)
    # The real pixels are 62.6 mas, PHOTPLAM is 4.404 um: the simulated ones are nominal.
    for key in ("PIXAR_SR", "PHOTPLAM", "PHOTFLAM"):
        assert partial.header[key] == pytest.approx(header[key], rel=0.03)
    assert np.sign(partial.header["CD1_1"]) == np.sign(header["CD1_1"]) == -1


def test_names_compression_and_reproducibility(tmp_path: Path) -> None:
    scene = simulate_scene(SceneOptions(shape=(61, 66), n_sources=3))
    options = {"root": "abc-v9", "filter": "f277w-clear", "n_exposures": 1}
    for run in "ab":
        simulate_mosaic(tmp_path / run, scene, MosaicOptions(**options))
    simulate_mosaic(tmp_path / "c", scene, MosaicOptions(**options, seed=2))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "abc-v9-f277w-clear_drc_exp.fits.gz",
        "abc-v9-f277w-clear_drc_sci.fits.gz",
        "abc-v9-f277w-clear_drc_wht.fits.gz",
        "abc-v9-f277w-clear_truth_sci.fits.gz",
        "abc-v9-f277w-clear_wcs.csv",
        "abc-v9_truth.ecsv",
    ]
    for name in names:
        content = [(tmp_path / run / name).read_bytes() for run in "abc"]
        assert content[0] == content[1]
    assert fits.getdata(tmp_path / "a" / names[1]).shape == (61, 66)
    science = [fits.getdata(tmp_path / run / names[1]) for run in "ac"]
    assert not np.array_equal(*science)
    table = QTable.read(tmp_path / "a" / "abc-v9_truth.ecsv")
    assert np.all(table["f277w_flux"] == scene["f277w_flux"])
    assert table.meta["SHAPE"] == [61, 66]


# ---- bad input


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (MosaicOptions, "sip_order", 6),
        (MosaicOptions, "exposure_time", 0.0),
        (MosaicOptions, "bad_fraction", -0.1),
        (MosaicOptions, "detectors", ()),
        (SceneOptions, "flux_range", (1.0, 0.5)),
        (SceneOptions, "shape", (4, 100)),
        (SceneOptions, "dec", float("nan")),
    ],
)
def test_options_name_the_field_that_is_wrong(options: type, field: str, value: object) -> None:
    with pytest.raises(PhotplugError, match=f"option {field}: ") as error:
        options(**{field: value})
    assert "\n" not in str(error.value)


def test_a_band_the_scene_lacks_is_named(tmp_path: Path) -> None:
    scene = simulate_scene(SceneOptions(n_sources=1, bands=("f444w",)))
    with pytest.raises(PhotplugError, match=r"no column f200w_flux .* it has f444w_flux"):
        simulate_mosaic(tmp_path / "new", scene, MosaicOptions(filter="f200w-clear"))
    assert not (tmp_path / "new").exists()


def test_missing_drizzle_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "drizzle", None)
    scene = simulate_scene(SceneOptions(n_sources=1, shape=(64, 64)))
    with pytest.raises(PhotplugError, match=r'pip install "dja_photplug\[demo\]"'):
        simulate_mosaic(tmp_path / "new", scene, MosaicOptions())
    assert not list(tmp_path.iterdir())
