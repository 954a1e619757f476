"""The products of a mosaic as one NDData: science image, full weight, published weight, mask and WCS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.registry import register_reader
from astropy.nddata import CCDData, InverseVariance, NDData, fits_ccddata_reader
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.blocks import ImageReader, read_image, write_image
from dja_photplug.catalog import ZERO_POINT
from dja_photplug.errors import PhotplugError
from dja_photplug.exposurelog import ExposureLog, read_exposure_log
from dja_photplug.geometry import Window, crop_header, header_wcs, resolve_cutout
from dja_photplug.options import VarianceOptions, as_variance_options
from dja_photplug.products import MosaicFiles, find_mosaic
from dja_photplug.variance import (
    MOSAIC_UNIT,
    SAMPLE,
    ExposureMap,
    GivenVariance,
    NoiseModel,
    check_unit,
    make_noise_model,
)

__all__ = [
    "MosaicImage",
    "as_mosaic_image",
    "exposure_log",
    "load_exposure",
    "load_mosaic",
    "replace_planes",
    "write_weight",
]

MOSAIC_ZERO_POINT = ZERO_POINT + 5  # 28.9, the AB magnitude of one mosaic unit: 10 nJy, a hundredth of 1 uJy

VarianceHook = Callable[[fits.Header, ExposureMap | None, ExposureLog | None], NoiseModel]

# Cards that the WCS and the pixel arrays hold themselves; kept in the metadata they would go stale when sliced.
_OWN_CARDS = re.compile(
    r"SIMPLE|BITPIX|NAXIS\d?|EXTEND|BSCALE|BZERO|BUNIT|WCSAXES|(CRPIX|CRVAL|CTYPE|CUNIT|CDELT)\d|(CD|PC)\d_\d|"
    r"LONPOLE|LATPOLE|RADESYS"
)


class MosaicImage(CCDData):
    """A DJA mosaic: a `~astropy.nddata.CCDData` whose uncertainty is the full weight.

    Parameters
    ----------
    *args, **kwargs
        As for `~astropy.nddata.CCDData`.
    background_weight : ndarray, optional
        The published weight without the sources' photons, of the shape of the data. Where it is None, all
        variance counts as background.

    Notes
    -----
    ``data`` is float32 in 10 nJy; ``uncertainty`` is `~astropy.nddata.InverseVariance`, 0 where there are no data;
    ``mask`` is True there. Slicing, :meth:`write` (HDU ``BACKWHT``) and :meth:`read` keep all planes. Arithmetic
    gives an image without ``background_weight``, because it is not the result's.
    """

    background_weight: NDArray[np.float32] | None

    def __init__(self, *args: Any, background_weight: NDArray[np.float32] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if background_weight is None and args and isinstance(args[0], MosaicImage):
            background_weight = args[0].background_weight
        if background_weight is not None and background_weight.shape != self.data.shape:
            raise PhotplugError(
                f"background_weight of shape {background_weight.shape} does not fit data of shape {self.data.shape}"
            )
        self.background_weight = background_weight

    def _slice(self, item: Any) -> dict[str, Any]:
        kwargs = super()._slice(item)
        if self.background_weight is not None:
            kwargs["background_weight"] = self.background_weight[item]
        return kwargs

    def copy(self) -> MosaicImage:
        """Return a copy of all planes."""
        weight = self.background_weight
        return self.__class__(self, copy=True, background_weight=None if weight is None else weight.copy())

    def to_hdu(self, *args: Any, **kwargs: Any) -> fits.HDUList:
        """Return the HDUs of `~astropy.nddata.CCDData.to_hdu`, and ``BACKWHT`` with the background weight."""
        hdus = super().to_hdu(*args, **kwargs)
        if self.background_weight is not None:
            hdus.append(fits.ImageHDU(self.background_weight, name="BACKWHT"))
        return hdus


def _read_written(path: Any, *args: Any, **kwargs: Any) -> MosaicImage:
    """Read what `MosaicImage.write` wrote, back into native float32."""
    name = getattr(path, "name", path)  # astropy hands over the file that it opened to find the format
    image = fits_ccddata_reader(name, *args, **kwargs)
    with fits.open(name) as hdus:
        weight = hdus["BACKWHT"].data.astype(np.float32) if "BACKWHT" in hdus else None
    uncertainty = image.uncertainty and type(image.uncertainty)(image.uncertainty.array.astype(np.float32))
    return MosaicImage(
        image.data.astype(np.float32),
        unit=image.unit,
        uncertainty=uncertainty,
        mask=image.mask,
        wcs=image.wcs,
        meta=image.meta,
        background_weight=weight,
    )


def load_mosaic(
    files: str | Path | MosaicFiles,
    noise: str | VarianceOptions = "dja",
    cutout: Any = None,
    *,
    variance: VarianceHook | None = None,
) -> MosaicImage:
    """Load a mosaic, or a cut-out of it, with its full weight.

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
        Where a member is missing or damaged, shapes differ, or the header does not say what the preset needs.
    """
    files = find_mosaic(files)
    options = as_variance_options(noise)
    with ExitStack() as stack:
        science = stack.enter_context(ImageReader(files.science))
        given = None if options.noise == "background" else files.variance
        readers = [science, *(stack.enter_context(ImageReader(path)) for path in (files.weight, given) if path)]
        for other in readers[1:]:
            _check_shape(other.path, other.shape, science)
        try:
            check_unit(science.header)
            wcs = header_wcs(science.header)
            window = resolve_cutout(cutout, wcs, science.shape)
            header = crop_header(science.header, window)
            if given is not None:
                model: NoiseModel = GivenVariance(options.noise, given.name)
            else:
                model = _make_model(files, options, variance, science, header)
        except PhotplugError as error:
            raise PhotplugError(f"{files.science}: {error}") from None
        planes = _read_planes(readers, window, model)
    for key in [key for key in header if _OWN_CARDS.fullmatch(key)]:
        del header[key]
    header["ZEROPNT"] = (MOSAIC_ZERO_POINT, "[mag(AB)] of one unit of the image, 10 nJy")
    header.update(model.provenance)
    data, full, weight, mask = planes
    return MosaicImage(
        data,
        unit=MOSAIC_UNIT,
        uncertainty=InverseVariance(full, copy=False),  # 576 MB at 12000 x 12000
        mask=mask,
        wcs=wcs if cutout is None else wcs[window],
        meta=header,
        background_weight=weight,
    )


def _check_shape(path: Path, shape: tuple[int, int], science: ImageReader) -> None:
    if shape != science.shape:
        raise PhotplugError(
            f"{path}: has {shape[1]} x {shape[0]} pixels and {science.path.name} {science.shape[1]} x "
            f"{science.shape[0]}; give products of one mosaic"
        )


def _make_model(
    files: MosaicFiles,
    options: VarianceOptions,
    variance: VarianceHook | None,
    science: ImageReader,
    header: fits.Header,
) -> NoiseModel:
    log = exposure_log(files)
    exposure = None if options.noise == "background" else _find_exposure(files, log, science)
    return (variance or partial(make_noise_model, options=options))(header, exposure, log)


def _find_exposure(files: MosaicFiles, log: ExposureLog | None, science: ImageReader) -> ExposureMap | None:
    """Return the archive's exposure map of the whole mosaic, or the one of the WCS log by the archive's rule."""
    if files.exposure is not None:
        return ExposureMap(*read_image(files.exposure))
    if log is None:
        return None
    coarse = {"SAMPLE": SAMPLE, "NXORIG": science.shape[1], "NYORIG": science.shape[0]}
    coarse |= {key: science.header[key] / SAMPLE for key in ("CRPIX1", "CRPIX2")}
    return ExposureMap(log.exposure_map(header_wcs(science.header), science.shape, SAMPLE), coarse)


def _read_planes(readers: list[ImageReader], window: Window, model: NoiseModel) -> tuple[NDArray[Any], ...]:
    """Return science, full weight, published weight and mask, read in step."""
    shape = tuple(part.stop - part.start for part in window)
    data, full, weight = (np.empty(shape, np.float32) for _ in range(3))
    mask = np.empty(shape, bool)
    for blocks in zip(*(reader.blocks(window) for reader in readers), strict=True):
        rows = blocks[0][0]
        data[rows], weight[rows] = blocks[0][1], blocks[1][1]
        first = blocks[2][1] if len(blocks) == 3 else data[rows]
        full[rows] = model(first, weight[rows], rows)
        np.equal(full[rows], 0, out=mask[rows])
    return data, full, weight, mask


def load_exposure(files: str | Path | MosaicFiles, cutout: Any = None) -> NDArray[np.float32] | None:
    """Return the coarse exposure map that covers a mosaic or its cut-out, without reading the mosaic's pixels.

    Parameters
    ----------
    files : str, Path or MosaicFiles
    cutout : optional
        As for :func:`load_mosaic`.

    Returns
    -------
    ndarray or None
        Seconds, (ny // 4, nx // 4): the archive's map, or the one of the WCS log; None where there is neither.

    Raises
    ------
    PhotplugError
        Where a file cannot be read.
    """
    files = find_mosaic(files)
    with ImageReader(files.science) as science:
        exposure = _find_exposure(files, exposure_log(files), science)
        window = resolve_cutout(cutout, header_wcs(science.header), science.shape)
        sample = science.shape[0] // exposure.data.shape[0] if exposure else 1
    if exposure is None:
        return None
    rows, columns = (slice(part.start // sample, -(-part.stop // sample)) for part in window)
    return exposure.data[rows, columns]


def exposure_log(files: MosaicFiles) -> ExposureLog | None:
    """Return the WCS log of a mosaic, read once however often it is asked for; None where there is none."""
    if files.wcs_log is None:
        return None
    status = os.stat(files.wcs_log)
    return _read_log_once(files.wcs_log, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_log_once(path: Path, _changed: int, _size: int) -> ExposureLog:
    return read_exposure_log(path)


def as_mosaic_image(image: NDData) -> MosaicImage:
    """Return somebody else's NDData in the form that detection and photometry expect.

    Parameters
    ----------
    image : NDData
        With a unit of flux density, an uncertainty that is a standard deviation, variance or inverse variance, and
        a celestial WCS. A mask is honoured; ``background_weight`` is kept where there is one.

    Raises
    ------
    PhotplugError
        Where unit, uncertainty or WCS are missing or of another kind.
    """
    if isinstance(image, MosaicImage) and image.data.dtype == np.float32 and image.unit == MOSAIC_UNIT:
        return image
    if image.unit is None or not image.unit.is_equivalent(MOSAIC_UNIT):
        raise PhotplugError(f"the loaded image has the unit {image.unit}; a loader must give a flux density per pixel")
    if image.uncertainty is None or image.uncertainty.uncertainty_type not in ("std", "var", "ivar"):
        raise PhotplugError("the loaded image has no standard deviation, variance or inverse variance; a loader must")
    if not isinstance(image.wcs, WCS):
        raise PhotplugError(f"the loaded image has {image.wcs or 'no WCS'}; a loader must give an astropy.wcs.WCS")
    scale = image.unit.to(MOSAIC_UNIT)
    with np.errstate(divide="ignore"):
        weight = image.uncertainty.represent_as(InverseVariance).array / scale**2
    usable = np.isfinite(weight) & (weight > 0) & np.isfinite(image.data)
    if image.mask is not None:
        usable &= ~np.asarray(image.mask, bool)
    background = getattr(image, "background_weight", None)
    meta = dict(image.meta)
    if background is None:
        meta["BACKWHT"] = "none: all variance counts as background"
    return MosaicImage(
        np.ascontiguousarray(image.data * scale, np.float32),
        unit=MOSAIC_UNIT,
        uncertainty=InverseVariance(np.where(usable, weight, 0).astype(np.float32), copy=False),
        mask=~usable,
        wcs=image.wcs,
        meta=meta,
        background_weight=None if background is None else np.asarray(background / scale**2, np.float32),
    )


def replace_planes(
    image: MosaicImage, *, data: NDArray[np.float32] | None = None, weight: NDArray[np.float32] | None = None
) -> MosaicImage:
    """Return the image with other data or another full weight, and its other planes not copied.

    Parameters
    ----------
    image : MosaicImage
    data, weight : ndarray, optional
        float32, of the image's shape.
    """
    return MosaicImage(
        image.data if data is None else data,
        unit=image.unit,
        uncertainty=InverseVariance(image.uncertainty.array if weight is None else weight, copy=False),
        mask=image.mask,
        wcs=image.wcs,
        meta=image.meta,
        background_weight=image.background_weight,
    )


WEIGHT_KINDS = {"weight": -2, "sigma": 1, "variance": 2}
"""What :func:`write_weight` writes, with its power of the image's unit."""


def write_weight(image: MosaicImage, path: str | Path, kind: str = "weight", *, overwrite: bool = False) -> Path:
    """Write the full weight of an image, or its sigma or variance, as FITS.

    Parameters
    ----------
    image : MosaicImage
    path : str or Path
        ``.fits`` or ``.fits.gz``.
    kind : {"weight", "sigma", "variance"}
        Without data the weight is 0; sigma and variance are infinite there, never 0.
    overwrite : bool

    Raises
    ------
    PhotplugError
        Where the kind is none of these or the file cannot be written.
    """
    if kind not in WEIGHT_KINDS:
        raise PhotplugError(f"kind {kind!r} is not one of {', '.join(WEIGHT_KINDS)}")
    power = WEIGHT_KINDS[kind]
    weight = image.uncertainty.array
    with np.errstate(divide="ignore"):
        plane = weight if kind == "weight" else np.power(weight, np.float32(-power / 2))
    header = fits.Header(image.meta)
    header.update(image.wcs.to_header())
    header["BUNIT"] = (MOSAIC_UNIT**power).to_string("fits")
    header["PLANE"] = (kind, "of the full noise, source photons included")
    return write_image(path, plane, header, overwrite=overwrite)


register_reader("dja", CCDData, load_mosaic)
register_reader("fits", MosaicImage, _read_written)
