"""What the hooks promise: engines that measure less, other archives, presets, options and errors of plugins."""

from __future__ import annotations

import json
import tracemalloc
import types
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pluggy
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance
from astropy.table import QTable
from regions import Regions

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.files.names import find_mosaic
from dja_photplug.files.written import write_image
from dja_photplug.injection.field import Job, prepare
from dja_photplug.mosaic import load as dja
from dja_photplug.mosaic.models.noise import crop_model
from dja_photplug.mosaic.plan import load_exposure
from dja_photplug.mosaic.stack import coarsest_grid, stack_images
from dja_photplug.pipeline import streams
from dja_photplug.pipeline.images import find_source, load_source
from dja_photplug.pipeline.many_bands import find_bands
from dja_photplug.pipeline.streams import write_source_weight
from dja_photplug.plugin import (
    SEP,
    Source,
    Stage,
    calibrate_with,
    hookimpl,
    make_noise_model,
    measure_with,
    mesh_background,
    option,
)
from dja_photplug.plugins.options import complete_options
from dja_photplug.simulate.mosaic import MosaicOptions, simulate_mosaic
from dja_photplug.sky.grid import Grid
from tests.helpers import (
    DJA,
    JWST_HEADER,
    copy_products,
    expect_error,
    isolated_scene,
    make_wcs,
    simulate_bands,
    uds_prefix,
)

PREFIX = "sim-test-v7.4-f444w-clear"
FEW = dp.InjectionOptions(realisations=1, magnitudes=(22, 26), bin_width=2, workers=1)


def make_manager(**hooks: Callable[..., object]) -> pluggy.PluginManager:
    """Return a manager with one more plugin, ``mine``."""
    manager = dp.get_plugin_manager()
    plugin = types.ModuleType("plugin")
    for name, function in hooks.items():
        function.__name__ = name
        setattr(plugin, name, hookimpl(function))
    manager.register(plugin, "mine")
    return manager


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the command line have one more plugin, as if it were installed."""

    def plug(**hooks: Callable[..., object]) -> None:
        monkeypatch.setattr("dja_photplug.cli.app.get_plugin_manager", lambda: make_manager(**hooks))

    return plug


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Prefixes of two small simulated bands."""
    scene = isolated_scene(shape=(220, 240), bands=("f444w", "f115w"), n_sources=20, flux_range=(1, 50), seed=2)
    options = {"root": "pair-v1", "n_exposures": 2}
    made = simulate_bands(tmp_path_factory.mktemp("pair"), scene, {"f444w": 1, "f115w": 1}, **options)
    return [mosaic.prefix for mosaic in made.values()]


# ---- an engine that measures one aperture and nothing else


def measure_one(image, detection, calibration, options):
    """Measure the first aperture, of all the columns."""
    if options.engine != "mine":
        return None
    table = measure_with(SEP, image, detection, calibration, options)
    return table["id", "ra", "dec", "flux_aper_0", "fluxerr_aper_0"]


MINE = replace(DJA, engine="mine")


def test_engine_that_only_measures_takes_the_rest_of_sep(simulated):
    manager = make_manager(photplug_measure=measure_one)
    ours, theirs = dp.run([simulated.prefix]), dp.run([simulated.prefix], dp.Options(engine="mine"), manager=manager)
    assert theirs.catalog.colnames[:5] == ["id", "ra", "dec", "flux_aper_0", "fluxerr_aper_0"]
    np.testing.assert_array_equal(theirs.catalog["fluxerr_aper_0"], ours.catalog["fluxerr_aper_0"])  # with a(r)
    np.testing.assert_array_equal(theirs.calibration.factor, ours.calibration.factor)
    assert theirs.catalog.meta["ENGINE"] == "mine"


def test_engine_that_measures_less_in_two_bands(pair):
    manager = make_manager(photplug_measure=measure_one)
    catalog = dp.run(pair, MINE, manager=manager).catalog
    bands = [find_mosaic(prefix).band for prefix in pair]
    for band in bands:
        assert np.isfinite(catalog[f"{band}_flux_aper_0"]).any()
        assert not {f"{band}_flux_auto", f"{band}_corr_0", f"{band}_tot_0"} & set(catalog.colnames)
    extended = dp.extend_catalog(catalog["id", "ra", "dec"], pair[1:], MINE, manager=manager)
    assert f"{bands[1]}_fluxerr_aper_0" in extended.colnames


def test_engine_that_measures_less_with_injected_sources(simulated):
    manager = make_manager(photplug_measure=measure_one)
    with pytest.warns(dp.PhotplugWarning, match="engine 'mine' gives no error of flux_aper_1: fluxes are not compared"):
        result = dp.inject(simulated.prefix, MINE, FEW, manager=manager)
    assert np.mean(result.sources["recovered"]) > 0.8
    assert np.isnan(result.sources["flux"]).all()
    known = dp.inject(simulated.prefix, MINE, replace(FEW, aperture=0), manager=manager)
    assert np.isfinite(known.sources["flux"][known.sources["recovered"]]).all()


