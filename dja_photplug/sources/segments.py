"""Segments and their light: shapes as an engine describes them, and given segmentation images in place of a detection.

A segmentation image may be on another grid than the image, and its labels need not be 1 to N: they stay the ids.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.pixels import ImageReader
from dja_photplug.light.mesh import Background
from dja_photplug.light.smoothing import convolve_pixels, gaussian_kernel
from dja_photplug.mosaic.blocks import null_pixels
from dja_photplug.options.run import Options
from dja_photplug.options.stages import DetectOptions
from dja_photplug.sky.grid import Grid, header_wcs, pixel_positions, sky_positions
from dja_photplug.sky.nesting import regrid_labels
from dja_photplug.sources.detection import Detection, Found, place_sources, sample_labels, subtract_level

if TYPE_CHECKING:
    from photutils.segmentation import SegmentationImage

__all__ = [
    "check_labels",
    "check_segments",
    "describe_segments",
    "detect_given",
    "read_labels",
    "read_segmentation",
    "segment_shapes",
]

# Pixels are read as float32, in which 2**24 could be the next number too; and photometry makes tables by label, 8 bytes
# for each up to the greatest: 134 MB here, but 16 GB with 2**31 - 1.
GREATEST_LABEL = (1 << 24) - 1
# Segments are told from those of another field where they are brighter than the sky around them no more often than by
# chance: of 30 or more, at most a half and three times its scatter, and 70 % at most. Of those of the UDS long-wave
# image 95 % are brighter in F444W and 90 % in F115W; 0.3 arcsec off 53 %, and 48 to 53 % farther away.
FEWEST_TOLD, MOST_TOLD = 30, 2000
CHANCE, MOST_CHANCE = 3.0, 0.7
RIM = 5  # pixels around the box of a segment, in which the sky is
COVERED = 0.99  # of an image by a segmentation, below which it is told


def _dark_centres(segments: SegmentationImage, dark: NDArray[np.intp]) -> tuple[list[float], list[float]]:
    """Return the geometric centres x and y of the segments with these indices."""
    boxes = [segments.slices[i] for i in dark]
    pixels = [np.nonzero(segments.data[box] == segments.labels[i]) for i, box in zip(dark, boxes, strict=True)]
    y, x = ([box[k].start + part[k].mean() for box, part in zip(boxes, pixels, strict=True)] for k in (0, 1))
    return x, y


def segment_shapes(
    data: NDArray[np.float32], convolved: NDArray[np.float32], null: NDArray[np.bool_], segments: SegmentationImage
) -> dict[str, Found]:
    """Return what `dja_photplug.sources.detection.place_sources` takes of each segment, in the order of the labels.

    Parameters
    ----------
    data, convolved : ndarray
        (ny, nx), less the sky; shapes are moments of the positive light in `convolved`, as in sep.
    null : ndarray of bool
        (ny, nx), pixels to leave out.
    segments : `~photutils.segmentation.SegmentationImage`

    Returns
    -------
    dict of str to ndarray
        ``x y a b`` in pixels, ``theta`` in radians, ``npix`` with the null pixels, and ``flag``, TRUNCATED at the edge
        of the image. Without positive light ``x y`` are the geometric centre, ``a b theta`` NaN.
    """
    from photutils.segmentation import SourceCatalog

    shapes = SourceCatalog(data, segments, convolved_data=convolved, mask=null)
    x, y = np.array([shapes.x_centroid, shapes.y_centroid])
    dark = np.flatnonzero(np.isnan(x))
    x[dark], y[dark] = _dark_centres(segments, dark)
    edges = (segments.data[edge] for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]))
    truncated = np.isin(segments.labels, np.concatenate(list(edges)))
    return {
        "x": x,
        "y": y,
        "a": shapes.semimajor_axis.value,
        "b": shapes.semiminor_axis.value,
        "theta": (shapes.orientation.to_value(u.rad) + np.pi / 2) % np.pi - np.pi / 2,  # of 0 to 2 pi
        "npix": shapes.segment_area.value,
        "flag": np.where(truncated, SourceFlag.TRUNCATED.value, 0),
    }


def read_segmentation(path: str | Path) -> tuple[NDArray[np.int32], WCS | None]:
    """Return the labels of a segmentation image, and its WCS where it has one.

    Parameters
    ----------
    path : str or Path
        A ``.fits`` or ``.fits.gz`` file; its first two-dimensional image is taken.

    Returns
    -------
    labels : ndarray
        (ny, nx) int32; 0 is sky.
    wcs : `~astropy.wcs.WCS` or None

    Raises
    ------
    PhotplugError
        Where the file cannot be read, holds no such image, or pixels that are no labels: not whole, negative, above
        16,777,215, or all 0.
    """
    with ImageReader(path) as reader:
        labels = np.empty(reader.shape, dtype=np.int32)
        for rows, pixels in reader.blocks():
            labels[rows] = check_labels(pixels, path)
        try:
            wcs = header_wcs(reader.header) if "CTYPE1" in reader.header else None
        except PhotplugError as error:
            raise PhotplugError(f"{path}: {error}") from None
    if not labels.any():
        raise PhotplugError(f"{path}: the segmentation map has no segments, all its pixels are 0; give another file")
    return labels, wcs


def check_labels(pixels: NDArray[np.floating] | NDArray[np.integer], name: str | Path) -> NDArray[np.int32]:
    """Return pixels as the labels of segments, refused where they are none.

    Parameters
    ----------
    pixels : ndarray
        (ny, nx), of any type.
    name : str or Path
        Of the segmentation, for messages.

    Returns
    -------
    ndarray
        int32, of that shape.

    Raises
    ------
    PhotplugError
        Where a pixel is no number, not whole, negative, or above 16,777,215.
    """
    if pixels.dtype.kind not in "buif":
        raise PhotplugError(
            f"{name}: a segmentation map holds integer labels, but this is of type {pixels.dtype}; give another file"
        )
    fit = (pixels >= 0) & (pixels <= GREATEST_LABEL) & (pixels == np.floor(pixels))
    if not fit.all():
        raise PhotplugError(
            f"{name}: a segmentation map holds integer labels from 0 to {GREATEST_LABEL}, but this has "
            f"{pixels[~fit][0]:.10g}; give another file, or renumber it"
        )
    return pixels.astype(np.int32)


def check_segments(
    sources: QTable, labels: NDArray[np.int32], name: str | Path
) -> tuple[NDArray[np.bool_], str | None]:
    """Refuse a segmentation that is not that of the sources; return which of them have a segment.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        With ``id``, and ``x y`` in pixels of the segmentation; those off it are passed over.
    labels : ndarray
        (ny, nx), labelled by ``id``.
    name : str or Path
        Of the segmentation, for messages.

    Returns
    -------
    there : ndarray of bool
        (n,), whether there is a segment with the id of a source.
    missing : str or None
        What is found of sources on the image without one.

    Raises
    ------
    PhotplugError
        Where more than half of the sources on the image have no segment, or do not lie on their own.
    """
    label = sample_labels(labels, sources)
    ids = np.asarray(sources["id"])
    there = np.isin(ids, np.flatnonzero(np.bincount(labels.ravel())))
    inside = label >= 0
    missing, found = np.flatnonzero(inside & ~there), None
    advice = "give the segmentation that the catalogue was made from"
    if len(missing):
        found = (
            f"{name}: no segment for {len(missing)} of {len(ids)} rows, first id {ids[missing[0]]} in row {missing[0]} "
            "(from 0)"
        )
        if len(missing) > inside.sum() / 2:
            raise PhotplugError(f"{found}; {advice}")
    inside &= there
    astray = int(np.sum(label[inside] != ids[inside]))
    if astray > inside.sum() / 2:
        raise PhotplugError(
            f"{name}: {astray} of {inside.sum()} positions lie on segments of other ids, or on none; {advice}"
        )
    return there, found


def describe_segments(
    image: NDData,
    background: Background,
    labels: NDArray[np.int32],
    options: DetectOptions,
    *,
    name: str | Path = "the segmentation",
) -> Detection:
    """Return segments of an image as its sources, with positions and shapes of the light in them.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        With WCS, and the full weight as its uncertainty.
    background : Background
        Its level is taken off.
    labels : ndarray
        (ny, nx) int32 with at least one segment; 0 is sky.
    options : DetectOptions
        Its ``kernel`` smooths the image before shapes are measured, as in sep.
    name : str or Path, optional
        Of the segmentation, for messages.

    Returns
    -------
    Detection
        ``id`` is the label; see :func:`segment_shapes`. Whether a segment was deblended is not known.

    Raises
    ------
    PhotplugError
        Where the image has no WCS or no uncertainty; where 30 segments or more are brighter than the sky around them
        no more often than by chance.
    """
    from photutils.segmentation import SegmentationImage  # half a second to import

    null = null_pixels(image)
    data = subtract_level(image, background, null)
    segments, convolved = SegmentationImage(labels), convolve_pixels(data, gaussian_kernel(options.kernel))
    _check_light(data, null, segments, name)
    found = segment_shapes(data, convolved, null, segments)
    return place_sources(found, labels, image.wcs, segments.labels)


def detect_given(image: NDData, background: Background, options: Options) -> Detection:
    """Return the segments of the file ``options.detect.use_segmentation`` as the sources of an image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        With WCS, and the full weight as its uncertainty.
    background : Background
    options : Options
        The group ``detect``: of it only ``use_segmentation`` and ``kernel`` count.

    Returns
    -------
    Detection
        Of the segments on the image. On a coarser grid those vanish that hold the majority of no pixel.

    Raises
    ------
    PhotplugError
        As :func:`read_labels` and :func:`describe_segments`.

    Warns
    -----
    PhotplugWarning
        Where the segmentation does not reach over all of the image.
    """
    path = options.detect.use_segmentation
    if path is None:
        raise PhotplugError("there is no segmentation map to measure; set the option use_segmentation")
    labels, covered = _read_on(path, image)
    detection = describe_segments(image, background, labels, options.detect, name=path)
    if covered < COVERED:
        warnings.warn(
            f"{path}: the segmentation map covers {covered:.0%} of the image; sources elsewhere are not measured, and "
            "their light counts as sky",
            PhotplugWarning,
            stacklevel=2,
        )
    return detection


def _check_light(
    data: NDArray[np.float32], null: NDArray[np.bool_], segments: SegmentationImage, name: str | Path
) -> None:
    """Refuse segments that are no brighter than the sky around them."""
    step = max(1, segments.n_labels // MOST_TOLD)
    number = brighter = 0
    for label, box in list(zip(segments.labels, segments.slices, strict=True))[::step]:
        around = tuple(slice(max(part.start - RIM, 0), part.stop + RIM) for part in box)
        labels, known = segments.data[around], ~null[around]
        own, sky = data[around][(labels == label) & known], data[around][(labels == 0) & known]
        if own.size and sky.size:
            number += 1
            brighter += int(np.median(own) > np.median(sky))
    limit = min(number / 2 + CHANCE * np.sqrt(number) / 2, MOST_CHANCE * number)
    if number >= FEWEST_TOLD and brighter <= limit:
        raise PhotplugError(
            f"{name}: only {brighter} of {number} segments on the image are brighter than the sky around them, as for "
            "random positions; give the map of this field with its own WCS, or extend its catalogue with this band"
        )


def read_labels(path: str | Path, image: NDData) -> NDArray[np.int32]:
    """Return the labels of a segmentation image on the grid of an image.

    Parameters
    ----------
    path : str or Path
        As for :func:`read_segmentation`.
    image : `~astropy.nddata.NDData`
        With a WCS, unless the segmentation has none.

    Returns
    -------
    ndarray
        (ny, nx) of the image, int32; 0 is sky.

    Raises
    ------
    PhotplugError
        As :func:`read_segmentation`; where no segment lies on the image, or a segmentation without WCS has another
        shape.
    """
    return _read_on(path, image)[0]


def _read_on(path: str | Path, image: NDData) -> tuple[NDArray[np.int32], float]:
    """Return labels on the grid of an image, and the share of it that they cover."""
    labels, wcs = read_segmentation(path)
    shape = image.data.shape
    if wcs is not None and image.wcs is not None:
        covered = _measure_cover(Grid(wcs, labels.shape), Grid(image.wcs, shape))
        labels = regrid_labels(labels, wcs, image.wcs, shape)
        if not labels.any():
            raise PhotplugError(
                f"{path}: none of its segments lies on the image; give a segmentation of the same field"
            )
        return labels, covered
    if labels.shape != shape:
        raise PhotplugError(
            f"{path}: the segmentation map of {labels.shape} pixels (y, x) has no WCS, and the image has {shape}; "
            "give one of the same shape, or with a WCS"
        )
    return labels, 1.0


def _measure_cover(grid: Grid, image: Grid) -> float:
    """Return the share of an image that another grid covers, sampled at 32 x 32 places."""
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n - 1, 32) for n in image.shape), indexing="ij"))
    places = pixel_positions(grid.wcs, *sky_positions(image.wcs, x, y))
    on = [(place > -1) & (place < n) for place, n in zip(places, grid.shape[::-1], strict=True)]  # False for NaN
    return float(np.mean(np.all(on, axis=0)))
