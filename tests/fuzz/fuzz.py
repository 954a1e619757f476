"""All fuzzers for as long as is wanted.

python -m tests.fuzz.fuzz [--minutes MINUTES] [--seed SEED] [-o RESULTS.json] [NAME ...]

Names, logs and blocks of FITS files by atheris, of the extra ``fuzz``; growth, variance and tables by hypothesis.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.apart import MEMORY, WALL
from tests.fuzz.properties import PROPERTIES, examine
from tests.fuzz.targets import TARGETS

__all__ = ["Fuzzed", "run_fuzzers"]

_ROUND = 500  # examples of hypothesis at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzed:
    """What a fuzzer did: by what, inputs, seconds, and what was wrong, if anything."""

    by: str
    inputs: int
    seconds: float
    fault: str = ""


def _guide(name: str, seconds: float, seed: int, corpus: Path) -> Fuzzed:
    """Run atheris in a process of its own, which it ends itself."""
    limits = [
        f"-timeout={WALL}",
        f"-rss_limit_mb={(MEMORY >> 20) + 500}",
        f"-max_total_time={max(1, round(seconds))}",
    ]
    words = [
        "-W",
        "ignore",
        "-m",
        "tests.fuzz.guided",
        name,
        str(corpus),
        *limits,
        f"-seed={seed}",
        "-print_final_stats=1",
    ]
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, *words, "-max_len=16384", f"-artifact_prefix={corpus.parent}/{name}-"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    count = re.search(r"number_of_executed_units: (\d+)", run.stderr)
    fault = "" if run.returncode == 0 and count else f"{run.stdout[-1500:]}{run.stderr[-1500:]}"
    return Fuzzed(by="atheris", inputs=int(count[1]) if count else 0, seconds=time.monotonic() - start, fault=fault)


def _examine(name: str, seconds: float, seed: int) -> Fuzzed:
    """Examine a property again and again, with other seeds."""
    start, count, fault = time.monotonic(), 0, ""
    while time.monotonic() - start < seconds and not fault:
        try:
            count += examine(name, _ROUND, seed)
        except Exception:
            fault = traceback.format_exc()
        seed += 1
    return Fuzzed(by="hypothesis", inputs=count, seconds=time.monotonic() - start, fault=fault)


def run_fuzzers(seconds: float, seed: int, corpus: Path, names: list[str] | None = None) -> dict[str, Fuzzed]:
    """Run fuzzers one after the other.

    Parameters
    ----------
    seconds : float
        For each.
    seed : int
    corpus : Path
        A folder for what atheris finds.
    names : list of str, optional
        Only these.

    Returns
    -------
    dict of str to Fuzzed
    """
    results = {}
    for name in names or (*TARGETS, *PROPERTIES):
        if name in TARGETS:
            results[name] = _guide(name, seconds, seed, corpus / name)
        else:
            results[name] = _examine(name, seconds, seed)
        print(name, asdict(results[name]), flush=True)
    return results


def main() -> int:
    """Run the fuzzers of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a folder for what atheris finds, to go on with")
    parser.add_argument("-o", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        results = run_fuzzers(60 * arguments.minutes, arguments.seed, arguments.corpus or Path(place), arguments.names)
    if arguments.o:
        arguments.o.write_text(json.dumps({name: asdict(found) for name, found in results.items()}, indent=1) + "\n")
    return min(sum(bool(found.fault) for found in results.values()), 1)


if __name__ == "__main__":
    sys.exit(main())
