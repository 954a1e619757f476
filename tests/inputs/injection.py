"""Injected sources that cannot tell a limit of completeness, or not where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from astropy.table import QTable

from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
KIND = "Injected sources and their limits"
INJECT = f"inject {PREFIX} -o bins.ecsv --limits limits.ecsv --noise dja --workers 1 --bin-width 1"


def says_why(words: str, levels: int) -> Callable[[Path], None]:
    """Return a check that so many limits of the mosaic are not known, for this reason, and have no card."""

    def check(folder: Path) -> None:
        limits = QTable.read(folder / "limits.ecsv")
        whole = limits[(limits["sources"] == "all") & (limits["zone"] == 0)]
        notes = [note for note in whole["note"] if words in note]
        assert len(notes) == levels, list(whole["note"])
        cards = QTable.read(folder / "bins.ecsv").meta
        assert sum(f"MAG{level}" in cards for level in (50, 80, 90)) <= 3 - levels

    return check


CASES = (
    Case(
        kind=KIND,
        given="magnitudes that end before any source is lost",
        command=f"{INJECT} --realisations 2 --magnitudes 21,24",
        outcome="obeyed",
        check=says_why("fainter than 24 mag, the faintest injected", 2),
    ),
    Case(
        kind=KIND,
        given="magnitudes that begin where most sources are lost",
        command=f"{INJECT} --realisations 6 --magnitudes 28,31",
        outcome="obeyed",
        check=says_why("at 28 mag, the brightest injected", 2),
    ),
    Case(
        kind=KIND,
        given="magnitudes at which nothing is found",
        command=f"{INJECT} --realisations 1 --magnitudes 34,36",
        outcome="refused",
        says=("none of", "34 to 36 mag was recovered", "inject brighter ones (magnitudes)"),
    ),
    Case(
        kind=KIND,
        given="a handful of sources",
        command=f"{INJECT} --realisations 1 --magnitudes 24,31 --separation 8",
        outcome="obeyed",
        check=says_why("too little", 3),
    ),
    Case(
        kind=KIND,
        given="magnitudes from faint to bright",
        command=f"{INJECT} --magnitudes 31,24",
        outcome="refused",
        says=("option magnitudes", "not a smaller and a larger value"),
    ),
    Case(
        kind=KIND,
        given="limits and curves in one file",
        command=f"{INJECT} --realisations 1 --curves limits.ecsv",
        outcome="refused",
        says=("limits.ecsv",),
    ),
)
