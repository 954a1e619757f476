"""The pixels of an i2d file, which are surface brightness, as flux densities with all their noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import VarianceUncertainty
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.plugin import Grid, MosaicImage, PhotplugError
from photplug_jwst_i2d.noise import flat_variance
from photplug_jwst_i2d.options import PRESET

Plane = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class I2DPlanes:
    """What an i2d file says of its pixels, in nJy and nJy^2.

    Attributes
    ----------
    science, variance : ndarray
        (ny, nx); without the sky, and of all noise.
    sky : float
        Of the median pixel: the pipeline matches the sky of exposures, and mostly leaves it in.
    photons, read_noise : ndarray
        Variance of the photons, of sky and sources together, and of reading.
    no_data : ndarray of bool
    wcs : WCS
    header : Header
        The primary one, of the file.
    """

    science: Plane
    variance: Plane
    sky: float
    photons: Plane
    read_noise: Plane
    no_data: NDArray[np.bool_]
    wcs: WCS
    header: fits.Header

    def background(self) -> Plane:
        """Return the variance without what the sources' light adds: that of reading and of the photons of the sky.

        VAR_POISSON counts sky and sources together. Most pixels are sky, whose photons and read noise both go with the
        exposure time, so that their ratio in the median pixel is that of the sky everywhere.
        """
        known = ~self.no_data & (self.read_noise > 0)
        ratio = np.median(self.photons[known] / self.read_noise[known]) if known.any() else np.float32(0)
        sky = (1 + ratio) * self.read_noise
        return np.where(sky > 0, np.minimum(sky, self.variance), self.variance)


@contextmanager
def _open(path: Path) -> Iterator[fits.HDUList]:
    """Open a file, and say which one it is where it is not what its name says."""
    try:
        with fits.open(path) as hdus:
            yield hdus
    except (OSError, KeyError) as error:
        raise PhotplugError(f"{path}: no i2d file of the JWST pipeline ({error})") from None


def _read_wcs(header: fits.Header) -> WCS:
    # Dates and the observatory's place are no part of a grid, and astropy warns wherever it completes them.
    own = [card for card in header.cards if not card.keyword.startswith(("DATE", "MJD", "OBSGEO"))]
    return WCS(fits.Header(own)).celestial


def read_grid(path: Path) -> Grid:
    """Return the grid of an i2d file from its header alone."""
    with _open(path) as hdus:
        header = hdus["SCI"].header
        return Grid(_read_wcs(header), (header["NAXIS2"], header["NAXIS1"]))


def read_planes(path: Path) -> I2DPlanes:
    """Read an i2d file.

    Raises
    ------
    PhotplugError
        Where extensions are missing, or the pixels are not surface brightness.
    """
    with _open(path) as hdus:
        header = hdus["SCI"].header
        if header.get("BUNIT") != "MJy/sr":
            raise PhotplugError(f"{path}: SCI is in {header.get('BUNIT', 'no unit')}, not in MJy/sr")
        factor = np.float32((header["PIXAR_SR"] * u.MJy).to_value("nJy"))
        science, error = (factor * hdus[name].data for name in ("SCI", "ERR"))
        photons, read_noise = (factor**2 * hdus[name].data for name in ("VAR_POISSON", "VAR_RNOISE"))
        no_data = ~(np.isfinite(science) & (error > 0) & (hdus["WHT"].data > 0))
        sky = np.median(science[~no_data]) if not no_data.all() else np.float32(0)
        return I2DPlanes(
            science=science - sky,
            variance=error**2,
            sky=float(sky),
            photons=np.nan_to_num(photons),
            read_noise=np.nan_to_num(read_noise),
            no_data=no_data,
            wcs=_read_wcs(header),
            header=hdus[0].header,
        )


def load_i2d(path: Path, noise: str, flat_error: float) -> MosaicImage:
    """Load an i2d file with the noise that its ERR holds, which includes the sources' photons.

    Parameters
    ----------
    path : Path
    noise : str
        Preset: ``background`` leaves the sources' photons out, ``flat`` adds the error of the flat field.
    flat_error : float
        As a fraction of the signal.

    Returns
    -------
    MosaicImage
        In nJy, whole and without its median sky: dja_photplug cuts what is asked for, and brings it to its unit.

    Raises
    ------
    PhotplugError
        As :func:`read_planes`.
    """
    planes = read_planes(path)
    background = planes.background()
    variance = background if noise == "background" else planes.variance
    if noise == PRESET:
        variance = variance + flat_variance(planes.science, flat_error)
    # The metadata of catalogues keep NOISE, and VARFILE where the noise is a file's as it is.
    given = {} if noise in ("background", PRESET) else {"VARFILE": path.name}
    kept = {key: planes.header[key] for key in ("TELESCOP", "INSTRUME", "FILTER", "PUPIL") if key in planes.header}
    return MosaicImage(
        planes.science,
        unit="nJy",
        uncertainty=VarianceUncertainty(variance, copy=False),
        mask=planes.no_data,
        wcs=planes.wcs,
        meta={**kept, "NOISE": noise, **given},
        background_weight=np.divide(1, background, out=np.zeros_like(background), where=background > 0),
    )
