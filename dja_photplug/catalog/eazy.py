"""Catalogues for eazy-py: fluxes in uJy, ``zphot.translate`` and ``zphot.param`` beside them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from dja_photplug.catalog.columns import column_values
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import EAZY_FORMATS, encode_values
from dja_photplug.outputs.whole import check_output, whole_file
from dja_photplug.units import ZERO_POINT

__all__ = ["EAZY_FILTERS", "NOT_OBSERVED", "check_eazy", "filter_number", "find_fluxes", "write_eazy"]

NOT_OBSERVED = -99.0
"""What stands for a flux and error that were not measured; eazy-py ignores what is below NOT_OBS_THRESHOLD, -90."""

# Consecutive filters of FILTER.RES.latest.info of gbrammer/eazy-photoz (commit 0499b4b, 424 filters), by number of the
# first. ACS curves are those after July 2006, NIRISS those of the block with all 12 filters, as grizli but for NIRISS.
_BLOCKS = {
    201: "f098m f105w f125w f140w f160w",  # WFC3/IR
    206: "f218wu f225wu f275wu f336wu f390wu f438wu f475wu f555wu f606wu f625wu f775wu f814wu",  # WFC3/UVIS
    233: "f435w f475w f555w f606w f625w f775w f814w f850lp",  # ACS/WFC
    241: "f110w f475xu f600lpu",
    339: "f350lpu f645nu f657nu f665nu f673nu f128n f130n f132n f164n",
    349: "f200lpu",
    350: "f090wn f115wn f150wn f200wn f140mn f158mn f277wn f356wn f444wn f380mn f430mn f480mn",  # NIRISS
    362: "f070w f090w f115w f150w f200w f150w2 f140m f150w2_f162m f182m f210m f150w2_f164n f187n f212n",  # NIRCam
    375: "f277w f356w f444w f322w2 f250m f300m f335m f360m f410m f430m f460m f480m",
    387: "f322w2_f323n f444w_f405n f444w_f466n f444w_f470n",
    391: "f1065c f1140c f1550c f2300c f560w f770w f1000w f1130w f1280w f1500w f1800w f2100w f2550w",  # MIRI
    404: "f139m f621mu",
}
EAZY_FILTERS: dict[str, int] = {
    band: first + i for first, names in _BLOCKS.items() for i, band in enumerate(names.split())
}
"""Number of each band's filter in eazy's FILTER.RES.latest, from 1."""

# Flux and error of a band, best first: total of bands at one PSF, total, colour-consistent, Kron.
_KINDS = (
    ("{}_total_{}", "{}_total_err_{}"),
    ("{}_tot_{}", "{}_etot_{}"),
    ("{}_corr_{}", "{}_ecorr_{}"),
    ("{}_flux_auto", "{}_fluxerr_auto"),
)


def filter_number(band: str, filters: Mapping[str, int] = EAZY_FILTERS) -> int | None:
    """Return the number of a band's filter, of which a single module's is the same.

    Parameters
    ----------
    band : str
        As in the names of files and columns, such as ``f444w``.
    filters : mapping of str to int, optional
        Filter numbers by band.

    Returns
    -------
    int or None
        From 1; None where eazy has no such filter.

    Examples
    --------
    >>> [filter_number(band) for band in ("f444w", "f356wn", "nrca_f250m", "f814wu", "f444w_grismr")]
    [377, 357, 379, 217, None]
    """
    return filters.get(band, filters.get(band.removeprefix("nrca_").removeprefix("nrcb_")))


def write_eazy(
    catalog: QTable,
    path: str | Path,
    *,
    aperture: int = 1,
    filters: Mapping[str, int] = EAZY_FILTERS,
    overwrite: bool = False,
) -> list[Path]:
    """Write the fluxes of a catalogue, ``zphot.translate`` and ``zphot.param`` for eazy-py in one folder.

    Run there: ``eazy.photoz.PhotoZ(param_file="zphot.param", translate_file="zphot.translate")``.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        With columns ``id ra dec`` and, for every band f, ``{f}_total_i {f}_total_err_i`` of matched bands, or
        ``{f}_tot_i {f}_etot_i``, or ``{f}_corr_i {f}_ecorr_i``, or ``{f}_flux_auto {f}_fluxerr_auto``: the first of
        them that most bands have. A column ``z_spec`` is kept.
    path : str or Path
        Of the catalogue; ends in ``.fits`` or ``.cat`` (text).
    aperture : int, optional
        The i above.
    filters : mapping of str to int, optional
        Filter numbers by band.
    overwrite : bool, optional
        Replace existing files.

    Returns
    -------
    list of Path
        Catalogue, translate file, parameter file.

    Warns
    -----
    PhotplugWarning
        For bands without a filter number or with other fluxes than most: the first are in the catalogue, but eazy-py
        does not see them, the others are not.

    Raises
    ------
    PhotplugError
        Where no band is left, a column is missing, or files exist.

    Notes
    -----
    Fluxes are in uJy (PRIOR_ABZP 23.9), not corrected for extinction in the Milky Way (CAT_HAS_EXTCORR n). Not
    measured is -99, in flux and error; an unknown ``z_spec`` is -1.
    """
    path, *beside = check_eazy(Path(path), overwrite=overwrite)
    columns = find_fluxes(catalog, aperture)
    texts = [_write_translation(columns, filters), _write_parameters(path)]
    with whole_file(path, overwrite=overwrite) as temporary:
        _make_table(catalog, columns).write(temporary, format=EAZY_FORMATS[path.suffix.lower()])
    for other, text in zip(beside, texts, strict=True):
        with whole_file(other, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [path, *beside]


def check_eazy(path: Path, *, overwrite: bool = False) -> list[Path]:
    """Return the files for eazy, where they may be written.

    Parameters
    ----------
    path : Path
        Of the catalogue.
    overwrite : bool, optional
        Allow existing files.

    Returns
    -------
    list of Path
        Catalogue, translate file and parameter file.

    Raises
    ------
    PhotplugError
        Where one exists, or eazy-py would not read a catalogue of this name.
    """
    beside = [path.with_name(f"zphot.{kind}") for kind in ("translate", "param")]
    check_output(path, overwrite=overwrite, suffixes=tuple(EAZY_FORMATS))
    if "fits" in path.name.lower() and path.suffix.lower() != ".fits":
        raise PhotplugError(
            f"{path}: eazy-py reads every name with 'fits' in it as FITS; use the suffix .fits, or rename it"
        )
    for other in beside:
        check_output(other, overwrite=overwrite)
    return [path, *beside]


def find_fluxes(catalog: QTable, aperture: int) -> dict[str, tuple[str, str]]:
    """Return the columns of flux and error by band: of one kind, because colours need the same in all bands.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
    aperture : int
        Number of the aperture of total fluxes.

    Returns
    -------
    dict of str to pair of str

    Raises
    ------
    PhotplugError
        Where there are none.
    """
    found: list[dict[str, tuple[str, str]]] = []
    for kind in _KINDS:
        ending = kind[0].format("", aperture)
        bands = [name.removesuffix(ending) for name in catalog.colnames if name.endswith(ending)]
        pairs = {band: (kind[0].format(band, aperture), kind[1].format(band, aperture)) for band in bands}
        found.append({band: pair for band, pair in pairs.items() if pair[1] in catalog.colnames})
    columns = max(found, key=len)
    if not columns:
        raise PhotplugError(
            f"the catalogue has no band fluxes with errors, such as f444w_tot_{aperture} or f444w_flux_auto; measure "
            "several bands, or name another aperture"
        )
    left = sorted({band for pairs in found for band in pairs} - set(columns))
    if left:
        kind_name = next(iter(columns.values()))[0]
        warnings.warn(f"{', '.join(left)} left out: no fluxes like {kind_name}", PhotplugWarning, stacklevel=3)
    return columns


def _make_table(catalog: QTable, columns: Mapping[str, tuple[str, str]]) -> QTable:
    """Return the catalogue that eazy reads."""
    table = QTable(meta=encode_values(catalog.meta))
    for name in ("id", "ra", "dec"):
        if name not in catalog.colnames:
            raise PhotplugError(f"the catalogue has no column {name}, which eazy needs; add it")
        table[name] = catalog[name]
    known = column_values(catalog, "z_spec") if "z_spec" in catalog.colnames else np.full(len(catalog), np.nan)
    table["z_spec"] = np.where(known >= 0, known, -1.0)
    table["z_spec"].info.description = "spectroscopic redshift; -1 where unknown"
    for names in columns.values():
        values = [column_values(catalog, name, "uJy") for name in names]
        observed = np.isfinite(values[0]) & (values[1] > 0) & np.isfinite(values[1])
        for name, value in zip(names, values, strict=True):
            table[name] = np.where(observed, value, NOT_OBSERVED) * u.uJy
            table[name].info.description = f"{catalog[name].info.description or 'flux'}; -99 where not measured"
    return table


def _write_translation(columns: Mapping[str, tuple[str, str]], filters: Mapping[str, int]) -> str:
    """Return the text of the translate file; without comments, which eazy-py would take for columns."""
    lines: list[str] = []
    unknown: list[str] = []
    times: dict[int, int] = {}
    for band, (flux, error) in columns.items():
        number = filter_number(band, filters)
        if number is None:
            unknown.append(band)
            continue
        # Of several bands with one filter eazy-py tells the errors apart by a letter behind the number.
        letter = " abcdeghijklmnopqrstuvwxyz"[times.setdefault(number, 0)].strip()
        times[number] += 1
        lines += [f"{flux} F{number}{letter}", f"{error} E{number}{letter}"]
    if not lines:
        raise PhotplugError(f"eazy has no filter for {', '.join(unknown)}; give their numbers with filters")
    if unknown:
        warnings.warn(
            f"eazy has no filter for {', '.join(unknown)}: in the catalogue, but not in zphot.translate; give the "
            "number with filters, or add the lines",
            PhotplugWarning,
            stacklevel=3,
        )
    return "\n".join([*lines, ""])


def _write_parameters(path: Path) -> str:
    """Return the text of the parameter file; eazy-py takes the rest from its defaults."""
    parameters = {
        "CATALOG_FILE": path.name,
        "CATALOG_FORMAT": EAZY_FORMATS[path.suffix.lower()],
        "PRIOR_ABZP": ZERO_POINT,
        "NOT_OBS_THRESHOLD": -90,
        "CAT_HAS_EXTCORR": "n",
        "MAIN_OUTPUT_FILE": path.stem,
    }
    return "".join(f"{name:<20} {value}\n" for name, value in parameters.items())
