"""AB magnitudes of fluxes."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from dja_photplug.units import magnitude


def test_magnitude_is_ab() -> None:
    flux = np.array([1e-3, 1.0, 250.0])
    mag, magerr = magnitude(flux, flux / 1000)
    # 23.9 rounds -2.5 log10(1 uJy / 3631 Jy) = 23.90001.
    np.testing.assert_allclose(mag, (flux * u.uJy).to_value(u.ABmag), atol=2e-5)
    # The derivative, against a difference; second order in 1/1000.
    np.testing.assert_allclose(magerr, magnitude(flux / 1.001, flux)[0] - mag, rtol=1e-3)


def test_magnitude_of_no_flux_is_nan() -> None:
    mag, magerr = magnitude([0.0, -1.0, np.nan], [1.0, 1.0, 1.0])
    assert np.isnan(mag).all()
    assert np.isnan(magerr).all()
