"""Photometry at positions that are given, among the sources that an image has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.neighbours.hosts import find_hosts, open_segments
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import Detection, regrid_sources, sample_labels, shapes_on_grid
from dja_photplug.sources.sums.planes import Removed

__all__ = ["adopt_segments", "measure_guests"]


def adopt_segments(targets: Detection, detection: Detection) -> tuple[Detection, NDArray[np.int32]]:
    """Return positions as the sources of the segments that are theirs.

    Parameters
    ----------
    targets : Detection
        Of n positions, on any grid.
    detection : Detection
        The sources of an image.

    Returns
    -------
    positions : Detection
        The segments of the image, and the positions on its grid, with the ids of their segments; 0 without one.
    host : ndarray of int
        Label of the segment that each is a guest on, (n,); 0 for none.
    """
    sources = regrid_sources(targets.sources, targets.wcs, detection.wcs)
    scale, on = pixel_scale(detection.wcs), sample_labels(detection.segmentation, sources)
    segments = shapes_on_grid(detection, scale)
    own, host = find_hosts(on, sources["x"].value, sources["y"].value, segments, scale)
    sources["id"] = own
    return replace(detection, sources=sources), host


def measure_guests(
    removed: Removed, detection: Detection, host: NDArray[np.int32], measure: Callable[[Removed, Detection], QTable]
) -> QTable:
    """Return the photometry of positions, of those on segments of others without the light there.

    Parameters
    ----------
    removed : Removed
        What is taken off the image.
    detection : Detection
        Of n positions.
    host : ndarray of int
        (n,), as `adopt_segments` gives it. Where a segment has no profile, or none is taken off, all light in it is its
        guest's too.
    measure : callable
        Measures positions on the image less what is taken off.

    Returns
    -------
    `~astropy.table.QTable`
        (n,).
    """
    sources, opened = detection.sources.copy(copy_data=False), np.zeros(0, np.int32)
    if removed.neighbours is not None and host.any():
        light, opened = open_segments(removed.neighbours, host[host > 0])
    guests = np.isin(host, opened)
    sources["id"] = np.where(guests, 0, np.maximum(sources["id"], host))
    catalog = measure(removed, replace(detection, sources=sources))
    if guests.any():
        beside = replace(detection, sources=sources[guests], segmentation=light.segmentation)
        found = measure(replace(removed, neighbours=light), beside)
        for name in found.colnames:
            catalog[name][guests] = found[name]
    return catalog
