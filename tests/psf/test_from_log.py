"""PSFs drizzled through the WCS of a log, against the noise-free stars of the mosaic that its exposures made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.figures.psf import STAR_RADII, regions_figure
from dja_photplug.files.pixels import read_grid, read_image
from dja_photplug.psf.detectors import read_detector_psf, read_detector_psfs
from dja_photplug.psf.from_log import Drizzling, drizzling_of, exposure_weights, psf_from_log
from dja_photplug.psf.model import encircled_energy, grow_light
from dja_photplug.simulate.diffraction import make_psf
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, SimulatedMosaic, simulate_mosaic, simulate_scene
from dja_photplug.sky.grid import pixel_positions
from tests.helpers import expect_error

BAND = "f444w"
SQUARE = {"pixfrac": 0.75, "kernel": "square"}


def write_detector(path: Path, filter: str = BAND, **cards: object) -> Path:
    """Write the image of the PSF that the simulator draws with."""
    psf = make_psf(filter)
    known = {"PIXSCL": psf.scale, "DETECTOR": "NRCALONG", "FILTER": filter.upper()} | cards
    stated = {key: value for key, value in known.items() if value is not None}
    fits.writeto(path, psf.pixels().astype(np.float32), fits.Header(stated), overwrite=True)
    return path


def write_grid(path: Path, kind: str, side: int = 101, total: float = 1.0) -> NDArray[np.float64]:
    """Write Gaussian ePSFs (4 samples to a pixel) as STDPSF or STPSF do, wider to the right; return their sigmas."""
    sigmas = np.array([0.9, 1.3, 0.9, 1.3])  # detector pixels, at (0, 0), (2047, 0), (0, 2047), (2047, 2047)
    y, x = (np.indices((side, side)) - side // 2) / 4
    data = np.stack([np.exp(-(x**2 + y**2) / 2 / s**2) / (2 * np.pi * s**2) for s in sigmas]) * total
    header = fits.Header()
    if kind == "stdpsf":
        header.update({"NXPSFS": 2, "NYPSFS": 2, "IPSFX01": 1, "IPSFX02": 2048, "JPSFY01": 1, "JPSFY02": 2048})
    else:
        header.update({"DETECTOR": "NRCA5", "FILTER": BAND.upper(), "OVERSAMP": 4})
        for i, (row, column) in enumerate(((0, 0), (0, 2047), (2047, 0), (2047, 2047))):
            header[f"DET_YX{i}"] = f"({column}.0, {row}.0)"
    fits.writeto(path, data.astype(np.float32), header, overwrite=True)
    return sigmas


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedMosaic, Path]:
    """Isolated stars seen at 10 deg, at 55 deg, or at both, and the PSF of the detector."""
    folder = tmp_path_factory.mktemp("log")
    size = SceneOptions(shape=(720, 720), n_sources=49, star_fraction=1.0, isolated=True, bands=(BAND,), seed=4)
    scene = simulate_scene(replace(size, flux_range=(10.0, 20.0)))
    options = MosaicOptions(filter=f"{BAND}-clear", psf="diffraction", detector_size=330, compress=False)
    options = replace(options, position_angles=(10.0, 55.0), n_exposures=4, bad_fraction=0.0)
    mosaic = simulate_mosaic(folder, scene, options)
    return mosaic, write_detector(folder / "detector.fits")


@pytest.fixture(scope="module")
def model(field) -> dp.PSFModel:
    mosaic, path = field
    log = dp.read_exposure_log(f"{mosaic.prefix}_wcs.csv")
    detectors = read_detector_psfs([path], log, f"{BAND}-clear")
    places = SkyCoord(mosaic.scene["ra"], mosaic.scene["dec"])
    drizzling = Drizzling(weights=exposure_weights(log, {}, "exptime"), **SQUARE)
    with pytest.warns(PhotplugWarning, match="no exposure covers .* of 49 positions"):
        return psf_from_log(log, read_grid(f"{mosaic.prefix}_drc_sci.fits"), detectors, places, drizzling)


def test_it_is_what_stars_look_like(field, model):
    """The curve of growth of each star of the mosaic without noise, to 0.5 %, whatever exposures saw it."""
    mosaic, _ = field
    truth, _ = read_image(mosaic.truth_image)
    wcs = read_grid(mosaic.truth_image).wcs
    places = SkyCoord(mosaic.scene["ra"], mosaic.scene["dec"])
    x, y = pixel_positions(wcs, places.ra.deg, places.dec.deg)
    seen = dp.read_exposure_log(f"{mosaic.prefix}_wcs.csv").coverage(places).toarray()
    visits = np.column_stack([seen[:, :4].all(axis=1), seen[:, 4:].all(axis=1)])
    radius = np.array([0.2, 0.3, 0.5, 0.7, 1.0])
    found: dict[tuple[bool, bool], list[NDArray[np.float64]]] = {}
    for i in np.flatnonzero(visits.any(axis=1)):
        psf = model.psf_at(places[i])
        whole = seen[i].sum() in (4, 8)
        if psf is None or not whole or not (60 < x[i] < 660 and 60 < y[i] < 660):
            continue
        light = grow_light(truth.astype(float), (y[i], x[i]), radius / 0.04)
        # Neighbours 4 arcsec away have 0.1 % of their light within a circle of 1 arcsec here.
        flux = mosaic.scene[f"{BAND}_flux"][i].to_value("10 nJy")
        found.setdefault((bool(visits[i, 0]), bool(visits[i, 1])), []).append(
            light / flux / encircled_energy(psf, radius)
        )
    assert set(found) == {(True, True), (True, False), (False, True)}
    for ratios in found.values():
        np.testing.assert_allclose(np.median(ratios, axis=0), 1, atol=0.005)


def test_regions_are_those_of_sets_of_exposures(field, model):
    mosaic, _ = field
    places = SkyCoord(mosaic.scene["ra"], mosaic.scene["dec"])
    seen = dp.read_exposure_log(f"{mosaic.prefix}_wcs.csv").coverage(places).toarray()
    regions = model.regions_at(places)
    np.testing.assert_array_equal(regions >= 0, seen.any(axis=1))
    # One PSF for each set, but for two places in one cell, of which there are none 3.6 arcsec apart.
    sets = {tuple(row) for row in seen[seen.any(axis=1)]}
    assert len(model.stamps) == len(sets)
    for row in sets:
        assert len(set(regions[(seen == row).all(axis=1)])) == 1
    outside = places[0].directional_offset_by(0 * u.deg, 1 * u.deg)
    assert model.psf_at(outside) is None
    assert (model.labels == -1).any()


def test_two_rolls_are_a_weighted_mean(field, tmp_path):
    """With all weight on the exposures of one visit the PSF of both is that of this visit."""
    mosaic, path = field
    log = dp.read_exposure_log(f"{mosaic.prefix}_wcs.csv")
    grid, detectors = read_grid(f"{mosaic.prefix}_drc_sci.fits"), read_detector_psfs([path], log, BAND)
    middle = SkyCoord([34.4], [-5.2], unit="deg")
    first = np.array([1.0] * 4 + [1e-9] * 4)
    both, one, two = (
        psf_from_log(log, grid, detectors, middle, Drizzling(weights=weights, **SQUARE)).stamps[0].data
        for weights in (np.ones(8), first, first[::-1])
    )
    peak = both.max()
    assert np.abs(one - two).max() > 0.01 * peak
    assert np.abs(both - (one + two) / 2).max() < 0.02 * peak
    assert np.abs(both - (one + two) / 2).max() < 0.2 * np.abs(one - two).max()


def test_many_places_share_the_mean_over_pixels(field, tmp_path):
    """What a few exposures of F115W, with pixels of 63 mas, hold of a star's light depends on where it lies by 1 %."""
    mosaic, _ = field
    log, grid = dp.read_exposure_log(f"{mosaic.prefix}_wcs.csv"), read_grid(f"{mosaic.prefix}_drc_sci.fits")
    detectors = read_detector_psfs([write_detector(tmp_path / "short.fits", "f115w")], log, "f115w-clear")
    first = Drizzling(weights=np.array([1.0] * 4 + [1e-9] * 4), **SQUARE)
    places = SkyCoord(34.4 + np.linspace(-1, 1, 13) / 3600, np.full(13, -5.2), unit="deg")
    psf = make_psf("f115w")
    middle, radius = len(psf.samples) // 2, 1.5
    true = grow_light(psf.pixels(), (middle, middle), np.array([radius / psf.scale]))[0]
    single = [psf_from_log(log, grid, detectors, places[i : i + 1], first).stamps[0] for i in (0, 6, 12)]
    together = psf_from_log(log, grid, detectors, places, first, cell=5).stamps[0]
    assert np.std([encircled_energy(one, radius) for one in single]) > 0.002
    np.testing.assert_allclose(encircled_energy(together, radius), true, rtol=0.002)


