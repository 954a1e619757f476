"""What is measured beside our commands, each as a process of its own: python plain.py NAME ARGUMENT ...

Prints the seconds of the call itself, without starting Python and importing, as JSON. Nothing is imported before it is
known to be needed: imports are part of the time of a process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

DIAMETERS = (0.36, 0.50, 0.70, 1.00)


def decompress(*paths: str) -> Callable[[], None]:
    """Inflate files side by side, each in a thread and away from the interpreter's lock, and keep nothing."""
    from concurrent.futures import ThreadPoolExecutor

    from isal import igzip_threaded

    def inflate(path: str) -> None:
        buffer = bytearray(1 << 20)
        with igzip_threaded.open(path, "rb", threads=1) as stream:
            while stream.readinto(buffer):
                pass

    def call() -> None:
        with ThreadPoolExecutor(len(paths)) as pool:
            list(pool.map(inflate, paths))

    return call


def load(prefix: str) -> Callable[[], None]:
    """Load a mosaic with its full weight."""
    import dja_photplug as dp

    function = dp.load_mosaic  # imported when it is asked for

    def call() -> None:
        function(prefix)

    return call


def model_neighbours(prefix: str, catalog: str, segmentation: str) -> Callable[[], None]:
    """Model the light of sources beyond their segments, and take it off the image less its sky, on all cores."""
    import atexit
    from contextlib import ExitStack

    from astropy.table import QTable

    from dja_photplug.mosaic.changes import share_image
    from dja_photplug.options.run import Options
    from dja_photplug.parallel.scratch import share_plane
    from dja_photplug.pipeline.images import find_source
    from dja_photplug.pipeline.steps.sharing import share_work
    from dja_photplug.pipeline.streams import load_unchanged
    from dja_photplug.plugins.manager import get_plugin_manager
    from dja_photplug.sources.detection import Detection
    from dja_photplug.sources.removal import remove_neighbours, remove_sky
    from dja_photplug.sources.segments import read_segmentation

    manager, options = get_plugin_manager(), Options().settle()
    source, stack = find_source(prefix, manager), ExitStack()
    atexit.register(stack.close)
    parallel = stack.enter_context(share_work([source], options, manager))
    image = share_image(load_unchanged(source, options, manager))
    labels, _ = read_segmentation(segmentation)
    detection = Detection(sources=QTable.read(catalog), segmentation=share_plane(labels), wcs=image.wcs)
    removed = remove_sky(image, detection.segmentation, options, parallel=parallel)

    def call() -> None:
        remove_neighbours(removed, image, detection, options, parallel=parallel)

    return call


def read_with_astropy(science: str, weight: str) -> Callable[[], None]:
    """Read science image and weight as most do, and invert the weight."""
    import numpy as np
    from astropy.io import fits

    def call() -> None:
        _, values = (fits.getdata(path).astype(np.float32) for path in (science, weight))
        with np.errstate(divide="ignore"):
            np.where(values > 0, 1 / values, np.float32(1e30))

    return call


def weigh_as_published(science: str, weight: str, exposure: str, output: str) -> Callable[[], None]:
    """Write the full weight by the published recipe: whole planes in memory, a maximum filter for the exposure map."""
    import numpy as np
    from astropy.io import fits
    from scipy.ndimage import maximum_filter

    def call() -> None:
        with fits.open(science) as sci, fits.open(weight) as wht, fits.open(exposure) as exp:
            seconds = np.zeros(sci[0].data.shape, np.int64)
            seconds[2::4, 2::4] = exp[0].data
            seconds = maximum_filter(seconds, 4)
            header = exp[0].header
            scale = 1.0 / header["PHOTMJSR"]
            for key, power in (("PHOTSCAL", -1), ("PHOTFNU", 1), ("OPHOTFNU", -1)):
                scale *= header[key] ** power
            with np.errstate(divide="ignore", invalid="ignore"):
                poisson = np.maximum(sci[0].data, 0) / (scale * seconds)
                full = 1 / (1 / wht[0].data + poisson)
            full[wht[0].data <= 0] = 0
            fits.PrimaryHDU(full.astype(np.float32), sci[0].header).writeto(output, overwrite=True)

    return call


def measure_with_sep(science: str, weight: str, output: str, positions: str = "") -> Callable[[], None]:
    """Detect and measure with sep alone, or measure given positions with neighbours from the detection."""
    import numpy as np
    import sep
    from astropy.io import fits
    from astropy.table import Table
    from astropy.wcs import WCS

    sep.set_extract_pixstack(10_000_000)
    sep.set_sub_object_limit(4096)

    def call() -> None:
        data, header = fits.getdata(science, header=True)
        data, values = data.astype(np.float32), fits.getdata(weight).astype(np.float32)
        scale, mask = header["CD2_2"] * 3600, values <= 0
        with np.errstate(divide="ignore"):
            variance = np.where(mask, np.float32(1e30), 1 / values)
        del values
        level = sep.Background(data, mask=mask, bw=50, bh=50, fw=3, fh=3).back()
        kernel = np.outer(*2 * [np.exp(-(np.arange(-3, 4) ** 2) * 4 * np.log(2) / 3.0**2)]).astype(np.float32)
        objects, segments = sep.extract(
            data - level, 1.5, var=variance, mask=mask, minarea=9, filter_kernel=kernel, filter_type="conv",
            deblend_nthresh=32, deblend_cont=0.001, segmentation_map=True,
        )  # fmt: skip
        if positions:
            table = Table.read(positions)
            x, y = WCS(header).wcs_world2pix(table["ra"], table["dec"], 0)
            ids = segments[np.rint(y).astype(int), np.rint(x).astype(int)]
            shapes = (np.full(len(x), 0.35 / scale), np.full(len(x), 0.35 / scale), np.zeros(len(x)))
            radius, reach = np.ones(len(x)), 1.0
        else:
            table = Table(objects)
            x, y, ids = objects["x"], objects["y"], np.arange(1, len(table) + 1)
            # kron_radius refuses angles that are a rounding error above pi / 2.
            half_pi = np.nextafter(np.pi / 2, 0)
            shapes = (objects["a"], objects["b"], np.clip(objects["theta"], -half_pi, half_pi))
            where = {"mask": mask, "segmap": segments, "seg_id": ids}
            radius, _ = sep.kron_radius(data, x, y, *shapes, 6.0, **where)
            radius, reach = np.clip(2.5 * radius, 2.4, 3.8), 6.0
        where = {"var": variance, "subpix": 0, "mask": mask, "segmap": segments, "seg_id": ids}
        for i, diameter in enumerate(DIAMETERS):
            columns = sep.sum_circle(data, x, y, diameter / 2 / scale, **where)
            table[f"flux_{i}"], table[f"error_{i}"], table[f"flag_{i}"] = columns
        flux, table["error_auto"], table["flag_auto"] = sep.sum_ellipse(data, x, y, *shapes, radius, **where)
        table["flux_auto"] = flux
        where |= {"normflux": flux, "subpix": 5}
        where.pop("var")
        table["flux_radius"], _ = sep.flux_radius(data, x, y, reach * shapes[0], 0.5, **where)
        table.write(output, overwrite=True)

    return call


WAYS: dict[str, Callable[..., Callable[[], None]]] = {
    "astropy": read_with_astropy,
    "decompress": decompress,
    "load": load,
    "neighbours": model_neighbours,
    "recipe": weigh_as_published,
    "sep": measure_with_sep,
}


if __name__ == "__main__":
    call = WAYS[sys.argv[1]](*sys.argv[2:])
    start = time.perf_counter()
    call()
    print(json.dumps({"call": time.perf_counter() - start}))
