"""The formats of files by the suffixes of their names."""

from __future__ import annotations

__all__ = [
    "CATALOG_FORMATS",
    "EAZY_FORMATS",
    "EXTENDED_FORMATS",
    "FOOTPRINT_SUFFIXES",
    "IMAGE_SUFFIXES",
    "PLOT_SUFFIXES",
    "REGION_SUFFIXES",
    "SHEET_SUFFIXES",
    "TABLE_FORMATS",
    "WEIGHT_KINDS",
]


IMAGE_SUFFIXES = (".fits", ".fits.gz")


REGION_SUFFIXES = (".reg",)


CATALOG_FORMATS = {".fits": "fits", ".ecsv": "ascii.ecsv", ".parquet": "parquet"}


EXTENDED_FORMATS = {**CATALOG_FORMATS, ".csv": "ascii.csv"}
"""Formats of extended catalogues by suffix; CSV holds no units, descriptions or metadata."""


TABLE_FORMATS = {**EXTENDED_FORMATS, ".fits.gz": "fits", ".vot": "votable", ".xml": "votable"}
"""Formats of catalogues that can be extended, by suffix."""


PLOT_SUFFIXES = (".png", ".pdf")


SHEET_SUFFIXES = (".png", ".html")


FOOTPRINT_SUFFIXES = (".reg",)


EAZY_FORMATS = {".fits": "fits", ".cat": "ascii.commented_header"}

WEIGHT_KINDS = {"weight": -2, "sigma": 1, "variance": 2}
"""The planes that a weight is written as, each with its power of the image's unit."""
