"""The engine ``sep``: background, sources and photometry by Source Extractor's algorithms as a library.

sep keeps global state and is not thread-safe: call these functions from one thread, and use processes for several
images at a time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sep
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable, hstack
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import DETAIL_COLUMNS, dress_table
from dja_photplug.engines.sep_extract import Settings, extract_sources
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cells import cell_size, measure_mesh
from dja_photplug.light.cleaning import find_wings
from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import Floats, Shapes, sum_overlap
from dja_photplug.light.smoothing import gaussian_kernel
from dja_photplug.mosaic.blocks import Plane, native_pixels, null_pixels, variance_map
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BackgroundOptions, DetectOptions
from dja_photplug.parallel.workers import shared_map
from dja_photplug.sources.detection import FOUND, Detection, clean_detection, place_sources, subtract_level
from dja_photplug.sources.sums.apertures import KRON_EXTENT, Engine, exact_overlap
from dja_photplug.sources.sums.planes import Pixels, Sums

__all__ = ["SEP", "detect_sep", "measure_error_scale", "mesh_background"]

# Rings of sep's curve of growth, and semi-major axes within which most sources have half of their light.
RINGS, HALF_LIGHT_REACH = 64, 2.2

# Source Extractor's gauss_3.0_7x7.conv to the four digits that the archive takes of it.
_QUARTER = [[9511, 7105, 2960, 687], [7105, 5307, 2211, 513], [2960, 2211, 921, 213], [687, 513, 213, 49]]
KERNEL_3 = np.pad(np.array(_QUARTER) / 10**4, ((3, 0), (3, 0)), mode="reflect").astype(np.float32)


def mesh_background(image: NDData, options: BackgroundOptions, mask: NDArray[np.bool_] | None = None) -> Background:
    """Return the sky level from sigma-clipped modes in a mesh, median-filtered and splined (Source Extractor).

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    options : BackgroundOptions
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
    cells = cell_size(image, options)
    return Background(level=measure_mesh(image, cells, options.mesh_filter, mask, parallel=shared_map()))


def measure_error_scale(image: NDData, options: BackgroundOptions) -> float:
    """Return by what the errors of an image are to be multiplied to agree with the scatter of its pixels.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    options : BackgroundOptions
        Of the mesh in whose cells the scatter is measured, as `sep.Background.rms`.

    Returns
    -------
    float
        Median of scatter over error of all pixels with data.

    Raises
    ------
    PhotplugError
        Where the scatter or the errors are not known.
    """
    null, (height, width), size = null_pixels(image), cell_size(image, options), options.mesh_filter
    data = np.where(null, np.float32(0), native_pixels(image.data))
    scatter = sep.Background(data, mask=null, bw=width, bh=height, fw=size, fh=size).rms()[~null]
    scale = float(np.median(scatter / np.sqrt(variance_map(image)[~null]))) if len(scatter) else 0.0
    if not 0 < scale < np.inf:
        raise PhotplugError(f"option rescale_weights: the pixel scatter is {scale:g} times the error; leave it at no")
    return scale


def _settings(image: NDData, null: NDArray[np.bool_], options: DetectOptions) -> Settings:
    whole = options.extraction == "whole"
    return {
        "thresh": options.n_sigma,
        "var": variance_map(image, options.noise),
        "mask": null if null.any() else None,  # which sep looks at in an eighth of its time
        "minarea": options.n_pixels,
        "filter_kernel": KERNEL_3 if whole and options.kernel == 3 else gaussian_kernel(options.kernel),
        "filter_type": options.filter_type,
        "deblend_nthresh": options.n_levels,
        "deblend_cont": options.contrast,
        "clean": whole and options.clean > 0,  # else see light/cleaning.py
        "clean_param": options.clean,
    }


def _describe(objects: NDArray[np.void], image: NDData) -> QTable:
    """Return what sep tells of its objects beside positions and shapes."""
    microjansky = u.Unit(image.unit).to(u.uJy)
    columns = {
        spec.name: objects[spec.name] * microjansky if spec.unit == "uJy" else objects[spec.name]
        for spec in DETAIL_COLUMNS
    }
    return dress_table(columns, DETAIL_COLUMNS)


