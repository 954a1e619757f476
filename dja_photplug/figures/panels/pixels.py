"""Fewer pixels than a mosaic has, for what is shown of it, on the grid of another, and three bands in colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.stats import mad_std
from astropy.visualization import make_lupton_rgb
from numpy.typing import NDArray

from dja_photplug.sky.grid import Grid, pixel_positions, pixel_scale, sky_positions

__all__ = ["DISPLAY", "block_mean", "choose_colours", "measure_sky", "mix_colours", "name_colours", "sample_grid"]

DISPLAY = 1000  # samples along the longer side of a panel, which is 305 dots wide


def block_mean(pixels: NDArray[np.number], step: int, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the means of step x step pixels that are finite and not masked, NaN where there are none.

    One band of blocks at a time, so that a mosaic is never copied; the last blocks may be smaller.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
    step : int
    mask : ndarray of bool, optional
        Of the same shape, True for pixels that do not count.

    Returns
    -------
    ndarray
        (ceil(ny / step), ceil(nx / step)).

    Examples
    --------
    >>> block_mean(np.array([[1.0, 3.0, 5.0], [1.0, np.nan, np.nan]]), 2)
    array([[1.66666667, 5.        ]])
    """
    tops, lefts = (np.arange(0, n, step) for n in pixels.shape)
    means = np.full((len(tops), len(lefts)), np.nan)
    for mean, top in zip(means, tops, strict=True):
        band = pixels[top : top + step]
        good = np.isfinite(band)
        if mask is not None:
            good &= ~mask[top : top + step]
        count = np.add.reduceat(good.sum(axis=0), lefts)
        total = np.add.reduceat(np.where(good, band, 0).sum(axis=0, dtype=np.float64), lefts)
        np.divide(total, count, out=mean, where=count > 0)
    return means


def measure_sky(pixels: NDArray[np.floating], mask: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """Return level and noise of the sky that is shown, in the unit of the image; 0 and 1 where there are no data.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
        NaN or 0 where there are no data.
    mask : ndarray of bool, optional
        Of the same shape, True for pixels that do not count.

    Returns
    -------
    level, noise : float
        Median, and normalised median absolute deviation: of every n-th pixel, a million of them.
    """
    step = -(-max(pixels.shape) // DISPLAY)
    sample = pixels[::step, ::step]
    good = np.isfinite(sample) & (sample != 0)
    if mask is not None:
        good &= ~mask[::step, ::step]
    sample = sample[good]
    return (float(np.median(sample)), float(mad_std(sample)) or 1.0) if sample.size else (0.0, 1.0)


def sample_grid(pixels: NDArray[np.floating], own: Grid, grid: Grid) -> NDArray[np.float32]:
    """Return an image on the pixels of a coarser grid, as it is shown: means of blocks as large, the nearest one each.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
    own, grid : Grid
        That of `pixels`, and the one to show it on.

    Returns
    -------
    ndarray
        float32, of the shape of `grid`; NaN where the image does not reach.
    """
    step = max(1, round(pixel_scale(grid.wcs) / pixel_scale(own.wcs)))
    means = (pixels if step == 1 else block_mean(pixels, step)).astype(np.float32)
    rows, columns = np.indices(grid.shape)
    x, y = pixel_positions(own.wcs, *(axis.ravel() for axis in sky_positions(grid.wcs, columns, rows)))
    place = [np.floor((axis + 0.5) / step) for axis in (y, x)]
    inside = np.all([(axis >= 0) & (axis < n) for axis, n in zip(place, means.shape, strict=True)], axis=0)
    row, column = (np.where(inside, axis, 0).astype(np.intp) for axis in place)
    return np.where(inside, means[row, column], np.float32(np.nan)).reshape(grid.shape)


def choose_colours(waves: Mapping[str, float]) -> list[str]:
    """Return the bands that are mixed: the longest, the middle and the shortest of three or more, or both of two.

    Parameters
    ----------
    waves : mapping of str to float
        Wavelength by band, NaN where it is not known.

    Returns
    -------
    list of str
        Red, green and blue; red and blue; or the first, which is grey, where fewer than two have a wavelength.

    Examples
    --------
    >>> choose_colours({"f115w": 1.15, "f444w": 4.44, "f200w": 2.0, "f356w": 3.56})
    ['f444w', 'f200w', 'f115w']
    >>> choose_colours({"ir": np.nan, "f444w": 4.44})
    ['ir']
    """
    known = sorted((band for band, wave in waves.items() if np.isfinite(wave)), key=lambda band: -waves[band])
    if len(known) > 2:
        return [known[0], known[len(known) // 2], known[-1]]
    return known if len(known) == 2 else [next(iter(waves))]


def name_colours(bands: Sequence[str]) -> str:
    """Return which colours the bands of :func:`choose_colours` have, in words.

    Parameters
    ----------
    bands : sequence of str
        One to three, as people call them.

    Returns
    -------
    str

    Examples
    --------
    >>> name_colours(["f444w", "f115w"])
    'red: f444w, blue: f115w, green: their mean'
    """
    if len(bands) == 1:
        return bands[0]
    colours = ("red", "green", "blue") if len(bands) == 3 else ("red", "blue")
    text = ", ".join(f"{colour}: {band}" for colour, band in zip(colours, bands, strict=True))
    return text if len(bands) == 3 else f"{text}, green: their mean"


def mix_colours(planes: Sequence[NDArray[np.floating]]) -> NDArray[np.uint8]:
    """Return two or three bands in colours as of Lupton et al. (2004, PASP 116, 133): equal flux densities are white.

    Parameters
    ----------
    planes : sequence of ndarray, (ny, nx) each
        Red, green and blue, or red and blue, whose mean is green; in one unit.

    Returns
    -------
    ndarray, shape (ny, nx, 3)
        The scale begins 1.5 sigma of the mean noise below the sky and is linear within 10.
    """
    skies = [measure_sky(plane) for plane in planes]
    flat = [np.nan_to_num(plane - level) for plane, (level, _) in zip(planes, skies, strict=True)]
    if len(flat) == 2:
        flat.insert(1, (flat[0] + flat[1]) / 2)
    noise = float(np.mean([noise for _, noise in skies]))
    colours: NDArray[np.uint8] = make_lupton_rgb(*flat, minimum=-1.5 * noise, stretch=10 * noise, Q=8)
    return colours
