"""Print how far photometry in simulated real fields is from the light of each source alone, in units of its error.

python docs/scripts/field_truth.py --density 300 --seeds 1 2 3 4 --options keep/none subtract/mesh subtract/mesh/other

The truth is the source's own light in the very aperture that was measured (its place, its Kron ellipse), summed over
all pixels by exact overlap. A detection is that of the brightest source within 0.3 arcsec. With `/other` sources are
found in one image of a field and measured in another, which has noise of its own, as where bands are detected in one;
with `/true` they are measured at their true places, with `/isophotal` at the barycentres of their segments. With
`--holes` squares of 2 x 2 pixels anywhere have no data, and only apertures with such pixels count. The last column but
those of biases is the scatter of both coordinates about the true ones, in milliarcsec.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import sep
from astropy.table import QTable
from scipy.spatial import KDTree
from scipy.stats import median_abs_deviation

import dja_photplug as dp
from dja_photplug.catalog.kron import kron_apertures
from dja_photplug.completeness.bins import SCATTER_ERROR
from dja_photplug.pipeline.one_band import remeasure
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.simulate.field import FieldOptions, SimulatedField, simulate_field, write_field

MATCH_RADIUS = 0.3  # arcsec
OTHER_NOISE = 10**6  # what is added to the seed of a field for the noise of another image
FAINT = {"< 0.03 uJy": (0, 0.03), "0.03 to 0.1 uJy": (0.03, 0.1), "< 0.1 uJy": (0, 0.1)}
BINS = FAINT | {"0.1 to 1 uJy": (0.1, 1), "> 1 uJy": (1, np.inf), "all": (0, np.inf)}


@dataclass(frozen=True)
class Measured:
    """Sources in one aperture, all (n,): fluxes in uJy."""

    total: np.ndarray  # true, of the source alone
    own: np.ndarray  # of it in the aperture
    flux: np.ndarray
    error: np.ndarray
    kept: np.ndarray  # flux less all that is not of the source, in the pixels that were summed; NaN where not known
    neighbour: np.ndarray  # whether the aperture reaches into segments of others
    dx: np.ndarray  # place less the true one, in milliarcsec
    dy: np.ndarray

    @property
    def pull(self) -> np.ndarray:
        return (self.flux - self.own) / self.error

    @property
    def bias(self) -> np.ndarray:
        return self.kept / self.own - 1


def match(catalog: QTable, field: SimulatedField) -> np.ndarray:
    """Return the row of the source of each detection; -1 for none, and for all but the nearest of several."""
    scale = field.options.pixel_scale
    true = np.column_stack([field.sources[name].value for name in "xy"])
    found = np.column_stack([catalog[name].value for name in "xy"])
    flux = field.sources["flux"].value
    rows = np.full(len(found), -1)
    for i, near in enumerate(KDTree(true).query_ball_point(found, MATCH_RADIUS / scale)):
        if near:
            rows[i] = near[np.argmax(flux[near])]
    distance = np.linalg.norm(found - true[rows], axis=1)
    for row in np.unique(rows[rows >= 0]):
        rivals = np.flatnonzero(rows == row)
        rows[rivals[np.argsort(distance[rivals])[1:]]] = -1
    return rows


def put_right(result: dp.Result, field: SimulatedField) -> dp.Result:
    """Return the photometry of the matched sources at their true places."""
    rows, sources = match(result.catalog, field), result.detection.sources.copy()
    for name in "xy":
        sources[name][rows >= 0] = field.sources[name][rows[rows >= 0]]
    result = replace(result, detection=replace(result.detection, sources=sources))
    return replace(result, catalog=remeasure(result, result.image))


def find_apertures(result: dp.Result, scale: float) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return semi-axes (pixels) and angle (rad) of each aperture that was measured, by the name of its columns."""
    catalog, measure = result.catalog, result.options.measure
    zero = np.zeros(len(catalog))
    apertures = {
        f"aper_{i}": (zero + diameter / 2 / scale, zero + diameter / 2 / scale, zero)
        for i, diameter in enumerate(measure.apertures)
    }
    shapes = (catalog["a"].value, catalog["b"].value, catalog["theta"].to_value("rad"), catalog["kron_radius"].data)
    major, minor, theta, _ = kron_apertures(*shapes, measure.kron_circle)
    return apertures | {"auto": (major / scale, minor / scale, theta)}


