"""Completeness curves of a mosaic and of its depth zones, and the magnitudes at which they fall below a level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dja_photplug.catalog.metadata import encode_metadata
from dja_photplug.catalog.schema import ColumnSpec, dress_table
from dja_photplug.completeness.curve import Posterior, Trials, fit_posterior, predict
from dja_photplug.errors import PhotplugError
from dja_photplug.units import flux_of

__all__ = ["CURVE_COLUMNS", "LEVELS", "LIMIT_COLUMNS", "Completeness", "Curve", "Limit", "Places", "fit_completeness"]

Floats = NDArray[np.float64]

LEVELS = (50, 80, 90)
"""Levels of completeness whose limits are told, percent."""

# Patches of sky of equal area, as a power of 2: with fewer the variance between them is not known to 25 %, and more are
# smaller than what they should hold together (32 are 6 arcsec wide on a cut-out of 33 x 40 arcsec).
HALVINGS = 5

# The depths of a zone stand for themselves in so many steps of equal area, and magnitudes lie so far apart.
DEPTHS, STEP = 9, 0.05

# Fewer sources than these say nothing by themselves; a limit is known where so many of the possible curves cross the
# level within the magnitudes, and not worse than this (mag), where it would say no more than the range does.
FEWEST, SURE, WORST = 10, 0.95, 0.5

LIMIT_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("sources", "", "all: including blended sources; clear: without them", "U"),
    ColumnSpec("zone", "", "depth zone, 1 is the deepest; 0 is the whole mosaic", "i4"),
    ColumnSpec("area", "", "fraction of the area with data"),
    ColumnSpec("n", "", "number of injected sources", "i8"),
    ColumnSpec("n_recovered", "", "number of recovered sources", "i8"),
    ColumnSpec("level", "", "completeness level"),
    ColumnSpec("mag", "mag", "total AB magnitude where completeness falls below level; NaN if unknown"),
    ColumnSpec("mag_err", "mag", "1-sigma error of mag, from sample size, injection positions and fitted model"),
    ColumnSpec("note", "", "why mag is unknown", "U"),
)

CURVE_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("sources", "", "all: including blended sources; clear: without them", "U"),
    ColumnSpec("zone", "", "depth zone, 1 is the deepest; 0 is the whole mosaic", "i4"),
    ColumnSpec("mag", "mag", "total AB magnitude"),
    ColumnSpec("completeness", "", "fraction of sources recovered at this magnitude (median of the draws)"),
    ColumnSpec("completeness_low", "", "1 sigma below: 15.87th percentile of the draws"),
    ColumnSpec("completeness_high", "", "1 sigma above: 84.13th percentile of the draws"),
)

SIGMAS = (0.1587, 0.5, 0.8413)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Places:
    """Places with data, evenly over a mosaic: where sources could be injected. All (n,).

    Attributes
    ----------
    x, y : ndarray
        Pixels, 0-based.
    depth : ndarray
        How much deeper the background is there than in the middle pixel, mag.
    zone : ndarray of int
        Depth zone, from 0, which is the deepest: an index of what has a value for each.
    host : ndarray
        Flux of the source whose segment it is, uJy: fainter ones there are blended. Infinite where it is not known,
        minus infinity where there is none.
    """

    x: Floats
    y: Floats
    depth: Floats
    zone: NDArray[np.intp]
    host: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A magnitude at which completeness falls below a level.

    Attributes
    ----------
    mag, error : float
        AB magnitude and its 1-sigma error; NaN where it is not known.
    note : str
        Why it is not known; empty where it is.
    """

    mag: float = np.nan
    error: float = np.nan
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Completeness against magnitude, of one kind of sources in one zone.

    Attributes
    ----------
    sources : {'all', 'clear'}
        With or without those that are blended.
    zone : int
        Depth zone, from 1, which is the deepest; 0 for all of the mosaic.
    area : float
        Share of the area with data.
    n, n_recovered : int
        Sources that were injected there, and those of them that were recovered.
    mag : ndarray
        AB magnitudes, rising, (m,).
    draws : ndarray
        Completeness there in curves that are as probable as they come, (d, m).
    """

    sources: str
    zone: int
    area: float
    n: int
    n_recovered: int
    mag: Floats
    draws: Floats

    @property
    def band(self) -> Floats:
        """Completeness at each magnitude, (3, m): 1 sigma below, median, 1 sigma above."""
        return np.quantile(self.draws, SIGMAS, axis=0)

    def limit(self, level: float) -> Limit:
        """Return the magnitude at which the completeness falls below a level.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Returns
        -------
        Limit
            Median of the draws and half of the distance between the quantiles of 1 sigma.
        """
        fall = _find_falls(self.mag, self.draws, level)
        low, mag, high = np.quantile(fall, SIGMAS, method="nearest")
        if note := self._doubt(fall):
            return Limit(note=note)
        error = float(high - low) / 2
        if error > WORST:
            return Limit(note=f"{self._told()} tell it to {error:.1f} mag only; inject more (realisations)")
        return Limit(mag=float(mag), error=error)

    def _told(self) -> str:
        return f"{self.n} injected sources, {self.n_recovered} of them recovered,"

    def _doubt(self, fall: Floats) -> str:
        """Return why a limit is not known, from those of all draws; empty where most of them have one."""
        (first, last), (lower, bright, upper) = self.mag[[0, -1]], self.band[:, 0]
        if np.mean(np.isneginf(fall)) > SURE:
            found = f"{bright:.2f} +- {(upper - lower) / 2:.2f}"
            return f"not reached: completeness {found} at {first:g} mag, the brightest injected"
        if np.mean(np.isposinf(fall)) > SURE:
            return f"fainter than {last:g} mag, the faintest injected; inject fainter ones (magnitudes)"
        if self.n < FEWEST or self.n_recovered in (0, self.n) or np.isfinite(fall).mean() < SURE:
            return f"{self._told()} say too little; inject more (realisations), or of other magnitudes"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completeness:
    """The completeness of a mosaic.

    Attributes
    ----------
    curves : tuple of Curve
        Of all sources and of the clear ones: of the mosaic, and of each depth zone where there are several.
    deff : float
        By what the variance is larger than that of independent sources, because places are alike that are near each
        other; at least 1.
    """

    curves: tuple[Curve, ...]
    deff: float

    def find(self, *, clear: bool = False, zone: int | None = None) -> Curve:
        """Return the curve of a zone, or of all of the mosaic.

        Parameters
        ----------
        clear : bool, optional
            Of the sources that are not blended, instead of all.
        zone : int, optional
            Depth zone, from 1, which is the deepest; all of the mosaic without it.

        Returns
        -------
        Curve

        Raises
        ------
        PhotplugError
            For a zone that the mosaic does not have.
        """
        sources, numbers = "clear" if clear else "all", {curve.zone for curve in self.curves} - {0}
        if zone not in (numbers or {1}) and zone is not None:
            last = max(numbers, default=1)
            raise PhotplugError(f"depth zone {zone}: this mosaic has zones 1 to {last}; choose one of them")
        # A mosaic of one zone is that zone.
        number = 0 if zone is None or not numbers else zone
        return next(curve for curve in self.curves if (curve.sources, curve.zone) == (sources, number))

    @property
    def limits(self) -> QTable:
        """The limits of all curves at all `LEVELS`; columns of `LIMIT_COLUMNS`."""
        rows = [(curve, level / 100, curve.limit(level / 100)) for curve in self.curves for level in LEVELS]
        names = ("sources", "zone", "area", "n", "n_recovered")
        columns = {name: np.array([getattr(curve, name) for curve, _, _ in rows]) for name in names}
        columns["level"] = np.array([level for _, level, _ in rows])
        for name, key in (("mag", "mag"), ("mag_err", "error"), ("note", "note")):
            columns[name] = np.array([getattr(limit, key) for _, _, limit in rows])
        return dress_table(columns, LIMIT_COLUMNS)

    @property
    def table(self) -> QTable:
        """All curves with their bands; columns of `CURVE_COLUMNS`."""
        columns: dict[str, NDArray[np.generic]] = {
            name: np.repeat([getattr(curve, name) for curve in self.curves], [len(curve.mag) for curve in self.curves])
            for name in ("sources", "zone")
        }
        columns["mag"] = np.concatenate([curve.mag for curve in self.curves])
        bands = np.concatenate([curve.band for curve in self.curves], axis=1)
        columns |= dict(zip(("completeness_low", "completeness", "completeness_high"), bands, strict=True))
        return dress_table(columns, CURVE_COLUMNS)

    def metadata(self) -> dict[str, float | str]:
        """Return the limits as FITS cards.

        Returns
        -------
        dict
            In AB mag, to 4 decimals: ``MAG50`` for a completeness of 50 %, its error ``MAG50E``; without blends
            ``MAG50C`` and ``MAG50CE``; the other `LEVELS` alike. A limit that is not known has no cards. Where there
            are depth zones, ``MAG50Z`` and ``MAG50ZE`` list those of all sources (JSON text, null where not known).
            ``LIMDEFF`` is `deff`.
        """
        cards: dict[str, float | list[object]] = {}
        for level, (suffix, clear) in product(LEVELS, (("", False), ("C", True))):
            limit = self.find(clear=clear).limit(level / 100)
            if not limit.note:
                cards |= {f"MAG{level}{suffix}": round(limit.mag, 4), f"MAG{level}{suffix}E": round(limit.error, 4)}
        zones = [curve for curve in self.curves if curve.zone and curve.sources == "all"]
        for level in LEVELS if zones else ():
            found = [curve.limit(level / 100) for curve in zones]
            for suffix, values in (("Z", [one.mag for one in found]), ("ZE", [one.error for one in found])):
                cards[f"MAG{level}{suffix}"] = [None if np.isnan(value) else round(value, 4) for value in values]
        return {**encode_metadata(cards), "LIMDEFF": round(self.deff, 3)}

    def describe(self) -> Iterator[str]:
        """Yield what a user reads of the limits of all sources, blended ones too.

        Yields
        ------
        str
            Those of the mosaic; those of each depth zone, where there are several; why some are not known.
        """
        doubts: dict[tuple[str, str], list[str]] = {}
        for curve in self.curves:
            if curve.sources != "all":
                continue
            known, zone = [], f"depth zone {curve.zone}"
            for level in LEVELS:
                limit = curve.limit(level / 100)
                if limit.note:
                    place = f" of {zone}" if curve.zone else ""
                    doubts.setdefault((place, limit.note), []).append(f"{level} %")
                else:
                    known.append(f"{level} % at {limit.mag:.2f} +- {limit.error:.2f} mag")
            words = ", ".join(known) or "no level that is known"
            area = f"{zone} ({100 * curve.area:.0f} % of the area, {curve.n} sources): "
            yield f"{area if curve.zone else ''}complete to {words}"
        for (place, reason), levels in doubts.items():
            yield f"limit at {', '.join(levels)}{place} not known: {reason}"


def fit_completeness(sources: QTable, places: Places, magnitudes: tuple[float, ...]) -> Completeness:
    """Return the completeness of a mosaic from sources that were injected into it.

    The model of `dja_photplug.completeness.curve`, summed over the depths of all places with data and over the segments
    of sources there, which the mosaic itself tells: no sample of either decides. What is left to chance is

    - which sources were recovered, and what the parameters of the model are: the draws of the fit;
    - that sources near each other share their fate: its likelihood is divided by how much more the numbers of recovered
      sources differ from the model between patches of sky than by chance;
    - how much of the sky brighter sources cover: each draw has patches drawn with replacement (bootstrap).

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        Injected sources: ``x y mag depth zone blended recovered``.
    places : Places
    magnitudes : tuple of float
        Brightest and faintest that were injected.

    Returns
    -------
    Completeness
    """
    low, high = magnitudes
    zone = np.asarray(sources["zone"]) - 1
    zones = int(max(places.zone.max(), zone.max())) + 1
    trials = Trials(
        mag=sources["mag"].value,
        depth=sources["depth"].value,
        zone=zone,
        blended=np.asarray(sources["blended"]),
        recovered=np.asarray(sources["recovered"], dtype=np.float64),
        n=np.ones(len(sources)),
    )
    patches = _divide(places)
    found = np.stack([sources["x"].value, sources["y"].value], axis=-1)
    _, nearest = cKDTree(np.stack([places.x, places.y], axis=-1)).query(found)
    posterior = fit_posterior(trials, (low, high), zones)
    deff = _measure_design_effect(trials, posterior, patches[nearest])
    if deff > 1:
        posterior = fit_posterior(trials, (low, high), zones, deff)
    grid = np.linspace(low, high, round((high - low) / STEP) + 1)
    shares = _draw_blended(places, patches, zones, grid, len(posterior.draws))
    return Completeness(curves=tuple(_sum_places(trials, places, posterior, shares, grid)), deff=deff)


def _sum_places(trials: Trials, places: Places, posterior: Posterior, shares: Floats, grid: Floats) -> Iterator[Curve]:
    """Yield the curves of the mosaic and of its depth zones, from the shares of blended places (d, zones, m)."""
    zones = shares.shape[1]
    area = np.bincount(places.zone, minlength=zones) / len(places.zone)
    clear, lost = _predict_zones(places, posterior, zones, grid)
    for number in (-1, *(np.flatnonzero(area) if zones > 1 else ())):
        here = np.flatnonzero((np.arange(zones) == number) | (number < 0))
        weight = area[here, None] * (1 - shares[:, here])  # of the places where nothing brighter is
        found = (weight * clear[:, here]).sum(axis=1)
        blended = (area[here, None] * shares[:, here] * lost).sum(axis=1)
        use = (trials.zone == number) | (number < 0)
        for name, draws, chosen in (
            ("all", (found + blended) / area[here].sum(), use),
            ("clear", found / np.maximum(weight.sum(axis=1), 1e-9), use & ~trials.blended),
        ):
            yield Curve(
                sources=name,
                zone=int(number) + 1,
                area=float(area[here].sum()),
                n=int(chosen.sum()),
                n_recovered=int(trials.recovered[chosen].sum()),
                mag=grid,
                draws=draws,
            )


def _divide(places: Places) -> NDArray[np.intp]:
    """Return the number of the patch of sky of each place, (n,): halves of halves, across their longer side."""
    patch = np.zeros(len(places.x), dtype=np.intp)
    for _ in range(HALVINGS):
        order = np.argsort(patch, kind="stable")
        halves = np.zeros_like(patch)
        for number, index in enumerate(np.split(order, np.flatnonzero(np.diff(patch[order])) + 1)):
            x, y = places.x[index], places.y[index]
            axis = x if np.ptp(x) > np.ptp(y) else y
            halves[index] = 2 * number + (axis > np.median(axis))
        patch = halves
    return np.unique(patch, return_inverse=True)[1]


def _measure_design_effect(trials: Trials, posterior: Posterior, patch: NDArray[np.intp]) -> float:
    """Return by what the variance of recovered sources in patches exceeds that of independent ones; at least 1."""
    clear, blended = predict(posterior.best, trials.mag, trials.depth, trials.zone)
    p = np.where(trials.blended, blended, clear)
    excess = np.bincount(patch, trials.recovered - p)
    return max(1.0, float(np.sum(excess**2) / np.sum(p * (1 - p))))


def _draw_blended(places: Places, patches: NDArray[np.intp], zones: int, grid: Floats, draws: int) -> Floats:
    """Return the share of the area of each zone where sources are blended, (draws, zones, m), of patches drawn anew."""
    number = patches.max() + 1
    area = np.zeros((number, zones))
    np.add.at(area, (patches, places.zone), 1)
    blended = np.zeros((number, zones, len(grid)))
    flux = flux_of(grid)
    for patch, zone in zip(*np.nonzero(area), strict=True):
        host = np.sort(places.host[(patches == patch) & (places.zone == zone)])
        blended[patch, zone] = len(host) - np.searchsorted(host, flux, side="right")
    often = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=draws).astype(np.float64)
    drawn = (often @ area)[:, :, None]
    # A draw without any patch of a zone takes all of them.
    whole = blended.sum(axis=0) / np.maximum(area.sum(axis=0), 1)[:, None]
    share = np.tensordot(often, blended, axes=1) / np.maximum(drawn, 1)
    return np.where(drawn > 0, share, whole)


def _predict_zones(places: Places, posterior: Posterior, zones: int, grid: Floats) -> tuple[Floats, Floats]:
    """Return the completeness of clear sources, (d, zones, m), and of blended ones, (d, 1, m)."""
    clear = np.zeros((len(posterior.draws), zones, len(grid)))
    middle = np.full(len(grid), 0)
    for zone in range(zones):
        depths = places.depth[places.zone == zone]
        for depth in np.quantile(depths, (np.arange(DEPTHS) + 0.5) / DEPTHS) if len(depths) else (0.0,):
            part, _ = predict(posterior.draws, grid, np.full(len(grid), depth), middle + zone)
            clear[:, zone] += part / (DEPTHS if len(depths) else 1)
    _, lost = predict(posterior.draws, grid, np.zeros(len(grid)), middle)
    return clear, lost[:, None]


def _find_falls(mag: Floats, completeness: Floats, level: float) -> Floats:
    """Return where each row of completeness (d, m) falls below a level last, (d,).

    Minus infinity where it is below it everywhere, infinity where it is not at the end.
    """
    above = completeness >= level
    last = len(mag) - 1 - np.argmax(above[:, ::-1], axis=1)
    fall = np.where(above[:, -1], np.inf, -np.inf)
    falls = np.flatnonzero(above.any(axis=1) & ~above[:, -1])
    left = last[falls]
    upper, lower = completeness[falls, left], completeness[falls, left + 1]
    fall[falls] = mag[left] + (upper - level) / (upper - lower) * (mag[left + 1] - mag[left])
    return fall
