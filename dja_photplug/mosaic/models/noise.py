"""The noise model of an image that became another: with other units, or a part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dja_photplug.mosaic.models.fullweight import Cards, FullWeight, NoiseModel
from dja_photplug.sky.grid import Window

__all__ = ["CroppedModel", "RescaledModel", "counts_electrons", "crop_model", "find_window", "trim_model"]

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RescaledModel:
    """The model of an image whose pixels were multiplied by `factor`.

    Attributes
    ----------
    model : NoiseModel
        For the pixels as they were.
    factor : float
        Pixel values now over those before, such as 10 nJy in a pixel value of 1.
    """

    model: NoiseModel
    factor: float

    def __call__(self, science: Plane, weight: Plane, rows: slice, /) -> Plane:
        """Return the full weight of `rows` in the new unit."""
        factor = np.float32(self.factor)
        return self.model(science / factor, weight * factor**2, rows) / factor**2

    @property
    def provenance(self) -> Cards:
        """Cards of the model as it was."""
        return self.model.provenance


@dataclass(frozen=True, slots=True)
class CroppedModel:
    """The model of a part of an image.

    Attributes
    ----------
    model : NoiseModel
        Of the whole image, of whose rows it takes all columns.
    window : tuple of slice
        The part, rows and columns with start and stop.
    width : int
        Columns of the whole image.
    """

    model: NoiseModel
    window: Window
    width: int

    def __call__(self, science: Plane, weight: Plane, rows: slice, /) -> Plane:
        """Return the full weight of `rows` of the part; the pixels beside it count as without data."""
        whole = np.zeros((2, len(science), self.width), np.float32)
        lines, columns = self.window
        whole[0, :, columns], whole[1, :, columns] = science, weight
        full = self.model(whole[0], whole[1], slice(lines.start + rows.start, lines.start + rows.stop))
        return np.ascontiguousarray(full[:, columns])

    @property
    def provenance(self) -> Cards:
        """Cards of the whole image's model."""
        return self.model.provenance


def counts_electrons(model: NoiseModel | None) -> bool:
    """Return whether the photon noise of a model is that of electrons: the physics of the preset ``calibrated``.

    Parameters
    ----------
    model : NoiseModel or None
        Also one that was rescaled or cropped.

    Returns
    -------
    bool
        False for None, for other presets, and for models of plugins, of which nothing is known.
    """
    while isinstance(model, RescaledModel | CroppedModel):
        model = model.model
    return isinstance(model, FullWeight) and model.provenance["NOISE"][0] == "calibrated"


def crop_model(model: NoiseModel | None, item: object, shape: tuple[int, int]) -> NoiseModel | None:
    """Return the model of a part of an image.

    Parameters
    ----------
    model : NoiseModel or None
        Of the whole image.
    item : object
        What the image is indexed by, (y, x).
    shape : tuple of int
        Of the whole image, (ny, nx).

    Returns
    -------
    NoiseModel or None
        None where there is no model, or the part is no rectangle of adjacent pixels.
    """
    window = None if model is None else find_window(item, shape)
    if model is None or window is None:
        return None
    rows, columns = window
    if (rows.start, rows.stop, columns.start, columns.stop) == (0, shape[0], 0, shape[1]):
        return model
    if isinstance(model, FullWeight):
        return replace(model, gains=model.gains.cut(window))
    return CroppedModel(model, window, shape[1])


def find_window(item: object, shape: tuple[int, int]) -> Window | None:
    """Return the adjacent rows and columns that an image is indexed by.

    Parameters
    ----------
    item : object
        What it is indexed by, (y, x).
    shape : tuple of int
        Of the image, (ny, nx).

    Returns
    -------
    pair of slices or None
        With start and stop; None where it is something else.
    """
    parts = item if isinstance(item, tuple) else (item, slice(None))
    if len(parts) != 2:
        return None
    spans = [part.indices(n) for part, n in zip(parts, shape, strict=True) if isinstance(part, slice)]
    if len(spans) < 2 or any(step != 1 for _, _, step in spans):
        return None
    (top, bottom, _), (left, right, _) = spans
    return slice(top, bottom), slice(left, right)


def trim_model(model: NoiseModel) -> NoiseModel:
    """Return a model that holds no more of the exposure map than its image needs.

    Parameters
    ----------
    model : NoiseModel
        Of a cut-out of a mosaic, or of all of it.

    Returns
    -------
    NoiseModel
        Of the same outcome; the same one for models of plugins.
    """
    return replace(model, gains=model.gains.trim()) if isinstance(model, FullWeight) else model
