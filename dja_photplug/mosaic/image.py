"""A mosaic as one NDData: science image, full weight, published weight, mask and WCS."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.io.registry import register_reader
from astropy.nddata import CCDData, InverseVariance, NDData, fits_ccddata_reader
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.structure import open_fits
from dja_photplug.mosaic.made import MadeUncertainty, find_weight, hold_weight
from dja_photplug.mosaic.models.fullweight import NoiseModel
from dja_photplug.mosaic.models.noise import RescaledModel, crop_model
from dja_photplug.mosaic.weights import rescale_weight
from dja_photplug.sky.cutouts import split_item
from dja_photplug.units import MOSAIC_UNIT, plain_array

__all__ = [
    "MosaicImage",
    "Part",
    "as_mosaic_image",
    "keep_weight",
    "replace_planes",
    "rescale_image",
]


Equivalency = tuple[object, ...]
"""As astropy's."""


class Part(Protocol):
    """Of an image, as a tile of it has it."""

    def __getitem__(self, box: tuple[slice, slice], /) -> Part:
        """Return that of some rows and columns."""


class MosaicImage(CCDData):
    """A DJA mosaic: a `~astropy.nddata.CCDData` whose uncertainty is the full weight.

    Parameters
    ----------
    *args, **kwargs
        As for `~astropy.nddata.CCDData`.
    background_weight : ndarray, optional
        The published weight without the sources' photons, of the shape of the data. Where it is None, all
        variance counts as background.
    noise_model : NoiseModel, optional
        What made the full weight, for these pixels in this unit: with it the weight of other light on the same grid can
        be computed, such as that of injected sources. None where it is not known, or no function of the light.

    Notes
    -----
    ``data`` is float32 in 10 nJy; ``uncertainty`` is `~astropy.nddata.InverseVariance`, 0 where there are no data;
    ``mask`` is True there. Slicing, :meth:`write` (HDU ``BACKWHT``) and :meth:`read` keep all planes. Arithmetic with
    numbers and plain arrays, sums and differences of images do too, but for ``noise_model``, which is not the result's;
    other arithmetic warns. Files hold no ``noise_model``. What takes the image for an array, such as
    `~astropy.nddata.Cutout2D`, gets pixels and mask alone, with a warning.
    """

    background_weight: NDArray[np.float32] | None
    noise_model: NoiseModel | None
    removed: Part | None = None
    """What photometry takes off it, where that was measured for the whole image that this is a tile of."""

    # The arguments of CCDData, and what it slices by, are astropy's, which has no types.
    def __init__(
        self,
        *args: object,
        background_weight: NDArray[np.float32] | None = None,
        noise_model: NoiseModel | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)
        if args and isinstance(args[0], MosaicImage):
            background_weight = args[0].background_weight if background_weight is None else background_weight
            noise_model = noise_model or args[0].noise_model
        if background_weight is not None:
            # Of a Quantity the unit, of a masked array the mask are not in the plain plane.
            unit = getattr(background_weight, "unit", None) if self.unit is None else self.unit**-2
            background_weight = plain_array(background_weight, unit or u.one, "background_weight", fill=0).astype(
                np.float32, copy=False
            )
        if background_weight is not None and background_weight.shape != self.data.shape:
            raise PhotplugError(
                f"background_weight of shape {background_weight.shape} does not fit data of shape {self.data.shape}"
            )
        self.background_weight = background_weight
        self.noise_model = noise_model

    def _slice(self, item: slice | tuple[slice | int, ...]) -> dict[str, object]:
        kwargs = super()._slice(item)
        if self.background_weight is not None:
            kwargs["background_weight"] = self.background_weight[item]
        kwargs["noise_model"] = crop_model(self.noise_model, item, self.data.shape)
        return kwargs

    def _arithmetic(
        self, operation: np.ufunc, operand: NDData | None, *args: object, **kwargs: object
    ) -> tuple[NDArray[np.float32], dict[str, object]]:
        result, keywords = super()._arithmetic(operation, operand, *args, **kwargs)
        if self.background_weight is not None:
            weight = _combine_weights(self.background_weight, self.unit, operation, operand)
            keywords["background_weight"] = weight
            if weight is None:
                told = "what this arithmetic gives has no background_weight: all of its variance counts as background"
                warnings.warn(told, PhotplugWarning, stacklevel=2)
        return result, keywords

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.float32]:
        """Return pixels and mask, as whoever takes the image for an array gets them."""
        if self.uncertainty is not None:
            told = "the array of a mosaic has pixels and mask, and no weights; take image.data, or for all planes "
            told += "image[rows, columns], such as image[cutout.slices_original]"
            warnings.warn(told, PhotplugWarning, stacklevel=2)
        return super().__array__(dtype, copy)

    def __getitem__(self, item: slice | tuple[slice | int, ...]) -> MosaicImage:
        """Return a part of the image, with all of its planes, and what is taken off there."""
        box = split_item(item)
        part = super().__getitem__(item)
        part.removed = None if self.removed is None else self.removed[box]
        return part

    def copy(self) -> MosaicImage:
        """Return a copy of all planes; the noise model, which is asked and not changed, is shared.

        Returns
        -------
        MosaicImage
        """
        if isinstance(self.uncertainty, MadeUncertainty):
            return keep_weight(self).copy()
        kind, weight = type(self.uncertainty), self.uncertainty
        return self.__class__(
            self.data.copy(),
            unit=self.unit,
            # Not by astropy's `copy=True`, which copies an uncertainty with the image that it belongs to.
            uncertainty=None if weight is None else kind(weight.array.copy(), unit=weight.unit, copy=False),
            mask=None if self.mask is None else self.mask.copy(),
            wcs=deepcopy(self.wcs),
            meta=deepcopy(self.meta),
            background_weight=None if self.background_weight is None else self.background_weight.copy(),
            noise_model=self.noise_model,
        )

    def __deepcopy__(self, memo: dict[int, object]) -> MosaicImage:
        return self.copy()

    def convert_unit_to(self, unit: str | u.UnitBase, equivalencies: Sequence[Equivalency] = ()) -> MosaicImage:
        """Return the image in another unit, with all of its planes; astropy's own takes any uncertainty for an error.

        Parameters
        ----------
        unit : str or Unit
        equivalencies : sequence of tuple, optional
            As for `~astropy.units.UnitBase.to`.

        Returns
        -------
        MosaicImage
            A copy.

        Raises
        ------
        PhotplugError
            Where the image has no unit, or this one is not its own times a number.
        """
        if self.unit is None:
            raise PhotplugError("the image has no unit, so it cannot be converted; set image.unit")
        factor, double = (self.unit.to(unit, value, equivalencies=list(equivalencies)) for value in (1, 2))
        if not np.isclose(double, 2 * factor, rtol=1e-12, atol=0):
            raise PhotplugError(f"{unit} is not {self.unit} times a number, so the weights have no such unit; give one")
        image, scaled = keep_weight(self).copy(), None
        if image.uncertainty is not None:
            power = {"std": 1, "var": 2, "ivar": -2}[image.uncertainty.uncertainty_type]
            values = image.uncertainty.array * image.uncertainty.array.dtype.type(factor**power)
            scaled = type(image.uncertainty)(values, copy=False)
        weight, model = image.background_weight, image.noise_model
        return self.__class__(
            image.data * image.data.dtype.type(factor),
            unit=unit,
            uncertainty=scaled,
            mask=image.mask,
            wcs=image.wcs,
            meta=image.meta,
            background_weight=None if weight is None else rescale_weight(weight, factor),
            noise_model=None if model is None else RescaledModel(model, factor),
        )

    def to_hdu(self, *args: object, **kwargs: object) -> fits.HDUList:
        """Return the HDUs of `~astropy.nddata.CCDData.to_hdu`, and ``BACKWHT`` with the background weight.

        Parameters
        ----------
        *args, **kwargs
            As for `~astropy.nddata.CCDData.to_hdu`.

        Returns
        -------
        `~astropy.io.fits.HDUList`
            Data, and those of mask, uncertainty and background weight (10 nJy to the power -2) that the image has.
        """
        if isinstance(self.uncertainty, MadeUncertainty):  # astropy writes none but its own kinds
            return keep_weight(self).to_hdu(*args, **kwargs)
        hdus = super().to_hdu(*args, **kwargs)
        if self.background_weight is not None:
            hdus.append(fits.ImageHDU(self.background_weight, name="BACKWHT"))
        return hdus


