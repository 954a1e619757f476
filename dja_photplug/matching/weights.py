"""The weights that pixels of an image have in apertures on the image convolved, and the noise that follows.

The flux in an aperture A of an image convolved with K is the sum over the pixels y of the image with the weights
``W(y) = sum of K(x - y) A(x)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from dja_photplug.matching.convolution import Kernels
from dja_photplug.mosaic.blocks import Planes
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import Scalar

__all__ = ["Weights", "batches", "group_rows", "sum_noise", "window_pixels"]

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
Index = NDArray[np.intp]

# Least weight of a pixel that counts for the noise of a sum, as its square does.
LEAST_WEIGHT = 0.01
# Places in a pixel, along each axis, that weights are known at and interpolated between: as many as give the noise of
# photons to 1e-5, and fewer by default, which give sums of light to 1e-3.
NOISE_NODES, NODES = 7, 4
# Rows of an image, and sources, at a time.
ROWS, BATCH = 512, 64


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The weights of the pixels around circles, for centres in a pixel.

    Attributes
    ----------
    tables : ndarray of float32
        For the centres that others are interpolated between, nodes x nodes of them, (nodes^2, side, side).
    """

    tables: Image

    @property
    def reach(self) -> int:
        """How many pixels they reach to each side."""
        return self.tables.shape[-1] // 2

    @classmethod
    def of(cls, kernel: Floats, radius: float, least: float = 0.0, nodes: int = NODES) -> Weights:
        """Return the weights of the pixels in a circle on an image convolved with a kernel.

        Parameters
        ----------
        kernel : ndarray
            Square, of an odd side.
        radius : float
            In pixels.
        least : float, optional
            Of a weight that counts: pixels farther out are left away.
        nodes : int, optional
            Along each axis.

        Returns
        -------
        Weights
        """
        from photutils.aperture import CircularAperture  # half a second to import

        inner = int(np.ceil(radius)) + 1
        half = len(kernel) // 2 + inner
        side, places = 2 * half + 1, _place_nodes(nodes)
        size = (fft.next_fast_len(side, real=True),) * 2
        transform = fft.rfft2(kernel[::-1, ::-1], size)
        tables = np.empty((nodes**2, side, side), np.float32)
        for table, (dy, dx) in zip(tables, product(places, places), strict=True):
            circle = CircularAperture((inner + dx, inner + dy), radius).to_mask(method="exact")
            table[...] = fft.irfft2(transform * fft.rfft2(circle.to_image((2 * inner + 1,) * 2), size), size)[
                :side, :side
            ]
        far = np.max(np.abs(np.indices((side, side)) - half), axis=0)
        reach = int(far[np.max(np.abs(tables), axis=0) >= least].max(initial=inner))
        return cls(np.ascontiguousarray(tables[:, half - reach : half + reach + 1, half - reach : half + reach + 1]))

    def __call__(self, dx: Floats, dy: Floats) -> Image:
        """Return the weights for centres so far from the middle of a pixel.

        Parameters
        ----------
        dx, dy : ndarray
            In pixels, (n,).

        Returns
        -------
        ndarray of float32
            (n, side, side), by Lagrange's polynomials.
        """
        places = _place_nodes(math.isqrt(len(self.tables)))

        def interpolate(place: Floats) -> Floats:
            others = [np.delete(places, i) for i in range(len(places))]
            parts = [
                np.prod((place[:, None] - rest) / (one - rest), axis=1)
                for one, rest in zip(places, others, strict=True)
            ]
            return np.stack(parts, axis=1)

        shares = (interpolate(dy)[:, :, None] * interpolate(dx)[:, None, :]).reshape(len(dx), -1).astype(np.float32)
        return (shares @ self.tables.reshape(len(self.tables), -1)).reshape(len(dx), *self.tables.shape[1:])


def _place_nodes(count: int) -> Floats:
    """Return Chebyshev's nodes between the edges of a pixel."""
    return np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count)) / 2


def group_rows(x: Floats, y: Floats, shape: tuple[int, ...]) -> list[Index]:
    """Return which sources are worked on together: those on the image in some rows.

    Parameters
    ----------
    x, y : ndarray
        In pixels, (n,).
    shape : tuple of int
        Of the image, (ny, nx).

    Returns
    -------
    list of ndarray
    """
    ny, nx = shape
    there = np.flatnonzero((x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5))
    there = there[np.argsort(y[there], kind="stable")]
    return np.split(there, np.flatnonzero(np.diff(np.floor(y[there] / ROWS))) + 1) if len(there) else []


