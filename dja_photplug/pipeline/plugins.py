"""The plugin manager: built-in plugins, those of other packages, blocking, tracing, and what is said of failures."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import warnings
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
from dja_photplug.files.formats import CATALOG_FORMATS, EAZY_FORMATS, LEPHARE_SUFFIXES
from dja_photplug.hookspecs import PROJECT
from dja_photplug.options.arguments import PluginStages
from dja_photplug.options.commands import COMMAND_STAGES
from dja_photplug.options.declare import Stage
from dja_photplug.options.stages import ENGINES, NOISE_PRESETS, STAGES, Options
from dja_photplug.remote.cache import CACHE_VARIABLE

__all__ = [
    "BUILTINS",
    "KNOWN_SCHEMAS",
    "LOADER",
    "ask_all",
    "ask_first",
    "ask_some",
    "catalog_suffixes",
    "complete_options",
    "describe_plugins",
    "find_asked_before",
    "find_raiser",
    "get_plugin_manager",
    "has_plugins",
    "naming_plugin",
    "plugin_stages",
    "register_commands",
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
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*")

logger = logging.getLogger(__name__)


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
        Where a plugin cannot be loaded, has a hook that does not exist, or is to be blocked and is not there; the
        message names it.
    """
    if find_spec("dja_photplug.hooks") is None:
        # In a bare checkout nothing maps the folder `hooks` beside the package to that name, as packaging does.
        dja_photplug.__path__.append(str(Path(dja_photplug.__path__[0]).parent))
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    _check_environment()
    known = {*BUILTINS, *(entry.name for entry in entry_points(group=PROJECT))}
    blocked = [name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip()]
    for name, origin in [*((name, "block") for name in block), *((name, BLOCK_VARIABLE) for name in blocked)]:
        if name not in known:
            there = suggest(name, known) or f"; there are {', '.join(sorted(known))}"
            raise PhotplugError(f"{origin}: no plugin is called {name!r}, so it cannot be blocked{there}")
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
    if _is_traced():
        _trace(manager)
    return manager


def _check_environment() -> None:
    """Tell of environment variables that look like ours and are none; plugins may read their own."""
    for name in os.environ:
        meant = suggest(name, VARIABLES)
        if name not in VARIABLES and name.startswith(PREFIX) and meant:
            warnings.warn(f"the environment variable {name} is not read{meant}", PhotplugWarning, stacklevel=3)


def _is_traced() -> bool:
    """Return whether calls of hooks are logged."""
    value = os.environ.get(TRACE_VARIABLE, "")
    meaning = _SWITCH.get(value.strip().lower())
    if meaning is None:
        raise PhotplugError(f"{TRACE_VARIABLE}: {value!r} is neither 1 nor 0; give 1 to log the calls of hooks")
    return meaning


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


def _call(
    manager: pluggy.PluginManager, hook: str, arguments: Mapping[str, object], left_out: Sequence[str] = ()
) -> object:
    """Call a hook, of all plugins but those that are left out."""
    others = [manager.get_plugin(name) for name in left_out]
    caller: pluggy.HookCaller = manager.subset_hook_caller(hook, others) if others else getattr(manager.hook, hook)
    with naming_plugin(manager, hook):
        return caller(**arguments)


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
    except Exception as error:
        plugin = find_raiser(manager, error)
        if plugin is None or (isinstance(error, PhotplugError) and error.plugin is not None):
            raise
        kind = "" if isinstance(error, PhotplugError) else f"{type(error).__name__}: "
        message = f"plugin {plugin!r} failed in {hook}: {kind}{error}"
        named = PhotplugError(" ".join(message.split()))
        named.plugin = plugin
        raise named from error


def find_raiser(manager: pluggy.PluginManager, error: Exception) -> str | None:
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
                        packages[function.__module__.partition(".")[0]] = name
    trace, found = error.__traceback__, None
    while trace is not None:
        frame = trace.tb_frame
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        found = hooks.get(frame.f_code) or packages.get(package) or found
        trace = trace.tb_next
    return None if found in BUILTINS else found


def _refuse(manager: pluggy.PluginManager, hook: str, purpose: str, known: Sequence[str]) -> PhotplugError:
    """Return the error that nobody claims: what was asked for, whom, and what there is built in."""
    built_in = f"; built in are {', '.join(known)}" if known else ""
    # A purpose ends with the name that was asked for, such as engine 'sep'.
    asked = re.search(r"'([^']*)'$", purpose)
    meant = suggest(asked[1], known) if asked else ""
    return PhotplugError(
        f"{purpose}: no plugin claimed {hook}; asked {_name_asked(manager, hook)}{built_in}"
        f"{meant or '; see `dja-photplug plugins`'}"
    )


def _name_asked(manager: pluggy.PluginManager, hook: str) -> str:
    names = [implementation.plugin_name for implementation in reversed(_implementations(manager, hook))]
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
        raise _refuse(manager, hook, purpose, known)
    if not isinstance(result, expected):
        raise _not_expected(manager, hook, purpose, expected, result)
    return result