def test_engine_that_measures_less_in_all_outputs(folder, plugged):
    plugged(photplug_measure=measure_one)
    outputs = "--segmentation seg.fits --regions c.reg --plot c.png"
    assert main(f"catalog {PREFIX} -o c.fits {outputs} --engine mine --noise dja --quiet".split()) == 0
    assert len(Regions.read("c.reg")) == len(QTable.read("c.fits")) > 10
    assert Path("c.png").stat().st_size > 10_000


def test_psf_is_handed_to_whoever_measures(pair, tmp_path):
    given = []

    def measure(image, detection, calibration, psf, options):
        given.append(None if psf is None else psf.name)
        return measure_one(image, detection, calibration, options)

    y, x = np.indices((41, 41)) - 20
    fits.writeto(tmp_path / "psf.fits", np.exp(-(x**2 + y**2) / 8.0) / (8 * np.pi), fits.Header({"PIXSCL": 0.04}))
    band = find_mosaic(pair[0]).band
    bands = dp.BandOptions(psf={band: str(tmp_path / "psf.fits")}, detect=band)
    dp.run(pair, replace(MINE, bands=bands), manager=make_manager(photplug_measure=measure))
    assert given == ["psf.fits", None]


# ---- presets of plugins


class Doubled:
    """Twice the published variance."""

    provenance = {"NOISE": ("doubled", "twice the variance of the wht"), "MYCARD": (2.5, "a card of the model's own")}

    def __call__(self, science, weight, rows):
        return weight / 2


def double(options):
    return Doubled() if options.variance.noise == "doubled" else None


def test_preset_of_a_plugin_in_python_and_in_the_catalogue(simulated):
    manager = make_manager(photplug_variance=double)
    image = dp.load_mosaic(simulated.prefix, "doubled", manager=manager)
    used = ~image.mask
    np.testing.assert_allclose(image.uncertainty.array[used], image.background_weight[used] / 2, rtol=1e-6)
    ones = np.ones((4, 5), np.float32)
    header = {"BUNIT": "10*nanoJansky"}
    np.testing.assert_array_equal(dp.full_weight(ones, ones, None, header, "doubled", manager=manager), ones / 2)
    options = dp.Options(variance=dp.VarianceOptions(noise="doubled"))
    meta = dp.run([simulated.prefix], options, manager=manager).catalog.meta
    assert (meta["NOISE"], meta["MYCARD"]) == ("doubled", 2.5)
    assert dp.inject(simulated.prefix, options, FEW, manager=manager).table.meta["MYCARD"] == 2.5


def test_installed_noise_plugin_is_asked_by_python_as_by_the_commands(simulated, monkeypatch):
    """Without a manager the installed plugins are asked, whichever function loads."""

    def everywhere(header):
        return Doubled()

    monkeypatch.setattr(
        "dja_photplug.pipeline.images.get_plugin_manager", lambda: make_manager(photplug_variance=everywhere)
    )
    assert dp.load_mosaic(simulated.prefix).meta["NOISE"] == "doubled"
    assert CCDData.read(simulated.prefix, format="dja").meta["NOISE"] == "doubled"
    one = np.ones((1, 1), np.float32)
    assert dp.full_weight(one, one, one, {"BUNIT": "10 nJy"})[0, 0] == 0.5


def test_names_that_nobody_has_are_refused_with_what_there_is(folder, capsys):
    expect_error(
        capsys,
        f"weight {PREFIX} -o w.fits --noise calibratd",
        "noise preset 'calibratd'",
        "dja, calibrated, background",
    )
    expect_error(capsys, f"catalog {PREFIX} -o c.fits --engine spe", "engine 'spe'", "built in are sep, photutils")
    with pytest.raises(dp.PhotplugError, match="noise preset 'full'.*built in are dja, calibrated, background"):
        dp.load_mosaic(PREFIX, "full")
    manager = make_manager(photplug_variance=double, photplug_measure=measure_one)
    with pytest.raises(dp.PhotplugError, match="noise preset 'tripled'.*asked mine, noise-model; built in are dja"):
        dp.load_mosaic(PREFIX, "tripled", manager=manager)
    with pytest.raises(
        dp.PhotplugError, match="engine 'spe'.*asked mine, sep-engine, photutils-engine; built in are sep"
    ):
        dp.run([PREFIX], replace(DJA, engine="spe"), manager=manager)


def test_variance_file_is_not_taken_for_a_preset_of_a_plugin(tmp_path):
    scene = isolated_scene(shape=(120, 120), n_sources=3, flux_range=(1, 50))
    mosaic = simulate_mosaic(tmp_path, scene, MosaicOptions(root="var-v1", n_exposures=2, var=True))
    assert "VARFILE" in dp.load_mosaic(mosaic.prefix, "calibrated").meta
    manager = make_manager(photplug_variance=double)
    assert dp.load_mosaic(mosaic.prefix, "doubled", manager=manager).meta["NOISE"] == "doubled"


# ---- zero points: the image carries its noise model


