"""File names of DJA mosaics, and the files that belong to one mosaic.

A mosaic is ``{root}-{filter}``; its products are ``_{drc,drz}_{sci,wht,exp,var}.fits[.gz]`` and ``_wcs.csv``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from dja_photplug.errors import PhotplugError

__all__ = ["MosaicFiles", "ProductName", "band_name", "find_mosaic", "is_mosaic_name"]

REQUIRED_KINDS = ("sci", "wht")
IMAGE_KINDS = (*REQUIRED_KINDS, "exp", "var")
DRIZZLES = ("drc", "drz")
SUFFIXES = (".fits", ".fits.gz")

# One optical element: f444w, f115wn, f150w2, f350lpu, f1000w, f158mn.
_ELEMENT = r"f\d{3,4}[a-z]{1,3}2?"
# A module split, a NIRISS `clearp`, then the element, then what stands in series with it.
_FILTER = rf"(?:(?:nrc[ab]-)?(?:clearp-)?{_ELEMENT}(?:-(?:clear|gr150[cr]|grism[cr]|{_ELEMENT}))?|ir)"
_MOSAIC = rf"(?P<root>.+?)-(?P<filter>{_FILTER})"
_PRODUCT = re.compile(
    rf"{_MOSAIC}_(?:(?P<drizzle>dr[cz])_(?P<kind>sci|wht|exp|var)(?P<suffix>\.fits(?:\.gz)?)|(?P<log>wcs)\.csv)"
)
_PREFIX = re.compile(rf"{_MOSAIC}(?:_(?P<drizzle>dr[cz]))?_?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductName:
    """The parts of a product's file name; ``str()`` builds the name again.

    Examples
    --------
    >>> name = ProductName.parse("gds-grizli-v7.2-clearp-f356w_drc_sci.fits.gz")
    >>> name.root, name.filter, name.kind, name.band
    ('gds-grizli-v7.2', 'clearp-f356w', 'sci', 'f356wn')
    >>> str(name)
    'gds-grizli-v7.2-clearp-f356w_drc_sci.fits.gz'
    >>> ProductName.parse("gds-grizli-v7.2-ir_seg.fits.gz") is None
    True
    """

    root: str
    filter: str
    kind: str
    """``sci``, ``wht``, ``exp``, ``var`` or ``wcs`` (the log)."""
    drizzle: str = ""
    """``drc`` or ``drz``; empty for the log, which has none."""
    suffix: str = ".csv"

    @classmethod
    def parse(cls, name: str) -> ProductName | None:
        """Return the parts of a file name, or None where it is no image, weight, exposure, variance or log."""
        match = _PRODUCT.fullmatch(name)
        if match is None:
            return None
        parts = match.groupdict()
        if parts.pop("log"):
            return cls(root=parts["root"], filter=parts["filter"], kind="wcs")
        return cls(**parts)

    def __str__(self) -> str:
        drizzle = f"_{self.drizzle}" if self.drizzle else ""
        return f"{self.mosaic}{drizzle}_{self.kind}{self.suffix}"

    @property
    def mosaic(self) -> str:
        """The name of the mosaic, ``{root}-{filter}``."""
        return f"{self.root}-{self.filter}"

    @property
    def band(self) -> str:
        """The band's name in catalogue columns."""
        return band_name(self.filter)


def band_name(filter: str) -> str:
    """Return the name of a filter in catalogue columns.

    Examples
    --------
    >>> [band_name(f) for f in ("f444w-clear", "clearp-f356w", "f444w-grismr", "nrca-f250m-clear", "f814w")]
    ['f444w', 'f356wn', 'f444w_grismr', 'nrca_f250m', 'f814w']
    """
    band = filter.removesuffix("-clear")
    if band.startswith("clearp-"):  # NIRISS, whose other filters are spelt f115wn
        band = band.removeprefix("clearp-") + "n"
    return band.replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicFiles:
    """The files of one mosaic; those that do not exist are None."""

    root: str
    filter: str
    science: Path
    weight: Path
    exposure: Path | None = None
    variance: Path | None = None
    wcs_log: Path | None = None

    @property
    def band(self) -> str:
        """The band's name in catalogue columns."""
        return band_name(self.filter)

    @property
    def name(self) -> str:
        """The mosaic's name, ``{root}-{filter}``."""
        return f"{self.root}-{self.filter}"

    def __str__(self) -> str:
        return str(self.science.parent / self.name)


