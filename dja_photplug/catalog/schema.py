"""The catalogue: its columns, flags and metadata, each said once, and the files it is written to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.table import QTable
from numpy.typing import ArrayLike

from dja_photplug.catalog.metadata import find_ucd
from dja_photplug.errors import PhotplugError

__all__ = [
    "APERTURE_COLUMNS",
    "COLUMNS",
    "CONTAMINATION_COLUMNS",
    "DETAIL_COLUMNS",
    "EPOCH_COLUMNS",
    "EPOCH_DETAIL_COLUMNS",
    "GROWTH_COLUMNS",
    "KRON_DETAIL_COLUMNS",
    "MASK_COLUMNS",
    "MATCHED_TOTAL_COLUMNS",
    "MATCH_COLUMNS",
    "POSITION_COLUMNS",
    "SKY_COLUMNS",
    "TOTAL_COLUMNS",
    "ColumnSpec",
    "array_columns",
    "describe_apertures",
    "describe_columns",
    "describe_removed",
    "dress_table",
    "epoch_columns",
]


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

    @property
    def ucd(self) -> str:
        """Unified Content Descriptor, by which tools of the Virtual Observatory know the column (UCD1+ 1.5)."""
        return find_ucd(self.name)


COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("id", "", "source number from 1, its label in the segmentation map", "i8"),
    ColumnSpec("ra", "deg", "right ascension, ICRS"),
    ColumnSpec("dec", "deg", "declination, ICRS"),
    ColumnSpec("x", "pix", "position (windowed or isophotal), 0-based: the first pixel is centred on 0"),
    ColumnSpec("y", "pix", "position (windowed or isophotal), 0-based: the first pixel is centred on 0"),
    ColumnSpec("a", "arcsec", "rms size of the light along the major axis"),
    ColumnSpec("b", "arcsec", "rms size of the light along the minor axis"),
    ColumnSpec("theta", "deg", "angle of the major axis, counter-clockwise from the mosaic's +x, -90 to 90"),
    ColumnSpec("npix", "", "number of pixels in the source's segment", "i8"),
    ColumnSpec(
        "snr_detect",
        "",
        "peak of the source in the smoothed detection image, over the scatter of the smoothed sky at its depth; NaN "
        "if too little sky is left to measure it",
    ),
    ColumnSpec(
        "kron_radius",
        "",
        "size of the Kron ellipse, in units of a and b: kron_factor x Kron radius, clipped to [kron_min, kron_max]; "
        "unused where the flag KRON_CIRCLE is set",
    ),
    ColumnSpec("flux_radius", "arcsec", "half-light radius: of the circle with half of flux_auto"),
    ColumnSpec(
        "flux_auto",
        "uJy",
        "flux in the Kron ellipse, or in the circle of radius kron_circle if larger; 70 to 90 % of the total flux",
    ),
    ColumnSpec("fluxerr_auto", "uJy", "1-sigma error of flux_auto"),
    ColumnSpec("mag_auto", "mag", "AB magnitude of flux_auto; NaN if the flux is not positive"),
    ColumnSpec("magerr_auto", "mag", "1-sigma error of mag_auto"),
    ColumnSpec("flux_iso", "uJy", "isophotal flux: sum over the source's segment"),
    ColumnSpec("fluxerr_iso", "uJy", "1-sigma error of flux_iso"),
    ColumnSpec("flag", "", "SourceFlag bits of the detection, Kron aperture and half-light radius", "i4"),
    ColumnSpec(
        "mask_frac",
        "",
        "fraction of the largest circular aperture (or of the Kron ellipse, if larger) with null weight or off the "
        "image; neighbours not counted",
    ),
)

APERTURE_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("flux_aper_{i}", "uJy", "flux in the aperture of diameter ASEC_{i} arcsec"),
    ColumnSpec("fluxerr_aper_{i}", "uJy", "1-sigma error of flux_aper_{i}"),
    ColumnSpec("depth5_{i}", "mag", "5-sigma AB depth of that aperture on empty sky at this position"),
    ColumnSpec("flag_aper_{i}", "", "SourceFlag bits of the aperture of diameter ASEC_{i} arcsec", "i4"),
)

SKY_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("bkg_aper_{i}", "uJy", "sky subtracted in the aperture of diameter ASEC_{i} arcsec"),
)
"""Columns of each aperture where a sky is taken off before the photometry."""

CONTAMINATION_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("contam_{i}", "", "neighbours' light subtracted in that aperture, as a fraction of flux_aper_{i}"),
)
"""Columns of each aperture where the light of neighbours is subtracted."""

DETAIL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("thresh", "uJy", "detection threshold per pixel of the smoothed image at the source"),
    ColumnSpec("tnpix", "", "number of pixels above the threshold in the unsmoothed image", "i8"),
    *(
        ColumnSpec(f"{axis}{end}", "", f"{what} {axis} of the source's pixels, 0-based", "i8")
        for axis in "xy"
        for end, what in (("min", "smallest"), ("max", "largest"))
    ),
    *(ColumnSpec(name, "pix2", "variance of the barycentre from photon noise") for name in ("errx2", "erry2")),
    ColumnSpec("errxy", "pix2", "covariance of the barycentre from photon noise"),
    *(
        ColumnSpec(before + name, "uJy", f"{what} in the {image} image")
        for name, what in (("flux", "sum of the source's pixels"), ("peak", "brightest pixel"))
        for before, image in (("c", "smoothed"), ("", "unsmoothed"))
    ),
    *(
        ColumnSpec(f"{axis}{before}peak", "", f"{axis} of the brightest pixel in the {image} image, 0-based", "i8")
        for before, image in (("c", "smoothed"), ("", "unsmoothed"))
        for axis in "xy"
    ),
)
"""What sep tells of a detection, on request, by its names."""

KRON_DETAIL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("kron_rcirc", "arcsec", "kron_radius x sqrt(a b): radius of the circle of equal area"),
    ColumnSpec("bkg_auto", "uJy", "sky subtracted in the Kron aperture"),
    ColumnSpec("flag_auto", "", "SourceFlag bits of the Kron aperture alone", "i4"),
    ColumnSpec("flux_radius_flag", "", "SourceFlag bits of the circle used to find the flux radii", "i4"),
    ColumnSpec("flux_radius_20", "arcsec", "radius of the circle with 20 % of flux_auto"),
    ColumnSpec("flux_radius_90", "arcsec", "radius of the circle with 90 % of flux_auto"),
)
"""What is told of the Kron aperture, on request."""

MASK_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("mask_aper_{i}", "", "number of pixels without data in the aperture of diameter ASEC_{i} arcsec"),
)
"""Columns of each aperture on request."""

POSITION_COLUMNS: tuple[ColumnSpec, ...] = tuple(
    ColumnSpec(f"{axis}_iso", "pix", "barycentre of the source's pixels, 0-based") for axis in "xy"
)
"""Columns where x and y are windowed positions."""

GROWTH_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec(
        "flux_total",
        "uJy",
        "total flux: flux_auto plus the light beyond its aperture, from the source's curve of growth seen through the "
        "PSF; NaN below S/N 5, and where it would reach twice flux_auto",
    ),
    ColumnSpec("fluxerr_total", "uJy", "1-sigma error of flux_total, including that of the light beyond the aperture"),
)
"""Columns where there is a PSF."""

TOTAL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("corr_{i}", "uJy", "flux_aper_{i} x (flux_auto/flux_aper_{i} in the detection image)"),
    ColumnSpec("ecorr_{i}", "uJy", "1-sigma error of corr_{i}; the ratio is taken as exact"),
    ColumnSpec(
        "tot_{i}",
        "uJy",
        "total flux: corr_{i} / fraction of the PSF's light in the Kron aperture; corr_{i} without a PSF",
    ),
    ColumnSpec("etot_{i}", "uJy", "1-sigma error of tot_{i}; ratio and fraction are taken as exact"),
)
"""Columns of each aperture where a detection image says how much light is outside of it."""

MATCH_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("match_aper_{i}", "uJy", "flux in the aperture of diameter ASEC_{i} arcsec, on the PSF-matched image"),
    ColumnSpec("match_err_{i}", "uJy", "1-sigma error of match_aper_{i}"),
    ColumnSpec("match_flag_{i}", "", "SourceFlag bits of that aperture on that image", "i4"),
)
"""Columns of each aperture where bands are brought to one PSF."""

MATCHED_TOTAL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec(
        "total_{i}",
        "uJy",
        "total flux: match_aper_{i} x (flux_auto/match_aper_{i} in the detection band) / fraction of that band's PSF "
        "in the Kron aperture",
    ),
    ColumnSpec("total_err_{i}", "uJy", "1-sigma error of total_{i}; ratio and fraction are taken as exact"),
)
"""Columns of each aperture where bands are brought to one PSF, and a band tells how much light is outside of it."""

EPOCH_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("n_exp", "", "number of exposures that cover the source", "i8"),
    ColumnSpec("exptime", "s", "total exposure time; 0 if not covered"),
    ColumnSpec("mjd_mean", "d", "mean mid-exposure time, weighted by exposure time, MJD (UTC)"),
    ColumnSpec("mjd_min", "d", "earliest start of an exposure, MJD (UTC)"),
    ColumnSpec("mjd_max", "d", "latest end of an exposure, MJD (UTC)"),
    ColumnSpec("n_visit", "", "number of visits among the exposures", "i8"),
)

EPOCH_DETAIL_COLUMNS: dict[str, tuple[ColumnSpec, ...]] = {
    "visits": (
        ColumnSpec("visits", "", "visit names in time order, separated by spaces", "U"),
        ColumnSpec("visit_mjd", "", "per visit: mean mid-exposure time, weighted by exposure time, MJD (UTC)", "O"),
        ColumnSpec("visit_exptime", "", "per visit: total exposure time, s", "O"),
    ),
    "angles": (
        ColumnSpec(
            "visit_pa", "", "per visit: mean position angle of the detector's y axis at the source, deg E of N", "O"
        ),
    ),
    "detectors": (ColumnSpec("detectors", "", "detectors that observed the source, separated by spaces", "U"),),
    "programs": (ColumnSpec("programs", "", "programs that observed the source, separated by spaces", "U"),),
    "gap": (ColumnSpec("gap_max", "d", "longest gap between exposures, from the first to the last"),),
    "barycentric": (
        ColumnSpec("bmjd_mean", "d", "mean mid-exposure time at the Solar System barycentre, MJD (TDB)"),
        ColumnSpec("visit_bmjd", "", "per visit: mean mid-exposure time at that barycentre, MJD (TDB)", "O"),
    ),
    "edge": (ColumnSpec("edge_dist", "arcsec", "distance to the nearest edge of a detector that observed the source"),),
}
"""Columns of epochs on request, by the name of their group in `dja_photplug.options.stages.EPOCH_DETAILS`.

