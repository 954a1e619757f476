"""The plugin manager: built-in plugins, those of other packages, blocking, tracing, and what is said of failures."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import TypeVar

import pluggy

import dja_photplug
from dja_photplug import hookspecs
from dja_photplug.archive.releases import URL_VARIABLE
from dja_photplug.errors import PhotplugError, PhotplugWarning, suggest
from dja_photplug.hookspecs import PROJECT
from dja_photplug.remote.cache import CACHE_VARIABLE

__all__ = [
    "BUILTINS",
    "KNOWN_SCHEMAS",
    "LOADER",
    "describe_plugins",
    "find_raiser",
    "get_plugin_manager",
    "has_plugins",
    "implementations",
    "split_work",
]

T = TypeVar("T")

_COMMANDS = (
    *("about.plugins", "about.demo", "about.report", "commands.galfit", "commands.epochs", "commands.inject"),
    *("commands.extend", "commands.psf", "commands.survey", "about.fetch", "commands.catalog", "commands.weight"),
    "commands.info",
)
LOADER = "dja-loader"
"""Name of the built-in plugin that loads the archive's mosaics."""
KNOWN_SCHEMAS = "known-schemas"
"""Name of the built-in plugin that recognises catalogues."""
BUILTINS = {
    LOADER: "dja_photplug.hooks.dja_loader",
    "eazy-writer": "dja_photplug.hooks.eazy_writer",
    "galfit-files": "dja_photplug.hooks.galfit_files",
    "given-segments": "dja_photplug.hooks.given_segments",
    "lephare-writer": "dja_photplug.hooks.lephare_writer",
    KNOWN_SCHEMAS: "dja_photplug.hooks.known_schemas",
    "noise-model": "dja_photplug.hooks.noise_model",
    "photutils-engine": "dja_photplug.hooks.photutils_engine",
    "sep-engine": "dja_photplug.hooks.sep_engine",
    "wcs-epochs": "dja_photplug.hooks.wcs_epochs",
    "table-writer": "dja_photplug.hooks.table_writer",
    # The last that is registered is asked first, and so its command comes first in the help.
    **{f"command-{name.partition('.')[2]}": f"dja_photplug.cli.{name}" for name in _COMMANDS},
}
"""Name and module of the built-in plugins."""

BLOCK_VARIABLE = "DJA_PHOTPLUG_BLOCK"
TRACE_VARIABLE = "DJA_PHOTPLUG_TRACE"
DATA_VARIABLE = "DJA_PHOTPLUG_DATA"  # of the tests
PREFIX = "DJA_PHOTPLUG"
VARIABLES = (BLOCK_VARIABLE, TRACE_VARIABLE, DATA_VARIABLE, CACHE_VARIABLE, URL_VARIABLE)
_SWITCH = {**dict.fromkeys(("", "0", "no", "off", "false"), False), **dict.fromkeys(("1", "yes", "on", "true"), True)}

logger = logging.getLogger(__name__)


