"""A PSF for every place of a mosaic: one stamp, or one for each region with the same exposures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.formats import encode_values
from dja_photplug.files.pixels import ImageReader
from dja_photplug.files.smallfits import CardValue
from dja_photplug.files.structure import open_fits
from dja_photplug.files.written import write_hdus
from dja_photplug.psf.model import COUNT, PSF, encircled_energy, half_light_radius, make_psf, read_psf
from dja_photplug.sky.grid import Window, header_wcs, pixel_positions
from dja_photplug.sky.nesting import regrid_labels

__all__ = ["NOT_COVERED", "PSFModel", "read_psf_model", "warn_of_uncovered", "write_psf_model"]

Floats = NDArray[np.float64]

NOT_COVERED = -1
"""The region of a place that has no PSF."""

_LABELS, _STAMP, _SUM = "REGIONS", "PSF", "ORIGSUM"
# What a file says beside the PSFs themselves; the rest of its cards describe how they were made.
_OWN = {COUNT, _SUM, "PIXSCL"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PSFModel:
    """The PSF of every place: one stamp for all, or one for each region.

    Attributes
    ----------
    stamps : tuple of PSF
        n of them.
    name : str
        Of the file.
    labels : ndarray of int16, shape (ny, nx), optional
        Which stamp is that of a cell of the sky, -1 for none. Without it there is one stamp, for all places.
    wcs : `~astropy.wcs.WCS`, optional
        Celestial, of the cells: turned, mirrored or not, and much larger than pixels as a rule.
    meta : mapping, optional
        How it was made, in cards of FITS.

    Examples
    --------
    >>> y, x = np.indices((101, 101)) - 50
    >>> pixels = np.exp(-(x**2 + y**2) / 2 / 3**2) / (2 * np.pi * 3**2)
    >>> psf = PSF(data=pixels, scale=0.04, centre=(50, 50), name="Gaussian of sigma 0.12 arcsec")
    >>> model = PSFModel.of(psf)
    >>> model.encircled_energy_at(SkyCoord([34.3, 34.4], [-5.1, -5.1], unit="deg"), [0.12, 0.24]).round(2)
    array([0.39, 0.86])
    """

    stamps: tuple[PSF, ...]
    name: str
    labels: NDArray[np.int16] | None = None
    wcs: WCS | None = None
    meta: Mapping[str, CardValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every region has its stamp."""
        if self.labels is None:
            if len(self.stamps) != 1:
                raise PhotplugError(f"{self.name}: {len(self.stamps)} PSFs without regions; give one, or regions")
            return
        lowest, highest = int(self.labels.min(initial=0)), int(self.labels.max(initial=NOT_COVERED))
        if self.wcs is None or lowest < NOT_COVERED or highest >= len(self.stamps):
            raise PhotplugError(
                f"{self.name}: regions {lowest} to {highest} {'without' if self.wcs is None else 'with'} a WCS for "
                f"{len(self.stamps)} PSFs; number them from 0, {NOT_COVERED} for none"
            )

    @classmethod
    def of(cls, psf: PSF | PSFModel) -> PSFModel:
        """Return a PSF as that of all places; what is a model already stays as it is.

        Parameters
        ----------
        psf : PSF or PSFModel

        Returns
        -------
        PSFModel
        """
        return psf if isinstance(psf, PSFModel) else cls(stamps=(psf,), name=psf.name)

    def regions_at(self, coordinates: SkyCoord) -> NDArray[np.int_]:
        """Return the numbers of the stamps of places.

        Parameters
        ----------
        coordinates : SkyCoord
            Of any shape.

        Returns
        -------
        ndarray of int
            Of that shape; -1 where there is no PSF, never that of the nearest region.
        """
        places = coordinates.icrs
        if self.labels is None or self.wcs is None:
            return np.zeros(coordinates.shape, int)
        x, y = pixel_positions(self.wcs, places.ra.deg.ravel(), places.dec.deg.ravel())
        (ny, nx), found = self.labels.shape, np.full(x.shape, NOT_COVERED)
        # Written so that NaN fails too.
        inside = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
        # Half up, as the limits are: rint would put the last half of a cell into the one beyond.
        row, column = (np.floor(axis[inside] + 0.5).astype(int) for axis in (y, x))
        found[inside] = self.labels[row, column]
        return found.reshape(coordinates.shape)

    def psf_at(self, coordinate: SkyCoord) -> PSF | None:
        """Return the PSF of a place.

        Parameters
        ----------
        coordinate : SkyCoord
            Scalar.

        Returns
        -------
        PSF or None
            None where there is none.
        """
        region = int(self.regions_at(coordinate))
        return None if region == NOT_COVERED else self.stamps[region]

    def regions_on(self, wcs: WCS, shape: tuple[int, int], window: Window | None = None) -> NDArray[np.int16]:
        """Return the number of the stamp of each pixel of a grid.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`
            Celestial.
        shape : tuple of int
            Of the grid, (ny, nx).
        window : pair of slices, optional
            The part of it that is asked for; all by default.

        Returns
        -------
        ndarray of int16
            Of the shape of the grid, or of the window; -1 where there is no PSF.
        """
        if window is not None:
            wcs, shape = wcs[window], (window[0].stop - window[0].start, window[1].stop - window[1].start)
        if self.labels is None or self.wcs is None:
            return np.zeros(shape, np.int16)
        # 0 is what lies beyond the cells.
        return (regrid_labels(self.labels.astype(np.int32) + 1, self.wcs, wcs, shape) - 1).astype(np.int16)

    def split(self, coordinates: SkyCoord) -> Iterator[tuple[PSF, NDArray[np.intp]]]:
        """Yield each PSF that places have, and which of them have it.

        Parameters
        ----------
        coordinates : SkyCoord
            (n,).

        Yields
        ------
        psf : PSF
        rows : ndarray of int
            Indices of places; those without a PSF are in none.
        """
        regions = self.regions_at(coordinates)
        for region in np.unique(regions[regions != NOT_COVERED]).tolist():
            yield self.stamps[region], np.flatnonzero(regions == region)

    def encircled_energy_at(self, coordinates: SkyCoord, radius: ArrayLike) -> Floats:
        """Return the share of the light of point sources inside circles around them.

        Parameters
        ----------
        coordinates : SkyCoord
            (n,).
        radius : array_like
            In arcsec, (n,) or one for all.

        Returns
        -------
        ndarray
            (n,), as of `dja_photplug.psf.model.encircled_energy`; NaN where there is no PSF.
        """
        return self._measure(coordinates, encircled_energy, radius)

    def half_light_at(self, coordinates: SkyCoord, within: ArrayLike) -> Floats:
        """Return the radii that hold half of the light of point sources inside circles around them.

        Parameters
        ----------
        coordinates : SkyCoord
            (n,).
        within : array_like
            Radius of the circles in arcsec, (n,) or one for all.

        Returns
        -------
        ndarray
            (n,), in arcsec, as of `dja_photplug.psf.model.half_light_radius`; NaN where there is no PSF.
        """
        return self._measure(coordinates, half_light_radius, within)

    def _measure(
        self, coordinates: SkyCoord, function: Callable[[PSF, ArrayLike], Floats], radius: ArrayLike
    ) -> Floats:
        values, each = np.full(coordinates.shape, np.nan), np.broadcast_to(np.asarray(radius), coordinates.shape)
        for psf, rows in self.split(coordinates):
            values[rows] = function(psf, each[rows])
        return values


