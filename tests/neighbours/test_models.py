"""The light of neighbours: masks and shapes of segments, wings against truth, and what is put in masked pixels."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.table import QTable
from photutils.aperture import CircularAperture
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.engines.photutils_engine import PHOTUTILS
from dja_photplug.engines.sep_engine import SEP
from dja_photplug.errors import PhotplugError
from dja_photplug.light import planes as planes_module
from dja_photplug.light.planes import Shapes, mask_sources, weigh_segments
from dja_photplug.mosaic.blocks import Planes, null_pixels
from dja_photplug.neighbours import models as module
from dja_photplug.neighbours.models import NeighbourLight, Neighbours, find_neighbours
from dja_photplug.neighbours.own_light import sum_opposite, sum_own_light
from dja_photplug.neighbours.profiles import Profiles
from dja_photplug.neighbours.stamps import HALVES, batch_stamps, cut_stamps
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BackgroundOptions, MeasureOptions
from dja_photplug.parallel.workers import Map
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from dja_photplug.sources.empty import calibrate_with
from dja_photplug.sources.photometry import measure_with
from dja_photplug.sources.removal import remove_sky
from tests.docs.test_docs import load_script
from tests.helpers import AS_IS, DJA, SCALE, gaussian, make_detection, make_image, uds_prefix
from tests.light.shared_planes import share_plane

ENGINES = {"sep": SEP, "photutils": PHOTUTILS}
APERTURES = (0.4, 0.8)
DETECT = dp.BandOptions(detect="f444w")


def moffat(shape: tuple[int, int], x: float, y: float, flux: float, core: float = 3.0, beta: float = 2.5) -> np.ndarray:
    rows, columns = np.indices(shape)
    square = (columns - x) ** 2 + (rows - y) ** 2
    return flux * (beta - 1) / (np.pi * core**2) * (1 + square / core**2) ** -beta


def pair(apart: float = 16.0, faint: float = 300.0, bright: float = 100_000.0, seed: int = 1) -> dict[str, np.ndarray]:
    """A faint source in the wing of a bright one: planes of the light of each, of both with noise, and their segments.

    A pixel is the segment of the source that is brighter there, above 1.5 sigma, as a deblended detection has it.
    """
    shape = (141, 141)
    lights = [moffat(shape, 70.2, 69.7, bright), moffat(shape, 70.2 + apart, 69.7, faint, core=2.0)]
    total = lights[0] + lights[1]
    segmentation = np.where(total > 1.5, 1 + (lights[1] > lights[0]), 0).astype(np.int32)
    data = total + np.random.default_rng(seed).normal(size=shape)
    return {"bright": lights[0], "faint": lights[1], "data": data, "segmentation": segmentation}


def subtract(data: np.ndarray, segmentation: np.ndarray, null: np.ndarray | None = None) -> Neighbours:
    """Take off what sources add to all others, wherever they are, with noise of 1."""
    null = np.zeros(data.shape, bool) if null is None else null
    data = data.astype(np.float32)
    planes = Planes(data, np.where(null, 0, 1).astype(np.float32), None, None)
    targets, *_ = weigh_segments(data, planes, segmentation)
    # A position on the sky, so that a source alone has one near.
    targets = replace(
        targets, **{name: np.append(getattr(targets, name), 60.0) for name in ("x", "y", "a", "b", "theta")}
    )
    targets = replace(targets, label=np.append(targets.label, 0))
    extent = np.full(len(targets.x), 20.0)
    return find_neighbours(np.where(null, np.float32(np.nan), data), planes, segmentation, targets, extent).draw()


def crowd() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forty sources of five magnitudes, with noise of 1: pixels, weight with a strip without data, and segments."""
    shape, rng = (700, 100), np.random.default_rng(8)
    flux = 10 ** rng.uniform(2.5, 4.8, 40)
    lights = np.array([moffat(shape, rng.uniform(0, 100), rng.uniform(0, 700), one, core=2.0) for one in flux])
    total = lights.sum(axis=0)
    segmentation = np.where(total > 1.5, 1 + np.argmax(lights, axis=0), 0).astype(np.int32)
    weight = np.ones(shape, np.float32)
    weight[300:304] = 0
    data = np.where(weight > 0, total + rng.normal(size=shape), np.nan)
    return data.astype(np.float32), weight, segmentation


def model(planes: Iterable[np.ndarray], **how) -> NeighbourLight:
    data, weight, segmentation = planes
    known = Planes(data, weight, None, None)
    targets, *_ = weigh_segments(data, known, segmentation)
    return find_neighbours(data, known, segmentation, targets, np.full(len(targets.x), 15.0), **how)


