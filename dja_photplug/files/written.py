"""Write FITS images whole or not at all, plain or gzipped, of arrays or of rows as they come."""

from __future__ import annotations

import gzip
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import BinaryIO, cast

import numpy as np
from astropy.io import fits
from isal import igzip, igzip_threaded
from numpy.typing import NDArray

from dja_photplug.files.formats import IMAGE_SUFFIXES
from dja_photplug.files.structure import RECORD
from dja_photplug.outputs.whole import whole_file
from dja_photplug.sky.grid import BLOCK_PIXELS

__all__ = ["write_hdus", "write_image", "write_rows"]

# Header cards that describe how pixels are stored, which the writer decides anew.
_STORAGE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM")


def write_image(path: str | Path, data: NDArray[np.generic], header: fits.Header, *, overwrite: bool = False) -> Path:
    """Write one image as FITS, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Ends in ``.fits``, or ``.fits.gz`` to be gzipped.
    data : ndarray, shape (ny, nx)
        Of any type that FITS has.
    header : `~astropy.io.fits.Header`
        Its cards but those that say how pixels are stored.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.outputs.whole.whole_file`.
    """
    return write_hdus(path, _make_hdus(data, header), overwrite=overwrite)


def _make_hdus(data: NDArray[np.generic], header: fits.Header) -> fits.HDUList:
    """Return one image with the cards of a header but those that say how pixels are stored."""
    header = header.copy()
    for key in {key for key in header if _STORAGE.fullmatch(key)}:
        del header[key]
    return fits.HDUList([fits.PrimaryHDU(data, header)])


def write_rows(
    path: str | Path,
    blocks: Iterable[NDArray[np.float32]],
    shape: tuple[int, int],
    header: Callable[[], fits.Header],
    *,
    overwrite: bool = False,
) -> Path:
    """Write one image as FITS block by block, as :func:`write_image` would, whole or not at all.

    Only a block is held; gzip is compressed in other threads while the next one is made.

    Parameters
    ----------
    path : str or Path
        Ends in ``.fits``, or ``.fits.gz`` to be gzipped.
    blocks : iterable of ndarray
        float32, (rows, nx), from top to bottom; what it raises at its end leaves no file either.
    shape : tuple of int
        Of the image, (ny, nx).
    header : callable
        Its cards but those that say how pixels are stored. Asked before the first block for their size, and after the
        last for what they say then, such as counts.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.outputs.whole.whole_file`.
    """
    path = Path(path)
    pack = _pack_header if path.name.lower().endswith(".gz") else bytes
    with whole_file(path, overwrite=overwrite, suffixes=IMAGE_SUFFIXES) as temporary, temporary.open("w+b") as file:
        front = pack(_format_header(shape, header()))
        file.write(front)
        with _open_pixels(file, packed=pack is _pack_header) as write:
            height = max(1, BLOCK_PIXELS // shape[1])
            for block in blocks:
                for start in range(0, len(block), height):
                    write(block[start : start + height].astype(">f4").data)
            write(bytes(-math.prod(shape) * 4 % RECORD))
        _replace_front(file, front, pack(_format_header(shape, header())))
    return path


def _format_header(shape: tuple[int, int], header: fits.Header) -> bytes:
    """Return the header of a float32 image as it stands in its file."""
    hdus = _make_hdus(np.broadcast_to(np.float32(0), shape), header)
    hdus.verify("exception")
    hdus.update_extend()
    return cast(str, hdus[0].header.tostring()).encode("ascii")


def _pack_header(text: bytes) -> bytes:
    """Return a header as a gzip member of its own, stored and not compressed, so that its size is that of others."""
    return gzip.compress(text, 0, mtime=0)


@contextmanager
def _open_pixels(file: BinaryIO, *, packed: bool) -> Iterator[Callable[[memoryview | bytes], object]]:
    """Yield what appends bytes to a file while the next ones are made: packed as one gzip member, or as they are."""
    if packed:
        with igzip_threaded.open(file, "wb", 1, threads=min(4, os.cpu_count() or 1)) as stream:
            yield stream.write
        return
    with ThreadPoolExecutor(1) as writer:
        last: Future[int] | None = None

        def write(part: memoryview | bytes) -> None:
            nonlocal last
            if last is not None:
                last.result()  # raises what went wrong; and no more than one part waits in memory
            last = writer.submit(file.write, part)

        yield write
        if last is not None:
            last.result()


def _replace_front(file: BinaryIO, old: bytes, new: bytes) -> None:
    """Put a header in the place of another one at the front of a file, also where that has another size."""
    if len(new) != len(old):  # rare: there are more cards or fewer, and they need more records or fewer
        with TemporaryFile(dir=Path(file.name).parent) as rest:
            file.seek(len(old))
            shutil.copyfileobj(file, rest, 1 << 20)
            rest.seek(0)
            file.seek(len(new))
            shutil.copyfileobj(rest, file, 1 << 20)
            file.truncate()
    file.seek(0)
    file.write(new)


def write_hdus(path: str | Path, hdus: fits.HDUList, *, overwrite: bool = False) -> Path:
    """Write a list of HDUs as FITS, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Ends in ``.fits``, or ``.fits.gz`` to be gzipped.
    hdus : `~astropy.io.fits.HDUList`
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.outputs.whole.whole_file`.
    """
    path = Path(path)
    with whole_file(path, overwrite=overwrite, suffixes=IMAGE_SUFFIXES) as temporary:
        if path.name.endswith(".gz"):
            with TemporaryDirectory(dir=temporary.parent) as folder:
                # Not straight into gzip: what is no real file astropy writes pixel by pixel, at 0.3 us each.
                plain = Path(folder, "plain.fits")
                hdus.writeto(plain)
                # Neither time nor temporary name in the gzip header: the same pixels give the same bytes.
                with (
                    plain.open("rb") as source,
                    temporary.open("wb") as raw,
                    igzip.IGzipFile("", "wb", 1, raw, mtime=0) as stream,
                ):
                    shutil.copyfileobj(source, stream, 1 << 20)
        else:
            hdus.writeto(temporary)
    return path
