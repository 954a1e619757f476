"""The contact sheet of stamps: the light of the model, what the panels show, and files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Ellipse
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv

import dja_photplug as dp
from dja_photplug.errors import PhotplugError
from dja_photplug.figures import stamps as stampplot
from dja_photplug.figures.stamps import draw_components, plot_stamps, stamp_figure
from dja_photplug.fitting.field import Component
from dja_photplug.fitting.select import select_sources
from dja_photplug.fitting.stamps import Stamp, cut_stamps
from dja_photplug.options.commands import GalfitOptions
from dja_photplug.simulate.mosaic import SimulatedMosaic
from tests.helpers import gaussian


def make_component(**changes: float) -> Component:
    values: Any = {"id": 1, "x": 100.3, "y": 80.0, "magnitude": 23.9, "radius": 3.0, "index": 1.0}
    return Component(**values | {"axis_ratio": 0.4, "theta": 30.0} | changes)


def elliptical_radius(component: Component, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the semi-major axes of the ellipses that pixels lie on, theta being counter-clockwise from +x."""
    y, x = np.indices(shape) - np.array([component.y, component.x])[:, None, None]
    angle = np.deg2rad(component.theta)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.hypot(along, across / component.axis_ratio)


def moments(light: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centroid (x, y) and the covariance."""
    y, x = np.indices(light.shape)
    centre = np.array([(light * axis).sum() for axis in (x, y)]) / light.sum()
    offsets = np.stack([x - centre[0], y - centre[1]])
    return centre, np.einsum("iyx,jyx,yx->ij", offsets, offsets, light) / light.sum()


@pytest.mark.parametrize("index", [0.5, 1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize(("radius", "axis_ratio"), [(0.5, 1.0), (3.0, 0.5), (10.0, 0.2)])
def test_light_of_a_profile_is_the_analytic_one(index: float, radius: float, axis_ratio: float) -> None:
    component = make_component(index=index, radius=radius, axis_ratio=axis_ratio)
    light = draw_components([component], (161, 201), 28.9)
    # Graham & Driver (2005), equation 2: the share of the light inside an ellipse.
    share = gammainc(2 * index, gammaincinv(2 * index, 0.5) * (75 / radius) ** (1 / index))
    # 23.9 mag are 100 of 10 nJy. Cells around the cusp are 12 % larger than the next: 0.35 % at most.
    assert light[elliptical_radius(component, light.shape) <= 75].sum() == pytest.approx(100 * share, rel=5e-3)


def test_profile_lies_at_its_place_and_angle() -> None:
    light = draw_components([make_component(theta=30.0)], (161, 201), 28.9)
    centre, covariance = moments(light)
    # Mirrors of the exponential profile are equal to rounding errors of the cells.
    np.testing.assert_allclose(centre, [100.3, 80.0], atol=0.01)
    angle = 0.5 * np.arctan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1])
    assert np.rad2deg(angle) == pytest.approx(30, abs=0.5)
    minor, major = np.linalg.eigvalsh(covariance - np.eye(2) / 12)  # a pixel adds 1/12
    assert np.sqrt(minor / major) == pytest.approx(0.4, abs=0.005)


def test_psf_conserves_light_and_adds_its_width() -> None:
    psf = gaussian((61, 61), 30, 30, 2, 1 / (2 * np.pi * 4))
    sharp, blurred = (draw_components([make_component()], (161, 201), 28.9, kernel) for kernel in (None, psf))
    assert blurred.sum() == pytest.approx(sharp.sum(), rel=1e-4)  # all light is far from the edges
    (place, shape), (sharp_place, sharp_shape) = moments(blurred), moments(sharp)
    np.testing.assert_allclose(place, sharp_place, atol=1e-3)
    # Variances add; 4 pixels^2, of which the light beyond the edges lacks a little.
    np.testing.assert_allclose(shape - sharp_shape, 4 * np.eye(2), atol=0.02)


def test_components_add_up_and_may_have_a_psf_larger_than_the_image() -> None:
    both = [make_component(x=10, y=10), make_component(x=20.5, y=15, index=3.0)]
    psf = np.zeros((81, 81))
    psf[40, 41] = 1  # one pixel to the right
    light = draw_components(both, (30, 40), 28.9, psf)
    first, second = (draw_components([each], (30, 40), 28.9) for each in both)
    np.testing.assert_allclose(light[:, 1:], (first + second)[:, :-1], atol=1e-6)  # FFT of values up to 20


@pytest.fixture(scope="module")
def stamps(simulated: SimulatedMosaic) -> list[Stamp]:
    """Bright, elongated galaxies, and the source nearest to an edge."""
    result = dp.run([simulated.prefix])
    catalog, segmentation, image = result.catalog, np.asarray(result.segmentation), result.image
    ny, nx = image.data.shape
    x, y = catalog["x"].value, catalog["y"].value
    edge = np.minimum.reduce([x, y, nx - 1 - x, ny - 1 - y]).argmin()
    clear = (catalog["flux_auto"].value > 1) & (catalog["b"] / catalog["a"] < 0.7)
    ids = [*catalog["id"][clear][:4].tolist(), int(catalog["id"][edge])]
    selected = select_sources(image, catalog, ids=ids, segmentation=segmentation)
    return list(cut_stamps(image, selected, GalfitOptions()))


def panels(stamp: Stamp) -> dict[str, Any]:
    figure = stamp_figure([stamp])
    return {str(axes.get_label()).removesuffix(f" {stamp.name}"): axes for axes in figure.axes}


def shown(axes: Any) -> NDArray[Any]:
    return axes.images[0].get_array()


def test_panels_show_the_planes(stamps: list[Stamp]) -> None:
    stamp = stamps[-1]  # at the edge
    axes = panels(stamp)
    assert tuple(axes) == stampplot.PANELS
    good = stamp.sigma < 1e9
    assert not good.all()
    model = draw_components(stamp.components, stamp.data.shape, stamp.zero_point, stamp.psf)
    expected: dict[str, Any] = {"science": stamp.data, "sigma": stamp.sigma, "science - model": stamp.data - model}
    for name, plane in expected.items():
        np.testing.assert_array_equal(np.ma.getmaskarray(shown(axes[name])), ~good)
        np.testing.assert_array_equal(shown(axes[name])[good], plane[good])
    np.testing.assert_array_equal(shown(axes["model start"]), model)
    mask = shown(axes["mask"])
    assert set(np.unique(mask)) >= {0, 1, 4}
    np.testing.assert_array_equal(mask >= 3, stamp.mask)
    np.testing.assert_array_equal(mask == 1, (stamp.segmentation == stamp.components[0].id) & ~stamp.mask)
    half = stamp.data.shape[0] * stamp.scale / 2
    np.testing.assert_allclose(axes["science"].get_xlim(), (-half, half))


def test_start_lies_on_its_galaxy_with_the_right_angle(stamps: list[Stamp], simulated: SimulatedMosaic) -> None:
    truth = simulated.scene
    for stamp in stamps[:4]:
        axes, target = panels(stamp), stamp.components[0]
        ellipse = next(patch for patch in axes["science"].patches if isinstance(patch, Ellipse))
        place = stamp.wcs.pixel_to_world_values(*(stamp.data.shape[0] // 2 + np.array(ellipse.center) / stamp.scale))
        offsets = np.hypot((truth["ra"].value - place[0]) * np.cos(np.deg2rad(place[1])), truth["dec"].value - place[1])
        source = truth[offsets.argmin()]
        assert offsets.min() * 3600 < 0.04  # a pixel: these are brighter than 1 uJy
        # North is up and east left: an angle east of north is one from +y to -x; noise turns by up to 1.5 deg.
        assert (ellipse.angle - 90 - source["pa"].value + 90) % 180 - 90 == pytest.approx(0, abs=3)
        assert ellipse.height / ellipse.width == pytest.approx(target.axis_ratio)
        # The galaxy resembles its start more than one that is turned by a right angle.
        model, inside = shown(axes["model start"]), elliptical_radius(target, stamp.data.shape) < 3 * target.radius
        turned = draw_components([replace(target, theta=target.theta + 90)], stamp.data.shape, 28.9)
        rest, worse = (np.abs(stamp.data - light)[inside].sum() for light in (model, turned))
        assert rest < 0.95 * worse


def test_neighbours_that_are_fitted_have_their_ellipse_and_colour(stamps: list[Stamp]) -> None:
    stamp, middle = stamps[0], stamps[0].data.shape[0] // 2
    neighbour = make_component(id=999, x=middle + 12.0, y=middle - 7.0, theta=70.0)
    segmentation = stamp.segmentation.copy()
    segmentation[middle - 7, middle + 12] = 999
    mask = stamp.mask & (segmentation != 999)
    both = replace(stamp, components=(*stamp.components[:1], neighbour), segmentation=segmentation, mask=mask, psf=None)
    axes = panels(both)
    target, other = (patch for patch in axes["science"].patches if isinstance(patch, Ellipse))
    # Arcsec from the middle pixel; axes are diameters.
    np.testing.assert_allclose(other.center, (0.48, -0.28))
    assert (other.width, other.height, other.angle) == pytest.approx((2 * 3 * 0.04, 0.4 * 2 * 3 * 0.04, 70))
    assert other.get_edgecolor() != target.get_edgecolor()
    assert [shown(axes["mask"])[middle - 7, middle + 12], (shown(axes["mask"]) == 2).sum()] == [2, 1]


def test_text_names_size_magnitude_and_factors(stamps: list[Stamp]) -> None:
    stamp = stamps[0]
    name, text = [text.get_text() for text in panels(stamp)["science - model"].texts]
    assert name == stamp.name
    side = stamp.data.shape[0]
    for words in (f"{side * 0.04:.2f}″ ({side} pixels of 0.04″)", f"mag {stamp.components[0].magnitude:.2f}"):
        assert words in text
    assert f"pixel scatter: {stamp.pixel_scatter:.2f}" in text
    assert "error factor: not known" in text  # no calibration was given


def test_one_page_keeps_its_name_and_several_are_numbered(
    stamps: list[Stamp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stampplot, "ROWS", 2)
    assert plot_stamps(tmp_path / "one.png", iter(stamps[:2])) == [tmp_path / "one.png"]
    pages = plot_stamps(tmp_path / "sheet.png", iter(stamps[:3]))
    assert [page.name for page in pages] == ["sheet_1.png", "sheet_2.png"]
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "one.png", *pages])
    assert all(page.read_bytes().startswith(b"\x89PNG") for page in pages)


def test_sheet_is_written_whole_or_not_at_all(
    stamps: list[Stamp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> Iterator[Stamp]:
        yield from stamps[:3]
        raise PhotplugError("target 4 is off the mosaic")

    monkeypatch.setattr(stampplot, "ROWS", 1)
    for name in ("sheet.png", "sheet.html"):
        with pytest.raises(PhotplugError, match="target 4"):
            plot_stamps(tmp_path / name, failing())
    (tmp_path / "sheet_2.png").write_text("mine")
    with pytest.raises(PhotplugError, match=r"sheet_2\.png: already exists"):
        plot_stamps(tmp_path / "sheet.png", stamps[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["sheet_2.png"]
    assert len(plot_stamps(tmp_path / "sheet.png", stamps[:2], overwrite=True)) == 2
    with pytest.raises(PhotplugError, match=r"sheet\.pdf: the suffix must be one of \.png, \.html"):
        plot_stamps(tmp_path / "sheet.pdf", stamps[:2])


def test_html_holds_every_target_under_its_name(stamps: list[Stamp], tmp_path: Path) -> None:
    [path] = plot_stamps(tmp_path / "sheet.html", iter(stamps[:3]))
    text = path.read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="(\w+)">\1</h2><img loading="lazy"', text) == [stamp.name for stamp in stamps[:3]]
    assert text.count('src="data:image/webp;base64,') == 3
