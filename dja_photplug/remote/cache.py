"""Whole files from servers: side by side, going on where they broke off, checked before they have their names."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Event
from typing import BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from dja_photplug.errors import PhotplugError
from dja_photplug.remote.paths import RemotePath
from dja_photplug.remote.transport import (
    SIDE_BY_SIDE,
    TRIES,
    NoRanges,
    RemoteFile,
    check_same,
    describe,
    describe_all,
    read_bytes,
)

__all__ = [
    "CACHE_VARIABLE",
    "Check",
    "cache_folder",
    "cache_path",
    "cached_copy",
    "download",
    "local_copies",
    "show_transfers",
]

CACHE_VARIABLE = "DJA_PHOTPLUG_CACHE"
WAIT = 0.1  # seconds between looks at a lock

Check = Callable[[Path], None]
"""Raises PhotplugError where a file is not whole."""


_progress: ContextVar[bool] = ContextVar("progress", default=False)


class _Stopped(Exception):
    """Another transfer failed, or the user gave up."""


@contextmanager
def show_transfers(*, show: bool) -> Iterator[None]:
    """Show a bar over what is copied into the cache.

    Parameters
    ----------
    show : bool
        Where stderr is a terminal.

    Yields
    ------
    None
    """
    token = _progress.set(show)
    try:
        yield
    finally:
        _progress.reset(token)


def cache_folder() -> Path:
    """Return the folder of copies: ``DJA_PHOTPLUG_CACHE``, by default ``dja_photplug`` in the user's cache.

    Returns
    -------
    Path
    """
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dja_photplug"


def cache_path(url: str) -> Path:
    """Return where a copy of a file on a server is kept.

    Parameters
    ----------
    url : str

    Returns
    -------
    Path
    """
    parts = urlsplit(url)
    return cache_folder().joinpath(parts.netloc.replace(":", "_"), *parts.path.strip("/").split("/"))


def local_copies(paths: Sequence[Path], check: Check) -> list[Path]:
    """Return paths on disk of files, some of which may be on a server: copies in the cache, made where need be.

    Parameters
    ----------
    paths : sequence of Path
    check : callable
        ``check(path)`` raises where a copy is not whole.

    Returns
    -------
    list of Path

    Raises
    ------
    PhotplugError
        As :func:`download`.
    """
    remote = [path for path in paths if isinstance(path, RemotePath)]
    copies: dict[Path, Path] = {path: cache_path(str(path)) for path in remote}
    for copy in copies.values():
        _make_folder(copy.parent)
    download({str(path): copy for path, copy in copies.items()}, check, overwrite=True, progress=_progress.get())
    return [copies.get(path, path) for path in paths]


def cached_copy(path: Path) -> Path:
    """Return the copy of a file on a server where there is one, otherwise its path.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Path

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.remote.transport.describe`.
    """
    if not isinstance(path, RemotePath):
        return path
    copy = cache_path(str(path))
    return copy if copy.exists() and _is_current(copy, describe(str(path))) else path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhotplugError(
            f"cannot create the cache folder {folder} ({error.strerror}); set {CACHE_VARIABLE} to another folder"
        ) from None


def download(
    wanted: Mapping[str, Path], check: Check, *, overwrite: bool = False, progress: bool = False
) -> list[Path]:
    """Fetch files from servers, side by side; each appears whole and checked, or not at all.

    What a broken transfer has had is kept beside, hidden, and the next one goes on from there. A file that is there
    with its size, and not older than the server's, is not fetched again. Two processes may fetch the same file.

    Parameters
    ----------
    wanted : mapping of str to Path
        Where each URL goes, in folders that are there.
    check : callable
        ``check(path)`` raises where a file is not whole.
    overwrite : bool, optional
        Replace older files.
    progress : bool, optional
        Show a bar where stderr is a terminal.

    Returns
    -------
    list of Path
        The files that were fetched; the others are there already.

    Raises
    ------
    PhotplugError
        Where a server does not have a file or cannot be reached, what comes is not whole, or an older file is there.
    """
    if not wanted:
        return []
    found = describe_all(list(wanted))
    files = {path: file or describe(url) for (url, path), file in zip(wanted.items(), found, strict=True)}
    jobs = {path: file for path, file in files.items() if not _is_current(path, file)}
    for path, file in jobs.items():
        if path.exists() and not overwrite:
            raise PhotplugError(f"{path}: is not the file at {file.url}; name another folder or add --overwrite")
    if not jobs:
        return []
    stopping = Event()
    bar = tqdm(
        total=sum(file.size for file in jobs.values()),
        desc="fetching",
        unit="B",
        unit_scale=True,
        delay=1,
        disable=None if progress else True,
    )
    with bar, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        running = [pool.submit(_fetch, file, path, check, bar, stopping) for path, file in jobs.items()]
        try:
            fetched = [done.result() for done in as_completed(running)]
        except BaseException:
            stopping.set()
            raise
    return [path for path in fetched if path is not None]


def _is_current(path: Path, file: RemoteFile) -> bool:
    """Return whether a file on disk may be that of the server."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_size == file.size and status.st_mtime >= int(file.changed)


def _fetch(file: RemoteFile, path: Path, check: Check, bar: tqdm, stopping: Event) -> Path | None:
    """Fetch one file, and return its path; None where another process did."""
    ending = f".part-{path.name}"  # its suffixes tell what is in it
    part = path.with_name(f".{file.version}{ending}")
    try:
        with _locked(part, stopping) as stream:
            if _is_current(path, file):
                part.unlink()
                return None
            _complete(file, part, stream, check, bar, stopping)
            if file.changed:
                os.utime(part, (file.changed, file.changed))
            os.replace(part, path)
        for other in path.parent.iterdir():  # of versions that the server has no more
            if other.name.startswith(".") and other.name.endswith(ending) and other != part:
                other.unlink(missing_ok=True)
        return path
    except OSError as error:
        raise PhotplugError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and free space"
        ) from None


@contextmanager
def _locked(part: Path, stopping: Event) -> Iterator[BinaryIO]:
    """Yield a file that no other process has, which is the one of that name."""
    while True:
        with part.open("a+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if stopping.wait(WAIT):
                    raise _Stopped from None
                continue
            try:
                mine = os.path.samestat(os.fstat(stream.fileno()), part.stat())
            except FileNotFoundError:  # who had it before has finished
                mine = False
            if mine:
                yield stream
                return


def _complete(file: RemoteFile, part: Path, stream: BinaryIO, check: Check, bar: tqdm, stopping: Event) -> None:
    """Write what is missing of a file, and check it; what does not pass is fetched once more from its beginning."""

    def take(piece: bytes) -> None:
        if stopping.is_set():
            raise _Stopped
        stream.write(piece)
        bar.update(len(piece))

    had = stream.seek(0, os.SEEK_END)
    if had > file.size:
        had = stream.truncate(0)
    bar.update(had)
    for again in range(TRIES):
        try:
            read_bytes(file, stream.seek(0, os.SEEK_END), file.size, take)
            break
        except NoRanges:  # what is there does not help then
            bar.update(-stream.tell())
            had = stream.truncate(0)
            if again == TRIES - 1:
                raise PhotplugError(f"{file.url}: the connection failed {TRIES} times; try again later") from None
    stream.flush()
    check_same(file)
    try:
        check(part)
    except PhotplugError as error:
        stream.truncate(0)
        if had:  # it may be what was there before
            bar.update(-file.size)
            _complete(file, part, stream, check, bar, stopping)
            return
        part.unlink()
        reason = str(error).partition(": ")[2]
        raise PhotplugError(f"{file.url}: incomplete download: {reason}") from None
