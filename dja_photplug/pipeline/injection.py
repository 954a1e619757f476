"""Injection and recovery: sources of known flux in the real image, detected and measured as all others.

The light of an injected source is drawn on the grid of the mosaic, and gets the Poisson noise of its electrons,
whose number the noise model itself tells (the physics of the preset ``calibrated``, whichever preset analyses the
image). This noise is independent from pixel to pixel, while that of a real source is drizzled and so correlated
with its neighbours: the variance of a sum over an area large against a drop (47 mas) is the same, that of a single
pixel is larger here. At the limit of detection the background rules and the difference does not matter.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pluggy
import sep
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, vstack
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, shift
from scipy.spatial import cKDTree
from tqdm import tqdm

from dja_photplug.catalog.metadata import make_metadata
from dja_photplug.catalog.schema import dress_table
from dja_photplug.completeness.bins import (
    SOURCE_COLUMNS,
    bin_sources,
    split_sources,
)
from dja_photplug.completeness.limits import Completeness, Places, fit_completeness
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import MosaicFiles, Source
from dja_photplug.mosaic.blocks import BackgroundVariance, Planes
from dja_photplug.mosaic.fullweight import NoiseModel
from dja_photplug.mosaic.image import MosaicImage, replace_planes
from dja_photplug.mosaic.load import load_noise_model
from dja_photplug.mosaic.noise import RescaledModel, counts_electrons
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.stages import NOISE_PRESETS, InjectionOptions, Options
from dja_photplug.parallel.workers import map_in_processes
from dja_photplug.pipeline.images import Products, find_source, load_source, zero_point_factor
from dja_photplug.pipeline.many_bands import describe_psf, read_psf_for
from dja_photplug.pipeline.one_band import Result, analyse_image, describe_noise, remeasure
from dja_photplug.plugins.manager import get_plugin_manager, split_work
from dja_photplug.plugins.options import complete_options
from dja_photplug.psf.model import PSF, SAME_SCALE, sample_psf
from dja_photplug.psf.regions import NOT_COVERED, PSFModel
from dja_photplug.simulate.exposures import draw_light
from dja_photplug.simulate.scene import trace_light
from dja_photplug.sky.grid import pixel_scale, sky_positions
from dja_photplug.sources.detection import FOUND, place_sources, sample_labels
from dja_photplug.units import MOSAIC_UNIT, flux_of

__all__ = ["InjectionResult", "inject"]

Floats = NDArray[np.float64]

# 10 mJy in a pixel, where the variance of the background no longer counts: what is left is that of the photons.
BRIGHT = np.float32(1e6)

# Places that stand for all of a mosaic: shares of its area are known to 0.001.
PLACES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InjectionResult:
    """What injection and recovery found.

    Attributes
    ----------
    table : `~astropy.table.QTable`
        One row for each bin of magnitude; columns of `dja_photplug.completeness.bins.BIN_COLUMNS`. Its metadata
        hold the options and, where they are known, the limits ``MAG50``, ``MAG80`` and ``MAG90`` with their errors, as
        of `dja_photplug.completeness.limits.Completeness.metadata`.
    sources : `~astropy.table.QTable`
        One row for each injected source; columns of `dja_photplug.completeness.bins.SOURCE_COLUMNS`.
    completeness : `~dja_photplug.completeness.limits.Completeness`
        The fitted curves of the mosaic and of its depth zones.
    options : Options
    injection : InjectionOptions
    """

    table: QTable
    sources: QTable
    completeness: Completeness
    options: Options
    injection: InjectionOptions

    @property
    def splits(self) -> QTable:
        """How fluxes compare with the truth by magnitude, distance to the nearest segment, and depth zone.

        Columns of `dja_photplug.completeness.bins.SPLIT_COLUMNS`, with the metadata of the other tables.
        """
        table = split_sources(self.sources)
        table.meta = dict(self.sources.meta)
        return table

    @property
    def limits(self) -> QTable:
        """The magnitudes at which the completeness falls below 50, 80 and 90 %, of the mosaic and of its depth zones.

        Columns of `dja_photplug.completeness.limits.LIMIT_COLUMNS`, with the metadata of the other tables.
        """
        table = self.completeness.limits
        table.meta = dict(self.sources.meta)
        return table

    @property
    def curves(self) -> QTable:
        """The fitted completeness with its band, of the mosaic and of its depth zones.

        Columns of `dja_photplug.completeness.limits.CURVE_COLUMNS`, with the metadata of `table`.
        """
        table = self.completeness.table
        table.meta = dict(self.table.meta)
        return table

    def limit(self, level: float = 0.5, *, clear: bool = False, zone: int | None = None) -> tuple[float, float]:
        """Return the AB magnitude at which the completeness falls below a level, and its error.

        Parameters
        ----------
        level : float, optional
            Between 0 and 1.
        clear : bool, optional
            Of the sources that are not blended, instead of all.
        zone : int, optional
            Of a depth zone, instead of all of the mosaic.

        Returns
        -------
        magnitude, error : float
            In mag; NaN where it is not known. `limits` says why.

        Raises
        ------
        PhotplugError
            For a level beyond 0 and 1, and a zone that the mosaic does not have.
        """
        if not 0 < level < 1:
            raise PhotplugError(f"completeness of {level}: it lies between 0 and 1; give a level between them")
        limit = self.completeness.find(clear=clear, zone=zone).limit(level)
        return limit.mag, limit.error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """What a process must know to make realisations; small, because it is pickled."""

    source: Source
    options: Options
    injection: InjectionOptions
    psf: PSFModel | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Field:
    """The mosaic as it is, with what was found in it before.

    `model` is None where the weight is no function of the light, as of a ``_var`` file; `weight` (ny, nx) is without
    photons. `electrons` (ny, nx) are those of one unit, 0 without data; None for light without noise. `rim` holds the
    outermost pixels (x, y) of the segments, `reference` is the background variance of the middle pixel.
    """

    job: _Job
    manager: pluggy.PluginManager
    model: NoiseModel | None
    weight: NDArray[np.float32]
    electrons: NDArray[np.float32] | None
    psf: PSFModel | None
    before: Result
    rim: cKDTree
    reference: float


def inject(
    source: Products,
    options: Options | None = None,
    injection: InjectionOptions | None = None,
    *,
    psf: str | Path | None = None,
    manager: pluggy.PluginManager | None = None,
    progress: bool = False,
) -> InjectionResult:
    """Inject sources of known flux into a mosaic, and detect and measure them.

    Each realisation puts sources at new random places with data, one in each cell of a grid, on top of what is
    there, draws the Poisson noise of their electrons, computes the full weight anew, and detects and measures
    everything with the engine and options of a catalogue; a(r) is that of the image as it is.

    An injected source is *recovered* where a detection lies within ``match_radius`` of it that was not there before
    (the image as it is has none within ``match_radius`` of that detection), or that it has at least doubled in flux.
    It is *blended* where it lies on the segment of a brighter source. Fluxes are compared in one aperture around the
    detection with the injected light alone in all of that aperture, also in pixels that the measurement masked and
    filled: light outside does not count, and how well the fill replaces what it takes does. Those of blended sources
    are not compared in bins of magnitude. All sources are measured at their true places as well, detected or not.

    Parameters
    ----------
    source : str, Path or Source
        The prefix of a mosaic, a member file, what a plugin finds, or the source itself.
    options : Options, optional
        Of the analysis, as for :func:`dja_photplug.run`.
    injection : InjectionOptions, optional
    psf : str or Path, optional
        FITS image of the PSF, of any size and pixel scale, for point sources; instead of the Gaussian. Its sum is the
        share of the light that it holds.
    manager : PluginManager, optional
        All plugins by default. Where it has others than those that are installed, all is done in this process.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.

    Returns
    -------
    InjectionResult
        The same for the same seed, whatever the number of workers.

    Raises
    ------
    PhotplugError
        Where the input does not allow it, nothing can be placed, or nothing is recovered.
    """
    manager = manager or get_plugin_manager()
    source = find_source(source, manager)
    job = _Job(
        source=source,
        options=settle_bands(complete_options(options or Options(), manager), [source.band]),
        injection=injection or InjectionOptions(),
        psf=None,
    )
    metadata = _check(job, psf)
    if psf is not None:
        given = {"scale": job.injection.psf_scale, "share": job.injection.psf_share}
        read = read_psf_for(job.source, psf, **given)
        job = replace(job, psf=read)
        metadata |= describe_psf(read)
    workers, own = split_work(manager, job.injection.workers or os.cpu_count() or 1)
    parts = map_in_processes(_realise, range(job.injection.realisations), workers, _prepare, job, own)
    # disable=None: only where stderr is a terminal.
    bar = tqdm(parts, "injecting", job.injection.realisations, disable=None if progress else True)
    tables, places = zip(*bar, strict=True)
    sources = vstack(list(tables))
    if len(sources) == 0:
        raise PhotplugError(
            f"{job.source.name}: no source could be placed on pixels with data; "
            "inject more closely (separation), more often (realisations), or into a larger cut-out"
        )
    if not sources["recovered"].any():
        low, high = job.injection.magnitudes
        raise PhotplugError(
            f"{job.source.name}: none of {len(sources)} injected sources of {low:g} to {high:g} mag was recovered; "
            "inject brighter ones (magnitudes)"
        )
    sources.meta = metadata = metadata | sources.meta
    if np.isnan(sources["fluxerr"][sources["recovered"]]).all():
        warnings.warn(
            f"engine {job.options.engine!r} gives no error of flux_aper_{job.injection.aperture}: fluxes are not "
            "compared; choose another aperture",
            PhotplugWarning,
            stacklevel=2,
        )
    completeness = fit_completeness(sources, places[0], job.injection.magnitudes)
    table = bin_sources(sources, job.injection.magnitudes, job.injection.bin_width)
    table.meta = metadata | completeness.metadata()
    return InjectionResult(
        table=table, sources=sources, completeness=completeness, options=job.options, injection=job.injection
    )


def _check(job: _Job, psf: str | Path | None) -> dict[str, object]:
    """Refuse early what the options tell; return the metadata of the tables, but for those of the image."""
    options, injection = job.options, job.injection
    if injection.aperture >= len(options.measure.apertures):
        raise PhotplugError(
            f"option aperture: {injection.aperture} is not one of the {len(options.measure.apertures)} apertures; "
            "they count from 0"
        )
    for name in ("psf_scale", "psf_share"):
        if psf is None and getattr(injection, name) is not None:
            raise PhotplugError(f"option {name}: there is no image of the PSF; give one (psf), or leave it out")
    if psf is not None and injection.shape != "point":
        raise PhotplugError(f"a PSF image is for point sources, and the shape is {injection.shape!r}; leave one out")
    injected = {name: value for name, value in asdict(injection).items() if name != "workers"}
    return make_metadata(options) | {
        "INPUT": str(job.source),
        "INJECT": json.dumps(injected),
        "INJASEC": options.measure.apertures[injection.aperture],
        "PSF": "Gaussian",
    }


def _find_photon_model(job: _Job, image: MosaicImage) -> NoiseModel:
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


def _without_photons(job: _Job) -> Options:
    """Return the options to load with: gain and scale are those of the injected light alone where it has no photons."""
    variance, source = job.options.variance, job.source
    given = isinstance(source, MosaicFiles) and source.variance is not None and variance.noise in NOISE_PRESETS
    if variance.noise != "background" and not given:
        return job.options
    return replace(job.options, variance=replace(variance, detector_gain=None, phot_scale=None))


def _prepare(job: _Job, manager: pluggy.PluginManager | None) -> _Field:
    """Load the mosaic, and detect and measure what is there."""
    options, manager = job.options, manager or get_plugin_manager()
    image = load_source(job.source, _without_photons(job), manager)
    if image.mask is None or image.mask.all():
        raise PhotplugError(f"{job.source.name}: no pixel has data, so nothing can be injected; use another cut-out")
    background = image.background_weight
    weight: NDArray[np.float32] = image.uncertainty.array if background is None else background
    photons = job.injection.photons == "poisson"
    before = analyse_image(image, options, manager)
    return _Field(
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


def _count_electrons(model: NoiseModel, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the electrons of one unit in each pixel: light s has the variance s / electrons."""
    rows = slice(0, len(weight))
    with np.errstate(divide="ignore", invalid="ignore"):
        dark, lit = (1 / model(np.full_like(weight, light), weight, rows) for light in (np.float32(0), BRIGHT))
        electrons = BRIGHT / (lit - dark)
    return np.where(np.isfinite(electrons), electrons, np.float32(0))


