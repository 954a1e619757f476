"""The command ``epochs``, and what ``info`` and ``weight`` say of a log."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS
from regions import Regions

from dja_photplug import load_mosaic
from dja_photplug.cli.app import main
from dja_photplug.epochs.log import read_exposure_log
from dja_photplug.sky.grid import header_wcs

PREFIX = "sim-test-v7.4-f444w-clear"


class TestCommand:
    def test_files(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = f"epochs {PREFIX} --footprints out.reg --exposure-map out.fits --plot out.png"
        assert main(command.split()) == 0
        captured = capsys.readouterr()
        assert captured.out == f"out.reg, out.fits, out.png: 6 exposures of {PREFIX}_wcs.csv\n"
        assert captured.err == ""
        log = read_exposure_log(f"{PREFIX}_wcs.csv")
        assert [region.meta["text"] for region in Regions.read("out.reg")] == list(log.table["file"])
        assert Path("out.reg").read_text().startswith("# Region file format: DS9")
        seconds, header = fits.getdata("out.fits", header=True)
        science = fits.getheader(f"{PREFIX}_drc_sci.fits.gz")
        assert seconds.shape == (science["NAXIS2"], science["NAXIS1"])
        assert header["BUNIT"] == "s"
        place = header_wcs(science).pixel_to_world(12.5, 34.5)
        assert WCS(header).world_to_pixel(place) == pytest.approx((12.5, 34.5), abs=1e-6)
        assert seconds[100, 100] == np.float32(6 * 837.468)
        assert Path("out.png").read_bytes().startswith(b"\x89PNG")
        assert main(command.split()) == 1  # they exist

    def test_map_like_another_image(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        load_mosaic(PREFIX)[50:90, 20:80].write("part.fits")
        shutil.copy(f"{PREFIX}_wcs.csv", "alone_wcs.csv")
        alone = ["epochs", "alone_wcs.csv"]
        assert main([*alone, "--exposure-map", "a.fits", "--like", "part.fits"]) == 0
        assert main(f"epochs {PREFIX} --exposure-map b.fits.gz --quiet".split()) == 0
        np.testing.assert_array_equal(fits.getdata("a.fits"), fits.getdata("b.fits.gz")[50:90, 20:80])
        capsys.readouterr()
        assert main([*alone, "--exposure-map", "c.fits"]) == 1
        assert "alone" in capsys.readouterr().err
        assert main([*alone, "--exposure-map", "c.fits", "--like", PREFIX]) == 0
        assert main([*alone, "--plot", "a.pdf"]) == 0
        assert Path("a.pdf").read_bytes().startswith(b"%PDF")

    def test_details_of_a_position_and_a_catalogue(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        centre = load_mosaic(PREFIX).wcs.pixel_to_world(100, 100)
        place = f"--position {centre.ra.deg} {centre.dec.deg}"
        assert main(f"epochs {PREFIX} {place} --epoch-details visits,angles,barycentric".split()) == 0
        lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert lines["visits"] == "jw09999001001 jw09999001002"
        assert lines["visit_exptime"] == "2512.404 2512.404"
        assert [float(angle) for angle in lines["visit_pa"].split()] == pytest.approx(
            [15, 102], abs=0.5
        )  # the distortion turns
        assert abs(float(lines["bmjd_mean"].split()[0]) - float(lines["mjd_mean"].split()[0])) < 600 / 86400
        QTable({"ra": [centre.ra.deg] * u.deg, "dec": [centre.dec.deg] * u.deg}).write("mine.fits")
        Path("o.toml").write_text('[epochs]\ndetails = ["gap", "edge"]\nvisit_gap = 1000\n')
        assert main(f"epochs {PREFIX} --catalog mine.fits -o out.fits --config o.toml".split()) == 0
        table = QTable.read("out.fits")
        assert table["n_visit"].tolist() == [1]
        assert table["gap_max"][0].to_value(u.d) == pytest.approx(372, abs=0.1)
        assert table["edge_dist"].unit == u.arcsec
        capsys.readouterr()
        assert main(f"epochs {PREFIX} {place} --epoch-details colour".split()) == 1
        assert "option details: 'colour' is not one of none, all, visits" in capsys.readouterr().err

    def test_info_prints_what_differs(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", PREFIX]) == 0
        whole = capsys.readouterr().out
        assert "differs" not in whole
        share = float(whole.split("exp map")[1].split("%")[0])
        assert share > 99
        log = Path(f"{PREFIX}_wcs.csv")
        lines = log.read_text().splitlines()
        log.write_text("\n".join([*lines[:-1], lines[1]]) + "\n")
        assert main(["info", PREFIX]) == 0
        text = capsys.readouterr().out
        assert "differs     1 rows repeat another (file, ext)" in text
        assert "differs     NDRIZIM is 6, but the log has 5 rows of 5 files" in text
        assert "differs     EXPTIME is 5024.808 s, but the log's 5 files sum up to 4187.340 s" in text
        assert "1 FLT cards are not in the log" in text

    def test_log_of_another_field(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        table = Table.read(f"{PREFIX}_wcs.csv")
        table["crval1"] += 5
        table.write(f"{PREFIX}_wcs.csv", overwrite=True)
        assert main(["info", PREFIX]) == 0
        assert "differs     no exposure of the log overlaps the mosaic; is it the log" in capsys.readouterr().out
        Path(f"{PREFIX}_drc_exp.fits.gz").unlink()
        assert main(f"weight {PREFIX} -o x.fits".split()) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "none of the 6 exposures of" in error
        QTable({"ra": [34.3] * u.deg, "dec": [-5.1] * u.deg}).write("mine.fits")
        assert main(f"epochs {PREFIX} --catalog mine.fits -o out.fits".split()) == 0
        warning = capsys.readouterr().err
        assert warning.count("\n") == 1
        assert "none of the 1 positions is covered by any of its 6 exposures" in warning

    def test_map_from_the_log_is_recorded(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with_map = load_mosaic(PREFIX)
        Path(f"{PREFIX}_drc_exp.fits.gz").unlink()
        without = load_mosaic(PREFIX)
        assert (with_map.meta["EXPFROM"], without.meta["EXPFROM"]) == ("exp file", "WCS log")
        assert main(f"weight {PREFIX} -o x.fits".split()) == 0
        assert "published exposure map made from the WCS log" in capsys.readouterr().out
        assert fits.getheader("x.fits")["EXPFROM"] == "WCS log"
        assert main(["info", PREFIX]) == 0
        assert "exp map     made from the log, by the archive's rule" in capsys.readouterr().out
