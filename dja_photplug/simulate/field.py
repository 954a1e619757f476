"""Simulated real fields: one mosaic straight on its grid, with what makes photometry in real fields go wrong.

No exposures and no drizzle, which take a minute (`dja_photplug.simulate.mosaic`), but their noise: pixels correlated as
by drizzling and beyond it, depth that changes in steps, 1/f stripes, sky left in the mosaic, photons of the sources.
And their sky: counts down to sources that are never detected, Sersic galaxies, and a PSF with wings. What such a field
has that a real one has not is the light of each source alone, as the mosaic would show it without noise.

Light is drawn in Fourier space, where PSF, Sersic profiles (sums of Gaussians) and pixels are analytic: the PSF
lets 1e-5 of the power beyond what pixels of 40 mas can hold, so that neither cusps nor pixel edges need care.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import fft

from dja_photplug.errors import PhotplugError
from dja_photplug.files.written import write_image
from dja_photplug.options.stages import Stage, option
from dja_photplug.simulate.exposures import DETECTOR_SCALE, MosaicOptions, plan_exposures
from dja_photplug.simulate.mosaic import SAMPLE, exposure_header, log_exposures, science_header
from dja_photplug.simulate.scene import PROFILE_LIMITS, SERSIC_INDICES, Array, expand_sersic, field_grid
from dja_photplug.sky.grid import Window

__all__ = ["FieldOptions", "SimulatedField", "draw_psf", "simulate_field", "write_field"]

# F444W by grizli's PSF library, as shares and sigmas of Gaussians for a core of 0.145 arcsec FWHM: 0.47 of the light
# within 0.1 arcsec, 0.91 within 0.6, the rest to 3 arcsec (the library has 0.49, 0.93 and a sum of 0.95).
PSF_SHARE = np.array([0.58, 0.21, 0.08, 0.08, 0.05])
PSF_SIGMA = np.array([0.0616, 0.15, 0.25, 0.55, 1.1]) / 0.145  # of the core's FWHM

COUNTED_FLUX = 0.02  # uJy, above which `density` counts
BREAK_FLUX = 1.0  # uJy, where the counts get steeper

# Sides of the stamps that sources are drawn on: the smallest whose edge is below EDGE_LIGHT of the sky noise.
STAMP_SIDES = (64, 128, 256, 512)
EDGE_LIGHT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldOptions(Stage):
    """The field, its sources and its noise; the defaults are a deep field in F444W."""

    ra: float = option(34.4, "right ascension of the field's centre", unit="deg", minimum=0, maximum=360)
    dec: float = option(-5.2, "declination of the field's centre", unit="deg", minimum=-89, maximum=89)
    shape: tuple[int, int] = option((1500, 1500), "shape (y, x) of the mosaic", minimum=16)
    pixel_scale: float = option(0.04, "its pixel scale", unit="arcsec", minimum=1e-3)
    density: float = option(
        300.0, "sources above 20 nJy in a square arcmin: 300 is a deep field, 900 a crowded one", minimum=0
    )
    flux_range: tuple[float, float] = option((0.002, 100.0), "faintest and brightest flux", unit="uJy", minimum=1e-9)
    # N(>F): 0.24 and 0.4 a magnitude, about what deep counts at 4.4 um have on both sides of magnitude 24.
    counts_slope: tuple[float, float] = option(
        (0.6, 1.0), "slopes of the number counts, N(>F) ~ F^-slope, below and above 1 uJy", minimum=0.01
    )
    star_fraction: float = option(0.1, "share of the stars", minimum=0, maximum=1)
    psf_fwhm: float = option(0.145, "FWHM of the PSF's core, before the pixel; its wings scale with it", unit="arcsec")
    sigma: float = option(
        0.02, "noise of equivalent uncorrelated pixels at the full depth, without photons", unit="10 nJy", minimum=1e-9
    )
    exposure_time: float = option(8374.0, "exposure time at the full depth", unit="s", minimum=1)
    depths: tuple[float, ...] = option(
        (1.0, 0.5, 0.25), "relative exposure time of strips along x of equal width", minimum=0.01, maximum=1
    )
    pixfrac: float = option(0.75, "drop size of the drizzling that correlates the pixels", minimum=0.1, maximum=1)
    excess: float = option(1.4, "a(r) of large apertures, by noise correlated beyond drizzling", minimum=1)
    excess_scale: float = option(0.08, "sigma of the Gaussian that this noise is smoothed by", unit="arcsec", minimum=0)
    stripes: float = option(0.05, "scatter of the 1/f residuals, one of each row and column, in sigma", minimum=0)
    sky_level: float = option(-0.05, "mean of the sky left in the mosaic, in sigma at the full depth")
    sky_scatter: float = option(0.02, "scatter of that sky from place to place, in sigma at the full depth", minimum=0)
    sky_scales: tuple[float, ...] = option(
        (3.0, 20.0), "FWHM of the Gaussians that it is smooth on, with equal variances", unit="arcsec", minimum=0.01
    )
    seed: int = option(1, "seed of sources and noise", minimum=0)
    noise_seed: int | None = option(
        None,
        "seed of photons, noise and sky, where they are those of another image of the same sources",
        kind=int,
        minimum=0,
    )

    def __post_init__(self) -> None:
        """Check each field, then the pairs, and that pixels sample the PSF."""
        Stage.__post_init__(self)  # a bare super() does not survive slots=True, which makes a second class object
        if len(self.shape) != 2:
            raise PhotplugError(f"option shape: {self.shape} is not a height and a width")
        if len(self.flux_range) != 2 or self.flux_range[0] >= self.flux_range[1]:
            raise PhotplugError(f"option flux_range: {self.flux_range} is not a flux and a larger one")
        if len(self.counts_slope) != 2:
            raise PhotplugError(f"option counts_slope: {self.counts_slope} is not a slope below 1 uJy and one above")
        if self.psf_fwhm < 3 * self.pixel_scale:
            raise PhotplugError(
                f"option psf_fwhm: {self.psf_fwhm} arcsec is below three pixels of {self.pixel_scale} arcsec, "
                "which do not sample it"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedField:
    """One mosaic and its truth; planes are (ny, nx), in 10 nJy and its powers.

    Attributes
    ----------
    science : ndarray
        float32: light, photons' noise, sky and the noise of the background.
    weight : ndarray
        Published weight: inverse variance of the background.
    full : ndarray
        Full weight as the noise preset ``calibrated`` makes it from `science`: 1 / (1 / weight + science / electrons).
    electrons : ndarray
        Electrons in a pixel value of 1.
    mask : ndarray of bool
        Pixels without data.
    zones : ndarray of int
        Number of the depth zone in `FieldOptions.depths`.
    truth : ndarray
        float64: the light of all sources without noise.
    wcs : `~astropy.wcs.WCS`
    sources : `~astropy.table.QTable`
        ``id ra dec x y`` (0-based pixels), ``flux`` (uJy, total), ``size`` (half-light radius along the major axis
        before the PSF, arcsec; 0 for stars), ``axis_ratio``, ``theta`` (deg, from +x to +y), ``sersic`` (0 for stars),
        ``star``.
    options : FieldOptions
    """

    science: NDArray[np.float32]
    weight: NDArray[np.float32]
    full: NDArray[np.float32]
    electrons: NDArray[np.float32]
    mask: NDArray[np.bool_]
    zones: NDArray[np.int8]
    truth: Array
    wcs: WCS
    sources: QTable
    options: FieldOptions

    def own_light(self, i: int) -> tuple[Window, Array]:
        """Return the light of one source alone, without noise.

        Parameters
        ----------
        i : int
            Row of `sources`.

        Returns
        -------
        window : tuple of slice
            Rows and columns of the mosaic outside of which it is below 1 % of the sky noise.
        stamp : ndarray
            Flux in each pixel there, 10 nJy. The stamps of all sources sum to `truth`.
        """
        return _draw_source(_tabulate(self.sources, slice(i, i + 1))[0], self.options)


def _tabulate(sources: QTable, rows: slice = slice(None)) -> Array:
    """What `_draw_source` needs of sources, (n, 7)."""
    names = ("x", "y", "flux", "size", "axis_ratio", "theta", "sersic")
    return np.column_stack([u.Quantity(sources[name][rows]).value for name in names])


def simulate_field(options: FieldOptions, sources: QTable | None = None) -> SimulatedField:
    """Simulate a mosaic of a real field.

    Parameters
    ----------
    options : FieldOptions
    sources : `~astropy.table.QTable`, optional
        With the columns of `SimulatedField.sources`, instead of those that are drawn: the same in another band.

    Returns
    -------
    SimulatedField
        Photons are drawn from the electrons of each pixel, so the noise of a source's light is that of independent
        pixels; drizzling would correlate it too, and lower its share in apertures of a few pixels.

    Examples
    --------
    >>> field = simulate_field(FieldOptions(shape=(60, 80), density=0))
    >>> field.science.shape, len(field.sources), field.zones[0, [0, 40, 79]].tolist()
    ((60, 80), 0, [0, 1, 2])
    """
    rng = np.random.default_rng(options.seed)
    wcs = field_grid(options.ra, options.dec, options.shape, options.pixel_scale)
    sources = _draw_sources(options, wcs, rng) if sources is None else sources
    if options.noise_seed is not None:
        rng = np.random.default_rng(options.noise_seed)
    truth = np.zeros(options.shape)
    for source in _tabulate(sources):
        window, stamp = _draw_source(source, options)
        truth[window] += stamp
    zones, seconds = _lay_zones(options)
    mosaic = _mosaic_options(options)
    electrons = seconds * mosaic.detector_gain * mosaic.phot_scale
    sigma = options.sigma * np.sqrt(seconds.max() / seconds)
    photons = rng.poisson(np.maximum(truth, 0) * electrons) / electrons
    noise = sigma * _draw_noise(options, rng) + options.sigma * _draw_sky(options, rng)
    science = (photons + noise).astype(np.float32)
    return SimulatedField(
        science=science,
        weight=(sigma**-2).astype(np.float32),
        full=(1 / (sigma**2 + np.maximum(science, 0) / electrons)).astype(np.float32),
        electrons=electrons.astype(np.float32),
        mask=np.zeros(options.shape, bool),
        zones=zones,
        truth=truth,
        wcs=wcs,
        sources=sources,
        options=options,
    )


def _draw_sources(options: FieldOptions, wcs: WCS, rng: np.random.Generator) -> QTable:
    """Sources anywhere in the field, as many as the counts say."""
    ny, nx = options.shape
    area = nx * ny * (options.pixel_scale / 60) ** 2
    faint, counted, bright = _count((options.flux_range[0], COUNTED_FLUX, options.flux_range[1]), options)
    n = round(options.density * area * (faint - bright) / (counted - bright)) if options.density else 0
    flux = _invert_count(bright + rng.random(n) * (faint - bright), options)
    star = rng.random(n) < options.star_fraction
    # Brighter galaxies are larger: 0.15 arcsec at 1 uJy with a scatter of 0.2 dex, and one in fifty twice as large.
    size = np.clip(0.15 * flux**0.2 * 10 ** rng.normal(0, 0.2, n), 0.05, 0.5) * np.where(rng.random(n) < 0.02, 2, 1)
    x, y = rng.uniform(-0.5, [[nx - 0.5], [ny - 0.5]], (2, n))
    ra, dec = wcs.wcs_pix2world(x, y, 0) if n else (x, y)
    sources = QTable({"id": np.arange(1, n + 1), "ra": ra * u.deg, "dec": dec * u.deg, "x": x * u.pix, "y": y * u.pix})
    sources["flux"] = flux * u.uJy
    sources["size"] = np.where(star, 0, size) * u.arcsec
    sources["axis_ratio"] = np.where(star, 1, rng.uniform(0.3, 1, n))
    sources["theta"] = np.where(star, 0, rng.uniform(-90, 90, n)) * u.deg
    sources["sersic"] = np.where(star, 0, rng.choice(SERSIC_INDICES, n))
    sources["star"] = star
    return sources


def _count(flux: tuple[float, ...], options: FieldOptions) -> Array:
    """Counts above fluxes (uJy), in units of those above the break."""
    ratio = np.array(flux) / BREAK_FLUX
    return ratio ** -np.where(ratio < 1, *options.counts_slope)


def _invert_count(count: Array, options: FieldOptions) -> Array:
    """Fluxes (uJy) above which there are such counts."""
    return BREAK_FLUX * count ** (-1 / np.where(count > 1, *options.counts_slope))


def _draw_source(source: Array, options: FieldOptions) -> tuple[Window, Array]:
    """Light of one source on the part of the mosaic that it reaches, 10 nJy: PSF, profile and pixel multiplied."""
    x, y, flux, size, axis_ratio, theta, sersic = source.tolist()
    flux, size = 100 * flux, size / options.pixel_scale
    share, spread = expand_sersic(sersic, PROFILE_LIMITS) if sersic > 0 else (np.ones(1), np.zeros(1))
    side = _choose_side(flux, size, axis_ratio, share, spread, options)
    left, low = (int(np.floor(centre + 0.5)) - side // 2 for centre in (x, y))
    ky, kx = fft.fftfreq(side)[:, None], fft.rfftfreq(side)
    transform = _transform_psf(side, options.psf_fwhm / options.pixel_scale) * flux
    if size > 0:
        cosine, sine = np.cos(np.radians(theta)), np.sin(np.radians(theta))
        major, minor = kx * cosine + ky * sine, ky * cosine - kx * sine
        squared = -2 * (np.pi * size) ** 2 * (major**2 + (axis_ratio * minor) ** 2)
        transform = transform * sum(
            part * np.exp(squared * sigma**2) for part, sigma in zip(share, spread, strict=True)
        )
    shift = np.exp(-2j * np.pi * (y - low) * ky) * np.exp(-2j * np.pi * (x - left) * kx)
    stamp = fft.irfft2(transform * shift, (side, side))
    ny, nx = options.shape
    window = (slice(max(low, 0), min(low + side, ny)), slice(max(left, 0), min(left + side, nx)))
    return window, stamp[window[0].start - low : window[0].stop - low, window[1].start - left : window[1].stop - left]


def _choose_side(
    flux: float, size: float, axis_ratio: float, share: Array, spread: Array, options: FieldOptions
) -> int:
    """Side of the smallest stamp at whose edge the profile along the major axis is below `EDGE_LIGHT` of the noise."""
    psf = (PSF_SIGMA[:, None] * options.psf_fwhm / options.pixel_scale) ** 2
    major, minor = psf + (spread * size) ** 2, psf + (spread * size * axis_ratio) ** 2
    peak = flux * PSF_SHARE[:, None] * share / (2 * np.pi * np.sqrt(major * minor))
    fitting = (
        side for side in STAMP_SIDES if np.sum(peak * np.exp(-(side**2) / 8 / major)) < EDGE_LIGHT * options.sigma
    )
    return next(fitting, STAMP_SIDES[-1])


@cache
def _transform_psf(side: int, fwhm: float) -> Array:
    """Fourier transform of the PSF integrated over pixels, (side, side // 2 + 1); 1 at frequency 0."""
    ky, kx = fft.fftfreq(side)[:, None], fft.rfftfreq(side)
    widths = 2 * (np.pi * PSF_SIGMA * fwhm) ** 2
    psf = np.tensordot(PSF_SHARE, np.exp(-widths[:, None, None] * (kx**2 + ky**2)), 1)
    return psf * np.sinc(kx) * np.sinc(ky)


def draw_psf(options: FieldOptions, side: int = 251) -> Array:
    """Return the image of a star of unit flux in the middle pixel of a stamp.

    Parameters
    ----------
    options : FieldOptions
        Its PSF and pixel scale.
    side : int, optional
        Of the stamp in pixels, odd; the wings of the default PSF end within the default.

    Returns
    -------
    ndarray
        (side, side), of sum 1.
    """
    return fft.fftshift(fft.irfft2(_transform_psf(side, options.psf_fwhm / options.pixel_scale), (side, side)))


def _lay_zones(options: FieldOptions) -> tuple[NDArray[np.int8], Array]:
    """Number of the depth zone and exposure time (whole seconds) of each pixel.

    Strips begin where samples of the exposure map do: sample k is nearest to pixels 4k-2 .. 4k+1.
    """
    ny, nx = options.shape
    sample = np.minimum((np.arange(nx) + SAMPLE // 2) // SAMPLE, nx // SAMPLE - 1)
    zone = (sample * len(options.depths) // (nx // SAMPLE)).astype(np.int8)
    seconds = np.round(options.exposure_time * np.array(options.depths))[zone]
    return np.tile(zone, (ny, 1)), np.tile(seconds, (ny, 1))


def _draw_noise(options: FieldOptions, rng: np.random.Generator) -> Array:
    """Noise of the background for sigma = 1: correlated by drizzling and beyond, and 1/f stripes."""
    ny, nx = options.shape
    ky, kx = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)
    power = _drizzle_power(kx, options) * _drizzle_power(ky, options)
    scale = options.excess_scale / options.pixel_scale
    power += (options.excess**2 - 1) * np.exp(-((2 * np.pi * scale) ** 2) * (kx**2 + ky**2))
    noise = fft.irfft2(fft.rfft2(rng.standard_normal((ny, nx))) * np.sqrt(power), (ny, nx))
    return noise + options.stripes * (rng.standard_normal((ny, 1)) + rng.standard_normal(nx))


def _drizzle_power(k: Array, options: FieldOptions) -> Array:
    """Power spectrum, along one axis, of white noise on detectors drizzled at random places; 1 at frequency 0.

    A drop of d mosaic pixels contributes what it shares with a pixel, so the covariance at lag l is that of four boxes
    of sides d, d, 1 and 1 convolved with each other.
    """
    drop = options.pixfrac * DETECTOR_SCALE / options.pixel_scale
    lags = np.arange(-int(drop) - 1, int(drop) + 2)
    ends = lags[:, None, None] + drop * np.array([-1, 0, 1])[:, None] + np.array([-1, 0, 1])
    difference = np.array([1, -2, 1])
    covariance = np.einsum("lij,i,j", np.abs(ends) ** 3, difference, difference) / (12 * drop**2)
    return np.maximum(np.tensordot(covariance, np.cos(2 * np.pi * np.multiply.outer(lags, k)), 1), 0)


def _draw_sky(options: FieldOptions, rng: np.random.Generator) -> Array:
    """Sky left in the mosaic, in sigma."""
    ny, nx = options.shape
    k2 = fft.fftfreq(ny)[:, None] ** 2 + fft.rfftfreq(nx) ** 2
    sky = np.zeros(options.shape)
    for fwhm in options.sky_scales if options.sky_scatter else ():
        smooth = np.exp(-2 * (np.pi * fwhm / options.pixel_scale / np.sqrt(8 * np.log(2))) ** 2 * k2)
        smooth[0, 0] = 0
        part = fft.irfft2(fft.rfft2(rng.standard_normal((ny, nx))) * smooth, (ny, nx))
        sky += part / np.std(part)
    return options.sky_level + options.sky_scatter / np.sqrt(len(options.sky_scales)) * sky


def _mosaic_options(options: FieldOptions, root: str = "sim-v1", filter: str = "f444w-clear") -> MosaicOptions:
    """A mosaic of one exposure with the time, gain and photometric scale of the field."""
    return MosaicOptions(
        root=root,
        filter=filter,
        exposure_time=round(options.exposure_time * max(options.depths)),
        position_angles=(0.0,),
        n_exposures=1,
        pixfrac=options.pixfrac,
    )


def write_field(field: SimulatedField, folder: Path | str, root: str, filter: str = "f444w-clear") -> Path:
    """Write a field as products of the archive: science, weight and exposure map.

    Parameters
    ----------
    field : SimulatedField
    folder : Path or str
        Made if it is not there; existing files are replaced.
    root : str
        Of the file names, as the archive's: ``sim-v1``.
    filter : str
        As the archive spells it.

    Returns
    -------
    Path
        Prefix ``{folder}/{root}-{filter}`` of ``_drc_sci.fits``, ``_drc_wht.fits`` and ``_drc_exp.fits``. The preset
        ``calibrated`` gives them the full weight of `field`; there is no WCS log.
    """
    prefix = Path(folder) / f"{root}-{filter}"
    prefix.parent.mkdir(parents=True, exist_ok=True)
    options = _mosaic_options(field.options, root, filter)
    log = log_exposures(plan_exposures(field.wcs, options, np.random.default_rng(0)), options)
    header = science_header(field.wcs, log, [float(np.median(field.weight))], options)
    write_image(Path(f"{prefix}_drc_sci.fits"), field.science, header, overwrite=True)
    write_image(Path(f"{prefix}_drc_wht.fits"), field.weight, header, overwrite=True)
    ny, nx = field.options.shape
    seconds = _lay_zones(field.options)[1][::SAMPLE, ::SAMPLE][: ny // SAMPLE, : nx // SAMPLE].astype(np.uint32)
    header = exposure_header(header, field.wcs, options)
    write_image(Path(f"{prefix}_drc_exp.fits"), seconds, header, overwrite=True)
    return prefix
