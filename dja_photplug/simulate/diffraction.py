"""Diffraction PSFs: a pupil of hexagons like JWST's, its Fourier transform, and scenes drawn with that.

The PSF belongs to the detector: it is the same in the pixels of every exposure, and turns on the sky with its roll.
Light is drawn in Fourier space, where profiles (sums of Gaussians), pixels and shifts are analytic, on a grid fine
enough for the highest frequency that the pupil lets through; what is drawn lacks only the light beyond the PSF's stamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy.wcs import WCS
from scipy import fft

from dja_photplug.errors import PhotplugError
from dja_photplug.simulate.exposures import DETECTOR_SCALE, add_stamp, project_light
from dja_photplug.simulate.scene import Array, Light

__all__ = ["DIAMETER", "DiffractionPSF", "diffract", "draw_diffraction", "filter_wavelength", "make_psf", "make_pupil"]

DIAMETER = 6.64
"""Of the circle around the segments, m."""

SEGMENT, GAP, STRUT = 1.32, 0.007, 0.1  # m: between flats, between segments, width of the struts
STRUTS = (90.0, -60.0, -120.0)  # deg from +x, outward from the middle
SAMPLES = 664  # of the pupil along its diameter: 1 cm

# Widths of filters in their wavelength, by the last letter of their names, as NIRCam's have them.
BANDWIDTHS = {"w": 0.22, "m": 0.08, "n": 0.01}
COLOURS = 7  # wavelengths that stand for a band

REACH = 3.0
"""Half of the side of a PSF's stamp, arcsec."""

# Pixels along the sides of the stamps that sources are drawn on, and how many sigma of a source's widest Gaussian they
# hold beyond the PSF.
SIDES, SPREAD = (128, 192, 256, 384, 512), 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiffractionPSF:
    """The PSF of a band before the pixels of a detector.

    Attributes
    ----------
    samples : ndarray, shape (n, n)
        Surface brightness times the area of a sample, of a point source of unit flux on the middle one. Their sum is
        the share of the light within the stamp, by Parseval's theorem: all of it would be 1.
    oversampling : int
        Samples along the side of a detector pixel.
    """

    samples: Array
    oversampling: int

    @property
    def scale(self) -> float:
        """Between samples, arcsec."""
        return DETECTOR_SCALE / self.oversampling

    def pixels(self) -> Array:
        """Return the light in squares around the samples: an image of the PSF with pixels of that scale.

        Returns
        -------
        ndarray, shape (n, n)
        """
        n = len(self.samples)
        ky, kx = fft.fftfreq(n)[:, None], fft.rfftfreq(n)
        return fft.irfft2(fft.rfft2(self.samples) * np.sinc(ky) * np.sinc(kx), (n, n))


def filter_wavelength(filter: str) -> tuple[float, float]:
    """Return the central wavelength of a filter in m, and its width in wavelengths, as its name tells them.

    Parameters
    ----------
    filter : str
        As the archive spells it: ``f444w-clear``, ``f250m``, ``clearp-f356w``.

    Returns
    -------
    wavelength, width : float

    Raises
    ------
    PhotplugError
        Where the name tells no wavelength.

    Examples
    --------
    >>> filter_wavelength("f444w-clear")
    (4.44e-06, 0.22)
    """
    for name in filter.lower().split("-"):
        if name[:1] == "f" and name[1:-1].isdigit() and name[-1] in BANDWIDTHS:
            return round(int(name[1:-1]) * 1e-8, 10), BANDWIDTHS[name[-1]]
    raise PhotplugError(
        f"filter {filter}: its name tells no wavelength, which diffraction needs; name one as f444w-clear"
    )


def make_pupil(samples: int = SAMPLES) -> Array:
    """Return the pupil: 18 hexagonal segments in two rings around a missing one, and three struts before them.

    Parameters
    ----------
    samples : int, optional
        Along a side of the square around it.

    Returns
    -------
    ndarray, shape (samples, samples)
        1 where light passes, and 0; a segment's flats face up and down (y), as JWST's do (V3).
    """
    axis = (np.arange(samples) - (samples - 1) / 2) * (DIAMETER / samples)
    y, x = axis[:, None], axis
    normals = np.radians([90.0, 30.0, -30.0])
    step = SEGMENT + GAP
    pupil = np.zeros((samples, samples))
    for i in range(-2, 3):
        for j in range(max(-2, -2 - i), min(2, 2 - i) + 1):
            if (i, j) == (0, 0):
                continue
            centre = step * (i * np.array([np.cos(normals[1]), 0.5]) + j * np.array([0.0, 1.0]))
            away = [np.abs((x - centre[0]) * np.cos(a) + (y - centre[1]) * np.sin(a)) for a in normals]
            pupil[np.max(away, axis=0) <= SEGMENT / 2] = 1
    for angle in np.radians(STRUTS):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        pupil[(along > 0) & (np.abs(across) < STRUT / 2)] = 0
    return pupil


def make_psf(filter: str, reach: float = REACH) -> DiffractionPSF:
    """Return the PSF of a band.

    Parameters
    ----------
    filter : str
        As for :func:`filter_wavelength`.
    reach : float, optional
        Half of the side of its stamp, arcsec.

    Returns
    -------
    DiffractionPSF
        As :func:`diffract` gives it.
    """
    return diffract(*filter_wavelength(filter), reach)


