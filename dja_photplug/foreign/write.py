"""Our catalogues in the words of others: the archive's `_phot_apcorr.fits`, and SExtractor's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from astropy.table import Column, QTable, Table
from numpy.typing import NDArray

from dja_photplug.catalog.columns import column_values
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.errors import PhotplugError
from dja_photplug.files.tables import write_catalog
from dja_photplug.foreign.columns import read_places, read_position, resolve_columns
from dja_photplug.foreign.grids import find_scale, fit_grid, north_angles
from dja_photplug.foreign.known import OURS
from dja_photplug.outputs.whole import whole_file
from dja_photplug.units import MOSAIC_ZERO_POINT

__all__ = ["WRITTEN_SCHEMAS", "dress_as", "format_sextractor", "write_as"]

Floats = NDArray[np.float64]
Described = tuple[NDArray[np.generic] | None, str, str]
"""Values, unit and description of a column; no values where there is none."""

MASKED = 0.2
"""Area fraction without data above which the archive counts a flux as not measured (its code's ``mask_thresh``)."""
NOT_MEASURED = -99.0

# Bits of SExtractor's FLAGS for ours: a neighbour in the aperture, deblended, saturated, at the edge, aperture cut.
_SEXTRACTOR_FLAGS = {
    SourceFlag.NEIGHBOUR | SourceFlag.APER_MASKED: 1,
    SourceFlag.DEBLENDED: 2,
    SourceFlag.SATURATED_CORE: 4,
    SourceFlag.TRUNCATED: 8,
    SourceFlag.APER_TRUNCATED: 16,
    SourceFlag.DEBLEND_OVERFLOW: 64,
}


def dress_as(catalog: QTable, schema: str) -> QTable:
    """Return one of our catalogues with the names, units and conventions of others.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        As `catalog` makes it, of one band or of several.
    schema : str
        One of :data:`WRITTEN_SCHEMAS`; ``photplug`` for ours, which stays as it is.

    Returns
    -------
    `~astropy.table.QTable`
        The same rows. What was not measured has no column: none is made up.

    Raises
    ------
    PhotplugError
        Where sizes cannot be said in pixels, because positions and pixels do not tell their scale.
    """
    return WRITTEN_SCHEMAS[schema](catalog)


def write_as(catalog: QTable, path: Path, schema: str, *, overwrite: bool = False) -> Path:
    """Write one of our catalogues with the names, units and conventions of others, whole or not at all.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
    path : Path
        As for `dja_photplug.files.tables.write_catalog`; with the schema ``sextractor`` also ``.cat``, its ASCII_HEAD.
    schema : str
        As for :func:`dress_as`.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        As :func:`dress_as` and `dja_photplug.files.tables.write_catalog`.
    """
    dressed = dress_as(catalog, schema)
    if schema != "sextractor" or path.suffix.lower() != ".cat":
        return write_catalog(dressed, path, overwrite=overwrite)
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(format_sextractor(dressed), encoding="ascii")
    return path


class _Ours:
    """Plain columns of one of our catalogues, and what its pixels are."""

    def __init__(self, catalog: QTable) -> None:
        columns = resolve_columns(catalog, OURS)
        missing = [name for name in ("id", "ra", "dec", "x", "y", "a", "b", "theta") if name not in catalog.colnames]
        if missing:
            raise PhotplugError(f"option schema: the catalogue has no {', '.join(missing)}; write it as photplug")
        position, places = read_position(catalog, columns), read_places(catalog, columns)
        scale = find_scale(catalog, OURS, position, places)
        grid = fit_grid(places, position)
        if scale is None or grid is None:
            raise PhotplugError(
                f"option schema: the scale of a pixel is not known from the {len(catalog)} positions, and sizes are "
                "wanted in pixels; write it as photplug"
            )
        self.catalog, self.scale, self.position = catalog, scale, position
        self.grid = grid
        ending = "_flag_aper_0"
        self.bands = sorted(name.removesuffix(ending) for name in catalog.colnames if name.endswith(ending))
        self.numbers = [i for i in range(100) if f"flux_aper_{i}" in catalog.colnames]

    def get(self, name: str, unit: str = "") -> Floats | None:
        """Return a column in a unit; None where there is none."""
        return column_values(self.catalog, name, unit) if name in self.catalog.colnames else None

    def need(self, name: str, unit: str = "") -> Floats:
        return column_values(self.catalog, name, unit)

    def shapes(self, angle: str) -> tuple[Floats, Floats, Floats]:
        """Return a and b in pixels, and theta."""
        a, b = (self.need(name, "arcsec") / self.scale for name in "ab")
        return a, b, self.need("theta", angle)

    def bits(self, name: str, mask: int) -> NDArray[np.int64] | None:
        values = self.get(name)
        return None if values is None else np.nan_to_num(values).astype(np.int64) & mask


def _fill(columns: Mapping[str, Described], meta: Mapping[str, object]) -> QTable:
    """Return the table of those columns that there are: values, unit and description by name."""
    table = Table(meta=dict(meta))
    for name, (values, unit, description) in columns.items():
        if values is not None:
            table[name] = Column(values, unit=unit or None, description=description)
    return QTable(table)


def _to_dja(catalog: QTable) -> QTable:
    """Return the columns of ``_phot_apcorr.fits`` in their order."""
    ours = _Ours(catalog)
    a, b, theta = (
        ours.need("a", "arcsec") / ours.scale,
        ours.need("b", "arcsec") / ours.scale,
        ours.need("theta", "rad"),
    )
    x, y, ra, dec = (
        ours.need(name, unit) for name, unit in (("x", "pix"), ("y", "pix"), ("ra", "deg"), ("dec", "deg"))
    )
    kron, radius = ours.get("kron_radius"), ours.get("flux_radius", "arcsec")
    pixels = "of pixels, rms of the light"
    columns: dict[str, Described] = {
        "id": (np.asarray(catalog["id"]), "", "source number"),
        "npix": (ours.get("npix"), "", "pixels of the source"),
        "x": (x, "", "barycentre, 0-based"),
        "y": (y, "", "barycentre, 0-based"),
        "x2_image": ((a * np.cos(theta)) ** 2 + (b * np.sin(theta)) ** 2, "", "second moment"),
        "y2_image": ((a * np.sin(theta)) ** 2 + (b * np.cos(theta)) ** 2, "", "second moment"),
        "xy_image": ((a**2 - b**2) * np.sin(theta) * np.cos(theta), "", "second moment"),
        "a_image": (a, "", f"major axis, {pixels}"),
        "b_image": (b, "", f"minor axis, {pixels}"),
        "theta_image": (theta, "", "angle of the major axis from +x, radians"),
        "flag": (ours.bits("flag", 15), "", "flags of sep.extract"),
        "x_image": (x + 1, "", "barycentre, 1-based"),
        "y_image": (y + 1, "", "barycentre, 1-based"),
        "number": (np.asarray(catalog["id"]), "", "source number"),
        "ra": (ra, "deg", "right ascension"),
        "dec": (dec, "deg", "declination"),
        "x_world": (ra, "deg", "right ascension"),
        "y_world": (dec, "deg", "declination"),
        "flux_iso": (ours.get("flux_iso", "uJy"), "uJy", "isophotal flux"),
        "fluxerr_iso": (ours.get("fluxerr_iso", "uJy"), "uJy", "its error"),
        "area_iso": (ours.get("npix"), "", "pixels of the source"),
        "kron_radius": (kron, "", "scaled and clipped Kron radius in units of a_image and b_image"),
        "kron_rcirc": (None if kron is None else kron * np.sqrt(a * b), "", "its circle, pixels"),
        "flux_auto": (ours.get("flux_auto", "uJy"), "uJy", "flux in the Kron aperture"),
        "fluxerr_auto": (ours.get("fluxerr_auto", "uJy"), "uJy", "its error"),
        "flag_auto": (ours.bits("flag", 0xF0), "", "flags of the Kron aperture"),
        "flux_radius": (None if radius is None else radius / ours.scale, "", "half-light radius, pixels"),
        "mag_auto": (ours.get("mag_auto"), "mag", "AB magnitude of flux_auto"),
        "magerr_auto": (ours.get("magerr_auto"), "mag", "its error"),
    }
    for band in ("", *(f"{band}_" for band in ours.bands)):
        columns |= {name: column for i in ours.numbers for name, column in _dja_aperture(ours, band, i).items()}
    columns |= {name: column for i in ours.numbers for name, column in _dja_totals(ours, i).items()}
    known = ours.get("z_spec")
    columns["z_spec"] = (np.full(len(catalog), -1.0) if known is None else known, "", "redshift; -1 where unknown")
    # What eazy-py takes for the magnitude of its prior where there is no F160W: an error of 8 mag, so no weight.
    columns["dummy_err"] = (np.full(len(catalog), 10 ** (-0.4 * (8 - 23.9))), "", "error of dummy_flux")
    columns["dummy_flux"] = (ours.get("flux_auto", "uJy"), "uJy", "flux_auto, for the prior of eazy-py")
    return _fill(columns, _dja_meta(ours))


def _dja_aperture(ours: _Ours, band: str, i: int) -> dict[str, Described]:
    """Return the columns of an aperture, of the detection image or of a band."""
    inside = f"in the circle of ASEC_{i}"
    return {
        f"{band}flux_aper_{i}": (ours.get(f"{band}flux_aper_{i}", "uJy"), "uJy", f"flux {inside}"),
        f"{band}fluxerr_aper_{i}": (ours.get(f"{band}fluxerr_aper_{i}", "uJy"), "uJy", "its error"),
        f"{band}flag_aper_{i}": (ours.bits(f"{band}flag_aper_{i}", 0xF0), "", f"flags {inside}"),
        f"{band}bkg_aper_{i}": (ours.get(f"{band}bkg_aper_{i}", "uJy"), "uJy", f"sky taken off {inside}"),
    }


def _dja_totals(ours: _Ours, i: int) -> dict[str, Described]:
    """Return apcorr_i, and the total fluxes of all bands with -99 where they were not measured."""
    with np.errstate(divide="ignore", invalid="ignore"):
        apcorr = ours.need("flux_auto", "uJy") / ours.need(f"flux_aper_{i}", "uJy")
    columns: dict[str, Described] = {f"apcorr_{i}": (apcorr, "", f"flux_auto / flux_aper_{i}")}
    for band in ours.bands:
        masked = ours.get(f"{band}_mask_frac")
        for name in ("corr", "ecorr", "tot", "etot"):
            values = ours.get(f"{band}_{name}_{i}", "uJy")
            if values is not None:
                bad = ~np.isfinite(values) | (False if masked is None else ~(masked <= MASKED))
                described = f"{name} of {band}; -99 where not measured or {MASKED:.0%} masked"
                columns[f"{band}_{name}_{i}"] = (np.where(bad, NOT_MEASURED, values), "uJy", described)
    return columns


def _dja_meta(ours: _Ours) -> dict[str, object]:
    """Return the metadata by their names: apertures, Kron aperture, detection, and ours as far as they are others."""
    meta = dict(ours.catalog.meta)
    options = json.loads(str(meta.get("OPTIONS", "{}")))
    measure, detect = options.get("measure", {}), options.get("detect", {})
    theirs = {
        "MINAREA": detect.get("n_pixels"),
        "THRESHOLD": detect.get("n_sigma"),
        "DEBCONT": detect.get("contrast"),
        "DEBTHRSH": detect.get("n_levels"),
        "CLEAN": bool(detect.get("clean", 1)),
        "FILTER_TYPE": detect.get("filter_type"),
        "KRONFACT": measure.get("kron_factor"),
        "KRON0": measure.get("kron_min"),
        "KRON1": measure.get("kron_max"),
        "MINKRON": float(meta["KRONCIRC"]) / ours.scale if "KRONCIRC" in meta else None,
        "ZP": MOSAIC_ZERO_POINT,
        "RESCALEW": False,
        "TOTALCOL": "flux_auto",
        "EE_CORR": bool(options.get("bands", {}).get("psf")),
    }
    theirs |= {f"APER_{i}": float(meta[f"ASEC_{i}"]) / ours.scale for i in ours.numbers if f"ASEC_{i}" in meta}
    for band in ours.bands:
        theirs |= {f"{band.upper()}_ZP": MOSAIC_ZERO_POINT, f"{band.upper()}_RESCALEW": False}
        theirs |= {f"{band.upper()}_asec_{i}": meta[f"ASEC_{i}"] for i in ours.numbers if f"ASEC_{i}" in meta}
    return meta | {key: value for key, value in theirs.items() if value is not None}


def _to_sextractor(catalog: QTable) -> QTable:
    """Return SExtractor's columns; those of several bands with the band behind their names."""
    ours = _Ours(catalog)
    a, b, theta = ours.shapes("deg")
    x, y, kron = ours.need("x", "pix"), ours.need("y", "pix"), ours.get("kron_radius")
    pixel, count = "pixel", "uJy"
    columns: dict[str, Described] = {
        "NUMBER": (np.asarray(catalog["id"]), "", "Running object number"),
        "X_IMAGE": (x + 1, pixel, "Object position along x"),
        "Y_IMAGE": (y + 1, pixel, "Object position along y"),
        "ALPHA_J2000": (ours.need("ra", "deg"), "deg", "Right ascension of barycenter (J2000)"),
        "DELTA_J2000": (ours.need("dec", "deg"), "deg", "Declination of barycenter (J2000)"),
        "A_IMAGE": (a, pixel, "Profile RMS along major axis"),
        "B_IMAGE": (b, pixel, "Profile RMS along minor axis"),
        "THETA_IMAGE": (theta, "deg", "Position angle (CCW/x)"),
        "A_WORLD": (a * ours.scale / 3600, "deg", "Profile RMS along major axis (world units)"),
        "B_WORLD": (b * ours.scale / 3600, "deg", "Profile RMS along minor axis (world units)"),
        "THETA_J2000": (north_angles(ours.grid, x, y, theta), "deg", "Position angle (east of north) (J2000)"),
        "KRON_RADIUS": (kron, "", "Kron apertures in units of A or B"),
        "ISOAREA_IMAGE": (ours.get("npix"), "pixel2", "Isophotal area above Analysis threshold"),
    }
    for band in ("", *ours.bands):
        before, behind = (f"{band}_", f"_{band.upper()}") if band else ("", "")
        for kind in ("auto", "iso"):
            for error in ("", "err"):
                name = f"flux{error}_{kind}"
                columns[f"{name.upper()}{behind}"] = (
                    ours.get(before + name, "uJy"),
                    count,
                    f"{name} of Source Extractor",
                )
        for name in ("mag_auto", "magerr_auto"):
            values = ours.get(before + name)
            filled = None if values is None else np.where(np.isfinite(values), values, 99.0)
            columns[f"{name.upper()}{behind}"] = (filled, "mag", f"{name}, AB; 99 where not measured")
        for error in ("", "err"):
            vectors = [ours.get(f"{before}flux{error}_aper_{i}", "uJy") for i in ours.numbers]
            there = [vector for vector in vectors if vector is not None]
            vector = np.stack(there, axis=1) if there else None
            columns[f"FLUX{error.upper()}_APER{behind}"] = (vector, count, "in circles of ASEC_0, ASEC_1 ...")
        radius = ours.get(f"{before}flux_radius", "arcsec")
        columns[f"FLUX_RADIUS{behind}"] = (None if radius is None else radius / ours.scale, pixel, "Half-light radius")
        columns[f"FLAGS{behind}"] = (_sextractor_flags(ours, f"{before}flag"), "", "Extraction flags")
    meta = dict(catalog.meta) | {"SEXMGZPT": 23.9, "SEXPIXS": ours.scale}
    return _fill(columns, meta)


def _sextractor_flags(ours: _Ours, name: str) -> NDArray[np.int64] | None:
    flags = ours.bits(name, -1)
    if flags is None:
        return None
    return np.sum([np.where(flags & bits, theirs, 0) for bits, theirs in _SEXTRACTOR_FLAGS.items()], axis=0)


def format_sextractor(table: Table) -> str:
    """Return a table as SExtractor's text with a header, ASCII_HEAD.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Numbers, and vectors of them.

    Returns
    -------
    str

    Examples
    --------
    >>> print(format_sextractor(Table({"NUMBER": [7], "X": [1.5]}, units={"X": "pixel"})))
    #   1 NUMBER                 No description
    #   2 X                      No description                                             [pixel]
             7        1.5
    <BLANKLINE>
    """
    lines, cells, number = [], [], 1
    for name in table.colnames:
        column = table[name]
        values = np.atleast_2d(np.asarray(getattr(column, "value", column)).T)
        unit = str(column.unit or "").replace("pix", "pixel").replace("pixel2", "pixel**2")
        text = f"#{number:4} {name:22} {column.info.description or 'No description':58}"
        lines.append((text + (f" [{unit}]" if unit else "")).rstrip())
        whole = values.dtype.kind in "iu"
        cells += [[f"{value:10d}" if whole else f"{value:10.10g}" for value in each] for each in values]
        number += len(values)
    rows = [" ".join(row) for row in zip(*cells, strict=True)]
    return "\n".join([*lines, *rows, ""])


WRITTEN_SCHEMAS: Mapping[str, Callable[[QTable], QTable]] = {
    "photplug": lambda catalog: catalog,
    "dja": _to_dja,
    "sextractor": _to_sextractor,
}
"""What our catalogues are written as, by name."""
