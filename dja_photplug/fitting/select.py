"""Which sources stamps are made of, and the files of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from astropy.wcs.utils import skycoord_to_pixel
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.columns import find_ids, find_positions, has_position
from dja_photplug.errors import PhotplugError
from dja_photplug.fitting.field import SOURCE_COLUMNS, FitSources
from dja_photplug.fitting.formats import FORMATS
from dja_photplug.fitting.stamps import AUTO_RANGE, cut_stamps
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.commands import GalfitOptions
from dja_photplug.outputs.whole import whole_folder
from dja_photplug.psf.model import PSF, warn_of_assumptions
from dja_photplug.psf.regions import PSFModel, read_psf_model
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.segments import check_labels, check_segments

__all__ = [
    "REACH",
    "choose_rows",
    "match_positions",
    "place_positions",
    "place_targets",
    "select_sources",
    "settle_psf",
    "surround",
    "write_stamps",
]

# Arcsec: around positions without a catalogue, enough for the largest automatic stamp and a background mesh.
REACH = AUTO_RANGE[1] / 2 + 2
# Arcsec between a position and a source that is meant by it, where it is not on the segment.
NEAREST = 0.3


def write_stamps(image: MosaicImage, sources: FitSources, options: GalfitOptions) -> list[Path]:
    """Write the stamps of selected sources; see :func:`dja_photplug.write_galfit`.

    Parameters
    ----------
    image : MosaicImage
    sources : FitSources
        From :func:`select_sources`.
    options : GalfitOptions
        With the directory.

    Returns
    -------
    list of Path
        The files, by source, and by suffix for each. Without a PSF there is no ``_psf.fits``.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.write_galfit`.
    """
    target = FORMATS[options.format]
    suffixes = [suffix for suffix in target.suffixes if sources.psf is not None or suffix != "_psf.fits"]
    names = [name + suffix for name in sources.targets for suffix in suffixes]
    directory = Path(options.directory or ".")
    with whole_folder(directory, names, overwrite=options.overwrite) as temporary:
        stamps = cut_stamps(image, sources, options, joint=target.joint)
        # disable=None: only where stderr is a terminal.
        for stamp in tqdm(stamps, "stamps", len(sources.targets), disable=None if options.progress else True):
            target.write(stamp, temporary, options)
    return [directory / name for name in names]


def select_sources(
    image: MosaicImage,
    sources: Table,
    *,
    ids: Sequence[int] | None = None,
    segmentation: ArrayLike | None = None,
    name: str | Path = "the segmentation",
    psf: str | Path | PSF | PSFModel | None = None,
    psf_scale: float | None = None,
    calibration: NoiseCalibration | None = None,
) -> FitSources:
    """Gather what the fits of a catalogue's sources start from.

    Parameters
    ----------
    image : MosaicImage
    sources : Table
    ids, segmentation, psf, calibration
        As for :func:`dja_photplug.write_galfit`.
    name : str or Path, optional
        Of the segmentation, for messages.
    psf_scale : float, optional
        Of the file's pixels in arcsec, whatever it states.

    Returns
    -------
    FitSources
        Stamps are named by the ids of their sources.

    Raises
    ------
    PhotplugError
        Where the input does not fit together.
    """
    rows = choose_rows(sources, ids)
    labels = None if segmentation is None else _check_segmentation(image, sources, rows, np.asarray(segmentation), name)
    return FitSources(
        table=QTable(sources, copy=False),
        targets={str(number): number for number in _read_ids(sources)[rows].tolist()},
        segmentation=labels,
        psf=settle_psf(psf, image, psf_scale),
        calibration=calibration,
    )


def _check_segmentation(
    image: MosaicImage, sources: Table, rows: NDArray[np.intp], labels: NDArray[np.integer], name: str | Path
) -> NDArray[np.int32]:
    """Return the labels of an image's pixels, refused where they are not those of a catalogue's sources."""
    if labels.shape != image.data.shape:
        raise PhotplugError(
            f"{name} of {labels.shape} pixels (y, x) does not fit the image of {image.data.shape}; give one on the "
            "image's grid"
        )
    checked, ids = check_labels(labels, name), _read_ids(sources)
    # Otherwise all of a target's light would be masked as that of a neighbour.
    x, y = skycoord_to_pixel(find_positions(sources, "ra", "dec"), image.wcs)
    there, missing = check_segments(QTable({"id": ids, "x": x * u.pix, "y": y * u.pix}), checked, name)
    bare = ids[rows][~there[rows]]
    if missing and len(bare):
        raise PhotplugError(
            f"{name}: no segment for {len(bare)} of {len(rows)} targets, first id {bare[0]}; choose others with --id"
        )
    return checked


def choose_rows(table: Table, ids: Sequence[int] | None) -> NDArray[np.intp]:
    """Return the rows of a catalogue with these ids.

    Parameters
    ----------
    table : `~astropy.table.Table`
        With a column ``id``.
    ids : sequence of int or None
        None for all of the catalogue; an id that is given twice counts once.

    Returns
    -------
    ndarray
        (n,), 0-based rows in the order of the ids.

    Raises
    ------
    PhotplugError
        Where the catalogue does not have one, or has one twice, or no ids at all.
    """
    known = {number: row for row, number in enumerate(_read_ids(table).tolist())}
    wanted = list(known) if ids is None else [int(number) for number in ids]
    missing = [number for number in wanted if number not in known]
    if missing or not wanted:
        what = f"id {missing[0]} is not among" if missing else "no id is asked for of"
        span = f" ({min(known)} to {max(known)})" if known else ""
        raise PhotplugError(f"{what} the {len(known)} sources of the catalogue{span}; give ids that it has")
    return np.array([known[number] for number in dict.fromkeys(wanted)])


def _read_ids(table: Table) -> NDArray[np.int64]:
    """Return the column ``id`` as numbers."""
    ids = find_ids(table, "id") if "id" in table.colnames else None
    if ids is None:
        raise PhotplugError("the catalogue has no column id; make stamps of one that `catalog` wrote")
    return ids


def place_targets(table: Table, ids: Sequence[int] | None) -> SkyCoord:
    """Return the positions of the sources with these ids.

    Parameters
    ----------
    table : `~astropy.table.Table`
    ids : sequence of int or None
        As for :func:`choose_rows`.

    Returns
    -------
    SkyCoord
        (n,), in the order of the ids. Other rows need no position.

    Raises
    ------
    PhotplugError
        As :func:`choose_rows`; and where one of them has no position.
    """
    rows = choose_rows(table, ids)
    if missing_columns := [name for name in ("ra", "dec") if name not in table.colnames]:
        raise PhotplugError(
            f"the catalogue has no column {', '.join(missing_columns)}; make stamps of one that `catalog` wrote"
        )
    places = find_positions(table, "ra", "dec")[rows]
    missing = np.flatnonzero(~has_position(places))
    if len(missing):
        row = rows[missing[0]]
        raise PhotplugError(
            f"no position for {len(missing)} of {len(rows)} targets, first id {_read_ids(table)[row]} in row {row} "
            "(from 0); choose others with --id"
        )
    return places


def surround(places: SkyCoord, size: float | None) -> tuple[SkyCoord, u.Quantity]:
    """Return centre and side of a square cut-out that holds the stamps around places.

    Beside them there is room for a background mesh and the neighbours.

    Parameters
    ----------
    places : SkyCoord
        (n,), the middles of the stamps.
    size : float or None
        Side of a stamp in arcsec; None for automatic ones, of which the largest has to fit.

    Returns
    -------
    centre : SkyCoord
        Scalar, in ICRS.
    side : `~astropy.units.Quantity`
        In arcsec.
    """
    places = places.icrs
    middle = SkyCoord(places.cartesian.mean(), frame=places.frame)
    centre = SkyCoord(middle.spherical.lon, middle.spherical.lat)
    reach = 2 * places.separation(centre).max().to(u.arcsec)
    return centre, reach + 2 * max(REACH, size or 0) * u.arcsec


def settle_psf(
    psf: str | Path | PSF | PSFModel | None, image: MosaicImage, psf_scale: float | None = None
) -> PSFModel | None:
    """Return the PSF that stamps get, read where it is a file, and tell what was assumed of it.

    Parameters
    ----------
    psf : str, Path, PSF, PSFModel or None
        Of any size and pixel scale. A file that states no pixel scale has that of the image, and a warning says so.
    image : MosaicImage
    psf_scale : float, optional
        Of the file's pixels in arcsec, whatever it states.

    Returns
    -------
    PSFModel or None
        None where there is no PSF.

    Raises
    ------
    PhotplugError
        Where the file is no PSF, or there is none whose scale could be given.
    """
    if psf is None:
        if psf_scale is not None:
            raise PhotplugError("option psf_scale: there is no PSF image; give one (psf), or leave it out")
        return None
    if isinstance(psf, PSF | PSFModel):
        model = PSFModel.of(psf)
    else:
        model = read_psf_model(psf, pixel_scale(image.wcs), scale=psf_scale)
    warn_of_assumptions(model.stamps[0], share=False)
    return model


def place_positions(image: MosaicImage, positions: SkyCoord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the pixels at positions, all of which must be on the image.

    Parameters
    ----------
    image : MosaicImage
    positions : SkyCoord
        (n,).

    Returns
    -------
    x, y : ndarray
        (n,), 0-based pixels.

    Raises
    ------
    PhotplugError
        Where one is off the image.
    """
    x, y = (np.asarray(values) for values in skycoord_to_pixel(positions, image.wcs))
    ny, nx = image.data.shape
    for i in np.flatnonzero(~((x >= -0.5) & (y >= -0.5) & (x < nx - 0.5) & (y < ny - 0.5))):
        place = positions[i].to_string("decimal", precision=6)
        raise PhotplugError(f"position {place} is off the mosaic of {nx} x {ny} pixels; choose one on it")
    return x, y


def match_positions(positions: SkyCoord, labels: NDArray[np.int32], table: QTable) -> FitSources:
    """Choose the sources that positions mean: those on whose segments they lie, or the nearest; else a small circle.

    Parameters
    ----------
    positions : SkyCoord
        (n,).
    labels : ndarray
        (n,), the segment that each lies on, 0 for none.
    table : `~astropy.table.QTable`
        Of all sources, with the columns that stamps are made from.

    Returns
    -------
    FitSources
        Stamps are named ``target``, or ``target_1``, ``target_2`` ... in the order of positions. The table has one more
        row for each small circle, with an id above all others. There is no segmentation, PSF or a(r) yet.
    """
    table = table["id", *SOURCE_COLUMNS, "flux_auto"]
    found = SkyCoord(table["ra"], table["dec"])
    names = ["target"] if len(positions) == 1 else [f"target_{i + 1}" for i in range(len(positions))]
    targets = {}
    for name, position, label in zip(names, positions, labels, strict=True):
        apart = position.separation(found).arcsec
        if label == 0 and len(apart) and apart.min() <= NEAREST:
            label = table["id"][apart.argmin()]
        if label == 0:
            label = table["id"].max(initial=0) + 1
            table = vstack([table, _point_source(label, position)])
        targets[name] = int(label)
    return FitSources(table=table, targets=targets)


def _point_source(number: int, position: SkyCoord) -> QTable:
    """Return the row of a source that was not detected."""
    values = {"ra": position.icrs.ra.deg, "dec": position.icrs.dec.deg, "a": 0.1, "b": 0.1, "theta": 0.0}
    values |= {"kron_radius": np.nan, "flux_radius": 0.15}
    row = QTable({"id": [number], "flux_auto": [np.nan] * u.uJy})
    for name, unit in SOURCE_COLUMNS.items():
        row[name] = [values[name]] * u.Unit(unit) if unit else [values[name]]
    return row
