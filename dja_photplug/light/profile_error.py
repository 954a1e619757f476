"""How wrong profiles are about the light of sources beyond their segments, measured in the image itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from dja_photplug.light.neighbours import Neighbours
from dja_photplug.light.planes import Floats, Shapes, sum_overlap

__all__ = ["ProfileError", "measure_profile_error"]

# Error of what profiles say, as a fraction of it, where an image has fewer than so many apertures with light of more
# than so many sigma to measure it: that of the UDS cut-outs is 0.35 (F444W) and 0.50 (F115W).
PROFILE_ERROR, LEAST_PLACES, LIT = 0.35, 50, 2.0
MOST_PLACES = 40_000  # places that are looked at; a whole mosaic has a million
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
    neighbours: Neighbours,
    null: NDArray[np.bool_],
    segmentation: NDArray[np.int32],
    radius: float,
    sum_variance: Callable[[Shapes, float], Floats],
) -> ProfileError:
    """Measure how wrong profiles are, where nothing but the light that they took off was.

    Parameters
    ----------
    neighbours : Neighbours
    null, segmentation : ndarray
        (ny, nx), as they were made with.
    radius : float
        Of the apertures, in pixels.
    sum_variance : callable
        ``(shapes, radius)`` gives the variance of sums over circles around positions, (n,), by all other noise.

    Returns
    -------
    ProfileError
        `UNSEEN`, and in quadrature that with which sums over apertures on the sky beside bright sources, in which
        profiles took off more than twice their noise, scatter about 0 as much as their error says.
    """
    ny, nx = neighbours.wings.shape
    # Half as far apart as would not overlap: four times as many say half as much again.
    step, overlap = int(radius + 1), 4
    rows, columns = (np.arange(step, n - step, step) for n in (ny, nx))
    y, x = (place.ravel() for place in np.meshgrid(rows, columns, indexing="ij"))
    lit = np.flatnonzero(neighbours.wings[y, x] > 0)
    stride = max(1, len(lit) // MOST_PLACES)
    lit, overlap = lit[::stride], max(1, overlap // stride)
    places = Shapes.at(x[lit].astype(float), y[lit].astype(float))

    def add(plane: NDArray[np.generic], places: Shapes) -> Floats:
        size = np.full(len(places.x), radius)
        return sum_overlap(plane, places, size, size, np.zeros_like(size))[0]

    places = places[(add(segmentation, places) == 0) & (add(null.view(np.uint8), places) == 0)]
    light, left, variance = add(neighbours.wings, places), add(neighbours.clear, places), sum_variance(places, radius)
    use = light > LIT * np.sqrt(variance)
    count = int(np.count_nonzero(use)) // overlap
    if count < LEAST_PLACES:
        return ProfileError(fraction=PROFILE_ERROR, count=0)
    light, left, variance = light[use], left[use], variance[use]

    def excess(fraction: float) -> float:
        """How much the median deviation is above that of a Gaussian."""
        return float(np.median(np.abs(left) / np.sqrt(variance + np.square(fraction * light)))) / MEDIAN_DEVIATION - 1

    fraction = brentq(excess, 0, 1, xtol=1e-3) if excess(0) > 0 > excess(1) else float(excess(0) > 0)
    return ProfileError(fraction=float(np.hypot(fraction, UNSEEN)), count=count)
