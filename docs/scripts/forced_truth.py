"""Print how far forced photometry in simulated fields is from the light of each source alone, in units of its error.

python docs/scripts/forced_truth.py --density 900 --seeds 3421 3422 3423

A list of all sources above 20 nJy, found or not, is measured by `extend` without a segmentation, at their true places
and so many arcsec off in any direction. The truth is the own light in the aperture at the place that was given. A
source has a segment of its own if no other on it is brighter.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.table import Table
from field_truth import sum_ellipse
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.simulate.field import FieldOptions, SimulatedField, simulate_field, write_field

FAINTEST = 0.02  # uJy
PLACES = ("on its own segment", "on none", "on the segment of a brighter one")
BINS = {"below 0.1 uJy": (0, 0.1), "0.1 to 1 uJy": (0.1, 1), "above 1 uJy": (1, np.inf)}


def read_label(segmentation: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row, column = (
        np.clip(np.rint(axis).astype(int), 0, n - 1) for axis, n in zip((y, x), segmentation.shape, strict=True)
    )
    return segmentation[row, column]


def find_place(field: SimulatedField, segmentation: np.ndarray, rows: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return which of `PLACES` sources are at, given the label below each."""
    true = (field.sources[axis].value for axis in "xy")
    below, flux = read_label(segmentation, *true), field.sources["flux"].value
    brightest = np.zeros(segmentation.max() + 1)
    np.maximum.at(brightest, below, flux)
    return np.where(label == 0, 1, np.where(flux[rows] < brightest[label], 2, 0))


def measure(options: FieldOptions, away: list[float]) -> dict[float, np.ndarray]:
    """Return place, true flux and (measured - own light)/error in each aperture, (n, 2 + apertures), by distance."""
    field, found = simulate_field(options), {}
    rows = np.flatnonzero(field.sources["flux"].value > FAINTEST)
    angle = np.random.default_rng(options.seed).uniform(0, 2 * np.pi, len(rows))
    with TemporaryDirectory() as folder:
        prefix = write_field(field, Path(folder), "sim-v1")
        segmentation = dp.run([prefix]).detection.segmentation
        for far in away:
            shift = far / options.pixel_scale * np.array([np.cos(angle), np.sin(angle)])
            x, y = np.array([field.sources[axis].value[rows] for axis in "xy"]) + shift
            ra, dec = field.wcs.wcs_pix2world(x, y, 0)
            table = dp.extend_catalog(Table({"ra": ra, "dec": dec}), [prefix])
            place = find_place(field, segmentation, rows, read_label(segmentation, x, y))
            found[far] = np.column_stack([place, field.sources["flux"].value[rows], compare(table, field, rows, x, y)])
    return found


def compare(table: Table, field: SimulatedField, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (measured - own light)/error in each aperture, (n, apertures)."""
    diameters = dp.MeasureOptions().apertures
    pulls = np.empty((len(rows), len(diameters)))
    for i, diameter in enumerate(diameters):
        radius = diameter / 2 / field.options.pixel_scale
        own = np.empty(len(rows))
        for k, row in enumerate(rows):
            window, light = field.own_light(row)
            own[k] = sum_ellipse(light, x[k] - window[1].start, y[k] - window[0].start, radius, radius, 0) / 100
        flux, error = (np.asarray(table[f"f444w_{name}_aper_{i}"]) for name in ("flux", "fluxerr"))
        pulls[:, i] = (flux - own) / error
    return pulls


def format_rows(away: float, found: np.ndarray) -> list[str]:
    """Return a row for each place and bin of true flux: scatter (median) of the pulls."""
    lines = []
    for i, place in enumerate(PLACES):
        for label, (low, high) in BINS.items():
            use = (
                (found[:, 0] == i) & (found[:, 1] >= low) & (found[:, 1] < high) & np.isfinite(found[:, 2:]).all(axis=1)
            )
            if use.sum() < 10:
                continue
            scatter, middle = median_abs_deviation(found[use, 2:], scale="normal"), np.median(found[use, 2:], axis=0)
            cells = [f"{one:.2f} ({median:+.2f})" for one, median in zip(scatter, middle, strict=True)]
            sampling = f"{100 * SCATTER_ERROR / np.sqrt(use.sum()):.0f} %"
            lines.append(f'| {away:.1f}" | {place} | {label} | {use.sum()} | {sampling} | {" | ".join(cells)} |')
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, default=300, help="sources above 20 nJy in a square arcmin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4], help="one field of 1 square arcmin each")
    parser.add_argument("--away", type=float, nargs="+", default=[0, 0.1], help="arcsec, from the true places")
    arguments = parser.parse_args()
    fields = [measure(FieldOptions(density=arguments.density, seed=seed), arguments.away) for seed in arguments.seeds]
    names = " | ".join(f'{diameter:.2f}"' for diameter in dp.MeasureOptions().apertures)
    print(f"| away | place | true flux | n | sampling error | {names} |")
    print("| --- | --- | --- |" + " ---: |" * (names.count("|") + 3))
    for far in arguments.away:
        print("\n".join(format_rows(far, np.concatenate([field[far] for field in fields]))))
