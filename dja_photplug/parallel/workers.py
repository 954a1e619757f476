"""Work shared out to processes, because sep is not thread-safe."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache, partial
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeVar, TypeVarTuple, cast

import dja_photplug
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.outputs.held import held_folder
from dja_photplug.parallel.scratch import dump_shared, no_space, unseen
from dja_photplug.parallel.starting import METHOD, starting

__all__ = ["LostWork", "Map", "Workers", "count_cores", "map_in_processes", "once", "shared_map", "sharing"]

State = TypeVar("State")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Arguments = TypeVarTuple("Arguments")
Work = TypeVar("Work", bound=Callable[..., object])


def count_cores() -> int:
    """Return how many cores this process may use: all, where the system does not tell which, as macOS does not.

    Returns
    -------
    int
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LostWork(PhotplugError):
    """A process ended in the midst of work that cannot be done again by itself."""


_ONCE: set[Callable[..., object]] = set()


def once(work: Work) -> Work:
    """Mark a function as one that changes what it reads, so that it cannot be done again.

    Parameters
    ----------
    work : callable

    Returns
    -------
    callable
        The same.
    """
    _ONCE.add(work)
    return work


class Map(Protocol):
    """Called as the builtin ``map`` with one sequence: results come in the order of the items."""

    def __call__(self, work: Callable[[Item], Outcome], items: Iterable[Item], /) -> Iterator[Outcome]:
        """Yield ``work(item)`` for each item."""


_sharing: ContextVar[Map] = ContextVar("sharing", default=map)


def shared_map() -> Map:
    """Return who shares the work that is under way; the builtin ``map`` where nobody does, and in a worker.

    Returns
    -------
    Map
    """
    return _sharing.get()


@contextmanager
def sharing(parallel: Map) -> Iterator[Map]:
    """Let :func:`shared_map` give this one within.

    Parameters
    ----------
    parallel : Map

    Yields
    ------
    Map
        The same.
    """
    token = _sharing.set(parallel)
    try:
        yield parallel
    finally:
        with suppress(ValueError):  # of a generator that is closed in another context
            _sharing.reset(token)


class Workers:
    """Processes that do one kind of work after the other, each on many items.

    Parameters
    ----------
    count : int
        Processes; with 1 all is done in this one, and there are none.
    executor : `~concurrent.futures.Executor`, optional
        Whose workers do it instead: of Dask, of a cluster, of the user. They must see `folder`.
    folder : Path, optional
        Of scratch files, for what processes read; one for temporary files by default.
    modules : sequence of str, optional
        Imported by each process as it starts.

    Notes
    -----
    What a kind of work needs is written to a file once, and read by each process once; arrays in scratch files are
    opened there, not copied.
    """

    def __init__(
        self, count: int, *, executor: Executor | None = None, folder: Path | None = None, modules: Sequence[str] = ()
    ) -> None:
        self.count = count
        self._executor = executor
        self._given = folder
        self._modules = tuple(modules)
        self._pool: ProcessPoolExecutor | None = None
        self._folder: Path | None = None
        self._stack = ExitStack()
        self._number = 0
        self._temporary = tempfile.gettempdir()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_pool(now=error is not None)
        self._stack.close()
        self._folder = None

    def begin(self) -> None:
        """Let what the processes need be imported while something else is done."""
        if self.count <= 1 or self._executor is not None:
            return
        pool = self._processes()
        with starting(), suppress(BrokenProcessPool, *_LOST):  # told when there is work
            if METHOD == "forkserver":  # it imports, and copies itself in no time when there is work
                forkserver.ensure_running()
                return
            for _ in range(self.count):
                pool.submit(_idle)

    def map(self, work: Callable[[Item], Outcome], items: Iterable[Item], /) -> Iterator[Outcome]:
        """Yield ``work(item)`` for each item, in order.

        Work that changes what it reads cannot be done again: a `LostWork` says that it must begin anew.

        Parameters
        ----------
        work : callable
            That can be pickled, such as a `functools.partial` of a function of a module. Where a process was killed it
            is done again, but for functions that are marked by :func:`once`.
        items : iterable

        Yields
        ------
        object
            What `work` returns. Its warnings come out in this process.

        Raises
        ------
        PhotplugError
            Where processes end early twice; and what `work` raises.
        """
        items = list(items)
        if self._executor is None and (self.count <= 1 or len(items) <= 1):
            yield from map(work, items)
            return
        try:
            path = self._store(work)
        except (pickle.PicklingError, AttributeError, TypeError):  # of a plugin's functions that are of no module
            yield from map(work, items)
            return
        try:
            for result, messages in self._run(path, items, again=getattr(work, "func", work) not in _ONCE):
                for message in messages:
                    warnings.warn(message, PhotplugWarning, stacklevel=2)
                yield cast(Outcome, result)
        finally:
            path.unlink(missing_ok=True)

    def _run(self, path: Path, items: list[Item], *, again: bool) -> Iterator[tuple[object, list[str]]]:
        """Yield results of items in order; those of processes that were killed are made again, once."""
        waiting: dict[int, Future[tuple[object, list[str]]]] = {}
        first = 0
        for last_time in (False, True):
            try:
                lost = [i for i in range(first, len(items)) if i not in waiting or not _succeeded(waiting[i])]
                waiting |= {i: self._submit(path, items[i]) for i in lost}
                for i in range(first, len(items)):
                    yield waiting.pop(i).result()
                    first = i + 1
                return
            except BrokenProcessPool:
                self._end_pool(now=True)
                if not again:
                    raise LostWork("a process ended while it changed an image; use fewer workers, or 1") from None
                if last_time:
                    raise PhotplugError(
                        f"one of {self.count} processes died twice, perhaps out of memory; use fewer workers, or 1"
                    ) from None
                warnings.warn("a process died; its work is being redone", PhotplugWarning, stacklevel=3)
                time.sleep(_PAUSE)
            except CancelledError:
                raise PhotplugError(
                    "the executor, or the scheduler of its workers, dropped its work; restart it, or continue "
                    "without it"
                ) from None

    def _submit(self, path: Path, item: object) -> Future[tuple[object, list[str]]]:
        if self._executor is not None:
            return self._executor.submit(_do, str(path), item)
        pool = self._processes()
        try:
            with starting():
                return pool.submit(_do, str(path), item)
        except (EOFError, OSError) as error:
            # Its queues are closed where a process was killed while another one was being started.
            if not isinstance(error, _LOST) and not pool._broken:
                raise
            raise BrokenProcessPool(str(error)) from error

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            start = (list(dja_photplug.__path__), self._modules, self._temporary)
            # Fresh processes, or copies of one that has imported all and done nothing: sep and the threads of numpy do
            # not survive a fork in the midst of something.
            context = multiprocessing.get_context(METHOD)
            if METHOD == "forkserver":
                context.set_forkserver_preload(["dja_photplug.parallel.orphans", *self._modules])
            self._pool = ProcessPoolExecutor(self.count, context, _start_process, start)
        return self._pool

    def _end_pool(self, *, now: bool) -> None:
        """End the processes: at once after an error or Ctrl-C, or where nobody takes the other results.

        At once too where one of them was killed: others may end something that is begun again, and one that was being
        started meanwhile is ended by nobody else.
        """
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for process in list((pool._processes or {}).values()) if now else []:  # nothing public names them
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)

    def _store(self, work: object) -> Path:
        """Write what the processes must know to a file."""
        stored, place = dump_shared(work), self._given or Path(tempfile.gettempdir())
        if self._executor is None and b"__main__" in stored:
            raise TypeError("of a script, which processes do not read")
        self._number += 1
        try:
            if self._folder is None:
                self._folder = self._stack.enter_context(held_folder(place))
            path = self._folder / f"{self._number}.work"
            path.write_bytes(stored)
        except OSError as error:
            raise no_space(place.parent if self._given else place, len(stored), error) from None
        return path


