"""The figure of bands that are brought to one PSF."""

from __future__ import annotations

import numpy as np
import pytest

from dja_photplug.figures.matching import PANELS, matching_figure
from dja_photplug.matching.kernels import Target
from dja_photplug.psf.model import PSF
from tests.helpers import SCALE, gaussian


def make_psf(name: str, sigma: float) -> PSF:
    pixels = gaussian((101, 101), 50, 50, sigma / SCALE)
    return PSF(data=pixels / pixels.sum(), scale=SCALE, centre=(50, 50), name=name)


def test_each_band_has_a_row_whose_curves_come_together() -> None:
    psfs = {name: make_psf(name, sigma) for name, sigma in (("a", 0.06), ("b", 0.08), ("c", 0.12))}
    figure = matching_figure(psfs, Target(name="c", psf=psfs["c"]), SCALE)
    assert len(figure.axes) == 2 * len(PANELS)
    for row in (figure.axes[: len(PANELS)], figure.axes[len(PANELS) :]):
        before, after, _ = (line.get_ydata() for line in row[4].lines)
        radius = row[4].lines[0].get_xdata()
        far = radius > 0.16
        assert np.max(before[far]) > 5
        assert np.max(np.abs(after[far])) < 0.5
        left = row[2].images[0].get_array()
        assert np.max(np.abs(left)) < 1
    assert figure.axes[0].get_title() == PANELS[0]
    assert "PSF of c" in figure.get_suptitle()


def test_needs_matplotlib(monkeypatch) -> None:
    from dja_photplug.errors import PhotplugError
    from dja_photplug.figures import style

    monkeypatch.setattr(style, "find_spec", lambda name: None)
    with pytest.raises(PhotplugError, match="plot"):
        matching_figure({}, Target(name="a", psf=make_psf("a", 0.1)), SCALE)
