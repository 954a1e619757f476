"""Cut-outs that reach over the edge of a mosaic, which are told in the unit that they are asked for in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from regions import CirclePixelRegion, CircleSkyRegion, PixCoord

import dja_photplug as dp
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.plugin import Source
from dja_photplug.sky.cutouts import describe_edge
from dja_photplug.sky.grid import Grid
from dja_photplug.testing import make_plugin
from tests.helpers import make_image, make_wcs


@dataclass(frozen=True, kw_only=True)
class Mine(Source):
    """A source of a plugin, which may know its grid."""

    own: Grid | None = None

    def grid(self) -> Grid | None:
        return self.own


SHAPE = (200, 300)  # 8 x 12 arcsec
GRID = make_wcs(crpix=(150.5, 100.5))
MIDDLE, LEFT = GRID.pixel_to_world(149.5, 99.5), GRID.pixel_to_world(24.5, 99.5)
PLACE = "around 34.3 -5.1 reaches over the edge of the mosaic of 300 x 200 pixels"


@pytest.mark.parametrize(
    ("cutout", "told"),
    [
        (None, ""),
        ((MIDDLE, 8 * u.arcsec), ""),
        ((MIDDLE, 10 * u.arcsec), f"cut-out of 10.0 arcsec {PLACE}: 10 x 8 of its 10 x 10 arcsec are on it"),
        ((MIDDLE, [0.1, 0.4] * u.arcmin), f"{PLACE}: 0.2 x 0.1 of its 0.4 x 0.1 arcmin are on it"),
        ((LEFT, 4 * u.arcsec), ": 3 x 4 of its 4 x 4 arcsec are on it"),
        ((LEFT, 0.04 * u.arcsec), ""),
        ((slice(0, 200), slice(-300, None)), ""),
        (np.s_[:250, 20:], "cut-out [:250, 20:] reaches over the edge of the mosaic of 300 x 200 pixels: "
         "280 x 200 of its 280 x 250 pixels are on it"),
        (np.s_[-250:, :], ": 300 x 200 of its 300 x 250 pixels are on it"),
        (CirclePixelRegion(PixCoord(5, 50), 10), ": 16 x 21 of its 21 x 21 pixels are on it"),
        (CircleSkyRegion(LEFT, 2 * u.arcsec), ": 3.04 x 4.08 of its 4.08 x 4.08 arcsec are on it"),
        ((SkyCoord(35, -5, unit="deg"), 1 * u.arcsec), ""),  # which is refused
    ],
)  # fmt: skip
def test_how_much_is_on_the_mosaic(cutout: object, told: str) -> None:
    found = describe_edge(cutout, GRID, SHAPE)
    assert bool(found) == bool(told)
    assert found.endswith(told)


def test_it_is_told_whoever_loads(simulated) -> None:
    """530 x 401 pixels."""
    told = r"cut-out \[:500, 10:\] .* 530 x 401 pixels: 520 x 401 of its 520 x 500 pixels are on it"
    with pytest.warns(PhotplugWarning, match=told):
        image = dp.load_mosaic(simulated.prefix, "background", cutout=np.s_[:500, 10:])
    assert image.shape == (401, 520)
    for knows in (True, False):  # a plugin's, which loads the whole
        grid = Grid(image.wcs, image.shape) if knows else None
        plugin = make_plugin(
            photplug_load=lambda source: image,
            photplug_find=lambda text, grid=grid: Mine(name=text, label=text, own=grid),
        )
        manager = dp.get_plugin_manager()
        manager.register(plugin, "mine")
        with pytest.warns(PhotplugWarning) as caught:
            assert dp.load_mosaic("thing", cutout=np.s_[300:500, :50], manager=manager).shape == (101, 50)
        assert str(caught[0].message).endswith(" 520 x 401 pixels: 50 x 101 of its 50 x 200 pixels are on it")
    places = image.wcs.pixel_to_world([0.0, 250, -300], [200.0, 200, 0])
    with pytest.warns(PhotplugWarning, match="clear: 1 of 2 cut-outs reach over its edge, and are smaller"):
        parts = dp.cutouts(places, [simulated.prefix], 2 * u.arcsec, "background")["f444w"]
    assert [None if part is None else part.shape for part in parts] == [(50, 35), (50, 50), None]


@pytest.mark.parametrize(
    "item", [np.s_[::-1], np.s_[::2], np.s_[:, ::3], np.s_[5], np.s_[5, 6], np.s_[:3, 5], np.s_[...], np.s_[[1, 2]]]
)
def test_an_image_is_cut_by_slices_without_steps(item: object) -> None:
    image = make_image(np.ones((20, 30)), background=1.0)
    with pytest.raises(
        PhotplugError, match=r"a part of an image: .*; take image\[rows, columns\] with slices"
    ) as caught:
        image[item]
    assert "\n" not in str(caught.value)
    assert image[2:7, 3:].shape == image[np.s_[2:7:1, 3:]].shape == (5, 27)
    assert image[4:].shape == (16, 30)
