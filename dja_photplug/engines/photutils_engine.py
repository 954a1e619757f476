"""Background, sources and photometry with photutils, from the options of sep's engine and with its columns.

Sums weight pixels by exact overlap, from `photutils.geometry`: the apertures of photutils do not fill neighbours in.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
from astropy.nddata import NDData
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray
from photutils.background import Background2D
from photutils.geometry import circular_overlap_grid, elliptical_overlap_grid
from photutils.segmentation import SegmentationImage, deblend_sources, detect_sources
from photutils.utils.exceptions import NoDetectionsWarning
from scipy.optimize import brentq

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cells import mesh_cells
from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import Floats, Shapes
from dja_photplug.light.smoothing import convolve_pixels, gaussian_kernel
from dja_photplug.mosaic.blocks import native_pixels, null_pixels, variance_map
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BackgroundOptions, DetectOptions
from dja_photplug.sky.grid import Window
from dja_photplug.sources.detection import FOUND, Detection, place_sources, subtract_level
from dja_photplug.sources.segments import segment_shapes
from dja_photplug.sources.sums.apertures import KRON_EXTENT, Engine, exact_overlap
from dja_photplug.sources.sums.planes import Pixels, Sums

__all__ = ["PHOTUTILS", "detect_photutils", "mesh_background_2d"]

# Percentage of a mesh cell without pixels above which its neighbours stand in for it; what the edge of the image cuts
# off counts as such. On UDS the 99th percentile of the difference to sep is least here: 0.2 sigma, 0.4 with 10 or 30.
MOST_MASKED = 75

# Half-light radii, in pixels: about where growth curves are sampled first, and to what roots are found.
FIRST_RADIUS, RADIUS_PRECISION = 1.0, 1e-3


def mesh_background_2d(image: NDData, options: BackgroundOptions, mask: NDArray[np.bool_] | None = None) -> Background:
    """Return the sky level from `photutils.background.Background2D`, sigma-clipped modes in a mesh.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    options : BackgroundOptions
        An even ``mesh_filter`` counts as the next odd number.
    mask : ndarray of bool, optional
        (ny, nx), True for pixels to leave out beside the null ones, such as sources.

    Returns
    -------
    Background

    Raises
    ------
    PhotplugError
        Where no pixel is left.
    """
    null, cells = mesh_cells(image, options, mask)
    # Background2D warns of NaN even where it is masked.
    data = np.where(null, np.float32(0), native_pixels(image.data))
    settings = {"mask": null, "filter_size": options.mesh_filter | 1}
    try:
        mesh = Background2D(data, cells, exclude_percentile=MOST_MASKED, **settings)
    except ValueError:  # no cell has that many pixels left: take all that have any
        mesh = Background2D(data, cells, exclude_percentile=100, **settings)
    return Background(level=native_pixels(mesh.background))


# --- detection


def _signal(
    data: NDArray[np.float32], null: NDArray[np.bool_], image: NDData, options: DetectOptions
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the image that sources are found on, and the noise that its threshold is a multiple of.

    With the filter ``matched`` they are amplitude and error of the kernel fitted at each pixel.
    """
    kernel = gaussian_kernel(options.kernel)
    variance = variance_map(image, options.noise)
    if options.filter_type == "conv" or kernel is None:
        return convolve_pixels(data, kernel), np.sqrt(variance)
    weight = native_pixels(np.where(null, 0, 1 / variance))
    norm = convolve_pixels(weight, np.square(kernel))
    with np.errstate(divide="ignore", invalid="ignore"):
        amplitude, noise = convolve_pixels(data * weight, kernel) / norm, 1 / np.sqrt(norm)
    return native_pixels(amplitude), native_pixels(noise)


def _deblend(signal: NDArray[np.float32], segments: SegmentationImage, options: DetectOptions) -> SegmentationImage:
    """Divide segments into sources, with a progress bar where stderr is a terminal."""
    if options.contrast == 1 or options.n_levels == 1:  # a single level of sep is the isophote itself
        return segments
    if find_spec("skimage") is None:
        raise PhotplugError(
            "photutils deblends with scikit-image, which is not installed; install dja_photplug[photutils], or set "
            "contrast to 1 for no deblending"
        )
    with warnings.catch_warnings():
        # Says that a complex source was deblended at evenly spaced levels, which docs/engines.md names.
        warnings.filterwarnings("ignore", "The deblending mode of one or more", AstropyUserWarning)
        return deblend_sources(
            signal,
            segments,
            options.n_pixels,
            n_levels=options.n_levels,
            contrast=options.contrast,
            progress_bar=sys.stderr.isatty(),
        )


def _flag_deblended(segments: SegmentationImage, sources: SegmentationImage) -> NDArray[np.int64]:
    """Return the flag DEBLENDED of each source, given the segments before deblending."""
    first = np.zeros(sources.n_labels + 1, dtype=int)
    inside = np.flatnonzero(sources.data)
    first[sources.data.ravel()[inside]] = inside
    parent = segments.data.ravel()[first[1:]]
    return np.where(np.bincount(parent)[parent] > 1, SourceFlag.DEBLENDED.value, 0)


