"""What is written for fitting codes: galfit's files by an independent parser, the other formats, and bad input."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from dja_photplug.hooks.galfit_files import photplug_galfit
from scipy.integrate import quad
from scipy.special import gammaincinv

from dja_photplug.errors import PhotplugError
from dja_photplug.fitting.field import Component, FitSources
from dja_photplug.fitting.formats import FORMATS, effective_intensity
from dja_photplug.fitting.headers import NULL_SIGMA
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.commands import GalfitOptions
from dja_photplug.pipeline.galfit import write_galfit
from dja_photplug.psf.model import read_psf
from dja_photplug.simulate.exposures import draw_light
from dja_photplug.simulate.scene import field_grid, trace_light
from tests.helpers import SCALE, make_image, uds_prefix, write_psf

SHAPE = (301, 320)
SIGMA = 0.05
# x, y, flux (uJy), half-light radius (arcsec), axis ratio, position angle (deg east of north, and from +y to -x:
# north is up and east left)
GALAXIES = [
    (100.2, 150.7, 20.0, 0.20, 0.4, 35.0),
    (111.7, 134.2, 10.0, 0.15, 0.8, 120.0),
    (250.0, 60.0, 5, 0.2, 0.5, 90),
]
PSF_SIGMA = 1.2


@pytest.fixture(scope="module")
def image() -> MosaicImage:
    """Galaxies with a Sersic index of 1, drawn by the simulator, and weak uncorrelated noise."""
    wcs = field_grid(34.4, -5.2, SHAPE, SCALE)
    x, y, flux, size, ratio, angle = np.array(GALAXIES).T
    ra, dec = wcs.pixel_to_world_values(x, y)
    scene = QTable({"ra": ra * u.deg, "dec": dec * u.deg, "f444w_flux": flux * u.uJy, "size": size * u.arcsec})
    scene["axis_ratio"], scene["pa"], scene["sersic"] = ratio, angle * u.deg, np.ones(len(x))
    light = draw_light(trace_light(scene, "f444w_flux", PSF_SIGMA * SCALE * 2.3548), wcs)
    data = light + np.random.default_rng(1).normal(0, SIGMA, SHAPE)
    return make_image(data, SIGMA**-2, SIGMA**-2, wcs, fits.Header({"NOISE": "dja", "EXPTIME": 5000.0}))


@pytest.fixture(scope="module")
def table(image: MosaicImage) -> QTable:
    x, y, flux, size, ratio, angle = np.array(GALAXIES).T
    ra, dec = image.wcs.pixel_to_world_values(x, y)
    columns = {"id": np.array([7, 12, 99]), "ra": ra * u.deg, "dec": dec * u.deg, "a": size * u.arcsec}
    columns |= {"b": size * ratio * u.arcsec, "theta": (angle + 90) * u.deg, "kron_radius": np.full(3, 3.0)}
    return QTable(columns | {"flux_radius": size * np.sqrt(ratio) * u.arcsec, "flux_auto": flux * u.uJy})


@pytest.fixture
def psf_file(tmp_path: Path) -> Path:
    return write_psf(tmp_path / "psf.fits", PSF_SIGMA * SCALE, 31)


class Feedme:
    """A feedme as galfit's documentation has it: lettered items, then numbered parameters of each object."""

    def __init__(self, path: Path) -> None:
        self.items: dict[str, list[str]] = {}
        self.objects: list[dict[str, list[str]]] = []
        for line in path.read_text(encoding="ascii").splitlines():
            text = line.partition("#")[0].strip()
            if not text:
                continue
            match = re.fullmatch(r"([A-Z]|\d+)\)\s+(.+)", text)
            assert match, f"galfit cannot read {line!r}"
            key, values = match[1], match[2].split()
            if key == "0":
                self.objects.append({"type": values})
            elif self.objects:
                assert key not in self.objects[-1]
                self.objects[-1][key] = values
            else:
                assert key not in self.items
                self.items[key] = values


