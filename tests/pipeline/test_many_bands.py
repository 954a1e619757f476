"""Detect once, measure everywhere: colours and errors on nested grids against truth, columns, stacks, bad input.

By default two small mosaics of each band; ``--slow`` runs 12 larger ones, with over 1,500 sources.
"""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, QTable

import dja_photplug as dp
from dja_photplug.catalog.schema import APERTURE_COLUMNS, COLUMNS, EPOCH_COLUMNS, GROWTH_COLUMNS, TOTAL_COLUMNS
from dja_photplug.cli.app import main
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.files.names import find_mosaic
from dja_photplug.files.pixels import read_image
from dja_photplug.files.written import write_image
from dja_photplug.mosaic.image import replace_planes
from dja_photplug.pipeline.images import load_source
from dja_photplug.pipeline.many_bands import list_columns
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from dja_photplug.simulate.mosaic import SimulatedMosaic
from dja_photplug.sources.totals import compare_apertures
from tests.helpers import (
    expect_error,
    isolated_scene,
    make_stars,
    plain,
    robust_scatter,
    simulate_bands,
    uds_prefix,
    write_psf,
)

LONG, SHORT = "f444w", "f115w"
BINS = {"below 1 uJy": (0, 1), "above 1 uJy": (1, np.inf)}


# Without a(r), which takes most of the time.
DJA = dp.VarianceOptions(noise="dja")
PSF_SIGMA = 0.07  # arcsec


def detect_on(detect: str | None = None, **settings: object) -> dp.Options:
    return dp.Options(variance=DJA, bands=dp.BandOptions(detect=detect, **settings))


def simulate_pair(folder: Path, seed: int, shape: tuple[int, int], n_sources: int) -> dict[str, SimulatedMosaic]:
    """The same isolated sources with the same PSF at 40 mas and at 20 mas; those above 1 uJy are stars."""
    scene = isolated_scene(
        bands=(LONG, SHORT), shape=shape, n_sources=n_sources, flux_range=(0.05, 60), flux_slope=0.1, seed=seed
    )
    make_stars(scene, scene[f"{LONG}_flux"].value > 1)
    common = {"root": "sim-nested-v1", "n_exposures": 3, "compress": False, "seed": seed}
    return simulate_bands(folder, scene, {LONG: 1, SHORT: 2}, **common)


# ---- truth: colours and errors on nested grids


def measure_truth(mosaic: SimulatedMosaic, result: Result) -> QTable:
    """The noise-free image of a band in the very apertures of the run, with its masks and neighbours."""
    image = load_source(find_mosaic(mosaic.prefix), result.options, get_plugin_manager())
    noise_free, _ = read_image(mosaic.truth_image)
    sources = result.detection.sources.copy()
    sources["kron_radius"] = result.catalog["kron_radius"]
    detection = replace(result.detection, sources=sources)
    noise_free = replace_planes(image, data=noise_free)
    return analyse_image(noise_free, result.options, detection=detection, calibration=result.calibration).catalog


@pytest.fixture(scope="session")
def first_pair(tmp_path_factory) -> dict[str, SimulatedMosaic]:
    return simulate_pair(tmp_path_factory.mktemp("nested"), 1, (420, 420), 36)


@pytest.fixture(scope="session")
def nested(first_pair, tmp_path_factory, slow) -> list[dict[str, SimulatedMosaic]]:
    """Pairs of mosaics of 20 and 40 mas."""
    folder = tmp_path_factory.mktemp("more")
    if slow:
        return [simulate_pair(folder / str(seed), seed, (900, 900), 144) for seed in range(1, 13)]
    return [first_pair, simulate_pair(folder, 2, (420, 420), 36)]


