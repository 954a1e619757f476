"""Folders, names, streams and memory that are not as programs expect: one line, or the right thing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.apart import call_apart
from tests.fuzz.commands import run_command

PREFIX = "sim-test-v7.4-f444w-clear"
WEIGHT = f"weight {PREFIX} -o w.fits"


def end(folder: Path, command: str, prepare: Callable[[], object] | None = None) -> tuple[str | None, str]:
    """Run a command in a process of its own; return how it ended, and what it said."""

    def call() -> str:
        os.chdir(folder)
        if prepare is not None:
            prepare()
        return run_command(command.split(), folder)

    ended = call_apart(call)
    said = folder.parent / f"{folder.name}.err"
    return ended.said or ended.how, said.read_text() if said.exists() else ""


def bound_by_rights(folder: Path) -> list[str]:
    """Return what stands before a command that the rights of a folder bind, as they do not bind root."""
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    folder.chmod(0o555)
    try:
        run = subprocess.run([*words, "mkdir", folder / "x"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this is root, and there is no setpriv to be bound by rights")
    if "Permission denied" not in run.stderr:
        pytest.skip(f"rights do not bind this user here: {run.stderr}")
    return words


def run_words(folder: Path, words: list[str], command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-W", "ignore", "-m", "dja_photplug", *command.split()]
    return subprocess.run([*words, *program], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (WEIGHT, "w.fits: the folder . is not writable"),
        pytest.param(f"epochs {PREFIX}_wcs.csv --footprints out.reg", "the folder . cannot", marks=pytest.mark.slow),
        (f"catalog {PREFIX} -o c.fits --scratch .", "c.fits: the folder . is not writable"),
        ("survey fields.toml -o out", "out: cannot be written (Permission denied)"),
    ],
)
def test_a_folder_that_cannot_be_written(folder: Path, command: str, told: str) -> None:
    (folder / "fields.toml").write_text(f'[fields.one]\nbands = ["{PREFIX}"]\n')
    words, before = bound_by_rights(folder), sorted(folder.iterdir())
    run = run_words(folder, words, command)
    folder.chmod(0o755)
    assert (run.returncode, run.stderr.count("\n")) == (1, 1), run.stderr
    assert told in run.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="mounts of Linux")
def test_a_file_system_that_is_read_only(folder: Path) -> None:
    mount = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && cd {folder} && exec "
    words = ["unshare", "-m", "bash", "-c", f'{mount} "$@"', "bash"]
    try:
        tried = subprocess.run([*words, "touch", "x"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if "Read-only" not in tried.stderr:
        pytest.skip(f"no file system can be mounted here: {tried.stderr}")
    run = run_words(folder, words, WEIGHT)
    assert (run.returncode, run.stderr.count("\n")) == (1, 1), run.stderr
    assert "w.fits: the folder . is not writable" in run.stderr


def test_a_working_folder_that_was_deleted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    gone = tmp_path_factory.mktemp("gone")

    def leave() -> None:
        os.chdir(gone)
        gone.rmdir()

    def call() -> str:
        from dja_photplug.cli.app import main

        leave()
        return str(main(["info", str(folder / PREFIX)]) + 10 * main(["weight", str(folder / PREFIX), "-o", "w.fits"]))

    assert call_apart(call).said == "10"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"weight {PREFIX} -o {'x' * 300}.fits", "File name too long"),
        (f"survey fields.toml -o {'x' * 300}", "File name too long"),
        (f"catalog {PREFIX} -o c.fits --psf {'x' * 300}.fits", "File name too long"),
        (f"info {'x' * 300}-f444w-clear", "File name too long"),
        (f"weight {PREFIX} -o one.fits", "is a circular link"),
        (f"extend one.fits {PREFIX} -o x.fits", "Too many levels of symbolic links"),
        (f"weight {PREFIX} -o dangling.fits", "nowhere does not exist"),
        (f"weight {PREFIX} -o pipe.fits --overwrite", "is a device or a pipe"),
        (f"extend pipe.fits {PREFIX} -o x.fits", "is a pipe or a device"),
    ],
)
def test_names_and_links(folder: Path, command: str, told: str) -> None:
    (folder / "fields.toml").write_text(f'[fields.one]\nbands = ["{PREFIX}"]\n')
    (folder / "one.fits").symlink_to("two.fits")
    (folder / "two.fits").symlink_to("one.fits")
    (folder / "dangling.fits").symlink_to("nowhere/x.fits")
    os.mkfifo(folder / "pipe.fits")
    ended, said = end(folder, command)
    assert (ended, told in said) == ("refused", True), said


def test_a_link_to_a_mosaic_is_followed(folder: Path) -> None:
    (folder / "links").mkdir()
    for path in folder.glob(f"{PREFIX}_*"):
        (folder / "links" / path.name).symlink_to(path)
    assert end(folder, f"weight links/{PREFIX} -o w.fits")[0] == "obeyed"


def run_short(folder: Path, shell: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m dja_photplug info {PREFIX}"
    return subprocess.run(
        ["bash", "-c", shell.format(command)], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize(
    ("shell", "status", "lines"),
    [
        ("{} >/dev/full", 1, 1),
        ("{} >&-", 0, 0),
        pytest.param("LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii {}\u00e4", 1, 1, marks=pytest.mark.slow),
    ],
)
def test_streams(folder: Path, shell: str, status: int, lines: int) -> None:
    run = run_short(folder, shell)
    assert run.returncode == status
    assert len(run.stderr.splitlines()) == lines, run.stderr
    assert "Traceback" not in run.stderr


# A process of its own, with all imported and nothing freed: what others have given back would be enough.
SHORT = """
import resource, sys
from pathlib import Path
import dja_photplug.engines.sep_engine, dja_photplug.pipeline.catalog
from dja_photplug.cli.app import main
lines = Path("/proc/self/status").read_text().splitlines()
size = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmSize")) + (4 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_memory_that_is_short(folder: Path) -> None:
    """A limit that the planes of a catalogue do not fit into: how much was wanted is said."""
    command = [sys.executable, "-W", "ignore", "-c", SHORT, "catalog", PREFIX, "-o", "c.fits", "--noise", "dja"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert "memory is " in run.stderr
    assert any(unit in run.stderr for unit in ("MB", "MiB", "KiB"))


def test_names_of_members_of_another_mosaic(folder: Path) -> None:
    """Of one that the run does not read, but the next one in that folder would."""
    other = PREFIX.replace("f444w", "f115w")
    (folder / f"{other}_drc_sci.fits.gz").write_bytes((folder / f"{PREFIX}_drc_sci.fits.gz").read_bytes())
    ended, said = end(folder, f"weight {PREFIX} -o {other}_drc_exp.fits")
    assert (ended, f"the next run would take it for a file of {other}" in said) == ("refused", True), said
    ended, said = end(folder, f"epochs {PREFIX}_wcs.csv --exposure-map {PREFIX}_drc_wht.fits.gz --overwrite")
    assert (ended, f"is a member of {PREFIX}" in said) == ("refused", True), said
