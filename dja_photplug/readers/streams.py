"""The bytes of a file, inflated where it is gzipped, wherever it is: on disk, or on a server."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from isal import igzip

from dja_photplug.remote.cache import cached_copy
from dja_photplug.remote.paths import RemotePath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ahead", "expect_bytes", "open_stream"]

_PIECE, _AHEAD = 1 << 20, 1 << 23  # bytes that are inflated at once, and ahead of their reader
_BUFFER = 2880  # bytes, a record of FITS

Item = TypeVar("Item")


def open_stream(path: Path) -> io.BufferedReader:
    """Open a file to be read.

    Parameters
    ----------
    path : Path
        Gzipped where its name ends in ``.gz``.

    Returns
    -------
    BufferedReader
        Which can be read from the middle, but for a gzipped file on disk: that is faster from its beginning on.

    Raises
    ------
    OSError
        Where it cannot be opened.
    PhotplugError
        Where a server cannot be reached.
    """
    path = cached_copy(path)
    if not path.name.endswith(".gz"):
        return path.open("rb")
    if isinstance(path, RemotePath):
        from dja_photplug.remote.inflated import open_inflated

        return open_inflated(str(path))
    return io.BufferedReader(_Inflater(path), _BUFFER)


def expect_bytes(stream: io.BufferedReader, count: int) -> None:
    """Say how many bytes will be read from here on, which are asked of a server at once.

    Parameters
    ----------
    stream : BufferedReader
        From :func:`open_stream`.
    count : int
    """
    expect = getattr(stream.raw, "expect", None)
    if expect is not None:
        expect(count)


def ahead(items: Iterable[Item], most: int, name: str) -> Generator[Item]:
    """Yield what a thread takes from an iterable before it is asked for, so that both work at a time.

    Parameters
    ----------
    items : iterable
    most : int
        How many wait at once; 0 for any number.
    name : str
        Of the thread.

    Yields
    ------
    object

    Raises
    ------
    Exception
        What the iterable raises, in its place.
    """
    waiting: Queue[tuple[Item] | Exception | None] = Queue(most)
    stopping = Event()

    def take() -> None:
        end: Exception | None = None
        try:
            for item in items:
                if stopping.is_set():
                    break
                waiting.put((item,))
        except Exception as error:  # for whoever takes the items
            end = error
        waiting.put(end)

    # One that nobody closes must not keep the interpreter from its end.
    thread = Thread(target=take, name=name, daemon=True)
    thread.start()
    try:
        while (found := waiting.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found[0]
    finally:
        stopping.set()
        while thread.is_alive():  # it may wait to put an item
            with suppress(Empty):
                waiting.get(timeout=0.01)


class _Inflater(io.RawIOBase):
    """A gzip file that a thread inflates ahead of its reader."""

    def __init__(self, path: Path) -> None:
        self._source: BinaryIO = igzip.open(path, "rb")
        pieces = iter(partial(self._source.read, _PIECE), b"")
        self._pieces = ahead(pieces, _AHEAD // _PIECE, f"inflating {path.name}")
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        target = memoryview(buffer).cast("B")
        n = min(len(target), len(self._piece))
        target[:n] = self._piece[:n]
        self._piece = self._piece[n:]
        return n

    def close(self) -> None:
        self._pieces.close()
        self._source.close()
        super().close()