def measure(engine: str, image, detection, **options) -> QTable:
    options = {"apertures": APERTURES} | options
    return measure_with(ENGINES[engine], image, detection, None, Options(measure=replace(AS_IS, **options)))


# --- segments


def test_shapes_of_segments() -> None:
    shape = (90, 120)
    light = gaussian(shape, 30.3, 40.6, (8, 4), 100.0)
    segmentation = np.zeros(shape, np.int32)
    segmentation[light > 1e-4] = 7
    segmentation[60:63, 80:90] = 2
    null = np.zeros(shape, bool)
    null[60] = True
    planes = Planes(light, np.where(null, 0, 1), None, None)
    shapes, npix, _, _ = weigh_segments(light, planes, segmentation)
    assert shapes.label.tolist() == [2, 7]
    assert npix.tolist() == [30, np.count_nonzero(segmentation == 7)]
    assert (shapes.x[1], shapes.y[1]) == (pytest.approx(30.3, abs=5e-3), pytest.approx(40.6, abs=5e-3))
    # The truncation takes 1e-4 of the light.
    assert (shapes.a[1], shapes.b[1]) == (pytest.approx(8, rel=2e-3), pytest.approx(4, rel=4e-3))
    assert shapes.theta[1] == pytest.approx(0, abs=1e-6)


def test_a_dark_segment_has_the_shape_of_its_pixels() -> None:
    segmentation = np.zeros((40, 40), np.int32)
    segmentation[10:15, 20:24] = 1
    light = np.full((40, 40), -1.0)
    shapes, *_ = weigh_segments(light, Planes(light, np.ones((40, 40)), None, None), segmentation)
    assert (shapes.x[0], shapes.y[0]) == (21.5, 12)
    # 5 pixels have a variance of 2, and 1/12 of their own.
    assert shapes.a[0] == pytest.approx(np.sqrt(2 + 1 / 12))
    assert abs(shapes.theta[0]) == pytest.approx(np.pi / 2)


def test_the_mask_of_sources_is_their_ellipse_and_all_of_their_segments() -> None:
    shape = (200, 200)
    segmentation = np.zeros(shape, np.int32)
    segmentation[(gaussian(shape, 90, 110, (20, 10)) > np.exp(-0.5))] = 3
    mask, note = mask_sources(make_image(np.ones(shape)), segmentation, SCALE)
    assert mask[segmentation > 0].all()
    assert note == ""
    radius = 2.5 * np.sqrt(np.count_nonzero(segmentation) / np.pi) + 0.3 / SCALE
    assert np.count_nonzero(mask) == pytest.approx(np.pi * radius**2, rel=0.01)
    rows, columns = np.nonzero(mask)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2, rel=0.05)


def test_the_mask_is_never_flatter_than_it_may() -> None:
    segmentation = np.zeros((100, 200), np.int32)
    segmentation[50, 60:140] = 1
    mask, _ = mask_sources(make_image(np.ones((100, 200))), segmentation, SCALE)
    radius = 2.5 * np.sqrt(80 / np.pi) + 0.3 / SCALE
    assert np.ptp(np.nonzero(mask[:, 100])[0]) == pytest.approx(2 * radius * np.sqrt(0.3), abs=1.5)


@pytest.mark.parametrize(("half", "growth"), [(10, 2.5), (22, 1.8), (28, 1.0), (49, 1.0)])
def test_where_sources_leave_no_sky_the_mask_is_narrower(half: int, growth: float) -> None:
    """A galaxy in the middle of 100 x 100 pixels, up to one that is nearly as large; the catalogue says it."""
    segmentation = np.zeros((100, 100), np.int32)
    segmentation[50 - half : 50 + half, 50 - half : 50 + half] = 1
    mask, note = mask_sources(make_image(np.ones((100, 100))), segmentation, SCALE)
    margin = {2.5: 0.3, 1.8: 0.2, 1.0: 0.0}[growth]
    radius = growth * 2 * half / np.sqrt(np.pi) + margin / SCALE
    assert np.count_nonzero(mask) == pytest.approx(max(np.pi * radius**2, (2 * half) ** 2), rel=0.1)
    said = f"sources leave too little sky for a mask wider than {growth:g} times their radius"
    assert note == ("" if growth == 2.5 else said)


def test_a_galaxy_as_large_as_the_image() -> None:
    """No pixel is sky: none is taken off, and the catalogue says so."""
    segmentation = np.ones((60, 60), np.int32)
    image = make_image(gaussian((60, 60), 30, 30, 15, 50.0))
    detection = make_detection((60, 60), segmentation, x=[30.0], y=[30.0], a=[15.0], b=[15.0])
    for engine in ENGINES:
        whole, plain = (
            measure(engine, image, detection, background=sky, neighbours="subtract") for sky in ("mesh", "none")
        )
        assert whole.meta["SKYNOTE"] == "no pixel is left between the sources: no sky is taken off"
        assert whole["flux_aper_1"][0] == plain["flux_aper_1"][0]
        assert whole["bkg_aper_1"][0] == 0
        assert "SKYNOTE" not in plain.meta