@pytest.mark.parametrize("kind", ["stdpsf", "webbpsf"])
def test_grids_are_read_as_photutils_reads_them(tmp_path, kind):
    """The PSF of a place between those of the grid, with the light of its pixels."""
    path = tmp_path / f"STDPSF_NRCAL_{BAND.upper()}.fits"
    sigmas = write_grid(path, kind)
    [psf] = read_detector_psf(path, {"NRCALONG"}, f"{BAND}-clear", 0.063)
    assert psf.detector == "NRCALONG"
    for x, sigma in ((0.0, sigmas[0]), (2047.0, sigmas[1])):
        stamp, corner = psf.draw(x + 0.3 if x == 0 else x - 0.3, 700.2, 0.063)
        np.testing.assert_allclose(stamp.sum(), 1, atol=0.01)
        rows, columns = np.indices(stamp.shape)
        centre = [(rows * stamp).sum() / stamp.sum() + corner[0], (columns * stamp).sum() / stamp.sum() + corner[1]]
        np.testing.assert_allclose(centre, [700.2, x + 0.3 if x == 0 else x - 0.3], atol=0.01)
        variance = ((rows + corner[0] - centre[0]) ** 2 * stamp).sum() / stamp.sum()
        np.testing.assert_allclose(np.sqrt(variance), sigma, rtol=0.02)


