"""Print what the hole that a source makes in its own sky adds to the variance of a flux, measured and by the formula.

Needs the UDS cut-outs: DJA_PHOTPLUG_DATA=folder python docs/scripts/sky_holes.py

Circles are taken out of the mask's clear places, 6 arcsec apart, and the sky is measured with and without them. Fluxes
of the same empty apertures in their middles, in units of their error, have another mean square.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import sep

import dja_photplug as dp
from dja_photplug.calibration.curve import find_errors
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.light.planes import SKY_BLOCK, mask_sources
from dja_photplug.sources.empty import calibrate_with
from dja_photplug.sources.removal import count_around, remove_sky

MOSAICS = {"F444W": "uds/uds-test-v7.4-f444w-clear", "F115W": "uds/uds-test-v7.4-f115w-clear"}
SCALE, APART, CLEAR = 0.04, 150, 0.7 / 0.04  # arcsec, pixels
HOLES, DIAMETERS = (0.7, 1.0, 1.5), (0.5, 0.7, 1.0, 1.4)  # arcsec
CLIP = 4  # sigma: an aperture may hold a source that was not detected


def draw_places(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of places whose surroundings are clear of a mask, no two within one hole."""
    first = rng.uniform(30, 30 + APART, 2)
    grid = np.meshgrid(*(np.arange(start, n - 30, APART) for start, n in zip(first, mask.shape[::-1], strict=True)))
    x, y = (axis.ravel() + rng.uniform(-20, 20, axis.size) for axis in grid)
    clear = sep.sum_circle(mask.astype(np.float32), x, y, CLEAR)[0] == 0
    return x[clear], y[clear]


def measure(prefix: Path, realisations: int, seed: int) -> dict[tuple[float, float], np.ndarray]:
    """Return for each hole and diameter: number, added mean square and its error, and what is added by two formulae.

    They are that of the hole, and that of one no larger than the aperture.
    """
    image, options = dp.load_mosaic(prefix, noise="calibrated"), dp.Options().settle()
    detection = detect_sep(image, mesh_background(image, options.background), options)
    mask, note = mask_sources(image, detection.segmentation, SCALE)
    sky = remove_sky(image, detection.segmentation, options, (mask, note)).sky
    calibration = calibrate_with(SEP, image, detection, options)
    assert image.background_weight is not None
    variance, data, rng = 1 / image.background_weight, sky.take_off(image.data), np.random.default_rng(seed)
    found: dict[tuple[float, float], list[np.ndarray]] = {(hole, d): [] for hole in HOLES for d in DIAMETERS}
    for hole in HOLES:
        for _ in range(realisations):
            x, y = draw_places(mask, rng)
            holed, size = mask.copy(), np.full(len(x), hole / SCALE)
            sep.mask_ellipse(holed, x, y, size, size, np.zeros(len(x)), r=1.0)
            left = remove_sky(image, detection.segmentation, options, (holed, note)).sky.take_off(image.data)
            for diameter in DIAMETERS:
                radius = diameter / 2 / SCALE
                flux, lit, background = (
                    sep.sum_circle(plane, x, y, radius, subpix=0)[0] for plane in (data, left, variance)
                )
                sums = background, background, np.full(len(x), np.pi * radius**2)
                plain, _ = find_errors(sums, SCALE, calibration)
                cleared = hole + SKY_BLOCK / 2  # as of `find_hole`
                pixels = count_around(sky, np.full(len(x), cleared), SCALE)
                errors = (
                    find_errors(sums, SCALE, calibration, sky_pixels=sky_pixels, hole=radius)[0]
                    for sky_pixels, radius in ((pixels, cleared), (sky.pixels, 0.0))
                )
                squares = [np.square(error / plain) - 1 for error in errors]
                pulls = (np.square(np.clip(value / plain, -CLIP, CLIP)) for value in (lit, flux))
                found[hole, diameter].append(np.stack([np.subtract(*pulls), *squares]))
    rows = {}
    for key, parts in found.items():
        added, formula, aperture = np.concatenate(parts, axis=1)
        n = len(added)
        rows[key] = np.array([n, added.mean(), added.std() / np.sqrt(n), formula.mean(), aperture.mean()])
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realisations", type=int, default=25, help="of places, for each hole")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print("| band | hole | aperture | n | added | sampling error | by the hole | by the aperture |")
    print("| --- |" + " ---: |" * 7)
    for band, name in MOSAICS.items():
        prefix = Path(os.environ["DJA_PHOTPLUG_DATA"]) / name
        for (hole, diameter), row in measure(prefix, arguments.realisations, arguments.seed).items():
            values = " | ".join(f"{value:.3f}" for value in row[1:])
            print(f'| {band} | {hole:.1f}" | {diameter:.1f}" | {row[0]:.0f} | {values} |', flush=True)
