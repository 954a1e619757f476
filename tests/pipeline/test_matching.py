"""Bands at one PSF through the whole pipeline: columns, totals, metadata, extended catalogues, tiles, eazy, bad input.

That their colours are true is in tests/sources/test_matched.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.pipeline.many_bands import list_columns
from dja_photplug.psf.model import encircled_energy, read_psf
from dja_photplug.sources.totals import kron_radii
from tests.helpers import DJA, expect_error, isolated_scene, plain, simulate_bands, write_psf

LONG, SHORT = "f444w", "f115w"
MATCHED = ("match_aper", "match_err", "match_flag", "total", "total_err")
BANDS = f"sim-match-v1-{LONG}-clear sim-match-v1-{SHORT}-clear"


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory) -> Path:
    """Mosaics of two bands, and PSFs for them: what their PSFs are does not matter here."""
    folder = tmp_path_factory.mktemp("match")
    scene = isolated_scene(bands=(LONG, SHORT), shape=(330, 330), n_sources=22, flux_range=(0.1, 60), seed=8)
    simulate_bands(folder, scene, {LONG: 1, SHORT: 2}, root="sim-match-v1", n_exposures=3, compress=False, seed=8)
    write_psf(folder / "long.fits", 0.09, 101)
    write_psf(folder / "short.fits", 0.06, 101)
    write_psf(folder / "wide.fits", 0.12, 101)
    return folder


def options(folder: Path, match: str | None = LONG, detect: str = LONG, **settings: object) -> dp.Options:
    psf = {LONG: str(folder / "long.fits"), SHORT: str(folder / "short.fits")}
    return replace(DJA, bands=dp.BandOptions(detect=detect, psf=psf, match=match, workers=1), **settings)


def prefixes(folder: Path) -> list[Path]:
    return [folder / f"sim-match-v1-{band}-clear" for band in (LONG, SHORT)]


@pytest.fixture(scope="module")
def catalog(mosaics) -> QTable:
    return dp.run(prefixes(mosaics), options(mosaics)).catalog


def test_columns_are_those_that_were_told(catalog, mosaics) -> None:
    told = list_columns(options(mosaics).settle(), [LONG, SHORT])
    assert set(told) == set(catalog.colnames)
    for band in (LONG, SHORT):
        for i in range(4):
            assert {f"{band}_{name}_{i}" for name in MATCHED} <= set(told)
    assert not any("match" in name for name in list_columns(options(mosaics, None), [LONG, SHORT]))


def test_the_rest_of_the_catalogue_is_as_without(catalog, mosaics) -> None:
    plain_catalog = dp.run(prefixes(mosaics), options(mosaics, None)).catalog
    assert len(plain_catalog) == len(catalog)
    for name in plain_catalog.colnames:
        np.testing.assert_array_equal(plain(catalog[name]), plain(plain_catalog[name]))


def test_target_is_as_it_is_and_totals_follow(catalog, mosaics) -> None:
    share = encircled_energy(read_psf(mosaics / "long.fits"), kron_radii(catalog, options(mosaics)))
    for i in range(4):
        np.testing.assert_array_equal(plain(catalog[f"{LONG}_match_aper_{i}"]), plain(catalog[f"flux_aper_{i}"]))
        own = plain(catalog["flux_auto"]) / share
        known = np.isfinite(own) & (plain(catalog[f"flux_aper_{i}"]) > 0)
        np.testing.assert_allclose(plain(catalog[f"{LONG}_total_{i}"])[known], own[known], rtol=1e-10)
        ratio = catalog[f"{SHORT}_match_aper_{i}"] / catalog[f"{LONG}_match_aper_{i}"]
        found = plain(catalog[f"{SHORT}_total_{i}"])[known]
        np.testing.assert_allclose(found, own[known] * plain(ratio)[known], rtol=1e-10)


def test_metadata(catalog) -> None:
    long, short = (json.loads(catalog.meta[f"BAND_{i}"]) for i in range(2))
    assert long["MATCH"] == short["MATCH"] == LONG
    assert "MATCHRES" not in long
    assert (short["MATCHREG"], short["MATCHPEN"]) == (1e-4, "laplacian")
    assert len(short["MATCHRES"][0]) == len(short["MATCHRAD"])
    assert np.max(np.abs(short["MATCHRES"])) < 0.02
    assert json.loads(catalog.meta["OPTIONS"])["bands"]["match"] == LONG


def test_tiles_and_engines_agree(catalog, mosaics) -> None:
    tiled = dp.run(prefixes(mosaics), options(mosaics, tiles=dp.TileOptions(size=200, overlap=60))).catalog
    other = dp.run(prefixes(mosaics), options(mosaics, engine="photutils")).catalog
    for i in range(4):
        name = f"{SHORT}_match_aper_{i}"
        np.testing.assert_allclose(plain(tiled[name]), plain(catalog[name]), rtol=1e-4, atol=1e-4)
    # Of photutils the sources are others, by a few faint ones.
    bright = plain(other["flux_auto"]) > 5
    ratio = plain(other[f"{SHORT}_match_aper_2"] / other[f"{SHORT}_flux_aper_2"])[bright]
    brightest = plain(catalog["flux_auto"]) > 5
    own = plain(catalog[f"{SHORT}_match_aper_2"] / catalog[f"{SHORT}_flux_aper_2"])[brightest]
    assert np.median(ratio) == pytest.approx(np.median(own), rel=0.01)


def test_extended_catalogue_has_the_same(catalog, mosaics) -> None:
    extended = dp.extend_catalog(catalog[["id", "ra", "dec", "x", "y", "a", "b", "theta", "kron_radius"]],
                                 prefixes(mosaics), options(mosaics, detect=None))  # fmt: skip
    for i in range(4):
        found, known = (plain(table[f"{SHORT}_match_aper_{i}"]) for table in (extended, catalog))
        assert np.nanmedian(np.abs(found / known - 1)) < 1e-3


def test_calibrated_errors_have_an_a_of_their_own(mosaics) -> None:
    calibrated = replace(options(mosaics), variance=dp.VarianceOptions(noise="calibrated"))
    table = dp.run(prefixes(mosaics), calibrated).catalog
    short = json.loads(table.meta["BAND_1"])
    assert np.all(np.array(short["MATCH_AR"]) > np.array(short["AR"]).min())
    assert np.all(plain(table[f"{SHORT}_match_err_1"]) > 0)


def test_command_line_and_eazy(mosaics, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(mosaics)
    psfs = f"--psf {LONG}=long.fits --psf {SHORT}=short.fits"
    out = tmp_path / "eazy.cat"
    arguments = f"catalog {BANDS} --detect {LONG} {psfs} --match broadest --noise dja --format eazy -o {out} --quiet"
    assert main(arguments.split()) == 0
    names = out.with_name("zphot.translate").read_text().split()
    assert names[::2] == [f"{LONG}_total_1", f"{LONG}_total_err_1", f"{SHORT}_total_1", f"{SHORT}_total_err_1"]


def test_file_as_target(mosaics) -> None:
    """No band has its PSF, so both are brought to it; the totals are those of the detection band."""
    table = dp.run(prefixes(mosaics), options(mosaics, str(mosaics / "wide.fits"))).catalog
    ratio = plain(table[f"{LONG}_match_aper_0"] / table[f"{LONG}_flux_aper_0"])
    assert np.all(ratio[plain(table["flux_auto"]) > 5] < 1)
    assert json.loads(table.meta["BAND_0"])["MATCH"] == "wide.fits"
    alone = dp.run(prefixes(mosaics)[:1], replace(DJA, bands=dp.BandOptions(
        psf={"": str(mosaics / "long.fits")}, match=str(mosaics / "wide.fits")))).catalog  # fmt: skip
    np.testing.assert_allclose(plain(alone["match_aper_0"]), plain(table[f"{LONG}_match_aper_0"]), rtol=1e-6)
    assert "total_3" in alone.colnames


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (f"--match {LONG}", "has no PSF"),
        (f"--psf {LONG}=long.fits --match {LONG}", f"{SHORT} has no PSF"),
        (f"--psf {LONG}=long.fits --psf {SHORT}=short.fits --match {SHORT}", "sharpened"),
        (f"--psf {LONG}=long.fits --psf {SHORT}=short.fits --match f44w", "did you mean f444w"),
        (f"--psf {LONG}=long.fits --psf {SHORT}=short.fits --match none.fits", "nor a file"),
    ],
)
def test_refused_in_one_line(mosaics, monkeypatch, capsys, more, message) -> None:
    monkeypatch.chdir(mosaics)
    expect_error(capsys, f"catalog {BANDS} --detect {LONG} {more} --noise dja -o out.fits", message)
