"""What commands say as JSON: the numbers of their text, under stable keys."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from dja_photplug import load_mosaic
from dja_photplug.cli.app import main
from dja_photplug.simulate.mosaic import SimulatedMosaic

PREFIX = "sim-test-v7.4-f444w-clear"


@pytest.fixture
def folder(simulated: SimulatedMosaic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in simulated.prefix.parent.glob(f"{simulated.prefix.name}_*"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def say(capsys: pytest.CaptureFixture[str], arguments: str) -> tuple[str, dict]:
    """Return text and JSON of a command."""
    assert main(arguments.split()) == 0
    text = capsys.readouterr().out
    assert main([*arguments.split(), "--json"]) == 0
    return text, json.loads(capsys.readouterr().out)


def test_info(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, told = say(capsys, f"info {PREFIX}")
    lines = {line[:12].strip(): line[12:] for line in text.splitlines()}
    assert lines["mosaic"] == f"{told['name']}   band {told['band']}"
    shape = told["shape"]
    assert (
        lines["size"] == f"{shape['nx']} x {shape['ny']} pixels of {told['pixel_scale_mas']} mas, unit {told['unit']}"
    )
    for label in ("science", "weight", "exposure", "variance", "log"):
        path = told["files"][label]
        assert lines[label] == ("none" if path is None else Path(path).name)
    header, log, noise = told["header"], told["log"], told["noise"]
    assert lines["exposures"] == f"{header['n_exposures']:g} in the header, {header['exptime_s'] / 1e3:.2f} ks"
    assert lines["WCS log"] == (
        f"{log['n_exposures']} exposures in {log['n_visits']} visits, {log['exptime_s'] / 1e3:.2f} ks, "
        f"{len(log['detectors'])} detectors ({', '.join(log['detectors'])})"
    )
    assert lines["epochs"] == f"MJD {log['mjd_min']:.3f} to {log['mjd_max']:.3f} (UTC)"
    assert lines["exp map"].startswith(f"{told['exposure_map']['equal_to_log']:.2%} of")
    assert lines["phot_scale"] == f"{noise['phot_scale_dn_per_s_per_10njy']:.6g} DN/s per 10 nJy"
    assert lines["gain"].startswith(f"{noise['gain_e_per_dn']:.3f} e-/DN ({noise['gain_from']})")
    assert told["differs"] == []
    centre = load_mosaic(PREFIX).wcs.pixel_to_world((shape["nx"] - 1) / 2, (shape["ny"] - 1) / 2)
    assert (told["centre_ra_deg"], told["centre_dec_deg"]) == pytest.approx((centre.ra.deg, centre.dec.deg), abs=1e-7)
    assert lines["centre"] == centre.to_string("hmsdms", precision=2)


def test_info_of_what_is_not_there_or_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Path(f"{PREFIX}_wcs.csv")
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines[:-1], lines[1]]) + "\n")
    text, told = say(capsys, f"info {PREFIX}")
    assert re.findall(r"^differs     (.*)$", text, re.MULTILINE) == told["differs"]
    assert len(told["differs"]) >= 4
    log.unlink()
    text, told = say(capsys, f"info {PREFIX}")
    assert told["log"] is None
    assert told["files"]["log"] is None


def test_epochs_of_a_position(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    centre = load_mosaic(PREFIX).wcs.pixel_to_world(260, 200)
    place = f"--position {centre.ra.deg} {centre.dec.deg}"
    text, told = say(capsys, f"epochs {PREFIX} {place} --epoch-details all")
    assert (told["ra_deg"], told["dec_deg"]) == (centre.ra.deg, centre.dec.deg)
    lines = dict(line.split(None, 1) for line in text.splitlines())
    assert list(lines) == list(told["epochs"])
    assert (told["epochs"]["n_exp"]["value"], told["epochs"]["exptime"]["unit"]) == (6, "s")
    for name, column in told["epochs"].items():
        values = column["value"] if isinstance(column["value"], list) else [column["value"]]
        shown = lines[name].removesuffix(column["unit"]).split()
        if all(isinstance(value, int | float) for value in values):
            assert [float(each) for each in shown] == pytest.approx(values, abs=6e-4), name
        else:
            assert " ".join(shown) == " ".join(map(str, values)), name
        assert column["description"]
    assert main(["epochs", PREFIX, "--json"]) == 1
    assert "--json prints the epochs of a --position; give one" in capsys.readouterr().err


def test_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    text, told = say(capsys, "plugins")
    rows = [f"{one['name']:<16} {one['origin']:<20} {', '.join(one['hooks'])}" for one in told["plugins"]]
    assert text.splitlines() == rows
