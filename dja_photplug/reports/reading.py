"""What a catalogue says of its sources and bands, as plain numbers: the data of its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.columns import column_values
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.catalog.metadata import read_bands
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import decode_text
from dja_photplug.foreign.columns import CatalogColumns, read_flux, read_ids, read_position, tells_flux
from dja_photplug.foreign.known import is_ours
from dja_photplug.units import flux_of, magnitude

__all__ = ["BandData", "Contents", "Epochs", "read_contents"]

Floats = NDArray[np.float64]
Meta = Mapping[str, object]

# What stands for the light of a source in its spectrum, the first that every band has; flux, error, and in words.
_SPECTRA = (
    ("total_{i}", "total_err_{i}", "total flux at one PSF"),
    ("tot_{i}", "etot_{i}", "aperture flux, corrected to the total"),
    ("flux_auto", "fluxerr_auto", "flux in the Kron aperture"),
)
_REFERENCE = 1  # the aperture of spectra, errors and depths: 0.5 arcsec by default


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Epochs:
    """When exposures saw the sources in one band.

    Attributes
    ----------
    n_exp, exptime, n_visit : ndarray
        Numbers of exposures and visits, and seconds, (n,).
    first, mean, last : ndarray
        MJD (UTC), (n,); NaN where there are none.
    """

    n_exp: Floats
    exptime: Floats
    n_visit: Floats
    first: Floats
    mean: Floats
    last: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandData:
    """What was measured in one band.

    Attributes
    ----------
    name : str
        As in the names of columns; empty for the only band of a catalogue that names none.
    flux, error : ndarray
        For the spectrum, uJy, (n,).
    aperture_flux, aperture_error : ndarray
        In circles, uJy, (k, n).
    empty_error : ndarray
        Errors of these circles on empty sky, that is without the source's photons, uJy, (k, n).
    share : ndarray
        Light of neighbours that was taken off, as a fraction of the flux, (k, n).
    flag : ndarray of int64
        Bits of SourceFlag, (n,).
    epochs : Epochs or None
    meta : mapping
        What the catalogue says of the band.
    calibration : NoiseCalibration or None
    """

    name: str
    flux: Floats
    error: Floats
    aperture_flux: Floats
    aperture_error: Floats
    empty_error: Floats
    share: Floats
    flag: NDArray[np.int64]
    epochs: Epochs | None
    meta: Meta
    calibration: NoiseCalibration | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents:
    """A catalogue as its report shows it.

    Attributes
    ----------
    ids : ndarray of int64
        (n,).
    ra, dec : ndarray
        deg, (n,).
    flux, error, mag : ndarray
        Of the detection image in the Kron aperture, uJy and AB, (n,).
    radius : ndarray
        Of the circle that holds half of it, arcsec, (n,).
    major, minor, theta : ndarray
        Kron aperture: semi-axes in arcsec, angle of the major axis from +x in deg, (n,).
    flag : ndarray of int64
        Bits of SourceFlag, (n,).
    bands : tuple of BandData
    diameters : ndarray
        Of the circles, arcsec, (k,).
    spectrum : str
        What `BandData.flux` is, in words.
    reference : int
        Number of the circle that stands for all.
    meta : mapping
        Of the catalogue.
    notes : tuple of str
        What is not there, and why.
    """

    ids: NDArray[np.int64]
    ra: Floats
    dec: Floats
    flux: Floats
    error: Floats
    mag: Floats
    radius: Floats
    major: Floats
    minor: Floats
    theta: Floats
    flag: NDArray[np.int64]
    bands: tuple[BandData, ...]
    diameters: Floats
    spectrum: str
    reference: int
    meta: Meta
    notes: tuple[str, ...] = ()


def read_contents(table: Table, columns: CatalogColumns) -> Contents:
    """Return what a catalogue says of its sources.

    Parameters
    ----------
    table : `~astropy.table.Table`
    columns : CatalogColumns
        What its columns are.

    Returns
    -------
    Contents

    Raises
    ------
    PhotplugError
        Where it has no rows or no positions, or a column cannot be converted.
    """
    if not len(table):
        raise PhotplugError("the catalogue has no sources, so there is nothing to report")
    if is_ours(columns.schema):
        return _read_own(table, columns)
    notes = [f"read as {columns.schema.name}, not as a catalogue of this package: positions and one flux alone"]
    flux, error = (
        _nothing(table) if name is None else read_flux(table, name, columns)
        for name in (columns.auto, columns.auto_error)
    )
    told = columns.auto is not None and tells_flux(table, columns.auto, columns)
    if columns.auto is None:
        notes.append("no column of fluxes is known, so there are neither magnitudes nor counts")
    elif not told:
        notes.append(
            f"{columns.auto} has no unit, and catalogues of {columns.schema.name} have none of their own, so there are "
            "neither magnitudes nor counts; give the column its unit, such as 10 nJy"
        )
    radius, known = np.full(len(table), 0.5), _read_positions(table, columns)
    return replace(
        known,
        flux=flux,
        error=error,
        mag=magnitude(flux, error)[0] if told else _nothing(table),
        major=radius,
        minor=radius,
        notes=(*notes, *known.notes),
    )


def _nothing(table: Table) -> Floats:
    return np.full(len(table), np.nan)


def _read_positions(table: Table, columns: CatalogColumns) -> Contents:
    """Return the contents of a catalogue of which positions and numbers alone are known."""
    position, nothing, notes = read_position(table, columns).icrs, _nothing(table), tuple[str, ...]()
    try:
        ids = read_ids(table, columns)
    except PhotplugError as error:
        ids, notes = None, (f"{error}; here they are numbered from 1",)
    return Contents(
        ids=np.arange(1, len(table) + 1) if ids is None else ids,
        ra=position.ra.deg,
        dec=position.dec.deg,
        flux=nothing,
        error=nothing,
        mag=nothing,
        radius=nothing,
        major=nothing,
        minor=nothing,
        theta=np.zeros(len(table)),
        flag=np.zeros(len(table), np.int64),
        bands=(),
        diameters=np.array([]),
        spectrum="",
        reference=0,
        meta=table.meta,
        notes=notes,
    )


def _read_own(table: Table, columns: CatalogColumns) -> Contents:
    """Return the contents of a catalogue of ours, or of one with our columns."""
    meta, notes = {key: decode_text(value) for key, value in table.meta.items()}, []
    a, b, theta, kron, radius, flux, error = (
        _values(table, name, unit)
        for name, unit in (
            *(("a", "arcsec"), ("b", "arcsec"), ("theta", "deg"), ("kron_radius", ""), ("flux_radius", "arcsec")),
            *(("flux_auto", "uJy"), ("fluxerr_auto", "uJy")),
        )
    )
    numbers = [i for i in range(100) if f"ASEC_{i}" in meta]
    major, minor, angle, _ = kron_apertures(a, b, theta, kron, float(str(meta.get("KRONCIRC", 0.35))))
    described = read_bands(meta)
    if not described:
        notes.append("its metadata name no bands and no mosaics: no a(r) and provenance")
    reference = min(_REFERENCE, max(len(numbers) - 1, 0))
    spectrum, words = _choose_spectrum(table, list(described), reference)
    known = _read_positions(table, columns)
    return replace(
        known,
        flux=flux,
        error=error,
        mag=magnitude(flux, error)[0],
        radius=radius,
        major=major,
        minor=minor,
        theta=angle,
        flag=_integers(table, "flag"),
        bands=tuple(_read_band(table, name, one, numbers, spectrum) for name, one in described.items()),
        diameters=np.array([float(str(meta[f"ASEC_{i}"])) for i in numbers]),
        spectrum=words,
        reference=reference,
        meta=meta,
        notes=(*notes, *known.notes),
    )


def _choose_spectrum(table: Table, bands: list[str], reference: int) -> tuple[tuple[str, str], str]:
    """Return the columns, without their band, that spectra are drawn from, and what they are."""
    for flux, error, words in _SPECTRA:
        names = flux.format(i=reference), error.format(i=reference)
        if all(_prefix(band) + name in table.colnames for band in bands for name in names):
            return names, words
    return ("flux_auto", "fluxerr_auto"), _SPECTRA[-1][2]


def _prefix(band: str) -> str:
    return f"{band}_" if band else ""


def _values(table: Table, name: str, unit: str = "") -> Floats:
    """Return the numbers of a column, NaN where it is not there."""
    return column_values(table, name, unit) if name in table.colnames else _nothing(table)


def _integers(table: Table, name: str) -> NDArray[np.int64]:
    return np.nan_to_num(_values(table, name)).astype(np.int64)


def _read_band(table: Table, name: str, meta: Meta, numbers: list[int], spectrum: tuple[str, str]) -> BandData:
    """Return what was measured in one band."""
    before = _prefix(name)

    def circles(column: str, unit: str = "") -> Floats:
        rows = [_values(table, f"{before}{column}_{i}", unit) for i in numbers]
        return np.array(rows).reshape(len(numbers), len(table))

    flux, error = (_values(table, before + column, "uJy") for column in spectrum)
    times = {each: _values(table, f"{before}mjd_{each}", "d") for each in ("min", "mean", "max")}
    epochs = Epochs(
        n_exp=_values(table, f"{before}n_exp"),
        exptime=_values(table, f"{before}exptime", "s"),
        n_visit=_values(table, f"{before}n_visit"),
        first=times["min"],
        mean=times["mean"],
        last=times["max"],
    )
    return BandData(
        name=name,
        flux=flux,
        error=error,
        aperture_flux=circles("flux_aper", "uJy"),
        aperture_error=circles("fluxerr_aper", "uJy"),
        # The 5-sigma limit on empty sky is 5 times the error that has no photons of the source.
        empty_error=flux_of(circles("depth5", "mag")) / 5,
        share=circles("contam"),
        flag=_integers(table, f"{before}flag"),
        epochs=epochs if np.isfinite(times["mean"]).any() else None,
        meta=meta,
        calibration=NoiseCalibration.from_metadata(meta),
    )
