"""Simulated scenes: stars and galaxies with known positions, shapes and fluxes, and their light on the sky.

The light is a sum of elliptical Gaussians: stars are the Gaussian PSF, Sersic galaxies are expanded. Convolution
with the PSF, distortion (locally linear) and integrals over pixels are then exact or nearly so, and fluxes total.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy import units as u
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.special import gammaincinv

from dja_photplug.errors import PhotplugError
from dja_photplug.options.stages import Stage, option

__all__ = ["Light", "SceneOptions", "expand_sersic", "field_grid", "simulate_scene", "trace_light"]

Array = NDArray[np.float64]

SERSIC_INDICES = (0.5, 1.0, 1.5, 2.5, 4.0)
PROFILE_LIMITS = (0.003, 40.0)
"""In half-light radii: sums of Gaussians hold within 0.02 % of the light what Sersic profiles do, cusp and wings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions(Stage):
    """The field, its sources and the bands they are seen in."""

    ra: float = option(34.4, "right ascension of the field's centre", unit="deg", minimum=0, maximum=360)
    dec: float = option(-5.2, "declination of the field's centre", unit="deg", minimum=-89, maximum=89)
    shape: tuple[int, int] = option(
        (1500, 1500), "shape (y, x) of the mosaic that covers the field; any, multiples of 4 or not", minimum=8
    )
    pixel_scale: float = option(0.04, "its pixel scale", unit="arcsec", minimum=1e-3)
    bands: tuple[str, ...] = option(
        ("f444w", "f277w"), "one flux column {band}_flux for each; a band is a file's filter without -clear"
    )
    n_sources: int = option(600, "stars and galaxies together", minimum=0)
    star_fraction: float = option(0.15, "share of the stars", minimum=0, maximum=1)
    flux_range: tuple[float, float] = option(
        (0.02, 50.0), "faintest and brightest flux in the first band", unit="uJy", minimum=1e-9
    )
    flux_slope: float = option(
        0.4, "slope of the number counts, N(>F) ~ F^-slope; 0 spreads the fluxes evenly in magnitude", minimum=0
    )
    colour_scatter: float = option(
        0.4, "standard deviation of a source's colour between neighbouring bands", unit="mag", minimum=0
    )
    isolated: bool = option(False, "sources on a jittered grid instead of anywhere (also across the edges)")
    seed: int = option(1, "seed of the scene", minimum=0)

    def __post_init__(self) -> None:
        """Check each field, then the pairs."""
        Stage.__post_init__(self)  # a bare super() does not survive slots=True, which makes a second class object
        if len(self.shape) != 2:
            raise PhotplugError(f"option shape: {self.shape} is not a height and a width")
        if len(self.flux_range) != 2 or self.flux_range[0] >= self.flux_range[1]:
            raise PhotplugError(f"option flux_range: {self.flux_range} is not a flux and a larger one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A scene in one band as n elliptical Gaussians on the sky, PSF included.

    Attributes
    ----------
    ra, dec : ndarray, shape (n,)
        Centres, deg.
    flux : ndarray, shape (n,)
        Total, 10 nJy.
    covariance : ndarray, shape (n, 2, 2)
        Over (east, north), arcsec^2.
    """

    ra: Array
    dec: Array
    flux: Array
    covariance: Array


def simulate_scene(options: SceneOptions) -> QTable:
    """Draw the sources of a field.

    Parameters
    ----------
    options : SceneOptions
        Field, counts, sizes, bands and seed.

    Returns
    -------
    QTable
        The truth: ``id``, ``ra dec`` (deg), ``type`` ("star" or "galaxy"), ``{band}_flux`` (uJy, total), ``size``
        (half-light radius along the major axis before the PSF, arcsec; 0 for stars), ``axis_ratio``, ``pa`` (deg
        east of north), ``sersic`` (index; 0 for stars). The metadata hold the field: RA, DEC, SHAPE, PIXSCALE.

    Examples
    --------
    >>> scene = simulate_scene(SceneOptions(n_sources=3, shape=(200, 300)))
    >>> scene.colnames[:5]
    ['id', 'ra', 'dec', 'type', 'f444w_flux']
    """
    rng = np.random.default_rng(options.seed)
    n = options.n_sources
    grid = field_grid(options.ra, options.dec, options.shape, options.pixel_scale)
    ra, dec = grid.wcs_pix2world(*_draw_positions(options, rng), 0)
    faint, bright = options.flux_range
    flux = _draw_fluxes(rng.random(n), faint, bright, options.flux_slope)
    star = rng.random(n) < options.star_fraction
    # Brighter galaxies are larger: 0.15 arcsec at 1 uJy with a scatter of 0.2 dex.
    size = np.clip(0.15 * flux**0.2 * 10 ** rng.normal(0, 0.2, n), 0.03, 0.6)
    scene = QTable({"id": np.arange(1, n + 1), "ra": ra * u.deg, "dec": dec * u.deg})
    scene["type"] = np.where(star, "star", "galaxy")
    colour = rng.normal(0, options.colour_scatter, n)
    for i, band in enumerate(options.bands):
        scene[f"{band}_flux"] = flux * 10 ** (-0.4 * colour * i) * u.uJy
    scene["size"] = np.where(star, 0, size) * u.arcsec
    scene["axis_ratio"] = np.where(star, 1, rng.uniform(0.3, 1, n))
    scene["pa"] = np.where(star, 0, rng.uniform(0, 180, n)) * u.deg
    scene["sersic"] = np.where(star, 0, rng.choice(SERSIC_INDICES, n))
    scene.meta.update(RA=options.ra, DEC=options.dec, SHAPE=list(options.shape), PIXSCALE=options.pixel_scale)
    return scene


def field_grid(ra: float, dec: float, shape: tuple[int, int], scale: float) -> WCS:
    """Return the WCS of a mosaic, north up and east left, its reference in the middle.

    Parameters
    ----------
    ra, dec : float
        Of the middle, deg (ICRS).
    shape : tuple of int
        (ny, nx).
    scale : float
        Side of a pixel, arcsec.

    Returns
    -------
    `~astropy.wcs.WCS`
        TAN with a CD matrix and `shape` as its array shape.
    """
    grid = WCS(naxis=2)
    grid.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    grid.wcs.crval = [ra, dec]
    grid.wcs.crpix = [shape[1] / 2 + 0.5, shape[0] / 2 + 0.5]
    grid.wcs.cd = np.diag([-scale, scale]) / 3600
    grid.wcs.radesys = "ICRS"
    grid.array_shape = shape
    grid.wcs.set()
    return grid


def _draw_positions(options: SceneOptions, rng: np.random.Generator) -> Array:
    """Pixel positions (2, n): anywhere in the field, or one near the centre of each cell of a grid."""
    n, (ny, nx) = options.n_sources, options.shape
    if not options.isolated:
        return rng.uniform(-0.5, [[nx - 0.5], [ny - 0.5]], (2, n))
    columns = max(int(np.ceil(np.sqrt(n * nx / ny))), 1)
    rows = -(-n // columns)
    cell = np.arange(n)
    centre = np.array([cell % columns, cell // columns]) + 0.5
    jittered = centre + rng.uniform(-0.15, 0.15, (2, n))
    return jittered * [[nx / columns], [ny / max(rows, 1)]] - 0.5


def _draw_fluxes(quantile: Array, faint: float, bright: float, slope: float) -> Array:
    """Fluxes of a power law N(>F) ~ F^-slope between two limits, at the given quantiles."""
    ratio = bright / faint
    if slope == 0:
        return faint * ratio**quantile
    return faint * (1 - quantile * (1 - ratio**-slope)) ** (-1 / slope)


@cache
def expand_sersic(index: float, limits: tuple[float, float] = (0.03, 8.0)) -> tuple[Array, Array]:
    """Return a Sersic profile as a sum of Gaussians.

    Parameters
    ----------
    index : float
        Sersic index.
    limits : tuple of float, optional
        Radii in half-light radii between which the profile is fitted. With the default the sum lacks 2 % of the light
        for index 4, in the wings.

    Returns
    -------
    flux, sigma : ndarray
        Shares of the light (sum 1), and sigmas in half-light radii.

    Notes
    -----
    A non-negative fit of the light per logarithmic radius (multi-Gaussian expansion, Cappellari 2002, MNRAS 333,
    400), scaled so that half of the light of the sum is within radius 1.
    """
    from scipy.optimize import brentq, nnls  # 0.3 s to import

    radius = np.geomspace(*limits, 200)
    narrow, wide = limits[0] * 4 / 3, limits[1] * 5 / 8
    sigma = np.geomspace(narrow, wide, round(11 * np.log(wide / narrow) / np.log(125)))
    sigma = np.append(sigma, 1 / np.sqrt(2 * np.log(2)))  # index 0.5 itself
    bn = gammaincinv(2 * index, 0.5)
    target = radius**2 * np.exp(-bn * (radius ** (1 / index) - 1))
    basis = (radius[:, None] / sigma) ** 2 * np.exp(-((radius[:, None] / sigma) ** 2) / 2)
    flux, _ = nnls(basis, target)
    flux, sigma = flux[flux > 1e-4 * flux.sum()], sigma[flux > 1e-4 * flux.sum()]
    flux /= flux.sum()
    half_light = brentq(lambda r: np.sum(flux * np.exp(-((r / sigma) ** 2) / 2)) - 0.5, 0.1, 10)
    return flux, sigma / half_light


def trace_light(scene: QTable, column: str, psf_fwhm: float) -> Light:
    """Return every source of a scene as Gaussians convolved with the PSF.

    Parameters
    ----------
    scene : `~astropy.table.QTable`
        From :func:`simulate_scene`.
    column : str
        Of the flux, ``{band}_flux``.
    psf_fwhm : float
        Of the Gaussian PSF, arcsec.

    Returns
    -------
    Light
        One Gaussian for a star, several for a galaxy.
    """
    psf = np.eye(2) * (psf_fwhm / np.sqrt(8 * np.log(2))) ** 2
    source, flux, covariance = [], [], []
    for i, row in enumerate(scene):
        fraction, sigma = expand_sersic(row["sersic"]) if row["sersic"] > 0 else (np.ones(1), np.zeros(1))
        pa = row["pa"].to_value("rad")
        axes = np.array([[np.sin(pa), np.cos(pa)], [-np.cos(pa), np.sin(pa)]])  # major, minor in (east, north)
        shape = axes.T @ np.diag([1, row["axis_ratio"] ** 2]) @ axes * row["size"].to_value("arcsec") ** 2
        source += [i] * fraction.size
        flux.append(fraction * row[column].to_value("10 nJy"))
        covariance.append(psf + sigma[:, None, None] ** 2 * shape)
    source_index = np.array(source, dtype=int)
    return Light(
        ra=scene["ra"].to_value("deg")[source_index],
        dec=scene["dec"].to_value("deg")[source_index],
        flux=np.concatenate([np.empty(0), *flux]),
        covariance=np.concatenate([np.empty((0, 2, 2)), *covariance]),
    )
