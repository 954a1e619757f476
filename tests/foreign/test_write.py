"""Our catalogues in the words of others: what they read, and that other tools see all of it without an error."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table

import dja_photplug as dp
from dja_photplug.catalog.lephare import write_lephare
from dja_photplug.cli.app import main
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.files.tables.write import write_extended
from dja_photplug.foreign.columns import read_ids, read_position, read_shapes, resolve_columns
from dja_photplug.foreign.grids import find_scale
from dja_photplug.foreign.recognise import choose_schema
from dja_photplug.foreign.write import dress_as, write_as
from tests.helpers import DJA, expect_error, plain, write_eazy_inputs

FITSVERIFY, STILTS = (
    pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}, a Debian package")
    for name in ("fitsverify", "stilts")
)


@pytest.fixture(scope="module")
def ours(photplug_mosaic) -> QTable:
    """A catalogue whose detection image is its only band."""
    options = replace(DJA, measure=dp.MeasureOptions(details=True))
    table = dp.run([photplug_mosaic.prefix], replace(options, bands=dp.BandOptions(detect="f444w"))).catalog
    extended = dp.extend_catalog(table, [photplug_mosaic.prefix], options)
    for i, part in ((0, 0.15), (1, 0.25)):
        extended[f"f444w_mask_aper_{i}"][3] = part * np.pi * (float(extended.meta[f"ASEC_{i}"]) / 0.08) ** 2
    extended["f444w_tot_1"][4] = np.nan
    return extended


def run_tool(name: str, *words: str) -> str:
    done = subprocess.run([name, *words], capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".vot", ".h5", ".parquet"])
def test_dja_is_read_as_the_archive_s(ours, tmp_path, suffix):
    path = write_as(ours, tmp_path / f"field_phot_apcorr{suffix}", "dja")
    table = read_catalog(path)
    schema = choose_schema(table)
    assert schema.name == "dja"
    columns = resolve_columns(table, schema)
    scale = find_scale(table, schema, read_position(table, columns), None)
    assert scale == pytest.approx(0.04, rel=1e-4)
    np.testing.assert_array_equal(read_ids(table, columns), ours["id"])
    np.testing.assert_array_equal(plain(table["ra"]), plain(ours["ra"]))
    for name, values in read_shapes(table, columns, scale)[0].items():
        np.testing.assert_allclose(values, plain(ours[name]), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(table["x_image"], plain(ours["x"]) + 1)
    assert list(columns.apertures) == [0, 1, 2, 3]


def test_rules_of_dja(ours, data):
    """-99 where more than 20 % is masked or nothing was measured; order, names and units are those of a real one."""
    table = dress_as(ours, "dja")
    for name in ("corr", "ecorr", "tot", "etot"):
        values = plain(table[f"f444w_{name}_1"])
        assert values[3] == -99
        assert (values == -99).sum() == (2 if name == "tot" else 1)
    np.testing.assert_allclose(plain(table["apcorr_1"]), plain(ours["flux_auto"]) / plain(ours["flux_aper_1"]))
    theirs = Table.read(data / "grizli/uds-test-v7.4_phot_apcorr.fits")
    assert [name for name in table.colnames if name not in theirs.colnames] == []
    shared = [name for name in theirs.colnames if name in table.colnames]
    assert shared == table.colnames
    for name in shared:
        if "flux" in name or name.endswith(("_corr_1", "_tot_1")):
            assert str(table[name].unit) == str(theirs[name].unit), name
    for key in ("ASEC_1", "APER_1", "KRONFACT", "KRON0", "KRON1", "MINKRON", "THRESHOLD", "MINAREA", "ZP", "EE_CORR"):
        assert type(table.meta[key]) is type(theirs.meta[key]), key
    assert table.meta["MINKRON"] == pytest.approx(theirs.meta["MINKRON"], rel=1e-4)


@pytest.mark.parametrize("suffix", [".fits", ".cat"])
def test_sextractor_is_read_as_its_own(ours, tmp_path, suffix):
    path = write_as(ours, tmp_path / f"test{suffix}", "sextractor")
    table = read_catalog(path)
    schema = choose_schema(table)
    assert schema.name == "sextractor"
    columns = resolve_columns(table, schema)
    assert columns.shape.zero == "north"
    np.testing.assert_array_equal(read_ids(table, columns), ours["id"])
    position = SkyCoord(ours["ra"], ours["dec"])
    assert read_position(table, columns).separation(position).arcsec.max() < 1e-4
    shapes, _ = read_shapes(table, columns, None)
    np.testing.assert_allclose(shapes["a"], plain(ours["a"]), rtol=1e-6)
    off = (shapes["theta"] - plain(ours["theta"]) + 90) % 180 - 90  # north is up in this mosaic
    assert np.abs(off).max() < 0.01
    np.testing.assert_allclose(plain(table["MAG_AUTO"]), plain(ours["mag_auto"]), rtol=1e-6)
    first = table["FLUX_APER"][:, 0] if suffix == ".fits" else table["FLUX_APER"]
    np.testing.assert_allclose(first, plain(ours["flux_aper_0"]), rtol=1e-6)


def test_our_own_recipe_has_all_columns_of_the_archive(ours, data):
    """In their order; a fifth of a circle without data is -99, by each circle."""
    theirs = Table.read(data / "grizli/uds-test-v7.4_phot_apcorr.fits")
    table = dress_as(ours, "dja")
    assert table.colnames == [name for name in theirs.colnames if not name.startswith("f115w")]
    assert (plain(table["f444w_corr_1"])[3], plain(table["f444w_etot_1"])[3]) == (-99, -99)
    assert plain(table["f444w_corr_0"])[3] == plain(ours["f444w_corr_0"])[3] > 0
    # Boxes and brightest pixels are those of the segments.
    for axis in "xy":
        low, high, peak = (np.asarray(table[f"{axis}{end}"]) for end in ("min", "max", "peak"))
        assert ((low <= peak) & (peak <= high)).all()
        assert (np.abs(peak - plain(table[axis])) < 3 * plain(table["a_image"]) + 2).all()
    radii = [plain(table[name]) for name in ("flux_radius_20", "flux_radius", "flux_radius_90")]
    known = np.isfinite(radii).all(axis=0)
    assert known.mean() > 0.9
    assert (np.diff(np.array(radii)[:, known], axis=0) > 0).all()


def test_sizes_in_pixels_need_a_scale(ours, tmp_path):
    with pytest.raises(dp.PhotplugError, match="option schema: the 2 positions do not give the pixel scale"):
        dress_as(ours[:2], "dja")
    with pytest.raises(
        dp.PhotplugError, match="option schema: the catalogue lacks the columns x, y; write it as photplug"
    ):
        dress_as(ours["id", "ra", "dec", "a", "b", "theta"], "sextractor")


def test_lephare(ours, tmp_path):
    ours = QTable(ours, copy=True)
    ours["f115w_tot_1"], ours["f115w_etot_1"] = 2 * ours["f444w_tot_1"], ours["f444w_etot_1"]
    path, beside = write_lephare(ours, tmp_path / "field.in")
    lines = path.read_text().splitlines()
    assert lines[0] == "# id f115w e_f115w f444w e_f444w context z_spec name" or lines[0].startswith("# id f444w")
    bands = [word for word in lines[0].split()[2:6] if not word.startswith("e_")]
    rows = [line.split() for line in lines[1:]]
    assert len(rows) == len(ours)
    place = 1 + 2 * bands.index("f444w")
    assert float(rows[0][place]) == pytest.approx(plain(ours["f444w_tot_1"])[0] * 1e-29, rel=1e-6)
    assert (float(rows[4][place]), float(rows[4][place + 1]), rows[4][5], rows[0][5]) == (-99, -99, "0", "3")
    assert f"FILTER_LIST  {','.join(f'{band}.pb' for band in bands)}\n" in beside.read_text()
    with pytest.raises(dp.PhotplugError, match=r"field.in: already exists"):
        write_lephare(ours, path)


def test_from_the_command_line(photplug_mosaic, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    catalog = f"catalog {photplug_mosaic.prefix} --noise dja --quiet"
    for words in ("-o a.fits --schema dja", "-o a.cat --schema sextractor", "-o a.vot", "-o a.h5"):
        assert main(f"{catalog} {words}".split()) == 0
    assert choose_schema(read_catalog("a.fits")).name == "dja"
    assert choose_schema(read_catalog("a.cat")).name == "sextractor"
    for name in ("a.vot", "a.h5"):
        table = read_catalog(name)
        assert choose_schema(table).name == "photplug"
        assert table.meta["ASEC_0"] == 0.36
        assert table["flux_auto"].unit == u.uJy
    extend = f"extend a.h5 {photplug_mosaic.prefix} --noise dja --quiet"
    assert main(f"{extend} -o b.fits --write-schema dja".split()) == 0
    assert "f444w_tot_1" in read_catalog("b.fits").colnames
    assert main(f"{extend} -o b.in --format lephare".split()) == 0
    assert Path("b.para").is_file()
    assert capsys.readouterr() == ("", "")
    expect_error(capsys, f"{catalog} -o a.cat", "a.cat: the suffix must be one of .fits, .ecsv, .parquet, .h5, .vot")


# ---- other programs


@FITSVERIFY
@pytest.mark.parametrize("schema", ["photplug", "dja", "sextractor"])
def test_fitsverify_finds_no_error(ours, tmp_path, schema):
    path = write_as(ours, tmp_path / "cat.fits", schema)
    assert "and 0 error(s)" in run_tool("fitsverify", str(path))


@FITSVERIFY
def test_fitsverify_of_an_extended_table(ours, data, tmp_path):
    """Whose first columns are somebody else's, byte by byte."""
    original = data / "grizli/uds-test-v7.4_phot.fits"
    table = read_catalog(original)
    table["new"] = ours["flux_auto"][np.zeros(len(table), int)]
    path = write_extended(table, tmp_path / "out.fits", added=["new"], original=original)
    assert fits.getheader(path, 1)["TUCD119"] == "phot.flux.density"
    assert "and 0 error(s)" in run_tool("fitsverify", str(path))


