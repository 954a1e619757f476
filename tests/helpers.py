"""What several test files need: small images, sources, catalogues, logs and PSFs of known content, and their files."""

from __future__ import annotations

import csv
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, NDData
from astropy.table import QTable
from astropy.wcs import WCS, NoConvergence
from numpy.typing import ArrayLike, NDArray
from scipy.stats import median_abs_deviation

from dja_photplug.calibration.curve import NoiseCalibration
from dja_photplug.catalog.eazy import EAZY_FILTERS
from dja_photplug.catalog.metadata import make_metadata
from dja_photplug.catalog.schema import describe_columns, dress_table
from dja_photplug.cli.app import main
from dja_photplug.completeness.limits import Places
from dja_photplug.light.mesh import Background
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.options.run import Options
from dja_photplug.options.stages import MeasureOptions, VarianceOptions
from dja_photplug.parallel.workers import Item, Outcome
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, SimulatedMosaic, simulate_mosaic, simulate_scene
from dja_photplug.sky.grid import header_wcs, pixel_scale
from dja_photplug.sources.detection import DETECTION_COLUMNS, Detection

SCALE = 0.04  # arcsec
BANDS = ("f444w", "f115w")
DJA = Options(variance=VarianceOptions(noise="dja"))  # without a(r), which takes most of the time
AS_IS = MeasureOptions(background="none", neighbours="mask")  # nothing taken off
SOURCE_NAMES = (
    "id ra dec x y a b theta npix snr_detect kron_radius flux_radius flux_auto fluxerr_auto mag_auto magerr_auto "
    "flux_iso fluxerr_iso flag mask_frac"
)
EPOCH_NAMES = ["n_exp", "exptime", "mjd_mean", "mjd_min", "mjd_max", "n_visit"]
DETECTOR_PIXEL = 1.5e-5  # deg; the CD of made-up detectors
JWST_HEADER = {
    "TELESCOP": "JWST",
    "DETECTOR": "NRCALONG",
    "BUNIT": "10.0*nanoJansky",
    "PHOTMJSR": 0.3925,
    "PHOTSCAL": 1.0014,
    "PHOTFNU": 1e-8,
    "OPHOTFNU": 9.30775e-8,
}


# ---- images


