"""The campaigns and fuzzers of this folder in a reduced form; in full: ``python docs/scripts/reliability.py``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dja_photplug.simulate.mosaic import SimulatedMosaic
from tests.fuzz.apart import call_apart
from tests.fuzz.campaign import attack_command, attack_reader
from tests.fuzz.commands import COMMANDS, make_folder
from tests.fuzz.kills import Kills, count_steps, kill_one
from tests.fuzz.mutate import mutate
from tests.fuzz.properties import PROPERTIES, examine
from tests.fuzz.readers import READERS, make_seeds
from tests.fuzz.targets import TARGETS, call_target, sound_input


@pytest.fixture(scope="module")
def seeds(simulated: SimulatedMosaic, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return make_seeds(simulated.prefix, tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    make_folder(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_mutated_inputs(name: str, seeds: dict[str, bytes], folder: Path, slow: bool) -> None:
    """Each is read, or refused in one line, within time and memory; the sound file is read."""
    reader = READERS[name]
    if reader.file not in {path.name for path in folder.iterdir()}:
        (folder / reader.file).write_bytes(seeds[reader.file])
    if not reader.file.endswith(".gz") or reader.file.startswith("sim"):
        reader.call(folder / reader.file)
    findings = attack_reader(reader, seeds[reader.file], folder, 1000 if slow else 10, seed=2)
    assert findings.faults == []
    assert findings.refused > 0


QUICK = ("weight", "catalog", "epochs of cat.vot", "extend cat.csv", "galfit")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_mutated_commands(name: str, sound: Path, slow: bool) -> None:
    """Each is obeyed, or refused in one line without a file left, within time and memory; the sound one is obeyed."""
    findings = attack_command(name, COMMANDS[name], sound, 100 if slow else 4, seed=3)
    assert findings.faults == []


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("return_ = bytearray(1 << 40)", "MemoryError"),
    ],
)
def test_faults_are_seen(ends: str, told: str) -> None:
    def call() -> str:
        exec(ends)
        return "obeyed"

    ended = call_apart(call)
    assert ended.said is None
    assert told in ended.how


def test_memory_is_seen() -> None:
    ended = call_apart(lambda: f"{len(bytes(b'x' * (200 << 20)))}")
    assert ended.said == str(200 << 20)
    assert 190 << 20 <= ended.memory < 500 << 20  # pages that were free within the process come first


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name: str, slow: bool) -> None:
    """What atheris is let loose on, on mutations."""
    sound_one, rng = sound_input(name), random.Random(4)
    call_target(name, sound_one)
    for _ in range(20_000 if slow else 300):
        call_target(name, mutate(sound_one, rng))


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties(name: str, slow: bool) -> None:
    assert examine(name, 5000 if slow else 50, seed=5) >= 50


def test_killed_runs(simulated: SimulatedMosaic, tmp_path: Path, slow: bool) -> None:
    kills, rng = Kills(), random.Random(5)
    steps = count_steps(simulated.prefix, tmp_path)
    for _ in range(20 if slow else 2):
        kill_one(simulated.prefix, tmp_path, rng, steps, kills)
    assert kills.faults == []
    assert kills.kills > 0
