"""Headers of stamps: what they keep of the mosaic's, what galfit reads, and what each stamp fills in."""

from __future__ import annotations

from collections.abc import Mapping

from astropy.io import fits

from dja_photplug.files.formats import encode_text
from dja_photplug.mosaic.models.electrons import HeaderValue
from dja_photplug.units import MOSAIC_UNIT, MOSAIC_ZERO_POINT

__all__ = ["NULL_SIGMA", "describe_field"]

NULL_SIGMA = 1e10
"""Sigma of pixels without data: its square is finite in float32, and 10 orders above any real variance."""

# What the header of a stamp keeps of the mosaic's: 3,500 cards list the exposures.
_KEPT = (
    *("TELESCOP", "INSTRUME", "DETECTOR", "FILTER", "PUPIL", "PHOTPLAM", "PHOTFNU", "DATE-OBS", "NDRIZIM", "PIXFRAC"),
    *("NOISE", "DETGAIN", "DETGSRC", "PHOTSCLE", "GROWTH", "EXPFROM", "BACKWHT"),
)
_OF_STAMPS = {
    "TARGET": "id in the catalogue, or a position",
    "RA_TARG": "[deg]",
    "DEC_TARG": "[deg]",
    "NCOMP": "target and neighbours that are fitted together",
    "PIXSCAT": "scatter of data/sigma on empty sky",
    "CHI2EXP": "chi^2 per degree of freedom of a perfect fit",
}
_CALIBRATED = {
    "AR_KRON": "a(r) of the background, at the Kron radius",
    "ERRFACT": "multiply a fit's formal errors by this",
}
_FOR_GALFIT = {"EXPTIME": "OEXPTIME", "GAIN": "OGAIN", "NCOMBINE": "ONCOMBIN"}


def describe_field(meta: Mapping[str, HeaderValue], *, calibrated: bool) -> fits.Header:
    """Return the cards that describe the mosaic, those that galfit reads, and those that each stamp fills in.

    The mosaic's own values of what galfit reads are under other names.

    Parameters
    ----------
    meta : mapping of str to value
        Of the mosaic's header.
    calibrated : bool
        Whether there is an a(r), of which stamps tell more.

    Returns
    -------
    `~astropy.io.fits.Header`
    """
    header = fits.Header()
    comments = getattr(meta, "comments", {})
    for key in _KEPT:
        if key in meta:
            header[key] = (encode_text(meta[key]), comments[key] if comments else "")
    for key, kept in _FOR_GALFIT.items():
        header[key] = (1.0, f"galfit scales by it; {kept} is the mosaic's")
        if key in meta:
            header[kept] = (encode_text(meta[key]), f"{key} of the mosaic")
    header["BUNIT"] = MOSAIC_UNIT.to_string("fits")
    header["ZEROPNT"] = (MOSAIC_ZERO_POINT, "[mag(AB)] of one unit, with EXPTIME 1")
    header["NULLSIG"] = (NULL_SIGMA, "sigma of pixels without data")
    for key, comment in (_OF_STAMPS | _CALIBRATED if calibrated else _OF_STAMPS).items():
        header[key] = (None, comment)
    return header
