"""Photometry of detected sources with sep: circles, Kron ellipses, half-light radii and annuli.

sep is not thread-safe: call from one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sep
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.options.stages import Options
from dja_photplug.sources.apertures import KRON_EXTENT, Engine, Floats, Pixels, Shapes, Sums, sum_overlap
from dja_photplug.sources.calibration import NoiseCalibration
from dja_photplug.sources.detection import Detection, mesh_background
from dja_photplug.sources.photometry import calibrate_with, measure_with

__all__ = ["SEP", "calibrate_sep", "measure_sep"]


def _neighbours(pixels: Pixels, shapes: Shapes) -> dict[str, NDArray]:
    """Return sep's arguments that take null pixels and neighbours out.

    Without `mask` sep zeroes neighbours, with one it fills them with the mean of the aperture.
    """
    if pixels.segmentation is None:
        return {"mask": pixels.null}
    return {"mask": pixels.null, "segmap": pixels.segmentation, "seg_id": shapes.label}


def _sum_ellipses(pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats) -> Sums:
    settings: dict[str, Any] = _neighbours(pixels, shapes)
    flux, error, flag = sum_overlap(pixels.data, shapes, a, b, theta, var=pixels.variance, **settings)
    total = background = np.square(error)
    if pixels.background is not pixels.variance:
        background = sum_overlap(pixels.background, shapes, a, b, theta, **settings)[0]
    return Sums(flux=flux, total=total, background=background, area=np.pi * a * b, flag=flag)


def _kron_radius(pixels: Pixels, shapes: Shapes) -> tuple[Floats, NDArray[np.int64]]:
    where = (shapes.x, shapes.y, shapes.a, shapes.b, shapes.theta, KRON_EXTENT)
    return sep.kron_radius(pixels.data, *where, **_neighbours(pixels, shapes))


def _half_light(pixels: Pixels, shapes: Shapes, flux: Floats, limit: Floats) -> Floats:
    radius, _ = sep.flux_radius(
        pixels.data, shapes.x, shapes.y, limit, 0.5, normflux=flux, subpix=5, **_neighbours(pixels, shapes)
    )
    return radius


def _average_annuli(
    pixels: Pixels, shapes: Shapes, masked: NDArray[np.bool_], inner: float, outer: float
) -> tuple[Floats, Floats]:
    where = (shapes.x, shapes.y, inner, outer)
    clear = (~masked).view(np.uint8)
    # With a mask sep scales sums to the annulus on the image, which the sum of ones tells; without it counts.
    total, error, _ = sep.sum_circann(pixels.data, *where, var=pixels.variance, mask=masked, subpix=0)
    area, _, _ = sep.sum_circann(clear, *where, mask=masked, subpix=0)
    count, _, _ = sep.sum_circann(clear, *where, subpix=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / area, error / np.sqrt(area * count)


SEP = Engine(
    mesh_background=mesh_background,
    sum_ellipses=_sum_ellipses,
    kron_radius=_kron_radius,
    half_light=_half_light,
    average_annuli=_average_annuli,
)


def measure_sep(image: NDData, detection: Detection, calibration: NoiseCalibration | None, options: Options) -> QTable:
    """Return the photometry of detected sources by sep; see `dja_photplug.sources.photometry.measure_with`."""
    return measure_with(SEP, image, detection, calibration, options)


def calibrate_sep(image: NDData, detection: Detection, options: Options) -> NoiseCalibration:
    """Measure a(r) in empty apertures with sep; see `dja_photplug.sources.photometry.calibrate_with`."""
    return calibrate_with(SEP, image, detection, options)
