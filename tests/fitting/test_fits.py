"""Fits by imfit, statmorph and pysersic from the files that are written for them: chi-squared, errors, and truth.

By default one mosaic of 16 galaxies; ``--slow`` fits 280 of two mosaics.

What the simulation represents: Sersic indices up to 2.5 and half-light radii of 0.12 to 0.5 arcsec, without noise, are
fitted to 0.3 % of chi-squared and 0.2 sigma at a S/N of 100. Beyond a S/N of 400 the last 1 sigma of the radii and
indices is not noise: the PSF of a drizzled star holds the mosaic pixel, over which codes integrate once more, which
makes radii of 0.15 arcsec 1 % too small; and it changes from place to place with the dither.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.fitting.field import Component
from dja_photplug.fitting.formats import effective_intensity
from dja_photplug.simulate.mosaic import MosaicOptions, SimulatedMosaic, simulate_mosaic
from tests.helpers import isolated_scene, uds_prefix

pytestmark = [pytest.mark.fitters, pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]

MISSING = "needs fitting codes: pip install 'dja_photplug[fitters]'"
Floats = NDArray[np.float64]

SCALE, DETECTOR = 0.04, 0.063  # arcsec
SIZE = 4.0  # arcsec: with a PSF of 25 pixels the code transforms 125 = 5^3 pixels, six times as fast as 141
CELL = 115  # pixels between galaxies
DISK = 3  # of UDS F444W: an isolated galaxy of S/N 190, r_e 0.25 arcsec
EDGE = 50  # pixels, half a stamp


def drizzled_psf(fwhm: float = 0.145, pixfrac: float = 0.75, size: int = 25) -> Floats:
    """The PSF of a drizzled star, averaged over its phase: a Gaussian, and boxes of detector pixel, drop and pixel.

    350 simulated stars of the same exposures, recentred and averaged, have its second moments to 0.1 % and its peak to
    0.2 %. That detectors are turned against the mosaic changes boxes only from the fourth moment on.
    """
    fine = 41  # samples of each pixel
    x = (np.arange(fine * (size + 2)) - fine * (size + 2) // 2) * SCALE / fine
    profile = np.exp(-4 * np.log(2) * (x / fwhm) ** 2)
    frequency = np.fft.rfftfreq(x.size, SCALE / fine)
    boxes = np.sinc(frequency * DETECTOR) * np.sinc(frequency * DETECTOR * pixfrac) * np.sinc(frequency * SCALE)
    sampled = np.fft.irfft(np.fft.rfft(profile) * boxes, x.size)[x.size // 2 % fine :: fine]
    row = sampled[np.argmax(sampled) - size // 2 :][:size]
    return np.outer(row, row) / row.sum() ** 2


def draw_galaxies(side: int, seed: int) -> QTable:
    """side x side galaxies on a grid, of a S/N of 15 to 200 in 6 exposures of 837 s."""
    number = side**2
    shape, rng = (side * CELL, side * CELL), np.random.default_rng(seed)
    scene = isolated_scene(shape=shape, n_sources=number, star_fraction=0, flux_range=(0.13, 1.0), seed=seed)
    scene["size"] = np.geomspace(0.12, 0.5, number)[rng.permutation(number)] * u.arcsec
    scene["sersic"] = rng.choice([0.5, 1.0, 1.5, 2.5], number)
    return scene


def observe(folder: Path, scene: QTable, **observing: float) -> tuple[SimulatedMosaic, dp.Result]:
    """Return a mosaic of 6 exposures and its catalogue, with the PSF beside it."""
    options = MosaicOptions(root="sim-fits-v1", n_exposures=3, compress=False, seed=1, **observing)
    mosaic = simulate_mosaic(folder, scene, options)
    fits.writeto(folder / "psf.fits", drizzled_psf(), fits.Header({"PIXSCL": SCALE}))
    return mosaic, dp.run([mosaic.prefix])


def match_truth(result: dp.Result, scene: QTable) -> dict[int, Any]:
    """Return the rows of the scene by id, but for galaxies whose stamp ends with the field: another subject."""
    catalog, places = result.catalog, SkyCoord(scene["ra"], scene["dec"])
    nearest, apart, _ = SkyCoord(catalog["ra"], catalog["dec"]).match_to_catalog_sky(places)
    ny, nx = result.image.data.shape
    inside = np.minimum(catalog["x"].value, nx - catalog["x"].value) > EDGE
    inside &= np.minimum(catalog["y"].value, ny - catalog["y"].value) > EDGE
    rows = np.flatnonzero(inside & (apart < 0.2 * u.arcsec))
    return {int(catalog["id"][row]): scene[nearest[row]] for row in rows}


def write_and_fit(folder: Path, image: Any, result: dp.Result, ids: list[int]) -> list[Fit]:
    """Write the stamps of a mosaic that was loaded with some sigma, and fit each."""
    dp.write_galfit(
        image,
        result.catalog,
        folder,
        ids=ids,
        segmentation=result.detection.segmentation,
        psf=folder.parent / "psf.fits",
        calibration=result.calibration,
        format="imfit",
        size=SIZE,
    )
    return [fit_stamp(folder, str(number)) for number in ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fit by imfit: what it says, and what the header of the stamp says about it.

    ``covariance`` is (J' W J)^-1 of the free parameters ``free``; ``pulls`` are residuals over sigma.
    """

    header: fits.Header
    values: dict[str, float]
    errors: dict[str, float]
    chi_squared: float
    free: list[str]
    covariance: Floats
    pulls: Floats

    @property
    def core_chi_squared(self) -> float:
        """Mean of the squared residuals over sigma within 0.3 arcsec."""
        y, x = np.indices(self.pulls.shape) + 1
        core = np.hypot(x - self.values["X0_1"], y - self.values["Y0_1"]) * SCALE < 0.3
        return float(np.mean(self.pulls[core] ** 2))

    @property
    def magnitude(self) -> float:
        return find_magnitude(self.values)

    @property
    def magnitude_error(self) -> float:
        """From the covariance of all that the total flux depends on."""
        slope = []
        for name in self.free:
            step = 1e-3 * self.errors[name]
            up, down = (find_magnitude(self.values | {name: self.values[name] + sign * step}) for sign in (1, -1))
            slope.append((up - down) / (2 * step))
        return float(np.sqrt(slope @ self.covariance @ slope))


