"""Large images in tiles: the result is that of the whole image, whatever the tiles, the processes and the engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable
from photutils.segmentation import SegmentationImage

import dja_photplug as dp
from dja_photplug.options.stages import BandOptions, TileOptions
from dja_photplug.parallel.islands import find_boxes
from dja_photplug.pipeline.catalog import run
from dja_photplug.plugin import SEP, calibrate_with, detect_sep, hookimpl, load_source, measure_with, mesh_background
from dja_photplug.simulate.field import FieldOptions, SimulatedField, simulate_field, write_field
from tests.conftest import CLUSTER

OVERLAP = 40
WHOLE = 100_000


def draw_field(side: int, density: float) -> SimulatedField:
    """A crowded field, with a galaxy larger than the overlap, a star with long wings, and blends at their corners."""
    field = simulate_field(FieldOptions(shape=(side, side + 60), density=density, seed=5, exposure_time=4e4))
    y, x = np.indices(field.science.shape)

    def distance(px: float, py: float, q: float = 1.0) -> np.ndarray:
        return np.hypot(x - px, (y - py) / q)

    light = 0.8 * np.exp(-distance(225, 235, 0.6) / 22)  # its segment is 130 pixels long
    light += 400 / (1 + (distance(0.8 * side, 0.3 * side) / 1.5) ** 2) ** 1.5
    for corner in (150, 200, 330):
        for shift, peak in ((-4, 3.0), (3, 5.0)):
            light += peak * np.exp(-(distance(corner + shift, corner + 0.7 * shift) ** 2) / (2 * 2.2**2))
    photons = np.random.default_rng(6).normal(size=light.shape) * np.sqrt(light / field.electrons)
    science = (field.science + light + photons).astype(np.float32)
    full = 1 / (1 / field.weight + np.maximum(science, 0) / field.electrons)
    return replace(field, science=science, full=full.astype(np.float32))


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_field(draw_field(500, 900.0), tmp_path_factory.mktemp("field"), "sim-v1")


@cache
def analyse(prefix: Path, size: int, workers: int, engine: str, noise: str) -> tuple[QTable, SegmentationImage]:
    options = dp.Options(
        engine=engine,
        variance=dp.VarianceOptions(noise=noise),
        measure=dp.MeasureOptions(details=noise == "dja"),
        tiles=TileOptions(size=size, overlap=OVERLAP),
        bands=BandOptions(workers=workers),
    )
    result = dp.run([prefix], options)
    np.testing.assert_array_equal(result.detection.boxes, find_boxes(result.detection.segmentation))
    return result.catalog, result.segmentation


def expect_same(ours: tuple[QTable, SegmentationImage], theirs: tuple[QTable, SegmentationImage]) -> None:
    np.testing.assert_array_equal(ours[1].data, theirs[1].data)
    assert ours[0].colnames == theirs[0].colnames
    assert ours[0].meta == theirs[0].meta
    for name in theirs[0].colnames:
        one, other = (np.asarray(table[name]) for table, _ in (ours, theirs))
        if one.dtype.kind != "f":
            np.testing.assert_array_equal(one, other, err_msg=name)
        else:  # sums in another order, and near nothing of the light of neighbours
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("size", "workers", "engine", "noise"),
    [
        *((size, workers, "sep", "calibrated") for size, workers in ((150, 1), (200, 2), (330, 1))),
        pytest.param(230, 4, "sep", "calibrated", marks=pytest.mark.slow),
        *((150, 1, engine, "dja") for engine in ("sep", "photutils")),
        *(pytest.param(330, 1, engine, "dja", marks=pytest.mark.slow) for engine in ("sep", "photutils")),
    ],
)
def test_tiles_give_what_the_whole_image_gives(prefix, size, workers, engine, noise) -> None:
    whole = analyse(prefix, WHOLE, 1, engine, noise)
    assert len(whole[0]) > 40
    expect_same(analyse(prefix, size, workers, engine, noise), whole)


def test_the_scene_is_what_it_is_to_test(prefix) -> None:
    """A segment longer than the overlap on both sides of an edge, a blend at each corner, and cleaned sources."""
    catalog, segmentation = analyse(prefix, WHOLE, 1, "sep", "calibrated")
    boxes = [(box[0].stop - box[0].start, box[1].stop - box[1].start) for box in segmentation.slices]
    assert max(max(box) for box in boxes) > 2.5 * OVERLAP
    for corner in (150, 200, 330):
        around = np.unique(segmentation.data[corner - 8 : corner + 8, corner - 8 : corner + 8])
        assert np.count_nonzero(around) >= 2
    assert np.asarray(catalog["flag"] & dp.SourceFlag.DEBLENDED > 0).sum() > 10
    # Ids rise with the row of the brightest pixel.
    assert np.all(np.diff(catalog["y"].value) > -60)


class Mine:
    """A plugin's engine of the primitives of sep."""

    @hookimpl
    def photplug_background(self, image, options):
        return mesh_background(image, options.background) if options.engine == "mine" else None

    @hookimpl
    def photplug_detect(self, image, background, options):
        return detect_sep(image, background, options) if options.engine == "mine" else None

    @hookimpl
    def photplug_calibrate(self, image, background, detection, options):
        return calibrate_with(SEP, image, detection, options) if options.engine == "mine" else None

    @hookimpl
    def photplug_measure(self, image, background, detection, calibration, options):
        return measure_with(SEP, image, detection, calibration, options) if options.engine == "mine" else None


