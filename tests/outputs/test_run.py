"""Outputs of a run: together or not at all, apart from inputs, and finished by the next run where one was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.outputs.held import held_folder
from dja_photplug.outputs.moves import mend
from dja_photplug.outputs.run import Outputs, declare, protect
from dja_photplug.outputs.whole import hand_out, whole_file, whole_folder

NAMES = ("one", "two", "three")


def write_all(folder: Path, text: str, *, overwrite: bool = False) -> None:
    for name in NAMES:
        with whole_file(folder / name, overwrite=overwrite) as path:
            path.write_text(text)


def read_all(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def break_off(folder: Path) -> None:
    with Outputs():
        write_all(folder, "newer", overwrite=True)
        raise ZeroDivisionError


def write_beside(folder: Path, beside: str, *inputs: Path, overwrite: bool) -> None:
    with Outputs(), hand_out(folder / "out", overwrite=overwrite) as path:
        path.write_text("new")
        path.with_name(beside).write_text("new")
        protect(inputs)


def write_onto(path: Path, original: Path) -> None:
    with Outputs():
        protect([original])
        with whole_file(path, overwrite=True):
            pytest.fail("the work must not start")


def test_outputs_appear_together(tmp_path: Path) -> None:
    with Outputs():
        write_all(tmp_path, "new")
        with whole_folder(tmp_path / "stamps", overwrite=False) as folder:
            (folder / "1.fits").write_text("new")
        assert read_all(tmp_path) == {}
    assert read_all(tmp_path) == dict.fromkeys(NAMES, "new")
    assert sorted(os.listdir(tmp_path)) == sorted([*NAMES, "stamps"])
    with pytest.raises(ZeroDivisionError):
        break_off(tmp_path)
    assert read_all(tmp_path) == dict.fromkeys(NAMES, "new")
    assert sorted(os.listdir(tmp_path)) == sorted([*NAMES, "stamps"])


def test_what_a_plugin_writes_beside_comes_along(tmp_path: Path) -> None:
    (tmp_path / "beside").write_text("old")
    with pytest.raises(PhotplugError, match="beside: already exists"):
        write_beside(tmp_path, "beside", overwrite=False)
    assert read_all(tmp_path) == {"beside": "old"}
    write_beside(tmp_path, "beside", overwrite=True)
    assert read_all(tmp_path) == {"out": "new", "beside": "new"}


def test_an_input_is_refused_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("mine")
    (tmp_path / "hard").hardlink_to(tmp_path / "in")
    (tmp_path / "link").symlink_to("in")
    for name in ("in", "hard", "link", "../" + tmp_path.name + "/in"):
        with pytest.raises(PhotplugError, match="is an input, which this run reads; name another output"):
            write_onto(tmp_path / name, tmp_path / "in")
        # Also where it is known as an input, or written, only afterwards.
        with pytest.raises(PhotplugError, match="is an input"):
            write_beside(tmp_path, Path(name).name, tmp_path / "in", overwrite=True)
    assert (tmp_path / "in").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["hard", "in", "link"]


@pytest.mark.parametrize("given", ["folder/file", "linked/file", "folder/link", "folder/hard"])
@pytest.mark.parametrize("output", ["folder/file", "linked/file", "folder/link", "linked/link", "folder/hard"])
def test_an_input_by_another_name_is_refused(tmp_path: Path, given: str, output: str) -> None:
    """By links to it and to its folder, whichever of both names is the link."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to("folder")
    (tmp_path / "folder" / "file").write_text("mine")
    (tmp_path / "folder" / "link").symlink_to("file")
    (tmp_path / "folder" / "hard").hardlink_to(tmp_path / "folder" / "file")
    with pytest.raises(PhotplugError, match=f"{output}: is an input, which this run reads; name another output"):
        write_onto(tmp_path / output, tmp_path / given)
    assert (tmp_path / "folder" / "file").read_text() == "mine"


@pytest.mark.parametrize("other", ["folder/out", "linked/out", "folder/../folder/out", "folder/link"])
def test_two_outputs_that_are_one_file(tmp_path: Path, other: str) -> None:
    """Also where it is not there yet."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to("folder")
    (tmp_path / "folder" / "link").symlink_to("out")
    with Outputs():
        declare(tmp_path / "folder" / "out")
        declare(tmp_path / "linked" / "another")
        with pytest.raises(PhotplugError, match=f"{other}: two outputs have the same name; give each its own"):
            declare(tmp_path / other)


KILLED = """
import os, signal, sys
from pathlib import Path
from dja_photplug.outputs import run
from tests.outputs.test_run import write_all
from dja_photplug.outputs.whole import whole_file
place, at = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def counted(call):
    def wrapped(*arguments, **keywords):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **keywords)
    return wrapped
run.os.replace = counted(os.replace)
Path.unlink = counted(Path.unlink)
with run.Outputs():
    write_all(place, "new", overwrite=True)
    with whole_file(place / "other" / "four", overwrite=True) as path:
        path.write_text("new")
"""


def test_a_kill_between_two_renames_is_mended(tmp_path: Path) -> None:
    """At each of the renames and removals: never old beside new, and afterwards all old or all new."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for at in (1, 2, 4, 6, 7, 9, 10):
        place = tmp_path / str(at)
        (place / "other").mkdir(parents=True)
        write_all(place, "old")
        (place / "other" / "four").write_text("old")
        run = subprocess.run([sys.executable, "-c", KILLED, place, str(at)], env=environment, check=False)
        assert run.returncode == (-signal.SIGKILL if at < 10 else 0)
        found = read_all(place) | read_all(place / "other")
        assert len(set(found.values())) <= 1, "a mixed set"
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for folder in (place / "other", place):  # the journal is in the other one
                mend(folder)
        left = read_all(place) | read_all(place / "other")
        assert left == dict.fromkeys([*NAMES, "four"], "old" if at == 1 else "new")
        assert [each.category for each in told] == [PhotplugWarning] * (1 < at < 10)
        assert [path.name for path in place.rglob(".*")] == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system without new folders")
def test_where_no_folder_can_be_made_is_said_at_once() -> None:
    """It says of a folder that is there that it is not found."""
    with pytest.raises(FileNotFoundError, match="/proc/"), held_folder(Path("/proc")):
        pass


def test_folders_of_the_living_stay(tmp_path: Path) -> None:
    with held_folder(tmp_path) as one:
        (one / "file").touch()
        with held_folder(tmp_path) as other:
            assert other != one
        assert (one / "file").exists()
        assert not other.exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "dja-photplug-00000000").mkdir()  # killed before it was locked
    (tmp_path / "dja-photplug-of-the-user").mkdir()
    (tmp_path / "dja-photplug-of-the-user" / "file").touch()
    with held_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["dja-photplug-of-the-user"]
