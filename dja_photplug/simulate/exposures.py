"""Simulated exposures: dithered detectors with SIP distortion, the light that falls on them, and its noise.

Each exposure draws the light of a scene on its own distorted pixels, integrated over every pixel, so that
drizzling has the work it has with real data. The layout (names, visits, position angles, dates, SIP) follows NIRCam
``rate`` files of 63 mas pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS, Sip
from numpy.polynomial import chebyshev, legendre, polynomial

from dja_photplug.options.stages import Stage, option
from dja_photplug.simulate.scene import Array, Light
from dja_photplug.sky.grid import world_axes

__all__ = [
    "DETECTOR_SCALE",
    "Exposure",
    "Frame",
    "MosaicOptions",
    "PixelMap",
    "add_stamp",
    "draw_light",
    "expose",
    "map_pixels",
    "plan_exposures",
    "project_light",
]

DETECTOR_SCALE = 0.063
"""Side of a detector pixel, arcsec (NIRCam long wave)."""

FIRST_EXPOSURE_MJD = 59960.25
VISIT_SPACING = 372.0  # days: two epochs a year apart, the second with another orientation
OVERHEAD = 61.2  # seconds between exposures of one visit

# Typical share of the distortion by degree: the NIRCam long-wave logs have 12, 1.7, 0.02 and 0.05 px at a corner.
SIP_SHARE = {2: 1.0, 3: 0.14, 4: 0.01, 5: 0.004}

# Light beyond this many sigma of a Gaussian is not drawn: 4e-6 of its flux.
REACH = 5.0


def _quadrature(count: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights of the interval [-1/2, 1/2]."""
    nodes, weights = legendre.leggauss(count)
    return nodes / 2, weights / 2


