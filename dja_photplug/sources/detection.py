"""Background and sources of one image with sep (Source Extractor as a library).

sep keeps global state and is not thread-safe: call these functions from one thread, and use processes for several
images at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from astropy import units as u
from astropy.nddata import InverseVariance, NDData
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from dja_photplug.catalog.schema import COLUMNS, SourceFlag, dress_table
from dja_photplug.errors import PhotplugError
from dja_photplug.options.stages import BackgroundOptions, DetectOptions, Options
from dja_photplug.sky.grid import pixel_scale

__all__ = [
    "Background",
    "Detection",
    "detect_sep",
    "gaussian_kernel",
    "mesh_background",
    "mesh_cells",
    "native_pixels",
    "null_pixels",
    "place_sources",
    "sample_labels",
    "subtract_level",
    "variance_map",
]

# sep's own stand-in for infinity; float32 holds it, and its root and products with weights stay finite.
NULL_VARIANCE = np.float32(1e30)

# An object with more sub-objects at one level is kept whole: deblending 12,600 of them took 13 s, 3,300 took 1 s.
MOST_SUB_OBJECTS = 4096

DETECTION_COLUMNS = tuple(
    spec for spec in COLUMNS if spec.name in {"id", "ra", "dec", "x", "y", "a", "b", "theta", "npix", "flag"}
)


# What an engine says of each source.
FOUND = ("x", "y", "a", "b", "theta", "npix", "flag")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Background:
    """Sky level of an image.

    Attributes
    ----------
    level : ndarray
        (ny, nx) float32, in the unit of the image.
    """

    level: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """Sources of one image.

    Attributes
    ----------
    sources : `~astropy.table.QTable`
        Columns ``id ra dec x y a b theta npix flag`` of the catalogue; ``id`` is 1 to N. With the column
        ``kron_radius`` as well, scaled and clipped already, the photometry takes that, as for many bands the ellipses
        of one detection image; where it is NaN the smallest circle is the Kron aperture.
    segmentation : ndarray
        (ny, nx) int32: the ``id`` of the source that a pixel belongs to, 0 for none.
    wcs : `~astropy.wcs.WCS`
        Of the image they were found on.
    """

    sources: QTable
    segmentation: NDArray[np.int32]
    wcs: WCS


def native_pixels(array: ArrayLike) -> NDArray[np.float32]:
    """Return the pixels as sep takes them, native C-contiguous float32; without a copy where they are already."""
    return np.ascontiguousarray(array, dtype=np.float32)


def _weight(image: NDData, kind: str) -> NDArray[np.float32]:
    background = getattr(image, "background_weight", None)
    if kind == "background" and background is not None:
        return native_pixels(background)
    if image.uncertainty is None:
        raise PhotplugError("the image has no uncertainty; load it with its weight, or set an InverseVariance")
    if isinstance(image.uncertainty, InverseVariance):
        return native_pixels(image.uncertainty.array)
    with np.errstate(divide="ignore"):  # an error of 0 becomes infinite weight, which counts as null
        return native_pixels(image.uncertainty.represent_as(InverseVariance).array)


def null_pixels(image: NDData) -> NDArray[np.bool_]:
    """Return the pixels (ny, nx) that hold no data: masked, without positive finite weight, or not finite."""
    weight = _weight(image, "full")
    null = ~(weight > 0)
    null |= ~np.isfinite(weight)
    null |= ~np.isfinite(image.data)
    if image.mask is not None:
        null |= image.mask
    return null


def variance_map(image: NDData, kind: str = "full") -> NDArray[np.float32]:
    """Return the variance of each pixel, in the squared unit of the image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        Its uncertainty is the full weight; without the attribute ``background_weight`` all variance is background.
    kind : {'full', 'background'}, optional
        With or without the Poisson noise of the sources.

    Returns
    -------
    ndarray
        (ny, nx) float32; 1e30 where the weight is null, never 0, infinite or NaN.
    """
    weight = _weight(image, kind)
    variance = np.full(weight.shape, NULL_VARIANCE)
    # The reciprocal of a smaller weight is above NULL_VARIANCE; the comparison also drops NaN.
    usable = (weight > 1 / NULL_VARIANCE) & np.isfinite(weight)
    return np.divide(np.float32(1), weight, out=variance, where=usable)


def mesh_cells(
    image: NDData, options: BackgroundOptions, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return the pixels (ny, nx) that a mesh background leaves out, and height and width of its cells in pixels.

    Parameters and errors are those of :func:`mesh_background`.
    """
    null = null_pixels(image)
    if mask is not None:
        null |= mask
    if null.all():
        raise PhotplugError(
            "no pixel of the image is left for its background: all weights are null or masked; use "
            "another image or cut-out"
        )
    cell = max(1, round(options.mesh / pixel_scale(image.wcs)))
    height, width = (min(cell, n) for n in null.shape)
    return null, (height, width)


