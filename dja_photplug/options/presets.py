"""Whole sets of options: what products of pixels take, and the recipe of the archive's catalogues."""

from __future__ import annotations

from dja_photplug.options.run import Options
from dja_photplug.options.stages import (
    PIXEL_NOISE,
    BackgroundOptions,
    BandOptions,
    DetectOptions,
    MeasureOptions,
    OutputOptions,
    VarianceOptions,
)

__all__ = ["LIKE_DJA", "PIXEL_DEFAULTS"]

PIXEL_DEFAULTS = Options(variance=VarianceOptions(noise=PIXEL_NOISE))
"""What products of pixels take, such as a weight map: the recipe as published, not the calibrated preset."""

LIKE_DJA = Options(
    variance=VarianceOptions(noise="background"),
    background=BackgroundOptions(rescale_weights="yes"),
    detect=DetectOptions(noise="background", extraction="whole"),
    measure=MeasureOptions(background="unmasked", neighbours="mean", photon_gain=2000.0, details=True),
    bands=BandOptions(sky="unmasked"),
    output=OutputOptions(schema="dja"),
)
"""The recipe of the archive's catalogues, which `catalog --like-dja` takes; the defaults hold for the rest of it.

The metadata of its tables tell it: GET_BACK and RESCALEW are true for the image that sources are detected on, ERR_SCALE
is 1 for the bands, GAIN is 2000.
"""
