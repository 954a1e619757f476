"""Our catalogues in the words of the archive: the columns of its `_phot_apcorr.fits`, in their order."""

from __future__ import annotations

import json

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.foreign.ours import Described, Ours, fill_table
from dja_photplug.units import MOSAIC_ZERO_POINT, magnitude

__all__ = ["to_dja"]

Floats = NDArray[np.float64]

MASKED = 0.2
"""Area fraction without data above which the archive counts a flux as not measured (its code's ``mask_thresh``)."""
NOT_MEASURED = -99.0

# Bits of sep: those of its extraction, and those of its apertures.
EXTRACTION, APERTURE = 0x0F, 0xF0


def to_dja(catalog: QTable) -> QTable:
    """Return the columns of ``_phot_apcorr.fits`` in their order.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        Ours; with the option ``details`` it has all of them.

    Returns
    -------
    `~astropy.table.QTable`
        The same rows; what was not measured has no column.

    Raises
    ------
    PhotplugError
        As `dja_photplug.foreign.ours.Ours`.
    """
    ours = Ours(catalog)
    columns = _describe_detection(ours) | _describe_kron(ours)
    for i in ours.numbers:
        columns |= _describe_aperture(ours, "", i)
    for band in ours.bands:
        for i in ours.numbers:
            columns |= _describe_aperture(ours, f"{band}_", i)
        columns[f"{band}_tot_corr"] = (_find_correction(ours, band), "", f"tot_i / corr_i of {band}")
    for i in ours.numbers:
        columns |= _describe_totals(ours, i)
    known = ours.get("z_spec")
    columns["z_spec"] = (np.full(len(catalog), -1.0) if known is None else known, "", "redshift; -1 where unknown")
    # What eazy-py takes for the magnitude of its prior where there is no F160W: an error of 8 mag, so no weight.
    columns["dummy_err"] = (np.full(len(catalog), 10 ** (-0.4 * (8 - 23.9))), "", "error of dummy_flux")
    columns["dummy_flux"] = (ours.get("flux_auto", "uJy"), "uJy", "flux_auto, for the prior of eazy-py")
    return fill_table(columns, _describe_run(ours))


def _describe_detection(ours: Ours) -> dict[str, Described]:
    """Return what the detection tells: places, shapes, pixels, and isophotal fluxes."""
    a, b, theta = ours.shapes("rad")
    cos, sin, ids = np.cos(theta), np.sin(theta), np.asarray(ours.catalog["id"], np.int32)
    x, y, ra, dec = (
        ours.need(name, unit) for name, unit in (("x", "pix"), ("y", "pix"), ("ra", "deg"), ("dec", "deg"))
    )
    with np.errstate(divide="ignore"):
        narrow, wide = 1 / b**2, 1 / a**2
    threshold, iso = ours.get("thresh", "uJy"), ours.get("flux_iso", "uJy")
    place, pixels = "barycentre", "of pixels, rms of the light"
    return {
        "id": (ids, "", "source number"),
        "thresh": (None if threshold is None else threshold * 100, "", "detection threshold, 10 nJy"),
        **{name: (ours.whole(name), "", text) for name, text in _PIXELS.items()},
        "x": (x, "", f"{place}, 0-based"),
        "y": (y, "", f"{place}, 0-based"),
        "x2_image": ((a * cos) ** 2 + (b * sin) ** 2, "", "second moment"),
        "y2_image": ((a * sin) ** 2 + (b * cos) ** 2, "", "second moment"),
        "xy_image": ((a**2 - b**2) * sin * cos, "", "second moment"),
        **{
            name: (ours.get(name, "pix2"), "", f"moment of the {place}'s error") for name in ("errx2", "erry2", "errxy")
        },
        "a_image": (a, "", f"major axis, {pixels}"),
        "b_image": (b, "", f"minor axis, {pixels}"),
        "theta_image": (theta, "", "angle of the major axis from +x, radians"),
        "cxx_image": (cos**2 * wide + sin**2 * narrow, "", "of the ellipse"),
        "cyy_image": (sin**2 * wide + cos**2 * narrow, "", "of the ellipse"),
        "cxy_image": (2 * cos * sin * (wide - narrow), "", "of the ellipse"),
        **{name: (ours.get(name, "uJy"), "uJy", text) for name, text in _LIGHT.items()},
        **{name: (ours.whole(name), "", "brightest pixel, 0-based") for name in ("xcpeak", "ycpeak", "xpeak", "ypeak")},
        "flag": (ours.flags("flag", EXTRACTION), "", "flags of sep.extract"),
        "x_image": (x + 1, "", f"{place}, 1-based"),
        "y_image": (y + 1, "", f"{place}, 1-based"),
        "number": (ids, "", "source number"),
        "ra": (ra, "deg", "right ascension"),
        "dec": (dec, "deg", "declination"),
        "x_world": (ra, "deg", "right ascension"),
        "y_world": (dec, "deg", "declination"),
        "flux_iso": (iso, "uJy", "isophotal flux"),
        "fluxerr_iso": (ours.get("fluxerr_iso", "uJy"), "uJy", "its error"),
        "area_iso": (ours.whole("npix"), "", "pixels of the source"),
        "mag_iso": (None if iso is None else magnitude(iso, iso)[0], "mag", "AB magnitude of flux_iso"),
    }


