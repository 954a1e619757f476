"""Print the medians of empty apertures in each depth zone of the UDS cut-outs, and how well they can be known.

Needs the UDS cut-outs: DJA_PHOTPLUG_DATA=folder python docs/scripts/zone_medians.py

The sampling error is that of the sky: squares of 6 arcsec are drawn again and again from those of a zone, each with
all its apertures. Where noise is correlated beyond an aperture it is larger than by the number of apertures. The last
column is the mean of the pixels of the sky, without those beyond 2.5 of their scatter, in sigma.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.calibration.measure import ApertureSums, Places
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.sources import empty
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.removal import remove_sky

MOSAICS = {"F444W": "uds/uds-test-v7.4-f444w-clear", "F115W": "uds/uds-test-v7.4-f115w-clear"}
BLOCK, DRAWN = 150, 400  # pixels, times


def collect(image: MosaicImage, detection: Detection) -> tuple[np.ndarray, list[tuple[Places, ApertureSums]]]:
    """Return the variances between the zones, and all empty apertures of each radius."""
    found: list[tuple[Places, ApertureSums]] = []
    measure = empty.calibrate

    def calibrate(blocked, scale, sum_circles, options, variance):
        def add(places):
            sums = sum_circles(places)
            found.extend(zip(places, sums, strict=True))
            return sums

        return measure(blocked, scale, add, options, variance)

    empty.calibrate = calibrate
    options = dp.Options(calibration=dp.CalibrationOptions(radius_max=0.5, n_radii=7, n_apertures=100_000))
    try:
        return empty.calibrate_with(SEP, image, detection, options).edges, found
    finally:
        empty.calibrate = measure


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


if __name__ == "__main__":
    rng, header = np.random.default_rng(1), True
    for band, name in MOSAICS.items():
        image = dp.load_mosaic(Path(os.environ["DJA_PHOTPLUG_DATA"]) / name, noise="calibrated")
        detection = detect_sep(image, mesh_background(image, dp.BackgroundOptions()), dp.Options())
        edges, found = collect(image, detection)
        if header:
            print("| zone |" + "".join(f' {radius * 0.04:.2f}" |' for (*_, radius), _ in found) + " pixels |")
            print("| --- |" + " ---: |" * (len(found) + 1))
            header = False
        for zone, mean in enumerate(average_pixels(image, detection, edges)):
            cells = []
            for (x, y, radius), sums in found:
                use = np.searchsorted(edges, sums.background / (np.pi * radius**2)) == zone
                pull = sums.flux[use] / np.sqrt(sums.background[use])
                pull /= median_abs_deviation(pull, scale="normal")
                block = (x[use] // BLOCK) * 1000 + y[use] // BLOCK
                cells.append(f"{np.median(pull):+.2f} +- {resample(pull, block, rng):.2f}")
            print(f"| {band} {zone + 1} | {' | '.join([*cells, mean])} |", flush=True)
