"""What a WCS log is good for beside epochs: footprints and exposure maps as files, and checks of a mosaic's header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel
from numpy.typing import NDArray

from dja_photplug import __version__
from dja_photplug.epochs.barycentre import barycentre_times, count_astray
from dja_photplug.epochs.log import ExposureLog
from dja_photplug.files.formats import REGION_SUFFIXES, encode_text
from dja_photplug.files.smallfits import CardValue
from dja_photplug.files.written import write_image
from dja_photplug.outputs.whole import whole_file
from dja_photplug.sky.cards import read_numbers

__all__ = [
    "TOTALS",
    "agreement_with_map",
    "compare_with_header",
    "describe_log",
    "find_overlap",
    "write_exposure_map",
    "write_footprints",
]

TOTALS = ("NDRIZIM", "EXPTIME")
"""Keywords of a mosaic that sum up its exposures: their number and their time in s."""


def write_footprints(log: ExposureLog, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the footprints of all exposures as a DS9 region file on the sky, labelled with their file names.

    Parameters
    ----------
    log : ExposureLog
    path : str or Path
        Ends in ``.reg``.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        For another suffix than ``.reg``, an existing file, or a folder that does not take it.
    """
    from regions import Regions

    path = Path(path)
    with whole_file(path, overwrite=overwrite, suffixes=REGION_SUFFIXES) as temporary:
        Regions(log.footprints()).write(temporary, format="ds9")
    return path


def write_exposure_map(
    log: ExposureLog, path: str | Path, wcs: WCS, shape: tuple[int, int], *, overwrite: bool = False
) -> NDArray[np.float32]:
    """Write the exposure time in every pixel of a grid, by the distorted footprints.

    Parameters
    ----------
    log : ExposureLog
    path : str or Path
        Ends in ``.fits`` or ``.fits.gz``.
    wcs : `~astropy.wcs.WCS`
        Of the grid.
    shape : tuple of int
        Of the grid, (ny, nx).
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        The exposure time that was written, in s.

    Raises
    ------
    PhotplugError
        For a name that is no FITS image, an existing file, or a folder that does not take it.
    """
    seconds = log.exposure_map(wcs, shape)
    header = fits.Header([("BUNIT", "s", "exposure time")]) + wcs.to_header()
    header["WCSLOG"] = encode_text(Path(log.name).name)
    header["NEXP"] = (len(log), "exposures, each in its distorted footprint")
    header["CREATOR"] = f"dja_photplug {__version__}"
    write_image(path, seconds, header, overwrite=overwrite)
    return seconds


def describe_log(log: ExposureLog) -> tuple[list[str], dict[str, list[str] | float | None]]:
    """Return what a log holds, and what is wrong with it.

    Parameters
    ----------
    log : ExposureLog

    Returns
    -------
    lines : list of str
        Exposures, visits, time and detectors; range of dates; a line for each problem.
    values : dict
        The same by key: ``n_exposures n_visits exptime_s detectors mjd_min mjd_max differs``; dates are those of the
        middle of exposures (UTC), None where there are none.
    """
    table = log.table
    detectors, n_visits = sorted(map(str, set(table["detector"]))), len(set(table["visit"]))
    lines = [
        f"WCS log     {len(log)} exposures in {n_visits} visits, "
        f"{log.exptime.to_value(u.ks):.2f} ks, {len(detectors)} detectors ({', '.join(detectors)})"
    ]
    dates = table["mjd_avg"]
    dates = dates[~dates.mask] if dates.masked else dates
    ends = [float(dates.min().mjd), float(dates.max().mjd)] if len(dates) else [None, None]
    if len(dates):
        lines.append(f"epochs      MJD {ends[0]:.3f} to {ends[1]:.3f} (UTC)")
    problems = [
        (log.duplicates, "rows repeat another (file, ext); each counts once"),
        (len(log) - len(dates), f"of {len(log)} exposures have no date (mjd-avg)"),
        (
            count_astray(barycentre_times(table, log.vectors)),
            "obsgeo vectors of JWST point more than 45 deg from the anti-Sun; no barycentric times",
        ),
    ]
    differs = [f"{count} {text}" for count, text in problems if count]
    values: dict[str, list[str] | float | None] = {"n_exposures": len(log), "n_visits": n_visits}
    values |= {"exptime_s": float(log.exptime.to_value(u.s))}
    values |= {"detectors": detectors, "mjd_min": ends[0], "mjd_max": ends[1], "differs": differs}
    return lines + [f"differs     {text}" for text in differs], values


