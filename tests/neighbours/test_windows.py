"""Windowed positions: against the true ones, against sep's, and where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sep
from astropy import units as u
from scipy.spatial import KDTree
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.mosaic.blocks import Planes
from dja_photplug.neighbours.windows import Windows, find_windowed
from dja_photplug.pipeline.one_band import remeasure
from dja_photplug.simulate.field import FieldOptions, SimulatedField, simulate_field, write_field
from tests.helpers import expect_error, gaussian, make_image

SIGMA = 1.6  # pixels


def find(data: np.ndarray, labels: np.ndarray, x: np.ndarray, y: np.ndarray, **more: float) -> tuple[np.ndarray, ...]:
    n = len(x)
    windows = Windows(
        label=np.arange(1, n + 1, dtype=np.int32), x=x, y=y, sigma=np.full(n, more.pop("sigma", SIGMA)).astype(float)
    )
    planes = Planes.of(make_image(data))
    return find_windowed(data.astype(np.float32), planes, labels.astype(np.int32), windows)


def scatter_sources(rng: np.random.Generator, wide: float = 2.0) -> tuple[np.ndarray, ...]:
    """49 Gaussians a bit off the pixels' centres, elongated along x, their segments, and true positions."""
    y, x = (axis.ravel() + rng.uniform(-0.5, 0.5, 49) for axis in np.mgrid[20:160:20, 20:160:20])
    rows, columns = np.indices((161, 161))
    data, labels = np.zeros((161, 161)), np.zeros((161, 161), np.int32)
    for i, (px, py) in enumerate(zip(x, y, strict=True), start=1):
        light = np.exp(-0.5 * (((columns - px) / wide) ** 2 + ((rows - py) / 1.6) ** 2))
        data += 100 * light
        labels[light > 0.05] = i
    return data, labels, x, y


@pytest.mark.parametrize("sigma", [0.8, 1.6, 3.0])
def test_symmetric_sources_are_found_where_they_are(sigma: float) -> None:
    """From a pixel away; windows of any size see a symmetric source at its centre."""
    data, labels, x, y = scatter_sources(np.random.default_rng(1))
    begin = np.random.default_rng(2).uniform(-0.7, 0.7, (2, 49))
    found = find(data, labels, x + begin[0], y + begin[1], sigma=sigma)
    assert found[2].all()
    # A window of 0.8 pixels samples the Gaussian within it on too few of them.
    np.testing.assert_allclose(found[:2], [x, y], atol=0.02 if sigma < 1 else 0.002)


def test_positions_are_those_of_sep() -> None:
    """On noise, by the other implementation, which samples the rim of the window and stops at another step."""
    rng = np.random.default_rng(3)
    data, labels, x, y = scatter_sources(rng)
    data = (data + rng.normal(0, 3, data.shape)).astype(np.float32)
    theirs_x, theirs_y, _ = sep.winpos(data, x, y, np.full(49, SIGMA))
    ours_x, ours_y, found = find(data, labels, x, y)
    assert found.all()
    # They follow the noise by 0.05 pixels.
    assert np.hypot(ours_x - x, ours_y - y).mean() > 0.03
    np.testing.assert_allclose([ours_x, ours_y], [theirs_x, theirs_y], atol=0.004)


def test_a_neighbour_and_pixels_without_data_do_not_count() -> None:
    """The bright segment of another in the window, and a dead row: as a Gaussian has it without these pixels."""
    alone = gaussian((41, 41), 20.2, 19.7, SIGMA, 1000.0)
    labels = np.where(alone > 5, 1, 0)
    labels[:, 23:] = 2
    beside = np.where(labels == 2, 5000.0, alone)
    dead = beside.copy()
    dead[17] = np.nan
    x, y = np.array([20.6]), np.array([19.4])
    for image in (beside, dead):
        [px], [py], [found] = find(image, labels, x, y)
        assert found
        assert np.hypot(px - 20.2, py - 19.7) < 0.003
    [px], _, [found] = find(beside, np.ones_like(labels), x, y)
    assert not found or px > 21


def test_sources_that_are_lost_stay_where_they_were() -> None:
    """A window that climbs away, one without light, one off the image, and one that comes to rest on the sky."""
    data, labels = gaussian((60, 60), 30.0, 30.0, 6.0, 1e4), np.zeros((60, 60), np.int32)
    labels[25:36, 18:24] = 1
    labels[5:8, 5:8] = 2
    labels[:4, 56:] = 3
    labels[29:32, 33:36] = 4  # what is brightest lies beside it
    x, y = np.array([20.0, 6.0, 58.0, 34.0]), np.array([30.0, 6.0, 1.0, 30.0])
    data[:12, :12] = -1
    data[:8, 52:] = 0
    found = find(data, labels, x, y, sigma=3.0)
    assert not found[2].any()
    np.testing.assert_array_equal(found[:2], [x, y])


@pytest.mark.parametrize("turned", [False, True])
def test_a_source_that_the_edge_cuts_is_not_found_off_the_image(turned: bool) -> None:
    """Its centre lies 2 pixels beyond the edge, where all of the light that is seen points to."""
    data = gaussian((41, 41), -2.0, 20.0, SIGMA, 1000.0)
    labels, x, y = np.where(data > 1, 1, 0), np.array([0.6]), np.array([20.0])
    if turned:
        data, labels, x, y = data.T.copy(), labels.T.copy(), y, x
    found = find(data, labels, x, y)
    assert not found[2].any()
    np.testing.assert_array_equal(found[:2], [x, y])


