"""What is read from bytes, for `tests.fuzz.guided`: names, logs and blocks of FITS files."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from dja_photplug.epochs.reader import read_log
from dja_photplug.errors import PhotplugError
from dja_photplug.files.grammar import ProductName, band_name, is_mosaic_name, parse_source
from dja_photplug.files.names import find_mosaic
from dja_photplug.files.pixels import ImageReader, read_grid
from tests.fuzz.apart import SECONDS
from tests.helpers import make_row, make_wcs

__all__ = ["TARGETS", "call_target", "sound_input"]

# In memory, where there is such a place: a file is written for each of millions of inputs.
_FOLDER = tempfile.TemporaryDirectory(prefix="targets-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
_PLACE = Path(_FOLDER.name)


def _names(content: bytes) -> None:
    """Parse a name, spell it again, and look for it."""
    text = content.decode("utf-8", "surrogateescape")
    product = ProductName.parse(text)
    if product is not None:
        assert str(product) == text
        assert ProductName.parse(str(product)) == product
        assert product.band == band_name(product.filter)
        assert "/" in text or is_mosaic_name(product.mosaic)
    parse_source(text)
    is_mosaic_name(text)
    if "://" not in text and ":/" not in text:  # nobody asks a server here
        with contextlib.suppress(PhotplugError):
            find_mosaic(_PLACE / text)


def _log(content: bytes) -> None:
    """Read a log, and see that what it gives is what it may give."""
    path = _PLACE / "some_wcs.csv"
    path.write_bytes(content)
    with contextlib.suppress(PhotplugError):
        table, footprints, vectors, duplicates = read_log(str(path))
        assert len(table) == len(footprints) == len(vectors) > 0
        assert duplicates >= 0
        assert np.all(table["exptime"].value > 0)
        assert np.all(footprints.naxis >= 1)
        assert np.all(np.isfinite(footprints.crpix))


def _blocks(content: bytes) -> None:
    """Read an image in blocks of rows, whole and its grid alone."""
    path = _PLACE / "image.fits"
    path.write_bytes(content)
    with contextlib.suppress(PhotplugError), ImageReader(path) as reader:
        rows = 0
        for place, block in reader.blocks():
            assert place.start == rows
            assert block.dtype == np.float32
            assert block.shape == (place.stop - place.start, reader.shape[1])
            rows = place.stop
        assert rows == reader.shape[0]
    with contextlib.suppress(PhotplugError):
        read_grid(path)


TARGETS: dict[str, Callable[[bytes], None]] = {"names": _names, "log": _log, "blocks": _blocks}
"""Functions of the content of an input, which raise where something is wrong."""


def call_target(name: str, content: bytes) -> None:
    """Let a target read an input; what a user would be warned of is not shown.

    Parameters
    ----------
    name : str
    content : bytes
    """
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        TARGETS[name](content)
    if (taken := time.process_time() - start) > SECONDS:
        raise TimeoutError(f"took {taken:.0f} s")


def sound_input(name: str) -> bytes:
    """Return a sound input of a target.

    Parameters
    ----------
    name : str

    Returns
    -------
    bytes
    """
    if name == "names":
        return b"gds-grizli-v7.2-clearp-f356w_drc_sci.fits.gz"
    if name == "log":
        text = io.StringIO()
        Table([make_row(), make_row(exptime=50.0)]).write(text, format="ascii.csv")
        return text.getvalue().encode()
    stream = io.BytesIO()
    fits.PrimaryHDU(np.arange(99, dtype=np.int16).reshape(9, 11), make_wcs().to_header()).writeto(stream)
    return stream.getvalue()
