"""File names of DJA mosaics, and the files that belong to one mosaic.

A mosaic is ``{root}-{filter}``; its products are ``_{drc,drz}_{sci,wht,exp,var}.fits[.gz]`` and ``_wcs.csv``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from dja_photplug.errors import PhotplugError

__all__ = ["MosaicFiles", "ProductName", "band_name", "find_mosaic", "is_mosaic_name"]

IMAGE_KINDS = ("sci", "wht", "exp", "var")
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
        return f"{self.root}-{self.filter}{drizzle}_{self.kind}{self.suffix}"

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


def is_mosaic_name(source: str | Path | MosaicFiles) -> bool:
    """Return whether `source` is a mosaic's files, or has the name of a DJA mosaic or of one of its products."""
    if isinstance(source, MosaicFiles):
        return True
    name = Path(source).name
    return bool(ProductName.parse(name) or _PREFIX.fullmatch(name))


def _locate(folder: Path, root: str, filter: str, kind: str, drizzle: str, suffixes: tuple[str, ...]) -> Path | None:
    names = [ProductName(root=root, filter=filter, kind=kind, drizzle=drizzle, suffix=s) for s in suffixes]
    return next((path for path in (folder / str(name) for name in names) if path.exists()), None)


def _neighbours(folder: Path, mosaic: str) -> str:
    """Return what to tell somebody whose mosaic is not in `folder`."""
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    parsed = (ProductName.parse(path.name) for path in folder.iterdir())
    there = sorted({f"{name.root}-{name.filter}" for name in parsed if name})
    close = difflib.get_close_matches(mosaic, there, n=3, cutoff=0.5) or there[:3]
    return f"the folder {folder} holds {', '.join(close)}" if close else f"the folder {folder} holds no DJA products"


def find_mosaic(source: str | Path | MosaicFiles) -> MosaicFiles:
    """Find the files of a mosaic.

    Parameters
    ----------
    source : str, Path or MosaicFiles
        A prefix (``folder/{root}-{filter}``, also with ``_drc``) or the path of any member. A member decides
        between ``drc`` and ``drz`` and, where both exist, between ``.fits`` and ``.fits.gz``; a prefix prefers
        ``drc`` and the faster ``.fits``.

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
    member = ProductName.parse(path.name)
    prefix = _PREFIX.fullmatch(path.name)
    if member is None and prefix is None:
        raise PhotplugError(
            f"{path}: not the name of a DJA mosaic ({{root}}-{{filter}}, such as gds-grizli-v7.2-f444w-clear); "
            "give the prefix or a member file"
        )
    root, filter = (member.root, member.filter) if member else (prefix["root"], prefix["filter"])  # type: ignore[index]
    if member and not path.exists():
        raise PhotplugError(f"{path}: no such file; {_neighbours(folder, f'{root}-{filter}')}")
    chosen = member.drizzle if member else prefix["drizzle"]  # type: ignore[index]
    suffixes = tuple(sorted(SUFFIXES, key=lambda s: s != member.suffix)) if member else SUFFIXES
    for drizzle in (chosen,) if chosen else DRIZZLES:
        found = {kind: _locate(folder, root, filter, kind, drizzle, suffixes) for kind in IMAGE_KINDS}
        if any(found.values()):
            break
    log = folder / str(ProductName(root=root, filter=filter, kind="wcs"))
    if not any(found.values()) and not log.exists():
        raise PhotplugError(f"{folder / f'{root}-{filter}'}: no such mosaic; {_neighbours(folder, f'{root}-{filter}')}")
    if not any(found.values()):
        drizzle = DRIZZLES[0]
    missing = [f"{root}-{filter}_{drizzle}_{kind}.fits[.gz]" for kind in ("sci", "wht") if found[kind] is None]
    if missing:
        raise PhotplugError(
            f"{folder / f'{root}-{filter}'}: {' and '.join(missing)} missing; put it beside the other products"
        )
    return MosaicFiles(
        root=root,
        filter=filter,
        science=found["sci"],  # type: ignore[arg-type]
        weight=found["wht"],  # type: ignore[arg-type]
        exposure=found["exp"],
        variance=found["var"],
        wcs_log=log if log.exists() else None,
    )
