"""Photometry of detected sources with sep: circles, Kron ellipses, isophotes, half-light radii.

All sums use exact overlap. sep is not thread-safe: call from one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import sep
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dja_photplug.catalog import SourceFlag, describe_columns, dress_table, magnitude
from dja_photplug.detection import Detection, mesh_background, native_pixels, null_pixels, variance_map
from dja_photplug.errors import PhotplugError
from dja_photplug.geometry import pixel_scale
from dja_photplug.options import MeasureOptions, Options

__all__ = ["measure_sep"]

# Radius of the ellipse that the Kron radius is measured in, in units of a and b (Source Extractor's value).
KRON_EXTENT = 6.0

# Light beyond the isophote that would bias the sky: segments grow by this much before the sky is measured, in arcsec.
SKY_MARGIN = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pixels:
    """The arrays that sep sums over, all (ny, nx); `segmentation` is None where neighbours are kept."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    null: NDArray[np.bool_]
    segmentation: NDArray[np.int32] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shapes:
    """Sources on the grid of the image measured: pixels, theta in radians within sep's limits, all (n,)."""

    label: NDArray[np.int32]
    x: Floats
    y: Floats
    a: Floats
    b: Floats
    theta: Floats

    def __getitem__(self, index: NDArray[np.bool_] | slice) -> _Shapes:
        return _Shapes(**{name: getattr(self, name)[index] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sums:
    """Flux, error and flag of apertures, (n,), in the unit of the pixels."""

    flux: Floats
    error: Floats
    flag: NDArray[np.int64]


def _shapes_on_grid(detection: Detection, scale: float) -> _Shapes:
    """Return the sources on the grid they were detected on."""
    sources = detection.sources
    a, b = (sources[axis].to_value(u.arcsec) / scale for axis in "ab")
    theta = sources["theta"].to_value(u.rad)
    # sep refuses angles a rounding error above pi/2, and its float32 pi/2 is one; a shape needs all its parts.
    theta = np.clip(theta, -np.pi / 2, np.pi / 2)
    known = np.isfinite(theta) & (b > 0) & (a >= b) & np.isfinite(a)
    return _Shapes(
        label=np.asarray(sources["id"], dtype=np.int32),
        x=sources["x"].value,
        y=sources["y"].value,
        **{name: np.where(known, value, np.nan) for name, value in (("a", a), ("b", b), ("theta", theta))},
    )


def _neighbours(pixels: _Pixels, shapes: _Shapes) -> dict[str, NDArray]:
    """Return sep's arguments that take null pixels and neighbours out.

    Without `mask` sep zeroes neighbours, with one it fills them with the mean of the aperture.
    """
    if pixels.segmentation is None:
        return {"mask": pixels.null}
    return {"mask": pixels.null, "segmap": pixels.segmentation, "seg_id": shapes.label}


def _sum_ellipses(pixels: _Pixels, shapes: _Shapes, a: Floats, b: Floats, theta: Floats) -> _Sums:
    """Sum over ellipses around the sources; circles are ellipses with a = b (equal to 1e-13, at twice the time)."""
    flux, error, flag = sep.sum_ellipse(
        pixels.data, shapes.x, shapes.y, a, b, theta, 1.0, var=pixels.variance, subpix=0, **_neighbours(pixels, shapes)
    )
    flag = flag.astype(np.int64)
    empty = ~np.isfinite(flux)
    flag[empty] |= SourceFlag.APER_ALL_MASKED
    if pixels.segmentation is not None and empty.any():
        # A barycentre can lie inside a neighbour, as of an arc: then that light is all there is to sum.
        kept = _sum_ellipses(replace(pixels, segmentation=None), shapes[empty], a[empty], b[empty], theta[empty])
        flux[empty], error[empty] = kept.flux, kept.error
        flag[empty] |= kept.flag
    return _Sums(flux=flux, error=error, flag=flag)


def _sum_circles(pixels: _Pixels, shapes: _Shapes, radius: float) -> _Sums:
    radii = np.full(len(shapes.x), radius)
    return _sum_ellipses(pixels, shapes, radii, radii, np.zeros_like(radii))


def _kron_radius(pixels: _Pixels, shapes: _Shapes, options: MeasureOptions) -> tuple[Floats, NDArray[np.int64]]:
    """Return the scaled and clipped Kron radius, NaN without a shape or a pixel, and sep's flags."""
    radius, flag = np.full(len(shapes.x), np.nan), np.zeros(len(shapes.x), dtype=np.int64)
    known = np.isfinite(shapes.a)
    some = shapes[known]
    kron, flags = sep.kron_radius(
        pixels.data, some.x, some.y, some.a, some.b, some.theta, KRON_EXTENT, **_neighbours(pixels, some)
    )
    scaled = np.clip(options.kron_factor * kron, options.kron_min, options.kron_max)
    radius[known] = np.where(flags & SourceFlag.APER_ALL_MASKED, np.nan, scaled)
    flag[known] = flags
    return radius, flag


def _half_light(pixels: _Pixels, shapes: _Shapes, flux: Floats, limit: Floats) -> Floats:
    """Return the radius in pixels that holds half of `flux`, NaN where `limit` does not reach it."""
    radius, _ = sep.flux_radius(
        pixels.data, shapes.x, shapes.y, limit, 0.5, normflux=flux, subpix=5, **_neighbours(pixels, shapes)
    )
    return np.where((flux > 0) & (radius < limit), radius, np.nan)


def _mask_fraction(pixels: _Pixels, shapes: _Shapes, a: Floats, b: Floats, theta: Floats, radius: float) -> Floats:
    """Return the area fraction, without data or off the image, of the larger of the ellipse and the circle."""
    larger = a * b > radius**2
    a, b, theta = (np.where(larger, ellipse, circle) for ellipse, circle in ((a, radius), (b, radius), (theta, 0.0)))
    clear, _, _ = sep.sum_ellipse((~pixels.null).view(np.uint8), shapes.x, shapes.y, a, b, theta, 1.0, subpix=0)
    fraction = 1 - clear / (np.pi * a * b)
    # The overlaps add up to the area within 1e-14, measured; a pixel that matters takes more than 1e-9 of it.
    return np.where(np.abs(fraction) < 1e-9, 0.0, fraction)


def _measure_shapes(pixels: _Pixels, shapes: _Shapes, scale: float, options: MeasureOptions) -> dict[str, NDArray]:
    """Return all that is summed around positions: fluxes in the unit of the pixels, lengths and areas in pixels."""
    kron, flag = _kron_radius(pixels, shapes, options)
    least = options.kron_circle / scale
    circle = ~(kron * np.sqrt(shapes.a * shapes.b) >= least)  # True where the Kron radius is unknown
    a, b = (np.where(circle, least, kron * axis) for axis in (shapes.a, shapes.b))
    theta = np.where(circle, 0.0, shapes.theta)
    auto = _sum_ellipses(pixels, shapes, a, b, theta)
    flag |= auto.flag | np.where(circle, SourceFlag.KRON_CIRCLE.value, 0)
    columns = {
        "kron_radius": kron,
        "flux_auto": auto.flux,
        "fluxerr_auto": auto.error,
        "area_auto": np.pi * a * b,
        "flux_radius": _half_light(pixels, shapes, auto.flux, np.fmax(KRON_EXTENT * shapes.a, a)),
        "flag": flag,
        "mask_frac": _mask_fraction(pixels, shapes, a, b, theta, max(options.apertures) / 2 / scale),
    }
    for i, diameter in enumerate(options.apertures):
        radius = np.full(len(kron), diameter / 2 / scale)
        sums = _sum_ellipses(pixels, shapes, radius, radius, np.zeros_like(radius))
        columns |= {f"flux_aper_{i}": sums.flux, f"fluxerr_aper_{i}": sums.error, f"flag_aper_{i}": sums.flag}
    return columns


def _sky_mask(segmentation: NDArray[np.int32], scale: float) -> NDArray[np.bool_]:
    """Return the segments of all sources, grown by `SKY_MARGIN`."""
    return maximum_filter(segmentation > 0, size=2 * round(SKY_MARGIN / scale) + 1)


def _annulus_sky(
    pixels: _Pixels, shapes: _Shapes, masked: NDArray[np.bool_], inner: float, outer: float
) -> tuple[Floats, Floats]:
    """Return the mean of the clear pixels in the annulus around each source and its error, NaN where there are none.

    `masked` are the pixels (ny, nx) that are not sky; the radii are in pixels.
    """
    where = (shapes.x, shapes.y, inner, outer)
    masked = masked | pixels.null
    clear = (~masked).view(np.uint8)
    # With a mask sep scales sums to the annulus on the image, which the sum of ones tells; without it counts.
    total, error, _ = sep.sum_circann(pixels.data, *where, var=pixels.variance, mask=masked, subpix=0)
    area, _, _ = sep.sum_circann(clear, *where, mask=masked, subpix=0)
    count, _, _ = sep.sum_circann(clear, *where, subpix=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / area, error / np.sqrt(area * count)


def _cut_out(pixels: _Pixels, shapes: _Shapes, reach: Floats) -> Iterator[tuple[_Pixels, _Shapes]]:
    """Yield each source on its own pixels, as far as `reach`, and at least one pixel of the image."""
    ny, nx = pixels.data.shape
    for i in range(len(shapes.x)):
        x0, y0 = (int(np.clip(v[i] - reach[i], 0, n - 1)) for v, n in ((shapes.x, nx), (shapes.y, ny)))
        x1, y1 = (int(np.clip(v[i] + reach[i], low, n - 1)) for v, low, n in ((shapes.x, x0, nx), (shapes.y, y0, ny)))
        box = slice(y0, y1 + 1), slice(x0, x1 + 1)
        cut = _Pixels(
            data=pixels.data[box].copy(),
            variance=pixels.variance[box].copy(),
            null=pixels.null[box].copy(),
            segmentation=None if pixels.segmentation is None else pixels.segmentation[box].copy(),
        )
        one = shapes[i : i + 1]
        yield cut, replace(one, x=one.x - x0, y=one.y - y0)


def _measure_with_sky(
    pixels: _Pixels, shapes: _Shapes, sky: Floats, scale: float, options: MeasureOptions
) -> dict[str, NDArray]:
    """Measure each source on a cut-out with its own sky taken off: Kron and half-light radius depend on it."""
    # Margins: 2 pixels for the interpolation of sep's growth curve, 1 for the pixels at the rim.
    extent = np.maximum(KRON_EXTENT, options.kron_max) * np.nan_to_num(shapes.a)
    reach = np.maximum(extent, max(options.kron_circle, *options.apertures) / scale) + 3
    parts = [
        _measure_shapes(replace(cut, data=cut.data - np.float32(level)), one, scale, options)
        for (cut, one), level in zip(_cut_out(pixels, shapes, reach), sky, strict=True)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _sum_segments(
    pixels: _Pixels, segmentation: NDArray[np.int32], label: NDArray[np.int32]
) -> tuple[Floats, Floats, Floats]:
    """Return flux, variance and number of the pixels with data in the segment of each label."""
    members = np.flatnonzero(segmentation)
    members = members[~pixels.null.ravel()[members]]
    owner, size = segmentation.ravel()[members], label.max(initial=0) + 1

    def total(values: NDArray[np.float32] | None) -> Floats:
        return np.bincount(owner, weights=values, minlength=size)[label].astype(np.float64)

    return total(pixels.data.ravel()[members]), total(pixels.variance.ravel()[members]), total(None)


def _spread(columns: dict[str, NDArray], placed: NDArray[np.bool_]) -> dict[str, NDArray]:
    """Return columns of all sources from those of the placed ones: NaN, and flag 0, for the others."""
    spread = {}
    for name, values in columns.items():
        spread[name] = np.full(len(placed), np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
        spread[name][placed] = values
    return spread


def _measure(
    pixels: _Pixels, shapes: _Shapes, segmentation: NDArray[np.int32], scale: float, options: MeasureOptions
) -> dict[str, NDArray]:
    """Return fluxes and errors in the unit of the pixels, with the sky of `options` taken off."""
    # Farther positions would overflow sep's integers; NaN is not below.
    placed = (np.abs(shapes.x) < 2**31) & (np.abs(shapes.y) < 2**31)
    sky, sky_error = np.zeros(len(placed)), np.zeros(len(placed))
    if options.background == "annulus" and placed.any():
        radii = (radius / scale for radius in options.annulus)
        sky[placed], sky_error[placed] = _annulus_sky(pixels, shapes[placed], _sky_mask(segmentation, scale), *radii)
        placed &= np.isfinite(sky)
    if options.background == "annulus" and placed.any():
        columns = _measure_with_sky(pixels, shapes[placed], sky[placed], scale, options)
    else:
        columns = _measure_shapes(pixels, shapes[placed], scale, options)
    columns = _spread(columns, placed)
    flux, variance, count = _sum_segments(pixels, segmentation, shapes.label)
    columns["flux_iso"] = np.where(count > 0, flux - sky * count, np.nan)
    columns["fluxerr_iso"] = np.where(count > 0, np.sqrt(variance), np.nan)
    areas: dict[str, Floats | float] = {"auto": columns.pop("area_auto"), "iso": count}
    areas |= {f"aper_{i}": np.pi * (diameter / 2 / scale) ** 2 for i, diameter in enumerate(options.apertures)}
    for name, area in areas.items():
        columns[f"fluxerr_{name}"] = np.hypot(columns[f"fluxerr_{name}"], area * sky_error)
    return columns


def _read_pixels(image: NDData, segmentation: NDArray[np.int32], scale: float, options: Options) -> _Pixels:
    """Return the planes of an image, the mesh background without the sources taken off where asked."""
    if image.data.shape != segmentation.shape:
        raise PhotplugError(
            f"the image of {image.data.shape} pixels (y, x) and the segmentation of {segmentation.shape} differ; "
            "measure on the grid of the detection"
        )
    data = native_pixels(image.data)
    if options.measure.background == "masked":
        data = data - mesh_background(image, options.background, _sky_mask(segmentation, scale)).level
    return _Pixels(
        data=data,
        variance=variance_map(image),
        null=null_pixels(image),
        segmentation=segmentation if options.measure.neighbours == "mask" else None,
    )


def measure_sep(image: NDData, detection: Detection, calibration: None, options: Options) -> QTable:
    """Return the photometry of detected sources: all columns of the catalogue but the epochs.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        On the grid of the detection, with a unit of flux density; its uncertainty is the full weight.
    detection : Detection
    calibration : None
        No scaling of the errors with aperture.
    options : Options
        The group ``measure``, and ``background`` where that asks for a mesh.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each source of `detection`, in its order; see `dja_photplug.catalog.COLUMNS`.
        The error of a flux is the root of the sum of the pixel variances, weighted by their overlap as sep does.

    Raises
    ------
    PhotplugError
        Where the image has no flux unit, no uncertainty, or another shape than the segmentation.
    """
    try:
        microjansky = u.Unit(image.unit).to(u.uJy)
    except (TypeError, u.UnitConversionError):
        raise PhotplugError(f"the image has the unit {image.unit}, which is no flux density; give it 10 nJy") from None
    scale = pixel_scale(image.wcs)
    pixels = _read_pixels(image, detection.segmentation, scale, options)
    columns = _measure(pixels, _shapes_on_grid(detection, scale), detection.segmentation, scale, options.measure)
    for name in columns:
        if name.startswith("flux") and name != "flux_radius":
            columns[name] = columns[name] * microjansky
    columns["flux_radius"] = columns["flux_radius"] * scale
    columns["mag_auto"], columns["magerr_auto"] = magnitude(columns["flux_auto"], columns["fluxerr_auto"])
    columns["flag"] |= detection.sources["flag"]
    columns["flag"] |= np.where(np.isnan(columns["flux_auto"]), SourceFlag.NOT_MEASURED.value, 0)
    positions = {name: column for name, column in detection.sources.items() if name != "flag"}
    return dress_table({**positions, **columns}, describe_columns(len(options.measure.apertures)))
