"""The epochs of positions: when, how long, in which visits and at what angle exposures saw them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy.table import QTable
from astropy.time import Time

from dja_photplug.epochs.barycentre import Barycentre, plain_mjd
from dja_photplug.epochs.footprints import Footprints

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Grouping", "Pairs", "detail_epochs", "group_visits", "sum_epochs", "tabulate_visits"]

Array = npt.NDArray[np.floating]

Columns = dict[str, npt.NDArray[np.generic] | u.Quantity]
"""Columns of a table by name, one value for each position."""

_PAIRS_AT_ONCE = 300_000  # at about 200 bytes each


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Visits, or other groups of exposures, in their order.

    Attributes
    ----------
    names : ndarray of str, shape (v,)
        Of the groups.
    number : ndarray of int, shape (n,)
        Of the group of each exposure, 0 to v - 1.
    """

    names: npt.NDArray[np.str_]
    number: npt.NDArray[np.intp]


def group_visits(table: QTable, gap: float | None = None) -> Grouping:
    """Group exposures by the visit in their names, or by gaps in time.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        That of an `ExposureLog`.
    gap : float, optional
        Days; a group begins wherever nothing was exposed for longer. Exposures without a date are grouped by name.

    Returns
    -------
    Grouping
        In the order of the first exposure, those undated last.
    """
    begin, end = _limits(table)
    names = np.asarray(table["visit"]).astype(object)
    if gap is not None:
        order = np.argsort(begin)[: np.count_nonzero(np.isfinite(begin))]
        latest = np.maximum.accumulate(end[order])
        starts = np.flatnonzero(np.append(True, begin[order][1:] > latest[:-1] + gap)[: len(order)])
        labels = [Time(mjd, format="mjd", scale="utc", precision=0).isot for mjd in begin[order][starts]]
        names[order] = np.repeat(np.array(labels, object), np.diff(np.append(starts, len(order))))
    found, number = np.unique(names.astype(str), return_inverse=True)
    first = np.full(len(found), np.inf)
    np.fmin.at(first, number, begin)
    order = np.argsort(first, kind="stable")
    return Grouping(found[order], np.argsort(order)[number])


def _limits(table: QTable) -> tuple[Array, Array]:
    """Return begin and end of each exposure, MJD; where one is missing the nearest date that is there."""
    beg, avg, end = (plain_mjd(table[f"mjd_{part}"]) for part in ("beg", "avg", "end"))
    return np.fmin(beg, np.fmin(avg, end)), np.fmax(end, np.fmax(avg, beg))


def tabulate_visits(table: QTable, grouping: Grouping) -> QTable:
    """Return one row for each visit.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        That of an `ExposureLog`.
    grouping : Grouping
        Of its rows.

    Returns
    -------
    `~astropy.table.QTable`
        See `ExposureLog.visits`.
    """
    begin, end = _limits(table)
    first, last = np.full((2, len(grouping.names)), np.nan)
    np.fmin.at(first, grouping.number, begin)
    np.fmax.at(last, grouping.number, end)
    order = np.argsort(grouping.number, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(grouping.number))[:-1])
    _, one_of_file = np.unique(table["file"], return_index=True)
    once = np.isin(np.arange(len(table)), one_of_file)  # the chips of a file repeat its exposure time
    return QTable(
        {
            "visit": grouping.names,
            **{name: _as_time(mjd) for name, mjd in (("mjd_beg", first), ("mjd_end", last))},
            "n_exp": [len(part) for part in rows],
            "exptime": np.bincount(grouping.number, once * table["exptime"].to_value(u.s)) * u.s,
            **{f"{key}s": [" ".join(np.unique(table[key][part])) for part in rows] for key in ("program", "detector")},
            "rows": _as_objects(rows),
        }
    )


def _as_time(mjd: Array) -> Time:
    known = np.isfinite(mjd)
    return Time(mjd if known.all() else np.ma.array(mjd, mask=~known), format="mjd", scale="utc")


def _as_objects(arrays: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.object_]:
    """Return arrays of different lengths as one column."""
    column = np.empty(len(arrays), dtype=object)
    column[:] = arrays
    return column


