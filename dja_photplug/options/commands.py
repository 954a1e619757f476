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
    """The injected sources, and when a source counts as recovered."""

    shape: str = option(
        "point",
        "'point' sources, or 'gaussian' or 'sersic' galaxies convolved with the PSF",
        choices=("point", "gaussian", "sersic"),
    )
    # Below 0.04 the quadrature over pixels of the Gaussians no longer holds 0.1 %.
    psf_fwhm: float = option(0.15, "FWHM of the Gaussian PSF, before pixel integration", unit="arcsec", minimum=0.04)
    psf_scale: float | None = option(
        None,
        "pixel scale of the PSF image, instead of the scale in its header",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
    )
    psf_share: float | None = option(
        None, "fraction of the light that the PSF image holds, instead of its sum", kind=float, minimum=0.1, maximum=1
    )
    half_light: tuple[float, ...] = option(
        (0.05, 0.3),
        "smallest and largest half-light radius of galaxies (major axis, before the PSF), drawn uniformly in its log",
        unit="arcsec",
        minimum=1e-3,
    )
    sersic_index: float = option(1.0, "Sersic index of 'sersic' galaxies", minimum=0.3, maximum=6)
    axis_ratio: tuple[float, ...] = option(
        (0.3, 1.0), "smallest and largest axis ratio of galaxies", minimum=0.05, maximum=1
    )
    magnitudes: tuple[float, ...] = option(
        (24.0, 31.0), "brightest and faintest total AB magnitude, drawn uniformly", unit="mag", minimum=5
    )
    bin_width: float = option(0.25, "width of the magnitude bins", unit="mag", minimum=0.01)
    separation: float = option(
        4.0, "mean separation of injected sources; the minimum is half of it", unit="arcsec", minimum=0.1
    )
    realisations: int = option(20, "number of realisations, each with new positions", minimum=1)
    aperture: int = option(1, "number of the aperture whose fluxes are compared (0 is the first)", minimum=0)
    match_radius: float = option(
        0.2, "maximum distance between an injected source and its detection", unit="arcsec", minimum=1e-3
    )
    photons: str = option(
        "poisson",
        "photon noise of the injected light: 'poisson' from its electrons (detector gain, exposure time), or 'none'",
        choices=("poisson", "none"),
    )
    seed: int = option(
        1, "random seed of positions, shapes and noise; the number of workers does not matter", minimum=0
    )
    workers: int | None = option(None, "number of processes; auto is all cores", kind=int, minimum=1)

    def __post_init__(self) -> None:
        """Check each field, then the ranges."""
        Stage.__post_init__(self)
        for name, rising in (("half_light", False), ("axis_ratio", False), ("magnitudes", True)):
            pair = getattr(self, name)
            if len(pair) != 2 or pair[0] > pair[1] or (rising and pair[0] == pair[1]):
                raise PhotplugError(
                    f"option {name}: {pair} is not a smaller and a larger value; give two values in order"
                )


EXTENSIONS = ("auto", "iso", "aper", "epochs")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExtendOptions(Stage):
    """Which columns hold the positions of a catalogue, and which to add."""

    ra: str | None = option(None, "right ascension column; by default the usual names", kind=str)
    dec: str | None = option(None, "declination column; by default the usual names", kind=str)
    id_column: str | None = option(None, "column of the segmentation labels; by default id or NUMBER", kind=str)
    schema: str | None = option(
        None,
        "kind of catalogue, such as dja, grizli or sextractor; by default recognised from its columns",
        kind=str,
    )
    columns: tuple[str, ...] = option(
        ("all",),
        "columns to add: all, or any of auto (Kron), iso (segments), aper (apertures), epochs",
        choices=("all", *EXTENSIONS),
    )
    overwrite_columns: bool = option(False, "replace columns that the catalogue already has")
    prefix: str = option("", "prefix of the new columns, if the catalogue has others of the same name")
    like: str | None = option(
        None,
        "FITS image whose grid defines the angles theta of the catalogue and its sizes in pixels; by default the "
        "catalogue's own WCS, the segmentation map, its INPUT, or its x and y",
        kind=str,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GalfitOptions(Stage):
    """Stamps for fitting codes: their size, mask, the components of the fit, and their format.

    ``directory`` is where they are written, ``overwrite`` replaces files there, ``progress`` shows a bar.
    """

    format: str = option("galfit", "output format: galfit, imfit, pysersic, statmorph, npz, or a plugin's")
    size: float | None = option(
        None,
        "side of the stamps; auto is 5 semi-major Kron axes plus 1 arcsec, between 3 and 20 arcsec",
        unit="arcsec",
        kind=float,
        minimum=0.2,
    )
    margin: float = option(
        0.12, "width by which the segments of neighbours are grown in the mask", unit="arcsec", minimum=0
    )
    joint: float = option(
        3.0,
        "neighbours whose segment comes within the margin of the target's Kron ellipse are fitted, not masked, unless "
        "they are fainter than the target by more than this",
        unit="mag",
    )
    sky: str = option("free", "sky in the fit: 'free' starts at 0, 'fixed' stays at 0", choices=("free", "fixed"))
    index: float = option(2.0, "initial Sersic index of the fit", minimum=0.3, maximum=8)
    flux: str = option("flux_auto", "catalogue column with the initial flux of the fit")
    psf_scale: float | None = option(
        None,
        "pixel scale of the PSF image, instead of the scale in its header",
        unit="arcsec",
        kind=float,
        minimum=1e-3,
    )
    directory: str | Path | None = None
    overwrite: bool = False
    progress: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PSFOptions(Stage):
    """PSFs from the stars of a mosaic, or from its WCS log and detector PSFs."""

    size: float = option(4.0, "side of the PSF image", unit="arcsec", minimum=1)
    snr: float = option(50.0, "minimum S/N of stars, in flux_auto", minimum=5)
    weights: str = option(
        "exptime",
        "weights of the exposures in the log: 'exptime' (exposure time), or 'header' (WHT00001 ... in the header)",
        choices=("exptime", "header"),
    )
    pixfrac: float | None = option(
        None, "drizzle drop size, instead of the value in the header", kind=float, minimum=0.01, maximum=1
    )
    drizzle_kernel: str | None = option(
        None,
        "drizzle kernel, instead of that in the header",
        kind=str,
        choices=("square", "gaussian", "point", "turbo", "lanczos2", "lanczos3"),
    )
    cell: float = option(1.0, "cell size of the sky map of PSF regions", unit="arcsec", minimum=0.1)


COMMAND_STAGES: dict[str, type[Stage]] = {
    "injection": InjectionOptions,
    "extend": ExtendOptions,
    "galfit": GalfitOptions,
    "psf": PSFOptions,
}
"""Groups of options of one command, beside those of `Options` that every catalogue records."""
