"""From the products of a mosaic to its NDData, or to blocks of its rows, with their full weight."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dja_photplug.archive.fetch import bring_near
from dja_photplug.files.formats import encode_cards
from dja_photplug.files.names import MosaicFiles, find_mosaic
from dja_photplug.files.pixels import Allocate, ImageReader
from dja_photplug.mosaic.models.fullweight import FullWeight, GivenVariance, expect_cards
from dja_photplug.mosaic.models.uncovered import tell_uncovered
from dja_photplug.mosaic.plan import Plan, VarianceHook, check_member, given_variance, plan_loading
from dja_photplug.options.bands import of_band
from dja_photplug.options.stages import VarianceOptions, as_variance_options
from dja_photplug.parallel.progress import tell_read
from dja_photplug.parallel.scratch import fill_rows, has_scratch, new_plane
from dja_photplug.readers.streams import ahead
from dja_photplug.sky.cutouts import Cutout
from dja_photplug.sky.headers import WCS_CARDS
from dja_photplug.units import MOSAIC_UNIT, MOSAIC_ZERO_POINT

if TYPE_CHECKING:
    from dja_photplug.mosaic.image import MosaicImage

__all__ = ["Block", "MosaicStream", "load_mosaic", "open_mosaic"]

# Blocks of rows that may wait for the full weight of those before them: any number, as each has its place in a plane.
AHEAD = 0

Plane = NDArray[np.float32]

# Cards that the WCS and the pixel arrays hold themselves; kept in the metadata they would go stale when sliced.
_OWN_CARDS = re.compile(rf"SIMPLE|BITPIX|NAXIS\d?|EXTEND|BSCALE|BZERO|BUNIT|{WCS_CARDS.pattern}")


def load_mosaic(
    files: str | Path | MosaicFiles,
    noise: str | VarianceOptions = "dja",
    cutout: Cutout = None,
    *,
    variance: VarianceHook | None = None,
    keep_weight: bool = True,
) -> MosaicImage:
    """Load a mosaic of the archive, or a cut-out of it, with its full weight.

    Pixels are read once, in blocks of rows; the full weight of a block is computed while the next is inflated.

    Parameters
    ----------
    files : str, Path or MosaicFiles
        Prefix or any member file.
    noise : str or VarianceOptions
        Preset ``dja``, ``calibrated`` or ``background``, or options. A ``_var`` file holds the full variance, with
        Poisson noise and gain, and is used as it is with every preset but ``background``.
    cutout : optional
        ``(SkyCoord, size)``, a sky or pixel region (its bounding box), or slices (y, x). Rows below are skipped,
        rows above never read, nor the checksum of a ``.fits.gz`` behind them. A warning says how much of one that
        reaches over the edge of the mosaic is there.
    variance : callable, optional
        ``variance(header, exposure, log) -> NoiseModel``, another model than that of `noise`.
    keep_weight : bool, optional
        Keep the full weight. Without it that of our noise models is made where somebody looks at it, while there is a
        scratch folder: for those who change no pixels, of which it is made.

    Returns
    -------
    MosaicImage
        ``meta`` holds the science header without its WCS, and the cards NOISE, DETGAIN, GROWTH, PHOTSCLE, ZEROPNT,
        NFILLED, NNULL and others of the noise model.

    Raises
    ------
    PhotplugError
        Where a member is missing or damaged, shapes or places on the sky differ, pixels are not square, or the header
        does not say what the preset needs.
    """
    from dja_photplug.mosaic.image import MosaicImage  # 0.1 s to import, and a stream of blocks needs it not
    from dja_photplug.mosaic.made import MadeWeight, hold_weight

    # The exposure map too in a file where processes share the planes: the noise model goes to each of them.
    with open_mosaic(files, noise, cutout, variance=variance, allocate=new_plane) as stream:
        model = stream.model
        data, weight = (new_plane(stream.shape, np.float32, blank=False) for _ in range(2))
        mask = new_plane(stream.shape, np.bool_, blank=False)
        full: MadeWeight | Plane
        if not keep_weight and isinstance(model, FullWeight) and has_scratch():
            full = MadeWeight(data, weight, model)
        else:
            full = new_plane(stream.shape, np.float32, blank=False)
        for block in stream.blocks((data, weight, None if isinstance(full, MadeWeight) else full)):
            with fill_rows(mask, block.rows) as place:
                np.equal(block.full, 0, out=place)
    return MosaicImage(
        data,
        unit=MOSAIC_UNIT,
        uncertainty=hold_weight(full),
        mask=mask,
        wcs=stream.wcs,
        meta=stream.meta(),
        background_weight=weight,
        noise_model=None if isinstance(model, GivenVariance) else model,  # that is no function of the light
    )


class Block(NamedTuple):
    """Rows of a mosaic: float32, (rows, nx), valid until the next block unless they were given a place."""

    rows: slice
    """Counted from the first row of the mosaic, or of its cut-out."""
    science: Plane
    weight: Plane
    """The published weight, 0 where it is negative or not finite."""
    full: Plane


class MosaicStream:
    """A mosaic, or a cut-out of it, whose pixels and full weight come block by block of rows; from `open_mosaic`.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) of the pixels to come.
    wcs : `~astropy.wcs.WCS`
        Of these pixels.
    model : NoiseModel
        Which computes the full weight.
    """

    def __init__(self, files: MosaicFiles, readers: Sequence[ImageReader], plan: Plan) -> None:
        self._files, self._readers = files, readers
        self._window, self._header, self.model = plan.window, plan.header, plan.model
        rows, columns = self._window
        self.shape = (rows.stop - rows.start, columns.stop - columns.start)
        self.wcs = plan.wcs if self.shape == readers[0].shape else plan.wcs[self._window]
        self._n_weighted = self._n_infinite = self._n_negative = 0
        self._ended = False

    def blocks(self, planes: tuple[Plane, Plane, Plane | None] | None = None) -> Iterator[Block]:
        """Yield all rows from top to bottom, once; while one is used the next ones are inflated.

        Parameters
        ----------
        planes : tuple of ndarray, optional
            Where science, published and full weight go, of this shape; None for the last where it is not kept.

        Yields
        ------
        Block
        """
        science, weight, given = planes or (None, None, None)
        places = (science, weight, None)
        files = [reader.blocks(self._window, out) for reader, out in zip(self._readers, places, strict=False)]
        # What has no place holds until the next block alone, so nothing may be ahead of it.
        files = [
            ahead(rows, AHEAD, "reading") if out is not None else rows for rows, out in zip(files, places, strict=False)
        ]
        for blocks in zip(*files, strict=True):
            (rows, light), (_, published), (_, first) = blocks if len(blocks) == 3 else (*blocks, blocks[0])
            full = self.model(first, published, rows)
            if given is not None:
                with fill_rows(given, rows) as place:
                    place[...] = full
            self._drop_odd(light, published)
            size = len(self._readers) * light.itemsize * self.shape[1]
            tell_read(rows.stop * size, self.shape[0] * size)
            yield Block(rows, light, published, full)
        self._ended = True
        tell_uncovered(self.model, self._n_weighted, name=str(self._files))

    def _drop_odd(self, science: Plane, weight: Plane) -> None:
        """Set a weight that is negative or not finite to 0, and count the odd pixels."""
        odd = not (weight.min(initial=0) >= 0 and weight.max(initial=0) < np.inf and np.isfinite(science).all())
        if odd:  # one look at each plane tells, and it is rare
            finite = np.isfinite(science) & np.isfinite(weight)
            self._n_infinite += int(np.count_nonzero(~finite & ~(weight <= 0)))
            negative = weight < 0
            self._n_negative += int(np.count_nonzero(negative))
            weight[negative | ~np.isfinite(weight)] = 0
        self._n_weighted += int(np.count_nonzero(weight > 0))

    def meta(self) -> fits.Header:
        """Return the science header without WCS, and the cards of the noise model and of odd pixels.

        Returns
        -------
        Header
            Before the last block with counts so far, and without the cards of a plugin's model.
        """
        header, cards = self._header.copy(), self.model.provenance if self._ended else expect_cards(self.model)
        header["ZEROPNT"] = (MOSAIC_ZERO_POINT, "[mag(AB)] of one unit of the image, 10 nJy")
        header.update(encode_cards(cards))
        if self._n_infinite:
            header["NNOTFIN"] = (self._n_infinite, "pixels with weight that are not finite: no data")
        if self._n_negative:
            header["NNEGWHT"] = (self._n_negative, "pixels with a negative weight: no data")
        if "GROWTH" in cards:
            source = "WCS log" if self._files.exposure is None else "exp file"
            header["EXPFROM"] = (source, "source of the exposure time")
        return header


@contextmanager
def open_mosaic(
    files: str | Path | MosaicFiles,
    noise: str | VarianceOptions = "dja",
    cutout: Cutout = None,
    *,
    variance: VarianceHook | None = None,
    allocate: Allocate = np.empty,
) -> Iterator[MosaicStream]:
    """Open a mosaic, or a cut-out of it, to be read block by block of rows with its full weight.

    Parameters
    ----------
    files, noise, cutout, variance
        As for :func:`load_mosaic`, whose image holds the same pixels.
    allocate : callable, optional
        ``allocate(shape, dtype) -> ndarray``, which makes the array of the exposure map.

    Yields
    ------
    MosaicStream

    Raises
    ------
    PhotplugError
        As :func:`load_mosaic`; a damaged member where it is read.
    """
    files = find_mosaic(files)
    options = of_band(as_variance_options(noise), files.band)
    if cutout is None:  # of a part, only its rows are asked of a server
        exposure = None if options.noise == "background" else files.exposure
        files = bring_near(files, files.science, files.weight, exposure, given_variance(files, options))
    with ExitStack() as stack:
        members = filter(None, (files.science, files.weight, given_variance(files, options)))
        readers = [stack.enter_context(ImageReader(path, begun=True)) for path in members]
        science = readers[0]
        plan = plan_loading(files, options, cutout, variance, science, allocate)
        for other in readers[1:]:
            check_member(other, science, plan.wcs)
        for key in {key for key in plan.header if _OWN_CARDS.fullmatch(key)}:  # of a keyword one deletion takes all
            del plan.header[key]
        yield MosaicStream(files, readers, plan)
