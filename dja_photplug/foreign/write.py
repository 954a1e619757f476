"""Our catalogues in the words of others: the archive's `_phot_apcorr.fits`, and SExtractor's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.files.tables.write import write_catalog
from dja_photplug.foreign.dja import to_dja
from dja_photplug.foreign.grids import north_angles
from dja_photplug.foreign.ours import Described, Ours, fill_table
from dja_photplug.outputs.whole import whole_file

__all__ = ["WRITTEN_SCHEMAS", "dress_as", "format_sextractor", "write_as"]

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


def _to_sextractor(catalog: QTable) -> QTable:
    """Return SExtractor's columns; those of several bands with the band behind their names."""
    ours = Ours(catalog)
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
    return fill_table(columns, meta)


def _sextractor_flags(ours: Ours, name: str) -> NDArray[np.int64] | None:
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
    "dja": to_dja,
    "sextractor": _to_sextractor,
}
"""What our catalogues are written as, by name."""