Those of type O hold an array for each source; neither FITS nor ECSV keeps a unit on them that `QTable` can read.
"""


def describe_apertures(numbers: Iterable[int], specs: Sequence[ColumnSpec] = APERTURE_COLUMNS) -> list[ColumnSpec]:
    """Return the columns of the apertures with these numbers.

    Parameters
    ----------
    numbers : iterable of int
        From 0, in the order of ``MeasureOptions.apertures``.
    specs : sequence of ColumnSpec, optional
        Columns of one aperture, with ``{i}`` for its number.

    Returns
    -------
    list of ColumnSpec
        Those of the first aperture, then those of the next.

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


def describe_removed(numbers: Iterable[int], *, sky: bool, neighbours: bool) -> list[ColumnSpec]:
    """Return the columns that say what was taken off in the apertures with these numbers.

    Parameters
    ----------
    numbers : iterable of int
    sky, neighbours : bool
        Whether a sky, and the light of neighbours, is taken off.

    Returns
    -------
    list of ColumnSpec

    Examples
    --------
    >>> [spec.name for spec in describe_removed([1], sky=True, neighbours=True)]
    ['bkg_aper_1', 'contam_1']
    """
    return describe_apertures(numbers, SKY_COLUMNS * sky + CONTAMINATION_COLUMNS * neighbours)


