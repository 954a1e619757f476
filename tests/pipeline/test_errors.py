"""Errors that mean what they say: scatter of (measured - noise-free)/error on simulated mosaics with truth.

By default three mosaics with one detector gain; ``--slow`` runs 60 for each of three gains, over 4,000 sources a bin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sep

import dja_photplug as dp
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.files.pixels import read_image
from dja_photplug.mosaic.image import replace_planes
from dja_photplug.pipeline.one_band import remeasure
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.simulate.mosaic import MosaicOptions, SimulatedMosaic, simulate_mosaic
from tests.helpers import isolated_scene, make_stars, robust_scatter

APERTURES = (0.32, 0.5, 0.7, 1.0, 1.4)
BINS = {"below 0.1 uJy": (0, 0.1), "0.1 to 1 uJy": (0.1, 1), "above 10 uJy": (10, np.inf)}


def simulate(folder: Path, gain: float, seed: int) -> SimulatedMosaic:
    """A mosaic of 400 sources of 0.03 to 60 uJy, 2.8 arcsec apart.

    Sources above 1 uJy are stars, and the field is not crowded: light beyond the segments would reach into the empty
    apertures and count as background, as it does in a real field; but here truth holds it too. With 900 sources
    a(0.7 arcsec) is 5 % larger, and faint sources scatter by 0.93 of their error at a detector gain of 1.

    None is fainter than 0.03 uJy: at a gain of 1 and 0.02 uJy detection begins to choose positive noise, and the median
    of the smallest aperture is +0.12 for want of the others, whatever the errors are.
    """
    scene = isolated_scene(n_sources=400, flux_range=(0.03, 60), flux_slope=0.1, seed=seed)
    make_stars(scene, scene["f444w_flux"].value > 1)
    options = MosaicOptions(root="sim-errors-v1", n_exposures=3, detector_gain=gain, compress=False, seed=seed)
    return simulate_mosaic(folder, scene, options)


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, int], SimulatedMosaic]:
    """Who gives the mosaic of a detector gain and a seed, which is made once."""
    folder = tmp_path_factory.mktemp("errors")
    return cache(lambda gain, seed: simulate(folder / f"{gain}-{seed}", gain, seed))


def kron_truth(result: Result, noise_free: np.ndarray) -> np.ndarray:
    """Noise-free flux, in uJy, in the very ellipses that were measured."""
    catalog, scale = result.catalog, 0.04
    circle = (catalog["flag"] & dp.SourceFlag.KRON_CIRCLE) > 0
    a, b = (np.where(circle, 0.35, catalog["kron_radius"] * catalog[axis].value) / scale for axis in "ab")
    theta = np.where(circle, 0, np.clip(np.radians(catalog["theta"].value), -np.pi / 2, np.pi / 2))
    flux, _, _ = sep.sum_ellipse(
        noise_free,
        catalog["x"].value,
        catalog["y"].value,
        a,
        b,
        theta,
        1.0,
        mask=result.image.mask,
        segmap=result.detection.segmentation,
        seg_id=np.asarray(catalog["id"], np.int32),
        subpix=0,
    )
    return flux / 100


def collect_pulls(
    mosaics: Callable[[float, int], SimulatedMosaic], gain: float, noise: str, seeds: range
) -> dict[str, np.ndarray]:
    """Return (measured - noise-free)/error of all clean sources for each kind of flux, and the true flux in uJy."""
    variance = dp.VarianceOptions(noise=noise, detector_gain=gain if noise == "calibrated" else None)
    options = dp.Options(variance=variance, measure=dp.MeasureOptions(apertures=APERTURES))
    parts: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        mosaic = mosaics(gain, seed)
        result = dp.run([mosaic.prefix], options)
        noise_free, _ = read_image(mosaic.truth_image)
        true, catalog = remeasure(result, replace_planes(result.image, data=noise_free)), result.catalog
        clean = np.asarray(catalog["mask_frac"] == 0)
        columns = {"flux": true["flux_aper_3"].value}
        for i, diameter in enumerate(APERTURES):
            pull = (catalog[f"flux_aper_{i}"] - true[f"flux_aper_{i}"]) / catalog[f"fluxerr_aper_{i}"]
            columns[f'{diameter}"'] = pull.value
        columns["kron"] = (catalog["flux_auto"].value - kron_truth(result, noise_free)) / catalog["fluxerr_auto"].value
        for name, values in columns.items():
            parts.setdefault(name, []).append(values[clean])
    return {name: np.concatenate(values) for name, values in parts.items()}


def tabulate(pulls: dict[str, np.ndarray]) -> list[tuple[str, str, int, float, float]]:
    """Return bin, kind of flux, number, robust scatter and median of the pulls."""
    rows = []
    for label, (low, high) in BINS.items():
        use = (pulls["flux"] > low) & (pulls["flux"] <= high)
        for kind in [name for name in pulls if name != "flux"]:
            values = pulls[kind][use]
            rows.append((label, kind, len(values), robust_scatter(values), np.median(values)))
    return rows


@pytest.mark.parametrize("gain", [1.0, 1.88, 4.0])
def test_calibrated_errors_are_the_scatter(gain, mosaics, slow):
    """Robust scatter within 0.05 of 1 (1.4 arcsec: 0.08, Kron: 0.1) or 3 times its sampling error, and no bias."""
    if gain != 1.88 and not slow:
        pytest.skip("runs with --slow; one gain shows the code path")
    rows = tabulate(collect_pulls(mosaics, gain, "calibrated", range(1, 61) if slow else range(1, 4)))
    print(f"\ndetector gain {gain}")
    print(
        "\n".join(
            f"{label:<14} {kind:<6} {n:5d} {scatter:.3f} {median:+.3f}" for label, kind, n, scatter, median in rows
        )
    )
    for label, kind, n, scatter, median in rows:
        if slow:
            assert n >= 4000, label
        # In 1.4 arcsec a sixth of the variance is the noise of the sky, which is known to a half: 0.92 to 1.01 in full.
        allowed = max({"kron": 0.1, '1.4"': 0.08}.get(kind, 0.05), 3 * SCATTER_ERROR / np.sqrt(n))
        assert abs(scatter - 1) < allowed, (label, kind)
        # A median is known to 1.25 sigma / sqrt(n).
        assert abs(median) < max(0.1, 3 * 1.25 / np.sqrt(n)), (label, kind)


def test_published_recipe_overestimates_bright_errors(mosaics, slow):
    """NOISE: the recipe takes DN for electrons, so bright sources scatter 1/sqrt(1.88) = 0.73 of their errors."""
    rows = tabulate(collect_pulls(mosaics, 1.88, "dja", range(1, 21) if slow else range(1, 4)))
    for label, kind, n, scatter, _ in rows:
        if label == "above 10 uJy" and kind in ('0.32"', '0.5"', '0.7"'):
            assert scatter == pytest.approx(0.75, abs=max(0.05, 3 * SCATTER_ERROR / np.sqrt(n))), kind
