"""An image convolved with the kernels that bring it to another PSF, block by block, and the noise of sums over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from astropy.nddata import InverseVariance
from numpy.typing import NDArray
from photutils.aperture import CircularAperture
from scipy import fft
from scipy.signal import fftconvolve

from dja_photplug.mosaic.blocks import Planes, native_pixels
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.parallel.workers import Map
from dja_photplug.psf.matching import MatchingKernel
from dja_photplug.sky.grid import Window

__all__ = ["Kernels", "convolve_image", "sum_noise"]

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

# Side of the blocks, with what kernels see around them: transforms of 768 x 768 take the least time for each pixel.
SIDE = 768
# A matched pixel is null where more than this of its kernel is on pixels without data.
MOST_NULL = 0.1
# Share of the light of a kernel in its core. What of that is on data divides a matched pixel: with all of the kernel
# sources 1 arcsec from an edge would be 3 % too bright, because of wings that would be those of other places.
CORE = 0.8
# Ratio of the largest to the least variance of a block from which on single precision does not do for it.
LARGE_RANGE = 1e4
# Least variance that is not divided by.
TINY = 1e-30
# Least weight of a pixel in an aperture that counts for its noise: its square does.
LEAST_WEIGHT = 0.01
# Places in a pixel, along each axis, that weights are known at and interpolated between, to 1e-5 of their squares.
NODES = 8
# Rows of an image, and sources, at a time.
ROWS, BATCH = 512, 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kernels:
    """The kernels of an image: one, or one for each region of its PSF.

    Attributes
    ----------
    kernels : tuple of MatchingKernel
        Of one side.
    regions : callable, optional
        ``regions(window)`` gives the number of the kernel of each pixel there, negative where there is none; without
        it all have the first. It can be pickled.
    """

    kernels: tuple[MatchingKernel, ...]
    regions: Callable[[Window], NDArray[np.int16]] | None = None

    @property
    def half(self) -> int:
        """How many pixels a kernel reaches."""
        return len(self.kernels[0].data) // 2

    def at(self, row: int, column: int) -> int:
        """Return the number of the kernel of a pixel, negative where there is none.

        Parameters
        ----------
        row, column : int

        Returns
        -------
        int
        """
        return 0 if self.regions is None else int(self.regions((slice(row, row + 1), slice(column, column + 1)))[0, 0])


@dataclass(frozen=True, slots=True, eq=False)
class _Matched:
    """Planes of a convolved image, which are written block by block."""

    data: Image
    weight: Image
    null: NDArray[np.bool_]


def convolve_image(image: MosaicImage, level: Image | None, kernels: Kernels, *, parallel: Map = map) -> MosaicImage:
    """Return an image at another PSF.

    Parameters
    ----------
    image : MosaicImage
    level : ndarray or None
        (ny, nx), sky that is taken off first.
    kernels : Kernels
    parallel : Map, optional
        Does rows of blocks.

    Returns
    -------
    MosaicImage
        Its weight is that of its pixels, with the background's variance alone: variances convolved with the squared
        kernel. The noise of pixels is correlated, which a(r) of this image knows; that of photons is in `sum_noise`.
        Pixels without data are left out, and what the others give is divided by what of the kernel's core is on them;
        where more than a tenth of the kernel is on pixels without data, or off the image, the result is null.
    """
    shape = image.data.shape
    out = _Matched(new_plane(shape, np.float32), new_plane(shape, np.float32), new_plane(shape, np.bool_))
    core = max(SIDE - 2 * kernels.half, SIDE // 4)
    rows = [slice(start, min(start + core, shape[0])) for start in range(0, shape[0], core)]
    for _ in parallel(partial(_convolve_rows, Planes.of(image), level, kernels, out, core), rows):
        pass
    return MosaicImage(
        out.data,
        unit=image.unit,
        uncertainty=InverseVariance(out.weight, copy=False),
        mask=out.null,
        wcs=image.wcs,
        meta=image.meta,
    )


def _convolve_rows(
    planes: Planes, level: Image | None, kernels: Kernels, out: _Matched, core: int, rows: slice
) -> None:
    """Write some rows of an image, a block of `core` columns at a time."""
    nx = planes.data.shape[1]
    side = tuple(fft.next_fast_len(min(core, n) + 2 * kernels.half, real=True) for n in (rows.stop - rows.start, nx))
    transforms: dict[int, _Transforms] = {}
    for start in range(0, nx, core):
        window = rows, slice(start, min(start + core, nx))
        block = _Block.read(planes, level, window, kernels.half, side)
        numbers = None if kernels.regions is None else kernels.regions(window)
        for number in (0,) if numbers is None else np.unique(numbers[numbers >= 0]).tolist():
            if number not in transforms:
                transforms[number] = _Transforms.of(kernels.kernels[number].data, side)
            here = True if numbers is None else numbers == number
            for plane, values in zip((out.data, out.weight, out.null), block.convolve(transforms[number]), strict=True):
                np.copyto(np.asarray(plane)[window], values, where=here, casting="same_kind")
        if numbers is not None:
            np.asarray(out.null)[window] |= numbers < 0


@dataclass(frozen=True, slots=True, eq=False)
class _Transforms:
    """The transforms of a kernel around the first pixel of a block, of its square, and of its core alone."""

    kernel: NDArray[np.complex64]
    squared: NDArray[np.complex64]
    core: NDArray[np.complex64]

    @classmethod
    def of(cls, kernel: Floats, side: tuple[int, ...]) -> _Transforms:
        """Return those of a kernel on blocks of a side."""
        half = len(kernel) // 2
        distance = np.hypot(*(np.indices(kernel.shape) - half)).ravel()
        order = np.argsort(distance, kind="stable")
        light = np.cumsum(kernel.ravel()[order])
        reach = distance[order[np.argmax(light >= CORE)]]
        core = np.where(distance.reshape(kernel.shape) <= reach, kernel, 0)

        def transform(part: Floats) -> NDArray[np.complex64]:
            around = np.zeros(side)
            around[: len(part), : len(part)] = part
            return fft.rfft2(np.roll(around, (-half, -half), axis=(0, 1))).astype(np.complex64)

        return cls(transform(kernel), transform(kernel**2), transform(core / core.sum()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """Transforms of a block of an image and what is around it: light, variance, and where there are data."""

    light: NDArray[np.complexfloating]
    variance: NDArray[np.complexfloating]
    known: NDArray[np.complexfloating] | None
    least: float
    side: tuple[int, ...]
    inside: Window

    @classmethod
    def read(cls, planes: Planes, level: Image | None, window: Window, half: int, side: tuple[int, ...]) -> _Block:
        """Return the block of a window of an image."""
        edges = [(part.start - half, part.stop + half, n) for part, n in zip(window, planes.data.shape, strict=True)]
        there = tuple(slice(max(low, 0), min(high, n)) for low, high, n in edges)
        put = tuple(slice(part.start - low, part.stop - low) for part, (low, _, _) in zip(there, edges, strict=True))
        pixels = planes[there[0], there[1]]
        null = pixels.null()
        light, variance = np.zeros((2, *side), np.float32)
        data = native_pixels(pixels.data)
        np.subtract(data, 0 if level is None else np.asarray(level)[there], out=light[put])
        variance[put] = pixels.variance("background")
        known, size = None, tuple(high - low for low, high, _ in edges)
        if null.any():
            light[put][null] = variance[put][null] = 0
        if null.any() or null.shape != size:
            known = np.zeros(side, np.float32)
            known[put] = ~null
        some = variance[put] if known is None else variance[known > 0]
        least, most = (float(some.min()), float(some.max())) if some.size else (0.0, 0.0)
        wide = variance.astype(np.float64) if most > LARGE_RANGE * least else variance
        rows, columns = (slice(half, half + part.stop - part.start) for part in window)
        return cls(
            light=fft.rfft2(light),
            variance=fft.rfft2(wide),
            known=None if known is None else fft.rfft2(known),
            least=least,
            side=side,
            inside=(rows, columns),
        )

    def convolve(self, by: _Transforms) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.bool_]]:
        """Return light, weight and null pixels of the window, convolved."""
        light, variance = self._invert(self.light * by.kernel), self._invert(self.variance * by.squared)
        null = np.zeros(light.shape, bool)
        # Rounding may leave less than nothing where a pixel is far deeper than those around it.
        np.maximum(variance, max(1e-3 * self.least * float(by.squared[0, 0].real), TINY), out=variance)
        weight = np.reciprocal(variance, out=variance)
        if self.known is not None:
            np.less(self._invert(self.known * by.kernel), 1 - MOST_NULL, out=null)
            share = self._invert(self.known * by.core)
            share[null] = 1
            light /= share
            weight *= share * share
            light[null] = weight[null] = 0
        return light, weight, null

    def _invert(self, transform: NDArray[np.complexfloating]) -> NDArray[np.floating]:
        return fft.irfft2(transform, self.side)[self.inside]


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
        Centres in pixels, (n,); 0 for those off the image.
    radii : sequence of float
        In pixels, k.
    kind : {'photons', 'full'}
        Of the variances of pixels: that of the sources' photons alone, or all.
    parallel : Map, optional
        Does the sources of some rows.

    Returns
    -------
    ndarray
        (n, k), in the squared unit of the image.

    Notes
    -----
    The flux in an aperture A of an image convolved with K is the sum over the pixels y of the image with the weights
    ``W(y) = sum of K(x - y) A(x)``, so its variance is the sum of ``W^2`` times theirs. Sums of variances convolved
    with the squared kernel, as pixels have them, leave out that one photon is in many pixels: for F115W brought to
    F444W they are too low by a factor of up to 30.
    """
    total = np.zeros((len(x), len(radii)))
    ny, nx = image.data.shape
    there = np.flatnonzero((x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5))
    there = there[np.argsort(y[there])]
    parts = np.split(there, np.flatnonzero(np.diff(np.floor(y[there] / ROWS))) + 1) if len(there) else []
    work = partial(_sum_rows, Planes.of(image), kernels, tuple(radii), kind)
    for part, sums in zip(parts, parallel(work, [(x[part], y[part]) for part in parts]), strict=True):
        total[part] = sums
    return total


