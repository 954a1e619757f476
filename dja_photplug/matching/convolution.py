"""An image convolved with the kernels that bring it to another PSF, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.nddata import InverseVariance
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import fft

from dja_photplug.matching.kernels import MatchingKernel, make_kernel
from dja_photplug.mosaic.blocks import Planes, native_pixels
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.parallel.workers import Map
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.grid import Window, pixel_scale, sky_positions

__all__ = ["Kernels", "convolve_image"]

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


class Level(Protocol):
    """The sky of an image, as `dja_photplug.light.mesh.Mesh` has it."""

    def __getitem__(self, box: Window, /) -> Level:
        """Return that of some rows and columns."""

    def draw(self) -> Image:
        """Return it pixel by pixel.

        Returns
        -------
        ndarray
            (ny, nx) float32.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kernels:
    """The kernels of an image: one, or one for each region of its PSF.

    Attributes
    ----------
    kernels : tuple of MatchingKernel
        Of one side.
    psf : PSFModel, optional
        Of whose regions they are; without it all pixels have the first.
    wcs : `~astropy.wcs.WCS`, optional
        Of the image, where there are regions.
    """

    kernels: tuple[MatchingKernel, ...]
    psf: PSFModel | None = None
    wcs: WCS | None = None

    @classmethod
    def bring(cls, psf: PSFModel, target: PSF, wcs: WCS, pixels: float | None = None) -> Kernels:
        """Return the kernels that bring an image to a PSF.

        Parameters
        ----------
        psf : PSFModel
            Of the image.
        target : PSF
        wcs : `~astropy.wcs.WCS`
            Of the image.
        pixels : float, optional
            As for `make_kernel`.

        Returns
        -------
        Kernels
            One for each region.
        """
        scale = pixel_scale(wcs)
        kernels = [make_kernel(stamp, target, scale, pixels) for stamp in psf.stamps]
        side = max(len(kernel.data) for kernel in kernels)
        same = tuple(replace(one, data=np.pad(one.data, (side - len(one.data)) // 2)) for one in kernels)
        return cls(kernels=same) if psf.labels is None else cls(kernels=same, psf=psf, wcs=wcs)

    def on(self, window: Window) -> NDArray[np.int16] | None:
        """Return the number of the kernel of each pixel of a window, negative where there is none; None for one kernel.

        Parameters
        ----------
        window : pair of slices

        Returns
        -------
        ndarray or None
        """
        if self.psf is None or self.wcs is None:
            return None
        return self.psf.regions_on(self.wcs, (window[0].stop, window[1].stop), window)

    @property
    def half(self) -> int:
        """How many pixels a kernel reaches."""
        return len(self.kernels[0].data) // 2

    def of_sources(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield the number of each kernel, and which sources on the image it is of.

        Parameters
        ----------
        x, y : ndarray
            In pixels, (n,).

        Yields
        ------
        number : int
        chosen : ndarray of int
            Those without a kernel are left out.
        """
        if self.psf is None or self.wcs is None:
            yield 0, np.arange(len(x))
            return
        number = self.psf.regions_at(SkyCoord(*sky_positions(self.wcs, x, y), unit="deg"))
        for one in np.unique(number[number >= 0]).tolist():
            yield one, np.flatnonzero(number == one)


@dataclass(frozen=True, slots=True, eq=False)
class _Matched:
    """Planes of a convolved image, which are written block by block."""

    data: Image
    weight: Image
    null: NDArray[np.bool_]


def convolve_image(image: MosaicImage, sky: Level | None, kernels: Kernels, *, parallel: Map = map) -> MosaicImage:
    """Return an image at another PSF.

    Parameters
    ----------
    image : MosaicImage
    sky : Level or None
        What is taken off first.
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
    for _ in parallel(partial(_convolve_rows, Planes.of(image), sky, kernels, out, core), rows):
        pass
    return MosaicImage(
        out.data,
        unit=image.unit,
        uncertainty=InverseVariance(out.weight, copy=False),
        mask=out.null,
        wcs=image.wcs,
        meta=image.meta,
    )


def _convolve_rows(planes: Planes, sky: Level | None, kernels: Kernels, out: _Matched, core: int, rows: slice) -> None:
    """Write some rows of an image, a block of `core` columns at a time."""
    nx = planes.data.shape[1]
    side = tuple(fft.next_fast_len(min(core, n) + 2 * kernels.half, real=True) for n in (rows.stop - rows.start, nx))
    transforms: dict[int, _Transforms] = {}
    for start in range(0, nx, core):
        window = rows, slice(start, min(start + core, nx))
        block = _Block.read(planes, sky, window, kernels.half, side)
        numbers = kernels.on(window)
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
    def read(cls, planes: Planes, sky: Level | None, window: Window, half: int, side: tuple[int, ...]) -> _Block:
        """Return the block of a window of an image."""
        edges = [(part.start - half, part.stop + half, n) for part, n in zip(window, planes.data.shape, strict=True)]
        there = tuple(slice(max(low, 0), min(high, n)) for low, high, n in edges)
        put = tuple(slice(part.start - low, part.stop - low) for part, (low, _, _) in zip(there, edges, strict=True))
        pixels = planes[there[0], there[1]]
        null = pixels.null()
        light, variance = np.zeros((2, *side), np.float32)
        data = native_pixels(pixels.data)
        np.subtract(data, 0 if sky is None else sky[there[0], there[1]].draw(), out=light[put])
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
