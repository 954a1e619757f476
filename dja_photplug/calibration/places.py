"""Places for empty apertures, and how many of them are independent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from dja_photplug.calibration.zones import DepthZones, spread_points

__all__ = ["count_blocked", "count_independent", "place_apertures"]

Floats = NDArray[np.float64]

# Points of a circle that are looked at before its pixels are summed.
PROBES = 32

# Square grids with origins of their own: more of them add overlapping apertures that say little new.
GRIDS = 4


def place_apertures(
    blocked: NDArray[np.bool_],
    radius: float,
    margin: float,
    count: int,
    rng: np.random.Generator,
    zones: DepthZones | None = None,
    counts: NDArray[np.uint16] | None = None,
) -> tuple[Floats, Floats, float]:
    """Choose places for apertures that touch no blocked pixel.

    Parameters
    ----------
    blocked : ndarray of bool
        (ny, nx), True for sources and pixels without data.
    radius, margin : float
        Of the aperture, and the distance it keeps from blocked pixels and the edge of the image, in pixels.
    count : int
        How many are wanted, in each zone.
    rng : `~numpy.random.Generator`
    zones : DepthZones, optional
        Without them the image is one.
    counts : ndarray, optional
        What `count_blocked` returns, where it serves several radii.

    Returns
    -------
    x, y : ndarray
        Centres, 0-based; at most `count` in each zone.
    n_effective : float
        Number of independent apertures among them: all, where enough fit without overlap; see `count_independent`.

    Notes
    -----
    The places are those of a square grid of spacing 2 r + 1 with a random origin, so that they do not overlap; a
    jitter of half a pixel makes all positions within a pixel equally likely. Where too few of them are clear, those of
    further grids join, which overlap the first.
    """
    counts = count_blocked(blocked) if counts is None else counts
    number = 1 if zones is None else len(zones.edges) + 1
    places, zone = np.empty((0, 2)), np.empty(0, dtype=np.intp)
    for part in _draw_places(blocked.shape, 2 * radius + 1, radius + margin, 2 * count, rng):
        where = np.zeros(len(part), dtype=np.intp) if zones is None else zones.find(part, radius)
        lacking = np.bincount(zone, minlength=number) < count
        part, where = part[lacking[where]], where[lacking[where]]
        clear = _find_clear(blocked, counts, part, radius + margin)
        places, zone = np.concatenate([places, part[clear]]), np.concatenate([zone, where[clear]])
        first = np.sort(np.concatenate([np.flatnonzero(zone == i)[:count] for i in range(number)]))
        places, zone = places[first], zone[first]
        if len(places) == count * number:
            break
    x, y = places.T
    return x, y, count_independent(x, y, radius)


def _draw_places(
    shape: tuple[int, ...], spacing: float, reach: float, size: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield x and y of places `reach` away from the edges, (n, 2), grid by grid in random order.

    About `size` at a time: at 12000 x 12000 a grid for the smallest radius has millions.
    """
    for _ in range(GRIDS):
        x, y = (np.arange(reach + rng.uniform(0, spacing), n - 1 - reach, spacing) for n in shape[::-1])
        order = rng.permutation(len(x) * len(y))
        for part in np.array_split(order, max(1, len(order) // size)):
            places = np.column_stack([x[part % len(x)], y[part // len(x)]])
            yield places + rng.uniform(-0.5, 0.5, places.shape)


def count_blocked(blocked: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Return how many pixels of each row are blocked before each column.

    Parameters
    ----------
    blocked : ndarray of bool
        (ny, nx).

    Returns
    -------
    ndarray
        (ny, nx + 1), modulo 65536: only differences within an aperture count.
    """
    counts = np.zeros((blocked.shape[0], blocked.shape[1] + 1), dtype=np.uint16)
    counts[:, 1:] = blocked  # summing with a change of type takes five times as long
    return np.cumsum(counts, axis=1, dtype=np.uint16, out=counts)


def _find_clear(
    blocked: NDArray[np.bool_], counts: NDArray[np.uint16], places: Floats, reach: float
) -> NDArray[np.intp]:
    """Return the indices of those of the places (n, 2) whose circle touches no blocked pixel.

    Most that do are told by points spread over the circle, the others by their rows of pixels: at 42 pixels that takes
    a third of the time of summing them all.
    """
    index = np.arange(len(places))
    for i in range(PROBES):
        index = index[~blocked[spread_points(places[index], reach, i, PROBES, blocked.shape)]]
    x, y = places[index].T[..., None]
    row = np.rint(y).astype(int) + np.arange(-int(reach) - 1, int(reach) + 2)
    # Pixels are squares: the nearest edge of a row, and half of the chord there.
    half = np.sqrt(np.maximum(reach**2 - np.maximum(np.abs(row - y) - 0.5, 0) ** 2, 0))
    first = np.clip(np.floor(x - half + 0.5).astype(int), 0, blocked.shape[1])
    last = np.clip(np.ceil(x + half + 0.5).astype(int), 0, blocked.shape[1])
    row = np.clip(row, 0, blocked.shape[0] - 1)
    touched = (counts[row, first] != counts[row, last]) & (half > 0)
    return index[~touched.any(axis=1)]


def count_independent(x: ArrayLike, y: ArrayLike, radius: float) -> float:
    """Return how many independent circles would give the scatter as well as these, which may overlap.

    Parameters
    ----------
    x, y : array_like
        Centres, (n,).
    radius : float
        Of all circles.

    Returns
    -------
    float
        ``n^2 / sum_ij(rho_ij^2)``, with rho the shared fraction of the area of two circles: for white noise it is
        their correlation, and the variance of a mean of squares is proportional to the sum. A median gains more from
        overlaps: its sampling error comes out too large, by a fifth where four grids overlap.

    Examples
    --------
    >>> count_independent([0, 10, 20], [0, 0, 0], 5), count_independent([0, 0], [0, 0], 5)
    (3.0, 1.0)
    """
    places = np.column_stack([x, y]).astype(float)
    if len(places) == 0:
        return 0.0
    i, j = KDTree(places).query_pairs(2 * radius, output_type="ndarray").T
    apart = np.linalg.norm(places[i] - places[j], axis=1) / (2 * radius)
    shared = (np.arccos(apart) - apart * np.sqrt(1 - apart**2)) * 2 / np.pi
    return float(len(places) ** 2 / (len(places) + 2 * np.sum(shared**2)))
