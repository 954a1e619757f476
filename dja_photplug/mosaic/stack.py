"""The detection image of several bands: their inverse-variance stack, with its own background and full variance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import InverseVariance
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import IMAGE_SUFFIXES
from dja_photplug.files.names import ProductName
from dja_photplug.files.written import write_image
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.made import MadeWeight, find_weight
from dja_photplug.outputs.whole import whole_file
from dja_photplug.parallel.scratch import new_plane
from dja_photplug.sky.grid import BLOCK_PIXELS, Cutout, Grid, pixel_scale, resolve_cutout, row_blocks
from dja_photplug.sky.nesting import find_nesting
from dja_photplug.units import MOSAIC_UNIT, MOSAIC_ZERO_POINT

__all__ = ["coarsest_grid", "name_stack", "stack_images", "write_stack"]

Plane = NDArray[np.float32]
Planes = tuple[Plane, Plane | MadeWeight, Plane, NDArray[np.bool_]]


def coarsest_grid(grids: Mapping[str, Grid], cutout: Cutout = None) -> Grid:
    """Return the grid with the largest pixels, the first of equals, or a cut-out of it.

    Parameters
    ----------
    grids : mapping of str to Grid
        By the names that errors have.
    cutout : optional
        As for :func:`dja_photplug.load_mosaic`; slices count the pixels of that mosaic.

    Returns
    -------
    wcs : `~astropy.wcs.WCS`
        Of the cut-out.
    shape : tuple of int
        Of the cut-out, (ny, nx).

    Raises
    ------
    PhotplugError
        Where the cut-out lies off that mosaic; the message names it.
    """
    # To 1e-6 arcsec: the printed digits of a CD matrix must not choose between equals.
    name, (wcs, shape) = max(grids.items(), key=lambda item: round(pixel_scale(item[1].wcs), 6))
    try:
        rows, columns = resolve_cutout(cutout, wcs, shape)
    except PhotplugError as error:
        raise PhotplugError(f"{name}: {error}") from None
    return Grid(wcs[rows, columns], (rows.stop - rows.start, columns.stop - columns.start))


def stack_images(images: Iterable[MosaicImage], wcs: WCS, shape: tuple[int, int], names: Sequence[str]) -> MosaicImage:
    """Stack images of several bands on one grid, weighted by their background weights.

    With the background weight w (the ``wht``) and the photon variance p = max(1/full - 1/w, 0) of each band::

        data              = sum(w data) / sum(w)
        background weight = sum(w)
        full variance     = 1 / sum(w) + sum(w^2 p) / sum(w)^2

    Parameters
    ----------
    images : iterable of MosaicImage
        Taken one at a time and not kept: of a generator that loads, one is in memory at a time. Without
        ``background_weight`` all variance of an image counts as background.
    wcs : `~astropy.wcs.WCS`
        The grid. Pixels of an image are its pixels, or nest in them: then their fluxes and their variances are summed,
        and the sum is null where one of them is, because part of a flux is no flux.
    shape : tuple of int
        (ny, nx) of the grid.
    names : sequence of str
        Of the images, in their order; they appear in errors and in the metadata.

    Returns
    -------
    MosaicImage
        ``meta`` holds FILTER, NSTACK and STACK1, STACK2 ... (number and names of the images that overlap the grid),
        NOISE, PHOTFNU, ZEROPNT. The weight is 0 where no image has data.

    Raises
    ------
    PhotplugError
        Where the pixels of an image do not nest in the grid's, or no image overlaps it.

    Notes
    -----
    The weights know nothing of the sources. The full weight falls where a pixel is brighter, by noise or by colour, and
    as a weight in the mean it makes sources too faint; ``docs/stacks.md`` has the numbers.

    The sums are three float32 planes, which become the result's, beside the image that is being added.
    """
    sums = [new_plane(shape, np.float32) for _ in range(3)]
    loader, stacked, presets = iter(images), [], []
    for name in names:
        noise = _add_image(sums, next(loader), wcs, name)  # no variable holds the image while the next is loaded
        if noise is not None:
            stacked.append(name)
            presets.append(noise)
    if not stacked:
        raise PhotplugError(
            f"none of the bands to stack ({', '.join(names) or 'no names'}) overlaps the grid; check it"
        )
    data, weight, photons = sums
    used = weight > 0
    np.divide(data, weight, out=data, where=used)
    np.divide(photons, weight, out=photons, where=used)
    photons += 1
    full = np.divide(weight, photons, out=photons)
    return MosaicImage(
        data,
        unit=MOSAIC_UNIT,
        uncertainty=InverseVariance(full, copy=False),
        mask=~used,
        wcs=wcs,
        meta=_make_header(stacked, presets),
        background_weight=weight,
    )


def _add_image(sums: list[Plane], image: MosaicImage, wcs: WCS, name: str) -> str | None:
    """Add an image to the sums of w data, w and w^2 p; return its noise preset, None where it is off the grid."""
    nesting = find_nesting(image.wcs, wcs, image.shape)
    if nesting is None:
        raise PhotplugError(
            f"the pixels of {name} ({pixel_scale(image.wcs) * 1e3:.4g} mas) do not nest in the stack's "
            f"({pixel_scale(wcs) * 1e3:.4g} mas), so it cannot be stacked; detect in one band with --detect FILTER"
        )
    ratio = nesting.ratio
    rows, fine_rows = _find_overlap(nesting.y, ratio, image.shape[0], sums[0].shape[0])
    columns, fine_columns = _find_overlap(nesting.x, ratio, image.shape[1], sums[0].shape[1])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    ours = [plane[rows, columns] for plane in sums]
    theirs = _take(_find_planes(image), (fine_rows, fine_columns))
    for block in row_blocks(ours[0].shape, BLOCK_PIXELS // ratio**2):
        fine = slice(ratio * block.start, ratio * block.stop)
        _add_block([plane[block] for plane in ours], _take(theirs, fine), ratio)
    return str(image.meta.get("NOISE", "as loaded"))


def _find_planes(image: MosaicImage) -> Planes:
    """Return data, full weight, background weight (the full one where there is no other) and mask."""
    uncertainty, background = image.uncertainty, image.background_weight
    mask = np.broadcast_to(np.False_, image.shape) if image.mask is None else image.mask
    return image.data, find_weight(uncertainty), uncertainty.array if background is None else background, mask


def _take(planes: Planes, where: slice | tuple[slice, slice]) -> Planes:
    """Return some rows, or rows and columns, of all planes."""
    data, full, background, mask = planes
    return data[where], full[where], background[where], mask[where]


def _find_overlap(origin: int, ratio: int, n_fine: int, n: int) -> tuple[slice, slice]:
    """Return, along an axis, the grid's pixels that lie in a fine image as a whole, and the fine ones in them."""
    start, stop = max(0, -(origin // ratio)), min(n, (n_fine - origin) // ratio)
    return slice(start, stop), slice(origin + ratio * start, origin + ratio * stop)


def _add_block(sums: list[Plane], planes: Planes, ratio: int) -> None:
    """Add pixels that fill those of the sums; a null one has infinite variance, and so has any sum with it."""
    data, made, background, mask = planes
    weights = np.asarray(made), background
    null = mask | ~((weights[0] > 0) & (weights[1] > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        full, weight = (1 / _rebin(np.where(null, np.inf, 1 / plane), ratio) for plane in weights)
        used = weight > 0
        total, total_weight, photons = sums
        np.add(total, weight * _rebin(data, ratio), out=total, where=used)
        np.add(total_weight, weight, out=total_weight)
        # w^2 p = w (w / full - 1)
        np.add(photons, weight * np.maximum(weight / full - 1, 0), out=photons, where=used)


def _rebin(plane: Plane, ratio: int) -> Plane:
    """Return the sums of `ratio` x `ratio` pixels."""
    return reduce(np.add, (plane[i::ratio, j::ratio] for i, j in np.ndindex(ratio, ratio)))


def _make_header(names: Sequence[str], presets: Sequence[str]) -> fits.Header:
    cards = [
        ("FILTER", "IR", "inverse-variance stack of the bands STACK1 ..."),
        ("NSTACK", len(names), "stacked bands"),
        *((f"STACK{i}", name, "band") for i, name in enumerate(names, start=1)),
        ("NOISE", ", ".join(dict.fromkeys(presets)), "noise preset of the bands' full weights"),
        ("PHOTFNU", 1e-8, "[Jy] one unit of the image"),
        ("ZEROPNT", MOSAIC_ZERO_POINT, "[mag(AB)] of one unit of the image, 10 nJy"),
    ]
    return fits.Header(cards)


def name_stack(directory: str | Path, root: str, drizzle: str = "drc") -> tuple[Path, Path]:
    """Return the files of a stack, named as the archive's.

    Parameters
    ----------
    directory : str or Path
    root : str
        Of the archive's names: field and version, such as ``uds-grizli-v7.4``.
    drizzle : {"drc", "drz"}, optional

    Returns
    -------
    science, weight : Path
        ``{root}-ir_{drizzle}_sci.fits.gz`` and ``_wht.fits.gz``.

    Raises
    ------
    PhotplugError
        Where the names are not of the archive's grammar.
    """
    paths = []
    for kind in ("sci", "wht"):
        name = str(ProductName(root=root, filter="ir", drizzle=drizzle, kind=kind, suffix=".fits.gz"))
        if ProductName.parse(name) is None:
            raise PhotplugError(f"{name}: not the name of a DJA mosaic; give a root, and drc or drz")
        paths.append(Path(directory, name))
    return paths[0], paths[1]


def write_stack(
    image: MosaicImage, directory: str | Path, root: str, drizzle: str = "drc", *, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write a stack under the names of :func:`name_stack`.

    Both files appear, or none. ``load_mosaic(f"{directory}/{root}-ir", noise="background")`` reads them back bit for
    bit; the full weight is in neither, as in the archive.

    Parameters
    ----------
    image : MosaicImage
        From :func:`stack_images`.
    directory : str or Path
    root : str
    drizzle : {"drc", "drz"}, optional
    overwrite : bool, optional
        Replace existing files.

    Returns
    -------
    science, weight : Path

    Raises
    ------
    PhotplugError
        Where the names are not of the archive's grammar, or a file exists or cannot be written.
    """
    paths = name_stack(directory, root, drizzle)
    header = image.meta.copy()
    header.update(image.wcs.to_header())
    header["BUNIT"] = "10.0*nanoJansky"
    new_file = partial(whole_file, overwrite=overwrite, suffixes=IMAGE_SUFFIXES)
    with new_file(paths[0]) as science, new_file(paths[1]) as weight:
        write_image(science, image.data, header)
        write_image(weight, _find_planes(image)[2], header)
    return paths[0], paths[1]
