"""Reading logs: names of files, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from astropy.coordinates import SkyCoord

from dja_photplug.epochs.log import read_exposure_log
from dja_photplug.errors import PhotplugError
from tests.epochs.shots import Shot, gapped_log, jwst_name, make_detector, write_shots
from tests.helpers import make_row, write_rows


@pytest.mark.parametrize(
    ("file", "detector", "visit"),
    [
        ("jw02561001001_02101_00002_nis_rate.fits", "NIS", "jw02561001001"),
        ("jw01837001001_04201_00001_nrcb4_rate.fits", "NRCB4", "jw01837001001"),
        ("icdx2bdyq_flt.fits", "", "icdx2b"),
        ("icdx2bdyq_flc.fits", "UVIS", "icdx2b"),
        ("SPITZER_I1_0001.fits", "", "spitzer_i1_0001"),
    ],
)
def test_detector_and_visit_of_a_file_name(tmp_path: Path, file: str, detector: str, visit: str) -> None:
    log = read_exposure_log(write_rows(tmp_path / "x_wcs.csv", [make_row(file=file)]))
    assert (log.table["detector"][0], log.table["visit"][0]) == (detector, visit)


def without(*columns: str) -> dict[str, Any]:
    return {key: cell for key, cell in make_row().items() if key not in columns}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without("crpix1", "naxis2"), "lacks the columns crpix1, naxis2; give a DJA"),
        (without("cd1_1", "cd1_2", "cd2_1", "cd2_2"), r"lacks the columns cd1_1 \.\.\. cd2_2 \(or pc"),
        (make_row(crval1=""), r"_wcs\.csv: row 2 \(jw.*_rate\.fits\) of the WCS log: crval1 has no value"),
        (make_row(naxis2="0.04"), "naxis2 is 0.04, outside 1 to"),  # found by the fuzzer of logs
        (make_row(exptime="long"), "exptime is 'long', not a number"),
        (make_row(cd1_1="", cd1_2="", cd2_1="", cd2_2=""), "its matrix cd1_1 ... cd2_2 is empty or singular"),
        (make_row(cd1_1=0), "its matrix cd1_1 ... cd2_2 is empty or singular"),
        (make_row(ctype1="RA---TPV"), "ctype1 is 'RA---TPV', but only RA---TAN and RA---TAN-SIP are supported"),
        (make_row(ctype2="GLAT-TAN"), "ctype2 is 'GLAT-TAN', but only DEC--TAN"),
        (make_row(lonpole=0), "lonpole is 0, but only 180 is supported"),
        (make_row(lonpole=180.5), "lonpole is 180.5, but only 180 is supported"),
        (make_row(lonpole="1e999"), "lonpole is '1e999', not a finite number"),
    ],
)
def test_a_bad_row_is_told_in_one_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = [make_row(ext=2)] if len(row) == len(make_row()) else []
    path = write_rows(tmp_path / "bad_wcs.csv", [*good, row])
    with pytest.raises(PhotplugError, match=message) as failure:
        read_exposure_log(path)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the WCS log .No such file"),
        (b"", "holds no exposures"),
        (b"file,ext,exptime\n", "holds no exposures"),
        (b"\x89PNG\xff\xfe\n\x00", "_wcs.csv: cannot read the WCS log as CSV text"),
        (b"<html>\n<body>\n</html>\n", "lacks the columns file, exptime, crpix1"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad_wcs.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PhotplugError, match=message) as failure:
        read_exposure_log(path)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_truncated_log_names_the_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "bad_wcs.csv", [make_row(), make_row(ext=2)])
    path.write_text(path.read_text()[:-30])
    with pytest.raises(PhotplugError, match=r"_wcs.csv: row 2 of the WCS log has \d+ cells for 19 columns"):
        read_exposure_log(path)


def test_dates_as_text_stand_in_for_missing_numbers(tmp_path: Path) -> None:
    date = {"date-avg": "2023-02-25T12:00:00.0", "mjd-beg": "", "mjd-avg": "", "mjd-end": ""}
    log = write_shots(tmp_path / "x_wcs.csv", [Shot(jwst_name(), make_detector(150, 2), more=date)])
    assert log.table["mjd_avg"][0].mjd == 60000.5
    assert log.epochs(SkyCoord(150, 2, unit="deg"), ["gap"])["gap_max"][0].value == 0
    with pytest.raises(PhotplugError, match=r"row 1 .* date-avg is 'yesterday', not a date"):
        write_shots(
            tmp_path / "x_wcs.csv", [Shot(jwst_name(), make_detector(150, 2), more=date | {"date-avg": "yesterday"})]
        )


def test_parts_of_file_names(tmp_path: Path) -> None:
    table = gapped_log(tmp_path).table
    first = table["telescope", "program", "observation", "visit", "exposure", "detector", "module"][0]
    assert list(first) == ["JWST", "1837", "001", "jw01837001001", "00001", "NRCALONG", "A"]
    last = table["telescope", "program", "observation", "visit", "exposure", "detector", "module"][4]
    assert list(last) == ["HST", "bhm", "51", "jbhm51", "d3", "WFC", ""]
