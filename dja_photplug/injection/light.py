"""Injected sources: which and where, and their light in the image with its noise.

The light of an injected source is drawn on the grid of the mosaic, and gets the Poisson noise of its electrons,
whose number the noise model itself tells (the physics of the preset ``calibrated``, whichever preset analyses the
image). This noise is independent from pixel to pixel, while that of a real source is drizzled and so correlated
with its neighbours: the variance of a sum over an area large against a drop (47 mas) is the same, that of a single
pixel is larger here. At the limit of detection the background rules and the difference does not matter.
"""

from __future__ import annotations

import numpy as np
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.ndimage import shift

from dja_photplug.errors import PhotplugError
from dja_photplug.injection.field import Field, Floats
from dja_photplug.mosaic.image import MosaicImage, replace_planes
from dja_photplug.options.commands import InjectionOptions
from dja_photplug.psf.model import PSF, SAME_SCALE
from dja_photplug.psf.regions import NOT_COVERED, PSFModel
from dja_photplug.psf.sampling import sample_psf
from dja_photplug.simulate.exposures import draw_light
from dja_photplug.simulate.scene import trace_light
from dja_photplug.sky.grid import pixel_scale, sky_positions
from dja_photplug.units import MOSAIC_UNIT, flux_of

__all__ = ["add_light", "draw_injected", "draw_sources", "sum_light"]


def draw_sources(image: MosaicImage, injection: InjectionOptions, rng: np.random.Generator) -> QTable:
    """Draw positions, magnitudes and shapes.

    Parameters
    ----------
    image : MosaicImage
    injection : InjectionOptions
    rng : `~numpy.random.Generator`

    Returns
    -------
    `~astropy.table.QTable`
        (n,), the columns of a source that are known beforehand.
    """
    x, y = _draw_positions(image.mask, injection.separation / pixel_scale(image.wcs), rng)
    n = len(x)
    ra, dec = sky_positions(image.wcs, x, y)
    # One in each of n equal intervals, in any order: no bin is left empty by chance.
    low, high = injection.magnitudes
    mag = low + (high - low) * (rng.permutation(n) + rng.random(n)) / max(n, 1)
    point = injection.shape == "point"
    (small, large), (flat, round_) = injection.half_light, injection.axis_ratio
    size = np.exp(rng.uniform(np.log(small), np.log(large), n))
    sources = QTable({"ra": ra * u.deg, "dec": dec * u.deg, "x": x, "y": y, "mag": mag})
    sources["size"] = np.where(point, 0, size) * u.arcsec
    sources["axis_ratio"] = np.where(point, 1, rng.uniform(flat, round_, n))
    sources["pa"] = np.where(point, 0, rng.uniform(0, 180, n)) * u.deg
    return sources


def _draw_positions(mask: NDArray[np.bool_], cell: float, rng: np.random.Generator) -> Floats:
    """Return positions (x and y, n) in pixels with data, in the middle half of each cell of a grid.

    The grid's origin is random, so that all places are equally likely.
    """
    grid = [np.arange(-rng.uniform(0, cell), n, cell) for n in mask.shape]
    y, x = (axis.ravel() for axis in np.meshgrid(*grid, indexing="ij"))
    y, x = (axis + cell * rng.uniform(0.25, 0.75, len(axis)) for axis in (y, x))
    row, column = (np.rint(axis).astype(int) for axis in (y, x))
    inside = (row < mask.shape[0]) & (column < mask.shape[1]) & (row >= 0) & (column >= 0)
    inside[inside] = ~mask[row[inside], column[inside]]
    return np.stack([x[inside], y[inside]])


def draw_injected(sources: QTable, field: Field, box: tuple[slice, slice] | None = None) -> Floats:
    """Return the light of sources.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        From :func:`draw_sources`.
    field : Field
    box : pair of slices, optional
        Pixels that are wanted; all by default.

    Returns
    -------
    ndarray
        (ny, nx), 10 nJy.

    Raises
    ------
    PhotplugError
        Where the PSF does not cover a source.
    """
    image, injection = field.before.image, field.job.injection
    flux = flux_of(sources["mag"].value) * u.uJy
    rows, columns = box or tuple(slice(0, n) for n in image.data.shape)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if field.psf is not None:
        centres = np.stack([sources["y"] - rows.start, sources["x"] - columns.start], axis=-1)
        places = SkyCoord(sources["ra"], sources["dec"])
        return _draw_psf(field.psf, places, centres, flux.to_value("10 nJy"), shape, pixel_scale(image.wcs))
    scene = sources["ra", "dec", "size", "axis_ratio", "pa"]
    scene["flux"] = flux
    index = {"point": 0.0, "gaussian": 0.5, "sersic": injection.sersic_index}[injection.shape]
    scene["sersic"] = np.full(len(scene), index)
    wcs = image.wcs[rows, columns]
    wcs.array_shape = shape
    return draw_light(trace_light(scene, "flux", injection.psf_fwhm), wcs)