_PIXELS = {
    "npix": "pixels of the source",
    "tnpix": "of these above the threshold before smoothing",
    **{f"{axis}{end}": f"{end}imum {axis} of its pixels, 0-based" for axis in "xy" for end in ("min", "max")},
}
_LIGHT = {
    "cflux": "sum of the source's smoothed pixels",
    "flux": "sum of the source's pixels",
    "cpeak": "brightest smoothed pixel",
    "peak": "brightest pixel",
}


def _describe_kron(ours: Ours) -> dict[str, Described]:
    """Return what is measured in the Kron aperture of the detection image."""
    a, b, _ = ours.shapes("rad")
    kron, flux, error = ours.get("kron_radius"), ours.get("flux_auto", "uJy"), ours.get("fluxerr_auto", "uJy")
    circle = None if kron is None else kron * np.sqrt(a * b)
    area = None if circle is None else np.pi * np.fmax(circle, ours.smallest) ** 2
    detect = str(ours.catalog.meta.get("DETECT", ""))
    correction = _find_correction(ours, detect) if detect in ours.bands else np.ones(len(ours.catalog))
    mag, magerr = (None, None) if flux is None or error is None else magnitude(flux * correction, error * correction)

    def radius(name: str) -> Floats | None:
        values = ours.get(name, "arcsec")
        return None if values is None else values / ours.scale

    own = "flag_auto" if "flag_auto" in ours.catalog.colnames else "flag"
    return {
        "kron_radius": (kron, "", "scaled and clipped Kron radius in units of a_image and b_image"),
        "kron_rcirc": (circle, "pix", "its circle"),
        "flux_auto": (flux, "uJy", "flux in the Kron aperture"),
        "fluxerr_auto": (error, "uJy", "its error"),
        "bkg_auto": (ours.get("bkg_auto", "uJy"), "uJy", "sky taken off in the Kron aperture"),
        "flag_auto": (ours.flags(own, APERTURE), "", "flags of the Kron aperture"),
        "area_auto": (area, "", "its area, pixels"),
        "flux_radius_flag": (ours.flags("flux_radius_flag", APERTURE), "", "flags of the circle of flux radii"),
        "flux_radius_20": (radius("flux_radius_20"), "", "radius with 20 % of flux_auto, pixels"),
        "flux_radius": (radius("flux_radius"), "", "half-light radius, pixels"),
        "flux_radius_90": (radius("flux_radius_90"), "", "radius with 90 % of flux_auto, pixels"),
        "tot_corr": (correction, "", "light over that in the Kron aperture; 1 where no PSF of the image tells it"),
        "mag_auto": (mag, "mag", "AB magnitude of flux_auto times tot_corr"),
        "magerr_auto": (magerr, "mag", "its error"),
    }


def _describe_aperture(ours: Ours, band: str, i: int) -> dict[str, Described]:
    """Return the columns of an aperture, of the detection image or of a band."""
    inside = f"in the circle of ASEC_{i}"
    sky = ours.get(f"{band}bkg_aper_{i}", "uJy")
    return {
        f"{band}flux_aper_{i}": (ours.get(f"{band}flux_aper_{i}", "uJy"), "uJy", f"flux {inside}"),
        f"{band}fluxerr_aper_{i}": (ours.get(f"{band}fluxerr_aper_{i}", "uJy"), "uJy", "its error"),
        f"{band}flag_aper_{i}": (ours.flags(f"{band}flag_aper_{i}", APERTURE), "", f"flags {inside}"),
        f"{band}bkg_aper_{i}": (np.zeros(len(ours.catalog)) if sky is None else sky, "uJy", f"sky taken off {inside}"),
        f"{band}mask_aper_{i}": (ours.get(f"{band}mask_aper_{i}"), "", f"pixels without data {inside}"),
    }


