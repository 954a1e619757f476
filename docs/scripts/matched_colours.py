"""Print colours in the UDS cut-outs before and after F115W is brought to the PSF of F444W.

python docs/scripts/matched_colours.py

Of injected point sources of known flux, over the truth; and of the brightest compact sources of the field, by aperture.
DJA_PHOTPLUG_DATA names the folder of the cut-outs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

import dja_photplug as dp
from dja_photplug.matching.kernels import Target
from dja_photplug.mosaic.image import MosaicImage, replace_planes
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.psf.model import PSF, half_light_radius, read_psf

Floats = NDArray[np.float64]

BANDS = {"f444w": "psf-ceers-nrca5-f444w.fits", "f115w": "psf-ceers-nrca3-f115w.fits"}
APERTURES = (0.32, 0.36, 0.5, 0.7, 1.0)
SCALE = 0.04
FLUX = {"f444w": 3.0, "f115w": 2.0}  # uJy, of injected sources
CLEAR, APART, COUNT = 40, 80, 200  # pixels to the next segment, and to each other
COMPACT, BRIGHTEST = 2.0, 50  # half-light radii of a point source, and how many sources


def measure(images: dict[str, MosaicImage], psfs: dict[str, PSF], options: dp.Options) -> dict[str, QTable]:
    """Return the tables of both bands, detected on F444W and brought to its PSF."""
    target = Target(name="f444w", psf=psfs["f444w"])
    first = analyse_image(images["f444w"], options, psf=psfs["f444w"], target=target)
    sources = first.detection.sources.copy()
    sources["kron_radius"] = first.catalog["kron_radius"]
    known = replace(first.detection, sources=sources, uncleaned=None)
    second = analyse_image(images["f115w"], options, psf=psfs["f115w"], detection=known, target=target)
    return {"f444w": first.catalog, "f115w": second.catalog, "segments": first.detection.segmentation}


def choose_places(segments: NDArray[np.int32], mask: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Return pixels (y, x) far from sources, from the edges, and from each other."""
    distance = distance_transform_edt(np.pad((segments == 0) & ~mask, 1))[1:-1, 1:-1]
    chosen: list[NDArray[np.intp]] = []
    clear = np.random.default_rng(seed).permutation(np.argwhere(distance > CLEAR))
    for place in clear:
        if all(np.hypot(*(place - other)) > APART for other in chosen):
            chosen.append(place)
    return np.array(chosen[:COUNT])


def inject(image: MosaicImage, psf: PSF, flux: float, places: NDArray[np.intp]) -> MosaicImage:
    """Return an image with the PSF's own pixels at places: moved within a pixel they would be broader."""
    data, (ny, nx) = image.data.copy(), psf.data.shape
    for y, x in places:
        top, left = y - ny // 2, x - nx // 2
        rows, columns = slice(max(top, 0), top + ny), slice(max(left, 0), left + nx)
        part = data[rows, columns]
        stamp = psf.data[rows.start - top :, columns.start - left :][: part.shape[0], : part.shape[1]]
        part += (100 * flux * stamp).astype(np.float32)
    return replace_planes(image, data=data)


def ratios(tables: dict[str, QTable], name: str) -> Floats:
    """Return F115W over F444W of all apertures, (n, apertures)."""
    return np.column_stack([
        (tables["f115w"][f"{name}_{i}"] / tables["f444w"][f"{name}_{i}"]).value for i in range(len(APERTURES))
    ])  # fmt: skip


def print_row(name: str, cells: list[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    folder = Path(os.environ["DJA_PHOTPLUG_DATA"]) / "uds"
    options = dp.Options(measure=dp.MeasureOptions(apertures=APERTURES))
    psfs = {band: read_psf(folder / name, SCALE) for band, name in BANDS.items()}
    prefixes = {band: dp.find_mosaic(folder / f"uds-test-v7.4-{band}-clear") for band in BANDS}
    images = {band: dp.load_mosaic(prefix, noise="calibrated") for band, prefix in prefixes.items()}
    field = measure(images, psfs, options)
    head = [f'{diameter:.2f}"' for diameter in APERTURES]

    parts: dict[str, list[Floats]] = {"flux_aper": [], "match_aper": []}
    for seed in (1, 2, 3):
        places = choose_places(field["segments"], images["f444w"].mask | images["f115w"].mask, seed)
        injected = {band: inject(images[band], psfs[band], FLUX[band], places) for band in BANDS}
        tables = measure(injected, psfs, options)
        centres = places + np.subtract(psfs["f444w"].centre, np.array(psfs["f444w"].data.shape) // 2)
        found = np.column_stack([tables["f444w"]["y"].value, tables["f444w"]["x"].value])
        distance, row = KDTree(found).query(centres)
        for name in parts:
            parts[name].append(ratios(tables, name)[row[distance < 2]] / (FLUX["f115w"] / FLUX["f444w"]))
    print_row(f"injected point sources [{sum(map(len, parts['flux_aper']))}]", head)
    print("| --- |" + " ---: |" * len(head))
    for name, what in (("flux_aper", "as they are"), ("match_aper", "matched")):
        print_row(what, [f"{100 * (value - 1):+.1f} %" for value in np.median(np.concatenate(parts[name]), axis=0)])

    size = field["f444w"]["flux_radius"].value / half_light_radius(psfs["f444w"], 0.35)
    compact = (size < COMPACT) & np.all(ratios(field, "match_aper") > 0, axis=1) & (field["f115w"]["mask_frac"] == 0)
    brightest = np.flatnonzero(compact)[np.argsort(-field["f444w"]["flux_auto"].value[compact])][:BRIGHTEST]
    print()
    print_row(f"brightest compact sources [{len(brightest)}]", [*head, "trend, mag per arcsec"])
    print("| --- |" + " ---: |" * (len(head) + 1))
    for name, what in (("flux_aper", "as they are"), ("match_aper", "matched")):
        colour = -2.5 * np.log10(np.where(ratios(field, name) > 0, ratios(field, name), np.nan))[brightest]
        offsets = np.nanmedian(colour - colour[:, -1:], axis=0)
        slopes = [np.polyfit(APERTURES, one, 1)[0] for one in colour if np.isfinite(one).all()]
        error = 1.2533 * np.std(slopes) / np.sqrt(len(slopes))
        print_row(what, [*(f"{value:+.3f}" for value in offsets), f"{np.median(slopes):+.3f} ({error:.3f})"])
