"""Output files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dja_photplug.errors import PhotplugError
from dja_photplug.remote.paths import is_url

__all__ = ["check_output", "move_files", "whole_file", "whole_folder"]


def check_output(path: Path, *, overwrite: bool = False, suffixes: tuple[str, ...] = ()) -> Path:
    """Return `path` where it may be written; called before the work starts, so that no hour of it is lost.

    Parameters
    ----------
    path : Path
        Of the output.
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
        Where the file exists and `overwrite` is False, it is a folder, its folder does not exist, it is a URL, or its
        name ends in none of the `suffixes`.
    """
    if is_url(path):
        raise PhotplugError(f"{str(path).replace(':/', '://', 1)}: outputs are written on disk; name a file there")
    if suffixes and not path.name.lower().endswith(suffixes):
        raise PhotplugError(f"{path}: this output is written as {', '.join(suffixes)}; name it so")
    if path.is_dir():
        raise PhotplugError(f"{path}: is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise PhotplugError(f"{path}: exists already; name another file or add --overwrite")
    if not path.absolute().parent.is_dir():
        raise PhotplugError(f"{path}: the folder {path.parent} does not exist; create it or name another")
    return path


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = False, suffixes: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on any error.

    The temporary name keeps the suffixes, because writers choose the format by them.

    Parameters
    ----------
    path, overwrite, suffixes
        As for :func:`check_output`.

    Yields
    ------
    Path
        Where to write, in the same folder.

    Raises
    ------
    PhotplugError
        As :func:`check_output`; and where the file cannot be written.
    """
    path = check_output(Path(path), overwrite=overwrite, suffixes=suffixes)
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise PhotplugError(f"{path}: cannot be written ({error.strerror or error}); check folder and space") from error
    finally:
        temporary.unlink(missing_ok=True)


def move_files(folder: Path, directory: Path, first: str = "") -> None:
    """Move the files of a folder to another one, where each appears whole and replaces what there is.

    Parameters
    ----------
    folder : Path
    directory : Path
        On the same disk.
    first : str, optional
        Name of the file that has its place before the others.

    Raises
    ------
    OSError
        Where the folder cannot be written.
    """
    for path in sorted(folder.iterdir(), key=lambda path: (path.name != first, path.name)):
        os.replace(path, directory / path.name)


@contextmanager
def whole_folder(directory: Path, names: Sequence[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder whose files move to `directory` on success, which appears whole or not at all.

    Parameters
    ----------
    directory : Path
        Made if it is not there; other files in it stay.
    names : sequence of str
        Of the files that will be written.
    overwrite : bool
        Replace existing files.

    Yields
    ------
    Path
        The folder to write into, beside `directory`.

    Raises
    ------
    PhotplugError
        Where it cannot be made, or one of the `names` in it exists and is not overwritten.
    """
    if directory.exists() and not directory.is_dir():
        raise PhotplugError(f"{directory}: is a file; name a folder")
    there = [name for name in names if (directory / name).exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} others exist" if len(there) > 1 else " exists"
        raise PhotplugError(f"{directory / there[0]}{more} already; name another folder or add --overwrite")
    place = directory.absolute()
    temporary = place.with_name(f".{secrets.token_hex(4)}-{place.name}")
    try:
        temporary.mkdir()
        yield temporary
        if directory.is_dir():
            move_files(temporary, directory)
        else:
            os.replace(temporary, place)
    except OSError as error:
        raise PhotplugError(
            f"{directory}: cannot be written ({error.strerror or error}); check folder and space"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