def test_the_engine_of_a_plugin_works_on_tiles(prefix) -> None:
    manager = dp.get_plugin_manager()
    manager.register(Mine(), "mine")
    tables = []
    for size in (WHOLE, 170):
        options = dp.Options(engine="mine", tiles=TileOptions(size=size, overlap=OVERLAP))
        result = run([prefix], options, manager=manager)
        tables.append((result.catalog, result.segmentation))
    expect_same(tables[1], tables[0])
    catalog, segmentation = analyse(prefix, WHOLE, 1, "sep", "calibrated")
    np.testing.assert_array_equal(tables[0][1].data, segmentation.data)
    np.testing.assert_array_equal(tables[0][0]["flux_auto"].value, catalog["flux_auto"].value)


def darken(image):
    """Change pixels in their place; the weight is that of those that were read."""
    image.data[image.data > 5] /= 2
    return image


class Around:
    """Changes what the built-in loader gives."""

    @hookimpl(wrapper=True)
    def photplug_load(self, source, options, variance):
        return darken((yield))


class Instead:
    """Loads by itself."""

    def __init__(self) -> None:
        self.manager = dp.get_plugin_manager()

    @hookimpl
    def photplug_load(self, source, options, variance):
        return darken(load_source(source, options, self.manager, variance))


@pytest.mark.parametrize("plugin", [Around, Instead])
def test_a_plugin_that_changes_pixels_gives_the_same_in_tiles(prefix, plugin) -> None:
    manager = dp.get_plugin_manager()
    manager.register(plugin(), "mine")
    tiles = (TileOptions(size=size, overlap=OVERLAP) for size in (WHOLE, 170))
    results = [run([prefix], dp.Options(tiles=each), manager=manager) for each in tiles]
    expect_same(*((each.catalog, each.segmentation) for each in reversed(results)))
    image = dp.load_mosaic(prefix, "calibrated")
    np.testing.assert_array_equal(results[1].image.data, darken(image).data)
    np.testing.assert_array_equal(results[1].image.uncertainty.array, image.uncertainty.array)


def test_the_weight_of_a_result_stays_where_its_pixels_change(prefix) -> None:
    options = dp.Options(tiles=TileOptions(size=300, overlap=OVERLAP), bands=BandOptions(workers=1))
    image = run([prefix], options).image
    image.data[:] = 1000
    np.testing.assert_array_equal(image.uncertainty.array, dp.load_mosaic(prefix, "calibrated").uncertainty.array)


def test_positions_of_a_catalogue_are_measured_in_tiles(prefix) -> None:
    """Off the image and without a position too."""
    catalog, _ = analyse(prefix, WHOLE, 1, "sep", "calibrated")
    table = QTable(catalog[["ra", "dec", "a", "b", "theta", "kron_radius"]])[:40]
    table["ra"][3] += 1 * table["ra"].unit
    table["dec"][5] = np.nan
    extended = []
    for size in (WHOLE, 150):
        options = dp.Options(tiles=TileOptions(size=size, overlap=OVERLAP), bands=BandOptions(workers=1))
        with pytest.warns(dp.PhotplugWarning, match="no position in"):
            extended.append(dp.extend_catalog(table, [prefix], options))
    for name in extended[0].colnames:
        one, other = (np.asarray(each[name]) for each in extended)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(one, other, err_msg=name)


def test_nothing_is_left(prefix, tmp_path) -> None:
    options = dp.Options(
        tiles=TileOptions(size=200, overlap=OVERLAP, scratch=str(tmp_path)), bands=BandOptions(workers=1)
    )
    dp.run([prefix], options)
    assert list(tmp_path.iterdir()) == []
    manager = dp.get_plugin_manager()
    manager.register(Broken())
    with pytest.raises(dp.PhotplugError, match="nothing works"):
        run([prefix], options, manager=manager)
    assert list(tmp_path.iterdir()) == []


def test_a_mosaic_in_scratch_files(prefix, tmp_path) -> None:
    """The files have no name left when it is loaded, and hold its pixels as long as it is there."""
    image, plain = dp.load_mosaic(prefix, "calibrated", scratch=tmp_path), dp.load_mosaic(prefix, "calibrated")
    assert list(tmp_path.iterdir()) == []
    for one, other in (
        (image.data, plain.data),
        (image.uncertainty.array, plain.uncertainty.array),
        (image.background_weight, plain.background_weight),
    ):
        np.testing.assert_array_equal(one, other)
    assert isinstance(image.data.base, np.memmap)
    assert not isinstance(plain.data.base, np.memmap)
    assert image[10:20, 5:9].data.sum() == plain[10:20, 5:9].data.sum()


