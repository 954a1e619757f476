"""The plugin in dja_photplug: catalogues of i2d files, the preset and the column on a DJA mosaic, the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from i2d_files import FLUX

import dja_photplug as dp
from dja_photplug.testing import make_plugin
from photplug_jwst_i2d.command import run as run_command
from photplug_jwst_i2d.options import FlatOptions


def test_fluxes_and_errors_of_i2d_files(i2d: dict[str, Path], photplug_manager) -> None:
    catalog = dp.run([i2d["f200w"], i2d["f444w"]], manager=photplug_manager).catalog
    assert len(catalog) == len(FLUX)
    for band in ("f200w", "f444w"):
        flux, error = (np.sort(catalog[f"{band}_{name}"].value) for name in ("flux_aper_3", "fluxerr_aper_3"))
        # 0.5 arcsec are 7 sigma of the sources, so nothing is outside.
        pull = (flux - FLUX) / error
        assert abs(pull.mean()) < 1
        assert 0.5 < pull.std() < 1.5
        column = catalog[f"{band}_fluxerr_flat"]
        np.testing.assert_allclose(column, 0.01 * catalog[f"{band}_flux_auto"])
        assert column.info.description == "error of flux_auto by a flat field that is wrong by 0.01"


def test_flat_noise_of_a_dja_mosaic(photplug_mosaic, photplug_manager) -> None:
    plain = dp.load_mosaic(photplug_mosaic.prefix, "calibrated", manager=photplug_manager)
    options = dp.Options(variance=dp.VarianceOptions(noise="flat"), plugins={"flat": FlatOptions(error=0.05)})
    result = dp.run([photplug_mosaic.prefix], options, manager=photplug_manager)
    data = ~plain.mask
    added = 1 / result.image.uncertainty.array[data] - 1 / plain.uncertainty.array[data]
    np.testing.assert_allclose(
        added, (0.05 * plain.data[data]) ** 2, rtol=1e-3, atol=1e-5 / plain.uncertainty.array.max()
    )
    meta = result.catalog.meta
    assert (meta["NOISE"], meta["FLATERR"], meta["GROWTH"]) == ("flat", 0.05, "registered")
    assert result.calibration is not None
    np.testing.assert_allclose(result.catalog["fluxerr_flat"], 0.05 * np.abs(result.catalog["flux_auto"]))


def test_other_plugins_are_asked_too(i2d: dict[str, Path], photplug_manager) -> None:
    bands = []
    photplug_manager.register(make_plugin(photplug_columns=lambda band: bands.append(band)), "listener")
    dp.run([i2d["f444w"]], dp.Options(variance=dp.VarianceOptions(noise="dja")), manager=photplug_manager)
    assert bands == ["f444w"]


def test_command(i2d: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run_command(SimpleNamespace(mosaic=str(i2d["f200w"]), aperture=0.32))
    # In 30 mas 1 MJy/sr is 21.154 nJy: the sky is 0.25 of them, and the noise the root of 0.00025 + 0.0001.
    assert capsys.readouterr().out.splitlines()[:4] == [
        "source      jw01345-o001_t021_nircam_clear-f200w   band f200w",
        "sky         5.299 nJy in the median of 147456 pixels with data",
        "noise       0.396 nJy in the median pixel",
        "variance    71.4% photons, 28.6% read noise",
    ]
    with pytest.raises(dp.PhotplugError, match=r"^field: not the name of an i2d mosaic"):
        run_command(SimpleNamespace(mosaic="field", aperture=0.32))


def test_hooks_are_light() -> None:
    """`dja-photplug --help` imports the hooks: they must not take half a second of astropy."""
    code = "import sys, photplug_jwst_i2d.hooks; print({'astropy', 'numpy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown == "set()\n"