def window_pixels(plane: NDArray[Scalar], band: slice, margin: int) -> NDArray[Scalar]:
    """Return a band of rows of an image with 0 around, where there is none.

    Parameters
    ----------
    plane : ndarray
        Those rows of the band that there are, (n, nx).
    band : slice
        Rows of the image, from a first one that may be negative to a stop that may be beyond the last.
    margin : int
        Columns to be added on both sides.

    Returns
    -------
    ndarray
        (rows of the band, nx + 2 margin).
    """
    above = max(-band.start, 0)
    below = band.stop - band.start - above - len(plane)
    return np.pad(plane, ((above, below), (margin, margin)))


def sum_noise(
    image: MosaicImage,
    kernels: Kernels,
    x: Floats,
    y: Floats,
    radii: Sequence[float],
    kind: str,
    *,
    parallel: Map = map,
) -> Floats:
    """Return the variance of sums over circles on a convolved image, of noise that is independent in the given one.

    Parameters
    ----------
    image : MosaicImage
        As it is, not convolved.
    kernels : Kernels
    x, y : ndarray
        Centres in pixels, (n,).
    radii : sequence of float
        In pixels, k.
    kind : {'photons', 'full'}
        Of the variances of pixels: that of the sources' photons alone, or all.
    parallel : Map, optional
        Does the sources of some rows.

    Returns
    -------
    ndarray
        (n, k), in the squared unit of the image: the sum of the squared weights times the variances; 0 off the image.

    Notes
    -----
    Sums of variances convolved with the squared kernel, as pixels have them, leave out that one photon is in many
    pixels: for F115W brought to F444W they are too low by a factor of up to 30.
    """
    total = np.zeros((len(x), len(radii)))
    parts = group_rows(x, y, image.data.shape)
    work = partial(_sum_rows, Planes.of(image), kernels, tuple(radii), kind)
    for part, sums in zip(parts, parallel(work, [(x[part], y[part]) for part in parts]), strict=True):
        total[part] = sums
    return total


def _sum_rows(
    planes: Planes, kernels: Kernels, radii: tuple[float, ...], kind: str, places: tuple[Floats, Floats]
) -> Floats:
    """Return the sums of `sum_noise` for sources in some rows."""
    total = np.zeros((len(places[0]), len(radii)))
    for number, chosen in kernels.of_sources(*places):
        weights = [Weights.of(kernels.kernels[number].data, radius, LEAST_WEIGHT, NOISE_NODES) for radius in radii]
        x, y = (axis[chosen] for axis in places)
        column, row = (np.rint(axis).astype(np.intp) for axis in (x, y))
        margin = max(one.reach for one in weights)
        low = int(row.min()) - margin
        variance = _read_noise(planes, slice(low, int(row.max()) + margin + 1), margin, kind)
        for k, one in enumerate(weights):
            inner = margin - one.reach
            windows = sliding_window_view(variance, one.tables.shape[1:])
            for some in batches(len(chosen)):
                weight = one(x[some] - column[some], y[some] - row[some])
                stamps = windows[row[some] - margin - low + inner, column[some] + inner]
                total[chosen[some], k] = np.einsum("nij,nij,nij->n", weight, weight, stamps)
    return total


def batches(size: int) -> Iterator[slice]:
    """Yield which of so many sources are worked on at a time.

    Parameters
    ----------
    size : int

    Yields
    ------
    slice
    """
    for start in range(0, size, BATCH):
        yield slice(start, min(start + BATCH, size))


def _read_noise(planes: Planes, rows: slice, margin: int, kind: str) -> Image:
    """Return the variances of some rows, with so many columns of 0 on both sides; 0 off the image and where null."""
    pixels = planes[max(rows.start, 0) : min(rows.stop, len(planes.data))]
    variance = pixels.variance()
    if kind == "photons":
        variance -= pixels.variance("background")
        np.maximum(variance, 0, out=variance)
    variance[pixels.null()] = 0
    return window_pixels(variance, rows, margin)
