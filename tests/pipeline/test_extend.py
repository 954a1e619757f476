"""Forced photometry and epochs for catalogues that exist: what `catalog` measures, and nothing else changed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, QTable, Table
from astropy.wcs import WCS

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.files.written import write_image
from dja_photplug.pipeline.extend import catalog_options
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.simulate.mosaic import SceneOptions, simulate_scene
from dja_photplug.sources.detection import regrid_sources
from tests.helpers import DJA, EPOCH_NAMES, expect_error, make_wcs, plain, simulate_bands, uds_prefix, write_psf

LONG, SHORT = "f444w", "f115w"
NOT_COVERED = dp.SourceFlag.NOT_COVERED
KRON = ["flux_radius", "flux_auto", "fluxerr_auto", "mag_auto", "magerr_auto"]
APERTURE = ["flux_aper_{}", "fluxerr_aper_{}", "depth5_{}", "flag_aper_{}"]
TOTALS = ["corr_{}", "ecorr_{}", "tot_{}", "etot_{}"]


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> dict[str, Path]:
    """Prefixes of 25 isolated sources at 40 mas (F444W) and at 20 mas (F115W)."""
    scene = simulate_scene(
        SceneOptions(bands=(LONG, SHORT), shape=(330, 350), n_sources=25, isolated=True, flux_range=(0.2, 40), seed=3)
    )
    folder = tmp_path_factory.mktemp("pair")
    common = {"root": "sim-pair-v1", "n_exposures": 2, "compress": False}
    return {band: each.prefix for band, each in simulate_bands(folder, scene, {LONG: 1, SHORT: 2}, **common).items()}


@pytest.fixture(scope="session")
def detected(pair) -> Result:
    """The catalogue of F444W alone."""
    return dp.run([pair[LONG]], DJA)


@pytest.fixture(scope="session")
def segments(detected, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("segments") / "seg.fits"
    return str(write_image(path, detected.detection.segmentation, detected.detection.wcs.to_header()))


@pytest.fixture(scope="session")
def extended_on_segments(pair, detected, segments) -> QTable:
    """That catalogue with the columns of F115W, within its segments."""
    return dp.extend_catalog(detected.catalog, [pair[SHORT]], on_segments(segments))


def test_fluxes_are_in_the_unit_that_is_asked_for(pair, detected) -> None:
    options = replace(DJA, output=dp.OutputOptions(unit="nJy"))
    catalog = dp.run([pair[LONG]], options).catalog
    assert (catalog.meta["ZEROPNT"], json.loads(catalog.meta["OPTIONS"])["output"]["unit"]) == (31.4, "nJy")
    fluxes = [name for name in catalog.colnames if detected.catalog[name].unit == u.uJy]
    assert {"flux_auto", "fluxerr_auto", "flux_iso", "flux_aper_1", "fluxerr_aper_1"} <= set(fluxes)
    for name, column in detected.catalog.items():
        factor, unit = (1000, u.nJy) if name in fluxes else (1, column.unit)
        assert (catalog[name].unit, catalog[name].info.description) == (unit, column.info.description)
        np.testing.assert_allclose(plain(catalog[name]), factor * plain(column), rtol=1e-14, err_msg=name)
    # Bands that come later have the unit of those that are there.
    extended = dp.extend_catalog(catalog, [pair[SHORT]], catalog_options(catalog, DJA))
    assert {str(extended[f"{SHORT}_{name}"].unit) for name in ("flux_aper_1", "corr_1", "etot_1")} == {"nJy"}


@pytest.mark.parametrize(
    ("unit", "told"),
    [("mJy", "fluxes are added in uJy, and flux_auto is in mJy, in which --unit mJy adds them"), ("ct", ""), (None, ""),
     ("uJy", "")],
)  # fmt: skip
def test_the_unit_of_others_is_told_and_not_taken_over(pair, detected, tmp_path, capsys, unit, told) -> None:
    table = Table(detected.catalog["id", "ra", "dec", "flux_auto"])
    table["flux_auto"].unit, table.meta = unit, {}
    table.write(tmp_path / "cat.ecsv")
    command = ["extend", str(tmp_path / "cat.ecsv"), str(pair[SHORT]), "--noise", "dja", "--columns", "auto", "-o"]
    for number, (more, expected) in enumerate((([], "uJy"), (["--unit", "mJy"], "mJy"))):
        output = tmp_path / f"{number}.ecsv"
        assert main([*command, str(output), *more]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].endswith(f", noise preset dja, fluxes in {expected}")
        assert told in err if told and not more else not err
        extended = Table.read(output)
        assert str(extended[f"{SHORT}_flux_auto"].unit) == expected
        assert str(extended["flux_auto"].unit) == str(unit)


def on_segments(path: str, **settings: object) -> dp.Options:
    return replace(DJA, detect=dp.DetectOptions(use_segmentation=path), **settings)


def assert_same_columns(
    ours: Table, theirs: Table, band: str, rtol: float = 1e-6, ignore: tuple[str, ...] = ()
) -> None:
    """All columns of a band are there in the same order, with units and descriptions, and equal."""
    names = [name for name in theirs.colnames if name.startswith(f"{band}_")]
    assert [name for name in ours.colnames if name.startswith(f"{band}_")] == names
    assert len(names) > 40
    for name in set(names) - set(ignore):
        one, two = ours[name], theirs[name]
        assert (one.unit, one.info.description) == (two.unit, two.info.description)
        assert one.dtype.newbyteorder("=") == two.dtype.newbyteorder("=")
        if one.dtype.kind == "f":
            np.testing.assert_allclose(plain(one), plain(two), rtol=rtol, err_msg=name)  # NaN in the same places
        else:
            np.testing.assert_array_equal(plain(one), plain(two), err_msg=name)


def assert_kept(extended: Table, original: Table) -> None:
    """Rows, columns, order, units, descriptions and metadata of the original are as they were."""
    assert type(extended) is type(original)
    assert extended.colnames[: len(original.colnames)] == original.colnames
    for name in original.colnames:
        ours, theirs = extended[name], original[name]
        assert type(ours) is type(theirs)
        if not isinstance(theirs, SkyCoord):
            native = theirs.dtype.newbyteorder("=")  # FITS is big-endian
            assert plain(ours).astype(native).tobytes() == plain(theirs).astype(native).tobytes(), name
            assert (ours.dtype.newbyteorder("="), ours.unit) == (native, theirs.unit)
        assert ours.info.description == theirs.info.description
        assert ours.info.format == theirs.info.format
    kept = {key: value for key, value in extended.meta.items() if key in original.meta}
    assert repr(kept) == repr(dict(original.meta))


# ---- the same numbers as a catalogue of several bands


def test_equals_the_catalogue_of_two_bands_on_real_data(data, tmp_path, capsys):
    """The catalogue of F444W with its segmentation, extended by F115W: the columns of both bands measured together.

    Equal to 2e-10: positions go through the text of a FITS header, and back from the sky.
    """
    long, short = (uds_prefix(data, band) for band in (LONG, SHORT))
    cat, seg, out = (tmp_path / name for name in ("cat.fits", "seg.fits", "out.fits"))
    assert main(f"catalog {long} -o {cat} --segmentation {seg} --quiet".split()) == 0
    assert main(f"extend {cat} {short} --use-segmentation {seg} -o {out} --quiet".split()) == 0
    assert capsys.readouterr() == ("", "")
    together = dp.run([long, short], dp.Options(bands=dp.BandOptions(detect=LONG))).catalog
    read = QTable.read(cat)
    extended = QTable.read(out)
    assert_same_columns(extended, together, SHORT)
    assert_kept(extended, read)
    theirs, ours = json.loads(together.meta["BAND_1"]), json.loads(extended.meta["BAND_0"])
    assert {key: ours[key] for key in theirs} == theirs
    assert ours["OPTIONS"]["detect"]["use_segmentation"] == str(seg)


@pytest.mark.parametrize(("first", "second"), [(LONG, SHORT), (SHORT, LONG)])
def test_equals_the_catalogue_of_two_bands_on_nested_grids(first, second, pair, tmp_path):
    options = replace(DJA, bands=dp.BandOptions(detect=first))
    together = dp.run(list(pair.values()), options).catalog
    alone = dp.run([pair[first]], DJA)
    path = write_image(tmp_path / "seg.fits", alone.detection.segmentation, alone.detection.wcs.to_header())
    extended = dp.extend_catalog(alone.catalog, [pair[second]], on_segments(str(path)))
    assert_same_columns(extended, together, second)
    # Both bands at once, in processes; also the band that the catalogue is from.
    both = on_segments(str(path), bands=dp.BandOptions(workers=2 if first == LONG else 1))
    again = dp.extend_catalog(alone.catalog, list(pair.values()), both)
    assert_same_columns(again, together, second)
    assert_same_columns(again, together, first, ignore=(f"{first}_flag",))
    # Its Kron radius was measured within 6 a, which has flags of its own.
    kron = dp.SourceFlag.APER_TRUNCATED | dp.SourceFlag.APER_MASKED | dp.SourceFlag.APER_NON_POSITIVE
    assert not ((again[f"{first}_flag"] ^ together[f"{first}_flag"]) & ~kron).any()


def test_without_a_segmentation(pair, detected):
    """The band's own detection gives neighbours; of isolated sources the fluxes are those with segments."""
    extended = dp.extend_catalog(detected.catalog, [pair[LONG]], DJA)
    assert f"{LONG}_flux_iso" not in extended.colnames
    for name in ("flux_aper_1", "fluxerr_aper_1", "depth5_1", "flag_aper_1", *EPOCH_NAMES):
        ours, theirs = plain(extended[f"{LONG}_{name}"]), plain(detected.catalog[name])
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)
    # North is up only to 1e-5 rad away from the centre, which turns the ellipses.
    np.testing.assert_allclose(extended[f"{LONG}_flux_auto"], detected.catalog["flux_auto"], rtol=1e-3)
    ratio = detected.catalog["flux_auto"] / detected.catalog["flux_aper_1"]
    np.testing.assert_allclose(extended[f"{LONG}_corr_1"], extended[f"{LONG}_flux_aper_1"] * ratio, rtol=1e-12)