def read_constraints(path: Path) -> dict[tuple[int, str], tuple[float, float, bool]]:
    """Return the two ends of each range, and whether they are around the start, by component and parameter."""
    ranges = {}
    for line in path.read_text(encoding="ascii").splitlines():
        text = line.partition("#")[0].split()
        if text:
            low, high = (float(word) for word in text[2:] if word != "to")
            ranges[int(text[0]), text[1]] = (low, high, "to" not in text)
    return ranges


def test_the_feedme_has_all_items(tmp_path: Path, image: MosaicImage, table: QTable, psf_file: Path) -> None:
    files = write_galfit(image, table, tmp_path / "out", ids=[99], psf=psf_file, size=3)
    assert [path.name for path in files] == [
        *("99_sci.fits", "99_sigma.fits", "99_mask.fits", "99_psf.fits", "99.feedme", "99.constraints"),
    ]
    items = Feedme(files[4]).items
    assert "".join(items) == "ABCDEFGHIJKOP"
    for item, kind in (("A", "sci"), ("C", "sigma"), ("D", "psf"), ("F", "mask")):
        assert (files[0].parent / items[item][0]).is_file()
        assert kind in items[item][0]
    assert items["G"] == ["99.constraints"]
    assert items["H"] == ["1", "75", "1", "75"]
    assert items["I"] == ["31", "31"]
    assert (items["E"], items["P"]) == (["1"], ["0"])
    assert float(items["J"][0]) == 28.9
    assert [float(value) for value in items["K"]] == pytest.approx([SCALE, SCALE])
    assert max(len(line) for line in files[4].read_text().splitlines()) <= 120


def test_the_feedme_starts_from_the_catalogue(tmp_path: Path, image: MosaicImage, table: QTable) -> None:
    files = write_galfit(image, table, tmp_path / "out", ids=[7], size=3, margin=0.2)
    feedme = Feedme(files[-2])
    assert feedme.items["D"] == ["none"]
    # The stamp is 75 pixels wide around pixel (100, 151): its first is (63, 114), and 1 for galfit.
    target, neighbour, sky = feedme.objects
    for start, (x, y, flux, size, ratio, angle) in zip((target, neighbour), GALAXIES, strict=False):
        assert start["type"] == ["sersic"]
        assert [float(value) for value in start["1"]] == pytest.approx([x - 62, y - 113, 1, 1], abs=1e-3)
        assert [float(value) for value in start["3"]] == pytest.approx([23.9 - 2.5 * np.log10(flux), 1], abs=1e-4)
        assert float(start["4"][0]) == pytest.approx(size / SCALE, abs=1e-3)
        assert float(start["9"][0]) == pytest.approx(ratio)
        assert (float(start["10"][0]) - angle) % 180 == pytest.approx(0, abs=1e-6)
        assert -90 <= float(start["10"][0]) <= 90
        assert all(start[key][1] == "1" for key in ("3", "4", "5", "9", "10"))
    assert sky == {"type": ["sky"], "1": ["0.0", "1"], "2": ["0.0", "0"], "3": ["0.0", "0"], "Z": ["0"]}
    ranges = read_constraints(files[-1])
    assert {number for number, _ in ranges} == {1, 2}
    assert ranges[1, "n"] == (0.2, 8, False)
    assert ranges[2, "q"] == (0.05, 1, False)
    assert ranges[1, "re"] == (0.1, 75, False)
    assert ranges[1, "x"] == ranges[1, "y"] == (-5, 5, True)  # its half-light radius
    assert ranges[1, "mag"] == (-5, 5, True)
    fixed = write_galfit(image, table, tmp_path / "fixed", ids=[7], sky="fixed", joint=-5)
    assert [part["1"][-1] for part in Feedme(fixed[-2]).objects] == ["1", "0"]  # a target, no neighbour, the sky


