"""The engine ``sep``: background, sources and photometry by Source Extractor's algorithms as a library.

sep keeps global state and is not thread-safe: call these functions from one thread, and use processes for several
images at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypedDict

import numpy as np
import sep
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable, hstack
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import DETAIL_COLUMNS, dress_table
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cells import cell_size, measure_mesh
from dja_photplug.light.cleaning import find_wings
from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import Floats, Shapes, sum_overlap
from dja_photplug.light.smoothing import gaussian_kernel
from dja_photplug.mosaic.blocks import NULL_VARIANCE, Plane, native_pixels, null_pixels, variance_map
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BackgroundOptions, DetectOptions
from dja_photplug.parallel.islands import Islands, relabel
from dja_photplug.parallel.tiles import make_window, widen
from dja_photplug.parallel.workers import shared_map
from dja_photplug.sky.grid import Window
from dja_photplug.sources.detection import FOUND, Detection, clean_detection, place_sources, subtract_level
from dja_photplug.sources.sums.apertures import KRON_EXTENT, Engine, exact_overlap
from dja_photplug.sources.sums.planes import Pixels, Sums

__all__ = ["SEP", "detect_sep", "measure_error_scale", "mesh_background"]

# An object with more sub-objects at one level is kept whole: deblending 12,600 of them took 13 s, 3,300 took 1 s.
MOST_SUB_OBJECTS = 4096

# Pixels around a blend, by which it is seen as in the whole image: half of a kernel, and one.
BLEND_RIM = 4

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


@contextmanager
def _sep_limits() -> Iterator[None]:
    """Put sep's global limits back at the end."""
    stack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    try:
        yield
    finally:
        sep.set_extract_pixstack(stack)
        sep.set_sub_object_limit(sub_objects)


Extraction = tuple[NDArray[np.void], NDArray[np.int32]]


class _Settings(TypedDict):
    """Arguments of `sep.extract`."""

    thresh: float
    var: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    minarea: int
    filter_kernel: NDArray[np.float32] | None
    filter_type: str
    deblend_nthresh: int
    deblend_cont: float
    clean: bool
    clean_param: float


def _try_extract(data: NDArray[np.float32], settings: _Settings) -> Extraction | None:
    """Extract with limits raised as needed; None where an object is too complex even so."""
    while True:
        try:
            return sep.extract(data, segmentation_map=True, **settings)
        except MemoryError:
            raise
        except Exception as error:  # sep raises nothing more specific
            stack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
            if "active object pixels" in str(error) and stack <= data.size:
                # One more than all pixels can never be full.
                sep.set_extract_pixstack(min(4 * stack, data.size + 2))
            elif "limit of sub-objects" in str(error):
                if sub_objects >= MOST_SUB_OBJECTS:
                    return None
                sep.set_sub_object_limit(min(4 * sub_objects, MOST_SUB_OBJECTS))
            else:
                raise PhotplugError(f"sep cannot extract sources ({error}); check the detection options") from error


def _without(
    data: NDArray[np.float32], settings: _Settings, pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], _Settings]:
    """Return data and settings with which `pixels` are not detected.

    A mask would zero their light, and with it that in the convolution of their neighbours. So their variance is
    raised; but a matched filter then judges them by the pixels around them, and only a hole in the data stops it,
    which takes 3 pixels at the rim of a neighbour that close.
    """
    if settings["filter_type"] == "matched":
        return np.where(pixels, -(NULL_VARIANCE**0.5), data), settings
    return data, {**settings, "var": np.where(pixels, NULL_VARIANCE, settings["var"])}


def _is_too_complex(
    data: NDArray[np.float32], settings: _Settings, labels: NDArray[np.int32], index: int, row: np.void
) -> bool:
    # sep's limits are inclusive; 3 pixels more on each side keep the convolution as it is.
    rows, columns = (slice(max(row[f"{axis}min"] - 3, 0), row[f"{axis}max"] + 4) for axis in "yx")
    part, cut = _cut(data, settings, (rows, columns))
    return _try_extract(*_without(part, cut, labels[rows, columns] != index + 1)) is None


def _cut(data: NDArray[np.float32], settings: _Settings, window: Window) -> tuple[NDArray[np.float32], _Settings]:
    """Return a part of data and settings, contiguous."""
    mask = None if settings["mask"] is None else np.ascontiguousarray(settings["mask"][window])
    variance = np.ascontiguousarray(settings["var"][window])
    return np.ascontiguousarray(data[window]), {**settings, "var": variance, "mask": mask}


