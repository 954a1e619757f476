"""docs/inputs.md has the rows of tests/inputs; that what it says happens is what happens is tested there."""

from __future__ import annotations

from tempfile import gettempdir

import pytest

from tests.inputs.cases import read_page
from tests.inputs.test_inputs import CASES, PAGE


def test_page_has_the_rows_of_the_tests():
    rows = {(case.kind, case.given): case.typed for case in CASES}
    assert len(rows) == len(CASES), "two rows of a kind are given the same"
    shown = {row: command for row, (command, _) in read_page(PAGE).items()}
    assert shown == rows, "run docs/scripts/inputs.py"


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES}))
def test_page_says_what_each_row_promises(kind):
    shown = read_page(PAGE)
    for case in (case for case in CASES if case.kind == kind):
        _, happens = shown[case.kind, case.given]
        assert happens.partition(":")[0] == case.outcome
        if case.outcome == "refused":
            assert [words for words in case.says if words not in happens] == []


def test_page_shows_no_folder_of_a_run():
    text = PAGE.read_text(encoding="utf-8")
    assert gettempdir() not in text
    assert "row-" not in text
