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
    (2, 'the source touches the edge of the image')
    """

    description: str

    def __new__(cls, value: int, description: str) -> SourceFlag:  # noqa: D102
        member = int.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member

    DEBLENDED = 1, "the source was deblended from another"
    TRUNCATED = 2, "the source touches the edge of the image"
    DEBLEND_OVERFLOW = 4, "deblending overflowed"
    SINGULAR = 8, "x and y are fully correlated: the source is a line or a point"
    APER_TRUNCATED = 16, "the aperture reaches over the edge of the image"
    APER_MASKED = 32, "pixels of the aperture are neighbours' or without data; others stand in for them"
    APER_ALL_MASKED = 64, "all pixels of the aperture are neighbours', which are kept, or without data"
    APER_NON_POSITIVE = 128, "the light in the Kron aperture is not positive: the smallest Kron radius is used"
    NOT_DEBLENDED = 256, "too complex to deblend: kept whole"
    KRON_CIRCLE = 512, "the Kron ellipse is small or unknown: a circle of kron_circle is used for flux_auto"
    NOT_MEASURED = 1024, "flux_auto is NaN: not covered, or no pixel with data in the Kron aperture or the sky annulus"
    NOT_COVERED = 2048, "no position, off the image, or no data in the largest aperture: all fluxes are NaN"
    NULL_WEIGHT = 4096, "pixels of the aperture are without data"
    NEIGHBOUR = 8192, "pixels of the aperture are in the segments of neighbours, which are masked"
    KRON_LIMITED = 16384, "the Kron radius was clipped to kron_min or kron_max"
    SATURATED_CORE = (
        32768,
        "looks saturated: no data at the centre, or in a hole beside its brightest pixel, but in light around it",
    )
    POINT_LIKE = 65536, "the half-light radius is that of a point source; judged where a PSF is given"
    NEIGHBOUR_LIGHT = (
        131072,
        "neighbours' light of more than 2 sigma of noise was taken off; only with neighbours subtract",
    )
    NOT_WINDOWED = (
        262144,
        "no windowed position was found, x and y are isophotal; only with positions windowed",
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
