"""Surveys: what is complete stays, what changed is made again, what fails stops no other, and who does the work."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.files.pixels import read_image
from dja_photplug.options.stages import BandOptions
from dja_photplug.plugin import hookimpl
from dja_photplug.surveys import work as survey_work
from tests.helpers import expect_error, need_pyarrow, write_psf

NAMES = ["one", "two", "three"]
SURVEY = ["survey", "fields.toml", "-o", "out"]


def states(table: Table | None = None) -> dict[str, tuple[str, str]]:
    """Status and message by field, of a summary or of the file."""
    table = Table.read("out/summary.ecsv") if table is None else table
    return {row["field"]: (str(row["status"]), str(row["message"])) for row in table}


def times(folder: Path = Path("out")) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "summary.ecsv"}


def expect_same(ours: QTable, theirs: QTable) -> None:
    assert ours.colnames == theirs.colnames
    for name in theirs.colnames:
        np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]), err_msg=name)


def test_each_field_is_as_by_catalog(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SURVEY, "--segmentations"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["field", "status", "sources", "bands", "seconds", "message"]
    assert printed[-1] == "out/summary.ecsv: 3 made"
    assert [line.split()[0] for line in printed[2:-1]] == NAMES
    files = [f"{name}{end}" for name in NAMES for end in (".fits", ".fits.json", "_seg.fits.gz")]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted([*files, "summary.ecsv"])
    summary = Table.read("out/summary.ecsv")
    assert list(summary["bands"]) == ["f444w", "f115w, f444w", "f444w"]
    for name, options, bands in (
        ("one", [], ["f444w"]),
        ("two", [], ["f115w", "f444w"]),
        ("three", ["--n-sigma", "2.0"], ["f444w"]),
    ):
        mosaics = [f"data/{name}-v1-{band}-clear" for band in bands]
        more = ["-o", f"{name}.fits", "--noise", "dja", "--segmentation", f"{name}_seg.fits.gz"]
        assert main(["catalog", *mosaics, *more, *options]) == 0
        ours, theirs = (dp.read_catalog(path) for path in (f"out/{name}.fits", f"{name}.fits"))
        expect_same(ours, theirs)
        assert len(theirs) > 3
        assert ours.meta == theirs.meta
        np.testing.assert_array_equal(*(read_image(Path(p, f"{name}_seg.fits.gz"))[0] for p in ("out", ".")))
        assert summary["sources"][NAMES.index(name)] == len(theirs)


def test_what_is_complete_is_skipped(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_psf(place / "data" / "psf.fits", 1.5, 31)
    with Path("fields.toml").open("a") as stream:
        stream.write('[fields.one.options.bands]\npsf = "data/psf.fits"\n')
    assert main([*SURVEY, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert "flux_total" in dp.read_catalog("out/one.fits").colnames
    before = times()
    # Neither how the work is divided nor the folder one stands in is a part of the result.
    assert main([*SURVEY, "--workers", "1", "--tile-size", "2000"]) == 0
    assert states() == dict.fromkeys(NAMES, ("skipped", ""))
    (place / "elsewhere").mkdir()
    os.chdir("elsewhere")
    assert main(["survey", "../fields.toml", "-o", "../out"]) == 0
    os.chdir(place)
    assert times() == before
    assert list(Table.read("out/summary.ecsv")["sources"]) == [len(dp.read_catalog(f"out/{n}.fits")) for n in NAMES]
    assert main([*SURVEY, "--redo"]) == 0
    assert states() == dict.fromkeys(NAMES, ("redone", "all is made again"))
    assert all(after > before[name] for name, after in times().items())


def change_option(place: Path) -> None:
    text = Path("fields.toml").read_text()
    Path("fields.toml").write_text(text.replace("n_sigma = 2.0", "n_sigma = 2.5\nn_pixels = 12"))


def touch_science(place: Path) -> None:
    with fits.open("data/three-v1-f444w-clear_drc_sci.fits", mode="update") as hdus:
        hdus[0].data[5, 5] += 1


def add_variance(place: Path) -> None:
    weight, header = read_image("data/three-v1-f444w-clear_drc_wht.fits")
    variance = np.divide(1, weight, out=np.zeros_like(weight), where=weight > 0)
    fits.writeto("data/three-v1-f444w-clear_drc_var.fits", variance, header)


def change_version(place: Path) -> None:
    record = json.loads(Path("out/three.fits.json").read_text())
    record["recipe"]["version"] = "0.0.9"
    Path("out/three.fits.json").write_text(json.dumps(record))


def keep_less(place: Path) -> None:
    """The record of a version that kept other things."""
    record = json.loads(Path("out/three.fits.json").read_text())
    record["recipe"] = {"release": 3}
    Path("out/three.fits.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_option, "other options: detect.n_sigma, detect.n_pixels"),
        (touch_science, "other files: three-v1-f444w-clear_drc_sci.fits"),
        (add_variance, "other files: three-v1-f444w-clear_drc_var.fits is new"),
        (change_version, "made by dja_photplug 0.0.9, this is 0.1.0"),
        (keep_less, "made by dja_photplug unknown, this is 0.1.0"),
        (lambda place: Path("out/three.fits").unlink(), "three.fits was not there"),
        (lambda place: Path("out/three_seg.fits.gz").unlink(), "three_seg.fits.gz was not there"),
    ],
)
def test_what_changed_is_made_again(place: Path, change, told: str) -> None:
    assert main([*SURVEY, "--segmentations"]) == 0
    before = times()
    change(place)
    assert main([*SURVEY, "--segmentations"]) == 0
    assert states() == {"one": ("skipped", ""), "two": ("skipped", ""), "three": ("redone", told)}
    after = times()
    assert {name for name in after if after[name] != before.get(name)} == {
        "three.fits",
        "three.fits.json",
        "three_seg.fits.gz",
    }
    assert main([*SURVEY, "--segmentations"]) == 0
    assert states() == dict.fromkeys(NAMES, ("skipped", ""))


def test_files_that_are_not_mosaics_count_too(place: Path) -> None:
    """Segments by an option; a detection image that is not measured; files that are gone."""
    assert main([*SURVEY, "--segmentations"]) == 0
    shutil.copy("out/one_seg.fits.gz", "data/seg.fits.gz")
    for kind in ("sci", "wht"):
        shutil.copy(f"data/two-v1-f444w-clear_drc_{kind}.fits", f"data/two-v1-ir_drc_{kind}.fits")
    listed = '[fields.one]\nbands = ["data/one-v1-f444w-clear"]\n[fields.one.options.detect]\n'
    listed += 'use_segmentation = "data/seg.fits.gz"\n[fields.two]\nbands = ["data/two-v1-f444w-clear"]\n'
    Path("fields.toml").write_text(listed + '[fields.two.options.bands]\ndetect = "ir"\n')
    assert main([*SURVEY, "--noise", "dja"]) == 0
    two = "other options: bands.detect"
    assert states() == {"one": ("redone", "other options: detect.use_segmentation"), "two": ("redone", two)}
    for path in ("data/seg.fits.gz", "data/two-v1-ir_drc_wht.fits"):
        os.utime(path)
    Path("data/one-v1-f444w-clear_drc_exp.fits").rename("data/exp.fits")
    assert main([*SURVEY, "--noise", "background"]) == 0
    assert main([*SURVEY, "--noise", "background"]) == 0
    assert states() == dict.fromkeys(["one", "two"], ("skipped", ""))
    for path in ("data/seg.fits.gz", "data/two-v1-ir_drc_wht.fits"):
        os.utime(path)
    Path("data/exp.fits").rename("data/one-v1-f444w-clear_drc_exp.fits")
    assert main([*SURVEY, "--noise", "background"]) == 0
    assert states() == {
        "one": ("redone", "other files: one-v1-f444w-clear_drc_exp.fits is new, seg.fits.gz"),
        "two": ("redone", "other files: two-v1-ir_drc_wht.fits"),
    }


def test_other_plugins_make_again(place: Path) -> None:
    """Those that have a say; a command has none."""

    class Column:
        @hookimpl
        def photplug_columns(self, catalog):
            return {"twice": 2 * np.asarray(catalog["id"])}

    class Command:
        @hookimpl
        def photplug_register_commands(self, subparsers):
            raise AssertionError

    dp.survey("fields.toml", "out")
    manager = dp.get_plugin_manager()
    manager.register(Command(), "mine")
    assert states(dp.survey("fields.toml", "out", manager=manager)) == dict.fromkeys(NAMES, ("skipped", ""))
    blocked = dp.get_plugin_manager(["wcs-epochs", "command-info"])
    dp.survey("fields.toml", "blocked", manager=blocked)
    assert states(dp.survey("fields.toml", "blocked", manager=blocked)) == dict.fromkeys(NAMES, ("skipped", ""))
    told = ("redone", "other plugins: wcs-epochs is gone")
    assert states(dp.survey("fields.toml", "blocked")) == dict.fromkeys(NAMES, told)
    manager.register(Column(), "doubled")
    told = ("redone", "other plugins: doubled is new")
    assert states(dp.survey("fields.toml", "out", manager=manager)) == dict.fromkeys(NAMES, told)
    assert "twice" in dp.read_catalog("out/one.fits").colnames


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_field_that_fails_stops_no_other(place: Path, capsys: pytest.CaptureFixture[str], workers: str) -> None:
    path = Path("data/two-v1-f444w-clear_drc_sci.fits")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert main([*SURVEY, "--workers", workers]) == 1
    captured = capsys.readouterr()
    assert captured.err == "dja-photplug: 1 of 3 fields failed: two; out/summary.ecsv says why\n"
    found = states()
    assert (found["one"], found["three"]) == (("made", ""), ("made", ""))
    assert found["two"][0] == "failed"
    assert "two-v1-f444w-clear_drc_sci.fits" in found["two"][1]
    assert Table.read("out/summary.ecsv")["sources"].mask.tolist() == [False, True, False]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("one.fits", "one.fits.json", "summary.ecsv", "three.fits", "three.fits.json"),
    ]
    path.write_bytes(whole)
    assert main([*SURVEY, "--quiet"]) == 0
    assert states() == {"one": ("skipped", ""), "two": ("made", ""), "three": ("skipped", "")}
    # One that fails when it is to be made again leaves what was there.
    before = times()
    path.write_bytes(whole[: len(whole) // 2])
    assert main([*SURVEY]) == 1
    assert times() == before


def test_a_stack_of_last_time_is_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("stacks").mkdir()
    with Path("fields.toml").open("a") as stream:
        stream.write('[fields.two.options.bands]\nstack = "stacks"\n')
    stack = Path("stacks/two-v1-ir_drc_sci.fits.gz")
    stack.touch()
    assert main(SURVEY) == 1
    told = f"{stack}: already exists; name another file or add --overwrite"
    assert states()["two"] == ("failed", told)
    stack.unlink()
    assert main(SURVEY) == 0
    before = stack.stat().st_mtime_ns
    assert main(SURVEY) == 0
    assert states()["two"] == ("skipped", "")
    assert main([*SURVEY, "--n-pixels", "12"]) == 0
    assert states()["two"] == ("redone", "other options: detect.n_pixels")
    assert stack.stat().st_mtime_ns > before


class Bug:
    """A plugin that fails in one field, and not as bad input does."""

    @hookimpl
    def photplug_columns(self, band, image):
        if band == "f115w":
            raise ZeroDivisionError("oh")


def test_a_bug_stops_no_other_and_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manager = dp.get_plugin_manager()
    manager.register(Bug(), "buggy")
    summary = dp.survey("fields.toml", "out", manager=manager)
    assert states(summary)["two"] == ("failed", "plugin 'buggy' failed in photplug_columns: ZeroDivisionError: oh")
    assert [state for state, _ in states(summary).values()] == ["made", "failed", "made"]


def test_what_is_no_bad_input_is_said_to_be_a_bug(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(survey_work, "write_image", fail)
    summary = dp.survey("fields.toml", "out", segmentations=True)
    assert states(summary)["one"][1].startswith("ZeroDivisionError: oh, in test_run.py, line ")
    assert states(summary)["one"][1].endswith("this is a bug")
    with pytest.raises(dp.PhotplugError, match="3 of 3 fields failed"):
        main([*SURVEY, "--segmentations", "--debug"])
    assert capsys.readouterr().err.count("Traceback") == 3


def test_warnings_name_their_field(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("data").glob("two-v1-f115w*"):
        with fits.open(path, mode="update") as hdus:
            hdus[0].header["CRVAL2"] += 1
    with Path("fields.toml").open("a") as stream:
        stream.write('[fields.two.options.bands]\ndetect = "f444w"\n')
    for workers in ("1", "2"):
        assert main([*SURVEY, "--workers", workers, "--redo"]) == 0
        told = capsys.readouterr().err
        assert "dja-photplug: warning: two: data/two-v1-f115w-clear: none of the " in told


def test_catalogues_of_somebody_else_stay(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/two.fits").write_text("mine")
    command = " ".join(SURVEY)
    expect_error(capsys, command, "out/two.fits: already exists and is not of this survey; name another folder or")
    assert [path.name for path in Path("out").iterdir()] == ["two.fits"]
    assert main([*SURVEY, "--overwrite"]) == 0
    assert states()["two"] == ("made", "")
    # One that was changed since stays as long as nothing else has changed, and is told.
    table = dp.read_catalog("out/one.fits")
    table["mine"] = 1.0
    dp.write_catalog(table, "out/one.fits", overwrite=True)
    capsys.readouterr()
    assert main(SURVEY) == 0
    assert states()["one"] == ("skipped", "one.fits was changed since")
    capsys.readouterr()
    expect_error(
        capsys, f"{command} --n-sigma 3", "out/one.fits: already exists and was changed since the survey wrote"
    )
    assert "mine" in dp.read_catalog("out/one.fits").colnames
    assert main([*SURVEY, "--n-sigma", "3", "--overwrite"]) == 0
    assert "mine" not in dp.read_catalog("out/one.fits").colnames


def test_formats_are_apart(place: Path) -> None:
    for suffix in (".fits", ".ecsv"):
        dp.survey("fields.toml", "out", suffix=suffix)
    assert states(dp.survey("fields.toml", "out")) == dict.fromkeys(NAMES, ("skipped", ""))
    one, other = (dp.read_catalog(f"out/two{suffix}") for suffix in (".fits", ".ecsv"))
    expect_same(one, other)
    need_pyarrow(".parquet")
    dp.survey("fields.toml", "out", suffix=".parquet")
    expect_same(dp.read_catalog("out/two.parquet"), one)


def test_a_run_that_ends_between_two_files_is_known(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files never lie beside a record that is not theirs, and the next run finishes what was begun."""
    dp.survey("fields.toml", "out")
    replace = os.replace

    def replace_one(source: Path, target: Path) -> None:
        if Path(target).name == "three.fits.json":
            raise KeyboardInterrupt
        replace(source, target)

    options = dp.Options(calibration=dp.CalibrationOptions(seed=2))
    with monkeypatch.context() as patch:
        patch.setattr("dja_photplug.outputs.moves.os.replace", replace_one)
        with pytest.raises(KeyboardInterrupt):
            dp.survey("fields.toml", "out", options)
    assert not Path("out/three.fits.json").exists()
    with pytest.warns(dp.PhotplugWarning, match=r"three\.fits\.json now have theirs"):
        assert states(dp.survey("fields.toml", "out", options)) == dict.fromkeys(NAMES, ("skipped", ""))
    assert not list(Path("out").glob(".*"))
    Path("out/three.fits").unlink()
    assert states(dp.survey("fields.toml", "out", options))["three"] == ("redone", "three.fits was not there")