@pytest.mark.parametrize("noise", ["dja", "calibrated"])
def test_injection_with_another_zero_point_has_the_weights_of_the_image(simulated, noise):
    """At 26.4 a unit is ten times as bright: fluxes, weights and electrons follow, and so the same noise in uJy."""
    fields = {}
    for zero_point in (None, 26.4):
        bands = dp.BandOptions(zero_point={} if zero_point is None else {"f444w": zero_point})
        options = dp.Options(variance=dp.VarianceOptions(noise=noise), bands=bands)
        job = Job(source=find_mosaic(simulated.prefix), options=options, injection=FEW, psf=None)
        fields[zero_point] = prepare(job, dp.get_plugin_manager())
    plain, scaled = fields[None], fields[26.4]
    image = scaled.before.image
    np.testing.assert_allclose(image.data, 10 * plain.before.image.data, rtol=1e-5)
    again = scaled.model(image.data, scaled.weight, slice(0, len(image.data)))
    np.testing.assert_allclose(again, image.uncertainty.array, rtol=1e-5)
    np.testing.assert_allclose(scaled.electrons, plain.electrons / 10, rtol=1e-4)


def test_noise_model_of_a_part_is_that_of_the_whole(simulated):
    whole = dp.load_mosaic(simulated.prefix, "calibrated")
    part = whole[100:300, 50:420][10:, 5:]
    again = part.noise_model(part.data, part.background_weight, slice(0, len(part.data)))
    np.testing.assert_allclose(again, whole.uncertainty.array[110:300, 55:420], rtol=1e-6)
    np.testing.assert_array_equal(part.noise_model(part.data[:7], part.background_weight[:7], slice(0, 7)), again[:7])
    assert crop_model(whole.noise_model, np.s_[::2, ::2], whole.shape) is None
    assert whole.copy().noise_model is whole.noise_model
    assert whole.multiply(2).noise_model is None


def test_hooks_are_asked_once(simulated):
    asked = []

    def count(header, exposure, log, options):
        asked.append(header["NAXIS1"])
        return make_noise_model(header, exposure, log, options.variance)

    dp.inject(simulated.prefix, DJA, FEW, manager=make_manager(photplug_variance=count))
    assert asked == [530]


# ---- files travel


def test_member_that_was_named_is_remembered(folder):
    """Where drc and drz are there, and the second was named, nothing goes back to the first."""
    for path in folder.glob(f"{PREFIX}_drc_*"):
        copy = path.with_name(path.name.replace("_drc_", "_drz_"))
        pixels, header = fits.getdata(path, header=True)
        if "_exp" in path.name:
            pixels = pixels * 2
        fits.writeto(copy, pixels, header)
    result = dp.run([f"{PREFIX}_drz_sci.fits.gz"], DJA)
    assert result.catalog.meta["INPUT"] == f"{PREFIX}_drz"
    assert result.source.science.name == f"{PREFIX}_drz_sci.fits.gz"
    assert find_mosaic(result.catalog.meta["INPUT"]) == result.source
    once, twice = (load_exposure(find_mosaic(f"{PREFIX}{which}")) for which in ("", "_drz"))
    np.testing.assert_array_equal(load_exposure(result.source), twice)
    assert twice.max() == 2 * once.max()
    assert dp.run([PREFIX], DJA).catalog.meta["INPUT"] == PREFIX
    assert str(find_mosaic(f"{PREFIX}_drc_wht.fits.gz")) == PREFIX


# ---- galfit


def test_galfit_position_obeys_detection_engine_and_hooks(folder, plugged, capsys):
    catalog = dp.run([PREFIX], DJA).catalog
    brightest = catalog[np.argmax(catalog["flux_auto"])]
    position = f"--position {brightest['ra'].value} {brightest['dec'].value}"

    def target(name: str) -> str:
        text = Path(f"{name}/target.feedme").read_text()
        return next(line for line in text.splitlines() if line.strip().startswith("4)"))

    for name, flags in (("a", ""), ("b", "--n-sigma 1e6"), ("c", "--engine photutils"), ("d", "--config t.toml")):
        Path("t.toml").write_text("[detect]\nn_sigma = 1e6\n")
        assert main(f"galfit {PREFIX} {position} --size 3 -o {name} {flags} --quiet".split()) == 0
    assert target("b") == target("d") != target("a")  # nothing is above the threshold: a small circle stands in
    assert target("c") != target("a")
    capsys.readouterr()

    def detect(image, background, options):
        raise dp.PhotplugError("my detection was asked")

    plugged(photplug_detect=detect)
    expect_error(capsys, f"galfit {PREFIX} {position} --size 3 -o e", "plugin 'mine' failed", "my detection was asked")


# ---- another archive


