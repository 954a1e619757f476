"""Extraction by sep: its limits raised as needed, objects that are too complex kept whole, and each blend alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import numpy as np
import sep
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError
from dja_photplug.mosaic.blocks import NULL_VARIANCE
from dja_photplug.parallel.islands import Islands, relabel
from dja_photplug.parallel.tiles import make_window, widen
from dja_photplug.sky.grid import Window

__all__ = ["Extraction", "Settings", "extract_sources"]

# An object with more sub-objects at one level is kept whole: deblending 12,600 of them took 13 s, 3,300 took 1 s.
MOST_SUB_OBJECTS = 4096

# Pixels around a blend, by which it is seen as in the whole image: half of a kernel, and one.
BLEND_RIM = 4


@contextmanager
def _sep_limits() -> Iterator[None]:
    """Put sep's global limits back at the end."""
    stack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    try:
        yield
    finally:
        sep.set_extract_pixstack(stack)
        sep.set_sub_object_limit(sub_objects)


Extraction = tuple[NDArray[np.void], NDArray[np.int32]]
"""What sep says of its objects, (n,), and their labels, (ny, nx)."""


class Settings(TypedDict):
    """Arguments of `sep.extract`."""

    thresh: float
    var: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    minarea: int
    filter_kernel: NDArray[np.float32] | None
    filter_type: str
    deblend_nthresh: int
    deblend_cont: float
    clean: bool
    clean_param: float


def _try_extract(data: NDArray[np.float32], settings: Settings) -> Extraction | None:
    """Extract with limits raised as needed; None where an object is too complex even so."""
    while True:
        try:
            return sep.extract(data, segmentation_map=True, **settings)
        except MemoryError:
            raise
        except Exception as error:  # sep raises nothing more specific
            stack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
            if "active object pixels" in str(error) and stack <= data.size:
                # One more than all pixels can never be full.
                sep.set_extract_pixstack(min(4 * stack, data.size + 2))
            elif "limit of sub-objects" in str(error):
                if sub_objects >= MOST_SUB_OBJECTS:
                    return None
                sep.set_sub_object_limit(min(4 * sub_objects, MOST_SUB_OBJECTS))
            else:
                raise PhotplugError(f"sep cannot extract sources ({error}); check the detection options") from error


def _without(
    data: NDArray[np.float32], settings: Settings, pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], Settings]:
    """Return data and settings with which `pixels` are not detected.

    A mask would zero their light, and with it that in the convolution of their neighbours. So their variance is
    raised; but a matched filter then judges them by the pixels around them, and only a hole in the data stops it,
    which takes 3 pixels at the rim of a neighbour that close.
    """
    if settings["filter_type"] == "matched":
        return np.where(pixels, -(NULL_VARIANCE**0.5), data), settings
    return data, {**settings, "var": np.where(pixels, NULL_VARIANCE, settings["var"])}


def _is_too_complex(
    data: NDArray[np.float32], settings: Settings, labels: NDArray[np.int32], index: int, row: np.void
) -> bool:
    # sep's limits are inclusive; 3 pixels more on each side keep the convolution as it is.
    rows, columns = (slice(max(row[f"{axis}min"] - 3, 0), row[f"{axis}max"] + 4) for axis in "yx")
    part, cut = _cut(data, settings, (rows, columns))
    return _try_extract(*_without(part, cut, labels[rows, columns] != index + 1)) is None


def _cut(data: NDArray[np.float32], settings: Settings, window: Window) -> tuple[NDArray[np.float32], Settings]:
    """Return a part of data and settings, contiguous."""
    mask = None if settings["mask"] is None else np.ascontiguousarray(settings["mask"][window])
    variance = np.ascontiguousarray(settings["var"][window])
    return np.ascontiguousarray(data[window]), {**settings, "var": variance, "mask": mask}


