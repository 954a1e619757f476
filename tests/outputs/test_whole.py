"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dja_photplug.errors import PhotplugError
from dja_photplug.outputs.whole import check_output, whole_file


def test_the_file_appears_at_the_end_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "out.fits.gz"
    with whole_file(path) as temporary:
        assert tmp_path in temporary.parents  # a rename within one file system is one step
        assert temporary.name == "out.fits.gz"  # writers choose the format by the suffix
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.fits.gz"]


def break_off(path: Path, error: BaseException) -> None:
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), PhotplugError("bad input")])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_error_leaves_the_folder_as_it_was(tmp_path: Path, error: BaseException, old: str | None) -> None:
    path = tmp_path / "out.txt"
    if old:
        path.write_text(old)
    before = os.listdir(tmp_path)
    with pytest.raises(type(error)) as caught:
        break_off(path, error)
    assert caught.value is error  # other errors pass as they are
    assert os.listdir(tmp_path) == before
    assert not old or path.read_text() == old


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(PhotplugError, match=r"out\.txt: already exists; .*--overwrite"), whole_file(path):
        pytest.fail("the work must not start")
    assert path.read_text() == "old"
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_are_checked_before_the_work(tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PhotplugError, match=r"nowhere/out\.txt: the folder .*nowhere does not exist; create it"):
        check_output(tmp_path / "nowhere" / "out.txt", overwrite=overwrite)
    with pytest.raises(PhotplugError, match="is a folder; name a file in it"):
        check_output(tmp_path, overwrite=overwrite)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PhotplugError, match="the folder nowhere does not exist"):
        check_output(Path("nowhere/out.txt"), overwrite=overwrite)
    assert check_output(Path("out.txt"), overwrite=overwrite) == Path("out.txt")


def test_relative_names_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with whole_file("out.txt") as temporary:
        temporary.write_text("x")
    assert os.listdir(tmp_path) == ["out.txt"]


def test_what_the_system_refuses_is_told(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with pytest.raises(PhotplugError, match=r"out\.txt: cannot be written \(No space left on device\)") as caught:
        break_off(path, OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(caught.value.__cause__, OSError)
    assert os.listdir(tmp_path) == []


def test_a_writer_that_wrote_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(PhotplugError, match="cannot be written"), whole_file(tmp_path / "out.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with whole_file(tmp_path / "link", overwrite=True) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
