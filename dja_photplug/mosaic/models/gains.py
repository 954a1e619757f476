"""Electrons that the light of a pixel was counted as, by the exposure time of its sample."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dja_photplug.mosaic.models.exposure import FILL_REACH, fill_gaps
from dja_photplug.sky.grid import Window

__all__ = ["Gains"]

Index = NDArray[np.intp]

# Rows of samples that are looked at together: the next rows of pixels are most often of the same.
TOGETHER = 64


class _Known(NamedTuple):
    """What is known of adjacent rows of samples, by all columns of the image."""

    first: int
    """The first of them."""
    inverse: NDArray[np.float32]
    """10 nJy per electron, infinite where there is no exposure time, (samples, nx)."""
    filled: NDArray[np.bool_] | None
    """Where the exposure time is a neighbour's, of that shape; None for nowhere."""


@dataclass(slots=True, kw_only=True)
class Gains:
    """The gains of the pixels of an image.

    Attributes
    ----------
    seconds : ndarray
        (my, mx): exposure time in s of each sample of the exposure map, which may be a memory map.
    electrons : float32
        Per 10 nJy and second.
    fills : bool
        Whether samples without exposure time take that of a neighbour within `FILL_REACH`.
    rows, columns : ndarray of int
        (ny,) and (nx,): the sample of each row and column of the image; -1 for none.
    """

    seconds: NDArray[np.floating]
    electrons: np.float32
    fills: bool
    rows: Index
    columns: Index
    _last: _Known | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, object]:
        """Return what another process gets: all but what is made anew."""
        return {name: None if name == "_last" else getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Make it in that process."""
        for name, value in state.items():
            setattr(self, name, value)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the image, (ny, nx)."""
        return len(self.rows), len(self.columns)

    def divide(self, light: NDArray[np.float32], rows: slice) -> NDArray[np.bool_] | None:
        """Divide the light of some rows by their gains, in place.

        Parameters
        ----------
        light : ndarray
            float32, (rows, nx), in 10 nJy. It becomes infinite or NaN where there is no exposure time.
        rows : slice
            With start and stop.

        Returns
        -------
        ndarray of bool or None
            Where the exposure time is a neighbour's, of that shape; None for nowhere.
        """
        samples = self.rows[rows]
        there = samples[samples >= 0]
        if not len(there):
            light[...] = np.inf
            return None
        first, last = int(there.min()), int(there.max())
        known = self._last  # several threads may ask, each for its own
        if known is None or first < known.first or last >= known.first + len(known.inverse):
            known = self._last = self._look(first, max(last + 1, first + TOGETHER))
        place = samples - known.first
        begins = [0, *(np.flatnonzero(np.diff(samples)) + 1).tolist(), len(samples)]
        for start, stop in pairwise(begins):  # rows of one sample, or of none
            light[start:stop] *= known.inverse[place[start]] if samples[start] >= 0 else np.float32(np.inf)
        return None if known.filled is None else known.filled[place] & (samples >= 0)[:, None]

    def _look(self, first: int, stop: int) -> _Known:
        """Return what is known of some rows of samples."""
        n_samples, n_columns = self.seconds.shape
        stop, reach = min(stop, n_samples), FILL_REACH if self.fills else 0
        top = max(first - reach, 0)
        seconds = self.seconds[top : stop + reach].astype(np.float32)
        seconds[~(seconds < np.inf)] = 0  # NaN too
        gain = np.zeros((stop - first, n_columns + 1), np.float32)  # the last column is what index -1 reaches
        filled = np.zeros(gain.shape, bool)
        rows = slice(first - top, stop - top)
        if self.fills:
            seconds, gaps = fill_gaps(seconds)
            filled[:, :-1] = gaps[rows]
        gain[:, :-1] = seconds[rows] * self.electrons
        inverse = np.divide(1, gain, out=np.full(gain.shape, np.inf, np.float32), where=gain > 0)
        known = np.take(filled, self.columns, axis=1) if filled.any() else None
        return _Known(first, np.take(inverse, self.columns, axis=1), known)

    def cut(self, window: Window) -> Gains:
        """Return those of some rows and columns of the image.

        Parameters
        ----------
        window : pair of slices
            With start and stop.

        Returns
        -------
        Gains
        """
        rows, columns = window
        return replace(self, rows=self.rows[rows], columns=self.columns[columns]).trim()

    def trim(self) -> Gains:
        """Return the same with no more of the exposure map than the image needs: a field has 36 MB, a stamp 1 kB.

        Returns
        -------
        Gains
            The same ones where all is needed.
        """
        places = [samples[samples >= 0] for samples in (self.rows, self.columns)]
        rows, columns = (
            slice(max(int(known.min(initial=n)) - FILL_REACH, 0), min(int(known.max(initial=0)) + FILL_REACH + 1, n))
            for known, n in zip(places, self.seconds.shape, strict=True)
        )
        seconds = self.seconds[rows, columns]
        if seconds.shape == self.seconds.shape:
            return self
        return replace(
            self,
            seconds=seconds.copy(),
            rows=np.where(self.rows < 0, -1, self.rows - rows.start),
            columns=np.where(self.columns < 0, -1, self.columns - columns.start),
        )