def expect_alike(folder: str) -> None:
    assert states(Table.read(f"{folder}/summary.ecsv")) == dict.fromkeys(NAMES, ("made", ""))
    for name in NAMES:
        ours, theirs = (dp.read_catalog(f"{each}/{name}.fits") for each in (folder, "out"))
        assert ours.colnames == theirs.colnames
        for column in theirs.colnames:  # tiles add up in another order
            np.testing.assert_allclose(*(np.asarray(table[column]) for table in (ours, theirs)), rtol=1e-9, atol=1e-9)


def add_tiles() -> None:
    """Make field two a large one."""
    with Path("fields.toml").open("a") as stream:
        stream.write("[fields.two.options.tiles]\nsize = 150\noverlap = 20\n")


def test_two_workers_give_the_same(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SURVEY) == 0
    add_tiles()
    assert main(["survey", "fields.toml", "-o", "processes", "--workers", "2"]) == 0
    assert capsys.readouterr().err == ""
    expect_alike("processes")
    assert main([*SURVEY, "--workers", "2"]) == 0
    assert states() == dict.fromkeys(NAMES, ("skipped", ""))


def test_executors_give_the_same(place: Path) -> None:
    dp.survey("fields.toml", "out")
    with ThreadPoolExecutor(2) as executor:
        dp.survey("fields.toml", "threads", executor=executor)
    expect_alike("threads")


