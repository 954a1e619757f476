"""A catalogue of each kind that is known, of the same sources, as its makers write it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS

from tests.helpers import make_wcs

__all__ = ["MAKERS", "Truth", "make_truth"]

SCALE = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What all catalogues are about: sources on the grid of one image."""

    wcs: WCS
    id: np.ndarray
    x: np.ndarray
    y: np.ndarray
    a: np.ndarray
    b: np.ndarray
    theta: np.ndarray
    kron: np.ndarray
    flux: np.ndarray

    @property
    def position(self) -> SkyCoord:
        return SkyCoord(*self.wcs.pixel_to_world_values(self.x, self.y), unit="deg")

    @property
    def north(self) -> np.ndarray:
        """Position angles in deg, from north to east: of both ends of a pixel along the major axis."""
        angle = np.radians(self.theta)
        end = self.wcs.pixel_to_world_values(self.x + np.cos(angle), self.y + np.sin(angle))
        return self.position.position_angle(SkyCoord(*end, unit="deg")).deg


def make_truth(n: int = 12, angle: float = 41) -> Truth:
    """Return elongated sources; axes in arcsec, scaled Kron radii, fluxes in uJy, pixels counted from 0."""
    random = np.random.default_rng(15)
    a = random.uniform(0.15, 0.5, n)
    return Truth(
        wcs=make_wcs(angle=angle, crval=(34.3, -5.1), crpix=(300.5, 290.5)),
        id=np.arange(n) * 3 + 7,
        x=random.uniform(50, 500, n),
        y=random.uniform(50, 500, n),
        a=a,
        b=a * random.uniform(0.3, 0.7, n),
        theta=random.uniform(-89, 89, n),
        kron=random.uniform(2.5, 3.7, n),
        flux=random.uniform(1, 9, n),
    )


def _sep_columns(truth: Truth) -> dict[str, np.ndarray]:
    """Return grizli's columns, in lower case: pixels, radians, x_image from 1."""
    a, b = truth.a / SCALE, truth.b / SCALE
    columns = {
        "number": truth.id,
        "x": truth.x,
        "y": truth.y,
        "a_image": a,
        "b_image": b,
        "theta_image": np.radians(truth.theta),
        "x_image": truth.x + 1,
        "y_image": truth.y + 1,
        "ra": truth.position.ra.deg,
        "dec": truth.position.dec.deg,
        "kron_radius": truth.kron,
        "kron_rcirc": truth.kron * np.sqrt(a * b),
        "flux_radius": np.full(len(a), 0.3 / SCALE),
        "flux_auto": truth.flux,
        "fluxerr_auto": 0.1 * truth.flux,
    }
    return columns | {f"flux_aper_{i}": truth.flux * (0.4 + 0.1 * i) for i in range(4)}


def _make_grizli(truth: Truth, path: Path, *, names: Callable[[str], str], extra: dict[str, np.ndarray]) -> None:
    table = Table({names(name): values for name, values in (extra | _sep_columns(truth)).items()})
    for name in ("kron_radius", "flux_auto", "flux_aper_0"):
        table[names(name)].unit = "pix" if name == "kron_radius" else "uJy"
    for i, diameter in enumerate((0.36, 0.5, 0.7, 1.0)):
        table.meta |= {f"ASEC_{i}": diameter, f"APER_{i}": diameter / SCALE}
    table.write(path, format="fits")


def make_dja_phot(truth: Truth, path: Path) -> None:
    _make_grizli(truth, path, names=str, extra={"id": truth.id})


def make_dja(truth: Truth, path: Path) -> None:
    _make_grizli(truth, path, names=str, extra={"id": truth.id, "apcorr_0": np.full(len(truth.id), 2.0)})


def make_grizli(truth: Truth, path: Path) -> None:
    _make_grizli(truth, path, names=str.upper, extra={})
    fits.append(path, np.zeros((2, 2)), truth.wcs.to_header())
    with fits.open(path, mode="update") as hdus:
        hdus[-1].name = "WCS"


SEXTRACTOR = {
    "NUMBER": ("Running object number", ""),
    "X_IMAGE": ("Object position along x", "pixel"),
    "Y_IMAGE": ("Object position along y", "pixel"),
    "ALPHA_J2000": ("Right ascension of barycenter (J2000)", "deg"),
    "DELTA_J2000": ("Declination of barycenter (J2000)", "deg"),
    "A_IMAGE": ("Profile RMS along major axis", "pixel"),
    "B_IMAGE": ("Profile RMS along minor axis", "pixel"),
    "THETA_IMAGE": ("Position angle (CCW/x)", "deg"),
    "KRON_RADIUS": ("Kron apertures in units of A or B", ""),
    "FLUX_AUTO": ("Flux within a Kron-like elliptical aperture", "count"),
    "FLUX_RADIUS": ("Fraction-of-light radii", "pixel"),
}
SKY_SHAPES = {
    "A_WORLD": ("Profile RMS along major axis (world units)", "deg"),
    "B_WORLD": ("Profile RMS along minor axis (world units)", "deg"),
    "THETA_J2000": ("Position angle (east of north) (J2000)", "deg"),
}


