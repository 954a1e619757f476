"""What bash offers: commands, flags, choices, mosaics and their bands."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dja_photplug.cli.completion import _COMPLETERS, complete_bands, complete_mosaics
from dja_photplug.fitting.formats import FORMATS
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.plugins.options import catalog_suffixes

SCRIPTS = Path(sys.executable).parent
ASK = """
eval "$(register-python-argcomplete dja-photplug)"
while IFS= read -r COMP_LINE; do
  COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMPREPLY=()
  IFS=' ' read -ra COMP_WORDS <<< "$COMP_LINE"
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _python_argcomplete dja-photplug "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
  echo ${COMPREPLY[@]}
done
"""


@pytest.fixture
def mosaics(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for band in ("f444w", "f115w"):
        for kind in ("sci", "wht"):
            (tmp_path / "data" / f"uds-v7-{band}-clear_drc_{kind}.fits.gz").touch()
    (tmp_path / "data" / "notes.txt").touch()
    return tmp_path


def test_bash_completes(mosaics: Path) -> None:
    pytest.importorskip("argcomplete")
    bash = shutil.which("bash")
    if bash is None or not (SCRIPTS / "register-python-argcomplete").is_file():
        pytest.skip("needs bash, and argcomplete beside Python")
    both = "data/uds-v7-f444w-clear data/uds-v7-f115w-clear"
    expected = {
        "dja-photplug ca": "catalog",
        "dja-photplug catalog --neigh": "--neighbours",
        "dja-photplug catalog --sky m": "mesh masked",
        "dja-photplug catalog data/u": "data/uds-v7-f115w-clear data/uds-v7-f444w-clear",
        f"dja-photplug catalog {both} --match f4": "f444w",
        f"dja-photplug catalog {both} --noise ca": "calibrated",
        f"dja-photplug epochs {both.split()[0]} --position 34.3 -5.1 --epoch-details visits,an": "visits,angles",
    }
    environment = os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    given = {"input": "\n".join(expected) + "\n", "cwd": mosaics, "env": environment}
    done = subprocess.run([bash, "-c", ASK], capture_output=True, text=True, check=True, timeout=120, **given)
    assert dict(zip(expected, map(str.strip, done.stdout.splitlines()), strict=True)) == expected


def test_mosaics_are_completed_by_their_prefixes(mosaics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mosaics)
    assert complete_mosaics("") == complete_mosaics("d") == ["data/"]
    assert complete_mosaics("data/uds-v7-f444w-clear_drc_s") == ["data/uds-v7-f444w-clear_drc_sci.fits.gz"]
    assert complete_mosaics("data/n") == ["data/notes.txt"]
    assert complete_mosaics("nowhere/") == []
    known = argparse.Namespace(mosaics=["data/uds-v7-f444w-clear", "odd"])
    assert complete_bands("", known) == ["f444w", "ir", "stack"]


def test_formats_are_those_that_there_are() -> None:
    assert list(_COMPLETERS["galfit.format"]("")) == list(FORMATS)
    for name in _COMPLETERS["output.format"](""):
        assert catalog_suffixes(get_plugin_manager(), name)