@FITSVERIFY
def test_fitsverify_of_images(photplug_mosaic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prefix = photplug_mosaic.prefix
    for words in (
        f"weight {prefix} -o weight.fits",
        f"catalog {prefix} -o cat.fits --segmentation seg.fits --noise dja",
        f"epochs {prefix} --exposure-map exp.fits",
        f"galfit {prefix} --catalog cat.fits --id 3 -o fit",
    ):
        assert main([*words.split(), "--quiet"]) == 0
    dp.load_mosaic(prefix).write("image.fits")
    images = sorted(path for path in tmp_path.rglob("*.fits"))
    assert len(images) == 8
    for path in images:
        assert "and 0 error(s)" in run_tool("fitsverify", str(path)), path


@STILTS
@pytest.mark.parametrize("suffix", [".fits", ".vot"])
def test_stilts_sees_descriptions_units_and_ucds(ours, tmp_path, suffix):
    path = write_as(ours, tmp_path / f"cat{suffix}", "photplug")
    said = run_tool("stilts", "tpipe", f"in={path}", "cmd=meta", "ofmt=csv")
    seen = {row["Name"]: row for row in csv.DictReader(io.StringIO(said))}
    assert list(seen) == ours.colnames
    for name in ours.colnames:
        column = ours[name].info
        assert seen[name]["Description"] == column.description, name
        assert u.Unit(seen[name]["Units"]) == (column.unit or u.one), name
        assert seen[name]["UCD"] == column.meta["ucd"], name


@STILTS
def test_votlint_finds_nothing_wrong(ours, tmp_path):
    path = write_as(ours, tmp_path / "cat.vot", "photplug")
    assert "ERROR" not in run_tool("stilts", "votlint", f"votable={path}")


# Bands and filters of gds-grizli-v7.0-fix.eazypy.zphot.translate, as eazy-py lists them on the archive's page about its
# catalogues (dawn-cph.github.io/dja, 2023-07-15), without F160W.
PUBLISHED = [
    *(("f090w", 363), ("f105w", 202), ("f110w", 241), ("f115w", 364), ("f115wn", 309), ("f125w", 203), ("f140w", 204)),
    *(("f150w", 365), ("f150wn", 310), ("f182m", 370), ("f200w", 366), ("f200wn", 311), ("f210m", 371), ("f277w", 375)),
    *(("f335m", 381), ("f356w", 376), ("f410m", 383), ("f430m", 384), ("f435w", 233), ("f444w", 377), ("f460m", 385)),
    *(("f475w", 234), ("f480m", 386), ("f606w", 236), ("f606wu", 214), ("f775w", 238), ("f814w", 239), ("f814wu", 217)),
    ("f850lp", 240),
]


@pytest.mark.fitters
@pytest.mark.filterwarnings("ignore")  # eazy-py's own
def test_eazy_reads_dja(ours, tmp_path, monkeypatch):
    """With the translate file of a published catalogue, which has more bands, and the dummy for the prior."""
    photoz = pytest.importorskip("eazy.photoz", reason="needs eazy-py: pip install 'dja_photplug[fitters]'")
    write_as(ours, tmp_path / "field_phot_apcorr.fits", "dja")
    monkeypatch.chdir(tmp_path)
    lines = [f"{band}_tot_1 F{number}\n{band}_etot_1 E{number}" for band, number in PUBLISHED]
    # What the archive's code adds with a dummy prior; the fluxes of F160W are not in this catalogue.
    Path("zphot.translate").write_text("\n".join([*lines, "dummy_flux F205", "dummy_err E205", ""]))
    parameters = {
        **write_eazy_inputs(tmp_path),
        **{"CATALOG_FILE": "field_phot_apcorr.fits", "PRIOR_ABZP": 23.9, "NOT_OBS_THRESHOLD": -90},
        **{"Z_STEP": 0.2, "Z_MAX": 1.0, "SYS_ERR": 0.0},
    }
    fit = photoz.PhotoZ(translate_file="zphot.translate", params=parameters, load_prior=False, n_proc=0)
    assert fit.flux_columns == ["f444w_tot_1", "dummy_flux"]
    assert fit.err_columns == ["f444w_etot_1", "dummy_err"]
    np.testing.assert_array_equal(fit.OBJID, ours["id"])
    measured = ~np.isin(np.arange(len(ours)), [3, 4])  # masked, and NaN
    np.testing.assert_array_equal(fit.ok_data[:, 0], measured)
    np.testing.assert_array_equal(fit.fnu[measured, 0], plain(ours["f444w_tot_1"])[measured].astype("f4"))
    assert fit.to_uJy == 1


# ---- and back: stamps and epochs from what was written


@pytest.mark.parametrize(("schema", "name"), [("dja", "theirs.fits"), ("sextractor", "theirs.cat")])
def test_stamps_start_as_those_of_our_own(ours, photplug_mosaic, tmp_path, monkeypatch, capsys, schema, name):
    """Pixels, radians or angles from north: galfit's starting values to the digits that it is given."""
    monkeypatch.chdir(tmp_path)
    for path, kind in (("ours.fits", "photplug"), (name, schema)):
        write_as(ours, Path(path), kind)
        words = f"galfit {photplug_mosaic.prefix} --catalog {path} --id 3 5 --noise dja --size 4 -o {kind}"
        assert main(words.split()) == 0
    assert f"{name}: read as {schema}: " in capsys.readouterr().out
    for number in (3, 5):
        one, two = (starting_values(Path(kind, f"{number}.feedme")) for kind in ("photplug", schema))
        assert len(one) >= 6
        np.testing.assert_allclose(two, one, rtol=2e-4, atol=0.02)  # an angle has two decimals


def starting_values(path: Path) -> list[float]:
    """Return the numbers of the components of a file for galfit."""
    lines = (line.split("#")[0].split() for line in path.read_text().splitlines())
    return [float(line[1]) for line in lines if line and line[0].rstrip(")") in ("1", "3", "4", "5", "9", "10")]


def test_python_takes_them_too(ours, photplug_mosaic, tmp_path):
    image = dp.load_mosaic(photplug_mosaic.prefix)
    for kind, table in (("ours", ours), ("theirs", Table(dress_as(ours, "dja")))):
        dp.write_galfit(image, table, tmp_path / kind, ids=[3], size=4)
    one, two = (starting_values(tmp_path / kind / "3.feedme") for kind in ("ours", "theirs"))
    np.testing.assert_allclose(two, one, rtol=2e-4, atol=0.02)
