"""Images of the PSF: with whatever pixel scale, size and sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable

from tests.helpers import gaussian
from tests.inputs.cases import Case, Outcome
from tests.inputs.headers import PREFIX

SIGMA = 0.0616  # arcsec, F444W
CUT = "--cutout 34.4 -5.2 9"
CATALOG = f"catalog {PREFIX} -o cat.ecsv --noise dja --psf f444w=psf.fits {CUT}"
EXTEND = f"extend cat.ecsv {PREFIX} -o out.ecsv --noise dja --psf f444w=psf.fits {CUT}"
GALFIT = f"galfit {PREFIX} --position 34.4 -5.2 -o out --psf psf.fits"
INJECT = f"inject {PREFIX} -o out.ecsv --noise dja --realisations 1 --workers 1 --psf psf.fits"
COMMANDS = {"catalog": CATALOG, "galfit": GALFIT, "inject": INJECT}
WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 34.0, "CRVAL2": -5.0, "CRPIX1": 1.0, "CRPIX2": 1.0}
STATED = {"PIXSCL": 0.04}
TILED = WCS | {"CDELT1": -0.02 / 3600, "CDELT2": 0.02 / 3600}


def write_psf(
    size: int = 101,
    scale: float = 0.04,
    total: float = 0.95,
    sky: float = 0.0,
    cards: Mapping[str, object] | None = None,
) -> Callable[[Path], None]:
    """Return what writes a Gaussian of F444W's width with these cards, and nothing else that tells its scale."""

    def prepare(folder: Path) -> None:
        middle = (size - 1) / 2
        pixels = gaussian((size, size), middle, middle, SIGMA / scale)
        data = (total * pixels / pixels.sum() + sky).astype(np.float32)
        fits.writeto(folder / "psf.fits", data, fits.Header(cards or {}))

    return prepare


def totals_follow(share: float) -> Callable[[Path], None]:
    """Return what sees that totals are those of a PSF of that width and share: most Kron apertures are the circle."""

    def check(folder: Path) -> None:
        table = QTable.read(folder / "cat.ecsv")
        inside = share * (1 - np.exp(-(0.35**2) / 2 / SIGMA**2))
        np.testing.assert_allclose(np.nanmedian(table["corr_1"] / table["tot_1"]), inside, rtol=0.005)

    return check


