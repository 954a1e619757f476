"""Names of i2d files: bands, grids, logs, and what is beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from i2d_files import CENTRE, F200W, F444W

from dja_photplug.plugin import PhotplugError, pixel_scale
from photplug_jwst_i2d.source import find_i2d


@pytest.mark.parametrize(
    ("name", "band"),
    [
        (F200W, "f200w"),
        ("jw01345-c1001_t021_nircam_f444w-f470n_i2d.fits", "f444w_f470n"),
        ("jw01345-o001_t021_nircam_f150w2-f162m-sub160_i2d.fits", "f150w2_f162m"),
        ("jw02079-o004_t001_niriss_clear-f200w_i2d.fits", "f200wn"),
        ("jw02079-o004_t001_niriss_clearp-f356w_i2d.fits", "f356wn"),
        ("jw01345-a3001_t021_miri_f1000w_i2d.fits", "f1000w"),
    ],
)
def test_band_is_that_of_the_name(name: str, band: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    source = find_i2d(str(tmp_path / name))
    assert source is not None
    assert (source.band, source.log, str(source)) == (band, None, str(tmp_path / name))


@pytest.mark.parametrize(
    "name", ["gds-grizli-v7.2-f444w-clear_drc_sci.fits", "jw01345001001_02101_00001_nrca1_i2d.fits", "jw01345"]
)
def test_other_names_are_left_to_others(name: str) -> None:
    assert find_i2d(name) is None


def test_missing_file_is_named() -> None:
    with pytest.raises(PhotplugError, match=f"^nowhere/{F200W}: no such file$"):
        find_i2d(f"nowhere/{F200W}")


def test_log_beside_the_mosaic_is_found(tmp_path: Path) -> None:
    (tmp_path / F200W).touch()
    log = tmp_path / "jw01345-o001_t021_nircam_clear-f200w_wcs.csv"
    log.touch()
    source = find_i2d(str(tmp_path / F200W))
    assert source is not None
    assert source.log == log


def test_grid_and_the_other_filter(i2d: dict[str, Path]) -> None:
    source = find_i2d(str(i2d["f200w"]))
    assert source is not None
    grid = source.grid()
    assert grid.shape == (400, 400)
    assert pixel_scale(grid.wcs) == pytest.approx(0.03)
    np.testing.assert_allclose(grid.wcs.wcs_pix2world([[199.5, 199.5]], 0), [CENTRE])
    beside = source.beside("f444w")
    assert beside is not None
    assert beside.path.name == F444W
    assert source.beside("f115w") is None