def _realise(field: _Field, number: int) -> tuple[QTable, Places | None]:
    """Inject sources once; return them with what became of them, and, the first time, the places of the mosaic."""
    job, before = field.job, field.before
    rng = np.random.default_rng([job.injection.seed, number])
    sources = _draw_sources(before.image, job.injection, rng)
    light = _draw(sources, field)
    image = _add_light(field, light, rng)
    after = analyse_image(image, job.options, field.manager, calibration=before.calibration)
    places = np.stack([sources["x"], sources["y"]], axis=-1)
    nearest = _match(places, _positions(after), job.injection.match_radius / pixel_scale(image.wcs))
    around = np.concatenate([_positions(after), places])[np.where(nearest < len(after.catalog), nearest, -1)]
    true = _sum_light(sources, np.stack([places, around], axis=1), field)
    columns = {
        "realisation": np.full(len(sources), number),
        **dict(sources.items()),
        **_recover(sources, before, after, nearest, true[:, 1], job.injection),
        "flux_true_forced": true[:, 0],
        **_force(sources, after, field),
        "distance": _measure_distance(places, field),
        **dict(zip(("zone", "depth"), _find_depth(sources, before, field.reference), strict=True)),
    }
    table = dress_table(columns, SOURCE_COLUMNS)
    # Counts of pixels are those of the mosaic, not of an injection.
    cards = describe_noise(before.image)
    table.meta = {key: value for key, value in cards.items() if key not in ("NFILLED", "NNULL", "NNOTFIN", "NNEGWHT")}
    return table, _sample_places(field) if number == 0 else None


