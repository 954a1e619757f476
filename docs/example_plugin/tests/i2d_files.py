"""Small i2d files of a known scene, with the extensions and cards that the JWST pipeline writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

F200W = "jw01345-o001_t021_nircam_clear-f200w_i2d.fits"
F444W = "jw01345-o001_t021_nircam_clear-f444w_i2d.fits"
SIDE = 12.0  # arcsec
BORDER = 0.24  # arcsec on each side without data
CENTRE = (214.9, 52.8)
SIGMA = 0.07  # arcsec, of all sources
SKY = 0.25  # MJy/sr
READ = 0.01  # MJy/sr in a pixel
PHOTON = 1e-3  # variance of the photons of 1 MJy/sr, in MJy/sr
STEP = 2.25  # arcsec between sources
FLUX = np.geomspace(1, 20, 16)  # uJy


def positions() -> np.ndarray:
    """Return the offsets of the sources from the centre, (16, 2), in arcsec along x and y."""
    along = STEP * (np.arange(4) - 1.5)
    return np.column_stack([axis.ravel() for axis in np.meshgrid(along, along)])


def write_i2d(path: Path, pixel: float, seed: int = 1) -> Path:
    """Write a mosaic of the scene with pixels of `pixel` arcsec; return its path."""
    n, area = round(SIDE / pixel), ((pixel * u.arcsec).to_value("rad")) ** 2
    axis = pixel * (np.arange(n) - (n - 1) / 2)
    light = np.zeros((n, n))
    for (x, y), flux in zip(positions(), FLUX, strict=True):
        profile = np.exp(-np.add.outer((axis - y) ** 2, (axis - x) ** 2) / (2 * SIGMA**2))
        light += (flux * u.uJy).to_value("MJy") / area * profile / profile.sum()
    photons, reading, flat = PHOTON * (light + SKY), np.full((n, n), READ**2), (0.002 * light) ** 2
    error = np.sqrt(photons + reading + flat)
    science = light + SKY + error * np.random.default_rng(seed).standard_normal((n, n))
    planes = {"SCI": science, "ERR": error, "CON": np.ones((1, n, n), np.int32), "WHT": 1 / reading}
    planes |= {"VAR_POISSON": photons, "VAR_RNOISE": reading, "VAR_FLAT": flat}
    border = np.ones((n, n), bool)
    edge = round(BORDER / pixel)
    border[edge:-edge, edge:-edge] = False
    hdus = [fits.PrimaryHDU()]
    cards = {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "PUPIL": "CLEAR", "FILTER": path.name.split("-")[-1][:5].upper()}
    hdus[0].header.update(cards)
    for name, plane in planes.items():
        if name != "CON":
            plane = np.where(border, 0 if name == "WHT" else np.nan, plane).astype(np.float32)
        hdus.append(fits.ImageHDU(plane, name=name))
    header = hdus[1].header
    header.update({"BUNIT": "MJy/sr", "PIXAR_SR": area, "PHOTMJSR": 2.1, "MJD-AVG": 59960.25, "MJD-BEG": 59960.2})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS"})
    header.update({"CRVAL1": CENTRE[0], "CRVAL2": CENTRE[1], "CRPIX1": (n + 1) / 2, "CRPIX2": (n + 1) / 2})
    header.update({"CDELT1": pixel / 3600, "CDELT2": pixel / 3600, "PC1_1": -1.0, "PC1_2": 0.0, "PC2_1": 0.0})
    header.update({"PC2_2": 1.0, "OBSGEO-X": -2e8, "OBSGEO-Y": 1.2e9, "OBSGEO-Z": 5e8})
    fits.HDUList(hdus).writeto(path)
    return path
