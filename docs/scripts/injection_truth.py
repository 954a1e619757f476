"""Print how fluxes of sources injected into the UDS cut-outs compare with the truth, and with the sky below them.

Needs the UDS cut-outs: DJA_PHOTPLUG_DATA=folder python docs/scripts/injection_truth.py

Point sources are measured at their true places, in all apertures at once, by depth zone and by distance to the nearest
segment of the mosaic as it was; so are the same apertures before anything was injected. The sky is one: sources of two
realisations at one place have the same noise. So the number of independent apertures is told beside that of sources
(n^2 over the sum of the squared shared fractions of all pairs), and sampling errors are those of squares of 6 arcsec of
the sky, which are drawn again and again with all that is in them.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import QTable, vstack
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.calibration.places import count_independent
from dja_photplug.files.names import Source
from dja_photplug.injection.field import Field, Job, find_depth, measure_distance, prepare, read_fluxes
from dja_photplug.injection.light import add_light, draw_injected, draw_sources, sum_light
from dja_photplug.injection.recovery import measure_forced
from dja_photplug.options.commands import InjectionOptions
from dja_photplug.pipeline.images import find_source
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.sky.grid import pixel_scale

MOSAICS = {"F444W": "uds/uds-test-v7.4-f444w-clear", "F115W": "uds/uds-test-v7.4-f115w-clear"}
DIAMETERS = (0.32, 0.5, 0.7, 1.0, 1.4)  # arcsec
DISTANCES = {'more than 1.2"': (1.2, np.inf), '0.6 to 1.2"': (0.6, 1.2), '0.3 to 0.6"': (0.3, 0.6)}
DISTANCES |= {'below 0.3"': (1e-9, 0.3), "off segments": (1e-9, np.inf)}
BRIGHT = {"bright": (24, 26.5), "faint": (26.5, 30)}
BLOCK, DRAWN = 6.0, 400  # arcsec, times


def inject(field: Field, number: int) -> QTable:
    """Return the sources of one realisation with the fluxes that are measured, and the true ones in each aperture."""
    job, before = field.job, field.before
    rng = np.random.default_rng([job.injection.seed, number])
    sources = draw_sources(before.image, job.injection, rng)
    image = add_light(field, draw_injected(sources, field), rng)
    after = analyse_image(image, job.options, field.manager, calibration=before.calibration)
    measured, places = measure_forced(sources, after, field), np.stack([sources["x"], sources["y"]], axis=-1)
    for i in range(len(DIAMETERS)):
        one = replace(field, job=replace(job, injection=replace(job.injection, aperture=i)))
        sources[f"true_{i}"] = sum_light(sources, places[:, None], one)[:, 0]
        for name in ("flux", "fluxerr"):
            sources[f"{name}_{i}"] = read_fluxes(measured, f"{name}_aper_{i}")
    return sources


def inject_all(source: Source, realisations: int, seed: int) -> tuple[QTable, float]:
    """Return the sources of all realisations, the same apertures before them, and the scale of pixels."""
    options = dp.Options(measure=dp.MeasureOptions(apertures=DIAMETERS)).settle()
    injection = InjectionOptions(magnitudes=(24, 30), seed=seed, workers=1)
    field = prepare(Job(source=source, options=options, injection=injection, psf=None), get_plugin_manager())
    sources = vstack([inject(field, number) for number in range(realisations)])
    places = np.stack([sources["x"], sources["y"]], axis=-1)
    sources["distance"] = measure_distance(places, field)
    sources["zone"] = find_depth(sources, field.before, field.reference)[0]
    empty = measure_forced(sources, field.before, field)
    for i in range(len(DIAMETERS)):
        for name in ("flux", "fluxerr"):
            sources[f"{name}_empty_{i}"] = read_fluxes(empty, f"{name}_aper_{i}")
    return sources, pixel_scale(field.before.image.wcs)


def scatter(pulls: np.ndarray) -> float:
    """Return the robust scatter."""
    return float(median_abs_deviation(pulls, scale="normal"))


def resample(pulls: np.ndarray, blocks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return scatter and median of columns (n, k) over draws of the blocks that rows are in, (draws, 2, k)."""
    names, block = np.unique(blocks, return_inverse=True)
    members = [np.flatnonzero(block == i) for i in range(len(names))]
    drawn = []
    for _ in range(DRAWN):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        drawn.append([[scatter(column) for column in pulls[rows].T], np.median(pulls[rows], axis=0)])
    return np.array(drawn)