def sum_epochs(covered: csr_array, table: QTable, grouping: Grouping) -> Columns:
    """Return the columns that every position has.

    Parameters
    ----------
    covered : scipy.sparse.csr_array of bool, shape (m, n)
        Which position is in which exposure.
    table : `~astropy.table.QTable`, n rows
        That of an `ExposureLog`.
    grouping : Grouping
        Visits of its rows.

    Returns
    -------
    dict of str to ndarray or `~astropy.units.Quantity`, shape (m,)
        See `ExposureLog.epochs`.
    """
    exptime = table["exptime"].to_value(u.s)
    begin, middle, end = (plain_mjd(table[f"mjd_{part}"]) for part in ("beg", "avg", "end"))
    return {
        "n_exp": np.diff(covered.indptr).astype(np.int32),
        "exptime": (covered @ exptime) * u.s,
        "mjd_mean": _weighted_mean(covered, exptime, middle) * u.d,
        "mjd_min": _reduce_rows(np.fmin, covered, begin) * u.d,
        "mjd_max": _reduce_rows(np.fmax, covered, end) * u.d,
        "n_visit": np.diff((covered @ _memberships(grouping.number)).indptr).astype(np.int32),
    }


def _memberships(number: npt.NDArray[np.intp]) -> csr_array:
    """Return which exposure is in which group, as a matrix."""
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(number), dtype=bool), (np.arange(len(number)), number)))


def _weighted_mean(covered: csr_array, weight: Array, values: Array) -> Array:
    """Return the mean of the values of each row's exposures; those that are not finite do not count."""
    weight = np.where(np.isfinite(values), weight, 0.0)
    moment, total = covered @ (weight * np.nan_to_num(values)), covered @ weight
    return np.divide(moment, total, out=np.full_like(total, np.nan), where=total > 0)


def _reduce_rows(reduce: np.ufunc, covered: csr_array, values: Array) -> Array:
    """Reduce the values of each row's exposures, such as to their minimum; NaN for a row without exposures."""
    return _reduce_parts(reduce, covered.indptr, values[covered.indices])


