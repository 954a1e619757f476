"""The planes of an image as detection and photometry take them: pixels, variance, where data and where sources are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import sep
from astropy.nddata import InverseVariance, NDData
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, median_filter
from scipy.stats import median_abs_deviation

from dja_photplug.errors import PhotplugError
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import Scalar

__all__ = [
    "FLATTEST",
    "MASKS",
    "NULL_VARIANCE",
    "Flags",
    "Floats",
    "Plane",
    "Shapes",
    "center_sky",
    "convolve_pixels",
    "mask_sources",
    "measure_segments",
    "measure_sky",
    "native_pixels",
    "null_pixels",
    "sum_overlap",
    "variance_map",
    "weigh_segments",
]

# sep's own stand-in for infinity; float32 holds it, and its root and products with weights stay finite.
NULL_VARIANCE = np.float32(1e30)

CONVOLVED_ROWS = 64  # at a time
BLOCK = 1 << 22  # pixels of segments that are summed at a time


def native_pixels(array: ArrayLike) -> NDArray[np.float32]:
    """Return the pixels as sep takes them.

    Parameters
    ----------
    array : array_like
        Of any type and byte order.

    Returns
    -------
    ndarray
        Of its shape, native C-contiguous float32; the same array where it is already.
    """
    return np.ascontiguousarray(array, dtype=np.float32)


def _weight(image: NDData, kind: str) -> NDArray[np.float32]:
    background = getattr(image, "background_weight", None)
    if kind == "background" and background is not None:
        return native_pixels(background)
    if image.uncertainty is None:
        raise PhotplugError("the image has no uncertainty; load it with its weight, or set an InverseVariance")
    if isinstance(image.uncertainty, InverseVariance):
        return native_pixels(image.uncertainty.array)
    with np.errstate(divide="ignore"):  # an error of 0 becomes infinite weight, which counts as null
        return native_pixels(image.uncertainty.represent_as(InverseVariance).array)


def null_pixels(image: NDData) -> NDArray[np.bool_]:
    """Return the pixels that hold no data: masked, without positive finite weight, or not finite.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.

    Returns
    -------
    ndarray of bool
        (ny, nx).

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    weight = _weight(image, "full")
    null = new_plane(weight.shape, np.bool_)
    np.logical_not(weight > 0, out=null)
    null |= ~np.isfinite(weight)
    null |= ~np.isfinite(image.data)
    if image.mask is not None:
        null |= image.mask
    return null


def variance_map(image: NDData, kind: str = "full") -> NDArray[np.float32]:
    """Return the variance of each pixel, in the squared unit of the image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight; without the attribute ``background_weight`` all variance is background.
    kind : {'full', 'background'}, optional
        With or without the Poisson noise of the sources.

    Returns
    -------
    ndarray
        (ny, nx) float32; 1e30 where the weight is null, never 0, infinite or NaN.

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    weight = _weight(image, kind)
    variance = new_plane(weight.shape, np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        np.reciprocal(weight, out=variance)
    # NaN fails both comparisons; without a mask the division takes a third of the time.
    np.copyto(variance, NULL_VARIANCE, where=~((variance > 0) & (variance < NULL_VARIANCE)))
    return variance


def convolve_pixels(data: NDArray[np.float32], kernel: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return the pixels convolved with a kernel; 0 is assumed off the image.

    Parameters
    ----------
    data : ndarray
        (ny, nx), finite.
    kernel : ndarray or None
        Of odd sides, the product of a column and a row, as a Gaussian is.

    Returns
    -------
    ndarray
        (ny, nx); the same array without a kernel.
    """
    if kernel is None:
        return data
    column, row = kernel.sum(axis=1)[::-1], kernel.sum(axis=0)[::-1] / kernel.sum()
    (ny, nx), y, x = data.shape, len(column) // 2, len(row) // 2
    convolved = np.empty(data.shape, np.float32)
    # In blocks of rows that a cache holds: four times as fast as 49 products of whole images.
    for start in range(0, ny, CONVOLVED_ROWS):
        stop = min(start + CONVOLVED_ROWS, ny)
        padded = np.zeros((stop - start + 2 * y, nx + 2 * x), np.float32)
        low, high = max(start - y, 0), min(stop + y, ny)
        padded[low - start + y : high - start + y, x : x + nx] = data[low:high]
        down = _add_shifted(padded, column, stop - start)
        convolved[start:stop] = _add_shifted(down.T, row, nx).T
    return convolved


