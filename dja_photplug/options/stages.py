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
    """Pixel variance from the weight, exposure time and science image.

    Presets: ``dja`` is the published recipe to the digit, ``calibrated`` counts electrons (detector gain) on the
    registered exposure map, ``background`` takes the weight alone. Without one it is that of what the options are for:
    ``calibrated`` in `Options`, ``dja`` for :func:`dja_photplug.load_mosaic` and :func:`dja_photplug.full_weight`.
    """

    noise: str = option(
        "",
        "noise preset: 'dja' as published; 'calibrated' with the detector gain and the registered exposure map; "
        "'background' without the sources' Poisson noise; or a plugin's",
    )
    detector_gain: float | Mapping[str, float] | None = option(
        None,
        "detector gain, instead of the preset's (dja: 1; calibrated: the tabulated gain, weighted by exposure time)",
        unit="e-/DN",
        kind=float,
        minimum=1e-3,
        by_band=True,
    )
    phot_scale: float | Mapping[str, float] | None = option(
        None,
        "DN/s per mosaic unit, instead of 1/(PHOTMJSR*PHOTSCAL)*PHOTFNU/OPHOTFNU from the header",
        unit="DN/s / 10 nJy",
        kind=float,
        minimum=1e-12,
        by_band=True,
    )
    trust_weights: bool = option(
        False, "accept the weight map, whatever the ratio of pixel scatter to sigma (usually 0.5 to 1)"
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundOptions(Stage):
    """The sky background mesh, used for detection (and for photometry where ``MeasureOptions.background`` says so)."""

    mesh: float = option(2.0, "cell size of the background mesh", unit="arcsec", minimum=0.1)
    mesh_filter: int = option(3, "width of the median filter over the mesh, in cells", minimum=1, maximum=101)
    rescale_weights: str = option(
        "no",
        "'yes' rescales the errors of the detection image so that their median matches the pixel scatter in the mesh, "
        "as the archive's catalogues do",
        choices=("no", "yes"),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DetectOptions(Stage):
    """Detection and deblending; defaults are those of the published DJA v7 catalogues."""

    noise: str = option(
        "full",
        "variance for the detection threshold: 'full' includes the sources' Poisson noise, 'background' does not",
        choices=("full", "background"),
        flag="--detect-noise",
    )
    n_sigma: float = option(1.5, "detection threshold per pixel, in sigma", minimum=0.01)
    n_pixels: int = option(9, "minimum number of connected pixels", unit="pix", minimum=1)
    kernel: float = option(
        3.0,
        "FWHM of the 7x7 Gaussian detection filter; 0 for no filter",
        unit="pix",
        minimum=0,
        maximum=7,
    )
    filter_type: str = option(
        "conv",
        "'conv' convolves the image only, as DJA does; 'matched' also weights the pixels by their noise",
        choices=("conv", "matched"),
    )
    n_levels: int = option(32, "number of deblending levels", minimum=1, maximum=1024)
    contrast: float = option(0.001, "minimum deblending contrast; 1 for no deblending", minimum=0, maximum=1)
    clean: float = option(1.0, "cleaning efficiency; 0 for no cleaning", minimum=0)
    extraction: str = option(
        "blends",
        "'blends' extracts each blend separately and cleans the brightest first, so tiling does not matter; 'whole' "
        "extracts the whole image at once, as sep and the archive do, with Source Extractor's table for a kernel of 3 "
        "pixels",
        choices=("blends", "whole"),
    )
    use_segmentation: str | None = option(
        None,
        "FITS segmentation map: measure its segments instead of detecting sources; its labels become the ids",
        kind=str,
        path=True,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions(Stage):
    """Empty apertures that measure a(r) for the noise preset ``calibrated``."""

    radius_min: float = option(0.08, "smallest radius of the empty apertures", unit="arcsec", minimum=1e-3)
    radius_max: float = option(1.5, "largest radius of the empty apertures", unit="arcsec", minimum=1e-3, maximum=30)
    n_radii: int = option(12, "number of radii, evenly spaced in log r", minimum=2, maximum=100)
    n_apertures: int = option(
        4000, "empty apertures per radius and depth zone, or as many as fit", minimum=100, maximum=10**6
    )
    margin: float = option(
        0.2, "minimum distance of the empty apertures from sources, edges and null weight", unit="arcsec", minimum=0
    )
    zones: int | None = option(
        None,
        "number of depth zones, each with its own a(r): of equal area, ordered by background variance; auto finds the "
        "zones of the image",
        kind=int,
        minimum=1,
    )
    seed: int = option(1, "random seed of the aperture positions", minimum=0, flag="--calibration-seed")

    def __post_init__(self) -> None:
        """Check each field, then the range."""
        Stage.__post_init__(self)
        if self.radius_min >= self.radius_max:
            raise PhotplugError(f"option radius_min: {self.radius_min} is not below radius_max {self.radius_max}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions(Stage):
    """Apertures, Kron ellipse, neighbours and sky of the photometry."""

    apertures: tuple[float, ...] = option(
        (0.36, 0.50, 0.70, 1.00), "diameters of the circular apertures", unit="arcsec", minimum=1e-3, maximum=120
    )
    kron_factor: float = option(2.5, "size of the Kron ellipse, in units of the Kron radius", minimum=0.1, maximum=100)
    kron_min: float = option(2.4, "minimum scaled Kron radius, in units of a and b", minimum=0)
    kron_max: float = option(3.8, "maximum scaled Kron radius, in units of a and b", minimum=0.1, maximum=100)
    kron_circle: float = option(
        0.35, "radius of the circle that replaces smaller Kron ellipses", unit="arcsec", minimum=0, maximum=60
    )
    background: str = option(
        "auto",
        "sky subtracted before photometry: 'none' (mosaics are already background-subtracted); a mesh that excludes "
        "the sources and the light around them ('mesh'), excludes only their segments ('masked') or includes them, as "
        "the archive does ('unmasked'); or a local 'annulus'; 'auto' is 'mesh' with the noise preset calibrated, else "
        "'none'",
        choices=SKIES,
        flag="--sky",
    )
    annulus: tuple[float, ...] = option(
        (1.5, 2.5), "inner and outer radius of the sky annulus", unit="arcsec", minimum=0
    )
    neighbours: str = option(
        "auto",
        "light of neighbours: 'mask' replaces their pixels with those opposite the source, 'mean' with the mean of "
        "the aperture, as sep and the archive do; 'keep' leaves them; 'subtract' subtracts their profiles and fills "
        "their pixels with the source's own; 'auto' is 'subtract' with the noise preset calibrated and no sky "
        "annulus, else 'mask'",
        choices=("auto", "mask", "mean", "keep", "subtract"),
    )
    positions: str = option(
        "auto",
        "source positions and aperture centres: 'windowed' (Gaussian-weighted centroid), or 'isophotal' (barycentre "
        "of the segment), as in the archive; 'auto' is 'windowed' with the noise preset calibrated, else 'isophotal'",
        choices=("auto", "windowed", "isophotal"),
    )
    window: float | None = option(
        None,
        "minimum sigma of that Gaussian, ideally 0.4 x the PSF's FWHM; auto is 1.5 pixels; larger sources use 0.7 x "
        "sqrt(a b), up to 0.24 arcsec",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
        maximum=10,
    )
    photon_gain: float | None = option(
        None,
        "gain for photon noise added to the errors of circular apertures, on top of that in the weights; 2000 in the "
        "archive's catalogues",
        unit="e-/(10 nJy)",
        kind=float,
        minimum=1e-3,
    )
    details: bool = option(
        False,
        "add the Source Extractor columns of the archive's catalogues; always on with the schema dja",
    )

    def __post_init__(self) -> None:
        """Validate each field, then the pairs that must be ordered."""
        # A bare super() does not survive slots=True, which makes a second class object.
        Stage.__post_init__(self)
        if self.kron_min > self.kron_max:
            raise PhotplugError(f"option kron_min: {self.kron_min} is above kron_max {self.kron_max}")
        if twice := [size for size in self.apertures if self.apertures.count(size) > 1]:
            raise PhotplugError(f"option apertures: {twice[0]} is given twice; give each diameter once")
        if len(self.annulus) != 2 or self.annulus[0] >= self.annulus[1]:
            raise PhotplugError(
                f"option annulus: {self.annulus} is not an inner and a larger outer radius; give two radii in order"
            )
        if self.background == "annulus" and self.neighbours == "subtract":
            raise PhotplugError(
                "option background: a sky annulus contains the light that neighbours 'subtract' removes; use the sky "
                "'mesh', or neighbours 'mask'"
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EpochOptions(Stage):
    """Extra epoch columns, and the gap between visits."""

    details: tuple[str, ...] = option(
        ("none",),
        f"extra columns: any of {', '.join(EPOCH_DETAILS)}; all; or none",
        choices=("none", "all", *EPOCH_DETAILS),
        flag="--epoch-details",
    )
    visit_gap: float | None = option(
        None,
        "gap between exposures that starts a new visit; auto groups them by file name",
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
    """The detection image of several bands, and the settings of each band."""

    detect: str | None = option(
        None,
        "detection image: a band, 'ir' for the archive's stack, or 'stack' to make one from all bands; by default the "
        "band itself if there is only one, else 'stack'",
        kind=str,
        flag="--detect",
    )
    psf: Mapping[str, str] = option(
        {},
        "FITS image of a band's PSF, for total fluxes and the flag POINT_LIKE",
        kind=str,
        flag="--psf",
        path=True,
    )
    psf_scale: Mapping[str, float] = option(
        {},
        "pixel scale of a band's PSF image, instead of the scale in its header",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
        flag="--psf-scale",
    )
    psf_share: Mapping[str, float] = option(
        {},
        "fraction of the light that a band's PSF image holds, instead of its sum",
        kind=float,
        minimum=0.1,
        maximum=1,
        flag="--psf-share",
    )
    match: str | None = option(
        None,
        "match all bands to one PSF, for colours: that of a band, the 'broadest', or a FITS image",
        kind=str,
        flag="--match",
    )
    sky: str | None = option(
        None,
        "sky subtracted in the bands, if it differs from that in the detection image (values as for --sky); the "
        "detection band is then measured again as a band, as in the archive's catalogues",
        kind=str,
        choices=SKIES[1:],
        flag="--band-sky",
    )
    zero_point: Mapping[str, float] = option(
        {},
        "AB magnitude of pixel value 1 in a band, instead of 28.9 (10 nJy)",
        unit="mag",
        kind=float,
        minimum=0,
        flag="--zero-point",
    )
    stack: str | None = option(
        None,
        "folder for the stack, written as {root}-ir_{drc}_sci.fits.gz and _wht.fits.gz",
        kind=str,
        flag="--stack",
        path=True,
    )
    workers: int | None = option(
        None, "number of processes for tiles and bands; auto is the number of cores, at most 4", kind=int, minimum=1
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TileOptions(Stage):
    """How large images are split into tiles; results do not depend on it."""

    size: int = option(2500, "side of a tile in pixels; smaller images are not split", minimum=100, flag="--tile-size")
    overlap: int = option(
        75,
        "overlap around each tile in pixels; sources that do not fit are redone in a larger tile",
        minimum=20,
        flag="--tile-overlap",
    )
    scratch: str | None = option(
        None,
        "folder for temporary image planes; by default the system's temporary folder",
        kind=str,
        flag="--scratch",
        path=True,
    )
    scheduler: str | None = option(
        None,
        "address of a Dask scheduler whose workers process the tiles, such as tcp://10.0.0.1:8786; they must see the "
        "scratch folder",
        kind=str,
        flag="--scheduler",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(Stage):
    """Format, columns and units of the output."""

    format: str = option(
        "table",
        "'table' in the format of the file's suffix; 'eazy' for eazy-py, with zphot.translate alongside; 'lephare' "
        "with its parameters alongside; or a plugin's",
    )
    schema: str = option(
        "photplug",
        "column names and units: 'photplug' (ours), 'dja' (the archive's catalogues) or 'sextractor'",
        choices=OUTPUT_SCHEMAS,
        flag="--write-schema",
    )
    unit: str = option(
        "auto",
        "unit of fluxes, flux errors, sky and thresholds; magnitudes are always AB; 'auto' is uJy, or the unit of our "
        "catalogue when extending one",
        choices=("auto", *FLUX_UNITS),
        flag="--unit",
    )
    eazy_aperture: int = option(
        1, "number of the aperture whose total fluxes go to eazy and lephare (0 is the first)", minimum=0
    )

    def __post_init__(self) -> None:
        """Check each field; what others read has the unit that they expect."""
        Stage.__post_init__(self)
        theirs = self.format if self.format in ("eazy", "lephare") else self.schema
        if self.unit not in ("auto", "uJy") and theirs != "photplug":
            raise PhotplugError(f"option unit: {theirs} has its own units, so fluxes cannot be in {self.unit}")

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
