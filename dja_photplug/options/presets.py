"""Whole sets of options: what products of pixels take, and the recipe of the archive's catalogues."""

from __future__ import annotations

from dja_photplug.options.stages import PIXEL_NOISE, Options, VarianceOptions

__all__ = ["PIXEL_DEFAULTS"]

PIXEL_DEFAULTS = Options(variance=VarianceOptions(noise=PIXEL_NOISE))
"""What products of pixels take, such as a weight map: the recipe as published, not the calibrated preset."""
