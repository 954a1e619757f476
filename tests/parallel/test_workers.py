"""Work in processes: order, warnings, errors, and processes that end early or are told to."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.lazy import HUGE_PAGES
from dja_photplug.outputs.held import sweep
from dja_photplug.parallel.scratch import new_plane, open_scratch
from dja_photplug.parallel.workers import LostWork, Workers, count_cores, map_in_processes, once


def begin(folder: Path, *words: str) -> list[str]:
    """Leave a file for each start, and warn."""
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    warnings.warn("a start", PhotplugWarning, stacklevel=1)
    return [*words, str(os.getpid())]


def work(state: list[str], item: float) -> tuple[float, str]:
    """Take a while, the first longest, and warn."""
    time.sleep(item)
    warnings.warn("not ours", UserWarning, stacklevel=1)
    warnings.warn(f"slept for {item}", PhotplugWarning, stacklevel=1)
    return item, "-".join([*state[:-1], str(state[-1] == str(os.getpid()))])


def fail(state: object, item: int) -> int:
    if item == 1:
        raise PhotplugError("item 1 is bad; give another")
    return item


def end(state: object, item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nothing() -> None:
    """Have no state."""


def test_order_state_and_warnings_of_processes(tmp_path):
    """Results in the order of the items, one start in each process, and only our warnings come out in this one."""
    items = [0.3, 0.0, 0.2, 0.1, 0.0]
    with pytest.warns() as caught:
        results = list(map_in_processes(work, items, 2, begin, tmp_path, "a", "b"))
    assert results == [(item, "a-b-True") for item in items]
    processes = {path.name.split("-")[0] for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == len(processes) <= 2
    assert str(os.getpid()) not in processes
    messages = [str(each.message) for each in caught]
    assert [text for text in messages if text != "a start"] == [f"slept for {item}" for item in items]
    assert messages.count("a start") == len(processes)
    assert {each.category for each in caught} == {PhotplugWarning}


def test_cores_are_counted_where_the_system_does_not_tell_which_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS does not."""
    assert count_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert count_cores() == os.cpu_count()


def test_one_worker_is_this_process(tmp_path):
    """One start for all items; and there are never more processes than items."""
    for workers, items in ((1, [0.0, 0.0]), (8, [0.0])):
        with pytest.warns():
            results = list(map_in_processes(work, items, workers, begin, tmp_path, "a"))
        assert results == [(0.0, "a-True")] * len(items)
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == [str(os.getpid())] * 2
    assert list(map_in_processes(work, [], 4, begin, tmp_path)) == []


def test_errors_cross_and_end_the_rest():
    results = map_in_processes(fail, range(4), 2, nothing)
    assert next(results) == 0
    with pytest.raises(PhotplugError, match="^item 1 is bad; give another$"):
        next(results)


def test_a_process_that_is_killed():
    told = "^one of 2 processes died twice, perhaps out of memory; use fewer workers, or 1$"
    warned = "a process died; its work is being redone"
    with pytest.warns(PhotplugWarning, match=warned), pytest.raises(PhotplugError, match=told):
        list(map_in_processes(end, range(3), 2, nothing))


VARIABLES = """
import os, sys
from dja_photplug.parallel.workers import Workers
names = sys.argv[1:]
with Workers(2) as workers:
    print(*list(workers.map(os.getenv, [*names, names[0]]))[:-1])
print(*map(os.getenv, names))
"""


