"""The PSF of a mosaic from its own stars: their stack.

photutils' ``EPSFBuilder`` does not serve here. It makes an ePSF on finer pixels for stars that are undersampled,
smooths it by a kernel, and knows no share of the light that a stamp holds, by which total fluxes are made. Mosaics are
sampled by drizzling: shifting stars so that light is conserved keeps their curves of growth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from astropy.stats import mad_std
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from dja_photplug.errors import PhotplugError
from dja_photplug.files.smallfits import CardValue
from dja_photplug.psf.model import PSF, grow_light
from dja_photplug.psf.sampling import sample_psf
from dja_photplug.psf.star_stamps import Stars
from dja_photplug.psf.wings import find_total

__all__ = ["FEWEST_STARS", "FEW_STARS", "StarStack", "check_number", "stack_stars"]

Floats = NDArray[np.float64]

FEWEST_STARS, FEW_STARS = 3, 10
"""Stars below which there is no stack, and below which a warning tells of it."""

# What is masked around more than this share of the stars is their own light, as of spikes.
OWN = 0.5
# Light that normalises each star is that within this radius, arcsec; the stack is made in so many rounds.
CORE, ROUNDS = 0.5, 3
# By which PSFs of stars differ from pixel to pixel, beside their noise: a bright star counts no more than others.
FLOOR = 0.03
CLIP, FEWEST_TO_CLIP = 4.0, 5
# Stars whose light within CENTRE (arcsec) over that within CORE is off the median by so many scatters, and this share.
CENTRE, OUTLYING, LEAST_OFF = 0.2, 4.0, 0.02
# Radii at which curves of growth are told, arcsec.
RADII = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StarStack:
    """The PSF that stars show.

    Attributes
    ----------
    psf : PSF
        Its sum is the share of the light that the stamp holds, as the curve of growth tells it.
    stars : Stars
        The n stars that are in it.
    radius : ndarray, shape (k,)
        Arcsec.
    light : ndarray, shape (k,)
        Share of the light within them: the curve of growth.
    growth : ndarray, shape (n, k)
        That of each star.
    """

    psf: PSF
    stars: Stars
    radius: Floats
    light: Floats
    growth: Floats

    @property
    def scatter(self) -> Floats:
        """Robust scatter of the stars' curves of growth, (k,)."""
        return np.asarray(mad_std(self.growth, axis=0))

    def cards(self) -> dict[str, CardValue]:
        """Return metadata: the number of stars, their ids, radii, the light within them, and its scatter.

        Returns
        -------
        dict
            Cards of FITS.
        """
        cards: dict[str, CardValue] = {"PSFFROM": "stars", "NSTARS": len(self.stars)}
        cards["STARS"] = " ".join(map(str, self.stars.ids))
        for i, (radius, light, scatter) in enumerate(zip(self.radius, self.light, self.scatter, strict=True)):
            cards |= {f"RADIUS{i}": float(radius), f"LIGHT{i}": round(float(light), 5)}
            cards[f"SCATTER{i}"] = round(float(scatter), 5)
        return cards


def stack_stars(stars: Stars, side: int, name: str, wavelength: float | None = None) -> StarStack:
    """Stack stars: recentred, normalised, clipped, and weighted by pixels.

    Parameters
    ----------
    stars : Stars
        n of them.
    side : int
        Of the stack in pixels, odd.
    name : str
        Of the PSF, for messages.
    wavelength : float, optional
        In m, of an image by JWST: how much light is beyond the stack (`dja_photplug.psf.wings.find_total`).

    Returns
    -------
    StarStack

    Raises
    ------
    PhotplugError
        Where there are fewer than 3, also after outliers are left out.
    """
    stack: Floats | None = None
    for _ in range(ROUNDS):
        check_number(len(stars), name)
        own = stars.masked.mean(axis=0) > OWN
        shifted, variance, growth = _align(replace(stars, masked=stars.masked & ~own), side, stack)
        concentration = growth[:, RADII.index(CENTRE)]
        off = np.abs(concentration / np.median(concentration) - 1)
        scatter = float(mad_std(concentration)) / float(np.median(concentration))
        kept = off <= max(OUTLYING * scatter, LEAST_OFF)
        stars, growth = stars[kept], growth[kept]
        stack = _average(shifted[kept], variance[kept])
    check_number(len(stars), name)
    assert stack is not None
    (total, level), middle, radius = find_total(stack, stars.scale, wavelength), side // 2, np.array(RADII)
    radius = radius[radius <= middle * stars.scale]
    pixels = (stack - level) / total
    psf = PSF(data=pixels, scale=stars.scale, centre=(middle, middle), name=name, scale_from="the mosaic")
    light = grow_light(psf.data, psf.centre, radius / stars.scale)
    # The stars' own are normalised within CORE, where the stack has this share of all light.
    share = float(grow_light(psf.data, psf.centre, np.array([CORE / stars.scale]))[0])
    return StarStack(psf=psf, stars=stars, radius=radius, light=light, growth=growth[:, : len(radius)] * share)


