"""Islands of segments, and tiles of an image."""

from __future__ import annotations

import numpy as np
import pytest

from dja_photplug.parallel.islands import Islands, find_boxes
from dja_photplug.parallel.tiles import cut_tiles, find_tiles, join_boxes, make_window, widen

LABELS = np.zeros((12, 20), np.int32)
LABELS[2:4, 2:5] = 1
LABELS[4, 5] = 2  # touches 1 by a corner
LABELS[6:9, 10:12] = 4
LABELS[8:11, 12] = 5  # touches 4
LABELS[11, 19] = 6
LABELS[9:11, 0], LABELS[8:10, 19] = 7, 8  # the pixels after the end of a row are those of the next one

EDGES = [[9, 0, 11, 1], [8, 19, 10, 20]]


def test_islands_are_of_segments_that_touch() -> None:
    islands = Islands.of(LABELS)
    number = islands.number
    assert number[1] == number[2]
    assert number[4] == number[5]
    assert len({number[1], number[4], number[6], number[7], number[8]}) == 5
    assert find_boxes(LABELS).tolist()[4:] == [[6, 10, 9, 12], [8, 12, 11, 13], [11, 19, 12, 20], *EDGES]
    assert find_boxes(LABELS)[[0, 3]].tolist() == [[0] * 4] * 2
    assert np.flatnonzero(islands.reach_beyond(make_window((0, 0), (10, 19)))).tolist() == [4, 5, 6, 7, 8]
    assert np.flatnonzero(islands.reach_into(make_window((4, 5), (9, 11)))).tolist() == [1, 2, 4, 5]
    assert np.flatnonzero(islands.hold(np.array([[10, 12], [0, 0]]))).tolist() == [4, 5]


def test_samples_and_brightest_pixels() -> None:
    islands = Islands.of(LABELS)
    box, pixel = islands.sample(islands.reach_into(make_window((10, 11), (12, 20))), make_window((10, 11), (12, 20)))
    assert box.tolist() == [[6, 10, 11, 13], [11, 19, 12, 20]]
    assert pixel.tolist() == [[10, 12], [11, 19]]
    values = np.zeros(LABELS.shape, np.float32)
    values[3, 4] = 5
    values[9:11, 12] = 2  # of equals the first
    peak = islands.brightest(values.ravel()[islands.members])
    assert peak[[1, 5, 4, 3]].tolist() == [[3, 4], [9, 12], [6, 10], [-1, -1]]


def test_runs_paint_segments_where_they_are_on_a_larger_image() -> None:
    runs = Islands.of(LABELS).runs(np.array([3, 5]), 40)
    assert runs.length.sum() == np.count_nonzero(LABELS)
    assert runs.owner.tolist()[-3:] == [7, 5, 6]  # by row, and the pixel after the end of one is of another run
    painted = np.zeros((20, 40), np.int32)
    number = np.arange(9, dtype=np.int32)
    number[4] = -1
    runs.rename(number).paint(painted, 10 * np.arange(9, dtype=np.int32))
    assert painted[3:15, 5:25].tolist() == np.where(LABELS == 4, 0, 10 * LABELS).tolist()
    assert painted.sum() == painted[3:15, 5:25].sum()


def test_no_segment_makes_no_island() -> None:
    islands = Islands.of(np.zeros((5, 6), np.int32))
    assert not islands.reach_beyond(make_window((1, 1), (2, 2))).any()
    assert islands.brightest(np.empty(0, np.float32)).tolist() == [[-1, -1]]
    assert not len(islands.runs(np.zeros(2, np.intp), 9).start)


@pytest.mark.parametrize(("size", "count"), [(100, 1), (50, 2), (30, 8), (7, 112)])
def test_tiles_share_an_image_out(size: int, count: int) -> None:
    shape = (50, 96)
    tiles = cut_tiles(shape, size, 5)
    assert len(tiles) == count
    owned = np.zeros(shape, int)
    for tile in tiles:
        owned[tile.core] += 1
        assert max(part.stop - part.start for part in tile.core) <= size
        assert tile.window == widen(tile.core, 5, shape)
    assert (owned == 1).all()
    y, x = np.random.default_rng(1).uniform(-0.5, np.array(shape)[:, None] - 0.5, (2, 200))
    for i, px, py in zip(find_tiles(tiles, x, y), np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        rows, columns = tiles[i].core
        assert rows.start <= py < rows.stop
        assert columns.start <= px < columns.stop
    assert find_tiles(tiles, np.array([-9.0, 999, np.nan]), np.array([-9.0, 999, 3])).tolist() == [0, count - 1, 0]


def test_boxes_that_overlap_are_one_group() -> None:
    boxes = np.array([[0, 0, 4, 4], [3, 3, 6, 6], [5, 5, 9, 9], [0, 10, 2, 12], [2, 10, 3, 12]])
    assert [group.tolist() for group in join_boxes(boxes)] == [[0, 1, 2], [3], [4]]
    assert join_boxes(np.empty((0, 4), int)) == []
