"""What bash, zsh and fish offer: commands, flags, choices, mosaics and their bands."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from select import select
from time import monotonic

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

BOTH = "data/uds-v7-f444w-clear data/uds-v7-f115w-clear"
# What is typed, and its end once the tabulator was pressed, where there is only one.
TYPED = {
    "dja-photplug ca": "catalog",
    "dja-photplug catalog --neigh": "--neighbours",
    "dja-photplug catalog --sky mes": "mesh",
    "dja-photplug catalog data/uds-v7-f4": "data/uds-v7-f444w-clear",
    f"dja-photplug catalog {BOTH} --match f4": "f444w",
    f"dja-photplug catalog {BOTH} --noise ca": "calibrated",
}
# An interactive shell that tells what is on its line when Ctrl-X is pressed.
ZSH = """\
PS1='> '; autoload -Uz compinit && compinit -u -D; eval "$(register-python-argcomplete dja-photplug)"
show() { print -r -- "LINE[$BUFFER]"; zle kill-whole-line }; zle -N show; bindkey '^X' show; echo REA''DY
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """That of a shell in which the commands of this environment are found."""
    pytest.importorskip("argcomplete")
    if not (SCRIPTS / "register-python-argcomplete").is_file():
        pytest.skip("needs argcomplete beside Python")
    return os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"}


@pytest.fixture
def mosaics(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for band in ("f444w", "f115w"):
        for kind in ("sci", "wht"):
            (tmp_path / "data" / f"uds-v7-{band}-clear_drc_{kind}.fits.gz").touch()
    (tmp_path / "data" / "notes.txt").touch()
    return tmp_path


def test_bash_completes(mosaics: Path, environment: dict[str, str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    more = {
        "dja-photplug catalog --sky m": "mesh masked",
        "dja-photplug catalog data/u": "data/uds-v7-f115w-clear data/uds-v7-f444w-clear",
        f"dja-photplug epochs {BOTH.split()[0]} --position 34.3 -5.1 --epoch-details visits,an": "visits,angles",
    }
    expected = TYPED | more
    given = {"input": "\n".join(expected) + "\n", "cwd": mosaics, "env": environment}
    done = subprocess.run([bash, "-c", ASK], capture_output=True, text=True, check=True, timeout=120, **given)
    assert dict(zip(expected, map(str.strip, done.stdout.splitlines()), strict=True)) == expected


def test_fish_completes(mosaics: Path, environment: dict[str, str]) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("needs fish: apt-get install fish")
    asked = "; ".join(f"complete -C '{line}'" for line in TYPED)
    ask = [fish, "--no-config", "-c", f"register-python-argcomplete --shell fish dja-photplug | source; {asked}"]
    run = {"cwd": mosaics, "env": environment, "text": True, "timeout": 120}
    done = subprocess.run(ask, capture_output=True, check=True, **run)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == list(TYPED.values())


def test_zsh_completes(mosaics: Path, environment: dict[str, str]) -> None:
    """In a terminal: zsh completes nowhere else."""
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("needs zsh: apt-get install zsh")
    terminal, end = os.openpty()
    with subprocess.Popen(
        [zsh, "-f", "-i"], stdin=end, stdout=end, stderr=end, cwd=mosaics, env=environment, start_new_session=True
    ) as shell:
        os.close(end)

        def type(text: str, until: str) -> str:
            os.write(terminal, text.encode())
            shown, last = "", monotonic() + 60
            while until not in shown and monotonic() < last:
                if select([terminal], [], [], 0.2)[0]:
                    shown += os.read(terminal, 4096).decode()
            return shown

        try:
            assert "READY" in type(ZSH, "READY")
            lines = [type(f"{line}\t\x18", "]").partition("LINE[")[2].partition("]")[0] for line in TYPED]
        finally:
            shell.kill()
            os.close(terminal)
    assert [line.split(" ")[-2:] for line in lines] == [[last, ""] for last in TYPED.values()]


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