def percentiles(values: NDArray[Any]) -> list[float]:
    return np.percentile(values, [0, 10, 50, 90, 100]).round(2).tolist()


def find_magnitude(values: dict[str, float]) -> float:
    shape = {"radius": values["r_e_1"], "index": values["n_1"], "axis_ratio": 1 - values["ell_1"]}
    of_zero_point = effective_intensity(Component(id=1, x=0, y=0, theta=0, magnitude=28.9, **shape), 28.9)
    return 28.9 - 2.5 * np.log10(values["I_e_1"] / of_zero_point)


def fit_stamp(folder: Path, name: str) -> Fit:
    """Fit with the files as they are written, the starting values and ranges of the .imfit included."""
    pyimfit: Any = pytest.importorskip("pyimfit", reason=MISSING)
    planes = {}
    for kind in ("sci", "sigma", "mask", "psf"):
        # imfit wants doubles of its own byte order.
        planes[kind] = fits.getdata(folder / f"{name}_{kind}.fits").astype(np.float64)
    model = pyimfit.ModelDescription.load(str(folder / f"{name}.imfit"))
    code = pyimfit.Imfit(model, psf=planes["psf"])
    code.fit(planes["sci"], error=planes["sigma"], error_type="sigma", mask=planes["mask"])
    assert code.fitConverged, name
    values, errors = code.getRawParameters(), code.getParameterErrors()
    free = np.flatnonzero(errors)
    good, slopes = planes["mask"] == 0, []
    for i in free:
        step = np.zeros_like(values)
        step[i] = 0.05 * errors[i]
        change = code.getModelImage(newParameters=values + step) - code.getModelImage(newParameters=values - step)
        slopes.append((change / planes["sigma"])[good] / (2 * step[i]))
    jacobian, names = np.array(slopes), code.numberedParameterNames
    return Fit(
        header=fits.getheader(folder / f"{name}_sci.fits"),
        values=dict(zip(names, values.tolist(), strict=True)),
        errors=dict(zip(names, errors.tolist(), strict=True)),
        chi_squared=code.reducedFitStatistic,
        free=[names[i] for i in free],
        covariance=np.linalg.inv(jacobian @ jacobian.T),
        pulls=(planes["sci"] - code.getModelImage(newParameters=values)) / planes["sigma"],
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, slow: bool) -> list[tuple[Fit, Any]]:
    """Fits of galaxies, each with the row of the scene."""
    pytest.importorskip("pyimfit", reason=MISSING)
    side, seeds = (13, (3, 4)) if slow else (4, (3,))
    found: list[tuple[Fit, Any]] = []
    for seed in seeds:
        folder = tmp_path_factory.mktemp("fits")
        mosaic, result = observe(folder, draw_galaxies(side, seed))
        truth = match_truth(result, mosaic.scene)
        found += zip(write_and_fit(folder / "fits", result.image, result, list(truth)), truth.values(), strict=True)
    return found


