"""Every real file through every command that takes it: what each says, and no exception of others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dja_photplug.cli.app import main
from tests.inputs.cases import Case, Outcome, find_faults

F444W, F115W = "@uds/uds-test-v7.4-f444w-clear", "@uds/uds-test-v7.4-f115w-clear"
TILE, HST = "@tile/tile-2582x30y36-f444w-clear", "@hst/abell2744clu-grizli-v7.0-f105w"
SEGMENTS = "@grizli/uds-test-v7.4-f444w-clear_seg.fits.gz"
PLACES = {F444W: "34.3033 -5.1113", F115W: "34.3033 -5.1113", TILE: "34.3033 -5.1113", HST: "3.59625 -30.38852"}
INJECT = "-o i.fits --realisations 1 --workers 1 --noise dja"
EXTEND = f"{F444W} -o e.fits --noise dja"
NAMES = {F444W: "f444w", F115W: "f115w", TILE: "tile", HST: "f105w"}


@dataclass(frozen=True, slots=True)
class Row:
    """A command, in which ``@`` is the folder of the data, how it ends, and what it says on stdout or stderr."""

    command: str
    outcome: Outcome
    says: tuple[str, ...]


def obeyed(command: str, *says: str) -> Row:
    return Row(command, "obeyed", says)


def warned(command: str, *says: str) -> Row:
    return Row(command, "warned", says)


def refused(command: str, *says: str) -> Row:
    return Row(command, "refused", says)


# Of the middle of a cluster more was taken off than lies between its galaxies: -0.18 nJy a pixel.
SKY = "photometry leaves it in; subtract it with --sky mesh"


def take_mosaic(mosaic: str, sources: int, gain: str, columns: int) -> Iterator[Row]:
    """Yield what every mosaic goes through; its catalogue is made before, in the folder of the tests."""
    place, name, given = PLACES[mosaic], NAMES[mosaic], mosaic == TILE
    files = f"{name}.fits {mosaic}"
    noise = "drc_var.fits.gz as it is" if given else "1 e-/DN (recipe"
    yield obeyed(f"weight {mosaic} -o w.fits", "noise preset dja", noise)
    calibrated = noise if given else gain
    yield obeyed(f"weight {mosaic} -o w.fits --kind sigma --noise calibrated", calibrated)
    yield obeyed(f"weight {mosaic} -o w.fits --noise background", "noise preset background")
    catalog = f"catalog {mosaic} -o c.fits --noise dja --cutout {place} 8"
    beside = "--plot c.png --regions c.reg" if mosaic in (F444W, HST) else "--quiet --regions c.reg"
    verdict, sky = (warned, (SKY,)) if mosaic == HST else (obeyed, ())
    yield verdict(f"{catalog} {beside}", *((f"{sources} sources, engine sep", noise) if "plot" in beside else ()), *sky)
    yield verdict(f"{catalog} --engine photutils", " sources, engine photutils", *sky)
    yield obeyed(f"extend {files} -o e.fits --noise dja --apertures 0.9", f"{sources} rows, {columns} columns added")
    yield obeyed(f"galfit {mosaic} -o g --position {place}", "5 files of 1 stamps", calibrated)
    stamps = f"galfit {mosaic} -o g --catalog {name}.fits --use-segmentation {name}_seg.fits --id 1 2"
    yield obeyed(stamps, "10 files of 2 stamps", calibrated)


MOSAICS = (
    *take_mosaic(F444W, 3, "1.89 e-/DN (table, by the WCS log)", 17),
    *take_mosaic(F115W, 8, "2.15 e-/DN (table, by the WCS log)", 17),
    *take_mosaic(TILE, 3, "", 11),
    *take_mosaic(HST, 6, "1 e-/DN (HST mosaics are in electrons)", 11),
    obeyed(f"info {F444W}", "297 exposures in 70 visits, 286.16 ks", "99.98% of its samples", "0.29036 DN/s", "1.889"),
    obeyed(f"info {F115W}", "1152 exposures in 69 visits", "99.99% of its samples", "0.132464 DN/s", "2.146 e-/DN"),
    obeyed(f"info {TILE}", "exposure    none", "297 in the header, 286.16 ks", "_drc_var.fits.gz as it is"),
    obeyed(f"info {HST}", "200 x 200 pixels of 60.0 mas", "50 in the header", "0.0886233", "are in electrons"),
    *(
        obeyed(f"info {member}", "mosaic      " + member.partition("/")[2].partition("_")[0])
        for member in (f"{HST}_drz_exp.fits.gz", f"{TILE}_drc_var.fits.gz", f"{F444W}_drc_wht.fits.gz")
    ),
    obeyed(f"catalog {F444W} {F115W} -o c.fits --noise dja --cutout {PLACES[F444W]} 8", "7 sources detected on stack"),
    *(
        obeyed(f"inject {mosaic} {INJECT} --cutout {PLACES[mosaic]} 8", "injected")
        for mosaic in (F444W, HST)
    ),
    refused(f"inject {TILE} {INJECT} --cutout {PLACES[TILE]} 8", "neither; or inject without (photons 'none')"),
    obeyed(f"inject {TILE} {INJECT} --photons none --cutout {PLACES[TILE]} 8", "injected"),
    obeyed(f"epochs {F444W} --exposure-map m.fits --footprints f.reg", "297 exposures of"),
    *(refused(f"epochs {mosaic}", "the mosaic has no WCS log", "put it next to") for mosaic in (TILE, HST)),
)  # fmt: skip

NO_MOSAIC = ("a file, but not the name of a DJA mosaic", "no DJA products")
OTHERS = (
    obeyed("epochs @hst/acs-test-f814w_wcs.csv", "2 exposures in 1 visits", "2 of 2 exposures have no date"),
    refused("info @hst/acs-test-f814w_wcs.csv", "acs-test-f814w_drc_sci.fits[.gz]", "missing"),
    obeyed(f"epochs {F115W}_wcs.csv", "1152 exposures in 69 visits, 868.86 ks, 8 detectors"),
    refused("epochs @smacs0723/smacs0723-grizli-v7.0-f444w-clear_wcs.first4rows.txt", *NO_MOSAIC),
    *(refused(f"info @smacs0723/smacs0723-grizli-v7.0-f444w-clear_drc_{kind}.header.txt", *NO_MOSAIC)
      for kind in ("sci", "exp")),
    refused("info @dja_v7_names_sample.txt", *NO_MOSAIC),
    refused(f"info {SEGMENTS}", *NO_MOSAIC),
    *(
        obeyed(f"catalog {F444W} -o c.fits --noise dja --cutout {PLACES[F444W]} 8 --use-segmentation {path}", found)
        for path, found in (("@uds/uds-test-v7.4-lw_seg.fits.gz", "17 sources"), (SEGMENTS, "3 sources"))
    ),
    *(
        refused(f"catalog {HST} -o c.fits --use-segmentation {path}", "none of its segments lies on the image")
        for path in ("@uds/uds-test-v7.4-lw_seg.fits.gz", SEGMENTS)
    ),
    refused(f"galfit {F444W} --catalog f444w.fits -o g --use-segmentation @uds/uds-test-v7.4-lw_seg.fits.gz",
            "lw_seg.fits.gz: no segment for", "give the segmentation that the catalogue was made from"),
    obeyed(f"extend @grizli/uds-test-v7.4-f444w-clear.cat.fits {EXTEND} --use-segmentation {SEGMENTS}",
           "ids NUMBER, shapes A_IMAGE B_IMAGE THETA_IMAGE KRON_RADIUS in pixels of 0.0400 arcsec, fluxes FLUX_AUTO",
           "131 rows, 47 columns added"),
    refused(f"extend @grizli/uds-test-v7.4-f444w-clear_rescaled.cat.fits {EXTEND} --use-segmentation {SEGMENTS}",
            "131 of 131 positions lie on segments of other ids, or on none"),
    obeyed(f"extend @grizli/uds-test-v7.4-f444w-clear_rescaled.cat.fits {EXTEND}", "176 rows"),
    *(
        refused(f"extend @grizli/uds-test-v7.4_{name}.fits {EXTEND}", "has f444w_flux_aper_0", "--overwrite-columns")
        for name in ("phot", "phot_apcorr")
    ),
    *(
        obeyed(f"galfit {F444W} --catalog @grizli/{name}.fits --id 40 41 -o g", "read as", "10 files of 2 stamps")
        for name in ("uds-test-v7.4-f444w-clear.cat", "uds-test-v7.4_phot", "uds-test-v7.4_phot_apcorr")
    ),
    obeyed(f"epochs {F444W} --catalog @grizli/uds-test-v7.4_phot.fits -o p.fits", "131 rows, 131 covered"),
)  # fmt: skip

# Of each catalogue: rows, those in the exposures of F444W, and whether any lies on the image.
CATALOGUES = {
    "1807.02523-schreiber.vot": (24, 8, False),
    "2009.09784-richard.csv": (3827, 0, False),
    "2303.09568-lagattuta-suppl.fits.gz": (204, 0, False),
    "2306.02467-bunker.csv": (253, 0, False),
    "2401.16473-daddona.csv": (639, 0, False),
    "2404.03576-kocevski.csv": (341, 117, False),
    "2405.02242-carnall.csv": (349, 349, False),
    "2410.01874-naidu.csv": (1630, 0, False),
    "2512.15853-barro.csv": (118, 33, False),
    "stars_F444W.csv": (6, 6, True),
}


def take_catalogue(name: str, rows: int, seen: int, on_image: bool) -> Iterator[Row]:
    out = "fits" if name.endswith(".gz") else "ecsv"
    epochs = f"epochs {F444W} --catalog @catalogues/{name} -o p.{out}"
    yield (obeyed if seen else warned)(epochs, f"{rows} rows, {seen} covered", *(() if seen else ("another field?",)))
    extend = f"extend @catalogues/{name} {F444W} -o e.{out} --noise dja"
    if on_image:
        yield obeyed(extend, f"{rows} rows, ")
    else:
        yield warned(extend, f"none of the {rows} positions is on it", "another field?")


FOREIGN = (
    *(row for name, expected in CATALOGUES.items() for row in take_catalogue(name, *expected)),
    refused(f"extend @catalogues/2207.12356-donnan-t5.csv {EXTEND}", "no position columns", "rah, decd"),
    warned(f"extend @catalogues/2207.12356-donnan-t5.csv {EXTEND} --ra rah --dec decd", "none of the"),
    warned(f"extend @catalogues/mophongo_photometry.cat.gz {F444W} -o e.ecsv --noise dja", "read as photutils",
           "orientation kron_radius in pixels of 0.0400 arcsec",
           "no position in 2 of 384 rows, first row 259 (from 0): their fluxes are NaN"),
)  # fmt: skip

# Sums of the PSFs that are no share of the light. Of each kind and telescope two, and the others with --slow.
PSFS = {
    "psf/psf-ceers-f160w.fits.gz": "1.11",
    "psf/psf-ceers-f435w.fits.gz": "1.013",
    "psf/psf-ceers-f606w.fits.gz": "1.01",
    "psf/psf-ceers-f814w.fits.gz": "1.013",
    "psf/psf-smacs0723-f115w.fits.gz": "1.015",
} | dict.fromkeys(
    (
        *(f"psf/psf-ceers-nrca3-{band}.fits.gz" for band in ("f090w", "f150w", "f200w")),
        *(f"psf/psf-ceers-nrca5-{band}.fits.gz" for band in ("f277w", "f356w")),
        *(f"psf/psf-{name}.fits.gz" for name in ("glass-nrca5-f444w", "smacs0723-f444w", "smacs0723-mirim-f770w")),
        "psf/psf-smacs0723-nis-f200w-smacs.fits.gz",
        "uds/psf-ceers-nrca3-f115w.fits",
        "uds/psf-ceers-nrca5-f444w.fits",
    )
)


OTHER_PSFS = ("f606w", "f814w", "f200w", "f277w", "f356w", "glass-nrca5-f444w", "smacs0723-f444w", "smacs0723-f115w")


def take_psf(path: str, total: str | None) -> Iterator[Row]:
    """Yield what every PSF goes through, on the pixels of 60 mas of WFC3/IR, as no PSF has them."""
    says = () if total is None else (f"sums to {total}, which is not a fraction of the light", "--psf-share")
    verdict, cut = obeyed if total is None else warned, f"--noise dja --cutout {PLACES[HST]} 8"
    yield warned(f"catalog {HST} -o c.fits --psf f105w=@{path} {cut}", "6 sources", SKY, *says)
    yield obeyed(f"galfit {HST} -o g --position {PLACES[HST]} --psf @{path}", "6 files of 1 stamps")
    if total or "smacs0723" in path:  # also pixels of 20 mas
        yield verdict(f"inject {HST} {INJECT} --psf @{path} --cutout {PLACES[HST]} 8", "injected", *says)


ROWS = (*MOSAICS, *OTHERS, *FOREIGN, *(row for path, total in PSFS.items() for row in take_psf(path, total)))


@pytest.fixture(scope="module")
def catalogues(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a catalogue and a segmentation of each mosaic."""
    folder = tmp_path_factory.mktemp("real")
    for mosaic, name in NAMES.items():
        words = f"catalog {mosaic} -o {folder}/{name}.fits --segmentation {folder}/{name}_seg.fits --noise dja --quiet"
        assert main(f"{words} --cutout {PLACES[mosaic]} 8".replace("@", f"{data}/").split()) == 0
    return folder


