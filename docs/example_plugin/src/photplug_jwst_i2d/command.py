"""The command ``i2d-noise``: what the noise of an i2d mosaic is made of, and how deep it is."""

from __future__ import annotations

from argparse import Namespace

from dja_photplug.plugin import PhotplugError
from photplug_jwst_i2d.source import find_i2d


def run(arguments: Namespace) -> None:
    """Print the shares of photons and read noise in the variance of the sky, and the depth in an aperture."""
    import numpy as np

    from dja_photplug.plugin import pixel_scale
    from photplug_jwst_i2d.images import read_planes

    source = find_i2d(arguments.mosaic)
    if source is None:
        raise PhotplugError(f"{arguments.mosaic}: not the name of an i2d mosaic (jw..._i2d.fits)")
    if not arguments.aperture > 0:
        raise PhotplugError(f"--aperture {arguments.aperture:g}: not a diameter in arcsec")
    planes = read_planes(source.path)
    data = ~planes.no_data
    total, photons, reading = (
        float(np.median(plane[data])) for plane in (planes.variance, planes.photons, planes.read_noise)
    )
    pixels = np.pi / 4 * (arguments.aperture / pixel_scale(planes.wcs)) ** 2
    depth = 31.4 - 2.5 * np.log10(5 * np.sqrt(total * pixels))  # 1 nJy is 31.4 mag
    print(f"source      {source.name}   band {source.band}")
    print(f"sky         {planes.sky:.3f} nJy in the median of {data.sum()} pixels with data")
    print(f"noise       {np.sqrt(total):.3f} nJy in the median pixel")
    print(f"variance    {photons / total:.1%} photons, {reading / total:.1%} read noise")
    print(f"depth       {depth:.2f} mag, 5 sigma in {arguments.aperture:g} arcsec if pixels were not correlated")
