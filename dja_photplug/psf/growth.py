"""Curves of growth of sources as a PSF shows them, and how much light they have beyond an aperture.

The models are a point and circular Sersic profiles seen through the PSF. A source is compared with all of them, ring by
ring, and what is beyond its aperture is the mean of what they say, each as likely as it fits: of a bright source that
of its own profile, of a faint one that of any profile it may have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from dja_photplug.psf.model import PSF, encircled_energy, half_light_radius
from dja_photplug.psf.regions import PSFModel
from dja_photplug.simulate.scene import PROFILE_LIMITS, SERSIC_INDICES, expand_sersic

__all__ = ["GrowthModels", "model_growth", "scale_to_total", "scale_to_total_at"]

Floats = NDArray[np.float64]

# Half-light radii of the models, in those of the PSF.
SIZES = np.geomspace(0.2, 40, 19)
# Radii of the tables, in the PSF's half-light radius.
TABLE = np.geomspace(0.05, 100, 400)
# Of the Gaussians that stand for the PSF: their number, and where the fit is made, in radii of the stamp.
GAUSSIANS, FITTED = 48, 200
# How far models are from sources that are no circles and no Sersic profiles: of the light in a ring, of that in the
# aperture, and of what they say is beyond it. Found on simulated fields, where the scatter of (measured - true)/error
# of bright sources is then about 1.
RING_ERROR, APERTURE_ERROR, BEYOND_ERROR = 0.02, 0.003, 0.05
SHAPE = 3  # parameters of a model: flux, size, index
BATCH = 4000  # sources at a time: 20 MB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GrowthModels:
    """Curves of growth.

    Attributes
    ----------
    radius : ndarray
        Radii in arcsec, evenly in their logarithm, (k,).
    light : ndarray
        Share of the light within them, (models, k); the first is a point's.
    """

    radius: Floats
    light: Floats

    def __call__(self, radius: Floats) -> Floats:
        """Return the share of the light within circles.

        Parameters
        ----------
        radius : ndarray
            In arcsec, of any shape.

        Returns
        -------
        ndarray
            Of that shape and (models,); outside of the table its ends.
        """
        step = np.log(self.radius[1] / self.radius[0])
        with np.errstate(divide="ignore"):
            place = np.clip(np.log(radius / self.radius[0]) / step, 0, len(self.radius) - 1.001)
        low = np.nan_to_num(place).astype(int)
        part = (place - low)[..., None]
        return self.light.T[low] * (1 - part) + self.light.T[low + 1] * part


def _expand_psf(psf: PSF) -> tuple[Floats, Floats]:
    """Return shares (sum 1) and sigmas in arcsec of Gaussians with the curve of growth of a PSF, by a fit to it."""
    from scipy.optimize import nnls  # 0.3 s to import, and most catalogues have no PSF

    (y, x), (ny, nx) = psf.centre, psf.data.shape
    reach = (min(y, ny - 1 - y, x, nx - 1 - x) + 0.5) * psf.scale
    radius, sigma = np.geomspace(psf.scale / 4, reach, FITTED), np.geomspace(psf.scale / 4, 2 * reach, GAUSSIANS)
    light = encircled_energy(psf, radius) / max(psf.data.sum(), 1)
    # What the stamp does not hold is beyond it: the last row is the sum of all light.
    rows = np.vstack([_grow_gaussians(radius, sigma), np.full((1, GAUSSIANS), float(FITTED))])
    share, _ = nnls(rows, np.append(light, FITTED))
    return share[share > 0] / share.sum(), sigma[share > 0]


def _grow_gaussians(radius: Floats, sigma: Floats) -> Floats:
    """Return the light of round Gaussians of unit flux within radii, (radii, gaussians)."""
    return -np.expm1(-((radius[:, None] / sigma) ** 2) / 2)


def model_growth(psf: PSF) -> GrowthModels:
    """Return the curves of growth of a point and of Sersic profiles seen through a PSF.

    Parameters
    ----------
    psf : PSF
        What its stamp does not hold is taken to lie beyond it.

    Returns
    -------
    GrowthModels
        A point's, that of the image within the stamp, then those of 5 indices (0.5 to 4) and 19 half-light radii,
        0.2 to 40 times that of the PSF. For these the PSF is a sum of Gaussians with its curve of growth, which it has
        to 1.3 % of the light for NIRCam's and HST's stamps of grizli's library, and 2.1 % for MIRI's.

    Examples
    --------
    >>> y, x = np.indices((101, 101)) - 50
    >>> pixels = np.exp(-(x**2 + y**2) / 2 / 3**2) / (2 * np.pi * 3**2)
    >>> models = model_growth(PSF(data=pixels, scale=0.04, centre=(50, 50), name="Gaussian of sigma 0.12 arcsec"))
    >>> models(np.array([0.12])).shape
    (1, 96)
    """
    share, sigma = _expand_psf(psf)
    half = float(half_light_radius(psf, np.inf))
    radius = TABLE * half
    point = _grow_gaussians(radius, sigma) @ share
    inside = radius < (min(psf.data.shape) / 2) * psf.scale
    point[inside] = encircled_energy(psf, radius[inside]) / max(psf.data.sum(), 1)
    light = [np.maximum.accumulate(point)]
    for index in SERSIC_INDICES:
        parts, widths = expand_sersic(index, PROFILE_LIMITS)
        for size in SIZES * half:
            both = np.hypot.outer(sigma, widths * size).ravel()
            light.append(_grow_gaussians(radius, both) @ np.outer(share, parts).ravel())
    return GrowthModels(radius=radius, light=np.array(light))


def scale_to_total(
    models: GrowthModels, radius: Floats, flux: Floats, error: Floats, aperture: int
) -> tuple[Floats, Floats]:
    """Return how many times the light in an aperture the whole light of each source is.

    Parameters
    ----------
    models : GrowthModels
    radius : ndarray
        Outer radii of rings around n sources, the first a full circle or ellipse, of circles of equal area, rising, in
        arcsec, (n, k).
    flux, error : ndarray
        Light in the rings and its error, (n, k), in any unit; NaN where not measured.
    aperture : int
        The ring that the aperture ends with.

    Returns
    -------
    factor, error : ndarray
        (n,), 1 or more, and its error; NaN where no ring is measured.
    """
    factor, spread = np.full((2, len(radius)), np.nan)
    for start in range(0, len(radius), BATCH):
        part = slice(start, start + BATCH)
        factor[part], spread[part] = _scale_some(models, radius[part], flux[part], error[part], aperture)
    return factor, spread


def scale_to_total_at(
    psf: PSFModel, places: SkyCoord, radius: Floats, flux: Floats, error: Floats, aperture: int
) -> tuple[Floats, Floats]:
    """Return the same as :func:`scale_to_total`, with the PSF of each place.

    Parameters
    ----------
    psf : PSFModel
    places : SkyCoord
        (n,).
    radius, flux, error, aperture
        As for :func:`scale_to_total`.

    Returns
    -------
    factor, error : ndarray
        (n,); NaN too where there is no PSF.
    """
    factor, spread = np.full((2, len(radius)), np.nan)
    for stamp, rows in psf.split(places):
        known = (radius[rows], flux[rows], error[rows])
        factor[rows], spread[rows] = scale_to_total(model_growth(stamp), *known, aperture)
    return factor, spread


def _scale_some(
    models: GrowthModels, radius: Floats, flux: Floats, error: Floats, aperture: int
) -> tuple[Floats, Floats]:
    """Return the same as `scale_to_total`, all at once."""
    known = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    flux = np.where(known, flux, 0)
    whole = np.abs(flux[:, : aperture + 1].sum(axis=1, keepdims=True))
    variance = np.square(error) + np.square(RING_ERROR * flux) + np.square(APERTURE_ERROR * whole)
    weight = np.divide(1, variance, out=np.zeros_like(flux), where=known)
    growth = models(radius)
    rings = np.diff(growth, axis=1, prepend=0)
    # The flux of each model by least squares, and its chi-squared.
    with np.errstate(divide="ignore", invalid="ignore"):
        amplitude = np.einsum("nk,nk,nkm->nm", weight, flux, rings) / np.einsum("nk,nkm->nm", weight, rings**2)
    misfit = np.einsum("nk,nkm->nm", weight, (flux[..., None] - amplitude[:, None] * rings) ** 2)
    best = misfit.min(axis=1, keepdims=True)
    # Where none fits, as two sources in one segment, all are less certain.
    reduced = np.maximum(best / np.maximum(known.sum(axis=1, keepdims=True) - SHAPE, 1), 1)
    chance = np.exp(-(misfit - best) / 2 / reduced)
    chance /= chance.sum(axis=1, keepdims=True)
    factors = 1 / growth[:, aperture]
    factor = np.sum(chance * factors, axis=1)
    spread = np.sum(chance * (factors - factor[:, None]) ** 2, axis=1)
    return factor, np.sqrt(spread + np.square(BEYOND_ERROR * (factor - 1)))
