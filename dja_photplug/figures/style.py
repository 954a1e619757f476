"""What all figures share: colours, the guard for matplotlib, which is an extra, and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import PLOT_SUFFIXES
from dja_photplug.outputs.whole import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "NO_DATA", "ORANGE", "PALETTE", "require_matplotlib", "save_figure"]

# Of the palette of Okabe & Ito, told apart with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
# Of Okabe & Ito without its yellow, which is pale on white: for depth zones, regions, programs.
PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
NO_DATA = "#C8D4E3"


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib, and tell how to install it.

    Raises
    ------
    PhotplugError
        Where it is missing.
    """
    if find_spec("matplotlib") is None:
        raise PhotplugError('figures need matplotlib, which is not installed; pip install "dja_photplug[plot]"')


def save_figure(path: str | Path, draw: Callable[[], Figure], *, dpi: int = 100, overwrite: bool = False) -> Path:
    """Write a figure whole or not at all.

    Parameters
    ----------
    path : str or Path
        Ends in ``.png`` or ``.pdf``.
    draw : callable
        Returns the figure; called only where `path` may be written.
    dpi : int, optional
        Dots per inch.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        For another suffix, an existing file or a folder that does not take it, and as `draw`.
    """
    path = Path(path)
    with whole_file(path, overwrite=overwrite, suffixes=PLOT_SUFFIXES) as temporary:
        draw().savefig(temporary, dpi=dpi)
    return path
