"""Make the mosaics that benchmarks run on: simulated, without drizzling and without anybody's data.

Patches of `dja_photplug.simulate.field` (number counts, Sersic galaxies, PSF with wings, correlated noise, sky left in
the mosaic) are turned and laid side by side, in memory that does not grow with the mosaic. Photons are drawn anew in
each place, depth changes in three strips, weights scatter from pixel to pixel as drizzled ones do, and a frame around
it all has no data. What is at a seam of two patches is cut there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from isal import igzip
from numpy.typing import NDArray

from dja_photplug.errors import PhotplugError
from dja_photplug.files.written import write_image
from dja_photplug.simulate.exposures import Exposure, MosaicOptions, plan_exposures
from dja_photplug.simulate.field import FieldOptions, draw_psf, simulate_field
from dja_photplug.simulate.mosaic import SAMPLE, exposure_header, log_exposures, science_header
from dja_photplug.simulate.scene import field_grid

__all__ = ["BANDS", "BORDER", "DENSITY", "DEPTHS", "SCALE", "Field", "make_field"]

SCALE = 0.04
"""Side of a pixel, arcsec."""

BANDS = {"f444w": (1.0, 0.145), "f356w": (0.8, 0.12), "f277w": (0.6, 0.12), "f410m": (0.9, 0.137)}
"""Flux of every source relative to the first band, and FWHM of the PSF's core (arcsec; pixels sample no less)."""

DENSITY = 220.0
"""Sources above 20 nJy in a square arcmin of the covered area: some 8,000 detections in 12000 x 12000 pixels."""

BORDER = 0.05
"""Width of the frame without data, as a share of the side: 19 % of the pixels."""

DEPTHS = (40, 20, 8)
"""Exposures in each of three strips along x."""

SECONDS = 209
WEIGHT_SCATTER = 0.15  # of the weight from pixel to pixel; the UDS cut-out in F444W has 0.20 in one exposure depth
PATCH = 1500
PATCHES = 16  # of each kind, in eight orientations
POINTING = 3100  # pixels of the mosaic that a detector covers, about
SPACE = {"plain": 8.0, "gzipped": 7.5}  # bytes a pixel of science and weight together

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where a mosaic is, and what is in it.

    Attributes
    ----------
    folder : Path
        Of its files.
    side : int
        Pixels along a side, a multiple of 4.
    density : float
        Sources above 20 nJy in a square arcmin.
    """

    folder: Path
    side: int
    density: float = DENSITY

    def __post_init__(self) -> None:
        """Check what cannot be made."""
        if self.side < 400 or self.side % SAMPLE:
            raise PhotplugError(f"side {self.side}: give a multiple of {SAMPLE} from 400 on")
        if self.density < 0:
            raise PhotplugError(f"density {self.density:g}: give 0 or more sources in a square arcmin")

    @property
    def frame(self) -> slice:
        """Rows, and columns, that have data: from where samples of the exposure map begin to be nearest."""
        edge = SAMPLE * round(BORDER * self.side / SAMPLE)
        return slice(edge - SAMPLE // 2, self.side - edge - SAMPLE // 2)

    def prefix(self, band: int) -> Path:
        """Return the prefix of a band's products, the gzipped ones."""
        return self.folder / f"bench-v1-{list(BANDS)[band]}-clear"

    def plane(self, band: int, kind: str) -> Path:
        """Return an unzipped plane, for programs that read nothing else."""
        return self.folder / "plain" / f"{self.prefix(band).name}_drc_{kind}.fits"

    def positions(self, count: int) -> Path:
        """Return the catalogue of so many positions."""
        return self.folder / f"positions-{count}.fits"

    @property
    def psf(self) -> Path:
        """The PSF of the first band."""
        return self.folder / "psf.fits"