def _sextractor_columns(truth: Truth, *, world: bool) -> dict[str, np.ndarray]:
    columns = {
        "NUMBER": truth.id,
        "X_IMAGE": truth.x + 1,
        "Y_IMAGE": truth.y + 1,
        "ALPHA_J2000": truth.position.ra.deg,
        "DELTA_J2000": truth.position.dec.deg,
        "A_IMAGE": truth.a / SCALE,
        "B_IMAGE": truth.b / SCALE,
        "THETA_IMAGE": truth.theta,
        "KRON_RADIUS": truth.kron,
        "FLUX_AUTO": truth.flux * 100,
        "FLUX_RADIUS": np.full(len(truth.id), 0.3 / SCALE),
    }
    sky = {"A_WORLD": truth.a / 3600, "B_WORLD": truth.b / 3600, "THETA_J2000": (truth.north + 90) % 180 - 90}
    return columns | (sky if world else {})


def make_ascii_head(truth: Truth, path: Path) -> None:
    columns, told = _sextractor_columns(truth, world=False), SEXTRACTOR
    lines = [
        f"#{i:4} {name:22} {told[name][0]:58}" + (f" [{told[name][1]}]" if told[name][1] else "")
        for i, name in enumerate(columns, start=1)
    ]
    for number, *row in zip(*columns.values(), strict=True):
        lines.append(f"{number:10} " + " ".join(f"{value:.12g}" for value in row))
    path.write_text("\n".join(lines) + "\n")


def _sextractor_hdu(truth: Truth, name: str) -> fits.BinTableHDU:
    columns = _sextractor_columns(truth, world=True)
    hdu = fits.BinTableHDU(Table(columns), name=name)
    for i, column in enumerate(columns, start=1):
        if unit := (SEXTRACTOR | SKY_SHAPES)[column][1]:
            hdu.header[f"TUNIT{i}"] = unit
    return hdu


def make_fits_1(truth: Truth, path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), _sextractor_hdu(truth, "OBJECTS")]).writeto(path)


def make_ldac(truth: Truth, path: Path) -> None:
    cards = np.array([str(card) for card in truth.wcs.to_header().cards] + ["END"], "S80")
    head = fits.Column("Field Header Card", format=f"{80 * len(cards)}A", dim=f"(80, {len(cards)})", array=cards[None])
    imhead = fits.BinTableHDU.from_columns([head], name="LDAC_IMHEAD")
    fits.HDUList([fits.PrimaryHDU(), imhead, _sextractor_hdu(truth, "LDAC_OBJECTS")]).writeto(path)


def make_super(truth: Truth, path: Path) -> None:
    table = Table(
        {
            "id": truth.id,
            "x": truth.x * u.pix,
            "y": truth.y * u.pix,
            "ra": truth.position.ra,
            "dec": truth.position.dec,
            "fauto_f444w": 10 * truth.flux,
            "f_f444w": 11 * truth.flux,
            "tot_cor": np.ones(len(truth.id)),
            "kron_radius": truth.kron,
            "iso_area": np.ones(len(truth.id)),
            "use_aper": np.full(len(truth.id), 0.32) * u.arcsec,
            "a_image": truth.a / SCALE * u.pix,
            "b_image": truth.b / SCALE * u.pix,
            "theta_J2000": truth.theta * u.deg,
            "flux_radius": np.full(len(truth.id), 0.3) * u.arcsec,
            "use_phot": np.ones(len(truth.id), int),
        },
        meta={"PHOT_ZP": 28.9 - 2.5, "PIXSCALE": SCALE},
    )
    table.write(path)


