"""What is asked of servers: whether a file is there, its size, its bytes; tried again with patience.

fsspec does the transport. This module has what that lacks: transfers that go on where they broke off, patience, and
refusal in one line of what is no answer.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from dja_photplug.errors import PhotplugError
from dja_photplug.remote.addresses import is_loopback

if TYPE_CHECKING:
    import asyncio  # 25 ms to import
    from datetime import datetime

__all__ = [
    "NoRanges",
    "NotThere",
    "RemoteFile",
    "bytes_moved",
    "check_same",
    "describe",
    "describe_all",
    "list_names",
    "read_bytes",
]

TRIES, TRIES_TO_CONNECT = 6, 3
WAIT = 0.5  # seconds before the second try, twice as many before each one after it
SILENCE = 30.0  # seconds without a byte after which a connection is given up
SIDE_BY_SIDE = 8
PIECE = 1 << 23  # bytes that are asked of S3 at once
# S3 says 403 of what is not there, to those who may not list a bucket.
_ABSENT, _BUSY = (403, 404, 410), (408, 425, 429, 500, 502, 503, 504)
_INDEXES = ("index.csv", "index.html", "")
_FILE = re.compile(r"[\w.+-]+\.(?:fits(?:\.gz)?|csv)")

_LIBRARIES = ("aiohttp", "aiobotocore", "asyncio", "botocore", "fsspec", "urllib3")

Answer = TypeVar("Answer")
Sink = Callable[[bytes], None]
"""Takes the bytes of a file, in order."""


class NotThere(PhotplugError):
    """The server has no such file."""


class NoRanges(PhotplugError):
    """The server gives only whole files."""


class _Refused(Exception):
    """An answer that another try would not change."""


class _NotTaken(Exception):
    """Who takes the bytes cannot."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a server.

    Attributes
    ----------
    url : str
    size : int
        Bytes.
    tag : str
        The server's name for these bytes (ETag), empty where it has none.
    changed : float
        Unix time of the last change, 0 where it is not known.
    """

    url: str
    size: int
    tag: str
    changed: float

    @property
    def version(self) -> str:
        """A short name of these bytes; others at the same URL have another."""
        return hashlib.sha256(f"{self.size} {self.tag} {self.changed}".encode()).hexdigest()[:8]


class _Files(Protocol):
    """What is used of a file system of fsspec."""

    loop: asyncio.AbstractEventLoop

    async def set_session(self) -> Any: ...
    def info(self, path: str) -> dict[str, Any]: ...
    def ls(self, path: str, detail: bool = ...) -> list[str]: ...
    def cat_file(self, path: str, start: int | None = ..., end: int | None = ...) -> bytes: ...


class _Meter:
    """Counts the bytes that came."""

    total, _lock = 0, Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.total += count


_METER = _Meter()


def bytes_moved() -> int:
    """Return how many bytes of files this process has had from servers so far.

    Returns
    -------
    int
    """
    return _METER.total


@lru_cache(maxsize=4096)
def describe(url: str) -> RemoteFile:
    """Return size and version of a file, which is asked for once.

    Parameters
    ----------
    url : str

    Returns
    -------
    RemoteFile

    Raises
    ------
    NotThere
        Where the server has no such file.
    PhotplugError
        Where it cannot be reached, or its answer is none.
    """
    files = _filesystem(url)
    info = _persist(url, lambda: files.info(url))
    _check_place(url, str(info.get("url", url)))
    if info.get("size") is None or info.get("type", "file") != "file":
        raise PhotplugError(f"{url}: the server does not say how many bytes the file has; fetch it by other means")
    changed = info.get("LastModified") or info.get("Last-Modified")
    return RemoteFile(url, int(info["size"]), str(info.get("ETag", "")), _as_time(changed))


def check_same(file: RemoteFile) -> None:
    """Refuse a file that is another one by now.

    Parameters
    ----------
    file : RemoteFile

    Raises
    ------
    PhotplugError
        Also where the server cannot be asked.
    """
    describe.cache_clear()
    if describe(file.url) != file:
        raise PhotplugError(f"{file.url}: the file changed while it was being read; try again")


def _as_time(changed: datetime | str | None) -> float:
    try:
        moment = parsedate_to_datetime(changed) if isinstance(changed, str) else changed
        return moment.timestamp() if moment else 0.0
    except ValueError:
        return 0.0


def describe_all(urls: list[str]) -> list[RemoteFile | None]:
    """Return size and version of files, asked for side by side.

    Parameters
    ----------
    urls : list of str

    Returns
    -------
    list of RemoteFile or None
        None for those that are not there.

    Raises
    ------
    PhotplugError
        As :func:`describe`.
    """

    def look(url: str) -> RemoteFile | None:
        try:
            return describe(url)
        except NotThere:
            return None

    if len(urls) == 1:
        return [look(urls[0])]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(look, urls))


def list_names(folder: str) -> Iterable[str]:
    """Return the names of FITS and CSV files in a folder, by the server's index of it.

    Parameters
    ----------
    folder : str
        URL.

    Returns
    -------
    iterable of str

    Raises
    ------
    OSError
        Where there is none.
    PhotplugError
        Where the server cannot be reached.
    """
    files = _filesystem(folder)
    try:
        if urlsplit(folder).scheme == "s3":
            found = _persist(folder, lambda: files.ls(folder, detail=False))
            return [name.rpartition("/")[2] for name in found]
        for index in _INDEXES:
            try:
                text = _persist(folder, partial(files.cat_file, f"{folder}/{index}"))
            except NotThere:
                continue
            _METER.add(len(text))
            return dict.fromkeys(_FILE.findall(text.decode("utf-8", "replace")))
    except NotThere:
        pass
    raise FileNotFoundError(2, "the server has no index of it", folder)


def read_bytes(file: RemoteFile, start: int, stop: int, take: Sink) -> None:
    """Read a part of a file; where a transfer breaks off it goes on from there.

    Parameters
    ----------
    file : RemoteFile
    start, stop : int
        First byte, and the one after the last.
    take : callable
        Takes them in order, in pieces.

    Raises
    ------
    NoRanges
        Where the server gives only whole files, and a part was asked for.
    PhotplugError
        Where it cannot be reached, gives up, or has another file by now.
    OSError
        What `take` raises.
    """
    at = start

    def take_piece(piece: bytes) -> None:
        nonlocal at
        if at + len(piece) > stop:
            raise _Refused("it sends more bytes than it was asked for")
        try:
            take(piece)
        except OSError as error:  # such as a full disk, which is no failure of the server
            raise _NotTaken(error) from None
        at += len(piece)
        _METER.add(len(piece))

    def go_on() -> None:
        if at == stop:  # all had come when it broke off
            return
        _pour(file, at, stop, take_piece)
        if at < stop:
            raise ConnectionError("the connection ends too early")

    before = at

    def has_moved() -> bool:
        nonlocal before
        moved, before = at > before, at
        return moved

    if start < stop:
        try:
            _persist(file.url, go_on, has_moved)
        except _NotTaken as error:
            raise error.args[0] from None


def _pour(file: RemoteFile, start: int, stop: int, take: Sink) -> None:
    """Read a part of a file once, as far as it comes."""
    files = _filesystem(file.url)
    if urlsplit(file.url).scheme == "s3":
        for first in range(start, stop, PIECE):
            last = min(first + PIECE, stop)
            piece = files.cat_file(file.url, start=first, end=last)
            take(piece)
            if len(piece) < last - first:
                return
        return
    from fsspec.asyn import sync

    sync(files.loop, _get, files, file, start, stop, take)


async def _get(files: _Files, file: RemoteFile, start: int, stop: int, take: Sink) -> None:
    """Read a part of a file by HTTP; a server that does not know ranges may still give the whole."""
    headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    if file.tag and not file.tag.startswith("W/"):
        headers["If-Match"] = file.tag
    session = await files.set_session()
    async with session.get(file.url, headers=headers) as answer:
        _check_place(file.url, str(answer.url))
        if answer.status in (412, 416):
            describe.cache_clear()
            raise _Refused("the file changed while it was being read")
        answer.raise_for_status()
        whole = start == 0 and stop == file.size and answer.status == 200
        if not whole and answer.status != 206:
            raise NoRanges(f"{file.url}: the server gives no parts of files; fetch it whole (dja-photplug fetch)")
        given = answer.headers.get("Content-Range", "")
        if not whole and not re.fullmatch(rf"bytes {start}-\d+/({file.size}|\*)", given):
            raise _Refused(f"it was asked for bytes {start}-{stop - 1} of {file.size} and gives {given or 'others'}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise _Refused("it sends the file packed in another way")
        async for piece in answer.content.iter_chunked(1 << 18):
            take(piece)


def _check_place(url: str, found: str) -> None:
    """Refuse what a URL was redirected to where that is not as safe."""
    if urlsplit(found).scheme == "http" and not is_loopback(found):
        raise PhotplugError(f"{url}: redirects to {found}, which is not encrypted; refused")


def _filesystem(url: str) -> _Files:
    """Return fsspec's file system of a URL; it keeps one for each process."""
    try:
        import fsspec

        if urlsplit(url).scheme == "s3":
            import s3fs  # noqa: F401

            # Public buckets need nobody's name; who has one says so in fsspec's configuration.
            patience = {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": SILENCE}}
            options = {"anon": True, **patience, **fsspec.config.conf.get("s3", {})}
            bucket = fsspec.filesystem("s3", **options, use_listings_cache=False)
            bucket.retries = 1  # tried again here, where it is told what is the matter
            found: _Files = bucket
            return found
        import aiohttp
    except ImportError as error:
        raise PhotplugError(
            f"{url}: files on a server need the extra 'remote' ({error.name} is missing); install it with pip install "
            "'dja_photplug[remote]'"
        ) from None
    client = {
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE),
        "trust_env": not is_loopback(url),  # proxies
    }
    web: _Files = fsspec.filesystem(urlsplit(url).scheme, client_kwargs=client, use_listings_cache=False)
    return web


