"""The figure holds the numbers of catalogue and image, whatever is missing."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from photutils.segmentation import SegmentationImage

from dja_photplug.errors import PhotplugError
from dja_photplug.figures import catalog as plots
from dja_photplug.figures.panels.pixels import block_mean
from dja_photplug.mosaic.load import load_mosaic
from tests.helpers import make_image, make_wcs, uds_prefix

BACKGROUND = 0.01  # wht-only error of all sources, uJy
POINTS = ("full weight", "without photons", "sources")
EQUAL = 0.5  # flux with as much Poisson as background variance, uJy


def make_mosaic(ny=200, nx=300, background=True):
    """Return a mosaic of sky noise 0.02 without data in its left tenth; its full weight is half of the wht."""
    data = np.random.default_rng(0).normal(0, 0.02, (ny, nx)).astype(np.float32)
    wht = np.full((ny, nx), 2500, np.float32)
    mask = np.zeros((ny, nx), bool)
    mask[:, : nx // 10] = True
    data[mask], wht[mask] = np.nan, 0
    wcs = make_wcs(crpix=(nx / 2, ny / 2))
    return make_image(data, wht / 2, wht if background else None, wcs, {"FILTER": "F444W", "NOISE": "dja"})


def make_catalogs(flux, x=None, y=None):
    """Return a catalogue of given fluxes with exact Poisson errors, and the one with the background's errors."""
    flux = np.asarray(flux, dtype=float)
    n = len(flux)
    table = QTable(
        {
            "x": np.linspace(50, 250, n) * u.pix if x is None else x * u.pix,
            "y": np.linspace(20, 180, n) * u.pix if y is None else y * u.pix,
            "a": np.full(n, 0.4) * u.arcsec,
            "b": np.full(n, 0.2) * u.arcsec,
            "theta": np.full(n, 30.0) * u.deg,
            "kron_radius": np.full(n, 3.0),
        },
        meta={"ASEC_0": 0.36, "ASEC_1": 0.5, "KRONCIRC": 0.35},
    )
    for i in (0, 1):
        table[f"flux_aper_{i}"] = flux * u.uJy
        table[f"fluxerr_aper_{i}"] = BACKGROUND * np.sqrt(1 + np.maximum(flux, 0) / EQUAL) * u.uJy
    background = table.copy()
    background["fluxerr_aper_1"] = np.full(n, BACKGROUND) * u.uJy
    return table, background


def named_axes(figure, *, draw=False):
    """Return the axes by their names, after drawing where labels are looked at or what is drawn is unusual."""
    if draw:
        FigureCanvasAgg(figure).draw()
    return {axes.get_label(): axes for axes in figure.axes if axes.get_label()}


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


FLUX = np.geomspace(0.05, 20, 12)


def test_graphs_hold_fluxes_and_errors():
    catalog, background = make_catalogs(FLUX)
    axes = named_axes(plots.catalog_figure(make_mosaic(), None, catalog, background))
    lines = lines_of(axes["error"])
    np.testing.assert_array_equal(lines["full weight"], np.column_stack([FLUX, catalog["fluxerr_aper_1"].value]))
    np.testing.assert_array_equal(lines["without photons"], np.column_stack([FLUX, np.full(12, BACKGROUND)]))
    for name in ("error", "ratio"):  # all of them in sight
        (left, right), (bottom, top) = axes[name].get_xlim(), axes[name].get_ylim()
        for x, y in np.concatenate([xy for label, xy in lines_of(axes[name]).items() if label in POINTS]):
            assert left < x < right
            assert bottom < y < top
    ratio = lines_of(axes["ratio"])
    # Both columns are doubles of the same formula: rounding only.
    np.testing.assert_allclose(ratio["sources"][:, 1], np.sqrt(1 + FLUX / EQUAL), rtol=1e-14)
    curve = next(label for label in ratio if "F_0" in label)
    assert f"= {EQUAL:.3g} µJy" in curve
    np.testing.assert_allclose(ratio[curve][:, 1], np.sqrt(1 + ratio[curve][:, 0] / EQUAL), rtol=1e-12)


def test_graphs_are_labelled_with_units_and_magnitudes():
    axes = named_axes(plots.catalog_figure(make_mosaic(), None, *make_catalogs(FLUX)))
    assert axes["error"].get_xlabel() == "flux, 0.50″ aperture (µJy)"
    assert axes["error"].get_ylabel() == "1-sigma error, 0.50″ aperture (µJy)"
    for name in ("error", "ratio"):
        (top,) = (
            other
            for other in axes[name].figure.axes
            if other.get_xlabel() == "AB magnitude" and other.get_position().bounds == axes[name].get_position().bounds
        )
        # 1 uJy is 23.9 mag AB by definition of the zero point 3631 Jy, which is rounded (6e-6 mag).
        expected = 23.9 - 2.5 * np.log10(axes[name].get_xlim())
        np.testing.assert_allclose(top.get_xlim(), expected, atol=1e-5)