def collect_nested(pairs: list[dict[str, SimulatedMosaic]], detect: str) -> dict[str, np.ndarray]:
    """Return pulls of each band, colours over the true ones, and true fluxes in uJy, of all clean sources."""
    parts: dict[str, list[np.ndarray]] = {}
    for pair in pairs:
        options = dp.Options(bands=dp.BandOptions(detect=detect))
        result = dp.run([mosaic.prefix for mosaic in pair.values()], options)
        catalog, scene = result.catalog, pair[LONG].scene
        where = SkyCoord(catalog["ra"], catalog["dec"])
        index, distance, _ = where.match_to_catalog_sky(SkyCoord(scene["ra"], scene["dec"]))
        clean = (distance < 0.2 * u.arcsec) & (catalog["mask_frac"] == 0)
        true_colour = (scene[f"{SHORT}_flux"] / scene[f"{LONG}_flux"])[index].value
        columns = {}
        for band in (LONG, SHORT):
            true = measure_truth(pair[band], result)
            clean &= catalog[f"{band}_mask_frac"] == 0
            for kind in ("aper_0", "aper_1", "aper_2", "auto"):
                flux, error = (catalog[f"{band}_{name}_{kind}"].value for name in ("flux", "fluxerr"))
                columns[f"{band} {kind}"] = (flux - true[f"flux_{kind}"].value) / error
            columns[f"{band} flux"] = true["flux_auto"].value
        for kind in ("flux_aper_0", "flux_aper_1", "flux_aper_2", "corr_1", "tot_1", "flux_auto"):
            ratio = (catalog[f"{SHORT}_{kind}"] / catalog[f"{LONG}_{kind}"]).value
            columns[f"colour {kind}"] = ratio / true_colour
        snr = [catalog[f"{band}_flux_aper_1"] / catalog[f"{band}_fluxerr_aper_1"] for band in (LONG, SHORT)]
        columns["snr"] = np.minimum(*(each.value for each in snr))
        for name, values in columns.items():
            parts.setdefault(name, []).append(values[clean])
    return {name: np.concatenate(values) for name, values in parts.items()}


@pytest.mark.parametrize("detect", [LONG, SHORT])
def test_colours_and_errors_on_nested_grids(detect, nested, slow):
    """Colours within 1 % of truth, and (measured - noise-free)/error scatters by 1 in both bands."""
    found = collect_nested(nested, detect)
    bright = found["snr"] > 50
    print(f"\ndetected on {detect}: {len(bright)} sources, {bright.sum()} bright")
    for kind in [name for name in found if name.startswith("colour")]:
        values = found[kind][bright]
        scatter = robust_scatter(values)
        error = 1.25 * scatter / np.sqrt(len(values))
        print(f"{kind:<20} median {np.median(values):.4f} +- {error:.4f}")
        assert abs(np.median(values) - 1) < max(0.01, 3 * error), kind
        if slow:
            assert error < 0.002
    for band in (LONG, SHORT):
        for label, (low, high) in BINS.items():
            use = (found[f"{band} flux"] > low) & (found[f"{band} flux"] <= high)
            for kind in ("aper_0", "aper_1", "aper_2", "auto"):
                pull = found[f"{band} {kind}"][use]
                scatter, median = robust_scatter(pull), np.median(pull)
                print(f"{band} {label:<12} {kind:<7} {len(pull):5d} {scatter:.3f} {median:+.3f}")
                # As in test_errors.py: a scatter is known to 1.17 sigma / sqrt(n), a median to 1.25 sigma / sqrt(n).
                allowed = max(0.1 if kind == "auto" else 0.05, 3 * SCATTER_ERROR / np.sqrt(len(pull)))
                assert abs(scatter - 1) < allowed, (band, label, kind)
                assert abs(median) < max(0.1, 3 * 1.25 / np.sqrt(len(pull))), (band, label, kind)


# ---- columns


@pytest.fixture(scope="session")
def pair(first_pair) -> list[Path]:
    """Prefixes of a mosaic of 40 and one of 20 mas."""
    return [mosaic.prefix for mosaic in first_pair.values()]


