"""Print the scatter of flux/error in empty apertures of the UDS cut-outs, against radius.

Needs the cut-outs: DJA_PHOTPLUG_DATA=folder python docs/scripts/empty_apertures.py
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import sep
from scipy.ndimage import distance_transform_edt
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.detection import mesh_background, variance_map

RADII = (2, 4.5, 6.25, 8.75, 12.5, 17.5)  # pixels of 40 mas
MOSAICS = {"F444W": "uds/uds-test-v7.4-f444w-clear", "F115W": "uds/uds-test-v7.4-f115w-clear"}
MARGIN = 8  # pixels around segments that still hold the sources' light
NUMBER = 4000


def measure_scatter(prefix: Path, sources: np.ndarray, *, subtract: bool) -> list[float]:
    """Return the robust scatter of flux/error for single pixels and each radius, errors from the weight alone."""
    image = dp.load_mosaic(prefix, noise="background")
    level = mesh_background(image, dp.BackgroundOptions(), sources).level if subtract else 0
    # Distance to the nearest source, null pixel or edge.
    clear = distance_transform_edt(np.pad(~(sources | image.mask), 1))[1:-1, 1:-1]
    variance, random = variance_map(image), np.random.default_rng(1)
    pixels = ((image.data - level) / np.sqrt(variance))[clear > 1]
    scatter = [float(median_abs_deviation(pixels, scale="normal"))]
    for radius in RADII:
        y, x = random.permutation(np.argwhere(clear > radius + 1))[:NUMBER].T
        flux, error, _ = sep.sum_circle(image.data - level, x, y, radius, var=variance, subpix=0)
        scatter.append(float(median_abs_deviation(flux / error, scale="normal")))
    return scatter


def measure_all(folder: Path) -> dict[str, list[float]]:
    """Return the scatter in both bands, away from the sources of either, as they are and without residual sky."""
    found = [dp.run([folder / prefix]).detection.segmentation > 0 for prefix in MOSAICS.values()]
    sources = distance_transform_edt(~np.logical_or(*found)) <= MARGIN
    return {
        f"{band}{', mesh background off' if subtract else ''}": measure_scatter(
            folder / prefix, sources, subtract=subtract
        )
        for band, prefix in MOSAICS.items()
        for subtract in (False, True)
    }


def format_table(scatter: dict[str, list[float]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [("radius (pixels)", "one pixel", *(f"{radius:g}" for radius in RADII))]
    lines.append(("---",) + ("---:",) * (1 + len(RADII)))
    lines += [(band, *(f"{value:.2f}" for value in values)) for band, values in scatter.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(format_table(measure_all(Path(os.environ["DJA_PHOTPLUG_DATA"]))))
