"""The pixels of a source as they are read, with the checks and the zero point of an image that is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pluggy
from astropy.wcs import WCS
from numpy.typing import NDArray
from tqdm import tqdm

from dja_photplug.files.names import MosaicFiles, Source
from dja_photplug.files.pixels import Allocate
from dja_photplug.mosaic.load import Block, MosaicStream, load_mosaic, open_mosaic
from dja_photplug.mosaic.models.electrons import HeaderValue
from dja_photplug.mosaic.scatter import WeightCheck
from dja_photplug.mosaic.weights import rescale_weight, write_weight, write_weight_blocks
from dja_photplug.options.run import Options
from dja_photplug.outputs.run import protect_source
from dja_photplug.outputs.whole import check_output
from dja_photplug.parallel.scratch import Unnamed, new_plane
from dja_photplug.pipeline.images import Request, zero_point_factor
from dja_photplug.plugins.calls import find_asked_before, naming_plugin
from dja_photplug.plugins.manager import LOADER
from dja_photplug.sky.grid import Grid

if TYPE_CHECKING:  # 0.1 s to import, and a stream of blocks needs it not
    from dja_photplug.mosaic.image import MosaicImage

__all__ = ["SourceRows", "load_unchanged", "open_source", "write_source_weight"]

HOOK = "photplug_load"


class SourceRows:
    """The rows of a mosaic, in 10 nJy by the zero point of its band; from :func:`open_source`.

    Parameters
    ----------
    name : str
        For messages.
    stream : MosaicStream
    factor : float
        10 nJy in a pixel value of 1.
    trusted : bool
        Whether weights are not checked.
    """

    def __init__(self, name: str, stream: MosaicStream, factor: float, *, trusted: bool) -> None:
        self._name, self._stream, self._factor, self._trusted = name, stream, factor, trusted

    @property
    def wcs(self) -> WCS:
        """Of the pixels to come."""
        return self._stream.wcs

    @property
    def shape(self) -> tuple[int, int]:
        """Of the pixels to come, (ny, nx)."""
        return self._stream.shape

    def meta(self) -> Mapping[str, HeaderValue]:
        """Return the metadata of the image, after the last block.

        Returns
        -------
        mapping
        """
        return self._stream.meta()

    def blocks(self) -> Iterator[Block]:
        """Yield all rows from top to bottom, once.

        Yields
        ------
        Block
            Valid until the next one.

        Raises
        ------
        PhotplugError
            Where the file is damaged; at the end where the weight and the scatter of the pixels contradict each other.
        """
        check = None if self._trusted else WeightCheck(self.shape, self.wcs)
        for block in self._stream.blocks():
            if check is not None:
                check.add(*block)
            yield block if self._factor == 1 else self._rescale(block)
        if check is not None:
            check.tell(self._name)

    def _rescale(self, block: Block) -> Block:
        rows, science, *weights = block
        return Block(
            rows, science * np.float32(self._factor), *(rescale_weight(each, self._factor) for each in weights)
        )


def open_source(
    source: Source, options: Options, manager: pluggy.PluginManager, stack: ExitStack, allocate: Allocate = new_plane
) -> SourceRows | MosaicImage:
    """Open a source to be read row by row, or load it where a plugin has a say in that.

    Parameters
    ----------
    source : Source
    options : Options
        As for `dja_photplug.pipeline.images.load_source`.
    manager : PluginManager
    stack : ExitStack
        At whose end files are closed.
    allocate : callable, optional
        ``allocate(shape, dtype) -> ndarray``, which makes the array of the exposure map.

    Returns
    -------
    SourceRows or MosaicImage
        With the same pixels.

    Raises
    ------
    PhotplugError
        As `dja_photplug.pipeline.images.load_source`.
    """
    request = Request(source, options, manager)
    loaded = _ask_others(request, manager)
    if loaded is not None:
        return loaded
    assert isinstance(source, MosaicFiles)
    own, factor = request.options, zero_point_factor(source, request.options)
    stack.enter_context(naming_plugin(manager, HOOK))
    stream = open_mosaic(source, own.variance, own.cutout, variance=request.variance, allocate=allocate)
    opened = stack.enter_context(stream)
    return SourceRows(str(source), opened, factor, trusted=own.variance.trust_weights)


def _ask_others(request: Request, manager: pluggy.PluginManager) -> MosaicImage | None:
    """Return an image in which plugins of others have a say; None where its pixels are those of its files."""
    protect_source(request.source)
    asked = find_asked_before(manager, LOADER, HOOK) if isinstance(request.source, MosaicFiles) else None
    if asked is None:
        return request.load(manager)
    loaded = request.ask(manager, asked) if asked else None
    return None if loaded is None else request.check(loaded)


def load_unchanged(source: Source, options: Options, manager: pluggy.PluginManager) -> MosaicImage:
    """Load one image as `dja_photplug.pipeline.images.load_source`, for those who change no pixels of it.

    In a scratch folder the full weight of the pixels of files is made of them where somebody looks at it. One that a
    plugin loads is kept: it may have changed its pixels after the weight was made.

    Parameters
    ----------
    source, options, manager
        As for `dja_photplug.pipeline.images.load_source`.

    Returns
    -------
    MosaicImage

    Raises
    ------
    PhotplugError
        As `dja_photplug.pipeline.images.load_source`.
    """
    request = Request(source, options, manager)
    loaded = _ask_others(request, manager)
    if loaded is not None:
        return loaded
    assert isinstance(source, MosaicFiles)
    own = request.options.variance, request.options.cutout
    with naming_plugin(manager, HOOK):
        return request.check(load_mosaic(source, *own, variance=request.variance, keep_weight=False))


def write_source_weight(
    source: Source, options: Options, manager: pluggy.PluginManager, path: Path, kind: str, *, progress: bool = False
) -> Mapping[str, HeaderValue]:
    """Write the full weight of a source, or its sigma or variance, as FITS; a mosaic's is written while it is read.

    Parameters
    ----------
    source : Source
    options : Options
        As for `dja_photplug.pipeline.images.load_source`; ``overwrite`` lets `path` replace an existing file.
    manager : PluginManager
    path : Path
        ``.fits`` or ``.fits.gz``.
    kind : {"weight", "sigma", "variance"}
        As for :func:`dja_photplug.write_weight`.
    progress : bool, optional
        Show a bar where stderr is a terminal.

    Returns
    -------
    mapping
        Metadata of the image.

    Raises
    ------
    PhotplugError
        As `dja_photplug.pipeline.images.load_source` and :func:`dja_photplug.write_weight`; then there is no file.
    """
    protect_source(source)
    check_output(path, overwrite=options.overwrite)
    scratch = Unnamed(path.absolute().parent)  # the exposure map is a 16th of what is written there
    with ExitStack() as stack:
        opened = open_source(source, options, manager, stack, scratch)
        if not isinstance(opened, SourceRows):
            write_weight(opened, path, kind, overwrite=options.overwrite)
            return opened.meta
        bar = tqdm(total=opened.shape[0], desc="rows", unit_scale=True, disable=None if progress else True, delay=1)

        def blocks() -> Iterator[NDArray[np.float32]]:
            for _, _, _, full in opened.blocks():
                yield full
                bar.update(len(full))
                scratch.release()

        with bar:  # a weight that is refused is so before the file has its name
            grid = Grid(opened.wcs, opened.shape)
            write_weight_blocks(blocks(), grid, opened.meta, path, kind, overwrite=options.overwrite)
        return opened.meta()
