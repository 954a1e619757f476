"""What plugin authors test with: the fixtures by name, and without the simulator's extra."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from pluggy import PluginManager

import dja_photplug as dp
from dja_photplug.plugins.manager import BUILTINS
from dja_photplug.simulate.mosaic import SimulatedMosaic
from dja_photplug.testing import make_plugin

ROOT = Path(__file__).resolve().parents[1]


def test_plugin_in_the_manager_on_the_mosaic(photplug_manager: PluginManager, photplug_mosaic: SimulatedMosaic) -> None:
    assert {name for name, _ in photplug_manager.list_name_plugin()} == set(BUILTINS)
    doubled = make_plugin(photplug_columns=lambda catalog: {"twice": 2 * catalog["flux_auto"]})
    photplug_manager.register(doubled, "doubled")
    options = dp.Options(variance=dp.VarianceOptions(noise="dja"))
    catalog = dp.run([photplug_mosaic.prefix], options, manager=photplug_manager).catalog
    np.testing.assert_array_equal(catalog["twice"], 2 * catalog["flux_auto"])
    scene = photplug_mosaic.scene
    assert (len(catalog), len(scene)) == (20, 20)
    nearest, distance, _ = SkyCoord(scene["ra"], scene["dec"]).match_to_catalog_sky(
        SkyCoord(catalog["ra"], catalog["dec"])
    )
    assert distance.max() < 0.1 * u.arcsec
    # The Kron ellipses of stars and Sersic galaxies hold 75 to 101 % of their light, noise included.
    ratio = (catalog["flux_auto"][nearest] / scene["f444w_flux"]).to_value(u.one)
    assert ratio.min() > 0.7
    assert ratio.max() < 1.1


def test_manager_is_new_in_each_test(photplug_manager: PluginManager) -> None:
    assert photplug_manager.get_plugin("doubled") is None


def test_tests_of_a_plugin_without_the_simulator(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        'import sys\n\npytest_plugins = ["dja_photplug.testing"]\nsys.modules["drizzle"] = None  # not installed\n'
    )
    (tmp_path / "test_it.py").write_text(
        "import sys\n\n\ndef test_light():\n    assert 'astropy' not in sys.modules\n\n\n"
        "def test_it(photplug_mosaic):\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "")
    said = [line for line in ran.stdout.splitlines() if line.startswith("photplug_mosaic")]
    assert said == [
        "photplug_mosaic: simulating a mosaic needs STScI's drizzle, which is not installed: pip install "
        '"dja_photplug[demo]"'
    ]
    assert "1 passed, 1 error" in ran.stdout
    assert "Traceback" not in ran.stdout
