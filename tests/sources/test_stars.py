"""Stars of a field against a PSF: told where it is wrong, silent where it is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import dja_photplug as dp
from dja_photplug.sources.stars import odd_side
from tests.helpers import DJA, gaussian

PREFIX = "sim-test-v7.4-f444w-clear"
# FWHM of 0.145 arcsec, the detector's pixels and drops, those of the mosaic.
SIGMA = np.sqrt(0.145**2 / 8 / np.log(2) + (0.063**2 * (1 + 0.75**2) + 0.04**2) / 12)


def run(folder, sigma: float) -> dp.Result:
    """Measure the simulated mosaic with a Gaussian PSF."""
    pixels = gaussian((101, 101), 50, 50, sigma / 0.04)
    psf = dp.PSF(data=pixels / pixels.sum(), scale=0.04, centre=(50, 50), name="psf.fits")
    dp.write_psf_model(dp.PSFModel.of(psf), folder / "psf.fits", overwrite=True)
    return dp.run([PREFIX], replace(DJA, bands=dp.BandOptions(psf={"": "psf.fits"})))


def test_the_right_psf_is_not_contradicted(folder):
    meta = run(folder, SIGMA).catalog.meta
    assert meta["PSFNSTAR"] >= 5
    assert abs(meta["PSFOFF"]) < 0.01


@pytest.mark.parametrize(("factor", "told"), [(1.6, "more"), (2.2, "more")])
def test_a_psf_of_another_width_is_contradicted(folder, factor, told):
    with pytest.warns(dp.PhotplugWarning, match=f"psf.fits: .* stars of .* have .*% {told} light within 0.25 arcsec"):
        meta = run(folder, factor * SIGMA).catalog.meta
    inside = [1 - np.exp(-(radius**2) / 2 / (factor * SIGMA) ** 2) for radius in (0.5, 1.0)]
    np.testing.assert_allclose(meta["PSFOFF"], inside[1] / inside[0] - 1, atol=0.01)


def test_the_one_star_of_the_real_field_proves_nothing(data):
    options = replace(DJA, bands=dp.BandOptions(psf={"": str(data / "uds/psf-ceers-nrca3-f115w.fits")}))
    meta = dp.run([data / "uds/uds-test-v7.4-f444w-clear"], options).catalog.meta
    assert meta["PSFNSTAR"] == 1
    assert "PSFOFF" not in meta


def test_sides_are_odd_and_long_enough():
    assert [odd_side(4.0, 0.04), odd_side(4.04, 0.04), odd_side(1.0, 1.0)] == [101, 101, 1]
