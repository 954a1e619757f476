"""Sources of an image as every engine gives them: what a detection holds, and how it gets to another grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import COLUMNS, dress_table
from dja_photplug.errors import PhotplugError
from dja_photplug.light.cleaning import Uncleaned, Wings
from dja_photplug.light.mesh import Background
from dja_photplug.light.planes import Floats, Shapes
from dja_photplug.mosaic.blocks import Planes, cached_rows
from dja_photplug.neighbours.windows import WINDOW_REACH, Windows, find_windowed
from dja_photplug.parallel.islands import relabel
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import pixel_positions, pixel_scale, row_blocks, sky_positions
from dja_photplug.sky.nesting import regrid_labels
from dja_photplug.sources.sums.planes import Removed

__all__ = [
    "Detection",
    "add_significance",
    "center_detection",
    "clean_detection",
    "place_sources",
    "regrid_detection",
    "regrid_sources",
    "sample_labels",
    "shapes_on_grid",
    "subtract_level",
]

DETECTION_COLUMNS = tuple(
    spec for spec in COLUMNS if spec.name in {"id", "ra", "dec", "x", "y", "a", "b", "theta", "npix", "flag"}
)


# Sigma of the window of a source: so many times the root of a b, at most so many arcsec, at least so many pixels, and
# where another least is given, no less than a pixel, which would not sample it.
WINDOW_SIZE, LARGEST_WINDOW, LEAST_WINDOW = 0.7, 0.24, 1.5
# Pixels of a band of rows in which windowed positions are looked for at a time.
BAND = 2**22

Found = NDArray[np.float64] | NDArray[np.int64]
# What an engine says of each source.
FOUND = ("x", "y", "a", "b", "theta", "npix", "flag")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """Sources of one image.

    Attributes
    ----------
    sources : `~astropy.table.QTable`
        Columns ``id ra dec x y a b theta npix flag`` of the catalogue, and ``snr_detect`` where the engine tells it;
        ``id`` is 1 to N. With the column ``kron_radius`` as well, scaled and clipped already, the photometry takes
        that, as for many bands the ellipses of one detection image; where it is NaN the smallest circle is the Kron
        aperture.
    segmentation : ndarray
        (ny, nx) int32: the ``id`` of the source that a pixel belongs to, 0 for none.
    wcs : `~astropy.wcs.WCS`
        Of the image they were found on.
    uncleaned : Uncleaned or None
        What it was before faint sources in the wings of bright ones were taken out, which the whole of an image decides
        and not a tile of it; None where that was not done.
    boxes : ndarray or None
        Of the segments where they are known, (greatest label + 1, 4), see `dja_photplug.parallel.islands.find_boxes`.
    """

    sources: QTable
    segmentation: NDArray[np.int32]
    wcs: WCS
    uncleaned: Uncleaned | None = None
    boxes: NDArray[np.intp] | None = None


def subtract_level(image: NDData, background: Background, null: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the pixels that sources are found on, less the sky.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    background : Background
    null : ndarray of bool
        (ny, nx), pixels without data.

    Returns
    -------
    ndarray
        (ny, nx) float32 in the unit of the image, C-contiguous; 0 for null pixels.

    Raises
    ------
    PhotplugError
        Where the image has no WCS.
    """
    if image.wcs is None:
        raise PhotplugError("the image has no WCS, and its sources no positions; load a DJA mosaic or set image.wcs")
    pixels, level = np.asarray(image.data), background.level
    data = np.empty(pixels.shape, np.float32)
    for rows in cached_rows(data.shape):
        np.subtract(pixels[rows], level[rows], out=data[rows], dtype=np.float32)
        # Whatever a mask says: sep 1.4 does not zero it in the first rows, half a kernel high, before it convolves.
        np.copyto(data[rows], 0, where=null[rows])
    return data


def place_sources(
    found: Mapping[str, Found],
    segmentation: NDArray[np.int32],
    wcs: WCS,
    ids: NDArray[np.integer] | None = None,
) -> Detection:
    """Return what an engine found as a Detection, with sky positions.

    Parameters
    ----------
    found : mapping of str to ndarray
        ``x y a b`` in pixels, ``theta`` in radians, ``npix`` and ``flag``, (n,) in the order of the labels.
    segmentation : ndarray
        (ny, nx), labels.
    wcs : `~astropy.wcs.WCS`
        Of the image.
    ids : ndarray of int, optional
        The labels, (n,); 1 to n by default.

    Returns
    -------
    Detection
    """
    ra, dec = sky_positions(wcs, found["x"], found["y"])
    scale = pixel_scale(wcs)
    columns = {
        "id": np.arange(1, len(found["x"]) + 1) if ids is None else ids,
        "ra": ra,
        "dec": dec,
        **{axis: found[axis] * scale for axis in "ab"},
        "theta": found["theta"] * u.rad,
        **{name: found[name] for name in ("x", "y", "npix", "flag")},
    }
    return Detection(sources=dress_table(columns, DETECTION_COLUMNS), segmentation=segmentation, wcs=wcs)


