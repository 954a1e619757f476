"""Headers that say where the pixels are in other ways, or contradict each other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS, FITSFixedWarning
from regions import Regions

from dja_photplug.sky.headers import WCS_CARDS
from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
KIND = "Geometry"
CATALOG = f"catalog {PREFIX} -o cat.fits --noise dja"
STEP = 0.04 / 3600
COS, SIN = np.cos(np.radians(30)), np.sin(np.radians(30))
Cards = dict[str, float | str]
Change = Callable[[fits.Header], Cards]


def product(folder: Path, kind: str) -> Path:
    """Return the file of a product."""
    return folder / f"{PREFIX}_drc_{kind}.fits.gz"


def rewrite(change: Change, kinds: Iterable[str] = ("sci", "wht", "exp")) -> Callable[[Path], None]:
    """Return what gives the headers of products the cards that `change` makes of theirs, instead of all of the WCS."""

    def prepare(folder: Path) -> None:
        for kind in kinds:
            path = product(folder, kind)
            pixels, header = fits.getdata(path, header=True)
            sample = header.get("SAMPLE", 1)
            cards = {f"CRPIX{axis}": header[f"CRPIX{axis}"] for axis in (1, 2)} | change(header)
            for key in [key for key in header if WCS_CARDS.fullmatch(key)]:
                del header[key]
            for key, value in cards.items():
                header[key] = value * sample if key.startswith(("CD", "CDELT")) else value
            fits.writeto(path, pixels, header, overwrite=True)

    return prepare


def place(header: fits.Header, frame: str = "icrs") -> SkyCoord:
    """Return the reference point of a simulated mosaic."""
    return SkyCoord(header["CRVAL1"], header["CRVAL2"], unit="deg").transform_to(frame)


def equatorial(header: fits.Header, cards: Cards, projection: str = "TAN") -> Cards:
    """Return cards of RA and Dec at the same reference point."""
    centre = {"CRVAL1": header["CRVAL1"], "CRVAL2": header["CRVAL2"], "RADESYS": "ICRS"}
    return {"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", **centre, **cards}


def plane(header: fits.Header, *cd: float, projection: str = "TAN", **cards: float | str) -> Cards:
    """Return cards with a CD matrix in pixels of 40 mas."""
    keys = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
    return equatorial(header, {key: STEP * value for key, value in zip(keys, cd, strict=True)} | cards, projection)


def in_frame(header: fits.Header, names: tuple[str, str], frame: str, **cards: str | float) -> Cards:
    """Return cards of another frame at the same reference point."""
    centre = place(header, frame).spherical
    values = {"CTYPE1": names[0], "CTYPE2": names[1], "CRVAL1": centre.lon.deg, "CRVAL2": centre.lat.deg}
    return {**values, "CD1_1": -STEP, "CD2_2": STEP, **cards}


def swapped(header: fits.Header) -> Cards:
    """Return cards whose first axis is Dec, on the same pixels."""
    values = {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": header["CRVAL2"], "CRVAL2": header["CRVAL1"]}
    return {**values, "CD1_2": STEP, "CD2_1": -STEP, "RADESYS": "ICRS"}


def read_wcs(folder: Path) -> WCS:
    """Return the WCS of the science image as astropy reads its whole header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # of PC001001, which is of 1988
        return WCS(fits.getheader(product(folder, "sci")))


def check_positions(folder: Path) -> None:
    """See positions where astropy has them, and region angles where the pixels of segments have their light."""
    table, wcs = QTable.read(folder / "cat.fits"), read_wcs(folder)
    assert len(table) > 20
    there = wcs.pixel_to_world(table["x"].value, table["y"].value).icrs
    assert SkyCoord(table["ra"], table["dec"]).separation(there).mas.max() < 0.01  # rounding of degrees