def compare_with_header(log: ExposureLog, header: Mapping[str, CardValue]) -> list[str]:
    """Return in what the header of a mosaic and its log contradict each other.

    Compared are the number of files with NDRIZIM (which counts files, or chips in products of AstroDrizzle), the
    sum of their exposure times with EXPTIME, and their order with the cards FLT00001, FLT00002, ...

    Parameters
    ----------
    log : ExposureLog
    header : `~astropy.io.fits.Header` or another mapping
        Of the mosaic; what it lacks is not compared.

    Returns
    -------
    list of str
        One sentence for each contradiction.

    Raises
    ------
    PhotplugError
        Where NDRIZIM or EXPTIME is no number.
    """
    files = list(dict.fromkeys(log.table["file"].tolist()))
    found = []
    cards, seconds = read_numbers(header, (), "correct it", optional=TOTALS), log.exptime.to_value(u.s)
    number, total = (cards.get(key) for key in TOTALS)
    if number is not None and number not in (len(files), len(log)):
        found.append(f"NDRIZIM is {number:g}, but the log has {len(log)} rows of {len(files)} files")
    if total is not None and not np.isclose(total, seconds, rtol=1e-6):
        found.append(f"EXPTIME is {total:.3f} s, but the log's {len(files)} files sum up to {seconds:.3f} s")
    listed: list[str] = []
    while (card := header.get(f"FLT{len(listed) + 1:05d}")) is not None:
        listed.append(str(card))
    if listed and listed != files:
        for what, odd in (("FLT cards are not in the log", set(listed) - set(files)),
                          ("files of the log have no FLT card", set(files) - set(listed))):  # fmt: skip
            if odd:
                found.append(f"{len(odd)} {what}, such as {min(odd)}")
        if set(listed) == set(files):
            pairs = zip(listed, files, strict=False)
            place = next((i for i, (card, file) in enumerate(pairs, 1) if card != file), len(files) + 1)
            found.append(f"the log's files have another order than the FLT cards, from number {place} on")
    return found


def find_overlap(log: ExposureLog, wcs: WCS, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which exposures may overlap an image: by the boxes around their footprints.

    Parameters
    ----------
    log : ExposureLog
        Of n exposures.
    wcs : `~astropy.wcs.WCS`
        Of the image.
    shape : tuple of int
        Of the image, (ny, nx).

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    corners = SkyCoord(*np.moveaxis(log.geometry.archive_corners(), -1, 0), representation_type="cartesian")
    x, y = skycoord_to_pixel(corners, wcs)
    inside = [
        (axis.max(axis=1) > -0.5) & (axis.min(axis=1) < n - 0.5) for axis, n in zip((x, y), shape[::-1], strict=True)
    ]
    return inside[0] & inside[1]


def agreement_with_map(log: ExposureLog, wcs: WCS, seconds: NDArray[np.float32], header: fits.Header) -> float:
    """Return the fraction of samples of an ``exp`` file that equal those of the log, by the archive's rule.

    Parameters
    ----------
    log : ExposureLog
    wcs : `~astropy.wcs.WCS`
        Of the mosaic.
    seconds : ndarray of float32, shape (ny, nx)
        Pixels of the ``exp`` file, exposure time in s.
    header : `~astropy.io.fits.Header`
        Of the ``exp`` file. Its CRPIX is that of the mosaic it was made for over SAMPLE, also where the science image
        has been cut out of that.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    PhotplugError
        Where a card of the map is no number.
    """
    advice = "correct the exposure map"
    sample = int(read_numbers(header, (), advice, optional=["SAMPLE"], kind="positive whole number").get("SAMPLE", 4))
    origin = read_numbers(header, (), advice, optional=("CRPIX1", "CRPIX2"))
    whole = wcs.deepcopy()
    whole.wcs.crpix = [sample * origin.get(f"CRPIX{axis}", wcs.wcs.crpix[axis - 1] / sample) for axis in (1, 2)]
    made = log.exposure_map(whole, tuple(sample * n for n in seconds.shape), sample, rule="archive")
    return float(np.mean(made == seconds))
