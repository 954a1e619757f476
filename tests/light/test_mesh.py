"""The sky as cells of a mesh: sep's levels, windows of it, and its mean between sources."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from scipy.ndimage import gaussian_filter, maximum_filter

from dja_photplug.light import cells as cells_module
from dja_photplug.light.cells import _fill_cells, _find_modes, cell_size, measure_mesh, median_mesh
from dja_photplug.options.stages import BackgroundOptions
from tests.helpers import by_pickles, make_image


def clouds(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Sky with structure of 100 pixels across, and noise of 1."""
    rng = np.random.default_rng(seed)
    return (30 * gaussian_filter(rng.normal(size=shape), 30) + rng.normal(size=shape)).astype(np.float32)


def speckles(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(2).random(shape) < 0.2


def holes(shape: tuple[int, int]) -> np.ndarray:
    """A third of the pixels, in patches larger than cells."""
    field = gaussian_filter(np.random.default_rng(3).normal(size=shape), 30)
    return field > np.quantile(field, 0.67)


def corner(shape: tuple[int, int]) -> np.ndarray:
    """More than half of the image, beyond a diagonal, as at the edge of a real mosaic."""
    return np.add.outer(np.arange(shape[0]), np.arange(shape[1])) > 0.45 * sum(shape)


@pytest.mark.parametrize(
    ("mesh", "expected"),
    # Pixels of 0.04 arcsec; 1e308 arcsec are more of them than a number holds.
    [(2.0, (50, 50)), (0.1, (2, 2)), (2.8, (60, 70)), (3.2, (60, 80)), (4.0, (60, 90)), (1e308, (60, 90))],
)
def test_cells_are_no_larger_than_the_image(mesh: float, expected: tuple[int, int]) -> None:
    image = make_image(clouds((60, 90)))
    cells = cell_size(image, BackgroundOptions(mesh=mesh))
    assert cells == expected
    np.testing.assert_array_equal(np.shape(measure_mesh(image, cells, 3).draw()), (60, 90))


@pytest.mark.parametrize("shape", [(1, 50, 50), (9, 50, 50), (5, 67, 67), (4, 50, 51), (3, 1, 1), (7, 1, 2)])
def test_modes_of_cells_are_those_of_each_alone(shape) -> None:
    rng = np.random.default_rng(7)
    cells = (rng.normal(size=shape) + 5 * rng.normal(size=(shape[0], 1, 1))).astype(np.float32)
    speckled = rng.random(shape) < 0.3
    speckled[speckled.mean(axis=(1, 2)) > 0.5] = False
    for mask in (None, speckled):
        size = {"bw": shape[2], "bh": shape[1], "fw": 1, "fh": 1}
        alone = [sep.Background(cells[i], mask=None if mask is None else mask[i], **size) for i in range(shape[0])]
        np.testing.assert_array_equal(_find_modes(cells, mask), np.float32([one.globalback for one in alone]))


@pytest.mark.parametrize(
    ("shape", "cells", "size", "null"),
    [
        ((500, 600), (50, 50), 3, None),
        ((523, 617), (50, 50), 3, speckles),  # cells that the edge cuts off
        ((501, 649), (50, 50), 3, speckles),  # by one pixel, and all but one
        ((523, 617), (51, 47), 5, speckles),
        ((423, 417), (40, 40), 4, speckles),
        ((400, 400), (20, 21), 1, holes),
        ((640, 570), (20, 20), 3, holes),
        ((640, 570), (20, 20), 3, corner),
        ((90, 95), (2, 3), 3, speckles),
        ((151, 101), (50, 50), 3, speckles),
        ((100, 120), (50, 50), 3, None),
        ((60, 70), (50, 50), 3, speckles),  # 2 x 2 cells
        ((50, 120), (50, 50), 3, speckles),  # a row
        ((120, 50), (50, 50), 3, speckles),  # a column
        ((37, 41), (37, 41), 3, speckles),  # one cell
    ],
)
def test_mesh_by_cells_is_that_of_sep(shape, cells, size, null) -> None:
    data, out = clouds(shape), np.zeros(shape, bool) if null is None else null(shape)
    data[out] = np.nan
    (height, width), masked = cells, out & (np.arange(shape[1]) % 2 == 0)
    expected = sep.Background(data, mask=out, bw=width, bh=height, fw=size, fh=size).back(dtype=np.float32)
    # Null pixels and a mask are left out alike.
    image = make_image(data, np.where(out & ~masked, 0, 1))
    mesh = measure_mesh(image, cells, size, masked)
    level = mesh.draw()
    assert level.dtype == np.float32
    np.testing.assert_allclose(level, expected, rtol=1e-6, atol=1e-5 * expected.std())
    part, rows = np.empty((9, shape[1]), np.float32), slice(shape[0] // 2, shape[0] // 2 + 9)
    assert mesh[rows].draw(out=part) is part
    np.testing.assert_array_equal(part, level[rows])


def test_mesh_does_not_depend_on_the_pieces_of_its_work(monkeypatch) -> None:
    image = make_image(clouds((523, 617)), np.where(holes((523, 617)), 0, 1))
    whole = measure_mesh(image, (50, 50), 3)
    for cells in (1, 30):
        monkeypatch.setattr(cells_module, "CELLS_AT_A_TIME", cells)
        pieces = measure_mesh(image, (50, 50), 3, parallel=by_pickles)
        np.testing.assert_array_equal(pieces.nodes, whole.nodes)


def test_a_hole_in_a_mesh_takes_the_mean_of_all_that_are_as_near() -> None:
    levels = np.arange(81, dtype=np.float32).reshape(9, 9) ** 2
    empty = np.hypot(*(np.indices((9, 9)) - 4)) < 4
    filled = _fill_cells(np.where(empty, np.float32(np.nan), levels))
    near = [(0, 4), (4, 0), (8, 4), (4, 8)]
    assert filled[4, 4] == np.float32(np.mean([levels[place] for place in near]))
    ring = np.hypot(*(np.indices((13, 13)) - 6)).round(9) == 5  # 12 cells as near as each other
    levels = np.where(ring, np.random.default_rng(1).normal(size=(13, 13)), np.nan).astype(np.float32)
    assert _fill_cells(levels)[6, 6] == pytest.approx(levels[ring].mean(), rel=1e-5)
    assert (_fill_cells(np.full((3, 4), np.nan, np.float32)) == 0).all()  # as sep, where pixels but no cell are left


@pytest.mark.parametrize("shape", [(400, 530), (37, 41), (100, 100)])
@pytest.mark.parametrize("skew", [0.0, 2 / 3])
def test_the_sky_is_the_mean_between_sources(shape: tuple[int, int], skew: float) -> None:
    """On a sloping sky with a step of depth; also where the noise has a tail, as blocks of pixels have less of one."""
    rng = np.random.default_rng(1)
    rows, columns = np.indices(shape)
    variance = np.where(columns < shape[1] / 2, 1.0, 4.0).astype(np.float32)
    slope = (0.002 * columns - 0.001 * rows).astype(np.float32)
    unit = (rng.gamma(9.0, size=shape) - 9) / 3 if skew else rng.normal(size=shape)
    mask = maximum_filter(rng.random(shape) < 0.001, 13)
    data = (slope + np.sqrt(variance) * unit + np.where(mask, 100.0, 0.0)).astype(np.float32)
    data[3, 5] = np.nan
    image = make_image(data, 1 / variance)
    centred, number = median_mesh(image, tuple(min(50, n) for n in shape), 3, mask)
    sky = centred.draw()
    left = (sky - slope)[~mask].mean()
    assert sky.dtype == np.float32
    assert 0.4 * np.count_nonzero(~mask) < number < np.count_nonzero(~mask)
    # A median has a variance 1.57 times that of a mean; that of blocks of 49 pixels is a 42th of the skewness below it.
    assert abs(left) < 3 * np.sqrt(1.57 * variance.mean() / number) + skew / 42 + 0.005
    assert np.isfinite(sky).all()


@pytest.mark.parametrize("shape", [(400, 530), (330, 400), (1000, 750)])
def test_a_slope_is_followed_to_the_edges_and_beside_masks(shape: tuple[int, int]) -> None:
    """Where a window has blocks on one side of its middle alone their median is not the level there."""
    rows, columns = np.indices(shape)
    sky = (0.002 * columns - 0.001 * rows).astype(np.float32)
    mask = np.hypot(columns - 250, rows - 200) < 70
    data = (sky + np.where(mask, 100.0, 0.0) + np.random.default_rng(4).normal(0, 0.01, shape)).astype(np.float32)
    centred, _ = median_mesh(make_image(data, np.full(shape, 1e4, np.float32)), (50, 50), 3, mask)
    left = np.where(mask, 0, centred.draw() - sky)
    assert np.abs(left).max() < 0.06  # across a cell it is 0.1
    for edge in (left[:10], left[-10:], left[:, :10], left[:, -10:]):
        assert abs(edge.mean()) < 0.01


def test_cells_without_sky_take_that_of_the_next() -> None:
    data = np.full((150, 200), 2.0, np.float32) + np.random.default_rng(2).normal(0, 0.1, (150, 200)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[:60, :60] = True
    sky, number = median_mesh(make_image(data), (50, 50), 1, mask)
    np.testing.assert_allclose(sky.draw(), 2, atol=0.02)
    assert 0.8 * (~mask).sum() < number < (~mask).sum()
    assert median_mesh(make_image(data), (50, 50), 1, np.ones(data.shape, bool)) is None


@pytest.mark.parametrize("shape", [(200, 3), (3, 200), (120, 12)])
def test_the_sky_of_an_image_narrower_than_a_cell(shape: tuple[int, int]) -> None:
    """Each pixel is in one block."""
    data = np.random.default_rng(6).normal(2, 0.1, shape).astype(np.float32)
    cells = tuple(min(50, n) for n in shape)
    found = median_mesh(make_image(data), cells, 9, np.zeros(shape, bool))
    assert found is None or found[1] <= data.size
    assert found is None or np.abs(found[0].draw() - 2).max() < 0.05


def test_light_beside_masks_is_no_sky() -> None:
    """Blocks with a masked pixel are left out, those with some null ones are not."""
    rng = np.random.default_rng(3)
    data = rng.normal(0, 0.1, (400, 400)).astype(np.float32)
    spots = rng.random(data.shape) < 0.002
    mask = maximum_filter(spots, 11)
    data[maximum_filter(spots, 13)] += 1  # a rim of a pixel is left
    weight = np.where(rng.random(data.shape) < 0.1, 0, 100.0).astype(np.float32)
    sky, number = median_mesh(make_image(data, weight), (50, 50), 3, mask)
    assert number > 0.1 * data.size
    np.testing.assert_allclose(sky.draw(), 0, atol=0.02)


@pytest.mark.parametrize("shape", [(523, 617), (100, 100), (60, 70), (50, 120), (120, 50), (37, 41)])
def test_any_window_of_a_mesh_is_a_part_of_the_whole(shape) -> None:
    """Also a window of a window."""
    image = make_image(clouds(shape))
    cells = tuple(min(50, n) for n in shape)
    mesh = measure_mesh(image, cells, 3)
    level, rng = mesh.draw(), np.random.default_rng(5)
    for _ in range(30):
        (y0, y1), (x0, x1) = (np.sort(rng.choice(n + 1, 2, replace=False)).tolist() for n in shape)
        part = mesh[y0:y1, x0:x1]
        assert part.shape == (y1 - y0, x1 - x0)
        np.testing.assert_allclose(part.draw(), level[y0:y1, x0:x1], rtol=1e-6, atol=1e-6 * np.ptp(level))
        inner = part[: (y1 - y0 + 1) // 2, (x1 - x0) // 3 :]
        expected = level[y0:y1, x0:x1][: (y1 - y0 + 1) // 2, (x1 - x0) // 3 :]
        np.testing.assert_allclose(inner.draw(), expected, rtol=1e-6, atol=1e-6 * np.ptp(level))
