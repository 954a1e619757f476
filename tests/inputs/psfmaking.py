"""PSFs by region, and PSFs that are made of stars or of the log: what is missing, or of something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable

from dja_photplug import PSF, PSFModel, write_psf_model
from dja_photplug.sky.grid import header_wcs
from tests.helpers import gaussian
from tests.inputs.cases import Case, Outcome
from tests.inputs.headers import PREFIX

STARS = f"psf stars {PREFIX} -o psf.fits --noise dja"
LOG = f"psf log {PREFIX} -o psf.fits --detector-psf det.fits"
PLACE = "--position 34.4 -5.2"
CUT = "--cutout 34.4 -5.2 9"
SIGMA = 0.0616  # arcsec, F444W


def stamp(sigma: float = SIGMA, scale: float = 0.04, shift: int = 0) -> np.ndarray:
    """Return a Gaussian that holds 0.95 of the light, `shift` pixels off its middle."""
    pixels = gaussian((101, 101), 50 + shift, 50, sigma / scale)
    return 0.95 * pixels / pixels.sum()


def write_detector(shift: int = 0, **cards: object) -> Callable[[Path], None]:
    """Return what writes the PSF of a detector in pixels of 20 mas."""
    known = {"PIXSCL": 0.02, "DETECTOR": "NRCALONG", "FILTER": "F444W"} | cards
    stated = {key: value for key, value in known.items() if value is not None}

    def prepare(folder: Path) -> None:
        pixels = stamp(scale=0.02, shift=shift).astype(np.float32)
        fits.writeto(folder / "det.fits", pixels, fits.Header(stated))

    return prepare


def also(prepare: Callable[[Path], None], change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what does both."""

    def both(folder: Path) -> None:
        prepare(folder)
        change(folder)

    return both


def drop_log(folder: Path) -> None:
    (folder / f"{PREFIX}_wcs.csv").unlink()


def drop_weights(folder: Path) -> None:
    [path] = folder.glob(f"{PREFIX}_drc_sci.fits.gz")
    data, header = fits.getdata(path), fits.getheader(path)
    for key in [key for key in header if key.startswith("WHT0")]:
        del header[key]
    path.unlink()
    fits.writeto(path, data, header)


def write_places(folder: Path) -> None:
    """Write a catalogue of one place on the mosaic, and one beside it."""
    QTable({"ra": [34.4, 35.4], "dec": [-5.2, -5.2]}).write(folder / "places.ecsv")


def write_regions(folder: Path) -> None:
    """Write two PSFs of the left and right half of the mosaic, without one in the lower half."""
    header = fits.getheader(f"{folder}/{PREFIX}_drc_sci.fits.gz")
    wcs = header_wcs(header)
    labels = np.repeat(np.array([[0], [1]], np.int16), 2, axis=1).T
    labels[0] = -1
    size = np.array([header["NAXIS1"], header["NAXIS2"]])
    wcs.wcs.crpix = (wcs.wcs.crpix - 0.5) / size * 2 + 0.5
    wcs.wcs.cd = wcs.wcs.cd * size[0] / 2
    wcs.wcs.set()
    stamps = tuple(PSF(data=stamp(s), scale=0.04, centre=(50, 50), name="made") for s in (SIGMA, 1.1 * SIGMA))
    write_psf_model(PSFModel(stamps=stamps, name="psf.fits", labels=labels, wcs=wcs), folder / "regions.fits")


def damage_regions(folder: Path) -> None:
    """Take out one of the PSFs."""
    write_regions(folder)
    with fits.open(folder / "regions.fits", mode="update") as hdus:
        del hdus["PSF", 2]


def has_psf(folder: Path) -> None:
    """See a PSF of the right width."""
    pixels = fits.getdata(folder / "psf.fits")
    y, _ = np.indices(pixels.shape) - 50
    core = np.hypot(*(np.indices(pixels.shape) - 50)) < 12
    width = np.sqrt((y**2 * pixels)[core].sum() / pixels[core].sum()) * 0.04
    assert 0.9 * SIGMA < width < 1.5 * SIGMA


def without_totals(folder: Path) -> None:
    """See totals where there is a PSF, and nowhere else."""
    total = QTable.read(folder / "cat.ecsv")["tot_1"]
    assert np.isnan(total).any()
    assert np.isfinite(total).any()


Act = Callable[[Path], object]


def of_stars(given: str, command: str, outcome: Outcome, *says: str, check: Act | None = None) -> Case:
    return Case(kind="PSF of stars", given=given, command=command, outcome=outcome, says=says, check=check)


