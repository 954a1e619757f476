"""Bands of which a run has no data, or too little sky for a(r): they are named, and the others are as without them."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, InverseVariance
from astropy.table import QTable, Table
from astropy.wcs import WCS

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.files.pixels import read_grid
from dja_photplug.plugin import Options, Source, hookimpl
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from tests.helpers import expect_error, plain, write_psf

LONG, SHORT, OTHER = BANDS = ("f444w", "f115w", "f200w")
SHAPE = (200, 220)
SLIVER = 12  # columns, in which no 100 empty apertures fit
Spoil = Callable[[str], object]


def prefix(band: str) -> str:
    return f"sim-v1-{band}-clear"


def keep_columns(number: int) -> Spoil:
    """Return what leaves a band data in its first columns."""

    def spoil(band: str) -> None:
        with fits.open(f"{prefix(band)}_drc_wht.fits", mode="update") as hdus:
            hdus[0].data[:, number:] = 0

    return spoil


def cut_off(band: str) -> None:
    """Leave a mosaic of the first columns."""
    for kind, columns in (("sci", 80), ("wht", 80), ("exp", 20)):
        path = f"{prefix(band)}_drc_{kind}.fits"
        pixels, header = fits.getdata(path, header=True)
        fits.writeto(path, pixels[:, :columns], header, overwrite=True)


LACKING = {"none": keep_columns(0), "sliver": keep_columns(SLIVER), "off": cut_off}
TOLD = {
    "none": "it has no data: its fluxes are NaN, with the flag NOT_COVERED",
    "sliver": "so the noise cannot be calibrated: the errors of its fluxes are NaN; use a larger cut-out",
    "off": "it has no data in the cut-out: its fluxes are NaN, with the flag NOT_COVERED",
}


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field in three bands."""
    folder = tmp_path_factory.mktemp("field")
    simulated = simulate_field(FieldOptions(shape=SHAPE, density=900.0))
    for band in BANDS:
        write_field(simulated, folder, "sim-v1", f"{band}-clear")
    return folder


