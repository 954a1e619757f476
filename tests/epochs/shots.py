"""Made-up exposures of any detector on the sky, and the logs that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, get_sun
from astropy.time import Time
from astropy.wcs import WCS, Sip

from dja_photplug.epochs.log import ExposureLog, read_exposure_log
from tests.helpers import write_rows

SCALE = 0.063 / 3600  # deg
L2 = 1.5e9  # m


@dataclass
class Shot:
    """One row of a log, with the WCS that it is written from."""

    file: str
    wcs: WCS
    ext: int = 1
    exptime: float = 100.0
    begin: float | None = 60000.0
    obsgeo: np.ndarray | None = None
    more: dict = field(default_factory=dict)

    def row(self) -> dict[str, object]:
        """Return the columns of the log."""
        wcs = self.wcs
        (nx, ny), order = wcs.pixel_shape, wcs.sip.a_order if wcs.sip else 0
        row: dict[str, object] = {"file": self.file, "ext": self.ext, "exptime": self.exptime}
        row |= {"naxis1": nx, "naxis2": ny, "ctype1": wcs.wcs.ctype[0], "ctype2": wcs.wcs.ctype[1]}
        row |= {f"crpix{i + 1}": wcs.wcs.crpix[i] for i in (0, 1)} | {f"crval{i + 1}": wcs.wcs.crval[i] for i in (0, 1)}
        row |= {f"cd{i + 1}_{j + 1}": wcs.wcs.cd[i, j] for i, j in np.ndindex(2, 2)}
        if order:
            row |= {"a_order": order, "b_order": order}
            for name, terms in (("a", wcs.sip.a), ("b", wcs.sip.b)):
                row |= {f"{name}_{i}_{j}": terms[i, j] for i, j in np.ndindex(terms.shape) if i + j <= order}
        if self.begin is not None:
            days = self.exptime / 86400
            row |= {f"mjd-{part}": self.begin + days * f for part, f in (("beg", 0), ("avg", 0.5), ("end", 1))}
        if self.obsgeo is not None:
            row |= dict(zip(("obsgeo-x", "obsgeo-y", "obsgeo-z"), self.obsgeo, strict=True))
        return row | self.more


def make_detector(
    ra: float, dec: float, angle: float = 0.0, order: int = 0, seed: int = 0, size=(1000, 800), crpix=None
) -> WCS:
    """Return a detector whose y axis points `angle` deg east of north at its reference pixel."""
    wcs = WCS(naxis=2)
    suffix = "-SIP" if order > 1 else ""
    wcs.wcs.ctype = [f"RA---TAN{suffix}", f"DEC--TAN{suffix}"]
    wcs.wcs.crval = [ra % 360, dec]
    wcs.wcs.crpix = crpix or [size[0] / 2 + 0.5, size[1] / 2 + 0.5]
    cos, sin = SCALE * np.cos(np.radians(angle)), SCALE * np.sin(np.radians(angle))
    wcs.wcs.cd = [[-cos, sin], [sin, cos]]
    if order > 1:
        rng = np.random.default_rng(seed)
        terms = np.zeros((2, order + 1, order + 1))
        for i, j in np.ndindex(order + 1, order + 1):
            if 2 <= i + j <= order:
                terms[:, i, j] = 5 * rng.normal(size=2) / 640 ** (i + j) / (i + j)
        wcs.sip = Sip(*terms, None, None, wcs.wcs.crpix)
    wcs.pixel_shape = size
    wcs.wcs.set()
    return wcs


def write_shots(path: Path, shots: list[Shot]) -> ExposureLog:
    """Write a log of exposures and read it."""
    return read_exposure_log(write_rows(path, [shot.row() for shot in shots]))


def jwst_vector(mjd: float) -> np.ndarray:
    """Return a point near L2, 20 deg off the line from the Sun, m."""
    away = -get_sun(Time(mjd, format="mjd", scale="utc")).cartesian.xyz.value
    away /= np.linalg.norm(away)
    side = np.cross(away, [0, 0, 1])
    return L2 * (np.cos(np.radians(20)) * away + np.sin(np.radians(20)) * side / np.linalg.norm(side))


def jwst_name(visit: int = 1, exposure: int = 1, detector: str = "nrcalong", program: int = 1837) -> str:
    """Return the name of a rate file as JWST gives it."""
    return f"jw{program:05d}001{visit:03d}_02101_{exposure:05d}_{detector}_rate.fits"


FIELDS = [(0.0002, 10.0, 1), (359.9999, -30.0, 2), (77.0, -89.9, 3), (150.0, 2.0, 4), (34.4, -5.2, 5)]


def field_of_shots(ra: float, dec: float, order: int) -> list[Shot]:
    """Return 3 exposures of a detector and 3 of one with two chips, which share a distortion and a reference pixel."""
    rng = np.random.default_rng(order)
    shots = []
    for number in range(3):
        east, north = rng.uniform(-20, 20, 2) / 3600
        place = ra + east / np.cos(np.radians(dec)), max(dec + north, -90.0)
        angle = rng.uniform(0, 360)
        begin, vector = 60000.0 + 40 * number, jwst_vector(60000.0 + 40 * number)
        shots.append(Shot(jwst_name(number + 1), make_detector(*place, angle, order, 1), begin=begin, obsgeo=vector))
        for ext, y in ((1, 430.5), (2, -30.5)):  # the chips are 60 pixels apart
            wcs = make_detector(*place, angle + 40, order, 2, size=(1000, 400), crpix=[500.5, y])
            shots.append(Shot(f"jbhm{number}1d3q_flc.fits", wcs, ext=ext, exptime=500.0 + number, begin=begin + 10))
    return shots


def scatter(ra: float, dec: float, count: int, rng: np.random.Generator) -> SkyCoord:
    """Return positions within 50 arcsec of a place, on the sphere."""
    centre = SkyCoord(ra, dec, unit="deg")
    return centre.directional_offset_by(rng.uniform(0, 360, count) * u.deg, 50 * np.sqrt(rng.random(count)) * u.arcsec)


def gapped_log(tmp_path: Path) -> ExposureLog:
    """Two visits of which the first is in two parts 3 days apart, one undated, and a file with two chips."""
    wcs = make_detector(150, 2)
    shots = [
        Shot(jwst_name(1, 1), wcs, exptime=8640.0, begin=60003.0),
        Shot(jwst_name(1, 2), wcs, exptime=8640.0, begin=60000.0),
        Shot(jwst_name(2, 1, "nis", 2561), wcs, exptime=8640.0, begin=60000.2),
        Shot(jwst_name(3, 1), wcs, begin=None),
        Shot("jbhm51d3q_flc.fits", wcs, exptime=500.0, begin=60100.0),
        Shot("jbhm51d3q_flc.fits", wcs, ext=2, exptime=500.0, begin=60100.0),
    ]
    return write_shots(tmp_path / "x_wcs.csv", shots)
