"""Runs that are killed at any moment, and what they leave.

python -m tests.fuzz.kills [-n COUNT] [--seed SEED] [-o RESULTS.json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from dja_photplug.files.pixels import read_image
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.outputs.held import sweep
from dja_photplug.outputs.moves import mend
from tests.helpers import simulate_isolated

__all__ = ["Kills", "count_steps", "find_processes", "kill_one", "run_kills"]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
ORPHANS = 5.0  # s
# A run that marks each file that it opens, makes, moves or removes, and each process that it starts: by one byte.
START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from dja_photplug.cli.app import main
marks = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
mine = os.getpid()
def mark(event, arguments):
    if event.partition(".")[0] in ("open", "os", "subprocess", "shutil") and os.getpid() == mine:
        os.write(marks, b".")
sys.addaudithook(mark)
sys.exit(main(sys.argv[2:]))
"""


@dataclass(slots=True, kw_only=True)
class Kills:
    """What was seen of runs that were killed before their end.

    `finished` are those that ended well all the same, as their lost worker was replaced or files were being moved;
    `late` were not killed, because they had ended, and count nowhere.
    """

    kills: int = 0
    finished: int = 0
    late: int = 0
    partial: int = 0
    mixed: int = 0
    orphans: int = 0
    leftovers: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, kind: str, told: str) -> None:
        """Count what is wrong."""
        if kind:
            setattr(self, kind, getattr(self, kind) + 1)
        self.faults.append(told)


def find_processes(leader: int) -> dict[int, int]:
    """Return the processes of a session that live, and their parents.

    Parameters
    ----------
    leader : int

    Returns
    -------
    dict of int to int
    """
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(session) == leader and state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


def _judge(out: Path, kills: Kills, told: str) -> None:
    """See whether the files of a folder are whole, and of one run."""
    catalog, segments = out / "cat.fits", out / "seg.fits"
    try:
        rows = len(read_catalog(catalog)) if catalog.exists() else None
        labels = len(np.unique(read_image(segments)[0])) - 1 if segments.exists() else None
    except Exception as error:
        kills.fault("partial", f"{told}: {error}")
        return
    if rows is not None and labels is not None and rows != labels:
        kills.fault("mixed", f"{told}: {rows} rows beside {labels} segments")


def _await_moment(run: subprocess.Popen[bytes], marks: Path, wanted: int) -> None:
    """Wait until a run has done so many of the steps that it counts, or has ended."""
    while run.poll() is None and (len(marks.read_bytes()) if marks.exists() else 0) < wanted:
        time.sleep(0.002)


