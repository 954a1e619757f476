"""Kernels that bring a band to the PSF of another, and which PSFs can be brought to which."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import fourier_shift, map_coordinates

from dja_photplug.errors import PhotplugError, PhotplugWarning, suggest
from dja_photplug.files.names import Source
from dja_photplug.psf.model import PSF, SAME_SCALE, encircled_energy, read_psf
from dja_photplug.psf.regions import PSFModel
from dja_photplug.psf.sampling import sample_psf
from dja_photplug.sky.grid import pixel_scale

__all__ = [
    "ANGLES",
    "PENALTY",
    "REGULARIZATION",
    "MatchingKernel",
    "Target",
    "check_narrower",
    "choose_broadest",
    "choose_reference",
    "find_target",
    "make_kernel",
    "measure_widths",
    "warn_of_residual",
]

Floats = NDArray[np.float64]

# Of the Wiener filter: on the PSFs of the UDS cut-outs curves of growth then agree within 0.02 % from 0.12 to 1.4
# arcsec; with 1e-3 within 0.1 %, and 1e-5 gives a kernel that rings three times as deep.
REGULARIZATION, PENALTY = 1e-4, "laplacian"
# What asks for the broadest PSF of the bands.
BROADEST = "broadest"
# Zeros around the stamps, in their sides, so that the wings of a kernel do not come in again from the other side.
PADDING = 0.25
# Where the light goes that a target's stamp does not hold, in half-sides of the kernel: beyond all apertures.
RIM = (0.85, 1.0)
# Directions that widths are measured in, degrees counter-clockwise from +x, and by how much a target may be narrower.
ANGLES = np.arange(0, 180, 5.0)
NARROWER = 0.01
# Half-power width of a Gaussian's transform times its FWHM; cycles per pixel up to which transforms are looked at.
GAUSSIAN_WIDTH, NYQUIST, STEPS = 2 * math.log(2) / math.pi, 0.5, 400
# By how much a matched curve of growth may be off, as a fraction, without a word.
MOST_RESIDUAL = 0.02
# Radii, in arcsec, of the curve of growth that tells how well a kernel does.
RADII = np.array([0.16, 0.2, 0.25, 0.32, 0.4, 0.5, 0.7, 1.0, 1.4])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchingKernel:
    """What an image is convolved with.

    Attributes
    ----------
    data : ndarray of float64
        Square, of an odd side, its sum 1.
    scale : float
        Side of a pixel in arcsec.
    matched : PSF
        What it makes of the band's PSF.
    target : PSF
    """

    data: Floats
    scale: float
    matched: PSF
    target: PSF

    @property
    def radius(self) -> Floats:
        """Radii in arcsec at which curves of growth are compared, (k,)."""
        return RADII[RADII / self.scale < RIM[0] * (len(self.data) // 2)]

    @property
    def residual(self) -> Floats:
        """By how much the matched curve of growth is above that of the target, as a fraction of it, (k,)."""
        return encircled_energy(self.matched, self.radius) / encircled_energy(self.target, self.radius) - 1


def make_kernel(psf: PSF, target: PSF, scale: float, pixels: float | None = None) -> MatchingKernel:
    """Return the kernel that brings a PSF to another.

    Parameters
    ----------
    psf, target : PSF
        Both as they are oriented on the mosaic.
    scale : float
        Of the mosaic's pixels, in arcsec.
    pixels : float, optional
        Of those of the mosaic that the target is the PSF of, where they are others.

    Returns
    -------
    MatchingKernel
        As large as the smaller of both stamps.

    Raises
    ------
    PhotplugError
        Where a stamp is too small for pixels of that scale.

    Notes
    -----
    `photutils.psf_matching.make_wiener_kernel` makes it of the stamps as they are; that these are centred beside their
    middle pixels is made good in the kernel, which is broader, and so shifted without loss. Stamps that hold other
    shares of the light (0.97 of F115W within 2 arcsec, 0.95 of F444W) would match in their shapes alone, and colours
    would be wrong by that: the light that only the target has beyond its stamp goes to the rim of the kernel. Where the
    share of one of them is not known, they are taken to be equal. Sums over apertures see the pixels they are of:
    on pixels of 20 mas a band gets those of a target on 40 too, without which its smallest apertures hold 0.8 % more.
    """
    from photutils.psf_matching import make_wiener_kernel  # a second to import

    stamps = [_cut_stamp(one, scale) for one in (psf, target)]
    half = min(len(pixels) // 2 for pixels, _ in stamps)
    source, wanted = (_cut_middle(pixels, half).copy() for pixels, _ in stamps)
    if pixels is not None and abs(pixels / scale - 1) >= SAME_SCALE:
        wanted = _see_through(wanted, pixels / scale)
    shift = np.subtract(stamps[0][1], stamps[1][1])
    shares = source.sum(), wanted.sum()
    padding = math.ceil(PADDING * len(source))
    padded = (np.pad(pixels / pixels.sum(), padding) for pixels in (source, wanted))
    whole = make_wiener_kernel(*padded, regularization=REGULARIZATION, penalty=PENALTY)
    whole = fft.ifft2(fourier_shift(fft.fft2(whole), shift)).real
    known = psf.original_sum is None and target.original_sum is None
    share = shares[0] if known else shares[1]
    kernel = _cut_middle(whole, half) * shares[1] / share
    distance = np.hypot(*(np.indices(kernel.shape) - half)) / half
    rim = (distance >= RIM[0]) & (distance <= RIM[1])
    kernel[rim] += (1 - kernel.sum()) / rim.sum()
    source *= share / shares[0]
    matched = PSF(
        data=_convolve(source, kernel),
        scale=scale,
        centre=(stamps[0][1][0] + 2 * half, stamps[0][1][1] + 2 * half),
        name=f"{psf.name} at the PSF of {target.name}",
    )
    return MatchingKernel(data=kernel, scale=scale, matched=matched, target=target)


def warn_of_residual(kernels: Sequence[MatchingKernel]) -> None:
    """Tell where a kernel does not do what it should.

    Parameters
    ----------
    kernels : sequence of MatchingKernel
        At least one; the worst is told.

    Warns
    -----
    PhotplugWarning
        Where the curve of growth of the matched PSF is off by more than 2 % of the target's.
    """
    kernel = max(kernels, key=lambda one: float(np.abs(one.residual).max()))
    worst = int(np.argmax(np.abs(kernel.residual)))
    off = float(kernel.residual[worst])
    if abs(off) > MOST_RESIDUAL:
        warnings.warn(
            f"{kernel.matched.name}: the matched light within {kernel.radius[worst]:g} arcsec is {100 * off:+.1f} % "
            "off the target's, and so are colours; give PSFs with less noise, or a broader target",
            PhotplugWarning,
            stacklevel=2,
        )


def _see_through(psf: Floats, ratio: float) -> Floats:
    """Return a PSF whose sums over apertures are those on pixels of `ratio` times the size.

    Light is gathered by pixels, and counts as spread evenly over them: the box of a pixel is in a sum twice.
    """
    frequency = fft.fftfreq(len(psf))
    box = np.square(np.sinc(ratio * frequency) / np.sinc(frequency))
    return np.ascontiguousarray(fft.ifft2(fft.fft2(psf) * np.outer(box, box)).real)


def _convolve(one: Floats, other: Floats) -> Floats:
    """Return two squares of one odd side convolved with each other, all of it."""
    side = 2 * len(one) - 1
    size = (fft.next_fast_len(side, real=True),) * 2
    return np.ascontiguousarray(fft.irfft2(fft.rfft2(one, size) * fft.rfft2(other, size), size)[:side, :side])


def _cut_stamp(psf: PSF, scale: float) -> tuple[Floats, tuple[float, float]]:
    """Return a PSF on pixels of a scale, as a square of an odd side, and its centre from the middle pixel, (y, x).

    Pixels of that scale are left as they are: moving a PSF of 1.6 pixels FWHM makes it broader.
    """
    if abs(scale / psf.scale - 1) >= SAME_SCALE:
        pixels = sample_psf(psf, scale)
        return _cut_middle(pixels, min(pixels.shape) // 2), (0.0, 0.0)
    (y, x), (ny, nx) = (round(place) for place in psf.centre), psf.data.shape
    half = min(y, ny - 1 - y, x, nx - 1 - x)
    pixels = psf.data[y - half : y + half + 1, x - half : x + half + 1]
    return pixels, (psf.centre[0] - y, psf.centre[1] - x)


def _cut_middle(pixels: Floats, half: int) -> Floats:
    """Return the middle of an array of odd sides, so many pixels to each side."""
    rows, columns = (slice(n // 2 - half, n // 2 + half + 1) for n in pixels.shape)
    return pixels[rows, columns]


def measure_widths(psf: PSF) -> Floats:
    """Return how wide a PSF is in each of the directions `ANGLES`.

    Parameters
    ----------
    psf : PSF

    Returns
    -------
    ndarray
        FWHM in arcsec of the Gaussian whose transform falls to a half at the same frequency, (36,).
    """
    side = 2 * fft.next_fast_len(2 * max(psf.data.shape))
    power = fft.fftshift(np.abs(fft.fft2(psf.data / psf.data.sum(), (side, side))))
    frequency = np.linspace(0, NYQUIST, STEPS)
    angle = np.radians(ANGLES)[:, None]
    places = [side / 2 + side * frequency * part for part in (np.sin(angle), np.cos(angle))]
    falling = map_coordinates(power, np.array(places), order=1)
    below = np.argmax(falling < 0.5, axis=1)  # 0 where it never does: narrower than pixels tell
    last = np.where(below == 0, STEPS - 1, below)
    rows = np.arange(len(ANGLES))
    high, low = falling[rows, last - 1], falling[rows, last]
    part = np.clip((high - 0.5) / np.maximum(high - low, 1e-9), 0, 1)
    return GAUSSIAN_WIDTH * psf.scale / (frequency[last - 1] + part * frequency[1])


def check_narrower(name: str, psf: PSF, target_name: str, target: PSF) -> None:
    """Refuse a target that is narrower than a band in some direction.

    Parameters
    ----------
    name : str
        Of the band.
    psf : PSF
    target_name : str
        Of the target.
    target : PSF

    Raises
    ------
    PhotplugError
        With the widths in that direction.
    """
    own, wanted = measure_widths(psf), measure_widths(target)
    worst = int(np.argmin(wanted / own))
    if wanted[worst] < (1 - NARROWER) * own[worst]:
        raise PhotplugError(
            f"option match: at {ANGLES[worst]:.0f} deg from +x the PSF of {target_name} is {wanted[worst]:.3f} arcsec "
            f"wide and that of {name} {own[worst]:.3f}, so {name} would have to be sharpened; give the broader one, "
            "or broadest, or leave the band out"
        )


def _mean_width(psf: PSF) -> float:
    return float(np.mean(measure_widths(psf)))


def choose_broadest(psfs: Mapping[str, PSFModel]) -> str:
    """Return the band whose PSF is the broadest.

    Parameters
    ----------
    psfs : mapping of str to PSFModel
        By band, at least one; of several regions their broadest counts.

    Returns
    -------
    str
        Whether it is as broad as all others in all directions :func:`check_narrower` tells.
    """
    return max(psfs, key=lambda band: max(map(_mean_width, psfs[band].stamps)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """The PSF that bands are brought to.

    Attributes
    ----------
    name : str
        Of its band, or of its file.
    psf : PSF
    pixels : float or None
        Of the mosaic of its band, arcsec; None where that is not known.
    """

    name: str
    psf: PSF
    pixels: float | None = None


def find_target(
    wanted: str | None,
    bands: Collection[str],
    psfs: Mapping[str, PSFModel],
    sources: Mapping[str, Source] | None = None,
) -> Target | None:
    """Return the PSF that all bands are to be brought to.

    Parameters
    ----------
    wanted : str or None
        A band, ``broadest``, or a file.
    bands : collection of str
    psfs : mapping of str to PSFModel
        By band.
    sources : mapping of str to Source, optional
        By band; that of the target tells its pixels.

    Returns
    -------
    Target or None
        None where nothing is asked for. Of a band with several regions it is the broadest PSF, to which its other
        regions are brought too.

    Raises
    ------
    PhotplugError
        Where a band has no PSF, or one that is broader than the target's in some direction; where the target is neither
        a band nor a file, or its file holds no PSF or does not tell its pixel scale.
    """
    if wanted is None:
        return None
    if wanted.lower() not in (*bands, *psfs, BROADEST) and not Path(wanted).is_file():
        meant = suggest(wanted.lower(), [*filter(None, bands), BROADEST])
        raise PhotplugError(
            f"option match: {wanted} is neither one of the bands {', '.join(filter(None, bands))} nor a file"
            f"{meant or '; give a band, broadest, or the FITS image of a PSF'}"
        )
    if lacking := [band or "the image" for band in bands if band not in psfs]:
        raise PhotplugError(
            f"option match: {', '.join(lacking)} has no PSF, so it cannot be matched; give one (psf), or leave the "
            "band out"
        )
    name = choose_broadest(psfs) if wanted == BROADEST else wanted.lower()
    own = name in psfs
    grid = sources[name].grid() if sources and name in sources else None
    pixels = None if grid is None else pixel_scale(grid.wcs)
    broadest = max(psfs[name].stamps, key=_mean_width) if own else None
    target = _read_target(wanted) if broadest is None else Target(name=name, psf=broadest, pixels=pixels)
    for band, model in psfs.items():
        # Regions of one band differ by their roll: none is narrower than another in all directions.
        for psf in model.stamps if band in bands and band != target.name else ():
            check_narrower(band, psf, target.name, target.psf)
    return target


def _read_target(path: str) -> Target:
    """Return the PSF of a file."""
    try:
        psf = read_psf(path)
    except PhotplugError as error:
        # No option tells the scale of a target.
        raise PhotplugError(str(error).replace("give one (--psf-scale)", "write one into its header")) from None
    return Target(name=psf.name, psf=psf)


def choose_reference(detect: str | None, bands: Collection[str], target: Target, psfs: Mapping[str, PSFModel]) -> str:
    """Return the band whose Kron apertures tell the totals of bands at one PSF.

    Parameters
    ----------
    detect : str or None
        What sources were detected on.
    bands : collection of str
        Those that were measured, at least one.
    target : Target
    psfs : mapping of str to PSF
        Of all of them.

    Returns
    -------
    str
        The detection band; where it is none of them, as a stack, that of the target, and else the broadest.
    """
    if detect is not None and detect in bands:
        return detect
    return target.name if target.name in bands else choose_broadest({band: psfs[band] for band in bands})
