"""Every input is obeyed, or refused in one line."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.inputs.cases import Case, describe_outcome, find_faults, outline, read_page, run_case

# Modules beside this one, each with CASES: a tuple of Case.
KINDS = (
    "catalogues",
    "defaults",
    "files",
    "geometry",
    "headers",
    "injection",
    "messages",
    "options",
    "outputs",
    "pixels",
    "psfmaking",
    "psfs",
    "reports",
    "schemas",
    "segments",
    "servers",
    "surveys",
    "tables",
)
CASES: list[Case] = [case for kind in KINDS for case in importlib.import_module(f"tests.inputs.{kind}").CASES]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inputs.md"
SHOWN = read_page(PAGE)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind}: {case.given}" for case in CASES])
def test_input(folder, case):
    if case.prepare:
        case.prepare(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    status, err = run_case(case)
    assert find_faults(case, status, err) == [], err
    if case.outcome == "refused":
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "something was written"
    if case.check:
        case.check(folder)
    _, happens = SHOWN.get((case.kind, case.given), (None, None))
    # Rows that the page does not have yet are those of tests/docs/test_inputs_page.py.
    assert happens is None or outline(happens) == outline(describe_outcome(case, err)), "run docs/scripts/inputs.py"


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES}))
def test_kinds_have_four_members(kind):
    assert sum(case.kind == kind for case in CASES) >= 4
