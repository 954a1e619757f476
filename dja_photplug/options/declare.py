"""How an option is declared: once, with its default, unit, bounds and help, and checked where it is made."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, TypedDict, TypeVar, cast

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.names import band_name

__all__ = ["Declaration", "Stage", "declarations", "flag_of", "label_value", "option"]

T = TypeVar("T")
Kind = type[float] | type[int] | type[str] | type[bool]

_ABSTRACT: dict[type, type] = {float: numbers.Real, int: numbers.Integral}


class Declaration(TypedDict):
    """What is known of an option: the metadata of its field."""

    help: str
    unit: str
    kind: Kind
    many: bool
    by_band: bool
    optional: bool
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    flag: str | None
    path: bool


def option(
    default: T,
    help: str,
    *,
    unit: str = "",
    kind: Kind | None = None,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    flag: str | None = None,
    by_band: bool = False,
    path: bool = False,
) -> T:
    """Declare one option: a dataclass field that carries all that Python, TOML and the command line need.

    Parameters
    ----------
    default : str, int, float, bool, tuple, dict or None
        A tuple makes it a list of values; ``{}`` a mapping from the names of bands to values of `kind`, in which a bare
        value has the name ``""`` until its band is known; None is a value too, and needs `kind`.
    help : str
        One line, for ``--help`` and the documentation.
    unit : str, optional
        Of the number, for help and messages.
    kind : type, optional
        Of one value; that of the default without it.
    choices : tuple of str, optional
        The only values.
    minimum, maximum : float, optional
    flag : str, optional
        On the command line, such as ``--sky``; the name of the field without it.
    by_band : bool, optional
        Whether it may also be such a mapping where it is None without one; a bare value stays what it is.
    path : bool, optional
        Whether it names files or folders: in the list of a survey they are relative to the list, and a catalogue is
        made again where such a file has changed.

    Returns
    -------
    dataclasses.Field
        For the body of a frozen dataclass that is a `Stage`; to type checkers it is the default.
    """
    declaration: Declaration = {
        "help": help,
        "unit": unit,
        "kind": kind or cast(Kind, type(default[0] if isinstance(default, tuple) else default)),
        "many": isinstance(default, tuple),
        "by_band": by_band or isinstance(default, dict),
        "optional": default is None,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "flag": flag,
        "path": path,
    }
    if isinstance(default, dict):
        return cast(T, dataclasses.field(default_factory=dict, hash=False, metadata=declaration))
    # A mapping has no hash.
    return dataclasses.field(default=default, hash=False if by_band else None, metadata=declaration)


def flag_of(name: str, meta: Declaration, stage: str = "") -> str:
    """Return the flag of an option.

    Parameters
    ----------
    name : str
        Of the option.
    meta : Declaration
    stage : str, optional
        Of a plugin's options, whose flags begin with it.

    Returns
    -------
    str
    """
    return meta["flag"] or "--" + "-".join(filter(None, [stage, name])).replace("_", "-")


def declarations(stage: Stage | type[Stage]) -> Iterator[tuple[str, Declaration]]:
    """Yield name and declaration of each option of a group; fields that are no options are passed over.

    Parameters
    ----------
    stage : Stage, or its class

    Yields
    ------
    name : str
        Of the field.
    declaration : Declaration
        As :func:`option` was told.
    """
    for field in dataclasses.fields(stage):
        if field.metadata:
            yield field.name, cast(Declaration, field.metadata)


_LABELS = {"arcsec": "ARCSEC", "d": "DAYS", "deg": "DEG", "mag": "MAG", "pix": "PIXELS", "uJy": "UJY"}


def label_value(name: str, meta: Declaration) -> str:
    """Return what stands for the value of an option in the help of its flag.

    Parameters
    ----------
    name : str
        Of the option.
    meta : Declaration

    Returns
    -------
    str
        Of numbers their unit, with ``,...`` where there may be several.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Sky(Stage):
    ...     mesh: float = option(2.0, "size of a cell", unit="arcsec")
    >>> [label_value(name, meta) for name, meta in declarations(Sky)]
    ['ARCSEC']
    """
    if meta["kind"] is str:
        return "PATH" if meta["path"] else name.upper()
    return _LABELS.get(meta["unit"], "N" if meta["kind"] is int else "NUMBER") + ",..." * meta["many"]


def _validate(name: str, value: object, meta: Declaration) -> object:
    """Return `value` in the field's own type, or raise an error that names field, value and bound."""
    if value is None and meta["optional"]:
        return None
    if meta["by_band"]:
        single: Declaration = {**meta, "by_band": False, "optional": False}
        by_band = _validate_bands(name, value, single)
        return by_band[""] if meta["optional"] and list(by_band) == [""] else by_band
    if meta["many"]:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise PhotplugError(f"option {name}: {value!r} is not a list; give several numbers")
        values = tuple(_validate(name, item, {**meta, "many": False}) for item in value)
        if not values:
            raise PhotplugError(f"option {name}: the list is empty; give at least one value")
        return values
    kind = meta["kind"]
    # Numbers of numpy are numbers; True is none.
    if not isinstance(value, _ABSTRACT.get(kind, kind)) or isinstance(value, bool) != (kind is bool):
        raise PhotplugError(f"option {name}: {value!r} is not of type {kind.__name__}")
    plain = kind(cast(float, value))
    if not isinstance(plain, str):
        _check_number(name, plain, meta)
    elif meta["choices"] and plain not in meta["choices"]:
        meant = suggest(plain, meta["choices"])
        raise PhotplugError(f"option {name}: {plain!r} is not one of {', '.join(meta['choices'])}{meant}")
    return plain