def test_a_mesh_wider_than_the_image_is_told() -> None:
    image = make_image(np.random.default_rng(1).normal(size=(60, 80)))
    for mesh, said in ((2.4, ""), (2.6, "the image is smaller than a cell of its sky, 2.6 arcsec")):
        options = Options(measure=MeasureOptions(background="mesh"), background=BackgroundOptions(mesh=mesh))
        assert remove_sky(image, np.zeros((60, 80), np.int32), options).sky.note == said


def test_sky_in_pixels_that_are_no_blocks_is_told() -> None:
    """Stripes of pixels between sources: their mode is taken off, which is no median of blocks."""
    data = np.random.default_rng(1).normal(2, 0.1, (120, 120))
    covered = np.zeros(data.shape, bool)
    covered[::4] = True
    options, segmentation = Options(measure=MeasureOptions(background="mesh")), np.zeros(data.shape, np.int32)
    sky = remove_sky(make_image(data), segmentation, options, (covered, "")).sky
    assert sky.note == "too few blocks of pixels are clear of sources: the sky is the mode of what is left"
    assert sky.mesh is not None
    np.testing.assert_allclose(sky.mesh.draw(), 2, atol=0.05)
    assert not remove_sky(make_image(data), segmentation, options, (covered & False, "")).sky.note


# --- wings


def test_wings_of_a_bright_source_are_its_own() -> None:
    """What is taken off the sky around a bright source is its light there; nothing is where there is none."""
    scene = pair(faint=0.0)
    data, neighbours = scene["data"], subtract(scene["data"], scene["segmentation"])
    assert neighbours.profiles.owners.label.tolist() == [1]
    assert not neighbours.wings[scene["segmentation"] == 1].any()
    rows, columns = np.indices(data.shape)
    radius = np.hypot(columns - 70.2, rows - 69.7)
    edge = radius[scene["segmentation"] == 1].max()
    near = (radius > edge) & (radius < 1.5 * edge)
    assert neighbours.wings[near].sum() == pytest.approx(scene["bright"][near].sum(), rel=0.1)
    np.testing.assert_allclose(neighbours.clear + neighbours.wings, data, rtol=2e-7, atol=1e-5)


def test_the_wing_of_a_huge_galaxy_is_taken_off_as_far_as_it_reaches() -> None:
    """Segments may have a radius of 6 arcsec, and light at 14 that is as bright as the sources there."""
    shape, middle = (741, 741), 370.0
    light = moffat(shape, middle, middle, 2e6, core=20.0, beta=1.5)
    data = light + np.random.default_rng(1).normal(size=shape)
    neighbours = subtract(data, (light > 1.5).astype(np.int32))
    rows, columns = np.indices(shape)
    radius = np.hypot(columns - middle, rows - middle)
    assert radius[light > 1.5].max() * SCALE == pytest.approx(6.5, abs=0.1)
    # In the last ring 0.2 of the noise of a pixel, which is 5 times that of an aperture of 1 arcsec.
    for inner in np.array([7.0, 8, 9, 10, 11, 12]) / SCALE:
        ring = (radius > inner) & (radius < inner + 1 / SCALE)
        assert neighbours.wings[ring].mean() == pytest.approx(light[ring].mean(), rel=0.1)


def test_own_wings_are_put_back_whole() -> None:
    """The sum over an aperture that is clear of others is the same with and without subtraction."""
    scene = pair(faint=0.0)
    image = make_image(scene["data"])
    detection = make_detection(image.data.shape, scene["segmentation"], x=[70.2], y=[69.7], a=[8.0], b=[8.0])
    for engine in ENGINES:
        kept, subtracted = (
            measure(engine, image, detection, neighbours=how, apertures=(1.0, 2.4)) for how in ("keep", "subtract")
        )
        for name in ("flux_aper_0", "flux_aper_1", "flux_auto", "fluxerr_aper_1", "kron_radius", "flux_radius"):
            np.testing.assert_allclose(
                np.asarray(subtracted[name]), np.asarray(kept[name]), rtol=2e-5, err_msg=f"{engine} {name}"
            )
        assert abs(subtracted["contam_1"][0]) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_a_faint_source_in_a_bright_wing(engine: str) -> None:
    """Twenty draws of the noise: the flux is that of the source alone, and the error covers what is left."""
    pulls, biases, masked = [], [], []
    for seed in range(20):
        scene = pair(seed=seed)
        image = make_image(scene["data"])
        detection = make_detection(image.data.shape, scene["segmentation"], x=[70.2, 86.2], y=[69.7, 69.7])
        own = 0.01 * sep.sum_circle(scene["faint"], [86.2], [69.7], 5.0, subpix=0)[0][0]
        rows = {how: measure(engine, image, detection, neighbours=how)[1] for how in ("mask", "subtract")}
        flux, error = (rows["subtract"][name].value for name in ("flux_aper_0", "fluxerr_aper_0"))
        pulls.append((flux - own) / error)
        biases.append(flux / own - 1)
        masked.append(rows["mask"]["flux_aper_0"].value / own - 1)
    assert np.median(masked) > 0.15
    assert abs(np.median(biases)) < 0.07
    assert np.sqrt(np.mean(np.square(pulls))) < 1.2
    assert rows["subtract"]["contam_0"] > 0.1
    assert rows["subtract"]["flag_aper_0"] & SourceFlag.NEIGHBOUR_LIGHT


