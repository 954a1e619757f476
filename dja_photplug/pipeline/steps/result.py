"""What a run made, and what it says of its image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.table import QTable

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.schema import describe_columns
from dja_photplug.epochs.log import ExposureLog
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import decode_text
from dja_photplug.files.names import Source
from dja_photplug.light.mesh import Background
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.mosaic.models.electrons import HeaderValue
from dja_photplug.options.run import Options
from dja_photplug.psf.regions import PSFModel
from dja_photplug.sources.detection import Detection

if TYPE_CHECKING:
    from photutils.segmentation import SegmentationImage

__all__ = ["Result", "describe_image", "describe_noise", "fill_columns"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What a run made.

    Attributes
    ----------
    catalog : `~astropy.table.QTable`
        One row for each source; the columns of `dja_photplug.catalog.schema.COLUMNS`.
    planes : tuple of MosaicImage and Background, or None
        Of the image that sources were detected on, (ny, nx) in 10 nJy; None where they were not kept.
    detection : Detection
        Sources, and the segmentation (ny, nx) on the grid of that image.
    calibration : NoiseCalibration or None
        a(r) of that image; None where it was not measured.
    options : Options
        With those of plugins.
    source : Source or None
        What that image was loaded from; None for a stack made of the bands, and for an image from elsewhere.
    psf : PSFModel or None
        Of that image.
    sky : tuple of float, or None
        Level between its sources and sigma of a pixel, in 10 nJy, where photometry leaves the sky in.
    """

    catalog: QTable
    planes: tuple[MosaicImage, Background] | None
    detection: Detection
    calibration: NoiseCalibration | None
    options: Options
    source: Source | None = None
    psf: PSFModel | None = None
    sky: tuple[float, float] | None = None

    @property
    def image(self) -> MosaicImage:
        """The image that sources were detected on."""
        return self._planes()[0]

    @property
    def background(self) -> Background:
        """Its background."""
        return self._planes()[1]

    @property
    def segmentation(self) -> SegmentationImage:
        """Pixels of each source, labelled by its ``id``."""
        from photutils.segmentation import SegmentationImage  # half a second to import

        return SegmentationImage(self.detection.segmentation)

    def _planes(self) -> tuple[MosaicImage, Background]:
        if self.planes is None:
            raise PhotplugError("the detection image was not kept while the bands were measured; run with keep_image")
        return self.planes


# What the metadata of a catalogue keep of an image that came without a noise model, such as a stack.
_NOISE_CARDS = (
    "NOISE",
    "VARFILE",
    "DETGAIN",
    "GAINFROM",
    "EXPFROM",
    "GROWTH",
    "PHOTSCLE",
    "PHOTSCL1",
    "NFILLED",
    "NNULL",
    "NNOTFIN",
    "NNEGWHT",
    "ERRSCALE",
)


def describe_noise(image: MosaicImage) -> dict[str, HeaderValue]:
    """Return the cards that say how the weight of an image was made, whoever made it.

    Parameters
    ----------
    image : MosaicImage

    Returns
    -------
    dict
        Value by keyword, such as NOISE, DETGAIN (e-/DN), PHOTSCLE, NFILLED; empty where nobody tells.
    """
    model = {} if image.noise_model is None else image.noise_model.provenance
    cards = {key: value for key, (value, _) in model.items()}
    # The image's own come last: counts of pixels are those of its loading.
    own = {key: image.meta[key] for key in (*_NOISE_CARDS, *cards, "BACKWHT") if key in image.meta}
    return cards | {key: decode_text(value) for key, value in own.items()}


def describe_image(result: Result, log: ExposureLog | None = None) -> dict[str, object]:
    """Return what the image and its calibration add to the metadata: input, noise model, a(r), log.

    Parameters
    ----------
    result : Result
        With its image.
    log : ExposureLog, optional
        Only its name is used.

    Returns
    -------
    dict
        Value by keyword; radii and factors of a(r) are lists.
    """
    return {
        **({} if result.source is None else {"INPUT": str(result.source)}),
        **describe_noise(result.image),
        "EPOCHS": "no WCS log" if log is None else Path(log.name).name,
        **({} if result.calibration is None else result.calibration.metadata()),
    }


def fill_columns(result: Result) -> QTable:
    """Return the catalogue with all columns of the schema, as regions and figures take it.

    What the engine does not measure has the detection's shapes, or is NaN, and 0 for counts and flags.

    Parameters
    ----------
    result : Result

    Returns
    -------
    `~astropy.table.QTable`
        The data of columns that there were are shared with the catalogue.
    """
    table, sources = result.catalog.copy(copy_data=False), result.detection.sources
    for spec in describe_columns(len(result.options.measure.apertures)):
        if spec.name not in table.colnames and spec.name in sources.colnames:
            table[spec.name] = sources[spec.name]
        elif spec.name not in table.colnames:
            empty = np.full(len(table), np.nan if spec.dtype.startswith("f") else 0, dtype=spec.dtype)
            table[spec.name] = empty << u.Unit(spec.unit) if spec.unit else empty
    return table
