"""The mosaics that a catalogue was made from: where they are, where sources are on them, which visits saw these."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pluggy
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from dja_photplug.epochs.log import exposure_log
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import MosaicFiles, ProductName, Source
from dja_photplug.files.pixels import ImageReader, read_image
from dja_photplug.mosaic.blocks import null_pixels
from dja_photplug.options.presets import PIXEL_DEFAULTS
from dja_photplug.options.run import Options
from dja_photplug.options.stages import EpochOptions
from dja_photplug.pipeline.images import find_grid, find_source, load_source
from dja_photplug.pipeline.one_band import find_epochs
from dja_photplug.reports.reading import Contents
from dja_photplug.sky.grid import Grid, Window, pixel_positions, pixel_scale, sky_positions

__all__ = ["BandMosaic", "Visits", "find_mosaics", "map_pixels", "read_planes", "read_visits"]

Plane = NDArray[np.float32]

MARGIN = 6.0  # arcsec around the outermost sources


@dataclass(frozen=True, slots=True, kw_only=True)
class BandMosaic:
    """One mosaic, and the part of it that the report shows.

    Attributes
    ----------
    band : str
        As `BandData.name`.
    source : Source
    grid : Grid
        Of the whole mosaic.
    window : tuple of slice
        Rows and columns around the sources.
    header : mapping
        Of the science image; empty where it has none that can be read.
    """

    band: str
    source: Source
    grid: Grid
    window: Window
    header: Mapping[str, object]

    @property
    def label(self) -> str:
        """The band, for people."""
        return self.band or self.source.band or self.source.name

    @property
    def scale(self) -> float:
        """Of the pixels, arcsec."""
        return pixel_scale(self.grid.wcs)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the part that is shown, (ny, nx)."""
        rows, columns = self.window
        return rows.stop - rows.start, columns.stop - columns.start

    def place(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Return x and y of positions (deg) in pixels of the part, counted from 0.

        Parameters
        ----------
        ra, dec : ndarray

        Returns
        -------
        x, y : ndarray
        """
        x, y = pixel_positions(self.grid.wcs, ra, dec)
        return x - self.window[1].start, y - self.window[0].start


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visits:
    """The visits that saw the sources in one band, one source after the other.

    Attributes
    ----------
    names : tuple of str
        Of all visits.
    first : ndarray
        uint32, where those of a source begin, and the end, (n + 1,).
    visit : ndarray
        uint16, numbers in `names`, (m,).
    day, seconds : ndarray
        float32, mean mid-time in days since `start`, and exposure time in s, (m,).
    start : float
        MJD (UTC).
    """

    names: tuple[str, ...]
    first: NDArray[np.uint32]
    visit: NDArray[np.uint16]
    day: NDArray[np.float32]
    seconds: NDArray[np.float32]
    start: float

    @property
    def size(self) -> int:
        """Bytes in the page, as base64."""
        return (self.first.nbytes + self.visit.nbytes + self.day.nbytes + self.seconds.nbytes) * 4 // 3


def read_visits(mosaic: BandMosaic, contents: Contents, manager: pluggy.PluginManager) -> Visits | None:
    """Return the visits that saw the sources, by the log beside a mosaic.

    Parameters
    ----------
    mosaic : BandMosaic
    contents : Contents
    manager : PluginManager

    Returns
    -------
    Visits or None
        None where there is no log, or no visit saw a source.

    Raises
    ------
    PhotplugError
        Where the log cannot be read.
    """
    log = exposure_log(mosaic.source)
    if log is None:
        return None
    known = np.isfinite(contents.ra) & np.isfinite(contents.dec)
    places = SkyCoord(np.where(known, contents.ra, 0), np.where(known, contents.dec, 0), unit="deg")
    options = Options(epochs=EpochOptions(details=("visits",), visit_gap=_read_gap(contents)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*none of the", PhotplugWarning)  # then there is no time line
        epochs = find_epochs(log, places, options, manager)
    each = [str(names).split() if there else [] for names, there in zip(epochs["visits"], known, strict=True)]
    names = sorted({name for visits in each for name in visits})
    if not names or len(names) > np.iinfo(np.uint16).max:
        return None
    number = {name: i for i, name in enumerate(names)}
    seen = [i for i, visits in enumerate(each) if visits]
    days, seconds = (np.concatenate([np.asarray(epochs[f"visit_{name}"][i], float) for i in seen])
                     for name in ("mjd", "exptime"))  # fmt: skip
    start = float(np.floor(np.nanmin(days))) if np.isfinite(days).any() else 0.0
    return Visits(
        names=tuple(names),
        first=np.cumsum([0, *map(len, each)]).astype(np.uint32),
        visit=np.array([number[name] for visits in each for name in visits], np.uint16),
        day=(days - start).astype(np.float32),
        seconds=seconds.astype(np.float32),
        start=start,
    )


def _read_gap(contents: Contents) -> float | None:
    """Return by which gap in time visits are told apart in a catalogue, if it says so."""
    try:
        gap = json.loads(str(contents.meta.get("OPTIONS", "{}")))["epochs"]["visit_gap"]
    except (ValueError, TypeError, KeyError):
        return None
    return float(gap) if isinstance(gap, int | float) else None


def find_mosaics(
    contents: Contents, folder: Path | None, manager: pluggy.PluginManager
) -> tuple[list[BandMosaic], list[str]]:
    """Return the mosaics of a catalogue.

    Parameters
    ----------
    contents : Contents
    folder : Path or None
        Where they are now. All in it are taken where the metadata name none.
    manager : PluginManager

    Returns
    -------
    mosaics : list of BandMosaic
    notes : list of str
        What is not there.

    Raises
    ------
    PhotplugError
        Where there is no such folder, or no mosaic in it.
    """
    named = {band.name: str(band.meta["INPUT"]) for band in contents.bands if band.meta.get("INPUT")}
    if folder is not None:
        products = [ProductName.parse(path.name) for path in sorted(folder.iterdir())] if folder.is_dir() else []
        there = {name.band: name.mosaic for name in products if name is not None and name.kind == "sci"}
        if not there:
            raise PhotplugError(f"--mosaics {folder}: holds no mosaics; name the folder with their sci and wht files")
        named = named or there
    found, notes = [], [] if named else ["it has no images: --mosaics names the folder of its mosaics"]
    for band, text in named.items():
        where = str(folder / Path(text).name) if folder else text
        try:
            source = find_source(where, manager)
            found.append(_open(band, source, contents, manager))
        except PhotplugError as error:
            notes.append(
                f"{band or 'the mosaic'} has no images: {error}"
                + ("" if folder else ". --mosaics names another folder")
            )
    return found, notes


def _open(band: str, source: Source, contents: Contents, manager: pluggy.PluginManager) -> BandMosaic:
    """Return a mosaic and the part of it around the sources."""
    header: Mapping[str, object] = {}
    if isinstance(source, MosaicFiles):
        with ImageReader(source.science) as reader:
            header = dict(reader.header)
    grid = find_grid(source, PIXEL_DEFAULTS, manager)
    x, y = pixel_positions(grid.wcs, contents.ra, contents.dec)
    margin = MARGIN / pixel_scale(grid.wcs)
    inside = (x > -margin) & (y > -margin) & (x < grid.shape[1] + margin) & (y < grid.shape[0] + margin)
    if not inside.any():
        raise PhotplugError(f"{source}: none of the sources lies on it; give the mosaics that they were detected on")
    sides = []
    for place, n in ((y[inside], grid.shape[0]), (x[inside], grid.shape[1])):
        low, high = int(max(place.min() - margin, 0)), int(min(place.max() + margin, n - 1))
        sides.append(slice(low, high + 1))
    return BandMosaic(band=band, source=source, grid=grid, window=(sides[0], sides[1]), header=header)


def read_planes(mosaic: BandMosaic, manager: pluggy.PluginManager) -> Iterator[Plane]:
    """Yield science and background weight of the part that is shown, one after the other.

    Parameters
    ----------
    mosaic : BandMosaic
    manager : PluginManager

    Yields
    ------
    ndarray, shape (ny, nx)
        float32, in 10 nJy and its power -2; NaN and 0 where there are no data.

    Raises
    ------
    PhotplugError
        Where a file cannot be read.
    """
    source, window = mosaic.source, mosaic.window
    if isinstance(source, MosaicFiles):
        yield read_image(source.science, window)[0]
        yield np.nan_to_num(read_image(source.weight, window)[0])
        return
    image = load_source(source, PIXEL_DEFAULTS, manager)
    null = null_pixels(image)[window]
    yield np.where(null, np.float32(np.nan), image.data[window])
    weight = image.uncertainty.array if image.background_weight is None else image.background_weight
    yield np.where(null, np.float32(0), weight[window])


def map_pixels(field: BandMosaic, mosaic: BandMosaic) -> list[float]:
    """Return the affine map from pixels of one part to those of another.

    Parameters
    ----------
    field, mosaic : BandMosaic

    Returns
    -------
    list of float
        ``x0, xx, xy, y0, yx, yy``: x of the second is ``x0 + xx x + xy y``. Mosaics of one field are tangent to the
        sky at the same point, where that is exact.
    """
    ny, nx = field.shape
    y, x = (axis.ravel() for axis in np.meshgrid(np.linspace(0, ny - 1, 5), np.linspace(0, nx - 1, 5), indexing="ij"))
    places = mosaic.place(*sky_positions(field.grid.wcs, x + field.window[1].start, y + field.window[0].start))
    terms = np.stack([np.ones_like(x), x, y], axis=-1)
    fits = [np.linalg.lstsq(terms, place, rcond=None)[0] for place in places]
    return [float(value) for fit in fits for value in fit]