def is_alike(row: Row) -> bool:
    """Return whether another row shows the same of another PSF."""
    return any(f"{name}.fits.gz" in row.command for name in OTHER_PSFS)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.slow if is_alike(row) else (), id=row.command) for row in ROWS],
)
def test_real_file(data, catalogues, tmp_path, monkeypatch, capsys, row):
    monkeypatch.chdir(tmp_path)
    for path in catalogues.iterdir():
        (tmp_path / path.name).symlink_to(path)
    before = sorted(tmp_path.rglob("*"))
    status = main(row.command.replace("@", f"{data}/").split())
    captured = capsys.readouterr()
    case = Case(kind="Real files", given="", command=row.command, outcome=row.outcome)
    assert find_faults(case, status, captured.err) == [], captured.err
    for words in row.says:
        assert words in captured.out + captured.err, captured.out + captured.err
    if row.outcome == "refused":
        assert sorted(tmp_path.rglob("*")) == before


def test_every_file_is_in_the_table(data):
    taken = {words for row in ROWS for words in re.findall(r"@(\S+)", row.command)}
    files = [path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()]
    left = [
        file
        for file in files
        if not file.endswith(".md")
        and "LICENSE" not in file
        and not any(file == name or file.startswith(f"{name}_") for name in taken)
    ]
    assert left == []
