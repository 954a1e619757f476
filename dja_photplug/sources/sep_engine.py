"""The engine ``sep``: background, sources and photometry by Source Extractor's algorithms as a library.

sep keeps global state and is not thread-safe: call these functions from one thread, and use processes for several
images at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import numpy as np
import sep
from astropy.nddata import NDData
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cleaning import find_wings
from dja_photplug.light.planes import (
    Floats,
    Shapes,
    convolve_pixels,
    sum_overlap,
)
from dja_photplug.mosaic.blocks import (
    NULL_VARIANCE,
    Plane,
    Planes,
    cached_rows,
    native_pixels,
    null_pixels,
    variance_map,
)
from dja_photplug.options.stages import BackgroundOptions, DetectOptions, Options
from dja_photplug.parallel.islands import Islands
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.parallel.tiles import make_window, widen
from dja_photplug.parallel.workers import Map, shared_map
from dja_photplug.sky.grid import Window
from dja_photplug.sources.apertures import KRON_EXTENT, Engine, Pixels, Sums
from dja_photplug.sources.detection import (
    FOUND,
    NO_SKY,
    Background,
    Detection,
    cell_size,
    clean_detection,
    gaussian_kernel,
    place_sources,
    subtract_level,
)

__all__ = ["SEP", "Mesh", "detect_sep", "measure_mesh", "mesh_background"]

# An object with more sub-objects at one level is kept whole: deblending 12,600 of them took 13 s, 3,300 took 1 s.
MOST_SUB_OBJECTS = 4096

# Pixels around a blend, by which it is seen as in the whole image: half of a kernel, and one.
BLEND_RIM = 4

# Part of a cell that must be left for it to tell the sky, and cells that are measured in one piece of work.
GOOD_CELL, CELLS_AT_A_TIME = 0.5, 2000


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
    mesh = measure_mesh(image, cell_size(image, options), options.mesh_filter, mask, parallel=shared_map())
    return Background(level=mesh.level(out=new_plane(mesh.shape, np.float32)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """A sky as cells of a mesh, from which its level is made where it is needed.

    Attributes
    ----------
    nodes : ndarray
        (rows, columns) of cells, float32: their levels, filtered.
    cells : tuple of int
        Height and width of a cell in pixels.
    shape : tuple of int
        Of the image, (ny, nx).

    Notes
    -----
    `level` is what `sep.Background.back` gives, to the rounding of float32, its ways included: nodes lie half a pixel
    below the middles of cells, and the second derivatives of its splines are not quite those of a natural spline.
    """

    nodes: NDArray[np.float32]
    cells: tuple[int, int]
    shape: tuple[int, int]

    def level(self, rows: slice = slice(None), out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the level of the sky in some rows.

        Parameters
        ----------
        rows : slice, optional
            Of the image; all by default.
        out : ndarray, optional
            (rows, nx) float32, where to put it.

        Returns
        -------
        ndarray
            (rows, nx) float32.
        """
        first, last, _ = rows.indices(self.shape[0])
        level = np.empty((last - first, self.shape[1]), np.float32) if out is None else out
        curves = np.stack([self.nodes, _bend(self.nodes.T).T if len(self.nodes) > 1 else np.zeros_like(self.nodes)])
        bends = np.stack([_bend(curve) for curve in curves])
        for part in cached_rows(level.shape):
            at = (first + np.arange(part.start, part.stop, dtype=np.float32)) / np.float32(self.cells[0]) - 0.5
            low = np.clip(at.astype(int), 0, max(len(self.nodes) - 2, 0))
            high = np.minimum(low + 1, len(self.nodes) - 1)
            weights = _weigh_nodes(at - low)[:, None, :, None]
            ends = (curves[:, low], curves[:, high], bends[:, low], bends[:, high])
            nodes, bend = sum(weight * end for weight, end in zip(weights, ends, strict=True)).astype(np.float32)
            self._draw_rows(nodes, bend, level[part])
        return level

    def _draw_rows(self, nodes: NDArray[np.float32], bend: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Draw the curves through nodes of rows that bend so much there, (rows, columns), into (rows, nx)."""
        (_, count), nx, width = nodes.shape, out.shape[1], self.cells[1]
        if count == 1:
            out[:] = nodes
            return
        ends = np.stack([nodes[:, :-1], nodes[:, 1:], bend[:, :-1], bend[:, 1:]], axis=-1)
        # Pixels at which the curve between the next two nodes begins; the first and the last one go on to the edges.
        begins = [0, *range(width + width // 2, (count - 2) * width + width // 2 + 1, width), nx]
        step = np.float32(1 / width)
        first, later = (step - 1) / 2, (width + 1) % 2 * step / 2
        for i, start in [(0, first), (count - 2, later)][: count - 1]:
            pixels = slice(begins[i], begins[i + 1])
            np.matmul(ends[:, i], _weigh_steps(start, step, pixels.stop - pixels.start), out=out[:, pixels])
        if count > 3:
            between = out[:, begins[1] : begins[-2]].reshape(len(out), count - 3, width)
            np.matmul(ends[:, 1:-1], _weigh_steps(later, step, width), out=between)


def _weigh_nodes(at: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the weights of the level and the bend of both nodes, (4, n), at places between them, 0 to 1."""
    rest = 1 - at
    return np.stack([rest, at, rest**3 - rest, at**3 - at])


def _weigh_steps(start: np.floating, step: np.floating, count: int) -> NDArray[np.float32]:
    """Return the weights at places so far apart, whose rounding errors add up as in sep."""
    places = np.full(count, step, np.float32)
    places[0] = start
    return _weigh_nodes(np.cumsum(places, dtype=np.float32)).astype(np.float32)


def _bend(nodes: NDArray[np.floating]) -> Floats:
    """Return a sixth of the second derivative of a curve through nodes along the first axis, 0 at both ends.

    For a natural spline the last line would not divide what comes from the next node.
    """
    values = nodes.astype(float)
    bend, factor = np.zeros_like(values), 0.0
    factors = [factor]
    for i in range(1, len(values) - 1):
        factor = -1 / (factor + 4)
        factors.append(factor)
        bend[i] = factor * (bend[i - 1] - 6 * (values[i + 1] + values[i - 1] - 2 * values[i]))
    for i in range(len(values) - 2, 0, -1):
        bend[i] = (factors[i] * bend[i + 1] + bend[i]) / 6
    return bend


def measure_mesh(
    image: NDData,
    cells: tuple[int, int],
    size: int,
    mask: NDArray[np.bool_] | None = None,
    *,
    parallel: Map = map,
) -> Mesh:
    """Return the mesh of the sky of an image, each cell by itself.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    cells : tuple of int
        Height and width of the cells in pixels; see `dja_photplug.sources.detection.cell_size`.
    size : int
        Cells across the median filter; an even number counts as the next odd one.
    mask : ndarray of bool, optional
        (ny, nx), pixels to leave out beside the null ones.
    parallel : Map, optional
        Does the work of rows of cells.

    Returns
    -------
    Mesh
        A cell of which less than half is left takes the mean of the nearest others.

    Raises
    ------
    PhotplugError
        Where no pixel is left.
    """
    ny, nx = image.data.shape
    height, width = cells
    step = height * max(1, CELLS_AT_A_TIME // (-(-nx // width)))
    bands = [slice(start, min(start + step, ny)) for start in range(0, ny, step)]
    found = list(parallel(partial(_measure_cells, Planes.of(image), mask, cells), bands))
    if not any(clear for _, clear in found):
        raise PhotplugError(NO_SKY)
    nodes = np.concatenate([levels for levels, _ in found])
    return Mesh(nodes=_filter_cells(_fill_cells(nodes), size), cells=cells, shape=(ny, nx))


def _measure_cells(
    planes: Planes, mask: NDArray[np.bool_] | None, cells: tuple[int, int], band: slice
) -> tuple[NDArray[np.float32], int]:
    """Return the modes of the cells in a band of rows, NaN where too little is left, and how many pixels are."""
    (height, width), nx = cells, planes.data.shape[1]
    count, last = divmod(nx, width)
    modes, clear = np.full((-(-(band.stop - band.start) // height), count + (last > 0)), np.nan, np.float32), 0
    for row, start in zip(modes, range(band.start, band.stop, height), strict=True):
        part = planes[start : min(start + height, band.stop)]
        null = part.null()
        if mask is not None:
            null |= mask[start : min(start + height, band.stop)]
        data = native_pixels(part.data)
        # Contiguous, as sep takes them; the last cell is narrower where it is cut off.
        for columns in (slice(0, count * width), slice(count * width, nx)):
            if columns.stop > columns.start:
                shape = (len(data), -1, width if columns.start == 0 and count else last)
                pixels, out = (plane[:, columns].reshape(shape).swapaxes(0, 1).copy() for plane in (data, null))
                left = out[0].size - np.count_nonzero(out, axis=(1, 2))
                clear += int(left.sum())
                for i in np.flatnonzero(left >= GOOD_CELL * out[0].size):
                    cell = sep.Background(pixels[i], mask=out[i], bw=shape[2], bh=shape[0], fw=1, fh=1)
                    row[columns.start // width + i] = cell.globalback
    return modes, clear


def _fill_cells(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return levels with the mean of the nearest known ones, of which several may be as near, where they are NaN."""
    known = np.isfinite(levels)
    if known.all() or not known.any():
        return np.nan_to_num(levels)
    tree, values = KDTree(np.argwhere(known)), np.append(levels[known], np.float32(0))
    empty = np.argwhere(~known)
    filled, rest, most = np.empty(len(empty), np.float32), np.arange(len(empty)), 4
    while len(rest):
        apart, index = tree.query(empty[rest], most)
        near = apart <= apart[:, :1] * (1 + 1e-9)
        filled[rest] = np.where(near, values[index], 0).sum(axis=1) / near.sum(axis=1)
        rest, most = rest[near.all(axis=1)], 2 * most
    levels = levels.copy()
    levels[~known] = filled
    return levels


def _filter_cells(levels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the medians of levels in windows, which are smaller at the edges so that each is in the middle of its."""
    filtered = np.empty_like(levels)
    reach = [np.minimum(size // 2, np.minimum(np.arange(n), np.arange(n)[::-1])) for n in levels.shape]
    for y in np.unique(reach[0]).tolist():
        for x in np.unique(reach[1]).tolist():
            rows, columns = np.flatnonzero(reach[0] == y), np.flatnonzero(reach[1] == x)
            windows = sliding_window_view(levels, (2 * y + 1, 2 * x + 1))[np.ix_(rows - y, columns - x)]
            filtered[np.ix_(rows, columns)] = np.median(windows, axis=(2, 3))
    return filtered


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
    mask: NDArray[np.bool_]
    minarea: int
    filter_kernel: NDArray[np.float32] | None
    filter_type: str
    deblend_nthresh: int
    deblend_cont: float
    clean: bool


def _try_extract(data: NDArray[np.float32], settings: _Settings) -> Extraction | None:
    """Extract with limits raised as needed; None where an object is too complex even so."""
    while True:
        try:
            return sep.extract(data, segmentation_map=True, **settings)
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
    box = tuple(slice(max(row[f"{axis}min"] - 3, 0), row[f"{axis}max"] + 4) for axis in "yx")
    variance, mask = np.ascontiguousarray(settings["var"][box]), np.ascontiguousarray(settings["mask"][box])
    cut: _Settings = {**settings, "var": variance, "mask": mask}
    return _try_extract(*_without(np.ascontiguousarray(data[box]), cut, labels[box] != index + 1)) is None


def _extract(data: NDArray[np.float32], settings: _Settings) -> Extraction:
    """Extract all sources; what is too complex to deblend is kept whole, with the flag NOT_DEBLENDED."""
    with _sep_limits():
        found = _try_extract(data, settings)
        if found is not None:
            return _settle_blends(data, settings, *found)
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
        objects, segmentation = _settle_blends(*without, *others)
    kept = rows[whole]
    kept["flag"] |= SourceFlag.NOT_DEBLENDED
    number[1:][whole] = len(objects) + 1 + np.arange(len(whole))
    return np.concatenate([objects, kept]), np.maximum(segmentation, number[labels])


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
    settled = lookup[labels]
    for window, own, theirs in placed:
        settled[window][own] = number[theirs[own]]
    return np.concatenate(parts)[place], settled


def _extract_alone(
    data: NDArray[np.float32], settings: _Settings, window: Window, own: NDArray[np.bool_]
) -> Extraction | None:
    """Return the sources of the island `own` in a window, on the whole image, and their labels there, from 1."""
    cut: _Settings = {
        **settings,
        "var": np.ascontiguousarray(settings["var"][window]),
        "mask": np.ascontiguousarray(settings["mask"][window]),
    }
    sep.set_extract_pixstack(own.size + 2)
    found = _try_extract(np.ascontiguousarray(data[window]), cut)
    if found is None:
        return None
    rows, labels = found
    there = np.unique(labels[own])
    there = there[there > 0]
    number = np.zeros(len(rows) + 1, np.int32)
    number[there] = np.arange(1, len(there) + 1)
    rows = rows[there - 1]
    for axis, part in zip("yx", window, strict=True):
        rows[axis] += part.start
    # What the edges of the window cut is none of theirs.
    return rows, np.where(own, number[labels], 0)


def _settings(image: NDData, options: DetectOptions) -> _Settings:
    return {
        "thresh": options.n_sigma,
        "var": variance_map(image, options.noise),
        "mask": null_pixels(image),
        "minarea": options.n_pixels,
        "filter_kernel": gaussian_kernel(options.kernel),
        "filter_type": options.filter_type,
        "deblend_nthresh": options.n_levels,
        "deblend_cont": options.contrast,
        "clean": False,  # see light/cleaning.py
    }


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
    settings = _settings(image, options.detect)
    data = subtract_level(image, background, settings["mask"])
    objects, segmentation = _extract(data, settings)
    found = place_sources({name: objects[name] for name in FOUND}, segmentation, image.wcs)
    if not options.detect.clean:
        return found
    threshold = np.float32(settings["thresh"]) * np.sqrt(settings["var"])
    smooth = convolve_pixels(data, settings["filter_kernel"])
    wings = find_wings(objects, segmentation, data, smooth, threshold, settings["minarea"], options.detect.clean)
    return clean_detection(found, wings)


# --- photometry


def _neighbours(pixels: Pixels, shapes: Shapes) -> dict[str, Plane]:
    """Return sep's arguments that take null pixels and neighbours out.

    Without `mask` sep zeroes neighbours, with one it fills them with the mean of the aperture.
    """
    if pixels.segmentation is None:
        return {"mask": pixels.null}
    return {"mask": pixels.null, "segmap": pixels.segmentation, "seg_id": shapes.label}


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


def _half_light(pixels: Pixels, shapes: Shapes, flux: Floats, limit: Floats) -> Floats:
    radius, _ = sep.flux_radius(
        pixels.data, shapes.x, shapes.y, limit, 0.5, normflux=flux, subpix=5, **_neighbours(pixels, shapes)
    )
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
