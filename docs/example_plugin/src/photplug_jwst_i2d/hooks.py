"""The hooks: each claims or declines, then calls one function.

Every start of ``dja-photplug`` imports this module, so what takes astropy or numpy is imported where it is used.
"""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from typing import TYPE_CHECKING

from dja_photplug.plugin import Source, Stage, add_command, hookimpl
from photplug_jwst_i2d import command
from photplug_jwst_i2d.options import PRESET, FlatOptions
from photplug_jwst_i2d.source import I2DSource, find_i2d

if TYPE_CHECKING:
    from astropy.table import Column, QTable

    from dja_photplug.plugin import (
        Detection,
        ExposureLog,
        ExposureMap,
        Header,
        MosaicImage,
        NoiseCalibration,
        NoiseModel,
        Options,
    )


@hookimpl
def photplug_find(text: str) -> I2DSource | None:
    """Claim the names of MAST's mosaics."""
    return find_i2d(text)


@hookimpl
def photplug_load(source: Source, options: Options) -> MosaicImage | None:
    """Claim what `photplug_find` found."""
    if not isinstance(source, I2DSource):
        return None
    from photplug_jwst_i2d.images import load_i2d

    return load_i2d(source.path, options.variance.noise, options.of(FlatOptions).error)


@hookimpl
def photplug_options() -> dict[str, type[Stage]]:
    """Declare the table ``[flat]`` and the flag ``--flat-error``."""
    return {"flat": FlatOptions}


@hookimpl
def photplug_variance(
    header: Header, exposure: ExposureMap | None, log: ExposureLog | None, options: Options
) -> NoiseModel | None:
    """Claim the noise preset ``flat``, for mosaics of whichever archive."""
    if options.variance.noise != PRESET:
        return None
    from photplug_jwst_i2d.noise import make_flat_noise

    return make_flat_noise(header, exposure, log, options, options.of(FlatOptions).error)


@hookimpl
def photplug_calibrate(image: MosaicImage, detection: Detection, options: Options) -> NoiseCalibration | None:
    """Claim the noise preset ``flat``: as with ``calibrated``, correlated noise is measured in empty apertures."""
    if options.variance.noise != PRESET or options.engine not in ("sep", "photutils"):
        return None
    from dja_photplug.plugin import PHOTUTILS, SEP, calibrate_with

    return calibrate_with(SEP if options.engine == "sep" else PHOTUTILS, image, detection, options)


@hookimpl
def photplug_columns(catalog: QTable, options: Options) -> dict[str, Column] | None:
    """Add the error of a flat field that is wrong by the same fraction all over the source."""
    if "flux_auto" not in catalog.colnames:  # of an engine that does not measure it
        return None
    from photplug_jwst_i2d.noise import flat_column

    return {"fluxerr_flat": flat_column(catalog["flux_auto"], options.of(FlatOptions).error)}


@hookimpl
def photplug_register_commands(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command ``i2d-noise``."""
    parser = add_command(
        subparsers, "i2d-noise", command.run, "what the noise of an i2d mosaic is made of", mosaic=True
    )
    help = "diameter of the aperture of the depth, in arcsec (default %(default)s)"
    parser.add_argument("--aperture", type=float, default=0.32, metavar="ARCSEC", help=help)
