"""AB magnitudes of fluxes, and units as people spell them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

from dja_photplug.units import convert, magnitude, read_unit


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


@pytest.mark.parametrize(
    ("unit", "spellings"),
    [
        ("uJy", "uJy|ujy|UJY|microJy|micro-Jansky|micro Jy|MicroJanskys|\u00b5Jy|\u03bcjy|[uJy]| uJy "),
        ("nJy", "nJy|njy|NJY|nanojy|nano-Jansky"),
        ("mJy", "mJy|mjy|milliJy|milli-jansky"),
        ("Jy", "Jy|JY|jy|Jansky|janskys"),
        ("10 nJy", "10 nJy|10*nanoJansky|10.0*nanoJansky|10 njy|1e1 nano-Jansky"),
        ("mag(AB)", "mag(AB)|AB mag|ABmag|abmag|mag AB|AB magnitudes|mag (AB)"),
        ("mag", "mag|mags|Mag|magnitude|magnitudes"),
        ("deg", "deg|Deg|DEG|degs|degree|degrees|Degrees"),
        ("arcsec", "arcsec|Arcsec|arcsecs|arcsecond|arcseconds|arc-seconds|arc sec|asec"),
        ("arcmin", "arcmin|arcminutes|amin"),
        ("mas", "mas|milliarcsec|milli-arcseconds"),
        ("rad", "rad|Rad|radian|radians"),
        ("hourangle", "hourangle|hours|hr|hrs|h:m:s"),
        ("pix", "pix|pixel|pixels|Pixels|px"),
        ("erg / (Hz s cm2)", "erg/s/cm2/Hz|erg/s/cm^2/Hz"),
    ],
)
def test_units_as_people_spell_them(unit: str, spellings: str) -> None:
    for text in spellings.split("|"):
        for given in (text, u.Unit(text.strip(), format="fits", parse_strict="silent")):
            assert str(read_unit(given)) == unit, text
            assert read_unit(given) == read_unit(unit), text


@pytest.mark.parametrize("text", ["MJY", "Mjy", "counts", "furlongs", "magnitudeslike", "?", "Jy-ish"])
def test_units_that_nobody_knows(text: str) -> None:
    assert read_unit(text) is None


def test_conversions() -> None:
    assert convert([1.0], u.Unit("10 nJy"), "uJy").tolist() == [0.01]
    np.testing.assert_allclose(convert([23.9, 26.4], u.ABmag, "uJy"), [1, 0.1], rtol=1e-4)  # AB is 3631 Jy
    with pytest.raises(u.UnitsError):
        convert([1.0], u.mag, "uJy")