def test_axes_of_errors_have_two_labels_however_short_they_are():
    catalog, background = make_catalogs(FLUX)
    catalog["fluxerr_aper_1"] = background["fluxerr_aper_1"] = np.linspace(0.00312, 0.00316, len(FLUX)) * u.uJy
    axes = named_axes(plots.catalog_figure(make_mosaic(), None, catalog, background))["error"]
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2


def test_faint_and_unmeasured_sources_are_counted_not_drawn():
    catalog, background = make_catalogs([5.0, 1.0, 0.0, -1.0, np.nan, 1e-9])
    catalog["fluxerr_aper_1"][1] = 0 * u.uJy
    axes = named_axes(plots.catalog_figure(make_mosaic(), None, catalog, background))
    assert lines_of(axes["error"])["full weight"][:, 0].tolist() == [5.0]
    assert axes["error"].get_legend().get_title().get_text() == "not shown: 5 with S/N below 1"


def test_aperture_0_stands_in_where_it_is_alone():
    catalog, _ = make_catalogs(FLUX)
    catalog.remove_columns(["flux_aper_1", "fluxerr_aper_1"])
    axes = named_axes(plots.catalog_figure(make_mosaic(), None, catalog))
    assert axes["error"].get_xlabel() == "flux, 0.36″ aperture (µJy)"
    assert "ratio" not in axes
    assert "without photons" not in lines_of(axes["error"])


def test_images_hold_the_planes_on_one_area():
    image = make_mosaic()
    exposure = np.full((50, 75), 12_345.0)
    exposure[:, 40:] = 24_690.0
    axes = named_axes(plots.catalog_figure(image, exposure, *make_catalogs(FLUX)))
    assert [name for name in axes if "zoom" not in name] == [
        *("science", "full weight", "wht", "exposure"),
        *("error", "ratio"),
    ]
    shown = {name: axes[name].images[0] for name in ("science", "full weight", "wht", "exposure")}
    np.testing.assert_array_equal(shown["science"].get_array().filled(np.nan), image.data)
    np.testing.assert_array_equal(shown["full weight"].get_array(), image.uncertainty.array)
    np.testing.assert_array_equal(shown["wht"].get_array(), image.background_weight)
    np.testing.assert_allclose(shown["exposure"].get_array(), exposure / 1000, rtol=1e-15)
    for name, artist in shown.items():
        assert artist.get_extent() == [-0.5, 299.5, -0.5, 199.5], name
        assert axes[name].get_xlim() == (-0.5, 299.5)
        assert axes[name].get_ylim() == (-0.5, 199.5)
    assert shown["full weight"].norm is shown["wht"].norm
    # The scale of science: sky noise of 0.02 is visible, 3 sigma below 0 is white.
    assert shown["science"].norm.vmin == pytest.approx(-0.06, rel=0.05)


def test_a_plane_that_is_the_same_everywhere_has_no_panel():
    axes = named_axes(plots.catalog_figure(make_mosaic(), np.full((50, 75), 12_345.0), *make_catalogs(FLUX)))
    assert "exposure" not in axes
    assert "wht" in axes  # 0 where there are no data


def test_zones_of_depth_have_their_own_curves():
    """Photons weigh more where the background is lower: twice at the edge, which is the variance of the left half."""
    image = make_mosaic()
    image.background_weight[:, 150:] /= 4
    catalog, background = make_catalogs(FLUX[4:], x=np.r_[[100.0] * 4, [250.0] * 4])
    for half, equal in ((slice(0, 4), 0.5), (slice(4, 8), 2.0)):
        sigma = BACKGROUND * (1 if equal == 0.5 else 2)
        catalog["fluxerr_aper_1"][half] = sigma * np.sqrt(1 + FLUX[4:][half] / equal) * u.uJy
        background["fluxerr_aper_1"][half] = sigma * u.uJy
    catalog.meta |= {"INPUT": "x/uds-f444w-clear"}
    catalog.meta |= {"AR_RAD": [0.1, 0.2, 0.4], "AR": [[1.0, 1.2, 1.4]] * 2, "AR_ERR": [[0.1, 0.1, 0.2]] * 2}
    catalog.meta |= {"AR_N": [[900, 400, 100], [900, 400, 0]], "AR_OFF": [[0.0] * 3] * 2, "AR_EDGES": [1 / 1200]}
    figure = plots.catalog_figure(image, None, catalog, background)
    axes = named_axes(figure)
    assert {label for label in lines_of(axes["ratio"]) if "F_0" in label} == {
        "zone 1: $F_0$ = 0.5 µJy",
        "zone 2: $F_0$ = 2 µJy",
    }
    curve = lines_of(axes["factor"])["zone 2"]
    np.testing.assert_array_equal(curve, [[0.1, 1.0], [0.2, 1.2], [0.4, 1.4]])
    assert any(text.get_text().startswith("uds-f444w-clear") for text in figure.texts)


