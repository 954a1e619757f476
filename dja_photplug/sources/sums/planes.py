"""The planes that sums are made of, what was taken off them, and the sums."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dja_photplug.light.mesh import Mesh
from dja_photplug.light.planes import Flags, Floats
from dja_photplug.mosaic.blocks import Plane, native_pixels
from dja_photplug.neighbours.error import ProfileError
from dja_photplug.neighbours.models import NeighbourLight, Neighbours

__all__ = ["Pixels", "Removed", "Sky", "Sums"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sky:
    """What was taken off an image as its sky, where that was a mesh.

    Attributes
    ----------
    mesh : Mesh or None
        In the unit of the image; None where none was taken off.
    pixels : float
        How many pixels the sky of a place is the mean of; infinite where none was taken off.
    mask : ndarray of bool or None
        (ny, nx), where sources are, on which it was not measured.
    note : str
        What could not be done as asked; empty where all was.
    """

    mesh: Mesh | None = None
    pixels: float = np.inf
    mask: NDArray[np.bool_] | None = None
    note: str = ""

    def __getitem__(self, box: slice | tuple[slice, slice]) -> Sky:
        """Return that of a part of the image."""
        return replace(
            self,
            mesh=None if self.mesh is None else self.mesh[box],
            mask=None if self.mask is None else self.mask[box],
        )

    def take_off(self, data: Plane, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return pixels less this sky.

        Parameters
        ----------
        data : ndarray
            (ny, nx).
        out : ndarray, optional
            (ny, nx) float32, where to put it.

        Returns
        -------
        ndarray
            (ny, nx), native float32, contiguous where it is not `out`; without that the same array where nothing is
            to be done.
        """
        pixels = native_pixels(data)
        if self.mesh is not None:
            return self.mesh.take_off(pixels, out)
        if out is not None:
            out[...] = pixels
        return pixels if out is None else out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Removed:
    """What photometry takes off an image, measured for all of it.

    Attributes
    ----------
    sky : Sky
    neighbours : NeighbourLight or None
        What sources add to each other, and the image without it, where that is taken off too.
    profiles : ProfileError or None
        How well it is known, once that was measured.
    """

    sky: Sky = Sky()
    neighbours: NeighbourLight | None = None
    profiles: ProfileError | None = None

    def __getitem__(self, box: tuple[slice, slice]) -> Removed:
        """Return that of a part of the image."""
        neighbours = None if self.neighbours is None else self.neighbours[box]
        return replace(self, sky=self.sky[box], neighbours=neighbours)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """The arrays that an engine sums over, all (ny, nx).

    Attributes
    ----------
    data : ndarray
        In the unit of the image.
    variance, background : ndarray
        With and without the source photons, in its square; they are one array where nobody told them apart.
    null : ndarray of bool
        Pixels without data.
    segmentation : ndarray or None
        Labels; None where neighbours are kept.
    sky : Sky
        What was taken off before.
    neighbours : Neighbours or None
        What sources add to each other, where it is subtracted: then `data` is clear of it.
    mean : bool
        Whether the mean of an aperture stands for neighbours in it, as sep has it, and nothing else.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    background: NDArray[np.float32]
    null: NDArray[np.bool_]
    segmentation: NDArray[np.int32] | None
    sky: Sky = Sky()
    neighbours: Neighbours | None = None
    mean: bool = False

    @property
    def alone(self) -> Pixels:
        """The same with the light of the brightest source in each pixel of the sky, for radii."""
        return self if self.neighbours is None else replace(self, data=self.neighbours.alone)

    def __getitem__(self, box: tuple[slice, slice]) -> Pixels:
        """Return copies of the pixels of `box`, contiguous as sep needs them."""
        return Pixels(
            data=self.data[box].copy(),
            variance=self.variance[box].copy(),
            background=self.background[box].copy(),
            null=self.null[box].copy(),
            segmentation=None if self.segmentation is None else self.segmentation[box].copy(),
            mean=self.mean,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Sums over apertures, all (n,).

    Attributes
    ----------
    flux : ndarray
        In the unit of the image.
    total, background : ndarray
        Variance with and without the source photons, in its square.
    area : ndarray
        In pixels.
    flag : ndarray
        Bits of `SourceFlag`.
    """

    flux: Floats
    total: Floats
    background: Floats
    area: Floats
    flag: Flags