# ---- the original


def test_the_original_is_kept_and_the_input_not_changed(pair, detected):
    original = QTable(detected.catalog, copy=True)
    original["name"] = [f"source {i}" for i in original["id"]]
    original["where"] = SkyCoord(original["ra"], original["dec"])
    original["flux_auto"].info.format = ".3f"
    original.meta["BAND_7"] = "mine"
    original.meta["ASEC_0"] = "0.36"  # as text
    before, colnames = original.copy(), list(original.colnames)
    extended = dp.extend_catalog(original, [pair[SHORT]], DJA)
    assert_kept(extended, before)
    assert_kept(original, before)
    assert original.colnames == colnames
    assert original.meta == before.meta
    assert json.loads(extended.meta["BAND_8"])["band"] == SHORT
    twice = dp.extend_catalog(extended, [pair[LONG]], DJA)
    assert_kept(twice, extended)
    assert json.loads(twice.meta["BAND_9"])["band"] == LONG
    assert type(dp.extend_catalog(Table(detected.catalog), [pair[SHORT]], DJA)) is Table


def test_apertures_keep_their_numbers_and_new_ones_get_the_next(pair, detected):
    options = replace(DJA, measure=dp.MeasureOptions(apertures=(1.5, 0.5, 0.9)))
    extend = dp.ExtendOptions(columns=("aper",))
    extended = dp.extend_catalog(detected.catalog, [pair[SHORT]], options, extend=extend)
    assert_kept(extended, detected.catalog)
    added = extended.colnames[len(detected.catalog.colnames) :]
    expected = [name.format(i) for i in (4, 1, 5) for name in APERTURE] + [name.format(1) for name in TOTALS]
    assert added == [f"{SHORT}_{name}" for name in expected]
    assert [extended.meta[f"ASEC_{i}"] for i in range(6)] == [0.36, 0.5, 0.7, 1.0, 1.5, 0.9]
    assert extended[f"{SHORT}_flux_aper_4"].info.description == "flux in the aperture of diameter ASEC_4 arcsec"
    larger = extended[f"{SHORT}_flux_aper_4"] > extended[f"{SHORT}_flux_aper_5"]
    assert np.mean(larger) > 0.8
    # The next call takes up these numbers; its apertures are those that the catalogue has.
    assert catalog_options(extended).measure.apertures == (0.36, 0.5, 0.7, 1.0, 1.5, 0.9)
    whole = dp.extend_catalog(extended, [pair[LONG]], catalog_options(extended, DJA), extend=extend)
    for name in ("flux_aper_0", "flux_aper_3"):
        np.testing.assert_allclose(whole[f"{LONG}_{name}"], detected.catalog[name], rtol=1e-6)
    assert f"{LONG}_corr_3" in whole.colnames
    assert f"{LONG}_corr_4" not in whole.colnames
    np.testing.assert_array_equal(np.argmax(whole[f"{LONG}_flux_aper_4"]), np.argmax(whole[f"{LONG}_flux_aper_3"]))


