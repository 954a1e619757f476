"""Which sources of a mosaic are stars, and cut-outs of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import sep
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.mosaic.blocks import native_pixels
from dja_photplug.psf.model import NARROWEST
from dja_photplug.sky.grid import cut_window, pixel_scale

__all__ = ["Stars", "cut_stars", "find_isolated", "find_stars"]

Floats = NDArray[np.float64]

# What a star may not be: saturated, cut, or not measured.
UNFIT = (
    SourceFlag.TRUNCATED
    | SourceFlag.SINGULAR
    | SourceFlag.NOT_DEBLENDED
    | SourceFlag.APER_TRUNCATED
    | SourceFlag.NOT_MEASURED
    | SourceFlag.NOT_COVERED
    | SourceFlag.NULL_WEIGHT
    | SourceFlag.SATURATED_CORE
)
# Half-light radii of stars of one mosaic lie within this; the next larger sources of the UDS are 1.33 times as large.
LOCUS = 1.12
# Sources that are smaller than stars are artefacts, at most one for so many stars; galaxies of one size are fewer.
ARTEFACTS = 20
# Neighbours that spoil a star: brighter than this share of it, within this many arcsec.
SPOILING, NEAR = 0.1, 1.0
MARGIN = 0.12  # by which segments of neighbours grow, arcsec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stars:
    """Cut-outs of stars, each with its centre near the middle pixel.

    Attributes
    ----------
    data, variance : ndarray, shape (n, side, side)
        In units of the image; a variance that is infinite is that of pixels that do not count.
    masked : ndarray of bool, shape (n, side, side)
        Segments of others.
    centre : ndarray, shape (n, 2)
        (y, x) in pixels of the cut-out.
    scale : float
        Arcsec per pixel.
    ids : ndarray of int, shape (n,)
        Of the sources.
    rows : ndarray of int, shape (n,)
        Of the table that they are cut out by.
    """

    data: Floats
    variance: Floats
    masked: NDArray[np.bool_]
    centre: Floats
    scale: float
    ids: NDArray[np.int_]
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        """Return the number of stars."""
        return len(self.data)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Stars:
        """Return some of them."""
        names = ("data", "variance", "masked", "centre", "ids", "rows")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def each(self) -> Iterator[Stars]:
        """Yield them one by one.

        Yields
        ------
        Stars
            Of one star.
        """
        for i in range(len(self)):
            yield self[np.arange(len(self)) == i]


def find_stars(table: QTable, least_snr: float, smallest: float = 0.0) -> NDArray[np.intp]:
    """Return the rows of stars: bright, unsaturated and isolated sources on the stellar locus.

    The locus is where the smallest sources are, all of one half-light radius whatever their magnitude.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        (n,), with ``x y flux_radius flux_auto fluxerr_auto flag``.
    least_snr : float
        Signal to noise of ``flux_auto``.
    smallest : float, optional
        Half-light radius in arcsec below which nothing is an image of the sky.

    Returns
    -------
    ndarray of int
        Rows, the brightest first.
    """
    size, flux, error = (np.asarray(table[name].value) for name in ("flux_radius", "flux_auto", "fluxerr_auto"))
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = (flux / error > least_snr) & (size > smallest) & (np.asarray(table["flag"]) & UNFIT.value == 0)
    rows = np.flatnonzero(fit)
    rows = rows[np.argsort(size[rows])]
    sizes = size[rows]
    count = np.searchsorted(sizes, LOCUS * sizes, side="right") - np.arange(len(sizes))
    # Without sources below it, or with so many more that those are artefacts.
    allowed = count >= ARTEFACTS * np.arange(len(sizes))
    if not len(rows):
        return rows
    first = int(np.argmax(np.where(allowed, count, 0)))
    rows = rows[first : first + count[first]]
    return rows[np.argsort(-flux[rows])]


def find_isolated(table: QTable, rows: NDArray[np.intp], scale: float) -> NDArray[np.bool_]:
    """Return which rows have no neighbour within 1 arcsec that is a tenth as bright.

    Parameters
    ----------
    table : `~astropy.table.QTable`
    rows : ndarray of int
        (k,).
    scale : float
        Arcsec per pixel.

    Returns
    -------
    ndarray of bool
        (k,).
    """
    places = np.column_stack([np.asarray(table[axis].value) for axis in "xy"])
    flux = np.nan_to_num(np.asarray(table["flux_auto"].value))
    near = cKDTree(places).query_ball_point(places[rows], NEAR / scale)
    return np.array(
        [all(flux[j] < SPOILING * flux[i] for j in others if j != i) for i, others in zip(rows, near, strict=True)],
        bool,
    )


def cut_stars(
    pixels: NDArray[np.float32],
    image: NDData,
    segmentation: NDArray[np.int32],
    table: QTable,
    rows: NDArray[np.intp],
    side: int,
) -> Stars:
    """Cut out stars.

    Parameters
    ----------
    pixels : ndarray of float32
        Those of the image less its sky, (ny, nx).
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight.
    segmentation : ndarray
        (ny, nx), labelled by the ids of the table.
    table : `~astropy.table.QTable`
        With ``id x y flux_radius``.
    rows : ndarray of int
        Of the stars, (n,).
    side : int
        Pixels that the stack will have, odd; the cut-outs are larger, as they will be shifted.

    Returns
    -------
    Stars
        Without those whose middle pixels have no data.
    """
    scale, whole, number = pixel_scale(image.wcs), side + 4, len(rows)
    weight, grow = native_pixels(image.uncertainty.array), max(round(MARGIN / scale), 1)
    x, y, size = (np.asarray(table[name].value)[rows] for name in ("x", "y", "flux_radius"))
    width = float(np.median(size)) / scale / math.sqrt(2 * math.log(2)) if number else 0
    x, y, _ = sep.winpos(pixels, x, y, max(width, NARROWEST))
    ids, first = np.asarray(table["id"])[rows], np.rint(np.stack([y, x], axis=-1)).astype(int) - whole // 2
    planes = {"data": np.zeros((number, whole, whole)), "variance": np.full((number, whole, whole), np.inf)}
    masked, known = np.zeros((number, whole, whole), bool), np.zeros(number, bool)
    core = slice(whole // 2 - 2, whole // 2 + 3)
    for i, corner in enumerate(first.tolist()):
        values, inverse, labels = (
            cut_window(plane, corner, (whole, whole), 0) for plane in (pixels, weight, segmentation)
        )
        good = (inverse > 0) & np.isfinite(values)
        planes["data"][i][good], planes["variance"][i][good] = values[good], 1 / inverse[good]
        others = (labels > 0) & (labels != ids[i])
        masked[i] = binary_dilation(others, iterations=grow) & (labels != ids[i])
        known[i] = good[core, core].all()
    centre = np.stack([y, x], axis=-1) - first
    return Stars(masked=masked, centre=centre, scale=scale, ids=ids, rows=rows, **planes)[known]
