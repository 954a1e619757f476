"""What must hold for every input, as hypothesis finds them: growth of exposure maps, full weights, tables."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.table import Column, MaskedColumn, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import dja_photplug as dp
from dja_photplug.errors import PhotplugError
from dja_photplug.files.tables.compare import check_extended
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.files.tables.write import write_extended
from dja_photplug.mosaic.models.exposure import grow
from dja_photplug.options.stages import VarianceOptions
from tests.helpers import JWST_HEADER

__all__ = ["PROPERTIES", "examine"]


def _growth(n: int, n_samples: int, sample: int, origin: int, registered: bool) -> None:
    """Each pixel has the sample that it should: one of the map, or none; compared with the map drawn pixel by pixel."""
    if sample == 1:
        n_samples = origin + n
    found = grow(n, n_samples, sample, origin, registered=registered)
    size = origin + n + 2 * sample
    drawn = np.full(size, -1)
    for k in range(n_samples):
        first = k * sample - sample // 2 if registered else k * sample + 1
        if sample == 1:
            first = k
        drawn[max(first, 0) : max(first + sample, 0)] = k
    if registered and sample > 1:
        drawn[np.maximum(0, n_samples * sample - sample // 2) :] = n_samples - 1
    assert found.tolist() == drawn[origin : origin + n].tolist()


_PIXELS = st.floats(allow_nan=True, allow_infinity=True, width=32)
_PLANES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: st.tuples(*(arrays.arrays(np.float32, shape, elements=_PIXELS) for _ in range(3)))
)


def _variance(planes: tuple[NDArray[np.float32], ...], gain: float, noise: str) -> None:
    """The full weight is positive or 0, never above the published one, 0 without data, and what the formula says."""
    science, weight, exposure = planes
    options = VarianceOptions(noise=noise, detector_gain=gain)
    with warnings.catch_warnings(), contextlib.suppress(PhotplugError):
        warnings.simplefilter("ignore")
        full = dp.full_weight(science, weight, exposure, JWST_HEADER, options)
        assert full.dtype == np.float32
        assert np.all(np.isfinite(full) & (full >= 0))
        data = full > 0
        assert np.all(np.isfinite(science[data]) & (weight[data] > 0))
        normal = data & (exposure > 1e-30) & (weight > 1e-30)  # the others have fewer digits
        assert np.all(full[normal] <= weight[normal] * (1 + 1e-5))
        scale = 1e-8 / (JWST_HEADER["PHOTMJSR"] * JWST_HEADER["PHOTSCAL"] * JWST_HEADER["OPHOTFNU"])
        sound = data & (exposure > 1e-3) & (exposure < 1e8) & (weight > 1e-20) & (weight < 1e20)
        sound &= np.abs(science) < 1e15
        light, published, seconds = (plane[sound].astype(float) for plane in planes)
        expected = 1 / (1 / published + np.maximum(light, 0) / (seconds * gain * scale))
        np.testing.assert_allclose(full[sound], expected, rtol=1e-4)


_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
_KINDS: tuple[tuple[str, st.SearchStrategy[object]], ...] = (
    ("f8", st.floats()),
    ("f4", st.floats(width=32)),
    ("i8", st.integers(-(2**63), 2**63 - 1)),
    ("i2", st.integers(-(2**15), 2**15 - 1)),
    ("u1", st.integers(0, 255)),
    ("?", st.booleans()),
    ("U", _TEXT),
)


@st.composite
def _tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(1, 4))
    names = draw(st.lists(_TEXT, min_size=1, max_size=4, unique=True))
    table = Table()
    for name in names:
        kind, cells = draw(st.sampled_from(_KINDS))
        values = np.array([draw(cells) for _ in range(rows)], kind)
        holes = [draw(st.booleans()) for _ in range(rows)]
        unit = draw(st.sampled_from((None, "uJy", "mag", "deg", "10 nJy")))
        plain = draw(st.booleans())
        with contextlib.suppress(ValueError):  # names that no table takes
            table[name] = Column(values, unit=unit) if plain else MaskedColumn(values, unit=unit, mask=holes)
    table.meta = draw(st.dictionaries(st.text("ABCDEFGH", min_size=1, max_size=8), st.floats() | _TEXT, max_size=2))
    return table


def _cells(column: Column) -> list[str | None]:
    values = np.ma.asarray(column)
    return [
        None if hidden else str(value) for value, hidden in zip(values.data, np.ma.getmaskarray(values), strict=True)
    ]


def _round_trip(table: Table, suffix: str) -> None:
    """What is written is read again as it was, or was refused before."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(), contextlib.suppress(PhotplugError):
        warnings.simplefilter("ignore")
        path = Path(place, f"cat{suffix}")
        check_extended(table, path)
        write_extended(table, path, added=[])
        back = read_catalog(path)
        assert back.colnames == table.colnames, (back.colnames, table.colnames)
        for name in table.colnames if suffix != ".csv" else ():
            assert _cells(back[name]) == _cells(table[name]), name


PROPERTIES: dict[str, tuple[Callable[..., None], tuple[st.SearchStrategy[object], ...]]] = {
    "growth": (
        _growth,
        (st.integers(1, 60), st.integers(1, 16), st.sampled_from((1, 2, 4, 8)), st.integers(0, 40), st.booleans()),
    ),
    "variance": (_variance, (_PLANES, st.floats(0.1, 20), st.sampled_from(("dja", "calibrated")))),
    "tables": (_round_trip, (_tables(), st.sampled_from((".fits", ".ecsv", ".parquet", ".csv")))),
}
"""By what they are of: what must hold, and for what."""


def examine(name: str, count: int, seed: int) -> int:
    """Show a property with so many inputs, or raise with the smallest for which it does not hold.

    Parameters
    ----------
    name : str
    count : int
    seed : int

    Returns
    -------
    int
        How many there were.
    """
    check, inputs = PROPERTIES[name]
    number = 0

    def counted(found: tuple[object, ...]) -> None:
        nonlocal number
        number += 1
        check(*found)

    limits = settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    limits(seeded(seed)(given(st.tuples(*inputs))(counted)))()
    return number
