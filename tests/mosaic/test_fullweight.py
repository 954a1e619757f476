"""The full weight against a literal transcription of the published recipe, and its physics against numbers."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.utils.masked import Masked
from scipy import ndimage

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.mosaic.models.electrons import phot_scale
from dja_photplug.mosaic.models.exposure import ExposureMap, fill_gaps, grow
from dja_photplug.mosaic.models.fullweight import GivenVariance, full_weight, make_noise_model
from dja_photplug.options.stages import VarianceOptions
from tests.helpers import BANDS, JWST_HEADER, make_wcs, uds_prefix


def published_recipe(science, weight, exposure, header):
    """The archive's own text, line by line; only its warnings are silenced."""
    full_exp = np.zeros(science.shape, dtype=int)
    # For N % 4 = 3 the published line raises, because the slice is one longer than the map: take what it reaches.
    reached = full_exp[2::4, 2::4][: exposure.shape[0], : exposure.shape[1]]
    reached += (exposure * 1).astype(int)
    full_exp = ndimage.maximum_filter(full_exp, 4)
    scale = 1.0
    for key in ["PHOTMJSR", "PHOTSCAL"]:
        scale /= header[key]
    if "OPHOTFNU" in header:
        scale *= header["PHOTFNU"] / header["OPHOTFNU"]
    effective_gain = scale * full_exp
    with np.errstate(all="ignore"):
        var_poisson = np.maximum(science, 0) / effective_gain
        var_total = 1 / weight + var_poisson
        full = 1 / var_total
        full[var_total <= 0] = 0
    return full


def assert_equals_recipe(ours, recipe):
    """Relative difference at most 1e-6 where the recipe is finite, 0 elsewhere: float32 with 5 roundings is 3e-7."""
    finite = np.isfinite(recipe)
    np.testing.assert_allclose(ours[finite], recipe[finite], rtol=1e-6, atol=0)
    assert np.all(ours[~finite] == 0)
    assert np.isfinite(ours).all()


def read(data: Path, band: str, kind: str):
    return fits.getdata(f"{uds_prefix(data, band)}_drc_{kind}.fits.gz", header=True)


@pytest.mark.parametrize("band", BANDS)
def test_published_recipe_on_real_mosaics(data, band):
    (science, header), (weight, _), (exposure, coarse) = (read(data, band, kind) for kind in ("sci", "wht", "exp"))
    recipe = published_recipe(science, weight, exposure, header)
    assert (~np.isfinite(recipe)).sum() > 0  # the real data hold the case that gives NaN
    assert_equals_recipe(full_weight(science, weight, exposure, header), recipe)
    assert_equals_recipe(full_weight(science, weight, exposure, header, exposure_header=coarse), recipe)


