"""The mosaic that sources are injected into, as it is: what was found in it, how deep it is, and its electrons."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pluggy
from astropy import units as u
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from dja_photplug.completeness.limits import Places
from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import MosaicFiles, Source
from dja_photplug.mosaic.blocks import BackgroundVariance, Planes
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.models.fullweight import NoiseModel
from dja_photplug.mosaic.models.noise import RescaledModel, counts_electrons
from dja_photplug.mosaic.plan import load_noise_model
from dja_photplug.options.commands import InjectionOptions
from dja_photplug.options.run import Options
from dja_photplug.options.stages import NOISE_PRESETS
from dja_photplug.pipeline.images import load_source, zero_point_factor
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.grid import pixel_scale

__all__ = [
    "Field",
    "Floats",
    "Job",
    "find_depth",
    "list_hosts",
    "measure_distance",
    "prepare",
    "read_fluxes",
    "sample_places",
]

Floats = NDArray[np.float64]

# 10 mJy in a pixel, where the variance of the background no longer counts: what is left is that of the photons.
BRIGHT = np.float32(1e6)

# Places that stand for all of a mosaic: shares of its area are known to 0.001.
PLACES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What a process must know to make realisations; small, because it is pickled.

    Attributes
    ----------
    source : Source
    options : Options
        Of the analysis.
    injection : InjectionOptions
    psf : PSFModel or None
        For point sources, instead of the Gaussian.
    """

    source: Source
    options: Options
    injection: InjectionOptions
    psf: PSFModel | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """The mosaic as it is, with what was found in it before.

    Attributes
    ----------
    job : Job
    manager : PluginManager
    model : NoiseModel or None
        None where the weight is no function of the light, as of a ``_var`` file.
    weight : ndarray
        (ny, nx) float32, without photons.
    electrons : ndarray or None
        (ny, nx) float32, those of one unit of light, 0 without data; None for light without noise.
    psf : PSFModel or None
    before : Result
        The image and its catalogue.
    rim : `~scipy.spatial.cKDTree`
        Outermost pixels (x, y) of the segments.
    reference : float
        Background variance of the middle pixel, in the squared unit of the image.
    """

    job: Job
    manager: pluggy.PluginManager
    model: NoiseModel | None
    weight: NDArray[np.float32]
    electrons: NDArray[np.float32] | None
    psf: PSFModel | None
    before: Result
    rim: cKDTree
    reference: float


def prepare(job: Job, manager: pluggy.PluginManager | None) -> Field:
    """Load the mosaic, and detect and measure what is there.

    Parameters
    ----------
    job : Job
    manager : PluginManager or None
        None for all plugins that are installed.

    Returns
    -------
    Field

    Raises
    ------
    PhotplugError
        Where no pixel has data, or the electrons of light are not known.
    """
    options, manager = job.options, manager or get_plugin_manager()
    image = load_source(job.source, _without_photons(job), manager)
    if image.mask is None or image.mask.all():
        raise PhotplugError(f"{job.source.name}: no pixel has data, so nothing can be injected; use another cut-out")
    background = image.background_weight
    weight: NDArray[np.float32] = image.uncertainty.array if background is None else background
    photons = job.injection.photons == "poisson"
    before = analyse_image(image, options, manager)
    return Field(
        job=job,
        manager=manager,
        # Without a weight that has no photons in it, none can be computed for other light.
        model=None if background is None else image.noise_model,
        weight=weight,
        electrons=_count_electrons(_find_photon_model(job, image), weight) if photons else None,
        psf=job.psf,
        before=before,
        rim=_find_rim(before.detection.segmentation),
        reference=float(np.median(BackgroundVariance(Planes.of(image))[_spread_pixels(image.mask)])),
    )


def _without_photons(job: Job) -> Options:
    """Return the options to load with: gain and scale are those of the injected light alone where it has no photons."""
    variance, source = job.options.variance, job.source
    given = isinstance(source, MosaicFiles) and source.variance is not None and variance.noise in NOISE_PRESETS
    if variance.noise != "background" and not given:
        return job.options
    return replace(job.options, variance=replace(variance, detector_gain=None, phot_scale=None))


