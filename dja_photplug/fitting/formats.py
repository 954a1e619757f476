"""How stamps are written for each fitting code: galfit, imfit, pysersic, statmorph, or plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.special import gamma, gammaincinv

from dja_photplug.files.smallfits import write_card, write_small_image
from dja_photplug.fitting.field import Component
from dja_photplug.fitting.stamps import Stamp
from dja_photplug.options.commands import GalfitOptions
from dja_photplug.units import flux_of, flux_ratio

__all__ = ["FORMATS", "FitFormat", "effective_intensity"]

# What a fit may reach: Sersic index, axis ratio, the smallest half-light radius in pixels (the largest is the side of
# the stamp), shifts in pixels (or half-light radii, if those are larger), and magnitudes around the start.
INDEX, AXIS_RATIO, SMALLEST, SHIFT, MAGNITUDES = (0.2, 8.0), (0.05, 1.0), 0.1, 3.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFormat:
    """One fitting code.

    Attributes
    ----------
    suffixes : tuple of str
        Ends of the names of a stamp's files.
    write : callable
        ``(stamp, directory, options)`` writes them.
    joint : bool
        Whether it fits several sources together; neighbours are masked where not.
    """

    suffixes: tuple[str, ...]
    write: Callable[[Stamp, Path, GalfitOptions], None]
    joint: bool = True


def effective_intensity(component: Component, zero_point: float) -> float:
    """Return the surface brightness of a Sersic profile at its half-light radius, in units of the data per pixel.

    ``I_e = F b^(2n) exp(-b) / (2 pi n r_e^2 q Gamma(2n))`` with b the solution of ``2 gamma(2n, b) = Gamma(2n)``
    (Graham & Driver 2005, PASA 22, 118, equations 1 to 4).

    Parameters
    ----------
    component : Component
    zero_point : float
        AB magnitude of one unit of the data.

    Returns
    -------
    float

    Examples
    --------
    >>> start = Component(id=1, x=0, y=0, magnitude=23.9, radius=2, index=1, axis_ratio=0.5, theta=0)
    >>> round(effective_intensity(start, 28.9), 4)
    4.1846
    """
    n = component.index
    b = gammaincinv(2 * n, 0.5)
    flux = flux_of(component.magnitude, zero_point)
    area = 2 * np.pi * n * component.radius**2 * component.axis_ratio
    return float(flux * b ** (2 * n) * np.exp(-b) / (area * gamma(2 * n)))


def _write_images(stamp: Stamp, directory: Path) -> None:
    sigma = stamp.grid | {key: stamp.cards[key] for key in ("BUNIT", "NULLSIG")}
    images = {"sci": (stamp.data, stamp.cards), "sigma": (stamp.sigma, sigma)}
    images["mask"] = (stamp.mask.astype(np.uint8), stamp.grid)
    if stamp.psf is not None:
        images["psf"] = (stamp.psf, {"PIXSCL": write_card("PIXSCL", stamp.scale, "[arcsec] of a pixel")})
    for kind, (plane, cards) in images.items():
        write_small_image(directory / f"{stamp.name}_{kind}.fits", plane, cards)


def _describe(stamp: Stamp) -> list[str]:
    """Return comments on a stamp: what it is, and what its noise makes of a fit."""
    scatter, side = stamp.pixel_scatter, stamp.data.shape[0]
    lines = [
        f"{stamp.name}: RA {stamp.ra:.6f}, Dec {stamp.dec:.6f} deg; {side} x {side} pixels of "
        f"{stamp.scale:.4g} arcsec in 10 nJy,",
        f"zero point {stamp.zero_point:.2f} (AB), noise preset {stamp.noise}.",
        "Sigma is that of equivalent uncorrelated pixels, of the full weight with source photons, and not rescaled.",
    ]
    if scatter is None:
        lines += ["Pixel scatter unknown: there is no empty sky."]
    else:
        lines += [
            f"Pixel scatter {scatter:.3f}: data/sigma scatters so on empty sky, because drizzling correlates pixels;",
            f"chi^2 per degree of freedom of a perfect fit is therefore {scatter**2:.3f}, not 1.",
        ]
    if stamp.error_factor is None:
        return [*lines, "Error factor unknown: no a(r) was measured (noise preset 'calibrated')."]
    lines += [
        f"Error factor {stamp.error_factor:.3f}: multiply formal errors by it; a(r) of the background is "
        f"{stamp.background_factor:.3f} at the Kron radius.",
    ]
    if scatter is not None:
        rescaled = stamp.error_factor / scatter
        lines += [f"If a code scales its errors by the root of chi^2 per degree of freedom, {rescaled:.3f}."]
    return lines


def _shift(component: Component) -> float:
    return max(SHIFT, round(component.radius, 1))


def _write_galfit(stamp: Stamp, directory: Path, options: GalfitOptions) -> None:
    _write_images(stamp, directory)
    side, psf, name = stamp.data.shape[0], stamp.psf, stamp.name
    box = (side, side) if psf is None else psf.shape
    control = [
        ("A", f"{name}_sci.fits", "science image, 10 nJy"),
        ("B", f"{name}_model.fits", "output: image, model, residual"),
        ("C", f"{name}_sigma.fits", "sigma image, of the full weight"),
        ("D", "none" if psf is None else f"{name}_psf.fits", "PSF, centred on a pixel, sum 1"),
        ("E", "1", "fine sampling of the PSF: the pixels of the image"),
        ("F", f"{name}_mask.fits", "mask, 1 = bad: no data, or a neighbour"),
        ("G", f"{name}.constraints", "ranges of the parameters"),
        ("H", f"1 {side} 1 {side}", "region to fit: x and y, from 1, inclusive"),
        ("I", f"{box[1]} {box[0]}", "size of the convolution box, that of the PSF"),
        ("J", f"{stamp.zero_point:.2f}", "AB magnitude of 1 (10 nJy); EXPTIME is 1"),
        ("K", f"{stamp.scale:.6g} {stamp.scale:.6g}", "pixel scale, arcsec"),
        ("O", "regular", "display"),
        ("P", "0", "0 = fit, 1 = model only, 2 = images only, 3 = components apart"),
    ]
    lines = [f"# {line}" for line in _describe(stamp)] + [""]
    lines += [f"{key}) {value:<24} # {comment}" for key, value, comment in control]
    limits = ["# component  parameter  range; without 'to' it is around the start"]
    for number, component in enumerate(stamp.components, 1):
        lines += ["", *_galfit_component(component, "the target" if number == 1 else "a neighbour")]
        shift = _shift(component)
        ranges = [("n", INDEX), ("q", AXIS_RATIO), ("re", (SMALLEST, float(side)))]
        limits += [f"{number} {key} {low} to {high}" for key, (low, high) in ranges]
        around = [("x", shift), ("y", shift), ("mag", MAGNITUDES)]
        limits += [f"{number} {key} {-reach} {reach}" for key, reach in around]
    free = int(options.sky == "free")
    lines += ["", "# sky: the mosaic's is taken off already", " 0) sky"]
    lines += [f" 1) 0.0 {free}  # level, 10 nJy", " 2) 0.0 0  # slope along x", " 3) 0.0 0  # slope along y", " Z) 0"]
    (directory / f"{name}.feedme").write_text("\n".join(lines) + "\n", encoding="ascii")
    (directory / f"{name}.constraints").write_text("\n".join(limits) + "\n", encoding="ascii")


def _galfit_component(component: Component, role: str) -> list[str]:
    values = [
        (0, "sersic", "Sersic profile"),
        (1, f"{component.x + 1:.3f} {component.y + 1:.3f} 1 1", "position x y, the first pixel is 1"),
        (3, f"{component.magnitude:.4f} 1", "total magnitude, AB"),
        (4, f"{component.radius:.3f} 1", "half-light radius along the major axis, pixels"),
        (5, f"{component.index:.4f} 1", "Sersic index"),
        (9, f"{component.axis_ratio:.4f} 1", "axis ratio b/a"),
        (10, f"{component.position_angle:.3f} 1", "position angle, deg from +y (up) towards -x (left)"),
        ("Z", "0", "0 = subtract it for the residual"),
    ]
    return [f"# id {component.id}: {role}"] + [f"{key:>2}) {value:<20} # {comment}" for key, value, comment in values]


def _write_imfit(stamp: Stamp, directory: Path, options: GalfitOptions) -> None:
    _write_images(stamp, directory)
    name, side = stamp.name, stamp.data.shape[0]
    psf = "" if stamp.psf is None else f" --psf {name}_psf.fits"
    command = f"imfit {name}_sci.fits -c {name}.imfit --noise {name}_sigma.fits --mask {name}_mask.fits{psf}"
    lines = [f"# {line}" for line in [command, *_describe(stamp)]]
    # pyimfit 1.1 cannot read two sources where nothing comes before them.
    lines += ["", "ORIGINAL_SKY 0.0"]
    sky = "0.0" if options.sky == "free" else "0.0 fixed"
    for component in stamp.components:
        intensity, shift = effective_intensity(component, stamp.zero_point), _shift(component)
        around = flux_ratio(MAGNITUDES)
        lines += [""] + [
            f"{axis} {place:.3f} {place - shift:.3f},{place + shift:.3f}"
            for axis, place in (("X0", component.x + 1), ("Y0", component.y + 1))
        ]
        lines += [
            f"FUNCTION Sersic  # id {component.id}",
            f"PA {component.position_angle:.3f} -180,180  # deg, counter-clockwise from +y",
            f"ell {1 - component.axis_ratio:.4f} {1 - AXIS_RATIO[1]:g},{1 - AXIS_RATIO[0]:g}",
            f"n {component.index:.4f} {INDEX[0]:g},{INDEX[1]:g}",
            f"I_e {intensity:.6g} {intensity / around:.6g},{intensity * around:.6g}  # 10 nJy per pixel at r_e",
            f"r_e {component.radius:.3f} {SMALLEST:g},{side:g}  # pixels, along the major axis",
        ]
        if component is stamp.components[0]:
            lines += ["FUNCTION FlatSky", f"I_sky {sky}"]
    (directory / f"{name}.imfit").write_text("\n".join(lines) + "\n", encoding="ascii")


def _save(stamp: Stamp, directory: Path, suffix: str, arrays: Mapping[str, object]) -> None:
    planes = {name: plane for name, plane in arrays.items() if plane is not None}
    np.savez(directory / f"{stamp.name}{suffix}", **planes)  # type: ignore[arg-type]


def _write_pysersic(stamp: Stamp, directory: Path, options: GalfitOptions) -> None:
    psf, side = stamp.psf, stamp.data.shape[0]
    if psf is not None:
        # A larger PSF is refused; what is cut off would fall outside of the stamp, so it is not made up for.
        psf = psf[tuple(slice(max(n - side, 0) // 2, (n + min(n, side)) // 2) for n in psf.shape)]
    arrays = {"data": stamp.data, "rms": stamp.sigma, "mask": stamp.mask, "psf": psf}
    _save(stamp, directory, "_pysersic.npz", arrays)


def _write_statmorph(stamp: Stamp, directory: Path, options: GalfitOptions) -> None:
    segmap = (stamp.segmentation == stamp.components[0].id).astype(np.int32)
    arrays = {"image": stamp.data, "segmap": segmap, "mask": stamp.mask, "weightmap": stamp.sigma, "psf": stamp.psf}
    _save(stamp, directory, "_statmorph.npz", arrays)


def _write_npz(stamp: Stamp, directory: Path, options: GalfitOptions) -> None:
    arrays: dict[str, object] = {
        kind: getattr(stamp, kind) for kind in ("data", "sigma", "mask", "segmentation", "psf", "scale", "zero_point")
    }
    arrays |= {kind: getattr(stamp, kind) for kind in ("pixel_scatter", "background_factor", "error_factor")}
    arrays |= {field.name: [getattr(part, field.name) for part in stamp.components] for field in fields(Component)}
    arrays["header"] = stamp.header.tostring(sep="\n")
    _save(stamp, directory, ".npz", arrays)


_IMAGES = ("_sci.fits", "_sigma.fits", "_mask.fits", "_psf.fits")
FORMATS = {
    "galfit": FitFormat(suffixes=(*_IMAGES, ".feedme", ".constraints"), write=_write_galfit),
    "imfit": FitFormat(suffixes=(*_IMAGES, ".imfit"), write=_write_imfit),
    "pysersic": FitFormat(suffixes=("_pysersic.npz",), write=_write_pysersic, joint=False),
    "statmorph": FitFormat(suffixes=("_statmorph.npz",), write=_write_statmorph, joint=False),
    "npz": FitFormat(suffixes=(".npz",), write=_write_npz),
}
"""Who writes each format, and the ends of its files' names; ``_psf.fits`` only where there is a PSF."""
