"""DS9 regions of a catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from regions import CircleSkyRegion, Regions

from dja_photplug.catalog.regions import write_regions
from dja_photplug.errors import PhotplugError
from tests.helpers import make_catalog, make_wcs


@pytest.mark.parametrize("degrees", [0, 37, 200])
def test_regions_lie_along_the_sources(tmp_path, degrees: float) -> None:
    wcs = make_wcs(angle=degrees)
    table = make_catalog()
    x, y, theta = np.array([30.0, 70.0, 50.0]), np.array([40.0, 45.0, 20.0]), np.array([-80.0, 0.0, 25.0])
    ra, dec = wcs.pixel_to_world_values(x, y)
    new = {"ra": ra * u.deg, "dec": dec * u.deg, "x": x * u.pix, "y": y * u.pix, "theta": theta * u.deg}
    new |= {"a": [0.2] * 3 * u.arcsec, "b": [0.1] * 3 * u.arcsec, "kron_radius": [3.0] * 3, "flag": [0, 0, 512]}
    for name, values in new.items():
        table[name] = values
    regions = Regions.read(write_regions(table, tmp_path / "cat.reg", wcs))
    assert [str(region.meta["text"]) for region in regions] == ["0", "1", "2"]
    assert isinstance(regions[2], CircleSkyRegion)
    assert regions[2].radius.to_value(u.arcsec) == pytest.approx(0.35)
    for i in range(2):
        ellipse = regions[i].to_pixel(wcs)
        # DS9 files hold 8 decimals of a degree, 1e-3 of a pixel, and angles to 1e-8 deg.
        np.testing.assert_allclose([ellipse.center.x, ellipse.center.y], [x[i], y[i]], atol=2e-3)
        np.testing.assert_allclose([ellipse.width, ellipse.height], [30, 15], atol=2e-3)
        turn = (ellipse.angle.to_value(u.deg) - theta[i] + 90) % 180 - 90
        # Across 100 pixels north turns by less than 1e-4 deg; the finite step of 1 arcsec adds no more.
        assert turn == pytest.approx(0, abs=1e-3)


def test_regions_skip_sources_without_a_position(tmp_path) -> None:
    table = make_catalog()
    table["ra"][0] = np.nan * u.deg
    assert len(Regions.read(write_regions(table, tmp_path / "cat.reg", make_wcs()))) == 2


def test_regions_of_no_source_are_a_file(tmp_path) -> None:
    assert write_regions(make_catalog()[:0], tmp_path / "cat.reg", make_wcs()).exists()


def test_regions_need_their_suffix(tmp_path) -> None:
    with pytest.raises(PhotplugError, match=r"is written as \.reg; name it so"):
        write_regions(make_catalog(), tmp_path / "cat.txt", make_wcs())


def test_position_angle_is_that_of_the_sky() -> None:
    """Guard of the convention used: 0 lines an ellipse up with the longitude axis."""
    wcs = make_wcs(angle=37)
    centre = SkyCoord(34.3, -5.1, unit="deg")
    north = centre.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    (x0, x1), (y0, y1) = wcs.world_to_pixel_values([centre.ra.deg, north.ra.deg], [centre.dec.deg, north.dec.deg])
    # CD is made to turn the sky counter-clockwise by 37 deg.
    assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) - 90 == pytest.approx(37, abs=1e-3)
