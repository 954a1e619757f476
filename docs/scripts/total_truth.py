"""Print how far flux_total of simulated real fields is from the true flux, by profile and signal to noise.

python docs/scripts/total_truth.py --seeds 301 302 303 304
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.io import fits
from field_truth import match
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.simulate.field import FieldOptions, SimulatedField, draw_psf, simulate_field, write_field

PROFILES = {"star": (0, 0), "n = 0.5": (0.5, 0.5), "n = 1": (1, 1), "n = 1.5": (1.5, 1.5), "n = 2.5": (2.5, 2.5)}
PROFILES |= {"n = 4": (4, 4), "all": (0, 4)}
BINS = ((5, 10), (10, 30), (30, 100), (100, np.inf))  # signal to noise of flux_auto
FLAGS = dp.SourceFlag.TRUNCATED | dp.SourceFlag.APER_TRUNCATED


@dataclass(frozen=True)
class Totals:
    """Sources, all (n,): fluxes in uJy."""

    true: np.ndarray
    sersic: np.ndarray
    snr: np.ndarray
    auto: np.ndarray
    total: np.ndarray
    error: np.ndarray


def measure(field: SimulatedField, options: dp.Options, wider: float) -> Totals:
    """Return the sources of a field that were found and matched, without those that reach over its edge.

    The PSF given is so many times as wide as that of the field.
    """
    with TemporaryDirectory() as folder:
        psf = Path(folder) / "psf.fits"
        given = replace(field.options, psf_fwhm=wider * field.options.psf_fwhm)
        fits.writeto(psf, draw_psf(given), fits.Header({"PIXSCL": field.options.pixel_scale}))
        prefix = write_field(field, Path(folder), "sim-v1")
        catalog = dp.run([prefix], replace(options, bands=dp.BandOptions(psf={"f444w": str(psf)}))).catalog
    rows = match(catalog, field)
    use = (rows >= 0) & (np.asarray(catalog["flag"]) & int(FLAGS) == 0)
    found, sources = catalog[use], field.sources[rows[use]]
    names = ("flux_auto", "fluxerr_auto", "flux_total", "fluxerr_total")
    auto, auto_error, total, error = (found[name].value for name in names)
    return Totals(sources["flux"].value, np.asarray(sources["sersic"]), auto / auto_error, auto, total, error)


def join(parts: list[Totals]) -> Totals:
    return Totals(*(np.concatenate([getattr(part, name) for part in parts]) for name in Totals.__annotations__))


def format_table(totals: Totals) -> list[str]:
    """Return a row for each profile: median bias of flux_auto and flux_total, scatter (median) of the pulls.

    Of the sources that have a total; the last numbers are those that have one, and that have none.
    """
    told = np.isfinite(totals.total)
    header = [f"S/N {low:g} to {high:g}" if np.isfinite(high) else f"S/N above {low:g}" for low, high in BINS]
    lines = [f"| profile | {' | '.join(header)} |", "| --- |" + " ---: |" * len(header)]
    for name, (low, high) in PROFILES.items():
        cells = []
        for least, most in BINS:
            inside = (totals.sersic >= low) & (totals.sersic <= high) & (totals.snr >= least) & (totals.snr < most)
            use = inside & told
            auto, total = (100 * (np.median(flux[use] / totals.true[use]) - 1) for flux in (totals.auto, totals.total))
            pull = (totals.total[use] - totals.true[use]) / totals.error[use]
            scatter = median_abs_deviation(pull, scale="normal")
            median, number = np.median(pull), f"{np.sum(use)}, {np.sum(inside & ~told)}"
            cells.append(f"{auto:+.0f} %, {total:+.1f} %; {scatter:.2f} ({median:+.2f}) [{number}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, default=300, help="sources above 20 nJy in a square arcmin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[301, 302, 303, 304], help="one field each")
    parser.add_argument("--options", default="subtract/mesh", help="measure.neighbours/measure.background")
    parser.add_argument("--engine", default="sep")
    parser.add_argument("--wider", type=float, default=1.0, help="width of the PSF given, in that of the field's")
    arguments = parser.parse_args()
    neighbours, _, sky = arguments.options.partition("/")
    options = dp.Options(
        engine=arguments.engine, measure=dp.MeasureOptions(neighbours=neighbours, background=sky or "none")
    )
    fields = (simulate_field(FieldOptions(density=arguments.density, seed=seed)) for seed in arguments.seeds)
    print("\n".join(format_table(join([measure(field, options, arguments.wider) for field in fields]))))
