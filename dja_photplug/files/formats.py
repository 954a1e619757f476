"""The formats of files by the suffixes of their names."""

from __future__ import annotations

__all__ = [
    "CATALOG_FORMATS",
    "EAZY_FORMATS",
    "EXTENDED_FORMATS",
    "IMAGE_SUFFIXES",
    "PLOT_SUFFIXES",
    "REGION_SUFFIXES",
    "SHEET_SUFFIXES",
    "TABLE_FORMATS",
    "WEIGHT_KINDS",
]

IMAGE_SUFFIXES = (".fits", ".fits.gz")
"""Suffixes of images: planes of a mosaic, segmentation, exposure maps."""
REGION_SUFFIXES = (".reg",)
"""Suffixes of DS9 regions: Kron apertures of sources, footprints of exposures."""
PLOT_SUFFIXES = (".png", ".pdf")
"""Suffixes of figures."""
SHEET_SUFFIXES = (".png", ".html")
"""Suffixes of contact sheets of stamps."""
CATALOG_FORMATS = {".fits": "fits", ".ecsv": "ascii.ecsv", ".parquet": "parquet"}
"""Formats, as astropy names them, of catalogues with units, descriptions and metadata, by suffix."""
EXTENDED_FORMATS = {**CATALOG_FORMATS, ".csv": "ascii.csv"}
"""Formats of extended catalogues by suffix; CSV holds no units, descriptions or metadata."""
TABLE_FORMATS = {**EXTENDED_FORMATS, ".fits.gz": "fits", ".vot": "votable", ".xml": "votable"}
"""Formats of catalogues that can be extended, by suffix."""
EAZY_FORMATS = {".fits": "fits", ".cat": "ascii.commented_header"}
"""Formats of catalogues for EAZY by suffix."""
WEIGHT_KINDS = {"weight": -2, "sigma": 1, "variance": 2}
"""The planes that a weight is written as, each with its power of the image's unit."""
