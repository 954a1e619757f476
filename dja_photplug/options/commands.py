"""Options of single commands, beside those of `Options` that every catalogue records."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dja_photplug.errors import PhotplugError
from dja_photplug.options.declare import Stage, option

__all__ = [
    "COMMAND_STAGES",
    "EXTENSIONS",
    "ExtendOptions",
    "GalfitOptions",
    "InjectionOptions",
    "PSFOptions",
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InjectionOptions(Stage):
    """The sources that are injected into a mosaic, and what counts as recovered."""

    shape: str = option(
        "point",
        "'point' sources; 'gaussian' or 'sersic' galaxies, convolved with the PSF",
        choices=("point", "gaussian", "sersic"),
    )
    # Below 0.04 the quadrature over pixels of the Gaussians no longer holds 0.1 %.
    psf_fwhm: float = option(
        0.15, "FWHM of the Gaussian PSF in the mosaic, before its pixels", unit="arcsec", minimum=0.04
    )
    psf_scale: float | None = option(
        None,
        "pixel scale of the PSF's image, instead of what its header states",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
    )
    psf_share: float | None = option(
        None, "share of the light that the PSF's image holds, instead of its sum", kind=float, minimum=0.1, maximum=1
    )
    half_light: tuple[float, ...] = option(
        (0.05, 0.3),
        "smallest and largest half-light radius of galaxies (major axis, before the PSF), drawn evenly in its log",
        unit="arcsec",
        minimum=1e-3,
    )
    sersic_index: float = option(1.0, "Sersic index of 'sersic' galaxies", minimum=0.3, maximum=6)
    axis_ratio: tuple[float, ...] = option(
        (0.3, 1.0), "smallest and largest axis ratio of galaxies", minimum=0.05, maximum=1
    )
    magnitudes: tuple[float, ...] = option(
        (24.0, 31.0), "brightest and faintest AB magnitude (total), drawn evenly", unit="mag", minimum=5
    )
    bin_width: float = option(0.25, "width of the bins of magnitude", unit="mag", minimum=0.01)
    separation: float = option(
        4.0, "mean separation of injected sources; none are closer than half of it", unit="arcsec", minimum=0.1
    )
    realisations: int = option(20, "how often sources are injected, each time elsewhere", minimum=1)
    aperture: int = option(1, "number of the aperture whose fluxes are compared (0 is the first)", minimum=0)
    match_radius: float = option(
        0.2, "distance within which a detection is that of an injected source", unit="arcsec", minimum=1e-3
    )
    photons: str = option(
        "poisson",
        "noise of the injected light: 'poisson' from its electrons (detector gain, exposure time), or 'none'",
        choices=("poisson", "none"),
    )
    seed: int = option(1, "seed of places, shapes and noise; the number of workers does not matter", minimum=0)
    workers: int | None = option(None, "processes; all cores by default", kind=int, minimum=1)

    def __post_init__(self) -> None:
        """Check each field, then the ranges."""
        Stage.__post_init__(self)
        for name, rising in (("half_light", False), ("axis_ratio", False), ("magnitudes", True)):
            pair = getattr(self, name)
            if len(pair) != 2 or pair[0] > pair[1] or (rising and pair[0] == pair[1]):
                raise PhotplugError(f"option {name}: {pair} is not a smaller and a larger value; give two, in order")


EXTENSIONS = ("auto", "iso", "aper", "epochs")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExtendOptions(Stage):
    """Which columns of a catalogue say where its sources are, and which ones it gets."""

    ra: str | None = option(None, "column of right ascensions; found by the usual names without it", kind=str)
    dec: str | None = option(None, "column of declinations; found by the usual names without it", kind=str)
    id_column: str | None = option(None, "column of the labels in the segmentation; id or NUMBER without it", kind=str)
    schema: str | None = option(
        None,
        "what kind of catalogue it is, such as dja, grizli or sextractor; found by its columns without it",
        kind=str,
    )
    columns: tuple[str, ...] = option(
        ("all",),
        "columns to add: all, or any of auto (Kron), iso (segments), aper (apertures), epochs",
        choices=("all", *EXTENSIONS),
    )
    overwrite_columns: bool = option(False, "replace columns that the catalogue has already")
    prefix: str = option("", "text before the names of new columns, where the catalogue has others of the same name")
    like: str | None = option(
        None,
        "FITS image on whose grid the angles theta of the catalogue are, and its sizes in pixels; without it the "
        "catalogue's own WCS, the segmentation, its INPUT, or its x and y tell",
        kind=str,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GalfitOptions(Stage):
    """Stamps for fitting codes: their size, mask, the components of the fit, and their format.

    ``directory`` is where they are written, ``overwrite`` replaces files there, ``progress`` shows a bar.
    """

    format: str = option(
        "galfit", "what the stamps are written for: galfit, imfit, pysersic, statmorph, npz, or a plugin's"
    )
    size: float | None = option(
        None,
        "side of the stamps; without it 5 semi-major Kron axes and 1 arcsec, between 3 and 20 arcsec",
        unit="arcsec",
        kind=float,
        minimum=0.2,
    )
    margin: float = option(0.12, "by which the segments of neighbours are grown in the mask", unit="arcsec", minimum=0)
    joint: float = option(
        3.0,
        "neighbours whose segment comes within the margin of the target's Kron ellipse are fitted too, not masked, "
        "unless they are fainter than the target by more than this",
        unit="mag",
    )
    sky: str = option(
        "free", "whether the fit of the sky starts at 0 and is free, or stays there", choices=("free", "fixed")
    )
    index: float = option(2.0, "Sersic index that the fit starts with", minimum=0.3, maximum=8)
    flux: str = option("flux_auto", "column of the catalogue with the flux that the fit starts with")
    psf_scale: float | None = option(
        None,
        "pixel scale of the PSF's image, instead of what its header states",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
    )
    directory: str | Path | None = None
    overwrite: bool = False
    progress: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PSFOptions(Stage):
    """PSFs from the stars of a mosaic, or from its log and those of detectors."""

    size: float = option(4.0, "side of the PSF's image", unit="arcsec", minimum=1)
    snr: float = option(50.0, "signal to noise of flux_auto above which stars are used", minimum=5)
    weights: str = option(
        "exptime",
        "what exposures of the log weigh: their exposure time, or the weights WHT00001 ... in the header",
        choices=("exptime", "header"),
    )
    pixfrac: float | None = option(
        None, "drop size of drizzle, instead of that in the header", kind=float, minimum=0.01, maximum=1
    )
    drizzle_kernel: str | None = option(
        None,
        "kernel of drizzle, instead of that in the header",
        kind=str,
        choices=("square", "gaussian", "point", "turbo", "lanczos2", "lanczos3"),
    )
    cell: float = option(
        1.0, "side of the cells of the sky in which the map of regions is written", unit="arcsec", minimum=0.1
    )


COMMAND_STAGES: dict[str, type[Stage]] = {
    "injection": InjectionOptions,
    "extend": ExtendOptions,
    "galfit": GalfitOptions,
    "psf": PSFOptions,
}
"""Groups of options of one command, beside those of `Options` that every catalogue records."""
