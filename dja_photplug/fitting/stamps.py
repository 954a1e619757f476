"""Stamps: all that a fitting code needs of one source, cut from a mosaic that is loaded once.

A stamp's sigma image is that of equivalent uncorrelated pixels, as the full weight is, and is never rescaled. Two
numbers beside it say what a fit makes of that: `Stamp.pixel_scatter`, the scatter of data / sigma on empty sky, whose
square is the chi-squared per degree of freedom of a perfect fit, and `Stamp.error_factor`, by which the formal errors
of the fit are multiplied because noise that is correlated over a source's area does not average out as sigma says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.stats import mad_std
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from dja_photplug.calibration.curve import NoiseCalibration, combine_variance
from dja_photplug.catalog.columns import column_values
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.smallfits import read_cards, write_card
from dja_photplug.fitting.headers import NULL_SIGMA, describe_field
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.commands import GalfitOptions
from dja_photplug.options.stages import MeasureOptions
from dja_photplug.psf.regions import NOT_COVERED, PSFModel
from dja_photplug.psf.sampling import prepare_psf
from dja_photplug.sky.cards import read_numbers
from dja_photplug.sky.grid import Scalar, cut_window, header_wcs, pixel_positions, pixel_scale
from dja_photplug.sky.position import format_position
from dja_photplug.units import MOSAIC_UNIT, MOSAIC_ZERO_POINT, convert, flux_ratio, magnitude_of

__all__ = [
    "SOURCE_COLUMNS",
    "Component",
    "FitSources",
    "Stamp",
    "cut_stamps",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# The scatter of n drizzled pixels, of which about 4 are correlated, is known to 1.17 / sqrt(n / 4): here to 5 %.
FEWEST_EMPTY = 2000
MOST_EMPTY = 1_000_000
# Arcsec that empty sky keeps from segments, whose light goes on: around the brightest of the UDS F444W cut-out the
# scatter is 0.74 at 0.12 arcsec and 0.70 from 0.3 on.
SKY_MARGIN = 0.3

# Side of an automatic stamp: 2.5 semi-major Kron axes on each side, beyond which n = 4 has 7 % of its light, and
# half an arcsec of sky; in arcsec.
AUTO_AXES, AUTO_MARGIN, AUTO_RANGE = 5, 1.0, (3.0, 20.0)

SOURCE_COLUMNS = {"ra": "deg", "dec": "deg", "a": "arcsec", "b": "arcsec", "theta": "deg", "kron_radius": ""} | {
    "flux_radius": "arcsec"
}
"""Columns of a catalogue that stamps are made from, beside ``id`` and the flux, with their units."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitSources:
    """The sources of a mosaic, and those to be fitted among them.

    Attributes
    ----------
    table : `~astropy.table.QTable`
        With ``id``, the columns of :data:`SOURCE_COLUMNS`, and fluxes.
    targets : mapping of str to int
        Name of each stamp and ``id`` of its source.
    segmentation : ndarray or None
        Of the image's shape (ny, nx), labelled by ``id``; without it Kron ellipses stand in.
    psf : PSFModel or None
        Of any size and pixel scale; each stamp gets that of its target's place.
    calibration : NoiseCalibration or None
        a(r), for the factor of errors.
    """

    table: QTable
    targets: Mapping[str, int]
    segmentation: NDArray[np.integer] | None = None
    psf: PSFModel | None = None
    calibration: NoiseCalibration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Starting values of one Sersic profile on a stamp.

    Attributes
    ----------
    id : int
        Of the source in the catalogue.
    x, y : float
        Pixels of the stamp, 0-based.
    magnitude : float
        Total, AB.
    radius : float
        Half-light radius along the major axis, PSF included, in pixels.
    index : float
        Sersic's n.
    axis_ratio : float
        b/a.
    theta : float
        Angle of the major axis counter-clockwise from +x, deg.

    Examples
    --------
    >>> Component(id=1, x=10, y=10, magnitude=25, radius=3, index=1, axis_ratio=0.5, theta=30).position_angle
    -60.0
    """

    id: int
    x: float
    y: float
    magnitude: float
    radius: float
    index: float
    axis_ratio: float
    theta: float

    @property
    def position_angle(self) -> float:
        """Angle of the major axis counter-clockwise from +y, as galfit and imfit count it, -90 to 90 deg."""
        return float((self.theta % 180) - 90)


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
    field = _Field(image, sources, options, joint)
    for name, number in sources.targets.items():
        yield _cut_stamp(field, name, field.row[number])


@dataclass(frozen=True, slots=True)
class _Window:
    """A square of the mosaic, its first pixel at ``x y``, which may be off the mosaic."""

    x: int
    y: int
    side: int

    def cut(self, plane: NDArray[Scalar], fill: float) -> NDArray[Scalar]:
        """Return a copy of the pixels of a plane, `fill` where they are off the mosaic."""
        return cut_window(plane, (self.y, self.x), (self.side, self.side), fill)

    def offset(self, x: Floats | float, y: Floats | float) -> Floats:
        """Return how far positions are from the middle, in pixels along the farther axis."""
        return np.maximum(np.abs(x - self.x - self.side // 2), np.abs(y - self.y - self.side // 2))


class _Field:
    """What all stamps of one image share: planes, sources in pixels, and headers."""

    def __init__(self, image: MosaicImage, sources: FitSources, options: GalfitOptions, joint: bool) -> None:
        self.joint, self.options, self.segmentation, self.psf = joint, options, sources.segmentation, sources.psf
        self.calibration, self.scale = sources.calibration, pixel_scale(image.wcs)
        self.kernels: dict[int, NDArray[np.float32]] = {}
        self.data, self.weight, self.mask = image.data, image.uncertainty.array, image.mask
        self.background = self.weight if image.background_weight is None else image.background_weight
        columns = _read_columns(sources.table, options.flux)
        self.id = np.asarray(sources.table["id"]).astype(int)
        self.row = {number: i for i, number in enumerate(self.id.tolist())}
        self.ra, self.dec = columns["ra"], columns["dec"]
        self.x, self.y = pixel_positions(image.wcs, self.ra, self.dec)
        self.flux = columns[options.flux]
        self.theta = np.nan_to_num(columns["theta"])
        a, b, kron = (columns[name] for name in ("a", "b", "kron_radius"))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.axis_ratio = np.clip(np.nan_to_num(b / a, nan=1.0), 0.05, 1)
        known = read_numbers(sources.table.meta, (), "correct the metadata of the catalogue", optional=["KRONCIRC"])
        least = known.get("KRONCIRC", MeasureOptions().kron_circle)
        major, minor, *_ = kron_apertures(a, b, self.theta, kron, least)
        self.major, self.minor = major / self.scale, minor / self.scale
        # A circle holds half the light of an ellipse of equal area; below half a pixel there is nothing to start from.
        half_light = np.fmax(columns["flux_radius"] / self.scale, 0.5)
        self.radius = half_light / np.sqrt(self.axis_ratio)
        self.grid = image.wcs.to_header()
        self.header = self.grid + describe_field(image.meta, calibrated=sources.calibration is not None)
        # Text, because copying and changing 1,000 headers takes as long as cutting the pixels.
        self.cards, self.grid_cards = (
            {card.keyword: str(card) for card in header.cards} for header in (self.header, self.grid)
        )
        self.pixel_scatter = self._measure_scatter()

    def _measure_scatter(self) -> float | None:
        """Return the pixel scatter of the mosaic, of every n-th pixel where there are many."""
        step = int(np.ceil(np.sqrt(self.data.size / MOST_EMPTY)))
        part = np.s_[::step, ::step]
        empty = (self.weight[part] > 0) & np.isfinite(self.data[part])
        if self.segmentation is not None:
            empty &= self.segmentation[part] == 0
        return _pixel_scatter(self.data[part][empty] * np.sqrt(self.weight[part][empty]))

    def segments(self, window: _Window, target: int) -> NDArray[np.int32]:
        """Return the segmentation of a stamp, or Kron ellipses of the sources, the target's on top."""
        if self.segmentation is not None:
            return window.cut(self.segmentation, 0).astype(np.int32, copy=False)
        drawn = np.zeros((window.side, window.side), np.int32)
        near = np.flatnonzero(window.offset(self.x, self.y) < window.side / 2 + self.major)
        for i in [*near[np.argsort(np.nan_to_num(self.flux[near]))], target]:
            drawn[self.ellipse(i, window)] = self.id[i]
        return drawn

    def ellipse(self, i: int, window: _Window, margin: float = 0) -> Bools:
        """Return the pixels of a stamp in the Kron ellipse of source `i`, its axes longer by `margin` pixels."""
        inside = np.zeros((window.side, window.side), bool)
        where = self.x[i] - window.x, self.y[i] - window.y
        axes = self.major[i] + margin, self.minor[i] + margin
        sep.mask_ellipse(inside, *where, *axes, np.deg2rad(self.theta[i]))
        return inside

    def component(self, i: int, window: _Window, faintest: float) -> Component:
        """Return the starting values of source `i`, no fainter than the flux `faintest` (10 nJy)."""
        return Component(
            id=int(self.id[i]),
            x=float(self.x[i] - window.x),
            y=float(self.y[i] - window.y),
            magnitude=float(magnitude_of(np.fmax(self.flux[i], faintest), MOSAIC_ZERO_POINT)),
            radius=float(self.radius[i]),
            index=self.options.index,
            axis_ratio=float(self.axis_ratio[i]),
            theta=float(self.theta[i]),
        )


