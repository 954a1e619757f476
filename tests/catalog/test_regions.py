"""DS9 regions of a catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from regions import CircleSkyRegion, Regions

from dja_photplug.catalog.regions import write_regions
from dja_photplug.errors import PhotplugError
from tests.helpers import make_catalog, make_wcs


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 37, 200])
def test_regions_lie_along_the_sources(tmp_path, degrees: float, mirrored: bool) -> None:
    wcs = make_wcs(angle=degrees, mirrored=mirrored)
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


def sky_angle(image: np.ndarray, wcs: WCS) -> float:
    """Return the position angle (deg, north through east) of the light of an image, from its moments on the sky."""
    y, x = np.indices(image.shape)
    sky = wcs.pixel_to_world(x, y).icrs
    east, north = (offset.arcsec for offset in sky[50, 50].spherical_offsets_to(sky))
    east, north = (offset - np.average(offset, weights=image) for offset in (east, north))
    ee, nn, en = (np.average(value, weights=image) for value in (east**2, north**2, east * north))
    return float(np.degrees(np.arctan2(2 * en, nn - ee)) / 2)


@pytest.mark.parametrize("frame", ["icrs", "galactic"])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 41, 200])
def test_regions_have_the_angle_of_the_light_on_the_sky(tmp_path, degrees: float, mirrored: bool, frame: str) -> None:
    wcs = make_wcs(angle=degrees, mirrored=mirrored)
    if frame == "galactic":
        wcs.wcs.ctype = "GLON-TAN", "GLAT-TAN"
    rows, columns = np.indices((101, 101)) - 50.0
    for theta in (-70.0, 0.0, 20.5):
        turn = np.radians(theta)
        along, across = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
        image = np.exp(-((along / 9) ** 2 + (across / 4) ** 2) / 2)
        table = make_catalog()[:1]
        place = wcs.pixel_to_world(50, 50).icrs
        new = {"ra": [place.ra.deg] * u.deg, "dec": [place.dec.deg] * u.deg, "x": [50] * u.pix, "y": [50] * u.pix}
        new |= {
            "theta": [theta] * u.deg,
            "a": [0.36] * u.arcsec,
            "b": [0.16] * u.arcsec,
            "kron_radius": [3.0],
            "flag": [0],
        }
        for name, values in new.items():
            table[name] = values
        [region] = Regions.read(write_regions(table, tmp_path / "cat.reg", wcs, overwrite=True))
        # DS9 counts the angle of a width from the longitude axis, which is 90 deg from north.
        off = (region.angle.to_value(u.deg) - 90 - sky_angle(image, wcs) + 90) % 180 - 90
        assert off == pytest.approx(0, abs=0.01)  # moments of pixels


def test_regions_skip_sources_without_a_position(tmp_path) -> None:
    table = make_catalog()
    table["ra"][0] = np.nan * u.deg
    assert len(Regions.read(write_regions(table, tmp_path / "cat.reg", make_wcs()))) == 2


def test_regions_of_no_source_are_a_file(tmp_path) -> None:
    assert write_regions(make_catalog()[:0], tmp_path / "cat.reg", make_wcs()).exists()


def test_regions_need_their_suffix(tmp_path) -> None:
    with pytest.raises(PhotplugError, match=r"suffix must be one of \.reg; rename it"):
        write_regions(make_catalog(), tmp_path / "cat.txt", make_wcs())


def test_position_angle_is_that_of_the_sky() -> None:
    """Guard of the convention used: 0 lines an ellipse up with the longitude axis."""
    wcs = make_wcs(angle=37)
    centre = SkyCoord(34.3, -5.1, unit="deg")
    north = centre.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    (x0, x1), (y0, y1) = wcs.world_to_pixel_values([centre.ra.deg, north.ra.deg], [centre.dec.deg, north.dec.deg])
    # CD is made to turn the sky counter-clockwise by 37 deg.
    assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) - 90 == pytest.approx(37, abs=1e-3)
