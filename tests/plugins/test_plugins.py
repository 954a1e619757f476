"""The plugin manager: order, blocking, errors that name providers, and a distribution that is really installed."""

from __future__ import annotations

import doctest
import functools
import inspect
import logging
import sys
import types

import numpy as np
import pytest
from astropy.nddata import NDData
from astropy.table import Table

import dja_photplug as dp
from dja_photplug import hookspecs
from dja_photplug.cli.app import build_parser
from dja_photplug.light.mesh import Background
from dja_photplug.mosaic.models.fullweight import NoiseModel
from dja_photplug.pipeline.images import find_source
from dja_photplug.pipeline.one_band import write_result
from dja_photplug.plugins import manager as plugins
from dja_photplug.plugins.calls import ask_all, ask_first
from dja_photplug.plugins.manager import BUILTINS, describe_plugins, get_plugin_manager
from dja_photplug.sources.detection import Detection
from dja_photplug.testing import make_plugin

NOTHING = {"header": {}, "exposure": None, "log": None}
SPECS = [name for name in vars(hookspecs) if name.startswith("photplug_")]


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Install a distribution, as pip would: a module and its metadata on the path."""

    def install(text: str, name: str = "photplug-extra", entry: str = "extra") -> None:
        module = f"module_of_{entry}"
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[dja_photplug]\n{entry} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    monkeypatch.syspath_prepend(tmp_path)
    return install


EXTRA = """
import numpy as np
from astropy.table import Column
from dja_photplug import hookimpl


class Quadrupled:
    provenance = {"NOISE": ("quadrupled", "four times the background variance")}

    def __call__(self, science, weight, rows):
        return weight / 4


@hookimpl
def photplug_variance(header, exposure, log, options):
    assert header["NAXIS"] == 2 and exposure is not None and len(log) > 0 and options.engine == "sep"
    return Quadrupled()


@hookimpl
def photplug_columns(catalog, image, epochs, band):
    assert len(epochs) == len(catalog) and band == "f444w" and image.meta["NOISE"] == "quadrupled"
    return {"snr_auto": Column(np.asarray(catalog["flux_auto"] / catalog["fluxerr_auto"]), description="S/N")}


@hookimpl
def photplug_register_commands(subparsers):
    parser = subparsers.add_parser("hello", help="greet")
    parser.set_defaults(run=lambda arguments: print("hello from", arguments.manager.project_name))
