"""PSFs of detectors, before they are drizzled: grids of STScI, or one oversampled image."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dja_photplug.epochs.log import ExposureLog
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.pixels import read_image
from dja_photplug.files.structure import open_fits
from dja_photplug.psf.model import PSF, SCALES, make_psf
from dja_photplug.psf.sampling import sample_psf

if TYPE_CHECKING:
    from photutils.psf import GriddedPSFModel

__all__ = ["DetectorPSF", "read_detector_psf", "read_detector_psfs", "standard_detector"]

Floats = NDArray[np.float64]

# Other names of detectors, as those of the archive's logs.
ALIASES = {"NRCA5": "NRCALONG", "NRCAL": "NRCALONG", "NRCB5": "NRCBLONG", "NRCBL": "NRCBLONG"}
ALIASES |= {"MIRIM": "MIRIMAGE", "MIRI": "MIRIMAGE", "NIRISS": "NIS"}
# The numbers by which photutils knows the eight detectors in one STDPSF file.
SHORT_WAVE = {f"NRC{module}{i + 1}": 4 * (module == "B") + i + 1 for module in "AB" for i in range(4)}
# HST files of two or four chips, which logs tell by extensions.
CHIPS = {"ACSWFC", "WFC3UV", "WFPC2"}
SHARES = (0.5, 1.05)  # of the light within a PSF of a grid
FINER = 1.01  # a plain image may have pixels as large as the detector's


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectorPSF:
    """The PSF of one detector.

    Attributes
    ----------
    name : str
        Of the file.
    detector : str
        As :func:`standard_detector` gives it.
    image : PSF or None
        One for the whole detector, before its pixels.
    grid : GriddedPSFModel or None
        Of ePSFs, which have gone through its pixels, at several places.
    """

    name: str
    detector: str
    image: PSF | None = None
    grid: GriddedPSFModel | None = None

    def draw(self, x: float, y: float, scale: float) -> tuple[Floats, tuple[int, int]]:
        """Return the light of a point source in the pixels of the detector.

        Parameters
        ----------
        x, y : float
            Its place, in 0-based pixels.
        scale : float
            Nominal side of a pixel, arcsec.

        Returns
        -------
        stamp : ndarray
            (ny, nx); its sum is the share of the light that the PSF holds.
        corner : tuple of int
            (y, x) of the pixel on which it begins.
        """
        column, row = round(x), round(y)
        if self.image is not None:
            stamp = sample_psf(self.image, scale, (y - row, x - column))
        else:
            assert self.grid is not None
            half = [int(n / step / 2) for n, step in zip(self.grid.data.shape[1:], self.grid.oversampling, strict=True)]
            rows, columns = np.mgrid[-half[0] : half[0] + 1, -half[1] : half[1] + 1].astype(float)
            stamp = self.grid.evaluate(columns + column, rows + row, 1.0, x, y)
        return stamp, (row - stamp.shape[0] // 2, column - stamp.shape[1] // 2)


def standard_detector(name: str) -> str:
    """Return the name of a detector as the logs have it.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        Upper case: NRCALONG for NRCA5 and NRCAL.
    """
    name = name.strip().upper()
    return ALIASES.get(name, name)


def read_detector_psf(path: str | Path, detectors: Collection[str], filter: str, scale: float) -> list[DetectorPSF]:
    """Read the PSF of a detector.

    Parameters
    ----------
    path : str or Path
        A STDPSF file, a grid of STPSF (WebbPSF), or a FITS image with pixels no larger than the detector's.
    detectors : collection of str
        Those of the log, in its names.
    filter : str
        Of the mosaic, as the archive spells it: ``f444w-clear``; empty where it is not known.
    scale : float
        Side of the detector's pixels in arcsec, for an image.

    Returns
    -------
    list of DetectorPSF
        One, or those of the log that a file of eight holds.

    Raises
    ------
    PhotplugError
        Where the file cannot be read, is of a detector that the log does not have, or of another filter.

    Warns
    -----
    PhotplugWarning
        Where it does not state its detector, so that it is taken to be that of the log.
    """
    path = Path(path)
    header = _read_header(path)
    kind = "stdpsf" if "NXPSFS" in header else "webbpsf" if any(key.startswith("DET_YX") for key in header) else ""
    given, its_filter = _find_detector(path, header)
    if its_filter and filter and its_filter not in filter.upper().split("-"):
        raise PhotplugError(f"{path}: is a PSF in {its_filter}, but the mosaic is in {filter}; give one in its filter")
    if given == "NRCSW":
        names = [name for name in sorted(detectors) if name in SHORT_WAVE]
        if not names:
            raise _other_detector(path, given, detectors)
        grids = {name: _read_grid(path, kind, detector_id=SHORT_WAVE[name]) for name in names}
        return [DetectorPSF(name=path.name, detector=name, grid=grid) for name, grid in grids.items()]
    if given in CHIPS:
        raise PhotplugError(f"{path}: holds the PSFs of several chips ({given}); give an image of each")
    detector = standard_detector(given)
    if not detector or set(detectors) == {""}:
        detector = _assume_detector(path, given, detectors)
    elif detector not in detectors:
        raise _other_detector(path, given, detectors)
    if kind:
        return [DetectorPSF(name=path.name, detector=detector, grid=_read_grid(path, kind))]
    return [DetectorPSF(name=path.name, detector=detector, image=_read_stamp(path, scale))]


def read_detector_psfs(paths: Sequence[Path], log: ExposureLog, filter: str) -> list[DetectorPSF]:
    """Read the PSFs of the detectors of a log.

    Parameters
    ----------
    paths : sequence of Path
    log : ExposureLog
    filter : str
        As for :func:`read_detector_psf`.

    Returns
    -------
    list of DetectorPSF

    Raises
    ------
    PhotplugError
        As :func:`read_detector_psf`, and where two files are of one detector.
    """
    detectors = {standard_detector(str(name)) for name in log.table["detector"]}
    scale = float(np.median(log.geometry.pixel_scales()))
    found: dict[str, DetectorPSF] = {}
    for path in paths:
        for one in read_detector_psf(path, detectors, filter, scale):
            if one.detector in found:
                raise PhotplugError(
                    f"{path}: is a second PSF of {one.detector}, besides {found[one.detector].name}; give only one"
                )
            found[one.detector] = one
    return list(found.values())


def _read_stamp(path: Path, scale: float) -> PSF:
    """Return an image of the PSF whose pixels are no larger than a detector's."""
    pixels, header = read_image(path)
    if not any(key in header for key in (*SCALES, "PIXAR_A2", "CTYPE1")):
        raise PhotplugError(f"{path}: states no pixel scale; add it to its header, as PIXSCL in arcsec")
    psf = make_psf(pixels, header, path)
    if psf.scale > FINER * scale:
        raise PhotplugError(
            f"{path}: pixels of {psf.scale:.3g} arcsec are larger than the detector's, {scale:.3g}; give a PSF "
            "sampled at least as finely"
        )
    return psf


