"""Where the archive's mosaics are, and which fields it has."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from dja_photplug.errors import PhotplugError, PhotplugWarning, suggest
from dja_photplug.files.names import ProductName
from dja_photplug.remote.paths import as_path

__all__ = ["ARCHIVE_URL", "URL_VARIABLE", "archive_folder", "list_fields", "list_filters"]

ARCHIVE_URL = "https://s3.amazonaws.com/grizli-v2/JwstMosaics/v7"
"""Where the archive's description of its imaging products has them: release v7."""
URL_VARIABLE = "DJA_PHOTPLUG_URL"

# Fields of release v7, as its own index has them; asked for where the server's cannot be had.
# fmt: off
FIELDS = (
    "abell1689-grizli-v7.4", "abell2744clu-grizli-v7.0", "abell2744clu-grizli-v7.1", "abell2744clu-grizli-v7.2",
    "abell2744par-grizli-v7.0", "abells1063-grizli-v7.0", "abells1063-grizli-v7.4", "abells1063-grizli-v7.5",
    "ceers-full-grizli-v7.0", "ceers-full-grizli-v7.2", "ceers-full-grizli-v7.4", "ceers-full-x0.y0-v7.2",
    "ceers-full-x0.y1-v7.2", "ceers-full-x1.y0-v7.2", "ceers-full-x1.y1-v7.2", "ceers-full-x2.y0-v7.2",
    "ceers-full-x2.y1-v7.2", "ceers-full-x3.y0-v7.2", "ceers-full-x3.y1-v7.2", "ceers-full-x4.y0-v7.2",
    "ceers-full-x4.y1-v7.2", "ceers-full-x5.y0-v7.2", "ceers-full-x5.y1-v7.2", "clg-1212p2733-v7.4",
    "cluster-j002748p2616-grizli-v7.4", "cluster-j032728m1326-grizli-v7.4", "cluster-j161548m0609-grizli-v7.4",
    "cos-infty-v7.4", "elgordo-grizli-v7.0", "gama100033-v7.4", "gdn-grizli-fresco-v7.3", "gdn-grizli-v7.0",
    "gdn-grizli-v7.1", "gdn-grizli-v7.3", "gds-grizli-v7.0", "gds-grizli-v7.1", "gds-grizli-v7.2",
    "gds-miri-hudf-grizli-v7.2", "gds-sw-grizli-v7.0", "j024152m0826-grizli-v7.4", "j112716p4228-grizli-v7.0",
    "j1235-grizli-v7.0", "jwst-nep-tdf-nrc-grizli-v7.0", "macs0647-grizli-v7.0", "mrg0138-grizli-v7.2",
    "nexus-nep-grizli-v7.4", "ngdeep-grizli-v7.0", "ngdeep-grizli-v7.2", "plck-g165p67-v7.4", "plck-g191p62-v7.4",
    "primer-cosmos-east-grizli-v7.0", "primer-cosmos-grizli-v7.0", "primer-cosmos-west-grizli-v7.0",
    "primer-uds-grizli-v7.0", "primer-uds-north-grizli-v7.0", "primer-uds-north-grizli-v7.2",
    "primer-uds-south-grizli-v7.0", "primer-uds-south-grizli-v7.2", "rxj2129-grizli-v7.0", "sgas1723-grizli-v7.0",
    "smacs0723-grizli-v7.0", "spitzer_idf-grizli-v7.4", "sunburst-grizli-v7.2", "sunrise-grizli-v7.0",
    "tn-j1338m1942-v7.4", "ulasj1342-grizli-v7.2",
)
# fmt: on


def archive_folder(base_url: str | None = None) -> Path:
    """Return the folder that mosaics are fetched from.

    Parameters
    ----------
    base_url : str, optional
        Its URL, or a path on disk; by default that of the environment's ``DJA_PHOTPLUG_URL``, and else the archive's.

    Returns
    -------
    Path

    Raises
    ------
    PhotplugError
        Where it is a URL that is not read.
    """
    return as_path(base_url or os.environ.get(URL_VARIABLE) or ARCHIVE_URL)


def _list_products(folder: Path) -> list[ProductName]:
    """Return the science images of a folder, by the index of its server."""
    products = (ProductName.parse(path.name) for path in folder.iterdir())
    return [name for name in products if name and name.kind == "sci"]


def list_fields(folder: Path) -> dict[str, int]:
    """Return the fields that there are.

    Parameters
    ----------
    folder : Path
        From :func:`archive_folder`.

    Returns
    -------
    dict of str to int
        How many mosaics each has, by its name with version; 0 where that is not known.

    Raises
    ------
    PhotplugError
        Where a server that is not the archive's cannot be asked.
    """
    try:
        roots = [name.root for name in _list_products(folder)]
    except (OSError, PhotplugError) as error:
        if str(folder) != ARCHIVE_URL:
            raise PhotplugError(f"{folder}: cannot be listed ({error}); name a field and its filters") from None
        warnings.warn(
            f"cannot read the index of {folder} ({error}); listing the fields known to this version instead",
            PhotplugWarning,
            stacklevel=2,
        )
        return dict.fromkeys(FIELDS, 0)
    return {root: roots.count(root) for root in sorted(set(roots))}


def list_filters(folder: Path, root: str) -> list[str]:
    """Return the filters of a field.

    Parameters
    ----------
    folder : Path
        From :func:`archive_folder`.
    root : str
        The field with its version.

    Returns
    -------
    list of str
        As in the names of files, sorted.

    Raises
    ------
    PhotplugError
        Where there is no such field, or the index cannot be read.
    """
    try:
        names = _list_products(folder)
    except OSError as error:
        raise PhotplugError(f"{folder}: cannot be listed ({error.strerror}); name the filters of {root}") from None
    filters = sorted({name.filter for name in names if name.root == root})
    if not filters:
        roots = sorted({name.root for name in names})
        there = suggest(root, roots) or f"; it has {', '.join(roots[:5])}{' and others' if len(roots) > 5 else ''}"
        raise PhotplugError(f"{folder}: has no mosaics of {root}{there}")
    return filters
