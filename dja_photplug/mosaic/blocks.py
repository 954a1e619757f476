"""The planes of an image in blocks of rows: null pixels and variances made where they are needed, and never kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from astropy.nddata import InverseVariance, NDData
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.mosaic.made import CACHED, MadeWeight, find_weight
from dja_photplug.parallel.scratch import keep_memory
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import row_blocks

__all__ = [
    "NULL_VARIANCE",
    "BackgroundVariance",
    "Plane",
    "Planes",
    "cached_rows",
    "count_clear",
    "count_rows",
    "has_data",
    "native_pixels",
    "null_pixels",
    "variance_map",
]

# sep's own stand-in for infinity; float32 holds it, and its root and products with weights stay finite.
NULL_VARIANCE = np.float32(1e30)

# Pixels that are counted in one piece of work.
COUNTED = 2**22


Plane = NDArray[np.generic]
Kind = TypeVar("Kind", bound=np.generic)


class Change(Protocol):
    """What may be done to a plane of any kind."""

    def __call__(self, plane: NDArray[Kind], /) -> NDArray[Kind]:
        """Return another plane, or some of its pixels."""


def cached_rows(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of an image in blocks that a cache holds, with all that is made of them.

    Parameters
    ----------
    shape : tuple of int
        Of the image, (ny, nx).

    Yields
    ------
    slice
        With start and stop.
    """
    keep_memory()
    yield from row_blocks(shape, CACHED)


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


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """The planes of an image, or of some of its pixels, from which null pixels and variances are made where needed.

    Attributes
    ----------
    data : ndarray
        (ny, nx), of any type and byte order, as the others.
    weight : ndarray, MadeWeight or None
        The full weight. Where it is made when somebody looks at it, the mask tells all null pixels; None in what
        :meth:`map` makes of such.
    background : ndarray or None
        The weight without source photons; without it all variance is background.
    mask : ndarray of bool or None
        Pixels to leave out.

    Notes
    -----
    ``planes[rows]`` are those of some rows. Whole planes of null pixels and variances would be a third of what a
    catalogue has in memory, and making new ones takes ten times as long as making a block of rows in place.
    """

    data: Plane
    weight: Plane | MadeWeight | None
    background: Plane | None
    mask: NDArray[np.bool_] | None

    @classmethod
    def of(cls, image: NDData) -> Planes:
        """Return the planes of an image, not copied where its uncertainty is an inverse variance.

        Parameters
        ----------
        image : `~astropy.nddata.NDData`

        Returns
        -------
        Planes

        Raises
        ------
        PhotplugError
            Where the image has no uncertainty.
        """
        if image.uncertainty is None:
            raise PhotplugError("the image has no uncertainty; load it with its weight, or set an InverseVariance")
        weight = image.uncertainty
        if not isinstance(weight, InverseVariance):
            with np.errstate(divide="ignore"):  # an error of 0 becomes infinite weight, which counts as null
                weight = weight.represent_as(InverseVariance)
        mask = None if image.mask is None else np.asanyarray(image.mask)
        if mask is not None and mask.shape != image.data.shape:
            mask = np.broadcast_to(mask, image.data.shape)
        background = getattr(image, "background_weight", None)
        # Without a mask nothing tells the null pixels of a weight that is made.
        return cls(image.data, weight.array if mask is None else find_weight(weight), background, mask)

    def __getitem__(self, where: slice | tuple[slice, slice] | NDArray[np.intp]) -> Planes:
        """Return some of the pixels."""

        def cut(plane: NDArray[Kind]) -> NDArray[Kind]:
            # Subclasses of arrays, such as memory maps, take ten times as long for each slice.
            return np.asarray(plane)[where]

        part = self.map(cut)
        if isinstance(self.weight, MadeWeight) and not isinstance(where, np.ndarray):
            return replace(part, weight=self.weight[where])
        return part

    def map(self, change: Change) -> Planes:
        """Return what becomes of each plane.

        Parameters
        ----------
        change : Change

        Returns
        -------
        Planes
            Without the full weight where that is made when somebody looks at it.
        """
        return Planes(
            change(self.data),
            change(self.weight) if isinstance(self.weight, np.ndarray) else None,
            None if self.background is None else change(self.background),
            None if self.mask is None else change(self.mask),
        )

    def ravel(self) -> Planes:
        """Return the pixels in one dimension.

        Returns
        -------
        Planes
        """
        return self.map(np.ravel)

    def null(self, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return where there are no data: masked, without positive finite weight, or not finite.

        Parameters
        ----------
        out : ndarray of bool, optional
            Where to put it.

        Returns
        -------
        ndarray of bool
            Of the shape of the planes.
        """
        if not isinstance(self.weight, np.ndarray):
            assert self.mask is not None
            null = np.empty(self.mask.shape, bool) if out is None else out
            null[...] = self.mask
            return null
        weight = np.asarray(self.weight, np.float32)  # not copied to be contiguous
        null = np.greater(weight, 0, out=out)
        null &= weight < np.inf  # False for NaN, as above
        null &= np.isfinite(self.data)
        np.logical_not(null, out=null)
        if self.mask is not None:
            null |= self.mask
        return null

    def variance(self, kind: str = "full", out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the variance of each pixel; see :func:`variance_map`.

        Parameters
        ----------
        kind : {'full', 'background'}, optional
        out : ndarray, optional
            float32, where to put it.

        Returns
        -------
        ndarray
            float32, of the shape of the planes.
        """
        weight = self.background if kind == "background" and self.background is not None else self.weight
        assert weight is not None
        return _invert(weight, out)


def count_clear(planes: Planes, mask: NDArray[np.bool_], *, parallel: Map = map) -> tuple[int, int]:
    """Return how many pixels have data, and how many of them a mask leaves.

    Parameters
    ----------
    planes : Planes
    mask : ndarray of bool
        Of the shape of the planes.
    parallel : Map, optional
        Does the work of some rows.

    Returns
    -------
    known, left : int
    """
    counts = parallel(partial(count_rows, planes, mask), row_blocks(mask.shape, COUNTED))
    known, left = (sum(count) for count in zip(*counts, strict=True))
    return known, left


def count_rows(planes: Planes, mask: NDArray[np.bool_], rows: slice) -> tuple[int, int]:
    """Return how many pixels of some rows have data, and how many of them a mask leaves.

    Parameters
    ----------
    planes : Planes
    mask : ndarray of bool
        Of the shape of the planes.
    rows : slice
        With start and stop.

    Returns
    -------
    known, left : int
    """
    known = left = 0
    for part in cached_rows((rows.stop - rows.start, mask.shape[1])):
        here = slice(rows.start + part.start, rows.start + part.stop)
        null = planes[here].null()
        known += null.size - int(np.count_nonzero(null))
        null |= mask[here]
        left += null.size - int(np.count_nonzero(null))
    return known, left


def _invert(weight: Plane | MadeWeight, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the variance that a weight stands for."""
    with np.errstate(divide="ignore", over="ignore"):
        variance = np.reciprocal(np.asarray(weight, np.float32), out=out)
    # NaN fails all comparisons; without a mask the division takes a third of the time.
    if not (variance.min(initial=1) > 0 and variance.max(initial=1) < NULL_VARIANCE):
        np.copyto(variance, NULL_VARIANCE, where=~((variance > 0) & (variance < NULL_VARIANCE)))
    return variance


class BackgroundVariance:
    """The background variance of an image, made of its weight where it is looked at.

    Parameters
    ----------
    planes : Planes
        Of the image.
    """

    def __init__(self, planes: Planes) -> None:
        self._weight = np.asarray(planes.weight if planes.background is None else planes.background)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the image, (ny, nx)."""
        ny, nx = self._weight.shape
        return ny, nx

    def __getitem__(self, where: slice | tuple[NDArray[np.intp], ...]) -> NDArray[np.float32]:
        """Return that of some rows, or of pixels at rows and columns."""
        return _invert(self._weight[where])


def has_data(image: NDData) -> bool:
    """Return whether any pixel of an image holds data.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.

    Returns
    -------
    bool
        After a look at the first rows, most often.

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    planes = Planes.of(image)
    return any(not planes[rows].null().all() for rows in cached_rows(image.data.shape))


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
    planes = Planes.of(image)
    null = np.empty(image.data.shape, bool)
    for rows in cached_rows(null.shape):
        planes[rows].null(out=null[rows])
    return null


def variance_map(image: NDData, kind: str = "full", *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the variance of each pixel, in the squared unit of the image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight; without the attribute ``background_weight`` all variance is background.
    kind : {'full', 'background'}, optional
        With or without the Poisson noise of the sources.
    out : ndarray, optional
        (ny, nx) float32, where to put it.

    Returns
    -------
    ndarray
        (ny, nx) float32; 1e30 where the weight is null, never 0, infinite or NaN.

    Raises
    ------
    PhotplugError
        Where the image has no uncertainty.
    """
    planes = Planes.of(image)
    variance = np.empty(image.data.shape, np.float32) if out is None else out
    if kind == "full" and isinstance(planes.weight, MadeWeight):
        for rows, weight in planes.weight.remake():
            _invert(weight, variance[rows])
        return variance
    for rows in cached_rows(variance.shape):
        planes[rows].variance(kind, out=variance[rows])
    return variance