def test_own_light_in_the_segment_of_a_neighbour_is_modelled() -> None:
    """A bright source whose aperture reaches into a neighbour: its own light stands there, not the neighbour's."""
    scene = pair(apart=12.0, faint=3000.0, bright=30_000.0)
    image = make_image(scene["data"])
    detection = make_detection(image.data.shape, scene["segmentation"], x=[70.2, 82.2], y=[69.7, 69.7])
    own = 0.01 * sep.sum_circle(scene["bright"], [70.2], [69.7], 15.0, subpix=0)[0][0]
    flux = {
        how: measure("sep", image, detection, neighbours=how, apertures=(1.2,))["flux_aper_0"][0].value
        for how in ("keep", "mask", "subtract")
    }
    assert flux["keep"] / own > 1.05
    assert flux["mask"] == pytest.approx(own, rel=0.02)
    assert flux["subtract"] == pytest.approx(own, rel=0.02)


def test_own_light_is_what_was_taken_off() -> None:
    """Summed source by source in one aperture it is the sum over the plane of all, by exact overlap."""
    scene = pair(faint=3000.0)
    neighbours = subtract(scene["data"], scene["segmentation"])
    assert neighbours.profiles.owners.label.tolist() == [1, 2]
    here = replace(neighbours.profiles.owners, x=np.full(2, 72.4), y=np.full(2, 70.1))
    ellipse = np.full(2, 20.3), np.full(2, 15.2), np.full(2, 0.4)
    own = sum_own_light(
        neighbours, scene["segmentation"], np.zeros(scene["segmentation"].shape, bool), here, {"auto": ellipse}
    )["auto"]
    assert (own.sky > 0).all()
    assert (own.taken > 0).all()
    where = [[value[0]] for value in (here.x, here.y, *ellipse)]
    whole = sep.sum_ellipse(neighbours.wings, *where, 1.0, subpix=0)[0][0]
    assert (own.sky + own.taken).sum() == pytest.approx(whole, rel=1e-5)


