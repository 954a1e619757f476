"""Fluxes of bands at one PSF: a transcription in numpy, colours and errors against truth, neighbours, totals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from photutils.aperture import CircularAperture
from scipy.signal import fftconvolve
from scipy.spatial import KDTree

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.engines.sep_engine import SEP
from dja_photplug.matching.convolution import Kernels
from dja_photplug.matching.kernels import make_kernel
from dja_photplug.options.run import Options
from dja_photplug.options.stages import MeasureOptions
from dja_photplug.psf.model import encircled_energy
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sources.matched import measure_matched
from dja_photplug.sources.photometry import measure_with
from dja_photplug.sources.sums.planes import Removed
from dja_photplug.sources.totals import add_matched_totals
from tests.helpers import SCALE, make_calibration, make_detection, robust_scatter
from tests.sources.two_bands import truth

LONG, SHORT, APERTURES = truth.LONG, truth.SHORT, truth.APERTURES
Source, draw_light, draw_psf, make_band, measure_pair = (
    getattr(truth, name) for name in ("Source", "draw_light", "draw_psf", "make_band", "measure_pair")
)
OPTIONS = Options(measure=MeasureOptions(apertures=APERTURES))
KEPT = Options(measure=MeasureOptions(apertures=APERTURES, neighbours="keep", background="none"))


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels(kernels=(make_kernel(draw_psf(SHORT), draw_psf(LONG), SCALE),))


def lay_grid(side: int, spacing: int, seed: int, sersic: float = 0.0, scale: float = 1.0) -> list[Source]:
    """Return sources of 10 to 60 uJy, or so many times that, around the places of a grid."""
    return truth.lay_sources(side, spacing, sersic, (10 * scale, 60 * scale), seed)


def take(tables: dict, name: str, band: str) -> NDArray[np.float64]:
    """Return the columns of all apertures, (n, apertures)."""
    columns = [tables[band][f"{name}_{i}"] for i in range(len(APERTURES))]
    return np.column_stack([getattr(column, "value", column) for column in columns])


def match(tables: dict, sources: list[Source]) -> NDArray[np.intp]:
    """Return the row of each source, all of which are found."""
    found = np.column_stack([tables[LONG][axis].value for axis in "xy"])
    distance, row = KDTree(found).query([(one.x, one.y) for one in sources])
    assert distance.max() < 1
    return row


def test_transcription(kernels) -> None:
    """Flux and error in plain numpy: one transform of the whole image, and weights of pixels, to 1e-5."""
    rng = np.random.default_rng(2)
    sources = [Source(60.3, 70.8, 30), Source(140.7, 66.1, 3)]
    image = make_band(draw_light(sources, SHORT, (140, 200)), SHORT, rng)
    x, y = np.array([one.x for one in sources]), np.array([one.y for one in sources])
    detection, calibration = make_detection(image.shape, x=x, y=y, wcs=image.wcs), make_calibration([3, 4, 5, 6, 7])
    native = measure_with(SEP, image, detection, calibration, KEPT)

    def measure(matched, removed):
        matched.removed = removed
        return measure_with(SEP, matched, detection, calibration, KEPT), calibration

    removed = Removed()
    table = measure_matched(image, removed, detection, native, kernels, KEPT, measure)
    kernel = kernels.kernels[0].data
    data = image.data.astype(float)
    light = fftconvolve(data, kernel, mode="same")
    background = fftconvolve(1 / image.background_weight.astype(float), kernel**2, mode="same")
    photons = np.maximum(1 / image.uncertainty.array.astype(float) - 1 / image.background_weight.astype(float), 0)
    for i, diameter in enumerate(APERTURES):
        radius = diameter / 2 / SCALE
        for row in range(2):
            circle = CircularAperture((x[row], y[row]), radius).to_mask(method="exact").to_image(data.shape)
            weight = fftconvolve(circle, kernel[::-1, ::-1], mode="same")
            a = calibration(np.array([diameter / 2]))[0]
            flux = (light * circle).sum() / 100
            error = np.sqrt(a**2 * (background * circle).sum() + (weight**2 * photons).sum()) / 100
            assert table[f"match_aper_{i}"][row].value == pytest.approx(flux, rel=1e-5)
            assert table[f"match_err_{i}"][row].value == pytest.approx(error, rel=1e-5)


def test_without_calibration_errors_are_those_of_independent_pixels(kernels) -> None:
    """Nothing knows then how the kernel correlates pixels, so that their variances are weighted like photons."""
    image = make_band(np.zeros((160, 160)), SHORT, np.random.default_rng(1))
    detection = make_detection(image.shape, x=[80.2], y=[79.6], wcs=image.wcs)

    def measure(matched, removed):
        matched.removed = removed
        return measure_with(SEP, matched, detection, None, KEPT), None

    native = measure_with(SEP, image, detection, None, KEPT)
    table = measure_matched(image, Removed(), detection, native, kernels, KEPT, measure)
    kernel, variance = kernels.kernels[0].data, 1 / image.uncertainty.array.astype(float)
    for i, diameter in enumerate(APERTURES):
        circle = CircularAperture((80.2, 79.6), diameter / 2 / SCALE).to_mask(method="exact").to_image(image.shape)
        weight = fftconvolve(circle, kernel[::-1, ::-1], mode="same")
        expected = np.sqrt((weight**2 * variance).sum()) / 100
        assert table[f"match_err_{i}"][0].value == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("sersic", "most"),
    [
        pytest.param(0.0, 0.005, id="points"),
        pytest.param(1.0, 0.01, id="n = 1", marks=pytest.mark.slow),
        pytest.param(4.0, 0.01, id="n = 4"),
    ],
)
def test_colours_are_true(sersic, most) -> None:
    """Medians of F115W over F444W, of the truth: 10 to 40 % too large as they are."""
    rng = np.random.default_rng(7)
    sources = lay_grid(600, 150, 7, sersic)
    images = {band: make_band(draw_light(sources, band, (600, 600)), band, rng) for band in (LONG, SHORT)}
    tables, _ = measure_pair(images, OPTIONS)
    row, true = match(tables, sources), np.array([one.colour for one in sources])[:, None]
    ratio = {name: np.median((take(tables, name, SHORT) / take(tables, name, LONG))[row] / true, axis=0)
             for name in ("flux_aper", "match_aper")}  # fmt: skip
    assert np.all(ratio["flux_aper"] > 1.05)
    assert ratio["flux_aper"][0] > 1.25
    np.testing.assert_allclose(ratio["match_aper"], 1, atol=most)


def test_light_of_neighbours_is_taken_off() -> None:
    """Pairs 0.6 arcsec apart, one three times as bright: the light of the other is in all apertures otherwise."""
    rng = np.random.default_rng(5)
    first = lay_grid(600, 150, 5)
    second = [Source(one.x + 11, one.y + 10, one.flux / 3, 1.0) for one in first]
    sources = first + second
    images = {band: make_band(draw_light(sources, band, (600, 600)), band, rng) for band in (LONG, SHORT)}
    alone = fftconvolve(draw_light([Source(63, 63, 1)], SHORT, (127, 127)),
                        make_kernel(draw_psf(SHORT), draw_psf(LONG), SCALE).data, mode="same")  # fmt: skip
    sums = [CircularAperture((63, 63), d / 2 / SCALE).do_photometry(alone)[0][0] / 100 for d in APERTURES]
    true = np.array([one.flux * one.colour for one in sources])[:, None] * sums
    off = {}
    for neighbours in ("subtract", "keep"):
        measured = MeasureOptions(apertures=APERTURES, neighbours=neighbours, background="mesh")
        tables, _ = measure_pair(images, Options(measure=measured))
        row = match(tables, sources)
        ratio = take(tables, "match_aper", SHORT)[row] / true
        off[neighbours] = np.median(ratio[len(first) :], axis=0) - 1
    # The fainter ones: what the brighter ones have there, 2 to 48 %.
    assert np.all(np.diff(off["keep"]) > 0)
    assert off["keep"][-1] > 0.3
    np.testing.assert_allclose(off["subtract"], 0, atol=0.05)


def test_errors_are_true(slow) -> None:
    """Scatter over error of matched fluxes of points; with K instead of K^2, or without a(r), it is not 1."""
    pulls, wrong, single = [], [], []
    kernel = make_kernel(draw_psf(SHORT), draw_psf(LONG), SCALE).data
    for seed in range(60 if slow else 2):
        rng = np.random.default_rng(seed)
        sources = lay_grid(1000, 100, seed, scale=0.05)
        lights = {band: draw_light(sources, band, (1000, 1000)) for band in (LONG, SHORT)}
        images = {band: make_band(light, band, rng) for band, light in lights.items()}
        tables, _ = measure_pair(images, OPTIONS)
        row = match(tables, sources)
        places = np.column_stack([tables[SHORT][axis].value for axis in "xy"])[row]
        matched = fftconvolve(lights[SHORT], kernel, mode="same")
        planes = [fftconvolve(1 / images[SHORT].uncertainty.array, by, mode="same") for by in (kernel, kernel**2)]
        circles = [CircularAperture(places, diameter / 2 / SCALE) for diameter in APERTURES]
        true, *others = (np.column_stack([one.do_photometry(plane)[0] for one in circles])
                         for plane in (matched, *planes))  # fmt: skip
        off = take(tables, "match_aper", SHORT)[row] - true / 100
        pulls.append(off / take(tables, "match_err", SHORT)[row])
        wrong.append(off / np.sqrt(others[0]) * 100)
        single.append(off / np.sqrt(others[1]) * 100)
    scatter = np.array(
        [[robust_scatter(column) for column in np.concatenate(part).T] for part in (pulls, wrong, single)]
    )
    sampling = 1.17 / np.sqrt(len(np.concatenate(pulls)))
    np.testing.assert_allclose(scatter[0], 1, atol=0.05 + 3 * sampling)
    assert scatter[1][-1] > 1.3
    assert np.all(scatter[2] > 4)


def test_flags_and_null_pixels() -> None:
    """A source with a bad pixel in its core says so, though nothing is null there on the matched image."""
    rng = np.random.default_rng(3)
    sources = lay_grid(450, 150, 3)
    images = {band: make_band(draw_light(sources, band, (450, 450)), band, rng) for band in (LONG, SHORT)}
    one = sources[0]
    pixel = round(one.y) + 2, round(one.x)
    for plane in (images[SHORT].uncertainty.array, images[SHORT].background_weight):
        plane[pixel] = 0
    images[SHORT].mask[pixel] = True
    tables, _ = measure_pair(images, OPTIONS)
    row = match(tables, sources)
    flags = take(tables, "match_flag", SHORT).astype(int)[row]
    assert np.all(flags[0] & SourceFlag.NULL_WEIGHT)
    assert not np.any(flags[1:] & SourceFlag.NULL_WEIGHT)
    ratio = take(tables, "match_aper", SHORT)[row[0]] / take(tables, "match_aper", LONG)[row[0]] / one.colour
    np.testing.assert_allclose(ratio, 1, atol=0.05)


def test_totals_of_the_detection_band_are_those_of_its_kron_aperture() -> None:
    rng = np.random.default_rng(4)
    sources = lay_grid(450, 150, 3)
    images = {band: make_band(draw_light(sources, band, (450, 450)), band, rng) for band in (LONG, SHORT)}
    tables, _ = measure_pair(images, OPTIONS)
    radius = np.full(len(tables[LONG]), 0.4)
    add_matched_totals(tables, LONG, radius, PSFModel.of(draw_psf(LONG)))
    own = tables[LONG]["flux_auto"].value / encircled_energy(draw_psf(LONG), 0.4)
    ratio = take(tables, "match_aper", SHORT) / take(tables, "match_aper", LONG)
    for i in range(len(APERTURES)):
        np.testing.assert_allclose(tables[LONG][f"total_{i}"].value, own, rtol=1e-12)
        np.testing.assert_allclose(tables[SHORT][f"total_{i}"].value, own * ratio[:, i], rtol=1e-12)
        error = tables[SHORT][f"match_err_{i}"] / tables[SHORT][f"match_aper_{i}"]
        np.testing.assert_allclose((tables[SHORT][f"total_err_{i}"] / tables[SHORT][f"total_{i}"]), error, rtol=1e-12)