def _find_correction(ours: Ours, band: str) -> Floats:
    """Return total over corrected fluxes of a band; 1 where they are the same, as without a PSF."""
    names = [name for i in ours.numbers if (name := f"{band}_tot_{i}") in ours.catalog.colnames]
    if not names:
        return np.ones(len(ours.catalog))
    total, corrected = (ours.need(name, "uJy") for name in (names[0], names[0].replace("_tot_", "_corr_")))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total == corrected, 1.0, total / corrected)


def _describe_totals(ours: Ours, i: int) -> dict[str, Described]:
    """Return apcorr_i, and the total fluxes of all bands with -99 where they were not measured."""
    with np.errstate(divide="ignore", invalid="ignore"):
        apcorr = ours.need("flux_auto", "uJy") / ours.need(f"flux_aper_{i}", "uJy")
    columns: dict[str, Described] = {f"apcorr_{i}": (apcorr, "", f"flux_auto / flux_aper_{i}")}
    for band in ours.bands:
        masked, without = ours.get(f"{band}_mask_frac"), ours.get(f"{band}_mask_aper_{i}")
        if without is not None and f"ASEC_{i}" in ours.catalog.meta:
            masked = without / (np.pi * (float(ours.catalog.meta[f"ASEC_{i}"]) / 2 / ours.scale) ** 2)
        for name in ("corr", "ecorr", "tot", "etot"):
            values = ours.get(f"{band}_{name}_{i}", "uJy")
            if values is not None:
                bad = ~np.isfinite(values) | (False if masked is None else ~(masked <= MASKED))
                described = f"{name} of {band}; -99 where not measured or {MASKED:.0%} masked"
                columns[f"{band}_{name}_{i}"] = (np.where(bad, NOT_MEASURED, values), "uJy", described)
    return columns


def _describe_run(ours: Ours) -> dict[str, object]:
    """Return the metadata by their names: detection, sky, weights, apertures; and ours as far as they are others."""
    meta = dict(ours.catalog.meta)
    options = json.loads(str(meta.get("OPTIONS", "{}")))
    measure, detect, bands = (options.get(name, {}) for name in ("measure", "detect", "bands"))
    scaled = float(meta.get("ERRSCALE", 1))
    sky = measure.get("background", "none")
    theirs = {
        "MINAREA": detect.get("n_pixels"),
        "CLEAN": bool(detect.get("clean", 1)),
        "DEBCONT": detect.get("contrast"),
        "DEBTHRSH": detect.get("n_levels"),
        "FILTER_TYPE": detect.get("filter_type"),
        "THRESHOLD": detect.get("n_sigma"),
        "KRONFACT": measure.get("kron_factor"),
        "KRON0": measure.get("kron_min"),
        "KRON1": measure.get("kron_max"),
        "MINKRON": ours.smallest or None,
        "ZP": MOSAIC_ZERO_POINT,
        "GET_BACK": sky != "none",
        "ERR_SCALE": scaled,
        "RESCALEW": scaled != 1,
        "APERMASK": measure.get("neighbours") != "keep",
        "GAIN": measure.get("photon_gain"),
        "TOTALCOL": "flux_auto",
        "EE_CORR": False,
    }
    theirs |= {f"APER_{i}": float(meta[f"ASEC_{i}"]) / ours.scale for i in ours.numbers if f"ASEC_{i}" in meta}
    own = {
        "ZP": MOSAIC_ZERO_POINT,
        "GET_BACK": (bands.get("sky") or sky) != "none",
        "ERR_SCALE": 1.0,
        "RESCALEW": False,
        **{f"asec_{i}": meta[f"ASEC_{i}"] for i in ours.numbers if f"ASEC_{i}" in meta},
    }
    theirs |= {f"{band.upper()}_{key}": value for band in ours.bands for key, value in own.items()}
    return meta | {key: value for key, value in theirs.items() if value is not None}