def _draw_sources(image: MosaicImage, injection: InjectionOptions, rng: np.random.Generator) -> QTable:
    """Draw positions, magnitudes and shapes: a QTable of the columns of a source that are known beforehand."""
    x, y = _draw_positions(image.mask, injection.separation / pixel_scale(image.wcs), rng)
    n = len(x)
    ra, dec = sky_positions(image.wcs, x, y)
    # One in each of n equal intervals, in any order: no bin is left empty by chance.
    low, high = injection.magnitudes
    mag = low + (high - low) * (rng.permutation(n) + rng.random(n)) / max(n, 1)
    point = injection.shape == "point"
    (small, large), (flat, round_) = injection.half_light, injection.axis_ratio
    size = np.exp(rng.uniform(np.log(small), np.log(large), n))
    sources = QTable({"ra": ra * u.deg, "dec": dec * u.deg, "x": x, "y": y, "mag": mag})
    sources["size"] = np.where(point, 0, size) * u.arcsec
    sources["axis_ratio"] = np.where(point, 1, rng.uniform(flat, round_, n))
    sources["pa"] = np.where(point, 0, rng.uniform(0, 180, n)) * u.deg
    return sources


def _draw_positions(mask: NDArray[np.bool_], cell: float, rng: np.random.Generator) -> Floats:
    """Return positions (x and y, n) in pixels with data, in the middle half of each cell of a grid.

    The grid's origin is random, so that all places are equally likely.
    """
    grid = [np.arange(-rng.uniform(0, cell), n, cell) for n in mask.shape]
    y, x = (axis.ravel() for axis in np.meshgrid(*grid, indexing="ij"))
    y, x = (axis + cell * rng.uniform(0.25, 0.75, len(axis)) for axis in (y, x))
    row, column = (np.rint(axis).astype(int) for axis in (y, x))
    inside = (row < mask.shape[0]) & (column < mask.shape[1]) & (row >= 0) & (column >= 0)
    inside[inside] = ~mask[row[inside], column[inside]]
    return np.stack([x[inside], y[inside]])