@pytest.fixture(scope="session")
def psf(tmp_path_factory) -> Path:
    """A Gaussian whose pixels add up to 0.9: a tenth of the light is outside of the stamp."""
    return write_psf(tmp_path_factory.mktemp("psf") / "psf.fits", PSF_SIGMA, 101, 0.02, total=0.9)


@pytest.fixture(scope="session")
def both(pair, psf) -> Result:
    """Detected on the 20 mas band, which is the second; a PSF in the first alone."""
    return dp.run(pair, detect_on(SHORT, psf={LONG: str(psf)}))


def assert_same(ours: QTable, theirs: QTable, names: list[str], other: dict[str, str] | None = None) -> None:
    """Columns are the same bit for bit, with their units."""
    for name in names:
        twin = (other or {}).get(name, name)
        np.testing.assert_array_equal(plain(ours[name]), plain(theirs[twin]), err_msg=name)
        assert ours[name].unit == theirs[twin].unit


def test_names_units_and_descriptions(both):
    """The detection image's columns, then those of each band in the order of the mosaics, after its name."""
    specs = {spec.name: spec for spec in COLUMNS}
    per_band = list(COLUMNS[11:])
    assert per_band[0].name == "flux_radius"  # what comes before is the source's, in whichever band
    for group in (APERTURE_COLUMNS, TOTAL_COLUMNS):
        for i in range(4):
            for spec in group:
                name, text = spec.name.format(i=i), spec.description.format(i=i)
                specs[name] = replace(spec, name=name, description=text)
    specs |= {spec.name: spec for spec in (*EPOCH_COLUMNS, *GROWTH_COLUMNS)}
    apertures = [spec.name.format(i=i) for i in range(4) for spec in APERTURE_COLUMNS]
    totals = [spec.name.format(i=i) for i in range(4) for spec in TOTAL_COLUMNS]
    own = [spec.name for spec in COLUMNS] + apertures
    growth = {LONG: [spec.name for spec in GROWTH_COLUMNS], SHORT: []}  # which has no PSF
    epochs = [spec.name for spec in EPOCH_COLUMNS]
    for band, more in growth.items():
        own += [f"{band}_{name}" for name in [spec.name for spec in per_band] + apertures + more + epochs + totals]
    assert both.catalog.colnames == own
    for name in both.catalog.colnames:
        spec = specs[name.removeprefix(f"{LONG}_").removeprefix(f"{SHORT}_")]
        assert str(both.catalog[name].unit or "") == spec.unit, name
        assert both.catalog[name].info.description == spec.description
    fluxes = [f"{LONG}_{name}" for name in ("corr_1", "ecorr_1", "tot_1", "etot_1", "flux_aper_1")]
    assert {both.catalog[name].unit for name in fluxes} == {u.uJy}


def test_columns_are_known_before_the_work(both, pair, capsys, tmp_path):
    """So that more than FITS holds are refused before it: 60 apertures of two bands."""
    assert set(list_columns(both.options, (LONG, SHORT))) == set(both.catalog.colnames)
    alone = dp.run(pair[:1], dp.Options(variance=DJA))
    assert set(list_columns(alone.options, ())) == set(alone.catalog.colnames)
    apertures = ",".join(f"{0.2 + i / 100:.2f}" for i in range(60))
    words = f"catalog {pair[0]} {pair[1]} --apertures {apertures} --detect {SHORT} -o {tmp_path}/cat.fits"
    assert main(words.split()) == 1
    assert "FITS holds at most 999 columns, not 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_detection_band_is_the_same_as_alone(both, pair):
    alone = dp.run(pair[1:], detect_on()).catalog
    names = [name for name in alone.colnames if name not in [spec.name for spec in EPOCH_COLUMNS]]
    assert_same(both.catalog, alone, names)
    banded = {f"{SHORT}_{name}": name for name in alone.colnames if f"{SHORT}_{name}" in both.catalog.colnames}
    assert {f"{SHORT}_flux_auto", f"{SHORT}_n_exp", f"{SHORT}_flag"} <= set(banded)
    assert_same(both.catalog, alone, list(banded), banded)


