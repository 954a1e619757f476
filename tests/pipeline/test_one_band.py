"""One band end to end: real mosaics, simulated truth, and the outputs of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import NDData, VarianceUncertainty
from astropy.table import QTable
from astropy.wcs import WCS
from photutils.segmentation import SegmentationImage

import dja_photplug as dp
from dja_photplug import Options, PhotplugWarning, write_catalog
from dja_photplug.files.pixels import read_image
from dja_photplug.mosaic.image import replace_planes
from dja_photplug.options.stages import EpochOptions
from dja_photplug.pipeline.one_band import find_epochs, measure_background_errors, remeasure
from dja_photplug.plugins.manager import get_plugin_manager
from tests.epochs.shots import field_of_shots, gapped_log, scatter, write_shots
from tests.helpers import AS_IS, BANDS, DJA, EPOCH_NAMES, SOURCE_NAMES, contain_plainly, row_wcs, uds_prefix

CONTRACT = [*SOURCE_NAMES.split(), *EPOCH_NAMES]
CONTRACT += [f"{name}_aper_{i}" for i in range(4) for name in ("flux", "fluxerr", "flag")]
CONTRACT += [f"depth5_{i}" for i in range(4)]
WITHOUT_UNIT = {
    "id",
    "npix",
    "snr_detect",
    "kron_radius",
    "flag",
    "mask_frac",
    "n_exp",
    "n_visit",
    *(f"flag_aper_{i}" for i in range(4)),
}


@pytest.fixture(scope="session", params=[BANDS[0], pytest.param(BANDS[1], marks=pytest.mark.slow)])
def real(request, data):
    return dp.run([uds_prefix(data, request.param)])


@pytest.fixture(scope="session")
def run_simulated(simulated):
    return dp.run([simulated.prefix])


@pytest.fixture(scope="session")
def run_dja(simulated):
    return dp.run([simulated.prefix], DJA)


def test_columns_of_the_contract(real):
    catalog = real.catalog
    assert len(catalog) > 100
    assert set(CONTRACT) <= set(catalog.colnames)
    for name in CONTRACT:
        assert catalog[name].info.description, name
        assert bool(catalog[name].unit) == (name not in WITHOUT_UNIT), name
    clean = catalog["mask_frac"] == 0
    assert clean.sum() > 100
    for i in range(4):
        error = catalog[f"fluxerr_aper_{i}"][clean].to_value(u.uJy)
        assert np.isfinite(error).all()
        assert (error > 0).all()
    assert isinstance(real.segmentation, SegmentationImage)
    np.testing.assert_array_equal(real.segmentation.labels, catalog["id"])
    np.testing.assert_array_equal(real.segmentation.areas, catalog["npix"].value)


def plain_epochs(path, position: SkyCoord) -> dict[str, np.ndarray]:
    """The loop that everybody writes: astropy's full inverse for each exposure, over all positions."""
    with open(path) as lines:
        rows = list(csv.DictReader(lines))
    total = {name: np.zeros(len(position)) for name in ("n_exp", "exptime", "moment")}
    first, last = np.full(len(position), np.inf), np.full(len(position), -np.inf)
    visits: list[set] = [set() for _ in position]
    for row in rows:
        inside = contain_plainly(row_wcs(row), position)
        seconds = float(row["exptime"])
        total["n_exp"] += inside
        total["exptime"] += inside * seconds
        total["moment"] += inside * seconds * float(row["mjd-avg"])
        first = np.where(inside, np.minimum(first, float(row["mjd-beg"])), first)
        last = np.where(inside, np.maximum(last, float(row["mjd-end"])), last)
        for i in np.flatnonzero(inside):
            visits[i].add(row["file"][:13])
    return {
        "n_exp": total["n_exp"],
        "exptime": total["exptime"],
        "mjd_mean": total["moment"] / total["exptime"],
        "mjd_min": first,
        "mjd_max": last,
        "n_visit": np.array([len(v) for v in visits]),
    }


