"""Planes of images in files, which processes share: they are neither copied nor held in memory."""

from __future__ import annotations

import ctypes
import errno
import io
import math
import mmap
import os
import pickle
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.outputs.held import held_folder
from dja_photplug.sky.grid import row_blocks

__all__ = [
    "Scratch",
    "Unnamed",
    "dump_shared",
    "fill_rows",
    "has_scratch",
    "keep_memory",
    "new_plane",
    "no_space",
    "open_scratch",
    "share_plane",
    "unseen",
]

# Smaller arrays that processes only read are copied, where there is a scratch folder too.
LEAST_BYTES = 1 << 20

# Bytes that are written at once, for which the system takes memory in pieces of up to that size, or 2 MB. A virtual
# machine that gives free memory back to its host must ask for the large ones again: 2 GB/s became 0.3, in one and
# in the huge pages that numpy asks for.
PIECE = 1 << 18

# M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt, in bytes.
KEPT = {-1: 2**30, -3: 2**25}

Scalar = TypeVar("Scalar", bound=np.generic)
Shared = NDArray[np.generic]


@cache
def keep_memory() -> None:
    """Let glibc keep the memory of arrays of up to 32 MB for the next ones.

    It gives what is freed back to the system, which clears each page of the next array first: work in blocks of rows
    then takes twice as long. These are the limits that it takes itself, once arrays of that size have been freed.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if adjust is not None:
        for parameter, size in KEPT.items():
            adjust(parameter, size)


class Scratch:
    """A folder of planes, each a file that is mapped into memory, and is another plane's when nobody uses it any more.

    Parameters
    ----------
    folder : Path
        That exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        self._left: dict[int, list[Path]] = {}

    def plane(self, shape: tuple[int, ...], dtype: type[Scalar], *, blank: bool = True) -> NDArray[Scalar]:
        """Return a new plane.

        Parameters
        ----------
        shape : tuple of int
        dtype : type
        blank : bool, optional
            As for :func:`new_plane`.

        Returns
        -------
        ndarray
            Whose pixels are those of the file.

        Raises
        ------
        PhotplugError
            Where the folder has no space left.
        """
        size = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
        path = self._take(size, blank=blank)
        mapped = np.memmap(path, dtype, "r+", shape=shape)
        weakref.finalize(mapped, self._left.setdefault(size, []).append, path)
        return np.asarray(mapped)

    def _take(self, size: int, *, blank: bool) -> Path:
        """Return a file of so many bytes: one that a plane has left, whose pages are there, or a new one."""
        if left := self._left.get(size):
            path = left.pop()
            if blank:
                np.memmap(path, np.uint8, "r+", shape=size)[...] = 0
            return path
        self._count += 1
        path = self.folder / f"{self._count}.plane"
        try:
            with path.open("wb") as file:
                _size_file(file.fileno(), size, self.folder, reserve=blank)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise no_space(self.folder.parent, size, error) from None
        return path