def _draw(sources: QTable, field: _Field, box: tuple[slice, slice] | None = None) -> Floats:
    """Return the light of the sources in every pixel, (ny, nx), 10 nJy, or in those of a box."""
    image, injection = field.before.image, field.job.injection
    flux = flux_of(sources["mag"].value) * u.uJy
    rows, columns = box or tuple(slice(0, n) for n in image.data.shape)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if field.psf is not None:
        centres = np.stack([sources["y"] - rows.start, sources["x"] - columns.start], axis=-1)
        places = SkyCoord(sources["ra"], sources["dec"])
        return _draw_psf(field.psf, places, centres, flux.to_value("10 nJy"), shape, pixel_scale(image.wcs))
    scene = sources["ra", "dec", "size", "axis_ratio", "pa"]
    scene["flux"] = flux
    index = {"point": 0.0, "gaussian": 0.5, "sersic": injection.sersic_index}[injection.shape]
    scene["sersic"] = np.full(len(scene), index)
    wcs = image.wcs[rows, columns]
    wcs.array_shape = shape
    return draw_light(trace_light(scene, "flux", injection.psf_fwhm), wcs)


def _draw_psf(
    model: PSFModel, places: SkyCoord, centres: Floats, flux: Floats, shape: tuple[int, int], scale: float
) -> Floats:
    """Return point sources at (y, x), (n, 2), drawn with the image of the PSF of their place, at its own centre."""
    image = np.zeros(shape)
    regions = model.regions_at(places)
    if missing := int(np.sum(regions == NOT_COVERED)):
        raise PhotplugError(
            f"{model.name}: {missing} of {len(places)} injected sources lie in no region that it has a PSF of; give a "
            "PSF of the whole mosaic, or a cut-out within its regions"
        )
    for region, centre, total in zip(regions.tolist(), centres, flux, strict=True):
        psf = model.stamps[region]
        stamp, first = _place_psf(psf, centre, scale)
        ends = zip(first, stamp.shape, shape, strict=True)
        low, high = np.array([(max(start, 0), min(start + n, m)) for start, n, m in ends]).T
        image[low[0] : high[0], low[1] : high[1]] += total * stamp[tuple(map(slice, low - first, high - first))]
    return image