def warn_of_uncovered(model: PSFModel, coordinates: SkyCoord) -> None:
    """Tell how many places have no PSF.

    Parameters
    ----------
    model : PSFModel
    coordinates : SkyCoord
        (n,); those that are not finite do not count.

    Warns
    -----
    PhotplugWarning
        Once, with their number.
    """
    known = np.isfinite(coordinates.ra.deg) & np.isfinite(coordinates.dec.deg)
    missing = int(np.sum((model.regions_at(coordinates) == NOT_COVERED) & known))
    if missing:
        warnings.warn(
            f"{model.name}: no PSF for {missing} of {known.sum()} positions; their PSF-based columns are NaN, and "
            "they are not flagged POINT_LIKE",
            PhotplugWarning,
            stacklevel=2,
        )


def read_psf_model(
    path: str | Path, assumed: float | None = None, *, scale: float | None = None, share: float | None = None
) -> PSFModel:
    """Read a PSF: an image of one, as of anybody, or one for each region, as :func:`write_psf_model` writes it.

    Parameters
    ----------
    path, assumed, scale, share
        As for `dja_photplug.psf.model.read_psf`; those that are given hold for all regions.

    Returns
    -------
    PSFModel

    Raises
    ------
    PhotplugError
        As `dja_photplug.psf.model.read_psf`, and where regions or one of their PSFs are missing.
    """
    with ImageReader(path) as reader:  # which says what is wrong with a file that is none
        if COUNT not in reader.header:
            return PSFModel.of(read_psf(path, assumed, scale=scale, share=share))
    try:
        with open_fits(path) as hdus:
            header = hdus[0].header
            cards = {key: header[key] for key in header if key in _made_by(header)}
            count = int(header[COUNT])
            stamps = tuple(
                _read_stamp(hdus[0] if count == 1 else hdus[_STAMP, i + 1], path, scale=scale, share=share)
                for i in range(count)
            )
            regions = next((hdu for hdu in hdus if hdu.name == _LABELS), None)
            labels = None if regions is None else regions.data.astype(np.int16)
            wcs = None if regions is None else header_wcs(regions.header)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise PhotplugError(
            f"{path}: should hold PSFs by region ({COUNT}), but one is missing or damaged ({error}); write it again"
        ) from None
    return PSFModel(stamps=stamps, name=Path(path).name, labels=labels, wcs=wcs, meta=cards)