def test_epochs_equal_the_plain_loop_for_every_source(real, data):
    catalog = real.catalog
    band = "f444w" if "f444w" in catalog.meta["INPUT"] else "f115w"
    expected = plain_epochs(f"{uds_prefix(data, band)}_wcs.csv", SkyCoord(catalog["ra"], catalog["dec"]))
    assert (catalog["n_exp"] > 0).all()
    for name in ("n_exp", "n_visit"):
        np.testing.assert_array_equal(catalog[name], expected[name])
    # Sums of up to 500 float64: 1e-10 s and 1e-9 d (a tenth of a millisecond) are their rounding.
    np.testing.assert_allclose(catalog["exptime"].to_value(u.s), expected["exptime"], rtol=1e-12)
    for name in ("mjd_mean", "mjd_min", "mjd_max"):
        np.testing.assert_allclose(catalog[name].to_value(u.d), expected[name], rtol=0, atol=1e-9)


def test_photometry_equals_direct_sep_calls(data):
    """The same inputs, prepared with astropy alone, give the same apertures to float32 rounding."""
    prefix = uds_prefix(data)
    result = dp.run([prefix], DJA)
    science = fits.getdata(f"{prefix}_drc_sci.fits.gz").astype(np.float32)
    weight, exposure = (fits.getdata(f"{prefix}_drc_{kind}.fits.gz") for kind in ("wht", "exp"))
    full = dp.full_weight(science, weight, exposure, fits.getheader(f"{prefix}_drc_sci.fits.gz"))
    null = full == 0
    variance = np.where(null, np.float32(1e30), 1 / np.where(null, 1, full)).astype(np.float32)
    catalog = result.catalog
    for i, diameter in enumerate((0.36, 0.50, 0.70, 1.00)):
        flux, error, _ = sep.sum_circle(
            science,
            catalog["x"].value,
            catalog["y"].value,
            diameter / 2 / 0.04,
            var=variance,
            mask=null,
            segmap=result.detection.segmentation,
            seg_id=catalog["id"],
            subpix=0,
        )
        # In pixels of neighbours, and in those without data, sep has the mean of the aperture.
        clear = (catalog[f"flag_aper_{i}"] & (dp.SourceFlag.NEIGHBOUR | dp.SourceFlag.NULL_WEIGHT)) == 0
        assert clear.sum() > 90
        found = catalog[f"flux_aper_{i}"].to_value(u.uJy)
        np.testing.assert_allclose(found[clear], flux[clear] / 100, rtol=2e-6, atol=1e-8)
        np.testing.assert_allclose(catalog[f"fluxerr_aper_{i}"].to_value(u.uJy), error / 100, rtol=2e-6)


def test_recovered_truth(simulated, run_simulated):
    """Isolated bright sources: fluxes against the noise-free mosaic within 0.5 %, positions within 0.05 pixel."""
    catalog = run_simulated.catalog
    noise_free, _ = read_image(simulated.truth_image)
    true = remeasure(run_simulated, replace_planes(run_simulated.image, data=noise_free))
    use = (true["flux_aper_3"] > 5 * u.uJy) & (catalog["mask_frac"] == 0)
    assert use.sum() >= 8
    ratio = catalog["flux_aper_3"][use] / true["flux_aper_3"][use]
    assert abs(np.median(ratio) - 1) < 0.005
    here = SkyCoord(catalog["ra"], catalog["dec"])[use]
    index, separation, _ = here.match_to_catalog_sky(SkyCoord(simulated.scene["ra"], simulated.scene["dec"]))
    # Barycentres of stars are good to 0.002 pixel, those of large galaxies to 0.03 (300 sources of 0.5 to 50 uJy).
    assert np.median(separation.arcsec) / 0.04 < 0.05
    assert len(set(index)) == use.sum()