@cache
def diffract(wavelength: float, width: float, reach: float = REACH) -> DiffractionPSF:
    """Return the PSF of a range of wavelengths.

    Parameters
    ----------
    wavelength : float
        Of its middle, m.
    width : float
        Of the range, in that wavelength.
    reach : float, optional
        Half of the side of its stamp, arcsec.

    Returns
    -------
    DiffractionPSF
        The mean of 7 wavelengths, each the squared modulus of the pupil's Fourier transform, which is evaluated where
        it is wanted (Soummer et al. 2007, Optics Express 15, 15935).
    """
    waves = wavelength * (1 + width * ((np.arange(COLOURS) + 0.5) / COLOURS - 0.5))
    # Its highest frequency is that of the pupil's diameter: with two samples for it sums are integrals.
    oversampling = int(np.ceil(DETECTOR_SCALE * 2 * DIAMETER / np.degrees(waves.min()) / 3600))
    half = int(reach / DETECTOR_SCALE * oversampling)
    pupil = make_pupil()
    step = DIAMETER / len(pupil)
    places = (np.arange(len(pupil)) - (len(pupil) - 1) / 2) * step
    angles = np.radians(np.arange(-half, half + 1) * DETECTOR_SCALE / oversampling / 3600)
    samples = np.zeros((len(angles), len(angles)))
    for wave in waves:
        kernel = np.exp(-2j * np.pi / wave * np.outer(angles, places))
        field = kernel @ pupil @ kernel.T * step**2 / wave
        samples += np.abs(field) ** 2 * (angles[1] - angles[0]) ** 2 / (pupil.sum() * step**2) / COLOURS
    return DiffractionPSF(samples=samples, oversampling=oversampling)


@cache
def _transform(psf: DiffractionPSF, side: int) -> Array:
    """Fourier transform of a PSF seen by detector pixels, for stamps of `side` of them; its centre in pixel (0, 0)."""
    n, half = side * psf.oversampling, len(psf.samples) // 2
    padded = np.zeros((n, n))
    padded[: len(psf.samples), : len(psf.samples)] = psf.samples
    ky, kx = _frequencies(psf, side)
    transform: Array = fft.rfft2(np.roll(padded, (-half, -half), (0, 1))) * np.sinc(ky) * np.sinc(kx)
    return transform * psf.oversampling**2


def _frequencies(psf: DiffractionPSF, side: int) -> tuple[Array, Array]:
    """Cycles per detector pixel along y, a column, and x."""
    n, step = side * psf.oversampling, 1 / psf.oversampling
    return fft.fftfreq(n, step)[:, None], fft.rfftfreq(n, step)


def draw_diffraction(light: Light, wcs: WCS, psf: DiffractionPSF) -> Array:
    """Draw a scene on the pixels of a detector: positions by the full WCS, shapes of galaxies by its local Jacobian.

    Parameters
    ----------
    light : Light
        The scene before the PSF; the Gaussians of a source one after the other.
    wcs : WCS
        Of the detector, with its array shape (ny, nx).
    psf : DiffractionPSF
        In the detector's axes.

    Returns
    -------
    ndarray, shape (ny, nx)
        Flux in every pixel, 10 nJy: of each source the share that the PSF's stamp holds.
    """
    image = np.zeros(wcs.array_shape)
    x, y, flux, covariance = project_light(light, wcs)
    first = np.flatnonzero(np.diff(x, prepend=np.nan) != 0)
    for part in np.split(np.arange(len(x)), first[1:]) if len(x) else ():
        stamp, corner = _draw_source(x[part[0]], y[part[0]], flux[part], covariance[part], psf)
        add_stamp(image, stamp, corner)
    return image


def _draw_source(
    x: float, y: float, flux: Array, covariance: Array, psf: DiffractionPSF
) -> tuple[Array, tuple[int, int]]:
    """Light of one source, Gaussians around a place through the PSF, and the pixel (y, x) on which its stamp begins."""
    widest = SPREAD * np.sqrt(np.trace(covariance, axis1=1, axis2=2).max())
    needed = len(psf.samples) / psf.oversampling + 2 * widest + 2
    side = next((side for side in SIDES if side >= needed), SIDES[-1])
    low, left = (int(np.floor(centre + 0.5)) - side // 2 for centre in (y, x))
    ky, kx = _frequencies(psf, side)
    transform = _transform(psf, side) * np.exp(-2j * np.pi * (y - low) * ky) * np.exp(-2j * np.pi * (x - left) * kx)
    if widest:
        transform *= sum(
            part * np.exp(-2 * np.pi**2 * (c[0, 0] * kx**2 + 2 * c[0, 1] * kx * ky + c[1, 1] * ky**2))
            for part, c in zip(flux, covariance, strict=True)
        )
    else:
        transform *= flux.sum()
    fine = fft.irfft2(transform, (side * psf.oversampling,) * 2)
    return fine[:: psf.oversampling, :: psf.oversampling], (low, left)