def make_wcs(
    scale: float = SCALE,
    crpix: Sequence[float] = (50.5, 50.5),
    angle: float = 0.0,
    crval: Sequence[float] = (34.3, -5.1),
    mirrored: bool = False,
) -> WCS:
    """Return a tangent plane with pixels of `scale` arcsec, its north `angle` degrees counter-clockwise of up."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ("RA---TAN", "DEC--TAN"), crval, crpix
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = np.array([[-cos, -sin], [-sin, cos]])
    wcs.wcs.cd = scale / 3600 * (turned @ np.diag([-1, 1]) if mirrored else turned)
    return wcs


def by_pickles(work: Callable[[Item], Outcome], items: Iterable[Item]) -> Iterator[Outcome]:
    """As processes do it: what works is pickled, and its results."""
    return (pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(work))(item))) for item in items)


def make_image(
    data: ArrayLike,
    weight: ArrayLike = 1.0,
    background: ArrayLike | None = None,
    wcs: WCS | None = None,
    meta: Mapping[str, Any] | None = None,
) -> CCDData:
    """Return float32 planes in 10 nJy, null where the weight is 0; with a background weight as a MosaicImage."""
    data = np.asarray(data, np.float32)
    weight = np.broadcast_to(np.asarray(weight, np.float32), data.shape).copy()
    wcs = make_wcs() if wcs is None else wcs
    planes = {"unit": "10 nJy", "uncertainty": InverseVariance(weight), "mask": weight == 0, "wcs": wcs, "meta": meta}
    if background is None:
        return CCDData(data, **planes)
    background = np.broadcast_to(np.asarray(background, np.float32), data.shape).copy()
    return MosaicImage(data, background_weight=background, **planes)


def gaussian(
    shape: tuple[int, int], x: float, y: float, sigma: float | tuple[float, float], peak: float = 1.0
) -> NDArray[np.float64]:
    """Return a Gaussian around a pixel; sigma in pixels, one for both axes or (x, y)."""
    rows, columns = np.indices(shape)
    sigma_x, sigma_y = np.broadcast_to(sigma, 2)
    return peak * np.exp(-(((columns - x) / sigma_x) ** 2 + ((rows - y) / sigma_y) ** 2) / 2)


def write_psf(path: Path, sigma: float, size: int, scale: float = SCALE, total: float = 1.0) -> Path:
    """Write a Gaussian PSF (`sigma`, `scale` in arcsec) in the middle of a stamp whose pixels add up to `total`."""
    pixels = gaussian((size, size), (size - 1) / 2, (size - 1) / 2, sigma / scale)
    fits.writeto(path, (total * pixels / pixels.sum()).astype(np.float32), fits.Header({"PIXSCL": scale}))
    return path


def read_uds(data: Path) -> CCDData:
    """Return the real F444W mosaic of UDS with the wht as its weight."""
    science, header = fits.getdata(f"{uds_prefix(data)}_drc_sci.fits.gz", header=True)
    return make_image(science, fits.getdata(f"{uds_prefix(data)}_drc_wht.fits.gz"), wcs=header_wcs(header))


# ---- sources


def flat_sky(image: NDData) -> Background:
    """Return a background of 0."""
    return Background(level=np.zeros(image.data.shape, np.float32))


def make_detection(
    shape: tuple[int, int],
    segmentation: NDArray[np.int32] | None = None,
    *,
    x: ArrayLike,
    y: ArrayLike,
    a: ArrayLike = 3.0,
    b: ArrayLike = 3.0,
    wcs: WCS | None = None,
    **columns: Any,
) -> Detection:
    """Return sources at given pixels, with axes in pixels; without a segmentation no pixel is theirs."""
    number = np.size(x)
    wcs = make_wcs() if wcs is None else wcs
    axes = {name: np.broadcast_to(axis, number) * pixel_scale(wcs) for name, axis in {"a": a, "b": b}.items()}
    counts = {"id": np.arange(1, number + 1), "npix": np.ones(number)}
    zeros = dict.fromkeys(("ra", "dec", "theta", "flag"), np.zeros(number))
    sources = dress_table(zeros | counts | axes | {"x": x, "y": y} | columns, DETECTION_COLUMNS)
    segmentation = np.zeros(shape, np.int32) if segmentation is None else segmentation
    return Detection(sources=sources, segmentation=segmentation, wcs=wcs)


def make_calibration(
    factor: ArrayLike,
    radius: Sequence[float] = (0.1, 0.2, 0.4, 0.8, 1.6),
    edges: Sequence[float] = (),
    error: float = 0.02,
) -> NoiseCalibration:
    """Return an a(r) of given factors, (radii,) or (zones, radii), with a relative error."""
    factor = np.atleast_2d(np.asarray(factor, float))
    return NoiseCalibration(
        radius=np.array(radius, float),
        measured=factor,
        measured_error=error * factor,
        factor=factor,
        n_effective=np.full(factor.shape, 4000.0),
        offset=np.zeros(factor.shape),
        edges=np.array(edges, float),
        note="",
    )


def make_catalog(n: int = 3, apertures: int = 2) -> QTable:
    """Return a catalogue with all columns and metadata, whose values count the rows."""
    specs = describe_columns(apertures, epochs=True)
    table = dress_table({spec.name: np.arange(n) + 0.5 for spec in specs}, specs)
    table["mag_auto"][1] = np.nan
    diameters = tuple(0.5 + 0.1 * i for i in range(apertures))
    table.meta.update(make_metadata(Options(measure=MeasureOptions(apertures=diameters))))
    table.meta["PRESET"] = "dja"
    return table


def make_injected(
    mag: ArrayLike,
    recovered: ArrayLike,
    blended: ArrayLike | None = None,
    true: ArrayLike = 1.0,
    flux: ArrayLike = 1.0,
    error: ArrayLike = 1.0,
) -> QTable:
    """Return what became of injected sources, all over 1000 x 1000 pixels of one depth, with fluxes in uJy."""
    n = len(mag)
    rng = np.random.default_rng(11)
    columns = {"flux_true": true, "flux": flux, "fluxerr": error}
    table = QTable({name: np.broadcast_to(value, n) * u.uJy for name, value in columns.items()})
    table["mag"] = np.asarray(mag) * u.mag
    table["recovered"] = np.asarray(recovered, bool)
    table["blended"] = np.zeros(n, bool) if blended is None else np.asarray(blended, bool)
    table["x"], table["y"] = rng.uniform(0, 1000, (2, n)) * u.pix
    table["depth"], table["zone"] = np.zeros(n) * u.mag, np.ones(n, int)
    return table


def make_places(depth: ArrayLike = 0.0, zone: ArrayLike = 0, host: ArrayLike = -np.inf) -> Places:
    """Return the middles of 100 x 100 squares of 10 x 10 pixels, by default of one depth and without sources."""
    y, x = (axis.ravel() * 10.0 + 4.5 for axis in np.indices((100, 100)))
    columns = {"depth": depth, "zone": zone, "host": host}
    return Places(x=x, y=y, **{name: np.broadcast_to(np.asarray(value), len(x)) for name, value in columns.items()})


def plain(column: Any) -> NDArray[Any]:
    """Return the values of a column without its unit."""
    return np.asarray(getattr(column, "value", column))


def robust_scatter(values: ArrayLike) -> float:
    """Return the standard deviation of a Gaussian with the same median absolute deviation."""
    return float(median_abs_deviation(values, scale="normal"))


def write_eazy_inputs(folder: Path) -> dict[str, str]:
    """Write top-hat filters for all numbers, two power-law templates and a template error: eazy-py comes without."""
    wave = 3000 + 100.0 * np.arange(max(EAZY_FILTERS.values()))
    filters = [
        f"4 tophat-{i} lambda_c= {w:.1f}\n1 {w - 51} 0\n2 {w - 50} 1\n3 {w + 50} 1\n4 {w + 51} 0\n"
        for i, w in enumerate(wave, start=1)
    ]
    (folder / "FILTER.RES").write_text("".join(filters))
    for name, slope in (("flat", 0), ("blue", -2)):
        grid = np.geomspace(100, 1e6, 300)
        np.savetxt(folder / f"{name}.dat", np.transpose([grid, (grid / 5500) ** slope]))
    (folder / "sed.param").write_text("1 flat.dat 1.0\n2 blue.dat 1.0\n")
    (folder / "error.def").write_text("100 0.01\n1000000 0.01\n")
    return {"FILTERS_RES": "FILTER.RES", "TEMPLATES_FILE": "sed.param", "TEMP_ERR_FILE": "error.def"}


# ---- exposure logs


def make_row(**changes: Any) -> dict[str, Any]:
    """Return one exposure of 1000 x 800 pixels of 0.054 arcsec without distortion."""
    row = {
        "file": "jw01837001001_04201_00001_nrcalong_rate.fits",
        "ext": 1,
        "exptime": 100.9,
        "crpix1": 500.5,
        "crpix2": 400.5,
        "cd1_1": -DETECTOR_PIXEL,
        "cd1_2": 0.0,
        "cd2_1": 0.0,
        "cd2_2": DETECTOR_PIXEL,
        "ctype1": "RA---TAN-SIP",
        "ctype2": "DEC--TAN-SIP",
        "crval1": 150.0,
        "crval2": 2.0,
        "lonpole": 180.0,
        "mjd-beg": 60000.0,
        "mjd-avg": 60000.5,
        "mjd-end": 60001.0,
        "naxis1": 1000,
        "naxis2": 800,
    }
    return row | changes


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a log of rows whose columns may differ; absent cells are empty, as in the archive's stacked logs."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def row_wcs(row: Mapping[str, Any]) -> WCS:
    """Return astropy's own WCS of one row of a log."""
    header = fits.Header()
    for column, cell in row.items():
        key = column.upper()
        if cell != "" and key.startswith(("CTYPE", "CUNIT", "RADESYS")):
            header[key] = cell
        elif cell != "" and key.startswith(("CR", "CD", "PC", "A_", "B_", "LONPOLE", "LATPOLE")):
            header[key] = int(cell) if key.endswith("ORDER") else float(cell)
    wcs = WCS(header)
    wcs.pixel_shape = int(row["naxis1"]), int(row["naxis2"])
    return wcs