def _read_header(path: Path) -> fits.Header:
    """Return the first header of a file, with the cards of the second that it does not have."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cards of others; what is used of them is checked
            with open_fits(path) as hdus:
                header = hdus[0].header.copy()
                if len(hdus) > 1:
                    header.update({key: value for key, value in hdus[1].header.items() if key not in header})
                return header
    except FileNotFoundError:
        raise PhotplugError(f"{path}: no such file; give the PSF of a detector") from None
    except OSError as error:
        raise PhotplugError(f"{path}: not a readable FITS file ({error}); give the PSF of a detector") from None


def _find_detector(path: Path, header: Mapping[str, object]) -> tuple[str, str]:
    """Return detector and filter that a header states, or the name of a STDPSF file; empty where none does."""
    detector, filter = (str(header.get(key, "")).strip().upper() for key in ("DETECTOR", "FILTER"))
    parts = path.name.upper().partition(".")[0].split("_")
    if parts[0].startswith("STDPSF") and len(parts) >= 3:
        return parts[1], parts[2]
    return detector, filter


def _other_detector(path: Path, given: str, detectors: Collection[str]) -> PhotplugError:
    there = ", ".join(sorted(detectors))
    return PhotplugError(
        f"{path}: is the PSF of {given}, but the log has exposures of {there}; give the PSFs of its detectors"
    )


def _assume_detector(path: Path, given: str, detectors: Collection[str]) -> str:
    """Return the only detector of a log, for a PSF that states none, or a log that does."""
    if len(detectors) != 1:
        there = ", ".join(sorted(detectors))
        raise PhotplugError(f"{path}: states no DETECTOR, and the log has {there}; add it to its header")
    [only] = detectors
    warnings.warn(
        f"{path}: {f'is of {given}' if given else 'states no DETECTOR'}; assuming the detector of the log, "
        f"{only or 'which is unnamed there too'}",
        PhotplugWarning,
        stacklevel=3,
    )
    return only


def _read_grid(path: Path, kind: str, detector_id: int | None = None) -> GriddedPSFModel:
    """Return a grid of ePSFs as photutils reads it, refused where its sums are no shares of the light."""
    from photutils.psf import GriddedPSFModel  # half a second to import

    more = {} if detector_id is None else {"detector_id": detector_id}
    try:
        grid = GriddedPSFModel.read(str(path), format=kind, **more)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PhotplugError(
            f"{path}: not a PSF grid that photutils can read ({error}); give a STDPSF or STPSF file"
        ) from None
    sums = grid.data.sum(axis=(1, 2)) / np.prod(grid.oversampling)
    if not np.all((sums >= SHARES[0]) & (sums <= SHARES[1])):
        raise PhotplugError(
            f"{path}: its PSFs sum to {sums.min():.3g} to {sums.max():.3g} of the light; give ePSFs whose sum over "
            "the square of the oversampling is the share of the light"
        )
    return grid
