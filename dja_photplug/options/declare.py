"""How an option is declared: once, with its default, unit, bounds and help, and checked where it is made."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import band_name

__all__ = ["Stage", "option"]

_ABSTRACT: dict[type, type] = {float: numbers.Real, int: numbers.Integral}


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    kind: type | None = None,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    flag: str | None = None,
) -> Any:
    """Declare one option: a dataclass field that carries all that Python, TOML and the command line need.

    A default of ``{}`` makes it a mapping from the names of bands to values of `kind`.
    """
    given: dict[str, Any] = {"default_factory": dict, "hash": False} if default == {} else {"default": default}
    return dataclasses.field(
        **given,
        metadata={
            "help": help,
            "unit": unit,
            "kind": kind or (type(default[0]) if isinstance(default, tuple) else type(default)),
            "many": isinstance(default, tuple),
            "by_band": isinstance(default, dict),
            "optional": default is None,
            "choices": choices,
            "minimum": minimum,
            "maximum": maximum,
            "flag": flag,
        },
    )


def _validate(name: str, value: Any, meta: Mapping[str, Any]) -> Any:
    """Return `value` in the field's own type, or raise an error that names field, value and bound."""
    if value is None and meta["optional"]:
        return None
    if meta["by_band"]:
        single = {**meta, "by_band": False}
        try:
            by_band = dict(value)  # or pairs, as the command line gives them
        except (TypeError, ValueError):
            raise PhotplugError(f"option {name}: {value!r} is not a value for each band, such as f444w = ...") from None
        return {
            band_name(str(band).lower()): _validate(f"{name} of {band}", item, single) for band, item in by_band.items()
        }
    if meta["many"]:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise PhotplugError(f"option {name}: {value!r} is not a list; give several numbers")
        single = {**meta, "many": False}
        values = tuple(_validate(name, item, single) for item in value)
        if not values:
            raise PhotplugError(f"option {name}: the list is empty; give at least one value")
        return values
    kind = meta["kind"]
    # Numbers of numpy are numbers; True is none.
    if not isinstance(value, _ABSTRACT.get(kind, kind)) or isinstance(value, bool) != (kind is bool):
        raise PhotplugError(f"option {name}: {value!r} is not of type {kind.__name__}")
    value = kind(value)
    if kind is float and not math.isfinite(value):
        raise PhotplugError(f"option {name}: {value} is not a finite number {meta['unit']}".rstrip())
    if meta["choices"] and value not in meta["choices"]:
        raise PhotplugError(f"option {name}: {value!r} is not one of {', '.join(meta['choices'])}")
    low, high = meta["minimum"], meta["maximum"]
    if low is not None and value < low:
        raise PhotplugError(f"option {name}: {value} is below its minimum {low} {meta['unit']}".rstrip())
    if high is not None and value > high:
        raise PhotplugError(f"option {name}: {value} is above its maximum {high} {meta['unit']}".rstrip())
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A group of options, each declared by :func:`option` and checked where it is made."""

    def __post_init__(self) -> None:
        """Check every field; numbers are stored in the field's own type."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata:
                object.__setattr__(self, field.name, _validate(field.name, value, field.metadata))
            elif isinstance(field.default, Stage) and not isinstance(value, type(field.default)):
                raise PhotplugError(f"option {field.name}: {value!r} is not of type {type(field.default).__name__}")