def _extract(data: NDArray[np.float32], settings: _Settings, *, alone: bool) -> Extraction:
    """Extract all sources, each blend alone or all together.

    What is too complex to deblend is kept whole, with the flag NOT_DEBLENDED.
    """
    settle = _settle_blends if alone else _keep_blends
    with _sep_limits():
        found = _try_extract(data, settings)
        if found is not None:
            return settle(data, settings, *found)
        blends = _try_extract(data, {**settings, "deblend_nthresh": 1})
        assert blends is not None  # a single level is not deblended
        rows, labels = blends
        # A smaller object cannot hold as many sub-objects of `minarea` pixels as the limit.
        candidates: list[int] = np.flatnonzero(
            rows["npix"] >= sep.get_sub_object_limit() * settings["minarea"]
        ).tolist()
        whole = [i for i in candidates if _is_too_complex(data, settings, labels, i, rows[i])]
        number = np.zeros(len(rows) + 1, dtype=np.int32)
        number[1:][whole] = 1
        without = _without(data, settings, number[labels] > 0)
        others = _try_extract(*without)
        if others is None:  # with a matched filter an object alone can differ from the same among others
            whole = list(range(len(rows)))
            others = rows[:0], np.zeros_like(labels)
        objects, segmentation = settle(*without, *others)
    kept = rows[whole]
    kept["flag"] |= SourceFlag.NOT_DEBLENDED
    number[1:][whole] = len(objects) + 1 + np.arange(len(whole))
    return np.concatenate([objects, kept]), np.maximum(segmentation, number[labels])


def _keep_blends(
    data: NDArray[np.float32], settings: _Settings, rows: NDArray[np.void], labels: NDArray[np.int32]
) -> Extraction:
    """Return what sep made of all blends, one after the other."""
    return rows, labels


def _settle_blends(
    data: NDArray[np.float32], settings: _Settings, rows: NDArray[np.void], labels: NDArray[np.int32]
) -> Extraction:
    """Extract each blend again, alone.

    sep shares the faint pixels of a blend out by random numbers, which go on from one blend to the next: what it makes
    of one would depend on all that were before it in the image, or in the tile.
    """
    merged = np.append(False, rows["flag"] & SourceFlag.DEBLENDED.value > 0)
    if not merged.any():
        return rows, labels
    islands = Islands.of(labels)
    blended = np.zeros(len(islands.number), bool)
    blended[islands.number[merged[: len(islands.number)]]] = True
    # Each is at the place of its first part in the order that sep found them in.
    first = np.arange(1, len(rows) + 1)
    single = ~blended[islands.number[first]]
    parts, keys = [rows[single]], [first[single]]
    placed: list[tuple[tuple[slice, slice], NDArray[np.bool_], NDArray[np.int32]]] = []
    count = np.count_nonzero(single)
    order = np.argsort(islands.number[first], kind="stable")
    groups = np.split(first[order], np.flatnonzero(np.diff(islands.number[first][order])) + 1)
    for group in groups:
        if single[group[0] - 1]:
            continue
        low, high = islands.box[group, :2].min(axis=0), islands.box[group, 2:].max(axis=0)
        window = widen(make_window(low, high), BLEND_RIM, labels.shape)
        own = islands.number[labels[window]] == islands.number[group[0]]
        found = _extract_alone(data, settings, window, own)
        if found is None:
            return rows, labels
        again, theirs = found
        parts.append(again)
        keys.append(np.full(len(again), group[0]))
        placed.append((window, own, np.where(theirs > 0, theirs + count, 0).astype(np.int32)))
        count += len(again)
    key = np.concatenate(keys)
    place = np.argsort(key, kind="stable")
    number = np.zeros(count + 1, np.int32)
    number[1:][place] = np.arange(1, count + 1)
    lookup = np.zeros(len(islands.number), np.int32)
    lookup[first[single]] = number[1 : 1 + np.count_nonzero(single)]
    settled = relabel(labels, lookup)
    for window, own, theirs in placed:
        settled[window][own] = number[theirs[own]]
    return np.concatenate(parts)[place], settled


def _extract_alone(
    data: NDArray[np.float32], settings: _Settings, window: Window, own: NDArray[np.bool_]
) -> Extraction | None:
    """Return the sources of the island `own` in a window, on the whole image, and their labels there, from 1."""
    sep.set_extract_pixstack(own.size + 2)
    found = _try_extract(*_cut(data, settings, window))
    if found is None:
        return None
    rows, labels = found
    there = np.unique(labels[own])
    there = there[there > 0]
    number = np.zeros(len(rows) + 1, np.int32)
    number[there] = np.arange(1, len(there) + 1)
    rows = rows[there - 1]
    for axis, part in zip("yx", window, strict=True):
        for name in (axis, f"{axis}min", f"{axis}max", f"{axis}peak", f"{axis}cpeak"):
            rows[name] += part.start
    # What the edges of the window cut is none of theirs.
    return rows, np.where(own, number[labels], 0)


def _settings(image: NDData, null: NDArray[np.bool_], options: DetectOptions) -> _Settings:
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
    objects, segmentation = _extract(data, settings, alone=options.detect.extraction == "blends")
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
