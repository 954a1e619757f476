"""Fixtures: those of dja_photplug, and a folder of i2d files in two bands."""

from __future__ import annotations

from pathlib import Path

import pytest
from i2d_files import F200W, F444W, write_i2d

pytest_plugins = ["dja_photplug.testing"]


@pytest.fixture(scope="session")
def i2d(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of i2d files of one field, by band."""
    folder = tmp_path_factory.mktemp("mast")
    return {
        "f200w": write_i2d(folder / F200W, pixel=0.03),
        "f444w": write_i2d(folder / F444W, pixel=0.06, seed=2),
    }