def test_position_angle_and_size_of_a_bare_position(tmp_path: Path, image: MosaicImage) -> None:
    x, y, flux, size, ratio, angle = GALAXIES[2]
    position = image.wcs.pixel_to_world(x + 2, y - 2)
    files = write_galfit(image, position, tmp_path / "out")
    assert files[0].name == "target_sci.fits"
    target, sky = Feedme(files[-2]).objects
    stamp = WCS(fits.getheader(files[0]))
    placed = stamp.pixel_to_world(*(float(value) - 1 for value in target["1"][:2]))
    # A bright source: its barycentre is good to a tenth of a pixel.
    assert placed.separation(image.wcs.pixel_to_world(x, y)) < 0.1 * SCALE * u.arcsec
    assert (float(target["10"][0]) - angle + 90) % 180 == pytest.approx(90, abs=1)
    assert float(target["3"][0]) == pytest.approx(23.9 - 2.5 * np.log10(flux), abs=0.08)  # Kron's missing light
    assert float(target["4"][0]) == pytest.approx(size / SCALE, rel=0.25)  # the PSF is in it
    assert float(target["9"][0]) == pytest.approx(ratio, abs=0.1)
    assert sky["type"] == ["sky"]


@pytest.mark.parametrize(("theta", "expected"), [(90, 0), (0, -90), (45, -45), (-45, 45), (180, -90), (89, -1)])
def test_position_angles_are_counted_from_up(theta: float, expected: float) -> None:
    start = Component(id=1, x=0, y=0, magnitude=25, radius=1, index=1, axis_ratio=1, theta=theta)
    assert start.position_angle == expected


def test_positions_without_a_source_and_several(tmp_path: Path, image: MosaicImage) -> None:
    positions = SkyCoord([image.wcs.pixel_to_world(*place) for place in ((30, 30), (100, 150))])
    files = write_galfit(image, positions, tmp_path / "out")
    assert [path.name for path in files if path.suffix == ".feedme"] == ["target_1.feedme", "target_2.feedme"]
    empty = Feedme(files[3]).objects[0]
    # The noise in a circle of 0.35 arcsec.
    noise = SIGMA * np.sqrt(np.pi) * 0.35 / SCALE
    assert float(empty["3"][0]) == pytest.approx(28.9 - 2.5 * np.log10(noise), abs=0.05)
    assert float(empty["4"][0]) == pytest.approx(0.15 / SCALE, abs=0.01)
    found = Feedme(files[8]).objects[0]
    assert float(found["9"][0]) == pytest.approx(0.4, abs=0.15)


def test_the_images_fit_together(tmp_path: Path, image: MosaicImage, table: QTable, psf_file: Path) -> None:
    write_galfit(image, table, tmp_path / "out", psf=psf_file, size=3)
    for number in (7, 12, 99):
        planes = {kind: tmp_path / "out" / f"{number}_{kind}.fits" for kind in ("sci", "sigma", "mask", "psf")}
        for path in planes.values():
            with fits.open(path) as hdus:
                hdus.verify("exception")
        science, sigma, mask, psf = (fits.getdata(path) for path in planes.values())
        assert science.shape == sigma.shape == mask.shape == (75, 75)
        assert sigma.min() > 0
        assert set(np.unique(mask)) <= {0, 1}
        assert psf.shape == (31, 31)
        assert psf.sum() == pytest.approx(1, abs=1e-6)
        assert np.unravel_index(psf.argmax(), psf.shape) == (15, 15)
        grids = [WCS(fits.getheader(planes[kind])) for kind in ("sci", "sigma", "mask")]
        places = [grid.wcs_world2pix(34.4, -5.2, 0) for grid in grids]
        np.testing.assert_allclose(places, places[:1] * 3)


def test_intensity_at_the_half_light_radius() -> None:
    """By the integral of the profile, whose total is the flux."""
    for n in (0.5, 1, 4):
        start = Component(id=1, x=0, y=0, magnitude=24.2, radius=3.0, index=n, axis_ratio=0.6, theta=0)
        b = gammaincinv(2 * n, 0.5)
        total = quad(lambda r: 2 * np.pi * r * 0.6 * np.exp(-b * ((r / 3) ** (1 / n) - 1)), 0, np.inf)[0]  # noqa: B023
        assert effective_intensity(start, 28.9) * total == pytest.approx(10 ** (0.4 * (28.9 - 24.2)), rel=1e-6)


