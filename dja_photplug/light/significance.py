"""How far the segments of an image stand out of its smoothed sky."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from astropy.nddata import NDData
from astropy.stats import mad_std
from numpy.typing import NDArray

from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import Floats
from dja_photplug.light.smoothing import STRIP, Kernel, convolve_pixels, gaussian_kernel, segment_strips
from dja_photplug.mosaic.blocks import Planes, native_pixels
from dja_photplug.options.stages import DetectOptions
from dja_photplug.parallel.scratch import keep_memory
from dja_photplug.parallel.workers import Map

__all__ = ["measure_significance"]

# Pixels of sky that tell a scatter: smoothed by a kernel of 3 pixels 40 of them are independent, for an error of 20 %.
# Of large images so many are enough, for an error of 0.1 %.
LEAST_SKY, MOST_SKY = 400, 4 * 10**6
SMOOTHED_ROWS = 8 * STRIP  # at a time


def measure_significance(
    image: NDData,
    background: Background,
    segmentation: NDArray[np.int32],
    mask: NDArray[np.bool_],
    edges: Floats,
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
    edges : ndarray
        Background variances that divide the depth zones, rising.
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
        zone /= (mad_std(values) or np.nan) if known else np.nan
    best = np.fmax.reduce(zones, axis=0)
    return np.where(np.isfinite(best), best, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Field:
    """What `_measure_ratios` reads, all (ny, nx), and the variances that divide depth zones."""

    planes: Planes
    background: Background
    segmentation: NDArray[np.int32]
    mask: NDArray[np.bool_]
    edges: Floats


Ratios = tuple[NDArray[np.intp], NDArray[np.float32], list[NDArray[np.float32]]]


def _measure_ratios(field: _Field, kernel: Kernel | None, size: int, rows: slice) -> Ratios:
    """Return the highest pixels of the segments in some rows of the smoothed image over its noise, and some of the sky.

    The first array says of which zone and label the second one's are: ``zone * size + label``. Of the sky there is a
    list for each zone.
    """
    keep_memory()
    best = np.full((len(field.edges) + 1) * size, -np.inf, np.float32)
    for strip in segment_strips(field.segmentation, kernel, rows):
        level = field.background.at(np.arange(strip.around.start, strip.around.stop), strip.columns)
        ratio, variance, null = _smooth_ratio(field.planes.map(strip.cut), level, kernel, strip.inner)
        own = (strip.labels > 0) & ~null
        zone = np.searchsorted(field.edges, variance[own])
        np.maximum.at(best, zone * size + strip.labels[own], ratio[own])
    found = np.flatnonzero(best > -np.inf)
    return found, best[found], _sample_sky(field, kernel, rows)


def _sample_sky(field: _Field, kernel: Kernel | None, rows: slice) -> list[NDArray[np.float32]]:
    """Return some pixels of the sky in some rows of the smoothed image over its noise, of each depth zone."""
    samples: list[list[NDArray[np.float32]]] = [[np.empty(0, np.float32)] for _ in range(len(field.edges) + 1)]
    # Of large images every n-th strip of rows, and of those every n-th pixel.
    fewer = 1 + field.mask.size // MOST_SKY
    apart, half = math.isqrt(fewer), 0 if kernel is None else len(kernel) // 2
    step = -(-fewer // apart)
    for start in range(rows.start, rows.stop, STRIP):
        if start // STRIP % apart:
            continue
        block = slice(start, min(start + STRIP, rows.stop))
        around = slice(max(start - half, 0), min(block.stop + half, len(field.mask)))
        inner = slice(start - around.start, block.stop - around.start)
        ratio, variance, null = _smooth_ratio(field.planes[around], field.background[around].level, kernel, inner)
        some = np.flatnonzero(~(null | field.mask[block]))[::step]
        zone = np.searchsorted(field.edges, variance.ravel()[some])
        for i, sample in enumerate(samples):
            sample.append(ratio.ravel()[some[zone == i]])
    return [np.concatenate(sample) for sample in samples]


def _smooth_ratio(
    planes: Planes, level: NDArray[np.float32], kernel: Kernel | None, inner: slice
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return smoothed pixels of inner rows over the noise that the weight says they have, variances, and null pixels.

    The ratio is 0 without noise, and the variance that of the background, 0 for null pixels.
    """
    null, variance = planes.null(), planes.variance("background")
    data = native_pixels(planes.data) - level
    data[null] = variance[null] = 0
    signal = convolve_pixels(data, kernel, inner)
    noise = np.sqrt(convolve_pixels(variance, None if kernel is None else np.square(kernel), inner))
    return np.divide(signal, noise, out=np.zeros_like(signal), where=noise > 0), variance[inner], null[inner]
