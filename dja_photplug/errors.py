"""The one exception root of the package, and its warning."""

from __future__ import annotations

__all__ = ["PhotplugError", "PhotplugWarning"]


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