def test_the_imfit_configuration(tmp_path: Path, image: MosaicImage, table: QTable, psf_file: Path) -> None:
    files = write_galfit(image, table, tmp_path / "out", ids=[7], psf=psf_file, size=3, margin=0.2, format="imfit")
    text = files[-1].read_text(encoding="ascii")
    assert "imfit 7_sci.fits -c 7.imfit --noise 7_sigma.fits --mask 7_mask.fits --psf 7_psf.fits" in text
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    lines = [line for line in lines if line]
    expected = ["X0", "Y0", "FUNCTION", "PA", "ell", "n", "I_e", "r_e"]
    assert lines.pop(0) == ["ORIGINAL_SKY", "0.0"]
    assert [line[0] for line in lines] == [*expected, "FUNCTION", "I_sky", *expected]
    for key, value, *limits in lines:
        if key != "FUNCTION" and limits:
            low, high = (float(end) for end in limits[0].split(","))
            assert low <= float(value) <= high
    values = {key: float(value) for key, value, *_ in lines[:8] if key != "FUNCTION"}
    assert (values["X0"], values["Y0"]) == pytest.approx((38.2, 37.7), abs=1e-3)
    assert values["ell"] == pytest.approx(0.6)
    assert values["PA"] == pytest.approx(35)


def test_arrays_for_codes_that_fit_one_source(
    tmp_path: Path, image: MosaicImage, table: QTable, psf_file: Path
) -> None:
    given = {"ids": [7], "psf": psf_file, "size": 3, "margin": 0.2, "overwrite": True}
    (pysersic,) = write_galfit(image, table, tmp_path / "out", format="pysersic", **given)
    (statmorph,) = write_galfit(image, table, tmp_path / "out", format="statmorph", **given)
    (everything,) = write_galfit(image, table, tmp_path / "out", format="npz", **given)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["7.npz", "7_pysersic.npz", "7_statmorph.npz"]
    with np.load(pysersic) as one, np.load(statmorph) as two, np.load(everything) as all_:
        assert set(one.files) == {"data", "rms", "mask", "psf"}
        assert set(two.files) == {"image", "segmap", "mask", "weightmap", "psf"}
        np.testing.assert_array_equal(one["rms"], two["weightmap"])
        assert (one["rms"] == np.float32(SIGMA)).all()
        assert one["mask"].dtype == two["mask"].dtype == bool
        assert set(np.unique(two["segmap"])) == {0, 1}
        assert not two["mask"][two["segmap"] == 1].any()
        # The neighbour is fitted by those that can, and masked for the others.
        neighbour = all_["segmentation"] == 12
        assert neighbour.any()
        assert one["mask"][neighbour].all()
        assert two["mask"][neighbour].all()
        assert not all_["mask"].any()
        assert all_["id"].tolist() == [7, 12]
        assert float(all_["zero_point"]) == 28.9
        assert "EXPTIME" in str(all_["header"])


def test_the_same_stamp_in_every_format(tmp_path: Path, image: MosaicImage, table: QTable) -> None:
    for name, target in FORMATS.items():
        files = write_galfit(image, table, tmp_path / name, ids=[99], format=name)
        assert [path.name for path in files] == [f"99{end}" for end in target.suffixes if end != "_psf.fits"]
        assert all(path.is_file() for path in files)


def test_the_hook_claims_its_formats(tmp_path: Path, image: MosaicImage, table: QTable) -> None:
    sources = FitSources(table=table, targets={"99": 99})
    assert photplug_galfit(image, sources, GalfitOptions(format="profit", directory=tmp_path / "out")) is None
    files = photplug_galfit(image, sources, GalfitOptions(format="npz", directory=tmp_path / "out"))
    assert files == [tmp_path / "out" / "99.npz"]


