"""Sources of an image as every engine gives them: what a detection holds, and how it gets to another grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.special import erf
from scipy.stats import median_abs_deviation

from dja_photplug.calibration.zones import divide_depths, measure_depths
from dja_photplug.catalog.schema import COLUMNS, dress_table
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cleaning import Uncleaned, Wings
from dja_photplug.light.mesh import NO_SKY, Mesh
from dja_photplug.light.planes import (
    CONVOLVED_ROWS,
    Floats,
    Shapes,
    convolve_pixels,
)
from dja_photplug.mosaic.blocks import Planes, native_pixels, null_pixels
from dja_photplug.options.stages import BackgroundOptions, DetectOptions
from dja_photplug.parallel.scratch import keep_memory, share_plane
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import pixel_positions, pixel_scale, sky_positions
from dja_photplug.sky.nesting import regrid_labels

__all__ = [
    "Background",
    "Detection",
    "add_significance",
    "cell_size",
    "clean_detection",
    "gaussian_kernel",
    "measure_significance",
    "mesh_cells",
    "place_sources",
    "regrid_detection",
    "regrid_sources",
    "sample_labels",
    "shapes_on_grid",
    "subtract_level",
]

DETECTION_COLUMNS = tuple(
    spec for spec in COLUMNS if spec.name in {"id", "ra", "dec", "x", "y", "a", "b", "theta", "npix", "flag"}
)


Found = NDArray[np.float64] | NDArray[np.int64]
# Pixels of sky that tell a scatter: smoothed by a kernel of 3 pixels 40 of them are independent, for an error of 20 %.
# Of large images every n-th pixel is enough, for an error below 0.1 %.
LEAST_SKY, MOST_SKY = 400, 4 * 10**6
SMOOTHED_ROWS = 256  # at a time

# What an engine says of each source.
FOUND = ("x", "y", "a", "b", "theta", "npix", "flag")


class Background:
    """Sky level of an image.

    Parameters
    ----------
    level : ndarray or Mesh
        (ny, nx) float32, in the unit of the image; a mesh is drawn where the level is asked for.
    """

    def __init__(self, level: NDArray[np.float32] | Mesh) -> None:
        self._level = level

    @property
    def level(self) -> NDArray[np.float32]:
        """(ny, nx) float32, in the unit of the image."""
        if isinstance(self._level, Mesh):
            self._level = self._level.draw()
        return self._level

    def __getitem__(self, box: slice | tuple[slice, slice]) -> Background:
        """Return that of a part of the image."""
        return Background(level=self._level[box])

    def share(self) -> Background:
        """Return the same for other processes.

        Returns
        -------
        Background
        """
        return self if isinstance(self._level, Mesh) else Background(level=share_plane(self._level))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """Sources of one image.

    Attributes
    ----------
    sources : `~astropy.table.QTable`
        Columns ``id ra dec x y a b theta npix flag`` of the catalogue, and ``snr_detect`` where the engine tells it;
        ``id`` is 1 to N. With the column ``kron_radius`` as well, scaled and clipped already, the photometry takes
        that, as for many bands the ellipses of one detection image; where it is NaN the smallest circle is the Kron
        aperture.
    segmentation : ndarray
        (ny, nx) int32: the ``id`` of the source that a pixel belongs to, 0 for none.
    wcs : `~astropy.wcs.WCS`
        Of the image they were found on.
    uncleaned : Uncleaned or None
        What it was before faint sources in the wings of bright ones were taken out, which the whole of an image decides
        and not a tile of it; None where that was not done.
    """

    sources: QTable
    segmentation: NDArray[np.int32]
    wcs: WCS
    uncleaned: Uncleaned | None = None


def mesh_cells(
    image: NDData, options: BackgroundOptions, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return what a mesh background leaves out, and the size of its cells.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    options : BackgroundOptions
    mask : ndarray of bool, optional
        (ny, nx), True for pixels to leave out beside the null ones, such as sources.

    Returns
    -------
    null : ndarray of bool
        (ny, nx), the pixels that are left out.
    cells : tuple of int
        Height and width in pixels, at most those of the image.

    Raises
    ------
    PhotplugError
        Where no pixel is left.
    """
    null = null_pixels(image)
    if mask is not None:
        null |= mask
    if null.all():
        raise PhotplugError(NO_SKY)
    return null, cell_size(image, options)


def cell_size(image: NDData, options: BackgroundOptions) -> tuple[int, int]:
    """Return the size of the cells of a mesh background.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    options : BackgroundOptions

    Returns
    -------
    tuple of int
        Height and width in pixels, at most those of the image.
    """
    cell = max(1, round(options.mesh / pixel_scale(image.wcs)))
    height, width = (min(cell, n) for n in image.data.shape)
    return height, width