def _made_by(header: fits.Header) -> list[str]:
    """Return the keywords of the cards that tell how a PSF was made."""
    storage = {"SIMPLE", "BITPIX", "EXTEND", "XTENSION", "PCOUNT", "GCOUNT", "COMMENT", "HISTORY", ""}
    return [key for key in header if key not in storage | _OWN and not key.startswith("NAXIS")]


def _read_stamp(hdu: fits.ImageHDU, path: str | Path, *, scale: float | None, share: float | None) -> PSF:
    """Return one of the PSFs of a file that we wrote."""
    header = hdu.header.copy()
    header.pop(COUNT, None)
    total = header.get(_SUM)
    data = hdu.data if total is None else hdu.data * (float(total) / hdu.data.sum())
    return make_psf(data, header, path, scale=scale, share=share)


def write_psf_model(model: PSFModel, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a PSF as FITS.

    Parameters
    ----------
    model : PSFModel
        One stamp is the first image of the file, so that any code can read it; several are extensions ``PSF`` 1 to n,
        after the image ``REGIONS`` with their numbers from 0.
    path : str or Path
        ``.fits`` or ``.fits.gz``.
    overwrite : bool, optional
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        As `dja_photplug.outputs.whole.whole_file`.
    """
    first = fits.Header([(COUNT, len(model.stamps), "PSFs, one for each region")])
    first.update(encode_values(model.meta))
    images = [(psf.data.astype(np.float32), _describe_stamp(psf)) for psf in model.stamps]
    if len(images) == 1:
        hdus = fits.HDUList([fits.PrimaryHDU(images[0][0], first + images[0][1])])
    else:
        hdus = fits.HDUList([fits.PrimaryHDU(header=first)])
    if model.labels is not None and model.wcs is not None:
        header = model.wcs.to_header() + fits.Header({COUNT: len(images)})
        hdus.append(fits.ImageHDU(model.labels, header, name=_LABELS))
    for i, (data, cards) in enumerate(images if len(images) > 1 else (), start=1):
        hdus.append(fits.ImageHDU(data, cards, name=_STAMP, ver=i))
    return write_hdus(path, hdus, overwrite=overwrite)


def _describe_stamp(psf: PSF) -> fits.Header:
    """Return the cards of a PSF that :func:`_read_stamp` reads."""
    cards = fits.Header([("PIXSCL", psf.scale, "[arcsec] of a pixel")])
    if psf.original_sum is not None:
        cards[_SUM] = (psf.original_sum, "before it was taken to hold all light")
    return cards