def extract_sources(data: NDArray[np.float32], settings: Settings, *, alone: bool) -> Extraction:
    """Extract all sources.

    Parameters
    ----------
    data : ndarray
        (ny, nx), less the sky.
    settings : Settings
    alone : bool
        Each blend by itself, so that it is the same in any tile; or all together, as sep has it.

    Returns
    -------
    rows : structured ndarray
        As of `sep.extract`, (n,). What is too complex to deblend is kept whole, with the flag NOT_DEBLENDED.
    segmentation : ndarray
        (ny, nx), labels from 1 to n.

    Raises
    ------
    PhotplugError
        Where sep refuses the settings.
    """
    settle = _settle_blends if alone else _keep_blends
    with _sep_limits():
        found = _try_extract(data, settings)
        if found is not None:
            return settle(data, settings, *found)
        blends = _try_extract(data, {**settings, "deblend_nthresh": 1})
        assert blends is not None  # a single level is not deblended
        rows, labels = blends
        # A smaller object cannot hold as many sub-objects of `minarea` pixels as the limit.
        candidates: list[int] = np.flatnonzero(
            rows["npix"] >= sep.get_sub_object_limit() * settings["minarea"]
        ).tolist()
        whole = [i for i in candidates if _is_too_complex(data, settings, labels, i, rows[i])]
        number = np.zeros(len(rows) + 1, dtype=np.int32)
        number[1:][whole] = 1
        without = _without(data, settings, number[labels] > 0)
        others = _try_extract(*without)
        if others is None:  # with a matched filter an object alone can differ from the same among others
            whole = list(range(len(rows)))
            others = rows[:0], np.zeros_like(labels)
        objects, segmentation = settle(*without, *others)
    kept = rows[whole]
    kept["flag"] |= SourceFlag.NOT_DEBLENDED
    number[1:][whole] = len(objects) + 1 + np.arange(len(whole))
    return np.concatenate([objects, kept]), np.maximum(segmentation, number[labels])


def _keep_blends(
    data: NDArray[np.float32], settings: Settings, rows: NDArray[np.void], labels: NDArray[np.int32]
) -> Extraction:
    """Return what sep made of all blends, one after the other."""
    return rows, labels


def _settle_blends(
    data: NDArray[np.float32], settings: Settings, rows: NDArray[np.void], labels: NDArray[np.int32]
) -> Extraction:
    """Extract each blend again, alone.

    sep shares the faint pixels of a blend out by random numbers, which go on from one blend to the next: what it makes
    of one would depend on all that were before it in the image, or in the tile.
    """
    merged = np.append(False, rows["flag"] & SourceFlag.DEBLENDED.value > 0)
    if not merged.any():
        return rows, labels
    islands = Islands.of(labels)
    blended = np.zeros(len(islands.number), bool)
    blended[islands.number[merged[: len(islands.number)]]] = True
    # Each is at the place of its first part in the order that sep found them in.
    first = np.arange(1, len(rows) + 1)
    single = ~blended[islands.number[first]]
    parts, keys = [rows[single]], [first[single]]
    placed: list[tuple[tuple[slice, slice], NDArray[np.bool_], NDArray[np.int32]]] = []
    count = np.count_nonzero(single)
    order = np.argsort(islands.number[first], kind="stable")
    groups = np.split(first[order], np.flatnonzero(np.diff(islands.number[first][order])) + 1)
    for group in groups:
        if single[group[0] - 1]:
            continue
        low, high = islands.box[group, :2].min(axis=0), islands.box[group, 2:].max(axis=0)
        window = widen(make_window(low, high), BLEND_RIM, labels.shape)
        own = islands.number[labels[window]] == islands.number[group[0]]
        found = _extract_alone(data, settings, window, own)
        if found is None:
            return rows, labels
        again, theirs = found
        parts.append(again)
        keys.append(np.full(len(again), group[0]))
        placed.append((window, own, np.where(theirs > 0, theirs + count, 0).astype(np.int32)))
        count += len(again)
    key = np.concatenate(keys)
    place = np.argsort(key, kind="stable")
    number = np.zeros(count + 1, np.int32)
    number[1:][place] = np.arange(1, count + 1)
    lookup = np.zeros(len(islands.number), np.int32)
    lookup[first[single]] = number[1 : 1 + np.count_nonzero(single)]
    settled = relabel(labels, lookup)
    for window, own, theirs in placed:
        settled[window][own] = number[theirs[own]]
    return np.concatenate(parts)[place], settled


def _extract_alone(
    data: NDArray[np.float32], settings: Settings, window: Window, own: NDArray[np.bool_]
) -> Extraction | None:
    """Return the sources of the island `own` in a window, on the whole image, and their labels there, from 1."""
    sep.set_extract_pixstack(own.size + 2)
    found = _try_extract(*_cut(data, settings, window))
    if found is None:
        return None
    rows, labels = found
    there = np.unique(labels[own])
    there = there[there > 0]
    number = np.zeros(len(rows) + 1, np.int32)
    number[there] = np.arange(1, len(there) + 1)
    rows = rows[there - 1]
    for axis, part in zip("yx", window, strict=True):
        for name in (axis, f"{axis}min", f"{axis}max", f"{axis}peak", f"{axis}cpeak"):
            rows[name] += part.start
    # What the edges of the window cut is none of theirs.
    return rows, np.where(own, number[labels], 0)
