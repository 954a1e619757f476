"""Measure speed and memory on whole mosaics: ours, the published recipe, plain sep and source-extractor, in turns.

    python benchmarks/benchmark.py run FOLDER -o results.json         make a mosaic of 12000 x 12000 pixels, run all
    python benchmarks/benchmark.py run FOLDER -o more.json --sides 6000 12000 24000 --cases weight
    python benchmarks/benchmark.py show results.json                  the tables of a run
    python benchmarks/benchmark.py cases                              the names of the cases

Each case is a process of its own, and the cases take turns: a ratio is that of two cases in the same round. The mosaic
is simulated (fields.py says how), kept in FOLDER and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

from cases import CASES, PROGRAM, Case, Job, Setup, count_rows, find_program
from dja_photplug.errors import PhotplugError
from fields import BANDS, DENSITY, Field, make_field
from report import TABLES, Record, Run, read_runs, show, write_runs
from watch import run_watched, warm_memory

WARM_BYTES = 40  # a pixel: what the recipe takes, most of all cases
PACKAGES = ("dja_photplug", "numpy", "astropy", "sep", "photutils", "isal")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("folder", type=Path, metavar="FOLDER", help="where mosaics are made, and outputs go")
    made.add_argument(
        "--sides", type=int, nargs="+", default=[12_000], metavar="PIXELS", help="sides of mosaics (default 12000)"
    )
    help = f"sources above 20 nJy in a square arcmin (default {DENSITY:g}: 8,000 detections in 12000 x 12000 pixels)"
    made.add_argument("--densities", type=float, nargs="+", default=[DENSITY], metavar="DENSITY", help=help)
    help = f"numbers of bands for the cases of many bands, at most {len(BANDS)} (default 4)"
    made.add_argument(
        "--bands", type=int, nargs="+", default=[4], metavar="N", help=help, choices=range(1, len(BANDS) + 1)
    )
    help = "numbers of positions for the cases of given positions (default 100000 1000000)"
    made.add_argument("--positions", type=int, nargs="+", default=[100_000, 1_000_000], metavar="N", help=help)
    help = "cases to run, or make for (default all; `cases` lists them)"
    made.add_argument("--cases", nargs="+", default=list(CASES), metavar="NAME", help=help, choices=CASES)
    commands.add_parser("make", parents=[made], help="make mosaics and positions alone")
    run = commands.add_parser("run", parents=[made], help="make what is missing, and run")
    run.add_argument("-o", "--output", type=Path, required=True, metavar="RESULTS.json", help="what was measured")
    run.add_argument("--append", action="store_true", help="add the run to RESULTS.json")
    run.add_argument("--overwrite", action="store_true", help="replace RESULTS.json")
    run.add_argument("--rounds", type=int, default=3, metavar="N", help="how often all cases are run (default 3)")
    help = "more flags for our catalog and extend, as one word: --flags='--workers 1 --scratch DIR'"
    run.add_argument("--flags", default="", metavar="'FLAGS'", help=help)
    help = "write the segmentation with each catalogue, ours and those of source-extractor"
    run.add_argument("--segmentation", action="store_true", help=help)
    shown = commands.add_parser("show", help="print the tables of a run")
    shown.add_argument("results", type=Path, metavar="RESULTS.json")
    shown.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES, help="which (default all)")
    commands.add_parser("cases", help="list the cases")
    return parser


def _fields(arguments: argparse.Namespace) -> list[Field]:
    return [
        Field(folder=arguments.folder / f"{side}-{density:g}", side=side, density=density)
        for side in arguments.sides
        for density in arguments.densities
    ]


def _numbers(case: Case, arguments: argparse.Namespace) -> list[int]:
    """Return the bands or positions that a case is run for."""
    return {"bands": arguments.bands, "positions": arguments.positions}.get(case.over, [1])


def make(arguments: argparse.Namespace) -> None:
    """Make what the cases need and is not there."""
    chosen = [CASES[name] for name in arguments.cases]
    bands = max(max(_numbers(case, arguments)) if case.over == "bands" else 1 for case in chosen)
    positions = arguments.positions if any(case.over == "positions" for case in chosen) else ()
    for field in _fields(arguments):
        for step in make_field(field, bands, tuple(positions)):
            print(f"making {step}", flush=True)


def _plan(arguments: argparse.Namespace) -> Iterator[tuple[Field, str, int]]:
    """Yield what is run in each round."""
    for field in _fields(arguments):
        for name in arguments.cases:
            for n in _numbers(CASES[name], arguments):
                if not (CASES[name].external and find_program() is None):
                    yield field, name, n


def _left_out(arguments: argparse.Namespace) -> dict[str, str]:
    reason = f"{PROGRAM} is not installed"
    return {name: reason for name in arguments.cases if CASES[name].external and find_program() is None}


def _check_outputs(job: Job, name: str, start: float) -> None:
    """Refuse outputs that are missing, empty, or those of an earlier run."""
    for path in job.outputs:
        if not path.exists() or not path.stat().st_size or path.stat().st_mtime < start - 1:
            raise PhotplugError(f"case {name} ended well and left no {path.name}; look at its command")


def _measure(field: Field, name: str, n: int, turn: int, setup: Setup) -> Record:
    """Run a case once."""
    case = CASES[name]
    if case.before is not None:
        needed = case.before(field, setup, n)
        if not all(path.exists() for path in needed.outputs):
            run_watched(needed.commands)
    job = case.job(field, setup, n)
    for path in job.outputs:  # to take the room of an old file back takes time
        path.unlink(missing_ok=True)
    os.sync()  # else the system writes what cases before have made while this one works
    warm_memory(WARM_BYTES * field.side**2)
    start = time.time()
    cost = run_watched(job.commands, job.parallel)
    _check_outputs(job, name, start)
    if cost.left:
        raise PhotplugError(f"case {name} left {cost.left} processes behind")
    rows = job.rows or (count_rows(job.outputs[0]) if job.outputs else None)
    if rows == 0:
        raise PhotplugError(f"case {name} made a table without rows, {job.outputs[0].name}; look at the mosaic")
    printed = cost.printed.strip().splitlines()
    call = json.loads(printed[-1])["call"] if printed and printed[-1].startswith('{"call"') else None
    return Record(
        case=name,
        title=case.title,
        round=turn,
        side=field.side,
        density=field.density,
        n=n,
        seconds=round(cost.seconds, 3),
        cpu=round(cost.cpu, 3),
        call=call if call is None else round(call, 3),
        memory=cost.memory,
        rows=rows,
    )


def _first_line(*command: str) -> str:
    """Return the first line that a command prints; nothing where there is no such command, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]


