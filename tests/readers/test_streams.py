"""What a thread reads ahead."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dja_photplug.readers.streams import ahead, begin_streams, open_stream


def count(stop: int, taken: list[int]) -> Iterator[int]:
    """Count, and note what was taken."""
    for i in range(stop):
        taken.append(i)
        yield i
    if stop == 7:
        raise ValueError("seven")


def test_all_come_in_order() -> None:
    assert list(ahead(count(100, []), 3, "counting")) == list(range(100))
    assert list(ahead([], 3, "nothing")) == []


def test_no_more_are_taken_than_may_wait() -> None:
    taken: list[int] = []
    items = ahead(count(100, taken), 3, "counting")
    assert next(items) == 0
    items.close()
    # One is used, three wait, one is in the hands of the thread, and room is made while it ends.
    assert len(taken) <= 7
    assert not [thread for thread in threading.enumerate() if thread.name == "counting"]


def test_errors_come_where_they_are_in_the_order() -> None:
    items = ahead(count(7, []), 3, "counting")
    assert [next(items) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(items)
    assert next(items, None) is None


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("inflating")]


def test_what_is_begun_is_read_once_and_closed(tmp_path: Path) -> None:
    content, plain = bytes(range(256)) * 20_000, tmp_path / "plain.fits"
    plain.write_bytes(content)
    paths = [tmp_path / name for name in ("a.gz", "b.gz", "c.gz", "damaged.gz", "empty.gz")]
    for path in paths[:3]:
        path.write_bytes(gzip.compress(content))
    paths[3].write_bytes(b"no gzip")
    paths[4].write_bytes(b"")
    before = _threads()
    with begin_streams([*paths, plain, tmp_path / "missing.gz"]):
        with open_stream(paths[0]) as header:  # of which the first bytes are wanted, and no more
            assert header.read(10) == content[:10]
        with open_stream(paths[0], begun=True) as stream, open_stream(paths[0], begun=True) as another:
            assert stream.read() == content
            assert another.read() == content
        with open_stream(paths[1], begun=True) as stream:
            assert stream.read(10) == content[:10]  # and then it is closed
        with open_stream(plain, begun=True) as stream:
            assert stream.read() == content
        with pytest.raises(EOFError), open_stream(paths[3], begun=True) as stream:
            stream.read()
        with pytest.raises(FileNotFoundError):
            open_stream(tmp_path / "missing.gz", begun=True)
    assert _threads() == before
