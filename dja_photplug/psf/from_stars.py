"""The PSF of a mosaic from its own stars: which sources are stars, and their stack.

photutils' ``EPSFBuilder`` does not serve here. It makes an ePSF on finer pixels for stars that are undersampled,
smooths it by a kernel, and knows no share of the light that a stamp holds, by which total fluxes are made. Mosaics are
sampled by drizzling: shifting stars so that light is conserved keeps their curves of growth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import sep
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, median_filter
from scipy.spatial import cKDTree
from scipy.stats import median_abs_deviation

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError
from dja_photplug.files.smallfits import CardValue
from dja_photplug.mosaic.blocks import native_pixels
from dja_photplug.psf.model import NARROWEST, PSF, sample_psf
from dja_photplug.sky.grid import cut_window, pixel_scale

__all__ = ["FEWEST_STARS", "FEW_STARS", "StarStack", "Stars", "cut_stars", "find_stars", "grow_light", "stack_stars"]

Floats = NDArray[np.float64]

FEWEST_STARS, FEW_STARS = 3, 10
"""Stars below which there is no stack, and below which a warning tells of it."""

# What a star may not be: saturated, cut, or not measured.
UNFIT = (
    SourceFlag.TRUNCATED
    | SourceFlag.SINGULAR
    | SourceFlag.NOT_DEBLENDED
    | SourceFlag.APER_TRUNCATED
    | SourceFlag.NOT_MEASURED
    | SourceFlag.NOT_COVERED
    | SourceFlag.NULL_WEIGHT
    | SourceFlag.SATURATED_CORE
)
# Half-light radii of stars of one mosaic lie within this; the next larger sources of the UDS are 1.33 times as large.
LOCUS = 1.12
# Sources that are smaller than stars are artefacts, at most one for so many stars; galaxies of one size are fewer.
ARTEFACTS = 20
# Neighbours that spoil a star: brighter than this share of it, within this many arcsec.
SPOILING, NEAR = 0.1, 1.0
# Segments of neighbours grow by this, arcsec. What is masked around half of the stars is their own light, as of spikes.
MARGIN, OWN = 0.12, 0.5
# Light that normalises each star is that within this radius, arcsec; the stack is made in so many rounds.
CORE, ROUNDS = 0.5, 3
# By which PSFs of stars differ from pixel to pixel, beside their noise: a bright star counts no more than others.
FLOOR = 0.03
CLIP, FEWEST_TO_CLIP = 4.0, 5
# Stars whose light within CENTRE (arcsec) over that within CORE is off the median by so many scatters, and this share.
CENTRE, OUTLYING, LEAST_OFF = 0.2, 4.0, 0.02
# Light beyond a radius falls as its inverse for a pupil with a hard edge, a little less steeply with gaps and struts.
# With this power the light of JWST's pupil within 1 to 2 arcsec tells all of it to 0.5 % from 0.9 to 4.4 um.
WINGS = 0.78
# Radii at which curves of growth are told, arcsec.
RADII = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stars:
    """Cut-outs of stars, each with its centre near the middle pixel.

    Attributes
    ----------
    data, variance : ndarray, shape (n, side, side)
        In units of the image; a variance that is infinite is that of pixels that do not count.
    masked : ndarray of bool, shape (n, side, side)
        Segments of others.
    centre : ndarray, shape (n, 2)
        (y, x) in pixels of the cut-out.
    scale : float
        Arcsec per pixel.
    ids : ndarray of int, shape (n,)
        Of the sources.
    rows : ndarray of int, shape (n,)
        Of the table that they are cut out by.
    """

    data: Floats
    variance: Floats
    masked: NDArray[np.bool_]
    centre: Floats
    scale: float
    ids: NDArray[np.int_]
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        """Return the number of stars."""
        return len(self.data)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Stars:
        """Return some of them."""
        names = ("data", "variance", "masked", "centre", "ids", "rows")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def each(self) -> Iterator[Stars]:
        """Yield them one by one.

        Yields
        ------
        Stars
            Of one star.
        """
        for i in range(len(self)):
            yield self[np.arange(len(self)) == i]


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
        return np.asarray(median_abs_deviation(self.growth, axis=0, scale="normal"))

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


def find_stars(table: QTable, least_snr: float, smallest: float = 0.0) -> NDArray[np.intp]:
    """Return the rows of stars: bright, unsaturated and isolated sources on the stellar locus.

    The locus is where the smallest sources are, all of one half-light radius whatever their magnitude.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        (n,), with ``x y flux_radius flux_auto fluxerr_auto flag``.
    least_snr : float
        Signal to noise of ``flux_auto``.
    smallest : float, optional
        Half-light radius in arcsec below which nothing is an image of the sky.

    Returns
    -------
    ndarray of int
        Rows, the brightest first.
    """
    size, flux, error = (np.asarray(table[name].value) for name in ("flux_radius", "flux_auto", "fluxerr_auto"))
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = (flux / error > least_snr) & (size > smallest) & (np.asarray(table["flag"]) & UNFIT.value == 0)
    rows = np.flatnonzero(fit)
    rows = rows[np.argsort(size[rows])]
    sizes = size[rows]
    count = np.searchsorted(sizes, LOCUS * sizes, side="right") - np.arange(len(sizes))
    # Without sources below it, or with so many more that those are artefacts.
    allowed = count >= ARTEFACTS * np.arange(len(sizes))
    if not len(rows):
        return rows
    first = int(np.argmax(np.where(allowed, count, 0)))
    rows = rows[first : first + count[first]]
    return rows[np.argsort(-flux[rows])]


def find_isolated(table: QTable, rows: NDArray[np.intp], scale: float) -> NDArray[np.bool_]:
    """Return which rows have no neighbour within 1 arcsec that is a tenth as bright.

    Parameters
    ----------
    table : `~astropy.table.QTable`
    rows : ndarray of int
        (k,).
    scale : float
        Arcsec per pixel.

    Returns
    -------
    ndarray of bool
        (k,).
    """
    places = np.column_stack([np.asarray(table[axis].value) for axis in "xy"])
    flux = np.nan_to_num(np.asarray(table["flux_auto"].value))
    near = cKDTree(places).query_ball_point(places[rows], NEAR / scale)
    return np.array(
        [all(flux[j] < SPOILING * flux[i] for j in others if j != i) for i, others in zip(rows, near, strict=True)],
        bool,
    )


def cut_stars(
    pixels: NDArray[np.float32],
    image: NDData,
    segmentation: NDArray[np.int32],
    table: QTable,
    rows: NDArray[np.intp],
    side: int,
) -> Stars:
    """Cut out stars.

    Parameters
    ----------
    pixels : ndarray of float32
        Those of the image less its sky, (ny, nx).
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    segmentation : ndarray
        (ny, nx), labelled by the ids of the table.
    table : `~astropy.table.QTable`
        With ``id x y flux_radius``.
    rows : ndarray of int
        Of the stars, (n,).
    side : int
        Pixels that the stack will have, odd; the cut-outs are larger, as they will be shifted.

    Returns
    -------
    Stars
        Without those whose middle pixels have no data.
    """
    scale, whole, number = pixel_scale(image.wcs), side + 4, len(rows)
    weight, grow = native_pixels(image.uncertainty.array), max(round(MARGIN / scale), 1)
    x, y, size = (np.asarray(table[name].value)[rows] for name in ("x", "y", "flux_radius"))
    width = float(np.median(size)) / scale / math.sqrt(2 * math.log(2)) if number else 0
    x, y, _ = sep.winpos(pixels, x, y, max(width, NARROWEST))
    ids, first = np.asarray(table["id"])[rows], np.rint(np.stack([y, x], axis=-1)).astype(int) - whole // 2
    planes = {"data": np.zeros((number, whole, whole)), "variance": np.full((number, whole, whole), np.inf)}
    masked, known = np.zeros((number, whole, whole), bool), np.zeros(number, bool)
    core = slice(whole // 2 - 2, whole // 2 + 3)
    for i, corner in enumerate(first.tolist()):
        values, inverse, labels = (
            cut_window(plane, corner, (whole, whole), 0) for plane in (pixels, weight, segmentation)
        )
        good = (inverse > 0) & np.isfinite(values)
        planes["data"][i][good], planes["variance"][i][good] = values[good], 1 / inverse[good]
        others = (labels > 0) & (labels != ids[i])
        masked[i] = binary_dilation(others, iterations=grow) & (labels != ids[i])
        known[i] = good[core, core].all()
    centre = np.stack([y, x], axis=-1) - first
    return Stars(masked=masked, centre=centre, scale=scale, ids=ids, rows=rows, **planes)[known]


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


def find_total(data: Floats, scale: float) -> float:
    """Return all light of a star in the middle of a stamp, that beyond it too.

    What diffraction sends beyond a radius falls as a power of it, so the curve of growth in the outer half of the
    stamp, against that power, is a line to all light.

    Parameters
    ----------
    data : ndarray
        (side, side).
    scale : float
        Arcsec per pixel.

    Returns
    -------
    float
        No less than the stamp holds.
    """
    middle = len(data) // 2
    radius = np.linspace(middle / 2, middle, 30)
    light = grow_light(data, (middle, middle), radius)
    slope, total = np.polyfit(radius**-WINGS, light, 1)
    return max(float(total), float(data.sum())) if slope < 0 else float(data.sum())


def stack_stars(stars: Stars, side: int, name: str) -> StarStack:
    """Stack stars: recentred, normalised, clipped, and weighted by pixels.

    Parameters
    ----------
    stars : Stars
        n of them.
    side : int
        Of the stack in pixels, odd.
    name : str
        Of the PSF, for messages.

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
        scatter = float(median_abs_deviation(concentration, scale="normal")) / float(np.median(concentration))
        kept = off <= max(OUTLYING * scatter, LEAST_OFF)
        stars, growth = stars[kept], growth[kept]
        stack = _average(shifted[kept], variance[kept])
    check_number(len(stars), name)
    assert stack is not None
    total, middle, radius = find_total(stack, stars.scale), side // 2, np.array(RADII)
    radius = radius[radius <= middle * stars.scale]
    psf = PSF(data=stack / total, scale=stars.scale, centre=(middle, middle), name=name, scale_from="the mosaic")
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
