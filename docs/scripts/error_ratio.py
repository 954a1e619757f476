"""Print how much larger errors with source photons are than those of the weight alone, against flux.

Needs the UDS cut-outs: DJA_PHOTPLUG_DATA=folder python docs/scripts/error_ratio.py
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.table import QTable

import dja_photplug as dp
from dja_photplug.pipeline.one_band import measure_background_errors, remeasure

MOSAIC = "uds/uds-test-v7.4-f444w-clear"
EDGES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)  # uJy, in the aperture of 0.5 arcsec


def predict_ratio(catalog: QTable, alone: QTable, image: dp.MosaicImage) -> np.ndarray:
    """Return sqrt(1 + F / (gain sigma^2)) from the catalogue's columns: flux, wht-only error, exposure time."""
    gain = image.meta["DETGAIN"] * image.meta["PHOTSCLE"] * catalog["exptime"].value  # e- per 10 nJy
    flux, error = catalog["flux_aper_1"].to_value("10 nJy"), alone["fluxerr_aper_1"].to_value("10 nJy")
    return np.sqrt(1 + np.maximum(flux, 0) / gain / error**2)


def measure_ratios(prefix: Path) -> list[list[float]]:
    """Return for each bin: sources, and the medians of measured and predicted ratio, for both presets."""
    result = dp.run([prefix], dp.Options(variance=dp.VarianceOptions(noise="dja")))
    alone = measure_background_errors(result)
    flux = alone["flux_aper_1"].value
    ratios = []
    for image in (result.image, dp.load_mosaic(prefix, noise="calibrated")):
        errors = remeasure(result, image)["fluxerr_aper_1"]
        ratios += [(errors / alone["fluxerr_aper_1"]).value, predict_ratio(result.catalog, alone, image)]
    clear = result.catalog["mask_frac"] == 0
    bins = [clear & (flux >= low) & (flux < high) for low, high in pairwise(EDGES)]
    return [[int(use.sum()), *(float(np.median(ratio[use])) for ratio in ratios)] for use in bins]


def format_table(rows: list[list[float]]) -> str:
    """Return the rows as a Markdown table."""
    head = ("flux (uJy)", "sources", "`dja`", "by the formula", "`calibrated`", "by the formula")
    lines: list[tuple[str, ...]] = [head, ("---",) + ("---:",) * 5]
    for (low, high), (count, *ratios) in zip(pairwise(EDGES), rows, strict=True):
        lines.append((f"{low:g} to {high:g}", f"{count}", *(f"{ratio:.2f}" for ratio in ratios)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(format_table(measure_ratios(Path(os.environ["DJA_PHOTPLUG_DATA"]) / MOSAIC)))
