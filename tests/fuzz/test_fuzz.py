"""The campaigns of this folder in a reduced form; in full: ``python docs/scripts/reliability.py``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dja_photplug.simulate.mosaic import SimulatedMosaic
from tests.fuzz.campaign import run_campaign
from tests.fuzz.kills import Kills, kill_one
from tests.fuzz.readers import READERS, make_seeds


@pytest.fixture(scope="module")
def seeds(simulated: SimulatedMosaic, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return make_seeds(simulated.prefix, tmp_path_factory.mktemp("seeds"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_mutated_inputs(name: str, seeds: dict[str, bytes], folder: Path, slow: bool) -> None:
    """Each is read, or refused in one line, within time and memory; the sound file is read."""
    reader = READERS[name]
    if reader.file not in {path.name for path in folder.iterdir()}:
        (folder / reader.file).write_bytes(seeds[reader.file])
    if not reader.file.endswith(".gz") or reader.file.startswith("sim"):
        reader.call(folder / reader.file)
    findings = run_campaign(reader, seeds[reader.file], folder, 1000 if slow else 10, seed=2)
    assert findings.faults == []
    assert findings.refused > 0


def test_killed_runs(simulated: SimulatedMosaic, tmp_path: Path, slow: bool) -> None:
    kills, rng = Kills(), random.Random(5)
    for _ in range(20 if slow else 2):
        kill_one(simulated.prefix, tmp_path, rng, 4.0, kills)
    assert kills.faults == []
