"""How much more than its weight says the background of a mosaic scatters: a(r), measured in empty apertures.

Drizzling correlates pixels, and real mosaics have 1/f residuals, sky residuals and unresolved sources, so the error
of a sum over an aperture is not the root of the summed variance, and the ratio grows with the aperture. It is measured
where nothing was detected, with exact overlap as engines sum over sources, and applied to the background alone:
source photons know nothing of 1/f noise, and their light is concentrated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from astropy.stats import mad_std
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration, interpolate_curve
from dja_photplug.calibration.places import Blocked, count_independent, place_apertures
from dja_photplug.calibration.zones import DepthZones, Variance, find_zones
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.errors import PhotplugError
from dja_photplug.options.stages import CalibrationOptions
from dja_photplug.parallel.workers import Map

__all__ = ["ApertureSums", "Places", "SumCircles", "calibrate"]

Floats = NDArray[np.float64]

# Fewer empty apertures than these (12 % error) say nothing about a radius.
FEWEST_APERTURES = 100

# Pixels summed at a radius in all zones together: beyond, fewer apertures do, in all at least as many as of one zone.
MOST_PIXELS = 1e7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ApertureSums:
    """Sums over apertures, all (n,), in the unit of the image and its square.

    Attributes
    ----------
    flux : ndarray
    background : ndarray
        Variance of read noise and sky.
    total : ndarray
        The same with the source photons.
    """

    flux: Floats
    background: Floats
    total: Floats


Places = tuple[Floats, Floats, float]
"""Centres x and y of circles, (n,), and their radius, in pixels."""
SumCircles = Callable[[Sequence[Places]], Sequence[ApertureSums]]
"""What an engine gives to be calibrated: sums over the circles of each radius."""


def calibrate(
    blocked: Blocked,
    scale: float,
    sum_circles: SumCircles,
    options: CalibrationOptions,
    variance: Variance | None = None,
    *,
    parallel: Map = map,
) -> NoiseCalibration:
    """Measure a(r) in empty apertures of an image.

    Parameters
    ----------
    blocked : Blocked
        (ny, nx), the pixels of sources and those without data.
    scale : float
        Pixel scale, arcsec.
    sum_circles : callable
        The engine's sums over circles.
    options : CalibrationOptions
    variance : ndarray or BackgroundVariance, optional
        Of the pixels, (ny, nx), which divides the depth zones; without it there is one.
    parallel : Map, optional
        Looks for places of several radii at a time.

    Returns
    -------
    NoiseCalibration
        With a(r)^2 = scatter^2 - photons / background, where scatter is that of flux over the root of the background
        variance: the full weight counts photons of positive noise even in empty sky, and the error of an empty
        aperture, which holds them too, is then the scatter. It is not known where no radius has enough empty apertures.

    Raises
    ------
    PhotplugError
        Where empty apertures scatter less than their photons alone.
    """
    zones, notes = None, list[str]()
    if options.zones != 1 and variance is not None:
        zones = DepthZones(variance=variance, edges=find_zones(variance, blocked, options.zones))
    elif options.zones != 1:
        notes.append("no background variance of the pixels is known: one depth zone")
    edges = np.empty(0) if zones is None else zones.edges
    wanted = np.geomspace(options.radius_min, options.radius_max, options.n_radii)
    places, overlap = _find_all(blocked, scale, options, zones, wanted, parallel)
    rows: list[Floats] = []
    for (x, y, pixels), sums in zip(places, sum_circles(places), strict=True):
        row = _measure_zones(x, y, pixels, sums, edges, f"{pixels * scale:.2f} arcsec")
        if np.isnan(row).all():
            break
        rows.append(row)
    if not rows and len(edges):
        whole = calibrate(blocked, scale, sum_circles, replace(options, zones=1))
        if not whole.known:
            return whole
        lacking = f"none of {len(edges) + 1} depth zones has {FEWEST_APERTURES} empty apertures: one a(r) for all"
        return replace(whole, note="; ".join(filter(None, [lacking, whole.note])))
    if not rows:
        return NoiseCalibration.unknown(
            f"fewer than {FEWEST_APERTURES} empty apertures of {wanted[0]:.2f} arcsec radius fit between the sources, "
            "so the noise cannot be calibrated"
        )
    notes += [overlap] if overlap else []
    if len(rows) < len(wanted):
        last = f"{wanted[len(rows) - 1]:.2f} arcsec radius (asked: {wanted[-1]:.2f})"
        notes.append(f"too few empty apertures beyond {last}: extrapolated")
    return _join_radii(wanted[: len(rows)], np.stack(rows, axis=1), edges, notes)


def _find_all(
    blocked: Blocked, scale: float, options: CalibrationOptions, zones: DepthZones | None, wanted: Floats, parallel: Map
) -> tuple[list[Places], str]:
    """Return places for the apertures of radii in arcsec, as far as enough fit, and what is to be said of overlaps."""
    find = partial(_find_places, blocked, options.margin / scale, options, zones)
    places, overlap = list[Places](), ""
    for radius, (x, y, n_effective) in zip(wanted, parallel(find, list(enumerate(wanted / scale))), strict=True):
        if n_effective < FEWEST_APERTURES:
            break  # a larger aperture fits in fewer places still
        places.append((x, y, radius / scale))
        if n_effective < len(x) and not overlap:
            overlap = f"empty apertures overlap from {radius:.2f} arcsec radius on; AR_N counts independent ones"
    return places, overlap


def _find_places(
    blocked: Blocked, margin: float, options: CalibrationOptions, zones: DepthZones | None, asked: tuple[int, float]
) -> tuple[Floats, Floats, float]:
    """Return places for the apertures of a radius in pixels, which is the n-th, and how many are independent."""
    number, radius = asked
    count = 1 if zones is None else len(zones.edges) + 1
    most = max(options.n_apertures, MOST_PIXELS / (np.pi * radius**2))
    rng = np.random.default_rng((options.seed, number))
    return place_apertures(blocked, radius, margin, min(options.n_apertures, int(most / count)), rng, zones)


def _measure_zones(x: Floats, y: Floats, radius: float, sums: ApertureSums, edges: Floats, name: str) -> Floats:
    """Return a, its error, effective number and offset in each depth zone, (zones, 4); NaN where a zone has too few."""
    area = np.pi * radius**2
    zone = np.searchsorted(edges, sums.background / area)
    rows = np.full((len(edges) + 1, 4), np.nan)
    for i, row in enumerate(rows):
        inside = zone == i
        use = inside & np.isfinite(sums.flux)  # those without sky in their annulus have none
        n = use.sum() * (count_independent(x[inside], y[inside], radius) / max(1, inside.sum()))
        if n < FEWEST_APERTURES:
            continue
        flux, background, total = sums.flux[use], sums.background[use], sums.total[use]
        scatter = mad_std(flux / np.sqrt(background))
        photons = np.median((total - background) / background)
        if scatter**2 <= photons:
            raise PhotplugError(
                f"empty apertures of {name} radius scatter by {scatter:.2g} times their background error, but their "
                f"photon noise alone gives {np.sqrt(photons):.2g}, so the noise cannot be calibrated; check the "
                "detector gain and the weight, or use the noise preset 'dja'"
            )
        factor = np.sqrt(scatter**2 - photons)
        row[:] = factor, scatter**2 / factor * SCATTER_ERROR / np.sqrt(n), n, np.median(flux) / area
    return rows


def _join_radii(radius: Floats, rows: Floats, edges: Floats, notes: list[str]) -> NoiseCalibration:
    """Make the factors of each zone monotone in radius, and continue them; rows (zones, radii, 4) of measurements."""
    measured, error, n_effective, offset = np.moveaxis(rows, -1, 0)
    factor, own = np.copy(measured), np.logical_and.accumulate(np.isfinite(measured), axis=1)
    for i, known in enumerate(own):
        if not known.any():
            continue
        factor[i, known] = _smooth(radius[known], measured[i, known], error[i, known])
        if not known.all():
            last = f"{radius[known][-1]:.2f} arcsec radius"
            notes.append(f"depth zone {i + 1} of {len(own)} has too few empty apertures beyond {last}: extrapolated")
            factor[i] = interpolate_curve(radius[known], factor[i, known], n_effective[i, known], radius)
            relative, sky = (
                np.interp(radius, radius[known], values[i, known]) for values in (error / measured, offset)
            )
            measured[i, ~known] = factor[i, ~known]
            error[i, ~known], offset[i, ~known], n_effective[i, ~known] = (relative * factor[i])[~known], sky[~known], 0
    for i in np.flatnonzero(~own.any(axis=1)).tolist():
        # Zones are in order of depth; of two neighbours the deeper one, whose a(r) is the larger one.
        near = min(np.flatnonzero(own.any(axis=1)).tolist(), key=lambda j: (abs(j - i), j))
        rows[i], factor[i] = rows[near], factor[near]
        notes.append(f"depth zone {i + 1} of {len(own)} has too few empty apertures: a(r) of zone {near + 1}")
    return NoiseCalibration(
        radius=radius,
        measured=measured,
        measured_error=error,
        factor=factor,
        n_effective=n_effective,
        offset=offset,
        edges=edges,
        note="; ".join(notes),
    )


def _smooth(radius: Floats, measured: Floats, error: Floats) -> Floats:
    """Return the smoothest curve that the measurements allow, made monotone.

    It is a polynomial in log r of the degree, up to 4, with the least corrected Akaike criterion. Isotonic regression
    alone keeps a last point that is high by chance and pools one that is low: 1.4 % too large on average over 22
    simulations.
    """
    from scipy.optimize import isotonic_regression  # 0.3 s to import, which the preset dja needs not

    x, y, weight = np.log(radius), np.log(measured), measured / error
    curve, least = measured, np.inf
    for degree in range(1, min(5, len(x) - 2)):
        fit = np.polynomial.Polynomial.fit(x, y, degree, w=weight)
        k = degree + 1
        criterion = np.sum(np.square(weight * (y - fit(x)))) + 2 * k + 2 * k * (k + 1) / (len(x) - k - 1)
        if criterion < least:
            curve, least = np.exp(fit(x)), criterion
    return isotonic_regression(curve).x