@pytest.fixture
def folder(field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in the working directory."""
    shutil.copytree(field, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cutout(lacking: str) -> str:
    """Return the cut-out of a run: right of where the short band has pixels, where it is cut off."""
    if lacking != "off":
        return ""
    position = read_grid(Path(f"{prefix(LONG)}_drc_sci.fits")).wcs.pixel_to_world(149.5, 99.5)
    return f"--cutout {position.to_string(precision=9)} 5.5"


def run(arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what a command says on stderr."""
    capsys.readouterr()
    assert main(f"{arguments} --quiet --overwrite".split()) == 0
    return capsys.readouterr().err.splitlines()


def expect_lacking(table: QTable, lacking: str) -> None:
    """See NaN for what a band does not say, and no number that it does not know."""
    for name in table.colnames:
        if name.startswith(f"{SHORT}_") and ("err" in name or "ecorr" in name or "etot" in name or "depth5" in name):
            assert np.isnan(np.ma.filled(plain(table[name]), np.nan)).all(), name
    flux = np.ma.filled(plain(table[f"{SHORT}_flux_auto"]), np.nan)
    covered = (np.asarray(table[f"{SHORT}_flag"]) & dp.SourceFlag.NOT_COVERED) == 0
    assert covered.any() == np.isfinite(flux).any() == (lacking == "sliver")
    assert np.isfinite(plain(table[f"{OTHER}_fluxerr_auto"])).all()


@pytest.mark.parametrize(
    ("lacking", "more"),
    [
        ("none", ""),
        ("none", "--noise dja"),
        ("none", "--engine photutils --contrast 1"),
        ("sliver", ""),
        ("off", f"--detect {LONG} --workers 2"),
        ("off", ""),
    ],
)
def test_catalog(folder, capsys, lacking, more):
    LACKING[lacking](SHORT)
    more = f"{more} {cutout(lacking)}"
    told = run(f"catalog {' '.join(map(prefix, BANDS))} -o all.fits {more}", capsys)
    assert [line.split(": ")[2] for line in told] == [prefix(SHORT)]
    assert TOLD[lacking] in told[0]
    table = QTable.read("all.fits")
    if "dja" not in more:
        expect_lacking(table, lacking)
    if lacking != "sliver":  # of the others the stack, too, is as without it
        run(f"catalog {prefix(LONG)} {prefix(OTHER)} -o others.fits {more}", capsys)
        others = QTable.read("others.fits")
        for name in others.colnames:
            np.testing.assert_array_equal(plain(table[name]), plain(others[name]), err_msg=name)
    assert {name.replace(SHORT, OTHER) for name in table.colnames if name.startswith(SHORT)} == {
        name for name in table.colnames if name.startswith(OTHER)
    }


@pytest.mark.parametrize(("lacking", "more"), [("none", ""), ("sliver", ""), ("none", "--use-segmentation seg.fits")])
def test_extend(folder, capsys, lacking, more):
    LACKING[lacking](SHORT)
    run(f"catalog {prefix(LONG)} -o cat.fits --segmentation seg.fits --noise dja", capsys)
    told = run(f"extend cat.fits {prefix(SHORT)} {prefix(OTHER)} -o all.fits {more}", capsys)
    assert len(told) == 1
    assert f"{prefix(SHORT)}: " in told[0]
    assert TOLD[lacking] in told[0]
    expect_lacking(QTable.read("all.fits"), lacking)


@pytest.mark.parametrize("lacking", ["none", "sliver"])
def test_matched_bands_and_what_is_drawn_of_them(folder, capsys, lacking):
    pytest.importorskip("matplotlib")
    pytest.importorskip("bokeh")
    LACKING[lacking](SHORT)
    psfs = " ".join(f"--psf {band}={write_psf(Path(f'{band}.fits'), 0.05, 61)}" for band in (SHORT, OTHER))
    psfs += f" --psf {LONG}={write_psf(Path('long.fits'), 0.07, 61)}"
    more = f"--match {LONG} --plot all.png --report all.html {cutout(lacking)}"
    told = run(f"catalog {' '.join(map(prefix, BANDS))} -o all.fits {psfs} {more}", capsys)
    assert sum(TOLD[lacking] in line for line in told) == 1
    table = QTable.read("all.fits")
    expect_lacking(table, lacking)
    assert np.isfinite(plain(table[f"{OTHER}_match_err_1"])).all()


class SavedLoader:
    """A plugin that finds ``saved:PREFIX``, and knows no grid before it loads the pixels: whole, or what is asked for.

    Of a cut-out that lies off, the second kind makes an exception that is no PhotplugError.
    """

    def __init__(self, *, cuts: bool, broken: bool = False) -> None:
        self.cuts, self.broken = cuts, broken

    @hookimpl
    def photplug_find(self, text: str) -> Source | None:
        prefix = text.removeprefix("saved:")
        return Source(name=prefix, band=prefix.split("-")[2], label=text) if prefix != text else None

    @hookimpl
    def photplug_load(self, source: Source, options: Options) -> CCDData | None:
        if not str(source).startswith("saved:"):
            return None
        if self.broken:
            raise OSError("the tape is torn")
        science, weight = (f"{source.name}_drc_{kind}.fits" for kind in ("sci", "wht"))
        planes, wcs = [fits.getdata(path).astype("f4") for path in (science, weight)], WCS(fits.getheader(science))
        if self.cuts and options.cutout is not None:
            centre, size = options.cutout
            planes = [Cutout2D(plane, centre, size, wcs=wcs, mode="trim") for plane in planes]
            planes, wcs = [part.data for part in planes], planes[0].wcs
        return CCDData(planes[0], unit=10 * u.nJy, uncertainty=InverseVariance(planes[1]), wcs=wcs)


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("detect", [LONG, "stack"])
def test_mosaics_of_plugins_that_lie_off_the_cutout(folder, cuts, detect):
    """The loader alone tells where they are, and refuses a cut-out in its own way; theirs are as ours, in a row."""
    cut_off(SHORT)
    position = read_grid(Path(f"{prefix(LONG)}_drc_sci.fits")).wcs.pixel_to_world(149.5, 99.5)
    options = Options(
        cutout=(position, 5.5 * u.arcsec),
        variance=dp.VarianceOptions(noise="background"),
        bands=dp.BandOptions(detect=detect),
    )
    manager = dp.get_plugin_manager()
    manager.register(SavedLoader(cuts=cuts), "saved")
    tables, told = [], []
    for short in (prefix(SHORT), f"saved:{prefix(SHORT)}"):
        sources = [prefix(LONG), short, prefix(OTHER)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", dp.PhotplugWarning)
            table = dp.run(sources, options, manager=manager).catalog
            alone = replace(options, bands=dp.BandOptions())
            extended = dp.extend_catalog(table["id", "ra", "dec"], sources[1:], alone, manager=manager)
        expect_lacking(table, "off")
        expect_lacking(extended, "off")
        tables.append([table, extended])
        told.append([str(each.message).replace("saved:", "") for each in caught])
    assert told[0] == told[1] == 2 * [f"{prefix(SHORT)}: {TOLD['off']}"]
    for ours, theirs in zip(*tables, strict=True):
        assert ours.colnames == theirs.colnames
        for name in ours.colnames:
            np.testing.assert_array_equal(plain(theirs[name]), plain(ours[name]), err_msg=name)


def test_what_a_loader_refuses_otherwise_stays_refused(folder):
    """It reads no grid either; and a band whose mosaic the cut-out is on, or without one, is not read again."""
    manager = dp.get_plugin_manager()
    manager.register(SavedLoader(cuts=False, broken=True), "saved")
    position = read_grid(Path(f"{prefix(LONG)}_drc_sci.fits")).wcs.pixel_to_world(149.5, 99.5)
    for cutout in (None, (position, 5.5 * u.arcsec)):
        options = Options(cutout=cutout, bands=dp.BandOptions(detect=LONG), variance=dp.VarianceOptions(noise="dja"))
        with pytest.raises(dp.PhotplugError, match="plugin 'saved' failed in photplug_load: OSError: the tape is torn"):
            dp.run([prefix(LONG), f"saved:{prefix(SHORT)}"], options, manager=manager)


def test_survey(folder, capsys):
    """A field whose detection image has no data fails alone, and one of whose bands has none is made."""
    keep_columns(0)(SHORT)
    fields = {"one": [LONG, SHORT], "two": [SHORT], "three": [OTHER]}
    lines = [f"[fields.{name}]\nbands = {[f'./{prefix(band)}' for band in bands]}" for name, bands in fields.items()]
    Path("fields.toml").write_text("\n".join(lines))
    assert main(["survey", "fields.toml", "-o", "out", "--noise", "dja", "--quiet"]) == 1
    assert TOLD["none"] in capsys.readouterr().err
    summary = Table.read("out/summary.ecsv")
    assert list(summary["status"]) == ["made", "failed", "made"]


@pytest.mark.parametrize("more", ["", f"--detect {SHORT}"])
def test_what_sources_are_detected_on_has_data_and_sky(folder, capsys, more):
    bands = [prefix(LONG), prefix(SHORT)] if more else [prefix(SHORT)]
    for lacking, words in (("sliver", "so the noise cannot be calibrated; use a larger"), ("none", "no pixel of the")):
        LACKING[lacking](SHORT)
        expect_error(capsys, f"catalog {' '.join(bands)} -o cat.fits --quiet {more}", f"{prefix(SHORT)}: ", words)
