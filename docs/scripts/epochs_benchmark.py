"""Measure what docs/epochs.md says: speed against the plain astropy loop, and the peak memory of a large run.

Set DJA_PHOTPLUG_DATA to the folder of the UDS cut-outs and run: python docs/scripts/epochs_benchmark.py. The plain loop
takes a few minutes.
"""

from __future__ import annotations

import csv
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, NoConvergence

from dja_photplug import read_exposure_log

LOG = "uds/uds-test-v7.4-f115w-clear_wcs.csv"
FIELD = (34.365, -5.205, 0.13)  # RA, Dec and half side of the square that the exposures cover, deg


def scatter(count: int) -> SkyCoord:
    """Return random positions in the field."""
    ra, dec, half = FIELD
    offset = np.random.default_rng(1).uniform(-half, half, (2, count))
    return SkyCoord(ra + offset[0], dec + offset[1], unit="deg")


def loop_plainly(path: Path, coords: SkyCoord) -> np.ndarray:
    """Return which exposures contain which positions, as everybody writes it: astropy's inverse for each exposure."""
    sky = np.column_stack([coords.ra.deg, coords.dec.deg])
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    inside = np.zeros((len(coords), len(rows)), dtype=bool)
    for column, row in zip(inside.T, rows, strict=True):
        header = fits.Header()
        for key, cell in row.items():
            if key.startswith(("ctype", "cunit", "radesys")):
                header[key.upper()] = cell
            elif key.startswith(("crval", "crpix", "cd1_", "cd2_", "a_", "b_")):
                header[key.upper()] = int(cell) if key.endswith("order") else float(cell)
        try:
            pixels = WCS(header).all_world2pix(sky, 0)
        except NoConvergence as failure:  # far from the detector the polynomials have no inverse
            pixels = failure.best_solution
            for lost in (failure.divergent, failure.slow_conv):
                if lost is not None:
                    pixels[lost] = np.nan
        size = np.array([float(row["naxis1"]), float(row["naxis2"])])
        column[:] = np.all((pixels >= -0.5) & (pixels < size - 0.5), axis=1)
    return inside


def measure_speed(path: Path, count: int = 20_000) -> tuple[float, float, int]:
    """Return seconds of ours and of the plain loop on the same positions, and how many memberships differ."""
    coords = scatter(count)
    read_exposure_log(path).coverage(coords[:100])  # what is loaded at the first call is no work
    start = time.perf_counter()
    ours = read_exposure_log(path).coverage(coords)
    middle = time.perf_counter()
    plain = loop_plainly(path, coords)
    end = time.perf_counter()
    return middle - start, end - middle, int(np.count_nonzero(ours.toarray() != plain))


def measure_memory(path: Path, count: int = 100_000, exposures: int = 5_000) -> tuple[float, float, float]:
    """Return seconds and peak memory [MB] of the epochs of a large field, and the mean number of exposures."""
    log = read_exposure_log(path)
    rows = np.arange(exposures) % len(log)
    log = replace(log, table=log.table[rows], geometry=log.geometry[rows], vectors=log.vectors[rows])
    start = time.perf_counter()
    epochs = log.epochs(scatter(count))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return seconds, peak, float(epochs["n_exp"].mean())


if __name__ == "__main__":
    log_path = Path(os.environ["DJA_PHOTPLUG_DATA"]) / LOG
    # Memory first: the peak is that of the process so far.
    large, peak, depth = measure_memory(log_path)
    ours, plain, differ = measure_speed(log_path)
    print("| what | time | result |")
    print("| --- | --- | --- |")
    print(f"| 20,000 positions x 1,152 real exposures, log read too | {ours:.2f} s | {differ} memberships differ |")
    print(f"| the same by the plain loop | {plain:.0f} s | {plain / ours:.0f} times as long |")
    result = f"{peak:.0f} MB peak, {depth:.0f} exposures each"
    print(f"| epochs of 100,000 positions x 5,000 exposures | {large:.1f} s | {result} |")
