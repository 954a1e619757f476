"""The planes of an image as detection and photometry take them: pixels, variance, where data and where sources are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import sep
from astropy.nddata import NDData
from numpy.typing import NDArray

from dja_photplug.mosaic.blocks import Plane, Planes, cached_rows, count_rows, native_pixels
from dja_photplug.parallel.islands import begin_runs
from dja_photplug.parallel.scratch import fill_rows, new_plane
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import Scalar, row_blocks

__all__ = [
    "FLATTEST",
    "MASKS",
    "SKY_BLOCK",
    "Flags",
    "Floats",
    "Shapes",
    "find_hole",
    "mask_ellipses",
    "mask_sources",
    "measure_sky",
    "sum_overlap",
    "weigh_segments",
]

Floats = NDArray[np.float64]
Flags = NDArray[np.int64]

BLOCK = 1 << 22  # pixels of segments that are summed at a time

# Pixels that tell the median of the sky; of larger images every n-th block of rows is looked at.
MOST_SKY = 4 * 10**6


# The mask of sources: growth of their segments, in radii and beyond that in arcsec, and the least axis ratio. With less
# the sky holds wings of bright sources: with 1.8 and 0.2 the mesh takes 0.5 % of galaxies above 1 arcsec, not 0.2 %.
# Where so little of an image is left that it is no sky, the mask is a narrower one: at last the segments.
MASKS, LEAST_SKY, FLATTEST = ((2.5, 0.3), (1.8, 0.2), (1.0, 0.0)), 0.2, 0.3

# Side of the blocks of pixels, none of them masked, that tell the level of the sky, arcsec.
SKY_BLOCK = 0.3


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

    def circles(self, radius: float) -> tuple[Floats, Floats, Floats]:
        """Return circles around all of them, as ellipses are given to :func:`sum_overlap`.

        Parameters
        ----------
        radius : float
            In pixels.

        Returns
        -------
        a, b, theta : ndarray
            Semi-axes in pixels and angle in radians, (n,).
        """
        radii = np.full(len(self.x), radius)
        return radii, radii, np.zeros_like(radii)

    def __getitem__(self, index: NDArray[np.bool_ | np.intp] | slice) -> Shapes:
        """Return some of the sources."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return replace(self, **{name: value[index] for name, value in values.items() if value is not None})


def weigh_segments(
    data: Plane, planes: Planes, segmentation: NDArray[np.int32], *, parallel: Map = map
) -> tuple[Shapes, NDArray[np.int64], Floats, Floats]:
    """Return the shapes of the light in segments, by moments of its positive pixels, and in the same pass its sums.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky.
    planes : Planes
        Of the image: which pixels have data, and their background variance.
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
    flux, variance : ndarray
        (n,), sums over the pixels of a segment that have data.
    """
    blocks = list(row_blocks(data.shape, BLOCK))
    work = partial(_add_up_rows, data, planes, segmentation)
    parts = list(parallel(partial(work, np.zeros(0, np.int32)), blocks))
    label, x, y, sums = _join_parts(parts)
    dark = label[sums[1] <= 0]
    again = [i for i, (there, *_) in enumerate(parts) if np.isin(dark, there).any()]
    for i, part in zip(again, parallel(partial(work, dark), [blocks[i] for i in again]), strict=True):
        parts[i] = part
    if again:
        label, x, y, sums = _join_parts(parts)
    npix, light, *moments = sums[:7]
    dx, dy, xx, yy, xy = (moment / light for moment in moments)
    # A pixel has a variance of 1/12 of its own.
    xx, yy, xy = xx - dx**2 + 1 / 12, yy - dy**2 + 1 / 12, xy - dx * dy
    half, mid = np.hypot((xx - yy) / 2, xy), (xx + yy) / 2
    a, b = np.sqrt(mid + half), np.sqrt(np.maximum(mid - half, 1 / 12))
    shapes = Shapes(label=label, x=x + dx, y=y + dy, a=a, b=b, theta=np.arctan2(2 * xy, xx - yy) / 2)
    return shapes, npix.astype(np.int64), *sums[7:]


def _join_parts(
    parts: Sequence[tuple[NDArray[np.int32], Floats, Floats, Floats]],
) -> tuple[NDArray[np.int32], Floats, Floats, Floats]:
    """Return what `_join_sums` does of the segments in blocks of rows."""
    label, x, y, sums = zip(*parts, strict=True)
    return _join_sums(*(np.concatenate(part, axis=-1) for part in (label, x, y, sums)))


