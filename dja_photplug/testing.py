"""What the tests of a plugin need: plugins by hand, a manager, and a mosaic with known truth.

``pytest_plugins = ["dja_photplug.testing"]`` in the ``conftest.py`` of a plugin gives its tests the fixtures, which
can be imported too; their names stay, as those of `dja_photplug.plugin` do.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

# astropy and the rest are imported by what needs them: every run of pytest in the plugin loads this module.
if TYPE_CHECKING:
    from pluggy import PluginManager

    from dja_photplug.simulate.mosaic import SimulatedMosaic

__all__ = ["make_plugin", "photplug_manager", "photplug_mosaic"]


def make_plugin(**functions: Callable[..., object]) -> ModuleType:
    """Return functions as a plugin, which ``photplug_manager.register(plugin, name)`` takes.

    Parameters
    ----------
    **functions
        Implementations by the names of their hooks; ``hookimpl`` marks them here.

    Returns
    -------
    module

    Examples
    --------
    >>> from dja_photplug.plugin import Source
    >>> plugin = make_plugin(photplug_find=lambda text: Source(name=text, band="f200w"))
    >>> plugin.photplug_find("field.npz").band
    'f200w'
    """
    from dja_photplug.hookspecs import hookimpl

    plugin = ModuleType("plugin")
    for name, function in functions.items():
        setattr(plugin, name, hookimpl(function))
    return plugin


@pytest.fixture
def photplug_manager() -> PluginManager:
    """Return a new plugin manager with all plugins that are installed, for ``run(..., manager=photplug_manager)``."""
    from dja_photplug.plugins.manager import get_plugin_manager

    return get_plugin_manager()


@pytest.fixture(scope="session")
def photplug_mosaic(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMosaic:
    """Simulate a small mosaic of the archive with known truth, in less than a second; made once, so do not change it.

    240 x 320 pixels of 40 mas in F444W with 20 stars and galaxies, half of each, of 0.3 to 50 uJy, which do not
    overlap; science, weight, exposure map and WCS log. Without the extra ``demo`` a test that asks for it fails.

    Returns
    -------
    SimulatedMosaic
        Its `prefix` is what commands and functions take; `scene` is the table of sources with ``ra dec f444w_flux``;
        `truth_image` the noise-free image.
    """
    from dja_photplug.errors import PhotplugError
    from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, simulate_mosaic, simulate_scene

    scene = simulate_scene(
        SceneOptions(
            shape=(240, 320),
            bands=("f444w",),
            n_sources=20,
            star_fraction=0.5,
            flux_range=(0.3, 50),
            flux_slope=0,
            isolated=True,
            seed=5,
        )
    )
    try:
        return simulate_mosaic(
            tmp_path_factory.mktemp("photplug"), scene, MosaicOptions(root="sim-test-v1", n_exposures=2, seed=6)
        )
    except PhotplugError as error:  # no drizzle: one line, not the traceback of our files
        pytest.fail(f"photplug_mosaic: {error}", pytrace=False)
