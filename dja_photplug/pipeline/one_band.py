"""One image from its files to its table: the order in which the hooks are asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from photutils.segmentation import SegmentationImage

from dja_photplug.catalog.kron import kron_circle_radius
from dja_photplug.catalog.schema import dress_table, epoch_columns
from dja_photplug.epochs.log import ExposureLog
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import MosaicFiles, find_mosaic, is_mosaic_name
from dja_photplug.mosaic.image import MosaicImage, as_mosaic_image, replace_planes, rescale_image
from dja_photplug.mosaic.load import VarianceHook, exposure_log
from dja_photplug.options.stages import Options
from dja_photplug.pipeline.plugins import ask_all, ask_first, get_plugin_manager
from dja_photplug.psf.model import PSF, half_light_radius
from dja_photplug.sources.calibration import NoiseCalibration
from dja_photplug.sources.detection import Background, Detection, regrid_detection, regrid_sources, sample_labels
from dja_photplug.sources.photometry import flag_point_sources
from dja_photplug.units import MOSAIC_ZERO_POINT

__all__ = [
    "Result",
    "Source",
    "analyse_image",
    "band_of",
    "complete_table",
    "describe_image",
    "find_epochs",
    "find_source",
    "load_source",
    "measure_background_errors",
    "measure_band",
    "remeasure",
    "variance_hook",
    "write_result",
]

Source = str | Path | MosaicFiles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What a run made.

    Attributes
    ----------
    catalog : `~astropy.table.QTable`
        One row for each source; the columns of `dja_photplug.catalog.schema.COLUMNS`.
    planes : tuple of MosaicImage and Background, or None
        Of the image that sources were detected on; None where they were not kept.
    detection : Detection
    calibration : NoiseCalibration or None
    options : Options
    """

    catalog: QTable
    planes: tuple[MosaicImage, Background] | None
    detection: Detection
    calibration: NoiseCalibration | None
    options: Options

    @property
    def image(self) -> MosaicImage:
        """The image that sources were detected on."""
        return self._planes()[0]

    @property
    def background(self) -> Background:
        """Its background."""
        return self._planes()[1]

    @property
    def segmentation(self) -> SegmentationImage:
        """Pixels of each source, labelled by its ``id``."""
        return SegmentationImage(self.detection.segmentation)

    def _planes(self) -> tuple[MosaicImage, Background]:
        if self.planes is None:
            raise PhotplugError("the detection image was not kept while the bands were measured; run with keep_image")
        return self.planes


def load_source(source: Source, options: Options, manager: pluggy.PluginManager) -> MosaicImage:
    """Load one mosaic through ``photplug_load``, with the noise model of ``photplug_variance``.

    Raises
    ------
    PhotplugError
        Where the files are missing or no plugin loads them.
    """
    files = find_source(source)
    image = ask_first(
        manager,
        "photplug_load",
        f"loading {source}",
        source=files,
        options=options,
        variance=variance_hook(options, manager),
    )
    image = as_mosaic_image(image)
    zero_point = options.bands.zero_point.get(band_of(files))
    return image if zero_point is None else rescale_image(image, 10 ** (-0.4 * (zero_point - MOSAIC_ZERO_POINT)))


def find_source(source: Source) -> MosaicFiles | str:
    """Return the files of a mosaic, or, for the loader of a plugin, the name of something else."""
    return find_mosaic(source) if is_mosaic_name(source) else str(source)


def band_of(source: MosaicFiles | str) -> str:
    """Return the band of a source; empty where its name does not tell it."""
    return source.band if isinstance(source, MosaicFiles) else ""


def variance_hook(options: Options, manager: pluggy.PluginManager) -> VarianceHook:
    """Return ``photplug_variance`` as the callable that loaders take: header, exposure, log -> NoiseModel."""
    purpose = f"noise preset {options.variance.noise!r}"

    def ask_variance(header: Any, exposure: Any, log: Any) -> Any:
        return ask_first(
            manager, "photplug_variance", purpose, header=header, exposure=exposure, log=log, options=options
        )

    return ask_variance


