"""Print a(r), the scatter of flux/error in empty apertures of the UDS cut-outs, against radius.

Needs the cut-outs: DJA_PHOTPLUG_DATA=folder python docs/scripts/empty_apertures.py
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.options.stages import CalibrationOptions
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.empty import calibrate_with

RADII = (2, 4.5, 6.25, 8.75, 12.5, 17.5)  # pixels of 40 mas
MOSAICS = {"F444W": "uds/uds-test-v7.4-f444w-clear", "F115W": "uds/uds-test-v7.4-f115w-clear"}
CHOICES = {
    "": dp.Options(calibration=CalibrationOptions(zones=1)),
    ", `--margin 1`": dp.Options(calibration=CalibrationOptions(zones=1, margin=1)),
    ", `--sky none`": dp.Options(calibration=CalibrationOptions(zones=1), measure=dp.MeasureOptions(background="none")),
    ", `--sky masked`": dp.Options(
        calibration=CalibrationOptions(zones=1), measure=dp.MeasureOptions(background="masked")
    ),
}


def describe(calibration: NoiseCalibration, image: dp.MosaicImage, detection: Detection) -> list[float]:
    """Return the scatter of single pixels over their sigma, and a(r) at each radius."""
    clear = ~binary_dilation((detection.segmentation > 0) | image.mask, iterations=5)
    pixel = median_abs_deviation((image.data * np.sqrt(image.uncertainty.array))[clear], scale="normal")
    return [float(pixel), *calibration(np.array(RADII) * 0.04)]


def measure_all(folder: Path) -> dict[str, list[float]]:
    """Return a row for each band and choice of options, and the sampling error of a(r)."""
    rows = {}
    for band, prefix in MOSAICS.items():
        image = dp.load_mosaic(folder / prefix, noise="calibrated")
        detection = detect_sep(image, mesh_background(image, dp.BackgroundOptions()), dp.Options())
        for name, options in CHOICES.items():
            calibration = calibrate_with(SEP, image, detection, options)
            rows[f"{band}{name}"] = describe(calibration, image, detection)
            if not name:
                rows[f"{band}, sampling error"] = [np.nan, *calibration.error(np.array(RADII) * 0.04)]
    return rows


def format_table(rows: dict[str, list[float]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [("radius (pixels)", "one pixel", *(f"{radius:g}" for radius in RADII))]
    lines.append(("---",) + ("---:",) * (1 + len(RADII)))
    lines += [(name, *("" if np.isnan(value) else f"{value:.2f}" for value in values)) for name, values in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(format_table(measure_all(Path(os.environ["DJA_PHOTPLUG_DATA"]))))
