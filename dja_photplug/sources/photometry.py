"""Photometry of detected sources by any engine: sums, errors and columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from dja_photplug.calibration.curve import NoiseCalibration, find_errors
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import (
    DETAIL_COLUMNS,
    GROWTH_COLUMNS,
    KRON_DETAIL_COLUMNS,
    MASK_COLUMNS,
    POSITION_COLUMNS,
    describe_apertures,
    describe_columns,
    describe_removed,
    dress_table,
)
from dja_photplug.errors import PhotplugError
from dja_photplug.light.planes import Floats, Shapes, find_hole, sum_overlap
from dja_photplug.neighbours.error import ProfileError
from dja_photplug.options.run import Options
from dja_photplug.psf.growth import scale_to_total_at
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.grid import Scalar, pixel_scale
from dja_photplug.sources.detection import Detection, shapes_on_grid
from dja_photplug.sources.removal import (
    count_around,
    find_removed,
    grow_segments,
    measure_profiles,
    read_pixels,
    remove_neighbours,
    remove_sky,
)
from dja_photplug.sources.saturated import find_saturated_cores
from dja_photplug.sources.sums.apertures import GROWTH, KRON_EXTENT, Columns, Engine, Photometer, sum_segments
from dja_photplug.sources.sums.planes import Sums
from dja_photplug.units import magnitude

__all__ = [
    "flag_point_sources",
    "measure_with",
]

# Columns that are measured in pixels.
LENGTHS = ("flux_radius", "flux_radius_20", "flux_radius_90", "kron_rcirc")

# Light of neighbours that is flagged, in sigma of the noise: its own error may be more than half of it.
MUCH_LIGHT = 2.0

# Signal to noise of flux_auto from which on its total is told, and how many times flux_auto it is at most: larger ones
# are wrong, in simulated fields by half of the total.
TOTAL_SNR, MOST_BEYOND = 5, 2.0

# A point source: signal to noise above which the half-light radius tells, and how far it may be from the PSF's.
POINT_SNR, POINT_TOLERANCE = 20, 0.15


FindErrors = Callable[[tuple[Floats, Floats, Floats]], tuple[Floats, Floats]]
"""`find_errors` of sums on one image: with its a(r) and its sky."""


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
    work: Photometer, shapes: Shapes, segmentation: NDArray[np.int32], *, details: bool
) -> tuple[Columns, dict[str, Sums], Floats]:
    """Return columns and sums as `Photometer.measure`, the isophotes too, the sky taken off, and its error."""
    ny, nx = work.pixels.data.shape
    covered = (shapes.x >= -0.5) & (shapes.x < nx - 0.5) & (shapes.y >= -0.5) & (shapes.y < ny - 0.5)
    placed, size = np.flatnonzero(covered), len(covered)
    # In the order of the rows: sums at random places of a large image take a third longer.
    placed = placed[np.argsort(shapes.y[placed])]
    on_image, sky, sky_error = shapes[placed], np.zeros(size), np.zeros(size)
    if work.options.background == "annulus" and len(placed):
        sky[placed], sky_error[placed] = work.average_annuli(on_image, grow_segments(segmentation, work.scale))
        columns, sums = work.measure_with_sky(on_image, np.nan_to_num(sky[placed]))
    else:
        columns, sums = work.measure(on_image)
    columns |= _sum_sky(work, on_image, sky[placed])
    if details:
        columns |= _measure_details(work, on_image, columns["kron_radius"], sums["auto"])
    if work.options.photon_gain is not None:
        sums |= _count_photons(sums, work.options.photon_gain)
    saturated = find_saturated_cores(work.pixels.data, work.pixels.null, segmentation, on_image, work.scale)
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
    iso, removed = sum_segments(work.pixels, segmentation, shapes.label)
    sums["iso"] = replace(iso, flux=iso.flux - sky * iso.area)
    if removed is not None:
        columns |= {"removed_iso": removed, "filled_iso": np.zeros(size)}
    return columns, {kind: _blank(part, known, not_covered) for kind, part in sums.items()}, sky_error


def _count_photons(sums: dict[str, Sums], gain: float) -> dict[str, Sums]:
    """Return the sums over circular apertures with the variance of their photons, given electrons in a unit of flux."""
    return {
        kind: replace(part, total=part.total + np.maximum(np.nan_to_num(part.flux), 0) / gain)
        for kind, part in sums.items()
        if kind.startswith("aper")
    }


def _sum_sky(work: Photometer, shapes: Shapes, sky: Floats) -> Columns:
    """Return the sky that was taken off in the circular apertures, none where there was none to take off."""
    if work.options.background == "none":
        return Columns()
    mesh = work.pixels.sky.mesh
    if mesh is None:
        taken = [sky * np.pi * radius**2 for radius in work.radii]
    else:
        level = mesh.draw()
        taken = [_sum_mesh(work, level, shapes, *shapes.circles(radius)) for radius in work.radii]
    return {f"bkg_aper_{i}": values for i, values in enumerate(taken)}


def _sum_mesh(
    work: Photometer, level: NDArray[np.float32], shapes: Shapes, a: Floats, b: Floats, theta: Floats
) -> Floats:
    """Return the sums of a sky over ellipses; where means stand for the pixels of neighbours they do for their sky."""
    if work.pixels.mean:
        return work.engine.sum_ellipses(replace(work.pixels, data=level), shapes, a, b, theta).flux
    return sum_overlap(level, shapes, a, b, theta)[0]


def _measure_details(work: Photometer, shapes: Shapes, kron: Floats, auto: Sums) -> Columns:
    """Return the columns of `KRON_DETAIL_COLUMNS` and `MASK_COLUMNS`, lengths in pixels.

    With a sky for each source, of an annulus, its radii and `bkg_auto` are not known.
    """
    pixels, engine, in_annulus = work.pixels, work.engine, work.options.background == "annulus"
    a, b, theta, _ = work.kron_apertures(shapes, kron)
    limit, flux = np.where(np.isfinite(shapes.a), KRON_EXTENT * shapes.a, a), auto.flux
    columns = Columns(
        kron_rcirc=kron * np.sqrt(shapes.a * shapes.b),
        flag_auto=auto.flag,
        flux_radius_flag=engine.sum_ellipses(pixels, shapes, limit, limit, np.zeros_like(limit)).flag,
        bkg_auto=np.full_like(flux, np.nan if in_annulus else 0),
    )
    if pixels.sky.mesh is not None:
        columns["bkg_auto"] = _sum_mesh(work, pixels.sky.mesh.draw(), shapes, a, b, theta)
    for percent in (20, 90):
        found = engine.half_light(pixels.alone, shapes, percent / 50 * flux, limit)
        columns[f"flux_radius_{percent}"] = np.where((flux > 0) & (not in_annulus), found, np.nan)
    for i, radius in enumerate(work.radii):
        columns[f"mask_aper_{i}"] = sum_overlap(pixels.null.view(np.uint8), shapes, *shapes.circles(radius))[0]
    return columns


def _add_profile_error(
    columns: Columns, kind: str, part: Sums, error: Floats, fraction: float
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the error of a flux with that of the light of profiles in it, and the flag NEIGHBOUR_LIGHT.

    The columns of that light are replaced by ``contam_i`` of circular apertures.
    """
    removed, filled = columns.pop(f"removed_{kind}"), columns.pop(f"filled_{kind}")
    much = np.where(removed > MUCH_LIGHT * error, SourceFlag.NEIGHBOUR_LIGHT.value, 0)
    error = np.sqrt(error**2 + fraction**2 * (removed**2 + filled**2))
    if kind.startswith("aper"):
        with np.errstate(divide="ignore", invalid="ignore"):
            columns[kind.replace("aper", "contam")] = removed / part.flux
    return error, much


