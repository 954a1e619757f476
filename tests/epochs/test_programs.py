"""The programmes of a mosaic: counted from its log, for all of it or for what saw some positions."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.epochs.programs import format_programs, list_programs, read_investigators
from tests.helpers import expect_error, uds_prefix

HERE = SkyCoord(34.3033, -5.1113, unit="deg")


def test_programs_of_a_real_log(data):
    """Against counts of the log's own text: programmes are the digits behind jw."""
    path = data / "uds/uds-test-v7.4-f444w-clear_wcs.csv"
    log = dp.read_exposure_log(path)
    programs = list_programs(log)
    text = Table.read(path, format="ascii.csv")
    numbers = np.array([name[2:7].lstrip("0") for name in text["file"]])
    assert {name.lstrip("0") for name in programs["program"].tolist()} == set(numbers)
    for row in programs:
        own = text[numbers == row["program"].lstrip("0")]
        assert row["n_exp"] == len(own)
        assert row["n_visit"] == len({name[:13] for name in own["file"]})
        assert row["exptime"].to_value(u.s) == pytest.approx(own["exptime"].sum(), rel=1e-9)
        assert row["first"] == min(str(date)[:10] for date in own["date-beg"])
        assert row["last"] == max(str(date)[:10] for date in own["date-end"])
    assert (np.diff(programs["exptime"].value) <= 0).all()
    assert "pi" not in programs.colnames


def test_programs_of_positions(data):
    log = dp.read_exposure_log(data / "uds/uds-test-v7.4-f444w-clear_wcs.csv")
    programs = list_programs(log, HERE.reshape(1))
    assert programs["n_exp"].sum() == log.epochs(HERE.reshape(1))["n_exp"][0]
    assert programs["n_exp"].sum() < len(log)
    with pytest.raises(dp.PhotplugError, match="no exposure covers any of the 1 positions"):
        list_programs(log, SkyCoord([12.0], [3.0], unit="deg"))


def test_investigators_by_number_or_text():
    table = Table({"Proposal_ID": ["01837", "3990"], "PI_name": ["Dunlop", "Morishita"]})
    assert read_investigators(table, "pi.csv") == {"1837": "Dunlop", "3990": "Morishita"}
    with pytest.raises(dp.PhotplugError, match=r"pi.csv: has no columns of programmes .* it has a, b"):
        read_investigators(Table({"a": [1], "b": [2]}), "pi.csv")


def test_command_line(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mosaic = uds_prefix(data, "f444w")
    (tmp_path / "pi.csv").write_text("program,pi\n3990,Morishita\n")
    assert main(f"epochs {mosaic} --cite --investigators pi.csv".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["program", "telescope", "visits", "exposures", "ks", "first", "last", "PI"]
    assert lines[1].split()[0::7] == ["3990", "Morishita"]
    Table({"id": [1], "RA": [HERE.ra.deg], "DEC": [HERE.dec.deg]}).write("cat.ecsv")
    assert main(f"epochs {mosaic} --cite --catalog cat.ecsv".split()) == 0
    of_source = capsys.readouterr().out
    assert main(f"epochs {mosaic} --cite --position {HERE.ra.deg} {HERE.dec.deg}".split()) == 0
    assert capsys.readouterr().out == of_source != "\n".join(lines) + "\n"
    assert main(f"epochs {mosaic} --cite --catalog cat.ecsv -o out.ecsv".split()) == 0
    assert Table.read("out.ecsv")["n_exp"][0] > 0
    capsys.readouterr()
    expect_error(capsys, f"epochs {mosaic} --investigators pi.csv", "--investigators works only with --cite; add it")


def test_chips_of_one_file_count_their_time_once(data):
    log = dp.read_exposure_log(data / "hst/acs-test-f814w_wcs.csv")
    programs = list_programs(log)
    assert programs["n_exp"].tolist() == [2]
    assert programs["exptime"].sum() == log.exptime
    assert programs["first"].tolist() == [""]
    assert len(format_programs(programs)) == 2
