"""Cut-outs of many places in many bands, which read no more than their rows, of mosaics on a server too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pluggy
from astropy import units as u
from astropy.coordinates import SkyCoord
from tqdm import tqdm

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.options.bands import settle_bands
from dja_photplug.options.declare import Stage
from dja_photplug.options.run import Options
from dja_photplug.options.stages import VarianceOptions, as_variance_options
from dja_photplug.pipeline.images import Products, find_grid, find_source, load_source
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.plugins.options import complete_options
from dja_photplug.remote.transport import bytes_moved
from dja_photplug.sky.cutouts import describe_edge, resolve_cutout
from dja_photplug.sky.grid import Grid, pixel_positions

if TYPE_CHECKING:
    from dja_photplug.mosaic.image import MosaicImage

__all__ = ["Cutouts", "cutouts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutouts(Mapping[str, "list[MosaicImage | None]"]):
    """Cut-outs by band, each a list of one for each position; from :func:`cutouts`.

    Attributes
    ----------
    positions : SkyCoord
        (n,).
    images : dict of str to list
        By band; None for a position that is off the mosaic.
    bytes_moved : int
        Bytes of files that came from servers for them.
    """

    positions: SkyCoord
    images: dict[str, list[MosaicImage | None]]
    bytes_moved: int

    def __getitem__(self, band: str) -> list[MosaicImage | None]:
        """Return the cut-outs in one band."""
        return self.images[band]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the bands."""
        return iter(self.images)

    def __len__(self) -> int:
        """Return the number of bands."""
        return len(self.images)


def cutouts(
    positions: SkyCoord,
    bands: Sequence[Products],
    size: u.Quantity = 3 * u.arcsec,
    noise: str | VarianceOptions = "dja",
    *,
    plugins: Mapping[str, Stage] | None = None,
    manager: pluggy.PluginManager | None = None,
    progress: bool = False,
) -> Cutouts:
    """Return cut-outs of many places in many bands, with their full weight.

    Of a ``.fits`` no other rows are read than those of the cut-outs, on disk or by range from a server; of a
    ``.fits.gz`` on a server what is before the last of them once, and later only what is near; its checksum, which is
    behind all pixels, is not looked at.

    Parameters
    ----------
    positions : SkyCoord
        Scalar or (n,).
    bands : sequence of str, Path or Source
        Mosaics, as for :func:`dja_photplug.load_mosaic`: also prefixes that are URLs.
    size : Quantity, optional
        Angle: the side, or height and width, of each cut-out. At the edge of a mosaic they are smaller, and a
        warning says how many.
    noise : str or VarianceOptions, optional
        As for :func:`dja_photplug.load_mosaic`.
    plugins : mapping of str to Stage, optional
        Options of plugins by their names, as in `Options`.
    manager : PluginManager, optional
        All plugins by default.
    progress : bool, optional
        Show a bar where stderr is a terminal.

    Returns
    -------
    Cutouts
        A mapping of bands to lists of `MosaicImage`, in the order of the positions.

    Raises
    ------
    PhotplugError
        As :func:`dja_photplug.load_mosaic`, and where two mosaics are of one band.
    """
    manager, places, before = manager or get_plugin_manager(), positions.reshape(-1), bytes_moved()
    given = Options(variance=as_variance_options(noise), plugins=plugins or {})
    sources = [find_source(products, manager) for products in bands]
    names = [source.band or source.name for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PhotplugError(f"two mosaics are in the band {twice[0]}; cut them out one after the other")
    options = settle_bands(complete_options(given, manager), [source.band for source in sources])
    bar = tqdm(total=len(places) * len(sources), desc="cut-outs", disable=None if progress else True, delay=1)
    images: dict[str, list[MosaicImage | None]] = {name: [None] * len(places) for name in names}
    with bar:
        for name, source in zip(names, sources, strict=True):
            grid = find_grid(source, options, manager)
            order = _order(places, grid)
            over = sum(bool(describe_edge((places[i], size), *grid)) for i in order)
            if over:
                told = f"{source}: {over} of {len(order)} cut-outs reach over its edge, and are smaller"
                warnings.warn(told, PhotplugWarning, stacklevel=2)
            for i in order:
                part = replace(options, cutout=resolve_cutout((places[i], size), *grid))
                images[name][i] = load_source(source, part, manager)
                bar.update()
    return Cutouts(positions=places, images=images, bytes_moved=bytes_moved() - before)


def _order(positions: SkyCoord, grid: Grid) -> list[int]:
    """Return which positions are on a mosaic, by their rows, so that each part of it is read once."""
    wcs, (ny, nx) = grid
    x, y = pixel_positions(wcs, positions.icrs.ra.deg, positions.icrs.dec.deg)
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    return [int(i) for i in np.argsort(y) if inside[i]]
