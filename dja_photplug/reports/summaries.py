"""What a report says of the whole field: counts, depths, a(r), completeness, and where all of it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.columns import column_values
from dja_photplug.errors import PhotplugError
from dja_photplug.figures.panels.pixels import block_mean
from dja_photplug.reports.mosaics import BandMosaic
from dja_photplug.reports.reading import BandData, Contents
from dja_photplug.units import MOSAIC_ZERO_POINT, magnitude_of

__all__ = ["Counts", "count_sources", "describe_origin", "list_zones", "map_depth", "read_completeness"]

Floats = NDArray[np.float64]

COUNT_BIN = 0.5  # mag
MAP_SIDE = 160  # cells along the longer side of a map of depth

# What is told of a band's origin, in this order, and in words.
_CARDS = {
    "INPUT": "mosaic",
    "NOISE": "noise preset",
    "VARFILE": "variance of",
    "DETGAIN": "detector gain (e-/DN)",
    "GAINFROM": "gain from",
    "PHOTSCLE": "DN/s per 10 nJy",
    "GROWTH": "exposure map",
    "EXPFROM": "exposure time from",
    "EPOCHS": "WCS log",
    "PSF": "PSF",
    "PSFSCALE": "PSF pixels (arcsec)",
    "NPSF": "PSF regions",
    "MATCH": "brought to the PSF of",
    "MATCHREG": "regularisation of the kernel",
    "NFILLED": "pixels with a filled exposure time",
    "NNULL": "pixels without exposure time",
    "PROFERR": "error of neighbours' profiles",
    "AR_NOTE": "a(r)",
    "MATCH_AR_NOTE": "a(r) at the common PSF",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Sources by magnitude.

    Attributes
    ----------
    edges : ndarray
        Lower ones of the bins, AB, (n,).
    number : ndarray of int64
        Of sources, (n,).
    density, error : ndarray
        In a square arcmin and magnitude, (n,).
    area : float
        Square arcmin.
    """

    edges: Floats
    number: NDArray[np.int64]
    density: Floats
    error: Floats
    area: float


def count_sources(mag: Floats, area: float) -> Counts | None:
    """Return number counts.

    Parameters
    ----------
    mag : ndarray, shape (n,)
        AB, NaN where there is none.
    area : float
        Of the field, square arcmin.

    Returns
    -------
    Counts or None
        In bins of half a magnitude, errors as of Poisson counts; None without magnitudes or area.

    Examples
    --------
    >>> count_sources(np.array([24.1, 24.2, 25.3]), 2.0).density.tolist()
    [2.0, 0.0, 1.0]
    """
    mag = mag[np.isfinite(mag)]
    if not mag.size or area <= 0:
        return None
    low = np.floor(mag.min() / COUNT_BIN) * COUNT_BIN
    edges = np.arange(low, mag.max() + COUNT_BIN, COUNT_BIN)
    edges = edges if len(edges) > 1 else np.array([low, low + COUNT_BIN])
    number = np.histogram(mag, edges)[0]
    unit = area * COUNT_BIN
    return Counts(edges=edges[:-1], number=number, density=number / unit, error=np.sqrt(number) / unit, area=area)