def _parse_source(name: str) -> ProductName | None:
    """Return the parts of a member's name, or those of the science image that a prefix stands for."""
    prefix = _PREFIX.fullmatch(name)
    if prefix is None:
        return ProductName.parse(name)
    return ProductName(**prefix.groupdict(default=""), kind="sci", suffix=SUFFIXES[0])


def is_mosaic_name(source: str | Path | MosaicFiles) -> bool:
    """Return whether `source` is a mosaic's files, or has the name of a DJA mosaic or of one of its products."""
    return isinstance(source, MosaicFiles) or _parse_source(Path(source).name) is not None


def _neighbours(folder: Path, wanted: str) -> str:
    """Return what to tell somebody whose mosaic, or member, `wanted` is not in `folder`."""
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    products = [name for name in (ProductName.parse(path.name) for path in folder.iterdir()) if name]
    there = sorted({str(name) if ProductName.parse(wanted) else name.mosaic for name in products})
    close = difflib.get_close_matches(wanted, there, n=3, cutoff=0.5) or there[:3]
    others = " and others" if len(there) > len(close) else ""
    return f"the folder {folder} holds {', '.join(close) or 'no DJA products'}{others}"


def _find_images(folder: Path, asked: ProductName, drizzle: str) -> dict[str, Path | None]:
    """Return the file of each kind of image; where both suffixes exist, the one that was asked for."""
    found: dict[str, Path | None] = {}
    for kind in IMAGE_KINDS:
        names = (
            replace(asked, drizzle=drizzle, kind=kind, suffix=suffix)
            for suffix in sorted(SUFFIXES, key=lambda suffix: suffix != asked.suffix)
        )
        found[kind] = next((path for path in (folder / str(name) for name in names) if path.is_file()), None)
    return found


def _completeness(found: dict[str, Path | None]) -> tuple[bool, ...]:
    return (*(found[kind] is not None for kind in REQUIRED_KINDS), any(found.values()))


def find_mosaic(source: str | Path | MosaicFiles) -> MosaicFiles:
    """Find the files of a mosaic.

    Parameters
    ----------
    source : str, Path or MosaicFiles
        A prefix (``folder/{root}-{filter}``, also with ``_drc``) or the path of any member. A member decides
        between ``drc`` and ``drz`` and, where both exist, between ``.fits`` and ``.fits.gz``; a prefix prefers
        ``drc`` and the faster ``.fits``, and takes ``drz`` where that has more of science and weight.

    Returns
    -------
    MosaicFiles

    Raises
    ------
    PhotplugError
        Where science or weight are missing, each by name, or the name is not of DJA's grammar.
    """
    if isinstance(source, MosaicFiles):
        return source
    path = Path(source)
    folder = path.parent
    asked = _parse_source(path.name)
    if asked is None:
        raise PhotplugError(
            f"{path}: not the name of a DJA mosaic ({{root}}-{{filter}}, such as gds-grizli-v7.2-f444w-clear); give "
            f"a prefix or a member file; {_neighbours(path if path.is_dir() else folder, path.name)}"
        )
    if ProductName.parse(path.name) and not path.is_file():
        raise PhotplugError(f"{path}: no such file; {_neighbours(folder, path.name)}")
    images = {drizzle: _find_images(folder, asked, drizzle) for drizzle in DRIZZLES if asked.drizzle in ("", drizzle)}
    drizzle = max(images, key=lambda drizzle: _completeness(images[drizzle]))
    found = images[drizzle]
    log = folder / str(replace(asked, drizzle="", kind="wcs", suffix=".csv"))
    if not (log.is_file() or any(found.values())):
        raise PhotplugError(f"{path}: no such mosaic; {_neighbours(folder, asked.mosaic)}")
    science, weight = found["sci"], found["wht"]
    if science is None or weight is None:
        missing = [f"{asked.mosaic}_{drizzle}_{kind}.fits[.gz]" for kind in REQUIRED_KINDS if found[kind] is None]
        raise PhotplugError(
            f"{folder / asked.mosaic}: {' and '.join(missing)} missing; put it beside the other products"
        )
    return MosaicFiles(
        root=asked.root,
        filter=asked.filter,
        science=science,
        weight=weight,
        exposure=found["exp"],
        variance=found["var"],
        wcs_log=log if log.is_file() else None,
    )