class _Manager(pluggy.PluginManager):
    """A plugin manager that takes a plugin by hand as it takes an installed one: all its hooks, or an error."""

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Register a plugin.

        Parameters
        ----------
        plugin : object
            Such as a module.
        name : str, optional

        Returns
        -------
        str or None
            Its name; None where it is blocked.

        Raises
        ------
        PhotplugError
            Where it has a hook that does not exist, or one that asks for what there is not.
        """
        try:
            registered = super().register(plugin, name)
            self.check_pending()
        except pluggy.PluginValidationError as error:
            known = name or self.get_canonical_name(plugin)
            if self.is_registered(plugin):
                self.unregister(plugin)
            raise _unusable(known, error) from error
        return registered


def get_plugin_manager(block: Iterable[str] = ()) -> pluggy.PluginManager:
    """Return a plugin manager with all plugins: built-in first, so that those of other packages are asked first.

    Parameters
    ----------
    block : iterable of str, optional
        Names of plugins that are not loaded, in addition to the environment's ``DJA_PHOTPLUG_BLOCK=name,name``.

    Returns
    -------
    PluginManager
        A new one: what is registered with it by hand is known to nobody else.

    Raises
    ------
    PhotplugError
        Where a plugin cannot be loaded, has a hook that does not exist, or is in `block` and is not there; the
        message names it.

    Warns
    -----
    PhotplugWarning
        Where a name in the environment's variable is no plugin's, two plugins have one name, or a function that is
        named as a hook lacks its mark.
    """
    if find_spec("dja_photplug.hooks") is None:
        # In a bare checkout nothing maps the folder `hooks` beside the package to that name, as packaging does.
        dja_photplug.__path__.append(str(Path(dja_photplug.__path__[0]).parent))
    manager = _Manager(PROJECT)
    manager.add_hookspecs(hookspecs)
    _check_environment()
    entries = entry_points(group=PROJECT)
    _block(manager, block, {*BUILTINS, *(entry.name for entry in entries)})
    for name, module in BUILTINS.items():
        if not manager.is_blocked(name):
            manager.register(import_module(module), name)
    for entry in entries:
        if manager.has_plugin(entry.name):
            told = f"plugin {entry.name!r} of {entry.value} is ignored: another has this name; rename its entry point"
            warnings.warn(told, PhotplugWarning, stacklevel=2)
            continue
        try:
            manager.load_setuptools_entrypoints(PROJECT, entry.name)
        except PhotplugError:  # of a hook that does not exist
            raise
        except (Exception, SystemExit) as error:
            raise _unusable(entry.name, error) from error
    _tell_unmarked(manager)
    if _is_traced():
        _trace(manager)
    return manager


def _block(manager: pluggy.PluginManager, names: Iterable[str], known: set[str]) -> None:
    """Block plugins by name; a wrong name is an error of the program, and no more than a warning in the environment."""
    variable = [name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip()]
    for name, origin in [*((name, "block") for name in names), *((name, BLOCK_VARIABLE) for name in variable)]:
        if name not in known:
            there = suggest(name, known) or f"; there are {', '.join(sorted(known))}"
            told = f"{origin}: there is no plugin {name!r} to block{there}"
            if origin != BLOCK_VARIABLE:
                raise PhotplugError(told)
            warnings.warn(told, PhotplugWarning, stacklevel=3)
        manager.set_blocked(name)


def _tell_unmarked(manager: pluggy.PluginManager) -> None:
    """Warn of functions of plugins that are named as hooks, and are none for want of the mark."""
    for name, plugin in manager.list_name_plugin():
        if plugin is None or name in BUILTINS:
            continue
        for attribute in dir(plugin):
            function = getattr(plugin, attribute, None)
            marked = getattr(function, f"{PROJECT}_impl", None) is not None
            if attribute.startswith("photplug_") and callable(function) and not marked:
                told = (
                    f"plugin {name!r}: {attribute} lacks @hookimpl, so it is not called; add it, or rename the function"
                )
                warnings.warn(told, PhotplugWarning, stacklevel=3)


def _check_environment() -> None:
    """Tell of environment variables that look like ours and are none; plugins may read their own."""
    for name in os.environ:
        meant = suggest(name, VARIABLES)
        if name not in VARIABLES and name.startswith(PREFIX) and meant:
            warnings.warn(f"unknown environment variable {name} is ignored{meant}", PhotplugWarning, stacklevel=3)


def _is_traced() -> bool:
    """Return whether calls of hooks are logged."""
    value = os.environ.get(TRACE_VARIABLE, "")
    meaning = _SWITCH.get(value.strip().lower())
    if meaning is None:
        raise PhotplugError(f"{TRACE_VARIABLE}: {value!r} is neither 1 nor 0; set it to 1 to log hook calls")
    return meaning


def _unusable(name: str, error: BaseException) -> PhotplugError:
    reason = " ".join(str(error).split())
    return PhotplugError(
        f"plugin {name!r} cannot be used ({type(error).__name__}: {reason}); fix it, or set {BLOCK_VARIABLE}={name}"
    )


def _trace(manager: pluggy.PluginManager) -> None:
    """Log each call of a hook, with who was asked and how long it took."""
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    started: list[float] = []

    def before(hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, object]) -> None:
        started.append(time.perf_counter())
        logger.info("%s asks %s", hook, ", ".join(i.plugin_name for i in reversed(implementations)) or "nobody")

    def after(
        outcome: pluggy.Result[object],
        hook: str,
        implementations: Sequence[pluggy.HookImpl],
        arguments: Mapping[str, object],
    ) -> None:
        what = f"raised {outcome.exception!r}" if outcome.exception else f"gave {type(outcome.get_result()).__name__}"
        logger.info("%s %s in %.3f s", hook, what, time.perf_counter() - started.pop())

    manager.add_hookcall_monitoring(before, after)


def find_raiser(manager: pluggy.PluginManager, error: BaseException) -> str | None:
    """Return the plugin of somebody else whose code is deepest in the error's traceback; None where that is ours.

    It is known by its hooks, and by the package that they are in, because what a hook returned, such as a noise model,
    is called later, by our code.

    Parameters
    ----------
    manager : PluginManager
    error : Exception
        As caught, with its traceback.

    Returns
    -------
    str or None
        Name of the plugin.
    """
    hooks: dict[CodeType, str] = {}
    packages: dict[str, str] = {}
    for name, plugin in manager.list_name_plugin():
        for caller in manager.get_hookcallers(plugin) or () if plugin is not None else ():
            for implementation in caller.get_hookimpls():
                function = implementation.function
                if implementation.plugin_name == name and hasattr(function, "__code__"):
                    hooks[function.__code__] = name
                    if name not in BUILTINS:
                        packages[str(function.__module__).partition(".")[0]] = name
    trace, found = error.__traceback__, None
    while trace is not None:
        frame = trace.tb_frame
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        found = hooks.get(frame.f_code) or packages.get(package) or found
        trace = trace.tb_next
    return None if found in BUILTINS else found


def implementations(manager: pluggy.PluginManager, hook: str) -> list[pluggy.HookImpl]:
    """Return the implementations of a hook; the last one is asked first.

    Parameters
    ----------
    manager : PluginManager
    hook : str

    Returns
    -------
    list of HookImpl
    """
    caller: pluggy.HookCaller = getattr(manager.hook, hook)
    return caller.get_hookimpls()


def has_plugins(manager: pluggy.PluginManager, *hooks: str) -> bool:
    """Return whether a plugin that is not built in implements one of the hooks.

    Parameters
    ----------
    manager : PluginManager
    *hooks : str
        Names, such as ``photplug_measure``.

    Returns
    -------
    bool
    """
    return any(each.plugin_name not in BUILTINS for hook in hooks for each in implementations(manager, hook))


def split_work(manager: pluggy.PluginManager, workers: int) -> tuple[int, pluggy.PluginManager | None]:
    """Return how many processes can share work, and the manager where all is done in this one.

    A manager cannot be sent to a process, which makes its own of the installed plugins: others are known here alone.

    Parameters
    ----------
    manager : PluginManager
    workers : int
        Processes that are asked for.

    Returns
    -------
    workers : int
        As asked for; 1 where `manager` has other plugins than those that are installed.
    manager : PluginManager or None
        To work with in this process; None where each process makes its own.
    """
    if workers > 1 and manager.list_name_plugin() == get_plugin_manager().list_name_plugin():
        return workers, None
    return 1, manager


def describe_plugins(manager: pluggy.PluginManager) -> list[tuple[str, str, list[str]]]:
    """Return name, origin and hooks of each plugin, in the order in which they are asked.

    Blocked ones come last, with the origin ``blocked``.

    Parameters
    ----------
    manager : PluginManager

    Returns
    -------
    list of tuple
        Name; the package with its version, ``built in``, ``registered`` or ``blocked``; and names of hooks, sorted.
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
