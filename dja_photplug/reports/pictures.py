"""Pixels as the page holds them: tiles of 8 bits for each band, labels as colours, and a picture of the field.

Grey levels are the inverse hyperbolic sine of the flux over twice the noise of a pixel, from 2 sigma below the sky to
200 above it. JPEG keeps these at a third of a byte; noise makes PNG twenty times larger.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dja_photplug.figures.panels.pixels import block_mean, measure_sky, mix_colours

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Picture", "Tiles", "cut_labels", "cut_tiles", "draw_field", "quantise"]

Plane = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SIDE = 512  # pixels of a tile: stamps lie on one to four
QUALITY = 60
# Bytes of a pixel as base64: of grey tiles at that quality, whose noise is 20 levels (measured: 0.26).
PIXEL_BYTES = 0.3
DARKEST, BRIGHTEST, LINEAR = -2.0, 200.0, 2.0  # sigma
FIELD_SIDE = 2400  # pixels along the longer side of the picture of the field


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Pixels in squares, each an image in a data URL; the first is at the lower left, and each is upside up.

    Attributes
    ----------
    step : int
        Pixels of the mosaic along a side of one of these.
    shape : tuple of int
        (ny, nx) of these pixels.
    side : int
        Of a tile.
    images : tuple of str
        Base64, by rows of tiles.
    kind : str
        MIME type.
    """

    step: int
    shape: tuple[int, int]
    side: int
    images: tuple[str, ...]
    kind: str

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(map(len, self.images))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The field in one image.

    Attributes
    ----------
    url : str
        A data URL.
    step : int
        Pixels of the mosaic along a side of one of its pixels.
    bands : tuple of str
        As from `dja_photplug.figures.panels.pixels.choose_colours`.
    """

    url: str
    step: int
    bands: tuple[str, ...]


def quantise(science: Plane, sky: tuple[float, float]) -> Bytes:
    """Return grey levels, (ny, nx): 0 where there are no data, or nothing is seen.

    Parameters
    ----------
    science : ndarray, shape (ny, nx)
    sky : tuple of float
        Its level and noise.

    Returns
    -------
    ndarray of uint8
        Of the same shape.

    Examples
    --------
    >>> quantise(np.array([[-5, 0, 1, 1000]], np.float32), (0.0, 1.0)).tolist()
    [[0, 36, 56, 255]]
    """
    level, noise = sky
    low, high = np.arcsinh(np.array([DARKEST, BRIGHTEST]) / LINEAR)
    scaled = (science - np.float32(level)) * np.float32(1 / (LINEAR * noise))
    np.arcsinh(scaled, out=scaled)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / (high - low))
    return np.nan_to_num(np.clip(scaled, 0, 255, out=scaled), copy=False).astype(np.uint8)


def _encode(image: Image, kind: str, **options: int) -> str:
    text = io.BytesIO()
    image.save(text, kind, **options)
    return b64encode(text.getvalue()).decode("ascii")


def _squares(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], SIDE):
        for left in range(0, shape[1], SIDE):
            yield slice(top, top + SIDE), slice(left, left + SIDE)


def cut_tiles(science: Plane, step: int) -> Tiles:
    """Return the grey tiles of a band.

    Parameters
    ----------
    science : ndarray, shape (ny, nx)
    step : int
        Means of step x step pixels are shown.

    Returns
    -------
    Tiles
        JPEG.
    """
    from PIL import Image

    shown = science if step == 1 else block_mean(science, step).astype(np.float32)
    grey = quantise(shown, measure_sky(shown))
    images = tuple(_encode(Image.fromarray(grey[part][::-1]), "jpeg", quality=QUALITY) for part in _squares(grey.shape))
    return Tiles(step=step, shape=(grey.shape[0], grey.shape[1]), side=SIDE, images=images, kind="image/jpeg")


def cut_labels(labels: NDArray[np.int32], step: int) -> Tiles:
    """Return the labels of a segmentation as colours: red + 256 green + 65536 blue.

    Parameters
    ----------
    labels : ndarray, shape (ny, nx)
        Below 16,777,216.
    step : int
        Every step-th pixel is kept.

    Returns
    -------
    Tiles
        PNG, which loses nothing.
    """
    from PIL import Image

    labels = labels[step // 2 :: step, step // 2 :: step]
    images = []
    for part in _squares(labels.shape):
        label = np.ascontiguousarray(labels[part][::-1])
        colours = np.stack([label & 255, label >> 8 & 255, label >> 16], axis=-1).astype(np.uint8)
        images.append(_encode(Image.fromarray(colours), "png"))
    return Tiles(step=step, shape=(labels.shape[0], labels.shape[1]), side=SIDE, images=tuple(images), kind="image/png")


def draw_field(planes: Mapping[str, Plane], step: int) -> Picture:
    """Return the picture of a field.

    Parameters
    ----------
    planes : mapping of str to ndarray
        One band, or two or three on one grid from red to blue; each the means of step x step pixels, (ny, nx).
    step : int

    Returns
    -------
    Picture
        Grey levels as of tiles; in colours as of Lupton et al. (2004), where equal flux densities are white.
    """
    from PIL import Image

    if len(planes) == 1:
        [plane] = planes.values()
        pixels = quantise(plane, measure_sky(plane))
    else:
        pixels = mix_colours(list(planes.values()))
    text = _encode(Image.fromarray(np.ascontiguousarray(pixels[::-1])), "jpeg", quality=85)
    return Picture(url=f"data:image/jpeg;base64,{text}", step=step, bands=tuple(planes))
