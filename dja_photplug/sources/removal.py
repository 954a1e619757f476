"""What photometry takes off an image before it sums: its sky, and the light of neighbours."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from astropy.nddata import NDData
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dja_photplug.calibration.curve import NoiseCalibration, find_errors
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cells import cell_size, measure_mesh, median_mesh
from dja_photplug.light.planes import Floats, mask_sources
from dja_photplug.mosaic.blocks import Planes, count_clear, null_pixels, variance_map
from dja_photplug.neighbours.error import measure_profile_error
from dja_photplug.neighbours.models import NeighbourLight, find_neighbours
from dja_photplug.options.run import Options
from dja_photplug.parallel.scratch import fill_rows, new_plane, share_plane
from dja_photplug.parallel.workers import LostWork, Map
from dja_photplug.sky.grid import pixel_scale, row_blocks
from dja_photplug.sources.detection import Detection, shapes_on_grid
from dja_photplug.sources.sums.apertures import GROWTH, KRON_EXTENT
from dja_photplug.sources.sums.planes import Pixels, Removed, Sky

__all__ = [
    "count_around",
    "find_removed",
    "grow_segments",
    "measure_profiles",
    "read_pixels",
    "remove_neighbours",
    "remove_sky",
]

Mask = tuple[NDArray[np.bool_], str]
"""From `mask_sources`: where sources are, and what is to be said of it."""

# Light beyond the isophote that would bias the sky: segments grow by this much before the sky is measured, in arcsec.
SKY_MARGIN = 0.2

# Variance of a mean over that of a median, of nine values.
MEDIAN_EFFICIENCY = 0.65

# Of the pixels that tell the sky of a place, the least part that counts where the mask of a source takes more.
LEAST_AROUND = 0.25

# Pixels of a band of rows from which the sky is taken off at a time.
BAND = 2**22

# Radius of the apertures that tell how well the light of neighbours is known, arcsec.
PROFILE_RADIUS = 0.25


def grow_segments(segmentation: NDArray[np.int32], scale: float) -> NDArray[np.bool_]:
    """Return the segments of all sources, and what is within 0.2 arcsec of them.

    Parameters
    ----------
    segmentation : ndarray
        (ny, nx), labels.
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    ndarray of bool
        (ny, nx).
    """
    return maximum_filter(segmentation > 0, size=2 * round(SKY_MARGIN / scale) + 1)


def _count_sky(share: float, cells: tuple[int, int], smooth: int) -> float:
    """Return how many pixels the sky of a place is the mean of: a share of those of the cells that a median joins."""
    return share * cells[0] * cells[1] * (1.0 if smooth == 1 else MEDIAN_EFFICIENCY * smooth**2)


def count_around(sky: Sky, hole: Floats, scale: float) -> Floats:
    """Return how many pixels the sky below sources is the mean of.

    Parameters
    ----------
    sky : Sky
    hole : ndarray
        Radii of the masks of the sources, arcsec, (n,).
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    ndarray
        (n,): fewer than of a place without a source by what its mask takes.
    """
    taken = MEDIAN_EFFICIENCY * np.pi * np.square(hole / scale)
    return np.maximum(sky.pixels - taken, LEAST_AROUND * sky.pixels)


def find_removed(image: NDData) -> Removed | None:
    """Return what was measured for the whole image that this may be a tile of.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`

    Returns
    -------
    Removed or None
    """
    removed = getattr(image, "removed", None)
    return removed if isinstance(removed, Removed) else None


def remove_sky(
    image: NDData, segmentation: NDArray[np.int32], options: Options, mask: Mask | None = None, *, parallel: Map = map
) -> Removed:
    """Return the sky that is taken off an image, where the options ask for a mesh.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    segmentation : ndarray
        (ny, nx), labels.
    options : Options
    mask : tuple of ndarray and str, optional
        From `mask_sources`, where it is known.
    parallel : Map, optional

    Returns
    -------
    Removed
    """
    measure, mesh = options.measure, options.background
    if measure.background == "unmasked":  # of which errors say nothing, as those of the archive
        return Removed(sky=Sky(mesh=measure_mesh(image, cell_size(image, mesh), mesh.mesh_filter, parallel=parallel)))
    if measure.background not in ("masked", "mesh"):
        return Removed()
    centred, note = measure.background == "mesh", ""
    if centred:
        covered, note = mask or mask_sources(image, segmentation, pixel_scale(image.wcs))
    else:
        covered = grow_segments(segmentation, pixel_scale(image.wcs))
    covered = share_plane(covered)
    known, clear = count_clear(Planes.of(image), covered, parallel=parallel)
    if known and not clear:
        note = "no pixel is left between the sources: no sky is taken off"
        return Removed(sky=Sky(mask=covered, note=note))
    cells, notes = cell_size(image, mesh), [note] if note else []
    if min(cells) + 1 < mesh.mesh / pixel_scale(image.wcs):
        notes.append(f"the image is smaller than a cell of its sky, {mesh.mesh:g} arcsec")
    found = median_mesh(image, cells, mesh.mesh_filter, covered, parallel=parallel) if centred else None
    if centred and found is None:
        notes.append("too few blocks of pixels are clear of sources: the sky is the mode of what is left")
    level, clear = found or (measure_mesh(image, cells, mesh.mesh_filter, covered, parallel=parallel), clear)
    pixels = _count_sky(clear / known, cells, mesh.mesh_filter)
    return Removed(sky=Sky(mesh=level, pixels=pixels, mask=covered, note="; ".join(notes)))


def _take_sky(planes: Planes, sky: Sky, left: NDArray[np.float32], rows: slice) -> None:
    """Write some rows of an image less its sky, NaN where there are no data."""
    some = planes[rows]
    with fill_rows(left, rows) as part:
        sky[rows].take_off(some.data, out=part)
        np.copyto(part, np.float32(np.nan), where=some.null())


def remove_neighbours(
    removed: Removed, image: NDData, detection: Detection, options: Options, *, parallel: Map = map
) -> Removed:
    """Return what sources add to each other too, where the options ask for that to be taken off.

    Parameters
    ----------
    removed : Removed
        From :func:`remove_sky`.
    image : `~astropy.nddata.NDData`
    detection : Detection
        Sources or positions to measure, which the light of others may not reach.
    options : Options
    parallel : Map, optional

    Returns
    -------
    Removed
    """
    if options.measure.neighbours != "subtract":
        return removed
    scale = pixel_scale(image.wcs)
    shapes = shapes_on_grid(detection, scale)
    largest = max(options.measure.kron_circle * max(GROWTH), *options.measure.apertures) / scale
    extent = np.maximum(KRON_EXTENT * np.nan_to_num(shapes.a), largest)
    left = new_plane(image.data.shape, np.float32, blank=False)
    planes, blocks = Planes.of(image), list(row_blocks(left.shape, BAND))
    take_sky = partial(_take_sky, planes, removed.sky, left)
    arguments = planes, detection.segmentation, shapes, extent

    def find() -> NeighbourLight:
        list(parallel(take_sky, blocks))
        return find_neighbours(left, *arguments, parallel=parallel)

    try:
        return replace(removed, neighbours=find())
    except LostWork:  # some of the light was taken off, and some not: from the beginning, once
        return replace(removed, neighbours=find())


def measure_profiles(
    removed: Removed, image: NDData, calibration: NoiseCalibration | None, *, parallel: Map = map
) -> Removed:
    """Return it with the error of what profiles say of the light of sources beyond their segments.

    Parameters
    ----------
    removed : Removed
        From :func:`remove_neighbours`.
    image : `~astropy.nddata.NDData`
    calibration : NoiseCalibration or None
    parallel : Map, optional

    Returns
    -------
    Removed
    """
    if removed.neighbours is None or removed.profiles is not None:
        return removed
    scale = pixel_scale(image.wcs)
    radius = PROFILE_RADIUS / scale

    def find_variance(total: Floats, background: Floats) -> Floats:
        area = np.full_like(total, np.pi * radius**2)
        return np.square(find_errors((total, background, area), scale, calibration)[0])

    found = measure_profile_error(removed.neighbours, Planes.of(image), radius, find_variance, parallel=parallel)
    return replace(removed, profiles=found)


def read_pixels(image: NDData, segmentation: NDArray[np.int32], removed: Removed, options: Options) -> Pixels:
    """Return the planes that sums are made of.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Or a part of one.
    segmentation : ndarray
        (ny, nx), labels.
    removed : Removed
        What is taken off it.
    options : Options
        Whether neighbours are kept.

    Returns
    -------
    Pixels
        Contiguous, as sep takes them.

    Raises
    ------
    PhotplugError
        Where the segmentation has another shape than the image.
    """
    if image.data.shape != segmentation.shape:
        raise PhotplugError(
            f"the image of {image.data.shape} pixels (y, x) and the segmentation of {segmentation.shape} differ; "
            "measure on the grid of the detection"
        )
    planes = Planes.of(image)
    neighbours = None if removed.neighbours is None else removed.neighbours.draw()
    variance = variance_map(image)
    return Pixels(
        data=removed.sky.take_off(image.data) if neighbours is None else neighbours.clear,
        variance=variance,
        background=variance if planes.background is None else variance_map(image, "background"),
        null=null_pixels(image),
        segmentation=None if options.measure.neighbours == "keep" else np.ascontiguousarray(segmentation),
        sky=removed.sky,
        neighbours=neighbours,
        mean=options.measure.neighbours == "mean",
    )