def describe_columns(n_apertures: int, *, epochs: bool = False) -> tuple[ColumnSpec, ...]:
    """Return the columns of a catalogue of one band in their order.

    Parameters
    ----------
    n_apertures : int
        Number of circular apertures.
    epochs : bool, optional
        With :data:`EPOCH_COLUMNS` at the end.

    Returns
    -------
    tuple of ColumnSpec

    Examples
    --------
    >>> [spec.name for spec in describe_columns(1)[-3:]]
    ['fluxerr_aper_0', 'depth5_0', 'flag_aper_0']
    """
    return (*COLUMNS, *describe_apertures(range(n_apertures)), *(EPOCH_COLUMNS if epochs else ()))


def epoch_columns(details: Sequence[str] = ()) -> tuple[ColumnSpec, ...]:
    """Return the columns of the epochs of one band.

    Parameters
    ----------
    details : sequence of str, optional
        Groups of :data:`EPOCH_DETAIL_COLUMNS` whose columns follow, in this order.

    Returns
    -------
    tuple of ColumnSpec

    Examples
    --------
    >>> [spec.name for spec in epoch_columns(("gap", "edge"))[-2:]]
    ['gap_max', 'edge_dist']
    """
    return EPOCH_COLUMNS + tuple(spec for group in details for spec in EPOCH_DETAIL_COLUMNS[group])


def array_columns(names: Iterable[str], details: Sequence[str] = ()) -> dict[str, bool]:
    """Return which of a catalogue's new columns hold an array for each source.

    Parameters
    ----------
    names : iterable of str
        With the band, or other text, before the name that :func:`epoch_columns` gives.
    details : sequence of str, optional
        As for :func:`epoch_columns`.

    Returns
    -------
    dict of str to bool

    Examples
    --------
    >>> array_columns(["f444w_n_exp", "f444w_visit_mjd"], ["visits"])
    {'f444w_n_exp': False, 'f444w_visit_mjd': True}
    """
    arrays = tuple(spec.name for spec in epoch_columns(details) if spec.dtype == "O")
    return {name: bool(arrays) and name.endswith(arrays) for name in names}


def dress_table(columns: Mapping[str, ArrayLike], specs: Sequence[ColumnSpec]) -> QTable:
    """Return a table of plain columns with the order, type, unit and description of `specs`.

    Parameters
    ----------
    columns : mapping of str to array or `~astropy.units.Quantity`
        Plain arrays are in the unit of their `ColumnSpec`.
    specs : sequence of ColumnSpec
        As from :func:`describe_columns`, or :data:`EPOCH_COLUMNS` alone.

    Returns
    -------
    `~astropy.table.QTable`
        With as many rows as the columns have values.

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
        if spec.ucd:
            table[spec.name].info.meta = {"ucd": spec.ucd}
    return table