def _not_expected(
    manager: pluggy.PluginManager, hook: str, purpose: str, expected: type, result: object
) -> PhotplugError:
    return PhotplugError(
        f"{purpose}: {hook} gave a {type(result).__name__} where a {expected.__name__} is needed; it is by the "
        f"first that claimed of {_name_asked(manager, hook)}"
    )


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
    implementations = _implementations(manager, hook)
    order = [each.plugin_name for each in reversed(implementations)]
    if builtin not in order or any(each.wrapper or each.hookwrapper for each in implementations):
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
    others = {each.plugin_name for each in _implementations(manager, hook)} - set(names)
    result = _call(manager, hook, arguments, sorted(others))
    if result is not None and not isinstance(result, expected):
        raise _not_expected(manager, hook, purpose, expected, result)
    return result


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
        if not isinstance(result, expected):
            raise PhotplugError(f"{hook} gave a {type(result).__name__} where a {expected.__name__} is needed")
    return results


def _implementations(manager: pluggy.PluginManager, hook: str) -> list[pluggy.HookImpl]:
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
    return any(each.plugin_name not in BUILTINS for hook in hooks for each in _implementations(manager, hook))


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


def _check_names(options: Options, manager: pluggy.PluginManager) -> None:
    """Refuse, before the work, an engine or a noise preset that nobody can claim.

    Where there is a plugin that may claim it, that is known only when it is asked.
    """
    for what, name, known, hooks in (
        ("engine", options.engine, ENGINES, ("photplug_background", "photplug_detect", "photplug_measure")),
        ("noise preset", options.variance.noise, NOISE_PRESETS, ("photplug_load", "photplug_variance")),
    ):
        if name not in known and not has_plugins(manager, *hooks):
            raise _refuse(manager, hooks[-1], f"{what} {name!r}", known)


def plugin_stages(manager: pluggy.PluginManager) -> PluginStages:
    """Return the options that plugins declare, by the names that they give them.

    Parameters
    ----------
    manager : PluginManager

    Returns
    -------
    mapping of str to type
        Classes of options by name.

    Raises
    ------
    PhotplugError
        Where a name is taken, is no key of TOML and flag, or names no `Stage`.
    """
    stages: dict[str, type[Stage]] = {}
    for declared in ask_all(manager, "photplug_options", dict):
        for name, kind in declared.items():
            if not (isinstance(kind, type) and issubclass(kind, Stage)):
                raise PhotplugError(f"options {name!r} of a plugin are no class of Stage; see dja_photplug.plugin")
            if not _STAGE_NAME.fullmatch(name):
                raise PhotplugError(f"options {name!r} of a plugin: a name has lower-case letters, digits and _")
            if name in stages or name in (*STAGES, *COMMAND_STAGES, "options", "plugins", "engine"):
                raise PhotplugError(f"options {name!r} of a plugin: the name is taken; the plugin must choose another")
            stages[name] = kind
    return stages


def complete_options(options: Options, manager: pluggy.PluginManager) -> Options:
    """Return options with those of all plugins, by default where nobody gave them, and nothing left open.

    Parameters
    ----------
    options : Options
    manager : PluginManager

    Returns
    -------
    Options
        A copy with a group in ``plugins`` for each name that is declared, settled.

    Raises
    ------
    PhotplugError
        Where options are given that no plugin declares, or engine or preset are names that nobody can claim.
    """
    _check_names(options, manager)
    stages = plugin_stages(manager)
    for name, stage in options.plugins.items():
        if not isinstance(stage, stages.get(name, ())):
            known = ", ".join(f"{key} ({kind.__name__})" for key, kind in stages.items())
            raise PhotplugError(
                f"option plugins: {name} of type {type(stage).__name__} is not declared; there are {known or 'none'}"
            )
    plugins = {name: options.plugins.get(name, kind()) for name, kind in stages.items()}
    return replace(options, plugins=plugins).settle()


def catalog_suffixes(manager: pluggy.PluginManager, format: str = "table", schema: str = "photplug") -> tuple[str, ...]:
    """Return the suffixes that the file of a catalogue may have.

    Parameters
    ----------
    manager : PluginManager
    format : str, optional
        That of ``OutputOptions``.
    schema : str, optional
        That of ``OutputOptions``; SExtractor's text is a format of its own.

    Returns
    -------
    tuple of str
        Empty for any, where a plugin from outside writes too.

    Raises
    ------
    PhotplugError
        Where nobody writes the format.
    """
    text = (".cat",) if schema == "sextractor" else ()
    known = {"table": (*CATALOG_FORMATS, *text), "eazy": EAZY_FORMATS, "lephare": LEPHARE_SUFFIXES}
    if has_plugins(manager, "photplug_write"):
        return ()
    if format not in known:
        raise PhotplugError(
            f"option format: {format!r} is not one of {', '.join(known)}, and no plugin writes others"
            f"{suggest(format, tuple(known))}"
        )
    return tuple(known[format])


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


def register_commands(manager: pluggy.PluginManager, subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Let all plugins add their commands.

    Parameters
    ----------
    manager : PluginManager
    subparsers : object
        Of the command line's parser, as `argparse.ArgumentParser.add_subparsers` returns it.

    Raises
    ------
    PhotplugError
        Where two plugins add the same, or one fails.
    """
    ask_all(manager, "photplug_register_commands", object, subparsers=subparsers)
