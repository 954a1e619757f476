"""Two bands of one scene with the PSFs of 1.15 and 4.44 um: their light as it falls on pixels, and images of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.nddata import InverseVariance
from astropy.table import QTable
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve
from scipy.special import ndtr

from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.stages import Options
from dja_photplug.pipeline.one_band import analyse_image
from dja_photplug.psf.matching import Target
from dja_photplug.psf.model import PSF
from dja_photplug.simulate.field import PROFILE_LIMITS, PSF_SHARE, PSF_SIGMA
from dja_photplug.simulate.scene import expand_sersic, field_grid
from dja_photplug.sources.detection import Detection
from tests.helpers import SCALE

Floats = NDArray[np.float64]

LONG, SHORT = "f444w", "f115w"
FWHM = {LONG: 0.145, SHORT: 0.04}  # of the core, arcsec, without the pixel; wings scale with it
SIGMA, ELECTRONS = {LONG: 0.02, SHORT: 0.015}, 8000.0  # of pixels, 10 nJy; in a pixel value of 1
FINER, STAMP = 3, 101


@dataclass(frozen=True)
class Source:
    """A source: place in pixels, fluxes in uJy, half-light radius in arcsec (0 for a point), axis ratio, rad, index."""

    x: float
    y: float
    flux: float
    colour: float = 1.0
    size: float = 0.0
    ratio: float = 1.0
    theta: float = 0.0
    sersic: float = 1.0


def draw_stamp(source: Source, band: str, dx: float, dy: float, side: int) -> Floats:
    """Return a source of unit flux beside the middle pixel; galaxies are drawn on finer pixels, which are summed."""
    sigma = PSF_SIGMA * FWHM[band] / SCALE
    if source.size == 0:
        edges = np.arange(side + 1) - side / 2
        down, across = (np.diff(ndtr((edges - centre) / sigma[:, None])) for centre in (dy, dx))
        return np.einsum("k,ky,kx->yx", PSF_SHARE, down, across)
    fine = side * FINER
    ky, kx = fft.fftfreq(fine)[:, None], fft.rfftfreq(fine)
    widths = 2 * (np.pi * sigma * FINER) ** 2
    light = sum(share * np.exp(-width * (kx**2 + ky**2)) for share, width in zip(PSF_SHARE, widths, strict=True))
    cos, sin = np.cos(source.theta), np.sin(source.theta)
    major, minor = kx * cos + ky * sin, ky * cos - kx * sin
    squared = -2 * (np.pi * source.size / SCALE * FINER) ** 2 * (major**2 + (source.ratio * minor) ** 2)
    parts = zip(*expand_sersic(source.sersic, PROFILE_LIMITS), strict=True)
    light = light * np.sinc(kx) * np.sinc(ky) * sum(share * np.exp(squared * width**2) for share, width in parts)
    y, x = ((fine - 1) / 2 + FINER * away for away in (dy, dx))
    stamp = fft.irfft2(light * np.exp(-2j * np.pi * (x * kx + y * ky)), (fine, fine))
    return stamp.reshape(side, FINER, side, FINER).sum(axis=(1, 3))


def draw_light(sources: list[Source], band: str, shape: tuple[int, int], side: int = 127) -> Floats:
    """Return the light of a band without noise, 10 nJy."""
    light, half = np.zeros(shape), side // 2
    for one in sources:
        middle = np.array([round(one.y), round(one.x)])
        flux = 100 * one.flux * (one.colour if band == SHORT else 1)
        stamp = flux * draw_stamp(one, band, one.x - middle[1], one.y - middle[0], side)
        low, high = np.maximum(middle - half, 0), np.minimum(middle + half + 1, shape)
        (top, left), (bottom, right) = low - middle + half, high - middle + half
        light[low[0] : high[0], low[1] : high[1]] += stamp[top:bottom, left:right]
    return light


def draw_psf(band: str) -> PSF:
    """Return a star beside the middle pixel of its stamp, as those of real mosaics are; it holds its share of light."""
    dx, dy, middle = 0.2, -0.4, STAMP // 2
    return PSF(data=draw_stamp(Source(0, 0, 1), band, dx, dy, STAMP), scale=SCALE, centre=(middle + dy, middle + dx),
               name=band)  # fmt: skip


def make_band(light: Floats, band: str, rng: np.random.Generator | None) -> MosaicImage:
    """Return an image with noise that is correlated as by drizzling, and photons; without noise where no `rng` is."""
    data = light
    if rng is not None:
        smooth = np.outer([0.25, 1, 0.25], [0.25, 1, 0.25])
        noise = fftconvolve(rng.standard_normal(light.shape), smooth / np.linalg.norm(smooth), mode="same")
        data = rng.poisson(np.maximum(light, 0) * ELECTRONS) / ELECTRONS + SIGMA[band] * noise
    weight = np.full(light.shape, SIGMA[band] ** -2, np.float32)
    full = (1 / (1 / weight + np.maximum(data, 0) / ELECTRONS)).astype(np.float32)
    return MosaicImage(
        data.astype(np.float32),
        unit=10 * u.nJy,
        uncertainty=InverseVariance(full, copy=False),
        mask=np.zeros(light.shape, bool),
        wcs=field_grid(34.4, -5.2, light.shape, SCALE),
        meta={},
        background_weight=weight,
    )


def measure_pair(
    images: dict[str, MosaicImage], options: Options, *, calibrated: bool = True
) -> tuple[dict[str, QTable], Detection]:
    """Return the tables of both bands, detected on the long one and brought to its PSF."""
    psfs = {band: draw_psf(band) for band in images}
    target = Target(name=LONG, psf=psfs[LONG])
    long = analyse_image(images[LONG], options, psf=psfs[LONG], target=target, calibrated=calibrated)
    sources = long.detection.sources.copy()
    sources["kron_radius"] = long.catalog["kron_radius"]
    known = replace(long.detection, sources=sources, uncleaned=None)
    short = analyse_image(
        images[SHORT], options, psf=psfs[SHORT], detection=known, target=target, calibrated=calibrated
    )
    return {LONG: long.catalog, SHORT: short.catalog}, known