def contain_plainly(wcs: WCS, coords: SkyCoord) -> NDArray[np.bool_]:
    """Return membership by `WCS.all_world2pix`; without ``NoConvergence`` it would return pixels it never found."""
    try:
        pixels = wcs.all_world2pix(np.c_[coords.ra.deg, coords.dec.deg], 0)
    except NoConvergence as failure:  # far from the detector, where the polynomial cannot be inverted
        pixels = failure.best_solution.copy()
        for lost in (failure.divergent, failure.slow_conv):
            if lost is not None:
                pixels[lost] = np.nan
    return np.all((pixels >= -0.5) & (pixels < np.subtract(wcs.pixel_shape, 0.5)), axis=1)


def edge_points(wcs: WCS, count: int) -> SkyCoord:
    """Return points along the outer edges of a detector's pixels, by astropy, `count` on each side."""
    nx, ny = wcs.pixel_shape
    along = np.linspace(0, 1, count)
    x = np.concatenate([along * nx, along * 0 + nx, along * nx, along * 0]) - 0.5
    y = np.concatenate([along * 0, along * ny, along * 0 + ny, along * ny]) - 0.5
    return SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg")


# ---- mosaics and their files


def uds_prefix(data: Path, band: str = "f444w") -> Path:
    """Return the prefix of the real mosaic of a band."""
    return data / f"uds/uds-test-v7.4-{band}-clear"


