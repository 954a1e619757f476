"""Mutated inputs of every reader: what comes out, how long it takes and how much memory.

python -m tests.fuzz.campaign [-n COUNT] [--seed SEED] [-o RESULTS.json] [READER ...]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dja_photplug.errors import PhotplugError
from tests.fuzz.mutate import mutate, pack
from tests.fuzz.readers import READERS, Reader, make_seeds
from tests.helpers import simulate_isolated

__all__ = ["Findings", "run_campaign", "try_input"]

SECONDS = 20
MEMORY = 1 << 30  # bytes, above what the process held before


@dataclass(slots=True, kw_only=True)
class Findings:
    """What became of the inputs of a reader; `seconds` and `memory` are the most that one took."""

    inputs: int = 0
    refused: int = 0
    obeyed: int = 0
    seconds: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)


class TooSlow(BaseException):
    """An input took more than `SECONDS`."""


def _stop(number: int, frame: object) -> None:
    raise TooSlow


def _peak() -> int:
    """Return the most memory that the process has held since it was last asked, in bytes; 0 where nobody knows."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def try_input(call: Callable[[Path], object], path: Path, findings: Findings, name: str) -> None:
    """Read one file, and note what happens.

    Parameters
    ----------
    call : callable
    path : Path
    findings : Findings
        Is added to.
    name : str
        Of the input, for what is wrong.
    """
    _peak()
    before, start = _peak(), time.process_time()
    findings.inputs += 1
    signal.alarm(6 * SECONDS)  # of a machine that others use too; what counts is the time of the process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(path)
        findings.obeyed += 1
    except PhotplugError as error:
        findings.refused += 1
        if "\n" in str(error):
            findings.faults.append(f"{name}: several lines: {error!r}")
    except (Exception, TooSlow) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "dja_photplug" in frame.filename]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        findings.faults.append(
            f"{name}: {type(error).__name__}: {str(error)[:120]} in {Path(where.filename).name} by {at}"
        )
    finally:
        signal.alarm(0)
    seconds, memory = time.process_time() - start, _peak() - before
    findings.seconds, findings.memory = max(findings.seconds, seconds), max(findings.memory, memory)
    if seconds > SECONDS:
        findings.faults.append(f"{name}: took {seconds:.0f} s")
    if memory > MEMORY:
        findings.faults.append(f"{name}: took {memory / 1e9:.1f} GB")


def run_campaign(reader: Reader, content: bytes, folder: Path, count: int, seed: int) -> Findings:
    """Read mutations of a file.

    Parameters
    ----------
    reader : Reader
    content : bytes
        Of the sound file, inflated.
    folder : Path
        Where the file is written.
    count : int
    seed : int

    Returns
    -------
    Findings
    """
    findings, path = Findings(), folder / reader.file
    sound = path.read_bytes() if path.exists() else None
    signal.signal(signal.SIGALRM, _stop)
    for number in range(count):
        rng = random.Random(f"{seed}-{number}-{reader.file}")
        spoilt = mutate(content, rng)
        path.write_bytes(pack(spoilt, rng) if path.suffix == ".gz" else spoilt)
        try_input(reader.call, path, findings, f"{seed}-{number}")
    if sound is None:
        path.unlink()
    else:
        path.write_bytes(sound)
    return findings


def main() -> int:
    """Run the campaign of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", type=Path)
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        mosaic = simulate_isolated(Path(place))
        seeds = make_seeds(mosaic.prefix, Path(place))
        os.chdir(place)
        for name, reader in READERS.items():
            if arguments.readers and name not in arguments.readers:
                continue
            findings = run_campaign(reader, seeds[reader.file], Path(place), arguments.n, arguments.seed)
            results[name] = asdict(findings)
            bad += len(findings.faults)
            said = f"{findings.refused} refused, {findings.seconds:.1f} s, {findings.memory / 1e6:.0f} MB"
            print(f"{name}: {findings.inputs} inputs, {said}, {len(findings.faults)} faults", flush=True)
            for fault in findings.faults[:400]:
                print(f"    {fault}", flush=True)
    if arguments.o:
        arguments.o.write_text(json.dumps(results, indent=1) + "\n")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
