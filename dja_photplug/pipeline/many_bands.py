"""One list of sources in many bands: each is measured on its own grid, and their columns join under its name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pluggy
from astropy.table import Column, QTable
from numpy.typing import NDArray

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.metadata import encode_metadata
from dja_photplug.catalog.schema import (
    APERTURE_COLUMNS,
    CONTAMINATION_COLUMNS,
    DETAIL_COLUMNS,
    GROWTH_COLUMNS,
    KRON_DETAIL_COLUMNS,
    MASK_COLUMNS,
    MATCH_COLUMNS,
    MATCHED_TOTAL_COLUMNS,
    POSITION_COLUMNS,
    SKY_COLUMNS,
    TOTAL_COLUMNS,
    ColumnSpec,
    describe_apertures,
    describe_columns,
    describe_removed,
    epoch_columns,
)
from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import Source
from dja_photplug.matching.kernels import Target
from dja_photplug.options.bands import settle_values
from dja_photplug.options.run import Options
from dja_photplug.parallel.workers import Map, map_in_processes
from dja_photplug.pipeline.images import Products, find_source
from dja_photplug.pipeline.one_band import measure_band
from dja_photplug.plugins.manager import get_plugin_manager, split_work
from dja_photplug.psf.model import COUNT, warn_of_assumptions
from dja_photplug.psf.regions import PSFModel, read_psf_model
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import Detection

__all__ = [
    "KRON_COLUMNS",
    "SEGMENT_COLUMNS",
    "SOURCE_COLUMNS",
    "Bands",
    "describe_bands",
    "describe_matched",
    "describe_own",
    "describe_psf",
    "find_bands",
    "list_columns",
    "measure_bands",
    "name_columns",
    "read_calibration",
    "read_psf_for",
    "read_psfs",
]

Floats = NDArray[np.float64]

# What a source is, in whichever band it is measured.
SOURCE_COLUMNS = (
    *("id", "ra", "dec", "x", "y", "a", "b", "theta", "npix", "snr_detect", "kron_radius"),
    *(spec.name for spec in (*POSITION_COLUMNS, *DETAIL_COLUMNS)),
)


# What each band says of a source beside its apertures and epochs.
KRON_COLUMNS = (
    *("flux_radius", "flux_auto", "fluxerr_auto", "mag_auto", "magerr_auto", "flag", "mask_frac"),
    *(spec.name for spec in (*GROWTH_COLUMNS, *KRON_DETAIL_COLUMNS)),
)
SEGMENT_COLUMNS = ("flux_iso", "fluxerr_iso")

Bands = Mapping[str, Source]
"""The sources by the names of their bands."""


def find_bands(
    products: Sequence[Products], options: Options, manager: pluggy.PluginManager, *, named: bool = False
) -> dict[str, Source]:
    """Return the sources by their bands, in the order given.

    Parameters
    ----------
    products : sequence of str, Path or Source
    options : Options
    manager : PluginManager
    named : bool, optional
        Whether a single one needs a band too.

    Returns
    -------
    dict of str to Source
        A single one without a band, where that is allowed, has the key ``""``.

    Raises
    ------
    PhotplugError
        Where there is none, two are of one band, or a source has no band.
    """
    found = [find_source(each, manager) for each in products]
    bands: dict[str, Source] = {}
    for source in found:
        band = source.band
        if not band and (named or len(found) > 1):
            raise PhotplugError(
                f"{source}: its name contains no band, which the names of its columns need; rename it as DJA does, or "
                "install a plugin that finds it"
            )
        if band in bands:
            raise PhotplugError(f"{bands[band]} and {source} are both in the band {band}; give one mosaic per band")
        bands[band] = source
    if len(bands) > 1 and isinstance(options.cutout, tuple) and isinstance(options.cutout[0], slice):
        raise PhotplugError(
            "a cut-out in pixels is at another position in each band; give a position and a size on the sky"
        )
    if not bands:
        raise PhotplugError("no mosaic given; give the prefix of at least one")
    return bands


def read_psfs(bands: Bands, options: Options) -> dict[str, PSFModel]:
    """Read the PSFs that the options name.

    Parameters
    ----------
    bands : mapping of str to Source
        From :func:`find_bands`.
    options : Options
        Its ``bands.psf`` are files by band.

    Returns
    -------
    dict of str to PSFModel
        By band. A file without a pixel scale of its own has that of its mosaic, and a warning says so.

    Raises
    ------
    PhotplugError
        Where a band is not there, a file is missing or holds no PSF, or neither it nor the source tells a pixel scale
        before it is loaded.
    """
    psfs: dict[str, PSFModel] = {}
    names = list(bands)
    given = {
        name: settle_values(name, getattr(options.bands, name), names) for name in ("psf", "psf_scale", "psf_share")
    }
    for name, values in given.items():
        for band in values:
            if band not in given["psf"]:
                raise PhotplugError(f"option {name}: {band or 'the image'} has no PSF; give one (psf), or leave it out")
    for band, path in given["psf"].items():
        own = {"scale": given["psf_scale"].get(band), "share": given["psf_share"].get(band)}
        psfs[band] = read_psf_for(bands[band], path, **own)
    return psfs


def read_psf_for(source: Source, path: str | Path, *, scale: float | None, share: float | None) -> PSFModel:
    """Read the PSF of a source, of which the share of the light that it holds will be used.

    Parameters
    ----------
    source : Source
        Its pixel scale is assumed where nothing else tells that of the PSF.
    path : str or Path
    scale, share
        As for `dja_photplug.psf.model.read_psf`.

    Returns
    -------
    PSFModel

    Raises
    ------
    PhotplugError
        Where the file is missing or holds no PSF, or nothing tells its pixel scale before the source is loaded.
    """
    grid = source.grid()
    model = read_psf_model(path, None if grid is None else pixel_scale(grid.wcs), scale=scale, share=share)
    warn_of_assumptions(model.stamps[0])
    return model


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """What a process must know to measure bands."""

    options: Options
    psfs: Mapping[str, PSFModel]
    detection: Detection | None
    targets: Detection | None
    target: Target | None


def measure_bands(
    sources: Sequence[Source],
    options: Options,
    psfs: Mapping[str, PSFModel],
    manager: pluggy.PluginManager,
    *,
    detection: Detection | None = None,
    targets: Detection | None = None,
    target: Target | None = None,
    parallel: Map = map,
) -> Iterator[QTable]:
    """Yield the table of each band in order; one image is in memory at a time, and in each worker.

    Parameters
    ----------
    sources : sequence of Source
    options : Options
    psfs : mapping of str to PSFModel
        By band.
    manager : PluginManager
        Where it has other plugins than those that are installed, as registered by hand, all is done in this process.
    detection, targets, target : optional
        As for `dja_photplug.pipeline.one_band.measure_band`.
    parallel : Map, optional
        Who does the tiles of large images; with the builtin ``map`` the bands are shared out where the options name a
        number of workers.

    Yields
    ------
    `~astropy.table.QTable`
        One row for each source of `detection` or `targets`, in their order; names of columns are without the band.
    """
    job = _Job(options=options.for_bands(), psfs=psfs, detection=detection, targets=targets, target=target)
    if parallel is map:
        workers, own = split_work(manager, options.bands.workers or 1)
        tables = map_in_processes(_measure, list(sources), workers, _start, job, own)
    else:
        tables = (_measure((job, manager), source, parallel) for source in sources)
    yield from tables


def _start(job: _Job, manager: pluggy.PluginManager | None) -> tuple[_Job, pluggy.PluginManager]:
    return job, manager or get_plugin_manager()


def _measure(state: tuple[_Job, pluggy.PluginManager], source: Source, parallel: Map = map) -> QTable:
    job, manager = state
    result = measure_band(
        source,
        job.options,
        manager,
        psf=job.psfs.get(source.band),
        detection=job.detection,
        targets=job.targets,
        target=job.target,
        parallel=parallel,
    )
    return result.catalog


def name_columns(table: QTable, band: str, numbers: Sequence[int]) -> dict[str, Column]:
    """Return the columns of a band under its name.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Of the band, whose apertures are numbered from 0.
    band : str
    numbers : sequence of int
        Of these apertures in the catalogue, in their order.

    Returns
    -------
    dict of str to `~astropy.table.Column`
        By ``{band}_{name}``, without those of :data:`SOURCE_COLUMNS`.
    """
    specs = APERTURE_COLUMNS + SKY_COLUMNS + CONTAMINATION_COLUMNS + MASK_COLUMNS + TOTAL_COLUMNS
    specs += MATCH_COLUMNS + MATCHED_TOTAL_COLUMNS
    measured, wanted = describe_apertures(range(len(numbers)), specs), describe_apertures(numbers, specs)
    renamed = {spec.name: to for spec, to in zip(measured, wanted, strict=True)}
    columns = {}
    for name, column in table.items():
        if name in SOURCE_COLUMNS:
            continue
        if name in renamed:
            spec, column = renamed[name], column.copy()
            name, column.info.description = spec.name, spec.description
        columns[f"{band}_{name}"] = column
    return columns


def list_columns(options: Options, bands: Sequence[str]) -> list[str]:
    """Return the names of the columns that a catalogue will have, without those of plugins.

    Parameters
    ----------
    options : Options
    bands : sequence of str
        Those after whose names columns are called; empty for a catalogue of one mosaic.

    Returns
    -------
    list of str
    """
    measure, numbers = options.measure, range(len(options.measure.apertures))
    own = [spec.name for spec in describe_own(options)]
    off = describe_removed(numbers, sky=measure.background != "none", neighbours=measure.neighbours == "subtract")
    more = [spec.name for spec in (*off, *epoch_columns(options.epochs.groups))]
    totals = [spec.name for spec in describe_apertures(numbers, TOTAL_COLUMNS)]
    more += [spec.name for spec in describe_matched(numbers, options)]
    if options.details:
        more += [spec.name for spec in (*KRON_DETAIL_COLUMNS, *describe_apertures(numbers, MASK_COLUMNS))]
        more = [name for name in more if bands or name not in own]
    growth = [spec.name for spec in GROWTH_COLUMNS]
    if not bands:
        return own + more + (growth + totals if options.bands.psf else [])
    each = [name for name in own if name not in (*SOURCE_COLUMNS, *more)] + totals + more
    return own + [f"{band}_{name}" for band in bands for name in each + (growth if band in options.bands.psf else [])]


def describe_own(options: Options) -> list[ColumnSpec]:
    """Return the columns that say what the image has which sources are detected on.

    Parameters
    ----------
    options : Options

    Returns
    -------
    list of ColumnSpec
    """
    numbers = range(len(options.measure.apertures))
    own = list(describe_columns(len(numbers)))
    own += POSITION_COLUMNS if options.measure.positions == "windowed" else ()
    if options.details:
        sky = SKY_COLUMNS if options.measure.background != "none" else ()
        own += [*DETAIL_COLUMNS, *KRON_DETAIL_COLUMNS, *describe_apertures(numbers, sky + MASK_COLUMNS)]
    return own


def describe_matched(numbers: Sequence[int], options: Options) -> list[ColumnSpec]:
    """Return the columns of apertures that bands have where they are brought to one PSF.

    Parameters
    ----------
    numbers : sequence of int
    options : Options

    Returns
    -------
    list of ColumnSpec
        Empty where they are not.
    """
    return describe_apertures(numbers, MATCH_COLUMNS + MATCHED_TOTAL_COLUMNS) if options.bands.match else []


def describe_bands(tables: Mapping[str, QTable], psfs: Mapping[str, PSFModel], first: int = 0) -> dict[str, str]:
    """Return metadata of bands.

    Parameters
    ----------
    tables : mapping of str to `~astropy.table.QTable`
        By band, with the metadata of each.
    psfs : mapping of str to PSFModel
        By band; a band without one has its totals without a correction.
    first : int, optional
        Number of the first band, where the catalogue has others.

    Returns
    -------
    dict of str to str
        JSON text by ``BAND_0``, ``BAND_1`` ..., as keys of FITS are short.
    """
    bands = {}
    for i, (band, table) in enumerate(tables.items(), start=first):
        psf = psfs.get(band)
        known = {"PSF": "none: tot is corr"} if psf is None else describe_psf(psf)
        bands[f"BAND_{i}"] = {"band": band, **known, **table.meta}
    return encode_metadata(bands)


def describe_psf(psf: PSFModel) -> dict[str, str | float]:
    """Return metadata of a PSF.

    Parameters
    ----------
    psf : PSFModel

    Returns
    -------
    dict
        PSF, its name, PSFSCALE in arcsec, and NPSF where there is one for each region.
    """
    regions = {} if len(psf.stamps) == 1 else {COUNT: len(psf.stamps)}
    return {"PSF": psf.name, "PSFSCALE": psf.stamps[0].scale, **regions}


def read_calibration(meta: Mapping[str, str], source: Source) -> NoiseCalibration | None:
    """Return the a(r) that the metadata of a catalogue tell of a mosaic.

    Parameters
    ----------
    meta : mapping of str to str
        Of a catalogue of one band, or of several (``BAND_i``).
    source : Source
        The mosaic, known by its band, or by the name in ``INPUT``.

    Returns
    -------
    NoiseCalibration or None
        None where they tell none, or that it is not known.

    Raises
    ------
    PhotplugError
        Where what they tell cannot be read.
    """
    try:
        bands = (json.loads(text) for key, text in meta.items() if key.startswith("BAND_"))
        is_own = Path(str(meta.get("INPUT", ""))).name == Path(str(source)).name
        told = next((band for band in bands if band["band"] == source.band), meta if is_own else {})
        found = NoiseCalibration.from_metadata(told)
        return found if found is not None and found.known else None
    except (ValueError, TypeError, KeyError) as error:  # of JSON and numpy
        raise PhotplugError(
            f"cannot read the metadata BAND_i or AR of the catalogue ({error}); give it as `catalog` wrote it, or "
            "remove them"
        ) from None