def test_the_first_of_two_times_takes_every_other_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes of it is what all rows give: within 2 % of the light in a segment, or the noise of a pixel."""
    _, _, segmentation = planes = crowd()
    found = []
    for thin in (module.THIN, 10**6):
        monkeypatch.setattr(module, "THIN", thin)
        clear = np.nan_to_num(model([plane.copy() for plane in planes]).clear)
        found.append(np.bincount(segmentation.ravel(), clear.ravel())[1:])
    assert (found[0] != found[1]).any()
    np.testing.assert_allclose(*found, rtol=0.02, atol=1)


def test_stamps_of_every_other_row() -> None:
    """The same pixels, and where they are, as in those of all rows; also at the edges, where stamps are moved."""
    data, _, segmentation = crowd()
    labels = np.unique(segmentation)[1:]
    shapes, *_ = weigh_segments(data, Planes(data, np.ones(data.shape, np.float32), None, None), segmentation)
    ratio = np.full(len(labels), 0.6, np.float32)
    for half in (6, 23, 60):  # the last are wider than the image
        whole, thinned = (cut_stamps(shapes, ratio, half, segmentation, 10_000, every) for every in (1, 2))
        np.testing.assert_array_equal(thinned.step, whole.step[:, ::2])
        np.testing.assert_array_equal(thinned.label, whole.label[:, ::2])
        np.testing.assert_array_equal(thinned.cut(data), whole.cut(data)[:, ::2])


def test_sources_in_a_crowd_keep_their_own_light() -> None:
    """Blends, sources in segments of others, rings of which no pixel is seen: what is left in segments is their own."""
    shape, bias = (700, 100), []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        flux = 10 ** rng.uniform(2.5, 4.8, 120)
        lights = np.array([moffat(shape, rng.uniform(0, 100), rng.uniform(0, 700), one, core=2.0) for one in flux])
        total = lights.sum(axis=0)
        segmentation = np.where(total > 1.5, 1 + np.argmax(lights, axis=0), 0).astype(np.int32)
        data = (total + rng.normal(size=shape)).astype(np.float32)
        clear = model([data, np.ones(shape, np.float32), segmentation]).clear
        left, own, before = (
            np.bincount(segmentation.ravel(), plane.ravel(), len(flux) + 1)[1:]
            for plane in (clear, np.take_along_axis(lights, np.maximum(segmentation - 1, 0)[None], axis=0)[0], total)
        )
        bright = own > 1000
        bias.append(np.column_stack([left, before])[bright] / own[bright, None] - 1)
    left, before = np.concatenate(bias).T
    low, high = np.percentile(left, [2.5, 97.5])
    assert np.percentile(before, 97.5) > 0.15
    assert -0.02 < low < high < 0.1
    assert left.min() > -0.3


def test_faint_sources_have_no_wings() -> None:
    scene = pair(bright=100.0, faint=0.0)
    data = scene["data"].astype(np.float32)
    neighbours = subtract(data, scene["segmentation"])
    assert len(neighbours.profiles.owners.x) == 0
    np.testing.assert_array_equal(neighbours.clear, data)


def test_no_source_at_all() -> None:
    image = make_image(np.ones((50, 50)))
    table = measure("sep", image, make_detection((50, 50), x=[25.0], y=[25.0]), neighbours="subtract")
    assert table["flux_aper_0"][0].value == pytest.approx(0.01 * np.pi * 25, rel=1e-6)
    assert table["contam_0"][0] == 0


# --- in parts


def test_segments_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments and sums of each segment, one of which is dark, by its pixels alone; however many rows a block has."""
    data, weight, segmentation = crowd()
    null = weight == 0
    segmentation[:, 99] = segmentation[:, 0]  # from the end of one row to the start of the next
    data[segmentation == 7] = -1
    rows, columns = np.indices(data.shape)
    for block in (1, 1000, 1 << 22):
        monkeypatch.setattr(planes_module, "BLOCK", block)
        planes = Planes(data, weight / 2, None, None)
        shapes, npix, flux, noise = weigh_segments(data, planes, segmentation)
        np.testing.assert_array_equal(shapes.label, np.unique(segmentation)[1:])
        for i, label in enumerate(shapes.label.tolist()):
            own = segmentation == label
            light = np.where(null, 0, np.maximum(data, 0).astype(float))[own] if label != 7 else np.ones(own.sum())
            x, y = (np.average(place[own], weights=light) for place in (columns, rows))
            scatter = np.cov(np.stack([columns[own], rows[own]]), aweights=light, ddof=0) + np.eye(2) / 12
            assert (shapes.x[i], shapes.y[i]) == (pytest.approx(x, rel=1e-12), pytest.approx(y, rel=1e-12))
            squares = np.linalg.eigvalsh(scatter)
            np.testing.assert_allclose([shapes.b[i] ** 2, shapes.a[i] ** 2], np.maximum(squares, 1 / 12), rtol=1e-9)
            assert npix[i] == own.sum()
            assert flux[i] == pytest.approx(data[own & ~null].sum(dtype=float), rel=1e-12)
            assert noise[i] == 2 * np.count_nonzero(own & ~null)


