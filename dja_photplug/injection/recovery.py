"""What became of injected sources: each detected, measured and compared with its own light."""

from __future__ import annotations

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dja_photplug.catalog.schema import dress_table
from dja_photplug.completeness.bins import SOURCE_COLUMNS
from dja_photplug.completeness.limits import Places
from dja_photplug.injection.field import (
    Field,
    Floats,
    find_depth,
    list_hosts,
    measure_distance,
    read_fluxes,
    sample_places,
)
from dja_photplug.injection.light import add_light, draw_injected, draw_sources, sum_light
from dja_photplug.options.commands import InjectionOptions
from dja_photplug.pipeline.steps.analysis import analyse_image
from dja_photplug.pipeline.steps.result import Result, describe_noise
from dja_photplug.sky.grid import pixel_scale
from dja_photplug.sources.detection import FOUND, place_sources
from dja_photplug.units import flux_of

__all__ = ["measure_forced", "realise"]


def realise(field: Field, number: int) -> tuple[QTable, Places | None]:
    """Inject sources once, and find what became of them.

    Parameters
    ----------
    field : Field
    number : int
        Of the realisation, which seeds it.

    Returns
    -------
    table : `~astropy.table.QTable`
        Columns of `dja_photplug.completeness.bins.SOURCE_COLUMNS`.
    places : Places or None
        Of the mosaic, in the first realisation.
    """
    job, before = field.job, field.before
    rng = np.random.default_rng([job.injection.seed, number])
    sources = draw_sources(before.image, job.injection, rng)
    light = draw_injected(sources, field)
    image = add_light(field, light, rng)
    after = analyse_image(image, job.options, field.manager, calibration=before.calibration)
    places = np.stack([sources["x"], sources["y"]], axis=-1)
    nearest = _match(places, _positions(after), job.injection.match_radius / pixel_scale(image.wcs))
    around = np.concatenate([_positions(after), places])[np.where(nearest < len(after.catalog), nearest, -1)]
    true = sum_light(sources, np.stack([places, around], axis=1), field)
    zone, depth = find_depth(sources, before, field.reference)
    columns = {
        "realisation": np.full(len(sources), number),
        **dict(sources.items()),
        **_recover(sources, before, after, nearest, true[:, 1], job.injection),
        "flux_true_forced": true[:, 0],
        **_force(sources, after, field),
        "distance": measure_distance(places, field),
        "zone": zone + 1,
        "depth": depth,
    }
    table = dress_table(columns, SOURCE_COLUMNS)
    # Counts of pixels are those of the mosaic, not of an injection.
    cards = describe_noise(before.image)
    table.meta = {key: value for key, value in cards.items() if key not in ("NFILLED", "NNULL", "NNOTFIN", "NNEGWHT")}
    return table, sample_places(field) if number == 0 else None


def _recover(
    sources: QTable,
    before: Result,
    after: Result,
    nearest: NDArray[np.intp],
    light: Floats,
    injection: InjectionOptions,
) -> dict[str, NDArray[np.generic]]:
    """Return the columns that say what became of each source, given its detection and its own light there, uJy."""
    aperture, radius = f"aper_{injection.aperture}", injection.match_radius / pixel_scale(after.image.wcs)
    detected, existing = _positions(after), _positions(before)
    found = nearest < len(detected)
    earlier = _match(detected[nearest[found]], existing, radius)
    # Without an earlier detection there is nothing to double, and the index is that of the appended value.
    there = np.append(read_fluxes(before.catalog, f"flux_{aperture}"), -np.inf)[earlier]
    recovered = found.copy()
    recovered[found] = ~(light[found] < there)
    columns: dict[str, NDArray[np.generic]] = {"recovered": recovered, "blended": _is_blended(sources, before)}
    columns["flux_true"] = np.where(recovered, light, np.nan)
    for name, values in (
        ("flux", read_fluxes(after.catalog, f"flux_{aperture}")),
        ("fluxerr", read_fluxes(after.catalog, f"fluxerr_{aperture}")),
    ):
        columns[name] = np.append(values, np.nan)[np.where(recovered, nearest, len(values))]
    return columns


def measure_forced(sources: QTable, result: Result, field: Field) -> QTable:
    """Measure at the true positions of sources, as positions of a list that holds what was there before too.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        (n,), with their true ``x y``.
    result : Result
        Of an image with or without them.
    field : Field

    Returns
    -------
    `~astropy.table.QTable`
        (n,), what the engine measures; apertures are circles, because no shapes are known.
    """
    known = field.before.detection.sources
    number = len(sources) + len(known)
    found = dict.fromkeys(FOUND, np.full(number, np.nan)) | dict.fromkeys(("npix", "flag"), np.zeros(number, int))
    found |= {name: np.concatenate([sources[name].value, known[name].value]) for name in "xy"}
    measured = analyse_image(
        result.image,
        field.job.options,
        field.manager,
        detection=result.detection,
        targets=place_sources(found, np.zeros((1, 1), np.int32), result.image.wcs),
        calibration=result.calibration,
    )
    return measured.catalog[: len(sources)]


def _force(sources: QTable, after: Result, field: Field) -> dict[str, Floats]:
    """Return fluxes and errors at the true positions."""
    catalog = measure_forced(sources, after, field)
    names = {name: f"{name}_aper_{field.job.injection.aperture}" for name in ("flux", "fluxerr")}
    return {f"{name}_forced": read_fluxes(catalog, column) for name, column in names.items()}


def _positions(result: Result) -> Floats:
    """Return the positions of the sources in pixels, (n, 2); far away where there is none."""
    catalog = result.catalog if {"x", "y"} <= set(result.catalog.colnames) else result.detection.sources
    return np.nan_to_num(np.stack([catalog["x"].value, catalog["y"].value], axis=-1), nan=-1e9)


def _match(wanted: Floats, known: Floats, radius: float) -> NDArray[np.intp]:
    """Return the index of the known position that is nearest to each wanted one; their number where none is near."""
    _, index = cKDTree(known).query(wanted.reshape(-1, 2), distance_upper_bound=radius)
    return index


def _is_blended(sources: QTable, before: Result) -> NDArray[np.bool_]:
    """Return whether each source lies on the segment of a brighter one, or of one whose flux is not known."""
    row, column = (np.rint(sources[axis]).astype(int) for axis in "yx")
    return list_hosts(before)[before.detection.segmentation[row, column]] > flux_of(sources["mag"].value)
