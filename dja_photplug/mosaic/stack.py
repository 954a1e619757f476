"""The detection image of several bands: their inverse-variance stack, with its own background and full variance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import NamedTuple, Protocol

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
from dja_photplug.mosaic.load import Block
from dja_photplug.mosaic.made import MadeWeight, find_weight
from dja_photplug.mosaic.models.electrons import HeaderValue
from dja_photplug.outputs.whole import whole_file
from dja_photplug.parallel.progress import tell_read
from dja_photplug.parallel.scratch import fill_rows, keep_memory, new_plane
from dja_photplug.parallel.workers import Map
from dja_photplug.sky.cutouts import Cutout, resolve_cutout
from dja_photplug.sky.grid import BLOCK_PIXELS, Grid, Window, pixel_scale, row_blocks
from dja_photplug.sky.nesting import find_nesting
from dja_photplug.units import MOSAIC_UNIT, MOSAIC_ZERO_POINT

__all__ = ["ImageRows", "coarsest_grid", "name_stack", "stack_images", "write_stack"]

# The noise preset of an image that tells none.
UNKNOWN = "as loaded"

Plane = NDArray[np.float32]
Sums = list[Plane]
"""w data, w and w^2 p, which become data, background weight and full weight."""


class _Planes(NamedTuple):
    """Pixels of an image, (rows, columns)."""

    data: Plane
    full: Plane | MadeWeight
    background: Plane
    """The published weight; the full one where there is no other."""
    mask: NDArray[np.bool_] | None = None

    def cut(self, where: slice | Window) -> _Planes:
        """Return some rows, or rows and columns."""
        mask = None if self.mask is None else self.mask[where]
        return _Planes(self.data[where], self.full[where], self.background[where], mask)


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


class ImageRows(Protocol):
    """An image whose rows come from top to bottom, once."""

    @property
    def wcs(self) -> WCS:
        """Of its pixels."""

    @property
    def shape(self) -> tuple[int, int]:
        """Of the image, (ny, nx)."""

    def blocks(self) -> Iterator[Block]:
        """Yield them.

        Yields
        ------
        Block
            Valid until the next one.
        """

    def meta(self) -> Mapping[str, HeaderValue]:
        """Return its metadata, after the last block.

        Returns
        -------
        mapping
        """


def stack_images(
    images: Iterable[MosaicImage | ImageRows],
    wcs: WCS,
    shape: tuple[int, int],
    names: Sequence[str],
    *,
    parallel: Map = map,
) -> MosaicImage:
    """Stack images of several bands on one grid, weighted by their background weights.

    With the background weight w (the ``wht``) and the photon variance p = max(1/full - 1/w, 0) of each band::

        data              = sum(w data) / sum(w)
        background weight = sum(w)
        full variance     = 1 / sum(w) + sum(w^2 p) / sum(w)^2

    Parameters
    ----------
    images : iterable of MosaicImage or ImageRows
        Images are taken one at a time and not kept: of a generator that loads, one is in memory at a time. Without
        ``background_weight`` all variance of an image counts as background. Where rows are read instead, they are read
        of all of these at a time, after the images.
    wcs : `~astropy.wcs.WCS`
        The grid. Pixels of an image are its pixels, or nest in them: then their fluxes and their variances are summed,
        and the sum is null where one of them is, because part of a flux is no flux.
    shape : tuple of int
        (ny, nx) of the grid.
    names : sequence of str
        Of the images, in their order; they appear in errors and in the metadata.
    parallel : callable, optional
        As `map`, of threads of this process, by which rows that are read of several images are weighed.

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

    The sums are three float32 planes, which become the result's, beside the image that is being added, if one is.
    """
    sums = [new_plane(shape, np.float32, blank=False) for _ in range(3)]
    mask = new_plane(shape, np.bool_, blank=False)
    loader, presets, read = iter(images), dict[int, str](), dict[int, _Layer]()
    for i, name in enumerate(names):
        layer = _place_layer(next(loader), wcs, shape, name)
        if layer is not None and isinstance(layer.pixels, _Rows):
            read[i] = layer
        elif layer is not None:
            _add_layers(sums, [layer], first=not presets)
            presets[i] = layer.pixels.end()
        del layer  # which holds an image, while the next is loaded
    if not (presets or read):
        raise PhotplugError(
            f"none of the bands to stack ({', '.join(names) or 'no names'}) overlaps the grid; check it"
        )
    _add_layers(sums, list(read.values()), first=not presets, mask=mask, parallel=parallel)
    presets |= {i: layer.pixels.end() for i, layer in read.items()}
    data, weight, full = sums
    return MosaicImage(
        data,
        unit=MOSAIC_UNIT,
        uncertainty=InverseVariance(full, copy=False),
        mask=mask,
        wcs=wcs,
        meta=_make_header([(names[i], presets[i]) for i in sorted(presets)]),
        background_weight=weight,
    )


def _divide(sums: Sums, null: NDArray[np.bool_]) -> None:
    """Make data and full weight of sums, in their place, and tell where there are none."""
    data, weight, photons = sums
    used = weight > 0
    np.divide(data, weight, out=data, where=used)
    np.divide(photons, weight, out=photons, where=used)
    photons += 1
    np.divide(weight, photons, out=photons)
    np.logical_not(used, out=null)


class _Whole:
    """The pixels of an image that is loaded, in some columns."""

    def __init__(self, image: MosaicImage, columns: slice) -> None:
        self._planes = _find_planes(image).cut((slice(None), columns))
        self._noise = image.meta.get("NOISE", UNKNOWN)

    def take(self, rows: slice) -> _Planes:
        """Return some rows."""
        return self._planes.cut(rows)

    def end(self) -> str:
        """Return the noise preset."""
        return str(self._noise)


class _Rows:
    """The pixels of an image that is being read, in some columns."""

    def __init__(self, image: ImageRows, columns: slice) -> None:
        self._image, self._columns, self._blocks = image, columns, image.blocks()
        self._rows, self._planes = slice(0, 0), tuple[Plane, ...]()

    def take(self, rows: slice) -> _Planes:
        """Return some rows, below those that were taken before: valid until the next ones are."""
        parts, start = [], rows.start
        while start < rows.stop:
            while self._rows.stop <= start:
                self._rows, *planes = next(self._blocks)
                self._planes = tuple(plane[:, self._columns] for plane in planes)
            stop = min(rows.stop, self._rows.stop)
            part = [plane[start - self._rows.start : stop - self._rows.start] for plane in self._planes]
            parts.append(part if stop == rows.stop else [plane.copy() for plane in part])
            start = stop
        data, background, full = (
            planes[0] if len(parts) == 1 else np.concatenate(planes) for planes in zip(*parts, strict=True)
        )
        return _Planes(data, full, background)

    def end(self) -> str:
        """Read the rest, which tells whether the image can be believed; return the noise preset."""
        for _ in self._blocks:
            pass
        return str(self._image.meta().get("NOISE", UNKNOWN))


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """An image on a grid: `ratio` x `ratio` of its pixels, from row `origin` on, fill one in these rows and columns."""

    pixels: _Whole | _Rows
    ratio: int
    origin: int
    rows: slice
    columns: slice

    def weigh(self, rows: slice) -> tuple[Window, Sums] | None:
        """Return what it adds to some rows of the grid, and to which of their pixels; None where that is nothing."""
        low, high = max(rows.start, self.rows.start), min(rows.stop, self.rows.stop)
        if low >= high:
            return None
        fine = slice(*(self.origin + self.ratio * (row - self.rows.start) for row in (low, high)))
        place = slice(low - rows.start, high - rows.start), self.columns
        return place, _weigh(self.pixels.take(fine), self.ratio)


def _place_layer(image: MosaicImage | ImageRows, wcs: WCS, shape: tuple[int, int], name: str) -> _Layer | None:
    """Return an image as a layer of the grid, None where it is off it."""
    nesting = find_nesting(image.wcs, wcs, image.shape)
    if nesting is None:
        raise PhotplugError(
            f"the pixels of {name} ({pixel_scale(image.wcs) * 1e3:.4g} mas) do not nest in the stack's "
            f"({pixel_scale(wcs) * 1e3:.4g} mas), so it cannot be stacked; detect in one band with --detect FILTER"
        )
    ratio = nesting.ratio
    rows, fine_rows = _find_overlap(nesting.y, ratio, image.shape[0], shape[0])
    columns, fine_columns = _find_overlap(nesting.x, ratio, image.shape[1], shape[1])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    pixels = _Whole(image, fine_columns) if isinstance(image, MosaicImage) else _Rows(image, fine_columns)
    return _Layer(pixels=pixels, ratio=ratio, origin=fine_rows.start, rows=rows, columns=columns)


def _add_layers(
    sums: Sums,
    layers: Sequence[_Layer],
    *,
    first: bool,
    mask: NDArray[np.bool_] | None = None,
    parallel: Map = map,
) -> None:
    """Add images to the sums, which the first ones write; with the mask, that is written too, divide them."""
    keep_memory()
    ny, nx = sums[0].shape
    finest = max((layer.ratio for layer in layers), default=1)
    # Pixels and weights of all that are read; what each of them tells in a thread of its own nobody hears.
    size = sum(2 * layer.ratio**2 * sums[0].nbytes for layer in layers if isinstance(layer.pixels, _Rows))
    for rows in row_blocks((ny, nx), BLOCK_PIXELS // finest**2):
        with ExitStack() as stack:
            parts = [stack.enter_context(fill_rows(plane, rows)) if first else plane[rows] for plane in sums]
            if first:
                for part in parts:
                    part[...] = 0
            for added in parallel(partial(_Layer.weigh, rows=rows), layers):
                if added is not None:
                    place, planes = added
                    for part, plane in zip(parts, planes, strict=True):
                        part[place] += plane
            if mask is not None:
                _divide(parts, stack.enter_context(fill_rows(mask, rows)))
        tell_read(size * rows.stop // ny, size)


def _find_planes(image: MosaicImage) -> _Planes:
    """Return the planes of an image that is loaded."""
    background = image.uncertainty.array if image.background_weight is None else image.background_weight
    return _Planes(image.data, find_weight(image.uncertainty), background, image.mask)


def _find_overlap(origin: int, ratio: int, n_fine: int, n: int) -> tuple[slice, slice]:
    """Return, along an axis, the grid's pixels that lie in a fine image as a whole, and the fine ones in them."""
    start, stop = max(0, -(origin // ratio)), min(n, (n_fine - origin) // ratio)
    return slice(start, stop), slice(origin + ratio * start, origin + ratio * stop)


def _weigh(planes: _Planes, ratio: int) -> Sums:
    """Return w data, w and w^2 p of sums of pixels; a null one has infinite variance, and so has any sum with it."""
    weights = np.asarray(planes.full), planes.background
    null = ~((weights[0] > 0) & (weights[1] > 0))
    if planes.mask is not None:
        null |= planes.mask
    full, weight = (_rebin_weight(plane, null, ratio) for plane in weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        light = weight * _rebin(planes.data, ratio)
        photons = weight / full  # w^2 p = w (w / full - 1)
        photons -= 1
        np.maximum(photons, 0, out=photons)
        photons *= weight
    unused = ~(weight > 0)
    for plane in (light, photons):
        np.copyto(plane, 0, where=unused)
    return [light, weight, photons]


def _rebin_weight(weight: Plane, null: NDArray[np.bool_], ratio: int) -> Plane:
    """Return the weight of the sums of `ratio` x `ratio` pixels, 0 where one of them is null."""
    if ratio == 1:
        return np.where(null, np.float32(0), weight)
    with np.errstate(divide="ignore"):
        return np.reciprocal(_rebin(np.where(null, np.float32(np.inf), 1 / weight), ratio))


def _rebin(plane: Plane, ratio: int) -> Plane:
    """Return the sums of `ratio` x `ratio` pixels."""
    return reduce(np.add, (plane[i::ratio, j::ratio] for i, j in np.ndindex(ratio, ratio)))


def _make_header(stacked: Sequence[tuple[str, str]]) -> fits.Header:
    cards = [
        ("FILTER", "IR", "inverse-variance stack of the bands STACK1 ..."),
        ("NSTACK", len(stacked), "stacked bands"),
        *((f"STACK{i}", name, "band") for i, (name, _) in enumerate(stacked, start=1)),
        ("NOISE", ", ".join(dict.fromkeys(preset for _, preset in stacked)), "noise preset of the bands' full weights"),
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
        write_image(weight, _find_planes(image).background, header)
    return paths[0], paths[1]
