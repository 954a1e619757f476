"""Headers and logs with zeros, text, NaN or nothing where a number is used, and with odd cards elsewhere."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
WEIGHT = f"weight {PREFIX} -o w.fits --noise calibrated"
BLOCK, CARD = 2880, 80

# Cards that no FITS header should have, or that a simple parser trips over.
ODD = (
    "garbage garbage garbage",
    "HIERARCH ESO DET CHIP1 GAIN = 2.3 / e-",
    "HIERARCH garbage",
    "CONTINUE  'of nothing'",
    "SEEING  = NaN",
    "DATE    = 2020-01-01",
    "PIXFRAC = 1 2",
    "photplam= 44400",
    "WHT00001= ---",
    b"OBSERVER= 'Jos\xe9'",
    b"REMARK  = '\x00\x07'",
    "LONGTEXT= 'begins &'",
    "CONTINUE  'and ends'",
    "EXTEND  = maybe",
    "TWICE   = 1",
    "TWICE   = 2",
)


def put_cards(path: Path, *cards: bytes | str, drop: tuple[str, ...] = ()) -> None:
    """Write cards as they stand into the header of a gzipped file: over those of their keywords, or at its end."""
    content = gzip.decompress(path.read_bytes())
    end = next(i for i in range(0, len(content), CARD) if content[i : i + CARD].rstrip() == b"END")
    new = [card if isinstance(card, bytes) else card.encode() for card in cards]
    gone = {card[:8] for card in new} | {f"{key:<8}".encode() for key in drop}
    old = [content[i : i + CARD] for i in range(0, end, CARD)]
    kept = [card for card in old if card[:8] not in gone]
    place = {card[:8]: i for i, card in reversed(list(enumerate(old)))}
    for card in sorted(new, key=lambda card: place.get(card[:8], len(old))):  # SIMPLE and NAXIS need their places
        kept.insert(min(place.get(card[:8], len(kept)), len(kept)), card.ljust(CARD))
    header = b"".join(kept) + b"END".ljust(CARD)
    pixels = content[-(-(end + CARD) // BLOCK) * BLOCK :]
    path.write_bytes(gzip.compress(header.ljust(-(-len(header) // BLOCK) * BLOCK) + pixels, 1))


def spoil(folder: Path, *cards: bytes | str, kind: str = "sci", drop: tuple[str, ...] = ()) -> None:
    """Write cards into the header of a product."""
    put_cards(folder / f"{PREFIX}_drc_{kind}.fits.gz", *cards, drop=drop)


def spoil_log(folder: Path, **cells: str) -> None:
    """Write cells into the second row of the log."""
    path = folder / f"{PREFIX}_wcs.csv"
    with path.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    for key, cell in cells.items():
        rows[1][header.index(key.replace("_beg", "-beg"))] = cell
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_stamped(folder: Path, **meta: str) -> None:
    """Write the catalogue of one source, with metadata."""
    header = fits.getheader(folder / f"{PREFIX}_drc_sci.fits.gz")
    columns = {"id": [1], "ra": [header["CRVAL1"]], "dec": [header["CRVAL2"]], "a": [0.1], "b": [0.1], "theta": [0.0]}
    Table(columns | {"kron_radius": [3.0], "flux_radius": [0.1], "flux_auto": [1.0]}, meta=meta).write("cat.ecsv")


def odd_everywhere(folder: Path) -> None:
    """Write all odd cards into all products."""
    for kind in ("sci", "wht", "exp"):
        spoil(folder, *ODD, kind=kind)


def weight_is_the_same(folder: Path) -> None:
    """See that the weight is that of headers without odd cards, which it repeats as far as they can be written."""
    weight, header = fits.getdata(folder / "w.fits", header=True)
    spoil(folder, drop=tuple(str(card)[:8].strip() for card in ODD if isinstance(card, str)))
    from dja_photplug import load_mosaic

    np.testing.assert_array_equal(weight, load_mosaic(PREFIX, "calibrated").uncertainty.array)
    assert header["SEEING"] == "NaN"
    assert header["LONGTEXT"] == "begins and ends"


def refuse(given: str, *says: str, kind: str = "Keywords", command: str = WEIGHT, **how: object) -> Case:
    """Return a case that is refused."""
    prepare: Callable[[Path], object] = how.pop("prepare", None) or partial(spoil, **how)  # type: ignore[assignment]
    return Case(kind=kind, given=given, command=command, outcome="refused", says=says, prepare=prepare)


def card(kind: str, key: str, value: str, *says: str, command: str = WEIGHT) -> Case:
    """Return a case of one card."""
    spoiled = partial(put_card, key=key, value=value, kind=kind)
    given = f"`{key} = {value}`" if kind == "sci" else f"`{key} = {value}` in `_{kind}`"
    return refuse(given, f"_{kind}.fits.gz", key, *says, command=command, prepare=spoiled)


def put_card(folder: Path, key: str, value: str, kind: str) -> None:
    """Write one card."""
    spoil(folder, f"{key:<8}= {value}", kind=kind)


def lack(*keys: str, command: str = WEIGHT) -> Case:
    """Return a case of missing cards, all of which are named."""
    given = f"no {', '.join(f'`{key}`' for key in keys)}"
    return refuse(given, "_sci.fits.gz", *keys, command=command, prepare=partial(spoil, drop=keys))


def log(key: str, cell: str, *says: str, command: str = WEIGHT) -> Case:
    """Return a case of one cell of the log."""
    prepare = partial(spoil_log, **{key: cell})
    said = ("row 2", "_wcs.csv", key.replace("_beg", "-beg"), *says)
    return refuse(f"`{key}` of {cell or 'nothing'} in the log", *said, kind="Logs", command=command, prepare=prepare)


CASES = (
    card("sci", "PHOTMJSR", "0", "positive"),
    card("sci", "PHOTSCAL", "0", "positive"),
    card("sci", "PHOTSCAL", "'unknown'"),
    card("sci", "PHOTFNU", "NaN"),
    card("sci", "OPHOTFNU", "-1E-8"),
    card("sci", "OPHOTFNU", ""),
    card("sci", "TELESCOP", "42", "JWST"),
    card("sci", "BUNIT", "'MJy/sr'", "10 nJy"),
    card("sci", "BUNIT", "0"),
    card("sci", "CRPIX1", "NaN"),
    card("sci", "CRVAL2", "'-5 06 40'"),
    card("sci", "CD1_1", "0", "singular matrix"),
    card("sci", "CTYPE1", "'DEC--TAN'", "right ascension"),
    refuse(
        "`RADESYS = 'FK4'` in `_sci` alone",
        "_exp.fits.gz",
        "pixels off that of the science image",
        prepare=lambda folder: spoil(folder, "RADESYS = 'FK4'"),
    ),
    card("sci", "RADESYS", "'GAPPT'", "an unknown frame"),
    card("sci", "CUNIT1", "'parsec per cat'"),
    card("sci", "NAXIS1", "'many'"),
    card("sci", "BSCALE", "0"),
    card("sci", "BZERO", "'none'"),
    card("wht", "BSCALE", "NaN"),
    refuse(
        "`CRPIX1 = 17.5` in `_wht`",
        "_wht.fits.gz",
        "pixels off",
        "products of one mosaic",
        prepare=lambda folder: spoil(folder, "CRPIX1  = 17.5", kind="wht"),
    ),
    card("wht", "CRPIX1", "'half'"),
    card("exp", "SAMPLE", "0"),
    card("exp", "SAMPLE", "3.5", "whole"),
    card("exp", "CRPIX2", "'half'"),
    card("exp", "NXORIG", "NaN"),
    refuse(
        "`PHOTMJSR` twice, with two values",
        "twice",
        prepare=lambda folder: spoil(folder, "PHOTMJSR= 0.387729", "PHOTMJSR= 0.5"),
    ),
    lack("PHOTMJSR", "OPHOTFNU"),
    lack("TELESCOP", "PHOTMJSR"),
    lack("BUNIT", "PHOTFNU", "CRPIX1", "OPHOTFNU"),
    lack("CRVAL1", "CRVAL2", "CD2_2"),
    Case(
        kind="Keywords",
        given="`EXPTIME` as text, for `info`",
        command=f"info {PREFIX}",
        outcome="warned",
        says=("_sci.fits.gz", "EXPTIME", "'an hour'"),
        prepare=lambda folder: spoil(folder, "EXPTIME = 'an hour'"),
    ),
    Case(
        kind="Keywords",
        given="`PHOTMJSR` as text in `_exp`, where the science header has it",
        command=WEIGHT,
        outcome="warned",
        says=("_exp.fits.gz", "PHOTMJSR", "using the science header's"),
        prepare=lambda folder: spoil(folder, "PHOTMJSR= 'lost'", kind="exp"),
    ),
    log("exptime", "0"),
    log("exptime", "long", "'long'"),
    log("crval1", "", "crval1 has no value"),
    log("naxis1", "-5"),
    log("crpix2", "inf"),
    log("a_order", "none", command=f"epochs {PREFIX}"),
    log("mjd_beg", "0", command=f"epochs {PREFIX}"),
    refuse(
        "`KRONCIRC` as text in the metadata of a catalogue",
        "KRONCIRC",
        kind="Metadata",
        command=f"galfit {PREFIX} --catalog cat.ecsv -o out",
        prepare=lambda folder: write_stamped(folder, KRONCIRC="wide"),
    ),
    refuse(
        "`AR` that is no JSON in the metadata of a catalogue",
        "AR",
        kind="Metadata",
        command=f"galfit {PREFIX} --catalog cat.ecsv -o out",
        prepare=lambda folder: write_stamped(folder, AR="[1, 2", INPUT=PREFIX),
    ),
    refuse(
        "`BAND_0` that is no JSON in the metadata of a catalogue",
        "BAND_i",
        kind="Metadata",
        command=f"galfit {PREFIX} --catalog cat.ecsv -o out",
        prepare=lambda folder: write_stamped(folder, BAND_0="f444w"),
    ),
    refuse(
        "`ASEC_0` as text in the metadata of a catalogue",
        "ASEC_i",
        kind="Metadata",
        command=f"extend cat.ecsv {PREFIX} -o out.ecsv",
        prepare=lambda folder: write_stamped(folder, ASEC_0="wide"),
    ),
    Case(
        kind="Other cards",
        given="cards that are no FITS, go on, come twice or are not ASCII, in all products",
        command=WEIGHT,
        outcome="obeyed",
        prepare=odd_everywhere,
        check=weight_is_the_same,
    ),
    *(
        Case(kind="Other cards", given=f"such cards, for `{command.split()[0]}`", command=command, outcome="obeyed",
             prepare=odd_everywhere)
        for command in (
            f"info {PREFIX}",
            f"catalog {PREFIX} -o cat.fits --noise dja --segmentation seg.fits --plot cat.png --cutout 34.4 -5.2 6",
            f"galfit {PREFIX} --position 34.4 -5.2 -o out --plot out.png",
            f"epochs {PREFIX} --exposure-map map.fits --like {PREFIX}_drc_sci.fits.gz",
        )
    ),
)  # fmt: skip
