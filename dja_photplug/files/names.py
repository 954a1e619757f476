"""What is measured: a source of pixels, and the files of a DJA mosaic, which are found by their names."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.formats import IMAGE_SUFFIXES
from dja_photplug.files.grammar import (
    DRIZZLES,
    IMAGE_KINDS,
    REQUIRED_KINDS,
    ProductName,
    band_name,
    is_mosaic_name,
    parse_source,
)
from dja_photplug.outputs.run import follow_links
from dja_photplug.remote.paths import as_path, is_url, list_files

if TYPE_CHECKING:
    from dja_photplug.sky.grid import Grid

__all__ = [
    "MosaicFiles",
    "ProductName",
    "Source",
    "band_name",
    "explain_name",
    "find_band",
    "find_mosaic",
    "find_owner",
    "is_mosaic_name",
    "list_near",
]

_EXAMPLE = "gds-grizli-v7.2-f444w-clear"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Products of one image, of whichever archive: what must be known of them before a plugin loads them.

    A plugin for another archive returns one from ``photplug_find``; a subclass can carry files, and know their grid.

    Attributes
    ----------
    name : str
        Without a folder, for messages and figures.
    band : str
        Name of the band in catalogue columns, such as ``f444w``. Empty where it is not known: then the source can be
        measured alone, but not among several bands.
    log : Path or None
        Its WCS log, a CSV with the columns of the archive's; None where there is none, and so no epochs.
    label : str
        What finds the source again; messages and the metadata ``INPUT`` have it. `name` by default.
    """

    name: str
    band: str = ""
    log: Path | None = None
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.name

    def members(self) -> list[Path]:
        """Return the files that are known, which no output may replace.

        Returns
        -------
        list of Path
        """
        return [] if self.log is None else [self.log]

    def would_take(self, path: Path) -> bool:
        """Return whether a file would be one of the products, were it there, so that no output may have its name.

        Parameters
        ----------
        path : Path
            Absolute.

        Returns
        -------
        bool
        """
        return path in self.members()

    def grid(self) -> Grid | None:
        """Return the grid of the pixels where it can be told without loading them.

        Returns
        -------
        Grid or None
            Of all pixels, without a cut-out; None where it cannot be told, as here.
        """
        return None

    def beside(self, filter: str) -> Source | None:
        """Return the products of the same field in another filter.

        Parameters
        ----------
        filter : str
            As the user spells it, in lower case, such as ``f277w`` or ``ir``.

        Returns
        -------
        Source or None
            None where there are none, or nobody knows, as here.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class MosaicFiles(Source):
    """The files of one mosaic of the archive; those that do not exist are None.

    Attributes
    ----------
    root, filter : str
        As in the names of the files, ``{root}-{filter}``, which is `name`; `band` follows from the filter.
    science, weight : Path
    exposure, variance : Path or None
    wcs_log : Path or None
        The same as `log`.
    label : str
        The shortest text by which :func:`find_mosaic` finds the same files: a prefix, or else the science image.
    """

    root: str
    filter: str
    science: Path
    weight: Path
    exposure: Path | None = None
    variance: Path | None = None
    wcs_log: Path | None = None
    name: str = field(init=False)
    band: str = field(init=False)
    log: Path | None = field(init=False)

    def __post_init__(self) -> None:
        """Derive what every source has."""
        name = f"{self.root}-{self.filter}"
        derived = {"name": name, "band": band_name(self.filter), "log": self.wcs_log}
        derived["label"] = self.label or str(self.science.parent / name)
        for key, value in derived.items():
            object.__setattr__(self, key, value)

    def members(self) -> list[Path]:
        """Return the files that there are.

        Returns
        -------
        list of Path
        """
        files = (self.science, self.weight, self.exposure, self.variance, self.wcs_log)
        return [path for path in files if path is not None]

    def would_take(self, path: Path) -> bool:
        """Return whether a file would be a product of the mosaic, were it there.

        Parameters
        ----------
        path : Path
            Absolute.

        Returns
        -------
        bool
        """
        name, folder = ProductName.parse(path.name), self.science.parent
        return (
            name is not None and name.mosaic == self.name and path.parent in (folder.absolute(), follow_links(folder))
        )

    def grid(self) -> Grid:
        """Return the grid of the mosaic, from the header of the science image.

        Returns
        -------
        Grid
            Of all pixels, without a cut-out.

        Raises
        ------
        PhotplugError
            Where the file cannot be read or has no celestial WCS; the message names it.
        """
        # It takes astropy, half a second, which `--help` does without.
        from dja_photplug.files.pixels import read_grid

        return read_grid(self.science)

    def beside(self, filter: str) -> MosaicFiles | None:
        """Return the mosaic of the same root in another filter, from the same folder.

        Parameters
        ----------
        filter : str
            Also without its ``-clear``.

        Returns
        -------
        MosaicFiles or None
            None where its science or weight are missing.
        """
        return find_band(self.science.parent, self.root, filter)


def _neighbours(folder: Path, wanted: str, *, members: bool = False) -> str:
    """Return what to tell somebody whose mosaic, or member, `wanted` is not in `folder`."""
    if not folder.is_dir():
        above = folder.parent
        beside = [path.name for path in above.iterdir() if path.is_dir()] if above.is_dir() else []
        places = {name: str(above / name) for name in beside}
        return f"the folder {folder} does not exist{suggest(folder.name, places)}"
    try:
        there = _list_mosaics(folder, members=members)
    except FileNotFoundError as error:  # of a server without an index
        return f"the folder {folder} cannot be listed ({error.strerror})"
    if not there:
        return f"the folder {folder} holds no DJA products"
    close = difflib.get_close_matches(wanted.lower(), there, n=3, cutoff=0.5) or there[:3]
    others = " and others" if len(there) > len(close) else ""
    meant = suggest(wanted, {name: str(folder / name) for name in there}).removeprefix("; ")
    return f"{meant + ' ' if meant else ''}the folder {folder} holds {', '.join(close)}{others}"


def _list_mosaics(folder: Path, *, members: bool = False) -> list[str]:
    """Return the mosaics of which a folder has products, or these, sorted."""
    names = (path.name for path in folder.iterdir() if not path.name.startswith("."))  # what is written just now
    products = [name for name in map(ProductName.parse, names) if name]
    return sorted({str(name) if members else name.mosaic for name in products})


def list_near(path: Path) -> str:
    """Return what there is of DJA products in place of a member that is not there.

    Parameters
    ----------
    path : Path
        Of the member.

    Returns
    -------
    str
        The nearest names in its folder, or that this does not exist.
    """
    return _neighbours(path.parent, path.name, members=True)


def explain_name(text: str | Path) -> str:
    """Return why a text is not the name of a mosaic, what is there, and what to do.

    Parameters
    ----------
    text : str or Path
        Such as the name of a folder or another file, a URL, or a name with a typo.

    Returns
    -------
    str
        On one line, to go behind the text.
    """
    no_name = "not the name of a DJA mosaic"
    if is_url(text):
        return f"{no_name} ({{root}}-{{filter}}, such as {_EXAMPLE}); give the URL of a prefix or of a member file"
    path = Path(text)
    try:
        return _explain_path(path, no_name)
    except OSError as error:  # names that are too long, folders that may not be read
        return f"{no_name} ({error.strerror}); give a prefix or a member file"


def _explain_path(path: Path, no_name: str) -> str:
    if path.is_dir():
        there = _list_mosaics(path)
        if not there:
            return f"a folder, {no_name}, and it holds no DJA products; give the prefix of a mosaic"
        others = " and others" if len(there) > 6 else ""
        listed = ", ".join(str(path / name) for name in there[:6])
        return f"a folder, {no_name}; give the prefix of one that it holds: {listed}{others}"
    other = "; a plugin loads those of other archives (photplug_find)" if ".fits" in path.name else ""
    kind = f"a file, but {no_name}{other}" if path.is_file() else f"{no_name} ({{root}}-{{filter}}, such as {_EXAMPLE})"
    member = path.name.endswith(IMAGE_SUFFIXES) or any(f"_{each}" in path.name for each in IMAGE_KINDS)
    near = list_near(path) if member else _neighbours(path.parent, path.name)
    return f"{kind}; give a prefix or a member file; {near}"


def _list_members(folder: Path, asked: ProductName) -> set[str]:
    """Return which products of a mosaic a folder has."""
    images = product(DRIZZLES, IMAGE_KINDS, IMAGE_SUFFIXES)
    names = [replace(asked, drizzle=drizzle, kind=kind, suffix=suffix) for drizzle, kind, suffix in images]
    return list_files(folder, [*map(str, names), _log_of(asked)])


def _log_of(asked: ProductName) -> str:
    return str(replace(asked, drizzle="", kind="wcs", suffix=".csv"))


def _find_images(there: set[str], asked: ProductName, drizzle: str) -> dict[str, str | None]:
    """Return the file of each kind of image; where both suffixes exist, the one that was asked for."""
    found: dict[str, str | None] = {}
    for kind in IMAGE_KINDS:
        suffixes = sorted(IMAGE_SUFFIXES, key=lambda suffix: suffix != asked.suffix)
        names = (str(replace(asked, drizzle=drizzle, kind=kind, suffix=suffix)) for suffix in suffixes)
        found[kind] = next((name for name in names if name in there), None)
    return found


def _completeness(found: dict[str, str | None]) -> tuple[bool, ...]:
    return (*(found[kind] is not None for kind in REQUIRED_KINDS), any(found.values()))


def _choose_images(there: set[str], asked: ProductName) -> tuple[str, dict[str, str | None]]:
    """Return ``drc`` or ``drz``, as asked for or else the one with more of the products, and its images."""
    images = {drizzle: _find_images(there, asked, drizzle) for drizzle in DRIZZLES if asked.drizzle in ("", drizzle)}
    drizzle = max(images, key=lambda drizzle: _completeness(images[drizzle]))
    return drizzle, images[drizzle]


def _shorten(there: set[str], asked: ProductName, drizzle: str, science: str) -> str:
    """Return the shortest text that finds the same science image, so that a member that was named is not forgotten."""
    for kind in ("", drizzle):
        prefix = replace(asked, drizzle=kind, kind="sci", suffix=IMAGE_SUFFIXES[0])
        if _choose_images(there, prefix)[1]["sci"] == science:
            return prefix.mosaic + (f"_{kind}" if kind else "")
    return science


def find_band(folder: Path, root: str, filter: str) -> MosaicFiles | None:
    """Return the mosaic of a field in one filter, from a folder.

    Parameters
    ----------
    folder : Path
    root, filter : str
        The filter also without its ``-clear``.

    Returns
    -------
    MosaicFiles or None
        None where its science or weight are missing.

    Raises
    ------
    PhotplugError
        Where a server cannot be asked.
    """
    for name in (filter, f"{filter}-clear"):
        asked = parse_source(f"{root}-{name}")
        found = _choose_images(_list_members(folder, asked), asked)[1] if asked else {}
        if asked and all(found[kind] for kind in REQUIRED_KINDS):
            return find_mosaic(folder / asked.mosaic)
    return None


def find_owner(path: Path) -> str | None:
    """Return the mosaic of which a file would be a product, were it there.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str or None
        Its name, where the folder has another product of it.
    """
    named = ProductName.parse(path.name)
    if named is None or not path.parent.is_dir():
        return None
    others = (ProductName.parse(name) for name in os.listdir(path.parent) if name != path.name)
    return named.mosaic if any(other is not None and other.mosaic == named.mosaic for other in others) else None


def find_mosaic(source: str | Path | MosaicFiles) -> MosaicFiles:
    """Find the files of a mosaic.

    Parameters
    ----------
    source : str, Path or MosaicFiles
        A prefix (``folder/{root}-{filter}``, also with ``_drc``) or the path of any member, or the URL of either on
        a server. A member decides
        between ``drc`` and ``drz`` and, where both exist, between ``.fits`` and ``.fits.gz``; a prefix prefers
        ``drc`` and the faster ``.fits``, and takes ``drz`` where that has more of science and weight.

    Returns
    -------
    MosaicFiles

    Raises
    ------
    PhotplugError
        Where science or weight are missing, each by name, the name is not of DJA's grammar, or a server cannot be
        asked.
    """
    if isinstance(source, MosaicFiles):
        return source
    try:
        return _find_files(source)
    except (OSError, ValueError) as error:  # names that are too long, folders that may not be read, null characters
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise PhotplugError(
            f"{str(source)[:80]!r}: cannot be searched for ({reason}); give a mosaic prefix or one of its files"
        ) from None


def _find_files(source: str | Path) -> MosaicFiles:
    path = as_path(source)
    folder = path.parent
    asked = parse_source(path.name)
    if asked is None:
        raise PhotplugError(f"{source}: {explain_name(source)}")
    there = _list_members(folder, asked)
    if ProductName.parse(path.name) and path.name not in there:
        raise PhotplugError(f"{path}: no such file; {list_near(path)}")
    drizzle, found = _choose_images(there, asked)
    log = _log_of(asked)
    if not (log in there or any(found.values())):
        raise PhotplugError(f"{path}: no such mosaic; {_neighbours(folder, asked.mosaic)}")
    science, weight = found["sci"], found["wht"]
    if science is None or weight is None:
        missing = [f"{asked.mosaic}_{drizzle}_{kind}.fits[.gz]" for kind in REQUIRED_KINDS if found[kind] is None]
        raise PhotplugError(
            f"{folder / asked.mosaic}: {' and '.join(missing)} missing; put it next to the other products"
        )
    members = {kind: folder / name for kind, name in found.items() if name}
    return MosaicFiles(
        root=asked.root,
        filter=asked.filter,
        science=members["sci"],
        weight=members["wht"],
        exposure=members.get("exp"),
        variance=members.get("var"),
        wcs_log=folder / log if log in there else None,
        label=str(folder / _shorten(there, asked, drizzle, science)),
    )
