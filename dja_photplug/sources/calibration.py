"""How much more than its weight says the background of a mosaic scatters: a(r), measured in empty apertures.

Drizzling correlates pixels, and real mosaics have 1/f residuals, sky residuals and unresolved sources, so the error
of a sum over an aperture is not the root of the summed variance, and the ratio grows with the aperture. It is measured
where nothing was detected, with the engine that measures the sources, and applied to the background alone:
source photons know nothing of 1/f noise, and their light is concentrated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from astropy import units as u
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression
from scipy.spatial import KDTree
from scipy.stats import median_abs_deviation

from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.errors import PhotplugError
from dja_photplug.options.stages import CalibrationOptions
from dja_photplug.units import plain_array

__all__ = [
    "SCATTER_ERROR",
    "ApertureSums",
    "DepthZones",
    "NoiseCalibration",
    "SumCircles",
    "calibrate",
    "combine_variance",
    "find_zones",
    "place_apertures",
]

Floats = NDArray[np.float64]
Nested: TypeAlias = "float | list[Nested]"
"""A number, or lists of them."""

# Fewer empty apertures than these (12 % error) say nothing about a radius.
FEWEST_APERTURES = 100
# Square grids with origins of their own: more of them add overlapping apertures that say little new.
GRIDS = 4
# Largest radii whose slope continues a(r): that of two, 1.3 apart and good to 10 % each, would be their noise.
TAIL = 4
# Points of a circle that are looked at before its pixels are summed, and those that tell its depth.
PROBES, DEPTH_PROBES = 32, 8
# Pixels summed at a radius in all zones together: beyond, fewer apertures do, in all at least as many as of one zone.
MOST_PIXELS = 1e7
# Depth zones: least difference of the means of log10 sigma, and the least part of the area.
ZONE_GAP, ZONE_AREA = 0.05, 0.05
# Depth is that of blocks of this many pixels on a side: single pixels of a shallow place scatter by 0.03 dex, which
# no aperture sees. Where there are more blocks than this, every n-th is enough.
BLOCK, MOST_BLOCKS = 4, 10**6
# Bins of log10 sigma.
DEPTH_BIN = 0.002


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


SumCircles = Callable[[Floats, Floats, float], ApertureSums]
"""``sum_circles(x, y, radius)`` in pixels: what an engine gives to be calibrated."""


def combine_variance(background: ArrayLike, total: ArrayLike, factor: ArrayLike) -> Floats:
    """Return the variance of a flux, ``a(r)^2 * background + photons``, with photons = total - background.

    Parameters
    ----------
    background, total : array_like
        Summed variance without and with the source photons.
    factor : array_like
        a(r); 1 without calibration.

    Returns
    -------
    ndarray
        In the unit of both, of the shape that all broadcast to; photons count as 0 where they are negative.
    """
    background, total = np.asarray(background, float), np.asarray(total, float)
    return np.square(factor) * background + np.maximum(total - background, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseCalibration:
    """a(r): scatter of empty apertures over the error that the weight says.

    Attributes
    ----------
    radius : ndarray
        Radii at which it was measured, arcsec, (n,), rising.
    measured, measured_error : ndarray
        a(r) and its sampling error, (zones, n); where a zone has too few apertures, `factor` and the error of the
        nearest radius that it was measured at.
    factor : ndarray
        The smoothest monotone curve that the measurements allow, (zones, n).
    n_effective : ndarray
        Number of independent apertures, (zones, n); 0 where they were too few and the zone's curve is continued.
    offset : ndarray
        Median flux of the empty apertures for each pixel, in the unit of the image, (zones, n): sky left in the mosaic.
    edges : ndarray
        Background variance of a pixel that divides the depth zones, (zones - 1,).
    note : str
        What had to be left out, overlaps or stands in for something; empty where nothing did.
    """

    radius: Floats
    measured: Floats
    measured_error: Floats
    factor: Floats
    n_effective: Floats
    offset: Floats
    edges: Floats
    note: str

    def __call__(self, radius: ArrayLike, variance: ArrayLike | None = None) -> Floats:
        """Return a(r).

        Parameters
        ----------
        radius : array_like
            Radius, or that of the circle of equal area, in arcsec.
        variance : array_like, optional
            Background variance of a pixel there, for depth zones.

        Returns
        -------
        ndarray
            Between the measured radii of a zone by a monotone cubic in log r; below them the smallest one's; above them
            continued as a power law, with the slope of the four largest and at most that of full correlation,
            a(r) ~ r.

        Raises
        ------
        PhotplugError
            Where there are depth zones and no variance.
        """
        radius = plain_array(radius, u.arcsec, "radius").astype(float)
        curves = [
            _interpolate(self.radius[n > 0], factor[n > 0], n[n > 0], radius)
            for factor, n in zip(self.factor, self.n_effective, strict=True)
        ]
        return self._choose_zone(np.stack(curves), variance)

    def error(self, radius: ArrayLike, variance: ArrayLike | None = None) -> Floats:
        """Return the relative sampling error of a(r), linear in log r; outside of the measured radii the nearest one's.

        Parameters
        ----------
        radius, variance : array_like
            As for a(r).

        Returns
        -------
        ndarray
            Of the shape of `radius`.

        Raises
        ------
        PhotplugError
            Where there are depth zones and no variance.
        """
        wanted = np.log(np.maximum(plain_array(radius, u.arcsec, "radius").astype(float), self.radius[0]))
        curves = [np.interp(wanted, np.log(self.radius), zone) for zone in self.measured_error / self.measured]
        return self._choose_zone(np.stack(curves), variance)

    def _choose_zone(self, curves: Floats, variance: ArrayLike | None) -> Floats:
        """Return from curves (zones, ...) that of the zone that each variance lies in."""
        if len(self.edges) == 0:
            return curves[0]
        if variance is None:
            raise PhotplugError("a calibration by depth zones needs the background variance of each place; give it")
        zone = np.searchsorted(self.edges, variance)
        return np.select([zone == i for i in range(len(curves))], list(curves))

    def metadata(self) -> dict[str, Nested | str]:
        """Return what a catalogue says of its calibration.

        Returns
        -------
        dict
            Lists of numbers with four digits under keys that FITS takes: ``AR_RAD AR AR_ERR AR_N AR_OFF``, with depth
            zones ``AR_EDGES``; and the note, if any, as ``AR_NOTE``.
        """
        cards = {key: getattr(self, name) for key, name in _CARDS.items()} | {"AR_N": np.round(self.n_effective)}
        # Four digits: the best known factor has an error of 2 %.
        lists = {key: _round_digits(values.tolist()) for key, values in cards.items() if len(values)}
        return lists | ({"AR_NOTE": self.note} if self.note else {})

    @classmethod
    def from_metadata(cls, meta: Mapping[str, object]) -> NoiseCalibration | None:
        """Return the calibration that the metadata of a catalogue tell.

        Parameters
        ----------
        meta : mapping
            With what :meth:`metadata` gives, lists also as JSON text.

        Returns
        -------
        NoiseCalibration or None
            The curve stands in for the measurements, and all numbers have four digits; None where `meta` has no curve.
        """
        if "AR" not in meta:
            return None
        arrays = {name: np.array(_decode(meta.get(key, [])), dtype=float) for key, name in _CARDS.items()}
        # Older catalogues have one offset for all zones.
        arrays["offset"] = np.broadcast_to(arrays["offset"], arrays["factor"].shape)
        return cls(measured=arrays["factor"], note=str(meta.get("AR_NOTE", "")), **arrays)


def _interpolate(known: Floats, factor: Floats, n_effective: Floats, radius: Floats) -> Floats:
    """Return a(r) of one zone from its values at the known radii."""
    if len(known) == 1:
        return np.where(np.isnan(radius), np.nan, factor[0])
    wanted = np.log(np.maximum(radius, known[0]))
    known, values = np.log(known), np.log(factor)
    # The error of log a is 1.17 / sqrt(n).
    slope = np.polyfit(known[-TAIL:], values[-TAIL:], 1, w=np.sqrt(n_effective[-TAIL:]))[0]
    beyond = values[-1] + min(slope, 1) * (wanted - known[-1])
    inside = PchipInterpolator(known, values, extrapolate=False)(wanted)
    return np.exp(np.where(wanted > known[-1], beyond, inside))


_CARDS = {
    "AR_RAD": "radius",
    "AR": "factor",
    "AR_ERR": "measured_error",
    "AR_N": "n_effective",
    "AR_OFF": "offset",
    "AR_EDGES": "edges",
}


def _decode(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _round_digits(values: Nested) -> Nested:
    """Return nested lists with their floats rounded to four digits."""
    if isinstance(values, list):
        return [_round_digits(value) for value in values]
    return float(f"{values:.4g}") if isinstance(values, float) else values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthZones:
    """Where which depth zone is.

    Attributes
    ----------
    variance : ndarray
        Background variance of the pixels, (ny, nx).
    edges : ndarray
        Values of it that divide the zones, (zones - 1,), rising.
    """

    variance: NDArray[np.floating]
    edges: Floats

    def find(self, places: Floats, radius: float) -> NDArray[np.intp]:
        """Return the zone of each circle, by the mean of points spread over it.

        Parameters
        ----------
        places : ndarray
            Centres, x and y, (n, 2).
        radius : float
            In pixels.

        Returns
        -------
        ndarray
            (n,), 0 for the deepest.
        """
        points = (_find_pixels(places, radius, i, DEPTH_PROBES, self.variance.shape) for i in range(DEPTH_PROBES))
        depth: Floats = np.mean([self.variance[point] for point in points], axis=0, dtype=float)
        return np.searchsorted(self.edges, depth)


def find_zones(variance: NDArray[np.floating], blocked: NDArray[np.bool_], zones: int | None) -> Floats:
    """Divide the usable pixels of an image into zones of depth.

    Parameters
    ----------
    variance : ndarray
        Background variance of the pixels, (ny, nx).
    blocked : ndarray of bool
        (ny, nx), True for sources and pixels without data.
    zones : int or None
        Number of zones of equal area; None splits by two means as long as the means of log10 sigma differ by more than
        0.05 dex, in parts with at least 5 % of the area. What is less stays in the zone next to it.

    Returns
    -------
    ndarray
        Background variances between the zones, (zones - 1,), rising.
    """
    step = round(np.sqrt(variance.size / MOST_BLOCKS)) | 1  # odd: the pattern of drizzling is not
    block = tuple(min(BLOCK, n) for n in variance.shape)
    usable = ~sliding_window_view(blocked, block)[::step, ::step]
    area = usable.sum(axis=(2, 3))
    total = sliding_window_view(variance, block)[::step, ::step].sum(axis=(2, 3), where=usable, dtype=float)
    depth = total[area > 0] / area[area > 0]
    depth = depth[np.isfinite(depth) & (depth > 0)]
    if len(depth) == 0:
        return np.empty(0)
    if zones is not None:
        return np.quantile(depth, np.arange(1, zones) / zones)
    bins, counts = np.unique(np.rint(0.5 * np.log10(depth) / DEPTH_BIN), return_counts=True)
    return 100.0 ** np.array(_split_depths(DEPTH_BIN * bins, counts.astype(float), ZONE_AREA * len(depth)))


def _split_depths(depth: Floats, area: Floats, least: float) -> list[float]:
    """Return the depths that divide a histogram with area at rising depths into parts of `least` area."""
    if len(depth) < 2:
        return []
    below, total = np.cumsum(area), np.cumsum(area * depth)
    parts = below[:-1], below[-1] - below[:-1]
    gap = (total[-1] - total[:-1]) / parts[1] - total[:-1] / parts[0]
    # The two means whose scatter within is least are those whose scatter between is largest.
    last = int(np.argmax(parts[0] * parts[1] * gap**2))
    if gap[last] <= ZONE_GAP:
        return []
    shallow, deep = (slice(last + 1, None), slice(last + 1))
    if min(part[last] for part in parts) < least:  # a speck: without it the larger part may still fall in two
        larger = deep if parts[0][last] > parts[1][last] else shallow
        return _split_depths(depth[larger], area[larger], least)
    edge = float(depth[last : last + 2].mean())
    first, second = (_split_depths(depth[part], area[part], least) for part in (deep, shallow))
    return [*first, edge, *second]


def place_apertures(
    blocked: NDArray[np.bool_],
    radius: float,
    margin: float,
    count: int,
    rng: np.random.Generator,
    zones: DepthZones | None = None,
    counts: NDArray[np.uint16] | None = None,
) -> tuple[Floats, Floats, float]:
    """Choose places for apertures that touch no blocked pixel.

    Parameters
    ----------
    blocked : ndarray of bool
        (ny, nx), True for sources and pixels without data.
    radius, margin : float
        Of the aperture, and the distance it keeps from blocked pixels and the edge of the image, in pixels.
    count : int
        How many are wanted, in each zone.
    rng : `~numpy.random.Generator`
    zones : DepthZones, optional
        Without them the image is one.
    counts : ndarray, optional
        What `count_blocked` returns, where it serves several radii.

    Returns
    -------
    x, y : ndarray
        Centres, 0-based; at most `count` in each zone.
    n_effective : float
        Number of independent apertures among them: all, where enough fit without overlap; see `count_independent`.

    Notes
    -----
    The places are those of a square grid of spacing 2 r + 1 with a random origin, so that they do not overlap; a
    jitter of half a pixel makes all positions within a pixel equally likely. Where too few of them are clear, those of
    further grids join, which overlap the first.
    """
    counts = count_blocked(blocked) if counts is None else counts
    number = 1 if zones is None else len(zones.edges) + 1
    places, zone = np.empty((0, 2)), np.empty(0, dtype=np.intp)
    for part in _draw_places(blocked.shape, 2 * radius + 1, radius + margin, 2 * count, rng):
        where = np.zeros(len(part), dtype=np.intp) if zones is None else zones.find(part, radius)
        lacking = np.bincount(zone, minlength=number) < count
        part, where = part[lacking[where]], where[lacking[where]]
        clear = _find_clear(blocked, counts, part, radius + margin)
        places, zone = np.concatenate([places, part[clear]]), np.concatenate([zone, where[clear]])
        first = np.sort(np.concatenate([np.flatnonzero(zone == i)[:count] for i in range(number)]))
        places, zone = places[first], zone[first]
        if len(places) == count * number:
            break
    x, y = places.T
    return x, y, count_independent(x, y, radius)


def _draw_places(
    shape: tuple[int, ...], spacing: float, reach: float, size: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield x and y of places `reach` away from the edges, (n, 2), grid by grid in random order.

    About `size` at a time: at 12000 x 12000 a grid for the smallest radius has millions.
    """
    for _ in range(GRIDS):
        x, y = (np.arange(reach + rng.uniform(0, spacing), n - 1 - reach, spacing) for n in shape[::-1])
        order = rng.permutation(len(x) * len(y))
        for part in np.array_split(order, max(1, len(order) // size)):
            places = np.column_stack([x[part % len(x)], y[part // len(x)]])
            yield places + rng.uniform(-0.5, 0.5, places.shape)


def count_blocked(blocked: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Return how many pixels of each row are blocked before each column.

    Parameters
    ----------
    blocked : ndarray of bool
        (ny, nx).

    Returns
    -------
    ndarray
        (ny, nx + 1), modulo 65536: only differences within an aperture count.
    """
    counts = np.zeros((blocked.shape[0], blocked.shape[1] + 1), dtype=np.uint16)
    counts[:, 1:] = blocked  # summing with a change of type takes five times as long
    return np.cumsum(counts, axis=1, dtype=np.uint16, out=counts)


def _find_clear(
    blocked: NDArray[np.bool_], counts: NDArray[np.uint16], places: Floats, reach: float
) -> NDArray[np.intp]:
    """Return the indices of those of the places (n, 2) whose circle touches no blocked pixel.

    Most that do are told by points spread over the circle, the others by their rows of pixels: at 42 pixels that takes
    a third of the time of summing them all.
    """
    index = np.arange(len(places))
    for i in range(PROBES):
        index = index[~blocked[_find_pixels(places[index], reach, i, PROBES, blocked.shape)]]
    x, y = places[index].T[..., None]
    row = np.rint(y).astype(int) + np.arange(-int(reach) - 1, int(reach) + 2)
    # Pixels are squares: the nearest edge of a row, and half of the chord there.
    half = np.sqrt(np.maximum(reach**2 - np.maximum(np.abs(row - y) - 0.5, 0) ** 2, 0))
    first = np.clip(np.floor(x - half + 0.5).astype(int), 0, blocked.shape[1])
    last = np.clip(np.ceil(x + half + 0.5).astype(int), 0, blocked.shape[1])
    row = np.clip(row, 0, blocked.shape[0] - 1)
    touched = (counts[row, first] != counts[row, last]) & (half > 0)
    return index[~touched.any(axis=1)]


def _find_pixels(
    places: Floats, reach: float, i: int, count: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], ...]:
    """Return row and column of point i of `count`, spread over circles by a spiral of golden angles, on the image."""
    angle, distance = i * np.pi * (3 - np.sqrt(5)), reach * np.sqrt(i / count)
    point = np.rint(places + distance * np.array([np.cos(angle), np.sin(angle)])).astype(int)
    return tuple(np.clip(point, 0, np.array(shape[::-1]) - 1).T[::-1])


def count_independent(x: ArrayLike, y: ArrayLike, radius: float) -> float:
    """Return how many independent circles would give the scatter as well as these, which may overlap.

    Parameters
    ----------
    x, y : array_like
        Centres, (n,).
    radius : float
        Of all circles.

    Returns
    -------
    float
        ``n^2 / sum_ij(rho_ij^2)``, with rho the shared fraction of the area of two circles: for white noise it is
        their correlation, and the variance of a mean of squares is proportional to the sum. A median gains more from
        overlaps: its sampling error comes out too large, by a fifth where four grids overlap.

    Examples
    --------
    >>> count_independent([0, 10, 20], [0, 0, 0], 5), count_independent([0, 0], [0, 0], 5)
    (3.0, 1.0)
    """
    places = np.column_stack([x, y]).astype(float)
    if len(places) == 0:
        return 0.0
    i, j = KDTree(places).query_pairs(2 * radius, output_type="ndarray").T
    apart = np.linalg.norm(places[i] - places[j], axis=1) / (2 * radius)
    shared = (np.arccos(apart) - apart * np.sqrt(1 - apart**2)) * 2 / np.pi
    return float(len(places) ** 2 / (len(places) + 2 * np.sum(shared**2)))


def calibrate(
    blocked: NDArray[np.bool_],
    scale: float,
    sum_circles: SumCircles,
    options: CalibrationOptions,
    variance: NDArray[np.floating] | None = None,
) -> NoiseCalibration:
    """Measure a(r) in empty apertures of an image.

    Parameters
    ----------
    blocked : ndarray of bool
        (ny, nx), True for the pixels of sources and those without data.
    scale : float
        Pixel scale, arcsec.
    sum_circles : callable
        The engine's sums over circles.
    options : CalibrationOptions
    variance : ndarray, optional
        Background variance of the pixels, (ny, nx), which divides the depth zones; without it there is one.

    Returns
    -------
    NoiseCalibration
        With a(r)^2 = scatter^2 - photons / background, where scatter is that of flux over the root of the background
        variance: the full weight counts photons of positive noise even in empty sky, and the error of an empty
        aperture, which holds them too, is then the scatter.

    Raises
    ------
    PhotplugError
        Where no radius has enough empty apertures, or they scatter less than their photons alone.
    """
    zones, notes = None, []
    if options.zones != 1:
        if variance is None:
            notes.append("no background variance of the pixels is known: one depth zone")
        else:
            zones = DepthZones(variance=variance, edges=find_zones(variance, blocked, options.zones))
    edges = np.empty(0) if zones is None else zones.edges
    rng = np.random.default_rng(options.seed)
    wanted = np.geomspace(options.radius_min, options.radius_max, options.n_radii)
    rows: list[Floats] = []
    overlap, counts = "", count_blocked(blocked)
    for radius in wanted:
        pixels = radius / scale
        most = max(options.n_apertures, MOST_PIXELS / (np.pi * pixels**2))
        count = min(options.n_apertures, int(most / (len(edges) + 1)))
        x, y, n_effective = place_apertures(blocked, pixels, options.margin / scale, count, rng, zones, counts)
        if n_effective < FEWEST_APERTURES:
            break  # a larger aperture fits in fewer places still
        row = _measure_zones(x, y, pixels, sum_circles(x, y, pixels), edges, f"{radius:.2f} arcsec")
        if np.isnan(row).all():
            break
        rows.append(row)
        if n_effective < len(x) and not overlap:
            overlap = f"empty apertures overlap from {radius:.2f} arcsec radius on; AR_N counts independent ones"
    if not rows and len(edges):
        whole = calibrate(blocked, scale, sum_circles, replace(options, zones=1))
        lacking = f"none of {len(edges) + 1} depth zones has {FEWEST_APERTURES} empty apertures: one a(r) for all"
        return replace(whole, note="; ".join(filter(None, [lacking, whole.note])))
    if not rows:
        raise PhotplugError(
            f"fewer than {FEWEST_APERTURES} empty apertures of {wanted[0]:.2f} arcsec radius fit between the sources, "
            "so the noise cannot be calibrated; use a larger cut-out, a smaller margin, or the noise preset 'dja'"
        )
    notes += [overlap] * bool(overlap)
    if len(rows) < len(wanted):
        last = f"{wanted[len(rows) - 1]:.2f} arcsec radius (asked: {wanted[-1]:.2f})"
        notes.append(f"too few empty apertures beyond {last}: extrapolated")
    return _join_radii(wanted[: len(rows)], np.stack(rows, axis=1), edges, notes)


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
        scatter = median_abs_deviation(flux / np.sqrt(background), scale="normal")
        photons = np.median((total - background) / background)
        if scatter**2 <= photons:
            raise PhotplugError(
                f"empty apertures of {name} radius scatter by {scatter:.2g} of their background "
                f"error, and their photons alone make {np.sqrt(photons):.2g}, so the noise cannot be calibrated; check "
                "the detector gain and the weight, or use the noise preset 'dja'"
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
            factor[i] = _interpolate(radius[known], factor[i, known], n_effective[i, known], radius)
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
    x, y, weight = np.log(radius), np.log(measured), measured / error
    curve, least = measured, np.inf
    for degree in range(1, min(5, len(x) - 2)):
        fit = np.polynomial.Polynomial.fit(x, y, degree, w=weight)
        k = degree + 1
        criterion = np.sum(np.square(weight * (y - fit(x)))) + 2 * k + 2 * k * (k + 1) / (len(x) - k - 1)
        if criterion < least:
            curve, least = np.exp(fit(x)), criterion
    return isotonic_regression(curve).x
