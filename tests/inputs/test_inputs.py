"""Every input is obeyed, or refused in one line."""

from __future__ import annotations

import importlib

import pytest

from dja_photplug.cli.app import main
from tests.inputs.cases import Case, find_faults

# Modules beside this one, each with CASES: a tuple of Case.
KINDS = ("files", "catalogues", "tables", "injection")
CASES: list[Case] = [case for kind in KINDS for case in importlib.import_module(f"tests.inputs.{kind}").CASES]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind}: {case.given}" for case in CASES])
def test_input(folder, capsys, case):
    if case.prepare:
        case.prepare(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    status = main(case.arguments)
    captured = capsys.readouterr()
    assert find_faults(case, status, captured.err) == [], captured.err
    if case.outcome == "refused":
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "something was written"
    if case.check:
        case.check(folder)


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES}))
def test_kinds_have_four_members(kind):
    assert sum(case.kind == kind for case in CASES) >= 4
