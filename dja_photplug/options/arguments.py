"""From flags of the command line and a TOML file to options.

Flags, tables and keys are derived from the declarations in `dja_photplug.options.stages`, and from those of plugins.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.options.commands import COMMAND_STAGES
from dja_photplug.options.declare import Declaration, Kind, declarations, flag_of, label_value
from dja_photplug.options.run import STAGES, Options
from dja_photplug.options.stages import Stage
from dja_photplug.readers.kinds import refuse_pipe

__all__ = [
    "LIST",
    "Layer",
    "PluginStages",
    "add_flags",
    "add_plugin_flags",
    "band_value",
    "collect_options",
    "collect_stage",
    "list_places",
    "read_layer",
    "read_toml",
]

LIST = "comma-separated list"
"""Name of what reads the value of a flag that takes several."""
S = TypeVar("S", bound=Stage)
PluginStages = Mapping[str, type[Stage]]
"""The options of plugins, by the names that these gave them in ``photplug_options``."""
Values = dict[str, dict[str, Any]]  # what TOML files and flags hold, before it is checked where options are made


def _numbers(kind: Kind) -> Callable[[str], tuple[object, ...]]:
    def parse(text: str) -> tuple[object, ...]:
        try:
            return tuple(kind(item) for item in text.split(","))
        except ValueError:
            told = f"{text!r} is no list of numbers with commas between them, such as 0.5,1"
            raise argparse.ArgumentTypeError(told) from None

    parse.__name__ = LIST
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
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="read options from a TOML file; flags override them"
    )
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
    # The group is a table of the TOML file; what it is about is how the text of its class begins.
    about = "" if title else re.split(r"\.(?:\s|$)|;| \(|\n\n", stage.__doc__ or "")[0]
    group = parser.add_argument_group(title or name, " ".join(about.replace("``", "").split()) or None)
    for option, meta in declarations(stage):
        dest, keywords = f"{name}.{option}", _describe_flag(option, meta, getattr(stage, option))
        group.add_argument(flag_of(option, meta, prefix), dest=dest, default=argparse.SUPPRESS, **keywords)  # type: ignore[arg-type]


def _describe_flag(name: str, meta: Declaration, default: object) -> dict[str, object]:
    """Return the keywords of a flag that follow from its declaration."""
    label, unit = label_value(name, meta), f" [{meta['unit']}]" if meta["unit"] else ""
    keywords: dict[str, Any] = {"type": meta["kind"], "metavar": label}
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
    if isinstance(default, bool):
        default = "yes" if default else "no"
    elif default is None and str(keywords.get("metavar")).endswith("|auto"):
        default = "auto"
    shown = "" if default is None else f" (default {default})"
    return keywords | {"help": (meta["help"] + unit + shown).replace("%", "%%")}


def read_toml(path: Path, what: str, check: str = "its name") -> dict[str, Any]:
    """Return the content of a TOML file.

    Parameters
    ----------
    path : Path
    what : str
        That it holds, for the message.
    check : str, optional
        What may be wrong where it is not there.

    Returns
    -------
    dict
        Keys and tables.

    Raises
    ------
    PhotplugError
        Where it cannot be read or is no TOML; the message has the line.
    """
    refuse_pipe(path)
    try:
        text = path.read_text(encoding="utf-8")
        if "\\u0000" in text or "\\U00000000" in text:
            raise PhotplugError(f"{path}: holds a null character; remove it")
        return tomllib.loads(text)
    except OSError as error:
        raise PhotplugError(f"{path}: cannot read {what} ({error.strerror}); check {check}") from None
    except ValueError as error:  # also of text that is no UTF-8, and of numbers with thousands of digits
        raise PhotplugError(f"{path}: not valid TOML ({error}); correct the file") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Options of one place in a TOML file, which win over others.

    Attributes
    ----------
    path : Path
        The file.
    prefix : str
        Of its tables, such as ``fields.uds.options``; none where the file holds nothing else.
    values : dict
        Value by option, of each group; those outside of groups as ``options``.
    """

    path: Path
    prefix: str = ""
    values: Values

    def name(self, group: str, option: str) -> str:
        """Return the place of an option, as one would find it in the file.

        Parameters
        ----------
        group, option : str

        Returns
        -------
        str
            Such as ``[detect] n_sigma``.
        """
        return _name_place(self.prefix, group, option)


def _name_place(prefix: str, group: str, option: str) -> str:
    table = ".".join(part for part in (prefix, "" if group == "options" else group) if part)
    return f"[{table}] {option}".strip() if table else option


