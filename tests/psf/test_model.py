"""Images of the PSF against Gaussians whose sums are known, and against photutils on real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.io import fits
from photutils.profiles import CurveOfGrowth
from scipy.special import erf

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.psf.model import PSF, encircled_energy, half_light_radius, read_psf, warn_of_assumptions
from dja_photplug.psf.sampling import prepare_psf, sample_psf

FWHM = np.sqrt(8 * np.log(2))  # of a sigma of 1
SIGMA = 0.145 / FWHM  # arcsec, F444W
OFFSET = (-0.19, 0.4)  # where grizli's stamps have their centre, from the middle pixel in y and x
REAL = ["uds/psf-ceers-nrca5-f444w.fits", "uds/psf-ceers-nrca3-f115w.fits"]


def gaussian(shape: tuple[int, int], centre: tuple[float, float], sigma: float) -> np.ndarray:
    """Return a Gaussian of sum 1 integrated over pixels; all in pixels."""
    edges = [(np.arange(n + 1) - 0.5 - c) / sigma / np.sqrt(2) for n, c in zip(shape, centre, strict=True)]
    return np.outer(*(np.diff(erf(edge)) / 2 for edge in edges))


def make_psf(
    shape: tuple[int, int] = (101, 101), offset: tuple[float, float] = OFFSET, sigma: float = SIGMA, scale: float = 0.04
) -> PSF:
    """Return a Gaussian, its sigma in arcsec, `offset` pixels from the middle of the stamp."""
    centre = ((shape[0] - 1) / 2 + offset[0], (shape[1] - 1) / 2 + offset[1])
    return PSF(data=gaussian(shape, centre, sigma / scale), scale=scale, centre=centre, name="gaussian")


def write(path: Path, data: np.ndarray, **cards: object) -> Path:
    fits.writeto(path, data, fits.Header(cards), overwrite=True)
    return path


# --- reading


@pytest.mark.parametrize("shape", [(101, 101), (100, 100), (60, 81)])
@pytest.mark.parametrize("offset", [(0, 0), (0.5, -0.5), OFFSET, (7.3, -11.2)])
def test_the_centre_is_that_of_the_light(tmp_path, shape, offset):
    """sep's own steps end below 2e-4 pixels."""
    truth = make_psf(shape, offset)
    psf = read_psf(write(tmp_path / "psf.fits", truth.data, PIXSCL=0.04))
    np.testing.assert_allclose(psf.centre, truth.centre, atol=1e-3)
    np.testing.assert_allclose(psf.data, truth.data, rtol=1e-7)  # float32
    assert psf.data.dtype == np.float64
    assert psf.name == "psf.fits"


@pytest.mark.parametrize("offset", [OFFSET, (0.25, 0.25), (0.5, 0.5), (0, -0.4)])
def test_the_centre_of_a_psf_that_is_hardly_sampled(tmp_path, offset):
    """With a FWHM of 1.6 pixels, as F115W has; a narrower window is wrong by up to 0.07 pixels."""
    truth = make_psf(offset=offset, sigma=1.6 * 0.04 / FWHM)
    psf = read_psf(write(tmp_path / "psf.fits", truth.data), 0.04)
    np.testing.assert_allclose(psf.centre, truth.centre, atol=0.002)


def make_cards(scale: float) -> dict[str, object]:
    """Return the cards of a WCS."""
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CDELT1": -scale / 3600,
        "CDELT2": scale / 3600,
    } | dict.fromkeys(("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"), 0.0)


@pytest.mark.parametrize(
    ("cards", "scale", "source"),
    [
        ({"PIXSCL": 0.03}, 0.03, "PIXSCL"),
        ({"PIXELSCL": 0.031}, 0.031, "PIXELSCL"),
        ({"PIXSCALE": 0.025}, 0.025, "PIXSCALE"),
        (make_cards(0.02), 0.02, "its WCS"),
        ({"PIXAR_A2": 0.0009}, 0.03, "PIXAR_A2"),
        # Of the detector, in products that were drizzled.
        (make_cards(0.02) | {"PIXAR_A2": 0.004}, 0.02, "its WCS"),
        ({"PIXELSCL": 0.0311, "PIXSCALE": 0.031}, 0.0311, "PIXELSCL"),
    ],
)
def test_the_scale_is_stated_by_the_header(tmp_path, cards, scale, source):
    psf = read_psf(write(tmp_path / "psf.fits", make_psf().data, **cards), 0.04)
    assert psf.scale == pytest.approx(scale, rel=1e-9)
    assert psf.scale_from == source
    warn_of_assumptions(psf)