def compare(fit: Fit, truth: Any) -> list[tuple[float, float]]:
    """Return (fitted - true, formal error) of magnitude, radius and index."""
    values, errors = fit.values, fit.errors
    return [
        (fit.magnitude - truth["f444w_flux"].to_value(u.ABmag), fit.magnitude_error),
        (values["r_e_1"] - truth["size"].value / SCALE, errors["r_e_1"]),
        (values["n_1"] - truth["sersic"], errors["n_1"]),
    ]


def test_chi_squared_is_what_the_header_expects(pairs: list[tuple[Fit, Any]]) -> None:
    """CHI2EXP, the squared pixel scatter of empty sky, is known to 5 % from the 8,000 pixels of a stamp."""
    expected = np.array([fit.header["CHI2EXP"] for fit, _ in pairs])
    ratio = np.array([fit.chi_squared for fit, _ in pairs]) / expected
    print(f"\nchi^2/dof / CHI2EXP of {len(ratio)}, percentiles 0 10 50 90 100: {percentiles(ratio)}")
    # The scatter of pixels on empty sky is 0.59 in simulations (docs/errors.md), known to 5 %, its square to 10 %.
    assert np.median(expected) == pytest.approx(0.59**2, rel=0.1)
    assert np.percentile(ratio, [10, 50, 90]) == pytest.approx(1, abs=0.1)


def test_errors_are_the_scatter(pairs: list[tuple[Fit, Any]], slow: bool) -> None:
    """With ERRFACT 0.8 to 1.25 over all; of a few galaxies, within 3 times the sampling error of it."""
    differences = np.array([compare(fit, truth) for fit, truth in pairs])
    factors = np.array([fit.header["ERRFACT"] for fit, _ in pairs])
    pulls = differences[..., 0] / differences[..., 1] / factors[:, None]
    signal = 2.5 / np.log(10) / differences[:, 0, 1]
    print(f"\nS/N {percentiles(signal)}, ERRFACT {percentiles(factors)}")
    print("| S/N | n | scatter/error of magnitude, radius, index | sampling error | medians |")
    edges = [0, 30, 60, 120, np.inf] if slow else []
    for low, high in [(0, np.inf), *pairwise(edges)]:
        some = pulls[(signal >= low) & (signal < high)]
        scatter, sampling = median_abs_deviation(some, axis=0, scale="normal"), SCATTER_ERROR / np.sqrt(len(some))
        median = np.median(some, axis=0)
        print(f"| {low} to {high} | {len(some)} | {scatter.round(2)} | {sampling:.2f} | {median.round(2)} |")
        allowed = 0 if slow and (low, high) == (0, np.inf) else 3 * sampling
        assert ((0.8 - allowed < scatter) & (scatter < 1.25 + allowed)).all(), (low, high)
        # A median is known to 1.25 sigma / sqrt(n); the bright ones are biased by what the module's docstring says.
        assert abs(median).max() < (0.5 if low >= 60 else 0.25) + 3 * 1.25 / np.sqrt(len(some)), (low, high)
    assert len(pulls) >= (250 if slow else 10)


def test_imfit_does_not_rescale_its_errors(pairs: list[tuple[Fit, Any]]) -> None:
    """They are the roots of (J' W J)^-1, not times chi-squared per degree of freedom, which is 0.36."""
    roots = [np.sqrt(np.diag(fit.covariance)) for fit, _ in pairs]
    errors = [[fit.errors[name] for name in fit.free] for fit, _ in pairs]
    ratio = np.concatenate(errors) / np.concatenate(roots)
    print(f"\npyimfit's errors by those of (J' W J)^-1: {percentiles(ratio)}")
    # Both derivatives are finite differences; where a profile is cuspy and faint they differ.
    assert np.percentile(ratio, [10, 50, 90]) == pytest.approx(1, abs=0.02)


