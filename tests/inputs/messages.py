"""Names that are no mosaics, positions in other spellings, text that is not ASCII, and numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from dja_photplug import read_catalog
from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
NO_ASCII = "d\u00eda"


def make_folder(name: str, *, full: bool = True) -> Callable[[Path], None]:
    """Return what makes a folder, and copies the mosaic into it."""

    def prepare(folder: Path) -> None:
        (folder / name).mkdir()
        for path in folder.glob(f"{PREFIX}_*") if full else ():
            shutil.copy(path, folder / name)

    return prepare


def rename_root(folder: Path) -> None:
    """Give the mosaic a name that is not ASCII, and no other."""
    for path in folder.glob(f"{PREFIX}_*"):
        path.rename(folder / path.name.replace("sim-test", "se\u00f1al"))


def add_variance(folder: Path) -> None:
    """Put a variance beside the mosaic, whose name is not ASCII."""
    rename_root(folder)
    [weight] = folder.glob("*_wht.fits.gz")
    with fits.open(weight) as hdus:
        data, header = hdus[0].data, hdus[0].header
    variance = np.divide(1, data, out=np.zeros_like(data), where=data > 0)
    fits.writeto(weight.with_name(weight.name.replace("wht", "var")), variance, header)


def keeps(**values: str) -> Callable[[Path], None]:
    """Return what checks metadata of a catalogue, and that it has an a(r)."""

    def check(folder: Path) -> None:
        meta = read_catalog(folder / "cat.fits").meta
        assert {key: meta[key] for key in values} == values
        assert len(meta["AR"]) > 10

    return check


def cut_at(ra: float, dec: float, pixels: int) -> Callable[[Path], None]:
    """Return what checks the middle and the side of a cut-out."""

    def check(folder: Path) -> None:
        header = fits.getheader(folder / "w.fits")
        assert (header["NAXIS1"], header["NAXIS2"]) == (pixels, pixels)
        x, y = WCS(header).world_to_pixel_values(ra, dec)
        assert max(abs(x - (pixels - 1) / 2), abs(y - (pixels - 1) / 2)) < 1

    return check


def check_variance_file(folder: Path) -> None:
    """The name of the file is kept as JSON text."""
    name = fits.getheader(folder / "w.fits")["VARFILE"]
    assert json.loads(name) == "se\u00f1al-v7.4-f444w-clear_drc_var.fits.gz"


def check_exposure_map(folder: Path) -> None:
    """The name of the log is in the header."""
    assert fits.getheader(folder / "\u00fc.fits")["WCSLOG"] == f"{PREFIX}_wcs.csv"


def check_gain(folder: Path) -> None:
    """It is the number that was given."""
    assert fits.getheader(folder / "w.fits")["DETGAIN"] == 1.87654


def mosaic(given: str, name: str, *says: str, **more: object) -> Case:
    """Return a case of a name that is none of a mosaic."""
    return Case(kind="Names", given=given, command=f"info {name}", outcome="refused", says=says, **more)


def place(given: str, command: str, outcome: str = "obeyed", *says: str, **more: object) -> Case:
    """Return a case of a position."""
    return Case(kind="Positions", given=given, command=command, outcome=outcome, says=says, **more)


def other(kind: str, given: str, command: str, outcome: str, *says: str, **more: object) -> Case:
    """Return another case."""
    return Case(kind=kind, given=given, command=command, outcome=outcome, says=says, **more)


CUT, HERE = f"weight {PREFIX} -o w.fits --cutout", (34.4001, -5.2, 100)
TEXT, NUMBERS = "Text that is not ASCII", "Numbers"

CASES = (
    mosaic("a folder", "more", "a folder", f"more/{PREFIX}", prepare=make_folder("more")),
    mosaic("an empty folder", "none", "holds no DJA products", prepare=make_folder("none", full=False)),
    mosaic("this folder", ".", "a folder", PREFIX),
    mosaic("a typo in the root", "sim-tset-v7.4-f444w-clear", "no such mosaic", f"did you mean {PREFIX}?"),
    mosaic("a typo in the filter", "sim-test-v7.4-f44w-clear", f"did you mean {PREFIX}?"),
    mosaic("upper case", "SIM-TEST-v7.4-F444W-CLEAR", f"did you mean {PREFIX}?"),
    mosaic("no filter", "sim-test-v7.4", f"did you mean {PREFIX}?"),
    mosaic("a typo in the suffix", f"{PREFIX}_drc_sci.fit", f"did you mean {PREFIX}_drc_sci.fits.gz?"),
    mosaic("a file that is unzipped elsewhere", f"{PREFIX}_drc_sci.fits", f"did you mean {PREFIX}_drc_sci.fits.gz?"),
    mosaic("a folder that is not there", f"mor/{PREFIX}", "did you mean more?", prepare=make_folder("more")),
    mosaic("another file", "mine.txt", "a file, but not", PREFIX, prepare=lambda folder: (folder / "mine.txt").touch()),
    mosaic(
        "an image of another archive",
        "jw01837-o001_t001_nircam_clear-f444w_i2d.fits",
        "a plugin loads those of other archives (photplug_find)",
        prepare=lambda folder: (folder / "jw01837-o001_t001_nircam_clear-f444w_i2d.fits").touch(),
    ),
    other(
        "Names",
        "a log with a typo",
        f"epochs {PREFIX}_wc.csv",
        "refused",
        f"did you mean {PREFIX}_wcs.csv?",
    ),
    place("degrees", f"{CUT} 34.4001 -5.2 4", check=cut_at(*HERE)),
    place("with colons", f"{CUT} 02:17:36.024 -05:12:00 4", check=cut_at(*HERE)),
    place("with spaces", f"{CUT} 02 17 36.024 -05 12 00 4", check=cut_at(*HERE)),
    place("with spaces, quoted", f"{CUT} '02 17 36.024' '-05 12 00' 4", check=cut_at(*HERE)),
    place("with letters", f"{CUT} 2h17m36.024s -5d12m00s 4arcsec", check=cut_at(*HERE)),
    place("with units", f"{CUT} 34.4001deg -5.2deg 0.1arcmin", check=cut_at(34.4001, -5.2, 150)),
    place("with commas", f"{CUT} 34.4001,-5.2,4", check=cut_at(*HERE)),
    place("before the mosaic", f"weight --cutout 34.4001 -5.2 4 {PREFIX} -o w.fits", check=cut_at(*HERE)),
    place("of epochs", f"epochs {PREFIX} --position 02:17:36.024 -05:12:00"),
    place("of stamps", f"galfit {PREFIX} -o stamps --position 2h17m36.024s -5d12m00s --size 3"),
    place("a word", f"epochs {PREFIX} --position here there", "refused", "--position", "02:17:12.8", status=2),
    place("no side", f"{CUT} 34.4001 -5.2", "refused", "--cutout", "not a position and a side", status=2),
    place("61 minutes", f"epochs {PREFIX} --position 02:61:36 -05:12:00", "refused", "02:61:36", status=2),
    place("a declination in hours", f"epochs {PREFIX} --position 2h -5h", "refused", "not a declination", status=2),
    place("beyond the pole", f"epochs {PREFIX} --position 34.4 95", "refused", "declination is 95 deg"),
    place(
        "over the edge of the mosaic",
        f"{CUT} 34.4001 -5.2 0.3arcmin",
        "warned",
        "cut-out of 18.0 arcsec around 34.4001 -5.2 reaches over the edge of the mosaic of 530 x 401 pixels: ",
        "18 x 16.04 of its 18 x 18 arcsec are on it",
    ),
    place("off the mosaic", f"{CUT} 02:18:36 -05:12:00 4", "refused", "around 34.65 -5.2", "lies off the mosaic"),
    place("not covered", f"epochs {PREFIX} --position 02:18:36.1 -05:12:00", "refused", "position 34.6504167 -5.2;"),
    other(
        TEXT,
        "a folder",
        f"catalog {NO_ASCII}/{PREFIX} -o cat.fits",
        "obeyed",
        prepare=make_folder(NO_ASCII),
        check=keeps(INPUT=f"{NO_ASCII}/{PREFIX}"),
    ),
    other(
        TEXT,
        "a root",
        "catalog se\u00f1al-v7.4-f444w-clear -o cat.fits",
        "obeyed",
        prepare=rename_root,
        check=keeps(INPUT="se\u00f1al-v7.4-f444w-clear", EPOCHS="se\u00f1al-v7.4-f444w-clear_wcs.csv"),
    ),
    other(
        TEXT,
        "a file of the variance",
        "weight se\u00f1al-v7.4-f444w-clear -o w.fits",
        "obeyed",
        prepare=add_variance,
        check=check_variance_file,
    ),
    other(
        TEXT,
        "an output",
        f"epochs {PREFIX} --exposure-map \u00fc.fits --footprints \u00fc.reg",
        "obeyed",
        check=check_exposure_map,
    ),
    other(
        NUMBERS,
        "a detector gain of six digits",
        f"weight {PREFIX} -o w.fits --detector-gain 1.87654",
        "obeyed",
        check=check_gain,
    ),
    other(
        NUMBERS,
        "an option beyond its bound",
        f"catalog {PREFIX} -o cat.fits --contrast 1.0000001",
        "refused",
        "option contrast: 1.0000001 is above its maximum 1; change --contrast",
    ),
    other(
        NUMBERS,
        "an option beyond its bound, in a file",
        f"catalog {PREFIX} -o cat.fits --config mine.toml",
        "refused",
        "option mesh: 0.05 is below its minimum 0.1 arcsec; change [background] mesh in mine.toml",
        prepare=lambda folder: (folder / "mine.toml").write_text("[background]\nmesh = 0.05\n"),
    ),
    other(
        NUMBERS,
        "a list with blanks",
        f"catalog {PREFIX} -o cat.fits --apertures 0.5 1.0",
        "refused",
        "unrecognized arguments: 1.0; values of --apertures have commas between them: 0.5,1.0;",
        status=2,
    ),
    other(
        NUMBERS,
        "a list with a unit",
        f"catalog {PREFIX} -o cat.fits --apertures 0.5arcsec",
        "refused",
        "'0.5arcsec' is no list of numbers with commas between them, such as 0.5,1",
        status=2,
    ),
    other(
        NUMBERS,
        "an aperture twice",
        f"catalog {PREFIX} -o cat.fits --apertures 0.5,1,0.5",
        "refused",
        "option apertures: 0.5 is given twice; give each diameter once; change --apertures",
    ),
    other(
        NUMBERS,
        "a detector gain that nothing takes",
        f"weight {PREFIX} -o w.fits --noise background --detector-gain 2",
        "refused",
        "option detector_gain: 2.0 has no effect",
    ),
    other(NUMBERS, "a word", f"catalog {PREFIX} -o cat.fits --n-sigma many", "refused", "--n-sigma", "many", status=2),
)
