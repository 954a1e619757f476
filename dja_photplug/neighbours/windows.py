"""Windowed positions: where the light within a Gaussian around a source is in balance, whatever is farther out.

The barycentre of a segment follows the noise, the asymmetry and the cut of all of its pixels. A Gaussian of the size of
the core, moved until the light in it is in balance, sees little of them: XWIN and YWIN of Source Extractor, with steps
by Newton's method in place of twice the mean offset, which is too short where a source is larger than its window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dja_photplug.light.planes import Floats
from dja_photplug.mosaic.blocks import Planes
from dja_photplug.neighbours.stamps import Image, Index

__all__ = ["WINDOW_REACH", "Windows", "find_windowed"]

WINDOW_REACH = 4.0  # of a window, in its sigma, as Source Extractor has it
FARTHEST = 2.0  # from where it began, in its sigma: a window that goes farther is on its way to something else
MOST_STEPS, LAST_STEP = 30, 1e-3  # and the length of the last one, in pixels
LEAST_CURVATURE = 0.1  # of the light in a window, in that of a point's: on flat light steps would have no end
BATCH = 400_000  # pixels of stamps at a time, which a cache holds

Found = tuple[Floats, Floats, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Where sources are looked for, all (n,).

    Attributes
    ----------
    label : ndarray
        In the segmentation.
    x, y : ndarray
        Where windows begin, in pixels of the image.
    sigma : ndarray
        Of the Gaussians, in pixels.
    """

    label: NDArray[np.int32]
    x: Floats
    y: Floats
    sigma: Floats

    def __getitem__(self, index: NDArray[np.bool_ | np.intp]) -> Windows:
        """Return some of them."""
        return Windows(**{name: getattr(self, name)[index] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Light:
    """Some rows of an image, less sky and wings, from the row `first` on."""

    data: Image
    segmentation: NDArray[np.int32]
    null: NDArray[np.bool_]
    first: int

    def look(self, places: Floats) -> NDArray[np.int32]:
        """Return the labels at x and y, (2, n); -1 off the image, where nothing tells what is in balance."""
        x, y = np.rint(places).astype(np.intp)
        ny, nx = self.data.shape
        on_image = (x >= 0) & (x < nx) & (y >= self.first) & (y < self.first + ny)
        labels = self.segmentation[np.clip(y - self.first, 0, ny - 1), np.clip(x, 0, nx - 1)]
        return np.where(on_image, labels, np.int32(-1))

    def cut(self, label: NDArray[np.int32], middle: Index, half: int) -> Floats:
        """Return stamps around x and y, (2, n): the light, and 1 where none is known, (n, 2, side, side).

        That is in pixels of others, without data, and off the image; their light is 0.
        """
        (x, y), span = middle, np.arange(-half, half + 1)
        rows, columns = (y - self.first)[:, None] + span, x[:, None] + span
        ny, nx = self.data.shape
        use = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
        where = np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :]
        owner = self.segmentation[where]
        use &= (owner == 0) | (owner == label[:, None, None])
        use &= ~self.null[where]
        return np.stack([np.where(use, self.data[where], 0), ~use], axis=1, dtype=np.float64)


def find_windowed(
    data: Image, planes: Planes, segmentation: NDArray[np.int32], windows: Windows, first: int = 0
) -> Found:
    """Return the windowed positions of sources.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky and the light of neighbours.
    planes : Planes
        Of these rows: which pixels have data.
    segmentation : ndarray
        (ny, nx), labels.
    windows : Windows
        Of n sources, all of which have a position.
    first : int, optional
        Which row of the image the first one is.

    Returns
    -------
    x, y : ndarray
        (n,), in pixels of the image; as they were where none was found.
    found : ndarray of bool
        (n,), False where a window did not come to rest, or off the source's segment, or beyond two sigma from where it
        began.

    Notes
    -----
    Offsets are counted from the pixel that a window begins in: positions are the same bit by bit in any rows.
    """
    light = _Light(data=data, segmentation=segmentation, null=planes.null(), first=first)
    x, y, found = windows.x.copy(), windows.y.copy(), np.zeros(len(windows.x), bool)
    halves = np.ceil(WINDOW_REACH * windows.sigma).astype(np.intp)
    for half in np.unique(halves).tolist():
        rows, count = np.flatnonzero(halves == half), max(1, BATCH // (2 * half + 1) ** 2)
        for part in np.split(rows, np.arange(count, len(rows), count)):
            x[part], y[part], found[part] = _follow(light, windows[part], half)
    return np.where(found, x, windows.x), np.where(found, y, windows.y), found


def _follow(light: _Light, windows: Windows, half: int) -> Found:
    """Return as `find_windowed`, of windows with stamps of one size."""
    begin = np.rint([windows.x, windows.y]).astype(np.intp)
    start = np.stack([windows.x, windows.y]) - begin
    offset, at, found = start.copy(), np.zeros_like(begin), np.zeros(len(windows.x), bool)
    live, stamps = np.arange(len(found)), light.cut(windows.label, begin, half)
    for _ in range(MOST_STEPS):
        sigma = windows.sigma[live]
        step = _step(stamps, offset[:, live] - at[:, live], sigma)
        offset[:, live] += step
        lost = ~(np.hypot(*(offset - start)[:, live]) < FARTHEST * sigma)
        found[live] = ~lost & (np.hypot(*step) < LAST_STEP)
        kept = ~(lost | found[live])
        live, stamps = live[kept], stamps[kept]
        if not len(live):
            break
        now = np.rint(offset[:, live]).astype(np.intp)
        moved = np.any(now != at[:, live], axis=0)
        at[:, live] = now
        if moved.any():
            who = live[moved]
            stamps[moved] = light.cut(windows.label[who], (begin + at)[:, who], half)
    places = np.where(found, begin + offset, [windows.x, windows.y])
    found &= light.look(places) == windows.label  # else it is not this source that is in balance there
    return *places, found


def _step(stamps: Floats, offset: Floats, sigma: Floats) -> Floats:
    """Return how far windows are to be moved, (2, n), by the first and second moments of the light in them.

    To the first moments is added what a Gaussian of the window's size has in the pixels that do not count. NaN where
    there is no light.
    """
    half = stamps.shape[-1] // 2
    away = np.arange(-half, half + 1) - offset[:, :, None]
    weights = np.exp(-0.5 * np.square(away / sigma[:, None]))
    light, lacking = _moments(stamps[:, 0], away, weights), _moments(stamps[:, 1], away, np.square(weights))
    total = np.where(light[0, 0] > 0, light[0, 0], np.nan)
    mean = np.stack([light[0, 1], light[1, 0]]) / total
    mean += np.stack([lacking[0, 1], lacking[1, 0]]) / (np.pi * sigma**2 - lacking[0, 0])
    square = np.stack([light[0, 2], light[2, 0]]) / total
    return mean / np.maximum(1 - square / sigma**2, LEAST_CURVATURE)


def _moments(stamps: Floats, away: Floats, weights: Floats) -> Floats:
    """Return sums of pixels times powers of y and x, up to 2, and their weights, (3, 3, n)."""
    across, up = (np.stack([w, w * d, w * d * d], axis=-1) for d, w in zip(away, weights, strict=True))
    return np.moveaxis(np.swapaxes(up, 1, 2) @ (stamps @ across), 0, -1)
