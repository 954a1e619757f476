"""The catalogue: its columns, flags and metadata, each said once, and the files it is written to."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import ArrayLike, NDArray
from regions import CircleSkyRegion, EllipseSkyRegion, Regions

from dja_photplug import __version__
from dja_photplug.errors import PhotplugError
from dja_photplug.files.whole import whole_file
from dja_photplug.options.stages import Options

__all__ = [
    "APERTURE_COLUMNS",
    "COLUMNS",
    "EPOCH_COLUMNS",
    "EPOCH_DETAIL_COLUMNS",
    "MOSAIC_ZERO_POINT",
    "TOTAL_COLUMNS",
    "ZERO_POINT",
    "ColumnSpec",
    "SourceFlag",
    "decode_flags",
    "describe_apertures",
    "describe_columns",
    "dress_table",
    "encode_metadata",
    "epoch_columns",
    "kron_circle_radius",
    "magnitude",
    "make_metadata",
    "write_catalog",
    "write_regions",
]

ZERO_POINT = 23.9
"""AB magnitude of 1 uJy."""
MOSAIC_ZERO_POINT = ZERO_POINT + 5
"""AB magnitude of a mosaic's pixel value of 1, which is 10 nJy, a hundredth of 1 uJy."""


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column of the catalogue.

    Attributes
    ----------
    name : str
        Lower case; in :data:`APERTURE_COLUMNS` with ``{i}`` for the number of the aperture.
    unit : str
        As `astropy.units` reads it; empty for numbers without a unit.
    description : str
        What it is, with its conventions.
    dtype : str
        The numpy type it is stored as. Floats can be NaN, which means not measured.
    """

    name: str
    unit: str
    description: str
    dtype: str = "f8"


COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("id", "", "source number, its label in the segmentation image, from 1", "i8"),
    ColumnSpec("ra", "deg", "right ascension of the barycentre, in the frame of the mosaic's WCS"),
    ColumnSpec("dec", "deg", "declination of the barycentre, in the frame of the mosaic's WCS"),
    ColumnSpec("x", "pix", "barycentre, 0-based: the centre of the first pixel is 0"),
    ColumnSpec("y", "pix", "barycentre, 0-based: the centre of the first pixel is 0"),
    ColumnSpec("a", "arcsec", "rms of the light along the major axis"),
    ColumnSpec("b", "arcsec", "rms of the light along the minor axis"),
    ColumnSpec("theta", "deg", "angle of the major axis, counter-clockwise from +x of the mosaic, -90 to 90"),
    ColumnSpec("npix", "", "number of pixels of the source in the segmentation image", "i8"),
    ColumnSpec(
        "kron_radius",
        "",
        "Kron ellipse in units of a and b: kron_factor x the Kron radius, clipped to [kron_min, kron_max]; "
        "not used where the flag KRON_CIRCLE is set",
    ),
    ColumnSpec("flux_radius", "arcsec", "radius of the circle that holds half of flux_auto"),
    ColumnSpec("flux_auto", "uJy", "flux in the Kron ellipse, or in the circle of kron_circle where that is larger"),
    ColumnSpec("fluxerr_auto", "uJy", "1-sigma error of flux_auto"),
    ColumnSpec("mag_auto", "mag", "AB magnitude of flux_auto; NaN where the flux is not positive"),
    ColumnSpec("magerr_auto", "mag", "1-sigma error of mag_auto"),
    ColumnSpec("flux_iso", "uJy", "isophotal flux: sum of the source's pixels in the segmentation image"),
    ColumnSpec("fluxerr_iso", "uJy", "1-sigma error of flux_iso"),
    ColumnSpec("flag", "", "bits of SourceFlag: detection, Kron aperture and half-light radius", "i4"),
    ColumnSpec(
        "mask_frac",
        "",
        "area fraction of the largest circular aperture, or the Kron ellipse if that is larger, "
        "with null weight or off the image; neighbours not counted",
    ),
)

APERTURE_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("flux_aper_{i}", "uJy", "flux in the circle of diameter ASEC_{i} arcsec"),
    ColumnSpec("fluxerr_aper_{i}", "uJy", "1-sigma error of flux_aper_{i}"),
    ColumnSpec("depth5_{i}", "mag", "5-sigma AB limit of that circle at this place, on empty sky"),
    ColumnSpec("flag_aper_{i}", "", "bits of SourceFlag of the circle of diameter ASEC_{i} arcsec", "i4"),
)

TOTAL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("corr_{i}", "uJy", "flux_aper_{i} times flux_auto/flux_aper_{i} of the detection image"),
    ColumnSpec("ecorr_{i}", "uJy", "1-sigma error of corr_{i}; the ratio counts as exact"),
    ColumnSpec(
        "tot_{i}", "uJy", "corr_{i} over the share of the PSF's light in the Kron aperture; corr_{i} without a PSF"
    ),
    ColumnSpec("etot_{i}", "uJy", "1-sigma error of tot_{i}; ratio and share count as exact"),
)
"""Columns of each aperture where a detection image says how much light is outside of it."""

EPOCH_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("n_exp", "", "exposures whose detector covers the source", "i8"),
    ColumnSpec("exptime", "s", "sum of their exposure times; 0 where not covered"),
    ColumnSpec("mjd_mean", "d", "mean of their mid-times weighted by exposure time, MJD (UTC)"),
    ColumnSpec("mjd_min", "d", "earliest begin of an exposure, MJD (UTC)"),
    ColumnSpec("mjd_max", "d", "latest end of an exposure, MJD (UTC)"),
    ColumnSpec("n_visit", "", "distinct visits among them", "i8"),
)

EPOCH_DETAIL_COLUMNS: dict[str, tuple[ColumnSpec, ...]] = {
    "visits": (
        ColumnSpec("visits", "", "names of the visits in the order of time, with spaces between", "U"),
        ColumnSpec("visit_mjd", "", "of each visit: mean mid-time weighted by exposure time, MJD (UTC)", "O"),
        ColumnSpec("visit_exptime", "", "of each visit: sum of exposure times, s", "O"),
    ),
    "angles": (
        ColumnSpec("visit_pa", "", "of each visit: mean position angle of the detector's y axis here, deg E of N", "O"),
    ),
    "detectors": (ColumnSpec("detectors", "", "detectors that saw the source, with spaces between", "U"),),
    "programs": (ColumnSpec("programs", "", "programs that saw the source, with spaces between", "U"),),
    "gap": (ColumnSpec("gap_max", "d", "longest time without an exposure between the first and the last"),),
    "barycentric": (
        ColumnSpec("bmjd_mean", "d", "mean mid-time at the barycentre of the Solar System, MJD (TDB)"),
        ColumnSpec("visit_bmjd", "", "of each visit: mean mid-time at that barycentre, MJD (TDB)", "O"),
    ),
    "edge": (ColumnSpec("edge_dist", "arcsec", "distance to the nearest edge of a detector that saw the source"),),
}
"""Columns of epochs on request, by the name of their group in `dja_photplug.options.stages.EPOCH_DETAILS`.