def punch_holes(field: SimulatedField, number: int) -> SimulatedField:
    """Return a field with squares of 2 x 2 pixels without data, so many in a square arcmin."""
    options, (ny, nx) = field.options, field.options.shape
    area, rng = nx * ny * (options.pixel_scale / 60) ** 2, np.random.default_rng(options.seed)
    weight, places = field.weight.copy(), rng.integers(0, [nx - 1, ny - 1], (round(number * area), 2))
    for x, y in places:
        weight[y : y + 2, x : x + 2] = 0
    return replace(field, weight=weight, science=np.where(weight > 0, field.science, 0), mask=weight == 0)


def compare(result: dp.Result, field: SimulatedField) -> dict[str, Measured]:
    """Return the matched sources of a run, by aperture; of a field with holes those that have one in it."""
    catalog, rows = result.catalog, match(result.catalog, field)
    use = np.flatnonzero(rows >= 0)
    x, y = (catalog[name].value for name in "xy")
    stamps = [field.own_light(row) for row in rows[use]]
    true = (field.sources[name].value[rows[use]] for name in "xy")
    dx, dy = (1000 * field.options.pixel_scale * (v[use] - place) for v, place in zip((x, y), true, strict=True))
    others, kept = result.detection.segmentation, result.options.measure.neighbours == "keep"
    measured = {}
    for kind, (major, minor, theta) in find_apertures(result, field.options.pixel_scale).items():
        own, given, masked = np.zeros((3, len(use)))
        for k, (i, (window, stamp)) in enumerate(zip(use, stamps, strict=True)):
            where = (x[i] - window[1].start, y[i] - window[0].start, major[i], minor[i], theta[i])
            strange = (others[window] > 0) & (others[window] != catalog["id"][i])
            own[k] = sum_ellipse(stamp, *where)
            masked[k] = sum_ellipse(strange.astype(float), *where)
            given[k] = sum_ellipse(np.where(strange & (not kept), 0, field.science[window] - stamp), *where)
        flux, error = (catalog[f"{name}_{kind}"].value[use] for name in ("flux", "fluxerr"))
        clear = 1 - masked / (np.pi * major[use] * minor[use]) * (not kept)
        sky, light = (find_taken(result, kind, name)[use] for name in ("bkg_aper", "contam"))
        left = flux - given / 100 + sky * clear + light * flux
        total = field.sources["flux"].value[rows[use]]
        known = np.isfinite(flux) & (error > 0)
        if field.mask.any():
            known &= np.asarray(catalog[f"flag_{kind}".removesuffix("_auto")])[use] & int(dp.SourceFlag.NULL_WEIGHT) > 0
        columns = (total, own / 100, flux, error, left, masked > 0.01, dx, dy)  # own light is in 10 nJy
        measured[kind] = Measured(*(column[known] for column in columns))
    return measured


def find_taken(result: dp.Result, kind: str, name: str) -> np.ndarray:
    """Return a column of what was taken off in an aperture; NaN where the catalogue does not tell."""
    catalog, measure, name = result.catalog, result.options.measure, kind.replace("aper", name)
    if name in catalog.colnames:
        return np.asarray(getattr(catalog[name], "value", catalog[name]))
    nothing = measure.background == "none" if "bkg" in name else measure.neighbours != "subtract"
    return np.full(len(catalog), 0 if nothing else np.nan)


def sum_ellipse(image: np.ndarray, x: float, y: float, major: float, minor: float, theta: float) -> float:
    """Return the sum over an ellipse by exact overlap."""
    image = np.ascontiguousarray(image)
    if major == minor:
        return float(sep.sum_circle(image, [x], [y], major, subpix=0)[0][0])
    # A rounding error above pi/2 is an error to sep.
    theta = float(np.clip(theta, -np.pi / 2, np.pi / 2))
    return float(sep.sum_ellipse(image, [x], [y], [major], [minor], [theta], r=1.0, subpix=0)[0][0])


def join(parts: Iterable[Measured]) -> Measured:
    """Return the sources of several fields together."""
    fields = list(parts)
    return Measured(*(np.concatenate([getattr(field, name) for field in fields]) for name in Measured.__annotations__))