def test_small_image_needs_no_zoom_and_a_large_one_zooms_on_the_best_measured_sources():
    assert not any(
        "zoom" in name for name in named_axes(plots.catalog_figure(make_mosaic(), None, *make_catalogs(FLUX)))
    )
    cluster = np.linspace(1100, 1200, 12)
    catalogs = make_catalogs(FLUX, x=cluster, y=cluster / 2)
    image = make_mosaic(1200, 1500)
    axes = named_axes(plots.catalog_figure(image, np.ones((300, 375)), *catalogs))
    left, right = axes["science zoom"].get_xlim()
    bottom, top = axes["wht zoom"].get_ylim()
    assert (right - left, top - bottom) == (480, 320)
    assert left < 1100 < 1200 < right
    assert bottom < 550 < 600 < top
    zoomed = axes["science zoom"].images[0]
    rows, columns = slice(int(bottom + 0.5), int(top + 0.5)), slice(int(left + 0.5), int(right + 0.5))
    np.testing.assert_array_equal(zoomed.get_array(), image.data[rows, columns])
    assert zoomed.get_extent() == [left, right, bottom, top]
    assert axes["science"].patches[0].get_xy() == (left, bottom)
    assert axes["science"].images[0].get_array().shape == (600, 750)


def test_outlines_are_the_kron_apertures():
    catalog, background = make_catalogs(FLUX)
    catalog["kron_radius"][1] = np.nan  # measured in the circle
    catalog["a"][2] = catalog["b"][2] = 0.1 * u.arcsec  # 3 x 0.1 arcsec is below KRONCIRC
    catalog["x"][3] = np.nan * u.pix
    axes = named_axes(plots.catalog_figure(make_mosaic(), None, catalog, background))
    (outlines,) = axes["science"].collections
    keep = np.arange(12) != 3
    np.testing.assert_array_equal(outlines.get_offsets()[:, 0], catalog["x"].value[keep])
    # Full axes in pixels of 0.04 arcsec: 2 x 3 x 0.4, 2 x 3 x 0.2, and circles of 2 x 0.35; WCS rounding.
    np.testing.assert_allclose(outlines.get_widths()[:4], [60, 17.5, 17.5, 60], rtol=1e-6)
    np.testing.assert_allclose(outlines.get_heights()[:4], [30, 17.5, 17.5, 30], rtol=1e-6)
    np.testing.assert_allclose(outlines.get_angles()[:4], [30, 0, 0, 30], rtol=1e-14)  # by way of radians
    np.testing.assert_array_equal(outlines.get_edgecolor(), [(*to_rgb(plots.ORANGE), 1)])


@pytest.mark.parametrize("kind", [np.asarray, SegmentationImage])
def test_segments_are_outlined_along_pixel_edges(kind):
    labels = np.zeros((200, 300), int)
    labels[10, 20:22], labels[10, 22] = 1, 2
    figure = plots.catalog_figure(make_mosaic(), None, *make_catalogs(FLUX), segmentation=kind(labels))
    lines = named_axes(figure)["science"].collections[1].get_segments()
    # Around 3 pixels in a row: 3 sides above, 3 below, both ends, and one between the labels.
    assert len(lines) == 9
    assert [[21.5, 9.5], [21.5, 10.5]] in [line.tolist() for line in lines]
    assert np.min(lines, axis=(0, 1)).tolist() == [19.5, 9.5]
    assert np.max(lines, axis=(0, 1)).tolist() == [22.5, 10.5]


def test_crowded_mosaic_keeps_its_outlines_to_the_zoom(monkeypatch):
    monkeypatch.setattr(plots, "CROWDED", 5)
    axes = named_axes(plots.catalog_figure(make_mosaic(700, 700), None, *make_catalogs(FLUX)))
    assert not axes["science"].collections
    assert len(axes["science zoom"].collections[0].get_offsets()) == 12


def test_missing_planes_leave_their_panels_out():
    axes = named_axes(plots.catalog_figure(make_mosaic(background=False), None, *make_catalogs(FLUX)), draw=True)
    assert list(axes) == ["science", "full weight", "error", "ratio"]


