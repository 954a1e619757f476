"""Segments and their light: shapes as an engine describes them, and given segmentation images in place of a detection.

A segmentation image may be on another grid than the image, and its labels need not be 1 to N: they stay the ids.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import NDData
from astropy.wcs import WCS
from numpy.typing import NDArray
from photutils.segmentation import SegmentationImage, SourceCatalog

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError
from dja_photplug.files.pixels import ImageReader
from dja_photplug.options.stages import DetectOptions, Options
from dja_photplug.sky.grid import header_wcs
from dja_photplug.sky.nesting import regrid_labels
from dja_photplug.sources.detection import (
    Background,
    Detection,
    Found,
    gaussian_kernel,
    measure_significance,
    place_sources,
    subtract_level,
)
from dja_photplug.sources.planes import convolve_pixels, null_pixels

__all__ = ["describe_segments", "detect_given", "read_labels", "read_segmentation", "segment_shapes"]

# Pixels are read as float32, in which 2**24 could be the next number too; and photometry makes tables by label, 8 bytes
# for each up to the greatest: 134 MB here, but 16 GB with 2**31 - 1.
GREATEST_LABEL = (1 << 24) - 1


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
            fit = (pixels >= 0) & (pixels <= GREATEST_LABEL) & (pixels == np.floor(pixels))
            if not fit.all():
                raise PhotplugError(
                    f"{path}: a segmentation image holds labels, whole numbers from 0 to {GREATEST_LABEL}, but there "
                    f"is {pixels[~fit][0]:.10g}; give another file, or renumber it"
                )
            labels[rows] = pixels
        try:
            wcs = header_wcs(reader.header) if "CTYPE1" in reader.header else None
        except PhotplugError as error:
            raise PhotplugError(f"{path}: {error}") from None
    if not labels.any():
        raise PhotplugError(f"{path}: the segmentation image has no segment, all its pixels are 0; give another file")
    return labels, wcs


def describe_segments(
    image: NDData, background: Background, labels: NDArray[np.int32], options: DetectOptions
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

    Returns
    -------
    Detection
        ``id`` is the label; see :func:`segment_shapes`. Whether a segment was deblended is not known.

    Raises
    ------
    PhotplugError
        Where the image has no WCS or no uncertainty.
    """
    null = null_pixels(image)
    data = subtract_level(image, background, null)
    segments, convolved = SegmentationImage(labels), convolve_pixels(data, gaussian_kernel(options.kernel))
    found = segment_shapes(data, convolved, null, segments)
    found["snr_detect"] = measure_significance(image, data, null, labels, options)[segments.labels]
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
    """
    path = options.detect.use_segmentation
    if path is None:
        raise PhotplugError("no segmentation is given to measure; set the option use_segmentation")
    return describe_segments(image, background, read_labels(path, image), options.detect)


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
    labels, wcs = read_segmentation(path)
    shape = image.data.shape
    if wcs is not None and image.wcs is not None:
        labels = regrid_labels(labels, wcs, image.wcs, shape)
        if not labels.any():
            raise PhotplugError(
                f"{path}: none of its segments lies on the image; give a segmentation of the same field"
            )
    elif labels.shape != shape:
        raise PhotplugError(
            f"{path}: the segmentation image of {labels.shape} pixels (y, x) has no WCS, and the image has {shape}; "
            "give one of the same shape, or with a WCS"
        )
    return labels
