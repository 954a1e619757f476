"""Catalogues of others: where their sources are, what they are called, and in which units."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from astropy.units import UnitsWarning

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.files.pixels import read_grid
from tests.inputs.cases import Case

__all__ = ["CASES", "PREFIX", "make_catalogue", "prepare"]

PREFIX = "sim-test-v7.4-f444w-clear"
BAND = "f444w"
X, Y = np.array([60.0, 160, 260, 360, 460, 200]), np.array([80.0, 180, 280, 120, 320, 60])
EXTEND = f"{PREFIX} --noise dja --columns aper --apertures 0.5"
GALFIT = f"galfit {PREFIX} --catalog cat.fits --noise dja --size 3 -o stamps"
FLUX = f"{BAND}_flux_aper_0"
Change = Callable[[Table], Table | None]


def make_catalogue(folder: Path) -> Table:
    """Return six places on the mosaic with all that stamps and totals need."""
    wcs = read_grid(folder / f"{PREFIX}_drc_sci.fits.gz").wcs
    ra, dec = wcs.pixel_to_world_values(X, Y)
    table = Table({"id": np.arange(1, 7), "ra": Column(ra, unit="deg"), "dec": Column(dec, unit="deg")})
    for name, value, unit in (("a", 0.1, "arcsec"), ("b", 0.08, "arcsec"), ("theta", 30.0, "deg")):
        table[name] = Column(np.full(6, value), unit=unit)
    table["kron_radius"] = 3.0
    table["flux_radius"] = Column(np.full(6, 0.1), unit="arcsec")
    table["flux_auto"] = Column(np.full(6, 2.0), unit="uJy")
    table["flux_aper_0"] = Column(np.full(6, 1.0), unit="uJy")
    table.meta |= {"ASEC_0": 0.5, "INPUT": PREFIX}  # which tells the grid of theta
    return table


def prepare(change: Change = lambda table: None, name: str = "cat.fits") -> Callable[[Path], None]:
    """Return what writes the catalogue, changed, and the segmentation of its sources."""

    def write(folder: Path) -> None:
        table = make_catalogue(folder)
        ids = np.arange(1, 7)
        changed = change(table)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnitsWarning)  # units of somebody, on purpose
            (table if changed is None else changed).write(folder / name)
        grid = read_grid(folder / f"{PREFIX}_drc_sci.fits.gz")
        labels = np.zeros(grid.shape, np.int32)
        for number, x, y in zip(ids, X.astype(int), Y.astype(int), strict=True):
            labels[y - 4 : y + 5, x - 4 : x + 5] = number
        fits.writeto(folder / "seg.fits", labels, grid.wcs.to_header())

    return write


def change_column(name: str, value: object, row: int | slice = 2) -> Change:
    """Return what sets cells of a column."""

    def change(table: Table) -> None:
        table[name][row] = value

    return change


def set_column(**columns: Callable[[Table], object]) -> Change:
    """Return what replaces columns."""

    def change(table: Table) -> None:
        for name, make in columns.items():
            table[name] = make(table)

    return change


def rename(**names: str) -> Change:
    """Return what renames columns."""

    def change(table: Table) -> None:
        for name, to in names.items():
            table.rename_column(name, to)

    return change


def spelt(name: str, unit: str, factor: float = 1) -> Change:
    """Return what gives a column in another unit, as somebody spells it."""

    def change(table: Table) -> None:
        table[name] = Column(np.asarray(table[name]) * factor, unit=u.Unit(unit, parse_strict="silent"))

    return change


def measured(*bad: int, name: str = FLUX, path: str = "out.ecsv") -> Callable[[Path], None]:
    """Return what asserts that all rows but those are measured, and those flagged."""

    def check(folder: Path) -> None:
        table = Table.read(folder / path)
        off = np.isin(np.arange(len(table)), bad)
        assert len(table) == 6
        np.testing.assert_array_equal(np.isnan(np.ma.filled(table[name], np.nan)), off)
        flag = np.asarray(table[f"{BAND}_flag_aper_0"])
        np.testing.assert_array_equal((flag & SourceFlag.NOT_COVERED) > 0, off)

    return check


def measured_shapes(bad: int) -> Callable[[Path], None]:
    """Return what asserts that all rows have Kron fluxes, that one in the smallest circle."""

    def check(folder: Path) -> None:
        table = Table.read(folder / "out.ecsv")
        assert np.isfinite(table[f"{BAND}_flux_auto"]).all()
        circle = (np.asarray(table[f"{BAND}_flag"]) & SourceFlag.KRON_CIRCLE) > 0
        assert circle[bad]

    return check


def corrected(folder: Path) -> None:
    """Assert that totals are twice the aperture fluxes, as the catalogue says."""
    table = Table.read(folder / "out.ecsv")
    np.testing.assert_allclose(table[f"{BAND}_corr_0"], 2 * table[FLUX], rtol=1e-9)


def exist(*names: str) -> Callable[[Path], None]:
    """Return what asserts that files are there."""

    def check(folder: Path) -> None:
        assert all((folder / name).is_file() for name in names)

    return check


def as_text(table: Table) -> None:
    where = SkyCoord(table["ra"], table["dec"], unit="deg")
    table["ra"] = where.ra.to_string("hour", sep=":", precision=6)
    table["dec"] = where.dec.to_string(sep=":", precision=5)


def garbled(table: Table) -> None:
    cells = table["ra"].astype(str).tolist()
    cells[2] = "see notes"
    table["ra"] = cells


def masked(name: str) -> Change:
    return set_column(**{name: lambda table: MaskedColumn(table[name], mask=np.arange(6) == 2)})


def mag_of_flux(table: Table) -> None:
    table["flux_aper_0"] = Column(np.full(6, 23.9), unit=u.ABmag)


def moving(pm_ra: np.ndarray) -> Change:
    """Return what makes the positions coordinates with a proper motion, in mas/yr."""

    def change(table: Table) -> None:
        motion = {"pm_ra_cosdec": pm_ra * u.mas / u.yr, "pm_dec": -3 * pm_ra * u.mas / u.yr}
        table["place"] = SkyCoord(table["ra"], table["dec"], obstime="J2016", **motion)
        table.remove_columns(["ra", "dec"])

    return change


def without_place(table: Table) -> None:
    """Make the positions coordinates, of which one is NaN."""
    ra = np.where(np.arange(6) == 2, np.nan, table["ra"])
    table["place"] = SkyCoord(ra, table["dec"], unit="deg")
    table.remove_columns(["ra", "dec"])


def row(given: str, outcome: str, change: Change, says: tuple[str, ...] = (), **more: object) -> Case:
    """Return a case of `extend`."""
    command = str(more.pop("command", f"extend cat.ecsv {EXTEND} -o out.ecsv"))
    name = "cat.fits" if "cat.fits" in command else "cat.csv" if "cat.csv" in command else "cat.ecsv"
    return Case(given=given, outcome=outcome, says=says, command=command, prepare=prepare(change, name), **more)


POSITIONS = {"kind": "Positions of a catalogue"}
ROWS = {"kind": "Single rows of a catalogue"}
IDS = {"kind": "Ids of a catalogue"}
UNITS = {"kind": "Units of a catalogue"}
ADDED = ("fluxes are added in uJy, and flux_auto is in nJy, in which --unit nJy adds them",)
SEGMENTS = f"extend cat.ecsv {EXTEND} --use-segmentation seg.fits -o out.ecsv"
CSV = f"extend cat.csv {EXTEND} -o out.ecsv"

CASES = (
    row("right ascension in hours", "obeyed", spelt("ra", "hourangle", 1 / 15), check=measured(), **POSITIONS),
    row(
        "right ascension in hours, by the unit of time",
        "obeyed",
        spelt("ra", "h", 1 / 15),
        check=measured(),
        **POSITIONS,
    ),
    row("sexagesimal hours and degrees", "obeyed", as_text, check=measured(), **POSITIONS),
    row(
        "positions in radians",
        "obeyed",
        set_column(ra=lambda t: t["ra"].to(u.rad), dec=lambda t: t["dec"].to(u.rad)),
        check=measured(),
        **POSITIONS,
    ),
    row("degrees, spelt out", "obeyed", spelt("ra", "Degrees"), check=measured(), **POSITIONS),
    row("degrees as text", "obeyed", set_column(ra=lambda t: t["ra"].astype(str)), check=measured(), **POSITIONS),
    row(
        "position columns under other names",
        "refused",
        rename(ra="RA_ICRS", dec="DE_ICRS"),
        ("--ra, --dec", "RA_ICRS and DE_ICRS"),
        **POSITIONS,
    ),
    row(
        "other names of position columns, and named",
        "obeyed",
        rename(ra="RA_ICRS", dec="DE_ICRS"),
        command=f"extend cat.ecsv {EXTEND} --ra RA_ICRS --dec DE_ICRS -o out.ecsv",
        check=measured(),
        **POSITIONS,
    ),
    row(
        "other names of position columns for epochs",
        "obeyed",
        rename(ra="RA_ICRS", dec="DE_ICRS"),
        command=f"epochs {PREFIX} --catalog cat.ecsv --ra RA_ICRS --dec DE_ICRS -o out.ecsv",
        check=exist("out.ecsv"),
        **POSITIONS,
    ),
    row("right ascension in seconds", "refused", spelt("ra", "s"), ("column ra holds no angles",), **POSITIONS),
    row("a unit of angle that nobody knows", "refused", spelt("ra", "gradians"), ("gradians", "--ra"), **POSITIONS),
    row("coordinates, one of them NaN", "warned", without_place, ("row 2", "1 of 6"), check=measured(2), **POSITIONS),
    row(
        "coordinates with proper motions",
        "warned",
        moving(np.array([0, 100.0, 20, 3, 0.7, np.pi])),
        ("5 of 6 rows have a proper motion (place), which is not applied",),
        check=measured(),
        **POSITIONS,
    ),
    row(
        "proper motions as of Gaia",
        "warned",
        set_column(pmra=lambda t: np.arange(6.0), pmdec=lambda t: np.zeros(6)),
        ("5 of 6 rows have a proper motion (pmra, pmdec), which is not applied",),
        check=measured(),
        **POSITIONS,
    ),
    row(
        "proper motions of 0",
        "obeyed",
        set_column(pmRA=lambda t: np.zeros(6), pmDE=lambda t: np.full(6, np.nan)),
        check=measured(),
        **POSITIONS,
    ),
    row(
        "proper motions, for epochs",
        "warned",
        set_column(pmRA=lambda t: np.zeros(6), pmDE=lambda t: np.ones(6)),
        ("6 of 6 rows have a proper motion (pmRA, pmDE)",),
        command=f"epochs {PREFIX} --catalog cat.ecsv -o out.ecsv",
        check=exist("out.ecsv"),
        **POSITIONS,
    ),
    row("no position within the sky", "refused", spelt("dec", "deg", 100), ("row 0", "within +-90"), **POSITIONS),
    # ---- single rows
    row("one NaN position", "warned", change_column("ra", np.nan), ("row 2", "1 of 6"), check=measured(2), **ROWS),
    row("one masked position", "warned", masked("dec"), ("row 2", "1 of 6"), check=measured(2), **ROWS),
    row("one position of -99", "warned", change_column("dec", -99), ("row 2", "1 of 6"), check=measured(2), **ROWS),
    row("one position of words", "warned", garbled, ("row 2", "1 of 6"), command=CSV, check=measured(2), **ROWS),
    row("one blank position", "warned", masked("ra"), ("row 2", "1 of 6"), command=CSV, check=measured(2), **ROWS),
    row("one position off the mosaic", "obeyed", change_column("ra", 12.0), check=measured(2), **ROWS),
    row(
        "one shape of -99",
        "obeyed",
        lambda table: table["a"].__setitem__(2, -99.0),
        command=f"extend cat.ecsv {PREFIX} --noise dja --columns auto -o out.ecsv",
        check=measured_shapes(2),
        **ROWS,
    ),
    row(
        "one row without a segment",
        "warned",
        change_column("id", 77),
        ("seg.fits: no segment for 1 of 6 rows", "first id 77 in row 2"),
        command=SEGMENTS,
        check=measured(),
        **ROWS,
    ),
    row(
        "most rows without a segment",
        "refused",
        set_column(id=lambda t: np.arange(3, 9) * 11),
        ("no segment for 6 of 6 rows", "first id 33 in row 0"),
        command=SEGMENTS,
        **ROWS,
    ),
    row(
        "one NaN position for epochs",
        "warned",
        change_column("ra", np.nan),
        ("row 2", "1 of 6"),
        command=f"epochs {PREFIX} --catalog cat.ecsv -o out.ecsv",
        check=lambda folder: np.testing.assert_array_equal(
            Table.read(folder / "out.ecsv")["n_exp"] == 0, np.arange(6) == 2
        ),
        **ROWS,
    ),
    row(
        "a NaN position in a row that no stamp is asked for",
        "obeyed",
        change_column("ra", np.nan),
        command=f"{GALFIT} --id 1",
        check=exist("stamps/1.feedme", "stamps/1_sigma.fits"),
        **ROWS,
    ),
    row(
        "a stamp of a row without a position",
        "refused",
        masked("ra"),
        ("id 3 in row 2", "no position for 1 of 1 targets"),
        command=f"{GALFIT} --id 3",
        **ROWS,
    ),
    row("no position in any row", "refused", change_column("ra", np.nan, slice(None)), ("6 of 6",), **ROWS),
    row("no rows", "refused", lambda table: table[:0], ("no rows",), **ROWS),
    row(
        "no rows in FITS",
        "refused",
        lambda t: t[:0],
        ("no rows",),
        command=f"extend cat.fits {EXTEND} -o out.ecsv",
        **ROWS,
    ),
    # ---- ids
    row("one id twice", "obeyed", change_column("id", 2), check=measured(), **IDS),
    row(
        "one id twice, and segments", "refused", change_column("id", 2), ("row 2", "duplicate"), command=SEGMENTS, **IDS
    ),
    row("one id twice, and stamps", "refused", change_column("id", 2), ("row 2", "duplicate"), command=GALFIT, **IDS),
    row(
        "ids with leading zeros, and segments",
        "obeyed",
        lambda table: Table({"id": [f"{n:04d}" for n in table["id"]], "ra": table["ra"], "dec": table["dec"]}),
        command=f"extend cat.csv {EXTEND} --use-segmentation seg.fits -o out.ecsv",
        check=lambda folder: np.testing.assert_array_equal(
            Table.read(folder / "out.ecsv")["id"], ["0001", "0002", "0003", "0004", "0005", "0006"]
        ),
        **IDS,
    ),
    row(
        "ids that are names, and segments",
        "refused",
        set_column(id=lambda t: [f"J{number}" for number in t["id"]]),
        ("column id is of type <U2, not ids",),
        command=SEGMENTS,
        **IDS,
    ),
    row("ids that are names", "obeyed", set_column(id=lambda t: [f"J{n}" for n in t["id"]]), check=measured(), **IDS),
    row(
        "ids with fractions, and stamps",
        "refused",
        set_column(id=lambda t: t["id"] + 0.5),
        ("1.5 is no id",),
        command=GALFIT,
        **IDS,
    ),
    row("a masked id, and segments", "refused", masked("id"), ("row 2", "is no id"), command=SEGMENTS, **IDS),
    row("ids of 64 bits", "obeyed", set_column(id=lambda t: t["id"] + 6028843712912345088), check=measured(), **IDS),
    # ---- units
    row("one flux in nJy beside others", "warned", spelt("flux_auto", "nJy", 1000), ADDED, check=corrected, **UNITS),
    row("one flux in njy", "warned", spelt("flux_auto", "njy", 1000), ADDED, check=corrected, **UNITS),
    row("one flux in micro-Jansky", "obeyed", spelt("flux_auto", "micro-Jansky"), check=corrected, **UNITS),
    row("one flux as AB magnitude", "obeyed", mag_of_flux, check=corrected, **UNITS),
    row("one flux in counts", "refused", spelt("flux_auto", "counts"), ("flux_auto in counts", "ratio"), **UNITS),
    row("one flux without a unit", "refused", set_column(flux_auto=lambda t: np.full(6, 2.0)), ("no unit",), **UNITS),
    row("axes in pixels", "warned", spelt("a", "Pixels"), ("not in an angular unit",), check=measured(), **UNITS),
    row("axes in arcseconds, spelt out", "obeyed", spelt("a", "arc-seconds"), check=measured(), **UNITS),
    row(
        "a Kron radius in pixels",
        "refused",
        spelt("kron_radius", "pix"),
        ("kron_radius is in pix, not dimensionless",),
        **UNITS,
    ),
    row("angles in radians", "obeyed", spelt("theta", "Radians", np.pi / 180), check=measured(), **UNITS),
    row("an angle in uJy", "refused", spelt("theta", "ujy"), ("column theta is in uJy, not deg",), **UNITS),
    row("stamps from fluxes in njy", "obeyed", spelt("flux_auto", "njy", 1000), command=f"{GALFIT} --id 1", **UNITS),
    row(
        "stamps from magnitudes", "refused", spelt("flux_auto", "mag"), ("is in mag, not uJy",), command=GALFIT, **UNITS
    ),
)
