"""The hooks: what a plugin may replace or add. Their arguments and results are documented in ``docs/hooks.md``.

A plugin is a module whose functions carry :data:`hookimpl`; it is found through the entry-point group
``dja_photplug``. Arguments that an implementation does not need may be left out of its signature. Of the hooks where
the first result wins, an implementation claims by returning a result, or declines by returning None; plugins from
outside are asked before the built-in ones. Plugins import from `dja_photplug.plugin`.
"""

# A specification has a signature and no body.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from argparse import _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

    from astropy.coordinates import SkyCoord
    from astropy.nddata import NDData
    from astropy.table import Column, QTable, Table

    from dja_photplug.calibration.curve import NoiseCalibration
    from dja_photplug.epochs.log import ExposureLog
    from dja_photplug.files.names import Source
    from dja_photplug.fitting.field import FitSources
    from dja_photplug.foreign.schema import CatalogSchema
    from dja_photplug.light.mesh import Background
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.mosaic.models.electrons import Header
    from dja_photplug.mosaic.models.exposure import ExposureMap
    from dja_photplug.mosaic.models.fullweight import NoiseModel
    from dja_photplug.options.commands import GalfitOptions
    from dja_photplug.options.declare import Stage
    from dja_photplug.options.run import Options
    from dja_photplug.psf.regions import PSFModel
    from dja_photplug.sources.detection import Detection

__all__ = ["PROJECT", "hookimpl"]

