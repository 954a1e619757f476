"""The demonstration: two simulated bands through the whole pipeline, and the result against the truth."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import pluggy
from astropy.stats import mad_std
from astropy.table import QTable, Table, vstack
from tqdm import tqdm

from dja_photplug.catalog.regions import write_regions
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.errors import PhotplugError
from dja_photplug.figures.catalog import plot_catalog
from dja_photplug.files.names import band_name
from dja_photplug.files.pixels import read_image
from dja_photplug.files.written import write_image
from dja_photplug.mosaic.image import replace_planes
from dja_photplug.mosaic.plan import load_exposure
from dja_photplug.mosaic.weights import write_weight
from dja_photplug.options.run import Options
from dja_photplug.outputs.run import Outputs
from dja_photplug.pipeline.catalog import run
from dja_photplug.pipeline.one_band import measure_background_errors, remeasure, write_result
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, SimulatedMosaic, simulate_mosaic, simulate_scene

__all__ = ["compare_with_truth", "run_demo"]

# Filter, detectors and PSF as in NIRCam's long- and short-wave channels.
BANDS = (
    MosaicOptions(root="demo-sim-v1.0", filter="f444w-clear", psf_fwhm=0.145, seed=4),
    MosaicOptions(
        root="demo-sim-v1.0",
        filter="f277w-clear",
        psf_fwhm=0.092,
        photmjsr=0.3837,
        sky=0.25,
        seed=2,
    ),
)
SCENE = SceneOptions(n_sources=500, isolated=True, seed=3)
STEPS = 5  # of a band, for the progress
FLUX_BINS = (0.03, 0.3, 3.0, np.inf)  # uJy


def run_demo(directory: Path, manager: pluggy.PluginManager, *, quiet: bool = False, overwrite: bool = False) -> Table:
    """Simulate two bands with truth, run everything on them, and compare fluxes with the truth.

    Parameters
    ----------
    directory : Path
        Made if it is not there; takes the simulated products and, for each band, catalogue, weight, segmentation,
        regions and figure.
    manager : PluginManager
    quiet : bool, optional
        Print nothing.
    overwrite : bool, optional
        Use a folder that is not empty; files of the same names are replaced.

    Returns
    -------
    Table
        For each band and bin of flux: number of sources, median of measured/true - 1, and the robust scatter of
        (measured - true)/error with the errors without and with the sources' photons, and its sampling error.

    Raises
    ------
    PhotplugError
        Where the folder is not empty, or the packages of the extra ``demo`` are missing.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())) and not overwrite:
        raise PhotplugError(f"{directory}: is not an empty folder; name another with -o, or add --overwrite")
    directory.mkdir(parents=True, exist_ok=True)
    options = Options(overwrite=True)
    scene = simulate_scene(SCENE)
    tables = []
    with tqdm(total=len(BANDS) * STEPS, disable=True if quiet else None) as bar:
        for band in BANDS:
            name = band_name(band.filter)
            bar.set_description(f"{name}: simulating exposures")
            with Outputs():  # there before it is read
                simulated = simulate_mosaic(directory, scene, band)
            _advance(bar, f"{name}: catalogue")
            result = run([simulated.prefix], options, manager=manager)
            _advance(bar, f"{name}: errors without photons")
            alone = measure_background_errors(result, manager)
            _advance(bar, f"{name}: writing")
            _write_outputs(simulated, result, alone, manager)
            _advance(bar, f"{name}: truth")
            table = compare_with_truth(simulated, result, alone, manager)
            table.add_column([name] * len(table), name="band", index=0)
            tables.append(table)
            bar.update()
    table = vstack(tables)
    if not quiet:
        print("Two simulated bands: fluxes in an aperture of 1 arcsec against the noise-free mosaic, noise preset")
        print(
            "'calibrated'; scatter is that of (measured - true)/error, 1 where errors are right, as far as it is known:"
        )
        print("\n".join(table.pformat(max_lines=-1, max_width=-1)))
        print(f"simulated products, catalogues, weights, segmentation, regions and figures are in {directory}")
    return table


def _advance(bar: tqdm[NoReturn], text: str) -> None:
    """Count a step of the work, and name the next."""
    bar.update()
    bar.set_description(text)


def _write_outputs(simulated: SimulatedMosaic, result: Result, alone: QTable, manager: pluggy.PluginManager) -> None:
    """Write what ``weight`` and ``catalog`` with all its flags would write."""
    prefix, wcs = simulated.prefix, result.image.wcs
    write_result(result.catalog, prefix.with_name(f"{prefix.name}_cat.fits"), result.options, manager)
    write_weight(result.image, f"{prefix}_full_wht.fits.gz", overwrite=True)
    write_image(f"{prefix}_seg.fits.gz", result.detection.segmentation, wcs.to_header(), overwrite=True)
    write_regions(result.catalog, f"{prefix}.reg", wcs, overwrite=True)
    plot_catalog(
        Path(f"{prefix}.png"),
        result.image,
        load_exposure(prefix),
        result.catalog,
        alone,
        result.detection.segmentation,
        overwrite=True,
    )


def compare_with_truth(
    simulated: SimulatedMosaic,
    result: Result,
    alone: QTable,
    manager: pluggy.PluginManager | None = None,
    aperture: int = 3,
) -> Table:
    """Compare aperture fluxes with those of the same apertures on the noise-free mosaic.

    Parameters
    ----------
    simulated : SimulatedMosaic
    result : Result
        Of a run on it.
    alone : QTable
        The same sources with errors without their photons.
    manager : PluginManager, optional
    aperture : int, optional
        Its number in the options.

    Returns
    -------
    Table
        One row for each bin of true flux.
    """
    noise_free, _ = read_image(simulated.truth_image)
    column = f"flux_aper_{aperture}"
    measured = result.catalog
    true = remeasure(result, replace_planes(result.image, data=noise_free), manager)[column].value
    error = measured[f"fluxerr_aper_{aperture}"].value
    background_error = alone[f"fluxerr_aper_{aperture}"].value
    flux = measured[column].value
    rows = []
    for low, high in pairwise(FLUX_BINS):
        use = (true >= low) & (true < high) & (measured["mask_frac"] == 0)
        pulls = [(flux - true)[use] / sigma[use] for sigma in (background_error, error)]
        rows.append(
            {
                "flux_uJy": f"{low:g}-{high:g}" if np.isfinite(high) else f"> {low:g}",
                "n": int(use.sum()),
                "bias_percent": np.median(flux[use] / true[use] - 1) * 100 if use.any() else np.nan,
                "scatter_no_photons": mad_std(pulls[0]) if use.any() else np.nan,
                "scatter_full": mad_std(pulls[1]) if use.any() else np.nan,
                "known_to": SCATTER_ERROR / np.sqrt(max(use.sum(), 1)),
            }
        )
    table = Table(rows)
    for name in ("bias_percent", "scatter_no_photons", "scatter_full", "known_to"):
        table[name].info.format = "%.2f"
    return table
