"""What holds where nobody chose: the noise preset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from astropy.io import fits
from astropy.table import Table

from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"


def preset_of(name: str, expected: str) -> Callable[[Path], None]:
    """Return what checks the noise preset that an output tells."""

    def check(folder: Path) -> None:
        table = name.endswith("cat.fits")
        found = Table.read(folder / name).meta if table else fits.getheader(folder / name)
        if "OPTIONS" in found:
            assert json.loads(found["OPTIONS"])["variance"]["noise"] == expected
        assert found["NOISE"] == expected

    return check


def make(given: str, command: str, name: str, expected: str, **more: object) -> Case:
    """Return a case that names no noise preset."""
    return Case(
        kind="Defaults", given=given, command=command, outcome="obeyed", check=preset_of(name, expected), **more
    )


CASES = (
    make("a weight: the preset dja, as published", f"weight {PREFIX} -o w.fits", "w.fits", "dja"),
    make("a sigma image", f"weight {PREFIX} -o w.fits --kind sigma", "w.fits", "dja"),
    make("a catalogue: the preset calibrated", f"catalog {PREFIX} -o cat.fits", "cat.fits", "calibrated"),
    make(
        "stamps for a fit",
        f"galfit {PREFIX} -o stamps --position 34.4001 -5.2 --size 3",
        "stamps/target_sci.fits",
        "calibrated",
    ),
    make(
        "other options of the noise",
        f"catalog {PREFIX} -o cat.fits --config mine.toml",
        "cat.fits",
        "calibrated",
        prepare=lambda folder: (folder / "mine.toml").write_text("[variance]\nphot_scale = 0.3\n"),
    ),
)
