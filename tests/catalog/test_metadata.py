"""The metadata of a catalogue."""

from __future__ import annotations

import json

from dja_photplug.catalog.metadata import make_metadata
from dja_photplug.options.run import Options
from dja_photplug.options.stages import MeasureOptions


def test_metadata_are_short_keys_and_plain_values() -> None:
    meta = make_metadata(Options(measure=MeasureOptions(apertures=(0.3, 2.0))))
    assert all(len(key) <= 8 and key == key.upper() for key in meta)
    assert (meta["ZEROPNT"], meta["ENGINE"], meta["ASEC_1"]) == (23.9, "sep", 2.0)
    assert json.loads(meta["OPTIONS"])["detect"]["n_sigma"] == 1.5
    assert set(json.loads(meta["VERSIONS"])) == {"dja_photplug", "astropy", "numpy", "sep", "photutils"}