def _find_photon_model(job: Job, image: MosaicImage) -> NoiseModel:
    """Return the model of the preset ``calibrated``, or, of other archives, the one that their image carries."""
    model, source = image.noise_model, job.source
    if isinstance(source, MosaicFiles) and not counts_electrons(model):
        # Whatever analyses it, light is counted in electrons, also where a ``_var`` file holds the variance.
        variance = replace(job.options.variance, noise="calibrated")
        try:
            model = load_noise_model(replace(source, variance=None), variance, job.options.cutout)
        except PhotplugError as error:
            # That preset would not help: light is counted in electrons whichever analyses it.
            told = re.sub("(, or|;) use the noise preset 'background'", "", str(error))
            raise PhotplugError(
                f"electrons of the injected light: {told}; or inject without (photons 'none')"
            ) from None
        model = RescaledModel(model, zero_point_factor(source, job.options))
    if model is None:
        raise PhotplugError(
            f"electrons of the injected light: {source} was loaded without a noise model; inject without (photons "
            "'none'), or let its loader take the model that `variance` gives"
        )
    return model


def _count_electrons(model: NoiseModel, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the electrons of one unit in each pixel: light s has the variance s / electrons."""
    rows = slice(0, len(weight))
    with np.errstate(divide="ignore", invalid="ignore"):
        dark, lit = (1 / model(np.full_like(weight, light), weight, rows) for light in (np.float32(0), BRIGHT))
        electrons = BRIGHT / (lit - dark)
    return np.where(np.isfinite(electrons), electrons, np.float32(0))


def _find_rim(segmentation: NDArray[np.int32]) -> cKDTree:
    """Return the outermost pixels (x, y) of the segments: the nearest pixel of one from outside is among them."""
    inside = segmentation > 0
    return cKDTree(np.argwhere(inside & ~binary_erosion(inside))[:, ::-1])


def measure_distance(places: Floats, field: Field) -> Floats:
    """Return the distance of places to the nearest pixel of a segment.

    Parameters
    ----------
    places : ndarray
        x and y, (n, 2), in pixels.
    field : Field

    Returns
    -------
    ndarray
        (n,), arcsec; infinite without segments.
    """
    x, y = np.rint(places).astype(int).T
    distance, _ = field.rim.query(places)
    on_segment = field.before.detection.segmentation[y, x] > 0
    return np.where(on_segment, 0, distance * pixel_scale(field.before.image.wcs))


def find_depth(sources: QTable, before: Result, reference: float) -> tuple[NDArray[np.intp], Floats]:
    """Return the depth zone and the depth of the pixel that each source lies on.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        With the columns ``x y`` in pixels, (n,).
    before : Result
    reference : float
        Background variance that has a depth of 0.

    Returns
    -------
    zone : ndarray of int
        (n,), from 0, which is the deepest; all 0 without a calibration.
    depth : ndarray
        (n,), mag.
    """
    edges = np.empty(0) if before.calibration is None else before.calibration.edges
    row, column = (np.rint(sources[axis]).astype(int) for axis in "yx")
    variance = BackgroundVariance(Planes.of(before.image))[row, column]
    return np.searchsorted(edges, variance), -1.25 * np.log10(variance / reference)


def _spread_pixels(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of pixels with data on a square grid, `PLACES` of them or fewer."""
    step = int(np.ceil(np.sqrt(np.sum(~mask) / PLACES)))
    row, column = (axis * step + step // 2 for axis in np.nonzero(~mask[step // 2 :: step, step // 2 :: step]))
    if len(row) == 0:  # data in strips that the grid passes over
        row, column = np.nonzero(~mask)
    return row, column


def sample_places(field: Field) -> Places:
    """Return places all over the mosaic, with their depth and the source whose segment they lie on.

    Parameters
    ----------
    field : Field

    Returns
    -------
    Places
    """
    before = field.before
    row, column = _spread_pixels(before.image.mask)
    zone, depth = find_depth(QTable({"x": column, "y": row}), before, field.reference)
    host = list_hosts(before)[before.detection.segmentation[row, column]]
    return Places(x=column.astype(float), y=row.astype(float), depth=depth, zone=zone, host=host)


def list_hosts(before: Result) -> Floats:
    """Return the flux of the source of each label.

    Parameters
    ----------
    before : Result

    Returns
    -------
    ndarray
        (greatest label + 1,), uJy: infinite where it is not known, -infinite for label 0.
    """
    number = before.catalog["id"]
    flux = np.zeros(max(before.detection.segmentation.max(initial=0), number.max(initial=0)) + 1)
    flux[number] = np.nan_to_num(read_fluxes(before.catalog, "flux_auto"), nan=np.inf)
    flux[0] = -np.inf
    return flux


def read_fluxes(catalog: QTable, name: str) -> Floats:
    """Return fluxes of a catalogue.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        (n,).
    name : str
        Of the column.

    Returns
    -------
    ndarray
        (n,), uJy; NaN where the engine does not measure it.
    """
    return catalog[name].to_value(u.uJy) if name in catalog.colnames else np.full(len(catalog), np.nan)
