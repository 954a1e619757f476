"""The stars of a mosaic that was detected and measured: the PSF they make, and whether they contradict one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugWarning
from dja_photplug.files.smallfits import CardValue
from dja_photplug.mosaic.blocks import native_pixels
from dja_photplug.options.commands import PSFOptions
from dja_photplug.options.run import Options
from dja_photplug.psf.from_stars import FEW_STARS, FEWEST_STARS, StarStack, check_number, stack_stars
from dja_photplug.psf.model import grow_light
from dja_photplug.psf.regions import PSFModel
from dja_photplug.psf.star_stamps import Stars, cut_stars, find_isolated, find_stars
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.removal import remove_sky

__all__ = ["check_psf", "compare_stars", "find_field_stars", "find_wavelength", "odd_side", "psf_from_stars"]

# Diameters of telescopes, m. No image of the sky has a half-light radius below half a wavelength over that; a star's
# is 0.6 of it before the pixels.
DIAMETERS = {"JWST": 6.5, "HST": 2.4}

# A PSF and stars are compared by their light within COMPARED, over that within the ring of their sky, in arcsec; told
# is what is off by more than this share, and this many errors. More stars than MOST tell no more.
COMPARED, RING = (0.25, 0.5), (1.0, 1.4)
TOLD, SURE, MOST = 0.03, 3.0, 50


def find_field_stars(
    image: NDData, detection: Detection, catalog: QTable, options: Options, stage: PSFOptions
) -> Stars:
    """Cut out the unsaturated, isolated stars of an image, less its sky.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    detection : Detection
        On its grid.
    catalog : `~astropy.table.QTable`
        Of these sources, in their order, with ``id x y flux_radius flux_auto fluxerr_auto flag``.
    options : Options
        How the sky is found, as for photometry.
    stage : PSFOptions
        Signal to noise of stars, and the size of the PSF.

    Returns
    -------
    Stars
        The brightest first.
    """
    scale = pixel_scale(image.wcs)
    rows = find_stars(catalog, stage.snr, _smallest_size(image.meta))
    rows = rows[find_isolated(catalog, rows, scale)]
    data = remove_sky(image, detection.segmentation, options).sky.take_off(image.data)
    return cut_stars(data, image, detection.segmentation, catalog, rows, odd_side(stage.size, scale))


def odd_side(size: float, scale: float) -> int:
    """Return the odd number of pixels that is as long as a size, or a little longer.

    Parameters
    ----------
    size, scale : float
        Arcsec, and arcsec per pixel.

    Returns
    -------
    int
    """
    return 2 * int(np.ceil(size / scale / 2 - 0.5 - 1e-6)) + 1


def find_wavelength(meta: Mapping[str, object]) -> float | None:
    """Return the wavelength of an image by JWST, whose pupil tells how much light a stack of its stars does not hold.

    Parameters
    ----------
    meta : mapping
        Its header: TELESCOP and PHOTPLAM.

    Returns
    -------
    float or None
        In m.
    """
    return _pivot(meta) if _telescope(meta) == "JWST" else None


def _telescope(meta: Mapping[str, object]) -> str:
    return str(meta.get("TELESCOP", "")).strip().upper()


def _pivot(meta: Mapping[str, object]) -> float | None:
    """Return the pivot wavelength in m, which headers have in Angstrom."""
    wavelength = meta.get("PHOTPLAM")
    return wavelength * 1e-10 if isinstance(wavelength, int | float) and wavelength > 0 else None


def _smallest_size(meta: Mapping[str, object]) -> float:
    """Return the half-light radius in arcsec below which nothing is an image of the sky; 0 where that is not known."""
    diameter, wavelength = DIAMETERS.get(_telescope(meta)), _pivot(meta)
    if diameter is None or wavelength is None:
        return 0.0
    return float((0.5 * wavelength / diameter * u.rad).to_value(u.arcsec))


def psf_from_stars(
    image: NDData,
    detection: Detection,
    catalog: QTable,
    options: Options | None = None,
    *,
    psf: PSFOptions | None = None,
    name: str = "the mosaic",
) -> StarStack:
    """Return the PSF that the stars of an image show.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    detection : Detection
        Of its sources, as a `Result` has it.
    catalog : `~astropy.table.QTable`
        Their photometry, one row for each.
    options : Options, optional
        How the sky is found; the defaults without them.
    psf : PSFOptions, optional
        Which stars, and the size of the PSF.
    name : str, optional
        Of the image, for messages.

    Returns
    -------
    StarStack

    Raises
    ------
    PhotplugError
        Where fewer than 3 unsaturated, isolated stars are found.

    Warns
    -----
    PhotplugWarning
        Where there are fewer than 10.
    """
    stage, scale = psf or PSFOptions(), pixel_scale(image.wcs)
    stars = find_field_stars(image, detection, catalog, (options or Options()).settle(), stage)
    check_number(len(stars), name)
    stack = stack_stars(stars, odd_side(stage.size, scale), name, find_wavelength(image.meta))
    if len(stack.stars) < FEW_STARS:
        warnings.warn(
            f"{name}: the PSF is made of only {len(stack.stars)} stars; one that is not a star would spoil it, so "
            "check them (--plot)",
            PhotplugWarning,
            stacklevel=2,
        )
    return stack


def check_psf(
    model: PSFModel, image: NDData, segmentation: NDArray[np.int32], catalog: QTable, name: str
) -> dict[str, CardValue]:
    """Compare a PSF with the stars of an image, and tell where they contradict it by more than 3 %.

    Parameters
    ----------
    model : PSFModel
    image : `~astropy.nddata.NDData`
    segmentation : ndarray
        (ny, nx), labelled by the ids of the catalogue.
    catalog : `~astropy.table.QTable`
        As for :func:`find_field_stars`, with ``ra dec``.
    name : str
        Of the image, for messages.

    Returns
    -------
    dict
        Metadata: PSFNSTAR, the number of stars, and for 3 or more PSFOFF, by which share their light within 0.5 arcsec
        is more than the PSF says.

    Warns
    -----
    PhotplugWarning
        Where it is off by more than 3 % within 0.25 or 0.5 arcsec.
    """
    off = compare_stars(model, image, segmentation, catalog, COMPARED)
    cards: dict[str, CardValue] = {"PSFNSTAR": len(off)}
    if len(off) < FEWEST_STARS:
        return cards
    median, error = np.median(off, axis=0), 1.25 * np.std(off, axis=0) / np.sqrt(len(off))
    cards["PSFOFF"] = round(float(median[-1]), 4)
    worst = int(np.argmax(np.abs(median)))
    if abs(median[worst]) > max(TOLD, SURE * error[worst]):
        warnings.warn(
            f"{model.name}: {len(off)} stars of {name} have {abs(median[worst]):.1%} "
            f"{'more' if median[worst] > 0 else 'less'} light within {COMPARED[worst]:g} arcsec than this PSF: total "
            "fluxes and sizes of point sources are off; make one from the stars (psf stars) or the log (psf log)",
            PhotplugWarning,
            stacklevel=3,
        )
    return cards


def compare_stars(
    model: PSFModel, image: NDData, segmentation: NDArray[np.int32], catalog: QTable, radii: Sequence[float]
) -> NDArray[np.float64]:
    """Return how much more light the stars of an image have within radii than a PSF, both over that within 1 arcsec.

    Parameters
    ----------
    model, image, segmentation, catalog
        As for :func:`check_psf`.
    radii : sequence of float
        (k,), below 1 arcsec.

    Returns
    -------
    ndarray
        (n, k), as shares, of at most 50 stars whose place has a PSF that reaches to 1.4 arcsec; the brightest first.
    """
    scale = pixel_scale(image.wcs)
    rows = find_stars(catalog, PSFOptions().snr, _smallest_size(image.meta))
    rows = rows[find_isolated(catalog, rows, scale)][:MOST]
    stars = cut_stars(native_pixels(image.data), image, segmentation, catalog, rows, odd_side(2 * RING[1], scale))
    off = []
    for star, place in zip(stars.each(), SkyCoord(catalog["ra"], catalog["dec"])[stars.rows], strict=True):
        psf = model.psf_at(place)
        if psf is None or min(psf.data.shape) * psf.scale < 2 * RING[1]:
            continue
        hidden = star.masked[0] | np.isinf(star.variance[0])
        # What is hidden is as its counterpart on the other side, for want of better.
        data = np.where(hidden, star.data[0][::-1, ::-1], star.data[0])
        ours = _light_over_ring(data, (float(star.centre[0, 0]), float(star.centre[0, 1])), star.scale, radii)
        off.append(ours / _light_over_ring(psf.data, psf.centre, psf.scale, radii) - 1)
    return np.array(off).reshape(-1, len(radii))


def _light_over_ring(
    data: NDArray[np.float64], centre: tuple[float, float], scale: float, radii: Sequence[float]
) -> NDArray[np.float64]:
    """Return the light within radii over that within the ring, less the sky of the ring."""
    y, x = np.indices(data.shape)
    radius = np.hypot(y - centre[0], x - centre[1]) * scale
    sky = np.median(data[(radius > RING[0]) & (radius < RING[1])])
    light = grow_light(data - sky, centre, np.array([*radii, RING[0]]) / scale)
    return light[:-1] / light[-1]
