"""Pixels with a published weight that have no full one, which is told where they are many."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dja_photplug.errors import PhotplugWarning

if TYPE_CHECKING:
    from dja_photplug.mosaic.models.fullweight import NoiseModel

__all__ = ["CountedModel", "tell_uncovered"]

# The published growth leaves 0.2 % of a real mosaic without exposure time, and at most 4 % of so few pixels.
MOST_UNCOVERED, FEWEST_UNCOVERED = 0.1, 2500
UNEXPOSED = (
    "have no exposure time, or are not finite, and are treated as having no data; give the exposure map of the whole "
    "image"
)


@runtime_checkable
class CountedModel(Protocol):
    """The noise model of a plugin, or of one of some, which counts what it gives."""

    @property
    def n_null(self) -> int:
        """How many pixels with a published weight have no full one, of all blocks so far."""

    @property
    def lacking(self) -> str:
        """What is said of these pixels."""


def tell_uncovered(model: NoiseModel, number: int, most: float = MOST_UNCOVERED, name: str = "") -> None:
    """Warn where an exposure map, or the noise model of a plugin, leaves much of an image without data.

    Parameters
    ----------
    model : NoiseModel
        After its last block.
    number : int
        Pixels of all these blocks with a published weight.
    most : float, optional
        Fraction of the pixels with weight that is not told.
    name : str, optional
        Of the image, for the message.
    """
    null, why = model.provenance.get("NNULL", (0, ""))[0], f"{UNEXPOSED}, or use the noise preset 'background'"
    if isinstance(model, CountedModel):
        null, why = model.n_null, model.lacking
    if number >= FEWEST_UNCOVERED and float(null) > most * number:
        told = f"{float(null) / number:.0%} of the pixels with weight {why}"
        warnings.warn(f"{name}: {told}" if name else told, PhotplugWarning, stacklevel=2)