def format_rows(name: str, measured: dict[str, Measured], labels: dict[str, str]) -> list[str]:
    """Return a row for each bin of true flux: scatter (median) of the pulls, and the bias beside neighbours."""
    lines = []
    for label, (low, high) in BINS.items():
        pulls, biases, count, beside = [], [], 0, 0
        for kind in labels:
            m = measured[kind]
            use = (m.total >= low) & (m.total < high)
            count = max(count, int(use.sum()))
            pulls.append(f"{median_abs_deviation(m.pull[use], scale='normal'):.2f} ({np.median(m.pull[use]):+.2f})")
            use &= m.neighbour & (m.own > 0) & np.isfinite(m.kept)
            beside = int(use.sum())
            biases.append(
                "{:+.3f} {:+.3f} ({})".format(*np.percentile(m.bias[use], [50, 84]), beside) if beside else ""
            )
        away = np.concatenate([m.dx, m.dy])[np.tile((m.total >= low) & (m.total < high), 2)]
        place = f"{median_abs_deviation(away, scale='normal'):.1f}"
        sampling = f"{100 * SCATTER_ERROR / np.sqrt(max(count, 1)):.0f} %"
        lines.append(" | ".join([f"| {name}", label, f"{count}", sampling, *pulls, place, *biases]) + " |")
    return lines


def measure_field(
    options: FieldOptions, choices: Iterable[str], base: dp.Options, holes: int = 0
) -> Iterator[dict[str, Measured]]:
    """Yield the matched sources of a field by aperture, for each set of options that differs from `base`."""
    field = punch_holes(simulate_field(options), holes)
    with TemporaryDirectory() as folder:
        prefix = write_field(field, Path(folder), "sim-v1")
        for choice in choices:
            neighbours, sky, elsewhere = [*choice.split("/"), "", ""][:3]
            positions = elsewhere if elsewhere == "isophotal" else "auto"
            measure = dp.MeasureOptions(neighbours=neighbours, background=sky or "none", positions=positions)
            chosen = replace(base, measure=measure)
            result = dp.run([prefix], chosen)
            if elsewhere == "true":
                result = put_right(result, field)
            if elsewhere == "other":
                other = simulate_field(replace(options, noise_seed=OTHER_NOISE + options.seed))
                other = punch_holes(other, holes)
                image = dp.load_mosaic(write_field(other, Path(folder), "other-v1"), noise="calibrated")
                yield compare(analyse_image(image, chosen, detection=result.detection), other)
            else:
                yield compare(result, field)


def measure_fields(arguments: argparse.Namespace) -> list[str]:
    """Return a Markdown table with rows for each set of options and flux."""
    parts: dict[str, list[dict[str, Measured]]] = {name: [] for name in arguments.options}
    calibration = dp.CalibrationOptions(zones=arguments.zones)
    base = dp.Options(detect=dp.DetectOptions(n_sigma=arguments.n_sigma), calibration=calibration)
    for seed in arguments.seeds:
        options = FieldOptions(density=arguments.density, seed=seed)
        found = measure_field(options, arguments.options, base, arguments.holes)
        for name, measured in zip(arguments.options, found, strict=True):
            parts[name].append(measured)
    diameters = dp.MeasureOptions().apertures
    labels = {f"aper_{i}": f'{diameter:.2f}"' for i, diameter in enumerate(diameters)} | {"auto": "Kron"}
    header = ["neighbours/sky", "true flux", "N", "sampling error", *labels.values(), "place"]
    header += [f"bias {label}" for label in labels.values()]
    lines = [f"| {' | '.join(header)} |", "| --- | --- |" + " ---: |" * (len(header) - 2)]
    for name, fields in parts.items():
        lines += format_rows(name, {kind: join(part[kind] for part in fields) for kind in labels}, labels)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, default=300, help="sources above 20 nJy in a square arcmin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4], help="one field of 1 square arcmin each")
    parser.add_argument(
        "--options",
        nargs="+",
        default=["mask", "keep"],
        help="measure.neighbours/.background[/other, /true, /isophotal]",
    )
    parser.add_argument("--n-sigma", type=float, default=dp.DetectOptions().n_sigma, help="threshold of the detection")
    parser.add_argument("--zones", type=int, help="value of calibration.zones; without it those that the field has")
    parser.add_argument("--holes", type=int, default=0, help="squares of 2 x 2 pixels without data in a square arcmin")
    start = time.perf_counter()
    print("\n".join(measure_fields(parser.parse_args())))
    print(f"\n{time.perf_counter() - start:.0f} s. Scatter (median) of (measured - own)/error; bias: median and 84th")
    print("percentile of (what is measured of the own light)/own - 1, of the sources (N) whose aperture reaches into")
    print("segments of others.")
