"""Catalogues for LePhare: fluxes in erg/s/cm2/Hz, and beside them the parameters that say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import QTable

from dja_photplug.catalog.columns import column_values, find_ids
from dja_photplug.catalog.eazy import NOT_OBSERVED, find_fluxes
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import LEPHARE_SUFFIXES
from dja_photplug.outputs.whole import check_output, whole_file

__all__ = ["check_lephare", "write_lephare"]

# erg/s/cm2/Hz of 1 uJy, which LePhare counts in (INP_TYPE F).
_CGS = 1e-29


def check_lephare(path: Path, *, overwrite: bool = False) -> list[Path]:
    """Return the files for LePhare, where they may be written.

    Parameters
    ----------
    path : Path
        Of the catalogue.
    overwrite : bool, optional
        Allow existing files.

    Returns
    -------
    list of Path
        Catalogue and parameter file.

    Raises
    ------
    PhotplugError
        Where one exists, or the suffix is another.
    """
    beside = path.with_suffix(".para")
    check_output(path, overwrite=overwrite, suffixes=LEPHARE_SUFFIXES)
    check_output(beside, overwrite=overwrite)
    return [path, beside]


def write_lephare(catalog: QTable, path: str | Path, *, aperture: int = 1, overwrite: bool = False) -> list[Path]:
    """Write the fluxes of a catalogue for LePhare, and the parameters of its input.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        With ``id`` and, for every band f, fluxes as `dja_photplug.write_eazy` takes them. A column ``z_spec`` is kept.
    path : str or Path
        Of the catalogue, which is text.
    aperture : int, optional
        Number of the aperture whose total fluxes are written.
    overwrite : bool, optional
        Replace existing files.

    Returns
    -------
    list of Path
        Catalogue, and parameters, in ``.para`` beside it.

    Raises
    ------
    PhotplugError
        Where no band is left, a column is missing, or files exist.

    Notes
    -----
    The format LONG, MEME: id, flux and error of each band, context, z_spec, and a word. Not measured is -99 in flux and
    error, and the bit of its band is missing from the context. Filters are in the order of the columns, which the first
    line and ``FILTER_LIST`` say; their files are LePhare's, which you name.
    """
    path, beside = check_lephare(Path(path), overwrite=overwrite)
    pairs = find_fluxes(catalog, aperture)
    ids = find_ids(catalog)
    if ids is None:
        raise PhotplugError("the catalogue has no column id, which LePhare needs; add it")
    bands, context = list(pairs), np.zeros(len(catalog), dtype=np.int64)
    columns = []
    for bit, names in enumerate(pairs.values()):
        flux, error = (column_values(catalog, name, "uJy") for name in names)
        observed = np.isfinite(flux) & (error > 0) & np.isfinite(error)
        context |= np.where(observed, 1 << bit, 0)
        columns += [np.where(observed, _CGS * values, NOT_OBSERVED) for values in (flux, error)]
    known = column_values(catalog, "z_spec") if "z_spec" in catalog.colnames else np.full(len(catalog), np.nan)
    redshift = np.where(known >= 0, known, NOT_OBSERVED)
    head = " ".join(f"{band} e_{band}" for band in bands)
    lines = [f"# id {head} context z_spec name"]
    for number, *fluxes, bits, z in zip(ids, *columns, context, redshift, strict=True):
        lines.append(" ".join([f"{number:8d}", *(f"{flux:.7e}" for flux in fluxes), f"{bits:d} {z:.5f} {number}"]))
    parameters = {
        "CAT_IN": path.name,
        "CAT_FMT": "MEME",
        "CAT_TYPE": "LONG",
        "CAT_MAG": "AB",
        "INP_TYPE": "F",
        "FILTER_LIST": ",".join(f"{band}.pb" for band in bands),
    }
    texts = "\n".join([*lines, ""]), "".join(f"{key:<12} {value}\n" for key, value in parameters.items())
    for file, text in zip((path, beside), texts, strict=True):
        with whole_file(file, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [path, beside]
