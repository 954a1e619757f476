"""Three small fields, one of them in two bands, and the list of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field

LIST = """
[options.variance]
noise = "dja"

[fields.one]
bands = ["data/one-v1-f444w-clear"]

[fields.two]
pattern = "data/two-v1-*_sci.fits"

[fields.three]
bands = ["data/three-v1-f444w-clear_drc_sci.fits"]

[fields.three.options.detect]
n_sigma = 2.0
"""


@pytest.fixture(scope="session")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields") / "data"
    for seed, (name, bands) in enumerate({"one": ("f444w",), "two": ("f444w", "f115w"), "three": ("f444w",)}.items()):
        field = simulate_field(FieldOptions(shape=(160, 180), density=900.0, seed=seed))
        for band in bands:
            write_field(field, folder, f"{name}-v1", f"{band}-clear")
    return folder


@pytest.fixture
def place(mosaics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the mosaics in `data` and `fields.toml`, which is the working directory."""
    shutil.copytree(mosaics, tmp_path / "data")
    (tmp_path / "fields.toml").write_text(LIST)
    monkeypatch.chdir(tmp_path)
    return tmp_path
