"""Noise models of plugins: each block is looked at, and the image's pixels stay as they are."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance
from astropy.wcs import WCS

import dja_photplug as dp
from dja_photplug.errors import PhotplugError
from dja_photplug.plugins.models import GuardedModel
from dja_photplug.simulate.mosaic import SimulatedMosaic
from dja_photplug.testing import make_plugin


class Mine:
    """The noise model of a plugin."""

    def __init__(self, act: Callable[..., object], cards: object = None) -> None:
        self.act = act
        self.provenance = {"NOISE": ("mine", "of a plugin")} if cards is None else cards

    def __call__(self, science: object, weight: object, rows: slice) -> object:
        return self.act(science, weight)


def change(science: np.ndarray, weight: np.ndarray) -> np.ndarray:
    weight *= 0.5
    return weight


def double(science: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return 2 * weight


def load(act: Callable[..., object], simulated: SimulatedMosaic, cards: object = None) -> dp.MosaicImage:
    manager = dp.get_plugin_manager()
    manager.register(make_plugin(photplug_variance=lambda options: Mine(act, cards)), "mine")
    return dp.load_mosaic(simulated.prefix, noise="mine", manager=manager)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda science, weight: None, r"gave a weight of shape \(\) where"),
        (lambda science, weight: 1.0, r"gave a weight of shape \(\) where"),
        (lambda science, weight: weight[1:], r"gave a weight of shape \(\d+, 530\) where \(\d+, 530\) is needed"),
        (lambda science, weight: weight * u.Jy**-2, "gave a weight in 1 / Jy2 where plain numbers"),
        (lambda science, weight: np.ma.masked_greater(weight, 0), r"gave a weight with \d+ masked values"),
    ],
)
def test_what_is_no_weight_is_the_plugins(act, why, simulated):
    with pytest.raises(PhotplugError, match=f"plugin 'mine' in photplug_variance: its noise model {why}"):
        load(act, simulated)


@pytest.mark.parametrize("nothing", [np.nan, 0.0, -1.0, np.inf])
def test_a_weight_that_is_nowhere_is_the_plugins(nothing, simulated):
    """By whatever comes of it; the sky would be said to have no pixel."""
    told = (
        r"plugin 'mine' in photplug_variance: its noise model gave no positive weight to any of \d{6} pixels "
        "with a published one; give the inverse variance of each"
    )
    with pytest.raises(PhotplugError, match=told):
        load(lambda science, weight: np.full_like(weight, nothing), simulated)
    manager = dp.get_plugin_manager()
    manager.register(make_plugin(photplug_variance=lambda: Mine(lambda science, weight: weight * nothing)), "mine")
    header = {"TELESCOP": "JWST", "BUNIT": "10*nanoJansky"}
    with pytest.raises(PhotplugError, match=told.replace("{6}", "{3}")):
        dp.full_weight(np.ones((20, 20)), np.ones((20, 20)), None, header, "mine", manager=manager)


@pytest.mark.parametrize("nothing", [np.nan, -1.0])
def test_a_weight_that_half_of_the_pixels_lack_is_told(nothing, simulated):
    def forget(science, weight):
        return np.where(np.arange(weight.shape[1]) < 265, nothing, weight)

    with pytest.warns(
        dp.PhotplugWarning,
        match="clear: 50% of the pixels with weight get none from the noise model of plugin 'mine', and count",
    ):
        image = load(forget, simulated)
    assert (image.uncertainty.array[:, :265] == 0).all()
    assert image.mask[:, :265].all()


def test_a_model_cannot_change_the_image(simulated):
    with pytest.raises(PhotplugError, match="plugin 'mine' failed in photplug_load: ValueError.*read-only"):
        load(change, simulated)


@pytest.mark.parametrize("cards", [{"NOISE": "mine"}, {"NOISE": (["mine"], "")}, {1: ("mine", "")}])
def test_cards_that_are_none_are_the_plugins(cards, simulated):
    with pytest.raises(PhotplugError, match="plugin 'mine' in photplug_variance: its noise model gave the card"):
        load(double, simulated, cards)


def test_a_model_goes_with_its_image(simulated):
    """As others do, also to another process."""
    image = load(double, simulated)
    np.testing.assert_array_equal(image.uncertainty.array, 2 * image.background_weight)
    again = pickle.loads(pickle.dumps(GuardedModel(Mine(double), ("mine",))))
    np.testing.assert_array_equal(again(np.ones((2, 2)), np.full((2, 2), 3.0), slice(0, 2)), 6)


@pytest.mark.parametrize("axes", [["RA---TAN", "DEC--TAN", "FREQ"], ["", ""]])
def test_a_loader_gives_two_axes_on_the_sky(axes):
    wcs = WCS(naxis=len(axes))
    wcs.wcs.ctype = axes
    planes = {"unit": "uJy", "uncertainty": InverseVariance(np.ones((5, 5)))}
    plugin = make_plugin(photplug_load=lambda source: CCDData(np.ones((5, 5)), wcs=wcs, **planes))
    manager = dp.get_plugin_manager()
    manager.register(plugin, "mine")
    with pytest.raises(PhotplugError, match=r"thing: the loaded image has a WCS of axes .*; a loader must give one of"):
        dp.load_mosaic("thing", manager=manager)


def test_what_a_loader_gives_of_a_name_is_not_said_to_be_no_name():
    """The name is a plugin's own: that it is none of a DJA mosaic is no news where it was loaded."""
    manager = dp.get_plugin_manager()
    manager.register(make_plugin(photplug_load=lambda source: np.ones((5, 5))), "mine")
    with pytest.raises(PhotplugError) as caught:
        dp.load_mosaic("thing", manager=manager)
    assert str(caught.value) == "plugin 'mine' in photplug_load: loading thing: gave a ndarray where a NDData is needed"
