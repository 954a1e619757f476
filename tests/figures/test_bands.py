"""The figure of several bands: a row for each, the field and its sources in colours, nothing where nothing is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy import units as u
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from dja_photplug.errors import PhotplugError
from dja_photplug.figures.bands import bands_figure, plot_bands
from dja_photplug.figures.panels.pixels import mix_colours, sample_grid
from dja_photplug.sky.grid import Grid, coarsen_grid, sky_positions
from tests.figures.test_catalog import BACKGROUND, EQUAL, FLUX, lines_of, make_catalogs, make_mosaic, named_axes
from tests.helpers import make_wcs

BANDS = {"f444w": 4.0, "f115w": 1.0, "f200w": 2.0}  # and how much brighter the sources are there than at 1.15 um
CURVE = {"AR_RAD": [0.1, 0.2], "AR": [[1.0, 1.2]], "AR_ERR": [[0.1, 0.1]], "AR_N": [[900, 400]], "AR_OFF": [[0.0, 0.0]]}


def make_bands(shape=(200, 300), bands=tuple(BANDS), curves=("f444w",)):
    """Return a catalogue of several bands, their images and their grid."""
    catalog, _ = make_catalogs(FLUX)
    catalog["x"], catalog["y"] = np.linspace(50, shape[1] - 50, 12) * u.pix, np.linspace(20, shape[0] - 20, 12) * u.pix
    catalog["flux_auto"], catalog["fluxerr_auto"] = catalog["flux_aper_1"], catalog["fluxerr_aper_1"]
    images = {}
    for i, band in enumerate(bands):
        image = make_mosaic(*shape)
        image.meta["NOISE"] = "calibrated"
        images[band] = image
        for number in (0, 1):
            flux = BANDS[band] * FLUX
            catalog[f"{band}_flux_aper_{number}"] = flux * u.uJy
            catalog[f"{band}_fluxerr_aper_{number}"] = BACKGROUND * np.sqrt(1 + flux / EQUAL) * u.uJy
            catalog[f"{band}_depth5_{number}"] = np.full(12, 23.9 - 2.5 * np.log10(5 * BACKGROUND)) * u.mag
        meta = {"band": band, "INPUT": f"x/uds-test-v7.4-{band}-clear"} | (CURVE if band in curves else {})
        catalog.meta[f"BAND_{i}"] = json.dumps(meta)
    grid = Grid(image.wcs, shape)
    catalog["ra"], catalog["dec"] = (
        each * u.deg for each in sky_positions(grid.wcs, catalog["x"].value, catalog["y"].value)
    )
    return catalog, images, grid


def test_each_band_has_its_row_by_wavelength():
    catalog, images, grid = make_bands()
    figure = bands_figure(catalog, iter(images.items()), grid)
    axes = named_axes(figure, draw=True)
    rows = [f"{band} {panel}" for band in ("f115w", "f200w", "f444w") for panel in ("science", "error", "ratio")]
    places = [axes[name].get_position().y0 for name in rows]
    assert places == sorted(places, reverse=True)
    assert {name for name in axes if name.endswith("factor")} == {"f444w factor"}  # the others tell no a(r)
    assert any(text.get_text() == "uds-test-v7.4   3 bands   sources: 12" for text in figure.texts)
    for band, ratio in BANDS.items():
        lines = lines_of(axes[f"{band} error"])
        np.testing.assert_allclose(lines["full weight"][:, 0], ratio * FLUX, rtol=1e-14)
        # 23.9 is the zero point of 1 uJy, which is rounded (6e-6 mag).
        np.testing.assert_allclose(lines["on empty sky"][:, 1], BACKGROUND, rtol=1e-5)
        curve = next(label for label in lines_of(axes[f"{band} ratio"]) if "F_0" in label)
        assert f"= {EQUAL:.3g} µJy" in curve
    np.testing.assert_array_equal(axes["f444w science"].images[0].get_array().filled(np.nan), images["f444w"].data)
    whole = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())  # in inches; nothing may be cut off
    width, height = figure.get_size_inches()
    assert min(whole.x0, whole.y0) >= 0
    assert whole.x1 <= width
    assert whole.y1 <= height


def test_colours_are_differences_of_magnitudes():
    catalog, images, grid = make_bands()
    axes = named_axes(bands_figure(catalog, images.items(), grid))
    [points] = [line for line in axes["colour magnitude"].lines if "sources" in str(line.get_label())]
    good = np.min([catalog[f"{band}_flux_aper_1"] / catalog[f"{band}_fluxerr_aper_1"] for band in BANDS], axis=0) >= 5
    magnitude = 23.9 - 2.5 * np.log10(4 * FLUX)
    np.testing.assert_allclose(points.get_xdata(), magnitude[good], atol=1e-5)
    np.testing.assert_allclose(points.get_ydata(), 2.5 * np.log10(4), atol=1e-12)
    assert axes["colour magnitude"].get_ylabel() == "f115w - f444w (AB)"
    assert points.get_label() == f"{good.sum()} of 12 sources, with S/N ≥ 5"
    [points] = [line for line in axes["colour colour"].lines if "sources" in str(line.get_label())]
    np.testing.assert_allclose(points.get_xdata(), 2.5 * np.log10(2), atol=1e-12)
    assert axes["colour colour"].get_legend().get_title().get_text() == "0.50″ aperture, PSFs not matched"
    for band in BANDS:
        catalog[f"{band}_match_aper_1"] = catalog[f"{band}_flux_aper_1"] * 2
        catalog[f"{band}_match_err_1"] = catalog[f"{band}_fluxerr_aper_1"]
    axes = named_axes(bands_figure(catalog, images.items(), grid))
    assert axes["colour colour"].get_legend().get_title().get_text() == "0.50″ aperture, at one PSF"


def test_field_is_red_where_only_the_longest_band_has_light():
    catalog, images, grid = make_bands()
    for image in images.values():
        image.mask[:] = False
        image.data[:] = np.random.default_rng(0).normal(0, 0.02, grid.shape)
    images["f444w"].data[40:60, 100:120] += 5
    axes = named_axes(bands_figure(catalog, images.items(), grid))
    red, green, blue = axes["field"].images[0].get_array()[45:55, 105:115].reshape(-1, 3).mean(axis=0)
    assert red > 4 * max(green, blue)
    assert axes["field"].get_title() == "red: f444w, green: f200w, blue: f115w"
    two = mix_colours([images["f444w"].data, images["f115w"].data])[50, 110].astype(int)
    assert two[0] > two[1] > two[2]  # green is the mean of both
    axes = named_axes(bands_figure(catalog, list(images.items())[:1], grid))
    assert axes["field"].images[0].get_array().ndim == 2  # one band is grey, and has no colours
    assert not any("colour" in name for name in axes)


def test_a_large_field_is_shown_whole_and_in_part():
    catalog, images, grid = make_bands((700, 900), ("f444w", "f115w"), ())
    labels = np.zeros(grid.shape, int)
    labels[300:310] = 1
    axes = named_axes(bands_figure(catalog, images.items(), grid, labels), draw=True)
    assert axes["field"].images[0].get_array().shape[:2] == (350, 450)
    part = axes["f444w science"].images[0].get_array().filled(np.nan)
    assert part.shape == (320, 480)
    frame = axes["field"].patches[0]
    corner = [round(2 * (each + 0.5)) for each in reversed(frame.get_xy())]
    expected = images["f444w"].data[corner[0] : corner[0] + 320, corner[1] : corner[1] + 480]
    np.testing.assert_array_equal(part, expected)
    assert axes["f444w full weight"].images[0].get_array().shape == (350, 450)
    assert "field zoom" in axes
    assert "colour colour" not in axes


def test_flat_planes_and_unknown_errors_have_no_panel(tmp_path):
    catalog, images, grid = make_bands(bands=("f444w",))
    images["f444w"].uncertainty.array[:] = 2500
    catalog.remove_columns([name for name in catalog.colnames if "depth5" in name])
    axes = named_axes(bands_figure(catalog, images.items(), grid), draw=True)
    assert [name for name in axes if name.startswith("f444w")] == ["f444w science", "f444w error", "f444w factor"]
    path = plot_bands(tmp_path / "bands.png", catalog, images.items(), grid)
    assert imread(path).shape[1] == 1750


def test_images_of_other_bands_are_refused():
    catalog, images, grid = make_bands()
    with pytest.raises(PhotplugError, match="has none of these bands; give some of its own: f444w, f115w, f200w"):
        bands_figure(catalog, [("f090w", images["f444w"])], grid)


def test_finer_pixels_are_averaged_on_a_coarser_grid():
    fine = Grid(make_wcs(crpix=(50, 40)), (80, 100))
    pixels = np.random.default_rng(2).normal(size=fine.shape)
    shown = sample_grid(pixels, fine, coarsen_grid(fine, 4))
    np.testing.assert_allclose(shown, pixels.reshape(20, 4, 25, 4).mean(axis=(1, 3)), rtol=1e-5)
    away = coarsen_grid(Grid(make_wcs(crpix=(50 - 40, 40)), (80, 100)), 4)
    moved = sample_grid(pixels, fine, away)
    np.testing.assert_array_equal(moved[:, :15], shown[:, 10:])
    assert np.isnan(moved[:, 15:]).all()