def _combine_weights(
    weight: NDArray[np.float32], unit: u.UnitBase, operation: np.ufunc, operand: NDData | None
) -> NDArray[np.float32] | None:
    """Return the background weight of what arithmetic makes of an image and another, a number or an array; or None."""
    linear = operation in (np.add, np.subtract)
    power = -2 if operation is np.multiply else 2 if operation is np.true_divide else 0
    if operand is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if operand.uncertainty is None and (linear or power):  # a number, or an array
            scaled = weight * np.asarray(operand.data, np.float32) ** np.float32(power)
            return np.where(np.isfinite(scaled), scaled, np.float32(0))
        other = getattr(operand, "background_weight", None)
        if linear and other is not None and operand.unit == unit:
            return np.where((weight > 0) & (other > 0), 1 / (1 / weight + 1 / other), np.float32(0))
    return None


def _read_written(path: str | Path | BinaryIO, *args: object, **kwargs: object) -> MosaicImage:
    """Read what `MosaicImage.write` wrote, back into native float32."""
    # astropy hands over the file that it opened to find the format; a Path has a name too, without its folder.
    name = path if isinstance(path, str | Path) else path.name
    image = fits_ccddata_reader(name, *args, **kwargs)
    with open_fits(name) as hdus:
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


def as_mosaic_image(image: NDData) -> MosaicImage:
    """Return somebody else's NDData in the form that detection and photometry expect.

    Parameters
    ----------
    image : NDData
        With a unit of flux density, an uncertainty that is a standard deviation, variance or inverse variance, and
        a celestial WCS. A mask is honoured; ``background_weight`` and ``noise_model`` are kept where there are such.

    Returns
    -------
    MosaicImage
        float32, (ny, nx), in 10 nJy; where it is one already, the same object. Pixels that are masked, not finite or
        without weight have the weight 0 and the mask True.

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
    if image.wcs.naxis != 2 or not image.wcs.has_celestial:
        axes = ", ".join(filter(None, image.wcs.wcs.ctype)) or "without a name"
        raise PhotplugError(f"the loaded image has a WCS of axes {axes}; a loader must give one of two on the sky")
    scale = image.unit.to(MOSAIC_UNIT)
    with np.errstate(divide="ignore"):
        weight = image.uncertainty.represent_as(InverseVariance).array / scale**2
    usable = np.isfinite(weight) & (weight > 0) & np.isfinite(image.data)
    if image.mask is not None:
        usable &= ~np.asarray(image.mask, bool)
    background = getattr(image, "background_weight", None)
    model = getattr(image, "noise_model", None)
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
        noise_model=model if model is None or scale == 1 else RescaledModel(model, scale),
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

    Returns
    -------
    MosaicImage
        The mask is that of `image`, whatever the new planes hold.
    """
    return MosaicImage(
        image.data if data is None else data,
        unit=image.unit,
        uncertainty=hold_weight(find_weight(image.uncertainty) if weight is None else weight),
        mask=image.mask,
        wcs=image.wcs,
        meta=image.meta,
        background_weight=image.background_weight,
        noise_model=image.noise_model,
    )


def keep_weight(image: MosaicImage) -> MosaicImage:
    """Return the image with a full weight that is kept; its planes are not copied.

    Parameters
    ----------
    image : MosaicImage

    Returns
    -------
    MosaicImage
        The same one where nothing is to be done.
    """
    made = isinstance(image.uncertainty, MadeUncertainty)
    return replace_planes(image, weight=image.uncertainty.array) if made else image


def rescale_image(image: MosaicImage, factor: float) -> MosaicImage:
    """Return an image multiplied by the factor of another zero point; its weights and its noise model follow.

    Parameters
    ----------
    image : MosaicImage
    factor : float
        10 nJy in a pixel value of 1.

    Returns
    -------
    MosaicImage
        A copy in 10 nJy.
    """
    image = image.copy()
    image.data *= np.float32(factor)
    for weight in (image.uncertainty.array, image.background_weight):
        if weight is not None:
            rescale_weight(weight, factor, out=weight)
    if image.noise_model is not None:
        image.noise_model = RescaledModel(image.noise_model, factor)
    return image


register_reader("fits", MosaicImage, _read_written)