@pytest.mark.parametrize("size", [(200, 300), (700, 900)])
def test_empty_catalog_gives_a_figure(size):
    catalog, background = make_catalogs([])
    axes = named_axes(plots.catalog_figure(make_mosaic(*size), None, catalog, background), draw=True)
    assert len(lines_of(axes["error"])["full weight"]) == 0
    assert len(lines_of(axes["ratio"])["sources"]) == 0


def test_image_without_data_gives_a_figure():
    image = make_mosaic()
    image.mask[:] = True
    axes = named_axes(plots.catalog_figure(image, np.zeros((50, 75)), *make_catalogs(FLUX)), draw=True)
    assert np.isnan(axes["science"].images[0].get_array().filled(np.nan)).all()


@pytest.mark.parametrize("step", [1, 3, 4, 7])
def test_block_mean_of_ragged_masked_image(step):
    rng = np.random.default_rng(1)
    data = rng.normal(size=(23, 31)).astype(np.float32)
    mask = rng.random(data.shape) < 0.3
    mask[:8, :8] = True
    data[5, 20] = np.nan
    means = block_mean(data, step, mask)
    hidden = np.ma.masked_array(data.astype(float), mask | np.isnan(data))
    for (i, j), mean in np.ndenumerate(means):
        block = hidden[i * step : (i + 1) * step, j * step : (j + 1) * step]
        # Sums of up to 49 doubles of order 1 in another order.
        np.testing.assert_allclose(mean, block.mean() if block.count() else np.nan, rtol=0, atol=1e-14)
    assert means.shape == (-(-23 // step), -(-31 // step))


def test_file_is_a_figure_of_the_promised_size(tmp_path):
    catalogs = make_catalogs(FLUX)
    path = plots.plot_catalog(tmp_path / "out.png", make_mosaic(), None, *catalogs)
    size = plots.catalog_figure(make_mosaic(), None, *catalogs).get_size_inches()
    assert imread(path).shape[:2] == (int(size[1] * 100), 1500)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert plots.plot_catalog(tmp_path / "out.pdf", make_mosaic(), None, *catalogs).read_bytes()[:5] == b"%PDF-"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.pdf", "out.png"]


def test_existing_file_is_kept_unless_overwritten(tmp_path):
    path = tmp_path / "out.png"
    path.write_text("mine")
    with pytest.raises(PhotplugError, match="already exists"):
        plots.plot_catalog(path, make_mosaic(), None, *make_catalogs(FLUX))
    assert path.read_text() == "mine"
    plots.plot_catalog(path, make_mosaic(), None, *make_catalogs(FLUX), overwrite=True)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_bad_input_is_told_and_leaves_no_file(tmp_path, monkeypatch):
    catalog, background = make_catalogs(FLUX)
    with pytest.raises(PhotplugError, match=r"out\.gif: the suffix must be one of \.png, \.pdf; rename it"):
        plots.plot_catalog(tmp_path / "out.gif", make_mosaic(), None, catalog)
    with pytest.raises(PhotplugError, match="catalogue without photons has 11 rows and the catalogue 12"):
        plots.plot_catalog(tmp_path / "out.png", make_mosaic(), None, catalog, background[1:])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PhotplugError, match=r'pip install "dja_photplug\[plot\]"'):
        plots.plot_catalog(tmp_path / "out.png", make_mosaic(), None, catalog)
    assert not list(tmp_path.iterdir())


def test_labels_do_not_overlap_on_a_real_mosaic(data):
    image = load_mosaic(uds_prefix(data), noise="calibrated")
    catalogs = make_catalogs(np.geomspace(0.01, 20, 12))
    figure = plots.catalog_figure(image, np.indices((205, 250))[0], *catalogs)
    axes = named_axes(figure, draw=True)
    renderer = figure.canvas.get_renderer()
    bars = [child for name in ("science", "full weight", "wht", "exposure") for child in axes[name].child_axes]
    assert len(bars) == 4
    for one in (*bars, axes["error"], axes["ratio"]):
        low, high = sorted(one.get_xlim())
        labels = (tick.label2 if tick.label2.get_visible() else tick.label1 for tick in one.xaxis.get_major_ticks())
        labels = [label for label in labels if low <= label.get_position()[0] <= high and label.get_text()]
        spans = sorted(label.get_window_extent(renderer).intervalx.tolist() for label in labels)
        assert len(spans) >= 3
        assert all(left[1] < right[0] for left, right in pairwise(spans)), [label.get_text() for label in labels]
    whole = figure.get_tightbbox(renderer)  # in inches; nothing may be cut off
    width, height = figure.get_size_inches()
    assert whole.x0 >= 0
    assert whole.y0 >= 0
    assert whole.x1 <= width
    assert whole.y1 <= height
