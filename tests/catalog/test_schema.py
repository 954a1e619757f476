"""The catalogue's schema, flags, magnitudes and files."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from regions import CircleSkyRegion, Regions

from dja_photplug.catalog.flags import SourceFlag, decode_flags
from dja_photplug.catalog.metadata import make_metadata
from dja_photplug.catalog.regions import write_regions
from dja_photplug.catalog.schema import COLUMNS, EPOCH_COLUMNS, describe_columns, dress_table
from dja_photplug.errors import PhotplugError
from dja_photplug.files.tables import write_catalog
from dja_photplug.options.stages import MeasureOptions, Options
from dja_photplug.units import magnitude
from tests.helpers import make_catalog, make_wcs, need_pyarrow

CONTRACT = (
    "id ra dec x y a b theta npix kron_radius flux_radius flux_auto fluxerr_auto mag_auto magerr_auto "
    "flux_iso fluxerr_iso flag mask_frac"
)
EPOCHS = "n_exp exptime mjd_mean mjd_min mjd_max n_visit"


def test_columns_are_those_of_the_contract() -> None:
    assert [spec.name for spec in COLUMNS] == CONTRACT.split()
    assert [spec.name for spec in EPOCH_COLUMNS] == ["n_exp", "exptime", "mjd_mean", "mjd_min", "mjd_max", "n_visit"]
    aperture = ["flux_aper_1", "fluxerr_aper_1", "depth5_1", "flag_aper_1"]
    assert [spec.name for spec in describe_columns(2)[-4:]] == aperture
    units = {spec.name: spec.unit for spec in describe_columns(1, epochs=True)}
    expected = {"flux_aper_0": "uJy", "fluxerr_iso": "uJy", "a": "arcsec", "flux_radius": "arcsec", "theta": "deg"}
    expected |= {"ra": "deg", "x": "pix", "mag_auto": "mag", "exptime": "s", "mjd_min": "d", "kron_radius": ""}
    assert {name: units[name] for name in expected} == expected


def test_every_column_says_what_it_is_in_valid_units() -> None:
    for spec in describe_columns(2, epochs=True):
        u.Unit(spec.unit)
        assert spec.description.isascii()
        assert "{" not in spec.description
    table = make_catalog()
    assert all(table[name].info.description for name in table.colnames)


def test_dress_table_converts_quantities_and_types() -> None:
    specs = [spec for spec in COLUMNS if spec.name in ("id", "theta")]
    table = dress_table({"theta": [np.pi / 2] * u.rad, "id": [1.0]}, specs)
    assert table.colnames == ["id", "theta"]
    assert table["theta"][0].to_value(u.deg) == pytest.approx(90)
    assert table["id"].dtype == np.int64


@pytest.mark.parametrize(
    ("columns", "words"), [({"id": [1]}, "misses columns ra"), ({"q": [1]}, "misses columns id, ra")]
)
def test_dress_table_misses_nothing(columns: dict, words: str) -> None:
    with pytest.raises(PhotplugError, match=words):
        dress_table(columns, COLUMNS[:2])


def test_dress_table_refuses_unknown_columns() -> None:
    with pytest.raises(PhotplugError, match="unknown columns extra"):
        dress_table({"id": [1], "extra": [1]}, COLUMNS[:1])


def test_low_flags_are_those_of_sep() -> None:
    ours = [SourceFlag.DEBLENDED, SourceFlag.TRUNCATED, SourceFlag.DEBLEND_OVERFLOW, SourceFlag.SINGULAR]
    assert ours == [sep.OBJ_MERGED, sep.OBJ_TRUNC, sep.OBJ_DOVERFLOW, sep.OBJ_SINGU]
    ours = [SourceFlag.APER_TRUNCATED, SourceFlag.APER_MASKED, SourceFlag.APER_ALL_MASKED]
    assert ours == [sep.APER_TRUNC, sep.APER_HASMASKED, sep.APER_ALLMASKED]
    assert sep.APER_NONPOSITIVE == SourceFlag.APER_NON_POSITIVE
    assert [flag.value for flag in SourceFlag] == [1 << i for i in range(len(SourceFlag))]
    assert all(flag.description for flag in SourceFlag)


def test_decode_flags() -> None:
    assert decode_flags(0) == []
    assert decode_flags(np.int32(1 + 32 + 1024)) == ["DEBLENDED", "APER_MASKED", "NOT_MEASURED"]


def test_magnitude_is_ab() -> None:
    flux = np.array([1e-3, 1.0, 250.0])
    mag, magerr = magnitude(flux, flux / 1000)
    # 23.9 rounds -2.5 log10(1 uJy / 3631 Jy) = 23.90001.
    np.testing.assert_allclose(mag, (flux * u.uJy).to_value(u.ABmag), atol=2e-5)
    # The derivative, against a difference; second order in 1/1000.
    np.testing.assert_allclose(magerr, magnitude(flux / 1.001, flux)[0] - mag, rtol=1e-3)


def test_magnitude_of_no_flux_is_nan() -> None:
    mag, magerr = magnitude([0.0, -1.0, np.nan], [1.0, 1.0, 1.0])
    assert np.isnan(mag).all()
    assert np.isnan(magerr).all()


def test_metadata_are_short_keys_and_plain_values() -> None:
    meta = make_metadata(Options(measure=MeasureOptions(apertures=(0.3, 2.0))))
    assert all(len(key) <= 8 and key == key.upper() for key in meta)
    assert (meta["ZEROPNT"], meta["ENGINE"], meta["ASEC_1"]) == (23.9, "sep", 2.0)
    assert json.loads(meta["OPTIONS"])["detect"]["n_sigma"] == 1.5
    assert set(json.loads(meta["VERSIONS"])) == {"dja_photplug", "astropy", "numpy", "sep", "photutils"}


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet"])
def test_files_keep_all_of_a_catalog(tmp_path, suffix: str) -> None:
    need_pyarrow(suffix)
    table = make_catalog()
    path = write_catalog(table, tmp_path / f"cat{suffix}")
    read = QTable.read(path)
    assert read.colnames == table.colnames
    for name in table.colnames:
        assert read[name].info.unit == table[name].info.unit
        assert read[name].info.description == table[name].info.description
        assert read[name].dtype.kind == table[name].dtype.kind
        np.testing.assert_array_equal(np.asarray(read[name]), np.asarray(table[name]))
    assert {key: read.meta[key] for key in table.meta} == table.meta


def test_parquet_holds_all_of_a_catalog(tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = make_catalog()
    read = parquet.read_table(write_catalog(table, tmp_path / "cat.parquet"))
    assert read.column_names == table.colnames
    np.testing.assert_array_equal(read["flux_auto"].to_numpy(), table["flux_auto"].value)
    stored = read.schema.metadata[b"table_meta_yaml"].decode()
    for text in ("ZEROPNT: 23.9", "unit: uJy", "isophotal flux: sum"):
        assert text in stored


def test_empty_catalog_round_trips(tmp_path) -> None:
    table = make_catalog(n=2)[:0]
    for name in ("cat.fits", "cat.ecsv"):
        read = QTable.read(write_catalog(table, tmp_path / name))
        assert len(read) == 0
        assert read["flux_auto"].unit == u.uJy


@pytest.mark.parametrize("name", ["cat.txt", "cat"])
def test_unknown_format_names_the_known(tmp_path, name: str) -> None:
    with pytest.raises(PhotplugError, match=r"is written as \.fits, \.ecsv, \.parquet; name it so"):
        write_catalog(make_catalog(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PhotplugError, match=r"dja_photplug\[parquet\]"):
        write_catalog(make_catalog(), tmp_path / "cat.parquet")


def test_existing_catalog_is_kept(tmp_path) -> None:
    path = tmp_path / "cat.ecsv"
    path.write_text("mine")
    with pytest.raises(PhotplugError, match="exists already"):
        write_catalog(make_catalog(), path)
    assert path.read_text() == "mine"
    write_catalog(make_catalog(), path, overwrite=True)
    assert len(QTable.read(path)) == 3


@pytest.mark.parametrize("degrees", [0, 37, 200])
def test_regions_lie_along_the_sources(tmp_path, degrees: float) -> None:
    wcs = make_wcs(angle=degrees)
    table = make_catalog()
    x, y, theta = np.array([30.0, 70.0, 50.0]), np.array([40.0, 45.0, 20.0]), np.array([-80.0, 0.0, 25.0])
    ra, dec = wcs.pixel_to_world_values(x, y)
    new = {"ra": ra * u.deg, "dec": dec * u.deg, "x": x * u.pix, "y": y * u.pix, "theta": theta * u.deg}
    new |= {"a": [0.2] * 3 * u.arcsec, "b": [0.1] * 3 * u.arcsec, "kron_radius": [3.0] * 3, "flag": [0, 0, 512]}
    for name, values in new.items():
        table[name] = values
    regions = Regions.read(write_regions(table, tmp_path / "cat.reg", wcs))
    assert [str(region.meta["text"]) for region in regions] == ["0", "1", "2"]
    assert isinstance(regions[2], CircleSkyRegion)
    assert regions[2].radius.to_value(u.arcsec) == pytest.approx(0.35)
    for i in range(2):
        ellipse = regions[i].to_pixel(wcs)
        # DS9 files hold 8 decimals of a degree, 1e-3 of a pixel, and angles to 1e-8 deg.
        np.testing.assert_allclose([ellipse.center.x, ellipse.center.y], [x[i], y[i]], atol=2e-3)
        np.testing.assert_allclose([ellipse.width, ellipse.height], [30, 15], atol=2e-3)
        turn = (ellipse.angle.to_value(u.deg) - theta[i] + 90) % 180 - 90
        # Across 100 pixels north turns by less than 1e-4 deg; the finite step of 1 arcsec adds no more.
        assert turn == pytest.approx(0, abs=1e-3)


def test_regions_skip_sources_without_a_position(tmp_path) -> None:
    table = make_catalog()
    table["ra"][0] = np.nan * u.deg
    assert len(Regions.read(write_regions(table, tmp_path / "cat.reg", make_wcs()))) == 2


def test_regions_of_no_source_are_a_file(tmp_path) -> None:
    assert write_regions(make_catalog()[:0], tmp_path / "cat.reg", make_wcs()).exists()


def test_regions_need_their_suffix(tmp_path) -> None:
    with pytest.raises(PhotplugError, match=r"is written as \.reg; name it so"):
        write_regions(make_catalog(), tmp_path / "cat.txt", make_wcs())


def test_position_angle_is_that_of_the_sky() -> None:
    """Guard of the convention used: 0 lines an ellipse up with the longitude axis."""
    wcs = make_wcs(angle=37)
    centre = SkyCoord(34.3, -5.1, unit="deg")
    north = centre.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    (x0, x1), (y0, y1) = wcs.world_to_pixel_values([centre.ra.deg, north.ra.deg], [centre.dec.deg, north.dec.deg])
    # CD is made to turn the sky counter-clockwise by 37 deg.
    assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) - 90 == pytest.approx(37, abs=1e-3)
