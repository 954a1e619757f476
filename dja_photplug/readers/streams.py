"""The bytes of a file, inflated where it is gzipped, wherever it is: on disk, or on a server."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO

from isal import igzip

from dja_photplug.remote.cache import cached_copy
from dja_photplug.remote.paths import RemotePath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["expect_bytes", "open_stream"]

_PIECE, _AHEAD = 1 << 20, 1 << 25  # bytes that are inflated at once, and ahead of their reader
_BUFFER = 2880  # bytes, a record of FITS


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


class _Inflater(io.RawIOBase):
    """A gzip file that a thread inflates ahead of its reader, so that neither waits while the other has work."""

    def __init__(self, path: Path) -> None:
        self._source: BinaryIO = igzip.open(path, "rb")
        self._pieces: Queue[bytes | Exception] = Queue(_AHEAD // _PIECE)
        self._piece, self._stopping = memoryview(b""), False
        # One that nobody closes must not keep the interpreter from its end.
        self._thread = Thread(target=self._inflate, name=f"inflating {path.name}", daemon=True)
        self._thread.start()

    def _inflate(self) -> None:
        piece: bytes | Exception = b"-"
        while isinstance(piece, bytes) and piece and not self._stopping:
            try:
                piece = self._source.read(_PIECE)
            except Exception as error:
                piece = error  # for the reader, as the end is
            self._pieces.put(piece)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._piece:
            piece = self._pieces.get()
            if isinstance(piece, Exception) or not piece:
                self._pieces.put(piece)  # what is at the end stays there
            if isinstance(piece, Exception):
                raise piece
            self._piece = memoryview(piece)
        target = memoryview(buffer).cast("B")
        n = min(len(target), len(self._piece))
        target[:n] = self._piece[:n]
        self._piece = self._piece[n:]
        return n

    def close(self) -> None:
        self._stopping = True
        while self._thread.is_alive():  # it may wait to put a piece
            with suppress(Empty):
                self._pieces.get(timeout=0.01)
        self._source.close()
        super().close()
