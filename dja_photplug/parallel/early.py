"""Processes whose imports begin before it is known what there is to do."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dja_photplug.parallel.workers import Workers, count_cores

__all__ = ["MODULES", "begin_early"]

MODULES = ("dja_photplug.pipeline.one_band", "dja_photplug.engines.sep_engine")
"""What processes import that do the tiles of an image."""

# Bytes of a pixel in a file, of which gzip leaves three in four.
BYTES = 3


def begin_early(names: Iterable[str], workers: int | None, side: int) -> None:
    """Let what processes need be imported while this one imports the same, where a mosaic is likely to be in tiles.

    Nothing depends on it: processes that are needed begin later, and of those that are not the imports alone are done.

    Parameters
    ----------
    names : iterable of str
        Prefixes of mosaics, or member files.
    workers : int or None
        How many processes were asked for, if.
    side : int
        Of a tile, in pixels.
    """
    count = count_cores() if workers is None else workers
    if count > 1 and any(_exceeds(Path(name), BYTES * side**2) for name in names):
        Workers(count, modules=MODULES).begin()


def _exceeds(prefix: Path, size: int) -> bool:
    """Return whether one of the files is larger than that."""
    with suppress(OSError), os.scandir(prefix.parent) as entries:
        return any(entry.name.startswith(prefix.name) and entry.stat().st_size > size for entry in entries)
    return False
