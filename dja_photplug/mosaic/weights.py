"""The full weight of an image, or its sigma or variance, as a file; of one in memory, or block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import WEIGHT_KINDS, encode_values
from dja_photplug.files.written import write_rows
from dja_photplug.mosaic.models.electrons import HeaderValue
from dja_photplug.sky.grid import Grid, row_blocks
from dja_photplug.units import MOSAIC_UNIT

if TYPE_CHECKING:
    from dja_photplug.mosaic.image import MosaicImage

__all__ = ["rescale_weight", "write_weight", "write_weight_blocks"]


def rescale_weight(
    weight: NDArray[np.float32], factor: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the weight of pixels that were multiplied by a factor.

    Parameters
    ----------
    weight : ndarray
        Inverse variance of the pixels as they were.
    factor : float
    out : ndarray, optional
        Where it goes, of the same shape.

    Returns
    -------
    ndarray
    """
    return np.divide(weight, np.float32(factor**2), out=out)


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

    Returns
    -------
    Path
        The file: float32, (ny, nx), in 10 nJy to the power -2, 1 or 2; BUNIT says so.

    Raises
    ------
    PhotplugError
        Where the kind is none of these or the file cannot be written.
    """
    blocks = (image.uncertainty.array[rows] for rows in row_blocks(image.shape))
    grid = Grid(image.wcs, image.shape)
    return write_weight_blocks(blocks, grid, lambda: image.meta, path, kind, overwrite=overwrite)


def write_weight_blocks(
    blocks: Iterable[NDArray[np.float32]],
    grid: Grid,
    meta: Callable[[], Mapping[str, HeaderValue]],
    path: str | Path,
    kind: str = "weight",
    *,
    overwrite: bool = False,
) -> Path:
    """Write a full weight that comes block by block, or its sigma or variance, as :func:`write_weight` does.

    Parameters
    ----------
    blocks : iterable of ndarray
        Of the full weight, float32, (rows, nx), from top to bottom.
    grid : Grid
        Of the whole of them.
    meta : callable
        Metadata of the image; asked before the first block and after the last, when counts are known.
    path, kind, overwrite
        As for :func:`write_weight`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PhotplugError
        As :func:`write_weight`.
    """
    if kind not in WEIGHT_KINDS:
        raise PhotplugError(f"kind {kind!r} is not one of {', '.join(WEIGHT_KINDS)}")
    power, place = WEIGHT_KINDS[kind], grid.wcs.to_header()

    def header() -> fits.Header:
        cards = meta()
        header = cards.copy() if isinstance(cards, fits.Header) else fits.Header(encode_values(cards))
        header.update(place)
        header["BUNIT"] = (MOSAIC_UNIT**power).to_string("fits")
        header["PLANE"] = (kind, "of the full noise, source photons included")
        return header

    def planes() -> Iterator[NDArray[np.float32]]:
        for weight in blocks:
            with np.errstate(divide="ignore"):
                yield weight if kind == "weight" else np.power(weight, np.float32(-power / 2))

    return write_rows(path, planes(), grid.shape, header, overwrite=overwrite)
