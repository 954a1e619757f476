"""The full weight of an image, made of its noise model where somebody looks at it, and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.nddata import InverseVariance
from numpy.typing import NDArray

from dja_photplug.mosaic.models.fullweight import FullWeight
from dja_photplug.mosaic.models.noise import crop_model, find_window
from dja_photplug.parallel.scratch import fill_rows, keep_memory, new_plane
from dja_photplug.sky.grid import Window, row_blocks

__all__ = ["CACHED", "MadeUncertainty", "MadeWeight", "find_weight", "hold_weight"]

# Pixels at a time that a cache holds with all that is made of them.
CACHED = 2**17

Make = Callable[[NDArray[np.float32], NDArray[np.float32], slice], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class MadeWeight:
    """The full weight of an image as its noise model makes it of the pixels and of the published weight.

    Making it anew takes less time than to keep it: memory that is touched for the first time takes longer.

    Attributes
    ----------
    science, weight : ndarray
        float32, (ny, nx), of which it was made once.
    model : FullWeight
        For the pixels of the whole image.
    window : pair of slices, optional
        Which of them these are; all by default.
    """

    science: NDArray[np.float32]
    weight: NDArray[np.float32]
    model: FullWeight
    window: Window | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the image, (ny, nx)."""
        ny, nx = self.science.shape
        return ny, nx

    def __getitem__(self, where: slice | Window) -> MadeWeight:
        """Return that of some rows, or of a window; most of these nobody makes."""
        found = find_window(where, self.shape)
        if found is None:
            raise IndexError(f"{where}: no adjacent rows and columns")
        if self.window is not None:
            (y, x), (rows, columns) = (part.start for part in self.window), found
            found = slice(y + rows.start, y + rows.stop), slice(x + columns.start, x + columns.stop)
        return MadeWeight(np.asarray(self.science)[where], np.asarray(self.weight)[where], self.model, found)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield it from top to bottom, as much at a time as a cache holds.

        Yields
        ------
        rows : slice
        full : ndarray
            (rows, nx).
        """
        return self._make(self._crop_model())

    def remake(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield it for those who know the null pixels, in less time.

        Yields
        ------
        rows : slice
        full : ndarray
            (rows, nx): 0, infinite or NaN for null pixels.
        """
        return self._make(self._crop_model().remake)

    def _crop_model(self) -> FullWeight:
        """Return the model for these pixels."""
        if self.window is None:
            return self.model
        model = crop_model(self.model, self.window, self.model.gains.shape)
        assert isinstance(model, FullWeight)  # it is a window
        return model

    def _make(self, make: Make) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield what is made of the pixels."""
        keep_memory()
        science, weight = np.asarray(self.science), np.asarray(self.weight)
        for rows in row_blocks(self.shape, CACHED):
            yield rows, make(science[rows], weight[rows], rows)

    def fill(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Write it into a plane.

        Parameters
        ----------
        plane : ndarray
            float32, (ny, nx).

        Returns
        -------
        ndarray
            The plane.
        """
        for rows, full in self.blocks():
            with fill_rows(plane, rows) as place:
                place[...] = full
        return plane

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.float32]:
        """Return its values, in memory."""
        return self.fill(np.empty(self.shape, np.float32))


class MadeUncertainty(InverseVariance):
    """An inverse variance that is a `MadeWeight` until somebody asks for its array.

    Parameters
    ----------
    array : MadeWeight, MadeUncertainty or ndarray
    copy, unit
        As for `~astropy.nddata.InverseVariance`; a `MadeWeight` is not copied.
    """

    _array: MadeWeight | NDArray[np.float32]

    def __init__(
        self,
        array: MadeWeight | MadeUncertainty | NDArray[np.float32],
        copy: bool = False,
        unit: u.UnitBase | None = None,
    ) -> None:
        if isinstance(array, MadeUncertainty):  # which an image makes anew for each that it is given
            unit = unit or array.unit
            array = array.weight
        super().__init__(array, copy=copy and not isinstance(array, MadeWeight), unit=unit)

    @InverseVariance.array.getter
    def array(self) -> NDArray[np.float32]:
        """Return its values, which are kept from then on.

        Returns
        -------
        ndarray
            float32, (ny, nx).
        """
        if isinstance(self._array, MadeWeight):
            self._array = self._array.fill(new_plane(self._array.shape, np.float32, blank=False))
        return self._array

    @property
    def weight(self) -> MadeWeight | NDArray[np.float32]:
        """What it is as long as nobody asked for its array, or its values."""
        return self._array

    def __getitem__(self, where: slice | Window) -> InverseVariance:
        """Return that of some pixels."""
        made = self._array
        if isinstance(made, MadeWeight) and find_window(where, made.shape) is not None:
            return MadeUncertainty(made[where], unit=self.unit, copy=False)
        return InverseVariance(self.array[where], unit=self.unit, copy=False)


def hold_weight(weight: MadeWeight | NDArray[np.float32]) -> InverseVariance:
    """Return a full weight as an uncertainty, not copied.

    Parameters
    ----------
    weight : MadeWeight or ndarray
        (ny, nx).

    Returns
    -------
    `~astropy.nddata.InverseVariance`
    """
    return (MadeUncertainty if isinstance(weight, MadeWeight) else InverseVariance)(weight, copy=False)


def find_weight(uncertainty: InverseVariance) -> MadeWeight | NDArray[np.float32]:
    """Return the full weight that an uncertainty holds, without making it where it is made.

    Parameters
    ----------
    uncertainty : `~astropy.nddata.InverseVariance`

    Returns
    -------
    MadeWeight or ndarray
        (ny, nx).
    """
    return uncertainty.weight if isinstance(uncertainty, MadeUncertainty) else uncertainty.array