@pytest.mark.parametrize("meta", [{}, {"ASEC_1": 0.5}, {"ASEC_x": 1}])
def test_a_catalogue_without_all_apertures_gets_those_of_the_options(meta):
    assert catalog_options(Table(meta=meta)) == dp.Options()


def test_groups_of_columns(pair, detected, segments):
    """Each choice adds its columns for each band, in the order of measurement."""
    for columns, names in (
        (("epochs",), EPOCH_NAMES),
        (("auto",), [*KRON, "flag", "mask_frac"]),
        (("epochs", "iso"), ["flux_iso", "fluxerr_iso", *EPOCH_NAMES]),
    ):
        chosen = dp.ExtendOptions(columns=columns)
        extended = dp.extend_catalog(detected.catalog, pair.values(), on_segments(segments), extend=chosen)
        added = extended.colnames[len(detected.catalog.colnames) :]
        assert added == [f"{band}_{name}" for band in pair for name in names]


def test_a_column_that_exists(pair, detected):
    original = QTable(detected.catalog, copy=True)
    original[f"{SHORT}_flux_auto"] = -np.ones(len(original))
    original["last"] = 1
    with pytest.raises(dp.PhotplugError, match=f"has {SHORT}_flux_auto of the new columns; add --overwrite-columns"):
        dp.extend_catalog(original, [pair[SHORT]], DJA)
    extended = dp.extend_catalog(original, [pair[SHORT]], DJA, extend=dp.ExtendOptions(overwrite_columns=True))
    assert extended.colnames[: len(original.colnames)] == original.colnames
    assert extended[f"{SHORT}_flux_auto"].unit == u.uJy
    assert (extended[f"{SHORT}_flux_auto"] > 0).all()
    assert (original[f"{SHORT}_flux_auto"] == -1).all()


# ---- catalogues of others


def foreign_catalog(detected: Result) -> Table:
    """As of Source Extractor: numbers and positions, in no order and without a unit."""
    ours = detected.catalog[::-1]
    foreign = Table({"NUMBER": ours["id"]})
    foreign["ALPHA_J2000"], foreign["DELTA_J2000"] = ours["ra"].value, ours["dec"].value
    foreign["A_IMAGE"] = 3.0
    return foreign


def test_foreign_catalogue(pair, detected, segments):
    """Kron apertures are circles of 0.35 arcsec, and there are no totals; apertures are those of the options."""
    foreign = foreign_catalog(detected)
    alone, with_segments = (dp.extend_catalog(foreign, [pair[LONG]], each) for each in (DJA, on_segments(segments)))
    for extended in (alone, with_segments):
        assert_kept(extended, foreign)
        assert f"{LONG}_corr_0" not in extended.colnames
        assert ((extended[f"{LONG}_flag"] & dp.SourceFlag.KRON_CIRCLE) > 0).all()
        for name in ("flux_aper_2", "fluxerr_aper_2"):
            ours = plain(extended[f"{LONG}_{name}"])
            np.testing.assert_allclose(ours, plain(detected.catalog[name])[::-1], rtol=1e-6)
        # The circles of 0.35 and of 0.36 arcsec.
        ratio = extended[f"{LONG}_flux_auto"] / extended[f"{LONG}_flux_aper_2"]
        np.testing.assert_allclose(ratio, 1, atol=0.02)
    np.testing.assert_array_equal(
        plain(with_segments[f"{LONG}_flux_iso"]), plain(detected.catalog["flux_iso"])[::-1].astype(float)
    )
    assert with_segments.meta["ASEC_3"] == 1.0


def test_neighbours_are_masked_by_the_segments_of_the_band(pair, detected):
    """A position beside a source's segment: its light is masked, though the catalogue does not know of it."""
    bright = detected.catalog[[int(np.argmax(detected.catalog["flux_auto"]))]]
    reach = (np.sqrt(bright["npix"] / np.pi) * 0.04 + 0.3) * u.arcsec
    there = SkyCoord(bright["ra"], bright["dec"]).directional_offset_by(45 * u.deg, reach)
    table = Table({"ra": there.ra.deg, "dec": there.dec.deg})
    masked = dp.extend_catalog(table, [pair[LONG]], DJA)
    kept = dp.extend_catalog(table, [pair[LONG]], replace(DJA, measure=dp.MeasureOptions(neighbours="keep")))
    assert masked[f"{LONG}_flag_aper_3"][0] & dp.SourceFlag.NEIGHBOUR
    assert masked[f"{LONG}_flux_aper_3"][0] < 0.7 * kept[f"{LONG}_flux_aper_3"][0]


