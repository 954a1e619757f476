"""From flags of the command line and a TOML file to options.

Flags, tables and keys are derived from the declarations in `dja_photplug.options.stages`, and from those of plugins.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.options.declare import Declaration, Kind, declarations
from dja_photplug.options.stages import COMMAND_STAGES, STAGES, Options, Stage

__all__ = ["PluginStages", "add_flags", "add_plugin_flags", "band_value", "collect_options", "collect_stage"]

S = TypeVar("S", bound=Stage)
PluginStages = Mapping[str, type[Stage]]
"""The options of plugins, by the names that these gave them in ``photplug_options``."""
Values = dict[str, dict[str, Any]]  # what TOML files and flags hold, before it is checked where options are made


def _flag_of(name: str, meta: Declaration, stage: str = "") -> str:
    """Return the flag of an option; that of a plugin's begins with the name of its `stage`."""
    return meta["flag"] or "--" + "-".join(filter(None, [stage, name])).replace("_", "-")


def _numbers(kind: Kind) -> Callable[[str], tuple[object, ...]]:
    def parse(text: str) -> tuple[object, ...]:
        return tuple(kind(item) for item in text.split(","))

    parse.__name__ = "comma-separated list"
    return parse


def _number_or_auto(kind: Kind) -> Callable[[str], object]:
    def parse(text: str) -> object:
        return None if text == "auto" else kind(text)

    parse.__name__ = f"{kind.__name__}, or auto"
    return parse


def band_value(kind: Kind) -> Callable[[str], tuple[str, object]]:
    """Return what parses ``FILTER=VALUE``, or the bare value of the only band, whose name is empty.

    Parameters
    ----------
    kind : type
        Of the value.

    Returns
    -------
    callable
        For the ``type`` of a flag; it returns the band and the value.

    Raises
    ------
    ValueError
        By what is returned, where a text is neither.
    """

    def parse(text: str) -> tuple[str, object]:
        band, named, value = text.partition("=") if "=" in text else ("", "", text)
        if not value or (named and not band):
            raise ValueError(text)
        return band, kind(value)

    parse.__name__ = f"FILTER={kind.__name__}"
    return parse


def add_flags(
    parser: argparse.ArgumentParser, stages: Iterable[str], *, engine: bool = False, defaults: Options | None = None
) -> None:
    """Give `parser` the flags of the named stages (and ``--engine``), and ``--config``.

    A flag left out keeps the TOML file's value, or the default.

    Parameters
    ----------
    parser : ArgumentParser
    stages : iterable of str
        Names of fields of `Options`, or of `COMMAND_STAGES`.
    engine : bool, optional
    defaults : Options, optional
        Whose values the help shows.
    """
    defaults = defaults or Options()
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="options from a TOML file; flags win")
    if engine:
        _add_group(parser, "options", defaults, title="engine")
    for name in stages:
        _add_group(parser, name, getattr(defaults, name) if name in STAGES else COMMAND_STAGES[name]())


def add_plugin_flags(parser: argparse.ArgumentParser, name: str, kind: type[Stage]) -> None:
    """Give `parser` the flags of a plugin's options, ``--name-option``.

    Parameters
    ----------
    parser : ArgumentParser
        Of a command.
    name : str
        Of the options, as the plugin gave it in ``photplug_options``.
    kind : type
        The class of the options; the help shows its defaults.

    Raises
    ------
    PhotplugError
        Where the command has one of them already.
    """
    try:
        _add_group(parser, name, kind(), prefix=name)
    except argparse.ArgumentError as error:
        raise PhotplugError(f"options {name!r} of a plugin: {error}, of {parser.prog}; rename it") from None


def _add_group(
    parser: argparse.ArgumentParser, name: str, stage: Stage, *, title: str | None = None, prefix: str = ""
) -> None:
    group = parser.add_argument_group(title or name)
    for option, meta in declarations(stage):
        dest, keywords = f"{name}.{option}", _describe_flag(option, meta, getattr(stage, option))
        group.add_argument(_flag_of(option, meta, prefix), dest=dest, default=argparse.SUPPRESS, **keywords)  # type: ignore[arg-type]


def _describe_flag(name: str, meta: Declaration, default: object) -> dict[str, object]:
    """Return the keywords of a flag that follow from its declaration."""
    label, unit = name.upper(), f" [{meta['unit']}]" if meta["unit"] else ""
    keywords: dict[str, object] = {"type": meta["kind"], "metavar": label}
    if meta["by_band"]:
        keywords = {"type": band_value(meta["kind"]), "metavar": f"FILTER={label}", "action": "append"}
        default = None
    elif meta["kind"] is bool:
        keywords = {"action": argparse.BooleanOptionalAction}
    elif meta["optional"] and meta["kind"] is not str:
        keywords |= {"type": _number_or_auto(meta["kind"]), "metavar": f"{label}|auto"}
    elif isinstance(default, tuple):  # argparse would compare a whole list with the choices
        keywords["type"], default = _numbers(meta["kind"]), ",".join(map(str, default))
    elif meta["choices"]:
        keywords |= {"choices": meta["choices"], "metavar": None}
    shown = "" if default is None else f" (default {default})"
    return keywords | {"help": (meta["help"] + unit + shown).replace("%", "%%")}


