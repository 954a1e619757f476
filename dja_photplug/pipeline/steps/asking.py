"""How an engine is asked for a step of the work, here and in other processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Generic, TypeVar

import pluggy

from dja_photplug.options.run import Options
from dja_photplug.options.stages import ENGINES
from dja_photplug.plugins.calls import ask_all, ask_first
from dja_photplug.plugins.manager import get_plugin_manager, has_plugins

__all__ = ["Ask", "ask_engine", "ask_stand_in"]

T = TypeVar("T")


class Ask(Generic[T]):
    """A hook to be asked for tiles of an image; in other processes that of the plugins installed there.

    Parameters
    ----------
    hook : str
    expected : type
        Of its result.
    options : Options
    manager : PluginManager or None
        All plugins where it is None.
    stand_in : bool
        Whether what sep's engine does is taken where an engine measures alone.
    """

    def __init__(
        self,
        hook: str,
        expected: type[T],
        options: Options,
        manager: pluggy.PluginManager | None,
        *,
        stand_in: bool,
    ) -> None:
        self.hook, self.expected, self.options, self.manager = hook, expected, options, manager
        self.stand_in = stand_in

    def __getstate__(self) -> dict[str, object]:
        """Return what another process gets: all but the manager."""
        return vars(self) | {"manager": None}

    def __call__(self, **arguments: object) -> T:
        """Return the first plugin's result."""
        self.manager = self.manager or get_plugin_manager()
        if self.stand_in:
            return ask_engine(self.manager, self.hook, self.expected, self.options, **arguments)
        purpose = f"engine {self.options.engine!r}"
        return ask_first(self.manager, self.hook, purpose, self.expected, ENGINES, options=self.options, **arguments)


def ask_stand_in(
    manager: pluggy.PluginManager, hook: str, expected: type[T], options: Options, **arguments: object
) -> list[T]:
    """Return the first plugin's result, if any; for an engine that measures alone, what sep's does instead of it.

    Parameters
    ----------
    manager : PluginManager
    hook : str
    expected : type
        Of its result.
    options : Options
    **arguments : object
        Of the hook, without the options.

    Returns
    -------
    list
        Empty, or of one.
    """
    found = ask_all(manager, hook, expected, options=options, **arguments)
    if not found and options.engine not in ENGINES and has_plugins(manager, "photplug_measure"):
        found = ask_all(manager, hook, expected, options=replace(options, engine=ENGINES[0]), **arguments)
    return found


def ask_engine(manager: pluggy.PluginManager, hook: str, expected: type[T], options: Options, **arguments: object) -> T:
    """Return the first plugin's result; for an engine that measures alone, what sep's does instead of it.

    Parameters
    ----------
    manager : PluginManager
    hook : str
    expected : type
        Of its result.
    options : Options
    **arguments : object
        Of the hook, without the options.

    Returns
    -------
    object
        Of the type `expected`.

    Raises
    ------
    PhotplugError
        Where nobody claims the engine.
    """
    found = ask_stand_in(manager, hook, expected, options, **arguments)
    if found:
        return found[0]
    return ask_first(manager, hook, f"engine {options.engine!r}", expected, ENGINES, options=options, **arguments)