def test_positions_off_the_mosaic_and_duplicates(pair, detected):
    """Anywhere on the sky: NaN and NOT_COVERED, with epochs of nothing; the same place twice gives the same twice."""
    ra, dec = (detected.catalog[name].value[:2] for name in ("ra", "dec"))
    table = Table({"ra": [*ra, ra[0], 34.5, 214.4, 34.4, 0.0], "dec": [*dec, dec[0], -5.2, 5.2, 90.0, -90.0]})
    extended = dp.extend_catalog(table, [pair[SHORT]], DJA)
    off = np.arange(7) > 2
    for name in extended.colnames[2:]:
        values = plain(extended[name])
        assert values[0] == values[2], name
        if name.removeprefix(f"{SHORT}_") in ("n_exp", "n_visit", "exptime"):
            assert (values[off] == 0).all()
            assert (values[~off] > 0).all()
        elif "flag" in name:
            np.testing.assert_array_equal((values & NOT_COVERED) > 0, off)
        elif not name.endswith("mask_frac"):
            assert np.isnan(values[off]).all(), name
    np.testing.assert_array_equal(extended[f"{SHORT}_mask_frac"][off], 1)
    assert np.isfinite(extended[f"{SHORT}_flux_auto"][~off]).all()


@pytest.mark.parametrize("with_segments", [False, True])
def test_bad_rows_are_flagged_and_the_others_as_without_them(with_segments, pair, detected, segments, tmp_path):
    """Of each kind one: NaN, masked, out of range, off the mosaic; and one whose segment is not there."""
    options = on_segments(segments) if with_segments else DJA
    good = dp.extend_catalog(detected.catalog, [pair[SHORT]], options)
    table = Table(detected.catalog, masked=True)
    table["ra"][2], table["dec"][3], table["dec"][4], table["ra"].mask[5] = np.nan, -99, 0, True
    table["id"][20] = 2**32 + 1  # no label, and 32 bits would make one of it
    told = [pytest.warns(dp.PhotplugWarning, match="no position in 3 of 25 rows, first row 2 .*: their fluxes are NaN")]
    if with_segments:
        told.append(
            pytest.warns(dp.PhotplugWarning, match="no segment for 1 of 25 rows, first id 4294967297 in row 20 ")
        )
    with contextlib.ExitStack() as stack:
        for each in told:
            stack.enter_context(each)
        extended = dp.extend_catalog(table, [pair[SHORT]], options)
    bad = np.isin(np.arange(len(table)), [2, 3, 4, 5])
    np.testing.assert_array_equal((extended[f"{SHORT}_flag"] & NOT_COVERED) > 0, bad)
    names = [name for name in extended.colnames if name.startswith(f"{SHORT}_")]
    for name in [name for name in names if extended[name].dtype.kind == "f" and "mask_frac" not in name]:
        ours, theirs = plain(extended[name]), plain(good[name])
        assert np.isnan(ours[bad]).all() or (ours[bad] == 0).all(), name
        if name.endswith("flux_iso") or name.endswith("fluxerr_iso"):
            assert np.isnan(ours[20])
        same = ~bad & (np.arange(len(table)) != 20)
        # Where positions are, which is the tangent point, turns with those that there are.
        np.testing.assert_allclose(ours[same], theirs[same], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.fixture(scope="session")
def shares(pair, detected) -> QTable:
    """The catalogue of F444W with the aperture fluxes of F115W, and their shares of the light."""
    return dp.extend_catalog(detected.catalog, [pair[SHORT]], DJA, extend=dp.ExtendOptions(columns=("aper",)))


@pytest.mark.parametrize("unit", ["nJy", "njy", "nano-Jansky", "mJy", "Jy", "10 nJy", "AB mag"])
def test_fluxes_in_other_units_give_the_same_totals(unit, pair, detected, shares):
    """One column in other units, or spellings of them: corr is its share of the light, whatever they are."""
    table = Table(detected.catalog)
    flux = plain(table["flux_aper_1"])
    factor = {"n": 1e3, "m": 1e-3, "J": 1e-6, "1": 100}.get(unit[0])
    with np.errstate(invalid="ignore"):
        table["flux_aper_1"] = flux * factor if factor else 23.9 - 2.5 * np.log10(flux)
    table["flux_aper_1"].unit = u.Unit(unit, parse_strict="silent")
    extended = dp.extend_catalog(table, [pair[SHORT]], DJA, extend=dp.ExtendOptions(columns=("aper",)))
    np.testing.assert_allclose(extended[f"{SHORT}_corr_1"], shares[f"{SHORT}_corr_1"], rtol=1e-9)


@pytest.mark.parametrize("unit", ["counts", None, "MJY", "arcsec"])
def test_fluxes_whose_ratio_is_not_known(unit, pair, detected):
    table = Table(detected.catalog)
    table["flux_aper_1"].unit = None if unit is None else u.Unit(unit, parse_strict="silent")
    with pytest.raises(dp.PhotplugError, match=f"flux_aper_1 is in {unit or 'no unit'} and flux_auto in uJy, so their"):
        dp.extend_catalog(table, [pair[SHORT]], DJA)


def test_magnitudes_have_no_ratio(pair, detected):
    table = Table(detected.catalog)
    table["flux_auto"].unit = table["flux_aper_1"].unit = "mag"
    with pytest.raises(dp.PhotplugError, match="column flux_auto is in mag without a zero point"):
        dp.extend_catalog(table, [pair[SHORT]], DJA)


def test_prefix(pair, detected):
    """The catalogue of a band, extended by the same columns under other names."""
    first = dp.extend_catalog(detected.catalog, [pair[SHORT]], DJA)
    with pytest.raises(dp.PhotplugError, match="add --overwrite-columns to replace them, or --prefix"):
        dp.extend_catalog(first, [pair[SHORT]], DJA)
    second = dp.extend_catalog(first, [pair[SHORT]], DJA, extend=dp.ExtendOptions(prefix="new_"))
    assert_kept(second, first)
    added = second.colnames[len(first.colnames) :]
    assert added == [f"new_{name}" for name in first.colnames[len(detected.catalog.colnames) :]]
    np.testing.assert_array_equal(plain(second[f"new_{SHORT}_flux_aper_1"]), plain(first[f"{SHORT}_flux_aper_1"]))


def test_one_row_and_another_field(pair, detected):
    one = dp.extend_catalog(detected.catalog[3:4], [pair[LONG]], DJA)
    np.testing.assert_allclose(one[f"{LONG}_flux_aper_0"], detected.catalog["flux_aper_0"][3:4], rtol=1e-6)
    far = Table({"ra": [200.0], "dec": [40.0]})
    with (
        pytest.warns(dp.PhotplugWarning, match="none of the 1 positions is on it; is it a mosaic of another field"),
        pytest.warns(dp.PhotplugWarning, match="is it the log of another field"),
    ):
        extended = dp.extend_catalog(far, [pair[LONG]], DJA)
    assert extended[f"{LONG}_flag"][0] & NOT_COVERED


def test_positions_as_coordinates_and_names_of_columns(pair, detected):
    where = SkyCoord(detected.catalog["ra"], detected.catalog["dec"]).galactic
    extended = dp.extend_catalog(QTable({"where": where}), [pair[LONG]], DJA)
    np.testing.assert_allclose(extended[f"{LONG}_flux_aper_1"], detected.catalog["flux_aper_1"], rtol=1e-6)
    table = Table({"lon": where.icrs.ra.deg, "lat": where.icrs.dec.deg, "ra": np.zeros(len(where))})
    named = dp.extend_catalog(table, [pair[LONG]], DJA, extend=dp.ExtendOptions(ra="lon", dec="lat"))
    np.testing.assert_array_equal(plain(named[f"{LONG}_flux_aper_1"]), plain(extended[f"{LONG}_flux_aper_1"]))


@pytest.mark.parametrize("unit", [None, "pix"])
def test_axes_in_no_unit_of_angle(unit, pair, detected):
    """As after a round trip through CSV: told, and the Kron apertures are circles, not ellipses of 3 arcsec."""
    table = Table(detected.catalog)
    for axis in "ab":
        table[axis].unit = unit
    with pytest.warns(dp.PhotplugWarning, match="columns a and b are not in an angular unit, so each Kron aperture is"):
        extended = dp.extend_catalog(table, [pair[LONG]], DJA)
    assert ((extended[f"{LONG}_flag"] & dp.SourceFlag.KRON_CIRCLE) > 0).all()


def test_other_units_and_masked_values(pair, detected):
    table = QTable(detected.catalog, copy=True)
    table["a"], table["b"], table["theta"] = table["a"].to(u.deg), table["b"].to(u.arcmin), table["theta"].to(u.rad)
    masked = Table(table, masked=True)
    masked["flux_auto"].mask[5] = masked["a"].mask[4] = True
    for given in (masked, QTable(masked)):
        extended = dp.extend_catalog(given, [pair[LONG]], DJA)
        known = np.arange(len(table)) != 4
        ours, theirs = plain(extended[f"{LONG}_flux_auto"])[known], plain(detected.catalog["flux_auto"])[known]
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # north is up, see above
        assert extended[f"{LONG}_flag"][4] & dp.SourceFlag.KRON_CIRCLE
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(plain(extended[f"{LONG}_corr_1"]))), [5])


