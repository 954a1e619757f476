"""What a command has to say, at once as lines of text and as JSON, so that neither knows what the other does not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["Facts", "Json", "add_json"]

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"


def add_json(command: argparse.ArgumentParser, what: str = "") -> None:
    """Give a command the flag ``--json``.

    Parameters
    ----------
    command : ArgumentParser
    what : str, optional
        Of what it says, where not all.
    """
    command.add_argument(
        "--json", action="store_true", help=f"print {what}JSON, with units in the keys or next to the values"
    )


class Facts:
    """Lines of text, and the values that they tell by stable keys, in which units stand."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._values: dict[str, Json] = {}

    def tell(self, lines: str | Sequence[str], values: Mapping[str, Json]) -> None:
        """Add a fact.

        Parameters
        ----------
        lines : str or sequence of str
            In words.
        values : mapping
            By key; those of a key that there is are joined to its own where both are lists.
        """
        self._lines += [lines] if isinstance(lines, str) else lines
        for key, value in values.items():
            known = self._values.get(key)
            if isinstance(known, list) and isinstance(value, list):
                value = [*known, *value]
            self._values[key] = value

    def print(self, *, as_json: bool) -> None:
        """Print them.

        Parameters
        ----------
        as_json : bool
            As JSON in which what is not known is null.
        """
        print(json.dumps(self._values, indent=2, allow_nan=False) if as_json else "\n".join(self._lines))