@dataclass(frozen=True, kw_only=True)
class Mine(Source):
    """A mosaic of somebody else: the pixels of one of ours under another name."""

    path: Path

    def grid(self) -> Grid:
        return find_mosaic(self.path).grid()


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What a made-up archive was asked for."""

    hooks: dict[str, Callable[..., object]]
    cutouts: list[object]


def make_archive(*, knows_grid: bool = True, whole: bool = True) -> Calls:
    """Return hooks of an archive with names like ``mine:PREFIX``, whose loader passes over cut-outs if `whole`."""
    cutouts: list[object] = []

    def find(text):
        if not text.startswith("mine:"):
            return None
        files = find_mosaic(text.removeprefix("mine:"))
        given = {"name": f"my-{files.band}", "band": files.band, "log": files.wcs_log, "label": text}
        return Mine(**given, path=files.science) if knows_grid else Source(**given)

    def load(source, options, variance):
        if not str(source).startswith("mine:"):
            return None
        cutouts.append(options.cutout)
        return dja.load_mosaic(str(source).removeprefix("mine:"), "dja", None if whole else options.cutout)

    return Calls(hooks={"photplug_find": find, "photplug_load": load}, cutouts=cutouts)


@pytest.mark.parametrize("knows_grid", [True, False])
def test_other_archives_in_many_bands_extended_and_stacked(pair, knows_grid):
    manager = make_manager(**make_archive(knows_grid=knows_grid).hooks)
    names = [f"mine:{prefix}" for prefix in pair]
    ours, theirs = dp.run(pair, DJA).catalog, dp.run(names, DJA, manager=manager).catalog
    assert theirs.colnames == ours.colnames
    for name in ours.colnames:
        np.testing.assert_array_equal(theirs[name], ours[name], err_msg=name)
    assert json.loads(theirs.meta["BAND_0"])["INPUT"] == names[0]
    extended = dp.extend_catalog(ours["id", "ra", "dec"], names[1:], DJA, manager=manager)
    assert f"{find_mosaic(pair[1]).band}_n_exp" in extended.colnames
    with pytest.raises(dp.PhotplugError, match="not an archive mosaic, so the stack cannot be named after it"):
        dp.run(names, replace(DJA, bands=dp.BandOptions(stack=".")), manager=manager)


def test_other_archives_in_every_command(folder, plugged, capsys):
    plugged(**make_archive().hooks)
    name = f"mine:{PREFIX}"
    assert main(["info", name]) == 0
    out = capsys.readouterr().out
    for text in (
        "source      my-f444w   band f444w",
        "530 x 401 pixels of 40.0 mas",
        "6 exposures in 2 visits",
        "preset dja",
    ):
        assert text in out
    assert main(f"catalog {name} -o c.fits --plot c.png --quiet".split()) == 0
    catalog = QTable.read("c.fits")
    assert catalog.meta["INPUT"] == name
    assert catalog["n_exp"].max() == 6
    assert main(f"extend c.fits {name} -o e.fits --noise dja --quiet".split()) == 0
    few = "--noise dja --photons none --realisations 1 --workers 1"
    assert main(f"inject {name} -o i.fits {few} --quiet".split()) == 0
    assert main(f"galfit {name} --catalog c.fits --id 1 -o stamps --quiet".split()) == 0
    assert main(f"epochs {name} --exposure-map m.fits --catalog c.fits -o t.fits --overwrite --quiet".split()) == 0
    assert fits.getdata("m.fits").shape == (401, 530)
    assert main(f"weight {name} -o w.fits --quiet".split()) == 0


def test_injected_photons_take_the_noise_model_that_a_loader_was_given(simulated):
    """A loader that knows nothing of noise models: the pipeline knows the one that `variance` gave it."""

    def load(source, variance):
        if not str(source).startswith("mine:"):
            return None
        files = find_mosaic(str(source).removeprefix("mine:"))
        image = dja.load_mosaic(files, "calibrated", variance=variance)
        plain = CCDData(image.data, unit=image.unit, uncertainty=image.uncertainty, mask=image.mask, wcs=image.wcs)
        plain.background_weight = image.background_weight
        return plain

    manager = make_manager(photplug_find=make_archive().hooks["photplug_find"], photplug_load=load)
    name = f"mine:{simulated.prefix}"
    ours, theirs = dp.inject(simulated.prefix, DJA, FEW), dp.inject(name, DJA, FEW, manager=manager)
    assert len(theirs.sources) == len(ours.sources)
    calibrated = dp.Options()
    image = load_source(find_source(name, manager), calibrated, manager)
    assert image.noise_model.provenance["NOISE"][0] == "calibrated"
    bare = make_manager(**make_archive().hooks)
    with pytest.raises(dp.PhotplugError, match="electrons of the injected light.*loaded without a noise model"):
        dp.inject(name, DJA, FEW, manager=make_manager(**_without_model()))
    assert dp.inject(name, DJA, replace(FEW, photons="none"), manager=bare).sources["recovered"].any()


def _without_model() -> dict[str, Callable[..., object]]:
    """Return the hooks of an archive whose loader asks for no noise model."""

    def load(source):
        if not str(source).startswith("mine:"):
            return None
        image = dja.load_mosaic(str(source).removeprefix("mine:"), "dja")
        return CCDData(image.data, unit=image.unit, uncertainty=InverseVariance(image.uncertainty.array), wcs=image.wcs)

    return {"photplug_find": make_archive().hooks["photplug_find"], "photplug_load": load}


@pytest.mark.filterwarnings(r"ignore:cut-out \[380.500, 0.60\] reaches over the edge")
def test_cutout_that_a_loader_passed_over_is_cut(simulated):
    name = f"mine:{simulated.prefix}"
    centre = dp.load_mosaic(simulated.prefix).wcs.pixel_to_world(260, 200)
    for cutout in ((slice(100, 180), slice(20, 90)), (centre, 4 * u.arcsec), (slice(380, 500), slice(0, 60))):
        expected = dp.load_mosaic(simulated.prefix, "dja", cutout)
        for whole in (True, False):
            for knows_grid in (True, False):
                manager = make_manager(**make_archive(whole=whole, knows_grid=knows_grid).hooks)
                if not whole and not knows_grid and cutout[0] == slice(380, 500):
                    continue  # 21 rows for 120: only a grid tells that the loader took what there is
                with pytest.warns(dp.PhotplugWarning, match="ignored the cut-out") if whole else nullcontext():
                    image = dp.load_mosaic(name, "dja", cutout, manager=manager)
                np.testing.assert_array_equal(image.data, expected.data)
                np.testing.assert_allclose(image.wcs.wcs.crpix, expected.wcs.wcs.crpix, atol=1e-6)


def test_source_without_a_band_is_measured_alone(pair):
    name = "my.image"  # nobody finds it

    def load(source):
        return dja.load_mosaic(pair[0]) if str(source) == name else None

    manager = make_manager(photplug_load=load)
    assert "flux_auto" in dp.run([name], DJA, manager=manager).catalog.colnames
    for refused in (lambda: dp.run([name, pair[1]], DJA, manager=manager), lambda: dp.extend_catalog(
        QTable({"ra": [34.3], "dec": [-5.1]}), [name], DJA, manager=manager)):  # fmt: skip
        with pytest.raises(dp.PhotplugError, match="its name contains no band.*install a plugin that finds it"):
            refused()


# ---- weights are written while a mosaic is read, unless a plugin gives the whole image


def write_both(source, manager, folder: Path, kind: str, suffix: str = ".fits", **bands) -> tuple[Path, Path]:
    """Write the weight as the command does, and that of the image as it is loaded."""
    options = dp.Options(variance=dp.VarianceOptions(noise="calibrated"), bands=dp.BandOptions(**bands))
    source = find_source(source, manager)
    paths = folder / f"streamed{suffix}", folder / f"whole{suffix}"
    write_source_weight(source, options, manager, paths[0], kind)
    dp.write_weight(load_source(source, options, manager), paths[1], kind)
    return paths


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize(
    ("kind", "zero_point"), [("weight", {}), ("sigma", {}), ("variance", {}), ("weight", {"f444w": 26.4})]
)
def test_a_weight_in_blocks_is_that_of_the_image_to_the_byte(simulated, tmp_path, kind, zero_point, suffix):
    streamed, whole = write_both(
        simulated.prefix, dp.get_plugin_manager(), tmp_path, kind, suffix, zero_point=zero_point
    )
    assert streamed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("claims", ["all", "none", "later", "wrapped"])
def test_a_loader_of_somebody_else_has_its_say_in_the_weight(simulated, tmp_path, monkeypatch, claims):
    """The one that is asked before the built-in one, not the one after it; and a wrapper, which may change all."""
    asked, streamed = [], []

    def load(source, options, variance):
        asked.append(source.name)
        return None if claims == "none" else dja.load_mosaic(source, "background")

    def photplug_load(source):
        asked.append(source.name)
        image = yield
        image.uncertainty.array[:] /= 4
        return image

    manager = make_manager(**({"photplug_load": load} if claims in ("all", "none") else {}))
    if claims == "later":
        load.__name__ = "photplug_load"
        manager.register(types.SimpleNamespace(photplug_load=hookimpl(trylast=True)(load)), "late")
    if claims == "wrapped":
        manager.register(types.SimpleNamespace(photplug_load=hookimpl(wrapper=True)(photplug_load)), "around")
    stream = streams.open_mosaic
    monkeypatch.setattr(streams, "open_mosaic", lambda *a, **k: streamed.append(1) or stream(*a, **k))
    one, other = write_both(simulated.prefix, manager, tmp_path, "weight")
    assert one.read_bytes() == other.read_bytes()
    assert bool(streamed) == (claims in ("none", "later"))
    assert bool(asked) == (claims != "later")


@pytest.mark.parametrize("case", ["ours", "zero point", "wrapped", "claimed"])
def test_a_stack_is_that_of_the_images_whoever_loads_them(pair, case):
    """Of rows as they are read, but where a plugin has a say in a band."""

    def load(source):
        return dp.load_mosaic(source, "background") if source.band == "f115w" else None

    def photplug_load(source):
        image = yield
        if source.band == "f115w":
            image.uncertainty.array[:] /= 4
        return image

    manager = make_manager(**({"photplug_load": load} if case == "claimed" else {}))
    if case == "wrapped":
        manager.register(types.SimpleNamespace(photplug_load=hookimpl(wrapper=True)(photplug_load)), "around")
    points = {"f115w": 26.4, "f444w": 28.2} if case == "zero point" else {}
    options = complete_options(replace(DJA, bands=dp.BandOptions(detect="stack", zero_point=points)), manager)
    bands = find_bands(pair, options, manager)
    images = [load_source(source, options, manager) for source in bands.values()]
    grid = coarsest_grid({str(source): source.grid() for source in bands.values()})
    expected = stack_images(images, *grid, list(bands))
    stack = dp.run(pair, options, manager=manager).image
    planes = [(each.data, each.uncertainty.array, each.background_weight, each.mask) for each in (stack, expected)]
    for ours, theirs in zip(*planes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert dict(stack.meta) == dict(expected.meta)


def test_a_stack_tells_which_band_cannot_be_believed(pair, tmp_path, capsys, monkeypatch, plugged):
    monkeypatch.chdir(tmp_path)
    for prefix in pair:
        copy_products(prefix, tmp_path)
    path = Path("pair-v1-f115w-clear_drc_wht.fits.gz")
    path = path if path.exists() else path.with_suffix("")
    weight, header = fits.getdata(path, header=True)
    fits.writeto(path, weight * np.float32(1e6), header, overwrite=True)
    words = "catalog pair-v1-f444w-clear pair-v1-f115w-clear --detect stack -o c.fits"
    expect_error(capsys, words, "pair-v1-f115w-clear", "times the sigma of the weight (usually 0.5 to 1); correct")

    class Broken(Doubled):
        def __call__(self, science, weight, rows):
            raise ZeroDivisionError("no gain")

    plugged(photplug_variance=lambda: Broken())
    expect_error(capsys, words, "plugin 'mine' failed", "ZeroDivisionError: no gain")


def test_a_model_that_fails_in_the_middle_is_named_and_leaves_no_weight(folder, plugged, capsys):
    class Broken(Doubled):
        def __call__(self, science, weight, rows):
            raise ZeroDivisionError("no gain")

    plugged(photplug_variance=lambda: Broken())
    for suffix in (".fits", ".fits.gz"):
        expect_error(capsys, f"weight {PREFIX} -o w{suffix}", "plugin 'mine' failed", "ZeroDivisionError: no gain")


def test_cards_of_a_model_that_are_known_at_the_end(simulated, tmp_path):
    class Counting(Doubled):
        rows = 0

        def __call__(self, science, weight, rows):
            self.rows += len(weight)
            return weight / 2

        @property
        def provenance(self):
            return {"NOISE": ("counting", "")} | {f"ROW{i}": (i, "of many") for i in range(self.rows)}

    manager = make_manager(photplug_variance=lambda: Counting())
    for suffix in (".fits", ".fits.gz"):
        streamed, whole = write_both(simulated.prefix, manager, tmp_path, "weight", suffix)
        assert fits.getheader(streamed)["ROW400"] == 400
        assert repr(fits.getheader(streamed)) == repr(fits.getheader(whole))
        np.testing.assert_array_equal(fits.getdata(streamed), fits.getdata(whole))


def test_a_weight_that_contradicts_its_pixels_is_refused_before_it_has_a_name(folder, capsys):
    path = Path(f"{PREFIX}_drc_wht.fits.gz")
    weight, header = fits.getdata(path, header=True)
    fits.writeto(path, weight * np.float32(1e6), header, overwrite=True)
    for suffix in (".fits", ".fits.gz"):
        expect_error(
            capsys, f"weight {PREFIX} -o w{suffix}", PREFIX, "times the sigma of the weight (usually 0.5 to 1); correct"
        )
    assert main(f"weight {PREFIX} -o w.fits --trust-weights".split()) == 0


def test_a_weight_is_written_in_little_memory(tmp_path, monkeypatch):
    """Planes of 6 and 23 MB: it is what is inflated ahead, 2 MB for each file here, and a few blocks of 1 MB."""
    monkeypatch.setattr("dja_photplug.readers.streams._AHEAD", 2 << 20)
    peaks = []
    for size in (1200, 2400):
        prefix = make_big_mosaic(tmp_path / str(size), size)
        tracemalloc.start()
        try:
            source, manager = find_mosaic(prefix), dp.get_plugin_manager()
            options = dp.Options(variance=dp.VarianceOptions(noise="dja"))
            write_source_weight(source, options, manager, tmp_path / f"{size}.fits", "weight")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 25e6
    assert peaks[1] < 1.2 * peaks[0], peaks


def make_big_mosaic(folder: Path, size: int) -> Path:
    """Write noise as a mosaic; return its prefix."""
    folder.mkdir()
    prefix, header = folder / "big-v1-f444w-clear", fits.Header(JWST_HEADER)
    header.update(make_wcs().to_header())
    planes = {
        "sci": np.random.default_rng(1).normal(size=(size, size)).astype(np.float32),
        "wht": np.full((size, size), 4, np.float32),
        "exp": np.full((size // 4, size // 4), 1000, np.float32),
    }
    for kind, plane in planes.items():
        cards = fits.Header({"SAMPLE": 4, "NXORIG": size, "NYORIG": size}) if kind == "exp" else header
        write_image(f"{prefix}_drc_{kind}.fits.gz", plane, cards)
    return prefix


# ---- options of plugins


@dataclass(frozen=True, kw_only=True)
class Flat(Stage):
    """A flat-field error."""

    commands = ("catalog", "weight")
    error: float = option(0.02, "error of the flat field, as a fraction of the signal", minimum=0, maximum=1)
    name: str | None = option(None, "name of the flat", kind=str)


def flat_columns(catalog, options):
    return {"flat_err": options.of(Flat).error * catalog["flux_auto"]}


FLAT = {"photplug_options": lambda: {"flat": Flat}, "photplug_columns": flat_columns}


def test_options_of_a_plugin_from_flag_file_and_python(folder, plugged, capsys):
    plugged(**FLAT)
    Path("t.toml").write_text("[flat]\nerror = 0.05\nname = 'sky'\n")
    found = {}
    for name, flags in (("a", ""), ("b", "--config t.toml"), ("c", "--config t.toml --flat-error 0.1")):
        assert main(f"catalog {PREFIX} -o {name}.fits --noise dja {flags} --quiet".split()) == 0
        table = QTable.read(f"{name}.fits")
        found[name] = json.loads(table.meta["OPTIONS"])["flat"]
        np.testing.assert_allclose(table["flat_err"], found[name]["error"] * table["flux_auto"])
    assert found == {
        "a": {"error": 0.02, "name": None},
        "b": {"error": 0.05, "name": "sky"},
        "c": {"error": 0.1, "name": "sky"},
    }
    options = replace(DJA, plugins={"flat": Flat(error=0.3)})
    table = dp.run([PREFIX], options, manager=make_manager(**FLAT)).catalog
    np.testing.assert_allclose(table["flat_err"], 0.3 * table["flux_auto"])
    with pytest.raises(SystemExit):
        main(["catalog", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--flat-error NUMBER error of the flat field, as a fraction of the signal (default 0.02)" in text
    wrong = "option error: 2.0 is above its maximum 1; change"
    expect_error(capsys, f"catalog {PREFIX} -o x.fits --flat-error 2", f"{wrong} --flat-error")
    Path("t.toml").write_text("[flat]\nerror = 2\n")
    expect_error(capsys, f"catalog {PREFIX} -o x.fits --config t.toml", f"{wrong} [flat] error in t.toml")
    Path("t.toml").write_text("[flat]\nsigma = 1\n")
    expect_error(capsys, f"catalog {PREFIX} -o x.fits --config t.toml", "[flat] sigma is not an option; known: error")
    with pytest.raises(SystemExit):  # a usage error: `inject` is not among its commands
        main(f"inject {PREFIX} -o x.fits --flat-error 0.1".split())


def test_options_of_plugins_that_cannot_be(simulated):
    for declared, message in (
        ({"detect": Flat}, "options 'detect' of a plugin: the name is already taken"),
        ({"Flat Field": Flat}, "options 'Flat Field' of a plugin: not a valid name; use lower-case letters"),
        ({"flat": dict}, "options 'flat' of a plugin: not a subclass of Stage"),
        ([Flat], "plugin 'mine' in photplug_options: gave a list where a dict is needed"),
    ):
        with pytest.raises(dp.PhotplugError, match=message):
            dp.run([simulated.prefix], DJA, manager=make_manager(photplug_options=lambda declared=declared: declared))
    with pytest.raises(dp.PhotplugError, match="option plugins: no plugin declares flat of type Flat; declared: none"):
        dp.run([simulated.prefix], replace(DJA, plugins={"flat": Flat()}))


def test_options_of_a_plugin_for_a_command_that_is_not_there(folder, plugged, capsys):
    @dataclass(frozen=True, kw_only=True)
    class Lost(Stage):
        commands = ("catalogue",)

    plugged(photplug_options=lambda: {"lost": Lost})
    expect_error(
        capsys,
        f"info {PREFIX}",
        "options 'lost' of a plugin name the command catalogue, which does not exist; there are info",
    )


# ---- the background of bands


@pytest.mark.parametrize("size", [1000, 150])
@pytest.mark.parametrize("looks", [False, True])
def test_the_background_of_known_sources_is_found_for_those_who_look(pair, looks, size):
    asked, seen = [], []

    def background(image, options):
        asked.append(image.shape)
        return mesh_background(image, options.background)

    def measure(image, background, detection, calibration, options):
        if looks:
            seen.append((image.wcs.wcs.crpix.copy(), background.level, background.at(np.arange(3), np.arange(4))))

    manager = make_manager(photplug_background=background, photplug_measure=measure)
    options = replace(DJA, tiles=dp.TileOptions(size=size, overlap=40), bands=dp.BandOptions(detect="f444w"))
    catalog = dp.run(pair, options, manager=manager).catalog
    assert np.isfinite(catalog["f115w_flux_auto"]).any()
    assert len(asked) == (2 if looks else 1)
    expected = {}
    for prefix in pair:
        image = dp.load_mosaic(prefix, "dja")
        expected[image.meta["FILTER"]] = image, mesh_background(image, options.background).level
    assert bool(seen) == looks
    for (image, level), tiles in zip(expected.values(), np.array_split(np.arange(len(seen)), 2), strict=True):
        for i in tiles:
            crpix, part, corner = seen[i]
            x, y = np.rint(image.wcs.wcs.crpix - crpix).astype(int)
            np.testing.assert_allclose(part, level[y : y + part.shape[0], x : x + part.shape[1]], rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(corner, part[:3, :4], rtol=1e-5, atol=1e-7)


# ---- exceptions


def test_exception_in_our_own_code_looks_like_a_bug(folder, capsys, monkeypatch):
    def break_down(*arguments, **keywords):
        raise KeyError("kron_radius")

    monkeypatch.setattr("dja_photplug.engines.sep_engine.mesh_background", break_down)
    expect_error(
        capsys,
        f"catalog {PREFIX} -o c.fits",
        "internal error: KeyError: 'kron_radius', in test_seams.py, line",
        "--debug",
    )
    with pytest.raises(KeyError):
        main(f"catalog {PREFIX} -o c.fits --debug".split())
    with pytest.raises(KeyError):  # in Python too
        dp.run([PREFIX], DJA)


def test_exception_of_a_plugin_names_the_plugin_that_raised_it(simulated):
    """The plugin that is deepest: not the loader of ours that asked it, nor a loader of theirs that asked ours."""

    class Broken:
        provenance = {}

        def __call__(self, science, weight, rows):
            raise ZeroDivisionError("in the model")

    manager = make_manager(photplug_variance=lambda header: Broken())
    with pytest.raises(
        dp.PhotplugError, match="plugin 'mine' failed in photplug_load: ZeroDivisionError: in the model"
    ):
        dp.run([simulated.prefix], DJA, manager=manager)

    def load(source, variance):
        return variance({"BUNIT": "10 nJy"}, None, None) if str(source) == "mine" else None

    manager = make_manager(photplug_load=load)
    with pytest.raises(dp.PhotplugError, match="^noise preset 'dja' needs an exposure map"):
        dp.run(["mine"], DJA, manager=manager)


def test_result_of_another_kind_is_told(simulated):
    manager = make_manager(photplug_background=lambda image: image.data)
    with pytest.raises(dp.PhotplugError, match="photplug_background: gave a ndarray where a Background is needed"):
        dp.run([simulated.prefix], DJA, manager=manager)


# ---- commands


def test_command_of_a_plugin_replaces_ours(folder, plugged, capsys):
    def register(subparsers):
        parser = subparsers.add_parser("info", help="my own")
        parser.add_argument("mosaic")
        parser.set_defaults(run=lambda arguments: print("mine:", arguments.mosaic))

    plugged(photplug_register_commands=register)
    assert main(["info", "x"]) == 0
    assert capsys.readouterr().out == "mine: x\n"
    assert main(["epochs", PREFIX]) == 0  # the others stay


def test_seams_of_an_engine_on_the_real_field(data):
    """`Engine`, `measure_with` and `calibrate_with` make an engine of a plugin that is sep's to the bit."""

    def measure(image, detection, calibration, options):
        if options.engine != "mine":
            return None
        return measure_with(SEP, image, detection, calibration, options)

    def calibrate(image, detection, options):
        return calibrate_with(SEP, image, detection, options) if options.engine == "mine" else None

    where = SkyCoord(34.3033, -5.1113, unit="deg"), 20 * u.arcsec
    manager = make_manager(photplug_measure=measure, photplug_calibrate=calibrate)
    ours = dp.run([uds_prefix(data)], dp.Options(cutout=where)).catalog
    theirs = dp.run([uds_prefix(data)], dp.Options(cutout=where, engine="mine"), manager=manager).catalog
    assert len(ours) > 10
    for name in ours.colnames:
        np.testing.assert_array_equal(theirs[name], ours[name], err_msg=name)


