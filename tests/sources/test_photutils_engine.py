"""The photutils engine: against sep on the same segments, against truth, and where they differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from photutils.segmentation import SegmentationImage, SourceCatalog

import dja_photplug as dp
from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import POSITION_COLUMNS, describe_columns, describe_removed
from dja_photplug.cli.app import main
from dja_photplug.engines import photutils_engine
from dja_photplug.engines.photutils_engine import PHOTUTILS, detect_photutils, mesh_background_2d
from dja_photplug.engines.sep_engine import SEP, detect_sep, mesh_background
from dja_photplug.options.run import Options
from dja_photplug.options.stages import BackgroundOptions, CalibrationOptions, DetectOptions
from dja_photplug.sources.detection import Detection
from dja_photplug.sources.empty import calibrate_with
from dja_photplug.sources.photometry import measure_with
from tests.helpers import AS_IS, SCALE, gaussian, make_detection, make_image, uds_prefix

PLAIN = Options(detect=DetectOptions(kernel=0, clean=0, n_sigma=5, n_pixels=3))


def detect(image, options=PLAIN) -> Detection:
    return detect_photutils(image, mesh_background_2d(image, options.background), options)


def both(image, detection, **settings) -> tuple[QTable, QTable]:
    options = Options(measure=replace(AS_IS, **settings))
    return measure_with(SEP, image, detection, None, options), measure_with(PHOTUTILS, image, detection, None, options)


@pytest.fixture(scope="session", params=["f444w", pytest.param("f115w", marks=pytest.mark.slow), "simulated"])
def field(request) -> tuple[dp.MosaicImage, Detection]:
    """An image with the segments that sep finds on it."""
    if request.param == "simulated":
        prefix = request.getfixturevalue("simulated").prefix
    else:
        prefix = uds_prefix(request.getfixturevalue("data"), request.param)
    image = dp.load_mosaic(prefix, dp.VarianceOptions(noise="calibrated"))
    return image, detect_sep(image, mesh_background(image, BackgroundOptions()), Options())


# --- the same segments


@pytest.mark.parametrize(
    "settings", [{}, {"neighbours": "keep"}, {"neighbours": "subtract"}, {"background": "annulus"}]
)
def test_same_segments_give_the_same_photometry(field, settings) -> None:
    ours, theirs = reversed(both(*field, **settings))
    assert len(ours) >= 35
    taken = [f"bkg_aper_{i}" for i in range(4)] if settings.get("background", "none") != "none" else []
    taken += [f"contam_{i}" for i in range(4)] if settings.get("neighbours") == "subtract" else []
    assert ours.colnames == theirs.colnames == [spec.name for spec in describe_columns(4)] + taken
    same = ["kron_radius", "flux_auto", "flux_iso", "mask_frac", *(f"flux_aper_{i}" for i in range(4))]
    same += [name.replace("flux", "fluxerr") for name in same if name.startswith("flux")]
    for name in same:
        # The requirement is 1e-4 (unmasked) and 2 % (Kron); both are exact overlaps of float32 pixels in float64, and
        # fluxes near zero cancel to 1e-6 of their error at most.
        error = theirs[name.replace("flux_", "fluxerr_")] if name.startswith("flux_") else theirs[name]
        error = np.abs(u.Quantity(error).value)
        values, expected = (u.Quantity(table[name]).value for table in (ours, theirs))
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
        known = np.isfinite(expected)
        assert (np.abs(values - expected)[known] <= 1e-6 * (np.abs(expected) + error)[known]).all(), name
    alone = (theirs["flag"] & SourceFlag.APER_MASKED) == 0
    radius = (ours["flux_radius"] / theirs["flux_radius"]).value
    # sep interpolates in 64 steps and samples 5 x 5, at most 0.02 pixels off; with neighbours the rings differ too.
    assert np.nanmax(np.abs(radius - 1)[alone]) < 0.025
    assert np.nanmax(np.abs(radius - 1)) < 0.04
    for name in ("flag", *(f"flag_aper_{i}" for i in range(4))):
        # sep allows a pixel at the edge, and counts masked pixels at the rim without overlap.
        differing = (ours[name] ^ theirs[name])[ours[name] != theirs[name]]
        assert len(differing) <= 3
        assert not np.any(differing & ~(SourceFlag.APER_TRUNCATED | SourceFlag.APER_MASKED)), name


def test_same_segments_give_the_same_calibration(field) -> None:
    options = Options(calibration=CalibrationOptions(n_radii=4, radius_max=0.5, n_apertures=800), measure=AS_IS)
    ours, theirs = (calibrate_with(engine, *field, options) for engine in (PHOTUTILS, SEP))
    np.testing.assert_allclose(ours.measured, theirs.measured, rtol=1e-9)  # the same places, and exact overlaps
    np.testing.assert_allclose(ours.offset, theirs.offset, rtol=1e-6, atol=1e-9)


def test_isophotes_and_shapes_are_those_of_sep(field) -> None:
    """Without deblending and cleaning, which the engines do by other algorithms."""
    image, _ = field
    options = Options(detect=DetectOptions(clean=0, contrast=1))
    sky = mesh_background(image, options.background)
    ours, theirs = (function(image, sky, options) for function in (detect_photutils, detect_sep))
    # Thresholds in another order of float32 operations may move a pixel.
    assert ((ours.segmentation > 0) != (theirs.segmentation > 0)).sum() <= 2
    assert len(ours.sources) == len(theirs.sources)
    middle = np.rint([theirs.sources["y"].value, theirs.sources["x"].value]).astype(int)
    number = ours.segmentation[tuple(middle)]
    inside = (number > 0) & (theirs.segmentation[tuple(middle)] == theirs.sources["id"])
    assert inside.mean() > 0.9
    mine, other = ours.sources[number[inside] - 1], theirs.sources[inside]
    for name in "xyab":
        np.testing.assert_allclose(mine[name].value, other[name].value, rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(np.sin(mine["theta"] - other["theta"]), 0, atol=1e-3)
    assert (np.abs(ours.sources["theta"]) <= 90 * u.deg).all()
    np.testing.assert_array_equal(mine["npix"], other["npix"])
    np.testing.assert_array_equal(mine["flag"], other["flag"])


# --- whole runs


@pytest.mark.parametrize("band", ["f444w", pytest.param("f115w", marks=pytest.mark.slow)])
def test_command_on_real_bands(data, band, tmp_path) -> None:
    prefix, path = uds_prefix(data, band), tmp_path / "cat.fits"
    assert main(["catalog", str(prefix), "--engine", "photutils", "-o", str(path), "--quiet"]) == 0
    catalog = QTable.read(path)
    assert catalog.meta["ENGINE"] == "photutils"
    assert "AR" in catalog.meta
    specs = [*describe_columns(4, epochs=True), *describe_removed(range(4), sky=True, neighbours=True)]
    specs += POSITION_COLUMNS
    assert set(catalog.colnames) == {spec.name for spec in specs}
    # 152 and 193; sep, which cleans, finds 130 and 163.
    assert 130 < len(catalog) < 215
    clean = catalog["mask_frac"] == 0
    for i in range(4):
        assert (catalog[f"fluxerr_aper_{i}"][clean].value > 0).all()
        assert np.isfinite(catalog[f"flux_aper_{i}"][clean].value).all()


def test_simulated_sources_have_their_fluxes(simulated) -> None:
    options = (Options(engine=engine, measure=AS_IS) for engine in ("photutils", "sep"))
    ours, theirs = (dp.run([simulated.prefix], each).catalog for each in options)
    distance = np.hypot(*(ours[axis].value[:, None] - theirs[axis].value for axis in "xy"))
    near = distance.argmin(axis=1)
    bright = (distance.min(axis=1) < 0.1) & (ours["flux_auto"] > 20 * ours["fluxerr_auto"])
    bright &= (theirs["flag"][near] & SourceFlag.APER_MASKED == 0) & (ours["flag"] & SourceFlag.APER_MASKED == 0)
    assert bright.sum() > 20
    # Each with its own background, segments and a(r), whose places are others; a(r) has an error of 2 % in each.
    np.testing.assert_allclose((ours["flux_auto"] / theirs["flux_auto"][near])[bright].value, 1, atol=0.02)
    np.testing.assert_allclose((ours["fluxerr_auto"] / theirs["fluxerr_auto"][near])[bright].value, 1, atol=0.05)


# --- detection


def pair(separation: float = 9) -> CCDData:
    shape = (60, 80)
    return make_image(gaussian(shape, 30, 30, 3, 80) + gaussian(shape, 30 + separation, 30, 3, 60))


def test_pair_is_deblended() -> None:
    found = detect(pair())
    assert found.sources["flag"].tolist() == [SourceFlag.DEBLENDED] * 2
    np.testing.assert_allclose(np.sort(found.sources["x"].value), [30, 39], atol=0.6)  # the light of the other
    assert found.segmentation.dtype == np.int32
    assert np.bincount(found.segmentation.ravel())[1:].tolist() == found.sources["npix"].tolist()


@pytest.mark.parametrize("whole", [{"contrast": 1.0}, {"n_levels": 1}])
def test_no_deblending_as_in_sep(monkeypatch, whole) -> None:
    monkeypatch.setattr(photutils_engine, "find_spec", lambda name: None)  # it is not needed then
    options = Options(detect=DetectOptions(kernel=0, clean=0, n_sigma=5, n_pixels=3, **whole))
    assert len(detect(pair(), options).sources) == 1
    assert len(detect_sep(pair(), mesh_background_2d(pair(), options.background), options).sources) == 1


def test_missing_library_is_named(monkeypatch) -> None:
    monkeypatch.setattr(photutils_engine, "find_spec", lambda name: None)
    with pytest.raises(dp.PhotplugError, match=r"scikit-image.*install dja_photplug\[photutils\]"):
        detect(pair())


def test_progress_needs_a_terminal(capsys) -> None:
    detect(pair())
    assert capsys.readouterr().err == ""


def test_nothing_and_edges() -> None:
    empty = detect(make_image(np.zeros((20, 30))))
    assert len(empty.sources) == 0
    assert empty.sources["a"].unit == u.arcsec
    assert not empty.segmentation.any()
    assert len(measure_with(PHOTUTILS, make_image(np.zeros((20, 30))), empty, None, Options(measure=AS_IS))) == 0
    image = make_image(gaussian((60, 60), 1, 30, 3, 80) + gaussian((60, 60), 40, 30, 3, 80))
    flags = {round(row["x"].value / 40): row["flag"] for row in detect(image).sources}
    assert flags == {0: SourceFlag.TRUNCATED, 1: 0}


@pytest.mark.parametrize("filter_type", ["conv", "matched"])
def test_null_pixels_are_never_detected(filter_type) -> None:
    data = gaussian((60, 60), 30, 30, 2, 100)
    data[10, 10], data[30, 40] = 1e8, np.nan
    weight = np.ones_like(data)
    weight[10, 10] = 0
    found = detect(make_image(data, weight), Options(detect=DetectOptions(filter_type=filter_type, n_sigma=5)))
    assert len(found.sources) == 1
    assert not found.segmentation[5:16, 5:16].any()


def test_matched_filter_finds_the_isophotes_of_sep(simulated) -> None:
    image = dp.load_mosaic(simulated.prefix)
    options = Options(detect=DetectOptions(filter_type="matched", clean=0, contrast=1, n_sigma=3))
    sky = mesh_background(image, options.background)
    ours, theirs = (function(image, sky, options).segmentation > 0 for function in (detect_photutils, detect_sep))
    assert ours.sum() > 10_000
    # sep judges null pixels by those around them and finds 18 beside a bright source; here they are never a source's.
    assert ((ours != theirs) & ~image.mask).sum() <= 2  # rounding at the threshold
    assert not ours[image.mask].any()


def test_image_without_wcs_is_refused() -> None:
    image = pair()
    sky = mesh_background_2d(image, PLAIN.background)
    image.wcs = None
    with pytest.raises(dp.PhotplugError, match="no WCS"):
        detect_photutils(image, sky, PLAIN)


# --- background


def test_mesh_background_follows_a_slope_under_sources() -> None:
    rng = np.random.default_rng(1)
    sky = 10 + 0.01 * np.indices((300, 300))[1]
    image = make_image(sky + gaussian(sky.shape, 100, 100, 2, 500) + rng.normal(size=sky.shape))
    background = mesh_background_2d(image, BackgroundOptions(mesh=2, mesh_filter=2))
    assert background.level.dtype == np.float32
    inner = (slice(75, -75),) * 2  # zoom and median flatten the slope in the cells at the edges, by up to 0.25
    # As sep's: cells of 2,500 pixels give their mode to a few 1/50.
    assert np.abs(background.level - sky)[inner].max() < 0.15


def test_background_of_few_pixels() -> None:
    weight = np.zeros((100, 100))
    weight[::10, ::10] = 1
    data = np.where(weight > 0, 3, np.nan)
    np.testing.assert_allclose(mesh_background_2d(make_image(data, weight), BackgroundOptions()).level, 3, rtol=1e-6)
    with pytest.raises(dp.PhotplugError, match="weights are null or masked"):
        mesh_background_2d(make_image(data, 0), BackgroundOptions())


# --- photometry


def test_half_light_radius_of_a_gaussian() -> None:
    image = make_image(gaussian((101, 101), 50.3, 49.8, 3, 100))
    row = measure_with(
        PHOTUTILS, image, make_detection(image.data.shape, x=[50.3], y=[49.8]), None, Options(measure=AS_IS)
    )[0]
    flux = 0.01 * 100 * 2 * np.pi * 9
    inside = row["flux_auto"].value / flux
    # Pixels widen the profile by 1/12 of a pixel squared; exact sums of pixels leave their pattern on the rim.
    expected = np.sqrt(-2 * (9 + 1 / 12) * np.log(1 - inside / 2)) * SCALE
    assert row["flux_radius"].to_value(u.arcsec) == pytest.approx(expected, rel=2e-3)


def test_kron_radius_is_that_of_source_catalog() -> None:
    rng = np.random.default_rng(3)
    image = make_image(gaussian((101, 101), 50.3, 49.8, 3, 100) + rng.normal(0, 0.01, (101, 101)))
    found = detect(image)
    expected = SourceCatalog(image.data, SegmentationImage(found.segmentation), kron_params=(1.0, 1e-6, 0.0))
    options = Options(measure=replace(AS_IS, kron_factor=1, kron_min=0, kron_circle=0))
    row = measure_with(PHOTUTILS, image, found, None, options)[0]
    # Of the same moments, but the sky of 0.01 is taken off before them.
    assert row["kron_radius"] == pytest.approx(expected.kron_radius[0].value, rel=1e-3)


def test_taken_apertures() -> None:
    """A NaN, a barycentre in a neighbour, positions off the image and a source without light: as sep."""
    data = gaussian((80, 90), 40, 40, 3, 50)
    data[41, 42] = np.nan
    segmentation = np.zeros(data.shape, dtype=np.int32)
    segmentation[30:50, 30:50], segmentation[5:35, 55:85] = 1, 7
    image = make_image(data)
    places = {"x": [40.0, 70.0, -500.0, 20.0, np.nan, 88.0], "y": [40.0, 20.0, 40.0, 70.0, 5.0, 78.0]}
    theirs, ours = both(image, make_detection(image.data.shape, segmentation, **places))
    for name in ours.colnames:
        if name != "flux_radius" and not name.startswith("flag"):
            values, expected = (u.Quantity(table[name]).value for table in (ours, theirs))
            np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-9, err_msg=name)
    shared = ~(SourceFlag.APER_TRUNCATED | SourceFlag.APER_MASKED).value
    np.testing.assert_array_equal(ours["flag"] & shared, theirs["flag"] & shared)
    assert ours["flag_aper_3"][0] == SourceFlag.APER_MASKED + SourceFlag.NULL_WEIGHT
    assert ours["flag_aper_0"][1] & SourceFlag.APER_ALL_MASKED
    assert ours["flag"][2] & SourceFlag.NOT_COVERED
    assert ours["flag_aper_3"][5] & SourceFlag.APER_TRUNCATED