def _size_file(descriptor: int, size: int, folder: Path, *, reserve: bool = True) -> None:
    """Give a file its size, and its space: without that a write through its map would end the process by a signal."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if reserve and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def no_space(folder: Path, size: int, error: OSError) -> PhotplugError:
    """Return what is said where a scratch file cannot be written.

    Parameters
    ----------
    folder : Path
        Where it was to be.
    size : int
        Its bytes.
    error : OSError

    Returns
    -------
    PhotplugError
    """
    return PhotplugError(
        f"{folder}: cannot reserve {_say_size(size)} of scratch space there ({error.strerror or error}); free space, "
        "or name another folder"
    )


def _say_size(size: int) -> str:
    """Return a number of bytes as text, in a unit in which it is no 0."""
    unit, digits = next(((unit, 1e3**i) for i, unit in ((3, "GB"), (2, "MB")) if size >= 1e3**i), ("kB", 1e3))
    return f"{size / digits:.{1 if unit == 'GB' else 0}f} {unit}"


class Unnamed:
    """Makes arrays that lie in files, which have no name and end with the arrays.

    Parameters
    ----------
    folder : Path
        Where there is space for them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: list[mmap.mmap] = []

    def __call__(self, shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
        """Return an array of zeros.

        Parameters
        ----------
        shape : tuple of int
        dtype : type

        Returns
        -------
        ndarray

        Raises
        ------
        PhotplugError
            Where the folder has no space for it.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _size_file(file.fileno(), size, self.folder)
                self._maps.append(mmap.mmap(file.fileno(), size))
        except OSError as error:
            raise no_space(self.folder, size, error) from None
        return np.frombuffer(self._maps[-1], dtype).reshape(shape)

    def release(self) -> None:
        """Give back the memory of all pages that were touched; the files keep what is in them."""
        for each in self._maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                each.madvise(mmap.MADV_DONTNEED)


_current: ContextVar[Scratch | None] = ContextVar("scratch", default=None)


@contextmanager
def open_scratch(directory: str | Path | None = None, *, needed: int = 0) -> Iterator[Scratch]:
    """Put the planes that are made within into files of a folder, which is removed at the end.

    Folders of runs that were killed are removed at its beginning.

    Parameters
    ----------
    directory : str or Path, optional
        In which the folder is made; that for temporary files by default.
    needed : int, optional
        Bytes that the work will take there.

    Yields
    ------
    Scratch

    Raises
    ------
    PhotplugError
        Where the directory is not there, cannot be written, or has too little space.
    """
    place = Path(directory or tempfile.gettempdir())
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(held_folder(place.absolute()))  # workers may begin elsewhere
            free = shutil.disk_usage(place).free
        except OSError as error:
            raise PhotplugError(
                f"{place}: cannot create a scratch folder there ({error.strerror}); name another with --scratch"
            ) from None
        if free < needed:
            raise PhotplugError(
                f"{place}: the image planes need {_say_size(needed)} there, but only {_say_size(free)} are free; free "
                "space, or name another folder with --scratch"
            )
        scratch = Scratch(folder)
        token = _current.set(scratch)
        try:
            yield scratch
        finally:
            with suppress(ValueError):  # of a generator that is closed in another context
                _current.reset(token)


def has_scratch() -> bool:
    """Return whether planes are made in files of a folder.

    Returns
    -------
    bool
    """
    return _current.get() is not None


def new_plane(shape: tuple[int, ...], dtype: type[Scalar], *, blank: bool = True) -> NDArray[Scalar]:
    """Return a plane, in a file where there is a scratch folder, else in memory.

    In a file however small it is: processes write into it, and into a copy in their memory they would in vain.

    Parameters
    ----------
    shape : tuple of int
    dtype : type
    blank : bool, optional
        Of zeros; otherwise of anything, and all of it is to be written by :func:`fill_rows`: a file has its space when
        that was done, and what is not used again before it is written to the disk never takes any there.

    Returns
    -------
    ndarray
    """
    scratch = _current.get()
    if scratch is None:
        return _new_array(shape, dtype)
    return scratch.plane(shape, dtype, blank=blank)


def _new_array(shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
    """Return an array of zeros in memory, a large one without the huge pages that numpy asks for; see `PIECE`."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LEAST_BYTES or not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return np.zeros(shape, dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # numpy says better what is short
        return np.zeros(shape, dtype)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


@contextmanager
def fill_rows(plane: NDArray[Scalar], rows: slice) -> Iterator[NDArray[Scalar]]:
    """Give the place for some rows of a plane, all of whose pixels are written within.

    Parameters
    ----------
    plane : ndarray
        (ny, nx).
    rows : slice
        With start and stop.

    Yields
    ------
    ndarray
        (rows, nx), whose values are those of the plane at the end: of a file a place in memory, from which they are
        written there. A first touch of its map clears megabytes of it before they are written, which takes ten times as
        long.

    Raises
    ------
    PhotplugError
        Where there is no space left.
    """
    mapped = _find_map(plane)
    if mapped is None or not plane.flags.c_contiguous:
        yield plane[rows]
        return
    part = np.empty((rows.stop - rows.start, *plane.shape[1:]), plane.dtype)
    yield part
    path = Path(str(mapped.filename))
    start = _offset(plane, mapped) + rows.start * plane.strides[0]
    try:
        with path.open("r+b", buffering=0) as file:
            rest = part.reshape(-1).view(np.uint8).data
            while rest:
                written = os.pwrite(file.fileno(), rest[:PIECE], start)
                rest, start = rest[written:], start + written
    except OSError as error:
        raise no_space(path.parent.parent, part.nbytes, error) from None


def _offset(array: Shared, mapped: np.memmap) -> int:
    """Return at which byte of its file an array begins."""
    start = mapped.__array_interface__["data"][0] - mapped.offset
    return int(array.__array_interface__["data"][0] - start)


def share_plane(plane: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return a plane that processes can share: a copy in a file, where there is a scratch folder and it is in none.

    Parameters
    ----------
    plane : ndarray

    Returns
    -------
    ndarray
        The same one where nothing is to be done.
    """
    if _current.get() is None or plane.nbytes < LEAST_BYTES or _find_map(plane) is not None:
        return plane
    shared = new_plane(plane.shape, plane.dtype.type, blank=False)
    for rows in row_blocks(plane.shape):
        with fill_rows(shared, rows) as part:
            part[...] = plane[rows]
    return shared


def _find_map(array: Shared) -> np.memmap | None:
    """Return the map of the file that an array is a view of."""
    found: np.memmap | None = None
    base: object = array
    while isinstance(base, np.ndarray):
        found = base if isinstance(base, np.memmap) and base.filename else found
        base = base.base
    return found


def unseen(path: str, error: OSError) -> PhotplugError:
    """Return what is said where a worker does not see a scratch file.

    Parameters
    ----------
    path : str
    error : OSError

    Returns
    -------
    PhotplugError
    """
    return PhotplugError(
        f"{path}: a worker cannot open this scratch file ({error.strerror}); name a folder with --scratch that all "
        "workers see"
    )


# Files that are mapped here, as long as somebody looks at them: each page of a new map is a fault of the processor, and
# the next work of a process is often on the same planes.
_mapped: weakref.WeakValueDictionary[str, np.memmap] = weakref.WeakValueDictionary()


def _open_view(
    path: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[np.generic]
) -> Shared:
    """Return a view of a file's pixels."""
    mapped = _mapped.get(path)
    if mapped is None:
        try:
            mapped = _mapped[path] = np.memmap(path, np.uint8, "r+")
        except OSError as error:
            raise unseen(path, error) from None
    return np.ndarray(shape, dtype, buffer=mapped, offset=offset, strides=strides)


class _Pickler(pickle.Pickler):
    """Of arrays in files it keeps where they are, not their values."""

    def reducer_override(self, obj: object) -> tuple[Callable[..., Shared], tuple[object, ...]]:
        """Return how an array of a file is opened again; nothing for all else."""
        if not isinstance(obj, np.ndarray) or (mapped := _find_map(obj)) is None:
            return NotImplemented
        return _open_view, (str(mapped.filename), _offset(obj, mapped), obj.shape, obj.strides, obj.dtype)


def dump_shared(thing: object) -> bytes:
    """Return a pickle, in which arrays that are views of files are named by their file.

    Parameters
    ----------
    thing : object

    Returns
    -------
    bytes
        For `pickle.loads` in a process that sees the files.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(thing)
    return buffer.getvalue()