def test_products_are_copied_with_their_log(simulated, tmp_path):
    """A source finds its own log: that of the copy, not of where it came from."""
    copy_products(simulated.prefix, tmp_path)
    assert find_mosaic(tmp_path / PREFIX).log == tmp_path / f"{PREFIX}_wcs.csv"


def test_images_take_the_options_of_plugins_that_commands_take(simulated):
    class Scaled:
        provenance = {"NOISE": ("scaled", "the weight times a factor")}

        def __init__(self, factor):
            self.factor = np.float32(factor)

        def __call__(self, science, weight, rows):
            return weight * self.factor

    def variance(options):
        return Scaled(options.of(Flat).error) if options.variance.noise == "scaled" else None

    manager = make_manager(photplug_options=lambda: {"flat": Flat}, photplug_variance=variance)
    scaled = dp.VarianceOptions(noise="scaled", trust_weights=True)  # which is not what the pixels scatter by
    science, weight = np.ones((2, 4, 4), np.float32)
    for plugins, factor in ((None, 0.02), ({"flat": Flat(error=0.5)}, 0.5)):
        image = dp.load_mosaic(simulated.prefix, scaled, plugins=plugins, manager=manager)
        np.testing.assert_allclose(image.uncertainty.array, image.background_weight * np.float32(factor))
        header = {"BUNIT": "10*nanoJansky"}
        full = dp.full_weight(science, weight, None, header, scaled, plugins=plugins, manager=manager)
        np.testing.assert_allclose(full, factor, rtol=1e-6)
    with pytest.raises(dp.PhotplugError, match="option plugins: no plugin declares flat of type Flat"):
        dp.load_mosaic(simulated.prefix, plugins={"flat": Flat()})
