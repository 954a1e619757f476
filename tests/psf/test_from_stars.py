"""PSFs of stars whose PSF is known: which sources are stars, and what the stack keeps of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.special import erf

import dja_photplug as dp
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.cli.app import main
from dja_photplug.errors import PhotplugError
from dja_photplug.figures.psf import stars_figure
from dja_photplug.psf.from_stars import RADII, stack_stars
from dja_photplug.psf.model import encircled_energy, read_psf
from dja_photplug.psf.sampling import sample_psf
from dja_photplug.psf.star_stamps import cut_stars, find_isolated, find_stars
from dja_photplug.psf.wings import find_total
from dja_photplug.simulate.diffraction import filter_wavelength, make_psf
from tests.helpers import SCALE, expect_error, make_image, plain

SIDE, STEP = 61, 100
SIGMA = 2.2  # pixels


def star(shape: tuple[int, int], x: float, y: float, sigma: float = SIGMA) -> NDArray[np.float64]:
    """Return a Gaussian of unit flux integrated over pixels."""
    edges = [(np.arange(n + 1) - 0.5 - c) / sigma / np.sqrt(2) for n, c in zip(shape, (y, x), strict=True)]
    return np.outer(*(np.diff(erf(edge)) / 2 for edge in edges))


def make_table(size: NDArray[np.float64], flux: NDArray[np.float64], **columns: NDArray[np.generic]) -> QTable:
    n = len(size)
    table = QTable({"id": np.arange(1, n + 1), "x": STEP * np.arange(n) * u.pix, "y": np.zeros(n) * u.pix})
    table["flux_radius"], table["flux_auto"] = size * u.arcsec, flux * u.uJy
    table["fluxerr_auto"], table["flag"] = np.full(n, 0.01) * u.uJy, np.zeros(n, int)
    for name, values in columns.items():
        table[name] = values
    return table


def make_field(
    rng: np.random.Generator, number: int = 25, noise: float = 1e-4
) -> tuple[QTable, dp.MosaicImage, NDArray[np.int32]]:
    """Return stars on a grid, with a neighbour beside each third, a hole in the wings of each fourth, and noise."""
    shape = (STEP * 5, STEP * (number // 5))
    places = STEP * (np.stack(np.divmod(np.arange(number), shape[1] // STEP)) + 0.5) + rng.uniform(
        -0.5, 0.5, (2, number)
    )
    flux = rng.uniform(1, 5, number)
    data, segments = rng.normal(0, noise, shape), np.zeros(shape, np.int32)
    weight = np.full(shape, noise**-2)
    for i, ((y, x), total) in enumerate(zip(places.T, flux, strict=True)):
        data += total * star(shape, x, y)
        row, column = round(y), round(x)
        segments[row - 6 : row + 7, column - 6 : column + 7] = i + 1
        if i % 3 == 0:
            data += 0.05 * total * star(shape, x + 12, y + 3)
            segments[row - 2 : row + 9, column + 7 : column + 18] = 900 + i
        if i % 4 == 0:
            data[row - 12, column - 5], weight[row - 12, column - 5] = 1e3, 0
    table = make_table(np.full(number, 1.1774 * SIGMA * SCALE), flux)
    table["x"], table["y"] = places[1] * u.pix, places[0] * u.pix
    return table, make_image(data, weight), segments


def test_stars_are_the_smallest_of_one_size():
    """Not galaxies, of which more share a size, nor what is saturated, faint, cut, or smaller than an image can be."""
    rng = np.random.default_rng(1)
    stars, galaxies = rng.normal(0.085, 0.001, 8), rng.uniform(0.12, 0.13, 30)
    size, flux = np.append(stars, galaxies), np.full(38, 5.0)
    table = make_table(size, flux)
    assert sorted(find_stars(table, 50)) == list(range(8))
    table["flag"][0], table["flag"][1] = SourceFlag.SATURATED_CORE.value, SourceFlag.TRUNCATED.value
    table["flux_auto"][2] = 0.4 * u.uJy
    assert sorted(find_stars(table, 50)) == list(range(3, 8))
    table["flux_radius"][3] = 0.02 * u.arcsec
    assert sorted(find_stars(table, 50)) == [3]  # one that is smaller, and too few to say that it is an artefact
    assert sorted(find_stars(table, 50, smallest=0.03)) == list(range(4, 8))
    many = make_table(np.append(rng.normal(0.085, 0.001, 40), [0.02, 0.03]), np.full(42, 5.0))
    assert sorted(find_stars(many, 50)) == list(range(40))
    assert len(find_stars(table, 1e9)) == 0


def test_stars_with_bright_neighbours_are_left_out():
    table = make_table(np.full(4, 0.085), np.array([5.0, 5.0, 0.4, 5.0]))
    table["x"] = [0, 200, 210, 240] * u.pix
    assert find_isolated(table, np.arange(4), SCALE).tolist() == [True, True, False, True]


def test_the_stack_is_the_psf_whatever_is_beside_the_stars():
    """The centres are known to 1e-3 pixels; a shift costs 0.2 % of a peak of this width."""
    table, image, segments = make_field(np.random.default_rng(2))
    stars = cut_stars(image.data, image, segments, table, find_stars(table, 50), SIDE)
    stack = stack_stars(stars, SIDE, "field")
    assert len(stack.stars) == 25
    truth = star((SIDE, SIDE), SIDE // 2, SIDE // 2)
    np.testing.assert_allclose(stack.psf.data.sum(), 1, atol=2e-3)
    np.testing.assert_allclose(stack.psf.data, truth, atol=0.004 * truth.max())
    expected = encircled_energy(replace(stack.psf, data=truth), stack.radius)
    np.testing.assert_allclose(stack.light, expected, atol=2e-3)
    np.testing.assert_allclose(stack.light, encircled_energy(stack.psf, stack.radius), atol=1e-3)
    assert (stack.scatter < 0.01).all()


def test_one_that_is_no_star_is_left_out():
    table, image, segments = make_field(np.random.default_rng(3))
    y, x = plain(table["y"])[12], plain(table["x"])[12]
    image.data += (5 * star(image.data.shape, x, y, 1.35 * SIGMA)).astype(np.float32)
    stars = cut_stars(image.data, image, segments, table, np.arange(25), SIDE)
    assert 13 not in stack_stars(stars, SIDE, "field").stars.ids


@pytest.mark.parametrize("filter", ["f115w", pytest.param("f200w", marks=pytest.mark.slow), "f444w"])
def test_the_light_beyond_the_stamp_is_told_by_the_curve_of_growth(filter):
    """Stamps of 4 arcsec hold 95.5 to 98.6 % of that of JWST's pupil, and a sky that took 3 % of it off.

    Its wings tell it to 0.1 %, with that level; a power of the radius to 0.5 % without.
    """
    psf = make_psf(filter)
    pixels = psf.pixels()
    cut = (len(pixels) - 2 * round(2 / psf.scale) - 1) // 2
    pixels = pixels[cut:-cut, cut:-cut]
    np.testing.assert_allclose(find_total(pixels, psf.scale), (1, 0), atol=0.005)
    level = -0.03 / pixels.size
    total, found = find_total(3 * (pixels + level), psf.scale, filter_wavelength(filter)[0])
    np.testing.assert_allclose(total, 3, rtol=1e-3)
    np.testing.assert_allclose(found, 3 * level, rtol=0.05)


@pytest.mark.parametrize(
    "band",
    [
        "nrca3-f090w",
        *(pytest.param(band, marks=pytest.mark.slow) for band in ("nrca3-f150w", "nrca3-f200w", "nrca5-f277w")),
        "nrca5-f356w",
    ],
)
def test_the_light_beyond_real_stamps(data, band):
    """Those of grizli's library hold 0.958 to 0.977 of the light, and their wings are not those of a perfect pupil."""
    psf = read_psf(data / f"psf/psf-ceers-{band}.fits.gz")
    stamp = sample_psf(psf, psf.scale)
    total, level = find_total(stamp, psf.scale, filter_wavelength(band[-5:])[0])
    np.testing.assert_allclose(total, 1, atol=0.012)
    assert abs(level * stamp.size) < 0.015


