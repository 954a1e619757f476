"""``info``: what a mosaic is made of."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.shared import Subparsers, add_command, describe_weight, find_mosaics
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import MosaicFiles, Source
from dja_photplug.hookspecs import hookimpl
from dja_photplug.options.presets import PIXEL_DEFAULTS

if TYPE_CHECKING:
    import pluggy
    from astropy.io import fits

    from dja_photplug.epochs.log import ExposureLog
    from dja_photplug.sky.grid import Grid

__all__ = ["photplug_register_commands", "run"]


@hookimpl
def photplug_register_commands(subparsers: Subparsers[ArgumentParser]) -> None:
    """Add the command."""
    add_command(subparsers, "info", run, "what a mosaic is made of", mosaic=True)


def run(arguments: Namespace) -> None:
    """Print what a mosaic is made of, from its headers and its log; of other sources, from what is loaded."""
    [source] = find_mosaics(arguments)
    if isinstance(source, MosaicFiles):
        _describe_files(source)
    else:
        _describe_source(source, arguments.manager)


def _describe_grid(grid: Grid, unit: str) -> None:
    from astropy.coordinates import SkyCoord

    from dja_photplug.sky.grid import pixel_scale, sky_positions

    (ny, nx), scale = grid.shape, pixel_scale(grid.wcs)
    centre = SkyCoord(*sky_positions(grid.wcs, (nx - 1) / 2, (ny - 1) / 2), unit="deg")
    print(f"size        {nx} x {ny} pixels of {round(scale * 1000, 3)} mas, unit {unit}")
    print(f"centre      {centre.to_string('hmsdms', precision=2)}")


def _describe_source(source: Source, manager: pluggy.PluginManager) -> None:
    """Describe what plugins find and load."""
    from dja_photplug.epochs.log import exposure_log
    from dja_photplug.epochs.products import describe_log
    from dja_photplug.pipeline.images import load_source
    from dja_photplug.sky.grid import Grid

    image = load_source(source, PIXEL_DEFAULTS, manager)
    print(f"source      {source.name}   band {source.band or 'unknown'}")
    print(f"log         {Path(source.log).name if source.log else 'none'}")
    _describe_grid(Grid(image.wcs, image.shape), f"{image.unit} once loaded")
    log = exposure_log(source)
    if log is not None:
        print("\n".join(describe_log(log)))
    print(f"noise       {describe_weight(image.meta)}; {(~image.mask).mean():.1%} of the pixels have data")


def _describe_files(files: MosaicFiles) -> None:
    """Describe a mosaic of the archive without reading its pixels, but for the gain where a variance file tells it."""
    from dja_photplug.epochs.log import exposure_log
    from dja_photplug.epochs.products import describe_log
    from dja_photplug.files.pixels import ImageReader
    from dja_photplug.sky.cards import read_card

    grid = files.grid()
    with ImageReader(files.science) as science:
        header = science.header
    print(f"mosaic      {files.name}   band {files.band}")
    for label, path in _members(files):
        print(f"{label:<11} {path.name if path else 'none'}")
    _describe_grid(grid, str(read_card(header, "BUNIT") or "missing"))
    print(f"exposures   {_describe_totals(files, header)}")
    log = exposure_log(files)
    if log is not None:
        print("\n".join(describe_log(log) + _compare_log(log, files, header, grid)))
    print("\n".join(_describe_noise(files, header, log)))


def _describe_totals(files: MosaicFiles, header: fits.Header) -> str:
    """Return what the header says of the exposures; what is no number is told, and taken out of the header."""
    from dja_photplug.epochs.products import TOTALS
    from dja_photplug.sky.cards import read_numbers

    numbers: dict[str, float] = {}
    for key in TOTALS:
        try:
            numbers |= read_numbers(header, (), "correct it", optional=[key])
        except PhotplugError as error:
            warnings.warn(f"{files.science}: {error}", PhotplugWarning, stacklevel=2)
            del header[key]
    count, time = (numbers.get(key) for key in TOTALS)
    return f"{'?' if count is None else f'{count:g}'} in the header, {'?' if time is None else f'{time / 1e3:.2f}'} ks"


def _describe_noise(files: MosaicFiles, header: fits.Header, log: ExposureLog | None) -> list[str]:
    """Return what the preset of catalogues makes of the mosaic, or why it cannot be had, in lines of text."""
    from dja_photplug.mosaic.load import check_detector_gain, load_noise_model
    from dja_photplug.mosaic.models.electrons import detector_gain, phot_scale

    lines = []
    try:
        cards = load_noise_model(files, "calibrated").provenance
        if files.variance is not None:
            lines = [f"noise       {describe_weight({key: value for key, (value, _) in cards.items()})}"]
            if files.exposure is None and log is None:
                return lines
            measured, sigma, count = check_detector_gain(files)
            lines += [f"            {measured:.3f} +- {sigma:.3f} e-/DN in {count} bright pixels of it"]
        gain, source = detector_gain(header, log)
        return [
            f"phot_scale  {phot_scale(header):.6g} DN/s per 10 nJy",
            f"gain        {gain:.3f} e-/DN ({source}); used by the preset calibrated",
            *lines,
        ]
    except PhotplugError as error:
        return [*lines, f"{'            its gain: ' if lines else 'noise       '}{error}"]


def _members(files: MosaicFiles) -> list[tuple[str, Path | None]]:
    return [
        ("science", files.science),
        ("weight", files.weight),
        ("exposure", files.exposure),
        ("variance", files.variance),
        ("log", files.wcs_log),
    ]


def _compare_log(log: ExposureLog, files: MosaicFiles, header: fits.Header, grid: Grid) -> list[str]:
    """Return in what the log, the header and the exposure map of a mosaic agree or differ, in lines of text."""
    from dja_photplug.epochs.products import agreement_with_map, compare_with_header, find_overlap
    from dja_photplug.files.pixels import read_image

    lines = [f"differs     {text}" for text in compare_with_header(log, header)]
    if not find_overlap(log, *grid).any():
        return [*lines, "differs     no exposure of the log overlaps the mosaic; is it the log of another field?"]
    if files.exposure is None:
        return [*lines, "exp map     made from the log, by the archive's rule"]
    seconds, cards = read_image(files.exposure)
    try:
        share = agreement_with_map(log, grid.wcs, seconds, cards)
    except PhotplugError as error:
        return [*lines, f"differs     {files.exposure.name}: {error}"]
    return [*lines, f"exp map     {share:.2%} of its samples equal the log's"]
