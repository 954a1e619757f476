"""The stars of a mosaic that was detected and measured: the PSF they make, and whether they contradict one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import QTable

from dja_photplug.errors import PhotplugWarning
from dja_photplug.options.stages import Options, PSFOptions
from dja_photplug.psf.from_stars import (
    FEW_STARS,
    Stars,
    StarStack,
    check_number,
    cut_stars,
    find_isolated,
    find_stars,
    stack_stars,
)
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.photometry import remove_sky

__all__ = ["find_field_stars", "psf_from_stars"]

# Diameters of telescopes, m. No image of the sky has a half-light radius below half a wavelength over that; a star's
# is 0.6 of it before the pixels.
DIAMETERS = {"JWST": 6.5, "HST": 2.4}


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
    sky = remove_sky(image, detection.segmentation, options)
    return cut_stars(sky.data, image, detection.segmentation, catalog, rows, odd_side(stage.size, scale))


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


def _smallest_size(meta: Mapping[str, object]) -> float:
    """Return the half-light radius in arcsec below which nothing is an image of the sky; 0 where that is not known."""
    diameter, wavelength = DIAMETERS.get(str(meta.get("TELESCOP", "")).upper()), meta.get("PHOTPLAM")
    if diameter is None or not isinstance(wavelength, int | float) or not wavelength > 0:
        return 0.0
    return float((0.5 * wavelength * u.AA / (diameter * u.m) * u.rad).to_value(u.arcsec))


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
    stack = stack_stars(stars, odd_side(stage.size, scale), name)
    if len(stack.stars) < FEW_STARS:
        warnings.warn(
            f"{name}: the PSF is made of {len(stack.stars)} stars; one of them that is none would spoil it, so look at "
            "them (--plot)",
            PhotplugWarning,
            stacklevel=2,
        )
    return stack