@pytest.mark.parametrize(
    ("number", "told"), [(0, "no unsaturated, isolated star"), (2, "2 unsaturated, isolated stars")]
)
def test_fewer_than_three_stars_are_refused(number, told):
    table, image, segments = make_field(np.random.default_rng(4))
    stars = cut_stars(image.data, image, segments, table, np.arange(number), SIDE)
    with pytest.raises(PhotplugError, match=f"field: {told}"):
        stack_stars(stars, SIDE, "field")


def test_the_command(folder, simulated, capsys):
    """A Gaussian PSF of 0.145 arcsec, detector pixels of 63 mas, drops of 0.75 of them and pixels of 40 mas."""
    command = "psf stars sim-test-v7.4-f444w-clear -o psf.fits --snr"
    assert main(f"{command} 500 --quiet".split()) == 0
    assert re.search("made of only [3-9] stars", capsys.readouterr().err)
    assert main(f"{command} 30 --plot psf.png --overwrite".split()) == 0
    assert "psf.fits, psf.png: the PSF of" in capsys.readouterr().out
    model = dp.read_psf_model("psf.fits")
    assert model.meta["PSFFROM"] == "stars"
    assert model.meta["NSTARS"] == len(str(model.meta["STARS"]).split())
    variance = (0.145**2 / 8 / np.log(2)) + (0.063**2 * (1 + 0.75**2) + 2 * 0.04**2) / 12
    for i, radius in enumerate(RADII):
        assert model.meta[f"RADIUS{i}"] == radius
        expected = 1 - np.exp(-(radius**2) / 2 / variance)
        np.testing.assert_allclose(model.meta[f"LIGHT{i}"], expected, atol=0.02)
        assert 0 <= model.meta[f"SCATTER{i}"] < 0.03
    assert Path("psf.png").stat().st_size > 10_000
    expect_error(
        capsys,
        f"{command} 1e6 --overwrite",
        "sim-test-v7.4-f444w-clear",
        "no unsaturated, isolated star found",
        "--snr",
    )


def test_the_figure_shows_the_stars():
    table, image, segments = make_field(np.random.default_rng(5))
    stack = stack_stars(cut_stars(image.data, image, segments, table, np.arange(25), SIDE), SIDE, "field")
    figure = stars_figure(stack)
    titles = [axes.get_title() for axes in figure.axes]
    assert sum(title.startswith("source") for title in titles) == 12
    assert "field: PSF of 25 stars" in figure.get_suptitle()


@pytest.mark.parametrize("band", ["f444w", pytest.param("f115w", marks=pytest.mark.slow)])
def test_the_real_field_has_one_star(data, band):
    """In either band: the same one, the next larger source being a third to two times larger."""
    options = dp.Options(variance=dp.VarianceOptions(noise="dja"))
    result = dp.run([data / f"uds/uds-test-v7.4-{band}-clear"], options)
    with pytest.raises(PhotplugError, match="1 unsaturated, isolated star found"):
        dp.psf_from_stars(result.image, result.detection, result.catalog, result.options)