def detect_photutils(image: NDData, background: Background, options: Options) -> Detection:
    """Return the sources of an image, found by photutils: `detect_sources`, `deblend_sources`, `SourceCatalog`.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        With WCS, and the full weight as its uncertainty.
    background : Background
        Its level is taken off; the threshold is ``n_sigma`` times the noise of the weights, not of `background`.
    options : Options
        The group ``detect``; there is no cleaning.

    Returns
    -------
    Detection
        Without rows where nothing is above the threshold.

    Raises
    ------
    PhotplugError
        Where the image has no WCS or no uncertainty, or sources are to be deblended without scikit-image.
    """
    null = null_pixels(image)
    data = subtract_level(image, background, null)
    signal, noise = _signal(data, null, image, options.detect)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)  # an empty catalogue says it
        segments = detect_sources(signal, options.detect.n_sigma * noise, options.detect.n_pixels, mask=null)
    if segments is None:
        return place_sources(dict.fromkeys(FOUND, np.empty(0)), np.zeros(data.shape, dtype=np.int32), image.wcs)
    sources = _deblend(signal, segments, options.detect)
    # sep measures shapes on the convolved image too.
    convolved = (
        signal
        if options.detect.filter_type == "conv"
        else convolve_pixels(data, gaussian_kernel(options.detect.kernel))
    )
    found = segment_shapes(data, convolved, null, sources)
    found["flag"] = np.bitwise_or(found["flag"], _flag_deblended(segments, sources))
    labels = np.asarray(sources.data, dtype=np.int32)
    return place_sources(found, labels, image.wcs)


# --- photometry


