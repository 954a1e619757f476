"""URLs as paths: what reads a file by its path reads one of a server in the same way."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from dja_photplug.errors import PhotplugError
from dja_photplug.remote.addresses import is_loopback
from dja_photplug.remote.transport import NotThere, describe, describe_all, list_names

__all__ = ["RemotePath", "absolute_path", "as_path", "is_url", "list_files"]

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):/+(?=[^/])", re.IGNORECASE)  # a path has one slash left of two


def is_url(text: str | Path) -> bool:
    """Return whether a text is a URL, of whatever scheme.

    Parameters
    ----------
    text : str or Path

    Returns
    -------
    bool
    """
    return _SCHEME.match(str(text)) is not None


def as_path(text: str | Path) -> Path:
    """Return the path that a text names: of a file on disk, or on a server.

    Parameters
    ----------
    text : str or Path

    Returns
    -------
    Path
        A `RemotePath` for a URL.

    Raises
    ------
    PhotplugError
        Where a URL is none that is read.

    Examples
    --------
    >>> path = as_path("https://s3.amazonaws.com/grizli-v2/JwstMosaics/v7/gds-grizli-v7.2-f444w-clear")
    >>> path.name, str(path.parent)
    ('gds-grizli-v7.2-f444w-clear', 'https://s3.amazonaws.com/grizli-v2/JwstMosaics/v7')
    """
    if isinstance(text, RemotePath) or not is_url(text):
        return Path(text) if isinstance(text, str) else text
    url = _SCHEME.sub(r"\1://", str(text), count=1)
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "s3"):
        raise PhotplugError(f"{url}: {parts.scheme} URLs are not supported; give an https or s3 URL, or a path")
    if parts.username is not None or parts.password is not None:
        raise PhotplugError(
            f"{parts.scheme}://{parts.hostname}: a URL with a user's name would be written into outputs"
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise PhotplugError(f"{url}: http is not encrypted, so the data cannot be trusted; give https")
    return RemotePath(url)


def absolute_path(path: str | Path) -> Path:
    """Return a path that means the same from any folder.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Path
        Without ``..``.
    """
    return path if isinstance(path, RemotePath) else Path(os.path.abspath(path))


def list_files(folder: Path, names: list[str]) -> set[str]:
    """Return which of some files are in a folder; those of a server are asked for side by side.

    Parameters
    ----------
    folder : Path
    names : list of str

    Returns
    -------
    set of str
        Those that are.

    Raises
    ------
    PhotplugError
        Where the server cannot be asked.
    """
    if isinstance(folder, RemotePath):
        found = describe_all([str(folder / name) for name in names])
        return {name for name, file in zip(names, found, strict=True) if file is not None}
    return {name for name in names if (folder / name).is_file()}


class RemotePath(type(Path())):  # type: ignore[misc]  # the class of paths of this system
    """The path of a file on a server, which ``str()`` gives as a URL; from :func:`as_path`.

    Files are opened to be read, from the middle too, and asked for their size. No folder is known to be none.
    """

    def __str__(self) -> str:
        return _SCHEME.sub(r"\1://", super().__str__(), count=1)

    def __fspath__(self) -> str:
        return str(self)

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
        """Open the file to be read.

        Parameters
        ----------
        mode, *args, **kwargs
            As of `open`; a text may have an ``encoding``.

        Returns
        -------
        file

        Raises
        ------
        PhotplugError
            Where it is to be written, or the server cannot be reached.
        """
        from dja_photplug.remote.ranges import open_ranges

        if set(mode) - set("rbt"):
            raise PhotplugError(f"{self}: files on a server are read-only; name a file on disk")
        stream = open_ranges(str(self))
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding=kwargs.get("encoding"))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size and time of the last change; other numbers are 0.

        Parameters
        ----------
        follow_symlinks : bool, optional
            Makes no difference.

        Returns
        -------
        os.stat_result

        Raises
        ------
        FileNotFoundError
            Where the server has no such file.
        """
        try:
            file = describe(str(self))
        except NotThere as error:
            raise FileNotFoundError(2, "No such file", str(self)) from error
        return _make_status(file.size, file.changed)

    def is_file(self) -> bool:
        """Return whether the server has the file.

        Returns
        -------
        bool
        """
        return describe_all([str(self)]) != [None]

    exists = is_file

    def is_dir(self) -> bool:
        """Return True: a server does not tell.

        Returns
        -------
        bool
        """
        return True

    def iterdir(self) -> Iterator[RemotePath]:
        """Return the files that the server's index names.

        Returns
        -------
        iterator of RemotePath

        Raises
        ------
        OSError
            Where there is no index.
        """
        return (self / name for name in list_names(str(self)))

    def absolute(self) -> RemotePath:
        """Return the path, which is absolute.

        Returns
        -------
        RemotePath
        """
        return self

    def expanduser(self) -> RemotePath:
        """Return the path, which names no user.

        Returns
        -------
        RemotePath
        """
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        """Return the path, which has no links.

        Parameters
        ----------
        strict : bool, optional
            Makes no difference.

        Returns
        -------
        RemotePath
        """
        return self


def _make_status(size: int, changed: float) -> os.stat_result:
    """Return what `os.stat` tells of a file, from the little that a server does."""
    times = (int(changed),) * 3
    nanoseconds = {"st_mtime_ns": round(changed * 1e9)}
    return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, *times), nanoseconds)
