"""Pixels and weights that are odd, or contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray

from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
KIND = "Pixels and weights"
CATALOG = f"catalog {PREFIX} -o cat.fits --noise dja"
WEIGHT = f"weight {PREFIX} -o full.fits"
Plane = NDArray[np.generic]
BLOCK = np.s_[100:110, 200:210]


def change(kind: str, folder: Path, edit: Callable[[Plane], Plane]) -> None:
    """Change the pixels of a product."""
    path = folder / f"{PREFIX}_drc_{kind}.fits.gz"
    pixels, header = fits.getdata(path, header=True)
    fits.writeto(path, edit(pixels), header, overwrite=True)


def scale(factor: float) -> Callable[[Path], None]:
    """Return what multiplies the weight."""
    return partial(change, "wht", edit=lambda pixels: pixels * np.float32(factor))


def put(kind: str, value: float, where: tuple[slice, slice] = BLOCK) -> Callable[[Path], None]:
    """Return what puts a value into a block of pixels."""

    def edit(pixels: Plane) -> Plane:
        pixels = pixels.copy()
        pixels[where] = value
        return pixels

    return partial(change, kind, edit=edit)


def half_map(pixels: Plane) -> Plane:
    """Return an exposure map of the left half."""
    return np.where(np.arange(pixels.shape[1]) < pixels.shape[1] // 2, pixels, 0).astype(pixels.dtype)


def add_sky(pixels: Plane) -> Plane:
    """Return an image with a fifth of the median sigma of this mosaic as its sky, and more."""
    return pixels + np.float32(1.0)


def check_null(folder: Path) -> None:
    """See weight 0 in the block, and finite weights all over."""
    full = fits.getdata(folder / "full.fits")
    assert (full[BLOCK] == 0).all()
    assert np.isfinite(full).all()
    assert (full >= 0).all()
    assert np.count_nonzero(full) > 0.9 * full.size


def check_sources(folder: Path) -> None:
    """See the sources of the mosaic."""
    assert len(QTable.read(folder / "cat.fits")) > 20


def make(
    given: str,
    outcome: str,
    prepare: Callable[[Path], object],
    command: str = CATALOG,
    *says: str,
    check: object = None,
) -> Case:
    return Case(kind=KIND, given=given, command=command, outcome=outcome, says=says, prepare=prepare, check=check)


CASES = (
    make("negative weights in a part", "obeyed", put("wht", -4), WEIGHT, check=check_null),
    make("weights that are NaN in a part", "obeyed", put("wht", np.nan), WEIGHT, check=check_null),
    make("infinite weights in a part", "obeyed", put("wht", np.inf), WEIGHT, check=check_null),
    make("science pixels that are NaN in a part", "obeyed", put("sci", np.nan), WEIGHT, check=check_null),
    make("infinite science pixels in a part", "obeyed", put("sci", -np.inf), WEIGHT, check=check_null),
    make("negative weights all over", "refused", scale(-1), CATALOG),
    make("a weight ten times too small in sigma", "warned", scale(100), CATALOG, "scatter by 5.", check=check_sources),
    make("a weight five times too large in sigma", "warned", scale(1 / 25), CATALOG, "--trust-weights"),
    make(
        "a weight that is sigma, 1892 times off",
        "refused",
        scale(1892.0**2),
        CATALOG,
        "times the sigma of the weight",
        "--trust-weights",
    ),
    make(
        "a weight 1892 times off in a cut-out",
        "refused",
        scale(1892.0**2),
        f"{CATALOG} --cutout 34.4 -5.2 1.6",
        "--trust-weights",
    ),
    make("a weight far too small", "refused", scale(1e-4), WEIGHT, "--trust-weights"),
    make("a weight that is trusted", "obeyed", scale(100), f"{CATALOG} --trust-weights", check=check_sources),
    make("an image of zeros", "refused", put("sci", 0, np.s_[:, :]), CATALOG, "scatter by 0 times"),
    make(
        "an exposure map of half of the image",
        "warned",
        partial(change, "exp", edit=half_map),
        WEIGHT,
        "sim-test-v7.4-f444w-clear: ",
        "% of the pixels with weight have no exposure time",
    ),
    make(
        "an exposure map of zeros", "warned", partial(change, "exp", edit=np.zeros_like), WEIGHT, "100% of the pixels"
    ),
    make(
        "sky that was left in",
        "warned",
        partial(change, "sci", edit=add_sky),
        CATALOG,
        "sigma in empty apertures",
        "--sky mesh",
    ),
    make(
        "sky that was left in and is taken off",
        "obeyed",
        partial(change, "sci", edit=add_sky),
        f"{CATALOG} --sky mesh",
        check=check_sources,
    ),
)