Those of type O hold an array for each source; neither FITS nor ECSV keeps a unit on them that `QTable` can read.
"""


def describe_apertures(numbers: Iterable[int], specs: Sequence[ColumnSpec] = APERTURE_COLUMNS) -> list[ColumnSpec]:
    """Return the columns of the apertures with these numbers.

    Examples
    --------
    >>> [spec.name for spec in describe_apertures([2], TOTAL_COLUMNS)]
    ['corr_2', 'ecorr_2', 'tot_2', 'etot_2']
    """
    return [
        replace(spec, name=spec.name.format(i=i), description=spec.description.format(i=i))
        for i in numbers
        for spec in specs
    ]


def describe_columns(n_apertures: int, *, epochs: bool = False) -> tuple[ColumnSpec, ...]:
    """Return the columns of a catalogue of one band in their order.

    Examples
    --------
    >>> [spec.name for spec in describe_columns(1)[-3:]]
    ['fluxerr_aper_0', 'depth5_0', 'flag_aper_0']
    """
    return (*COLUMNS, *describe_apertures(range(n_apertures)), *(EPOCH_COLUMNS if epochs else ()))


def epoch_columns(details: Sequence[str] = ()) -> tuple[ColumnSpec, ...]:
    """Return the columns of the epochs of one band, with those of the groups `details`.

    Examples
    --------
    >>> [spec.name for spec in epoch_columns(("gap", "edge"))[-2:]]
    ['gap_max', 'edge_dist']
    """
    return EPOCH_COLUMNS + tuple(spec for group in details for spec in EPOCH_DETAIL_COLUMNS[group])


def dress_table(columns: Mapping[str, ArrayLike], specs: Sequence[ColumnSpec]) -> QTable:
    """Return a table of plain columns with the order, type, unit and description of `specs`.

    Parameters
    ----------
    columns : mapping of str to array or `~astropy.units.Quantity`
        Plain arrays are in the unit of their `ColumnSpec`.
    specs : sequence of ColumnSpec
        As from :func:`describe_columns`, or :data:`EPOCH_COLUMNS` alone.

    Raises
    ------
    PhotplugError
        Where a column is missing or not in `specs`.
    """
    names = [spec.name for spec in specs]
    for what, wrong in (("misses", set(names) - set(columns)), ("has unknown", set(columns) - set(names))):
        if wrong:
            raise PhotplugError(
                f"the table {what} columns {', '.join(sorted(wrong))}; give exactly those of the schema"
            )
    table = QTable()
    for spec in specs:
        if spec.unit:
            table[spec.name] = u.Quantity(columns[spec.name], spec.unit, dtype=spec.dtype)
        else:
            table[spec.name] = np.asarray(columns[spec.name], dtype=spec.dtype)
        table[spec.name].info.description = spec.description
    return table


class SourceFlag(enum.IntFlag):
    """Bits of ``flag`` and ``flag_aper_i``; the low 8 are those of sep, with its meaning.

    Each member has a ``description``.

    Examples
    --------
    >>> SourceFlag.TRUNCATED.value, SourceFlag.TRUNCATED.description
    (2, 'the source touches the edge of the image')
    """

    description: str

    def __new__(cls, value: int, description: str) -> SourceFlag:  # noqa: D102
        member = int.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member

    DEBLENDED = 1, "the source was deblended from another"
    TRUNCATED = 2, "the source touches the edge of the image"
    DEBLEND_OVERFLOW = 4, "deblending overflowed"
    SINGULAR = 8, "x and y are fully correlated: the source is a line or a point"
    APER_TRUNCATED = 16, "the aperture reaches over the edge of the image"
    APER_MASKED = 32, "pixels of the aperture are neighbours' or without data; its mean stands in for them"
    APER_ALL_MASKED = 64, "all pixels of the aperture are neighbours', which are kept, or without data"
    APER_NON_POSITIVE = 128, "the light in the Kron aperture is not positive: the smallest Kron radius is used"
    NOT_DEBLENDED = 256, "too complex to deblend: kept whole"
    KRON_CIRCLE = 512, "the Kron ellipse is small or unknown: a circle of kron_circle is used for flux_auto"
    NOT_MEASURED = 1024, "flux_auto is NaN: not covered, or no pixel with data in the Kron aperture or the sky annulus"
    NOT_COVERED = 2048, "no position, off the image, or no data in the largest aperture: all fluxes are NaN"
    NULL_WEIGHT = 4096, "pixels of the aperture are without data"
    NEIGHBOUR = 8192, "pixels of the aperture are in the segments of neighbours, which are masked"
    KRON_LIMITED = 16384, "the Kron radius was clipped to kron_min or kron_max"
    SATURATED_CORE = 32768, "looks saturated: no data within 0.1 arcsec of the centre, but light with data around it"
    POINT_LIKE = 65536, "the half-light radius is that of a point source; judged where a PSF is given"


def decode_flags(value: int) -> list[str]:
    """Return the names of the bits that are set, lowest first.

    Examples
    --------
    >>> decode_flags(257)
    ['DEBLENDED', 'NOT_DEBLENDED']
    """
    return [flag.name or "" for flag in SourceFlag if flag & int(value)]


def magnitude(flux: ArrayLike, error: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AB magnitudes and their errors, NaN where the flux is not positive.

    Parameters
    ----------
    flux, error : array_like
        In uJy.

    Examples
    --------
    >>> mag, magerr = magnitude([100.0, -1.0], [1.0, 1.0])
    >>> mag.round(3), magerr.round(4)
    (array([18.9,  nan]), array([0.0109,    nan]))
    """
    flux, error = np.asarray(flux, dtype=np.float64), np.asarray(error, dtype=np.float64)
    # `not >` would keep NaN, `where` drops it: both end as NaN.
    positive = np.where(flux > 0, flux, np.nan)
    return ZERO_POINT - 2.5 * np.log10(positive), 2.5 / np.log(10) * error / positive


