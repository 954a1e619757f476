"""Simulate a deep field in ten bands, make its catalogue and its report, and print what each took.

python docs/scripts/ten_bands.py FOLDER [--side 6000]

16 square arcmin at 40 mas with 33,000 sources down to 5 nJy, of which 19,762 are detected: galaxies at redshifts
up to 10, with breaks where Lyman's and Balmer's are, and stars, which are black bodies. Each band has its own PSF,
noise and sky, three zones of depth, and the log of the exposures of two visits. What is there is taken as it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.cli.app import main
from dja_photplug.simulate.exposures import plan_exposures
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from dja_photplug.simulate.mosaic import MosaicOptions, log_exposures

Floats = NDArray[np.float64]

# Noise against that of F444W: what a deep field of equal times has.
BANDS = {
    "f090w": 1.3, "f115w": 1.2, "f150w": 1.0, "f182m": 1.4, "f200w": 0.9,
    "f277w": 0.8, "f335m": 1.2, "f356w": 0.8, "f410m": 1.3, "f444w": 1.0,
}  # fmt: skip
ROOT = "deep-sim-v1"
LYMAN, BALMER = 0.1216, 0.4  # um


def wavelength(band: str) -> float:
    """Return um, as the name of the filter tells it."""
    return int(band[1:4]) / 100


def draw_spectra(sources: QTable, seed: int) -> Callable[[str], Floats]:
    """Return what gives the flux of each source in a band, as a share of that in F444W."""
    rng = np.random.default_rng(seed)
    n = len(sources)
    redshift = np.clip(rng.gamma(2.5, 0.9, n), 0.1, 10)
    slope, step = rng.normal(0.3, 0.4, n), 10 ** (-0.4 * rng.uniform(0, 1.5, n))
    kelvin = rng.uniform(2800, 6500, n) * u.K

    def shape(band: str) -> Floats:
        rest = wavelength(band) / (1 + redshift)
        galaxy = wavelength(band) ** slope * np.where(rest < BALMER, step, 1) * np.where(rest < LYMAN, 1e-3, 1)
        frequency = constants.c / (wavelength(band) * u.um)
        heat = (constants.h * frequency / (constants.k_B * kelvin)).to_value("")
        star = frequency.to_value("THz") ** 3 / np.expm1(heat)
        return np.where(sources["star"], star, galaxy)

    last = shape("f444w")
    return lambda band: shape(band) / last


def simulate(folder: Path, side: int) -> list[Path]:
    """Write the mosaics with their logs, unless all are there; return their prefixes."""
    prefixes = [folder / f"{ROOT}-{band}-clear" for band in BANDS]
    if all(Path(f"{prefix}_wcs.csv").exists() for prefix in prefixes):
        return prefixes
    field = FieldOptions(
        shape=(side, side), density=900, flux_range=(0.005, 100.0), seed=4, depths=(1.0, 0.5, 0.25), sky_scatter=0.01
    )
    sources: QTable | None = None
    share: Callable[[str], Floats] | None = None
    for number, band in enumerate(reversed(BANDS)):  # F444W first: the sources are drawn in it
        options = replace(
            field,
            psf_fwhm=max(0.145 * wavelength(band) / 4.44, 0.12),  # what pixels of 40 mas sample
            sigma=field.sigma * BANDS[band],
            noise_seed=100 + number,
        )
        seen = sources
        if sources is not None and share is not None:
            seen = sources.copy()
            seen["flux"] = sources["flux"] * share(band)
        made = simulate_field(options, seen)
        if sources is None:
            sources = made.sources
            share = draw_spectra(sources, field.seed)
        prefix = write_field(made, folder, ROOT, f"{band}-clear")
        visits = MosaicOptions(root=ROOT, filter=f"{band}-clear", exposure_time=field.exposure_time / 8, n_exposures=4)
        exposures = plan_exposures(made.wcs, visits, np.random.default_rng(number))
        log_exposures(exposures, visits).write(f"{prefix}_wcs.csv", format="ascii.csv", overwrite=True)
        print(f"{band}: {len(sources)} sources simulated", flush=True)
    return prefixes


def timed(*arguments: str) -> None:
    """Run a command, and print its wall time and the processor time of this process, without that of workers."""
    begin, before = time.perf_counter(), time.process_time()
    if main([*arguments, "--quiet", "--overwrite"]):
        raise SystemExit(1)
    wall, spent = time.perf_counter() - begin, time.process_time() - before
    print(f"{arguments[0]}: {wall:.1f} s, {spent:.1f} s of this process", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=6000, help="pixels along a side of the field (6000)")
    given = parser.parse_args()
    mosaics = [str(prefix) for prefix in simulate(given.folder, given.side)]
    catalog, segments, page = (str(given.folder / name) for name in ("cat.fits", "seg.fits.gz", "report.html"))
    if not Path(catalog).exists():
        detect = ("--detect", "stack", "--n-sigma", "1.2")
        timed("catalog", *mosaics, "-o", catalog, *detect, "--segmentation", segments)
    timed("report", catalog, "-o", page, "--segmentation", segments)
    print(f"{len(QTable.read(catalog))} sources, {Path(page).stat().st_size / 1e6:.1f} MB")
