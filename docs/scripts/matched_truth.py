"""Print how far colours of simulated sources are from the truth, before and after bands are brought to one PSF.

python docs/scripts/matched_truth.py --seeds 1 2 3 4

Two bands of one field, with the PSFs of 1.15 and 4.44 um (sums of Gaussians whose wings scale with the wavelength) as
they fall on pixels of 40 mas, correlated noise, and the photons of the sources: stars and Sersic galaxies on a grid.
Errors with K instead of K^2 are those that a variance convolved with the kernel itself would give.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
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
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.psf.matching import Target, make_kernel
from dja_photplug.psf.model import PSF
from dja_photplug.simulate.field import PROFILE_LIMITS, PSF_SHARE, PSF_SIGMA
from dja_photplug.simulate.scene import expand_sersic, field_grid
from dja_photplug.sources.detection import Detection

Floats = NDArray[np.float64]

SCALE, STAMP, FINER = 0.04, 101, 3  # arcsec; pixels of a PSF's stamp; pixels that galaxies are drawn on, in a pixel
LONG, SHORT = "f444w", "f115w"
FWHM = {LONG: 0.145, SHORT: 0.04}  # of the core, arcsec, without the pixel; wings scale with it
SIGMA, ELECTRONS = {LONG: 0.02, SHORT: 0.015}, 8000.0  # of pixels, 10 nJy; in a pixel value of 1
APERTURES = (0.32, 0.5, 0.7, 1.0)
KINDS = {"point": 0.0, "n = 1": 1.0, "n = 4": 4.0}
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


def print_colours(values: dict[str, dict[str, Floats]]) -> None:
    """Print the medians of measured over true colours."""
    print(f"| sources | {' | '.join(f'{diameter:.2f}' + chr(34) for diameter in APERTURES)} |")
    print("| --- |" + " ---: |" * len(APERTURES))
    for kind, one in values.items():
        true = (one["f115w true"] / one["f444w true"])[:, None]
        for name, what in (("flux_aper", "as they are"), ("match_aper", "matched")):
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="one field of each kind for each")
    parser.add_argument("--side", type=int, default=1600, help="of a field, in pixels")
    parser.add_argument("--spacing", type=int, default=80, help="of the sources, in pixels")
    parser.add_argument("--options", default="subtract/mesh", help="measure.neighbours/measure.background")
    parser.add_argument("--errors", action="store_true", help="errors of fluxes instead of colours")
    arguments = parser.parse_args()
    neighbours, _, sky = arguments.options.partition("/")
    measured = dp.MeasureOptions(apertures=APERTURES, neighbours=neighbours, background=sky or "none")
    options = dp.Options(measure=measured)
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
