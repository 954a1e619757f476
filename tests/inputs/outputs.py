"""Outputs that are inputs, or each other, or no files."""

from __future__ import annotations

import os
from pathlib import Path

from astropy.table import Table

from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
KIND = "Outputs"
EXTEND = "--noise dja --columns aper --apertures 0.5"


def link_weight(folder: Path) -> None:
    """Link to a member."""
    (folder / "out.fits.gz").symlink_to(f"{PREFIX}_drc_wht.fits.gz")


def write_places(folder: Path) -> None:
    """Write a catalogue of one position."""
    Table({"id": [1], "ra": [34.4], "dec": [-5.1]}).write(folder / "cat.ecsv")


def refused(given: str, command: str, *says: str, prepare=None) -> Case:
    return Case(kind=KIND, given=given, command=command, outcome="refused", says=says, prepare=prepare)


CASES = (
    refused(
        "a member of the mosaic",
        f"weight {PREFIX} -o {PREFIX}_drc_wht.fits.gz --overwrite",
        "is a member of",
        "name another output",
    ),
    refused("a link to a member", f"weight {PREFIX} -o out.fits.gz --overwrite", "is a member of", prepare=link_weight),
    refused(
        "the name of a member that is not there",
        f"weight {PREFIX} -o {PREFIX}_drc_var.fits",
        "the next run would take it for a file of",
    ),
    refused(
        "the input catalogue",
        f"extend cat.ecsv {PREFIX} {EXTEND} -o ./cat.ecsv --overwrite",
        "which this run reads",
        prepare=write_places,
    ),
    refused(
        "the catalogue of epochs",
        f"epochs {PREFIX}_wcs.csv --catalog cat.ecsv -o cat.ecsv --overwrite",
        "which this run reads",
        prepare=write_places,
    ),
    refused(
        "the log",
        f"epochs {PREFIX}_wcs.csv --catalog cat.ecsv -o {PREFIX}_wcs.csv --overwrite",
        "which this run reads",
        prepare=write_places,
    ),
    refused(
        "two outputs that are one",
        f"catalog {PREFIX} -o cat.fits --segmentation ./cat.fits",
        "two outputs have the same name",
    ),
    refused(
        "a pipe",
        f"weight {PREFIX} -o out.fits --overwrite",
        "is a device or a pipe",
        prepare=lambda folder: os.mkfifo(folder / "out.fits"),
    ),
    refused("a name of 300 characters", f"weight {PREFIX} -o {'x' * 300}.fits", "cannot be written", "too long"),
)
