"""The options, names, suffixes and commands that plugins add."""

from __future__ import annotations

import re
from argparse import ArgumentParser, _SubParsersAction
from dataclasses import replace

import pluggy

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.formats import CATALOG_FORMATS, EAZY_FORMATS, LEPHARE_SUFFIXES
from dja_photplug.options.arguments import PluginStages
from dja_photplug.options.commands import COMMAND_STAGES
from dja_photplug.options.declare import Stage
from dja_photplug.options.run import STAGES, Options
from dja_photplug.options.stages import ENGINES, NOISE_PRESETS
from dja_photplug.plugins.calls import ENGINE_HOOKS, ask_all, refuse
from dja_photplug.plugins.manager import has_plugins

__all__ = ["catalog_suffixes", "complete_options", "plugin_stages", "register_commands"]

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _check_names(options: Options, manager: pluggy.PluginManager) -> None:
    """Refuse, before the work, an engine or a noise preset that nobody can claim.

    Where there is a plugin that may claim it, that is known only when it is asked.
    """
    for what, name, known, hooks in (
        ("engine", options.engine, ENGINES, ENGINE_HOOKS),
        ("noise preset", options.variance.noise, NOISE_PRESETS, ("photplug_load", "photplug_variance")),
    ):
        if name not in known and not has_plugins(manager, *hooks):
            raise refuse(manager, hooks[-1], f"{what} {name!r}", known)


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
                raise PhotplugError(f"options {name!r} of a plugin: not a subclass of Stage; see dja_photplug.plugin")
            if not _STAGE_NAME.fullmatch(name):
                raise PhotplugError(
                    f"options {name!r} of a plugin: not a valid name; use lower-case letters, digits and _"
                )
            if name in stages or name in (*STAGES, *COMMAND_STAGES, "options", "plugins", "engine"):
                raise PhotplugError(
                    f"options {name!r} of a plugin: the name is already taken; rename them in the plugin"
                )
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
                f"option plugins: no plugin declares {name} of type {type(stage).__name__}; declared: {known or 'none'}"
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
