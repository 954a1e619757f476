"""The one exception root of the package, its warning, and what is said of a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

__all__ = ["PhotplugError", "PhotplugWarning", "suggest"]


class PhotplugError(Exception):
    """Bad input, said in one sentence: what was asked, what was found, what to do.

    The command line prints the message on one line and ends with status 1.

    Attributes
    ----------
    plugin : str or None
        The plugin of somebody else that it comes from.
    """

    plugin: str | None = None


class PhotplugWarning(UserWarning):
    """Something the user must know, though the work goes on; the command line prints it on one line."""


def suggest(name: str, known: Iterable[str] | Mapping[str, str]) -> str:
    """Return the nearest of the names that there are, as the end of a message.

    Parameters
    ----------
    name : str
        As it was given.
    known : iterable of str, or mapping
        A mapping says what is offered for each.

    Returns
    -------
    str
        Empty where none is near; case, hyphens and underscores make no difference.

    Examples
    --------
    >>> suggest("Photutil", ["sep", "photutils"])
    '; did you mean photutils?'
    >>> suggest("x", ["sep", "photutils"])
    ''
    """
    plain = {_plain(each): known[each] if isinstance(known, Mapping) else each for each in known}
    near = difflib.get_close_matches(_plain(name), plain, n=1)
    return f"; did you mean {plain[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
