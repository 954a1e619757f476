"""Gzipped files on servers, read from the middle: the places where that can begin are kept beside the cache."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dja_photplug.errors import PhotplugError
from dja_photplug.remote.cache import cache_path
from dja_photplug.remote.ranges import open_ranges
from dja_photplug.remote.transport import describe

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["open_inflated"]

# Bytes, inflated, between two places to begin at. Each takes 32 kB, and up to the next one is read in any case.
SPACING = 1 << 21
_BUFFER = 1 << 16  # bytes; what is read ahead comes over the network


def open_inflated(url: str) -> io.BufferedReader:
    """Open a gzipped file on a server to be read inflated, from the middle too.

    Parameters
    ----------
    url : str

    Returns
    -------
    BufferedReader
        What is behind the part that is read is not asked for. The first to read a part goes through all before it, and
        leaves the places from which the next one need not, in the folder of the cache.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.remote.ranges.open_ranges`, and where ``indexed_gzip`` is not installed.
    """
    return io.BufferedReader(_Inflated(url), _BUFFER)


@contextmanager
def _telling() -> Iterator[None]:
    """Say what went wrong, with the server or with the file, and not that the library could not go on."""
    try:
        yield
    except OSError as error:
        if isinstance(error.__cause__, PhotplugError):
            raise error.__cause__ from None
        raise OSError("it is not gzipped, or damaged in the middle") from None


class _Inflated(io.RawIOBase):
    """The inflated bytes of a gzipped file on a server."""

    def __init__(self, url: str) -> None:
        try:
            from indexed_gzip import IndexedGzipFile
        except ImportError:
            raise PhotplugError(
                f"{url}: reading part of it needs the extra 'remote' (indexed_gzip is missing); install it with pip "
                "install 'dja_photplug[remote]'"
            ) from None
        file, path = describe(url), cache_path(url)
        self._index = path.with_name(f".{file.version}.gzidx-{path.name}")
        self._packed = open_ranges(url)
        self._file = IndexedGzipFile(fileobj=self._packed, spacing=SPACING, buffer_size=_BUFFER, readbuf_size=_BUFFER)
        if self._index.is_file():
            with suppress(OSError):  # one that is damaged is made anew
                self._file.import_index(str(self._index))
        self._known = self._places()

    def _places(self) -> int:
        return sum(1 for _ in self._file.seek_points())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _telling():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: WriteableBuffer) -> int:
        with _telling():
            return int(self._file.readinto(buffer))

    def close(self) -> None:
        if not self.closed:
            if self._places() > self._known:
                self._keep()
            self._file.close()
            self._packed.close()
        super().close()

    def _keep(self) -> None:
        """Write the index whole or not at all; it is no loss where that cannot be done."""
        temporary = self._index.with_name(f".{secrets.token_hex(4)}-{self._index.name}")
        try:
            self._index.parent.mkdir(parents=True, exist_ok=True)
            self._file.export_index(str(temporary))
            os.replace(temporary, self._index)
        except OSError:
            temporary.unlink(missing_ok=True)
