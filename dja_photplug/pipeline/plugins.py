"""The plugin manager: built-in plugins, those of other packages, blocking, tracing, and the two error messages."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import pluggy

from dja_photplug import hookspecs
from dja_photplug.errors import PhotplugError
from dja_photplug.hookspecs import PROJECT

__all__ = ["BUILTINS", "ask_all", "ask_first", "describe_plugins", "get_plugin_manager"]

BUILTINS = {
    "dja-loader": "dja_photplug.hooks.dja_loader",
    "eazy-writer": "dja_photplug.hooks.eazy_writer",
    "galfit-files": "dja_photplug.hooks.galfit_files",
    "given-segments": "dja_photplug.hooks.given_segments",
    "noise-model": "dja_photplug.hooks.noise_model",
    "photutils-engine": "dja_photplug.hooks.photutils_engine",
    "sep-engine": "dja_photplug.hooks.sep_engine",
    "wcs-epochs": "dja_photplug.hooks.wcs_epochs",
    "table-writer": "dja_photplug.hooks.table_writer",
}
"""Name and module of the built-in plugins."""

BLOCK_VARIABLE = "DJA_PHOTPLUG_BLOCK"
TRACE_VARIABLE = "DJA_PHOTPLUG_TRACE"

logger = logging.getLogger(__name__)


def get_plugin_manager(block: Iterable[str] = ()) -> pluggy.PluginManager:
    """Return a plugin manager with all plugins: built-in first, so that those of other packages are asked first.

    Parameters
    ----------
    block : iterable of str, optional
        Names of plugins that are not loaded, in addition to the environment's ``DJA_PHOTPLUG_BLOCK=name,name``.

    Raises
    ------
    PhotplugError
        Where a plugin cannot be loaded or has a hook that does not exist; the message names it.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    blocked = [name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip()]
    for name in (*block, *blocked):
        manager.set_blocked(name)
    for name, module in BUILTINS.items():
        if not manager.is_blocked(name):
            manager.register(import_module(module), name)
    for entry in entry_points(group=PROJECT):
        try:
            manager.load_setuptools_entrypoints(PROJECT, entry.name)
        except Exception as error:
            raise _unusable(entry.name, error) from error
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise _unusable(str(manager.get_name(error.plugin)), error) from error
    if os.environ.get(TRACE_VARIABLE, "0") not in ("", "0"):
        _trace(manager)
    return manager


def _unusable(name: str, error: Exception) -> PhotplugError:
    reason = " ".join(str(error).split())
    return PhotplugError(
        f"plugin {name!r} cannot be used ({type(error).__name__}: {reason}); mend it, or set {BLOCK_VARIABLE}={name}"
    )


def _trace(manager: pluggy.PluginManager) -> None:
    """Log each call of a hook, with who was asked and how long it took."""
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    started: list[float] = []

    def before(hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]) -> None:
        started.append(time.perf_counter())
        logger.info("%s asks %s", hook, ", ".join(i.plugin_name for i in reversed(implementations)) or "nobody")

    def after(
        outcome: Any, hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]
    ) -> None:
        what = f"raised {outcome.exception!r}" if outcome.exception else f"gave {type(outcome.get_result()).__name__}"
        logger.info("%s %s in %.3f s", hook, what, time.perf_counter() - started.pop())

    manager.add_hookcall_monitoring(before, after)


def _call(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> Any:
    """Call a hook; an exception in a plugin comes back with the plugin's name."""
    caller = getattr(manager.hook, hook)
    try:
        return caller(**arguments)
    except Exception as error:
        plugin = _find_raiser(caller, error)
        if isinstance(error, PhotplugError) and (plugin is None or plugin in BUILTINS):
            raise
        kind = "" if isinstance(error, PhotplugError) else f"{type(error).__name__}: "
        message = f"plugin {plugin or 'unknown'!r} failed in {hook}: {kind}{error}"
        raise PhotplugError(" ".join(message.split())) from error


def _find_raiser(caller: pluggy.HookCaller, error: Exception) -> str | None:
    """Return the name of the plugin whose implementation is in the error's traceback."""
    names = {i.function.__code__: i.plugin_name for i in caller.get_hookimpls() if hasattr(i.function, "__code__")}
    trace, found = error.__traceback__, None
    while trace is not None:
        found = names.get(trace.tb_frame.f_code, found)
        trace = trace.tb_next
    return found


def ask_first(manager: pluggy.PluginManager, hook: str, purpose: str, **arguments: Any) -> Any:
    """Return the first plugin's result.

    Parameters
    ----------
    manager : PluginManager
    hook : str
    purpose : str
        What was asked for, such as ``engine 'sep'``, for the message.

    Raises
    ------
    PhotplugError
        Where nobody claims; the message names `purpose` and everybody who was asked. Where a plugin fails.
    """
    result = _call(manager, hook, **arguments)
    if result is None:
        asked = [impl.plugin_name for impl in reversed(getattr(manager.hook, hook).get_hookimpls())]
        raise PhotplugError(
            f"{purpose}: no plugin claimed {hook}; asked {', '.join(asked) if asked else 'nobody'}; "
            "see `dja-photplug plugins`"
        )
    return result


def ask_all(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> Any:
    """Return the results of all plugins (of a first-result hook: the first result, or None).

    Raises
    ------
    PhotplugError
        Where a plugin fails; the message names it.
    """
    return _call(manager, hook, **arguments)


def describe_plugins(manager: pluggy.PluginManager) -> list[tuple[str, str, list[str]]]:
    """Return name, origin and hooks of each plugin, in the order in which they are asked.

    Blocked ones come last, with the origin ``blocked``.
    """
    origin = {plugin: f"{dist.project_name} {dist.version}" for plugin, dist in manager.list_plugin_distinfo()}
    rows: list[tuple[str, str, list[str]]] = []
    blocked: list[tuple[str, str, list[str]]] = []
    for name, plugin in reversed(manager.list_name_plugin()):
        if plugin is None:
            blocked.append((name, "blocked", []))
            continue
        hooks = sorted(caller.name for caller in manager.get_hookcallers(plugin) or ())
        rows.append((name, origin.get(plugin, "built in" if name in BUILTINS else "registered"), hooks))
    return rows + blocked