def test_totals_by_hand(both):
    catalog = both.catalog
    size = np.sqrt(plain(catalog["a"]) * plain(catalog["b"])) * plain(catalog["kron_radius"])
    radius = np.where(size > 0.35, size, 0.35)
    # Of the Gaussian in pixels of 0.02 arcsec, whose variance is 0.02^2 / 12 larger by its pixels.
    share = 0.9 - 0.9 * np.exp(-(radius**2) / 2 / (PSF_SIGMA**2 + 0.02**2 / 12))
    for i in range(4):
        auto, aperture = (plain(catalog[name]) for name in ("flux_auto", f"flux_aper_{i}"))
        ratio = np.where((auto > 0) & (aperture > 0), auto / aperture, np.nan)
        for band, part in ((LONG, share), (SHORT, 1)):
            for e, error in (("", ""), ("e", "err")):
                corr = plain(catalog[f"{band}_flux{error}_aper_{i}"]) * ratio
                np.testing.assert_allclose(plain(catalog[f"{band}_{e}corr_{i}"]), corr, rtol=1e-12)
                # The curve of growth is tabulated to 1e-4, and the Gaussian is sampled.
                np.testing.assert_allclose(plain(catalog[f"{band}_{e}tot_{i}"]), corr / part, rtol=5e-4)


def test_totals_where_the_detection_image_has_no_light():
    """Not a flux of 0 or a ratio of two negative ones: NaN."""
    auto, aperture = [2.0, -2.0, -2.0, 2.0, 0.0, np.nan, 2.0], [1.0, -1.0, 1.0, 0.0, 1.0, 1.0, -1.0]
    ratio = compare_apertures(auto, {3: aperture})
    np.testing.assert_array_equal(ratio[3], [2, *[np.nan] * 6])


def test_metadata(both, pair):
    meta = both.catalog.meta
    assert meta["DETECT"] == SHORT
    assert meta["INPUT"] == str(pair[1])
    bands = [json.loads(meta[f"BAND_{i}"]) for i in range(2)]
    assert [each["band"] for each in bands] == [LONG, SHORT]
    assert [each["PSF"] for each in bands] == ["psf.fits", "none: tot is corr"]
    assert [each["INPUT"] for each in bands] == [str(prefix) for prefix in pair]
    assert [each["EPOCHS"] for each in bands] == [f"{prefix.name}_wcs.csv" for prefix in pair]
    assert json.loads(meta["OPTIONS"])["bands"]["detect"] == SHORT
    assert "BAND_2" not in meta


def test_epochs_are_those_of_each_band(folder):
    """The simulated logs hold the same exposures, so the last two of one are taken out: 4 of 6 are left."""
    path = Path(f"sim-nested-v1-{SHORT}-clear_wcs.csv")
    lines = path.read_text().splitlines()
    path.unlink()  # a link
    path.write_text("\n".join(lines[:-2]) + "\n")
    catalog = dp.run(BANDS.split(), detect_on(SHORT)).catalog
    where = SkyCoord(catalog["ra"], catalog["dec"])
    for band in (LONG, SHORT):
        epochs = dp.read_exposure_log(f"sim-nested-v1-{band}-clear_wcs.csv").epochs(where)
        assert len(epochs.colnames) == len(EPOCH_COLUMNS)
        for name in epochs.colnames:
            np.testing.assert_array_equal(plain(catalog[f"{band}_{name}"]), plain(epochs[name]))
    assert catalog[f"{LONG}_n_exp"].max() == 6
    assert catalog[f"{SHORT}_n_exp"].max() == 4
    assert (catalog[f"{SHORT}_exptime"] < catalog[f"{LONG}_exptime"]).all()
    assert (catalog[f"{SHORT}_mjd_mean"] < catalog[f"{LONG}_mjd_mean"]).all()


