"""What a thread reads ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dja_photplug.readers.streams import ahead


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