@pytest.mark.parametrize(
    ("fixture", "preset", "largest"), [("run_simulated", "calibrated", 1.5), ("run_dja", "dja", 2)]
)
def test_full_error_rises_with_flux_as_the_formula_says(fixture, preset, largest, request):
    """full^2 - background^2 is the variance of the aperture's photons: the sum of max(sci, 0) / gain; a(r) cancels."""
    result = request.getfixturevalue(fixture)
    assert result.image.meta["NOISE"] == preset
    full, alone = result.catalog, measure_background_errors(result)
    extra = full["fluxerr_aper_3"] ** 2 - alone["fluxerr_aper_3"] ** 2
    bright = (full["flux_aper_3"] > 2 * u.uJy) & (full["mask_frac"] == 0) & (full["flag_aper_3"] == 0)
    assert bright.sum() >= 8
    image = result.image
    seconds = 6 * 837  # every exposure covers the middle of the field; a few bad pixels lower it
    electrons_per_unit = image.meta["DETGAIN"] * image.meta["PHOTSCLE"] * seconds
    expected = full["flux_aper_3"] * (0.01 / electrons_per_unit) * u.uJy
    # Coverage varies by the dither and negative pixels count as none: a few per cent.
    np.testing.assert_allclose((extra / expected)[bright].to_value(u.one), 1, atol=0.06)
    # By flux over the variance of the background, which is not the same everywhere.
    order = np.argsort((full["flux_aper_3"] / alone["fluxerr_aper_3"] ** 2)[bright])
    ratio = (full["fluxerr_aper_3"] / alone["fluxerr_aper_3"])[bright][order]
    assert np.all(np.diff(ratio) > -0.02)
    assert ratio[-1] > largest  # photons counted in electrons make 1.88 times less variance


def test_metadata(run_simulated, simulated):
    meta = run_simulated.catalog.meta
    assert meta["ZEROPNT"] == 23.9
    assert meta["NOISE"] == "calibrated"
    factor = np.array(json.loads(meta["AR"]))
    np.testing.assert_allclose(factor, run_simulated.calibration.factor, rtol=5e-4)  # four digits
    assert [meta[f"ASEC_{i}"] for i in range(4)] == [0.36, 0.5, 0.7, 1.0]
    assert json.loads(meta["OPTIONS"])["detect"]["n_sigma"] == 1.5
    assert json.loads(meta["VERSIONS"])["sep"] == sep.__version__
    assert meta["INPUT"] == str(simulated.prefix)
    assert meta["EPOCHS"] == f"{simulated.prefix.name}_wcs.csv"


@pytest.mark.parametrize("preset", ["dja", "background"])
def test_other_presets_are_not_calibrated(preset, simulated):
    """Their errors are the root of the summed variance, and nothing in the metadata says otherwise."""
    result = dp.run([simulated.prefix], dp.Options(variance=dp.VarianceOptions(noise=preset)))
    assert result.calibration is None
    assert not [key for key in result.catalog.meta if key.startswith("AR")]
    image, catalog = result.image, result.catalog
    null = image.uncertainty.array == 0
    variance = np.where(null, np.float32(1e30), 1 / np.where(null, 1, image.uncertainty.array)).astype(np.float32)
    use = catalog["flag_aper_1"] == 0
    _, error, _ = sep.sum_circle(
        image.data, catalog["x"].value[use], catalog["y"].value[use], 6.25, var=variance, subpix=0
    )
    assert use.sum() > 30
    np.testing.assert_allclose(catalog["fluxerr_aper_1"][use].to_value(u.uJy), error / 100, rtol=2e-6)  # float32


def test_cut_out_gives_the_same_sources(simulated, run_simulated):
    whole = run_simulated.catalog
    part = dp.run([simulated.prefix], dp.Options(cutout=(slice(100, 300), slice(150, 400)))).catalog
    inner = (np.abs(part["x"].value - 125) < 95) & (np.abs(part["y"].value - 100) < 70)
    inner &= part["flux_auto"] > 1 * u.uJy
    assert inner.sum() >= 3
    _, separation, _ = SkyCoord(part["ra"], part["dec"])[inner].match_to_catalog_sky(
        SkyCoord(whole["ra"], whole["dec"])
    )
    # The mesh background differs at the edge of the cut-out; bright barycentres stay within a quarter of a pixel.
    assert np.all(separation < 10 * u.mas)