def _draw_psf(
    model: PSFModel, places: SkyCoord, centres: Floats, flux: Floats, shape: tuple[int, int], scale: float
) -> Floats:
    """Return point sources at (y, x), (n, 2), drawn with the image of the PSF of their place, at its own centre."""
    image = np.zeros(shape)
    regions = model.regions_at(places)
    if missing := int(np.sum(regions == NOT_COVERED)):
        raise PhotplugError(
            f"{model.name}: no PSF for {missing} of {len(places)} injected sources; give a PSF of the whole mosaic, "
            "or a cut-out within its regions"
        )
    for region, centre, total in zip(regions.tolist(), centres, flux, strict=True):
        psf = model.stamps[region]
        stamp, first = _place_psf(psf, centre, scale)
        ends = zip(first, stamp.shape, shape, strict=True)
        low, high = np.array([(max(start, 0), min(start + n, m)) for start, n, m in ends]).T
        image[low[0] : high[0], low[1] : high[1]] += total * stamp[tuple(map(slice, low - first, high - first))]
    return image


def _place_psf(psf: PSF, centre: Floats, scale: float) -> tuple[Floats, NDArray[np.intp]]:
    """Return the PSF around a place (y, x) on pixels of `scale`, and the pixel on which it begins."""
    if abs(scale / psf.scale - 1) < SAME_SCALE:
        corner = centre - psf.centre
        first = np.rint(corner).astype(int)
        return shift(psf.data, corner - first, output=np.float64), first  # cubic spline
    middle = np.rint(centre).astype(int)
    offset = centre - middle
    stamp = sample_psf(psf, scale, (float(offset[0]), float(offset[1])))
    return stamp, middle - np.array(stamp.shape) // 2


def add_light(field: Field, light: Floats, rng: np.random.Generator) -> MosaicImage:
    """Return the image with injected light, its Poisson noise, and the full weight of both.

    Parameters
    ----------
    field : Field
    light : ndarray
        (ny, nx), 10 nJy.
    rng : `~numpy.random.Generator`

    Returns
    -------
    MosaicImage
    """
    image = field.before.image
    photons = np.zeros(light.shape, np.float32)  # the variance of the injected light
    noisy = light.copy()
    if field.electrons is not None:
        lit = (light > 0) & (field.electrons > 0)
        electrons = field.electrons[lit].astype(np.float64)
        noisy[lit] = rng.poisson(light[lit] * electrons) / electrons
        photons[lit] = light[lit] / electrons
    data = image.data + noisy.astype(np.float32)
    if field.model is None:
        weight = image.uncertainty.array / (1 + image.uncertainty.array * photons)
    else:
        weight = field.model(data, field.weight, slice(0, len(data)))
    return replace_planes(image, data=data, weight=weight)


def sum_light(sources: QTable, places: Floats, field: Field) -> Floats:
    """Return the light of each source alone in circles around places, nothing masked.

    Each is drawn again on the pixels that its circles touch, though cells keep the sources apart: wings reach farther.
    With n = 4 those of 24 mag put 0.6 of the light of one of 31 mag into its circle, from 2 arcsec away. Off the image
    nothing counts, as in the measurement.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        (n,), from :func:`draw_sources`.
    places : ndarray
        x and y of m circles for each, (n, m, 2), in pixels.
    field : Field

    Returns
    -------
    ndarray
        (n, m), uJy.
    """
    image, options = field.before.image, field.job.options
    radius = options.measure.apertures[field.job.injection.aperture] / 2 / pixel_scale(image.wcs)
    low = np.maximum(np.floor(places.min(axis=1) - radius), 0).astype(int)
    high = np.minimum(np.ceil(places.max(axis=1) + radius).astype(int) + 1, image.data.shape[::-1])
    flux = np.empty(places.shape[:2])
    for i, ((x0, y0), (x1, y1)) in enumerate(zip(low, high, strict=True)):
        stamp = draw_injected(sources[i : i + 1], field, (slice(y0, y1), slice(x0, x1)))
        flux[i], _, _ = sep.sum_circle(stamp, *(places[i] - low[i]).T.copy(), radius, subpix=0)
    return flux * MOSAIC_UNIT.to(u.uJy)
