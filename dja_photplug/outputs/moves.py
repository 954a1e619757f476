"""Outputs that take their places, and those of a killed run that still have to."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dja_photplug.errors import PhotplugWarning
from dja_photplug.outputs.held import PREFIX, sweep

__all__ = ["HIDDEN", "MAIN", "mend", "move_files", "write_journal"]

HIDDEN = f".{PREFIX}"
JOURNAL = "journal"
MAIN = "main"  # in the hidden folder of another place: where the journal is

Moves = Sequence[tuple[Path, Path]]
"""Where files are, and their places."""


def write_journal(folder: Path, moves: Moves) -> None:
    """Say where files will go, before the first of them does.

    Parameters
    ----------
    folder : Path
        That holds the journal.
    moves : sequence of pairs of Path
    """
    text = json.dumps([[str(one), str(other)] for one, other in moves])
    (folder / f".{JOURNAL}").write_text(text, encoding="utf-8")
    os.replace(folder / f".{JOURNAL}", folder / JOURNAL)


def mend(place: Path) -> None:
    """Finish what a killed run was moving to a folder, and remove what others left in it.

    Parameters
    ----------
    place : Path
        Of outputs.
    """
    sweep(place, HIDDEN, _finish)


def move_files(moves: Moves) -> None:
    """Move files to their places. Old ones go first, so that at no time some are beside some of the new ones.

    Parameters
    ----------
    moves : sequence of pairs of Path
    """
    if len(moves) > 1:
        for _, place in moves:
            place.unlink(missing_ok=True)
    for staged, place in moves:
        place.parent.mkdir(exist_ok=True, parents=True)
        os.replace(staged, place)


def _finish(folder: Path) -> None:
    """Move the files of a run that was killed while it did so; without a journal it was killed before."""
    with suppress(FileNotFoundError):
        folder = Path((folder / MAIN).read_text(encoding="utf-8", errors="surrogateescape"))
    try:
        moves = [(Path(one), Path(other)) for one, other in json.loads((folder / JOURNAL).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return
    left = [(staged, place) for staged, place in moves if staged.exists()]
    if len(left) == len(moves):  # else the old ones went before
        move_files(left)
    else:
        for staged, place in left:
            place.parent.mkdir(exist_ok=True, parents=True)
            os.replace(staged, place)
    names = ", ".join(place.name for _, place in left)
    if left:
        told = f"{moves[0][1].parent}: a run was killed while its outputs took their places; {names} now have theirs"
        warnings.warn(told, PhotplugWarning, stacklevel=2)