def check_regions(folder: Path) -> None:
    """See regions drawn on the sky along the pixels of their sources."""
    check_positions(folder)
    table, wcs = QTable.read(folder / "cat.fits"), read_wcs(folder)
    seen = 0
    for region in Regions.read(folder / "cat.reg"):
        row = table[table["id"] == int(region.meta["text"])][0]
        if row["b"] > 0.7 * row["a"] or not hasattr(region, "angle"):
            continue
        x, y, theta = row["x"].value, row["y"].value, row["theta"].to_value(u.rad)
        first, last = (wcs.pixel_to_world(x + s * np.cos(theta), y + s * np.sin(theta)).icrs for s in (-1, 1))
        off = (first.position_angle(last) + 90 * u.deg - region.angle).to_value(u.deg)
        assert abs((off + 90) % 180 - 90) < 0.01
        seen += 1
    assert seen > 3


def shift_catalog(folder: Path, *, keep: Iterable[str]) -> None:
    """Leave of a catalogue of a mosaic on a turned grid the columns that are kept, and no INPUT."""
    from dja_photplug.cli.app import main

    originals = {kind: product(folder, kind).read_bytes() for kind in ("sci", "wht", "exp")}
    rewrite(lambda header: plane(header, -COS, -SIN, -SIN, COS))(folder)
    assert main([*CATALOG.split(), "--quiet"]) == 0
    for kind, content in originals.items():
        product(folder, kind).write_bytes(content)
    table = QTable.read(folder / "cat.fits")[list(keep)]
    table.meta = {key: value for key, value in table.meta.items() if key != "INPUT"}
    table.write(folder / "cat.fits", overwrite=True)


def drop_wcs(folder: Path) -> None:
    """Take the matrix away from the science image."""
    path = product(folder, "sci")
    pixels, header = fits.getdata(path, header=True)
    for key in [key for key in header if key.startswith(("CD", "PC"))]:
        del header[key]
    fits.writeto(path, pixels, header, overwrite=True)


def change_card(kind: str, folder: Path, **cards: float | str) -> None:
    """Change cards of one product."""
    path = product(folder, kind)
    pixels, header = fits.getdata(path, header=True)
    header.update({key: value(header) if callable(value) else value for key, value in cards.items()})
    fits.writeto(path, pixels, header, overwrite=True)


def case(given: str, outcome: str, change: Change | None = None, **settings: object) -> Case:
    """Return a case of a catalogue."""
    prepare = settings.pop("prepare", None) or rewrite(change)
    check = settings.pop("check", check_positions if outcome != "refused" else None)
    command = settings.pop("command", CATALOG)
    return Case(kind=KIND, given=given, command=command, outcome=outcome, prepare=prepare, check=check, **settings)


