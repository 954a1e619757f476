"""The command ``galfit``: from the products of a mosaic, and a catalogue or a position, to files on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.simulate.scene import field_grid
from tests.helpers import copy_products

KINDS = ("_sci.fits", "_sigma.fits", "_mask.fits", "_psf.fits", ".feedme", ".constraints")


@pytest.fixture(scope="module")
def folder(simulated, tmp_path_factory) -> Path:
    """A catalogue with its segmentation, and a PSF."""
    folder = tmp_path_factory.mktemp("galfit")
    flags = ["-o", str(folder / "cat.fits"), "--segmentation", str(folder / "seg.fits"), "--quiet"]
    assert main(["catalog", str(simulated.prefix), *flags]) == 0
    y, x = np.indices((31, 31)) - 15
    psf = np.exp(-(x**2 + y**2) / 2 / 1.6**2).astype(np.float32)
    header = fits.Header({"PIXSCL": 0.04})
    fits.writeto(folder / "psf.fits", psf / psf.sum(), header)
    y, x = np.indices((60, 62)) - 30.5
    fits.writeto(folder / "even.fits", np.exp(-(x**2 + (y + 1) ** 2) / 2 / 3.2**2), fits.Header({"PIXELSCL": 0.02}))
    fits.writeto(folder / "negative.fits", -psf, header)
    fits.writeto(folder / "plain_seg.fits", fits.getdata(folder / "seg.fits"))
    return folder


def brightest(folder: Path, count: int) -> QTable:
    table = QTable.read(folder / "cat.fits")
    return table[np.argsort(-table["flux_auto"].value)[:count]]


def test_stamps_of_a_catalogue(simulated, folder, tmp_path, capsys):
    rows = brightest(folder, 3)
    ids = [str(number) for number in rows["id"]]
    out = tmp_path / "out"
    flags = [
        "--catalog",
        f"{folder}/cat.fits",
        "--use-segmentation",
        f"{folder}/seg.fits",
        "--psf",
        f"{folder}/psf.fits",
    ]
    argv = ["galfit", str(simulated.prefix), *flags, "--size", "4", "-o", str(out), "--id", *ids]
    assert main(argv) == 0
    assert "18 files of 3 stamps, noise preset calibrated" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(number + kind for number in ids for kind in KINDS)
    image = dp.load_mosaic(simulated.prefix, "calibrated")
    for row in rows:
        header = fits.getheader(out / f"{row['id']}_sci.fits")
        x, y = WCS(header).world_to_pixel_values(row["ra"].value, row["dec"].value)
        science, sigma = (fits.getdata(out / f"{row['id']}_{kind}.fits") for kind in ("sci", "sigma"))
        # The stamp is of a cut-out of the mosaic, and its pixels are the mosaic's.
        left, bottom = np.rint([row["x"].value - x, row["y"].value - y]).astype(int)
        assert np.hypot(left + x - row["x"].value, bottom + y - row["y"].value) < 1e-6
        box = np.s_[max(bottom, 0) : bottom + len(science), max(left, 0) : left + len(science)]
        inside = np.s_[max(-bottom, 0) :, max(-left, 0) :]
        pixels = image.data[box]
        weight = image.uncertainty.array[box]
        ours = science[inside][: pixels.shape[0], : pixels.shape[1]]
        np.testing.assert_array_equal(ours, np.where(weight > 0, pixels, 0))
        np.testing.assert_allclose(
            sigma[inside][: pixels.shape[0], : pixels.shape[1]][weight > 0], weight[weight > 0] ** -0.5, rtol=1e-6
        )
        assert header["ERRFACT"] > 0  # a(r) comes from the metadata of the catalogue
        assert (header["EXPTIME"], header["GAIN"], header["NCOMBINE"]) == (1, 1, 1)
    assert main(argv) == 1
    assert "already exist" in capsys.readouterr().err
    assert main([*argv, "--overwrite", "--quiet"]) == 0


def test_the_flux_and_a_of_r_are_those_of_the_band(simulated, folder, tmp_path):
    """Of a catalogue of several bands; here one whose detection image is another's."""
    table = QTable.read(folder / "cat.fits")
    table["f444w_flux_auto"] = 10 * table["flux_auto"]
    band = {
        key: json.loads(table.meta.pop(key)) for key in list(table.meta) if key.startswith("AR") and key != "AR_NOTE"
    }
    table.meta |= {"INPUT": "of another band", "BAND_0": json.dumps({"band": "f444w", **band})}
    table.write(tmp_path / "several.fits")
    number = str(brightest(folder, 1)["id"][0])
    for name, out in ((folder / "cat.fits", "one"), (tmp_path / "several.fits", "two")):
        argv = ["galfit", str(simulated.prefix), "--catalog", str(name), "--id", number, "-o", str(tmp_path / out)]
        assert main([*argv, "--size", "auto", "--quiet"]) == 0
    one, two = (
        [
            line.split()
            for line in (tmp_path / out / f"{number}.feedme").read_text().splitlines()
            if line.startswith(" 3)")
        ]
        for out in ("one", "two")
    )
    assert float(one[0][1]) - float(two[0][1]) == pytest.approx(2.5, abs=2e-4)
    headers = [fits.getheader(tmp_path / out / f"{number}_sci.fits") for out in ("one", "two")]
    assert headers[0]["ERRFACT"] == headers[1]["ERRFACT"]


