"""Photometry of detected sources by any engine: pixels and sky of an image, errors and columns, and a(r)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter

from dja_photplug.calibration.curve import NoiseCalibration, combine_variance
from dja_photplug.calibration.measure import ApertureSums, calibrate
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import GROWTH_COLUMNS, describe_columns, describe_removed, dress_table
from dja_photplug.errors import PhotplugError
from dja_photplug.light.neighbours import find_neighbours
from dja_photplug.light.planes import (
    Floats,
    Shapes,
    center_sky,
    mask_sources,
    sum_overlap,
)
from dja_photplug.light.profile_error import ProfileError, measure_profile_error
from dja_photplug.mosaic.blocks import Planes, native_pixels, null_pixels, variance_map
from dja_photplug.options.stages import MeasureOptions, Options
from dja_photplug.parallel.scratch import new_plane, share_plane
from dja_photplug.parallel.workers import LostWork, Map, shared_map
from dja_photplug.psf.growth import scale_to_total_at
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.grid import Scalar, pixel_scale
from dja_photplug.sources.apertures import (
    GROWTH,
    KRON_EXTENT,
    Columns,
    Engine,
    Pixels,
    Removed,
    Sky,
    Sums,
    find_saturated_cores,
    measure_shapes,
    measure_with_sky,
    sum_circles,
    sum_segments,
)
from dja_photplug.sources.detection import Detection, cell_size, shapes_on_grid
from dja_photplug.sources.sep_engine import measure_mesh
from dja_photplug.units import magnitude

__all__ = [
    "calibrate_with",
    "flag_point_sources",
    "make_planes",
    "measure_profiles",
    "measure_with",
    "remove_neighbours",
    "remove_sky",
]

Mask = tuple[NDArray[np.bool_], str]
"""From `mask_sources`: where sources are, and what is to be said of it."""

# Light beyond the isophote that would bias the sky: segments grow by this much before the sky is measured, in arcsec.
SKY_MARGIN = 0.2

# Variance of a mean over that of a median, of nine values.
MEDIAN_EFFICIENCY = 0.65

# Light of neighbours that is flagged, in sigma, and the radius of the apertures that tell how well it is known, arcsec.
MUCH_LIGHT, PROFILE_RADIUS = 2.0, 0.25

# Signal to noise of flux_auto from which on its total is told, and how many times flux_auto it is at most: larger ones
# are wrong, in simulated fields by half of the total.
TOTAL_SNR, MOST_BEYOND = 5, 2.0

# A point source: signal to noise above which the half-light radius tells, and how far it may be from the PSF's.
POINT_SNR, POINT_TOLERANCE = 20, 0.15


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


def _spread(values: NDArray[Scalar], placed: NDArray[np.intp], size: int) -> NDArray[Scalar]:
    """Return values for all sources from those of the placed ones: NaN, or 0 for integers, for the others."""
    spread = np.full(size, np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
    spread[placed] = values
    return spread


def _blank(part: Sums, known: NDArray[np.bool_], flag: NDArray[np.int64]) -> Sums:
    """Return sums with NaN where nothing is known, and with more flags."""
    values = {name: np.where(known, getattr(part, name), np.nan) for name in ("flux", "total", "background")}
    return replace(part, **values, flag=part.flag | flag)


def _measure(
    engine: Engine,
    pixels: Pixels,
    shapes: Shapes,
    segmentation: NDArray[np.int32],
    scale: float,
    options: MeasureOptions,
    *,
    growth: bool,
) -> tuple[Columns, dict[str, Sums], Floats]:
    """Return columns and sums as `measure_shapes`, the isophotes too, the sky taken off, and the error of the sky."""
    ny, nx = pixels.data.shape
    covered = (shapes.x >= -0.5) & (shapes.x < nx - 0.5) & (shapes.y >= -0.5) & (shapes.y < ny - 0.5)
    placed, size = np.flatnonzero(covered), len(covered)
    # In the order of the rows: sums at random places of a large image take a third longer.
    placed = placed[np.argsort(shapes.y[placed])]
    on_image, sky, sky_error = shapes[placed], np.zeros(size), np.zeros(size)
    if options.background == "annulus" and len(placed):
        masked = _sky_mask(segmentation, scale)
        sky[placed], sky_error[placed] = _annulus_sky(engine, pixels, on_image, masked, scale, options)
        level = np.nan_to_num(sky[placed])
        columns, sums = measure_with_sky(engine, pixels, on_image, level, scale, options, growth=growth)
    else:
        columns, sums = measure_shapes(engine, pixels, on_image, scale, options, growth=growth)
    columns |= _sum_sky(pixels, on_image, sky[placed], scale, options)
    saturated = find_saturated_cores(pixels.null, segmentation, on_image, scale)
    columns["flag"] |= np.where(saturated, SourceFlag.SATURATED_CORE.value, 0)
    columns = {name: _spread(values, placed, size) for name, values in columns.items()}
    columns["mask_frac"][~covered] = 1
    columns |= {kind: np.nan_to_num(columns[kind]) for kind in columns if kind.startswith(("removed", "filled"))}
    not_covered = np.where(columns["mask_frac"] == 1, SourceFlag.NOT_COVERED.value, 0)
    known = (not_covered == 0) & np.isfinite(sky)
    columns["flag"] |= not_covered
    for name in ("kron_radius", "flux_radius"):
        columns[name][~known] = np.nan
    sums = {
        kind: Sums(**{name: _spread(getattr(part, name), placed, size) for name in Sums.__slots__})
        for kind, part in sums.items()
    }
    iso = sum_segments(pixels, segmentation, shapes.label)
    sums["iso"] = replace(iso, flux=iso.flux - sky * iso.area)
    if pixels.neighbours is not None:
        wings = sum_segments(replace(pixels, data=pixels.neighbours.wings), segmentation, shapes.label)
        columns |= {"removed_iso": np.nan_to_num(wings.flux), "filled_iso": np.zeros(size)}
    return columns, {kind: _blank(part, known, not_covered) for kind, part in sums.items()}, sky_error


def _sum_sky(pixels: Pixels, shapes: Shapes, sky: Floats, scale: float, options: MeasureOptions) -> Columns:
    """Return the sky that was taken off in the circular apertures, none where there was none to take off."""
    columns = Columns()
    for i, diameter in enumerate(options.apertures if options.background != "none" else ()):
        radius = np.full(len(shapes.x), diameter / 2 / scale)
        around = sky * np.pi * radius**2
        mesh = pixels.sky.level
        columns[f"bkg_aper_{i}"] = (
            around if mesh is None else sum_overlap(mesh, shapes, radius, radius, np.zeros_like(radius))[0]
        )
    return columns


def _count_sky(share: float, cells: tuple[int, int], smooth: int) -> float:
    """Return how many pixels the sky of a place is the mean of: a share of those of the cells that a median joins."""
    return share * cells[0] * cells[1] * (1.0 if smooth == 1 else MEDIAN_EFFICIENCY * smooth**2)


def _combine_errors(
    sums: Sums, sky_error: Floats, sky_pixels: float, scale: float, calibration: NoiseCalibration | None
) -> tuple[Floats, Floats]:
    """Return the error of each flux, and that of an aperture of the same area on empty sky.

    The sky below a source is that of a mesh around it: with `sky_pixels` in the mean its noise is n^2 / `sky_pixels` of
    the variance of a pixel in an aperture of n. Empty apertures are part of their own sky, and scatter by as much less.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = sums.background / sums.area
    radius = np.sqrt(sums.area / np.pi) * scale
    factor = np.ones_like(radius) if calibration is None else calibration(radius, depth)
    sky = np.square(sums.area * sky_error) + 2 * sums.area / sky_pixels * np.square(factor) * sums.background
    error = np.sqrt(combine_variance(sums.background, sums.total, factor) + sky)
    return error, np.sqrt(combine_variance(sums.background, sums.background, factor) + sky)