def clean_detection(detection: Detection, wings: Wings) -> Detection:
    """Return the sources that are not hidden by the wings of brighter ones.

    Parameters
    ----------
    detection : Detection
        Of n sources with the ids 1 to n.
    wings : Wings
        (n,).

    Returns
    -------
    Detection
        With ids from 1 on, in the same order.
    """
    kept = wings.stand_out()
    number = np.append(0, np.where(kept, np.cumsum(kept), 0)).astype(np.int32)
    sources = detection.sources[kept]
    sources["id"] = np.arange(1, len(sources) + 1)
    known = {"sources": detection.sources, "segmentation": detection.segmentation}
    before = Uncleaned(**known, wings=wings, cleaned=sources)
    return replace(
        detection, sources=sources, segmentation=relabel(detection.segmentation.copy(), number), uncleaned=before
    )


def add_significance(detection: Detection, significance: Floats) -> Detection:
    """Return a detection with the column ``snr_detect``.

    Parameters
    ----------
    detection : Detection
        Without that column.
    significance : ndarray
        Of each label from 0 on, as :func:`measure_significance` gives it.

    Returns
    -------
    Detection
        With it behind ``npix``; NaN for sources without a segment.
    """
    ids = np.asarray(detection.sources["id"])
    known = (ids >= 0) & (ids < len(significance))
    snr = np.where(known, significance[np.where(known, ids, 0)], np.nan)
    spec = next(spec for spec in COLUMNS if spec.name == "snr_detect")
    sources = detection.sources.copy(copy_data=False)
    place = sources.colnames.index("npix") + 1
    sources.add_column(dress_table({spec.name: snr}, [spec])[spec.name], name=spec.name, index=place)
    sources[spec.name].info.description = spec.description
    return replace(detection, sources=sources)


def center_detection(
    detection: Detection, image: NDData, removed: Removed, least: float | None, *, parallel: Map = map
) -> Detection:
    """Return sources at their windowed positions, found in the image less its sky and the light of neighbours.

    Parameters
    ----------
    detection : Detection
    image : `~astropy.nddata.NDData`
        On the grid of the detection.
    removed : Removed
        What is taken off it.
    least : float or None
        Sigma of the smallest window, arcsec; None for 1.5 pixels.
    parallel : Map, optional
        Does bands of rows.

    Returns
    -------
    Detection
        With ``x y ra dec`` there, ``x_iso y_iso`` as they were, and the flag NOT_WINDOWED where none was found.

    Notes
    -----
    Of windows of 0.35 to 1 of the PSF's FWHM in simulated fields, 0.4 gave faint sources fluxes in 0.36 arcsec that are
    nearest to those at true places, and places as good as any. 1.5 pixels are that in the long-wave channel of NIRCam
    on pixels of 0.04 arcsec, and about that in the short-wave channel on pixels of half of it.
    """
    scale = pixel_scale(image.wcs)
    shapes, sources = shapes_on_grid(detection, scale), detection.sources.copy()
    smallest = LEAST_WINDOW if least is None else max(least / scale, 1.0)
    size = WINDOW_SIZE * np.sqrt(np.nan_to_num(shapes.a * shapes.b))
    sigma = np.clip(size, smallest, max(smallest, LARGEST_WINDOW / scale))
    (ny, nx), far = detection.segmentation.shape, int(np.ceil(WINDOW_REACH * sigma.max(initial=1))) + 1
    with np.errstate(invalid="ignore"):
        placed = np.flatnonzero((abs(shapes.x - (nx - 1) / 2) <= nx / 2) & (abs(shapes.y - (ny - 1) / 2) <= ny / 2))
    placed = placed[np.argsort(shapes.y[placed], kind="stable")]
    windows = Windows(label=shapes.label[placed], x=shapes.x[placed], y=shapes.y[placed], sigma=sigma[placed])
    # Windows move by two sigma, less than they reach.
    rows = list(row_blocks((ny, nx), BAND))
    ends = np.searchsorted(windows.y, [part.stop - 0.5 for part in rows])
    bands = [
        (slice(max(part.start - 2 * far, 0), part.stop + 2 * far), windows[np.arange(first, last)])
        for part, first, last in zip(rows, [0, *ends], ends, strict=False)
    ]
    work = partial(_find_windowed, image, removed, detection.segmentation)
    x, y, found = (np.concatenate(parts) for parts in zip(*parallel(work, bands), strict=True))
    for axis, values in (("x", x), ("y", y)):
        sources[f"{axis}_iso"] = sources[axis]
        sources[axis][placed] = values * u.pix
    sources["ra"][placed], sources["dec"][placed] = (part * u.deg for part in sky_positions(image.wcs, x, y))
    lost = np.ones(len(sources), bool)
    lost[placed] = ~found
    sources["flag"] |= np.where(lost, SourceFlag.NOT_WINDOWED.value, 0).astype(sources["flag"].dtype)
    return replace(detection, sources=sources)