def stamp_is_odd(folder: Path) -> None:
    """See a PSF with the pixels of the mosaic, centred on the middle one, of the right width."""
    stamp = fits.getdata(folder / "out/target_psf.fits")
    assert all(n % 2 for n in stamp.shape)
    y, x = np.indices(stamp.shape) - np.array([n // 2 for n in stamp.shape])[:, None, None]
    assert abs((x * stamp).sum()) < 0.01
    assert abs((y * stamp).sum()) < 0.01
    np.testing.assert_allclose(np.sqrt((x**2 * stamp).sum() * 0.04**2), SIGMA, rtol=0.05)


def scale_is(scale: float) -> Callable[[Path], None]:
    """Return what sees the pixel scale that was used in the metadata."""

    def check(folder: Path) -> None:
        np.testing.assert_allclose(QTable.read(folder / "out.ecsv").meta["PSFSCALE"], scale, rtol=1e-6)

    return check


def make(
    given: str,
    command: str,
    outcome: Outcome,
    *says: str,
    kind: str = "Pixel scale of a PSF",
    check: Callable[[Path], object] | None = None,
    size: int = 101,
    scale: float = 0.04,
    total: float = 0.95,
    sky: float = 0.0,
    cards: Mapping[str, object] | None = None,
) -> Case:
    """Return a case of a PSF that `write_psf` writes."""
    prepare = write_psf(size, scale, total, sky, cards)
    return Case(kind=kind, given=given, command=command, outcome=outcome, says=says, prepare=prepare, check=check)


SCALES = (
    *(
        make(f"30 mas by `{', '.join(cards)}`", INJECT, "obeyed", scale=0.03, check=scale_is(0.03), cards=cards)
        for cards in ({"PIXSCL": 0.03}, {"PIXELSCL": 0.03}, {"PIXSCALE": 0.03}, {"PIXAR_A2": 0.0009})
    ),
    make("20 mas by a WCS", INJECT, "obeyed", scale=0.02, size=200, check=scale_is(0.02), cards=TILED),
    make("30 mas by an option, for a catalogue", f"{CATALOG} --psf-scale f444w=0.03", "obeyed", scale=0.03,
         check=totals_follow(0.95)),
    make("30 mas by an option, for injection", f"{INJECT} --psf-scale 0.03", "obeyed", scale=0.03,
         check=scale_is(0.03)),
    make("30 mas by an option, for stamps", f"{GALFIT} --psf-scale 0.03", "obeyed", scale=0.03, check=stamp_is_odd),
    make("an option that contradicts the header", f"{INJECT} --psf-scale 0.03", "warned", "0.03", "PIXSCL", scale=0.03,
         check=scale_is(0.03), cards=STATED),
    *(
        make(f"nothing that tells, for `{name}`", command, "warned", "psf.fits", "assumed", "0.04", "--psf-scale")
        for name, command in COMMANDS.items()
    ),
    make("two keywords that differ", CATALOG, "refused", "psf.fits", "PIXSCL", "PIXSCALE",
         cards={"PIXSCL": 0.04, "PIXSCALE": 0.03}),
    make("text", INJECT, "refused", "psf.fits", "PIXELSCL", "'40 mas'", cards={"PIXELSCL": "40 mas"}),
    make("0", GALFIT, "refused", "psf.fits", "PIXSCALE", "positive", cards={"PIXSCALE": 0}),
    make("in mas", CATALOG, "refused", "psf.fits", "wrong scale", cards={"PIXSCL": 40.0}),
    make("an area of 0", INJECT, "refused", "psf.fits", "PIXAR_A2", cards={"PIXAR_A2": 0.0}),
    make("a WCS without numbers", CATALOG, "refused", "psf.fits", "CRVAL1", "CDELT1",
         cards={"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}),
    make("a scale for a band without a PSF", f"catalog {PREFIX} -o cat.ecsv --psf-scale f444w=0.03", "refused",
         "psf_scale", "no PSF"),
    make("a scale without a PSF", f"inject {PREFIX} -o out.ecsv --psf-scale 0.03", "refused", "psf_scale",
         "no PSF image"),
)  # fmt: skip

SIZES = (
    make("an even size, for a catalogue", CATALOG, "obeyed", kind="Size of a PSF", size=100, check=totals_follow(0.95),
         cards=STATED),
    make("an even size, for stamps", GALFIT, "obeyed", kind="Size of a PSF", size=100, check=stamp_is_odd,
         cards=STATED),
    make("an even size, for injection", INJECT, "obeyed", kind="Size of a PSF", size=100, cards=STATED),
    make("pixels of 10 mas and an even size, for a catalogue", CATALOG, "obeyed", kind="Size of a PSF", size=200,
         scale=0.01, check=totals_follow(0.95), cards={"PIXELSCL": 0.01}),
    make("pixels of 10 mas and an even size, for stamps", GALFIT, "obeyed", kind="Size of a PSF", size=200, scale=0.01,
         check=stamp_is_odd, cards={"PIXELSCL": 0.01}),
    make("pixels of 10 mas and an even size, for injection", INJECT, "obeyed", kind="Size of a PSF", size=200,
         scale=0.01, check=scale_is(0.01), cards={"PIXELSCL": 0.01}),
    make("4 pixels on a side", CATALOG, "refused", "psf.fits", "4 x 4", kind="Size of a PSF", size=4, cards=STATED),
)  # fmt: skip

SUMS = (
    make("1.0125, as of ACS, for a catalogue", CATALOG, "warned", "psf.fits", "sums to 1.013", "--psf-share",
         kind="Sum of a PSF", total=1.01251, check=totals_follow(1.0), cards=STATED),
    make("1.11, as of WFC3/IR, for injection", INJECT, "warned", "psf.fits", "sums to 1.11", kind="Sum of a PSF",
         total=1.11, cards=STATED),
    make("1.11, for stamps, whose sum is 1", GALFIT, "obeyed", kind="Sum of a PSF", total=1.11, check=stamp_is_odd,
         cards=STATED),
    make("20,000, as of counts", CATALOG, "warned", "psf.fits", "sums to 2e+04", kind="Sum of a PSF", total=2e4,
         check=totals_follow(1.0), cards=STATED),
    make("1.0125, with its share", f"{CATALOG} --psf-share f444w=0.925", "obeyed", kind="Sum of a PSF", total=1.0125,
         check=totals_follow(0.925), cards=STATED),
    make("a curve of growth that rises above 1", CATALOG, "refused", "psf.fits", "curve of growth", kind="Sum of a PSF",
         total=1.1, sky=-1e-5, cards=STATED),
    make("a share above 1", f"{CATALOG} --psf-share f444w=1.1", "refused", "psf_share", "1.1", kind="Sum of a PSF",
         cards=STATED),
)  # fmt: skip

MATCHED = f"{CATALOG} --match"
KIND = "PSF that bands are brought to"


def is_matched(folder: Path) -> None:
    """See that the only band is at its own PSF: matched fluxes are those in apertures."""
    table = QTable.read(folder / "cat.ecsv")
    assert np.array_equal(table["match_aper_1"].value, table["flux_aper_1"].value, equal_nan=True)


def write_target(sigma: float, total: float, scale: float, shift: int, *, stated: bool) -> Callable[[Path], None]:
    """Return what writes a PSF as of `write_psf`, a target that states its scale or not, and a catalogue."""

    def prepare(folder: Path) -> None:
        write_psf(cards=STATED)(folder)
        pixels = gaussian((101, 101), 50 + shift, 50, sigma / scale)
        cards = fits.Header({"PIXSCL": scale} if stated else {})
        fits.writeto(folder / "target.fits", (total * pixels / pixels.sum()).astype(np.float32), cards)
        QTable({"id": [1], "ra": [34.4], "dec": [-5.2]}).write(folder / "one.ecsv")

    return prepare


def aim(
    given: str,
    command: str,
    outcome: Outcome,
    *says: str,
    check: Callable[[Path], object] | None = None,
    sigma: float = 0.1,
    total: float = 0.95,
    scale: float = 0.04,
    shift: int = 0,
    stated: bool = True,
) -> Case:
    """Return a case of a PSF that bands are brought to, `shift` pixels off its middle."""
    prepare = write_target(sigma, total, scale, shift, stated=stated)
    return Case(kind=KIND, given=given, command=command, outcome=outcome, says=says, prepare=prepare, check=check)


TARGETS = (
    aim("that of the only band", f"{MATCHED} f444w", "obeyed", check=is_matched),
    aim("that of a file, with pixels of 20 mas", f"{MATCHED} target.fits", "obeyed", scale=0.02),
    aim("a file that holds more of the light than the band's", f"{MATCHED} target.fits", "warned", "target.fits",
        "-5.0 %", "colours", total=1.0),
    aim("for a band without a PSF", f"catalog {PREFIX} -o cat.ecsv --noise dja --match f444w {CUT}", "refused",
        "match", "f444w has no PSF"),
    aim("that of a band that is not there", f"{MATCHED} f277w", "refused", "match", "f277w", "f444w"),
    aim("a file that states no pixel scale", f"{MATCHED} target.fits", "refused", "target.fits", "no pixel scale",
        "header", stated=False),
    aim("a file with a PSF that is not centred", f"{MATCHED} target.fits", "refused", "target.fits", "centred at",
        shift=35),
    aim("a file that is no PSF", f"{MATCHED} {PREFIX}_drc_sci.fits.gz", "refused", "_sci.fits.gz"),
    aim("one that is narrower than that of the band", f"{MATCHED} target.fits", "refused", "0.094", "0.145",
        "sharpened", sigma=0.04),
    aim("one that is narrower, for a catalogue that is extended",
        f"extend one.ecsv {PREFIX} -o out.ecsv --noise dja --psf f444w=psf.fits --match target.fits", "refused",
        "sharpened", sigma=0.04),
)  # fmt: skip

CASES = SCALES + SIZES + SUMS + TARGETS
