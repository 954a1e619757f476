"""From the products of a mosaic to its NDData, and to what else they tell: exposure map, log, detector gain."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.archive.fetch import bring_near
from dja_photplug.epochs.log import ExposureLog, exposure_log
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import encode_cards
from dja_photplug.files.names import MosaicFiles, Source, find_mosaic
from dja_photplug.files.pixels import Allocate, ImageReader, check_product, read_image
from dja_photplug.mosaic.models.electrons import check_unit
from dja_photplug.mosaic.models.exposure import SAMPLE, ExposureMap
from dja_photplug.mosaic.models.fullweight import (
    GivenVariance,
    NoiseModel,
    check_unused,
    expect_cards,
    make_noise_model,
    tell_uncovered,
)
from dja_photplug.mosaic.models.noise import trim_model
from dja_photplug.options.bands import of_band
from dja_photplug.options.stages import VarianceOptions, as_variance_options
from dja_photplug.parallel.progress import tell_read
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.readers.streams import ahead
from dja_photplug.remote.cache import local_copies
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

if TYPE_CHECKING:
    from dja_photplug.mosaic.image import MosaicImage

__all__ = [
    "Block",
    "MosaicStream",
    "check_detector_gain",
    "load_exposure",
    "load_mosaic",
    "load_noise_model",
    "open_mosaic",
]

FEWEST_GAIN_PIXELS = 100
AHEAD = 4  # blocks of rows that wait for the full weight of those before them
EDGE = 4  # samples of an exposure map beside a cut-out that are read too: its pixels may take their time from two

Plane = NDArray[np.float32]
VarianceHook = Callable[[fits.Header, ExposureMap | None, ExposureLog | None], NoiseModel]
_Plan = tuple[WCS, Window, fits.Header, NoiseModel]
"""The WCS of a mosaic, and window, header and noise model of the pixels to be read."""

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
    from astropy.nddata import InverseVariance  # 0.1 s to import, and a stream of blocks needs it not

    from dja_photplug.mosaic.image import MosaicImage

    # The exposure map too in a file where processes share the planes: the noise model goes to each of them.
    with open_mosaic(files, noise, cutout, variance=variance, allocate=new_plane) as stream:
        data, full, weight, mask = _read_planes(stream)
    model = stream.model
    return MosaicImage(
        data,
        unit=MOSAIC_UNIT,
        uncertainty=InverseVariance(full, copy=False),  # 576 MB at 12000 x 12000
        mask=mask,
        wcs=stream.wcs,
        meta=stream.meta(),
        background_weight=weight,
        noise_model=None if isinstance(model, GivenVariance) else model,  # that is no function of the light
    )


class Block(NamedTuple):
    """Rows of a mosaic: float32, (rows, nx), valid until the next block unless they were given a place."""

    rows: slice
    """Counted from the first row of the mosaic, or of its cut-out."""
    science: Plane
    weight: Plane
    """The published weight, 0 where it is negative or not finite."""
    full: Plane


class MosaicStream:
    """A mosaic, or a cut-out of it, whose pixels and full weight come block by block of rows; from `open_mosaic`.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) of the pixels to come.
    wcs : `~astropy.wcs.WCS`
        Of these pixels.
    model : NoiseModel
        Which computes the full weight.
    """

    def __init__(self, files: MosaicFiles, readers: Sequence[ImageReader], plan: _Plan) -> None:
        self._files, self._readers = files, readers
        wcs, self._window, self._header, self.model = plan
        rows, columns = self._window
        self.shape = (rows.stop - rows.start, columns.stop - columns.start)
        self.wcs = wcs if self.shape == readers[0].shape else wcs[self._window]
        self._n_weighted = self._n_infinite = self._n_negative = 0
        self._ended = False

    def blocks(self, planes: tuple[Plane, Plane, Plane] | None = None) -> Iterator[Block]:
        """Yield all rows from top to bottom, once; while one is used the next ones are inflated.

        Parameters
        ----------
        planes : tuple of ndarray, optional
            Where science, published and full weight go, of this shape; what is yielded are then their rows.

        Yields
        ------
        Block
        """
        science, weight, given = planes or (None, None, None)
        places = (science, weight, None)
        files = [reader.blocks(self._window, out) for reader, out in zip(self._readers, places, strict=False)]
        # What has no place holds until the next block alone, so nothing may be ahead of it.
        files = [
            ahead(rows, AHEAD, "reading") if out is not None else rows for rows, out in zip(files, places, strict=False)
        ]
        for blocks in zip(*files, strict=True):
            (rows, light), (_, published), (_, first) = blocks if len(blocks) == 3 else (*blocks, blocks[0])
            full = np.empty(light.shape, np.float32) if given is None else given[rows]
            full[...] = self.model(first, published, rows)
            self._drop_odd(light, published)
            size = len(self._readers) * light.itemsize * self.shape[1]
            tell_read(rows.stop * size, self.shape[0] * size)
            yield Block(rows, light, published, full)
        self._ended = True
        tell_uncovered(self.model, self._n_weighted)

    def _drop_odd(self, science: Plane, weight: Plane) -> None:
        """Set a weight that is negative or not finite to 0, and count the odd pixels."""
        odd = not (weight.min(initial=0) >= 0 and weight.max(initial=0) < np.inf and np.isfinite(science).all())
        if odd:  # one look at each plane tells, and it is rare
            finite = np.isfinite(science) & np.isfinite(weight)
            self._n_infinite += int(np.count_nonzero(~finite & ~(weight <= 0)))
            negative = weight < 0
            self._n_negative += int(np.count_nonzero(negative))
            weight[negative | ~np.isfinite(weight)] = 0
        self._n_weighted += int(np.count_nonzero(weight > 0))

    def meta(self) -> fits.Header:
        """Return the science header without WCS, and the cards of the noise model and of odd pixels.

        Returns
        -------
        Header
            Before the last block with counts so far, and without the cards of a plugin's model.
        """
        header, cards = self._header.copy(), self.model.provenance if self._ended else expect_cards(self.model)
        header["ZEROPNT"] = (MOSAIC_ZERO_POINT, "[mag(AB)] of one unit of the image, 10 nJy")
        header.update(encode_cards(cards))
        if self._n_infinite:
            header["NNOTFIN"] = (self._n_infinite, "pixels with weight that are not finite: no data")
        if self._n_negative:
            header["NNEGWHT"] = (self._n_negative, "pixels with a negative weight: no data")
        if "GROWTH" in cards:
            source = "WCS log" if self._files.exposure is None else "exp file"
            header["EXPFROM"] = (source, "source of the exposure time")
        return header


@contextmanager
def open_mosaic(
    files: str | Path | MosaicFiles,
    noise: str | VarianceOptions = "dja",
    cutout: Cutout = None,
    *,
    variance: VarianceHook | None = None,
    allocate: Allocate = np.empty,
) -> Iterator[MosaicStream]:
    """Open a mosaic, or a cut-out of it, to be read block by block of rows with its full weight.

    Parameters
    ----------
    files, noise, cutout, variance
        As for :func:`load_mosaic`, whose image holds the same pixels.
    allocate : callable, optional
        ``allocate(shape, dtype) -> ndarray``, which makes the array of the exposure map.

    Yields
    ------
    MosaicStream

    Raises
    ------
    PhotplugError
        As :func:`load_mosaic`; a damaged member where it is read.
    """
    files = find_mosaic(files)
    options = of_band(as_variance_options(noise), files.band)
    if cutout is None:  # of a part, only its rows are asked of a server
        exposure = None if options.noise == "background" else files.exposure
        files = bring_near(files, files.science, files.weight, exposure, _given_variance(files, options))
    with ExitStack() as stack:
        science = stack.enter_context(ImageReader(files.science))
        given = _given_variance(files, options)
        readers = [science, *(stack.enter_context(ImageReader(path)) for path in (files.weight, given) if path)]
        for other in readers[1:]:
            _check_shape(other, science)
        plan = _plan_loading(files, options, cutout, variance, science, allocate)
        for other in readers[1:]:
            _check_place(other, plan[0])
        for key in {key for key in plan[2] if _OWN_CARDS.fullmatch(key)}:  # a set: one deletion takes all of a keyword
            del plan[2][key]
        yield MosaicStream(files, readers, plan)


def _read_planes(stream: MosaicStream, allocate: Allocate = new_plane) -> tuple[Plane, Plane, Plane, NDArray[np.bool_]]:
    """Return science, full weight, published weight and mask of a mosaic, each in an array that `allocate` makes."""
    data, full, weight = (allocate(stream.shape, np.float32) for _ in range(3))
    mask = allocate(stream.shape, np.bool_)
    for block in stream.blocks((data, weight, full)):
        np.equal(block.full, 0, out=mask[block.rows])
    return data, full, weight, mask


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
    files: MosaicFiles,
    options: VarianceOptions,
    cutout: Cutout,
    variance: VarianceHook | None,
    science: ImageReader,
    allocate: Allocate = np.empty,
) -> _Plan:
    """Return how a mosaic is to be read."""
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
    log, exposure = _find_time(files, options, science, window, allocate)  # what is wrong with these names their files
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
    files: MosaicFiles,
    options: VarianceOptions,
    science: ImageReader,
    window: Window | None = None,
    allocate: Allocate = np.empty,
) -> tuple[ExposureLog | None, ExposureMap | None]:
    """Return the log of a mosaic and its exposure time, for presets that ask for it."""
    log = exposure_log(files)
    return log, None if options.noise == "background" else _find_exposure(files, log, science, window, allocate)


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
    return trim_model((variance or partial(make_noise_model, options=options))(header, exposure, log))


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
        raise PhotplugError(f"{files}: has no _var file, and only that tells the gain; use the table's value")
    with ExitStack() as stack:
        near = local_copies((files.science, files.weight, files.variance), check_product)
        readers = [stack.enter_context(ImageReader(path)) for path in near]
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
    scatter = mad_std(ratio)
    return float(np.median(ratio)), float(np.sqrt(np.pi / 2 / len(ratio)) * scatter), len(ratio)


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
