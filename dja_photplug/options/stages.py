"""Frozen options, one definition for Python, TOML and the command line.

Each stage of the pipeline has its dataclass. A field is declared once, by :func:`option`, with its default, unit,
bounds and help; validation here, the TOML reader and the command-line flags in `dja_photplug.options.arguments` are all
derived from that declaration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dja_photplug.errors import PhotplugError
from dja_photplug.options.declare import Stage, option

__all__ = [
    "EPOCH_DETAILS",
    "BackgroundOptions",
    "BandOptions",
    "CalibrationOptions",
    "DetectOptions",
    "EpochOptions",
    "MeasureOptions",
    "OutputOptions",
    "Stage",
    "TileOptions",
    "VarianceOptions",
    "as_variance_options",
    "option",
]

NOISE_PRESETS = ("dja", "calibrated", "background")
SCIENCE_NOISE, PIXEL_NOISE = "calibrated", "dja"
ENGINES = ("sep", "photutils")
SKIES = ("auto", "none", "mesh", "masked", "unmasked", "annulus")
OUTPUT_SCHEMAS = ("photplug", "dja", "sextractor")
FLUX_UNITS = ("uJy", "nJy", "mJy", "Jy")
EPOCH_DETAILS = ("visits", "angles", "detectors", "programs", "gap", "barycentric", "edge")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VarianceOptions(Stage):
    """How the variance of a pixel is made from weight, exposure time and science image.

    Presets: ``dja`` is the published recipe to the digit, ``calibrated`` counts electrons (detector gain) on the
    registered exposure map, ``background`` takes the weight alone. Without one it is that of what the options are for:
    ``calibrated`` in `Options`, ``dja`` for :func:`dja_photplug.load_mosaic` and :func:`dja_photplug.full_weight`.
    """

    noise: str = option(
        "",
        "noise preset: 'dja' as published, 'calibrated' with detector gain and registered exposure map, "
        "'background' without the Poisson noise of the sources; or a plugin's",
    )
    detector_gain: float | Mapping[str, float] | None = option(
        None,
        "detector gain instead of the preset's (dja: 1; calibrated: the table's, weighted by exposure time)",
        unit="e-/DN",
        kind=float,
        minimum=1e-3,
        by_band=True,
    )
    phot_scale: float | Mapping[str, float] | None = option(
        None,
        "DN/s per mosaic unit instead of the header's 1/(PHOTMJSR*PHOTSCAL)*PHOTFNU/OPHOTFNU",
        unit="DN/s / 10 nJy",
        kind=float,
        minimum=1e-12,
        by_band=True,
    )
    trust_weights: bool = option(
        False, "believe the weight, whatever the scatter of the pixels over its sigma (usually 0.5 to 1)"
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundOptions(Stage):
    """The mesh background, used for detection (and for photometry where ``MeasureOptions.background`` says so)."""

    mesh: float = option(2.0, "size of a background mesh cell", unit="arcsec", minimum=0.1)
    mesh_filter: int = option(3, "cells across the median filter over the mesh", minimum=1, maximum=101)
    rescale_weights: str = option(
        "no",
        "'yes' scales the errors of the image that sources are detected on so that their median agrees with the "
        "scatter of pixels in the mesh, as the archive's catalogues do",
        choices=("no", "yes"),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DetectOptions(Stage):
    """Detection and deblending; defaults are those of the published DJA v7 catalogues."""

    noise: str = option(
        "full",
        "variance of the detection threshold: 'full' with, 'background' without the Poisson noise of the sources",
        choices=("full", "background"),
        flag="--detect-noise",
    )
    n_sigma: float = option(1.5, "threshold per pixel, in sigma", minimum=0.01)
    n_pixels: int = option(9, "least number of connected pixels", unit="pix", minimum=1)
    kernel: float = option(
        3.0,
        "FWHM of the 7x7 Gaussian the image is convolved with; 0 for none",
        unit="pix",
        minimum=0,
        maximum=7,
    )
    filter_type: str = option(
        "conv",
        "'conv' convolves the image only, as DJA does; 'matched' weights by the noise",
        choices=("conv", "matched"),
    )
    n_levels: int = option(32, "deblending levels", minimum=1, maximum=1024)
    contrast: float = option(0.001, "least deblending contrast; 1 for no deblending", minimum=0, maximum=1)
    clean: float = option(1.0, "cleaning efficiency; 0 for no cleaning", minimum=0)
    extraction: str = option(
        "blends",
        "'blends' extracts each blend alone and cleans the brightest first, the same in any tiles; 'whole' does all of "
        "the image at once, as sep by itself and the archive, with Source Extractor's table for a kernel of 3 pixels",
        choices=("blends", "whole"),
    )
    use_segmentation: str | None = option(
        None,
        "FITS image with the segments to measure instead of detecting sources; their labels are the ids",
        kind=str,
        path=True,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions(Stage):
    """The empty apertures that measure a(r) for the noise preset ``calibrated``."""

    radius_min: float = option(0.08, "smallest radius of the empty apertures", unit="arcsec", minimum=1e-3)
    radius_max: float = option(1.5, "largest radius of the empty apertures", unit="arcsec", minimum=1e-3, maximum=30)
    n_radii: int = option(12, "number of radii, evenly in log r", minimum=2, maximum=100)
    n_apertures: int = option(
        4000, "empty apertures of a radius in each depth zone, as far as they fit", minimum=100, maximum=10**6
    )
    margin: float = option(0.2, "distance they keep from sources, edges and null weight", unit="arcsec", minimum=0)
    zones: int | None = option(
        None,
        "depth zones with an a(r) each, of equal area by background variance; without it those that the image has",
        kind=int,
        minimum=1,
    )
    seed: int = option(1, "seed of their positions", minimum=0, flag="--calibration-seed")

    def __post_init__(self) -> None:
        """Check each field, then the range."""
        Stage.__post_init__(self)
        if self.radius_min >= self.radius_max:
            raise PhotplugError(f"option radius_min: {self.radius_min} is not below radius_max {self.radius_max}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions(Stage):
    """Apertures, Kron ellipse, neighbours and the local background of the photometry."""

    apertures: tuple[float, ...] = option(
        (0.36, 0.50, 0.70, 1.00), "diameters of the circular apertures", unit="arcsec", minimum=1e-3, maximum=120
    )
    kron_factor: float = option(2.5, "Kron ellipse in units of the Kron radius", minimum=0.1, maximum=100)
    kron_min: float = option(2.4, "smallest scaled Kron radius, in units of a and b", minimum=0)
    kron_max: float = option(3.8, "largest scaled Kron radius, in units of a and b", minimum=0.1, maximum=100)
    kron_circle: float = option(
        0.35, "radius of the circle that replaces smaller Kron ellipses", unit="arcsec", minimum=0, maximum=60
    )
    background: str = option(
        "auto",
        "sky taken off before photometry: 'none' (mosaics are background-subtracted), 'mesh' without the sources and "
        "the light around them, 'masked' mesh without their segments, 'unmasked' mesh with them, as the archive does, "
        "or local 'annulus'; 'auto' is 'mesh' with the noise preset calibrated, else 'none'",
        choices=SKIES,
        flag="--sky",
    )
    annulus: tuple[float, ...] = option(
        (1.5, 2.5), "inner and outer radius of the sky annulus", unit="arcsec", minimum=0
    )
    neighbours: str = option(
        "auto",
        "'mask' puts what lies opposite of the source into others' pixels, 'mean' the mean of the aperture, as sep and "
        "the archive do, 'keep' leaves them, 'subtract' takes off what profiles say of others, and puts the source's "
        "own in their pixels; 'auto' is 'subtract' with the noise preset calibrated and no sky annulus, else 'mask'",
        choices=("auto", "mask", "mean", "keep", "subtract"),
    )
    positions: str = option(
        "auto",
        "where sources are, and apertures centred: 'windowed', where the light within a Gaussian is in balance, or "
        "'isophotal', the barycentre of the segment, as the archive does; 'auto' is 'windowed' with the noise preset "
        "calibrated, else 'isophotal'",
        choices=("auto", "windowed", "isophotal"),
    )
    window: float | None = option(
        None,
        "least sigma of that Gaussian, best 0.4 of the PSF's FWHM; 1.5 pixels without it; larger sources have 0.7 of "
        "the root of a b, up to 0.24 arcsec",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
        maximum=10,
    )
    photon_gain: float | None = option(
        None,
        "gain whose photon noise is added to the errors in circles, beside that in the weights; 2000 in the archive's "
        "catalogues",
        unit="e-/(10 nJy)",
        kind=float,
        minimum=1e-3,
    )
    details: bool = option(
        False,
        "more columns, those of Source Extractor that the archive's catalogues have; always with the schema dja",
    )

    def __post_init__(self) -> None:
        """Validate each field, then the pairs that must be ordered."""
        # A bare super() does not survive slots=True, which makes a second class object.
        Stage.__post_init__(self)
        if self.kron_min > self.kron_max:
            raise PhotplugError(f"option kron_min: {self.kron_min} is above kron_max {self.kron_max}")
        if twice := [size for size in self.apertures if self.apertures.count(size) > 1]:
            raise PhotplugError(f"option apertures: {twice[0]} is there twice; give each diameter once")
        if len(self.annulus) != 2 or self.annulus[0] >= self.annulus[1]:
            raise PhotplugError(f"option annulus: {self.annulus} is not an inner and a larger outer radius")
        if self.background == "annulus" and self.neighbours == "subtract":
            raise PhotplugError(
                "option background: an annulus holds the light that neighbours 'subtract' takes off; give the sky "
                "'mesh', or neighbours 'mask'"
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EpochOptions(Stage):
    """The columns of epochs beside those that every catalogue has, and what counts as one visit."""

    details: tuple[str, ...] = option(
        ("none",),
        f"more columns: any of {', '.join(EPOCH_DETAILS)}; all; or none",
        choices=("none", "all", *EPOCH_DETAILS),
        flag="--epoch-details",
    )
    visit_gap: float | None = option(
        None,
        "group exposures into visits wherever nothing was exposed for longer; by their file names without it",
        unit="d",
        kind=float,
        minimum=0,
    )

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of columns that are asked for, in their order."""
        return EPOCH_DETAILS if "all" in self.details else tuple(key for key in EPOCH_DETAILS if key in self.details)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BandOptions(Stage):
    """What sources are detected on where there are several bands, and what each band has of its own."""

    detect: str | None = option(
        None,
        "image that sources are detected on: a band, 'ir' for the archive's stack, or 'stack' to make one of all "
        "bands; without it the band itself where there is one, else 'stack'",
        kind=str,
        flag="--detect",
    )
    psf: Mapping[str, str] = option(
        {},
        "FITS image of the PSF in a band, for total fluxes and the flag POINT_LIKE",
        kind=str,
        flag="--psf",
        path=True,
    )
    psf_scale: Mapping[str, float] = option(
        {},
        "pixel scale of the PSF in a band, instead of what its header states",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
        flag="--psf-scale",
    )
    psf_share: Mapping[str, float] = option(
        {},
        "share of the light that the PSF's image holds in a band, instead of its sum",
        kind=float,
        minimum=0.1,
        maximum=1,
        flag="--psf-share",
    )
    match: str | None = option(
        None,
        "bring all bands to one PSF, for colours: that of a band, of the 'broadest' of them, or of a FITS image",
        kind=str,
        flag="--match",
    )
    sky: str | None = option(
        None,
        "sky taken off in bands, where it is another than in the image that sources are detected on: as --sky; that "
        "image's own band is measured again as a band then, as in the archive's catalogues",
        kind=str,
        choices=SKIES[1:],
        flag="--band-sky",
    )
    zero_point: Mapping[str, float] = option(
        {},
        "AB magnitude of a pixel value of 1 in a band, instead of 28.9 (10 nJy)",
        unit="mag",
        kind=float,
        minimum=0,
        flag="--zero-point",
    )
    stack: str | None = option(
        None,
        "folder that gets the stack, as {root}-ir_{drc}_sci.fits.gz and _wht.fits.gz",
        kind=str,
        flag="--stack",
        path=True,
    )
    workers: int | None = option(
        None, "processes that share the tiles and the bands; without it the cores, at most 4", kind=int, minimum=1
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TileOptions(Stage):
    """How large images are divided for the work; results do not depend on it."""

    size: int = option(2500, "side of a tile in pixels; smaller images are one", minimum=100, flag="--tile-size")
    overlap: int = option(
        75,
        "pixels that a tile sees around it; what does not fit is done again in a larger one",
        minimum=20,
        flag="--tile-overlap",
    )
    scratch: str | None = option(
        None,
        "folder for the planes of large images; that for temporary files without it",
        kind=str,
        flag="--scratch",
        path=True,
    )
    scheduler: str | None = option(
        None,
        "address of a Dask scheduler whose workers do the tiles, such as tcp://10.0.0.1:8786; they must see the "
        "scratch folder",
        kind=str,
        flag="--scheduler",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(Stage):
    """What is written."""

    format: str = option(
        "table",
        "'table' in the format of the file's suffix; 'eazy' for eazy-py, with zphot.translate beside it; 'lephare' "
        "with its parameters beside it; or a plugin's",
    )
    schema: str = option(
        "photplug",
        "names and units of the columns: 'photplug' ours, 'dja' those of the archive's catalogues, 'sextractor'",
        choices=OUTPUT_SCHEMAS,
        flag="--write-schema",
    )
    unit: str = option(
        "auto",
        "unit of fluxes and their errors, of the sky and of thresholds, beside which magnitudes are AB; 'auto' is "
        "uJy, or that of our catalogue that is extended",
        choices=("auto", *FLUX_UNITS),
        flag="--unit",
    )
    eazy_aperture: int = option(
        1, "number of the aperture whose total fluxes eazy and lephare get (0 is the first)", minimum=0
    )

    def __post_init__(self) -> None:
        """Check each field; what others read has the unit that they expect."""
        Stage.__post_init__(self)
        theirs = self.format if self.format in ("eazy", "lephare") else self.schema
        if self.unit not in ("auto", "uJy") and theirs != "photplug":
            raise PhotplugError(f"option unit: {theirs} has units of its own, so fluxes cannot be in {self.unit}")

    @property
    def flux_unit(self) -> str:
        """The unit of fluxes where no catalogue is extended."""
        return "uJy" if self.unit == "auto" else self.unit


def as_variance_options(noise: str | VarianceOptions) -> VarianceOptions:
    """Return the options of a noise preset.

    Parameters
    ----------
    noise : str or VarianceOptions

    Returns
    -------
    VarianceOptions
        Those that were given; as published where they name no preset.

    Raises
    ------
    PhotplugError
        Where `noise` names no preset.
    """
    options = noise if isinstance(noise, VarianceOptions) else VarianceOptions(noise=noise)
    return options if options.noise else dataclasses.replace(options, noise=PIXEL_NOISE)