def on_grid(detected: Result, wcs: WCS) -> QTable:
    """Return the catalogue as if it had been detected on another grid: x, y and theta are there."""
    moved = regrid_sources(detected.detection.sources, detected.detection.wcs, wcs)
    table = QTable(detected.catalog, copy=True)
    for name in ("x", "y", "theta"):
        table[name] = moved[name]
    table.meta = {key: value for key, value in table.meta.items() if key != "INPUT"}
    return table


@pytest.mark.parametrize(("angle", "mirrored"), [(0, False), (41, False), (180, False), (41, True), (0, True)])
def test_angles_are_on_the_grid_of_the_catalogue(pair, detected, tmp_path, angle, mirrored):
    """Whatever tells that grid, ellipses and so Kron fluxes are those of the mosaic's own catalogue."""
    centre = detected.catalog["ra"].value.mean(), detected.catalog["dec"].value.mean()
    wcs = make_wcs(angle=angle, mirrored=mirrored, crval=centre, crpix=(300.5, 290.5))
    table = on_grid(detected, wcs)
    cards = fits.Header({"BUNIT": "10*nanoJansky"}) + wcs.to_header()
    like = write_image(tmp_path / "turned-v1-f444w-clear_drc_sci.fits", np.zeros((580, 600), np.float32), cards)
    write_image(tmp_path / "turned-v1-f444w-clear_drc_wht.fits", np.ones((580, 600), np.float32), cards)
    nowhere = table.copy()
    nowhere.remove_columns(["x", "y"])
    named, moved = nowhere.copy(), table.copy()
    named.meta["INPUT"] = str(like).removesuffix("_drc_sci.fits")
    moved["x"] += 1000 * u.pix  # a cut-out of it
    moved.meta["INPUT"] = named.meta["INPUT"]
    elongated = table["b"] < 0.8 * table["a"]
    assert elongated.sum() > 5
    for given, extend in (
        (table, dp.ExtendOptions()),
        (moved, dp.ExtendOptions()),
        (named, dp.ExtendOptions()),
        (nowhere, dp.ExtendOptions(like=str(like))),
    ):
        extended = dp.extend_catalog(given, [pair[LONG]], DJA, extend=extend)
        # The grid that x and y fit is known to 1e-3 deg, and an ellipse that turns so loses 1e-6 of its light.
        for name in ("flux_auto", "fluxerr_auto"):
            np.testing.assert_allclose(plain(extended[f"{LONG}_{name}"]), plain(detected.catalog[name]), rtol=1e-4)