def format_rows(band: str, sources: QTable, scale: float) -> tuple[list[str], list[str]]:
    """Return rows of fluxes against the truth, and of the apertures far from segments with and without a source."""
    rng, rows, pairs = np.random.default_rng(1), [], []
    distance, zone, mag = (np.asarray(sources[name]) for name in ("distance", "zone", "mag"))
    blocks = np.floor(sources["x"] * scale / BLOCK) * 1000 + np.floor(sources["y"] * scale / BLOCK)
    pull = np.stack([(sources[f"flux_{i}"] - sources[f"true_{i}"]) / sources[f"fluxerr_{i}"] for i in range(5)], axis=1)
    empty = np.stack([sources[f"flux_empty_{i}"] / sources[f"fluxerr_empty_{i}"] for i in range(5)], axis=1)
    known = np.isfinite(pull).all(axis=1) & np.isfinite(empty).all(axis=1)
    far = distance >= DISTANCES['more than 1.2"'][0]
    classes = {f'{band} zone {k + 1}, more than 1.2"': far & (zone == k) for k in range(zone.max() + 1)}
    for name, (low, high) in DISTANCES.items():
        for kind, (least, most) in BRIGHT.items():
            near = (distance >= low) & (distance < high)
            classes[f"{band}, {name}, {kind}"] = near & (mag >= least) & (mag < most)
    classes[f'{band}, more than 1.2", all'] = far
    for name, use in classes.items():
        use &= known
        drawn = resample(np.hstack([pull, empty])[use], blocks[use], rng)
        error = drawn[:, 0].std(axis=0)
        independent = [count_independent(sources["x"][use], sources["y"][use], d / 2 / scale) for d in DIAMETERS]
        cells = [
            f"{scatter(part):.2f} +- {e:.2f} ({np.median(part):+.2f})"
            for part, e in zip(pull[use].T, error, strict=False)
        ]
        rows.append(f"| {name} | {use.sum()} | {' | '.join(cells)} |")
        if "zone" in name or "all" in name:
            more = (drawn[:, 0, :5] - drawn[:, 0, 5:]).std(axis=0)
            for i in (1, 2, 3, 4):
                one, other = scatter(pull[use, i]), scatter(empty[use, i])
                values = f"{one:.3f} +- {error[i]:.3f} | {other:.3f} +- {error[5 + i]:.3f}"
                difference = f"{one - other:+.3f} +- {more[i]:.3f}"
                pair = f'{DIAMETERS[i]:.2f}" | {use.sum()} | {independent[i]:.0f} | {values} | {difference}'
                pairs.append(f"| {name.removesuffix(', more than 1.2' + chr(34))} | {pair} |")
    return rows, pairs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realisations", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1001)
    parser.add_argument("--bands", nargs="+", choices=list(MOSAICS), default=list(MOSAICS))
    arguments = parser.parse_args()
    every: list[str] = []
    print("| band, place | N |" + "".join(f' {d:.2f}" |' for d in DIAMETERS))
    print("| --- |" + " ---: |" * (len(DIAMETERS) + 1))
    for band in arguments.bands:
        source = find_source(Path(os.environ["DJA_PHOTPLUG_DATA"]) / MOSAICS[band], get_plugin_manager())
        rows, pairs = format_rows(band, *inject_all(source, arguments.realisations, arguments.seed))
        print("\n".join(rows), flush=True)
        every += pairs
    print('\n| more than 1.2" | aperture | N | independent | with a source | before it | difference |')
    print("| --- | --- |" + " ---: |" * 5)
    print("\n".join(every))