def _place_psf(psf: PSF, centre: Floats, scale: float) -> tuple[Floats, NDArray[np.intp]]:
    """Return the PSF around a place (y, x) on pixels of `scale`, and the pixel on which it begins."""
    if abs(scale / psf.scale - 1) < SAME_SCALE:
        corner = centre - psf.centre
        first = np.rint(corner).astype(int)
        return shift(psf.data, corner - first, output=np.float64), first  # cubic spline
    middle = np.rint(centre).astype(int)
    offset = centre - middle
    stamp = sample_psf(psf, scale, (float(offset[0]), float(offset[1])))
    return stamp, middle - np.array(stamp.shape) // 2


def _add_light(field: _Field, light: Floats, rng: np.random.Generator) -> MosaicImage:
    """Return the image with injected light, its Poisson noise, and the full weight of both."""
    image = field.before.image
    photons = np.zeros(light.shape, np.float32)  # the variance of the injected light
    noisy = light.copy()
    if field.electrons is not None:
        lit = (light > 0) & (field.electrons > 0)
        electrons = field.electrons[lit].astype(np.float64)
        noisy[lit] = rng.poisson(light[lit] * electrons) / electrons
        photons[lit] = light[lit] / electrons
    data = image.data + noisy.astype(np.float32)
    if field.model is None:
        weight = image.uncertainty.array / (1 + image.uncertainty.array * photons)
    else:
        weight = field.model(data, field.weight, slice(0, len(data)))
    return replace_planes(image, data=data, weight=weight)


def _sum_light(sources: QTable, places: Floats, field: _Field) -> Floats:
    """Return the light of each source alone in circles around places (n, m, 2), nothing masked: uJy, (n, m).

    Each is drawn again on the pixels that its circles touch, though cells keep the sources apart: wings reach farther.
    With n = 4 those of 24 mag put 0.6 of the light of one of 31 mag into its circle, from 2 arcsec away. Off the image
    nothing counts, as in the measurement.
    """
    image, options = field.before.image, field.job.options
    radius = options.measure.apertures[field.job.injection.aperture] / 2 / pixel_scale(image.wcs)
    low = np.maximum(np.floor(places.min(axis=1) - radius), 0).astype(int)
    high = np.minimum(np.ceil(places.max(axis=1) + radius).astype(int) + 1, image.data.shape[::-1])
    flux = np.empty(places.shape[:2])
    for i, ((x0, y0), (x1, y1)) in enumerate(zip(low, high, strict=True)):
        stamp = _draw(sources[i : i + 1], field, (slice(y0, y1), slice(x0, x1)))
        flux[i], _, _ = sep.sum_circle(stamp, *(places[i] - low[i]).T.copy(), radius, subpix=0)
    return flux * MOSAIC_UNIT.to(u.uJy)


def _force(sources: QTable, after: Result, field: _Field) -> dict[str, Floats]:
    """Return fluxes and errors at the true positions, as sources of the segments that they lie on."""
    found = dict.fromkeys(FOUND, np.full(len(sources), np.nan))  # no shapes: apertures are circles
    found |= {name: sources[name].value for name in "xy"} | dict.fromkeys(("npix", "flag"), np.zeros(len(sources), int))
    segmentation = after.detection.segmentation
    # Those on none get labels that no pixel has: no segment is theirs, and all are masked.
    ids = sample_labels(segmentation, sources)
    ids = np.where(ids > 0, ids, segmentation.max(initial=0) + 1 + np.arange(len(ids)))
    targets = place_sources(found, segmentation, after.image.wcs, ids)
    catalog = remeasure(replace(after, detection=targets), after.image, field.manager)
    names = {name: f"{name}_aper_{field.job.injection.aperture}" for name in ("flux", "fluxerr")}
    return {f"{name}_forced": _fluxes(catalog, column) for name, column in names.items()}