def test_the_scale_is_given_or_assumed(tmp_path):
    data, path = make_psf().data, tmp_path / "psf.fits"
    psf = read_psf(write(path, data), 0.04)
    assert psf.scale == 0.04
    with pytest.warns(PhotplugWarning, match=r"psf.fits: the PSF states no pixel scale .* assumed, 0\.04 arcsec"):
        warn_of_assumptions(psf, share=False)
    psf = read_psf(path, 0.04, scale=0.03)
    assert (psf.scale, psf.scale_from) == (0.03, "--psf-scale")
    warn_of_assumptions(psf)
    write(path, data, PIXSCL=0.04)
    psf = read_psf(path, scale=0.03)
    assert psf.scale == 0.03
    with pytest.warns(PhotplugWarning, match=r"of 0\.03 arcsec are given, but .* states 0\.04 \(PIXSCL\)"):
        warn_of_assumptions(psf, share=False)
    psf = read_psf(write(path, data, PIXSCL="40 mas"), scale=0.03)
    assert psf.contradicted == "none (keyword PIXSCL is '40 mas', not a positive number)"


def test_the_first_image_of_several_is_read(tmp_path):
    """As OVERSAMP of a file of STPSF is, also behind an empty primary."""
    path, first, second = tmp_path / "psf.fits.gz", make_psf(), make_psf((51, 51))
    images = [
        fits.ImageHDU(first.data, fits.Header({"PIXELSCL": 0.04}), name="OVERSAMP"),
        fits.ImageHDU(second.data, name="DET_SAMP"),
    ]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    assert read_psf(path).data.shape == (101, 101)


@pytest.mark.parametrize(
    ("factor", "total"), [(0.6, 0.6), (1.0, 1.0), (1.0005, 1.0), (1.013, 1.0), (1.11, 1.0), (100, 1.0), (0.01, 1.0)]
)
def test_a_sum_that_is_a_share_of_light_is_kept(tmp_path, factor, total):
    path = write(tmp_path / "psf.fits", factor * make_psf().data, PIXSCL=0.04)
    psf = read_psf(path)
    assert psf.data.sum() == pytest.approx(total, rel=1e-6)  # float32
    assert encircled_energy(psf, [0.3, 1.0, 9.0]).max() <= 1 + 1e-12
    if factor in (0.6, 1.0, 1.0005):
        assert psf.original_sum is None
        warn_of_assumptions(psf)
    else:
        assert psf.original_sum == pytest.approx(factor, rel=1e-6)
        with pytest.warns(
            PhotplugWarning, match=f"sums to {factor:.4g}, which is not a fraction .* beyond 0.24 arcsec"
        ):
            warn_of_assumptions(psf)
        warn_of_assumptions(psf, share=False)
    given = read_psf(path, share=0.9)
    assert given.data.sum() == pytest.approx(0.9, rel=1e-6)
    warn_of_assumptions(given)


def test_a_curve_of_growth_above_1_is_refused(tmp_path):
    """A sky that was taken off too much, by 1e-5 a pixel: the sum is 0.898, and the curve rises to 0.98 before."""
    data = make_psf().data
    write(tmp_path / "low.fits", data - 1e-5, PIXSCL=0.04)
    assert read_psf(tmp_path / "low.fits").original_sum is None
    with pytest.raises(PhotplugError, match=r"low.fits: the curve of growth reaches 1\.\d+ at .* too much sky"):
        read_psf(write(tmp_path / "low.fits", 200 * (data - 1e-5), PIXSCL=0.04))


def spoil(value: float, place: tuple[int, int] = (40, 30)) -> np.ndarray:
    data = make_psf().data
    data[place] = value
    return data


