"""Planes in files that processes share: pickled by the name of the file, so that the same pixels are found there."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class SharedPlane(np.memmap):
    def __reduce__(self):
        return open_plane, (self.filename, self.dtype.str, self.shape)


def open_plane(path: Path, dtype: str, shape: tuple[int, int], mode: str = "r+") -> SharedPlane:
    return SharedPlane(path, dtype=np.dtype(dtype), mode=mode, shape=shape)


def share_plane(path: Path, pixels: np.ndarray) -> SharedPlane:
    plane = open_plane(path, pixels.dtype.str, pixels.shape, "w+")
    plane[:] = pixels
    return plane