def make_metadata(options: Options) -> dict[str, Any]:
    """Return the metadata of a catalogue that follow from the options, with keys that FITS takes.

    Zero point, engine, aperture diameters (``ASEC_i``, arcsec), the radius of the smallest Kron aperture, all options
    and the versions of the libraries (JSON text).
    """
    versions = {name: version(name) for name in ("astropy", "numpy", "sep", "photutils")}
    return {
        "ZEROPNT": ZERO_POINT,
        "ENGINE": options.engine,
        **{f"ASEC_{i}": diameter for i, diameter in enumerate(options.measure.apertures)},
        "KRONCIRC": options.measure.kron_circle,
        **encode_metadata({"OPTIONS": options.as_dict(), "VERSIONS": {"dja_photplug": __version__, **versions}}),
    }


def kron_circle_radius(table: QTable, least: float) -> NDArray[np.float64]:
    """Return the radius of the circle with the area of each Kron aperture, arcsec; `least` where that is larger."""
    size = np.sqrt(table["a"].to_value(u.arcsec) * table["b"].to_value(u.arcsec))
    return np.fmax(table["kron_radius"] * size, least)


def encode_metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as FITS takes them: lists and mappings as JSON text."""
    return {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in values.items()}


REGION_SUFFIXES = (".reg",)
CATALOG_FORMATS = {".fits": "fits", ".ecsv": "ascii.ecsv", ".parquet": "parquet"}


def write_catalog(table: QTable, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a catalogue whole or not at all; `QTable.read` returns it with units, descriptions and metadata.

    Parameters
    ----------
    table : `~astropy.table.QTable`
    path : str or Path
        Ends in ``.fits``, ``.ecsv`` or ``.parquet``.
    overwrite : bool, optional
        Replace an existing file.

    Raises
    ------
    PhotplugError
        For another suffix, parquet without pyarrow, an existing file, or a folder that does not take it.
    """
    path = Path(path)
    kind = CATALOG_FORMATS.get(path.suffix.lower())
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise PhotplugError(f"{path}: parquet needs pyarrow; pip install 'dja_photplug[parquet]', or write .fits")
    with whole_file(path, overwrite=overwrite, suffixes=tuple(CATALOG_FORMATS)) as temporary:
        table.write(temporary, format=kind)
    return path


