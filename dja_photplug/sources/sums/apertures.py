"""What is measured around positions with the primitives of an engine: fluxes, Kron and half-light radii, and flags.

An engine sums over apertures and finds Kron and half-light radii; which apertures, and what becomes of the sums, is
the same for all. All sums use exact overlap; positions lie on the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.light.planes import Flags, Floats, Shapes, sum_overlap
from dja_photplug.mosaic.blocks import Plane
from dja_photplug.neighbours.models import Neighbours
from dja_photplug.neighbours.own_light import Ellipse, Ellipses, sum_opposite, sum_own_light
from dja_photplug.options.stages import MeasureOptions
from dja_photplug.sources.sums.planes import Pixels, Sums

__all__ = [
    "GROWTH",
    "KRON_EXTENT",
    "Columns",
    "Engine",
    "Photometer",
    "exact_overlap",
    "find_reach",
    "sum_circles",
    "sum_segments",
]

# Radius of the ellipse that the Kron radius is measured in, in units of a and b (Source Extractor's value).
KRON_EXTENT = 6.0

# Ellipses beside the Kron aperture, in units of it, that tell the curve of growth.
GROWTH = (0.25, 0.4, 0.6, 0.8, 1.5)

# Overlap with a pixel that counts, in pixels: sums of exact overlaps are good to 1e-14 of the area, measured.
LEAST_OVERLAP = 1e-9

# Pixels of an aperture that say nothing of its source.
TAKEN = SourceFlag.NEIGHBOUR | SourceFlag.NULL_WEIGHT

Columns = dict[str, NDArray]
"""Plain columns by name, (n,), of floats or of flags."""


SumEllipses = Callable[[Pixels, Shapes, Floats, Floats, Floats], Sums]

_exact: set[SumEllipses] = set()


def exact_overlap(add: SumEllipses) -> SumEllipses:
    """Mark a primitive of an engine as one that sums with the exact overlap of pixels and ellipses.

    Parameters
    ----------
    add : callable
        The ``sum_ellipses`` of an `Engine`.

    Returns
    -------
    callable
        The same.
    """
    _exact.add(add)
    return add


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What each engine does in its own way; positions and lengths in pixels.

    Attributes
    ----------
    sum_ellipses : callable
        ``(pixels, shapes, a, b, theta) -> Sums`` over ellipses around the sources. Null pixels and those of
        neighbours take the mean of the others, in whose place others are put later; the flux is NaN where there are no
        others. Where it is marked by :func:`exact_overlap`, circles with neither are summed in another way.
    kron_radius : callable
        ``(pixels, shapes) -> (radius, flag)``: the first moment of the light within `KRON_EXTENT`.
    half_light : callable
        ``(pixels, shapes, flux, limit) -> radius`` that holds half of `flux`; anything where `limit` does not.
    average_annuli : callable
        ``(pixels, shapes, masked, inner, outer) -> (mean, error)`` of the pixels that are not masked; NaN without one.
    """

    sum_ellipses: SumEllipses
    kron_radius: Callable[[Pixels, Shapes], tuple[Floats, Flags]]
    half_light: Callable[[Pixels, Shapes, Floats, Floats], Floats]
    average_annuli: Callable[[Pixels, Shapes, NDArray[np.bool_], float, float], tuple[Floats, Floats]]

    @property
    def exact(self) -> bool:
        """Whether it sums with exact overlap."""
        return self.sum_ellipses in _exact


def _flag_taken(pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats) -> Flags:
    """Return whether ellipses overlap with null pixels, and with the segments of neighbours that are masked."""

    def add(plane: Plane, **settings: Plane) -> Floats:
        return sum_overlap(plane, shapes, a, b, theta, **settings)[0]

    flag = np.where(add(pixels.null.view(np.uint8)) > LEAST_OVERLAP, SourceFlag.NULL_WEIGHT.value, 0)
    if pixels.segmentation is not None:
        # Without a mask sep zeroes neighbours: what is missing of the sum over the labels themselves is theirs.
        own = add(pixels.segmentation, segmap=pixels.segmentation, seg_id=shapes.label)
        flag |= np.where(add(pixels.segmentation) - own > LEAST_OVERLAP, SourceFlag.NEIGHBOUR.value, 0)
    return flag


