"""How the products of a mosaic are to be read: their grid, exposure time, detector gain and noise model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.epochs.log import ExposureLog, exposure_log
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import MosaicFiles, Source, find_mosaic
from dja_photplug.files.pixels import Allocate, ImageReader, check_product, read_image
from dja_photplug.mosaic.models.electrons import check_unit
from dja_photplug.mosaic.models.exposure import SAMPLE, ExposureMap
from dja_photplug.mosaic.models.fullweight import GivenVariance, NoiseModel, check_unused, make_noise_model
from dja_photplug.mosaic.models.noise import trim_model
from dja_photplug.options.bands import of_band
from dja_photplug.options.stages import VarianceOptions, as_variance_options
from dja_photplug.remote.cache import local_copies
from dja_photplug.sky.cards import try_both
from dja_photplug.sky.cutouts import Cutout, resolve_cutout, tell_edge
from dja_photplug.sky.grid import Window, check_pixels, check_same_grid, crop_header, header_wcs
from dja_photplug.sky.headers import find_contradiction

__all__ = [
    "Plan",
    "VarianceHook",
    "check_detector_gain",
    "check_member",
    "given_variance",
    "load_exposure",
    "load_noise_model",
    "plan_loading",
]

FEWEST_GAIN_PIXELS = 100
EDGE = 4  # samples of an exposure map beside a cut-out that are read too: its pixels may take their time from two

VarianceHook = Callable[[fits.Header, ExposureMap | None, ExposureLog | None], NoiseModel]


class Plan(NamedTuple):
    """How the pixels of a mosaic are to be read."""

    wcs: WCS
    """Of the whole mosaic."""
    window: Window
    header: fits.Header
    """Of the window, as the science image has it."""
    model: NoiseModel


def load_noise_model(
    files: str | Path | MosaicFiles,
    noise: str | VarianceOptions = "dja",
    cutout: Cutout = None,
) -> NoiseModel:
    """Return another noise model of a mosaic or its cut-out than that it was loaded with, reading headers alone.

    Parameters
    ----------
    files, noise, cutout
        As for :func:`load_mosaic`.

    Returns
    -------
    NoiseModel
        For the blocks of rows of the cut-out, (rows, nx).

    Raises
    ------
    PhotplugError
        As :func:`load_mosaic`.
    """
    files = find_mosaic(files)
    with ImageReader(files.science) as science:
        return plan_loading(files, of_band(as_variance_options(noise), files.band), cutout, None, science).model


def given_variance(files: MosaicFiles, options: VarianceOptions) -> Path | None:
    """Return the file that holds the variance of a mosaic, where the options take it.

    Parameters
    ----------
    files : MosaicFiles
    options : VarianceOptions

    Returns
    -------
    Path or None
    """
    # That of a plugin is asked for its own.
    return files.variance if options.noise in ("dja", "calibrated") else None


def plan_loading(
    files: MosaicFiles,
    options: VarianceOptions,
    cutout: Cutout,
    variance: VarianceHook | None,
    science: ImageReader,
    allocate: Allocate = np.empty,
) -> Plan:
    """Return how a mosaic is to be read.

    Parameters
    ----------
    files, options, cutout, variance
        As for :func:`dja_photplug.mosaic.load.open_mosaic`; options of its band.
    science : ImageReader
    allocate : callable, optional
        ``allocate(shape, dtype) -> ndarray``, which makes the array of the exposure map.

    Returns
    -------
    Plan

    Raises
    ------
    PhotplugError
        Naming the file, where the header does not say what the preset needs.
    """
    given = given_variance(files, options)
    try:
        wcs = _check_header(files, options, variance, science)
        window = resolve_cutout(cutout, wcs, science.shape)
        tell_edge(cutout, wcs, science.shape)
        check_pixels(wcs[window], (window[0].stop - window[0].start, window[1].stop - window[1].start))
        if contradiction := find_contradiction(science.header):
            warnings.warn(f"{files.science}: {contradiction}", PhotplugWarning, stacklevel=2)
        header = crop_header(science.header, window)
        if given is not None:
            check_unused(options, f"{given.name} holds the variance, photons and all")
            return Plan(wcs, window, header, GivenVariance(options.noise, given.name))
    except PhotplugError as error:
        raise PhotplugError(f"{files.science}: {error}") from None
    log, exposure = _find_time(files, options, science, window, allocate)  # what is wrong with these names their files
    try:
        return Plan(wcs, window, header, _make_model(options, variance, header, exposure, log))
    except PhotplugError as error:
        raise PhotplugError(f"{files.science}: {error}") from None


def _check_header(
    files: MosaicFiles, options: VarianceOptions, variance: VarianceHook | None, science: ImageReader
) -> WCS:
    """Return the WCS of a science image, or name all that its header lacks at once, for the noise model too."""
    header, check = science.header, partial(check_unit, science.header)
    try:
        return try_both(check, partial(header_wcs, header))[1]
    except PhotplugError as error:
        if given_variance(files, options) is None:
            one_pixel, second = header.copy(), ExposureMap(np.ones((1, 1), np.float32))
            one_pixel["NAXIS1"] = one_pixel["NAXIS2"] = 1
            model = partial(_make_model, options, variance, one_pixel, second, exposure_log(files))
            try_both(partial(_raise, error), model)
        raise


def _raise(error: PhotplugError) -> None:
    raise error


def _find_time(
    files: MosaicFiles,
    options: VarianceOptions,
    science: ImageReader,
    window: Window | None = None,
    allocate: Allocate = np.empty,
) -> tuple[ExposureLog | None, ExposureMap | None]:
    """Return the log of a mosaic and its exposure time, for presets that ask for it."""
    log = exposure_log(files)
    return log, None if options.noise == "background" else _find_exposure(files, log, science, window, allocate)


def check_member(other: ImageReader, science: ImageReader, wcs: WCS) -> None:
    """Refuse a weight or variance of another shape, or part of the sky; one without a WCS is believed to fit.

    Parameters
    ----------
    other, science : ImageReader
    wcs : `~astropy.wcs.WCS`
        Of the science image.

    Raises
    ------
    PhotplugError
    """
    if other.shape != science.shape:
        its, mine = (f"{each.shape[1]} x {each.shape[0]}" for each in (other, science))
        raise PhotplugError(
            f"{other.path}: has {its} pixels, but {science.path.name} has {mine}; give products of one mosaic"
        )
    if "CTYPE1" not in other.header:
        return
    try:
        check_same_grid(wcs, header_wcs(other.header), other.shape)
    except PhotplugError as error:
        raise PhotplugError(f"{other.path}: {error}") from None


def _make_model(
    options: VarianceOptions,
    variance: VarianceHook | None,
    header: fits.Header,
    exposure: ExposureMap | None,
    log: ExposureLog | None,
) -> NoiseModel:
    return trim_model((variance or partial(make_noise_model, options=options))(header, exposure, log))


def _find_exposure(
    files: MosaicFiles,
    log: ExposureLog | None,
    science: ImageReader,
    window: Window | None = None,
    allocate: Allocate = np.empty,
) -> ExposureMap | None:
    """Return the archive's exposure map, 0 in rows that a window does not need, or that of the WCS log by its rule."""
    if files.exposure is not None:
        return ExposureMap(*_read_exposure(files.exposure, science, window, allocate), name=files.exposure.name)
    if log is None:
        return None
    wcs = header_wcs(science.header)
    coarse = {"SAMPLE": SAMPLE, "NXORIG": science.shape[1], "NYORIG": science.shape[0]}
    coarse |= {f"CRPIX{axis}": wcs.wcs.crpix[axis - 1] / SAMPLE for axis in (1, 2)}
    seconds = log.exposure_map(wcs, science.shape, SAMPLE, rule="archive")
    if not seconds.any():
        raise PhotplugError(
            f"none of the {len(log)} exposures of {log.name} overlaps the mosaic; is it the log of another field?"
        )
    return ExposureMap(seconds, coarse)


