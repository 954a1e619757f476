"""How wrong profiles are about the light of sources outside of their segments, measured in the image itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dja_photplug.light.planes import Floats, Shapes, sum_overlap
from dja_photplug.mosaic.blocks import Planes
from dja_photplug.neighbours.models import NeighbourLight
from dja_photplug.parallel.workers import Map

__all__ = ["ProfileError", "measure_profile_error"]

# Error of what profiles say, as a fraction of it, where an image has fewer than so many apertures with light of more
# than so many sigma to measure it: that of the UDS cut-outs is 0.37 (F444W) and 0.53 (F115W).
PROFILE_ERROR, LEAST_PLACES, LIT = 0.35, 50, 2.0
MOST_PLACES = 40_000  # places that are looked at; a whole mosaic has a million
# Pixels of a band of rows in which they are; how many bands are looked at first, and how many apertures are enough, as
# they tell the error within 4 %.
BAND, BANDS, ENOUGH = 2**19, 32, 500
# What these apertures do not know, as profiles were made of their pixels: in simulated fields the light of neighbours
# in the apertures of sources is wrong by 0.22 of it where it is above two sigma, by 0.33 between one and two, and by
# 0.1 in apertures on the sky.
UNSEEN = 0.25
MEDIAN_DEVIATION = 0.6745  # of a Gaussian, in sigma


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileError:
    """Error of what profiles say of the light beyond segments.

    Attributes
    ----------
    fraction : float
        Of that light.
    count : int
        Apertures it was measured in, as many as do not overlap; 0 where they were too few, and it is what other
        fields have.
    """

    fraction: float
    count: int

    def metadata(self) -> dict[str, float | int | str]:
        """Return what a catalogue says of it.

        Returns
        -------
        dict
            ``PROFERR``, ``PROFERRN`` its number of apertures, and where that is 0 a ``PROFNOTE``.
        """
        cards: dict[str, float | int | str] = {"PROFERR": float(f"{self.fraction:.3g}"), "PROFERRN": self.count}
        note = f"PROFERR is that of other fields: fewer than {LEAST_PLACES} apertures in the light beyond segments"
        return cards if self.count else cards | {"PROFNOTE": note}


def measure_profile_error(
    light: NeighbourLight,
    planes: Planes,
    radius: float,
    find_variance: Callable[[Floats, Floats], Floats],
    *,
    parallel: Map = map,
) -> ProfileError:
    """Measure how wrong profiles are, where nothing but the light that they took off was.

    Parameters
    ----------
    light : NeighbourLight
    planes : Planes
        Of the same image.
    radius : float
        Of the apertures, in pixels.
    find_variance : callable
        ``(total, background)``, sums over circles of the variances with and without source photons, (n,), gives the
        variance of a sum by all other noise.
    parallel : Map, optional
        Does the apertures in bands of rows.

    Returns
    -------
    ProfileError
        `UNSEEN`, and in quadrature that with which sums over apertures on the sky beside bright sources, in which
        profiles took off more than twice their noise, scatter about 0 as much as their error says.
    """
    from scipy.optimize import brentq  # 0.3 s to import, and only profiles that are taken off need it

    ny, nx = light.clear.shape
    step = int(radius + 1)
    rows = np.arange(step, ny - step, step)
    bands = [band for band in np.array_split(rows, -(-ny * nx // BAND)) if len(band)]
    apart = max(1, len(bands) // BANDS)
    spread = [band for first in range(apart) for band in bands[first::apart]]
    found, count, seen = np.empty((5, 0)), 0, 0
    while count < ENOUGH and seen < len(spread):
        some = spread[seen : 2 * seen or -(-len(bands) // apart)]  # as many again, until there are enough
        seen += len(some)
        look = partial(_look_beside, light, planes, radius, MOST_PLACES // len(some))
        found = np.concatenate([found, *parallel(look, some)], axis=1)
        lit, left, total, background, share = found
        variance = find_variance(total, background)
        use = lit > LIT * np.sqrt(variance)
        count = int(share[use].sum())
    if count < LEAST_PLACES:
        return ProfileError(fraction=PROFILE_ERROR, count=0)
    lit, left, variance = lit[use], left[use], variance[use]

    def excess(fraction: float) -> float:
        """How much the median deviation is above that of a Gaussian."""
        return float(np.median(np.abs(left) / np.sqrt(variance + np.square(fraction * lit)))) / MEDIAN_DEVIATION - 1

    fraction = brentq(excess, 0, 1, xtol=1e-3) if excess(0) > 0 > excess(1) else float(excess(0) > 0)
    return ProfileError(fraction=float(np.hypot(fraction, UNSEEN)), count=count)


def _look_beside(light: NeighbourLight, planes: Planes, radius: float, most: int, centres: NDArray[np.intp]) -> Floats:
    """Return sums over about so many circles in these rows, on the sky with data and with some light taken off, (5, n).

    They are that light, what is left, and the variances with and without source photons; the last is how many circles
    that do not overlap each stands for.
    """
    step = int(radius + 1)
    rows = slice(int(centres[0]) - step, int(centres[-1]) + step + 1)
    drawn, some = light[rows, :].draw(), planes[rows]
    columns = np.arange(step, drawn.wings.shape[1] - step, step)
    y, x = (place.ravel() for place in np.meshgrid(centres - rows.start, columns, indexing="ij"))
    there = np.flatnonzero(drawn.wings[y, x] > 0)
    # Half as far apart as would not overlap: four times as many say half as much again.
    stride = max(1, len(there) // most)
    there = there[::stride]
    places = Shapes.at(x[there].astype(float), y[there].astype(float))

    def add(plane: NDArray[np.generic]) -> Floats:
        return sum_overlap(plane, places, *places.circles(radius))[0]

    blocked = some.null()
    blocked |= light.segmentation[rows] > 0
    places = places[add(blocked.view(np.uint8)) == 0]
    sums = [add(plane) for plane in (drawn.wings, drawn.clear, some.variance(), some.variance("background"))]
    return np.stack([*sums, np.full(len(places.x), 1 / max(1, 4 // stride))])