def check_number(number: int, name: str) -> None:
    """Refuse fewer than 3 stars.

    Parameters
    ----------
    number : int
    name : str
        Of what they are found in.

    Raises
    ------
    PhotplugError
    """
    if number < FEWEST_STARS:
        found = "no unsaturated, isolated star" if number == 0 else f"{number} unsaturated, isolated star"
        raise PhotplugError(
            f"{name}: {found}{'s' if number == 2 else ''} found, and a PSF needs {FEWEST_STARS} or more; lower --snr, "
            "use a larger mosaic, or make the PSF from the log"
        )


def _align(stars: Stars, side: int, stack: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Return stars centred on the middle pixel and normalised, the variance of their pixels, and their growth."""
    shifted, variance, growth = [], [], []
    middle, radius = side // 2, np.array((*RADII, CORE)) / stars.scale
    for star in stars.each():
        filled = star.data[0].copy()
        missing = star.masked[0] | np.isinf(star.variance[0])
        if stack is not None and missing.any():
            model = _place(stack, star)
            core = np.hypot(*(np.indices(filled.shape) - star.centre[0][:, None, None])) < CORE / stars.scale
            use = core & ~missing
            filled[missing] = model[missing] * (filled[use].sum() / model[use].sum())
        elif missing.any():
            filled[missing] = 0
        y, x = star.centre[0]
        one = PSF(data=filled, scale=stars.scale, centre=(float(y), float(x)), name="")
        centred = sample_psf(one, stars.scale, size=side)
        light = grow_light(centred, (middle, middle), radius)
        row, column = round(y) - middle, round(x) - middle
        part = np.s_[row : row + side, column : column + side]
        shifted.append(centred / light[-1])
        variance.append(np.where(missing, np.inf, star.variance[0])[part] / light[-1] ** 2)
        growth.append(light[:-1] / light[-1])
    return np.stack(shifted), np.stack(variance), np.stack(growth)


def _place(stack: Floats, star: Stars) -> Floats:
    """Return the stack on the pixels of a star's cut-out, 0 where it does not reach."""
    middle, whole = len(stack) // 2, star.data.shape[-1]
    place = star.centre[0] - whole // 2
    model = PSF(data=stack, scale=star.scale, centre=(middle, middle), name="")
    drawn = sample_psf(model, star.scale, (float(place[0]), float(place[1])))
    padded = np.zeros((whole, whole))
    edges = [(whole - n) // 2 for n in drawn.shape]
    padded[edges[0] : edges[0] + drawn.shape[0], edges[1] : edges[1] + drawn.shape[1]] = drawn
    return padded


def _average(shifted: Floats, variance: Floats) -> Floats:
    """Return the mean of aligned stars, weighted by variances and without what is off."""
    known = np.isfinite(variance)
    middle = np.nanmedian(np.where(known | ~known.any(axis=0), shifted, np.nan), axis=0)
    spread = np.where(known, variance, 1) + np.square(FLOOR * middle)
    if len(shifted) >= FEWEST_TO_CLIP:
        known &= np.abs(shifted - middle) < CLIP * np.sqrt(spread)
    weight = np.where(known, 1 / spread, 0)
    total = weight.sum(axis=0)
    # Where none is known, nothing stands out: the median of what is there.
    mean = np.divide((weight * shifted).sum(axis=0), total, out=median_filter(middle, 3), where=total > 0)
    return np.asarray(mean)