def _add_up_rows(
    data: Plane,
    planes: Planes,
    segmentation: NDArray[np.int32],
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
    start = begin_runs(members, owner, nx)
    length = np.diff(start, append=len(members))
    owner, (y, x) = owner[start], np.divmod(members[start], nx)
    place = (np.arange(len(members)) - np.repeat(start, length)).astype(float)
    some = planes[rows].ravel()[members]
    empty = some.null()

    def add(plane: NDArray[np.floating]) -> Floats:
        return np.add.reduceat(plane, start, dtype=float) if len(start) else np.zeros(0)

    flux, variance = (np.where(empty, 0.0, pixel) for pixel in (cut(data)[members], some.variance("background")))
    light = np.maximum(flux, 0)
    if len(dark):
        light[np.repeat(np.isin(owner, dark), length)] = 1
    moment, nil = light * place, np.zeros(len(start))
    sums = [length, add(light), add(moment), nil, add(moment * place), nil, nil, add(flux), add(variance)]
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
    image: NDData, segmentation: NDArray[np.int32], scale: float, *, least: float = LEAST_SKY, parallel: Map = map
) -> tuple[NDArray[np.bool_], str]:
    """Return where sources are, with the light that reaches beyond their segments: what is left is sky.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    segmentation : ndarray
        (ny, nx), labels; 0 is sky.
    scale : float
        Of the pixels, arcsec.
    least : float, optional
        Part of the pixels with data that must be left.
    parallel : Map, optional
        Does the work of blocks of rows.

    Returns
    -------
    mask : ndarray of bool
        (ny, nx), True in the segments, and in an ellipse around each whose circle of equal area has 2.5 times the
        radius of the segment's, and 0.3 arcsec more; less where that leaves too few of the pixels with data, see
        `MASKS`. Null pixels elsewhere are False. In a file where processes share the planes.
    note : str
        What could not be done so; empty where all was.
    """
    planes = Planes.of(image)
    shapes, npix, _, _ = weigh_segments(planes.data, planes, segmentation, parallel=parallel)
    mask, growth = new_plane(segmentation.shape, np.bool_, blank=False), 1.0
    ratio = np.sqrt(np.maximum(shapes.b / shapes.a, FLATTEST))
    for growth, margin in MASKS:
        radius = growth * np.sqrt(npix / np.pi) + margin / scale
        ellipses = replace(shapes, a=radius / ratio, b=radius * ratio)
        counts = parallel(partial(_grow_segments, mask, planes, segmentation, ellipses), row_blocks(mask.shape, BLOCK))
        known, left = (sum(count) for count in zip(*counts, strict=True))
        if left >= least * known:
            break
    widest = growth == MASKS[0][0]
    return mask, "" if widest else f"sources leave too little sky for a mask wider than {growth:g} times their radius"


def find_hole(npix: Floats, scale: float) -> Floats:
    """Return how far around sources no pixel tells the sky.

    Parameters
    ----------
    npix : ndarray
        Pixels of segments, (n,).
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    ndarray
        Radius of the circle of the same area as the ellipse that `mask_sources` leaves out, where sources leave enough
        for the widest one, and half a block that it cuts beyond, arcsec, (n,); 0 without a segment.
    """
    growth, margin = MASKS[0]
    return np.where(npix > 0, growth * np.sqrt(npix / np.pi) * scale + margin + SKY_BLOCK / 2, 0.0)


def _grow_segments(
    mask: NDArray[np.bool_], planes: Planes, segmentation: NDArray[np.int32], ellipses: Shapes, rows: slice
) -> tuple[int, int]:
    """Mask segments, and ellipses around them, in some rows; count the pixels with data, and those that are left."""
    with fill_rows(mask, rows) as part:
        np.greater(np.asarray(segmentation)[rows], 0, out=part)
        mask_ellipses(part, ellipses, 1.0, rows)
    return count_rows(planes, mask, rows)


def mask_ellipses(mask: NDArray[np.bool_], shapes: Shapes, reach: float, rows: slice) -> None:
    """Mask ellipses around sources in some rows of an image.

    Parameters
    ----------
    mask : ndarray of bool
        Those rows, contiguous; what is True stays.
    shapes : Shapes
        Of n sources, on the whole image.
    reach : float
        Semi-axes in units of a and b.
    rows : slice
    """
    far = reach * shapes.a + 1
    near = shapes[(shapes.y + far >= rows.start) & (shapes.y - far < rows.stop)]
    sep.mask_ellipse(mask, near.x, near.y - rows.start, near.a, near.b, near.theta, r=reach)


def measure_sky(image: NDData, covered: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the sky that is left in an image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    covered : ndarray of bool
        (ny, nx), True where sources are, from `mask_sources`.

    Returns
    -------
    level, sigma : float
        Median of the pixels off the mask, and of their sigmas, in the unit of the image; NaN without any. Of large
        images some rows tell, for an error of the level below 0.001 sigma.
    """
    planes, values, variances = Planes.of(image), [], []
    blocks = list(cached_rows(covered.shape))
    for rows in blocks[:: 1 + covered.size // MOST_SKY]:
        clear = ~(planes[rows].null() | covered[rows])
        values.append(native_pixels(planes.data[rows])[clear])
        variances.append(planes[rows].variance()[clear])
    level, variance = (np.concatenate(parts) for parts in (values, variances))
    return (float(np.median(level)), float(np.sqrt(np.median(variance)))) if len(level) else (np.nan, np.nan)


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
