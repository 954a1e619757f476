"""From DN to electrons: units, the scale of the photometry, detector gains."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from dja_photplug.errors import PhotplugError
from dja_photplug.mosaic.models.electrons import DETECTOR_GAINS, check_unit, detector_gain, phot_scale
from dja_photplug.mosaic.models.exposure import ExposureMap
from dja_photplug.mosaic.models.fullweight import make_noise_model
from dja_photplug.options.stages import VarianceOptions
from tests.helpers import JWST_HEADER


def test_phot_scale_of_the_published_header(data):
    text = (data / "smacs0723/smacs0723-grizli-v7.0-f444w-clear_drc_sci.header.txt").read_text()
    header = fits.Header.fromstring(text, sep="\n")
    # In decimal arithmetic: 1E-8 / 9.30775449348276E-08 / (0.3925000131130219 * 1.001401962747847).
    assert phot_scale(header) == pytest.approx(0.273342377, rel=1e-8)


def test_phot_scale_of_hst_drops_photmjsr_and_counts_a_missing_photscal_as_one():
    header = {"TELESCOP": "HST", "PHOTFNU": 1e-8, "OPHOTFNU": 5e-8}
    assert phot_scale(header) == pytest.approx(0.2)
    assert detector_gain(header)[0] == 1
    image = {**header, "BUNIT": "10*nanoJansky", "NAXIS1": 4, "NAXIS2": 4}
    cards = make_noise_model(image, ExposureMap(np.ones((4, 4))), None, VarianceOptions()).provenance
    assert cards["PHOTSCL1"][0] is True
    assert cards["PHOTSCLE"][0] == pytest.approx(0.2)


@pytest.mark.parametrize("value", [1e308, 1e-308])
def test_a_scale_that_no_detector_has_is_refused(value):
    with pytest.raises(PhotplugError, match=r"keywords .*PHOTFNU 1e.308.* give .* DN/s per 10 nJy, as no detector has"):
        phot_scale({**JWST_HEADER, "PHOTFNU": value})


@pytest.mark.parametrize("bunit", ["10.0*nanoJansky", "10*nanoJansky", "10 nJy"])
def test_spellings_of_the_unit(bunit):
    check_unit({"BUNIT": bunit})


def test_unit_is_never_guessed():
    check_unit({"PHOTFNU": 1e-8, "ZP": 26.53})  # ZP contradicts and is not read
    for header, message in (
        ({"BUNIT": "MJy/sr"}, "gives the unit 'MJy/sr', not 10 nJy"),
        ({"BUNIT": "uJy"}, "gives the unit 'uJy'"),
        ({"BUNIT": "counts"}, "gives the unit 'counts'"),
        ({"BUNIT": "spam"}, "gives the unit 'spam'"),
        ({"PHOTFNU": 1e-9}, "gives the unit '1e-09 Jy'"),
        ({"ZP": 28.9}, "neither BUNIT nor PHOTFNU"),
    ):
        with pytest.raises(PhotplugError, match=message):
            check_unit(header)


class Log:
    """The two columns of an exposure log that the gain needs."""

    def __init__(self, **seconds):
        self.table = {"detector": np.array(list(seconds)), "exptime": np.array(list(seconds.values()))}

    def __len__(self):
        return len(self.table["detector"])


def test_detector_gain_is_weighted_by_exposure_time():
    gain, source = detector_gain(JWST_HEADER, Log(NRCA1=300.0, NRCB4=100.0))
    assert gain == pytest.approx((3 * 2.13 + 2.18) / 4)
    assert "log" in source
    assert detector_gain(JWST_HEADER)[0] == DETECTOR_GAINS["NRCALONG"]
    # An unknown detector in the log falls back to the header, and says so.
    gain, source = detector_gain(JWST_HEADER, Log(NRCA1=300.0, NRCX9=100.0))
    assert (gain, source) == (1.88, "table, by DETECTOR NRCALONG")
    with pytest.raises(PhotplugError, match="NRCX9 has no known gain.*--detector-gain"):
        detector_gain({**JWST_HEADER, "DETECTOR": "NRCX9"})