PROJECT = "dja_photplug"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of the same name."""


@hookspec(firstresult=True)
def photplug_find(text: str) -> Source | None:
    """Say what a name stands for, where it is not a DJA mosaic's: products of another archive.

    Every command and function that takes a mosaic then takes the name.

    >>> from dja_photplug.plugin import Source, hookimpl
    >>> @hookimpl
    ... def photplug_find(text):
    ...     if not text.endswith("_i2d.fits"):
    ...         return None
    ...     return Source(name=text.rpartition("/")[2], band=text.split("_")[-2], label=text)
    >>> photplug_find("jw01345-o001_t021_nircam_f200w_i2d.fits").band
    'f200w'
    """


@hookspec(firstresult=True)
def photplug_load(
    source: Source,
    options: Options,
    variance: Callable[[Header, ExposureMap | None, ExposureLog | None], NoiseModel],
) -> NDData | None:
    """Load an image, with an uncertainty that holds all its noise.

    `source` is a MosaicFiles where the name is a DJA mosaic's, otherwise what ``photplug_find`` gave. `variance` asks
    the next hook, so that any loader works with any noise model. A loader may pass over ``options.cutout``.

    >>> from astropy.nddata import CCDData
    >>> from dja_photplug.plugin import hookimpl
    >>> @hookimpl
    ... def photplug_load(source):
    ...     return CCDData.read(str(source)) if str(source).endswith("_i2d.fits") else None
    """


@hookspec(firstresult=True)
def photplug_variance(
    header: Header, exposure: ExposureMap | None, log: ExposureLog | None, options: Options
) -> NoiseModel | None:
    """Return the noise model of one image; it is then called for each block of rows.

    A plugin's noise preset has a name of its own: it claims ``options.variance.noise``.

    >>> from dja_photplug.plugin import hookimpl
    >>> class WeightAlone:
    ...     provenance = {"NOISE": ("mine", "the weight alone")}
    ...     def __call__(self, science, weight, rows):
    ...         return weight
    >>> @hookimpl
    ... def photplug_variance(options):
    ...     return WeightAlone() if options.variance.noise == "mine" else None
    """


@hookspec(firstresult=True)
def photplug_background(image: MosaicImage, options: Options) -> Background | None:
    """Return the background that is taken off for detection.

    >>> import numpy as np
    >>> from dja_photplug.plugin import Background, hookimpl
    >>> @hookimpl
    ... def photplug_background(image):
    ...     return Background(level=np.zeros_like(image.data))
    """


@hookspec(firstresult=True)
def photplug_detect(image: MosaicImage, background: Background, options: Options) -> Detection | None:
    """Find sources: sky positions and shapes, segmentation, WCS.

    >>> from dja_photplug.plugin import detect_sep, hookimpl
    >>> @hookimpl
    ... def photplug_detect(image, background, options):
    ...     found = detect_sep(image, background, options)
    ...     return found if len(found.sources) else None
    """


@hookspec(firstresult=True)
def photplug_calibrate(
    image: MosaicImage, background: Background, detection: Detection, options: Options
) -> NoiseCalibration | None:
    """Return what scales the background variance of sums over apertures; None for no calibration.

    >>> from dja_photplug.plugin import SEP, calibrate_with, hookimpl
    >>> @hookimpl
    ... def photplug_calibrate(image, detection, options):
    ...     return calibrate_with(SEP, image, detection, options)
    """


@hookspec(firstresult=True)
def photplug_measure(
    image: MosaicImage,
    background: Background,
    detection: Detection,
    calibration: NoiseCalibration | None,
    psf: PSFModel | None,
    options: Options,
) -> QTable | None:
    """Measure the detected sources in one image: the photometric columns, a row for each source.

    A plugin's engine has a name of its own: it claims ``options.engine``. An engine that only measures takes
    background, detection and calibration of the engine ``sep``.

    >>> from dja_photplug.plugin import SEP, hookimpl, measure_with
    >>> @hookimpl
    ... def photplug_measure(image, detection, calibration, options):
    ...     if options.engine != "mine":
    ...         return None
    ...     table = measure_with(SEP, image, detection, calibration, options)
    ...     return table["id", "ra", "dec", "flux_auto", "fluxerr_auto"]
    """


@hookspec(firstresult=True)
def photplug_epochs(log: ExposureLog, coordinates: SkyCoord, options: Options) -> QTable | None:
    """Return the epochs of the exposures that saw each position.

    >>> from dja_photplug.plugin import hookimpl
    >>> @hookimpl
    ... def photplug_epochs(log, coordinates):
    ...     return log.epochs(coordinates)
    """


@hookspec(firstresult=True)
def photplug_galfit(image: MosaicImage, sources: FitSources, options: GalfitOptions) -> list[Path] | None:
    """Write what a fitting code needs of the selected sources; asked once for an image.

    `options.format` is the code, `options.directory` the folder.

    >>> from pathlib import Path
    >>> from dja_photplug.plugin import cut_stamps, hookimpl
    >>> @hookimpl
    ... def photplug_galfit(image, sources, options):
    ...     if options.format != "mine":
    ...         return None
    ...     path = Path(options.directory) / "magnitudes.txt"
    ...     path.parent.mkdir(exist_ok=True)
    ...     stamps = cut_stamps(image, sources, options)
    ...     path.write_text("".join(f"{stamp.name} {stamp.components[0].magnitude}\\n" for stamp in stamps))
    ...     return [path]
    """


@hookspec(firstresult=True)
def photplug_write(catalog: QTable, path: Path, options: Options) -> Path | None:
    """Write the catalogue in the format that the name's suffix asks for.

    >>> from dja_photplug.plugin import hookimpl
    >>> @hookimpl
    ... def photplug_write(catalog, path, options):
    ...     if path.suffix != ".xml":
    ...         return None
    ...     catalog.write(path, format="votable", overwrite=options.overwrite)
    ...     return path
    """


@hookspec(firstresult=True)
def photplug_schema(table: Table) -> CatalogSchema | None:
    """Say what the columns of somebody's catalogue mean: positions, ids, shapes, Kron radius, fluxes and their units.

    Asked once for each catalogue that a command is given; nobody claims one of which only the positions are known.

    >>> from astropy.table import Table
    >>> from dja_photplug.plugin import CatalogSchema, ShapeColumns, hookimpl
    >>> @hookimpl
    ... def photplug_schema(table):
    ...     if "REFF" not in table.colnames:
    ...         return None
    ...     shape = ShapeColumns(a="REFF", b="BEFF", theta=("PA",), unit="arcsec", zero="north")
    ...     return CatalogSchema(name="mine", title="mine", shapes=(shape,), kron="")
    >>> photplug_schema(Table({"REFF": [0.3]})).name
    'mine'
    """


@hookspec
def photplug_columns(
    catalog: QTable, image: MosaicImage, epochs: QTable | None, band: str, options: Options
) -> dict[str, Column] | None:
    """Return more columns for the catalogue; asked once for each band, while its image is held.

    All plugins are asked, and their columns join. With several bands the pipeline puts the band before the names.

    >>> from dja_photplug.plugin import hookimpl
    >>> @hookimpl
    ... def photplug_columns(catalog):
    ...     return {"snr_auto": catalog["flux_auto"] / catalog["fluxerr_auto"]}
    """


@hookspec
def photplug_options() -> dict[str, type[Stage]]:
    """Declare options of the plugin's own: a table of TOML files, flags of the commands they name, metadata.

    ``options.of(Flat)`` has their values, in every hook that gets `options`.

    >>> from dataclasses import dataclass
    >>> from dja_photplug.plugin import Stage, hookimpl, option
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Flat(Stage):
    ...     commands = ("catalog", "weight")
    ...     error: float = option(0.02, "error of the flat field, as a fraction of the signal", minimum=0, maximum=1)
    >>> @hookimpl
    ... def photplug_options():
    ...     return {"flat": Flat}
    """


@hookspec
def photplug_register_commands(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add commands to ``dja-photplug``; a command sets ``run``, which takes the parsed arguments.

    The built-in commands are added by it too. The first plugin that adds a name has it.

    >>> from dja_photplug.plugin import hookimpl
    >>> @hookimpl
    ... def photplug_register_commands(subparsers):
    ...     parser = subparsers.add_parser("hello", help="greet the mosaic")
    ...     parser.set_defaults(run=lambda arguments: print("hello"))
    """
