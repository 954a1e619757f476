"""Fit a bright galaxy of UDS F444W with imfit, and draw data, model and what is left.

Needs pyimfit (the extra `fitters`) and the UDS cut-outs:

DJA_PHOTPLUG_DATA=folder python docs/scripts/fit_galaxy.py docs/images/uds-f444w-fit.png
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyimfit
from astropy.io import fits
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure

import dja_photplug as dp
from dja_photplug.fitting.field import Component
from dja_photplug.fitting.formats import effective_intensity
from dja_photplug.sky.grid import header_wcs, pixel_scale

MOSAIC, PSF = "uds/uds-test-v7.4-f444w-clear", "uds/psf-ceers-nrca5-f444w.fits"
TARGET = 69  # an early-type galaxy of 21.5 mag, 1.1 arcsec from the next segment
SHOWN = 2.0  # arcsec around the target
CORE = 2  # half-light radii: within, chi-squared shows how well a Sersic profile does


def write_files(data: Path, folder: Path) -> None:
    """Write the stamp of the target for imfit."""
    result = dp.run([data / MOSAIC])
    dp.write_galfit(
        result.image,
        result.catalog,
        folder,
        ids=[TARGET],
        segmentation=result.detection.segmentation,
        psf=data / PSF,
        calibration=result.calibration,
        format="imfit",
    )


def fit(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, float], float]:
    """Return planes (with the model), parameters, formal errors and chi-squared per degree of freedom."""
    planes = {kind: fits.getdata(folder / f"{TARGET}_{kind}.fits").astype(float) for kind in KINDS}
    code = pyimfit.Imfit(pyimfit.ModelDescription.load(str(folder / f"{TARGET}.imfit")), psf=planes["psf"])
    code.fit(planes["sci"], error=planes["sigma"], error_type="sigma", mask=planes["mask"])
    planes["model"] = code.getModelImage()
    names = code.numberedParameterNames
    values, errors = (
        dict(zip(names, numbers.tolist(), strict=True))
        for numbers in (code.getRawParameters(), code.getParameterErrors())
    )
    return planes, values, errors, code.reducedFitStatistic


KINDS = ("sci", "sigma", "mask", "psf")


def describe(
    planes: dict[str, np.ndarray], values: dict[str, float], errors: dict[str, float], reduced: float, header: Any
) -> str:
    """Return the numbers of the fit, for the caption."""
    shape = {"radius": values["r_e_1"], "index": values["n_1"], "axis_ratio": 1 - values["ell_1"]}
    unit = effective_intensity(
        Component(id=1, x=0, y=0, theta=0, magnitude=header["ZEROPNT"], **shape), header["ZEROPNT"]
    )
    magnitude = header["ZEROPNT"] - 2.5 * np.log10(values["I_e_1"] / unit)
    y, x = np.indices(planes["sci"].shape) + 1
    core = np.hypot(x - values["X0_1"], y - values["Y0_1"]) < CORE * values["r_e_1"]
    residual = planes["sci"] - planes["model"]
    pulls, expected = (residual / planes["sigma"])[core], header["CHI2EXP"]
    scale, factor = pixel_scale(header_wcs(header)), header["ERRFACT"]
    radius, radius_error = (parameters["r_e_1"] * scale for parameters in (values, errors))
    rest, peak = residual[core].sum() / planes["sci"][core].sum(), abs(residual[core]).max() / planes["sci"].max()
    return (
        f"id {TARGET}: {magnitude:.2f} mag, n = {values['n_1']:.2f} +- {errors['n_1'] * factor:.2f}, r_e = "
        f"{radius:.3f} +- {radius_error * factor:.3f} arcsec, b/a = {1 - values['ell_1']:.2f}; errors are the formal "
        f"ones times {factor:.2f}\nchi^2/dof = {reduced:.3f}, {reduced / expected:.2f} times the {expected:.3f} of a "
        f"perfect fit; within {CORE} r_e {np.mean(pulls**2) / expected:.1f} times; residuals there: sum {rest:+.1%}, "
        f"at most {peak:.0%} of the peak"
    )


def draw(planes: dict[str, np.ndarray], scale: float, title: str) -> Figure:
    """Return data and model on one scale, and the residual in 10 nJy and in sigma."""
    middle, half = planes["sci"].shape[0] // 2, round(SHOWN / scale)
    window = np.s_[middle - half : middle + half + 1, middle - half : middle + half + 1]
    noise = float(np.median(planes["sigma"][planes["mask"] == 0]))
    light = AsinhNorm(linear_width=2 * noise, vmin=-3 * noise, vmax=float(planes["sci"][window].max()))
    residual = planes["sci"] - planes["model"]
    panels: list[tuple[str, np.ndarray, Normalize, str]] = [
        ("science (10 nJy)", planes["sci"], light, "viridis"),
        ("Sersic model (10 nJy)", planes["model"], light, "viridis"),
        ("residual (10 nJy)", residual, Normalize(-20 * noise, 20 * noise), "RdBu_r"),
        ("residual / sigma", residual / planes["sigma"], Normalize(-10, 10), "RdBu_r"),
    ]
    figure = Figure(figsize=(13, 4.3))
    for i, (label, image, norm, colours) in enumerate(panels):
        axes = figure.add_axes((0.055 + 0.24 * i, 0.2, 0.215, 0.65))
        shown = np.ma.masked_array(image, planes["mask"] > 0)[window]
        side = (half + 0.5) * scale
        drawn = axes.imshow(shown, origin="lower", norm=norm, cmap=colours, extent=(-side, side, -side, side))
        axes.set_facecolor("#C8D4E3")
        axes.set_title(label, fontsize=10)
        if i:
            axes.tick_params(labelleft=False)
        bar = figure.add_axes((0.055 + 0.24 * i, 0.1, 0.215, 0.03))
        ticks = [0, 0.1, 1, 10] if norm is light else None
        figure.colorbar(drawn, cax=bar, orientation="horizontal", ticks=ticks, format="%g" if ticks else None)
    figure.axes[0].set_ylabel("arcsec")
    figure.text(0.055, 0.95, title, fontsize=12, weight="bold")
    return figure


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        stamps = Path(temporary) / "imfit"
        write_files(Path(os.environ["DJA_PHOTPLUG_DATA"]), stamps)
        first = fits.getheader(stamps / f"{TARGET}_sci.fits")
        fitted = fit(stamps)
    print(describe(*fitted, first))
    figure = draw(fitted[0], 0.04, f"UDS F444W, id {TARGET}: Sersic fit by imfit")
    figure.savefig(sys.argv[1], dpi=100)
