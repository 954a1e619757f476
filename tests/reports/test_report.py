"""The page of a report: whole, without the network, and with what there is."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from astropy.table import Table

import dja_photplug as dp
from dja_photplug.cli.app import main
from dja_photplug.errors import PhotplugError, PhotplugWarning
from tests.reports.conftest import BANDS, Field


def read_data(page: Path) -> dict:
    text = re.search(r'id="report-data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert text is not None
    return json.loads(text[1])


def test_page_holds_pixels_of_every_band_and_asks_no_network(field: Field) -> None:
    text = field.page.read_text("utf-8")
    markup = re.sub(r"(?s)<script.*?</script>", "", text)
    assert "<section" in markup
    assert not re.search(r'(?:src|href)="(?!data:)', markup)
    info = read_data(field.page)
    assert [band["label"] for band in info["bands"]] == list(BANDS)
    assert all(len(band["tiles"]["images"]) == 1 for band in info["bands"])
    # Both mosaics are on one grid.
    assert info["bands"][1]["map"] == pytest.approx([0, 1, 0, 0, 0, 1], abs=1e-6)
    assert info["labels"]["kind"] == "image/png"
    assert "Copyright (c)" in text
    assert len(text) < 4e6


def test_counts_are_over_the_area_of_the_image_of_the_detection(blind: Field) -> None:
    """300 x 340 pixels of 0.04 arcsec have data in the second band, on which sources were detected."""
    area = 300 * 340 * 0.04**2 / 3600
    assert f"over {area:.2f} arcmin² in the image that they were detected on" in blind.page.read_text()


def test_moved_mosaics_are_told_and_found_again(field: Field, tmp_path: Path) -> None:
    table = dp.read_catalog(field.catalog)
    for key in ("BAND_0", "BAND_1"):
        table.meta[key] = table.meta[key].replace(str(field.folder), "elsewhere")
    moved = tmp_path / "moved.ecsv"
    table.write(moved)
    with pytest.warns(PhotplugWarning) as told:
        page = dp.report(moved, tmp_path / "without.html")
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 2
    assert all(
        f"{band} has no images: elsewhere/sim-v1-{band}-clear: no such" in texts[i] for i, band in enumerate(BANDS)
    )
    assert all(band["tiles"] is None for band in read_data(page)["bands"])
    assert "f444w has no images: elsewhere" in page.read_text("utf-8")
    page = dp.report(moved, tmp_path / "with.html", mosaics=field.folder)
    assert all(band["tiles"] for band in read_data(page)["bands"])


def test_catalogue_of_others_has_its_positions(field: Field, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    table = dp.read_catalog(field.catalog)
    Table({"name": ["a", "b"], "ra": table["ra"][:2].value, "dec": table["dec"][:2].value}).write(path)
    with pytest.warns(PhotplugWarning, match="name no bands and no mosaics"):
        page = dp.report(path, tmp_path / "other.html", mosaics=field.folder)
    assert [band["label"] for band in read_data(page)["bands"]] == list(BANDS)


def test_command_writes_the_report(field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(field.catalog), "-o", str(page)]) == 0
    assert f"{len(field.result.catalog)} sources" in capsys.readouterr().out
    assert main(["report", str(field.catalog), "-o", str(page)]) == 1
    assert "already exists" in capsys.readouterr().err


def test_empty_catalogue_and_missing_library_are_told(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PhotplugError, match="no sources, so there is nothing to report"):
        dp.report(field.result.catalog[:0], tmp_path / "page.html")
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(PhotplugError, match=r'reports need bokeh.*pip install "dja_photplug\[report\]"'):
        dp.report(field.catalog, tmp_path / "page.html")