def test_an_existing_folder_keeps_its_files(tmp_path: Path, image: MosaicImage, table: QTable) -> None:
    out = tmp_path / "out"
    write_galfit(image, table, out, ids=[7], format="npz")
    (out / "7.npz").write_text("mine")
    (out / "notes").write_text("mine")
    with pytest.raises(PhotplugError, match=r"7.npz already exists; name another folder or add --overwrite"):
        write_galfit(image, table, out, format="npz")
    assert sorted(path.name for path in out.iterdir()) == ["7.npz", "notes"]
    write_galfit(image, table, out, ids=[12], format="npz")
    assert (out / "7.npz").read_text() == "mine"
    write_galfit(image, table, out, format="npz", overwrite=True)
    assert np.load(out / "7.npz")["id"][0] == 7
    assert (out / "notes").read_text() == "mine"


def test_bad_input_leaves_no_folder(tmp_path: Path, image: MosaicImage, table: QTable, psf_file: Path) -> None:
    negative = write_psf(tmp_path / "negative.fits", PSF_SIGMA * SCALE, 31)
    with fits.open(negative, mode="update") as hdus:
        hdus[0].data[0, 0] = -0.01
    off = table.copy()
    off["dec"][2] += 1 * u.deg
    twice = table.copy()
    twice["id"][1] = 7
    bad = [
        ("99 lies at .* off the mosaic of 320 x 301 pixels", off, {}),
        ("position 35.4.* is off the mosaic", SkyCoord(35.4, -5.2, unit="deg"), {}),
        ("id 8 is not among the 3 sources of the catalogue .7 to 99.", table, {"ids": [7, 8]}),
        ("no id is asked for", table, {"ids": []}),
        ("id 7 is a duplicate", twice, {}),
        ("does not fit the image", table, {"segmentation": np.zeros((5, 5), int)}),
        ("option psf_scale: there is no PSF image", table, {"psf_scale": 0.03}),
        ("negative", table, {"psf": negative}),
        ("sums to", table, {"psf": write_psf(tmp_path / "sum.fits", PSF_SIGMA * SCALE, 31, total=-1)}),
        ("option size", table, {"size": 0}),
        (
            "format 'profit': no plugin claimed photplug_galfit; asked galfit-files; built in are galfit, imfit",
            table,
            {"format": "profit"},
        ),
        ("no column id", table["ra", "dec"], {}),
    ]
    before = sorted(tmp_path.iterdir())
    for message, sources, settings in bad:
        with pytest.raises(PhotplugError, match=message) as caught:
            write_galfit(image, sources, tmp_path / "out", **settings)
        assert "\n" not in str(caught.value)
        assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(PhotplugError, match="is a file; name a folder"):
        write_galfit(image, table, psf_file)
    with pytest.raises(PhotplugError, match="the folder .* does not exist"):
        write_galfit(image, table, tmp_path / "none" / "out")


def test_real_stamps(data: Path, tmp_path: Path) -> None:
    """A galaxy of UDS with the real PSF, which is centred beside its middle pixel, and the real segmentation."""
    from dja_photplug import load_mosaic
    from dja_photplug.files.pixels import read_image
    from dja_photplug.sky.grid import pixel_scale

    uds = data / "uds"
    real = load_mosaic(uds_prefix(data))
    segmentation = read_image(uds / "uds-test-v7.4-lw_seg.fits.gz")[0].astype(int)
    y, x = np.unravel_index(np.nanargmax(np.where(segmentation > 0, real.data, 0)), real.data.shape)
    psf = read_psf(uds / "psf-ceers-nrca5-f444w.fits")
    files = write_galfit(real, real.wcs.pixel_to_world(x, y), tmp_path / "out", psf=psf, size=6)
    science, sigma = (fits.getdata(files[i]) for i in (0, 1))
    side = int(np.ceil(6 / pixel_scale(real.wcs)))
    assert science.shape == (side | 1, side | 1)
    assert sigma.min() > 0
    assert sigma.max() <= NULL_SIGMA
    header = fits.getheader(files[0])
    assert (header["EXPTIME"], header["OEXPTIME"]) == (1, real.meta["EXPTIME"])
    assert len(header) < 60  # of 600 cards
    assert 0.5 < header["PIXSCAT"] < 0.8  # 0.62 in the median of the mosaic
    kernel = fits.getdata(files[3])
    assert kernel.argmax() == kernel.size // 2
