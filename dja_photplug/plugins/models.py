"""Noise models of plugins, which are called after their hook: each block that they give is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dja_photplug.plugins.calls import blame
from dja_photplug.plugins.checks import needs_plane

if TYPE_CHECKING:
    from dja_photplug.mosaic.models.fullweight import Cards, NoiseModel

__all__ = ["GuardedModel"]

Plane = NDArray[np.float32]
_HOOK = "photplug_variance"


@dataclass(frozen=True, slots=True)
class GuardedModel:
    """The noise model of a plugin: what it is handed stays as it is, and what it gives is a weight of each pixel.

    Attributes
    ----------
    model : NoiseModel
    plugins : tuple of str
        The plugin that it is of, or those that it may be of.
    """

    model: NoiseModel
    plugins: tuple[str, ...]

    def __call__(self, science: Plane, weight: Plane, rows: slice, /) -> Plane:
        """Return the full weight of `rows`, as the plugin gives it.

        Raises
        ------
        PhotplugError
            With the plugin's name, where it gives none, or something else.
        """
        full = self.model(_protect(science), _protect(weight), rows)
        fault = needs_plane("weight", full, science.shape)
        if fault is not None:
            raise blame(self.plugins, _HOOK, f"its noise model {fault}")
        return full

    @property
    def provenance(self) -> Cards:
        """The plugin's cards.

        Raises
        ------
        PhotplugError
            With the plugin's name, where they are none.
        """
        cards = self.model.provenance
        for key, card in cards.items() if isinstance(cards, Mapping) else [(cards, None)]:
            if not (isinstance(key, str) and _is_card(card)):
                told = f"its noise model gave the card {key!r} as {card!r}; give a text or a number, and a comment"
                raise blame(self.plugins, _HOOK, told)
        return cards


def _protect(plane: Plane) -> Plane:
    """Return a view that cannot be written to: the image's pixels are no scratch of a model."""
    view = plane.view()
    view.flags.writeable = False
    return view


def _is_card(card: object) -> bool:
    """Return whether a card is a value that a header holds, and a comment."""
    if not (isinstance(card, Sequence) and not isinstance(card, str) and len(card) == 2):
        return False
    value, comment = card
    return isinstance(value, str | bool | int | float | np.number | np.bool_ | None) and isinstance(comment, str)
