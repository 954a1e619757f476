"""Stamps: the pixels around sources, of many of one size at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dja_photplug.light.planes import Floats, Shapes
from dja_photplug.parallel.scratch import keep_memory

__all__ = ["FINE", "HALVES", "Image", "Index", "Stamps", "batch_stamps", "begin_stamps", "cut_stamps", "touches"]

T = TypeVar("T", bound=np.generic)
Image = NDArray[np.float32]
Index = NDArray[np.intp]
FINE = 16
"""Steps of a pixel in which radii are told apart."""
HALVES = np.unique(np.ceil(6 * 1.12 ** np.arange(120)).astype(np.intp))
"""Half-sides of stamps: a source takes the next of these."""
BATCH = 200_000  # pixels of stamps at a time, which a cache holds


def touches(centre: Floats, reach: Index, span: slice) -> NDArray[np.bool_]:
    """Return whether stamps reach pixels from the start of a span to its end, along one axis.

    Parameters
    ----------
    centre : ndarray
        Of m stamps, in pixels, (m,).
    reach : ndarray of int
        Half of their sides, (m,).
    span : slice

    Returns
    -------
    ndarray of bool
        (m,).
    """
    return (centre + reach + 1 >= span.start) & (centre - reach - 1 < span.stop)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stamps:
    """Pixels around m sources. Stamps end at the edges of the image: near them they are moved.

    Attributes
    ----------
    step, label : ndarray
        Step of the elliptical radius, and label of each pixel, (m, sy, sx).
    x, y : ndarray of int
        Pixels of the image at their first column and row, (m,).
    every : int
        How many rows of the image are to one of a stamp.
    """

    step: NDArray[np.int32]
    label: NDArray[np.int32]
    x: Index
    y: Index
    every: int = 1

    def cut(self, plane: NDArray[T]) -> NDArray[T]:
        """Return the pixels of an image.

        Parameters
        ----------
        plane : ndarray
            (ny, nx).

        Returns
        -------
        ndarray
            (m, sy, sx).
        """
        return _windows(plane, self.step.shape[1:], self.x, self.y, self.every)

    def places(self, rows: slice) -> Iterator[tuple[tuple[slice, slice], slice]]:
        """Yield rows and columns of each in the image, the rows only of those given, and which of its own they are.

        Parameters
        ----------
        rows : slice

        Yields
        ------
        place : pair of slices
        rows : slice
        """
        _, height, width = self.step.shape
        for y, x in zip(self.y.tolist(), self.x.tolist(), strict=True):
            low = max(y, rows.start)
            high = max(min(y + height, rows.stop), low)
            yield (slice(low, high), slice(x, x + width)), slice(low - y, high - y)


def _windows(plane: NDArray[T], shape: tuple[int, ...], x: Index, y: Index, every: int) -> NDArray[T]:
    height, width = shape
    windows = sliding_window_view(np.asarray(plane), ((height - 1) * every + 1, width))  # no subclass, which is slower
    return windows[:, :, ::every][y, x]


def begin_stamps(centre: Floats, half: int | Index, size: int) -> Index:
    """Return the first pixels along one axis of stamps, which are moved where they would reach beyond the image.

    Parameters
    ----------
    centre : ndarray
        Of m stamps, in pixels, (m,).
    half : int or ndarray of int
        Pixels to each side, (m,).
    size : int
        Of the image.

    Returns
    -------
    ndarray of int
        (m,).
    """
    return np.clip(np.rint(centre).astype(np.intp) - half, 0, np.maximum(size - 2 * half - 1, 0))


def cut_stamps(
    owners: Shapes,
    axis_ratio: Image,
    half: int,
    segmentation: NDArray[np.int32],
    last: int | NDArray[np.int32],
    every: int = 1,
) -> Stamps:
    """Return the stamps of sources on the image, `half` pixels to each side; steps are `last` at most.

    Parameters
    ----------
    owners : Shapes
        (m,).
    axis_ratio : ndarray
        (m,).
    half : int
    segmentation : ndarray
        (ny, nx), labels.
    last : int or ndarray of int
    every : int, optional
        2 for every other row of the image.

    Returns
    -------
    Stamps
        (m,).
    """
    py, px = (
        begin_stamps(centre, half, size)[:, None] + np.arange(0, min(2 * half + 1, size), apart)
        for centre, size, apart in zip((owners.y, owners.x), segmentation.shape, (every, 1), strict=True)
    )
    dx, dy = ((pixel - at[:, None]).astype(np.float32) for pixel, at in ((px, owners.x), (py, owners.y)))
    theta, q = owners.theta.astype(np.float32)[:, None], axis_ratio[:, None]
    cos, sin = np.cos(theta), np.sin(theta)
    # u^2 q + v^2 / q with u along the major axis is xx dx^2 + yy dy^2 + 2 xy dx dy, with xx yy - xy^2 = 1.
    root = np.sqrt(cos**2 * q + sin**2 / q)
    xy = sin * cos * (q - 1 / q)
    radius = (FINE * root * dx)[:, None, :] + (FINE * xy / root * dy)[:, :, None]
    radius *= radius
    radius += np.square(FINE / root * dy)[:, :, None]
    np.sqrt(radius, out=radius)
    np.minimum(radius, np.float32(last), out=radius)
    x, y = px[:, 0], py[:, 0]
    label = _windows(segmentation, (py.shape[1], px.shape[1]), x, y, every)
    return Stamps(step=radius.astype(np.int32), label=label, x=x, y=y, every=every)


def batch_stamps(reach: Index) -> Iterator[tuple[int, Index]]:
    """Yield half-sides of stamps, and which sources have them, so many as fit into a batch.

    Parameters
    ----------
    reach : ndarray of int
        How far the stamp of each reaches, in pixels, (n,).

    Yields
    ------
    half : int
        In pixels.
    chosen : ndarray of int
        Which sources.
    """
    keep_memory()  # without it half of the time goes to clearing new arrays
    size_of = np.searchsorted(HALVES, reach)
    for k in np.unique(size_of):
        chosen, half = np.flatnonzero(size_of == k), int(HALVES[k])
        step = max(1, BATCH // (2 * half + 1) ** 2)
        for start in range(0, len(chosen), step):
            yield half, chosen[start : start + step]