def kill_one(prefix: Path, place: Path, rng: random.Random, steps: int, kills: Kills) -> None:
    """Start a run, kill it or one of its workers at a random moment, and see what it leaves.

    Parameters
    ----------
    prefix : Path
        Of the mosaic.
    place : Path
        A folder, which has the outputs of the last run, if any.
    rng : random.Random
    steps : int
        Of :func:`count_steps`; the moment is that of one of them, and up to a twentieth of a second later.
    kills : Kills
        Is added to.
    """
    out, scratch, marks = place / "out", place / "tmp", place / "marks"
    out.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    marks.unlink(missing_ok=True)
    number, worker = rng.choice(SIGNALS), rng.random() < 0.25
    workers = 2 if worker or rng.random() < 0.5 else 1
    sigma = rng.choice(("3", "8", "20"))  # other sources than those of last time
    run = _start(prefix, out, scratch, marks, workers, sigma)
    # Half of them in the last tenth, in which outputs are written and moved.
    _await_moment(run, marks, rng.randrange(steps) if rng.random() < 0.5 else steps - 1 - rng.randrange(steps // 10))
    time.sleep(rng.uniform(0, 0.05))
    victim = run.pid
    if worker:
        number = signal.SIGKILL
        while run.poll() is None and not (others := [pid for pid in find_processes(run.pid) if pid != run.pid]):
            time.sleep(0.002)  # until there are workers
        victim = rng.choice(others) if run.poll() is None else run.pid
    told = f"{number.name} to {'a worker' if victim != run.pid else 'the run'}, {workers} workers"
    ended_before = run.poll() is not None
    with suppress(ProcessLookupError):
        os.kill(victim, number)
    err = _wait(run, told, kills)
    if ended_before:
        kills.late += 1
    else:
        kills.kills += 1
        kills.finished += run.returncode == 0
    if victim == run.pid and run.returncode not in (0, STATUS[number], -number):
        kills.fault("", f"{told}: status {run.returncode}")
    if b"Traceback" in err and number != signal.SIGKILL and victim == run.pid:
        kills.fault("", f"{told}: {err[-300:]!r}")
    start = time.monotonic()
    while (left := find_processes(run.pid)) and time.monotonic() - start < ORPHANS:
        time.sleep(0.05)
    if left:
        kills.fault("orphans", f"{told}: {len(left)} processes live on")
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    _judge(out, kills, told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mend(out)  # as the next run begins
        sweep(scratch)
    _judge(out, kills, f"{told}, mended")
    odd = [path.name for path in (*out.iterdir(), *scratch.iterdir()) if path.name not in ("cat.fits", "seg.fits")]
    if odd:
        kills.fault("leftovers", f"{told}: {odd}")


def _start(prefix: Path, out: Path, scratch: Path, marks: Path, workers: int, sigma: str) -> subprocess.Popen[bytes]:
    """Start a run of a session of its own."""
    words = ["catalog", str(prefix), "-o", "cat.fits", "--segmentation", "seg.fits", "--noise", "dja", "--overwrite"]
    words += ["--workers", str(workers), "--tile-size", "200", "--tile-overlap", "40", "--n-sigma", sigma]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, "-c", START, str(marks), *words, "--sky", "none"],
        cwd=out,
        env=environment,
        stdout=-3,
        stderr=-1,
        start_new_session=True,
    )


def _wait(run: subprocess.Popen[bytes], told: str, kills: Kills) -> bytes:
    """Wait for the end of a run, but not for ever."""
    try:
        return run.communicate(timeout=300)[1]
    except subprocess.TimeoutExpired:
        kills.fault("", f"{told}: hangs")
        os.killpg(run.pid, signal.SIGKILL)
        return run.communicate()[1]


def count_steps(prefix: Path, place: Path) -> int:
    """Return how many steps a run marks from its start to its end.

    Parameters
    ----------
    prefix : Path
    place : Path
        A folder, in which a run leaves its outputs.

    Returns
    -------
    int
    """
    out, scratch, marks = (place / name for name in ("out", "tmp", "marks"))
    out.mkdir(exist_ok=True, parents=True)
    scratch.mkdir(exist_ok=True)
    run = _start(prefix, out, scratch, marks, 1, "3")
    run.communicate()
    if run.returncode:
        raise RuntimeError(f"a run that nobody killed ended with {run.returncode}")
    return len(marks.read_bytes())


def run_kills(count: int, seed: int, say: Callable[[str], None] = print) -> Kills:
    """Kill so many runs one after the other, half of them with the outputs of an older one there.

    Parameters
    ----------
    count : int
        Of kills that came before the end of their run.
    seed : int
    say : callable, optional
        Told of each.

    Returns
    -------
    Kills
    """
    kills, rng = Kills(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills") as place:
        prefix = simulate_isolated(Path(place, "mosaic")).prefix
        steps = count_steps(prefix, Path(place, "sound"))
        start = time.monotonic()
        while kills.kills < count:
            number = kills.kills + kills.late
            folder = Path(place, str(number // 2))  # every second time with what the run before left
            folder.mkdir(exist_ok=True)
            kill_one(prefix, folder, rng, steps, kills)
            say(f"{kills.kills}: {time.monotonic() - start:.0f} s, {kills.faults[-1:] if kills.faults else ''}")
    return kills


def main() -> int:
    """Run the kills of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", type=Path)
    arguments = parser.parse_args()
    kills = run_kills(arguments.n, arguments.seed, lambda text: print(text, flush=True))
    print(json.dumps(asdict(kills), indent=1))
    if arguments.o:
        arguments.o.write_text(json.dumps(asdict(kills), indent=1) + "\n")
    return min(len(kills.faults), 1)


if __name__ == "__main__":
    sys.exit(main())
