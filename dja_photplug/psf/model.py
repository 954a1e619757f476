"""Images of the PSF: read and checked, and their curve of growth."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep
from astropy import units as u
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.pixels import read_image
from dja_photplug.sky.cards import read_numbers
from dja_photplug.sky.grid import header_wcs, pixel_scale
from dja_photplug.units import plain_array

__all__ = [
    "COUNT",
    "FEWEST",
    "PSF",
    "SAME_SCALE",
    "SCALES",
    "encircled_energy",
    "grow_light",
    "half_light_radius",
    "make_psf",
    "read_psf",
    "warn_of_assumptions",
]

Floats = NDArray[np.float64]

# Sums that are the share of the light that a stamp holds: those of grizli's PSFs of NIRCam are 0.95 to 0.98. Those of
# its ACS and WFC3/IR stamps, 1.01 and 1.11, cannot be.
SHARES = (0.5, 1.0)
ROUNDING = 1e-3  # by which a sum may be above 1, or what states a pixel scale may differ in its last digit
# By which a curve of growth may be above 1 on its way to its sum: noise, and ringing of the core.
HIGHEST = 0.01
# Of the peak. Drizzling with drops leaves rounding errors (-4e-8 of it), Lanczos kernels and noise of stars a little.
DEEPEST = -0.02
WIDTHS = (0.02, 2.0)  # arcsec, FWHM; JWST and HST have 0.03 to 0.8
FEWEST = 5
"""Pixels on a side at least, which the quintic spline of `dja_photplug.psf.sampling` needs too."""
# Pixels; below 1.5 the sampling moves the centre, by up to 0.07 pixels for a FWHM of 1.6 pixels with a sigma of 0.7.
NARROWEST = 1.5
# What states the side of a pixel in arcsec: grizli has the first, STPSF the second, Tiny Tim and others the third.
SCALES = ("PIXSCL", "PIXELSCL", "PIXSCALE")
STATED = 0.01  # by which two statements may differ
# Of two pixel scales that are the same: 0.05 pixels at the edge of a stamp of 101.
SAME_SCALE = 1e-3
STATEMENTS = f"{', '.join(SCALES)}, PIXAR_A2 or a WCS"
ASSUMED = "what is assumed"
COUNT = "NPSF"
"""Card with the number of PSFs in a file that has one for each region."""
RADII = 1000  # of the tabulated curve of growth, which is then true to 1e-4 for a FWHM of 1.6 pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PSF:
    """An image of the PSF.

    Attributes
    ----------
    data : ndarray of float64, shape (ny, nx)
        Its sum is the share of the light that it holds.
    scale : float
        Side of a pixel in arcsec.
    centre : tuple of float
        (y, x) in pixels, 0-based: the centroid in a Gaussian window of the PSF's own width, around the peak. It is
        measured, as no convention holds: grizli's stamps of 101 x 101 peak in the middle pixel and are centred
        (-0.19, +0.40) pixels beside it, and even-sized stamps have their centre on a corner or a pixel.
    name : str
        Of the file.
    original_sum : float, optional
        Sum of the pixels before they were normalised to 1; None where it was the share of light and was kept.
    scale_from : str
        What states the pixel scale.
    contradicted : str
        What the header says against it, empty where it does not.
    """

    data: Floats
    scale: float
    centre: tuple[float, float]
    name: str
    original_sum: float | None = None
    scale_from: str = "--psf-scale"
    contradicted: str = ""


def read_psf(
    path: str | Path, assumed: float | None = None, *, scale: float | None = None, share: float | None = None
) -> PSF:
    """Read an image of the PSF: the first two-dimensional image of a FITS file, such as OVERSAMP of STPSF.

    Its pixel scale is `scale`; else that of PIXSCL, PIXELSCL or PIXSCALE, of a celestial WCS, or of PIXAR_A2, in its
    header; else `assumed`. A sum of 0.5 to 1 is the share of the light that it holds, and is kept; any other, as of a
    peak of 1 or of counts, is normalised to 1. :func:`warn_of_assumptions` tells of both.

    Parameters
    ----------
    path : str or Path
    assumed : float, optional
        In arcsec per pixel, where nothing else tells: that of the mosaic.
    scale : float, optional
        In arcsec per pixel, whatever the header states.
    share : float, optional
        Share of the light that the stamp holds, 0 to 1, whatever its sum.

    Returns
    -------
    PSF

    Raises
    ------
    PhotplugError
        Where the file cannot be read, is no PSF centred in its stamp, has no pixel scale that can be right, or two that
        contradict each other, or a curve of growth above 1.
    """
    return make_psf(*read_image(path), path, assumed, scale=scale, share=share)


def make_psf(
    pixels: NDArray[np.floating],
    header: fits.Header,
    name: str | Path,
    assumed: float | None = None,
    *,
    scale: float | None = None,
    share: float | None = None,
) -> PSF:
    """Return an image of the PSF that was read or made.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
    header : `~astropy.io.fits.Header`
    name : str or Path
        Of the file, for messages.
    assumed, scale, share
        As for :func:`read_psf`.

    Returns
    -------
    PSF

    Raises
    ------
    PhotplugError
        As :func:`read_psf`.
    """
    data = pixels.astype(np.float64)
    try:
        if (number := header.get(COUNT, 1)) != 1:
            raise PhotplugError(f"it holds {number} PSFs by region, and one is asked for; give an image of one")
        _check_pixels(data)
        width, (scale, source, against) = _measure_width(data), _find_scale(header, assumed, scale)
        # Written so that NaN fails too.
        if not WIDTHS[0] <= width * scale <= WIDTHS[1]:
            raise PhotplugError(
                f"with pixels of {scale:g} arcsec the PSF is {width * scale:.3g} arcsec wide at half of its peak, not "
                f"{WIDTHS[0]:g} to {WIDTHS[1]:g}: a wrong scale; correct {source} or --psf-scale, or give a PSF"
            )
        total = float(data.sum())
        kept = share is None and SHARES[0] <= total <= SHARES[1] + ROUNDING
        held = min(total, SHARES[1]) if kept else share or 1.0
        psf = PSF(
            data=data * (held / total),
            scale=scale,
            centre=_find_centre(data, width),
            name=Path(name).name,
            original_sum=None if kept or share else total,
            scale_from=source,
            contradicted=against,
        )
        _check_growth(psf)
    except PhotplugError as error:
        raise PhotplugError(f"{name}: {error}") from None
    return psf


def warn_of_assumptions(psf: PSF, *, share: bool = True) -> None:
    """Tell what was assumed of a PSF that its file does not state.

    Parameters
    ----------
    psf : PSF
        As :func:`read_psf` gives it.
    share : bool, optional
        Whether the share of the light that it holds is used.

    Warns
    -----
    PhotplugWarning
        Where its pixel scale is that of the mosaic, or contradicts its header, and where its pixels were normalised
        to 1.
    """
    if psf.scale_from == ASSUMED:
        warnings.warn(
            f"{psf.name}: the PSF states no pixel scale ({STATEMENTS}), so the mosaic's is assumed, {psf.scale:g} "
            "arcsec; give its own with --psf-scale",
            PhotplugWarning,
            stacklevel=2,
        )
    if psf.contradicted:
        warnings.warn(
            f"{psf.name}: pixels of {psf.scale:g} arcsec are given, but the PSF's header states {psf.contradicted}; "
            "using those given",
            PhotplugWarning,
            stacklevel=2,
        )
    if share and psf.original_sum is not None:
        radius, light = _measure_growth(psf)
        reach = radius[np.argmax(light > light[-1] * (1 - ROUNDING))]
        warnings.warn(
            f"{psf.name}: the PSF sums to {psf.original_sum:.4g}, which is not a fraction of the light, so it is "
            f"assumed to hold all of it: light beyond {reach:.2g} arcsec is ignored, and total fluxes are too low; "
            "give the fraction with --psf-share",
            PhotplugWarning,
            stacklevel=2,
        )


def _check_pixels(data: Floats) -> None:
    """Refuse pixels that are none of a PSF."""
    if min(data.shape) < FEWEST:
        raise PhotplugError(
            f"an image of {data.shape[1]} x {data.shape[0]} pixels is too small for a PSF; give one of {FEWEST} or "
            "more on a side"
        )
    if bad := int((~np.isfinite(data)).sum()):
        raise PhotplugError(f"{bad} of {data.size} pixels of the PSF are NaN or infinite; give one without")
    total, peak, deepest = data.sum(), data.max(), data.min()
    if total <= 0 or peak <= 0:
        raise PhotplugError(f"the PSF sums to {total:.4g} and peaks at {peak:.4g}; give one that is positive")
    if deepest < DEEPEST * peak:
        raise PhotplugError(
            f"the PSF reaches down to {deepest / peak:.3g} of its peak, but ringing explains only {DEEPEST:g}; give "
            "one without negative pixels"
        )


def _measure_width(data: Floats) -> float:
    """Return the FWHM in pixels: the diameter of the circle that is as large as the pixels above half of the peak."""
    return 2 * math.sqrt(np.count_nonzero(data > data.max() / 2) / math.pi)


def _find_scale(header: fits.Header, assumed: float | None, given: float | None) -> tuple[float, str, str]:
    """Return the pixel scale, what tells it, and what the header says against it."""
    if given is not None:
        try:
            stated = _read_scales(header)
        except PhotplugError as error:
            return float(given), "--psf-scale", f"none ({str(error).partition(';')[0]})"
        against = [f"{scale:g} ({source})" for source, scale in stated.items() if abs(scale / given - 1) > STATED]
        return float(given), "--psf-scale", ", ".join(against)
    stated = _read_scales(header)
    if not stated:
        if assumed is None:
            raise PhotplugError(f"the PSF states no pixel scale ({STATEMENTS}); give one (--psf-scale)")
        return float(assumed), ASSUMED, ""
    first, scale = next(iter(stated.items()))
    for other, its in stated.items():
        if abs(its / scale - 1) > STATED:
            raise PhotplugError(
                f"{first} states pixels of {scale:g} arcsec, but {other} states {its:g}; give the right one "
                "(--psf-scale)"
            )
    return scale, first, ""


def _read_scales(header: fits.Header) -> dict[str, float]:
    """Return the pixel scales that a header states, by what states them, the most trusted first."""
    advice = "correct it, or take it out and give the pixel scale (--psf-scale)"
    stated = read_numbers(header, (), advice, optional=SCALES, kind="positive number")
    if str(header.get("CTYPE1", "")).startswith("RA--"):
        stated["its WCS"] = pixel_scale(header_wcs(header))
    if not stated:  # in mosaics it is that of the detector
        area = read_numbers(header, (), advice, optional=["PIXAR_A2"], kind="positive number")
        stated = {key: math.sqrt(value) for key, value in area.items()}
    return stated


def _check_growth(psf: PSF) -> None:
    """Refuse a curve of growth that rises above 1, as one does where too much sky was taken off."""
    radius, light = _measure_growth(psf)
    if (highest := light.max()) > 1 + HIGHEST:
        raise PhotplugError(
            f"the curve of growth reaches {highest:.3f} at {radius[light.argmax()]:.2g} arcsec and ends at "
            f"{light[-1]:.3f}, so too much sky was subtracted; give a PSF without negative outskirts"
        )


def _find_centre(data: Floats, width: float) -> tuple[float, float]:
    """Return the windowed centroid (y, x), refused where the PSF is not centred in its stamp."""
    peak_y, peak_x = np.unravel_index(np.argmax(data), data.shape)
    x, y, _ = sep.winpos(data, peak_x, peak_y, max(width / math.sqrt(8 * math.log(2)), NARROWEST))
    if not all(abs(place - (n - 1) / 2) <= n / 4 for place, n in zip((y, x), data.shape, strict=True)):
        raise PhotplugError(
            f"the PSF is centred at x, y = {x:.1f}, {y:.1f} of {data.shape[1]} x {data.shape[0]} pixels, "
            "not in the middle half of its stamp; cut it out around its peak"
        )
    return float(y), float(x)


def _grow(psf: PSF) -> tuple[Floats, Floats]:
    """Return squared radii in arcsec, up to the farthest corner, and the light within them.

    The square, because the curve is linear in it where the PSF is flat, as in its central pixel.
    """
    radius, light = _measure_growth(psf)
    # Negative pixels: never falling, never above the sum.
    return radius**2, np.minimum(np.maximum.accumulate(light), light[-1])


def _measure_growth(psf: PSF) -> tuple[Floats, Floats]:
    """Return radii in arcsec, up to the farthest corner, and the light within them as it is."""
    (y, x), (ny, nx) = psf.centre, psf.data.shape
    radii = math.hypot(max(y, ny - 1 - y) + 0.5, max(x, nx - 1 - x) + 0.5) * np.linspace(0, 1, RADII) ** 2
    # The first is 0, which is no circle, and the last holds all.
    sums = grow_light(psf.data, psf.centre, radii[1:-1])
    return radii * psf.scale, np.concatenate([[0.0], sums, [psf.data.sum()]])


def grow_light(data: Floats, centre: tuple[float, float], radius: Floats) -> Floats:
    """Return the light within circles.

    Parameters
    ----------
    data : ndarray
        (ny, nx).
    centre : tuple of float
        (y, x).
    radius : ndarray
        (k,), in pixels.

    Returns
    -------
    ndarray
        (k,).
    """
    x, y = (np.full(len(radius), place) for place in centre[::-1])
    return np.asarray(sep.sum_circle(np.ascontiguousarray(data), x, y, radius, subpix=0)[0])


def encircled_energy(psf: PSF, radius: ArrayLike) -> Floats:
    """Return the share of the light inside circles around the centre of a PSF: its curve of growth.

    Circles and pixels overlap exactly. The curve never falls: negative pixels count as soon as others make up for
    them. It is tabulated at 1000 radii first, so 100,000 radii cost little more than one.

    Parameters
    ----------
    psf : PSF
    radius : array_like
        In arcsec. NaN gives NaN.

    Returns
    -------
    ndarray, shape of `radius`
        0 at radius 0, and the sum of the PSF beyond its stamp, which says nothing of the light there.

    Examples
    --------
    >>> y, x = np.indices((101, 101)) - 50
    >>> pixels = np.exp(-(x**2 + y**2) / 2 / 3**2) / (2 * np.pi * 3**2)
    >>> psf = PSF(data=pixels, scale=0.04, centre=(50, 50), name="Gaussian of sigma 0.12 arcsec")
    >>> encircled_energy(psf, [0, 0.12, 9]).round(2)
    array([0.  , 0.39, 1.  ])
    """
    return np.interp(np.maximum(plain_array(radius, u.arcsec, "radius"), 0) ** 2, *_grow(psf))


def half_light_radius(psf: PSF, within: ArrayLike) -> Floats:
    """Return the radii that hold half of the light inside circles: ``flux_radius`` of a point source.

    Parameters
    ----------
    psf : PSF
    within : array_like
        Radius in arcsec of the circle that the whole flux is measured in. NaN gives NaN.

    Returns
    -------
    ndarray, shape of `within`
        In arcsec.
    """
    squares, light = _grow(psf)
    # Where no light is added, the innermost radius that holds it.
    rising = np.diff(light, prepend=-1.0) > 0
    half = np.interp(np.maximum(plain_array(within, u.arcsec, "within"), 0) ** 2, squares, light) / 2
    return np.sqrt(np.interp(half, light[rising], squares[rising]))
