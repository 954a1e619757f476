"""The options of the plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dja_photplug.plugin import Stage, option

PRESET = "flat"
"""The plugin's noise preset, ``--noise flat``: a name that nobody else has."""


@dataclass(frozen=True, kw_only=True)
class FlatOptions(Stage):
    """The table ``[flat]`` of TOML files."""

    commands: ClassVar[tuple[str, ...]] = ("catalog", "extend", "galfit", "inject", "weight")

    error: float = option(0.01, "error of the flat field, as a fraction of the signal", minimum=0, maximum=1)
