"""The table of docs/psf.md: PSFs of the log against stacks of simulated stars, in three regions of different roll.

python docs/scripts/psf_growth.py [--filter f444w-clear] [--folder DIR] [--plot OUT.png]

Two visits of one detector, turned by 45 deg, leave an octagon that both saw and corners that one did. 720 stars with a
diffraction PSF lie on them, 4 arcsec apart, 50 or more in each region. A minute for F444W, five for F115W.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.psf.from_stars import stack_stars
from dja_photplug.psf.model import encircled_energy
from dja_photplug.simulate.diffraction import make_psf
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, simulate_mosaic, simulate_scene
from dja_photplug.sources.stars import find_field_stars, find_wavelength

ANGLES = (10.0, 55.0)
RADII = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.25, 1.5])
MOST = 50  # stars of a region


def write_detector(path: Path, filter: str) -> None:
    """Write the PSF that the simulator draws with."""
    psf = make_psf(filter)
    cards = fits.Header({"PIXSCL": psf.scale, "DETECTOR": "NRCALONG", "FILTER": filter[:5].upper()})
    fits.writeto(path, psf.pixels().astype(np.float32), cards)


def simulate(folder: Path, filter: str) -> Path:
    """Write the mosaic and the PSF of its detector; return the prefix."""
    size = SceneOptions(
        shape=(2900, 2900), n_sources=720, star_fraction=1.0, isolated=True, bands=(filter[:5],), seed=11
    )
    scene = simulate_scene(replace(size, flux_range=(10.0, 60.0), flux_slope=0.0))
    mosaic = MosaicOptions(
        filter=filter, psf="diffraction", detector_size=1300, position_angles=ANGLES, n_exposures=4, compress=False
    )
    write_detector(folder / "detector.fits", filter)
    return simulate_mosaic(folder, scene, mosaic).prefix


def spike_angles(data: NDArray[np.float64], scale: float, count: int = 4) -> list[float]:
    """Return position angles (deg, 0 to 180, from +x) of the brightest directions from 1 to 2 arcsec, 15 deg apart."""
    y, x = np.indices(data.shape) - len(data) // 2
    ring = (np.hypot(x, y) * scale > 1) & (np.hypot(x, y) * scale < 2)
    middles = np.arange(0, 180, 0.5)
    away = np.abs((np.degrees(np.arctan2(y, x))[ring] - middles[:, None] + 90) % 180 - 90)
    weight = np.exp(-(away**2) / 2 / 2.0**2)
    profile = (weight * data[ring]).sum(axis=1) / weight.sum(axis=1)
    found: list[float] = []
    for i in np.argsort(profile)[::-1]:
        if all(abs((middles[i] - other + 90) % 180 - 90) > 15 for other in found):
            found.append(float(middles[i]))
    return sorted(found[:count])


def compare(prefix: Path, folder: Path, plot: str | None) -> None:
    """Print the table."""
    words = f"psf log {prefix} -o {folder}/log.fits --detector-psf {folder}/detector.fits"
    words += f" --catalog {folder}/sim-v1_truth.ecsv --overwrite --quiet" + (f" --plot {plot}" if plot else "")
    assert main(words.split()) == 0
    model, image = dp.read_psf_model(folder / "log.fits"), dp.load_mosaic(prefix)
    options = dp.Options(variance=dp.VarianceOptions(noise="dja")).settle()
    found = analyse_image(image, options, calibrated=False)
    stars = find_field_stars(image, found.detection, found.catalog, options, dp.PSFOptions())
    places = SkyCoord(found.catalog["ra"], found.catalog["dec"])[stars.rows]
    seen = dp.read_exposure_log(f"{prefix}_wcs.csv").coverage(places).toarray()
    first, second = seen[:, :4].sum(axis=1), seen[:, 4:].sum(axis=1)
    groups = {"10 and 55": (first == 4) & (second == 4), "10": (first == 4) & (second == 0)}
    groups["55"] = (first == 0) & (second == 4)
    radii = " | ".join(f'{radius:g}"' for radius in RADII)
    print(f"| rolls [deg] | stars | {radii} | share: log, stars | spikes [deg]: log, stars |")
    print("| --- " + "| ---: " * (len(RADII) + 3) + "|")
    for name, group in groups.items():
        chosen = group & (np.cumsum(group) <= MOST)
        stack = stack_stars(stars[chosen], 101, name, find_wavelength(image.meta)).psf
        psf = model.psf_at(places[np.flatnonzero(chosen)[0]])
        assert psf is not None
        ratio = encircled_energy(psf, RADII) / encircled_energy(stack, RADII)
        cells = [f"{100 * (value - 1):+.2f}" for value in ratio]
        shares = f"{psf.data.sum():.4f}, {stack.data.sum():.4f}"
        spikes = [" ".join(f"{angle:.0f}" for angle in spike_angles(each.data, 0.04)) for each in (psf, stack)]
        print(f"| {name} | {chosen.sum()} | {' | '.join(cells)} | {shares} | {', '.join(spikes)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="f444w-clear")
    parser.add_argument("--folder", type=Path, help="keep the files here")
    parser.add_argument("--plot", help="figure of the regions and their PSFs")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        place = arguments.folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        known = place / f"sim-v1-{arguments.filter}"
        there = Path(f"{known}_drc_sci.fits").exists()
        compare(known if there else simulate(place, arguments.filter), place, arguments.plot)
