"""How a kind of catalogue is described: its columns, their units and conventions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from astropy.table import Table

from dja_photplug.errors import PhotplugError

__all__ = ["CatalogSchema", "ShapeColumns", "find_column", "find_pair"]

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeColumns:
    """The columns of a shape.

    Attributes
    ----------
    a, b : str
        Rms of the light along both axes.
    theta : tuple of str
        Angle of the major axis: the first of these columns that there is.
    unit : {'pix', 'arcsec', 'deg'}
        Of both axes, where the column tells no unit of angle; ``pix`` is a pixel of the catalogue's own image.
    angle : {'deg', 'rad'}
        Unit of the angle, where the column tells none.
    zero : {'x', 'north'}
        Where the angle is 0: counter-clockwise from +x of the catalogue's own image, or from north to east.
    """

    a: str
    b: str
    theta: tuple[str, ...]
    unit: str = "pix"
    angle: str = "deg"
    zero: str = "x"

    def __post_init__(self) -> None:
        """Refuse units and conventions that there are none of."""
        for name, known in (("unit", ("pix", "arcsec", "deg")), ("angle", ("deg", "rad")), ("zero", ("x", "north"))):
            if getattr(self, name) not in known:
                raise PhotplugError(
                    f"the {name} of a schema must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSchema:
    """A kind of catalogue: how it is recognised, and what its columns mean. Names count in any case.

    Attributes
    ----------
    name : str
        What ``--schema`` takes.
    title : str
        Whose catalogues they are.
    marks : tuple of str
        Regular expressions of names, for each of which there is a column; none for a schema that is only chosen by
        name.
    lacks : tuple of str
        Regular expressions of names of which there is no column.
    position : tuple of pair
        Names of right ascension and declination: the first pair that there is. Without it the usual names.
    ids : tuple of str
        Names of the source number: the first that there is.
    places : tuple of pair
        Names of x and y in pixels of the catalogue's own image: the first pair that there is.
    origin : int
        Number of the first pixel, whose centre is there.
    shapes : tuple of ShapeColumns
        The first of which there are both axes.
    kron : str
        Kron radius in units of a and b; empty where there is none.
    kron_factor : float
        What makes the scaled radius of the aperture of it: 1 where it is scaled already.
    kron_key : str
        Key of the metadata whose value, or first value, is that factor.
    radius : tuple of str
        Half-light radius, in the unit of the axes where the column tells none.
    auto, auto_error : str
        Flux in the Kron aperture, and its error.
    aperture : str
        Flux in a circle, with ``{i}`` for its number.
    diameter : str
        Key of the metadata, with ``{i}``, of that circle's diameter in arcsec.
    flux_unit : str
        Of the fluxes, where the columns tell none; empty where it is not known.
    zero_point : str
        Key of the metadata of the AB magnitude of a flux of 1, for fluxes in counts or without a unit.
    scales : tuple of str
        Keys of the metadata that tell a pixel's scale in arcsec; ``A/B`` for the quotient of two.
    missing : tuple of float
        What stands for a value that there is none of, beside NaN.
    hdu : str
        Name of the table, in a file of several.
    """

    name: str
    title: str
    marks: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    position: tuple[Pair, ...] = ()
    ids: tuple[str, ...] = ("id", "number")
    places: tuple[Pair, ...] = (("x", "y"),)
    origin: int = 0
    shapes: tuple[ShapeColumns, ...] = ()
    kron: str = "kron_radius"
    kron_factor: float = 1.0
    kron_key: str = ""
    radius: tuple[str, ...] = ("flux_radius",)
    auto: str = "flux_auto"
    auto_error: str = "fluxerr_auto"
    aperture: str = "flux_aper_{i}"
    diameter: str = "ASEC_{i}"
    flux_unit: str = ""
    zero_point: str = ""
    scales: tuple[str, ...] = ()
    missing: tuple[float, ...] = ()
    hdu: str = ""

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Return what keeps a catalogue from being of this kind.

        Parameters
        ----------
        names : sequence of str
            Of its columns.

        Returns
        -------
        list of str
            Marks that it has no column of, and columns that it should not have; empty where it fits.
        """
        return [mark for mark in self.marks if not _matching(mark, names)] + [
            name for mark in self.lacks for name in _matching(mark, names)
        ]


def _matching(mark: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if re.fullmatch(mark, name, re.IGNORECASE)]


def find_column(table: Table, names: Iterable[str]) -> str | None:
    """Return the name, as a table has it, of the first of these columns that it has.

    Parameters
    ----------
    table : `~astropy.table.Table`
    names : iterable of str
        In any case; a column of the same case goes before others.

    Returns
    -------
    str or None

    Examples
    --------
    >>> find_column(Table({"ID": [1], "NUMBER": [1]}), ("number", "id"))
    'NUMBER'
    """
    lower = {name.lower(): name for name in reversed(table.colnames)}
    for name in names:
        if name in table.colnames:
            return name
        if name.lower() in lower:
            return lower[name.lower()]
    return None


def find_pair(table: Table, pairs: Iterable[Pair]) -> Pair | None:
    """Return the names of the first pair of columns of which a table has both.

    Parameters
    ----------
    table : `~astropy.table.Table`
    pairs : iterable of pair of str
        In any case.

    Returns
    -------
    pair of str or None
    """
    for one, two in pairs:
        first, second = find_column(table, [one]), find_column(table, [two])
        if first and second:
            return first, second
    return None
