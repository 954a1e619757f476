"""From flags of the command line and a TOML file to options.

Flags, tables and keys are derived from the declarations in `dja_photplug.options.stages`.
"""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dja_photplug.errors import PhotplugError
from dja_photplug.options.stages import GROUPS, STAGES, Options, Stage

__all__ = ["add_flags", "collect_options", "collect_stage"]


def _flag(field: dataclasses.Field) -> str:
    return field.metadata["flag"] or "--" + field.name.replace("_", "-")


def _numbers(kind: type) -> Any:
    def parse(text: str) -> tuple[Any, ...]:
        return tuple(kind(item) for item in text.split(","))

    parse.__name__ = "comma-separated list"
    return parse


def _number_or_auto(kind: type) -> Any:
    def parse(text: str) -> Any:
        return None if text == "auto" else kind(text)

    parse.__name__ = f"{kind.__name__}, or auto"
    return parse


def _band_value(kind: type) -> Any:
    def parse(text: str) -> tuple[str, Any]:
        band, _, value = text.partition("=")
        if not (band and value):
            raise ValueError(text)
        return band, kind(value)

    parse.__name__ = "FILTER=value"
    return parse


def add_flags(
    parser: argparse.ArgumentParser, stages: Iterable[str], *, engine: bool = False, defaults: Options | None = None
) -> None:
    """Give `parser` the flags of the named stages (and ``--engine``), and ``--config``.

    A flag left out keeps the TOML file's value, or the default.
    """
    defaults = defaults or Options()
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="options from a TOML file; flags win")
    groups: list[tuple[str, Stage]] = [("options", defaults)] if engine else []
    groups += [(name, getattr(defaults, name) if name in STAGES else GROUPS[name]()) for name in stages]
    for name, stage in groups:
        group = parser.add_argument_group("engine" if stage is defaults else name)
        for field in dataclasses.fields(stage):
            if not field.metadata:
                continue
            default, dest = getattr(stage, field.name), f"{name}.{field.name}"
            group.add_argument(_flag(field), dest=dest, default=argparse.SUPPRESS, **_describe_flag(field, default))


def _describe_flag(field: dataclasses.Field, default: Any) -> dict[str, Any]:
    """Return the keywords of a flag that follow from its declaration."""
    meta, name = field.metadata, field.name.upper()
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    keywords: dict[str, Any] = {"type": meta["kind"], "metavar": name}
    if meta["by_band"]:
        keywords = {"type": _band_value(meta["kind"]), "metavar": f"FILTER={name}", "action": "append"}
        default = None
    elif meta["kind"] is bool:
        keywords = {"action": argparse.BooleanOptionalAction}
    elif meta["optional"] and meta["kind"] is not str:
        keywords |= {"type": _number_or_auto(meta["kind"]), "metavar": f"{name}|auto"}
    elif meta["many"]:  # argparse would compare a whole list with the choices
        keywords["type"], default = _numbers(meta["kind"]), ",".join(map(str, default))
    elif meta["choices"]:
        keywords |= {"choices": meta["choices"], "metavar": None}
    shown = "" if default is None else f" (default {default})"
    return keywords | {"help": (meta["help"] + unit + shown).replace("%", "%%")}


def _read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of each stage in a TOML file, and those outside of its tables as ``options``."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PhotplugError(f"{path}: cannot read the configuration ({error.strerror}); check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PhotplugError(f"{path}: not valid TOML ({error}); correct the file") from None
    tables = {key: value for key, value in content.items() if key in GROUPS and isinstance(value, dict)}
    groups = {"options": {key: value for key, value in content.items() if key not in tables}, **tables}
    for group, settings in groups.items():
        known = [field.name for field in dataclasses.fields(GROUPS.get(group, Options)) if field.metadata]
        unknown = [key for key in settings if key not in known]
        if unknown:
            what = f"[{group}] {unknown[0]}" if group in tables else unknown[0]
            known += [] if group in tables else [f"[{name}]" for name in GROUPS]
            raise PhotplugError(f"{path}: {what} is not an option; known: {', '.join(known)}")
    return groups


def collect_options(
    arguments: Mapping[str, Any], config: Path | None = None, defaults: Options | None = None
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

    Raises
    ------
    PhotplugError
        Where the file cannot be read, or a table, key or value is not one of the options; the message names it.
    """
    values = _collect_values(arguments, config)
    defaults = defaults or Options()
    stages = {name: dataclasses.replace(getattr(defaults, name), **values[name]) for name in STAGES}
    return dataclasses.replace(defaults, **values["options"], **stages)


def collect_stage(name: str, arguments: Mapping[str, Any], config: Path | None = None) -> Any:
    """Build one group of options, such as ``injection``, as :func:`collect_options` builds all of a run.

    Raises
    ------
    PhotplugError
        As :func:`collect_options`.
    """
    return GROUPS[name](**_collect_values(arguments, config)[name])


def _collect_values(arguments: Mapping[str, Any], config: Path | None) -> dict[str, dict[str, Any]]:
    """Return the values of each group that flags or the TOML file give; those outside of its tables as ``options``."""
    values: dict[str, dict[str, Any]] = {"options": {}, **{name: {} for name in GROUPS}}
    values |= _read_config(config) if config else {}
    for key, value in arguments.items():
        group, _, name = key.partition(".")
        if group in values and name:
            values[group][name] = value
    return values