def _extent(a: Floats, b: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Return half width and half height of ellipses."""
    cos, sin = np.cos(theta), np.sin(theta)
    return np.hypot(a * cos, b * sin), np.hypot(a * sin, b * cos)


def _truncation(shape: tuple[int, ...], shapes: Shapes, a: Floats, b: Floats, theta: Floats) -> NDArray[np.int64]:
    """Return the flag APER_TRUNCATED for the ellipses that reach over the edge of the image."""
    width, height = _extent(a, b, theta)
    over = (shapes.x - width < -0.5) | (shapes.x + width > shape[1] - 0.5)
    over |= (shapes.y - height < -0.5) | (shapes.y + height > shape[0] - 0.5)
    return np.where(over, SourceFlag.APER_TRUNCATED.value, 0).astype(np.int64)


def _box(shape: tuple[int, ...], x: float, y: float, width: float, height: float) -> Window:
    """Return the pixels that an aperture of these half widths touches, perhaps none."""
    x0, y0 = (max(0, int(np.floor(v - half + 0.5))) for v, half in ((x, width), (y, height)))
    x1, y1 = (min(n, int(np.floor(v + half + 0.5)) + 1) for v, half, n in ((x, width, shape[1]), (y, height, shape[0])))
    return slice(y0, max(y0, y1)), slice(x0, max(x0, x1))


def _weights(box: Window, x: float, y: float, a: float, b: float, theta: float) -> Floats:
    """Return the fraction of each pixel of `box` inside an ellipse."""
    rows, columns = box
    edges = (columns.start - 0.5 - x, columns.stop - 0.5 - x, rows.start - 0.5 - y, rows.stop - 0.5 - y)
    grid = (*edges, columns.stop - columns.start, rows.stop - rows.start)
    if a < RADIUS_PRECISION or 0 in grid[-2:]:  # photutils divides by them
        return np.zeros(grid[-2:][::-1])
    if a == b:
        return circular_overlap_grid(*grid, a, 1, 1)
    return elliptical_overlap_grid(*grid, a, b, theta, 1, 1)


def _taken(pixels: Pixels, box: Window, label: int) -> NDArray[np.bool_]:
    """Return the pixels of `box` that are null or a neighbour's."""
    null = pixels.null[box]
    if pixels.segmentation is None:
        return null
    segmentation = pixels.segmentation[box]
    return null | ((segmentation > 0) & (segmentation != label))


def _ellipses(
    pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats
) -> Iterator[tuple[Window, Floats, NDArray[np.bool_]]]:
    """Yield the box of each ellipse, the overlap with its pixels, and which of them are taken."""
    width, height = _extent(a, b, theta)
    table = (v.tolist() for v in (shapes.label, shapes.x, shapes.y, a, b, theta, width, height))
    for label, x, y, major, minor, angle, half_width, half_height in zip(*table, strict=True):
        box = _box(pixels.data.shape, x, y, half_width, half_height)
        yield box, _weights(box, x, y, major, minor, angle), _taken(pixels, box, label)


def _fill_sums(
    planes: tuple[NDArray[np.float32], ...], box: Window, weights: Floats, taken: NDArray[np.bool_]
) -> list[float]:
    """Return the weighted sum over each plane, with the mean for the pixels taken; NaN where all are."""
    clear = weights[~taken]
    area = clear.sum()
    if not area > 0:
        return [np.nan] * len(planes)
    return [weights.sum() / area * (clear @ plane[box][~taken]) for plane in planes]


@exact_overlap
def _sum_ellipses(pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats) -> Sums:
    same = pixels.background is pixels.variance
    planes = (pixels.data, pixels.variance) if same else (pixels.data, pixels.variance, pixels.background)
    sums = np.full((len(planes), len(shapes.x)), np.nan)
    flag = _truncation(pixels.data.shape, shapes, a, b, theta)
    for i, (box, weights, taken) in enumerate(_ellipses(pixels, shapes, a, b, theta)):
        flag[i] |= SourceFlag.APER_MASKED if weights[taken].any() else 0
        sums[:, i] = _fill_sums(planes, box, weights, taken)
    return Sums(flux=sums[0], total=sums[1], background=sums[-1].copy(), area=np.pi * a * b, flag=flag)


def _kron_radius(pixels: Pixels, shapes: Shapes) -> tuple[Floats, NDArray[np.int64]]:
    """Return the Kron radius by the definition of `SourceCatalog`, but for any shapes, and its flags."""
    reach = (KRON_EXTENT * shapes.a, KRON_EXTENT * shapes.b, shapes.theta)
    kron, flag = np.zeros(len(shapes.x)), _truncation(pixels.data.shape, shapes, *reach)
    for i, (box, _, taken) in enumerate(_ellipses(pixels, shapes, *reach)):
        dy, dx = np.ogrid[box]
        dy, dx, cos, sin = dy - shapes.y[i], dx - shapes.x[i], np.cos(shapes.theta[i]), np.sin(shapes.theta[i])
        radius = np.hypot((dx * cos + dy * sin) / shapes.a[i], (dy * cos - dx * sin) / shapes.b[i])
        inside = radius <= KRON_EXTENT
        clear = inside & ~taken
        light = pixels.data[box][clear].astype(float)
        moment, total = light @ radius[clear], light.sum()
        flag[i] |= SourceFlag.APER_MASKED if np.any(inside & taken) else 0
        if not clear.any():
            flag[i] |= SourceFlag.APER_ALL_MASKED
        elif moment <= 0 or total <= 0:
            flag[i] |= SourceFlag.APER_NON_POSITIVE
        else:
            kron[i] = moment / total
    return kron, flag


def _ring(shape: tuple[int, ...], x: float, y: float, inner: float, outer: float) -> tuple[Window, Floats]:
    """Return the pixels that a ring touches, and the fraction of each inside of it."""
    box = _box(shape, x, y, outer, outer)
    return box, _weights(box, x, y, outer, outer, 0) - _weights(box, x, y, inner, inner, 0)


def _half_light(pixels: Pixels, shapes: Shapes, flux: Floats, limit: Floats) -> Floats:
    """Return where the growth curve first crosses half of the flux, infinite where it does not within `limit`.

    As in sep neighbours take the mean of their ring, here a third of an octave wide, and a root within one is exact.
    """
    radius = np.full(len(flux), np.inf)
    rows = zip(*(v.tolist() for v in (shapes.label, shapes.x, shapes.y, flux, limit)), strict=True)
    for i, (label, x, y, whole, farthest) in enumerate(rows):
        if not whole > 0:
            continue

        def missing(outer: float, inner: float, rest: float, label: int = label, x: float = x, y: float = y) -> float:
            box, weights = _ring(pixels.data.shape, x, y, inner, outer)
            return rest - np.nan_to_num(_fill_sums((pixels.data,), box, weights, _taken(pixels, box, label))[0])

        steps = max(1, round(3 * np.log2(farthest / FIRST_RADIUS)))
        inner, rest = 0.0, whole / 2
        for outer in (farthest * 2 ** (-np.arange(steps, -1, -1) / 3)).tolist():
            left = missing(outer, inner, rest)
            if left <= 0:
                radius[i] = brentq(missing, inner, outer, args=(inner, rest), xtol=RADIUS_PRECISION)
                break
            inner, rest = outer, left
    return radius


def _average_annuli(
    pixels: Pixels, shapes: Shapes, masked: NDArray[np.bool_], inner: float, outer: float
) -> tuple[Floats, Floats]:
    mean, error = np.full((2, len(shapes.x)), np.nan)
    for i, (x, y) in enumerate(zip(shapes.x.tolist(), shapes.y.tolist(), strict=True)):
        box, weights = _ring(pixels.data.shape, x, y, inner, outer)
        clear = ~masked[box]
        weights *= clear
        area = weights.sum()
        if area > 0:
            # Without data there may be NaN; for rings this large, choosing pixels by index takes three times as long.
            mean[i] = np.sum(weights * np.where(clear, pixels.data[box], 0)) / area
            error[i] = np.sqrt(np.sum(weights * pixels.variance[box])) / area
    return mean, error


PHOTUTILS = Engine(
    sum_ellipses=_sum_ellipses,
    kron_radius=_kron_radius,
    half_light=_half_light,
    average_annuli=_average_annuli,
)
