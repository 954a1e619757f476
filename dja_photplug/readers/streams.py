"""The bytes of a file, inflated where it is gzipped, wherever it is: on disk, or on a server."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from isal import igzip
from isal.igzip_lib import IsalError

from dja_photplug.remote.cache import cached_copy
from dja_photplug.remote.paths import RemotePath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ahead", "begin_streams", "expect_bytes", "open_stream"]

# Bytes that are inflated at once, and ahead of their reader; more where it is not there yet.
_PIECE, _AHEAD, _EARLY = 1 << 20, 1 << 23, 1 << 26
_BUFFER = 2880  # bytes, a record of FITS

Item = TypeVar("Item")


# Files that are inflated already, for whoever reads their pixels.
_begun: dict[Path, _Inflater] = {}


@contextmanager
def begin_streams(paths: Iterable[Path]) -> Iterator[None]:
    """Let files be inflated while what reads them is imported.

    Nothing depends on it: whoever reads a file tells what is wrong with it, and what nobody read is closed at the end.

    Parameters
    ----------
    paths : iterable of Path
        Those that are not gzipped, or on a server, are left alone.

    Yields
    ------
    None
    """
    gzipped = [path for path in paths if path.name.endswith(".gz") and not isinstance(path, RemotePath)]
    try:
        for path in gzipped:
            # Threads may be out of reach too; and the stub of isal declares an instance of its error.
            with suppress(OSError, EOFError, RuntimeError, cast(type[Exception], IsalError)):
                stream = _Inflater(path, _EARLY)
                stream.begin()
                _begun[path] = stream
        yield
    finally:
        for path in gzipped:
            if path in _begun:
                _begun.pop(path).close()


def open_stream(path: Path, *, begun: bool = False) -> io.BufferedReader:
    """Open a file to be read.

    Parameters
    ----------
    path : Path
        Gzipped where its name ends in ``.gz``.
    begun : bool, optional
        Take the stream of `begin_streams` where there is one: all of the file will be read.

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
    stream = _begun.pop(path) if begun and path in _begun else _Inflater(path)
    return io.BufferedReader(stream, _BUFFER)


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

    def __init__(self, path: Path, most: int | None = None) -> None:
        self._source: BinaryIO = igzip.open(path, "rb")
        pieces = iter(partial(self._source.read, _PIECE), b"")
        self._pieces = ahead(pieces, (most or _AHEAD) // _PIECE, f"inflating {path.name}")
        self._piece = memoryview(b"")

    def begin(self) -> None:
        """Inflate before somebody reads."""
        self._piece = memoryview(next(self._pieces, b""))

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
