"""The table of docs/psf.md of real data: the star of the UDS cut-outs against grizli's PSFs of another field.

python docs/scripts/uds_star.py DATA, the folder of the cut-outs and of psf-ceers-*.fits.
"""

from __future__ import annotations

import sys
from pathlib import Path

from astropy.coordinates import SkyCoord

import dja_photplug as dp
from dja_photplug.psf.star_stamps import find_stars
from dja_photplug.sources.stars import compare_stars

RADII = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)
PSFS = {"f444w": "nrca5-f444w", "f115w": "nrca3-f115w"}


def main(data: Path) -> None:
    """Print the table."""
    print("| band | star | " + " | ".join(f'{radius:g}"' for radius in RADII) + " |")
    print("| --- | --- " + "| --- " * len(RADII) + "|")
    for band, name in PSFS.items():
        options = dp.Options(variance=dp.VarianceOptions(noise="dja"))
        found = dp.run([data / f"uds/uds-test-v7.4-{band}-clear"], options)
        model = dp.read_psf_model(data / f"uds/psf-ceers-{name}.fits")
        [row] = find_stars(found.catalog, 50)
        place = SkyCoord(found.catalog["ra"], found.catalog["dec"])[row]
        planes = (found.image, found.detection.segmentation, found.catalog)
        [off] = compare_stars(model, *planes, RADII)
        cells = " | ".join(f"{100 * value:+.1f}" for value in off)
        print(f"| {band} | {place.to_string('decimal', precision=5)} | {cells} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
