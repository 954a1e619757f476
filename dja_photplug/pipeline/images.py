"""One image of a source: found and loaded by plugins, with the noise model of a plugin, cut out, in its zero point."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pluggy
from numpy.typing import ArrayLike, NDArray

from dja_photplug.epochs.log import ExposureLog
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import Source, explain_name
from dja_photplug.mosaic.models import fullweight
from dja_photplug.mosaic.models.electrons import Header
from dja_photplug.mosaic.models.exposure import ExposureMap
from dja_photplug.mosaic.models.fullweight import NoiseModel, expect_cards
from dja_photplug.mosaic.plan import VarianceHook
from dja_photplug.mosaic.scatter import check_weight
from dja_photplug.options.bands import of_band, settle_bands
from dja_photplug.options.run import Options
from dja_photplug.options.stages import NOISE_PRESETS, Stage, VarianceOptions, as_variance_options
from dja_photplug.outputs.run import protect_source
from dja_photplug.parallel.scratch import open_scratch
from dja_photplug.plugins.calls import ask_all, ask_first, ask_some, name_strangers, refuse
from dja_photplug.plugins.manager import get_plugin_manager, has_plugins, implementations
from dja_photplug.plugins.models import GuardedModel
from dja_photplug.plugins.options import complete_options
from dja_photplug.sky.cutouts import Cutout, pixel_size, resolve_cutout, tell_edge
from dja_photplug.sky.grid import Grid, Window, check_pixels
from dja_photplug.units import MOSAIC_ZERO_POINT, flux_of

if TYPE_CHECKING:
    from astropy.nddata import NDData

    from dja_photplug.mosaic.image import MosaicImage

__all__ = [
    "Products",
    "Request",
    "find_grid",
    "find_source",
    "full_weight",
    "load_mosaic",
    "load_source",
    "zero_point_factor",
]

Products = str | Path | Source
"""What names the products of an image: a prefix, a member file, what ``photplug_find`` finds; or a source."""


def find_source(products: Products, manager: pluggy.PluginManager) -> Source:
    """Return the source that a text names, through ``photplug_find``.

    Parameters
    ----------
    products : str, Path or Source
        A source is returned as it is.
    manager : PluginManager

    Returns
    -------
    Source
        With the text alone where no plugin finds anything: its loader may still claim it.

    Raises
    ------
    PhotplugError
        Where products have the name of a DJA mosaic but are not there, or nobody can load what is named.
    """
    if isinstance(products, Source):
        return products
    text = str(products)
    found = ask_all(manager, "photplug_find", Source, text=text)
    if not found and not has_plugins(manager, "photplug_load"):
        raise PhotplugError(f"{text}: {explain_name(text)}")
    return found[0] if found else Source(name=Path(text).name, label=text)


class _Variance:
    """A noise model by header, exposure map and log, as loaders take it; it remembers the model and its pixels."""

    def __init__(self, ask: VarianceHook) -> None:
        self.ask = ask
        self.model: NoiseModel | None = None
        self.shape: tuple[int, ...] = ()

    def __call__(self, header: Header, exposure: ExposureMap | None, log: ExposureLog | None) -> NoiseModel:
        """Return the noise model of an image with that header, map and log."""
        self.model = self.ask(header, exposure, log)
        self.shape = (int(header.get("NAXIS2", 0)), int(header.get("NAXIS1", 0)))
        return self.model


def _ask_variance(options: Options, manager: pluggy.PluginManager) -> VarianceHook:
    """Return ``photplug_variance`` as the callable that loaders take: header, exposure, log -> NoiseModel."""
    purpose = f"noise preset {options.variance.noise!r}"

    def ask(header: Header, exposure: ExposureMap | None, log: ExposureLog | None) -> NoiseModel:
        hook, known = "photplug_variance", NOISE_PRESETS
        model = ask_first(
            manager, hook, purpose, NoiseModel, known, header=header, exposure=exposure, log=log, options=options
        )
        strangers = name_strangers(manager, hook)
        own = bool(expect_cards(model))  # one of ours, whoever gave it
        return model if own or not strangers else GuardedModel(model, tuple(strangers))

    return ask


def load_source(
    source: Source, options: Options, manager: pluggy.PluginManager, variance: VarianceHook | None = None
) -> MosaicImage:
    """Load one image through ``photplug_load``, with the noise model of ``photplug_variance``.

    Parameters
    ----------
    source : Source
    options : Options
        ``cutout`` is cut here where the loader gave more than was asked for.
    manager : PluginManager
    variance : callable, optional
        Another noise model than that of the plugins.

    Returns
    -------
    MosaicImage
        In 10 nJy by the zero point of its band. It carries its noise model, where that is known.

    Raises
    ------
    PhotplugError
        Where the files are missing, no plugin loads them, or they do not allow it; where pixels are not square, or the
        weight and the scatter of the pixels contradict each other.
    """
    protect_source(source)
    return Request(source, options, manager, variance).load(manager)


class Request:
    """One image that is asked of loaders: what they are given, and what is checked in what they give.

    Parameters
    ----------
    source, options, manager, variance
        As for :func:`load_source`.
    """

    def __init__(
        self, source: Source, options: Options, manager: pluggy.PluginManager, variance: VarianceHook | None = None
    ) -> None:
        self.source = source
        self.options = replace(options, variance=of_band(options.variance, source.band))
        self.variance = _Variance(variance or _ask_variance(self.options, manager))
        self.arguments = {"source": source, "options": self.options, "variance": self.variance}
        # What nobody found may still be claimed by its loader.
        self.unknown = f"{source}: {explain_name(str(source))}; loading it" if type(source) is Source else ""
        self.purpose = f"loading {source}"

    def load(self, manager: pluggy.PluginManager) -> MosaicImage:
        """Return the image that the first of all loaders gives.

        Parameters
        ----------
        manager : PluginManager

        Returns
        -------
        MosaicImage
            Checked.

        Raises
        ------
        PhotplugError
            Where nobody loads it, and as :meth:`check`.
        """
        from astropy.nddata import NDData

        names = [each.plugin_name for each in implementations(manager, "photplug_load")]
        loaded = ask_some(manager, names, "photplug_load", self.purpose, NDData, **self.arguments)
        if loaded is None:
            raise refuse(manager, "photplug_load", self.unknown or self.purpose, ())
        return self.check(loaded)

    def ask(self, manager: pluggy.PluginManager, names: list[str]) -> NDData | None:
        """Return what the first of some loaders gives that claims.

        Parameters
        ----------
        manager : PluginManager
        names : list of str

        Returns
        -------
        NDData or None
            As it is given.
        """
        from astropy.nddata import NDData

        return ask_some(manager, names, "photplug_load", self.purpose, NDData, **self.arguments)

    def check(self, loaded: NDData) -> MosaicImage:
        """Return what a loader gave as an image that was checked, cut and scaled.

        Parameters
        ----------
        loaded : NDData

        Returns
        -------
        MosaicImage

        Raises
        ------
        PhotplugError
            Where its weight and the scatter of its pixels contradict each other, or its pixels are not square.
        """
        from dja_photplug.mosaic.image import as_mosaic_image, rescale_image

        source, options, variance = self.source, self.options, self.variance
        try:
            image = as_mosaic_image(loaded)
            if image.noise_model is None and variance.shape == image.shape and loaded.unit == image.unit:
                image.noise_model = variance.model  # a loader of somebody else need not know of it
            image = _cut(image, source, options.cutout)
            check_pixels(image.wcs, image.shape)
        except PhotplugError as error:
            raise PhotplugError(f"{source}: {error}") from None
        if not options.variance.trust_weights:
            check_weight(image, str(source))
        factor = zero_point_factor(source, options)
        return image if factor == 1 else rescale_image(image, factor)


def zero_point_factor(source: Source, options: Options) -> float:
    """Return what a value of 1 in a source's pixels is in 10 nJy, by the zero point of its band.

    Parameters
    ----------
    source : Source
    options : Options
        Its ``bands.zero_point`` are AB magnitudes by band.

    Returns
    -------
    float
        1 where no zero point is given for the band.
    """
    given = options.bands.zero_point
    # A bare one is that of the only band, where a plugin's command has not settled whose it is.
    return float(flux_of(given.get(source.band, given.get("", MOSAIC_ZERO_POINT)), MOSAIC_ZERO_POINT))


def _cut(image: MosaicImage, source: Source, cutout: Cutout) -> MosaicImage:
    """Return the part that was asked for of an image that may be just that, or the whole."""
    if cutout is None:
        return image
    grid = source.grid()
    # Pixels of a part are no pixels of the whole: its size tells that the loader took them.
    asked = pixel_size(cutout) if grid is None else _size(resolve_cutout(cutout, *grid))
    if grid is not None:
        tell_edge(cutout, *grid)
    if image.shape == asked:
        return image
    window = resolve_cutout(cutout, image.wcs, image.shape)
    if grid is None:
        tell_edge(cutout, image.wcs, image.shape)
    if _size(window) == image.shape:
        return image
    (ny, nx), (rows, columns) = image.shape, _size(window)
    warnings.warn(
        f"{source}: its loader ignored the cut-out; using {columns} x {rows} of {nx} x {ny} pixels",
        PhotplugWarning,
        stacklevel=3,
    )
    return image[window]


def _size(window: Window) -> tuple[int, int]:
    return window[0].stop - window[0].start, window[1].stop - window[1].start


def find_grid(source: Source, options: Options, manager: pluggy.PluginManager) -> Grid:
    """Return the grid of all pixels of a source, by loading it where that alone tells.

    Parameters
    ----------
    source : Source
    options : Options
        Its cut-out does not count.
    manager : PluginManager

    Returns
    -------
    Grid
        WCS and shape (ny, nx).

    Raises
    ------
    PhotplugError
        As :func:`load_source`.
    """
    grid = source.grid()
    if grid is not None:
        return grid
    image = load_source(source, replace(options, cutout=None), manager)
    return Grid(image.wcs, image.shape)


def load_mosaic(
    files: Products,
    noise: str | VarianceOptions = "dja",
    cutout: Cutout = None,
    *,
    variance: VarianceHook | None = None,
    plugins: Mapping[str, Stage] | None = None,
    manager: pluggy.PluginManager | None = None,
    scratch: str | Path | None = None,
) -> MosaicImage:
    """Load a mosaic, or a cut-out of it, with its full weight.

    Loader and noise model are those of the installed plugins. Pixels of the archive's mosaics are read once, in blocks
    of rows; the full weight of a block is computed while the next is inflated.

    Parameters
    ----------
    files : str, Path or Source
        Prefix or any member file of a mosaic, or what a plugin finds.
    noise : str or VarianceOptions
        Preset ``dja``, ``calibrated`` or ``background``, or a plugin's; or options. A ``_var`` file holds the full
        variance, with Poisson noise and gain, and is used as it is with every preset but ``background``.
    cutout : optional
        ``(SkyCoord, size)``, a sky or pixel region (its bounding box), or slices (y, x). Rows below are skipped,
        rows above never read, nor the checksum of a ``.fits.gz`` behind them. A warning says how much of one that
        reaches over the edge of the mosaic is there.
    variance : callable, optional
        ``variance(header, exposure, log) -> NoiseModel``, another model than that of `noise` and of the plugins.
    plugins : mapping of str to Stage, optional
        Options of plugins by their names, as in `Options`.
    manager : PluginManager, optional
        All plugins by default.
    scratch : str or Path, optional
        Folder for files that hold the planes, instead of memory; they have no name any more when this returns, and are
        gone with the image.

    Returns
    -------
    MosaicImage
        float32, (ny, nx), in 10 nJy. ``meta`` holds the science header without its WCS, and the cards NOISE, DETGAIN,
        GROWTH, PHOTSCLE, ZEROPNT, NFILLED, NNULL and others of the noise model.

    Raises
    ------
    PhotplugError
        Where a member is missing or damaged, shapes differ, or the header does not say what the preset needs.
    """
    manager = manager or get_plugin_manager()
    options = Options(variance=as_variance_options(noise), cutout=cutout, plugins=plugins or {})
    if variance is None:
        options = complete_options(options, manager)
    source = find_source(files, manager)
    with nullcontext() if scratch is None else open_scratch(scratch):
        return load_source(source, settle_bands(options, [source.band]), manager, variance)


def full_weight(
    science: ArrayLike,
    weight: ArrayLike,
    exposure: ArrayLike | None,
    header: Header,
    noise: str | VarianceOptions = "dja",
    exposure_header: Header | None = None,
    log: ExposureLog | None = None,
    *,
    plugins: Mapping[str, Stage] | None = None,
    manager: pluggy.PluginManager | None = None,
) -> NDArray[np.float32]:
    """Return the inverse variance of background and source photons together.

    Parameters
    ----------
    science : array_like
        Science image in 10 nJy, (ny, nx).
    weight : array_like
        The published inverse variance of read noise and sky, (ny, nx).
    exposure : array_like or None
        Exposure time in s: for each pixel where it has the shape of `science`, otherwise the archive's coarse map.
        Not needed for the preset ``background``.
    header : mapping
        Of the science image: PHOTMJSR, PHOTSCAL, PHOTFNU, OPHOTFNU, TELESCOP, BUNIT.
    noise : str or VarianceOptions
        Preset ``dja``, ``calibrated`` or ``background``, or a plugin's; or options.
    exposure_header : mapping, optional
        Of the coarse map; registers a cut-out on the map of its parent mosaic.
    log : ExposureLog, optional
        Weights the detector gains of the preset ``calibrated``.
    plugins : mapping of str to Stage, optional
        Options of plugins by their names, as in `Options`.
    manager : PluginManager, optional
        All plugins by default: the noise model is that of an installed plugin where it claims the image.

    Returns
    -------
    ndarray
        float32, (ny, nx); 0 where there are no data, never NaN.

    Raises
    ------
    PhotplugError
        Where shapes, units or keywords do not allow it.

    Examples
    --------
    >>> header = {"TELESCOP": "JWST", "BUNIT": "10*nanoJansky", "PHOTMJSR": 0.4, "PHOTFNU": 1e-8, "OPHOTFNU": 1e-7}
    >>> full_weight([[0.0, 100.0]], [[4.0, 4.0]], [[1000.0, 1000.0]], header)
    array([[4.       , 1.5384616]], dtype=float32)
    """
    manager = manager or get_plugin_manager()
    given = Options(variance=as_variance_options(noise), plugins=plugins or {})
    options = settle_bands(complete_options(given, manager), [""])
    ask = _ask_variance(options, manager)
    return fullweight.full_weight(
        science, weight, exposure, header, options.variance, exposure_header, log, variance=ask
    )