def mesh_background(image: NDData, options: BackgroundOptions, mask: NDArray[np.bool_] | None = None) -> Background:
    """Return the sky level from sigma-clipped modes in a mesh, median-filtered and splined (Source Extractor).

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
    options : BackgroundOptions
    mask : ndarray of bool, optional
        (ny, nx), True for pixels to leave out beside the null ones, such as sources.

    Raises
    ------
    PhotplugError
        Where no pixel is left.
    """
    null, (height, width) = mesh_cells(image, options, mask)
    size = options.mesh_filter
    mesh = sep.Background(native_pixels(image.data), mask=null, bw=width, bh=height, fw=size, fh=size)
    return Background(level=mesh.back(dtype=np.float32))


def gaussian_kernel(fwhm: float) -> NDArray[np.float32] | None:
    """Return a 7x7 Gaussian integrated over its pixels, of unit sum; None for a width of 0.

    At 3 pixels it is Source Extractor's ``gauss_3.0_7x7.conv`` to 0.4 % of its peak.
    """
    if fwhm == 0:
        return None
    edges = erf(np.arange(-3.5, 4) / (np.sqrt(2) * fwhm / (2 * np.sqrt(2 * np.log(2)))))
    profile = np.diff(edges) / (edges[-1] - edges[0])
    return np.outer(profile, profile).astype(np.float32)


def subtract_level(image: NDData, background: Background) -> NDArray[np.float32]:
    """Return the pixels (ny, nx) that sources are found on, less the sky.

    Raises
    ------
    PhotplugError
        Where the image has no WCS.
    """
    if image.wcs is None:
        raise PhotplugError("the image has no WCS, and its sources no positions; load a DJA mosaic or set image.wcs")
    return native_pixels(image.data) - background.level


def place_sources(
    found: Mapping[str, NDArray[Any]],
    segmentation: NDArray[np.int32],
    wcs: WCS,
    ids: NDArray[np.integer] | None = None,
) -> Detection:
    """Return what an engine found as a Detection, with sky positions.

    Parameters
    ----------
    found : mapping of str to ndarray
        ``x y a b`` in pixels, ``theta`` in radians, ``npix`` and ``flag``, in the order of the labels.
    segmentation : ndarray
    wcs : `~astropy.wcs.WCS`
    ids : ndarray of int, optional
        The labels; 1 to N by default.
    """
    ra, dec = wcs.pixel_to_world_values(found["x"], found["y"])
    scale = pixel_scale(wcs)
    columns = {
        "id": np.arange(1, len(found["x"]) + 1) if ids is None else ids,
        "ra": ra,
        "dec": dec,
        **{axis: found[axis] * scale for axis in "ab"},
        "theta": found["theta"] * u.rad,
        **{name: found[name] for name in ("x", "y", "npix", "flag")},
    }
    return Detection(sources=dress_table(columns, DETECTION_COLUMNS), segmentation=segmentation, wcs=wcs)


def sample_labels(segmentation: NDArray[np.int32], sources: QTable) -> NDArray[np.int64]:
    """Return the label (n,) of the pixel that each source lies on, 0 for sky, -1 off the image."""
    labels = np.full(len(sources), -1, dtype=np.int64)
    y, x = (np.rint(np.nan_to_num(sources[axis].value, nan=-1)) for axis in "yx")
    inside = (y >= 0) & (y < segmentation.shape[0]) & (x >= 0) & (x < segmentation.shape[1])
    labels[inside] = segmentation[y[inside].astype(int), x[inside].astype(int)]
    return labels


@contextmanager
def _sep_limits() -> Iterator[None]:
    """Put sep's global limits back at the end."""
    stack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    try:
        yield
    finally:
        sep.set_extract_pixstack(stack)
        sep.set_sub_object_limit(sub_objects)


Extraction = tuple[NDArray[Any], NDArray[np.int32]]