def _measure_growth(
    columns: Columns,
    sums: dict[str, Sums],
    find: FindErrors,
    scale: float,
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
    flux = rings([sums[kind].flux for kind in kinds])
    ring = total, background, np.diff(area, axis=0, prepend=0)
    error, _ = find(ring)
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
        raise PhotplugError(
            f"the image has the unit {image.unit}, which is not a flux density; give it in 10 nJy"
        ) from None
    scale = pixel_scale(image.wcs)
    shapes = shapes_on_grid(detection, scale)
    removed = find_removed(image)
    if removed is None:
        removed = remove_neighbours(remove_sky(image, detection.segmentation, options), image, detection, options)
    removed = measure_profiles(removed, image, calibration)
    pixels, profiles = read_pixels(image, detection.segmentation, removed, options), removed.profiles
    work = Photometer(engine=engine, pixels=pixels, scale=scale, options=options.measure, growth=psf is not None)
    columns, sums, sky_error = _measure(work, shapes, detection.segmentation, details=options.details)
    columns |= {name: columns[name] * scale for name in LENGTHS if name in columns}
    columns |= {name: columns[name] * microjansky for name in columns if name.startswith("bkg_")}
    hole = find_hole(sums["iso"].area, scale)
    around = partial(find_errors, sky_pixels=count_around(pixels.sky, hole, scale), hole=hole)
    find = partial(around, scale=scale, calibration=calibration, sky_error=sky_error)
    growth = None
    if psf is not None:
        places = SkyCoord(detection.sources["ra"], detection.sources["dec"])
        growth = _measure_growth(columns, sums, find, scale, profiles, PSFModel.of(psf), places)
    errors = {kind: find((part.total, part.background, part.area)) for kind, part in sums.items()}
    _add_fluxes(columns, sums, errors, profiles, microjansky)
    if growth is not None:
        columns |= _scale_auto(columns["flux_auto"], columns["fluxerr_auto"], *growth)
    columns["mag_auto"], columns["magerr_auto"] = magnitude(columns["flux_auto"], columns["fluxerr_auto"])
    columns["flag"] |= detection.sources["flag"]
    columns["flag"] |= np.where(np.isnan(columns["flux_auto"]), SourceFlag.NOT_MEASURED.value, 0)
    table = _tabulate(columns, detection.sources, options, profiles)
    table.meta.update({"SKYNOTE": pixels.sky.note} if pixels.sky.note else {})
    return table


def _tabulate(columns: Columns, sources: QTable, options: Options, profiles: ProfileError | None) -> QTable:
    """Return the photometry of sources as a table, with what their detection says of them."""
    numbers = range(len(options.measure.apertures))
    positions = {name: column for name, column in sources.items() if name != "flag"}
    positions.setdefault("snr_detect", np.full(len(sources), np.nan))  # where its engine does not tell
    described = list(describe_columns(len(numbers)))
    described += describe_removed(numbers, sky=options.measure.background != "none", neighbours=profiles is not None)
    described += GROWTH_COLUMNS if "flux_total" in columns else ()
    described += [spec for spec in (*POSITION_COLUMNS, *DETAIL_COLUMNS) if spec.name in positions]
    described += [*KRON_DETAIL_COLUMNS, *describe_apertures(numbers, MASK_COLUMNS)] if options.details else []
    table = dress_table({**positions, **columns}, described)
    table.meta.update({} if profiles is None else profiles.metadata())
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