def _persist(url: str, ask: Callable[[], Answer], has_moved: Callable[[], bool] = lambda: False) -> Answer:
    """Return an answer, asking again after failures that pass; those after some progress do not count."""
    tries = 0
    while True:
        try:
            return ask()
        except _Refused as error:
            raise PhotplugError(f"{url}: {error}; try again later, or fetch it by other means") from None
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in _LIBRARIES:
                raise
            # fsspec says of most failures that a file is not found, and of what in the cause.
            cause = error.__cause__ or error if type(error) in (FileNotFoundError, PermissionError, OSError) else error
            _give_up(url, error, cause)
            tries = 1 if has_moved() else tries + 1
            if tries == (TRIES_TO_CONNECT if re.search("Connector|EndpointConn", type(cause).__name__) else TRIES):
                raise PhotplugError(f"{url}: {_explain(url, cause)}") from None
        time.sleep(WAIT * 2 ** (tries - 1))


def _status(cause: BaseException) -> int:
    """Return the HTTP status that an exception of aiohttp or botocore tells, 0 for none."""
    answer = getattr(cause, "response", None)
    told = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if isinstance(answer, dict) else 0
    return int(getattr(cause, "status", told) or 0)


def _give_up(url: str, error: Exception, cause: BaseException) -> None:
    """Raise what another try would not change."""
    status = _status(cause)
    if status in _ABSENT or (not status and cause is error and isinstance(error, FileNotFoundError | PermissionError)):
        raise NotThere(f"{url}: the server has no such file") from None
    if "NonHttp" in type(cause).__name__ or isinstance(cause, ValueError):
        raise PhotplugError(f"{url}: redirects to {cause}, which is not a web address; refused") from None
    if status and status not in _BUSY:
        raise PhotplugError(f"{url}: the server answers {status}; check the address") from None


def _explain(url: str, cause: BaseException) -> str:
    """Return what keeps a server from answering, and what to do."""
    host, status = urlsplit(url).netloc, _status(cause)
    reason = " ".join(str(cause).split()) or type(cause).__name__
    system = getattr(cause, "os_error", cause)  # what aiohttp was told
    if isinstance(system, OSError) and system.errno:
        reason = os.strerror(system.errno) if system.errno > 0 else system.strerror or reason
    if status:
        return f"{host} answers {status}, also after {TRIES} tries; try again later"
    if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
        return f"{host} has sent nothing for {SILENCE:g} s, {TRIES} times; try again later"
    if "Payload" in type(cause).__name__ or "ends too early" in reason:
        return f"the connection to {host} failed {TRIES} times; try again later"
    if "Proxy" in type(cause).__name__:
        proxy = f"{getattr(cause, 'host', '')}:{getattr(cause, 'port', '')}"
        return f"{host} cannot be reached through the proxy {proxy} ({reason}); check HTTPS_PROXY"
    return f"{host} cannot be reached ({reason}); check the network, and whether it takes a proxy (HTTPS_PROXY)"
