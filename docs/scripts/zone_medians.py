"""Print the medians of empty apertures in each depth zone of the UDS cut-outs, and how well they can be known.

Needs the UDS cut-outs: DJA_PHOTPLUG_DATA=folder python docs/scripts/zone_medians.py

With `--simulated SEED ...` it needs none: fields of 4 square arcmin with steps of depth, 1/f noise and sky that
was left in: there is enough sky, and a row tells scatter (median) too, where one half of the apertures of each zone and
field, drawn by chance, is measured in units of the scatter of the other.

The sampling error is that of the sky: squares of 6 arcsec are drawn again and again from those of a zone, each with
all its apertures. Where noise is correlated beyond an aperture it is larger than by the number of apertures. The last
column is the mean of the pixels of the sky, without those beyond 2.5 of their scatter, in sigma.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.calibration.measure import ApertureSums, Places, SumCircles, calibrate
from dja_photplug.calibration.places import Blocked
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from dja_photplug.sources import empty
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.removal import remove_sky

MOSAICS = {"F444W": "uds/uds-test-v7.4-f444w-clear", "F115W": "uds/uds-test-v7.4-f115w-clear"}
BLOCK, DRAWN = 150, 400  # pixels, times


def collect(image: MosaicImage, detection: Detection) -> tuple[np.ndarray, list[tuple[Places, ApertureSums]]]:
    """Return the variances between the zones, and all empty apertures of each radius."""
    found: list[tuple[Places, ApertureSums]] = []

    def keep(blocked: Blocked, scale: float, sum_circles: SumCircles, *rest: Any, **more: Any) -> dp.NoiseCalibration:
        def add(places: Sequence[Places]) -> Sequence[ApertureSums]:
            sums = sum_circles(places)
            found.extend(zip(places, sums, strict=True))
            return sums

        return calibrate(blocked, scale, add, *rest, **more)

    options = dp.Options(calibration=dp.CalibrationOptions(radius_max=0.5, n_radii=7, n_apertures=100_000))
    with patch.object(empty, "calibrate", keep):
        return empty.calibrate_with(SEP, image, detection, options).edges, found


def resample(values: np.ndarray, block: np.ndarray, rng: np.random.Generator) -> float:
    """Return the scatter of the median over draws of blocks."""
    names, first = np.unique(block, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWN)[:, first]
    order = np.argsort(values)
    total = np.cumsum(drawn[:, order], axis=1)
    middle = np.argmax(total >= total[:, -1:] / 2, axis=1)
    return float(np.std(values[order][middle]))


def average_pixels(image: MosaicImage, detection: Detection, edges: np.ndarray) -> list[str]:
    """Return the mean of the pixels of the sky in each zone, less that of the photometry, and its sampling error."""
    sky = remove_sky(image, detection.segmentation, dp.Options().settle()).sky
    assert image.background_weight is not None
    variance = 1 / image.background_weight
    left = sky.take_off(image.data) / np.sqrt(variance)
    clear = ~(sky.mask | image.mask)
    clear &= np.abs(left) < 2.5 * median_abs_deviation(left[clear], scale="normal")
    means = []
    for zone in range(len(edges) + 1):
        y, x = np.nonzero(clear & (np.searchsorted(edges, variance) == zone))
        _, block = np.unique((x // BLOCK) * 1000 + y // BLOCK, return_inverse=True)
        total, count = np.bincount(block, left[y, x]), np.bincount(block)
        mean = total.sum() / count.sum()
        means.append(f"{mean:+.4f} +- {np.sqrt(np.sum((total - mean * count) ** 2)) / count.sum():.4f}")
    return means


def measure(image: MosaicImage) -> tuple[Detection, np.ndarray, list[tuple[Places, ApertureSums]]]:
    """Return the sources of an image, the variances between its zones, and all empty apertures of each radius."""
    detection = detect_sep(image, mesh_background(image, dp.BackgroundOptions()), dp.Options())
    return detection, *collect(image, detection)


def read_pulls(places: Places, sums: ApertureSums, edges: np.ndarray, zone: int) -> tuple[np.ndarray, np.ndarray]:
    """Return flux over error in the apertures of a zone, and the square that each is in."""
    x, y, radius = places
    use = np.searchsorted(edges, sums.background / (np.pi * radius**2)) == zone
    return sums.flux[use] / np.sqrt(sums.background[use]), (x[use] // BLOCK) * 1000 + y[use] // BLOCK


def print_header(found: list[tuple[Places, ApertureSums]], *more: str) -> None:
    print("| zone |" + "".join(f' {radius * 0.04:.2f}" |' for (*_, radius), _ in found) + "".join(more))
    print("| --- |" + " ---: |" * (len(found) + len(more)))


def print_real() -> None:
    """Print a row for each zone of the cut-outs."""
    rng = np.random.default_rng(1)
    for i, (band, name) in enumerate(MOSAICS.items()):
        image = dp.load_mosaic(Path(os.environ["DJA_PHOTPLUG_DATA"]) / name, noise="calibrated")
        detection, edges, found = measure(image)
        if i == 0:
            print_header(found, " pixels |")
        for zone, mean in enumerate(average_pixels(image, detection, edges)):
            cells = []
            for places, sums in found:
                pull, block = read_pulls(places, sums, edges, zone)
                pull /= median_abs_deviation(pull, scale="normal")
                cells.append(f"{np.median(pull):+.2f} +- {resample(pull, block, rng):.2f}")
            print(f"| {band} {zone + 1} | {' | '.join([*cells, mean])} |", flush=True)


def print_simulated(seeds: list[int]) -> None:
    """Print scatter and median of each zone of simulated fields, with their sampling errors, and the numbers."""
    rng = np.random.default_rng(1)
    pulls: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for seed in seeds:
        field = simulate_field(FieldOptions(shape=(3000, 3000), seed=seed))
        with TemporaryDirectory() as folder:
            image = dp.load_mosaic(write_field(field, Path(folder), "sim-v1"), noise="calibrated")
        _, edges, found = measure(image)
        assert len(edges) == len(field.options.depths) - 1, edges
        for zone in range(len(edges) + 1):
            for i, (places, sums) in enumerate(found):
                pull, block = read_pulls(places, sums, edges, zone)
                half = rng.permutation(len(pull)) < len(pull) // 2
                pull = pull[half] / median_abs_deviation(pull[~half], scale="normal")
                pulls.setdefault((zone, i), []).append((pull, block[half] + 1e7 * seed))
    print_header(found)
    for zone in range(len(edges) + 1):
        cells, counts = [], []
        for i in range(len(found)):
            pull, block = (np.concatenate(parts) for parts in zip(*pulls[zone, i], strict=True))
            scatter = median_abs_deviation(pull, scale="normal")
            error = 1.17 * scatter / np.sqrt(len(pull) / 2)  # that of the half that calibrates, too
            cells.append(f"{scatter:.2f} ({np.median(pull):+.3f})")
            counts.append(f"{len(pull)}; {error:.3f}, {resample(pull, block, rng):.3f}")
        print(f"| {zone + 1} | {' | '.join(cells)} |\n| n; sampling errors | {' | '.join(counts)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=int, nargs="+", metavar="SEED", help="fields, instead of the cut-outs")
    arguments = parser.parse_args()
    if arguments.simulated:
        print_simulated(arguments.simulated)
    else:
        print_real()
