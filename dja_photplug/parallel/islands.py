"""Islands: segments of a label image that touch each other, and what of them a tile sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dja_photplug.sky.grid import Window

__all__ = ["Islands", "Runs", "begin_runs", "find_boxes", "relabel"]

Index = NDArray[np.intp]


def find_boxes(labels: NDArray[np.int32]) -> Index:
    """Return the box of each label.

    Parameters
    ----------
    labels : ndarray
        (ny, nx), 0 for none.

    Returns
    -------
    ndarray
        First row and column, and those after the last ones, (greatest label + 1, 4); 0 for labels without a pixel.
    """
    found = find_objects(labels)
    boxes = [(0, 0, 0, 0) if box is None else (box[0].start, box[1].start, box[0].stop, box[1].stop) for box in found]
    return np.array([(0, 0, 0, 0), *boxes], dtype=np.intp)


def relabel(labels: NDArray[np.int32], number: NDArray[np.int32]) -> NDArray[np.int32]:
    """Change labels in place, which takes a tenth of ``number[labels]`` where most pixels are sky.

    Parameters
    ----------
    labels : ndarray
        (ny, nx), 0 for none.
    number : ndarray
        The new label of each, (greatest label + 1,); 0 stays 0.

    Returns
    -------
    ndarray
        The same labels.
    """
    members = np.flatnonzero(labels != 0)  # of bools it takes a third of the time
    np.put(labels, members, number[labels.take(members)])
    return labels


def begin_runs(members: Index, owner: NDArray[np.int32], width: int) -> Index:
    """Return where runs begin: pixels of one row and owner without a gap.

    Parameters
    ----------
    members : ndarray
        Flat numbers of pixels, rising, (m,).
    owner : ndarray
        Whose they are, (m,).
    width : int
        Pixels of a row.

    Returns
    -------
    ndarray
        Places among the members, rising; each run ends where the next one begins.
    """
    begins = np.ones(len(members), bool)
    begins[1:] = (owner[1:] != owner[:-1]) | (np.diff(members) != 1)
    if len(members):
        edges = np.searchsorted(members, np.arange(0, members[-1] + 1, width))
        begins[edges] = True
    return np.flatnonzero(begins)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """Pixels of segments as runs along rows: a tenth as many as there are pixels.

    Attributes
    ----------
    start : ndarray
        Flat number of the first pixel of each, (k,).
    length : ndarray
        In pixels, (k,).
    owner : ndarray
        Which segment they are of, (k,).
    """

    start: Index
    length: Index
    owner: NDArray[np.int32]

    def rename(self, number: NDArray[np.int32]) -> Runs:
        """Return the runs of some segments.

        Parameters
        ----------
        number : ndarray
            What each segment is called then; below 0 for those that are left out.

        Returns
        -------
        Runs
        """
        owner = number[self.owner]
        kept = owner >= 0
        return Runs(start=self.start[kept], length=self.length[kept], owner=owner[kept])

    def paint(self, labels: NDArray[np.int32], number: NDArray[np.int32]) -> None:
        """Give the pixels their labels.

        Parameters
        ----------
        labels : ndarray
            (ny, nx), C-contiguous.
        number : ndarray
            The label of each segment.
        """
        before = np.cumsum(self.length) - self.length
        pixels = np.arange(self.length.sum()) + np.repeat(self.start - before, self.length)
        labels.reshape(-1)[pixels] = np.repeat(number[self.owner], self.length)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Islands:
    """Segments and the islands that they form.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx).
    members : ndarray
        Flat numbers of the pixels in segments, rising, (m,).
    owner : ndarray
        Their labels, (m,).
    number : ndarray
        Of the island of each label, (greatest label + 1,).
    box : ndarray
        As of :func:`find_boxes`.
    """

    shape: tuple[int, ...]
    members: Index
    owner: NDArray[np.int32]
    number: Index
    box: Index

    @classmethod
    def of(cls, labels: NDArray[np.int32]) -> Islands:
        """Return the islands of a label image.

        Parameters
        ----------
        labels : ndarray
            (ny, nx), 0 for none.

        Returns
        -------
        Islands
        """
        members = np.flatnonzero(labels != 0)
        flat = labels.ravel()
        owner = flat[members]
        pairs, width = [], labels.shape[1]
        row, column = np.divmod(members, width)
        box = np.zeros((int(owner.max(initial=0)) + 1, 4), np.intp)
        box[1:, :2] = labels.shape
        for i, place in enumerate((row, column)):
            np.minimum.at(box[:, i], owner, place)
            np.maximum.at(box[:, i + 2], owner, place + 1)
        box[box[:, 2] == 0] = 0
        for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
            there = members + down * width + right
            # Beyond the end of a row is the next one, which does not touch.
            inside = (column + right >= 0) & (column + right < width) & (there < flat.size)
            other = np.where(inside, flat[np.minimum(there, flat.size - 1)], 0)
            touch = (other > 0) & (other != owner)
            pairs.append(np.stack([owner[touch], other[touch]]))
        first, second = np.concatenate(pairs, axis=1)
        graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(box), len(box)))
        _, number = connected_components(graph, directed=False)
        return cls(shape=labels.shape, members=members, owner=owner, number=number.astype(np.intp), box=box)

    def runs(self, corner: Index, width: int) -> Runs:
        """Return the pixels of all segments as runs on a larger image.

        Parameters
        ----------
        corner : ndarray
            Row and column of the first pixel there, (2,).
        width : int
            Columns of the larger image.

        Returns
        -------
        Runs
        """
        begin = begin_runs(self.members, self.owner, self.shape[1])
        row, column = np.divmod(self.members[begin], self.shape[1])
        return Runs(
            start=(row + corner[0]) * width + column + corner[1],
            length=np.diff(begin, append=len(self.members)),
            owner=self.owner[begin],
        )

    def _spread(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the labels whose island has a chosen one."""
        island = np.zeros(len(self.number), bool)
        island[self.number[chosen]] = True
        found = island[self.number]
        found[0] = False
        return found

    def reach_beyond(self, window: Window) -> NDArray[np.bool_]:
        """Return the labels whose island has pixels outside of a window.

        Parameters
        ----------
        window : pair of slices

        Returns
        -------
        ndarray of bool
            (greatest label + 1,).
        """
        rows, columns = window
        low, high = (rows.start, columns.start), (rows.stop, columns.stop)
        beyond = np.any(self.box[:, :2] < low, axis=1) | np.any(self.box[:, 2:] > high, axis=1)
        return self._spread(beyond & (self.box[:, 2] > 0))

    def reach_into(self, window: Window) -> NDArray[np.bool_]:
        """Return the labels whose island has pixels in a window.

        Parameters
        ----------
        window : pair of slices

        Returns
        -------
        ndarray of bool
            (greatest label + 1,).
        """
        chosen = np.zeros(len(self.number), bool)
        chosen[self.owner[self._inside(window)]] = True
        return self._spread(chosen)

    def hold(self, pixels: Index) -> NDArray[np.bool_]:
        """Return the labels whose island has one of these pixels.

        Parameters
        ----------
        pixels : ndarray
            Rows and columns, (n, 2).

        Returns
        -------
        ndarray of bool
            (greatest label + 1,).
        """
        chosen = np.zeros(len(self.number), bool)
        flat = np.ravel_multi_index(tuple(pixels.T), self.shape)
        chosen[self.owner[np.isin(self.members, flat)]] = True
        return self._spread(chosen)

    def _inside(self, window: Window) -> NDArray[np.bool_]:
        row, column = np.divmod(self.members, self.shape[1])
        rows, columns = window
        return (row >= rows.start) & (row < rows.stop) & (column >= columns.start) & (column < columns.stop)

    def sample(self, chosen: NDArray[np.bool_], window: Window) -> tuple[Index, Index]:
        """Return the box of each island of the chosen labels, and a pixel of it in a window.

        Parameters
        ----------
        chosen : ndarray of bool
            (greatest label + 1,), all labels of these islands.
        window : pair of slices

        Returns
        -------
        box : ndarray
            (k, 4).
        pixel : ndarray
            Row and column, (k, 2).
        """
        labels = np.flatnonzero(chosen)
        island, which = np.unique(self.number[labels], return_inverse=True)
        box = np.empty((len(island), 4), np.intp)
        box[:, :2], box[:, 2:] = np.iinfo(np.intp).max, 0
        np.minimum.at(box[:, :2], which, self.box[labels, :2])
        np.maximum.at(box[:, 2:], which, self.box[labels, 2:])
        use = chosen[self.owner] & self._inside(window)
        # The first pixel of each island: members are in order.
        _, first = np.unique(self.number[self.owner[use]], return_index=True)
        row, column = np.divmod(self.members[use][first], self.shape[1])
        return box, np.stack([row, column], axis=-1)

    def brightest(self, values: NDArray[np.float32]) -> Index:
        """Return the brightest pixel of each label, the first of equals.

        Parameters
        ----------
        values : ndarray
            Of the members, (m,), without NaN.

        Returns
        -------
        ndarray
            Rows and columns, (greatest label + 1, 2); -1 for labels without a pixel.
        """
        most = np.full(len(self.number), -np.inf, np.float32)
        np.maximum.at(most, self.owner, values)
        candidates = np.flatnonzero(values == most[self.owner])
        label, first = np.unique(self.owner[candidates], return_index=True)
        peak = np.full((len(self.number), 2), -1, np.intp)
        peak[label] = np.stack(np.divmod(self.members[candidates[first]], self.shape[1]), axis=-1)
        return peak