def _north_angle(table: QTable, wcs: WCS) -> u.Quantity:
    """Return the direction of north at each source, counter-clockwise from +x."""
    here = SkyCoord(table["ra"], table["dec"])
    there = here.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    x, y = wcs.world_to_pixel_values(there.ra.deg, there.dec.deg)
    return np.arctan2(y - table["y"].value, x - table["x"].value) * u.rad


def write_regions(table: QTable, path: str | Path, wcs: WCS, *, overwrite: bool = False) -> Path:
    """Write the Kron apertures as a DS9 region file on the sky, labelled with the source numbers.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        With the columns ``id ra dec x y a b theta kron_radius flag`` and ``KRONCIRC`` in its metadata.
    path : str or Path
        Ends in ``.reg``.
    wcs : `~astropy.wcs.WCS`
        Of the mosaic; it says where north is, which ``theta`` does not.
    overwrite : bool, optional
        Replace an existing file.

    Raises
    ------
    PhotplugError
        For another suffix, an existing file, or a folder that does not take it.
    """
    path = Path(path)
    placed = table[np.isfinite(table["ra"]) & np.isfinite(table["dec"])]
    # Of `regions`: an angle of 0 lines the width up with the longitude axis, 90 deg clockwise of north.
    angles = Angle(placed["theta"] + 90 * u.deg - _north_angle(placed, wcs)).wrap_at(180 * u.deg)
    regions, frame = Regions([]), wcs_to_celestial_frame(wcs)
    for row, angle in zip(placed, angles, strict=True):
        centre, meta = SkyCoord(row["ra"], row["dec"], frame=frame), {"text": str(row["id"])}
        if row["flag"] & SourceFlag.KRON_CIRCLE:
            regions.append(CircleSkyRegion(centre, table.meta["KRONCIRC"] * u.arcsec, meta=meta))
        else:
            width, height = (2 * row["kron_radius"] * row[axis] for axis in "ab")
            regions.append(EllipseSkyRegion(centre, width, height, angle, meta=meta))
    with whole_file(path, overwrite=overwrite, suffixes=REGION_SUFFIXES) as temporary:
        regions.write(temporary, format="ds9")
    return path
