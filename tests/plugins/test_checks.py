"""Bad plugins are named: whatever they give, raise, change or say they wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import InverseVariance, NDData, StdDevUncertainty
from astropy.table import QTable, Table
from astropy.wcs import WCS

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import Source
from dja_photplug.foreign.schema import CatalogSchema
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.run import Options
from dja_photplug.plugins.calls import ask_all, ask_first
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.plugins.options import plugin_stages
from dja_photplug.sources.detection import Background, Detection
from tests.helpers import make_calibration

MANAGER = get_plugin_manager()
SHAPE = (6, 5)
COLUMNS = ("ra", "dec", "x", "y", "a", "b", "theta")


def make_image(**changes: object) -> NDData:
    planes = {"data": np.ones(SHAPE, np.float32), "uncertainty": InverseVariance(np.ones(SHAPE, np.float32))}
    return NDData(**{**planes, **changes})


def make_sources(count: int = 2) -> QTable:
    units = dict(zip(COLUMNS, (u.deg, u.deg, u.pix, u.pix, u.arcsec, u.arcsec, u.deg), strict=True))
    table = QTable({"id": np.arange(1, count + 1), **{name: np.ones(count) * unit for name, unit in units.items()}})
    table["npix"] = table["flag"] = np.zeros(count, int)
    return table


def make_detection(**changes: object) -> Detection:
    segments = np.zeros(SHAPE, np.int32)
    segments[1, 1], segments[3, 3] = 1, 2
    return Detection(**{"sources": make_sources(), "segmentation": segments, "wcs": WCS(naxis=2), **changes})


def spoil(column: str, value: object, count: int = 2) -> QTable:
    table = make_sources(count)
    table[column] = value
    return table


def make_epochs(count: int = 2, **changes: object) -> QTable:
    counts = {"n_exp": np.ones(count, int), "exptime": np.ones(count) * u.s}
    days = {name: np.ones(count) * u.d for name in ("mjd_mean", "mjd_min", "mjd_max")}
    return QTable({**counts, **days, "n_visit": np.ones(count, int), **changes})


def without(column: str) -> QTable:
    table = make_sources()
    table.remove_column(column)
    return table


def measured(**columns: object) -> QTable:
    return QTable({"id": [1, 2], "ra": [1, 2] * u.deg, "dec": [1, 2] * u.deg, **columns})


OPTIONS = SimpleNamespace(directory=Path("stamps"))
ARGUMENTS: dict[str, dict[str, object]] = {
    "photplug_find": {"text": "x"},
    "photplug_load": {"source": Source(name="x"), "options": Options(), "variance": print},
    "photplug_variance": {"header": {}, "exposure": None, "log": None, "options": Options()},
    "photplug_background": {"image": make_image(), "options": Options()},
    "photplug_detect": {"image": make_image(), "background": Background(np.zeros(SHAPE)), "options": Options()},
    "photplug_calibrate": {"image": make_image(), "background": None, "detection": make_detection(), "options": None},
    "photplug_measure": {
        **{"image": make_image(), "background": None, "detection": make_detection(), "calibration": None},
        **{"psf": None, "options": Options()},
    },
    "photplug_epochs": {"log": None, "coordinates": SkyCoord([1, 2], [3, 4], unit="deg"), "options": Options()},
    "photplug_galfit": {"image": make_image(), "sources": None, "options": OPTIONS},
    "photplug_write": {"catalog": make_sources(), "path": Path("cat.xml"), "options": Options()},
    "photplug_schema": {"table": make_sources()},
    "photplug_columns": {
        **{"catalog": make_sources(), "image": make_image(), "epochs": None, "band": "f444w", "options": Options()},
    },
}
EXPECTED: dict[str, type] = {
    **{"photplug_find": Source, "photplug_load": NDData, "photplug_variance": object, "photplug_write": Path},
    **{"photplug_background": Background, "photplug_detect": Detection, "photplug_calibrate": NoiseCalibration},
    **{"photplug_measure": QTable, "photplug_epochs": QTable, "photplug_galfit": list},
    **{"photplug_schema": CatalogSchema, "photplug_columns": dict},
}
GIVEN: dict[str, list[object]] = {
    "photplug_find": [
        Source(name=""),
        Source(name=1),  # type: ignore[arg-type]
        Source(name="x", band=None),  # type: ignore[arg-type]
        Source(name="x", band="F444W"),
        Source(name="x", band="my band"),
        Source(name="x", log="x"),  # type: ignore[arg-type]
        Source(name="x", log=Path("nowhere.csv")),
    ],
    "photplug_load": [
        NDData(np.ones(3), uncertainty=InverseVariance(np.ones(3))),
        NDData(np.ones((2, 3, 4))),
        NDData(np.ones(SHAPE)),
        NDData(np.ones((0, 5))),
        NDData(np.full(SHAPE, "x")),
        make_image(uncertainty=StdDevUncertainty(-np.ones(SHAPE))),
        make_image(mask=np.zeros((2, 2), bool)),
    ],
    "photplug_variance": [SimpleNamespace(provenance={}), print, SimpleNamespace(__call__=print)],
    "photplug_background": [
        Background(np.zeros((3, 3))),
        Background(np.full(SHAPE, np.nan)),
        Background(np.full(SHAPE, np.inf)),
        Background(np.full(SHAPE, "x")),
        Background(np.zeros(SHAPE) * u.nJy),
        Background(np.ma.masked_equal(np.zeros(SHAPE), 0)),
    ],
    "photplug_detect": [
        make_detection(segmentation=np.zeros((2, 2), np.int32)),
        make_detection(segmentation=np.zeros(SHAPE)),
        make_detection(segmentation=np.full(SHAPE, -1)),
        make_detection(segmentation=np.full(SHAPE, 9)),
        make_detection(sources=spoil("id", [2, 1])),
        make_detection(sources=spoil("id", [1, 1])),
        make_detection(sources=spoil("ra", np.nan * u.deg)),
        make_detection(sources=spoil("x", np.inf * u.pix)),
        make_detection(sources=spoil("a", [2.5, 2.5] * u.pix)),
        make_detection(sources=spoil("a", [-0.1, 0.1] * u.arcsec)),
        make_detection(sources=spoil("flag", [0.0, 0.0])),
        make_detection(sources=spoil("peak", [1.0, 2.0])),
        make_detection(sources=Table(make_sources())),
        make_detection(wcs=None),
        *(make_detection(sources=spoil(name, [1.0, 1.0])) for name in COLUMNS),
        *(make_detection(sources=without(name)) for name in (*COLUMNS, "id", "npix", "flag")),
    ],
    "photplug_calibrate": [make_calibration(np.nan), make_calibration([1.0, 1.0, 0.0, 1.0, 1.0])],
    "photplug_measure": [
        make_sources(1),
        make_sources(0),
        make_sources(3),
        without("id"),
        spoil("id", [2, 1]),
        measured(flux_auto=[1.0, 2.0]),
        measured(flux_auto=[1.0, 2.0] * u.m),
        measured(flux_auto=[np.inf, 2.0] * u.uJy),
        measured(fluxerr_auto=[-1.0, 2.0] * u.uJy),
        measured(flux_auto=[21.0, 22.0] * u.ABmag),
        measured(flag=["a", "b"]),
        measured(flux_mine=[1.0, 2.0], Flux_Mine=[1.0, 2.0]),
        QTable({"id": [1, 2]}),
        measured(**{"a b": [1, 2]}),
        measured(thing=np.array([{}, []], object)),
    ],
    "photplug_epochs": [
        make_epochs(1),
        make_epochs(3),
        make_epochs(moon=[1.0, 2.0]),
        make_epochs(exptime=[1.0, 2.0]),
        make_epochs(mjd_mean=[1.0, 2.0] * u.s / u.d),
        make_sources(2),
    ],
    "photplug_galfit": [[1], ["x.fits"], [Path("stamps/none.fits")], [Path("/etc/passwd")]],
    "photplug_write": [Path("none.xml"), Path()],
    "photplug_columns": [
        {"snr": [1.0]},
        {"snr": 1.0},
        {"snr": np.ones(3)},
        {1: np.ones(2)},
        {"a b": np.ones(2)},
        {"ra": np.ones(2)},
        {"RA": np.ones(2)},
        {"snr": [[1, 2], [3]]},
        {"snr": "ab"},
        {"snr": np.array([{}, []], object)},
    ],
}
RAISED = [
    *(ValueError("oh"), KeyError("oh"), SystemExit(0), SystemExit("oh"), RecursionError("oh"), OSError("oh")),
    *(PhotplugError("oh"), MemoryError(), AssertionError(), StopIteration(), ImportError("two\nlines")),
]
TYPES = [1, "text", (), {1, 2}, 2.5, object]

BAD: list[tuple[str, object]] = [
    *((hook, give) for hook, results in GIVEN.items() for give in results),
    *((hook, give) for hook, expected in EXPECTED.items() for give in TYPES if expected is not object),
]


GOOD: dict[str, list[object]] = {
    "photplug_find": [Source(name="x"), Source(name="x", band="f444w_grismr")],
    "photplug_load": [make_image()],
    "photplug_background": [Background(np.zeros(SHAPE))],
    "photplug_detect": [make_detection(), make_detection(sources=spoil("snr_detect", [1.0, 2.0]))],
    "photplug_measure": [measured(), measured(flux_auto=[1.0, np.nan] * u.nJy, flag=[0, 1], name=["a", "b"])],
    "photplug_epochs": [make_epochs()],
    "photplug_columns": [{"snr": [1, 2], "name": ["a", "b"], "pair": np.ones((2, 2))}, {}],
}


def make_plugin(hook: str, act: Callable[[], object]) -> object:
    namespace: dict[str, object] = {"act": staticmethod(act), "hookimpl": hookimpl}
    exec(f"@hookimpl\ndef {hook}(self): return self.act()", namespace)  # a hook has its own name
    return type("Bad", (), {hook: namespace[hook], "act": staticmethod(act)})()


def ask(hook: str, *plugins: object) -> str:
    """Return how the plugins of a hook are refused."""
    for name, plugin in zip(("bad", "good"), plugins, strict=False):
        MANAGER.register(plugin, name)
    collected = hook in ("photplug_columns", "photplug_find", "photplug_schema")
    call = ask_all if collected else lambda *args, **keys: ask_first(*args[:2], "asking", args[2], **keys)
    try:
        with pytest.raises(PhotplugError) as caught:
            call(MANAGER, hook, EXPECTED[hook], **ARGUMENTS[hook])
    finally:
        for plugin in plugins:
            MANAGER.unregister(plugin)
    assert caught.value.plugin == "bad"
    return str(caught.value)


def test_bad_results_are_named() -> None:
    """Of more than 100 bad plugins."""
    assert len(BAD) > 100
    for hook, result in BAD:
        told = ask(hook, make_plugin(hook, lambda result=result: result))
        assert told.startswith(f"plugin 'bad' in {hook}: "), told
        assert "\n" not in told


def test_good_results_are_taken() -> None:
    """Those that the bad ones differ from in one thing each."""
    for hook, results in GOOD.items():
        for result in results:
            plugin = make_plugin(hook, lambda result=result: result)
            MANAGER.register(plugin, "good")
            try:
                found = ask_all(MANAGER, hook, EXPECTED[hook], **ARGUMENTS[hook])
            finally:
                MANAGER.unregister(plugin)
            assert found[0] is result, hook


def test_whatever_is_raised_is_named() -> None:
    for hook in EXPECTED:
        for error in RAISED:

            def fail(error: BaseException = error) -> None:
                raise error

            told = ask(hook, make_plugin(hook, fail))
            assert told.startswith(f"plugin 'bad' failed in {hook}: "), told
            assert "\n" not in told


def test_the_bad_one_of_two_is_found() -> None:
    good = make_plugin("photplug_columns", lambda: {"fine": np.ones(2)})
    told = ask("photplug_columns", make_plugin("photplug_columns", lambda: {"snr": np.ones(3)}), good)
    assert told == "plugin 'bad' in photplug_columns: gave the column snr with 3 rows for 2 sources"


class Changing:
    """Changes what it is handed."""

    @hookimpl
    def photplug_background(self, image):
        image.data[0, 0] = 7
        return Background(np.zeros(SHAPE))

    @hookimpl
    def photplug_columns(self, catalog):
        catalog["mine"] = 1.0


@pytest.mark.parametrize(("hook", "what"), [("photplug_background", "image"), ("photplug_columns", "catalog")])
def test_what_is_handed_stays_as_it_is(hook: str, what: str) -> None:
    told = f"plugin 'bad' in {hook}: changed the {what} that it was handed; give it a copy to work on"
    assert ask(hook, Changing()) == told
    ARGUMENTS["photplug_background"]["image"] = make_image()
    ARGUMENTS["photplug_columns"]["catalog"] = make_sources()


class Mistyped:
    """Has a hook that does not exist."""

    @hookimpl
    def photplug_detekt(self, image):
        return None


class Greedy:
    """Asks for what a hook does not have."""

    @hookimpl
    def photplug_detect(self, image, moon):
        return None


@pytest.mark.parametrize(("plugin", "why"), [(Mistyped(), "unknown hook 'photplug_detekt'"), (Greedy(), "'moon'")])
def test_a_plugin_that_is_registered_by_hand_is_checked_as_installed_ones(plugin: object, why: str) -> None:
    manager = get_plugin_manager()
    with pytest.raises(PhotplugError, match=f"plugin 'mine' cannot be used .*{why}"):
        manager.register(plugin, "mine")
    assert not manager.has_plugin("mine")


@pytest.mark.parametrize("declared", [1, {"Bad Name": int}, {"detect": int}, {1: int}, {"x": 3}, ["x"]])
def test_bad_options_are_refused(declared: object) -> None:
    manager = get_plugin_manager()
    manager.register(make_plugin("photplug_options", lambda: declared), "bad")
    with pytest.raises(PhotplugError, match="plugin"):
        plugin_stages(manager)


def test_a_typo_of_the_variable_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJA_PHOTPLUG_BLOCK", "sep-engin")
    with pytest.warns(
        PhotplugWarning, match="DJA_PHOTPLUG_BLOCK: there is no plugin 'sep-engin' to block.*did you mean sep-"
    ):
        assert get_plugin_manager().has_plugin("sep-engine")
