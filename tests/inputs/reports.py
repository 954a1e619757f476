"""Reports: catalogues without metadata or images, and files that are none of theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.table import Table

from tests.inputs.cases import Case
from tests.inputs.catalogues import PREFIX, prepare

__all__ = ["CASES"]

KIND = {"kind": "Reports"}
REPORT = "report cat.fits -o out.html"


def move(table: Table) -> None:
    """Let the metadata name a folder that is not there."""
    table.meta["INPUT"] = f"elsewhere/{PREFIX}"


def forget(table: Table) -> Table:
    """Keep positions and ids that are names."""
    table["id"] = np.array(["a", "b", "c", "d", "e", "f"])
    table.meta.clear()
    return table["id", "ra", "dec"]


def holds(text: str, count: int = 1) -> Callable[[Path], None]:
    """Return what asserts that the page has a text so many times."""

    def check(folder: Path) -> None:
        assert (folder / "out.html").read_text("utf-8").count(text) == count

    return check


def has_images(folder: Path) -> None:
    """Assert that the page has stamps, and does not say that it has none."""
    holds('id="stamps"')(folder)
    holds("no images", 0)(folder)


CASES = (
    Case(
        **KIND,
        given="mosaics that are not where the metadata say",
        command=REPORT,
        outcome="warned",
        says=(f"has no images: elsewhere/{PREFIX}", "--mosaics names another folder"),
        prepare=prepare(move),
        check=holds('id="stamps"', 0),
    ),
    Case(
        **KIND,
        given="mosaics that have moved, with their folder",
        command=f"{REPORT} --mosaics . --segmentation seg.fits",
        outcome="obeyed",
        prepare=prepare(move),
        check=holds('id="stamps"'),
    ),
    Case(
        **KIND,
        given="no metadata, and names for ids",
        command=REPORT,
        outcome="warned",
        says=(
            "no bands and no mosaics",
            "it has no images: --mosaics names the folder",
            "here they are numbered from 1",
        ),
        prepare=prepare(forget),
    ),
    Case(
        **KIND,
        given="no metadata, and the folder of its mosaics",
        command=f"{REPORT} --mosaics .",
        outcome="warned",
        says=("its metadata name no bands and no mosaics: no a(r) and provenance",),
        prepare=prepare(forget),
        check=has_images,
    ),
    Case(
        **KIND,
        given="a folder without mosaics",
        command=f"{REPORT} --mosaics nowhere",
        outcome="refused",
        says=("--mosaics nowhere: holds no mosaics",),
        prepare=prepare(),
    ),
    Case(
        **KIND,
        given="another suffix",
        command="report cat.fits -o out.png",
        outcome="refused",
        says=("the suffix must be one of .html",),
        prepare=prepare(),
    ),
    Case(
        **KIND,
        given="a completeness that is another table",
        command=f"{REPORT} --completeness cat.fits",
        outcome="refused",
        says=("has no column mag; give the table that `inject -o` wrote",),
        prepare=prepare(),
    ),
)
