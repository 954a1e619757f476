"""Processes that begin before it is known what there is to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dja_photplug.parallel.early import BYTES

LARGE = BYTES * 2500**2
# A mosaic that is no more than a large file is refused, after processes have begun.
SCRIPT = """
import sys
from multiprocessing import forkserver
from dja_photplug.cli.app import main

assert main(["catalog", *sys.argv[1:]]) == 1
print(forkserver._forkserver._forkserver_pid is not None)
"""


@pytest.mark.parametrize(
    ("size", "words", "config", "begun"),
    [
        (LARGE + 1, ["--workers", "2"], "", "True"),
        (LARGE + 1, [], "bands.workers = 2", "True"),
        (LARGE + 1, ["--workers", "1"], "", "False"),
        (LARGE + 1, [], "bands.workers = 1", "False"),
        (LARGE + 1, ["--workers", "2"], "bands.workers = 1", "True"),
        (LARGE + 1, ["--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "", "False"),
        (LARGE + 1, ["--workers", "2"], "tiles.scheduler = 'tcp://127.0.0.1:9'", "False"),
        (LARGE + 1, ["--workers", "2", "--tile-size", "2501"], "", "False"),
        (LARGE + 1, ["--workers", "2", "--cutout", "150", "2", "10"], "", "False"),
        (LARGE, ["--workers", "2"], "", "False"),
        (LARGE, ["--workers", "2"], "tiles.size = 2499", "True"),
        (None, ["--workers", "2"], "", "False"),
    ],
)
def test_processes_begin_early_for_large_mosaics_alone(
    tmp_path: Path, size: int | None, words: list[str], config: str, begun: str
) -> None:
    if size is not None:
        with (tmp_path / "a-v1-f444w-clear_drc_sci.fits.gz").open("wb") as file:
            file.truncate(size)
    (tmp_path / "options.toml").write_text(config)
    given = [tmp_path / "a-v1-f444w-clear", "-o", tmp_path / "cat.fits", "--config", tmp_path / "options.toml"]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, given), *words], capture_output=True, text=True, check=False
    )
    assert (run.stdout.strip(), run.stderr.count("\n")) == (begun, 1), run.stderr
