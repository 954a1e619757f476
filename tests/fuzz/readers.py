"""The readers of files, and a sound file of each."""

from __future__ import annotations

import gzip
import io
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

import dja_photplug as dp
from dja_photplug.files.pixels import read_grid, read_image
from dja_photplug.files.tables.write import write_extended
from dja_photplug.options.arguments import collect_options
from dja_photplug.psf.regions import read_psf_model
from dja_photplug.sources.segments import read_segmentation
from tests.fuzz.structures import FOREIGN, OTHER_FILES

__all__ = ["READERS", "Reader", "make_seeds"]

PREFIX = "sim-test-v7.4-f444w-clear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One reader.

    Attributes
    ----------
    file : str
        Name of its file.
    call : callable
        Reads the file of a path, and does with it what the next steps do first.
    """

    file: str
    call: Callable[[Path], object]


def _load(path: Path) -> object:
    return dp.load_mosaic(path.parent / PREFIX, noise="dja")


def _epochs(path: Path) -> object:
    log = dp.read_exposure_log(path)
    log.footprints()
    return log.epochs(log.footprints()[0].vertices[:1])


def _catalog(path: Path) -> object:
    """Read a catalogue, and find what its columns are."""
    from dja_photplug.foreign.columns import read_position
    from dja_photplug.pipeline.extend import find_columns

    table = dp.read_catalog(path)
    for name in ("ra", "dec"):
        if name in table.colnames and table[name].dtype.kind == "f":
            assert not np.any(np.asarray(table[name]) == FOREIGN), "another file was read"
    columns = find_columns(table, dp.ExtendOptions(), dp.get_plugin_manager())
    return read_position(table, columns)


READERS = {
    "pixels": Reader(file="image.fits", call=read_image),
    "pixels in gzip": Reader(file="image.fits.gz", call=read_image),
    "grid of an image": Reader(file="image.fits", call=read_grid),
    "science of a mosaic": Reader(file=f"{PREFIX}_drc_sci.fits.gz", call=_load),
    "weight of a mosaic": Reader(file=f"{PREFIX}_drc_wht.fits.gz", call=_load),
    "exposure map of a mosaic": Reader(file=f"{PREFIX}_drc_exp.fits.gz", call=_load),
    "WCS log": Reader(file="some_wcs.csv", call=_epochs),
    "segmentation": Reader(file="seg.fits", call=read_segmentation),
    "PSF": Reader(file="psf.fits", call=lambda path: read_psf_model(path, 0.04)),
    "table in FITS": Reader(file="cat.fits", call=_catalog),
    "table in ECSV": Reader(file="cat.ecsv", call=_catalog),
    "table in CSV": Reader(file="cat.csv", call=_catalog),
    "table in VOTable": Reader(file="cat.vot", call=_catalog),
    "table in HDF5": Reader(file="cat.h5", call=_catalog),
    "table in Parquet": Reader(file="cat.parquet", call=_catalog),
    "table of SExtractor": Reader(file="cat.cat", call=_catalog),
    "options in TOML": Reader(file="options.toml", call=lambda path: collect_options({}, path, dp.Options(), {})),
}
"""By what they read."""


def make_seeds(mosaic: Path, folder: Path) -> dict[str, bytes]:
    """Return the content of a sound file of each reader, inflated.

    Parameters
    ----------
    mosaic : Path
        Prefix of a simulated one.
    folder : Path
        To write into.

    Returns
    -------
    dict of str to bytes
        By the name of the file.
    """
    seeds: dict[str, bytes] = {}
    for kind in ("sci", "wht", "exp"):
        name = f"{PREFIX}_drc_{kind}.fits.gz"
        seeds[name] = gzip.decompress(mosaic.with_name(name).read_bytes())
    small = fits.HDUList.fromstring(seeds[f"{PREFIX}_drc_sci.fits.gz"])
    image = fits.PrimaryHDU(small[0].data[:64, :64].copy(), small[0].header)
    for name, hdus in (
        ("image.fits", fits.HDUList([image])),
        ("seg.fits", fits.HDUList([fits.PrimaryHDU((small[0].data[:64, :64] > 0).astype(np.int32), small[0].header)])),
        ("psf.fits", fits.HDUList([fits.PrimaryHDU(np.outer(*[np.hanning(15)] * 2).astype(np.float32))])),
    ):
        stream = io.BytesIO()
        hdus.writeto(stream)
        seeds[name] = stream.getvalue()
    seeds["image.fits.gz"] = seeds["image.fits"]
    seeds["some_wcs.csv"] = mosaic.with_name(f"{PREFIX}_wcs.csv").read_bytes()
    table = Table({"id": [1, 2, 3], "ra": [34.4, 34.41, 34.42], "dec": [-5.1, -5.11, -5.12], "note": ["a", "b", "c"]})
    table["ra"].unit = table["dec"].unit = "deg"
    table.meta["ZP"] = 23.9
    for suffix in (".fits", ".ecsv", ".csv", ".vot", ".h5", ".parquet"):
        path = folder / f"seed{suffix}"
        write_extended(table, path, added=[], overwrite=True)
        seeds[f"cat{suffix}"] = path.read_bytes()
    table["ra"] = table["dec"] = FOREIGN  # what links lead to
    write_extended(table, folder / OTHER_FILES[0], added=[], overwrite=True)
    (folder / OTHER_FILES[1]).write_bytes(np.full(1000, FOREIGN).tobytes())
    seeds["cat.cat"] = (
        b"#   1 NUMBER  Running object number\n#   2 ALPHA_J2000  RA  [deg]\n#   3 DELTA_J2000  Dec  [deg]\n"
    )
    seeds["cat.cat"] += b"1 34.4 -5.1\n2 34.41 -5.11\n"
    seeds["options.toml"] = b'[detect]\nn_sigma = 2.0\n[measure]\napertures = [0.5, 0.7]\n[variance]\nnoise = "dja"\n'
    tomllib.loads(seeds["options.toml"].decode())
    return seeds
