"""A PSF by region in catalogues, extended ones, stamps and injection: each source takes that of its place, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.sky.grid import header_wcs
from tests.helpers import DJA, expect_error, gaussian, plain

PREFIX = "sim-test-v7.4-f444w-clear"
SIGMAS = (0.0616, 0.09)  # the first is that of the simulation before the detector's pixels


def write_regions(folder) -> dp.PSFModel:
    """Write ``psf.fits``: the left and the right half of the mosaic, and its lower quarter without a PSF."""
    header = fits.getheader(f"{PREFIX}_drc_sci.fits.gz")
    wcs, (ny, nx), step = header_wcs(header), (header["NAXIS2"], header["NAXIS1"]), 20
    labels = np.zeros((ny // step + 1, nx // step + 1), np.int16)
    labels[:, labels.shape[1] // 2 :] = 1
    labels[: labels.shape[0] // 4] = -1
    coarse = wcs.deepcopy()
    coarse.wcs.crpix = (wcs.wcs.crpix - 0.5) / step + 0.5
    coarse.wcs.cd = wcs.wcs.cd * step
    coarse.wcs.set()
    stamps = []
    for sigma in SIGMAS:
        pixels = gaussian((101, 101), 50, 50, np.hypot(sigma, 0.02) / 0.04)
        stamps.append(dp.PSF(data=0.95 * pixels / pixels.sum(), scale=0.04, centre=(50, 50), name="made"))
    model = dp.PSFModel(stamps=tuple(stamps), name="psf.fits", labels=labels, wcs=coarse)
    dp.write_psf_model(model, folder / "psf.fits")
    return model


def stamps_alone(model: dp.PSFModel) -> list[dp.PSFModel]:
    return [replace(model, stamps=(stamp,), labels=None, wcs=None) for stamp in model.stamps]


@pytest.fixture
def model(folder) -> dp.PSFModel:
    return write_regions(folder)


def test_a_catalogue_takes_the_psf_of_each_place(folder, model):
    """As two catalogues with one of the stamps each have it."""
    with pytest.warns(dp.PhotplugWarning, match="psf.fits: no PSF for .* positions"):
        table = dp.run([PREFIX], replace(DJA, bands=dp.BandOptions(psf={"": "psf.fits"}))).catalog
    assert table.meta["OPTIONS"]
    region = model.regions_at(SkyCoord(table["ra"], table["dec"]))
    assert set(region) == {-1, 0, 1}
    point = (table["flag"] & dp.SourceFlag.POINT_LIKE) > 0
    assert not point[region == -1].any()
    assert point[region == 0].any()
    for name in ("tot_1", "etot_1", "flux_total"):
        assert np.isnan(plain(table[name])[region == -1]).all()
    for i, alone in enumerate(stamps_alone(model)):
        dp.write_psf_model(alone, folder / f"{i}.fits")
        one = dp.run([PREFIX], replace(DJA, bands=dp.BandOptions(psf={"": f"{i}.fits"}))).catalog
        for name in ("tot_1", "flux_total", "fluxerr_total", "flag"):
            mine, theirs = (plain(each[name])[region == i] for each in (table, one))
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, err_msg=name)


def test_an_extended_catalogue_takes_the_psf_of_each_place(model, capsys):
    assert main(f"catalog {PREFIX} -o cat.ecsv --noise dja --quiet".split()) == 0
    assert main(f"extend cat.ecsv {PREFIX} -o out.ecsv --noise dja --psf psf.fits --quiet".split()) == 0
    assert "no PSF for" in capsys.readouterr().err
    table = QTable.read("out.ecsv")
    there = SkyCoord(table["ra"], table["dec"])
    radius = np.maximum(np.sqrt(plain(table["a"]) * plain(table["b"])) * plain(table["kron_radius"]), 0.35)
    share = plain(table["f444w_corr_1"]) / plain(table["f444w_tot_1"])
    known = model.regions_at(there) >= 0
    np.testing.assert_allclose(share[known], model.encircled_energy_at(there, radius)[known], rtol=1e-5)
    assert np.isnan(share[~known]).all()


def place_on(x: float, y: float) -> tuple[float, float]:
    """Return the position at shares of the mosaic's width and height."""
    header = fits.getheader(f"{PREFIX}_drc_sci.fits.gz")
    ra, dec = header_wcs(header).all_pix2world(x * header["NAXIS1"], y * header["NAXIS2"], 0)
    return float(ra), float(dec)


def test_stamps_take_the_psf_of_their_target(model, capsys):
    command = f"galfit {PREFIX} --psf psf.fits --position"
    for x, sigma in zip((0.2, 0.8), SIGMAS, strict=True):
        ra, dec = place_on(x, 0.7)
        assert main(f"{command} {ra} {dec} -o {x} --quiet".split()) == 0
        stamp = fits.getdata(f"{x}/target_psf.fits")
        y, _ = np.indices(stamp.shape) - np.array([n // 2 for n in stamp.shape])[:, None, None]
        np.testing.assert_allclose(np.sqrt((y**2 * stamp).sum()) * 0.04, np.hypot(sigma, 0.02), rtol=0.01)
    ra, dec = place_on(0.5, 0.1)
    expect_error(
        capsys, f"{command} {ra} {dec} -o no", "psf.fits: no PSF for target at", "give a PSF for that position"
    )


def test_injection_takes_the_psf_of_each_place_and_needs_one(folder, model, capsys):
    command = f"inject {PREFIX} --noise dja --realisations 1 --workers 1"
    expect_error(
        capsys,
        f"{command} -o out.ecsv --psf psf.fits",
        "psf.fits: no PSF for",
        "injected sources; give a PSF of the whole mosaic",
    )
    dp.write_psf_model(stamps_alone(model)[1], folder / "1.fits")
    options = replace(DJA, cutout=(SkyCoord(*place_on(0.75, 0.65), unit="deg"), 6 * u.arcsec))
    few = dp.InjectionOptions(realisations=1, workers=1)
    found, alone = (dp.inject(PREFIX, options, few, psf=path) for path in ("psf.fits", "1.fits"))
    assert found.table.meta["NPSF"] == 2
    assert len(found.sources)
    np.testing.assert_allclose(plain(found.sources["flux_true"]), plain(alone.sources["flux_true"]), rtol=1e-6)