def find_epochs(log: ExposureLog, coordinates: SkyCoord, options: Options, manager: pluggy.PluginManager) -> QTable:
    """Return the epochs of each position through ``photplug_epochs``, with units and descriptions."""
    epochs = ask_first(
        manager, "photplug_epochs", "epochs of positions", log=log, coordinates=coordinates, options=options
    )
    if len(epochs) and not np.any(epochs["n_exp"]):
        warnings.warn(
            f"{log.name}: none of the {len(epochs)} positions is in any of its {len(log)} exposures; is it the log of "
            "another field?",
            PhotplugWarning,
            stacklevel=2,
        )
    specs = epoch_columns(options.epochs.groups)
    if not len(epochs):  # neither FITS nor Parquet takes an empty column of arrays
        specs = tuple(replace(spec, dtype="f8" if spec.dtype == "O" else spec.dtype) for spec in specs)
    dressed = dress_table(dict(epochs.items()), specs)
    dressed.meta.update(epochs.meta)
    return dressed


def measure_band(
    source: MosaicFiles | str,
    options: Options,
    manager: pluggy.PluginManager,
    *,
    psf: PSF | None = None,
    detection: Detection | None = None,
    targets: Detection | None = None,
    begin: Callable[[str], Any] = lambda stage: None,
) -> Result:
    """Load and analyse one band, find the epochs of its sources, and add the columns of plugins.

    Parameters
    ----------
    source : MosaicFiles or str
    options : Options
    manager : PluginManager
    psf : PSF, optional
        Sets the flag POINT_LIKE.
    detection, targets, begin
        As for :func:`analyse_image`.

    Returns
    -------
    Result
        The metadata of its catalogue are those of the band: input, noise model, a(r), log.

    Raises
    ------
    PhotplugError
        Where the input does not allow it or a plugin fails.
    """
    begin("loading")
    image = load_source(source, options, manager)
    result = analyse_image(image, options, manager, detection=detection, targets=targets, begin=begin)
    if psf is not None:
        expected = half_light_radius(psf, kron_circle_radius(result.catalog, options.measure.kron_circle))
        result.catalog["flag"] |= flag_point_sources(result.catalog, expected)
    begin("epochs")
    return replace(result, catalog=complete_table(result, source, manager))


def complete_table(result: Result, source: MosaicFiles | str, manager: pluggy.PluginManager) -> QTable:
    """Return the table of an analysed image with its epochs, the columns of plugins, and the metadata of its band."""
    catalog, options = result.catalog, result.options
    log = exposure_log(source) if isinstance(source, MosaicFiles) else None
    epochs = None
    if log is not None:
        epochs = find_epochs(log, SkyCoord(catalog["ra"], catalog["dec"]), options, manager)
    joined = _join(catalog, epochs, result.image, band_of(source), options, manager)
    joined.meta = describe_image(result, source, log) | ({} if epochs is None else dict(epochs.meta))
    return joined


def analyse_image(
    image: MosaicImage,
    options: Options,
    manager: pluggy.PluginManager | None = None,
    *,
    detection: Detection | None = None,
    targets: Detection | None = None,
    calibration: NoiseCalibration | None = None,
    begin: Callable[[str], Any] = lambda stage: None,
) -> Result:
    """Detect and measure the sources of an image that is loaded; no epochs, no columns of other plugins.

    Parameters
    ----------
    image : MosaicImage
    options : Options
    manager : PluginManager, optional
        All plugins by default.
    detection : Detection, optional
        Sources and segments that are known, on this or another grid, instead of detecting.
    targets : Detection, optional
        Positions, on any grid, to measure instead of the sources; detection and a(r) are as without.
    calibration : NoiseCalibration, optional
        That of an image with the same noise, which saves measuring it again.
    begin : callable, optional
        Called with the name of each stage as it begins.

    Raises
    ------
    PhotplugError
        Where no plugin claims the engine, or one fails.
    """
    manager = manager or get_plugin_manager()
    engine = f"engine {options.engine!r}"
    begin("background")
    background = ask_first(manager, "photplug_background", engine, image=image, options=options)
    stages = {"image": image, "background": background, "options": options}
    if detection is None:
        begin("detecting")
        detection = ask_first(manager, "photplug_detect", engine, **stages)
    else:
        detection = regrid_detection(detection, image.wcs, image.data.shape)
    begin("measuring")
    if calibration is None:
        calibration = ask_all(manager, "photplug_calibrate", detection=detection, **stages)
    if targets is not None:
        detection = _adopt_segments(targets, detection)
    catalog = ask_first(manager, "photplug_measure", engine, detection=detection, calibration=calibration, **stages)
    return Result(
        catalog=catalog,
        planes=(image, background),
        detection=detection,
        calibration=calibration,
        options=options,
    )


