"""Whether the weight of an image and its pixels agree: the scatter of the sky over the sigma that the weight says."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.sky.grid import pixel_scale

if TYPE_CHECKING:
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.mosaic.made import MadeWeight

__all__ = ["CellSampler", "WeightCheck", "check_weight", "measure_scatter"]

# Scatter over sigma in the middle cell. Drizzled pixels are correlated and scatter less than their weight says: whole
# real mosaics have 0.52 (WFC3/IR at 60 mas), 0.57 (F444W) and 0.83 (F115W at 40 mas), simulated ones 0.56, and 0.34
# where pixels of 63 mas were drizzled to 20 mas. In cut-outs of 64 x 64 pixels and more, also around the brightest
# sources, it is 0.49 to 1.10. The scatter of all pixels is up to a fifth larger, of which polynomials take a part: the
# lower limits are 0.3 and 0.05 of that.
LIKELY = (0.25, 2.0)
POSSIBLE = (0.04, 20.0)

CELL_SIZE, LEAST_CELL = 0.32, 8  # arcsec, and pixels: smooth light in it is a polynomial of the second degree
MOST_CELLS = 20_000  # which the median needs no more of
# Fewer cells (64 x 64 pixels) may all lie on one source: in 32 x 32 pixels around stars the middle cell has up to 7,
# the quietest up to 2; in 24 x 24 the quietest has up to 7.
FEWEST_CELLS, FEWEST_OF_ALL = 64, 9


class CellSampler:
    """Measures by how much pixels scatter more than their weight says, from blocks of rows as they come.

    Parameters
    ----------
    shape : tuple of int
        Of the image, (ny, nx).
    cell : int
        Side of a cell in pixels, at least 4.

    Notes
    -----
    At most 20,000 cells are looked at, a row of cells at a time, and only that is held.
    """

    def __init__(self, shape: tuple[int, int], cell: int) -> None:
        self.cell = cell
        self._n_cells = shape[0] // cell, shape[1] // cell
        self._step = max(1, math.ceil(math.sqrt(math.prod(self._n_cells) / MOST_CELLS)))
        self._planes = np.empty((2, cell, self._n_cells[1] * cell))
        self._scatter: list[NDArray[np.float64]] = []
        self._empty: list[NDArray[np.bool_]] = []
        y, x = np.indices((cell, cell)).reshape(2, -1) - (cell - 1) / 2
        self._terms = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1))[0]

    def add(self, rows: slice, data: NDArray[np.float32], weight: NDArray[np.float32] | MadeWeight) -> None:
        """Take a block, which follows the one before.

        Parameters
        ----------
        rows : slice
            The block, with start and stop.
        data : ndarray
            (rows, nx), in any unit.
        weight : ndarray or MadeWeight
            In its inverse square.
        """
        period, width = self.cell * self._step, self._planes.shape[-1]
        stop = min(rows.stop, self._n_cells[0] * self.cell)
        for top in range(rows.start // period * period, stop, period):
            first, last = max(top, rows.start), min(top + self.cell, stop)
            if first < last:
                for plane, block in zip(self._planes, (data, weight), strict=True):
                    plane[first - top : last - top] = np.asarray(block[first - rows.start : last - rows.start])[
                        :, :width
                    ]
                if last == top + self.cell:
                    self._measure()

    def _measure(self) -> None:
        """Measure the cells of one row of them."""
        cell = self.cell
        pixels, weights = (
            plane.reshape(cell, -1, cell)[:, :: self._step].swapaxes(0, 1).reshape(-1, cell**2)
            for plane in self._planes
        )
        full = (np.isfinite(pixels) & np.isfinite(weights) & (weights > 0)).all(axis=1)
        off = pixels[full]
        self._empty.append((off == 0).all(axis=1))
        off -= off @ self._terms @ self._terms.T  # before it is weighted: sky over a weight that varies is not smooth
        degrees = cell**2 - self._terms.shape[1]
        self._scatter.append(np.sqrt(np.sum(off**2 * weights[full], axis=1) / degrees))

    def scatter(self) -> NDArray[np.float64]:
        """Return the rms of the pixels over their sigmas about a polynomial of the second degree in each cell.

        Returns
        -------
        ndarray
            (n,), for the cells that have data in all pixels. Smooth light and sky count for nothing.
        """
        scatter, empty = (
            np.concatenate([np.empty(0), *self._scatter]),
            np.concatenate([np.empty(0, bool), *self._empty]),
        )
        # Where zeros with a weight stand for no data, they say nothing of the other cells.
        return scatter if empty.all() else scatter[~empty]


def measure_scatter(data: NDArray[np.float32], weight: NDArray[np.float32], cell: int) -> NDArray[np.float64]:
    """Return by how much the pixels of an image scatter more than its weight says, cell by cell.

    Parameters
    ----------
    data, weight : ndarray
        (ny, nx), in any unit and its inverse square.
    cell : int
        Side of a cell in pixels, at least 4.

    Returns
    -------
    ndarray
        (n,), for at most 20,000 cells that have data in all pixels: the rms of the pixels over their sigmas, about a
        polynomial of the second degree, so that smooth light and sky count for nothing.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(0, 3, (160, 160))
    >>> round(float(np.median(measure_scatter(noise, np.full((160, 160), 1 / 9), 8))), 1)
    1.0
    """
    sampler = CellSampler(data.shape, cell)
    sampler.add(slice(0, len(data)), data, weight)
    return sampler.scatter()


class WeightCheck:
    """Whether the weights of an image and its pixels agree, from blocks of rows as they come.

    Parameters
    ----------
    shape : tuple of int
        Of the image, (ny, nx).
    wcs : `~astropy.wcs.WCS`
        Of the image.
    """

    def __init__(self, shape: tuple[int, int], wcs: WCS) -> None:
        cell = max(LEAST_CELL, round(CELL_SIZE / pixel_scale(wcs)))
        self._samplers = {kind: CellSampler(shape, cell) for kind in ("weight", "full weight")}

    def add(
        self,
        rows: slice,
        data: NDArray[np.float32],
        weight: NDArray[np.float32] | None,
        full: NDArray[np.float32] | MadeWeight,
    ) -> None:
        """Take a block, which follows the one before.

        Parameters
        ----------
        rows : slice
            The block, with start and stop.
        data : ndarray
            (rows, nx).
        weight : ndarray or None
            The published weight, if there is one.
        full : ndarray or MadeWeight
            The full weight.
        """
        for sampler, plane in zip(self._samplers.values(), (weight, full), strict=True):
            if plane is not None:
                sampler.add(rows, data, plane)

    def tell(self, name: str) -> None:
        """Tell or refuse an image whose weight and pixels contradict each other, after its last block.

        Parameters
        ----------
        name : str
            Of the image, for the message.

        Raises
        ------
        PhotplugError
            As :func:`check_weight`.
        """
        for kind, sampler in self._samplers.items():
            scatter = sampler.scatter()
            if len(scatter) < FEWEST_OF_ALL:
                continue
            ratio, small = float(np.median(scatter)), len(scatter) < FEWEST_CELLS
            said = f"{name}: the pixels scatter by {ratio:.3g} times the sigma of the {kind} (usually 0.5 to 1)"
            if ratio < POSSIBLE[0] or (scatter.min() if small else ratio) > POSSIBLE[1]:
                raise PhotplugError(
                    f"{said}; correct the weight (inverse variance in the unit of the image), or add --trust-weights"
                )
            if not small and not LIKELY[0] <= ratio <= LIKELY[1]:
                warnings.warn(
                    f"{said}, so errors may be equally wrong; check the weight, or add --trust-weights",
                    PhotplugWarning,
                    stacklevel=2,
                )
                return


def check_weight(image: MosaicImage, name: str) -> None:
    """Tell or refuse an image whose weight and pixels contradict each other.

    Parameters
    ----------
    image : MosaicImage
    name : str
        Of the image, for the message.

    Raises
    ------
    PhotplugError
        Where the pixels scatter by less than 0.04 or more than 20 times the sigma of the weight; beyond 0.25 and 2 it
        is a warning. Of images with fewer than 64 cells of 8 x 8 pixels the quietest must scatter so to be refused, and
        they are never warned of; those with fewer than 9 are not looked at.
    """
    from dja_photplug.mosaic.made import find_weight  # 0.1 s to import, and a stream of blocks needs it not

    check = WeightCheck(image.shape, image.wcs)
    check.add(slice(0, image.shape[0]), image.data, image.background_weight, find_weight(image.uncertainty))
    check.tell(name)
