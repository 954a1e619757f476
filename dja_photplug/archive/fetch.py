"""Mosaics of the archive, fetched to disk, where the user wants them or into the cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dja_photplug.archive.releases import archive_folder
from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import MosaicFiles, find_band, find_mosaic
from dja_photplug.files.pixels import check_product
from dja_photplug.remote.cache import download, local_copies

__all__ = ["bring_near", "fetch", "list_members"]


def list_members(files: MosaicFiles) -> list[Path]:
    """Return the files of a mosaic that there are.

    Parameters
    ----------
    files : MosaicFiles

    Returns
    -------
    list of Path
    """
    members = (files.science, files.weight, files.exposure, files.variance, files.wcs_log)
    return [path for path in members if path is not None]


def fetch(
    root: str,
    filters: str | Sequence[str],
    directory: str | Path = ".",
    *,
    base_url: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> list[MosaicFiles]:
    """Fetch mosaics of a field from the archive, all their files side by side.

    Each file appears whole under its name, with the size the server tells, its gzip checksum right and its FITS
    structure complete, or not at all. A transfer that broke off goes on from there when it is asked for again; what is
    there already is not fetched. Needs the extra ``remote``.

    Parameters
    ----------
    root : str
        The field with its version, such as ``smacs0723-grizli-v7.0``.
    filters : str or sequence of str
        As in the names of files, also without ``-clear``: ``f444w``.
    directory : str or Path, optional
        Made if it is not there.
    base_url : str, optional
        Folder of the mosaics; by default that of the environment's ``DJA_PHOTPLUG_URL``, and else release v7 of the
        archive, ``https://s3.amazonaws.com/grizli-v2/JwstMosaics/v7``.
    overwrite : bool, optional
        Replace files that are not the server's.
    progress : bool, optional
        Show a bar where stderr is a terminal.

    Returns
    -------
    list of MosaicFiles
        On disk, one for each filter.

    Raises
    ------
    PhotplugError
        Where the server has no such mosaic, cannot be reached, or sends what is not whole.
    """
    folder, directory = archive_folder(base_url), Path(directory)
    mosaics = [_find(folder, root, filter.lower()) for filter in ([filters] if isinstance(filters, str) else filters)]
    wanted = {str(path): directory / path.name for mosaic in mosaics for path in list_members(mosaic)}
    there = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        download(wanted, check_product, overwrite=overwrite, progress=progress)
    except OSError as error:
        raise PhotplugError(f"{directory}: cannot be created ({error.strerror}); name another folder") from None
    finally:
        if not there:
            with suppress(OSError):  # but where parts of files are left, to be gone on with
                directory.rmdir()
    return [find_mosaic(directory / files.name) for files in mosaics]


def bring_near(files: MosaicFiles, *members: Path | None) -> MosaicFiles:
    """Return the files of a mosaic with copies in the cache of those that are on a server, fetched side by side.

    Parameters
    ----------
    files : MosaicFiles
    *members : Path or None
        Those of its images that will be read as a whole.

    Returns
    -------
    MosaicFiles
        Under the same label.

    Raises
    ------
    PhotplugError
        As :func:`fetch`.
    """
    paths = [path for path in members if path is not None]
    copies = dict(zip(paths, local_copies(paths, check_product), strict=True))
    exposure, variance = (None if path is None else copies.get(path, path) for path in (files.exposure, files.variance))
    science, weight = (copies.get(path, path) for path in (files.science, files.weight))
    return replace(files, science=science, weight=weight, exposure=exposure, variance=variance)


def _find(folder: Path, root: str, filter: str) -> MosaicFiles:
    found = find_band(folder, root, filter)
    return find_mosaic(folder / f"{root}-{filter}") if found is None else found  # which says what there is instead