def _read_config(path: Path, groups: PluginStages) -> Values:
    """Return the settings of each group in a TOML file, and those outside of its tables as ``options``."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PhotplugError(f"{path}: cannot read the configuration ({error.strerror}); check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PhotplugError(f"{path}: not valid TOML ({error}); correct the file") from None
    tables = {key: value for key, value in content.items() if key in groups and isinstance(value, dict)}
    settings = {"options": {key: value for key, value in content.items() if key not in tables}, **tables}
    for group, values in settings.items():
        known = [name for name, _ in declarations(groups.get(group, Options))]
        unknown = [key for key in values if key not in known]
        if unknown:
            what = f"[{group}] {unknown[0]}" if group in tables else unknown[0]
            known += [] if group in tables else [f"[{name}]" for name in groups]
            meant = _suggest_key(unknown[0], group, groups)
            raise PhotplugError(f"{path}: {what} is not an option; known: {', '.join(known)}{meant}")
    return settings


def _suggest_key(key: str, group: str, groups: PluginStages) -> str:
    """Return the nearest place in a TOML file of what was meant by a key: in its table, in others, or by its flag."""
    places: dict[str, str] = {}  # by what people write; the last of a name is the one that is offered
    own = (group, groups.get(group, Options))
    tables: list[tuple[str, type[Stage]]] = [*reversed(list(groups.items())), ("options", Options), own]
    for name, kind in tables:
        table = f"[{name}] " if name in groups else ""
        options = list(declarations(kind))
        places |= {_flag_of(option, meta).lstrip("-"): table + option for option, meta in options}
        places |= {option: table + option for option, _ in options}
    if group not in groups:
        places |= {name: f"[{name}]" for name in groups}
    return suggest(key, places)


def collect_options(
    arguments: Mapping[str, object],
    config: Path | None = None,
    defaults: Options | None = None,
    plugins: PluginStages | None = None,
) -> Options:
    """Build the options from flags (``{"detect.n_sigma": 3.0}``) over a TOML file over the defaults.

    Parameters
    ----------
    arguments : mapping
        Value by ``stage.option``; other keys are passed over.
    config : Path, optional
        The TOML file.
    defaults : Options, optional
        What holds where neither says something.
    plugins : mapping of str to type, optional
        The options of plugins.

    Returns
    -------
    Options
        Checked, with those of `plugins`.

    Raises
    ------
    PhotplugError
        Where the file cannot be read, or a table, key or value is not one of the options; the message names it.
    """
    plugins = plugins or {}
    values = _collect_values(arguments, config, plugins)
    defaults = defaults or Options()
    given = _Given(arguments, config)
    stages = {name: given.change(name, getattr(defaults, name), values[name]) for name in STAGES}
    others = {name: given.change(name, kind(), values[name]) for name, kind in plugins.items()}
    return replace(given.change("options", defaults, values["options"]), **stages, plugins=others)


class _Given(NamedTuple):
    """Where the values of options come from."""

    arguments: Mapping[str, object]
    config: Path | None

    def change(self, group: str, stage: S, values: Mapping[str, Any]) -> S:
        """Return a group of options with other values; an error says what gave the wrong one."""
        try:
            return replace(stage, **values)
        except PhotplugError as error:
            named = re.match(r"option (\w+)", str(error))
            option = named[1] if named else ""
            end = " " if str(error).endswith("?") else "; "
            raise PhotplugError(f"{error}{end}change {self._find(group, option, stage)}") from None

    def _find(self, group: str, option: str, stage: Stage) -> str:
        """Return the flag, or the place in the TOML file, of an option."""
        table = "" if group == "options" else f"[{group}] "
        if f"{group}.{option}" not in self.arguments:
            return f"{table}{option}".strip() + (f" in {self.config}" if self.config else "")
        prefix = "" if group in (*STAGES, *COMMAND_STAGES, "options") else group
        return _flag_of(option, dict(declarations(stage))[option], prefix)


def collect_stage(
    kind: type[S], arguments: Mapping[str, object], config: Path | None = None, plugins: PluginStages | None = None
) -> S:
    """Build one group of options, such as `InjectionOptions`, as :func:`collect_options` builds all of a run.

    Parameters
    ----------
    kind : type
        One of the classes in `COMMAND_STAGES`.
    arguments, config, plugins
        As for :func:`collect_options`.

    Returns
    -------
    Stage
        Of that class.

    Raises
    ------
    PhotplugError
        As :func:`collect_options`.
    """
    name = next(name for name, known in COMMAND_STAGES.items() if known is kind)
    values = _collect_values(arguments, config, plugins or {})[name]
    return _Given(arguments, config).change(name, kind(), values)


def _collect_values(arguments: Mapping[str, object], config: Path | None, plugins: PluginStages) -> Values:
    """Return the values of each group that flags or the TOML file give; those outside of its tables as ``options``."""
    groups = {**STAGES, **COMMAND_STAGES, **plugins}
    values: Values = {"options": {}, **{name: {} for name in groups}}
    values |= _read_config(config, groups) if config else {}
    for key, value in arguments.items():
        group, _, name = key.partition(".")
        if group in values and name:
            values[group][name] = value
    return values