def _check_number(name: str, value: float, meta: Declaration) -> None:
    """Refuse a number that is not finite, or beyond its bounds."""
    low, high = meta["minimum"], meta["maximum"]
    if isinstance(value, float) and not math.isfinite(value):  # whole numbers may be larger than any float
        wrong = "not a finite number"
    elif low is not None and value < low:
        wrong = f"below its minimum {low}"
    elif high is not None and value > high:
        wrong = f"above its maximum {high}"
    else:
        return
    raise PhotplugError(f"option {name}: {value} is {wrong} {meta['unit']}".rstrip())


def _validate_bands(name: str, value: object, single: Declaration) -> dict[str, object]:
    """Return the values by the names of their bands; a bare one has the name ``""``."""
    given = value.items() if isinstance(value, Mapping) else value
    if value is None or (isinstance(given, Iterable) and not isinstance(given, str)):
        try:  # a mapping, or pairs as the command line gives them
            pairs = [(str(key), item) for key, item in cast(Iterable[tuple[object, object]], given)]
        except (TypeError, ValueError):
            raise PhotplugError(f"option {name}: {value!r} is not a value for each band, such as f444w = ...") from None
    else:
        pairs = [("", value)]
    values: dict[str, object] = {}
    for key, item in pairs:
        band = band_name(key.lower())
        if band in values:
            raise PhotplugError(f"option {name}: two values for {band or 'the only band'}; give one")
        values[band] = _validate(f"{name} of {key}" if key else name, item, single)
    if "" in values and len(values) > 1:
        raise PhotplugError(f"option {name}: {values['']} names no band, but others do; name the band of each")
    return values


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A group of options, each declared by :func:`option` and checked where it is made.

    A plugin's own group, which it names in ``photplug_options``, is a frozen dataclass of this class too: the table
    ``[name]`` of a TOML file, and the flags ``--name-option`` of the commands in ``commands``.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Flat(Stage):
    ...     error: float = option(0.02, "error of the flat field, as a fraction of the signal", minimum=0)
    >>> Flat(error=-1)
    Traceback (most recent call last):
        ...
    dja_photplug.errors.PhotplugError: option error: -1.0 is below its minimum 0
    """

    commands: ClassVar[tuple[str, ...]] = ()
    """Commands that get a plugin's options as flags, such as ``("catalog", "extend")``."""

    def __post_init__(self) -> None:
        """Check every field; numbers are stored in the field's own type."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata:
                valid = _validate(field.name, value, cast(Declaration, field.metadata))
                object.__setattr__(self, field.name, valid)
            elif isinstance(field.default, Stage) and not isinstance(value, type(field.default)):
                raise PhotplugError(f"option {field.name}: {value!r} is not of type {type(field.default).__name__}")
