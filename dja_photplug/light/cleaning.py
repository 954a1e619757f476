"""Cleaning of detections: what is no more than the wing of a brighter source, as Source Extractor decides it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dja_photplug.light.planes import Floats
from dja_photplug.light.smoothing import Kernel, convolve_pixels, segment_strips
from dja_photplug.options.stages import DetectOptions

__all__ = ["Uncleaned", "Wings", "find_wings"]

# How far apart sources are looked at, in sums of their semi-major axes, and the least size of them in pixels.
REACH, SMALLEST = 10.0, 0.5

Index = NDArray[np.intp]
_COLUMNS = ("x", "y", "size", "flux", "height", "slope", "cxx", "cyy", "cxy", "least")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wings:
    """Moffat profiles of sources, all (n,), and how much of another's hides them; lengths in pixels.

    Attributes
    ----------
    x, y : ndarray
        Positions.
    size : ndarray
        Semi-major axes.
    flux : ndarray
        In the unit of the image, smoothed.
    height, slope : ndarray
        At the distance r^2 = cxx dx^2 + cyy dy^2 + cxy dx dy the wing is height (1 + slope r^2)^-beta.
    cxx, cyy, cxy : ndarray
        Of the ellipse.
    least : ndarray
        Height above the threshold of as many pixels as a source must have: what is above that hides the source.
    beta : float
        The exponent of all of them.
    """

    x: Floats
    y: Floats
    size: Floats
    flux: Floats
    height: Floats
    slope: Floats
    cxx: Floats
    cyy: Floats
    cxy: Floats
    least: Floats
    beta: float

    def __getitem__(self, chosen: NDArray[np.bool_ | np.intp]) -> Wings:
        """Return those of some of the sources."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})

    def move(self, x: int, y: int) -> Wings:
        """Return them with positions that are so many pixels farther.

        Parameters
        ----------
        x, y : int

        Returns
        -------
        Wings
        """
        return replace(self, x=self.x + x, y=self.y + y)

    @classmethod
    def join(cls, parts: list[Wings]) -> Wings:
        """Return those of several lists as one.

        Parameters
        ----------
        parts : list of Wings
            At least one.

        Returns
        -------
        Wings
        """
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return cls(**columns, beta=parts[0].beta)

    def stand_out(self) -> NDArray[np.bool_]:
        """Return which sources no wing of a brighter one hides.

        Returns
        -------
        ndarray of bool
            (n,). The brightest come first: what is hidden has no wing.

        Notes
        -----
        sep goes by the order of the rows of pixels instead, so that the tiles of an image would differ, and leaves one
        of the pixels out of `least`: of the sources of the UDS cut-outs 1 in 100 is another.
        """
        kept = np.ones(len(self.x), bool)
        if len(kept) < 2:
            return kept
        brighter, fainter = self._pairs()
        dx, dy = self.x[brighter] - self.x[fainter], self.y[brighter] - self.y[fainter]
        square = self.cxx[brighter] * dx * dx + self.cyy[brighter] * dy * dy + self.cxy[brighter] * dx * dy
        with np.errstate(all="ignore"):
            far = 1 + self.slope[brighter] * square
            hides = np.where(far > 1, self.height[brighter] * np.power(far, -self.beta), 0) > self.least[fainter]
        brighter, fainter = brighter[hides], fainter[hides]
        order = np.lexsort((self.x[brighter], self.y[brighter], -self.flux[brighter]))
        for one, other in zip(brighter[order].tolist(), fainter[order].tolist(), strict=True):
            kept[other] &= not kept[one]
        return kept

    def _pairs(self) -> tuple[Index, Index]:
        """Return sources that are near enough to each other: the brighter and the fainter ones."""
        place, size = np.column_stack([self.x, self.y]), np.maximum(self.size, SMALLEST)
        classes = np.frexp(size)[1]  # sizes of up to a factor of two at a time
        first, second = [], []
        for i, j in combinations_with_replacement(np.unique(classes).tolist(), 2):
            one, other = (np.flatnonzero(classes == k) for k in (i, j))
            trees = [KDTree(place[which]) for which in (one, other)]
            found = trees[0].sparse_distance_matrix(trees[1], REACH * (2.0**i + 2.0**j), output_type="ndarray")
            a, b = one[found["i"]], other[found["j"]]
            near = found["v"] <= REACH * (self.size[a] + self.size[b])
            near &= a < b if i == j else True
            first.append(a[near])
            second.append(b[near])
        a, b = np.concatenate(first), np.concatenate(second)
        swap = self.flux[b] > self.flux[a]
        return np.where(swap, b, a), np.where(swap, a, b)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uncleaned:
    """What a detection was before it was cleaned, for an image of which it is but a tile.

    Attributes
    ----------
    sources : `~astropy.table.QTable`
        As of a `Detection`, (n,).
    segmentation : ndarray
        (ny, nx), labels.
    wings : Wings
        (n,).
    cleaned : `~astropy.table.QTable`
        The sources that were left: a detection with another table was changed since, and is not cleaned again.
    """

    sources: QTable
    segmentation: NDArray[np.int32]
    wings: Wings
    cleaned: QTable


