"""Simulated DJA mosaics with truth: a scene of stars and galaxies, drizzled from noisy exposures as the archive does.

`simulate_scene` (`dja_photplug.simulate.scene`) draws a table of sources; `simulate_mosaic` observes it in one band: it
exposes dithered, distorted detectors at two epochs (`dja_photplug.simulate.exposures`), drizzles them with STScI's
``drizzle``, and writes the products of a real mosaic beside the noise-free image and the table of sources. Several
bands share one scene.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.coordinates import get_sun
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.files.written import write_image
from dja_photplug.simulate.diffraction import draw_diffraction, make_psf
from dja_photplug.simulate.exposures import (
    DETECTOR_SCALE,
    Exposure,
    MosaicOptions,
    draw_light,
    expose,
    map_pixels,
    plan_exposures,
)
from dja_photplug.simulate.scene import Array, SceneOptions, field_grid, simulate_scene, trace_light

if TYPE_CHECKING:
    from drizzle.resample import Drizzle

__all__ = [
    "MosaicOptions",
    "SceneOptions",
    "SimulatedMosaic",
    "exposure_header",
    "import_drizzle",
    "log_exposures",
    "science_header",
    "simulate_mosaic",
    "simulate_scene",
]

# Pixels drizzled around the mosaic and cut off: drizzle 3 loses drops that straddle the edge of its output, 70 % of
# the weight in row 0 and 25 % in column 0.
MARGIN = 8
SAMPLE = 4  # mosaic pixels per sample of the exposure map
L2_DISTANCE = 1.5e9 * u.m


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMosaic:
    """What `simulate_mosaic` wrote.

    Attributes
    ----------
    prefix : Path
        Of the products: ``{directory}/{root}-{filter}``.
    truth_image : Path
        The noise-free image, drizzled alike.
    scene : `~astropy.table.QTable`
        The sources behind both.
    """

    prefix: Path
    truth_image: Path
    scene: QTable


def simulate_mosaic(directory: Path | str, scene: QTable, options: MosaicOptions) -> SimulatedMosaic:
    """Observe a scene in one band and write the products of its mosaic.

    Writes ``{root}-{filter}_drc_{sci,wht,exp}``, ``_drc_var`` on request, ``_truth_sci`` (all ``.fits.gz`` or
    ``.fits``), ``{root}-{filter}_wcs.csv`` and ``{root}_truth.ecsv``; existing files are replaced. The weight is
    that of equivalent uncorrelated pixels, as in the archive: the variance of a sum over an area large against a
    drop is the sum of 1/wht, while single pixels scatter less because drizzling correlates them.

    Parameters
    ----------
    directory : Path or str
        Made if it is not there.
    scene : QTable
        From `simulate_scene`, with a flux column for the band of ``options.filter``.
    options : MosaicOptions
        Exposures, detector and drizzling.

    Returns
    -------
    SimulatedMosaic
        Prefix, noise-free image and scene.

    Raises
    ------
    PhotplugError
        When the scene lacks the band, or STScI's ``drizzle`` is not installed.
    """
    column = f"{options.filter.removesuffix('-clear')}_flux"
    if column not in scene.colnames:
        raise PhotplugError(
            f"the scene has no column {column} for the filter {options.filter}: "
            f"it has {', '.join(c for c in scene.colnames if c.endswith('_flux'))}"
        )
    new_mosaic = import_drizzle("simulating a mosaic")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    prefix = directory / f"{options.root}-{options.filter}"
    shape, scale = scene.meta["SHAPE"], scene.meta["PIXSCALE"] / options.subsample
    shape = (shape[0] * options.subsample, shape[1] * options.subsample)
    grid = field_grid(scene.meta["RA"], scene.meta["DEC"], shape, scale)
    rng = np.random.default_rng([options.seed, *options.filter.encode()])
    exposures = plan_exposures(grid, options, rng)
    planes, medians = _drizzle(new_mosaic, _choose_draw(scene, column, options), exposures, grid, options, rng)

    log = log_exposures(exposures, options)
    header = science_header(grid, log, medians, options)
    suffix = ".fits.gz" if options.compress else ".fits"
    for kind in ("sci", "wht", "var") if options.var else ("sci", "wht"):
        write_image(Path(f"{prefix}_drc_{kind}{suffix}"), planes[kind], header, overwrite=True)
    exposure_map = _exposure_map(exposures, grid, int(options.exposure_time))
    write_image(Path(f"{prefix}_drc_exp{suffix}"), exposure_map, exposure_header(header, grid, options), overwrite=True)
    truth_image = Path(f"{prefix}_truth_sci{suffix}")
    write_image(truth_image, planes["truth"], header, overwrite=True)
    log.write(f"{prefix}_wcs.csv", format="ascii.csv", overwrite=True)
    scene.write(directory / f"{options.root}_truth.ecsv", overwrite=True)
    return SimulatedMosaic(prefix=prefix, truth_image=truth_image, scene=scene)


def _choose_draw(scene: QTable, column: str, options: MosaicOptions) -> Callable[[WCS], Array]:
    """Return what draws the scene on a detector."""
    if options.psf == "diffraction":
        return partial(draw_diffraction, trace_light(scene, column, 0.0), psf=make_psf(options.filter))
    return partial(draw_light, trace_light(scene, column, options.psf_fwhm))


def import_drizzle(purpose: str) -> type[Drizzle]:
    """Return STScI's drizzle, which is an extra.

    Parameters
    ----------
    purpose : str
        What needs it.

    Returns
    -------
    type
        `drizzle.resample.Drizzle`.

    Raises
    ------
    PhotplugError
        Where it is not installed.
    """
    try:
        from drizzle import resample
    except ImportError as error:
        raise PhotplugError(
            f'{purpose} needs STScI\'s drizzle, which is not installed: pip install "dja_photplug[demo]"'
        ) from error
    return resample.Drizzle


def _drizzle(
    new_mosaic: type[Drizzle],
    draw: Callable[[WCS], Array],
    exposures: list[Exposure],
    grid: WCS,
    options: MosaicOptions,
    rng: np.random.Generator,
) -> tuple[dict[str, NDArray[np.float32]], list[float]]:
    """Expose and drizzle: planes sci, wht, truth (and var), and the median weight of each exposure.

    drizzle takes weighted means of surface brightness, which is what a `Frame` holds, per mosaic pixel. Its output
    weight is the sum of weight x overlap / drop area: n exposures of n_pix detector pixels per mosaic pixel give
    n n_pix / variance, the inverse variance of uncorrelated mosaic pixels with the same noise on large scales. The
    full variance is the mean of weight x variance over that sum, on the same footing.
    """
    kinds = ("sci", "truth", "var") if options.var else ("sci", "truth")
    padded = tuple(n + 2 * MARGIN for n in grid.array_shape)
    drizzlers = {kind: new_mosaic(kernel="square", fillval="0", out_shape=padded, disable_ctx=True) for kind in kinds}
    nominal = (DETECTOR_SCALE / 3600 / grid.wcs.cd[1, 1]) ** 2
    medians = []
    for exposure in exposures:
        pixels = map_pixels(exposure, grid)
        frame = expose(draw(exposure.wcs), pixels.area, nominal, options, rng)
        inputs = {"sci": frame.data, "truth": frame.light, "var": frame.weight * frame.variance}
        for kind, drizzler in drizzlers.items():
            drizzler.add_image(
                inputs[kind],
                exptime=options.exposure_time,
                pixmap=pixels.position + MARGIN,
                weight_map=frame.weight,
                pixfrac=options.pixfrac,
            )
        medians.append(float(np.median(frame.weight)))
    inner = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    planes = {kind: drizzler.out_img[inner] for kind, drizzler in drizzlers.items()}
    planes["wht"] = drizzlers["sci"].out_wht[inner]
    if options.var:
        covered = planes["wht"] > 0
        planes["var"] = np.divide(planes["var"], planes["wht"], out=np.zeros_like(planes["var"]), where=covered)
    # To the units of the archive's header cards, those of the surface brightness in MJy/sr.
    per_surface_brightness = (nominal * options.phot_scale * options.photmjsr) ** -2
    return planes, [median * per_surface_brightness for median in medians]


def _exposure_map(exposures: list[Exposure], grid: WCS, seconds: int) -> NDArray[np.uint32]:
    """Exposure time at mosaic pixels 0, 4, 8, ... (0-based) within the straight footprint polygons."""
    y, x = (SAMPLE * np.arange(n // SAMPLE) for n in grid.array_shape)
    total = np.zeros((y.size, x.size), np.uint32)
    for exposure in exposures:
        corners = grid.wcs_world2pix(exposure.wcs.calc_footprint(), 0)
        sides = []
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            sides.append((x1 - x0) * (y[:, None] - y0) - (y1 - y0) * (x - x0) >= 0)
        # A convex polygon: inside is on the same side of all edges, whichever way it turns.
        total[np.all(sides, axis=0) | ~np.any(sides, axis=0)] += np.uint32(seconds)
    return total


def log_exposures(exposures: list[Exposure], options: MosaicOptions) -> Table:
    """Return the WCS log of exposures.

    Parameters
    ----------
    exposures : list of Exposure
    options : MosaicOptions
        Exposure time.

    Returns
    -------
    `~astropy.table.Table`
        With the columns of the archive's ``wcs.csv``; an undistorted detector has no SIP columns.
    """
    duration = options.exposure_time / 86400
    begin = np.array([exposure.begin for exposure in exposures])
    centres = np.array([exposure.wcs.wcs.crval for exposure in exposures])
    matrices = np.array([exposure.wcs.wcs.cd for exposure in exposures])
    first = exposures[0].wcs
    log = Table({"file": [exposure.file for exposure in exposures]})
    log["ext"], log["exptime"], log["wcsaxes"] = 1, options.exposure_time, 2
    log["crpix1"], log["crpix2"] = first.wcs.crpix
    for i, j in np.ndindex(2, 2):
        log[f"cd{i + 1}_{j + 1}"] = matrices[:, i, j]
    log["cdelt1"], log["cdelt2"], log["cunit1"], log["cunit2"] = 1.0, 1.0, "deg", "deg"
    log["ctype1"], log["ctype2"] = first.wcs.ctype
    log["crval1"], log["crval2"] = centres.T
    log["lonpole"], log["latpole"], log["wcsname"], log["mjdref"] = 180.0, centres[:, 1], "USER", 0.0
    for key, when in (("beg", begin), ("avg", begin + duration / 2), ("end", begin + duration)):
        log[f"date-{key}"] = Time(when, format="mjd", scale="utc").isot
        log[f"mjd-{key}"] = when.round(9)
    log["xposure"] = log["telapse"] = options.exposure_time
    # JWST's vector is inertial (GCRS): here simply at L2, opposite to the Sun.
    sun = get_sun(Time(begin + duration / 2, format="mjd", scale="utc")).cartesian
    position = -(sun / sun.norm() * L2_DISTANCE).xyz.to_value("m")
    for axis, values in zip("xyz", position, strict=True):
        log[f"obsgeo-{axis}"] = values
    log["radesys"], log["velosys"] = "ICRS", 0.0
    if first.sip is not None:
        _add_sip_columns(log, exposures)
    log["naxis"], log["naxis1"], log["naxis2"] = 2, first.array_shape[1], first.array_shape[0]
    if first.sip is not None:
        log["sipcrpx1"], log["sipcrpx2"] = first.sip.crpix
    return log


def _add_sip_columns(log: Table, exposures: list[Exposure]) -> None:
    """Append ``a_order a_0_2 ... b_order b_0_2 ...``."""
    for name in "ab":
        polynomials = np.array([getattr(exposure.wcs.sip, name) for exposure in exposures])
        order = polynomials.shape[1] - 1
        log[f"{name}_order"] = order
        for p in range(order + 1):
            for q in range(max(2 - p, 0), order + 1 - p):
                log[f"{name}_{p}_{q}"] = polynomials[:, p, q]


def science_header(grid: WCS, log: Table, medians: list[float], options: MosaicOptions) -> fits.Header:
    """Return the header of a real science image.

    Parameters
    ----------
    grid : `~astropy.wcs.WCS`
        Of the mosaic, with its array shape.
    log : `~astropy.table.Table`
        From :func:`log_exposures`.
    medians : list of float
        Median weight of each exposure, (MJy/sr)^-2.
    options : MosaicOptions
        Filter, drizzling, photometric keywords.

    Returns
    -------
    `~astropy.io.fits.Header`
        WCS with CD, photometry, first exposure's dates, list of exposures.
    """
    name, _, pupil = options.filter.upper().partition("-")
    # Angstrom, as the names of NIRCam's filters tell it.
    wavelength = 100.0 * int("".join(c for c in name if c.isdigit())[:3] or 0)
    first = log[0]
    cards: list[tuple[str, object]] = [("WCSAXES", 2)]
    cards += [(f"CRPIX{i + 1}", value) for i, value in enumerate(grid.wcs.crpix)]
    cards += [("CD1_1", grid.wcs.cd[0, 0]), ("CD2_2", grid.wcs.cd[1, 1])]
    cards += [("CDELT1", 1.0), ("CDELT2", 1.0), ("CUNIT1", "deg"), ("CUNIT2", "deg")]
    cards += [("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN")]
    cards += [(f"CRVAL{i + 1}", value) for i, value in enumerate(grid.wcs.crval)]
    cards += [("LONPOLE", 180.0), ("LATPOLE", grid.wcs.crval[1]), ("MJDREF", 0.0), ("RADESYS", "ICRS")]
    cards += [("CD1_2", 0.0), ("CD2_1", 0.0), ("DRIZKERN", "square"), ("DRIZPIXF", options.pixfrac)]
    cards += [("EXPTIME", float(np.sum(log["exptime"]))), ("NDRIZIM", len(log))]
    cards += [("PIXFRAC", options.pixfrac), ("KERNEL", "square"), ("PHOTSCAL", options.photscal)]
    cards += [("TELESCOP", "JWST"), ("FILTER", name), ("PUPIL", pupil), ("INSTRUME", "NIRCAM")]
    cards += [("DETECTOR", options.detectors[0].upper()), ("PHOTFNU", 1e-8)]
    if wavelength:
        cards += [("PHOTFLAM", 1e-31 * 2.99792458e18 / wavelength**2), ("PHOTPLAM", wavelength)]
    cards += [("EXPSTART", first["mjd-beg"]), ("EXPEND", first["mjd-end"])]
    cards += [("DATE-OBS", first["date-beg"][:10]), ("TIME-OBS", first["date-beg"][11:])]
    cards += [("PHOTMJSR", options.photmjsr), ("PIXAR_SR", (DETECTOR_SCALE * u.arcsec).to_value("rad") ** 2)]
    for i, (file, median) in enumerate(zip(log["file"], medians, strict=True), start=1):
        cards += [(f"FLT{i:05d}", file), (f"WHT{i:05d}", median)]
    cards += [("OPHOTFNU", options.ophotfnu), ("BUNIT", "10.0*nanoJansky")]
    return fits.Header([(key, value.item() if isinstance(value, np.generic) else value) for key, value in cards])


def exposure_header(science: fits.Header, grid: WCS, options: MosaicOptions) -> fits.Header:
    """Return the header of a real exposure map.

    Parameters
    ----------
    science : `~astropy.io.fits.Header`
        From :func:`science_header`.
    grid : `~astropy.wcs.WCS`
        Of the mosaic, with its array shape.
    options : MosaicOptions
        Photometric scale.

    Returns
    -------
    `~astropy.io.fits.Header`
        With its traps: ``CRPIX/4`` is 3/4 sample off, ``DNTOEPS`` is inverted.
    """
    header = science.copy()
    for i in (1, 2):
        header[f"CRPIX{i}"] /= SAMPLE
        header[f"CD{i}_{i}"] *= SAMPLE
    header["BUNIT"] = "second"
    header["SAMPLE"] = SAMPLE
    header["NXORIG"], header["NYORIG"] = grid.array_shape[::-1]
    header["MOSPSCL"], header["ORIGPSCL"] = grid.wcs.cd[1, 1] * 3600, DETECTOR_SCALE
    header["DNTOEPS"] = SAMPLE**2 / options.phot_scale
    return header
