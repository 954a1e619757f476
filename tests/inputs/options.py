"""Options of one band among several, and names that are nearly right."""

from __future__ import annotations

import shutil
from pathlib import Path

from astropy.io import fits
from astropy.table import Table

from dja_photplug.cli.app import main
from tests.inputs.cases import Case
from tests.inputs.psfs import write_psf

PREFIX = "sim-test-v7.4-f444w-clear"
OTHER = "sim-test-v7.4-f115w-clear"
FAST = "--noise background --detect f444w"


def add_band(folder: Path) -> None:
    """Put a second band beside the first, with the same pixels."""
    for path in folder.glob(f"{PREFIX}_*"):
        shutil.copy(path, folder / path.name.replace("f444w", "f115w"))


def write_config(text: str):
    """Return what writes a configuration file."""
    return lambda folder: (folder / "mine.toml").write_text(text)


def gain_is(value: float):
    """Return what checks the detector gain of a weight."""

    def check(folder: Path) -> None:
        assert fits.getheader(folder / "w.fits")["DETGAIN"] == value

    return check


def check_zero_point(folder: Path) -> None:
    """The fluxes of F115W, by its zero point, are 10 times those of F444W, which has the same pixels."""
    table = Table.read(folder / "cat.fits")
    assert abs(table["f115w_flux_aper_1"] / table["f444w_flux_aper_1"] - 10).max() < 1e-3


def make(given: str, command: str, outcome: str, *says: str, **more: object) -> Case:
    """Return a case of options."""
    return Case(kind="Options by band", given=given, command=command, outcome=outcome, says=says, **more)


def typo(given: str, command: str, *says: str, status: int = 1, **more: object) -> Case:
    """Return a case of a name that is not there."""
    more = {"outcome": "refused", "status": status, **more}
    return Case(kind="Misspelt names", given=given, command=command, says=says, **more)


def prepare_segments(folder: Path) -> None:
    """Write the segments of the sources of the mosaic, as `catalog` finds them."""
    assert main(f"catalog {PREFIX} -o found.fits --noise dja --segmentation seg.fits --quiet".split()) == 0


def take_weight(folder: Path) -> None:
    """Leave the mosaic no pixel with data."""
    path = folder / f"{PREFIX}_drc_wht.fits.gz"
    pixels, header = fits.getdata(path, header=True)
    fits.writeto(path, 0 * pixels, header, overwrite=True)


def idle(given: str, flags: str, *says: str, outcome: str = "warned", **more: object) -> Case:
    """Return a case of flags that have no effect beside others."""
    command = str(more.pop("command", f"catalog {PREFIX} -o c.fits {CUT}"))
    return Case(
        kind="Flags without effect", given=given, command=f"{command} {flags}", outcome=outcome, says=says, **more
    )


CUT = "--cutout 34.4001 -5.2 14"
WEIGHT = f"weight {PREFIX} -o w.fits"
CATALOG = f"catalog {PREFIX} {OTHER} -o cat.fits"