def of_log(
    given: str, command: str, outcome: Outcome, *says: str, prepare: Act | None = None, check: Act | None = None
) -> Case:
    return Case(
        kind="PSF of the log", given=given, command=command, outcome=outcome, says=says,
        prepare=prepare or write_detector(), check=check,
    )  # fmt: skip


def by_region(
    given: str, command: str, outcome: Outcome, *says: str, prepare: Act = write_regions, check: Act | None = None
) -> Case:
    return Case(
        kind="PSF by region", given=given, command=command, outcome=outcome, says=says, prepare=prepare, check=check
    )


CASES = (
    of_stars("10 stars or more", f"{STARS} --snr 30", "obeyed", check=has_psf),
    of_stars("3 to 9 stars", f"{STARS} --snr 500", "warned", PREFIX, "made of", "stars"),
    of_stars("fewer than 3 stars", f"{STARS} --snr 100000", "refused", PREFIX, "no unsaturated", "--snr"),
    of_stars("a position for stars", f"{STARS} {PLACE}", "refused", "--position", "psf log"),
    of_stars("a size below 1 arcsec", f"{STARS} --size 0.1", "refused", "size", "0.1"),
    of_log("a position", f"{LOG} {PLACE} --quiet", "obeyed", check=has_psf),
    of_log("weights of the header", f"{LOG} {PLACE} --weights header --quiet", "obeyed", check=has_psf),
    of_log("weights that the header lacks", f"{LOG} {PLACE} --weights header", "refused", "WHT00001", "exptime",
           prepare=also(write_detector(), drop_weights)),
    of_log("a detector's PSF of another detector", f"{LOG} {PLACE}", "refused", "det.fits", "NRCB1", "NRCALONG",
           prepare=write_detector(DETECTOR="NRCB1")),
    of_log("a detector's PSF of another filter", f"{LOG} {PLACE}", "refused", "det.fits", "F115W", "f444w-clear",
           prepare=write_detector(FILTER="F115W")),
    of_log("no detector stated", f"{LOG} {PLACE} --quiet", "warned", "det.fits", "DETECTOR", "NRCALONG",
           prepare=write_detector(DETECTOR=None), check=has_psf),
    of_log("no pixel scale stated", f"{LOG} {PLACE}", "refused", "det.fits", "no pixel scale",
           prepare=write_detector(PIXSCL=None)),
    of_log("pixels larger than the detector's", f"{LOG} {PLACE}", "refused", "det.fits", "larger than the detector's",
           prepare=write_detector(PIXSCL=0.07)),
    of_log("a PSF that is not centred", f"{LOG} {PLACE}", "refused", "det.fits", "centred at",
           prepare=write_detector(shift=35)),
    of_log("no PSF of a detector", f"psf log {PREFIX} -o psf.fits {PLACE}", "refused", "--detector-psf"),
    of_log("no place", LOG, "refused", "--position", "--catalog"),
    of_log("a position off the mosaic", f"{LOG} --position 35.4 -5.2", "refused", "no exposure covers the position"),
    of_log("a place off the mosaic in a catalogue", f"{LOG} --catalog places.ecsv --quiet", "warned",
           "1 of 2 positions", prepare=also(write_detector(), write_places), check=has_psf),
    of_log("a mosaic without a log", f"{LOG} {PLACE}", "refused", f"{PREFIX}_wcs.csv",
           prepare=also(write_detector(), drop_log)),
    by_region("sources in no region", f"catalog {PREFIX} -o cat.ecsv --noise dja --psf regions.fits", "warned",
              "regions.fits", "no PSF for", "positions; their PSF-based columns are NaN", check=without_totals),
    by_region("a target in no region", f"galfit {PREFIX} --position 34.4 -5.2015 -o out --psf regions.fits", "refused",
              "regions.fits", "no PSF for target", "give a PSF for that position"),
    by_region("injected sources in no region", f"inject {PREFIX} -o out.ecsv --noise dja --realisations 1 --workers 1 "
              "--psf regions.fits", "refused", "regions.fits", "no PSF for", "injected sources"),
    by_region("as the PSF that bands are brought to", f"catalog {PREFIX} -o cat.ecsv --noise dja --psf regions.fits "
              "--match regions.fits", "refused", "regions.fits", "PSFs by region", "give an image of one"),
    by_region("one of the PSFs missing", f"galfit {PREFIX} {PLACE} -o out --psf regions.fits", "refused",
              "regions.fits", "missing", prepare=damage_regions),
)  # fmt: skip