def test_point_sources_are_flagged_where_there_is_a_psf(both):
    assert (both.catalog[f"{LONG}_flag"] & dp.SourceFlag.POINT_LIKE).any()
    assert not (both.catalog[f"{SHORT}_flag"] & dp.SourceFlag.POINT_LIKE).any()


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet"])
def test_round_trip(both, tmp_path, suffix):
    path = dp.write_catalog(both.catalog, tmp_path / f"cat{suffix}")
    back = QTable.read(path)
    assert back.colnames == both.catalog.colnames
    assert_same(back, both.catalog, back.colnames)
    assert [back[n].info.description for n in back.colnames] == [
        both.catalog[n].info.description for n in back.colnames
    ]
    for key, value in both.catalog.meta.items():
        assert back.meta[key] == value


def test_real_bands(data):
    """F444W and F115W of UDS: the 129 sources of F444W, where they have their own peak in F115W, as F115W alone."""
    prefixes = [uds_prefix(data, band) for band in (LONG, SHORT)]
    catalog = dp.run(prefixes, detect_on(LONG)).catalog
    assert len(catalog) == 129
    for band in (LONG, SHORT):
        assert np.isfinite(catalog[f"{band}_flux_auto"]).all()
        np.testing.assert_array_equal(catalog[f"{band}_n_exp"] > 0, True)
    own = dp.run(prefixes[1:], detect_on()).catalog
    here, there = (SkyCoord(table["ra"], table["dec"]) for table in (catalog, own))
    index, distance, _ = here.match_to_catalog_sky(there)
    near = (distance < 0.02 * u.arcsec) & (catalog[f"{SHORT}_flux_aper_1"] > 0.3 * u.uJy)
    near &= (catalog[f"{SHORT}_flag_aper_1"] == 0) & (own["flag_aper_1"][index] == 0)
    assert near.sum() > 5
    ratio = catalog[f"{SHORT}_flux_aper_1"][near] / own["flux_aper_1"][index][near]
    # Half a pixel at most between the centres changes a 0.5 arcsec aperture by a few per cent.
    np.testing.assert_allclose(ratio.value, 1, atol=0.05)


# ---- detection images


def test_stack_is_the_default_and_the_archives_ir_reads_it_back(pair, tmp_path):
    """--stack writes the stack; detected on it as `ir` beside the bands or among them, the sources are the same."""
    background = dp.VarianceOptions(noise="background")
    options = replace(detect_on(stack=str(tmp_path)), variance=background)
    stacked = dp.run(pair, options).catalog
    assert stacked.meta["DETECT"] == "stack"
    assert stacked.meta["INPUT"] == "stack of f444w, f115w"
    assert f"{LONG}_flux_auto" in stacked.colnames
    assert {path.name for path in tmp_path.iterdir()} == {
        f"sim-nested-v1-ir_drc_{kind}.fits.gz" for kind in ("sci", "wht")
    }
    written = tmp_path / "sim-nested-v1-ir"
    for prefix in pair:
        for path in prefix.parent.glob(f"{prefix.name}_*"):
            (tmp_path / path.name).symlink_to(path)
    here = [tmp_path / prefix.name for prefix in pair]
    among = dp.run([*here, written], replace(detect_on(), variance=background)).catalog
    beside = dp.run(here, replace(detect_on("IR"), variance=background)).catalog
    for catalog in (among, beside):
        assert catalog.meta["DETECT"].endswith("ir")
        assert catalog.meta["INPUT"] == str(written)
        assert catalog.colnames == stacked.colnames
        for name in catalog.colnames:
            # The WCS of the file has a PC matrix, and is the same but for 1e-15 deg.
            ours, theirs = (plain(table[name]) for table in (catalog, stacked))
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)
    # Other presets hold for the bands; the stack has no photons to count.
    calibrated = dp.run([*here, written], replace(detect_on(), variance=DJA)).catalog
    assert calibrated.meta["NOISE"] == "background"
    assert json.loads(calibrated.meta["BAND_0"])["NOISE"] == "dja"


