"""Print how far colours of simulated sources are from the truth, before and after bands are brought to one PSF.

python docs/scripts/matched_truth.py --seeds 1 2 3 4

Two bands of one field, with the PSFs of 1.15 and 4.44 um (sums of Gaussians whose wings scale with the wavelength) as
they fall on pixels of 40 mas, correlated noise, and the photons of the sources: stars and Sersic galaxies on a grid.
Errors with K instead of K^2 are those that a variance convolved with the kernel itself would give.

python docs/scripts/matched_truth.py --chain FOLDER

The same of two mosaics, which are simulated in FOLDER unless they are there: exposures of two rolls with diffraction
PSFs, drizzled. Their sources are matched with the true PSFs, those of `psf stars` and those of `psf log`. Ten minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import InverseVariance
from astropy.table import QTable
from numpy.typing import NDArray
from photutils.aperture import CircularAperture, aperture_photometry
from scipy import fft
from scipy.signal import fftconvolve
from scipy.spatial import KDTree
from scipy.special import ndtr
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.files.pixels import read_image
from dja_photplug.matching.kernels import Target, make_kernel
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.psf.model import PSF, grow_light
from dja_photplug.psf.regions import PSFModel, write_psf_model
from dja_photplug.simulate.diffraction import make_psf
from dja_photplug.simulate.field import PSF_SHARE, PSF_SIGMA
from dja_photplug.simulate.mosaic import MosaicOptions, simulate_mosaic
from dja_photplug.simulate.scene import PROFILE_LIMITS, SceneOptions, expand_sersic, field_grid, simulate_scene
from dja_photplug.sources.detection import Detection

Floats = NDArray[np.float64]

SCALE, STAMP, FINER = 0.04, 101, 3  # arcsec; pixels of a PSF's stamp; pixels that galaxies are drawn on, in a pixel
LONG, SHORT = "f444w", "f115w"
FWHM = {LONG: 0.145, SHORT: 0.04}  # of the core, arcsec, without the pixel; wings scale with it
SIGMA, ELECTRONS = {LONG: 0.02, SHORT: 0.015}, 8000.0  # of pixels, 10 nJy; in a pixel value of 1
APERTURES = (0.32, 0.5, 0.7, 1.0)
KINDS = {"point": 0.0, "n = 1": 1.0, "n = 4": 4.0}
COLOURS = {"flux_aper": "as they are", "match_aper": "matched"}  # columns, and what they are
PSFS = {"truth": "true PSF", "stars": "PSF of stars", "log": "PSF of the log"}
# Of the stars that true PSFs are made of, (x, y): 5.6 arcsec apart.
STARS = 70 + 140 * np.indices((5, 5)).reshape(2, -1).T
BINS = ((0.1, 1.0), (1.0, 10.0), (10.0, 100.0))  # uJy


@dataclass(frozen=True)
class Source:
    """A source: place in pixels, fluxes in uJy, half-light radius in arcsec (0 for a point), axis ratio, rad, index."""

    x: float
    y: float
    flux: float
    colour: float = 1.0
    size: float = 0.0
    ratio: float = 1.0
    theta: float = 0.0
    sersic: float = 1.0


def draw_stamp(source: Source, band: str, dx: float, dy: float, side: int) -> Floats:
    """Return a source of unit flux beside the middle pixel; galaxies are drawn on finer pixels, which are summed."""
    sigma = PSF_SIGMA * FWHM[band] / SCALE
    if source.size == 0:
        edges = np.arange(side + 1) - side / 2
        down, across = (np.diff(ndtr((edges - centre) / sigma[:, None])) for centre in (dy, dx))
        return np.einsum("k,ky,kx->yx", PSF_SHARE, down, across)
    fine = side * FINER
    ky, kx = fft.fftfreq(fine)[:, None], fft.rfftfreq(fine)
    widths = 2 * (np.pi * sigma * FINER) ** 2
    light = sum(share * np.exp(-width * (kx**2 + ky**2)) for share, width in zip(PSF_SHARE, widths, strict=True))
    cos, sin = np.cos(source.theta), np.sin(source.theta)
    major, minor = kx * cos + ky * sin, ky * cos - kx * sin
    squared = -2 * (np.pi * source.size / SCALE * FINER) ** 2 * (major**2 + (source.ratio * minor) ** 2)
    parts = zip(*expand_sersic(source.sersic, PROFILE_LIMITS), strict=True)
    light = light * np.sinc(kx) * np.sinc(ky) * sum(share * np.exp(squared * width**2) for share, width in parts)
    y, x = ((fine - 1) / 2 + FINER * away for away in (dy, dx))
    stamp = fft.irfft2(light * np.exp(-2j * np.pi * (x * kx + y * ky)), (fine, fine))
    return stamp.reshape(side, FINER, side, FINER).sum(axis=(1, 3))


def draw_light(sources: list[Source], band: str, shape: tuple[int, int], side: int = 127) -> Floats:
    """Return the light of a band without noise, 10 nJy."""
    light, half = np.zeros(shape), side // 2
    for one in sources:
        middle = np.array([round(one.y), round(one.x)])
        flux = 100 * one.flux * (one.colour if band == SHORT else 1)
        stamp = flux * draw_stamp(one, band, one.x - middle[1], one.y - middle[0], side)
        low, high = np.maximum(middle - half, 0), np.minimum(middle + half + 1, shape)
        (top, left), (bottom, right) = low - middle + half, high - middle + half
        light[low[0] : high[0], low[1] : high[1]] += stamp[top:bottom, left:right]
    return light


def draw_psf(band: str) -> PSF:
    """Return a star beside the middle pixel of its stamp, as those of real mosaics are; it holds its share of light."""
    dx, dy, middle = 0.2, -0.4, STAMP // 2
    return PSF(data=draw_stamp(Source(0, 0, 1), band, dx, dy, STAMP), scale=SCALE, centre=(middle + dy, middle + dx),
               name=band)  # fmt: skip


def make_band(light: Floats, band: str, rng: np.random.Generator | None) -> MosaicImage:
    """Return an image with noise that is correlated as by drizzling, and photons; without noise where no `rng` is."""
    data = light
    if rng is not None:
        smooth = np.outer([0.25, 1, 0.25], [0.25, 1, 0.25])
        noise = fftconvolve(rng.standard_normal(light.shape), smooth / np.linalg.norm(smooth), mode="same")
        data = rng.poisson(np.maximum(light, 0) * ELECTRONS) / ELECTRONS + SIGMA[band] * noise
    weight = np.full(light.shape, SIGMA[band] ** -2, np.float32)
    full = (1 / (1 / weight + np.maximum(data, 0) / ELECTRONS)).astype(np.float32)
    return MosaicImage(
        data.astype(np.float32),
        unit=10 * u.nJy,
        uncertainty=InverseVariance(full, copy=False),
        mask=np.zeros(light.shape, bool),
        wcs=field_grid(34.4, -5.2, light.shape, SCALE),
        meta={},
        background_weight=weight,
    )


def measure_pair(images: dict[str, MosaicImage], options: dp.Options) -> tuple[dict[str, QTable], Detection]:
    """Return the tables of both bands, detected on the long one and brought to its PSF."""
    psfs = {band: draw_psf(band) for band in images}
    target = Target(name=LONG, psf=psfs[LONG])
    long = analyse_image(images[LONG], options, psf=psfs[LONG], target=target)
    sources = long.detection.sources.copy()
    sources["kron_radius"] = long.catalog["kron_radius"]
    known = replace(long.detection, sources=sources, uncleaned=None)
    short = analyse_image(images[SHORT], options, psf=psfs[SHORT], detection=known, target=target)
    return {LONG: long.catalog, SHORT: short.catalog}, known


def lay_sources(side: int, spacing: int, sersic: float, fluxes: tuple[float, float], seed: int) -> list[Source]:
    """Return sources on a grid, each anywhere in the pixels around its place on it."""
    rng = np.random.default_rng(seed)
    places = range(spacing // 2, side - spacing // 4, spacing)
    sources = []
    for y in places:
        for x in places:
            dx, dy = rng.uniform(-3, 3, 2)
            flux, colour = np.exp(rng.uniform(*np.log(fluxes))), 10 ** rng.uniform(-0.3, 0.3)
            size, ratio, theta = (0.0, 1.0, 0.0) if sersic == 0 else rng.uniform((0.08, 0.4, 0), (0.3, 1, np.pi))
            sources.append(Source(x + dx, y + dy, flux, colour, size, ratio, theta, sersic))
    return sources


def measure(sources: list[Source], side: int, seed: int, options: dp.Options) -> dict[str, Floats]:
    """Return what is known of the sources that were found: fluxes and errors (n, apertures), and the truth (n,)."""
    rng = np.random.default_rng(1000 + seed)
    images = {band: make_band(draw_light(sources, band, (side, side), 191), band, rng) for band in FWHM}
    tables, _ = measure_pair(images, options)
    found = np.column_stack([tables[LONG][axis].value for axis in "xy"])
    distance, row = KDTree([(one.x, one.y) for one in sources]).query(found)
    use = distance < 2
    own = np.array([(one.x, one.y, one.flux * one.colour) for one in sources])[row[use]]
    values = {f"{SHORT} true": own[:, 2], f"{LONG} true": np.array([one.flux for one in sources])[row[use]]}
    for band, table in tables.items():
        for name in ("flux_aper", "fluxerr_aper", "match_aper", "match_err"):
            columns = [table[f"{name}_{i}"].value[use] for i in range(len(APERTURES))]
            values[f"{band} {name}"] = np.column_stack(columns)
    return values | _add_truth(images[SHORT], own, found[use])


def _add_truth(image: MosaicImage, own: Floats, places: Floats) -> dict[str, Floats]:
    """Return the light of point sources in apertures, as they are and at the target's PSF, and other errors, uJy.

    `own` are the places and fluxes of the sources that were found, (n, 3), which were measured at `places`.
    """
    kernel = make_kernel(draw_psf(SHORT), draw_psf(LONG), SCALE).data
    circles = [CircularAperture(places, diameter / 2 / SCALE) for diameter in APERTURES]
    planes = {"wrong": kernel, "single": kernel**2}
    variance = 1 / image.uncertainty.array
    values = {
        name: np.sqrt(_sum_circles(fftconvolve(variance, by, mode="same"), circles)) / 100
        for name, by in planes.items()
    }
    light = np.empty((2, len(places), len(APERTURES)))
    for row, (x, y, flux) in enumerate(own):
        stamp = flux * draw_stamp(Source(x, y, flux), SHORT, x - round(x), y - round(y), 127)
        at = places[row] - (round(x), round(y)) + 63
        near = [CircularAperture(at[None], one.r) for one in circles]
        light[:, row] = [_sum_circles(plane, near)[0] for plane in (stamp, fftconvolve(stamp, kernel, mode="same"))]
    return values | {"own": light[0], "matched": light[1]}


def _sum_circles(plane: Floats, circles: Sequence[CircularAperture]) -> Floats:
    table = aperture_photometry(plane, circles)
    return np.column_stack([table[f"aperture_sum_{i}"] for i in range(len(circles))])


def join(parts: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def print_colours(values: dict[str, dict[str, Floats]], kinds: dict[str, str] = COLOURS) -> None:
    """Print the medians of measured over true colours, of columns by what they are."""
    print(f"| sources | {' | '.join(f'{diameter:.2f}' + chr(34) for diameter in APERTURES)} |")
    print("| --- |" + " ---: |" * len(APERTURES))
    for kind, one in values.items():
        true = (one["f115w true"] / one["f444w true"])[:, None]
        for name, what in kinds.items():
            ratio = one[f"f115w {name}"] / one[f"f444w {name}"] / true
            middle, spread = np.nanmedian(ratio, axis=0), median_abs_deviation(ratio, scale="normal", nan_policy="omit")
            cells = [f"{100 * (m - 1):+.2f} % ({100 * s / np.sqrt(len(ratio)):.2f})"
                     for m, s in zip(middle, spread, strict=True)]  # fmt: skip
            print(f"| {kind}, {what} [{len(ratio)}] | {' | '.join(cells)} |")


def print_errors(values: dict[str, Floats]) -> None:
    """Print scatter (and median) of (measured - true)/error of matched fluxes, by flux, with other errors too."""
    kinds = {
        "native": ("f115w flux_aper", "own", "f115w fluxerr_aper"),
        "matched": ("f115w match_aper", "matched", "f115w match_err"),
        "matched, K instead of K^2": ("f115w match_aper", "matched", "wrong"),
        "matched, K^2 without a(r)": ("f115w match_aper", "matched", "single"),
    }
    print(f"| flux, uJy | error | {' | '.join(f'{diameter:.2f}' + chr(34) for diameter in APERTURES)} |")
    print("| --- | --- |" + " ---: |" * len(APERTURES))
    for low, high in BINS:
        use = (values["f115w true"] >= low) & (values["f115w true"] < high)
        for name, (flux, true, error) in kinds.items():
            pulls = ((values[flux] - values[true]) / values[error])[use]
            pulls = pulls[np.isfinite(pulls).all(axis=1)]
            scatter = median_abs_deviation(pulls, scale="normal", axis=0)
            cells = [
                f"{one:.2f} ({middle:+.2f})" for one, middle in zip(scatter, np.median(pulls, axis=0), strict=True)
            ]
            print(f"| {low:g} to {high:g} [{len(pulls)}] | {name} | {' | '.join(cells)} |")


def simulate_band(folder: Path, band: str) -> None:
    """Write the mosaic of a band, that of stars for its true PSF, and the PSF of its detector."""
    from psf_growth import write_detector

    field = SceneOptions(shape=(2360, 2360), n_sources=480, isolated=True, bands=(LONG, SHORT), seed=21)
    scene = simulate_scene(replace(field, flux_range=(10.0, 60.0), flux_slope=0.0))
    rng = np.random.default_rng(22)
    # More points than galaxies: in pixels of 63 mas the light of each depends on where it lies in them, by 1 %.
    kinds = [1.0, 4.0, *(10 * [0.0])]
    scene["sersic"] = [kinds[i % len(kinds)] for i in range(len(scene))]
    scene["type"] = np.where(scene["sersic"] > 0, "galaxy", "star")
    scene["size"] = np.where(scene["sersic"] > 0, rng.uniform(0.08, 0.3, len(scene)), 0) * u.arcsec
    # Stars in the middle of pixels, so far apart that none is in the stamp of another.
    stars = scene[:25].copy()
    grid = field_grid(field.ra, field.dec, (700, 700), SCALE)
    stars["ra"], stars["dec"] = (axis * u.deg for axis in grid.wcs_pix2world(*STARS.T, 0))
    stars["sersic"], stars["size"], stars.meta["SHAPE"] = 0.0, 0.0 * u.arcsec, [700, 700]
    options = MosaicOptions(filter=f"{band}-clear", psf="diffraction", n_exposures=4, compress=False)
    simulate_mosaic(folder, scene, options)
    simulate_mosaic(folder, stars, replace(options, root="stars-v1", bad_fraction=0.0))
    write_detector(folder / f"{band}-detector.fits", options.filter)


def find_true_psf(folder: Path, band: str) -> PSFModel:
    """Return the mean of stars without noise, with as much light within 1.5 arcsec as diffraction leaves there."""
    light = read_image(folder / f"stars-v1-{band}-clear_truth_sci.fits")[0].astype(float)
    half, psf = STAMP // 2, make_psf(f"{band}-clear")
    stamps = [light[y - half : y + half + 1, x - half : x + half + 1] for x, y in STARS]
    mean = np.mean([stamp / stamp.sum() for stamp in stamps], axis=0)
    middle = len(psf.samples) // 2
    [true] = grow_light(psf.pixels(), (middle, middle), np.array([1.5 / psf.scale]))
    [drawn] = grow_light(mean, (half, half), np.array([1.5 / SCALE]))
    return PSFModel.of(PSF(data=mean * true / drawn, scale=SCALE, centre=(half, half), name="truth"))


def make_psfs(folder: Path) -> dict[str, dict[str, str]]:
    """Write the PSFs of both bands that are true, of stars, and of the log; return their files."""
    files = {kind: {band: f"{folder}/{band}-{kind}.fits" for band in (LONG, SHORT)} for kind in PSFS}
    for band in (LONG, SHORT):
        mosaic = f"{folder}/sim-v1-{band}-clear"
        write_psf_model(find_true_psf(folder, band), files["truth"][band], overwrite=True)
        main(["psf", "stars", mosaic, "-o", files["stars"][band], "--overwrite", "--quiet"])
        detector, places = f"{folder}/{band}-detector.fits", f"{folder}/sim-v1_truth.ecsv"
        main(["psf", "log", mosaic, "-o", files["log"][band], "--detector-psf", detector, "--catalog", places,
              "--overwrite", "--quiet"])  # fmt: skip
    return files


def measure_chain(folder: Path, options: dp.Options) -> dict[str, dict[str, Floats]]:
    """Return what is known of each kind of sources: fluxes (n, apertures), and the truth (n,)."""
    scene = QTable.read(folder / "sim-v1_truth.ecsv")
    values: dict[str, Floats] = {f"{band} true": scene[f"{band}_flux"].value for band in (LONG, SHORT)}
    known = SkyCoord(scene["ra"], scene["dec"])
    for kind, files in make_psfs(folder).items():
        bands = dp.BandOptions(detect=LONG, match=LONG, psf=files)
        mosaics = [f"{folder}/sim-v1-{band}-clear" for band in (LONG, SHORT)]
        table = dp.run(mosaics, replace(options, bands=bands), keep_image=False).catalog
        row, distance, _ = known.match_to_catalog_sky(SkyCoord(table["ra"], table["dec"]))
        for band in (LONG, SHORT):
            for name, column in (("flux_aper", "flux_aper"), (kind, "match_aper")):
                fluxes = np.column_stack([table[f"{band}_{column}_{i}"].value for i in range(len(APERTURES))])[row]
                values[f"{band} {name}"] = np.where(distance[:, None] < 0.1 * u.arcsec, fluxes, np.nan)
    return {
        kind: {name: one[scene["sersic"] == sersic] for name, one in values.items()} for kind, sersic in KINDS.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="one field of each kind for each")
    parser.add_argument("--side", type=int, default=1600, help="of a field, in pixels")
    parser.add_argument("--spacing", type=int, default=80, help="of the sources, in pixels")
    parser.add_argument("--options", default="subtract/mesh", help="measure.neighbours/measure.background")
    parser.add_argument("--errors", action="store_true", help="errors of fluxes instead of colours")
    parser.add_argument("--chain", type=Path, metavar="FOLDER", help="mosaics of exposures instead")
    arguments = parser.parse_args()
    neighbours, _, sky = arguments.options.partition("/")
    measured = dp.MeasureOptions(apertures=APERTURES, neighbours=neighbours, background=sky or "none")
    options = dp.Options(measure=measured)
    if arguments.chain:
        for band in (LONG, SHORT):
            if not (arguments.chain / f"{band}-detector.fits").exists():
                simulate_band(arguments.chain, band)
        print_colours(measure_chain(arguments.chain, options), {"flux_aper": "as they are"} | PSFS)
        raise SystemExit
    fluxes = (0.05, 100.0) if arguments.errors else (5.0, 50.0)
    results = {}
    for kind, sersic in ({"point": 0.0} if arguments.errors else KINDS).items():
        parts = []
        for seed in arguments.seeds:
            sources = lay_sources(arguments.side, arguments.spacing, sersic, fluxes, seed)
            parts.append(measure(sources, arguments.side, seed, options))
        results[kind] = join(parts)
    if arguments.errors:
        print_errors(results["point"])
    else:
        print_colours(results)