def map_depth(
    weight: NDArray[np.float32], mosaic: BandMosaic, calibration: NoiseCalibration | None, diameter: float
) -> NDArray[np.float32]:
    """Return the depth of a mosaic.

    Parameters
    ----------
    weight : ndarray, shape (ny, nx)
        Background weight of the part that is shown, (10 nJy)^-2.
    mosaic : BandMosaic
    calibration : NoiseCalibration or None
        a(r); 1 without it.
    diameter : float
        Of the circle, arcsec.

    Returns
    -------
    ndarray
        5-sigma AB limit of the circle on empty sky in cells of the mosaic, NaN where there are no data.
    """
    mean = block_mean(weight, -(-max(weight.shape) // MAP_SIDE))
    with np.errstate(divide="ignore"):
        variance = np.where(mean > 0, 1 / mean, np.nan)
    radius = diameter / 2
    number = np.pi * (radius / mosaic.scale) ** 2
    factor = np.ones_like(mean) if calibration is None else calibration(np.full(mean.shape, radius), variance)
    depth = magnitude_of(5 * factor * np.sqrt(number * variance), MOSAIC_ZERO_POINT)
    return depth.astype(np.float32)


def list_zones(calibration: NoiseCalibration) -> Iterator[tuple[Floats, Floats, Floats, NDArray[np.bool_]]]:
    """Yield a(r) of each depth zone, the deepest first.

    Parameters
    ----------
    calibration : NoiseCalibration

    Yields
    ------
    radius, factor, error, measured : ndarray
        Arcsec, a(r), its sampling error, and whether it was measured there, (n,) each.
    """
    for zone, number in enumerate(calibration.n_effective):
        yield calibration.radius, calibration.factor[zone], calibration.measured_error[zone], number > 0


def read_completeness(table: Table, name: str) -> dict[str, Floats]:
    """Return the completeness in bins of magnitude, as the command ``inject`` writes it.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
        Of its file, for messages.

    Returns
    -------
    dict
        ``mag completeness error n``, (m,) each.

    Raises
    ------
    PhotplugError
        Where it has no such columns.
    """
    wanted = {"mag": "mag", "completeness": "completeness", "error": "completeness_err", "n": "n"}
    missing = [column for column in wanted.values() if column not in table.colnames]
    if missing:
        raise PhotplugError(f"{name}: has no column {missing[0]}; give the table that `inject -o` wrote")
    return {key: column_values(table, column) for key, column in wanted.items()}


def describe_origin(
    contents: Contents, mosaics: Mapping[str, BandMosaic], inputs: Mapping[str, str]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return where everything comes from.

    Parameters
    ----------
    contents : Contents
    mosaics : mapping of str to BandMosaic
        By band.
    inputs : mapping of str to str
        Files that the report was made from, by what they are.

    Returns
    -------
    list of tuple
        A heading, and its rows of name and value: of the report, the catalogue, its options, and each band.
    """
    meta = contents.meta
    catalogue = [("catalogue", inputs["catalogue"])] if "catalogue" in inputs else []
    catalogue.append(("sources", str(len(contents.ids))))
    catalogue += [
        (words, str(meta[key]))
        for key, words in {"DETECT": "detected on", "INPUT": "detection image", "ENGINE": "engine"}.items()
        if key in meta
    ]
    catalogue += [(what, text) for what, text in inputs.items() if what != "catalogue"]
    if "VERSIONS" in meta:
        catalogue += [("versions", text) for _, text in _read_json(str(meta["VERSIONS"]))]
    options = _read_json(str(meta["OPTIONS"])) if "OPTIONS" in meta else []
    bands = [(_title(band, mosaics), list(_describe_band(band, mosaics.get(band.name)))) for band in contents.bands]
    return [("Catalogue", catalogue), *([("Options", options)] if options else []), *bands]


def _title(band: BandData, mosaics: Mapping[str, BandMosaic]) -> str:
    return band.name or (mosaics[""].label if "" in mosaics else "Band")


def _describe_band(band: BandData, mosaic: BandMosaic | None) -> Iterator[tuple[str, str]]:
    for key, words in _CARDS.items():
        if key in band.meta:
            value = band.meta[key]
            yield words, f"{value:.6g}" if isinstance(value, float) else str(value)
    yield "pixels here", "not found" if mosaic is None else str(mosaic.source)


def _read_json(text: str) -> list[tuple[str, str]]:
    """Return the tables of JSON text by name, each as ``name value`` in one line; what is in none comes first."""
    try:
        values = json.loads(text)
    except ValueError:
        return [("", text)]
    tables = {"": {key: value for key, value in values.items() if not isinstance(value, dict)}}
    tables |= {key: value for key, value in values.items() if isinstance(value, dict)}
    return [
        (name, "; ".join(f"{key} {one if isinstance(one, str) else json.dumps(one)}" for key, one in table.items()))
        for name, table in tables.items()
        if table
    ]
