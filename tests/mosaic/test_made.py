"""A full weight that is made where somebody looks at it, beside one that is kept."""

import pickle

import numpy as np
import pytest
from astropy.nddata import InverseVariance

import dja_photplug as dp
from dja_photplug.mosaic.blocks import Planes, null_pixels, variance_map
from dja_photplug.mosaic.changes import share_image
from dja_photplug.mosaic.image import MosaicImage, keep_weight, replace_planes
from dja_photplug.mosaic.load import load_mosaic
from dja_photplug.mosaic.made import MadeUncertainty, MadeWeight
from dja_photplug.parallel.scratch import dump_shared, open_scratch

WINDOW = np.s_[37:290, 50:420]


@pytest.fixture(params=["dja", "calibrated"])
def images(simulated, request, tmp_path):
    """Yield the image with a full weight that is kept, and one whose weight is made."""
    kept = load_mosaic(simulated.prefix, request.param)
    with open_scratch(tmp_path):
        yield kept, load_mosaic(simulated.prefix, request.param, keep_weight=False)


def is_made(image: MosaicImage) -> bool:
    return isinstance(image.uncertainty, MadeUncertainty) and isinstance(image.uncertainty.weight, MadeWeight)


def test_it_is_the_same_bit_by_bit(images):
    kept, made = images
    assert is_made(made)
    assert not is_made(kept)
    np.testing.assert_array_equal(null_pixels(made), null_pixels(kept))
    for kind in ("full", "background"):
        np.testing.assert_array_equal(variance_map(made, kind), variance_map(kept, kind))
    for part, other in zip((made[WINDOW], made[WINDOW][3:90, 7:]), (kept[WINDOW], kept[WINDOW][3:90, 7:]), strict=True):
        assert is_made(part)
        np.testing.assert_array_equal(variance_map(part), variance_map(other))
        np.testing.assert_array_equal(null_pixels(part), null_pixels(other))
        rows = slice(11, 40)
        np.testing.assert_array_equal(Planes.of(part)[rows].variance(), Planes.of(other)[rows].variance())
    assert is_made(made)  # nobody asked for all of it
    np.testing.assert_array_equal(made.uncertainty.array, kept.uncertainty.array)
    assert not is_made(made)
    assert made.meta["NNULL"] == kept.meta["NNULL"]
    assert made.meta["NFILLED"] == kept.meta["NFILLED"]


def test_other_images_share_it_or_keep_it(images, tmp_path):
    kept, made = images
    expected = kept.uncertainty.array
    assert share_image(made) is made
    assert is_made(replace_planes(made, data=made.data + 1))
    np.testing.assert_array_equal(replace_planes(made, data=made.data + 1).uncertainty.array, expected)
    for image in (keep_weight(made), made.copy()):
        assert type(image.uncertainty) is InverseVariance
        np.testing.assert_array_equal(image.uncertainty.array, expected)
    made.write(tmp_path / "image.fits")
    np.testing.assert_array_equal(MosaicImage.read(tmp_path / "image.fits").uncertainty.array, expected)
    np.testing.assert_array_equal(made.uncertainty[::2, ::3].array, expected[::2, ::3])
    with np.errstate(divide="ignore"):  # astropy divides by weights of 0
        doubled = made.multiply(2)
    np.testing.assert_allclose(doubled.uncertainty.array, expected / 4, rtol=1e-6)


def test_a_worker_gets_its_name(images):
    kept, made = images
    stored = dump_shared(made)
    assert len(stored) < 200_000  # the planes have 530 x 430 x 13 bytes
    there = pickle.loads(stored)
    assert is_made(there)
    np.testing.assert_array_equal(variance_map(there[WINDOW]), variance_map(kept[WINDOW]))


def test_models_of_others_and_users_have_a_plane(simulated, tmp_path):
    """A noise model that is a plugin's is asked once for each pixel, and what is loaded for a user is an array."""
    with open_scratch(tmp_path):
        doubled = load_mosaic(simulated.prefix, variance=lambda header, exposure, log: Doubled(), keep_weight=False)
        assert not is_made(doubled)
        assert not is_made(load_mosaic(simulated.prefix, "background", keep_weight=False))
        assert not is_made(dp.load_mosaic(simulated.prefix))
    image = dp.load_mosaic(simulated.prefix, scratch=tmp_path)
    assert type(image.uncertainty) is InverseVariance
    np.testing.assert_array_equal(image.uncertainty.array, dp.load_mosaic(simulated.prefix).uncertainty.array)


class Doubled:
    """A noise model of somebody else."""

    provenance = {}

    def __call__(self, science, weight, rows):
        return 2 * weight
