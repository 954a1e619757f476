"""a(r) of an image by any engine: sums over empty apertures, with the sky of the photometry, in bands of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from astropy.nddata import NDData
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.calibration.measure import ApertureSums, Places, calibrate
from dja_photplug.calibration.places import Blocked
from dja_photplug.light.planes import Floats, Shapes, mask_ellipses
from dja_photplug.mosaic.blocks import BackgroundVariance, Planes
from dja_photplug.options.run import Options
from dja_photplug.parallel.workers import Map, shared_map
from dja_photplug.sky.grid import Window, pixel_scale, row_blocks
from dja_photplug.sources.detection import Detection, shapes_on_grid
from dja_photplug.sources.removal import find_removed, grow_segments, read_pixels, remove_sky
from dja_photplug.sources.sums.apertures import Engine, Photometer, sum_circles
from dja_photplug.sources.sums.circles import sum_clear_circles
from dja_photplug.sources.sums.planes import Pixels, Removed

__all__ = ["calibrate_with"]

# Pixels of a band of rows; side of the blocks that circles lie in, beside which there are those that circles reach.
BAND, BLOCK = 2**22, 1800


def calibrate_with(
    engine: Engine, image: NDData, detection: Detection, options: Options, *, parallel: Map | None = None
) -> NoiseCalibration:
    """Measure a(r) in empty apertures, with the sums and the sky of the photometry.

    Parameters
    ----------
    engine : Engine
    image : `~astropy.nddata.NDData`
    detection : Detection
        Its segments are where sources are.
    options : Options
        The groups ``calibration`` and ``measure``.
    parallel : Map, optional
        Does bands of rows; who shares the work that is under way by default.

    Returns
    -------
    NoiseCalibration
        Not known where too few empty apertures fit.

    Raises
    ------
    PhotplugError
        Where they scatter less than their photons alone.
    """
    parallel, options, planes = parallel or shared_map(), options.settle(), Planes.of(image)
    segmentation, scale = detection.segmentation, pixel_scale(image.wcs)
    removed = find_removed(image) or remove_sky(image, segmentation, options)
    # Between the masked sources there are no wings to subtract that would be worth the time.
    options = replace(options, measure=replace(options.measure, neighbours="keep"))
    removed = replace(removed, neighbours=None)
    sources = shapes_on_grid(detection, scale)
    sources = sources[np.isfinite(sources.a)]
    sky_mask = removed.sky.mask if options.measure.background == "mesh" else None
    block = partial(_block, planes, segmentation, sky_mask, sources, options.measure.kron_max)
    blocked = Blocked.join(list(parallel(block, list(row_blocks(segmentation.shape, BAND))))).share()
    reach = max(options.measure.annulus) / scale + 1 if options.measure.background == "annulus" else 0.0
    work = partial(_sum_block, engine, image, segmentation, removed, options)
    add = partial(_sum_places, work, parallel, blocked.shape, reach)
    variance = BackgroundVariance(planes)
    measured = calibrate(blocked, scale, add, options.calibration, variance, parallel=parallel)
    notes = (measured.note, removed.sky.note) if measured.known else (measured.note,)
    return replace(measured, note="; ".join(filter(None, notes)))


def _block(
    planes: Planes,
    segmentation: NDArray[np.int32],
    sky_mask: NDArray[np.bool_] | None,
    sources: Shapes,
    kron_max: float,
    rows: slice,
) -> Blocked:
    """Return where no aperture may be in some rows: sources with the light around them, and pixels without data."""
    blocked = planes[rows].null()
    blocked |= np.asarray(segmentation)[rows] > 0
    if sky_mask is not None:
        blocked |= np.asarray(sky_mask)[rows]
    # Beyond its segment a source still has light: without the ellipses a(r) of simulations is 1 to 2 % too large.
    mask_ellipses(blocked, sources, kron_max, rows)
    return Blocked.pack(blocked)


Block = tuple[Window, list[Places]]
"""Part of an image, and circles within it, by radius."""


def _sum_places(
    work: partial[list[ApertureSums]], parallel: Map, shape: tuple[int, int], reach: float, places: Sequence[Places]
) -> list[ApertureSums]:
    """Return the sums over circles of each radius, which are shared out by the block that they lie in."""
    far = int(max([reach, *(radius for *_, radius in places)])) + 2
    corners = [(top, left) for top in range(0, shape[0], BLOCK) for left in range(0, shape[1], BLOCK)]
    across = -(-shape[1] // BLOCK)
    numbers = [(y // BLOCK * across + x // BLOCK).astype(np.intp) for x, y, _ in places]
    # In the order of the rows of each block: sums at random places of a large image take up to twice as long.
    orders = [np.lexsort((y, number)) for (_, y, _), number in zip(places, numbers, strict=True)]
    inner = np.arange(1, len(corners))
    cuts = [np.searchsorted(number[order], inner) for order, number in zip(orders, numbers, strict=True)]
    parts = [np.split(order, cut) for order, cut in zip(orders, cuts, strict=True)]
    blocks: list[Block] = []
    for i, corner in enumerate(corners):
        edges = [(low - far, low + BLOCK + far, size) for low, size in zip(corner, shape, strict=True)]
        rows, columns = (slice(max(low, 0), min(high, size)) for low, high, size in edges)
        circles = [(x[part[i]], y[part[i]], radius) for (x, y, radius), part in zip(places, parts, strict=True)]
        blocks.append(((rows, columns), circles))
    found = list(parallel(work, blocks))
    return [_put_back([sums[i] for sums in found], order) for i, order in enumerate(orders)]


def _put_back(parts: list[ApertureSums], order: NDArray[np.intp]) -> ApertureSums:
    """Return sums of parts one after the other, each at the place that `order` tells."""
    rank = np.argsort(order)
    names = ApertureSums.__slots__
    return ApertureSums(**{name: np.concatenate([getattr(part, name) for part in parts])[rank] for name in names})


def _sum_block(
    engine: Engine,
    image: NDData,
    segmentation: NDArray[np.int32],
    removed: Removed,
    options: Options,
    block: Block,
) -> list[ApertureSums]:
    """Return the sums over the circles in a block."""
    (rows, columns), places = block
    scale, labels = pixel_scale(image.wcs), segmentation[rows, columns]
    pixels = read_pixels(image[rows, columns], labels, removed[rows, columns], options)
    places = [(x - columns.start, y - rows.start, radius) for x, y, radius in places]
    add = _sum_exactly if engine.exact else partial(_sum_by, engine)
    sums = add(pixels, places)
    if options.measure.background != "annulus":
        return sums
    masked = grow_segments(labels, scale)
    work = Photometer(engine=engine, pixels=pixels, scale=scale, options=options.measure)
    return [
        _take_sky(each, np.pi * radius**2, *work.average_annuli(Shapes.at(x, y), masked))
        for each, (x, y, radius) in zip(sums, places, strict=True)
    ]


def _sum_exactly(pixels: Pixels, places: list[Places]) -> list[ApertureSums]:
    """Return sums as those engines make them that know exact overlap, in half of the time of sep."""
    found = sum_clear_circles((pixels.data, pixels.background, pixels.variance), pixels.null, places)
    return [ApertureSums(flux=flux, background=background, total=total) for flux, background, total in found]


def _sum_by(engine: Engine, pixels: Pixels, places: list[Places]) -> list[ApertureSums]:
    """Return sums by an engine."""
    found = [sum_circles(engine, pixels, Shapes.at(x, y), radius) for x, y, radius in places]
    return [ApertureSums(flux=sums.flux, background=sums.background, total=sums.total) for sums in found]


def _take_sky(sums: ApertureSums, area: float, sky: Floats, sky_error: Floats) -> ApertureSums:
    """Return sums over apertures less the sky around them."""
    return replace(sums, flux=sums.flux - sky * area, total=sums.total + np.square(area * sky_error))