def test_angles_on_an_unknown_grid_are_told(pair, detected):
    table = on_grid(detected, make_wcs(angle=41))
    table.meta["INPUT"] = "no-such-mosaic-v1-f444w-clear"
    unplaced = table.copy()
    unplaced.remove_columns(["x", "y"])
    one, scattered = table[:1], table.copy()
    scattered["x"] = np.random.default_rng(1).uniform(0, 100, len(table)) * u.pix
    for given in (unplaced, one, scattered):
        with pytest.warns(
            dp.PhotplugWarning, match="the grid of the catalogue's angles theta is not known.* with --like"
        ):
            dp.extend_catalog(given, [pair[LONG]], DJA)
    round_ = unplaced.copy()
    round_["b"] = round_["a"]
    dp.extend_catalog(round_, [pair[LONG]], DJA)  # no warning


# ---- options


def test_columns_of_plugins_get_the_band(pair, detected):
    class Colours:
        @staticmethod
        @dp.hookimpl
        def photplug_columns(catalog, band):
            return {"blue": Column(np.arange(len(catalog)), description=f"of {band}")}

    manager = dp.get_plugin_manager()
    manager.register(Colours, "colours")
    extended = dp.extend_catalog(detected.catalog, [pair[SHORT]], DJA, manager=manager)
    np.testing.assert_array_equal(extended[f"{SHORT}_blue"], np.arange(len(extended)))
    assert extended[f"{SHORT}_blue"].info.description == f"of {SHORT}"
    few = dp.extend_catalog(
        detected.catalog, [pair[SHORT]], DJA, extend=dp.ExtendOptions(columns=("epochs",)), manager=manager
    )
    assert f"{SHORT}_blue" not in few.colnames


def test_zero_point_psf_and_the_other_engine(pair, detected, tmp_path):
    psf = write_psf(tmp_path / "psf.fits", 0.07, 81, 0.02, total=0.8)
    bands = dp.BandOptions(psf={SHORT: str(psf)}, zero_point={SHORT: 26.4})
    plain_run = dp.extend_catalog(detected.catalog, [pair[SHORT]], DJA)
    moved = dp.extend_catalog(detected.catalog, [pair[SHORT]], replace(DJA, bands=bands))
    # 2.5 mag; the pixels are float32, and those of empty sky add up to a little only.
    np.testing.assert_allclose(moved[f"{SHORT}_corr_1"], 10 * plain_run[f"{SHORT}_corr_1"], rtol=1e-5)
    np.testing.assert_allclose(moved[f"{SHORT}_depth5_1"].value, plain_run[f"{SHORT}_depth5_1"].value - 2.5, atol=1e-5)
    size = np.sqrt(plain(detected.catalog["a"]) * plain(detected.catalog["b"])) * plain(detected.catalog["kron_radius"])
    share = 0.8 - 0.8 * np.exp(-(np.maximum(size, 0.35) ** 2) / 2 / (0.07**2 + 0.02**2 / 12))
    for e in ("", "e"):  # the curve of growth is tabulated to 1e-4
        tot, corr = (plain(moved[f"{SHORT}_{e}{kind}_1"]) for kind in ("tot", "corr"))
        np.testing.assert_allclose(tot, corr / share, rtol=5e-4)
    assert json.loads(moved.meta["BAND_0"])["PSF"] == "psf.fits"
    assert json.loads(plain_run.meta["BAND_0"])["PSF"] == "none: tot is corr"
    other = dp.extend_catalog(detected.catalog, [pair[SHORT]], replace(DJA, engine="photutils"))
    assert other.colnames == plain_run.colnames
    np.testing.assert_allclose(other[f"{SHORT}_flux_aper_2"], plain_run[f"{SHORT}_flux_aper_2"], rtol=2e-3)


# ---- the command line


def fill_folder(folder: Path, pair: dict[str, Path], detected: Result, segments: str) -> Path:
    """Give a folder the products, cat.fits of F444W, and its segmentation seg.fits."""
    for path in pair[LONG].parent.glob("sim-pair-v1-*"):
        (folder / path.name).symlink_to(path)
    (folder / "seg.fits").symlink_to(segments)
    dp.write_catalog(detected.catalog, folder / "cat.fits")
    return folder


