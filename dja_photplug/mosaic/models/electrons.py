"""What the header and the log of a mosaic say of its unit, and of the electrons in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from dja_photplug.errors import PhotplugError
from dja_photplug.sky.cards import read_card, read_numbers
from dja_photplug.units import MOSAIC_UNIT

if TYPE_CHECKING:
    from dja_photplug.epochs.log import ExposureLog

__all__ = ["DETECTOR_GAINS", "Header", "HeaderValue", "check_unit", "detector_gain", "phot_scale"]

HeaderValue = str | float
"""Text, number or truth value of a keyword."""

Header = Mapping[str, HeaderValue]
"""Keywords of a FITS header, or a dictionary of them."""

DETECTOR_GAINS: Mapping[str, float] = {
    **{"NRCA1": 2.13, "NRCA2": 2.17, "NRCA3": 2.25, "NRCA4": 2.08, "NRCALONG": 1.88, "NRCA5": 1.88},
    **{"NRCB1": 2.00, "NRCB2": 2.24, "NRCB3": 2.09, "NRCB4": 2.18, "NRCBLONG": 1.90, "NRCB5": 1.90},
    **{"NIS": 1.6, "MIRIMAGE": 4.0},
}
"""Mean electrons per DN in flight, by detector. HST mosaics are in electrons already; MIRI's is uncertain."""

_CONVERT = "convert the image and its weight to 10 nJy"


def check_unit(header: Header) -> None:
    """Refuse an image that is not in 10 nJy.

    BUNIT decides (the archive spells it ``10.0*nanoJansky`` or ``10*nanoJansky``), else PHOTFNU in Jy. ``ZP`` is
    never read: in real headers it is the zero point of the original units (26.53 where 28.90 is right).

    Parameters
    ----------
    header : mapping
        Of the image.

    Raises
    ------
    PhotplugError
        Naming the unit found.
    """
    given = read_card(header, "BUNIT")
    bunit = "" if given is None else str(given).strip()
    if not bunit and "PHOTFNU" not in header:
        raise PhotplugError("neither BUNIT nor PHOTFNU gives its unit; if it is 10 nJy, set BUNIT = '10*nanoJansky'")
    if not bunit:
        bunit = f"{read_numbers(header, ['PHOTFNU'], _CONVERT, kind='positive number')['PHOTFNU']} Jy"
    try:
        known = np.isclose(u.Unit(bunit).to(MOSAIC_UNIT), 1, rtol=1e-6, atol=0)
    except (ValueError, TypeError, u.UnitConversionError):
        known = False
    if not known:
        key = "PHOTFNU" if given in (None, "") else "BUNIT"
        raise PhotplugError(f"keyword {key} gives the unit {bunit!r}, not 10 nJy; {_CONVERT}")


# Beyond it, or below its inverse, is no detector, and what it is multiplied with would not be finite in float32.
MOST_SCALE = 1e15


def phot_scale(header: Header) -> float:
    """Return DN/s of a detector per unit of the mosaic: 1/(PHOTMJSR*PHOTSCAL) * PHOTFNU/OPHOTFNU.

    HST headers have no PHOTMJSR and drop its factor (HST mosaics are in electrons); a missing PHOTSCAL counts as 1.

    Parameters
    ----------
    header : mapping
        Of the science image.

    Returns
    -------
    float
        In DN/s per 10 nJy; for HST electrons/s per 10 nJy.

    Raises
    ------
    PhotplugError
        Where PHOTFNU, OPHOTFNU, or for JWST PHOTMJSR is missing or not positive, or PHOTSCAL is not; the message names
        all that are. Where they make a scale that no detector can have.
        (Dropping OPHOTFNU, as copies of the recipe do, makes the gain about 10 times wrong.)
    """
    hst = _is_hst(header)
    needed = ["PHOTFNU", "OPHOTFNU"]
    if not hst:
        # Without TELESCOP it is PHOTMJSR that tells JWST: HST headers have none.
        needed[:0] = ["PHOTMJSR"] if {"TELESCOP", "PHOTMJSR"} & set(header) else ["TELESCOP", "PHOTMJSR"]
    advice = "correct it, give the scale by the option phot_scale (--phot-scale), or use the noise preset 'background'"
    why = f"so electrons cannot be counted: {advice}"
    factors = read_numbers(header, needed, why, optional=("PHOTSCAL",), kind="positive number")
    scale = factors["PHOTFNU"] / factors["OPHOTFNU"] / factors.get("PHOTSCAL", 1.0)
    scale = scale if hst else scale / factors["PHOTMJSR"]
    if not 1 / MOST_SCALE < scale < MOST_SCALE:
        given = ", ".join(f"{key} {value:g}" for key, value in factors.items())
        raise PhotplugError(f"keywords {given} give {scale:g} DN/s per 10 nJy, as no detector has: {advice}")
    return scale


def _is_hst(header: Header) -> bool:
    """Return whether a mosaic is in electrons, as those of HST are; what is no telescope's name is refused."""
    telescope = read_card(header, "TELESCOP")
    name = "JWST" if telescope is None else str(telescope).strip().upper()
    if name not in ("HST", "JWST"):
        raise PhotplugError(
            f"keyword TELESCOP is {telescope!r}, neither JWST nor HST, so electrons cannot be counted; correct it, or "
            "use the noise preset 'background'"
        )
    return name == "HST"


def detector_gain(
    header: Header, log: ExposureLog | None = None, gains: Mapping[str, float] = DETECTOR_GAINS
) -> tuple[float, str]:
    """Return the detector gain of a mosaic, and where it comes from.

    Parameters
    ----------
    header : mapping
        Of the science image; DETECTOR is that of the first exposure only.
    log : ExposureLog, optional
        The table's detectors, weighted by exposure time.
    gains : mapping, optional
        Electrons per DN by detector, upper case.

    Returns
    -------
    gain : float
        Electrons per DN.
    source : str
        For the header of the weight.

    Raises
    ------
    PhotplugError
        Where no detector is known.
    """
    if _is_hst(header):
        return 1.0, "HST mosaics are in electrons"
    if log is not None and len(log):
        names = np.char.upper(np.asarray(log.table["detector"]).astype(str))
        times = np.asarray(u.Quantity(log.table["exptime"]).value, float)
        if set(names) <= set(gains) and times.sum() > 0:
            return float(np.average([gains[name] for name in names], weights=times)), "table, by the WCS log"
    detector = str(read_card(header, "DETECTOR") or "").strip().upper()
    if detector not in gains:
        raise PhotplugError(
            f"detector {detector or '(no DETECTOR keyword)'} has no known gain; give the option detector_gain "
            f"(--detector-gain) in e-/DN; known are {', '.join(gains)}"
        )
    return gains[detector], f"table, by DETECTOR {detector}"