def test_what_is_registered_by_hand_is_done_here(place: Path) -> None:
    manager = dp.get_plugin_manager()
    manager.register(Bug(), "buggy")
    two = dp.Options(bands=BandOptions(workers=2))
    with pytest.warns(dp.PhotplugWarning, match="registered by hand are known only in this process"):
        assert states(dp.survey("fields.toml", "out", two, manager=manager))["two"][0] == "failed"


def test_dask_gives_the_same(place: Path, scheduler: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its workers have another working directory than this process, and names of files are relative to that of this."""
    dp.survey("fields.toml", "out")
    add_tiles()
    assert main(["survey", "fields.toml", "-o", "dask", "--scheduler", scheduler]) == 0
    assert capsys.readouterr().err == ""  # not because they were done here
    expect_alike("dask")


def test_nobody_answers_for_the_scheduler(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("dja_photplug.parallel.cluster.WAIT", "1s")
    nobody = "--scheduler tcp://127.0.0.1:9"
    expect_error(capsys, f"{' '.join(SURVEY)} {nobody}", "no Dask scheduler answers at tcp://127.0.0.1:9")
    assert main(SURVEY) == 0
    assert main([*SURVEY, *nobody.split()]) == 0  # nothing is left to do


def test_fields_of_workers_that_are_killed_are_done_here(place: Path) -> None:
    done = threading.Event()

    def kill() -> None:
        while not done.is_set():
            for process in multiprocessing.active_children():
                process.kill()
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.warns(dp.PhotplugWarning) as caught:
            summary = dp.survey("fields.toml", "out", dp.Options(bands=BandOptions(workers=2)))
    finally:
        done.set()
        killer.join()
    told = [str(warning.message) for warning in caught]
    assert any("doing the remaining fields one after the other" in text for text in told), told
    assert states(summary) == dict.fromkeys(NAMES, ("made", ""))


class Forgetful(ThreadPoolExecutor):
    """Whose workers are lost after the first piece of work, before anybody knows that it is done."""

    lost = False

    def submit(self, work, *arguments):
        future = super().submit(work, *arguments)
        if self.lost:
            return future
        self.lost = True
        wait([future])
        assert future.exception() is None
        never = Future()
        never.set_exception(BrokenProcessPool("killed"))
        return never


def test_a_field_whose_worker_ends_just_after_it_is_made(place: Path) -> None:
    """With its stack, which would be taken for one of somebody else."""
    Path("stacks").mkdir()
    Path("fields.toml").write_text(
        '[options.variance]\nnoise = "dja"\n[options.bands]\nstack = "stacks"\n'
        '[fields.two]\npattern = "data/two-v1-*_sci.fits"\n'
    )
    with Forgetful(1) as executor, pytest.warns(dp.PhotplugWarning, match="its work is being redone"):
        summary = dp.survey("fields.toml", "out", executor=executor)
    assert states(summary) == {"two": ("made", "")}
    assert summary["sources"][0] == len(dp.read_catalog("out/two.fits"))
    assert states(dp.survey("fields.toml", "out")) == {"two": ("skipped", "")}


@pytest.mark.parametrize(
    ("number", "status", "workers"),
    [(signal.SIGINT, 130, "2"), pytest.param(signal.SIGTERM, 143, "1", marks=pytest.mark.slow)],
)
def test_a_signal_leaves_what_is_complete(place: Path, number: int, status: int, workers: str) -> None:
    count = 12
    for i in range(count):
        for path in Path("data").glob("one-v1*"):
            path.with_name(path.name.replace("one", f"one{i}")).symlink_to(path.name)
    fields = [f'[fields.n{i}]\nbands = ["data/one{i}-v1-f444w-clear"]\n' for i in range(count)]
    Path("fields.toml").write_text("".join(fields))
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); " + (
        "from dja_photplug.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    words = [*SURVEY, "--workers", workers]
    run = subprocess.Popen(
        [sys.executable, "-c", code, *words], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    while not list(Path().glob("out/n*.fits")):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    _, told = run.communicate(timeout=60)
    assert run.returncode == status, told
    made = list(Path("out").glob("n*.fits"))
    assert 1 <= len(made) < count
    for path in made:
        assert len(dp.read_catalog(path)) > 3
    assert not [path for path in Path("out").iterdir() if not path.name.startswith("n")]
    assert main([*SURVEY, "--quiet"]) == 0
    found = [status for status, _ in states().values()]
    assert found.count("skipped") == len(made)
    assert set(found) <= {"skipped", "made", "redone"}