def test_sigma_of_bright_galaxies_needs_their_photons(tmp_path: Path) -> None:
    """Short exposures of a dark sky, in which photons are most of the noise in the core at a S/N of 300.

    In long ones they are at a S/N of 1000 only, where the artefacts of drizzling are as large as the noise.
    """
    pytest.importorskip("pyimfit", reason=MISSING)
    scene = draw_galaxies(4, 5)
    for name, value in {"f444w_flux": 5 * u.uJy, "size": 0.5 * u.arcsec, "sersic": 0.5}.items():
        scene[name] = value
    mosaic, result = observe(tmp_path, scene, exposure_time=55.0, sky=0.1, read_noise=3.0)
    ids = list(match_truth(result, mosaic.scene))
    background = dp.load_mosaic(mosaic.prefix, noise="background")
    ratios = {}
    for name, image in (("full", result.image), ("wht", background)):
        found = write_and_fit(tmp_path / name, image, result, ids)
        expected = np.array([fit.header["CHI2EXP"] for fit in found])
        whole = np.array([fit.chi_squared for fit in found]) / expected
        core = np.array([fit.core_chi_squared for fit in found]) / expected
        ratios[name] = np.median(whole), np.median(core)
        print(f"\n{name}: chi^2/dof / CHI2EXP {percentiles(whole)}, within 0.3 arcsec {percentiles(core)}")
    assert ratios["full"][0] == pytest.approx(1, abs=0.1)
    # Half of the core's pixels are known to 10 %; drizzling's artefacts add up to 0.3 at a S/N of 200.
    assert ratios["full"][1] == pytest.approx(1, abs=0.2)
    assert ratios["wht"][0] > 1.2
    assert ratios["wht"][1] > 3


@pytest.fixture(scope="module")
def uds(data: Path) -> dp.Result:
    return dp.run([uds_prefix(data)])


def write_real(uds: dp.Result, data: Path, folder: Path, number: int, **settings: Any) -> dict[str, NDArray[Any]]:
    (path,) = dp.write_galfit(
        uds.image,
        uds.catalog,
        folder,
        ids=[number],
        segmentation=uds.detection.segmentation,
        psf=data / "uds/psf-ceers-nrca5-f444w.fits",
        calibration=uds.calibration,
        **settings,
    )
    with np.load(path) as planes:
        return dict(planes)


@pytest.mark.filterwarnings("ignore")  # pysersic's own, and those of its dependencies
def test_pysersic_takes_its_stamp(uds: dp.Result, data: Path, tmp_path: Path) -> None:
    """A stamp smaller than the PSF, of which pysersic would refuse a larger one; and a mask that it understands."""
    pysersic = pytest.importorskip("pysersic", reason=MISSING)
    priors = pytest.importorskip("pysersic.priors", reason=MISSING)
    random = pytest.importorskip("jax.random", reason=MISSING)
    stamp = write_real(uds, data, tmp_path, DISK, format="pysersic", size=2.0)
    assert stamp["psf"].shape == stamp["data"].shape == (51, 51)
    prior = priors.autoprior(image=stamp["data"], profile_type="sersic", mask=stamp["mask"], sky_type="none")
    fit = pysersic.FitSingle(**stamp, prior=prior, loss_func=pysersic.loss.gaussian_loss)
    best = fit.find_MAP(rkey=random.PRNGKey(1), return_model=False)
    assert all(np.isfinite(value).all() for value in best.values())
    row = uds.catalog[uds.catalog["id"] == DISK][0]
    flux = row["flux_auto"].to_value("10 nJy")
    assert float(best["flux"]) == pytest.approx(flux, rel=0.1)  # beyond the Kron ellipse are a few per cent
    assert (float(best["xc"]), float(best["yc"])) == pytest.approx((25, 25), abs=0.7)
    assert float(best["ellip"]) == pytest.approx(0.54, abs=0.03)  # statmorph and imfit


@pytest.mark.filterwarnings("ignore")  # statmorph's own
def test_statmorph_takes_its_stamp(uds: dp.Result, data: Path, tmp_path: Path) -> None:
    statmorph = pytest.importorskip("statmorph", reason=MISSING)
    (found,) = statmorph.source_morphology(**write_real(uds, data, tmp_path, DISK, format="statmorph"))
    assert (found.flag, found.flag_sersic) == (0, 0)
    for name in ("gini", "m20", "concentration", "asymmetry", "smoothness", "rpetro_circ", "sersic_n"):
        assert np.isfinite(getattr(found, name)), name
    # Its weightmap is sigma: the mean S/N of the pixels says whether it was taken so.
    assert 10 < found.sn_per_pixel < 40
    assert found.sersic_ellip == pytest.approx(0.54, abs=0.03)  # imfit and pysersic