def scatter(count: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Elongated sources of five magnitudes anywhere in a field, as `crowd` has them."""
    rng = np.random.default_rng(seed)
    total, brightest, segmentation = np.zeros((side, side)), np.zeros((side, side)), np.zeros((side, side), np.int32)
    for label, flux in enumerate(10 ** rng.uniform(2.5, 4.8, count), start=1):
        corner, theta, ratio = rng.integers(0, side, 2), rng.uniform(0, np.pi), rng.uniform(0.3, 1)
        rows, columns = (slice(max(first - 60, 0), min(first + 61, side)) for first in corner)
        dy, dx = np.mgrid[rows, columns] - corner[:, None, None] - rng.uniform(-0.5, 0.5, (2, 1, 1))
        along, across = dx * np.cos(theta) + dy * np.sin(theta), dy * np.cos(theta) - dx * np.sin(theta)
        light = flux / (np.pi * 6) * 1.5 * (1 + (along**2 * ratio + across**2 / ratio) / 4) ** -2.5
        total[rows, columns] += light
        mine = light > brightest[rows, columns]
        brightest[rows, columns][mine] = light[mine]
        segmentation[rows, columns][mine] = label
    data = (total + rng.normal(size=total.shape)).astype(np.float32)
    return data, np.ones_like(data), np.where(total > 1.5, segmentation, 0).astype(np.int32)


@pytest.mark.parametrize(("count", "side", "most"), [(60, 900, 5), (200, 1200, 9)])
def test_generations_stand_for_steps_of_brightness(
    monkeypatch: pytest.MonkeyPatch, count: int, side: int, most: int
) -> None:
    """Fewer of them do the same, bit by bit, as all sources of a step of brightness after all brighter ones."""
    numbers: list[int] = []
    find = module._find_generations

    def by_generation(*arguments) -> np.ndarray:
        generation = find(*arguments)
        numbers.append(int(generation.max()) + 1)
        return generation

    def by_step(profiles, flux: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        steps, step = np.unique(np.floor(-2.5 / module.STEP * np.log10(flux)), return_inverse=True)
        numbers.append(len(steps))
        return step

    found = []
    for way in (by_generation, by_step):
        monkeypatch.setattr(module, "_find_generations", way)
        found.append(model(scatter(count, side, seed=5)))
    assert numbers[0] <= most < numbers[1], numbers
    np.testing.assert_array_equal(found[0].profiles.level, found[1].profiles.level)
    np.testing.assert_array_equal(found[0].clear, found[1].clear)


def test_what_a_generation_waits_for() -> None:
    """A stamp is measured after all brighter wings that may be drawn on it, and not after those of others."""
    rng, shape, count = np.random.default_rng(2), (1500, 800), 300
    x, y = rng.uniform(0, shape[1], count), rng.uniform(0, shape[0], count)
    owners = replace(
        Shapes.at(x, y), label=np.arange(1, count + 1, dtype=np.int32), theta=rng.uniform(-1.5, 1.5, count)
    )
    ratio, flux = rng.uniform(0.3, 1, count).astype(np.float32), np.sort(10 ** rng.uniform(2, 5, count))[::-1]
    reach = rng.integers(8, 60, count)
    profiles = Profiles(
        owners=owners, axis_ratio=ratio, level=np.zeros((count, 40), np.float32), reach=reach, longest=200.0
    )
    generation = module._find_generations(profiles, flux, shape)
    # As late as a profile can end: its first ring beyond its stamp.
    last = np.searchsorted(profiles.rings.radius, HALVES[np.searchsorted(HALVES, reach)], side="right")
    level = np.where(np.arange(40) < last[:, None], np.float32(1), np.float32(0))
    drawn = replace(profiles, level=level).end().reach
    wing, stamp = np.zeros((2, 2, 2, count), int)  # rows and columns, their first and the one after their last
    for boxes, reaches in ((wing, drawn), (stamp, reach)):
        for half, chosen in batch_stamps(reaches):
            stamps = cut_stamps(owners[chosen], ratio[chosen], half, np.zeros(shape, np.int32), 10)
            for i, (place, _) in zip(chosen, stamps.places(slice(0, shape[0])), strict=True):
                boxes[..., i] = [(part.start, part.stop) for part in place]
    apart = (wing[:, 0, :, None] >= stamp[:, 1, None]) | (wing[:, 1, :, None] <= stamp[:, 0, None])
    touches = ~apart.any(axis=0)
    step = np.floor(-2.5 / module.STEP * np.log10(flux))
    brighter = step[:, None] < step
    later = generation[:, None] < generation
    assert np.all(later[touches & brighter])
    assert not np.any(later[touches & ~brighter])
    assert np.count_nonzero(generation == 0) > 0.1 * count
    assert generation.max() < len(np.unique(step)) - 1


def shuffle(work: Callable, items: Iterable) -> Iterator:
    """As `map`, in any order."""
    items = list(items)
    outcomes = {i: work(items[i]) for i in np.random.default_rng(3).permutation(len(items)).tolist()}
    return iter([outcomes[i] for i in range(len(items))])


def test_light_of_neighbours_is_the_same_however_work_is_shared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All at once, in parts, these in any order, and by two processes on shared planes: bit by bit."""
    whole = model(crowd())
    assert len(whole.profiles.owners.label) > 20
    calls, names = set(), count()

    def counted(parallel: Map) -> Map:
        def run(work: Callable, items: Iterable) -> Iterator:
            calls.add(work.func.__name__)
            return parallel(work, items)

        return run

    monkeypatch.setattr(module, "SHARE", 600)
    monkeypatch.setattr(planes_module, "BLOCK", 20_000)
    found = [model(crowd(), parallel=parallel) for parallel in (counted(map), shuffle)]
    assert calls == {"_add_up_rows", "_measure_profiles", "_take_off"}
    shared = [share_plane(tmp_path / str(next(names)), plane) for plane in crowd()]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found.append(model(shared, parallel=pool.map))
    for one in found:
        for name in ("clear", "wings", "brightest"):
            np.testing.assert_array_equal(getattr(one.draw(), name), getattr(whole.draw(), name))
        np.testing.assert_array_equal(one.profiles.level, whole.profiles.level)


def test_a_tile_has_what_the_image_has() -> None:
    """The sums of own light in apertures inside of a tile, and the sources that are kept for it, which are few."""
    planes = crowd()
    segmentation, light = planes[2], model(planes)
    whole = light.draw()
    owners = whole.profiles.owners
    box = slice(250, 450), slice(10, 90)
    assert np.shares_memory(light[box].clear, light.clear)
    tile = light[box].draw()
    assert 0 < len(tile.profiles.owners.label) < len(owners.label)
    for name in ("clear", "wings", "brightest"):
        np.testing.assert_array_equal(getattr(tile, name), getattr(whole, name)[box])
    np.testing.assert_array_equal(tile.alone, whole.alone[box])
    assert (tile.alone != tile.clear).any()
    inside = np.flatnonzero((abs(owners.x - 49.5) < 25) & (abs(owners.y - 349.5) < 85))
    assert len(inside) == 5
    targets = owners[inside]
    shifted = replace(targets, x=targets.x - 10, y=targets.y - 250)
    size = np.full(len(inside), 14.0)
    apertures = {"large": (size, size / 2, size / 20), "small": (size / 2, size / 2, 0 * size)}
    null = np.zeros(segmentation.shape, bool)
    expected = sum_own_light(whole, segmentation, null, targets, apertures)
    for one in (tile, pickle.loads(pickle.dumps(tile))):
        own = sum_own_light(one, segmentation[box], null[box], shifted, apertures)
        for name in apertures:
            np.testing.assert_allclose(own[name].sky, expected[name].sky, rtol=1e-5)
            np.testing.assert_allclose(own[name].taken, expected[name].taken, rtol=1e-5, atol=1e-4)
    assert (expected["large"].sky > 0).sum() > 2
    assert (expected["large"].taken > 0).any()


# --- masked neighbours


def test_masked_pixels_hold_what_is_opposite() -> None:
    light = gaussian((60, 60), 30, 28, (5, 3), 100.0).astype(np.float32)
    segmentation = np.zeros((60, 60), np.int32)
    segmentation[20:40, 33:45] = 2
    planes = Planes(light, np.ones((60, 60)), None, None)
    shapes, *_ = weigh_segments(light, planes, (segmentation == 0).astype(np.int32))
    centred = Shapes(
        label=shapes.label, x=np.array([30.0]), y=np.array([28.0]), a=shapes.a, b=shapes.b, theta=shapes.theta
    )
    data = light.copy()
    data[segmentation == 2] = 1e6
    ellipse = (np.array([10.0]), np.array([10.0]), np.array([0.0]))
    found = sum_opposite(data, np.zeros((60, 60), bool), segmentation, centred, ellipse)
    theirs = np.where(segmentation == 2, light, 0)
    assert found[0] == pytest.approx(sep.sum_circle(theirs, [30.0], [28.0], 10.0, subpix=0)[0][0], rel=1e-5)


def test_masked_pixels_without_an_opposite_hold_the_level_of_their_ring() -> None:
    light = gaussian((60, 60), 30, 30, 4, 100.0).astype(np.float32)
    segmentation = np.zeros((60, 60), np.int32)
    segmentation[24:37, 34:45] = segmentation[24:37, 15:27] = 2
    one, *_ = weigh_segments(light, Planes(light, np.ones((60, 60)), None, None), (segmentation == 0).astype(np.int32))
    data = np.where(segmentation == 2, np.float32(1e6), light)
    centred = Shapes(label=one.label, x=np.array([30.0]), y=np.array([30.0]), a=one.a, b=one.a, theta=one.theta)
    ellipse = (np.array([10.0]), np.array([10.0]), np.array([0.0]))
    found = sum_opposite(data, np.zeros((60, 60), bool), segmentation, centred, ellipse)
    theirs = np.where(segmentation == 2, light, 0)
    assert found[0] == pytest.approx(sep.sum_circle(theirs, [30.0], [30.0], 10.0, subpix=0)[0][0], rel=0.1)


# --- a field


def test_annuli_and_subtraction_are_refused() -> None:
    with pytest.raises(PhotplugError, match="a sky annulus contains the light that neighbours 'subtract' removes"):
        MeasureOptions(background="annulus", neighbours="subtract")


PLACES = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 2))


