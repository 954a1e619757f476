"""The Kron aperture of a source, and the circle that stands in for one that is small or unknown."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable
from numpy.typing import NDArray

__all__ = ["kron_apertures", "kron_circle_radius"]

Floats = NDArray[np.float64]


def kron_apertures(
    a: Floats, b: Floats, theta: Floats, kron_radius: Floats, least: float
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Return the apertures that light is summed in: Kron ellipses, and circles for those that are small or unknown.

    Parameters
    ----------
    a, b : ndarray
        Rms of the light along both axes, (n,), in any unit of length.
    theta : ndarray
        Angle of the major axis, (n,), in any unit of angle.
    kron_radius : ndarray
        Scaled and clipped Kron radius in units of a and b, (n,); NaN where not known.
    least : float
        Radius of the circle that replaces every ellipse of a smaller area, in the unit of `a` and `b`.

    Returns
    -------
    major, minor : ndarray
        Semi-axes, (n,), in the unit of `a` and `b`.
    theta : ndarray
        Angle of the major axis, (n,); 0 for circles.
    circle : ndarray of bool
        Which are circles, (n,): also those without Kron radius or shape.

    Examples
    --------
    >>> a, b, theta, kron = np.array([[0.2, 0.1, 0.2], [0.1, 0.1, 0.1], [30, 40, 50], [3.0, 3.0, np.nan]])
    >>> major, minor, angle, circle = kron_apertures(a, b, theta, kron, 0.35)
    >>> major.round(2), minor.round(2), angle, circle
    (array([0.6 , 0.35, 0.35]), array([0.3 , 0.35, 0.35]), array([30.,  0.,  0.]), array([False,  True,  True]))
    """
    circle = ~(_mean_radius(a, b, kron_radius) >= least)  # True where it is NaN
    major, minor = (np.where(circle, least, kron_radius * axis) for axis in (a, b))
    return major, minor, np.where(circle, 0.0, theta), circle


def kron_circle_radius(table: QTable, least: float) -> Floats:
    """Return the radius of the circle with the area of each aperture of :func:`kron_apertures`.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        With the columns ``a b kron_radius`` of the catalogue, (n,).
    least : float
        Radius of the circle that replaces smaller ellipses, arcsec.

    Returns
    -------
    ndarray
        (n,), arcsec; `least` where the Kron radius is unknown.
    """
    a, b = (table[axis].to_value(u.arcsec) for axis in "ab")
    return np.fmax(_mean_radius(a, b, table["kron_radius"]), least)


def _mean_radius(a: Floats, b: Floats, kron_radius: Floats) -> Floats:
    """Return the radius of the circle with the area of each Kron ellipse, NaN where unknown."""
    return kron_radius * np.sqrt(a * b)
