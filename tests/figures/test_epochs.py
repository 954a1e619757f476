"""The figure of a log: all footprints on its map, and odd logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from dja_photplug.epochs.log import ExposureLog, read_exposure_log
from dja_photplug.figures.epochs import epoch_figure, plan_sky
from dja_photplug.figures.style import PALETTE
from tests.helpers import uds_prefix


class TestFigure:
    @staticmethod
    def draw(log: ExposureLog, programs: list[str] | None = None):
        table = log.table.copy()
        if programs:
            table["program"] = programs
        log = replace(log, table=table)
        figure = epoch_figure(log)
        sky = next(axes for axes in figure.axes if axes.get_label() == "sky")
        drawn = [path.vertices[:-1] for collection in sky.collections for path in collection.get_paths()]
        _, shape = plan_sky(log.geometry.outline())
        return np.array(drawn), shape, figure

    def test_all_footprints_are_on_the_map(self, data: Path) -> None:
        polygons, shape, figure = self.draw(read_exposure_log(f"{uds_prefix(data)}_wcs.csv"))
        assert polygons.min() > 0
        assert (polygons.max(axis=(0, 1)) < shape[::-1]).all()
        assert polygons.max() > 0.9 * max(shape)
        time = next(axes for axes in figure.axes if axes.get_label() == "time")
        assert len(polygons) == 297
        assert sum(len(line.get_xdata()) for line in time.lines) == 70
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert texts[0] == "1837: 57 visits, 95.5 ks"

    @pytest.mark.parametrize(("ra", "dec"), [(0.0, 10.0), (77.0, -89.99), (200.0, 89.0)])
    def test_seam_and_poles(self, tmp_path: Path, simulated, ra: float, dec: float) -> None:
        table = Table.read(f"{simulated.prefix}_wcs.csv")
        table["crval1"], table["crval2"] = ra, dec
        table.write(tmp_path / "x_wcs.csv")
        polygons, shape, _ = self.draw(read_exposure_log(tmp_path / "x_wcs.csv"))
        assert polygons.min() > 0
        assert (polygons.max(axis=(0, 1)) < shape[::-1]).all()
        assert polygons.max() > 0.9 * max(shape)

    def test_many_programs_and_no_dates(self, tmp_path: Path, simulated) -> None:
        table = Table.read(f"{simulated.prefix}_wcs.csv")
        table = table[[0] * 9]
        table["file"] = [f"jw{1000 + i:05d}001001_02101_00001_nis_rate.fits" for i in range(9)]
        table.remove_columns([name for name in table.colnames if name.startswith(("mjd-", "date-"))])
        table.write(tmp_path / "x_wcs.csv")
        *_, figure = self.draw(read_exposure_log(tmp_path / "x_wcs.csv"))
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert len(texts) == len(PALETTE) + 1
        assert texts[-1] == "3 more programs"
        assert "9 visits without a date" in figure.legends[0].get_title().get_text()
        figure.savefig(tmp_path / "x.png")  # nothing to show in time, and no warning
