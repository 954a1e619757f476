"""The flags of sources: their bits, defined once with what they mean."""

from __future__ import annotations

import enum

__all__ = ["SourceFlag", "decode_flags"]


class SourceFlag(enum.IntFlag):
    """Bits of ``flag`` and ``flag_aper_i``; the low 8 are those of sep, with its meaning.

    Attributes
    ----------
    description : str
        What the bit of a member means.

    Examples
    --------
    >>> SourceFlag.TRUNCATED.value, SourceFlag.TRUNCATED.description
    (2, 'touches the edge of the image')
    """

    description: str

    def __new__(cls, value: int, description: str) -> SourceFlag:  # noqa: D102
        member = int.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member

    DEBLENDED = 1, "deblended from another source"
    TRUNCATED = 2, "touches the edge of the image"
    DEBLEND_OVERFLOW = 4, "deblending overflowed"
    SINGULAR = 8, "shape is singular (x and y fully correlated): a line or a point"
    APER_TRUNCATED = 16, "aperture extends over the edge of the image"
    APER_MASKED = 32, "aperture pixels belong to neighbours or have no data, and were replaced"
    APER_ALL_MASKED = 64, "all aperture pixels belong to neighbours (kept) or have no data"
    APER_NON_POSITIVE = 128, "flux in the Kron aperture is not positive: the minimum Kron radius is used"
    NOT_DEBLENDED = 256, "too complex to deblend: kept as one source"
    KRON_CIRCLE = 512, "Kron ellipse small or unknown: flux_auto uses a circle of radius kron_circle"
    NOT_MEASURED = 1024, "flux_auto is NaN: not covered, or no data in the Kron aperture or the sky annulus"
    NOT_COVERED = 2048, "no position, off the image, or no data in the largest aperture: all fluxes are NaN"
    NULL_WEIGHT = 4096, "aperture includes pixels without data"
    NEIGHBOUR = 8192, "aperture includes pixels in neighbours' segments, which are masked"
    KRON_LIMITED = 16384, "Kron radius clipped to kron_min or kron_max"
    SATURATED_CORE = (
        32768,
        "probably saturated: no data at the centre or next to the brightest pixel, but bright data around",
    )
    POINT_LIKE = 65536, "half-light radius of a point source; set only if a PSF is given"
    NEIGHBOUR_LIGHT = (
        131072,
        "neighbours' light above 2 sigma of the noise was subtracted; only with neighbours subtract",
    )
    NOT_WINDOWED = (
        262144,
        "no windowed position found: x and y are isophotal; only with positions windowed",
    )


def decode_flags(value: int) -> list[str]:
    """Return the names of the bits that are set.

    Parameters
    ----------
    value : int
        Of the column ``flag`` or ``flag_aper_i``.

    Returns
    -------
    list of str
        Names of `SourceFlag`, lowest bit first; bits without a name are left out.

    Examples
    --------
    >>> decode_flags(257)
    ['DEBLENDED', 'NOT_DEBLENDED']
    """
    return [flag.name or "" for flag in SourceFlag if flag & int(value)]
