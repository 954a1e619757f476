"""Names of the JWST pipeline's mosaics: ``jw01345-o001_t021_nircam_clear-f200w_i2d.fits``.

Program and association, target, instrument, and the optical elements in the order of the alphabet: what is in the pupil
wheel and in the filter wheel, and a subarray. https://jwst-pipeline.readthedocs.io/en/latest/jwst/data_products
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dja_photplug.plugin import PhotplugError, Source

if TYPE_CHECKING:
    from dja_photplug.plugin import Grid

# Products of single exposures (jw01345001001_02101_00001_nrca1_i2d.fits) have other names, and are not claimed.
_NAME = re.compile(r"(?P<field>jw\d{5}-[a-z]\d+_[^_]+_(?P<instrument>nircam|niriss|miri))_(?P<elements>.+)_i2d\.fits")
_FILTER = re.compile(r"f\d{3,4}[a-z]\d?")


@dataclass(frozen=True, kw_only=True)
class I2DSource(Source):
    """One i2d file.

    Attributes
    ----------
    path : Path
    """

    path: Path

    def grid(self) -> Grid:
        """Return the grid of the pixels from the header alone."""
        from photplug_jwst_i2d.images import read_grid

        return read_grid(self.path)

    def beside(self, filter: str) -> I2DSource | None:
        """Return the mosaic of the same association, target and instrument in another filter."""
        field = self.name.rpartition("_")[0]
        others = (find_i2d(str(path)) for path in sorted(self.path.parent.glob(f"{field}_*_i2d.fits")))
        return next((other for other in others if other and other.band == filter), None)


def band_of(instrument: str, elements: str) -> str:
    """Return the band's name, as dja_photplug names that of a DJA mosaic.

    Examples
    --------
    >>> band_of("nircam", "clear-f200w"), band_of("nircam", "f444w-f470n-sub640"), band_of("niriss", "clearp-f356w")
    ('f200w', 'f444w_f470n', 'f356wn')
    """
    filters = [part for part in elements.split("-") if _FILTER.fullmatch(part)]
    # NIRISS has filters of the same names as NIRCam.
    return "_".join(filters) + ("n" if filters and instrument == "niriss" else "")


def find_i2d(text: str) -> I2DSource | None:
    """Return the source that a path names; None where the name is no i2d mosaic's.

    Raises
    ------
    PhotplugError
        Where there is no such file.
    """
    path = Path(text)
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    if not path.is_file():
        raise PhotplugError(f"{path}: no such file")
    name = f"{match['field']}_{match['elements']}"
    # MAST ships no log of the exposures; one with the columns of DJA's, put beside the mosaic, gives epochs.
    log = path.with_name(f"{name}_wcs.csv")
    band = band_of(match["instrument"], match["elements"])
    return I2DSource(name=name, band=band, label=text, log=log if log.is_file() else None, path=path)