@pytest.mark.parametrize(
    ("cards", "told"),
    [
        ({"DETECTOR": "NRCB1"}, "is the PSF of NRCB1, but the log has exposures of NRCALONG"),
        ({"FILTER": "F115W"}, "is a PSF in F115W, but the mosaic is in f444w-clear"),
        ({"PIXSCL": 0.1}, "larger than the detector's"),
        ({"PIXSCL": None}, "states no pixel scale"),
    ],
)
def test_psfs_of_other_detectors_are_refused(tmp_path, cards, told):
    path = write_detector(tmp_path / "psf.fits", **cards)
    with pytest.raises(PhotplugError, match=f"psf.fits: .*{told}"):
        read_detector_psf(path, {"NRCALONG"}, "f444w-clear", 0.063)


def test_what_does_not_state_its_detector(tmp_path):
    path = write_detector(tmp_path / "psf.fits", DETECTOR=None)
    with pytest.warns(PhotplugWarning, match="states no DETECTOR; assuming the detector of the log, NRCALONG"):
        assert read_detector_psf(path, {"NRCALONG"}, "", 0.063)[0].detector == "NRCALONG"
    other = write_detector(tmp_path / "other.fits", DETECTOR="IR")
    with pytest.warns(PhotplugWarning, match="is of IR; assuming the detector of the log, which is unnamed there too"):
        assert read_detector_psf(other, {""}, "", 0.063)[0].detector == ""
    with pytest.raises(PhotplugError, match="states no DETECTOR, and the log has NRCA1, NRCA2"):
        read_detector_psf(path, {"NRCA1", "NRCA2"}, "", 0.063)
    write_grid(tmp_path / "grid.fits", "webbpsf", total=100)
    with pytest.raises(PhotplugError, match="sum to .* of the light"):
        read_detector_psf(tmp_path / "grid.fits", {"NRCALONG"}, "", 0.063)
    with pytest.raises(PhotplugError, match="no such file"):
        read_detector_psf(tmp_path / "none.fits", {"NRCALONG"}, "", 0.063)