def _reduce_parts(reduce: np.ufunc, starts: npt.NDArray[np.integer], values: Array) -> Array:
    """Reduce the parts of `values` between `starts` (one more than there are parts); NaN for an empty part."""
    padded = np.append(values, np.nan)  # so that the end, and an empty last part, have something to point at
    return np.where(np.diff(starts) > 0, reduce.reduceat(padded, starts)[:-1], np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """All that the details of epochs are made of: which position is in which exposure, and what is known of both.

    Attributes
    ----------
    covered : scipy.sparse.csr_array of bool, shape (m, n)
        Which position is in which exposure.
    sky : ndarray, shape (m, 3)
        Unit vectors of the positions.
    table : `~astropy.table.QTable`, n rows
        That of an `ExposureLog`.
    geometry : Footprints
        Of the n exposures.
    grouping : Grouping
        Visits of the n exposures.
    barycentre : Barycentre, optional
        Of the n exposures; None where no barycentric times are asked for.
    """

    covered: csr_array
    sky: Array
    table: QTable
    geometry: Footprints
    grouping: Grouping
    barycentre: Barycentre | None = None


def detail_epochs(pairs: Pairs, details: Collection[str]) -> Columns:
    """Return the columns of groups that are asked for.

    Parameters
    ----------
    pairs : Pairs
        Of m positions and n exposures.
    details : collection of str
        Groups of `dja_photplug.options.stages.EPOCH_DETAILS`; barycentric times depend on `pairs` instead.

    Returns
    -------
    dict of str to ndarray or `~astropy.units.Quantity`, shape (m,)
        See `ExposureLog.epochs`.
    """
    table, covered = pairs.table, pairs.covered
    columns: Columns = {}
    for key in ("detector", "program"):
        if f"{key}s" in details:
            names, number = np.unique(table[key], return_inverse=True)
            columns[f"{key}s"] = _join_names(covered, Grouping(names, number))
    if "visits" in details:
        columns["visits"] = _join_names(covered, pairs.grouping)
    if "gap" in details:
        columns["gap_max"] = _longest_gap(covered, table) * u.d
    if pairs.barycentre is not None:
        columns["bmjd_mean"] = _barycentric_mean(pairs) * u.d
    blocks = [_measure_block(pairs, block, details) for block in _cut_blocks(covered)]
    for name in blocks[0]:
        columns[name] = np.concatenate([block[name] for block in blocks])
    return columns


def _join_names(covered: csr_array, grouping: Grouping) -> npt.NDArray[np.str_]:
    """Return the names of the groups of each row's exposures, in their order, with spaces between."""
    found = covered @ _memberships(grouping.number)
    found.sort_indices()
    names = grouping.names[found.indices].tolist()
    limits = found.indptr.tolist()
    return np.array([" ".join(filter(None, names[a:b])) for a, b in pairwise(limits)], dtype=str)


def _longest_gap(covered: csr_array, table: QTable) -> Array:
    """Return the longest time without an exposure between the first and the last of each row, days."""
    begin, end = _limits(table)
    order = np.argsort(begin)[: np.count_nonzero(np.isfinite(begin))]
    dated = covered[:, order]
    dated.sort_indices()
    begin, end = begin[order], end[order]
    row = np.repeat(np.arange(dated.shape[0]), np.diff(dated.indptr))
    # The latest end so far in each row, by rank: integers keep rows apart without rounding.
    by_end = np.argsort(end)
    rank = np.argsort(by_end)[dated.indices] + row * len(order)
    latest = end[by_end[np.maximum.accumulate(rank) - row * len(order)]] if len(rank) else end[:0]
    gap = np.maximum(begin[dated.indices] - np.append(np.nan, latest)[: len(rank)], 0)
    gap[dated.indptr[:-1][np.diff(dated.indptr) > 0]] = 0  # the first has none before it
    return _reduce_parts(np.fmax, dated.indptr, gap)


def _barycentric_mean(pairs: Pairs) -> Array:
    """Return the mean barycentric mid-time of each row, MJD (TDB): linear in the direction, so a matrix product."""
    assert pairs.barycentre is not None
    tdb, light = pairs.barycentre.tdb, pairs.barycentre.light
    exptime = pairs.table["exptime"].to_value(u.s)
    delay = np.stack([_weighted_mean(pairs.covered, exptime, axis) for axis in light.T], axis=-1)
    return _weighted_mean(pairs.covered, exptime, tdb) + np.sum(delay * pairs.sky, axis=-1)


def _cut_blocks(covered: csr_array) -> Iterator[slice]:
    """Yield slices of rows with some 300,000 pairs each."""
    first, count = 0, covered.shape[0]
    while first < count or first == 0:  # one block where there are no rows, so that there are columns
        reach = covered.indptr[first] + _PAIRS_AT_ONCE
        last = max(first + 1, int(np.searchsorted(covered.indptr, reach, side="right")) - 1)
        yield slice(first, min(last, count))
        first = last


def _measure_block(pairs: Pairs, block: slice, details: Collection[str]) -> Columns:
    """Return the columns of some positions that need each pair by itself."""
    indptr = pairs.covered.indptr[block.start : block.stop + 1]
    exposure = pairs.covered.indices[indptr[0] : indptr[-1]]
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    key = row * len(pairs.grouping.names) + pairs.grouping.number[exposure]
    order = np.argsort(key, kind="stable")
    exposure, key = exposure[order], key[order]
    sky = pairs.sky[block][row]  # sorted by row as before
    exptime = pairs.table["exptime"].to_value(u.s)[exposure]
    starts = np.append(np.flatnonzero(np.diff(key, prepend=-1)), len(key))
    # Where the visits of each position begin among all visits of the block.
    positions = np.searchsorted(row[starts[:-1]], np.arange(1, len(indptr) - 1))

    def split(values: Array) -> npt.NDArray[np.object_]:
        return _as_objects(np.split(values, positions)[: len(indptr) - 1])

    def mean(values: Array) -> Array:
        weight = np.where(np.isfinite(values), exptime, 0.0)
        moment = _reduce_parts(np.add, starts, weight * np.nan_to_num(values))
        total = _reduce_parts(np.add, starts, weight)
        return np.divide(moment, total, out=np.full_like(total, np.nan), where=total > 0)

    columns: Columns = {}
    if "visits" in details:
        columns["visit_mjd"] = split(mean(plain_mjd(pairs.table["mjd_avg"])[exposure]))
        columns["visit_exptime"] = split(_reduce_parts(np.add, starts, exptime))
    if pairs.barycentre is not None:
        tdb, light = pairs.barycentre.tdb[exposure], pairs.barycentre.light[exposure]
        columns["visit_bmjd"] = split(mean(tdb + np.sum(light * sky, axis=-1)))
    if {"angles", "edge"} & set(details):
        distance, angle = pairs.geometry.measure_pairs(exposure, sky)
        if "angles" in details:
            turn = np.deg2rad(angle)
            columns["visit_pa"] = split(np.rad2deg(np.arctan2(mean(np.sin(turn)), mean(np.cos(turn)))) % 360)
        if "edge" in details:
            columns["edge_dist"] = _reduce_parts(np.fmin, indptr - indptr[0], distance) * u.arcsec
    return columns