@pytest.fixture
def folder(pair, detected, segments, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(fill_folder(tmp_path, pair, detected, segments))
    return tmp_path


MOSAIC = f"sim-pair-v1-{SHORT}-clear"
EPOCHS_OF_SHORT = [f"{SHORT}_{name}" for name in EPOCH_NAMES]


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet", ".csv"])
def test_command_line(folder, capsys, detected, extended_on_segments, suffix):
    words = f"extend cat.fits {MOSAIC} -o out{suffix} --use-segmentation seg.fits --noise dja"
    assert main(words.split()) == 0
    captured = capsys.readouterr()
    assert (
        f"out{suffix}: {len(detected.catalog)} rows, 47 columns added, noise preset dja, fluxes in uJy" in captured.out
    )
    assert ("CSV cannot hold units and descriptions of id, ra, dec and 86 more and metadata" in captured.err) == (
        suffix == ".csv"
    )
    assert captured.err.count("\n") == (suffix == ".csv")
    back = read_catalog(Path(f"out{suffix}"))
    expected = extended_on_segments
    if suffix != ".csv":  # which holds neither units nor descriptions
        assert_same_columns(back, expected, SHORT, rtol=1e-9)
        assert_kept(back, read_catalog(Path("cat.fits")))
    np.testing.assert_allclose(back[f"{SHORT}_flux_auto"], plain(expected[f"{SHORT}_flux_auto"]), rtol=1e-9)
    assert not list(folder.glob(".*"))


def test_again_and_from_other_formats(folder, detected, capsys):
    """What was extended, again with --overwrite-columns, never in its own place; and a text of names and positions."""
    words = f"{MOSAIC} --overwrite --noise dja --quiet --columns epochs"
    before = Path("cat.fits").read_bytes()
    assert main(f"extend cat.fits {words} -o cat.fits".split()) == 1
    assert "cat.fits: is the catalogue, which this run reads" in capsys.readouterr().err
    assert Path("cat.fits").read_bytes() == before
    assert main(f"extend cat.fits {words} -o first.fits".split()) == 0
    assert main(f"extend first.fits {words} -o again.fits --overwrite-columns".split()) == 0
    first, again = QTable.read("first.fits"), QTable.read("again.fits")
    assert again.colnames == first.colnames
    assert again[EPOCHS_OF_SHORT].as_array().tobytes() == first[EPOCHS_OF_SHORT].as_array().tobytes()
    assert first[f"{SHORT}_n_exp"].min() > 0
    foreign = foreign_catalog(detected)
    for name, kind in (("f.csv", "ascii.csv"), ("f.ecsv", "ascii.ecsv"), ("f.vot", "votable")):
        foreign.write(name, format=kind)
        words = f"extend {name} {MOSAIC} -o {name}.ecsv --noise dja --quiet --apertures 0.5,2"
        assert main(words.split()) == 0
        table = QTable.read(f"{name}.ecsv")
        assert table.colnames[:4] == foreign.colnames
        assert table.meta["ASEC_1"] == 2
        assert f"{SHORT}_flux_aper_1" in table.colnames


def test_for_eazy(folder, capsys):
    assert main(f"extend cat.fits {MOSAIC} -o eazy.cat --format eazy --noise dja --quiet".split()) == 0
    assert Path("zphot.translate").read_text() == f"{SHORT}_tot_1 F364\n{SHORT}_etot_1 E364\n"
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def bad_folder(pair, detected, segments, tmp_path_factory) -> Path:
    """With catalogues and segmentations that do not go together with the others, or with themselves."""
    folder = fill_folder(tmp_path_factory.mktemp("bad"), pair, detected, segments)
    with contextlib.chdir(folder):
        write_bad_inputs(np.asarray(detected.catalog["id"]))
    return folder


def write_bad_inputs(ids: np.ndarray) -> None:
    good = Table.read("cat.fits")
    for name, column, value in (("range", "dec", -95.0), ("twice", "id", ids[0])):
        bad = good.copy()
        bad[column][4:] = value
        bad.write(f"{name}.fits")
    good[["ra", "dec"]].write("noid.fits")
    good[[]].write("empty.ecsv")
    good[:0].write("norows.fits")
    Table({"ra": good["ra"] * np.nan, "dec": good["dec"]}).write("nowhere.ecsv")
    good[["id"]].write("nowhere.fits")
    text = good.copy()
    text["flux_aper_1"] = ["bright"] * len(text)
    text.write("text.ecsv")
    angle = good.copy()
    angle["theta"].unit = "uJy"
    angle.write("angle.fits")
    good.meta["ASEC_0"] = "small"
    good.write("small.fits")
    done = good.copy()
    done.meta["ASEC_0"] = 0.36
    done[f"{SHORT}_flux_auto"] = 1.0
    done.write("done.fits")
    labels, header = fits.getdata("seg.fits", header=True)
    fits.writeto("missing.fits", np.where(labels >= ids[5], 0, labels), header)
    fits.writeto("others.fits", np.where(labels > 0, labels % len(ids) + 1, 0), header)
    fits.writeto("plain.fits", labels)
    fits.writeto("floats.fits", labels + np.float32(0.5), header)
    fits.writeto("flat.fits", np.zeros((21, 21)), fits.Header({"PIXSCL": 0.04}))
    Path("there.fits").touch()
    Path("text.txt").write_text("id ra dec\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "nowhere.ecsv",
            "ra is not a valid angle in 25 of 25 rows, first row 0 (from 0): nan; give positions within +-360 deg",
        ),
        (
            "range.fits",
            "dec is not a valid angle in 21 of 25 rows, first row 4 (from 0): -95.0; give positions within +-90 deg",
        ),
        ("norows.fits", "the catalogue has no rows"),
        ("nowhere.fits", "the catalogue has no position columns ra/dec"),
        ("missing.ecsv", "missing.ecsv: cannot be read as a catalogue"),
        ("text.txt", "the catalogue has no rows"),
        ("text.doc", "text.doc: catalogues are read from .fits, .ecsv"),
        ("cat.fits --ra lon", "the catalogue has no position columns lon/dec"),
        ("twice.fits --use-segmentation seg.fits", "row 4 (from 0): id 1 is a duplicate"),
        ("noid.fits --use-segmentation seg.fits", "seg.fits: the catalogue has no ids to match with segments"),
        ("cat.fits --use-segmentation seg.fits --id-column nr", "the catalogue has no column nr of ids"),
        (
            "cat.fits --use-segmentation missing.fits",
            "missing.fits: no segment for 20 of 25 rows, first id 6 in row 5 (from 0); give the segmentation that",
        ),
        ("cat.fits --use-segmentation others.fits", "others.fits: 25 of 25 positions lie on segments of other ids"),
        (
            "cat.fits --use-segmentation plain.fits",
            "plain.fits: the segmentation map of (330, 350) pixels (y, x)",
        ),
        ("cat.fits --use-segmentation floats.fits", "floats.fits: a segmentation map holds integer labels"),
        ("cat.fits --use-segmentation no.fits", "no.fits"),
        ("cat.fits --columns iso", "option columns: iso needs the segments of the catalogue; give --use-segmentation"),
        (f"cat.fits --psf {LONG}=flat.fits", f"option psf: {LONG} is not one of the bands {SHORT}"),
        (f"cat.fits --psf {SHORT}=flat.fits", "flat.fits: the PSF sums to 0"),
        ("text.ecsv", "column flux_aper_1 holds no numbers"),
        ("angle.fits", "column theta is in uJy, not deg"),
        (
            "small.fits",
            "the metadata ASEC_i of the catalogue are not numbers (could not convert string to float: 'small')",
        ),
        ("done.fits", f"the catalogue already has {SHORT}_flux_auto of the new columns; add --overwrite-columns"),
        (f"cat.fits {MOSAIC}_drc_sci.fits", f"are both in the band {SHORT}"),
        ("cat.fits other-f200w-clear", "other-f200w-clear: no such mosaic"),
        ("cat.fits -o there.fits", "there.fits: already exists"),
        ("cat.fits -o out.txt", "out.txt: the suffix must be one of .fits, .ecsv, .parquet, .h5, .vot, .csv"),
        ("cat.fits -o missing/out.fits", "the folder missing does not exist"),
        ("cat.fits --format nothing", "is not one of table, eazy"),
        ("cat.fits --engine nothing", "engine 'nothing': no plugin claimed"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(bad_folder, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(bad_folder)
    catalog, _, more = arguments.partition(" ")
    output = "" if "-o" in more.split() else "-o out.fits"
    expect_error(capsys, f"extend {catalog} {MOSAIC} {more} {output} --noise dja --quiet", words)


def test_a_segmentation_without_wcs_is_on_the_grid_of_the_first_mosaic(folder, detected, pair):
    fits.writeto("plain.fits", fits.getdata("seg.fits"))
    options = on_segments("plain.fits")
    extended = dp.extend_catalog(detected.catalog, list(pair.values()), options)
    np.testing.assert_allclose(extended[f"{LONG}_flux_iso"], detected.catalog["flux_iso"], rtol=1e-9)
    assert f"{SHORT}_flux_iso" in extended.colnames
    with pytest.raises(dp.PhotplugError, match=r"\(330, 350\) pixels .* no WCS, and .*f115w-clear has \(660, 700\)"):
        dp.extend_catalog(detected.catalog, [pair[SHORT]], options)


def test_what_has_no_band_cannot_be_added(detected):
    with pytest.raises(
        dp.PhotplugError, match="some.image: its name contains no band, which the names of its columns need"
    ):
        dp.extend_catalog(detected.catalog, [dp.Source(name="some.image")], DJA)
    with pytest.raises(dp.PhotplugError, match="some.image: not the name of a DJA mosaic"):
        dp.extend_catalog(detected.catalog, ["some.image"], DJA)
    with pytest.raises(dp.PhotplugError, match="no mosaic given"):
        dp.extend_catalog(detected.catalog, [], DJA)


# ---- epochs alone, and where a catalogue is from


def test_epochs_alone_read_no_pixels(folder, detected, capsys):
    """Not a pixel, nor a photometric keyword, and the same numbers as with the photometry."""
    assert main(f"extend cat.fits {MOSAIC} -o all.fits --noise dja --quiet".split()) == 0
    science = folder / f"{MOSAIC}_drc_sci.fits"
    header = fits.getheader(science)
    for key in ("BUNIT", "PHOTFNU", "PHOTMJSR", "PHOTSCAL", "OPHOTFNU"):
        header.remove(key, ignore_missing=True)
    science.unlink()
    science.write_bytes(header.tostring(sep="", endcard=True, padding=True).encode())  # and no pixels
    assert main(f"extend cat.fits {MOSAIC} -o epochs.fits --columns epochs --quiet".split()) == 0
    assert capsys.readouterr() == ("", "")
    alone, beside = QTable.read("epochs.fits"), QTable.read("all.fits")
    assert alone.colnames == [*detected.catalog.colnames, *EPOCHS_OF_SHORT]
    for name in EPOCHS_OF_SHORT:
        np.testing.assert_array_equal(plain(alone[name]), plain(beside[name]), err_msg=name)
    assert json.loads(alone.meta["BAND_0"])["EPOCHS"] == f"{MOSAIC}_wcs.csv"
    (folder / f"{MOSAIC}_wcs.csv").unlink()
    expect_error(capsys, f"extend cat.fits {MOSAIC} -o no.fits --columns epochs", "has no WCS log, so no epochs")


def test_metadata_say_where_a_catalogue_is_from(folder):
    table = Table.read("cat.fits")
    theirs = Table({"NUMBER": table["id"], "ALPHA_J2000": table["ra"], "DELTA_J2000": table["dec"]})
    theirs.meta["RELEASE"] = "v7.4"
    theirs.write("mine.ecsv")
    for command in ("extend mine.ecsv {} -o out.ecsv --columns epochs", "epochs {} --catalog mine.ecsv -o out.ecsv"):
        assert main(f"{command.format(MOSAIC)} --overwrite --quiet".split()) == 0
        meta = Table.read("out.ecsv").meta
        expected = {"SRCCAT": "mine.ecsv", "SRCKIND": "sextractor", "SRCIDS": "NUMBER", "SRCVER": "v7.4"}
        assert {key: meta[key] for key in expected} == expected
    assert main(f"extend out.ecsv {MOSAIC} -o twice.ecsv --columns epochs --prefix b_ --quiet".split()) == 0
    assert Table.read("twice.ecsv").meta["SRCCAT"] == "mine.ecsv"  # the first stays
