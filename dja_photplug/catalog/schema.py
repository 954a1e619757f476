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
    ColumnSpec("id", "", "source number, its label in the segmentation image, from 1", "i8"),
    ColumnSpec("ra", "deg", "right ascension, ICRS"),
    ColumnSpec("dec", "deg", "declination, ICRS"),
    ColumnSpec("x", "pix", "windowed position or barycentre, 0-based: the centre of the first pixel is 0"),
    ColumnSpec("y", "pix", "windowed position or barycentre, 0-based: the centre of the first pixel is 0"),
    ColumnSpec("a", "arcsec", "rms of the light along the major axis"),
    ColumnSpec("b", "arcsec", "rms of the light along the minor axis"),
    ColumnSpec("theta", "deg", "angle of the major axis, counter-clockwise from +x of the mosaic, -90 to 90"),
    ColumnSpec("npix", "", "number of pixels of the source in the segmentation image", "i8"),
    ColumnSpec(
        "snr_detect",
        "",
        "highest pixel of the source in the smoothed detection image, over the scatter of the smoothed sky at its "
        "depth; NaN where too little sky is left to measure it",
    ),
    ColumnSpec(
        "kron_radius",
        "",
        "Kron ellipse in units of a and b: kron_factor x the Kron radius, clipped to [kron_min, kron_max]; "
        "not used where the flag KRON_CIRCLE is set",
    ),
    ColumnSpec("flux_radius", "arcsec", "radius of the circle that holds half of flux_auto"),
    ColumnSpec(
        "flux_auto",
        "uJy",
        "flux in the Kron ellipse, or in the circle of kron_circle where that is larger: not the total, of which it "
        "is 70 to 90 %",
    ),
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

SKY_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("bkg_aper_{i}", "uJy", "sky that was taken off in the circle of diameter ASEC_{i} arcsec"),
)
"""Columns of each aperture where a sky is taken off before the photometry."""

CONTAMINATION_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("contam_{i}", "", "neighbours' light that was taken off in that circle, as a fraction of flux_aper_{i}"),
)
"""Columns of each aperture where the light of neighbours is subtracted."""

DETAIL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("thresh", "uJy", "threshold of the smoothed image at the source, of a pixel"),
    ColumnSpec("tnpix", "", "number of pixels above the threshold in the image as it is", "i8"),
    *(
        ColumnSpec(f"{axis}{end}", "", f"{what} {axis} of the source's pixels, 0-based", "i8")
        for axis in "xy"
        for end, what in (("min", "smallest"), ("max", "largest"))
    ),
    *(ColumnSpec(name, "pix2", "variance of the barycentre by photon noise") for name in ("errx2", "erry2")),
    ColumnSpec("errxy", "pix2", "covariance of the barycentre by photon noise"),
    *(
        ColumnSpec(before + name, "uJy", f"{what} of the {image} image")
        for name, what in (("flux", "sum of the source's pixels"), ("peak", "brightest pixel"))
        for before, image in (("c", "smoothed"), ("", "unsmoothed"))
    ),
    *(
        ColumnSpec(f"{axis}{before}peak", "", f"brightest pixel of the {image} image, 0-based", "i8")
        for before, image in (("c", "smoothed"), ("", "unsmoothed"))
        for axis in "xy"
    ),
)
"""What sep tells of a detection, on request, by its names."""

KRON_DETAIL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("kron_rcirc", "arcsec", "kron_radius times the root of a b: the circle of its area"),
    ColumnSpec("bkg_auto", "uJy", "sky that was taken off in the Kron aperture"),
    ColumnSpec("flag_auto", "", "bits of SourceFlag of the Kron aperture alone", "i4"),
    ColumnSpec("flux_radius_flag", "", "bits of SourceFlag of the circle in which flux radii are looked for", "i4"),
    ColumnSpec("flux_radius_20", "arcsec", "radius of the circle that holds 20 % of flux_auto"),
    ColumnSpec("flux_radius_90", "arcsec", "radius of the circle that holds 90 % of flux_auto"),
)
"""What is told of the Kron aperture, on request."""

MASK_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("mask_aper_{i}", "", "pixels without data in the circle of diameter ASEC_{i} arcsec"),
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
        "flux_auto and the light beyond that aperture, by the curve of growth of the source as the PSF shows it; NaN "
        "below a signal to noise of 5, and where it would be twice flux_auto or more",
    ),
    ColumnSpec("fluxerr_total", "uJy", "1-sigma error of flux_total, with that of the light beyond the aperture"),
)
"""Columns where there is a PSF."""

TOTAL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("corr_{i}", "uJy", "flux_aper_{i} times flux_auto/flux_aper_{i} of the detection image"),
    ColumnSpec("ecorr_{i}", "uJy", "1-sigma error of corr_{i}; the ratio counts as exact"),
    ColumnSpec(
        "tot_{i}", "uJy", "corr_{i} over the share of the PSF's light in the Kron aperture; corr_{i} without a PSF"
    ),
    ColumnSpec("etot_{i}", "uJy", "1-sigma error of tot_{i}; ratio and share count as exact"),
)
"""Columns of each aperture where a detection image says how much light is outside of it."""

MATCH_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec(
        "match_aper_{i}", "uJy", "flux in the circle of diameter ASEC_{i} arcsec, of the image at the PSF of all bands"
    ),
    ColumnSpec("match_err_{i}", "uJy", "1-sigma error of match_aper_{i}"),
    ColumnSpec("match_flag_{i}", "", "bits of SourceFlag of that circle on that image", "i4"),
)
"""Columns of each aperture where bands are brought to one PSF."""

MATCHED_TOTAL_COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec(
        "total_{i}",
        "uJy",
        "match_aper_{i} times flux_auto/match_aper_{i} of the detection band, over the share of that band's PSF in the "
        "Kron aperture",
    ),
    ColumnSpec("total_err_{i}", "uJy", "1-sigma error of total_{i}; ratio and share count as exact"),
)
"""Columns of each aperture where bands are brought to one PSF, and a band tells how much light is outside of it."""

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
