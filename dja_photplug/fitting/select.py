"""Files for fitting codes from a mosaic: stamps with sigma, mask and PSF, and what galfit and imfit are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable, Table, vstack
from astropy.wcs.utils import skycoord_to_pixel
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from dja_photplug.errors import PhotplugError
from dja_photplug.files.whole import whole_folder
from dja_photplug.fitting.formats import FORMATS
from dja_photplug.fitting.stamps import AUTO_RANGE, SOURCE_COLUMNS, FitSources, cut_stamps
from dja_photplug.mosaic.image import MosaicImage, as_mosaic_image
from dja_photplug.options.stages import GalfitOptions, Options
from dja_photplug.psf.model import PSF, prepare_psf, read_psf
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.calibration import NoiseCalibration
from dja_photplug.sources.sep_engine import detect_sep, measure_sep, mesh_background

__all__ = ["choose_rows", "select_sources", "surround", "write_galfit", "write_stamps"]

# Arcsec: around positions without a catalogue, enough for the largest automatic stamp and a background mesh.
REACH = AUTO_RANGE[1] / 2 + 2
# Arcsec between a position and a source that is meant by it, where it is not on the segment.
NEAREST = 0.3


def write_galfit(
    image: NDData,
    sources: Table | SkyCoord,
    directory: str | Path,
    *,
    ids: Sequence[int] | None = None,
    segmentation: ArrayLike | None = None,
    psf: str | Path | PSF | None = None,
    calibration: NoiseCalibration | None = None,
    options: GalfitOptions | None = None,
    overwrite: bool = False,
    progress: bool = False,
    **settings: Any,
) -> list[Path]:
    """Write stamps of sources and all that a fitting code needs to start on them.

    Parameters
    ----------
    image : NDData
        From `load_mosaic`; sigma is that of its full weight.
    sources : Table or SkyCoord
        A catalogue as :func:`dja_photplug.run` makes it; or positions, around which sources are detected and measured.
    directory : str or Path
        Made if it is not there. All files appear or none.
    ids : sequence of int, optional
        Those to be fitted; all by default. The others are masked, or fitted with a target that they overlap.
    segmentation : array_like, optional
        On the image's grid, labelled by ``id``; without it the Kron ellipses of a catalogue stand in.
    psf : str, Path or PSF, optional
        Of odd size; it is resampled to the image's pixel scale and centred on a pixel. Without it nothing is convolved.
    calibration : NoiseCalibration, optional
        a(r), for the factor by which formal errors are multiplied.
    options : GalfitOptions, optional
    overwrite : bool, optional
        Replace files in the directory.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.
    **settings
        Fields of `GalfitOptions`, such as ``format="imfit"`` or ``size=6`` (arcsec; or ``"auto"``).

    Returns
    -------
    list of Path
        ``{id}_sci.fits {id}_sigma.fits {id}_mask.fits {id}_psf.fits {id}.feedme {id}.constraints`` of each source for
        galfit; with the id ``target`` for one position, ``target_1``, ... for several.

    Raises
    ------
    PhotplugError
        Where a source is not in the catalogue or off the mosaic, the PSF is none of odd size, files exist, or the
        format is not known.
    """
    if settings.get("size") == "auto":
        settings["size"] = None
    options = replace(
        options or GalfitOptions(), directory=directory, overwrite=overwrite, progress=progress, **settings
    )
    if options.format not in FORMATS:
        raise PhotplugError(f"format {options.format!r} is not one of {', '.join(FORMATS)}")
    image = as_mosaic_image(image)
    selected = select_sources(image, sources, ids=ids, segmentation=segmentation, psf=psf, calibration=calibration)
    return write_stamps(image, selected, options)


def write_stamps(image: MosaicImage, sources: FitSources, options: GalfitOptions) -> list[Path]:
    """Write the stamps of selected sources; see :func:`write_galfit`.

    Parameters
    ----------
    image : MosaicImage
    sources : FitSources
        From :func:`select_sources`.
    options : GalfitOptions
        With the directory.

    Raises
    ------
    PhotplugError
        As :func:`write_galfit`.
    """
    target = FORMATS[options.format]
    suffixes = [suffix for suffix in target.suffixes if sources.psf is not None or suffix != "_psf.fits"]
    names = [name + suffix for name in sources.targets for suffix in suffixes]
    directory = Path(options.directory)
    with whole_folder(directory, names, overwrite=options.overwrite) as temporary:
        stamps = cut_stamps(image, sources, options, joint=target.joint)
        # disable=None: only where stderr is a terminal.
        for stamp in tqdm(stamps, "stamps", len(sources.targets), disable=None if options.progress else True):
            target.write(stamp, temporary, options)
    return [directory / name for name in names]


def select_sources(
    image: MosaicImage,
    sources: Table | SkyCoord,
    *,
    ids: Sequence[int] | None = None,
    segmentation: ArrayLike | None = None,
    psf: str | Path | PSF | None = None,
    calibration: NoiseCalibration | None = None,
) -> FitSources:
    """Gather what the fits of an image's sources start from; the parameters are those of :func:`write_galfit`.

    Raises
    ------
    PhotplugError
        Where the input does not fit together.
    """
    kernel = None if psf is None else _prepare_psf(psf, pixel_scale(image.wcs))
    if isinstance(sources, SkyCoord):
        return replace(_find_sources(image, sources.reshape(-1)), psf=kernel, calibration=calibration)
    rows = choose_rows(sources, ids)
    labels = None if segmentation is None else np.asarray(segmentation)
    if labels is not None and labels.shape != image.data.shape:
        raise PhotplugError(
            f"the segmentation of {labels.shape} pixels (y, x) does not fit the image of {image.data.shape}; give that "
            "of the image's grid"
        )
    return FitSources(
        table=QTable(sources, copy=False),
        targets={str(number): number for number in np.asarray(sources["id"], int)[rows].tolist()},
        segmentation=labels,
        psf=kernel,
        calibration=calibration,
    )


def choose_rows(table: Table, ids: Sequence[int] | None) -> NDArray[np.intp]:
    """Return the rows of a catalogue with these ids, in their order; all rows without any.

    Raises
    ------
    PhotplugError
        Where the catalogue does not have one, or has one twice, or no ids at all.
    """
    if "id" not in table.colnames:
        raise PhotplugError("the catalogue has no column id; make stamps of one that `catalog` wrote")
    known = {int(number): row for row, number in enumerate(table["id"])}
    if len(known) < len(table):
        raise PhotplugError("the catalogue has an id twice; give each source its own")
    wanted = list(known) if ids is None else [int(number) for number in ids]
    missing = [number for number in wanted if number not in known]
    if missing or not wanted:
        what = f"id {missing[0]} is not among" if missing else "no id is asked for of"
        span = f" ({min(known)} to {max(known)})" if known else ""
        raise PhotplugError(f"{what} the {len(known)} sources of the catalogue{span}; give ids that it has")
    return np.array([known[number] for number in dict.fromkeys(wanted)])


def surround(places: SkyCoord, size: float | None) -> tuple[SkyCoord, u.Quantity]:
    """Return centre and side of a cut-out that holds the stamps (arcsec; None for automatic) around places.

    Beside them there is room for a background mesh and the neighbours.
    """
    places = places.icrs
    middle = SkyCoord(places.cartesian.mean(), frame=places.frame)
    centre = SkyCoord(middle.spherical.lon, middle.spherical.lat)
    reach = 2 * places.separation(centre).max().to(u.arcsec)
    return centre, reach + 2 * max(REACH, size or 0) * u.arcsec


def _prepare_psf(psf: str | Path | PSF, scale: float) -> NDArray[np.float32]:
    """Return a PSF on the image's pixels, refused where it is of even size."""
    given = psf if isinstance(psf, PSF) else read_psf(psf, scale)
    ny, nx = given.data.shape
    if nx % 2 == 0 or ny % 2 == 0:
        raise PhotplugError(
            f"{given.name}: the PSF has {nx} x {ny} pixels, and even numbers have no middle; give one of odd size"
        )
    return prepare_psf(given, scale)


