"""How plugins are asked: by whom a result is, whom nobody claims, and whose an exception is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import pluggy

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.plugins.checks import find_misfit, fingerprint
from dja_photplug.plugins.manager import BUILTINS, find_raiser, implementations

__all__ = [
    "ENGINE_HOOKS",
    "ask_all",
    "ask_first",
    "ask_some",
    "blame",
    "find_asked_before",
    "name_strangers",
    "naming_plugin",
    "refuse",
]

T = TypeVar("T")

ENGINE_HOOKS = ("photplug_background", "photplug_detect", "photplug_measure")
"""What an engine does, which is asked by its name."""


def _call(
    manager: pluggy.PluginManager, hook: str, arguments: Mapping[str, object], left_out: Sequence[str] = ()
) -> object:
    """Call a hook, of all plugins but those that are left out; what plugins of others are handed must stay as it is."""
    others = [manager.get_plugin(name) for name in left_out]
    caller: pluggy.HookCaller = manager.subset_hook_caller(hook, others) if others else getattr(manager.hook, hook)
    strangers = [name for name in name_strangers(manager, hook) if name not in left_out]
    before = {name: fingerprint(value) for name, value in arguments.items()} if strangers else {}
    with naming_plugin(manager, hook):
        result = caller(**arguments)
    for name, mark in before.items():
        if mark is not None and fingerprint(arguments[name]) != mark:
            raise blame(strangers, hook, f"changed the {name} that it was handed; give it a copy to work on")
    return result


def name_strangers(manager: pluggy.PluginManager, hook: str) -> list[str]:
    """Return the plugins of others that implement a hook.

    Parameters
    ----------
    manager : PluginManager
    hook : str

    Returns
    -------
    list of str
        In the order in which they are asked.
    """
    names = [each.plugin_name for each in reversed(implementations(manager, hook))]
    return [name for name in names if name not in BUILTINS]


def blame(names: Sequence[str], hook: str, what: str) -> PhotplugError:
    """Return the error that a plugin gave something else than a hook is to give.

    Parameters
    ----------
    names : sequence of str
        The plugin, or those that it may have been.
    hook : str
    what : str
        What it did, what was expected and what to do.

    Returns
    -------
    PhotplugError
        With the name in ``plugin``.
    """
    who = f"plugin {names[0]!r}" if len(names) == 1 else f"one of the plugins {', '.join(map(repr, names))}"
    error = PhotplugError(f"{who} in {hook}: {' '.join(what.split())}")
    error.plugin = names[0] if names else None
    return error


def _find_giver(
    manager: pluggy.PluginManager, hook: str, arguments: Mapping[str, object], bad: Callable[[object], bool]
) -> list[str]:
    """Return whose bad result it is: of several plugins of others each is asked again by itself."""
    strangers = name_strangers(manager, hook)
    if len(strangers) < 2:
        return strangers
    for name in strangers:
        others = [plugin for other, plugin in manager.list_name_plugin() if other != name and plugin is not None]
        with naming_plugin(manager, hook):
            alone: object = manager.subset_hook_caller(hook, others)(**arguments)
        for result in alone if isinstance(alone, list) and not _first_wins(manager, hook) else [alone]:
            if result is not None and bad(result):
                return [name]
    return strangers


def _first_wins(manager: pluggy.PluginManager, hook: str) -> bool:
    caller: pluggy.HookCaller = getattr(manager.hook, hook)
    return caller.spec is not None and bool(caller.spec.opts["firstresult"])


def _check(
    manager: pluggy.PluginManager,
    hook: str,
    purpose: str,
    expected: type,
    result: object,
    arguments: Mapping[str, object],
) -> None:
    """Refuse a result of another type than is expected, or that does not fit what the hook was asked about."""

    def find_fault(result: object) -> str | None:
        if not isinstance(result, expected):
            return f"gave a {type(result).__name__} where a {expected.__name__} is needed"
        return find_misfit(hook, result, arguments)

    if not isinstance(result, expected) or name_strangers(manager, hook):
        fault = find_fault(result)
        if fault is not None:
            givers = _find_giver(manager, hook, arguments, lambda other: find_fault(other) is not None)
            raise blame(givers or ["built in"], hook, f"{f'{purpose}: ' if purpose else ''}{fault}")


@contextmanager
def naming_plugin(manager: pluggy.PluginManager, hook: str) -> Iterator[None]:
    """Let an exception in a plugin of somebody else come back with the plugin's name.

    One in a built-in plugin stays what it is: bad input is told already, and everything else is a bug of ours.

    Parameters
    ----------
    manager : PluginManager
    hook : str
        What is being done, for the message.

    Yields
    ------
    None

    Raises
    ------
    PhotplugError
        Where a plugin fails.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        plugin = find_raiser(manager, error)
        if plugin is None or (isinstance(error, PhotplugError) and error.plugin is not None):
            raise
        kind = "" if isinstance(error, PhotplugError) else f"{type(error).__name__}: "
        message = f"plugin {plugin!r} failed in {hook}: {kind}{error}"
        named = PhotplugError(" ".join(message.split()))
        named.plugin = plugin
        raise named from error


