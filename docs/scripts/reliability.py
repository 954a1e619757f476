"""Write docs/reliability.md: what became of bad files, killed runs and bad plugins, as seen when this ran.

    python docs/scripts/reliability.py [--inputs COUNT] [--commands COUNT] [--kills COUNT] [--minutes MINUTES]

In full it takes about two hours. Parts that were run before, by `python -m tests.fuzz.campaign -o FILE` and so on, are
taken from their files. `--before PYTHON`, of an environment with the code as it was before, writes what that does with
the examples to `reliability_before.json`, from which the page has it.
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
BEFORE = Path(__file__).with_name("reliability_before.json")

INTRODUCTION = """# Reliability

Bad input is refused in one line, in bounded time and memory; outputs are there whole, and all of a run, or not at all;
what a killed run left is removed, or finished, by the next one that writes in the same folder. This page is made by
`docs/scripts/reliability.py`, which runs what it tells; `tests/fuzz` has the same in a reduced form among the tests.

## Outputs

No output may be an input of its run, a member of a mosaic that it reads or the name of one, or another output, also
with `--overwrite`. Links are followed, of inputs and outputs, and those in a circle refused. All outputs are written in
a hidden folder, `.dja-photplug-...`, beside their places and moved at the end: old ones go before the first new one
comes, so that at no time some are beside some of the others. A run that is killed meanwhile leaves a journal there, and
the next one finishes what was begun and says so.
Folders of runs that live are locked, and stay. They are safe against the end of a process, not against a loss of power,
for which files are not forced to the disk.

Ctrl-C ends a run with status 130, SIGTERM with 143 and SIGHUP with 129; all wait for the short time in which files are
moved or a process starts. A worker that is lost is replaced once. Pipes and devices are neither read nor written.
"""


SUPPLY = [
    "\n## Lowest versions, and other interpreters\n",
    "With the lowest versions that `pyproject.toml` declares 33 of 709 tests of `tests/files`, `catalog` and `epochs`",
    "failed before. `.ci/run` installs them now, runs these and those of `tests/readers`, and fails where one does.",
    "There what libraries warn of is no error, as it is none for users. With newer interpreters, where there are any,",
    "it installs the package, and sees that it finds its plugins.",
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
    before = json.loads(BEFORE.read_text())
    lines = [INTRODUCTION, "## Examples\n"]
    lines += ["By number of the list that this was built from; with the exit status, and what is said. Before is what"]
    lines += ["the code of 2026-11-26 does with the same (revision f342c56, in an environment of its own).\n"]
    lines += ["| | given | before | now |", "| --- | --- | --- | --- |"]
    for case in sorted(CASES, key=lambda each: each.part):
        name = f"{case.part} {case.given}"
        lines.append(f"| {case.part} | {case.given} | {before.get(name, '')} | {after[name]} |")
    lines += SUPPLY
    lines += ["\n## Mutated files, read by functions\n", *format_findings("reader", readers)]
    text = "A fault is an exception that is not `PhotplugError`, 20 s of a processor, or 1 GB."
    more = "It is a traceback, a second line or a file that is left, too."
    lines += ["\n## Mutated files and words of commands\n", *format_findings("command", commands), f"\n{text} {more}"]
    lines += ["\n## Fuzzers\n", "| what | by | inputs | seconds | faults |", "| --- " * 5 + "|"]
    for name, done in fuzzed.items():
        lines.append(f"| {name} | {done.by} | {done.inputs} | {done.seconds:.0f} | {int(bool(done.fault))} |")
    lines += ["\n## Killed runs\n", "| what | runs |", "| --- | --- |"]
    words = {
        "kills": "killed before their end by SIGKILL, SIGTERM or SIGINT, or robbed of a worker",
        "finished": "finished all the same: a lost worker was replaced, or files were being moved",
        "partial": "left part of a file under its name",
        "mixed": "left files of two runs beside each other",
        "orphans": "left a process after 5 s",
        "leftovers": "left a file after the next run began",
    }
    lines += [f"| {text} | {getattr(kills, name)} |" for name, text in words.items()]
    lines += ["\n## Bad plugins\n"]
    lines += [f"{plugins} plugins that give, raise or change what they should not: each is named, with its hook.\n"]
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
    parser.add_argument("--before", metavar="PYTHON", help="of an environment with the code as it was before")
    parser.add_argument("--now", type=Path, metavar="FILE", help="what the examples gave, as --before writes it")
    parser.add_argument("--readers", type=Path, nargs="*", help="of tests.fuzz.campaign -o, instead of running it")
    parser.add_argument("--commanded", type=Path, nargs="*", help="of tests.fuzz.campaign --commands -o")
    parser.add_argument("--fuzzed", type=Path, nargs="*", help="of tests.fuzz.fuzz -o")
    parser.add_argument("--killed", type=Path, help="of tests.fuzz.kills -o")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.before:
        BEFORE.write_text(json.dumps(run_cases(arguments.before), indent=1, ensure_ascii=False) + "\n")
    after = json.loads(arguments.now.read_text()) if arguments.now else run_cases(sys.executable)
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
