"""Print how much of the light of large galaxies `--sky mesh` takes for sky.

python docs/scripts/sky_of_galaxies.py --density 300 --seeds 1 2 3 4

The sky of a simulated field is measured with each galaxy and, under the same mask, without it: the difference in its
Kron ellipse, as a fraction of its flux in it, is its own light alone. Galaxies are those whose Kron ellipse has a
semi-major axis above 1 arcsec.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from field_truth import find_apertures, match, sum_ellipse

import dja_photplug as dp
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from dja_photplug.sources.removal import remove_sky

LARGE = 1.0  # arcsec


def measure_field(options: FieldOptions) -> np.ndarray:
    """Return own light that is taken for sky, and own light, of the large galaxies of a field, in 10 nJy, (n, 2)."""
    field = simulate_field(options)
    with TemporaryDirectory() as folder:
        result = dp.run([write_field(field, Path(folder), "sim-v1")])
    image, segmentation = result.image, result.detection.segmentation
    rows = match(result.catalog, field)
    major, minor, theta = find_apertures(result, options.pixel_scale)["auto"]
    x, y = (result.catalog[name].value for name in "xy")

    def measure_sky() -> np.ndarray:
        mesh = remove_sky(image, segmentation, result.options.settle()).sky.mesh
        assert mesh is not None
        return mesh.draw()

    before, taken = measure_sky(), []
    for i in np.flatnonzero((rows >= 0) & (major * options.pixel_scale > LARGE)):
        window, stamp = field.own_light(rows[i])
        image.data[window] -= stamp
        sky = np.ascontiguousarray((before - measure_sky())[window])
        image.data[window] += stamp
        where = (x[i] - window[1].start, y[i] - window[0].start, major[i], minor[i], theta[i])
        taken.append([sum_ellipse(sky, *where), sum_ellipse(stamp, *where)])
    return np.reshape(taken, (-1, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, default=300, help="sources above 20 nJy in a square arcmin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4], help="one field of 1 square arcmin each")
    arguments = parser.parse_args()
    fields = [measure_field(FieldOptions(density=arguments.density, seed=seed)) for seed in arguments.seeds]
    taken, own = np.concatenate(fields).T
    part = 100 * taken / own
    print(f"{len(part)} galaxies: {np.median(part):.2f} % in the median, {100 * taken.sum() / own.sum():.2f} % of all")
    print(f"their light; 84th percentile {np.percentile(part, 84):.2f} %, largest {part.max():.2f} %")


if __name__ == "__main__":
    main()
