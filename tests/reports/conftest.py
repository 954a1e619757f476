"""A small field in two bands, its catalogue as a file, and its report: made once for all tests of reports."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

import dja_photplug as dp
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field

BANDS = ("f200w", "f444w")


@dataclass(frozen=True)
class Field:
    """The folder of mosaics, what `run` returned, and the files of the catalogue and the report."""

    folder: Path
    result: Result
    catalog: Path
    page: Path


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    """Two bands of a crowded field, with epochs as a log would give them and a completeness as `inject` would."""
    folder = tmp_path_factory.mktemp("report")
    prefixes = []
    for seed, band in enumerate(BANDS):
        made = simulate_field(
            FieldOptions(shape=(300, 340), density=900, depths=(1.0, 0.5), seed=3, sky_scatter=0.01 * seed)
        )
        prefixes.append(write_field(made, folder, "sim-v1", f"{band}-clear"))
    options = dp.Options(calibration=dp.CalibrationOptions(n_apertures=500), detect=dp.DetectOptions(n_sigma=2.0))
    result = dp.run(prefixes, options)
    for band in BANDS:
        result.catalog[f"{band}_n_exp"] = np.full(len(result.catalog), 4)
        for name, time in {"min": 60000.25, "mean": 60010.5, "max": 60020.75}.items():
            result.catalog[f"{band}_mjd_{name}"] = np.full(len(result.catalog), time) * u.d
    catalog = folder / "cat.fits"
    dp.write_catalog(result.catalog, catalog)
    bins = QTable({"mag": [24.0, 26.0, 28.0] * u.mag, "n": [50, 50, 50]})
    bins["completeness"], bins["completeness_err"] = [1.0, 0.9, 0.3], [0.02, 0.04, 0.06]
    dp.write_catalog(bins, folder / "bins.fits")
    page = dp.report(result, folder / "report.html", completeness=folder / "bins.fits")
    return Field(folder, result, catalog, page)


@pytest.fixture(scope="session")
def blind(field: Field, tmp_path_factory: pytest.TempPathFactory) -> Field:
    """The same field, whose first band has no data."""
    folder = tmp_path_factory.mktemp("blind")
    for path in field.folder.glob("sim-v1-*"):
        shutil.copy(path, folder)
    [path] = folder.glob(f"sim-v1-{BANDS[0]}*_wht.fits*")
    weight, header = fits.getdata(path, header=True)
    fits.writeto(path, np.zeros_like(weight), header, overwrite=True)
    options = dp.Options(
        bands=dp.BandOptions(detect=BANDS[1]), calibration=dp.CalibrationOptions(n_apertures=500, zones=1)
    )
    with pytest.warns(dp.PhotplugWarning, match="it has no data"):
        result = dp.run([folder / f"sim-v1-{band}-clear" for band in BANDS], options)
    return Field(folder, result, folder / "cat.fits", dp.report(result, folder / "report.html"))