def test_empty_apertures_are_those_of_the_photometry() -> None:
    """a(r) with the mesh keeps out of the masked ellipses: wings that the mask of segments lets in do not scatter.

    Pixels that a circle cuts add less variance than their part of it.
    """
    shape = (600, 600)
    rng = np.random.default_rng(5)
    data, segmentation = rng.normal(size=shape), np.zeros(shape, np.int32)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(40, 600, 75.0), np.arange(40, 600, 75.0)))
    for i in range(len(x)):
        light = moffat(shape, x[i], y[i], 3000)
        data += light
        segmentation[light > 1.5] = i + 1
    image, options = make_image(data), Options(measure=MeasureOptions(background="mesh", neighbours="subtract"))
    detection = make_detection(shape, segmentation, x=x, y=y)
    calibration = calibrate_with(SEP, image, detection, options)
    small = calibration.radius < 0.5
    circles = [CircularAperture(place, radius / 0.04) for radius in calibration.radius[small] for place in PLACES]
    parts = [circle.to_mask(method="exact").data for circle in circles]
    ratios = [np.sum(part**2) / np.sum(part) for part in parts]
    expected = np.sqrt(np.reshape(ratios, (-1, len(PLACES))).mean(axis=1))
    np.testing.assert_allclose(calibration.factor[0, small], expected, atol=0.05)


