"""How processes start: without the script of the user, and so that none is left, nor tells of Ctrl-C."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType

from dja_photplug.errors import PhotplugError
from dja_photplug.lazy import HUGE_PAGES
from dja_photplug.outputs.held import HeldFolder, hold_signals, sweep
from dja_photplug.parallel.orphans import PARENT_VARIABLE

__all__ = ["METHOD", "starting"]

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

# Characters of a folder for sockets, whose whole names have 107 at most.
_SOCKET = 50
# Threads of linear algebra in a process, one where nobody says it: those of OpenBLAS keep cores busy as they wait.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Of this process, by its number: copies of it have their own.
_sockets: dict[int, HeldFolder] = {}


@contextmanager
def starting() -> Iterator[None]:
    """Let processes start: whole, so that there is none of which nobody knows, and without the script of the user.

    They would run it anew, and without its guard it would start others in turn.

    Yields
    ------
    None

    Raises
    ------
    PhotplugError
        Where the working directory is no more.
    """
    script = sys.modules["__main__"]
    try:
        Path.cwd()
    except FileNotFoundError:  # processes begin there
        raise PhotplugError(
            "the working directory no longer exists; change to another one, or use one worker"
        ) from None
    theirs = dict.fromkeys(() if any(map(os.getenv, _THREADS)) else _THREADS, "1")
    theirs |= {} if HUGE_PAGES in os.environ else {HUGE_PAGES: "0"}
    theirs[PARENT_VARIABLE] = str(os.getpid())
    with hold_signals(), _holding_sockets(), _holding_ctrl_c():
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ.update(theirs)
        try:
            yield
        finally:
            sys.modules["__main__"] = script
            for name in theirs:
                os.environ.pop(name, None)


@contextmanager
def _holding_sockets() -> Iterator[None]:
    """Let the folder of the socket by which processes are asked for end with this process, also where it is killed.

    It is a temporary folder, and is made when the first process starts.
    """
    if METHOD != "forkserver":
        yield
        return
    temporary = tempfile.gettempdir()
    place = Path(temporary if len(temporary) < _SOCKET else "/tmp")
    if os.getpid() not in _sockets:
        sweep(place)
        folder = _sockets[os.getpid()] = HeldFolder(place)
        # After multiprocessing has removed its own folder in it, whose priority is -100. This is not documented; atexit
        # is, but may come before that, which then fails. Tests see where the folder is left, or anything is said.
        multiprocessing.util.Finalize(None, folder.remove, exitpriority=-101)
    before, tempfile.tempdir = tempfile.tempdir, str(_sockets[os.getpid()].path)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _holding_ctrl_c() -> Iterator[None]:
    """Let the process that copies itself begin with Ctrl-C blocked, which reaches all processes of a terminal.

    It would tell of it by a traceback, until it has imported what lets it ignore that.
    """
    if METHOD != "forkserver":
        yield
        return
    resource_tracker.ensure_running()  # which, as it starts, lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
