"""Measure what docs/performance.md says: whole mosaics, catalogues of 100,000 rows, and stamps, against plain code.

Set DJA_PHOTPLUG_DATA to the folder of the UDS cut-outs and run:

    python docs/scripts/mosaic_benchmark.py make FOLDER [SIDE]
    python docs/scripts/mosaic_benchmark.py run FOLDER [NAME ...]

`make` tiles the real F444W cut-out to SIDE x SIDE (12000) pixels as .fits.gz and scatters 100,000 positions on it;
`run` runs each way of doing the same in a process of its own, one after the other, and prints time and peak memory
(of all processes together).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

PSF = "uds/psf-ceers-nrca5-f444w.fits"
MOSAIC = "uds/uds-test-v7.4-f444w-clear"
COUNT = 100_000
STAMPS = 1_000
DIAMETERS = (0.36, 0.50, 0.70, 1.00)
SCALE = 0.04


def make(folder: Path, side: int = 12_000) -> None:
    """Write the tiled mosaic, its positions, and the catalogue that stamps are cut for."""
    from dja_photplug.files.pixels import read_image, write_image

    source = Path(os.environ["DJA_PHOTPLUG_DATA"]) / MOSAIC
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("sci", "wht", "exp"):
        plane, header = read_image(f"{source}_drc_{kind}.fits.gz")
        size = side // 4 if kind == "exp" else side
        repeats = [-(-size // n) for n in plane.shape]
        header.update({"NXORIG": side, "NYORIG": side} if kind == "exp" else {})
        write_image(folder / f"{source.name}_drc_{kind}.fits.gz", np.tile(plane, repeats)[:size, :size], header)
    shutil.copy(f"{source}_wcs.csv", folder)
    x, y = np.random.default_rng(1).uniform(20, side - 20, (2, COUNT))
    ra, dec = _wcs(folder).wcs_pix2world(x, y, 0)
    Table({"id": np.arange(1, COUNT + 1), "ra": ra, "dec": dec}).write(folder / "positions.fits", overwrite=True)


def _wcs(folder: Path) -> WCS:
    from dja_photplug.sky.grid import header_wcs

    return header_wcs(fits.getheader(_plane(folder, "sci")))


def _plane(folder: Path, kind: str) -> Path:
    return folder / f"{Path(MOSAIC).name}_drc_{kind}.fits.gz"


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return science image and variance as everybody reads them."""
    data, weight = (fits.getdata(_plane(folder, kind)).astype("f4") for kind in ("sci", "wht"))
    with np.errstate(divide="ignore"):
        return data, np.where(weight > 0, 1 / weight, np.float32(1e30)).astype("f4")


def read_with_astropy(folder: Path) -> None:
    """Read science image and weight, and invert the weight."""
    _read(folder)


def read_mosaic(folder: Path) -> None:
    """Load the mosaic with its full weight."""
    import dja_photplug as dp

    dp.load_mosaic(folder / Path(MOSAIC).name)


def extend_by_sep(folder: Path) -> None:
    """Read a band and call sep directly: neighbours by detection, apertures, Kron circles, half-light radii."""
    data, variance = _read(folder)
    mask = variance >= 1e30
    level = sep.Background(data, mask=mask, bw=50, bh=50).back()
    sep.set_extract_pixstack(10_000_000)
    sep.set_sub_object_limit(4096)
    kernel = np.outer(*2 * [np.exp(-(np.arange(-3, 4) ** 2) / 2 / 1.274**2)]).astype("f4")
    _, segments = sep.extract(
        data - level, 1.5, var=variance, mask=mask, minarea=9, filter_kernel=kernel, filter_type="conv",
        deblend_cont=0.001, segmentation_map=True,
    )  # fmt: skip
    table = Table.read(folder / "positions.fits")
    x, y = _wcs(folder).wcs_world2pix(table["ra"], table["dec"], 0)
    where = {"mask": mask, "segmap": segments, "seg_id": segments[np.rint(y).astype(int), np.rint(x).astype(int)]}
    for i, diameter in enumerate((*DIAMETERS, 0.70)):
        radius = np.full(len(x), diameter / 2 / SCALE)
        # Ours are ellipses too, because galaxies are.
        flux, error, flag = sep.sum_ellipse(
            data, x, y, radius, radius, np.zeros(len(x)), var=variance, subpix=0, **where
        )
        table[f"flux_{i}"], table[f"error_{i}"], table[f"flag_{i}"] = flux, error, flag
    radius, _ = sep.flux_radius(data, x, y, np.full(len(x), 8.75), 0.5, normflux=flux, subpix=5, **where)
    table["flux_radius"] = radius
    table.write(folder / "plain.fits", overwrite=True)