def _adopt_segments(targets: Detection, detection: Detection) -> Detection:
    """Return positions as the sources of the segments that they lie on; the label of those on none is 0."""
    sources = regrid_sources(targets.sources, targets.wcs, detection.wcs)
    sources["id"] = np.maximum(sample_labels(detection.segmentation, sources), 0)
    return replace(detection, sources=sources)


def _join(
    catalog: QTable,
    epochs: QTable | None,
    image: MosaicImage,
    band: str,
    options: Options,
    manager: pluggy.PluginManager,
) -> QTable:
    """Return the catalogue with its epochs and the columns of other plugins."""
    extra = ask_all(
        manager, "photplug_columns", catalog=catalog, image=image, epochs=epochs, band=band, options=options
    )
    joined = catalog.copy(copy_data=False)
    for columns in ([dict(epochs.items())] if epochs is not None else []) + list(reversed(extra)):
        for name, column in columns.items():
            if name in joined.colnames:
                raise PhotplugError(f"a plugin gives the column {name!r}, which the catalogue has; rename one")
            joined[name] = column
    return joined


def describe_image(result: Result, source: MosaicFiles | str, log: ExposureLog | None = None) -> dict[str, Any]:
    """Return what the image and its calibration add to the metadata: input, noise model, a(r), log."""
    keys = ["NOISE", "VARFILE", "DETGAIN", "GAINFROM", "EXPFROM", "GROWTH"]
    keys += ["PHOTSCLE", "PHOTSCL1", "NFILLED", "NNULL", "BACKWHT"]
    meta = result.image.meta
    return {
        "INPUT": str(source),
        **{key: meta[key] for key in keys if key in meta},
        "EPOCHS": "no WCS log" if log is None else Path(log.name).name,
        **({} if result.calibration is None else result.calibration.metadata()),
    }


def remeasure(result: Result, image: MosaicImage, manager: pluggy.PluginManager | None = None) -> QTable:
    """Measure the sources of a run in another image on the same grid, with the same engine and options."""
    return ask_first(
        manager or get_plugin_manager(),
        "photplug_measure",
        f"engine {result.options.engine!r}",
        image=image,
        background=result.background,
        detection=result.detection,
        calibration=result.calibration,
        options=result.options,
    )


def measure_background_errors(result: Result, manager: pluggy.PluginManager | None = None) -> QTable:
    """Measure the sources of a run again, with errors that leave out their photons.

    They are those of the background weight alone, times a(r) where the run was calibrated.

    Comparing them with those of ``result.catalog`` shows what the source photons add.

    Raises
    ------
    PhotplugError
        Where the image has no background weight.
    """
    image = result.image
    if image.background_weight is None:
        raise PhotplugError("the image has no background weight to compare with; load a DJA mosaic")
    weight = np.where(image.mask, np.float32(0), image.background_weight)
    return remeasure(result, replace_planes(image, weight=weight), manager)


def write_result(catalog: QTable, path: Path, options: Options, manager: pluggy.PluginManager) -> Path:
    """Write a catalogue through ``photplug_write``."""
    return ask_first(manager, "photplug_write", f"writing {path}", catalog=catalog, path=path, options=options)
