"""The geometry of exposures: which positions they contain, where their edges run, how they are turned.

Every exposure is kept as three things that do the geometry for any number of positions at once: a 3 x 3 matrix from
ICRS unit vectors to undistorted pixel offsets (the gnomonic projection and the inverse CD matrix in one), the SIP
polynomials (Shupe et al. 2005, ASPC 347, 491), and the size. Unit vectors have no seam at RA 0 and no poles.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from astropy.coordinates import SkyCoord

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["ARCSEC", "Footprints", "as_vectors"]

Array = npt.NDArray[np.floating]
Index = npt.NDArray[np.int32]

ARCSEC = np.deg2rad(1 / 3600)
_PAIRS_AT_ONCE = 300_000  # candidates held at once, at about 300 bytes each
_INVERSIONS_AT_ONCE = 20_000  # pairs whose polynomials are held at once, at about 4 kB each
_NEWTON_STEPS = 20
_PIXEL_TOLERANCE = 1e-8  # last Newton step: 1e4 below the tolerance of `WCS.all_world2pix`, 1e4 above rounding
_MOST_SEGMENTS = 256  # a side of 4096 pixels in 16-pixel pieces


def as_vectors(coords: SkyCoord) -> Array:
    """Return positions as ICRS unit vectors.

    Parameters
    ----------
    coords : `~astropy.coordinates.SkyCoord`
        m positions, in any shape.

    Returns
    -------
    ndarray, shape (m, 3)
        The zero vector for those that are not finite.
    """
    return np.nan_to_num(coords.icrs.reshape(-1).represent_as("unitspherical").to_cartesian().xyz.value.T)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footprints:
    """The WCS and size of n exposures; indexing takes some of them.

    Offsets are in detector pixels from CRPIX, positions unit vectors, and pairs of an exposure and a position are k
    indices ``exposure`` and k vectors ``sky``, shape (k, 3).

    Attributes
    ----------
    gnomonic : ndarray, shape (n, 3, 3)
        ``gnomonic[e] @ unit_vector`` is proportional to (p, q, 1), with p and q the undistorted pixel offset from
        CRPIX on the tangent plane.
    sip : ndarray, shape (order + 1, order + 1, 2, n)
        ``sip[i, j, 0, e]`` is A_i_j and ``sip[i, j, 1, e]`` is B_i_j of exposure e; zero without distortion.
    crpix, naxis : ndarray, shape (2, n)
        Reference pixel (1-based) and size, x before y.
    """

    gnomonic: Array
    sip: Array
    crpix: Array
    naxis: Array

    def __len__(self) -> int:
        """Return the number of exposures."""
        return len(self.gnomonic)

    def __getitem__(self, rows: npt.NDArray[np.bool_ | np.integer]) -> Footprints:
        """Return those of some exposures, chosen by an array of indices or booleans."""
        parts = {field.name: getattr(self, field.name)[..., rows] for field in fields(self)[1:]}
        return Footprints(gnomonic=self.gnomonic[rows], **parts)

    @property
    def limits(self) -> Array:
        """Lowest and highest offset on the detector, to the outer edges of its pixels, shape (2, 2, n)."""
        low = 0.5 - self.crpix
        return np.stack([low, low + self.naxis])

    def find_pairs(self, sky: Array) -> csr_array:
        """Return which exposures contain which positions; see `ExposureLog.coverage`.

        A sphere index (k-d tree) finds the candidates. Of those only the ones near a detector's edge need the
        inverse of the SIP polynomials: the distortion moves no pixel by more than ``sum |A_i_j| |u|^i |v|^j`` over
        the detector, so deeper positions are in, and farther ones out.

        Parameters
        ----------
        sky : ndarray, shape (m, 3)
            Unit vectors; the zero vector is in no exposure.

        Returns
        -------
        scipy.sparse.csr_array of bool, shape (m, n)
            True where the position is in the exposure.
        """
        # 0.2 s to import, which an exposure map does without.
        from scipy.sparse import csr_array
        from scipy.spatial import cKDTree

        tree = cKDTree(sky)
        low, high = self.limits
        shift = _distortion(np.abs(self.sip), np.maximum(np.abs(low), np.abs(high)))
        limits = np.stack([low, high, shift])
        centres, chords = _bounding_caps(self.gnomonic, low - shift, high + shift)
        step = 1 + _PAIRS_AT_ONCE // (1 + len(sky))
        pairs = []
        for first in range(0, len(self), step):
            near = tree.query_ball_point(centres[first : first + step], chords[first : first + step])
            counts = [len(positions) for positions in near]
            position = np.fromiter(chain.from_iterable(near), np.int32, sum(counts))
            exposure = np.repeat(np.arange(first, first + len(near), dtype=np.int32), counts)
            inside = self._contain(exposure, sky[position], limits[..., exposure])
            pairs.append(np.stack([position, exposure])[:, inside])
        rows, columns = np.concatenate(pairs, axis=1)
        return csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(sky), len(self)))

    def _contain(self, exposure: Index, sky: Array, limits: Array) -> npt.NDArray[np.bool_]:
        """Return for each pair whether the exposure contains the position.

        `limits` (3, 2, k): lowest and highest pixel offset from CRPIX, and the bound of the distortion.
        """
        low, high, shift = limits
        plane = self._project(exposure, sky)
        inside = np.all((plane >= low + shift) & (plane < high - shift), axis=0)
        near = np.all((plane >= low - shift) & (plane <= high + shift), axis=0)
        edge = np.flatnonzero(near & ~inside)
        offset = _remove_distortion(self.sip[..., exposure[edge]], plane[:, edge])
        inside[edge] = np.all((offset >= low[:, edge]) & (offset < high[:, edge]), axis=0)
        return inside

    def _project(self, exposure: Index, sky: Array) -> Array:
        """Return the undistorted offset of each pair, shape (2, k)."""
        x, y, scale = np.einsum("kij,kj->ik", self.gnomonic[exposure], sky)
        return np.stack([x, y]) / scale

    def measure_pairs(self, exposure: Index, sky: Array) -> tuple[Array, Array]:
        """Return where the positions of k pairs lie on their detectors.

        Parameters
        ----------
        exposure : ndarray of int, shape (k,)
        sky : ndarray, shape (k, 3)
            Positions that the exposures contain.

        Returns
        -------
        distance : ndarray, shape (k,)
            From the nearest edge of the detector [arcsec]: to the tangent of the distorted edge at its point with
            the same pixel x or y, which the curvature of real edges moves by less than 1e-4 arcsec.
        angle : ndarray, shape (k,)
            Of the detector's y axis at the position, east of north [deg, 0 to 360].
        """
        distance, angle = np.empty(len(exposure)), np.empty(len(exposure))
        for first in range(0, len(exposure), _INVERSIONS_AT_ONCE):
            part = slice(first, first + _INVERSIONS_AT_ONCE)
            distance[part], angle[part] = self._measure(exposure[part], sky[part])
        return distance, angle

    def _measure(self, exposure: Index, sky: Array) -> tuple[Array, Array]:
        sip = self.sip[..., exposure]
        slopes = _slopes(sip)
        plane = self._project(exposure, sky)
        offset = _remove_distortion(sip, plane)
        axes = np.linalg.inv(self.gnomonic)[exposure][..., :2]  # d vector / d plane, in radians per pixel
        metric = np.einsum("kai,kaj->ijk", axes, axes)
        area = np.sqrt(metric[0, 0] * metric[1, 1] - metric[0, 1] ** 2)
        nearest = np.full(len(exposure), np.inf)
        for bound in self.limits[..., exposure]:
            for axis in (0, 1):
                foot = offset.copy()
                foot[axis] = bound[axis]
                x, y = plane - foot - _distortion(sip, foot)
                tangent = _distortion(slopes[1 - axis], foot)
                tangent[1 - axis] += 1
                length = np.sqrt(np.einsum("ik,ijk,jk->k", tangent, metric, tangent))
                np.fmin(nearest, np.abs(x * tangent[1] - y * tangent[0]) * area / length, out=nearest)
        along = _distortion(slopes[1], offset)
        along[1] += 1
        upward = np.einsum("kai,ik->ak", axes, along)
        x, y, z = sky.T
        # East and north at the position, both times cos(dec); what lies along the line of sight drops out.
        east = upward[1] * x - upward[0] * y
        north = upward[2] * (x**2 + y**2) - (upward[0] * x + upward[1] * y) * z
        return nearest / ARCSEC, np.rad2deg(np.arctan2(east, north)) % 360

    def find_pixels(self, exposure: Index, sky: Array) -> Array:
        """Return the pixels of k pairs.

        Parameters
        ----------
        exposure : ndarray of int, shape (k,)
        sky : ndarray, shape (k, 3)

        Returns
        -------
        ndarray, shape (2, k)
            (x, y), 0-based; NaN where the distortion cannot be inverted.
        """
        offset = _remove_distortion(self.sip[..., exposure], self._project(exposure, sky))
        return offset + self.crpix[:, exposure] - 1

    def find_sky(self, exposure: int, pixels: Array) -> Array:
        """Return where pixels of one exposure look at.

        Parameters
        ----------
        exposure : int
        pixels : ndarray, shape (2, k)
            (x, y), 0-based.

        Returns
        -------
        ndarray, shape (k, 3)
            Unit vectors.
        """
        one = self[np.array([exposure])]
        return one._pixels_to_sky(pixels[:, None] + 1 - one.crpix[..., None])[0]

    def pixel_scales(self) -> Array:
        """Return the sides of the pixels at CRPIX, the root of their area.

        Returns
        -------
        ndarray, shape (n,)
            In arcsec.
        """
        axes = np.linalg.inv(self.gnomonic)[..., :2]
        return np.sqrt(np.linalg.norm(np.cross(axes[..., 0], axes[..., 1]), axis=-1)) / ARCSEC

    def outline(self, tolerance: float = 0.005) -> Array:
        """Return polygons that follow the distorted outer edges of the detectors.

        Parameters
        ----------
        tolerance : float, optional
            Largest distance of an edge from its polygon, arcsec; what the polygon with twice as many corners shows.

        Returns
        -------
        ndarray, shape (n, k, 3)
            Unit vectors of the corners, k the same for all.
        """
        segments = 8
        while True:
            vectors = self._pixels_to_sky(_walk_around(self.limits[0], self.limits[1], segments))
            coarse, between = vectors[:, ::2], vectors[:, 1::2]
            sagitta = np.linalg.norm(between - (coarse + np.roll(coarse, -1, axis=1)) / 2, axis=-1)
            if np.nanmax(sagitta) <= tolerance * ARCSEC or segments >= _MOST_SEGMENTS:
                return coarse
            segments *= 2

    def archive_corners(self) -> Array:
        """Return the corners of the archive's footprints, which are the centres of the four corner pixels.

        Returns
        -------
        ndarray, shape (n, 4, 3)
            Unit vectors.
        """
        low = 1 - self.crpix  # pixel 0 (0-based) is pixel 1 for CRPIX
        return self._pixels_to_sky(_walk_around(low, low + self.naxis - 1, 1))

    def _pixels_to_sky(self, offset: Array) -> Array:
        """Return unit vectors (n, k, 3) of offsets (2, n, k) on the detectors."""
        return _plane_to_sky(self.gnomonic, offset + _distortion(self.sip[..., None], offset))


def _plane_to_sky(gnomonic: Array, plane: Array) -> Array:
    """Return unit vectors, shape (n, k, 3), of undistorted offsets from CRPIX, shape (2, n, k)."""
    homogeneous = np.stack([*plane, np.ones_like(plane[0])], axis=-1)
    vectors = homogeneous @ np.linalg.inv(gnomonic).swapaxes(1, 2)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _distortion(sip: Array, offset: Array) -> Array:
    """Evaluate the SIP polynomials A and B, or slopes; `sip` (i, j, 2, ...) against `offset` (2, ...) from CRPIX.

    By Horner's rule over the terms that a polynomial of two variables has, half of those of the square.
    """
    x, y = offset
    order = min(sip.shape[:2]) - 1
    total = np.zeros_like(offset)
    for j in range(order, -1, -1):
        inner = sip[order - j, j]
        for i in range(order - j - 1, -1, -1):
            inner = inner * x + sip[i, j]
        total = total * y + inner
    return total


def _slopes(sip: Array) -> tuple[Array, Array]:
    """Return the derivatives of SIP polynomials (i, j, 2, ...) along x and y."""
    if len(sip) == 1:
        return np.zeros_like(sip), np.zeros_like(sip)
    power = np.arange(1, len(sip)).reshape(-1, *[1] * (sip.ndim - 2))
    return sip[1:] * power[:, None], sip[:, 1:] * power


def _walk_around(low: Array, high: Array, segments: int) -> Array:
    """Return points around rectangles, `segments` on each side from corner to corner; (2, n) to (2, n, 4 segments)."""
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]).T
    unit = np.stack([np.interp(np.arange(4 * segments) / segments, np.arange(5), axis) for axis in corners])
    return low[..., None] + unit[:, None] * (high - low)[..., None]


def _bounding_caps(gnomonic: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return centre (n, 3) and chord (n,) of a cap around the undistorted rectangle from `low` to `high` (2, n).

    Great circles are straight in the tangent plane, and a cap is convex, so one that holds the corners holds all.
    """
    centre = _plane_to_sky(gnomonic, (low + high)[..., None] / 2)
    chords = np.linalg.norm(_plane_to_sky(gnomonic, _walk_around(low, high, 1)) - centre, axis=-1).max(axis=-1)
    return centre[:, 0], chords * (1 + 1e-9) + 1e-15  # rounding, in units of the sphere's radius


def _remove_distortion(sip: Array, plane: Array) -> Array:
    """Solve ``offset + distortion(offset) = plane`` by Newton's method; NaN where it does not converge."""
    along_x, along_y = _slopes(sip)
    offset = plane.copy()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what runs away ends as not converged
        for _ in range(_NEWTON_STEPS):
            x, y = offset + _distortion(sip, offset) - plane
            (a_x, b_x), (a_y, b_y) = _distortion(along_x, offset), _distortion(along_y, offset)
            determinant = (1 + a_x) * (1 + b_y) - a_y * b_x
            step = np.stack([(1 + b_y) * x - a_y * y, (1 + a_x) * y - b_x * x]) / determinant
            offset -= step
            converged = np.all(np.abs(step) <= _PIXEL_TOLERANCE, axis=0)
            if converged.all():
                break
    return np.where(converged, offset, np.nan)
