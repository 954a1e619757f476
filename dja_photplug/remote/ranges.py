"""The bytes of a file on a server, read from the middle as of a file on disk."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING

from dja_photplug.remote.transport import RemoteFile, describe, read_bytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["open_ranges"]

BLOCK = 1 << 16
KEPT = 1 << 10  # blocks of all files that are kept, 64 MB: headers are read by every cut-out
MOST = 1 << 22  # bytes of one request


class _Blocks:
    """Blocks of files that were read last, of all threads."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[str, str, int]) -> bytes | None:
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def put(self, key: tuple[str, str, int], block: bytes) -> None:
        with self._lock:
            self._blocks[key] = block
            while len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)


_BLOCKS = _Blocks()


def open_ranges(url: str) -> io.BufferedReader:
    """Open a file on a server to be read, from the middle too.

    Parameters
    ----------
    url : str

    Returns
    -------
    BufferedReader

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.remote.transport.describe`; where it is read also as ``read_bytes`` there.
    """
    return io.BufferedReader(_RangeFile(describe(url)), BLOCK)


class _RangeFile(io.RawIOBase):
    """A file on a server, of which blocks are asked for when they are read.

    What is read in a row is asked for ahead, more the more was read, so that at most a quarter as much comes unread.

    Parameters
    ----------
    file : RemoteFile
    """

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at, self._run, self._expected = file, 0, 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if at != self._at:
            self._at, self._run = at, 0
        return at

    def expect(self, count: int) -> None:
        """Say how many bytes will be read from here on, so that they are asked for at once.

        Parameters
        ----------
        count : int
        """
        self._expected = self._at + count

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        stop = min(self._at + len(target), self._file.size)
        start = self._at
        if start >= stop:
            return 0
        for place, piece in self._pieces(start, stop):
            target[place - start : place - start + len(piece)] = piece
        self._at, self._run = stop, self._run + stop - start
        return stop - start

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, memoryview]]:
        """Yield the bytes of a part, block by block, each with its place in the file."""
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            block = _BLOCKS.get(self._key(number)) or self._load(number, stop)
            first = number * BLOCK
            low, high = max(start - first, 0), min(stop - first, BLOCK)
            yield first + low, memoryview(block)[low:high]

    def _key(self, number: int) -> tuple[str, str, int]:
        return self._file.url, self._file.version, number

    def _load(self, number: int, stop: int) -> bytes:
        """Ask for a block, and for those after it that are to be read or may well be."""
        ahead = max(stop, self._expected, stop + self._run // 4)
        last = min(-(-min(ahead, self._file.size) // BLOCK), number + MOST // BLOCK)
        missing = next((n for n in range(number + 1, last) if _BLOCKS.get(self._key(n)) is not None), last)
        start, data = number * BLOCK, bytearray()
        read_bytes(self._file, start, min(missing * BLOCK, self._file.size), data.extend)
        for n in range(number, missing):
            _BLOCKS.put(self._key(n), bytes(data[(n - number) * BLOCK : (n - number + 1) * BLOCK]))
        return bytes(data[:BLOCK])