@pytest.mark.parametrize("seed", range(16))
def test_published_recipe_on_random_shapes(seed):
    rng = np.random.default_rng(seed)
    # All pairs of N % 4 over the seeds, sizes 20 to 83.
    shape = 4 * rng.integers(5, 20, 2) + (seed % 4, seed // 4)
    science = rng.normal(1, 3, shape).astype(np.float32)
    weight = np.where(rng.random(shape) < 0.2, 0, rng.lognormal(3, 2, shape)).astype(np.float32)
    exposure = np.where(rng.random(shape // 4) < 0.2, 0, rng.integers(1, 50_000, shape // 4)).astype(np.uint32)
    science[0, 0] = science[-1, -1] = 0
    assert_equals_recipe(
        full_weight(science, weight, exposure, JWST_HEADER), published_recipe(science, weight, exposure, JWST_HEADER)
    )


def test_bad_pixels_are_no_data():
    science = np.array([[np.nan, np.inf, -np.inf, 1, 1, 1, -1]], np.float32)
    weight = np.array([[1, 1, 1, np.nan, np.inf, -1, 1]], np.float32)
    for noise in ("dja", "background", "calibrated"):
        full = full_weight(science, weight, np.full(science.shape, 100.0), JWST_HEADER, noise)
        np.testing.assert_array_equal(full[0, :6], 0)
        assert full[0, 6] == 1  # a negative pixel has no source photons


@pytest.mark.parametrize("noise", ["dja", "background", "calibrated"])
def test_negative_weights_are_null_whatever_the_light(noise):
    """1 / (1/wht + light/gain) is positive again where the light is bright enough."""
    science = np.geomspace(1e-3, 1e5, 60, dtype=np.float32).reshape(6, 10)
    full = full_weight(science, np.full((6, 10), -4.0), np.full((6, 10), 100.0), JWST_HEADER, noise)
    np.testing.assert_array_equal(full, 0)


def test_units_and_masks_of_arrays_are_obeyed():
    rng = np.random.default_rng(1)
    science, weight = rng.normal(1, 3, (40, 40)), rng.uniform(1, 9, (40, 40))
    seconds, hidden = np.full((40, 40), 1000.0), rng.random((40, 40)) < 0.1
    plain = full_weight(science, weight, seconds, JWST_HEADER)
    in_units = full_weight(
        (science * u.Unit("10 nJy")).to(u.uJy),
        (weight * u.Unit("10 nJy") ** -2).to(u.uJy**-2),
        (seconds * u.s).to(u.h),
        JWST_HEADER,
    )
    np.testing.assert_allclose(in_units, plain, rtol=1e-6)  # float32
    for given in (
        (np.ma.array(science, mask=hidden), weight, seconds),
        (science, np.ma.array(weight, mask=hidden), seconds),
        (science, weight, np.ma.array(seconds, mask=hidden)),
        (Masked(science, mask=hidden) << u.Unit("10 nJy"), weight, seconds),
    ):
        np.testing.assert_allclose(full_weight(*given, JWST_HEADER), np.where(hidden, 0, plain), rtol=1e-6)
    for name, given in (
        ("science is in Jy / sr", (science * u.Jy / u.sr, weight, seconds)),
        ("weight is in 1 / Jy,", (science, weight / u.Jy, seconds)),
        ("exposure is in uJy", (science, weight, seconds * u.uJy)),
        ("science is of type <U", (science.astype(str), weight, seconds)),
    ):
        with pytest.raises(PhotplugError, match=name):
            full_weight(*given, JWST_HEADER)


def test_an_exposure_map_of_a_part_is_told():
    science, weight = np.zeros((60, 60), np.float32), np.ones((60, 60), np.float32)
    seconds = np.where(np.arange(60) < 30, 100.0, 0) * np.ones((60, 1))
    with pytest.warns(PhotplugWarning, match="50% of the pixels with weight have no exposure time"):
        full = full_weight(science, weight, seconds, JWST_HEADER)
    np.testing.assert_array_equal(full, np.where(seconds > 0, 1, 0))


def test_an_exposure_map_of_another_place_is_refused():
    wcs = make_wcs()
    header = {**JWST_HEADER, **wcs.to_header()}
    science, weight = np.zeros((40, 40), np.float32), np.ones((40, 40), np.float32)
    full_weight(science, weight, np.ones((40, 40)), header, exposure_header=wcs.to_header())
    for other in (make_wcs(crpix=(53.5, 50.5)), make_wcs(mirrored=True), make_wcs(crval=(34.3, -5.1001))):
        with pytest.raises(PhotplugError, match="exposure map: its WCS is up to .* pixels off"):
            full_weight(science, weight, np.ones((40, 40)), header, exposure_header=other.to_header())


def test_poisson_variance_is_electrons_over_the_square_of_the_gain():
    """By counting: s units are s*g electrons with variance s*g, which is s/g in units squared."""
    science, weight, seconds = 50.0, 4.0, 3000.0
    header = {**JWST_HEADER, "PHOTSCAL": 1.0}
    electrons_per_unit = 1.88 * seconds * (1e-8 / 0.3925 / 9.30775e-8)
    full = full_weight([[science]], [[weight]], [[seconds]], header, "calibrated")
    assert full[0, 0] == pytest.approx(1 / (1 / weight + science / electrons_per_unit), rel=1e-6)
    as_published = full_weight([[science]], [[weight]], [[seconds]], header)
    assert as_published[0, 0] == pytest.approx(1 / (1 / weight + 1.88 * science / electrons_per_unit), rel=1e-6)
    assert full_weight([[science]], [[weight]], None, {}, "background")[0, 0] == weight


def test_arrays_of_any_byte_order_and_type():
    science = np.full((4, 8), 10, ">f4")
    full = full_weight(science, np.full((4, 8), 2, ">f8"), np.full((1, 2), 500, ">u4"), JWST_HEADER)
    assert full.dtype == np.float32
    assert full.dtype.isnative
    assert full.flags.c_contiguous


def test_growth_of_the_exposure_map():
    # As measured on the archive's products: sample k fills 4k+1..4k+4 as published, covers 4k-2..4k+1 registered.
    np.testing.assert_array_equal(grow(10, 2, 4, 0, registered=False), [-1, 0, 0, 0, 0, 1, 1, 1, 1, -1])
    np.testing.assert_array_equal(grow(11, 2, 4, 0, registered=True), [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    # A cut-out from pixel 5 on sees the same samples as the parent does there.
    for registered in (False, True):
        parent = grow(40, 10, 4, 0, registered=registered)
        np.testing.assert_array_equal(grow(20, 10, 4, 5, registered=registered), parent[5:25])
    np.testing.assert_array_equal(grow(3, 9, 1, 2, registered=True), [2, 3, 4])


@pytest.mark.parametrize("noise", ["dja", "calibrated"])
def test_cut_out_is_registered_on_its_parent(noise):
    rng = np.random.default_rng(1)
    shape = (60, 82)
    science, weight = rng.normal(5, 1, shape), rng.uniform(1, 2, shape)
    exposure = rng.integers(100, 1000, (15, 20))
    parent = {**JWST_HEADER, "CRPIX1": 4591.5, "CRPIX2": 6515.5}
    coarse = {"SAMPLE": 4, "CRPIX1": 4591.5 / 4, "CRPIX2": 6515.5 / 4, "NXORIG": 82, "NYORIG": 60}
    whole = full_weight(science, weight, exposure, parent, noise, exposure_header=coarse)
    rows, columns = slice(7, 50), slice(13, 60)
    header = {**parent, "CRPIX1": 4591.5 - 13, "CRPIX2": 6515.5 - 7}
    part = full_weight(science[rows, columns], weight[rows, columns], exposure, header, noise, exposure_header=coarse)
    np.testing.assert_array_equal(part, whole[rows, columns])
    far = header | {"CRPIX2": -1e308}
    with pytest.raises(PhotplugError, match="inf pixels off, not a whole number"), np.errstate(over="ignore"):
        full_weight(science, weight, exposure, far, noise, exposure_header=coarse | {"CRPIX2": 1e308})
    with pytest.raises(PhotplugError, match=r"12\.500 pixels off, not a whole number"):
        full_weight(science, weight, exposure, {**parent, "CRPIX1": 4579.0}, noise, exposure_header=coarse)
    with pytest.raises(PhotplugError, match="does not fit the image"):
        full_weight(science, weight, exposure, header, noise, exposure_header=coarse)


def test_registered_map_leaves_no_covered_pixel_without_time(data):
    """NOISE.md, 3.2: the published growth leaves 1,819 pixels of the F444W cut-out with weight but no time."""
    (science, header), (weight, _), (exposure, coarse) = (read(data, "f444w", kind) for kind in ("sci", "wht", "exp"))
    null = {}
    for noise in ("dja", "calibrated"):
        full = full_weight(science, weight, exposure, header, noise, exposure_header=coarse)
        null[noise] = np.count_nonzero((weight > 0) & (full == 0))
    assert null == {"dja": 1819, "calibrated": 0}


def test_gaps_are_filled_within_two_samples_and_counted():
    exposure = np.zeros((1, 8))
    exposure[0, 0] = 700
    header = {**JWST_HEADER, "NAXIS1": 32, "NAXIS2": 4}
    science = weight = np.ones((4, 32), np.float32)
    model = make_noise_model(header, ExposureMap(exposure), None, VarianceOptions(noise="calibrated"))
    full = model(science, weight, slice(0, 4))
    # Sample 0 covers pixels 0 and 1, samples 1 and 2 (pixels 2 to 9) are filled, the rest has no time.
    assert (full[:, :10] == full[0, 0]).all()
    assert full[0, 0] > 0
    assert (full[:, 10:] == 0).all()
    cards = model.provenance
    assert cards["NFILLED"][0] == 4 * 8
    assert cards["NNULL"][0] == 4 * 22


@pytest.mark.parametrize("key", ["PHOTMJSR", "OPHOTFNU", "PHOTFNU"])
def test_missing_photometric_keyword_is_named(key):
    header = {k: v for k, v in JWST_HEADER.items() if k != key}
    planes = ([[1.0]], [[1.0]], [[1.0]])
    for noise in ("dja", "calibrated"):
        with pytest.raises(PhotplugError, match=f"keyword {key} is missing.*--phot-scale.*'background'"):
            full_weight(*planes, header, noise)
    assert full_weight(*planes, header, "background")[0, 0] == 1
    given = full_weight(*planes, header, VarianceOptions(phot_scale=0.25))
    assert given[0, 0] == pytest.approx(1 / (1 + 1 / 0.25))


def test_gain_override_reaches_the_variance():
    planes = ([[10.0]], [[1.0]], [[100.0]])
    scale = phot_scale(JWST_HEADER)
    for gain in (1.0, 4.0):
        full = full_weight(*planes, JWST_HEADER, VarianceOptions(noise="calibrated", detector_gain=gain))
        assert full[0, 0] == pytest.approx(1 / (1 + 10 / (gain * scale * 100)), rel=1e-6)


def test_given_variance_is_not_added_to():
    variance = np.array([[0.5, 0, np.nan, 2, np.inf]], np.float32)
    full = GivenVariance("dja", "x_var.fits")(variance, np.array([[9, 9, 9, 0, 9]], np.float32), slice(0, 1))
    np.testing.assert_array_equal(full, [[2, 0, 0, 0, 0]])


def test_what_no_float_holds_is_no_data():
    """The inverse of a weight of 1e-39 overflows in float32, and that of 5e18 exposed for 1e21 s does not."""
    weight = full_weight([[1.0, 0.0, 0.0, 1e38]], [[4.0, 5e18, 1e-39, 1.0]], [[1000.0, 1e21, 1e3, 1e-30]], JWST_HEADER)
    assert weight[0, 0] > 0
    assert weight[0, 1] == pytest.approx(5e18)
    assert list(weight[0, 2:]) == [0, 0]


def test_headers_that_disagree_are_told():
    coarse = {**JWST_HEADER, "PHOTMJSR": 0.5}
    with pytest.warns(PhotplugWarning, match=r"PHOTMJSR is 0\.3925 in the science header and 0\.5"):
        full_weight([[1.0]], [[1.0]], [[1.0]], JWST_HEADER, exposure_header=coarse)


@pytest.mark.parametrize(
    ("science", "weight", "exposure", "message"),
    [
        (np.ones((4, 4)), np.ones((4, 5)), np.ones((1, 1)), "differ"),
        (np.ones(4), np.ones(4), np.ones(4), "differ"),
        (np.ones((40, 40)), np.ones((40, 40)), np.ones((11, 10)), "does not fit the image"),
        (np.ones((4, 4)), np.ones((4, 4)), None, "needs an exposure map.*'background'"),
    ],
)
def test_planes_that_do_not_fit(science, weight, exposure, message):
    with pytest.raises(PhotplugError, match=message):
        full_weight(science, weight, exposure, JWST_HEADER)


def test_gaps_are_filled_as_scipy_finds_the_nearest():
    """Also where several are as near, and whatever rows of samples are filled at once."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        seconds = rng.integers(1, 99, rng.integers(1, 40, 2)).astype(np.float32)
        seconds[rng.random(seconds.shape) < rng.random()] = 0
        empty = seconds <= 0
        distance, nearest = ndimage.distance_transform_edt(empty, return_indices=True)
        gaps = empty & (distance <= 2) & ~empty.all()
        found, filled = fill_gaps(seconds)
        np.testing.assert_array_equal(filled, gaps)
        np.testing.assert_array_equal(found, np.where(gaps, seconds[tuple(nearest)], seconds))


def test_the_last_rows_look_at_no_more_samples_than_others():
    """Of 4 k + 3 rows the published growth gives the last two no sample."""
    ny = 40_003
    header, seconds = {"NAXIS1": 42, "NAXIS2": ny, **JWST_HEADER}, np.full((ny // 4, 10), 100, np.float32)
    model = make_noise_model(header, ExposureMap(seconds), None, VarianceOptions(noise="dja"))
    peaks = []
    for rows in (slice(20_000, 20_008), slice(ny - 8, ny)):
        tracemalloc.start()
        full = model(np.ones((8, 42), np.float32), np.ones((8, 42), np.float32), rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (full[-2:] == 0).all()
    assert (full[:-2, 1:41] > 0).all()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("noise", ["dja", "calibrated"])
def test_rows_in_blocks_are_those_of_the_whole(noise):
    rng = np.random.default_rng(5)
    ny = 403  # more samples than are looked at together
    science, weight = rng.normal(size=(2, ny, 62)).astype(np.float32)
    seconds = rng.integers(1, 99, (100, 15)).astype(np.float32)
    seconds[rng.random(seconds.shape) < 0.7] = 0
    seconds[3, 5], seconds[9, 2], seconds[12, 7] = np.nan, np.inf, -3
    header = {"NAXIS1": 62, "NAXIS2": ny, **JWST_HEADER}
    results = []
    for height in (1, 3, 4, 30, 270, ny):
        model = make_noise_model(header, ExposureMap(seconds), None, VarianceOptions(noise=noise))
        rows = [slice(start, min(start + height, ny)) for start in range(0, ny, height)]
        full = np.empty_like(science)
        for each in rows if height % 2 else rows[::-1]:
            full[each] = model(science[each], weight[each], each)
        results.append((full.tobytes(), model.n_null, model.n_filled))
    assert len(set(results)) == 1
    assert results[0][1] > 0
    assert (results[0][2] > 0) == (noise == "calibrated")