# s, until the system knows that a process which was killed is no more, and another is started in its place.
_PAUSE = 0.2
# What is raised where the process ended that copies itself for others.
_LOST = (EOFError, ConnectionError, BrokenPipeError)


def _succeeded(future: Future[tuple[object, list[str]]]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def map_in_processes(
    work: Callable[[State, Item], Outcome],
    items: Sequence[Item],
    workers: int,
    start: Callable[[*Arguments], State],
    *arguments: *Arguments,
) -> Iterator[Outcome]:
    """Yield ``work(state, item)`` for each item in order, where each process has a state of its own.

    Parameters
    ----------
    work : callable
        Of a module, because processes import it.
    items : sequence
    workers : int
        Processes; with 1 all is done in this one, and there are never more than items.
    start : callable
        ``start(*arguments) -> state``, once in each process, before its first item.
    *arguments
        Sent to each process once.

    Yields
    ------
    object
        What `work` returns, one for each item.

    Raises
    ------
    PhotplugError
        Where processes end early twice; and what `start` and `work` raise. Their warnings come out in this process.
    """
    # The process that copies itself imports what they work with, so that not each of them does.
    with Workers(min(workers, len(items)), modules=(work.__module__,)) as processes:
        yield from processes.map(_Stateful(work, partial(start, *arguments)), items)


class _Stateful(Generic[State, Item, Outcome]):
    """Work with a state, which is made before the first item."""

    def __init__(self, work: Callable[[State, Item], Outcome], start: Callable[[], State]) -> None:
        self.work, self.start = work, start
        self.state: State | None = None
        self.started = False

    def __call__(self, item: Item) -> Outcome:
        """Return the result for an item."""
        if not self.started:
            self.state, self.started = self.start(), True
        return self.work(cast(State, self.state), item)


def _start_process(path: list[str], modules: tuple[str, ...], temporary: str) -> None:
    """Begin a process: where the package is (a bare checkout adds to its path), and what it will need."""
    tempfile.tempdir = temporary  # else it is tried by a file, which is left where the process is ended meanwhile
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    dja_photplug.__path__ = path
    threading.Thread(target=_follow_parent, daemon=True).start()
    for module in modules:
        import_module(module)
    from tqdm import tqdm

    # Bars are not shown here. Their lock of several processes would be told as leaked where this one is killed.
    tqdm.set_lock(threading.RLock())


def _follow_parent() -> None:
    """End this process when its parent has, by whatever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _idle() -> None:
    """Do nothing, in a process that starts for it."""


@lru_cache(maxsize=1)
def _read(path: str) -> Callable[[object], object]:
    """Return the work of a file: the last one stays, with its state."""
    try:
        stored = Path(path).read_bytes()
    except OSError as error:
        raise unseen(path, error) from None
    return cast(Callable[[object], object], pickle.loads(stored))


_ALONE = threading.Lock()  # sep is not thread-safe, and workers of somebody else may have threads


def _do(path: str, item: object) -> tuple[object, list[str]]:
    """Return the result for an item, and the warnings on the way."""
    with _ALONE, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PhotplugWarning)
        result = _read(path)(item)
    return result, [str(warning.message) for warning in caught]
