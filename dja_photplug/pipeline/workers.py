"""Work shared out to processes, because sep is not thread-safe."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Generic, TypeVar, TypeVarTuple, cast

import dja_photplug
from dja_photplug.errors import PhotplugError, PhotplugWarning

__all__ = ["map_in_processes"]

State = TypeVar("State")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Arguments = TypeVarTuple("Arguments")


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
        Where a process ends early; and what `start` and `work` raise. Their warnings come out in this process.
    """
    workers = min(workers, len(items))
    if not items:
        return
    if workers <= 1:
        state = start(*arguments)
        yield from (work(state, item) for item in items)
        return
    # Fresh processes: sep and the threads of numpy do not survive a fork in the middle of something.
    context = multiprocessing.get_context("spawn")
    path = list(dja_photplug.__path__)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start_process, (path, _Process(work, partial(start, *arguments))))
    try:
        for result, messages in pool.map(_work, items):
            for message in messages:
                warnings.warn(message, PhotplugWarning, stacklevel=2)
            yield cast(Outcome, result)
    except BrokenProcessPool:
        raise PhotplugError(
            f"one of {workers} processes ended: memory may be short, or a script lacks "
            "`if __name__ == '__main__':`; use fewer workers, or 1"
        ) from None
    except BaseException:  # an error, Ctrl-C, or nobody takes the other results: do not wait for them
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Process(Generic[State, Item, Outcome]):
    """What a process does, and its state once it has one."""

    def __init__(self, work: Callable[[State, Item], Outcome], start: Callable[[], State]) -> None:
        self.work, self.start = work, start
        self.state: State | None = None
        self.started = False

    def do(self, item: Item) -> Outcome:
        """Return the result for an item."""
        if not self.started:
            self.state, self.started = self.start(), True
        return self.work(cast(State, self.state), item)


_here: list[_Process] = []  # of a process that _start_process began, one


def _start_process(path: list[str], process: _Process) -> None:
    """Begin a process: where the package is (a bare checkout adds to its path), and what to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    dja_photplug.__path__ = path
    _here.append(process)


def _work(item: object) -> tuple[object, list[str]]:
    """Return the result for an item, and the warnings on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PhotplugWarning)
        result = _here[0].do(item)
    return result, [str(warning.message) for warning in caught]
