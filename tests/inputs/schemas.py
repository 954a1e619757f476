"""Catalogues of others and the formats that they are in: what is recognised, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.table import Table

from dja_photplug.catalog.flags import SourceFlag
from tests.inputs.cases import Case, Outcome
from tests.inputs.catalogues import BAND, EXTEND, GALFIT, PREFIX, corrected, exist, make_catalogue, measured, prepare

__all__ = ["CASES"]

SCHEMA = {"kind": "Catalogues of others"}
FORMAT = {"kind": "Formats of catalogues"}
KRON = f"{PREFIX} --noise dja --columns auto"


def sep_names(table: Table, *, upper: bool = False, scale: bool = True) -> Table:
    """Return the catalogue as grizli writes it: pixels of 40 mas, radians, unscaled by nothing."""
    theirs = Table({"id": table["id"], "ra": table["ra"], "dec": table["dec"]})
    theirs["a_image"], theirs["b_image"] = table["a"] / 0.04, table["a"] / 0.04  # round: without a direction
    for name in ("a_image", "b_image"):
        theirs[name].unit = None
    theirs["theta_image"] = np.radians(np.asarray(table["theta"]))
    theirs["kron_radius"], theirs["kron_rcirc"] = 10.0, 22.0
    theirs.meta |= {"ASEC_0": 0.5, "APER_0": 12.5} if scale else {}
    return theirs


def to_grizli(table: Table) -> Table:
    return sep_names(table)


def without_scale(table: Table) -> Table:
    return sep_names(table, scale=False)


def two_kinds(table: Table) -> Table:
    theirs = Table({"NUMBER": table["id"], "ALPHA_J2000": table["ra"], "DELTA_J2000": table["dec"]})
    for name in ("semimajor_sigma", "semiminor_sigma", "orientation", "segment_flux"):
        theirs[name] = 1.0
    return theirs


def upper_case(table: Table) -> None:
    for name in table.colnames:
        table.rename_column(name, name.upper())


def circles(wanted: bool) -> Callable[[Path], None]:
    """Return what asserts whether the Kron apertures are the smallest circle."""

    def check(folder: Path) -> None:
        flag = np.asarray(Table.read(folder / "out.ecsv")[f"{BAND}_flag"])
        assert (((flag & SourceFlag.KRON_CIRCLE) > 0) == wanted).all()

    return check


def row(given: str, outcome: Outcome, change: Callable[[Table], Table | None], **more: object) -> Case:
    command = str(more.pop("command", f"extend cat.ecsv {KRON} -o out.ecsv"))
    name = "cat.fits" if "cat.fits" in command else "cat.ecsv"
    return Case(**SCHEMA, given=given, outcome=outcome, command=command, prepare=prepare(change, name), **more)


def write_text(name: str, make: Callable[[Table], str | bytes]) -> Callable[[Path], None]:
    """Return what writes positions and ids in a format of its own."""

    def write(folder: Path) -> None:
        content = make(make_catalogue(folder)["id", "ra", "dec"])
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def lines(table: Table, head: str, separator: str = " ") -> str:
    return "".join([head, *(separator.join(map(str, row)) + "\n" for row in table)])


def of_sextractor(table: Table) -> str:
    names = ("NUMBER", "ALPHA_J2000", "DELTA_J2000")
    return lines(table, "".join(f"# {i} {name} Of somebody [deg]\n" for i, name in enumerate(names, start=1)))


def of_eazy(table: Table) -> str:
    return lines(table, "# id ra dec\n# fluxes, if there were any, in uJy\n")


def of_tabs(table: Table) -> str:
    return lines(table, "id\tra\tdec\n", "\t")


def linked(table: Table) -> str:
    field = '<FIELD name="ra" datatype="double" unit="deg"/>'
    stream = '<STREAM href="http://localhost/rows" encoding="base64"/>'
    return (
        f'<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE><TABLE>{field}'
        f"<DATA><BINARY2>{stream}</BINARY2></DATA></TABLE></RESOURCE></VOTABLE>"
    )


def text(given: str, name: str, make: Callable[[Table], str | bytes], **more: object) -> Case:
    outcome: Outcome = "refused" if "says" in more else "obeyed"
    more.setdefault("command", f"extend {name} {EXTEND} -o out.ecsv")
    if outcome == "obeyed":
        more.setdefault("check", measured())
    return Case(**FORMAT, given=given, outcome=outcome, prepare=write_text(name, make), **more)


CASES = (
    row("sizes in pixels, and metadata that tell their scale", "obeyed", to_grizli, check=circles(False)),
    row(
        "weights to be rescaled where nothing is detected",
        "refused",
        to_grizli,
        command=f"extend cat.ecsv {KRON} --rescale-weights yes -o out.ecsv",
        says=("so nothing is detected; leave out --detect, --stack and --rescale-weights",),
    ),
    row(
        "sizes in pixels of an unknown scale",
        "warned",
        without_scale,
        says=("a_image and b_image are in pixels of an unknown scale", "--like"),
        check=circles(True),
    ),
    row(
        "sizes in pixels, and an image that has these",
        "obeyed",
        without_scale,
        command=f"extend cat.ecsv {KRON} --like {PREFIX}_drc_sci.fits.gz -o out.ecsv",
        check=circles(False),
    ),
    row(
        "stamps of sizes in pixels of an unknown scale",
        "refused",
        lambda table: (theirs := without_scale(table)).add_column(1.0, name="flux_auto") or theirs,
        command=GALFIT.replace("cat.fits", "cat.ecsv"),
        says=("pixels of an unknown scale, but stamps need shapes",),
    ),
    row("columns in capitals", "obeyed", upper_case, command=f"extend cat.ecsv {EXTEND} -o out.ecsv", check=corrected),
    row(
        "stamps of a catalogue in capitals",
        "obeyed",
        upper_case,
        command=f"{GALFIT} --id 1",
        check=exist("stamps/1.feedme"),
    ),
    row(
        "columns of two kinds of catalogues",
        "refused",
        two_kinds,
        says=("the columns of sextractor and photutils", "--schema"),
    ),
    row(
        "columns of two kinds of catalogues, one of which is named",
        "obeyed",
        two_kinds,
        command=f"extend cat.ecsv {KRON} --schema plain -o out.ecsv",
    ),
    row(
        "a kind that it is not",
        "refused",
        lambda table: None,
        command=f"extend cat.ecsv {KRON} --schema sextractor -o out.ecsv",
        says=("cat.ecsv: option schema: the catalogue is not one of sextractor",),
    ),
    row(
        "a kind that there is not",
        "refused",
        lambda table: None,
        command=f"extend cat.ecsv {KRON} --schema sextracter -o out.ecsv",
        says=("'sextracter' is not one of", "mean sextractor"),
    ),
    row(
        "a table that is not there, by its flag",
        "refused",
        lambda table: None,
        command=f"extend cat.fits {KRON} --hdu SOURCES -o out.ecsv",
        says=("cat.fits[SOURCES]", "HDU SOURCES is none of its tables"),
    ),
    row(
        "a table of a format of one table",
        "refused",
        lambda table: None,
        command=f"epochs {PREFIX} --catalog cat.ecsv --hdu 1 -o out.ecsv",
        says=("cat.ecsv holds only one table", "leave out --hdu"),
    ),
    text("SExtractor's text", "test.cat", of_sextractor),
    text("a line of names behind #, and another remark", "test.dat", of_eazy),
    text("tabs between cells, as .tsv", "test.tsv", of_tabs),
    text(
        "a VOTable whose rows are elsewhere",
        "test.vot",
        linked,
        says=("its rows are at http://localhost/rows, which is not opened",),
    ),
    text("a suffix of no catalogue", "test.doc", of_eazy, says=("test.doc: catalogues are read from .fits",)),
    text(
        "an image as a catalogue",
        "test.txt",
        lambda table: b"",
        command=f"extend {PREFIX}_drc_sci.fits.gz {EXTEND} -o out.ecsv",
        says=("it holds no table",),
    ),
)
