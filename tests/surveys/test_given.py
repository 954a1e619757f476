"""What is given for a survey and has no effect: told once, at its end, with the place where it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

import dja_photplug as dp
from dja_photplug.cli.app import main

SURVEY = ["survey", "fields.toml", "-o", "out", "--quiet"]
FIELDS = """
[options.variance]
noise = "dja"
[fields.one]
bands = ["data/one-v1-f444w-clear"]
[fields.three]
bands = ["data/three-v1-f444w-clear"]
"""


def told(capsys: pytest.CaptureFixture[str], text: str, *flags: str) -> list[str]:
    """Return the lines on stderr of a survey that ends well."""
    Path("fields.toml").write_text(text)
    capsys.readouterr()
    assert main([*SURVEY, *flags]) == 0
    return capsys.readouterr().err.splitlines()


def test_a_flag_is_told_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where all fields are complete; with the fields, where it has an effect in others."""
    line = "dja-photplug: warning: --annulus has no effect: the sky is 'none'; give --sky annulus"
    assert told(capsys, FIELDS, "--annulus", "1,2") == [line]
    assert told(capsys, FIELDS, "--annulus", "1,2") == [line]
    text = FIELDS + '[fields.one.options.measure]\nbackground = "annulus"\n'
    assert told(capsys, text, "--annulus", "1,2") == [line.replace("--annulus", "three: --annulus", 1)]
    assert told(capsys, FIELDS, "--annulus", "1,2", "--sky", "annulus") == []


def test_an_option_of_a_field_is_told_with_its_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = FIELDS + "[fields.three.options.calibration]\nradius_max = 1.0\nzones = 2\n"
    place_of_it = "dja-photplug: warning: fields.toml: [fields.three.options.calibration] radius_max, zones"
    why = "have no effect: the noise preset 'dja' measures no empty apertures"
    line = f'{place_of_it} {why}; give variance.noise = "calibrated"'
    assert told(capsys, own) == [line]
    # A flag wins over the list, so it is the flag that is to be changed; and an option that a flag replaces is no more.
    assert told(capsys, own, "--noise", "dja") == [f"{place_of_it} {why}; give --noise calibrated"]
    assert told(capsys, own, "--radius-max", "0.9", "--zones", "1") == [
        f"dja-photplug: warning: --radius-max, --zones {why}; give --noise calibrated"
    ]


def test_an_option_of_all_fields_is_told_where_it_is_in_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = "[options.measure]\nannulus = [1.0, 2.0]\n" + FIELDS
    line = "dja-photplug: warning: fields.toml: [options.measure] annulus has no effect: the sky is 'none'; give"
    assert told(capsys, every) == [f'{line} measure.background = "annulus"']
    assert told(capsys, every + '[fields.one.options.measure]\nbackground = "annulus"\n') == []
    Path("fields.toml").write_text(every)
    with pytest.warns(dp.PhotplugWarning, match=r"^fields.toml: \[options.measure\] annulus has no effect"):
        dp.survey("fields.toml", "out")


def test_it_is_told_where_a_field_fails_but_not_where_the_survey_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("data/three-v1-f444w-clear_drc_sci.fits")
    path.write_bytes(path.read_bytes()[:60000])
    Path("fields.toml").write_text(FIELDS)
    assert main([*SURVEY, "--window", "0.1"]) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("dja-photplug: warning: --window has no effect: positions are 'isophotal'")
    assert last == "dja-photplug: 1 of 2 fields failed: three; out/summary.ecsv says why"
    assert main([*SURVEY, "--window", "0.1", "--suffix", ".fit"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