def _fill_taken(pixels: Pixels, shapes: Shapes, flux: Floats, a: Floats, b: Floats, theta: Floats) -> Floats:
    """Return sums in which pixels that say nothing of a source hold what it has there, not the mean of the aperture.

    Those are pixels without data and those of neighbours, and it is what lies opposite, or at the same distance from
    the source. Where neighbours are subtracted it is 0 in theirs, and in all for a source that has a profile: that is
    put there.
    """
    ones, data = np.broadcast_to(np.uint8(1), pixels.data.shape).copy(), (~pixels.null).view(np.uint8)
    # Without a mask sep zeroes neighbours.
    segments = {} if pixels.segmentation is None else {"segmap": pixels.segmentation, "seg_id": shapes.label}
    clear = sum_overlap(data, shapes, a, b, theta, **segments)[0]
    flux = flux * clear / np.maximum(sum_overlap(ones, shapes, a, b, theta)[0], LEAST_OVERLAP)
    planes = pixels.data, pixels.null, pixels.segmentation
    if pixels.neighbours is None:
        return flux + sum_opposite(*planes, shapes, (a, b, theta))
    bare = np.flatnonzero(~np.isin(shapes.label, pixels.neighbours.profiles.owners.label))
    if pixels.null.any() and len(bare):
        flux[bare] += sum_opposite(*planes, shapes[bare], (a[bare], b[bare], theta[bare]), segments=False)
    return flux


def _sum_ellipses(engine: Engine, pixels: Pixels, shapes: Shapes, a: Floats, b: Floats, theta: Floats) -> Sums:
    """Sum over ellipses around the sources, with the neighbours where there is nothing else."""
    sums = engine.sum_ellipses(pixels, shapes, a, b, theta)
    masked = (sums.flag & SourceFlag.APER_MASKED) > 0
    if masked.any():
        sums.flag[masked] |= _flag_taken(pixels, shapes[masked], a[masked], b[masked], theta[masked])
        near = masked & ((sums.flag & TAKEN) > 0) & np.isfinite(sums.flux)
        if near.any() and not pixels.mean:
            sums.flux[near] = _fill_taken(pixels, shapes[near], sums.flux[near], a[near], b[near], theta[near])
    empty = ~np.isfinite(sums.flux)
    sums.flag[empty] |= SourceFlag.APER_ALL_MASKED
    if pixels.segmentation is not None and empty.any() and not pixels.mean:
        # A barycentre can lie inside a neighbour, as of an arc: then that light is all there is to sum.
        alone = replace(pixels, segmentation=None)
        kept = _sum_ellipses(engine, alone, shapes[empty], a[empty], b[empty], theta[empty])
        for name in ("flux", "total", "background"):
            getattr(sums, name)[empty] = getattr(kept, name)
        sums.flag[empty] |= kept.flag
    return sums


def sum_circles(engine: Engine, pixels: Pixels, shapes: Shapes, radius: float) -> Sums:
    """Sum over circles of one radius around the sources.

    Parameters
    ----------
    engine : Engine
    pixels : Pixels
    shapes : Shapes
        Of n sources, whose positions are taken.
    radius : float
        In pixels.

    Returns
    -------
    Sums
        (n,).
    """
    return _sum_ellipses(engine, pixels, shapes, *shapes.circles(radius))


def _restore_own(
    pixels: Pixels, neighbours: Neighbours, shapes: Shapes, sums: dict[str, Sums], apertures: Ellipses
) -> tuple[dict[str, Sums], Columns]:
    """Return sums with the sources' own wings put back, also in the pixels of neighbours and in those without data.

    The columns ``removed_{name} filled_{name}`` are the light of neighbours that was taken off, and the wings that
    stand in those pixels.
    """
    assert pixels.segmentation is not None
    own = sum_own_light(neighbours, pixels.segmentation, pixels.null, shapes, apertures)
    light = np.where(pixels.null, np.float32(0), neighbours.wings) if pixels.null.any() else neighbours.wings
    restored, columns = dict(sums), Columns()
    for name, where in apertures.items():
        # Without a mask sep zeroes neighbours.
        wings, _, _ = sum_overlap(light, shapes, *where, segmap=pixels.segmentation, seg_id=shapes.label)
        restored[name] = replace(sums[name], flux=sums[name].flux + own[name].sky + own[name].taken)
        columns |= {f"removed_{name}": wings - own[name].sky, f"filled_{name}": own[name].taken}
    return restored, columns


def _mask_fraction(null: NDArray[np.bool_], shapes: Shapes, ellipse: Ellipse, radius: float) -> Floats:
    """Return the area fraction, without data or off the image, of the larger of the ellipse and the circle."""
    larger = ellipse[0] * ellipse[1] > radius**2
    a, b, theta = (np.where(larger, *pair) for pair in zip(ellipse, (radius, radius, 0.0), strict=True))
    ny, nx = null.shape
    inside = (np.abs(shapes.x - (nx - 1) / 2) + a < nx / 2) & (np.abs(shapes.y - (ny - 1) / 2) + a < ny / 2)
    some, fraction = ~inside if not null.any() else np.ones_like(inside), np.zeros(len(inside))
    clear, _, _ = sum_overlap((~null).view(np.uint8), shapes[some], a[some], b[some], theta[some])
    fraction[some] = 1 - clear / (np.pi * a[some] * b[some])
    return np.where(np.abs(fraction) < LEAST_OVERLAP, 0.0, fraction)


