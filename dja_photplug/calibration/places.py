"""Places for empty apertures, and how many of them are independent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from dja_photplug.calibration.zones import DepthZones, spread_points
from dja_photplug.parallel.scratch import share_plane

__all__ = ["STEPS", "Blocked", "count_independent", "place_apertures"]

Floats = NDArray[np.float64]

# Parts of a pixel at which circles have their centres, along each axis.
STEPS = 4

# Points of a circle that are looked at before its pixels are summed.
PROBES = 32

# Bytes that are looked at in one, and pixels whose bits are in them wherever the first one begins; pairs of circles and
# rows at a time that a cache holds.
WORD, STEP, CACHED = 8, 56, 2**14

# Pieces of a grid that are drawn without the rest of it.
FIRST = 8

# Square grids with origins of their own: more of them add overlapping apertures that say little new.
GRIDS = 4


def place_apertures(
    blocked: Blocked,
    radius: float,
    margin: float,
    count: int,
    rng: np.random.Generator,
    zones: DepthZones | None = None,
) -> tuple[Floats, Floats, float]:
    """Choose places for apertures that touch no blocked pixel.

    Parameters
    ----------
    blocked : Blocked
        Where sources are, and pixels without data.
    radius, margin : float
        Of the aperture, and the distance it keeps from blocked pixels and the edge of the image, in pixels.
    count : int
        How many are wanted, in each zone.
    rng : `~numpy.random.Generator`
    zones : DepthZones, optional
        Without them the image is one.

    Returns
    -------
    x, y : ndarray
        Centres, 0-based; at most `count` in each zone.
    n_effective : float
        Number of independent apertures among them: all, where enough fit without overlap; see `count_independent`.

    Notes
    -----
    The places are those of a square grid of spacing 2 r + 1 with a random origin, so that they do not overlap; a
    jitter of half a pixel makes all quarters of a pixel (`STEPS`) equally likely. Where too few of them are clear,
    those of further grids join, which overlap the first.
    """
    number = 1 if zones is None else len(zones.edges) + 1
    places, zone = np.empty((0, 2)), np.empty(0, dtype=np.intp)
    for part in _draw_places(blocked.shape, 2 * radius + 1, radius + margin, 2 * count, rng):
        where = np.zeros(len(part), dtype=np.intp) if zones is None else zones.find(part, radius)
        lacking = np.bincount(zone, minlength=number) < count
        part, where = part[lacking[where]], where[lacking[where]]
        clear = _find_clear(blocked, part, radius + margin)
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

    At most `size` at a time: at 12000 x 12000 a grid for the smallest radius has millions.
    """
    for _ in range(GRIDS):
        x, y = (np.arange(reach + rng.uniform(0, spacing), n - 1 - reach, spacing) for n in shape[::-1])
        for part in _draw_numbers(len(x) * len(y), size, rng):
            places = np.column_stack([x[part % len(x)], y[part // len(x)]])
            # Half a pixel at most, with what is cut off: neither do circles overlap, nor leave the image.
            jitter = rng.integers(1 - STEPS // 2, STEPS // 2 + 1, places.shape)
            yield (np.floor(STEPS * places) + jitter) / STEPS


def _draw_numbers(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.integer]]:
    """Yield the numbers below `count` in random order, at most `size` at a time.

    Most often the first of them will do, which are drawn in a hundredth of the time that it takes to mix all.
    """
    first = rng.choice(count, min(FIRST * size, count), replace=False)
    yield from (first[start : start + size] for start in range(0, len(first), size))
    left = np.ones(count, bool)
    left[first] = False
    rest: NDArray[np.integer] = np.flatnonzero(left)
    if count < 2**32:  # half of the memory
        rest = rest.astype(np.uint32)
    rng.shuffle(rest)
    yield from (rest[start : start + size] for start in range(0, len(rest), size))


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """Where no aperture may be, as bits, which a cache holds where it does not hold the pixels.

    Attributes
    ----------
    shape : tuple of int
        Of the image, (ny, nx).
    bits : ndarray of uint8
        (ny, nx / 8, rounded up, and 8 bytes of zeros); the first column is the lowest bit.
    """

    shape: tuple[int, int]
    bits: NDArray[np.uint8]

    @classmethod
    def pack(cls, blocked: NDArray[np.bool_]) -> Blocked:
        """Return blocked pixels as bits.

        Parameters
        ----------
        blocked : ndarray of bool
            (ny, nx).

        Returns
        -------
        Blocked
        """
        ny, nx = blocked.shape
        bits = np.zeros((ny, -(-nx // 8) + WORD), dtype=np.uint8)
        bits[:, :-WORD] = np.packbits(blocked, axis=1, bitorder="little")
        return cls((ny, nx), bits)

    @classmethod
    def join(cls, parts: Sequence[Blocked]) -> Blocked:
        """Return rows below each other.

        Parameters
        ----------
        parts : sequence of Blocked
            Of the same width, at least one.

        Returns
        -------
        Blocked
        """
        bits = np.concatenate([part.bits for part in parts])
        return cls((len(bits), parts[0].shape[1]), bits)

    def share(self) -> Blocked:
        """Return the same in a file, where processes share such.

        Returns
        -------
        Blocked
        """
        return Blocked(self.shape, share_plane(self.bits))

    def __getitem__(self, rows: slice) -> NDArray[np.bool_]:
        """Return some rows, pixel by pixel."""
        return np.unpackbits(self.bits[rows, :-WORD], axis=1, count=self.shape[1], bitorder="little").view(bool)

    def at(self, row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return whether pixels are blocked.

        Parameters
        ----------
        row, column : ndarray
            (n,).

        Returns
        -------
        ndarray of bool
            (n,).
        """
        return (self.bits[row, column >> 3] >> (column & 7).astype(np.uint8)) & 1 > 0


def _find_clear(blocked: Blocked, places: Floats, reach: float) -> NDArray[np.intp]:
    """Return the indices of those of the places (n, 2) whose circle touches no blocked pixel.

    Most that do are told by points spread over the circle, the others by their rows of pixels: at 42 pixels that takes
    a third of the time of looking at them all.
    """
    index = np.arange(len(places))
    for i in range(PROBES):
        index = index[~blocked.at(*spread_points(places[index], reach, i, PROBES, blocked.shape))]
    offsets = np.arange(-int(reach) - 1, int(reach) + 2)
    parts = np.array_split(index, 1 + len(index) * len(offsets) // CACHED)
    return np.concatenate([part[~_touch_blocked(blocked, places[part], reach, offsets)] for part in parts])


def _touch_blocked(blocked: Blocked, places: Floats, reach: float, offsets: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which circles around places (n, 2) touch a blocked pixel in the rows at these offsets from theirs."""
    (ny, nx), (x, y) = blocked.shape, places.T[..., None]
    row = np.rint(y).astype(int) + offsets
    # Pixels are squares: the nearest edge of a row, and half of the chord there.
    square = reach**2 - np.maximum(np.abs(row - y) - 0.5, 0) ** 2
    half = np.sqrt(np.maximum(square, 0))
    first = np.clip(np.floor(x - half + 0.5).astype(int), 0, nx)
    last = np.where(square > 0, np.clip(np.ceil(x + half + 0.5).astype(int), 0, nx), 0)
    row = np.clip(row, 0, ny - 1)
    # Eight bytes from any byte on: the bits of 57 pixels, whichever of the first byte's is the first of them.
    words = sliding_window_view(blocked.bits, WORD, axis=1).view("<u8")[..., 0]
    ones = np.array([(1 << bits) - 1 for bits in range(STEP + 1)], dtype=np.uint64)
    touched = np.zeros(len(places), dtype=bool)
    for start in range(0, 2 * len(offsets), STEP):
        bits = np.clip(last - first - start, 0, STEP)
        if not bits.any():
            break
        begin = np.minimum(first + start, nx)
        word = words[row, begin >> 3] >> (begin & 7).astype(np.uint64)
        touched |= ((word & ones[bits]) != 0).any(axis=1)
    return touched


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
