"""Write docs/reliability.md: what became of bad files, killed runs and bad plugins, as seen when this ran.

    python docs/scripts/reliability.py [--inputs COUNT] [--commands COUNT] [--kills COUNT] [--minutes MINUTES]

In full it takes about two hours. Parts that were run before, by `python -m tests.fuzz.campaign -o FILE` and so on, are
taken from their files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reliability_cases import CASES, run_case  # noqa: E402

from tests.fuzz.apart import Findings, from_json  # noqa: E402
from tests.fuzz.campaign import run_campaign  # noqa: E402
from tests.fuzz.fuzz import Fuzzed, run_fuzzers  # noqa: E402
from tests.fuzz.kills import Kills, run_kills  # noqa: E402
from tests.helpers import simulate_isolated  # noqa: E402
from tests.plugins.test_checks import BAD, EXPECTED, RAISED  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"

PARTS = {
    "1": "servers",
    "2": "servers",
    "3": "outputs",
    "4": "killed runs",
    "5": "damaged files",
    "6": "plugins",
    "7": "files and terminals",
    "8": "release",
}
"""What each part of the examples is about."""

INTRODUCTION = """# Reliability

What you can rely on: bad input is refused in one line, in bounded time and memory. Outputs are there whole, and all
those of a run, or not at all. What a killed run left is removed, or finished, by the next run that writes in the same
folder. The tables below are made by `docs/scripts/reliability.py`, which runs all of it; `tests/fuzz` runs a smaller
version.

## Outputs

- **Names.** No output may be an input of its run, a member of a mosaic that it reads or the name of one, or another
  output, also with `--overwrite`. Links are followed; links in a circle are refused. Pipes and devices are neither
  read nor written.
- **Writing.** All outputs are written in a hidden folder, `.dja-photplug-...`, beside their places, and moved at the
  end. Old ones go before the first new one comes, so that outputs of two runs are never beside each other.
- **Killed runs.** A run that is killed while it moves files leaves a journal there. The next run finishes the move,
  and says so. Folders of live runs are locked, and stay. This protects against the end of a process, but not against a
  loss of power: files are not forced to the disk.
- **Signals.** Ctrl-C ends a run with status 130, SIGTERM with 143 and SIGHUP with 129. All wait for the short time in
  which files are moved or a process starts.
