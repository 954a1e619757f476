"""Run commands, and watch what they cost: time, CPU and peak memory of all their processes together."""

from __future__ import annotations

import mmap
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from dja_photplug.errors import PhotplugError

__all__ = ["INTERVAL", "Cost", "run_watched", "tree_memory", "warm_memory"]

INTERVAL = 0.05  # seconds between samples
SHARE = 0.05  # of one core, at most, for looking: to sum the pages of some GB takes the kernel 5 to 20 ms

KINDS = {"Pss": "pss", "Pss_Anon": "anonymous", "Pss_Shmem": "shared"}


@dataclass(slots=True)
class Cost:
    """What commands took.

    Attributes
    ----------
    seconds : float
        From the start of the first to the end of the last.
    cpu : float
        User and system time of all processes, s. Of those that nobody waits for, as for a fork server's, it is that at
        the last look.
    memory : dict of str to int
        Peaks of the sum over all processes, bytes: ``pss`` (pages shared with others count in parts), ``anonymous``
        (without what is in the page cache) and ``shared`` (shared memory, of files in memory too). Empty where the
        system has no ``/proc/PID/smaps_rollup``.
    printed : str
        What the commands printed.
    left : int
        Processes that were still there a second after the last command's end.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)
    printed: str = ""
    left: int = 0


def warm_memory(size: int) -> None:
    """Write to memory once and give it back, so that what is run next gets pages that are there.

    A virtual machine returns what is free to its host, and the first touch of a page that the host must find again
    takes ten times as long as one of its own: 2 s a GB where these benchmarks were written. Otherwise a case would pay
    for the pause before it.

    Parameters
    ----------
    size : int
        Bytes, of which at most half of what is free is written.
    """
    size = min(size, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        piece = bytes(1 << 20)
        for start in range(0, size - len(piece), len(piece)):
            pages[start : start + len(piece)] = piece


def run_watched(commands: Sequence[Sequence[str]], parallel: int = 1) -> Cost:
    """Run commands, and watch them.

    Parameters
    ----------
    commands : sequence of commands, each a sequence of words
    parallel : int, optional
        How many at a time.

    Returns
    -------
    Cost

    Raises
    ------
    PhotplugError
        When one fails; the last line that it wrote to stderr is in the message.
    """
    cost, processes, lock = Cost(), list[subprocess.Popen[bytes]](), threading.Lock()
    ended, seen = threading.Event(), dict[int, float]()

    def run(command: Sequence[str]) -> None:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            # A session of its own, by which what it leaves behind is found.
            process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
            with lock:
                processes.append(process)
            # Of the process and of all descendants that were waited for.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            with lock:
                cost.cpu += usage.ru_utime + usage.ru_stime
                cost.printed += _read(out)
            if process.returncode:
                last = (_read(err).strip() or "nothing on stderr").splitlines()[-1]
                raise PhotplugError(f"{' '.join(command)}: ended with status {process.returncode}: {last}")

    watcher = threading.Thread(target=_watch, args=(cost, processes, seen, ended), daemon=True)
    start = time.perf_counter()
    watcher.start()
    try:
        with ThreadPoolExecutor(parallel) as pool:
            try:
                list(pool.map(run, commands))
            except BaseException:  # one has failed, or the user has enough: the pool would wait for the others
                pool.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    if process.returncode is None:
                        with suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGTERM)
                raise
    finally:
        cost.seconds = time.perf_counter() - start
        ended.set()
        watcher.join()
    cost.cpu = max(cost.cpu, sum(seen.values()))
    cost.left = _count_left({process.pid for process in processes})
    return cost


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _watch(
    cost: Cost, processes: Sequence[subprocess.Popen[bytes]], seen: dict[int, float], ended: threading.Event
) -> None:
    """Keep the peaks of memory, and the time that each process had taken when it was last there."""
    pause = INTERVAL
    while not ended.wait(pause):
        start = time.perf_counter()
        roots = [process.pid for process in processes if process.returncode is None]
        for kind, size in tree_memory(roots).items():
            cost.memory[kind] = max(cost.memory.get(kind, 0), size)
        seen.update((process, spent) for process in _walk(roots) if (spent := _find_time(process)))
        pause = max(INTERVAL, (time.perf_counter() - start) / SHARE)


def tree_memory(roots: Iterable[int]) -> dict[str, int]:
    """Return the memory of processes and their descendants.

    Parameters
    ----------
    roots : iterable of int
        Their ids.

    Returns
    -------
    dict of str to int
        Bytes, as in `Cost.memory`.
    """
    total: dict[str, int] = {}
    for process in _walk(roots):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:  # it has just ended, or the system has none
            continue
        for name, size in re.findall(r"(?m)^(\w+): +(\d+) kB$", text):
            if name in KINDS:
                total[KINDS[name]] = total.get(KINDS[name], 0) + int(size) * 1024
    return total


def _walk(roots: Iterable[int]) -> Iterator[int]:
    """Yield the ids of processes and of all their descendants."""
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        yield process
        try:
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue


def _find_time(process: int) -> float:
    """Return the user and system time of a process alone, s; 0 where it has ended."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _count_left(sessions: set[int]) -> int:
    """Return how many processes of ended commands live on, once they had a second to end."""
    left = 0
    for _ in range(10):
        left = sum(1 for _ in _find_sessions(sessions))
        if not left:
            break
        time.sleep(0.1)
    return left


def _find_sessions(sessions: set[int]) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat") if Path("/proc").is_dir() else ():
        try:
            # After the name, which may hold anything: state, parent, group, session.
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) in sessions and state != "Z":
            yield int(path.parent.name)