def _add_profile_error(
    columns: Columns, kind: str, part: Sums, error: Floats, fraction: float
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the error of a flux with that of the light of profiles in it, and the flag NEIGHBOUR_LIGHT.

    The columns of that light are replaced by ``contam_i`` of circular apertures.
    """
    removed, filled = columns.pop(f"removed_{kind}"), columns.pop(f"filled_{kind}")
    error = np.sqrt(error**2 + fraction**2 * (removed**2 + filled**2))
    if kind.startswith("aper"):
        with np.errstate(divide="ignore", invalid="ignore"):
            columns[kind.replace("aper", "contam")] = removed / part.flux
    return error, np.where(removed > MUCH_LIGHT * error, SourceFlag.NEIGHBOUR_LIGHT.value, 0)


def _measure_growth(
    columns: Columns,
    sums: dict[str, Sums],
    sky_error: Floats,
    sky_pixels: float,
    scale: float,
    calibration: NoiseCalibration | None,
    profiles: ProfileError | None,
    psf: PSFModel,
    places: SkyCoord,
) -> tuple[Floats, Floats]:
    """Return how many times flux_auto the whole light is, and its error, by the rings in and around the Kron aperture.

    Their sums and columns are taken out of those given.
    """
    parts = {"auto": 1.0} | {f"grow_{i}": part for i, part in enumerate(GROWTH)}
    kinds = sorted(parts, key=parts.__getitem__)
    area = np.stack([sums[kind].area for kind in kinds])

    def rings(values: list[Floats]) -> Floats:
        return np.diff(np.stack(values), axis=0, prepend=0)

    # Where the mean of an aperture stands in for pixels, a smaller one can have more variance.
    total, background = (
        np.maximum(rings([getattr(sums[kind], name) for kind in kinds]), 0) for name in ("total", "background")
    )
    flux, flag = rings([sums[kind].flux for kind in kinds]), np.zeros(area.shape, dtype=np.int64)
    ring = Sums(flux=flux, total=total, background=background, area=np.diff(area, axis=0, prepend=0), flag=flag)
    error, _ = _combine_errors(ring, sky_error, sky_pixels, scale, calibration)
    if profiles is not None:
        for what in ("removed", "filled"):
            error = np.hypot(error, profiles.fraction * rings([columns[f"{what}_{kind}"] for kind in kinds]))
    for kind in parts.keys() - {"auto"}:
        del sums[kind]
        for what in ("removed", "filled"):
            columns.pop(f"{what}_{kind}", None)
    radius = np.sqrt(area / np.pi) * scale
    return scale_to_total_at(psf, places, radius.T, flux.T, error.T, kinds.index("auto"))


def _scale_auto(flux: Floats, error: Floats, factor: Floats, spread: Floats) -> Columns:
    """Return the total fluxes, NaN where flux_auto says too little of them."""
    known = (flux > TOTAL_SNR * error) & (factor < MOST_BEYOND)
    total, error = flux * factor, np.hypot(error * factor, flux * spread)
    return {"flux_total": np.where(known, total, np.nan), "fluxerr_total": np.where(known, error, np.nan)}


def remove_sky(
    image: NDData, segmentation: NDArray[np.int32], options: Options, mask: Mask | None = None, *, parallel: Map = map
) -> Removed:
    """Return an image less its sky, where the options ask for a mesh.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    segmentation : ndarray
        (ny, nx), labels.
    options : Options
    mask : tuple of ndarray and str, optional
        From `mask_sources`, where it is known.
    parallel : Map, optional

    Returns
    -------
    Removed
        Its data are those of the image where nothing is taken off.
    """
    data, measure, mesh = native_pixels(image.data), options.measure, options.background
    if measure.background not in ("masked", "mesh"):
        return Removed(data=data)
    centred, note = measure.background == "mesh", ""
    if centred:
        covered, note = mask or mask_sources(image, segmentation, pixel_scale(image.wcs))
        covered = share_plane(covered)
    else:
        covered = _sky_mask(segmentation, pixel_scale(image.wcs))
    known, clear = Planes.of(image).count_clear(covered)
    if known and not clear:
        note = "no pixel is left between the sources: no sky is taken off"
        return Removed(data=data, sky=Sky(mask=covered, note=note))
    cells = cell_size(image, mesh)
    level = measure_mesh(image, cells, mesh.mesh_filter, covered, parallel=parallel).level(
        out=new_plane(data.shape, np.float32)
    )
    if centred:
        center_sky(level, image, covered, cells, mesh.mesh_filter, parallel=parallel)
    pixels = _count_sky(clear / known, cells, mesh.mesh_filter)
    left = new_plane(data.shape, np.float32)
    np.subtract(data, level, out=left)
    return Removed(data=left, sky=Sky(level=level, pixels=pixels, mask=covered, note=note))


def remove_neighbours(
    removed: Removed, image: NDData, detection: Detection, options: Options, *, parallel: Map = map
) -> Removed:
    """Return an image less what sources add to each other too, where the options ask for that.

    Parameters
    ----------
    removed : Removed
        From :func:`remove_sky`; its data are overwritten where they are not those of the image.
    image : `~astropy.nddata.NDData`
    detection : Detection
        Sources or positions to measure, which the light of others may not reach.
    options : Options
    parallel : Map, optional

    Returns
    -------
    Removed
    """
    if options.measure.neighbours != "subtract":
        return removed
    scale = pixel_scale(image.wcs)
    shapes = shapes_on_grid(detection, scale)
    data = removed.data
    if removed.sky.level is None:
        data = new_plane(data.shape, np.float32)
        data[...] = removed.data
    largest = max(options.measure.kron_circle * max(GROWTH), *options.measure.apertures) / scale
    extent = np.maximum(KRON_EXTENT * np.nan_to_num(shapes.a), largest)
    removed = make_planes(removed, image)
    assert removed.planes is not None
    planes = (*removed.planes[1:], detection.segmentation)
    zeros = partial(new_plane, dtype=np.float32)
    try:
        neighbours = find_neighbours(data, *planes, scale, shapes, extent, parallel=parallel, zeros=zeros)
    except LostWork:  # some of the light was taken off, and some not: from the beginning, once
        np.subtract(native_pixels(image.data), 0 if removed.sky.level is None else removed.sky.level, out=data)
        neighbours = find_neighbours(data, *planes, scale, shapes, extent, parallel=parallel, zeros=zeros)
    return replace(removed, data=data, neighbours=neighbours)


def measure_profiles(
    removed: Removed, image: NDData, detection: Detection, calibration: NoiseCalibration | None
) -> Removed:
    """Return it with the error of what profiles say of the light of sources beyond their segments.

    Parameters
    ----------
    removed : Removed
        From :func:`remove_neighbours`.
    image : `~astropy.nddata.NDData`
    detection : Detection
    calibration : NoiseCalibration or None

    Returns
    -------
    Removed
    """
    neighbours = removed.neighbours
    if neighbours is None or removed.profiles is not None:
        return removed
    scale, removed = pixel_scale(image.wcs), make_planes(removed, image)
    assert removed.planes is not None
    variance, background, null = removed.planes

    def sum_variance(shapes: Shapes, radius: float) -> Floats:
        size = np.full(len(shapes.x), radius)
        where = (shapes, size, size, np.zeros_like(size))
        total, below = (sum_overlap(plane, *where)[0] for plane in (variance, background))
        sums = Sums(flux=total, total=total, background=below, area=np.pi * size**2, flag=np.zeros(len(size), np.int64))
        return np.square(_combine_errors(sums, np.zeros(len(size)), np.inf, scale, calibration)[0])

    found = measure_profile_error(neighbours, null, detection.segmentation, PROFILE_RADIUS / scale, sum_variance)
    return replace(removed, profiles=found)


def make_planes(removed: Removed, image: NDData) -> Removed:
    """Return it with variances and null pixels of the image, made where they are not there yet.

    Parameters
    ----------
    removed : Removed
    image : `~astropy.nddata.NDData`

    Returns
    -------
    Removed
    """
    if removed.planes is not None:
        return removed
    shape = image.data.shape
    variance = background = variance_map(image, out=new_plane(shape, np.float32))
    if getattr(image, "background_weight", None) is not None:
        background = variance_map(image, "background", out=new_plane(shape, np.float32))
    return replace(removed, planes=(variance, background, share_plane(null_pixels(image))))


def _find_removed(image: NDData) -> Removed | None:
    """Return what was measured for the whole image that this may be a tile of."""
    removed = getattr(image, "removed", None)
    return removed if isinstance(removed, Removed) else None


def _read_pixels(image: NDData, segmentation: NDArray[np.int32], removed: Removed, options: Options) -> Pixels:
    """Return the planes that sums are made of."""
    if image.data.shape != segmentation.shape:
        raise PhotplugError(
            f"the image of {image.data.shape} pixels (y, x) and the segmentation of {segmentation.shape} differ; "
            "measure on the grid of the detection"
        )
    removed = make_planes(removed, image)
    assert removed.planes is not None
    variance, background, null = removed.planes
    return Pixels(
        data=native_pixels(removed.data),
        variance=variance,
        background=background,
        null=null,
        segmentation=None if options.measure.neighbours == "keep" else np.ascontiguousarray(segmentation),
        sky=removed.sky,
        neighbours=removed.neighbours,
    )


def _add_fluxes(
    columns: Columns,
    sums: dict[str, Sums],
    errors: dict[str, tuple[Floats, Floats]],
    profiles: ProfileError | None,
    microjansky: float,
) -> None:
    """Add fluxes, errors, flags and depths (uJy, mag), given the errors of each sum and of an empty one."""
    for kind, part in sums.items():
        (error, empty), flag = errors[kind], part.flag
        if profiles is not None:
            error, much = _add_profile_error(columns, kind, part, error, profiles.fraction)
            flag = flag | much
            columns["flag"] |= much if kind == "auto" else 0
        columns |= {f"flux_{kind}": part.flux * microjansky, f"fluxerr_{kind}": error * microjansky}
        if kind.startswith("aper"):
            columns[f"flag_{kind}"] = flag
            columns[f"depth5_{kind.removeprefix('aper_')}"], _ = magnitude(5 * empty * microjansky, empty)


def measure_with(
    engine: Engine,
    image: NDData,
    detection: Detection,
    calibration: NoiseCalibration | None,
    options: Options,
    psf: PSF | PSFModel | None = None,
) -> QTable:
    """Return the photometry of detected sources: all columns of the catalogue but the epochs.

    Parameters
    ----------
    engine : Engine
    image : `~astropy.nddata.NDData`
        On the grid of the detection, with a unit of flux density; its uncertainty is the full weight. What is taken off
        it is measured here, but for tiles of an image for all of which it was measured before.
    detection : Detection
    calibration : NoiseCalibration or None
        Scales the background variance of every sum by a(r)^2, r being the radius of the circle of equal area.
    options : Options
        The group ``measure``, and ``background`` where that asks for a mesh.
    psf : PSF or PSFModel, optional
        For the columns of `dja_photplug.catalog.schema.GROWTH_COLUMNS`.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each source of `detection`, in its order; see `dja_photplug.catalog.schema.COLUMNS`.
        The variance of a flux is ``a(r)^2 * background + photons``, each the sum of the pixels' variances weighted by
        their overlap, as both engines do, and where neighbours are subtracted a fraction of what profiles say, which
        the metadata tell (``PROFERR``).

    Raises
    ------
    PhotplugError
        Where the image has no flux unit, no uncertainty, or another shape than the segmentation.
    """
    options = options.settle()
    try:
        microjansky = u.Unit(image.unit).to(u.uJy)
    except (TypeError, u.UnitConversionError):
        raise PhotplugError(f"the image has the unit {image.unit}, which is no flux density; give it 10 nJy") from None
    scale = pixel_scale(image.wcs)
    shapes = shapes_on_grid(detection, scale)
    removed = _find_removed(image)
    if removed is None:
        removed = remove_neighbours(remove_sky(image, detection.segmentation, options), image, detection, options)
    removed = measure_profiles(removed, image, detection, calibration)
    pixels, profiles = _read_pixels(image, detection.segmentation, removed, options), removed.profiles
    columns, sums, sky_error = _measure(
        engine, pixels, shapes, detection.segmentation, scale, options.measure, growth=psf is not None
    )
    columns["flux_radius"] *= scale
    columns |= {name: columns[name] * microjansky for name in columns if name.startswith("bkg_aper")}
    numbers = range(len(options.measure.apertures))
    growth = None
    if psf is not None:
        known = (columns, sums, sky_error, pixels.sky.pixels, scale, calibration, profiles)
        places = SkyCoord(detection.sources["ra"], detection.sources["dec"])
        growth = _measure_growth(*known, PSFModel.of(psf), places)
    off = describe_removed(numbers, sky=options.measure.background != "none", neighbours=profiles is not None)
    errors = {
        kind: _combine_errors(part, sky_error, pixels.sky.pixels, scale, calibration) for kind, part in sums.items()
    }
    _add_fluxes(columns, sums, errors, profiles, microjansky)
    if growth is not None:
        columns |= _scale_auto(columns["flux_auto"], columns["fluxerr_auto"], *growth)
    columns["mag_auto"], columns["magerr_auto"] = magnitude(columns["flux_auto"], columns["fluxerr_auto"])
    columns["flag"] |= detection.sources["flag"]
    columns["flag"] |= np.where(np.isnan(columns["flux_auto"]), SourceFlag.NOT_MEASURED.value, 0)
    positions = {name: column for name, column in detection.sources.items() if name != "flag"}
    positions.setdefault("snr_detect", np.full(len(positions["id"]), np.nan))  # where its engine does not tell
    described = [*describe_columns(len(numbers)), *off, *(() if psf is None else GROWTH_COLUMNS)]
    table = dress_table({**positions, **columns}, described)
    table.meta.update({} if profiles is None else profiles.metadata())
    table.meta.update({"SKYNOTE": pixels.sky.note} if pixels.sky.note else {})
    return table


def flag_point_sources(table: QTable, psf_half_light: ArrayLike) -> NDArray[np.int64]:
    """Return the flag POINT_LIKE of the sources whose half-light radius is within 15 % of a point source's.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        With the columns ``flux_radius flux_auto fluxerr_auto``, (n,).
    psf_half_light : array_like
        ``flux_radius`` of a point source in the same Kron apertures, in arcsec, (n,) or one for all.

    Returns
    -------
    ndarray
        The bit or 0, (n,); 0 below a signal to noise of 20.

    Notes
    -----
    Of 1,413 isolated simulated stars with a PSF of 0.145 arcsec FWHM 98.4 % are flagged; of 28 galaxies with a
    circularised half-light radius below 0.04 arcsec 8, and of 1,348 larger ones none. The one star in the UDS cut-outs
    is 3 % (F444W) and 8 % (F115W) larger than grizli's PSFs of another field, the next source 33 % (F444W).
    """
    size = table["flux_radius"].to_value(u.arcsec) / np.asarray(psf_half_light)
    point = (np.abs(size - 1) < POINT_TOLERANCE) & (table["flux_auto"] > POINT_SNR * table["fluxerr_auto"])
    return np.where(point, SourceFlag.POINT_LIKE.value, 0)


def _sum_empty(
    engine: Engine,
    pixels: Pixels,
    sky_mask: NDArray[np.bool_] | None,
    scale: float,
    options: MeasureOptions,
    x: Floats,
    y: Floats,
    radius: float,
) -> ApertureSums:
    """Return the sums over empty apertures, less the sky in annuli around them where a mask is given to keep off."""
    order = np.argsort(y)  # sums at random places of a large image take up to twice as long
    rank, shapes = np.argsort(order), Shapes.at(x[order], y[order])
    sums, sky, sky_error = sum_circles(engine, pixels, shapes, radius), np.zeros_like(x), np.zeros_like(x)
    if sky_mask is not None:
        sky, sky_error = _annulus_sky(engine, pixels, shapes, sky_mask, scale, options)
    return ApertureSums(
        flux=(sums.flux - sky * sums.area)[rank],
        background=sums.background[rank],
        total=(sums.total + np.square(sums.area * sky_error))[rank],
    )


def calibrate_with(
    engine: Engine, image: NDData, detection: Detection, options: Options, *, parallel: Map | None = None
) -> NoiseCalibration:
    """Measure a(r) in empty apertures, with the sums and the sky of the photometry.

    Parameters
    ----------
    engine : Engine
    image : `~astropy.nddata.NDData`
    detection : Detection
        Its segments are where sources are.
    options : Options
        The groups ``calibration`` and ``measure``.
    parallel : Map, optional
        Does the sums over the circles of each radius; who shares the work that is under way by default.

    Returns
    -------
    NoiseCalibration

    Raises
    ------
    PhotplugError
        Where too few empty apertures fit.
    """
    scale, options = pixel_scale(image.wcs), options.settle()
    # Between the masked sources there are no wings to subtract that would be worth the time.
    kept = replace(options, measure=replace(options.measure, neighbours="keep"))
    removed = _find_removed(image) or remove_sky(image, detection.segmentation, options)
    pixels = _read_pixels(image, detection.segmentation, removed, kept)
    sky_mask = _sky_mask(detection.segmentation, scale) if options.measure.background == "annulus" else None

    sum_empty = partial(_sum_empty, engine, pixels, sky_mask, scale, options.measure)
    blocked = np.greater(detection.segmentation, 0)
    blocked |= pixels.null
    if options.measure.background == "mesh" and pixels.sky.mask is not None:
        blocked |= pixels.sky.mask
    # Beyond its segment a source still has light: without the ellipses a(r) of simulations is 1 to 2 % too large.
    sources = shapes_on_grid(detection, scale)
    sources = sources[np.isfinite(sources.a)]
    where = (sources.x, sources.y, sources.a, sources.b, sources.theta)
    sep.mask_ellipse(blocked, *where, r=options.measure.kron_max)
    measured = calibrate(
        blocked, scale, sum_empty, options.calibration, pixels.background, parallel=parallel or shared_map()
    )
    return replace(measured, note="; ".join(filter(None, (measured.note, pixels.sky.note))))