def isolated_scene(**options: Any) -> QTable:
    """Return a scene in F444W of sources that do not overlap, by default half of them stars, alike in magnitude."""
    defaults = {"bands": ("f444w",), "star_fraction": 0.5, "isolated": True, "flux_slope": 0}
    return simulate_scene(SceneOptions(**defaults | options))


def make_stars(scene: QTable, chosen: NDArray[np.bool_]) -> None:
    """Turn sources of a scene into stars."""
    scene["type"][chosen] = "star"
    scene["size"][chosen] = 0
    scene["sersic"][chosen] = 0


def simulate_bands(
    folder: Path, scene: QTable, subsamples: Mapping[str, int], **options: Any
) -> dict[str, SimulatedMosaic]:
    """Simulate a mosaic of each band, with so many pixels on a side of 40 mas."""
    return {
        band: simulate_mosaic(folder, scene, MosaicOptions(filter=f"{band}-clear", subsample=n, **options))
        for band, n in subsamples.items()
    }


def simulate_isolated(folder: Path) -> SimulatedMosaic:
    """Simulate ``sim-test-v7.4-f444w-clear``, 401 x 530 pixels (N % 4 = 1 and 2), whose sources do not overlap."""
    scene = isolated_scene(shape=(401, 530), n_sources=48, flux_range=(0.1, 50), seed=5)
    return simulate_mosaic(folder, scene, MosaicOptions(root="sim-test-v7.4", n_exposures=3, seed=6))


def copy_products(prefix: Path, folder: Path) -> Path:
    """Copy the products of a mosaic into a folder where a test may spoil them; return their prefix there."""
    for path in prefix.parent.glob(f"{prefix.name}_*"):
        shutil.copy(path, folder)
    return folder / prefix.name


def expect_error(capsys: pytest.CaptureFixture[str], arguments: str, *parts: str) -> None:
    """See a command end with status 1 and one line on stderr that holds all `parts`, and change no file here."""
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    assert main(arguments.split()) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("dja-photplug: ")
    assert captured.err.count("\n") == 1, captured.err
    for part in parts:
        assert part in captured.err, captured.err
    assert captured.out == ""
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before


def need_pyarrow(suffix: str) -> None:
    """Skip a test of parquet where a library for it is missing."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        pytest.importorskip("pandas", reason="astropy reads parquet with pandas")
