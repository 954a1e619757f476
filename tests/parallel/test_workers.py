"""Work in processes: order, warnings, errors, and processes that end early or are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.parallel.workers import map_in_processes


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
    told = "^one of 2 processes ended twice: memory may be short.*use fewer workers, or 1$"
    warned = "ended early; its work is done again"
    with pytest.warns(PhotplugWarning, match=warned), pytest.raises(PhotplugError, match=told):
        list(map_in_processes(end, range(3), 2, nothing))


INTERRUPTED = """
import signal, sys, time
from pathlib import Path
from dja_photplug.parallel.workers import map_in_processes

def start(folder):
    return folder

def work(folder, item):
    (folder / str(item)).touch()
    time.sleep(100)

if __name__ == "__main__":
    # A shell that runs the tests in the background has it ignored, which processes inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        list(map_in_processes(work, range(3), 2, start, Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_does_not_wait_for_the_work(tmp_path):
    """A signal to the parent alone; its processes would sleep for 100 s, and with them the one that waits for them."""
    script, folder = tmp_path / "script.py", tmp_path / "began"
    script.write_text(INTERRUPTED)
    folder.mkdir()
    # The package may lie in this checkout alone.
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen([sys.executable, script, folder], stderr=subprocess.PIPE, env=environment)
    while len(list(folder.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    _, stderr = parent.communicate(timeout=60)
    assert (parent.returncode, stderr) == (130, b"")