ROTA = {"CDELT1": -STEP, "CDELT2": STEP, "CROTA2": 30.0}
PC = {"PC001001": COS, "PC001002": -SIN, "PC002001": SIN, "PC002002": COS, "CDELT1": -STEP, "CDELT2": STEP}
TURNED_PC = {"PC1_1": -STEP * COS, "PC1_2": -STEP * SIN, "PC2_1": -STEP * SIN, "PC2_2": STEP * COS, "CDELT1": 1.0}
OBEYED: dict[str, Change] = {
    "turned by CDELT and CROTA2": lambda header: equatorial(header, ROTA),
    "a PC matrix spelt PC001001": lambda header: equatorial(header, PC),
    "a mirrored mosaic": lambda header: plane(header, 1, 0, 0, 1),
    "a mirrored and turned mosaic": lambda header: plane(header, COS, SIN, -SIN, COS),
    "Dec on the first axis": swapped,
    "galactic axes": lambda header: in_frame(header, ("GLON-TAN", "GLAT-TAN"), "galactic"),
    "FK5 of another equinox": lambda header: in_frame(
        header, ("RA---TAN", "DEC--TAN"), "fk5", RADESYS="FK5", EQUINOX=2000.0
    ),
    "FK4 of 1950": lambda header: in_frame(header, ("RA---TAN", "DEC--TAN"), "fk4", RADESYS="FK4", EQUINOX=1950.0),
    "the projection SIN": lambda header: plane(header, -1, 0, 0, 1, projection="SIN"),
    "the projection ZEA": lambda header: plane(header, -1, 0, 0, 1, projection="ZEA"),
}
REFUSED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "ecliptic axes": (
        lambda header: in_frame(header, ("ELON-TAN", "ELAT-TAN"), "barycentricmeanecliptic"),
        ("_sci.fits.gz", "ELON", "ICRS"),
    ),
    "galactic axes with a RADESYS": (
        lambda header: in_frame(header, ("GLON-TAN", "GLAT-TAN"), "galactic", RADESYS="ICRS"),
        ("GLON", "RADESYS"),
    ),
    "pixels that are not square": (lambda header: plane(header, -1, 0, 0, 1.3), ("square", "0.04 x 0.052 arcsec")),
    "skewed pixels": (lambda header: plane(header, -1, 0.2, 0, 1), ("square",)),
    "a projection whose pixels are not square there": (
        lambda header: plane(header, -1, 0, 0, 1, projection="CAR", CRVAL2=0.0, CRPIX2=-60 / STEP),
        ("square",),
    ),
    "SIP distortion": (
        lambda header: plane(header, -1, 0, 0, 1, A_ORDER=2, B_ORDER=2, A_2_0=1e-5, B_0_2=1e-5),
        ("A_2_0", "resample"),
    ),
    "a reference point that is no number": (lambda header: plane(header, -1, 0, 0, 1, CRVAL1="x"), ("CRVAL1", "'x'")),
    "two projections": (lambda header: plane(header, -1, 0, 0, 1, CTYPE2="DEC--SIN"), ("not valid",)),
    "a matrix of zeros": (lambda header: plane(header, 0, 0, 0, 0), ("CD1_1", "singular matrix")),
}

CASES = (
    *(case(given, "obeyed", change) for given, change in OBEYED.items()),
    *(case(given, "refused", change, says=says) for given, (change, says) in REFUSED.items()),
    case(
        "regions of a turned mosaic",
        "obeyed",
        lambda header: plane(header, -COS, -SIN, -SIN, COS),
        command=f"{CATALOG} --regions cat.reg",
        check=check_regions,
    ),
    case(
        "regions of a mirrored and turned mosaic",
        "obeyed",
        lambda header: plane(header, COS, SIN, -SIN, COS),
        command=f"{CATALOG} --regions cat.reg",
        check=check_regions,
    ),
    case(
        "a CD and a PC matrix that contradict each other",
        "warned",
        lambda header: plane(header, -1, 0, 0, 1, **TURNED_PC),
        says=("CD and PC", "CD is used"),
        check=None,
    ),
    case("no matrix", "refused", prepare=drop_wcs, says=("_sci.fits.gz", "give the pixel scale")),
    case(
        "a weight of another place",
        "refused",
        prepare=partial(change_card, "wht", CRPIX1=lambda header: header["CRPIX1"] + 12),
        says=("_wht.fits.gz", "12.0 pixels"),
    ),
    case(
        "an exposure map of another place",
        "refused",
        prepare=partial(change_card, "exp", CRVAL2=lambda header: header["CRVAL2"] + 12 * STEP),
        says=("_exp.fits.gz", "12.0 pixels"),
    ),
    case(
        "an exposure map that is turned",
        "refused",
        prepare=partial(change_card, "exp", CD1_1=lambda header: -header["CD1_1"]),
        says=("_exp.fits.gz", "pixels off"),
    ),
    case(
        "a catalogue whose x and y tell that theta is on a turned grid",
        "obeyed",
        command=f"extend cat.fits {PREFIX} -o out.fits --noise dja",
        prepare=partial(shift_catalog, keep=("id", "ra", "dec", "x", "y", "a", "b", "theta", "kron_radius")),
        check=None,
    ),
    case(
        "a catalogue whose theta is on a grid that nothing tells",
        "warned",
        command=f"extend cat.fits {PREFIX} -o out.fits --noise dja",
        prepare=partial(shift_catalog, keep=("id", "ra", "dec", "a", "b", "theta", "kron_radius")),
        says=("theta", "--like"),
        check=None,
    ),
)
