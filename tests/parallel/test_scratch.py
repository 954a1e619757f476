"""Planes in files: shared by name, gone when nobody uses them, and space that is told of before the work."""

from __future__ import annotations

import mmap
import pickle
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from dja_photplug.errors import PhotplugError
from dja_photplug.parallel.scratch import dump_shared, fill_rows, new_plane, no_space, open_scratch, share_plane

SHAPE = (600, 700)


def test_planes_are_files_while_there_is_a_folder(tmp_path: Path) -> None:
    with open_scratch(tmp_path) as scratch:
        plane = new_plane(SHAPE, np.float32)
        assert not plane.any()
        plane[3:5, 7] = 2
        assert type(plane) is np.ndarray
        assert [path.stat().st_size for path in scratch.folder.glob("*.plane")] == [plane.nbytes]
        small = new_plane((10, 10), np.float32)
        pickle.loads(dump_shared(small))[2, 3] = 5  # as a process does
        assert small[2, 3] == 5
        del small
    assert list(tmp_path.iterdir()) == []
    assert plane.sum() == 4  # it lives on without its name
    assert new_plane(SHAPE, np.bool_).dtype == bool
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_plane_is_the_next_ones(tmp_path: Path) -> None:
    with open_scratch(tmp_path) as scratch:
        plane = new_plane(SHAPE, np.int32)
        plane[...] = 3
        view = plane[5:]
        del plane
        another = new_plane(SHAPE, np.float32)
        assert len(list(scratch.folder.glob("*.plane"))) == 2
        assert view.sum() == 3 * view.size
        del view
        again = new_plane(SHAPE[::-1], np.float32)
        assert len(list(scratch.folder.glob("*.plane"))) == 2
        assert not again.any()
        again[...] = 5
        assert not another.any()


def test_a_pickle_names_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=SHAPE).astype(np.float32)
    with open_scratch(tmp_path):
        plane = share_plane(values)
        assert share_plane(plane) is plane
        parts = [plane, plane[10:20, 5:9], plane[::2, ::-1].T, np.asarray(plane[3]), plane > 0]
        stored = dump_shared(parts)
        assert len(stored) < plane.size + 10_000  # of the last alone the values are in it
        again = pickle.loads(stored)
        for one, other in zip(again, parts, strict=True):
            np.testing.assert_array_equal(one, other)
        again[1][...] = 7
        assert np.all(plane[10:20, 5:9] == 7)
        # Who looks at the same file looks at the same map of it, as long as anybody does.
        last = pickle.loads(dump_shared(plane[5:9]))
        assert np.shares_memory(last, again[0])
        assert not np.shares_memory(last, plane)
        # An array of an array of a file is known too.
        assert len(dump_shared(again[0])) < 1000


@pytest.mark.parametrize(
    ("directory", "needed", "told"),
    [
        ("missing", 0, "missing: cannot create a scratch folder there .*; name another with --scratch$"),
        ("", 10**18, "the image planes need 1000000000.0 GB there, but only .* [GMk]B are free; free space, or name"),
    ],
)
def test_too_little_space_is_told_before_the_work(tmp_path: Path, directory: str, needed: int, told: str) -> None:
    with pytest.raises(PhotplugError, match=told), open_scratch(tmp_path / directory, needed=needed):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (1, "0 kB"),
        (4096, "4 kB"),
        (1_000_000, "1 MB"),
        (62_600_000, "63 MB"),
        (999_999_999, "1000 MB"),
        (10**9, "1.0 GB"),
    ],
)
def test_space_is_told_in_a_unit_that_shows_it(size: int, told: str) -> None:
    assert f": cannot reserve {told} of scratch space" in str(no_space(Path("there"), size, OSError()))


def test_a_plane_without_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing through a map of a file that cannot grow would end the process."""

    with open_scratch(tmp_path):
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: usage._replace(free=10**6))
        with pytest.raises(PhotplugError, match=r"cannot reserve 2 MB of scratch space .* \(No space left on device\)"):
            new_plane(SHAPE, np.float32)
        assert new_plane((500, 500), np.float32).shape == (500, 500)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_rows_are_filled_in_memory_and_in_files(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(1).random(SHAPE) < 0.5
    with open_scratch(tmp_path) as scratch:
        plane = new_plane(SHAPE, dtype, blank=False)
        seen = pickle.loads(dump_shared(plane))  # as another process does
        blocks = [slice(0, 7), slice(7, 520), slice(520, 600)]
        for block, target in ((block, target) for target in (plane[:, :300], plane) for block in blocks):
            with fill_rows(target, block) as place:
                assert place.shape == target[block].shape
                place[...] = values[block, : target.shape[1]]
        np.testing.assert_array_equal(plane, values)
        np.testing.assert_array_equal(seen, values)
        with fill_rows(plane[100:200], slice(3, 5)) as place:
            place[...] = 0
        assert not plane[103:105].any()
        np.testing.assert_array_equal(plane[105:], values[105:])
        [path] = scratch.folder.glob("*.plane")
        del plane, seen, place, target
        assert new_plane(SHAPE, dtype, blank=False).shape == SHAPE  # in the same file
        assert list(scratch.folder.glob("*.plane")) == [path]
    plane = new_plane(SHAPE, dtype, blank=False)
    with fill_rows(plane, slice(4, 9)) as place:
        place[...] = values[4:9]
    np.testing.assert_array_equal(plane[4:9], values[4:9])


@pytest.mark.skipif(not hasattr(mmap, "MADV_NOHUGEPAGE"), reason="huge pages are of Linux")
def test_a_plane_in_memory_is_of_small_pages() -> None:
    plane = new_plane((1100, 1000), np.float32)
    assert not plane.any()
    plane[3] = 1
    assert pickle.loads(pickle.dumps(plane)).sum() == 1000
    assert new_plane((0, 3), np.bool_).shape == (0, 3)
    place, inside = plane.__array_interface__["data"][0], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= place < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            assert "nh" in line.split()
            return
    pytest.fail("the plane is in no map")


def test_rows_without_space_are_refused(tmp_path: Path) -> None:
    with open_scratch(tmp_path):
        plane, before = new_plane(SHAPE, np.float32, blank=False), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))  # of what a file may have
        try:
            told = r"^.*: cannot reserve 2 MB of scratch space there \(File too large\); free space, or name another"
            with pytest.raises(PhotplugError, match=told), fill_rows(plane, slice(0, 600)) as place:
                place[...] = 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_worker_that_does_not_see_the_files(tmp_path: Path) -> None:
    with open_scratch(tmp_path):
        stored = dump_shared(new_plane(SHAPE, np.float32))
    with pytest.raises(
        PhotplugError, match="a worker cannot open this scratch file .*; name a folder with --scratch that all"
    ):
        pickle.loads(stored)
