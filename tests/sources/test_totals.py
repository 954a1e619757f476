"""The whole light of sources: flux_total against the truth of simulated fields."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.stats import median_abs_deviation

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import COLUMNS, GROWTH_COLUMNS
from dja_photplug.engines.photutils_engine import PHOTUTILS
from dja_photplug.engines.sep_engine import SEP
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.load import load_mosaic
from dja_photplug.options.run import Options
from dja_photplug.options.stages import MeasureOptions
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.pipeline.steps.result import Result
from dja_photplug.psf.model import PSF, encircled_energy
from dja_photplug.simulate.field import FieldOptions, SimulatedField, draw_psf, simulate_field, write_field
from dja_photplug.sources.photometry import measure_with
from tests.helpers import AS_IS

CLEAR = Options(measure=MeasureOptions(neighbours="subtract", background="mesh"))
NAMES = [spec.name for spec in GROWTH_COLUMNS]


@pytest.fixture(scope="module")
def psf() -> PSF:
    return PSF(data=draw_psf(FieldOptions()), scale=0.04, centre=(125, 125), name="field")


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> tuple[SimulatedField, MosaicImage]:
    """70 sources at a signal to noise above 30: stars and galaxies of all profiles, 6 of them fainter."""
    options = FieldOptions(shape=(900, 900), density=1300, flux_range=(0.3, 50), star_fraction=0.3, seed=42)
    made = simulate_field(options)
    return made, load_mosaic(write_field(made, tmp_path_factory.mktemp("field"), "sim-v1"), noise="calibrated")


@pytest.fixture(scope="module")
def result(field, psf) -> Result:
    return analyse_image(field[1], CLEAR, psf=psf)


def test_psf_of_the_field_is_that_of_its_stars(psf) -> None:
    assert psf.data.sum() == pytest.approx(1)
    field = simulate_field(FieldOptions(shape=(251, 251), density=300, star_fraction=1, seed=1))
    centred = np.argmin(sum((field.sources[axis].value - 125) ** 2 for axis in "xy"))
    source, (window, stamp) = field.sources[centred], field.own_light(centred)
    x, y = (source[axis].value - cut.start for axis, cut in (("x", window[1]), ("y", window[0])))
    rows, columns = np.indices(stamp.shape)
    inside = np.hypot(rows - y, columns - x) < 12
    share = stamp[inside].sum() / (100 * source["flux"].value)
    # A circle of whole pixels: 1 % of its area.
    assert share == pytest.approx(encircled_energy(psf, 12 * 0.04), abs=0.01)


def test_totals_are_true_for_all_profiles(field, result) -> None:
    """In the median to 2 % for stars and n <= 1.5, 5 % beyond, where flux_auto lacks 10 to 20 %."""
    catalog, sources = result.catalog, field[0].sources
    place = np.column_stack([catalog[axis].value for axis in "xy"])
    distance, row = KDTree(np.column_stack([sources[axis].value for axis in "xy"])).query(place)
    snr = (catalog["flux_auto"] / catalog["fluxerr_auto"]).value
    cut = (SourceFlag.TRUNCATED | SourceFlag.APER_TRUNCATED | SourceFlag.DEBLENDED).value
    use = (distance < 5) & (snr > 30) & (catalog["flag"] & cut == 0)
    true, index = sources["flux"][row[use]].value, np.asarray(sources["sersic"][row[use]])
    auto, total, error = (catalog[name][use].value for name in ("flux_auto", *NAMES))
    assert np.isfinite(total).all()
    for part, most in (index == 0, 0.02), ((index > 0) & (index < 2), 0.02), (index > 2, 0.05):
        assert np.sum(part) >= 10
        assert np.median(total[part] / true[part]) == pytest.approx(1, abs=most)
        assert np.median(auto[part] / true[part]) < 0.92
    pull = (total - true) / error
    assert 0.4 < median_abs_deviation(pull, scale="normal") < 1.4
    assert (error >= catalog["fluxerr_auto"][use].value).all()


def measure(field, result, psf, engine=SEP, **options):
    """Of the same sources."""
    return measure_with(engine, field[1], result.detection, None, Options(measure=replace(AS_IS, **options)), psf)


@pytest.mark.parametrize("neighbours", ["mask", "keep", "subtract"])
def test_engines_tell_the_same_totals(field, result, psf, neighbours) -> None:
    ours, theirs = (measure(field, result, psf, engine, neighbours=neighbours) for engine in (SEP, PHOTUTILS))
    assert np.isfinite(ours["flux_total"]).sum() > 60
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


def test_outer_ring_lies_on_the_cut_out_that_an_annulus_is_for(field, result, psf) -> None:
    """With a local sky each position is measured on its own pixels, as far as the aperture where it has no shape."""
    sources = result.detection.sources.copy()
    sources["a"][:] = np.nan
    circles = replace(result, detection=replace(result.detection, sources=sources))
    options = {"kron_circle": 0.6, "apertures": (0.3,), "annulus": (3.0, 4.0), "neighbours": "mask"}
    plain, local = (measure(field, circles, psf, background=sky, **options) for sky in ("none", "annulus"))
    bright = plain["flux_auto"] > 200 * plain["fluxerr_auto"]
    assert bright.sum() > 10
    plain, local = (table["flux_total"][bright] / table["flux_auto"][bright] for table in (plain, local))
    # The sky is 0.1 % of their light; light that the outer ring lacked would be more.
    assert np.nanpercentile(np.abs(local / plain - 1), 84) < 0.005


def test_totals_come_with_a_psf_alone_and_change_nothing_else(field, result) -> None:
    without = measure_with(SEP, field[1], result.detection, result.calibration, CLEAR)
    assert [name for name in result.catalog.colnames if name not in without.colnames] == NAMES
    for name in without.colnames:
        np.testing.assert_array_equal(without[name], result.catalog[name], err_msg=name)
    for spec in GROWTH_COLUMNS:
        assert result.catalog[spec.name].info.description == spec.description
        assert str(result.catalog[spec.name].unit) == "uJy"
    assert not {spec.name for spec in COLUMNS} & set(NAMES)


def test_what_is_too_faint_or_mostly_beyond_has_none(field, result, psf) -> None:
    image = field[1]
    dimmed = image.copy()
    dimmed.data = image.data + np.random.default_rng(1).normal(0, 2, image.data.shape).astype(np.float32)
    dimmed.uncertainty.array = np.full_like(image.data, 0.25)
    dimmed.background_weight = dimmed.uncertainty.array
    table = measure_with(SEP, dimmed, result.detection, None, CLEAR, psf)
    snr = table["flux_auto"] / table["fluxerr_auto"]
    assert np.sum(snr < 5) > 10
    assert np.isnan(table["flux_total"][snr < 5]).all()
    assert np.isnan(table["fluxerr_total"][snr < 5]).all()
    bright = table[np.isfinite(table["flux_total"])]
    assert len(bright) > 3
    assert (bright["flux_total"] < 2 * bright["flux_auto"]).all()
    assert (bright["flux_total"] > bright["flux_auto"]).all()


def test_most_of_the_light_beyond_the_aperture_is_not_made_up(field, result, psf) -> None:
    small = {"kron_circle": 0.08, "kron_min": 0.1, "kron_max": 0.2, "neighbours": "subtract"}
    table = measure(field, result, psf, **small)
    assert encircled_energy(psf, 0.08) < 0.5
    assert np.mean(table["flux_auto"] > 20 * table["fluxerr_auto"]) > 0.9
    assert np.isnan(table["flux_total"]).all()