def test_a_position_alone(simulated, tmp_path):
    wcs = field_grid(*(simulated.scene.meta[key] for key in ("RA", "DEC", "SHAPE", "PIXSCALE")))
    star = simulated.scene[np.argmax(simulated.scene["f444w_flux"])]
    place = [str(star[axis].value) for axis in ("ra", "dec")]
    argv = ["galfit", str(simulated.prefix), "--position", *place, "--size", "3", "-o", str(tmp_path / "out")]
    assert main([*argv, "--plot", str(tmp_path / "sheet.png"), "--noise", "calibrated", "--quiet"]) == 0
    names = [f"target{kind}" for kind in KINDS if kind != "_psf.fits"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    science = fits.getdata(tmp_path / "out/target_sci.fits")
    assert science.shape == (75, 75)
    assert np.hypot(*np.subtract(np.unravel_index(science.argmax(), science.shape), 37)) < 2
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert wcs.footprint_contains(WCS(fits.getheader(tmp_path / "out/target_sci.fits")).pixel_to_world(37, 37))


def test_a_psf_of_even_size_and_another_scale(simulated, folder, tmp_path):
    """It comes out as the same PSF with the pixels of the mosaic, to the accuracy of its resampling."""
    for name in ("psf", "even"):
        flags = f"--catalog {folder}/cat.fits --id 1 --psf {folder}/{name}.fits --size 3 -o {tmp_path}/{name}"
        assert main(["galfit", str(simulated.prefix), *flags.split()]) == 0
    odd, even = (fits.getdata(tmp_path / f"{name}/1_psf.fits") for name in ("psf", "even"))
    assert np.unravel_index(even.argmax(), even.shape) == (even.shape[0] // 2, even.shape[1] // 2)
    assert all(n % 2 for n in even.shape)
    trimmed = odd[tuple(slice((31 - n) // 2, (31 + n) // 2) for n in even.shape)]
    np.testing.assert_allclose(even, trimmed, atol=0.03 * odd.max())


BAD = {
    "--position 34.4 -6.2 --size 3": "off the mosaic",
    "--catalog {folder}/cat.fits --id 9999": "id 9999 is not among",
    "--catalog {folder}/cat.fits --id 1 --psf-scale 0.03": "option psf_scale: there is no PSF image",
    "--catalog {folder}/cat.fits --id 1 --psf {folder}/negative.fits": "negative.fits: ",
    "--catalog {folder}/cat.fits --id 1 --psf {folder}/none.fits": "none.fits",
    "--catalog {folder}/cat.fits --id 1 --size 0": "option size: 0.0 is below its minimum",
    "--catalog {folder}/cat.fits --id 1 --format profit": "format 'profit': no plugin claimed photplug_galfit",
    "--catalog {folder}/psf.fits --id 1": "cannot be read as a catalogue",
    "--catalog {folder}/cat.fits --id 1 --use-segmentation {folder}/plain_seg.fits": "has no WCS",
    "--catalog {folder}/cat.fits --id 1 --plot sheet.pdf": "sheet.pdf: the suffix must be one of .png, .html",
    "--position 34.4 -5.2 --id 1": "give --catalog",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_input_is_one_line(simulated, folder, tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    assert main(["galfit", str(simulated.prefix), *flags.format(folder=folder).split(), "-o", "out"]) == 1
    error = capsys.readouterr().err
    assert BAD[flags] in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_error_factor_of_a_mosaic_whose_folder_is_not_ascii(simulated, tmp_path, monkeypatch):
    """a(r) is found by the name of the mosaic, which FITS headers cannot hold as it is."""
    folder = tmp_path / "d\u00eda"
    folder.mkdir()
    copy_products(simulated.prefix, folder)
    monkeypatch.chdir(tmp_path)
    prefix = f"d\u00eda/{simulated.prefix.name}"
    assert main(["catalog", prefix, "-o", "cat.fits", "--quiet"]) == 0
    assert json.loads(QTable.read("cat.fits").meta["INPUT"]) == dp.read_catalog("cat.fits").meta["INPUT"] == prefix
    assert main(["galfit", prefix, "-o", "stamps", "--catalog", "cat.fits", "--id", "3", "--quiet"]) == 0
    assert fits.getheader("stamps/3_sci.fits")["ERRFACT"] != 1
    assert main(["extend", "cat.fits", prefix, "-o", "more.fits", "--apertures", "1.5", "--columns", "aper"]) == 0
    meta = dp.read_catalog("more.fits").meta
    assert meta["INPUT"] == json.loads(meta["BAND_0"])["INPUT"] == prefix
