"""Commands of which a process is killed at its work: they write what they would have, and leave nothing else."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dja_photplug.cli.app import build_parser, main
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from tests.fuzz.kills import find_processes

ENDS = 120  # s, that a run may take before it is said to hang
CODE = "import sys; from dja_photplug.cli.app import main; sys.exit(main(sys.argv[1:]))"
TOLD = re.compile("dja-photplug: warning: (sim: )?a process died; its work is being redone\n")
BANDS = "data/sim-v1-f444w-clear data/sim-v1-f115w-clear"
COMMANDS = {
    "catalog": f"catalog {BANDS} -o out/cat.fits --segmentation out/seg.fits --stack out --tile-size 100",
    "extend": f"extend cat.fits {BANDS} -o out/ext.fits --tile-size 100",
    "extend by bands": f"extend cat.fits {BANDS} -o out/ext.fits",
    "inject": "inject data/a-v1-f444w-clear -o out/inj.fits --noise dja --realisations 4 --magnitudes 22,27",
    "survey": "survey large.toml -o out --tile-size 100",
    "survey by fields": "survey small.toml -o out --segmentations",
}
SLOW = pytest.mark.slow
# The function by which a process works when it is killed.
CASES = [
    pytest.param("catalog", "_look", marks=SLOW),
    pytest.param("catalog", "_measure", marks=SLOW),
    pytest.param("extend", "_look", marks=SLOW),
    ("extend", "_measure"),
    ("extend by bands", "_measure"),
    pytest.param("inject", "realise", marks=SLOW),
    pytest.param("survey", "_look", marks=SLOW),
    ("survey", "_measure"),
    ("survey by fields", "do_apart"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bands of a field of twelve tiles, three small fields, lists of them, and a catalogue."""
    folder = tmp_path_factory.mktemp("inputs")
    for seed, (name, shape, bands) in enumerate(
        [("sim", (300, 350), ("f444w", "f115w")), *((name, (200, 220), ("f444w",)) for name in "abc")]
    ):
        field = simulate_field(FieldOptions(shape=shape, density=900.0, seed=seed))
        for band in bands:
            write_field(field, folder / "data", f"{name}-v1", f"{band}-clear")
    for size, names in {"small": ("a", "b", "c"), "large": ("sim",)}.items():
        fields = [f'[fields.{name}]\npattern = "data/{name}-v1-*_sci.fits"\n' for name in names]
        (folder / f"{size}.toml").write_text("".join(fields))
    made = ["catalog", str(folder / "data" / "sim-v1-f444w-clear"), "-o", str(folder / "cat.fits"), "--quiet"]
    assert main(made) == 0
    return folder


def prepare(inputs: Path, place: Path) -> Path:
    """Return a folder in which the names of all inputs are the same, with one for outputs and one for scratch files."""
    for name in ("out", "scratch"):
        (place / name).mkdir(parents=True)
    for path in inputs.iterdir():
        (place / path.name).symlink_to(path)
    return place


def read_outputs(place: Path) -> dict[str, bytes]:
    """Return what is in the folder of outputs; rows of a summary without the time that fields took."""
    files = {str(path.relative_to(place)): path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    return {name: re.sub(rb"\b\d+\.\d\b", b"", text) if "summary" in name else text for name, text in files.items()}


def is_at(place: Path, function: str) -> bool:
    """Return whether processes have work to do by a function."""
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):  # done meanwhile
                if name.endswith(".work") and f"{function}\x94".encode("latin-1") in Path(folder, name).read_bytes():
                    return True
    return False


def kill_at(run: subprocess.Popen[str], place: Path, function: str) -> None:
    """Kill the first of two processes as soon as they work by a function."""
    while run.poll() is None:
        workers = [pid for pid, parent in find_processes(run.pid).items() if run.pid not in (pid, parent)]
        if len(workers) == 2 and is_at(place, function):
            os.kill(workers[0], signal.SIGKILL)
            return
        time.sleep(0.003)
    pytest.fail(f"nobody worked by {function}: {run.communicate()}")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
@pytest.mark.parametrize(("command", "function"), CASES)
def test_a_run_of_which_a_process_is_killed(
    inputs: Path,
    tmp_path: Path,
    command: str,
    function: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, place = [*COMMANDS[command].split(), "--workers", "2"], prepare(inputs, tmp_path / "killed")
    root, scratch = Path(__file__).resolve().parents[2], place / "scratch"
    environment = os.environ | {"PYTHONPATH": str(root), "TMPDIR": str(scratch)}
    run = subprocess.Popen(
        [sys.executable, "-c", CODE, *words],
        cwd=place, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        kill_at(run, place, function)
        stdout, stderr = run.communicate(timeout=ENDS)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert (run.returncode, bool(TOLD.fullmatch(stderr))) == (0, True), stderr
    for _ in range(100):
        if not (left := find_processes(run.pid)):
            break
        time.sleep(0.1)
    assert left == {}
    assert list(scratch.iterdir()) == []

    written = read_outputs(place)
    shutil.rmtree(place / "out")
    (place / "out").mkdir()
    monkeypatch.chdir(place)
    capsys.readouterr()
    assert main(words) == 0
    assert written == read_outputs(place)
    if not command.startswith("survey"):  # whose rows have times
        assert stdout == capsys.readouterr().out


def test_all_commands_with_processes_are_killed() -> None:
    """Others do all in one: galfit, report, epochs, weight, psf, info, fetch and demo."""
    parser = build_parser(get_plugin_manager())
    (commands,) = (each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    shared = {name for name, each in commands.items() if "--workers" in each.format_help()}
    assert shared == {words.split()[0] for words in COMMANDS.values()}
