"""From mosaics to a catalogue: the order in which the hooks are asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from photutils.segmentation import SegmentationImage
from tqdm import tqdm

from dja_photplug.calibration import NoiseCalibration
from dja_photplug.catalog import dress_table, epoch_columns, make_metadata
from dja_photplug.detection import Background, Detection
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.exposurelog import ExposureLog
from dja_photplug.image import MosaicImage, as_mosaic_image, replace_planes
from dja_photplug.mosaic import VarianceHook, exposure_log
from dja_photplug.options import Options
from dja_photplug.plugins import ask_all, ask_first, get_plugin_manager
from dja_photplug.products import MosaicFiles, find_mosaic, is_mosaic_name

__all__ = [
    "Result",
    "analyse_image",
    "find_epochs",
    "load_source",
    "measure_background_errors",
    "remeasure",
    "run",
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
        One row for each source; the columns of `dja_photplug.catalog.COLUMNS`.
    image : MosaicImage
    background : Background
    detection : Detection
    calibration : NoiseCalibration or None
    options : Options
    """

    catalog: QTable
    image: MosaicImage
    background: Background
    detection: Detection
    calibration: NoiseCalibration | None
    options: Options

    @property
    def segmentation(self) -> SegmentationImage:
        """Pixels of each source, labelled by its ``id``."""
        return SegmentationImage(self.detection.segmentation)


@contextmanager
def _stages(count: int, *, show: bool) -> Iterator[Any]:
    """A progress bar over stages: call what it yields with the name of the stage that begins."""
    # disable=None: only where stderr is a terminal.
    with tqdm(total=count, disable=None if show else True, bar_format="{desc:<12} {bar} {elapsed}") as bar:
        started = False

        def begin(stage: str) -> None:
            nonlocal started
            bar.update(int(started))
            bar.set_description_str(stage)
            started = True

        yield begin
        bar.update(1)


def load_source(source: Source, options: Options, manager: pluggy.PluginManager) -> MosaicImage:
    """Load one mosaic through ``photplug_load``, with the noise model of ``photplug_variance``.

    Raises
    ------
    PhotplugError
        Where the files are missing or no plugin loads them.
    """
    files = find_mosaic(source) if is_mosaic_name(source) else str(source)
    image = ask_first(
        manager,
        "photplug_load",
        f"loading {source}",
        source=files,
        options=options,
        variance=variance_hook(options, manager),
    )
    return as_mosaic_image(image)


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


def run(
    sources: Sequence[Source],
    options: Options | None = None,
    *,
    manager: pluggy.PluginManager | None = None,
    progress: bool = False,
) -> Result:
    """Detect and measure the sources of a mosaic, and find the epochs of each.

    Parameters
    ----------
    sources : sequence of str, Path or MosaicFiles
        One mosaic: its prefix, a member file or its files.
    options : Options, optional
    manager : PluginManager, optional
        All plugins by default.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.

    Returns
    -------
    Result

    Raises
    ------
    PhotplugError
        Where the input does not allow it or a plugin fails.
    """
    if len(sources) != 1:
        raise PhotplugError(f"{len(sources)} mosaics given; a catalogue is made from one, give one")
    options = options or Options()
    manager = manager or get_plugin_manager()
    source = find_mosaic(sources[0]) if is_mosaic_name(sources[0]) else sources[0]
    with _stages(5, show=progress) as begin:
        begin("loading")
        image = load_source(source, options, manager)
        result = analyse_image(image, options, manager, begin=begin)
        begin("epochs")
        catalog = result.catalog
        epochs = None
        log = exposure_log(source) if isinstance(source, MosaicFiles) else None
        if log is not None:
            epochs = find_epochs(log, SkyCoord(catalog["ra"], catalog["dec"]), options, manager)
            catalog.meta.update(epochs.meta)
        band = source.band if isinstance(source, MosaicFiles) else ""
        catalog = _join(catalog, epochs, image, band, options, manager)
    catalog.meta.update(make_metadata(options) | _describe(source, image, log))
    if result.calibration is not None:
        catalog.meta.update(result.calibration.metadata())
    return replace(result, catalog=catalog)


def analyse_image(
    image: MosaicImage,
    options: Options,
    manager: pluggy.PluginManager | None = None,
    *,
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
    begin("detecting")
    stages = {"image": image, "background": background, "options": options}
    detection = ask_first(manager, "photplug_detect", engine, **stages)
    begin("measuring")
    stages["detection"] = detection
    if calibration is None:
        calibration = ask_all(manager, "photplug_calibrate", **stages)
    catalog = ask_first(manager, "photplug_measure", engine, calibration=calibration, **stages)
    return Result(
        catalog=catalog,
        image=image,
        background=background,
        detection=detection,
        calibration=calibration,
        options=options,
    )


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


def _describe(source: Source, image: MosaicImage, log: ExposureLog | None) -> dict[str, Any]:
    """Return the metadata that the image adds: input, noise model, and whether there are epochs."""
    keys = ["NOISE", "VARFILE", "DETGAIN", "GAINFROM", "EXPFROM", "GROWTH"]
    keys += ["PHOTSCLE", "PHOTSCL1", "NFILLED", "NNULL", "BACKWHT"]
    return {
        "INPUT": str(source),
        **{key: image.meta[key] for key in keys if key in image.meta},
        "EPOCHS": "no WCS log" if log is None else Path(log.name).name,
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
