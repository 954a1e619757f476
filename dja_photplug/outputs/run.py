"""The outputs of one run: none is an input, and they appear together or not at all.

They are written in a hidden folder beside their places, and are moved at the end. Before several are moved a journal
says where they go: whoever writes in that folder next finishes what was begun, where the run was killed in the midst
of it, and removes the folder where it was killed before.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.outputs.held import HeldFolder, hold_signals
from dja_photplug.outputs.moves import HIDDEN, MAIN, mend, move_files, write_journal

__all__ = [
    "Members",
    "Outputs",
    "after_outputs",
    "current_outputs",
    "declare",
    "follow_links",
    "named_files",
    "protect",
    "protect_source",
    "warn_after_outputs",
]


def follow_links(path: str | Path) -> Path:
    """Return where a path leads, as far as its links can be followed: those in a circle are refused when it is used.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    OSError
        Where it is relative, and the working directory is no more.
    """
    return Path(os.path.realpath(path))  # pathlib's own raises RuntimeError for circles, in some versions


class Members(Protocol):
    """Files that belong together, such as the products of a mosaic."""

    def members(self) -> list[Path]:
        """Return those that there are.

        Returns
        -------
        list of Path
        """

    def would_take(self, path: Path) -> bool:
        """Return whether a file of this path would be one of them, were it there.

        Parameters
        ----------
        path : Path

        Returns
        -------
        bool
        """


class Outputs:
    """The outputs of one run, which appear together at its end or not at all; a context manager.

    Within it, all that :func:`whole_file` and :func:`whole_folder` write belongs to it.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, HeldFolder] = {}  # by the place whose files they hold
        self._inputs: dict[Path, str] = {}
        self._sources: list[Members] = []
        self._declared: dict[Path, Path] = {}
        self._replaced: set[Path] = set()
        self._after: list[str] = []
        self._notes: list[str] = []
        self._moving = False

    def __enter__(self) -> Outputs:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ValueError):  # of a generator that is closed in another context
            _current.reset(self._token)
        with hold_signals():
            try:
                if kind is None:
                    self._commit()
            finally:
                for folder in self._folders.values():
                    # What was begun is finished by the next run.
                    (folder.leave if self._moving else folder.remove)()
        if kind is None:
            for note in self._notes:
                warnings.warn(note, PhotplugWarning, stacklevel=2)
            for text in self._after:
                print(text)

    def protect(self, path: Path, label: str) -> None:
        """Let no output be this file.

        Parameters
        ----------
        path : Path
        label : str
            What it is, for the message.
        """
        with suppress(OSError, ValueError):
            place = follow_links(path)
            if place.is_file() and place not in self._inputs:
                self._inputs[place] = label
                for declared, named in self._declared.items():
                    self.check_apart(declared, named)

    def protect_source(self, source: Members) -> None:
        """Let no output be a member of a mosaic, or be taken for one by the next run.

        Parameters
        ----------
        source : Members
        """
        for path in source.members():
            self.protect(path, f"a member of {source}")
        self._sources.append(source)
        for declared, named in self._declared.items():
            self.check_apart(declared, named)

    def check_apart(self, place: Path, path: Path) -> None:
        """Refuse an output that is an input.

        Parameters
        ----------
        place : Path
            Where the output goes.
        path : Path
            As it was named, for the message.

        Raises
        ------
        PhotplugError
            Where it is an input, or has the name of a member.
        """
        label = self._inputs.get(place)
        if label is None and place.is_file():
            label = next((text for other, text in self._inputs.items() if place.samefile(other)), None)
        if label is not None:
            raise PhotplugError(f"{path}: is {label}, which this run reads; name another output")
        for source in self._sources:
            if source.would_take(place) or source.would_take(path.absolute()):
                raise PhotplugError(f"{path}: the next run would take it for a file of {source}; rename it")

    def declare(self, path: Path) -> None:
        """Say that a file will be written.

        Parameters
        ----------
        path : Path

        Raises
        ------
        PhotplugError
            Where it is an input, or two outputs are one file.
        """
        place = follow_links(path)
        if place in self._declared:
            raise PhotplugError(f"{path}: two outputs have the same name; give each its own")
        self.check_apart(place, path)
        self._declared[place] = path

    def folder(self, place: Path) -> Path:
        """Return the hidden folder for the outputs of a place.

        Parameters
        ----------
        place : Path
            A folder that exists.

        Returns
        -------
        Path
        """
        if place not in self._folders:
            mend(place)
            with hold_signals():
                self._folders[place] = HeldFolder(place, HIDDEN)
            folder, main = self._folders[place].path, next(iter(self._folders.values())).path
            if main != folder:
                (folder / MAIN).write_text(str(main), encoding="utf-8", errors="surrogateescape")
            (folder / "files").mkdir()
        return self._folders[place].path / "files"

    def stage(self, place: Path, *, overwrite: bool) -> Path:
        """Return where a file is written until the end.

        Parameters
        ----------
        place : Path
            Resolved, in a folder that exists.
        overwrite : bool
            Replace what is there.

        Returns
        -------
        Path
            Its name is that of `place`.

        Raises
        ------
        PhotplugError
            Where the run has written it already.
        """
        staged = self.folder(place.parent) / place.name
        if staged.exists():
            raise PhotplugError(f"{place}: two outputs have the same name; give each its own")
        if overwrite:
            self._replaced.add(place)
        return staged

    def replace(self, place: Path) -> None:
        """Allow that a file, or those of a folder, replace what is there.

        Parameters
        ----------
        place : Path
        """
        self._replaced.add(place)

    def may_replace(self, place: Path) -> bool:
        """Return whether a file that is there is to be replaced.

        Parameters
        ----------
        place : Path

        Returns
        -------
        bool
        """
        return not self._replaced.isdisjoint({place, *place.parents})

    def find_place(self, path: Path) -> Path | None:
        """Return where a file of a hidden folder goes.

        Parameters
        ----------
        path : Path

        Returns
        -------
        Path or None
            None where it is in none of this run.
        """
        for place, folder in self._folders.items():
            if folder.path in path.parents:
                return place / path.relative_to(folder.path / "files")
        return None

    def after(self, text: str) -> None:
        """Print a line once the files are there.

        Parameters
        ----------
        text : str
        """
        self._after.append(text)

    def note(self, note: str) -> None:
        """Keep a warning until the outputs are in their places; where the run is refused it is not told.

        Parameters
        ----------
        note : str
        """
        self._notes.append(note)

    def moves(self) -> list[tuple[Path, Path]]:
        """Return what was written, and where each file goes.

        Returns
        -------
        list of pair of Path
        """
        found = []
        for place, folder in self._folders.items():
            files = folder.path / "files"
            found += [(path, place / path.relative_to(files)) for path in sorted(files.rglob("*")) if path.is_file()]
        return found

    def _commit(self) -> None:
        """Move all files to their places."""
        moves = self.moves()
        for _, place in moves:
            self.check_apart(place, place)
            if place.is_dir():
                raise PhotplugError(f"{place}: is a folder; name another output")
            if place.exists() and not self.may_replace(place):
                raise PhotplugError(f"{place}: already exists; name another file or add --overwrite")
        if not moves:
            return
        try:
            if len(moves) > 1:
                write_journal(next(iter(self._folders.values())).path, moves)
                self._moving = True
            move_files(moves)
            self._moving = False
        except OSError as error:
            raise PhotplugError(
                f"{moves[0][1]}: cannot be written ({error.strerror or error}); check the folder"
            ) from error


