"""The field that stamps are cut from: its planes, its sources in pixels, and those that are to be fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sep
from astropy import units as u
from astropy.stats import mad_std
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.columns import column_values
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.fitting.headers import describe_field
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.commands import GalfitOptions
from dja_photplug.options.stages import MeasureOptions
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.cards import read_numbers
from dja_photplug.sky.grid import Scalar, cut_window, pixel_positions, pixel_scale
from dja_photplug.units import MOSAIC_UNIT, MOSAIC_ZERO_POINT, convert, magnitude_of

__all__ = ["SOURCE_COLUMNS", "Component", "Field", "FitSources", "Window", "measure_scatter"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Pixels of a mosaic whose scatter is measured: of larger ones every n-th.
MOST_EMPTY = 1_000_000

SOURCE_COLUMNS = {"ra": "deg", "dec": "deg", "a": "arcsec", "b": "arcsec", "theta": "deg", "kron_radius": ""} | {
    "flux_radius": "arcsec"
}
"""Columns of a catalogue that stamps are made from, beside ``id`` and the flux, with their units."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitSources:
    """The sources of a mosaic, and those to be fitted among them.

    Attributes
    ----------
    table : `~astropy.table.QTable`
        With ``id``, the columns of :data:`SOURCE_COLUMNS`, and fluxes.
    targets : mapping of str to int
        Name of each stamp and ``id`` of its source.
    segmentation : ndarray or None
        Of the image's shape (ny, nx), labelled by ``id``; without it Kron ellipses stand in.
    psf : PSFModel or None
        Of any size and pixel scale; each stamp gets that of its target's place.
    calibration : NoiseCalibration or None
        a(r), for the factor of errors.
    """

    table: QTable
    targets: Mapping[str, int]
    segmentation: NDArray[np.integer] | None = None
    psf: PSFModel | None = None
    calibration: NoiseCalibration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Starting values of one Sersic profile on a stamp.

    Attributes
    ----------
    id : int
        Of the source in the catalogue.
    x, y : float
        Pixels of the stamp, 0-based.
    magnitude : float
        Total, AB.
    radius : float
        Half-light radius along the major axis, PSF included, in pixels.
    index : float
        Sersic's n.
    axis_ratio : float
        b/a.
    theta : float
        Angle of the major axis counter-clockwise from +x, deg.

    Examples
    --------
    >>> Component(id=1, x=10, y=10, magnitude=25, radius=3, index=1, axis_ratio=0.5, theta=30).position_angle
    -60.0
    """

    id: int
    x: float
    y: float
    magnitude: float
    radius: float
    index: float
    axis_ratio: float
    theta: float

    @property
    def position_angle(self) -> float:
        """Angle of the major axis counter-clockwise from +y, as galfit and imfit count it, -90 to 90 deg."""
        return float((self.theta % 180) - 90)


@dataclass(frozen=True, slots=True)
class Window:
    """A square of the mosaic, which may reach beyond it.

    Attributes
    ----------
    x, y : int
        Its first pixel, 0-based.
    side : int
        In pixels.
    """

    x: int
    y: int
    side: int

    def cut(self, plane: NDArray[Scalar], fill: float) -> NDArray[Scalar]:
        """Return a copy of the pixels of a plane, `fill` where they are off the mosaic.

        Parameters
        ----------
        plane : ndarray
            (ny, nx).
        fill : float

        Returns
        -------
        ndarray
            (side, side).
        """
        return cut_window(plane, (self.y, self.x), (self.side, self.side), fill)

    def offset(self, x: Floats | float, y: Floats | float) -> Floats:
        """Return how far positions are from the middle, in pixels along the farther axis.

        Parameters
        ----------
        x, y : ndarray or float
            In pixels of the mosaic, (n,).

        Returns
        -------
        ndarray
            (n,).
        """
        return np.maximum(np.abs(x - self.x - self.side // 2), np.abs(y - self.y - self.side // 2))


class Field:
    """What all stamps of one image share: planes, sources in pixels, and headers.

    Parameters
    ----------
    image : MosaicImage
    sources : FitSources
    options : GalfitOptions
    joint : bool
        Whether neighbours are fitted with a target.
    """

    def __init__(self, image: MosaicImage, sources: FitSources, options: GalfitOptions, joint: bool) -> None:
        self.joint, self.options, self.segmentation, self.psf = joint, options, sources.segmentation, sources.psf
        self.calibration, self.scale = sources.calibration, pixel_scale(image.wcs)
        self.kernels: dict[int, NDArray[np.float32]] = {}
        self.data, self.weight, self.mask = image.data, image.uncertainty.array, image.mask
        self.background = self.weight if image.background_weight is None else image.background_weight
        columns = _read_columns(sources.table, options.flux)
        self.id = np.asarray(sources.table["id"]).astype(int)
        self.row = {number: i for i, number in enumerate(self.id.tolist())}
        self.ra, self.dec = columns["ra"], columns["dec"]
        self.x, self.y = pixel_positions(image.wcs, self.ra, self.dec)
        self.flux = columns[options.flux]
        self.theta = np.nan_to_num(columns["theta"])
        a, b, kron = (columns[name] for name in ("a", "b", "kron_radius"))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.axis_ratio = np.clip(np.nan_to_num(b / a, nan=1.0), 0.05, 1)
        known = read_numbers(sources.table.meta, (), "correct the metadata of the catalogue", optional=["KRONCIRC"])
        least = known.get("KRONCIRC", MeasureOptions().kron_circle)
        major, minor, *_ = kron_apertures(a, b, self.theta, kron, least)
        self.major, self.minor = major / self.scale, minor / self.scale
        # A circle holds half the light of an ellipse of equal area; below half a pixel there is nothing to start from.
        half_light = np.fmax(columns["flux_radius"] / self.scale, 0.5)
        self.radius = half_light / np.sqrt(self.axis_ratio)
        self.grid = image.wcs.to_header()
        self.header = self.grid + describe_field(image.meta, calibrated=sources.calibration is not None)
        # Text, because copying and changing 1,000 headers takes as long as cutting the pixels.
        self.cards, self.grid_cards = (
            {card.keyword: str(card) for card in header.cards} for header in (self.header, self.grid)
        )
        self.pixel_scatter = self._measure_scatter()

    def _measure_scatter(self) -> float | None:
        """Return the pixel scatter of the mosaic, of every n-th pixel where there are many."""
        step = int(np.ceil(np.sqrt(self.data.size / MOST_EMPTY)))
        part = np.s_[::step, ::step]
        empty = (self.weight[part] > 0) & np.isfinite(self.data[part])
        if self.segmentation is not None:
            empty &= self.segmentation[part] == 0
        return measure_scatter(self.data[part][empty] * np.sqrt(self.weight[part][empty]))

    def segments(self, window: Window, target: int) -> NDArray[np.int32]:
        """Return the segmentation of a stamp, or Kron ellipses of the sources, the target's on top.

        Parameters
        ----------
        window : Window
        target : int
            Row of its source.

        Returns
        -------
        ndarray
            (side, side) int32, labelled by ``id``.
        """
        if self.segmentation is not None:
            return window.cut(self.segmentation, 0).astype(np.int32, copy=False)
        drawn = np.zeros((window.side, window.side), np.int32)
        near = np.flatnonzero(window.offset(self.x, self.y) < window.side / 2 + self.major)
        for i in [*near[np.argsort(np.nan_to_num(self.flux[near]))], target]:
            drawn[self.ellipse(i, window)] = self.id[i]
        return drawn

    def ellipse(self, i: int, window: Window, margin: float = 0) -> Bools:
        """Return the pixels of a stamp in the Kron ellipse of source `i`, its axes longer by `margin` pixels.

        Parameters
        ----------
        i : int
            Row of the source.
        window : Window
        margin : float, optional

        Returns
        -------
        ndarray of bool
            (side, side).
        """
        inside = np.zeros((window.side, window.side), bool)
        where = self.x[i] - window.x, self.y[i] - window.y
        axes = self.major[i] + margin, self.minor[i] + margin
        sep.mask_ellipse(inside, *where, *axes, np.deg2rad(self.theta[i]))
        return inside

    def component(self, i: int, window: Window, faintest: float) -> Component:
        """Return the starting values of source `i`, no fainter than the flux `faintest` (10 nJy).

        Parameters
        ----------
        i : int
            Row of the source.
        window : Window
        faintest : float

        Returns
        -------
        Component
        """
        return Component(
            id=int(self.id[i]),
            x=float(self.x[i] - window.x),
            y=float(self.y[i] - window.y),
            magnitude=float(magnitude_of(np.fmax(self.flux[i], faintest), MOSAIC_ZERO_POINT)),
            radius=float(self.radius[i]),
            index=self.options.index,
            axis_ratio=float(self.axis_ratio[i]),
            theta=float(self.theta[i]),
        )


def _read_columns(table: QTable, flux: str) -> dict[str, Floats]:
    """Return plain columns in the units of :data:`SOURCE_COLUMNS`, the flux in those of the mosaic."""
    missing = [name for name in ("id", *SOURCE_COLUMNS, flux) if name not in table.colnames]
    if missing:
        # Only the name of the flux is the user's.
        meant = suggest(flux, table.colnames) if missing == [flux] else ""
        advice = meant or "; make stamps of one that `catalog` wrote"
        raise PhotplugError(f"the catalogue has no column {', '.join(missing)}{advice}")
    ours = SOURCE_COLUMNS | {"kron_radius": u.dimensionless_unscaled}
    columns = {name: column_values(table, name, unit) for name, unit in ours.items()}
    return columns | {flux: convert(column_values(table, flux, "uJy"), u.uJy, MOSAIC_UNIT)}


def measure_scatter(ratio: NDArray[np.floating]) -> float | None:
    """Return the robust scatter of data / sigma.

    Parameters
    ----------
    ratio : ndarray
        Of n pixels.

    Returns
    -------
    float or None
        None without a pixel.
    """
    return float(mad_std(ratio)) if ratio.size else None