def _read_columns(table: QTable, flux: str) -> dict[str, Floats]:
    """Return plain columns in the units of :data:`SOURCE_COLUMNS`, the flux in those of the mosaic."""
    missing = [name for name in ("id", *SOURCE_COLUMNS, flux) if name not in table.colnames]
    if missing:
        # Only the name of the flux is the user's.
        meant = suggest(flux, table.colnames) if missing == [flux] else ""
        advice = meant or "; make stamps of one that `catalog` wrote"
        raise PhotplugError(f"the catalogue has no column {', '.join(missing)}{advice}")
    ours = SOURCE_COLUMNS | {"kron_radius": u.dimensionless_unscaled}
    columns = {name: column_values(table, name, unit) for name, unit in ours.items()}
    return columns | {flux: convert(column_values(table, flux, "uJy"), u.uJy, MOSAIC_UNIT)}


def _pixel_scatter(ratio: NDArray[np.floating]) -> float | None:
    return float(mad_std(ratio)) if ratio.size else None


def _grow(pixels: Bools, radius: float) -> Bools:
    """Return the pixels no farther than `radius` pixels from one of `pixels`."""
    # Without any, the distance is to nowhere and arbitrary. The scale, and so the radius, has rounding errors.
    return distance_transform_edt(~pixels) <= radius + 1e-3 if pixels.any() else pixels


