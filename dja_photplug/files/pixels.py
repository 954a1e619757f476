"""The only reader of pixels: FITS images in blocks of rows, plain or gzipped, as native float32.

A gzipped mosaic cannot be read from the middle, and 12000 x 12000 pixels are 576 MB; so an image is streamed once
from the top, a block of rows at a time, and the work of a block is done while the next one is inflated.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, cast

import numpy as np
from astropy.io import fits
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.files.smallfits import parse_header
from dja_photplug.files.structure import CARD, MOST_RECORDS, RECORD, measure_data
from dja_photplug.parallel.scratch import Unnamed, fill_rows, keep_memory
from dja_photplug.readers.kinds import MOST_INFLATED, refuse_pipe
from dja_photplug.readers.streams import expect_bytes, open_stream
from dja_photplug.remote.cache import local_copies
from dja_photplug.remote.paths import as_path
from dja_photplug.sky.cards import read_numbers
from dja_photplug.sky.grid import BLOCK_PIXELS, Grid, Window, header_wcs

__all__ = [
    "Allocate",
    "ImageReader",
    "check_product",
    "read_grid",
    "read_image",
]

_END = b"END".ljust(CARD)
# Value beyond which no pixel and no weight is, in whatever unit, but one in ten floats of any bytes; and how many of
# such values may stand for no data.
MOST_VALUE, STAND_INS = 1e30, 2
_DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_MOST_AXES = 999  # by the standard
# What isal raises on a gzip stream that is cut short, or is none; its stub declares an instance of the error.
_DAMAGE = (EOFError, OSError, cast(type[Exception], IsalError))

Scalar = TypeVar("Scalar", bound=np.generic)


class Allocate(Protocol):
    """Called as `numpy.empty` with a shape and a type."""

    def __call__(self, shape: tuple[int, int], dtype: type[Scalar], /) -> NDArray[Scalar]:
        """Return an array, whatever it holds; it may lie in a file."""


class ImageReader:
    """The first two-dimensional image of a FITS file, read from the top in blocks of rows.

    Parameters
    ----------
    path : str or Path
        A ``.fits`` or ``.fits.gz`` file.
    begun : bool, optional
        Take what `dja_photplug.readers.streams.begin_streams` inflates already.

    Attributes
    ----------
    path : Path
    header : `~astropy.io.fits.Header`
        Of the image.
    shape : tuple of int
        (ny, nx).

    Raises
    ------
    PhotplugError
        Where the file cannot be read, holds no such image, is truncated or damaged; the message names the file.

    Notes
    -----
    Gzip is inflated by isal (2 to 5 times faster than zlib) in a thread of its own, without the interpreter's lock,
    so several files and the work on their pixels share the cores.
    """

    def __init__(self, path: str | Path, *, begun: bool = False) -> None:
        self.path = as_path(path)
        self._gzipped = self.path.name.endswith(".gz")
        refuse_pipe(self.path)
        try:
            self._stream = open_stream(self.path, begun=begun)
        except OSError as error:
            raise PhotplugError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
        size = self.path.stat().st_size
        self._most_bytes = size * MOST_INFLATED if self._gzipped else size
        try:
            self.header, axes = self._find_image()
            self.shape: tuple[int, int] = (axes[1], axes[0])
            self._dtype = np.dtype(_DTYPES[self.header["BITPIX"]])
            self._scale, self._zero, self._blank = self._read_scaling()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, also one that was not read to its end."""
        with suppress(*_DAMAGE):  # a damaged stream was reported where it was read
            self._stream.close()

    def _damaged(self, reason: str) -> PhotplugError:
        return PhotplugError(f"{self.path}: the file is truncated or damaged ({reason}); fetch it again")

    @contextmanager
    def _telling_damage(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise self._damaged(str(error)) from None

    def _fill(self, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return `buffer` filled from the stream, or say that the file is cut short."""
        with self._telling_damage():
            if self._stream.readinto(buffer.data) < len(buffer):
                raise EOFError("it ends too early")
        return buffer

    def _skip(self, count: int) -> None:
        if count and self._stream.seekable():
            with self._telling_damage():
                self._stream.seek(count - 1, os.SEEK_CUR)
            count = 1  # which tells whether the file goes so far
        scratch = np.empty(min(count, 1 << 20), np.uint8)
        while count:
            count -= len(self._fill(scratch[:count]))

    def _read_header(self) -> fits.Header | None:
        """Return the next header, None where none follows: at the end of the file, or of what is FITS in it."""
        with self._telling_damage():
            first = self._stream.read(CARD)
        if not first.startswith((b"SIMPLE  =", b"XTENSION=")):
            return None
        records = [first + self._fill(np.empty(RECORD - len(first), np.uint8)).tobytes()]
        while not any(records[-1][i : i + CARD] == _END for i in range(0, RECORD, CARD)):
            if len(records) == MOST_RECORDS:
                raise self._damaged(f"its header has no end in {MOST_RECORDS * RECORD // CARD} cards")
            records.append(self._fill(np.empty(RECORD, np.uint8)).tobytes())
        return parse_header(b"".join(records))

    def _read_numbers(self, header: fits.Header, *keys: str, optional: Sequence[str] = ()) -> list[int]:
        """Return whole numbers of a header, 0 for optional ones that are missing."""
        try:
            numbers = read_numbers(header, keys, "", optional=optional)
        except PhotplugError as error:
            raise self._damaged(f"its header is not valid: {error}") from None
        for key, number in numbers.items():
            if not number.is_integer() or (key == "BITPIX" and number not in _DTYPES):
                raise self._damaged(f"its header is not valid: keyword {key} is {number:g}")
        return [int(numbers.get(key, 0)) for key in (*keys, *optional)]

    def _read_scaling(self) -> tuple[float, float, float | None]:
        """Return BSCALE, BZERO and BLANK."""
        try:
            cards = read_numbers(
                self.header, (), "correct it, or fetch it again", optional=("BSCALE", "BZERO", "BLANK")
            )
        except PhotplugError as error:
            raise PhotplugError(f"{self.path}: {error}") from None
        if cards.get("BSCALE") == 0:
            raise PhotplugError(f"{self.path}: keyword BSCALE is 0, so all pixels are the same; fetch it again")
        return cards.get("BSCALE", 1.0), cards.get("BZERO", 0.0), cards.get("BLANK")

    def _measure(self, header: fits.Header) -> tuple[list[int], int]:
        """Return the axes of an HDU, and how many bytes its data take in the file."""
        bits, dimensions, extra = self._read_numbers(header, "BITPIX", "NAXIS", optional=["PCOUNT"])
        if not 0 <= dimensions <= _MOST_AXES:
            raise self._damaged(f"its header is not valid: keyword NAXIS is {dimensions}")
        axes = self._read_numbers(header, *(f"NAXIS{i + 1}" for i in range(dimensions)))
        try:
            size = measure_data(bits, axes, extra, self._most_bytes)
        except ValueError as error:
            raise self._damaged(str(error)) from None
        return axes, -(-size // RECORD) * RECORD

    def _find_image(self) -> tuple[fits.Header, list[int]]:
        """Return the header and the axes of the first two-dimensional image, with the stream at its pixels."""
        header = self._read_header()
        if header is None:
            found = "not a FITS file" if self.path.stat().st_size else "the file is empty"
            raise PhotplugError(f"{self.path}: {found}; give a DJA product")
        told = "holds no two-dimensional image; give a DJA product"
        while header is not None:
            axes, size = self._measure(header)
            if len(axes) == 2 and min(axes) > 0 and str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE":
                return header, axes
            if "ZIMAGE" in header:
                told = "its image is tile-compressed and cannot be read in blocks of rows; unpack it with funpack"
            self._skip(size)
            header = self._read_header()
        raise PhotplugError(f"{self.path}: {told}")

    def blocks(
        self, window: Window | None = None, out: NDArray[np.float32] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the pixels of `window` from top to bottom; a reader gives them once.

        Parameters
        ----------
        window : pair of slices, optional
            Rows and columns; everything by default. Rows before it are skipped, rows after it never read, and so not
            the checksum of a gzip stream: pixels of absurd values tell of damage then.
        out : ndarray of float32, optional
            Where all these pixels go, of the shape of the window; what is yielded are then its rows.

        Yields
        ------
        rows : slice
            Counted from the window's first row.
        pixels : ndarray
            float32, native byte order, scaled by BSCALE and BZERO, NaN where BLANK, (rows, columns). Without `out`
            valid until the next block.
        """
        ny, nx = self.shape
        rows, columns = window or (slice(0, ny), slice(0, nx))
        row_size = nx * self._dtype.itemsize
        height = max(1, BLOCK_PIXELS // nx)
        raw = np.empty((height, nx), self._dtype)
        scratch = np.empty((height, columns.stop - columns.start), np.float32)
        keep_memory()
        expect_bytes(self._stream, rows.stop * row_size)
        self._skip(rows.start * row_size)
        for start in range(rows.start, rows.stop, height):
            n = min(height, rows.stop - start)
            block = slice(start - rows.start, start - rows.start + n)
            self._fill(raw[:n].reshape(-1).view(np.uint8))
            with nullcontext(scratch[:n]) if out is None else fill_rows(out, block) as pixels:
                self._convert(raw[:n, columns], pixels)
            if self._gzipped and rows.stop < ny:
                self._check_sane(pixels)
            yield block, pixels if out is None else out[block]
        if rows.stop == ny:
            self._check_end()

    def _check_sane(self, pixels: NDArray[np.float32]) -> None:
        """Refuse pixels that nobody measures, where the checksum of a gzip stream is behind what is read.

        Where bits of it are wrong what follows is often shifted, and its bytes are floats of any size.
        """
        absurd = pixels[(np.abs(pixels) > MOST_VALUE) & np.isfinite(pixels)]
        if self._dtype.kind == "f" and len(found := np.unique(absurd)) > STAND_INS:
            raise self._damaged(f"it has pixels of {', '.join(f'{value:.2g}' for value in found[:3])} ...")

    def _convert(self, raw: NDArray[np.number], out: NDArray[np.float32]) -> None:
        half = 1 << 8 * raw.dtype.itemsize - 1
        if (self._scale, self._zero) == (1, 0):
            out[...] = raw
        elif (self._scale, self._zero) == (1, half) and raw.dtype in (">i2", ">i4"):
            # Unsigned integers, as of exposure maps: the same as below, 5 times as fast.
            kind = np.dtype(f"u{raw.dtype.itemsize}")
            out[...] = raw.astype(raw.dtype.newbyteorder("=")).view(kind) ^ kind.type(half)
        else:
            out[...] = raw * self._scale + self._zero  # in float64
        if self._blank is not None and raw.dtype.kind in "iu":  # it means nothing for floats (standard 4.0, 4.4.2.5)
            out[raw == self._blank] = np.nan

    def read_rest(self) -> None:
        """Read the file to its end, where it holds together: used in place of :meth:`blocks`."""
        header: fits.Header | None = self.header
        while header is not None:
            self._skip(self._measure(header)[1])
            header = self._read_header()
        self._check_end()

    def _check_end(self) -> None:
        """Read a gzip stream to its end, where its checksum is."""
        with self._telling_damage():
            while self._gzipped and self._stream.read(1 << 20):
                pass


def read_image(
    path: str | Path, window: Window | None = None, allocate: Allocate = np.empty
) -> tuple[NDArray[np.float32], fits.Header]:
    """Return the first two-dimensional image of a file, or a part of it.

    Parameters
    ----------
    path : str or Path
        A ``.fits`` or ``.fits.gz`` file.
    window : pair of slices, optional
        Rows and columns; everything by default.
    allocate : callable, optional
        ``allocate(shape, dtype) -> ndarray``, which makes the array of the image.

    Returns
    -------
    image : ndarray of float32, shape (ny, nx)
        As from :meth:`ImageReader.blocks`.
    header : `~astropy.io.fits.Header`
        Of the whole image, also where `window` is a part of it.

    Raises
    ------
    PhotplugError
        As :class:`ImageReader`.
    """
    [path] = [as_path(path)] if window else local_copies([as_path(path)], check_product)
    with ImageReader(path) as reader:
        rows, columns = window or (slice(0, reader.shape[0]), slice(0, reader.shape[1]))
        image = allocate((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for _ in reader.blocks(window, image):
            if isinstance(allocate, Unnamed):
                allocate.release()  # what is filled
        return image, reader.header


def check_product(path: Path) -> None:
    """Refuse a file that is not whole: FITS from its first header to the end of its last data, or a table of text.

    Parameters
    ----------
    path : Path
        ``.fits``, ``.fits.gz``, whose checksum is looked at too, or ``.csv``.

    Raises
    ------
    PhotplugError
        As :class:`ImageReader`; the message begins with the file.
    """
    if path.name.endswith(".csv"):
        with path.open("rb") as file:
            first = file.readline(1 << 16)
        if b"," not in first or first.lstrip().startswith(b"<"):
            raise PhotplugError(f"{path}: is no table of comma-separated values")
        return
    with ImageReader(path) as reader:
        reader.read_rest()


def read_grid(path: str | Path) -> Grid:
    """Return the grid of an image from its header alone.

    Parameters
    ----------
    path : str or Path
        ``.fits`` or ``.fits.gz``.

    Returns
    -------
    Grid
        WCS and shape (ny, nx) of its first two-dimensional image.

    Raises
    ------
    PhotplugError
        As :class:`ImageReader`, and where the header has no celestial WCS; the message names the file.
    """
    with ImageReader(path) as reader:
        try:
            return Grid(header_wcs(reader.header), reader.shape)
        except PhotplugError as error:
            raise PhotplugError(f"{path}: {error}") from None