def make_jades(truth: Truth, path: Path, *, release: int = 2) -> None:
    """Of the columns that the releases 2 and 5 list."""
    base = {"ID": truth.id, "RA": truth.position.ra, "DEC": truth.position.dec}
    size = base | {"X": truth.x * u.pix, "Y": truth.y * u.pix, "BBOX_XMIN": truth.id * u.pix, "NPIX_DET": truth.kron}
    size |= {"A": truth.a * u.arcsec, "B": truth.b * u.arcsec}
    if release == 5:
        size |= {"THETA": truth.theta * u.deg, "R_KRON_U": truth.kron / 2.5 * u.nJy, "FWHM": truth.a * u.arcsec}
    else:
        size |= {"PA": truth.theta * u.deg, "F444W_RHALF": np.full(len(truth.id), 0.3) * u.arcsec}
    tables = {"FLAG": base, "SIZE": size, "KRON": base | {"F444W_KRON": truth.flux * 1000}}
    hdus = [fits.BinTableHDU(Table(columns), name=name) for name, columns in tables.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


def make_photutils(truth: Truth, path: Path) -> None:
    """As version 3 names it; with the Kron radius, which is not among its default columns."""
    QTable(
        {
            "label": truth.id,
            "x_centroid": truth.x,
            "y_centroid": truth.y,
            "sky_centroid": truth.position,
            "semimajor_axis": truth.a / SCALE * u.pix,
            "semiminor_axis": truth.b / SCALE * u.pix,
            "orientation": truth.theta * u.deg,
            "kron_radius": truth.kron / 2 * u.pix,
            "segment_flux": truth.flux * u.uJy,
            "kron_flux": truth.flux * u.uJy,
        },
        meta={"kron_params": (2.0, 1.4, 0.0)},
    ).write(path, format="ascii.ecsv")


def make_old_photutils(truth: Truth, path: Path) -> None:
    """As version 2 names it, by a script that adds ids and positions, as mophongo does, and leaves out units."""
    table = Table(
        {
            "id": truth.id,
            "x": truth.x,
            "y": truth.y,
            "semimajor_sigma": truth.a / SCALE,
            "semiminor_sigma": truth.b / SCALE,
            "kron_radius": truth.kron / 2.5,
            "orientation": truth.theta,
            "segment_flux": truth.flux,
            "kron_flux": truth.flux,
            "ra": truth.position.ra.deg,
            "dec": truth.position.dec.deg,
        }
    )
    table.write(path, format="ascii.commented_header")


def make_jwst(truth: Truth, path: Path) -> None:
    n = len(truth.id)
    table = QTable(
        {
            "label": truth.id,
            "xcentroid": truth.x,
            "ycentroid": truth.y,
            "sky_centroid": truth.position,
            "aper30_flux": 0.3e-6 * truth.flux * u.Jy,
            "aper_total_flux": 1e-6 * truth.flux * u.Jy,
            "aper_total_flux_err": 1e-7 * truth.flux * u.Jy,
            "isophotal_flux": 1e-6 * truth.flux * u.Jy,
            "isophotal_area": np.ones(n) * u.pix**2,
            "semimajor_sigma": truth.a / SCALE * u.pix,
            "semiminor_sigma": truth.b / SCALE * u.pix,
            "orientation": truth.theta * u.deg,
            "sky_orientation": truth.north * u.deg,
        }
    )
    table.write(path, format="ascii.ecsv")


def _make_ours(truth: Truth, **more: np.ndarray) -> QTable:
    arcsec = {"a": truth.a, "b": truth.b, "flux_radius": np.full(len(truth.a), 0.3)}
    table = QTable({"id": truth.id, "ra": truth.position.ra, "dec": truth.position.dec})
    table["x"], table["y"], table["theta"] = truth.x * u.pix, truth.y * u.pix, truth.theta * u.deg
    for name, values in arcsec.items():
        table[name] = values * u.arcsec
    table["kron_radius"], table["flux_auto"] = truth.kron, truth.flux * u.uJy
    for name, values in more.items():
        table[name] = values
    return table


def make_photplug(truth: Truth, path: Path) -> None:
    _make_ours(truth, flux_iso=truth.flux * u.uJy, mask_frac=0 * truth.flux).write(path)


def make_plain(truth: Truth, path: Path) -> None:
    table = _make_ours(truth)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.write(stream, format="votable")
    path.write_bytes(stream.getvalue())


MAKERS: dict[str, tuple[str, Callable[[Truth, Path], None], str]] = {
    "photplug": ("photplug", make_photplug, "cat.fits"),
    "plain": ("plain", make_plain, "cat.vot"),
    "dja": ("dja", make_dja, "field_phot_apcorr.fits"),
    "dja-phot": ("dja-phot", make_dja_phot, "field_phot.fits"),
    "grizli": ("grizli", make_grizli, "field-f444w-clear.cat.fits"),
    "ASCII_HEAD": ("sextractor", make_ascii_head, "test.cat"),
    "FITS_1.0": ("sextractor", make_fits_1, "test.cat"),
    "FITS_LDAC": ("sextractor", make_ldac, "test.ldac"),
    "super": ("super", make_super, "FIELD_SUPER_catalog.fits"),
    "jades": ("jades", make_jades, "jades.fits"),
    "jades, release 5": ("jades", partial(make_jades, release=5), "jades.fits"),
    "photutils": ("photutils", make_photutils, "sources.txt"),
    "photutils, older": ("photutils", make_old_photutils, "sources.cat"),
    "jwst": ("jwst", make_jwst, "jw01234_cat.ecsv"),
}
"""Schema, maker and file name of each kind."""
