"""Stamps: all that a fitting code needs of one source, cut from a mosaic that is loaded once.

A stamp's sigma image is that of equivalent uncorrelated pixels, as the full weight is, and is never rescaled. Two
numbers beside it say what a fit makes of that: `Stamp.pixel_scatter`, the scatter of data / sigma on empty sky, whose
square is the chi-squared per degree of freedom of a perfect fit, and `Stamp.error_factor`, by which the formal errors
of the fit are multiplied because noise that is correlated over a source's area does not average out as sigma says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from dja_photplug.calibration.curve import combine_variance
from dja_photplug.errors import PhotplugError
from dja_photplug.files.smallfits import read_cards, write_card
from dja_photplug.fitting.field import Component, Field, FitSources, Window, measure_scatter
from dja_photplug.fitting.headers import NULL_SIGMA
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.commands import GalfitOptions
from dja_photplug.psf.regions import NOT_COVERED
from dja_photplug.psf.sampling import prepare_psf
from dja_photplug.sky.grid import header_wcs
from dja_photplug.sky.position import format_position
from dja_photplug.units import MOSAIC_ZERO_POINT, flux_ratio

__all__ = ["AUTO_RANGE", "Stamp", "cut_stamps"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# The scatter of n drizzled pixels, of which about 4 are correlated, is known to 1.17 / sqrt(n / 4): here to 5 %.
FEWEST_EMPTY = 2000
# Arcsec that empty sky keeps from segments, whose light goes on: around the brightest of the UDS F444W cut-out the
# scatter is 0.74 at 0.12 arcsec and 0.70 from 0.3 on.
SKY_MARGIN = 0.3

# Side of an automatic stamp: 2.5 semi-major Kron axes on each side, beyond which n = 4 has 7 % of its light, and
# half an arcsec of sky; in arcsec.
AUTO_AXES, AUTO_MARGIN, AUTO_RANGE = 5, 1.0, (3.0, 20.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stamp:
    """One target and its surroundings; all planes are square with an odd side and the target's pixel in the middle.

    Attributes
    ----------
    name : str
        Of its files.
    data, sigma : ndarray
        float32 in 10 nJy; without data (also off the mosaic) 0 and :data:`NULL_SIGMA`. Both are finite everywhere.
    mask : ndarray of bool
        True where there are no data, and for neighbours that are not fitted.
    segmentation : ndarray
        int32, labelled by ``id``; that of the target is ``components[0].id``.
    psf : ndarray or None
        float32, odd, sum 1.
    components : tuple of Component
        The target, then the neighbours that are fitted with it.
    ra, dec : float
        Of the target, deg.
    noise : str
        Preset of the full weight.
    cards : dict of str to str
        Of the science stamp, with its WCS and provenance.
    grid : dict of str to str
        The cards of the WCS alone.
    scale, zero_point : float
        Arcsec per pixel; AB magnitude of one unit of the data.
    pixel_scatter : float or None
        Robust scatter of data / sigma on empty sky; None where there is none.
    background_factor : float or None
        a(r) at the circularised Kron radius; None without calibration.
    error_factor : float or None
        By which formal errors of the target are multiplied: ``sqrt((a(r)^2 B + P) / (B + P))`` for the variances of
        background and source photons in the Kron ellipse. None without calibration.
    """

    name: str
    data: NDArray[np.float32]
    sigma: NDArray[np.float32]
    mask: Bools
    segmentation: NDArray[np.int32]
    psf: NDArray[np.float32] | None
    components: tuple[Component, ...]
    ra: float
    dec: float
    noise: str
    cards: dict[str, str]
    grid: dict[str, str]
    scale: float
    zero_point: float
    pixel_scatter: float | None
    background_factor: float | None
    error_factor: float | None

    @property
    def wcs(self) -> WCS:
        """WCS of the stamp."""
        return header_wcs(read_cards(self.grid))

    @property
    def header(self) -> fits.Header:
        """Header of the science stamp, with its WCS and provenance."""
        return read_cards(self.cards)


def cut_stamps(
    image: MosaicImage, sources: FitSources, options: GalfitOptions, *, joint: bool = True
) -> Iterator[Stamp]:
    """Yield a stamp for each target.

    Parameters
    ----------
    image : MosaicImage
    sources : FitSources
    options : GalfitOptions
        Size, mask, components and start of the fit.
    joint : bool, optional
        False masks all neighbours, for codes that fit one source.

    Yields
    ------
    Stamp
        In the order of the targets.

    Raises
    ------
    PhotplugError
        Where the table misses a column, or a target lies off the mosaic or has no data.
    """
    field = Field(image, sources, options, joint)
    for name, number in sources.targets.items():
        yield _cut_stamp(field, name, field.row[number])


def _grow(pixels: Bools, radius: float) -> Bools:
    """Return the pixels no farther than `radius` pixels from one of `pixels`."""
    # Without any, the distance is to nowhere and arbitrary. The scale, and so the radius, has rounding errors.
    return distance_transform_edt(~pixels) <= radius + 1e-3 if pixels.any() else pixels


def _place(field: Field, name: str, i: int) -> Window:
    """Return the window of a stamp."""
    x, y, (ny, nx) = field.x[i], field.y[i], field.data.shape
    if not (-0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5):
        raise PhotplugError(
            f"{name} lies at x, y = {x:.1f}, {y:.1f}, off the mosaic of {nx} x {ny} pixels; choose a place on it"
        )
    size = field.options.size
    if size is None:
        size = np.clip(AUTO_AXES * field.major[i] * field.scale + AUTO_MARGIN, *AUTO_RANGE)
    half = int(np.ceil(size / field.scale / 2 - 0.5 - 1e-6))
    return Window(round(x) - half, round(y) - half, 2 * half + 1)


def _read_pixels(field: Field, window: Window) -> tuple[NDArray[np.float32], NDArray[np.float32], Bools]:
    """Return data, sigma and the pixels without data of a stamp."""
    data, weight = window.cut(field.data, 0), window.cut(field.weight, 0)
    # A sigma above NULL_SIGMA says no more than none.
    bad = ~(weight > NULL_SIGMA**-2) | ~np.isfinite(weight) | ~np.isfinite(data)
    if field.mask is not None:
        bad |= window.cut(field.mask, True)
    data[bad], weight[bad] = 0, NULL_SIGMA**-2
    return data, 1 / np.sqrt(weight), bad


def _choose_joint(field: Field, i: int, labels: NDArray[np.int32], window: Window) -> list[int]:
    """Return the neighbours that are fitted, of those with `labels`: bright, and centred on the stamp."""
    if not field.joint:
        return []
    faintest = np.fmax(field.flux[i], 0) * flux_ratio(-field.options.joint)
    near = [field.row[label] for label in np.unique(labels).tolist() if label in field.row]
    return [
        j
        for j in near
        if j != i and field.flux[j] > faintest and window.offset(field.x[j], field.y[j]) <= window.side / 2
    ]


def _scale_errors(field: Field, i: int, background: Floats, total: Floats) -> tuple[float | None, float | None]:
    """Return a(r) at the Kron radius of source `i` and the factor of errors, from the variances of its pixels."""
    if field.calibration is None:
        return None, None
    radius = np.sqrt(field.major[i] * field.minor[i]) * field.scale
    factor = field.calibration(radius, np.median(background))
    return float(factor), float(np.sqrt(combine_variance(background.sum(), total.sum(), factor) / total.sum()))


def _make_kernel(field: Field, name: str, i: int) -> NDArray[np.float32]:
    """Return the PSF of a place on the pixels of the image, made once for each region."""
    assert field.psf is not None
    region = int(field.psf.regions_at(SkyCoord(field.ra[i], field.dec[i], unit="deg")))
    if region == NOT_COVERED:
        place = format_position(field.ra[i], field.dec[i])
        raise PhotplugError(
            f"{field.psf.name}: no PSF for {name} at {place}; give a PSF for that position, or choose another target"
        )
    if region not in field.kernels:
        field.kernels[region] = prepare_psf(field.psf.stamps[region], field.scale)
    return field.kernels[region]


def _cut_stamp(field: Field, name: str, i: int) -> Stamp:
    window = _place(field, name, i)
    data, sigma, bad = _read_pixels(field, window)
    ellipse = field.ellipse(i, window)
    used = ellipse & ~bad
    if not used.any():
        raise PhotplugError(f"{name} has no pixel with data in its Kron ellipse; choose a place with exposures")
    segmentation, margin = field.segments(window, i), field.options.margin / field.scale
    joint = _choose_joint(field, i, segmentation[field.ellipse(i, window, margin)], window)
    fitted = np.isin(segmentation, field.id[[i, *joint]])
    neighbours = _grow((segmentation > 0) & ~fitted, margin) & ~fitted
    empty = ~(bad | _grow(segmentation > 0, SKY_MARGIN / field.scale))
    scatter = measure_scatter(data[empty] / sigma[empty]) if empty.sum() >= FEWEST_EMPTY else field.pixel_scatter
    total = np.square(sigma[used], dtype=float)
    with np.errstate(divide="ignore"):
        background = np.fmin(1 / window.cut(field.background, 0)[used], total)
    background_factor, error_factor = _scale_errors(field, i, background, total)
    place = {"CRPIX1": field.grid["CRPIX1"] - window.x, "CRPIX2": field.grid["CRPIX2"] - window.y}
    told = {"TARGET": name, "RA_TARG": field.ra[i], "DEC_TARG": field.dec[i], "NCOMP": 1 + len(joint)}
    factors = {"PIXSCAT": scatter, "CHI2EXP": scatter and scatter**2}
    factors |= {"AR_KRON": background_factor, "ERRFACT": error_factor}
    values = told | place | {key: round(factor, 4) for key, factor in factors.items() if factor is not None}
    cards = {key: write_card(key, value, field.header.comments[key]) for key, value in values.items()}
    return Stamp(
        name=name,
        data=data,
        sigma=sigma,
        mask=bad | neighbours,
        segmentation=segmentation,
        psf=None if field.psf is None else _make_kernel(field, name, i),
        components=tuple(field.component(j, window, np.sqrt(total.sum())) for j in (i, *joint)),
        ra=float(field.ra[i]),
        dec=float(field.dec[i]),
        noise=str(field.header.get("NOISE", "unknown")),
        cards=field.cards | cards,
        grid=field.grid_cards | {key: cards[key] for key in place},
        scale=field.scale,
        zero_point=MOSAIC_ZERO_POINT,
        pixel_scatter=scatter,
        background_factor=background_factor,
        error_factor=error_factor,
    )