def make_field(field: Field, bands: int = 1, positions: tuple[int, ...] = ()) -> Iterator[str]:
    """Make what is missing of a mosaic, and say what is made.

    Parameters
    ----------
    field : Field
    bands : int, optional
        How many of `BANDS`.
    positions : tuple of int, optional
        A catalogue of random positions for each count.

    Yields
    ------
    str
        Each file or band before it is made.

    Raises
    ------
    PhotplugError
        Where the disk is too full.
    """
    missing = [band for band in range(bands) if not Path(f"{field.prefix(band)}_wcs.csv").exists()]
    (field.folder / "plain").mkdir(parents=True, exist_ok=True)
    needed = len(missing) * field.side**2 * sum(SPACE.values())
    free = shutil.disk_usage(field.folder).free
    if needed > free:
        raise PhotplugError(
            f"{field.folder}: {len(missing)} bands of {field.side} x {field.side} pixels need {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free; give another folder, or fewer pixels"
        )
    for band in missing:
        yield f"{field.prefix(band)}: {field.side} x {field.side} pixels"
        _make_band(field, band)
    for count in positions:
        if not field.positions(count).exists():
            yield f"{field.positions(count)}: {count:,} positions"
            _scatter(field, count)
    if not field.psf.exists():
        psf = draw_psf(_patch_options(0, field.density), 101).astype(np.float32)
        write_image(field.psf, psf, fits.Header({"PIXSCL": SCALE}))


def _grid(field: Field) -> WCS:
    options = FieldOptions()
    return field_grid(options.ra, options.dec, (field.side, field.side), SCALE)


def _patch_options(band: int, density: float, seed: int = 1) -> FieldOptions:
    """Return a patch at the full depth."""
    return FieldOptions(
        shape=(PATCH, PATCH), density=density, seed=seed, depths=(1.0,), psf_fwhm=list(BANDS.values())[band][1]
    )


@cache
def _draw_noise(seed: int) -> Plane:
    """Return a patch without sources; each band lays them elsewhere."""
    return simulate_field(_patch_options(0, 0, 1000 + seed)).science


def _draw_light(band: int, density: float, seed: int) -> Plane:
    """Return a noise-free patch of one band; all bands have the same sources."""
    field = simulate_field(_patch_options(band, density, 1 + seed))
    return (list(BANDS.values())[band][0] * field.truth).astype(np.float32)


def _turn(draw: Callable[[int], Plane], number: int) -> Plane:
    """Return one of the patches in one of its eight orientations."""
    turns = number // PATCHES
    patch = np.rot90(draw(number % PATCHES), turns % 4)
    return patch.T if turns % 8 >= 4 else patch


