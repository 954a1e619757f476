"""Whose exposures an image, or a selection of sources, was made from: the programmes to be cited."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.time import Time

from dja_photplug.epochs.barycentre import plain_mjd
from dja_photplug.epochs.log import ExposureLog
from dja_photplug.errors import PhotplugError

__all__ = ["format_programs", "list_programs", "read_investigators"]

UNKNOWN = "unknown"
_PROGRAM = ("program", "programme", "proposal", "proposal_id", "pid", "id")
_INVESTIGATOR = ("pi", "pi_name", "investigator")


def list_programs(
    log: ExposureLog, coords: SkyCoord | None = None, investigators: Mapping[str, str] | None = None
) -> QTable:
    """Return the programmes of the exposures of a log.

    Parameters
    ----------
    log : ExposureLog
    coords : SkyCoord, optional
        (n,); only exposures that saw one of these positions count.
    investigators : mapping of str to str, optional
        Names by programme, without leading zeros.

    Returns
    -------
    `~astropy.table.QTable`
        A row for each programme, by exposure time: ``program``, ``telescope``, ``n_visit``, ``n_exp``, ``exptime`` [s],
        ``first``, ``last`` (dates, empty without one) and, with `investigators`, ``pi``.

    Raises
    ------
    PhotplugError
        Where no exposure saw any of the positions.
    """
    table = log.table
    if coords is not None:
        seen = np.asarray(log.coverage(coords).sum(axis=0)).ravel() > 0
        if not seen.any():
            raise PhotplugError(f"{log.name}: no exposure covers any of the {coords.size} positions; give others")
        table = table[seen]
    names = np.array([str(name) or UNKNOWN for name in table["program"]])
    rows = [_sum_up(table[names == name], name) for name in np.unique(names)]
    programs = QTable(rows)
    programs.sort("exptime", reverse=True)
    if investigators is not None:
        programs["pi"] = [investigators.get(name.lstrip("0"), "") for name in programs["program"].tolist()]
    return programs


def _sum_up(table: QTable, name: str) -> dict[str, str | int | u.Quantity]:
    _, once = np.unique(table["file"], return_index=True)  # the chips of one file repeat its time
    begin, end = (plain_mjd(table[key]) for key in ("mjd_beg", "mjd_end"))
    limits = np.nanmin(begin, initial=np.inf), np.nanmax(end, initial=-np.inf)
    dates = [Time(limit, format="mjd").strftime("%Y-%m-%d") if np.isfinite(limit) else "" for limit in limits]
    return {
        "program": name,
        "telescope": "/".join(sorted({str(each) for each in table["telescope"]} - {""})),
        "n_visit": len(set(table["visit"].tolist())),
        "n_exp": len(table),
        "exptime": table["exptime"][once].sum().to(u.s),
        "first": dates[0],
        "last": dates[1],
    }


def read_investigators(table: Table, name: str) -> dict[str, str]:
    """Return the principal investigators that a table names.

    Parameters
    ----------
    table : `~astropy.table.Table`
        With a column of programmes (``program``, ``proposal_id``, ``pid`` ...) and one of names (``pi``, ``pi_name``
        ...), in any case.
    name : str
        Of its file, for the message.

    Returns
    -------
    dict of str to str
        By programme, without leading zeros.

    Raises
    ------
    PhotplugError
        Where it has no such columns.
    """
    lower = {column.lower(): column for column in table.colnames}
    found = [next((lower[key] for key in keys if key in lower), None) for keys in (_PROGRAM, _INVESTIGATOR)]
    if found[0] is None or found[1] is None:
        raise PhotplugError(
            f"{name}: has no columns of programmes and principal investigators; name two of them program and pi; it "
            f"has {', '.join(table.colnames)}"
        )
    return {str(program).lstrip("0"): str(pi) for program, pi in zip(*(table[key] for key in found), strict=True)}


def format_programs(programs: QTable) -> list[str]:
    """Return the programmes as lines of text.

    Parameters
    ----------
    programs : `~astropy.table.QTable`
        From :func:`list_programs`.

    Returns
    -------
    list of str
        One for each, and above them the names of the columns.
    """
    columns = {"program": "program", "telescope": "telescope", "n_visit": "visits", "n_exp": "exposures"}
    columns |= {"exptime": "ks", "first": "first", "last": "last"} | ({"pi": "PI"} if "pi" in programs.colnames else {})
    cells = [list(columns.values())]
    for row in programs:
        plain = {name: row[name] for name in columns} | {"exptime": f"{row['exptime'].to_value(u.ks):.2f}"}
        cells.append([str(plain[name]) for name in columns])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
