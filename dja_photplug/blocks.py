"""The only reader and writer of pixels: FITS images in blocks of rows, plain or gzipped, as native float32.

A gzipped mosaic cannot be read from the middle, and 12000 x 12000 pixels are 576 MB; so an image is streamed once
from the top, a block of rows at a time, and the work of a block is done while the next one is inflated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from isal import igzip, igzip_threaded
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.geometry import Window
from dja_photplug.outputs import whole_file

__all__ = ["ImageReader", "read_image", "write_image"]

_RECORD = 2880  # bytes; everything in FITS is padded to it (FITS standard 4.0, section 3.1)
_CARD = 80
_END = b"END".ljust(_CARD)
_DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# What isal raises on a gzip stream that is cut short, or is none.
_DAMAGE: tuple[Any, ...] = (EOFError, OSError, IsalError)
# Blocks of this many pixels stay in a core's cache together with their temporaries (4 MB each in float32).
BLOCK_PIXELS = 1 << 20


class ImageReader:
    """The first two-dimensional image of a FITS file, read from the top in blocks of rows.

    Parameters
    ----------
    path : Path
        A ``.fits`` or ``.fits.gz`` file.

    Attributes
    ----------
    header : `~astropy.io.fits.Header`
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

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gzipped = path.name.endswith(".gz")
        try:
            self._stream: BinaryIO = igzip_threaded.open(path, "rb", threads=1) if self._gzipped else path.open("rb")
        except OSError as error:
            raise PhotplugError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
        try:
            self.header = self._find_image()
            self.shape: tuple[int, int] = (self.header["NAXIS2"], self.header["NAXIS1"])
            self._dtype = np.dtype(_DTYPES[self.header["BITPIX"]])
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

    def _fill(self, buffer: NDArray[np.uint8]) -> None:
        """Fill `buffer` from the stream, or say that the file is cut short."""
        done = 0
        while done < len(buffer):
            try:
                count = self._stream.readinto(buffer[done:])  # type: ignore[attr-defined]
            except _DAMAGE as error:
                raise self._damaged(str(error)) from None
            if not count:
                raise self._damaged("it ends before its pixels do")
            done += count

    def _skip(self, count: int) -> None:
        if not self._gzipped:
            self._stream.seek(count, 1)
            return
        scratch = np.empty(min(count, 1 << 20), np.uint8)
        while count:
            step = min(count, len(scratch))
            self._fill(scratch[:step])
            count -= step

    def _read_header(self) -> fits.Header:
        text = bytearray()
        record = np.empty(_RECORD, np.uint8)
        while True:
            self._fill(record)
            cards = record.tobytes()
            if not text and not cards.startswith((b"SIMPLE  =", b"XTENSION=")):
                raise PhotplugError(f"{self.path}: not a FITS file; give a DJA product")
            text += cards
            if any(cards[i : i + _CARD] == _END for i in range(0, _RECORD, _CARD)):
                return fits.Header.fromstring(bytes(text))

    def _find_image(self) -> fits.Header:
        """Return the header of the first two-dimensional image, with the stream at its pixels."""
        header = self._read_header()
        while header["NAXIS"] != 2 or header.get("XTENSION", "IMAGE").strip() != "IMAGE":
            axes = [header[f"NAXIS{i + 1}"] for i in range(header["NAXIS"])]
            pixels = int(np.prod(axes)) if axes else 0
            size = abs(header["BITPIX"]) // 8 * (pixels + header.get("PCOUNT", 0))
            try:
                self._skip(-(-size // _RECORD) * _RECORD)
                header = self._read_header()
            except PhotplugError:
                raise PhotplugError(f"{self.path}: holds no two-dimensional image; give a DJA product") from None
        return header

    def blocks(self, window: Window | None = None) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the pixels of `window` from top to bottom; a reader gives them once.

        Parameters
        ----------
        window : pair of slices, optional
            Rows and columns; everything by default. Rows before it are skipped, rows after it never read.

        Yields
        ------
        rows : slice
            Counted from the window's first row.
        pixels : ndarray
            float32, native byte order, scaled by BSCALE and BZERO, (rows, columns). Valid until the next block.
        """
        ny, nx = self.shape
        rows, columns = window or (slice(0, ny), slice(0, nx))
        row_size = nx * self._dtype.itemsize
        height = max(1, BLOCK_PIXELS // nx)
        raw = np.empty((height, nx), self._dtype)
        pixels = np.empty((height, columns.stop - columns.start), np.float32)
        scale, zero = self.header.get("BSCALE", 1), self.header.get("BZERO", 0)
        self._skip(rows.start * row_size)
        for start in range(rows.start, rows.stop, height):
            n = min(height, rows.stop - start)
            self._fill(raw[:n].reshape(-1).view(np.uint8))
            part = raw[:n, columns]
            if (scale, zero) != (1, 0):
                part = part * float(scale) + float(zero)  # float64: exact for the uint32 of exposure maps
            pixels[:n] = part
            yield slice(start - rows.start, start - rows.start + n), pixels[:n]
        if rows.stop == ny:
            self._check_end()

    def _check_end(self) -> None:
        """Read a gzip stream to its end, where its checksum is."""
        if self._gzipped:
            try:
                while self._stream.read(1 << 20):
                    pass
            except _DAMAGE as error:
                raise self._damaged(str(error)) from None


def read_image(path: Path, window: Window | None = None) -> tuple[NDArray[np.float32], fits.Header]:
    """Return the pixels of `window` (everything by default) in native float32, and the file's whole header.

    Raises
    ------
    PhotplugError
        As :class:`ImageReader`.
    """
    with ImageReader(path) as reader:
        shape = reader.shape if window is None else tuple(part.stop - part.start for part in window)
        image = np.empty(shape, np.float32)
        for rows, pixels in reader.blocks(window):
            image[rows] = pixels
        return image, reader.header


# Header cards that describe how pixels are stored, which the writer decides anew.
_STORAGE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM")


def write_image(path: str | Path, data: NDArray[Any], header: fits.Header, *, overwrite: bool = False) -> Path:
    """Write one image as FITS (gzipped where the name ends in ``.gz``), whole or not at all.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.outputs.whole_file`.
    """
    header = header.copy()
    for key in {key for key in header if _STORAGE.fullmatch(key)}:
        del header[key]
    return write_hdus(path, fits.HDUList([fits.PrimaryHDU(data, header)]), overwrite=overwrite)


def write_hdus(path: str | Path, hdus: fits.HDUList, *, overwrite: bool = False) -> Path:
    """Write a list of HDUs as FITS (gzipped where the name ends in ``.gz``), whole or not at all.

    Raises
    ------
    PhotplugError
        Where the name is not that of a FITS file; and as :func:`dja_photplug.outputs.whole_file`.
    """
    path = Path(path)
    if not path.name.endswith((".fits", ".fits.gz")):
        raise PhotplugError(f"{path}: an image is written as .fits or .fits.gz; name it so")
    with whole_file(path, overwrite=overwrite) as temporary:
        if path.name.endswith(".gz"):
            with igzip.open(temporary, "wb", compresslevel=1) as stream:
                hdus.writeto(stream)
        else:
            hdus.writeto(temporary)
    return path