_current: ContextVar[Outputs | None] = ContextVar("outputs", default=None)


def declare(path: Path) -> None:
    """Say before the work that the run will write a file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    PhotplugError
        Where it is an input, or another output.
    """
    if (current := _current.get()) is not None:
        current.declare(path)


def named_files(values: object) -> list[Path]:
    """Return the files that options or arguments name.

    Parameters
    ----------
    values : object
        Mappings, sequences and dataclasses are gone through.

    Returns
    -------
    list of Path
        Whatever text is the path of a file that there is.
    """
    if isinstance(values, str | Path):
        try:
            return [Path(values)] if Path(values).is_file() else []
        except (OSError, ValueError):
            return []
    if isinstance(values, Mapping):
        values = list(values.values())
    elif is_dataclass(values) and not isinstance(values, type):
        values = [getattr(values, field.name) for field in fields(values)]
    return [path for each in values for path in named_files(each)] if isinstance(values, list | tuple) else []


def protect(paths: Iterable[str | Path], label: str = "an input") -> None:
    """Let no output of the run be one of these files.

    Parameters
    ----------
    paths : iterable of str or Path
        Those that are no files are passed over.
    label : str, optional
        What they are, for the message.

    Raises
    ------
    PhotplugError
        Where an output that is known is one.
    """
    if (current := _current.get()) is not None:
        for path in paths:
            current.protect(Path(path), label)


def current_outputs() -> Outputs | None:
    """Return those of the run that is under way.

    Returns
    -------
    Outputs or None
    """
    return _current.get()


def protect_source(source: Members) -> None:
    """Let no output of the run be a member of a mosaic, or have the name of one.

    Parameters
    ----------
    source : Members

    Raises
    ------
    PhotplugError
        Where an output that is known is one.
    """
    if (current := _current.get()) is not None:
        current.protect_source(source)


def after_outputs(text: str) -> None:
    """Print a line once the outputs of the run are there; at once where there is no run.

    Parameters
    ----------
    text : str
    """
    if (current := _current.get()) is not None:
        current.after(text)
    else:
        print(text)


def warn_after_outputs(note: str) -> None:
    """Warn once the outputs of the run are there, as a refusal is one line; at once where there is no run.

    Parameters
    ----------
    note : str
    """
    if (current := _current.get()) is not None:
        current.note(note)
    else:
        warnings.warn(note, PhotplugWarning, stacklevel=2)