def _try_extract(data: NDArray[np.float32], settings: dict[str, Any]) -> Extraction | None:
    """Extract with limits raised as needed; None where an object is too complex even so."""
    while True:
        try:
            return sep.extract(data, segmentation_map=True, **settings)
        except Exception as error:  # sep raises nothing more specific
            stack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
            if "active object pixels" in str(error) and stack <= data.size:
                # One more than all pixels can never be full.
                sep.set_extract_pixstack(min(4 * stack, data.size + 2))
            elif "limit of sub-objects" in str(error):
                if sub_objects >= MOST_SUB_OBJECTS:
                    return None
                sep.set_sub_object_limit(min(4 * sub_objects, MOST_SUB_OBJECTS))
            else:
                raise PhotplugError(f"sep cannot extract sources ({error}); check the detection options") from error


def _without(
    data: NDArray[np.float32], settings: dict[str, Any], pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return data and settings with which `pixels` are not detected.

    A mask would zero their light, and with it that in the convolution of their neighbours. So their variance is
    raised; but a matched filter then judges them by the pixels around them, and only a hole in the data stops it,
    which takes 3 pixels at the rim of a neighbour that close.
    """
    if settings["filter_type"] == "matched":
        return np.where(pixels, -(NULL_VARIANCE**0.5), data), settings
    return data, {**settings, "var": np.where(pixels, NULL_VARIANCE, settings["var"])}


def _is_too_complex(
    data: NDArray[np.float32], settings: dict[str, Any], labels: NDArray[np.int32], index: int, row: np.void
) -> bool:
    # sep's limits are inclusive; 3 pixels more on each side keep the convolution as it is.
    box = tuple(slice(max(row[f"{axis}min"] - 3, 0), row[f"{axis}max"] + 4) for axis in "yx")
    cut = {name: np.ascontiguousarray(settings[name][box]) for name in ("var", "mask")}
    alone = _without(np.ascontiguousarray(data[box]), {**settings, **cut}, labels[box] != index + 1)
    return _try_extract(*alone) is None


def _extract(data: NDArray[np.float32], settings: dict[str, Any]) -> Extraction:
    """Extract all sources; what is too complex to deblend is kept whole, with the flag NOT_DEBLENDED."""
    with _sep_limits():
        found = _try_extract(data, settings)
        if found is not None:
            return found
        blends = _try_extract(data, {**settings, "deblend_nthresh": 1, "clean": False})
        assert blends is not None  # a single level is not deblended
        rows, labels = blends
        # A smaller object cannot hold as many sub-objects of `minarea` pixels as the limit.
        candidates: list[int] = np.flatnonzero(
            rows["npix"] >= sep.get_sub_object_limit() * settings["minarea"]
        ).tolist()
        whole = [i for i in candidates if _is_too_complex(data, settings, labels, i, rows[i])]
        number = np.zeros(len(rows) + 1, dtype=np.int32)
        number[1:][whole] = 1
        others = _try_extract(*_without(data, settings, number[labels] > 0))
        if others is None:  # with a matched filter an object alone can differ from the same among others
            whole = list(range(len(rows)))
            others = rows[:0], np.zeros_like(labels)
    objects, segmentation = others
    kept = rows[whole]
    kept["flag"] |= SourceFlag.NOT_DEBLENDED
    number[1:][whole] = len(objects) + 1 + np.arange(len(whole))
    return np.concatenate([objects, kept]), np.maximum(segmentation, number[labels])


def _settings(image: NDData, options: DetectOptions) -> dict[str, Any]:
    return {
        "thresh": options.n_sigma,
        "var": variance_map(image, options.noise),
        "mask": null_pixels(image),
        "minarea": options.n_pixels,
        "filter_kernel": gaussian_kernel(options.kernel),
        "filter_type": options.filter_type,
        "deblend_nthresh": options.n_levels,
        "deblend_cont": options.contrast,
        "clean": options.clean > 0,
        "clean_param": options.clean or 1.0,
    }


def detect_sep(image: NDData, background: Background, options: Options) -> Detection:
    """Return the sources of an image, found and deblended by sep (Source Extractor's algorithms).

    Parameters
    ----------
    image : `~astropy.nddata.NDData`
        With WCS, and the full weight as its uncertainty.
    background : Background
        Its level is taken off; the threshold is ``n_sigma`` times the noise of the weights, not of `background`.
    options : Options
        The group ``detect``.

    Returns
    -------
    Detection
        Without rows where nothing is above the threshold.

    Raises
    ------
    PhotplugError
        Where the image has no WCS or no uncertainty.
    """
    data, settings = subtract_level(image, background), _settings(image, options.detect)
    # sep 1.4 does not zero masked pixels in the first rows, half a kernel high, before it convolves the image.
    data[settings["mask"]] = 0
    objects, segmentation = _extract(data, settings)
    return place_sources({name: objects[name] for name in FOUND}, segmentation, image.wcs)
