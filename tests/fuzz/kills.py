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
from dja_photplug.files.tables import read_catalog
from dja_photplug.outputs.held import sweep
from dja_photplug.outputs.run import mend
from tests.helpers import simulate_isolated

__all__ = ["Kills", "kill_one"]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
ORPHANS = 5.0  # s
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from dja_photplug.cli.app import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass(slots=True, kw_only=True)
class Kills:
    """What was seen; `finished` are runs that ended by themselves before, or whose lost worker was replaced."""

    kills: int = 0
    finished: int = 0
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


def _session(leader: int) -> dict[int, int]:
    """Return the processes of a session that live, and their parents."""
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


def kill_one(prefix: Path, place: Path, rng: random.Random, last: float, kills: Kills) -> None:
    """Start a run, kill it or one of its workers at a random moment, and see what it leaves.

    Parameters
    ----------
    prefix : Path
        Of the mosaic.
    place : Path
        An empty folder.
    rng : random.Random
    last : float
        Seconds in which the moment is.
    kills : Kills
        Is added to.
    """
    out, scratch = place / "out", place / "tmp"
    out.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    number, worker = rng.choice(SIGNALS), rng.random() < 0.25
    workers = "2" if worker or rng.random() < 0.5 else "1"
    sigma = rng.choice(("3", "8", "20"))  # other sources than those of last time
    words = ["catalog", str(prefix), "-o", "cat.fits", "--segmentation", "seg.fits", "--noise", "dja", "--overwrite"]
    words += ["--workers", workers, "--tile-size", "200", "--tile-overlap", "40", "--n-sigma", sigma, "--sky", "none"]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": str(root)}
    run = subprocess.Popen(
        [sys.executable, "-c", START, *words], cwd=out, env=environment, stdout=-3, stderr=-1, start_new_session=True
    )
    time.sleep(rng.uniform(0, last))
    victim = run.pid
    if worker:
        number = signal.SIGKILL
        others = [pid for pid in _session(run.pid) if pid != run.pid]
        victim = rng.choice(others) if others else run.pid
    told = f"{number.name} to {'a worker' if victim != run.pid else 'the run'}, {workers} workers"
    with suppress(ProcessLookupError):
        os.kill(victim, number)
    err = _wait(run, told, kills)
    kills.kills += 1
    kills.finished += run.returncode == 0
    if victim == run.pid and run.returncode not in (0, STATUS[number], -number):
        kills.fault("", f"{told}: status {run.returncode}")
    if b"Traceback" in err and number != signal.SIGKILL and victim == run.pid:
        kills.fault("", f"{told}: {err[-300:]!r}")
    start = time.monotonic()
    while (left := _session(run.pid)) and time.monotonic() - start < ORPHANS:
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


def _wait(run: subprocess.Popen[bytes], told: str, kills: Kills) -> bytes:
    """Wait for the end of a run, but not for ever."""
    try:
        return run.communicate(timeout=300)[1]
    except subprocess.TimeoutExpired:
        kills.fault("", f"{told}: hangs")
        os.killpg(run.pid, signal.SIGKILL)
        return run.communicate()[1]


def run_kills(count: int, seed: int, say: Callable[[str], None] = print) -> Kills:
    """Kill runs one after the other, half of them with the outputs of an older one there."""
    kills, rng = Kills(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills") as place:
        prefix = simulate_isolated(Path(place, "mosaic")).prefix
        start = time.monotonic()
        folder = Path(place, "1")
        folder.mkdir()
        last = 0.0
        for i in range(count):
            if i % 2 == 0:
                folder = Path(place, str(i))
                folder.mkdir(exist_ok=True)
            if i % 20 == 0:  # a whole run, to know how long one takes now
                (folder / "out").mkdir(exist_ok=True)
                last = _time_run(prefix, folder)
            kill_one(prefix, folder, rng, last, kills)
            say(f"{i + 1}: {time.monotonic() - start:.0f} s, {kills.faults[-1:] if kills.faults else ''}")
    return kills


def _time_run(prefix: Path, folder: Path) -> float:
    """Return how long a run takes that nobody kills, and leave its outputs."""
    start = time.monotonic()
    words = ["catalog", str(prefix), "-o", "cat.fits", "--segmentation", "seg.fits", "--noise", "dja", "--overwrite"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run(
        [sys.executable, "-c", START, *words, "--sky", "none", "--quiet"],
        cwd=folder / "out",
        env=environment,
        check=True,
    )
    return time.monotonic() - start


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
