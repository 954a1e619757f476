"""Processes that begin before it is known what there is to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dja_photplug.parallel.early import LARGE

SCRIPT = """
import sys
from multiprocessing import forkserver
from dja_photplug.parallel.early import begin_early

begin_early([sys.argv[1]], int(sys.argv[2]) if len(sys.argv) > 2 else None)
print(forkserver._forkserver._forkserver_pid is not None)
"""


@pytest.mark.parametrize(
    ("size", "workers", "begun"),
    [(LARGE + 1, ("2",), "True"), (LARGE + 1, ("1",), "False"), (LARGE, ("2",), "False"), (None, (), "False")],
)
def test_processes_begin_early_for_large_mosaics_alone(tmp_path: Path, size, workers, begun) -> None:
    if size is not None:
        with (tmp_path / "a-v1-f444w-clear_drc_sci.fits.gz").open("wb") as file:
            file.truncate(size)
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "a-v1-f444w-clear"), *workers]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == begun