def refuse(manager: pluggy.PluginManager, hook: str, purpose: str, known: Sequence[str]) -> PhotplugError:
    """Return the error that nobody claims: what was asked for, whom, and what there is built in.

    Parameters
    ----------
    manager : PluginManager
    hook : str
    purpose : str
        What was asked for, such as ``engine 'sep'``.
    known : sequence of str
        The names that are built in.

    Returns
    -------
    PhotplugError
    """
    built_in = f"; built in are {', '.join(known)}" if known else ""
    # A purpose ends with the name that was asked for, such as engine 'sep'.
    asked = re.search(r"'([^']*)'$", purpose)
    meant = suggest(asked[1], known) if asked else ""
    return PhotplugError(
        f"{purpose}: no plugin claimed {hook}; asked {_name_asked(manager, hook)}{built_in}"
        f"{meant or _explain_engine(manager, hook) or '; see `dja-photplug plugins`'}"
    )


def _explain_engine(manager: pluggy.PluginManager, hook: str) -> str:
    """Return what an engine of a plugin lacks, which has another of the hooks of one, for the end of a message."""
    if hook not in ENGINE_HOOKS:
        return ""
    there = name_strangers(manager, hook)
    for other in ENGINE_HOOKS:
        for name in name_strangers(manager, other):
            if name not in there:
                return f"; plugin {name!r} has {other} but not {hook}, which an engine with its own name needs"
    return ""


def _name_asked(manager: pluggy.PluginManager, hook: str) -> str:
    names = [implementation.plugin_name for implementation in reversed(implementations(manager, hook))]
    return ", ".join(names) or "nobody"


def ask_first(
    manager: pluggy.PluginManager,
    hook: str,
    purpose: str,
    expected: type[T],
    known: Sequence[str] = (),
    /,
    **arguments: object,
) -> T:
    """Return the first plugin's result.

    Parameters
    ----------
    manager : PluginManager
    hook : str
    purpose : str
        What was asked for, such as ``engine 'sep'``, for the message.
    expected : type
        Of the result.
    known : sequence of str, optional
        The names that are built in, for the message.
    **arguments
        Of the hook.

    Returns
    -------
    object
        Of the expected type.

    Raises
    ------
    PhotplugError
        Where nobody claims; the message names `purpose` and everybody who was asked. Where a plugin fails, or returns
        something else than is expected.
    """
    result = _call(manager, hook, arguments)
    if result is None:
        raise refuse(manager, hook, purpose, known)
    _check(manager, hook, purpose, expected, result, arguments)
    return cast(T, result)


def find_asked_before(manager: pluggy.PluginManager, builtin: str, hook: str) -> list[str] | None:
    """Return the plugins that are asked before a built-in one, which can do its part in another way than by the hook.

    Parameters
    ----------
    manager : PluginManager
    builtin : str
        Name of the built-in plugin.
    hook : str
        Whose first result wins.

    Returns
    -------
    list of str or None
        None where it is not asked at all, or the hook has a wrapper, which has a say in all that is given.
    """
    there = implementations(manager, hook)
    order = [each.plugin_name for each in reversed(there)]
    if builtin not in order or any(each.wrapper or each.hookwrapper for each in there):
        return None
    return order[: order.index(builtin)]


def ask_some(
    manager: pluggy.PluginManager,
    names: Sequence[str],
    hook: str,
    purpose: str,
    expected: type[T],
    /,
    **arguments: object,
) -> T | None:
    """Return the first result of some of the plugins.

    Parameters
    ----------
    manager : PluginManager
    names : sequence of str
        Of these plugins.
    hook, purpose, expected, **arguments
        As for :func:`ask_first`.

    Returns
    -------
    object or None
        None where none of them claims.

    Raises
    ------
    PhotplugError
        As :func:`ask_first`.
    """
    others = {each.plugin_name for each in implementations(manager, hook)} - set(names)
    result = _call(manager, hook, arguments, sorted(others))
    if result is not None:
        _check(manager, hook, purpose, expected, result, arguments)
    return cast("T | None", result)


def ask_all(manager: pluggy.PluginManager, hook: str, expected: type[T], **arguments: object) -> list[T]:
    """Return the results of all plugins; of a first-result hook the first, if anybody claims.

    Parameters
    ----------
    manager : PluginManager
    hook : str
    expected : type
        Of each result.
    **arguments
        Of the hook.

    Returns
    -------
    list
        Of the expected type, those of the plugins that were asked first in front; empty where nobody gives any.

    Raises
    ------
    PhotplugError
        Where a plugin fails, or returns something else than is expected.
    """
    given = _call(manager, hook, arguments)
    results: list[T] = [] if given is None else given if isinstance(given, list) else [given]  # type: ignore[list-item]
    for result in results:
        _check(manager, hook, "", expected, result, arguments)
    return results
