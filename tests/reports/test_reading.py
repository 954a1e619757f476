"""What a report takes from a catalogue: the numbers of its columns and metadata, in our units."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

import dja_photplug as dp
from dja_photplug.errors import PhotplugError
from dja_photplug.files.grammar import find_wavelength
from dja_photplug.foreign.columns import resolve_columns
from dja_photplug.foreign.known import OURS, SCHEMAS
from dja_photplug.reports.mosaics import BandMosaic, read_visits
from dja_photplug.reports.pictures import cut_labels, cut_tiles, draw_field
from dja_photplug.reports.reading import read_contents
from dja_photplug.reports.summaries import count_sources
from dja_photplug.simulate.mosaic import SimulatedMosaic
from dja_photplug.sky.grid import sky_positions
from tests.reports.conftest import BANDS, Field

PHOTUTILS = next(schema for schema in SCHEMAS if schema.name == "photutils")


def read(table):
    return read_contents(table, resolve_columns(table, OURS))


def test_contents_are_the_columns_of_the_catalogue(field: Field) -> None:
    table = dp.read_catalog(field.catalog)
    contents = read(table)
    assert [band.name for band in contents.bands] == list(BANDS)
    assert contents.diameters.tolist() == [0.36, 0.5, 0.7, 1.0]
    np.testing.assert_array_equal(contents.ids, table["id"])
    np.testing.assert_allclose(contents.mag, table["mag_auto"].value)
    for band in contents.bands:
        np.testing.assert_allclose(band.flux, table[f"{band.name}_tot_1"].value)
        np.testing.assert_allclose(band.aperture_error[2], table[f"{band.name}_fluxerr_aper_2"].value)
        np.testing.assert_allclose(band.share[1], table[f"{band.name}_contam_1"].value)
        # The limit is that of 5 sigma on empty sky; photons only add to the error.
        limit = 23.9 - 2.5 * np.log10(5 * band.empty_error[1])
        np.testing.assert_allclose(limit, table[f"{band.name}_depth5_1"].value)
        seen = np.isfinite(band.aperture_error[1])
        assert np.median((band.aperture_error[1] / band.empty_error[1])[seen]) >= 1
        assert band.calibration is not None
        assert band.calibration.factor.shape[1] == len(band.calibration.radius)
        assert band.epochs is not None
        assert np.unique(band.epochs.mean).tolist() == [60010.5]


def test_spectrum_takes_what_every_band_has(field: Field) -> None:
    table = dp.read_catalog(field.catalog)
    table.remove_column("f200w_tot_1")
    contents = read(table)
    assert contents.spectrum == "flux in the Kron aperture"
    np.testing.assert_allclose(contents.bands[0].flux, table["f200w_flux_auto"].value)


def test_metadata_that_cannot_be_read_are_told() -> None:
    table = Table({"id": [1], "ra": [34.0], "dec": [-5.0]}, meta={"BAND_0": "{"})
    with pytest.raises(PhotplugError, match="cannot read the metadata BAND_0 of the catalogue"):
        read(table)


@pytest.mark.parametrize(
    ("band", "header", "micron"),
    [("f444w", {"PHOTPLAM": 44036.7}, 4.40367), ("nrca_f250m", {}, 2.5), ("f850lp", {}, 0.85), ("f350lpu", {}, 0.35),
     ("f105w", {}, 1.05), ("f356wn", {}, 3.56), ("f770w", {}, 7.7), ("f775w", {}, 0.775), ("f444w_grismr", {}, 4.44)],
)  # fmt: skip
def test_wavelength_is_that_of_header_or_name(band: str, header: dict[str, float], micron: float) -> None:
    assert find_wavelength(band, header) == pytest.approx(micron, rel=1e-5)


def test_counts_are_those_of_a_square_arcmin_and_magnitude() -> None:
    counts = count_sources(np.array([22.1, 22.2, 22.3, 23.9, np.nan]), 2.0)
    assert counts is not None
    assert counts.number.tolist() == [3, 0, 0, 1]
    assert counts.density[0] == pytest.approx(3 / (2.0 * 0.5))
    assert counts.error[0] == pytest.approx(np.sqrt(3) / (2.0 * 0.5))
    assert count_sources(np.array([np.nan]), 2.0) is None


def decode(image: str) -> np.ndarray:
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(b64decode(image))))


def test_labels_come_back_from_their_colours() -> None:
    labels = np.zeros((700, 600), np.int32)
    labels[:, 300:], labels[600, 10] = 70000, 16_777_215
    tiles = cut_labels(labels, 1)
    assert (tiles.shape, len(tiles.images)) == ((700, 600), 4)
    whole = np.zeros_like(labels)
    for k, image in enumerate(tiles.images):
        colours = decode(image)[::-1].astype(np.int32)  # the first row of an image is its uppermost
        top, left = 512 * (k // 2), 512 * (k % 2)
        whole[top : top + len(colours), left : left + colours.shape[1]] = colours @ [1, 256, 65536]
    np.testing.assert_array_equal(whole, labels)


def test_tiles_show_light_where_it_is() -> None:
    science = np.random.default_rng(0).normal(0, 1, (600, 520)).astype(np.float32)
    science[550:560, 515:520] = 100
    for step in (1, 2):
        tiles = cut_tiles(science, step)
        assert tiles.shape == (600 // step, 520 // step)
        last = decode(tiles.images[-1])[::-1]
        y, x = (555 // step) % 512, (517 // step) % 512
        assert last[y, x] > 200
        assert np.median(decode(tiles.images[0])) < 80


def test_equal_fluxes_are_white_and_the_sky_is_dark() -> None:
    rng = np.random.default_rng(1)
    planes = {name: rng.normal(0, 1, (90, 100)).astype(np.float32) for name in "rgb"}
    for plane in planes.values():
        plane[20:30, 60:70] = 200
    pixels = decode(draw_field(planes, 1).url.split(",")[1])[::-1].astype(int)
    assert pixels[25, 65].min() > 150
    assert np.ptp(pixels[25, 65]) < 25
    assert np.median(pixels) < 70


def test_visits_are_those_of_the_log(simulated: SimulatedMosaic) -> None:
    files = dp.find_mosaic(simulated.prefix)
    grid = files.grid()
    ra, dec = sky_positions(grid.wcs, np.array([260.0, 5.0, 400.0, -1e5]), np.array([200.0, 5.0, 300.0, 0.0]))
    table = Table({"id": [1, 2, 3, 4], "ra": ra, "dec": dec, "mag": [20.0] * 4})
    window = slice(0, grid.shape[0]), slice(0, grid.shape[1])
    mosaic = BandMosaic(band="f444w", source=files, grid=grid, window=window, header={})
    visits = read_visits(mosaic, read(table), dp.get_plugin_manager())
    assert visits is not None
    expected = dp.read_exposure_log(files.wcs_log).epochs(SkyCoord(ra, dec, unit="deg"), details=("visits",))
    assert visits.first[-1] == len(visits.visit) > 4
    for i, row in enumerate(expected):
        part = slice(*visits.first[i : i + 2])
        assert [visits.names[k] for k in visits.visit[part]] == row["visits"].split()
        # float32 keeps days of years to half a minute.
        np.testing.assert_allclose(visits.start + visits.day[part], row["visit_mjd"], rtol=0, atol=4e-4)
        np.testing.assert_allclose(visits.seconds[part], row["visit_exptime"], rtol=1e-6)
    assert not len(visits.visit[visits.first[3] :])


def test_fluxes_without_a_unit_have_no_magnitudes() -> None:
    """As photutils writes them of an image without a unit, which here was one in 10 nJy: 5 magnitudes off uJy."""
    table = Table({"id": [1, 2], "ra": [34.3, 34.4], "dec": [-5.1, -5.2], "segment_flux": [1.0, 2.0]})
    for name in ("semimajor_sigma", "semiminor_sigma", "orientation", "x", "y"):
        table[name] = [1.0, 1.0]
    table["kron_flux"], table["kron_fluxerr"] = [100.0, 1.0], [1.0, 1.0]
    contents = read_contents(table, resolve_columns(table, PHOTUTILS))
    assert np.isnan(contents.mag).all()
    assert "kron_flux has no unit" in contents.notes[1]
    np.testing.assert_array_equal(contents.flux / contents.error, [100, 1])
    table["kron_flux"].unit = table["kron_fluxerr"].unit = "10 nJy"
    contents = read_contents(table, resolve_columns(table, PHOTUTILS))
    # 23.9 is the zero point of 1 uJy, which is rounded (6e-6 mag).
    np.testing.assert_allclose(contents.mag, [23.9, 28.9], atol=1e-5)
    assert len(contents.notes) == 1
