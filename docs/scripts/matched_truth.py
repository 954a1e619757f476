"""Print how far colours of simulated sources are from the truth, before and after bands are brought to one PSF.

python docs/scripts/matched_truth.py --seeds 1 2 3 4

Two bands of one field, with the PSFs of 1.15 and 4.44 um (sums of Gaussians whose wings scale with the wavelength) as
they fall on pixels of 40 mas, correlated noise, and the photons of the sources: stars and Sersic galaxies on a grid.
Errors with K instead of K^2 are those that a variance convolved with the kernel itself would give.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.nddata import InverseVariance
from numpy.typing import NDArray
from photutils.aperture import CircularAperture, aperture_photometry
from scipy import fft
from scipy.signal import fftconvolve
from scipy.spatial import KDTree
from scipy.special import ndtr
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.pipeline.one_band import Result, analyse_image
from dja_photplug.psf.matching import Target, make_kernel
from dja_photplug.psf.model import PSF
from dja_photplug.simulate.field import PROFILE_LIMITS, PSF_SHARE, PSF_SIGMA
from dja_photplug.simulate.scene import expand_sersic, field_grid

Floats = NDArray[np.float64]

SCALE, STAMP, OVERSAMPLED = 0.04, 101, 3
FWHM = {"f115w": 0.040, "f444w": 0.145}  # of the core, arcsec, without the pixel
SIGMA, ELECTRONS = {"f115w": 0.015, "f444w": 0.02}, 8000.0  # of pixels, 10 nJy; in a pixel value of 1
APERTURES = (0.32, 0.5, 0.7, 1.0)
KINDS = {"point": 0.0, "n = 1": 1.0, "n = 4": 4.0}
BINS = ((0.1, 1.0), (1.0, 10.0), (10.0, 100.0))  # uJy


@dataclass(frozen=True)
class Scene:
    """Sources, all (n,): places in pixels, fluxes in uJy by band, shapes; sizes in arcsec, angles in radians."""

    x: Floats
    y: Floats
    flux: Mapping[str, Floats]
    size: Floats
    ratio: Floats
    theta: Floats
    sersic: Floats


def lay_scene(shape: tuple[int, int], spacing: int, sersic: float, fluxes: tuple[float, float], seed: int) -> Scene:
    """Return sources on a grid, each anywhere in the pixels around its place on it."""
    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() for axis in np.mgrid[spacing // 2 : shape[0] - spacing // 4 : spacing,
                                              spacing // 2 : shape[1] - spacing // 4 : spacing])  # fmt: skip
    n = len(x)
    x, y = (axis + rng.uniform(-3, 3, n) for axis in (x, y))
    flux = np.exp(rng.uniform(*np.log(fluxes), n))
    colour = 10 ** rng.uniform(-0.3, 0.3, n)
    size = np.zeros(n) if sersic == 0 else rng.uniform(0.08, 0.3, n)
    return Scene(x, y, {"f444w": flux, "f115w": flux * colour}, size, rng.uniform(0.4, 1, n),
                 rng.uniform(0, np.pi, n), np.full(n, sersic))  # fmt: skip


def draw_stamp(
    dx: float, dy: float, size: float, ratio: float, theta: float, sersic: float, fwhm: float, side: int
) -> Floats:
    """Return a source of unit flux beside the middle pixel of a stamp: galaxies on finer pixels, which are summed."""
    if size == 0:
        edges = np.arange(side + 1) - side / 2
        down, across = (np.diff(ndtr((edges - centre) / (PSF_SIGMA * fwhm / SCALE)[:, None])) for centre in (dy, dx))
        return np.einsum("k,ky,kx->yx", PSF_SHARE, down, across)
    fine, step = side * OVERSAMPLED, SCALE / OVERSAMPLED
    ky, kx = fft.fftfreq(fine)[:, None], fft.rfftfreq(fine)
    square = kx**2 + ky**2
    widths = 2 * (np.pi * PSF_SIGMA * fwhm / step) ** 2
    transform = sum(share * np.exp(-width * square) for share, width in zip(PSF_SHARE, widths, strict=True))
    transform = transform * np.sinc(kx) * np.sinc(ky)
    if size > 0:
        major, minor = kx * np.cos(theta) + ky * np.sin(theta), ky * np.cos(theta) - kx * np.sin(theta)
        squared = -2 * (np.pi * size / step) ** 2 * (major**2 + (ratio * minor) ** 2)
        parts = zip(*expand_sersic(sersic, PROFILE_LIMITS), strict=True)
        transform = transform * sum(share * np.exp(squared * sigma**2) for share, sigma in parts)
    middle = (fine - 1) / 2
    y, x = middle + OVERSAMPLED * dy, middle + OVERSAMPLED * dx
    light = fft.irfft2(transform * np.exp(-2j * np.pi * (x * kx + y * ky)), (fine, fine))
    return light.reshape(side, OVERSAMPLED, side, OVERSAMPLED).sum(axis=(1, 3))


def draw_light(scene: Scene, band: str, shape: tuple[int, int]) -> Floats:
    """Return the light of a band without noise, 10 nJy."""
    light = np.zeros(shape)
    for i, (x, y) in enumerate(zip(scene.x, scene.y, strict=True)):
        side = 191 if scene.flux[band][i] > 1 else 127
        column, row = round(x), round(y)
        known = (scene.size[i], scene.ratio[i], scene.theta[i], scene.sersic[i])
        stamp = 100 * scene.flux[band][i] * draw_stamp(x - column, y - row, *known, FWHM[band], side)
        half = side // 2
        middle = np.array([row, column])
        low, high = np.maximum(middle - half, 0), np.minimum(middle + half + 1, shape)
        (top, left), (bottom, right) = low - middle + half, high - middle + half
        light[low[0] : high[0], low[1] : high[1]] += stamp[top:bottom, left:right]
    return light


def draw_psf(band: str) -> PSF:
    """Return the image of a star beside the middle pixel of a stamp, as stamps of real mosaics are."""
    dx, dy = 0.2, -0.4
    pixels = draw_stamp(dx, dy, 0, 1, 0, 0, FWHM[band], 255)
    cut = (255 - STAMP) // 2
    middle = STAMP // 2
    return PSF(
        data=np.ascontiguousarray(pixels[cut:-cut, cut:-cut]), scale=SCALE, centre=(middle + dy, middle + dx), name=band
    )


def make_image(light: Floats, band: str, rng: np.random.Generator) -> MosaicImage:
    """Return a band with noise: correlated over pixels as by drizzling, and the photons of the sources."""
    photons = rng.poisson(np.maximum(light, 0) * ELECTRONS) / ELECTRONS
    smooth = np.array([0.25, 1, 0.25])
    smooth = np.outer(smooth, smooth) / np.linalg.norm(np.outer(smooth, smooth))
    noise = SIGMA[band] * fftconvolve(rng.standard_normal(light.shape), smooth, mode="same")
    data = (photons + noise).astype(np.float32)
    weight = np.full(light.shape, SIGMA[band] ** -2, np.float32)
    full = (1 / (1 / weight + np.maximum(data, 0) / ELECTRONS)).astype(np.float32)
    return MosaicImage(data, unit=10 * u.nJy, uncertainty=InverseVariance(full, copy=False),
                       mask=np.zeros(light.shape, bool), wcs=field_grid(34.4, -5.2, light.shape, SCALE), meta={},
                       background_weight=weight)  # fmt: skip


def measure(scene: Scene, shape: tuple[int, int], seed: int, options: dp.Options) -> dict[str, Floats]:
    """Return what is known of the sources that were found: fluxes and errors (n, apertures), and the truth (n,)."""
    rng = np.random.default_rng(1000 + seed)
    psfs = {band: draw_psf(band) for band in FWHM}
    target = Target(name="f444w", psf=psfs["f444w"])
    lights = {band: draw_light(scene, band, shape) for band in FWHM}
    images = {band: make_image(light, band, rng) for band, light in lights.items()}
    wide = analyse_image(images["f444w"], options, psf=psfs["f444w"], target=target)
    sources = wide.detection.sources.copy()
    sources["kron_radius"] = wide.catalog["kron_radius"]
    known = replace(wide.detection, sources=sources, uncleaned=None)
    narrow = analyse_image(images["f115w"], options, psf=psfs["f115w"], detection=known, target=target)
    found = np.column_stack([wide.catalog["x"].value, wide.catalog["y"].value])
    distance, row = KDTree(np.column_stack([scene.x, scene.y])).query(found)
    use = distance < 2
    kernel = make_kernel(psfs["f115w"], target.psf, SCALE).data
    values = {f"{band} true": scene.flux[band][row[use]] for band in FWHM}
    for band, result in {"f444w": wide, "f115w": narrow}.items():
        for name in ("flux_aper", "fluxerr_aper", "match_aper", "match_err"):
            columns = [result.catalog[f"{name}_{i}"].value[use] for i in range(len(APERTURES))]
            values[f"{band} {name}"] = np.column_stack(columns)
    own = np.column_stack([scene.x, scene.y, scene.flux["f115w"]])[row[use]]
    values |= _add_truth(images["f115w"], kernel, own, narrow, use)
    return values


def _add_truth(
    image: MosaicImage, kernel: Floats, own: Floats, result: Result, use: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Return the light of point sources in apertures at the target's PSF, and errors made in other ways, uJy.

    `own` are the places and fluxes of the sources that were found, (n, 3).
    """
    places = np.column_stack([result.catalog["x"].value, result.catalog["y"].value])[use]
    circles = [CircularAperture(places, diameter / 2 / SCALE) for diameter in APERTURES]
    planes = {"wrong": kernel, "single": kernel**2}
    variance = 1 / image.uncertainty.array
    values = {
        name: np.sqrt(_sum_circles(fftconvolve(variance, by, mode="same"), circles)) / 100
        for name, by in planes.items()
    }
    light = np.empty((2, len(places), len(APERTURES)))
    for row, (x, y, flux) in enumerate(own):
        stamp = flux * draw_stamp(x - round(x), y - round(y), 0, 1, 0, 0, FWHM["f115w"], 127)
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
    shape = (arguments.side, arguments.side)
    fluxes = (0.05, 100.0) if arguments.errors else (5.0, 50.0)
    results = {
        kind: join([measure(lay_scene(shape, arguments.spacing, index, fluxes, seed), shape, seed, options)
                    for seed in arguments.seeds])
        for kind, index in ({"point": 0.0} if arguments.errors else KINDS).items()
    }  # fmt: skip
    if arguments.errors:
        print_errors(results["point"])
    else:
        print_colours(results)
