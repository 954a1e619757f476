"""The names of the archive's products, taken apart and put together.

A mosaic is ``{root}-{filter}``; its products are ``_{drc,drz}_{sci,wht,exp,var}.fits[.gz]`` and ``_wcs.csv``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dja_photplug.files.formats import IMAGE_SUFFIXES

__all__ = [
    "DRIZZLES",
    "IMAGE_KINDS",
    "REQUIRED_KINDS",
    "ProductName",
    "band_name",
    "find_wavelength",
    "is_mosaic_name",
    "name_field",
    "parse_source",
]

REQUIRED_KINDS = ("sci", "wht")
IMAGE_KINDS = (*REQUIRED_KINDS, "exp", "var")
DRIZZLES = ("drc", "drz")

# One optical element: f444w, f115wn, f150w2, f350lpu, f1000w, f158mn.
_ELEMENT = r"f\d{3,4}[a-z]{1,3}2?"
# A module split, a NIRISS `clearp`, then the element, then what stands in series with it.
_FILTER = rf"(?:(?:nrc[ab]-)?(?:clearp-)?{_ELEMENT}(?:-(?:clear|gr150[cr]|grism[cr]|{_ELEMENT}))?|ir)"
_MOSAIC = rf"(?P<root>.+?)-(?P<filter>{_FILTER})"
_PRODUCT = re.compile(
    rf"{_MOSAIC}_(?:(?P<drizzle>dr[cz])_(?P<kind>sci|wht|exp|var)(?P<suffix>\.fits(?:\.gz)?)|(?P<log>wcs)\.csv)"
)
_PREFIX = re.compile(rf"{_MOSAIC}(?:_(?P<drizzle>dr[cz]))?_?")
# Filters of ACS and WFC3/UVIS have their wavelength in nm; all others have it in 10 nm.
_NANOMETRES = re.compile(r"f(218|225|275|300|336|350|390|435|438|475|555|600|606|625|775|814|850)(w|lp|x)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductName:
    """The parts of a product's file name; ``str()`` builds the name again.

    Attributes
    ----------
    root, filter : str
        Field with version, and filter as in the name, ``f444w-clear``.
    kind : str
        ``sci``, ``wht``, ``exp``, ``var`` or ``wcs`` (the log).
    drizzle : str
        ``drc`` or ``drz``; empty for the log, which has none.
    suffix : str
        ``.fits`` or ``.fits.gz``; ``.csv`` for the log.

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
    drizzle: str = ""
    suffix: str = ".csv"

    @classmethod
    def parse(cls, name: str) -> ProductName | None:
        """Return the parts of a file name.

        Parameters
        ----------
        name : str
            Without a folder.

        Returns
        -------
        ProductName or None
            None where it is no image, weight, exposure, variance or log.
        """
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

    Parameters
    ----------
    filter : str
        As in the archive's names of files, in lower case.

    Returns
    -------
    str
        Without ``-clear``, and with ``_`` for hyphens; ``clearp-``, which only NIRISS has, becomes an ``n`` at the end.

    Examples
    --------
    >>> [band_name(f) for f in ("f444w-clear", "clearp-f356w", "f444w-grismr", "nrca-f250m-clear", "f814w")]
    ['f444w', 'f356wn', 'f444w_grismr', 'nrca_f250m', 'f814w']
    """
    band = filter.removesuffix("-clear")
    if band.startswith("clearp-"):  # NIRISS, whose other filters are spelt f115wn
        band = band.removeprefix("clearp-") + "n"
    return band.replace("-", "_")


def find_wavelength(band: str, header: Mapping[str, object] | None = None) -> float:
    """Return the wavelength of a band.

    Parameters
    ----------
    band : str
        As in the names of columns.
    header : mapping, optional
        Of its mosaic; its PHOTPLAM is the pivot wavelength in Angstrom.

    Returns
    -------
    float
        In micron; without PHOTPLAM as the name tells it, NaN where it tells none.

    Examples
    --------
    >>> [find_wavelength(band) for band in ("f444w", "f814w", "f160w", "f1500w", "f115wn", "ir")]
    [4.44, 0.814, 1.6, 15.0, 1.15, nan]
    """
    pivot = (header or {}).get("PHOTPLAM")
    if isinstance(pivot, float | int) and pivot > 0:
        return float(pivot) / 1e4
    element = re.search(r"(?:^|_)f(\d{3,4})[a-z]", band)
    if element is None:
        return math.nan
    return int(element[1]) / (1000 if _NANOMETRES.search(band) else 100)


def parse_source(name: str) -> ProductName | None:
    """Return the parts of a member's name, or those of the science image that a prefix stands for.

    Parameters
    ----------
    name : str
        Without a folder.

    Returns
    -------
    ProductName or None
        None for another name.
    """
    prefix = _PREFIX.fullmatch(name)
    if prefix is None:
        return ProductName.parse(name)
    return ProductName(**prefix.groupdict(default=""), kind="sci", suffix=IMAGE_SUFFIXES[0])


def name_field(mosaics: Sequence[str]) -> str:
    """Return the name of a field that mosaics are of.

    Parameters
    ----------
    mosaics : sequence of str
        Prefixes or files, also with folders.

    Returns
    -------
    str
        The root of all; without one that all have, the name of the first, or nothing.

    Examples
    --------
    >>> name_field(["data/uds-v7-f444w-clear", "data/uds-v7-f115w-clear"])
    'uds-v7'
    """
    names = [parse_source(Path(name).name) for name in mosaics]
    roots = {name.root for name in names if name is not None}
    return roots.pop() if len(roots) == 1 else Path(next(iter(mosaics), "")).name


def is_mosaic_name(text: str | Path) -> bool:
    """Return whether a path has the name of a DJA mosaic or of one of its products.

    Parameters
    ----------
    text : str or Path
        A prefix, or the path of a member; neither need exist.

    Returns
    -------
    bool
        Whether ``find_mosaic`` would look for its files.
    """
    return parse_source(Path(text).name) is not None