@pytest.mark.parametrize("step", ["engines.sep_engine.detect_sep", "sources.photometry.measure_with"])
def test_too_little_memory_for_a_tile_is_told(prefix, monkeypatch, step) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(f"dja_photplug.{step}", fail)
    options = dp.Options(tiles=TileOptions(size=300, overlap=OVERLAP), bands=BandOptions(workers=1))
    with pytest.raises(
        dp.PhotplugError, match=r"there is not enough memory for a tile of \d+ x \d+ pixels; use smaller ones"
    ):
        dp.run([prefix], options)


class Broken:
    """A plugin that fails in the midst of the tiles."""

    @hookimpl
    def photplug_measure(self, image):
        raise dp.PhotplugError("nothing works")


def test_dask_gives_the_same_table(prefix, scheduler, tmp_path, monkeypatch) -> None:
    """By its executor; workers with two threads work one at a time, in another working directory than this process."""
    monkeypatch.chdir(tmp_path)
    tiles = TileOptions(size=230, overlap=OVERLAP, scheduler=scheduler, scratch=".")
    result = dp.run([prefix], dp.Options(tiles=tiles))
    expect_same((result.catalog, result.segmentation), analyse(prefix, WHOLE, 1, "sep", "calibrated"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "localhost", "tls://127.0.0.1:9", "nothing://a:1"])
def test_nobody_answers_for_the_scheduler(prefix, tmp_path, monkeypatch, address) -> None:
    """No client is made that waits for its own end, and then tells of that by a traceback."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("dja_photplug.parallel.cluster.WAIT", "1s")
    monkeypatch.setattr(distributed.Client, "__init__", lambda *args, **more: pytest.fail("a client"))
    tiles = TileOptions(size=230, scheduler=address, scratch=str(tmp_path))
    with pytest.raises(dp.PhotplugError, match=f"no Dask scheduler answers at {address} .*; start one, or"):
        dp.run([prefix], dp.Options(tiles=tiles))
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_is_lost_is_told(prefix, tmp_path) -> None:
    """In one line: Dask logs tracebacks of it."""
    pytest.importorskip("distributed")
    scratch, path = tmp_path / "scratch", {"PYTHONPATH": os.pathsep.join(sys.path)}
    scratch.mkdir()
    start = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(start, stdin=-1, stdout=-1, text=True, env=os.environ | path) as cluster:
        words = f"catalog {prefix} -o {tmp_path}/cat.fits --tile-size 100 --scratch {scratch} --scheduler "
        words += cluster.stdout.readline()
        code = "import sys; from dja_photplug.cli.app import main; sys.exit(main(sys.argv[1:]))"
        run = subprocess.Popen(
            [sys.executable, "-c", code, *words.split()], stderr=-1, text=True, env=os.environ | path
        )
        while not list(scratch.rglob("*.work")):
            assert run.poll() is None
            time.sleep(0.005)
        cluster.kill()
        _, told = run.communicate(timeout=60)
    assert (run.returncode, told.count("\n")) == (1, 1), told
    assert told.startswith(f"dja-photplug: {prefix}: the executor, or the scheduler of its workers, dropped its work")
    assert list(tmp_path.iterdir()) == [scratch]
    assert list(scratch.iterdir()) == []


def test_a_killed_worker_is_survived(prefix, tmp_path) -> None:
    """One is killed as soon as there is work."""
    done = threading.Event()

    def kill() -> None:
        while not done.is_set():
            if list(tmp_path.rglob("*.work")) and (processes := multiprocessing.active_children()):
                processes[0].kill()
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        tiles = TileOptions(size=100, overlap=OVERLAP, scratch=str(tmp_path))
        options = dp.Options(tiles=tiles, bands=BandOptions(workers=2))
        with pytest.warns(dp.PhotplugWarning, match="a process died; its work is being redone"):
            result = dp.run([prefix], options)
    finally:
        done.set()
        killer.join()
    expect_same((result.catalog, result.segmentation), analyse(prefix, WHOLE, 1, "sep", "calibrated"))


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_leaves_nothing(prefix, tmp_path, number, status) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "cat.fits"
    scratch.mkdir()
    words = f"catalog {prefix} -o {output} --tile-size 100 --workers 2 --scratch {scratch}".split()
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); " + (
        "from dja_photplug.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    run = subprocess.Popen(
        [sys.executable, "-c", code, *words], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    while len(list(scratch.rglob("*.work"))) == 0:  # the first tiles are under way
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(number)
    _, told = run.communicate(timeout=60)
    assert run.returncode == status, told
    assert list(tmp_path.iterdir()) == [scratch]
    assert list(scratch.iterdir()) == []
    assert _ends(run.pid)


def _ends(group: int) -> bool:
    """Return whether nobody is left of a group of processes, once all have seen that the first ended."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
