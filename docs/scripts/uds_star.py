"""The table of docs/psf.md of real data: the star of the UDS cut-outs against grizli's PSFs of another field.

python docs/scripts/uds_star.py DATA, the folder of the cut-outs and of psf-ceers-*.fits.

F115W is also brought to the PSF of F444W, and its star compared with that PSF.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dja_photplug as dp
from dja_photplug.matching.convolution import Kernels, convolve_image
from dja_photplug.psf.model import PSF, encircled_energy
from dja_photplug.sources.stars import compare_stars

RADII = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)
PSFS = {"f444w": "nrca5-f444w", "f115w": "nrca3-f115w"}


def main(data: Path) -> None:
    """Print the table."""
    print("| light of | against the PSF of | " + " | ".join(f'{radius:g}"' for radius in RADII) + " |")
    print("| --- | --- " + "| ---: " * len(RADII) + "|")
    models = {band: dp.read_psf_model(data / f"uds/psf-ceers-{name}.fits") for band, name in PSFS.items()}
    target, [wanted] = models["f444w"], models["f444w"].stamps
    for band, model in models.items():
        options = dp.Options(variance=dp.VarianceOptions(noise="dja"))
        found = dp.run([data / f"uds/uds-test-v7.4-{band}-clear"], options)
        rows = [("the star", model, found.image, band)]
        if model is not target:
            kernels = Kernels.bring(model, wanted, found.image.wcs)
            matched = convolve_image(found.image, None, kernels)
            rows += [("the star", target, found.image, "f444w"), ("the star, matched", target, matched, "f444w")]
        for what, psf, image, against in rows:
            [off] = compare_stars(psf, image, found.detection.segmentation, found.catalog, RADII)
            print_row(f"{what} in {band}", against, off)
    growth = grow(wanted)
    for what, stamp in {"PSF": models["f115w"].stamps[0], "PSF, matched,": kernels.kernels[0].matched}.items():
        print_row(f"the {what} of f115w", "f444w", grow(stamp) / growth - 1)


def grow(psf: PSF) -> NDArray[np.float64]:
    """Return the light within the radii over that within 1 arcsec."""
    return encircled_energy(psf, RADII) / encircled_energy(psf, 1.0)


def print_row(what: str, against: str, off: NDArray[np.float64]) -> None:
    print(f"| {what} | {against} | {' | '.join(f'{100 * value:+.1f}' for value in off)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
