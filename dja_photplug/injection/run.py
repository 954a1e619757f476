"""Injection and recovery: sources of known flux in the real image, detected and measured as all others."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pluggy
from astropy.table import QTable, vstack
from tqdm import tqdm

from dja_photplug.catalog.metadata import make_metadata
from dja_photplug.completeness.bins import bin_sources, split_sources
from dja_photplug.completeness.limits import Completeness, fit_completeness
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.injection.field import Job, prepare
from dja_photplug.injection.recovery import realise
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.commands import InjectionOptions
from dja_photplug.options.run import Options
from dja_photplug.parallel.workers import count_cores, map_in_processes
from dja_photplug.pipeline.images import Products, find_source
from dja_photplug.pipeline.many_bands import describe_psf, read_psf_for
from dja_photplug.plugins.manager import get_plugin_manager, split_work
from dja_photplug.plugins.options import complete_options

__all__ = ["InjectionResult", "inject"]


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
            Of a depth zone, from 1, which is the deepest, instead of all of the mosaic.

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
    job = Job(
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
    workers, own = split_work(manager, job.injection.workers or count_cores())
    parts = map_in_processes(realise, range(job.injection.realisations), workers, prepare, job, own)
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


def _check(job: Job, psf: str | Path | None) -> dict[str, object]:
    """Refuse early what the options tell; return the metadata of the tables, but for those of the image."""
    options, injection = job.options, job.injection
    if injection.aperture >= len(options.measure.apertures):
        raise PhotplugError(
            f"option aperture: {injection.aperture} is not one of the {len(options.measure.apertures)} apertures; "
            "they count from 0"
        )
    for name in ("psf_scale", "psf_share"):
        if psf is None and getattr(injection, name) is not None:
            raise PhotplugError(f"option {name}: there is no PSF image; give one (psf), or leave it out")
    if psf is not None and injection.shape != "point":
        raise PhotplugError(f"a PSF image is for point sources, but the shape is {injection.shape!r}; leave one out")
    injected = {name: value for name, value in asdict(injection).items() if name != "workers"}
    return make_metadata(options) | {
        "INPUT": str(job.source),
        "INJECT": json.dumps(injected),
        "INJASEC": options.measure.apertures[injection.aperture],
        "PSF": "Gaussian",
    }