def _find_windowed(
    image: NDData, removed: Removed, segmentation: NDArray[np.int32], band: tuple[slice, Windows]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the windowed positions of the sources in some rows."""
    rows, windows = band
    if removed.neighbours is not None:
        data = np.asarray(removed.neighbours.clear)[rows]
    else:
        data = removed.sky[rows].take_off(np.asarray(image.data)[rows])
    return find_windowed(data, Planes.of(image)[rows], np.asarray(segmentation)[rows], windows, rows.start)


def sample_labels(segmentation: NDArray[np.int32], sources: QTable) -> NDArray[np.int64]:
    """Return the label of the pixel that each source lies on.

    Parameters
    ----------
    segmentation : ndarray
        (ny, nx), labels.
    sources : `~astropy.table.QTable`
        With the columns ``x y`` in pixels of the segmentation, (n,).

    Returns
    -------
    ndarray
        (n,); 0 for sky, -1 off the image or without a position.
    """
    labels = np.full(len(sources), -1, dtype=np.int64)
    y, x = (np.rint(np.nan_to_num(sources[axis].value, nan=-1)) for axis in "yx")
    inside = (y >= 0) & (y < segmentation.shape[0]) & (x >= 0) & (x < segmentation.shape[1])
    labels[inside] = segmentation[y[inside].astype(int), x[inside].astype(int)]
    return labels


def regrid_detection(detection: Detection, wcs: WCS, shape: tuple[int, int]) -> Detection:
    """Return sources on the grid of another image.

    Parameters
    ----------
    detection : Detection
        Its ``sources`` may have any further columns.
    wcs : `~astropy.wcs.WCS`
        Of the other image.
    shape : tuple of int
        Of the other image, (ny, nx).

    Returns
    -------
    Detection
        ``x y`` follow from ``ra dec``, ``theta`` from the directions of both grids at each source (to 1e-6 deg, by the
        rounding of sky positions); all other columns are as they were, ``npix`` on the grid of the detection too.
    """
    labels = regrid_labels(detection.segmentation, detection.wcs, wcs, shape)
    return Detection(
        sources=regrid_sources(detection.sources, detection.wcs, wcs),
        segmentation=labels,
        wcs=wcs,
        boxes=detection.boxes if labels is detection.segmentation else None,
    )


def regrid_sources(sources: QTable, wcs: WCS, target: WCS) -> QTable:
    """Return sources on the grid of another image.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        Of a `Detection`; it is not changed.
    wcs, target : `~astropy.wcs.WCS`
        The grid they are on, and the one they shall be on.

    Returns
    -------
    `~astropy.table.QTable`
        With ``x y theta`` on the grid `target`.
    """
    sources = sources.copy()
    x, y, theta = sources["x"].value, sources["y"].value, sources["theta"].to_value(u.rad)
    # Both ends of a pixel's length along the major axis: a mirrored grid turns an axis the other way.
    ends = [(x, y), (x + np.cos(theta), y + np.sin(theta))]
    (x0, y0), (x1, y1) = (pixel_positions(target, *sky_positions(wcs, *end)) for end in ends)
    sources["theta"][:] = (np.arctan2(y1 - y0, x1 - x0) + np.pi / 2) % np.pi * u.rad - 90 * u.deg
    places = pixel_positions(target, sources["ra"].to_value(u.deg), sources["dec"].to_value(u.deg))
    sources["x"][:], sources["y"][:] = (place * u.pix for place in places)
    return sources


def shapes_on_grid(detection: Detection, scale: float) -> Shapes:
    """Return the sources on the grid they were detected on.

    Parameters
    ----------
    detection : Detection
        Of n sources.
    scale : float
        Of the pixels, arcsec.

    Returns
    -------
    Shapes
        (n,); a, b and theta are NaN where one of them is not known.
    """
    sources = detection.sources
    a, b = (sources[axis].to_value(u.arcsec) / scale for axis in "ab")
    theta = sources["theta"].to_value(u.rad)
    # An ellipse looks the same half a turn on; other engines give 0 to 360 degrees.
    theta = np.where(np.abs(theta) > 1.6, (theta + np.pi / 2) % np.pi - np.pi / 2, theta)
    # sep refuses angles a rounding error above pi/2, and its float32 pi/2 is one; a shape needs all its parts.
    theta = np.clip(theta, -np.pi / 2, np.pi / 2)
    known = np.isfinite(theta) & (b > 0) & (a >= b) & np.isfinite(a)
    return Shapes(
        label=np.asarray(sources["id"], dtype=np.int32),
        x=sources["x"].value,
        y=sources["y"].value,
        **{name: np.where(known, value, np.nan) for name, value in (("a", a), ("b", b), ("theta", theta))},
        kron=np.asarray(sources["kron_radius"], dtype=float) if "kron_radius" in sources.colnames else None,
    )