- **Workers.** A lost worker is replaced once.
"""


SUPPLY = [
    "\n## Lowest versions, and other interpreters\n",
    "`.ci/run` installs the lowest versions that `pyproject.toml` declares, runs the tests of `tests/files`,",
    "`catalog`, `epochs` and `readers` with them, and fails if one does. Warnings of libraries are no errors there,",
    "as they are none for users. With newer interpreters, if there are any, it installs the package, and checks",
    "that it finds its plugins.",
]


def format_findings(heads: str, findings: dict[str, Findings]) -> list[str]:
    """Return a table of what became of inputs."""
    lines = [f"| {heads} | inputs | refused | longest (s) | most memory (MB) | faults |", "| --- " * 6 + "|"]
    for name, found in findings.items():
        size = f"{found.seconds:.1f} | {found.memory / 1e6:.0f}"
        lines.append(f"| {name} | {found.inputs} | {found.refused} | {size} | {len(found.faults)} |")
    total = sum(found.inputs for found in findings.values())
    return [*lines, f"| all | {total} | | | | {sum(len(found.faults) for found in findings.values())} |"]


def format_page(
    after: dict[str, str],
    readers: dict[str, Findings],
    commands: dict[str, Findings],
    fuzzed: dict[str, Fuzzed],
    kills: Kills,
    plugins: int,
) -> str:
    """Return the page."""
    lines = [INTRODUCTION, "## Examples\n"]
    lines += ["The exit status, and the last line on stderr.\n"]
    lines += ["| about | given | what happens |", "| --- | --- | --- |"]
    for case in sorted(CASES, key=lambda each: each.part):
        lines.append(f"| {PARTS[case.part]} | {case.given} | {after[f'{case.part} {case.given}']} |")
    lines += SUPPLY
    lines += ["\n## Mutated files, read by functions\n", *format_findings("reader", readers)]
    text = "A fault is an exception that is not `PhotplugError`, a traceback, a second line, a file that is left, 20 s"
    more = "of a processor, or 1 GB."
    lines += ["\n## Mutated files and words of commands\n", *format_findings("command", commands), f"\n{text}\n{more}"]
    lines += ["\n## Fuzzers\n", "| what | by | inputs | seconds | faults |", "| --- " * 5 + "|"]
    for name, done in fuzzed.items():
        lines.append(f"| {name} | {done.by} | {done.inputs} | {done.seconds:.0f} | {int(bool(done.fault))} |")
    lines += ["\n## Killed runs\n", "| what | runs |", "| --- | --- |"]
    words = {
        "kills": "killed before their end by SIGKILL, SIGTERM or SIGINT, or robbed of a worker",
        "finished": "finished nevertheless: a lost worker was replaced, or files were being moved",
        "partial": "left part of a file under its name",
        "mixed": "left files of two runs beside each other",
        "orphans": "left a process after 5 s",
        "leftovers": "left a file after the next run began",
    }
    lines += [f"| {text} | {getattr(kills, name)} |" for name, text in words.items()]
    lines += ["\n## Bad plugins\n"]
    lines += [
        f"{plugins} plugins give, raise or change what they should not: each is named in the message, with its hook.\n"
    ]
    return "\n".join(lines)


def run_cases(python: str) -> dict[str, str]:
    """Return what the code of an environment makes of the examples."""
    with TemporaryDirectory() as place:
        prefix = simulate_isolated(Path(place)).prefix
        return {f"{case.part} {case.given}": run_case(case, prefix, python) for case in CASES}


def read_findings(paths: list[Path]) -> dict[str, Findings]:
    """Return those of several files."""
    found: dict[str, Findings] = {}
    for path in paths:
        found |= from_json(path.read_text())
    return found


def main() -> None:
    """Run all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="of each reader")
    parser.add_argument("--commands", type=int, default=60, help="inputs of each command")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each fuzzer")
    parser.add_argument("--examples", type=Path, metavar="FILE", help="JSON of what each gave, instead of running them")
    parser.add_argument("--readers", type=Path, nargs="*", help="of tests.fuzz.campaign -o, instead of running it")
    parser.add_argument("--commanded", type=Path, nargs="*", help="of tests.fuzz.campaign --commands -o")
    parser.add_argument("--fuzzed", type=Path, nargs="*", help="of tests.fuzz.fuzz -o")
    parser.add_argument("--killed", type=Path, help="of tests.fuzz.kills -o")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    after = json.loads(arguments.examples.read_text()) if arguments.examples else run_cases(sys.executable)
    readers = read_findings(arguments.readers or []) or run_campaign([], arguments.inputs, 1, commands=False)
    commands = read_findings(arguments.commanded or []) or run_campaign([], arguments.commands, 1, commands=True)
    fuzzed = {
        name: Fuzzed(**values)
        for path in arguments.fuzzed or ()
        for name, values in json.loads(path.read_text()).items()
    }
    if not fuzzed:
        with TemporaryDirectory() as place:
            fuzzed = run_fuzzers(60 * arguments.minutes, 1, Path(place))
    killed = arguments.killed
    kills = run_kills(arguments.kills, 1) if killed is None else Kills(**json.loads(killed.read_text()))
    checks = ROOT / "tests" / "plugins" / "test_checks.py"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-n0", str(checks)], check=True, cwd=ROOT)
    plugins = len(BAD) + len(EXPECTED) * len(RAISED)
    PAGE.write_text(format_page(after, readers, commands, fuzzed, kills, plugins), encoding="utf-8")


if __name__ == "__main__":
    main()