def _find_rim(segmentation: NDArray[np.int32]) -> cKDTree:
    """Return the outermost pixels (x, y) of the segments: the nearest pixel of one from outside is among them."""
    inside = segmentation > 0
    return cKDTree(np.argwhere(inside & ~binary_erosion(inside))[:, ::-1])


def _measure_distance(places: Floats, field: _Field) -> Floats:
    """Return the distance of places (n, 2) to the nearest pixel of a segment, arcsec; infinite without segments."""
    x, y = np.rint(places).astype(int).T
    distance, _ = field.rim.query(places)
    on_segment = field.before.detection.segmentation[y, x] > 0
    return np.where(on_segment, 0, distance * pixel_scale(field.before.image.wcs))


def _find_depth(sources: QTable, before: Result, reference: float) -> tuple[NDArray[np.intp], Floats]:
    """Return the columns ``zone`` and ``depth`` of the pixel that each source lies on; without a calibration zone 0."""
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


def _sample_places(field: _Field) -> Places:
    """Return places all over the mosaic, with their depth and the source whose segment they lie on."""
    before = field.before
    row, column = _spread_pixels(before.image.mask)
    zone, depth = _find_depth(QTable({"x": column, "y": row}), before, field.reference)
    host = _list_hosts(before)[before.detection.segmentation[row, column]]
    return Places(x=column.astype(float), y=row.astype(float), depth=depth, zone=zone, host=host)


def _recover(
    sources: QTable,
    before: Result,
    after: Result,
    nearest: NDArray[np.intp],
    light: Floats,
    injection: InjectionOptions,
) -> dict[str, NDArray[np.generic]]:
    """Return the columns that say what became of each source, given its detection and its own light there, uJy."""
    aperture, radius = f"aper_{injection.aperture}", injection.match_radius / pixel_scale(after.image.wcs)
    detected, existing = _positions(after), _positions(before)
    found = nearest < len(detected)
    earlier = _match(detected[nearest[found]], existing, radius)
    # Without an earlier detection there is nothing to double, and the index is that of the appended value.
    there = np.append(_fluxes(before.catalog, f"flux_{aperture}"), -np.inf)[earlier]
    recovered = found.copy()
    recovered[found] = ~(light[found] < there)
    columns: dict[str, NDArray[np.generic]] = {"recovered": recovered, "blended": _is_blended(sources, before)}
    columns["flux_true"] = np.where(recovered, light, np.nan)
    for name, values in (
        ("flux", _fluxes(after.catalog, f"flux_{aperture}")),
        ("fluxerr", _fluxes(after.catalog, f"fluxerr_{aperture}")),
    ):
        columns[name] = np.append(values, np.nan)[np.where(recovered, nearest, len(values))]
    return columns


def _fluxes(catalog: QTable, name: str) -> Floats:
    """Return a column in uJy, (n,); NaN where the engine does not measure it."""
    return catalog[name].to_value(u.uJy) if name in catalog.colnames else np.full(len(catalog), np.nan)


def _positions(result: Result) -> Floats:
    """Return the positions of the sources in pixels, (n, 2); far away where there is none."""
    catalog = result.catalog if {"x", "y"} <= set(result.catalog.colnames) else result.detection.sources
    return np.nan_to_num(np.stack([catalog["x"].value, catalog["y"].value], axis=-1), nan=-1e9)


def _match(wanted: Floats, known: Floats, radius: float) -> NDArray[np.intp]:
    """Return the index of the known position that is nearest to each wanted one; their number where none is near."""
    _, index = cKDTree(known).query(wanted.reshape(-1, 2), distance_upper_bound=radius)
    return index


def _is_blended(sources: QTable, before: Result) -> NDArray[np.bool_]:
    """Return whether each source lies on the segment of a brighter one, or of one whose flux is not known."""
    row, column = (np.rint(sources[axis]).astype(int) for axis in "yx")
    return _list_hosts(before)[before.detection.segmentation[row, column]] > flux_of(sources["mag"].value)


def _list_hosts(before: Result) -> Floats:
    """Return the flux of the source of each label, uJy: infinite where it is not known, -infinite for label 0."""
    number = before.catalog["id"]
    flux = np.zeros(max(before.detection.segmentation.max(initial=0), number.max(initial=0)) + 1)
    flux[number] = np.nan_to_num(_fluxes(before.catalog, "flux_auto"), nan=np.inf)
    flux[0] = -np.inf
    return flux
