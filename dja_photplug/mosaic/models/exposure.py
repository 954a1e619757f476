"""Exposure maps of the archive: where their samples lie on the pixels of an image, and what fills their gaps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.mosaic.models.electrons import Header
from dja_photplug.sky.cards import read_card, read_numbers
from dja_photplug.sky.grid import check_same_grid, header_wcs, pixel_scale
from dja_photplug.sky.headers import WCS_ADVICE

__all__ = ["ExposureMap", "compare_headers", "fill_gaps", "grow", "register_samples"]

SAMPLE = 4  # mosaic pixels per sample of the archive's exposure maps
# Farther than this from a sample with exposure time, a pixel with weight is not believed (in samples).
FILL_REACH = 2
_NEAR = range(-FILL_REACH, FILL_REACH + 1)
_NEIGHBOURS = sorted(
    ((dy, dx) for dy in _NEAR for dx in _NEAR if 0 < dx**2 + dy**2 <= FILL_REACH**2),
    key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset[1], offset[0]),
)


@dataclass(frozen=True, slots=True)
class ExposureMap:
    """Exposure time in seconds, on the archive's coarse grid or per mosaic pixel.

    Attributes
    ----------
    data : ndarray
        (ny // sample, nx // sample).
    header : mapping or None
        Of the ``exp`` file: SAMPLE, CRPIX1, CRPIX2, NXORIG, NYORIG and the photometric keywords.
    name : str
        For messages.
    """

    data: NDArray[np.float32]
    header: Header | None = None
    name: str = "the exposure map"


def grow(n: int, n_samples: int, sample: int, origin: int, *, registered: bool) -> NDArray[np.intp]:
    """Return, for each of `n` mosaic pixels along an axis, the exposure map's sample that covers it, or -1.

    Parameters
    ----------
    n, n_samples : int
        Pixels of the image and samples of the map along the axis.
    sample : int
        Pixels per sample.
    origin : int
        Pixel of the map's own mosaic at which the image starts (0 but for cut-outs).
    registered : bool
        False: as published, where sample k fills pixels 4k+1 .. 4k+4 and row 0 gets none. True: the nearest sample;
        the map is sampled at pixels 0, 4, 8 .., so sample k covers 4k-2 .. 4k+1, and the last one the remainder.

    Returns
    -------
    ndarray
        (n,), indices into the samples.
    """
    pixels = np.arange(origin, origin + n)
    if sample == 1:
        return pixels
    if registered:
        return np.minimum((pixels + sample // 2) // sample, n_samples - 1)
    samples = (pixels - 1) // sample
    samples[samples >= n_samples] = -1
    return samples


def compare_headers(header: Header, exposure: ExposureMap) -> None:
    """Tell where the photometric keywords of the exposure map differ from the science image's, which are used.

    Parameters
    ----------
    header : mapping
        Of the science image.
    exposure : ExposureMap
    """
    other = exposure.header or {}
    for key in ("PHOTMJSR", "PHOTSCAL", "PHOTFNU", "OPHOTFNU"):
        if key not in header or key not in other:
            continue
        try:
            same = np.isclose(float(header[key]), read_numbers(other, [key], "it is not used")[key], rtol=1e-6)
        except PhotplugError:
            same = np.False_
        if not same:
            warnings.warn(
                f"{key} is {header[key]} in the science header and {read_card(other, key)} in that of "
                f"{exposure.name}; using the science header's",
                PhotplugWarning,
                stacklevel=2,
            )


def register_samples(header: Header, exposure: ExposureMap, shape: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Return how the samples of an exposure map lie on the pixels of an image.

    Parameters
    ----------
    header : mapping
        Of the image.
    exposure : ExposureMap
    shape : tuple of int
        Of the image, (ny, nx).

    Returns
    -------
    sample : int
        Pixels per sample.
    origin : tuple of int
        Pixel (y, x) of the map's own mosaic at which the image starts.

    Raises
    ------
    PhotplugError
        Where the map does not fit the image, or is of another part of the sky.
    """
    n_samples, given = exposure.data.shape, exposure.header or {}
    if n_samples == shape and given.get("SAMPLE", 1) != SAMPLE:  # a cut-out may have as many pixels as the map samples
        _check_place(header, exposure, shape, 1, (0, 0))
        return 1, (0, 0)
    advice = f"correct {exposure.name}, or fetch it again"
    coarse = read_numbers(
        given, (), advice, optional=("SAMPLE", "NXORIG", "NYORIG"), kind="positive whole number"
    ) | read_numbers(given, (), advice, optional=("CRPIX1", "CRPIX2"))
    # Without SAMPLE, the one number of pixels per sample with which floor(N / sample) gives the map's shape.
    guess = next((s for s in (SAMPLE, *range(2, 65)) if tuple(n // s for n in shape) == n_samples), None)
    sample = int(coarse.get("SAMPLE", guess or 0))
    message = f"exposure map of {n_samples[::-1]} samples does not fit the image of {shape[::-1]} pixels (nx, ny)"
    if sample < 1:
        raise PhotplugError(f"{message}; give the map of this mosaic, or one value for each pixel")
    origin = []
    for axis, n, m in ((2, shape[0], n_samples[0]), (1, shape[1], n_samples[1])):
        offset = 0.0
        if f"CRPIX{axis}" in coarse and f"CRPIX{axis}" in header:
            [reference] = read_numbers(header, [f"CRPIX{axis}"], WCS_ADVICE).values()
            offset = sample * coarse[f"CRPIX{axis}"] - reference
        # Real CRPIX are exact multiples of 1/8; 0.01 pixel allows for their printed digits.
        if not np.isfinite(offset) or abs(offset - round(offset)) > 0.01:
            raise PhotplugError(
                f"{message}: it starts {offset:.3f} pixels off, not a whole number; resample one of them"
            )
        extent = int(coarse.get(f"N{'XY'[axis - 1]}ORIG", sample * m + sample - 1))
        if round(offset) < 0 or round(offset) + n > extent:
            raise PhotplugError(f"{message}, which starts at {offset:.0f} of its {extent}; give the map of this mosaic")
        origin.append(round(offset))
    _check_place(header, exposure, shape, sample, (origin[0], origin[1]))
    return sample, (origin[0], origin[1])


def _check_place(
    header: Header, exposure: ExposureMap, shape: tuple[int, int], sample: int, origin: tuple[int, int]
) -> None:
    """Refuse an exposure map of another part of the sky; CRPIX, which registers it, does not tell that."""
    coarse = exposure.header or {}
    if "CTYPE1" not in coarse or "CTYPE1" not in header:
        return
    try:
        wcs, other = header_wcs(header), header_wcs(coarse)
        # The archive multiplies CD by SAMPLE, but not PC where the mosaic has that alone.
        if sample > 1 and abs(pixel_scale(other) / pixel_scale(wcs) - 1) < 0.01:
            other.wcs.cdelt = sample * np.asarray(other.wcs.cdelt)
        # By its CRPIX, that of the mosaic over SAMPLE, the centre of sample 0 is that of pixel SAMPLE - 1.
        check_same_grid(wcs, other, shape, sample, (sample - 1 - origin[0], sample - 1 - origin[1]))
    except PhotplugError as error:
        raise PhotplugError(f"{exposure.name}: {error}") from None


def fill_gaps(seconds: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Give samples without exposure time that of the nearest one within `FILL_REACH` samples.

    Of neighbours at the same distance it is the left one, then the lower one, as of scipy's distance transform, which
    needs the whole map at once.

    Parameters
    ----------
    seconds : ndarray
        (rows, columns) of samples.

    Returns
    -------
    seconds : ndarray
        The same, filled.
    filled : ndarray of bool
        Which samples were.
    """
    empty = seconds <= 0
    filled = np.zeros_like(empty)
    if not empty.any():
        return seconds, filled
    result = seconds.copy()
    for offset in _NEIGHBOURS:
        to, source = (
            tuple(slice(max(0, sign * d), n + min(0, sign * d)) for d, n in zip(offset, seconds.shape, strict=True))
            for sign in (-1, 1)
        )
        taking = empty[to] & ~filled[to] & ~empty[source]
        result[to][taking] = seconds[source][taking]
        filled[to] |= taking
    return result, filled
