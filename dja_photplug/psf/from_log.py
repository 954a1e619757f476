"""The PSF of places of a mosaic from those of its detectors: drizzled as the exposures of its log were.

Each set of exposures that saw a part of the sky has its own PSF. At a place its detectors' PSFs are drawn on their
pixels, and drizzled through the full WCS of their exposures onto the pixels of the mosaic, shifted so that the place is
the middle of one: what a star there looks like, once it is recentred.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from numpy.typing import NDArray

from dja_photplug.epochs.footprints import as_vectors
from dja_photplug.epochs.log import ExposureLog
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.smallfits import CardValue
from dja_photplug.options.commands import PSFOptions
from dja_photplug.psf.detectors import DetectorPSF, standard_detector
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import NOT_COVERED, PSFModel
from dja_photplug.simulate.mosaic import import_drizzle
from dja_photplug.sky.cards import read_numbers
from dja_photplug.sky.grid import Grid, coarsen_grid, pixel_positions, pixel_scale, sky_positions

if TYPE_CHECKING:
    from collections.abc import Callable

    from drizzle.resample import Drizzle

__all__ = ["Drizzling", "drizzling_of", "exposure_weights", "psf_from_log"]

Floats = NDArray[np.float64]

# Where in the pixels of their detectors places lie decides what exposures that are few, or sampled coarsely, make of a
# star: 1 % of its light for four exposures of F115W with pixels of 63 mas. The PSFs of a region are averaged over these
# places in a pixel, Fibonacci's lattice, which gives the mean over all of it to 0.03 %.
LATTICE = np.stack([np.arange(13), 8 * np.arange(13) % 13], axis=-1) / 13
# Pixels drizzled around a stamp and cut off: drizzle loses drops that straddle the edge of its output.
MARGIN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Drizzling:
    """How exposures become a mosaic.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        Of the exposures of the log.
    pixfrac : float
    kernel : str
    """

    weights: Floats
    pixfrac: float
    kernel: str


def exposure_weights(log: ExposureLog, header: Mapping[str, object], how: str) -> Floats:
    """Return what each exposure of a log weighs.

    Parameters
    ----------
    log : ExposureLog
        Of n exposures.
    header : mapping
        Of the science image: ``FLT00001`` ... are names of exposures, ``WHT00001`` ... their weights.
    how : {"exptime", "header"}

    Returns
    -------
    ndarray
        (n,), positive.

    Raises
    ------
    PhotplugError
        Where the header lacks the weight of an exposure.
    """
    if how == "exptime":
        return np.asarray(log.table["exptime"].to_value("s"), float)
    known = {str(header[key]): header.get(f"WHT{key[3:]}") for key in header if key.startswith("FLT")}
    weights = [known.get(str(file)) for file in log.table["file"]]
    missing = [str(file) for file, weight in zip(log.table["file"], weights, strict=True) if not _is_weight(weight)]
    if missing:
        raise PhotplugError(
            f"{log.name}: the header has no weight (WHT00001 ...) for {len(missing)} of {len(log)} exposures, first "
            f"{missing[0]}; use --weights exptime"
        )
    return np.array(weights, float)


def drizzling_of(log: ExposureLog, header: Mapping[str, object], stage: PSFOptions) -> Drizzling:
    """Return how a mosaic was drizzled, as its header says, or the options instead.

    Parameters
    ----------
    log : ExposureLog
    header : mapping
        Of the science image: PIXFRAC or DRIZPIXF, KERNEL or DRIZKERN.
    stage : PSFOptions

    Returns
    -------
    Drizzling

    Raises
    ------
    PhotplugError
        Where neither tells drop size and kernel, or there is no weight of an exposure.
    """
    pixfrac, kernel = stage.pixfrac, stage.drizzle_kernel
    if pixfrac is None:
        known = read_numbers(header, (), "correct it, or give --pixfrac", optional=["PIXFRAC", "DRIZPIXF"])
        pixfrac = next(iter(known.values()), None)
    if kernel is None:
        kernel = next((str(header[key]).strip().lower() for key in ("KERNEL", "DRIZKERN") if key in header), None)
    if pixfrac is None or not 0 < pixfrac <= 1 or kernel is None:
        raise PhotplugError(
            f"{log.name}: the mosaic's header states no drizzle drop size and kernel (PIXFRAC {pixfrac}, KERNEL "
            f"{kernel}); give --pixfrac and --drizzle-kernel"
        )
    return Drizzling(weights=exposure_weights(log, header, stage.weights), pixfrac=pixfrac, kernel=kernel)


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def psf_from_log(
    log: ExposureLog,
    grid: Grid,
    detectors: Sequence[DetectorPSF],
    places: SkyCoord,
    drizzling: Drizzling,
    *,
    size: float = 4.0,
    cell: float = 1.0,
    name: str = "the PSF of the log",
    bar: Callable[[list[int]], Sequence[int]] = list,
) -> PSFModel:
    """Return the PSF of places of a mosaic, one for each set of exposures that saw them.

    Parameters
    ----------
    log : ExposureLog
    grid : Grid
        Of the mosaic.
    detectors : sequence of DetectorPSF
        Of all detectors that saw the places.
    places : SkyCoord
        (m,).
    drizzling : Drizzling
    size, cell : float, optional
        Sides of the PSFs, and of the cells of the map of regions, arcsec.
    name : str, optional
        For messages.
    bar : callable, optional
        Shows the progress through a list.

    Returns
    -------
    PSFModel
        Regions are cells of the sky with the same exposures as one of the places; others have no PSF.

    Raises
    ------
    PhotplugError
        Where no exposure saw any of the places, or the PSF of a detector that did is missing.

    Warns
    -----
    PhotplugWarning
        Where some of the places were seen by none.
    """
    labels, wcs, sets, members = _map_regions(log, grid, places, cell)
    drizzle = _PlaceDrizzle(
        log=log,
        wcs=grid.wcs,
        detectors=_choose_detectors(log, {row for rows in sets for row in rows}, detectors),
        drizzling=drizzling,
        new=import_drizzle("a PSF from the log"),
        half=int(np.ceil(size / pixel_scale(grid.wcs) / 2 - 0.5 - 1e-6)),
    )
    numbers = bar(list(range(len(sets))))
    stamps = tuple(drizzle.draw_region(places[members[number]], sets[number], name) for number in numbers)
    meta = drizzle.describe() | {"NPLACES": len(places), "DETPSF": " ".join(sorted({each.name for each in detectors}))}
    return PSFModel(stamps=stamps, name=name, labels=labels, wcs=wcs, meta=meta)


def _choose_detectors(
    log: ExposureLog, used: Collection[int], detectors: Sequence[DetectorPSF]
) -> dict[int, DetectorPSF]:
    """Return the PSF of each exposure that is used."""
    known = {each.detector: each for each in detectors}
    chosen, missing = {}, dict[str, int]()
    for row in sorted(used):
        detector = standard_detector(str(log.table["detector"][row]))
        if detector in known:
            chosen[row] = known[detector]
        else:
            missing[detector] = missing.get(detector, 0) + 1
    if missing:
        text = ", ".join(f"{number} of {detector or 'an unknown detector'}" for detector, number in missing.items())
        raise PhotplugError(
            f"{log.name}: of {len(used)} exposures that cover the positions, {text} have no PSF; give it "
            "(--detector-psf)"
        )
    return chosen


def _map_regions(
    log: ExposureLog, grid: Grid, places: SkyCoord, cell: float
) -> tuple[NDArray[np.int16], WCS, list[tuple[int, ...]], list[list[int]]]:
    """Return the map of regions and its WCS, and of each region its exposures and the places in it."""
    step = max(1, round(cell / pixel_scale(grid.wcs)))
    wcs, shape = coarsen_grid(grid, step)
    y, x = (axis.ravel() for axis in np.indices(shape))
    cells = SkyCoord(*sky_positions(wcs, x, y), unit="deg")
    seen, own = _list_exposures(log, cells), _list_exposures(log, places)
    column, row = pixel_positions(wcs, places.icrs.ra.deg, places.icrs.dec.deg)
    covered = [
        i
        for i, exposures in enumerate(own)
        if exposures and -0.5 <= row[i] < shape[0] - 0.5 and -0.5 <= column[i] < shape[1] - 0.5
    ]
    _check_covered(log, len(covered), len(places))
    # A cell is what its first place saw, as that is known; other cells what their middle did.
    cell_of = {i: int(np.floor(row[i] + 0.5)) * shape[1] + int(np.floor(column[i] + 0.5)) for i in covered}
    for i in reversed(covered):
        seen[cell_of[i]] = own[i]
    members: dict[tuple[int, ...], list[int]] = {}
    for i in covered:
        members.setdefault(seen[cell_of[i]], []).append(i)
    if len(members) > np.iinfo(np.int16).max:
        raise PhotplugError(
            f"{log.name}: {len(members)} regions are too many for a map of regions; give fewer positions"
        )
    number = {exposures: region for region, exposures in enumerate(members)}
    labels = np.array([number.get(exposures, NOT_COVERED) for exposures in seen], np.int16).reshape(shape)
    return labels, wcs, list(members), list(members.values())


def _list_exposures(log: ExposureLog, places: SkyCoord) -> list[tuple[int, ...]]:
    """Return the rows of the log that saw each place."""
    pairs = log.coverage(places)
    pairs.sort_indices()
    return [tuple(part.tolist()) for part in np.split(pairs.indices, pairs.indptr[1:-1])]


def _check_covered(log: ExposureLog, covered: int, number: int) -> None:
    """Refuse places that no exposure saw, and tell where some are."""
    if not covered:
        raise PhotplugError(
            f"{log.name}: no exposure covers {'the position' if number == 1 else f'any of {number} positions'}, or "
            "the mosaic does not reach there; choose positions on it"
        )
    if covered < number:
        warnings.warn(
            f"{log.name}: no exposure covers {number - covered} of {number} positions; there is no PSF there",
            PhotplugWarning,
            stacklevel=3,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlaceDrizzle:
    """What images of point sources are drizzled by: exposures, the PSFs of their detectors, and half of a stamp."""

    log: ExposureLog
    wcs: WCS
    detectors: Mapping[int, DetectorPSF]
    drizzling: Drizzling
    new: type[Drizzle]
    half: int

    def describe(self) -> dict[str, CardValue]:
        """Return metadata."""
        cards: dict[str, CardValue] = {"PSFFROM": "log", "LOG": self.log.name}
        return cards | {"PIXFRAC": self.drizzling.pixfrac, "KERNEL": self.drizzling.kernel}

    def draw_region(self, places: SkyCoord, exposures: Sequence[int], name: str) -> PSF:
        """Return the PSF of a region: the mean of its places, or of all places in a pixel where they are many."""
        count = len(LATTICE)
        if len(places) < count:
            images = [self.draw(place, exposures) for place in places]
        else:
            first = self._find_pixels(places[0], exposures)  # moved alike in all exposures, dithers stay as they are
            chosen = places[:: len(places) // count][:count]
            images = [self.draw(place, exposures, first + move) for place, move in zip(chosen, LATTICE, strict=True)]
        middle, scale = (self.half, self.half), pixel_scale(self.wcs)
        return PSF(data=np.mean(images, axis=0), scale=scale, centre=middle, name=name, scale_from="log")

    def _find_pixels(self, place: SkyCoord, exposures: Sequence[int]) -> Floats:
        """Return where a place is in the pixels of exposures, (x, y) for each."""
        rows, vector = np.array(exposures, np.int32), as_vectors(place)
        return np.asarray(self.log.geometry.find_pixels(rows, np.repeat(vector, len(rows), axis=0)).T)

    def draw(self, place: SkyCoord, exposures: Sequence[int], within: Floats | None = None) -> Floats:
        """Return the image of a point source at a place, which is the middle of the stamp's middle pixel.

        In each exposure it is moved to where `within`, (n, 2), lies in the pixels of its detector, if that is given.
        """
        side = 2 * (self.half + MARGIN) + 1
        drizzler = self.new(kernel=self.drizzling.kernel, fillval="0", out_shape=(side, side), disable_ctx=True)
        pixels = self._find_pixels(place, exposures)
        if within is not None:
            pixels = np.rint(pixels) + (within + 0.5) % 1 - 0.5
        scales = self.log.geometry[np.array(exposures, np.int32)].pixel_scales()
        for row, (x, y), scale in zip(exposures, pixels, scales, strict=True):
            stamp, corner = self.detectors[row].draw(float(x), float(y), float(scale))
            where = np.indices(stamp.shape)[::-1].reshape(2, -1) + np.array(corner[::-1])[:, None]
            sky = SkyCoord(
                *self.log.geometry.find_sky(row, np.column_stack([where, (x, y)])).T, representation_type="cartesian"
            )
            on = np.stack(pixel_positions(self.wcs, sky.spherical.lon.deg, sky.spherical.lat.deg), axis=-1)
            pixmap = (on[:-1] - on[-1] + self.half + MARGIN).reshape(*stamp.shape, 2)
            drizzler.add_image(
                (stamp / _pixel_areas(pixmap)).astype(np.float32),
                exptime=1.0,
                pixmap=pixmap,
                weight_map=np.full(stamp.shape, self.drizzling.weights[row], np.float32),
                pixfrac=self.drizzling.pixfrac,
            )
        inner = slice(MARGIN, -MARGIN)
        return np.asarray(drizzler.out_img[inner, inner], float)


def _pixel_areas(pixmap: Floats) -> Floats:
    """Return the mosaic pixels that each pixel of a detector covers, (ny, nx)."""
    (x_y, x_x), (y_y, y_x) = (np.gradient(pixmap[..., axis]) for axis in (0, 1))
    return np.asarray(np.abs(x_x * y_y - x_y * y_x))