def find_reach(shapes: Shapes, scale: float, options: MeasureOptions, *, growth: bool) -> Floats:
    """Return how far around its position anything is measured of a source.

    Parameters
    ----------
    shapes : Shapes
        Of n sources.
    scale : float
        Of the pixels, arcsec.
    options : MeasureOptions
    growth : bool
        Whether the ellipses of `GROWTH` are summed over too.

    Returns
    -------
    ndarray
        In pixels, (n,).
    """
    # Margins: 2 pixels for the interpolation of sep's growth curve, 1 for the pixels at the rim.
    kron = options.kron_max if shapes.kron is None else np.nan_to_num(shapes.kron)
    beyond = max(1, *GROWTH) if growth else 1
    extent = np.maximum(KRON_EXTENT, beyond * kron) * np.nan_to_num(shapes.a)
    return np.maximum(extent, max(beyond * options.kron_circle, *options.apertures) / scale) + 3


def _cut_out(pixels: Pixels, shapes: Shapes, reach: Floats) -> Iterator[tuple[Pixels, Shapes]]:
    """Yield each source on its own pixels, as far as `reach`."""
    ny, nx = pixels.data.shape
    for i in range(len(shapes.x)):
        x0, y0 = (max(int(v[i] - reach[i]), 0) for v in (shapes.x, shapes.y))
        x1, y1 = (min(int(v[i] + reach[i]), n - 1) for v, n in ((shapes.x, nx), (shapes.y, ny)))
        one = shapes[i : i + 1]
        yield pixels[y0 : y1 + 1, x0 : x1 + 1], replace(one, x=one.x - x0, y=one.y - y0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photometer:
    """What measures around positions on an image: an engine, the planes that it sums over, and which apertures.

    Attributes
    ----------
    engine : Engine
    pixels : Pixels
    scale : float
        Of the pixels, arcsec.
    options : MeasureOptions
        Circular apertures, Kron aperture and annulus.
    growth : bool
        Whether the ellipses of `GROWTH` are summed over too.
    """

    engine: Engine
    pixels: Pixels
    scale: float
    options: MeasureOptions
    growth: bool = False

    @property
    def radii(self) -> list[float]:
        """Of the circular apertures, in pixels."""
        return [diameter / 2 / self.scale for diameter in self.options.apertures]

    def kron_apertures(self, shapes: Shapes, kron: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
        """Return the Kron apertures of sources, in pixels, as `dja_photplug.catalog.kron.kron_apertures`.

        Parameters
        ----------
        shapes : Shapes
            Of n sources.
        kron : ndarray
            Scaled and clipped Kron radius, (n,).

        Returns
        -------
        a, b, theta : ndarray
        circle : ndarray of bool
        """
        return kron_apertures(shapes.a, shapes.b, shapes.theta, kron, self.options.kron_circle / self.scale)

    def average_annuli(self, shapes: Shapes, masked: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return the mean of the clear pixels in the annulus around each source.

        Parameters
        ----------
        shapes : Shapes
            Of n sources.
        masked : ndarray of bool
            (ny, nx), pixels that are not sky.

        Returns
        -------
        mean, error : ndarray
            (n,), in the unit of the image; NaN where there is no such pixel.
        """
        inner, outer = (radius / self.scale for radius in self.options.annulus)
        return self.engine.average_annuli(self.pixels, shapes, masked | self.pixels.null, inner, outer)

    def measure(self, shapes: Shapes) -> tuple[Columns, dict[str, Sums]]:
        """Return what is measured around positions on the image.

        Parameters
        ----------
        shapes : Shapes
            Of n sources on the image.

        Returns
        -------
        columns : dict of str to ndarray
            (n,): ``kron_radius flux_radius flag mask_frac``, lengths in pixels. Where neighbours are subtracted
            ``removed_{kind} filled_{kind}`` for each sum as well, in the unit of the image: light of neighbours that
            was taken off, and own light that stands in their pixels.
        sums : dict of str to Sums
            Over the Kron aperture, ``auto``, circles, ``aper_i``, and the ellipses of the curve of growth, ``grow_i``.
        """
        pixels, alone, light = self.pixels, self.pixels.alone, Columns()
        kron, flag = self._kron_radius(alone, shapes)
        a, b, theta, circle = self.kron_apertures(shapes, kron)
        apertures = {"auto": (a, b, theta)}
        apertures |= {f"aper_{i}": shapes.circles(radius) for i, radius in enumerate(self.radii)}
        apertures |= {f"grow_{i}": (a * part, b * part, theta) for i, part in enumerate(GROWTH if self.growth else ())}
        sums = {name: _sum_ellipses(self.engine, pixels, shapes, *where) for name, where in apertures.items()}
        if pixels.neighbours is not None:
            sums, light = _restore_own(pixels, pixels.neighbours, shapes, sums, apertures)
        columns = light | {
            "kron_radius": kron,
            "flux_radius": self._half_light(alone, shapes, sums["auto"].flux, a),
            "flag": flag | sums["auto"].flag | np.where(circle, SourceFlag.KRON_CIRCLE.value, 0),
            "mask_frac": _mask_fraction(pixels.null, shapes, (a, b, theta), max(self.radii)),
        }
        return columns, sums

    def measure_with_sky(self, shapes: Shapes, sky: Floats) -> tuple[Columns, dict[str, Sums]]:
        """Return what is measured around positions on the image, with the sky of each taken off.

        Each is measured on a cut-out, because Kron and half-light radius depend on the sky.

        Parameters
        ----------
        shapes : Shapes
            Of n sources on the image, at least one.
        sky : ndarray
            (n,), of a pixel in the unit of the image.

        Returns
        -------
        columns : dict of str to ndarray
        sums : dict of str to Sums
            As of :meth:`measure`.
        """
        reach = find_reach(shapes, self.scale, self.options, growth=self.growth)
        parts = [
            replace(self, pixels=replace(cut, data=cut.data - np.float32(level))).measure(one)
            for (cut, one), level in zip(_cut_out(self.pixels, shapes, reach), sky, strict=True)
        ]
        columns, sums = parts[0]
        joined = {name: np.concatenate([part[name] for part, _ in parts]) for name in columns}
        return joined, {kind: _join_sums([part[kind] for _, part in parts]) for kind in sums}

    def _kron_radius(self, alone: Pixels, shapes: Shapes) -> tuple[Floats, Flags]:
        """Return the scaled and clipped Kron radius, given or measured, NaN without a shape or a pixel; its flags."""
        options, radius, flag = self.options, np.full(len(shapes.x), np.nan), np.zeros(len(shapes.x), dtype=np.int64)
        if shapes.kron is not None:
            radius = shapes.kron
        else:
            known = np.isfinite(shapes.a)
            kron, flags = self.engine.kron_radius(alone, shapes[known])
            scaled = np.clip(options.kron_factor * kron, options.kron_min, options.kron_max)
            radius[known] = np.where(flags & SourceFlag.APER_ALL_MASKED, np.nan, scaled)
            flag[known] = flags
        limited = (radius <= options.kron_min) | (radius >= options.kron_max)
        return radius, flag | np.where(limited, SourceFlag.KRON_LIMITED.value, 0)

    def _half_light(self, alone: Pixels, shapes: Shapes, flux: Floats, kron: Floats) -> Floats:
        """Return the radius in pixels that holds half of the flux, given the semi-major axes of the Kron apertures.

        It is NaN where neither these nor `KRON_EXTENT` reach as far.
        """
        limit = np.fmax(KRON_EXTENT * shapes.a, kron)
        radius = self.engine.half_light(alone, shapes, flux, limit)
        return np.where((flux > 0) & (radius < limit), radius, np.nan)


def _join_sums(parts: list[Sums]) -> Sums:
    return Sums(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Sums.__slots__})


def sum_segments(
    pixels: Pixels, segmentation: NDArray[np.int32], label: NDArray[np.int32]
) -> tuple[Sums, Floats | None]:
    """Sum over the pixels with data in the segment of each label.

    Parameters
    ----------
    pixels : Pixels
    segmentation : ndarray
        (ny, nx), labels.
    label : ndarray
        (n,), those that are summed.

    Returns
    -------
    sums : Sums
        (n,); NaN without a pixel with data, where the area is 0.
    removed : ndarray or None
        Light of neighbours that was taken off them, in the unit of the image, (n,); None where none is.
    """
    members = np.flatnonzero(segmentation != 0)  # of bools it takes a third of the time
    members = members[~pixels.null.ravel()[members]]
    owner, size = segmentation.ravel()[members], label.max(initial=0) + 1

    def add(plane: NDArray[np.float32] | None) -> Floats:
        values = None if plane is None else plane.ravel()[members]
        return np.bincount(owner, weights=values, minlength=size)[label].astype(np.float64)

    area = add(None)
    flux, total, background = (
        np.where(area > 0, add(plane), np.nan) for plane in (pixels.data, pixels.variance, pixels.background)
    )
    flag = np.zeros(len(label), dtype=np.int64)
    sums = Sums(flux=flux, total=total, background=background, area=area, flag=flag)
    return sums, None if pixels.neighbours is None else add(pixels.neighbours.wings)