def _read_exposure(
    path: Path, science: ImageReader, window: Window | None, allocate: Allocate
) -> tuple[NDArray[np.float32], fits.Header]:
    with ImageReader(path) as reader:
        rows, (n_rows, _) = slice(0, reader.shape[0]), reader.shape
        own = next((step for step in (1, SAMPLE) if tuple(n // step for n in science.shape) == reader.shape), None)
        if window is not None and own is not None:  # the map of a larger field begins elsewhere
            low, high = window[0].start // own - EDGE, window[0].stop // own + EDGE + 1
            rows = slice(max(low, 0), min(high, n_rows))
        if rows != slice(0, n_rows):
            seconds = allocate(reader.shape, np.float32)
            seconds[: rows.start] = seconds[rows.stop :] = 0
            for _ in reader.blocks((rows, slice(0, reader.shape[1])), seconds[rows]):
                pass
            return seconds, reader.header
    return read_image(path, allocate=allocate)


def load_exposure(files: str | Path | Source, cutout: Cutout = None) -> NDArray[np.float32] | None:
    """Return the coarse exposure map that covers a mosaic or its cut-out, without reading the mosaic's pixels.

    Parameters
    ----------
    files : str, Path or Source
    cutout : optional
        As for :func:`load_mosaic`.

    Returns
    -------
    ndarray or None
        Seconds, (ny // 4, nx // 4): the archive's map, or the one of the WCS log; None where there is neither, and
        for sources that are no mosaics of the archive.

    Raises
    ------
    PhotplugError
        Where a file cannot be read.
    """
    if isinstance(files, Source) and not isinstance(files, MosaicFiles):
        return None
    files = find_mosaic(files)
    with ImageReader(files.science) as science:
        window = resolve_cutout(cutout, files.grid().wcs, science.shape)
        exposure = _find_exposure(files, exposure_log(files), science, window)
        sample = science.shape[0] // exposure.data.shape[0] if exposure else 1
    if exposure is None:
        return None
    rows, columns = (slice(part.start // sample, -(-part.stop // sample)) for part in window)
    return exposure.data[rows, columns]


def check_detector_gain(files: str | Path | MosaicFiles) -> tuple[float, float, int]:
    """Measure the detector gain from a ``_var`` file: the inverse slope of var - 1/wht against sci/(phot_scale exp).

    Parameters
    ----------
    files : str, Path or MosaicFiles

    Returns
    -------
    gain, error : float
        Electrons per DN, and the sampling error of the median over the pixels (drizzled pixels are correlated: for
        independent ones it is about twice that).
    n_pixels : int
        Pixels used: those where the source photons are most of the variance.

    Raises
    ------
    PhotplugError
        Where there is no ``_var`` file or exposure time, or fewer than 100 such pixels.
    """
    from astropy.stats import mad_std

    files = find_mosaic(files)
    if files.variance is None:
        raise PhotplugError(f"{files}: has no _var file to measure the gain from; use the tabulated value")
    with ExitStack() as stack:
        near = local_copies((files.science, files.weight, files.variance), check_product)
        readers = [stack.enter_context(ImageReader(path)) for path in near]
        wcs = files.grid().wcs
        for other in readers[1:]:
            check_member(other, readers[0], wcs)
        # With a gain of 1 the Poisson variance of the registered model is sci / (phot_scale exp) itself.
        options = VarianceOptions(noise="calibrated", detector_gain=1.0)
        log, exposure = _find_time(files, options, readers[0])
        model = _make_model(options, None, readers[0].header, exposure, log)
        ratios = []
        for (rows, science), (_, weight), (_, variance) in zip(*(reader.blocks() for reader in readers), strict=True):
            full = model(science, weight, rows)
            bright = (full > 0) & (full < weight / 2)
            background = 1 / weight[bright]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios.append((1 / full[bright] - background) / (variance[bright] - background))
    ratio = np.concatenate(ratios)
    ratio = ratio[np.isfinite(ratio)]
    if len(ratio) < FEWEST_GAIN_PIXELS:
        raise PhotplugError(
            f"{files}: only {len(ratio)} pixels are dominated by source photons, but measuring the gain needs "
            f"{FEWEST_GAIN_PIXELS}; use the tabulated value"
        )
    scatter = mad_std(ratio)
    return float(np.median(ratio)), float(np.sqrt(np.pi / 2 / len(ratio)) * scatter), len(ratio)