def test_weights_and_drops_are_those_of_the_header(field):
    mosaic, _ = field
    log = dp.read_exposure_log(f"{mosaic.prefix}_wcs.csv")
    header = fits.getheader(f"{mosaic.prefix}_drc_sci.fits")
    found = drizzling_of(log, header, dp.PSFOptions(weights="header"))
    assert found.weights.tolist() == [header[f"WHT{i:05d}"] for i in range(1, 9)]
    assert (found.pixfrac, found.kernel) == (0.75, "square")
    given = drizzling_of(log, header, dp.PSFOptions(pixfrac=1.0, drizzle_kernel="gaussian"))
    assert (given.pixfrac, given.kernel, given.weights.tolist()) == (1.0, "gaussian", [837.468] * 8)
    del header["WHT00003"]
    with pytest.raises(PhotplugError, match="no weight .* for 1 of 8 exposures"):
        exposure_weights(log, header, "header")
    with pytest.raises(PhotplugError, match="states no drizzle drop size and kernel"):
        drizzling_of(log, {}, dp.PSFOptions())


def test_the_command(field, tmp_path, monkeypatch, capsys):
    mosaic, path = field
    monkeypatch.chdir(tmp_path)
    command = f"psf log {mosaic.prefix} -o psf.fits --detector-psf {path}"
    QTable({"ra": mosaic.scene["ra"], "dec": mosaic.scene["dec"]}).write("cat.ecsv")
    assert main(f"{command} --catalog cat.ecsv --plot psf.png".split()) == 0
    assert "PSFs of 8 exposures for 49 places" in capsys.readouterr().out
    made = dp.read_psf_model("psf.fits")
    assert made.meta["PSFFROM"] == "log"
    assert made.meta["DETPSF"] == "detector.fits"
    assert Path("psf.png").stat().st_size > 10_000
    assert main(f"{command} --position 34.4 -5.2 --overwrite --weights header --quiet".split()) == 0
    one = dp.read_psf_model("psf.fits")
    assert len(one.stamps) == 1
    np.testing.assert_allclose(one.stamps[0].data.sum(), make_psf(BAND).samples.sum(), atol=0.02)
    expect_error(capsys, f"{command} --position 34.4 -4.2 --overwrite", "no exposure covers the position")
    expect_error(capsys, f"{command} --overwrite", "give --position or --catalog")
    expect_error(capsys, f"psf log {mosaic.prefix} -o new.fits --position 34.4 -5.2", "--detector-psf")
    expect_error(
        capsys, f"psf stars {mosaic.prefix} -o new.fits --position 34.4 -5.2", "--position belongs to `psf log`"
    )


def test_the_figure_shows_the_regions(model, field):
    mosaic, _ = field
    places = SkyCoord(mosaic.scene["ra"], mosaic.scene["dec"])
    figure = regions_figure(model, places, np.zeros((7, len(STAR_RADII))))
    titles = [axes.get_title() for axes in figure.axes]
    assert "stars of the field against their PSF [%]" in titles
    assert sum(title.startswith("region ") for title in titles) == 4
    assert "PSFs of 49 places" in figure.get_suptitle()


def test_the_figure_of_one_place_has_no_empty_panel(model, field):
    """Nothing is compared with itself: there is the PSF, its curve of growth, the map and the stars."""
    mosaic, _ = field
    alone = replace(model, stamps=model.stamps[:1], labels=np.where(model.labels > 0, 0, model.labels))
    places = SkyCoord(mosaic.scene["ra"][:1], mosaic.scene["dec"][:1])
    figure = regions_figure(alone, places, np.zeros((7, len(STAR_RADII))))
    assert [axes.get_title().split(":")[0] for axes in figure.axes][1:] == [
        "share of the light within",
        "stars of the field against their PSF [%]",
        "region 0",
    ]
    assert figure.get_suptitle().endswith(": 1 PSF of 1 place")
