"""The full weight: inverse variance of background and source photons together. Arrays in, arrays out.

Sources: the published DJA description of its imaging products (the recipe), and the JWST pipeline's definition of
VAR_POISSON, which divides by the detector gain where the recipe does not. ``docs/noise.md`` derives both.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.mosaic.models.electrons import Header, HeaderValue, check_unit, detector_gain, phot_scale
from dja_photplug.mosaic.models.exposure import ExposureMap, compare_headers, grow, register_samples
from dja_photplug.mosaic.models.gains import Gains
from dja_photplug.mosaic.models.uncovered import tell_uncovered
from dja_photplug.options.stages import VarianceOptions, as_variance_options
from dja_photplug.sky.cards import try_both
from dja_photplug.sky.grid import row_blocks
from dja_photplug.units import MOSAIC_UNIT, plain_array

if TYPE_CHECKING:
    from dja_photplug.epochs.log import ExposureLog

__all__ = [
    "Cards",
    "FullWeight",
    "GivenVariance",
    "NoiseModel",
    "check_unused",
    "expect_cards",
    "full_weight",
    "make_noise_model",
]

Cards = dict[str, tuple[HeaderValue, str]]
"""FITS cards: keyword, and its value and comment."""
Pixels = NDArray[np.floating]


@runtime_checkable
class NoiseModel(Protocol):
    """What ``photplug_variance`` returns: the full weight of any block of rows of one image."""

    def __call__(
        self, science: NDArray[np.float32], weight: NDArray[np.float32], rows: slice, /
    ) -> NDArray[np.float32]:
        """Return the full weight of a block.

        Parameters
        ----------
        science, weight : ndarray
            The block's pixels and published weights, (rows, nx), in 10 nJy and its inverse square.
        rows : slice
            The block, counted from the image's first row.

        Returns
        -------
        ndarray
            Of the block's shape; 0 where there are no data, never NaN.
        """

    @property
    def provenance(self) -> Cards:
        """FITS cards that say how the weight was made; read after the last block."""


@dataclass(slots=True, kw_only=True)
class FullWeight:
    """``1 / (1/wht + max(sci, 0)/gain)`` by blocks of rows.

    Attributes
    ----------
    cards : dict
        FITS cards of the preset: value and comment by keyword.
    gains : Gains
        Of the pixels.
    n_filled, n_null : int
        Pixels so far with a neighbour's exposure time, and with weight but no full weight.
    lock : Lock
        Held while these are counted.
    """

    cards: Cards
    gains: Gains
    n_filled: int = 0
    n_null: int = 0
    lock: Lock = field(default_factory=Lock)

    def __getstate__(self) -> dict[str, object]:
        """Return what another process gets: all but the lock."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Make the model in that process."""
        for name, value in state.items():
            setattr(self, name, value)
        self.lock = Lock()

    def __call__(self, science: Pixels, weight: Pixels, rows: slice) -> NDArray[np.float32]:
        """Return the full weight of `rows`, of the shape of `science`."""
        full, filled = self._add_photons(science, weight, rows)
        with np.errstate(divide="ignore"):
            np.reciprocal(full, out=full)
        # No gain, no weight, and NaN or infinity in either image all end here: what is not positive is no data, and
        # neither is what no float32 holds. Nor is a weight that is negative or infinite, where photons may make a
        # variance.
        number = weighted = full.size
        if not all(plane.min(initial=1) > 0 and plane.max(initial=1) < np.inf for plane in (full, weight)):
            positive = weight > 0
            weighted = int(np.count_nonzero(positive))
            positive &= weight < np.inf
            positive &= full > 0
            positive &= full < np.inf
            number = int(np.count_nonzero(positive))
            np.copyto(full, 0, where=~positive)
            filled = None if filled is None else filled & positive
        with self.lock:  # blocks may run in several threads
            self.n_null += weighted - number
            self.n_filled += 0 if filled is None else int(np.count_nonzero(filled))
        return full

    def remake(self, science: Pixels, weight: Pixels, rows: slice) -> NDArray[np.float32]:
        """Return the full weight of pixels that were counted before, in less time.

        Parameters
        ----------
        science, weight : ndarray
            Of one block, (rows, nx), as when it is called, but that no weight is negative or infinite.
        rows : slice
            The block, counted from the image's first row.

        Returns
        -------
        ndarray
            float32, of the block's shape: what it is when called, but that it is 0, infinite or NaN without data.
        """
        full, _ = self._add_photons(science, weight, rows)
        with np.errstate(divide="ignore"):
            return np.reciprocal(full, out=full)

    def _add_photons(
        self, science: Pixels, weight: Pixels, rows: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return the variance of rows, not finite where there are no data, and where the gain is a neighbour's, if."""
        # Numpy compares with a row of zeros three times as fast as with one.
        variance = np.maximum(science, np.zeros(science.shape[-1:], np.float32), dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            filled = self.gains.divide(variance, rows)
            variance += np.reciprocal(weight, dtype=np.float32)
        if not science.min(initial=0) > -np.inf:
            variance[science == -np.inf] = np.nan
        return variance, filled

    @property
    def provenance(self) -> Cards:
        """FITS cards of the preset, and counts of pixels so far."""
        return {
            **self.cards,
            "NFILLED": (self.n_filled, "pixels given a neighbouring exposure time"),
            "NNULL": (self.n_null, "pixels with weight but no full weight"),
        }


@dataclass(frozen=True, slots=True)
class _WeightAlone:
    """The published weight where it is positive and the science image finite: preset ``background``."""

    cards: Cards

    def __call__(self, science: Pixels, weight: Pixels, rows: slice) -> NDArray[np.float32]:
        usable = np.isfinite(weight) & np.isfinite(science) & (weight > 0)
        return np.where(usable, weight, 0).astype(np.float32, copy=False)

    @property
    def provenance(self) -> Cards:
        return self.cards


@dataclass(frozen=True, slots=True)
class GivenVariance:
    """The noise model of a ``_var`` file; called with the variance in place of the science image.

    The file holds Poisson noise and gain already: adding them again would count them twice.

    Attributes
    ----------
    noise : str
        Preset asked for.
    name : str
        Of the file.
    """

    noise: str
    name: str

    def __call__(self, variance: Pixels, weight: Pixels, rows: slice, /) -> NDArray[np.float32]:
        """Return the inverse of a variance.

        Parameters
        ----------
        variance, weight : ndarray
            Of one block, (rows, nx), in the image's unit squared and its inverse.
        rows : slice
            Not used: the variance is the block's own.

        Returns
        -------
        ndarray
            Of the block's shape; 0 where there are no data.
        """
        full = np.zeros(variance.shape, np.float32)
        np.divide(1, variance, out=full, where=(variance > 0) & np.isfinite(variance) & (weight > 0))
        return full

    @property
    def provenance(self) -> Cards:
        """FITS cards that name the file."""
        remark = "full variance" if len(self.name) <= 50 else ""  # no more fits beside it
        return {"NOISE": (self.noise, "noise preset asked for"), "VARFILE": (self.name, remark)}


def expect_cards(model: NoiseModel) -> Cards:
    """Return the cards of a noise model before its last block, to know about how many there will be.

    Parameters
    ----------
    model : NoiseModel

    Returns
    -------
    dict
        Empty for the model of a plugin, whose `provenance` is promised to be read after the last block.
    """
    return model.provenance if isinstance(model, FullWeight | _WeightAlone | GivenVariance) else {}


def make_noise_model(
    header: Header, exposure: ExposureMap | None, log: ExposureLog | None, options: VarianceOptions
) -> NoiseModel:
    """Return the noise model of one image, which is then called for each block of its rows.

    Parameters
    ----------
    header : mapping
        Of the science image, or of its cut-out: NAXIS1, NAXIS2, CRPIX1, CRPIX2 are those of the pixels to come.
    exposure : ExposureMap or None
        Of the whole mosaic.
    log : ExposureLog or None
        For the detector gain of the preset ``calibrated``.
    options : VarianceOptions
        Of one band.

    Returns
    -------
    NoiseModel
        For all blocks of this image.

    Raises
    ------
    PhotplugError
        Where keywords, gain or exposure map are missing or do not fit the image.
    """
    options = as_variance_options(options)
    own_gain, own_scale = options.detector_gain, options.phot_scale
    if isinstance(own_gain, Mapping) or isinstance(own_scale, Mapping):
        raise PhotplugError("options detector_gain and phot_scale: the band of the image is not known; give one number")
    cards: Cards = {"NOISE": (options.noise, "noise preset of the full weight")}
    if options.noise == "background":
        check_unused(options, "the noise preset 'background' counts no photons")
        return _WeightAlone(cards)
    if exposure is None:
        raise PhotplugError(
            f"noise preset {options.noise!r} needs an exposure map or a WCS log, but there is neither; use the noise "
            "preset 'background'"
        )
    registered = options.noise == "calibrated"

    def find_gain() -> tuple[float, str]:
        if own_gain is not None:
            return own_gain, "option"
        return detector_gain(header, log) if registered else (1.0, "recipe: DN taken as electrons")

    (gain, source), scale = try_both(find_gain, lambda: own_scale or phot_scale(header))
    if not own_scale:
        compare_headers(header, exposure)
    shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
    sample, origin = register_samples(header, exposure, shape)
    seconds = plain_array(exposure.data, u.s, "exposure", fill=0)
    n_rows, n_columns = (
        grow(n, m, sample, start, registered=registered)
        for n, m, start in zip(shape, seconds.shape, origin, strict=True)
    )
    cards |= {
        "DETGAIN": (gain, "[e-/DN] detector gain"),
        "GAINFROM": (source, "source of the detector gain"),
        "GROWTH": ("per pixel" if sample == 1 else "registered" if registered else "published", "of the exposure map"),
        "PHOTSCLE": (scale, "[DN/s / 10 nJy]" + (" given" if own_scale else "")),
    }
    if "PHOTSCAL" not in header and not own_scale:
        cards["PHOTSCL1"] = (True, "PHOTSCAL was missing and counts as 1")
    return FullWeight(
        cards=cards,
        gains=Gains(
            seconds=seconds, electrons=np.float32(gain * scale), fills=registered, rows=n_rows, columns=n_columns
        ),
    )


def check_unused(options: VarianceOptions, reason: str) -> None:
    """Refuse options of the photon noise where it is not computed.

    Parameters
    ----------
    options : VarianceOptions
        Of one band.
    reason : str
        Why it is not.

    Raises
    ------
    PhotplugError
        Naming the option.
    """
    for name, value in (("detector_gain", options.detector_gain), ("phot_scale", options.phot_scale)):
        if value is not None:
            raise PhotplugError(f"option {name}: {value} has no effect, because {reason}; leave it out")


def full_weight(
    science: ArrayLike,
    weight: ArrayLike,
    exposure: ArrayLike | None,
    header: Header | fits.Header,
    noise: str | VarianceOptions = "dja",
    exposure_header: Header | fits.Header | None = None,
    log: ExposureLog | None = None,
    *,
    variance: Callable[[Header, ExposureMap | None, ExposureLog | None], NoiseModel] | None = None,
) -> NDArray[np.float32]:
    """Return the full weight of arrays by a noise model, in blocks of rows; see :func:`dja_photplug.full_weight`.

    Parameters
    ----------
    science, weight, exposure, header, noise, exposure_header, log
        As there.
    variance : callable, optional
        ``variance(header, exposure, log) -> NoiseModel``, another model than that of `noise`.

    Returns
    -------
    ndarray
        float32, (ny, nx); 0 where there are no data, never NaN.

    Raises
    ------
    PhotplugError
        As there.

    Examples
    --------
    >>> header = {"TELESCOP": "JWST", "BUNIT": "10*nanoJansky", "PHOTMJSR": 0.4, "PHOTFNU": 1e-8, "OPHOTFNU": 1e-7}
    >>> full_weight([[0.0, 100.0]], [[4.0, 4.0]], [[1000.0, 1000.0]], header)
    array([[4.       , 1.5384616]], dtype=float32)
    """
    science = plain_array(science, MOSAIC_UNIT, "science")
    weight = plain_array(weight, MOSAIC_UNIT**-2, "weight", fill=0)
    if science.ndim != 2 or science.shape != weight.shape:
        raise PhotplugError(
            f"science of shape {science.shape} and weight of shape {weight.shape} differ; give two images of one mosaic"
        )
    options = as_variance_options(noise)
    if options.noise != "background":
        check_unit(header)
    # Not copied: cards that cannot be parsed are none of what is read here.
    size: dict[str, HeaderValue] = {"NAXIS1": science.shape[1], "NAXIS2": science.shape[0]}
    image_header: Header = ChainMap(size, cast(MutableMapping[str, HeaderValue], header))
    time = None if exposure is None else ExposureMap(plain_array(exposure, u.s, "exposure", fill=0), exposure_header)
    model = (variance or partial(make_noise_model, options=options))(image_header, time, log)
    result = np.empty(science.shape, np.float32)

    def work(rows: slice) -> None:
        light, published = (plane[rows].astype(np.float32, copy=False) for plane in (science, weight))
        result[rows] = model(light, published, rows)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy frees the interpreter's lock within a block
        list(pool.map(work, row_blocks(science.shape)))
    tell_uncovered(model, int(np.count_nonzero(weight > 0)), 1 / 3)
    return result