@pytest.mark.parametrize(
    ("data", "cards", "message"),
    [
        (np.ones((4, 9)), {}, "an image of 9 x 4 pixels is too small for a PSF; give one of 5 or more on a side"),
        (spoil(np.nan), {}, "1 of 10201 pixels of the PSF are NaN or infinite; give"),
        (spoil(np.inf), {}, "1 of 10201 pixels of the PSF are NaN or infinite; give"),
        (spoil(-2), {}, r"the PSF sums to -1 and peaks at 0\.\d+; give one that is positive"),
        (np.zeros((9, 9)), {}, "the PSF sums to 0 and peaks at 0; give"),
        (spoil(-0.005), {}, r"the PSF reaches down to -0.\d+ of its peak, but ringing explains only -0.02; give"),
        (
            make_psf(offset=(0, -48)).data,
            {"PIXSCL": 0.04},
            r"centred at x, y = 2.\d, 50.0 of 101 x 101 pixels, .*cut it out",
        ),
        (
            make_psf(offset=(26, 0)).data,
            {"PIXSCL": 0.04},
            "centred at x, y = 50.0, 76.0 of 101 x 101 pixels, .*cut it out",
        ),
        (make_psf().data, {"PIXSCL": "40 mas"}, "keyword PIXSCL is '40 mas', not a positive number; correct"),
        (make_psf().data, {"PIXSCL": -0.04}, "keyword PIXSCL is -0.04, not a positive number; correct"),
        (make_psf().data, {"PIXELSCL": 4.0}, "with pixels of 4 arcsec the PSF is 15.* not 0.02 to 2: a wrong scale"),
        (make_psf().data, {"PIXSCL": 1.1e-5}, "with pixels of 1.1e-05 arcsec .* wrong scale"),
        (np.ones((101, 101)), {"PIXSCL": 0.04}, "the PSF is 4.56 arcsec wide .* or give a PSF"),
        (make_psf().data, {}, r"the PSF states no pixel scale \(PIXSCL, .* or a WCS\); give one \(--psf-scale\)"),
        (
            make_psf().data,
            {"PIXELSCL": 0.03, **make_cards(0.04)},
            r"PIXELSCL states .* 0\.03 .* its WCS states 0\.04; give",
        ),
        (make_psf().data, make_cards(0.04) | {"CRVAL1": "here"}, "keyword CRVAL1 is 'here'"),
    ],
)
def test_what_is_no_psf_is_refused_in_one_line(tmp_path, data, cards, message):
    path = write(tmp_path / "psf.fits", data, **cards)
    with pytest.raises(PhotplugError, match=message) as raised:
        read_psf(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_shallow_ringing_is_accepted(tmp_path):
    assert read_psf(write(tmp_path / "psf.fits", spoil(-0.001)), 0.04).data.min() < 0


@pytest.mark.parametrize("scale", [np.nan, 0.0])
def test_a_scale_that_is_given_is_checked_too(tmp_path, scale):
    with pytest.raises(PhotplugError, match="a wrong scale"):
        read_psf(write(tmp_path / "psf.fits", make_psf().data), scale)


def test_a_cube_is_refused(tmp_path):
    with pytest.raises(PhotplugError, match="psf.fits: holds no two-dimensional image"):
        read_psf(write(tmp_path / "psf.fits", np.ones((3, 9, 9))), 0.04)


# --- curve of growth


@pytest.mark.parametrize(("shape", "scale"), [((101, 101), 0.04), ((200, 200), 0.02)])
def test_the_light_in_circles_is_that_of_a_gaussian(shape, scale):
    """1 - exp(-r^2 / 2 s^2); the pixel adds 1/12 of its square to s^2, and overlap with it as much again.

    What this leaves out falls with the square of the pixel: measured are 0.0011 and 0.0003.
    """
    psf, radius = make_psf(shape, scale=scale), np.array([0.08, 0.1, 0.2, 0.35, 0.5])
    truth = 1 - np.exp(-(radius**2) / 2 / (SIGMA**2 + scale**2 / 6))
    np.testing.assert_allclose(encircled_energy(psf, radius), truth, atol=1.4e-3 * (scale / 0.04) ** 2)


@pytest.mark.parametrize("within", [0.3, 2.0])
def test_half_of_the_light_is_within_the_half_light_radius(within):
    psf = make_psf((200, 200), scale=0.02)
    radius = half_light_radius(psf, within)
    assert encircled_energy(psf, radius) == pytest.approx(encircled_energy(psf, within) / 2, abs=1e-5)
    variance = SIGMA**2 + 0.02**2 / 6
    share = 1 - np.exp(-(within**2) / 2 / variance)
    assert radius == pytest.approx(np.sqrt(-2 * variance * np.log(1 - share / 2)), rel=1e-3)


def test_the_curve_at_its_ends():
    psf = make_psf()
    light = encircled_energy(psf, [-1, 0, 2.9, 1e6, np.inf, np.nan])
    np.testing.assert_allclose(light, [0, 0, 1, 1, 1, np.nan], rtol=1e-12, atol=0)
    # In a tiny circle the central pixel is flat.
    np.testing.assert_allclose(
        half_light_radius(psf, [0, 0.001, np.inf, np.nan])[[0, 1, 3]], [0, 0.001 / 2**0.5, np.nan]
    )
    assert encircled_energy(psf, [[0.1, 0.2], [0.3, 0.4]]).shape == (2, 2)


def test_the_curve_of_ringing_never_falls_and_stays_below_the_sum():
    psf = make_psf()
    y, x = np.indices(psf.data.shape)
    ring = np.hypot(y - psf.centre[0], x - psf.centre[1])
    psf.data[(ring > 12) & (ring < 14)] = -1e-4
    psf.data[(ring > 14) & (ring < 16)] = 1e-4
    light = encircled_energy(psf, np.linspace(0, 4, 100_000))
    assert (np.diff(light) >= 0).all()
    assert light.max() == psf.data.sum() < 1.01
    assert (half_light_radius(psf, np.linspace(0, 4, 1000)) < 0.08).all()


@pytest.mark.parametrize(("name", "total"), [(REAL[0], 0.951), (REAL[1], 0.974)])
def test_real_psfs_against_photutils(data, name, total):
    """The tabulated curve is true to 1e-4 where one pixel holds a fifth of the light, and better elsewhere."""
    psf = read_psf(data / name)
    assert psf.scale == 0.04
    assert psf.original_sum is None
    assert psf.data.sum() == pytest.approx(total, abs=5e-4)
    # Of both stamps alike, so it is how they were made; 0.01 is their asymmetry.
    np.testing.assert_allclose(psf.centre, (50 + OFFSET[0], 50 + OFFSET[1]), atol=0.015)
    radius = np.array([0.01, 0.04, 0.07, 0.1, 0.16, 0.25, 0.35, 0.5, 1, 1.5, 1.9])
    growth = CurveOfGrowth(psf.data, psf.centre[::-1], radius / psf.scale, method="exact")
    np.testing.assert_allclose(encircled_energy(psf, radius), growth.profile, atol=1e-4)
    np.testing.assert_allclose(
        half_light_radius(psf, 1.9) / 0.04, growth.calc_radius_at_ee(growth.profile[-1] / 2), rtol=0.05
    )


# --- stamps


@pytest.mark.parametrize("shape", [(101, 101), (100, 100), (81, 100)])
@pytest.mark.parametrize(
    ("scale", "tolerance"),
    # Of the peak; measured are 1.8e-3, 3.5e-3, 1.8e-3 and 1.6e-3: how well pixels tell what is between them.
    [(0.04, 2.5e-3), (0.02, 4.5e-3), (0.08, 2.5e-3), (0.063, 2.5e-3)],
)
def test_stamps_are_the_psf_integrated_over_new_pixels(shape, scale, tolerance):
    psf = make_psf(shape)
    stamp = prepare_psf(psf, scale)
    assert stamp.dtype == np.float32
    assert stamp.flags.c_contiguous
    assert all(n % 2 for n in stamp.shape)
    lost = np.array(shape) - np.array(stamp.shape) * scale / 0.04
    assert (lost < 1.01 + 2 * scale / 0.04).all()  # all that lies within the image, on both sides of the centre
    middle = tuple(n // 2 for n in stamp.shape)
    truth = gaussian(stamp.shape, middle, SIGMA / scale)
    np.testing.assert_allclose(stamp, truth, atol=tolerance * truth.max())
    assert stamp.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)  # float32
    moments = [(stamp.sum(axis=1 - axis) * (np.arange(n) - n // 2)).sum() for axis, n in enumerate(stamp.shape)]
    np.testing.assert_allclose(moments, 0, atol=1e-3)  # pixels; 0.02 are asked for


def test_from_20_to_40_mas():
    """Measured: 7e-5 of the peak."""
    fine = make_psf((201, 201), scale=0.02)
    truth = gaussian((99, 99), (49, 49), SIGMA / 0.04)
    np.testing.assert_allclose(prepare_psf(fine, 0.04, 99), truth, atol=1e-4 * truth.max())


def test_what_fits_is_left_as_it_is():
    """Bit for bit, but for the sum; also where the centre is a pixel beside the middle, or the scale is rounded."""
    psf = make_psf(offset=(0, 0))
    np.testing.assert_array_equal(prepare_psf(psf, 0.04), (psf.data / psf.data.sum()).astype(np.float32))
    np.testing.assert_array_equal(prepare_psf(psf, 0.0400001), prepare_psf(psf, 0.04))
    even = make_psf((100, 100), offset=(0.51, 0.49))  # centred 0.01 from pixel 50, 50
    np.testing.assert_array_equal(
        prepare_psf(even, 0.04), (even.data[1:, 1:] / even.data[1:, 1:].sum()).astype(np.float32)
    )


def test_stamps_are_cut_to_size():
    psf = make_psf(offset=(0, 0))
    np.testing.assert_allclose(prepare_psf(psf, 0.04, 31), gaussian((31, 31), (15, 15), SIGMA / 0.04), atol=1e-7)
    assert prepare_psf(psf, 0.02, 301).shape == (201, 201)  # no more than there is
    small = prepare_psf(psf, 0.04, 5)
    np.testing.assert_allclose(small, psf.data[48:53, 48:53] / psf.data[48:53, 48:53].sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "size", "message"),
    [
        (0.04, 30, "gaussian: a PSF stamp of 30 pixels has no middle pixel; give an odd, positive number"),
        (0.04, 0, "a PSF stamp of 0 pixels"),
        (0.04, -3, "a PSF stamp of -3 pixels"),
        (0.0, None, "gaussian: pixels of 0 arcsec are asked for; give a positive scale"),
        (np.nan, None, "pixels of nan arcsec are asked for"),
        (1.0, None, "gaussian: pixels 25 times as large as those of the PSF leave fewer than 5; give a larger PSF"),
        (20.0, None, "gaussian: pixels 500 times as large"),
    ],
)
def test_stamps_that_cannot_be(scale, size, message):
    with pytest.raises(PhotplugError, match=message):
        prepare_psf(make_psf(), scale, size)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("scale", [0.02, 0.04, 0.08])
def test_stamps_of_real_psfs_are_centred_and_grow_as_they_did(data, tmp_path, name, scale):
    psf = read_psf(data / name)
    stamp = prepare_psf(psf, scale)
    middle = np.array(stamp.shape) // 2
    # In the window that the centre was measured in, for F115W.
    x, y, _ = sep.winpos(stamp, *middle[::-1], 0.06 / scale)
    np.testing.assert_allclose([y, x], middle, atol=0.02)
    assert stamp.min() > -1e-6 * stamp.max()  # no deeper than the rounding errors of what was given
    again = read_psf(write(tmp_path / "stamp.fits", stamp), scale)
    # Beyond four of the largest pixels, which blur the circles.
    radius = np.array([0.35, 0.5, 1.0, 1.5])
    np.testing.assert_allclose(
        encircled_energy(again, radius), encircled_energy(psf, radius) / psf.data.sum(), atol=0.005
    )


def test_a_stamp_is_nowhere_negative_but_where_the_psf_is():
    """FWHM of 1.6 pixels: a spline alone rings to -4 % of the peak."""
    stamp = prepare_psf(make_psf(sigma=1.6 * 0.04 / FWHM), 0.02)
    assert stamp.min() > -1e-9


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.3, -0.45)])
@pytest.mark.parametrize("shape", [(200, 200), (201, 200)])
def test_a_psf_falls_where_it_is_put(shape, offset):
    """From 20 to 40 mas: the light of each pixel, with the share that the stamp holds."""
    psf = make_psf(shape, scale=0.02)
    psf = replace(psf, data=0.9 * psf.data)
    stamp = sample_psf(psf, 0.04, offset)
    centre = tuple((n - 1) / 2 + away for n, away in zip(stamp.shape, offset, strict=True))
    truth = 0.9 * gaussian(stamp.shape, centre, SIGMA / 0.04)
    np.testing.assert_allclose(stamp, truth, atol=0.005 * truth.max())
    assert stamp.sum() == pytest.approx(0.9, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "total", "scale"),
    [
        ("ceers-f814w", 1.0125, 0.04),
        ("ceers-f160w", 1.1100, 0.04),
        ("smacs0723-f115w", 1.0145, 0.02),
        ("ceers-nrca3-f200w", None, 0.04),
        ("smacs0723-mirim-f770w", None, 0.04),
        ("smacs0723-f444w", None, 0.02),
    ],
)
def test_sums_of_real_psfs(data, name, total, scale):
    psf = read_psf(data / f"psf/psf-{name}.fits.gz")
    assert (psf.scale, psf.scale_from) == (scale, "PIXSCL")
    assert psf.original_sum == (None if total is None else pytest.approx(total, abs=1e-4))
    light = encircled_energy(psf, np.linspace(0, 4, 100))
    assert light.max() == pytest.approx(1 if total else psf.data.sum())
    assert light.max() <= 1 + 1e-12
