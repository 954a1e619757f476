"""The error of the flat field: of each pixel in the noise model ``flat``, and of a source in a column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.table import Column
from numpy.typing import NDArray

from dja_photplug.plugin import make_noise_model
from photplug_jwst_i2d.options import PRESET

if TYPE_CHECKING:
    from dja_photplug.plugin import ExposureLog, ExposureMap, Header, NoiseModel, Options

Plane = NDArray[np.float32]


def flat_variance(science: Plane, error: float) -> Plane:
    """Return the variance of the flat field in each pixel, of the shape of `science` and in its unit squared."""
    return np.square(np.float32(error) * np.nan_to_num(science), dtype=np.float32)


@dataclass(frozen=True)
class FlatNoise:
    """Another noise model, and the error of the flat field on top.

    Attributes
    ----------
    model : NoiseModel
    error : float
        As a fraction of the signal.
    """

    model: NoiseModel
    error: float

    def __call__(self, science: Plane, weight: Plane, rows: slice, /) -> Plane:
        """Return the full weight of a block of rows, 0 where there are no data."""
        full = self.model(science, weight, rows)
        return full / (1 + full * flat_variance(science, self.error))

    @property
    def provenance(self) -> dict[str, tuple[str | float, str]]:
        """FITS cards, for headers and the metadata of catalogues."""
        return {
            **self.model.provenance,
            "NOISE": (PRESET, "noise preset of the full weight"),
            "FLATERR": (self.error, "error of the flat field / signal"),
        }


def make_flat_noise(
    header: Header, exposure: ExposureMap | None, log: ExposureLog | None, options: Options, error: float
) -> FlatNoise:
    """Return the preset ``calibrated`` with the error of the flat field."""
    return FlatNoise(make_noise_model(header, exposure, log, replace(options.variance, noise="calibrated")), error)


def flat_column(flux: u.Quantity, error: float) -> Column:
    """Return the error of fluxes, (n,), by a flat field that is wrong by the same fraction all over the source."""
    column = Column(error * np.abs(flux.value), unit=flux.unit)
    column.description = f"error of flux_auto by a flat field that is wrong by {error:g}"
    return column