QUADRATURE = {count: _quadrature(count) for count in (1, 2, 3, 5, 9)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicOptions(Stage):
    """How a scene is observed in one band and drizzled into one mosaic; one visit for each position angle."""

    root: str = option("sim-v1", "root of the file names")
    filter: str = option("f444w-clear", "filter as the archive spells it")
    detectors: tuple[str, ...] = option(
        ("nrcalong",), "detectors of the file names; several lie side by side along x, centred on the field"
    )
    detector_size: int | None = option(
        None,
        "pixels along a side; without it the smallest that covers the field in every exposure",
        unit="pix",
        kind=int,
        minimum=16,
    )
    position_angles: tuple[float, ...] = option(
        (15.0, 102.0), "position angle of the detector's y axis in each visit, east of north", unit="deg"
    )
    n_exposures: int = option(6, "exposures per visit and detector", minimum=1)
    exposure_time: float = option(837.468, "time of one exposure", unit="s", minimum=1)
    dither: float = option(1.0, "largest offset of a pointing along either axis", unit="arcsec", minimum=0)
    sip_order: int = option(5, "order of the SIP polynomials; 1 for none", minimum=1, maximum=5)
    distortion: float = option(4.0, "largest displacement at a detector corner", unit="pix", minimum=0)
    detector_gain: float = option(1.88, "detector gain", unit="e-/DN", minimum=1e-3)
    sky: float = option(0.6, "sky per detector pixel", unit="DN/s", minimum=0)
    read_noise: float = option(12.0, "effective read noise of one exposure", unit="e-", minimum=0)
    bad_fraction: float = option(
        0.005, "fraction of the pixels with weight 0, drawn anew in every exposure", minimum=0, maximum=0.5
    )
    psf: str = option(
        "gaussian",
        "PSF before the detector pixel: 'gaussian', or that of 'diffraction' by JWST's pupil, fixed to the detector",
        choices=("gaussian", "diffraction"),
    )
    # Below 0.04 the nine quadrature points per pixel of `_draw_gaussian` no longer hold 0.1 %.
    psf_fwhm: float = option(0.145, "FWHM of the Gaussian PSF before the detector pixel", unit="arcsec", minimum=0.04)
    photmjsr: float = option(0.387729, "keyword PHOTMJSR", unit="MJy/sr per DN/s", minimum=1e-6)
    photscal: float = option(1.0, "keyword PHOTSCAL", minimum=1e-6)
    ophotfnu: float = option(8.88250488346685e-08, "keyword OPHOTFNU", unit="Jy", minimum=1e-12)
    pixfrac: float = option(0.75, "drop size of drizzle", minimum=0.1, maximum=1)
    subsample: int = option(
        1, "mosaic pixels along a side of a pixel of the scene's grid: 2 gives 20 mas from 40 mas", minimum=1
    )
    compress: bool = option(True, "write .fits.gz, not .fits")
    var: bool = option(False, "also write _var, the full variance of the exposures, source photons included")
    seed: int = option(1, "seed of dithers, noise and bad pixels; each filter has its own stream", minimum=0)

    @property
    def phot_scale(self) -> float:
        """DN/s per mosaic unit of 10 nJy: PHOTFNU / (PHOTMJSR PHOTSCAL OPHOTFNU)."""
        return 1e-8 / (self.photmjsr * self.photscal * self.ophotfnu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One exposure of one detector.

    Attributes
    ----------
    file : str
        Its name, as the archive's.
    wcs : `~astropy.wcs.WCS`
        With SIP, and with its array shape.
    begin : float
        MJD (UTC).
    """

    file: str
    wcs: WCS
    begin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelMap:
    """Where detector pixels fall on a mosaic.

    Attributes
    ----------
    position : ndarray, shape (ny, nx, 2)
        (x, y) of their centres in 0-based mosaic pixels.
    area : ndarray, shape (ny, nx)
        Mosaic pixels that each covers.
    """

    position: Array
    area: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A calibrated exposure, background subtracted, as surface brightness in 10 nJy per mosaic pixel.

    Attributes
    ----------
    data : ndarray, shape (ny, nx)
    light : ndarray, shape (ny, nx)
        The same without sky and noise.
    weight : ndarray, shape (ny, nx)
        1/(VAR_RNOISE + median(VAR_POISSON)), and 0 for bad pixels.
    variance : ndarray, shape (ny, nx)
        The full one, with the sources' photons.
    """

    data: Array
    light: Array
    weight: Array
    variance: Array


def plan_exposures(grid: WCS, options: MosaicOptions, rng: np.random.Generator) -> list[Exposure]:
    """Lay out all exposures on a mosaic.

    Parameters
    ----------
    grid : WCS
        Undistorted WCS of the mosaic, with its array shape.
    options : MosaicOptions
        Visits, detectors, dithers, distortion.
    rng : numpy.random.Generator
        Source of the dithers. The distortion belongs to the detector's name, the same in every band.

    Returns
    -------
    list of Exposure
        By visit, exposure, detector: as the archive's log sorts them.
    """
    size = options.detector_size or _covering_size(grid, options)
    sips = {name: _draw_sip(name, size, options) for name in options.detectors}
    span = np.arange(len(options.detectors)) - (len(options.detectors) - 1) / 2
    exposures = []
    for visit, angle in enumerate(np.radians(options.position_angles)):
        rotation = np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for number in range(options.n_exposures):
            begin = (options.exposure_time + OVERHEAD) / 86400 * number
            dither = rng.uniform(-options.dither, options.dither, 2)
            for name, step in zip(options.detectors, span, strict=True):
                east_north = rotation @ (dither + np.array([step * size * DETECTOR_SCALE, 0]))
                exposures.append(
                    Exposure(
                        file=f"jw09999001{visit + 1:03d}_02101_{number + 1:05d}_{name}_rate.fits",
                        wcs=_detector_wcs(grid, east_north, rotation, size, sips[name]),
                        begin=FIRST_EXPOSURE_MJD + VISIT_SPACING * visit + begin,
                    )
                )
    return exposures


def _covering_size(grid: WCS, options: MosaicOptions) -> int:
    """Side of the smallest square detector that covers the mosaic in every visit and dither."""
    angles = np.radians(options.position_angles)
    turn = np.abs([[np.cos(angles), np.sin(angles)], [np.sin(angles), np.cos(angles)]])
    height, width = np.array(grid.array_shape) * grid.proj_plane_pixel_scales()[1].to_value("arcsec")
    field = (turn[:, 0] * width + turn[:, 1] * height).max()
    return int(np.ceil((field + 2 * options.dither) / DETECTOR_SCALE + 2 * options.distortion)) + 4


def _draw_sip(detector: str, size: int, options: MosaicOptions) -> Sip | None:
    """SIP polynomials of a detector, its largest corner displacement ``options.distortion``; None if undistorted."""
    order = options.sip_order
    if order < 2 or options.distortion == 0:
        return None
    rng = np.random.default_rng(list(detector.encode()))
    coefficients: Array = np.zeros((2, order + 1, order + 1))
    for p in range(order + 1):
        for q in range(max(2 - p, 0), order + 1 - p):
            coefficients[:, p, q] = rng.uniform(-1, 1, 2) * SIP_SHARE[p + q]
    # In units of half the side, where the corners are at (+-1, +-1).
    corners_x, corners_y = np.array([1.0, 1, -1, -1]), np.array([1.0, -1, 1, -1])
    shift = [polynomial.polyval2d(corners_x, corners_y, c) for c in coefficients]
    power = np.add.outer(np.arange(order + 1), np.arange(order + 1))
    coefficients *= options.distortion / np.hypot(*shift).max() / (size / 2) ** power
    return Sip(*coefficients, None, None, [size / 2 + 0.5] * 2)


def _detector_wcs(grid: WCS, east_north: Array, rotation: Array, size: int, sip: Sip | None) -> WCS:
    """Full WCS of a detector whose centre lies ``east_north`` arcsec from that of the mosaic."""
    ny, nx = grid.array_shape
    scale = grid.wcs.cd[1, 1] * 3600
    centre = [(nx - 1) / 2 - east_north[0] / scale, (ny - 1) / 2 + east_north[1] / scale]
    wcs = WCS(naxis=2)
    suffix = "-SIP" if sip is not None else ""
    wcs.wcs.ctype = [f"RA---TAN{suffix}", f"DEC--TAN{suffix}"]
    wcs.wcs.crval = grid.wcs_pix2world([centre], 0)[0]
    wcs.wcs.crpix = [size / 2 + 0.5] * 2
    wcs.wcs.cd = rotation * DETECTOR_SCALE / 3600
    wcs.wcs.radesys = "ICRS"
    wcs.sip = sip
    wcs.array_shape = (size, size)
    wcs.wcs.set()
    return wcs


def map_pixels(exposure: Exposure, grid: WCS, degree: int = 11) -> PixelMap:
    """Map the pixels of an exposure into the mosaic.

    The full WCSs are evaluated at Chebyshev points and interpolated by the tensor product: SIP of order 5 and
    two tangent planes are so smooth that degree 11 is exact to 1e-8 pixel, and twelve times faster.

    Parameters
    ----------
    exposure : Exposure
    grid : WCS
        Undistorted WCS of the mosaic.
    degree : int, optional
        Of the polynomials, along each axis.

    Returns
    -------
    PixelMap
    """
    size = exposure.wcs.array_shape[0]
    nodes = chebyshev.chebpts1(degree + 1)
    x, y = np.meshgrid(*[(nodes + 1) / 2 * (size - 1)] * 2)
    samples = np.array(grid.wcs_world2pix(*exposure.wcs.all_pix2world(x, y, 0), 0))
    inverse = np.linalg.inv(chebyshev.chebvander(nodes, degree))
    coefficients = inverse @ samples @ inverse.T
    pixels = np.linspace(-1, 1, size)
    basis = chebyshev.chebvander(pixels, degree)
    derivative = chebyshev.chebder(np.eye(degree + 1), scl=2 / (size - 1))
    slope = chebyshev.chebvander(pixels, degree - 1) @ derivative
    x_x, y_x = basis @ coefficients @ slope.T
    x_y, y_y = slope @ coefficients @ basis.T
    position = np.empty((size, size, 2))
    position[..., 0], position[..., 1] = basis @ coefficients @ basis.T
    return PixelMap(position=position, area=np.abs(x_x * y_y - x_y * y_x))


def project_light(light: Light, wcs: WCS) -> tuple[Array, Array, Array, Array]:
    """Return where Gaussians on the sky are on a detector, those near it: by the full WCS, and its local Jacobian.

    Parameters
    ----------
    light : Light
    wcs : WCS
        Of the detector, with its array shape (ny, nx).

    Returns
    -------
    x, y, flux : ndarray, shape (n,)
        0-based pixels, and 10 nJy.
    covariance : ndarray, shape (n, 2, 2)
        Over (x, y), pixels^2.
    """
    centre = np.column_stack([light.ra, light.dec])
    size = np.array(wcs.array_shape[::-1])
    # A whole detector away, light no longer reaches it, and its SIP polynomials need not invert.
    linear = wcs.wcs_world2pix(world_axes(wcs, *centre.T), 0)
    near = np.all((linear > -size) & (linear < 2 * size), axis=1)
    centre = centre[near]
    step = 0.1 / 3600
    east = np.column_stack([step / np.cos(np.radians(centre[:, 1])), np.zeros(len(centre))])
    north = np.array([0.0, step])
    sky = np.concatenate([centre, centre + east, centre - east, centre + north, centre - north])
    pixels = wcs.all_world2pix(world_axes(wcs, *sky.T), 0, quiet=True)
    pixels = pixels.reshape(5, -1, 2)
    jacobian = np.stack([pixels[1] - pixels[2], pixels[3] - pixels[4]], axis=-1) / 0.2
    covariance = jacobian @ light.covariance[near] @ jacobian.swapaxes(1, 2)
    return pixels[0, :, 0], pixels[0, :, 1], light.flux[near], covariance


def add_stamp(image: Array, stamp: Array, corner: tuple[int, int]) -> None:
    """Add a stamp to an image, as far as it lies on it.

    Parameters
    ----------
    image, stamp : ndarray
        (ny, nx) and (k, l).
    corner : tuple of int
        Row and column of the image on which the stamp begins, also negative.
    """
    ends = list(zip(corner, stamp.shape, image.shape, strict=True))
    on, of = zip(
        *((slice(max(c, 0), max(min(c + n, m), 0)), slice(max(-c, 0), max(min(n, m - c), 0))) for c, n, m in ends),
        strict=True,
    )
    image[on] += stamp[of]


def draw_light(light: Light, wcs: WCS) -> Array:
    """Draw a scene on the pixels of a detector: positions by the full WCS, shapes by its local Jacobian.

    Parameters
    ----------
    light : Light
        The scene, PSF included.
    wcs : WCS
        Of the detector, with its array shape (ny, nx).

    Returns
    -------
    ndarray, shape (ny, nx)
        Flux in every pixel, 10 nJy.
    """
    image = np.zeros(wcs.array_shape)
    for x, y, flux, shape in zip(*project_light(light, wcs), strict=True):
        _draw_gaussian(image, x, y, flux, shape)
    return image


def _draw_gaussian(image: Array, x: float, y: float, flux: float, covariance: Array) -> None:
    """Add an elliptical Gaussian to ``image``, integrated over its pixels by Gauss-Legendre quadrature."""
    reach_x, reach_y = REACH * np.sqrt(np.diag(covariance)) + 1
    ny, nx = image.shape
    x0, x1 = max(int(x - reach_x), 0), min(int(x + reach_x) + 2, nx)
    y0, y1 = max(int(y - reach_y), 0), min(int(y + reach_y) + 2, ny)
    if x0 >= x1 or y0 >= y1:
        return
    half_trace = (covariance[0, 0] + covariance[1, 1]) / 2
    determinant = covariance[0, 0] * covariance[1, 1] - covariance[0, 1] ** 2
    narrow = half_trace - np.sqrt(max(half_trace**2 - determinant, 0))  # variance along the minor axis
    # Sums over a grid are exact to exp(-2 (pi sigma)^2); per pixel these hold 3e-5 of the flux from sigma 0.5 up.
    count = 1 if narrow > 16 else 2 if narrow > 1.44 else 3 if narrow > 0.49 else 5 if narrow > 0.16 else 9
    offset, weight = QUADRATURE[count]
    dx = (np.arange(x0, x1)[:, None] + offset - x).ravel()
    dy = (np.arange(y0, y1)[:, None] + offset - y).ravel()
    exponent = np.outer(dy, dx) * (covariance[0, 1] / determinant)
    exponent -= dx**2 * (covariance[1, 1] / determinant / 2)
    exponent -= dy[:, None] ** 2 * (covariance[0, 0] / determinant / 2)
    value = np.exp(exponent, out=exponent) * (flux / (2 * np.pi * np.sqrt(determinant)))
    if count > 1:
        value = value.reshape(y1 - y0, count, x1 - x0, count)
        value = np.einsum("aibj,i,j->ab", value, weight, weight)
    image[y0:y1, x0:x1] += value


def expose(light: Array, area: Array, nominal: float, options: MosaicOptions, rng: np.random.Generator) -> Frame:
    """Expose a detector and calibrate what it recorded.

    Parameters
    ----------
    light : ndarray, shape (ny, nx)
        Flux of the sources in every pixel, 10 nJy.
    area : ndarray, shape (ny, nx)
        Solid angle of every pixel, mosaic pixels.
    nominal : float
        That of the nominal pixel. The flat field scales a pixel to the
        nominal one, so that the sky is flat.
    options : MosaicOptions
        Gain, sky, read noise, bad pixels, exposure time.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    Frame
        The background is subtracted; the variances are electrons / (G t)^2 in DN^2/s^2, scaled to mosaic units.
    """
    electrons_per_rate = options.detector_gain * options.exposure_time
    expected = electrons_per_rate * (options.phot_scale * light + options.sky * area / nominal)
    electrons = rng.poisson(expected) + rng.normal(0.0, options.read_noise, light.shape)
    unit = 1 / (electrons_per_rate * options.phot_scale * area)  # 10 nJy per mosaic pixel, per electron
    data, noiseless = electrons * unit, light / area
    # The mean, sources taken out: the median of a Poisson sky lies 1/6 electron lower, which in a dozen exposures
    # of 800 s adds up to 0.2 sigma of a 1 arcsec aperture.
    data -= np.mean(data - noiseless)
    var_rnoise, var_poisson = (options.read_noise * unit) ** 2, expected * unit**2
    weight = 1 / (var_rnoise + np.median(var_poisson))
    weight[rng.random(light.shape) < options.bad_fraction] = 0
    return Frame(data=data, light=noiseless, weight=weight, variance=var_rnoise + var_poisson)
