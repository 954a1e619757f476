"""Who does the work on images that are larger than a tile: how many processes, whose, and where they share planes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager

import numpy as np
import pluggy

from dja_photplug.errors import PhotplugWarning
from dja_photplug.files.names import Source
from dja_photplug.options.run import Options
from dja_photplug.parallel.cluster import join_cluster
from dja_photplug.parallel.early import MODULES
from dja_photplug.parallel.scratch import open_scratch
from dja_photplug.parallel.workers import Map, Workers, count_cores, sharing
from dja_photplug.plugins.manager import split_work
from dja_photplug.sky.cutouts import reaches, resolve_cutout

__all__ = ["count_workers", "is_large", "share_work"]

# Bytes that a pixel takes in scratch files: pixels, weights, mask; segments; mask of sources; pixels less neighbours.
BYTES = 13 + 4 + 1 + 4
# The same of an image at another PSF, beside the others.
MATCHED = 9
# The same where positions are given, and some lie on the segments of others: pixels and segments without these.
GIVEN = 4 + 4
MOST_WORKERS = 4


@contextmanager
def share_work(
    sources: Iterable[Source],
    options: Options,
    manager: pluggy.PluginManager,
    executor: Executor | None = None,
    *,
    given: bool = False,
) -> Iterator[Map]:
    """Begin processes, and a folder for the planes they share, where one of the images is larger than a tile.

    Parameters
    ----------
    sources : iterable of Source
    options : Options
        The group ``tiles``, and ``bands.workers``.
    manager : PluginManager
        Where it has other plugins than those that are installed, all is done in this process.
    executor : `~concurrent.futures.Executor`, optional
        Whose workers do it, instead of processes that are begun here, or of the scheduler that the options name.
    given : bool, optional
        Whether positions are measured that are not those of the segments.

    Yields
    ------
    Map
        The builtin ``map`` where all images are small, or their sizes are not known before they are loaded.

    Raises
    ------
    PhotplugError
        Where the scratch folder has too little space.
    """
    pixels = max((_count_pixels(source, options) for source in sources), default=0)
    if not _exceeds_tile(pixels, options):
        yield map
        return
    # What is registered by hand is known in this process alone.
    shared = split_work(manager, 2)[0] > 1
    count = count_workers(options) if shared else 1
    with ExitStack() as stack:
        opened = given and options.settle().measure.neighbours == "subtract"
        size = BYTES + MATCHED * bool(options.bands.match) + GIVEN * opened
        scratch = stack.enter_context(open_scratch(options.tiles.scratch, needed=size * pixels))
        if executor is None and options.tiles.scheduler is not None:
            executor = stack.enter_context(join_cluster(options.tiles.scheduler))
        if executor is not None and not shared:
            told = "plugins that are registered by hand are known in this process alone, which does all of the work"
            warnings.warn(told, PhotplugWarning, stacklevel=4)
            executor = None
        workers = Workers(count, executor=executor, folder=scratch.folder, modules=MODULES)
        stack.enter_context(workers).begin()
        yield stack.enter_context(sharing(workers.map))


def count_workers(options: Options) -> int:
    """Return how many do the work on an image: as many as the options say, or the cores, at most `MOST_WORKERS`.

    Parameters
    ----------
    options : Options
        Its ``bands.workers``.

    Returns
    -------
    int
    """
    return options.bands.workers or min(MOST_WORKERS, count_cores())


def is_large(sources: Iterable[Source], options: Options) -> bool:
    """Return whether one of the images is larger than a tile, so that :func:`share_work` shares out its tiles.

    Parameters
    ----------
    sources : iterable of Source
    options : Options
        The group ``tiles``, and the cut-out.

    Returns
    -------
    bool
        False where sizes are not known before the images are loaded.
    """
    return any(_exceeds_tile(_count_pixels(source, options), options) for source in sources)


def _exceeds_tile(pixels: int, options: Options) -> bool:
    return pixels > options.tiles.size**2


def _count_pixels(source: Source, options: Options) -> int:
    """Return how many pixels of a source will be loaded; 0 where that is not known."""
    grid = source.grid()
    if grid is None or not reaches(options.cutout, *grid):
        return 0
    window = resolve_cutout(options.cutout, *grid)
    return int(np.prod([part.stop - part.start for part in window]))
