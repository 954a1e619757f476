"""Positions on the segments of others and beside their own: whose a segment is, and fluxes against truth."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.light.planes import Shapes
from dja_photplug.neighbours.hosts import find_hosts
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BandOptions, TileOptions
from dja_photplug.parallel.scratch import open_scratch
from dja_photplug.pipeline.steps import sharing
from dja_photplug.simulate.field import FieldOptions, SimulatedField, simulate_field, write_field
from tests.docs.test_docs import load_script


def segments(x: list[float], y: list[float], a: float = 3.0) -> Shapes:
    size, places = np.full(len(x), a), [np.array(axis, float) for axis in (x, y)]
    label = np.arange(1, len(x) + 1, dtype=np.int32)
    return Shapes(label=label, x=places[0], y=places[1], a=size, b=size, theta=0 * size)


def hosts(on: list[int], x: list[float], known: Shapes) -> list[list[int]]:
    """Positions on the row 50; pixels of 0.04 arcsec."""
    found = find_hosts(np.array(on, int), np.array(x, float), np.full(len(x), 50.0), known, 0.04)
    return [part.tolist() for part in found]


def test_a_segment_belongs_to_the_position_nearest_to_its_barycentre() -> None:
    known = segments([50.0], [50.0])
    assert hosts([1, 1, 0], [51.0, 58.0, 70.0], known) == [[1, 0, 0], [0, 1, 0]]
    # Twice the same position: both.
    assert hosts([1, 1, 1], [58.0, 51.0, 51.5], known) == [[0, 1, 1], [1, 0, 0]]


def test_a_position_far_from_the_barycentre_is_a_guest_also_where_it_is_alone() -> None:
    assert hosts([1], [58.0], segments([50.0], [50.0])) == [[0], [1]]
    # Within 1.5 rms of the light of a large galaxy it is its own centre, as others see it.
    assert hosts([1], [58.0], segments([50.0], [50.0], a=6.0)) == [[1], [0]]


def test_a_position_beside_a_segment_that_is_nobodys_is_its_source() -> None:
    known = segments([50.0, 80.0], [50.0, 50.0])
    # 0.2 arcsec are 5 pixels; the second segment has its source in the list.
    assert hosts([0, 2, 0], [54.0, 80.0, 84.0], known) == [[1, 2, 0], [0, 0, 0]]
    assert hosts([0, -1], [56.0, np.nan], known) == [[0, 0], [0, 0]]
    # Of two beside it the nearer one.
    assert hosts([0, 0], [54.0, 46.5], known) == [[0, 1], [0, 0]]


def test_without_segments_or_positions() -> None:
    assert hosts([0, -1], [3.0, np.nan], segments([], [])) == [[0, 0], [0, 0]]
    assert hosts([], [], segments([50.0], [50.0])) == [[], []]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory) -> tuple[SimulatedField, Path, dp.Result]:
    field = simulate_field(FieldOptions(density=1600, shape=(1000, 1000), seed=41))
    prefix = write_field(field, tmp_path_factory.mktemp("crowded"), "sim-v1")
    return field, prefix, dp.run([prefix])


def measure(field: SimulatedField, prefix: Path, x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[Table, ...]:
    """Return what is measured at positions in 0.5 arcsec, and (measured - own light)/error."""
    script = load_script("field_truth")
    ra, dec = field.wcs.wcs_pix2world(x, y, 0)
    table = dp.extend_catalog(Table({"ra": ra, "dec": dec}), [prefix])
    stamps = [field.own_light(row) for row in rows]
    places = [(i - window[1].start, j - window[0].start) for i, j, (window, _) in zip(x, y, stamps, strict=True)]
    own = [script.sum_ellipse(light, *place, 6.25, 6.25, 0) for place, (_, light) in zip(places, stamps, strict=True)]
    flux, error = (np.asarray(table[f"f444w_{name}_aper_1"]) for name in ("flux", "fluxerr"))
    return table, (flux - np.array(own) / 100) / error


def test_positions_on_segments_of_others_are_measured_without_their_light(crowded) -> None:
    field, prefix, result = crowded
    flux = field.sources["flux"].value
    rows = np.flatnonzero(flux > 0.02)
    x, y = (field.sources[axis].value[rows] for axis in "xy")
    labels = result.detection.segmentation[np.rint(y).astype(int).clip(0), np.rint(x).astype(int).clip(0)]
    brightest = np.zeros(labels.max() + 1)
    np.maximum.at(brightest, labels, flux[rows])
    guest = (labels > 0) & (flux[rows] < 0.3 * brightest[labels])
    table, pull = measure(field, prefix, x, y, rows)
    assert guest.sum() > 50
    # With all light in the segment as theirs it was 14 (+15).
    assert median_abs_deviation(pull[guest], scale="normal") < 1.2
    assert abs(np.median(pull[guest])) < 0.7
    assert np.mean(np.abs(pull[guest]) > 5) < 0.2
    assert np.mean((np.asarray(table["f444w_flag_aper_1"]) & SourceFlag.NEIGHBOUR_LIGHT)[guest] > 0) > 0.8
    alone, own = result.catalog, table[(labels > 0) & ~guest]
    # Those whose segments they are have what they have in a catalogue.
    assert abs(len(own) - len(alone)) < 0.1 * len(alone)


def test_positions_a_tenth_of_an_arcsec_off_do_not_lose_their_own_segment(crowded) -> None:
    field, prefix, result = crowded
    script = load_script("field_truth")
    rows = script.match(result.catalog, field)
    faint = (rows >= 0) & (field.sources["flux"].value[rows] < 0.1)
    rows, angle = rows[faint], np.random.default_rng(1).uniform(0, 2 * np.pi, faint.sum())
    x, y = (field.sources[axis].value[rows] + 2.5 * part(angle) for axis, part in (("x", np.cos), ("y", np.sin)))
    inside = (np.abs(x - 499.5) < 495) & (np.abs(y - 499.5) < 495)
    _, pull = measure(field, prefix, x[inside], y[inside], rows[inside])
    # With the light in their segments as a neighbour's it was 1.9 (-0.9).
    assert abs(np.median(pull)) < 0.3
    assert median_abs_deviation(pull, scale="normal") < 1.2


def test_guests_are_the_same_in_tiles_which_take_no_more_space_than_was_asked_for(crowded, monkeypatch) -> None:
    field, prefix, _ = crowded
    table = Table({name: field.sources[name] for name in ("ra", "dec")})[field.sources["flux"].value > 0.02]
    asked, taken = [], []

    @contextmanager
    def watch(directory, *, needed):
        with open_scratch(directory, needed=needed) as scratch:
            yield scratch
            asked.append(needed)
            taken.append(sum(plane.stat().st_size for plane in scratch.folder.iterdir()))

    monkeypatch.setattr(sharing, "open_scratch", watch)
    whole, tiled = (
        dp.extend_catalog(
            table, [prefix], Options(tiles=TileOptions(size=size, overlap=100), bands=BandOptions(workers=1))
        )
        for size in (2000, 400)
    )
    assert len(taken) == 1
    assert 0 < taken[0] <= asked[0]
    for name in ("flux_aper_1", "fluxerr_aper_1", "contam_1", "flux_auto"):
        np.testing.assert_allclose(tiled[f"f444w_{name}"], whole[f"f444w_{name}"], rtol=1e-5, atol=1e-6)