def test_detection_on_a_band_that_is_not_measured(pair):
    catalog = dp.run(pair[1:], detect_on("f444w-clear")).catalog
    assert catalog.meta["INPUT"] == str(pair[0])
    assert not [name for name in catalog.colnames if name.startswith(f"{LONG}_")]
    assert_same(catalog, dp.run(pair, detect_on(LONG)).catalog, catalog.colnames)


def test_given_segments(both, pair, tmp_path):
    """Segments of the 20 mas grid, renumbered: ids are the labels, and sources with other shapes stay themselves."""
    labels = both.detection.segmentation * 3
    path = write_image(tmp_path / "seg.fits", labels, both.detection.wcs.to_header())
    options = replace(detect_on(LONG), detect=dp.DetectOptions(use_segmentation=str(path)))
    catalog = dp.run(pair, options).catalog
    np.testing.assert_array_equal(catalog["id"], 3 * np.asarray(both.catalog["id"]))
    # Barycentres in another band; a tenth of a pixel of 40 mas where bright.
    distance = SkyCoord(catalog["ra"], catalog["dec"]).separation(SkyCoord(both.catalog["ra"], both.catalog["dec"]))
    assert np.median(distance[both.catalog["flux_auto"] > 1 * u.uJy]) < 4 * u.mas
    bright = catalog["flux_auto"] > 10 * u.uJy
    assert bright.sum() > 3
    ratio = (catalog[f"{SHORT}_flux_aper_3"] / both.catalog[f"{SHORT}_flux_aper_3"])[bright]
    np.testing.assert_allclose(ratio.value, 1, rtol=0.002)


# ---- options


def test_zero_point(both, pair, psf):
    """One band 0.5 mag brighter: its fluxes, errors and depths, and nothing of the others."""
    moved = dp.run(pair, detect_on(SHORT, psf={LONG: str(psf)}, zero_point={LONG: 28.4})).catalog
    factor, others = 10**0.2, [name for name in moved.colnames if not name.startswith(LONG)]
    assert_same(moved, both.catalog, others)
    for name in [name for name in moved.colnames if name not in others]:
        ours, theirs = plain(moved[name]), plain(both.catalog[name])
        if moved[name].unit == u.uJy:
            # float32 pixels; and near 0 the errors of sums of pixels of 10 uJy.
            np.testing.assert_allclose(ours, theirs * factor, rtol=1e-5, atol=1e-5, err_msg=name)
        elif "depth5" in name:
            np.testing.assert_allclose(ours, theirs - 0.5, atol=1e-5)
        elif name.endswith("mag_auto"):
            np.testing.assert_allclose(ours[theirs < 27] + 0.5, theirs[theirs < 27], atol=1e-4, err_msg=name)


def test_workers_give_the_same_table(pair, psf):
    """Of what is measured elsewhere than it was detected; each band in a process."""
    options = detect_on("stack", psf={LONG: str(psf)})
    options = [replace(options, bands=replace(options.bands, workers=n)) for n in (1, 2)]
    serial, parallel = (dp.run(pair, each, keep_image=False).catalog for each in options)
    assert parallel.colnames == serial.colnames
    assert_same(parallel, serial, serial.colnames)
    meta = {key: value for key, value in parallel.meta.items() if key != "OPTIONS"}
    assert meta == {key: value for key, value in serial.meta.items() if key != "OPTIONS"}


class Watcher:
    """A plugin that loads as the built-in does, keeps an eye on what is in memory, and adds a column."""

    def __init__(self) -> None:
        self.images: list[weakref.ref] = []
        self.alive: list[int] = []
        self.bands: list[str] = []

    @dp.hookimpl(wrapper=True)
    def photplug_load(self, source):
        gc.collect()
        self.alive.append(sum(image() is not None for image in self.images))
        image = yield
        self.images.append(weakref.ref(image))
        return image

    @dp.hookimpl
    def photplug_columns(self, catalog, band):
        self.bands.append(band)
        return {"twice": Column(2 * np.asarray(catalog["id"]), description="twice the id")}


