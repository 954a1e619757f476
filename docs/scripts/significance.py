"""Print the least snr_detect of mosaics and of simulated faint stars, and what is detected in the inverted images.

python docs/scripts/significance.py PREFIX [PREFIX ...] --seeds 11 12 13 14
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.light.smoothing import convolve_pixels, gaussian_kernel
from dja_photplug.options.stages import ENGINES
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.simulate.field import FieldOptions, SimulatedField, simulate_field, write_field

STARS = FieldOptions(density=150, star_fraction=1, flux_range=(0.01, 0.5))


def detect(image: dp.MosaicImage, engine: str) -> tuple[dp.Result, int]:
    """Return the sources of an image, and how many there are in the inverted one."""
    options = dp.Options(engine=engine)
    found = analyse_image(image, options, calibrated=False)
    inverted = image.copy()
    inverted.data = -image.data
    return found, len(analyse_image(inverted, options, calibrated=False).catalog)


def compare(result: dp.Result, field: SimulatedField) -> np.ndarray:
    """Return snr_detect less that of the star's light alone over the true scatter, for the stars that were detected."""
    kernel = gaussian_kernel(result.options.detect.kernel)
    light = convolve_pixels(field.truth.astype(np.float32), kernel)
    noise = convolve_pixels(field.science - field.truth.astype(np.float32), kernel)
    dark = light < 0.01 * field.options.sigma
    scatter = np.array([median_abs_deviation(noise[dark & (field.zones == zone)], scale="normal") for zone in range(3)])
    difference = []
    labels = result.detection.segmentation
    for x, y in zip(*(np.rint(field.sources[axis].value).astype(int) for axis in "xy"), strict=True):
        label = labels[y, x]
        if label > 0:
            snr = result.catalog["snr_detect"][result.catalog["id"] == label][0]
            difference.append(snr - light[y, x] / scatter[field.zones[y, x]])
    return np.array(difference)


def describe(name: str, engine: str, results: list[tuple[dp.Result, int]]) -> str:
    """Return a row of the table."""
    snr = np.concatenate([result.catalog["snr_detect"] for result, _ in results])
    inverted = sum(count for _, count in results)
    return f"| {name} | {engine} | {len(snr)} | {snr.min():.1f} | {np.percentile(snr, 10):.1f} | {inverted} |"


def simulate(seeds: list[int]) -> Iterator[tuple[SimulatedField, dp.MosaicImage]]:
    """Yield fields of faint stars, and their images."""
    for seed in seeds:
        field = simulate_field(replace(STARS, seed=seed))
        with TemporaryDirectory() as folder:
            yield field, dp.load_mosaic(write_field(field, Path(folder), "sim-v1"), noise="calibrated")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="*", help="mosaics")
    parser.add_argument("--seeds", type=int, nargs="*", default=[11, 12, 13, 14], help="simulated fields")
    arguments = parser.parse_args()
    print("| image | engine | sources | least | 10th percentile | inverted: sources |\n| --- | --- |" + " ---: |" * 4)
    for prefix in arguments.prefix:
        image = dp.load_mosaic(prefix, noise="calibrated")
        for engine in ENGINES:
            print(describe(Path(prefix).name, engine, [detect(image, engine)]))
    fields = list(simulate(arguments.seeds))
    for engine in ENGINES:
        results = [detect(image, engine) for _, image in fields]
        print(describe(f"{len(fields)} simulated fields", engine, results))
        pull = np.concatenate([compare(result, field) for (result, _), (field, _) in zip(results, fields, strict=True)])
        scatter = median_abs_deviation(pull, scale="normal")
        print(f"  measured - true: median {np.median(pull):+.2f}, scatter {scatter:.2f} ({len(pull)} stars)")
