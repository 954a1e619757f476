"""Files for fitting codes from a mosaic: stamps with sigma, mask and PSF, written by the plugin of the code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable, Table
from astropy.wcs import WCS
from numpy.typing import ArrayLike

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.errors import PhotplugError
from dja_photplug.fitting.field import SOURCE_COLUMNS, FitSources
from dja_photplug.fitting.formats import FORMATS
from dja_photplug.fitting.select import REACH, match_positions, place_positions, select_sources, settle_psf
from dja_photplug.foreign.view import view_sources
from dja_photplug.mosaic.image import MosaicImage, as_mosaic_image
from dja_photplug.options.commands import ExtendOptions, GalfitOptions
from dja_photplug.options.run import Options
from dja_photplug.outputs.whole import whole_folder
from dja_photplug.pipeline.extend import find_columns
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.plugins.calls import ask_first
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.plugins.options import complete_options
from dja_photplug.psf.model import PSF
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sky.grid import pixel_positions, pixel_scale
from dja_photplug.sources.detection import regrid_sources

__all__ = ["find_fit_sources", "turn_shapes", "write_galfit", "write_selected"]


def write_galfit(
    image: NDData,
    sources: Table | SkyCoord,
    directory: str | Path,
    *,
    ids: Sequence[int] | None = None,
    segmentation: ArrayLike | None = None,
    psf: str | Path | PSF | PSFModel | None = None,
    calibration: NoiseCalibration | None = None,
    options: GalfitOptions | None = None,
    analysis: Options | None = None,
    manager: pluggy.PluginManager | None = None,
    overwrite: bool = False,
    progress: bool = False,
    **settings: str | float | None,
) -> list[Path]:
    """Write stamps of sources and all that a fitting code needs to start on them.

    Parameters
    ----------
    image : NDData
        From `load_mosaic`; sigma is that of its full weight.
    sources : Table or SkyCoord
        A catalogue as :func:`dja_photplug.run` makes it, or another's with ids, shapes and fluxes; or positions, around
        which sources are detected and measured.
    directory : str or Path
        Made if it is not there. All files appear or none.
    ids : sequence of int, optional
        Those to be fitted; all by default. The others are masked, or fitted with a target that they overlap.
    segmentation : array_like, optional
        On the image's grid, labelled by ``id``; without it the Kron ellipses of a catalogue stand in.
    psf : str, Path, PSF or PSFModel, optional
        Of any size and scale; that of the place of each target is resampled to the image's pixels, centred on one.
        Without it nothing is convolved.
    calibration : NoiseCalibration, optional
        a(r), for the factor by which formal errors are multiplied.
    options : GalfitOptions, optional
    analysis : Options, optional
        How sources around positions are detected and measured.
    manager : PluginManager, optional
        All plugins by default: they detect and measure around positions, and write the format.
    overwrite : bool, optional
        Replace files in the directory.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.
    **settings
        Fields of `GalfitOptions`, such as ``format="imfit"`` or ``size=6`` (arcsec; or ``"auto"``).

    Returns
    -------
    list of Path
        ``{id}_sci.fits {id}_sigma.fits {id}_mask.fits {id}_psf.fits {id}.feedme {id}.constraints`` of each source for
        galfit; with the id ``target`` for one position, ``target_1``, ... for several.

    Raises
    ------
    PhotplugError
        Where a source is not in the catalogue or off the mosaic, the PSF is none or not that of its place, files exist,
        or the format is not known.
    """
    if settings.get("size") == "auto":
        settings["size"] = None
    given: dict[str, Any] = {**settings, "directory": directory, "overwrite": overwrite, "progress": progress}
    options, manager = replace(options or GalfitOptions(), **given), manager or get_plugin_manager()
    image = as_mosaic_image(image)
    if isinstance(sources, SkyCoord):
        found = find_fit_sources(image, sources, complete_options(analysis or Options(), manager), manager)
        selected = replace(found, psf=settle_psf(psf, image, options.psf_scale), calibration=calibration)
    else:
        given = {"psf": psf, "psf_scale": options.psf_scale, "calibration": calibration}
        table, wcs = view_sources(sources, find_columns(sources, ExtendOptions(), manager))
        sources = turn_shapes(table, wcs, image.wcs)
        selected = select_sources(image, sources, ids=ids, segmentation=segmentation, **given)
    return write_selected(image, selected, options, manager)


def write_selected(
    image: MosaicImage, sources: FitSources, options: GalfitOptions, manager: pluggy.PluginManager
) -> list[Path]:
    """Write what a fitting code needs of selected sources, through ``photplug_galfit``.

    Parameters
    ----------
    image : MosaicImage
    sources : FitSources
        From `dja_photplug.fitting.select.select_sources` or :func:`find_fit_sources`.
    options : GalfitOptions
        With the directory.
    manager : PluginManager

    Returns
    -------
    list of Path
        The files that the plugin of the format wrote.

    Raises
    ------
    PhotplugError
        Where nobody writes the format, or the files cannot be written.
    """
    purpose, known = f"format {options.format!r}", tuple(FORMATS)
    if options.directory is None:
        raise PhotplugError("there is no output folder for the stamps; set the directory of GalfitOptions")
    directory = Path(options.directory)
    with whole_folder(directory, overwrite=options.overwrite) as handed:
        arguments = {"image": image, "sources": sources, "options": replace(options, directory=handed)}
        written: list[Path] = ask_first(manager, "photplug_galfit", purpose, list, known, **arguments)
    return [directory / path.relative_to(handed) for path in written]


def turn_shapes(table: Table, wcs: WCS | None, target: WCS) -> Table:
    """Return sources whose angles are on the grid of an image.

    Parameters
    ----------
    table : `~astropy.table.Table`
        As of `dja_photplug.foreign.view.view_sources`.
    wcs : WCS or None
        The grid that ``theta`` is on; None for that of the image.
    target : WCS
        Of the image.

    Returns
    -------
    `~astropy.table.Table`
        The same one where nothing turns.
    """
    if wcs is None:
        return table
    x, y = pixel_positions(wcs, table["ra"].to_value(u.deg), table["dec"].to_value(u.deg))
    sources = QTable({"ra": table["ra"], "dec": table["dec"], "theta": table["theta"], "x": x * u.pix, "y": y * u.pix})
    turned = table.copy(copy_data=False)
    turned["theta"] = regrid_sources(sources, wcs, target)["theta"]
    return turned


def find_fit_sources(
    image: MosaicImage, positions: SkyCoord, options: Options, manager: pluggy.PluginManager
) -> FitSources:
    """Detect and measure sources around positions; where there is none, a small circle stands in.

    Parameters
    ----------
    image : MosaicImage
    positions : SkyCoord
        Scalar or (n,).
    options : Options
        Of detection and photometry, as for a catalogue; a(r) is not measured, as there is too little sky.
    manager : PluginManager

    Returns
    -------
    FitSources
        One stamp for each position, as of `dja_photplug.fitting.select.match_positions`. The segmentation has the
        image's shape (ny, nx), and is 0 farther than `REACH` from the box around the positions.

    Raises
    ------
    PhotplugError
        Where a position is off the image, or the engine does not measure what stamps are made from.
    """
    positions = positions.reshape(-1)
    x, y = place_positions(image, positions)
    reach = REACH / pixel_scale(image.wcs)
    window = tuple(
        slice(max(int(c.min() - reach), 0), min(int(c.max() + reach) + 1, n))
        for c, n in zip((y, x), image.data.shape, strict=True)
    )
    result = analyse_image(image[window], options, manager, calibrated=False)
    missing = {"id", *SOURCE_COLUMNS, "flux_auto"} - set(result.catalog.colnames)
    if missing:
        raise PhotplugError(
            f"engine {options.engine!r} does not measure {', '.join(sorted(missing))}, which stamps need; use another "
            "engine, or a catalogue that has them"
        )
    # Only the pages that are written take memory.
    labels = np.zeros(image.data.shape, np.int32)
    labels[window] = result.detection.segmentation
    there = labels[np.rint(y).astype(int), np.rint(x).astype(int)]
    return replace(match_positions(positions, there, result.catalog), segmentation=labels)
