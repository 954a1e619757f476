"""An image on its way through photometry: with other errors, shared by processes, and with what is taken off it."""

from __future__ import annotations

from copy import copy

import numpy as np

from dja_photplug.mosaic.image import MosaicImage, Part, replace_planes
from dja_photplug.mosaic.made import MadeUncertainty
from dja_photplug.parallel.scratch import share_plane

__all__ = ["scale_errors", "share_image", "take_off"]


def scale_errors(image: MosaicImage, factor: float) -> MosaicImage:
    """Return the image with errors that are so many times larger; other planes are not copied.

    Parameters
    ----------
    image : MosaicImage
    factor : float

    Returns
    -------
    MosaicImage
        Without a noise model, whose weights are not these; its metadata tell the factor, ERRSCALE.
    """
    square = np.float32(factor**2)
    scaled = replace_planes(image, weight=image.uncertainty.array / square)
    if image.background_weight is not None:
        scaled.background_weight = image.background_weight / square
    scaled.meta, scaled.noise_model = {**image.meta, "ERRSCALE": factor}, None
    return scaled


def share_image(image: MosaicImage) -> MosaicImage:
    """Return the image with its planes in scratch files, where there is a folder for these.

    Parameters
    ----------
    image : MosaicImage

    Returns
    -------
    MosaicImage
        The same one where nothing is to be done.
    """
    if not isinstance(image, MosaicImage):  # of somebody who analyses a CCDData as it is
        return image
    made = isinstance(image.uncertainty, MadeUncertainty)  # of planes that are shared
    planes = (image.data, None if made else image.uncertainty.array, image.mask, image.background_weight)
    data, weight, mask, background = (None if plane is None else share_plane(plane) for plane in planes)
    if all(one is other for one, other in zip(planes, (data, weight, mask, background), strict=True)):
        return image
    shared = replace_planes(image, data=data, weight=weight)
    shared.mask, shared.background_weight = mask, background
    return shared


def take_off(image: MosaicImage, removed: Part) -> MosaicImage:
    """Return the image with what photometry takes off it; its planes are not copied.

    Parameters
    ----------
    image : MosaicImage
    removed : Removed

    Returns
    -------
    MosaicImage
    """
    image = replace_planes(image) if isinstance(image, MosaicImage) else copy(image)
    image.removed = removed
    return image