def read_layer(
    path: Path, content: Mapping[str, Any], groups: PluginStages, prefix: str = "", folder: Path | None = None
) -> Layer:
    """Return the options that a table of a TOML file holds.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : mapping
        The table: a table for each group, and what is outside of groups.
    groups : mapping of str to type
        Those that there may be.
    prefix : str, optional
        Of its tables.
    folder : Path, optional
        That the names of files are relative to; the working directory by default.

    Returns
    -------
    Layer

    Raises
    ------
    PhotplugError
        For a table or key that is no option; the message names the nearest one.
    """
    tables = {key: value for key, value in content.items() if key in groups and isinstance(value, dict)}
    settings: Values = {"options": {key: value for key, value in content.items() if key not in tables}}
    settings |= {group: dict(table) for group, table in tables.items()}
    for group, values in settings.items():
        kind = groups.get(group, Options)
        known = [name for name, _ in declarations(kind)]
        unknown = [key for key in values if key not in known]
        if unknown:
            what = _name_place(prefix, group, unknown[0])
            known += [] if group in tables else [_name_place(prefix, name, "") for name in groups]
            meant = suggest(unknown[0], list_places(groups, prefix, group))
            raise PhotplugError(f"{path}: {what} is not an option; known: {', '.join(known)}{meant}")
        if folder is not None:
            values |= {
                name: _place_paths(values[name], folder)
                for name, meta in declarations(kind)
                if meta["path"] and name in values
            }
    return Layer(path=path, prefix=prefix, values=settings)


def _place_paths(value: object, folder: Path) -> object:
    """Return names of files, one or by band, that are relative to a folder; what is no text stays as it is."""
    if isinstance(value, dict):
        return {band: _place_paths(name, folder) for band, name in value.items()}
    return str(folder / Path(value).expanduser()) if isinstance(value, str) else value


def list_places(groups: PluginStages, prefix: str = "", group: str = "options") -> dict[str, str]:
    """Return the places of options in a TOML file by what people may write for them: key, table or flag.

    Parameters
    ----------
    groups : mapping of str to type
        Those that there may be.
    prefix : str, optional
        Of their tables.
    group : str, optional
        Whose options are meant first.

    Returns
    -------
    dict of str to str
        Such as ``[detect] n_sigma``, for the end of a message.
    """
    places: dict[str, str] = {}  # the last of a name is the one that is offered
    own = (group, groups.get(group, Options))
    tables: list[tuple[str, type[Stage]]] = [*reversed(list(groups.items())), ("options", Options), own]
    for name, kind in tables:
        options = [(_name_place(prefix, name, option), option, meta) for option, meta in declarations(kind)]
        places |= {flag_of(option, meta).lstrip("-"): place for place, option, meta in options}
        places |= {option: place for place, option, _ in options}
    if group not in groups:
        places |= {name: _name_place(prefix, name, "") for name in groups}
    return places


def collect_options(
    arguments: Mapping[str, object],
    config: Path | None = None,
    defaults: Options | None = None,
    plugins: PluginStages | None = None,
    layers: Sequence[Layer] = (),
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
    layers : sequence of Layer, optional
        Between the file and the flags; the last one wins.

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
    given = _Given.collect(arguments, config, plugins, layers)
    values, defaults = given.values, defaults or Options()
    stages = {name: given.change(name, getattr(defaults, name), values[name]) for name in STAGES}
    others = {
        name: given.change(name, defaults.plugins.get(name, kind()), values[name]) for name, kind in plugins.items()
    }
    return replace(given.change("options", defaults, values["options"]), **stages, plugins=others)


class _Given(NamedTuple):
    """What was given for options, and where."""

    arguments: Mapping[str, object]
    layers: Sequence[Layer]
    values: Values

    @classmethod
    def collect(
        cls,
        arguments: Mapping[str, object],
        config: Path | None,
        plugins: PluginStages,
        layers: Sequence[Layer] = (),
    ) -> _Given:
        """Return the values of each group that flags or TOML files give; those outside of groups as ``options``."""
        groups = {**STAGES, **COMMAND_STAGES, **plugins}
        if config is not None:
            layers = [read_layer(config, read_toml(config, "the configuration", "--config"), groups), *layers]
        values: Values = {name: {} for name in ("options", *groups)}
        for layer in layers:
            for group, some in layer.values.items():
                values[group] |= some
        for key, value in arguments.items():
            group, _, name = key.partition(".")
            if group in values and name:
                values[group][name] = value
        return cls(arguments, layers, values)

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
        """Return the flag, or the place in a TOML file, of an option."""
        if f"{group}.{option}" in self.arguments:
            prefix = "" if group in (*STAGES, *COMMAND_STAGES, "options") else group
            return flag_of(option, dict(declarations(stage))[option], prefix)
        holds = [layer for layer in self.layers if option in layer.values.get(group, {})] or self.layers
        return f"{holds[-1].name(group, option)} in {holds[-1].path}" if holds else _name_place("", group, option)


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
    given = _Given.collect(arguments, config, plugins or {})
    return given.change(name, kind(), given.values[name])
