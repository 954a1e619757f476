"""a(r): how much more than its weight says the background of a mosaic scatters in an aperture, and what follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.units import plain_array

__all__ = ["NoiseCalibration", "combine_variance", "find_errors", "interpolate_curve"]

Floats = NDArray[np.float64]

Nested: TypeAlias = "float | list[Nested]"
"""A number, or lists of them."""

# Largest radii whose slope continues a(r): that of two, 1.3 apart and good to 10 % each, would be their noise.
TAIL = 4

# What is in the middle of a hole has more of its noise in common with the hole than what is at its rim, and a(r) is the
# mean over all of it. Where a^2 rises as r^q, the integral of the correlation over a circle about its middle is a^2 of
# 1.34 times its radius for q = 0.5, 1.18 for 1; in the UDS cut-outs (docs/scripts/sky_holes.py) 1.2 fits best.
CENTRAL = 1.2


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
    measured : ndarray
        a(r), (zones, n); `factor` where a zone has too few apertures.
    measured_error : ndarray
        Its sampling error, (zones, n); where a zone has too few apertures, that of the nearest radius that it was
        measured at.
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

    @classmethod
    def unknown(cls, note: str) -> NoiseCalibration:
        """Return that a(r) could not be measured, so that no error is known.

        Parameters
        ----------
        note : str
            Why.

        Returns
        -------
        NoiseCalibration
            Without radii, of one zone; NaN for any aperture.
        """
        none = np.empty((1, 0))
        curve = dict.fromkeys(("measured", "measured_error", "factor", "n_effective", "offset"), none)
        return cls(radius=none[0], edges=none[0], note=note, **curve)

    @property
    def known(self) -> bool:
        """Whether it was measured, at any radius."""
        return bool(self.radius.size)

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
            a(r) ~ r. NaN where it is not known.

        Raises
        ------
        PhotplugError
            Where there are depth zones and no variance.
        """

        def curve(zone: int, radius: Floats) -> Floats:
            known = self.n_effective[zone] > 0
            n_effective, factor = self.n_effective[zone, known], self.factor[zone, known]
            return interpolate_curve(self.radius[known], factor, n_effective, radius)

        return self._by_zone(curve, radius, variance)

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
        relative = self.measured_error / self.measured

        def curve(zone: int, radius: Floats) -> Floats:
            return np.interp(np.log(np.maximum(radius, self.radius[0])), np.log(self.radius), relative[zone])

        return self._by_zone(curve, radius, variance)

    def _by_zone(self, curve: Callable[[int, Floats], Floats], radius: ArrayLike, variance: ArrayLike | None) -> Floats:
        """Return what the curve of the zone that each variance lies in says of a radius."""
        radius = plain_array(radius, u.arcsec, "radius").astype(float)
        if not self.known:
            return np.full_like(radius, np.nan)
        if len(self.edges) == 0:
            return curve(0, radius)
        if variance is None:
            raise PhotplugError("calibration by depth zones needs the background variance at each position; give it")
        zone, radius = np.broadcast_arrays(np.searchsorted(self.edges, variance), radius)
        found = np.empty(radius.shape)
        for i in np.unique(zone).tolist():
            found[zone == i] = curve(i, radius[zone == i])
        return found

    def metadata(self) -> dict[str, Nested | str]:
        """Return what a catalogue says of its calibration.

        Returns
        -------
        dict
            Lists of numbers with four digits under keys that FITS takes: ``AR_RAD AR AR_ERR AR_N AR_OFF``, with depth
            zones ``AR_EDGES``; and the note, if any, as ``AR_NOTE``, which is alone where a(r) is not known.
        """
        if not self.known:
            return {"AR_NOTE": self.note}
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
            The curve stands in for the measurements, and all numbers have four digits; None where `meta` has none.
        """
        if "AR" not in meta:
            return cls.unknown(str(meta["AR_NOTE"])) if "AR_NOTE" in meta else None
        arrays = {name: np.array(_decode(meta.get(key, [])), dtype=float) for key, name in _CARDS.items()}
        # Older catalogues have one offset for all zones.
        arrays["offset"] = np.broadcast_to(arrays["offset"], arrays["factor"].shape)
        return cls(measured=arrays["factor"], note=str(meta.get("AR_NOTE", "")), **arrays)


def interpolate_curve(known: Floats, factor: Floats, n_effective: Floats, radius: Floats) -> Floats:
    """Return a(r) of one zone from its values at the known radii.

    Parameters
    ----------
    known : ndarray
        Radii in arcsec, (n,), rising.
    factor, n_effective : ndarray
        a(r) there, and the number of independent apertures, (n,).
    radius : ndarray
        Wanted, of any shape.

    Returns
    -------
    ndarray
        Of the shape of `radius`, as :meth:`NoiseCalibration.__call__` has it.
    """
    from scipy.interpolate import PchipInterpolator  # 0.3 s to import, which the preset dja needs not

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


def find_errors(
    sums: tuple[Floats, Floats, Floats],
    scale: float,
    calibration: NoiseCalibration | None,
    *,
    sky_error: Floats | float = 0.0,
    sky_pixels: Floats | float = np.inf,
    hole: Floats | float = 0.0,
) -> tuple[Floats, Floats]:
    """Return the errors of sums over apertures, and those of apertures of the same area on empty sky.

    Parameters
    ----------
    sums : tuple of ndarray
        Variance with and without the source photons, in the squared unit of the image, and area in pixels, (n,) each.
    scale : float
        Of the pixels, arcsec.
    calibration : NoiseCalibration or None
        a(r), r being the radius of the circle of equal area; 1 without it.
    sky_error : ndarray or float, optional
        Of the sky of a pixel that was taken off, (n,).
    sky_pixels : ndarray or float, optional
        How many pixels the sky below a source is the mean of, as where it is that of a mesh around it: its noise is
        n^2 / `sky_pixels` of the variance of a pixel in an aperture of n. Empty apertures, which a(r) is measured in,
        are part of their own sky, and scatter by as much less.
    hole : ndarray or float, optional
        Radius within which no pixel around a source tells its sky, arcsec, (n,). What empty apertures share with their
        sky, and sources do not, is the noise in all of it: a(r) of `CENTRAL` times that radius, where it is larger than
        the aperture.

    Returns
    -------
    error, empty : ndarray
        (n,), in the unit of the image; the sky of empty ones has no hole but the aperture.
    """
    total, background, area = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = background / area
    radius = np.sqrt(area / np.pi) * scale
    reach = np.stack([radius, np.maximum(radius, CENTRAL * np.asarray(hole))])
    factor, around = np.ones_like(reach) if calibration is None else calibration(reach, depth)
    own, share = np.square(area * sky_error), 2 * area / sky_pixels * background
    error = np.sqrt(combine_variance(background, total, factor) + own + share * np.square(around))
    return error, np.sqrt(combine_variance(background, background, factor) + own + share * np.square(factor))