def _sum_rows(
    planes: Planes, kernels: Kernels, radii: tuple[float, ...], kind: str, places: tuple[Floats, Floats]
) -> Floats:
    """Return the sums of `sum_noise` for sources in some rows."""
    (x, y), (ny, nx) = places, planes.data.shape
    column, row = (np.clip(np.rint(axis).astype(np.intp), 0, n - 1) for axis, n in ((x, nx), (y, ny)))
    number = np.array([kernels.at(*place) for place in zip(row.tolist(), column.tolist(), strict=True)])
    shares = _share(x - column, y - row)
    total, used = np.zeros((len(x), len(radii))), np.unique(number[number >= 0]).tolist()
    tables = {(one, k): _tabulate(kernels.kernels[one].data, radius) for one in used for k, radius in enumerate(radii)}
    margin = max((table.shape[-1] // 2 for table in tables.values()), default=0)
    low, high = int(row.min()), int(row.max()) + 1
    variance = _read_noise(planes, slice(low - margin, high + margin), margin, kind)
    for (one, k), table in tables.items():
        chosen, inner = np.flatnonzero(number == one), margin - table.shape[-1] // 2
        windows = np.lib.stride_tricks.sliding_window_view(variance, table.shape[1:])
        for start in range(0, len(chosen), BATCH):
            some = chosen[start : start + BATCH]
            weight = (shares[some] @ table.reshape(len(table), -1)).reshape(len(some), *table.shape[1:])
            stamps = windows[row[some] - low + inner, column[some] + inner]
            total[some, k] = np.einsum("nij,nij,nij->n", weight, weight, stamps)
    return total


def _read_noise(planes: Planes, rows: slice, margin: int, kind: str) -> Image:
    """Return the variances of some rows, with so many columns of 0 on both sides; 0 off the image and where null."""
    ny = len(planes.data)
    there = slice(max(rows.start, 0), min(rows.stop, ny))
    pixels = planes[there]
    variance = pixels.variance()
    if kind == "photons":
        variance -= pixels.variance("background")
        np.maximum(variance, 0, out=variance)
    variance[pixels.null()] = 0
    around = (there.start - rows.start, rows.stop - there.stop), (margin, margin)
    return np.pad(variance, around)


def _nodes() -> Floats:
    return np.cos((2 * np.arange(NODES) + 1) * np.pi / (2 * NODES)) / 2


def _tabulate(kernel: Floats, radius: float) -> NDArray[np.float32]:
    """Return the weights of pixels in a circle on the convolved image, for each of the places of its centre in a pixel.

    (NODES^2, side, side), as far as they count.
    """
    key = kernel.tobytes(), radius
    if key not in _TABLES:
        if len(_TABLES) >= MOST_TABLES:
            _TABLES.clear()
        half = len(kernel) // 2 + int(np.ceil(radius)) + 1
        shape, nodes = (2 * half + 1, 2 * half + 1), _nodes()
        weights = []
        for dy, dx in product(nodes, nodes):
            circle = CircularAperture((half + dx, half + dy), radius).to_mask(method="exact").to_image(shape)
            weights.append(fftconvolve(circle, kernel[::-1, ::-1], mode="same"))
        tables = np.array(weights, np.float32)
        far = np.max(np.abs(np.indices(shape) - half), axis=0)
        reach = int(far[np.max(np.abs(tables), axis=0) > LEAST_WEIGHT].max(initial=int(np.ceil(radius))))
        inner = slice(half - reach, half + reach + 1)
        _TABLES[key] = np.ascontiguousarray(tables[:, inner, inner])
    return _TABLES[key]


_TABLES: dict[tuple[bytes, float], NDArray[np.float32]] = {}
MOST_TABLES = 32


def _share(dx: Floats, dy: Floats) -> NDArray[np.float32]:
    """Return the shares of the tables for centres so far from the middle of a pixel, (n, NODES^2), by Lagrange."""
    nodes = _nodes()

    def interpolate(place: Floats) -> Floats:
        others = [np.delete(nodes, i) for i in range(NODES)]
        parts = [np.prod((place[:, None] - rest) / (nodes[i] - rest), axis=1) for i, rest in enumerate(others)]
        return np.stack(parts, axis=1)

    return (interpolate(dy)[:, :, None] * interpolate(dx)[:, None, :]).reshape(len(dx), -1).astype(np.float32)
