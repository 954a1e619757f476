"""Files that are not there, or not what they should be."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
KIND = "Files"


def cut_short(folder: Path) -> None:
    """Cut a file in two, as a broken transfer does."""
    path = folder / f"{PREFIX}_drc_sci.fits.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(folder: Path) -> None:
    """Leave nothing of the weight."""
    with gzip.open(folder / f"{PREFIX}_drc_wht.fits.gz", "wb"):
        pass


CASES = (
    Case(
        kind=KIND,
        given="a mosaic whose transfer broke off",
        command=f"catalog {PREFIX} -o cat.fits",
        outcome="refused",
        says=("_sci.fits.gz",),
        prepare=cut_short,
    ),
    Case(
        kind=KIND,
        given="an empty weight",
        command=f"catalog {PREFIX} -o cat.fits",
        outcome="refused",
        says=("_wht.fits.gz",),
        prepare=empty,
    ),
    Case(
        kind=KIND,
        given="no weight",
        command=f"catalog {PREFIX} -o cat.fits",
        outcome="refused",
        says=("wht",),
        prepare=lambda folder: (folder / f"{PREFIX}_drc_wht.fits.gz").unlink(),
    ),
    Case(
        kind=KIND,
        given="an output with a suffix that no format has",
        command=f"catalog {PREFIX} -o cat.xyz",
        outcome="refused",
        says=("cat.xyz", ".fits"),
    ),
)
