"""Photometry of an image that is brought to another PSF: what is measured on it, and the noise of its sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from astropy import units as u
from astropy.table import QTable

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import MATCH_COLUMNS, describe_apertures, dress_table
from dja_photplug.light.planes import Floats, Planes, Shapes, sum_overlap
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.stages import Options
from dja_photplug.parallel.workers import Map
from dja_photplug.psf.convolution import Kernels, convolve_image, sum_noise
from dja_photplug.psf.matching import PENALTY, REGULARIZATION
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.apertures import Columns, Removed, Sky
from dja_photplug.sources.detection import Detection, shapes_on_grid

__all__ = ["copy_matched", "measure_matched"]

Measure = Callable[[MosaicImage, Removed], tuple[QTable, NoiseCalibration | None]]
"""Measures a(r) of an image less its sky, and the sources on it."""

# Names of the columns of an aperture, and what they are on the matched image.
NAMES = {"match_aper": "flux_aper", "match_err": "fluxerr_aper", "match_flag": "flag_aper"}


def measure_matched(
    image: MosaicImage,
    sky: Sky,
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
    sky : Sky
        What is taken off it before.
    detection : Detection
        On its grid.
    native : `~astropy.table.QTable`
        What was measured on it, for the flag NULL_WEIGHT: on the matched image others stand in for such pixels.
    kernels : Kernels
    options : Options
        Its ``measure.apertures``.
    measure : callable
        ``(image, removed)`` gives the photometry of the matched image as of any, and its a(r).
    parallel : Map, optional

    Returns
    -------
    `~astropy.table.QTable`
        One row for each source. Its metadata have ``MATCHRES``, by how much the curve of growth of the matched PSF is
        above the target's (a fraction, at the radii ``MATCHRAD`` in arcsec, of each kernel), ``MATCHREG`` and
        ``MATCHPEN``, regularisation and penalty of the kernels, and ``MATCH_AR`` at ``MATCH_AR_RAD``, a(r).

    Notes
    -----
    The variance of a flux is that of any flux, ``a(r)^2 * background + ...``, with a(r) and background of the matched
    image, and that of the photons, summed over the image as it is (`dja_photplug.psf.convolution.sum_noise`). Without
    a(r) nothing else knows how the pixels are correlated, and the background is summed like the photons.
    """
    matched = convolve_image(image, sky.level, kernels, parallel=parallel)
    # The sky is off already.
    removed = Removed(data=matched.data, sky=Sky(pixels=sky.pixels, mask=sky.mask, note=sky.note))
    table, calibration = measure(matched, removed)
    scale = pixel_scale(image.wcs)
    radii = [diameter / 2 / scale for diameter in options.measure.apertures]
    shapes = shapes_on_grid(detection, scale)
    kind = "full" if calibration is None else "photons"
    noise = sum_noise(image, kernels, shapes.x, shapes.y, radii, kind, parallel=parallel)
    if calibration is None:
        noise -= _sum_variances(matched, shapes, radii)
    columns = _take_columns(table)
    for i, more in enumerate(noise.T * (1 * image.unit).to_value(u.uJy) ** 2):
        if (name := f"match_err_{i}") in columns:
            columns[name] = np.sqrt(np.maximum(np.square(columns[name]) + more, 0))
        if f"flag_aper_{i}" in native.colnames:
            columns[f"match_flag_{i}"] |= native[f"flag_aper_{i}"] & SourceFlag.NULL_WEIGHT.value
    result = _dress(columns, options)
    result.meta = _describe(kernels, calibration)
    return result


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
    sums = np.zeros((len(known), len(radii)))
    for k, radius in enumerate(radii):
        size = np.full(known.sum(), radius)
        sums[known, k] = sum_overlap(variance, shapes[known], size, size, np.zeros_like(size))[0]
    return sums
