"""From the products of a mosaic to its NDData, and to what else they tell: exposure map, log, detector gain."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import InverseVariance
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.epochs.log import ExposureLog, read_exposure_log
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import encode_cards
from dja_photplug.files.names import MosaicFiles, Source, find_mosaic
from dja_photplug.files.pixels import ImageReader, read_image
from dja_photplug.mosaic.electrons import check_unit
from dja_photplug.mosaic.fullweight import (
    SAMPLE,
    Cards,
    ExposureMap,
    GivenVariance,
    NoiseModel,
    check_unused,
    make_noise_model,
    tell_uncovered,
)
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.bands import of_band
from dja_photplug.options.stages import VarianceOptions, as_variance_options
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.sky.cards import try_both
from dja_photplug.sky.grid import (
    Cutout,
    Window,
    check_pixels,
    check_same_grid,
    crop_header,
    header_wcs,
    resolve_cutout,
)
from dja_photplug.sky.headers import WCS_CARDS, find_contradiction
from dja_photplug.units import MOSAIC_UNIT, MOSAIC_ZERO_POINT

__all__ = [
    "check_detector_gain",
    "exposure_log",
    "load_exposure",
    "load_mosaic",
    "load_noise_model",
]

FEWEST_GAIN_PIXELS = 100

Plane = NDArray[np.float32]
VarianceHook = Callable[[fits.Header, ExposureMap | None, ExposureLog | None], NoiseModel]

# Cards that the WCS and the pixel arrays hold themselves; kept in the metadata they would go stale when sliced.
_OWN_CARDS = re.compile(rf"SIMPLE|BITPIX|NAXIS\d?|EXTEND|BSCALE|BZERO|BUNIT|{WCS_CARDS.pattern}")


def load_mosaic(
    files: str | Path | MosaicFiles,
    noise: str | VarianceOptions = "dja",
    cutout: Cutout = None,
    *,
    variance: VarianceHook | None = None,
) -> MosaicImage:
    """Load a mosaic of the archive, or a cut-out of it, with its full weight.

    Pixels are read once, in blocks of rows; the full weight of a block is computed while the next is inflated.

    Parameters
    ----------
    files : str, Path or MosaicFiles
        Prefix or any member file.
    noise : str or VarianceOptions
        Preset ``dja``, ``calibrated`` or ``background``, or options. A ``_var`` file holds the full variance, with
        Poisson noise and gain, and is used as it is with every preset but ``background``.
    cutout : optional
        ``(SkyCoord, size)``, a sky or pixel region (its bounding box), or slices (y, x). Rows below are skipped,
        rows above never read.
    variance : callable, optional
        ``variance(header, exposure, log) -> NoiseModel``, another model than that of `noise`.

    Returns
    -------
    MosaicImage
        ``meta`` holds the science header without its WCS, and the cards NOISE, DETGAIN, GROWTH, PHOTSCLE, ZEROPNT,
        NFILLED, NNULL and others of the noise model.

    Raises
    ------
    PhotplugError
        Where a member is missing or damaged, shapes or places on the sky differ, pixels are not square, or the header
        does not say what the preset needs.
    """
    files = find_mosaic(files)
    options = of_band(as_variance_options(noise), files.band)
    with ExitStack() as stack:
        science = stack.enter_context(ImageReader(files.science))
        given = _given_variance(files, options)
        readers = [science, *(stack.enter_context(ImageReader(path)) for path in (files.weight, given) if path)]
        for other in readers[1:]:
            _check_shape(other, science)
        wcs, window, header, model = _plan_loading(files, options, cutout, variance, science)
        for other in readers[1:]:
            _check_place(other, wcs)
        planes, odd = _read_planes(readers, window, model)
    for key in {key for key in header if _OWN_CARDS.fullmatch(key)}:  # a set: one deletion takes all of a keyword
        del header[key]
    header["ZEROPNT"] = (MOSAIC_ZERO_POINT, "[mag(AB)] of one unit of the image, 10 nJy")
    header.update(encode_cards(model.provenance))
    header.update(odd)
    if "GROWTH" in model.provenance:
        header["EXPFROM"] = ("WCS log" if files.exposure is None else "exp file", "source of the exposure time")
    data, full, weight, mask = planes
    tell_uncovered(model, weight)
    return MosaicImage(
        data,
        unit=MOSAIC_UNIT,
        uncertainty=InverseVariance(full, copy=False),  # 576 MB at 12000 x 12000
        mask=mask,
        wcs=wcs if cutout is None else wcs[window],
        meta=header,
        background_weight=weight,
        noise_model=None if isinstance(model, GivenVariance) else model,  # that is no function of the light
    )


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
        return _plan_loading(files, of_band(as_variance_options(noise), files.band), cutout, None, science)[-1]


def _given_variance(files: MosaicFiles, options: VarianceOptions) -> Path | None:
    # That of a plugin is asked for its own.
    return files.variance if options.noise in ("dja", "calibrated") else None


def _plan_loading(
    files: MosaicFiles, options: VarianceOptions, cutout: Cutout, variance: VarianceHook | None, science: ImageReader
) -> tuple[WCS, Window, fits.Header, NoiseModel]:
    """Return the WCS of the mosaic, and window, header and noise model of the pixels to be read."""
    given = _given_variance(files, options)
    try:
        wcs = _check_header(files, options, variance, science)
        window = resolve_cutout(cutout, wcs, science.shape)
        check_pixels(wcs[window], (window[0].stop - window[0].start, window[1].stop - window[1].start))
        if contradiction := find_contradiction(science.header):
            warnings.warn(f"{files.science}: {contradiction}", PhotplugWarning, stacklevel=2)
        header = crop_header(science.header, window)
        if given is not None:
            check_unused(options, f"{given.name} holds the variance, photons and all")
            return wcs, window, header, GivenVariance(options.noise, given.name)
    except PhotplugError as error:
        raise PhotplugError(f"{files.science}: {error}") from None
    log, exposure = _find_time(files, options, science)  # what is wrong with these names their files
    try:
        return wcs, window, header, _make_model(options, variance, header, exposure, log)
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
        if _given_variance(files, options) is None:
            one_pixel, second = header.copy(), ExposureMap(np.ones((1, 1), np.float32))
            one_pixel["NAXIS1"] = one_pixel["NAXIS2"] = 1
            model = partial(_make_model, options, variance, one_pixel, second, exposure_log(files))
            try_both(partial(_raise, error), model)
        raise


def _raise(error: PhotplugError) -> None:
    raise error


def _check_shape(other: ImageReader, science: ImageReader) -> None:
    """Refuse a member of another shape than the science image."""
    if other.shape != science.shape:
        its, mine = (f"{each.shape[1]} x {each.shape[0]}" for each in (other, science))
        raise PhotplugError(
            f"{other.path}: has {its} pixels and {science.path.name} {mine}; give products of one mosaic"
        )


def _find_time(
    files: MosaicFiles, options: VarianceOptions, science: ImageReader
) -> tuple[ExposureLog | None, ExposureMap | None]:
    """Return the log of a mosaic and its exposure time, for presets that ask for it."""
    log = exposure_log(files)
    return log, None if options.noise == "background" else _find_exposure(files, log, science)


def _check_place(other: ImageReader, wcs: WCS) -> None:
    """Refuse a weight or variance of another part of the sky; one without a WCS is believed to fit."""
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
    return (variance or partial(make_noise_model, options=options))(header, exposure, log)


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
    from scipy.stats import median_abs_deviation  # 0.5 s to import, and no other step of loading needs it

    files = find_mosaic(files)
    if files.variance is None:
        raise PhotplugError(f"{files}: has no _var file, and only that tells the gain; use the table's value")
    with ExitStack() as stack:
        paths = (files.science, files.weight, files.variance)
        readers = [stack.enter_context(ImageReader(path)) for path in paths]
        wcs = files.grid().wcs
        for other in readers[1:]:
            _check_shape(other, readers[0])
            _check_place(other, wcs)
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
            f"{files}: only {len(ratio)} pixels are dominated by source photons, and measuring the gain needs "
            f"{FEWEST_GAIN_PIXELS}; use the table's value"
        )
    scatter = median_abs_deviation(ratio, scale="normal")
    return float(np.median(ratio)), float(np.sqrt(np.pi / 2 / len(ratio)) * scatter), len(ratio)


def _find_exposure(files: MosaicFiles, log: ExposureLog | None, science: ImageReader) -> ExposureMap | None:
    """Return the archive's exposure map of the whole mosaic, or the one of the WCS log by the archive's rule."""
    if files.exposure is not None:
        return ExposureMap(*read_image(files.exposure), name=files.exposure.name)
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


def _read_planes(
    readers: list[ImageReader], window: Window, model: NoiseModel
) -> tuple[tuple[Plane, Plane, Plane, NDArray[np.bool_]], Cards]:
    """Return science, full weight, published weight and mask, read in step, and cards of odd pixels if any."""
    shape = tuple(part.stop - part.start for part in window)
    data, full, weight = (new_plane(shape, np.float32) for _ in range(3))
    mask = new_plane(shape, np.bool_)
    n_infinite = n_negative = 0
    for blocks in zip(*(reader.blocks(window) for reader in readers), strict=True):
        rows = blocks[0][0]
        data[rows], weight[rows] = blocks[0][1], blocks[1][1]
        first = blocks[2][1] if len(blocks) == 3 else data[rows]
        full[rows] = model(first, weight[rows], rows)
        np.equal(full[rows], 0, out=mask[rows])
        finite = np.isfinite(data[rows]) & np.isfinite(weight[rows])
        n_infinite += int(np.count_nonzero(~finite & ~(weight[rows] <= 0)))
        negative = weight[rows] < 0
        n_negative += int(np.count_nonzero(negative))
        weight[rows][negative | ~np.isfinite(weight[rows])] = 0
    odd = {
        "NNOTFIN": (n_infinite, "pixels with weight that are not finite: no data"),
        "NNEGWHT": (n_negative, "pixels with a negative weight: no data"),
    }
    return (data, full, weight, mask), {key: card for key, card in odd.items() if card[0]}


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
        exposure = _find_exposure(files, exposure_log(files), science)
        window = resolve_cutout(cutout, files.grid().wcs, science.shape)
        sample = science.shape[0] // exposure.data.shape[0] if exposure else 1
    if exposure is None:
        return None
    rows, columns = (slice(part.start // sample, -(-part.stop // sample)) for part in window)
    return exposure.data[rows, columns]


def exposure_log(source: Source) -> ExposureLog | None:
    """Return the WCS log of a source, read once however often it is asked for; None where there is none.

    Parameters
    ----------
    source : Source

    Returns
    -------
    ExposureLog or None
        Shared by all who ask, until the file changes.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.read_exposure_log`.
    """
    if source.log is None:
        return None
    try:
        status = os.stat(source.log)
    except OSError as error:
        raise PhotplugError(f"{source.log}: the WCS log of {source} cannot be read ({error.strerror})") from None
    return _read_log_once(source.log, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_log_once(path: Path, _changed: int, _size: int) -> ExposureLog:
    return read_exposure_log(path)