def _find_sources(image: MosaicImage, positions: SkyCoord) -> FitSources:
    """Detect and measure sources around positions; where there is none, a small circle stands in."""
    x, y = (np.asarray(values) for values in skycoord_to_pixel(positions, image.wcs))
    ny, nx = image.data.shape
    scale = pixel_scale(image.wcs)
    for i in np.flatnonzero(~((x >= -0.5) & (y >= -0.5) & (x < nx - 0.5) & (y < ny - 0.5))):
        place = positions[i].to_string("decimal", precision=6)
        raise PhotplugError(f"position {place} is off the mosaic of {nx} x {ny} pixels; choose one on it")
    reach = REACH / scale
    window = tuple(slice(max(int(c.min() - reach), 0), min(int(c.max() + reach) + 1, n)) for c, n in ((y, ny), (x, nx)))
    cut, options = image[window], Options()
    detection = detect_sep(cut, mesh_background(cut, options.background), options)
    table = measure_sep(cut, detection, None, options)
    table = table["id", *SOURCE_COLUMNS, "flux_auto"]
    # Only the pages that are written take memory.
    labels = np.zeros(image.data.shape, np.int32)
    labels[window] = detection.segmentation
    found = SkyCoord(table["ra"], table["dec"])
    names = ["target"] if len(x) == 1 else [f"target_{i + 1}" for i in range(len(x))]
    targets = {}
    for name, position, label in zip(
        names, positions, labels[np.rint(y).astype(int), np.rint(x).astype(int)], strict=True
    ):
        apart = position.separation(found).arcsec
        if label == 0 and len(apart) and apart.min() <= NEAREST:
            label = table["id"][apart.argmin()]
        if label == 0:
            label = len(table) + 1
            table = vstack([table, _point_source(label, position)])
        targets[name] = int(label)
    return FitSources(table=table, targets=targets, segmentation=labels)


def _point_source(number: int, position: SkyCoord) -> QTable:
    """Return the row of a source that was not detected."""
    values = {"ra": position.icrs.ra.deg, "dec": position.icrs.dec.deg, "a": 0.1, "b": 0.1, "theta": 0.0}
    values |= {"kron_radius": np.nan, "flux_radius": 0.15}
    row = QTable({"id": [number], "flux_auto": [np.nan] * u.uJy})
    for name, unit in SOURCE_COLUMNS.items():
        row[name] = [values[name]] * u.Unit(unit) if unit else [values[name]]
    return row