def _extend(folder: Path, *flags: str) -> None:
    from dja_photplug.cli.app import main

    mosaic, output = folder / Path(MOSAIC).name, folder / "extended.fits"
    status = main(["extend", str(folder / "positions.fits"), str(mosaic), "-o", str(output), "--overwrite", *flags])
    assert status == 0


def extend(folder: Path) -> None:
    """Extend the 100,000 rows: full weight, a(r) in empty apertures, epochs, all columns."""
    _extend(folder)


def extend_uncalibrated(folder: Path) -> None:
    """Extend the 100,000 rows with the noise preset dja: as above without a(r)."""
    _extend(folder, "--noise", "dja")


def catalogue(folder: Path) -> None:
    """Detect and measure everything, with the calibrated noise."""
    from dja_photplug.cli.app import main

    output, segments = folder / "catalogue.fits", folder / "segments.fits"
    mosaic = str(folder / Path(MOSAIC).name)
    assert main(["catalog", mosaic, "-o", str(output), "--segmentation", str(segments), "--overwrite"]) == 0


def cut_stamps(folder: Path) -> None:
    """Write 1,000 stamps of 6 arcsec for galfit (after `catalog`), six files each."""
    from dja_photplug.cli.app import main

    ids = np.random.default_rng(2).permutation(Table.read(folder / "catalogue.fits")["id"])[:STAMPS]
    mosaic, psf = str(folder / Path(MOSAIC).name), Path(os.environ["DJA_PHOTPLUG_DATA"]) / PSF
    flags = ["--catalog", str(folder / "catalogue.fits"), "--use-segmentation", str(folder / "segments.fits")]
    flags += ["--psf", str(psf), "--size", "6", "-o", str(folder / "stamps"), "--overwrite"]
    assert main(["galfit", mosaic, *flags, "--id", *map(str, sorted(ids))]) == 0


WAYS: dict[str, Callable[[Path], None]] = {
    "astropy": read_with_astropy,
    "load": read_mosaic,
    "catalog": catalogue,
    "sep": extend_by_sep,
    "extend-dja": extend_uncalibrated,
    "extend": extend,
    "galfit": cut_stamps,
}


def _tree_memory(pid: int) -> int:
    """Return the resident memory (bytes) of a process and its children; of Linux."""
    total, children = 0, [pid]
    while children:
        process = children.pop()
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{process}/task").iterdir():
                children += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return total


def measure(folder: Path, name: str) -> tuple[float, float]:
    """Return seconds and peak memory (GB) of one way in a fresh process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "way", str(folder), name], stdout=subprocess.DEVNULL)
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            peak[0] = max(peak[0], _tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status:
        raise SystemExit(f"{name} ended with status {status}")
    return time.perf_counter() - start, peak[0] / 1e9


def run(folder: Path, *names: str) -> None:
    """Print a table of all ways, or those named."""
    print("| what | time | peak memory |")
    print("| --- | ---: | ---: |")
    for name in names or WAYS:
        seconds, gigabytes = measure(folder, name)
        print(f"| {WAYS[name].__doc__.rstrip('.')} | {seconds:.1f} s | {gigabytes:.1f} GB |", flush=True)


if __name__ == "__main__":
    action, where, *rest = sys.argv[1:]
    actions: dict[str, Callable[..., Any]] = {"make": make, "run": run, "way": lambda folder, name: WAYS[name](folder)}
    actions[action](Path(where), *(int(word) if action == "make" else word for word in rest))