def describe_machine(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what numbers depend on."""
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    if program := find_program():
        versions.append(_first_line(program, "--version").partition("(")[0].strip().replace(" version", ""))
    about = {
        "date": date.today().isoformat(),
        "system": platform.platform(terse=True),
        "processor": _find_line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "python": platform.python_version(),
        "versions": ", ".join(versions),
        "commit": _first_line("git", "describe", "--always", "--dirty"),
        "flags": arguments.flags,
        "segmentation": "yes" if arguments.segmentation else "no",
    }
    return {name: text for name, text in about.items() if text}


def _find_line(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def run(arguments: argparse.Namespace) -> None:
    """Run all cases in turns; what was measured so far is always in the file."""
    output: Path = arguments.output
    if output.exists() and not arguments.append and not arguments.overwrite:
        raise PhotplugError(f"{output}: exists; give --append or --overwrite, or another name")
    if arguments.rounds < 1:
        raise PhotplugError(f"--rounds {arguments.rounds}: give 1 or more")
    earlier = read_runs(output) if arguments.append and output.exists() else []
    make(arguments)
    measured = Run(about=describe_machine(arguments), left_out=_left_out(arguments), records=[])
    for name, reason in measured.left_out.items():
        print(f"leaving out {name}: {reason}", flush=True)
    setup = Setup(flags=tuple(arguments.flags.split()), segmentation=arguments.segmentation)
    for turn in range(arguments.rounds):
        for field, name, n in _plan(arguments):
            record = _measure(field, name, n, turn, setup)
            measured.records.append(record)
            write_runs(output, [*earlier, measured])
            size = {"bands": f" {n} bands", "positions": f" {n:,} positions"}.get(CASES[name].over, "")
            memory = "".join(f", {kind} {size / 1e9:.2f} GB" for kind, size in record.memory.items() if size)
            print(
                f"round {turn + 1}, {field.side} x {field.side}, {name}{size}: {record.seconds:.1f} s, "
                f"CPU {record.cpu:.1f} s{memory}",
                flush=True,
            )
    print(f"\n{show([measured])}")


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    arguments = build_parser().parse_args(words)
    # So that a benchmark that is ended ends what it runs.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if arguments.command == "make":
            make(arguments)
        elif arguments.command == "run":
            run(arguments)
        elif arguments.command == "show":
            print(show(read_runs(arguments.results), arguments.tables))
        else:
            for name, case in CASES.items():
                print(f"{name:14} {case.title.format(n='N')}")
    except PhotplugError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark: interrupted; what was measured before is kept", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