def gaussian_kernel(fwhm: float) -> NDArray[np.float32] | None:
    """Return a Gaussian integrated over its pixels, of unit sum.

    At 3 pixels it is Source Extractor's ``gauss_3.0_7x7.conv`` to 0.4 % of its peak.

    Parameters
    ----------
    fwhm : float
        In pixels.

    Returns
    -------
    ndarray or None
        (7, 7) float32; None for a width of 0.
    """
    if fwhm == 0:
        return None
    edges = erf(np.arange(-3.5, 4) / (np.sqrt(2) * fwhm / (2 * np.sqrt(2 * np.log(2)))))
    profile = np.diff(edges) / (edges[-1] - edges[0])
    return np.outer(profile, profile).astype(np.float32)


def subtract_level(image: NDData, background: Background, null: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the pixels that sources are found on, less the sky.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    background : Background
    null : ndarray of bool
        (ny, nx), pixels without data.

    Returns
    -------
    ndarray
        (ny, nx) float32 in the unit of the image, C-contiguous; 0 for null pixels.

    Raises
    ------
    PhotplugError
        Where the image has no WCS.
    """
    if image.wcs is None:
        raise PhotplugError("the image has no WCS, and its sources no positions; load a DJA mosaic or set image.wcs")
    data = native_pixels(image.data) - background.level
    # Whatever a mask says: sep 1.4 does not zero it in the first rows, half a kernel high, before it convolves.
    data[null] = 0
    return data


def place_sources(
    found: Mapping[str, Found],
    segmentation: NDArray[np.int32],
    wcs: WCS,
    ids: NDArray[np.integer] | None = None,
) -> Detection:
    """Return what an engine found as a Detection, with sky positions.

    Parameters
    ----------
    found : mapping of str to ndarray
        ``x y a b`` in pixels, ``theta`` in radians, ``npix`` and ``flag``, (n,) in the order of the labels.
    segmentation : ndarray
        (ny, nx), labels.
    wcs : `~astropy.wcs.WCS`
        Of the image.
    ids : ndarray of int, optional
        The labels, (n,); 1 to n by default.

    Returns
    -------
    Detection
    """
    ra, dec = sky_positions(wcs, found["x"], found["y"])
    scale = pixel_scale(wcs)
    columns = {
        "id": np.arange(1, len(found["x"]) + 1) if ids is None else ids,
        "ra": ra,
        "dec": dec,
        **{axis: found[axis] * scale for axis in "ab"},
        "theta": found["theta"] * u.rad,
        **{name: found[name] for name in ("x", "y", "npix", "flag")},
    }
    return Detection(sources=dress_table(columns, DETECTION_COLUMNS), segmentation=segmentation, wcs=wcs)


def clean_detection(detection: Detection, wings: Wings) -> Detection:
    """Return the sources that are not hidden by the wings of brighter ones.

    Parameters
    ----------
    detection : Detection
        Of n sources with the ids 1 to n.
    wings : Wings
        (n,).

    Returns
    -------
    Detection
        With ids from 1 on, in the same order.
    """
    kept = wings.stand_out()
    number = np.append(0, np.where(kept, np.cumsum(kept), 0)).astype(np.int32)
    sources = detection.sources[kept]
    sources["id"] = np.arange(1, len(sources) + 1)
    known = {"sources": detection.sources, "segmentation": detection.segmentation}
    before = Uncleaned(**known, wings=wings, cleaned=sources)
    return replace(detection, sources=sources, segmentation=number[detection.segmentation], uncleaned=before)


def measure_significance(
    image: NDData,
    background: Background,
    segmentation: NDArray[np.int32],
    mask: NDArray[np.bool_],
    options: DetectOptions,
    *,
    parallel: Map = map,
) -> Floats:
    """Return ``snr_detect``: how far segments stand out of the smoothed sky.

    The image is smoothed with the kernel of the detection, whatever its filter, and divided by the noise that the
    background weight says of it. Drizzling, 1/f residuals and unresolved sources make its scatter larger than 1; the
    scatter is measured in each depth zone, between the sources and the light around them.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    background : Background
        Its level is taken off.
    segmentation : ndarray
        (ny, nx), labels; 0 is sky.
    mask : ndarray of bool
        (ny, nx), True where sources are, with the light around them; see `dja_photplug.light.planes.mask_sources`.
    options : DetectOptions
        Its ``kernel``.
    parallel : Map, optional
        Does the work of blocks of rows.

    Returns
    -------
    ndarray
        Highest pixel of each label over the scatter, (greatest label + 1,); NaN for labels without a pixel with data,
        and where too little sky is left, or it does not scatter.

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    planes, size = Planes.of(image), int(segmentation.max(initial=0)) + 1

    def read(rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return planes[rows].variance("background"), planes[rows].null() | mask[rows]

    edges = divide_depths(measure_depths(read, mask.shape), None)
    field = _Field(planes=planes, background=background.share(), segmentation=segmentation, mask=mask, edges=edges)
    highest = np.full((len(edges) + 1) * size, -np.inf, np.float32)
    samples: list[list[NDArray[np.float32]]] = [[] for _ in range(len(edges) + 1)]
    work = partial(_measure_ratios, field, gaussian_kernel(options.kernel), size)
    blocks = [slice(start, min(start + SMOOTHED_ROWS, len(mask))) for start in range(0, len(mask), SMOOTHED_ROWS)]
    for found, best, some in parallel(work, blocks):
        highest[found] = np.maximum(highest[found], best)
        for sample, values in zip(samples, some, strict=True):
            sample.append(values)
    zones = highest.reshape(-1, size).astype(float)
    for zone, sample in zip(zones, samples, strict=True):
        values = np.concatenate(sample)
        known = len(values) >= LEAST_SKY
        zone /= (median_abs_deviation(values, scale="normal") or np.nan) if known else np.nan
    best = np.fmax.reduce(zones, axis=0)
    return np.where(np.isfinite(best), best, np.nan)


def add_significance(detection: Detection, significance: Floats) -> Detection:
    """Return a detection with the column ``snr_detect``.

    Parameters
    ----------
    detection : Detection
        Without that column.
    significance : ndarray
        Of each label from 0 on, as :func:`measure_significance` gives it.

    Returns
    -------
    Detection
        With it behind ``npix``; NaN for sources without a segment.
    """
    ids = np.asarray(detection.sources["id"])
    known = (ids >= 0) & (ids < len(significance))
    snr = np.where(known, significance[np.where(known, ids, 0)], np.nan)
    spec = next(spec for spec in COLUMNS if spec.name == "snr_detect")
    sources = detection.sources.copy(copy_data=False)
    place = sources.colnames.index("npix") + 1
    sources.add_column(dress_table({spec.name: snr}, [spec])[spec.name], name=spec.name, index=place)
    sources[spec.name].info.description = spec.description
    return replace(detection, sources=sources)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Field:
    """What `_measure_ratios` reads, all (ny, nx), and the variances that divide depth zones."""

    planes: Planes
    background: Background
    segmentation: NDArray[np.int32]
    mask: NDArray[np.bool_]
    edges: Floats


Ratios = tuple[NDArray[np.intp], NDArray[np.float32], list[NDArray[np.float32]]]


def _measure_ratios(field: _Field, kernel: NDArray[np.float32] | None, size: int, rows: slice) -> Ratios:
    """Return the highest pixels of the segments in some rows of the smoothed image over its noise, and some of the sky.

    The first array says of which zone and label the second one's are: ``zone * size + label``. Of the sky there is a
    list for each zone.
    """
    keep_memory()
    best = np.full((len(field.edges) + 1) * size, -np.inf, np.float32)
    samples: list[list[NDArray[np.float32]]] = [[] for _ in range(len(field.edges) + 1)]
    step, skip = 1 + field.mask.size // MOST_SKY, 0
    half = 0 if kernel is None else len(kernel) // 2
    low = max(rows.start - half, 0)
    level = field.background[low : rows.stop + half].level
    for first in range(rows.start, rows.stop, CONVOLVED_ROWS):
        block = slice(first, min(first + CONVOLVED_ROWS, rows.stop))
        around = slice(max(block.start - half, 0), block.stop + half)
        inner = slice(block.start - around.start, block.stop - around.start)
        part_of_level = level[around.start - low : around.stop - low]
        ratio, variance, null = _smooth_ratio(field.planes[around], part_of_level, kernel, inner)
        labels = field.segmentation[block].ravel()
        own = np.flatnonzero((labels > 0) & ~null)
        zone = np.searchsorted(field.edges, variance[own])
        np.maximum.at(best, zone * size + labels[own], ratio[own])
        null |= field.mask[block].ravel()
        sky = np.flatnonzero(~null)
        some = sky[skip::step]
        skip = (skip - len(sky)) % step
        zone = np.searchsorted(field.edges, variance[some])
        for i, sample in enumerate(samples):
            sample.append(ratio[some[zone == i]])
    found = np.flatnonzero(best > -np.inf)
    return found, best[found], [np.concatenate(sample) for sample in samples]


def _smooth_ratio(
    planes: Planes, level: NDArray[np.float32], kernel: NDArray[np.float32] | None, inner: slice
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return smoothed pixels of inner rows over the noise that the weight says they have, variances, and null pixels.

    All in one dimension. The ratio is 0 without noise, and the variance that of the background, 0 for null pixels.
    """
    null, variance = planes.null(), planes.variance("background")
    data = native_pixels(planes.data) - level
    data[null] = variance[null] = 0
    signal = convolve_pixels(data, kernel, inner)
    noise = np.sqrt(convolve_pixels(variance, None if kernel is None else np.square(kernel), inner))
    ratio = np.divide(signal, noise, out=np.zeros_like(signal), where=noise > 0)
    return ratio.ravel(), variance[inner].ravel(), null[inner].ravel()


def sample_labels(segmentation: NDArray[np.int32], sources: QTable) -> NDArray[np.int64]:
    """Return the label of the pixel that each source lies on.

    Parameters
    ----------
    segmentation : ndarray
        (ny, nx), labels.
    sources : `~astropy.table.QTable`
        With the columns ``x y`` in pixels of the segmentation, (n,).

    Returns
    -------
    ndarray
        (n,); 0 for sky, -1 off the image or without a position.
    """
    labels = np.full(len(sources), -1, dtype=np.int64)
    y, x = (np.rint(np.nan_to_num(sources[axis].value, nan=-1)) for axis in "yx")
    inside = (y >= 0) & (y < segmentation.shape[0]) & (x >= 0) & (x < segmentation.shape[1])
    labels[inside] = segmentation[y[inside].astype(int), x[inside].astype(int)]
    return labels


def regrid_detection(detection: Detection, wcs: WCS, shape: tuple[int, int]) -> Detection:
    """Return sources on the grid of another image.

    Parameters
    ----------
    detection : Detection
        Its ``sources`` may have any further columns.
    wcs : `~astropy.wcs.WCS`
        Of the other image.
    shape : tuple of int
        Of the other image, (ny, nx).

    Returns
    -------
    Detection
        ``x y`` follow from ``ra dec``, ``theta`` from the directions of both grids at each source (to 1e-6 deg, by the
        rounding of sky positions); all other columns are as they were, ``npix`` on the grid of the detection too.
    """
    return Detection(
        sources=regrid_sources(detection.sources, detection.wcs, wcs),
        segmentation=regrid_labels(detection.segmentation, detection.wcs, wcs, shape),
        wcs=wcs,
    )


def regrid_sources(sources: QTable, wcs: WCS, target: WCS) -> QTable:
    """Return sources on the grid of another image.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        Of a `Detection`; it is not changed.
    wcs, target : `~astropy.wcs.WCS`
        The grid they are on, and the one they shall be on.

    Returns
    -------
    `~astropy.table.QTable`
        With ``x y theta`` on the grid `target`.
    """
    sources = sources.copy()
    x, y, theta = sources["x"].value, sources["y"].value, sources["theta"].to_value(u.rad)
    # Both ends of a pixel's length along the major axis: a mirrored grid turns an axis the other way.
    ends = [(x, y), (x + np.cos(theta), y + np.sin(theta))]
    (x0, y0), (x1, y1) = (pixel_positions(target, *sky_positions(wcs, *end)) for end in ends)
    sources["theta"][:] = (np.arctan2(y1 - y0, x1 - x0) + np.pi / 2) % np.pi * u.rad - 90 * u.deg
    places = pixel_positions(target, sources["ra"].to_value(u.deg), sources["dec"].to_value(u.deg))
    sources["x"][:], sources["y"][:] = (place * u.pix for place in places)
    return sources


def shapes_on_grid(detection: Detection, scale: float) -> Shapes:
    """Return the sources on the grid they were detected on.

    Parameters
    ----------
    detection : Detection
        Of n sources.
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    Shapes
        (n,); a, b and theta are NaN where one of them is not known.
    """
    sources = detection.sources
    a, b = (sources[axis].to_value(u.arcsec) / scale for axis in "ab")
    theta = sources["theta"].to_value(u.rad)
    # An ellipse looks the same half a turn on; other engines give 0 to 360 degrees.
    theta = np.where(np.abs(theta) > 1.6, (theta + np.pi / 2) % np.pi - np.pi / 2, theta)
    # sep refuses angles a rounding error above pi/2, and its float32 pi/2 is one; a shape needs all its parts.
    theta = np.clip(theta, -np.pi / 2, np.pi / 2)
    known = np.isfinite(theta) & (b > 0) & (a >= b) & np.isfinite(a)
    return Shapes(
        label=np.asarray(sources["id"], dtype=np.int32),
        x=sources["x"].value,
        y=sources["y"].value,
        **{name: np.where(known, value, np.nan) for name, value in (("a", a), ("b", b), ("theta", theta))},
        kron=np.asarray(sources["kron_radius"], dtype=float) if "kron_radius" in sources.colnames else None,
    )
