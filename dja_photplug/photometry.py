"""Photometry of detected sources with the primitives of an engine: what engines share, said once.

An engine sums over apertures and finds Kron and half-light radii; which apertures, what becomes of the sums, their
errors and their columns is the same for all. All sums use exact overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import sep
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dja_photplug.calibration import ApertureSums, NoiseCalibration, calibrate, combine_variance
from dja_photplug.catalog import SourceFlag, describe_columns, dress_table, magnitude
from dja_photplug.detection import Background, Detection, native_pixels, null_pixels, variance_map
from dja_photplug.errors import PhotplugError
from dja_photplug.geometry import pixel_scale
from dja_photplug.options import BackgroundOptions, MeasureOptions, Options

__all__ = ["KRON_EXTENT", "Engine", "Pixels", "Shapes", "Sums", "calibrate_with", "measure_with"]

# Radius of the ellipse that the Kron radius is measured in, in units of a and b (Source Extractor's value).
KRON_EXTENT = 6.0

# Light beyond the isophote that would bias the sky: segments grow by this much before the sky is measured, in arcsec.
SKY_MARGIN = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """The arrays that an engine sums over, all (ny, nx); `segmentation` is None where neighbours are kept.

    `variance` is with, `background` without the source photons; they are one array where nobody told them apart.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    background: NDArray[np.float32]
    null: NDArray[np.bool_]
    segmentation: NDArray[np.int32] | None

    def __getitem__(self, box: tuple[slice, slice]) -> Pixels:
        """Return copies of the pixels of `box`, contiguous as sep needs them."""
        return Pixels(
            data=self.data[box].copy(),
            variance=self.variance[box].copy(),
            background=self.background[box].copy(),
            null=self.null[box].copy(),
            segmentation=None if self.segmentation is None else self.segmentation[box].copy(),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shapes:
    """Sources on the grid of the image measured: pixels, theta in radians within sep's limits, all (n,)."""

    label: NDArray[np.int32]
    x: Floats
    y: Floats
    a: Floats
    b: Floats
    theta: Floats

    def __getitem__(self, index: NDArray[np.bool_] | slice) -> Shapes:
        return Shapes(**{name: getattr(self, name)[index] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Flux, variance with and without the source photons, area in pixels and flag of apertures, (n,)."""

    flux: Floats
    total: Floats
    background: Floats
    area: Floats
    flag: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What each engine does in its own way; positions and lengths in pixels.

    Attributes
    ----------
    mesh_background : callable
        ``(image, options, mask) -> Background``, without the null pixels and those of the mask.
    sum_ellipses : callable
        ``(pixels, shapes, a, b, theta) -> Sums`` over ellipses around the sources. Null pixels and those of
        neighbours take the mean of the others; the flux is NaN where there are no others.
    kron_radius : callable
        ``(pixels, shapes) -> (radius, flag)``: the first moment of the light within `KRON_EXTENT`.
    half_light : callable
        ``(pixels, shapes, flux, limit) -> radius`` that holds half of `flux`; anything where `limit` does not.
    average_annuli : callable
        ``(pixels, shapes, masked, inner, outer) -> (mean, error)`` of the pixels that are not masked; NaN without one.
    """

    mesh_background: Callable[[NDData, BackgroundOptions, NDArray[np.bool_] | None], Background]
    sum_ellipses: Callable[[Pixels, Shapes, Floats, Floats, Floats], Sums]
    kron_radius: Callable[[Pixels, Shapes], tuple[Floats, NDArray[np.int64]]]
    half_light: Callable[[Pixels, Shapes, Floats, Floats], Floats]
    average_annuli: Callable[[Pixels, Shapes, NDArray[np.bool_], float, float], tuple[Floats, Floats]]


def _shapes_on_grid(detection: Detection, scale: float) -> Shapes:
    """Return the sources on the grid they were detected on."""
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
    )


def _sum_ellipses(engine: Engine, pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats) -> Sums:
    """Sum over ellipses around the sources, with the neighbours where there is nothing else."""
    sums = engine.sum_ellipses(pixels, shapes, a, b, theta)
    empty = ~np.isfinite(sums.flux)
    sums.flag[empty] |= SourceFlag.APER_ALL_MASKED
    if pixels.segmentation is not None and empty.any():
        # A barycentre can lie inside a neighbour, as of an arc: then that light is all there is to sum.
        alone = replace(pixels, segmentation=None)
        kept = _sum_ellipses(engine, alone, shapes[empty], a[empty], b[empty], theta[empty])
        for name in ("flux", "total", "background"):
            getattr(sums, name)[empty] = getattr(kept, name)
        sums.flag[empty] |= kept.flag
    return sums


def _sum_circles(engine: Engine, pixels: Pixels, shapes: Shapes, radius: float) -> Sums:
    radii = np.full(len(shapes.x), radius)
    return _sum_ellipses(engine, pixels, shapes, radii, radii, np.zeros_like(radii))


def _kron_radius(
    engine: Engine, pixels: Pixels, shapes: Shapes, options: MeasureOptions
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the scaled and clipped Kron radius, NaN without a shape or a pixel, and the engine's flags."""
    radius, flag = np.full(len(shapes.x), np.nan), np.zeros(len(shapes.x), dtype=np.int64)
    known = np.isfinite(shapes.a)
    kron, flags = engine.kron_radius(pixels, shapes[known])
    scaled = np.clip(options.kron_factor * kron, options.kron_min, options.kron_max)
    radius[known] = np.where(flags & SourceFlag.APER_ALL_MASKED, np.nan, scaled)
    flag[known] = flags
    return radius, flag


def _half_light(engine: Engine, pixels: Pixels, shapes: Shapes, flux: Floats, limit: Floats) -> Floats:
    """Return the radius in pixels that holds half of `flux`, NaN where `limit` does not reach it."""
    radius = engine.half_light(pixels, shapes, flux, limit)
    return np.where((flux > 0) & (radius < limit), radius, np.nan)


def _mask_fraction(pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats, radius: float) -> Floats:
    """Return the area fraction, without data or off the image, of the larger of the ellipse and the circle."""
    larger = a * b > radius**2
    a, b, theta = (np.where(larger, ellipse, circle) for ellipse, circle in ((a, radius), (b, radius), (theta, 0.0)))
    clear, _, _ = sep.sum_ellipse((~pixels.null).view(np.uint8), shapes.x, shapes.y, a, b, theta, 1.0, subpix=0)
    fraction = 1 - clear / (np.pi * a * b)
    # The overlaps add up to the area within 1e-14, measured; a pixel that matters takes more than 1e-9 of it.
    return np.where(np.abs(fraction) < 1e-9, 0.0, fraction)


def _measure_shapes(
    engine: Engine, pixels: Pixels, shapes: Shapes, scale: float, options: MeasureOptions
) -> tuple[dict[str, NDArray], dict[str, Sums]]:
    """Return what is measured around positions, lengths in pixels, and the sums over each kind of aperture."""
    kron, flag = _kron_radius(engine, pixels, shapes, options)
    least = options.kron_circle / scale
    circle = ~(kron * np.sqrt(shapes.a * shapes.b) >= least)  # True where the Kron radius is unknown
    a, b = (np.where(circle, least, kron * axis) for axis in (shapes.a, shapes.b))
    theta = np.where(circle, 0.0, shapes.theta)
    sums = {"auto": _sum_ellipses(engine, pixels, shapes, a, b, theta)}
    for i, diameter in enumerate(options.apertures):
        sums[f"aper_{i}"] = _sum_circles(engine, pixels, shapes, diameter / 2 / scale)
    columns = {
        "kron_radius": kron,
        "flux_radius": _half_light(engine, pixels, shapes, sums["auto"].flux, np.fmax(KRON_EXTENT * shapes.a, a)),
        "flag": flag | sums["auto"].flag | np.where(circle, SourceFlag.KRON_CIRCLE.value, 0),
        "mask_frac": _mask_fraction(pixels, shapes, a, b, theta, max(options.apertures) / 2 / scale),
    }
    return columns, sums


def _sky_mask(segmentation: NDArray[np.int32], scale: float) -> NDArray[np.bool_]:
    """Return the segments of all sources, grown by `SKY_MARGIN`."""
    return maximum_filter(segmentation > 0, size=2 * round(SKY_MARGIN / scale) + 1)


def _annulus_sky(
    engine: Engine,
    pixels: Pixels,
    shapes: Shapes,
    masked: NDArray[np.bool_],
    scale: float,
    options: MeasureOptions,
) -> tuple[Floats, Floats]:
    """Return the mean of the clear pixels in the annulus around each source and its error, NaN where there are none.

    `masked` are the pixels (ny, nx) that are not sky.
    """
    inner, outer = (radius / scale for radius in options.annulus)
    return engine.average_annuli(pixels, shapes, masked | pixels.null, inner, outer)


def _cut_out(pixels: Pixels, shapes: Shapes, reach: Floats) -> Iterator[tuple[Pixels, Shapes]]:
    """Yield each source on its own pixels, as far as `reach`, and at least one pixel of the image."""
    ny, nx = pixels.data.shape
    for i in range(len(shapes.x)):
        x0, y0 = (int(np.clip(v[i] - reach[i], 0, n - 1)) for v, n in ((shapes.x, nx), (shapes.y, ny)))
        x1, y1 = (int(np.clip(v[i] + reach[i], low, n - 1)) for v, low, n in ((shapes.x, x0, nx), (shapes.y, y0, ny)))
        one = shapes[i : i + 1]
        yield pixels[y0 : y1 + 1, x0 : x1 + 1], replace(one, x=one.x - x0, y=one.y - y0)


def _measure_with_sky(
    engine: Engine, pixels: Pixels, shapes: Shapes, sky: Floats, scale: float, options: MeasureOptions
) -> tuple[dict[str, NDArray], dict[str, Sums]]:
    """Measure each source on a cut-out with its own sky taken off: Kron and half-light radius depend on it."""
    # Margins: 2 pixels for the interpolation of sep's growth curve, 1 for the pixels at the rim.
    extent = np.maximum(KRON_EXTENT, options.kron_max) * np.nan_to_num(shapes.a)
    reach = np.maximum(extent, max(options.kron_circle, *options.apertures) / scale) + 3
    parts = [
        _measure_shapes(engine, replace(cut, data=cut.data - np.float32(level)), one, scale, options)
        for (cut, one), level in zip(_cut_out(pixels, shapes, reach), sky, strict=True)
    ]
    columns, sums = parts[0]
    joined = {name: np.concatenate([part[name] for part, _ in parts]) for name in columns}
    return joined, {kind: _join_sums([part[kind] for _, part in parts]) for kind in sums}


def _join_sums(parts: list[Sums]) -> Sums:
    return Sums(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Sums.__slots__})


def _sum_segments(pixels: Pixels, segmentation: NDArray[np.int32], label: NDArray[np.int32]) -> Sums:
    """Sum over the pixels with data in the segment of each label."""
    members = np.flatnonzero(segmentation)
    members = members[~pixels.null.ravel()[members]]
    owner, size = segmentation.ravel()[members], label.max(initial=0) + 1

    def add(plane: NDArray[np.float32] | None) -> Floats:
        values = None if plane is None else plane.ravel()[members]
        return np.bincount(owner, weights=values, minlength=size)[label].astype(np.float64)

    area = add(None)
    flux, total, background = (
        np.where(area > 0, add(plane), np.nan) for plane in (pixels.data, pixels.variance, pixels.background)
    )
    return Sums(flux=flux, total=total, background=background, area=area, flag=np.zeros(len(label), dtype=np.int64))


def _spread(values: NDArray, placed: NDArray[np.bool_]) -> NDArray:
    """Return values for all sources from those of the placed ones: NaN, or 0 for integers, for the others."""
    spread = np.full(len(placed), np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
    spread[placed] = values
    return spread


def _measure(
    engine: Engine,
    pixels: Pixels,
    shapes: Shapes,
    segmentation: NDArray[np.int32],
    scale: float,
    options: MeasureOptions,
) -> tuple[dict[str, NDArray], dict[str, Sums], Floats]:
    """Return columns and sums as `_measure_shapes`, the isophotes too, the sky taken off, and the error of the sky."""
    # Farther positions would overflow sep's integers; NaN is not below.
    placed = (np.abs(shapes.x) < 2**31) & (np.abs(shapes.y) < 2**31)
    sky, sky_error = np.zeros(len(placed)), np.zeros(len(placed))
    if options.background == "annulus" and placed.any():
        sky[placed], sky_error[placed] = _annulus_sky(
            engine, pixels, shapes[placed], _sky_mask(segmentation, scale), scale, options
        )
        placed &= np.isfinite(sky)
    if options.background == "annulus" and placed.any():
        columns, sums = _measure_with_sky(engine, pixels, shapes[placed], sky[placed], scale, options)
    else:
        columns, sums = _measure_shapes(engine, pixels, shapes[placed], scale, options)
    columns = {name: _spread(values, placed) for name, values in columns.items()}
    sums = {
        kind: Sums(**{name: _spread(getattr(part, name), placed) for name in Sums.__slots__})
        for kind, part in sums.items()
    }
    iso = _sum_segments(pixels, segmentation, shapes.label)
    return columns, sums | {"iso": replace(iso, flux=iso.flux - sky * iso.area)}, sky_error


def _combine_errors(
    sums: Sums, sky_error: Floats, scale: float, calibration: NoiseCalibration | None
) -> tuple[Floats, Floats]:
    """Return the error of each flux, and that of an aperture of the same area on empty sky."""
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = sums.background / sums.area
    radius = np.sqrt(sums.area / np.pi) * scale
    factor = np.ones_like(radius) if calibration is None else calibration(radius, depth)
    sky = np.square(sums.area * sky_error)
    error = np.sqrt(combine_variance(sums.background, sums.total, factor) + sky)
    return error, np.sqrt(combine_variance(sums.background, sums.background, factor) + sky)


def _read_pixels(
    engine: Engine, image: NDData, segmentation: NDArray[np.int32], scale: float, options: Options
) -> Pixels:
    """Return the planes of an image, the mesh background without the sources taken off where asked."""
    if image.data.shape != segmentation.shape:
        raise PhotplugError(
            f"the image of {image.data.shape} pixels (y, x) and the segmentation of {segmentation.shape} differ; "
            "measure on the grid of the detection"
        )
    data = native_pixels(image.data)
    if options.measure.background == "masked":
        data = data - engine.mesh_background(image, options.background, _sky_mask(segmentation, scale)).level
    variance = variance_map(image)
    has_background = getattr(image, "background_weight", None) is not None
    return Pixels(
        data=data,
        variance=variance,
        background=variance_map(image, "background") if has_background else variance,
        null=null_pixels(image),
        segmentation=segmentation if options.measure.neighbours == "mask" else None,
    )


def measure_with(
    engine: Engine, image: NDData, detection: Detection, calibration: NoiseCalibration | None, options: Options
) -> QTable:
    """Return the photometry of detected sources: all columns of the catalogue but the epochs.

    Parameters
    ----------
    engine : Engine
    image : `~astropy.nddata.NDData`
        On the grid of the detection, with a unit of flux density; its uncertainty is the full weight.
    detection : Detection
    calibration : NoiseCalibration or None
        Scales the background variance of every sum by a(r)^2, r being the radius of the circle of equal area.
    options : Options
        The group ``measure``, and ``background`` where that asks for a mesh.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each source of `detection`, in its order; see `dja_photplug.catalog.COLUMNS`.
        The variance of a flux is ``a(r)^2 * background + photons``, each the sum of the pixels' variances weighted by
        their overlap, as both engines do.

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
    pixels = _read_pixels(engine, image, detection.segmentation, scale, options)
    shapes = _shapes_on_grid(detection, scale)
    columns, sums, sky_error = _measure(engine, pixels, shapes, detection.segmentation, scale, options.measure)
    columns["flux_radius"] *= scale
    for kind, part in sums.items():
        error, empty = _combine_errors(part, sky_error, scale, calibration)
        columns |= {f"flux_{kind}": part.flux * microjansky, f"fluxerr_{kind}": error * microjansky}
        if kind.startswith("aper"):
            columns[f"flag_{kind}"] = part.flag
            columns[f"depth5_{kind.removeprefix('aper_')}"], _ = magnitude(5 * empty * microjansky, empty)
    columns["mag_auto"], columns["magerr_auto"] = magnitude(columns["flux_auto"], columns["fluxerr_auto"])
    columns["flag"] |= detection.sources["flag"]
    columns["flag"] |= np.where(np.isnan(columns["flux_auto"]), SourceFlag.NOT_MEASURED.value, 0)
    positions = {name: column for name, column in detection.sources.items() if name != "flag"}
    return dress_table({**positions, **columns}, describe_columns(len(options.measure.apertures)))


def calibrate_with(engine: Engine, image: NDData, detection: Detection, options: Options) -> NoiseCalibration:
    """Measure a(r) in empty apertures, with the sums and the sky of the photometry.

    Parameters
    ----------
    engine : Engine
    image : `~astropy.nddata.NDData`
    detection : Detection
        Its segments are where sources are.
    options : Options
        The groups ``calibration`` and ``measure``.

    Raises
    ------
    PhotplugError
        Where too few empty apertures fit.
    """
    scale = pixel_scale(image.wcs)
    pixels = _read_pixels(engine, image, detection.segmentation, scale, options)
    sky_mask = _sky_mask(detection.segmentation, scale) if options.measure.background == "annulus" else None

    def sum_circles(x: Floats, y: Floats, radius: float) -> ApertureSums:
        unknown = np.full(len(x), np.nan)
        shapes = Shapes(label=np.zeros(len(x), dtype=np.int32), x=x, y=y, a=unknown, b=unknown, theta=unknown)
        sums = _sum_circles(engine, replace(pixels, segmentation=None), shapes, radius)
        if sky_mask is None:
            return ApertureSums(flux=sums.flux, background=sums.background, total=sums.total)
        sky, sky_error = _annulus_sky(engine, pixels, shapes, sky_mask, scale, options.measure)
        return ApertureSums(
            flux=sums.flux - sky * sums.area,
            background=sums.background,
            total=sums.total + np.square(sums.area * sky_error),
        )

    blocked = (detection.segmentation > 0) | pixels.null
    # Beyond its segment a source still has light: without the ellipses a(r) of simulations is 1 to 2 % too large.
    sources = _shapes_on_grid(detection, scale)
    sources = sources[np.isfinite(sources.a)]
    where = (sources.x, sources.y, sources.a, sources.b, sources.theta)
    sep.mask_ellipse(blocked, *where, r=options.measure.kron_max)
    return calibrate(blocked, scale, sum_circles, options.calibration)
