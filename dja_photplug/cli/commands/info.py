"""``info``: what a mosaic is made of."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.cli.facts import Facts, Json, add_json
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
    add_json(
        add_command(subparsers, "info", run, "describe a mosaic: its files, grid, exposures and noise", mosaic=True)
    )


def run(arguments: Namespace) -> None:
    """Print what a mosaic is made of, from its headers and its log; of other sources, from what is loaded."""
    [source] = find_mosaics(arguments)
    facts = Facts()
    if isinstance(source, MosaicFiles):
        _describe_files(facts, source)
    else:
        _describe_source(facts, source, arguments.manager)
    facts.print(as_json=arguments.json)


def _describe_grid(facts: Facts, grid: Grid, unit: str, words: str = "") -> None:
    from astropy.coordinates import SkyCoord

    from dja_photplug.sky.grid import pixel_scale, sky_positions

    (ny, nx), scale = grid.shape, round(pixel_scale(grid.wcs) * 1000, 3)
    ra, dec = (float(each) for each in sky_positions(grid.wcs, (nx - 1) / 2, (ny - 1) / 2))
    size: dict[str, Json] = {"shape": {"ny": ny, "nx": nx}, "pixel_scale_mas": scale, "unit": unit or None}
    facts.tell(f"size        {nx} x {ny} pixels of {scale} mas, unit {unit or 'missing'}{words}", size)
    centre = SkyCoord(ra, dec, unit="deg").to_string("hmsdms", precision=2)
    facts.tell(f"centre      {centre}", {"centre_ra_deg": round(ra, 7), "centre_dec_deg": round(dec, 7)})


def _describe_source(facts: Facts, source: Source, manager: pluggy.PluginManager) -> None:
    """Describe what plugins find and load."""
    from dja_photplug.epochs.log import exposure_log
    from dja_photplug.pipeline.images import load_source
    from dja_photplug.sky.grid import Grid

    image = load_source(source, PIXEL_DEFAULTS, manager)
    name: dict[str, Json] = {"name": source.name, "band": source.band or None}
    facts.tell(f"source      {source.name}   band {source.band or 'unknown'}", name)
    files = {"log": str(source.log) if source.log else None}
    facts.tell(f"log         {Path(source.log).name if source.log else 'none'}", {"files": files})
    _describe_grid(facts, Grid(image.wcs, image.shape), str(image.unit), " once loaded")
    _describe_log(facts, exposure_log(source))
    share, noise = float((~image.mask).mean()), describe_weight(image.meta)
    values: dict[str, Json] = {"noise": {"description": noise}, "covered": share}
    facts.tell(f"noise       {noise}; {share:.1%} of the pixels have data", values)


def _describe_files(facts: Facts, files: MosaicFiles) -> None:
    """Describe a mosaic of the archive without reading its pixels, but for the gain where a variance file tells it."""
    from dja_photplug.epochs.log import exposure_log
    from dja_photplug.files.pixels import ImageReader
    from dja_photplug.sky.cards import read_card

    grid = files.grid()
    with ImageReader(files.science) as science:
        header = science.header
    facts.tell(f"mosaic      {files.name}   band {files.band}", {"name": files.name, "band": files.band})
    members = _members(files)
    lines = [f"{label:<11} {path.name if path else 'none'}" for label, path in members.items()]
    facts.tell(lines, {"files": {label: str(path) if path else None for label, path in members.items()}})
    _describe_grid(facts, grid, str(read_card(header, "BUNIT") or ""))
    _describe_totals(facts, files, header)
    log = exposure_log(files)
    _describe_log(facts, log)
    if log is not None:
        _compare_log(facts, log, files, header, grid)
    _describe_noise(facts, files, header, log)


def _describe_log(facts: Facts, log: ExposureLog | None) -> None:
    from dja_photplug.epochs.products import describe_log

    if log is None:
        facts.tell([], {"log": None, "differs": []})
        return
    lines, values = describe_log(log)
    facts.tell(lines, {"differs": values.pop("differs"), "log": values})


def _describe_totals(facts: Facts, files: MosaicFiles, header: fits.Header) -> None:
    """Tell what the header says of the exposures; what is no number is told, and taken out of the header."""
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
    text = f"{'?' if count is None else f'{count:g}'} in the header, {'?' if time is None else f'{time / 1e3:.2f}'} ks"
    facts.tell(f"exposures   {text}", {"header": {"n_exposures": count, "exptime_s": time}})


def _describe_noise(facts: Facts, files: MosaicFiles, header: fits.Header, log: ExposureLog | None) -> None:
    """Tell what the preset of catalogues makes of the mosaic, or why it cannot be had."""
    from dja_photplug.mosaic.models.electrons import detector_gain, phot_scale
    from dja_photplug.mosaic.plan import check_detector_gain, load_noise_model

    lines: list[str] = []
    values: dict[str, Json] = {"preset": "calibrated"}
    try:
        cards = load_noise_model(files, "calibrated").provenance
        if files.variance is not None:
            noise = describe_weight({key: value for key, (value, _) in cards.items()})
            lines, values = [f"noise       {noise}"], values | {"description": noise}
        if files.variance is None or files.exposure is not None or log is not None:
            if files.variance is not None:
                measured, sigma, count = check_detector_gain(files)
                lines += [f"            {measured:.3f} +- {sigma:.3f} e-/DN in {count} bright pixels of it"]
                values |= {"measured_gain_e_per_dn": measured, "measured_gain_err_e_per_dn": sigma}
            (gain, source), scale = detector_gain(header, log), phot_scale(header)
            lines = [
                f"phot_scale  {scale:.6g} DN/s per 10 nJy",
                f"gain        {gain:.3f} e-/DN ({source}); used by the preset calibrated",
                *lines,
            ]
            values |= {"phot_scale_dn_per_s_per_10njy": scale, "gain_e_per_dn": gain, "gain_from": source}
    except PhotplugError as error:
        lines.append(f"{'            its gain: ' if lines else 'noise       '}{error}")
        values["error"] = str(error)
    facts.tell(lines, {"noise": values})


def _members(files: MosaicFiles) -> dict[str, Path | None]:
    return {
        "science": files.science,
        "weight": files.weight,
        "exposure": files.exposure,
        "variance": files.variance,
        "log": files.wcs_log,
    }


def _compare_log(facts: Facts, log: ExposureLog, files: MosaicFiles, header: fits.Header, grid: Grid) -> None:
    """Tell in what the log, the header and the exposure map of a mosaic agree or differ."""
    from dja_photplug.epochs.products import agreement_with_map, compare_with_header, find_overlap
    from dja_photplug.files.pixels import read_image

    def differ(text: str) -> None:
        facts.tell(f"differs     {text}", {"differs": [text]})

    for text in compare_with_header(log, header):
        differ(text)
    if not find_overlap(log, *grid).any():
        differ("no exposure of the log overlaps the mosaic; is it the log of another field?")
        return
    if files.exposure is None:
        facts.tell("exp map     made from the log, by the archive's rule", {"exposure_map": {"from": "log"}})
        return
    seconds, cards = read_image(files.exposure)
    try:
        share = agreement_with_map(log, grid.wcs, seconds, cards)
    except PhotplugError as error:
        differ(f"{files.exposure.name}: {error}")
        return
    values: dict[str, Json] = {"exposure_map": {"from": "file", "equal_to_log": float(share)}}
    facts.tell(f"exp map     {share:.2%} of its samples equal the log's", values)