def test_plain_nddata_of_another_loader(simulated):
    """A loader that knows nothing of this package: all its variance counts as background, and the metadata say so."""
    path = simulated.prefix.with_name(f"{simulated.prefix.name}_drc_sci.fits.gz")
    science, header = fits.getdata(path, header=True)
    image = NDData(
        science, unit="10 nJy", uncertainty=VarianceUncertainty(np.full(science.shape, 0.05)), wcs=WCS(header)
    )

    class Loader:
        @staticmethod
        @dp.hookimpl
        def photplug_load(source):
            return image if str(source) == "mine" else None

    manager = get_plugin_manager()
    manager.register(Loader, "mine")
    with pytest.warns(dp.PhotplugWarning, match="the pixels scatter by 0.0477 times the sigma of the full weight"):
        result = dp.run(["mine"], dp.Options(measure=AS_IS), manager=manager)
    catalog = result.catalog
    assert "all variance counts as background" in catalog.meta["BACKWHT"]
    assert catalog.meta["EPOCHS"] == "no WCS log"
    assert "n_exp" not in catalog.colnames
    # 0.05 in each of the pi * 12.5^2 pixels of the largest aperture.
    clean = (catalog["flag_aper_3"] == 0).nonzero()[0]
    expected = np.sqrt(0.05 * np.pi * 12.5**2) * 0.01 * result.calibration(12.5 * 0.04)
    # That variance was guessed, and is too large: empty apertures of the same size tell.
    assert result.calibration(12.5 * 0.04) < 0.5
    # sep weights a variance by the overlap fraction, not its square: no effect for a flat variance.
    np.testing.assert_allclose(catalog["fluxerr_aper_3"][clean].to_value(u.uJy), expected, rtol=1e-5)


def test_what_a_run_refuses(simulated, tmp_path):
    with pytest.raises(dp.PhotplugError, match="both in the band f444w; give one mosaic per"):
        dp.run([simulated.prefix, simulated.prefix])
    with pytest.raises(dp.PhotplugError, match="engine 'nope'.*asked sep-engine"):
        dp.run([simulated.prefix], dp.Options(engine="nope"))
    with pytest.raises(dp.PhotplugError, match="some.image: not the name of a DJA mosaic"):
        dp.run(["some.image"])


def test_plugin_column_that_exists(simulated):
    class Careless:
        @staticmethod
        @dp.hookimpl
        def photplug_columns(catalog):
            return {"flux_auto": catalog["flux_auto"]}

    manager = get_plugin_manager()
    manager.register(Careless, "careless")
    with pytest.raises(
        dp.PhotplugError,
        match="plugin 'careless' in photplug_columns: gave the column flux_auto, which the catalogue already has",
    ):
        dp.run([simulated.prefix], manager=manager)


def test_catalogue_round_trip(run_simulated, tmp_path):
    path = dp.write_catalog(run_simulated.catalog, tmp_path / "cat.fits")
    back = QTable.read(path)
    assert back.colnames == run_simulated.catalog.colnames
    for name in CONTRACT:
        assert back[name].info.description == run_simulated.catalog[name].info.description
        assert (back[name].unit or "") == (run_simulated.catalog[name].unit or "")


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet"])
@pytest.mark.parametrize("count", [3, 0])
def test_columns_of_different_lengths_survive_in_files(tmp_path: Path, suffix: str, count: int) -> None:
    shots = field_of_shots(150.0, 2.0, 2)
    log = write_shots(tmp_path / "x_wcs.csv", shots)
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


def test_a_log_of_another_field_is_told(tmp_path: Path) -> None:
    log = gapped_log(tmp_path)
    with pytest.warns(PhotplugWarning, match="none of the 2 positions is covered by any of its 6 exposures"):
        epochs = find_epochs(log, SkyCoord([10, 11], [2, 2], unit="deg"), Options(), get_plugin_manager())
    assert epochs["n_exp"].tolist() == [0, 0]