def detect_sep(image: NDData, background: Background, options: Options) -> Detection:
    """Return the sources of an image, found and deblended by sep (Source Extractor's algorithms).

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        With WCS, and the full weight as its uncertainty.
    background : Background
        Its level is taken off; the threshold is ``n_sigma`` times the noise of the weights, not of `background`.
    options : Options
        The group ``detect``.

    Returns
    -------
    Detection
        Without rows where nothing is above the threshold.

    Raises
    ------
    PhotplugError
        Where the image has no WCS or no uncertainty.
    """
    null = null_pixels(image)
    settings = _settings(image, null, options.detect)
    data = subtract_level(image, background, null)
    objects, segmentation = extract_sources(data, settings, alone=options.detect.extraction == "blends")
    found = place_sources({name: objects[name] for name in FOUND}, segmentation, image.wcs)
    if options.details:
        found = replace(found, sources=hstack([found.sources, _describe(objects, image)]))
    if not options.detect.clean or settings["clean"]:
        return found
    variance, kernel = settings["var"], settings["filter_kernel"]
    wings = find_wings(objects, segmentation, data, variance, kernel, options.detect)
    return clean_detection(found, wings)


# --- photometry


def _neighbours(pixels: Pixels, shapes: Shapes) -> dict[str, Plane]:
    """Return sep's arguments that take null pixels and neighbours out.

    Without `mask` sep zeroes neighbours, with one it fills them with the mean of the aperture.
    """
    if pixels.segmentation is None:
        return {"mask": pixels.null}
    return {"mask": pixels.null, "segmap": pixels.segmentation, "seg_id": shapes.label}


@exact_overlap
def _sum_ellipses(pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats) -> Sums:
    settings = _neighbours(pixels, shapes)
    flux, error, flag = sum_overlap(pixels.data, shapes, a, b, theta, var=pixels.variance, **settings)
    total = background = np.square(error)
    if pixels.background is not pixels.variance:
        background = sum_overlap(pixels.background, shapes, a, b, theta, **settings)[0]
    return Sums(flux=flux, total=total, background=background, area=np.pi * a * b, flag=flag)


def _kron_radius(pixels: Pixels, shapes: Shapes) -> tuple[Floats, NDArray[np.int64]]:
    where = (shapes.x, shapes.y, shapes.a, shapes.b, shapes.theta, KRON_EXTENT)
    return sep.kron_radius(pixels.data, *where, **_neighbours(pixels, shapes))


def _find_half_light(pixels: Pixels, shapes: Shapes, flux: Floats, limit: Floats) -> Floats:
    radius, _ = sep.flux_radius(
        pixels.data, shapes.x, shapes.y, limit, 0.5, normflux=flux, subpix=5, **_neighbours(pixels, shapes)
    )
    return radius


def _half_light(pixels: Pixels, shapes: Shapes, flux: Floats, limit: Floats) -> Floats:
    # What sep gives, in a third of its time: it goes between two of RINGS sums up to the limit, where few sources have
    # light. So it is asked about where that is in a smaller circle, and then the two sums around that are taken.
    reach = np.fmin(HALF_LIGHT_REACH * shapes.a + 0.5, limit)
    radius = _find_half_light(pixels, shapes, flux, reach)
    width = limit / RINGS
    ring = np.floor(radius / width)
    circles = (width * np.maximum(ring, 0.5), width * (ring + 1))
    inner, outer = (
        sep.sum_circle(pixels.data, shapes.x, shapes.y, each, subpix=5, **_neighbours(pixels, shapes))
        for each in circles
    )
    low, high, half = np.where(ring > 0, inner[0], 0), outer[0], flux / 2
    # Masked pixels count in each ring by itself, so that sums up to a radius do not tell.
    known = (radius < reach) & (low < half) & (half <= high) & (outer[2] & SourceFlag.APER_MASKED.value == 0)
    radius[known] = (width * (ring + (half - low) / np.where(known, high - low, 1)))[known]
    rest = np.flatnonzero(~known & (reach < limit))
    if len(rest):
        radius[rest] = _find_half_light(pixels, shapes[rest], flux[rest], limit[rest])
    return radius


def _average_annuli(
    pixels: Pixels, shapes: Shapes, masked: NDArray[np.bool_], inner: float, outer: float
) -> tuple[Floats, Floats]:
    where = (shapes.x, shapes.y, inner, outer)
    clear = (~masked).view(np.uint8)
    # With a mask sep scales sums to the annulus on the image, which the sum of ones tells; without it counts.
    total, error, _ = sep.sum_circann(pixels.data, *where, var=pixels.variance, mask=masked, subpix=0)
    area, _, _ = sep.sum_circann(clear, *where, mask=masked, subpix=0)
    count, _, _ = sep.sum_circann(clear, *where, subpix=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / area, error / np.sqrt(area * count)


SEP = Engine(
    sum_ellipses=_sum_ellipses,
    kron_radius=_kron_radius,
    half_light=_half_light,
    average_annuli=_average_annuli,
)