def test_one_image_at_a_time_and_columns_of_plugins(pair):
    """Plugins that are registered by hand are asked in this process, whatever the number of workers."""
    for detect, loads in (("stack", [0, 0, 0, 0]), (LONG, [0, 0])):
        watcher, manager = Watcher(), dp.get_plugin_manager()
        manager.register(watcher, "watcher")
        result = dp.run(pair, detect_on(detect, workers=2), manager=manager, keep_image=False)
        assert watcher.alive == loads
        assert watcher.bands == [LONG, SHORT]
        np.testing.assert_array_equal(result.catalog[f"{LONG}_twice"], 2 * np.asarray(result.catalog["id"]))
        assert result.catalog[f"{SHORT}_twice"].info.description == "twice the id"
        with pytest.raises(dp.PhotplugError, match="was not kept while the bands were measured; run with keep_image"):
            _ = result.image
        assert result.segmentation.n_labels == len(result.catalog)


def test_kept_image_is_that_of_the_detection(both, pair):
    assert both.image.wcs.wcs.cd[1, 1] * 3600 == pytest.approx(0.02)
    assert both.image.data.shape == both.detection.segmentation.shape
    with fits.open(f"{pair[1]}_drc_sci.fits") as hdus:
        np.testing.assert_array_equal(both.image.data, hdus[0].data)


def test_engines_agree_on_given_segments(both, pair, tmp_path):
    path = write_image(tmp_path / "seg.fits", both.detection.segmentation, both.detection.wcs.to_header())
    options = replace(detect_on(LONG), detect=dp.DetectOptions(use_segmentation=str(path)))
    one, other = (dp.run(pair, replace(options, engine=engine)).catalog for engine in ("sep", "photutils"))
    assert other.meta["ENGINE"] == "photutils"
    assert one.colnames == other.colnames
    for band in (LONG, SHORT):
        clean = (one[f"{band}_flag_aper_1"] == 0) & (other[f"{band}_flag_aper_1"] == 0)
        assert clean.sum() > 15
        for name in (f"{band}_flux_aper_1", f"{band}_fluxerr_aper_1"):
            ours, theirs = (plain(table[name])[clean] for table in (one, other))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, err_msg=name)  # as the issue asks


# ---- the command line


@pytest.fixture
def folder(pair, tmp_path, monkeypatch) -> Path:
    """A working directory with the products of both bands, as ``sim-nested-v1-{band}-clear``."""
    for path in pair[0].parent.glob("sim-nested-v1-*"):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


BANDS = " ".join(f"sim-nested-v1-{band}-clear" for band in (LONG, SHORT))