"""


def test_installed_distribution_replaces_the_noise_and_adds_a_column(distribution, simulated, capsys):
    plain = dp.run([simulated.prefix], dp.Options(variance=dp.VarianceOptions(noise="background")))
    distribution(EXTRA)
    options = dp.Options(variance=dp.VarianceOptions(noise="dja"), detect=dp.DetectOptions(noise="background"))
    catalog = dp.run([simulated.prefix], options).catalog
    assert catalog.meta["NOISE"] == "quadrupled"
    # The same sources (detected by the background weight), with errors of twice the background's.
    np.testing.assert_allclose(catalog["fluxerr_aper_1"], 2 * plain.catalog["fluxerr_aper_1"], rtol=1e-6)
    np.testing.assert_allclose(catalog["snr_auto"], catalog["flux_auto"] / catalog["fluxerr_auto"])
    assert catalog["snr_auto"].description == "S/N"
    from dja_photplug.cli.app import main

    assert main(["hello"]) == 0
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "hello from dja_photplug"
    first = out.splitlines()[1].split()
    assert first[:3] == ["extra", "photplug-extra", "1.2"]  # asked first, so listed first


def test_builtins_and_order():
    manager = get_plugin_manager()
    assert {name for name, _ in manager.list_name_plugin()} == set(BUILTINS)
    calls = []
    for name in ("first", "second"):
        manager.register(make_plugin(photplug_background=lambda name=name: calls.append(name)), name)
    ask_first(manager, "photplug_background", "x", Background, image=_flat_image(), options=dp.Options())
    assert calls == ["second", "first"]  # the last registered is asked first, then the built-in one claims
    assert [row[0] for row in describe_plugins(manager)][:2] == ["second", "first"]


def _flat_image() -> dp.MosaicImage:
    from astropy.nddata import InverseVariance
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.cdelt = -0.04 / 3600, 0.04 / 3600
    ones = np.ones((80, 90), np.float32)
    return dp.MosaicImage(ones, unit="10 nJy", uncertainty=InverseVariance(ones), mask=ones == 0, wcs=wcs)


def test_blocking_by_argument_and_environment(monkeypatch):
    manager = get_plugin_manager(block=["sep-engine"])
    assert manager.get_plugin("sep-engine") is None
    monkeypatch.setenv("DJA_PHOTPLUG_BLOCK", "wcs-epochs, table-writer")
    manager = get_plugin_manager()
    rows = dict(row[:2] for row in describe_plugins(manager))
    assert {name for name, origin in rows.items() if origin == "blocked"} == {"wcs-epochs", "table-writer"}
    assert rows["sep-engine"] == "built in"
    with pytest.raises(
        dp.PhotplugError, match=r"block: there is no plugin 'sep_engine' to block.*did you mean sep-engine\?"
    ):
        get_plugin_manager(block=["sep_engine"])


def test_blocked_distribution_is_not_imported(distribution, monkeypatch):
    distribution("raise RuntimeError('imported')")
    with pytest.raises(dp.PhotplugError, match="plugin 'extra' cannot be used .RuntimeError: imported.*BLOCK=extra"):
        get_plugin_manager()
    monkeypatch.setenv("DJA_PHOTPLUG_BLOCK", "extra")
    get_plugin_manager()


def test_nobody_claims():
    manager = get_plugin_manager()
    manager.register(make_plugin(photplug_detect=lambda: None), "mine")
    asked = "asked given-segments, mine, sep-engine, photutils-engine; see"
    with pytest.raises(dp.PhotplugError, match=f"engine 'nope': no plugin claimed photplug_detect; {asked}"):
        ask_first(
            manager,
            "photplug_detect",
            "engine 'nope'",
            Detection,
            image=None,
            background=None,
            options=dp.Options(engine="nope"),
        )
    manager = get_plugin_manager(block=["given-segments", "sep-engine", "photutils-engine"])
    with pytest.raises(dp.PhotplugError, match="asked nobody"):
        ask_first(
            manager, "photplug_detect", "engine 'sep'", Detection, image=None, background=None, options=dp.Options()
        )


def test_exception_comes_with_the_plugin_name():
    def photplug_columns(catalog):
        return {"x": catalog["no such column"]}

    manager = get_plugin_manager()
    manager.register(make_plugin(photplug_columns=photplug_columns), "careless")
    with pytest.raises(dp.PhotplugError, match="plugin 'careless' failed in photplug_columns: KeyError") as caught:
        ask_all(manager, "photplug_columns", dict, catalog={}, image=None, epochs=None, band="", options=None)
    assert isinstance(caught.value.__cause__, KeyError)

    def refuses(header):
        raise dp.PhotplugError("no GAIN; add it")

    manager.register(make_plugin(photplug_variance=refuses), "strict")
    with pytest.raises(dp.PhotplugError, match="plugin 'strict' failed in photplug_variance: no GAIN; add it"):
        ask_first(
            manager, "photplug_variance", "x", NoiseModel, header={}, exposure=None, log=None, options=dp.Options()
        )


def test_error_of_a_builtin_is_left_as_it_is():
    manager = get_plugin_manager()
    with pytest.raises(dp.PhotplugError, match="^noise preset 'calibrated' needs an exposure map"):
        ask_first(
            manager, "photplug_variance", "x", NoiseModel, header={}, exposure=None, log=None, options=dp.Options()
        )


def test_hook_that_does_not_exist(distribution):
    distribution("from dja_photplug import hookimpl\n\n@hookimpl\ndef photplug_spell(): pass\n")
    with pytest.raises(dp.PhotplugError, match="plugin 'extra' cannot be used .*unknown hook 'photplug_spell'"):
        get_plugin_manager()


def test_trace_says_who_was_asked(monkeypatch, caplog):
    monkeypatch.setenv("DJA_PHOTPLUG_TRACE", "1")
    with caplog.at_level(logging.INFO, logger=plugins.__name__):
        manager = get_plugin_manager()
        ask_all(manager, "photplug_columns", dict, catalog=None, image=None, epochs=None, band="", options=None)
        with pytest.raises(dp.PhotplugError):
            ask_first(manager, "photplug_load", "x", NDData, source="x", options=dp.Options(), variance=None)
    assert "photplug_columns asks nobody" in caplog.messages
    assert "photplug_load asks dja-loader" in caplog.messages
    assert any(message.startswith("photplug_load gave NoneType in") for message in caplog.messages)


@pytest.mark.parametrize("name", SPECS)
def test_specification(name):
    """Typed, documented, with an example that pluggy accepts, without defaults or keyword-only arguments."""
    spec = getattr(hookspecs, name)
    for parameter in inspect.signature(spec).parameters.values():
        assert parameter.default is parameter.empty
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        assert parameter.annotation is not parameter.empty
    assert inspect.signature(spec).return_annotation is not inspect.Signature.empty
    examples = doctest.DocTestParser().get_examples(spec.__doc__)
    imports = [example.source for example in examples if "import" in example.source]
    assert any("from dja_photplug.plugin import" in source for source in imports)  # and from no other module of ours
    assert not any("from dja_photplug" in source.replace("dja_photplug.plugin ", "") for source in imports)
    namespace = make_example(name)
    manager = get_plugin_manager()
    manager.register(make_plugin(**{name: namespace[name]}), "example")  # raises where the signature does not fit
    manager.check_pending()
    assert isinstance(manager.get_plugin("example"), types.ModuleType)


def make_example(name: str) -> dict:
    """Return what the example of a specification defines."""
    namespace = {}
    for example in doctest.DocTestParser().get_examples(getattr(hookspecs, name).__doc__):
        exec(compile(example.source, name, "single"), namespace)
    return namespace


@pytest.mark.parametrize("name", SPECS)
def test_example_of_a_specification_does_what_it_says(name, simulated, tmp_path, capsys):
    """Each is the one plugin of a run, claims what it is asked, and its result is what comes out."""
    claimed = []
    function = make_example(name)[name]

    @functools.wraps(function)
    def record(*arguments, **keywords):
        claimed.append(function(*arguments, **keywords))
        return claimed[-1]

    manager = get_plugin_manager()
    manager.register(make_plugin(**{name: record}), "example")
    prefix, options = simulated.prefix, dp.Options(variance=dp.VarianceOptions(noise="dja"))
    result = None
    if name == "photplug_find":
        assert find_source("a/jw01345-o001_t021_nircam_f200w_i2d.fits", manager).band == "f200w"
    elif name == "photplug_load":
        dp.load_mosaic(prefix).write(tmp_path / "x_i2d.fits")
        assert len(dp.run([tmp_path / "x_i2d.fits"], options, manager=manager).catalog) > 10
    elif name == "photplug_variance":
        assert dp.load_mosaic(prefix, "mine", manager=manager).meta["NOISE"] == "mine"
    elif name == "photplug_galfit":
        sources = dp.run([prefix], options).catalog[:2]
        written = dp.write_galfit(dp.load_mosaic(prefix), sources, tmp_path / "out", manager=manager, format="mine")
        assert [len(path.read_text().splitlines()) for path in written] == [2]
    elif name == "photplug_write":
        path = write_result(dp.run([prefix], options).catalog, tmp_path / "c.xml", options, manager)
        assert "flux_auto" in dp.read_catalog(path).colnames
    elif name == "photplug_schema":
        table = Table(simulated.scene["ra", "dec"][:2])
        table["REFF"], table["BEFF"], table["PA"] = 0.8, 0.4, 30.0
        assert len(dp.extend_catalog(table, [prefix], options, manager=manager)) == 2
    elif name == "photplug_register_commands":
        arguments = build_parser(manager).parse_args(["hello"])
        arguments.run(arguments)
        assert capsys.readouterr().out == "hello\n"
    else:
        engine = "mine" if name == "photplug_measure" else "sep"
        result = dp.run([prefix], dp.Options(engine=engine), manager=manager)
    assert claimed
    assert claimed[0] is not None or name == "photplug_register_commands"
    if name == "photplug_options":
        assert result.options.plugins["flat"].error == 0.02
    elif name == "photplug_columns":
        assert "snr_auto" in result.catalog.colnames
    elif name == "photplug_measure":
        assert result.catalog.colnames[:5] == ["id", "ra", "dec", "flux_auto", "fluxerr_auto"]
    elif result is not None:
        assert len(result.catalog) > 10


def test_an_engine_that_only_detects_is_told_what_it_lacks(simulated):
    manager = get_plugin_manager()
    manager.register(make_plugin(photplug_detect=lambda options: None), "mine")
    lacks = "'mine' has photplug_detect but not photplug_background, which an engine with its own name needs"
    with pytest.raises(dp.PhotplugError, match=f"engine 'peaks': no plugin claimed photplug_background; .*{lacks}"):
        dp.run([simulated.prefix], dp.Options(engine="peaks"), manager=manager)
