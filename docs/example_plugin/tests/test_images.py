"""Pixels of i2d files: units, the three parts of the noise, and what is no i2d file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from i2d_files import F200W, PHOTON, READ, SKY

from dja_photplug import load_mosaic
from dja_photplug.plugin import PhotplugError

TO_UNIT = 1e14  # 10 nJy in 1 MJy


def test_units_and_noise(i2d: dict[str, Path]) -> None:
    image = load_mosaic(i2d["f200w"])
    science, header = fits.getdata(i2d["f200w"], "SCI", header=True)
    factor = header["PIXAR_SR"] * TO_UNIT
    data = ~image.mask
    assert image.unit == "10 nJy"
    assert (~data).sum() == 400**2 - 384**2
    np.testing.assert_allclose(image.data[data], factor * (science[data] - np.median(science[data])), rtol=0, atol=1e-3)
    error = fits.getdata(i2d["f200w"], "ERR")
    np.testing.assert_allclose(image.uncertainty.array[data], (factor * error[data]) ** -2, rtol=1e-5)
    # Without sources the background is sky photons and read noise; the median pixel has a little light of sources.
    sky = factor**2 * (PHOTON * SKY + READ**2)
    assert np.median(1 / image.background_weight[data]) == pytest.approx(sky, rel=1e-4)
    # On the brightest source, photons are far more than those of the sky; none is in the background.
    brightest = np.nanargmax(np.where(data, science, np.nan))
    assert 1 / image.background_weight.flat[brightest] < 1.1 * sky
    assert 1 / image.uncertainty.array.flat[brightest] > 10 * sky
    assert (image.meta["VARFILE"], image.meta["FILTER"]) == (F200W, "F200W")


def test_presets(i2d: dict[str, Path]) -> None:
    image = load_mosaic(i2d["f200w"])
    background = load_mosaic(i2d["f200w"], "background")
    np.testing.assert_array_equal(background.uncertainty.array, image.background_weight)
    flat = load_mosaic(i2d["f200w"], "flat")
    data = ~image.mask
    added = 1 / flat.uncertainty.array[data] - 1 / image.uncertainty.array[data]
    np.testing.assert_allclose(added, (0.01 * image.data[data]) ** 2, rtol=1e-3, atol=2e-5)
    assert [each.meta.get("VARFILE") for each in (background, flat)] == [None, None]
    assert [each.meta["NOISE"] for each in (image, background, flat)] == ["dja", "background", "flat"]


def test_files_that_are_none(i2d: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / F200W
    with fits.open(i2d["f200w"]) as hdus:
        hdus["SCI"].header["BUNIT"] = "DN/s"
        hdus.writeto(path)
    with pytest.raises(PhotplugError, match="SCI is in DN/s, not in MJy/sr"):
        load_mosaic(path)
    fits.writeto(path, np.ones((3, 3)), overwrite=True)
    with pytest.raises(PhotplugError, match=f"{F200W}: no i2d file of the JWST pipeline .*SCI"):
        load_mosaic(path)
