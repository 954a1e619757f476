"""Everybody's catalogues: each kind is recognised, and its positions, ids, shapes and fluxes are those of the truth."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.errors import PhotplugWarning
from dja_photplug.files.fitsbytes import split_name
from dja_photplug.files.tables.read import choose_table, read_catalog
from dja_photplug.foreign.columns import (
    aperture_diameters,
    read_ids,
    read_places,
    read_position,
    read_shapes,
    resolve_columns,
)
from dja_photplug.foreign.grids import find_scale, fit_grid, north_up, read_own_grid
from dja_photplug.foreign.known import PLAIN, SCHEMAS
from dja_photplug.foreign.recognise import choose_schema, describe_columns, preferred_tables
from dja_photplug.foreign.schema import CatalogSchema, ShapeColumns
from dja_photplug.foreign.view import view_sources
from dja_photplug.pipeline.extend import find_columns, find_schema
from dja_photplug.pipeline.galfit import turn_shapes
from dja_photplug.plugin import hookimpl
from tests.foreign.makers import MAKERS, SCALE, Truth, make_truth
from tests.helpers import expect_error, plain


def read(truth: Truth, kind: str, folder: Path) -> tuple[Path, Table]:
    """Return the file of a kind of catalogue, with its table in brackets, and what is read."""
    _, make, name = MAKERS[kind]
    make(truth, folder / name)
    path = choose_table(folder / name, None, preferred_tables())
    return path, read_catalog(path)


@pytest.mark.parametrize("kind", MAKERS)
def test_columns_of_each_kind(kind, tmp_path):
    truth = make_truth()
    path, table = read(truth, kind, tmp_path)
    schema = choose_schema(table)
    assert schema.name == MAKERS[kind][0]
    columns = resolve_columns(table, schema)
    position, places = read_position(table, columns), read_places(table, columns)
    assert position.separation(truth.position).arcsec.max() < 1e-4  # SExtractor writes 7 to 9 digits
    np.testing.assert_array_equal(read_ids(table, columns), truth.id)
    np.testing.assert_allclose(places, [truth.x, truth.y], atol=1e-4)
    own = read_own_grid(split_name(path)[0])
    assert (own is not None) == (kind in ("grizli", "FITS_LDAC"))
    scale = find_scale(table, schema, position, places, own)
    assert scale == pytest.approx(SCALE, rel=1e-5)
    shapes, notes = read_shapes(table, columns, scale)
    assert notes == []
    kron = np.full(len(truth.id), np.nan) if kind.startswith(("jwst", "jades")) else truth.kron
    for name, values in (("a", truth.a), ("b", truth.b), ("kron_radius", kron)):
        np.testing.assert_allclose(shapes[name], values, rtol=2e-6, err_msg=name)
    counted = truth.north + 90 if columns.shape.zero == "north" else truth.theta
    off = (shapes["theta"] - counted + 90) % 180 - 90
    assert np.abs(off).max() < 1e-6
    apertures = {0: 0.36, 1: 0.5, 2: 0.7, 3: 1.0} if schema.name in ("dja", "dja-phot", "grizli") else {}
    assert aperture_diameters(table, schema) == apertures
    assert list(columns.apertures) == list(apertures)
    assert describe_columns(table, columns, scale).startswith(f"read as {schema.name}: positions ")


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if not kind.startswith("jades")])
def test_as_one_of_ours_on_another_grid(kind, tmp_path):
    """What stamps are made from: angles turn with the image, 41 deg, and fluxes come in uJy by unit or zero point."""
    truth = make_truth()
    path, table = read(truth, kind, tmp_path)
    table.meta |= {"SEXMGZPT": 28.9} if choose_schema(table).name == "sextractor" else {}
    columns, grid = resolve_columns(table, choose_schema(table)), read_own_grid(split_name(path)[0])
    # Of an image without a unit.
    bare = pytest.warns(PhotplugWarning, match="kron_flux has no unit") if kind == "photutils, older" else nullcontext()
    with bare:
        view, wcs = view_sources(table, columns, grid)
    if wcs is None:
        assert view is table
        return
    upright = north_up(truth.position)
    turned = turn_shapes(view, wcs, upright)
    off = (turned["theta"].to_value(u.deg) - truth.north - 90 + 90) % 180 - 90
    assert np.abs(off).max() < 0.01
    np.testing.assert_allclose(view["flux_auto"].to_value(u.uJy), truth.flux, rtol=1e-6)
    np.testing.assert_array_equal(view["id"], truth.id)
    half = 1.17741 * np.sqrt(truth.a * truth.b) if kind in ("jwst", "photutils", "photutils, older") else 0.3
    np.testing.assert_allclose(view["flux_radius"].to_value(u.arcsec), half, rtol=1e-5)


def test_no_two_fit_and_names_are_distinct():
    names = [schema.name for schema in (PLAIN, *SCHEMAS)]
    assert len(set(names)) == len(names)
    assert {name for name, _, _ in MAKERS.values()} == set(names)


def test_missing_values_are_none(tmp_path):
    _, table = read(make_truth(), "dja-phot", tmp_path)
    table["a_image"][2], table["kron_radius"][3] = -99, 0
    shapes, _ = read_shapes(table, resolve_columns(table, choose_schema(table)), SCALE)
    assert np.flatnonzero(np.isnan(shapes["a"])).tolist() == [2]
    assert np.flatnonzero(np.isnan(shapes["kron_radius"])).tolist() == [3]


def test_scale_of_pixels_by_what_tells_it(tmp_path):
    """Own image, then metadata, then x and y; and one line where nothing does."""
    truth = make_truth()
    _, table = read(truth, "dja-phot", tmp_path)
    schema = choose_schema(table)
    position, places = truth.position, np.stack([truth.x, truth.y])
    assert find_scale(table, schema, position, places, truth.wcs) == pytest.approx(SCALE, rel=1e-12)
    table.meta["APER_0"] /= 2
    assert find_scale(table, schema, position, places) == pytest.approx(2 * SCALE, rel=1e-12)
    table.meta.clear()
    assert find_scale(table, schema, position, places) == pytest.approx(SCALE, rel=1e-6)
    assert find_scale(table, schema, position, None, None, truth.wcs) == pytest.approx(SCALE, rel=1e-12)
    assert find_scale(table, schema, position, None) is None
    shapes, notes = read_shapes(table, resolve_columns(table, schema), None)
    assert np.isnan(shapes["a"]).all()
    assert notes == [
        "columns a_image and b_image are in pixels of an unknown scale, so each Kron aperture is the smallest circle; "
        "give the catalogue's own image with --like"
    ]
    assert fit_grid(places[:, :2], position[:2]) is None


def test_names_that_are_given_win_and_wrong_ones_are_refused(tmp_path):
    truth = make_truth()
    _, table = read(truth, "grizli", tmp_path)
    columns = resolve_columns(table, choose_schema(table, "grizli"), ra="X_WORLD", dec="DEC", id_column="NPIX")
    assert (columns.position, columns.ids) == (("X_WORLD", "DEC"), "NPIX")
    assert choose_schema(table, "plain") is PLAIN
    with pytest.raises(dp.PhotplugError, match=r"option schema: 'grizly' is not one of plain, .*mean grizli"):
        choose_schema(table, "grizly")
    with pytest.raises(
        dp.PhotplugError, match="the catalogue is not one of dja: it lacks the columns id, apcorr_0; leave it out"
    ):
        choose_schema(table, "dja")


# ---- schemas of plugins


class Radii:
    """A plugin that knows catalogues with a column REFF."""

    schema = CatalogSchema(
        name="radii",
        title="of somebody",
        marks=("reff",),
        shapes=(ShapeColumns(a="reff", b="beff", theta=("pa",), unit="arcsec", zero="north"),),
        kron="",
    )

    @staticmethod
    @hookimpl
    def photplug_schema(table: Table) -> CatalogSchema | None:
        return Radii.schema if "REFF" in table.colnames else None


def test_a_plugin_adds_a_schema():
    manager = dp.get_plugin_manager()
    manager.register(Radii, "radii")
    truth = make_truth()
    table = Table({"ra": truth.position.ra, "dec": truth.position.dec, "REFF": truth.a, "BEFF": truth.b})
    table["PA"] = truth.north
    assert find_schema(table, None, manager) is Radii.schema
    assert find_schema(table, "radii", manager) is Radii.schema
    columns = find_columns(table, dp.ExtendOptions(), manager)
    shapes, _ = read_shapes(table, columns, None)
    np.testing.assert_allclose(shapes["a"], truth.a, rtol=1e-12)
    np.testing.assert_allclose(shapes["theta"], truth.north + 90, rtol=1e-12)
    del table["REFF"]
    assert find_schema(table, None, manager) is PLAIN
    with pytest.raises(dp.PhotplugError, match="'radii' is not one of"):
        find_schema(table, "radii", manager)


@pytest.mark.parametrize("wrong", [{"unit": "px"}, {"angle": "hour"}, {"zero": "east"}])
def test_a_schema_with_a_unit_of_its_own_is_refused(wrong):
    with pytest.raises(dp.PhotplugError, match="the .* of a schema must be one of"):
        ShapeColumns(a="a", b="b", theta=("t",), **wrong)


# ---- measured


@pytest.fixture(scope="module")
def measured(photplug_mosaic) -> dp.Options:
    return dp.Options(variance=dp.VarianceOptions(noise="dja"))


@pytest.mark.parametrize("kind", ["dja-phot", "grizli", "ASCII_HEAD", "FITS_LDAC", "super", "photutils"])
def test_ellipses_are_those_of_our_own_catalogue(kind, photplug_mosaic, measured, tmp_path):
    """Through pixels, radians, angles from north, unscaled Kron radii: the same Kron fluxes as with our own columns."""
    prefix = photplug_mosaic.prefix
    result = dp.run([prefix], measured)
    ours = result.catalog
    columns = {name: plain(ours[name]) for name in ("id", "x", "y", "a", "b", "theta")}
    wcs = result.detection.wcs
    truth = Truth(wcs=wcs, kron=plain(ours["kron_radius"]), flux=plain(ours["flux_auto"]), **columns)
    name = MAKERS[kind][2]
    MAKERS[kind][1](truth, tmp_path / name)
    extended = dp.extend_catalog(read_catalog(tmp_path / name), [prefix], measured)
    np.testing.assert_allclose(extended["f444w_flux_auto"], ours["flux_auto"], rtol=1e-3)
    circles = np.asarray(extended["f444w_flag"]) & dp.SourceFlag.KRON_CIRCLE
    np.testing.assert_array_equal(circles > 0, (np.asarray(ours["flag"]) & dp.SourceFlag.KRON_CIRCLE) > 0)
    assert (circles == 0).sum() > 5


def test_the_command_says_what_it_reads(photplug_mosaic, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    MAKERS["FITS_LDAC"][1](make_truth(), Path("test.ldac"))
    words = "--noise dja --columns aper --apertures 0.5"
    assert main(f"extend test.ldac {photplug_mosaic.prefix} -o out.fits {words}".split()) == 0
    said = capsys.readouterr().out
    assert (
        "test.ldac[LDAC_OBJECTS]: read as sextractor: positions ALPHA_J2000 DELTA_J2000, ids NUMBER, shapes A_WORLD "
        "B_WORLD THETA_J2000 KRON_RADIUS, fluxes FLUX_AUTO; " in said
    )
    expect_error(
        capsys,
        f"extend test.ldac {photplug_mosaic.prefix} -o no.fits {words} --schema dja",
        "test.ldac[LDAC_OBJECTS]: option schema: the catalogue is not one of dja: it lacks the columns id, kron_rcirc",
    )
    expect_error(
        capsys,
        f"extend test.ldac {photplug_mosaic.prefix} -o no.fits {words} --hdu OBJECTS",
        "test.ldac[OBJECTS]: cannot be read as a catalogue (HDU OBJECTS is none of its tables, "
        "[LDAC_OBJECTS]; did you mean LDAC_OBJECTS?)",
    )
