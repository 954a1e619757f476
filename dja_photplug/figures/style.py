"""What all figures share: colours, and the guard for matplotlib, which is an extra."""

from __future__ import annotations

from importlib.util import find_spec

from dja_photplug.errors import PhotplugError

__all__ = ["BLUE", "GREEN", "NO_DATA", "ORANGE", "require_matplotlib"]


# Of the palette of Okabe & Ito, told apart with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


NO_DATA = "#C8D4E3"


def require_matplotlib() -> None:
    """Raise an error that tells how to install matplotlib, where it is missing."""
    if find_spec("matplotlib") is None:
        raise PhotplugError('figures need matplotlib, which is not installed; pip install "dja_photplug[plot]"')
