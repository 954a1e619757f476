"""Photometry of an image that is brought to another PSF: what is measured on it, and the noise of its sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from astropy import units as u
from astropy.table import QTable
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import MATCH_COLUMNS, describe_apertures, dress_table
from dja_photplug.light.planes import Floats, Shapes, sum_overlap
from dja_photplug.matching.convolution import Kernels, convolve_image
from dja_photplug.matching.kernels import PENALTY, REGULARIZATION
from dja_photplug.matching.weights import Weights, batches, group_rows, sum_noise, window_pixels
from dja_photplug.mosaic.blocks import Planes
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.neighbours.models import NeighbourLight
from dja_photplug.neighbours.own_light import draw_wings
from dja_photplug.options.run import Options
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import Detection, shapes_on_grid
from dja_photplug.sources.sums.apertures import Columns
from dja_photplug.sources.sums.planes import Removed

__all__ = ["copy_matched", "measure_matched"]

Measure = Callable[[MosaicImage, Removed], tuple[QTable, NoiseCalibration | None]]
"""Measures a(r) of an image less its sky, and the sources on it."""

# Names of the columns of an aperture, and what they are on the matched image.
NAMES = {"match_aper": "flux_aper", "match_err": "fluxerr_aper", "match_flag": "flag_aper"}


def measure_matched(
    image: MosaicImage,
    removed: Removed,
    detection: Detection,
    native: QTable,
    kernels: Kernels,
    options: Options,
    measure: Measure,
    *,
    parallel: Map = map,
) -> QTable:
    """Return the columns of `MATCH_COLUMNS`, measured on an image that is brought to another PSF.

    Parameters
    ----------
    image : MosaicImage
        As it is.
    removed : Removed
        What photometry takes off it.
    detection : Detection
        On its grid.
    native : `~astropy.table.QTable`
        What was measured on the image as it is: its flags hold for the matched image too.
    kernels : Kernels
    options : Options
        Its ``measure.apertures``.
    measure : callable
        ``(image, removed)`` gives the photometry of the matched image, and its a(r). Where neighbours are subtracted
        it keeps them.
    parallel : Map, optional

    Returns
    -------
    `~astropy.table.QTable`
        One row for each source. Metadata: ``MATCHRES``, by which fraction matched curves of growth are above the
        target's, for each kernel, at ``MATCHRAD`` arcsec; ``MATCHREG MATCHPEN``; a(r), ``MATCH_AR MATCH_AR_RAD``.

    Notes
    -----
    Of neighbours their models are taken off, convolved: the pixels of their segments, and the profiles beyond.

    A variance is ``a(r)^2 * background`` of the matched image, and that of the photons, summed over the image as it is
    (`dja_photplug.matching.weights.sum_noise`); without a(r) the background is summed like the photons.
    """
    matched = convolve_image(image, removed.sky.mesh, kernels, parallel=parallel)
    without = Removed(sky=replace(removed.sky, mesh=None))  # it is off already
    table, calibration = measure(matched, without)
    radii = [diameter / 2 / pixel_scale(image.wcs) for diameter in options.measure.apertures]
    shapes = shapes_on_grid(detection, pixel_scale(image.wcs))
    kind = "full" if calibration is None else "photons"
    noise = sum_noise(image, kernels, shapes.x, shapes.y, radii, kind, parallel=parallel)
    if calibration is None:
        noise -= _sum_variances(matched, shapes, radii)
    light, doubt = weigh_neighbours(removed, Planes.of(image), shapes, kernels, radii, parallel=parallel)
    columns, unit = _take_columns(table), (1 * image.unit).to_value(u.uJy)
    _correct(columns, native, light * unit, (noise + doubt) * unit**2)
    result = _dress(columns, options)
    result.meta = _describe(kernels, calibration)
    return result


def _correct(columns: Columns, native: QTable, light: Floats, noise: Floats) -> None:
    """Take off the light of neighbours, (n, apertures), and add to variances, and the flags of the image as it is."""
    for i, (variance, taken) in enumerate(zip(noise.T, light.T, strict=True)):
        if f"match_aper_{i}" in columns:
            # Where all of an aperture is a neighbour's it was kept, in the image as it is too.
            flag = np.asarray(native[f"flag_aper_{i}"])
            taken = np.where(flag & SourceFlag.APER_ALL_MASKED.value, 0, taken)
            columns[f"match_aper_{i}"] -= taken
            columns[f"match_err_{i}"] = np.sqrt(np.maximum(np.square(columns[f"match_err_{i}"]) + variance, 0))
            columns[f"match_flag_{i}"] |= flag


def weigh_neighbours(
    removed: Removed,
    planes: Planes,
    shapes: Shapes,
    kernels: Kernels,
    radii: Sequence[float],
    *,
    parallel: Map = map,
) -> tuple[Floats, Floats]:
    """Return what neighbours have in circles on a convolved image, and the variance of what profiles say of that.

    Parameters
    ----------
    removed : Removed
        Of the image as it is.
    planes : Planes
        Of that image.
    shapes : Shapes
        Of n sources, each of the label that it has.
    kernels : Kernels
    radii : sequence of float
        In pixels, k.
    parallel : Map, optional
        Does the sources of some rows.

    Returns
    -------
    light, variance : ndarray
        (n, k), in the unit of the image, and in its square; 0 where no neighbours are taken off.
    """
    light, variance = np.zeros((2, len(shapes.x), len(radii)))
    if removed.neighbours is None:
        return light, variance
    groups = group_rows(shapes.x, shapes.y, planes.data.shape)
    work = partial(_weigh_rows, removed, planes, kernels, tuple(radii))
    for group, sums in zip(groups, parallel(work, [shapes[group] for group in groups]), strict=True):
        light[group], variance[group] = sums
    return light, variance


def _weigh_rows(
    removed: Removed,
    planes: Planes,
    kernels: Kernels,
    radii: tuple[float, ...],
    shapes: Shapes,
) -> Floats:
    """Return the sums of `weigh_neighbours` for sources in some rows, (2, n, k)."""
    neighbours, sums = removed.neighbours, np.zeros((2, len(shapes.x), len(radii)))
    assert neighbours is not None
    fraction = 0.0 if removed.profiles is None else removed.profiles.fraction
    for number, members in kernels.of_sources(shapes.x, shapes.y):
        weights = [Weights.of(kernels.kernels[number].data, radius) for radius in radii]
        chosen, margin = shapes[members], max(one.reach for one in weights)
        column, row = (np.rint(axis).astype(np.intp) for axis in (chosen.x, chosen.y))
        dx, dy, side = chosen.x - column, chosen.y - row, 2 * margin + 1
        low, high = int(row.min()) - margin, int(row.max()) + margin + 1
        clear, wings, labels, known = _cut_rows(neighbours, planes, slice(low, high), margin)
        for some in batches(len(members)):
            at = row[some] - margin - low, column[some]
            own = draw_wings(neighbours, chosen[some], at[1] - margin, row[some] - margin, side)
            own = np.where(sliding_window_view(known, (side, side))[at], own, np.float32(0))
            of = sliding_window_view(labels, (side, side))[at]
            mine = (of == 0) | (of == chosen.label[some][:, None, None])
            beyond = np.subtract(sliding_window_view(wings, (side, side))[at], own)
            theirs = np.where(mine, 0, sliding_window_view(clear, (side, side))[at]) + beyond
            parts = theirs, beyond * mine, own * ~mine
            for k, weight in enumerate(weights):
                edge = slice(margin - weight.reach, margin + weight.reach + 1)
                by = weight(dx[some], dy[some])
                total, taken, filled = (np.einsum("nij,nij->n", by, part[:, edge, edge]) for part in parts)
                sums[0, members[some], k] = total
                sums[1, members[some], k] = fraction**2 * (taken**2 + filled**2)
    return sums


def _cut_rows(
    light: NeighbourLight, planes: Planes, rows: slice, margin: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]:
    """Return some rows, also off the image, of what is clear of wings, of the wings, of labels, and where data are."""
    ny, nx = light.clear.shape
    there = slice(max(rows.start, 0), min(rows.stop, ny))
    null, drawn = planes[there].null(), light[there, slice(0, nx)].draw()
    clear, wings = (np.where(null, np.float32(0), plane) for plane in (drawn.clear, drawn.wings))
    labels = np.asarray(light.segmentation)[there]
    clear, wings, labels = (window_pixels(plane, rows, margin) for plane in (clear, wings, labels))
    return clear, wings, labels, window_pixels(~null, rows, margin)


def copy_matched(table: QTable, options: Options) -> QTable:
    """Return the columns of `MATCH_COLUMNS` of an image that has the PSF that others are brought to.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What was measured on it.
    options : Options

    Returns
    -------
    `~astropy.table.QTable`
    """
    return _dress(_take_columns(table), options)


def _take_columns(table: QTable) -> Columns:
    """Return plain columns of apertures under the names that they have for matched bands."""
    return {
        name.replace(own, new): np.array(getattr(column, "value", column))
        for new, own in NAMES.items()
        for name, column in table.items()
        if name.startswith(f"{own}_")
    }


def _dress(columns: Columns, options: Options) -> QTable:
    specs = describe_apertures(range(len(options.measure.apertures)), MATCH_COLUMNS)
    return dress_table(columns, [spec for spec in specs if spec.name in columns])


def _describe(kernels: Kernels, calibration: NoiseCalibration | None) -> dict[str, object]:
    """Return what the metadata of a band tell of its matching."""
    residuals = [[round(value, 5) for value in kernel.residual.tolist()] for kernel in kernels.kernels]
    radius = kernels.kernels[0].radius.tolist()
    told: dict[str, object] = {"MATCHRAD": radius, "MATCHRES": residuals, "MATCHREG": REGULARIZATION}
    curve = {} if calibration is None else calibration.metadata()
    return told | {"MATCHPEN": PENALTY} | {f"MATCH_{key}": value for key, value in curve.items()}


def _sum_variances(image: MosaicImage, shapes: Shapes, radii: list[float]) -> Floats:
    """Return what errors without a(r) have of the variances of pixels in circles, (n, k)."""
    planes = Planes.of(image)
    variance = np.where(planes.null(), np.float32(0), planes.variance())
    known = np.isfinite(shapes.x) & np.isfinite(shapes.y)
    placed, sums = shapes[known], np.zeros((len(known), len(radii)))
    for k, radius in enumerate(radii):
        sums[known, k] = sum_overlap(variance, placed, *placed.circles(radius))[0]
    return sums