def _add_shifted(plane: NDArray[np.float32], factors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the sum of so many rows of a plane from the first on, the second on ..., each times its factor."""
    total = factors[0] * plane[:size]
    for i, factor in enumerate(factors[1:], start=1):
        total += factor * plane[i : i + size]
    return total


# The mask of sources: growth of their segments, in radii and beyond that in arcsec, and the least axis ratio. With less
# the sky holds wings of bright sources: with 1.8 and 0.2 the mesh takes 0.5 % of galaxies above 1 arcsec, not 0.2 %.
# Where so little of an image is left that it is no sky, the mask is a narrower one: at last the segments.
MASKS, LEAST_SKY, FLATTEST = ((2.5, 0.3), (1.8, 0.2), (1.0, 0.0)), 0.2, 0.3
# The mean of the sky: pixels within so many sigma, of the scatter that so many of them have.
CLIP, MOST_SCATTER = 2.5, 10**6


Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shapes:
    """Sources on the grid of the image measured, all (n,).

    Attributes
    ----------
    label : ndarray
        In the segmentation.
    x, y : ndarray
        Positions in pixels, 0-based.
    a, b : ndarray
        Rms of the light along both axes in pixels, NaN where not known.
    theta : ndarray
        Angle of the major axis from +x in radians, within sep's limits of -pi/2 and pi/2; NaN where not known.
    kron : ndarray or None
        Scaled and clipped Kron radius in units of a and b; None where it is to be measured.
    """

    label: NDArray[np.int32]
    x: Floats
    y: Floats
    a: Floats
    b: Floats
    theta: Floats
    kron: Floats | None = None

    @classmethod
    def at(cls, x: Floats, y: Floats) -> Shapes:
        """Return positions without a source.

        Parameters
        ----------
        x, y : ndarray
            In pixels, 0-based, (n,).

        Returns
        -------
        Shapes
            (n,), with the label 0 and no shape.
        """
        unknown = np.full(len(x), np.nan)
        return cls(label=np.zeros(len(x), dtype=np.int32), x=x, y=y, a=unknown, b=unknown, theta=unknown)

    def __getitem__(self, index: NDArray[np.bool_ | np.intp] | slice) -> Shapes:
        """Return some of the sources."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return replace(self, **{name: value[index] for name, value in values.items() if value is not None})


def measure_segments(
    data: NDArray[np.float32], null: NDArray[np.bool_], segmentation: NDArray[np.int32], *, parallel: Map = map
) -> tuple[Shapes, NDArray[np.int64]]:
    """Return the shapes of the light in segments, by moments of its positive pixels.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky.
    null : ndarray of bool
        (ny, nx), pixels to leave out.
    segmentation : ndarray
        (ny, nx), labels; 0 is sky.
    parallel : callable, optional
        As `map`, which works on blocks of rows.

    Returns
    -------
    shapes : Shapes
        One for each of the n labels that have a pixel, by label. Where no light is positive, all pixels count alike;
        axes are those of a pixel at least.
    npix : ndarray
        (n,), pixels of each segment, those without data too.
    """
    shapes, npix, _ = weigh_segments(data, null, segmentation, [], parallel=parallel)
    return shapes, npix


def weigh_segments(
    data: NDArray[np.float32],
    null: NDArray[np.bool_],
    segmentation: NDArray[np.int32],
    planes: Sequence[NDArray[np.float32]],
    *,
    parallel: Map = map,
) -> tuple[Shapes, NDArray[np.int64], list[Floats]]:
    """Return the shapes of the light in segments, as `measure_segments`, and in the same pass sums of other planes.

    Parameters
    ----------
    data, null, segmentation : ndarray
        (ny, nx), as for `measure_segments`.
    planes : sequence of ndarray
        (ny, nx) each, what is summed over the pixels of a segment that have data.
    parallel : callable, optional
        As `map`, which works on blocks of rows.

    Returns
    -------
    shapes : Shapes
    npix : ndarray
        (n,).
    sums : list of ndarray
        (n,), for each of the planes.
    """
    ny, nx = data.shape
    step = max(1, BLOCK // max(nx, 1))
    blocks = [slice(start, min(start + step, ny)) for start in range(0, ny, step)]

    def add(dark: NDArray[np.int32]) -> tuple[NDArray[np.int32], Floats, Floats, Floats]:
        work = partial(_add_up_rows, data, null, segmentation, planes, dark)
        label, x, y, sums = zip(*parallel(work, blocks), strict=True)
        return _join_sums(*(np.concatenate(part, axis=-1) for part in (label, x, y, sums)))

    label, x, y, sums = add(np.zeros(0, np.int32))
    if (sums[1] <= 0).any():
        label, x, y, sums = add(label[sums[1] <= 0])
    npix, light, *moments = sums[:7]
    dx, dy, xx, yy, xy = (moment / light for moment in moments)
    # A pixel has a variance of 1/12 of its own.
    xx, yy, xy = xx - dx**2 + 1 / 12, yy - dy**2 + 1 / 12, xy - dx * dy
    half, mid = np.hypot((xx - yy) / 2, xy), (xx + yy) / 2
    a, b = np.sqrt(mid + half), np.sqrt(np.maximum(mid - half, 1 / 12))
    shapes = Shapes(label=label, x=x + dx, y=y + dy, a=a, b=b, theta=np.arctan2(2 * xy, xx - yy) / 2)
    return shapes, npix.astype(np.int64), list(sums[7:])


def _add_up_rows(
    data: NDArray[np.float32],
    null: NDArray[np.bool_],
    segmentation: NDArray[np.int32],
    planes: Sequence[NDArray[np.float32]],
    dark: NDArray[np.int32],
    rows: slice,
) -> tuple[NDArray[np.int32], Floats, Floats, Floats]:
    """Return what `_join_sums` does of the segments in some rows; the pixels of those that are dark count alike."""
    nx = segmentation.shape[1]

    def cut(plane: NDArray[Scalar]) -> NDArray[Scalar]:
        # No subclass: what is made of a plane that is a file would be pickled as one.
        return np.ravel(np.asarray(plane)[rows])

    labels = cut(segmentation)
    members = np.flatnonzero(labels != 0)
    owner = labels[members]
    # Runs of pixels of one row and segment are summed first: they are a tenth as many.
    begins = np.ones(len(members), bool)
    begins[1:] = (owner[1:] != owner[:-1]) | (np.diff(members) != 1)
    edges = np.searchsorted(members, np.arange(0, len(labels), nx))
    begins[edges[edges < len(members)]] = True
    start = np.flatnonzero(begins)
    length = np.diff(start, append=len(members))
    owner, (y, x) = owner[start], np.divmod(members[start], nx)
    place = (np.arange(len(members)) - np.repeat(start, length)).astype(float)
    empty = cut(null)[members]

    def add(plane: NDArray[np.floating]) -> Floats:
        return np.add.reduceat(plane, start, dtype=float) if len(start) else np.zeros(0)

    def pixels(plane: NDArray[np.float32]) -> Floats:
        return np.where(empty, 0.0, cut(plane)[members])

    light = np.maximum(pixels(data), 0)
    if len(dark):
        light[np.repeat(np.isin(owner, dark), length)] = 1
    moment, nil = light * place, np.zeros(len(start))
    sums = [length, add(light), add(moment), nil, add(moment * place), nil, nil, *(add(pixels(one)) for one in planes)]
    return _join_sums(owner, x.astype(float), (y + rows.start).astype(float), np.stack(sums))


def _join_sums(
    label: NDArray[np.int32], x: Floats, y: Floats, sums: Floats
) -> tuple[NDArray[np.int32], Floats, Floats, Floats]:
    """Return the sums (k, n) of what has the same label, as one, with the place of the first.

    They are the number of pixels, their light, its moments dx, dy, dx^2, dy^2 and dx dy from the place, and any more.
    """
    names, first, row = np.unique(label, return_index=True, return_inverse=True)
    dx, dy = x - x[first][row], y - y[first][row]
    npix, w, wx, wy, xx, yy, xy, *more = sums
    xy = xy + dx * wy + dy * wx + dx * dy * w
    xx, yy = xx + dx * (2 * wx + dx * w), yy + dy * (2 * wy + dy * w)
    parts = [npix, w, wx + dx * w, wy + dy * w, xx, yy, xy, *more]
    return names, x[first], y[first], np.stack([np.bincount(row, part, len(names)) for part in parts])


def mask_sources(
    data: NDArray[np.float32], null: NDArray[np.bool_], segmentation: NDArray[np.int32], scale: float
) -> tuple[NDArray[np.bool_], str]:
    """Return where sources are, with the light that reaches beyond their segments: what is left is sky.

    Parameters
    ----------
    data, null, segmentation : ndarray
        As for :func:`measure_segments`.
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    mask : ndarray of bool
        (ny, nx), True in the segments, and in an ellipse around each whose circle of equal area has 2.5 times the
        radius of the segment's, and 0.3 arcsec more; less where that leaves below a fifth of the pixels with data, see
        `MASKS`.
    note : str
        What could not be done so; empty where all was.
    """
    shapes, npix = measure_segments(data, null, segmentation)
    least = LEAST_SKY * np.count_nonzero(~null)
    mask, growth = segmentation > 0, 1.0
    for growth, margin in MASKS:
        mask = _grow_segments(segmentation, shapes, npix, growth, margin / scale)
        if np.count_nonzero(~(mask | null)) >= least:
            break
    widest = growth == MASKS[0][0]
    return mask, "" if widest else f"sources leave too little sky for a mask wider than {growth:g} times their radius"


def center_sky(
    sky: NDArray[np.float32],
    data: NDArray[np.float32],
    mask: NDArray[np.bool_],
    variance: NDArray[np.float32],
    cells: tuple[int, int],
    smooth: int,
) -> None:
    """Bring a sky to the mean of what is left between the sources, which is what sums over apertures see.

    Meshes estimate the mode of pixels, and faint sources and noise that is no Gaussian hold it off their mean: by 0.2
    sigma of an aperture of 0.7 arcsec in parts of the UDS cut-outs.

    Parameters
    ----------
    sky : ndarray
        (ny, nx), in the unit of the image; it is corrected in place.
    data : ndarray
        (ny, nx), the image.
    mask : ndarray of bool
        (ny, nx), pixels with sources or without data.
    variance : ndarray
        (ny, nx), of the background.
    cells : tuple of int
        Height and width of the cells in pixels: the mean of each, without the pixels beyond `CLIP` times the scatter.
    smooth : int
        Cells across the median filter over them.
    """
    (ny, nx), (height, width) = data.shape, cells
    rows, columns = np.arange(0, ny, height), np.arange(0, nx, width)
    part = slice(None, None, max(1, round(np.sqrt(data.size / MOST_SCATTER))) | 1)  # odd, unlike patterns of drizzling
    free = ~mask[part, part]
    if not free.any():
        return
    scatter = ((data[part, part] - sky[part, part]) / np.sqrt(variance[part, part]))[free]
    limit = np.float32(CLIP * median_abs_deviation(scatter, scale="normal"))
    total, count = np.zeros((2, len(rows), len(columns)))
    for i, start in enumerate(rows):
        band = slice(start, start + height)
        left = data[band] - sky[band]
        use = ~mask[band] & (np.abs(left) < limit * np.sqrt(variance[band]))
        total[i] = np.add.reduceat(np.where(use, left, np.float32(0)).sum(axis=0, dtype=float), columns)
        count[i] = np.add.reduceat(use.sum(axis=0), columns)
    known = count > LEAST_SKY / 2 * height * width
    if not known.any():
        return
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    mean = median_filter((total / np.maximum(count, 1))[tuple(nearest)], smooth, mode="nearest")
    y, x = (
        np.minimum(edge + size, n) / 2 + edge / 2 - 0.5 for edge, size, n in ((rows, height, ny), (columns, width, nx))
    )
    across = np.stack([np.interp(np.arange(nx), x, line) for line in mean]).astype(np.float32)
    place = np.interp(np.arange(ny), y, np.arange(len(y)))
    for row, at in enumerate(place):
        low = min(int(at), len(y) - 2) if len(y) > 1 else 0
        above = across[min(low + 1, len(y) - 1)]
        sky[row] += across[low] + np.float32(at - low) * (above - across[low])


def _grow_segments(
    segmentation: NDArray[np.int32], shapes: Shapes, npix: NDArray[np.int64], growth: float, margin: float
) -> NDArray[np.bool_]:
    """Return where segments are, and ellipses around them, `growth` times as large and `margin` pixels more."""
    mask = segmentation > 0
    ratio = np.sqrt(np.maximum(shapes.b / shapes.a, FLATTEST))
    radius = growth * np.sqrt(npix / np.pi) + margin
    sep.mask_ellipse(mask, shapes.x, shapes.y, radius / ratio, radius * ratio, shapes.theta, r=1.0)
    return mask


def measure_sky(image: NDData, segmentation: NDArray[np.int32], scale: float) -> tuple[float, float]:
    """Return the sky that is left in an image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    segmentation : ndarray
        (ny, nx), labels; 0 is sky.
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    level, sigma : float
        Median of the pixels off the widest mask of sources, and of their sigmas, in the unit of the image; NaN without
        any. Beside narrower masks the wings of sources would pass for sky.
    """
    null = null_pixels(image)
    data = native_pixels(np.where(null, 0, image.data))
    growth, margin = MASKS[0]
    sky = ~(_grow_segments(segmentation, *measure_segments(data, null, segmentation), growth, margin / scale) | null)
    if not sky.any():
        return float("nan"), float("nan")
    return float(np.median(data[sky])), float(np.sqrt(np.median(variance_map(image)[sky])))


Flags = NDArray[np.int64]


Plane = NDArray[np.generic]


def sum_overlap(
    plane: Plane, shapes: Shapes, a: Floats, b: Floats, theta: Floats, **settings: Plane
) -> tuple[Floats, Floats, Flags]:
    """Return sums over ellipses around the sources by sep, with exact overlap.

    Parameters
    ----------
    plane : ndarray
        (ny, nx), what is summed.
    shapes : Shapes
        Of n sources, whose positions are taken.
    a, b : ndarray
        Semi-axes in pixels, (n,).
    theta : ndarray
        Angle of the major axis in radians, (n,).
    **settings
        ``var``, ``mask`` and ``segmap``, (ny, nx), and ``seg_id``, (n,), of `sep.sum_ellipse`.

    Returns
    -------
    sum, error : ndarray
        (n,), in the unit of `plane`.
    flag : ndarray
        (n,), bits of sep.

    Notes
    -----
    `sep.sum_ellipse` gives NaN for circles of 4.5 or 12.5 pixels with the x of a pixel's centre and the y of a pixel's
    edge but for a rounding error of up to 1e-4; `sep.sum_circle` does not.
    """
    sums, circle = np.zeros((3, len(a))), a == b
    for part, add in ((circle, sep.sum_circle), (~circle, sep.sum_ellipse)):
        if part.any():
            where = (a[part],) if add is sep.sum_circle else (a[part], b[part], theta[part], 1.0)
            own = {"seg_id": settings["seg_id"][part]} if "seg_id" in settings else {}
            sums[:, part] = add(plane, shapes.x[part], shapes.y[part], *where, subpix=0, **{**settings, **own})
    flux, error, flag = sums
    return flux, error, flag.astype(np.int64)