def test_photometry_of_a_crowded_field(tmp_path: Path) -> None:
    """Fields as of a cluster, with counts, PSF wings, depth steps and 1/f: the errors mean what they say.

    The reduced form of docs/scripts/field_truth.py; the bounds leave room for its sampling error of 6 %.
    """
    script = load_script("field_truth")
    parts: dict[str, list] = {"mask": [], "subtract": []}
    for seed in (31, 32):
        field = simulate_field(FieldOptions(density=900, shape=(1000, 1000), seed=seed))
        prefix = write_field(field, tmp_path / str(seed), "sim-v1")
        for how in parts:
            measured = MeasureOptions(neighbours=how, background="mesh" if how == "subtract" else "none")
            parts[how].append(script.compare(dp.run([prefix], Options(measure=measured)), field))
    joined = {how: script.join(part["aper_1"] for part in fields) for how, fields in parts.items()}
    faint = {how: one.pull[one.total < 1] for how, one in joined.items()}
    assert len(faint["mask"]) > 300
    assert median_abs_deviation(faint["subtract"], scale="normal") < 1.2
    median = {how: np.median(pull) for how, pull in faint.items()}
    assert abs(median["subtract"]) < 0.2
    assert median["mask"] > 0.3
    bias = joined["subtract"].bias[joined["subtract"].neighbour]
    assert len(bias) > 25
    assert abs(np.median(bias)) < 0.01
    assert np.percentile(bias, 84) < 0.06


@pytest.mark.parametrize("engine", ["sep", pytest.param("photutils", marks=pytest.mark.slow)])
def test_columns_of_real_bands(data: Path, engine: str) -> None:
    """One band, two bands and an extended catalogue tell the same light of neighbours, and flag it alike."""
    measured = MeasureOptions(background="mesh", neighbours="subtract", apertures=(0.5, 1.0))
    options = replace(DJA, engine=engine, measure=measured)
    mosaics = [uds_prefix(data, band) for band in ("f444w", "f115w")]
    alone, both = dp.run(mosaics[:1], options).catalog, dp.run(mosaics, replace(options, bands=DETECT)).catalog
    extended = dp.extend_catalog(alone, mosaics[1:], options)
    for i in range(2):
        np.testing.assert_array_equal(alone[f"contam_{i}"], both[f"f444w_contam_{i}"])
        assert f"f115w_contam_{i}" in extended.colnames
        light = np.asarray(alone[f"contam_{i}"]) * alone[f"flux_aper_{i}"].value
        flagged = (alone[f"flag_aper_{i}"] & SourceFlag.NEIGHBOUR_LIGHT) > 0
        # Sigma is that of the noise, without the part of the light that is not known: 0.37 of it, and 0.53 in F115W.
        noise = np.sqrt(alone[f"fluxerr_aper_{i}"].value ** 2 - (alone.meta["PROFERR"] * light) ** 2)
        assert np.mean(flagged == (light > 2 * noise)) > 0.97  # what stands in pixels of others has an error too
        assert 0 < flagged.sum() < 0.5 * len(alone)
        assert np.any(extended[f"f115w_flag_aper_{i}"] & SourceFlag.NEIGHBOUR_LIGHT)


def test_planes_of_an_image_without_segments() -> None:
    image = make_image(np.ones((20, 20)), weight=4)
    neighbours = subtract(image.data, np.zeros((20, 20), np.int32), null_pixels(image))
    assert not neighbours.wings.any()
