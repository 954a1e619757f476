"""Temporary folders that end with the run that made them, and are known to be nobody's once it was killed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody's folders are left, because they cannot be told from somebody's
    fcntl = None  # type: ignore[assignment]

__all__ = ["ENDING", "PREFIX", "HeldFolder", "held_folder", "hold_signals", "sweep"]

PREFIX = "dja-photplug-"
"""How the names of all temporary folders begin, behind a dot where they are beside outputs."""
LOCK = "lock"
ENDING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Signals that end a run, which tidies up before it does."""


@contextmanager
def hold_signals() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait until something short is done, such as renaming files.

    By handlers and not by a mask, which processes that are started meanwhile would inherit.

    Yields
    ------
    None
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = {each: signal.getsignal(each) for each in ENDING}
    held = {each: handler for each, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for each in held:
        signal.signal(each, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        for each, handler in held.items():
            signal.signal(each, handler)
        for number in caught[:1]:
            signal.raise_signal(number)


def _lock(path: Path, flags: int) -> int | None:
    """Return a descriptor of a lock that nobody else holds; the system lets go of it when the process ends."""
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # else it was removed while it was opened
            return descriptor
    except OSError:  # somebody's; or a file system without locks
        pass
    os.close(descriptor)
    return None


class HeldFolder:
    """A new folder with a lock in it.

    Parameters
    ----------
    place : Path
        Where it is made.
    prefix : str, optional
        Of its name.

    Raises
    ------
    OSError
        Where it cannot be made.
    """

    def __init__(self, place: Path, prefix: str = PREFIX) -> None:
        self._lock: int | None = None
        while True:
            self.path = place / f"{prefix}{secrets.token_hex(4)}"
            with suppress(FileExistsError):  # another's
                self.path.mkdir(mode=0o700)
                with suppress(FileNotFoundError):  # it was swept before it was locked
                    self._lock = _lock(self.path / LOCK, os.O_CREAT)
                    return

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.leave()

    def leave(self) -> None:
        """Let the next run have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def held_folder(place: Path, prefix: str = PREFIX) -> Iterator[Path]:
    """Make a folder that is removed at the end, and remove those of runs that were killed.

    Parameters
    ----------
    place : Path
        Where it is made.
    prefix : str, optional
        Of its name.

    Yields
    ------
    Path
        It holds a lock, and else nothing.

    Raises
    ------
    OSError
        Where it cannot be made.
    """
    sweep(place, prefix)
    folder = HeldFolder(place, prefix)
    try:
        yield folder.path
    finally:
        with hold_signals():
            folder.remove()


def sweep(place: Path, prefix: str = PREFIX, mend: Callable[[Path], None] | None = None) -> None:
    """Remove the folders of runs that have ended without doing so: killed, or by a loss of power.

    Parameters
    ----------
    place : Path
        Where they were made; it need not be there.
    prefix : str, optional
        Of their names.
    mend : callable, optional
        Called with each before it is removed.
    """
    try:
        names = [name for name in os.listdir(place) if name.startswith(prefix)]
    except OSError:
        return
    for path in (place / name for name in names):
        with suppress(OSError):
            if not path.is_symlink() and path.is_dir() and path.stat().st_uid == _user():
                _sweep_one(path, mend)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _sweep_one(path: Path, mend: Callable[[Path], None] | None) -> None:
    if not (path / LOCK).exists():
        path.rmdir()  # only where it is empty: of a run that was killed before it could lock it
        return
    lock = _lock(path / LOCK, 0)
    if lock is None:
        return
    try:
        if mend is not None:
            mend(path)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
