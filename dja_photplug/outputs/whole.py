"""Output files and folders that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.outputs.moves import mend
from dja_photplug.outputs.run import Outputs, current_outputs, follow_links
from dja_photplug.remote.paths import is_url

__all__ = ["check_output", "hand_out", "whole_file", "whole_folder"]


def check_output(path: Path, *, overwrite: bool = False, suffixes: tuple[str, ...] = ()) -> Path:
    """Return `path` where it may be written; called before the work starts, so that no hour of it is lost.

    Parameters
    ----------
    path : Path
        Of the output. A link is followed: the file that it leads to is written.
    overwrite : bool, optional
        An existing file is to be replaced.
    suffixes : tuple of str, optional
        What its name may end in, in lower case; anything by default.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    PhotplugError
        Where the file exists and `overwrite` is False, it is no file, or a URL, it is an input of the run, its folder
        does not exist or cannot be written, or its name ends in none of the `suffixes`.
    """
    if "\0" in str(path):
        raise PhotplugError(f"{str(path)!r}: a file name cannot contain null characters; rename it")
    if is_url(path):
        raise PhotplugError(f"{str(path).replace(':/', '://', 1)}: outputs are written on disk; name a local file")
    if suffixes and not path.name.lower().endswith(suffixes):
        meant = suggest(path.suffix, suffixes) if path.suffix else ""
        raise PhotplugError(f"{path}: the suffix must be one of {', '.join(suffixes)}{meant or '; rename it'}")
    current = current_outputs()
    with _telling(path):
        place = _find_place(path)
        if place.is_symlink():
            raise PhotplugError(f"{path}: is a circular link; name another file")
        if place.is_dir():
            raise PhotplugError(f"{path}: is a folder; name a file in it")
        mend(place.parent)
        if place.exists() and not place.is_file():
            raise PhotplugError(f"{path}: is a device or a pipe, not a file; name a file")
        if place.exists() and not overwrite and not (current and current.may_replace(place)):
            raise PhotplugError(f"{path}: already exists; name another file or add --overwrite")
        if not place.parent.is_dir():
            shown = place.parent if path.is_symlink() else path.parent
            raise PhotplugError(f"{path}: the folder {shown} does not exist; create it or name another")
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise PhotplugError(f"{path}: the folder {path.parent} is not writable; name another")
    if current is not None:
        current.check_apart(place, path)
    return path


def _find_place(path: Path) -> Path:
    """Return the file that is meant, also by a path that was handed out."""
    current = current_outputs()
    return (current and current.find_place(path)) or follow_links(path)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Let what the system refuses be told with the name of the output."""
    try:
        yield
    except OSError as error:
        raise PhotplugError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and free space"
        ) from error


@contextmanager
def _run_or_own() -> Iterator[Outputs]:
    """Yield the outputs of the run, or those of a run of its own."""
    current = current_outputs()
    if current is not None:
        yield current
        return
    with Outputs() as own:
        yield own


def _is_handed_out(path: Path) -> bool:
    current = current_outputs()
    return current is not None and current.find_place(path) is not None


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = False, suffixes: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield a temporary path, whose file takes its place on success, or with all of a run, and is removed on any error.

    The temporary path has the name of the file, because writers choose the format by it.

    Parameters
    ----------
    path, overwrite, suffixes
        As for :func:`check_output`.

    Yields
    ------
    Path
        Where to write, on the same disk.

    Raises
    ------
    PhotplugError
        As :func:`check_output`; and where the file cannot be written.
    """
    path = check_output(Path(path), overwrite=overwrite, suffixes=suffixes)
    if _is_handed_out(path):
        yield path
        return
    with _run_or_own() as outputs, _telling(path):
        temporary = outputs.stage(follow_links(path), overwrite=overwrite)
        try:
            yield temporary
            if not temporary.is_file():
                raise FileNotFoundError("nothing was written")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def hand_out(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path for somebody who may write other files beside it: a hook of a plugin.

    Parameters
    ----------
    path : Path
        The output.
    overwrite : bool
        Replace existing files.

    Yields
    ------
    Path
        With the same name, in a folder whose files all move to that of `path`.

    Raises
    ------
    PhotplugError
        As :func:`check_output`; in the messages of others the path is `path`.
    """
    check_output(path, overwrite=overwrite)
    with _run_or_own() as outputs, _telling(path):
        place = follow_links(path)
        folder = outputs.folder(place.parent)
        if overwrite:
            outputs.replace(place.parent)
        with _renaming(folder, path.parent):
            yield folder / place.name


@contextmanager
def _renaming(hidden: Path, shown: Path) -> Iterator[None]:
    """Let messages show the folder that the user named."""
    try:
        yield
    except PhotplugError as error:
        text = str(error).replace(f"{hidden}{os.sep}", str(shown / "_")[:-1]).replace(str(hidden), str(shown))
        error.args = (text,)
        raise


@contextmanager
def whole_folder(directory: Path, names: Sequence[str] = (), *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder whose files move to `directory` on success, all or none.

    Parameters
    ----------
    directory : Path
        Made if it is not there; other files in it stay.
    names : sequence of str, optional
        Of the files that will be written, as far as they are known.
    overwrite : bool
        Replace existing files.

    Yields
    ------
    Path
        The folder to write into.

    Raises
    ------
    PhotplugError
        Where it cannot be made, is an input, or one of the `names` in it exists and is not overwritten.
    """
    with _telling(directory):
        place = _find_place(directory)
        if place.exists() and not place.is_dir():
            raise PhotplugError(f"{directory}: is a file; name a folder")
        if not place.parent.is_dir():
            raise PhotplugError(f"{directory}: the folder {directory.parent} does not exist; create it or name another")
        there = [name for name in names if (place / name).exists()]
        if there and not overwrite:
            more = f" and {len(there) - 1} others already exist" if len(there) > 1 else " already exists"
            raise PhotplugError(f"{directory / there[0]}{more}; name another folder or add --overwrite")
    if _is_handed_out(directory):
        yield directory
        return
    with _run_or_own() as outputs, _telling(directory):
        for name in names:
            outputs.check_apart(place / name, directory / name)
        if place.is_dir():
            folder = outputs.folder(place)
        else:
            folder = outputs.folder(place.parent) / place.name
            folder.mkdir(exist_ok=True)
        if overwrite:
            outputs.replace(place)
        with _renaming(folder, directory):
            yield folder