def read_variables(names: tuple[str, ...], said: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return variables of the environment of a process of ours, and of the one that began it, where these are said."""
    others = {name: value for name, value in os.environ.items() if name not in names}
    told = subprocess.run(
        [sys.executable, "-c", VARIABLES, *names], env=others | said, capture_output=True, text=True, check=True
    )
    there, here = told.stdout.splitlines()
    return there.split(), here.split()


@pytest.mark.parametrize("said", [{}, {"OPENBLAS_NUM_THREADS": "3"}])
def test_a_process_has_one_thread_of_linear_algebra_where_nobody_says_more(said: dict[str, str]) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    there, here = read_variables(names, said)
    assert here == [said.get(name, "None") for name in names]
    assert there == (here if said else ["1", "1", "1"])


@pytest.mark.parametrize(("said", "there"), [({}, "0"), ({HUGE_PAGES: "1"}, "1")])
def test_a_process_asks_for_no_huge_pages_where_nobody_says_so(said: dict[str, str], there: str) -> None:
    assert read_variables((HUGE_PAGES,), said) == ([there], [said.get(HUGE_PAGES, "None")])


def die_once(marker: Path, item: int) -> int:
    """Kill the process at the first time that it is asked for item 2."""
    if item == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * item


def test_work_of_a_process_that_was_killed_is_done_again(tmp_path: Path) -> None:
    with Workers(2) as workers, pytest.warns(PhotplugWarning, match="a process died; its work is being redone"):
        assert list(workers.map(partial(die_once, tmp_path / "died"), range(6))) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("waits", ["before", "after"])
def test_a_process_that_starts_while_another_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    """Its queues are closed before, or nobody else ends it after, and the pool would wait for it for ever."""
    start, started = multiprocessing.process.BaseProcess.start, []

    def start_slowly(process: multiprocessing.process.BaseProcess) -> None:
        started.append(process)
        if len(started) != 2:
            start(process)
            return
        if waits == "after":
            start(process)
        while not (tmp_path / "died").exists():
            time.sleep(0.01)
        time.sleep(0.5)  # until the pool knows
        if waits == "before":
            start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start_slowly)
    before = multiprocessing.active_children()
    with Workers(2) as workers, pytest.warns(PhotplugWarning, match="its work is being redone"):
        assert list(workers.map(partial(die_once, tmp_path / "died"), [2, 3, 4])) == [20, 30, 40]
    assert len(started) > 2
    assert multiprocessing.active_children() == before


def tell_lock(marker: Path, item: int) -> str:
    return type(tqdm.get_lock()).__name__


def test_no_lock_of_bars_is_left_where_a_process_is_killed(tmp_path: Path) -> None:
    """That of several processes would be told as leaked."""
    with Workers(2) as workers:
        assert set(workers.map(partial(tell_lock, tmp_path), range(4))) == {"RLock"}


@once
def write_once(marker: Path, item: int) -> int:
    return die_once(marker, item)


def test_work_that_cannot_be_done_again_is_lost(tmp_path: Path) -> None:
    with Workers(2) as workers:
        with pytest.raises(LostWork, match="ended while it changed an image"):
            list(workers.map(partial(write_once, tmp_path / "died"), range(6)))
        assert list(workers.map(partial(write_once, tmp_path / "died"), range(3))) == [0, 10, 20]


def add_pixels(plane: np.ndarray, row: int) -> float:
    """Write into a plane, and return what was there."""
    before = float(plane[row].sum())
    plane[row] += 1
    return before


def test_processes_share_planes(tmp_path: Path) -> None:
    with open_scratch(tmp_path) as scratch, Workers(2, folder=scratch.folder) as workers:
        plane = new_plane((8, 200_000), np.float32)
        plane[...] = np.arange(8)[:, None]
        rows = list(workers.map(partial(add_pixels, plane), range(8)))
        assert rows == [row * 200_000.0 for row in range(8)]
        assert plane[:, 0].tolist() == list(range(1, 9))
        assert list(map(partial(add_pixels, plane), [3])) == [4 * 200_000.0]
    assert list(tmp_path.iterdir()) == []


def test_work_without_space_is_refused(tmp_path: Path) -> None:
    """What processes must know is written to a file; the folder that is named is that of the user."""
    before, many = resource.getrlimit(resource.RLIMIT_FSIZE), np.arange(30_000)
    told = rf"^{re.escape(str(tmp_path))}: cannot reserve 240 kB of scratch space there \(File too large\); free space"
    with open_scratch(tmp_path) as scratch, Workers(2, folder=scratch.folder) as workers:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, before[1]))
        try:
            with pytest.raises(PhotplugError, match=told):
                list(workers.map(partial(add_pixels, many), range(2)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_an_executor_of_somebody_else(tmp_path: Path) -> None:
    """Threads too: sep is called by one at a time."""
    with ThreadPoolExecutor(3) as executor, Workers(1, executor=executor, folder=tmp_path) as workers:
        assert list(workers.map(partial(die_once, Path(__file__)), range(5))) == [0, 10, 20, 30, 40]
    assert list(tmp_path.iterdir()) == []


def test_a_worker_without_the_file(tmp_path: Path) -> None:
    class Elsewhere(ThreadPoolExecutor):
        def submit(self, work, path, item):
            return super().submit(work, path.replace(str(tmp_path), "/nowhere"), item)

    told = "^/nowhere.*: a worker cannot open this scratch file .*; name a folder with --scratch that all workers see$"
    with (
        Elsewhere(1) as executor,
        Workers(1, executor=executor, folder=tmp_path) as workers,
        pytest.raises(PhotplugError, match=told),
    ):
        list(workers.map(partial(die_once, Path(__file__)), range(5)))


SLEEPING = """
import signal, sys, time
from pathlib import Path
from dja_photplug.outputs.held import sweep
from dja_photplug.parallel.scratch import new_plane, open_scratch
from dja_photplug.parallel.workers import LostWork, Workers, map_in_processes, once

def start(folder):
    return folder

def work(folder, item):
    (folder / str(item)).touch()
    time.sleep(100)

def run(folder):
    # A shell that runs the tests in the background has it ignored, which processes inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        list(map_in_processes(work, range(3), 2, start, folder))
    except KeyboardInterrupt:
        sys.exit(130)
"""

# Without a guard: processes that ran it would start others in turn.
SCRIPT = """
import sys
from pathlib import Path
import sleeping
print("once")
sleeping.run(Path(sys.argv[1]))
"""


PATIENT = """
import signal, sys
from dja_photplug.parallel.workers import Workers

def run(folder):
    signal.signal(signal.SIGINT, lambda number, frame: None)
    print("begins", flush=True)
    with Workers(2, modules=("slow",)) as workers:
        workers.begin()
        print(*workers.map(abs, range(3)))
"""


def test_processes_tell_nothing_of_ctrl_c_while_they_start(tmp_path: Path) -> None:
    """In a terminal it reaches all processes; what it means is for their parent to say."""
    (tmp_path / "sleeping.py").write_text(PATIENT)
    (tmp_path / "script.py").write_text(SCRIPT.replace('print("once")', ""))
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.3)\n")
    path = f"{Path(__file__).resolve().parents[2]}{os.pathsep}{tmp_path}"
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path], stdout=-1, stderr=-1, env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"begins\n"
    readable, _, _ = select.select([parent.stdout], [], [], 0)
    while not readable:  # its end too
        os.killpg(parent.pid, signal.SIGINT)
        readable, _, _ = select.select([parent.stdout], [], [], 0.002)
    assert parent.communicate(timeout=60) == (b"0 1 2\n", b"")
    assert parent.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    """A signal to the parent alone; its processes would sleep for 100 s, and with them the one that waits for them."""
    script, folder = tmp_path / "script.py", tmp_path / "began"
    script.write_text(SCRIPT)
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    folder.mkdir()
    scratch = Path(tempfile.mkdtemp())  # names of sockets are short
    # The package may lie in this checkout alone.
    path = f"{Path(__file__).resolve().parents[2]}{os.pathsep}{tmp_path}"
    environment = os.environ | {"PYTHONPATH": path, "TMPDIR": str(scratch)}
    parent = subprocess.Popen([sys.executable, script, folder], stdout=-1, stderr=-1, env=environment)
    while len(list(folder.glob("?"))) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(number)
    stdout, stderr = parent.communicate(timeout=60)  # it ends only when no worker holds its stderr any more
    assert stdout == b"once\n"
    if number == signal.SIGKILL:
        assert list(scratch.iterdir())
        sweep(scratch)
    else:
        assert (parent.returncode, stderr) == (130, b"")
    scratch.rmdir()


def test_the_server_of_processes_is_started_anew(tmp_path: Path) -> None:
    """It is killed before it is asked for the first process of another pool."""
    with Workers(2) as workers:
        list(workers.map(partial(die_once, Path(__file__)), range(3)))
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    with Workers(2) as workers, warnings.catch_warnings():
        warnings.simplefilter("ignore", PhotplugWarning)
        assert list(workers.map(partial(die_once, Path(__file__)), range(3))) == [0, 10, 20]
