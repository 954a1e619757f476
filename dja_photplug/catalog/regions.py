"""The Kron apertures of a catalogue as regions for DS9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import NDArray
from regions import CircleSkyRegion, EllipseSkyRegion, Regions

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.files.formats import REGION_SUFFIXES
from dja_photplug.outputs.whole import whole_file
from dja_photplug.sky.grid import sky_positions

__all__ = ["write_regions"]


def _position_angle(table: QTable, wcs: WCS) -> u.Quantity:
    """Return the position angle of each major axis, north through east, on a grid turned or mirrored as it may be."""
    x, y, theta = table["x"].value, table["y"].value, table["theta"].to_value(u.rad)
    steps = (np.cos(theta) / 2, np.sin(theta) / 2)
    first, last = (
        SkyCoord(*sky_positions(wcs, x + sign * steps[0], y + sign * steps[1]), unit="deg") for sign in (-1, 1)
    )
    return first.position_angle(last)


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
    # Of DS9 and `regions`: at an angle of 0 the width lies along the longitude axis, and it grows from north to east.
    angles = Angle(_position_angle(placed, wcs) + 90 * u.deg).wrap_at(180 * u.deg)
    regions = Regions([])
    for row, angle, major, minor, circle in zip(placed, angles, *_sky_apertures(placed), strict=True):
        centre, meta = SkyCoord(row["ra"], row["dec"]), {"text": str(row["id"])}
        if circle:
            regions.append(CircleSkyRegion(centre, major, meta=meta))
        else:
            regions.append(EllipseSkyRegion(centre, 2 * major, 2 * minor, angle, meta=meta))
    with whole_file(path, overwrite=overwrite, suffixes=REGION_SUFFIXES) as temporary:
        regions.write(temporary, format="ds9")
    return path