def _place(field: _Field, name: str, i: int) -> _Window:
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
    return _Window(round(x) - half, round(y) - half, 2 * half + 1)


def _read_pixels(field: _Field, window: _Window) -> tuple[NDArray[np.float32], NDArray[np.float32], Bools]:
    """Return data, sigma and the pixels without data of a stamp."""
    data, weight = window.cut(field.data, 0), window.cut(field.weight, 0)
    # A sigma above NULL_SIGMA says no more than none.
    bad = ~(weight > NULL_SIGMA**-2) | ~np.isfinite(weight) | ~np.isfinite(data)
    if field.mask is not None:
        bad |= window.cut(field.mask, True)
    data[bad], weight[bad] = 0, NULL_SIGMA**-2
    return data, 1 / np.sqrt(weight), bad


def _choose_joint(field: _Field, i: int, labels: NDArray[np.int32], window: _Window) -> list[int]:
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


def _scale_errors(field: _Field, i: int, background: Floats, total: Floats) -> tuple[float | None, float | None]:
    """Return a(r) at the Kron radius of source `i` and the factor of errors, from the variances of its pixels."""
    if field.calibration is None:
        return None, None
    radius = np.sqrt(field.major[i] * field.minor[i]) * field.scale
    factor = field.calibration(radius, np.median(background))
    return float(factor), float(np.sqrt(combine_variance(background.sum(), total.sum(), factor) / total.sum()))


def _make_kernel(field: _Field, name: str, i: int) -> NDArray[np.float32]:
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


def _cut_stamp(field: _Field, name: str, i: int) -> Stamp:
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
    scatter = _pixel_scatter(data[empty] / sigma[empty]) if empty.sum() >= FEWEST_EMPTY else field.pixel_scatter
    total = np.square(sigma[used], dtype=float)
    with np.errstate(divide="ignore"):
        background = np.fmin(1 / window.cut(field.background, 0)[used], total)
    background_factor, error_factor = _scale_errors(field, i, background, total)
    values = {"TARGET": name, "RA_TARG": field.ra[i], "DEC_TARG": field.dec[i], "NCOMP": 1 + len(joint)}
    values |= {"CRPIX1": field.grid["CRPIX1"] - window.x, "CRPIX2": field.grid["CRPIX2"] - window.y}
    factors = {"PIXSCAT": scatter, "CHI2EXP": scatter and scatter**2}
    factors |= {"AR_KRON": background_factor, "ERRFACT": error_factor}
    values |= {key: round(factor, 4) for key, factor in factors.items() if factor is not None}
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
        grid=field.grid_cards | {key: cards[key] for key in ("CRPIX1", "CRPIX2")},
        scale=field.scale,
        zero_point=MOSAIC_ZERO_POINT,
        pixel_scatter=scatter,
        background_factor=background_factor,
        error_factor=error_factor,
    )