def _make_band(field: Field, band: int) -> None:
    """Write science, weight and exposure map, plain and gzipped, and the WCS log, which is the last."""
    options = MosaicOptions(
        root="bench-v1", filter=f"{list(BANDS)[band]}-clear", exposure_time=SECONDS + 0.367, position_angles=(0.0,)
    )
    grid, log = _grid(field), log_exposures(_plan(field, options), options)
    weight = FieldOptions().sigma ** -2 / DEPTHS[0]  # of one exposure
    header = science_header(grid, log, [weight] * len(log), options)
    planes = {kind: _open_plane(field.plane(band, kind), field.side, header) for kind in ("sci", "wht")}
    depth = _lay_depths(field)
    _fill(planes, field, band, depth, options.phot_scale * options.detector_gain * SECONDS)
    for plane in planes.values():
        plane.flush()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda kind: _compress(field, band, kind), planes))
    exposures = np.zeros((field.side // SAMPLE,) * 2, np.uint32)
    inside = slice(-(-field.frame.start // SAMPLE), -(-field.frame.stop // SAMPLE))
    exposures[inside, inside] = SECONDS * depth[::SAMPLE]
    path = Path(f"{field.prefix(band)}_drc_exp.fits.gz")
    write_image(path, exposures, exposure_header(header, grid, options), overwrite=True)
    log.write(f"{field.prefix(band)}_wcs.csv", format="ascii.csv", overwrite=True)


def _lay_depths(field: Field) -> NDArray[np.int64]:
    """Return the number of exposures in each column that has data, in steps of samples."""
    samples = (field.frame.stop - field.frame.start) // SAMPLE
    strip = np.arange(samples) * len(DEPTHS) // samples
    return np.repeat(np.array(DEPTHS)[strip], SAMPLE)


def _plan(field: Field, options: MosaicOptions) -> list[Exposure]:
    """Lay out exposures that cover each strip as often as its depth says."""
    length = field.frame.stop - field.frame.start
    width = length / len(DEPTHS)
    across = max(1, round(width / POINTING))
    along = round(length / (width / across))  # detectors are square
    shape = (int(np.ceil(length / along)), int(np.ceil(width / across)))
    grid = _grid(field)
    exposures: list[Exposure] = []
    for strip, depth in enumerate(DEPTHS):
        for i, j in np.ndindex(along, across):
            x = field.frame.start + strip * width + (j + 0.5) * width / across
            y = field.frame.start + (i + 0.5) * length / along
            ra, dec = grid.wcs_pix2world(x - 0.5, y - 0.5, 0)
            pointing = field_grid(float(ra), float(dec), shape, SCALE)
            seen = plan_exposures(pointing, replace(options, n_exposures=depth), np.random.default_rng([strip, i, j]))
            number = len(exposures)
            exposures += [
                replace(each, file=each.file.replace("jw09999001001", f"jw{10000 + number:05d}001001")) for each in seen
            ]
    return exposures


def _open_plane(path: Path, side: int, header: fits.Header) -> np.memmap:
    """Return the pixels of a new FITS file, all zero, mapped."""
    cards = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", side), ("NAXIS2", side)])
    cards.extend(header)
    text = cards.tostring().encode("ascii")
    size = side**2 * 4
    with path.open("wb") as stream:
        stream.write(text)
        stream.truncate(len(text) + -(-size // 2880) * 2880)
    return np.memmap(path, ">f4", "r+", offset=len(text), shape=(side, side))


def _fill(planes: dict[str, np.memmap], field: Field, band: int, depth: NDArray[np.int64], electrons: float) -> None:
    """Lay patches over all that has data; `electrons` are those of one exposure in a pixel value of 1."""
    draw_light = cache(partial(_draw_light, band, field.density))
    weight = FieldOptions().sigma ** -2 / DEPTHS[0]
    starts = range(field.frame.start, field.frame.stop, PATCH)
    for number, (y, x) in enumerate((y, x) for y in starts for x in starts):
        rng = np.random.default_rng([field.side, band, number])
        rows, columns = (slice(low, min(low + PATCH, field.frame.stop)) for low in (y, x))
        part = (slice(0, rows.stop - rows.start), slice(0, columns.stop - columns.start))
        exposures = depth[columns.start - field.frame.start : columns.stop - field.frame.start]
        scatter = rng.standard_normal((part[0].stop, part[1].stop), np.float32) * WEIGHT_SCATTER
        # At most half and twice: a weight has no wings.
        relative = np.exp(np.clip(scatter, -0.7, 0.7)) * exposures
        gathered = exposures * electrons
        photons = rng.poisson(np.maximum(_turn(draw_light, number)[part], 0) * gathered) / gathered
        planes["wht"][rows, columns] = weight * relative
        sky = _turn(_draw_noise, number + 5 * band)[part]
        planes["sci"][rows, columns] = photons + sky * np.sqrt(DEPTHS[0] / relative)


def _compress(field: Field, band: int, kind: str) -> None:
    path = Path(f"{field.prefix(band)}_drc_{kind}.fits.gz")
    with field.plane(band, kind).open("rb") as source, igzip.open(path, "wb", compresslevel=1) as stream:
        shutil.copyfileobj(source, stream, 1 << 20)


def _scatter(field: Field, count: int) -> None:
    """Write a catalogue of random positions where there are data."""
    x, y = np.random.default_rng(count).uniform(field.frame.start + 20, field.frame.stop - 20, (2, count))
    ra, dec = _grid(field).wcs_pix2world(x, y, 0)
    Table({"id": np.arange(1, count + 1), "ra": ra, "dec": dec}).write(field.positions(count), overwrite=True)