CASES = (
    make("a detector gain of one band", f"{WEIGHT} --detector-gain 2", "obeyed", check=gain_is(2.0)),
    make("the same with its name", f"{WEIGHT} --detector-gain f444w=2", "obeyed", check=gain_is(2.0)),
    make(
        "the same from a file",
        f"{WEIGHT} --config mine.toml",
        "obeyed",
        prepare=write_config('[variance]\ndetector_gain = {"f444w-clear" = 2.0}\n'),
        check=gain_is(2.0),
    ),
    make(
        "one detector gain for two bands",
        f"{CATALOG} --detector-gain 2",
        "refused",
        "option detector_gain",
        "f444w, f115w",
        "name the band",
        prepare=add_band,
    ),
    make(
        "one scale for two bands, from a file",
        f"{CATALOG} --config mine.toml",
        "refused",
        "option phot_scale",
        "f444w, f115w",
        prepare=lambda folder: (add_band(folder), write_config("[variance]\nphot_scale = 0.3\n")(folder)),
    ),
    make(
        "one zero point for two bands",
        f"{CATALOG} --zero-point 25",
        "refused",
        "option zero_point",
        "name the band",
        prepare=add_band,
    ),
    make(
        "one PSF for two bands", f"{CATALOG} --psf psf.fits", "refused", "option psf", "name the band", prepare=add_band
    ),
    make(
        "the zero point of one of two bands",
        f"{CATALOG} --zero-point f115w=26.4 {FAST}",
        "obeyed",
        prepare=add_band,
        check=check_zero_point,
    ),
    make(
        "a detector gain for one mosaic, and another band that it is detected on",
        f"catalog {PREFIX} -o cat.fits --detect f115w --detector-gain 2",
        "refused",
        "f444w, f115w",
        prepare=add_band,
    ),
    make(
        "two detector gains of one band",
        f"{WEIGHT} --detector-gain f444w=2 --detector-gain f444w-clear=3",
        "refused",
        "two values for f444w",
    ),
    make(
        "a detector gain with and one without its band",
        f"{WEIGHT} --detector-gain f444w=2 --detector-gain 3",
        "refused",
        "3.0 names no band",
    ),
    make(
        "a PSF of another band for stamps",
        f"galfit {PREFIX} -o stamps --position 34.4001 -5.2 --psf f115w=psf.fits",
        "refused",
        "f115w is not one of the bands f444w",
    ),
    typo("a flag", f"weight {PREFIX} --nosie dja -o w.fits", "did you mean --noise?", status=2),
    typo("a flag that is required", f"weight {PREFIX} --outptu w.fits", "did you mean --output?", status=2),
    typo("a flag with an underscore", f"catalog {PREFIX} -o c.fits --n_sigma 3", "did you mean --n-sigma?", status=2),
    typo("a flag with one dash", f"weight {PREFIX} -output w.fits", "did you mean --output?", status=2),
    typo("a flag with a long dash", f"{WEIGHT} \u2013noise dja", "did you mean --noise?", status=2),
    idle(
        "a sky annulus, where the sky is another", "--annulus 1,2", "--annulus has no effect: the sky is 'mesh'; give"
    ),
    idle("a sky annulus", "--annulus 1,2 --sky annulus", outcome="obeyed"),
    idle("a sky annulus of bands", "--annulus 1,2 --band-sky annulus --neighbours mask", outcome="obeyed"),
    idle(
        "empty apertures, where none are measured",
        "--noise dja --zones 2 --radius-max 1",
        "--radius-max, --zones have no effect: the noise preset 'dja' measures no empty apertures",
    ),
    idle("the window of isophotal positions", "--noise dja --window 0.1", "--window has no effect: positions are"),
    idle("levels without deblending", "--contrast 1 --n-levels 64", "--n-levels has no effect: nothing is deblended"),
    idle("a filter without a kernel", "--kernel 0 --filter-type matched", "--filter-type has no effect"),
    idle(
        "a threshold beside given segments",
        "--use-segmentation seg.fits --n-sigma 2 --n-levels 64 --contrast 1",
        "--n-sigma, --n-levels, --contrast have no effect: the segments are given",
        prepare=prepare_segments,
    ),
    idle(
        "a flag without effect in a run that is refused",
        "--annulus 1,2 --detect f115w",
        "option detect: f115w is not one of the bands f444w",
        outcome="refused",
    ),
    idle(
        "such a flag where the sky has no pixel",
        "--annulus 1,2 --zones 2",
        "no pixel of the image is left for its background",
        outcome="refused",
        prepare=take_weight,
    ),
    idle(
        "shapes of points in a run that is refused",
        "--half-light 0.1,0.2 --psf psf.fits",
        "psf.fits",
        outcome="refused",
        command=f"inject {PREFIX} -o i.fits --noise dja --workers 1 --realisations 1 --bin-width 2",
    ),
    idle("the aperture for eazy, in a table", "--eazy-aperture 0", "--eazy-aperture has no effect"),
    idle(
        "shapes of points",
        "--half-light 0.1,0.2 --sersic-index 4",
        "--half-light, --sersic-index have no effect: points are injected",
        command=f"inject {PREFIX} -o i.fits --noise dja --workers 1 --realisations 1 --bin-width 2",
    ),
    idle(
        "the width of a PSF that is given",
        "--psf psf.fits --psf-fwhm 0.2",
        "--psf-fwhm has no effect: the PSF is that of --psf",
        command=f"inject {PREFIX} -o i.fits --noise dja --workers 1 --realisations 1 --bin-width 2",
        prepare=write_psf(),
    ),
    typo("a command", f"catlog {PREFIX}", "did you mean catalog?", status=2),
    typo("one of the choices of a flag", f"{WEIGHT} --kind sgima", "did you mean sigma?", status=2),
    typo("a noise preset", f"{WEIGHT} --noise calibratd", "noise preset 'calibratd'", "did you mean calibrated?"),
    typo("an engine", f"catalog {PREFIX} -o c.fits --engine photutil", "did you mean photutils?"),
    typo("a format", f"catalog {PREFIX} -o c.fits --format easy", "did you mean eazy?"),
    typo("a band", f"{WEIGHT} --phot-scale f44w=0.3", "option phot_scale: f44w", "did you mean f444w?"),
    typo("a zero point's band", f"catalog {PREFIX} -o c.fits --zero-point f144w=25", "did you mean f444w?"),
    typo("the band to match", f"catalog {PREFIX} -o c.fits --match f44w", "option match: f44w", "did you mean f444w?"),
    typo("a unit", f"catalog {PREFIX} -o c.fits --unit njy", "did you mean nJy?", status=2),
    typo(
        "a unit in a file",
        f"catalog {PREFIX} -o c.fits --config mine.toml",
        "option unit",
        "did you mean nJy?",
        prepare=write_config('[output]\nunit = "njy"\n'),
    ),
    make(
        "another unit than the archive's in its columns",
        f"catalog {PREFIX} -o c.fits --unit nJy --like-dja",
        "refused",
        "option unit: dja has its own units",
        "change --unit",
    ),
    make(
        "another unit than eazy's",
        f"catalog {PREFIX} -o c.fits --unit nJy --format eazy",
        "refused",
        "option unit: eazy",
    ),
    typo("the band to detect on", f"catalog {PREFIX} -o c.fits --detect f444", "did you mean f444w?"),
    typo(
        "a key in a file",
        f"{WEIGHT} --config mine.toml",
        "mine.toml: [detect] nsigma",
        "did you mean [detect] n_sigma?",
        prepare=write_config("[detect]\nnsigma = 3\n"),
    ),
    typo(
        "a table in a file",
        f"{WEIGHT} --config mine.toml",
        "did you mean [detect]?",
        prepare=write_config("[detct]\nn_sigma = 3\n"),
    ),
    typo(
        "a key of another table",
        f"{WEIGHT} --config mine.toml",
        "did you mean [measure] kron_factor?",
        prepare=write_config("[detect]\nkron_factor = 3\n"),
    ),
    typo(
        "a flag in place of a key",
        f"{WEIGHT} --config mine.toml",
        "did you mean [measure] background?",
        prepare=write_config('[measure]\nsky = "mesh"\n'),
    ),
    typo(
        "a choice in a file",
        f"catalog {PREFIX} -o c.fits --config mine.toml",
        "did you mean annulus?",
        "[measure] background in mine.toml",
        prepare=write_config('[measure]\nbackground = "anulus"\n'),
    ),
    typo(
        "a detail of epochs",
        f"catalog {PREFIX} -o c.fits --epoch-details visit",
        "did you mean visits?",
        "change --epoch-details",
    ),
    typo(
        "a column",
        f"extend mine.csv {PREFIX} -o c.fits --ra raa --dec dec",
        "no position columns raa/dec",
        "did you mean ra?",
        prepare=lambda folder: (folder / "mine.csv").write_text("ra,dec\n34.4001,-5.2\n"),
    ),
    typo(
        "a format of stamps",
        f"galfit {PREFIX} -o stamps --position 34.4001 -5.2 --format imft",
        "format 'imft'",
        "did you mean imfit?",
    ),
    typo(
        "a plugin in DJA_PHOTPLUG_BLOCK",
        WEIGHT,
        "DJA_PHOTPLUG_BLOCK",
        "did you mean sep-engine?",
        environment={"DJA_PHOTPLUG_BLOCK": "sep-engin"},
        outcome="warned",
    ),
    typo(
        "the variable DJA_PHOTPLUG_BLOCK",
        WEIGHT,
        "DJA_PHOTPLUG_BLOC is ignored",
        "did you mean DJA_PHOTPLUG_BLOCK?",
        environment={"DJA_PHOTPLUG_BLOC": "sep-engine"},
        outcome="warned",
    ),
    typo(
        "a value of DJA_PHOTPLUG_TRACE",
        WEIGHT,
        "DJA_PHOTPLUG_TRACE: 'ja' is neither 1 nor 0",
        environment={"DJA_PHOTPLUG_TRACE": "ja"},
    ),
)
