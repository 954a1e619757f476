"""The Kron apertures of a catalogue as regions for DS9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray
from regions import CircleSkyRegion, EllipseSkyRegion, Regions

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.files.formats import REGION_SUFFIXES
from dja_photplug.files.whole import whole_file

__all__ = ["write_regions"]


def _north_angle(table: QTable, wcs: WCS) -> u.Quantity:
    """Return the direction of north at each source, counter-clockwise from +x."""
    here = SkyCoord(table["ra"], table["dec"])
    there = here.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    x, y = wcs.world_to_pixel_values(there.ra.deg, there.dec.deg)
    return np.arctan2(y - table["y"].value, x - table["x"].value) * u.rad


def _sky_apertures(table: QTable) -> tuple[u.Quantity, u.Quantity, NDArray[np.bool_]]:
    """Return the semi-axes of the Kron apertures, and which are circles."""
    a, b = (table[axis].to_value(u.arcsec) for axis in "ab")
    # Where the photometry took the circle, it did so on its own pixels: the flag knows.
    kron = np.where(table["flag"] & SourceFlag.KRON_CIRCLE, np.nan, table["kron_radius"])
    major, minor, _, circle = kron_apertures(a, b, table["theta"].to_value(u.deg), kron, table.meta["KRONCIRC"])
    return major * u.arcsec, minor * u.arcsec, circle


def write_regions(table: QTable, path: str | Path, wcs: WCS, *, overwrite: bool = False) -> Path:
    """Write the Kron apertures as a DS9 region file on the sky, labelled with the source numbers.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        With the columns ``id ra dec x y a b theta kron_radius flag`` and ``KRONCIRC`` in its metadata.
    path : str or Path
        Ends in ``.reg``.
    wcs : `~astropy.wcs.WCS`
        Of the mosaic; it says where north is, which ``theta`` does not.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PhotplugError
        For another suffix, an existing file, or a folder that does not take it.
    """
    path = Path(path)
    placed = table[np.isfinite(table["ra"]) & np.isfinite(table["dec"])]
    # Of `regions`: an angle of 0 lines the width up with the longitude axis, 90 deg clockwise of north.
    angles = Angle(placed["theta"] + 90 * u.deg - _north_angle(placed, wcs)).wrap_at(180 * u.deg)
    regions, frame = Regions([]), wcs_to_celestial_frame(wcs)
    for row, angle, major, minor, circle in zip(placed, angles, *_sky_apertures(placed), strict=True):
        centre, meta = SkyCoord(row["ra"], row["dec"], frame=frame), {"text": str(row["id"])}
        if circle:
            regions.append(CircleSkyRegion(centre, major, meta=meta))
        else:
            regions.append(EllipseSkyRegion(centre, 2 * major, 2 * minor, angle, meta=meta))
    with whole_file(path, overwrite=overwrite, suffixes=REGION_SUFFIXES) as temporary:
        regions.write(temporary, format="ds9")
    return path
