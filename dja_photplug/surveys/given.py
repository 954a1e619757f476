"""What flags and the list give for the options of a field, and which of it has no effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dja_photplug.options.arguments import Layer
from dja_photplug.options.effects import describe_idle, describe_idle_keys
from dja_photplug.options.run import Options

__all__ = ["Given", "describe_idle_fields"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was given for the options of a field.

    Attributes
    ----------
    flags : frozenset of str
        Of the command line, ``stage.option``: for all fields.
    every : Layer
        Of the list, for all fields.
    own : Layer
        Of the list, for this field.
    """

    flags: frozenset[str]
    every: Layer
    own: Layer

    @property
    def alone(self) -> frozenset[str]:
        """Options that are of this field alone, ``stage.option``."""
        return _names(self.own) - self.flags

    @property
    def shared(self) -> frozenset[str]:
        """Options that the list gives for all fields, and that nobody overrides in this one."""
        return _names(self.every) - self.alone - self.flags


def _names(layer: Layer) -> frozenset[str]:
    return frozenset(f"{group}.{option}" for group, values in layer.values.items() for option in values)


def describe_idle_fields(fields: Sequence[tuple[str, Options, Given]]) -> list[str]:
    """Return what was given and has no effect, and why.

    Parameters
    ----------
    fields : sequence of tuple
        Name of each field, its options, and what was given for them.

    Returns
    -------
    list of str
        A line for each reason, which begins with the fields where they are not all. What the list gives for all of
        them is told only where it has an effect in none: it is for those that it concerns, as values of bands are.
    """
    shared: dict[str, list[str]] = {}
    own: list[str] = []
    acting = _find_acting(fields)
    for name, options, given in fields:
        lines = describe_idle(options, given.flags)
        lines += describe_idle_keys(options, given.every, given.shared - acting, given.flags)
        for line in lines:
            shared.setdefault(line, []).append(name)
        own += describe_idle_keys(options, given.own, given.alone, given.flags)
    names = [name for name, _, _ in fields]
    return [*(line if idle == names else f"{', '.join(idle)}: {line}" for line, idle in shared.items()), *own]


def _find_acting(fields: Sequence[tuple[str, Options, Given]]) -> set[str]:
    """Return the options of the list for all fields that have an effect in one."""
    return {
        option
        for _, options, given in fields
        for option in given.shared
        if not describe_idle_keys(options, given.every, [option], given.flags)
    }
