"""Write docs/inputs.md: what happens to each input of tests/inputs, as it is seen when its command runs.

Run it after changing one of these, or a message: python docs/scripts/inputs.py. It takes about a minute.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.helpers import copy_products, simulate_isolated  # noqa: E402
from tests.inputs.cases import Case, describe_outcome, find_faults, run_case  # noqa: E402
from tests.inputs.test_inputs import CASES, PAGE  # noqa: E402

INTRODUCTION = """# Inputs

Search this page for an error message or an unusual file, to see what happens and why. Every input is obeyed, or
refused in one line on stderr that says what was asked, what was found and what to do. If something about an obeyed
input is odd, one line warns of it. Refused inputs write nothing. A wrong command line ends with status 2, other bad
input with 1.

Each row is a command, without the name of the program, in the folder of a simulated mosaic,
`sim-test-v7.4-f444w-clear`, and what happened. The page is made by `docs/scripts/inputs.py` from the tests in
`tests/inputs`.
"""


@contextmanager
def working_directory(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_rows(cases: list[Case]) -> list[tuple[Case, str]]:
    """Return each case with what happened to it."""
    rows = []
    with TemporaryDirectory() as place:
        mosaic = simulate_isolated(Path(place, "mosaic"))
        for number, case in enumerate(cases):
            folder = Path(place, f"row-{number}").resolve()
            folder.mkdir()
            copy_products(mosaic.prefix, folder)
            with working_directory(folder):
                if case.prepare:
                    case.prepare(folder)
                status, err = run_case(case)
                if faults := find_faults(case, status, err):
                    raise SystemExit(f"{case.kind}: {case.given}: {', '.join(faults)}; {err}")
                rows.append((case, describe_outcome(case, err)))
    return rows


def format_cell(text: str) -> str:
    """Return text of a cell; what is said stands as it is, in code."""
    outcome, colon, said = text.partition(": ")
    ticks = "``" if "`" in said else "`"
    shown = f"{outcome}: {ticks}{said}{ticks}" if colon else outcome
    return shown.replace("|", "\\|")


def format_page(rows: list[tuple[Case, str]]) -> str:
    """Return the page, with a table for each kind."""
    parts = [INTRODUCTION]
    for kind, members in groupby(sorted(rows, key=lambda row: row[0].kind), key=lambda row: row[0].kind):
        lines = ["| given | command | what happens |", "| --- | --- | --- |"]
        for case, happens in members:
            command = case.typed.replace("|", "\\|")
            lines.append(f"| {case.given} | `{command}` | {format_cell(happens)} |")
        parts.append("\n".join([f"## {kind}\n", *lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(format_page(run_rows(CASES)), encoding="utf-8")
