"""Noise models of plugins, which are called after their hook: each block that they give is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    counts : list of tuple
        Of each block that it was asked for: how many pixels have a published weight, and how many of them it gave none.
    """

    model: NoiseModel
    plugins: tuple[str, ...]
    counts: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, science: Plane, weight: Plane, rows: slice, /) -> Plane:
        """Return the full weight of `rows`, as the plugin gives it, and 0 where that is none.

        Raises
        ------
        PhotplugError
            With the plugin's name, where it gives none, or something else.
        """
        full = self.model(_protect(science), _protect(weight), rows)
        fault = needs_plane("weight", full, science.shape)
        if fault is not None:
            raise blame(self.plugins, _HOOK, f"its noise model {fault}")
        known, given = weight > 0, np.asarray(full)
        fine = (given > 0) & (given < np.inf)
        self.counts.append((int(np.count_nonzero(known)), int(np.count_nonzero(known & ~fine))))
        return full if fine.all() else np.where(fine, given, 0).astype(given.dtype)

    @property
    def n_null(self) -> int:
        """How many pixels with a published weight have no full one: 0, negative or NaN."""
        return sum(null for _, null in self.counts)

    @property
    def lacking(self) -> str:
        """What is said of these pixels, of which whoever made them should know."""
        return (
            f"get none from the noise model of plugin {' or '.join(map(repr, self.plugins))}, and count as without data"
        )

    @property
    def provenance(self) -> Cards:
        """The plugin's cards.

        Raises
        ------
        PhotplugError
            With the plugin's name, where they are none, or it gave no pixel at all a weight.
        """
        number = sum(known for known, _ in self.counts)
        if number and self.n_null == number:
            told = f"its noise model gave no positive weight to any of {number} pixels with a published one; give the "
            raise blame(self.plugins, _HOOK, f"{told}inverse variance of each, and 0 only where there are no data")
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