def find_wings(
    rows: NDArray[np.void],
    labels: NDArray[np.int32],
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    kernel: Kernel | None,
    options: DetectOptions,
) -> Wings:
    """Return the wings of sources that sep found.

    Parameters
    ----------
    rows : structured ndarray
        From `sep.extract`, (n,).
    labels : ndarray
        (ny, nx), 1 to n.
    data, variance : ndarray
        (ny, nx), pixels and their variance.
    kernel : ndarray or None
        Which pixels were smoothed with before they were compared with the threshold.
    options : DetectOptions
        That threshold, the least number of pixels of a source, and the exponent of the wings.

    Returns
    -------
    Wings
        (n,).
    """
    sigma, beta = np.float32(options.n_sigma), options.clean
    none = np.empty(0, np.float32)
    owners, lights, heights = [np.empty(0, np.int32)], [none], [none]
    for strip in segment_strips(labels, kernel):
        own, pixels = strip.labels > 0, strip.cut(data)
        smooth, error = convolve_pixels(pixels, kernel, strip.inner), np.sqrt(strip.cut(variance)[strip.inner])
        owners.append(strip.labels[own] - 1)
        lights.append(pixels[strip.inner][own])
        heights.append((smooth - sigma * error)[own].astype(np.float32, copy=False))
    owner, light, above = np.concatenate(owners), np.concatenate(lights), np.concatenate(heights)
    half = (rows["thresh"] + rows["peak"]) / 2
    steep = np.bincount(owner[light > half[owner]], minlength=len(rows))
    area = np.pi * rows["a"].astype(float) * rows["b"]
    with np.errstate(all="ignore"):
        # The area above half of the height, over that of a Gaussian of this shape: sep's `abcor`.
        ratio = rows["thresh"] / half
        change = np.where(steep < rows["tnpix"], steep - rows["tnpix"], -1)
        part = np.minimum(change / (2 * area * np.log(np.where(ratio < 1, ratio, 0.99))), 1)
        height = rows["cflux"] / (2 * area * np.where(ratio > 0, part, 1))
        return Wings(
            x=rows["x"],
            y=rows["y"],
            size=rows["a"].astype(float),
            flux=rows["cflux"].astype(float),
            height=height,
            # So that the profile is at the threshold where the segment ends.
            slope=(np.power(height / rows["thresh"], 1 / beta) - 1) * area / rows["npix"],
            beta=beta,
            least=_find_least(owner, above, options.n_pixels, len(rows)),
            **{name: rows[name].astype(float) for name in ("cxx", "cyy", "cxy")},
        )


def _find_least(owner: NDArray[np.int32], above: NDArray[np.float32], pixels: int, size: int) -> Floats:
    """Return the height that so many pixels of each of `size` owners reach; 0 for those that have fewer."""
    count = np.bincount(owner, minlength=size)
    large, place = np.flatnonzero(count >= pixels), np.cumsum(count) - count + pixels - 1
    # By owner and falling height, as whole numbers: those are sorted ten times as fast as rows of two keys.
    falling = np.sort((owner.astype(np.int64) << 32) - _rank_bits(above.view(np.int32).astype(np.int64)))
    least = np.zeros(size)
    least[large] = _rank_bits((large << 32) - falling[place[large]]).astype(np.int32).view(np.float32)
    return least


def _rank_bits(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bits of floats as numbers that rise with them, which are below 0 for those; and the bits of these."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