def test_command_line(folder, capsys, both, psf):
    words = f"catalog {BANDS} -o cat.ecsv --detect {SHORT} --psf F444W={psf} --noise dja --segmentation seg.fits"
    assert main(words.split()) == 0
    captured = capsys.readouterr()
    assert "cat.ecsv, seg.fits: " in captured.out
    assert f"{len(both.catalog)} sources detected on {SHORT}, engine sep, noise preset dja" in captured.out
    catalog = QTable.read("cat.ecsv")
    assert catalog.colnames == both.catalog.colnames
    assert_same(catalog, both.catalog, catalog.colnames)
    assert set(np.unique(fits.getdata("seg.fits"))) == {0, *catalog["id"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (f"{BANDS} sim-nested-v1-f115w-clear_drc_sci.fits", "are both in the band f115w; give one mosaic per band"),
        (f"{BANDS} --detect f090w", "option detect: f090w is not one of the bands f444w, f115w, and there is no such"),
        (
            f"{BANDS} --detect ir",
            "option detect: ir is not one of the bands f444w, f115w, and there is no such mosaic next to "
            "sim-nested-v1-f444w-clear; give a band, ir or stack",
        ),
        (f"{BANDS} --stack missing", "the folder missing does not exist"),
        (f"{BANDS} --stack . --detect f444w", "option stack: sources are detected on f444w"),
        (f"{BANDS} --psf f277w=psf.fits", "option psf: f277w is not one of the bands f444w, f115w"),
        (f"{BANDS} --zero-point f277w=28", "option zero_point: f277w is not one of the bands"),
        (f"{BANDS} --psf f444w=missing.fits", "missing.fits"),
        (f"{BANDS} --psf f444w=flat.fits", "flat.fits: "),
        (f"{BANDS} --psf f444w=wide.fits", "wide.fits: with pixels of 2 arcsec the PSF is"),
        (f"{BANDS} --use-segmentation seg.fits", "seg.fits: the segmentation map of (10, 12) pixels (y, x) has no"),
        (f"{BANDS} --format eazy --eazy-aperture 9 -o cat.parquet", "cat.parquet: the suffix must be one of .fits"),
        (f"{BANDS} -o cat.csv", "cat.csv: the suffix must be one of .fits, .ecsv, .parquet"),
        (f"{BANDS} -o there.fits", "there.fits: already exists"),
        (f"{BANDS} --format nothing", "is not one of table, eazy"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, capsys, arguments, words):
    write_psf(folder / "wide.fits", 7, 101, 2, total=0.9)
    fits.writeto("flat.fits", np.zeros((21, 21)), fits.Header({"PIXSCL": 0.04}))
    fits.writeto("seg.fits", np.ones((10, 12), np.int32))
    Path("there.fits").touch()
    output = "" if "-o" in arguments else "-o cat.fits"
    expect_error(capsys, f"catalog {arguments} {output} --noise dja --quiet", words)


@pytest.mark.parametrize(
    ("more", "emptied", "name"),
    [
        ("--detect f115w", ["f115w"], "data/sim-v1-f115w-clear"),
        ("", ["f444w", "f115w"], "stack of f444w, f115w"),
    ],
)
def test_a_detection_image_without_data_is_refused(tmp_path, monkeypatch, capsys, more, emptied, name):
    """By whatever it is found: here by its sky."""
    monkeypatch.chdir(tmp_path)
    bands = ["f444w", "f115w"]
    for band in bands:
        write_field(simulate_field(FieldOptions(shape=(120, 140), density=900.0)), "data", "sim-v1", f"{band}-clear")
    for band in emptied:
        with fits.open(f"data/sim-v1-{band}-clear_drc_wht.fits", mode="update") as hdus:
            hdus[0].data[:] = 0
    sources = " ".join(f"data/sim-v1-{band}-clear" for band in bands)
    told = f"dja-photplug: {name}: no pixel of the image is left for its background: "
    expect_error(capsys, f"catalog {sources} -o cat.fits --quiet {more}", told)


def test_a_stack_that_exists_is_kept(folder, capsys):
    Path("sim-nested-v1-ir_drc_sci.fits.gz").write_text("mine")
    assert main(f"catalog {BANDS} -o cat.fits --stack . --noise dja --quiet".split()) == 1
    assert "already exists" in capsys.readouterr().err
    assert Path("sim-nested-v1-ir_drc_sci.fits.gz").read_text() == "mine"
    assert not Path("cat.fits").exists()


def test_cut_out(pair):
    """The same place on both grids."""
    centre = dp.load_mosaic(pair[0], "background").wcs.pixel_to_world(200.3, 180.2)
    part = dp.run(pair, replace(detect_on(), cutout=(centre, 7 * u.arcsec)))
    assert part.image.data.shape == (175, 175)
    assert 3 < len(part.catalog) < 20
    inner = SkyCoord(part.catalog["ra"], part.catalog["dec"]).separation(centre) < 3 * u.arcsec
    for band in (LONG, SHORT):
        assert np.isfinite(part.catalog[f"{band}_flux_aper_3"][inner]).all()
    with pytest.raises(dp.PhotplugError, match="cut-out in pixels is at another position in each band"):
        dp.run(pair, replace(detect_on(), cutout=(slice(100), slice(100))))