def test_the_rows_at_hand_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    data, labels, x, y = scatter_sources(rng)
    data = (data + rng.normal(0, 3, data.shape)).astype(np.float32)
    planes, use = Planes.of(make_image(data)), (y > 60) & (y < 100)
    windows = Windows(label=np.arange(1, 50, dtype=np.int32), x=x, y=y, sigma=np.full(49, SIGMA))
    whole = find_windowed(data, planes, labels, windows)
    rows = slice(47, 113)
    part = find_windowed(data[rows], planes[rows], labels[rows], windows[use], rows.start)
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_array_equal(one, other[use])


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedField, str]:
    field = simulate_field(FieldOptions(seed=11))
    return field, str(write_field(field, tmp_path_factory.mktemp("field"), "sim-v1"))


def offsets(catalog: dp.Result | object, field: SimulatedField, names: tuple[str, str]) -> dict[str, np.ndarray]:
    """Distances along both axes to the brightest true source within 0.3 arcsec, by flux."""
    places = np.column_stack([catalog[name].value for name in names])
    true = np.column_stack([field.sources[name].value for name in "xy"])
    flux = field.sources["flux"].value
    near = KDTree(true).query_ball_point(places, 7.5)
    rows = np.array([max(each, key=lambda i: flux[i]) if each else -1 for each in near])
    away = (places - true[rows])[rows >= 0]
    own = flux[rows[rows >= 0]]
    return {"faint": away[own < 0.1], "mid": away[(own > 0.1) & (own < 1)], "bright": away[own > 1]}


def test_positions_of_a_field_are_nearer_to_the_truth(field) -> None:
    """Scatter in pixels; docs/errors.md has it of ten other fields."""
    simulated, prefix = field
    catalog = dp.run([prefix]).catalog
    windowed, isophotal = (offsets(catalog, simulated, names) for names in (("x", "y"), ("x_iso", "y_iso")))
    scatter = {
        kind: [median_abs_deviation(each[kind].ravel(), scale="normal") for each in (windowed, isophotal)]
        for kind in windowed
    }
    assert scatter["bright"][0] < 0.5 * scatter["bright"][1]
    assert scatter["mid"][0] < 0.75 * scatter["mid"][1]
    assert scatter["faint"][0] < scatter["faint"][1]
    lost = (catalog["flag"] & dp.SourceFlag.NOT_WINDOWED) > 0
    assert lost.mean() < 0.05
    np.testing.assert_array_equal(catalog["x"][lost], catalog["x_iso"][lost])


def test_the_choice_is_obeyed_and_recorded(field) -> None:
    """The preset says where sources are, unless it is chosen; sky positions follow, and all is measured there."""
    _, prefix = field
    default = dp.run([prefix])
    plain = dp.run([prefix], dp.Options(measure=dp.MeasureOptions(positions="isophotal")))
    published = dp.run([prefix], dp.Options(variance=dp.VarianceOptions(noise="dja")))
    for result, name in ((default, "windowed"), (plain, "isophotal"), (published, "isophotal")):
        assert f'"positions": "{name}"' in result.catalog.meta["OPTIONS"]
        assert ("x_iso" in result.catalog.colnames) == (name == "windowed")
    catalog, moved = default.catalog, default.catalog["x"] != default.catalog["x_iso"]
    assert moved.mean() > 0.95
    np.testing.assert_array_equal(plain.catalog["x"], catalog["x_iso"])
    x, y = default.image.wcs.world_to_pixel_values(catalog["ra"], catalog["dec"])
    np.testing.assert_allclose([x, y], [catalog["x"].value, catalog["y"].value], atol=1e-6)
    again = remeasure(default, default.image)
    np.testing.assert_array_equal(again["flux_aper_0"], catalog["flux_aper_0"])
    assert (plain.catalog["flux_aper_0"] != catalog["flux_aper_0"])[moved].mean() > 0.95


def test_positions_that_are_given_stay_as_they_are(field) -> None:
    """In `extend`, with options that ask for others, on segments that are found or given."""
    _, prefix = field
    measure = dp.MeasureOptions(positions="isophotal", neighbours="mask")
    catalog = dp.run([prefix], dp.Options(measure=measure)).catalog
    options = dp.Options(measure=replace(measure, positions="windowed"))
    forced = dp.extend_catalog(catalog["id", "ra", "dec"], [prefix], options)
    [name] = [name for name in forced.colnames if name.endswith("_flux_aper_0")]
    # Positions on the sky hold 1e-6 of a pixel.
    np.testing.assert_allclose(forced[name].to_value(u.uJy), catalog["flux_aper_0"].value, rtol=1e-4)
    assert '"positions": "auto"' in forced.meta["BAND_0"].replace("\\", "")


def test_larger_windows_are_an_option(field) -> None:
    _, prefix = field
    tables = [dp.run([prefix], dp.Options(measure=dp.MeasureOptions(window=s))).catalog for s in (0.06, 0.12)]
    apart = np.hypot(*(tables[0][axis].value - tables[1][axis].value for axis in "xy"))
    assert np.median(apart) > 0.02


def test_extending_a_catalogue_refuses_to_move_its_positions(field, tmp_path, capsys) -> None:
    _, prefix = field
    catalog = dp.run([prefix]).catalog["id", "ra", "dec"]
    catalog.write(tmp_path / "cat.ecsv")
    command = f"extend {tmp_path / 'cat.ecsv'} {prefix} --positions windowed -o {tmp_path / 'out.ecsv'}"
    expect_error(capsys, command, "option positions: extend measures at the positions of the catalogue")
